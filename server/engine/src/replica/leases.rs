//! How long a leader may rely on what a majority has promised it: see `raft::lease`.
//!
//! The core says which round of heartbeats a majority has promised in answer to. Here is when that round began, by this
//! node's own monotonic clock, and so until when the leader may answer reads without asking anyone. No clock is
//! compared with another. What is assumed is that none of them runs much faster or slower than the others, and that
//! none stands still while the world goes on.
//!
//! Both ends are measured so that a mistake can only make a lease shorter. A round counts from a reading that was made
//! before it began. And it is compared with a reading that was made after the read had come: so a process that stood
//! still, for however long and in whatever place, has counted that time, and a read that came before it stood still was
//! under way when the lease held.

use std::collections::VecDeque;

use raft::{Raft, Term};

/// The rounds of a leader.
#[derive(Debug)]
pub(super) struct Leases {
    /// How long a lease lasts, from when its round began.
    lease_ms: u64,
    /// What the clock showed last.
    now_ms: u64,
    /// The term that the rounds are of.
    term: Term,
    /// The last round of that term that was noted.
    noted: u64,
    /// Rounds, and what the clock had shown last before each began; at most one for each millisecond of a lease.
    rounds: VecDeque<(u64, u64)>,
}

impl Leases {
    pub(super) fn new(lease_ms: u64) -> Leases {
        Leases { lease_ms, now_ms: 0, term: Term::ZERO, noted: 0, rounds: VecDeque::new() }
    }

    /// The clock shows this. To be called before anything is done at that time.
    pub(super) fn observe_time(&mut self, raft: &Raft, now_ms: u64) {
        // What began since the last reading counts from that one.
        self.note_round(raft);
        if now_ms < self.now_ms {
            // A clock that goes back is broken, and what was measured by it means nothing.
            self.rounds.clear();
        }
        self.now_ms = now_ms;
        while self.rounds.pop_front_if(|(_, begun_ms)| now_ms - *begun_ms >= self.lease_ms).is_some() {}
    }

    fn note_round(&mut self, raft: &Raft) {
        let Some(round) = raft.heartbeat_round() else {
            return self.rounds.clear();
        };
        if raft.current_term() != self.term {
            (self.term, self.noted) = (raft.current_term(), 0);
            self.rounds.clear();
        }
        if round <= self.noted {
            return;
        }
        self.noted = round;
        // A round that shares its millisecond with another counts as that one, which began no later.
        if self.rounds.back().is_none_or(|(_, last_ms)| *last_ms < self.now_ms) {
            self.rounds.push_back((round, self.now_ms));
        }
    }

    /// Whether nobody but this node can have been elected until the time that was observed last, and it knows all that
    /// is committed.
    pub(super) fn hold(&self, raft: &Raft) -> bool {
        let Some(promised) = raft.promised_round() else {
            return false;
        };
        let begun = self.rounds.iter().rev().find(|(round, _)| *round <= promised);
        raft.current_term() == self.term && begun.is_some_and(|(_, begun_ms)| self.now_ms - begun_ms < self.lease_ms)
    }
}
