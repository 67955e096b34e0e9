//! Replicas and engines as whole machines: one alone, and several in one process without threads, clocks or sockets.

mod cluster;
mod crash;
mod differential;
mod engines;
mod replicas;
mod snapshots;
