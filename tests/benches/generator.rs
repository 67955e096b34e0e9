//! The load: a closed loop, where each of a number of tasks calls again as soon as it is answered. It finds the
//! throughput; its latencies are those at that load, with no pause between calls.

use crate::process::Usage;
use hdrhistogram::Histogram;
use std::{future::Future, time::Duration};
use tokio::{task::JoinSet, time::Instant};
use tonic::Status;

/// Latencies up to this are told apart, in nanoseconds; a longer one counts as this.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// How well latencies are told apart: three significant digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// One task's calls.
pub(crate) trait Calls: Clone + Send + 'static {
    /// Calls once and waits for the answer.
    fn call(&mut self) -> impl Future<Output = Result<(), Status>> + Send;
}

/// How long, and with how many calls at a time.
pub(crate) struct Schedule {
    /// Calls at a time.
    pub(crate) in_flight: usize,
    /// Load before anything is recorded.
    pub(crate) warm_up: Duration,
    /// How long is recorded.
    pub(crate) duration: Duration,
}

/// What was seen while it was recorded.
pub(crate) struct Measured {
    /// Latencies of the calls that began and ended meanwhile, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
    /// Calls that failed.
    pub(crate) errors: u64,
    /// How long was recorded.
    pub(crate) elapsed: Duration,
    /// What the system's processes used meanwhile.
    pub(crate) system: Usage,
    /// What this process used meanwhile.
    pub(crate) generator: Usage,
}

/// Runs a closed loop over these connections. `usage` tells what the system's processes have used so far.
///
/// # Errors
/// A process whose use cannot be read: it has ended.
pub(crate) async fn closed_loop<C: Calls>(
    connections: impl Iterator<Item = C>,
    schedule: &Schedule,
    usage: impl Fn() -> anyhow::Result<Usage>,
) -> anyhow::Result<Measured> {
    let connections: Vec<C> = connections.collect();
    let begin = Instant::now() + schedule.warm_up;
    let end = begin + schedule.duration;
    let mut tasks = JoinSet::new();
    for number in 0..schedule.in_flight {
        tasks.spawn(call_until(connections[number % connections.len()].clone(), begin, end));
    }
    let own = [std::process::id()];
    tokio::time::sleep_until(begin).await;
    let (started, system, generator) = (Instant::now(), usage()?, Usage::of(&own, None)?);
    tokio::time::sleep_until(end).await;
    let (elapsed, system, generator) =
        (started.elapsed(), usage()?.since(&system), Usage::of(&own, None)?.since(&generator));

    let mut latencies = histogram();
    let mut errors = 0;
    while let Some(task) = tasks.join_next().await {
        let (recorded, failed) = task?;
        latencies.add(recorded).expect("all histograms have the same bounds");
        errors += failed;
    }
    Ok(Measured { latencies, errors, elapsed, system, generator })
}

async fn call_until(mut calls: impl Calls, begin: Instant, end: Instant) -> (Histogram<u64>, u64) {
    let mut latencies = histogram();
    let mut errors = 0;
    loop {
        let called = Instant::now();
        if called >= end {
            return (latencies, errors);
        }
        let answer = calls.call().await;
        let answered = Instant::now();
        if called < begin || answered > end {
            continue;
        }
        match answer {
            Ok(()) => {
                let nanoseconds = u64::try_from((answered - called).as_nanos()).unwrap_or(LATENCY_NS_MAX);
                latencies.saturating_record(nanoseconds);
            }
            Err(_) => errors += 1,
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS).expect("the bounds are valid")
}
