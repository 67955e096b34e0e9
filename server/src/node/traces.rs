//! The traces of sampled writes, beside the log: contexts for the entries that leave, stages for those that arrive.
//!
//! The core and the log know nothing of this; entries are matched by their index. What is lost here (a leader that
//! changed, an entry that was sent before its trace was known) is a span missing in a picture, never an entry.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raft::{AppendResult, Body, Index, Message, NodeId, Term};

use super::journey::write_stages;
use super::timeline::{Timeline, Written};
use crate::telemetry::{Stage, TraceContext, record, record_root, reserve};
use crate::transport;

/// How many sampled entries are followed at once; more are not traced beyond the proposal.
const FOLLOWED_MAX: usize = 1024;

/// A sampled entry is forgotten after so long: a follower that is further behind gets it without its trace.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// To how many of its entries the trace of a batch is linked.
const LINKS_MAX: usize = 64;

/// Sampled entries under way through this node.
#[derive(Debug)]
pub(super) struct Traces {
    node: String,
    /// On a leader: what was proposed.
    leaving: BTreeMap<Index, Leaving>,
    /// On a follower: what is being made durable.
    arriving: BTreeMap<Index, Arriving>,
}

#[derive(Debug)]
struct Leaving {
    propose: TraceContext,
    since: Instant,
    sent: Vec<Sent>,
    /// Whether it is durable here.
    is_written: bool,
}

/// An entry on its way to a follower.
#[derive(Debug)]
struct Sent {
    to: NodeId,
    context: TraceContext,
    at: Instant,
    is_accepted: bool,
}

#[derive(Debug)]
struct Arriving {
    replicate: TraceContext,
    append: TraceContext,
    term: Term,
    since: Instant,
}

impl Traces {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), leaving: BTreeMap::new(), arriving: BTreeMap::new() }
    }

    /// A sampled write was proposed: remembers to send its context along with the entry.
    pub(super) fn proposed(&mut self, index: Index, propose: &TraceContext, now: Instant) {
        if self.leaving.len() < FOLLOWED_MAX {
            self.leaving.insert(index, Leaving::new(propose.clone(), now));
        }
    }

    /// The contexts of the sampled entries in a message that leaves.
    pub(super) fn of_entries(&mut self, message: &Message, now: Instant) -> transport::Traces {
        let Body::AppendEntries { entries, .. } = &message.body else { return Vec::new() };
        match (entries.first(), entries.last()) {
            (Some(first), Some(last)) if !self.leaving.is_empty() => {
                let sampled = self.leaving.range_mut(first.index..=last.index);
                sampled.map(|(index, leaving)| (*index, leaving.send(message.to, now))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A follower has made everything up to `match_index` durable.
    pub(super) fn accepted(&mut self, from: NodeId, match_index: Index, now: Instant, name: impl Fn(NodeId) -> String) {
        for leaving in self.leaving.range_mut(..=match_index).map(|(_, leaving)| leaving) {
            let propose = &leaving.propose;
            if let Some(sent) = leaving.sent.iter_mut().find(|sent| sent.to == from && !sent.is_accepted) {
                sent.is_accepted = true;
                record(propose, vec![sent.stage(now, name(from))]);
            }
        }
        self.let_go();
    }

    /// Lets go of the entries that are on the disks of all to whom they were sent.
    fn let_go(&mut self) {
        while let Some(entry) = self.leaving.first_entry()
            && entry.get().is_everywhere()
        {
            entry.remove();
        }
    }

    /// This node does not lead any more: another leader gives the same indexes to other entries.
    pub(super) fn forget_proposals(&mut self) {
        self.leaving.clear();
    }

    /// Sampled entries arrived from the leader.
    pub(super) fn received(&mut self, term: Term, traces: &[(Index, TraceContext)], now: Instant) {
        for (index, replicate) in traces {
            let is_known = self.arriving.get(index).is_some_and(|arriving| arriving.term == term);
            if self.arriving.len() < FOLLOWED_MAX && !is_known {
                let (replicate, append) = (replicate.clone(), reserve(replicate));
                self.arriving.insert(*index, Arriving { replicate, append, term, since: now });
            }
        }
    }

    /// A message leaves: an acceptance ends the appends of the entries that it acknowledges.
    pub(super) fn sending(&mut self, message: &Message, timeline: &Timeline, now: Instant) {
        let Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) = message.body else { return };
        while let Some(entry) = self.arriving.first_entry()
            && *entry.key() <= match_index
        {
            let (index, arriving) = entry.remove_entry();
            let append = Stage::new("raft.append", arriving.since, now)
                .serving()
                .reserved(arriving.append)
                .with_number("raft.term", arriving.term.get())
                .with_number("raft.index", index.get())
                .with_text("raft.node.id", &self.node);
            let mut stages = vec![append];
            let written = timeline.written(index).into_iter();
            stages
                .extend(written.flat_map(|written| write_stages(arriving.since, written)).map(|stage| stage.within(0)));
            record(&arriving.replicate, stages);
        }
    }

    /// Everything behind `after` up to `last` became durable together: tells of the batch, if a sampled entry is in it,
    /// and of each sampled proposal in it when it was written and synced. That may be after its answer.
    pub(super) fn written(&mut self, after: Index, last: Index, written: &Written) -> Option<TraceContext> {
        if last <= after || self.leaving.is_empty() && self.arriving.is_empty() {
            return None;
        }
        let batch = after.next()..=last;
        for (_, leaving) in self.leaving.range_mut(batch.clone()) {
            leaving.is_written = true;
        }
        let leaving = self.leaving.range(batch.clone()).map(|(_, leaving)| &leaving.propose);
        let arriving = self.arriving.range(batch).map(|(_, arriving)| &arriving.append);
        let sampled: Vec<&TraceContext> = leaving.chain(arriving).take(LINKS_MAX).collect();
        if sampled.is_empty() {
            return None;
        }
        let commit = Stage::new("wal.commit", written.begun, written.sync.ended)
            .with_number("wal.bytes", written.bytes)
            .with_number("raft.batch.size", written.entries)
            .with_text("raft.node.id", &self.node);
        let context = record_root(sampled.into_iter().fold(commit, Stage::linked));
        let written = Written { batch: context.clone(), ..written.clone() };
        for (_, leaving) in self.leaving.range(after.next()..=last) {
            record(&leaving.propose, write_stages(leaving.since, &written).into());
        }
        self.let_go();
        context
    }

    /// Forgets what nothing became of.
    pub(super) fn forget_old(&mut self, now: Instant) {
        let is_young = |since: Instant| now.saturating_duration_since(since) < FORGET_AFTER;
        self.leaving.retain(|_, leaving| is_young(leaving.since));
        self.arriving.retain(|_, arriving| is_young(arriving.since));
    }
}

impl Leaving {
    fn new(propose: TraceContext, since: Instant) -> Self {
        Self { propose, since, sent: Vec::new(), is_written: false }
    }

    /// Whether it is on the disk of this node and of all to whom it was sent.
    fn is_everywhere(&self) -> bool {
        self.is_written && !self.sent.is_empty() && self.sent.iter().all(|sent| sent.is_accepted)
    }

    /// The context of the entry on its way to a follower; the same if it is sent again.
    fn send(&mut self, to: NodeId, now: Instant) -> TraceContext {
        if let Some(sent) = self.sent.iter().find(|sent| sent.to == to) {
            return sent.context.clone();
        }
        let context = reserve(&self.propose);
        self.sent.push(Sent { to, context: context.clone(), at: now, is_accepted: false });
        context
    }
}

impl Sent {
    fn stage(&self, now: Instant, name: String) -> Stage {
        let stage = Stage::new(format!("raft.replicate {name}"), self.at, now).call();
        stage.reserved(self.context.clone()).with_text("raft.peer.id", &name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Entry, Payload};

    fn node(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn message(body: Body) -> Message {
        Message { from: node(1), to: node(2), term: Term::new(1), body }
    }

    fn trace() -> TraceContext {
        TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect("well-formed")
    }

    fn append(first: u64, last: u64) -> Message {
        let entry = |index| Entry { term: Term::new(1), index: Index::new(index), payload: Payload::Noop };
        let entries = (first..=last).map(entry).collect();
        let (prev_log_index, prev_log_term) = (Index::new(first - 1), Term::new(1));
        message(Body::AppendEntries { prev_log_index, prev_log_term, entries, leader_commit: Index::ZERO })
    }

    #[test]
    fn a_sampled_entry_takes_its_context_along_to_each_follower_until_it_is_forgotten() {
        let (mut traces, now) = (Traces::new("n1"), Instant::now());
        traces.proposed(Index::new(5), &trace(), now);
        assert_eq!(traces.of_entries(&append(1, 4), now), []);
        for _ in 0..2 {
            // No process traces here, so the context is that of the proposal.
            assert_eq!(traces.of_entries(&append(4, 6), now), [(Index::new(5), trace())]);
        }
        assert_eq!(traces.leaving[&Index::new(5)].sent.len(), 1, "sent again, it is on the same way");
        traces.accepted(node(2), Index::new(4), now, |_| unreachable!("it has not got there"));
        traces.accepted(node(2), Index::new(5), now, |_| "n2".to_owned());
        assert!(traces.leaving[&Index::new(5)].sent[0].is_accepted);
        traces.forget_old(now + FORGET_AFTER);
        assert_eq!(traces.of_entries(&append(4, 6), now), []);
    }

    #[test]
    fn an_acknowledgement_ends_the_appends_that_it_covers() {
        let (mut traces, now) = (Traces::new("n2"), Instant::now());
        traces.received(Term::new(1), &[(Index::new(5), trace()), (Index::new(6), trace())], now);
        let accepted =
            |index| message(Body::AppendEntriesResponse(AppendResult::Accepted { match_index: Index::new(index) }));
        traces.sending(&accepted(5), &Timeline::default(), now);
        assert_eq!(traces.arriving.len(), 1);
        traces.sending(&accepted(u64::MAX), &Timeline::default(), now);
        assert!(traces.arriving.is_empty());
    }

    #[test]
    fn what_is_followed_is_bounded() {
        let (mut traces, now) = (Traces::new("n1"), Instant::now());
        for index in 1..=2 * FOLLOWED_MAX as u64 {
            traces.proposed(Index::new(index), &trace(), now);
            traces.received(Term::new(1), &[(Index::new(index), trace())], now);
        }
        assert_eq!((traces.leaving.len(), traces.arriving.len()), (FOLLOWED_MAX, FOLLOWED_MAX));
    }
}
