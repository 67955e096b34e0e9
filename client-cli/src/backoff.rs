//! How long to wait between attempts.

use std::time::Duration;

/// The first pause: shorter than an election, so that a leader elected meanwhile is found soon.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause: about an election timeout; a longer one would only add to an outage.
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that double from [`FIRST`] to [`LONGEST`], each spread by a fifth in both directions so that clients which
/// failed together do not come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    doublings: u32,
}

impl Backoff {
    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.doublings).min(LONGEST);
        // 2^5 times FIRST is beyond LONGEST.
        self.doublings = (self.doublings + 1).min(5);
        pause.mul_f64(rand::random_range(0.8..1.2))
    }
}

/// A pause that a server asked for: never shorter, and up to a fifth longer, for the same reason.
pub(crate) fn asked(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(1.0..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_within_their_jitter() {
        let mut backoff = Backoff::default();
        for expected_ms in [50, 100, 200, 400, 800, 1000, 1000, 1000] {
            let expected = Duration::from_millis(expected_ms);
            let pause = backoff.pause();
            assert!(pause >= expected.mul_f64(0.8) && pause <= expected.mul_f64(1.2), "{pause:?} for {expected:?}");
        }
    }

    #[test]
    fn an_asked_pause_is_never_shortened() {
        for _ in 0..100 {
            assert!(asked(Duration::from_millis(10)) >= Duration::from_millis(10));
        }
        assert_eq!(asked(Duration::ZERO), Duration::ZERO);
    }
}
