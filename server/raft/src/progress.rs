//! What the leader knows of one other member, and how fast it sends to it.
//!
//! ```text
//!                     accepted                    next entry is older than the tail
//!          ┌───────┐ ─────────────▶ ┌───────────┐ ─────────────────────▶ ┌───────┐
//!   start  │ Probe │                │ Replicate │                        │ Fetch │
//!     ────▶│       │ ◀───────────── │           │ ◀───────────────────── │       │
//!          └───────┘  rejected,     └───────────┘  the driver has read    └───────┘
//!              ▲      unreachable    ▲         │                           │    │
//!              └─────────────────────┼─────────┼───────────────────────────┼────┘
//!                                    │         │    rejected, unreachable  │
//!              accepted, beyond what │         │ next entry is cut off     │ failed, and is cut off meanwhile
//!              came next             │         ▼                           │
//!                                  ┌──────────────┐                        │
//!                                  │   Snapshot   │ ◀──────────────────────┘
//!                                  └──────────────┘
//! ```
//!
//! - **Probe**: it is not known where the logs match. One message is in flight; the next leaves when it is answered.
//! - **Replicate**: the logs match. Messages are sent ahead of their answers, up to a window.
//! - **Fetch**: as Replicate, but the driver first has to read what comes next.
//! - **Snapshot**: what comes next is neither in memory nor in the log any more (§7). The leader's snapshot is offered;
//!   what was sent ahead no longer matters, because the snapshot covers it.
//!
//! A probe never needs a snapshot: the term of every index is known, so it goes without entries where there are none,
//! and finds the place where the logs match all the same.
//!
//! Lost messages are recovered by *nudges*: whoever answers a heartbeat while it is behind gets an append without
//! entries. If it is accepted, everything before it has arrived; if not, the answer leads back to Probe. In Snapshot it
//! gets the offer again. So no window stays full for ever, and a node that is down costs no more than heartbeats.
//!
//! All transitions are here; the rest of the crate only says what happened.

use crate::log::Log;
use crate::types::Index;
use alloc::collections::VecDeque;

/// How entries are sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Flow {
    Probe {
        /// The one message is in flight.
        sent: bool,
    },
    Replicate,
    Fetch,
    /// The follower was offered a snapshot, which covers `next_index`.
    Snapshot,
}

impl Flow {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Flow::Probe { .. } => "probe",
            Flow::Replicate => "replicate",
            Flow::Fetch => "fetch",
            Flow::Snapshot => "snapshot",
        }
    }
}

/// The one read that the driver may be doing for this member. It outlives changes of [`Flow`], so that a member that
/// goes to and fro never costs more than one read at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Reading {
    Idle,
    /// Asked for the entries from here, not answered yet.
    Asked(Index),
    /// The last one failed; asked again at the next heartbeat, not at once, so that a bad disk is not hammered.
    Failed,
}

/// What has to be sent to a member now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// An append with as many entries from `next_index` as fit.
    Entries,
    /// An append without entries.
    Bare,
    /// The driver has to read entries from `next_index` first.
    Read,
    /// An offer of the newest snapshot: there are no entries from `next_index`.
    Offer,
}

/// A leader's account of one other member, new in every term.
#[derive(Clone, Hash, Debug)]
pub(crate) struct Progress {
    /// The last entry known to be the same, and durable, on both. Never falls.
    pub(crate) match_index: Index,
    /// The next entry to send; above `match_index`.
    pub(crate) next_index: Index,
    pub(crate) flow: Flow,
    /// The last entry of each message sent ahead in Replicate and Fetch, oldest first.
    in_flight: VecDeque<Index>,
    /// The commit index that this member will know if nothing gets lost.
    pub(crate) commit_told: Index,
    /// The tick in which it last answered anything.
    pub(crate) heard_at: u64,
    /// The latest round of ReadIndex that it confirmed.
    pub(crate) round_confirmed: u64,
    /// The last round of heartbeats in answer to which it promised to elect nobody; see `lease`.
    pub(crate) promised_round: u64,
    pub(crate) reading: Reading,
    /// A nudge is due.
    nudge: bool,
    /// None left since the last heartbeat. Rounds of ReadIndex are answered too, thousands of times a second.
    may_nudge: bool,
}

impl Progress {
    /// A new leader guesses that every log is as long as its own (§5.3). `now` counts as heard of: each member gets
    /// one election timeout to speak up.
    pub(crate) fn new(last_index: Index, now: u64) -> Progress {
        Progress {
            match_index: Index::ZERO,
            next_index: last_index.next(),
            flow: Flow::Probe { sent: false },
            in_flight: VecDeque::new(),
            commit_told: Index::ZERO,
            heard_at: now,
            round_confirmed: 0,
            promised_round: 0,
            reading: Reading::Idle,
            nudge: false,
            may_nudge: true,
        }
    }

    /// What has to be sent now, if anything.
    pub(crate) fn due(&self, log: &Log, in_flight_max: usize) -> Option<Due> {
        let in_tail = self.next_index >= log.first_in_tail();
        match self.flow {
            // What is not in memory is not read on a guess: an append without entries tests the guess as well.
            Flow::Probe { sent: false } => Some(if in_tail { Due::Entries } else { Due::Bare }),
            Flow::Probe { sent: true } => self.nudge.then_some(Due::Bare),
            Flow::Snapshot => self.nudge.then_some(Due::Offer),
            Flow::Fetch => self.due_from_disk(log),
            Flow::Replicate => {
                if self.next_index <= log.last_index() && self.in_flight.len() < in_flight_max {
                    return if in_tail { Some(Due::Entries) } else { self.due_from_disk(log) };
                }
                // With messages in flight, their answers will be the occasion to tell the commit index.
                let commit_index = log.commit_index().min(self.match_index);
                let untold = self.in_flight.is_empty() && self.commit_told < commit_index;
                (self.nudge || untold).then_some(Due::Bare)
            }
        }
    }

    /// What is due when the entry at `next_index` is not in memory.
    fn due_from_disk(&self, log: &Log) -> Option<Due> {
        match self.reading {
            // It may have been read before it was cut off.
            Reading::Asked(from) if from == self.next_index => None,
            _ if self.next_index < log.first_index() => Some(Due::Offer),
            Reading::Idle => Some(Due::Read),
            Reading::Asked(_) | Reading::Failed => None,
        }
    }

    /// The newest snapshot was offered.
    pub(crate) fn offered(&mut self) {
        self.flow = Flow::Snapshot;
        self.in_flight.clear();
        self.nudge = false;
    }

    /// An append left whose entries, if it had any, end at `last`; it told `commit_told`.
    pub(crate) fn sent(&mut self, last: Index, commit_told: Index) {
        self.nudge = false;
        self.commit_told = self.commit_told.max(commit_told);
        match self.flow {
            Flow::Probe { .. } => self.flow = Flow::Probe { sent: true },
            Flow::Snapshot => unreachable!("in this flow only offers are due"),
            Flow::Replicate | Flow::Fetch => {
                self.flow = Flow::Replicate;
                if last >= self.next_index {
                    self.in_flight.push_back(last);
                    self.next_index = last.next();
                }
            }
        }
    }

    /// The driver was asked for the entries from `next_index`.
    pub(crate) fn asked(&mut self) {
        assert_eq!(self.reading, Reading::Idle, "one read at a time");
        self.flow = Flow::Fetch;
        self.reading = Reading::Asked(self.next_index);
    }

    /// The driver answered a read from `from`; whether its entries are what is wanted now.
    pub(crate) fn read(&mut self, from: Index, usable: bool) -> bool {
        if self.reading != Reading::Asked(from) {
            return false;
        }
        self.reading = if usable { Reading::Idle } else { Reading::Failed };
        usable && matches!(self.flow, Flow::Replicate | Flow::Fetch) && self.next_index == from
    }

    /// The member accepted everything up to `match_index`, which this leader has; whether that is news. Answers come
    /// late, twice and out of order, so an older one changes nothing.
    pub(crate) fn accepted(&mut self, match_index: Index) -> bool {
        if match_index < self.match_index {
            return false;
        }
        let is_news = match_index > self.match_index;
        self.match_index = match_index;
        if self.flow == Flow::Snapshot && match_index >= self.next_index {
            self.flow = Flow::Replicate;
        }
        self.next_index = self.next_index.max(match_index.next());
        while self.in_flight.front().is_some_and(|&last| last <= match_index) {
            self.in_flight.pop_front();
        }
        if let Flow::Probe { .. } = self.flow {
            self.flow = Flow::Replicate;
            self.next_index = match_index.next();
        }
        if self.flow == Flow::Fetch && self.reading != Reading::Asked(self.next_index) {
            // The member turned out to have more than was sent: what to do next is decided anew.
            self.flow = Flow::Replicate;
        }
        is_news
    }

    /// The member rejected an append at `prev_index`; the logs may match at `guess`, before it. Whether the leader
    /// did not know that already.
    pub(crate) fn rejected(&mut self, prev_index: Index, guess: Index) -> bool {
        // SAFETY(raft §5.3): what the member accepted in this term it keeps, so this answer was overtaken by that one.
        if prev_index <= self.match_index {
            return false;
        }
        // What was sent ahead is lost or overtaken, and the snapshot covers it.
        if self.flow == Flow::Snapshot {
            return false;
        }
        // A probe answers for itself only: any other rejection is an old one.
        if matches!(self.flow, Flow::Probe { .. }) && prev_index.next() != self.next_index {
            return false;
        }
        self.become_probe(guess);
        true
    }

    /// A message to the member was lost.
    pub(crate) fn unreachable(&mut self) {
        if matches!(self.flow, Flow::Replicate | Flow::Fetch) {
            self.become_probe(self.match_index);
        }
    }

    /// The member answered a heartbeat: it is alive, so if it is behind, something may have been lost.
    pub(crate) fn heartbeat_answered(&mut self, last_index: Index) {
        let behind = match self.flow {
            Flow::Probe { sent } => sent,
            Flow::Replicate => self.match_index < last_index,
            Flow::Fetch => false,
            Flow::Snapshot => true,
        };
        if behind && self.may_nudge {
            self.nudge = true;
            self.may_nudge = false;
        }
    }

    /// The time for a heartbeat has come, and with it that for trying again what failed.
    pub(crate) fn heartbeat_tick(&mut self) {
        self.may_nudge = true;
        if self.reading == Reading::Failed {
            self.reading = Reading::Idle;
        }
    }

    fn become_probe(&mut self, guess: Index) {
        self.flow = Flow::Probe { sent: false };
        self.next_index = guess.max(self.match_index).next();
        self.in_flight.clear();
        self.nudge = false;
    }

    pub(crate) fn check_invariants(&self, log: &Log, in_flight_max: usize) {
        let Progress { match_index, next_index, .. } = *self;
        assert!(match_index < next_index, "next index {next_index} is not above match index {match_index}");
        assert!(match_index <= log.last_index(), "match index {match_index} is behind the log's end");
        assert!(next_index <= log.last_index().next(), "next index {next_index} is beyond the log's end");
        // The message with fetched entries leaves while the window has room, so the window is exact.
        assert!(self.in_flight.len() <= in_flight_max, "{} messages in flight", self.in_flight.len());
        assert!(self.in_flight.front().is_none_or(|&last| last > match_index), "an answered message is in flight");
        assert!(self.in_flight.back().is_none_or(|&last| last < next_index), "a message in flight was never sent");
        match self.flow {
            Flow::Probe { .. } => assert!(self.in_flight.is_empty(), "only one message probes"),
            Flow::Snapshot => {
                assert!(self.in_flight.is_empty(), "entries are in flight that nobody waits for");
                assert!(next_index <= log.snapshot_index(), "no snapshot covers {next_index}, which was cut off");
            }
            Flow::Replicate | Flow::Fetch => {
                let all_answered = next_index == match_index.next();
                assert_eq!(
                    self.in_flight.is_empty(),
                    all_answered,
                    "unanswered entries must be in flight, and no others"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Entry, Payload, Term};

    fn log_of(count: u64) -> Log {
        let mut log = Log::empty();
        for index in 1..=count {
            log.append(Entry { term: Term::new(1), index: Index::new(index), payload: Payload::Noop });
        }
        log
    }

    #[test]
    fn a_probe_becomes_replication_and_back() {
        let log = log_of(5);
        let mut progress = Progress::new(Index::new(4), 0);
        assert_eq!(progress.due(&log, 2), Some(Due::Entries));
        progress.sent(Index::new(5), Index::ZERO);
        assert_eq!((progress.due(&log, 2), progress.next_index), (None, Index::new(5)), "one message, on a guess");
        assert!(progress.rejected(Index::new(4), Index::new(2)));
        assert_eq!((progress.due(&log, 2), progress.next_index), (Some(Due::Entries), Index::new(3)));
        progress.sent(Index::new(5), Index::ZERO);
        assert!(progress.accepted(Index::new(3)));
        assert_eq!((progress.flow, progress.next_index), (Flow::Replicate, Index::new(4)));
        progress.sent(Index::new(5), Index::ZERO);
        assert_eq!((progress.due(&log, 2), progress.next_index), (None, Index::new(6)), "sent ahead");
        progress.unreachable();
        assert_eq!((progress.flow, progress.next_index), (Flow::Probe { sent: false }, Index::new(4)));
    }

    #[test]
    fn the_window_closes_and_opens() {
        let log = log_of(9);
        let mut progress = Progress::new(Index::ZERO, 0);
        progress.accepted(Index::ZERO);
        for last in [3, 6] {
            assert_eq!(progress.due(&log, 2), Some(Due::Entries));
            progress.sent(Index::new(last), Index::ZERO);
        }
        assert_eq!(progress.due(&log, 2), None);
        assert!(progress.accepted(Index::new(2)));
        assert_eq!(progress.due(&log, 2), None, "neither message is answered in full");
        assert!(progress.accepted(Index::new(3)));
        assert_eq!(progress.due(&log, 2), Some(Due::Entries));
        assert!(!progress.accepted(Index::new(1)), "an older answer");
        assert_eq!(progress.match_index, Index::new(3));
        progress.check_invariants(&log, 2);
    }

    #[test]
    fn an_idle_member_is_told_the_commit_index_once() {
        let mut log = log_of(3);
        let mut progress = Progress::new(Index::new(3), 0);
        progress.accepted(Index::new(3));
        assert_eq!(progress.due(&log, 2), None);
        log.commit_to(Index::new(3));
        assert_eq!(progress.due(&log, 2), Some(Due::Bare));
        progress.sent(Index::new(3), Index::new(3));
        assert_eq!(progress.due(&log, 2), None);
    }
    /// A log of which entries 1 to 6 are in a snapshot, cut off, and no longer in memory.
    fn cut_log() -> Log {
        let mut log = log_of(9);
        log.commit_to(Index::new(6));
        log.take_committed(usize::MAX);
        log.applied_to(Index::new(6));
        log.snapshot_taken(Index::new(6));
        log.compacted(Index::new(7));
        log.evict(Index::new(9), 0);
        assert_eq!(log.first_in_tail(), Index::new(7));
        log
    }

    #[test]
    fn what_is_cut_off_is_offered_until_something_behind_it_is_accepted() {
        let log = cut_log();
        let mut progress = Progress::new(Index::new(9), 0);
        progress.rejected(Index::new(9), Index::new(2));
        assert_eq!(progress.due(&log, 2), Some(Due::Bare), "a probe needs no entries");
        progress.sent(Index::new(2), Index::ZERO);
        progress.accepted(Index::new(2));
        assert_eq!(progress.due(&log, 2), Some(Due::Offer));
        progress.offered();
        assert_eq!((progress.due(&log, 2), progress.flow), (None, Flow::Snapshot));
        progress.heartbeat_answered(Index::new(9));
        assert_eq!(progress.due(&log, 2), Some(Due::Offer));
        progress.offered();
        progress.heartbeat_answered(Index::new(9));
        assert_eq!(progress.due(&log, 2), None, "not before the next heartbeat");
        assert!(!progress.rejected(Index::new(5), Index::new(1)), "an old rejection");
        progress.unreachable();
        progress.accepted(Index::new(2));
        assert_eq!((progress.flow, progress.next_index), (Flow::Snapshot, Index::new(3)));
        progress.check_invariants(&log, 2);
        assert!(progress.accepted(Index::new(6)));
        assert_eq!((progress.flow, progress.next_index), (Flow::Replicate, Index::new(7)));
        assert_eq!(progress.due(&log, 2), Some(Due::Entries));
        progress.check_invariants(&log, 2);
    }

    #[test]
    fn an_offer_covers_what_was_sent_ahead() {
        let mut progress = Progress::new(Index::new(1), 0);
        progress.accepted(Index::new(1));
        progress.sent(Index::new(3), Index::ZERO);
        let log = cut_log();
        assert_eq!(progress.due(&log, 1), None, "first the window has to open");
        assert_eq!(progress.due(&log, 2), Some(Due::Offer));
        progress.offered();
        progress.check_invariants(&log, 2);
        assert!(progress.accepted(Index::new(3)));
        assert_eq!(
            (progress.flow, progress.next_index),
            (Flow::Snapshot, Index::new(4)),
            "that was the message before"
        );
        progress.check_invariants(&log, 2);
        assert!(progress.accepted(Index::new(8)));
        assert_eq!(progress.flow, Flow::Replicate);
        progress.check_invariants(&log, 2);
    }

    #[test]
    fn a_read_that_was_asked_for_is_waited_for() {
        let log = cut_log();
        for usable in [true, false] {
            let mut progress = Progress::new(Index::new(2), 0);
            progress.accepted(Index::new(2));
            progress.asked();
            assert_eq!(progress.due(&log, 2), None);
            assert_eq!(progress.read(Index::new(3), usable), usable);
            assert_eq!(progress.due(&log, 2), Some(Due::Offer), "what comes next is cut off, and no read is worth it");
            progress.offered();
            assert!(!progress.read(Index::new(3), true), "a second answer is none");
        }
    }
}
