//! Many operations that are handed to the loop as one message, and the one place where their answers come together.
//!
//! A call of its own has a channel for its answer, a timer and an allocation or two. An operation of a batch has none:
//! the caller keeps one [`Answers`] for all that it has under way, each operation carries a [`Mark`] that its answer
//! repeats, and the loop wakes the caller once for all that a turn has answered.
//!
//! The claim is the batch's: the caller says up to when deadlines have passed, the loop says that it takes the batch
//! up, and one atomic number settles which was first. What the caller gave up before is never run; of what it gives up
//! afterwards the outcome is unknown.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use engine::kv;
use tokio::sync::Notify;

use super::handle::{ReadError, ReadResult, Unavailable, WriteError, WriteResult};
use super::request::Get;
use crate::telemetry::TraceContext;

/// How many operations one batch holds at most: enough that its own cost vanishes among theirs, few enough that the
/// loop comes to the next caller's soon, and that the list of them is no allocation for which the allocator asks the
/// system.
pub const BATCH_OPERATIONS_MAX: usize = 128;

/// By what a caller knows an operation. Never given twice by a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The caller's name for it, which may be given again once it is answered.
    pub tag: u64,
    /// Tells it from earlier operations of the same tag, whose answers may come late.
    pub sequence: u64,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// As [`NodeHandle::write`](super::NodeHandle::write).
    Write(kv::Request),
    /// As [`NodeHandle::read`](super::NodeHandle::read).
    Read(Get),
}

/// An operation of a batch.
#[derive(Debug)]
pub struct BatchedOperation {
    /// What its answer repeats.
    pub mark: Mark,
    /// What is to be done.
    pub action: Action,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The trace that it belongs to, if it is sampled.
    pub trace: Option<TraceContext>,
}

/// The answer to an operation of a batch.
#[derive(Debug)]
pub struct Answered {
    /// The operation's.
    pub mark: Mark,
    /// What came of it.
    pub result: ActionResult,
}

/// What came of an operation.
#[derive(Debug)]
pub enum ActionResult {
    /// A write ended.
    Written {
        /// The key that it was about; empty if it was about none.
        key: Bytes,
        /// What it did.
        result: Result<WriteResult, WriteError>,
    },
    /// A read ended.
    Read {
        /// The key that was asked for.
        key: Bytes,
        /// What it found.
        result: Result<ReadResult, ReadError>,
    },
    /// This node does not lead, or is handing leadership over: it was certainly not run, and here it is again.
    NotRun(Action),
}

/// Where the answers to one caller's batches come together. When it is dropped, nothing that is under way for it is
/// answered any more, and what was not taken up is not run.
#[derive(Debug, Default)]
pub struct Answers {
    sink: Arc<Sink>,
}

#[derive(Debug, Default)]
struct Sink {
    /// As many as the caller has operations under way, at most.
    answers: Mutex<Vec<Answered>>,
    arrived: Notify,
    closed: AtomicBool,
}

/// A batch on its way to the loop. One that is dropped without being taken up is answered.
#[derive(Debug)]
pub struct Batch {
    operations: Vec<BatchedOperation>,
    pending: Arc<Pending>,
}

/// What the caller and the loop both hold of a batch.
#[derive(Debug)]
pub struct Pending {
    sink: Arc<Sink>,
    /// From when on [`claim`](Self::claim) counts.
    made: Instant,
    /// Operations whose deadline is before this are abandoned, in nanoseconds since [`made`](Self::made); [`TAKEN`]:
    /// the loop has taken the batch up.
    claim: AtomicU64,
    /// The term in which the writes were proposed; zero before.
    term: AtomicU64,
    /// Where in the log each was put; zero if it never got there.
    indexes: Box<[AtomicU64]>,
}

const TAKEN: u64 = u64::MAX;

impl Answers {
    /// Of a caller that has nothing under way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until an answer has come since this was last waited for. There may be none: it may have been taken.
    pub async fn arrived(&self) {
        self.sink.arrived.notified().await;
    }

    /// Gives up the room of answers that were taken.
    pub fn shrink(&self) {
        self.sink.lock().shrink_to_fit();
    }

    /// Puts all answers that have come into `answers`, which has to be empty and whose room is used for the next.
    pub fn take(&self, answers: &mut Vec<Answered>) {
        debug_assert!(answers.is_empty(), "what is in there would be taken for answers that are still to come");
        mem::swap(&mut *self.sink.lock(), answers);
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.sink.closed.store(true, Ordering::Release);
    }
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Vec<Answered>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// Of a batch of at most `operations` operations, whose answers go to `answers`.
    #[must_use]
    pub fn new(operations: usize, answers: &Answers) -> Self {
        Self {
            sink: Arc::clone(&answers.sink),
            made: Instant::now(),
            claim: AtomicU64::new(0),
            term: AtomicU64::new(0),
            indexes: (0..operations).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// When it was made: before the batch was handed to the loop.
    pub fn made(&self) -> Instant {
        self.made
    }

    /// The caller gives up all operations whose deadline is not after `now`. False: the loop was first and has taken
    /// the batch up, and the writes among them may be applied.
    pub fn abandon(&self, now: Instant) -> bool {
        let before = self.nanoseconds(now) + 1;
        let abandon = |claim: u64| (claim != TAKEN).then(|| claim.max(before));
        self.claim.fetch_update(Ordering::AcqRel, Ordering::Acquire, abandon).is_ok()
    }

    /// The term and index in the log of the write at `place` in the batch; zeros if it never got there.
    pub fn position(&self, place: usize) -> (u64, u64) {
        match self.indexes.get(place).map(|index| index.load(Ordering::Relaxed)) {
            None | Some(0) => (0, 0),
            Some(index) => (self.term.load(Ordering::Relaxed), index),
        }
    }

    /// Notes where in the log the write at `place` was put.
    pub fn set_position(&self, place: usize, term: u64, index: u64) {
        self.term.store(term, Ordering::Relaxed);
        if let Some(place) = self.indexes.get(place) {
            place.store(index, Ordering::Relaxed);
        }
    }

    /// Answers an operation. True: it is the first answer since the caller took all that there were, who has to be
    /// [woken](Self::wake).
    pub fn answer(&self, mark: Mark, result: ActionResult) -> bool {
        let mut answers = self.sink.lock();
        answers.push(Answered { mark, result });
        answers.len() == 1
    }

    /// Wakes the caller.
    pub fn wake(&self) {
        self.sink.arrived.notify_one();
    }

    /// Whether the caller has gone away.
    pub(crate) fn is_closed(&self) -> bool {
        self.sink.closed.load(Ordering::Acquire)
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        // Half of the range is 292 years.
        u64::try_from(at.saturating_duration_since(self.made).as_nanos()).unwrap_or(TAKEN).min(TAKEN / 2)
    }
}

impl Batch {
    /// The batch of `operations`, for which `pending` was made.
    ///
    /// # Panics
    ///
    /// If there are more than it was made for.
    #[must_use]
    pub fn new(operations: Vec<BatchedOperation>, pending: Arc<Pending>) -> Self {
        assert!(operations.len() <= pending.indexes.len(), "the batch is larger than was said");
        Self { operations, pending }
    }

    /// How many operations it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The operations, which were not run and are not answered either.
    #[must_use]
    pub fn into_operations(mut self) -> Vec<BatchedOperation> {
        mem::take(&mut self.operations)
    }

    /// The loop takes the batch up: the operations that are to be run, each with its place, and where they are
    /// answered. None of them if the caller has gone away; and none that it gave up.
    pub fn take(mut self) -> (Arc<Pending>, impl Iterator<Item = (usize, BatchedOperation)>) {
        let pending = Arc::clone(&self.pending);
        let abandoned_before = pending.claim.swap(TAKEN, Ordering::AcqRel);
        let mut operations = mem::take(&mut self.operations);
        if pending.is_closed() {
            operations.clear();
        }
        let claim = Arc::clone(&pending);
        let is_wanted = move |operation: &BatchedOperation| {
            abandoned_before == 0 || claim.nanoseconds(operation.deadline) >= abandoned_before
        };
        let wanted = operations.into_iter().enumerate().filter(move |(_, operation)| is_wanted(operation));
        (pending, wanted)
    }
}

impl Drop for Batch {
    /// The loop has ended: nothing of the batch was run, or ever will be.
    fn drop(&mut self) {
        if self.operations.is_empty() {
            return;
        }
        for BatchedOperation { mark, action, .. } in self.operations.drain(..) {
            self.pending.answer(mark, action.unavailable(Unavailable::Draining));
        }
        self.pending.wake();
    }
}

impl Action {
    /// The key that it is about; empty if it is about none.
    pub(crate) fn into_key(self) -> Bytes {
        match self {
            Self::Read(Get { key, .. }) => key,
            Self::Write(kv::Request { command, .. }) => match command {
                kv::Command::Put { key, .. } | kv::Command::Delete { key, .. } => key,
                kv::Command::Settle | kv::Command::Configure { .. } => Bytes::new(),
            },
        }
    }

    /// The result of one that was not run.
    pub(crate) fn unavailable(self, unavailable: Unavailable) -> ActionResult {
        match self {
            Self::Write(_) => ActionResult::Written { key: self.into_key(), result: Err(unavailable.into()) },
            Self::Read(Get { key, .. }) => ActionResult::Read { key, result: Err(unavailable.into()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Consistency;
    use std::time::Duration;

    fn operation(sequence: u64, deadline: Instant) -> BatchedOperation {
        let (key, consistency) = (Bytes::from_static(b"k"), Consistency::default());
        let action = Action::Read(Get { key, consistency, min_revision: kv::Revision::new(0) });
        BatchedOperation { mark: Mark { tag: 7, sequence }, action, deadline, trace: None }
    }

    fn batch(answers: &Answers, deadlines: &[Instant]) -> (Arc<Pending>, Batch) {
        let pending = Arc::new(Pending::new(deadlines.len(), answers));
        let operations = (0..).zip(deadlines).map(|(sequence, deadline)| operation(sequence, *deadline)).collect();
        (Arc::clone(&pending), Batch::new(operations, pending))
    }

    fn sequences(operations: impl Iterator<Item = (usize, BatchedOperation)>) -> Vec<u64> {
        operations.map(|(_, operation)| operation.mark.sequence).collect()
    }

    #[test]
    fn what_was_given_up_before_the_batch_was_taken_is_not_run_and_the_rest_is() {
        let (now, answers) = (Instant::now(), Answers::new());
        let at = |ms| now + Duration::from_millis(ms);
        let (pending, batch) = batch(&answers, &[at(100), at(200), at(300), now - Duration::from_millis(1)]);
        assert!(pending.abandon(at(200)));
        // An earlier time takes nothing back.
        assert!(pending.abandon(at(150)));
        assert_eq!(sequences(batch.take().1), [2]);
        assert!(!pending.abandon(at(400)), "it may have been run");
    }

    #[test]
    fn a_batch_of_which_nothing_was_given_up_is_run_whole() {
        let (now, answers) = (Instant::now(), Answers::new());
        // Whoever says that a deadline has passed is the caller; the loop does not look.
        let (pending, batch) = batch(&answers, &[now - Duration::from_secs(1), now]);
        assert_eq!(sequences(batch.take().1), [0, 1]);
        assert!(!pending.abandon(now));
    }

    #[test]
    fn nothing_is_run_for_a_caller_that_has_gone_away() {
        let answers = Answers::new();
        let (pending, batch) = batch(&answers, &[Instant::now() + Duration::from_secs(1)]);
        assert!(!pending.is_closed());
        drop(answers);
        assert!(pending.is_closed());
        assert!(sequences(batch.take().1).is_empty());
    }

    #[tokio::test]
    async fn a_batch_that_the_loop_never_takes_is_answered() {
        let answers = Answers::new();
        let (_, batch) = batch(&answers, &[Instant::now(); 2]);
        drop(batch);
        answers.arrived().await;
        let mut answered = Vec::new();
        answers.take(&mut answered);
        let sequences: Vec<_> = answered.iter().map(|answer| answer.mark.sequence).collect();
        assert_eq!(sequences, [0, 1]);
        assert!(matches!(
            &answered[0].result,
            ActionResult::Read { result: Err(ReadError::Unavailable(Unavailable::Draining)), .. }
        ));
    }

    #[test]
    fn a_position_is_known_once_it_was_noted() {
        let answers = Answers::new();
        let (pending, _batch) = batch(&answers, &[Instant::now(); 2]);
        pending.set_position(1, 3, 9);
        assert_eq!((pending.position(0), pending.position(1), pending.position(2)), ((0, 0), (3, 9), (0, 0)));
    }
}
