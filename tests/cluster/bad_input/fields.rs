//! Messages of which a field is out of its bounds, or makes no sense beside another.

use super::{Case, DELETE, Expected, GET, GET_OUTCOME, KEPT, PUT, SESSION, UPDATE_SETTINGS, encoded, invalid, put};
use proto::{
    admin::v1::{TransferLeadershipRequest, UpdateSettingsRequest},
    kv::v1::{DeleteRequest, GetOutcomeRequest, GetRequest, PutRequest, RequestId},
};
use tests::rpc;
use tonic::Code;

const TRANSFER: &str = "/admin.v1.AdminService/TransferLeadership";

fn delete() -> DeleteRequest {
    rpc::delete_request(KEPT)
}

pub(super) fn cases() -> Vec<Case> {
    [keys(), modes_and_revisions(), request_ids(), settings()].into_iter().flatten().collect()
}

/// The same key in each of the calls that have one.
fn with_key(name: &str, key: &str, expected: &Expected) -> [Case; 3] {
    let key = key.to_owned();
    [
        Case::new(name, PUT, &encoded(&PutRequest { key: key.clone(), ..put() }), expected.clone()),
        Case::new(name, GET, &encoded(&rpc::get_request(&key)), expected.clone()),
        Case::new(name, DELETE, &encoded(&DeleteRequest { key, ..delete() }), expected.clone()),
    ]
}

fn keys() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, key, expected) in [
        ("empty key", String::new(), invalid("KEY_EMPTY")),
        ("key of 1,025 bytes", "k".repeat(1025), invalid("KEY_TOO_LARGE")),
        ("key of 513 characters of 2 bytes", "ä".repeat(513), invalid("KEY_TOO_LARGE")),
        ("key of 1 MiB", "k".repeat(1 << 20), invalid("KEY_TOO_LARGE")),
        ("key of 4 MiB and a byte", "k".repeat((4 << 20) + 1), invalid("MESSAGE_TOO_LARGE")),
    ] {
        cases.extend(with_key(name, &key, &expected));
    }
    // Any text is a key; what is not there is not found, and reading it is not logged.
    let missing = Expected::Refused(Code::NotFound, "KEY_NOT_FOUND");
    for (name, key) in [
        ("key of 1 byte", "k".to_owned()),
        ("key of 1,023 bytes", "k".repeat(1023)),
        ("key of 1,024 bytes", "k".repeat(1024)),
        ("NUL in the key", "k\0k".to_owned()),
        ("key of dots", "..".to_owned()),
        ("path for a key", "../../etc/passwd".to_owned()),
        ("control characters", "\r\n\u{1b}[2J\u{7f}".to_owned()),
        ("bidirectional override", "\u{202e}k".to_owned()),
        ("last character", "\u{10ffff}".to_owned()),
        ("text of a format", "%s%n{}$(id)".to_owned()),
    ] {
        cases.push(Case::new(name, GET, &encoded(&rpc::get_request(&key)), missing.clone()));
    }
    for (name, bytes, reason) in [
        ("value of 1 MiB and a byte", (1 << 20) + 1, "VALUE_TOO_LARGE"),
        ("value of 3 MiB", 3 << 20, "VALUE_TOO_LARGE"),
        ("value of 4 MiB", 4 << 20, "MESSAGE_TOO_LARGE"),
    ] {
        let request = PutRequest { value: vec![0xFF; bytes].into(), ..put() };
        cases.push(Case::new(name, PUT, &encoded(&request), invalid(reason)));
    }
    cases
}

fn modes_and_revisions() -> Vec<Case> {
    let mut cases = Vec::new();
    for number in [5, 99, -1, i32::MAX, i32::MIN] {
        let request = PutRequest { mode: number, ..put() };
        cases.push(Case::new(format!("mode {number}"), PUT, &encoded(&request), invalid("MODE_UNKNOWN")));
        let request = GetRequest { consistency: number, ..rpc::get_request(KEPT) };
        let expected = invalid("CONSISTENCY_UNKNOWN");
        cases.push(Case::new(format!("consistency {number}"), GET, &encoded(&request), expected));
    }
    for (consistency, max_staleness_ms, reason) in [
        (0, 0, "MAX_STALENESS_NOT_ALLOWED"),
        (1, 1, "MAX_STALENESS_NOT_ALLOWED"),
        (2, u64::MAX, "MAX_STALENESS_NOT_ALLOWED"),
        (3, 0, "MAX_STALENESS_ZERO"),
        (4, 1, "CONSISTENCY_UNKNOWN"),
    ] {
        let max_staleness_ms = Some(max_staleness_ms);
        let request = GetRequest { consistency, max_staleness_ms, ..rpc::get_request(KEPT) };
        let name = format!("consistency {consistency} and staleness {max_staleness_ms:?}");
        cases.push(Case::new(name, GET, &encoded(&request), invalid(reason)));
    }
    for min_revision in [1 << 32, u64::MAX - 1, u64::MAX] {
        let request = GetRequest { min_revision, ..rpc::get_request(KEPT) };
        let expected = Expected::Refused(Code::OutOfRange, "REVISION_AHEAD");
        cases.push(Case::new(format!("revision {min_revision}"), GET, &encoded(&request), expected));
    }
    // One is enough: each waits for a moment.
    let request = GetRequest { consistency: 3, min_revision: u64::MAX, ..rpc::get_request(KEPT) };
    let expected = Expected::Refused(Code::Unavailable, "STALENESS_BOUND_EXCEEDED");
    cases.push(Case::new("own state of the last revision", GET, &encoded(&request), expected));
    for mode in 0..=3 {
        for (revision, reason) in [
            (0, "EXPECTED_REVISION_ZERO"),
            (1, "EXPECTED_REVISION_NOT_ALLOWED"),
            (u64::MAX, "EXPECTED_REVISION_NOT_ALLOWED"),
        ] {
            let request = PutRequest { mode, expected_revision: Some(revision), ..put() };
            let name = format!("mode {mode} and revision {revision}");
            cases.push(Case::new(name, PUT, &encoded(&request), invalid(reason)));
        }
    }
    let compare = PutRequest { mode: 4, ..put() };
    cases.push(Case::new("no revision", PUT, &encoded(&compare), invalid("EXPECTED_REVISION_MISSING")));
    let zero = PutRequest { expected_revision: Some(0), ..compare };
    cases.push(Case::new("revision 0", PUT, &encoded(&zero), invalid("EXPECTED_REVISION_ZERO")));
    let zero = DeleteRequest { expected_revision: Some(0), ..delete() };
    cases.push(Case::new("revision 0", DELETE, &encoded(&zero), invalid("EXPECTED_REVISION_ZERO")));
    let all = PutRequest { key: String::new(), mode: 9, expected_revision: Some(0), ..put() };
    cases.push(Case::new("all wrong at once", PUT, &encoded(&all), invalid("KEY_EMPTY")));
    cases
}

/// The same request id in each of the calls that have one.
fn with_id(name: &str, id: &RequestId, expected: &Expected) -> [Case; 3] {
    let request_id = Some(id.clone());
    [
        Case::new(name, PUT, &encoded(&PutRequest { request_id: request_id.clone(), ..put() }), expected.clone()),
        Case::new(
            name,
            DELETE,
            &encoded(&DeleteRequest { request_id: request_id.clone(), ..delete() }),
            expected.clone(),
        ),
        Case::new(name, GET_OUTCOME, &encoded(&GetOutcomeRequest { request_id }), expected.clone()),
    ]
}

fn request_ids() -> Vec<Case> {
    let mut cases = Vec::new();
    let sound = rpc::request_id(8, 1);
    for bytes in [0, 1, 15, 17, 32, 1 << 20] {
        let id = RequestId { session: vec![8; bytes].into(), ..sound.clone() };
        cases.extend(with_id(&format!("session of {bytes} bytes"), &id, &invalid("REQUEST_ID_SESSION_LENGTH")));
    }
    let empty = RequestId::default();
    cases.extend(with_id("empty request id", &empty, &invalid("REQUEST_ID_SESSION_LENGTH")));
    for (sequence, acknowledged_below) in [(0, 0), (0, u64::MAX)] {
        let id = RequestId { sequence, acknowledged_below, ..sound.clone() };
        let name = format!("sequence 0, acknowledged {acknowledged_below}");
        cases.extend(with_id(&name, &id, &invalid("REQUEST_ID_SEQUENCE_ZERO")));
    }
    for (sequence, acknowledged_below) in [(1, 2), (1, u64::MAX), (u64::MAX - 1, u64::MAX)] {
        let id = RequestId { sequence, acknowledged_below, ..sound.clone() };
        let name = format!("sequence {sequence}, acknowledged {acknowledged_below}");
        cases.extend(with_id(&name, &id, &invalid("REQUEST_ID_ACKNOWLEDGED_AHEAD")));
    }
    let nothing = GetOutcomeRequest { request_id: None };
    cases.push(Case::new("no request id", GET_OUTCOME, &encoded(&nothing), invalid("REQUEST_ID_MISSING")));
    cases
}

/// Changes of settings that no node takes.
fn settings() -> Vec<Case> {
    let sound = rpc::request_id(7, 1);
    let case = |name: &str, lease_reads, request_id, reason| {
        let request = UpdateSettingsRequest { lease_reads, request_id: Some(request_id) };
        Case::new(name, UPDATE_SETTINGS, &encoded(&request), invalid(reason))
    };
    let short = RequestId { session: vec![7; 15].into(), ..sound.clone() };
    let (zero, ahead) =
        (RequestId { sequence: 0, ..sound.clone() }, RequestId { acknowledged_below: 2, ..sound.clone() });
    vec![
        Case::new("nothing to be set", UPDATE_SETTINGS, &[], invalid("SETTING_MISSING")),
        case("no setting", None, sound, "SETTING_MISSING"),
        case("session of 15 bytes", Some(true), short, "REQUEST_ID_SESSION_LENGTH"),
        case("sequence 0", Some(true), zero, "REQUEST_ID_SEQUENCE_ZERO"),
        case("acknowledged ahead", Some(false), ahead, "REQUEST_ID_ACKNOWLEDGED_AHEAD"),
    ]
}

/// Handovers that a leader refuses.
pub(super) fn of_a_leader(name: &str) -> Vec<Case> {
    let to = |target: &str| encoded(&TransferLeadershipRequest { target: target.to_owned() });
    let own = Expected::Refused(Code::FailedPrecondition, "TARGET_LEADS_ALREADY");
    let mut cases = vec![Case::new("to itself", TRANSFER, &to(name), own)];
    for (name, target) in [
        ("to an unknown member", "n9".to_owned()),
        ("to a path", "../n1".to_owned()),
        ("to control characters", "n1\0\r\n".to_owned()),
        ("to n1 in capitals", "N1".to_owned()),
        ("to a space", " ".to_owned()),
        ("to a name of a kibibyte", "n".repeat(1024)),
    ] {
        cases.push(Case::new(name, TRANSFER, &to(&target), invalid("TARGET_NOT_VOTER")));
    }
    cases
}

/// What only the state can refuse, so that it has an entry in the log.
pub(super) fn that_are_logged() -> Vec<Case> {
    let (missing, mismatch) = (
        Expected::Refused(Code::NotFound, "KEY_NOT_FOUND"),
        Expected::Refused(Code::FailedPrecondition, "REVISION_MISMATCH"),
    );
    let exists = Expected::Refused(Code::AlreadyExists, "KEY_EXISTS");
    let mut cases = vec![
        Case::new("create what is there", PUT, &encoded(&PutRequest { mode: 0, ..put() }), exists),
        Case::new(
            "update what is not",
            PUT,
            &encoded(&PutRequest { key: "m".to_owned(), mode: 3, ..put() }),
            missing.clone(),
        ),
        Case::new("delete what is not", DELETE, &encoded(&rpc::delete_request("m")), missing),
    ];
    for revision in [1 << 32, u64::MAX - 1, u64::MAX] {
        let request = PutRequest { mode: 4, expected_revision: Some(revision), ..put() };
        cases.push(Case::new(format!("revision {revision}"), PUT, &encoded(&request), mismatch.clone()));
        let request = DeleteRequest { expected_revision: Some(revision), ..delete() };
        cases.push(Case::new(format!("revision {revision}"), DELETE, &encoded(&request), mismatch.clone()));
    }
    for opened_at_ms in [1 << 50, u64::MAX - 1, u64::MAX] {
        let id = RequestId { opened_at_ms, ..rpc::request_id(8, 1) };
        cases.extend(with_id(&format!("opened at {opened_at_ms}"), &id, &invalid("REQUEST_ID_AHEAD")));
    }
    let reused = invalid("REQUEST_ID_REUSED");
    let [another_put, delete, _] = with_id("id of another write", &rpc::request_id(SESSION, 1), &reused);
    let elsewhen = RequestId { opened_at_ms: 1, ..rpc::request_id(SESSION, 1) };
    cases.extend([another_put, delete]);
    cases.extend(with_id("session of another time", &elsewhen, &reused));
    cases
}
