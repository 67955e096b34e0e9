//! Spans of requests and attempts, and the W3C trace context that is sent with each call.
//!
//! The names follow OpenTelemetry's semantic conventions. Neither keys nor values are ever recorded.

use crate::Endpoint;
use opentelemetry::{
    Context,
    propagation::{Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::{
    Code,
    metadata::{MetadataKey, MetadataMap},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The attribute of a call's status. The convention is moving; this is its one place here.
const STATUS_ATTRIBUTE: &str = "rpc.response.status_code";

/// The span of a whole request: the database operation around its attempts.
pub(crate) fn request_span(operation: &'static str) -> Span {
    tracing::info_span!(
        "request",
        otel.name = operation,
        otel.kind = "client",
        db.system.name = "quorate",
        db.operation.name = operation,
    )
}

/// The span of one attempt: one gRPC call.
pub(crate) fn attempt_span(method: &'static str, endpoint: &Endpoint) -> Span {
    tracing::info_span!(
        "attempt",
        otel.name = method,
        otel.kind = "client",
        rpc.system.name = "grpc",
        rpc.method = method,
        server.address = endpoint.host(),
        server.port = endpoint.port(),
    )
}

/// Notes how an attempt ended. On a client's span every status but OK is an error.
pub(crate) fn finish(span: &Span, code: Code) {
    span.set_attribute(STATUS_ATTRIBUTE, status_name(code));
    if code != Code::Ok {
        span.set_attribute("error.type", status_name(code));
        span.set_status(opentelemetry::trace::Status::error(""));
    }
}

/// Writes the context of `span`, or else the active OpenTelemetry context, into a call's metadata.
pub(crate) fn inject(span: &Span, metadata: &mut MetadataMap) {
    let mut context = span.context();
    if !context.span().span_context().is_valid() {
        context = Context::current();
    }
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(&context, &mut Carrier(metadata));
    }
}

/// The context of `span`, or else the active OpenTelemetry context, as W3C's `traceparent` header has it. Empty if none
/// is sampled.
pub(crate) fn traceparent(span: &Span) -> String {
    let mut context = span.context();
    if !context.span().span_context().is_valid() {
        context = Context::current();
    }
    if !context.span().span_context().is_sampled() {
        return String::new();
    }
    let mut written = Parent::default();
    TraceContextPropagator::new().inject_context(&context, &mut written);
    written.0
}

/// Keeps the header `traceparent` alone.
#[derive(Default)]
struct Parent(String);

impl Injector for Parent {
    fn set(&mut self, key: &str, value: String) {
        if key == "traceparent" {
            self.0 = value;
        }
    }
}

struct Carrier<'a>(&'a mut MetadataMap);

impl Injector for Carrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        // The propagator writes only ASCII; what is none is left out rather than failing a request over its trace.
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

/// The name of a status code as gRPC writes it.
fn status_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

    #[test]
    fn an_active_context_is_injected_and_none_adds_nothing() {
        let mut metadata = MetadataMap::new();
        inject(&Span::none(), &mut metadata);
        assert!(metadata.is_empty());

        let parent = SpanContext::new(
            TraceId::from(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c),
            SpanId::from(0xb7ad_6b71_6920_3331),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        let _guard = Context::current().with_remote_span_context(parent).attach();
        inject(&Span::none(), &mut metadata);
        let written = metadata.get("traceparent").expect("it was injected");
        assert_eq!(written, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(traceparent(&Span::none()), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    }

    #[test]
    fn a_context_that_is_not_sampled_is_not_carried_along() {
        assert_eq!(traceparent(&Span::none()), "");
        let (trace, span) = (TraceId::from(7_u128), SpanId::from(9_u64));
        let parent = SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::default());
        let _guard = Context::current().with_remote_span_context(parent).attach();
        assert_eq!(traceparent(&Span::none()), "");
    }
}
