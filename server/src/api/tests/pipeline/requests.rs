//! What becomes of each request of a stream.

use std::time::Instant;

use bytes::Bytes;
use engine::kv::{self, Revision};
use proto::kv::v1::pipelined_request::Request;
use proto::kv::v1::pipelined_response::Response;
use proto::kv::v1::{DeleteRequest, GetOutcomeRequest, PipelinedRequest, PipelinedResponse, PutRequest, RequestId};
use tonic::Code;

use super::{Stream, VALUE, expect, get, put, request, succeed, take, taken, told};
use crate::api::error::ApiError;
use crate::api::limits::{Arriving, IN_FLIGHT_UNITS_MAX};
use crate::api::tests::fake::{Harness, TIME_MS, led_by};
use crate::node::{ActionResult, ReadError, Unavailable, WriteError, WriteResult};

fn request_id() -> RequestId {
    RequestId { session: vec![1; 16].into(), opened_at_ms: 0, sequence: 7, acknowledged_below: 0 }
}

#[tokio::test]
async fn requests_of_all_kinds_are_answered_in_the_order_in_which_they_end() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    assert_eq!(stream.headers.get("quorate-leader-name").map(|name| name.as_bytes()), Some(&b"n1"[..]));
    let outcome = GetOutcomeRequest { request_id: Some(request_id()) };
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
                assert_eq!((kv.key.as_str(), &kv.value[..], response.served_by.as_str()), ("b", VALUE, "n1"));
            }
            (0, Response::Delete(response)) => assert_eq!(response.revision, 4),
            (9, Response::GetOutcome(response)) => assert!(response.outcome.is_some()),
            other => panic!("{other:?}"),
        }
    }
    stream.close();
    assert_eq!(stream.frame().await.expect("it ends well"), None);
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
    let result = Ok(WriteResult { applied: rejected, revision: 4, time_ms: TIME_MS });
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

#[tokio::test]
async fn what_the_node_does_not_take_is_told_of_each_request() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    for (refusal, code, reason) in [
        (Unavailable::Overloaded, Code::ResourceExhausted, "OVERLOADED"),
        (Unavailable::Draining, Code::Unavailable, "DRAINING"),
        (Unavailable::NotReady("recovering".to_owned()), Code::Unavailable, "NOT_READY"),
    ] {
        *harness.node.0.refusal.lock().expect("no panic") = Some(refusal);
        stream.send([put(1, "a"), get(2, "b")]).await;
        for ((_, error), outcome) in stream.errors(2).await.into_iter().zip(["NOT_APPLIED", ""]) {
            expect(&error, code, reason, outcome);
        }
    }
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn a_request_for_which_the_node_has_no_room_is_pushed_back_and_the_stream_goes_on() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let now = Instant::now();
    let others = Arriving { units: IN_FLIGHT_UNITS_MAX - 1, held: 0, queue: None, now, deadline: now };
    harness.api.in_flight.take(&others).expect("nothing is under way");
    stream.send([put(1, "a"), put(2, "b")]).await;
    let (tag, error) = stream.error().await;
    assert_eq!(tag, 2);
    expect(&error, Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED");
    succeed(take(&harness, 1).await.remove(0));
    assert!(matches!(stream.answers(1).await[0], PipelinedResponse { tag: 1, response: Some(Response::Put(_)) }));
    stream.send([put(2, "b")]).await;
    succeed(take(&harness, 1).await.remove(0));
    stream.answers(1).await;
}

#[tokio::test]
async fn a_write_whose_deadline_passes_before_it_is_taken_up_is_never_run() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let short = |request| PipelinedRequest { timeout_ms: 200, ..request };
    stream.send([short(put(1, "a")), short(get(2, "b")), put(3, "c")]).await;
    let errors = stream.errors(2).await;
    expect(&errors[0].1, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "NOT_APPLIED");
    expect(&errors[1].1, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "");
    // Only what has time left is run.
    let (pending, operations) = taken(&harness).await;
    let [operation] = <[_; 1]>::try_from(operations).expect("one is left");
    succeed((pending, operation));
    assert_eq!(stream.answers(1).await[0].tag, 3);
}

#[tokio::test]
async fn a_question_for_an_outcome_may_have_settled_it_when_its_deadline_passes() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let question = GetOutcomeRequest { request_id: Some(request_id()) };
    stream.send([PipelinedRequest { timeout_ms: 200, ..request(1, Request::GetOutcome(question)) }]).await;
    let operations = take(&harness, 1).await;
    let error = stream.error().await.1;
    assert_eq!(told(&error).reason, "OUTCOME_UNKNOWN", "as a call of its own says");
    drop(operations);
}

#[tokio::test]
async fn a_write_whose_deadline_passes_afterwards_has_an_unknown_outcome_and_a_position() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let named = PutRequest { key: "a".to_owned(), request_id: Some(request_id()), ..PutRequest::default() };
    let named = PipelinedRequest { timeout_ms: 300, ..request(1, Request::Put(named)) };
    stream.send([PipelinedRequest { timeout_ms: 300, ..get(2, "b") }, named]).await;
    let operations = take(&harness, 2).await;
    operations[1].0.set_position(1, 3, 9);
    let errors = stream.errors(2).await;
    expect(&errors[0].1, Code::DeadlineExceeded, "OUTCOME_UNKNOWN", "UNKNOWN");
    let metadata = told(&errors[0].1).metadata;
    assert_eq!((&metadata["term"][..], &metadata["index"][..]), ("3", "9"));
    assert_eq!((&metadata["sessionId"][..], &metadata["sequence"][..]), (&"01".repeat(16)[..], "7"));
    expect(&errors[1].1, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "");

    // An answer that comes late belongs to nobody, whatever its tag is given to.
    stream.send([get(1, "c")]).await;
    let next = take(&harness, 1).await.remove(0);
    for late in operations {
        succeed(late);
    }
    succeed(next);
    let answers = stream.answers(1).await;
    assert!(matches!(&answers[0], PipelinedResponse { tag: 1, response: Some(Response::Get(_)) }), "{answers:?}");
    stream.close();
    assert_eq!(stream.frame().await.expect("it ends well"), None);
}

#[tokio::test]
async fn an_error_is_the_same_as_that_of_a_call() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let (unavailable, key) = (Unavailable::StorageFull, Bytes::from_static(b"a"));
    for (error, code, reason, outcome) in [
        (WriteError::Stopped, Code::Unknown, "OUTCOME_UNKNOWN", "UNKNOWN"),
        (WriteError::Dropped { term: 2 }, Code::Unavailable, "PROPOSAL_DROPPED", "NOT_APPLIED"),
        (unavailable.into(), Code::ResourceExhausted, "STORAGE_FULL", "NOT_APPLIED"),
    ] {
        stream.send([put(1, "a")]).await;
        let (pending, operation) = take(&harness, 1).await.remove(0);
        let expected = ApiError::from(error.clone()).to_string();
        pending.answer(operation.mark, ActionResult::Written { key: key.clone(), result: Err(error) });
        pending.wake();
        let (_, error) = stream.error().await;
        assert_eq!(error.message, expected);
        expect(&error, code, reason, outcome);
    }
    stream.send([get(1, "a")]).await;
    let (pending, operation) = take(&harness, 1).await.remove(0);
    let result = Err(ReadError::Unavailable(Unavailable::Overloaded));
    pending.answer(operation.mark, ActionResult::Read { key, result });
    pending.wake();
    expect(&stream.error().await.1, Code::ResourceExhausted, "OVERLOADED", "");
}
