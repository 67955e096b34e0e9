//! What a node says whose queue stands, and that it says so no longer than it has to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::kv::v1::pipelined_response::Response;
use proto::kv::v1::{GetRequest, GetResponse, PipelinedError, PutRequest, PutResponse};
use proto::raft::v1::ForwardRequest;
use proto::raft::v1::forward_request::Request as Forwarded;
use tonic::Code;

use super::{Stream, expect, get, put, succeed, take, taken};
use crate::api::admission::{ALWAYS_ADMITTED_UNITS, INTERVAL};
use crate::api::limits::RETRY_SOON;
use crate::api::tests::fake::{Harness, Read, Write, led_by, reason, written};
use crate::node::{ActionResult, BatchedOperation, Pending};

/// More than are taken in in any case.
const WAITING: usize = ALWAYS_ADMITTED_UNITS + 10;

const OVERLOADED: (&str, &str) = ("OVERLOADED", "NOT_APPLIED");

/// Puts that the node has taken up and not answered.
type Held = VecDeque<(Arc<Pending>, BatchedOperation)>;

/// Lets more puts wait than are taken in in any case.
async fn wait_all(harness: &Harness, stream: &Stream) -> Held {
    stream.send((0..WAITING as u64).map(|tag| put(tag, "a"))).await;
    take(harness, WAITING).await.into()
}

/// Puts once more and again, until a put is refused: what it is told.
async fn until_refused(harness: &Harness, stream: &mut Stream, held: &mut Held) -> PipelinedError {
    for tag in 1_000_000.. {
        stream.send([put(tag, "a")]).await;
        tokio::select! {
            (refused, error) = stream.error() => {
                assert_eq!(refused, tag);
                return error;
            }
            (pending, mut operations) = taken(harness) => held.push_back((pending, operations.remove(0))),
        }
        // As a client may that has more to do.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("there are more tags than milliseconds")
}

#[tokio::test]
async fn a_queue_that_nothing_leaves_is_given_no_more_and_what_is_in_it_goes_on() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let mut held = wait_all(&harness, &stream).await;
    let error = until_refused(&harness, &mut stream, &mut held).await;
    expect(&error, Code::ResourceExhausted, OVERLOADED.0, OVERLOADED.1);
    assert!(error.details.iter().any(|detail| detail.type_url.ends_with("google.rpc.RetryInfo")), "{error:?}");

    // Each request of a frame is told by itself, and nothing of it reaches the node.
    stream.send([put(1 << 40, "a"), put(1 << 41, "a"), get(1 << 42, "a")]).await;
    for (_, error) in stream.errors(2).await {
        expect(&error, Code::ResourceExhausted, OVERLOADED.0, OVERLOADED.1);
    }
    // Reads do not wait for the log.
    succeed(take(&harness, 1).await.remove(0));
    let answer = stream.answers(1).await.remove(0);
    assert!(matches!((answer.tag, answer.response), (tag, Some(Response::Get(_))) if tag == 1 << 42));
    assert!(harness.node.0.batches.lock().expect("no panic").is_empty());

    // What was taken in is answered, and then there is room again.
    let count = held.len();
    held.into_iter().for_each(succeed);
    for answer in stream.answers(count).await {
        assert!(matches!(answer.response, Some(Response::Put(_))), "{answer:?}");
    }
    assert!(harness.api.in_flight.is_empty());
    stream.send([put(1, "a")]).await;
    succeed(take(&harness, 1).await.remove(0));
    stream.answers(1).await;
}

/// Lets more wait than is taken in in any case, while `ask` asks for one thing after the other that is answered at
/// once.
async fn meanwhile(harness: &Harness, mut ask: impl AsyncFnMut()) {
    let stream = Stream::open(harness).await;
    let _held = wait_all(harness, &stream).await;
    let until = Instant::now() + 3 * INTERVAL;
    while Instant::now() < until {
        ask().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_queue_does_not_stand_as_long_as_some_of_a_stream_is_answered_soon() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    meanwhile(&harness, async || {
        stream.send([put(1, "a")]).await;
        succeed(take(&harness, 1).await.remove(0));
        let answer = stream.answers(1).await.remove(0);
        assert!(matches!(answer.response, Some(Response::Put(_))), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn a_queue_does_not_stand_as_long_as_some_calls_are_answered_soon() {
    let harness = Harness::new(led_by(Some("n1")));
    let request = PutRequest { key: "a".to_owned(), ..PutRequest::default() };
    meanwhile(&harness, async || {
        harness.node.will_write(Write::Answer(written()));
        harness.call::<_, PutResponse>("kv.v1.KvService/Put", &request).await.expect("it is taken in");
    })
    .await;
}

#[tokio::test]
async fn calls_and_what_other_nodes_forward_are_refused_at_the_same_queue() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let mut held = wait_all(&harness, &stream).await;
    until_refused(&harness, &mut stream, &mut held).await;

    let request = PutRequest { key: "a".to_owned(), ..PutRequest::default() };
    let call = harness.call::<_, PutResponse>("kv.v1.KvService/Put", &request).await;
    let forwarded =
        ForwardRequest { from: "n2".to_owned(), relay: false, question: false, request: Some(Forwarded::Put(request)) };
    let deadline = Instant::now() + Duration::from_secs(5);
    let forwarded = harness.api.forward_target.run_forwarded(forwarded, deadline, None).await;
    for status in [call.expect_err("refused"), forwarded.expect_err("refused")] {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(reason(&status), (OVERLOADED.0.to_owned(), OVERLOADED.1.to_owned()));
        assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
    }
    assert!(harness.node.requests().is_empty(), "nothing reaches the node");
    harness.node.will_read(Read::Answer(Err(crate::node::ReadError::DeadlineExceeded)));
    let get = GetRequest { key: "a".to_owned(), ..GetRequest::default() };
    let read = harness.call::<_, GetResponse>("kv.v1.KvService/Get", &get).await;
    assert_eq!(read.expect_err("the node says so").code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn whoever_goes_away_leaves_the_queue() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let mut held = wait_all(&harness, &stream).await;
    until_refused(&harness, &mut stream, &mut held).await;
    drop(stream);
    super::until("the room is given back", || harness.api.in_flight.is_empty()).await;
    let mut stream = Stream::open(&harness).await;
    stream.send([put(1, "a")]).await;
    succeed(take(&harness, 1).await.remove(0));
    assert!(matches!(stream.answers(1).await[0].response, Some(Response::Put(_))));
}

#[tokio::test]
async fn a_node_that_does_not_lead_leaves_it_to_the_leader_to_refuse() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let mut held = wait_all(&harness, &stream).await;
    until_refused(&harness, &mut stream, &mut held).await;
    harness.node.learns(led_by(Some("n2")));
    harness.will_forward(|_| {
        let response = proto::raft::v1::forward_response::Response::Put(PutResponse::default());
        Ok(proto::raft::v1::ForwardResponse { response: Some(response) })
    });
    let request = PutRequest { key: "a".to_owned(), ..PutRequest::default() };
    harness.call::<_, PutResponse>("kv.v1.KvService/Put", &request).await.expect("the leader has room");
    assert_eq!(harness.forwarded_to(), ["n2"]);
}

#[tokio::test]
async fn what_goes_another_road_leaves_the_queue() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let mut held = wait_all(&harness, &stream).await;
    until_refused(&harness, &mut stream, &mut held).await;
    harness.node.learns(led_by(Some("n2")));
    let count = held.len();
    for (pending, BatchedOperation { mark, action, .. }) in held {
        harness.will_forward(|_| {
            let response = proto::raft::v1::forward_response::Response::Put(PutResponse::default());
            Ok(proto::raft::v1::ForwardResponse { response: Some(response) })
        });
        if pending.answer(mark, ActionResult::NotRun(action)) {
            pending.wake();
        }
    }
    for answer in stream.answers(count).await {
        assert!(matches!(answer.response, Some(Response::Put(_))), "{answer:?}");
    }
    harness.node.learns(led_by(Some("n1")));
    stream.send([put(1, "a")]).await;
    succeed(take(&harness, 1).await.remove(0));
    assert!(matches!(stream.answers(1).await[0].response, Some(Response::Put(_))));
}

/// Sends so many frames of a hundred puts, far more than there is room for.
async fn ask_for_far_too_much(stream: &Stream, frames: u64) {
    for frame in 0..frames {
        stream.send((0..100).map(|number| put((1 << 32) + frame * 100 + number, "a"))).await;
    }
}

#[tokio::test]
async fn a_stream_that_is_refused_is_read_more_slowly_and_each_of_its_requests_is_told_once() {
    const FRAMES: u64 = 14;
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let mut held = wait_all(&harness, &stream).await;
    until_refused(&harness, &mut stream, &mut held).await;
    let begun = Instant::now();
    ask_for_far_too_much(&stream, FRAMES).await;
    let mut told = Vec::new();
    while (told.len() as u64) < FRAMES * 100 {
        for answer in stream.frame().await.expect("no error").expect("more answers").responses {
            let Some(Response::Error(error)) = &answer.response else { panic!("{answer:?}") };
            expect(error, Code::ResourceExhausted, OVERLOADED.0, OVERLOADED.1);
            told.push(answer.tag);
        }
    }
    told.sort_unstable();
    assert!(told.iter().copied().eq((1 << 32)..(1 << 32) + FRAMES * 100), "{told:?}");
    // The gap has doubled until a frame makes it the longest pause, which has been waited for more than once.
    assert!(begun.elapsed() > 2 * RETRY_SOON, "{:?}", begun.elapsed());
    assert!(harness.node.0.batches.lock().expect("no panic").is_empty(), "nothing of it reaches the node");

    // What was taken in before is answered, and then there is room again.
    let count = held.len();
    held.into_iter().for_each(succeed);
    stream.answers(count).await;
    stream.send([put(1, "a")]).await;
    succeed(take(&harness, 1).await.remove(0));
    stream.answers(1).await;
}

#[tokio::test]
async fn a_stream_that_is_left_alone_is_told_of_a_shutdown_nevertheless() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    let mut held = wait_all(&harness, &stream).await;
    until_refused(&harness, &mut stream, &mut held).await;
    ask_for_far_too_much(&stream, 14).await;
    stream.frame().await.expect("no error").expect("the first of them are told");
    harness.drain.start();
    let count = held.len();
    held.into_iter().for_each(succeed);
    let mut written = 0;
    let status = loop {
        match stream.frame().await {
            Ok(frame) => {
                let answers = frame.expect("it ends with a status").responses;
                written += answers.iter().filter(|answer| matches!(answer.response, Some(Response::Put(_)))).count();
            }
            Err(status) => break status,
        }
    };
    assert_eq!((written, reason(&status).0.as_str()), (count, "DRAINING"));
}
