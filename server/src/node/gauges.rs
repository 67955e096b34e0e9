//! The node's state as metrics: read from what the loop publishes anyway, when somebody asks.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::handle::NodeHandle;
use super::status::{NodeStatus, Role};
use crate::telemetry::Page;
use crate::transport::Inbox;

/// What messages count as that were dropped because too many waited for the disk.
const BACKLOGGED: &str = "disk_backlog";

/// The roles, by the value of their label.
const ROLES: [(&str, Role); 5] = [
    ("outside", Role::Outside),
    ("follower", Role::Follower),
    ("pre_candidate", Role::PreCandidate),
    ("candidate", Role::Candidate),
    ("leader", Role::Leader),
];

/// Tells how the node is.
#[derive(Debug)]
pub(super) struct NodeGauges {
    node: NodeHandle,
}

/// Tells how many messages wait for the loop.
#[derive(Debug)]
pub(super) struct InboxGauges {
    inbox: Inbox,
}

impl NodeGauges {
    pub(super) fn new(node: NodeHandle) -> Self {
        Self { node }
    }
}

impl Collector for NodeGauges {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        let version = [(env!("CARGO_PKG_VERSION"), 1)];
        page.gauges("quorate_build_info", "Always 1; the version is the label's", "version", version)?;
        let waiting = self.node.waiting_requests();
        page.gauge("quorate_loop_requests_waiting", "Requests that wait for the node's loop", waiting)?;
        let status = self.node.status();
        tell_standing(&mut page, &status)?;
        tell_log(&mut page, &status)?;
        tell_store(&mut page, &status)?;
        tell_work(&mut page, &status)?;
        tell_peers(&mut page, &status)
    }
}

/// What the node is in its cluster.
fn tell_standing(page: &mut Page<'_>, status: &NodeStatus) -> fmt::Result {
    let roles = ROLES.map(|(name, role)| (name, u64::from(role == status.role)));
    page.gauges("quorate_role", "1 for the role that the node has in its term, 0 for the others", "role", roles)?;
    page.flag("quorate_has_leader", "Whether the node knows who leads", status.leader.is_some())?;
    let help = "Whether the node is a member, has recovered and has caught up once since its start";
    page.flag("quorate_ready", help, status.not_ready.is_none())?;
    let help = "Whether part of the log was lost to damage and is still being fetched from the others";
    page.flag("quorate_recovering", help, status.recovering)?;
    page.gauge("quorate_term", "The current term", status.term)?;
    let voters = status.members.iter().filter(|member| member.voter).count();
    page.gauge("quorate_voters", "Members of the configuration that vote", voters)
}

fn tell_log(page: &mut Page<'_>, status: &NodeStatus) -> fmt::Result {
    page.gauge("quorate_first_index", "Index of the first entry in the log", status.first_index)?;
    page.gauge("quorate_last_index", "Index of the last entry of the log", status.last_index)?;
    page.gauge("quorate_durable_index", "Index of the last entry on this node's disk", status.durable_index)?;
    page.gauge("quorate_commit_index", "Index of the last entry known to be committed", status.commit_index)?;
    page.gauge("quorate_applied_index", "Index of the last entry applied to the state", status.applied_index)?;
    page.gauge("quorate_snapshot_index", "Last index that the newest snapshot covers", status.snapshot_index)?;
    page.gauge("quorate_snapshot_bytes", "Size of the newest snapshot", status.snapshot_bytes)?;
    let help = "Entries since the newest snapshot";
    page.gauge("quorate_log_since_snapshot_bytes", help, status.log_bytes_since_snapshot)
}

fn tell_store(page: &mut Page<'_>, status: &NodeStatus) -> fmt::Result {
    page.gauge("quorate_revision", "Revision of the store", status.revision)?;
    page.gauge("quorate_keys", "Keys in the store", status.key_count)?;
    page.gauge("quorate_sessions", "Sessions of clients that are kept", status.session_count)?;
    let help = "Whether the cluster's setting lease_reads is on";
    page.flag("quorate_lease_reads_enabled", help, status.settings.lease_reads)?;
    let help = "Whether this node leads and holds a lease, under which it answers gets without asking anyone";
    page.flag("quorate_lease_held", help, status.work.holds_lease)?;
    page.counter("quorate_leased_reads", "Linearizable gets answered under a lease", status.work.leased_reads)
}

/// What waits, and for what.
fn tell_work(page: &mut Page<'_>, status: &NodeStatus) -> fmt::Result {
    page.gauge("quorate_writes_waiting", "Writes that wait for the cluster", status.work.writes_waiting)?;
    page.gauge("quorate_reads_waiting", "Gets that wait for the cluster", status.work.reads_waiting)?;
    page.gauge("quorate_log_pending_bytes", "What waits to be written to the log", status.work.log_pending_bytes)?;
    let help = "Whether the disk is so full that this node, while it leads, refuses writes that need room";
    page.flag("quorate_storage_full", help, status.storage_full)
}

fn tell_peers(page: &mut Page<'_>, status: &NodeStatus) -> fmt::Result {
    let lag = status.peers.iter().map(|peer| (peer.name.as_str(), status.last_index.saturating_sub(peer.match_index)));
    let help = "On the leader, how many entries of its log a member is not known to have on its disk";
    page.gauges("quorate_replication_lag_entries", help, "peer", lag)?;
    let peers = status.members.iter().filter(|member| member.name != status.name);
    let reachable = peers.map(|member| (member.name.as_str(), u64::from(member.reachable)));
    let help = "Whether this node has a stream to the member that the member has accepted";
    page.gauges("quorate_peer_reachable", help, "peer", reachable)?;
    let dropped = status.dropped_messages.iter().map(|(reason, count)| (reason.as_str(), *count));
    let dropped = dropped.chain([(BACKLOGGED, status.work.backlogged_messages)]);
    page.counters("quorate_peer_messages_dropped", "Messages of peers that were dropped, by why", "reason", dropped)
}

impl InboxGauges {
    pub(super) fn new(inbox: Inbox) -> Self {
        Self { inbox }
    }
}

impl Collector for InboxGauges {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let waiting = self.inbox.waiting().map(|(lane, count)| (lane, count as u64));
        let help = "Messages of peers that wait for the node's loop";
        Page::new(encoder).gauges("quorate_loop_messages_waiting", help, "lane", waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::chronicle::Chronicle;
    use super::*;
    use crate::node::{MemberStatus, PeerStatus, Work};
    use crate::telemetry::{Metrics, TextFormat};
    use tokio::sync::{mpsc, watch};

    fn member(name: &str, reachable: bool) -> MemberStatus {
        MemberStatus {
            name: name.to_owned(),
            incarnation: 1,
            peer_address: String::new(),
            client_address: None,
            voter: true,
            reachable,
        }
    }

    #[test]
    fn the_state_of_a_leader_is_told() {
        let behind =
            PeerStatus { name: "n2".to_owned(), match_index: 40, next_index: 41, state: "replicate", active: true };
        let status = NodeStatus {
            name: "n1".to_owned(),
            role: Role::Leader,
            last_index: 100,
            peers: vec![behind],
            members: vec![member("n1", true), member("n2", false)],
            dropped_messages: [("malformed".to_owned(), 2)].into(),
            work: Work { holds_lease: true, ..Work::default() },
            ..NodeStatus::default()
        };
        let (_status, published) = watch::channel(status);
        let (requests, _waiting) = mpsc::channel(4);
        let metrics = Metrics::default();
        metrics.collect(NodeGauges::new(NodeHandle::new(requests, published, Chronicle::default())));
        let text = metrics.text(TextFormat::Classic);
        for line in [
            "quorate_role{role=\"leader\"} 1\n",
            "quorate_role{role=\"follower\"} 0\n",
            "quorate_voters 2\n",
            "quorate_replication_lag_entries{peer=\"n2\"} 60\n",
            "quorate_peer_reachable{peer=\"n2\"} 0\n",
            "quorate_peer_messages_dropped_total{reason=\"malformed\"} 2\n",
            "quorate_peer_messages_dropped_total{reason=\"disk_backlog\"} 0\n",
            "quorate_lease_held 1\n",
            "quorate_loop_requests_waiting 0\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("peer=\"n1\""), "a node is no peer of its own");
    }

    #[tokio::test]
    async fn messages_are_told_by_lane() {
        use crate::transport::{Inbound, Lane};
        let (inbox, _receivers) = Inbox::new();
        let metrics = Metrics::default();
        metrics.collect(InboxGauges::new(inbox.clone()));
        assert!(inbox.put(Lane::SideRequests, Inbound::Dropped("a test")).await);
        let text = metrics.text(TextFormat::Classic);
        assert!(text.contains("{lane=\"side\"} 1\n") && text.contains("{lane=\"append\"} 0\n"), "{text}");
    }
}
