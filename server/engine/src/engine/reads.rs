//! The reads of each consistency level.

use bytes::Bytes;

use crate::kv::Revision;
use crate::replica::{StaleBounds, Ticket};

use super::Engine;

impl Engine {
    /// A client's linearizable read that has arrived by `now_ms` of this node's monotonic clock. Answered exactly once.
    pub fn read(&mut self, ticket: Ticket, key: Bytes, now_ms: u64) {
        self.replica.read(ticket, key, now_ms);
    }

    /// A client's read that needs no leader and is linearizable all the same. Answered once at most: when no majority
    /// answers, while a write to the key is undecided, and while no state has come to `min_revision`, it waits until it
    /// is cancelled.
    pub fn quorum_read(&mut self, ticket: Ticket, key: Bytes, min_revision: Revision) {
        self.replica.quorum_read(ticket, key, min_revision);
    }

    /// A client's read of this node's own state, as it is if that is within `bounds`, at `now_ms` of this node's
    /// monotonic clock. Answered exactly once, if need be with [`Answer::TooStale`](crate::Answer::TooStale).
    pub fn stale_read(&mut self, ticket: Ticket, key: Bytes, bounds: StaleBounds, now_ms: u64) {
        self.replica.stale_read(ticket, key, bounds, now_ms);
    }

    /// How many linearizable reads were answered under a lease, since the start.
    pub fn leased_reads(&self) -> u64 {
        self.replica.leased_reads()
    }
}
