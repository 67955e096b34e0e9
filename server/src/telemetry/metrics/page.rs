//! What is read when somebody asks, on its way to the text.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Writes the states of a part of the node, one line a state.
#[derive(Debug)]
pub struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    /// Writes to what a [`Collector`](prometheus_client::collector::Collector) is given.
    #[must_use]
    pub fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Something that rises and falls.
    ///
    /// # Errors
    ///
    /// The text takes no more.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, &sentence(help), None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// Something that is so or is not.
    ///
    /// # Errors
    ///
    /// As [`Page::gauge`].
    pub fn flag(&mut self, name: &str, help: &str, is_so: bool) -> fmt::Result {
        self.gauge(name, help, u64::from(is_so))
    }

    /// Something that only rises. The name is without `_total`.
    ///
    /// # Errors
    ///
    /// As [`Page::gauge`].
    pub fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, &sentence(help), None, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// One gauge for each value of a label.
    ///
    /// # Errors
    ///
    /// As [`Page::gauge`].
    pub fn gauges<'b>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'b str, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, &sentence(help), None, MetricType::Gauge)?;
        for (value, number) in values {
            encoder.encode_family(&[(label, value)])?.encode_gauge(&number)?;
        }
        Ok(())
    }

    /// One counter for each value of a label. The name is without `_total`.
    ///
    /// # Errors
    ///
    /// As [`Page::gauge`].
    pub fn counters<'b>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'b str, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, &sentence(help), None, MetricType::Counter)?;
        for (value, number) in values {
            encoder.encode_family(&[(label, value)])?.encode_counter::<NoLabelSet, _, u64>(&number, None)?;
        }
        Ok(())
    }
}

/// The registry ends each description with a full stop.
fn sentence(help: &str) -> String {
    format!("{help}.")
}
