//! What the driver has to do: the only way out of the core.

use crate::message::Message;
use crate::types::{BatchNumber, Entry, HardState, Index, NodeId, ReadId, Term};
use alloc::vec::Vec;

/// Everything that came of the inputs since the last one. The driver does all of it; the order between the parts is
/// free except where a field says otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ready {
    /// To be written, behind all earlier batches. When it is durable, the driver says so with
    /// [`Raft::persisted`](crate::Raft::persisted).
    pub persist: Option<Batch>,
    /// May leave at once.
    pub messages: Vec<Message>,
    /// Are promises: may leave when the batch `wait_for` is durable, at once if it is already.
    pub messages_after_persist: Vec<Message>,
    /// The last batch ever handed out, that of this `Ready` included; zero if there was none.
    pub wait_for: BatchNumber,
    /// To be applied in this order, each exactly once. At most [`Options::apply_bytes_max`](crate::Options), but at
    /// least one; the rest comes with the next `Ready`. May run ahead of this node's own disk: a majority has them.
    pub committed: Vec<Entry>,
    /// Confirmed reads: linearizable once the state machine has applied the index beside them (thesis §6.4).
    pub reads: Vec<(ReadId, Index)>,
    /// Reads whose confirmation can no longer come, because leadership is lost: not served.
    pub aborted_reads: Vec<ReadId>,
    /// Entries to read back from the disk for a follower that is far behind. Each is answered exactly once, with
    /// [`Raft::fetched`](crate::Raft::fetched).
    pub fetches: Vec<Fetch>,
    /// Snapshots to get from a peer, because this node's log ends before those of the others begin (§7). The driver
    /// gets one of at least that index and hands it over with [`Raft::install`](crate::Raft::install), or fails to;
    /// offers are repeated.
    pub snapshot_offers: Vec<SnapshotOffer>,
    /// What happened, for people.
    pub events: Vec<Event>,
}

impl Ready {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let Ready {
            persist,
            messages,
            messages_after_persist,
            wait_for: _,
            committed,
            reads,
            aborted_reads,
            fetches,
            snapshot_offers,
            events,
        } = self;
        persist.is_none()
            && messages.is_empty()
            && messages_after_persist.is_empty()
            && committed.is_empty()
            && reads.is_empty()
            && aborted_reads.is_empty()
            && fetches.is_empty()
            && snapshot_offers.is_empty()
            && events.is_empty()
    }
}

/// One unit of writing, applied in the order of its fields. Batches are written and become durable in the order of
/// their numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Its number, one more than the last.
    pub number: BatchNumber,
    /// First forget the whole log: it goes on behind this index, up to which a durable snapshot holds the state (§7).
    /// Never together with a truncation.
    pub reset_to: Option<Index>,
    /// First drop every entry behind this index. Never below the commit index.
    pub truncate_after: Option<Index>,
    /// Then append these, contiguous with what is left.
    pub entries: Vec<Entry>,
    /// Then replace the hard state.
    pub hard_state: Option<HardState>,
}

/// A request for entries `[from..]` that are older than the tail in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fetch {
    /// The follower that needs them.
    pub peer: NodeId,
    /// The leader's term when it asked; tells an answer that comes too late.
    pub term: Term,
    /// The first entry.
    pub from: Index,
    /// How many bytes to read at most, counted as [`Entry::size_bytes`], but at least one entry.
    pub bytes_max: usize,
}

/// A snapshot that the leader says this node needs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SnapshotOffer {
    /// The leader.
    pub from: NodeId,
    /// The last index that the leader's snapshot covers.
    pub index: Index,
}

/// What happened, told for people. Nothing depends on events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// No leader was heard of for an election timeout: asks whether it would be elected.
    PreCampaign {
        /// The term it would campaign in.
        term: Term,
    },
    /// Campaigns.
    Campaign {
        /// The new term.
        term: Term,
    },
    /// Gave its vote, to itself too.
    VoteGranted {
        /// The term of the vote.
        term: Term,
        /// Who got it.
        candidate: NodeId,
    },
    /// Got a vote, its own included once that is durable.
    VoteReceived {
        /// The term of the vote.
        term: Term,
        /// Who gave it.
        from: NodeId,
    },
    /// Was elected.
    BecameLeader {
        /// The term it leads.
        term: Term,
    },
    /// Follows: gave up another role, entered a new term or learnt who leads.
    BecameFollower {
        /// The current term.
        term: Term,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Dropped entries that conflict with the leader's (§5.3).
    Truncated {
        /// The last entry that stayed.
        after: Index,
        /// The size of what was dropped, in bytes.
        bytes: usize,
    },
    /// Took a peer's snapshot over in place of its log and state (§7).
    Installed {
        /// The last index that the snapshot covers.
        index: Index,
    },
    /// Has everything again that it may have forgotten, and takes part in elections from now on.
    Recovered {
        /// The current term.
        term: Term,
    },
    /// Began to hand leadership over (thesis §3.10).
    TransferStarted {
        /// To whom.
        target: NodeId,
    },
    /// The target did not take over within an election timeout; proposals are accepted again.
    TransferAborted {
        /// To whom it was to go.
        target: NodeId,
    },
    /// Led, but heard of no quorum for an election timeout, and stepped down.
    QuorumLost {
        /// The term it led.
        term: Term,
    },
    /// Led, but its disk did nothing for an election timeout although it had something to do, and stepped down.
    DiskStalled {
        /// The term it led.
        term: Term,
    },
}
