//! Metrics: what a node counts and measures of its work, told as text to whoever asks.
//!
//! What happens often has its counter or histogram at hand, made at the start: nothing is looked up when it happens.
//! What is a state (an index, a length, a role) is not counted along but read when somebody asks: a [`Collector`] does
//! that, see [`Page`]. Every metric is in the table of `deploy/METRICS.md`, and a test compares the two.
//!
//! No label has a value that a client chooses, and none ever a key or a value.

mod classic;
mod distribution;
mod otlp;
mod page;
mod process;
mod requests;
mod split;

use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub use distribution::Distribution;
pub(in crate::telemetry) use otlp::{Times, to_otlp};
pub use page::Page;
pub use requests::{AnsweredSoFar, Measured, RequestKind};
pub use split::Split;

use classic::to_classic;
use process::Process;
use requests::Requests;

/// How the metrics are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextFormat {
    /// Prometheus's own, which every tool reads.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl TextFormat {
    /// The media type of a page that is written so.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format for a request with this `Accept` header. OpenMetrics is for those who name it and do not like plain
    /// text better, as Prometheus does; all others can read the classic one.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let quality = |wanted: &str| {
            let of = |range: &str| {
                let mut parts = range.split(';').map(str::trim);
                let is_wanted = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
                is_wanted.then(|| parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0))
            };
            accept.split(',').filter_map(of).fold(0.0, f32::max)
        };
        let open_metrics = quality("application/openmetrics-text");
        if open_metrics > 0.0 && open_metrics >= quality("text/plain") { Self::OpenMetrics } else { Self::Classic }
    }
}

/// What a node tells of its work.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// The requests of clients.
    pub requests: Requests,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Requests::registered(&mut registry);
        registry.register_collector(Box::new(Process));
        Self { registry: Mutex::new(registry), requests }
    }
}

impl Metrics {
    /// Adds what a part of the node has at hand.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry())
    }

    /// Adds what is read when somebody asks.
    pub fn collect(&self, collector: impl Collector) {
        self.registry().register_collector(Box::new(collector));
    }

    /// Everything, as text.
    #[must_use]
    pub fn text(&self, format: TextFormat) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry()).expect("a string takes whatever is written to it");
        match format {
            TextFormat::OpenMetrics => text,
            TextFormat::Classic => to_classic(&text),
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // Something is added whole or not at all, so a panic elsewhere cannot have left it half changed.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_name_it() {
        for classic in ["", "*/*", "text/plain", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "application/json"] {
            assert_eq!(TextFormat::accepted(classic), TextFormat::Classic, "{classic}");
        }
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for open_metrics in [prometheus, "application/openmetrics-text", "Application/OpenMetrics-Text; q=0.2"] {
            assert_eq!(TextFormat::accepted(open_metrics), TextFormat::OpenMetrics, "{open_metrics}");
        }
        for refused in ["application/openmetrics-text;q=0", "text/plain,application/openmetrics-text;q=0.9"] {
            assert_eq!(TextFormat::accepted(refused), TextFormat::Classic, "{refused}");
        }
    }

    #[test]
    fn what_is_added_later_is_told_too() {
        let metrics = Metrics::default();
        metrics.register(|registry| registry.register("late", "Came later", Distribution::new(&[1.0])));
        assert!(metrics.text(TextFormat::OpenMetrics).contains("late_count 0\n"));
    }
}
