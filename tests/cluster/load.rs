//! Concurrent clients on few keys while leaders die: every answer must fit one order of events.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use tests::{
    cluster::Cluster,
    history::{self, Answer, Call, Operation},
    rpc::{self, Failure, Outcome},
    wait::wait_for,
};
use tonic::{Code, Status, transport::Channel};

const CLIENTS: usize = 6;

/// Operations of each client. With the keys below this gives histories of about a hundred operations a key, each key
/// being used by two or three clients at a time.
const OPERATIONS_PER_CLIENT: usize = 250;

const KEYS: usize = 12;

/// Leaders killed, evenly spread over the operations.
const KILLS: usize = 4;

struct Client {
    number: usize,
    channels: Vec<Channel>,
    clock: Instant,
    progress: Arc<AtomicUsize>,
}

impl Client {
    async fn run(self) -> Vec<Operation> {
        let seed = u64::try_from(self.number).expect("there are few clients");
        let mut random = StdRng::seed_from_u64(seed);
        let mut operations = Vec::new();
        for number in 0..OPERATIONS_PER_CLIENT {
            let key = format!("key-{}", random.random_range(0..KEYS));
            let call = match random.random_range(0..10) {
                0..4 => Call::Put(format!("{}.{number}", self.number)),
                4..7 => Call::Get,
                _ => Call::Delete,
            };
            let channel = &self.channels[random.random_range(0..self.channels.len())];
            operations.extend(perform(self.number, channel, &self.clock, key, call).await);
            self.progress.fetch_add(1, Ordering::Relaxed);
        }
        operations
    }
}

fn now(clock: &Instant) -> u64 {
    u64::try_from(clock.elapsed().as_nanos()).expect("a test takes less than centuries")
}

/// Calls, and records what is known then; `None` if the call certainly did nothing and told nothing.
async fn perform(client: usize, channel: &Channel, clock: &Instant, key: String, call: Call) -> Option<Operation> {
    let begin = now(clock);
    let answer = match &call {
        Call::Put(value) => rpc::put(channel, &key, value).await.map(|_| Answer::Done),
        Call::Get => rpc::get_text(channel, &key).await.map(Answer::Value),
        Call::Delete => rpc::delete(channel, &key).await.map(|_| Answer::Done),
    };
    let end = now(clock);
    let answer = answer.map_or_else(|status| read_error(&call, &status), Some)?;
    Some(Operation { client, key, call, answer, begin, end })
}

/// What an error tells: that the key exists or not, nothing, or nothing definite.
fn read_error(call: &Call, status: &Status) -> Option<Answer> {
    let failure = Failure::of(status);
    match (call, failure.code, failure.outcome()) {
        (Call::Put(_), Code::AlreadyExists, _) => Some(Answer::Exists),
        (Call::Get | Call::Delete, Code::NotFound, _) => Some(Answer::Missing),
        // A get without an answer has no effect either.
        (Call::Get, ..) | (_, _, Outcome::NotApplied) => None,
        (_, _, Outcome::Unknown) => Some(Answer::Unknown),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_concurrent_clients_fit_one_order_while_leaders_are_killed() {
    let mut cluster = Cluster::of_three().await;
    let clock = Instant::now();
    let progress = Arc::new(AtomicUsize::new(0));
    let channels = || cluster.nodes.iter().map(tests::node::Node::channel).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| Client { number, channels: channels(), clock, progress: progress.clone() })
        .map(|client| tokio::spawn(client.run()))
        .collect();

    let total = CLIENTS * OPERATIONS_PER_CLIENT;
    for kill in 1..=KILLS {
        let goal = total * kill / (KILLS + 1);
        wait_for("the clients get on", async || (progress.load(Ordering::Relaxed) >= goal).then_some(())).await;
        let leader = cluster.leader().await;
        cluster.nodes[leader].kill();
        cluster.leader().await;
        cluster.nodes[leader].start();
        cluster.ready().await;
    }
    let mut operations = Vec::new();
    for client in clients {
        operations.extend(client.await.expect("a client does not panic"));
    }
    cluster.ready().await;

    // Every key is read through every node at last: a lost write or a resurrected delete shows here if not before.
    for node in 0..3 {
        let channel = cluster.nodes[node].channel();
        for key in 0..KEYS {
            let read = perform(CLIENTS, &channel, &clock, format!("key-{key}"), Call::Get).await;
            operations.push(read.expect("a healthy cluster answers"));
        }
    }
    let definite = operations.iter().filter(|operation| operation.answer != Answer::Unknown).count();
    assert!(definite > total / 2, "only {definite} of {total} operations have a definite answer");
    history::check(&operations).unwrap_or_else(|violation| panic!("{violation}"));
    cluster.put(0, "last", "v").await.expect("a healthy cluster answers");
    cluster.converged().await;
}
