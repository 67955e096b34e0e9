//! Puts of 32-byte keys and 256-byte values, with the moment and the latency of each: as many as go, or so many a
//! second.

use super::puts::{Put, Puts};
use crate::workload::{KEY_BYTES, VALUE_BYTES, put_request};
use anyhow::Context as _;
use proto::kv::v1::{PutMode, PutRequest, kv_service_client::KvServiceClient};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tonic::{Status, transport::Channel};

/// What an accepted put carries.
pub(super) const COMMAND_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;

/// How often the paced load looks which puts are due.
const PACE_INTERVAL: Duration = Duration::from_millis(1);

/// Puts that the paced load has under way at most. A cluster that is that far behind is not keeping up, and says so.
const UNDER_WAY_MAX: usize = 20_000;

/// Which keys are put.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys {
    /// Each number from 0 up to this once.
    EachOnce(u64),
    /// Any below this, again and again.
    Any(u64),
}

/// What became of a load.
#[derive(Default, Debug)]
pub(super) struct Loaded {
    /// The acknowledged puts, in no order.
    pub(super) puts: Puts,
    /// Puts that failed.
    pub(super) errors: u64,
    /// How long it took.
    pub(super) elapsed: Duration,
}

impl Loaded {
    /// The bytes of what was acknowledged.
    pub(super) fn bytes(&self) -> u64 {
        self.puts.len() as u64 * COMMAND_BYTES
    }

    /// Puts a second.
    pub(super) fn per_second(&self) -> f64 {
        self.puts.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// A load that runs until it is told to end, or until its keys are all there.
pub(super) struct Load {
    shared: Arc<Shared>,
    started: Instant,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    keys: Keys,
    next: AtomicU64,
    acknowledged: AtomicU64,
    errors: AtomicU64,
    stop: AtomicBool,
    puts: Mutex<Puts>,
}

impl Shared {
    fn new(keys: Keys) -> Arc<Shared> {
        Arc::new(Shared {
            keys,
            next: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            puts: Mutex::default(),
        })
    }

    /// The next request; `None` at the end.
    fn request(&self) -> Option<PutRequest> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let number = match self.keys {
            Keys::EachOnce(keys) if number >= keys => return None,
            Keys::EachOnce(_) => number,
            Keys::Any(keys) => rand::random_range(0..keys),
        };
        Some(PutRequest { mode: PutMode::Upsert.into(), ..put_request(number) })
    }

    fn record(&self, put: Put, answer: &Result<(), Status>, into: &mut Puts) {
        if answer.is_ok() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            into.push(put);
        } else {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn keep(&self, puts: Puts) {
        // A list of finished puts is whole at any time.
        self.puts.lock().unwrap_or_else(PoisonError::into_inner).append(puts);
    }
}

impl Load {
    /// So many puts at a time, each followed by the next.
    pub(super) fn as_many_as_go(channels: &[Channel], keys: Keys, in_flight: usize) -> Load {
        let shared = Shared::new(keys);
        let mut callers = JoinSet::new();
        for number in 0..in_flight {
            let client = KvServiceClient::new(channels[number % channels.len()].clone());
            callers.spawn(call_on(client, Arc::clone(&shared)));
        }
        let task = tokio::spawn(async move { while callers.join_next().await.is_some() {} });
        Load { shared, started: Instant::now(), task }
    }

    /// So many puts a second, whether or not the earlier ones were answered; a latency counts from when a put was due.
    pub(super) fn paced(channels: &[Channel], keys: Keys, per_second: u64) -> Load {
        let shared = Shared::new(keys);
        let clients = channels.iter().map(|channel| KvServiceClient::new(channel.clone())).collect();
        let task = tokio::spawn(call_in_time(clients, Arc::clone(&shared), per_second));
        Load { shared, started: Instant::now(), task }
    }

    /// How many puts were acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until all keys are there, or, of a load that goes on for ever, ends it.
    ///
    /// # Errors
    /// Nothing was acknowledged.
    pub(super) async fn finish(self) -> anyhow::Result<Loaded> {
        if matches!(self.shared.keys, Keys::Any(_)) {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.task.await.context("a load does not panic")?;
        let puts = std::mem::take(&mut *self.shared.puts.lock().unwrap_or_else(PoisonError::into_inner));
        let errors = self.shared.errors.load(Ordering::Relaxed);
        anyhow::ensure!(puts.len() > 0, "no put was acknowledged, {errors} failed");
        Ok(Loaded { puts, errors, elapsed: self.started.elapsed() })
    }
}

async fn call_on(mut client: KvServiceClient<Channel>, shared: Arc<Shared>) {
    let mut puts = Puts::default();
    while let Some(request) = shared.request() {
        let begin = Instant::now();
        let answer = client.put(request).await.map(drop);
        shared.record(Put { begin, latency: begin.elapsed() }, &answer, &mut puts);
    }
    shared.keep(puts);
}

async fn call_in_time(clients: Vec<KvServiceClient<Channel>>, shared: Arc<Shared>, per_second: u64) {
    let started = Instant::now();
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut interval = tokio::time::interval(PACE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut due = started;
    let gap = Duration::from_secs(1).div_f64(per_second as f64);
    let (mut calls, mut puts) = (JoinSet::new(), Puts::default());
    let mut turn = clients.iter().cycle();
    'load: loop {
        interval.tick().await;
        while let Some(ended) = calls.try_join_next() {
            note(&shared, ended, &mut puts);
        }
        while due <= Instant::now() {
            let Some(request) = shared.request() else { break 'load };
            let mut client = turn.next().expect("a cycle has no end").clone();
            let began = due;
            due += gap;
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                shared.errors.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            calls.spawn(async move {
                let answer = client.put(request).await.map(drop);
                drop(permit);
                (began, Instant::now(), answer)
            });
        }
    }
    while let Some(ended) = calls.join_next().await {
        note(&shared, ended, &mut puts);
    }
    shared.keep(puts);
}

type Ended = (Instant, Instant, Result<(), Status>);

fn note(shared: &Shared, ended: Result<Ended, tokio::task::JoinError>, into: &mut Puts) {
    let (due, answered, answer) = ended.expect("a put does not panic");
    shared.record(Put { begin: due, latency: answered - due }, &answer, into);
}
