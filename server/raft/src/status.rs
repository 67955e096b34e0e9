//! A look at a node, for people and tests.

use crate::configuration::Configuration;
use crate::raft::{Raft, State};
use crate::types::{Index, NodeId, Term};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What a node is in the current term (§5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected, without disturbing anyone (thesis §9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

impl Role {
    /// The role's name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        }
    }
}

/// The state of a node at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The node.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub current_term: Term,
    /// Who got its vote in that term.
    pub voted_for: Option<NodeId>,
    /// Who leads that term, if known; the node itself when it leads.
    pub leader: Option<NodeId>,
    /// The last entry known to be committed.
    pub commit_index: Index,
    /// The last entry known to be applied.
    pub applied: Index,
    /// The last entry of the log.
    pub last_index: Index,
    /// The term of that entry.
    pub last_term: Term,
    /// The last entry known to be on this node's disk.
    pub durable_index: Index,
    /// The first entry that can be read back from this node's log.
    pub first_index: Index,
    /// The last index that its newest durable snapshot covers; zero without one.
    pub snapshot_index: Index,
    /// Whether it may have forgotten promises, and takes no part in elections until it has what they were about.
    pub recovering: bool,
    /// The members.
    pub configuration: Arc<Configuration>,
    /// What the leader knows of each other member; empty on other nodes.
    pub progress: Vec<(NodeId, ProgressView)>,
}

/// What a leader knows of one other member.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProgressView {
    /// The last entry known to be the same, and durable, on both (§5.3).
    pub match_index: Index,
    /// The next entry to send (§5.3).
    pub next_index: Index,
    /// `probe`, `replicate`, `fetch` or `snapshot`.
    pub state: &'static str,
    /// Whether it was heard of within an election timeout.
    pub active: bool,
}

impl Raft {
    /// The last entry known to be on this node's disk.
    pub fn durable_index(&self) -> Index {
        self.staging.durable_index()
    }

    /// A look at this node.
    pub fn status(&self) -> Status {
        let mut progress = Vec::new();
        if let State::Leader(leadership) = &self.state {
            for (&id, peer) in &leadership.progress {
                let silent_ticks = self.now.saturating_sub(peer.heard_at);
                let active = silent_ticks < u64::from(self.options.election_timeout_ticks_max);
                let state = peer.flow.as_str();
                let (match_index, next_index) = (peer.match_index, peer.next_index);
                progress.push((id, ProgressView { match_index, next_index, state, active }));
            }
        }
        Status {
            id: self.options.id,
            role: self.role(),
            current_term: self.current_term,
            voted_for: self.voted_for,
            leader: self.leader(),
            commit_index: self.log.commit_index(),
            applied: self.log.applied(),
            last_index: self.log.last_index(),
            last_term: self.log.last_term(),
            durable_index: self.staging.durable_index(),
            first_index: self.log.first_index(),
            snapshot_index: self.log.snapshot_index(),
            recovering: self.is_recovering(),
            configuration: Arc::clone(&self.configuration),
            progress,
        }
    }
}
