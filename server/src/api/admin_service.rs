//! The admin.v1 service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::kv;
use proto::admin::v1::admin_service_server::AdminService;
use proto::admin::v1::{
    GetLogFilterRequest, GetLogFilterResponse, GetReportRequest, GetReportResponse, GetTraceRequest, GetTraceResponse,
    ListMembersRequest, ListMembersResponse, ListSlowRequestsRequest, ListSlowRequestsResponse, Member, PeerProgress,
    Role as WireRole, Settings, StatusRequest, StatusResponse, TransferLeadershipRequest, TransferLeadershipResponse,
    UpdateLogFilterRequest, UpdateLogFilterResponse, UpdateSettingsRequest, UpdateSettingsResponse,
};
use proto::kv::v1::RequestId;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use super::deadline::{self, Arrival};
use super::drain::Drain;
use super::error::{ApiError, CallKind};
use super::leader::LeaderHint;
use super::limits::LOG_FILTER_BYTES_MAX;
use super::node::Node;
use super::report::Reporter;
use super::spans::slow_request;
use super::validate::{self, Violation};
use crate::node::{MemberStatus, NodeStatus, PeerStatus, RequestContext, Role, WriteResult};
use crate::telemetry::{self, LogFilters, RequestSpan};

/// The admin.v1 service of a node.
pub(super) struct AdminApi<N> {
    /// The node's name.
    pub(super) name: String,
    pub(super) node: N,
    pub(super) reporter: Arc<Reporter<N>>,
    pub(super) status: watch::Receiver<NodeStatus>,
    pub(super) leader: LeaderHint,
    pub(super) drain: Drain,
    /// How long a request may take whose client sets no deadline.
    pub(super) request_timeout: Duration,
}

impl<N: Node> AdminApi<N> {
    async fn transfer(
        &self,
        (arrival, metadata): (Arrival, &MetadataMap),
        target: String,
    ) -> Result<TransferLeadershipResponse, ApiError> {
        let deadline = deadline::of_request(metadata, self.request_timeout, arrival, Instant::now())?;
        if self.drain.is_draining() {
            return Err(ApiError::Draining);
        }
        let target = (!target.is_empty()).then_some(target);
        let (leader, term) = self.node.transfer_leadership(target, deadline).await?;
        Ok(TransferLeadershipResponse { leader_name: leader.name, term })
    }

    /// Changes settings, through the log like any write.
    async fn update(
        &self,
        (arrival, metadata): (Arrival, &MetadataMap),
        request: UpdateSettingsRequest,
        span: &RequestSpan,
    ) -> Result<UpdateSettingsResponse, ApiError> {
        let deadline = deadline::of_request(metadata, self.request_timeout, arrival, Instant::now())?;
        let request = validate::update_settings(request)?;
        if self.drain.is_draining() {
            return Err(ApiError::Draining);
        }
        let context = RequestContext { deadline, trace: span.context() };
        let WriteResult { applied, time_ms, revision: _ } = self.node.write(request, context).await?;
        match applied {
            kv::Applied::Configured { settings } => {
                Ok(UpdateSettingsResponse { settings: Some(wire_settings(settings)), time_ms })
            }
            kv::Applied::Refused(refusal) => Err(refusal.into()),
            kv::Applied::Put { .. }
            | kv::Applied::Deleted { .. }
            | kv::Applied::Rejected(_)
            | kv::Applied::Settled(_) => unreachable!("a change of settings has no condition and is about no key"),
        }
    }

    fn finish<T>(&self, span: RequestSpan, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        self.finish_of(CallKind::Other, None, span, result)
    }

    /// The end of a call of this kind, with this request id.
    fn finish_of<T>(
        &self,
        kind: CallKind,
        id: Option<&RequestId>,
        span: RequestSpan,
        result: Result<T, ApiError>,
    ) -> Result<Response<T>, Status> {
        match result {
            Ok(message) => {
                span.end(Code::Ok);
                Ok(Response::new(message))
            }
            Err(error) => {
                let mut status = error.to_status_of(kind, id);
                span.end(status.code());
                self.leader.add_to(status.metadata_mut());
                Err(status)
            }
        }
    }
}

#[tonic::async_trait]
impl<N: Node> AdminService for AdminApi<N> {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let span = telemetry::server_span(request.metadata(), "admin.v1.AdminService/Status");
        let status = self.node.fresh_status().await;
        self.finish(span, Ok(status_response(status)))
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let span = telemetry::server_span(request.metadata(), "admin.v1.AdminService/ListMembers");
        let members = self.status.borrow().members.clone();
        self.finish(span, Ok(ListMembersResponse { members: members.into_iter().map(member).collect() }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        let span = telemetry::server_span(request.metadata(), "admin.v1.AdminService/TransferLeadership");
        let (metadata, extensions, message) = request.into_parts();
        let result = self.transfer((Arrival::of(&extensions), &metadata), message.target).await;
        self.finish(span, result)
    }

    async fn update_settings(
        &self,
        request: Request<UpdateSettingsRequest>,
    ) -> Result<Response<UpdateSettingsResponse>, Status> {
        let span = telemetry::server_span(request.metadata(), "admin.v1.AdminService/UpdateSettings");
        let (metadata, extensions, message) = request.into_parts();
        let id = message.request_id.clone();
        let result = self.update((Arrival::of(&extensions), &metadata), message, &span).await;
        self.finish_of(CallKind::Write, id.as_ref(), span, result)
    }

    // These three are not traced themselves: whoever looks at traces would look at the looking.

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Result<Response<GetTraceResponse>, Status> {
        self.finish(RequestSpan::NONE, self.reporter.trace(request.get_ref()))
    }

    async fn list_slow_requests(
        &self,
        request: Request<ListSlowRequestsRequest>,
    ) -> Result<Response<ListSlowRequestsResponse>, Status> {
        let max = match request.get_ref().limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let requests = telemetry::slowest(max).into_iter().map(|slow| slow_request(&self.name, slow)).collect();
        self.finish(RequestSpan::NONE, Ok(ListSlowRequestsResponse { requests }))
    }

    async fn get_report(&self, request: Request<GetReportRequest>) -> Result<Response<GetReportResponse>, Status> {
        let report = self.reporter.report(request.get_ref()).await;
        self.finish(RequestSpan::NONE, Ok(report))
    }

    async fn get_log_filter(
        &self,
        request: Request<GetLogFilterRequest>,
    ) -> Result<Response<GetLogFilterResponse>, Status> {
        let span = telemetry::server_span(request.metadata(), "admin.v1.AdminService/GetLogFilter");
        let response = telemetry::log_filters()
            .map(|LogFilters { now, configured }| GetLogFilterResponse { filter: now, configured_filter: configured });
        self.finish(span, Ok(response.unwrap_or_default()))
    }

    async fn update_log_filter(
        &self,
        request: Request<UpdateLogFilterRequest>,
    ) -> Result<Response<UpdateLogFilterResponse>, Status> {
        let span = telemetry::server_span(request.metadata(), "admin.v1.AdminService/UpdateLogFilter");
        let updated = update_log_filter(&request.get_ref().filter).map_err(ApiError::from);
        self.finish(span, updated)
    }
}

fn update_log_filter(filter: &str) -> Result<UpdateLogFilterResponse, Violation> {
    if filter.len() > LOG_FILTER_BYTES_MAX {
        return Err(Violation::LogFilterTooLong { actual_bytes: filter.len() });
    }
    let (previous_filter, filter) = telemetry::update_log_filter(filter)
        .map_err(|error| Violation::LogFilterInvalid { cause: error.to_string() })?;
    Ok(UpdateLogFilterResponse { filter, previous_filter })
}

/// A node's status as admin.v1 has it. Each field is named, so that a new one is not forgotten.
pub(super) fn status_response(status: NodeStatus) -> StatusResponse {
    let NodeStatus {
        name,
        incarnation,
        cluster_id,
        role,
        term,
        leader,
        last_index,
        durable_index,
        commit_index,
        applied_index,
        revision,
        key_count,
        settings,
        session_count,
        time_ms,
        state_hash,
        not_ready,
        peers,
        members: _,
        dropped_messages,
        first_index,
        snapshot_index,
        snapshot_bytes,
        log_bytes_since_snapshot,
        storage_full,
        recovering,
        work: _,
    } = status;
    let (leader_name, leader_address) =
        leader.map(|leader| (leader.name, leader.client_address.unwrap_or_default())).unwrap_or_default();
    StatusResponse {
        name,
        incarnation,
        cluster_id: cluster_id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id)),
        role: wire_role(role).into(),
        term,
        leader_name,
        leader_address,
        last_index,
        durable_index,
        commit_index,
        applied_index,
        revision,
        key_count,
        settings: Some(wire_settings(settings)),
        session_count,
        time_ms,
        state_hash: Bytes::copy_from_slice(&state_hash.to_be_bytes()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: not_ready.is_none(),
        not_ready_reason: not_ready.unwrap_or_default(),
        peers: peers.into_iter().map(peer_progress).collect(),
        dropped_messages: dropped_messages.into_iter().collect(),
        first_index,
        snapshot_index,
        snapshot_bytes,
        log_bytes_since_snapshot,
        storage_full,
        recovering,
    }
}

fn wire_settings(settings: kv::Settings) -> Settings {
    let kv::Settings { lease_reads } = settings;
    Settings { lease_reads }
}

fn wire_role(role: Role) -> WireRole {
    match role {
        Role::Outside => WireRole::Outside,
        Role::Follower => WireRole::Follower,
        Role::PreCandidate => WireRole::PreCandidate,
        Role::Candidate => WireRole::Candidate,
        Role::Leader => WireRole::Leader,
    }
}

fn peer_progress(peer: PeerStatus) -> PeerProgress {
    let PeerStatus { name, match_index, next_index, state, active } = peer;
    PeerProgress { name, match_index, next_index, state: state.to_owned(), active }
}

fn member(member: MemberStatus) -> Member {
    let MemberStatus { name, incarnation, peer_address, client_address, voter, reachable: _ } = member;
    Member { name, incarnation, peer_address, client_address: client_address.unwrap_or_default(), voter }
}
