//! Who the members are: the core's numbers as names, addresses and log lines.

use std::collections::BTreeMap;

use engine::identity::Cluster;
use engine::{EngineStatus, UnusableSnapshot};
use raft::{NodeId, Role as RaftRole, Status};
use tracing::{info, warn};

use super::status::{Leader, MemberStatus, NodeStatus, PeerStatus, Role, Work};
use crate::transport::{Board, Links};

/// The members of the cluster, seen from one of them.
#[derive(Clone, Debug)]
pub struct Roster {
    own: NodeId,
    cluster: Cluster,
    /// Where peers reach each member, by name, as configured.
    addresses: BTreeMap<String, String>,
}

impl Roster {
    /// The roster of `cluster` as `own` sees it.
    #[must_use]
    pub fn new(own: NodeId, cluster: Cluster, addresses: BTreeMap<String, String>) -> Self {
        Self { own, cluster, addresses }
    }

    /// A member's name; for a number that is no member's, the number.
    #[must_use]
    pub fn name(&self, node: NodeId) -> String {
        let member = self.cluster.members().iter().find(|member| member.incarnation == node);
        member.map_or_else(|| format!("{:016x}", node.get()), |member| member.name.clone())
    }

    /// A member's number.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.cluster.member(name).map(|member| member.incarnation)
    }

    /// This node's name.
    #[must_use]
    pub fn own_name(&self) -> &str {
        let own = self.cluster.members().iter().find(|member| member.incarnation == self.own);
        &own.expect("a roster is made for a member").name
    }

    /// How many members vote.
    #[must_use]
    pub fn voter_count(&self) -> usize {
        self.cluster.members().len()
    }

    pub(super) fn leader(&self, leader: Option<NodeId>, board: &Board) -> Option<Leader> {
        let node = leader?;
        let name = self.name(node);
        let client_address = board.client_address(&name);
        Some(Leader { name, client_address, is_self: node == self.own })
    }

    /// The other voter whose log is known to match furthest, one that was heard of lately before others.
    pub(super) fn furthest(&self, status: &Status) -> Option<String> {
        let others = status.progress.iter().filter(|(node, _)| *node != self.own);
        let furthest = others.max_by_key(|(_, progress)| (progress.active, progress.match_index));
        furthest.map(|(node, _)| self.name(*node))
    }

    pub(super) fn status(
        &self,
        engine: &EngineStatus,
        board: &Board,
        links: &Links,
        ready: bool,
        dropped: &BTreeMap<String, u64>,
    ) -> NodeStatus {
        let raft = &engine.raft;
        NodeStatus {
            name: self.own_name().to_owned(),
            incarnation: self.own.get(),
            cluster_id: Some(self.cluster.id()),
            role: role(raft.role),
            term: raft.current_term.get(),
            leader: self.leader(raft.leader, board),
            last_index: raft.last_index.get(),
            durable_index: raft.durable_index.get(),
            commit_index: raft.commit_index.get(),
            applied_index: raft.applied.get(),
            revision: engine.revision.get(),
            key_count: u64::try_from(engine.key_count).expect("a count of keys in memory fits"),
            settings: engine.settings,
            session_count: u64::try_from(engine.session_count).expect("a count of sessions in memory fits"),
            time_ms: engine.time_ms,
            state_hash: engine.state_hash,
            not_ready: not_ready(engine, ready).map(str::to_owned),
            peers: self.peers(raft),
            members: self.members(raft, board, links),
            dropped_messages: dropped.clone(),
            first_index: engine.first_index.get(),
            snapshot_index: engine.snapshot_index.get(),
            snapshot_bytes: engine.snapshot_bytes,
            log_bytes_since_snapshot: engine.log_bytes_since_snapshot,
            storage_full: engine.storage_full,
            recovering: engine.recovering,
            work: work(engine),
        }
    }

    fn peers(&self, raft: &Status) -> Vec<PeerStatus> {
        let others = raft.progress.iter().filter(|(node, _)| *node != self.own);
        let peer = |(node, progress): &(NodeId, raft::ProgressView)| PeerStatus {
            name: self.name(*node),
            match_index: progress.match_index.get(),
            next_index: progress.next_index.get(),
            state: progress.state,
            active: progress.active,
        };
        others.map(peer).collect()
    }

    fn members(&self, raft: &Status, board: &Board, links: &Links) -> Vec<MemberStatus> {
        let member = |member: &engine::identity::Member| MemberStatus {
            name: member.name.clone(),
            incarnation: member.incarnation.get(),
            peer_address: self.addresses.get(&member.name).cloned().unwrap_or_default(),
            client_address: board.client_address(&member.name),
            voter: raft.configuration.is_voter(member.incarnation),
            reachable: member.incarnation == self.own || links.reaches(member.incarnation),
        };
        self.cluster.members().iter().map(member).collect()
    }

    /// Logs what is worth waking up for, with the node's term and the last index of its log unless it is about others.
    pub(super) fn log(&self, event: &raft::Event, raft: &raft::Raft) {
        use raft::Event;
        let (term, index) = (raft.current_term().get(), raft.last_index().get());
        match event {
            Event::BecameLeader { term } => info!(term = term.get(), index, "this node leads"),
            Event::BecameFollower { term, leader: Some(leader) } => {
                info!(term = term.get(), index, leader = self.name(*leader), "this node follows");
            }
            Event::Campaign { term } => info!(term = term.get(), index, "this node campaigns"),
            Event::QuorumLost { term } => {
                let why = "it has not heard of a majority for an election timeout";
                warn!(term = term.get(), index, "this node steps down: {why}");
            }
            Event::DiskStalled { term } => {
                let why = "its disk has synced nothing of what it was given for an election timeout";
                warn!(term = term.get(), index, "this node steps down: {why}");
            }
            Event::Truncated { after, .. } => {
                warn!(term, index = after.get(), "entries behind this one conflicted with the leader's and were cut");
            }
            Event::Installed { index } => {
                let what = "a peer's snapshot was taken over in place of the log and the state";
                info!(term, index = index.get(), "{what}");
            }
            Event::Recovered { term } => {
                let what = "this node takes part in elections from now on";
                info!(term = term.get(), index, "everything that the disk had lost is here again: {what}");
            }
            Event::TransferAborted { target } => {
                warn!(term, index, target = self.name(*target), "the handover did not end in time");
            }
            _ => {}
        }
    }

    /// Logs that the disk has become almost full, or has room again.
    pub(super) fn log_storage(&self, status: &EngineStatus) {
        let (term, index) = (status.raft.current_term.get(), status.raft.last_index.get());
        if status.storage_full {
            let what = "while this node leads, writes that need room are refused until there is more";
            warn!(term, index, "the disk is almost full: {what}");
        } else {
            info!(term, index, "the disk has room again: writes are taken");
        }
    }

    /// Logs that a snapshot is of no use.
    pub(super) fn log_unusable(&self, unusable: &UnusableSnapshot) {
        let UnusableSnapshot { from, index, why } = unusable;
        match from {
            Some(peer) => warn!(
                peer = self.name(*peer),
                index = index.get(),
                why,
                "a peer's snapshot cannot be used; another member is asked, or this one again later"
            ),
            None => warn!(
                index = index.get(),
                why,
                "a snapshot of this node's own is no longer what was written, or cannot be read; a new one is taken"
            ),
        }
    }
}

fn work(engine: &EngineStatus) -> Work {
    Work {
        backlogged_messages: engine.messages_dropped,
        log_pending_bytes: engine.wal_pending_bytes as u64,
        writes_waiting: engine.writes_waiting as u64,
        reads_waiting: engine.reads_waiting as u64,
        holds_lease: engine.holds_lease,
        leased_reads: engine.leased_reads,
    }
}

/// Why the node should not be sent requests, if it should not.
fn not_ready(engine: &EngineStatus, has_caught_up: bool) -> Option<&'static str> {
    if engine.recovering {
        return Some("part of the log was lost to damage and is being fetched from the other members");
    }
    match engine.raft.leader {
        _ if has_caught_up => None,
        None => Some("no leader is known yet; it takes a majority of the members"),
        Some(_) => Some("the log of the leader has not been caught up with yet"),
    }
}

fn role(role: RaftRole) -> Role {
    match role {
        RaftRole::Follower => Role::Follower,
        RaftRole::PreCandidate => Role::PreCandidate,
        RaftRole::Candidate => Role::Candidate,
        RaftRole::Leader => Role::Leader,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::disk::{Disk, MemoryDisk};
    use engine::wal::WalOptions;
    use engine::{Engine, EngineOptions};
    use raft::Configuration;

    use super::*;

    /// The status of a node that was just opened.
    fn engine_status() -> EngineStatus {
        let id = NodeId::new(1).expect("not zero");
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let options = EngineOptions {
            raft: raft::Options {
                id,
                election_timeout_ticks_min: 10,
                election_timeout_ticks_max: 20,
                heartbeat_ticks: 1,
                append_bytes_max: 1 << 10,
                inflight_messages_max: 1,
                uncommitted_bytes_max: 1 << 10,
                tail_bytes_max: 1 << 10,
                apply_bytes_max: 1 << 10,
                seed: 1,
            },
            wal: WalOptions { segment_bytes: 4 << 10, ..WalOptions::default() },
            configuration: Configuration::new([id]),
            wal_pending_bytes_max: 1 << 20,
            snapshot_log_bytes_min: 1 << 20,
            space_reserve_bytes: 0,
            snapshot_chunk_bytes: engine::side::SNAPSHOT_CHUNK_BYTES,
            session_limits: engine::kv::SessionLimits::default(),
            lease_ms: 0,
            state_hash_every_entries: engine::STATE_HASH_EVERY_ENTRIES,
        };
        Engine::open(&disk, options).expect("an empty disk is no problem").engine.status()
    }

    #[test]
    fn a_node_that_recovers_is_not_ready_whatever_else_is_so() {
        let status = engine_status();
        assert_eq!(not_ready(&status, true), None);
        let reason = not_ready(&status, false).expect("it knows no leader");
        assert!(reason.starts_with("no leader is known yet"), "{reason}");
        for has_caught_up in [false, true] {
            let recovering = EngineStatus { recovering: true, ..status.clone() };
            let reason = not_ready(&recovering, has_caught_up).expect("it recovers");
            assert!(reason.starts_with("part of the log was lost to damage"), "{reason}");
        }
    }
}
