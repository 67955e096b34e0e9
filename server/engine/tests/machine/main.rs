//! Replicas and engines as whole machines: one alone, and several in one process without threads, clocks or sockets.

mod cluster;
mod crash;
mod crash_at_length;
mod differential;
mod engines;
#[path = "../faults/log.rs"]
mod fault_log;
mod replicas;
mod snapshots;
