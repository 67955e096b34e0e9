//! What no well-behaved client sends.

use bytes::Bytes;
use prost::Message as _;
use proto::kv::v1::{DeleteRequest, GetRequest, GetResponse, PutRequest, PutResponse};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::fake::{Harness, frame, led_by, reason};
use crate::api::limits::MESSAGE_BYTES_MAX;

const PUT: &str = "kv.v1.KvService/Put";
const GET: &str = "kv.v1.KvService/Get";
const DELETE: &str = "kv.v1.KvService/Delete";

fn put() -> PutRequest {
    PutRequest { key: "a".to_owned(), value: Bytes::from_static(b"v"), ..Default::default() }
}

fn harness() -> Harness {
    Harness::new(led_by(Some("n1")))
}

/// Sends a body that no write comes out of, and returns code and reason.
async fn refused(harness: &Harness, method: &str, body: Bytes, headers: &[(&str, &str)]) -> (Code, String, String) {
    let status = harness.send(method, body, headers).await.expect_err("refused");
    assert!(harness.node.requests().is_empty(), "nothing reaches the node");
    let (reason, outcome) = reason(&status);
    (status.code(), reason, outcome)
}

fn invalid(reason: &str) -> (Code, String, String) {
    (Code::InvalidArgument, reason.to_owned(), "NOT_APPLIED".to_owned())
}

#[tokio::test]
async fn fields_out_of_bounds_are_named() {
    let harness = harness();
    let key = |bytes| PutRequest { key: "k".repeat(bytes), ..put() };
    let value = |bytes| PutRequest { value: vec![0; bytes].into(), ..put() };
    for (request, expected, field) in [
        (key(0), "KEY_EMPTY", "key"),
        (key(1025), "KEY_TOO_LARGE", "key"),
        (value((1 << 20) + 1), "VALUE_TOO_LARGE", "value"),
        (value(3 << 20), "VALUE_TOO_LARGE", "value"),
        (PutRequest { mode: 99, ..put() }, "MODE_UNKNOWN", "mode"),
        (PutRequest { mode: 4, ..put() }, "EXPECTED_REVISION_MISSING", "expected_revision"),
        (PutRequest { expected_revision: Some(1), ..put() }, "EXPECTED_REVISION_NOT_ALLOWED", "expected_revision"),
        (PutRequest { mode: 4, expected_revision: Some(0), ..put() }, "EXPECTED_REVISION_ZERO", "expected_revision"),
    ] {
        let status = harness.call::<_, PutResponse>(PUT, &request).await.expect_err("out of bounds");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason(&status), (expected.to_owned(), "NOT_APPLIED".to_owned()));
        let details = status.get_details_bad_request().expect("a BadRequest");
        assert_eq!(details.field_violations[0].field, field);
    }
    assert!(harness.node.requests().is_empty());
    let get = GetRequest { key: "a".to_owned(), consistency: 7, ..GetRequest::default() };
    let status = harness.call::<_, GetResponse>(GET, &get).await.expect_err("out of bounds");
    assert_eq!(reason(&status), ("CONSISTENCY_UNKNOWN".to_owned(), String::new()));
    let delete = DeleteRequest { key: "a".to_owned(), expected_revision: Some(0), ..Default::default() };
    assert_eq!(refused(&harness, DELETE, frame(&delete.encode_to_vec()), &[]).await, invalid("EXPECTED_REVISION_ZERO"));
}

#[tokio::test]
async fn a_message_beyond_the_transports_limit_is_labelled_too() {
    let harness = harness();
    for bytes in [MESSAGE_BYTES_MAX, 8 << 20] {
        let body = frame(&PutRequest { value: vec![0; bytes].into(), ..put() }.encode_to_vec());
        assert_eq!(refused(&harness, PUT, body, &[]).await, invalid("MESSAGE_TOO_LARGE"));
    }
    // The length that the frame announces is enough: nothing is reserved for it.
    let announced = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(refused(&harness, PUT, announced, &[]).await, invalid("MESSAGE_TOO_LARGE"));
}

#[tokio::test]
async fn bytes_that_are_no_message_are_malformed() {
    let harness = harness();
    let message = put().encode_to_vec();
    let mut cut = frame(&message).to_vec();
    cut.pop();
    let mut trailing = frame(&message).to_vec();
    trailing.push(0);
    for (what, body) in [
        ("random", frame(&[0xde, 0xad, 0xbe, 0xef, 0x01, 0x02, 0x03])),
        ("a key that is no UTF-8", frame(&[0x0a, 2, 0xff, 0xfe])),
        ("a length beyond the end", frame(&[0x0a, 100, b'a'])),
        ("a wrong wire type", frame(&[0x08, 1])),
        ("a varint without an end", frame(&[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])),
        ("a frame that ends early", cut.into()),
        ("half a frame head", Bytes::from_static(&[0, 0])),
        ("bytes after the frame", trailing.into()),
        ("a second message", [frame(&message), frame(&[0xff])].concat().into()),
        ("no message", Bytes::new()),
        ("an unknown compression flag", [&[7][..], &frame(&message)[1..]].concat().into()),
        ("compression without an encoding", [&[1][..], &frame(&message)[1..]].concat().into()),
    ] {
        assert_eq!(refused(&harness, PUT, body, &[]).await, invalid("MESSAGE_MALFORMED"), "{what}");
    }
}

#[tokio::test]
async fn a_compressed_message_is_unsupported_and_cannot_grow() {
    let harness = harness();
    let (code, reason, outcome) =
        refused(&harness, PUT, frame(&put().encode_to_vec()), &[("grpc-encoding", "gzip")]).await;
    assert_eq!((code, &reason[..], &outcome[..]), (Code::Unimplemented, "UNSUPPORTED", "NOT_APPLIED"));
}

#[tokio::test]
async fn unknown_methods_and_services_are_unimplemented() {
    let harness = harness();
    let (code, reason, _) = refused(&harness, "kv.v1.KvService/Explode", frame(&[]), &[]).await;
    assert_eq!((code, &reason[..]), (Code::Unimplemented, "UNSUPPORTED"));
    let (code, reason, _) = refused(&harness, "admin.v1.AdminService/Explode", frame(&[]), &[]).await;
    assert_eq!((code, &reason[..]), (Code::Unimplemented, "UNSUPPORTED"));
    let status = harness.send("kv.v2.KvService/Put", frame(&[]), &[]).await.expect_err("no such service");
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn what_does_not_claim_to_be_grpc_is_not_run() {
    let harness = harness();
    for content_type in ["application/json", "text/plain", "application/grpc-web", ""] {
        let response = harness.post(PUT, content_type, frame(&put().encode_to_vec()), &[]).await;
        assert_eq!(response.status(), http::StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
    }
    assert!(harness.node.requests().is_empty(), "nothing reaches the node");
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let harness = harness();
    for timeout in ["", "soon", "5", "+5S", "-1S", "123456789S", "5s"] {
        let body = frame(&put().encode_to_vec());
        let refused = refused(&harness, PUT, body, &[("grpc-timeout", timeout)]).await;
        assert_eq!(refused, invalid("TIMEOUT_MALFORMED"), "{timeout:?}");
    }
}

#[tokio::test]
async fn repeated_fields_take_the_last_and_unknown_ones_are_skipped() {
    let harness = harness();
    harness.node.will_write(super::fake::Write::Answer(super::fake::written()));
    let mut message = PutRequest { key: "first".to_owned(), ..put() }.encode_to_vec();
    message.extend(PutRequest { key: "last".to_owned(), ..put() }.encode_to_vec());
    message.extend([0xf8, 0x07, 1]);
    harness.send(PUT, frame(&message), &[]).await.expect("a valid message");
    assert_eq!(harness.node.requests()[0].command.key().map(|key| &key[..]), Some(&b"last"[..]));
}
