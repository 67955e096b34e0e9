//! Drives whatever answers one request with one future: unary calls, and the client library.

use super::{AFTER_ERROR, Measured, Mode, Recorded, Schedule, Window, in_time, observe, pace::pace, share};
use crate::{
    process::Usage,
    workload::{Operation, Traffic},
};
use std::{
    future::Future,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::Status;

/// Requests that an open loop has under way at most. A system that is that far behind does not keep up, and what is
/// due then counts as failed.
const UNDER_WAY_MAX: u32 = 20_000;

/// One caller.
pub(crate) trait Calls: Clone + Send + 'static {
    /// Asks once and waits for the answer.
    fn call(&mut self, operation: Operation) -> impl Future<Output = Result<(), Status>> + Send;
}

/// Runs a schedule over these connections. `usage` tells what the system's processes have used so far.
///
/// # Errors
/// A process whose use cannot be read: it has ended.
pub(crate) async fn run<C: Calls>(
    connections: Vec<C>,
    traffic: &Traffic,
    schedule: &Schedule,
    usage: impl Fn() -> anyhow::Result<Usage>,
) -> anyhow::Result<Measured> {
    let window = Window::of(schedule);
    let mut tasks = JoinSet::new();
    match schedule.mode {
        Mode::Closed { in_flight } => {
            let count = connections.len();
            for (number, calls) in connections.into_iter().enumerate() {
                tasks.spawn(in_turns(calls, share(in_flight, count, number), traffic.clone(), window));
            }
        }
        Mode::Open { per_second } => {
            tasks.spawn(in_time_due(connections, traffic.clone(), per_second, window));
        }
    }
    observe(window, usage, tasks).await
}

/// The places of a closed loop that share a connection. They share a record too: it is larger than what a place has.
async fn in_turns(calls: impl Calls, places: usize, traffic: Traffic, window: Window) -> anyhow::Result<Recorded> {
    let recorded = Arc::new(Mutex::new(Recorded::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..places {
        tasks.spawn(in_turn(calls.clone(), traffic.clone(), window, Arc::clone(&recorded)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(take(&recorded))
}

/// One place of a closed loop.
async fn in_turn(mut calls: impl Calls, traffic: Traffic, window: Window, recorded: Arc<Mutex<Recorded>>) {
    loop {
        let called = Instant::now();
        if called >= window.end {
            return;
        }
        let is_answered = calls.call(traffic.next()).await.is_ok();
        let answered = Instant::now();
        if window.holds(answered) {
            lock(&recorded).note(is_answered, answered - called);
        }
        if !is_answered {
            tokio::time::sleep(AFTER_ERROR).await;
        }
    }
}

/// An open loop: a task for each request.
async fn in_time_due<C: Calls>(
    connections: Vec<C>,
    traffic: Traffic,
    per_second: f64,
    window: Window,
) -> anyhow::Result<Recorded> {
    let recorded = Arc::new(Mutex::new(Recorded::new()));
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX as usize));
    let runtime = tokio::runtime::Handle::current();
    let (noted, left) = (Arc::clone(&recorded), Arc::clone(&room));
    let mut turn = 0;
    pace(per_second, window.end, move |due| {
        turn += 1;
        let Ok(permit) = Arc::clone(&left).try_acquire_owned() else {
            note(&noted, window, due, false);
            return ControlFlow::Continue(());
        };
        let mut calls = connections[turn % connections.len()].clone();
        let (operation, noted) = (traffic.next(), Arc::clone(&noted));
        runtime.spawn(async move {
            let answer = in_time(window.end, calls.call(operation)).await;
            note(&noted, window, due, answer.is_some_and(|answer| answer.is_ok()));
            drop(permit);
        });
        ControlFlow::Continue(())
    })
    .await?;
    // All permits are back when the last request is answered or given up.
    drop(room.acquire_many(UNDER_WAY_MAX).await?);
    Ok(take(&recorded))
}

/// What was recorded, when nobody records any more.
fn take(recorded: &Mutex<Recorded>) -> Recorded {
    std::mem::replace(&mut *lock(recorded), Recorded::new())
}

fn note(recorded: &Mutex<Recorded>, window: Window, due: Instant, is_answered: bool) {
    if window.holds(due) {
        lock(recorded).note(is_answered, due.elapsed());
    }
}

fn lock(recorded: &Mutex<Recorded>) -> std::sync::MutexGuard<'_, Recorded> {
    // Every change is whole before the lock is given back.
    recorded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a number of requests, so many at a time, one for each number below `count`.
///
/// # Errors
/// The first that fails.
pub(crate) async fn each_once<C: Calls>(
    connections: &[C],
    count: u64,
    in_flight: usize,
    operation: impl Fn(u64) -> Operation + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for number in 0..in_flight {
        let mut calls = connections[number % connections.len()].clone();
        let (next, operation) = (Arc::clone(&next), operation.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<(), Status>(());
                }
                calls.call(operation(number)).await?;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    Ok(())
}
