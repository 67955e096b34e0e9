//! The deterministic simulator: a cluster of real engines (consensus core, write-ahead log, state machine) in one
//! thread, in virtual time, over disks and a network that fail in every way that they may.
//!
//! One seed is one run, byte for byte: time is a number, all randomness comes from the seed, and nothing depends on the
//! order of a hash map or on a thread. [`run`] runs one, [`run_all`] many.
//!
//! # A run
//!
//! A seed first draws what kind of run it is: the size of the cluster, whether it has a learner, how large windows,
//! tails and segments are, how good network and disks are, which kinds of faults there are and how often. Each kind is
//! on or off for a whole run, so that a run has something to say and is not a thin soup of everything.
//!
//! In the first phase faults happen: partitions of all shapes, lost, doubled, late and overtaking messages, power cuts
//! that lose any subset of what was not synced, killed and paused processes, disks that stall, fail, are full or rot,
//! clocks that are wrong. Snapshots are so frequent and pieces of them so small that logs are cut and followers fetch
//! snapshots all the time. Clients write and read meanwhile. After every step the invariants are checked, which look at
//! the cluster from outside. In the second phase a random majority of those who can still start is healed, the other
//! nodes stay down or cut off in some way, and the majority has to elect a leader, to serve, to become equal, and then
//! to keep its leader, all in bounded time. In the end the history of all clients has to be linearizable.
//!
//! Some clients name their writes and repeat them until they know what became of them: through crashes and partitions,
//! late copies, snapshots, and sessions that expire, of which in most runs little is kept. To the history a write is
//! one operation however often it was sent. Some keep counters, which have to be exact in the end. The rules of the
//! store and its sessions run beside, as plain maps, and whatever any replica applies is compared with them.
//!
//! # The fault model
//!
//! - Messages may be lost, doubled, delayed and reordered; they are not damaged or made up.
//! - What a disk has synced survives a crash; of what it was not asked to sync, or has not finished, any 512-byte
//!   sectors and any names do. A failed sync ends the process.
//! - Synced bytes of logs and snapshots may rot while a node is down: a bit flips, or a sector is lost, rolled back, or
//!   replaced by another. The node has to notice: it starts without what is damaged, says so and has it repaired by the
//!   others, or it does not start and stays down. Spared are the last commit, which nothing proves to have been synced,
//!   and so many voters that a majority is always sound. In a few runs all nodes rot; those need not go on, but must
//!   not be wrong.
//! - A disk may be full for a while, at its start too; then files do not grow, and what they have can be overwritten.
//!   No node stops for it; writes are refused, and clients know that they were.
//! - In a few runs one node's state is changed behind its back. It has to find out and stop, and nobody else.
//! - Snapshots and hashes of states travel on connections of their own, with the same faults as messages.
//! - Commits, preparations and reads end in any order; a read sees the log as it was at any time in between.
//! - A process may end or stand still between any two of its steps; it is never between two calls of one input.
//! - A node's clock may have any rate from half to double, and jump by up to an hour in both directions.
//! - A request of a client may be so late that its client has given it up, repeated it, settled it or opened another
//!   session since; it is not doubled.
//! - No node lies.

mod campaign;
mod client_answers;
mod client_events;
mod clients;
mod clock;
mod counter;
mod coverage;
mod drive;
mod forge;
mod gone;
mod history;
mod hunt;
mod hunt_tests;
mod invariants;
mod jobs;
mod leases;
mod liveness;
mod log_image;
mod nemesis;
mod network;
mod node;
mod partition;
mod plan;
mod queue;
mod random;
mod readers;
mod rot;
mod run;
mod sessions;
mod settings;
mod shrink;
mod snapshot_jobs;
mod trace;
mod trial;
mod violation;
mod words;
mod world;

pub use campaign::{Totals, run_all};
pub use hunt::{HuntOptions, hunt};
pub use run::{FAULTS_SECONDS, Outcome, RunOptions, overwrites_seed, plan_of, replay, run};
pub use shrink::shrink;
pub use trace::Line;
