//! The table of errors, as the tests check it: one row for each case.

use std::time::Duration;

use engine::kv::{InvalidRequestId, VALUE_BYTES_MAX};
use tonic::Code;

use crate::api::error::ApiError;
use crate::api::validate::Violation;
use crate::node::Leader;

/// One row: the error, its code, its reason, its message, whether a write's outcome is unknown, and the metadata.
pub(super) type Row = (ApiError, Code, &'static str, &'static str, bool, &'static [(&'static str, &'static str)]);

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
            ApiError::KeyNotFound { key: key(), store_revision: 9, staleness_ms: None },
            Code::NotFound,
            "KEY_NOT_FOUND",
            "key not found: a",
            false,
            &[("key", "a"), ("storeRevision", "9")],
        ),
        (
            ApiError::KeyNotFound { key: key(), store_revision: 9, staleness_ms: Some(5) },
            Code::NotFound,
            "KEY_NOT_FOUND",
            "key not found: a",
            false,
            &[("key", "a"), ("storeRevision", "9"), ("stalenessMs", "5")],
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

fn administrative() -> Vec<Row> {
    let target = || "n9".to_owned();
    vec![
        row(Violation::SettingMissing, "SETTING_MISSING", "no setting is named", &[]),
        row(
            Violation::TraceIdLength { actual_bytes: 8 },
            "TRACE_ID_LENGTH",
            "the id of the trace has 8 bytes and has to have 16",
            &[("expectedBytes", "16"), ("actualBytes", "8")],
        ),
        row(
            Violation::LogFilterTooLong { actual_bytes: 1025 },
            "LOG_FILTER_TOO_LONG",
            "the log filter has 1025 bytes, and at most 1024 are allowed",
            &[("limitBytes", "1024"), ("actualBytes", "1025")],
        ),
        row(Violation::LogFilterInvalid { cause: "why".to_owned() }, "LOG_FILTER_INVALID", "why", &[]),
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
            ApiError::NoQuorum { cause: cause(), voters: 5, reachable: 2, term: 4 },
            Code::Unavailable,
            "NO_QUORUM",
            "no leader could be reached in time: why",
            false,
            &[("cause", "why"), ("reachable", "2"), ("needed", "3"), ("term", "4")],
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
        (
            ApiError::Overloaded { retry_after: Duration::from_millis(100) },
            Code::ResourceExhausted,
            "OVERLOADED",
            "too many requests are under way",
            false,
            &[],
        ),
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

fn stale() -> Vec<Row> {
    vec![
        (
            ApiError::TooStale { age_ms: Some(812), revision: Some(7) },
            Code::Unavailable,
            "STALENESS_BOUND_EXCEEDED",
            "this node's own state is not good enough: its revision is 7, and it may be 812 ms old",
            false,
            &[("revision", "7"), ("lagMs", "812")],
        ),
        (
            ApiError::TooStale { age_ms: None, revision: None },
            Code::Unavailable,
            "STALENESS_BOUND_EXCEEDED",
            "this node's own state is not good enough: the deadline passed before there was a better one",
            false,
            &[],
        ),
        (
            ApiError::TooStale { age_ms: None, revision: Some(7) },
            Code::Unavailable,
            "STALENESS_BOUND_EXCEEDED",
            "this node's own state is not good enough: its revision is 7, and how old it is cannot be proven",
            false,
            &[("revision", "7")],
        ),
        (
            ApiError::RevisionAhead { revision: 7, min_revision: 9 },
            Code::OutOfRange,
            "REVISION_AHEAD",
            "the store has revision 7 and never gave out 9: it is another cluster's, or was set back",
            false,
            &[("revision", "7"), ("minRevision", "9")],
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
            Violation::MaxStalenessNotAllowed,
            "MAX_STALENESS_NOT_ALLOWED",
            "max_staleness_ms is only allowed with CONSISTENCY_STALE",
            &[],
        ),
        row(Violation::MaxStalenessZero, "MAX_STALENESS_ZERO", "max_staleness_ms must be at least 1", &[]),
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
        row(Violation::RequestMissing, "REQUEST_MISSING", "the request is missing", &[]),
        row(
            Violation::TagReused { tag: 7 },
            "TAG_REUSED",
            "another request with the tag 7 is under way on the stream",
            &[("tag", "7")],
        ),
    ]
}

pub(super) fn rows() -> impl Iterator<Item = Row> {
    let refused = [malformed(), administrative(), unavailable(), stale(), violations()];
    [rejections(), outcomes(), sessions()].into_iter().chain(refused).flatten()
}
