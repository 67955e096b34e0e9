//! Leader leases (thesis §6.4.1): what a follower promises, and what a leader may conclude from promises.
//!
//! A leader that knows that nobody else can have been elected may answer reads without asking anyone. It knows that for
//! a while if a majority has promised to elect nobody for a while. Leases are off unless the driver switches them on
//! with [`Raft::set_leases`], because they rest on clocks, on which nothing else here does.
//!
//! # The promise
//!
//! With leases on, a follower that answers a heartbeat promises to vote for nobody, itself included, for the shortest
//! election timeout from then on. Stickiness (§6) alone is no such promise: it ends when the follower is told of its
//! leader's end, when it leaves the term, and when it restarts. So the promise has a field of its own. It holds
//!
//! - whatever the node learns, as long as the process lives. Being told of the leader's end shortens the wait for an
//!   election only down to the end of the promise: that is what leases cost.
//! - after a restart: a node that [may have promised](crate::Restored::may_have_promised) begins as if it had just now.
//!
//! A tick that was due before the promise may come right behind it, so the promise is one tick longer.
//!
//! # The conclusion
//!
//! A heartbeat carries the number of its round, and its answer repeats it. What a majority has promised in answer to a
//! round holds until the shortest election timeout after that round *began*, at least: the answers were given later.
//! The leader itself is one of the majority, since it gives up its lease with its leadership. The core says which round
//! that is, [`Raft::promised_round`], and no more: when the round began, and how much time has passed since, only a
//! clock can tell, and the core's ticks are none. A process that stood still has missed some. So the driver measures,
//! from a reading of before the round began to one of after the read came, and it leaves room for clocks that are
//! faster or slower than others.
//!
//! Until that moment nobody else can have been elected, so whatever was acknowledged was committed by this leader. And
//! what it has committed it knows, once an entry of its own term is committed (§8).
//!
//! # The exception
//!
//! A transfer of leadership disturbs a leader that is alive, so votes for it break promises. They are asked for only by
//! whom `TimeoutNow` told to, and that message may be on its way for as long as it likes. So once it has left, there is
//! no lease for the rest of the term. Whoever campaigns by one of an earlier term does not get beyond the present one:
//! all whom the present leader's lease rests on are in its term, and follow it.

use crate::raft::{Raft, State};

impl Raft {
    /// Whether there are leases: answers to heartbeats are promises, and each heartbeat is a round of its own. Off at
    /// first. Whoever switches it on sees to it that a restart of this node finds out, before it has promised anything.
    pub fn set_leases(&mut self, on: bool) {
        self.leases = on;
    }

    /// How long a promise holds, in ticks.
    pub(crate) fn promise_ticks(&self) -> u64 {
        u64::from(self.options.election_timeout_ticks_min) + 1
    }

    /// Promises to vote for nobody, if there are leases; whether it did.
    pub(crate) fn promise(&mut self) -> bool {
        if self.leases {
            self.promised_until = self.now.saturating_add(self.promise_ticks());
        }
        self.leases
    }

    /// Whether it may vote for nobody, unless the leader itself asks for it.
    pub(crate) fn has_promised(&self) -> bool {
        self.now < self.promised_until
    }

    /// The last round of heartbeats that this node has begun in its term, if it leads; zero if none.
    pub fn heartbeat_round(&self) -> Option<u64> {
        match &self.state {
            State::Leader(leadership) => Some(leadership.reads.round()),
            State::Follower { .. } | State::PreCandidate { .. } | State::Candidate { .. } => None,
        }
    }

    /// The last round in answer to which a majority has promised to elect nobody for the shortest election timeout.
    /// None if there is none, if this node does not lead or does not know all that is committed, or if what it was
    /// promised may be broken because it has asked for an election itself.
    pub fn promised_round(&self) -> Option<u64> {
        let State::Leader(leadership) = &self.state else {
            return None;
        };
        // SAFETY(thesis §6.4.1): votes for a transfer are asked for, and given, in spite of promises.
        if leadership.timeout_now_left {
            return None;
        }
        if !self.knows_commits() {
            return None;
        }
        let own_round = leadership.reads.round();
        let round = leadership.majority_value(&self.configuration, own_round, |peer| peer.promised_round);
        (round > 0).then_some(round)
    }
}
