//! The admin.v1 service.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::admin::v1::admin_service_server::AdminService;
use proto::admin::v1::{
    ListMembersRequest, ListMembersResponse, Member, PeerProgress, Role as WireRole, StatusRequest, StatusResponse,
    TransferLeadershipRequest, TransferLeadershipResponse,
};
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use super::deadline::{self, Arrival};
use super::drain::Drain;
use super::error::{ApiError, CallKind};
use super::leader::LeaderHint;
use super::node::Node;
use crate::node::{MemberStatus, NodeStatus, PeerStatus, Role};
use crate::telemetry::{self, RequestSpan};

/// The admin.v1 service of a node.
pub(super) struct AdminApi<N> {
    pub(super) node: N,
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

    fn finish<T>(&self, span: RequestSpan, result: Result<T, ApiError>) -> Result<Response<T>, Status> {
        match result {
            Ok(message) => {
                span.end(Code::Ok);
                Ok(Response::new(message))
            }
            Err(error) => {
                let mut status = error.to_status(CallKind::Other);
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
}

/// A node's status as admin.v1 has it. Each field is named, so that a new one is not forgotten.
fn status_response(status: NodeStatus) -> StatusResponse {
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
