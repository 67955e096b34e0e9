//! The library and the binary against nodes that do as they are told.

mod bench;
mod client;
mod command_line;
mod doctor;
mod exactly_once;
mod export;
mod fake;
mod generated;
mod help;
mod outcome;
mod pipeline;
mod reads;
mod seen;
mod terminal;
