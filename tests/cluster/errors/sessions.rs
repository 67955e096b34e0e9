//! What is wrong with a request id in view of what the cluster remembers of its session.
//!
//! A session expires here because others need its room. That an idle one does so after an hour of replicated time is
//! shown where an hour takes no time: in server/engine/tests/kv_sessions.rs.

use super::{Call, expect};
use proto::kv::v1::{
    DeleteRequest, GetOutcomeResponse, PutMode, PutRequest, RequestId, get_outcome_response::Outcome,
    kv_service_client::KvServiceClient,
};
use tests::{
    cluster::{Cluster, Options},
    rpc,
};
use tonic::{Code, transport::Channel};

/// The largest value. A session is full when its results hold so much, and all sessions together may hold a little less
/// than this many times as much.
const VALUE_BYTES: usize = 1 << 20;
const SESSIONS: u8 = 64;

/// Results that one session may keep.
const RESULTS_MAX: u64 = 4096;

/// Requests under way at once, where there have to be many.
const WINDOW: u64 = 256;

fn put(key: &str, id: RequestId) -> PutRequest {
    PutRequest { request_id: Some(id), ..rpc::put_request(key, "v") }
}

async fn delete(channel: &Channel, key: &str, id: RequestId) -> Result<(), tonic::Status> {
    let request = DeleteRequest { return_previous: true, request_id: Some(id), ..rpc::delete_request(key) };
    rpc::bounded(KvServiceClient::new(channel.clone()).delete(request)).await.map(drop)
}

/// A cluster, and connections to its leader and to a node that forwards.
async fn cluster() -> (Cluster, [Channel; 2]) {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let channels = [leader, cluster.others(leader)[0]].map(|node| cluster.nodes[node].channel());
    (cluster, channels)
}

/// Has a session remove a key with the largest value and keep it for a repeat.
async fn keep_a_large_result(channel: &Channel, session: u8) {
    let (key, mode) = (format!("large {session}"), PutMode::Upsert.into());
    let request = PutRequest { value: vec![b'v'; VALUE_BYTES].into(), mode, ..rpc::put_request(&key, "") };
    rpc::put_with(channel, request).await.expect("there is room");
    delete(channel, &key, rpc::request_id(session, 1)).await.expect("the key is there");
}

#[tokio::test]
async fn an_id_that_was_given_to_another_request_is_refused() {
    let (cluster, channels) = cluster().await;
    let id = rpc::request_id(1, 1);
    rpc::put_with(&channels[0], put("a", id.clone())).await.expect("the key is new");
    let elsewhen = RequestId { opened_at_ms: 1, ..rpc::request_id(1, 2) };
    let (code, reason) = (Code::InvalidArgument, "REQUEST_ID_REUSED");
    for channel in &channels {
        expect(rpc::put_with(channel, put("b", id.clone())).await, Call::Write, code, reason);
        expect(delete(channel, "a", id.clone()).await, Call::Write, code, reason);
        expect(rpc::put_with(channel, put("b", elsewhen.clone())).await, Call::Write, code, reason);
        expect(rpc::get_outcome(channel, elsewhen.clone()).await, Call::Other, code, reason);
    }
    expect(cluster.get(0, "b").await, Call::Other, Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn a_session_that_was_opened_in_the_future_is_refused() {
    let (cluster, channels) = cluster().await;
    let id = RequestId { opened_at_ms: u64::MAX, ..rpc::request_id(1, 1) };
    let (code, reason) = (Code::InvalidArgument, "REQUEST_ID_AHEAD");
    for (session, channel) in (2..).zip(&channels) {
        let metadata = expect(rpc::put_with(channel, put("a", id.clone())).await, Call::Write, code, reason);
        let time_ms: u64 = metadata["timeMs"].parse().expect("it is a number");
        expect(delete(channel, "a", id.clone()).await, Call::Write, code, reason);
        let metadata = expect(rpc::get_outcome(channel, id.clone()).await, Call::Other, code, reason);
        assert!(metadata["timeMs"].parse::<u64>().expect("it is a number") >= time_ms, "it goes back: {metadata:?}");
        // Opened at the time that it was told of, the session is sound.
        let told = RequestId { opened_at_ms: time_ms, ..rpc::request_id(session, 1) };
        let answer = rpc::put_with(channel, put(&format!("of {session}"), told)).await.expect("the session is sound");
        assert!(answer.time_ms >= time_ms, "it goes back: {answer:?}");
    }
    expect(cluster.get(0, "a").await, Call::Other, Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn a_write_that_was_settled_as_never_applied_is_refused() {
    let (cluster, channels) = cluster().await;
    let id = rpc::request_id(1, 1);
    for channel in &channels {
        let GetOutcomeResponse { outcome, .. } = rpc::get_outcome(channel, id.clone()).await.expect("it is settled");
        assert!(matches!(outcome, Some(Outcome::NeverApplied(_))), "{outcome:?}");
    }
    for channel in &channels {
        let answer = rpc::put_with(channel, put("a", id.clone())).await;
        expect(answer, Call::Write, Code::Aborted, "REQUEST_FENCED");
        expect(delete(channel, "a", id.clone()).await, Call::Write, Code::Aborted, "REQUEST_FENCED");
    }
    expect(cluster.get(0, "a").await, Call::Other, Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn a_write_whose_result_the_client_let_go_is_refused() {
    let (_cluster, channels) = cluster().await;
    let first = rpc::request_id(1, 1);
    rpc::put_with(&channels[0], put("a", first.clone())).await.expect("the key is new");
    let second = RequestId { acknowledged_below: 2, ..rpc::request_id(1, 2) };
    rpc::put_with(&channels[0], put("b", second)).await.expect("the key is new");
    for channel in &channels {
        let answer = rpc::put_with(channel, put("a", first.clone())).await;
        expect(answer, Call::Write, Code::FailedPrecondition, "RESULT_FORGOTTEN");
        let answer = rpc::get_outcome(channel, first.clone()).await.expect("it is known to be unknown");
        assert!(matches!(answer.outcome, Some(Outcome::Forgotten(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_session_that_keeps_too_many_bytes_runs_nothing_more() {
    let (cluster, channels) = cluster().await;
    keep_a_large_result(&channels[0], 1).await;
    let (code, reason) = (Code::ResourceExhausted, "SESSION_FULL");
    for channel in &channels {
        expect(rpc::put_with(channel, put("a", rpc::request_id(1, 2))).await, Call::Write, code, reason);
        expect(rpc::get_outcome(channel, rpc::request_id(1, 2)).await, Call::Other, code, reason);
        delete(channel, "large 1", rpc::request_id(1, 1)).await.expect("what it keeps is there for a repeat");
    }
    expect(cluster.get(0, "a").await, Call::Other, Code::NotFound, "KEY_NOT_FOUND");
    let acknowledges = RequestId { acknowledged_below: 2, ..rpc::request_id(1, 2) };
    rpc::put_with(&channels[1], put("a", acknowledges)).await.expect("the client has made room");
}

#[tokio::test]
async fn a_session_that_keeps_too_many_results_runs_nothing_more() {
    let cluster = Cluster::start(Options { size: 1, ..Options::default() }).await;
    let channel = cluster.nodes[0].channel();
    for first in (1..=RESULTS_MAX).step_by(usize::try_from(WINDOW).expect("it is small")) {
        let puts = (first..first + WINDOW).map(|sequence| {
            let (channel, request) = (channel.clone(), put(&format!("k{sequence}"), rpc::request_id(1, sequence)));
            async move { rpc::put_with(&channel, request).await }
        });
        for answer in puts.collect::<tokio::task::JoinSet<_>>().join_all().await {
            answer.expect("there is room");
        }
    }
    let answer = rpc::put_with(&channel, put("a", rpc::request_id(1, RESULTS_MAX + 1))).await;
    expect(answer, Call::Write, Code::ResourceExhausted, "SESSION_FULL");
    rpc::put_with(&channel, put("k7", rpc::request_id(1, 7))).await.expect("a repeat needs no room");
}

#[tokio::test]
async fn a_session_that_had_to_make_room_has_expired() {
    // One node and long segments: only what is kept counts here.
    let options = Options { size: 1, segment_bytes: Some(8 << 20), ..Options::default() };
    let cluster = Cluster::start(options).await;
    let channel = cluster.nodes[0].channel();
    for session in 1..=SESSIONS {
        keep_a_large_result(&channel, session).await;
    }
    let (code, reason) = (Code::FailedPrecondition, "SESSION_EXPIRED");
    let metadata = expect(delete(&channel, "large 1", rpc::request_id(1, 1)).await, Call::Write, code, reason);
    expect(rpc::put_with(&channel, put("a", rpc::request_id(1, 2))).await, Call::Write, code, reason);
    expect(rpc::get_outcome(&channel, rpc::request_id(1, 1)).await, Call::Other, code, reason);
    // Nobody knows of this session either that it is new: it is opened before one that was dropped was used.
    expect(rpc::put_with(&channel, put("a", rpc::request_id(200, 1))).await, Call::Write, code, reason);
    let time_ms: u64 = metadata["timeMs"].parse().expect("it is a number");
    let status = rpc::status(&channel).await.expect("the node answers");
    assert!((1..=status.time_ms).contains(&time_ms), "{time_ms}, and now {}", status.time_ms);
    delete(&channel, &format!("large {SESSIONS}"), rpc::request_id(SESSIONS, 1)).await.expect("the youngest are kept");
    tests::wait::wait_for("a new session is taken", async || {
        let opened_at_ms = rpc::status(&channel).await.ok()?.time_ms;
        let id = RequestId { opened_at_ms, ..rpc::request_id(201, 1) };
        rpc::put_with(&channel, put("a", id)).await.ok()
    })
    .await;
}
