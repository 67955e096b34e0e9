//! What can be seen of a node from outside, and what changed in one step.

use engine::EngineStatus;
use raft::{Index, NodeId, ProgressView, Raft, Role, Term};

use crate::node::node_id;

/// A node as it was when it last acted. Of a node that is down, what it had in memory; its `durable` part is on its
/// disk. Counts of entries are positions: entry 1 is `log[0]`.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) up: bool,
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) voted_for: Option<NodeId>,
    /// The term of each entry of the log.
    pub(crate) log: Vec<Term>,
    pub(crate) committed: usize,
    pub(crate) applied: usize,
    pub(crate) durable: usize,
    /// What a leader knows of the others.
    pub(crate) progress: Vec<(NodeId, ProgressView)>,
    pub(crate) state_hash: u128,
    pub(crate) revision: u64,
    /// It may have forgotten what it promised.
    pub(crate) recovering: bool,
    /// In its last step it dropped entries of its log for others or for a snapshot.
    pub(crate) replaced_tail: bool,
    /// The first entry that its log still holds.
    pub(crate) first: usize,
    /// The last entry that its newest snapshot covers.
    pub(crate) snapshot: usize,
    /// The size of that, in bytes.
    pub(crate) snapshot_bytes: u64,
    /// How much waits for its log, in bytes.
    pub(crate) wal_pending_bytes: usize,
    /// Its disk fails, or is about to.
    pub(crate) disk_fails: bool,
}

/// What a node was before a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// The node that acted.
    pub(crate) node: usize,
    /// It has just started: everything in memory is new.
    pub(crate) started: bool,
    pub(crate) role: Role,
    pub(crate) term: Term,
    pub(crate) committed: usize,
    pub(crate) length: usize,
    /// How many entries from the first on are the same as before.
    pub(crate) kept: usize,
    pub(crate) first: usize,
    pub(crate) snapshot: usize,
    pub(crate) recovering: bool,
}

impl View {
    /// A node that never ran.
    pub(crate) fn new() -> View {
        View {
            up: false,
            role: Role::Follower,
            term: Term::ZERO,
            voted_for: None,
            log: Vec::new(),
            committed: 0,
            applied: 0,
            durable: 0,
            progress: Vec::new(),
            state_hash: 0,
            revision: 0,
            recovering: false,
            replaced_tail: false,
            first: 1,
            snapshot: 0,
            snapshot_bytes: 0,
            wal_pending_bytes: 0,
            disk_fails: false,
        }
    }

    /// Takes in what a node is now.
    pub(crate) fn update(&mut self, node: usize, started: bool, raft: &Raft, status: EngineStatus) -> Change {
        let last = position(status.raft.last_index);
        let length = self.log.len();
        let mut kept = if started { 0 } else { length.min(last) };
        // Whatever has the same index and term as before is the same entry; what is behind it may be new.
        while kept > 0 && raft.term_at(index(kept)) != Some(self.log[kept - 1]) {
            kept -= 1;
        }
        let View { role, term, committed, first, snapshot, recovering, .. } = *self;
        let change = Change { node, started, role, term, committed, length, kept, first, snapshot, recovering };
        self.log.truncate(kept);
        if started {
            let starts = raft.term_starts(status.raft.last_index);
            for (run, (_, term)) in starts.iter().enumerate() {
                self.log.resize(starts.get(run + 1).map_or(last, |(next, _)| position(*next) - 1), *term);
            }
        } else {
            self.log.extend((kept + 1..=last).filter_map(|at| raft.term_at(index(at))));
        }
        self.up = true;
        self.replaced_tail = !started && kept < length;
        self.role = status.raft.role;
        self.term = status.raft.current_term;
        self.voted_for = status.raft.voted_for;
        self.committed = position(status.raft.commit_index);
        self.applied = position(status.applied);
        self.durable = position(status.raft.durable_index);
        self.progress = status.raft.progress;
        self.state_hash = status.state_hash;
        self.revision = status.revision.get();
        self.recovering = status.recovering;
        self.first = position(status.first_index);
        self.snapshot = position(status.snapshot_index);
        self.snapshot_bytes = status.snapshot_bytes;
        self.wal_pending_bytes = status.wal_pending_bytes;
        change
    }

    /// The term of the entry at a position counted from 1; zero before the first.
    pub(crate) fn term_at(&self, at: usize) -> Option<Term> {
        if at == 0 { Some(Term::ZERO) } else { self.log.get(at - 1).copied() }
    }
}

/// An index as a count of entries.
pub(crate) fn position(index: Index) -> usize {
    usize::try_from(index.get()).expect("a log that fits into memory")
}

/// A count of entries as the index of the last of them.
pub(crate) fn index(position: usize) -> Index {
    Index::new(position as u64)
}

/// The node of a change, as it is called.
pub(crate) fn name(change: &Change) -> NodeId {
    node_id(change.node)
}

/// Views made by hand, for the tests of invariants.
#[cfg(test)]
pub(crate) mod made {
    use super::*;

    /// A running node of `term` with a log of entries of these terms, all of them durable.
    pub(crate) fn view(role: Role, term: u64, log: &[u64], committed: usize) -> View {
        View {
            up: true,
            role,
            term: Term::new(term),
            voted_for: None,
            log: log.iter().copied().map(Term::new).collect(),
            committed,
            applied: committed,
            durable: log.len(),
            ..View::new()
        }
    }

    /// A step of `node` from a view like the present one in which nothing was yet.
    pub(crate) fn first_step(node: usize) -> Change {
        let (role, term) = (Role::Follower, Term::ZERO);
        let (committed, length, kept, first, snapshot) = (0, 0, 0, 1, 0);
        Change { node, started: false, role, term, committed, length, kept, first, snapshot, recovering: false }
    }

    /// A step of `node` in which nothing changed.
    pub(crate) fn no_change(node: usize, view: &View) -> Change {
        let View { role, term, committed, first, snapshot, recovering, ref log, .. } = *view;
        let (length, kept) = (log.len(), log.len());
        Change { node, started: false, role, term, committed, length, kept, first, snapshot, recovering }
    }
}
