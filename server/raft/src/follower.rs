//! Log replication (§5.3), the follower's side.

use crate::error::Refused;
use crate::log::Log;
use crate::message::{AppendResult, Body};
use crate::raft::{Raft, State};
use crate::ready::Event;
use crate::types::{Entry, Index, NodeId, Term};
use alloc::vec::Vec;

/// The fields of an AppendEntries message whose form was checked.
pub(crate) struct Append {
    pub(crate) prev_log_index: Index,
    pub(crate) prev_log_term: Term,
    pub(crate) entries: Vec<Entry>,
    pub(crate) leader_commit: Index,
}

impl Append {
    /// The last position this message speaks of.
    fn last_index(&self) -> Index {
        self.entries.last().map_or(self.prev_log_index, |entry| entry.index)
    }

    /// Whether it has another entry where `log` has a committed one. No leader's log does (Leader Completeness,
    /// §5.4), so the message is damaged or lies.
    fn contradicts_committed(&self, log: &Log) -> bool {
        let previous = (self.prev_log_index, self.prev_log_term);
        let positions = core::iter::once(previous).chain(self.entries.iter().map(|entry| (entry.index, entry.term)));
        positions.take_while(|&(index, _)| index <= log.commit_index()).any(|(index, term)| !log.matches(index, term))
    }

    /// The answer of a log without that previous entry, with the best place to try next (end of §5.3).
    fn rejection(&self, log: &Log) -> AppendResult {
        let before = self.prev_log_index.previous().unwrap_or(Index::ZERO);
        let (hint_index, hint_term) = log.backtrack(before, self.prev_log_term);
        AppendResult::Rejected { prev_log_index: self.prev_log_index, hint_index, hint_term }
    }
}

impl Raft {
    /// AppendEntries, receiver (Figure 2).
    pub(crate) fn handle_append_entries(&mut self, from: NodeId, term: Term, append: Append) -> Result<(), Refused> {
        self.check_leader(from, term)?;
        if term < self.current_term {
            // All that matters of this answer is its term, which ends the sender's leadership.
            let answer = Body::AppendEntriesResponse(append.rejection(&self.log));
            self.send(from, self.current_term, answer);
            return Ok(());
        }
        if append.contradicts_committed(&self.log) {
            return Err(Refused::ContradictsCommitted);
        }
        self.follow(from, term);
        if !self.log.matches(append.prev_log_index, append.prev_log_term) {
            let answer = Body::AppendEntriesResponse(append.rejection(&self.log));
            self.send(from, self.current_term, answer);
            return Ok(());
        }
        let (match_index, leader_commit) = (append.last_index(), append.leader_commit);
        self.accept(append.entries);
        self.verified = self.verified.max(match_index);
        // SAFETY(raft §5.3): what lies behind this message's last entry was not compared and may be obsolete.
        if self.log.commit_to(leader_commit.min(match_index)) {
            self.evict();
        }
        let answer = Body::AppendEntriesResponse(AppendResult::Accepted { match_index });
        self.send_after_persist(from, answer);
        Ok(())
    }

    /// Takes over what is new in these entries, which follow a position that matches.
    fn accept(&mut self, entries: Vec<Entry>) {
        // SAFETY(raft §5.3): only a real conflict cuts the log. The message may be an old one, shorter than what
        // arrived since.
        let known_count = entries.iter().take_while(|entry| self.log.matches(entry.index, entry.term)).count();
        let mut new_entries = entries.into_iter().skip(known_count).peekable();
        let Some(first_new) = new_entries.peek() else {
            return;
        };
        if first_new.index <= self.log.last_index() {
            let after = first_new.index.previous().expect("entries begin behind position zero");
            let bytes = self.log.truncate(after);
            self.staging.truncated(after, &self.log);
            self.verified = self.verified.min(after);
            self.tell(Event::Truncated { after, bytes });
        }
        for entry in new_entries {
            self.log.append(entry);
        }
    }

    /// A heartbeat (§5.2).
    pub(crate) fn handle_heartbeat(
        &mut self,
        from: NodeId,
        term: Term,
        commit_index: Index,
        round: u64,
    ) -> Result<(), Refused> {
        self.check_leader(from, term)?;
        let mut promised = false;
        if term >= self.current_term {
            if commit_index > self.log.last_index() {
                return Err(Refused::CommitBeyondLog);
            }
            self.follow(from, term);
            // SAFETY(raft §5.3): the same caution as above, with what this leader has shown so far.
            if self.log.commit_to(commit_index.min(self.verified)) {
                self.evict();
            }
            promised = self.promise();
        }
        self.send(from, self.current_term, Body::HeartbeatResponse { round, promised });
        Ok(())
    }

    /// Whether `from` can be the leader of `term` for all that this node knows.
    pub(crate) fn check_leader(&self, from: NodeId, term: Term) -> Result<(), Refused> {
        if !self.configuration.is_voter(from) {
            return Err(Refused::NotAVoter);
        }
        // SAFETY(raft §5.2): a term has one leader. A second is no news to act on, whoever is at fault.
        if term == self.current_term && self.leader().is_some_and(|leader| leader != from) {
            return Err(Refused::TwoLeaders);
        }
        Ok(())
    }

    /// Heard of the leader of `term`, which is not below the current one.
    pub(crate) fn follow(&mut self, leader: NodeId, term: Term) {
        let follows = matches!(self.state, State::Follower { leader: Some(known), .. } if known == leader);
        if term > self.current_term || !follows {
            self.become_follower(term, Some(leader));
        }
        self.put_election_off();
    }
}
