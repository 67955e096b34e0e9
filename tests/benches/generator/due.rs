//! What is due on a stream of an open loop, taken when the connection can carry it.
//!
//! Requests fall due at an even pace, whatever becomes of the earlier ones. They are put into a frame when HTTP/2 asks
//! for the next: the latest of what has fallen due since, so that nothing waits in the generator behind what has waited
//! longer. What was due and is not among them, because the connection was closed to it for too long or because too many
//! have no answer yet, never leaves the generator: it is held back. That bounds the generator's memory as well.

use super::Window;
use crate::workload::{Operation, Traffic};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::Stream;

/// Requests that a stream has under way at most: twice what a node reads from one before it answers, so that it is the
/// node's own limit that is met.
const UNDER_WAY_MAX: usize = 8_192;

/// How often it is seen what has become due.
const TICK: Duration = Duration::from_millis(1);

/// Requests in one frame at most, and so what may wait for the connection.
const FRAME_REQUESTS_MAX: usize = 1_024;

/// The frames of a stream, made when they are asked for.
pub(crate) struct Due {
    ledger: Arc<Mutex<Ledger>>,
    ticks: Interval,
    traffic: Traffic,
}

/// What its answers are told to.
pub(crate) struct Answered(Arc<Mutex<Ledger>>);

/// So many a second, until the window ends. The frames, and where the answers go.
pub(super) fn open(per_second: f64, traffic: Traffic, window: Window) -> (Due, Answered) {
    let ledger = Arc::new(Mutex::new(Ledger::new(per_second, window)));
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    (Due { ledger: Arc::clone(&ledger), ticks, traffic }, Answered(ledger))
}

impl Stream for Due {
    type Item = Vec<(u64, Operation)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let tags = lock(&self.ledger).take(Instant::now());
            if !tags.is_empty() {
                return Poll::Ready(Some(tags.into_iter().map(|tag| (tag, self.traffic.next())).collect()));
            }
            ready!(self.ticks.poll_tick(context));
        }
    }
}

impl Answered {
    /// When a request was due that has its answer; `None` if it was not under way.
    pub(super) fn end(&self, tags: impl Iterator<Item = u64>) -> Vec<Option<Instant>> {
        let mut ledger = lock(&self.0);
        tags.map(|tag| ledger.end(tag)).collect()
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.0).count() == 0
    }

    /// How much of what was due within the window never left.
    pub(super) fn held_back(&self) -> u64 {
        let mut ledger = lock(&self.0);
        let end = ledger.window.end;
        ledger.fall_due(end, 0);
        ledger.held_back
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    // Every change is whole before the lock is given back.
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The requests of a stream: how many were due, and when each was that is under way, by its tag.
struct Ledger {
    per_second: f64,
    window: Window,
    started: Instant,
    /// How many were due so far.
    fallen_due: u64,
    held_back: u64,
    under_way: Vec<Option<Instant>>,
    free: Vec<u64>,
}

impl Ledger {
    fn new(per_second: f64, window: Window) -> Ledger {
        let (under_way, free) = (vec![None; UNDER_WAY_MAX], (0..UNDER_WAY_MAX as u64).collect());
        Ledger { per_second, window, started: Instant::now(), fallen_due: 0, held_back: 0, under_way, free }
    }

    fn count(&self) -> usize {
        UNDER_WAY_MAX - self.free.len()
    }

    /// The tags of what is to be sent now.
    fn take(&mut self, now: Instant) -> Vec<u64> {
        if now >= self.window.end {
            return Vec::new();
        }
        let count = self.fall_due(now, self.free.len().min(FRAME_REQUESTS_MAX));
        let gap = Duration::from_secs_f64(1.0 / self.per_second);
        let tags = self.free.split_off(self.free.len() - count);
        for (&tag, later) in tags.iter().zip(0..) {
            self.under_way[place(tag)] = Some(now.checked_sub(gap * later).unwrap_or(self.started));
        }
        tags
    }

    /// Notes what has fallen due until now, of which as much is sent as there is room for: how much.
    fn fall_due(&mut self, now: Instant, room: usize) -> usize {
        // Whole requests, far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let fallen_due = (now.saturating_duration_since(self.started).as_secs_f64() * self.per_second) as u64;
        let due = fallen_due.saturating_sub(self.fallen_due);
        self.fallen_due += due;
        let count = due.min(room as u64);
        if self.window.holds(now) {
            self.held_back += due - count;
        }
        usize::try_from(count).expect("it is no more than the room")
    }

    /// When one that has its answer was due; `None` if it was not under way.
    fn end(&mut self, tag: u64) -> Option<Instant> {
        let due = self.under_way.get_mut(usize::try_from(tag).ok()?)?.take()?;
        self.free.push(tag);
        Some(due)
    }
}

/// Where a tag is kept that was handed out.
fn place(tag: u64) -> usize {
    usize::try_from(tag).expect("a tag is a place")
}
