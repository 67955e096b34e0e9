//! The streams of what may wait: snapshots in pieces and hashes of states, which come when they come and delay nothing.

use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use engine::side::{SNAPSHOT_CHUNK_BYTES, SideBody, SideMessage};
use proto::raft::v1::raft_service_server::{RaftService, RaftServiceServer};
use proto::raft::v1::{
    AppendEntriesRequest, AppendEntriesResponse, ControlRequest, ControlResponse, FetchSnapshot, ForwardRequest,
    ForwardResponse, Heartbeat, IdentifyRequest, IdentifyResponse, InspectRequest, InspectResponse, NoSnapshot,
    ReadReplicaRequest, ReadReplicaResponse, SideRequest, SideResponse, SnapshotChunk, StateHash, control_request,
    side_request, side_response,
};
use quorate_server::transport::{Inbound, Lane, Links, PeerAddress, Undelivered, spawn_peers};
use raft::{Index, NodeId};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::member::{in_time, listen, listen_again, runtime, serve};
use crate::streams::{Side, client, cluster, dropped, introduced, member};

/// How long to wait before a message is sent again that may have been lost.
const AGAIN: Duration = Duration::from_millis(50);

/// How often it is looked for what cannot be waited on.
const POLL: Duration = Duration::from_millis(1);

fn side_message(from: u64, to: u64, body: SideBody) -> SideMessage {
    let node = |id| NodeId::new(id).expect("not zero");
    SideMessage { from: node(from), to: node(to), body }
}

fn fetch(offset: u64) -> SideBody {
    SideBody::FetchSnapshot { index: Some(Index::new(9)), offset }
}

fn piece(offset: u64) -> SideBody {
    let bytes = Bytes::from(vec![7; SNAPSHOT_CHUNK_BYTES]);
    SideBody::SnapshotChunk { index: Index::new(9), total_bytes: 1 << 30, offset, bytes }
}

/// Says who calls: n1 calls n2.
fn who() -> (u128, u64, u64) {
    (u128::from_be_bytes(cluster().id()), 1, 2)
}

fn question(offset: u64) -> SideRequest {
    SideRequest { body: Some(side_request::Body::FetchSnapshot(FetchSnapshot { index: Some(9), offset })) }
}

/// Sends a message until it arrives.
async fn arrives(links: &Links, message: SideMessage, arrivals: &mut mpsc::Receiver<Inbound>) {
    let sends = async {
        loop {
            // A lane that is not open yet, or not any more, is the point of sending it again.
            let _ = links.send_side(message.clone());
            match tokio::time::timeout(AGAIN, arrivals.recv()).await {
                Ok(Some(Inbound::Side(arrived))) if arrived == message => return,
                Ok(None) => panic!("nobody can send"),
                Ok(Some(_)) | Err(_) => {}
            }
        }
    };
    in_time("the side message", sends).await;
}

#[tokio::test]
async fn questions_and_pieces_travel_and_come_back_after_the_peer() {
    let (listener, address) = listen();
    let (first, second) = (member("n1", 1), member("n2", 2));
    let mut here = Side::new(first.clone(), &second).join();
    let lost = Err(Undelivered { to: second.incarnation, lane: Lane::SideRequests });
    assert_eq!(here.links.send_side(side_message(1, 2, fetch(0))), lost);

    let peer = PeerAddress { member: second.clone(), address: address.clone() };
    let _tasks = spawn_peers(&cluster(), here.own, vec![peer], &here.board, &here.links, &here.inbox);
    let mut listener = Some(listener);
    for round in 1..=2 {
        let runtime = runtime();
        let mut there = Side::new(second.clone(), &first).join();
        let socket = match listener.take() {
            Some(listener) => listener,
            None => listen_again(&address).await,
        };
        serve(&runtime, socket, there.service.clone());
        arrives(&here.links, side_message(1, 2, fetch(round)), &mut there.arrivals.side).await;
        let hash = SideBody::StateHash { index: Index::new(round), hash: u128::MAX };
        arrives(&here.links, side_message(1, 2, hash), &mut there.arrivals.side).await;
        arrives(&there.links, side_message(2, 1, piece(round)), &mut here.arrivals.side).await;
        arrives(&there.links, side_message(2, 1, SideBody::NoSnapshot), &mut here.arrivals.side).await;
        runtime.shutdown_background();
    }
}

#[tokio::test]
async fn a_malformed_side_message_is_dropped_and_the_stream_goes_on() {
    let runtime = runtime();
    let (listener, address) = listen();
    let mut side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&runtime, listener, side.service.clone());
    let (sender, requests) = mpsc::channel(8);
    let _answers = client(&address).await.side(introduced(ReceiverStream::new(requests), who())).await.expect("it may");
    let hash = |bytes: usize| StateHash { index: 1, hash: Bytes::from(vec![1; bytes]) };
    for body in [
        None,
        Some(side_request::Body::StateHash(hash(15))),
        Some(side_request::Body::FetchSnapshot(FetchSnapshot { index: Some(0), offset: 0 })),
        Some(side_request::Body::FetchSnapshot(FetchSnapshot { index: None, offset: u64::MAX })),
    ] {
        sender.send(SideRequest { body }).await.expect("the stream is open");
        assert_eq!(dropped(&mut side.arrivals.side).await, "malformed");
    }
    sender.send(question(5)).await.expect("the stream is still open");
    match in_time("the question", side.arrivals.side.recv()).await {
        Some(Inbound::Side(message)) => assert_eq!(message, side_message(1, 2, fetch(5))),
        other => panic!("it is a question: {other:?}"),
    }
    runtime.shutdown_background();
}

/// A peer that serves nothing but side messages, and begins each stream with the same answers.
struct Answers(Vec<SideResponse>);

#[tonic::async_trait]
impl RaftService for Answers {
    async fn identify(&self, _: Request<IdentifyRequest>) -> Result<Response<IdentifyResponse>, Status> {
        Err(Status::unimplemented("only side messages"))
    }

    type AppendEntriesStream = tokio_stream::Empty<Result<AppendEntriesResponse, Status>>;

    async fn append_entries(
        &self,
        _: Request<Streaming<AppendEntriesRequest>>,
    ) -> Result<Response<Self::AppendEntriesStream>, Status> {
        Err(Status::unimplemented("only side messages"))
    }

    type ControlStream = tokio_stream::Empty<Result<ControlResponse, Status>>;

    async fn control(&self, _: Request<Streaming<ControlRequest>>) -> Result<Response<Self::ControlStream>, Status> {
        Err(Status::unimplemented("only side messages"))
    }

    type ReadReplicaStream = tokio_stream::Empty<Result<ReadReplicaResponse, Status>>;

    async fn read_replica(
        &self,
        _: Request<Streaming<ReadReplicaRequest>>,
    ) -> Result<Response<Self::ReadReplicaStream>, Status> {
        Err(Status::unimplemented("only side messages"))
    }

    type SideStream = ReceiverStream<Result<SideResponse, Status>>;

    async fn side(&self, request: Request<Streaming<SideRequest>>) -> Result<Response<Self::SideStream>, Status> {
        let (sender, answers) = mpsc::channel(64);
        for answer in &self.0 {
            sender.send(Ok(answer.clone())).await.expect("there is room");
        }
        let mut questions = request.into_inner();
        tokio::spawn(async move {
            // The stream stays open as long as the other end keeps it open.
            while let Ok(Some(_)) = questions.message().await {}
            drop(sender);
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn forward(&self, _: Request<ForwardRequest>) -> Result<Response<ForwardResponse>, Status> {
        Err(Status::unimplemented("only side messages"))
    }

    async fn inspect(&self, _: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        Err(Status::unimplemented("only side messages"))
    }
}

fn serve_answers(runtime: &Runtime, listener: TcpListener, answers: Answers) {
    listener.set_nonblocking(true).expect("a socket can be");
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is not blocking");
        let incoming = TcpIncoming::from(listener);
        Server::builder().add_service(RaftServiceServer::new(answers)).serve_with_incoming(incoming).await
    });
}

#[tokio::test]
async fn a_piece_that_is_none_is_dropped_and_counted() {
    let chunk = |total_bytes, offset, length: usize| SideResponse {
        body: Some(side_response::Body::SnapshotChunk(SnapshotChunk {
            index: 9,
            total_bytes,
            offset,
            data: Bytes::from(vec![7; length]),
        })),
    };
    let bad = [
        SideResponse { body: None },
        chunk(9, 0, 0),
        chunk(9, 5, 5),
        chunk(u64::MAX, u64::MAX, 5),
        chunk(1 << 30, 0, SNAPSHOT_CHUNK_BYTES + 1),
    ];
    let runtime = runtime();
    let (listener, address) = listen();
    let answers = bad.iter().cloned().chain([chunk(1 << 30, 4, SNAPSHOT_CHUNK_BYTES)]).collect();
    serve_answers(&runtime, listener, Answers(answers));
    let second = member("n2", 2);
    let mut here = Side::new(member("n1", 1), &second).join();
    let peer = PeerAddress { member: second, address };
    let _tasks = spawn_peers(&cluster(), here.own, vec![peer], &here.board, &here.links, &here.inbox);
    for frame in &bad {
        assert_eq!(dropped(&mut here.arrivals.side).await, "malformed", "{frame:?}");
    }
    match in_time("the piece", here.arrivals.side.recv()).await {
        Some(Inbound::Side(message)) => assert_eq!(message, side_message(2, 1, piece(4))),
        other => panic!("it is a piece: {other:?}"),
    }
    runtime.shutdown_background();
}

#[tokio::test]
async fn the_core_hears_nothing_of_a_side_stream_that_ended() {
    let answer = || SideResponse { body: Some(side_response::Body::NoSnapshot(NoSnapshot {})) };
    let (listener, address) = listen();
    let second = member("n2", 2);
    let mut here = Side::new(member("n1", 1), &second).join();
    let gone = second.incarnation;
    let peer = PeerAddress { member: second, address: address.clone() };
    let _tasks = spawn_peers(&cluster(), here.own, vec![peer], &here.board, &here.links, &here.inbox);
    let mut listener = Some(listener);
    for _ in 0..2 {
        let runtime = runtime();
        let socket = match listener.take() {
            Some(listener) => listener,
            None => listen_again(&address).await,
        };
        serve_answers(&runtime, socket, Answers(vec![answer()]));
        match in_time("the answer", here.arrivals.side.recv()).await {
            Some(Inbound::Side(message)) => assert_eq!(message, side_message(2, 1, SideBody::NoSnapshot)),
            other => panic!("it is an answer: {other:?}"),
        }
        runtime.shutdown_background();
    }
    // The first stream has ended by now. The others never opened, so nothing was under way for the core. That the
    // process is gone it is told where the address refused connections before it listened again.
    let other = std::iter::from_fn(|| here.arrivals.append.try_recv().ok())
        .find(|arrival| !matches!(arrival, Inbound::Gone(peer) if *peer == gone));
    assert!(other.is_none(), "{other:?}");
    assert!(here.arrivals.control.try_recv().is_err());
}

#[tokio::test]
async fn side_messages_that_nobody_takes_hold_up_nothing_else() {
    let runtime = runtime();
    let (listener, address) = listen();
    let mut side = Side::new(member("n2", 2), &member("n1", 1)).join();
    serve(&runtime, listener, side.service.clone());
    let (sender, requests) = mpsc::channel(8);
    let mut client = client(&address).await;
    let _answers = client.side(introduced(ReceiverStream::new(requests), who())).await.expect("it may");
    let flood = tokio::spawn(async move {
        for offset in 0.. {
            if sender.send(question(offset)).await.is_err() {
                return;
            }
        }
    });
    let full = async {
        while side.arrivals.side.len() < side.arrivals.side.max_capacity() {
            tokio::time::sleep(POLL).await;
        }
    };
    in_time("a full queue", full).await;

    let (sender, requests) = mpsc::channel(8);
    let _answers = client.control(introduced(ReceiverStream::new(requests), who())).await.expect("it may");
    let body = Some(control_request::Body::Heartbeat(Heartbeat { commit_index: 0, round: 7 }));
    sender.send(ControlRequest { term: 1, body, ..Default::default() }).await.expect("the stream is open");
    let arrival = in_time("the heartbeat", side.arrivals.control.recv()).await;
    assert!(matches!(arrival, Some(Inbound::Message { .. })), "{arrival:?}");
    assert!(side.arrivals.side.max_capacity() * SNAPSHOT_CHUNK_BYTES <= 8 << 20, "a few pieces wait, not many");
    flood.abort();
    runtime.shutdown_background();
}
