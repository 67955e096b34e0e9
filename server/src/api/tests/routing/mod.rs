//! Requests on a node that does not lead.

mod reads;
mod relays;

use bytes::Bytes;
use engine::{Consistency, kv};
use proto::kv::v1::{
    GetOutcomeRequest, GetOutcomeResponse, GetRequest, GetResponse, KeyValue, PutRequest, PutResponse, RequestId,
};
use proto::raft::v1::forward_request::Request;
use proto::raft::v1::forward_response::Response as Answer;
use proto::raft::v1::{ForwardRequest, ForwardResponse};
use std::time::{Duration, Instant};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::fake::{Harness, Read, TIME_MS, Write, led_by, not_leader, reaching, reason, written};
use crate::api::error::{ApiError, CallKind};
use crate::forward::ForwardError;
use crate::node::{Get, MemberStatus, NodeStatus, ReadError, ReadResult, Role, WriteError};

const PUT: &str = "kv.v1.KvService/Put";
const GET: &str = "kv.v1.KvService/Get";
const GET_OUTCOME: &str = "kv.v1.KvService/GetOutcome";

fn put() -> PutRequest {
    PutRequest { key: "a".to_owned(), value: Bytes::from_static(b"v"), mode: 2, ..Default::default() }
}

fn get() -> GetRequest {
    GetRequest { key: "a".to_owned(), consistency: 1, ..GetRequest::default() }
}

fn put_answer() -> Result<ForwardResponse, ForwardError> {
    Ok(ForwardResponse { response: Some(Answer::Put(PutResponse { revision: 8, version: 2, time_ms: 99 })) })
}

fn get_answer() -> Result<ForwardResponse, ForwardError> {
    let kv = KeyValue { key: "a".to_owned(), value: Bytes::from_static(b"v"), ..Default::default() };
    let response =
        GetResponse { kv: Some(kv), revision: 8, served_by: "n2".to_owned(), time_ms: 99, ..GetResponse::default() };
    Ok(ForwardResponse { response: Some(Answer::Get(response)) })
}

/// What a node finds that reads from the state of `served_by`.
fn found(served_by: &str) -> Result<ReadResult, ReadError> {
    let kv = kv::KeyValue {
        key: Bytes::from_static(b"a"),
        value: Bytes::from_static(b"v"),
        create_revision: kv::Revision::new(2),
        mod_revision: kv::Revision::new(2),
        version: 1,
    };
    Ok(ReadResult { kv: Some(kv), revision: 2, served_by: served_by.to_owned(), time_ms: 5, age_ms: None })
}

fn answered(error: &ApiError) -> Result<ForwardResponse, ForwardError> {
    Err(ForwardError::Answered(Box::new(error.to_status(CallKind::Write))))
}

fn not_sent() -> Result<ForwardResponse, ForwardError> {
    Err(ForwardError::NotSent { member: "n2".to_owned(), cause: "connection refused".to_owned() })
}

fn lost(deadline_exceeded: bool) -> Result<ForwardResponse, ForwardError> {
    Err(ForwardError::Lost { member: "n2".to_owned(), cause: "reset".to_owned(), deadline_exceeded })
}

/// How many voters an error says that the node reaches, and how many it needs.
fn reachable_and_needed(status: &Status) -> (String, String) {
    let metadata = status.get_details_error_info().expect("one of ours").metadata;
    (metadata["reachable"].clone(), metadata["needed"].clone())
}

#[tokio::test]
async fn a_follower_forwards_the_request_as_it_came() {
    let harness = Harness::new(led_by(Some("n2")));
    harness.will_forward(|_| put_answer());
    let (response, headers) = harness.call::<_, PutResponse>(PUT, &put()).await.expect("forwarded");
    assert_eq!((response.revision, response.version, response.time_ms), (8, 2, 99));
    assert_eq!(headers["quorate-leader-name"], "n2");
    assert_eq!(headers["quorate-leader-address"], "n2:7000");
    let forwarded = harness.forwarder.forwarded.lock().expect("no panic");
    let (leader, request, trace) = &forwarded[0];
    assert_eq!((leader.as_str(), request.from.as_str(), trace), ("n2", "n1", &None));
    assert_eq!(request.request, Some(Request::Put(put())));
}

#[tokio::test]
async fn a_sampled_request_is_forwarded_with_its_trace() {
    let harness = Harness::new(led_by(Some("n2")));
    harness.will_forward(|_| put_answer());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", trace)];
    harness.call_with::<_, PutResponse>(PUT, &put(), &headers).await.expect("forwarded");
    let forwarded = harness.forwarder.forwarded.lock().expect("no panic");
    // Nothing is exported here, so the caller's span stays the parent.
    assert_eq!(forwarded[0].2.as_ref().map(crate::telemetry::TraceContext::traceparent).as_deref(), Some(trace));
}

#[tokio::test]
async fn the_leaders_own_error_is_passed_on_whole() {
    let harness = Harness::new(led_by(Some("n2")));
    harness.will_forward(|_| {
        let mut status = ApiError::KeyExists { key: "a".to_owned(), mod_revision: 3 }.to_status(CallKind::Write);
        status.metadata_mut().insert("quorate-leader-name", "n3".parse().expect("ASCII"));
        status.metadata_mut().insert("date", "today".parse().expect("ASCII"));
        Err(ForwardError::Answered(Box::new(status)))
    });
    let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("exists");
    assert_eq!((status.code(), status.message()), (Code::AlreadyExists, "key already exists: a"));
    assert_eq!(reason(&status), ("KEY_EXISTS".to_owned(), "NOT_APPLIED".to_owned()));
    let entry = |key| status.metadata().get(key).map(|value| value.as_bytes());
    assert_eq!(entry("quorate-leader-name"), Some(&b"n3"[..]), "the leader knows best who leads");
    assert_eq!(entry("date"), None);
}

#[tokio::test]
async fn a_full_disk_of_the_leader_is_told_and_the_request_is_not_tried_elsewhere() {
    let harness = Harness::new(led_by(Some("n2")));
    harness.will_forward(|_| answered(&ApiError::StorageFull));
    let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("full");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status), ("STORAGE_FULL".to_owned(), "NOT_APPLIED".to_owned()));
    assert!(status.get_details_quota_failure().is_some() && status.get_details_retry_info().is_none());
    assert!(!status.metadata().contains_key("grpc-retry-pushback-ms"));
    assert_eq!(harness.forwarded_to(), ["n2"]);
}

#[tokio::test]
async fn a_leader_that_has_moved_is_followed() {
    for moved in [ApiError::NotLeader { leader: None, term: 3 }, ApiError::Transferring, ApiError::Draining] {
        let harness = Harness::new(led_by(Some("n2")));
        harness.will_forward(move |node| {
            node.learns(led_by(Some("n3")));
            answered(&moved)
        });
        harness.will_forward(|_| put_answer());
        harness.call::<_, PutResponse>(PUT, &put()).await.expect("followed");
        assert_eq!(harness.forwarded_to(), ["n2", "n3"]);
    }
}

#[tokio::test]
async fn a_leader_that_cannot_be_reached_is_tried_again_and_its_successor_too() {
    let harness = Harness::new(reaching(&["n2"], led_by(Some("n2"))));
    harness.will_forward(|_| not_sent());
    harness.will_forward(|node| {
        node.learns(led_by(Some("n1")));
        not_sent()
    });
    harness.node.will_write(Write::Answer(written()));
    harness.call::<_, PutResponse>(PUT, &put()).await.expect("this node leads now");
    assert_eq!(harness.forwarded_to(), ["n2", "n2"]);
}

#[tokio::test]
async fn a_node_that_just_lost_leadership_forwards() {
    let harness = Harness::new(led_by(Some("n1")));
    harness.node.will_write(Write::AnswerAndLearn(Err(not_leader().into()), Box::new(led_by(Some("n2")))));
    harness.will_forward(|_| put_answer());
    harness.call::<_, PutResponse>(PUT, &put()).await.expect("forwarded");
    assert_eq!(harness.forwarded_to(), ["n2"]);
}

#[tokio::test]
async fn a_request_waits_for_an_election() {
    let harness = Harness::new(led_by(None));
    harness.will_forward(|_| put_answer());
    let node = harness.node.clone();
    let request = put();
    let call = harness.call::<_, PutResponse>(PUT, &request);
    let elect = async {
        tokio::task::yield_now().await;
        node.learns(led_by(Some("n2")));
    };
    let (result, ()) = tokio::join!(call, elect);
    result.expect("forwarded");
}

#[tokio::test]
async fn without_a_leader_the_write_is_certainly_not_applied() {
    let harness = Harness::new(led_by(None));
    let headers = [("grpc-timeout", "100m")];
    let status = harness.call_with::<_, PutResponse>(PUT, &put(), &headers).await.expect_err("no leader");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status), ("NO_QUORUM".to_owned(), "NOT_APPLIED".to_owned()));
    assert_eq!(reachable_and_needed(&status), ("1".to_owned(), "2".to_owned()));
    assert!(!status.metadata().contains_key("quorate-leader-name"));
    let status = harness.call_with::<_, GetResponse>(GET, &get(), &headers).await.expect_err("no leader");
    assert_eq!(reason(&status), ("NO_QUORUM".to_owned(), String::new()));
}

#[tokio::test]
async fn a_read_from_a_majority_is_run_here_whoever_leads() {
    let request = GetRequest { consistency: 2, ..get() };
    for leader in [Some("n1"), Some("n2"), None] {
        let harness = Harness::new(led_by(leader));
        harness.node.will_read(Read::Answer(found("n3")));
        let (response, _) = harness.call::<_, GetResponse>(GET, &request).await.expect("a majority answered");
        assert_eq!(response.served_by, "n3");
        assert!(harness.forwarded_to().is_empty());
        let (key, min_revision) = (Bytes::from_static(b"a"), kv::Revision::new(0));
        assert_eq!(harness.node.gets(), [Get { key, consistency: Consistency::Quorum, min_revision }]);
    }
}

#[tokio::test]
async fn a_read_that_no_majority_answers_says_so() {
    let harness = Harness::new(led_by(Some("n1")));
    harness.node.will_read(Read::Answer(Err(ReadError::DeadlineExceeded)));
    let request = GetRequest { consistency: 2, ..get() };
    let status = harness.call::<_, GetResponse>(GET, &request).await.expect_err("nobody answered");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status), ("NO_QUORUM".to_owned(), String::new()));
    assert!(harness.forwarded_to().is_empty(), "nobody else knows more");
}

#[tokio::test]
async fn only_voters_count_for_a_quorum() {
    let mut status = led_by(None);
    status.members[1].reachable = true;
    let observer = MemberStatus { name: "n4".to_owned(), voter: false, reachable: true, ..status.members[1].clone() };
    status.members.push(observer);
    let harness = Harness::new(status);
    let headers = [("grpc-timeout", "100m")];
    let status = harness.call_with::<_, PutResponse>(PUT, &put(), &headers).await.expect_err("no leader");
    assert_eq!(reachable_and_needed(&status), ("2".to_owned(), "2".to_owned()));
}

#[tokio::test]
async fn a_leader_that_stays_out_of_reach_is_no_quorum_with_the_cause() {
    let harness = Harness::new(reaching(&["n2"], led_by(Some("n2"))));
    for _ in 0..20 {
        harness.will_forward(|_| not_sent());
    }
    let headers = [("grpc-timeout", "250m")];
    let status = harness.call_with::<_, PutResponse>(PUT, &put(), &headers).await.expect_err("out of reach");
    assert_eq!(reason(&status), ("NO_QUORUM".to_owned(), "NOT_APPLIED".to_owned()));
    assert!(status.message().contains("n2 could not be reached: connection refused"), "{}", status.message());
    assert!(harness.forwarded_to().len() <= 4, "attempts are spaced");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_never_sent_again() {
    for (deadline_exceeded, code) in [(false, Code::Unknown), (true, Code::DeadlineExceeded)] {
        let harness = Harness::new(led_by(Some("n2")));
        harness.will_forward(move |node| {
            node.learns(led_by(Some("n3")));
            lost(deadline_exceeded)
        });
        let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("lost");
        assert_eq!(status.code(), code);
        assert_eq!(reason(&status), ("OUTCOME_UNKNOWN".to_owned(), "UNKNOWN".to_owned()));
        assert_eq!(harness.forwarded_to(), ["n2"]);
    }
}

#[tokio::test]
async fn a_settlement_without_an_answer_leaves_the_write_unknown_at_a_follower_as_at_the_leader() {
    let id = RequestId { session: vec![1; 16].into(), opened_at_ms: 5, sequence: 7, acknowledged_below: 7 };
    let request = GetOutcomeRequest { request_id: Some(id) };
    let ask = async |harness: &Harness| {
        let headers = [("grpc-timeout", "100m")];
        let answer = harness.call_with::<_, GetOutcomeResponse>(GET_OUTCOME, &request, &headers).await;
        let status = answer.expect_err("no answer");
        let metadata = status.get_details_error_info().expect("one of ours").metadata;
        // It is no write, so nothing is said of an outcome of its own; but which write is meant.
        assert_eq!(reason(&status), ("OUTCOME_UNKNOWN".to_owned(), String::new()));
        assert_eq!((&metadata["sessionId"][..], &metadata["sequence"][..]), (&"01".repeat(16)[..], "7"));
        status.code()
    };
    for (deadline_exceeded, code) in [(false, Code::Unknown), (true, Code::DeadlineExceeded)] {
        let follower = Harness::new(led_by(Some("n2")));
        follower.will_forward(move |node| {
            node.learns(led_by(Some("n3")));
            lost(deadline_exceeded)
        });
        assert_eq!(ask(&follower).await, code);
        assert_eq!(follower.forwarded_to(), ["n2"]);

        let leader = Harness::new(led_by(Some("n1")));
        leader.node.will_write(if deadline_exceeded { Write::Wait } else { Write::Answer(Err(WriteError::Stopped)) });
        assert_eq!(ask(&leader).await, code);
    }
}

#[tokio::test]
async fn a_status_that_the_leader_did_not_make_leaves_a_write_unknown() {
    let mut details = ErrorDetails::new();
    details.set_error_info("NOT_LEADER", "a.proxy", []);
    let proxys = Status::with_error_details(Code::Unavailable, "a reason like ours", details);
    for status in [Status::unavailable("reset"), Status::internal("h2"), Status::cancelled("Timeout expired"), proxys] {
        let harness = Harness::new(led_by(Some("n2")));
        harness.will_forward(move |_| Err(ForwardError::Answered(Box::new(status))));
        let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("who knows");
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(reason(&status), ("OUTCOME_UNKNOWN".to_owned(), "UNKNOWN".to_owned()));
    }
}

#[tokio::test]
async fn an_answer_of_another_kind_leaves_a_write_unknown() {
    for answer in [get_answer(), Ok(ForwardResponse { response: None })] {
        let harness = Harness::new(led_by(Some("n2")));
        harness.will_forward(move |_| answer);
        let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("nonsense");
        assert_eq!(reason(&status), ("OUTCOME_UNKNOWN".to_owned(), "UNKNOWN".to_owned()));
    }
}

#[tokio::test]
async fn a_node_outside_of_a_cluster_says_why_at_once() {
    let not_ready = Some("its data directory was emptied".to_owned());
    let harness = Harness::new(NodeStatus { role: Role::Outside, leader: None, not_ready, ..led_by(None) });
    let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("outside");
    assert_eq!(reason(&status), ("NOT_READY".to_owned(), "NOT_APPLIED".to_owned()));
    assert!(status.message().contains("its data directory was emptied"));
}

fn forward_request(request: Option<Request>) -> ForwardRequest {
    ForwardRequest { from: "n2".to_owned(), relay: false, question: false, request }
}

#[tokio::test]
async fn a_forwarded_request_is_run_here_or_not_at_all() {
    let soon = || Instant::now() + Duration::from_secs(5);
    let harness = Harness::new(led_by(Some("n1")));
    let target = &harness.api.forward_target;
    harness.node.will_write(Write::Answer(written()));
    let request = forward_request(Some(Request::Put(put())));
    let response = target.run_forwarded(request.clone(), soon(), None).await.expect("written");
    assert_eq!(response.response, Some(Answer::Put(PutResponse { revision: 4, version: 1, time_ms: TIME_MS })));

    // The node that forwarded was wrong about the leader. This one knows a better, and was not asked to pass it on.
    harness.node.learns(led_by(Some("n3")));
    harness.node.will_write(Write::Answer(Err(not_leader().into())));
    let status = target.run_forwarded(request.clone(), soon(), None).await.expect_err("it does not lead");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status), ("NOT_LEADER".to_owned(), "NOT_APPLIED".to_owned()));
    assert_eq!(status.metadata().get("quorate-leader-name").map(|name| name.as_bytes()), Some(&b"n3"[..]));
    assert!(harness.forwarded_to().is_empty());

    let status = target.run_forwarded(request.clone(), Instant::now(), None).await.expect_err("too late");
    assert_eq!(reason(&status), ("DEADLINE_EXCEEDED".to_owned(), "NOT_APPLIED".to_owned()));

    harness.drain.start();
    let status = target.run_forwarded(request, soon(), None).await.expect_err("draining");
    assert_eq!(reason(&status), ("DRAINING".to_owned(), "NOT_APPLIED".to_owned()));
}

#[tokio::test]
async fn what_a_peer_forwards_is_checked_again() {
    let harness = Harness::new(led_by(Some("n1")));
    let empty_key = Request::Put(PutRequest { key: String::new(), ..put() });
    for (request, expected) in [(None, "REQUEST_MISSING"), (Some(empty_key), "KEY_EMPTY")] {
        let deadline = Instant::now() + Duration::from_secs(5);
        let result = harness.api.forward_target.run_forwarded(forward_request(request), deadline, None).await;
        let status = result.expect_err("invalid");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status), (expected.to_owned(), "NOT_APPLIED".to_owned()));
    }
}
