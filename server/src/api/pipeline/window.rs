//! What a stream has under way: which tags, until when, and how much room of the node's they hold.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use engine::kv;
use tonic::Status;

use crate::api::admission::Queue;
use crate::api::error::{ApiError, CallKind};
use crate::api::limits::{Arriving, GivenBack, InFlight, STREAM_REQUESTS_MAX, STREAM_UNITS_MAX};
use crate::api::operation::{self, Operation};
use crate::api::validate::Violation;
use crate::node::{Mark, Pending};
use crate::number_hash::NumberHash;
use crate::telemetry::RequestSpan;

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
}

/// Who watches a request's deadline.
#[derive(Debug)]
pub(super) enum Road {
    /// The stream: it is at this place of a batch.
    Batch { pending: Arc<Pending>, place: usize },
    /// A task of its own, which answers in time.
    Task,
}

/// The requests under way on one stream. Whatever room they hold is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Window {
    in_flight: Arc<InFlight>,
    units: usize,
    requests: HashMap<u64, Numbered, NumberHash>,
    sequence: u64,
    /// No deadline is before this.
    next_deadline: Option<Instant>,
}

impl Identity {
    pub(super) fn of(operation: &Operation) -> Self {
        match operation {
            // As with calls: a question for an outcome is no write of its own.
            Operation::Write(kv::Request { id, command: kv::Command::Settle }) => {
                Self { kind: CallKind::Other, id: *id }
            }
            Operation::Write(request) => Self { kind: CallKind::Write, id: request.id },
            Operation::Read(_) => Self { kind: CallKind::Other, id: None },
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
        Self { in_flight, units: 0, requests: HashMap::default(), sequence: 0, next_deadline: None }
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
        let (sequence, deadline) = (self.sequence, request.deadline);
        self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
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
        given_back.add(request.units);
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

    /// The request of this mark waits for this node no more, but goes another road.
    pub(super) fn turn_off(&mut self, mark: Mark, given_back: &mut GivenBack) -> Option<&mut UnderWay> {
        let request = self.get_mut(mark)?;
        request.road = Road::Task;
        if let Some(queue) = request.queue.take() {
            given_back.leave(queue, request.units, None);
        }
        Some(request)
    }

    /// The requests whose deadline has passed and is the stream's to watch.
    pub(super) fn late(&mut self, now: Instant) -> Vec<Mark> {
        if self.next_deadline.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let (mut late, mut next) = (Vec::new(), None::<Instant>);
        for (&tag, Numbered { sequence, request }) in &self.requests {
            match &request.road {
                Road::Batch { .. } if request.deadline <= now => late.push(Mark { tag, sequence: *sequence }),
                Road::Batch { .. } => next = Some(next.map_or(request.deadline, |next| next.min(request.deadline))),
                Road::Task => {}
            }
        }
        self.next_deadline = next;
        late
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut given_back = GivenBack::default();
        given_back.add(self.units);
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
