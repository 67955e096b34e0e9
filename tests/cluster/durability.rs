//! Acknowledged writes survive `kill -9`.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use tests::{
    cluster::Cluster,
    rpc::{self, Failure, Outcome},
    wait::wait_for,
};
use tokio::task::JoinHandle;
use tonic::{Code, transport::Channel};

/// How many processes are killed, one after the other.
const ROUNDS: usize = 20;

/// Writes that are acknowledged between two kills at least.
const WRITES_PER_ROUND: usize = 10;

/// Puts new keys for as long as it lives, through one node after the other, and remembers which were acknowledged.
struct Writer {
    acknowledged: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Writer {
    fn start(cluster: &Cluster) -> Writer {
        let channels: Vec<Channel> = cluster.nodes.iter().map(tests::node::Node::channel).collect();
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(channels, acknowledged.clone(), stop.clone()));
        Writer { acknowledged, stop, task }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().expect("no holder of the lock panics").len()
    }

    /// Waits until more writes were acknowledged.
    async fn progress(&self, writes: usize) {
        let goal = self.count() + writes;
        wait_for("writes are acknowledged", async || (self.count() >= goal).then_some(())).await;
    }

    async fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the writer does not panic");
        std::mem::take(&mut self.acknowledged.lock().expect("no holder of the lock panics"))
    }
}

async fn write(channels: Vec<Channel>, acknowledged: Arc<Mutex<Vec<String>>>, stop: Arc<AtomicBool>) {
    for number in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("key-{number}");
        match rpc::put(&channels[number % channels.len()], &key, &value_of(&key)).await {
            Ok(_) => acknowledged.lock().expect("no holder of the lock panics").push(key),
            Err(status) => {
                let failure = Failure::of(&status);
                // Each key is put once: if it is there already, an answer was given to nobody and the put ran twice.
                assert_ne!(failure.code, Code::AlreadyExists, "{failure:?}");
                // Nobody listens where a node was killed: the same client would come straight back.
                tokio::task::yield_now().await;
            }
        }
    }
}

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
    let writer = Writer::start(&cluster);
    for round in 0..ROUNDS {
        let leader = cluster.ready().await;
        // In turn the leader, one follower, the other follower.
        let victim = match round % 3 {
            0 => leader,
            follower => cluster.others(leader)[follower - 1],
        };
        writer.progress(WRITES_PER_ROUND).await;
        cluster.nodes[victim].kill();
        writer.progress(WRITES_PER_ROUND / 2).await;
        cluster.nodes[victim].start();
    }
    let acknowledged = writer.finish().await;
    cluster.ready().await;
    for node in 0..3 {
        expect_all(&cluster, node, &acknowledged).await;
    }

    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all();
    cluster.ready().await;
    for node in 0..3 {
        expect_all(&cluster, node, &acknowledged).await;
    }
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
