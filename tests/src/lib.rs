//! The harness of the black-box tests and of the benchmark: real `quorate-server` processes on loopback, driven through
//! gRPC and signals only, and the record of what their clients saw, which `lincheck` judges.
//!
//! Nothing here knows the server's code. A test waits for a condition with a generous bound ([`wait`]) and never sleeps
//! to synchronise; a harness call that cannot do its work panics with what it waited for, and a [`cluster::Cluster`]
//! that is dropped by a failing test prints the end of each node's log.

pub mod binaries;
pub mod browser;
pub mod clients;
pub mod cluster;
pub mod disk;
pub mod loopback;
pub mod metrics;
pub mod node;
pub mod raw;
pub mod recorder;
pub mod relay;
pub mod rpc;
pub mod slots;
pub mod wait;
