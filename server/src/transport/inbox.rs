//! What arrives from peers, on its way to the node's loop.

use engine::leaderless::ReplicaMessage;
use engine::side::SideMessage;
use raft::{Message, NodeId};
use tokio::sync::mpsc;

use super::convert::{MALFORMED, Malformed, Traces};
use super::link::Lane;

/// How many messages may wait that bulk must not delay: each of some ten peers sends a handful a heartbeat.
const CONTROL_MESSAGES_MAX: usize = 1024;

/// How many AppendEntries and answers may wait: a few peers' whole windows of messages in flight. Beyond, the streams
/// are not read, and flow control holds the senders.
const APPEND_MESSAGES_MAX: usize = 256;

/// How many messages of reads may wait; their senders ask again.
const REPLICA_MESSAGES_MAX: usize = 64;

/// How many side messages may wait: pieces of snapshots of half a mebibyte each, which nobody has to take at once.
/// Beyond, the streams are not read.
const SIDE_MESSAGES_MAX: usize = 16;

/// Something that arrived from a peer, or that became known of it.
#[derive(Debug)]
pub enum Inbound {
    /// A message for the core.
    Message {
        /// The message; its sender is the one that its stream was opened by.
        message: Message,
        /// The traces of sampled entries in it; with index zero, that of the message itself.
        traces: Traces,
    },
    /// A message of a read that needs no leader.
    Replica(ReplicaMessage),
    /// A message for the engine beside the core's.
    Side(SideMessage),
    /// A stream to the peer ended: what was sent on it may be lost.
    Unreachable(NodeId),
    /// The peer's process has ended: its streams broke, and its address refuses connections.
    Gone(NodeId),
    /// A frame was dropped before it became a message, and why.
    Dropped(&'static str),
}

impl Inbound {
    /// What became of a frame of the core's messages.
    pub(super) fn of(message: Result<Message, Malformed>) -> Self {
        message.map_or(Self::Dropped(MALFORMED), |message| Self::Message { message, traces: Vec::new() })
    }

    /// What became of a frame of the core's messages that may belong to traces.
    pub(super) fn of_traced(message: Result<(Message, Traces), Malformed>) -> Self {
        message.map_or(Self::Dropped(MALFORMED), |(message, traces)| Self::Message { message, traces })
    }

    /// What became of a frame of the messages of reads.
    pub(super) fn of_replica(message: Result<ReplicaMessage, Malformed>) -> Self {
        message.map_or(Self::Dropped(MALFORMED), Self::Replica)
    }

    /// What became of a frame of the side messages.
    pub(super) fn of_side(message: Result<SideMessage, Malformed>) -> Self {
        message.map_or(Self::Dropped(MALFORMED), Self::Side)
    }
}

/// Where arrivals are put.
#[derive(Clone, Debug)]
pub struct Inbox {
    control: mpsc::Sender<Inbound>,
    append: mpsc::Sender<Inbound>,
    replica: mpsc::Sender<Inbound>,
    side: mpsc::Sender<Inbound>,
}

/// Where arrivals are taken.
#[derive(Debug)]
pub struct InboxReceivers {
    /// Votes, heartbeats, lost streams: to be taken first.
    pub control: mpsc::Receiver<Inbound>,
    /// Entries and their answers. Order holds within this channel only.
    pub append: mpsc::Receiver<Inbound>,
    /// Messages of reads that need no leader.
    pub replica: mpsc::Receiver<Inbound>,
    /// Side messages: to be taken after everything else.
    pub side: mpsc::Receiver<Inbound>,
}

impl Inbox {
    /// A new inbox and its receivers.
    #[must_use]
    pub fn new() -> (Self, InboxReceivers) {
        let (control, control_receiver) = mpsc::channel(CONTROL_MESSAGES_MAX);
        let (append, append_receiver) = mpsc::channel(APPEND_MESSAGES_MAX);
        let (replica, replica_receiver) = mpsc::channel(REPLICA_MESSAGES_MAX);
        let (side, side_receiver) = mpsc::channel(SIDE_MESSAGES_MAX);
        let receivers = InboxReceivers {
            control: control_receiver,
            append: append_receiver,
            replica: replica_receiver,
            side: side_receiver,
        };
        (Self { control, append, replica, side }, receivers)
    }

    /// Puts what arrived on a lane; waits while there is no room. False: the node has stopped.
    pub async fn put(&self, lane: Lane, inbound: Inbound) -> bool {
        let queue = match lane {
            Lane::ControlRequests | Lane::ControlResponses => &self.control,
            Lane::AppendRequests | Lane::AppendResponses => &self.append,
            Lane::ReplicaRequests | Lane::ReplicaResponses => &self.replica,
            Lane::SideRequests | Lane::SideResponses => &self.side,
        };
        queue.send(inbound).await.is_ok()
    }

    /// How many arrivals wait on each lane, by its name.
    #[must_use]
    pub fn waiting(&self) -> [(&'static str, usize); 4] {
        let lanes =
            [("control", &self.control), ("append", &self.append), ("replica", &self.replica), ("side", &self.side)];
        lanes.map(|(name, lane)| (name, lane.max_capacity() - lane.capacity()))
    }

    /// Says that a peer's process has ended, behind the entries that arrived from it. False: the node has stopped.
    pub async fn gone(&self, peer: NodeId) -> bool {
        self.append.send(Inbound::Gone(peer)).await.is_ok()
    }

    /// Says that what was sent to a peer may be lost. False: the node has stopped.
    pub async fn unreachable(&self, peer: NodeId) -> bool {
        self.control.send(Inbound::Unreachable(peer)).await.is_ok()
    }
}
