//! The load itself: so many workers, each with one operation under way.

use super::{End, Operation, Plan, progress::Progress, tally::Tally};
use bytes::Bytes;
use client_cli::{Client, Error, PutMode};
use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The runtime's timers fire up to this late. A worker that is early begins up to this early instead, and its latency
/// counts from there: else each would contain the timer's own delay.
const TIMER_STEP: Duration = Duration::from_millis(1);

/// What a load came to.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) tally: Tally,
    pub(super) elapsed: Duration,
    /// With a rate: how many operations were due before the end and are in no figure.
    pub(super) behind: u64,
    /// How many of the keys, from the first, were written.
    pub(super) keys_written: u64,
    /// Whether it was ended from the keyboard.
    pub(super) interrupted: bool,
    /// How many streams were open at the end: none if each operation was a call of its own.
    pub(super) streams: usize,
}

/// What was removed at the end.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) keys: u64,
    /// What kept the others from being removed.
    pub(super) error: Option<Error>,
}

/// What the workers share.
#[derive(Debug)]
struct Load {
    client: Client,
    plan: Plan,
    value: Bytes,
    started: Instant,
    /// The next operation's number.
    next: AtomicU64,
    tally: Mutex<Tally>,
}

/// Makes the load, until its end or until it is interrupted.
pub(super) async fn run(client: &Client, plan: &Plan) -> Measured {
    let load = Arc::new(Load {
        client: client.clone(),
        plan: plan.clone(),
        value: value(plan),
        started: Instant::now(),
        next: AtomicU64::new(0),
        tally: Mutex::new(Tally::new()),
    });
    let mut workers = JoinSet::new();
    for _ in 0..plan.concurrency {
        workers.spawn(Arc::clone(&load).work());
    }
    let progress = Progress::new(plan.end);
    let mut frames = tokio::time::interval(Progress::INTERVAL);
    let mut interrupt = Box::pin(interrupt());
    let interrupted = loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                Some(Ok(())) => {}
                Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
                None => break false,
            },
            _ = frames.tick(), if progress.is_shown() => progress.draw(load.started.elapsed(), &load.tally()),
            () = &mut interrupt => break true,
        }
    };
    let elapsed = load.started.elapsed();
    let streams = client.open_streams();
    progress.clear();
    // What is under way is given up, and counts as nothing.
    workers.shutdown().await;
    let tally = load.tally().clone();
    let behind = load.due_within(elapsed).saturating_sub(tally.succeeded() + tally.failure_count());
    Measured { tally, elapsed, behind, keys_written: load.keys_written(), interrupted, streams }
}

/// Waits for Ctrl-C. Without a way to hear of it, the load goes on to its end.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Load {
    async fn work(self: Arc<Load>) {
        while let Some(number) = self.take() {
            let due = self.due(number);
            if let Some(due) = due {
                tokio::time::sleep_until((due - TIMER_STEP).max(self.started).into()).await;
            }
            let now = Instant::now();
            if matches!(self.plan.end, End::After(duration) if now >= self.started + duration) {
                return;
            }
            let begun = due.map_or(now, |due| due.min(now));
            let result = Box::pin(self.operate(number)).await;
            let latency = begun.elapsed();
            let mut tally = self.tally();
            match result {
                Ok(()) => tally.succeeded_after(latency),
                Err(error) => tally.failed(&error),
            }
        }
    }

    /// The number of the next operation, unless it was the last.
    fn take(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match self.plan.end {
            End::Count(count) => number < count,
            // With a rate, later ones are due after the end.
            End::After(duration) => self.due(number).is_none_or(|due| due < self.started + duration),
        }
        .then_some(number)
    }

    /// When an operation is due, however long others take.
    fn due(&self, number: u64) -> Option<Instant> {
        let rate = self.plan.rate?;
        let nanoseconds = (number % rate) * 1_000_000_000 / rate;
        Some(self.started + Duration::from_secs(number / rate) + Duration::from_nanos(nanoseconds))
    }

    /// How many operations were due in this time; none without a rate.
    fn due_within(&self, elapsed: Duration) -> u64 {
        let (time, count_max) = match self.plan.end {
            End::After(duration) => (elapsed.min(duration), u64::MAX),
            End::Count(count) => (elapsed, count),
        };
        let count = time.as_nanos() * u128::from(self.plan.rate.unwrap_or(0)) / 1_000_000_000;
        u64::try_from(count).unwrap_or(u64::MAX).min(count_max)
    }

    async fn operate(&self, number: u64) -> Result<(), Error> {
        let (reads, number) = match self.plan.operation {
            Operation::Put => (false, number),
            Operation::Get => (true, scattered(number)),
            Operation::Mixed => (number % 2 == 1, if number % 2 == 1 { scattered(number) } else { number / 2 }),
        };
        let key = self.plan.key(number % self.plan.key_count);
        if reads {
            self.client.get(key).await.map(drop)
        } else {
            self.client.put(key, self.value.clone(), PutMode::Upsert).await.map(drop)
        }
    }

    fn keys_written(&self) -> u64 {
        if self.plan.operation.reads() {
            return self.plan.key_count;
        }
        // Each worker's last number was beyond the end.
        let begun = self.next.load(Ordering::Relaxed);
        let begun = if let End::Count(count) = self.plan.end { begun.min(count) } else { begun };
        begun.min(self.plan.key_count)
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // A tally is whole after each of its methods.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes each key once.
pub(super) async fn fill(client: &Client, plan: &Plan) -> Result<(), Error> {
    let value = value(plan);
    each_key(plan, |key| {
        let (client, value) = (client.clone(), value.clone());
        async move { client.put(key, value, PutMode::Upsert).await.map(|_| 1) }
    })
    .await
    .map(drop)
    .map_err(|(_, error)| error)
}

/// Removes the keys that are there.
pub(super) async fn clean_up(client: &Client, plan: &Plan) -> Removed {
    let removed = each_key(plan, |key| {
        let client = client.clone();
        async move {
            match client.delete(key, None).await {
                Ok(_) => Ok(1),
                Err(Error::KeyNotFound { .. }) => Ok(0),
                Err(error) => Err(error),
            }
        }
    });
    match removed.await {
        Ok(keys) => Removed { keys, error: None },
        Err((keys, error)) => Removed { keys, error: Some(error) },
    }
}

/// Does something about each key, with as many under way as the plan says, and adds up what it returns. After the first
/// error nothing is begun any more.
async fn each_key<F>(plan: &Plan, mut action: impl FnMut(String) -> F) -> Result<u64, (u64, Error)>
where
    F: Future<Output = Result<u64, Error>> + Send + 'static,
{
    let mut keys = (0..plan.key_count).map(|number| plan.key(number));
    let mut under_way = JoinSet::new();
    let (mut sum, mut first_error) = (0, None);
    loop {
        while first_error.is_none()
            && (under_way.len() as u64) < plan.concurrency
            && let Some(key) = keys.next()
        {
            under_way.spawn(action(key));
        }
        match under_way.join_next().await {
            Some(Ok(Ok(count))) => sum += count,
            Some(Ok(Err(error))) => first_error = first_error.or(Some(error)),
            Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
            None => break,
        }
    }
    first_error.map_or(Ok(sum), |error| Err((sum, error)))
}

/// Text, so that whoever looks at a key sees what it is.
fn value(plan: &Plan) -> Bytes {
    (b'a'..=b'z').cycle().take(plan.value_bytes).collect()
}

/// Numbers without an order, the same ones in each run (SplitMix64).
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
