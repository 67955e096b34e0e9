//! Walks through every error and checks its status against the table.

use super::*;
use engine::kv::{InvalidRequestId, KEY_BYTES_MAX};
use rows::rows;
use std::collections::BTreeSet;

#[path = "error_rows.rs"]
mod rows;

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
            Violation::MaxStalenessNotAllowed => 41,
            Violation::MaxStalenessZero => 42,
            Violation::RevisionMissing => 8,
            Violation::RevisionNotAllowed => 9,
            Violation::RevisionZero => 10,
            Violation::RequestMissing => 11,
            Violation::SettingMissing => 45,
            Violation::TraceIdLength { .. } => 46,
            Violation::LogFilterTooLong { .. } => 47,
            Violation::LogFilterInvalid { .. } => 48,
            Violation::TagReused { .. } => 40,
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
        ApiError::Overloaded { .. } => 21,
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
        ApiError::TooStale { .. } => 43,
        ApiError::RevisionAhead { .. } => 44,
    }
}

const CASES: usize = 49;

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
            | ApiError::RevisionAhead { .. }
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
            ApiError::Overloaded { .. } | ApiError::SessionFull => {
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
            | ApiError::TooStale { .. }
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
        ApiError::KeyNotFound { key: key.clone(), store_revision: u64::MAX, staleness_ms: Some(u64::MAX) },
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
    let (revision, min_revision) = (7, 9);
    let too_stale = ApiError::from(ReadError::TooStale { age_ms: NonZeroU64::new(3), revision });
    assert_eq!(too_stale, ApiError::TooStale { age_ms: Some(3), revision: Some(revision) });
    let ahead = ApiError::from(ReadError::RevisionAhead { revision, min_revision });
    assert_eq!(ahead, ApiError::RevisionAhead { revision, min_revision });
    assert_eq!(ApiError::from(TransferError::DeadlineExceeded), ApiError::TransferTimedOut);
}
