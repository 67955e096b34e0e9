//! More than a system can do.
//!
//! *Callers* ask one by one, each again as soon as it has its answer, and one that is refused comes back when it was
//! told to. *Streams* send at a fixed rate what is due, whether or not the earlier requests were answered, and what is
//! refused is lost. A server need not read what it cannot take, and then HTTP/2 stops a stream: what is due while the
//! stream has as many requests under way as the generator allows never leaves it, and counts as held back. That bounds
//! the generator's memory too.

use super::{
    AFTER_ERROR, Used, Window, add, calls::Calls, frames::Frames, in_time, no_latencies, record, share, watch,
};
use crate::{process::Usage, workload::Traffic};
use hdrhistogram::Histogram;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tonic::{Code, Status};

/// Requests that a stream has under way at most: twice what a node reads from one before it answers, so that it is the
/// node's own limit that is met.
pub(crate) const UNDER_WAY_MAX: usize = 8_192;

/// How often a stream sends what has become due.
const TICK: Duration = Duration::from_millis(1);

/// Requests in one frame at most, so that a generator that was held up sends no frame that is too large.
const FRAME_REQUESTS_MAX: u64 = 1_024;

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

/// Sends so many requests a second over these streams, each its share.
///
/// # Errors
/// A process whose use cannot be read, or a stream that ended.
pub(crate) async fn streams<F: Frames>(
    streams: Vec<F>,
    per_second: f64,
    traffic: &Traffic,
    (warm_up, duration): Times,
    usage: impl Fn() -> anyhow::Result<Usage>,
) -> anyhow::Result<Flooded> {
    let window = Window::after(warm_up, duration);
    let mut tasks = JoinSet::new();
    let share = per_second / streams.len() as f64;
    for stream in streams {
        tasks.spawn(stream_of(stream, share, traffic.clone(), window));
    }
    Ok(sum(watch(window, usage, tasks).await?))
}

/// One stream: every now and then whatever has become due, as far as there is room.
async fn stream_of(mut stream: impl Frames, per_second: f64, traffic: Traffic, window: Window) -> anyhow::Result<Seen> {
    let mut seen = Seen::new();
    let mut under_way = UnderWay::new();
    let mut handed_out = 0;
    let started = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_over = Instant::now() >= window.end;
        if is_over && under_way.count() == 0 {
            return Ok(seen);
        }
        let step = async {
            tokio::select! {
                answers = stream.receive() => answers,
                _ = ticks.tick(), if !is_over => Ok(Vec::new()),
            }
        };
        let Some(answers) = in_time(window.end, step).await else { return Ok(seen) };
        let now = Instant::now();
        for answer in answers? {
            let sent = under_way.end(answer.tag).ok_or_else(|| Status::internal("an answer to nothing"))?;
            if window.holds(now) {
                seen.note(answer.result, now - sent);
            }
        }
        if now >= window.end {
            continue;
        }
        // Whole requests, far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let due = ((now - started).as_secs_f64() * per_second) as u64 - handed_out;
        handed_out += due;
        let sent = due.min((UNDER_WAY_MAX - under_way.count()) as u64);
        if window.holds(now) {
            seen.held_back += due - sent;
        }
        let mut left = sent;
        while left > 0 {
            let count = left.min(FRAME_REQUESTS_MAX);
            stream.send((0..count).map(|_| (under_way.begin(now), traffic.next())).collect())?;
            left -= count;
        }
    }
}

/// The requests under way on a stream: when each was due, by its tag.
struct UnderWay {
    due: Vec<Option<Instant>>,
    free: Vec<u64>,
}

impl UnderWay {
    fn new() -> UnderWay {
        UnderWay { due: vec![None; UNDER_WAY_MAX], free: (0..UNDER_WAY_MAX as u64).collect() }
    }

    fn count(&self) -> usize {
        UNDER_WAY_MAX - self.free.len()
    }

    /// The tag of one more; there must be room.
    fn begin(&mut self, due: Instant) -> u64 {
        let tag = self.free.pop().expect("no more are begun than there is room for");
        self.due[usize::try_from(tag).expect("a tag is a place")] = Some(due);
        tag
    }

    /// When one that has its answer was due; `None` if it was not under way.
    fn end(&mut self, tag: u64) -> Option<Instant> {
        let due = self.due.get_mut(usize::try_from(tag).ok()?)?.take()?;
        self.free.push(tag);
        Some(due)
    }
}

/// What all of them saw.
fn sum((used, parts): (Used, Vec<Seen>)) -> Flooded {
    let mut all = Seen::new();
    parts.iter().for_each(|part| all.add(part));
    let Seen { acknowledged, with_retries, refused, failed, held_back } = all;
    let Used { elapsed, system, generator } = used;
    Flooded { acknowledged, with_retries, refused, failed, held_back, elapsed, system, generator }
}
