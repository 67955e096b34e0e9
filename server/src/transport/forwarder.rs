//! Carries clients' requests to other members, on a connection of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::identity::Cluster;
use proto::raft::v1::raft_service_client::RaftServiceClient;
use proto::raft::v1::{ForwardRequest, ForwardResponse, InspectRequest, InspectResponse};
use raft::NodeId;
use tokio::sync::{Mutex, OnceCell};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::connect::connect;
use super::peer::{PeerAddress, hexadecimal};
use super::{CLUSTER_ID_KEY, FROM_KEY, MESSAGE_BYTES_MAX, REFUSED_KEY, TO_KEY};
use crate::causes::chain;
use crate::forward::{ForwardError, Forwarder};
use crate::telemetry::{self, TraceContext};

/// How long a request waits for a connection: longer than making one may take, and no longer, because a leader that
/// cannot be reached is soon replaced by another, or asked by way of another member.
const CONNECTION_WAIT_MAX: Duration = Duration::from_millis(1_200);

/// A connection to a peer, made when it is first needed and again when it was found broken.
#[derive(Default)]
struct Connection {
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    channel: Option<Channel>,
    /// Which one it is, counted from 1.
    number: u64,
}

struct Members {
    cluster_id: [u8; 16],
    own: NodeId,
    peers: BTreeMap<String, (PeerAddress, Connection)>,
}

/// Forwards to the members of the cluster, once there is one.
#[derive(Clone, Default)]
pub struct PeerForwarder {
    members: Arc<OnceCell<Members>>,
}

impl PeerForwarder {
    /// A forwarder that knows no peers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns the peers.
    ///
    /// # Panics
    ///
    /// A node joins once.
    pub fn join(&self, cluster: &Cluster, own: NodeId, peers: Vec<PeerAddress>) {
        let peers = peers.into_iter().map(|peer| (peer.member.name.clone(), (peer, Connection::default()))).collect();
        let members = Members { cluster_id: cluster.id(), own, peers };
        assert!(self.members.set(members).is_ok(), "a node joins its cluster once");
    }

    /// Makes a call to `member` as `send` does it.
    async fn call<Q, A, F>(
        &self,
        member: &str,
        request: Q,
        (deadline, trace): (Instant, Option<&TraceContext>),
        send: impl FnOnce(RaftServiceClient<Channel>, Request<Q>) -> F,
    ) -> Result<A, ForwardError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let not_sent = |cause: String| ForwardError::NotSent { member: member.to_owned(), cause };
        let members = self.members.get().ok_or_else(|| not_sent("this node is not a member yet".to_owned()))?;
        let (peer, connection) = members.peers.get(member).ok_or_else(|| not_sent("it is not a peer".to_owned()))?;
        let until = deadline.min(Instant::now() + CONNECTION_WAIT_MAX);
        let connected = tokio::time::timeout_at(until.into(), connection.get(peer)).await;
        let (channel, number) =
            connected.map_err(|_| not_sent("no connection in time".to_owned()))?.map_err(not_sent)?;
        let request = members.addressed(request, peer, deadline, trace);
        let client = RaftServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        match tokio::time::timeout_at(deadline.into(), send(client, request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                let error = classify(member, status);
                if !matches!(error, ForwardError::Answered(_)) {
                    connection.forget(number);
                }
                Err(error)
            }
            Err(_) => Err(ForwardError::Lost {
                member: member.to_owned(),
                cause: "no answer before the deadline".to_owned(),
                deadline_exceeded: true,
            }),
        }
    }
}

#[tonic::async_trait]
impl Forwarder for PeerForwarder {
    async fn forward(
        &self,
        member: &str,
        request: ForwardRequest,
        deadline: Instant,
        trace: Option<&TraceContext>,
    ) -> Result<ForwardResponse, ForwardError> {
        let send = |mut client: RaftServiceClient<Channel>, request| async move { client.forward(request).await };
        self.call(member, request, (deadline, trace), send).await
    }

    async fn inspect(
        &self,
        member: &str,
        request: InspectRequest,
        deadline: Instant,
    ) -> Result<InspectResponse, ForwardError> {
        let send = |mut client: RaftServiceClient<Channel>, request| async move { client.inspect(request).await };
        self.call(member, request, (deadline, None), send).await
    }
}

impl Members {
    fn addressed<Q>(
        &self,
        message: Q,
        peer: &PeerAddress,
        deadline: Instant,
        trace: Option<&TraceContext>,
    ) -> Request<Q> {
        let mut request = Request::new(message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER_ID_KEY, hexadecimal(format!("{:032x}", u128::from_be_bytes(self.cluster_id))));
        metadata.insert(FROM_KEY, hexadecimal(format!("{:016x}", self.own.get())));
        metadata.insert(TO_KEY, hexadecimal(format!("{:016x}", peer.member.incarnation.get())));
        if let Some(trace) = trace {
            telemetry::inject(trace, metadata);
        }
        request
    }
}

impl Connection {
    /// The connection and its number; made first if there is none.
    async fn get(&self, peer: &PeerAddress) -> Result<(Channel, u64), String> {
        // The lock is held while connecting, so that a burst of requests makes one connection, not one each.
        let mut current = self.current.lock().await;
        if let Some(channel) = &current.channel {
            return Ok((channel.clone(), current.number));
        }
        let channel = connect(&peer.address).await.map_err(|error| chain(&error))?;
        current.channel = Some(channel.clone());
        current.number += 1;
        Ok((channel, current.number))
    }

    /// Drops the connection of this number, which was found broken. Of all the requests that fail with it, only the
    /// first finds it still there.
    fn forget(&self, number: u64) {
        // Whoever holds the lock is connecting, or about to find the same.
        if let Ok(mut current) = self.current.try_lock()
            && current.number == number
        {
            current.channel = None;
        }
    }
}

/// Tells a status that the member sent from one that was made on this side.
///
/// Answers of ours always carry details (`ErrorInfo`), and refusals a mark. A status made by the library on this side
/// carries its cause instead; if that is a connection that could not be made, then nothing was sent.
fn classify(member: &str, status: Status) -> ForwardError {
    if !status.details().is_empty() {
        return ForwardError::Answered(Box::new(status));
    }
    let (member, cause) = (member.to_owned(), status_cause(&status));
    if status.metadata().contains_key(REFUSED_KEY) || failed_to_connect(&status) {
        return ForwardError::NotSent { member, cause };
    }
    // The client's own timer, which fires at the same moment as ours, answers CANCELLED.
    let deadline_exceeded = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
    ForwardError::Lost { member, cause, deadline_exceeded }
}

fn failed_to_connect(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What a status says, without the words in which the library writes one down.
fn status_cause(status: &Status) -> String {
    let cause = std::error::Error::source(status).map_or_else(|| status.message().to_owned(), chain);
    format!("{:?}: {cause}", status.code())
}
