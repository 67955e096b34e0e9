//! The library and the binary against nodes that do as they are told.

mod client;
mod command_line;
mod exactly_once;
mod export;
mod fake;
mod reads;
