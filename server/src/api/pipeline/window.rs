//! What a stream has under way: which tags, until when, and how much room of the node's they hold.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use engine::{Consistency, kv};
use tonic::Status;

use crate::api::admission::Queue;
use crate::api::error::{ApiError, CallKind};
use crate::api::limits::{Arriving, GivenBack, InFlight, STREAM_REQUESTS_MAX, STREAM_UNITS_MAX};
use crate::api::operation::{self, Operation};
use crate::api::validate::Violation;
use crate::node::{Get, Mark, Pending};
use crate::number_hash::NumberHash;
use crate::telemetry::{Measured, RequestSpan};

/// A window with room for more requests than this is made small again when it is empty.
const SPARE_REQUESTS: usize = 256;

/// A request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// How much room it holds.
    pub(super) units: usize,
    /// The node's queue that it waits in, if it does.
    pub(super) queue: Option<Queue>,
    pub(super) identity: Identity,
    pub(super) measured: Measured,
    pub(super) deadline: Instant,
    pub(super) road: Road,
    pub(super) span: RequestSpan,
}

/// A request that is under way and its number, by which a late answer to an earlier one of the same tag is known.
#[derive(Debug)]
struct Numbered {
    sequence: u64,
    request: UnderWay,
}

/// What an error has to know of the request that it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) kind: CallKind,
    id: Option<kv::RequestId>,
    /// It asks a majority, and no leader.
    pub(super) is_leaderless: bool,
}

/// Who watches a request's deadline.
#[derive(Debug)]
pub(super) enum Road {
    /// The stream: it is at this place of a batch. A node that follows has another road ready for its reads.
    Batch { pending: Arc<Pending>, place: usize, detour: Option<Box<Detour>> },
    /// A task of its own, which answers in time.
    Task,
}

/// How a read goes on that has no answer from this node in time.
#[derive(Debug)]
pub(super) struct Detour {
    /// When it was begun here.
    pub(super) begun: Instant,
    /// When it is not waited for any more.
    pub(super) after: Instant,
    pub(super) get: Get,
}

/// The requests under way on one stream. Whatever room they hold is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Window {
    in_flight: Arc<InFlight>,
    units: usize,
    requests: HashMap<u64, Numbered, NumberHash>,
    sequence: u64,
    /// Nothing is due before this.
    next_due: Option<Instant>,
}

impl UnderWay {
    /// When it has to be looked after, if it has no answer by then.
    pub(super) fn due(&self) -> Instant {
        match &self.road {
            Road::Batch { detour: Some(detour), .. } => detour.after.min(self.deadline),
            Road::Batch { detour: None, .. } | Road::Task => self.deadline,
        }
    }
}

impl Identity {
    pub(super) fn of(operation: &Operation) -> Self {
        match operation {
            // As with calls: a question for an outcome is no write of its own.
            Operation::Write(kv::Request { id, command: kv::Command::Settle }) => {
                Self { kind: CallKind::Other, id: *id, is_leaderless: false }
            }
            Operation::Write(request) => Self { kind: CallKind::Write, id: request.id, is_leaderless: false },
            Operation::Read(get) => {
                let is_leaderless = matches!(get.consistency, Consistency::Quorum);
                Self { kind: CallKind::Other, id: None, is_leaderless }
            }
        }
    }

    /// Whether it only reads. A question for an outcome does not: it may settle it.
    pub(super) fn is_read(&self) -> bool {
        self.kind == CallKind::Other && self.id.is_none()
    }

    /// The status of an error that ends the request.
    pub(super) fn status(&self, error: &ApiError) -> Status {
        error.to_status_of(self.kind, self.id.as_ref().map(operation::request_id).as_ref())
    }
}

impl Window {
    pub(super) fn new(in_flight: Arc<InFlight>) -> Self {
        Self { in_flight, units: 0, requests: HashMap::default(), sequence: 0, next_due: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// How much room its requests hold.
    pub(super) fn units(&self) -> usize {
        self.units
    }

    /// How many more requests may be begun while `ready` answers wait to be sent.
    pub(super) fn room(&self, ready: usize) -> usize {
        if self.units >= STREAM_UNITS_MAX {
            return 0;
        }
        STREAM_REQUESTS_MAX.saturating_sub(self.requests.len() + ready)
    }

    /// Whether no request with this tag is under way.
    pub(super) fn check(&self, tag: u64) -> Result<(), Violation> {
        if self.requests.contains_key(&tag) { Err(Violation::TagReused { tag }) } else { Ok(()) }
    }

    /// Takes room for a request, which is given back when the request ends.
    pub(super) fn take(&mut self, arriving: &Arriving) -> Result<(), ApiError> {
        self.in_flight.take(arriving)?;
        if self.units == 0 {
            self.in_flight.stream_begins();
        }
        self.units += arriving.units;
        Ok(())
    }

    /// A request for which there is [room](Self::take) begins: how its answer is known.
    pub(super) fn begin(&mut self, tag: u64, request: UnderWay) -> Mark {
        self.sequence += 1;
        let (sequence, due) = (self.sequence, request.due());
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        self.requests.insert(tag, Numbered { sequence, request });
        Mark { tag, sequence }
    }

    /// The request of this mark, unless it has ended.
    pub(super) fn get_mut(&mut self, mark: Mark) -> Option<&mut UnderWay> {
        let numbered = self.requests.get_mut(&mark.tag).filter(|numbered| numbered.sequence == mark.sequence)?;
        Some(&mut numbered.request)
    }

    /// The request of this mark ends, unless it has: because it was run and `answered`, or for another reason. What it
    /// held is given back with the next [`settle`](Self::settle).
    pub(super) fn end(
        &mut self,
        mark: Mark,
        answered: Option<Instant>,
        given_back: &mut GivenBack,
    ) -> Option<UnderWay> {
        let Entry::Occupied(entry) = self.requests.entry(mark.tag) else { return None };
        if entry.get().sequence != mark.sequence {
            return None;
        }
        let request = entry.remove().request;
        given_back.add(1, request.units);
        if let (Some(queue), Road::Batch { pending, .. }) = (request.queue, &request.road) {
            given_back.leave(queue, request.units, answered.map(|now| now.saturating_duration_since(pending.made())));
        }
        Some(request)
    }

    /// Gives back what ended requests held.
    pub(super) fn settle(&mut self, given_back: GivenBack) {
        if !given_back.is_empty() {
            let units = given_back.units();
            self.units -= units;
            self.in_flight.give_back(given_back);
            if units > 0 && self.units == 0 {
                self.in_flight.stream_rests();
            }
        }
    }

    /// Whether there is a deadline to be watched, or room to be given up.
    pub(super) fn needs_sweeping(&self) -> bool {
        !self.requests.is_empty() || self.requests.capacity() > SPARE_REQUESTS
    }

    /// Gives up the room of requests that were under way.
    pub(super) fn shrink(&mut self) {
        self.requests.shrink_to_fit();
    }

    /// The request of this mark waits for this node no more, but goes another road. What the node may still say of it
    /// is not its answer: from here on it has another mark.
    pub(super) fn turn_off(&mut self, mark: Mark, given_back: &mut GivenBack) -> Option<(Mark, &mut UnderWay)> {
        let numbered = self.requests.get_mut(&mark.tag).filter(|numbered| numbered.sequence == mark.sequence)?;
        self.sequence += 1;
        numbered.sequence = self.sequence;
        let request = &mut numbered.request;
        request.road = Road::Task;
        if let Some(queue) = request.queue.take() {
            given_back.leave(queue, request.units, None);
        }
        Some((Mark { tag: mark.tag, sequence: self.sequence }, request))
    }

    /// The requests that are the stream's to look after now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Mark> {
        if self.next_due.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let (mut all, mut next) = (Vec::new(), None::<Instant>);
        for (&tag, Numbered { sequence, request }) in &self.requests {
            let due = request.due();
            match &request.road {
                Road::Batch { .. } if due <= now => all.push(Mark { tag, sequence: *sequence }),
                Road::Batch { .. } => next = Some(next.map_or(due, |next| next.min(due))),
                Road::Task => {}
            }
        }
        self.next_due = next;
        all
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut given_back = GivenBack::default();
        given_back.add(self.requests.len(), self.units);
        for Numbered { request, .. } in self.requests.values() {
            if let Some(queue) = request.queue {
                given_back.leave(queue, request.units, None);
            }
        }
        self.in_flight.give_back(given_back);
        if self.units > 0 {
            self.in_flight.stream_rests();
        }
    }
}
