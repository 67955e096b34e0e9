//! How far the explorer goes.

use crate::invariant::Invariant;
use thiserror::Error;

/// The most nodes a cluster can have here.
pub(crate) const NODES_MAX: usize = 5;
/// The last term that anyone may campaign for.
pub(crate) const TERMS_MAX: usize = 7;
/// The most proposals; each is a command of its own.
pub(crate) const PROPOSALS_MAX: u8 = 26;

/// What may happen in a run, and how often. All counts are over the whole cluster.
///
/// Beyond these, what happens at different nodes, links and disks may happen in any order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// How many nodes, 1 to 5.
    pub nodes: u8,
    /// Nobody campaigns for a term beyond this one, at most 7.
    pub terms: u8,
    /// How often an election timeout may pass, at a node that does not lead, or check-quorum depose a leader.
    pub timeouts: u8,
    /// How often a leader's heartbeat timer may fire. Rounds of ReadIndex send heartbeats as well.
    pub heartbeats: u8,
    /// Commands proposed, at most 26.
    pub proposals: u8,
    /// Crashes, each followed by a restart from whatever prefix of the pending batches reached the disk.
    pub crashes: u8,
    /// Messages that are lost; a leader that sent one learns of it from its transport.
    pub drops: u8,
    /// How often a message may be delivered before an older one on the same link, which comes later or never. `None`
    /// is any number of times: then the network is a bag.
    pub overtakings: Option<u8>,
    /// Messages delivered a second time.
    pub duplicates: u8,
    /// Linearizable reads, at the leader or at a follower.
    pub reads: u8,
    /// Whether any read without a leader is followed, from any moment on. One is as good as several: it only looks.
    pub quorum_reads: bool,
    /// Leadership transfers.
    pub transfers: u8,
    /// How often a node takes a snapshot of what it has applied, and cuts its log off behind it. If this is not zero,
    /// what is applied and durable does not stay in memory either.
    pub compactions: u8,
    /// How often a node is handed another one's snapshot; it may be any node's, at any time, offered or not.
    pub installs: u8,
    /// Whether writes become durable in steps of their own, each at any later time. Otherwise they are at once.
    pub slow_disks: bool,
    /// Whether each AppendEntries carries one entry only, so that entries can be replicated one by one.
    pub single_entries: bool,
    /// Whether every election timeout finds the links empty: what was in flight is lost, which is why nobody was heard
    /// of. Hardly any interleavings of one leader's messages with the next one's are left, so that runs with many
    /// elections can be exhausted.
    pub lossy_timeouts: bool,
    /// What to look for; everything, unless the question is whether one invariant sees what breaks another.
    pub invariants: Vec<Invariant>,
    /// When to give up, in distinct states: the search is then not exhausted.
    pub states_max: u64,
}

/// Why bounds make no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BoundsError {
    /// The number of nodes is out of range.
    #[error("a cluster has 1 to {NODES_MAX} nodes here, not {0}")]
    Nodes(u8),
    /// The last term is out of range.
    #[error("the last term is 1 to {TERMS_MAX} here, not {0}")]
    Terms(u8),
    /// There are more proposals than names for them.
    #[error("there are at most {PROPOSALS_MAX} proposals, not {0}")]
    Proposals(u8),
}

impl Default for Bounds {
    /// Three terms with a command and a crash; entries travel one by one, so that the shape of Figure 8 is there.
    /// Exhausted in a fraction of a minute.
    fn default() -> Bounds {
        Bounds {
            nodes: 3,
            terms: 3,
            timeouts: 3,
            heartbeats: 0,
            proposals: 1,
            crashes: 1,
            drops: 0,
            overtakings: Some(0),
            duplicates: 0,
            reads: 0,
            quorum_reads: false,
            transfers: 0,
            compactions: 0,
            installs: 0,
            slow_disks: false,
            single_entries: true,
            lossy_timeouts: true,
            invariants: Invariant::ALL.to_vec(),
            states_max: 40_000_000,
        }
    }
}

impl Bounds {
    pub(crate) fn validate(&self) -> Result<(), BoundsError> {
        if self.nodes == 0 || usize::from(self.nodes) > NODES_MAX {
            return Err(BoundsError::Nodes(self.nodes));
        }
        if self.terms == 0 || usize::from(self.terms) > TERMS_MAX {
            return Err(BoundsError::Terms(self.terms));
        }
        if self.proposals > PROPOSALS_MAX {
            return Err(BoundsError::Proposals(self.proposals));
        }
        Ok(())
    }
}
