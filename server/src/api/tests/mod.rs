//! The services as clients see them, over a node and a forwarder that do as they are told.

mod fake;
mod page;
mod pipeline;
mod requests;
mod routing;
mod services;
mod stale;
mod wire;
