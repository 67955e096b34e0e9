//! Arbitrary bytes as the requests of kv.v1 and admin.v1, from the frame to the status of the answer.
//!
//! The input is a sequence of calls. Each comes as raw Protobuf, or is built from a few bytes and then damaged. It goes
//! through the real services, limits and mapping of errors to an engine that leads, and its answer is compared with
//! what the interface promises, which is written down here a second time.

mod promise;
mod request;
mod shell;

use bytes::{Bytes, BytesMut};
use engine::kv::SessionLimits;
use prost::Message as _;
use proto::admin::v1::UpdateSettingsResponse;
use proto::raft::v1::ForwardRequest;
use proto::raft::v1::forward_request::Request;
use proto::raft::v1::forward_response::Response;
use quorate_server::api::limits::MESSAGE_BYTES_MAX;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::hunting::Outcome;
use crate::input::Input;
use crate::model::Model;
use promise::{Promise, ageless, promise, read_answer};
use request::{body, method};
use shell::{Reply, Shell, frame, with_shell};

pub use request::{
    ADMIN_STATUS, BUILT, DAMAGED, DELETE, FORWARD, FRAMED, GET, GET_OUTCOME, LIST_MEMBERS, METHODS, PUT, TIMED,
    TRANSFER, UNKNOWN, UPDATE_SETTINGS,
};

/// No input has more calls than this.
const CALLS_MAX: usize = 24;

/// What a client may say of its patience; each is either none at all or far from what decides.
const TIMEOUTS: [(&str, Patience); 8] = [
    ("5S", Patience::Long),
    ("99999999H", Patience::Long),
    ("1n", Patience::None),
    ("0S", Patience::None),
    ("", Patience::Malformed),
    ("-1S", Patience::Malformed),
    ("123456789S", Patience::Malformed),
    ("5 S", Patience::Malformed),
];

/// What a timeout amounts to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Long,
    None,
    Malformed,
}

/// Runs one input: calls, one after the other.
///
/// # Panics
/// On a finding.
pub fn run(input: &[u8]) -> Outcome {
    with_shell(|shell| {
        let mut outcome = Outcome::default();
        let (mut input, mut model) = (Input::new(input), Model::new(SessionLimits::default()));
        for _ in 0..CALLS_MAX {
            if input.is_empty() {
                break;
            }
            call(shell, &mut model, &mut input, &mut outcome);
            let led = shell.led();
            let store = led.engine.store();
            assert_eq!(store.revision().get(), model.revision, "the revision is not the model's");
            drop(led);
            assert!(shell.is_idle(), "a call that is answered still holds a place");
        }
        let led = shell.led();
        let store = led.engine.store();
        assert!(store.iter().eq(model.iter()), "the store is not what the model is");
        assert_eq!(store.settings(), model.settings, "the settings are not the model's");
        assert_eq!(store.recompute_hash(), store.state_hash(), "the hash is not kept rightly");
        outcome
    })
}

fn call(shell: &Shell, model: &mut Model, input: &mut Input<'_>, outcome: &mut Outcome) {
    let (kind, form) = (input.u8() % METHODS, input.u8());
    let timeout = (form & TIMED != 0).then(|| TIMEOUTS[input.below(TIMEOUTS.len())]);
    let body = body(kind, form, model, input);
    if kind == FORWARD {
        forward(shell, model, &body, outcome);
        return;
    }
    let mut framed = frame(&body);
    if form & FRAMED != 0 {
        damage_frame(&mut framed, input);
    }
    let message = whole_message(&framed);
    let reply = shell.call(method(kind), framed.freeze(), timeout.map(|(text, _)| text));
    let patience = timeout.map_or(Patience::Long, |(_, patience)| patience);
    if patience == Patience::None {
        // The headers say enough: the message is not even read.
        check(kind, Promise::Refused(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), &reply, outcome);
        return;
    }
    let Some(body) = message else {
        let status = reply.expect_err("a broken frame is served");
        check_status(kind, &status);
        outcome.refuse("broken_frame");
        return;
    };
    let promised = match request(kind, &body) {
        Some(Ok(request)) => promise(&request, patience, model),
        Some(Err(_)) => Promise::Refused(Code::InvalidArgument, "MESSAGE_MALFORMED"),
        None => promise::administrative(kind, &body, patience, model),
    };
    check(kind, promised, &reply, outcome);
}

/// The request of kv.v1 in a body, if it is one of those.
fn request(kind: u8, body: &[u8]) -> Option<Result<Request, prost::DecodeError>> {
    Some(match kind {
        PUT => proto::kv::v1::PutRequest::decode(body).map(Request::Put),
        GET => proto::kv::v1::GetRequest::decode(body).map(Request::Get),
        DELETE => proto::kv::v1::DeleteRequest::decode(body).map(Request::Delete),
        GET_OUTCOME => proto::kv::v1::GetOutcomeRequest::decode(body).map(Request::GetOutcome),
        _ => return None,
    })
}

/// Changes a byte of the frame's head, cuts it, or doubles it.
fn damage_frame(framed: &mut BytesMut, input: &mut Input<'_>) {
    match input.u8() % 8 {
        at @ 0..5 => framed[usize::from(at)] = input.u8(),
        5 => framed.truncate(input.below(framed.len() + 1)),
        6 => framed.extend_from_slice(&framed.clone()),
        _ => framed.clear(),
    }
}

/// The message of a body that consists of whole frames without compression: that of the first, as the others are
/// nobody's. `None` if the body is no such thing.
fn whole_message(body: &[u8]) -> Option<Bytes> {
    let mut first = None;
    let mut rest = body;
    while let Some((head, behind)) = rest.split_first_chunk::<5>() {
        let [flag, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        if flag != 0 || length > MESSAGE_BYTES_MAX || length > behind.len() {
            return None;
        }
        first = first.or_else(|| Some(Bytes::copy_from_slice(&behind[..length])));
        rest = &behind[length..];
    }
    first.filter(|_| rest.is_empty())
}

fn forward(shell: &Shell, model: &mut Model, body: &Bytes, outcome: &mut Outcome) {
    let Ok(request) = ForwardRequest::decode(body.clone()) else {
        outcome.refuse("forwarded_and_malformed");
        return;
    };
    if request.question {
        let response = shell.forwarded(request).expect("whoever leads passes everything on");
        assert_eq!(response.response, None, "a question is answered with something else");
        outcome.accept("question");
        return;
    }
    let promised = match &request.request {
        Some(request) => promise(request, Patience::Long, model),
        None => Promise::Refused(Code::InvalidArgument, "REQUEST_MISSING"),
    };
    let kind = match &request.request {
        Some(Request::Get(_)) => GET,
        Some(Request::Delete(_)) => DELETE,
        Some(Request::GetOutcome(_)) => GET_OUTCOME,
        Some(Request::Put(_)) | None => PUT,
    };
    let reply = shell.forwarded(request);
    outcome.mark("forwarded");
    match (promised, reply) {
        (Promise::Answer(promised), Ok(response)) => {
            assert_eq!(response.response, Some(*promised), "a forwarded request is answered with something else");
            outcome.accept("forwarded_and_answered");
        }
        (Promise::Aged(promised), Ok(response)) => {
            let found = response.response.map(ageless);
            assert_eq!(found, Some(Response::Get(*promised)), "a forwarded get is answered with something else");
            outcome.accept("forwarded_and_answered");
        }
        // Nobody forwards a read that needs no leader; if it were, its asker would say what became of it.
        (Promise::Refused(_, "NO_QUORUM"), Err(status)) => {
            check_refusal(kind, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), &status, outcome);
        }
        (Promise::Refused(code, reason), Err(status)) => check_refusal(kind, (code, reason), &status, outcome),
        (promised, reply) => panic!("{promised:?} was promised, and {reply:?} is the answer"),
    }
}

fn check(kind: u8, promised: Promise, reply: &Reply, outcome: &mut Outcome) {
    match (promised, reply) {
        (Promise::Answer(promised), Ok(message)) => {
            assert_eq!(read_answer(kind, message), *promised, "the answer is not what was promised");
            outcome.accept(method(kind));
        }
        (Promise::Aged(promised), Ok(message)) => {
            let found = ageless(read_answer(kind, message));
            assert_eq!(found, Response::Get(*promised), "the answer is not what was promised");
            outcome.accept(method(kind));
        }
        (Promise::Settings(promised), Ok(message)) => {
            let told = UpdateSettingsResponse::decode(message.clone());
            assert_eq!(told, Ok(promised), "the settings are not what was promised");
            outcome.accept(method(kind));
        }
        (Promise::Anything, Ok(_)) => outcome.accept(method(kind)),
        (Promise::Refused(code, reason), Err(status)) => check_refusal(kind, (code, reason), status, outcome),
        (promised, reply) => panic!("{promised:?} was promised, and {reply:?} is the answer of {}", method(kind)),
    }
}

fn check_refusal(kind: u8, (code, reason): (Code, &'static str), status: &Status, outcome: &mut Outcome) {
    assert_eq!(status.code(), code, "{reason} was promised: {status:?}");
    assert_eq!(check_status(kind, status), reason, "{status:?}");
    outcome.refuse(reason);
}

/// What holds for every status that is not OK: it has our own details, and that of a write says whether nothing was
/// done. Returns its reason.
fn check_status(kind: u8, status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("a status without details: {status:?}"));
    assert_eq!(info.domain, "quorate", "{status:?}");
    let is_write = [PUT, DELETE, UPDATE_SETTINGS].contains(&kind);
    let is_unknown = ["SESSION_EXPIRED", "RESULT_FORGOTTEN"].contains(&info.reason.as_str());
    let outcome = is_write.then_some(if is_unknown { "UNKNOWN" } else { "NOT_APPLIED" });
    assert_eq!(info.metadata.get("outcome").map(String::as_str), outcome, "{status:?}");
    assert_eq!(status.metadata().get("kv-outcome").is_some(), is_write, "{status:?}");
    info.reason
}
