//! Acknowledged writes survive `kill -9`.

use tests::{
    clients::{Clients, Workload},
    cluster::Cluster,
    recorder::{Least, Recorder},
    rpc::{self, Outcome},
};
use tonic::Code;

/// How many processes are killed, one after the other.
const ROUNDS: usize = 20;

/// Writes that are acknowledged between two kills at least; half as many while a process is down.
const WRITES_PER_ROUND: u64 = 20;

/// Several generations of keys a round, so that most are written before many a kill and read behind them all.
const WORKLOAD: Workload = Workload { clients: 4, keys: 2, operations_per_generation: 50 };

fn value_of(key: &str) -> String {
    format!("value of {key}")
}

async fn expect_all(cluster: &Cluster, node: usize, keys: &[String]) {
    let channel = cluster.nodes[node].channel();
    for key in keys {
        let value = rpc::get_text(&channel, key).await.unwrap_or_else(|status| {
            panic!("{key} was acknowledged, and {} says: {status}", cluster.nodes[node].name());
        });
        assert_eq!(value, value_of(key));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_twenty_kills_and_the_death_of_all_three() {
    let mut cluster = Cluster::of_three().await;
    let recorder = Recorder::new("twenty-kills");
    let clients = Clients::start(&cluster, &recorder, WORKLOAD);
    for round in 0..ROUNDS {
        let leader = cluster.ready().await;
        // In turn the leader, one follower, the other follower.
        let victim = match round % 3 {
            0 => leader,
            follower => cluster.others(leader)[follower - 1],
        };
        clients.progress(WRITES_PER_ROUND).await;
        cluster.nodes[victim].kill();
        clients.progress(WRITES_PER_ROUND / 2).await;
        cluster.nodes[victim].start();
    }
    cluster.ready().await;
    recorder.read_every_key(&cluster).await;

    // The clients go on: what is under way when the processes die has to fit, too.
    clients.progress(WRITES_PER_ROUND).await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all();
    cluster.ready().await;
    clients.progress(WRITES_PER_ROUND).await;
    clients.finish().await;
    recorder.read_every_key(&cluster).await;
    recorder.judge(Least { definite: 1_000, overlapping: 400 });
    cluster.put(0, "last", "v").await.expect("the key is new");
    cluster.converged().await;
}

#[tokio::test]
async fn a_write_acknowledged_just_before_all_are_killed_is_there_after_the_restart() {
    let mut cluster = Cluster::of_three().await;
    for round in 0..3 {
        let key = format!("k{round}");
        cluster.put(round, &key, &value_of(&key)).await.expect("the key is new");
        for node in &mut cluster.nodes {
            node.kill();
        }
        cluster.start_all();
        cluster.ready().await;
        expect_all(&cluster, (round + 1) % 3, &[key]).await;
    }
}

#[tokio::test]
async fn a_delete_acknowledged_before_a_kill_stays_deleted() {
    let mut cluster = Cluster::of_three().await;
    cluster.put(0, "k", "v").await.expect("the key is new");
    cluster.delete(1, "k").await.expect("the key is there");
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let survivor = cluster.others(leader)[0];
    cluster.leader().await;
    let missing = tests::rpc::failure(cluster.delete(survivor, "k").await);
    missing.expect(Code::NotFound, "KEY_NOT_FOUND");
    missing.expect_outcome(Outcome::NotApplied);
}

#[tokio::test]
async fn a_follower_that_missed_more_than_memory_holds_catches_up_from_the_leaders_disk() {
    /// Together more than the part of the log that a leader keeps in memory, 32 MiB.
    const VALUES: u64 = 40;
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let behind = cluster.others(leader)[0];
    cluster.nodes[behind].kill();
    let value = "v".repeat(1 << 20);
    for number in 0..VALUES {
        cluster.put(leader, &format!("k{number}"), &value).await.expect("the majority goes on");
    }
    cluster.nodes[behind].start();
    cluster.ready().await;
    assert_eq!(cluster.converged().await.key_count, VALUES);
}
