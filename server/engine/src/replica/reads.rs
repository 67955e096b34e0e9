//! Reads of each consistency level, and when they are answered.

use bytes::Bytes;
use raft::{Index, ReadError, ReadId};

use super::Replica;
use super::answer::{Answer, ReadResult, Ticket};
use super::quorum_reads::Own;
use super::stale_reads::{StaleBounds, StaleReads};
use crate::kv::Revision;

impl Replica {
    /// Reads `key` linearizably for the client with `ticket`, whose request has arrived by `now_ms` of this node's
    /// monotonic clock. The answer comes through the outbox.
    pub fn read(&mut self, ticket: Ticket, key: Bytes, now_ms: u64) {
        self.observe_time(now_ms);
        if self.waiters.reads_are_full() {
            return self.refuse(ticket, Answer::Overloaded);
        }
        if self.holds_lease() {
            return self.read_under_lease(ticket, key);
        }
        let answer = match self.raft.read(self.waiters.next_read()) {
            Ok(()) => return self.waiters.wait_for_read(ticket, key),
            Err(ReadError::NoLeader) => self.not_leader(),
            Err(ReadError::TooManyReads) => Answer::Overloaded,
        };
        self.outbox.answers.push((ticket, answer));
    }

    /// Whether this node leads, and may answer reads without asking anyone, by the time that it was told last.
    pub fn holds_lease(&self) -> bool {
        self.store.settings().lease_reads && self.leases.hold(&self.raft)
    }

    /// SAFETY(thesis §6.4.1): nobody else can have been elected by now, and the read has begun. So all that anybody was
    /// told before it began is committed here.
    fn read_under_lease(&mut self, ticket: Ticket, key: Bytes) {
        self.leased_reads += 1;
        let index = self.raft.commit_index();
        if self.applied >= index {
            let result = ReadResult::of(self.raft.id(), &self.store, &key);
            self.outbox.answers.push((ticket, Answer::Read(result)));
        } else {
            self.waiters.wait_for_index(index, ticket, key);
        }
    }

    /// Reads `key` linearizably for the client with `ticket`, and asks no leader: see `raft::quorum_read`. The state
    /// that it is read from has at least `min_revision`. The answer comes through the outbox.
    pub fn quorum_read(&mut self, ticket: Ticket, key: Bytes, min_revision: Revision) {
        let Replica { quorum_reads, raft, store, outbox, .. } = self;
        quorum_reads.begin((ticket, key), min_revision, Own { raft, store }, &mut outbox.answers);
    }

    /// Reads `key` from this node's own state for the client with `ticket`, whose request arrived at `now_ms` of this
    /// node's monotonic clock or before. The answer comes through the outbox.
    pub fn stale_read(&mut self, ticket: Ticket, key: Bytes, bounds: StaleBounds, now_ms: u64) {
        self.observe_time(now_ms);
        let Replica { stale_reads, raft, store, outbox, .. } = self;
        stale_reads.begin((ticket, key), bounds, (raft, store), &mut outbox.answers);
    }

    /// What the core says of reads that it was asked to confirm.
    pub(super) fn note_reads(&mut self, confirmed: Vec<(ReadId, Index)>, aborted: Vec<ReadId>) {
        for (id, index) in confirmed {
            if StaleReads::made(id) {
                self.stale_reads.confirmed(id, index);
            } else {
                self.waiters.confirm_read(id, index);
            }
        }
        for id in aborted {
            if StaleReads::made(id) {
                self.stale_reads.aborted(id);
            } else {
                self.waiters.abort_read(id, &mut self.outbox.answers);
            }
        }
    }

    /// Answers the reads that the state is far enough for.
    pub(super) fn serve_reads(&mut self) {
        let Replica { waiters, quorum_reads, stale_reads, raft, store, outbox, .. } = self;
        waiters.serve_reads((raft.id(), store), self.applied, &mut outbox.answers);
        quorum_reads.serve(Own { raft, store }, &mut outbox.answers);
        stale_reads.serve((raft, store), self.applied, &mut outbox.answers);
    }
}
