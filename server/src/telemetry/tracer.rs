//! What makes the spans of a process, and takes them when they have ended.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::trace::{SpanData, SpanProcessor};
use tonic::metadata::MetadataMap;

use super::context::{self, TraceContext};
use super::environment::Sampler;
use super::journal::{Journal, KeptTrace, SlowTrace};
use super::span::RequestSpan;
use super::stage::Stage;

/// How often the clocks are read, to find how they lie to each other.
const CLOCK_ATTEMPTS: usize = 8;

/// The process's tracer, once [`init`](super::init()) was called; none if the environment switches tracing off.
static TRACER: OnceLock<Arc<Tracer>> = OnceLock::new();

/// What makes spans and takes them.
#[derive(Debug)]
pub(super) struct Tracer {
    sampler: Sampler,
    /// Takes what is exported; none if nothing is.
    exporter: Option<Box<dyn SpanProcessor>>,
    pub(super) journal: Journal,
    scope: InstrumentationScope,
    clock: RwLock<Clock>,
}

/// So much does the wall's clock have to be set, by somebody or because the machine slept, for spans to follow.
const CLOCK_STEP: Duration = Duration::from_millis(10);

/// The wall's time of moments. It is not taken for each, so that the spans of a process lie to each other as its
/// moments do.
#[derive(Debug)]
struct Clock {
    moment: Instant,
    wall: SystemTime,
}

impl Clock {
    /// Reads both clocks, as close to each other as a few attempts come: a process that is suspended in between would
    /// place all its spans wrongly.
    fn read() -> Self {
        let attempts = (0..CLOCK_ATTEMPTS).map(|_| {
            let (before, wall, moment) = (Instant::now(), SystemTime::now(), Instant::now());
            (moment - before, Self { moment, wall })
        });
        attempts.min_by_key(|(between, _)| *between).expect("there are attempts").1
    }

    fn at(&self, moment: Instant) -> SystemTime {
        match moment.checked_duration_since(self.moment) {
            Some(after) => self.wall + after,
            None => self.wall - (self.moment - moment),
        }
    }

    /// How far another reading is from what this one says of its moment.
    fn step(&self, other: &Self) -> Duration {
        let expected = self.at(other.moment);
        other.wall.duration_since(expected).unwrap_or_else(|earlier| earlier.duration())
    }
}

/// The wall's time in milliseconds since 1970.
#[must_use]
pub fn unix_millis() -> u64 {
    unix_nanos_now() / 1_000_000
}

/// The wall's time in nanoseconds since 1970.
pub(super) fn unix_nanos_now() -> u64 {
    unix_nanos(SystemTime::now())
}

/// A wall's time in nanoseconds since 1970, which has room for some centuries; zero before.
pub fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The process's tracer, if it has one.
pub(super) fn tracer() -> Option<&'static Arc<Tracer>> {
    TRACER.get()
}

/// What this process remembers of a trace, by the 16 bytes of its id.
#[must_use]
pub fn kept_trace(trace_id: [u8; 16]) -> Option<KeptTrace> {
    tracer()?.journal.trace(TraceId::from_bytes(trace_id))
}

/// The slowest requests of lately, the slowest first, as far as they are remembered.
#[must_use]
pub fn slowest(max: usize) -> Vec<Arc<SlowTrace>> {
    tracer().map(|tracer| tracer.journal.slowest(max)).unwrap_or_default()
}

impl Tracer {
    /// Samples by `sampler`, and hands what has ended to `exporter`, too.
    pub(super) fn new(scope: &'static str, sampler: Sampler, exporter: Option<Box<dyn SpanProcessor>>) -> Self {
        Self {
            sampler,
            exporter,
            journal: Journal::default(),
            scope: InstrumentationScope::builder(scope).with_version(env!("CARGO_PKG_VERSION")).build(),
            clock: RwLock::new(Clock::read()),
        }
    }

    /// Makes this the process's tracer; false if there is one already.
    pub(super) fn install(self: Arc<Self>) -> bool {
        TRACER.set(self).is_ok()
    }

    /// What is exported, if anything is.
    pub(super) fn exporter(&self) -> Option<&dyn SpanProcessor> {
        self.exporter.as_deref()
    }

    /// See [`server_span`](super::server_span).
    pub(super) fn server_span(self: &Arc<Self>, metadata: &MetadataMap, method: &'static str) -> RequestSpan {
        let parent = context::parent(metadata);
        if !self.sampler.samples(parent.as_ref().map(|parent| &parent.span), rand::random) {
            return RequestSpan::NONE;
        }
        // An unsampled parent that the sampler overruled is still the parent.
        RequestSpan::live(self, parent.as_ref(), method.into(), SpanKind::Server).with_method(method)
    }

    /// See [`child_span`](super::child_span).
    pub(super) fn child_span(
        self: &Arc<Self>,
        parent: &TraceContext,
        name: Cow<'static, str>,
        kind: SpanKind,
    ) -> RequestSpan {
        if self.records(parent) { RequestSpan::live(self, Some(parent), name, kind) } else { RequestSpan::NONE }
    }

    /// Whether what is part of `parent` is told: a caller's wish does not count where nothing is ever to be traced.
    pub(super) fn records(&self, parent: &TraceContext) -> bool {
        parent.is_sampled() && !self.sampler.is_always_off()
    }

    /// Begins a trace of what this node does by itself, unless nothing is ever to be traced.
    pub(super) fn own_span(self: &Arc<Self>, name: &'static str) -> RequestSpan {
        if self.sampler.is_always_off() {
            return RequestSpan::NONE;
        }
        RequestSpan::live(self, None, name.into(), SpanKind::Internal)
    }

    /// A span that begins now, with its context; without a parent, the first of a trace.
    pub(super) fn begin(
        &self,
        parent: Option<&TraceContext>,
        own: TraceContext,
        name: Cow<'static, str>,
        kind: SpanKind,
    ) -> SpanData {
        let start_time = self.wall(Instant::now());
        SpanData {
            span_context: own.to_span_context(false),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| parent.span.span_id),
            // Who serves was asked by another process.
            parent_span_is_remote: parent.is_some() && kind == SpanKind::Server,
            span_kind: kind,
            name,
            start_time,
            end_time: start_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: <_>::default(),
            links: <_>::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// The wall's time of a moment.
    pub(super) fn wall(&self, moment: Instant) -> SystemTime {
        self.clock.read().expect("no holder of the lock panics").at(moment)
    }

    /// Follows the wall's clock, if it was set.
    pub(super) fn follow_clock(&self) {
        self.follow(Clock::read());
    }

    fn follow(&self, read: Clock) {
        let mut clock = self.clock.write().expect("no holder of the lock panics");
        if clock.step(&read) > CLOCK_STEP {
            *clock = read;
        }
    }

    /// Takes a span that has ended.
    pub(super) fn take(&self, span: SpanData) {
        match &self.exporter {
            Some(exporter) => {
                self.journal.keep(span.clone());
                exporter.on_end(span);
            }
            None => self.journal.keep(span),
        }
    }

    /// Takes a stage as the only span of a trace, unless nothing is ever to be traced.
    pub(super) fn take_root(&self, stage: Stage) -> Option<TraceContext> {
        if self.sampler.is_always_off() {
            return None;
        }
        let own = TraceContext::root(new_trace_id(), new_span_id());
        let mut span = self.begin(None, own.clone(), stage.name, stage.kind);
        (span.start_time, span.end_time) = (self.wall(stage.from), self.wall(stage.until));
        span.attributes = stage.attributes;
        span.links.links = stage.links;
        self.take(span);
        Some(own)
    }

    /// Takes stages of what `parent` is the context of.
    pub(super) fn take_stages(&self, parent: &TraceContext, stages: Vec<Stage>) {
        for span in self.spans_of(parent, stages) {
            self.take(span);
        }
    }

    /// Stages as spans within `parent`.
    pub(super) fn spans_of(&self, parent: &TraceContext, stages: Vec<Stage>) -> Vec<SpanData> {
        let mut contexts: Vec<TraceContext> = Vec::with_capacity(stages.len());
        let mut spans = Vec::with_capacity(stages.len());
        for stage in stages {
            let within = stage.within.and_then(|place| contexts.get(place)).unwrap_or(parent);
            let own = stage.context.unwrap_or_else(|| within.with_span(new_span_id()));
            let mut span = self.begin(Some(within), own.clone(), stage.name, stage.kind);
            (span.start_time, span.end_time) = (self.wall(stage.from), self.wall(stage.until));
            span.attributes = stage.attributes;
            span.links.links = stage.links;
            spans.push(span);
            contexts.push(own);
        }
        spans
    }
}

/// A number for a span of ours.
pub(super) fn new_span_id() -> SpanId {
    SpanId::from(rand::random_range(1..=u64::MAX))
}

/// A number for a trace of ours.
pub(super) fn new_trace_id() -> TraceId {
    TraceId::from(rand::random_range(1..=u128::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_a_clock_that_was_set_and_no_other() {
        let tracer = Tracer::new("test", Sampler::PARENT_BASED_ALWAYS_ON, None);
        let moment = Instant::now();
        let before = tracer.wall(moment);
        tracer.follow(Clock { moment, wall: before + CLOCK_STEP });
        assert_eq!(tracer.wall(moment), before, "so much is in the readings themselves");
        for wall in [before + 2 * CLOCK_STEP, before - 2 * CLOCK_STEP] {
            tracer.follow(Clock { moment, wall });
            assert_eq!(tracer.wall(moment), wall);
        }
    }
}
