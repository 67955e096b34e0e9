//! The load, the same for every system.
//!
//! A *closed loop* keeps a number of requests in flight: each answer makes room for the next request. It finds the
//! throughput; its latencies are those at that load. An *open loop* sends at a fixed rate, whether or not the earlier
//! requests were answered, and counts each latency from the moment at which the request was due, so that a pause of the
//! system delays all that fall into it.
//!
//! [`calls`] drives whatever answers one request with one future, [`frames`] whatever carries many on one stream.
//! [`flood`] asks for more than a system can do, and tells what was refused from what failed.

pub(crate) mod calls;
pub(crate) mod due;
pub(crate) mod flood;
pub(crate) mod frames;
pub(crate) mod pace;

use crate::process::Usage;
use hdrhistogram::Histogram;
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Latencies up to this are told apart, in nanoseconds; a longer one counts as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// How well latencies are told apart: three significant digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// How long an open loop waits for its last answers; what has none by then has failed.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// How long a place in a closed loop rests after an error, so that a system that refuses is not asked in a spin.
const AFTER_ERROR: Duration = Duration::from_millis(1);

/// How requests follow each other.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Mode {
    /// So many are in flight at any time.
    Closed {
        /// Requests at a time.
        in_flight: usize,
    },
    /// So many are sent in a second.
    Open {
        /// Requests a second.
        per_second: f64,
    },
}

/// How, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// How requests follow each other.
    pub(crate) mode: Mode,
    /// Load before anything is recorded.
    pub(crate) warm_up: Duration,
    /// How long is recorded.
    pub(crate) duration: Duration,
}

/// What was seen while it was recorded.
pub(crate) struct Measured {
    /// Latencies in nanoseconds: of a closed loop those that ended meanwhile, of an open one those that were due.
    pub(crate) latencies: Histogram<u64>,
    /// Requests that failed.
    pub(crate) errors: u64,
    /// How long was recorded.
    pub(crate) elapsed: Duration,
    /// What the system's processes used meanwhile.
    pub(crate) system: Usage,
    /// What this process used meanwhile.
    pub(crate) generator: Usage,
}

impl Measured {
    /// Answered requests a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// The moments of a run.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

impl Window {
    fn of(schedule: &Schedule) -> Window {
        Window::after(schedule.warm_up, schedule.duration)
    }

    fn after(warm_up: Duration, duration: Duration) -> Window {
        let begin = Instant::now() + warm_up;
        Window { begin, end: begin + duration }
    }

    fn holds(&self, moment: Instant) -> bool {
        self.begin <= moment && moment <= self.end
    }
}

/// What one part of the load saw.
struct Recorded {
    latencies: Histogram<u64>,
    errors: u64,
}

impl Recorded {
    fn new() -> Recorded {
        Recorded { latencies: no_latencies(), errors: 0 }
    }

    fn note(&mut self, is_answered: bool, latency: Duration) {
        if is_answered {
            record(&mut self.latencies, latency);
        } else {
            self.errors += 1;
        }
    }

    fn add(&mut self, other: &Recorded) {
        add(&mut self.latencies, &other.latencies);
        self.errors += other.errors;
    }
}

fn no_latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS).expect("the bounds are valid")
}

fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX));
}

fn add(latencies: &mut Histogram<u64>, others: &Histogram<u64>) {
    latencies.add(others).expect("all histograms have the same bounds");
}

/// What was used while it was recorded.
struct Used {
    elapsed: Duration,
    system: Usage,
    generator: Usage,
}

/// Watches what is used while the tasks work, and adds up what they saw.
async fn observe(
    window: Window,
    usage: impl Fn() -> anyhow::Result<Usage>,
    tasks: JoinSet<anyhow::Result<Recorded>>,
) -> anyhow::Result<Measured> {
    let (Used { elapsed, system, generator }, parts) = watch(window, usage, tasks).await?;
    let mut all = Recorded::new();
    parts.iter().for_each(|part| all.add(part));
    let Recorded { latencies, errors } = all;
    Ok(Measured { latencies, errors, elapsed, system, generator })
}

/// Watches what is used while the tasks work, and waits for what each of them saw.
async fn watch<R: 'static>(
    window: Window,
    usage: impl Fn() -> anyhow::Result<Usage>,
    mut tasks: JoinSet<anyhow::Result<R>>,
) -> anyhow::Result<(Used, Vec<R>)> {
    let own = [std::process::id()];
    tokio::time::sleep_until(window.begin.into()).await;
    let (started, system, generator) = (Instant::now(), usage()?, Usage::of(&own, None)?);
    tokio::time::sleep_until(window.end.into()).await;
    let elapsed = started.elapsed();
    let (system, generator) = (usage()?.since(&system), Usage::of(&own, None)?.since(&generator));
    let mut parts = Vec::new();
    while let Some(task) = tasks.join_next().await {
        parts.push(task??);
    }
    Ok((Used { elapsed, system, generator }, parts))
}

/// How many of `in_flight` places the `number`th of some connections has.
fn share(in_flight: usize, connections: usize, number: usize) -> usize {
    in_flight / connections + usize::from(number < in_flight % connections)
}

/// Whether a future is done before the last answers are given up on.
async fn in_time<T>(end: Instant, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at((end + LAST_ANSWERS).into(), future).await.ok()
}
