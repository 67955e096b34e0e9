//! The traces of sampled writes, beside the log: contexts for the entries that leave, spans for those that arrive.
//!
//! The core and the log know nothing of this; entries are matched by their index. What is lost here (a leader that
//! changed, an entry that was sent before its trace was known) is a span missing in a picture, never an entry.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::{AppendResult, Body, Index, Message, Term};

use crate::telemetry::{RequestSpan, SpanKind, TraceContext, child_span};

/// How many sampled entries are followed at once; more are not traced beyond the proposal.
const FOLLOWED_MAX: usize = 1024;

/// A sampled entry is forgotten after so long: a follower that is further behind gets it without its trace.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// Sampled entries under way through this node.
pub(super) struct Traces {
    node: String,
    /// On a leader: what to send along with an entry.
    leaving: BTreeMap<Index, Followed<TraceContext>>,
    /// On a follower: the spans of entries that are being made durable.
    arriving: BTreeMap<Index, Followed<RequestSpan>>,
    now: Duration,
}

struct Followed<T> {
    what: T,
    since: Duration,
}

impl Traces {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), leaving: BTreeMap::new(), arriving: BTreeMap::new(), now: Duration::ZERO }
    }

    /// A sampled write was proposed: begins its span, and remembers to send its context along with the entry.
    pub(super) fn proposed(&mut self, trace: &TraceContext, term: Term, index: Index) -> RequestSpan {
        let span = self.annotated(child_span(trace, "raft.propose", SpanKind::Internal), term, index);
        if self.leaving.len() < FOLLOWED_MAX
            && let Some(what) = span.context()
        {
            self.leaving.insert(index, Followed { what, since: self.now });
        }
        span
    }

    /// The contexts of the sampled entries in a message that leaves.
    pub(super) fn of_entries(&self, message: &Message) -> crate::transport::Traces {
        let Body::AppendEntries { entries, .. } = &message.body else { return Vec::new() };
        match (entries.first(), entries.last()) {
            (Some(first), Some(last)) if !self.leaving.is_empty() => {
                let sampled = self.leaving.range(first.index..=last.index);
                sampled.map(|(index, followed)| (*index, followed.what.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Sampled entries arrived from the leader: begins their spans, which end when they are durable.
    pub(super) fn received(&mut self, term: Term, traces: &[(Index, TraceContext)]) {
        for (index, trace) in traces {
            if self.arriving.len() < FOLLOWED_MAX && !self.arriving.contains_key(index) {
                let what = self.annotated(child_span(trace, "raft.append", SpanKind::Server), term, *index);
                self.arriving.insert(*index, Followed { what, since: self.now });
            }
        }
    }

    /// A message leaves: an acceptance ends the spans of the entries that it acknowledges.
    pub(super) fn sending(&mut self, message: &Message) {
        if let Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) = &message.body
            && !self.arriving.is_empty()
        {
            // A span ends when it is dropped.
            self.arriving.retain(|index, _| index > match_index);
        }
    }

    /// Forgets what nothing became of. `now` is the time since the node's start.
    pub(super) fn forget_old(&mut self, now: Duration) {
        self.now = now;
        self.leaving.retain(|_, followed| now - followed.since < FORGET_AFTER);
        self.arriving.retain(|_, followed| now - followed.since < FORGET_AFTER);
    }

    fn annotated(&self, span: RequestSpan, term: Term, index: Index) -> RequestSpan {
        span.with_number("raft.term", term.get())
            .with_number("raft.index", index.get())
            .with_text("raft.node.id", &self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Entry, NodeId, Payload};

    fn message(body: Body) -> Message {
        let node = |id| NodeId::new(id).expect("not zero");
        Message { from: node(1), to: node(2), term: Term::new(1), body }
    }

    fn trace() -> TraceContext {
        TraceContext::new("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned())
    }

    fn append(first: u64, last: u64) -> Message {
        let entry = |index| Entry { term: Term::new(1), index: Index::new(index), payload: Payload::Noop };
        let entries = (first..=last).map(entry).collect();
        let (prev_log_index, prev_log_term) = (Index::new(first - 1), Term::new(1));
        message(Body::AppendEntries { prev_log_index, prev_log_term, entries, leader_commit: Index::ZERO })
    }

    #[test]
    fn a_sampled_entry_takes_its_context_along() {
        let mut traces = Traces::new("n1");
        let _span = traces.proposed(&trace(), Term::new(1), Index::new(5));
        assert_eq!(traces.of_entries(&append(1, 4)), []);
        assert_eq!(traces.of_entries(&append(4, 6)), [(Index::new(5), trace())]);
        traces.forget_old(FORGET_AFTER * 2);
        assert_eq!(traces.of_entries(&append(4, 6)), []);
    }

    #[test]
    fn an_acknowledgement_ends_the_spans_that_it_covers() {
        let mut traces = Traces::new("n2");
        traces.received(Term::new(1), &[(Index::new(5), trace()), (Index::new(6), trace())]);
        let accepted =
            |index| message(Body::AppendEntriesResponse(AppendResult::Accepted { match_index: Index::new(index) }));
        traces.sending(&accepted(5));
        assert_eq!(traces.arriving.len(), 1);
        traces.sending(&accepted(u64::MAX));
        assert!(traces.arriving.is_empty());
    }

    #[test]
    fn what_is_followed_is_bounded() {
        let mut traces = Traces::new("n1");
        for index in 1..=2 * FOLLOWED_MAX as u64 {
            let _span = traces.proposed(&trace(), Term::new(1), Index::new(index));
            traces.received(Term::new(1), &[(Index::new(index), trace())]);
        }
        assert_eq!((traces.leaving.len(), traces.arriving.len()), (FOLLOWED_MAX, FOLLOWED_MAX));
    }
}
