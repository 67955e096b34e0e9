//! Partial partitions: a node that is cut off from the leader, and not from who follows it, answers everything by way
//! of the other, and disturbs nobody.

use crate::leaderless::quorum_get;
use client_cli::{Client, PutMode};
use proto::{admin::v1::StatusResponse, kv::v1::get_outcome_response::Outcome as Settled};
use tests::{
    cluster::{Cluster, Options},
    rpc::{self, Outcome},
    wait::wait_for,
};
use tokio::task::JoinSet;
use tonic::Code;

/// The session of the writes that are asked about.
const SESSION: u8 = 9;

/// Keys that a client of the library writes, reads and removes at once.
const KEYS: usize = 200;

/// Long enough to ask the other one, short enough to wait for in a test that must see it pass.
const REQUEST_TIMEOUT: [&str; 2] = ["--request-timeout-ms", "2000"];

/// Three nodes in a line: the first is cut off from the leader, which is the last.
struct Chain {
    cluster: Cluster,
    cut_off: usize,
    between: usize,
    leader: usize,
    term: u64,
}

impl Chain {
    async fn new() -> Chain {
        let options = Options { relayed: true, ..Options::default().with_flags(&REQUEST_TIMEOUT) };
        let cluster = Cluster::start(options).await;
        let leader = cluster.leader().await;
        let [cut_off, between] = cluster.others(leader)[..] else { panic!("three nodes have one leader") };
        cluster.put(cut_off, "before", "v").await.expect("the key is new");
        let term = cluster.converged().await.term;
        let chain = Chain { cluster, cut_off, between, leader, term };
        chain.cluster.links().cut(cut_off, leader);
        wait_for("the leader is missed", async || chain.status(cut_off).await.leader_name.is_empty().then_some(()))
            .await;
        chain
    }

    async fn status(&self, node: usize) -> StatusResponse {
        rpc::status(&self.cluster.nodes[node].channel()).await.expect("it runs")
    }

    /// Panics if anybody was disturbed, or if the node that is cut off is not any more.
    async fn expect_undisturbed(&self) {
        for node in [self.cut_off, self.between, self.leader] {
            let status = self.status(node).await;
            assert_eq!(status.term, self.term, "{} has another term", status.name);
            let known = if node == self.cut_off { "" } else { self.cluster.nodes[self.leader].name() };
            assert_eq!(status.leader_name, known, "who leads for {}", status.name);
        }
    }

    /// A client of the library that knows no other node than the one that is cut off.
    fn client(&self, pipelining: bool) -> Client {
        let endpoint = self.cluster.nodes[self.cut_off].address().to_string();
        Client::connect(client_cli::Options::new([endpoint]).expect("it is well formed").pipelining(pipelining))
    }
}

#[tokio::test]
async fn who_is_cut_off_from_the_leader_answers_every_call_by_way_of_the_other() {
    let chain = Chain::new().await;
    let (cluster, node) = (&chain.cluster, chain.cut_off);
    let channel = cluster.nodes[node].channel();
    assert_eq!(cluster.get(node, "before").await.expect("it was written before"), "v");
    cluster.put(node, "k", "v").await.expect("the key is new");
    assert_eq!(cluster.get(node, "k").await.expect("it was just written"), "v");
    let found = quorum_get(cluster, node, "k").await.expect("two of three answer");
    assert_eq!(found.kv.expect("an answer to a get carries the key").value.as_ref(), b"v");

    let exists = rpc::failure(cluster.put(node, "k", "other").await);
    exists.expect(Code::AlreadyExists, "KEY_EXISTS");
    exists.expect_outcome(Outcome::NotApplied);
    let id = rpc::request_id(SESSION, 1);
    let named = proto::kv::v1::PutRequest { request_id: Some(id.clone()), ..rpc::put_request("named", "v") };
    let written = rpc::put_with(&channel, named).await.expect("the key is new");
    match rpc::get_outcome(&channel, id).await.expect("it is told").outcome {
        Some(Settled::Put(told)) => assert_eq!(told.revision, written.revision),
        other => panic!("it was applied: {other:?}"),
    }
    cluster.delete(node, "k").await.expect("it is there");
    rpc::failure(cluster.get(node, "k").await).expect(Code::NotFound, "KEY_NOT_FOUND");
    assert_eq!(quorum_get(cluster, node, "k").await.expect_err("it was removed").code(), Code::NotFound);
    chain.expect_undisturbed().await;

    cluster.links().mend(node, chain.leader);
    assert_eq!(cluster.leader().await, chain.leader, "it follows again");
    assert_eq!(cluster.converged().await.term, chain.term);
}

#[tokio::test]
async fn who_is_cut_off_from_the_leader_answers_clients_of_the_library_too() {
    let chain = Chain::new().await;
    for pipelining in [true, false] {
        let mut clients = JoinSet::new();
        let client = chain.client(pipelining);
        for number in 0..KEYS {
            let client = client.clone();
            clients.spawn(async move {
                let key = format!("{pipelining} {number}");
                client.put(key.as_str(), "v", PutMode::Create).await?;
                let found = client.get(key.as_str()).await?;
                assert_eq!(found.key_value.value.as_ref(), b"v");
                client.delete(key.as_str(), None).await
            });
        }
        for ended in clients.join_all().await {
            ended.expect("each request is answered");
        }
    }
    chain.expect_undisturbed().await;
}

#[tokio::test]
async fn who_is_cut_off_from_all_others_says_so_and_goes_on_when_one_is_back() {
    let chain = Chain::new().await;
    let (cluster, node) = (&chain.cluster, chain.cut_off);
    assert_eq!(cluster.get(node, "before").await.expect("the other passes it on"), "v");
    // What was passed on went over this link.
    cluster.links().cut(node, chain.between);
    let failure = rpc::failure(cluster.get(node, "before").await);
    assert!(matches!(failure.code, Code::Unavailable | Code::DeadlineExceeded), "{failure:?}");
    assert!(failure.reason.is_some(), "{failure:?}");
    cluster.links().mend(node, chain.between);
    wait_for("it is answered again", async || cluster.get(node, "before").await.ok()).await;
    chain.expect_undisturbed().await;
}
