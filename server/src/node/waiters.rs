//! The callers that wait for the loop's answers.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::handle::{ReadError, ReadResult, WriteError, WriteResult};
use super::request::Claim;
use crate::telemetry::{RequestSpan, TraceContext};

/// A caller that waits.
pub(super) enum Waiter {
    Write(WriteWaiter),
    Read(oneshot::Sender<Result<ReadResult, ReadError>>),
}

/// A caller that waits for a write.
pub(super) struct WriteWaiter {
    pub(super) answer: oneshot::Sender<Result<WriteResult, WriteError>>,
    pub(super) claim: Arc<Claim>,
    pub(super) trace: Option<TraceContext>,
    /// The span from the proposal to the application; it ends when the waiter is dropped.
    pub(super) proposal: RequestSpan,
}

impl WriteWaiter {
    pub(super) fn answer(self, result: Result<WriteResult, WriteError>) {
        drop(self.proposal);
        // A caller that has gone away wants no answer.
        let _ = self.answer.send(result);
    }
}

impl Waiter {
    /// Whether nobody waits any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Write(waiter) => waiter.answer.is_closed(),
            Self::Read(answer) => answer.is_closed(),
        }
    }
}
