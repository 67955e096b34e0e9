//! What came of the operations of a load: counts and latencies, in memory that does not grow with their number.

use client_cli::Error;
use hdrhistogram::Histogram;
use std::{collections::BTreeMap, time::Duration};

/// The longest latency that is told apart, in microseconds: an hour, which is the longest deadline. What is longer (an
/// operation that was due long before it could begin) counts as this.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// How many reasons are told apart. They come from the nodes, which have fewer.
const REASONS_MAX: usize = 16;

/// What all other reasons are counted as.
const OTHER: &str = "other";

/// Counts and latencies.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Latencies of what succeeded, in microseconds.
    latencies: Histogram<u64>,
    failures: BTreeMap<String, u64>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latencies {
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

impl Tally {
    pub(super) fn new() -> Tally {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS).expect("the bounds are in order");
        Tally { latencies, failures: BTreeMap::new() }
    }

    pub(super) fn succeeded_after(&mut self, latency: Duration) {
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
        self.latencies.saturating_record(latency_us.max(1));
    }

    pub(super) fn failed(&mut self, error: &Error) {
        self.count_failure(&reason(error));
    }

    fn count_failure(&mut self, reason: &str) {
        let known = self.failures.contains_key(reason) || self.failures.len() + 1 < REASONS_MAX;
        *self.failures.entry(if known { reason } else { OTHER }.to_owned()).or_default() += 1;
    }

    pub(super) fn succeeded(&self) -> u64 {
        self.latencies.len()
    }

    /// How many failed, by reason.
    pub(super) fn failures(&self) -> &BTreeMap<String, u64> {
        &self.failures
    }

    pub(super) fn failure_count(&self) -> u64 {
        self.failures.values().sum()
    }

    /// None if nothing succeeded.
    pub(super) fn latencies(&self) -> Option<Latencies> {
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        (self.succeeded() > 0).then(|| Latencies {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.latencies.max(),
        })
    }

    /// How many succeeded within each bound and beyond the one before it: bounds in microseconds, in steps of about one
    /// and a half, from the first to the last that has any.
    pub(super) fn buckets(&self) -> Vec<(u64, u64)> {
        let bounds = (0..).flat_map(|power| [10, 15, 20, 30, 50, 70].map(|step| step * 10_u64.pow(power)));
        let mut bounds = bounds.take_while(|bound| *bound <= 10 * LATENCY_MAX_US).map(|bound| (bound, 0)).peekable();
        let mut buckets: Vec<(u64, u64)> = Vec::new();
        for step in self.latencies.iter_recorded() {
            while let Some((bound, _)) = bounds.peek()
                && *bound < step.value_iterated_to()
            {
                buckets.extend(bounds.next());
            }
            if let Some((_, count)) = bounds.peek_mut() {
                *count += step.count_at_value();
            }
        }
        buckets.extend(bounds.next());
        let empty = buckets.iter().take_while(|(_, count)| *count == 0).count();
        buckets.split_off(empty)
    }
}

/// The reason that a node gave, or what kind of failure it is.
fn reason(error: &Error) -> String {
    let told = error.failure().attempts.iter().rev().find_map(|attempt| attempt.reason.clone());
    told.unwrap_or_else(|| {
        match error {
            Error::OutcomeUnknown { .. } => "unknown outcome",
            Error::NotApplied(_) => "no answer",
            Error::DeadlineExceeded(_) => "deadline exceeded",
            _ => OTHER,
        }
        .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use client_cli::Failure;

    #[test]
    fn latencies_fall_into_their_buckets() {
        let mut tally = Tally::new();
        for (latency_us, times) in [(900, 3), (1_000, 1), (1_001, 2), (9_999, 1)] {
            for _ in 0..times {
                tally.succeeded_after(Duration::from_micros(latency_us));
            }
        }
        assert_eq!(
            tally.buckets(),
            [(1_000, 4), (1_500, 2), (2_000, 0), (3_000, 0), (5_000, 0), (7_000, 0), (10_000, 1)]
        );
        assert_eq!(tally.succeeded(), 7);
        let latencies = tally.latencies().expect("something succeeded");
        assert_eq!((latencies.p50, latencies.p90), (1_000, 10_000 - 1));
    }

    #[test]
    fn extremes_are_kept_within_bounds() {
        let mut tally = Tally::new();
        assert_eq!((tally.latencies(), tally.buckets()), (None, Vec::new()));
        tally.succeeded_after(Duration::ZERO);
        tally.succeeded_after(Duration::MAX);
        assert_eq!(tally.buckets().first(), Some(&(10, 1)));
        assert_eq!(tally.buckets().iter().map(|(_, count)| count).sum::<u64>(), 2);
    }

    #[test]
    fn reasons_are_counted_and_bounded() {
        let mut tally = Tally::new();
        let failure = || Box::new(Failure { message: "m".to_owned(), attempts: Vec::new() });
        tally.failed(&Error::NotApplied(failure()));
        tally.failed(&Error::NotApplied(failure()));
        tally.failed(&Error::DeadlineExceeded(failure()));
        assert_eq!(tally.failures()["no answer"], 2);
        for number in 0..100 {
            tally.count_failure(&format!("R{number}"));
        }
        assert_eq!((tally.failures().len(), tally.failure_count()), (REASONS_MAX, 103));
        assert_eq!(tally.failures()[OTHER], 100 - (REASONS_MAX as u64 - 1 - 2));
    }
}
