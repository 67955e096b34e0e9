//! Requests on a node that leads.

use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::kv::{self, Refusal, Rejection, Revision, SessionId, Settled};
use proto::kv::v1::get_outcome_response::Outcome;
use proto::kv::v1::{
    Configured, DeleteRequest, DeleteResponse, Forgotten, GetOutcomeRequest, GetOutcomeResponse, GetRequest,
    GetResponse, KeyValue, NeverApplied, PutMode, PutRequest, PutResponse, Rejected, RequestId,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::fake::{Harness, Read, TIME_MS, Write, led_by, reason, written};
use crate::api::admission::Queue;
use crate::api::error::{ApiError, CallKind};
use crate::api::limits::{Arriving, InFlight};
use crate::node::{ReadError, ReadResult, Unavailable, WriteError};

const PUT: &str = "kv.v1.KvService/Put";
const GET: &str = "kv.v1.KvService/Get";
const DELETE: &str = "kv.v1.KvService/Delete";
const GET_OUTCOME: &str = "kv.v1.KvService/GetOutcome";

fn put() -> PutRequest {
    PutRequest { key: "a".to_owned(), value: Bytes::from_static(b"v"), ..Default::default() }
}

fn get() -> GetRequest {
    GetRequest { key: "a".to_owned(), ..GetRequest::default() }
}

fn delete() -> DeleteRequest {
    DeleteRequest { key: "a".to_owned(), return_previous: true, ..Default::default() }
}

fn key_value() -> kv::KeyValue {
    kv::KeyValue {
        key: Bytes::from_static(b"a"),
        value: Bytes::from_static(b"v"),
        create_revision: Revision::new(2),
        mod_revision: Revision::new(4),
        version: 3,
    }
}

/// The same as kv.v1 has it.
fn told_key_value() -> KeyValue {
    KeyValue { key: "a".to_owned(), value: Bytes::from_static(b"v"), create_revision: 2, mod_revision: 4, version: 3 }
}

#[tokio::test]
async fn each_request_is_answered_with_the_leader_in_the_metadata() {
    let harness = Harness::new(led_by(Some("n1")));
    harness.node.will_write(Write::Answer(written()));
    let (response, headers) = harness.call::<_, PutResponse>(PUT, &put()).await.expect("written");
    assert_eq!((response.revision, response.version, response.time_ms), (4, 1, TIME_MS));
    assert_eq!(headers["quorate-leader-name"], "n1");
    assert_eq!(headers["quorate-leader-address"], "n1:7000");

    let (kv, served_by) = (Some(key_value()), "n1".to_owned());
    harness.node.will_read(Read::Answer(Ok(ReadResult { kv, revision: 9, served_by, time_ms: TIME_MS, age_ms: None })));
    let (response, headers) = harness.call::<_, GetResponse>(GET, &get()).await.expect("found");
    assert_eq!((response.revision, response.served_by.as_str(), response.time_ms), (9, "n1", TIME_MS));
    assert_eq!(response.staleness_ms, None, "it was not asked");
    let kv = response.kv.expect("found");
    assert_eq!((kv.key.as_str(), &kv.value[..]), ("a", &b"v"[..]));
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 4, 3));
    assert_eq!(headers["quorate-leader-name"], "n1");

    let deleted = kv::Applied::Deleted { revision: Revision::new(5), previous: Some(key_value()) };
    harness.node.will_write(Write::Answer(Ok(deleted)));
    let (response, _) = harness.call::<_, DeleteResponse>(DELETE, &delete()).await.expect("deleted");
    assert_eq!((response.revision, response.time_ms), (5, TIME_MS));
    assert_eq!(response.previous.map(|kv| kv.mod_revision), Some(4));
}

#[tokio::test]
async fn requests_become_the_commands_that_they_mean() {
    let harness = Harness::new(led_by(Some("n1")));
    for (mode, expected_revision) in [(PutMode::Unspecified, None), (PutMode::Compare, Some(7))] {
        harness.node.will_write(Write::Answer(written()));
        let request = PutRequest { mode: mode.into(), expected_revision, ..put() };
        harness.call::<_, PutResponse>(PUT, &request).await.expect("written");
    }
    let modes: Vec<_> = harness
        .node
        .requests()
        .into_iter()
        .map(|request| match request.command {
            kv::Command::Put { mode, .. } => mode,
            other => panic!("only puts were sent, and no {other:?}"),
        })
        .collect();
    let expected_revision = Revision::new(7);
    assert_eq!(modes, [kv::PutMode::Create, kv::PutMode::Compare { expected_revision }]);
}

fn request_id() -> RequestId {
    RequestId { session: vec![1; 16].into(), opened_at_ms: 5, sequence: 7, acknowledged_below: 6 }
}

#[tokio::test]
async fn a_request_id_goes_with_its_write() {
    let harness = Harness::new(led_by(Some("n1")));
    harness.node.will_write(Write::Answer(written()));
    let request = PutRequest { request_id: Some(request_id()), ..put() };
    harness.call::<_, PutResponse>(PUT, &request).await.expect("written");
    harness.node.will_write(Write::Answer(Ok(kv::Applied::Settled(Settled::NeverApplied))));
    let request = GetOutcomeRequest { request_id: Some(request_id()) };
    harness.call::<_, GetOutcomeResponse>(GET_OUTCOME, &request).await.expect("settled");
    let session = SessionId::new(u128::from_be_bytes([1; 16]));
    let id = kv::RequestId { session, opened_at_ms: 5, sequence: 7, acknowledged_below: 6 };
    let found = harness.node.requests();
    assert!(found.iter().all(|request| request.id == Some(id)), "{found:?}");
    assert_eq!(found[1].command, kv::Command::Settle);
}

#[tokio::test]
async fn what_became_of_a_write_is_told_as_it_is_kept() {
    let harness = Harness::new(led_by(Some("n1")));
    let result = |applied| Settled::Result(Box::new(applied));
    let (revision, mismatch) = (Revision::new(4), (Revision::new(3), Revision::new(5)));
    let rejected = |rejection| result(kv::Applied::Rejected(rejection));
    let refusal = |reason: &str, revision| Outcome::Rejected(Rejected { reason: reason.to_owned(), revision });
    let previous = told_key_value();
    for (settled, expected) in [
        (
            result(kv::Applied::Put { revision, version: 2 }),
            Outcome::Put(PutResponse { revision: 4, version: 2, time_ms: TIME_MS }),
        ),
        (
            result(kv::Applied::Deleted { revision, previous: Some(key_value()) }),
            Outcome::Delete(DeleteResponse { revision: 4, previous: Some(previous), time_ms: TIME_MS }),
        ),
        (rejected(Rejection::KeyExists { mod_revision: revision }), refusal("KEY_EXISTS", 4)),
        (rejected(Rejection::KeyNotFound), refusal("KEY_NOT_FOUND", 0)),
        (
            rejected(Rejection::RevisionMismatch { expected: mismatch.0, actual: mismatch.1 }),
            refusal("REVISION_MISMATCH", 5),
        ),
        (
            result(kv::Applied::Configured { settings: kv::Settings { lease_reads: true } }),
            Outcome::Configured(Configured {}),
        ),
        (Settled::NeverApplied, Outcome::NeverApplied(NeverApplied {})),
        (Settled::Forgotten, Outcome::Forgotten(Forgotten {})),
    ] {
        harness.node.will_write(Write::Answer(Ok(kv::Applied::Settled(settled))));
        let request = GetOutcomeRequest { request_id: Some(request_id()) };
        let (response, headers) = harness.call::<_, GetOutcomeResponse>(GET_OUTCOME, &request).await.expect("settled");
        assert_eq!((response.outcome, response.time_ms), (Some(expected), TIME_MS));
        assert_eq!(headers["quorate-leader-name"], "n1");
    }
}

#[tokio::test]
async fn a_refused_settlement_is_no_write_and_says_nothing_of_an_outcome() {
    let harness = Harness::new(led_by(Some("n1")));
    let request = GetOutcomeRequest { request_id: Some(request_id()) };
    harness.node.will_write(Write::Answer(Ok(kv::Applied::Refused(Refusal::SessionExpired { time_ms: 8 }))));
    let status = harness.call::<_, GetOutcomeResponse>(GET_OUTCOME, &request).await.expect_err("expired");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(reason(&status), ("SESSION_EXPIRED".to_owned(), String::new()));
    harness.node.will_write(Write::Answer(Ok(kv::Applied::Refused(Refusal::Fenced))));
    let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("fenced");
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(reason(&status), ("REQUEST_FENCED".to_owned(), "NOT_APPLIED".to_owned()));
}

#[tokio::test]
async fn rejections_have_the_exact_texts() {
    let harness = Harness::new(led_by(Some("n1")));
    let rejected = |rejection| Write::Answer(Ok(kv::Applied::Rejected(rejection)));

    harness.node.will_write(rejected(Rejection::KeyExists { mod_revision: Revision::new(3) }));
    let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("exists");
    assert_eq!((status.code(), status.message()), (Code::AlreadyExists, "key already exists: a"));
    assert_eq!(reason(&status), ("KEY_EXISTS".to_owned(), "NOT_APPLIED".to_owned()));
    assert_eq!(status.metadata().get("quorate-leader-name").map(|name| name.as_bytes()), Some(&b"n1"[..]));

    harness.node.will_write(rejected(Rejection::KeyNotFound));
    let status = harness.call::<_, DeleteResponse>(DELETE, &delete()).await.expect_err("missing");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "key not found: a"));
    assert_eq!(reason(&status), ("KEY_NOT_FOUND".to_owned(), "NOT_APPLIED".to_owned()));

    let (kv, served_by) = (None, "n1".to_owned());
    harness.node.will_read(Read::Answer(Ok(ReadResult { kv, revision: 1, served_by, time_ms: TIME_MS, age_ms: None })));
    let status = harness.call::<_, GetResponse>(GET, &get()).await.expect_err("missing");
    assert_eq!((status.code(), status.message()), (Code::NotFound, "key not found: a"));
    assert_eq!(reason(&status), ("KEY_NOT_FOUND".to_owned(), String::new()));

    let mismatch = Rejection::RevisionMismatch { expected: Revision::new(3), actual: Revision::new(5) };
    harness.node.will_write(rejected(mismatch));
    let request = DeleteRequest { expected_revision: Some(3), ..delete() };
    let status = harness.call::<_, DeleteResponse>(DELETE, &request).await.expect_err("another revision");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.metadata["currentRevision"], "5");
}

#[tokio::test]
async fn a_write_without_an_outcome_says_so_before_the_deadline() {
    let harness = Harness::new(led_by(Some("n1")));
    harness.node.will_write(Write::Wait);
    let sent = std::time::Instant::now();
    let headers = [("grpc-timeout", "400m")];
    let request = PutRequest { request_id: Some(request_id()), ..put() };
    let status = harness.call_with::<_, PutResponse>(PUT, &request, &headers).await.expect_err("no majority");
    assert!(sent.elapsed() >= std::time::Duration::from_millis(370), "it waited as long as it could");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&status), ("OUTCOME_UNKNOWN".to_owned(), "UNKNOWN".to_owned()));
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!((&info.metadata["term"][..], &info.metadata["index"][..]), ("2", "9"));
    // What it takes to settle it.
    assert_eq!((&info.metadata["sessionId"][..], &info.metadata["sequence"][..]), (&"01".repeat(16)[..], "7"));
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_not_worth_an_attempt() {
    let harness = Harness::new(led_by(Some("n1")));
    let headers = [("grpc-timeout", "0S")];
    let status = harness.call_with::<_, PutResponse>(PUT, &put(), &headers).await.expect_err("too late");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&status), ("DEADLINE_EXCEEDED".to_owned(), "NOT_APPLIED".to_owned()));
    assert!(harness.node.requests().is_empty());
}

#[tokio::test]
async fn what_stops_the_node_is_passed_to_the_client() {
    let harness = Harness::new(led_by(Some("n1")));
    for (error, code, expected) in [
        (WriteError::Unavailable(Unavailable::Overloaded), Code::ResourceExhausted, ("OVERLOADED", "NOT_APPLIED")),
        (WriteError::Unavailable(Unavailable::StorageFull), Code::ResourceExhausted, ("STORAGE_FULL", "NOT_APPLIED")),
        (WriteError::Dropped { term: 2 }, Code::Unavailable, ("PROPOSAL_DROPPED", "NOT_APPLIED")),
        (WriteError::Stopped, Code::Unknown, ("OUTCOME_UNKNOWN", "UNKNOWN")),
    ] {
        harness.node.will_write(Write::Answer(Err(error)));
        let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("stopped");
        assert_eq!(status.code(), code);
        assert_eq!(reason(&status), (expected.0.to_owned(), expected.1.to_owned()));
    }
    harness.node.will_read(Read::Answer(Err(ReadError::DeadlineExceeded)));
    let status = harness.call::<_, GetResponse>(GET, &get()).await.expect_err("stopped");
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_draining_node_begins_nothing_new() {
    let harness = Harness::new(led_by(Some("n1")));
    harness.drain.start();
    let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("draining");
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status), ("DRAINING".to_owned(), "NOT_APPLIED".to_owned()));
    assert!(harness.node.requests().is_empty());
}

#[test]
fn one_request_too_many_is_pushed_back() {
    let in_flight = InFlight::with_units(1);
    let now = Instant::now();
    let arriving =
        Arriving { units: 1, held: 0, queue: Some(Queue::Commands), now, deadline: now + Duration::from_secs(5) };
    let _first = in_flight.admit(arriving).expect("there is room");
    let error = in_flight.admit(arriving).expect_err("there is none");
    assert!(matches!(error, ApiError::Overloaded { .. }), "{error:?}");
    let status = error.to_status(CallKind::Write);
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
}
