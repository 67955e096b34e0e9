//! Where the requests of a stream are run, and how a stream ends.

use engine::kv;
use proto::kv::v1::pipelined_request::Request;
use proto::kv::v1::pipelined_response::Response;
use proto::kv::v1::{
    Consistency, GetRequest, GetResponse, PipelineRequest, PipelinedRequest, PipelinedResponse, PutResponse,
};
use proto::raft::v1::ForwardResponse;
use proto::raft::v1::forward_response::Response as Forwarded;
use tonic::Code;
use tonic::transport::Server;

use super::{Stream, expect, get, put, request, succeed, take, taken, until};
use crate::api::error::{ApiError, CallKind};
use crate::api::limits;
use crate::api::tests::fake::{Harness, Read, TIME_MS, led_by, reason};
use crate::api::tests::services::{serve, serve_by};
use crate::forward::ForwardError;
use crate::node::{ActionResult, NodeStatus, ReadError, ReadResult, Unavailable};

fn forwarded(response: Forwarded) -> Result<ForwardResponse, ForwardError> {
    Ok(ForwardResponse { response: Some(response) })
}

#[tokio::test]
async fn a_node_that_does_not_lead_forwards_each_write_and_names_the_leader() {
    let harness = Harness::new(led_by(Some("n2")));
    let mut stream = Stream::open(&harness).await;
    assert_eq!(stream.headers.get("quorate-leader-name").map(|name| name.as_bytes()), Some(&b"n2"[..]));
    harness.will_forward(|_| forwarded(Forwarded::Put(PutResponse { revision: 5, ..PutResponse::default() })));
    stream.send([put(1, "a")]).await;
    let frame = stream.frame().await.expect("no error").expect("an answer");
    assert_eq!((frame.leader_name.as_str(), frame.leader_address.as_str()), ("n2", "n2:7000"));
    assert!(matches!(&frame.responses[0].response, Some(Response::Put(response)) if response.revision == 5));

    // The leader's own error is passed on as it is.
    let error = ApiError::KeyExists { key: "b".to_owned(), mod_revision: 3 };
    harness.will_forward(move |_| Err(ForwardError::Answered(Box::new(error.to_status(CallKind::Write)))));
    stream.send([put(2, "b")]).await;
    let (tag, error) = stream.error().await;
    assert_eq!((tag, error.message.as_str()), (2, "key already exists: b"));
    expect(&error, Code::AlreadyExists, "KEY_EXISTS", "NOT_APPLIED");

    harness.will_forward(|_| {
        let (member, cause) = ("n2".to_owned(), "reset".to_owned());
        Err(ForwardError::Lost { member, cause, deadline_exceeded: false })
    });
    stream.send([put(3, "c")]).await;
    expect(&stream.error().await.1, Code::Unknown, "OUTCOME_UNKNOWN", "UNKNOWN");
    assert_eq!(harness.forwarded_to(), ["n2", "n2", "n2"]);
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn a_node_that_follows_reads_in_batches_and_forwards_what_is_beside() {
    let harness = Harness::new(led_by(Some("n2")));
    let mut stream = Stream::open(&harness).await;
    harness.will_forward(|_| forwarded(Forwarded::Put(PutResponse { revision: 5, ..PutResponse::default() })));
    stream.send([get(1, "a"), put(2, "b"), get(3, "c")]).await;
    let (pending, operations) = taken(&harness).await;
    assert!(matches!(stream.answers(1).await[0], PipelinedResponse { tag: 2, response: Some(Response::Put(_)) }));
    assert_eq!(operations.len(), 2, "it is one batch");
    for operation in operations {
        succeed((pending.clone(), operation));
    }
    let mut tags: Vec<_> = stream.answers(2).await.iter().map(|answer| answer.tag).collect();
    tags.sort_unstable();
    assert_eq!(tags, [1, 3]);
    assert_eq!(harness.forwarded_to(), ["n2"]);
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn reads_that_a_node_which_follows_does_not_answer_in_time_go_to_the_leader() {
    let harness = Harness::new(led_by(Some("n2")));
    let mut stream = Stream::open(&harness).await;
    let value = || GetResponse { served_by: "n2".to_owned(), ..GetResponse::default() };
    harness.will_hang();
    stream.send([get(1, "a")]).await;
    let (pending, operation) = take(&harness, 1).await.remove(0);
    until("it is forwarded", || !harness.forwarded_to().is_empty()).await;
    // What the node says of it now is too late, and is not its answer: neither that it was not run nor what it found.
    pending.answer(operation.mark, ActionResult::NotRun(operation.action.clone()));
    succeed((pending, operation));
    // The others go there at once.
    harness.will_forward(move |_| forwarded(Forwarded::Get(value())));
    stream.send([get(2, "a")]).await;
    let other = stream.answers(1).await.remove(0);
    assert!(matches!(&other, PipelinedResponse { tag: 2, response: Some(Response::Get(found)) } if *found == value()));
    // And the first one goes on under the next leader, in whose term this node may answer again.
    harness.node.will_read(Read::Answer(Err(ReadError::DeadlineExceeded)));
    harness.will_forward(move |_| forwarded(Forwarded::Get(value())));
    harness.node.learns(NodeStatus { term: 3, ..led_by(Some("n3")) });
    let first = stream.answers(1).await.remove(0);
    assert!(matches!(&first, PipelinedResponse { tag: 1, response: Some(Response::Get(found)) } if *found == value()));
    assert_eq!(harness.forwarded_to(), ["n2", "n2", "n3"]);
    assert!(harness.api.in_flight.is_empty());
    assert!(harness.node.0.batches.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_read_whose_deadline_passes_is_answered_however_it_goes_on() {
    let harness = Harness::new(led_by(Some("n2")));
    let mut stream = Stream::open(&harness).await;
    harness.node.will_read(Read::Wait);
    harness.will_forward(|_| {
        let (member, cause) = ("n2".to_owned(), "no answer before the deadline".to_owned());
        Err(ForwardError::Lost { member, cause, deadline_exceeded: true })
    });
    stream.send([PipelinedRequest { timeout_ms: 100, ..get(1, "a") }]).await;
    let _held = take(&harness, 1).await;
    expect(&stream.error().await.1, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "");
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn a_quorum_get_without_a_majority_says_so_also_at_a_leader() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let consistency = Consistency::Quorum.into();
    let quorum_get = Request::Get(GetRequest { key: "a".to_owned(), consistency, ..GetRequest::default() });
    stream.send([PipelinedRequest { timeout_ms: 100, ..request(1, quorum_get) }]).await;
    let _held = take(&harness, 1).await;
    expect(&stream.error().await.1, Code::Unavailable, "NO_QUORUM", "");
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn what_comes_back_from_a_leader_that_leads_no_more_goes_to_the_next() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    stream.send([get(1, "a"), put(2, "b")]).await;
    let operations = take(&harness, 2).await;
    harness.node.learns(led_by(Some("n3")));
    // Of a read that is this node itself.
    let kv = kv::KeyValue {
        key: "a".into(),
        value: "v".into(),
        create_revision: kv::Revision::new(2),
        mod_revision: kv::Revision::new(2),
        version: 1,
    };
    let (kv, served_by) = (Some(kv), "n1".to_owned());
    let found = ReadResult { kv, revision: 2, served_by, time_ms: TIME_MS, age_ms: None };
    harness.node.will_read(Read::Answer(Ok(found)));
    let [read, write] = <[_; 2]>::try_from(operations).expect("two");
    let (pending, operation) = read;
    assert!(pending.answer(operation.mark, ActionResult::NotRun(operation.action)));
    pending.wake();
    assert!(matches!(stream.answers(1).await[0], PipelinedResponse { tag: 1, response: Some(Response::Get(_)) }));

    harness.will_forward(|_| forwarded(Forwarded::Put(PutResponse::default())));
    let (pending, operation) = write;
    pending.answer(operation.mark, ActionResult::NotRun(operation.action));
    pending.wake();
    assert!(matches!(stream.answers(1).await[0], PipelinedResponse { tag: 2, response: Some(Response::Put(_)) }));
    assert_eq!(harness.forwarded_to(), ["n3"]);
}

#[tokio::test]
async fn a_batch_that_is_refused_because_leadership_moves_goes_to_the_next_leader_too() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let node = harness.node.clone();
    *node.0.refusal.lock().expect("no panic") = Some(Unavailable::Transferring);
    // The task that runs it finds the same, and then another leader.
    harness.node.will_write(crate::api::tests::fake::Write::AnswerAndLearn(
        Err(Unavailable::Transferring.into()),
        Box::new(led_by(Some("n2"))),
    ));
    harness.will_forward(|_| forwarded(Forwarded::Put(PutResponse::default())));
    stream.send([put(1, "a")]).await;
    assert!(matches!(stream.answers(1).await[0].response, Some(Response::Put(_))));
    assert_eq!(harness.forwarded_to(), ["n2"]);
}

#[tokio::test]
async fn a_tag_that_is_under_way_twice_ends_the_stream() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    stream.send([put(1, "a"), put(2, "b")]).await;
    let operations = take(&harness, 2).await;
    stream.send([put(3, "c"), put(2, "d")]).await;
    let status = stream.end().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status).0, "TAG_REUSED");
    // Whoever has the operations knows that nobody waits for them, and what was in the frame is not run.
    assert!(operations.iter().all(|(pending, _)| pending.is_closed()));
    assert!(harness.node.0.batches.lock().expect("no panic").is_empty());
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn a_draining_node_answers_what_it_has_read_and_ends_the_stream() {
    let harness = Harness::new(led_by(Some("n1")));
    let (_, channel) = serve(&harness).await;
    let (mut stream, mut idle) = (Stream::on(channel.clone()).await, Stream::on(channel.clone()).await);
    stream.send([put(1, "a")]).await;
    let operation = take(&harness, 1).await.remove(0);
    harness.drain.start();
    let status = idle.end().await;
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::Unavailable, "DRAINING"));
    assert!(!harness.api.in_flight.is_empty(), "what is under way is waited for");
    succeed(operation);
    assert_eq!(stream.answers(1).await[0].tag, 1);
    assert_eq!(reason(&stream.end().await).0, "DRAINING");
    assert!(harness.api.in_flight.is_empty());
    // One that is opened now ends at once.
    assert_eq!(reason(&Stream::on(channel).await.end().await).0, "DRAINING");
}

#[tokio::test]
async fn a_stream_whose_client_goes_away_leaves_nothing_behind() {
    for leader in ["n1", "n2"] {
        let harness = Harness::new(led_by(Some(leader)));
        let stream = Stream::open(&harness).await;
        let pending = if leader == "n1" {
            stream.send([put(1, "a")]).await;
            Some(take(&harness, 1).await.remove(0).0)
        } else {
            // It is tried again and again, as long as it may take.
            for _ in 0..limits::ATTEMPTS_MAX {
                let not_sent = || ForwardError::NotSent { member: "n2".to_owned(), cause: "gone".to_owned() };
                harness.will_forward(move |_| Err(not_sent()));
            }
            stream.send([put(1, "a")]).await;
            until("it is forwarded", || !harness.forwarded_to().is_empty()).await;
            None
        };
        assert!(!harness.api.in_flight.is_empty());
        drop(stream);
        until("its room is given back", || harness.api.in_flight.is_empty()).await;
        assert!(pending.is_none_or(|pending| pending.is_closed()));
        assert!(harness.forwarded_to().len() < limits::ATTEMPTS_MAX, "nobody waits for it any more");
    }
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_stream() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let long = PipelinedRequest { traceparent: "0".repeat(limits::MESSAGE_BYTES_MAX), ..get(1, "a") };
    stream.requests.send(PipelineRequest { requests: vec![long] }).await.expect("the stream is open");
    let status = stream.end().await;
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::InvalidArgument, "MESSAGE_TOO_LARGE"));
}

#[tokio::test]
async fn a_stream_lives_longer_than_a_call_may_take() {
    let harness = Harness::new(led_by(Some("n1")));
    let call_timeout = std::time::Duration::from_millis(50);
    let (_, channel) = serve_by(&harness, limits::configure(Server::builder()).timeout(call_timeout)).await;
    let mut stream = Stream::on(channel).await;
    // Its deadline is the clock.
    stream.send([PipelinedRequest { timeout_ms: 500, ..put(1, "a") }]).await;
    expect(&stream.error().await.1, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "NOT_APPLIED");
    stream.send([put(1, "a")]).await;
    // The batch of the first is there too, and empty.
    succeed(take(&harness, 1).await.remove(0));
    assert!(matches!(stream.answers(1).await[0].response, Some(Response::Put(_))));
}
