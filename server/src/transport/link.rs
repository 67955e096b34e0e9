//! The lanes to each peer, and the choice of the lane for a message.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::leaderless::ReplicaMessage;
use engine::side::SideMessage;
use proto::raft::v1::{
    AppendEntriesRequest, AppendEntriesResponse, ControlRequest, ControlResponse, ReadReplicaRequest,
    ReadReplicaResponse, SideRequest, SideResponse,
};
use raft::{Message, NodeId};
use tokio::sync::mpsc;
use tonic::Status;

use super::convert::{Frame, Traces, to_frame};
use super::replica::{ReplicaFrame, to_replica_frame};
use super::side::{SideFrame, to_side_frame};

/// How many messages may wait in a lane for their stream: more than the core keeps in flight to one follower, so that
/// it fills only when the peer has stopped reading.
const LANE_MESSAGES_MAX: usize = 256;

/// How many side messages may wait in a lane: a peer that asks for pieces of a snapshot and does not read them gets no
/// more than this many, of half a mebibyte each.
const SIDE_LANE_MESSAGES_MAX: usize = 16;

/// How many messages of reads may wait in a lane: half a mebibyte of keys each, or two of values, if they are as large
/// as they can be. A peer that does not read its answers asks again.
const REPLICA_LANE_MESSAGES_MAX: usize = 64;

/// One direction of one stream between two nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// AppendEntries, on the stream that we opened.
    AppendRequests,
    /// Answers to AppendEntries, on the stream that the peer opened.
    AppendResponses,
    /// Votes, heartbeats, handovers and questions of followers, on the stream that we opened.
    ControlRequests,
    /// Answers to those, on the stream that the peer opened.
    ControlResponses,
    /// Questions of reads that need no leader, on the stream that we opened.
    ReplicaRequests,
    /// Answers to those, on the stream that the peer opened.
    ReplicaResponses,
    /// Questions for pieces of snapshots, and hashes of states, on the stream that we opened.
    SideRequests,
    /// Pieces of snapshots, on the stream that the peer opened.
    SideResponses,
}

/// A message could not be handed to its stream: it is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undelivered {
    /// Whom it was for.
    pub to: NodeId,
    /// Where it should have gone.
    pub lane: Lane,
}

/// A lane's sender, present while its stream is open.
#[derive(Debug)]
pub(super) struct Slot<T> {
    sender: Mutex<Option<mpsc::Sender<T>>>,
    messages_max: usize,
}

impl<T> Slot<T> {
    /// A closed lane in which up to `messages_max` messages will wait for their stream.
    fn new(messages_max: usize) -> Self {
        Self { sender: Mutex::new(None), messages_max }
    }

    /// Opens the lane anew, closing the stream that it had before.
    pub(super) fn open(&self) -> mpsc::Receiver<T> {
        self.open_both().1
    }

    /// The same, for a stream whose other direction is read here: with the sender, its reader can tell whether the lane
    /// is still its own.
    pub(super) fn open_both(&self) -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(self.messages_max);
        *self.lock() = Some(sender.clone());
        (sender, receiver)
    }

    /// Whether the lane is still the stream of this sender.
    pub(super) fn is_of(&self, sender: &mpsc::Sender<T>) -> bool {
        self.lock().as_ref().is_some_and(|current| current.same_channel(sender))
    }

    /// Closes the lane if it is still the stream of this sender.
    pub(super) fn close_of(&self, sender: &mpsc::Sender<T>) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| current.same_channel(sender)) {
            *current = None;
        }
    }

    /// Closes the lane.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn send(&self, message: T) -> bool {
        self.lock().as_ref().is_some_and(|sender| sender.try_send(message).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Sender<T>>> {
        // The guarded value is replaced whole, so a panic elsewhere cannot have left it half changed.
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lanes to one peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) append_requests: Slot<AppendEntriesRequest>,
    pub(super) append_responses: Slot<Result<AppendEntriesResponse, Status>>,
    pub(super) control_requests: Slot<ControlRequest>,
    pub(super) control_responses: Slot<Result<ControlResponse, Status>>,
    pub(super) replica_requests: Slot<ReadReplicaRequest>,
    pub(super) replica_responses: Slot<Result<ReadReplicaResponse, Status>>,
    pub(super) side_requests: Slot<SideRequest>,
    pub(super) side_responses: Slot<Result<SideResponse, Status>>,
    /// Whether the peer has accepted the control stream that we opened. A lane is open before that: while its stream is
    /// being opened, messages wait in it already.
    reached: AtomicBool,
}

impl Link {
    fn closed() -> Self {
        Self {
            append_requests: Slot::new(LANE_MESSAGES_MAX),
            append_responses: Slot::new(LANE_MESSAGES_MAX),
            control_requests: Slot::new(LANE_MESSAGES_MAX),
            control_responses: Slot::new(LANE_MESSAGES_MAX),
            replica_requests: Slot::new(REPLICA_LANE_MESSAGES_MAX),
            replica_responses: Slot::new(REPLICA_LANE_MESSAGES_MAX),
            side_requests: Slot::new(SIDE_LANE_MESSAGES_MAX),
            side_responses: Slot::new(SIDE_LANE_MESSAGES_MAX),
            reached: AtomicBool::new(false),
        }
    }

    /// Notes that the peer has accepted our control stream, or that there is none any more.
    pub(super) fn note_reached(&self, reached: bool) {
        // Nothing else is read by it.
        self.reached.store(reached, Ordering::Relaxed);
    }
}

/// The lanes to all peers.
#[derive(Clone, Debug, Default)]
pub struct Links {
    by_node: Arc<BTreeMap<NodeId, Link>>,
}

impl Links {
    /// Closed lanes to each of `peers`.
    #[must_use]
    pub fn new(peers: impl IntoIterator<Item = NodeId>) -> Self {
        Self { by_node: Arc::new(peers.into_iter().map(|peer| (peer, Link::closed())).collect()) }
    }

    /// Hands a message to the stream that it belongs on; never waits.
    ///
    /// # Errors
    ///
    /// The message is lost if there is no such peer, or if its lane is closed or full.
    pub fn send(&self, message: Message, traces: Traces) -> Result<(), Undelivered> {
        let to = message.to;
        let frame = to_frame(message, traces);
        let lane = frame.lane();
        let sent = self.by_node.get(&to).is_some_and(|link| match frame {
            Frame::AppendRequest(request) => link.append_requests.send(request),
            Frame::AppendResponse(response) => link.append_responses.send(Ok(response)),
            Frame::ControlRequest(request) => link.control_requests.send(request),
            Frame::ControlResponse(response) => link.control_responses.send(Ok(response)),
        });
        if sent { Ok(()) } else { Err(Undelivered { to, lane }) }
    }

    /// The same for a message of a read, which is asked again.
    ///
    /// # Errors
    ///
    /// As [`Links::send`].
    pub fn send_replica(&self, message: ReplicaMessage) -> Result<(), Undelivered> {
        let to = message.to;
        let frame = to_replica_frame(message.body);
        let lane = frame.lane();
        let sent = self.by_node.get(&to).is_some_and(|link| match frame {
            ReplicaFrame::Request(request) => link.replica_requests.send(request),
            ReplicaFrame::Response(response) => link.replica_responses.send(Ok(response)),
        });
        if sent { Ok(()) } else { Err(Undelivered { to, lane }) }
    }

    /// The same for a side message, which nobody misses: whoever asked for it asks again.
    ///
    /// # Errors
    ///
    /// As [`Links::send`].
    pub fn send_side(&self, message: SideMessage) -> Result<(), Undelivered> {
        let to = message.to;
        let frame = to_side_frame(message.body);
        let lane = frame.lane();
        let sent = self.by_node.get(&to).is_some_and(|link| match frame {
            SideFrame::Request(request) => link.side_requests.send(request),
            SideFrame::Response(response) => link.side_responses.send(Ok(response)),
        });
        if sent { Ok(()) } else { Err(Undelivered { to, lane }) }
    }

    /// Whether `peer` can be reached right now: it has accepted the control stream that this node opened, as the
    /// incarnation that it was opened for, and the stream has not ended. A peer that stands still counts until its
    /// connection is given up.
    #[must_use]
    pub fn reaches(&self, peer: NodeId) -> bool {
        self.by_node.get(&peer).is_some_and(|link| link.reached.load(Ordering::Relaxed))
    }

    pub(super) fn get(&self, peer: NodeId) -> Option<&Link> {
        self.by_node.get(&peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::side::SideBody;
    use raft::{Body, Term};

    fn heartbeat(to: NodeId) -> Message {
        let from = NodeId::new(1).expect("not zero");
        Message { from, to, term: Term::new(1), body: Body::HeartbeatResponse { round: 1, promised: false } }
    }

    #[test]
    fn a_message_for_a_closed_or_full_lane_is_undelivered() {
        let peer = NodeId::new(2).expect("not zero");
        let links = Links::new([peer]);
        let undelivered = Err(Undelivered { to: peer, lane: Lane::ControlResponses });
        assert_eq!(links.send(heartbeat(peer), Vec::new()), undelivered);

        let receiver = links.get(peer).expect("it is a peer").control_responses.open();
        for _ in 0..LANE_MESSAGES_MAX {
            assert_eq!(links.send(heartbeat(peer), Vec::new()), Ok(()));
        }
        assert_eq!(links.send(heartbeat(peer), Vec::new()), undelivered);

        drop(receiver);
        assert_eq!(links.send(heartbeat(peer), Vec::new()), undelivered);
        let stranger = NodeId::new(3).expect("not zero");
        let undelivered = Err(Undelivered { to: stranger, lane: Lane::ControlResponses });
        assert_eq!(links.send(heartbeat(stranger), Vec::new()), undelivered);
    }

    #[test]
    fn a_peer_is_reached_once_it_accepted_a_stream_and_not_while_it_is_asked() {
        let (peer, stranger) = (NodeId::new(2).expect("not zero"), NodeId::new(3).expect("not zero"));
        let links = Links::new([peer]);
        let link = links.get(peer).expect("it is a peer");
        let _requests = link.control_requests.open();
        assert!(!links.reaches(peer));
        link.note_reached(true);
        assert_eq!((links.reaches(peer), links.reaches(stranger)), (true, false));
        link.note_reached(false);
        assert!(!links.reaches(peer));
    }

    #[test]
    fn side_messages_have_lanes_of_their_own_that_hold_a_few() {
        let (own, peer) = (NodeId::new(1).expect("not zero"), NodeId::new(2).expect("not zero"));
        let links = Links::new([peer]);
        let fetch = || SideMessage { from: own, to: peer, body: SideBody::FetchSnapshot { index: None, offset: 0 } };
        let none = || SideMessage { from: own, to: peer, body: SideBody::NoSnapshot };
        let undelivered = |lane| Err(Undelivered { to: peer, lane });
        assert_eq!(links.send_side(fetch()), undelivered(Lane::SideRequests));
        assert_eq!(links.send_side(none()), undelivered(Lane::SideResponses));

        let link = links.get(peer).expect("it is a peer");
        let (_control, _requests, _responses) =
            (link.control_responses.open(), link.side_requests.open(), link.side_responses.open());
        for _ in 0..SIDE_LANE_MESSAGES_MAX {
            assert_eq!((links.send_side(fetch()), links.send_side(none())), (Ok(()), Ok(())));
        }
        assert_eq!(links.send_side(fetch()), undelivered(Lane::SideRequests));
        assert_eq!(links.send_side(none()), undelivered(Lane::SideResponses));
        assert_eq!(links.send(heartbeat(peer), Vec::new()), Ok(()), "full side lanes hold up nothing");
    }
}
