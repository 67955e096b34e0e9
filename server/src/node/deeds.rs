//! Traces of what a node does by itself: elections and votes, handovers of leadership, snapshots that it takes over.
//!
//! They are built of what the core tells and of the messages that come and go; the core knows nothing of them.

use std::collections::BTreeMap;
use std::time::Instant;

use raft::{Body, Event, Index, Message, NodeId, Term};

use crate::telemetry::{
    RequestSpan, SpanKind, Stage, TraceContext, child_span, own_span, record, record_root, reserve,
};
use crate::transport;

/// What of a node's deeds is under way.
#[derive(Debug)]
pub(super) struct Deeds {
    node: String,
    election: Option<Election>,
    transfer: Option<RequestSpan>,
    /// The trace of whoever told this node to campaign.
    told: Option<TraceContext>,
    /// Whose question for a vote is not answered yet, with its trace.
    asked: BTreeMap<NodeId, Asked>,
    /// The last snapshot that was offered, and since when.
    offered: Option<(Index, Instant)>,
}

/// An election that this node stands for.
#[derive(Debug)]
struct Election {
    span: RequestSpan,
    context: TraceContext,
    /// Questions for votes that are not answered yet, by the voter and whether it is a pre-vote.
    questions: BTreeMap<(NodeId, bool), (TraceContext, Instant)>,
}

/// A question for a vote.
#[derive(Debug)]
struct Asked {
    trace: TraceContext,
    at: Instant,
}

impl Deeds {
    pub(super) fn new(node: &str) -> Self {
        let asked = BTreeMap::new();
        Self { node: node.to_owned(), election: None, transfer: None, told: None, asked, offered: None }
    }

    /// Something happened in the core.
    pub(super) fn tell(&mut self, event: &Event, name: impl Fn(NodeId) -> String) {
        match *event {
            Event::PreCampaign { term } => self.stand(term),
            // A campaign that was told to begin has no pre-vote before it.
            Event::Campaign { term } if self.election.is_none() => self.stand(term),
            Event::BecameLeader { .. } => {
                self.end_election("won");
                // The target did not take over, or not for long.
                self.end_transfer("aborted", true);
            }
            Event::BecameFollower { leader, .. } => {
                self.end_election("lost");
                if leader.is_some() {
                    self.end_transfer("done", false);
                }
            }
            Event::TransferStarted { target } => {
                self.transfer = Some(self.own("raft.transfer").with_text("raft.peer.id", &name(target)));
            }
            Event::TransferAborted { .. } => self.end_transfer("aborted", true),
            Event::Installed { index } => self.installed(index, Instant::now()),
            _ => {}
        }
    }

    /// The core has taken a message, which came with these traces.
    pub(super) fn received(&mut self, message: &Message, traces: &[(Index, TraceContext)], now: Instant) {
        let from = message.from;
        match &message.body {
            Body::RequestVote { .. } => {
                if let Some((_, trace)) = traces.first() {
                    self.asked.insert(from, Asked { trace: trace.clone(), at: now });
                }
            }
            // It is offered again and again until it is there.
            Body::InstallSnapshot { last_included_index: index, .. }
                if self.offered.is_none_or(|(offered, _)| offered != *index) =>
            {
                self.offered = Some((*index, now));
            }
            Body::TimeoutNow => self.told = traces.first().map(|(_, trace)| trace.clone()),
            Body::RequestVoteResponse { pre_vote, granted } => {
                let Some(election) = &mut self.election else { return };
                let Some((context, asked)) = election.questions.remove(&(from, *pre_vote)) else { return };
                let name = if *pre_vote { "raft.request_pre_vote" } else { "raft.request_vote" };
                let question = Stage::new(name, asked, now).call().reserved(context);
                record(&election.context, vec![question.with_text("raft.vote", vote(*granted))]);
            }
            _ => {}
        }
    }

    /// A message leaves: the trace that it belongs to, if any.
    pub(super) fn sending(&mut self, message: &Message, now: Instant) -> transport::Traces {
        match &message.body {
            Body::RequestVote { pre_vote, .. } => {
                let Some(election) = &mut self.election else { return Vec::new() };
                let question = (reserve(&election.context), now);
                let (context, _) = election.questions.entry((message.to, *pre_vote)).or_insert(question);
                vec![(Index::ZERO, context.clone())]
            }
            Body::TimeoutNow => {
                let context = self.transfer.as_ref().and_then(RequestSpan::context);
                context.map(|context| (Index::ZERO, context)).into_iter().collect()
            }
            Body::RequestVoteResponse { pre_vote, granted } => {
                if let Some(Asked { trace, at }) = self.asked.remove(&message.to) {
                    let name = if *pre_vote { "raft.pre_vote" } else { "raft.vote" };
                    let vote = Stage::new(name, at, now).serving().with_text("raft.vote", vote(*granted));
                    let vote = vote.with_number("raft.term", message.term.get());
                    record(&trace, vec![vote.with_text("raft.node.id", &self.node)]);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn stand(&mut self, term: Term) {
        let span = match self.told.take() {
            Some(told) => child_span(&told, "raft.election", SpanKind::Server).with_text("raft.node.id", &self.node),
            None => self.own("raft.election"),
        };
        let span = span.with_number("raft.term", term.get());
        if let Some(election) = self.election.take() {
            election.span.end_as("no majority", false);
        }
        self.election = span.context().map(|context| Election { span, context, questions: BTreeMap::new() });
    }

    fn end_election(&mut self, outcome: &'static str) {
        // Whoever was told to campaign has done so by now.
        self.told = None;
        if let Some(election) = self.election.take() {
            election.span.end_as(outcome, false);
        }
    }

    fn installed(&mut self, index: Index, now: Instant) {
        let offered = self.offered.take().filter(|(offered, _)| *offered == index);
        let install = Stage::new("snapshot.install", offered.map_or(now, |(_, since)| since), now);
        record_root(install.with_number("raft.index", index.get()).with_text("raft.node.id", &self.node));
    }

    fn end_transfer(&mut self, outcome: &'static str, is_error: bool) {
        if let Some(transfer) = self.transfer.take() {
            transfer.end_as(outcome, is_error);
        }
    }

    fn own(&self, name: &'static str) -> RequestSpan {
        own_span(name).with_text("raft.node.id", &self.node)
    }
}

fn vote(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_snapshot_is_taken_over_from_when_it_was_offered_first() {
        let mut deeds = Deeds::new("n1");
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let node = |id| NodeId::new(id).expect("not zero");
        let mut offer = |index, now| {
            let (last_included_index, last_included_term) = (Index::new(index), Term::new(1));
            let body = Body::InstallSnapshot { last_included_index, last_included_term };
            deeds.received(&Message { from: node(1), to: node(2), term: Term::new(1), body }, &[], now);
            deeds.offered
        };
        assert_eq!(offer(5, at(1)), Some((Index::new(5), at(1))));
        assert_eq!(offer(5, at(2)), Some((Index::new(5), at(1))));
        assert_eq!(offer(9, at(3)), Some((Index::new(9), at(3))));
        deeds.installed(Index::new(9), at(4));
        assert_eq!(deeds.offered, None);
    }
}
