//! Spans of requests: nothing at all for those that are not sampled.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;
use tonic::Code;
use tonic::metadata::MetadataMap;

use super::context::{self, Parent, TraceContext};
use super::metrics::RequestKind;
use super::stage::{Stage, is_slow, record_slow};
use super::tracer::{Tracer, new_span_id, new_trace_id, tracer};

/// The attribute that holds a call's status. The conventions have renamed it before and will again
/// (`rpc.grpc.status_code`, then this, next `rpc.status_code`).
pub(super) const STATUS_ATTRIBUTE: &str = "rpc.response.status_code";

/// The attribute that holds the consistency level of a get.
const CONSISTENCY_ATTRIBUTE: &str = "kv.consistency";

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

struct Live {
    tracer: Arc<Tracer>,
    context: TraceContext,
    begun: Instant,
    /// None once it has ended.
    span: Option<SpanData>,
    /// Whether the span is a remote call's, which ends with a status.
    is_call: bool,
}

impl fmt::Debug for Live {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Live").field("span", &self.span).finish_non_exhaustive()
    }
}

/// Begins the span of a request that a client sent to this server, if the request is sampled. `method` is the call's
/// full name without the leading slash, such as `kv.v1.KvService/Put`.
pub fn server_span(metadata: &MetadataMap, method: &'static str) -> RequestSpan {
    match tracer() {
        Some(tracer) => tracer.server_span(metadata, method),
        None => {
            context::extract(metadata).map_or(RequestSpan::NONE, |trace| RequestSpan(State::Passing(Box::new(trace))))
        }
    }
}

/// Begins the span of one request of many on a stream, as [`server_span`] does.
pub fn pipelined_span(traceparent: &str, method: &'static str) -> RequestSpan {
    let mut metadata = MetadataMap::new();
    if !traceparent.is_empty()
        && let Some(parent) = TraceContext::parse(traceparent)
    {
        context::inject(&parent, &mut metadata);
    }
    server_span(&metadata, method)
}

/// Begins a span within a trace, here or remote. A context that is not sampled gives none.
pub fn child_span(parent: &TraceContext, name: impl Into<Cow<'static, str>>, kind: SpanKind) -> RequestSpan {
    match tracer() {
        Some(tracer) => tracer.child_span(parent, name.into(), kind),
        None => RequestSpan(State::Passing(Box::new(parent.clone()))),
    }
}

/// Begins a trace of what this node does by itself, such as an election: few enough that all of them are told, unless
/// the environment says that nothing is ever traced.
pub fn own_span(name: &'static str) -> RequestSpan {
    tracer().map_or(RequestSpan::NONE, |tracer| tracer.own_span(name))
}

impl RequestSpan {
    /// No span.
    pub const NONE: Self = Self(State::None);

    pub(super) fn live(
        tracer: &Arc<Tracer>,
        parent: Option<&TraceContext>,
        name: Cow<'static, str>,
        kind: SpanKind,
    ) -> Self {
        let own = match parent {
            Some(parent) => parent.with_span(new_span_id()),
            None => TraceContext::root(new_trace_id(), new_span_id()),
        };
        let span = tracer.begin(parent, own.clone(), name, kind);
        let (tracer, begun) = (Arc::clone(tracer), Instant::now());
        Self(State::Live(Box::new(Live { tracer, context: own, begun, span: Some(span), is_call: false })))
    }

    /// The context for the request's further way, if it is traced.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        match &self.0 {
            State::None => None,
            State::Passing(trace) => Some(TraceContext::clone(trace)),
            State::Live(live) => Some(live.context.clone()),
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
    pub fn with_text(mut self, key: &'static str, text: &str) -> Self {
        self.set(key, || text.to_owned().into());
        self
    }

    /// Adds a number. OpenTelemetry's are signed: what is greater is reported as the greatest.
    pub fn with_number(mut self, key: &'static str, number: u64) -> Self {
        self.set(key, || i64::try_from(number).unwrap_or(i64::MAX).into());
        self
    }

    /// Makes this the span of a remote call of `method`, the call's full name without the leading slash.
    pub fn with_method(mut self, method: &'static str) -> Self {
        if let State::Live(live) = &mut self.0 {
            live.is_call = true;
        }
        self.set("rpc.system.name", || "grpc".into());
        self.set("rpc.method", || method.into());
        self
    }

    /// Says how fresh a get has to be; nothing of other requests.
    pub fn with_consistency_of(mut self, kind: RequestKind) -> Self {
        if let Some(level) = kind.consistency() {
            self.set(CONSISTENCY_ATTRIBUTE, || level.into());
        }
        self
    }

    fn set(&mut self, key: &'static str, value: impl FnOnce() -> Value) {
        if let State::Live(live) = &mut self.0
            && let Some(span) = &mut live.span
        {
            span.attributes.push(KeyValue::new(key, value()));
        }
    }

    /// Ends the span of a call with the call's status.
    pub fn end(mut self, code: Code) {
        if let State::Live(live) = &mut self.0 {
            live.end_call(code);
        }
    }

    /// Ends the span of a call that passed a client's request on to `receiver`. Where the request is not sampled, tells
    /// of it if it was slow: since `begun`, this node has only waited for the other.
    pub fn end_forward(self, code: Code, (kind, begun): (RequestKind, Instant), receiver: &str) {
        if matches!(self.0, State::None) {
            let now = Instant::now();
            if is_slow(now - begun) {
                let forward = Stage::new("kv.forward", begun, now).call().with_text("server.address", receiver);
                record_slow(kind, Some(code), (begun, now), vec![forward]);
            }
        }
        self.end(code);
    }

    /// Ends a span that is no call's with what became of it, which is an error or not.
    pub fn end_as(mut self, outcome: &'static str, is_error: bool) {
        self.set("outcome", || outcome.into());
        if let State::Live(live) = &mut self.0
            && let Some(span) = &mut live.span
            && is_error
        {
            span.status = Status::error(outcome);
        }
    }
}

impl Live {
    fn end_call(&mut self, code: Code) {
        if let Some(span) = &mut self.span {
            set_status(span, code);
        }
        self.end();
    }

    fn end(&mut self) {
        let Some(mut span) = self.span.take() else { return };
        let now = Instant::now();
        span.end_time = self.tracer.wall(now);
        let is_request = self.is_call && span.span_kind == SpanKind::Server;
        self.tracer.take(span);
        if is_request {
            let Parent { trace_id, span_id, .. } = self.context.span;
            self.tracer.journal.finished(trace_id, span_id, now - self.begun);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        match self.is_call {
            // A call whose end nobody waited for: its caller went away.
            true if self.span.is_some() => self.end_call(Code::Cancelled),
            _ => self.end(),
        }
    }
}

impl Tracer {
    /// See [`record_slow`](super::record_slow).
    pub(super) fn take_slow(
        &self,
        kind: RequestKind,
        code: Option<Code>,
        (from, until): (Instant, Instant),
        stages: Vec<Stage>,
    ) {
        let own = TraceContext::root(new_trace_id(), new_span_id());
        let method = kind.full_method();
        let mut root = self.begin(None, own.clone(), method.into(), SpanKind::Server);
        (root.start_time, root.end_time) = (self.wall(from), self.wall(until));
        root.attributes = vec![KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", method)];
        root.attributes.extend(kind.consistency().map(|level| KeyValue::new(CONSISTENCY_ATTRIBUTE, level)));
        if let Some(code) = code {
            set_status(&mut root, code);
        }
        let mut spans = vec![root];
        spans.extend(self.spans_of(&own, stages));
        self.journal.add_slow(spans, until.saturating_duration_since(from));
    }
}

fn set_status(span: &mut SpanData, code: Code) {
    let name = code_name(code);
    span.attributes.push(KeyValue::new(STATUS_ATTRIBUTE, name));
    if is_error(code, &span.span_kind) {
        span.attributes.push(KeyValue::new("error.type", name));
        span.status = Status::error("");
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
