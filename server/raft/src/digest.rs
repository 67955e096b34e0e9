//! What tells two states of a node apart, for whoever explores all of them.
//!
//! An explorer follows every interleaving of a cluster and stops where it has been before. For that to happen at all,
//! states have to be compared by what they can still lead to, and two things in a node rise for ever without deciding
//! anything: its clock and the numbers of its batches. [`Raft::forget_time`] takes them away.
//!
//! # Why a clock may be forgotten
//!
//! The paper's safety does not depend on timing (§5.6), and neither does this crate's without leases. Those rest on
//! clocks and have to be tried where there are some, so an explorer leaves them off, and its clusters are asynchronous.
//! Between two inputs of a node any number of ticks may pass, and each node has a clock of its own rate. Then all that
//! matters of a timer is that it may run out *now*, or not yet:
//!
//! - **The election timer** can always have run out, and can always still be running. The explorer chooses, by the
//!   number of ticks that it gives as one action of its own. What the timer decides beside campaigns is stickiness, to
//!   a leader or to an election that is under way, in the moment in which a vote is asked for or refused: there the
//!   explorer takes both branches, by ticks before the message.
//! - **The drawn timeout and the generator** decide only when the timer runs out. The longest timeout is one that may
//!   have been drawn, and it leaves room for stickiness to end before it.
//! - **The silence of the disk** decides whether a leader steps down, which check-quorum can do to it at any time, and
//!   keeps nodes from campaigning, which an election timer that has not run out does as well. The `TimeoutNow` that the
//!   leader leaves behind lets its receiver do what it may do anyway, campaign. So to the explorer all disks are slow,
//!   and none is stalled, and nothing is lost by it.
//! - **The time of a question** decides when it is asked again, which is as good as a second copy on the way.
//! - **Contact with followers** decides only whether check-quorum ends a leadership, an action like the election
//!   timeout. So do the end of a transfer and the time of the next heartbeat.
//!
//! A forgotten state is one in which everybody was heard of just now. Real clocks would let fewer things happen from
//! there, never more: a run of the explorer is one of a cluster whose clocks go as badly as clocks can.

use crate::raft::{Raft, State};
use crate::random::Random;
use core::hash::{Hash, Hasher};

impl Raft {
    /// Winds all timers back, draws the longest election timeout, and numbers the batches that are not durable yet
    /// from 1; how many batches' numbers fell away, to be taken off those that the driver keeps. For explorers: a node
    /// in service has no use for it.
    pub fn forget_time(&mut self) -> u64 {
        self.promised_until = if self.has_promised() { self.promise_ticks() } else { 0 };
        self.now = 0;
        self.election_elapsed_ticks = 0;
        self.election_timeout_ticks = self.options.election_timeout_ticks_max;
        self.random = Random::new(0);
        self.staging.forget_silence();
        if let State::Follower { asking, .. } = &mut self.state {
            asking.forget_time();
        }
        if let State::Leader(leadership) = &mut self.state {
            leadership.heartbeat_elapsed_ticks = 0;
            for peer in leadership.progress.values_mut() {
                peer.heard_at = 0;
            }
            if let Some(transfer) = &mut leadership.transfer {
                transfer.ends_at = u64::from(self.options.election_timeout_ticks_min);
            }
        }
        self.staging.renumber()
    }

    /// Hashes everything that decides what a node can do from here on, its options aside: they never change. Of use
    /// after [`Raft::forget_time`], because clocks and numbers are hashed as they stand.
    pub fn digest(&self, hasher: &mut impl Hasher) {
        // Named one by one, so that a new field cannot be forgotten.
        let Raft {
            options: _,
            configuration,
            current_term,
            voted_for,
            log,
            staging,
            state,
            verified,
            now,
            election_elapsed_ticks,
            pre_vote_term,
            election_timeout_ticks,
            gone: _, // Decides how long to wait and nothing else.
            questions,
            leases,
            promised_until,
            forgotten_term,
            random: _, // Draws election timeouts and nothing else.
            outbox,
        } = self;
        (configuration, current_term, voted_for, log, staging, state).hash(hasher);
        (forgotten_term, questions, leases, promised_until).hash(hasher);
        (verified, now, election_elapsed_ticks, pre_vote_term, election_timeout_ticks, outbox).hash(hasher);
    }
}
