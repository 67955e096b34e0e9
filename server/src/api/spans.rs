//! Spans as `admin.v1` has them.

use std::sync::Arc;

use opentelemetry::trace::{SpanId, Status};
use opentelemetry_sdk::trace::SpanData;
use proto::admin::v1::{SlowRequest, Span, SpanKind as WireKind};

use crate::telemetry::{KeptTrace, SlowTrace, SpanKind, unix_nanos};

/// The spans of a trace on this node, which is called `node`.
pub(super) fn wire_spans(node: &str, trace: KeptTrace) -> Vec<Span> {
    trace.spans.into_iter().map(|span| wire_span(node, span)).collect()
}

/// A slow request of this node: its own span, then those that are part of it by their beginning.
pub(super) fn slow_request(node: &str, slow: Arc<SlowTrace>) -> SlowRequest {
    let slow = Arc::unwrap_or_clone(slow);
    let duration_micros = u64::try_from(slow.took.as_micros()).unwrap_or(u64::MAX);
    let trace_id = slow.trace.trace_id.to_bytes().to_vec().into();
    let mut spans = wire_spans(node, slow.trace);
    if let [_, parts @ ..] = &mut spans[..] {
        parts.sort_by_key(|span| (span.start_time_unix_nano, u64::MAX - span.end_time_unix_nano));
    }
    SlowRequest { trace_id, duration_micros, spans }
}

fn wire_span(node: &str, span: SpanData) -> Span {
    let has_parent = span.parent_span_id != SpanId::INVALID;
    let parent_span_id = if has_parent { span.parent_span_id.to_bytes().to_vec() } else { Vec::new() };
    Span {
        span_id: span.span_context.span_id().to_bytes().to_vec().into(),
        parent_span_id: parent_span_id.into(),
        name: span.name.into_owned(),
        kind: match span.span_kind {
            SpanKind::Server => WireKind::Server.into(),
            SpanKind::Client => WireKind::Client.into(),
            _ => WireKind::Unspecified.into(),
        },
        start_time_unix_nano: unix_nanos(span.start_time),
        end_time_unix_nano: unix_nanos(span.end_time),
        attributes: span.attributes.iter().map(|pair| (pair.key.to_string(), pair.value.to_string())).collect(),
        failed: matches!(span.status, Status::Error { .. }),
        node: node.to_owned(),
    }
}
