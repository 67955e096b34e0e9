//! Client requests that break a limit or make no sense.

use super::{Victim, call_raw};
use bytes::{Bytes, BytesMut};
use proto::kv::v1::{Consistency, DeleteRequest, GetRequest, PutMode, PutRequest, kv_service_client::KvServiceClient};
use tests::rpc::{self, Failure, Outcome};
use tonic::{Code, Request};

const PUT: &str = "/kv.v1.KvService/Put";
const GET: &str = "/kv.v1.KvService/Get";

/// Limits of the interface.
const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 1 << 20;

async fn put(victim: &Victim, request: PutRequest) -> Failure {
    rpc::failure(rpc::bounded(KvServiceClient::new(victim.channel()).put(request)).await)
}

async fn get(victim: &Victim, request: GetRequest) -> Failure {
    rpc::failure(rpc::bounded(KvServiceClient::new(victim.channel()).get(request)).await)
}

async fn delete(victim: &Victim, request: DeleteRequest) -> Failure {
    rpc::failure(rpc::bounded(KvServiceClient::new(victim.channel()).delete(request)).await)
}

/// Panics unless this is an error of ours that says that the request can never be accepted.
fn expect_invalid(failure: &Failure) {
    assert_eq!(failure.code, Code::InvalidArgument, "{failure:?}");
    assert!(failure.reason.is_some(), "{failure:?}");
}

fn expect_invalid_write(failure: &Failure) {
    expect_invalid(failure);
    failure.expect_outcome(Outcome::NotApplied);
}

#[tokio::test]
async fn the_longest_key_and_the_largest_value_are_accepted() {
    let victim = Victim::start().await;
    let channel = victim.channel();
    let (key, value) = ("k".repeat(KEY_BYTES_MAX), "v".repeat(VALUE_BYTES_MAX));
    rpc::put(&channel, &key, &value).await.expect("both are within the limits");
    assert!(rpc::get_text(&channel, &key).await.expect("the key is there") == value, "the value has changed");
    rpc::delete(&channel, &key).await.expect("the key is there");
    victim.cluster.converged().await;
}

#[tokio::test]
async fn a_key_of_1025_bytes_is_refused() {
    let victim = Victim::start().await;
    let key = "k".repeat(KEY_BYTES_MAX + 1);
    let failure = put(&victim, rpc::put_request(&key, "v")).await;
    expect_invalid_write(&failure);
    assert_eq!(failure.metadata.get("limitBytes").map(String::as_str), Some("1024"), "{failure:?}");
    expect_invalid(&get(&victim, rpc::get_request(&key)).await);
    expect_invalid_write(&delete(&victim, rpc::delete_request(&key)).await);
    victim.goes_on().await;
}

#[tokio::test]
async fn a_value_of_1_mib_and_a_byte_is_refused() {
    let victim = Victim::start().await;
    let failure = put(&victim, rpc::put_request("k", &"v".repeat(VALUE_BYTES_MAX + 1))).await;
    failure.expect(Code::InvalidArgument, "VALUE_TOO_LARGE");
    failure.expect_outcome(Outcome::NotApplied);
    assert_eq!(failure.metadata.get("limitBytes").map(String::as_str), Some("1048576"), "{failure:?}");
    assert_eq!(failure.metadata.get("actualBytes").map(String::as_str), Some("1048577"), "{failure:?}");
    victim.goes_on().await;
}

#[tokio::test]
async fn a_message_beyond_the_transports_limit_is_refused() {
    let victim = Victim::start().await;
    let failure = put(&victim, rpc::put_request("k", &"v".repeat(32 << 20))).await;
    // The library's status: which code it is depends on whether it reads on or resets the stream.
    assert_ne!(failure.code, Code::Ok, "{failure:?}");
    victim.goes_on().await;
}

#[tokio::test]
async fn an_empty_key_is_refused() {
    let victim = Victim::start().await;
    expect_invalid_write(&put(&victim, rpc::put_request("", "v")).await);
    expect_invalid(&get(&victim, rpc::get_request("")).await);
    expect_invalid_write(&delete(&victim, rpc::delete_request("")).await);
    victim.goes_on().await;
}

#[tokio::test]
async fn a_key_that_is_not_utf8_is_refused() {
    let victim = Victim::start().await;
    // Field 1, of length 2.
    let message = Bytes::from_static(&[0x0A, 0x02, 0xFF, 0xFE]);
    for path in [PUT, GET] {
        let failure = rpc::failure(call_raw(&victim.channel(), path, Request::new(message.clone())).await);
        assert!(matches!(failure.code, Code::InvalidArgument | Code::Internal), "{failure:?}");
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn a_message_that_is_no_protobuf_is_refused() {
    let victim = Victim::start().await;
    let truncated_field = Bytes::from_static(&[0x0A, 0x7F, b'k']);
    let endless_varint = Bytes::from(vec![0xFF; 64]);
    let deep_groups = Bytes::from(vec![0x0B; 100_000]);
    for message in [truncated_field, endless_varint, deep_groups] {
        let failure = rpc::failure(call_raw(&victim.channel(), PUT, Request::new(message)).await);
        assert!(matches!(failure.code, Code::InvalidArgument | Code::Internal), "{failure:?}");
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn a_field_given_twice_counts_as_its_last_and_harms_nobody() {
    let victim = Victim::start().await;
    let mut message = BytesMut::new();
    for key in [b"lost", b"kept"] {
        message.extend_from_slice(&[0x0A, 0x04]);
        message.extend_from_slice(key);
    }
    let answer = call_raw(&victim.channel(), GET, Request::new(message.freeze())).await;
    assert!(!answer.expect("the last key is there").is_empty());
    victim.goes_on().await;
}

#[tokio::test]
async fn an_unknown_enum_number_is_refused_and_never_taken_for_the_default() {
    let victim = Victim::start().await;
    for number in [5, 99, i32::MAX, -1] {
        let failure = put(&victim, PutRequest { mode: number, ..rpc::put_request("k", "v") }).await;
        assert!(matches!(failure.code, Code::InvalidArgument | Code::Unimplemented), "{failure:?}");
        assert!(failure.reason.is_some(), "{failure:?}");
        failure.expect_outcome(Outcome::NotApplied);
        let failure = get(&victim, GetRequest { consistency: number, ..rpc::get_request("kept") }).await;
        assert!(matches!(failure.code, Code::InvalidArgument | Code::Unimplemented), "{failure:?}");
        assert!(failure.reason.is_some(), "{failure:?}");
    }
    let known = GetRequest { consistency: Consistency::Linearizable.into(), ..rpc::get_request("kept") };
    rpc::bounded(KvServiceClient::new(victim.channel()).get(known)).await.expect("this one is known");
    victim.goes_on().await;
}

#[tokio::test]
async fn an_expected_revision_of_zero_is_refused() {
    let victim = Victim::start().await;
    let compare = |expected_revision| PutRequest {
        mode: PutMode::Compare.into(),
        expected_revision,
        ..rpc::put_request("kept", "v")
    };
    expect_invalid_write(&put(&victim, compare(Some(0))).await);
    expect_invalid_write(&put(&victim, compare(None)).await);
    let request = DeleteRequest { expected_revision: Some(0), ..rpc::delete_request("kept") };
    expect_invalid_write(&delete(&victim, request).await);
    victim.goes_on().await;
}

#[tokio::test]
async fn an_expected_revision_with_a_mode_that_compares_nothing_is_refused() {
    let victim = Victim::start().await;
    for mode in [PutMode::Unspecified, PutMode::Create, PutMode::Upsert, PutMode::Update] {
        for revision in [0, 1, u64::MAX] {
            let request =
                PutRequest { mode: mode.into(), expected_revision: Some(revision), ..rpc::put_request("kept", "v") };
            expect_invalid_write(&put(&victim, request).await);
        }
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn a_revision_of_the_far_future_is_a_mismatch() {
    let victim = Victim::start().await;
    let request = PutRequest {
        mode: PutMode::Compare.into(),
        expected_revision: Some(u64::MAX),
        ..rpc::put_request("kept", "v")
    };
    let failure = put(&victim, request).await;
    failure.expect(Code::FailedPrecondition, "REVISION_MISMATCH");
    failure.expect_outcome(Outcome::NotApplied);
    victim.goes_on().await;
}
