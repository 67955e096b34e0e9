//! Clients that use the same keys at the same time, through all nodes, until they are told to stop.

use crate::{
    cluster::Cluster,
    node::Node,
    recorder::Recorder,
    rpc::{self, Failure},
    wait::{back_off, wait_for},
};
use proto::kv::v1::{Consistency, DeleteRequest, GetRequest, PutMode, PutRequest};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::task::JoinHandle;
use tonic::{Code, Status, transport::Channel};

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// How many clients, each with one operation at a time. They are numbered from 0 in the record.
    pub clients: u64,
    /// How many keys all of them use.
    pub keys: u64,
    /// After so many operations of all clients together they leave these keys alone and go on to others, so that what
    /// was acknowledged early is still there to be read at the end.
    pub operations_per_generation: u64,
}

/// A write of one of the clients that was answered with nothing about its key.
#[derive(Clone, Debug)]
pub struct Unserved {
    /// The node that it went to.
    pub node: usize,
    /// What was said.
    pub failure: Failure,
}

/// Running clients.
#[derive(Debug)]
pub struct Clients {
    progress: Arc<Progress>,
    tasks: Vec<JoinHandle<Vec<Unserved>>>,
}

/// What all clients know of each other.
#[derive(Debug, Default)]
struct Progress {
    begun: AtomicU64,
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Clients {
    /// Starts clients of all nodes of the cluster.
    pub fn start(cluster: &Cluster, recorder: &Arc<Recorder>, workload: Workload) -> Clients {
        let progress = Arc::new(Progress::default());
        let client = |number| Client {
            number,
            workload,
            // Connections of its own: what happens to one client's is not what happens to another's.
            nodes: cluster.nodes.iter().map(|node| Target { channel: Node::channel(node), answers: true }).collect(),
            recorder: recorder.clone(),
            progress: progress.clone(),
            random: StdRng::seed_from_u64(number),
            puts: 0,
            seen: None,
        };
        let tasks = (0..workload.clients).map(|number| tokio::spawn(client(number).run())).collect();
        Clients { progress, tasks }
    }

    /// Waits until so many more writes were acknowledged.
    pub async fn progress(&self, writes: u64) {
        let acknowledged = || self.progress.acknowledged.load(Ordering::Relaxed);
        let goal = acknowledged() + writes;
        wait_for("writes are acknowledged", async || (acknowledged() >= goal).then_some(())).await;
    }

    /// Lets every client finish its last operation.
    pub async fn finish(self) -> Vec<Unserved> {
        self.progress.stop.store(true, Ordering::Relaxed);
        let mut unserved = Vec::new();
        for task in self.tasks {
            unserved.extend(task.await.expect("a client does not panic"));
        }
        unserved
    }
}

/// A node as one client knows it.
struct Target {
    channel: Channel,
    /// Whether its last answer came from the node itself.
    answers: bool,
}

struct Client {
    number: u64,
    workload: Workload,
    nodes: Vec<Target>,
    recorder: Arc<Recorder>,
    progress: Arc<Progress>,
    random: StdRng,
    puts: u64,
    /// The key that it last saw, and the revision.
    seen: Option<(String, u64)>,
}

enum Request {
    Put(PutRequest),
    Get(GetRequest),
    Delete(DeleteRequest),
}

impl Client {
    async fn run(mut self) -> Vec<Unserved> {
        let mut unserved = Vec::new();
        while !self.progress.stop.load(Ordering::Relaxed) {
            let node = self.random.random_range(0..self.nodes.len());
            let request = self.choose(self.nodes[node].answers);
            let is_get = matches!(request, Request::Get(_));
            let failure = self.perform(node, request).await.err().map(|status| Failure::of(&status));
            self.nodes[node].answers = failure.as_ref().is_none_or(|failure| failure.reason.is_some());
            let Some(failure) = failure.filter(|failure| !tells_about_the_key(failure)) else { continue };
            if !is_get {
                unserved.push(Unserved { node, failure });
            }
            back_off().await;
        }
        unserved
    }

    /// Draws the next request. A node that is down is only asked with gets, until it answers again: a write would be of
    /// unknown outcome each time, and a history full of those explains anything.
    fn choose(&mut self, answers: bool) -> Request {
        let Workload { keys, operations_per_generation, .. } = self.workload;
        let generation = self.progress.begun.fetch_add(1, Ordering::Relaxed) / operations_per_generation;
        let key = format!("key-{generation}-{}", self.random.random_range(0..keys));
        let kind = if answers { self.random.random_range(0..20) } else { 20 };
        match (kind, &self.seen) {
            (0..4, _) => self.put(key, PutMode::Create, None),
            (4..7, _) => self.put(key, PutMode::Upsert, None),
            (7..9, _) => self.put(key, PutMode::Update, None),
            (9..11, Some((seen, revision))) => self.put(seen.clone(), PutMode::Compare, Some(*revision)),
            (11..14, _) => Request::Delete(DeleteRequest { return_previous: true, ..rpc::delete_request(&key) }),
            (14, Some((seen, revision))) => {
                Request::Delete(DeleteRequest { expected_revision: Some(*revision), ..rpc::delete_request(seen) })
            }
            _ => {
                let of_a_majority = self.random.random_bool(0.5);
                let consistency = if of_a_majority { Consistency::Quorum } else { Consistency::Linearizable };
                Request::Get(GetRequest { consistency: consistency.into(), ..rpc::get_request(&key) })
            }
        }
    }

    /// Every value is written once, so that a stale one is recognised.
    fn put(&mut self, key: String, mode: PutMode, expected_revision: Option<u64>) -> Request {
        self.puts += 1;
        let value = format!("{}.{}", self.number, self.puts).into();
        Request::Put(PutRequest { key, value, mode: mode.into(), expected_revision, request_id: None })
    }

    async fn perform(&mut self, node: usize, request: Request) -> Result<(), Status> {
        let (client, channel) = (self.number, &self.nodes[node].channel);
        match request {
            Request::Put(request) => {
                let key = request.key.clone();
                let answer = self.recorder.put(client, channel, request).await?;
                self.seen = Some((key, answer.revision));
            }
            Request::Get(request) => {
                let answer = self.recorder.get(client, channel, request).await?;
                self.seen = answer.kv.map(|kv| (kv.key, kv.mod_revision));
                return Ok(());
            }
            Request::Delete(request) => {
                self.recorder.delete(client, channel, request).await?;
            }
        }
        self.progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn tells_about_the_key(failure: &Failure) -> bool {
    failure.reason.is_some() && matches!(failure.code, Code::AlreadyExists | Code::NotFound | Code::FailedPrecondition)
}
