//! Batches: many operations of one caller, whose answers are told together.

use engine::Answer;

use super::EventLoop;
use crate::node::batch::{Action, ActionResult, Batch, BatchedOperation};
use crate::node::journey::{Journey, read_kind, write_kind};
use crate::node::request::Get;
use crate::node::waiters::{BatchWaiter, Waiter};

impl EventLoop {
    /// Takes up what a batch holds.
    pub(super) fn take_batch(&mut self, batch: Batch) {
        let now_ms = self.now_ms();
        let (pending, operations) = batch.take();
        for (place, BatchedOperation { mark, action, deadline, trace }) in operations {
            let ticket = self.ticket();
            let kind = match &action {
                Action::Write(request) => {
                    self.parts.engine.write(ticket, request, now_ms);
                    write_kind(request)
                }
                Action::Read(get) => {
                    self.read(ticket, get.clone(), now_ms);
                    Some(read_kind(get.consistency))
                }
            };
            let journey = Journey::new(kind, (pending.made(), self.turn_began), trace);
            if let Action::Read(get) = &action {
                self.note_read(get.consistency, &journey);
            }
            let waiter = BatchWaiter { pending: pending.clone(), place, mark, action, deadline, journey };
            self.waiters.insert(ticket, Waiter::Batch(waiter));
        }
    }

    /// Answers an operation of a batch; its caller is woken at the end of the turn.
    pub(super) fn answer_batched(&mut self, waiter: BatchWaiter, answer: Answer) {
        let BatchWaiter { pending, mark, action, journey, .. } = waiter;
        self.end_journey(journey);
        let result = match (action, answer) {
            // A write that is in the log has another answer than these.
            (action, Answer::NotLeader { .. } | Answer::Transferring | Answer::ReadAborted) => {
                ActionResult::NotRun(action)
            }
            (action @ Action::Write(_), answer) => {
                ActionResult::Written { key: action.into_key(), result: self.write_result(answer) }
            }
            (Action::Read(Get { key, min_revision, .. }), answer) => {
                ActionResult::Read { key, result: self.read_result(answer, min_revision) }
            }
        };
        if pending.answer(mark, result) {
            self.to_wake.push(pending);
        }
    }

    /// Wakes the callers whose batches were answered in this turn.
    pub(super) fn wake_callers(&mut self) {
        for pending in self.to_wake.drain(..) {
            pending.wake();
        }
    }
}
