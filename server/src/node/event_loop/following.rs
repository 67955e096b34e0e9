//! What the loop notes of its work for traces: moments of the log, and the traces of messages.

use std::time::Instant;

use engine::wal::Completion;
use engine::{EngineError, Event, Output};
use raft::{AppendResult, Body, Index, Message};

use super::EventLoop;
use crate::node::disk_threads::BatchTime;
use crate::node::journey::Journey;
use crate::node::timeline::{Committed, Written};
use crate::telemetry::TraceContext;
use crate::transport;

impl EventLoop {
    /// Work of the log is done; if it was a batch of entries, when.
    pub(super) fn take_work(&mut self, completion: Completion, batch: Option<BatchTime>) -> Result<(), EngineError> {
        let before = self.parts.engine.raft().durable_index();
        self.parts.engine.completed(completion)?;
        let durable = self.parts.engine.raft().durable_index();
        if let Some(BatchTime { begun, sync, bytes }) = batch
            && durable > before
        {
            let entries = durable.get() - before.get();
            let mut written = Written { begun, sync, bytes, entries, batch: None };
            written.batch = self.traces.written(before, durable, &written);
            self.timeline.note_written(durable, written);
        }
        Ok(())
    }

    /// A message of the core arrives.
    pub(super) fn take_message(&mut self, message: Message, traces: &[(Index, TraceContext)]) {
        let (term, now) = (message.term, self.turn_began);
        let is_append = matches!(message.body, Body::AppendEntries { .. });
        // All others are a few numbers.
        let other = (!is_append).then(|| message.clone());
        match (self.parts.engine.message(message), other) {
            (Ok(()), None) => self.traces.received(term, traces, now),
            (Ok(()), Some(message)) => self.note_message(&message, traces),
            (Err(refused), _) => self.count_dropped(refused.as_str()),
        }
    }

    /// The core has taken a message that has no entries.
    fn note_message(&mut self, message: &Message, traces: &[(Index, TraceContext)]) {
        let now = self.turn_began;
        self.deeds.received(message, traces, now);
        self.inquiries.received(message, traces, now);
        if let Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) = message.body
            && self.parts.engine.raft().is_leader()
        {
            self.timeline.note_matched(message.from, match_index, now);
            self.traces.accepted(message.from, match_index, now, |node| self.parts.roster.name(node));
        }
    }

    /// What happened in the core has traces of its own, and ends others.
    pub(super) fn note_events(&mut self, events: &[Event]) {
        for event in events {
            let Event::Raft(event) = event else { continue };
            self.deeds.tell(event, |node| self.parts.roster.name(node));
            match event {
                raft::Event::BecameLeader { .. } => {
                    self.timeline.forget_followers();
                    self.inquiries.forget();
                }
                raft::Event::BecameFollower { .. } => {
                    self.traces.forget_proposals();
                    self.inquiries.forget();
                }
                _ => {}
            }
        }
    }

    /// What the engine wants done, and when it applied what.
    pub(super) fn output(&mut self) -> Result<Output, EngineError> {
        let committed = self.parts.engine.raft().commit_index();
        let before = self.parts.engine.raft().applied_index();
        let at = Instant::now();
        let output = self.parts.measure.output(&mut self.parts.engine)?;
        let after = self.parts.engine.raft().commit_index();
        if after > before || committed > before {
            let applied = Instant::now();
            self.timeline.note_committed(after, Committed { at, applied });
        }
        Ok(output)
    }

    /// The traces that a message takes along. It is about to leave.
    pub(super) fn traces_of(&mut self, message: &Message) -> transport::Traces {
        match &message.body {
            Body::AppendEntries { .. } => self.traces.of_entries(message, Instant::now()),
            Body::AppendEntriesResponse(_) => {
                self.traces.sending(message, &self.timeline, Instant::now());
                Vec::new()
            }
            Body::ReadIndex { .. } | Body::ReadIndexResponse { .. } => self.inquiries.sending(message, Instant::now()),
            _ => {
                self.parts.measure.sending(message);
                self.deeds.sending(message, Instant::now())
            }
        }
    }

    /// A request is over.
    pub(super) fn end_journey(&self, journey: Journey) {
        journey.end(Instant::now(), &self.timeline, |node| self.parts.roster.name(node));
    }
}
