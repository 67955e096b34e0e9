//! Partitions of five nodes in which some links work and some do not: who is elected, and what is answered when nobody
//! can be. The scenarios are those of the core's tests of the same names, where it is counted how long they take.

use crate::leaderless::quorum_get;
use tests::{
    cluster::{Cluster, Options},
    rpc,
    wait::wait_for,
};
use tonic::Code;

/// Long enough for an election, short enough to wait for where nobody can be elected.
const REQUEST_TIMEOUT: [&str; 2] = ["--request-timeout-ms", "2000"];

/// Five nodes, one of which leads, and the other four.
async fn five() -> (Cluster, usize, [usize; 4]) {
    let options = Options { size: 5, relayed: true, ..Options::default().with_flags(&REQUEST_TIMEOUT) };
    let cluster = Cluster::start(options).await;
    let leader = cluster.leader().await;
    let others = cluster.others(leader).try_into().expect("five nodes have one leader");
    cluster.put(leader, "before", "v").await.expect("the key is new");
    cluster.converged().await;
    (cluster, leader, others)
}

/// Only these links are left.
fn keep_links(cluster: &Cluster, links: &[(usize, usize)]) {
    for one in 0..5 {
        for other in one + 1..5 {
            if links.contains(&(one, other)) || links.contains(&(other, one)) {
                cluster.links().mend(one, other);
            } else {
                cluster.links().cut(one, other);
            }
        }
    }
}

/// Waits until one of these nodes leads, as it says itself, and has a majority.
async fn leader_among(cluster: &Cluster, nodes: &[usize], key: &str) -> usize {
    wait_for("one of them leads and takes a put", async || {
        for &node in nodes {
            let status = rpc::status(&cluster.nodes[node].channel()).await.ok()?;
            if status.leader_name == cluster.nodes[node].name() && is_written(cluster, node, key).await {
                return Some(node);
            }
        }
        None
    })
    .await
}

/// Whether a put is acknowledged, or an earlier one that was not has done it.
async fn is_written(cluster: &Cluster, node: usize, key: &str) -> bool {
    match cluster.put(node, key, "v").await {
        Ok(_) => true,
        Err(status) => status.code() == Code::AlreadyExists,
    }
}

async fn put_and_get(cluster: &Cluster, node: usize, key: &str) {
    wait_for("the node takes a put", async || is_written(cluster, node, key).await.then_some(())).await;
    let found = wait_for("the node answers a get", async || cluster.get(node, key).await.ok()).await;
    assert_eq!(found, "v");
}

#[tokio::test]
async fn quorum_loss_the_hub_is_elected_and_all_are_served() {
    let (cluster, leader, [hub, others @ ..]) = five().await;
    keep_links(&cluster, &[(leader, hub), (hub, others[0]), (hub, others[1]), (hub, others[2])]);
    assert_eq!(leader_among(&cluster, &[hub], "by the hub").await, hub);
    for (node, key) in [(leader, "a"), (others[0], "b"), (others[1], "c"), (others[2], "d")] {
        put_and_get(&cluster, node, key).await;
    }
}

#[tokio::test]
async fn constrained_election_reads_of_a_majority_go_on_though_nobody_can_lead() {
    let (cluster, leader, [hub, others @ ..]) = five().await;
    // The hub misses a write, and then is the only one that reaches a majority.
    keep_links(
        &cluster,
        &[
            (leader, others[0]),
            (leader, others[1]),
            (leader, others[2]),
            (others[0], others[1]),
            (others[0], others[2]),
            (others[1], others[2]),
        ],
    );
    let revision = cluster.put(leader, "missed", "v").await.expect("four of five are there").revision;
    wait_for("all but the hub have it", async || {
        for node in others {
            let status = rpc::status(&cluster.nodes[node].channel()).await.ok()?;
            if status.revision < revision {
                return None;
            }
        }
        Some(())
    })
    .await;
    keep_links(&cluster, &[(hub, others[0]), (hub, others[1]), (hub, others[2])]);
    for key in ["missed", "before"] {
        let found = wait_for("a majority answers", async || quorum_get(&cluster, hub, key).await.ok()).await;
        assert_eq!(found.kv.expect("it is there").value.as_ref(), b"v");
    }
    let status = rpc::status(&cluster.nodes[hub].channel()).await.expect("it runs");
    assert!(status.revision < revision, "the hub has never received it");
    cluster.put(hub, "nobody takes this", "v").await.expect_err("nobody leads a majority");
    // As soon as three nodes reach each other, there is a leader.
    keep_links(&cluster, &[(hub, others[0]), (hub, others[1]), (hub, others[2]), (others[0], others[1])]);
    leader_among(&cluster, &[others[0], others[1]], "after").await;
    put_and_get(&cluster, others[2], "by way of the hub").await;
}

#[tokio::test]
async fn a_bridge_to_the_old_leader_keeps_no_majority_from_a_new_one() {
    let (cluster, leader, [bridge, one, other, alone]) = five().await;
    keep_links(&cluster, &[(leader, bridge), (bridge, one), (bridge, other), (one, other)]);
    leader_among(&cluster, &[bridge, one, other], "by the new leader").await;
    // The old one reaches a node that follows, or leads.
    put_and_get(&cluster, leader, "by way of the bridge").await;
    let found = rpc::status(&cluster.nodes[alone].channel()).await.expect("it runs");
    assert_eq!(found.leader_name, "", "it hears of nobody");
    keep_links(&cluster, &(0..5).flat_map(|one| (one + 1..5).map(move |other| (one, other))).collect::<Vec<_>>());
    cluster.converged().await;
}
