//! Gets that ask for a state: how old it may be, and how far it has to be.

use std::num::NonZeroU64;

use bytes::Bytes;
use engine::{Consistency, kv};
use proto::kv::v1::{GetRequest, GetResponse, PutRequest, PutResponse};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::fake::{Harness, REVISION, Read, Write, led_by, reason};
use crate::node::{Get, ReadError, ReadResult};

const GET: &str = "kv.v1.KvService/Get";

/// A get of this node's own state, within bounds.
fn stale() -> GetRequest {
    GetRequest { key: "a".to_owned(), consistency: 3, max_staleness_ms: Some(500), min_revision: 7 }
}

fn found(kv: Option<kv::KeyValue>, age_ms: Option<u64>) -> ReadResult {
    let age_ms = age_ms.and_then(NonZeroU64::new);
    ReadResult { kv, revision: 9, served_by: "n1".to_owned(), time_ms: 5, age_ms }
}

fn key_value() -> kv::KeyValue {
    let (create_revision, mod_revision) = (kv::Revision::new(2), kv::Revision::new(4));
    kv::KeyValue {
        key: Bytes::from_static(b"a"),
        value: Bytes::from_static(b"v"),
        create_revision,
        mod_revision,
        version: 3,
    }
}

#[tokio::test]
async fn this_nodes_own_state_is_read_here_whoever_leads() {
    for leader in [Some("n1"), Some("n2"), None] {
        let harness = Harness::new(led_by(leader));
        for age_ms in [Some(12), None] {
            harness.node.will_read(Read::Answer(Ok(found(Some(key_value()), age_ms))));
            let (response, _) = harness.call::<_, GetResponse>(GET, &stale()).await.expect("it has a state");
            assert_eq!((response.revision, response.staleness_ms), (9, age_ms));
        }
        assert!(harness.forwarded_to().is_empty());
        let (key, min_revision) = (Bytes::from_static(b"a"), kv::Revision::new(7));
        let asked = Get { key, consistency: Consistency::Stale { max_age_ms: Some(500) }, min_revision };
        assert_eq!(harness.node.gets(), [asked.clone(), asked]);
    }
}

#[tokio::test]
async fn a_missing_key_says_in_which_state() {
    let harness = Harness::new(led_by(None));
    for (age_ms, expected) in [(Some(12), Some("12")), (None, None)] {
        harness.node.will_read(Read::Answer(Ok(found(None, age_ms))));
        let status = harness.call::<_, GetResponse>(GET, &stale()).await.expect_err("missing");
        assert_eq!((status.code(), reason(&status).0.as_str()), (Code::NotFound, "KEY_NOT_FOUND"));
        let metadata = status.get_details_error_info().expect("one of ours").metadata;
        assert_eq!(metadata["storeRevision"], "9");
        assert_eq!(metadata.get("stalenessMs").map(String::as_str), expected);
    }
    // A write is run by the leader, and what it finds missing is missing in the leader's state.
    let harness = Harness::new(led_by(Some("n1")));
    harness.node.will_write(Write::Answer(Ok(kv::Applied::Rejected(kv::Rejection::KeyNotFound))));
    let update = PutRequest { key: "a".to_owned(), mode: 3, ..PutRequest::default() };
    let status = harness.call::<_, PutResponse>("kv.v1.KvService/Put", &update).await.expect_err("missing");
    let metadata = status.get_details_error_info().expect("one of ours").metadata;
    assert_eq!(metadata["storeRevision"], REVISION.to_string());
}

#[tokio::test]
async fn a_state_that_is_not_good_enough_is_refused_and_asked_for_nowhere_else() {
    for leader in [Some("n1"), Some("n2"), None] {
        let harness = Harness::new(led_by(leader));
        harness.node.will_read(Read::Answer(Err(ReadError::TooStale { age_ms: NonZeroU64::new(812), revision: 7 })));
        let status = harness.call::<_, GetResponse>(GET, &stale()).await.expect_err("too old");
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(reason(&status), ("STALENESS_BOUND_EXCEEDED".to_owned(), String::new()));
        let metadata = status.get_details_error_info().expect("one of ours").metadata;
        assert_eq!((&metadata["lagMs"][..], &metadata["revision"][..]), ("812", "7"));
        // Nor is it a majority that is missing, if the deadline passes while it waits for a better one.
        harness.node.will_read(Read::Answer(Err(ReadError::DeadlineExceeded)));
        let status = harness.call::<_, GetResponse>(GET, &stale()).await.expect_err("too late");
        assert_eq!(reason(&status), ("STALENESS_BOUND_EXCEEDED".to_owned(), String::new()));
        assert!(harness.forwarded_to().is_empty());
    }
}

#[tokio::test]
async fn a_revision_that_was_never_given_out_is_refused_at_once() {
    let harness = Harness::new(led_by(Some("n1")));
    harness.node.will_read(Read::Answer(Err(ReadError::RevisionAhead { revision: 9, min_revision: 11 })));
    let request = GetRequest { key: "a".to_owned(), min_revision: 11, ..GetRequest::default() };
    let status = harness.call::<_, GetResponse>(GET, &request).await.expect_err("never given out");
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(reason(&status), ("REVISION_AHEAD".to_owned(), String::new()));
    assert_eq!(harness.node.gets()[0].min_revision, kv::Revision::new(11));
}

#[test]
fn a_result_is_held_against_the_revision_that_was_asked_for() {
    for (min_revision, is_enough) in [(0, true), (8, true), (9, true), (10, false), (u64::MAX, false)] {
        let expected =
            if is_enough { Ok(found(None, None)) } else { Err(ReadError::RevisionAhead { revision: 9, min_revision }) };
        assert_eq!(found(None, None).at_least(kv::Revision::new(min_revision)), expected);
    }
}
