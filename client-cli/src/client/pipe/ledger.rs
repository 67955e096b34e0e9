//! The requests of one stream: which wait to be sent, which are under way, and what came of them.
//!
//! It is plain data behind one lock, so that a frame of requests, or of answers, costs one turn of it however many are
//! in it. A request has a slot from when it is queued until its answer is fetched; the slot's index is part of its tag.

use crate::Leader;
use proto::kv::v1::{PipelinedRequest, PipelinedResponse, pipelined_request::Request, pipelined_response::Response};
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};
use tonic::Status;

/// How many requests of a stream may be under way: as many as a node allows. Beyond that it would stop reading, and
/// what is on the wire can no longer be taken back.
pub(super) const UNDER_WAY_MAX: usize = 4096;

/// How many bytes of values may be under way: enough for any network, and small beside what a node allows itself.
const UNDER_WAY_BYTES_MAX: usize = 16 << 20;

/// How many requests have a slot, those that wait to be sent included: with as many again as may be under way, the
/// stream never falls dry. Who comes when all are taken waits for one.
pub(super) const SLOTS_MAX: usize = 2 * UNDER_WAY_MAX;

/// How many requests a frame has at most. More would not make one any cheaper, and a node would be late to begin.
const FRAME_REQUESTS_MAX: usize = 256;

/// How many bytes of values and keys a frame of several has at most: far below the 4 MiB that a node takes.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// The bits of a tag that are the slot's index; the others count how often the slot was used, so that an answer that
/// comes twice meets nobody.
const INDEX_BITS: u32 = SLOTS_MAX.trailing_zeros();

/// The name of a request on its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

/// A request, as it is asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    /// W3C's `traceparent`, or nothing.
    pub(crate) traceparent: String,
    /// When the answer comes too late.
    pub(crate) deadline: Instant,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Done {
    /// It was answered, by a node that knows this leader.
    Answered(Option<Response>, Option<Arc<Leader>>),
    /// The stream ended first, or could not be opened.
    Lost {
        /// Why.
        status: Status,
        /// Whether the request may have left this process.
        left: bool,
    },
    /// The node knows no streams. The request was not sent.
    Unsupported,
}

/// Why a stream ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It broke, or could not be opened.
    Broken(Status),
    /// The node knows no streams.
    Unsupported,
}

impl End {
    /// What that means for a request that had not left.
    pub(super) fn of_unsent(&self) -> Done {
        match self {
            End::Broken(status) => Done::Lost { status: status.clone(), left: false },
            End::Unsupported => Done::Unsupported,
        }
    }

    /// What that means for a request that had left.
    fn of_sent(&self) -> Done {
        let status = match self {
            End::Broken(status) => status.clone(),
            End::Unsupported => Status::unavailable("the node knows no streams"),
        };
        Done::Lost { status, left: true }
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Free,
    Queued(Asked),
    Sent,
    /// Sent, and nobody waits for the answer any more. The tag is in use until it comes.
    Abandoned,
    Done(Done),
}

#[derive(Debug, Default)]
struct Slot {
    uses: u64,
    state: State,
    bytes: usize,
    waiter: Option<Waker>,
}

/// See the module. Bounded by [`SLOTS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Ledger {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// What waits to be sent. May name some that were taken back.
    queue: VecDeque<Tag>,
    under_way: usize,
    under_way_bytes: usize,
    open: bool,
    end: Option<End>,
    /// Whoever sends frames, while it rests.
    sender: Option<Waker>,
}

impl Ledger {
    /// Queues a request. The caller sees to it that no more than [`SLOTS_MAX`] have a slot. Also returns the sender, if
    /// it has to be woken.
    pub(super) fn ask(&mut self, asked: Asked) -> Result<(Tag, Option<Waker>), End> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.uses += 1;
        slot.bytes = bytes_of(&asked.request);
        slot.state = State::Queued(asked);
        let tag = Tag(slot.uses << INDEX_BITS | index as u64);
        if self.queue.len() >= 2 * SLOTS_MAX {
            // Only with a sender that rests for long while requests are taken back.
            let slots = &self.slots;
            self.queue.retain(|tag| is_queued(slots, *tag));
        }
        self.queue.push_back(tag);
        let sender = if self.may_send() { self.sender.take() } else { None };
        Ok((tag, sender))
    }

    /// The stream is open: what is queued may leave. Returns the sender, if it has to be woken.
    pub(super) fn opened(&mut self) -> Option<Waker> {
        self.open = true;
        if self.may_send() { self.sender.take() } else { None }
    }

    fn may_send(&self) -> bool {
        self.open && !self.queue.is_empty() && self.under_way < UNDER_WAY_MAX
    }

    /// Whether something may be sent, and there are other requests beside it. A lone one has nobody to wait for.
    pub(super) fn is_crowded(&self) -> bool {
        self.may_send() && (self.under_way > 0 || self.queue.len() > 1)
    }

    /// The sender has nothing to do until it is woken.
    pub(super) fn rest(&mut self, sender: &Waker) {
        match &mut self.sender {
            Some(known) => known.clone_from(sender),
            none => *none = Some(sender.clone()),
        }
    }

    /// All that is queued, within the bounds of a frame and of what may be under way. Nothing, if the sender may rest.
    pub(super) fn frame(&mut self, now: Instant) -> Vec<PipelinedRequest> {
        if !self.may_send() {
            return Vec::new();
        }
        let mut frame = Vec::with_capacity(self.queue.len().min(FRAME_REQUESTS_MAX));
        let mut frame_bytes = 0;
        while frame.len() < FRAME_REQUESTS_MAX && self.under_way < UNDER_WAY_MAX {
            let Some(tag) = self.queue.front().copied() else { break };
            let Some(slot) = find(&mut self.slots, tag).filter(|slot| slot.is_timely(now)) else {
                // It was taken back, or is about to be: whoever waits for it finds that its time is over.
                self.queue.pop_front();
                continue;
            };
            let too_long = !frame.is_empty() && frame_bytes + slot.bytes > FRAME_BYTES_MAX;
            let too_much = self.under_way > 0 && self.under_way_bytes + slot.bytes > UNDER_WAY_BYTES_MAX;
            if too_long || too_much {
                break;
            }
            let State::Queued(asked) = std::mem::replace(&mut slot.state, State::Sent) else {
                unreachable!("only a queued request is timely")
            };
            frame_bytes += slot.bytes;
            self.under_way += 1;
            self.under_way_bytes += slot.bytes;
            self.queue.pop_front();
            frame.push(asked.sent_as(tag, now));
        }
        frame
    }

    /// An answer came. Returns whoever has to be woken, and whether a slot became free. One that nobody asked for is
    /// dropped.
    pub(super) fn answer(&mut self, answer: PipelinedResponse, leader: Option<Arc<Leader>>) -> (Option<Waker>, bool) {
        let PipelinedResponse { tag, response } = answer;
        let tag = Tag(tag);
        let Some(slot) = find(&mut self.slots, tag) else { return (None, false) };
        let abandoned = match slot.state {
            State::Sent => false,
            State::Abandoned => true,
            State::Free | State::Queued(_) | State::Done(_) => return (None, false),
        };
        self.under_way -= 1;
        self.under_way_bytes -= slot.bytes;
        if abandoned {
            self.release(tag);
            return (None, true);
        }
        slot.state = State::Done(Done::Answered(response, leader));
        (slot.waiter.take(), false)
    }

    /// Answers came. Returns the sender if there is something to send and room for it now.
    pub(super) fn answered(&mut self) -> Option<Waker> {
        if self.may_send() { self.sender.take() } else { None }
    }

    /// What came of a request, which then has no slot any more.
    pub(super) fn fetch(&mut self, tag: Tag, context: &mut Context<'_>) -> Poll<Done> {
        let Some(slot) = find(&mut self.slots, tag) else { unreachable!("a waiter fetches its answer once") };
        match std::mem::take(&mut slot.state) {
            State::Done(done) => {
                self.release(tag);
                Poll::Ready(done)
            }
            state => {
                slot.state = state;
                match &mut slot.waiter {
                    Some(known) => known.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Nobody waits for a request any more. It is taken back if it has not left.
    pub(super) fn abandon(&mut self, tag: Tag) -> Abandoned {
        let Some(slot) = find(&mut self.slots, tag) else { return Abandoned::Fetched };
        slot.waiter = None;
        match std::mem::take(&mut slot.state) {
            State::Sent | State::Abandoned => {
                slot.state = State::Abandoned;
                Abandoned::UnderWay
            }
            State::Done(done) => {
                self.release(tag);
                Abandoned::Done(done)
            }
            State::Queued(_) | State::Free => {
                self.release(tag);
                Abandoned::TakenBack
            }
        }
    }

    /// The stream has ended. Returns everyone who has to be woken.
    pub(super) fn finish(&mut self, end: End) -> Vec<Waker> {
        let mut woken: Vec<Waker> = self.sender.take().into_iter().collect();
        self.queue.clear();
        for slot in &mut self.slots {
            slot.state = match std::mem::take(&mut slot.state) {
                State::Queued(_) => State::Done(end.of_unsent()),
                State::Sent => State::Done(end.of_sent()),
                // Nobody comes for an abandoned one; the ledger is of no further use.
                state @ (State::Free | State::Abandoned | State::Done(_)) => state,
            };
            woken.extend(slot.waiter.take());
        }
        self.end = Some(end);
        woken
    }

    /// Why the stream ended, if it has.
    pub(super) fn ended(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The slot of a tag that was just found is free.
    fn release(&mut self, tag: Tag) {
        let slot = &mut self.slots[tag.index()];
        slot.state = State::Free;
        slot.waiter = None;
        self.free.push(tag.index());
    }
}

/// What became of a request that nobody waits for any more.
#[derive(Debug)]
pub(super) enum Abandoned {
    /// It never leaves. Its slot is free.
    TakenBack,
    /// It may have left; its slot is free when its answer comes.
    UnderWay,
    /// It had been done. Its slot is free.
    Done(Done),
    /// What came of it had been fetched.
    Fetched,
}

impl Tag {
    fn index(self) -> usize {
        // The mask leaves no more than SLOTS_MAX.
        usize::try_from(self.0 & ((1 << INDEX_BITS) - 1)).unwrap_or(usize::MAX)
    }

    fn uses(self) -> u64 {
        self.0 >> INDEX_BITS
    }
}

/// The slot that is in use under this very tag.
fn find(slots: &mut [Slot], tag: Tag) -> Option<&mut Slot> {
    let slot = slots.get_mut(tag.index())?;
    (slot.uses == tag.uses() && !matches!(slot.state, State::Free)).then_some(slot)
}

fn is_queued(slots: &[Slot], tag: Tag) -> bool {
    slots.get(tag.index()).is_some_and(|slot| slot.uses == tag.uses() && matches!(slot.state, State::Queued(_)))
}

impl Slot {
    fn is_timely(&self, now: Instant) -> bool {
        matches!(&self.state, State::Queued(asked) if now < asked.deadline)
    }
}

impl Asked {
    fn sent_as(self, tag: Tag, now: Instant) -> PipelinedRequest {
        let Asked { request, traceparent, deadline } = self;
        // Rounded up: 0 would mean that there is no deadline.
        let timeout_ms = deadline.saturating_duration_since(now).as_micros().div_ceil(1000);
        let timeout_ms = u32::try_from(timeout_ms).unwrap_or(u32::MAX);
        PipelinedRequest { tag: tag.0, timeout_ms, traceparent, request: Some(request) }
    }
}

/// What a request weighs: its value, if it has one, and its key.
fn bytes_of(request: &Request) -> usize {
    match request {
        Request::Put(put) => put.key.len() + put.value.len(),
        Request::Get(get) => get.key.len(),
        Request::Delete(delete) => delete.key.len(),
        Request::GetOutcome(_) => 0,
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
