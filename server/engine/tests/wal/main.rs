//! Tests of the write-ahead log through its public interface: what it keeps, what a crash may take, what damage does.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod crash;
mod crash_cut;
mod cut;
mod cut_damage;
mod damage;
mod failure;
mod fault;
#[path = "../faults/log.rs"]
mod fault_log;
mod faults;
mod golden;
mod harness;
mod inspect;
mod machine;
mod real_disk;
mod round_trip;
mod spares;
mod specimen;
mod trial;
mod workbench;
