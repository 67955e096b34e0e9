//! The exhaustive explorer: every interleaving of the real consensus core within small bounds.
//!
//! A simulator draws runs at random and goes deep; this goes everywhere, and not far. It takes a small cluster of real
//! [`raft::Raft`] nodes, lets everything happen that can happen next, and does the same with each state that comes of
//! it, until there is no state left that it has not seen. Within its [`Bounds`] it is a proof. It searches breadth
//! first, so the run that it tells when an invariant is broken has no shorter one.
//!
//! # What can happen
//!
//! - The oldest message of a link arrives, or a later one overtakes it, or one is lost, or one comes twice.
//! - The oldest pending batch of a disk becomes durable. Promises wait for it, as the contract with the driver says.
//! - A node crashes with any prefix of its pending batches on the disk, and starts again from there.
//! - An election timeout passes, check-quorum deposes a leader, a heartbeat falls due.
//! - A node takes a snapshot and cuts off its log; a node is handed another one's snapshot.
//! - A client proposes or reads at a leader; a leader is asked to hand over.
//! - A read without a leader takes witnesses of nodes, each at any moment.
//!
//! What is committed is applied at once, and the core is asked what to do after each input; that several inputs share
//! one `Ready` is left to the simulator.
//!
//! # Why it ends
//!
//! States are compared without what rises for ever and decides nothing: clocks and the numbers of batches. Why a clock
//! may be forgotten is said in `raft`'s `digest` module. In short, a cluster here is asynchronous: any number of ticks
//! may pass anywhere at any time. A node that still hears of its leader refuses to vote (stickiness), one that has
//! not for a while does not; so when a vote is asked for or refused, both are tried.
//!
//! # Why it is fast
//!
//! A step of a node depends on that node and on the input alone. There are a few thousand different nodes and steps
//! in millions of clusters, so every node and message has a number, every step is taken once by the real core and
//! then looked up, and a cluster is a few numbers. States are told apart by 128-bit hashes.
//!
//! # What is left out because it adds nothing
//!
//! - A step that changes nothing and sends nothing: whatever can follow it can follow without it. Where order binds,
//!   the arrival of a message is an exception: it makes way for the next.
//! - While nobody has been elected, nodes that nothing has happened to yet are interchangeable; the first acts.
//! - What a read without a leader need not do to go wrong; `quorum_read` says what that is.
//!
//! # What is checked
//!
//! [`Invariant`] lists it, by the paper's names. The core's own assertions count: a panic is a violation with its
//! story. What the nodes may forget in a crash is remembered beside the cluster: what was ever committed, who led each
//! term, and which vote of each node others have learnt of.

mod arena;
mod bounds;
mod cluster;
mod disk;
mod hash;
mod invariant;
mod node;
mod panics;
mod quorum_read;
mod search;
mod story;
mod suite;

pub use bounds::{Bounds, BoundsError};
pub use invariant::Invariant;
pub use search::{Found, Report, explore};
pub use suite::{Search, Suite};
