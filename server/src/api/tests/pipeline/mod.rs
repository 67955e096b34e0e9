//! Streams of many requests, over a real connection, to a node whose answers the tests give.

mod bounds;
mod overload;
mod requests;
mod roads;
mod stale;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::kv::{self, Revision};
use proto::kv::v1::kv_service_client::KvServiceClient;
use proto::kv::v1::pipelined_request::Request;
use proto::kv::v1::pipelined_response::Response;
use proto::kv::v1::{
    GetRequest, PipelineRequest, PipelineResponse, PipelinedError, PipelinedRequest, PipelinedResponse, PutRequest,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::{ErrorInfo, StatusExt as _};

use super::fake::{Harness, TIME_MS};
use super::services::serve;
use crate::node::{ActionResult, BatchedOperation, Pending, ReadResult, WriteResult};

/// How long a test waits for what has to come.
const BOUND: Duration = Duration::from_secs(30);

/// The value of every key.
const VALUE: &[u8] = &[b'v'; 16 << 10];

/// A client's end of a stream.
struct Stream {
    requests: mpsc::Sender<PipelineRequest>,
    responses: Streaming<PipelineResponse>,
    headers: MetadataMap,
}

impl Stream {
    async fn open(harness: &Harness) -> Self {
        Self::on(serve(harness).await.1).await
    }

    /// One on a connection of its own, so that it does not wait for what another does not read. Little of what is not
    /// read has left the server.
    async fn to(address: SocketAddr) -> Self {
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URI");
        Self::on(endpoint.initial_stream_window_size(64 << 10).connect().await.expect("it listens")).await
    }

    async fn on(channel: Channel) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let response = KvServiceClient::new(channel).pipeline(ReceiverStream::new(receiver)).await.expect("it opens");
        let headers = response.metadata().clone();
        Self { requests, responses: response.into_inner(), headers }
    }

    async fn send(&self, requests: impl IntoIterator<Item = PipelinedRequest>) {
        let frame = PipelineRequest { requests: requests.into_iter().collect() };
        self.requests.send(frame).await.expect("the stream is open");
    }

    /// The client has sent everything.
    fn close(&mut self) {
        self.requests = mpsc::channel(1).0;
    }

    async fn frame(&mut self) -> Result<Option<PipelineResponse>, Status> {
        timeout(BOUND, self.responses.message()).await.expect("it answers in time")
    }

    /// The next `count` answers.
    async fn answers(&mut self, count: usize) -> Vec<PipelinedResponse> {
        let mut answers = Vec::new();
        while answers.len() < count {
            answers.extend(self.frame().await.expect("no error").expect("more answers").responses);
        }
        assert_eq!(answers.len(), count, "{answers:?}");
        answers
    }

    /// The status with which the stream ends; there is nothing before it.
    async fn end(&mut self) -> Status {
        self.frame().await.expect_err("it ends with a status")
    }

    /// The next answer, which is an error.
    async fn error(&mut self) -> (u64, PipelinedError) {
        self.errors(1).await.remove(0)
    }

    /// The next `count` answers, which are errors, by their tags.
    async fn errors(&mut self, count: usize) -> Vec<(u64, PipelinedError)> {
        let error = |PipelinedResponse { tag, response }| match response {
            Some(Response::Error(error)) => (tag, error),
            other => panic!("{other:?} is no error"),
        };
        let mut errors: Vec<_> = self.answers(count).await.into_iter().map(error).collect();
        errors.sort_by_key(|(tag, _)| *tag);
        errors
    }
}

fn put(tag: u64, key: &str) -> PipelinedRequest {
    let put = PutRequest { key: key.to_owned(), value: Bytes::from_static(b"v"), ..PutRequest::default() };
    request(tag, Request::Put(put))
}

fn get(tag: u64, key: &str) -> PipelinedRequest {
    request(tag, Request::Get(GetRequest { key: key.to_owned(), ..GetRequest::default() }))
}

fn request(tag: u64, request: Request) -> PipelinedRequest {
    PipelinedRequest { tag, request: Some(request), ..PipelinedRequest::default() }
}

/// Waits for the next batch, and takes it up.
async fn taken(harness: &Harness) -> (Arc<Pending>, Vec<BatchedOperation>) {
    loop {
        if let Some(batch) = harness.node.0.batches.lock().expect("no panic").pop_front() {
            let (pending, operations) = batch.take();
            return (pending, operations.map(|(_, operation)| operation).collect());
        }
        timeout(BOUND, harness.node.0.handed.notified()).await.expect("the node is asked in time");
    }
}

/// Takes up as many operations as were sent, in however many batches.
async fn take(harness: &Harness, count: usize) -> Vec<(Arc<Pending>, BatchedOperation)> {
    let mut all = Vec::new();
    while all.len() < count {
        let (pending, operations) = taken(harness).await;
        all.extend(operations.into_iter().map(|operation| (Arc::clone(&pending), operation)));
    }
    all
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let holds = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(BOUND, holds).await.unwrap_or_else(|_| panic!("{what} in time"));
}

/// Answers an operation as a node does that finds each key missing before a put and there before a get.
fn succeed((pending, operation): (Arc<Pending>, BatchedOperation)) {
    let BatchedOperation { mark, action, .. } = operation;
    let revision = Revision::new(4);
    let result = match action {
        crate::node::Action::Read(crate::node::Get { key, .. }) => {
            let value = Bytes::from_static(VALUE);
            let kv =
                kv::KeyValue { key: key.clone(), value, create_revision: revision, mod_revision: revision, version: 1 };
            let (kv, served_by) = (Some(kv), "n1".to_owned());
            let result = ReadResult { kv, revision: 4, served_by, time_ms: TIME_MS, age_ms: None };
            ActionResult::Read { key, result: Ok(result) }
        }
        crate::node::Action::Write(request) => {
            let applied = match &request.command {
                kv::Command::Put { .. } => kv::Applied::Put { revision, version: 1 },
                kv::Command::Delete { .. } => kv::Applied::Deleted { revision, previous: None },
                kv::Command::Settle => kv::Applied::Settled(kv::Settled::NeverApplied),
                kv::Command::Configure { .. } => panic!("no request of a stream is one"),
            };
            let key = request.command.key().cloned().unwrap_or_default();
            ActionResult::Written { key, result: Ok(WriteResult { applied, revision: 4, time_ms: TIME_MS }) }
        }
    };
    if pending.answer(mark, result) {
        pending.wake();
    }
}

/// What an error tells programs.
fn told(error: &PipelinedError) -> ErrorInfo {
    let PipelinedError { code, message, details } = error.clone();
    let details = prost::Message::encode_to_vec(&tonic_types::Status { code, message, details });
    let status = Status::with_details(error.code.into(), &error.message, details.into());
    status.get_details_error_info().expect("each of our errors has an ErrorInfo")
}

/// Panics unless an error has this code, reason and outcome; the outcome is empty for what is no write.
fn expect(error: &PipelinedError, code: Code, reason: &str, outcome: &str) {
    let info = told(error);
    assert_eq!(info.domain, "quorate");
    let found = (Code::from(error.code), info.reason.as_str(), info.metadata.get("outcome").map(String::as_str));
    assert_eq!(found, (code, reason, (!outcome.is_empty()).then_some(outcome)));
}
