//! What the interface promises for a request, written down a second time.

use bytes::Bytes;
use engine::kv::{Applied, Command, KEY_BYTES_MAX, KeyValue, PutMode, Rejection, Revision, VALUE_BYTES_MAX};
use prost::Message as _;
use proto::admin::v1::{ListMembersRequest, StatusRequest, TransferLeadershipRequest};
use proto::kv::v1::{self as wire, DeleteRequest, DeleteResponse, GetRequest, GetResponse, PutRequest, PutResponse};
use proto::raft::v1::forward_request::Request;
use proto::raft::v1::forward_response::Response;
use tonic::Code;

use super::Patience;
use super::request::{ADMIN_STATUS, DELETE, GET, LIST_MEMBERS, PUT, TRANSFER};
use super::shell::NAME;
use crate::model::Model;

/// What has to come of a call.
#[derive(Debug)]
pub(super) enum Promise {
    /// This answer.
    Answer(Response),
    /// An answer, whatever it says.
    Anything,
    /// A status of this code and reason, and nothing is done.
    Refused(Code, &'static str),
}

fn invalid<T>(reason: &'static str) -> Result<T, Promise> {
    Err(Promise::Refused(Code::InvalidArgument, reason))
}

/// What has to come of a request of kv.v1. What it is to change is changed in the model.
pub(super) fn promise(request: &Request, patience: Patience, model: &mut Model) -> Promise {
    serve(request, patience, model).unwrap_or_else(|refused| refused)
}

fn serve(request: &Request, patience: Patience, model: &mut Model) -> Result<Promise, Promise> {
    if patience == Patience::Malformed {
        return invalid("TIMEOUT_MALFORMED");
    }
    let command = match request {
        Request::Put(request) => Some(put(request)?),
        Request::Delete(request) => Some(delete(request)?),
        Request::Get(request) => {
            key(&request.key)?;
            consistency(request)?;
            None
        }
    };
    if patience == Patience::None {
        return Err(Promise::Refused(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
    }
    let Some(command) = command else { return read(request, model) };
    // Stamps are the node's own affair, and no answer tells of them.
    match model.apply(0, &command) {
        Applied::Put { revision, version } => {
            Ok(Promise::Answer(Response::Put(PutResponse { revision: revision.get(), version })))
        }
        Applied::Deleted { revision, previous } => {
            let response = DeleteResponse { revision: revision.get(), previous: previous.map(key_value) };
            Ok(Promise::Answer(Response::Delete(response)))
        }
        Applied::Rejected(Rejection::KeyExists { .. }) => Err(Promise::Refused(Code::AlreadyExists, "KEY_EXISTS")),
        Applied::Rejected(Rejection::KeyNotFound) => Err(Promise::Refused(Code::NotFound, "KEY_NOT_FOUND")),
        Applied::Rejected(Rejection::RevisionMismatch { .. }) => {
            Err(Promise::Refused(Code::FailedPrecondition, "REVISION_MISMATCH"))
        }
    }
}

fn read(request: &Request, model: &Model) -> Result<Promise, Promise> {
    let Request::Get(GetRequest { key, .. }) = request else { return Ok(Promise::Anything) };
    let Some(found) = model.get(key.as_bytes()) else {
        return Err(Promise::Refused(Code::NotFound, "KEY_NOT_FOUND"));
    };
    let (kv, served_by) = (Some(key_value(found)), NAME.to_owned());
    Ok(Promise::Answer(Response::Get(GetResponse { kv, revision: model.revision, served_by })))
}

fn key(key: &str) -> Result<Bytes, Promise> {
    match key.len() {
        0 => invalid("KEY_EMPTY"),
        1..=KEY_BYTES_MAX => Ok(Bytes::copy_from_slice(key.as_bytes())),
        _ => invalid("KEY_TOO_LARGE"),
    }
}

fn put(request: &PutRequest) -> Result<Command, Promise> {
    let key = key(&request.key)?;
    if request.value.len() > VALUE_BYTES_MAX {
        return invalid("VALUE_TOO_LARGE");
    }
    if !(0..=4).contains(&request.mode) {
        return invalid("MODE_UNKNOWN");
    }
    if request.expected_revision == Some(0) {
        return invalid("EXPECTED_REVISION_ZERO");
    }
    let mode = match (request.mode, request.expected_revision) {
        (4, Some(revision)) => PutMode::Compare { expected_revision: Revision::new(revision) },
        (4, None) => return invalid("EXPECTED_REVISION_MISSING"),
        (_, Some(_)) => return invalid("EXPECTED_REVISION_NOT_ALLOWED"),
        (3, None) => PutMode::Update,
        (2, None) => PutMode::Upsert,
        (_, None) => PutMode::Create,
    };
    Ok(Command::Put { key, value: request.value.clone(), mode })
}

fn delete(request: &DeleteRequest) -> Result<Command, Promise> {
    let key = key(&request.key)?;
    if request.expected_revision == Some(0) {
        return invalid("EXPECTED_REVISION_ZERO");
    }
    let expected_revision = request.expected_revision.map(Revision::new);
    Ok(Command::Delete { key, expected_revision, return_previous: request.return_previous })
}

fn consistency(request: &GetRequest) -> Result<(), Promise> {
    if (0..=1).contains(&request.consistency) { Ok(()) } else { invalid("CONSISTENCY_UNKNOWN") }
}

/// What has to come of a request of admin.v1, or of none.
pub(super) fn administrative(kind: u8, body: &[u8], patience: Patience) -> Promise {
    let malformed = Promise::Refused(Code::InvalidArgument, "MESSAGE_MALFORMED");
    match kind {
        ADMIN_STATUS => StatusRequest::decode(body).map_or(malformed, |_| Promise::Anything),
        LIST_MEMBERS => ListMembersRequest::decode(body).map_or(malformed, |_| Promise::Anything),
        TRANSFER => match TransferLeadershipRequest::decode(body) {
            Err(_) => malformed,
            Ok(_) if patience == Patience::Malformed => Promise::Refused(Code::InvalidArgument, "TIMEOUT_MALFORMED"),
            Ok(request) if request.target.is_empty() => Promise::Refused(Code::FailedPrecondition, "NO_OTHER_VOTER"),
            Ok(request) if request.target == NAME => Promise::Refused(Code::FailedPrecondition, "TARGET_LEADS_ALREADY"),
            Ok(_) => Promise::Refused(Code::InvalidArgument, "TARGET_NOT_VOTER"),
        },
        _ => Promise::Refused(Code::Unimplemented, "UNSUPPORTED"),
    }
}

fn key_value(kv: KeyValue) -> wire::KeyValue {
    wire::KeyValue {
        key: String::from_utf8(kv.key.to_vec()).expect("keys came in as text"),
        value: kv.value,
        create_revision: kv.create_revision.get(),
        mod_revision: kv.mod_revision.get(),
        version: kv.version,
    }
}

/// The answer of a method of kv.v1.
pub(super) fn read_answer(kind: u8, message: &Bytes) -> Response {
    let message = message.clone();
    let answer = match kind {
        PUT => PutResponse::decode(message).map(Response::Put),
        GET => GetResponse::decode(message).map(Response::Get),
        DELETE => DeleteResponse::decode(message).map(Response::Delete),
        _ => panic!("method {kind} is none of kv.v1"),
    };
    answer.expect("an answer is a message")
}
