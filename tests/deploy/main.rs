//! The deployment files against the server: what they start it with exists, and its ports, names, probes and metrics
//! are the server's own.

mod image;
mod kubernetes;
mod manifest;
mod observability;
