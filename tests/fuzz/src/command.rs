//! Arbitrary bytes as committed commands: decoded, compared with a second decoder, and applied to two stores and a map.
//!
//! The input is a sequence of commands. A byte says how each comes: as it stands in the input, or built from a few
//! bytes and then damaged, so that what is behind the first checks is reached as well.

use bytes::Bytes;
use engine::kv::command::{decode, encode};
use engine::kv::{
    Applied, InvalidRequestId, Refusal, Rejection, SessionLimits, Settled, Store, UnknownCommand, VALUE_BYTES_MAX,
};
use raft::Index;

use crate::hunting::Outcome;
use crate::input::Input;
use crate::model::{self, Model};

/// No input holds more commands than this.
const COMMANDS_MAX: usize = 64;

/// No input holds more large commands than this: they are slow, and none differs from the next.
const LARGE_MAX: usize = 2;

/// How a command comes is its byte modulo this.
pub const FORMS: u8 = 8;
/// A length of two bytes, and so many bytes as they are. Forms below it are built.
pub const VERBATIM: u8 = 5;
/// Built, and then damaged by some edits: a byte says how many; each is a place and a byte to be put there.
pub const DAMAGED: u8 = 6;
/// Built, and then of another length: two bytes are added to it as a signed number.
pub const RESIZED: u8 = 7;

/// Of a command's kind: it has a request id.
pub const WITH_ID: u8 = 1 << 3;
/// It settles an outcome, whatever else it would do.
pub const SETTLES: u8 = 1 << 4;
/// It changes a setting, whatever else it would do.
pub const CONFIGURES: u8 = 1 << 5;

/// Sessions go after seconds, a few or some hundred bytes, so that they do within one input.
const LIMITS: SessionLimits =
    SessionLimits { idle_ms: 3_000, sessions_max: 3, results_max: 4, session_bytes_max: 700, bytes_max: 1_700 };

/// A value whose length byte is from here on is one of the largest, or one byte too large.
pub const LARGE: u8 = 0xf0;

/// Runs one input: commands, one after the other.
///
/// # Panics
/// On a finding.
pub fn run(input: &[u8]) -> Outcome {
    let mut input = Input::new(input);
    let mut outcome = Outcome::default();
    let (mut first, mut second, mut model) =
        (Store::with_limits(LIMITS), Store::with_limits(LIMITS), Model::new(LIMITS));
    let mut large = 0;
    for number in 1..=COMMANDS_MAX as u64 {
        if input.is_empty() {
            break;
        }
        let encoded = next(&mut input, &model, &mut large);
        let expected = model::decode(&encoded);
        assert_eq!(decode(&encoded), expected, "the decoders disagree on {:02x?}", head(&encoded));
        let index = Index::new(number * 3);
        let hash = first.state_hash();
        let applied = first.apply(index, &encoded);
        // The other replica has the command in an allocation of its own.
        assert_eq!(second.apply(index, &Bytes::copy_from_slice(&encoded)), applied, "two replicas disagree");
        match expected {
            Ok((time_ms, request)) => {
                let again = encode(&request, time_ms).expect("what is decoded is within the limits");
                assert_eq!(again, encoded, "a command has one encoding");
                assert_eq!(applied, Ok(model.apply(time_ms, &request)), "{:02x?}", head(&encoded));
                outcome.accept(applied.as_ref().map_or("unknown", effect));
            }
            Err(unknown) => {
                assert_eq!(applied, Err(unknown), "{:02x?}", head(&encoded));
                assert_eq!(first.state_hash(), hash, "an unknown command changed something");
                outcome.refuse(reason(unknown));
            }
        }
        assert_eq!(first.state_hash(), second.state_hash(), "two replicas differ");
        assert_eq!(first.revision().get(), model.revision, "the revision");
        assert_eq!(first.time_ms(), model.time_ms, "replicated time");
        assert_eq!(first.session_count(), model.sessions.count(), "the sessions");
        assert_eq!(first.settings(), model.settings, "the settings");
    }
    assert_eq!(first.recompute_hash(), first.state_hash(), "the hash is not kept rightly");
    assert!(first.iter().eq(model.iter()), "the store is not what the model is");
    assert!(second.iter().all(|kv| model.get(&kv.key) == Some(kv)), "a key is not what the model has");
    outcome
}

/// So much of a command as can be read in a message.
fn head(encoded: &Bytes) -> &[u8] {
    &encoded[..encoded.len().min(64)]
}

fn next(input: &mut Input<'_>, model: &Model, large: &mut usize) -> Bytes {
    let form = input.u8() % FORMS;
    if form == VERBATIM {
        let count = usize::from(input.u16());
        return Bytes::copy_from_slice(input.bytes(count));
    }
    let mut encoded = build(input, model, large);
    match form {
        DAMAGED => {
            for _ in 0..input.below(8) {
                let at = usize::from(input.u8()).min(encoded.len() - 1);
                encoded[at] = input.u8();
            }
        }
        RESIZED => {
            let change = i16::from_le_bytes([input.u8(), input.u8()]);
            let length = encoded.len().saturating_add_signed(isize::from(change));
            encoded.resize(length, b'+');
        }
        _ => {}
    }
    encoded.into()
}

/// A command as the document has it, whether it is within the limits or not.
fn build(input: &mut Input<'_>, model: &Model, large: &mut usize) -> Vec<u8> {
    let kind = input.u8();
    let operation = match kind {
        _ if kind & CONFIGURES != 0 => 4,
        _ if kind & SETTLES != 0 => 3,
        _ => 1 + (kind >> 2 & 1),
    };
    let (version, detail) = (1 + (kind >> 3 & 1), kind & 3);
    let time_ms = input.number([model.time_ms, 0, 1_000, 1 << 40]);
    let key = key(input.u8());
    let expected = input.number([model.revision, 1, 2, 3]);
    let mut encoded = vec![version, operation, detail];
    encoded.extend_from_slice(&time_ms.to_le_bytes());
    if version == 2 {
        request_id(input, model, &mut encoded);
    }
    if operation > 2 {
        return encoded;
    }
    if (operation == 1 && detail == 3) || (operation == 2 && detail & 1 == 1) {
        encoded.extend_from_slice(&expected.to_le_bytes());
    }
    let key_bytes = u16::try_from(key.len()).expect("no key is that long");
    encoded.extend_from_slice(&key_bytes.to_le_bytes());
    if operation == 1 {
        let value = vec![b'v'; value_bytes(input.u8(), large)];
        let value_bytes = u32::try_from(value.len()).expect("no value is that long");
        encoded.extend_from_slice(&value_bytes.to_le_bytes());
        encoded.extend_from_slice(&key);
        encoded.extend_from_slice(&value);
    } else {
        encoded.extend_from_slice(&key);
    }
    encoded
}

/// Few sessions and sequences, so that requests meet.
fn request_id(input: &mut Input<'_>, model: &Model, encoded: &mut Vec<u8>) {
    encoded.extend_from_slice(&u128::from(input.u8() % 6).to_le_bytes());
    let sequence = input.number([1, 2, u64::MAX, 1 << 32]);
    for number in [input.number([model.time_ms, 0, 1_000, 4_000]), sequence, input.number([sequence, 0, 1, 2])] {
        encoded.extend_from_slice(&number.to_le_bytes());
    }
}

/// Few keys, so that commands meet; some at the limits and beyond.
fn key(byte: u8) -> Vec<u8> {
    match byte {
        0..0xe0 => vec![b'a' + byte % 5],
        0xe0 => Vec::new(),
        0xe1 => vec![0],
        0xe2 => vec![0xff; 1023],
        0xe3 => vec![0xff; 1024],
        0xe4 => vec![b'k'; 1025],
        0xe5 => vec![b'k'; 65_535],
        _ => vec![b'a', byte],
    }
}

fn value_bytes(byte: u8, large: &mut usize) -> usize {
    let around_limit = [VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1, VALUE_BYTES_MAX - 1, 2048, 2049];
    match byte {
        0..LARGE => usize::from(byte),
        _ if *large == LARGE_MAX => 1,
        _ => {
            *large += 1;
            around_limit[usize::from(byte - LARGE) % around_limit.len()]
        }
    }
}

/// Which effect a command had.
fn effect(applied: &Applied) -> &'static str {
    match applied {
        Applied::Put { version: 1, .. } => "created",
        Applied::Put { .. } => "updated",
        Applied::Deleted { previous: None, .. } => "deleted",
        Applied::Deleted { previous: Some(_), .. } => "deleted_and_returned",
        Applied::Rejected(Rejection::KeyExists { .. }) => "key_exists",
        Applied::Rejected(Rejection::KeyNotFound) => "key_not_found",
        Applied::Rejected(Rejection::RevisionMismatch { .. }) => "revision_mismatch",
        Applied::Refused(Refusal::SessionExpired { .. }) => "session_expired",
        Applied::Refused(Refusal::OpenedAhead { .. }) => "opened_ahead",
        Applied::Refused(Refusal::RequestIdReused) => "request_id_reused",
        Applied::Refused(Refusal::Fenced) => "fenced",
        Applied::Refused(Refusal::ResultForgotten) => "result_forgotten",
        Applied::Refused(Refusal::SessionFull) => "session_full",
        Applied::Settled(Settled::Result(_)) => "settled",
        Applied::Settled(Settled::NeverApplied) => "never_applied",
        Applied::Settled(Settled::Forgotten) => "forgotten",
        Applied::Configured { settings } if settings.lease_reads => "switched_on",
        Applied::Configured { .. } => "switched_off",
    }
}

fn reason(unknown: UnknownCommand) -> &'static str {
    match unknown {
        UnknownCommand::Version(_) => "version",
        UnknownCommand::Operation(_) => "operation",
        UnknownCommand::Mode(_) => "mode",
        UnknownCommand::Flags(_) => "flags",
        UnknownCommand::Detail(_) => "detail",
        UnknownCommand::Setting(_) => "setting",
        UnknownCommand::RequestId(InvalidRequestId::SequenceZero) => "sequence_zero",
        UnknownCommand::RequestId(InvalidRequestId::AcknowledgedAhead { .. }) => "acknowledged_ahead",
        UnknownCommand::NothingToSettle => "nothing_to_settle",
        UnknownCommand::Truncated => "truncated",
        UnknownCommand::KeyLength(_) => "key_length",
        UnknownCommand::ValueLength(_) => "value_length",
        UnknownCommand::TrailingBytes(_) => "trailing_bytes",
    }
}
