//! Arbitrary bytes as the frames of raft.v1, from Protobuf through the transport's decoding to the core.
//!
//! The first byte chooses where the node begins, as in [`peer_message`]. Then frames follow: raw
//! ones, and real messages that were encoded, and possibly damaged on the way; between them, whatever else happens to
//! a node. What a node says of itself when it meets another goes through the real service.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use engine::identity::{Cluster, Identity, Member};
use prost::Message as _;
use proto::raft::v1 as wire;
use proto::raft::v1::raft_service_server::RaftService as _;
use quorate_server::forward::ForwardTarget;
use quorate_server::telemetry::TraceContext;
use quorate_server::transport::convert::{
    Frame, append_request, append_response, control_request_message, control_response_message, to_frame,
};
use quorate_server::transport::{Board, Introduction, PeerService, Traces};
use raft::{Message, NodeId};
use tokio::runtime::{Builder, Runtime};
use tonic::{Code, Request, Status};

use crate::hunting::Outcome;
use crate::input::Input;
use crate::node::{Node, node_id};
use crate::peer_message::{self, TICKS};

/// No input has more steps than this.
const STEPS_MAX: usize = 128;

/// A step's form is its byte modulo this.
pub const FORMS: u8 = 6;
/// A frame as it stands: its kind, a length, and so many bytes.
pub const RAW: u8 = 0;
/// A message, encoded and decoded: what follows is as in `peer_message`.
pub const WHOLE: u8 = 1;
/// The same, with some bytes replaced or missing on the way: a byte says how many; each is a place and a byte.
pub const DAMAGED: u8 = 2;
/// Anything else that happens to a node, as in `peer_message`.
pub const STEP: u8 = 3;
/// An introduction as it stands: a length, and so many bytes.
pub const INTRODUCTION: u8 = 4;
/// A built introduction: name, incarnation, address, and whether with the cluster.
pub const INTRODUCED: u8 = 5;

/// Of a raw frame: AppendEntries.
pub const APPEND_REQUEST: u8 = 0;
/// The answer to it.
pub const APPEND_RESPONSE: u8 = 1;
/// Votes, heartbeats, handovers.
pub const CONTROL_REQUEST: u8 = 2;
/// The answers to those.
pub const CONTROL_RESPONSE: u8 = 3;

/// Runs one input: frames to a node.
///
/// # Panics
/// On a finding.
pub fn run(input: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut input = Input::new(input);
    let mut node = peer_message::root(input.u8());
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        step(&mut node, &mut input, &mut outcome);
    }
    node.check_useful();
    outcome
}

fn step(node: &mut Node, input: &mut Input<'_>, outcome: &mut Outcome) {
    match input.u8() % FORMS {
        RAW => {
            let (kind, count) = (input.u8() % 4, usize::from(input.u8()));
            receive(node, kind, node_id(2), input.bytes(count), outcome);
        }
        WHOLE => {
            let kind = input.u8() % TICKS;
            let message = peer_message::message(node, kind, input);
            let (kind, bytes) = encode(message.clone(), Traces::new());
            assert_eq!(decode(kind, message.from, message.to, &bytes).map(|(message, _)| message), Ok(message.clone()));
            judge(node, message, outcome);
        }
        DAMAGED => {
            let kind = input.u8() % TICKS;
            let message = peer_message::message(node, kind, input);
            let from = message.from;
            let (kind, mut bytes) = encode(message, Traces::new());
            for _ in 0..input.below(6) {
                match (input.u8(), input.u8()) {
                    (at, 0xee) => bytes.truncate(usize::from(at)),
                    (at, byte) if !bytes.is_empty() => {
                        let at = usize::from(at) % bytes.len();
                        bytes[at] = byte;
                    }
                    _ => {}
                }
            }
            receive(node, kind, from, &bytes, outcome);
        }
        STEP => peer_message::step(node, input, outcome),
        INTRODUCTION => {
            let count = usize::from(input.u8());
            match wire::IdentifyRequest::decode(input.bytes(count)) {
                Ok(request) => introduce(request, outcome),
                Err(_) => outcome.refuse("undecodable"),
            }
        }
        _ => introduce(introduction(input), outcome),
    }
}

/// What became of bytes that are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unusable {
    /// They are no Protobuf of this type.
    Undecodable,
    /// A part is missing.
    Malformed,
}

/// Decodes a frame as the transport does.
fn decode(kind: u8, from: NodeId, to: NodeId, bytes: &[u8]) -> Result<(Message, Traces), Unusable> {
    let bytes = Bytes::copy_from_slice(bytes);
    let untraced = |message| (message, Traces::new());
    let decoded = match kind {
        APPEND_REQUEST => wire::AppendEntriesRequest::decode(bytes).map(|frame| append_request(from, to, frame)),
        APPEND_RESPONSE => {
            wire::AppendEntriesResponse::decode(bytes).map(|frame| append_response(from, to, frame).map(untraced))
        }
        CONTROL_REQUEST => wire::ControlRequest::decode(bytes).map(|frame| control_request_message(from, to, frame)),
        _ => wire::ControlResponse::decode(bytes).map(|frame| control_response_message(from, to, frame).map(untraced)),
    };
    decoded.map_err(|_| Unusable::Undecodable)?.map_err(|_| Unusable::Malformed)
}

fn encode(message: Message, traces: Traces) -> (u8, Vec<u8>) {
    match to_frame(message, traces) {
        Frame::AppendRequest(frame) => (APPEND_REQUEST, frame.encode_to_vec()),
        Frame::AppendResponse(frame) => (APPEND_RESPONSE, frame.encode_to_vec()),
        Frame::ControlRequest(frame) => (CONTROL_REQUEST, frame.encode_to_vec()),
        Frame::ControlResponse(frame) => (CONTROL_RESPONSE, frame.encode_to_vec()),
    }
}

fn receive(node: &mut Node, kind: u8, from: NodeId, bytes: &[u8], outcome: &mut Outcome) {
    match decode(kind, from, node.raft.id(), bytes) {
        Ok((message, traces)) => {
            if !traces.is_empty() {
                outcome.mark("traced");
            }
            let (kind, again) = encode(message.clone(), traces.clone());
            let expected = Ok((message.clone(), traces));
            assert_eq!(decode(kind, from, node.raft.id(), &again), expected, "a message does not survive the wire");
            judge(node, message, outcome);
        }
        Err(Unusable::Undecodable) => outcome.refuse("undecodable"),
        Err(Unusable::Malformed) => outcome.refuse("malformed"),
    }
}

fn judge(node: &mut Node, message: Message, outcome: &mut Outcome) {
    let kind = message.body.kind();
    match node.step(message) {
        Ok(()) => outcome.accept(kind),
        Err(refused) => outcome.refuse(refused.as_str()),
    }
}

/// Who a node may say that it is.
fn introduction(input: &mut Input<'_>) -> wire::IdentifyRequest {
    let names = ["n2", "n1", "n3", "stranger", "", "n\n2", &"n".repeat(64), "n2 "];
    let name = names[input.below(names.len())].to_owned();
    let incarnation = input.number([2, 1, 3, 0]);
    let client_address = match input.u8() % 4 {
        0 => "n2:7000".to_owned(),
        1 => "a".repeat(301),
        2 => "ä:7000".to_owned(),
        _ => String::new(),
    };
    let cluster = match input.u8() % 4 {
        0 => None,
        1 => Some(wire_cluster(&cluster())),
        2 => Some(wire::Cluster::default()),
        _ => Some(wire::Cluster { cluster_id: BytesMut::zeroed(16).freeze(), ..wire_cluster(&cluster()) }),
    };
    wire::IdentifyRequest { member: Some(wire::Member { name, incarnation }), cluster, client_address }
}

fn cluster() -> Cluster {
    let member = |number: u64| Member { name: format!("n{number}"), incarnation: node_id(number) };
    Cluster::new((1..=3).map(member).collect())
}

fn wire_cluster(cluster: &Cluster) -> wire::Cluster {
    let member = |member: &Member| wire::Member { name: member.name.clone(), incarnation: member.incarnation.get() };
    wire::Cluster {
        cluster_id: Bytes::copy_from_slice(&cluster.id()),
        members: cluster.members().iter().map(member).collect(),
    }
}

/// Nobody forwards anything here.
struct NoTarget;

#[tonic::async_trait]
impl ForwardTarget for NoTarget {
    async fn run_forwarded(
        &self,
        _request: wire::ForwardRequest,
        _deadline: Instant,
        _trace: Option<TraceContext>,
    ) -> Result<wire::ForwardResponse, Status> {
        Err(Status::unimplemented("nothing is forwarded"))
    }

    async fn inspect(&self, _request: wire::InspectRequest) -> Result<wire::InspectResponse, Status> {
        Err(Status::unimplemented("nobody looks here"))
    }
}

/// Hands an introduction to the real service of n1. Only members are remembered, and only under their own names.
fn introduce(request: wire::IdentifyRequest, outcome: &mut Outcome) {
    let known = cluster();
    let member = known.members().first().expect("n1 is a member").clone();
    let identity = Identity { member, cluster: Some(known.clone()) };
    let board = Board::new(Introduction { identity, client_address: "n1:7000".to_owned() });
    let service = PeerService::new(board.clone(), Arc::new(NoTarget));
    let claimed = request.member.clone().unwrap_or_default();
    let address = request.client_address.clone();
    match block_on(service.identify(Request::new(request))) {
        Ok(response) => {
            let own = response.into_inner().member.map(|member| member.name);
            assert_eq!(own.as_deref(), Some("n1"), "a node says that it is another");
            let is_member = known.member(&claimed.name).map(|member| member.incarnation.get());
            let expected = match claimed.name.as_str() {
                "n1" => Some("n1:7000".to_owned()),
                _ if is_member == Some(claimed.incarnation) => Some(address),
                _ => None,
            };
            assert_eq!(board.client_address(&claimed.name), expected, "whom a node remembers");
            outcome.accept(if is_member.is_some() { "introduced" } else { "stranger" });
        }
        Err(status) => {
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            outcome.refuse("introduction_refused");
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
    }
    RUNTIME.with_borrow_mut(|runtime| {
        let new = || Builder::new_current_thread().build().expect("a runtime needs no resources");
        runtime.get_or_insert_with(new).block_on(future)
    })
}
