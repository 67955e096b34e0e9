//! More than a system can do.
//!
//! *Callers* ask one by one, each again as soon as it has its answer, and one that is refused comes back when it was
//! told to. *Streams* send at a fixed rate what is [`due`], whether or not the earlier requests were answered, and what
//! is refused is lost. A server need not read what it cannot take, and then HTTP/2 stops a stream: what is due
//! meanwhile and is not sent counts as held back.

use super::{
    AFTER_ERROR, Used, Window, add,
    calls::Calls,
    due::{self, Answered, Due},
    frames::Answer,
    in_time, no_latencies, record, share, watch,
};
use crate::{process::Usage, workload::Traffic};
use hdrhistogram::Histogram;
use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};

/// The header by which a server says how long to stay away, in milliseconds (gRPC's retry design).
const PUSHBACK_HEADER: &str = "grpc-retry-pushback-ms";

/// What came of a flood.
pub(crate) struct Flooded {
    /// What was acknowledged while it was recorded: the latencies of those requests, in nanoseconds.
    pub(crate) acknowledged: Histogram<u64>,
    /// The same, from when a caller first asked, with what it was refused before.
    pub(crate) with_retries: Histogram<u64>,
    /// What was refused meanwhile as too much, and how soon.
    pub(crate) refused: Histogram<u64>,
    /// Other errors.
    pub(crate) failed: u64,
    /// What was due and never left the generator.
    pub(crate) held_back: u64,
    /// How long was recorded.
    pub(crate) elapsed: Duration,
    /// What the system's processes used meanwhile.
    pub(crate) system: Usage,
    /// What this process used meanwhile.
    pub(crate) generator: Usage,
}

/// What one caller or stream saw.
struct Seen {
    acknowledged: Histogram<u64>,
    with_retries: Histogram<u64>,
    refused: Histogram<u64>,
    failed: u64,
    held_back: u64,
}

impl Seen {
    fn new() -> Seen {
        let (acknowledged, with_retries, refused) = (no_latencies(), no_latencies(), no_latencies());
        Seen { acknowledged, with_retries, refused, failed: 0, held_back: 0 }
    }

    fn note(&mut self, result: Result<(), Code>, latency: Duration) {
        match result {
            Ok(()) => record(&mut self.acknowledged, latency),
            Err(Code::ResourceExhausted) => record(&mut self.refused, latency),
            Err(_) => self.failed += 1,
        }
    }

    fn add(&mut self, other: &Seen) {
        add(&mut self.acknowledged, &other.acknowledged);
        add(&mut self.with_retries, &other.with_retries);
        add(&mut self.refused, &other.refused);
        self.failed += other.failed;
        self.held_back += other.held_back;
    }
}

/// How long there is load before anything is recorded, and how long is recorded.
pub(crate) type Times = (Duration, Duration);

/// Runs so many callers over these connections. `usage` tells what the system's processes have used so far.
///
/// # Errors
/// A process whose use cannot be read: it has ended.
pub(crate) async fn callers<C: Calls>(
    connections: Vec<C>,
    callers: usize,
    traffic: &Traffic,
    (warm_up, duration): Times,
    usage: impl Fn() -> anyhow::Result<Usage>,
) -> anyhow::Result<Flooded> {
    let window = Window::after(warm_up, duration);
    let mut tasks = JoinSet::new();
    let count = connections.len();
    for (number, calls) in connections.into_iter().enumerate() {
        tasks.spawn(callers_of(calls, share(callers, count, number), traffic.clone(), window));
    }
    Ok(sum(watch(window, usage, tasks).await?))
}

/// The callers that share a connection. They share a record too: it is larger than what a caller has.
async fn callers_of(calls: impl Calls, callers: usize, traffic: Traffic, window: Window) -> anyhow::Result<Seen> {
    let seen = Arc::new(Mutex::new(Seen::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        tasks.spawn(caller(calls.clone(), traffic.clone(), window, Arc::clone(&seen)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let all = std::mem::replace(&mut *lock(&seen), Seen::new());
    Ok(all)
}

async fn caller(mut calls: impl Calls, traffic: Traffic, window: Window, seen: Arc<Mutex<Seen>>) {
    let mut first_called = None;
    loop {
        let called = Instant::now();
        if called >= window.end {
            return;
        }
        let first = *first_called.get_or_insert(called);
        // What has no answer long after the end is part of no figure.
        let Some(result) = in_time(window.end, calls.call(traffic.next())).await else { return };
        let answered = Instant::now();
        let code = result.as_ref().copied().map_err(Status::code);
        if window.holds(answered) {
            lock(&seen).note(code, answered - called);
            if code.is_ok() {
                record(&mut lock(&seen).with_retries, answered - first);
            }
        }
        match result {
            Ok(()) => first_called = None,
            Err(status) => {
                if status.code() != Code::ResourceExhausted {
                    first_called = None;
                }
                tokio::time::sleep(told(&status)).await;
            }
        }
    }
}

/// How long a server wants a caller to stay away.
fn told(status: &Status) -> Duration {
    let header = status.metadata().get(PUSHBACK_HEADER).and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).map_or(AFTER_ERROR, Duration::from_millis)
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Every change is whole before the lock is given back.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answers of one stream.
pub(crate) trait Answers: Send + 'static {
    /// Waits for answers; it may be dropped while it waits.
    fn receive(&mut self) -> impl Future<Output = Result<Vec<Answer>, Status>> + Send;
}

/// Asks for so many requests a second on streams over these connections, each its share. `open` opens one.
///
/// # Errors
/// A process whose use cannot be read, or a stream that cannot be opened or ended.
pub(crate) async fn streams<A: Answers>(
    connections: Vec<Channel>,
    open: impl AsyncFn(Channel, Due) -> anyhow::Result<A>,
    per_second: f64,
    traffic: &Traffic,
    (warm_up, duration): Times,
    usage: impl Fn() -> anyhow::Result<Usage>,
) -> anyhow::Result<Flooded> {
    let window = Window::after(warm_up, duration);
    let mut tasks = JoinSet::new();
    let share = per_second / connections.len() as f64;
    for connection in connections {
        let (due, answered) = due::open(share, traffic.clone(), window);
        tasks.spawn(stream_of(open(connection, due).await?, answered, window));
    }
    Ok(sum(watch(window, usage, tasks).await?))
}

/// One stream: its answers, until there are no more.
async fn stream_of(mut stream: impl Answers, answered: Answered, window: Window) -> anyhow::Result<Seen> {
    let mut seen = Seen::new();
    while Instant::now() < window.end || !answered.is_empty() {
        let answers = tokio::select! {
            answers = in_time(window.end, stream.receive()) => answers.transpose()?,
            () = tokio::time::sleep_until(window.end.into()), if Instant::now() < window.end => Some(Vec::new()),
        };
        let Some(answers) = answers else { break };
        let now = Instant::now();
        for (answer, due) in answers.iter().zip(answered.end(answers.iter().map(|answer| answer.tag))) {
            let due = due.ok_or_else(|| Status::internal("an answer to nothing"))?;
            if window.holds(now) {
                seen.note(answer.result, now - due);
            }
        }
    }
    seen.held_back = answered.held_back();
    Ok(seen)
}

/// What all of them saw.
fn sum((used, parts): (Used, Vec<Seen>)) -> Flooded {
    let mut all = Seen::new();
    parts.iter().for_each(|part| all.add(part));
    let Seen { acknowledged, with_retries, refused, failed, held_back } = all;
    let Used { elapsed, system, generator } = used;
    Flooded { acknowledged, with_retries, refused, failed, held_back, elapsed, system, generator }
}
