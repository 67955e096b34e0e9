//! Tests of snapshots through their public interface: what they keep, what damage does, what a crash may leave.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod crash;
mod damage;
#[path = "../faults/log.rs"]
mod fault_log;
mod faults;
mod forge;
mod golden;
mod harness;
mod measure;
mod round_trip;
