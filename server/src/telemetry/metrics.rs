//! Metrics: what a node counts of its work, told in the OpenMetrics text format to whoever asks.
//!
//! Nothing is looked up for a request: which counter it belongs to is known by its kind and its code, which are few.

use std::sync::OnceLock;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

use super::span::code_name;

/// The media type of [`Metrics::text`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The histogram of [`Metrics::answered`], without its unit.
const REQUEST_DURATION: &str = "quorate_request_duration";

/// Bounds of buckets, in seconds: from less than any sync of a disk to more than any patience.
const DURATION_SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The codes of gRPC are numbered from zero.
const CODES: usize = Code::Unauthenticated as usize + 1;

/// What a client may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    /// Write a value.
    Put,
    /// Read one by way of the leader.
    GetLinearizable,
    /// Read one from a majority.
    GetQuorum,
    /// Read one as the node has it.
    GetStale,
    /// Remove one.
    Delete,
    /// Settle what became of a write.
    GetOutcome,
}

const KINDS: usize = RequestKind::GetOutcome as usize + 1;

/// A request that a client has made, as one call or one of many on a stream.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// What it asks for.
    pub kind: RequestKind,
    /// When it arrived.
    pub arrived: Instant,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    /// That of a get; of others empty, which is as good as not there.
    consistency: &'static str,
    code: &'static str,
}

/// What a node counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    /// The same, at hand once there was such a request.
    known: [[OnceLock<Histogram>; CODES]; KINDS],
}

impl RequestKind {
    /// The method's short name, and the consistency level of a get.
    const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Put => ("Put", ""),
            Self::GetLinearizable => ("Get", "linearizable"),
            Self::GetQuorum => ("Get", "quorum"),
            Self::GetStale => ("Get", "stale"),
            Self::Delete => ("Delete", ""),
            Self::GetOutcome => ("GetOutcome", ""),
        }
    }

    /// The method's full name, without the leading slash.
    pub(super) const fn full_method(self) -> &'static str {
        match self {
            Self::Put => "kv.v1.KvService/Put",
            Self::GetLinearizable | Self::GetQuorum | Self::GetStale => "kv.v1.KvService/Get",
            Self::Delete => "kv.v1.KvService/Delete",
            Self::GetOutcome => "kv.v1.KvService/GetOutcome",
        }
    }

    /// Whether it reads a key.
    #[must_use]
    pub fn is_get(self) -> bool {
        self.consistency().is_some()
    }

    /// The consistency level of a get.
    #[must_use]
    pub fn consistency(self) -> Option<&'static str> {
        match self.labels() {
            (_, "") => None,
            (_, level) => Some(level),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(DURATION_SECONDS));
        let help = "How long requests of clients took, calls and those on streams, by method, consistency and code";
        registry.register_with_unit(REQUEST_DURATION, help, Unit::Seconds, requests.clone());
        Self { registry, requests, known: Default::default() }
    }
}

impl Metrics {
    /// A request was answered with `code` just now.
    pub fn answered(&self, Measured { kind, arrived }: Measured, code: Code) {
        let histogram = self.known[kind as usize][code as usize].get_or_init(|| {
            let (method, consistency) = kind.labels();
            self.requests.get_or_create_owned(&RequestLabels { method, consistency, code: code_name(code) })
        });
        histogram.observe(arrived.elapsed().as_secs_f64());
    }

    /// Everything, in the OpenMetrics text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes whatever is written to it");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn count(text: &str, labels: &str) -> Option<u64> {
        let name = format!("{REQUEST_DURATION}_seconds_count{{{labels}}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }

    #[test]
    fn requests_are_told_by_method_level_and_code() {
        let metrics = Metrics::default();
        let now = Instant::now();
        let asked = |kind| Measured { kind, arrived: now };
        metrics.answered(asked(RequestKind::GetQuorum), Code::Ok);
        metrics.answered(asked(RequestKind::GetQuorum), Code::Ok);
        metrics.answered(asked(RequestKind::GetQuorum), Code::Unauthenticated);
        metrics.answered(asked(RequestKind::Put), Code::AlreadyExists);
        let text = metrics.text();
        assert_eq!(count(&text, r#"method="Get",consistency="quorum",code="OK""#), Some(2), "{text}");
        assert_eq!(count(&text, r#"method="Get",consistency="quorum",code="UNAUTHENTICATED""#), Some(1), "{text}");
        assert_eq!(count(&text, r#"method="Put",consistency="",code="ALREADY_EXISTS""#), Some(1), "{text}");
        assert_eq!(count(&text, r#"method="Get",consistency="stale",code="OK""#), None, "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_takes_longer_is_in_a_higher_bucket() {
        let metrics = Metrics::default();
        let arrived = Instant::now().checked_sub(Duration::from_millis(300)).expect("the machine has run so long");
        metrics.answered(Measured { kind: RequestKind::Delete, arrived }, Code::Ok);
        let text = metrics.text();
        let bucket = |bound: &str| {
            let label = format!("le=\"{bound}\"");
            let line = text.lines().find(|line| line.contains(&label)).expect("there is such a bucket");
            line.rsplit(' ').next().expect("a line has a value").to_owned()
        };
        assert_eq!((bucket("0.25").as_str(), bucket("+Inf").as_str()), ("0", "1"), "{text}");
    }
}
