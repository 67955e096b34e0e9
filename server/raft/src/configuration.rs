//! Who the members are, and the arithmetic of their majorities.
//!
//! While membership changes, two majorities are needed: one of the new voters and one of the outgoing (joint
//! consensus, §6). All questions are asked of both here, so that nobody else ever counts. Learners receive the log
//! and are never counted (thesis §4.2.1).

use crate::types::NodeId;
use alloc::collections::BTreeSet;
use core::fmt;

/// The members of the cluster.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Configuration {
    voters: BTreeSet<NodeId>,
    /// The voters of the configuration that is being left; not empty exactly while the configuration is joint.
    outgoing: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
}

/// The state of a ballot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ballot {
    /// A majority (of both sets) said yes.
    Won,
    /// A majority of yes cannot be reached any more.
    Lost,
    /// Neither yet.
    Open,
}

/// Why a configuration is not well formed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConfigurationError {
    /// Nobody could ever be elected.
    NoVoters,
    /// A node cannot be voter and learner at once.
    LearnerVotes(NodeId),
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigurationError::NoVoters => formatter.write_str("there are no voters"),
            ConfigurationError::LearnerVotes(id) => write!(formatter, "{id} is both voter and learner"),
        }
    }
}

impl core::error::Error for ConfigurationError {}

impl Configuration {
    /// These voters, not joint, no learners.
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Configuration {
        Configuration { voters: voters.into_iter().collect(), ..Configuration::default() }
    }

    /// A joint configuration: decisions need a majority of `voters` and a majority of `outgoing`.
    pub fn joint(
        voters: impl IntoIterator<Item = NodeId>,
        outgoing: impl IntoIterator<Item = NodeId>,
    ) -> Configuration {
        Configuration { outgoing: outgoing.into_iter().collect(), ..Configuration::new(voters) }
    }

    /// The same with these learners instead of its own.
    #[must_use]
    pub fn with_learners(self, learners: impl IntoIterator<Item = NodeId>) -> Configuration {
        Configuration { learners: learners.into_iter().collect(), ..self }
    }

    /// The voters; while joint, those of the configuration that is being entered.
    pub fn voters(&self) -> &BTreeSet<NodeId> {
        &self.voters
    }

    /// The voters of the configuration that is being left; empty unless joint.
    pub fn outgoing(&self) -> &BTreeSet<NodeId> {
        &self.outgoing
    }

    /// The learners.
    pub fn learners(&self) -> &BTreeSet<NodeId> {
        &self.learners
    }

    /// Whether two majorities are needed.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the node's vote counts, in either of the sets.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether the node is a member in any role.
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// All members, each once, in ascending order.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }

    /// How many members there are.
    pub fn size(&self) -> usize {
        let learners = self.learners.iter().filter(|id| !self.is_voter(**id)).count();
        self.voters.union(&self.outgoing).count() + learners
    }

    /// All nodes whose vote counts, each once, in ascending order.
    pub fn all_voters(&self) -> BTreeSet<NodeId> {
        self.voters.union(&self.outgoing).copied().collect()
    }

    /// Whether the configuration is well formed.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn validate(&self) -> Result<(), ConfigurationError> {
        if self.voters.is_empty() {
            return Err(ConfigurationError::NoVoters);
        }
        match self.learners.iter().find(|&&id| self.is_voter(id)) {
            Some(&id) => Err(ConfigurationError::LearnerVotes(id)),
            None => Ok(()),
        }
    }

    /// Whether those of whom `agrees` is true are a majority of each set of voters.
    pub fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        self.ballot(|id| agrees(id).then_some(true)) == Ballot::Won
    }

    /// The state of a ballot in which each voter said yes, no, or nothing yet.
    pub fn ballot(&self, vote: impl Fn(NodeId) -> Option<bool>) -> Ballot {
        let incoming = ballot_of(&self.voters, &vote);
        if !self.is_joint() {
            return incoming;
        }
        match (incoming, ballot_of(&self.outgoing, &vote)) {
            (Ballot::Won, Ballot::Won) => Ballot::Won,
            (Ballot::Lost, _) | (_, Ballot::Lost) => Ballot::Lost,
            _ => Ballot::Open,
        }
    }

    /// The greatest value that a majority of each set has reached. With match indexes for values it is what may be
    /// committed (§5.3, §5.4.2); with times of contact, when a quorum was last heard of.
    pub fn majority_value<T: Ord + Copy>(&self, value: impl Fn(NodeId) -> T) -> T {
        let incoming = majority_value_of(&self.voters, &value).expect("a validated configuration has voters");
        match majority_value_of(&self.outgoing, &value) {
            Some(outgoing) => incoming.min(outgoing),
            None => incoming,
        }
    }
}

/// How many of `count` voters are a majority: more than half.
fn majority(count: usize) -> usize {
    count / 2 + 1
}

fn ballot_of(voters: &BTreeSet<NodeId>, vote: &impl Fn(NodeId) -> Option<bool>) -> Ballot {
    let (mut granted, mut refused) = (0, 0);
    for &id in voters {
        match vote(id) {
            Some(true) => granted += 1,
            Some(false) => refused += 1,
            None => {}
        }
    }
    let needed = majority(voters.len());
    if granted >= needed {
        Ballot::Won
    } else if voters.len() - refused < needed {
        Ballot::Lost
    } else {
        Ballot::Open
    }
}

/// Counts for each voter's value how many have reached it, and takes the greatest that a majority has. Quadratic in
/// a handful of voters, but it needs no memory and there is no sorted list whose order could be lost.
fn majority_value_of<T: Ord + Copy>(voters: &BTreeSet<NodeId>, value: &impl Fn(NodeId) -> T) -> Option<T> {
    let needed = majority(voters.len());
    let reached = |floor: T| voters.iter().filter(|&&id| value(id) >= floor).count();
    voters.iter().map(|&id| value(id)).filter(|&candidate| reached(candidate) >= needed).max()
}
