//! What the handle asks of the loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use engine::Consistency;
use engine::kv::{self, Revision};
use tokio::sync::oneshot;

use super::batch::Batch;
use super::handle::{ReadError, ReadResult, TransferError, WriteError, WriteResult};
use super::status::NodeStatus;
use crate::telemetry::TraceContext;

/// A request on its way to the loop.
pub(super) enum Request {
    /// Replicate a request.
    Write(Write),
    /// Read a key.
    Read(Read),
    /// Do several of the above.
    Batch(Batch),
    /// Say how the node is now.
    Status(oneshot::Sender<NodeStatus>),
    /// Hand over leadership.
    Transfer {
        /// To the member of this name; none: the one that is furthest.
        target: Option<String>,
        /// Whether the handover has begun.
        answer: oneshot::Sender<Result<(), TransferError>>,
    },
}

/// A write on its way to the loop.
pub(super) struct Write {
    pub(super) request: kv::Request,
    pub(super) claim: Arc<Claim>,
    pub(super) trace: Option<TraceContext>,
    /// When it was handed over.
    pub(super) asked: Instant,
    pub(super) answer: oneshot::Sender<Result<WriteResult, WriteError>>,
}

/// What is to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Get {
    /// The key.
    pub key: Bytes,
    /// How fresh the answer has to be.
    pub consistency: Consistency,
    /// The least revision of a state that it may be answered from.
    pub min_revision: Revision,
}

/// A read on its way to the loop.
pub(super) struct Read {
    pub(super) get: Get,
    pub(super) trace: Option<TraceContext>,
    /// When it was handed over.
    pub(super) asked: Instant,
    pub(super) answer: oneshot::Sender<Result<ReadResult, ReadError>>,
}

/// Settles between the caller and the loop whether a write was taken up, so that a caller whose deadline passes knows
/// for certain which of "never applied" and "may be applied" is true: exactly one of the two sides wins.
#[derive(Debug, Default)]
pub(super) struct Claim {
    state: AtomicU8,
    term: AtomicU64,
    index: AtomicU64,
}

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const ABANDONED: u8 = 2;

impl Claim {
    /// The loop takes the write up. False: the caller has given up, and the write must not be run.
    pub(super) fn take(&self) -> bool {
        self.decide(TAKEN)
    }

    /// The caller gives up. False: the loop was first, and the write may be applied.
    pub(super) fn abandon(&self) -> bool {
        self.decide(ABANDONED)
    }

    /// Notes where in the log the write was put.
    pub(super) fn set_position(&self, term: u64, index: u64) {
        self.term.store(term, Ordering::Relaxed);
        self.index.store(index, Ordering::Relaxed);
    }

    /// The write's term and index in the log; zeros if it never got there.
    pub(super) fn position(&self) -> (u64, u64) {
        (self.term.load(Ordering::Relaxed), self.index.load(Ordering::Relaxed))
    }

    fn decide(&self, state: u8) -> bool {
        self.state.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_won_by_one_side_only() {
        let taken = Claim::default();
        assert!(taken.take());
        assert!(!taken.abandon());
        let abandoned = Claim::default();
        assert!(abandoned.abandon());
        assert!(!abandoned.take());
    }
}
