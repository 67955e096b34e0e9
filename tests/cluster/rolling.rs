//! Nodes that are ended and started again one after the other, as an update does: nobody notices.

use client_cli::{Client, Options as ClientOptions, PutMode};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tests::{
    cluster::{Cluster, Options},
    rpc,
    wait::wait_for,
};
use tokio::task::JoinSet;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Clients that write all the while.
const WRITERS: u64 = 4;

/// Writes that are acknowledged before the next node is ended.
const WRITES_BETWEEN: u64 = 100;

#[tokio::test]
async fn a_node_that_is_told_to_end_serves_until_its_delay_is_over() {
    // So long that all below is over before: nothing waits for the end of it.
    let options = Options::default().with_flags(&["--shutdown-delay-ms", "60000"]);
    let mut cluster = Cluster::start(options).await;
    let leader = cluster.leader().await;
    let channel = cluster.nodes[leader].channel();
    cluster.nodes[leader].terminate();
    wait_for("it is not ready any more", async || {
        let request = HealthCheckRequest { service: "readiness".to_owned() };
        let answer = rpc::bounded(HealthClient::new(channel.clone()).check(request)).await.ok()?;
        (answer.status() == ServingStatus::NotServing).then_some(())
    })
    .await;
    wait_for("another leads", async || {
        let status = rpc::status(&channel).await.ok()?;
        (!status.leader_name.is_empty() && status.leader_name != cluster.nodes[leader].name()).then_some(())
    })
    .await;
    cluster.put(leader, "k", "v").await.expect("it serves whoever asks it");
    assert_eq!(cluster.get(leader, "k").await.expect("it was acknowledged"), "v");
    // Asked a second time, it does not wait.
    cluster.nodes[leader].terminate();
    assert_eq!(cluster.nodes[leader].exit_status().await.code(), Some(1));
}

#[tokio::test]
async fn a_rolling_restart_costs_a_client_no_error_and_no_write() {
    let mut cluster = Cluster::start(Options::default().with_flags(&["--shutdown-delay-ms", "300"])).await;
    let endpoints: Vec<String> = cluster.nodes.iter().map(|node| node.address().to_string()).collect();
    let (done, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = Client::connect(ClientOptions::new(&endpoints).expect("they are addresses"));
        let (done, written) = (Arc::clone(&done), Arc::clone(&written));
        writers.spawn(async move {
            let mut keys = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let key = format!("w{writer}-{}", keys.len());
                client.put(&key, key.clone().into_bytes(), PutMode::Create).await.expect("no error");
                assert_eq!(client.get(&key).await.expect("no error").key_value.value, key.as_bytes());
                keys.push(key);
                written.fetch_add(1, Ordering::Relaxed);
            }
            keys
        });
    }
    for node in 0..cluster.nodes.len() {
        let before = written.load(Ordering::Relaxed);
        wait_for("writes go on", async || (written.load(Ordering::Relaxed) >= before + WRITES_BETWEEN).then_some(()))
            .await;
        cluster.nodes[node].terminate();
        assert_eq!(cluster.nodes[node].exit_status().await.code(), Some(0));
        cluster.nodes[node].start();
        cluster.ready().await;
    }
    done.store(true, Ordering::Relaxed);
    let keys: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
    assert!(keys.len() as u64 >= 3 * WRITES_BETWEEN);
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(cluster.get(at % 3, key).await.expect("it was acknowledged"), *key);
    }
    cluster.converged().await;
}
