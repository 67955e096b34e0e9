//! The loop that drives the engine: channels in, timers, the disk's threads, answers out.
//!
//! Everything above speaks to it through a [`NodeHandle`]; nothing above sees Raft.

mod batch;
mod bootstrap;
mod chronicle;
mod deeds;
mod disk_space;
mod disk_threads;
mod elections;
mod event_loop;
mod gauges;
mod handle;
mod inquiries;
mod journey;
mod measure;
mod request;
mod roster;
mod snapshot_thread;
mod start;
mod status;
mod timeline;
mod traces;
mod waiters;

pub use batch::{
    Action, ActionResult, Answered, Answers, BATCH_OPERATIONS_MAX, Batch, BatchedOperation, Mark, Pending,
};
pub use chronicle::{NodeEvent, NodeEventKind};
pub use event_loop::LoopError;
pub use handle::{
    NodeHandle, ReadError, ReadResult, RequestContext, TransferError, Unavailable, WriteError, WriteResult,
};
pub use request::Get;
pub use roster::Roster;
pub use start::{NodeError, Seat, Setup, identify, run, seat};
pub use status::{Leader, MemberStatus, NodeStatus, PeerStatus, Role, Work};
