//! Walks through every error and checks its status against the table.

use super::*;
use engine::kv::{InvalidRequestId, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::collections::BTreeSet;

/// One row: the error, its code, its reason, its message, whether a write's outcome is unknown, and the metadata.
type Row = (ApiError, Code, &'static str, &'static str, bool, &'static [(&'static str, &'static str)]);

fn leader() -> Leader {
    Leader { name: "n2".to_owned(), client_address: Some("h:7002".to_owned()), is_self: false }
}

fn key() -> String {
    "a".to_owned()
}

fn rejections() -> Vec<Row> {
    let mismatch = ApiError::RevisionMismatch { key: key(), expected: 3, actual: 5 };
    let exists = ApiError::KeyExists { key: key(), mod_revision: 7 };
    vec![
        (exists, Code::AlreadyExists, "KEY_EXISTS", "key already exists: a", false, &[("key", "a"), ("revision", "7")]),
        (
            ApiError::KeyNotFound { key: key() },
            Code::NotFound,
            "KEY_NOT_FOUND",
            "key not found: a",
            false,
            &[("key", "a")],
        ),
        (
            mismatch,
            Code::FailedPrecondition,
            "REVISION_MISMATCH",
            "the key has revision 5 and not the expected 3: a",
            false,
            &[("key", "a"), ("expectedRevision", "3"), ("currentRevision", "5")],
        ),
    ]
}

fn malformed() -> Vec<Row> {
    let cause = || "why".to_owned();
    let long = ApiError::MessageTooLarge { limit_bytes: 9, cause: cause() };
    let timeout = ApiError::TimeoutMalformed { value: "soon".to_owned() };
    vec![
        (
            timeout,
            Code::InvalidArgument,
            "TIMEOUT_MALFORMED",
            "the metadata entry grpc-timeout is malformed: soon",
            false,
            &[("value", "soon")],
        ),
        (
            long,
            Code::InvalidArgument,
            "MESSAGE_TOO_LARGE",
            "the request is larger than 9 bytes: why",
            false,
            &[("limitBytes", "9"), ("cause", "why")],
        ),
        (
            ApiError::Malformed { cause: cause() },
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
            "the request cannot be decoded: why",
            false,
            &[("cause", "why")],
        ),
        (
            ApiError::Unsupported { cause: cause() },
            Code::Unimplemented,
            "UNSUPPORTED",
            "the server does not support this: why",
            false,
            &[("cause", "why")],
        ),
    ]
}

fn transfers() -> Vec<Row> {
    let target = || "n9".to_owned();
    vec![
        (
            ApiError::NotAVoter { target: target() },
            Code::InvalidArgument,
            "TARGET_NOT_VOTER",
            "the target is not a voting member: n9",
            false,
            &[("target", "n9")],
        ),
        (
            ApiError::AlreadyLeader { target: target() },
            Code::FailedPrecondition,
            "TARGET_LEADS_ALREADY",
            "the target leads already: n9",
            false,
            &[("target", "n9")],
        ),
        (
            ApiError::NobodyElse,
            Code::FailedPrecondition,
            "NO_OTHER_VOTER",
            "there is no other voting member",
            false,
            &[],
        ),
        (
            ApiError::TransferTimedOut,
            Code::DeadlineExceeded,
            "TRANSFER_TIMED_OUT",
            "the handover did not end in time; the old leader goes on",
            false,
            &[],
        ),
    ]
}

fn unavailable() -> Vec<Row> {
    let cause = || "why".to_owned();
    vec![
        (
            ApiError::NotLeader { leader: Some(leader()), term: 4 },
            Code::Unavailable,
            "NOT_LEADER",
            "this node does not lead",
            false,
            &[("leaderId", "n2"), ("leaderAddress", "h:7002"), ("term", "4")],
        ),
        (
            ApiError::NotLeader { leader: None, term: 4 },
            Code::Unavailable,
            "NOT_LEADER",
            "this node does not lead",
            false,
            &[("term", "4")],
        ),
        (
            ApiError::NoQuorum { cause: cause(), voters: 5, term: 4 },
            Code::Unavailable,
            "NO_QUORUM",
            "no leader could be reached in time: why",
            false,
            &[("cause", "why"), ("needed", "3"), ("term", "4")],
        ),
        (
            ApiError::NotReady { cause: cause() },
            Code::Unavailable,
            "NOT_READY",
            "this node is not ready: why",
            false,
            &[("cause", "why")],
        ),
        (
            ApiError::Transferring,
            Code::Unavailable,
            "LEADERSHIP_TRANSFERRING",
            "leadership is being handed over",
            false,
            &[],
        ),
        (ApiError::Draining, Code::Unavailable, "DRAINING", "the node is shutting down", false, &[]),
        (ApiError::Overloaded, Code::ResourceExhausted, "OVERLOADED", "too many requests are under way", false, &[]),
        (
            ApiError::StorageFull,
            Code::ResourceExhausted,
            "STORAGE_FULL",
            "the leader's disk is almost full: nothing is written that needs room; make some there, or delete keys",
            false,
            &[],
        ),
    ]
}

fn outcomes() -> Vec<Row> {
    let unknown =
        |position, deadline_exceeded| ApiError::OutcomeUnknown { cause: "why".to_owned(), position, deadline_exceeded };
    let unknown_message = "the write may or may not have been applied: why";
    vec![
        (
            ApiError::ProposalDropped { term: 4 },
            Code::Unavailable,
            "PROPOSAL_DROPPED",
            "the proposal was overwritten by the leader of term 4",
            false,
            &[("term", "4")],
        ),
        (
            ApiError::DeadlineExceeded,
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            "the deadline passed and nothing was changed",
            false,
            &[],
        ),
        (
            unknown(Some((4, 9)), true),
            Code::DeadlineExceeded,
            "OUTCOME_UNKNOWN",
            unknown_message,
            true,
            &[("cause", "why"), ("term", "4"), ("index", "9")],
        ),
        (unknown(None, false), Code::Unknown, "OUTCOME_UNKNOWN", unknown_message, true, &[("cause", "why")]),
    ]
}

fn sessions() -> Vec<Row> {
    vec![
        (
            ApiError::SessionExpired { time_ms: 8 },
            Code::FailedPrecondition,
            "SESSION_EXPIRED",
            "the session has expired: whether an earlier copy of this write was applied is not known",
            true,
            &[("timeMs", "8")],
        ),
        (
            ApiError::RequestIdAhead { time_ms: 8 },
            Code::InvalidArgument,
            "REQUEST_ID_AHEAD",
            "the request id's session was opened at a time that is still to come",
            false,
            &[("timeMs", "8")],
        ),
        (
            ApiError::RequestIdReused,
            Code::InvalidArgument,
            "REQUEST_ID_REUSED",
            "the request id was given to another request before",
            false,
            &[],
        ),
        (
            ApiError::RequestFenced,
            Code::Aborted,
            "REQUEST_FENCED",
            "the write was settled as one that is never applied",
            false,
            &[],
        ),
        (
            ApiError::ResultForgotten,
            Code::FailedPrecondition,
            "RESULT_FORGOTTEN",
            "the client had acknowledged this write: whether it was applied is not kept any more",
            true,
            &[],
        ),
        (
            ApiError::SessionFull,
            Code::ResourceExhausted,
            "SESSION_FULL",
            "the session keeps too many results that the client did not acknowledge",
            false,
            &[],
        ),
    ]
}

fn row(
    violation: Violation,
    reason: &'static str,
    message: &'static str,
    metadata: &'static [(&'static str, &'static str)],
) -> Row {
    (ApiError::Invalid(violation), Code::InvalidArgument, reason, message, false, metadata)
}

fn violations() -> Vec<Row> {
    vec![
        row(Violation::KeyEmpty, "KEY_EMPTY", "the key is empty", &[]),
        row(
            Violation::KeyTooLarge { actual_bytes: 1025 },
            "KEY_TOO_LARGE",
            "the key has 1025 bytes and may have 1024",
            &[("limitBytes", "1024"), ("actualBytes", "1025")],
        ),
        row(
            Violation::ValueTooLarge { actual_bytes: VALUE_BYTES_MAX + 1 },
            "VALUE_TOO_LARGE",
            "the value has 1048577 bytes and may have 1048576",
            &[("limitBytes", "1048576"), ("actualBytes", "1048577")],
        ),
        row(Violation::ModeUnknown { number: 9 }, "MODE_UNKNOWN", "mode 9 is unknown", &[("number", "9")]),
        row(
            Violation::ConsistencyUnknown { number: -1 },
            "CONSISTENCY_UNKNOWN",
            "consistency -1 is unknown",
            &[("number", "-1")],
        ),
        row(
            Violation::RevisionMissing,
            "EXPECTED_REVISION_MISSING",
            "expected_revision is required with PUT_MODE_COMPARE",
            &[],
        ),
        row(
            Violation::RevisionNotAllowed,
            "EXPECTED_REVISION_NOT_ALLOWED",
            "expected_revision is only allowed with PUT_MODE_COMPARE",
            &[],
        ),
        row(Violation::RevisionZero, "EXPECTED_REVISION_ZERO", "expected_revision must be at least 1", &[]),
        row(Violation::RequestIdMissing, "REQUEST_ID_MISSING", "the request id is missing", &[]),
        row(
            Violation::SessionLength { actual_bytes: 15 },
            "REQUEST_ID_SESSION_LENGTH",
            "the request id's session has 15 bytes and has to have 16",
            &[("expectedBytes", "16"), ("actualBytes", "15")],
        ),
        row(
            Violation::RequestId(InvalidRequestId::SequenceZero),
            "REQUEST_ID_SEQUENCE_ZERO",
            "the request id is out of bounds: the sequence is 0, and the first is 1",
            &[],
        ),
        row(
            Violation::RequestId(InvalidRequestId::AcknowledgedAhead { sequence: 3, acknowledged_below: 4 }),
            "REQUEST_ID_ACKNOWLEDGED_AHEAD",
            "the request id is out of bounds: acknowledged_below is 4, above the request's own sequence 3",
            &[("sequence", "3"), ("acknowledgedBelow", "4")],
        ),
        row(Violation::RequestMissing, "REQUEST_MISSING", "the forwarded request is missing", &[]),
    ]
}

fn rows() -> impl Iterator<Item = Row> {
    [rejections(), malformed(), transfers(), unavailable(), outcomes(), sessions(), violations()].into_iter().flatten()
}

/// The number of a case. A new case does not compile until it has one, and then fails until it has a row.
fn number(error: &ApiError) -> usize {
    match error {
        ApiError::KeyExists { .. } => 0,
        ApiError::KeyNotFound { .. } => 1,
        ApiError::RevisionMismatch { .. } => 2,
        ApiError::Invalid(violation) => match violation {
            Violation::KeyEmpty => 3,
            Violation::KeyTooLarge { .. } => 4,
            Violation::ValueTooLarge { .. } => 5,
            Violation::ModeUnknown { .. } => 6,
            Violation::ConsistencyUnknown { .. } => 7,
            Violation::RevisionMissing => 8,
            Violation::RevisionNotAllowed => 9,
            Violation::RevisionZero => 10,
            Violation::RequestMissing => 11,
            Violation::RequestIdMissing => 30,
            Violation::SessionLength { .. } => 31,
            Violation::RequestId(InvalidRequestId::SequenceZero) => 32,
            Violation::RequestId(InvalidRequestId::AcknowledgedAhead { .. }) => 33,
        },
        ApiError::TimeoutMalformed { .. } => 12,
        ApiError::MessageTooLarge { .. } => 13,
        ApiError::Malformed { .. } => 14,
        ApiError::Unsupported { .. } => 15,
        ApiError::NotLeader { .. } => 16,
        ApiError::NoQuorum { .. } => 17,
        ApiError::NotReady { .. } => 18,
        ApiError::Transferring => 19,
        ApiError::Draining => 20,
        ApiError::Overloaded => 21,
        ApiError::ProposalDropped { .. } => 22,
        ApiError::DeadlineExceeded => 23,
        ApiError::OutcomeUnknown { .. } => 24,
        ApiError::NotAVoter { .. } => 25,
        ApiError::AlreadyLeader { .. } => 26,
        ApiError::NobodyElse => 27,
        ApiError::TransferTimedOut => 28,
        ApiError::StorageFull => 29,
        ApiError::SessionExpired { .. } => 34,
        ApiError::RequestIdAhead { .. } => 35,
        ApiError::RequestIdReused => 36,
        ApiError::RequestFenced => 37,
        ApiError::ResultForgotten => 38,
        ApiError::SessionFull => 39,
    }
}

const CASES: usize = 40;

#[test]
fn every_case_has_a_row() {
    let found: BTreeSet<usize> = rows().map(|(error, ..)| number(&error)).collect();
    assert_eq!(found, (0..CASES).collect());
}

#[test]
fn every_status_is_as_the_table_says() {
    for (error, code, reason, message, unknown, metadata) in rows() {
        let status = error.to_status(CallKind::Write);
        assert_eq!((status.code(), status.message()), (code, message), "{error:?}");
        let details = status.get_error_details_vec();
        let infos = details.iter().filter(|detail| matches!(detail, tonic_types::ErrorDetail::ErrorInfo(_)));
        assert_eq!(infos.count(), 1, "{error:?}");
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("quorate", reason), "{error:?}");
        let (outcome, trailer) = if unknown { ("UNKNOWN", "unknown") } else { ("NOT_APPLIED", "not-applied") };
        let mut expected: HashMap<String, String> =
            metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        expected.insert("outcome".to_owned(), outcome.to_owned());
        assert_eq!(info.metadata, expected, "{error:?}");
        assert_eq!(status.metadata().get("kv-outcome").map(|value| value.as_bytes()), Some(trailer.as_bytes()));

        let other = error.to_status(CallKind::Other);
        let info = other.get_details_error_info().expect("an ErrorInfo");
        assert!(!info.metadata.contains_key("outcome") && !other.metadata().contains_key("kv-outcome"), "{error:?}");
    }
}

#[test]
fn reasons_and_keys_are_written_as_they_should() {
    for (error, ..) in rows() {
        let info = error.to_status(CallKind::Write).get_details_error_info().expect("an ErrorInfo");
        assert!(info.reason.len() <= 63);
        assert!(info.reason.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{}", info.reason);
        for key in info.metadata.keys() {
            assert!(key.starts_with(|first: char| first.is_ascii_lowercase()), "{key}");
            assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{key}");
        }
    }
}

#[test]
fn details_fit_the_case() {
    for (error, ..) in rows() {
        let status = error.to_status(CallKind::Write);
        let details = status.get_error_details();
        let pushback = status.metadata().get("grpc-retry-pushback-ms").map(|value| value.as_bytes().to_vec());
        let expected = match &error {
            ApiError::KeyExists { .. } | ApiError::KeyNotFound { .. } => {
                let resource = details.resource_info().expect("a ResourceInfo");
                assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("key", "a"));
                None
            }
            ApiError::RevisionMismatch { .. }
            | ApiError::AlreadyLeader { .. }
            | ApiError::NobodyElse
            | ApiError::SessionExpired { .. }
            | ApiError::ResultForgotten => {
                assert!(details.has_precondition_failure_violations());
                None
            }
            ApiError::Invalid(_)
            | ApiError::NotAVoter { .. }
            | ApiError::RequestIdAhead { .. }
            | ApiError::RequestIdReused => {
                let request = details.bad_request().expect("a BadRequest");
                assert!(!request.field_violations[0].field.is_empty());
                None
            }
            ApiError::NoQuorum { .. } | ApiError::Transferring | ApiError::ProposalDropped { .. } => {
                assert!(details.retry_info().is_some());
                None
            }
            ApiError::Overloaded | ApiError::SessionFull => {
                assert!(details.retry_info().is_some());
                Some(b"100".to_vec())
            }
            ApiError::StorageFull => {
                assert_eq!(details.quota_failure().expect("a QuotaFailure").violations[0].subject, "disk");
                assert!(details.retry_info().is_none(), "nobody knows when there is room");
                None
            }
            ApiError::NotLeader { .. } => Some(b"0".to_vec()),
            ApiError::TimeoutMalformed { .. }
            | ApiError::MessageTooLarge { .. }
            | ApiError::Malformed { .. }
            | ApiError::Unsupported { .. }
            | ApiError::NotReady { .. }
            | ApiError::Draining
            | ApiError::DeadlineExceeded
            | ApiError::RequestFenced
            | ApiError::OutcomeUnknown { .. }
            | ApiError::TransferTimedOut => None,
        };
        assert_eq!(pushback, expected, "{error:?}");
    }
}

#[test]
fn unavailable_never_means_that_a_write_may_have_been_applied() {
    for (error, code, .., unknown, _) in rows() {
        assert!(!(unknown && code == Code::Unavailable), "generic retries would send it twice: {error:?}");
    }
}

/// Clients of the C core may refuse more than this many bytes of trailers.
const TRAILERS_BYTES_MAX: usize = 8 << 10;

#[test]
fn the_longest_key_fits_the_trailers_of_any_client() {
    // Characters of three bytes are percent-encoded to nine.
    let key = "\u{20ac}".repeat(KEY_BYTES_MAX / 3);
    for error in [
        ApiError::KeyExists { key: key.clone(), mod_revision: u64::MAX },
        ApiError::KeyNotFound { key: key.clone() },
        ApiError::RevisionMismatch { key: key.clone(), expected: u64::MAX, actual: u64::MAX - 1 },
    ] {
        let response = error.to_status(CallKind::Write).into_http::<()>();
        // HTTP/2 counts 32 bytes for each entry.
        let bytes: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < TRAILERS_BYTES_MAX, "{bytes} bytes");
    }
}

#[test]
fn what_a_node_says_becomes_the_error_that_it_means() {
    let not_leader = Unavailable::NotLeader { leader: None, term: 3 };
    for (error, expected, unknown) in [
        (WriteError::Unavailable(not_leader), "NOT_LEADER", false),
        (WriteError::Unavailable(Unavailable::NotReady("why".to_owned())), "NOT_READY", false),
        (WriteError::Unavailable(Unavailable::Overloaded), "OVERLOADED", false),
        (WriteError::Unavailable(Unavailable::StorageFull), "STORAGE_FULL", false),
        (WriteError::Unavailable(Unavailable::Transferring), "LEADERSHIP_TRANSFERRING", false),
        (WriteError::Unavailable(Unavailable::Draining), "DRAINING", false),
        (WriteError::Dropped { term: 3 }, "PROPOSAL_DROPPED", false),
        (WriteError::Expired, "DEADLINE_EXCEEDED", false),
        (WriteError::DeadlineExceeded { term: 3, index: 5 }, "OUTCOME_UNKNOWN", true),
        (WriteError::Stopped, "OUTCOME_UNKNOWN", true),
    ] {
        let status = ApiError::from(error.clone()).to_status(CallKind::Write);
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.reason, expected, "{error:?}");
        assert_eq!(info.metadata["outcome"] == "UNKNOWN", unknown, "{error:?}");
    }
    for (refusal, expected) in [
        (Refusal::SessionExpired { time_ms: 8 }, ApiError::SessionExpired { time_ms: 8 }),
        (Refusal::OpenedAhead { time_ms: 8 }, ApiError::RequestIdAhead { time_ms: 8 }),
        (Refusal::RequestIdReused, ApiError::RequestIdReused),
        (Refusal::Fenced, ApiError::RequestFenced),
        (Refusal::ResultForgotten, ApiError::ResultForgotten),
        (Refusal::SessionFull, ApiError::SessionFull),
    ] {
        assert_eq!(ApiError::from(refusal), expected);
    }
    assert_eq!(ApiError::from(ReadError::DeadlineExceeded), ApiError::DeadlineExceeded);
    assert_eq!(ApiError::from(TransferError::DeadlineExceeded), ApiError::TransferTimedOut);
}
