//! Concurrent clients on few keys while leaders die: every answer must fit one order of events.

use tests::{
    clients::{Clients, Workload},
    cluster::Cluster,
    recorder::{Least, Recorder},
};

/// Each key is used by two clients at a time, for about a hundred operations.
const WORKLOAD: Workload = Workload { clients: 6, keys: 3, operations_per_generation: 300 };

/// Leaders killed.
const KILLS: u64 = 4;

/// Writes that are acknowledged between two kills at least.
const WRITES_PER_ROUND: u64 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_concurrent_clients_fit_one_order_while_leaders_are_killed() {
    let mut cluster = Cluster::of_three().await;
    let recorder = Recorder::new("leaders-killed");
    let clients = Clients::start(&cluster, &recorder, WORKLOAD);
    for _ in 0..KILLS {
        clients.progress(WRITES_PER_ROUND).await;
        let leader = cluster.leader().await;
        cluster.nodes[leader].kill();
        cluster.leader().await;
        cluster.nodes[leader].start();
        cluster.ready().await;
    }
    clients.progress(WRITES_PER_ROUND).await;
    clients.finish().await;
    recorder.read_every_key(&cluster).await;
    recorder.judge(Least { definite: 1_000, overlapping: 400 });
    cluster.put(0, "last", "v").await.expect("a healthy cluster answers");
    cluster.converged().await;
}
