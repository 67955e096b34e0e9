//! What a node is set up with: its options, and what it finds on its disk.

use crate::configuration::Configuration;
use crate::error::SetupError;
use crate::types::{Entry, HardState, Index, NodeId, Term};
use alloc::vec::Vec;

/// How a node behaves. Times are in ticks, sizes in bytes counted as [`Entry::size_bytes`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The node's name.
    pub id: NodeId,
    /// The shortest election timeout (§5.2), and how long a node that heard of a leader ignores vote requests. Above
    /// `heartbeat_ticks`, so that a leader that is alive is heard of in time.
    pub election_timeout_ticks_min: u32,
    /// The longest election timeout. Above the shortest, because equal timeouts split votes for ever. A leader that
    /// heard of no quorum for so long steps down: by then every follower that misses it has asked for votes. So
    /// does one whose disk did nothing for so long although it had something to do.
    pub election_timeout_ticks_max: u32,
    /// The time between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// The most that one AppendEntries carries, unless a single entry is larger.
    pub append_bytes_max: usize,
    /// How many AppendEntries with entries may be unanswered per follower.
    pub inflight_messages_max: usize,
    /// How much of a leader's log may be uncommitted before it refuses proposals; one entry is always accepted.
    pub uncommitted_bytes_max: usize,
    /// How much of the log is kept in memory once it is committed, applied and durable.
    pub tail_bytes_max: usize,
    /// The most that one `Ready` hands out to be applied, unless a single entry is larger.
    pub apply_bytes_max: usize,
    /// Seeds the election timeouts. Nodes of one cluster need different ones, and a node another one at each start, by
    /// which late answers to an earlier process are known; equal inputs and an equal seed give equal outputs.
    pub seed: u64,
}

impl Options {
    /// Whether the options fit each other.
    pub(crate) fn validate(&self) -> Result<(), SetupError> {
        let checks = [
            (self.heartbeat_ticks > 0, "heartbeat_ticks is zero"),
            (self.election_timeout_ticks_min > self.heartbeat_ticks, "an election timeout must exceed a heartbeat"),
            (
                self.election_timeout_ticks_max > self.election_timeout_ticks_min,
                "election_timeout_ticks_max must exceed election_timeout_ticks_min",
            ),
            (self.append_bytes_max > 0, "append_bytes_max is zero"),
            (self.inflight_messages_max > 0, "inflight_messages_max is zero"),
            (self.uncommitted_bytes_max > 0, "uncommitted_bytes_max is zero"),
            (self.apply_bytes_max > 0, "apply_bytes_max is zero"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, problem)) => Err(SetupError::Options(problem)),
            None => Ok(()),
        }
    }
}

/// What a node finds on its disk. For a first start: a configuration and defaults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The members.
    pub configuration: Configuration,
    /// The last hard state that was written.
    pub hard_state: HardState,
    /// The first index of each run of entries of one term, with that term, over the whole log, ascending.
    pub term_starts: Vec<(Index, Term)>,
    /// The newest entries, contiguous up to `last_index`; at least everything behind `applied`.
    pub tail: Vec<Entry>,
    /// The last entry of the log, zero if it is empty. That of the snapshot if the log ends there or before.
    pub last_index: Index,
    /// The first entry that the driver can read back; one behind `last_index` if there is none. What lies before it is
    /// in the snapshot only.
    pub first_index: Index,
    /// The last index that the newest durable snapshot covers, zero without one. At least `first_index` less one.
    pub snapshot_index: Index,
    /// Part of this node's log was lost to damage, and with it what it promised in terms up to this one: it neither
    /// votes nor campaigns until it has all that was committed in those terms.
    pub forgotten_term: Option<Term>,
    /// An earlier process of this node may have answered heartbeats while there were leases: it votes for nobody for
    /// the shortest election timeout, as if it had promised that just now.
    pub may_have_promised: bool,
    /// The last entry that the state machine has applied; only the ones behind it will be handed out.
    pub applied: Index,
}
