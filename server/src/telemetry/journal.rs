//! What a node remembers of traces: those of lately, and the slowest requests of lately with where their time went.
//!
//! It is read through `admin.v1`, so that a request's way can be looked at without a collector, and a slow request also
//! if nobody had sampled it. Everything in it is bounded, and what is beyond a bound is forgotten, the oldest or the
//! fastest first.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::SpanData;

/// How many traces are remembered. Whoever asks for the trace of their own request does so at once.
const RECENT_TRACES_MAX: usize = 256;

/// How many of the slowest requests are remembered.
pub(super) const SLOW_MAX: usize = 32;

/// How long a slow request counts as one of lately.
const SLOW_FOR: Duration = Duration::from_secs(600);

/// How many spans of one trace are kept. A put has a dozen on its leader; a caller may put anything into one trace.
const SPANS_PER_TRACE_MAX: usize = 128;

/// The spans that a node has of one trace.
#[derive(Clone, PartialEq, Debug)]
pub struct KeptTrace {
    /// The trace's id.
    pub trace_id: TraceId,
    /// Spans of it, in the order in which they ended.
    pub spans: Vec<SpanData>,
}

/// A slow request.
#[derive(Clone, PartialEq, Debug)]
pub struct SlowTrace {
    /// How long the node had to do with it.
    pub took: Duration,
    /// Its spans.
    pub trace: KeptTrace,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Journal {
    kept: Mutex<Kept>,
    /// A request that took less is not among the slowest, in microseconds.
    slow_floor_us: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    recent: VecDeque<KeptTrace>,
    /// The place of each trace in `recent`, counted from the first that ever was.
    places: HashMap<TraceId, u64>,
    /// How many were removed from the front of `recent`.
    removed: u64,
    /// Sorted, the slowest first. Whoever looks shares them, and copies nothing while others wait.
    slow: Vec<(Instant, Arc<SlowTrace>)>,
}

impl KeptTrace {
    /// Whether a span is part of one of these.
    fn owns(&self, span: &SpanData) -> bool {
        self.spans.iter().any(|other| other.span_context.span_id() == span.parent_span_id)
    }

    /// The span `root` and all that is part of it.
    fn part(&self, root: SpanId) -> Option<Self> {
        let mut rest: Vec<&SpanData> = self.spans.iter().collect();
        let place = rest.iter().position(|span| span.span_context.span_id() == root)?;
        let mut part = Self { trace_id: self.trace_id, spans: vec![rest.remove(place).clone()] };
        // A span may have ended before what it is part of or after: each pass finds those a level deeper, at least.
        loop {
            let (more, others): (Vec<&SpanData>, _) = rest.into_iter().partition(|span| part.owns(span));
            if more.is_empty() {
                return Some(part);
            }
            part.spans.extend(more.into_iter().cloned());
            rest = others;
        }
    }

    fn add(&mut self, span: SpanData) {
        if self.spans.len() < SPANS_PER_TRACE_MAX {
            self.spans.push(span);
        }
    }
}

impl Journal {
    /// Keeps a span that has ended.
    pub(super) fn keep(&self, span: SpanData) {
        let mut kept = self.lock();
        let trace_id = span.span_context.trace_id();
        // What ends after its request: the append of a follower that the answer did not wait for.
        let of_request =
            |slow: &&mut (Instant, Arc<SlowTrace>)| slow.1.trace.trace_id == trace_id && slow.1.trace.owns(&span);
        if let Some((_, slow)) = kept.slow.iter_mut().find(of_request) {
            Arc::make_mut(slow).trace.add(span.clone());
        }
        kept.trace_mut(trace_id).add(span);
    }

    /// A request of a sampled trace is done, whose span is `request`: if it is among the slowest, what there is of it
    /// is kept for longer. A trace may have several.
    pub(super) fn finished(&self, trace_id: TraceId, request: SpanId, took: Duration) {
        if !self.is_slow(took) {
            return;
        }
        let mut kept = self.lock();
        if let Some(trace) = kept.trace(trace_id).and_then(|trace| trace.part(request)) {
            self.insert_slow(&mut kept, SlowTrace { took, trace });
        }
    }

    /// Whether a request that took so long is among the slowest.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        took.as_micros() >= u128::from(self.slow_floor_us.load(Ordering::Relaxed))
    }

    /// Keeps a request, with all its spans, if it is among the slowest.
    pub(super) fn add_slow(&self, spans: Vec<SpanData>, took: Duration) {
        let Some(root) = spans.first() else { return };
        let trace = KeptTrace { trace_id: root.span_context.trace_id(), spans };
        self.insert_slow(&mut self.lock(), SlowTrace { took, trace });
    }

    fn insert_slow(&self, kept: &mut Kept, slow: SlowTrace) {
        let place = kept.slow.partition_point(|(_, other)| other.took >= slow.took);
        kept.slow.insert(place, (Instant::now(), Arc::new(slow)));
        kept.slow.truncate(SLOW_MAX);
        self.settle_floor(kept);
    }

    /// Forgets slow requests that are not of lately any more.
    pub(super) fn forget_old(&self, now: Instant) {
        let mut kept = self.lock();
        kept.slow.retain(|(since, _)| now.saturating_duration_since(*since) < SLOW_FOR);
        self.settle_floor(&kept);
    }

    fn settle_floor(&self, kept: &Kept) {
        let floor = match kept.slow.last() {
            // One that takes as long as the fastest of them changes nothing.
            Some((_, fastest)) if kept.slow.len() == SLOW_MAX => fastest.took.as_micros().saturating_add(1),
            _ => 0,
        };
        self.slow_floor_us.store(u64::try_from(floor).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What there is of a trace.
    pub(super) fn trace(&self, trace_id: TraceId) -> Option<KeptTrace> {
        let kept = self.lock();
        let slow = kept.slow.iter().map(|(_, slow)| &slow.trace).find(|trace| trace.trace_id == trace_id);
        kept.trace(trace_id).or(slow).cloned()
    }

    /// The slowest requests of lately, the slowest first.
    pub(super) fn slowest(&self, max: usize) -> Vec<Arc<SlowTrace>> {
        self.lock().slow.iter().take(max).map(|(_, slow)| Arc::clone(slow)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder of the lock panics")
    }
}

impl Kept {
    fn trace(&self, trace_id: TraceId) -> Option<&KeptTrace> {
        let place = *self.places.get(&trace_id)?;
        self.recent.get(usize::try_from(place - self.removed).ok()?)
    }

    /// A trace, which begins to be kept if it is not.
    fn trace_mut(&mut self, trace_id: TraceId) -> &mut KeptTrace {
        let next = self.removed + self.recent.len() as u64;
        let place = *self.places.entry(trace_id).or_insert(next);
        if place == next {
            self.recent.push_back(KeptTrace { trace_id, spans: Vec::new() });
            if self.recent.len() > RECENT_TRACES_MAX
                && let Some(oldest) = self.recent.pop_front()
            {
                self.removed += 1;
                self.places.remove(&oldest.trace_id);
            }
        }
        let place = usize::try_from(place - self.removed).expect("what is kept fits into memory");
        &mut self.recent[place]
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanKind;

    use super::super::context::TraceContext;
    use super::super::environment::Sampler;
    use super::super::tracer::{Tracer, new_span_id};
    use super::*;

    fn span(tracer: &Tracer, trace: u128) -> SpanData {
        let own = TraceContext::root(TraceId::from(trace), new_span_id());
        tracer.begin(None, own, "a".into(), SpanKind::Internal)
    }

    fn tracer() -> Tracer {
        Tracer::new("test", Sampler::PARENT_BASED_ALWAYS_ON, None)
    }

    #[test]
    fn the_latest_traces_are_kept_with_all_their_spans() {
        let (tracer, journal) = (tracer(), Journal::default());
        let last = 3 * RECENT_TRACES_MAX as u128;
        for trace in 1..=last {
            journal.keep(span(&tracer, trace));
            journal.keep(span(&tracer, trace));
        }
        assert_eq!(journal.trace(TraceId::from(1)), None);
        for trace in [last - RECENT_TRACES_MAX as u128 + 1, last - 1, last] {
            let kept = journal.trace(TraceId::from(trace)).expect("it is of lately");
            assert_eq!((kept.trace_id, kept.spans.len()), (TraceId::from(trace), 2));
        }
        let kept = journal.lock();
        assert_eq!((kept.recent.len(), kept.places.len()), (RECENT_TRACES_MAX, RECENT_TRACES_MAX));
    }

    #[test]
    fn a_trace_with_too_many_spans_keeps_the_first() {
        let (tracer, journal) = (tracer(), Journal::default());
        for _ in 0..2 * SPANS_PER_TRACE_MAX {
            journal.keep(span(&tracer, 7));
        }
        assert_eq!(journal.trace(TraceId::from(7)).expect("it is kept").spans.len(), SPANS_PER_TRACE_MAX);
    }

    #[test]
    fn the_slowest_are_kept_and_the_others_are_known_at_once() {
        let (tracer, journal) = (tracer(), Journal::default());
        let mut order: Vec<u64> = (1..=200).collect();
        // Neither rising nor falling.
        order.sort_by_key(|millis| millis * 7919 % 200);
        for millis in order {
            let took = Duration::from_millis(millis);
            if journal.is_slow(took) {
                journal.add_slow(vec![span(&tracer, u128::from(millis))], took);
            } else {
                assert!(millis <= 200 - SLOW_MAX as u64, "{millis}");
            }
        }
        let slowest: Vec<u128> = journal.slowest(usize::MAX).iter().map(|slow| slow.took.as_millis()).collect();
        let expected: Vec<u128> = (1..=200).rev().take(SLOW_MAX).collect();
        assert_eq!(slowest, expected);
        assert_eq!(journal.slowest(3).len(), 3);
        assert!(!journal.is_slow(Duration::from_millis(200 - SLOW_MAX as u64)));
    }

    #[test]
    fn a_slow_request_is_forgotten_after_a_while() {
        let (tracer, journal) = (tracer(), Journal::default());
        for number in 0..SLOW_MAX as u128 {
            journal.add_slow(vec![span(&tracer, number + 1)], Duration::from_secs(1));
        }
        assert!(!journal.is_slow(Duration::from_millis(1)));
        journal.forget_old(Instant::now());
        assert_eq!(journal.slowest(usize::MAX).len(), SLOW_MAX);
        journal.forget_old(Instant::now() + SLOW_FOR);
        assert_eq!(journal.slowest(usize::MAX), []);
        assert!(journal.is_slow(Duration::from_millis(1)));
    }

    #[test]
    fn what_is_part_of_a_slow_request_is_kept_with_it_also_if_it_ends_later() {
        let (tracer, journal) = (tracer(), Journal::default());
        let trace_id = TraceId::from(7);
        let within = |parent: &SpanData| {
            let mut span = span(&tracer, 7);
            span.parent_span_id = parent.span_context.span_id();
            span
        };
        let (first, second) = (span(&tracer, 7), span(&tracer, 7));
        let stage = within(&first);
        let (part, late) = (within(&stage), within(&stage));
        // A stage is told with what is within it, and before it.
        for span in [stage, part, first.clone(), within(&second), second.clone()] {
            journal.keep(span);
        }
        journal.finished(trace_id, first.span_context.span_id(), Duration::from_secs(1));
        journal.finished(trace_id, second.span_context.span_id(), Duration::from_secs(2));
        journal.keep(late);
        for other in 0..RECENT_TRACES_MAX as u128 {
            journal.keep(span(&tracer, 100 + other));
        }
        let slowest = journal.slowest(usize::MAX);
        let found: Vec<_> = slowest.iter().map(|slow| (slow.took.as_secs(), slow.trace.spans.len())).collect();
        assert_eq!(found, [(2, 2), (1, 4)], "each request has its own part of the trace");
        assert!(slowest.iter().all(|slow| slow.trace.spans[0].parent_span_id == SpanId::INVALID));
        assert!(journal.trace(trace_id).is_some(), "it outlives those of lately");
    }
}
