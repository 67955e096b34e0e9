//! Every error that a client can be told, provoked at real processes: the table of what each says, and the proof that
//! no error is without a row and no row without a test.

pub(crate) mod availability;
mod elections;
mod requests;
mod sessions;

use std::collections::{BTreeSet, HashMap};
use tests::rpc::Outcome;
use tonic::{Code, Status};
use tonic_types::{ErrorDetail, StatusExt as _};

/// What an error is the answer to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Call {
    /// A put, a delete or a change of settings: the error says what became of it.
    Write,
    /// Anything else: it does not.
    Other,
}

/// What an error has beside its `ErrorInfo`.
#[derive(Clone, Copy, Debug)]
enum Detail {
    Nothing,
    /// A `ResourceInfo` that names the key.
    Resource,
    /// A `BadRequest` that names the field.
    Field(&'static str),
    /// A `PreconditionFailure` of this type.
    Precondition(&'static str),
    /// A `QuotaFailure` of this subject.
    Quota(&'static str),
    /// A `RetryInfo`.
    Retry,
}

/// The trailer `grpc-retry-pushback-ms` of an error.
#[derive(Clone, Copy, Debug)]
enum Pushback {
    Nothing,
    /// Asked elsewhere, the request may be run at once.
    AtOnce,
    /// As long as the `RetryInfo` says, which depends on how much is to be done.
    AsRetryInfo,
}

/// A row of the table: what an error says.
struct Row {
    reason: &'static str,
    code: Code,
    outcome: Outcome,
    /// The keys of its metadata, without `outcome`.
    metadata: &'static [&'static str],
    detail: Detail,
    pushback: Pushback,
}

const fn row(
    reason: &'static str,
    code: Code,
    outcome: Outcome,
    metadata: &'static [&'static str],
    detail: Detail,
) -> Row {
    Row { reason, code, outcome, metadata, detail, pushback: Pushback::Nothing }
}

/// A request that breaks a rule of the interface in one field.
const fn invalid(reason: &'static str, field: &'static str, metadata: &'static [&'static str]) -> Row {
    row(reason, Code::InvalidArgument, Outcome::NotApplied, metadata, Detail::Field(field))
}

const fn with_pushback(row: Row, pushback: Pushback) -> Row {
    Row { pushback, ..row }
}

const ROWS: [Row; 50] = {
    use Code::{
        Aborted, AlreadyExists, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound, OutOfRange,
        ResourceExhausted, Unavailable, Unimplemented, Unknown,
    };
    use Detail::{Nothing, Precondition, Quota, Resource, Retry};
    use Outcome::NotApplied;
    use Pushback::{AsRetryInfo, AtOnce};
    [
        row("KEY_EXISTS", AlreadyExists, NotApplied, &["key", "revision"], Resource),
        row("KEY_NOT_FOUND", NotFound, NotApplied, &["key", "storeRevision"], Resource),
        row(
            "REVISION_MISMATCH",
            FailedPrecondition,
            NotApplied,
            &["key", "expectedRevision", "currentRevision"],
            Precondition("REVISION"),
        ),
        invalid("KEY_EMPTY", "key", &[]),
        invalid("KEY_TOO_LARGE", "key", &["limitBytes", "actualBytes"]),
        invalid("VALUE_TOO_LARGE", "value", &["limitBytes", "actualBytes"]),
        invalid("MODE_UNKNOWN", "mode", &["number"]),
        invalid("CONSISTENCY_UNKNOWN", "consistency", &["number"]),
        invalid("MAX_STALENESS_NOT_ALLOWED", "max_staleness_ms", &[]),
        invalid("MAX_STALENESS_ZERO", "max_staleness_ms", &[]),
        invalid("EXPECTED_REVISION_MISSING", "expected_revision", &[]),
        invalid("EXPECTED_REVISION_NOT_ALLOWED", "expected_revision", &[]),
        invalid("EXPECTED_REVISION_ZERO", "expected_revision", &[]),
        invalid("REQUEST_ID_MISSING", "request_id", &[]),
        invalid("REQUEST_ID_SESSION_LENGTH", "request_id.session", &["expectedBytes", "actualBytes"]),
        invalid("REQUEST_ID_SEQUENCE_ZERO", "request_id.sequence", &[]),
        invalid("REQUEST_ID_ACKNOWLEDGED_AHEAD", "request_id.acknowledged_below", &["sequence", "acknowledgedBelow"]),
        invalid("SETTING_MISSING", "lease_reads", &[]),
        invalid("TRACE_ID_LENGTH", "trace_id", &["expectedBytes", "actualBytes"]),
        invalid("LOG_FILTER_TOO_LONG", "filter", &["limitBytes", "actualBytes"]),
        invalid("LOG_FILTER_INVALID", "filter", &[]),
        invalid("REQUEST_MISSING", "request", &[]),
        invalid("TAG_REUSED", "requests.tag", &["tag"]),
        row("TIMEOUT_MALFORMED", InvalidArgument, NotApplied, &["value"], Nothing),
        row("MESSAGE_TOO_LARGE", InvalidArgument, NotApplied, &["limitBytes", "cause"], Nothing),
        row("MESSAGE_MALFORMED", InvalidArgument, NotApplied, &["cause"], Nothing),
        row("UNSUPPORTED", Unimplemented, NotApplied, &["cause"], Nothing),
        row("DEADLINE_EXCEEDED", DeadlineExceeded, NotApplied, &[], Nothing),
        row("SESSION_EXPIRED", FailedPrecondition, Outcome::Unknown, &["timeMs"], Precondition("SESSION")),
        invalid("REQUEST_ID_AHEAD", "request_id.opened_at_ms", &["timeMs"]),
        invalid("REQUEST_ID_REUSED", "request_id", &[]),
        row("REQUEST_FENCED", Aborted, NotApplied, &[], Nothing),
        row("RESULT_FORGOTTEN", FailedPrecondition, Outcome::Unknown, &[], Precondition("SESSION")),
        with_pushback(row("SESSION_FULL", ResourceExhausted, NotApplied, &[], Retry), AsRetryInfo),
        with_pushback(
            row("NOT_LEADER", Unavailable, NotApplied, &["leaderId", "leaderAddress", "term"], Nothing),
            AtOnce,
        ),
        row("NO_QUORUM", Unavailable, NotApplied, &["cause", "reachable", "needed", "term"], Retry),
        row("NOT_READY", Unavailable, NotApplied, &["cause"], Nothing),
        row("STALENESS_BOUND_EXCEEDED", Unavailable, NotApplied, &["revision", "lagMs"], Nothing),
        row("REVISION_AHEAD", OutOfRange, NotApplied, &["revision", "minRevision"], Detail::Field("min_revision")),
        row("LEADERSHIP_TRANSFERRING", Unavailable, NotApplied, &[], Retry),
        row("DRAINING", Unavailable, NotApplied, &[], Nothing),
        with_pushback(row("OVERLOADED", ResourceExhausted, NotApplied, &[], Retry), AsRetryInfo),
        row("STORAGE_FULL", ResourceExhausted, NotApplied, &[], Quota("disk")),
        row("PROPOSAL_DROPPED", Unavailable, NotApplied, &["term"], Retry),
        row("OUTCOME_UNKNOWN", DeadlineExceeded, Outcome::Unknown, &["cause", "term", "index"], Nothing),
        row("OUTCOME_UNKNOWN", Unknown, Outcome::Unknown, &["cause"], Nothing),
        invalid("TARGET_NOT_VOTER", "target", &["target"]),
        row("TARGET_LEADS_ALREADY", FailedPrecondition, NotApplied, &["target"], Precondition("LEADER")),
        row("NO_OTHER_VOTER", FailedPrecondition, NotApplied, &[], Precondition("MEMBERS")),
        row("TRANSFER_TIMED_OUT", DeadlineExceeded, NotApplied, &[], Nothing),
    ]
};

/// Panics unless a call failed with exactly what the row of this code and reason says; the metadata, for more.
#[track_caller]
fn expect<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    call: Call,
    code: Code,
    reason: &str,
) -> HashMap<String, String> {
    let status = match answer {
        Ok(response) => panic!("{reason} was expected: {response:?}"),
        Err(status) => status,
    };
    let details = status.get_error_details_vec();
    let infos: Vec<_> = details.iter().filter_map(info).collect();
    let [info] = infos[..] else { panic!("{reason} was expected, with one ErrorInfo: {status:?}") };
    let found = (status.code(), info.domain.as_str(), info.reason.as_str());
    assert_eq!(found, (code, "quorate", reason), "{status:?}");
    let row = ROWS.iter().find(|row| (row.code, row.reason) == (code, reason)).expect("every expectation has a row");

    let mut keys: BTreeSet<&str> = row.metadata.iter().copied().collect();
    let (label, trailer) = match row.outcome {
        Outcome::NotApplied => ("NOT_APPLIED", "not-applied"),
        Outcome::Unknown => ("UNKNOWN", "unknown"),
    };
    let outcome = (call == Call::Write).then_some((label, trailer));
    keys.extend(outcome.map(|_| "outcome"));
    assert_eq!(info.metadata.keys().map(String::as_str).collect::<BTreeSet<_>>(), keys, "{status:?}");
    assert_eq!(info.metadata.get("outcome").map(String::as_str), outcome.map(|(label, _)| label), "{status:?}");
    let entry = |name| status.metadata().get(name).map(|value| value.to_str().expect("it is ASCII"));
    assert_eq!(entry("kv-outcome"), outcome.map(|(_, trailer)| trailer), "{status:?}");
    assert_eq!(entry("grpc-retry-pushback-ms").map(str::to_owned), pushback_ms(row, &details), "{status:?}");
    let others: Vec<_> = details.iter().filter(|detail| !matches!(detail, ErrorDetail::ErrorInfo(_))).collect();
    expect_detail(row, &others, &info.metadata);
    assert!(!status.message().is_empty(), "{status:?}");
    info.metadata.clone()
}

/// What the trailer `grpc-retry-pushback-ms` has to be.
fn pushback_ms(row: &Row, details: &[ErrorDetail]) -> Option<String> {
    let delay = details.iter().find_map(|detail| match detail {
        ErrorDetail::RetryInfo(retry) => retry.retry_delay,
        _ => None,
    });
    match row.pushback {
        Pushback::Nothing => None,
        Pushback::AtOnce => Some("0".to_owned()),
        Pushback::AsRetryInfo => {
            Some(delay.expect("an error that pushes back has a RetryInfo").as_millis().to_string())
        }
    }
}

fn info(detail: &ErrorDetail) -> Option<&tonic_types::ErrorInfo> {
    match detail {
        ErrorDetail::ErrorInfo(info) => Some(info),
        _ => None,
    }
}

/// Panics unless these are the details that the row has beside its `ErrorInfo`.
#[track_caller]
fn expect_detail(row: &Row, found: &[&ErrorDetail], metadata: &HashMap<String, String>) {
    let is_so = match (row.detail, found) {
        (Detail::Nothing, []) => true,
        (Detail::Resource, [ErrorDetail::ResourceInfo(resource)]) => {
            (resource.resource_type.as_str(), &resource.resource_name) == ("key", &metadata["key"])
        }
        (Detail::Field(field), [ErrorDetail::BadRequest(request)]) => {
            let [violation] = &request.field_violations[..] else { panic!("{}: {found:?}", row.reason) };
            violation.field == field && !violation.description.is_empty()
        }
        (Detail::Precondition(kind), [ErrorDetail::PreconditionFailure(failure)]) => {
            let [violation] = &failure.violations[..] else { panic!("{}: {found:?}", row.reason) };
            violation.r#type == kind && !violation.description.is_empty()
        }
        (Detail::Quota(subject), [ErrorDetail::QuotaFailure(failure)]) => {
            let [violation] = &failure.violations[..] else { panic!("{}: {found:?}", row.reason) };
            violation.subject == subject && !violation.description.is_empty()
        }
        (Detail::Retry, [ErrorDetail::RetryInfo(retry)]) => retry.retry_delay.is_some(),
        _ => false,
    };
    assert!(is_so, "{} has {:?}, and not {found:?}", row.reason, row.detail);
}

/// Where the server's errors are made.
const SOURCES: [&str; 2] =
    [include_str!("../../../server/src/api/error.rs"), include_str!("../../../server/src/api/validate.rs")];

/// What is written there in capitals too and is no reason: outcomes, and the types of failed preconditions.
const NO_REASONS: [&str; 6] = ["LEADER", "MEMBERS", "NOT_APPLIED", "REVISION", "SESSION", "UNKNOWN"];

/// The tests that provoke errors.
const TESTS: [&str; 4] = [
    include_str!("availability.rs"),
    include_str!("elections.rs"),
    include_str!("requests.rs"),
    include_str!("sessions.rs"),
];

/// The texts in capitals in the code of a source file.
fn capitals(source: &str) -> BTreeSet<&str> {
    let is_capital = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let texts = code.flat_map(|line| line.split('"').skip(1).step_by(2));
    texts.filter(|text| !text.is_empty() && text.bytes().all(is_capital)).collect()
}

#[test]
fn every_error_has_a_row_and_every_row_a_test() {
    let mut made: BTreeSet<&str> = SOURCES.into_iter().flat_map(capitals).collect();
    for no_reason in NO_REASONS {
        assert!(made.remove(no_reason), "{no_reason} is written nowhere any more");
    }
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.reason).collect();
    assert_eq!(made, rows, "left: what the server's sources name; right: the rows");
    let provoked: BTreeSet<&str> = TESTS.into_iter().flat_map(capitals).collect();
    let missing: Vec<_> = rows.difference(&provoked).collect();
    assert!(missing.is_empty(), "no test provokes {missing:?}");
}
