//! Gets of a node's own state on streams: each by the road that it has.

use std::num::NonZeroU64;

use bytes::Bytes;
use engine::{Consistency, kv};
use proto::kv::v1::pipelined_request::Request;
use proto::kv::v1::pipelined_response::Response;
use proto::kv::v1::{GetRequest, PipelinedRequest, PipelinedResponse};
use tonic::Code;

use super::{Stream, expect, request, take, told};
use crate::api::tests::fake::{Harness, Read, led_by};
use crate::node::{Action, ActionResult, Get, ReadError, ReadResult};

fn stale(tag: u64) -> PipelinedRequest {
    let get = GetRequest { key: "a".to_owned(), consistency: 3, max_staleness_ms: Some(500), min_revision: 7 };
    request(tag, Request::Get(get))
}

fn asked() -> Get {
    let (key, min_revision) = (Bytes::from_static(b"a"), kv::Revision::new(7));
    Get { key, consistency: Consistency::Stale { max_age_ms: Some(500) }, min_revision }
}

fn found() -> ReadResult {
    let (create_revision, mod_revision) = (kv::Revision::new(2), kv::Revision::new(4));
    let (key, value) = (Bytes::from_static(b"a"), Bytes::from_static(b"v"));
    let kv = kv::KeyValue { key, value, create_revision, mod_revision, version: 3 };
    let (served_by, age_ms) = ("n1".to_owned(), NonZeroU64::new(12));
    ReadResult { kv: Some(kv), revision: 9, served_by, time_ms: 5, age_ms }
}

fn too_stale() -> ReadError {
    ReadError::TooStale { age_ms: None, revision: 6 }
}

/// Panics unless the first was found, and the second refused.
fn expect_both(answers: Vec<PipelinedResponse>) {
    assert_eq!(answers.len(), 2);
    for PipelinedResponse { tag, response } in answers {
        match (tag, response) {
            (1, Some(Response::Get(response))) => assert_eq!((response.revision, response.staleness_ms), (9, Some(12))),
            (2, Some(Response::Error(error))) => {
                expect(&error, Code::Unavailable, "STALENESS_BOUND_EXCEEDED", "");
                assert_eq!(told(&error).metadata["revision"], "6");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_leader_runs_them_with_the_others_of_their_batch() {
    let harness = Harness::new(led_by(Some("n1")));
    let mut stream = Stream::open(&harness).await;
    stream.send([stale(1), stale(2)]).await;
    for (pending, operation) in take(&harness, 2).await {
        assert_eq!(operation.action, Action::Read(asked()));
        let result = if operation.mark.tag == 1 { Ok(found()) } else { Err(too_stale()) };
        pending.answer(operation.mark, ActionResult::Read { key: Bytes::from_static(b"a"), result });
        pending.wake();
    }
    expect_both(stream.answers(2).await);
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn another_node_runs_them_itself() {
    for leader in [Some("n2"), None] {
        let harness = Harness::new(led_by(leader));
        let mut stream = Stream::open(&harness).await;
        let mut answers = Vec::new();
        for (tag, result) in [(1, Ok(found())), (2, Err(too_stale()))] {
            harness.node.will_read(Read::Answer(result));
            stream.send([stale(tag)]).await;
            answers.extend(stream.answers(1).await);
        }
        expect_both(answers);
        assert_eq!(harness.node.gets(), [asked(), asked()]);
        assert!(harness.forwarded_to().is_empty());
    }
}
