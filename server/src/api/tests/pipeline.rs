//! Streams of many requests, over a real connection, to a node whose answers the tests give.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::kv::{self, Revision};
use proto::kv::v1::kv_service_client::KvServiceClient;
use proto::kv::v1::pipelined_request::Request;
use proto::kv::v1::pipelined_response::Response;
use proto::kv::v1::{
    DeleteRequest, GetOutcomeRequest, GetRequest, PipelineRequest, PipelineResponse, PipelinedError, PipelinedRequest,
    PipelinedResponse, PutRequest, RequestId,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::fake::{Harness, TIME_MS, led_by};
use super::services::serve;
use crate::node::{ActionResult, BatchedOperation, Pending, ReadResult, WriteResult};

/// How long a test waits for what has to come.
const BOUND: Duration = Duration::from_secs(30);

/// A client's end of a stream.
struct Stream {
    requests: mpsc::Sender<PipelineRequest>,
    responses: Streaming<PipelineResponse>,
    headers: MetadataMap,
}

impl Stream {
    async fn open(harness: &Harness) -> Self {
        let (_, channel) = serve(harness).await;
        let (requests, receiver) = mpsc::channel(16);
        let response = KvServiceClient::new(channel).pipeline(ReceiverStream::new(receiver)).await.expect("it opens");
        let headers = response.metadata().clone();
        Self { requests, responses: response.into_inner(), headers }
    }

    async fn send(&self, requests: impl IntoIterator<Item = PipelinedRequest>) {
        let frame = PipelineRequest { requests: requests.into_iter().collect() };
        self.requests.send(frame).await.expect("the stream is open");
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

    /// The next answer, which is an error.
    async fn error(&mut self) -> (u64, PipelinedError) {
        let mut answers = self.answers(1).await;
        let PipelinedResponse { tag, response } = answers.remove(0);
        match response {
            Some(Response::Error(error)) => (tag, error),
            other => panic!("{other:?} is no error"),
        }
    }
}

fn put(tag: u64, key: &str) -> PipelinedRequest {
    let put = PutRequest { key: key.to_owned(), value: Bytes::from_static(b"v"), ..PutRequest::default() };
    request(tag, Request::Put(put))
}

fn get(tag: u64, key: &str) -> PipelinedRequest {
    request(tag, Request::Get(GetRequest { key: key.to_owned(), consistency: 0 }))
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

/// Answers an operation as a node does that finds each key missing before a put and there before a get.
fn succeed((pending, operation): (Arc<Pending>, BatchedOperation)) {
    let BatchedOperation { mark, action, .. } = operation;
    let revision = Revision::new(4);
    let result = match action {
        crate::node::Action::Read { key } => {
            let value = Bytes::from_static(b"v");
            let kv =
                kv::KeyValue { key: key.clone(), value, create_revision: revision, mod_revision: revision, version: 1 };
            let result = ReadResult { kv: Some(kv), revision: 4, served_by: "n1".to_owned(), time_ms: TIME_MS };
            ActionResult::Read { key, result: Ok(result) }
        }
        crate::node::Action::Write(request) => {
            let applied = match &request.command {
                kv::Command::Put { .. } => kv::Applied::Put { revision, version: 1 },
                kv::Command::Delete { .. } => kv::Applied::Deleted { revision, previous: None },
                kv::Command::Settle => kv::Applied::Settled(kv::Settled::NeverApplied),
            };
            let key = request.command.key().cloned().unwrap_or_default();
            ActionResult::Written { key, result: Ok(WriteResult { applied, time_ms: TIME_MS }) }
        }
    };
    if pending.answer(mark, result) {
        pending.wake();
    }
}

/// Code, reason and outcome of an error; the outcome is empty for what is no write.
fn told(error: &PipelinedError) -> (Code, String, String) {
    let status =
        tonic_types::Status { code: error.code, message: error.message.clone(), details: error.details.clone() };
    let details = prost::Message::encode_to_vec(&status).into();
    let status = Status::with_details(error.code.into(), &error.message, details);
    let info = status.get_details_error_info().expect("each of our errors has an ErrorInfo");
    assert_eq!(info.domain, "quorate");
    (status.code(), info.reason, info.metadata.get("outcome").cloned().unwrap_or_default())
}

fn expect(error: &PipelinedError, code: Code, reason: &str, outcome: &str) {
    assert_eq!(told(error), (code, reason.to_owned(), outcome.to_owned()));
}

#[tokio::test]
async fn requests_of_all_kinds_are_answered_in_the_order_in_which_they_end() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    assert_eq!(stream.headers.get("quorate-leader-name").map(|name| name.as_bytes()), Some(&b"n1"[..]));
    let request_id = RequestId { session: vec![1; 16].into(), opened_at_ms: 0, sequence: 1, acknowledged_below: 0 };
    let outcome = GetOutcomeRequest { request_id: Some(request_id) };
    let delete = DeleteRequest { key: "c".to_owned(), ..DeleteRequest::default() };
    let requests = [
        put(7, "a"),
        get(u64::MAX, "b"),
        request(0, Request::Delete(delete)),
        request(9, Request::GetOutcome(outcome)),
    ];
    stream.send(requests).await;
    let mut operations = take(&harness, 4).await;
    operations.reverse();
    for (operation, expected_tag) in operations.into_iter().zip([9, 0, u64::MAX, 7]) {
        succeed(operation);
        let frame = stream.frame().await.expect("no error").expect("an answer");
        // This node leads itself.
        assert_eq!((frame.leader_name.as_str(), frame.leader_address.as_str()), ("", ""));
        let [PipelinedResponse { tag, response: Some(response) }] = &frame.responses[..] else { panic!("{frame:?}") };
        assert_eq!(*tag, expected_tag);
        match (tag, response) {
            (7, Response::Put(response)) => {
                assert_eq!((response.revision, response.version, response.time_ms), (4, 1, TIME_MS));
            }
            (&u64::MAX, Response::Get(response)) => {
                let kv = response.kv.as_ref().expect("it is there");
                assert_eq!((kv.key.as_str(), &kv.value[..], response.served_by.as_str()), ("b", &b"v"[..], "n1"));
            }
            (0, Response::Delete(response)) => assert_eq!(response.revision, 4),
            (9, Response::GetOutcome(response)) => assert!(response.outcome.is_some()),
            other => panic!("{other:?}"),
        }
    }
    drop(stream.requests);
    assert_eq!(timeout(BOUND, stream.responses.message()).await.expect("it ends").expect("well"), None);
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn an_error_ends_its_request_and_not_the_stream() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let nothing = PipelinedRequest { tag: 1, ..PipelinedRequest::default() };
    stream.send([nothing]).await;
    let (tag, error) = stream.error().await;
    assert_eq!(tag, 1);
    expect(&error, Code::InvalidArgument, "REQUEST_MISSING", "NOT_APPLIED");

    // A request that was refused at once leaves its tag free.
    stream.send([put(1, "")]).await;
    expect(&stream.error().await.1, Code::InvalidArgument, "KEY_EMPTY", "NOT_APPLIED");
    stream.send([get(1, "")]).await;
    expect(&stream.error().await.1, Code::InvalidArgument, "KEY_EMPTY", "");

    stream.send([put(1, "a")]).await;
    let (pending, operation) = take(&harness, 1).await.remove(0);
    let rejected = kv::Applied::Rejected(kv::Rejection::KeyExists { mod_revision: Revision::new(3) });
    let result = Ok(WriteResult { applied: rejected, time_ms: TIME_MS });
    assert!(pending.answer(operation.mark, ActionResult::Written { key: Bytes::from_static(b"a"), result }));
    pending.wake();
    let (_, error) = stream.error().await;
    assert_eq!(error.message, "key already exists: a");
    expect(&error, Code::AlreadyExists, "KEY_EXISTS", "NOT_APPLIED");

    stream.send([put(1, "a")]).await;
    succeed(take(&harness, 1).await.remove(0));
    assert!(matches!(stream.answers(1).await[0].response, Some(Response::Put(_))));
    assert!(harness.api.in_flight.is_empty());
}
