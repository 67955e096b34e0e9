//! Reads of each consistency level: what they ask of the engine, and what its answers are to their callers.

use engine::kv::Revision;
use engine::replica::Ticket;
use engine::{Answer, Consistency, StaleBounds};

use super::EventLoop;
use crate::node::handle::{ReadError, ReadResult};
use crate::node::journey::{Journey, read_kind};
use crate::node::request::{Get, Read};
use crate::node::waiters::{ReadWaiter, Waiter};

impl EventLoop {
    pub(super) fn take_read(&mut self, Read { get, trace, asked, answer }: Read) {
        if answer.is_closed() {
            return;
        }
        let (ticket, now_ms) = (self.ticket(), self.now_ms());
        let journey = Journey::new(Some(read_kind(get.consistency)), (asked, self.turn_began), trace);
        self.note_read(get.consistency, &journey);
        let waiter = ReadWaiter { answer, journey, min_revision: get.min_revision };
        self.waiters.insert(ticket, Waiter::Read(waiter));
        self.read(ticket, get, now_ms);
    }

    /// A read is taken up: if it is sampled and the leader has to be asked for it, that is part of its trace.
    pub(super) fn note_read(&mut self, consistency: Consistency, journey: &Journey) {
        if let Some(read) = journey.context()
            && consistency == Consistency::Linearizable
            && !self.parts.engine.raft().is_leader()
        {
            self.inquiries.waits(read);
        }
    }

    /// Begins a read that has arrived by `now_ms`.
    pub(super) fn read(&mut self, ticket: Ticket, get: Get, now_ms: u64) {
        let (engine, Get { key, consistency, min_revision }) = (&mut self.parts.engine, get);
        match consistency {
            Consistency::Linearizable => engine.read(ticket, key, now_ms),
            Consistency::Quorum => engine.quorum_read(ticket, key, min_revision),
            Consistency::Stale { max_age_ms } => {
                engine.stale_read(ticket, key, StaleBounds { max_age_ms, min_revision }, now_ms);
            }
        }
    }

    /// What the answer to a read that asks for `min_revision` is to its caller.
    pub(super) fn read_result(&self, answer: Answer, min_revision: Revision) -> Result<ReadResult, ReadError> {
        match answer {
            Answer::Read(engine::ReadResult { kv, revision, replica, time_ms, age_ms }) => {
                let (revision, served_by) = (revision.get(), self.parts.roster.name(replica));
                ReadResult { kv, revision, served_by, time_ms, age_ms }.at_least(min_revision)
            }
            Answer::TooStale { age_ms, revision } => Err(ReadError::TooStale { age_ms, revision: revision.get() }),
            other => Err(self.unavailable(&other).into()),
        }
    }
}
