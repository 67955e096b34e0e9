//! What a node tells of itself to those who look at it: its report, as admin.v1 has it, and its part of a trace.

use std::sync::Arc;

use proto::admin::v1::{
    AnsweredRequests, DurationBucket, GetReportRequest, GetReportResponse, GetTraceRequest, GetTraceResponse,
    NodeEvent as WireEvent, NodeEventKind as WireKind,
};

use super::admin_service::status_response;
use super::error::ApiError;
use super::node::Node;
use super::spans::{slow_request, wire_spans};
use super::validate::Violation;
use crate::node::{MemberStatus, NodeEvent, NodeEventKind};
use crate::telemetry::{self, AnsweredSoFar, Metrics};

/// Tells how a node is.
pub(super) struct Reporter<N> {
    /// The node's name.
    pub(super) name: String,
    node: N,
    metrics: Arc<Metrics>,
    /// A number that no other process has.
    process: u64,
}

impl<N: Node> Reporter<N> {
    pub(super) fn new(name: String, node: N, metrics: Arc<Metrics>) -> Self {
        Self { name, node, metrics, process: rand::random() }
    }

    /// The node's report.
    pub(super) async fn report(&self, request: &GetReportRequest) -> GetReportResponse {
        let status = self.node.fresh_status().await;
        let events = self.node.events();
        let max = usize::try_from(request.slow_requests).unwrap_or(usize::MAX);
        let slowest = telemetry::slowest(max).into_iter();
        GetReportResponse {
            process: self.process,
            events: events.into_iter().map(|event| wire_event(event, &status.members)).collect(),
            answered_requests: self.metrics.requests.answered_so_far().into_iter().map(wire_answered).collect(),
            slow_requests: slowest.map(|slow| slow_request(&self.name, slow)).collect(),
            status: Some(status_response(status)),
        }
    }

    /// What the node remembers of a trace.
    pub(super) fn trace(&self, request: &GetTraceRequest) -> Result<GetTraceResponse, ApiError> {
        let id = &request.trace_id[..];
        let id = id.try_into().map_err(|_| Violation::TraceIdLength { actual_bytes: id.len() })?;
        let spans = telemetry::kept_trace(id).map(|trace| wire_spans(&self.name, trace));
        Ok(GetTraceResponse { spans: spans.unwrap_or_default() })
    }
}

fn wire_event(event: NodeEvent, members: &[MemberStatus]) -> WireEvent {
    let NodeEvent { number, time_unix_ms, kind, term, index, peer, count } = event;
    // A node that is outside of its cluster by now does not know its members.
    let name = |peer: u64| {
        let member = members.iter().find(|member| member.incarnation == peer);
        member.map_or_else(|| format!("{peer:016x}"), |member| member.name.clone())
    };
    let peer = peer.map(name).unwrap_or_default();
    WireEvent { number, time_unix_ms, kind: wire_kind(kind).into(), term, index, peer, count }
}

fn wire_kind(kind: NodeEventKind) -> WireKind {
    match kind {
        NodeEventKind::PreCampaign => WireKind::PreCampaign,
        NodeEventKind::Campaign => WireKind::Campaign,
        NodeEventKind::PreVoteGranted => WireKind::PreVoteGranted,
        NodeEventKind::PreVoteRefused => WireKind::PreVoteRefused,
        NodeEventKind::VoteGranted => WireKind::VoteGranted,
        NodeEventKind::VoteRefused => WireKind::VoteRefused,
        NodeEventKind::BecameLeader => WireKind::BecameLeader,
        NodeEventKind::BecameFollower => WireKind::BecameFollower,
        NodeEventKind::LeaderGone => WireKind::LeaderGone,
        NodeEventKind::QuorumLost => WireKind::QuorumLost,
        NodeEventKind::DiskStalled => WireKind::DiskStalled,
        NodeEventKind::TransferStarted => WireKind::TransferStarted,
        NodeEventKind::TransferAborted => WireKind::TransferAborted,
        NodeEventKind::Truncated => WireKind::Truncated,
        NodeEventKind::Installed => WireKind::Installed,
        NodeEventKind::SnapshotTaken => WireKind::SnapshotTaken,
        NodeEventKind::Recovered => WireKind::Recovered,
    }
}

fn wire_answered(answered: AnsweredSoFar) -> AnsweredRequests {
    let AnsweredSoFar { method, consistency, code, sum_seconds, buckets } = answered;
    AnsweredRequests {
        method: method.to_owned(),
        consistency: consistency.to_owned(),
        code: code.to_owned(),
        count: buckets.iter().map(|(_, count)| count).sum(),
        sum_seconds,
        buckets: buckets.into_iter().map(|(bound_seconds, count)| DurationBucket { bound_seconds, count }).collect(),
    }
}
