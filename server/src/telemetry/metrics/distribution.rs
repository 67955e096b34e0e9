//! A histogram that takes many equal observations at the price of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A histogram of which each clone shows the same. A turn of the loop commits hundreds of entries that took the same
/// time: they are counted by one addition. Nothing is locked.
#[derive(Clone, Debug)]
pub struct Distribution(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The bounds of the buckets, rising; what is above the last is in one more.
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Distribution {
    /// An empty one with these bounds, which rise.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Shared { bounds, counts, sum: AtomicU64::new(0.0_f64.to_bits()) }))
    }

    /// Something was of this size.
    pub fn observe(&self, value: f64) {
        self.observe_many(value, 1);
    }

    /// So many were of this size.
    pub fn observe_many(&self, value: f64, count: u64) {
        let Shared { bounds, counts, sum } = &*self.0;
        let bucket = bounds.partition_point(|bound| *bound < value);
        // Each number stands for itself: whoever reads them together may miss what comes at the same time.
        counts[bucket].fetch_add(count, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53 at once")]
        let added = value * count as f64;
        let add = |bits| Some((f64::from_bits(bits) + added).to_bits());
        // It goes on until it succeeds.
        let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How many observations are in each bucket, by the bound that none of them is above; the last bound is infinite.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.0.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect()
    }

    /// The sum of all observations.
    #[must_use]
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.0.sum.load(Ordering::Relaxed))
    }
}

impl EncodeMetric for Distribution {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let buckets = self.buckets();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Distribution {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    #[test]
    fn values_are_in_the_bucket_of_the_least_bound_that_is_not_below_them() {
        let distribution = Distribution::new(&[1.0, 2.0]);
        distribution.observe(0.5);
        distribution.observe(1.0);
        distribution.observe_many(1.5, 3);
        distribution.clone().observe(100.0);
        let mut registry = Registry::default();
        registry.register("d", "Sizes", distribution);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes it");
        let told: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected =
            ["d_sum 106.0", "d_count 6", "d_bucket{le=\"1.0\"} 2", "d_bucket{le=\"2.0\"} 5", "d_bucket{le=\"+Inf\"} 6"];
        assert_eq!(told, expected);
    }
}
