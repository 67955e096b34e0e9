//! What a node says that cannot do what it is asked, whatever it is: without a majority, without room, at its end.

use super::{Call, expect};
use prost::Message as _;
use proto::{
    admin::v1::StatusResponse,
    kv::v1::{Consistency, GetRequest, PutRequest, PutResponse, kv_service_client::KvServiceClient},
};
use std::time::Duration;
use tests::{
    cluster::{Cluster, Options},
    raw::{self, Answer, Connection, frame},
    rpc::{self, Failure},
    wait::wait_for,
};
use tokio::task::{JoinHandle, JoinSet};
use tonic::{Code, Request, Status, transport::Channel};

/// Leaders that go on for a while without their followers.
pub(crate) const PATIENT: [&str; 4] = ["--election-timeout-ms", "10000", "--request-timeout-ms", "20000"];

/// The shortest request timeout at the default election timeout.
const REQUEST_TIMEOUT: [&str; 2] = ["--request-timeout-ms", "2000"];

/// Two of these values more than a leader holds of what no majority has.
const VALUES: u64 = 66;
const VALUE_BYTES: usize = 1 << 20;

/// More than all the memory that there is.
const RESERVE_BYTES: &str = "1099511627776";

/// Asks a node on a connection until it has answered what it was asked before on it.
async fn has_arrived(channel: &Channel) {
    for _ in 0..10 {
        rpc::status(channel).await.expect("the node answers");
    }
}

/// A put that is under way, with the longest deadline that there is.
fn begin_put(channel: &Channel, key: &str) -> JoinHandle<Result<PutResponse, Status>> {
    let (mut client, mut request) = (KvServiceClient::new(channel.clone()), Request::new(rpc::put_request(key, "v")));
    request.set_timeout(Duration::from_secs(60));
    tokio::spawn(async move { client.put(request).await.map(tonic::Response::into_inner) })
}

/// A cluster of which the others are paused: nothing that is written becomes committed.
pub(crate) async fn alone(flags: &[&str]) -> (Cluster, usize) {
    let mut cluster = Cluster::start(Options::default().with_flags(flags)).await;
    let leader = cluster.ready().await;
    cluster.put(leader, "kept", "v").await.expect("the key is new");
    cluster.converged().await;
    for other in cluster.others(leader) {
        cluster.nodes[other].pause();
    }
    (cluster, leader)
}

#[tokio::test]
async fn a_node_without_a_majority_says_so() {
    let mut cluster = Cluster::start(Options::default().with_flags(&REQUEST_TIMEOUT)).await;
    let leader = cluster.leader().await;
    let survivor = cluster.others(leader)[0];
    for other in cluster.others(survivor) {
        cluster.nodes[other].kill();
    }
    let channel = cluster.nodes[survivor].channel();
    // Until it has noticed, it may also have lost an answer.
    wait_for("the node knows that nobody leads", async || {
        rpc::status(&channel).await.ok().filter(|status| status.leader_name.is_empty())
    })
    .await;
    let metadata = expect(rpc::put(&channel, "k", "v").await, Call::Write, Code::Unavailable, "NO_QUORUM");
    assert_eq!((&metadata["reachable"][..], &metadata["needed"][..]), ("1", "2"), "it reaches only itself");
    expect(rpc::delete(&channel, "k").await, Call::Write, Code::Unavailable, "NO_QUORUM");
    expect(rpc::get(&channel, "k").await, Call::Other, Code::Unavailable, "NO_QUORUM");
    expect(rpc::get_outcome(&channel, rpc::request_id(1, 1)).await, Call::Other, Code::Unavailable, "NO_QUORUM");
}

#[tokio::test]
async fn a_node_without_a_majority_says_how_old_its_state_is() {
    let mut cluster = Cluster::start(Options::default().with_flags(&REQUEST_TIMEOUT)).await;
    let leader = cluster.leader().await;
    let survivor = cluster.others(leader)[0];
    let mut client = KvServiceClient::new(cluster.nodes[survivor].channel());
    let bounded = |max_staleness_ms| {
        let consistency = Consistency::Stale.into();
        GetRequest { consistency, max_staleness_ms, ..rpc::get_request("k") }
    };
    // The leader tells it that its state is good.
    let answer = rpc::bounded(client.get(bounded(Some(1)))).await;
    assert_eq!(rpc::failure(answer).metadata["stalenessMs"], "1");
    for other in cluster.others(survivor) {
        cluster.nodes[other].kill();
    }
    // Until it has noticed, it may still be told.
    let refused = wait_for("nobody tells it any more", async || {
        let answer = rpc::bounded(client.get(bounded(Some(1)))).await;
        let is_missing = answer.as_ref().is_err_and(|status| status.code() == Code::NotFound);
        (!is_missing).then_some(answer)
    });
    let metadata = expect(refused.await, Call::Other, Code::Unavailable, "STALENESS_BOUND_EXCEEDED");
    assert!(metadata["lagMs"].parse::<u64>().expect("it is a number") > 1, "{metadata:?}");
    // Whoever takes it as old as it is, is answered all the same.
    let answer = rpc::failure(rpc::bounded(client.get(bounded(None))).await);
    answer.expect(Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn a_node_that_waits_for_its_first_cluster_says_so() {
    let mut cluster = Cluster::new(&Options::default());
    cluster.nodes[0].start();
    let channel = cluster.nodes[0].channel();
    let waits = |status: &StatusResponse| status.not_ready_reason.starts_with("waiting for ");
    wait_for("the node says that it waits", async || rpc::status(&channel).await.ok().filter(waits)).await;
    let metadata = expect(rpc::put(&channel, "k", "v").await, Call::Write, Code::Unavailable, "NOT_READY");
    assert!(metadata["cause"].starts_with("waiting for "), "{metadata:?}");
    expect(rpc::get(&channel, "k").await, Call::Other, Code::Unavailable, "NOT_READY");
    // It has no state either, not even an old one.
    let stale = GetRequest { consistency: Consistency::Stale.into(), ..rpc::get_request("k") };
    let answer = rpc::bounded(KvServiceClient::new(channel.clone()).get(stale)).await;
    expect(answer, Call::Other, Code::Unavailable, "NOT_READY");
    expect(rpc::get_outcome(&channel, rpc::request_id(1, 1)).await, Call::Other, Code::Unavailable, "NOT_READY");
}

#[tokio::test]
async fn a_write_that_no_majority_has_in_time_is_unknown() {
    let (cluster, leader) = alone(&PATIENT).await;
    let before = rpc::status(&cluster.nodes[leader].channel()).await.expect("the leader answers");
    let mut request = Request::new(rpc::put_request("k", "v"));
    request.set_timeout(Duration::from_millis(500));
    let answer = rpc::bounded(KvServiceClient::new(cluster.nodes[leader].channel()).put(request)).await;
    let metadata = expect(answer, Call::Write, Code::DeadlineExceeded, "OUTCOME_UNKNOWN");
    assert_eq!(metadata["term"], before.term.to_string());
    assert_eq!(metadata["index"], (before.last_index + 1).to_string());
}

#[tokio::test]
async fn a_write_whose_message_comes_late_is_answered_before_the_library_ends_it() {
    let (cluster, leader) = alone(&PATIENT).await;
    let mut connection = Connection::open(cluster.nodes[leader].address()).await;
    let [content_type, trailers] = raw::HEADERS;
    let headers = [content_type, trailers, ("grpc-timeout", "1000m")];
    let body = frame(&rpc::put_request("k", "v").encode_to_vec());
    // A message that is held up for longer than was meant comes after the library's end.
    let answer = wait_for("the message comes before the deadline", async || {
        let late = Duration::from_millis(500);
        let answer = connection.call_late("/kv.v1.KvService/Put", &headers, body.clone(), late).await;
        let Answer::Status(status, _) = answer else { panic!("not a status: {answer:?}") };
        (status.code() != Code::Cancelled).then_some(status)
    });
    expect::<()>(Err(answer.await), Call::Write, Code::DeadlineExceeded, "OUTCOME_UNKNOWN");
}

#[tokio::test]
async fn a_read_that_no_majority_confirms_in_time_says_so() {
    let (cluster, leader) = alone(&PATIENT).await;
    let mut request = Request::new(rpc::get_request("kept"));
    request.set_timeout(Duration::from_millis(500));
    let answer = rpc::bounded(KvServiceClient::new(cluster.nodes[leader].channel()).get(request)).await;
    expect(answer, Call::Other, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_between_the_nodes_is_unknown() {
    let mut cluster = Cluster::start(Options::default().with_flags(&PATIENT)).await;
    let leader = cluster.ready().await;
    let follower = cluster.others(leader)[0];
    let channel = cluster.nodes[follower].channel();
    // The connection between the two is there from now on.
    rpc::put(&channel, "kept", "v").await.expect("the key is new");
    cluster.nodes[leader].pause();
    let put = begin_put(&channel, "k");
    has_arrived(&channel).await;
    cluster.nodes[leader].kill();
    let answer = put.await.expect("it does not panic");
    expect(answer, Call::Write, Code::Unknown, "OUTCOME_UNKNOWN");
}

#[tokio::test]
async fn a_leader_that_holds_too_much_that_no_majority_has_pushes_back() {
    let (cluster, leader) = alone(&PATIENT).await;
    let channel = cluster.nodes[leader].channel();
    let mut puts: JoinSet<_> = (0..VALUES)
        .map(|number| {
            let value = vec![b'v'; VALUE_BYTES].into();
            let request = PutRequest { value, ..rpc::put_request(&format!("k{number}"), "") };
            let channel = channel.clone();
            async move { rpc::put_with(&channel, request).await }
        })
        .collect();
    let refused = puts.join_next().await.expect("there are some").expect("it does not panic");
    expect(refused, Call::Write, Code::ResourceExhausted, "OVERLOADED");
    puts.abort_all();
}

#[tokio::test]
async fn a_leader_without_room_on_its_disk_says_so() {
    let options = Options { size: 1, ..Options::default() }.with_flags(&["--space-reserve-bytes", RESERVE_BYTES]);
    let cluster = Cluster::start(options).await;
    let channel = cluster.nodes[0].channel();
    expect(rpc::put(&channel, "k", "v").await, Call::Write, Code::ResourceExhausted, "STORAGE_FULL");
    // A delete needs no room, so it is run; and what became of a write can always be settled.
    rpc::get_outcome(&channel, rpc::request_id(1, 1)).await.expect("it is settled");
    expect(rpc::delete(&channel, "k").await, Call::Write, Code::NotFound, "KEY_NOT_FOUND");
    expect(rpc::get(&channel, "k").await, Call::Other, Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn a_node_that_was_asked_to_end_begins_nothing_new() {
    let (mut cluster, leader) = alone(&PATIENT).await;
    let channel = cluster.nodes[leader].channel();
    // What is under way keeps the node up for a while.
    let put = begin_put(&channel, "under way");
    has_arrived(&channel).await;
    cluster.nodes[leader].terminate();
    let refused = wait_for("a put is refused", async || {
        let mut request = Request::new(rpc::put_request("kept", "v"));
        request.set_timeout(Duration::from_millis(500));
        let answer = rpc::bounded(KvServiceClient::new(channel.clone()).put(request)).await;
        let reason = answer.as_ref().err().and_then(|status| Failure::of(status).reason);
        // Until the signal is heard of, the leader would wait for the others.
        (reason.as_deref() == Some("DRAINING")).then_some(answer)
    });
    expect(refused.await, Call::Write, Code::Unavailable, "DRAINING");
    expect(rpc::get(&channel, "kept").await, Call::Other, Code::Unavailable, "DRAINING");
    let settle = rpc::get_outcome(&channel, rpc::request_id(1, 1)).await;
    expect(settle, Call::Other, Code::Unavailable, "DRAINING");
    let ended = put.await.expect("it does not panic");
    let failure = rpc::failure(ended);
    assert_eq!(failure.outcome(), rpc::Outcome::Unknown, "it may be committed when the others wake: {failure:?}");
    assert!(cluster.nodes[leader].exit_status().await.success());
}
