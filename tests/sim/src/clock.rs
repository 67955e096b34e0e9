//! A node's own monotonic clock: it runs faster or slower than the world's, and may jump.

/// The rate of a clock that is right, in thousandths.
pub(crate) const TRUE_RATE: u64 = 1000;

/// The clock of one node. Times of the world are in microseconds since the run began.
#[derive(Clone, Debug)]
pub(crate) struct NodeClock {
    /// In thousandths of the world's.
    rate: u64,
    /// When the rate or the reading was last changed, in the world's time.
    changed_at_us: u64,
    /// What it showed then.
    reading_us: u64,
    /// The most that it had shown when it jumped back.
    most_us: u64,
}

impl NodeClock {
    /// A clock that is right in its rate and shows `reading_us` at the beginning.
    pub(crate) fn new(reading_us: u64) -> NodeClock {
        NodeClock { rate: TRUE_RATE, changed_at_us: 0, reading_us, most_us: 0 }
    }

    fn reading_us(&self, now_us: u64) -> u64 {
        self.reading_us + (now_us - self.changed_at_us) * self.rate / TRUE_RATE
    }

    /// What it shows, in milliseconds.
    pub(crate) fn now_ms(&self, now_us: u64) -> u64 {
        self.reading_us(now_us) / 1000
    }

    /// When it showed so many milliseconds for the first time, in the world's time; none if it was changed since.
    pub(crate) fn when_ms(&self, reading_ms: u64) -> Option<u64> {
        let since_us = (reading_ms * 1000).checked_sub(self.reading_us)?;
        Some(self.changed_at_us + since_us * TRUE_RATE / self.rate)
    }

    /// Changes the rate.
    pub(crate) fn set_rate(&mut self, now_us: u64, rate: u64) {
        *self = NodeClock { rate, changed_at_us: now_us, reading_us: self.reading_us(now_us), ..*self };
    }

    /// Jumps ahead or back, never below zero.
    pub(crate) fn jump(&mut self, now_us: u64, by_us: i64) {
        let reading_us = self.reading_us(now_us).saturating_add_signed(by_us);
        let most_us = self.most_us.max(self.reading_us(now_us));
        *self = NodeClock { changed_at_us: now_us, reading_us, most_us, ..*self };
    }

    /// Ends what a jump back has led to: it shows no less than it ever did.
    pub(crate) fn catch_up(&mut self, now_us: u64) {
        let reading_us = self.reading_us(now_us).max(self.most_us);
        *self = NodeClock { changed_at_us: now_us, reading_us, ..*self };
    }

    /// How long `span_us` of this clock takes in the world's time.
    pub(crate) fn span_us(&self, span_us: u64) -> u64 {
        (span_us * TRUE_RATE / self.rate).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_jumps_add_up() {
        let mut clock = NodeClock::new(5_000_000);
        assert_eq!(clock.now_ms(1_000_000), 6_000);
        clock.set_rate(1_000_000, 500);
        assert_eq!(clock.now_ms(3_000_000), 7_000);
        assert_eq!(clock.span_us(10), 20);
        assert_eq!((clock.when_ms(7_000), clock.when_ms(6_000)), (Some(3_000_000), Some(1_000_000)));
        assert_eq!(clock.when_ms(5_999), None);
        clock.jump(3_000_000, -2_000_000);
        assert_eq!(clock.now_ms(3_000_000), 5_000);
        clock.jump(3_000_000, i64::MIN);
        assert_eq!(clock.now_ms(3_000_000), 0);
        clock.catch_up(4_000_000);
        assert_eq!(clock.now_ms(4_000_000), 7_000);
        clock.jump(4_000_000, 1_000_000);
        clock.catch_up(4_000_000);
        assert_eq!(clock.now_ms(4_000_000), 8_000);
    }
}
