//! A Quorate node: the shell around the engine. Threads, timers, sockets and gRPC live here and nowhere below.
//!
//! From the inside out: [`node`] drives the engine, [`transport`] talks to the peers, [`api`] to clients and operators,
//! [`telemetry`] tells what happens, [`config`] says how to start, [`run`] puts the parts together, [`demo`] shows
//! a whole cluster at work, and [`offline`] looks into the data directory of a node that is not running.

pub mod api;
mod causes;
pub mod cli;
pub mod config;
mod data_directory;
pub mod demo;
pub mod forward;
mod grpc_timeout;
pub mod lifeline;
pub mod node;
mod number_hash;
pub mod offline;
pub mod run;
mod slow_disk;
pub mod story;
pub mod telemetry;
mod threads;
mod timed_disk;
pub mod transport;
