//! A metric that is split by a label with few values, all known beforehand.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// One metric for each value of a label, by the value's number. All are told from the start, those at zero too, so that
/// a rate is right from the first event on. Clones show the same.
#[derive(Clone, Debug)]
pub struct Split<M, const N: usize> {
    label: &'static str,
    values: [&'static str; N],
    metrics: Arc<[M; N]>,
}

impl<M, const N: usize> Split<M, N> {
    /// Metrics made by `new`, one for each of `values`.
    #[must_use]
    pub fn new(label: &'static str, values: [&'static str; N], new: impl Fn() -> M) -> Self {
        Self { label, values, metrics: Arc::new(std::array::from_fn(|_| new())) }
    }

    /// The metric of the value with this number.
    #[must_use]
    pub fn at(&self, value: usize) -> &M {
        &self.metrics[value]
    }
}

impl<M: EncodeMetric + TypedMetric, const N: usize> EncodeMetric for Split<M, N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (value, metric) in self.values.iter().zip(&*self.metrics) {
            metric.encode(encoder.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::registry::Registry;

    #[test]
    fn every_value_is_told_from_the_start() {
        let split: Split<Counter, 2> = Split::new("why", ["a", "b"], Counter::default);
        split.at(1).inc();
        let mut registry = Registry::default();
        registry.register("s", "Events", split);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes it");
        assert!(text.contains("s_total{why=\"a\"} 0\ns_total{why=\"b\"} 1\n"), "{text}");
    }
}
