//! Reads that need no leader: any node answers from a majority, with the leader standing still, and where the write
//! never came.

use crate::quorum::{lead, put_until_acknowledged};
use proto::kv::v1::{Consistency, GetRequest, GetResponse};
use std::fs;
use tests::{
    clients::{Clients, Workload},
    cluster::{Cluster, Options},
    recorder::{Least, Recorder},
    rpc,
    wait::wait_for,
};
use tonic::{Code, Status};

/// So long that no election happens before the term is looked at, so that who was not waited for is certain.
const LATE_ELECTIONS: [&str; 4] = ["--election-timeout-ms", "3000", "--request-timeout-ms", "15000"];

const REQUEST_TIMEOUT: [&str; 2] = ["--request-timeout-ms", "2000"];

pub(crate) async fn quorum_get(cluster: &Cluster, node: usize, key: &str) -> Result<GetResponse, Status> {
    let request = GetRequest { consistency: Consistency::Quorum.into(), ..rpc::get_request(key) };
    rpc::bounded(rpc::kv(&cluster.nodes[node].channel()).get(request)).await
}

fn value(response: GetResponse) -> String {
    let kv = response.kv.expect("an answer to a get carries the key");
    String::from_utf8(kv.value.to_vec()).expect("the tests write text")
}

/// The quorum scenario, hardened: `peer2` is cut off from the leader, so that what is written never comes to it, and
/// reads it from the other one all the same.
async fn never_received(leader: usize) {
    let mut cluster = Cluster::discovered();
    cluster.start_all();
    cluster.ready().await;
    lead(&cluster, leader).await;
    let before = cluster.converged().await;
    cluster.links().cut(2, leader);

    put_until_acknowledged(&cluster, 0, "k1", "alpha").await;
    put_until_acknowledged(&cluster, 1, "k2", "beta").await;
    let mut result = String::new();
    for key in ["k1", "k2"] {
        let found = quorum_get(&cluster, 2, key).await.expect("a majority has it");
        assert_ne!(found.served_by, "peer2");
        result.push_str(&format!("{key}={}\n", value(found)));
    }
    let missing = quorum_get(&cluster, 2, "k3").await.expect_err("nobody wrote it");
    assert_eq!(missing.code(), Code::NotFound);
    let path = cluster.directory().join("result.txt");
    fs::write(&path, result).expect("the result can be written");
    assert_eq!(fs::read(&path).expect("the result can be read"), b"k1=alpha\nk2=beta\n");
    let status = rpc::status(&cluster.nodes[2].channel()).await.expect("it runs");
    assert_eq!((status.revision, status.key_count), (before.revision, 0), "peer2 received the writes");

    cluster.links().mend(2, leader);
    assert_eq!(cluster.converged().await.key_count, 2);
}

#[tokio::test]
async fn peer2_reads_what_it_never_received_from_peer0() {
    never_received(0).await;
}

#[tokio::test]
async fn peer2_reads_what_it_never_received_from_peer1() {
    never_received(1).await;
}

#[tokio::test]
async fn a_leader_that_stands_still_is_not_waited_for() {
    let mut cluster = Cluster::start(Options::default().with_flags(&LATE_ELECTIONS)).await;
    cluster.put(0, "k", "v").await.expect("the key is new");
    let before = cluster.converged().await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].pause();
    for node in cluster.others(leader) {
        assert_eq!(value(quorum_get(&cluster, node, "k").await.expect("two of three answer")), "v");
        let missing = quorum_get(&cluster, node, "absent").await.expect_err("nobody wrote it");
        assert_eq!(missing.code(), Code::NotFound);
    }
    let others = cluster.others(leader);
    let status = rpc::status(&cluster.nodes[others[0]].channel()).await.expect("it runs");
    assert_eq!(status.term, before.term, "nobody was elected meanwhile");
    // The other level has to wait for somebody who leads.
    let found = wait_for("another is elected", async || cluster.get(others[0], "k").await.ok()).await;
    let status = rpc::status(&cluster.nodes[others[0]].channel()).await.expect("it runs");
    assert_eq!(found, "v");
    assert!(status.term > before.term, "it was answered without a leader");
    // What was answered may not change when it wakes.
    cluster.nodes[leader].resume();
    assert_eq!(value(quorum_get(&cluster, leader, "k").await.expect("all are there")), "v");
}

#[tokio::test]
async fn a_minority_says_that_there_is_no_quorum() {
    let mut cluster = Cluster::start(Options::default().with_flags(&REQUEST_TIMEOUT)).await;
    cluster.put(0, "k", "v").await.expect("the key is new");
    cluster.converged().await;
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let failure = rpc::failure(quorum_get(&cluster, 0, "k").await);
    assert_eq!((failure.code, failure.reason.as_deref()), (Code::Unavailable, Some("NO_QUORUM")), "{failure:?}");
    cluster.start_all();
    wait_for("a majority answers again", async || quorum_get(&cluster, 0, "k").await.ok()).await;
}

#[tokio::test]
async fn reads_of_both_levels_are_in_one_order_with_the_writes_while_links_break() {
    let options = Options { relayed: true, ..Options::default().with_flags(&REQUEST_TIMEOUT) };
    let cluster = Cluster::start(options).await;
    let recorder = Recorder::new("leaderless");
    let workload = Workload { clients: 6, keys: 2, operations_per_generation: 150 };
    let clients = Clients::start(&cluster, &recorder, workload);
    for round in 0..2 {
        clients.progress(60).await;
        let leader = cluster.leader().await;
        let other = cluster.others(leader)[round];
        cluster.links().cut(leader, other);
        clients.progress(60).await;
        cluster.links().mend(leader, other);
        clients.progress(20).await;
        let leader = cluster.leader().await;
        cluster.others(leader).into_iter().for_each(|other| cluster.links().cut(leader, other));
        // The others elect one, and whoever asks the old one is told that it has no majority.
        clients.progress(40).await;
        cluster.others(leader).into_iter().for_each(|other| cluster.links().mend(leader, other));
    }
    clients.finish().await;
    cluster.ready().await;
    recorder.read_every_key(&cluster).await;
    recorder.judge(Least { definite: 200, overlapping: 80 });
    cluster.converged().await;
}
