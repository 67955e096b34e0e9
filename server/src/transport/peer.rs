//! The client side of a link: four tasks a peer that keep its four streams open.
//!
//! Each task connects, says who it is, opens its stream, and reads answers until the stream ends; then it tells the
//! core that what was under way may be lost, and tries again, for ever. The core has nothing under way on the streams
//! of reads and of side messages, and hears nothing of those. If the peer's host then refuses connections, its process
//! has ended: the core hears of that too, and does not wait for an election timeout if it led.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::identity::{Cluster, Member};
use proto::raft::v1::raft_service_client::RaftServiceClient;
use raft::NodeId;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tracing::{debug, info, warn};

use super::connect::{BackOff, connect, is_refusal};
use super::convert::{append_response, control_response_message};
use super::identify::{Board, ask_who_on};
use super::inbox::{Inbound, Inbox};
use super::link::{Lane, Links};
use super::replica::replica_response;
use super::side::side_response;
use super::{CLUSTER_ID_KEY, FROM_KEY, MESSAGE_BYTES_MAX, TO_KEY};
use crate::causes::chain;

/// So often after a stream broke the core is told that the peer's host refuses connections: once more or twice, because
/// something that the peer had sent may be taken after the first time.
const REFUSALS_TOLD_MAX: u32 = 3;

/// A stream that was open for so long is opened again without a wait when it ends: attempts stay rare enough.
const OPEN_LONG: Duration = Duration::from_millis(250);

/// A member, and where to reach it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerAddress {
    /// Who it is.
    pub member: Member,
    /// Its DNS name or address, and port.
    pub address: String,
}

/// Starts the tasks that keep the streams to `peers` open. They end when the set is dropped or the node stops.
pub fn spawn_peers(
    cluster: &Cluster,
    own: NodeId,
    peers: Vec<PeerAddress>,
    board: &Board,
    links: &Links,
    inbox: &Inbox,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for peer in peers {
        let session = Arc::new(Session {
            cluster_id: cluster.id(),
            own,
            peer,
            board: board.clone(),
            links: links.clone(),
            inbox: inbox.clone(),
        });
        for kind in [Kind::Append, Kind::Control, Kind::Replica, Kind::Side] {
            tasks.spawn(keep_open(Arc::clone(&session), kind));
        }
    }
    tasks
}

/// Which of the streams a task keeps open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Append,
    Control,
    Replica,
    Side,
}

/// What all tasks of a peer need.
struct Session {
    cluster_id: [u8; 16],
    own: NodeId,
    peer: PeerAddress,
    board: Board,
    links: Links,
    inbox: Inbox,
}

/// Why a stream is not open.
#[derive(Debug)]
enum Closed {
    /// It broke, or could not be opened: try again.
    Broken(String),
    /// The peer's host says that nobody takes connections at its address: try again.
    Refused(String),
    /// The node has stopped.
    Stopped,
}

async fn keep_open(session: Arc<Session>, kind: Kind) {
    let mut back_off = BackOff::new();
    let mut last_reason = String::new();
    let mut refusals_told = 0;
    let name = session.peer.member.name.clone();
    loop {
        let mut opened = None;
        let closed = match kind {
            Kind::Append => session.append(&mut opened).await,
            Kind::Control => session.control(&mut opened).await,
            Kind::Replica => session.replica(&mut opened).await,
            Kind::Side => session.side(&mut opened).await,
        };
        let (reason, is_refused) = match closed {
            Err(Closed::Broken(reason)) => (reason, false),
            Err(Closed::Refused(reason)) => (reason, true),
            Err(Closed::Stopped) => return,
        };
        session.close(kind);
        if opened.is_some() {
            back_off.reset();
            refusals_told = 0;
            let is_the_cores = matches!(kind, Kind::Append | Kind::Control);
            if is_the_cores && !session.inbox.unreachable(session.peer.member.incarnation).await {
                return;
            }
        }
        if is_refused && kind == Kind::Control && refusals_told < REFUSALS_TOLD_MAX {
            refusals_told += 1;
            if !session.inbox.gone(session.peer.member.incarnation).await {
                return;
            }
        }
        // One line when something changes, not one per attempt.
        if reason == last_reason {
            debug!(peer = name, stream = ?kind, reason, "still no stream to the peer");
        } else {
            warn!(peer = name, stream = ?kind, reason, "no stream to the peer, trying again");
            last_reason = reason;
        }
        if opened.is_none_or(|since: Instant| since.elapsed() < OPEN_LONG) {
            back_off.wait().await;
        }
    }
}

impl Session {
    /// Keeps the stream of entries until it ends.
    async fn append(&self, opened: &mut Option<Instant>) -> Result<Infallible, Closed> {
        let channel = self.connect().await?;
        let link = self.links.get(self.peer.member.incarnation).ok_or(Closed::Stopped)?;
        let requests = ReceiverStream::new(link.append_requests.open());
        let answers = client(channel).append_entries(self.introduced(requests)).await.map_err(broken)?;
        self.note_open(Kind::Append, opened);
        let (peer, own) = (self.peer.member.incarnation, self.own);
        let to_inbound = |answer| Inbound::of(append_response(peer, own, answer));
        self.read_answers(answers.into_inner(), Lane::AppendResponses, to_inbound).await
    }

    /// Keeps the stream of everything that bulk must not delay until it ends.
    async fn control(&self, opened: &mut Option<Instant>) -> Result<Infallible, Closed> {
        let channel = self.connect().await?;
        self.meet(channel.clone()).await.map_err(Closed::Broken)?;
        let link = self.links.get(self.peer.member.incarnation).ok_or(Closed::Stopped)?;
        let requests = ReceiverStream::new(link.control_requests.open());
        let answers = client(channel).control(self.introduced(requests)).await.map_err(broken)?;
        self.note_open(Kind::Control, opened);
        link.note_reached(true);
        let (peer, own) = (self.peer.member.incarnation, self.own);
        let to_inbound = |answer| Inbound::of(control_response_message(peer, own, answer));
        self.read_answers(answers.into_inner(), Lane::ControlResponses, to_inbound).await
    }

    /// Keeps the stream of reads that need no leader until it ends.
    async fn replica(&self, opened: &mut Option<Instant>) -> Result<Infallible, Closed> {
        let channel = self.connect().await?;
        let link = self.links.get(self.peer.member.incarnation).ok_or(Closed::Stopped)?;
        let requests = ReceiverStream::new(link.replica_requests.open());
        let answers = client(channel).read_replica(self.introduced(requests)).await.map_err(broken)?;
        self.note_open(Kind::Replica, opened);
        let (peer, own) = (self.peer.member.incarnation, self.own);
        let to_inbound = |answer| Inbound::of_replica(replica_response(peer, own, answer));
        self.read_answers(answers.into_inner(), Lane::ReplicaResponses, to_inbound).await
    }

    /// Keeps the stream of what may wait until it ends.
    async fn side(&self, opened: &mut Option<Instant>) -> Result<Infallible, Closed> {
        let channel = self.connect().await?;
        let link = self.links.get(self.peer.member.incarnation).ok_or(Closed::Stopped)?;
        let requests = ReceiverStream::new(link.side_requests.open());
        let answers = client(channel).side(self.introduced(requests)).await.map_err(broken)?;
        self.note_open(Kind::Side, opened);
        let (peer, own) = (self.peer.member.incarnation, self.own);
        let to_inbound = |answer| Inbound::of_side(side_response(peer, own, answer));
        self.read_answers(answers.into_inner(), Lane::SideResponses, to_inbound).await
    }

    async fn connect(&self) -> Result<Channel, Closed> {
        connect(&self.peer.address).await.map_err(|error| {
            let reason = chain(&error);
            if is_refusal(&error) { Closed::Refused(reason) } else { Closed::Broken(reason) }
        })
    }

    async fn read_answers<A>(
        &self,
        mut answers: Streaming<A>,
        lane: Lane,
        to_inbound: impl Fn(A) -> Inbound,
    ) -> Result<Infallible, Closed> {
        loop {
            let ended = || Closed::Broken("the peer closed the stream".to_owned());
            let answer = answers.message().await.map_err(broken)?.ok_or_else(ended)?;
            if !self.inbox.put(lane, to_inbound(answer)).await {
                return Err(Closed::Stopped);
            }
        }
    }

    /// Makes sure that the peer is who we think it is, and learns where clients reach it.
    async fn meet(&self, channel: Channel) -> Result<(), String> {
        let introduction = ask_who_on(channel, &self.board.own()).await?;
        let (met, expected) = (&introduction.identity.member, &self.peer.member);
        if met != expected {
            return Err(format!(
                "{} answers as {} with the incarnation {:016x}, but the cluster's member is {} with {:016x}: its disk was \
                 emptied or it is another node",
                self.peer.address,
                met.name,
                met.incarnation.get(),
                expected.name,
                expected.incarnation.get()
            ));
        }
        self.board.remember(&introduction);
        Ok(())
    }

    fn introduced<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER_ID_KEY, hexadecimal(format!("{:032x}", u128::from_be_bytes(self.cluster_id))));
        metadata.insert(FROM_KEY, hexadecimal(format!("{:016x}", self.own.get())));
        metadata.insert(TO_KEY, hexadecimal(format!("{:016x}", self.peer.member.incarnation.get())));
        request
    }

    fn note_open(&self, kind: Kind, opened: &mut Option<Instant>) {
        *opened = Some(Instant::now());
        info!(peer = self.peer.member.name, stream = ?kind, "stream to the peer is open");
    }

    fn close(&self, kind: Kind) {
        let Some(link) = self.links.get(self.peer.member.incarnation) else { return };
        match kind {
            Kind::Append => link.append_requests.close(),
            Kind::Control => {
                link.note_reached(false);
                link.control_requests.close();
            }
            Kind::Replica => link.replica_requests.close(),
            Kind::Side => link.side_requests.close(),
        }
    }
}

fn client(channel: Channel) -> RaftServiceClient<Channel> {
    RaftServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

pub(super) fn hexadecimal(digits: String) -> MetadataValue<Ascii> {
    digits.try_into().expect("hexadecimal digits are valid in a header")
}

fn broken(status: Status) -> Closed {
    Closed::Broken(format!("{:?}: {}", status.code(), status.message()))
}
