//! A leader that cannot keep up says so at once, serves what it has taken in, and takes in more when it can.

use crate::{
    errors::availability::{PATIENT, alone},
    pipeline::{Stream, failure},
};
use proto::kv::v1::{PipelineRequest, PipelinedRequest, pipelined_request::Request, pipelined_response::Response};
use tests::{
    rpc::{self, Failure, Outcome},
    wait::wait_for,
};
use tonic::Code;

/// More than a leader takes in of what it cannot answer for a while, and far less than its memory has room for.
const WAITING: u64 = 1_200;

fn put(tag: u64) -> PipelinedRequest {
    let request = Some(Request::Put(rpc::put_request(&format!("key {tag}"), "v")));
    PipelinedRequest { tag, request, ..PipelinedRequest::default() }
}

fn expect_overloaded(failure: &Failure) {
    failure.expect(Code::ResourceExhausted, "OVERLOADED");
    assert_eq!(failure.outcome(), Outcome::NotApplied, "{failure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_answers_nothing_takes_in_no_more_until_it_does() {
    let (mut cluster, leader) = alone(&PATIENT).await;
    let channel = cluster.nodes[leader].channel();
    let mut stream = Stream::open(&channel).await.expect("it opens");
    let frame = PipelineRequest { requests: (0..WAITING).map(put).collect() };
    stream.requests.send(frame).await.expect("the stream is open");
    // A put after the other, until one is answered, which none can be but by a refusal.
    let mut sent = WAITING;
    let refused = wait_for("a put is refused", async || {
        let frame = PipelineRequest { requests: vec![put(sent)] };
        stream.requests.send(frame).await.expect("the stream is open");
        sent += 1;
        let answers = tokio::time::timeout(std::time::Duration::from_millis(100), stream.answers()).await;
        answers.ok().map(|answers| answers.expect("the stream goes on"))
    });
    let refused = refused.await;
    for answer in &refused {
        let Some(Response::Error(error)) = &answer.response else { panic!("{answer:?}") };
        assert!(answer.tag >= WAITING, "what was taken in goes on: {answer:?}");
        expect_overloaded(&failure(error));
    }
    expect_overloaded(&rpc::failure(rpc::put(&channel, "another", "v").await));
    assert!(rpc::delete(&channel, "kept").await.is_err_and(|status| status.code() == Code::ResourceExhausted));
    rpc::status(&channel).await.expect("a leader always says how it is");

    for other in cluster.others(leader) {
        cluster.nodes[other].resume();
    }
    let mut answered = refused.len() as u64;
    while answered < sent {
        for answer in stream.answers().await.expect("the stream goes on") {
            answered += 1;
            match answer.response {
                Some(Response::Put(_)) => {}
                Some(Response::Error(error)) if answer.tag >= WAITING => expect_overloaded(&failure(&error)),
                other => panic!("{} was taken in and is answered {other:?}", answer.tag),
            }
        }
    }
    rpc::put(&channel, "another", "v").await.expect("there is room again");
}
