//! Linearizable gets under a leader's lease: by real clocks, of processes that are cut off or stand still.

use crate::settings::{all_have, update};
use proto::{
    admin::v1::UpdateSettingsRequest,
    kv::v1::{PutMode, PutRequest},
};
use std::time::Duration;
use tests::{
    cluster::{Cluster, Options},
    rpc,
    wait::wait_for,
};
use tokio::time::sleep;

/// So long that a lease lasts until a test has looked at it, on a busy machine too.
const LATE_ELECTIONS: [&str; 4] = ["--election-timeout-ms", "4000", "--request-timeout-ms", "15000"];

/// Several heartbeats.
const HEARTBEATS: Duration = Duration::from_millis(500);

/// Long enough for a get that is answered alone, and shorter than any election.
const SOON: Duration = Duration::from_millis(1_500);

/// Three nodes with leases, and the one that leads. There is `k`, with `first` as its value.
async fn with_leases(flags: &[&str]) -> (Cluster, usize) {
    let cluster = Cluster::start(Options { relayed: true, ..Options::default().with_flags(flags) }).await;
    cluster.put(0, "k", "first").await.expect("the key is new");
    let leader = cluster.leader().await;
    let request = UpdateSettingsRequest { lease_reads: Some(true), request_id: None };
    update(&cluster, leader, request).await.expect("the leader makes it");
    all_have(&cluster, true).await;
    sleep(HEARTBEATS).await;
    (cluster, leader)
}

/// Writes to `k` until that is acknowledged, which may take an election.
async fn write(cluster: &Cluster, node: usize, value: &str) {
    let request = PutRequest { mode: PutMode::Upsert.into(), ..rpc::put_request("k", value) };
    let channel = cluster.nodes[node].channel();
    wait_for("the write is acknowledged", async || rpc::put_with(&channel, request.clone()).await.ok()).await;
}

/// What this node says of `k` within a moment.
async fn get_soon(cluster: &Cluster, node: usize) -> Option<String> {
    tokio::time::timeout(SOON, cluster.get(node, "k")).await.ok()?.ok()
}

#[tokio::test]
async fn a_leader_that_is_cut_off_answers_until_its_lease_ends() {
    let (cluster, leader) = with_leases(&LATE_ELECTIONS).await;
    let others = cluster.others(leader);
    others.iter().for_each(|&other| cluster.links().cut(leader, other));
    assert_eq!(get_soon(&cluster, leader).await.as_deref(), Some("first"), "it asks nobody");
    // Whoever acknowledges this was elected when the lease was over.
    write(&cluster, others[0], "second").await;
    assert_eq!(get_soon(&cluster, leader).await, None);
    others.iter().for_each(|&other| cluster.links().mend(leader, other));
    let found = wait_for("it answers again", async || cluster.get(leader, "k").await.ok()).await;
    assert_eq!(found, "second");
}

#[tokio::test]
async fn a_leader_that_stood_still_has_no_lease_when_it_goes_on() {
    let (mut cluster, mut leader) = with_leases(&[]).await;
    for round in 0..3 {
        let others = cluster.others(leader);
        assert!(get_soon(&cluster, leader).await.is_some(), "the connection is open, and a lease held");
        cluster.nodes[leader].pause();
        let value = format!("round {round}");
        write(&cluster, others[0], &value).await;
        // The get waits in a socket when the process goes on, and finds it believing that it leads.
        let channel = cluster.nodes[leader].channel();
        let get = tokio::spawn(async move { rpc::get_text(&channel, "k").await });
        sleep(Duration::from_millis(100)).await;
        cluster.nodes[leader].resume();
        if let Ok(found) = get.await.expect("the get does not panic") {
            assert_eq!(found, value);
        }
        leader = cluster.leader().await;
        sleep(HEARTBEATS).await;
    }
}
