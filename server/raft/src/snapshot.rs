//! Snapshots in place of the log's beginning (§7), and what was forgotten with a part of the log.
//!
//! The core never sees a snapshot. It knows how far its own newest one reaches, offers that to followers which need
//! entries from before the log's beginning, and tells its driver when it gets such an offer. The driver fetches the
//! file, from any peer, and comes back with [`Raft::install`].
//!
//! # Why a snapshot may come from anyone at any time
//!
//! It holds committed entries only, with the terms of all of them. So up to its last index s there is one log in the
//! whole cluster, for good (State Machine Safety, §5.4.3). If this node's log has the entry at s, it has all of them,
//! and goes on as it is. If not, no entry at or behind s in this log was ever committed, nor can be: the entry at s
//! would be as well. What this node acknowledged of them does no harm either. A leader that counts on it has another
//! entry at s than the committed one, so a later leader was elected, without that entry. The majority that elected it
//! acknowledges nothing to the old one any more; and had a majority acknowledged the entry before, the later leader
//! would have it.
//!
//! Only a leader keeps its log whatever it is handed (Leader Append-Only, §5.3). It has what the snapshot covers, or it
//! was deposed and does not know yet.
//!
//! # What was forgotten
//!
//! A node that lost a part of its log to damage has lost votes and acknowledgements with it, of terms up to some t.
//! It goes on under its name, but
//!
//! - in a term behind t, so that no leader counts what it acknowledged in the terms before, and it gives no second vote
//!   in any of them;
//! - without voting and campaigning, until an entry of a term behind t is committed and on its disk.
//!
//! That entry's leader was elected without this node's vote, so everything that was committed in terms up to t is in
//! its log before that entry, also what counted this node's acknowledgement: the majority behind that and the one
//! behind the leader share another node. So then this node has it all, and votes as one that never forgot anything.

use crate::error::Refused;
use crate::message::{AppendResult, Body, Message};
use crate::raft::{Raft, TERMS_AHEAD_MAX};
use crate::ready::{Event, SnapshotOffer};
use crate::status::Role;
use crate::terms::TermTable;
use crate::types::{Index, NodeId, Term};

/// Beyond this no log ends. A snapshot that claims to is damaged, and must not use up the indexes.
const LAST_INDEX_MAX: Index = Index::new(1 << 62);

impl Raft {
    /// The driver has a durable snapshot of everything up to `index`. The newest is what followers are offered; an
    /// older one means nothing.
    ///
    /// # Panics
    /// If that index is not applied.
    pub fn snapshot_taken(&mut self, index: Index) {
        let before = self.observe();
        self.log.snapshot_taken(index);
        self.verify(&before);
    }

    /// The last entry that the driver may cut off its log now; zero for none. It is in the newest snapshot, and
    /// durable, and no batch under way takes it back: a truncation must not lie before the beginning of the log. While
    /// the log on the disk waits to be forgotten, nothing is cut off: what would be left of it need not follow the
    /// snapshot.
    pub fn cuttable_index(&self) -> Index {
        self.log.snapshot_index().min(self.staging.settled_index())
    }

    /// The driver can read entries from `first_index` on only: it has cut off those before it, or is about to. Lower
    /// indexes than before mean nothing.
    ///
    /// # Panics
    /// If it is beyond [`Raft::cuttable_index`].
    pub fn compacted(&mut self, first_index: Index) {
        let before = self.observe();
        // SAFETY(raft §7): what was cut off is in a snapshot, or it would be lost to whoever still needs it.
        let cuttable = self.cuttable_index();
        let is_news = first_index > self.log.first_index();
        assert!(!is_news || first_index <= cuttable.next(), "cut off before {first_index}, but only {cuttable} may be");
        self.log.compacted(first_index);
        self.verify(&before);
    }

    /// The first entry that the driver can read back.
    pub fn first_index(&self) -> Index {
        self.log.first_index()
    }

    /// The driver got a peer's snapshot, whole and durable, of everything up to `last_index`; `term_starts` is the
    /// first index of each run of entries of one term up to there, from index 1 on. Whether this node takes it over: if
    /// so, the log goes on behind it, and before anything else is applied the driver replaces its state by the
    /// snapshot's. If not, this node is as far already, or will be without it, or the snapshot cannot be one of this
    /// cluster.
    pub fn install(&mut self, last_index: Index, term_starts: &[(Index, Term)]) -> bool {
        let before = self.observe();
        let is_installed = TermTable::new(term_starts, last_index).is_ok_and(|table| self.install_table(table));
        self.maybe_recover();
        self.verify(&before);
        is_installed
    }

    fn install_table(&mut self, table: TermTable) -> bool {
        let (last_index, last_term) = (table.last_index(), table.last_term());
        if last_index <= self.log.commit_index() || last_index > LAST_INDEX_MAX {
            return false;
        }
        let terms_ahead = last_term.get().saturating_sub(self.current_term.get());
        if terms_ahead > TERMS_AHEAD_MAX || last_term.next().is_none() || !self.log.agrees_on_committed(&table) {
            return false;
        }
        if last_term > self.current_term {
            self.become_follower(last_term, None);
        }
        // SAFETY(raft §5.3): a leader's log only grows. What is committed in it a leader finds out by itself.
        if self.is_leader() {
            return false;
        }
        if self.log.matches(last_index, last_term) {
            self.verified = self.verified.max(last_index);
            if self.log.commit_to(last_index) {
                self.evict();
            }
            return false;
        }
        if self.role() != Role::Follower {
            // It asks for votes with a log that it no longer has.
            self.become_follower(self.current_term, None);
        }
        self.log.install(table);
        self.staging.reset(last_index);
        self.verified = last_index;
        // Acknowledgements that have not left speak of the log that is gone.
        let is_acceptance =
            |message: &Message| matches!(message.body, Body::AppendEntriesResponse(AppendResult::Accepted { .. }));
        self.outbox.messages_after_persist.retain(|message| !is_acceptance(message));
        self.tell(Event::Installed { index: last_index });
        true
    }

    /// InstallSnapshot, receiver (Figure 13), but for the bytes.
    pub(crate) fn handle_install_snapshot(
        &mut self,
        from: NodeId,
        term: Term,
        last_index: Index,
        last_term: Term,
    ) -> Result<(), Refused> {
        self.check_leader(from, term)?;
        if term < self.current_term {
            // As with AppendEntries, only the term matters.
            let before = last_index.previous().unwrap_or(Index::ZERO);
            let (hint_index, hint_term) = self.log.backtrack(before, last_term);
            let result = AppendResult::Rejected { prev_log_index: last_index, hint_index, hint_term };
            self.send(from, self.current_term, Body::AppendEntriesResponse(result));
            return Ok(());
        }
        let is_held = self.log.matches(last_index, last_term);
        // SAFETY(raft §7): a snapshot is of committed entries, and of those there is one at each index.
        if !is_held && last_index <= self.log.commit_index() {
            return Err(Refused::ContradictsCommitted);
        }
        self.follow(from, term);
        if !is_held {
            self.outbox.snapshot_offers.push(SnapshotOffer { from, index: last_index });
            // What this node has it has for good. If the leader's log begins right behind that by now, because an
            // earlier snapshot arrived meanwhile, there is no need of this one.
            let match_index = self.log.commit_index().min(self.staging.settled_index());
            if match_index > Index::ZERO {
                let result = AppendResult::Accepted { match_index };
                self.send_after_persist(from, Body::AppendEntriesResponse(result));
            }
            return Ok(());
        }
        self.verified = self.verified.max(last_index);
        if self.log.commit_to(last_index) {
            self.evict();
        }
        let result = AppendResult::Accepted { match_index: last_index };
        self.send_after_persist(from, Body::AppendEntriesResponse(result));
        Ok(())
    }

    /// Whether it may have promised what it no longer knows.
    pub(crate) fn is_recovering(&self) -> bool {
        self.forgotten_term.is_some()
    }

    /// The answer to a vote request while recovering. A later term is news all the same (§5.1).
    pub(crate) fn refuse_to_vote(&mut self, from: NodeId, term: Term, pre_vote: bool) {
        // SAFETY(raft §5.4.1): a log that is not what was acknowledged of it says nothing about a candidate's.
        if !pre_vote && term > self.current_term {
            self.become_follower(term, None);
        }
        self.send(from, self.current_term, Body::RequestVoteResponse { pre_vote, granted: false });
    }

    /// Ends the recovery when everything that was committed in the forgotten terms must be in this log, durably.
    pub(crate) fn maybe_recover(&mut self) {
        let Some(forgotten_term) = self.forgotten_term else {
            return;
        };
        let index = self.log.commit_index().min(self.staging.settled_index());
        // SAFETY(raft §5.4): the leader of this entry's term had everything that was committed in earlier ones.
        if self.log.term_at(index) > Some(forgotten_term) {
            self.forgotten_term = None;
            self.tell(Event::Recovered { term: self.current_term });
        }
    }
}
