//! One test per row of the error table, and the traps around it.

use super::{
    Repeats::{ByName, Freely, Never},
    *,
};
use tonic_types::ErrorDetails;

fn ours(code: Code, reason: &str, outcome: Option<&str>) -> Status {
    let mut details = ErrorDetails::new();
    let metadata: HashMap<String, String> =
        outcome.map(|outcome| ("outcome".to_owned(), outcome.to_owned())).into_iter().collect();
    details.set_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, "words", details)
}

const AGAIN: Verdict = Verdict::Repeat { after: None };

#[test]
fn a_write_by_the_error_table() {
    use Outcome::{NotApplied, Unknown};
    let table = [
        (Code::AlreadyExists, "KEY_EXISTS", "NOT_APPLIED", NotApplied, Verdict::Refused),
        (Code::NotFound, "KEY_NOT_FOUND", "NOT_APPLIED", NotApplied, Verdict::Refused),
        (Code::FailedPrecondition, "REVISION_MISMATCH", "NOT_APPLIED", NotApplied, Verdict::Refused),
        (Code::Unavailable, "NOT_LEADER", "NOT_APPLIED", NotApplied, AGAIN),
        (Code::Unavailable, "NO_QUORUM", "NOT_APPLIED", NotApplied, AGAIN),
        (Code::DeadlineExceeded, "OUTCOME_UNKNOWN", "UNKNOWN", Unknown, AGAIN),
        (Code::Unknown, "OUTCOME_UNKNOWN", "UNKNOWN", Unknown, AGAIN),
        (Code::Unavailable, "PROPOSAL_DROPPED", "NOT_APPLIED", NotApplied, AGAIN),
        (Code::InvalidArgument, "VALUE_TOO_LARGE", "NOT_APPLIED", NotApplied, Verdict::Refused),
        (Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED", NotApplied, AGAIN),
        (Code::ResourceExhausted, "STORAGE_FULL", "NOT_APPLIED", NotApplied, Verdict::Refused),
        (Code::FailedPrecondition, "READ_ONLY", "NOT_APPLIED", NotApplied, Verdict::Refused),
        (Code::Unavailable, "REPLICA_QUARANTINED", "NOT_APPLIED", NotApplied, AGAIN),
        (Code::Unavailable, "DRAINING", "NOT_APPLIED", NotApplied, AGAIN),
        // A node that contradicts itself is not believed to have done nothing.
        (Code::Unavailable, "NO_QUORUM", "UNKNOWN", Unknown, AGAIN),
        (Code::Unavailable, "NO_QUORUM", "SOMETHING_NEW", Unknown, AGAIN),
        (Code::DeadlineExceeded, "NO_QUORUM", "NOT_APPLIED", NotApplied, AGAIN),
        // What comes of the write's name.
        (Code::FailedPrecondition, "SESSION_EXPIRED", "UNKNOWN", NotApplied, Verdict::NoSession),
        (Code::InvalidArgument, "REQUEST_ID_AHEAD", "NOT_APPLIED", NotApplied, Verdict::NoSession),
        (Code::InvalidArgument, "REQUEST_ID_REUSED", "NOT_APPLIED", NotApplied, Verdict::Refused),
        (Code::Aborted, "REQUEST_FENCED", "NOT_APPLIED", NotApplied, Verdict::Refused),
        (Code::FailedPrecondition, "RESULT_FORGOTTEN", "UNKNOWN", Unknown, Verdict::Refused),
        (Code::ResourceExhausted, "SESSION_FULL", "NOT_APPLIED", NotApplied, AGAIN),
    ];
    for (code, reason, told, outcome, verdict) in table {
        let judged = judge(&ours(code, reason, Some(told)), true, ByName);
        assert_eq!((judged.outcome, judged.verdict), (outcome, verdict), "{code:?} {reason} {told}");
        assert_eq!(judged.reason.as_deref(), Some(reason));
        assert_eq!(judged.message, "words");
        // Without a name, what is unknown is not repeated.
        let nameless = judge(&ours(code, reason, Some(told)), true, Never);
        assert_eq!(nameless.verdict == Verdict::Unknown, told != "NOT_APPLIED", "{code:?} {reason} {told}");
    }
}

#[test]
fn what_a_write_was_told_when_it_was_run_settles_it() {
    for (code, reason, settles) in [
        (Code::AlreadyExists, "KEY_EXISTS", true),
        (Code::NotFound, "KEY_NOT_FOUND", true),
        (Code::FailedPrecondition, "REVISION_MISMATCH", true),
        (Code::Aborted, "REQUEST_FENCED", true),
        // These are said at the door.
        (Code::ResourceExhausted, "STORAGE_FULL", false),
        (Code::InvalidArgument, "VALUE_TOO_LARGE", false),
        (Code::FailedPrecondition, "SESSION_EXPIRED", false),
        (Code::FailedPrecondition, "RESULT_FORGOTTEN", false),
    ] {
        assert_eq!(judge(&ours(code, reason, Some("NOT_APPLIED")), true, ByName).settles(), settles, "{reason}");
    }
    let contradictory = ours(Code::AlreadyExists, "KEY_EXISTS", Some("UNKNOWN"));
    assert!(!judge(&contradictory, true, ByName).settles());
    assert!(!judge(&Status::already_exists("a proxy's words"), true, ByName).settles());
}

#[test]
fn an_error_about_a_session_tells_the_time() {
    let mut details = ErrorDetails::new();
    details.set_error_info("SESSION_EXPIRED", DOMAIN, [("timeMs".to_owned(), "1500".to_owned())]);
    let status = Status::with_error_details(Code::FailedPrecondition, "words", details);
    assert_eq!(judge(&status, true, ByName).time_ms(), Some(1500));
    assert_eq!(judge(&status, true, Freely).verdict, Verdict::Refused, "a question about it is answered");
    assert_eq!(judge(&ours(Code::FailedPrecondition, "SESSION_EXPIRED", None), true, ByName).time_ms(), None);
}

#[test]
fn a_get_that_is_too_stale_here_may_be_served_elsewhere_and_a_revision_ahead_nowhere() {
    let stale = judge(&ours(Code::Unavailable, "STALENESS_BOUND_EXCEEDED", None), true, Freely);
    assert_eq!((stale.outcome, &stale.verdict, stale.is_cut_off()), (Outcome::NotApplied, &AGAIN, true));
    let ahead = judge(&ours(Code::OutOfRange, "REVISION_AHEAD", None), true, Freely);
    assert_eq!((&ahead.verdict, ahead.is_cut_off(), ahead.ahead()), (&Verdict::Refused, false, None));
    let told = |reason: &str, name: &str| {
        let mut details = ErrorDetails::new();
        let metadata = [(name.to_owned(), "5".to_owned()), ("minRevision".to_owned(), "9".to_owned())];
        details.set_error_info(reason, DOMAIN, metadata);
        let judged = judge(&Status::with_error_details(Code::OutOfRange, "words", details), true, Freely);
        (judged.revision(), judged.ahead())
    };
    assert_eq!(told("REVISION_AHEAD", "revision"), (None, Some((9, 5))));
    assert_eq!(told("KEY_EXISTS", "revision"), (Some(5), None));
    assert_eq!(told("REVISION_MISMATCH", "currentRevision"), (Some(5), None));
    assert_eq!(told("KEY_NOT_FOUND", "storeRevision"), (Some(5), None));
    // Nobody has seen anything of such a state.
    assert_eq!(told("STALENESS_BOUND_EXCEEDED", "revision"), (None, None));
}

#[test]
fn a_node_that_names_no_outcome_is_judged_by_its_code() {
    for (code, outcome) in [
        (Code::Unavailable, Outcome::NotApplied),
        (Code::InvalidArgument, Outcome::NotApplied),
        (Code::Unimplemented, Outcome::NotApplied),
        (Code::DeadlineExceeded, Outcome::Unknown),
        (Code::Internal, Outcome::Unknown),
    ] {
        assert_eq!(judge(&ours(code, "X", None), true, ByName).outcome, outcome, "{code:?}");
    }
    let transfer = judge(&ours(Code::DeadlineExceeded, "TRANSFER_TIMED_OUT", None), true, Never);
    assert_eq!((transfer.outcome, transfer.verdict), (Outcome::NotApplied, AGAIN));
}

#[test]
fn a_status_of_a_library_is_unknown_once_a_write_may_have_left() {
    for code in [Code::Unavailable, Code::Cancelled, Code::Unknown, Code::Internal, Code::AlreadyExists] {
        let status = Status::new(code, "library");
        let named = judge(&status, true, ByName);
        assert_eq!((named.outcome, named.verdict), (Outcome::Unknown, AGAIN), "{code:?}");
        assert_eq!(judge(&status, true, Never).verdict, Verdict::Unknown, "{code:?}, without a name");
        for repeats in [ByName, Never] {
            let held = judge(&status, false, repeats);
            assert_eq!((held.outcome, held.verdict), (Outcome::NotApplied, AGAIN), "{code:?}, not sent");
        }
        assert_eq!(judge(&status, true, Freely).verdict, AGAIN, "{code:?}, a read");
    }
    let foreign = {
        let mut details = ErrorDetails::new();
        details.set_error_info("X", "elsewhere.example", [("outcome".to_owned(), "NOT_APPLIED".to_owned())]);
        Status::with_error_details(Code::Unavailable, "words", details)
    };
    assert_eq!(judge(&foreign, true, ByName).outcome, Outcome::Unknown, "another domain is not ours");
}

#[test]
fn a_read_is_never_unknown() {
    for code in [Code::DeadlineExceeded, Code::Unknown, Code::Unavailable] {
        let judged = judge(&ours(code, "OUTCOME_UNKNOWN", Some("UNKNOWN")), true, Freely);
        assert_eq!((judged.outcome, judged.verdict), (Outcome::NotApplied, AGAIN), "{code:?}");
    }
    assert_eq!(judge(&ours(Code::NotFound, "KEY_NOT_FOUND", None), true, Freely).verdict, Verdict::Refused);
}

#[test]
fn the_servers_pause_is_honoured() {
    let after = |status: &Status| judge(status, true, ByName).verdict;
    let mut status = ours(Code::Unavailable, "NO_QUORUM", Some("NOT_APPLIED"));
    status.metadata_mut().insert(PUSHBACK, "250".parse().expect("ASCII"));
    assert_eq!(after(&status), Verdict::Repeat { after: Some(Duration::from_millis(250)) });
    for forbidding in ["-1", "soon"] {
        status.metadata_mut().insert(PUSHBACK, forbidding.parse().expect("ASCII"));
        assert_eq!(after(&status), Verdict::GiveUp, "{forbidding}");
    }

    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(40)));
    details.set_error_info("NO_QUORUM", DOMAIN, [("outcome".to_owned(), "NOT_APPLIED".to_owned())]);
    let status = Status::with_error_details(Code::Unavailable, "words", details);
    assert_eq!(after(&status), Verdict::Repeat { after: Some(Duration::from_millis(40)) });
}

#[test]
fn the_leader_is_read_from_metadata_and_details() {
    let mut metadata = MetadataMap::new();
    assert_eq!(leader(&metadata), None);
    metadata.insert(LEADER_NAME, "n2".parse().expect("ASCII"));
    assert_eq!(leader(&metadata), None, "a name alone leads nowhere");
    metadata.insert(LEADER_ADDRESS, "nonsense".parse().expect("ASCII"));
    assert_eq!(leader(&metadata), None);
    metadata.insert(LEADER_ADDRESS, "127.0.0.1:7002".parse().expect("ASCII"));
    let expected = Leader { name: "n2".to_owned(), endpoint: "127.0.0.1:7002".parse().expect("it is well formed") };
    assert_eq!(leader(&metadata), Some(expected.clone()));

    let details = [("leaderId", "n2"), ("leaderAddress", "127.0.0.1:7002")];
    let details = details.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    assert_eq!(leader_in_details(&details), Some(expected));
}

#[test]
fn garbled_details_are_no_details() {
    let status = Status::with_details(Code::Unavailable, "words", bytes::Bytes::from_static(b"\xff\xff\xff"));
    let judged = judge(&status, true, ByName);
    assert_eq!((judged.reason, judged.outcome), (None, Outcome::Unknown));
}
