//! Log replication (§5.3, §5.4.2), the leader's side.

use crate::configuration::Configuration;
use crate::error::Refused;
use crate::log::{Log, count_within};
use crate::message::{AppendResult, Body, Message};
use crate::progress::{Due, Progress};
use crate::raft::{Raft, State};
use crate::reads::Reads;
use crate::ready::{Event, Fetch};
use crate::transfer::Transfer;
use crate::types::{Entry, Index, NodeId, Payload, Term};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// What a leader keeps while it leads; built anew in every term.
#[derive(Clone, Hash, Debug)]
pub(crate) struct Leadership {
    /// Every other member.
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    pub(crate) reads: Reads,
    pub(crate) transfer: Option<Transfer>,
    /// Whether someone was asked to campaign: there is no lease in this term any more.
    pub(crate) timeout_now_left: bool,
    pub(crate) heartbeat_elapsed_ticks: u32,
}

impl Leadership {
    pub(crate) fn new(others: BTreeSet<NodeId>, last_index: Index, now: u64) -> Leadership {
        let progress = others.into_iter().map(|id| (id, Progress::new(last_index, now))).collect();
        let reads = Reads::default();
        Leadership { progress, reads, transfer: None, timeout_now_left: false, heartbeat_elapsed_ticks: 0 }
    }

    /// The greatest value that a majority has, given the leader's own and a look at everyone else's.
    pub(crate) fn majority_value<T: Ord + Copy>(
        &self,
        configuration: &Configuration,
        own: T,
        value: impl Fn(&Progress) -> T,
    ) -> T {
        // A voter without progress is the leader itself: there is progress for every other member.
        configuration.majority_value(|id| self.progress.get(&id).map_or(own, &value))
    }
}

impl Raft {
    /// A tick of a leader: a look at its disk, check-quorum, heartbeats, and an end to transfers that take too long.
    pub(crate) fn tick_leader(&mut self) {
        if self.is_disk_stalled() && self.can_be_replaced() {
            self.give_way();
            return;
        }
        let State::Leader(leadership) = &mut self.state else {
            return;
        };
        let quorum_heard_at = leadership.majority_value(&self.configuration, self.now, |peer| peer.heard_at);
        if self.now - quorum_heard_at >= u64::from(self.options.election_timeout_ticks_max) {
            self.outbox.events.push(Event::QuorumLost { term: self.current_term });
            self.become_follower(self.current_term, None);
            return;
        }
        leadership.heartbeat_elapsed_ticks += 1;
        if leadership.heartbeat_elapsed_ticks >= self.options.heartbeat_ticks {
            leadership.heartbeat_elapsed_ticks = 0;
            if self.leases {
                leadership.reads.begin_round();
            }
            for peer in leadership.progress.values_mut() {
                peer.heartbeat_tick();
            }
            self.send_heartbeats();
            self.maybe_send_timeout_now();
        }
        self.maybe_abort_transfer();
    }

    /// A heartbeat to everyone.
    pub(crate) fn send_heartbeats(&mut self) {
        let State::Leader(leadership) = &mut self.state else {
            return;
        };
        let (from, term, round) = (self.options.id, self.current_term, leadership.reads.round());
        for (&to, peer) in &mut leadership.progress {
            // SAFETY(raft §5.3): beyond its match index the follower may hold entries that are not ours.
            let commit_index = self.log.commit_index().min(peer.match_index);
            peer.commit_told = peer.commit_told.max(commit_index);
            let body = Body::Heartbeat { commit_index, round };
            self.outbox.messages.push(Message { from, to, term, body });
        }
    }

    /// Appends an entry of the current term to the leader's own log.
    pub(crate) fn append_own(&mut self, payload: Payload) {
        let entry = Entry { term: self.current_term, index: self.log.last_index().next(), payload };
        self.log.append(entry);
    }

    /// Whether an AppendEntries, an offer or a fetch would leave now.
    pub(crate) fn is_append_due(&self) -> bool {
        let State::Leader(leadership) = &self.state else {
            return false;
        };
        let in_flight_max = self.options.inflight_messages_max;
        leadership.progress.values().any(|peer| peer.due(&self.log, in_flight_max).is_some())
    }

    /// Sends everyone what is due. Done late, when the driver asks what there is to do, so that all proposals made
    /// until then travel together.
    pub(crate) fn send_appends(&mut self) {
        let State::Leader(leadership) = &mut self.state else {
            return;
        };
        let (from, term) = (self.options.id, self.current_term);
        let bytes_max = self.options.append_bytes_max;
        for (&to, peer) in &mut leadership.progress {
            while let Some(due) = peer.due(&self.log, self.options.inflight_messages_max) {
                let body = match due {
                    Due::Entries => {
                        let entries = self.log.slice(peer.next_index, self.log.last_index(), bytes_max);
                        append_body(peer, entries, &self.log)
                    }
                    Due::Bare => append_body(peer, Vec::new(), &self.log),
                    Due::Read => {
                        peer.asked();
                        self.outbox.fetches.push(Fetch { peer: to, term, from: peer.next_index, bytes_max });
                        continue;
                    }
                    Due::Offer => offer_body(peer, &self.log),
                };
                self.outbox.messages.push(Message { from, to, term, body });
            }
        }
    }

    /// The driver has read entries that a follower needs, or failed to, which an empty list says. An answer that fits
    /// no more is ignored.
    pub fn fetched(&mut self, fetch: Fetch, mut entries: Vec<Entry>) {
        let before = self.observe();
        let State::Leader(leadership) = &mut self.state else {
            return;
        };
        let Some(peer) = leadership.progress.get_mut(&fetch.peer) else {
            return;
        };
        if fetch.term != self.current_term {
            return;
        }
        entries.truncate(count_within(entries.iter(), self.options.append_bytes_max));
        let mut index = fetch.from;
        let fits = |entry: &Entry| {
            let fits = entry.index == index && self.log.matches(index, entry.term);
            index = index.next();
            fits
        };
        let usable = !entries.is_empty() && entries.iter().all(fits);
        if peer.read(fetch.from, usable) {
            let body = append_body(peer, entries, &self.log);
            let message = Message { from: self.options.id, to: fetch.peer, term: self.current_term, body };
            self.outbox.messages.push(message);
        }
        self.verify(&before);
    }

    /// The transport lost a message to `peer`, so what was sent ahead may be gone. Unknown peers mean nothing.
    pub fn unreachable(&mut self, peer: NodeId) {
        let before = self.observe();
        if let State::Leader(leadership) = &mut self.state
            && let Some(progress) = leadership.progress.get_mut(&peer)
        {
            progress.unreachable();
        }
        self.verify(&before);
    }

    /// AppendEntries, the leader's side (Figure 2, "Rules for Servers: Leaders").
    pub(crate) fn handle_append_response(
        &mut self,
        from: NodeId,
        term: Term,
        result: AppendResult,
    ) -> Result<(), Refused> {
        if !self.accepts_answer(term)? {
            return Ok(());
        }
        check_against(result, self.log.last_index())?;
        let State::Leader(leadership) = &mut self.state else {
            return Err(Refused::UnexpectedKind);
        };
        let peer = leadership.progress.get_mut(&from).ok_or(Refused::UnknownSender)?;
        peer.heard_at = self.now;
        match result {
            AppendResult::Accepted { match_index } => {
                if peer.accepted(match_index) {
                    self.maybe_commit();
                    self.maybe_send_timeout_now();
                }
            }
            AppendResult::Rejected { prev_log_index, hint_index, hint_term } => {
                // The follower skipped what is too new for us; now skip what is too new for it (end of §5.3).
                let (guess, _) = self.log.backtrack(hint_index, hint_term);
                peer.rejected(prev_log_index, guess);
            }
        }
        Ok(())
    }

    /// Whether a leader may use an answer of this term. A later one makes it a follower instead (§5.1).
    pub(crate) fn accepts_answer(&mut self, term: Term) -> Result<bool, Refused> {
        if term > self.current_term {
            self.become_follower(term, None);
            return Ok(false);
        }
        // SAFETY(raft §5.3): an answer speaks of the log as it was in its term; later it may have been cut.
        if term < self.current_term {
            return Err(Refused::StaleTerm);
        }
        match self.is_leader() {
            true => Ok(true),
            // It may have led and stepped down within the term; then late answers are nothing unusual.
            false if self.has_campaigned() => Ok(false),
            false => Err(Refused::UnexpectedKind),
        }
    }

    /// Commits what a majority of voters holds durably, this node among them or not.
    pub(crate) fn maybe_commit(&mut self) {
        let State::Leader(leadership) = &self.state else {
            return;
        };
        let own_index = self.staging.durable_index();
        let index = leadership.majority_value(&self.configuration, own_index, |peer| peer.match_index);
        // SAFETY(raft §5.4.2): an entry of an earlier term on a majority can still be replaced (Figure 8). One of this
        // term cannot, and it commits everything before it.
        if !self.log.matches(index, self.current_term) {
            return;
        }
        if self.log.commit_to(index) {
            self.verified = self.verified.max(index);
            self.evict();
        }
    }
}

/// Whether a follower's answer speaks of entries that a leader whose log ends at `last_index` can have sent: in its
/// own term its log only grew.
fn check_against(result: AppendResult, last_index: Index) -> Result<(), Refused> {
    match result {
        AppendResult::Accepted { match_index } if match_index > last_index => Err(Refused::MatchBeyondLog),
        AppendResult::Rejected { prev_log_index, .. } if prev_log_index > last_index => Err(Refused::MatchBeyondLog),
        // The position before the first entry always matches, and the rejected one is no place to try again.
        AppendResult::Rejected { prev_log_index, hint_index, .. } if hint_index >= prev_log_index => {
            Err(Refused::MalformedResponse)
        }
        AppendResult::Accepted { .. } | AppendResult::Rejected { .. } => Ok(()),
    }
}

/// The message for `peer` with these entries, which begin at its next index; notes that it left.
fn append_body(peer: &mut Progress, entries: Vec<Entry>, log: &Log) -> Body {
    let prev_log_index = peer.next_index.previous().expect("the next index is above the match index");
    let prev_log_term = log.term_at(prev_log_index).expect("the next index is at most one behind the last");
    let leader_commit = log.commit_index();
    let last = entries.last().map_or(prev_log_index, |entry| entry.index);
    peer.sent(last, leader_commit.min(last));
    Body::AppendEntries { prev_log_index, prev_log_term, entries, leader_commit }
}

/// The offer of the newest snapshot to `peer`, whose next entry was cut off; notes that it left.
fn offer_body(peer: &mut Progress, log: &Log) -> Body {
    peer.offered();
    let last_included_index = log.snapshot_index();
    let last_included_term = log.term_at(last_included_index).expect("a snapshot covers no more than the log");
    Body::InstallSnapshot { last_included_index, last_included_term }
}
