//! Spans of requests: nothing at all for those that are not sampled.

use std::borrow::Cow;
use std::sync::OnceLock;

use opentelemetry::trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use tonic::Code;
use tonic::metadata::MetadataMap;

use super::context::{self, TraceContext};
use super::environment::Sampler;

/// The attribute that holds a call's status. The conventions have renamed it before and will again
/// (`rpc.grpc.status_code`, then this, next `rpc.status_code`).
const STATUS_ATTRIBUTE: &str = "rpc.response.status_code";

/// The process's tracer, once [`init`](super::init()) found that traces are exported.
static TRACING: OnceLock<Tracing> = OnceLock::new();

/// What builds spans.
#[derive(Debug)]
pub(super) struct Tracing {
    pub(super) tracer: SdkTracer,
    pub(super) sampler: Sampler,
}

impl Tracing {
    /// Makes this the process's tracer; false if there is one already.
    pub(super) fn install(self) -> bool {
        TRACING.set(self).is_ok()
    }

    /// See [`server_span`].
    pub(super) fn server_span(&self, metadata: &MetadataMap, method: &'static str) -> RequestSpan {
        let parent = context::parent(metadata);
        if !self.sampler.samples(parent.as_ref().map(|(parent, _)| parent), rand::random) {
            return RequestSpan::NONE;
        }
        // An unsampled parent that the sampler overruled is still the parent.
        let parent = match parent {
            None => SpanContext::empty_context(),
            Some((_, traceparent)) => context::extract(metadata)
                .unwrap_or_else(|| TraceContext::new(traceparent.to_owned()))
                .to_span_context()
                .unwrap_or(SpanContext::empty_context()),
        };
        self.start(parent, method.into(), SpanKind::Server).with_method(method)
    }

    /// See [`child_span`].
    pub(super) fn child_span(&self, parent: &TraceContext, name: Cow<'static, str>, kind: SpanKind) -> RequestSpan {
        match parent.to_span_context() {
            Some(parent) if parent.is_sampled() => self.start(parent, name, kind),
            Some(_) | None => RequestSpan::NONE,
        }
    }

    fn start(&self, parent: SpanContext, name: Cow<'static, str>, kind: SpanKind) -> RequestSpan {
        let builder = SpanBuilder::from_name(name).with_kind(kind.clone());
        let context = Context::new().with_remote_span_context(parent);
        let span = self.tracer.build_with_context(builder, &context);
        RequestSpan(State::Live(Box::new(Live { span, kind, is_call: false })))
    }
}

/// A span of a sampled request, or nothing. It ends when [`end`](Self::end) is called or when it is dropped.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct RequestSpan(State);

#[derive(Debug)]
enum State {
    /// The request is not traced.
    None,
    /// The request is traced by others and not by this process, which only hands the context on.
    Passing(Box<TraceContext>),
    /// The request is traced.
    Live(Box<Live>),
}

#[derive(Debug)]
struct Live {
    span: Span,
    kind: SpanKind,
    /// Whether the span is a remote call's, which ends with a status.
    is_call: bool,
}

/// Begins the span of a request that a client sent to this server, if the request is sampled. `method` is the call's
/// full name without the leading slash, such as `kv.v1.KvService/Put`.
pub fn server_span(metadata: &MetadataMap, method: &'static str) -> RequestSpan {
    match TRACING.get() {
        Some(tracing) => tracing.server_span(metadata, method),
        None => {
            context::extract(metadata).map_or(RequestSpan::NONE, |trace| RequestSpan(State::Passing(Box::new(trace))))
        }
    }
}

/// Begins the span of one request of many on a stream, as [`server_span`] does. One without a `traceparent` is not
/// traced.
pub fn pipelined_span(traceparent: &str, method: &'static str) -> RequestSpan {
    if traceparent.is_empty() {
        return RequestSpan::NONE;
    }
    let mut metadata = MetadataMap::new();
    context::inject(&TraceContext::new(traceparent.to_owned()), &mut metadata);
    server_span(&metadata, method)
}

/// Begins a span within a trace, here or remote. A context that is malformed or not sampled gives none.
pub fn child_span(parent: &TraceContext, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> RequestSpan {
    match TRACING.get() {
        Some(tracing) => tracing.child_span(parent, name.into(), kind),
        None => RequestSpan(State::Passing(Box::new(parent.clone()))),
    }
}

impl RequestSpan {
    /// No span.
    pub const NONE: Self = Self(State::None);

    /// The context for the request's further way, if it is traced.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        match &self.0 {
            State::None => None,
            State::Passing(trace) => Some(TraceContext::clone(trace)),
            State::Live(live) => Some(TraceContext::of_span(live.span.span_context())),
        }
    }

    /// Begins a span within this one.
    pub fn child(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> Self {
        match self.context() {
            Some(trace) => child_span(&trace, name, kind),
            None => Self::NONE,
        }
    }

    /// Adds a text.
    pub fn with_text(self, key: &'static str, text: &str) -> Self {
        self.with(key, || text.to_owned().into())
    }

    /// Adds a number. OpenTelemetry's are signed: what is greater is reported as the greatest.
    pub fn with_number(self, key: &'static str, number: u64) -> Self {
        self.with(key, || i64::try_from(number).unwrap_or(i64::MAX).into())
    }

    /// Makes this the span of a remote call of `method`, the call's full name without the leading slash.
    pub fn with_method(mut self, method: &'static str) -> Self {
        if let State::Live(live) = &mut self.0 {
            live.is_call = true;
        }
        self.with("rpc.system.name", || "grpc".into()).with("rpc.method", || method.into())
    }

    fn with(mut self, key: &'static str, value: impl FnOnce() -> Value) -> Self {
        if let State::Live(live) = &mut self.0 {
            live.span.set_attribute(KeyValue::new(key, value()));
        }
        self
    }

    /// Ends the span of a call with the call's status.
    pub fn end(mut self, code: Code) {
        if let State::Live(live) = &mut self.0 {
            live.end(code);
        }
    }
}

impl Live {
    fn end(&mut self, code: Code) {
        self.is_call = false;
        let name = code_name(code);
        self.span.set_attribute(KeyValue::new(STATUS_ATTRIBUTE, name));
        if is_error(code, &self.kind) {
            self.span.set_attribute(KeyValue::new("error.type", name));
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // A call whose end nobody waited for: its caller went away.
        if self.is_call {
            self.end(Code::Cancelled);
        }
    }
}

/// Whether a call that ended with `code` is an error of the side that the span shows: on the client every failure is,
/// on the server only what may be the server's fault (so a missing key is not red).
fn is_error(code: Code, kind: &SpanKind) -> bool {
    match code {
        Code::Ok => false,
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => *kind == SpanKind::Client,
    }
}

/// The code's name as gRPC writes it.
pub(super) fn code_name(code: Code) -> &'static str {
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
