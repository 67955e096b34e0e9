//! What is told of the requests of clients: each one that is answered, and what is under way.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::error::{DOMAIN, OVERLOADED, Reason};
use super::limits::{InFlight, UnderWay};
use crate::telemetry::{Measured, Metrics, Page};

/// A request of a client's is answered.
pub(super) fn answered(metrics: &Metrics, measured: Measured, result: Result<(), &Status>) {
    let Err(status) = result else { return metrics.requests.answered(measured, Code::Ok) };
    metrics.requests.answered(measured, status.code());
    // Our own statuses have their reason at hand; those of another node are told by what they carry.
    if let Some(Reason(reason)) = status.source().and_then(|source| source.downcast_ref()) {
        metrics.requests.failed(reason);
    } else if let Some(info) = status.get_details_error_info().filter(|info| info.domain == DOMAIN) {
        metrics.requests.failed(&info.reason);
    }
}

/// A request of a client's is refused because too much is under way.
pub(super) fn refused_for_room(metrics: &Metrics, measured: Measured) {
    metrics.requests.answered(measured, Code::ResourceExhausted);
    metrics.requests.failed(OVERLOADED);
}

/// Tells what is under way.
#[derive(Debug)]
pub(super) struct InFlightGauges(pub(super) Arc<InFlight>);

impl Collector for InFlightGauges {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let UnderWay { requests, bytes, bytes_max, streams } = self.0.under_way();
        let mut page = Page::new(encoder);
        page.gauge("quorate_requests_in_flight", "Requests of clients that are under way", requests)?;
        let help = "Memory that is set aside for the requests under way";
        page.gauge("quorate_requests_in_flight_bytes", help, bytes)?;
        let help = "How much memory may be set aside for requests; what does not fit is refused as OVERLOADED";
        page.gauge("quorate_requests_in_flight_limit_bytes", help, bytes_max)?;
        page.gauge("quorate_streams_active", "Streams of clients that have requests under way", streams)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::api::error::{ApiError, CallKind};
    use crate::telemetry::{RequestKind, TextFormat};

    #[test]
    fn a_reason_is_counted_whether_it_is_this_nodes_or_anothers() {
        let metrics = Metrics::default();
        let measured = Measured { kind: RequestKind::Put, arrived: Instant::now() };
        let own = ApiError::Draining.to_status(CallKind::Write);
        let passed_on = Status::with_details(own.code(), own.message(), own.details().to_vec().into());
        assert!(passed_on.source().is_none());
        let of_a_library = Status::unavailable("a connection broke");
        for status in [&own, &passed_on, &of_a_library] {
            answered(&metrics, measured, Err(status));
        }
        refused_for_room(&metrics, measured);
        answered(&metrics, measured, Ok(()));
        let text = metrics.text(TextFormat::Classic);
        let mut told: Vec<&str> =
            text.lines().filter(|line| line.starts_with("quorate_request_errors_total{")).collect();
        told.sort_unstable();
        let line = |reason: &str, count| format!("quorate_request_errors_total{{reason=\"{reason}\"}} {count}");
        assert_eq!(told, [line("DRAINING", 2), line("OVERLOADED", 1)]);
    }
}
