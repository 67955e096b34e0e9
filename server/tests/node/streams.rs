//! The streams between two peers: whom they are opened for, what is dropped, and how they come back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::identity::{Cluster, Identity, Member};
use proto::raft::v1::raft_service_client::RaftServiceClient;
use proto::raft::v1::{
    AppendEntriesRequest, ControlRequest, ControlResponse, Entry, ForwardRequest, Heartbeat, IdentifyRequest,
    InspectRequest, SideRequest, control_request, entry,
};
use quorate_server::transport::{
    Board, CLUSTER_ID_KEY, FROM_KEY, Inbound, Inbox, InboxReceivers, Introduction, Lane, Links, MESSAGE_BYTES_MAX,
    PeerAddress, PeerService, REFUSED_KEY, ServiceParts, TO_KEY, Undelivered, spawn_peers,
};
use raft::{Body, Index, Message, NodeId, Term};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use crate::forward::Target;
use crate::member::{in_time, listen, listen_again, runtime, serve};

/// How long to wait before a message is sent again that may have been lost.
const AGAIN: Duration = Duration::from_millis(50);

pub(crate) fn member(name: &str, incarnation: u64) -> Member {
    Member { name: name.to_owned(), incarnation: NodeId::new(incarnation).expect("not zero") }
}

/// The cluster of n1, whose incarnation is 1, and n2, whose incarnation is 2.
pub(crate) fn cluster() -> Cluster {
    Cluster::new(vec![member("n1", 1), member("n2", 2)])
}

/// Says who calls: the cluster, the caller's incarnation, and that of the called.
pub(crate) fn introduced<T>(message: T, (cluster, from, to): (u128, u64, u64)) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert(CLUSTER_ID_KEY, format!("{cluster:032x}").parse().expect("hexadecimal"));
    metadata.insert(FROM_KEY, format!("{from:016x}").parse().expect("hexadecimal"));
    metadata.insert(TO_KEY, format!("{to:016x}").parse().expect("hexadecimal"));
    request
}

/// One end of the streams.
pub(crate) struct Side {
    pub(crate) own: NodeId,
    pub(crate) board: Board,
    pub(crate) links: Links,
    pub(crate) inbox: Inbox,
    pub(crate) arrivals: InboxReceivers,
    pub(crate) service: PeerService,
}

impl Side {
    /// The side of `own`, before it takes part.
    pub(crate) fn new(own: Member, other: &Member) -> Self {
        let node = own.incarnation;
        let identity = Identity { member: own, cluster: Some(cluster()) };
        let board = Board::new(Introduction { identity, client_address: "127.0.0.1:1".to_owned() });
        let (inbox, arrivals) = Inbox::new();
        let service = PeerService::new(board.clone(), Arc::new(Target));
        Self { own: node, board, links: Links::new([other.incarnation]), inbox, arrivals, service }
    }

    pub(crate) fn join(self) -> Self {
        let (links, inbox) = (self.links.clone(), self.inbox.clone());
        self.service.join(ServiceParts { cluster: cluster(), own: self.own, links, inbox });
        self
    }
}

fn message(from: u64, to: u64, body: Body) -> Message {
    let node = |id| NodeId::new(id).expect("not zero");
    Message { from: node(from), to: node(to), term: Term::new(1), body }
}

fn heartbeat(round: u64) -> Message {
    message(1, 2, Body::Heartbeat { commit_index: Index::ZERO, round })
}

fn append() -> Message {
    let (prev_log_index, prev_log_term) = (Index::ZERO, Term::ZERO);
    message(
        1,
        2,
        Body::AppendEntries { prev_log_index, prev_log_term, entries: Vec::new(), leader_commit: Index::ZERO },
    )
}

/// Sends a message until it arrives.
async fn arrives(links: &Links, message: Message, arrivals: &mut mpsc::Receiver<Inbound>) {
    let sends = async {
        loop {
            // A lane that is not open yet, or not any more, is the point of sending it again.
            let _ = links.send(message.clone(), Vec::new());
            match tokio::time::timeout(AGAIN, arrivals.recv()).await {
                Ok(Some(Inbound::Message { message: arrived, .. })) if arrived == message => return,
                Ok(None) => panic!("nobody can send"),
                Ok(Some(_)) | Err(_) => {}
            }
        }
    };
    in_time("the message", sends).await;
}

pub(crate) async fn dropped(arrivals: &mut mpsc::Receiver<Inbound>) -> &'static str {
    match in_time("an arrival", arrivals.recv()).await {
        Some(Inbound::Dropped(reason)) => reason,
        other => panic!("expected something dropped, got {other:?}"),
    }
}

pub(crate) async fn client(address: &str) -> RaftServiceClient<tonic::transport::Channel> {
    RaftServiceClient::connect(format!("http://{address}")).await.expect("it listens")
}

fn refused<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().expect("it is refused");
    assert!(status.metadata().contains_key(REFUSED_KEY), "{status:?}");
    (status.code(), status.message().to_owned())
}

#[tokio::test]
async fn a_call_is_refused_unless_a_peer_means_this_member() {
    let ours = u128::from_be_bytes(cluster().id());
    let runtime = runtime();
    let (listener, address) = listen();
    let side = Side::new(member("n2", 2), &member("n1", 1));
    serve(&runtime, listener, side.service.clone());
    let mut client = client(&address).await;
    let nothing = || tokio_stream::empty::<ControlRequest>();
    let early = refused(client.control(introduced(nothing(), (ours, 1, 2))).await);
    assert_eq!(early, (Code::Unavailable, "this node is not a member of a cluster yet".to_owned()));

    let _side = side.join();
    for (who, why) in [
        ((ours + 1, 1, 2), "the stream is another cluster's"),
        ((ours, 1, 3), "the stream is for another incarnation of this node"),
        ((ours, 1, 0), "the stream is for another incarnation of this node"),
        ((ours, 3, 2), "the stream's sender is not a peer of this node"),
        ((ours, 2, 2), "the stream's sender is not a peer of this node"),
        ((ours, 0, 2), "the stream's sender is not a peer of this node"),
    ] {
        let expected = (Code::FailedPrecondition, why.to_owned());
        let entries = tokio_stream::empty::<AppendEntriesRequest>();
        assert_eq!(refused(client.append_entries(introduced(entries, who)).await), expected, "{who:?}");
        assert_eq!(refused(client.control(introduced(nothing(), who)).await), expected, "{who:?}");
        let questions = tokio_stream::empty::<SideRequest>();
        assert_eq!(refused(client.side(introduced(questions, who)).await), expected, "{who:?}");
        assert_eq!(refused(client.forward(introduced(ForwardRequest::default(), who)).await), expected, "{who:?}");
        assert_eq!(refused(client.inspect(introduced(InspectRequest::default(), who)).await), expected, "{who:?}");
    }
    let anonymous = refused(client.control(Request::new(nothing())).await);
    assert_eq!(anonymous.0, Code::FailedPrecondition);
    client.control(introduced(nothing(), (ours, 1, 2))).await.expect("a peer may");
    runtime.shutdown_background();
}

#[tokio::test]
async fn only_what_members_say_of_themselves_is_remembered() {
    let runtime = runtime();
    let (listener, address) = listen();
    let side = Side::new(member("n2", 2), &member("n1", 1));
    serve(&runtime, listener, side.service.clone());
    let mut client = client(&address).await;
    let introduction = |name: &str, incarnation| IdentifyRequest {
        member: Some(proto::raft::v1::Member { name: name.to_owned(), incarnation }),
        cluster: None,
        client_address: format!("{name}:{incarnation}"),
    };
    for (name, incarnation) in [("n1", 7), ("n3", 3)] {
        client.identify(introduction(name, incarnation)).await.expect("everyone may ask");
        assert_eq!(side.board.client_address(name), None);
    }
    let answer = client.identify(introduction("n1", 1)).await.expect("everyone may ask").into_inner();
    assert_eq!(side.board.client_address("n1"), Some("n1:1".to_owned()));
    let own = answer.member.expect("it says who it is");
    assert_eq!((own.name.as_str(), own.incarnation, answer.client_address.as_str()), ("n2", 2, "127.0.0.1:1"));
    let nonsense = client.identify(introduction("n 1", 1)).await.expect_err("a name has no spaces");
    assert_eq!(nonsense.code(), Code::InvalidArgument);
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_malformed_message_is_dropped_and_the_stream_goes_on() {
    let runtime = runtime();
    let (listener, address) = listen();
    let mut side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&runtime, listener, side.service.clone());
    let (sender, requests) = mpsc::channel(8);
    let who = (u128::from_be_bytes(cluster().id()), 1, 2);
    let request = introduced(ReceiverStream::new(requests), who);
    let _answers = client(&address).await.control(request).await.expect("a peer may");
    sender.send(ControlRequest { term: 1, body: None, ..Default::default() }).await.expect("the stream is open");
    assert_eq!(dropped(&mut side.arrivals.control).await, "malformed");

    let body = Some(control_request::Body::Heartbeat(Heartbeat { commit_index: 0, round: 7 }));
    sender.send(ControlRequest { term: 1, body, ..Default::default() }).await.expect("the stream is still open");
    let arrival = in_time("the heartbeat", side.arrivals.control.recv()).await;
    let Some(Inbound::Message { message, .. }) = arrival else { panic!("it is a message: {arrival:?}") };
    assert_eq!(message, heartbeat(7));
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_frame_that_is_no_message_is_dropped_and_ends_the_stream_on_both_sides() {
    let runtime = runtime();
    let (listener, address) = listen();
    let mut side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&runtime, listener, side.service.clone());
    let (sender, requests) = mpsc::channel(8);
    let who = (u128::from_be_bytes(cluster().id()), 1, 2);
    let mut client = client(&address).await;
    let answers = client.append_entries(introduced(ReceiverStream::new(requests), who)).await.expect("a peer may");
    let command = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    let entry = Entry { term: 1, index: 1, payload: Some(entry::Payload::Command(command)) };
    let too_large = AppendEntriesRequest { term: 1, entries: vec![entry], ..AppendEntriesRequest::default() };
    sender.send(too_large).await.expect("the stream is open");
    assert_eq!(dropped(&mut side.arrivals.append).await, "undecodable");
    // Whoever sent it must not take the stream for open, or it would send into nothing for ever.
    let mut answers = answers.into_inner();
    let end = in_time("the stream's end", answers.message()).await;
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    let (sender, requests) = mpsc::channel(8);
    let _answers = client.append_entries(introduced(ReceiverStream::new(requests), who)).await.expect("it may again");
    sender.send(AppendEntriesRequest::default()).await.expect("the stream is open");
    let arrival = in_time("a message", side.arrivals.append.recv()).await;
    assert!(matches!(arrival, Some(Inbound::Message { .. })), "{arrival:?}");
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_connection_that_breaks_closes_the_lane_and_counts_as_nothing_dropped() {
    let (runtime, theirs) = (runtime(), runtime());
    let (listener, address) = listen();
    let mut side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&runtime, listener, side.service.clone());
    let (_sender, requests) = mpsc::channel::<ControlRequest>(8);
    let who = (u128::from_be_bytes(cluster().id()), 1, 2);
    let request = introduced(ReceiverStream::new(requests), who);
    let at = address.clone();
    let open = theirs.spawn(async move { client(&address).await.control(request).await.expect("a peer may") });
    let _answers = open.await.expect("it does not panic");
    let answer = || side.links.send(message(2, 1, Body::HeartbeatResponse { round: 3, promised: false }), Vec::new());
    assert_eq!(answer(), Ok(()));

    theirs.shutdown_background();
    let closed = async {
        while answer().is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    in_time("the end of the lane", closed).await;
    let (sender, requests) = mpsc::channel(8);
    let _answers =
        client(&at).await.control(introduced(ReceiverStream::new(requests), who)).await.expect("it may again");
    let body = Some(control_request::Body::Heartbeat(Heartbeat { commit_index: 0, round: 7 }));
    sender.send(ControlRequest { term: 1, body, ..Default::default() }).await.expect("the stream is open");
    let arrival = in_time("the heartbeat", side.arrivals.control.recv()).await;
    assert!(matches!(arrival, Some(Inbound::Message { .. })), "{arrival:?}");
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_stream_that_was_replaced_gets_no_more_answers() {
    let runtime = runtime();
    let (listener, address) = listen();
    let side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&runtime, listener, side.service.clone());
    let who = (u128::from_be_bytes(cluster().id()), 1, 2);
    let mut client = client(&address).await;
    let mut open = async || -> (mpsc::Sender<ControlRequest>, Streaming<ControlResponse>) {
        let (sender, requests) = mpsc::channel(8);
        let answers = client.control(introduced(ReceiverStream::new(requests), who)).await.expect("a peer may");
        (sender, answers.into_inner())
    };
    let (old_sender, mut old) = open().await;
    let (_sender, mut new) = open().await;
    side.links
        .send(message(2, 1, Body::HeartbeatResponse { round: 3, promised: false }), Vec::new())
        .expect("the lane is open");
    let answer = in_time("the answer", new.message()).await.expect("the stream is open");
    assert!(answer.is_some());
    // The old one ends at the latest with what is sent on it next.
    old_sender
        .send(ControlRequest { term: 1, body: None, ..Default::default() })
        .await
        .expect("the end is not known yet");
    let end = in_time("the old stream's end", old.message()).await;
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    side.links
        .send(message(2, 1, Body::HeartbeatResponse { round: 4, promised: false }), Vec::new())
        .expect("the new one stays");
    runtime.shutdown_background();
}

#[tokio::test]
async fn streams_come_back_after_the_peer() {
    let (listener, address) = listen();
    let (first, second) = (member("n1", 1), member("n2", 2));
    let mut here = Side::new(first.clone(), &second).join();
    let lost = |lane| Err(Undelivered { to: second.incarnation, lane });
    assert_eq!(here.links.send(heartbeat(0), Vec::new()), lost(Lane::ControlRequests));
    assert_eq!(here.links.send(append(), Vec::new()), lost(Lane::AppendRequests));

    let peer = PeerAddress { member: second.clone(), address: address.clone() };
    let _tasks = spawn_peers(&cluster(), here.own, vec![peer], &here.board, &here.links, &here.inbox);
    let reached = || here.links.reaches(second.incarnation);
    assert!(!reached());
    let mut listener = Some(listener);
    for round in 1..=3 {
        let runtime = runtime();
        let mut there = Side::new(second.clone(), &first).join();
        let socket = match listener.take() {
            Some(listener) => listener,
            None => listen_again(&address).await,
        };
        serve(&runtime, socket, there.service.clone());
        arrives(&here.links, heartbeat(round), &mut there.arrivals.control).await;
        arrives(&here.links, append(), &mut there.arrivals.append).await;
        let answer = message(2, 1, Body::HeartbeatResponse { round, promised: false });
        arrives(&there.links, answer, &mut here.arrivals.control).await;
        assert!(reached());

        runtime.shutdown_background();
        let unreachable = async {
            loop {
                match here.arrivals.control.recv().await {
                    Some(Inbound::Unreachable(node)) => return node,
                    other => assert!(other.is_some(), "the peer's tasks go on"),
                }
            }
        };
        assert_eq!(in_time("the loss of the streams", unreachable).await, second.incarnation);
        let out_of_reach = async {
            while reached() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        in_time("the loss of the stream of control messages", out_of_reach).await;
    }
}
