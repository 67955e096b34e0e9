//! What the interface promises for a request, written down a second time.

use bytes::Bytes;
use engine::kv::{
    self, Applied, Command, KEY_BYTES_MAX, KeyValue, PutMode, Refusal, Rejection, Revision, SessionId, Settled,
    VALUE_BYTES_MAX,
};
use prost::Message as _;
use proto::admin::v1::{
    ListMembersRequest, Settings, StatusRequest, TransferLeadershipRequest, UpdateSettingsRequest,
    UpdateSettingsResponse,
};
use proto::kv::v1::get_outcome_response::Outcome;
use proto::kv::v1::{
    self as wire, DeleteRequest, DeleteResponse, GetOutcomeRequest, GetOutcomeResponse, GetRequest, GetResponse,
    PutRequest, PutResponse,
};
use proto::raft::v1::forward_request::Request;
use proto::raft::v1::forward_response::Response;
use tonic::Code;

use super::Patience;
use super::request::{ADMIN_STATUS, DELETE, GET, GET_OUTCOME, LIST_MEMBERS, PUT, TRANSFER, UPDATE_SETTINGS};
use super::shell::NAME;
use crate::model::Model;

/// Replicated time on this node: its clock stands still.
const TIME_MS: u64 = 0;

/// What has to come of a call.
#[derive(Debug)]
pub(super) enum Promise {
    /// This answer.
    Answer(Box<Response>),
    /// This answer, and perhaps how old the state was: that depends on what was asked before.
    Aged(Box<GetResponse>),
    /// These settings.
    Settings(UpdateSettingsResponse),
    /// An answer, whatever it says.
    Anything,
    /// A status of this code and reason, and nothing is done.
    Refused(Code, &'static str),
}

impl Promise {
    fn answer(response: Response) -> Promise {
        Promise::Answer(Box::new(response))
    }
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
    let write = match request {
        Request::Put(request) => put(request)?,
        Request::Delete(request) => delete(request)?,
        Request::GetOutcome(request) => get_outcome(request)?,
        Request::Get(request) => {
            key(&request.key)?;
            consistency(request)?;
            return read(request, model);
        }
    };
    let refused = |code, reason| Err(Promise::Refused(code, reason));
    match model.apply(TIME_MS, &write) {
        Applied::Put { revision, version } => Ok(Promise::answer(Response::Put(written(revision, version)))),
        Applied::Deleted { revision, previous } => Ok(Promise::answer(Response::Delete(deleted(revision, previous)))),
        Applied::Rejected(Rejection::KeyExists { .. }) => refused(Code::AlreadyExists, "KEY_EXISTS"),
        Applied::Rejected(Rejection::KeyNotFound) => refused(Code::NotFound, "KEY_NOT_FOUND"),
        Applied::Rejected(Rejection::RevisionMismatch { .. }) => refused(Code::FailedPrecondition, "REVISION_MISMATCH"),
        Applied::Refused(refusal) => Err(of_refusal(refusal)),
        Applied::Configured { .. } => unreachable!("no request of kv.v1 changes a setting"),
        Applied::Settled(settled) => {
            let response = GetOutcomeResponse { outcome: Some(outcome(settled)), time_ms: TIME_MS };
            Ok(Promise::answer(Response::GetOutcome(response)))
        }
    }
}

fn of_refusal(refusal: Refusal) -> Promise {
    let (code, reason) = match refusal {
        Refusal::SessionExpired { .. } => (Code::FailedPrecondition, "SESSION_EXPIRED"),
        Refusal::OpenedAhead { .. } => (Code::InvalidArgument, "REQUEST_ID_AHEAD"),
        Refusal::RequestIdReused => (Code::InvalidArgument, "REQUEST_ID_REUSED"),
        Refusal::Fenced => (Code::Aborted, "REQUEST_FENCED"),
        Refusal::ResultForgotten => (Code::FailedPrecondition, "RESULT_FORGOTTEN"),
        Refusal::SessionFull => (Code::ResourceExhausted, "SESSION_FULL"),
    };
    Promise::Refused(code, reason)
}

fn written(revision: Revision, version: u64) -> PutResponse {
    PutResponse { revision: revision.get(), version, time_ms: TIME_MS }
}

fn deleted(revision: Revision, previous: Option<KeyValue>) -> DeleteResponse {
    DeleteResponse { revision: revision.get(), previous: previous.map(key_value), time_ms: TIME_MS }
}

/// What became of a write, as the interface tells it.
fn outcome(settled: Settled) -> Outcome {
    let rejected = |reason: &str, revision| Outcome::Rejected(wire::Rejected { reason: reason.to_owned(), revision });
    match settled {
        Settled::NeverApplied => Outcome::NeverApplied(wire::NeverApplied {}),
        Settled::Forgotten => Outcome::Forgotten(wire::Forgotten {}),
        Settled::Result(applied) => match *applied {
            Applied::Put { revision, version } => Outcome::Put(written(revision, version)),
            Applied::Deleted { revision, previous } => Outcome::Delete(deleted(revision, previous)),
            Applied::Configured { .. } => Outcome::Configured(wire::Configured {}),
            Applied::Rejected(Rejection::KeyExists { mod_revision }) => rejected("KEY_EXISTS", mod_revision.get()),
            Applied::Rejected(Rejection::KeyNotFound) => rejected("KEY_NOT_FOUND", 0),
            Applied::Rejected(Rejection::RevisionMismatch { actual, .. }) => {
                rejected("REVISION_MISMATCH", actual.get())
            }
            other => panic!("{other:?} is not what a write does"),
        },
    }
}

fn read(request: &GetRequest, model: &Model) -> Result<Promise, Promise> {
    let refused = |code, reason| Err(Promise::Refused(code, reason));
    if model.revision < request.min_revision {
        return match request.consistency {
            // A majority would have been waited for.
            2 => refused(Code::Unavailable, "NO_QUORUM"),
            3 => refused(Code::Unavailable, "STALENESS_BOUND_EXCEEDED"),
            _ => refused(Code::OutOfRange, "REVISION_AHEAD"),
        };
    }
    let Some(found) = model.get(request.key.as_bytes()) else { return refused(Code::NotFound, "KEY_NOT_FOUND") };
    let (kv, served_by, revision) = (Some(key_value(found)), NAME.to_owned(), model.revision);
    let response = GetResponse { kv, revision, served_by, time_ms: TIME_MS, staleness_ms: None };
    let is_aged = request.consistency == 3;
    Ok(if is_aged { Promise::Aged(Box::new(response)) } else { Promise::answer(Response::Get(response)) })
}

fn key(key: &str) -> Result<Bytes, Promise> {
    match key.len() {
        0 => invalid("KEY_EMPTY"),
        1..=KEY_BYTES_MAX => Ok(Bytes::copy_from_slice(key.as_bytes())),
        _ => invalid("KEY_TOO_LARGE"),
    }
}

fn put(request: &PutRequest) -> Result<kv::Request, Promise> {
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
    let id = request.request_id.as_ref().map(request_id).transpose()?;
    Ok(kv::Request { id, command: Command::Put { key, value: request.value.clone(), mode } })
}

fn delete(request: &DeleteRequest) -> Result<kv::Request, Promise> {
    let key = key(&request.key)?;
    if request.expected_revision == Some(0) {
        return invalid("EXPECTED_REVISION_ZERO");
    }
    let expected_revision = request.expected_revision.map(Revision::new);
    let id = request.request_id.as_ref().map(request_id).transpose()?;
    let return_previous = request.return_previous;
    Ok(kv::Request { id, command: Command::Delete { key, expected_revision, return_previous } })
}

fn get_outcome(request: &GetOutcomeRequest) -> Result<kv::Request, Promise> {
    let Some(id) = &request.request_id else { return invalid("REQUEST_ID_MISSING") };
    Ok(kv::Request { id: Some(request_id(id)?), command: Command::Settle })
}

fn request_id(id: &wire::RequestId) -> Result<kv::RequestId, Promise> {
    let wire::RequestId { session, opened_at_ms, sequence, acknowledged_below } = id;
    if session.len() != 16 {
        return invalid("REQUEST_ID_SESSION_LENGTH");
    }
    if *sequence == 0 {
        return invalid("REQUEST_ID_SEQUENCE_ZERO");
    }
    if acknowledged_below > sequence {
        return invalid("REQUEST_ID_ACKNOWLEDGED_AHEAD");
    }
    let session = SessionId::new(session.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)));
    let (opened_at_ms, sequence, acknowledged_below) = (*opened_at_ms, *sequence, *acknowledged_below);
    Ok(kv::RequestId { session, opened_at_ms, sequence, acknowledged_below })
}

fn consistency(request: &GetRequest) -> Result<(), Promise> {
    match (request.consistency, request.max_staleness_ms) {
        (0..=2, None) | (3, None | Some(1..)) => Ok(()),
        (0..=2, Some(_)) => invalid("MAX_STALENESS_NOT_ALLOWED"),
        (3, Some(0)) => invalid("MAX_STALENESS_ZERO"),
        _ => invalid("CONSISTENCY_UNKNOWN"),
    }
}

/// What has to come of a request of admin.v1, or of none.
pub(super) fn administrative(kind: u8, body: &[u8], patience: Patience, model: &mut Model) -> Promise {
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
        UPDATE_SETTINGS => match UpdateSettingsRequest::decode(body) {
            Err(_) => malformed,
            Ok(_) if patience == Patience::Malformed => Promise::Refused(Code::InvalidArgument, "TIMEOUT_MALFORMED"),
            Ok(request) => update_settings(&request, model).unwrap_or_else(|refused| refused),
        },
        _ => Promise::Refused(Code::Unimplemented, "UNSUPPORTED"),
    }
}

fn update_settings(request: &UpdateSettingsRequest, model: &mut Model) -> Result<Promise, Promise> {
    let Some(lease_reads) = request.lease_reads else { return invalid("SETTING_MISSING") };
    let id = request.request_id.as_ref().map(request_id).transpose()?;
    match model.apply(TIME_MS, &kv::Request { id, command: Command::Configure { lease_reads } }) {
        Applied::Configured { settings } => {
            let settings = Some(Settings { lease_reads: settings.lease_reads });
            Ok(Promise::Settings(UpdateSettingsResponse { settings, time_ms: TIME_MS }))
        }
        Applied::Refused(refusal) => Err(of_refusal(refusal)),
        other => panic!("{other:?} does not come of a change of settings"),
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

/// An answer without how old the state was.
pub(super) fn ageless(answer: Response) -> Response {
    match answer {
        Response::Get(response) => Response::Get(GetResponse { staleness_ms: None, ..response }),
        answer => answer,
    }
}

/// The answer of a method of kv.v1.
pub(super) fn read_answer(kind: u8, message: &Bytes) -> Response {
    let message = message.clone();
    let answer = match kind {
        PUT => PutResponse::decode(message).map(Response::Put),
        GET => GetResponse::decode(message).map(Response::Get),
        DELETE => DeleteResponse::decode(message).map(Response::Delete),
        GET_OUTCOME => GetOutcomeResponse::decode(message).map(Response::GetOutcome),
        _ => panic!("method {kind} is none of kv.v1"),
    };
    answer.expect("an answer is a message")
}
