//! What happened to a node lately: elections, votes, handovers, snapshots. It is for people who look at the node, and
//! decides nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use raft::{Body, Event, Index, Message, NodeId, Raft, Term};

use crate::telemetry;

/// How many events are kept: those of a few dozen elections.
const EVENTS_MAX: usize = 200;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeEventKind {
    /// The node asks whether it would be elected.
    PreCampaign,
    /// It stands for election.
    Campaign,
    /// It told a peer that it would vote for it.
    PreVoteGranted,
    /// It told a peer that it would not.
    PreVoteRefused,
    /// It gave a peer its vote.
    VoteGranted,
    /// It refused it.
    VoteRefused,
    /// It was elected.
    BecameLeader,
    /// It follows.
    BecameFollower,
    /// It was told that its leader's process has ended.
    LeaderGone,
    /// It led without hearing of a majority, and stepped down.
    QuorumLost,
    /// It led while its disk stood still, and stepped down.
    DiskStalled,
    /// It began to hand leadership over to a peer.
    TransferStarted,
    /// The peer did not take over in time.
    TransferAborted,
    /// It dropped entries that conflict with its leader's.
    Truncated,
    /// It took over a peer's snapshot.
    Installed,
    /// It took a snapshot.
    SnapshotTaken,
    /// It has everything again that its disk had lost.
    Recovered,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeEvent {
    /// Its number, counted from 1 since the process started.
    pub number: u64,
    /// When it happened first, in milliseconds since 1970.
    pub time_unix_ms: u64,
    /// What it was.
    pub kind: NodeEventKind,
    /// The term that it was about, or the node's own.
    pub term: u64,
    /// The index that it was about; zero if it was about none.
    pub index: u64,
    /// The incarnation of the peer that it was about.
    pub peer: Option<u64>,
    /// How often it happened, one time after the other with nothing else in between.
    pub count: u64,
}

/// Keeps what happened. A clone shows the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Chronicle(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<NodeEvent>,
    /// The number of the last one.
    last: u64,
}

/// What an event is about.
#[derive(Clone, Copy)]
struct About {
    term: Term,
    index: Index,
    peer: Option<NodeId>,
}

impl About {
    fn term(term: Term) -> Self {
        Self { term, index: Index::ZERO, peer: None }
    }

    fn peer(self, peer: NodeId) -> Self {
        Self { peer: Some(peer), ..self }
    }

    fn index(self, index: Index) -> Self {
        Self { index, ..self }
    }
}

impl Chronicle {
    /// What is kept, the oldest first.
    pub(super) fn events(&self) -> Vec<NodeEvent> {
        self.lock().events.iter().cloned().collect()
    }

    /// Something happened in the core, which is in this state now.
    pub(super) fn tell(&self, event: &Event, raft: &Raft) {
        let own = About::term(raft.current_term());
        match *event {
            Event::PreCampaign { term } => self.note(NodeEventKind::PreCampaign, About::term(term)),
            Event::Campaign { term } => self.note(NodeEventKind::Campaign, About::term(term)),
            Event::BecameLeader { term } => {
                self.note(NodeEventKind::BecameLeader, About::term(term).index(raft.last_index()));
            }
            Event::BecameFollower { term, leader } => {
                self.note(NodeEventKind::BecameFollower, About { peer: leader, ..About::term(term) });
            }
            Event::Truncated { after, .. } => self.note(NodeEventKind::Truncated, own.index(after)),
            Event::Installed { index } => self.note(NodeEventKind::Installed, own.index(index)),
            Event::Recovered { term } => self.note(NodeEventKind::Recovered, About::term(term)),
            Event::TransferStarted { target } => self.note(NodeEventKind::TransferStarted, own.peer(target)),
            Event::TransferAborted { target } => self.note(NodeEventKind::TransferAborted, own.peer(target)),
            Event::QuorumLost { term } => self.note(NodeEventKind::QuorumLost, About::term(term)),
            Event::DiskStalled { term } => self.note(NodeEventKind::DiskStalled, About::term(term)),
            // A vote is told by its answer, and who gets it hears of it there.
            _ => {}
        }
    }

    /// A message leaves: whoever asked for a vote is answered.
    pub(super) fn sending(&self, message: &Message) {
        let Body::RequestVoteResponse { pre_vote, granted } = message.body else { return };
        let kind = match (pre_vote, granted) {
            (true, true) => NodeEventKind::PreVoteGranted,
            (true, false) => NodeEventKind::PreVoteRefused,
            (false, true) => NodeEventKind::VoteGranted,
            (false, false) => NodeEventKind::VoteRefused,
        };
        self.note(kind, About::term(message.term).peer(message.to));
    }

    /// The process of the leader has ended.
    pub(super) fn leader_gone(&self, leader: NodeId, raft: &Raft) {
        self.note(NodeEventKind::LeaderGone, About::term(raft.current_term()).peer(leader));
    }

    /// A snapshot was taken.
    pub(super) fn snapshot_taken(&self, index: Index, raft: &Raft) {
        self.note(NodeEventKind::SnapshotTaken, About::term(raft.current_term()).index(index));
    }

    fn note(&self, kind: NodeEventKind, About { term, index, peer }: About) {
        let (term, index, peer) = (term.get(), index.get(), peer.map(NodeId::get));
        let mut kept = self.lock();
        // A node that is cut off asks for pre-votes again and again: that must not drive out what came before.
        if let Some(last) = kept.events.back_mut()
            && (last.kind, last.term, last.index, last.peer) == (kind, term, index, peer)
        {
            last.count += 1;
            return;
        }
        kept.last += 1;
        let event =
            NodeEvent { number: kept.last, time_unix_ms: telemetry::unix_millis(), kind, term, index, peer, count: 1 };
        if kept.events.len() == EVENTS_MAX {
            kept.events.pop_front();
        }
        kept.events.push_back(event);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn answer(term: u64, granted: bool) -> Message {
        let body = Body::RequestVoteResponse { pre_vote: true, granted };
        Message { from: node(1), to: node(2), term: Term::new(term), body }
    }

    #[test]
    fn the_same_again_is_counted_and_takes_no_room() {
        let chronicle = Chronicle::default();
        chronicle.sending(&answer(4, true));
        for _ in 0..3 * EVENTS_MAX {
            chronicle.sending(&answer(4, false));
        }
        let events = chronicle.events();
        let found: Vec<_> = events.iter().map(|event| (event.number, event.kind, event.peer, event.count)).collect();
        let refused = (2, NodeEventKind::PreVoteRefused, Some(2), 3 * EVENTS_MAX as u64);
        assert_eq!(found, [(1, NodeEventKind::PreVoteGranted, Some(2), 1), refused]);
        assert!(events.iter().all(|event| event.term == 4 && event.time_unix_ms > 0));
    }

    #[test]
    fn the_oldest_events_are_forgotten() {
        let chronicle = Chronicle::default();
        let last = 3 * EVENTS_MAX as u64;
        for term in 1..=last {
            chronicle.sending(&answer(term, true));
        }
        let events = chronicle.events();
        let ends = (events[0].number, events[EVENTS_MAX - 1].number);
        assert_eq!((events.len(), ends), (EVENTS_MAX, (last - EVENTS_MAX as u64 + 1, last)));
    }
}
