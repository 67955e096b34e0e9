//! A node's state as the rest of the server sees it.

use std::collections::BTreeMap;

use engine::kv::Settings;

/// A node's role in its term.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Not part of a cluster: not bootstrapped yet, or its disk lost what it had promised.
    #[default]
    Outside,
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks whether it could win an election.
    PreCandidate,
    /// It campaigns.
    Candidate,
    /// It leads.
    Leader,
}

/// Who leads, as far as this node knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leader {
    /// The leader's name.
    pub name: String,
    /// Where clients reach it, if it told.
    pub client_address: Option<String>,
    /// Whether it is this node.
    pub is_self: bool,
}

/// How far another member is, seen from the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// The member's name.
    pub name: String,
    /// The index up to which its log is known to match.
    pub match_index: u64,
    /// The index of the next entry to send.
    pub next_index: u64,
    /// `probe`, `replicate` or `fetch`.
    pub state: &'static str,
    /// Whether it was heard of within the last election timeout.
    pub active: bool,
}

/// A member of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// The random number that it drew at its first start.
    pub incarnation: u64,
    /// Where its peers reach it, as configured here.
    pub peer_address: String,
    /// Where clients reach it, if it told.
    pub client_address: Option<String>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether this node reaches it, as [`Links::reaches`](crate::transport::Links::reaches) says; a node reaches
    /// itself.
    pub reachable: bool,
}

/// What a node does, in figures that only the metrics tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// How many messages were dropped since the start because too many waited for the disk.
    pub backlogged_messages: u64,
    /// How many bytes wait to be written to the log.
    pub log_pending_bytes: u64,
    /// How many writes wait for the cluster.
    pub writes_waiting: u64,
    /// How many reads wait for the cluster.
    pub reads_waiting: u64,
    /// Whether the node holds a lease, under which it answers linearizable reads without asking anyone.
    pub holds_lease: bool,
    /// How many linearizable reads were answered under a lease since the start.
    pub leased_reads: u64,
}

/// A node's state, renewed several times a second and at each change of role, term or leader.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeStatus {
    /// The node's name.
    pub name: String,
    /// The random number that the node drew at its first start.
    pub incarnation: u64,
    /// The cluster's id, once there is a cluster.
    pub cluster_id: Option<[u8; 16]>,
    /// The node's role.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<Leader>,
    /// The index of the last entry of the log.
    pub last_index: u64,
    /// The index of the last durable entry.
    pub durable_index: u64,
    /// The commit index.
    pub commit_index: u64,
    /// The index of the last applied entry.
    pub applied_index: u64,
    /// The store's revision.
    pub revision: u64,
    /// How many keys there are.
    pub key_count: u64,
    /// The settings of the cluster, as the node's state has them.
    pub settings: Settings,
    /// How many sessions of clients are kept.
    pub session_count: u64,
    /// The replicated time of the node's state, in milliseconds.
    pub time_ms: u64,
    /// The hash of the whole state; equal on nodes with an equal applied index.
    pub state_hash: u128,
    /// The index of the first entry of the log; those before it are in a snapshot only.
    pub first_index: u64,
    /// The last index that the newest snapshot covers; zero without one.
    pub snapshot_index: u64,
    /// The size of that snapshot, in bytes.
    pub snapshot_bytes: u64,
    /// How much log there is since that snapshot, in bytes of entries.
    pub log_bytes_since_snapshot: u64,
    /// Whether the disk is so full that writes that need room are refused.
    pub storage_full: bool,
    /// Whether part of the log was lost to damage, and is still being fetched from the others.
    pub recovering: bool,
    /// Why the node is not ready; none if it is.
    pub not_ready: Option<String>,
    /// On the leader, how far the other members are.
    pub peers: Vec<PeerStatus>,
    /// The members of the configuration, sorted by name.
    pub members: Vec<MemberStatus>,
    /// How many peer messages were dropped since the start, by reason.
    pub dropped_messages: BTreeMap<String, u64>,
    /// What it does, in figures.
    pub work: Work,
}
