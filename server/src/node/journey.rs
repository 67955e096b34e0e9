//! The way of one request through the loop: what is remembered of it while it lasts, and what is told of it when it is
//! over, if it is traced or slow.

use std::time::Instant;

use engine::Consistency;
use engine::kv::{self, Command};
use raft::{Index, NodeId, Term};

use super::timeline::{Timeline, Written};
use crate::telemetry::{RequestKind, Stage, TraceContext, is_slow, record, record_slow, reserve};

/// The place of `raft.propose` among the stages of a write.
const PROPOSE: usize = 1;

/// What is remembered of a request.
#[derive(Debug)]
pub(super) struct Journey {
    /// None: one of an operator's, which is among the slow ones only if it is traced.
    kind: Option<RequestKind>,
    /// When it was handed to the loop.
    asked: Instant,
    /// When the loop took it up.
    taken: Instant,
    /// Where in the log it was put; zeros before.
    position: (Term, Index),
    traced: Option<Box<Traced>>,
}

/// The contexts of a request that is sampled.
#[derive(Debug)]
struct Traced {
    /// That of the request itself.
    request: TraceContext,
    /// That of the stage from when the loop took it up until its answer.
    propose: TraceContext,
}

impl Journey {
    /// Of a request that the loop takes up.
    pub(super) fn new(
        kind: Option<RequestKind>,
        (asked, taken): (Instant, Instant),
        trace: Option<TraceContext>,
    ) -> Self {
        let traced = trace.map(|request| Box::new(Traced { propose: reserve(&request), request }));
        // It may have come while the turn that takes it up went on.
        let taken = taken.max(asked);
        Self { kind, asked, taken, position: (Term::ZERO, Index::ZERO), traced }
    }

    /// The request was put into the log. Returns the context that others may have a part in, if it is sampled.
    pub(super) fn proposed(&mut self, term: Term, index: Index) -> Option<&TraceContext> {
        self.position = (term, index);
        self.context()
    }

    /// The context of the stage from when the loop took it up until its answer, if it is sampled.
    pub(super) fn context(&self) -> Option<&TraceContext> {
        self.traced.as_ref().map(|traced| &traced.propose)
    }

    /// The request is over at `now`, with or without an answer.
    pub(super) fn end(self, now: Instant, timeline: &Timeline, name: impl Fn(NodeId) -> String) {
        if let Some(traced) = &self.traced {
            let mut stages = self.stages(now, timeline);
            if let Some(propose) = stages.get_mut(PROPOSE) {
                *propose = propose.clone().reserved(traced.propose.clone());
            }
            record(&traced.request, stages);
        } else if let Some(kind) = self.kind
            && is_slow(now.saturating_duration_since(self.asked))
        {
            let mut stages = self.stages(now, timeline);
            stages.extend(self.replication(timeline, name));
            record_slow(kind, None, (self.asked, now), stages);
        }
    }

    /// The stages of the request on this node.
    fn stages(&self, now: Instant, timeline: &Timeline) -> Vec<Stage> {
        let (term, index) = self.position;
        let mut stages = vec![Stage::new("raft.queue", self.asked, self.taken)];
        if self.kind.is_some_and(RequestKind::is_get) {
            stages.push(Stage::new(read_name(self.kind), self.taken, now));
            return stages;
        }
        let propose = Stage::new("raft.propose", self.taken, now);
        if index == Index::ZERO {
            // It was refused, or asked for again.
            stages.push(propose);
            return stages;
        }
        stages.push(propose.with_number("raft.term", term.get()).with_number("raft.index", index.get()));
        if self.traced.is_none() {
            // Of a request that is sampled they are told when they are over, which may be after the answer.
            let written = timeline.written(index);
            stages.extend(
                written
                    .into_iter()
                    .flat_map(|written| write_stages(self.taken, written))
                    .map(|stage| stage.within(PROPOSE)),
            );
        }
        let committed = timeline.committed(index);
        let quorum = Stage::new("raft.quorum_wait", self.taken, committed.map_or(now, |committed| committed.at));
        stages.push(quorum.within(PROPOSE));
        stages
            .extend(committed.map(|committed| Stage::new("sm.apply", committed.at, committed.applied).within(PROPOSE)));
        stages
    }

    /// Until when each follower had it. Of a request that is sampled, the messages to them are traced themselves.
    fn replication(&self, timeline: &Timeline, name: impl Fn(NodeId) -> String) -> Vec<Stage> {
        let followers = timeline.matched(self.position.1).filter(|_| self.position.1 > Index::ZERO);
        let stage = |(follower, at)| {
            Stage::new(format!("raft.replicate {}", name(follower)), self.taken, at).call().within(PROPOSE)
        };
        followers.map(stage).collect()
    }
}

/// The stages of an entry in this node's log: when it was written, and when synced. `since` is when it could have been.
pub(super) fn write_stages(since: Instant, written: &Written) -> [Stage; 3] {
    let append = Stage::new("wal.append", written.begun, written.sync.begun)
        .with_number("wal.bytes", written.bytes)
        .with_number("raft.batch.size", written.entries);
    let sync = Stage::new("wal.fsync", written.sync.begun, written.sync.ended);
    let sync = match &written.batch {
        Some(batch) => sync.linked(batch),
        None => sync,
    };
    [Stage::new("wal.queue", since, written.begun), append, sync]
}

/// What the wait of a read is called.
fn read_name(kind: Option<RequestKind>) -> &'static str {
    match kind {
        Some(RequestKind::GetQuorum) => "read.quorum",
        Some(RequestKind::GetStale) => "read.stale",
        _ => "read.linearizable",
    }
}

/// What a write is among requests; none if it is an operator's.
pub(super) fn write_kind(request: &kv::Request) -> Option<RequestKind> {
    match &request.command {
        Command::Put { .. } => Some(RequestKind::Put),
        Command::Delete { .. } => Some(RequestKind::Delete),
        Command::Settle => Some(RequestKind::GetOutcome),
        Command::Configure { .. } => None,
    }
}

/// What a read is among requests.
pub(super) fn read_kind(consistency: Consistency) -> RequestKind {
    match consistency {
        Consistency::Linearizable => RequestKind::GetLinearizable,
        Consistency::Quorum => RequestKind::GetQuorum,
        Consistency::Stale { .. } => RequestKind::GetStale,
    }
}
