//! The protocol seen from outside: the core driven through its public interface only.
//!
//! `paper_*` has one test per rule of the paper, with the sentence; `pitfalls_*` has ways in which other
//! implementations went wrong; `partial_partitions` cuts some links and not others; `random_network` lets a cluster run
//! under faults and checks the paper's five properties after every step; `hostile` sends nonsense.

mod cluster;
mod disk;
mod hostile;
mod node;
mod paper_election;
mod paper_replication;
mod paper_safety;
mod partial_partitions;
mod pitfalls_disk;
mod pitfalls_election;
mod pitfalls_forgetting;
mod pitfalls_gone;
mod pitfalls_held;
mod pitfalls_install;
mod pitfalls_leases;
mod pitfalls_read_index;
mod pitfalls_reads;
mod pitfalls_replication;
mod pitfalls_resources;
mod pitfalls_snapshot;
mod quorum;
mod quorum_read;
mod random_network;
