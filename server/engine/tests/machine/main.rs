//! Replicas and engines as whole machines: one alone, and several in one process without threads, clocks or sockets.

mod cluster;
mod crash;
mod crash_at_length;
mod damage_spreads;
mod differential;
mod engines;
mod exactly_once;
#[path = "../faults/log.rs"]
mod fault_log;
mod fetching;
mod forgetting;
mod full_disk;
mod leases;
mod local_reads;
mod quorum_reads;
mod repair;
mod replicas;
mod short_of_room;
mod snapshots;
