//! Replicated time: the stamps that a leader puts into its commands.

/// A leader's reckoning of replicated time. While it leads, replicated time goes on with the leader's own monotonic
/// clock; between two leaders it stands still. No wall clock is ever read.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The replicated time, in milliseconds, that was reckoned last.
    time_ms: u64,
    /// What this node's monotonic clock said then.
    reckoned_at_ms: u64,
}

impl Clock {
    /// This node was elected at `now_ms` of its monotonic clock, and the greatest stamp it has applied is
    /// `applied_ms`. Greater stamps may stand in its log still to be applied; [`Clock::stamp`] meets them as they are.
    pub(super) fn restart(&mut self, applied_ms: u64, now_ms: u64) {
        *self = Clock { time_ms: applied_ms, reckoned_at_ms: now_ms };
    }

    /// The replicated time at `now_ms`. Never below an earlier stamp of this term, nor below what was applied.
    pub(super) fn stamp(&mut self, applied_ms: u64, now_ms: u64) -> u64 {
        let elapsed_ms = now_ms.saturating_sub(self.reckoned_at_ms);
        let time_ms = self.time_ms.saturating_add(elapsed_ms).max(applied_ms);
        self.restart(time_ms, now_ms.max(self.reckoned_at_ms));
        time_ms
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn time_goes_on_from_what_was_applied_at_the_election() {
        let mut clock = Clock::default();
        clock.restart(5_000, 70);
        assert_eq!(clock.stamp(5_000, 70), 5_000);
        assert_eq!(clock.stamp(5_000, 75), 5_005);
        assert_eq!(clock.stamp(5_005, 80), 5_010);
    }

    #[test]
    fn a_clock_that_goes_back_stands_still() {
        let mut clock = Clock::default();
        clock.restart(100, 50);
        assert_eq!(clock.stamp(100, 60), 110);
        assert_eq!(clock.stamp(100, 10), 110);
        assert_eq!(clock.stamp(100, 61), 111);
    }

    #[test]
    fn stamps_of_older_terms_that_are_applied_late_are_not_undercut() {
        let mut clock = Clock::default();
        clock.restart(100, 50);
        assert_eq!(clock.stamp(9_000, 60), 9_000);
        assert_eq!(clock.stamp(9_000, 65), 9_005);
    }

    #[test]
    fn a_hostile_stamp_cannot_overflow_it() {
        let mut clock = Clock::default();
        clock.restart(u64::MAX, 0);
        assert_eq!(clock.stamp(u64::MAX, 10), u64::MAX);
    }
}
