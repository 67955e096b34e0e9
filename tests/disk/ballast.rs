//! Large writes beside those that are judged as a history, so that segments of the log and snapshots come and go; and
//! the check that none that was acknowledged is lost.

use proto::kv::v1::{PutMode, PutRequest, kv_service_client::KvServiceClient};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use tests::{
    cluster::Cluster,
    node::Node,
    rpc::{self, Failure, Outcome},
    wait::{back_off, wait_for},
};
use tokio::task::JoinHandle;
use tonic::{Code, transport::Channel};

/// Writers, each with one write at a time.
const WRITERS: usize = 4;

/// Keys that each writer overwrites in turn.
const KEYS_PER_WRITER: usize = 8;

/// The size of a value.
const VALUE_BYTES: usize = 8 << 10;

/// Writers that overwrite keys of their own with values that count up.
///
/// A write of unknown outcome may still come, after later ones of its key. So its key is left alone from then on, and
/// another takes its place: between the last acknowledged and the last sent value of a key there is one at most.
#[derive(Debug)]
pub(crate) struct Ballast {
    keys: Arc<Mutex<Vec<Key>>>,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

/// What is known of one key.
#[derive(Clone, Copy, Default, Debug)]
struct Key {
    /// The last value that was acknowledged; 0 if none was.
    acknowledged: u64,
    /// The last value that was sent; 0 if none was.
    sent: u64,
}

impl Ballast {
    /// Starts writers through all nodes.
    pub(crate) fn start(cluster: &Cluster) -> Ballast {
        let (keys, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let writer = |number| Writer {
            channels: cluster.nodes.iter().map(Node::channel).collect(),
            node: number % cluster.nodes.len(),
            keys: Arc::clone(&keys),
            stop: Arc::clone(&stop),
        };
        let writers = (0..WRITERS).map(|number| tokio::spawn(writer(number).run())).collect();
        Ballast { keys, stop, writers }
    }

    /// Rises with every write that is acknowledged.
    fn acknowledged(&self) -> u64 {
        lock(&self.keys).iter().map(|key| key.acknowledged).sum()
    }

    /// Waits until so many more writes were acknowledged.
    pub(crate) async fn progress(&self, writes: u64) {
        let goal = self.acknowledged() + writes;
        wait_for("large writes are acknowledged", async || (self.acknowledged() >= goal).then_some(())).await;
    }

    /// Reads every key and panics if one is older than what was acknowledged, or newer than what was sent. The writers
    /// may go on meanwhile.
    pub(crate) async fn verify(&self, cluster: &Cluster) {
        let channels: Vec<Channel> = cluster.nodes.iter().map(Node::channel).collect();
        let known = lock(&self.keys).clone();
        for (number, before) in known.iter().enumerate() {
            let channel = &channels[number % channels.len()];
            let found = wait_for("a key is read", async || read(channel, number).await).await;
            let after = lock(&self.keys)[number];
            let name = name(number);
            assert!(found >= before.acknowledged, "{name}: {} was acknowledged, {found} is there", before.acknowledged);
            assert!(found <= after.sent, "{name}: {found} is there, {} was sent last", after.sent);
        }
    }

    /// Lets every writer finish its last write.
    pub(crate) async fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.await.expect("a writer does not panic");
        }
    }
}

struct Writer {
    channels: Vec<Channel>,
    /// The node of the next write.
    node: usize,
    keys: Arc<Mutex<Vec<Key>>>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    async fn run(mut self) {
        let mut own: Vec<usize> = (0..KEYS_PER_WRITER).map(|_| self.new_key()).collect();
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let number = own[turn % own.len()];
            turn += 1;
            let value = {
                let key = &mut lock(&self.keys)[number];
                key.sent += 1;
                key.sent
            };
            let request = PutRequest {
                key: name(number),
                value: text(value).into(),
                mode: PutMode::Upsert.into(),
                ..PutRequest::default()
            };
            let channel = self.channels[self.node].clone();
            match rpc::bounded(KvServiceClient::new(channel).put(request)).await {
                Ok(_) => lock(&self.keys)[number].acknowledged = value,
                Err(status) => {
                    if Failure::of(&status).outcome() == Outcome::Unknown {
                        let place = (turn - 1) % own.len();
                        own[place] = self.new_key();
                    }
                    self.find_node(number).await;
                }
            }
        }
    }

    /// Goes on to the next node that answers a read: writes to nodes that are down would each be of unknown outcome.
    async fn find_node(&mut self, number: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            self.node = (self.node + 1) % self.channels.len();
            back_off().await;
            if read(&self.channels[self.node], number).await.is_some() {
                return;
            }
        }
    }

    fn new_key(&self) -> usize {
        let mut keys = lock(&self.keys);
        keys.push(Key::default());
        keys.len() - 1
    }
}

/// The value of a key, 0 if it is missing; `None` if the node does not answer.
async fn read(channel: &Channel, number: usize) -> Option<u64> {
    match rpc::get_text(channel, &name(number)).await {
        Ok(found) => {
            let value = found.trim_start_matches('.').parse().expect("a value ends in its number");
            assert!(found == text(value), "{}: the value {value} is damaged", name(number));
            Some(value)
        }
        Err(status) => (status.code() == Code::NotFound).then_some(0),
    }
}

fn name(number: usize) -> String {
    format!("ballast-{number}")
}

fn text(value: u64) -> String {
    format!("{value:.>VALUE_BYTES$}")
}

fn lock(keys: &Mutex<Vec<Key>>) -> MutexGuard<'_, Vec<Key>> {
    // Every change is one assignment, so a panic leaves what is true.
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
