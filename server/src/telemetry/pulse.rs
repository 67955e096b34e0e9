//! The sign of life of a loop or a thread, read by the liveness probe.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What [`Pulse::beat_ms`] holds while nothing is expected.
const AT_REST: u64 = u64::MAX;

/// When something that has to go on last did.
///
/// A loop beats at every turn. A thread that waits for work beats when it takes a piece and at every step of it, and
/// rests when it is done: being idle is no sickness, being stuck in a system call is.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// Milliseconds after `origin`; [`AT_REST`] while nothing is expected.
    beat_ms: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { origin: Instant::now(), beat_ms: AtomicU64::new(AT_REST) }
    }
}

impl Pulse {
    /// A pulse at rest.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says: I go on, and will again.
    pub fn beat(&self) {
        let elapsed_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(AT_REST - 1);
        self.beat_ms.store(elapsed_ms, Ordering::Relaxed);
    }

    /// Says: I am done, expect nothing.
    pub fn rest(&self) {
        self.beat_ms.store(AT_REST, Ordering::Relaxed);
    }

    /// How long ago the last beat was; none at rest.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        match self.beat_ms.load(Ordering::Relaxed) {
            AT_REST => None,
            beat_ms => Some(self.origin.elapsed().saturating_sub(Duration::from_millis(beat_ms))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_is_not_silence() {
        let pulse = Pulse::new();
        assert_eq!(pulse.silence(), None);
        pulse.beat();
        assert!(pulse.silence().is_some());
        pulse.rest();
        assert_eq!(pulse.silence(), None);
    }
}
