//! The library and the binary against nodes that do as they are told.

mod client;
mod command_line;
mod export;
mod fake;
