//! The server side of the links: the raft.v1 service.
//!
//! A stream is accepted only from a member of our cluster that means to speak to this incarnation of us. What arrives
//! on it is attributed to that member; the core judges the rest.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use engine::identity::Cluster;
use proto::raft::v1::raft_service_server::{RaftService, RaftServiceServer};
use proto::raft::v1::{
    AppendEntriesRequest, AppendEntriesResponse, ControlRequest, ControlResponse, ForwardRequest, ForwardResponse,
    IdentifyRequest, IdentifyResponse, InspectRequest, InspectResponse, ReadReplicaRequest, ReadReplicaResponse,
    SideRequest, SideResponse,
};
use raft::NodeId;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::debug;

use super::convert::{append_request, control_request_message};
use super::identify::{Board, answer, introduction};
use super::inbox::{Inbound, Inbox};
use super::link::{Lane, Link, Links, Slot};
use super::replica::replica_request;
use super::side::side_request;
use super::{CLUSTER_ID_KEY, FROM_KEY, MESSAGE_BYTES_MAX, REFUSED_KEY, TO_KEY};
use crate::forward::ForwardTarget;
use crate::{grpc_timeout, telemetry};

/// A forwarded request without a deadline gets this one; our own nodes always send one.
const FORWARD_DEADLINE_DEFAULT: Duration = Duration::from_secs(5);

/// A frame was no message at all.
const UNDECODABLE: &str = "undecodable";

/// What the service needs once the node is a member of a cluster.
pub struct ServiceParts {
    /// The cluster.
    pub cluster: Cluster,
    /// This node.
    pub own: NodeId,
    /// The lanes to the peers, on which answers leave.
    pub links: Links,
    /// Where arrivals go.
    pub inbox: Inbox,
}

/// The raft.v1 service. It introduces itself from the start, and takes part once [`PeerService::join`] was called.
#[derive(Clone)]
pub struct PeerService {
    board: Board,
    target: Arc<dyn ForwardTarget>,
    parts: Arc<OnceLock<ServiceParts>>,
}

impl PeerService {
    /// A service that only introduces itself yet.
    pub fn new(board: Board, target: Arc<dyn ForwardTarget>) -> Self {
        Self { board, target, parts: Arc::new(OnceLock::new()) }
    }

    /// Takes part from now on.
    ///
    /// # Panics
    ///
    /// A node joins once.
    pub fn join(&self, parts: ServiceParts) {
        assert!(self.parts.set(parts).is_ok(), "a node joins its cluster once");
    }

    /// The service as tonic serves it.
    pub fn into_server(self) -> RaftServiceServer<Self> {
        RaftServiceServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Checks who opened a stream, and for whom.
    // A status is large, and is what the callers return.
    #[allow(clippy::result_large_err)]
    fn admit(&self, metadata: &MetadataMap) -> Result<(&ServiceParts, NodeId), Status> {
        let refuse = |code, what| Err(refusal(code, what));
        let Some(parts) = self.parts.get() else {
            return refuse(Code::Unavailable, "this node is not a member of a cluster yet");
        };
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        let cluster_id = text(CLUSTER_ID_KEY).and_then(|id| u128::from_str_radix(id, 16).ok());
        if cluster_id != Some(u128::from_be_bytes(parts.cluster.id())) {
            return refuse(Code::FailedPrecondition, "the stream is another cluster's");
        }
        let node = |key: &str| text(key).and_then(|id| u64::from_str_radix(id, 16).ok()).and_then(NodeId::new);
        if node(TO_KEY) != Some(parts.own) {
            return refuse(Code::FailedPrecondition, "the stream is for another incarnation of this node");
        }
        match node(FROM_KEY) {
            Some(from) if from != parts.own && parts.links.get(from).is_some() => Ok((parts, from)),
            _ => refuse(Code::FailedPrecondition, "the stream's sender is not a peer of this node"),
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RaftService for PeerService {
    async fn identify(&self, request: Request<IdentifyRequest>) -> Result<Response<IdentifyResponse>, Status> {
        let own = self.board.own();
        let request = request.into_inner();
        let Some(other) = introduction(request.member, request.cluster, request.client_address) else {
            return Err(Status::invalid_argument("the introduction makes no sense"));
        };
        let known = own.identity.cluster.as_ref().and_then(|cluster| cluster.member(&other.identity.member.name));
        if known == Some(&other.identity.member) {
            self.board.remember(&other);
        }
        Ok(Response::new(answer(&own)))
    }

    type AppendEntriesStream = Answers<AppendEntriesResponse>;

    async fn append_entries(
        &self,
        request: Request<Streaming<AppendEntriesRequest>>,
    ) -> Result<Response<Self::AppendEntriesStream>, Status> {
        let (parts, from) = self.admit(request.metadata())?;
        let (reader, answers) = Reader::open(parts, from, Lane::AppendRequests, |link| &link.append_responses)?;
        let own = parts.own;
        tokio::spawn(
            reader.read(request.into_inner(), move |request| Inbound::of_traced(append_request(from, own, request))),
        );
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    type ControlStream = Answers<ControlResponse>;

    async fn control(
        &self,
        request: Request<Streaming<ControlRequest>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let (parts, from) = self.admit(request.metadata())?;
        let (reader, answers) = Reader::open(parts, from, Lane::ControlRequests, |link| &link.control_responses)?;
        let own = parts.own;
        tokio::spawn(reader.read(request.into_inner(), move |request| {
            Inbound::of_traced(control_request_message(from, own, request))
        }));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    type ReadReplicaStream = Answers<ReadReplicaResponse>;

    async fn read_replica(
        &self,
        request: Request<Streaming<ReadReplicaRequest>>,
    ) -> Result<Response<Self::ReadReplicaStream>, Status> {
        let (parts, from) = self.admit(request.metadata())?;
        let (reader, answers) = Reader::open(parts, from, Lane::ReplicaRequests, |link| &link.replica_responses)?;
        let own = parts.own;
        tokio::spawn(
            reader.read(request.into_inner(), move |request| Inbound::of_replica(replica_request(from, own, request))),
        );
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    type SideStream = Answers<SideResponse>;

    async fn side(&self, request: Request<Streaming<SideRequest>>) -> Result<Response<Self::SideStream>, Status> {
        let (parts, from) = self.admit(request.metadata())?;
        let (reader, answers) = Reader::open(parts, from, Lane::SideRequests, |link| &link.side_responses)?;
        let own = parts.own;
        tokio::spawn(
            reader.read(request.into_inner(), move |request| Inbound::of_side(side_request(from, own, request))),
        );
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn forward(&self, request: Request<ForwardRequest>) -> Result<Response<ForwardResponse>, Status> {
        self.admit(request.metadata())?;
        let timeout = grpc_timeout::of_metadata(request.metadata())
            .map_err(|_| refusal(Code::InvalidArgument, "the deadline is not one"))?;
        let deadline = Instant::now() + timeout.unwrap_or(FORWARD_DEADLINE_DEFAULT);
        let trace = telemetry::extract(request.metadata());
        self.target.run_forwarded(request.into_inner(), deadline, trace).await.map(Response::new)
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        self.admit(request.metadata())?;
        self.target.inspect(request.into_inner()).await.map(Response::new)
    }
}

/// Says that nothing of a call was run, and why.
fn refusal(code: Code, what: &str) -> Status {
    debug!(what, "a peer's call was refused");
    let mut refusal = Status::new(code, what);
    refusal.metadata_mut().insert(REFUSED_KEY, MetadataValue::from_static("true"));
    refusal
}

/// What ended a stream, if it was bytes that are no message: the library's status for it. A connection that broke is no
/// fault of the peer's, and is found by the peer.
fn undecodable<T>(end: Result<Option<T>, Status>) -> Option<Status> {
    let status = end.err()?;
    let at_fault = matches!(status.code(), Code::Internal | Code::OutOfRange | Code::ResourceExhausted);
    at_fault.then_some(status)
}

/// Reads one stream that a peer opened, for as long as the lane of its answers is its own: a stream that the peer has
/// replaced by another is not read any more.
struct Reader<A: 'static> {
    from: NodeId,
    requests_lane: Lane,
    answers_lane: fn(&Link) -> &Slot<Result<A, Status>>,
    sender: mpsc::Sender<Result<A, Status>>,
    links: Links,
    inbox: Inbox,
}

impl<A> Reader<A> {
    /// Opens the lane of the answers, closing the stream that it had before.
    // A status is large, and is what the callers return.
    #[allow(clippy::result_large_err)]
    fn open(
        parts: &ServiceParts,
        from: NodeId,
        requests_lane: Lane,
        answers_lane: fn(&Link) -> &Slot<Result<A, Status>>,
    ) -> Result<(Self, mpsc::Receiver<Result<A, Status>>), Status> {
        let link = parts.links.get(from).ok_or_else(|| Status::internal("an admitted peer has a link"))?;
        let (sender, answers) = answers_lane(link).open_both();
        let (links, inbox) = (parts.links.clone(), parts.inbox.clone());
        Ok((Self { from, requests_lane, answers_lane, sender, links, inbox }, answers))
    }

    async fn read<Q>(self, mut requests: Streaming<Q>, to_inbound: impl Fn(Q) -> Inbound) {
        let Some(link) = self.links.get(self.from) else { return };
        let lane = (self.answers_lane)(link);
        while lane.is_of(&self.sender) {
            let inbound = match requests.message().await {
                Ok(Some(request)) => to_inbound(request),
                end => {
                    if let Some(status) = undecodable(end) {
                        self.inbox.put(self.requests_lane, Inbound::Dropped(UNDECODABLE)).await;
                        // Without room the peer is not reading either: the stream's end has to be enough.
                        let _ = self.sender.try_send(Err(status));
                    }
                    break;
                }
            };
            if !self.inbox.put(self.requests_lane, inbound).await {
                break;
            }
        }
        lane.close_of(&self.sender);
    }
}
