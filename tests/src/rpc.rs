//! gRPC calls to one node, and what an error says. Raw clients on purpose: the tests look at statuses that a client
//! library would hide.

use proto::{
    admin::v1::{StatusRequest, StatusResponse, admin_service_client::AdminServiceClient},
    kv::v1::{
        DeleteRequest, DeleteResponse, GetOutcomeRequest, GetOutcomeResponse, GetRequest, GetResponse, PutMode,
        PutRequest, PutResponse, RequestId, kv_service_client::KvServiceClient,
    },
};
use std::{collections::HashMap, future::Future, net::SocketAddr, time::Duration};
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

/// How long a call waits for its answer before the client gives up. Longer than any deadline of the server, so that the
/// server's own typed error is seen; a paused node never answers.
const CALL_BOUND: Duration = Duration::from_secs(15);

/// How long connecting may take; a paused node's kernel still accepts.
const CONNECT_BOUND: Duration = Duration::from_secs(5);

/// A connection to `address`, made when it is first used and again after it was lost.
pub fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address makes a valid URI")
        .connect_timeout(CONNECT_BOUND)
        .tcp_nodelay(true)
        .connect_lazy()
}

/// Waits for a call's answer, a bounded time. `DEADLINE_EXCEEDED` without an `ErrorInfo` if there was none, which like
/// every library status says nothing about the outcome.
pub async fn bounded<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL_BOUND, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the test gave up waiting")),
    }
}

/// A create-only put request.
pub fn put_request(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned(),
        value: value.to_owned().into(),
        mode: PutMode::Unspecified.into(),
        expected_revision: None,
        request_id: None,
    }
}

/// A get request.
pub fn get_request(key: &str) -> GetRequest {
    GetRequest { key: key.to_owned(), ..GetRequest::default() }
}

/// A delete request without conditions.
pub fn delete_request(key: &str) -> DeleteRequest {
    DeleteRequest { key: key.to_owned(), ..DeleteRequest::default() }
}

/// The name of a write: its session, which is all bytes `session`, and its number in it. The session is as old as the
/// cluster, and nothing is acknowledged.
pub fn request_id(session: u8, sequence: u64) -> RequestId {
    RequestId { session: vec![session; 16].into(), opened_at_ms: 0, sequence, acknowledged_below: 0 }
}

/// A put of `request`, which may have a request id.
pub async fn put_with(channel: &Channel, request: PutRequest) -> Result<PutResponse, Status> {
    bounded(KvServiceClient::new(channel.clone()).put(request)).await
}

/// What became of a write.
pub async fn get_outcome(channel: &Channel, id: RequestId) -> Result<GetOutcomeResponse, Status> {
    let request = GetOutcomeRequest { request_id: Some(id) };
    bounded(KvServiceClient::new(channel.clone()).get_outcome(request)).await
}

/// A client of the store's service.
pub fn kv(channel: &Channel) -> KvServiceClient<Channel> {
    KvServiceClient::new(channel.clone())
}

/// A create-only put.
pub async fn put(channel: &Channel, key: &str, value: &str) -> Result<PutResponse, Status> {
    bounded(KvServiceClient::new(channel.clone()).put(put_request(key, value))).await
}

/// A linearizable get.
pub async fn get(channel: &Channel, key: &str) -> Result<GetResponse, Status> {
    bounded(KvServiceClient::new(channel.clone()).get(get_request(key))).await
}

/// A linearizable get of a value that is text.
pub async fn get_text(channel: &Channel, key: &str) -> Result<String, Status> {
    let kv = get(channel, key).await?.kv.expect("an answer to a get carries the key");
    Ok(String::from_utf8_lossy(&kv.value).into_owned())
}

/// An unconditional delete.
pub async fn delete(channel: &Channel, key: &str) -> Result<DeleteResponse, Status> {
    bounded(KvServiceClient::new(channel.clone()).delete(delete_request(key))).await
}

/// The asked node's status.
pub async fn status(channel: &Channel) -> Result<StatusResponse, Status> {
    bounded(AdminServiceClient::new(channel.clone()).status(StatusRequest {})).await
}

/// What became of a write that was answered with an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was not applied and never will be.
    NotApplied,
    /// It may have been, or may still be.
    Unknown,
}

/// Everything that an error says.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The gRPC status code.
    pub code: Code,
    /// The status message.
    pub message: String,
    /// The reason in the `ErrorInfo`; `None` for a library's status, which carries none.
    pub reason: Option<String>,
    /// The domain in the `ErrorInfo`, or empty.
    pub domain: String,
    /// The metadata of the `ErrorInfo`.
    pub metadata: HashMap<String, String>,
    /// The trailer `kv-outcome`.
    pub trailer: Option<String>,
}

impl Failure {
    /// Takes a status apart.
    pub fn of(status: &Status) -> Failure {
        let info = status.get_details_error_info();
        let trailer = status.metadata().get("kv-outcome").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Failure {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.as_ref().map(|info| info.reason.clone()),
            domain: info.as_ref().map(|info| info.domain.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata).unwrap_or_default(),
            trailer,
        }
    }

    /// What the error says about a write; a status without an `ErrorInfo` says nothing, so the outcome is unknown.
    pub fn outcome(&self) -> Outcome {
        match self.metadata.get("outcome").map(String::as_str) {
            Some("NOT_APPLIED") => Outcome::NotApplied,
            _ => Outcome::Unknown,
        }
    }

    /// Panics unless this is an error of ours with this code and reason.
    pub fn expect(&self, code: Code, reason: &str) {
        let found = (self.code, self.reason.as_deref(), self.domain.as_str());
        assert_eq!(found, (code, Some(reason), "quorate"), "{self:?}");
    }

    /// Panics unless the error of a write says its outcome, in the `ErrorInfo` and in the trailer alike, and says
    /// `outcome`.
    pub fn expect_outcome(&self, outcome: Outcome) {
        let (label, trailer) = match outcome {
            Outcome::NotApplied => ("NOT_APPLIED", "not-applied"),
            Outcome::Unknown => ("UNKNOWN", "unknown"),
        };
        assert_eq!(self.metadata.get("outcome").map(String::as_str), Some(label), "{self:?}");
        assert_eq!(self.trailer.as_deref(), Some(trailer), "{self:?}");
    }
}

/// The failure of a call that must fail.
#[track_caller]
pub fn failure<T: std::fmt::Debug>(answer: Result<T, Status>) -> Failure {
    match answer {
        Ok(response) => panic!("the call succeeded: {response:?}"),
        Err(status) => Failure::of(&status),
    }
}
