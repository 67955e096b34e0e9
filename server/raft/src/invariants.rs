//! What is always true, of one state and of two that follow each other.
//!
//! In debug builds both are checked after every input. A broken invariant is a bug in this crate or in its driver,
//! never a peer's doing, and stops the node with the evidence: going on could lose what was acknowledged. The ones
//! that cost nothing and guard the log (truncation, commit, terms) are plain assertions where they can break, and
//! stay on in release builds.

use crate::raft::{Raft, State};
use crate::reads::READS_MAX;
use crate::status::Role;
use crate::types::{Index, NodeId, Term};
use alloc::vec::Vec;

/// How much of the end of the log is looked at after each input; the whole only on demand, because the cost of an
/// input must not grow with the log.
const INSPECTED_ENTRIES: usize = 8;

/// What is remembered of a state, to be compared with the next.
pub(crate) struct Observation {
    current_term: Term,
    voted_for: Option<NodeId>,
    role: Role,
    commit: (Index, Option<Term>),
    handed: Index,
    applied: Index,
    snapshot: Index,
    first: Index,
    is_recovering: bool,
    last: (Index, Term),
    match_indexes: Vec<(NodeId, Index)>,
}

impl Raft {
    /// Asserts everything that is true of any single state, looking at the whole log in memory.
    ///
    /// # Panics
    /// If an invariant is broken, with the evidence.
    pub fn check_invariants(&self) {
        self.check_state(usize::MAX);
    }

    fn check_state(&self, inspected_entries: usize) {
        let id = self.options.id;
        self.log.check_invariants(inspected_entries);
        self.staging.check_invariants(&self.log, self.hard_state());
        assert!(self.log.last_term() <= self.current_term, "the log is from the future, term {}", self.log.last_term());
        assert!(self.verified <= self.log.last_index(), "verified {} is behind the last entry", self.verified);
        assert!(self.log.commit_index() <= self.verified, "committed {} was not verified", self.log.commit_index());
        assert!(self.voted_for.is_none() || self.current_term > Term::ZERO, "a vote in term zero");
        if let Some(forgotten_term) = self.forgotten_term {
            assert!(self.current_term > forgotten_term, "it is in term {forgotten_term} again");
            assert_eq!(self.role(), Role::Follower, "who may have forgotten a vote campaigns");
        }
        match &self.state {
            State::Follower { leader, asking, .. } => {
                assert_ne!(*leader, Some(id), "a follower follows itself");
                assert!(leader.is_some() || asking.count() == 0, "reads wait for no leader");
                assert!(asking.count() <= READS_MAX, "too many reads wait");
            }
            State::PreCandidate { .. } => assert!(self.configuration.is_voter(id), "a learner campaigns"),
            State::Candidate { .. } => {
                assert!(self.configuration.is_voter(id), "a learner campaigns");
                assert_eq!(self.voted_for, Some(id), "a candidate votes for itself");
            }
            State::Leader(leadership) => {
                assert_eq!(self.voted_for, Some(id), "a leader voted for itself");
                assert_eq!(self.log.last_term(), self.current_term, "a leader's log ends in its own term");
                assert!(leadership.reads.count() <= READS_MAX, "too many reads wait");
                assert!(leadership.reads.askers().all(|asker| asker != id), "a leader asks itself");
                assert_eq!(leadership.progress.len() + 1, self.configuration.size(), "progress is missing");
                assert!(!leadership.progress.contains_key(&id), "a leader replicates to itself");
                for (peer, progress) in &leadership.progress {
                    assert!(self.configuration.contains(*peer), "progress of {peer}, which is no member");
                    progress.check_invariants(&self.log, self.options.inflight_messages_max);
                }
            }
        }
    }

    /// Remembers this state, in debug builds.
    pub(crate) fn observe(&self) -> Option<Observation> {
        if !cfg!(debug_assertions) {
            return None;
        }
        let match_indexes = match &self.state {
            State::Leader(leadership) => leadership.progress.iter().map(|(&id, peer)| (id, peer.match_index)).collect(),
            State::Follower { .. } | State::PreCandidate { .. } | State::Candidate { .. } => Vec::new(),
        };
        let commit_index = self.log.commit_index();
        Some(Observation {
            current_term: self.current_term,
            voted_for: self.voted_for,
            role: self.role(),
            commit: (commit_index, self.log.term_at(commit_index)),
            handed: self.log.handed(),
            applied: self.log.applied(),
            snapshot: self.log.snapshot_index(),
            first: self.log.first_index(),
            is_recovering: self.is_recovering(),
            last: (self.log.last_index(), self.log.last_term()),
            match_indexes,
        })
    }

    /// Asserts what is true of this state and of how it came from the one before, in debug builds.
    pub(crate) fn verify(&self, before: &Option<Observation>) {
        let Some(before) = before else {
            return;
        };
        self.check_state(INSPECTED_ENTRIES);
        assert!(self.current_term >= before.current_term, "the term fell from {}", before.current_term);
        let same_term = self.current_term == before.current_term;
        if same_term && before.voted_for.is_some() {
            assert_eq!(self.voted_for, before.voted_for, "the vote of term {} changed", self.current_term);
        }
        let (commit_index, commit_term) = before.commit;
        assert!(self.log.commit_index() >= commit_index, "the commit index fell from {commit_index}");
        assert_eq!(self.log.term_at(commit_index), commit_term, "a committed entry was replaced at {commit_index}");
        assert!(self.log.handed() >= before.handed, "the handed-out index fell from {}", before.handed);
        assert!(self.log.applied() >= before.applied, "the applied index fell from {}", before.applied);
        assert!(self.log.snapshot_index() >= before.snapshot, "the snapshot index fell from {}", before.snapshot);
        assert!(self.log.first_index() >= before.first, "the first index fell from {}", before.first);
        assert!(before.is_recovering || !self.is_recovering(), "promises are forgotten at a restart only");
        let voted_now = self.voted_for.is_some() && (self.voted_for != before.voted_for || !same_term);
        assert!(!before.is_recovering || !voted_now, "voted with promises forgotten");
        if before.role != Role::Leader || !same_term {
            return;
        }
        assert!(matches!(self.role(), Role::Leader | Role::Follower), "a leader became a {}", self.role().as_str());
        let (last_index, last_term) = before.last;
        assert!(self.log.matches(last_index, last_term), "a leader changed its own log at {last_index}");
        if let State::Leader(leadership) = &self.state {
            for (peer, match_index) in &before.match_indexes {
                let now = leadership.progress.get(peer).map(|progress| progress.match_index);
                assert!(now >= Some(*match_index), "the match index of {peer} fell from {match_index} to {now:?}");
            }
        }
    }
}
