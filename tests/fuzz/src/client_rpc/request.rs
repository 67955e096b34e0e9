//! Requests out of arbitrary bytes: as raw Protobuf, or built and then damaged.

use bytes::Bytes;
use engine::kv::VALUE_BYTES_MAX;
use prost::Message as _;
use proto::admin::v1::{TransferLeadershipRequest, UpdateSettingsRequest};
use proto::kv::v1::{DeleteRequest, GetOutcomeRequest, GetRequest, PutRequest, RequestId};
use proto::raft::v1::ForwardRequest;
use proto::raft::v1::forward_request::Request;

use super::shell::NAME;
use crate::input::Input;
use crate::model::Model;

/// A call's method is its first byte modulo this.
pub const METHODS: u8 = 10;
/// `kv.v1.KvService/Put`.
pub const PUT: u8 = 0;
/// `kv.v1.KvService/Get`.
pub const GET: u8 = 1;
/// `kv.v1.KvService/Delete`.
pub const DELETE: u8 = 2;
/// What another node forwards.
pub const FORWARD: u8 = 3;
/// `admin.v1.AdminService/TransferLeadership`.
pub const TRANSFER: u8 = 4;
/// `admin.v1.AdminService/Status`.
pub const ADMIN_STATUS: u8 = 5;
/// `admin.v1.AdminService/ListMembers`.
pub const LIST_MEMBERS: u8 = 6;
/// A method that there is not.
pub const UNKNOWN: u8 = 7;
/// `kv.v1.KvService/GetOutcome`.
pub const GET_OUTCOME: u8 = 8;
/// `admin.v1.AdminService/UpdateSettings`.
pub const UPDATE_SETTINGS: u8 = 9;

/// Of a call's form: its message is built from the bytes that follow. Otherwise a length and so many bytes follow.
pub const BUILT: u8 = 1 << 0;
/// Some bytes of the message are then replaced: a byte says how many; each is a place and a byte.
pub const DAMAGED: u8 = 1 << 1;
/// The frame around it is then damaged.
pub const FRAMED: u8 = 1 << 2;
/// It has a deadline.
pub const TIMED: u8 = 1 << 3;

/// A value length byte from here on is one at the limit.
const LARGE: u8 = 0xfa;

/// The path of a method.
pub(super) fn method(kind: u8) -> &'static str {
    match kind {
        PUT => "kv.v1.KvService/Put",
        GET => "kv.v1.KvService/Get",
        DELETE => "kv.v1.KvService/Delete",
        FORWARD => "raft.v1.RaftService/Forward",
        GET_OUTCOME => "kv.v1.KvService/GetOutcome",
        TRANSFER => "admin.v1.AdminService/TransferLeadership",
        UPDATE_SETTINGS => "admin.v1.AdminService/UpdateSettings",
        ADMIN_STATUS => "admin.v1.AdminService/Status",
        LIST_MEMBERS => "admin.v1.AdminService/ListMembers",
        _ => "kv.v1.KvService/Nothing",
    }
}

/// The bytes of a call's message.
pub(super) fn body(kind: u8, form: u8, model: &Model, input: &mut Input<'_>) -> Bytes {
    if form & BUILT == 0 {
        let count = usize::from(input.u8());
        return Bytes::copy_from_slice(input.bytes(count));
    }
    let mut body = build(kind, model, input);
    if form & DAMAGED != 0 && !body.is_empty() {
        for _ in 0..input.below(6) {
            let at = usize::from(input.u8()) % body.len();
            body[at] = input.u8();
        }
    }
    body.into()
}

fn build(kind: u8, model: &Model, input: &mut Input<'_>) -> Vec<u8> {
    match kind {
        PUT => put(model, input).encode_to_vec(),
        GET => get(model, input).encode_to_vec(),
        DELETE => delete(model, input).encode_to_vec(),
        GET_OUTCOME => get_outcome(model, input).encode_to_vec(),
        FORWARD => {
            let request = match input.u8() % 5 {
                0 => Some(Request::Put(put(model, input))),
                1 => Some(Request::Get(get(model, input))),
                2 => Some(Request::Delete(delete(model, input))),
                3 => None,
                _ => Some(Request::GetOutcome(get_outcome(model, input))),
            };
            ForwardRequest { from: key(input.u8()), relay: false, question: false, request }.encode_to_vec()
        }
        TRANSFER => {
            let target = match input.u8() {
                0 => String::new(),
                1 => NAME.to_owned(),
                byte => key(byte),
            };
            TransferLeadershipRequest { target }.encode_to_vec()
        }
        UPDATE_SETTINGS => {
            let value = input.u8();
            let (lease_reads, request_id) = ((value < 0xf0).then_some(value & 1 == 1), input.bool());
            let request_id = request_id.then(|| self::request_id(input));
            UpdateSettingsRequest { lease_reads, request_id }.encode_to_vec()
        }
        _ => Vec::new(),
    }
}

fn put(model: &Model, input: &mut Input<'_>) -> PutRequest {
    let key = key(input.u8());
    let value = match input.u8() {
        byte @ LARGE.. => vec![0; VALUE_BYTES_MAX + usize::from(byte & 1)],
        byte => vec![byte; usize::from(byte)],
    };
    let mode = mode(input.u8());
    let (expected_revision, request_id) = revision(model, input);
    PutRequest { key, value: value.into(), mode, expected_revision, request_id }
}

/// Mostly a get without bounds: one byte says which there are.
fn get(model: &Model, input: &mut Input<'_>) -> GetRequest {
    let (key, consistency, asks) = (key(input.u8()), mode(input.u8()), input.u8());
    let max_staleness_ms = (asks & 1 == 1).then(|| input.number([0, 1, 1000, u64::MAX]));
    let min_revision = if asks & 2 == 2 { input.number([model.revision, 0, 1, u64::MAX]) } else { 0 };
    GetRequest { key, consistency, max_staleness_ms, min_revision }
}

fn delete(model: &Model, input: &mut Input<'_>) -> DeleteRequest {
    let key = key(input.u8());
    let (expected_revision, request_id) = revision(model, input);
    DeleteRequest { key, expected_revision, return_previous: input.bool(), request_id }
}

fn get_outcome(model: &Model, input: &mut Input<'_>) -> GetOutcomeRequest {
    let (_, request_id) = revision(model, input);
    GetOutcomeRequest { request_id }
}

/// Few keys, so that requests meet; some at the limits and beyond.
fn key(byte: u8) -> String {
    match byte {
        0..0xe0 => char::from(b'a' + byte % 4).to_string(),
        0xe0 => String::new(),
        0xe1 => "\0".to_owned(),
        0xe2 => "k".repeat(1024),
        0xe3 => "k".repeat(1025),
        0xe4 => "ä".repeat(512),
        0xe5 => "ä".repeat(513),
        _ => format!("../{byte}\u{10ffff}"),
    }
}

fn mode(byte: u8) -> i32 {
    match byte {
        0..0xf0 => i32::from(byte % 5),
        0xf0 => -1,
        0xf1 => i32::MAX,
        0xf2 => i32::MIN,
        _ => 5,
    }
}

/// Mostly no revision, because most modes take none; and perhaps a request id: one byte says what follows of both.
fn revision(model: &Model, input: &mut Input<'_>) -> (Option<u64>, Option<RequestId>) {
    let asks = input.u8();
    let revision = (asks & 1 == 1).then(|| input.number([model.revision, 0, 2, 3]));
    (revision, (asks & 2 == 2).then(|| request_id(input)))
}

/// Few sessions and sequences, so that requests meet; some ids that no client makes. No time passes for this node.
fn request_id(input: &mut Input<'_>) -> RequestId {
    let session = match input.u8() {
        byte @ 0..0xe0 => vec![byte % 3; 16],
        byte => vec![byte; usize::from(byte & 31)],
    };
    let sequence = input.number([1, 2, 3, u64::MAX]);
    let acknowledged_below = input.number([sequence, 0, 1, 2]);
    RequestId { session: session.into(), opened_at_ms: u64::from(input.u8() >> 6), sequence, acknowledged_below }
}
