//! Writes of the client library while leaders are killed and paused in the middle of calls: no client is ever told that
//! its own write is in its way, and what stays unknown can be settled.
//!
//! ```text
//! cargo test -p tests --test cluster own_writes -- --ignored --nocapture at_length
//! ```

use client_cli::{Client, Error, Options, PutMode, RequestId, Settled};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tests::cluster::Cluster;
use tokio::{task::JoinSet, time::sleep};

/// Rounds in which a leader is killed or paused.
const ROUNDS: usize = 10;
const ROUNDS_AT_LENGTH: usize = 200;

/// Clients that write at once, each one key after the other.
const WRITERS: usize = 8;

/// Writes that come through between two faults, and while one lasts, at least.
const WRITES_PER_ROUND: u64 = 20;

/// Every so many rounds the nodes are killed all at once.
const ALL_AT_ONCE: usize = 10;

/// The deadlines of the clients, in turn: some give up while the fault lasts.
const TIMEOUTS: [Duration; 4] =
    [Duration::from_secs(30), Duration::from_millis(300), Duration::from_secs(5), Duration::from_millis(30)];

/// Keys that are looked at at once in the end.
const JUDGES: usize = 32;

/// How often something is looked at.
const POLL: Duration = Duration::from_millis(2);

/// What a writer knows of a key.
#[derive(Clone, Debug)]
enum Known {
    Present,
    Absent,
    /// The outcome of this write on it was not learnt; what the key is if it was applied, and if it was not.
    Open {
        id: RequestId,
        applied: bool,
    },
}

/// What all writers did.
#[derive(Default)]
struct Ledger {
    keys: Mutex<BTreeMap<String, Known>>,
    acknowledged: AtomicU64,
    not_applied: AtomicU64,
    unknown: AtomicU64,
    settled_applied: AtomicU64,
    settled_never: AtomicU64,
    stop: AtomicBool,
}

impl Ledger {
    fn set(&self, key: &str, known: Known) {
        // One insertion is all that is ever done under the lock.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), known);
    }

    fn snapshot(&self) -> BTreeMap<String, Known> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what became of a write on `key`, which is present afterwards if it was applied and `applied` is set.
    /// Whether the writer may go on with that key.
    fn note<T>(&self, key: &str, applied: bool, result: Result<T, Error>) -> bool {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                self.set(key, if applied { Known::Present } else { Known::Absent });
                true
            }
            Err(Error::OutcomeUnknown { request_id: Some(id), .. }) => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                self.set(key, Known::Open { id, applied });
                false
            }
            // Nobody else writes to this key: to be told this is to be told of one's own write.
            Err(error @ (Error::KeyExists { .. } | Error::KeyNotFound { .. } | Error::RevisionMismatch { .. })) => {
                panic!("a client met its own write of {key}: {error}")
            }
            Err(error @ (Error::NotApplied(_) | Error::DeadlineExceeded(_))) => {
                assert_eq!(error.outcome(), client_cli::Outcome::NotApplied);
                self.not_applied.fetch_add(1, Ordering::Relaxed);
                self.set(key, if applied { Known::Absent } else { Known::Present });
                false
            }
            Err(error) => panic!("{key}: {error:?}"),
        }
    }

    async fn progress(&self, writes: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + writes;
        while self.acknowledged.load(Ordering::Relaxed) < goal {
            sleep(POLL).await;
        }
    }

    /// Settles what is open of a key: the answer is for good. Returns whether the key is there.
    async fn settle(&self, client: &Client, key: &str, known: Known) -> bool {
        let (id, applied) = match known {
            Known::Present => return true,
            Known::Absent => return false,
            Known::Open { id, applied } => (id, applied),
        };
        let settled = client.get_outcome(&id).await.unwrap_or_else(|error| panic!("{key}, {id}: {error:?}"));
        let was_applied = match settled {
            Settled::Put(_) if applied => true,
            Settled::Deleted(_) if !applied => true,
            Settled::NeverApplied => false,
            other => panic!("{key}, {id}: {other:?}"),
        };
        let count = if was_applied { &self.settled_applied } else { &self.settled_never };
        count.fetch_add(1, Ordering::Relaxed);
        was_applied == applied
    }
}

/// Creates keys that nobody else writes to, and removes every other one.
async fn write(writer: usize, client: Client, ledger: Arc<Ledger>) {
    for number in 0_u64.. {
        if ledger.stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("{writer}/{number}");
        let created = client.put(key.as_str(), "v", PutMode::Create).await;
        if ledger.note(&key, true, created) && number % 2 == 0 {
            let deleted = client.delete(key.as_str(), None).await;
            ledger.note(&key, false, deleted);
        }
    }
}

fn client(cluster: &Cluster, timeout: Duration) -> Client {
    let endpoints = cluster.endpoints();
    Client::connect(Options::new(endpoints.split(',')).expect("they are well formed").timeout(timeout))
}

/// Rounds of faults, and what came of the writes.
async fn run(rounds: usize) -> Arc<Ledger> {
    let mut cluster = Cluster::of_three().await;
    let ledger = Arc::new(Ledger::default());
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = client(&cluster, TIMEOUTS[writer % TIMEOUTS.len()]);
        writers.spawn(write(writer, client, Arc::clone(&ledger)));
    }
    let patient = client(&cluster, Duration::from_secs(60));
    for round in 0..rounds {
        let leader = cluster.ready().await;
        ledger.progress(WRITES_PER_ROUND).await;
        match round % 2 {
            _ if round % ALL_AT_ONCE == ALL_AT_ONCE - 1 => {
                cluster.nodes.iter_mut().for_each(tests::node::Node::kill);
                cluster.start_all();
            }
            0 => {
                cluster.nodes[leader].kill();
                ledger.progress(WRITES_PER_ROUND).await;
                cluster.nodes[leader].start();
            }
            _ => {
                cluster.nodes[leader].pause();
                ledger.progress(WRITES_PER_ROUND).await;
                cluster.nodes[leader].resume();
            }
        }
    }
    cluster.ready().await;
    ledger.progress(WRITES_PER_ROUND).await;
    ledger.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.expect("no client met its own write");
    }
    let mut judges = JoinSet::new();
    for (key, known) in ledger.snapshot() {
        judges.spawn(judge(patient.clone(), Arc::clone(&ledger), key, known));
        if judges.len() >= JUDGES {
            judges.join_next().await.expect("there are some").expect("each key is as its writer knows it");
        }
    }
    while let Some(ended) = judges.join_next().await {
        ended.expect("each key is as its writer knows it");
    }
    cluster.converged().await;
    ledger
}

/// Whether a key is as its writer knows it, once what was open is settled.
async fn judge(client: Client, ledger: Arc<Ledger>, key: String, known: Known) {
    let expected = ledger.settle(&client, &key, known.clone()).await;
    let found = match client.get(key.as_str()).await {
        Ok(_) => true,
        Err(Error::KeyNotFound { .. }) => false,
        Err(error) => panic!("{key}: {error:?}"),
    };
    assert_eq!(found, expected, "{key}: {known:?}");
}

fn tell(ledger: &Ledger, rounds: usize) {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    eprintln!(
        "{rounds} rounds: {} writes acknowledged, {} certainly not applied, {} unknown at their deadline; of those {} \
         settled as applied, {} as never",
        count(&ledger.acknowledged),
        count(&ledger.not_applied),
        count(&ledger.unknown),
        count(&ledger.settled_applied),
        count(&ledger.settled_never),
    );
    assert_eq!(count(&ledger.unknown), count(&ledger.settled_applied) + count(&ledger.settled_never));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_meets_its_own_write_while_leaders_are_killed_and_paused() {
    tell(&*run(ROUNDS).await, ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: the same at length"]
async fn at_length() {
    let ledger = run(ROUNDS_AT_LENGTH).await;
    tell(&ledger, ROUNDS_AT_LENGTH);
    let unknown = ledger.unknown.load(Ordering::Relaxed);
    assert!(unknown >= 20, "only {unknown} outcomes had to be settled");
}
