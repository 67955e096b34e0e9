//! What clients ask for: how long it took, and what went wrong.
//!
//! Nothing is looked up for a request that succeeds: which histogram it belongs to is known by its kind and its code,
//! which are few.

use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;

use super::Distribution;
use crate::telemetry::span::code_name;

/// The histogram of [`Requests::answered`], without its unit.
const REQUEST_DURATION: &str = "quorate_request_duration";

/// Bounds of buckets, in seconds: from less than any sync of a disk to more than any patience.
const DURATION_SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The codes of gRPC are numbered from zero.
const CODES: usize = Code::Unauthenticated as usize + 1;

/// How many reasons are told apart: twice as many as there are. A leader of another version may name others.
const REASONS_MAX: usize = 80;

/// What all further ones are counted as.
const OTHER_REASON: &str = "OTHER";

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

const ALL_KINDS: [RequestKind; 6] = [
    RequestKind::Put,
    RequestKind::GetLinearizable,
    RequestKind::GetQuorum,
    RequestKind::GetStale,
    RequestKind::Delete,
    RequestKind::GetOutcome,
];

const KINDS: usize = ALL_KINDS.len();

/// A request that a client has made, as one call or one of many on a stream.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// What it asks for.
    pub kind: RequestKind,
    /// When it arrived.
    pub arrived: Instant,
}

/// The requests that asked the same and were answered with the same code, since the process started.
#[derive(Clone, PartialEq, Debug)]
pub struct AnsweredSoFar {
    /// The method's short name.
    pub method: &'static str,
    /// The consistency level of a get; of others empty.
    pub consistency: &'static str,
    /// The code's name.
    pub code: &'static str,
    /// How long they took together, in seconds.
    pub sum_seconds: f64,
    /// How many took up to so many seconds, and longer than the bound before; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    /// That of a get; of others empty, which is as good as not there.
    consistency: &'static str,
    code: &'static str,
}

type ReasonLabels = [(&'static str, String); 1];

/// What is told of the requests of clients.
#[derive(Debug)]
pub struct Requests {
    durations: Family<RequestLabels, Distribution, fn() -> Distribution>,
    /// The same, at hand once there was such a request.
    known: [[OnceLock<Distribution>; CODES]; KINDS],
    errors: Family<ReasonLabels, Counter>,
    /// The same, by reason: a few dozen, of which a handful occur.
    reasons: RwLock<Vec<(String, Counter)>>,
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
    pub(in crate::telemetry) const fn full_method(self) -> &'static str {
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

impl Requests {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let durations: Family<_, _, fn() -> Distribution> =
            Family::new_with_constructor(|| Distribution::new(&DURATION_SECONDS));
        let help = "How long requests of clients took, calls and those on streams, by method, consistency and code";
        registry.register_with_unit(REQUEST_DURATION, help, Unit::Seconds, durations.clone());
        let errors = Family::<ReasonLabels, Counter>::default();
        let help = "Requests of clients that ended with an error, by its reason";
        registry.register("quorate_request_errors", help, errors.clone());
        Self { durations, known: Default::default(), errors, reasons: RwLock::default() }
    }

    /// A request was answered with `code` just now.
    pub fn answered(&self, Measured { kind, arrived }: Measured, code: Code) {
        let histogram = self.known[kind as usize][code as usize].get_or_init(|| {
            let (method, consistency) = kind.labels();
            self.durations.get_or_create_owned(&RequestLabels { method, consistency, code: code_name(code) })
        });
        histogram.observe(arrived.elapsed().as_secs_f64());
    }

    /// How requests were answered until now; what never occurred is not there.
    #[must_use]
    pub fn answered_so_far(&self) -> Vec<AnsweredSoFar> {
        let of_kind = |kind: RequestKind| {
            let (method, consistency) = kind.labels();
            let known = self.known[kind as usize].iter().enumerate();
            known.filter_map(move |(code, histogram)| {
                let code = code_name(Code::from_i32(i32::try_from(code).ok()?));
                let histogram = histogram.get()?;
                let (sum_seconds, buckets) = (histogram.sum(), histogram.buckets());
                Some(AnsweredSoFar { method, consistency, code, sum_seconds, buckets })
            })
        };
        ALL_KINDS.into_iter().flat_map(of_kind).collect()
    }

    /// A request ended with an error of this reason.
    pub fn failed(&self, reason: &str) {
        let count = |reasons: &[(String, Counter)], reason: &str| {
            let counter = reasons.iter().find(|(known, _)| known == reason);
            counter.map(|(_, counter)| counter.inc()).is_some()
        };
        // A reason is added whole or not at all.
        if count(&self.reasons.read().unwrap_or_else(PoisonError::into_inner), reason) {
            return;
        }
        let mut reasons = self.reasons.write().unwrap_or_else(PoisonError::into_inner);
        let reason = if reasons.len() < REASONS_MAX { reason } else { OTHER_REASON };
        // Another thread may have added it meanwhile.
        if !count(&reasons, reason) {
            let counter = self.errors.get_or_create_owned(&[("reason", reason.to_owned())]);
            counter.inc();
            reasons.push((reason.to_owned(), counter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, TextFormat};
    use std::time::Duration;

    fn text(metrics: &Metrics) -> String {
        metrics.text(TextFormat::OpenMetrics)
    }

    fn count(text: &str, labels: &str) -> Option<u64> {
        let name = format!("{REQUEST_DURATION}_seconds_count{{{labels}}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok())
    }

    #[test]
    fn requests_are_told_by_method_level_and_code() {
        let metrics = Metrics::default();
        let now = Instant::now();
        let asked = |kind| Measured { kind, arrived: now };
        metrics.requests.answered(asked(RequestKind::GetQuorum), Code::Ok);
        metrics.requests.answered(asked(RequestKind::GetQuorum), Code::Ok);
        metrics.requests.answered(asked(RequestKind::GetQuorum), Code::Unauthenticated);
        metrics.requests.answered(asked(RequestKind::Put), Code::AlreadyExists);
        let text = text(&metrics);
        assert_eq!(count(&text, r#"method="Get",consistency="quorum",code="OK""#), Some(2), "{text}");
        assert_eq!(count(&text, r#"method="Get",consistency="quorum",code="UNAUTHENTICATED""#), Some(1), "{text}");
        assert_eq!(count(&text, r#"method="Put",consistency="",code="ALREADY_EXISTS""#), Some(1), "{text}");
        assert_eq!(count(&text, r#"method="Get",consistency="stale",code="OK""#), None, "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_was_answered_is_told_in_figures_too() {
        let requests = Metrics::default().requests;
        assert_eq!(requests.answered_so_far(), []);
        for kind in ALL_KINDS {
            requests.answered(Measured { kind, arrived: Instant::now() }, Code::Unavailable);
        }
        requests.answered(Measured { kind: RequestKind::GetStale, arrived: Instant::now() }, Code::Unavailable);
        let told = requests.answered_so_far();
        let found: Vec<_> = told.iter().map(|told| (told.method, told.consistency, told.code)).collect();
        let expected = ALL_KINDS.map(|kind| (kind.labels().0, kind.labels().1, "UNAVAILABLE"));
        assert_eq!(found, expected);
        let counts: Vec<u64> = told.iter().map(|told| told.buckets.iter().map(|(_, count)| count).sum()).collect();
        assert_eq!(counts, [1, 1, 1, 2, 1, 1]);
        assert!(told.iter().all(|told| told.sum_seconds > 0.0 && told.buckets[16].0.is_infinite()));
    }

    #[test]
    fn what_takes_longer_is_in_a_higher_bucket() {
        let metrics = Metrics::default();
        let arrived = Instant::now().checked_sub(Duration::from_millis(300)).expect("the machine has run so long");
        metrics.requests.answered(Measured { kind: RequestKind::Delete, arrived }, Code::Ok);
        let text = text(&metrics);
        let bucket = |bound: &str| {
            let label = format!("le=\"{bound}\"");
            let line = text.lines().find(|line| line.contains(&label)).expect("there is such a bucket");
            line.rsplit(' ').next().expect("a line has a value").to_owned()
        };
        assert_eq!((bucket("0.25").as_str(), bucket("+Inf").as_str()), ("0", "1"), "{text}");
    }

    #[test]
    fn errors_are_told_by_reason_and_reasons_are_bounded() {
        let metrics = Metrics::default();
        for number in 0..2 * REASONS_MAX {
            metrics.requests.failed("KEY_EXISTS");
            metrics.requests.failed(&format!("REASON_{number}"));
        }
        let text = text(&metrics);
        let line =
            |reason: &str, count: usize| format!("quorate_request_errors_total{{reason=\"{reason}\"}} {count}\n");
        assert!(text.contains(&line("KEY_EXISTS", 2 * REASONS_MAX)), "{text}");
        assert!(text.contains(&line(OTHER_REASON, REASONS_MAX + 1)), "{text}");
        assert_eq!(text.matches("quorate_request_errors_total{").count(), REASONS_MAX + 1);
    }
}
