//! The callers that wait for the loop's answers.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use engine::kv::{self, Revision};
use tokio::sync::oneshot;

use super::batch::{Action, Mark, Pending};
use super::handle::{ReadError, ReadResult, Unavailable, WriteError, WriteResult};
use super::journey::Journey;
use super::request::Claim;

/// A caller that waits.
pub(super) enum Waiter {
    Write(WriteWaiter),
    Read(ReadWaiter),
    Batch(BatchWaiter),
}

/// A caller that waits for a read.
pub(super) struct ReadWaiter {
    pub(super) answer: oneshot::Sender<Result<ReadResult, ReadError>>,
    pub(super) journey: Journey,
    /// As with [`Get::min_revision`](super::request::Get::min_revision).
    pub(super) min_revision: Revision,
}

/// A caller that waits for a write.
pub(super) struct WriteWaiter {
    pub(super) answer: oneshot::Sender<Result<WriteResult, WriteError>>,
    pub(super) claim: Arc<Claim>,
    pub(super) journey: Journey,
}

/// A caller that waits for an operation of a batch.
pub(super) struct BatchWaiter {
    pub(super) pending: Arc<Pending>,
    pub(super) place: usize,
    pub(super) mark: Mark,
    /// To be handed back if it is not run; once it is proposed, without its value.
    pub(super) action: Action,
    /// When the caller stops waiting, whether it says so or not.
    pub(super) deadline: Instant,
    pub(super) journey: Journey,
}

impl BatchWaiter {
    /// Notes where in the log a write was put, and lets go of its value, which holds the frame that it came in.
    pub(super) fn proposed(&mut self, term: u64, index: u64) {
        self.pending.set_position(self.place, term, index);
        if let Action::Write(kv::Request { command: kv::Command::Put { value, .. }, .. }) = &mut self.action {
            *value = Bytes::new();
        }
    }
}

impl Waiter {
    /// Whether nobody waits any more at `now`.
    pub(super) fn is_abandoned(&self, now: Instant) -> bool {
        match self {
            Self::Write(waiter) => waiter.answer.is_closed(),
            Self::Read(waiter) => waiter.answer.is_closed(),
            Self::Batch(waiter) => waiter.deadline <= now || waiter.pending.is_closed(),
        }
    }

    /// What is remembered of its way.
    pub(super) fn journey_mut(&mut self) -> &mut Journey {
        match self {
            Self::Write(waiter) => &mut waiter.journey,
            Self::Read(waiter) => &mut waiter.journey,
            Self::Batch(waiter) => &mut waiter.journey,
        }
    }

    /// What is remembered of its way, when that is over.
    pub(super) fn into_journey(self) -> Journey {
        match self {
            Self::Write(waiter) => waiter.journey,
            Self::Read(waiter) => waiter.journey,
            Self::Batch(waiter) => waiter.journey,
        }
    }

    /// The node stops before there is an answer.
    pub(super) fn stop(self) {
        // Dropping the others tells their callers.
        if let Self::Batch(BatchWaiter { pending, mark, action, .. }) = self {
            let mut result = action.unavailable(Unavailable::Draining);
            if let super::batch::ActionResult::Written { result, .. } = &mut result {
                *result = Err(WriteError::Stopped);
            }
            if pending.answer(mark, result) {
                pending.wake();
            }
        }
    }
}
