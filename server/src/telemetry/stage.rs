//! Stages: the parts of a request's way, told when they are over.
//!
//! What one thread does for many requests at once (a loop's turn, a sync) is not measured by each of them while it
//! lasts. Whoever knows afterwards from when until when a request's part of it was tells so; for a request that is
//! neither sampled nor slow, nobody does.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanKind};
use tonic::Code;

use super::context::TraceContext;
use super::metrics::RequestKind;
use super::tracer::{new_span_id, tracer};

/// A part of a request's way, from one moment until another.
#[derive(Clone, Debug)]
pub struct Stage {
    pub(super) name: Cow<'static, str>,
    pub(super) kind: SpanKind,
    pub(super) from: Instant,
    pub(super) until: Instant,
    /// Within which of the stages that are told with it.
    pub(super) within: Option<usize>,
    /// Its context, if others know it already.
    pub(super) context: Option<TraceContext>,
    pub(super) attributes: Vec<KeyValue>,
    pub(super) links: Vec<Link>,
}

impl Stage {
    /// A stage from one moment until another. `until` is not before `from`, or the stage takes no time.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, from: Instant, until: Instant) -> Self {
        Self {
            name: name.into(),
            kind: SpanKind::Internal,
            from,
            until: until.max(from),
            within: None,
            context: None,
            attributes: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Part of the stage at this place among those that are told together, which comes before it.
    #[must_use]
    pub fn within(self, place: usize) -> Self {
        Self { within: Some(place), ..self }
    }

    /// A call to another process.
    #[must_use]
    pub fn call(self) -> Self {
        Self { kind: SpanKind::Client, ..self }
    }

    /// What another process has asked for.
    #[must_use]
    pub fn serving(self) -> Self {
        Self { kind: SpanKind::Server, ..self }
    }

    /// Has the context that [`reserve`] gave.
    #[must_use]
    pub fn reserved(self, context: TraceContext) -> Self {
        Self { context: Some(context), ..self }
    }

    /// Adds a number. OpenTelemetry's are signed: what is greater is reported as the greatest.
    #[must_use]
    pub fn with_number(mut self, key: &'static str, number: u64) -> Self {
        self.attributes.push(KeyValue::new(key, i64::try_from(number).unwrap_or(i64::MAX)));
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn with_text(mut self, key: &'static str, text: &str) -> Self {
        self.attributes.push(KeyValue::new(key, text.to_owned()));
        self
    }

    /// Has to do with another span, which is none of those around it.
    #[must_use]
    pub fn linked(mut self, other: &TraceContext) -> Self {
        self.links.push(Link::with_context(other.to_span_context(false)));
        self
    }
}

/// The context of a stage that will be told later, within `parent`: for others who are part of it. Where nothing is
/// told, `parent`'s own.
#[must_use]
pub fn reserve(parent: &TraceContext) -> TraceContext {
    match tracer() {
        Some(tracer) if tracer.records(parent) => parent.with_span(new_span_id()),
        _ => parent.clone(),
    }
}

/// Tells stages of what `parent` is the context of.
pub fn record(parent: &TraceContext, stages: Vec<Stage>) {
    if let Some(tracer) = tracer()
        && tracer.records(parent)
    {
        tracer.take_stages(parent, stages);
    }
}

/// Tells a stage as a trace of its own, and returns its context; none where nothing is told.
pub fn record_root(stage: Stage) -> Option<TraceContext> {
    tracer()?.take_root(stage)
}

/// Forgets slow requests that are not of lately any more, and follows the wall's clock. To be called now and then.
pub fn forget_old(now: Instant) {
    if let Some(tracer) = tracer() {
        tracer.follow_clock();
        tracer.journal.forget_old(now);
    }
}

/// Whether a request that took so long is among the slowest of lately, so that its stages are worth telling.
#[must_use]
pub fn is_slow(took: Duration) -> bool {
    tracer().is_some_and(|tracer| tracer.journal.is_slow(took))
}

/// Tells of a slow request that is not sampled, so that it is kept among the slowest.
pub fn record_slow(kind: RequestKind, code: Option<Code>, (from, until): (Instant, Instant), stages: Vec<Stage>) {
    if let Some(tracer) = tracer() {
        tracer.take_slow(kind, code, (from, until), stages);
    }
}
