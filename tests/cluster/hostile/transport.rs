//! What is not even a gRPC call of ours.

use super::{Victim, call_raw};
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{future::poll_fn, time::Duration};
use tests::rpc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, Status, body::Body, client::GrpcService, metadata::MetadataValue};

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long an open connection is read. The node need not answer, it only must not be harmed.
const READ_BOUND: Duration = Duration::from_secs(1);

/// Sends bytes to the node's port and reads until it closes or says nothing more; what it said.
async fn send(victim: &Victim, bytes: &[u8]) -> Vec<u8> {
    let address = victim.cluster.nodes[victim.number].address();
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    // The node may close before everything is written.
    let written = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    if written.is_ok() {
        tokio::time::timeout(READ_BOUND, stream.read_to_end(&mut answer)).await.ok();
    }
    answer
}

#[tokio::test]
async fn random_bytes_to_the_port_harm_nobody() {
    let victim = Victim::start().await;
    let mut random = StdRng::seed_from_u64(7);
    for length in [1, 9, 24, 1000, 100_000] {
        let mut bytes = vec![0; length];
        random.fill(&mut bytes[..]);
        send(&victim, &bytes).await;
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn random_frames_behind_a_valid_preface_harm_nobody() {
    let victim = Victim::start().await;
    let mut random = StdRng::seed_from_u64(8);
    for length in [3, 9, 1000, 100_000] {
        let mut bytes = vec![0; length];
        random.fill(&mut bytes[..]);
        send(&victim, &[PREFACE, &bytes].concat()).await;
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn a_connection_that_ends_inside_a_frame_harms_nobody() {
    let victim = Victim::start().await;
    // An empty SETTINGS frame, then a HEADERS frame that promises 255 bytes and brings 3.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let headers = [0, 0, 255, 1, 4, 0, 0, 0, 1, 0x82, 0x86, 0x84];
    send(&victim, &[PREFACE, &settings, &headers].concat()).await;
    victim.goes_on().await;
}

#[tokio::test]
async fn http_1_is_refused() {
    let victim = Victim::start().await;
    let answer = send(&victim, b"GET / HTTP/1.1\r\nHost: quorate\r\n\r\n").await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    victim.goes_on().await;
}

/// A call whose body is these bytes, as they are; its status.
async fn call_with_body(victim: &Victim, content_type: &str, body: &'static str) -> Option<Status> {
    let mut channel = victim.channel();
    poll_fn(|context| GrpcService::<Body>::poll_ready(&mut channel, context)).await.expect("the node listens");
    let request = http::Request::post("/kv.v1.KvService/Put")
        .header("content-type", content_type)
        .header("te", "trailers")
        .body(Body::new(body.to_owned()))
        .expect("the request is well-formed");
    let answer = tokio::time::timeout(tests::wait::BOUND, GrpcService::call(&mut channel, request))
        .await
        .expect("the call is answered")
        .expect("the connection holds");
    Status::from_header_map(answer.headers())
}

#[tokio::test]
async fn a_truncated_grpc_frame_is_refused() {
    let victim = Victim::start().await;
    // A prefix that promises 100 bytes, and half a prefix.
    for body in ["\0\0\0\0\x64abc", "\0\0\0"] {
        let status = call_with_body(&victim, "application/grpc", body).await.expect("the answer has a status");
        assert_ne!(status.code(), Code::Ok, "{body:?}");
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn a_frame_that_claims_an_unknown_compression_is_refused() {
    let victim = Victim::start().await;
    for body in ["\x01\0\0\0\x03\n\x01k", "\x07\0\0\0\x03\n\x01k"] {
        let status = call_with_body(&victim, "application/grpc", body).await.expect("the answer has a status");
        assert_ne!(status.code(), Code::Ok, "{body:?}");
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn another_content_type_changes_nothing() {
    let victim = Victim::start().await;
    call_with_body(&victim, "application/json", "{\"key\":\"k\"}").await;
    victim.goes_on().await;
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let victim = Victim::start().await;
    for path in ["/kv.v1.KvService/Frobnicate", "/no.such.Service/Put", "/"] {
        let failure = rpc::failure(call_raw(&victim.channel(), path, Request::new(Bytes::new())).await);
        assert_eq!(failure.code, Code::Unimplemented, "{path}: {failure:?}");
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn headers_of_64_kib_are_refused() {
    let victim = Victim::start().await;
    let mut request = Request::new(Bytes::from_static(&[0x0A, 0x01, b'k']));
    let value = MetadataValue::try_from("x".repeat(64 << 10)).expect("it is ASCII");
    request.metadata_mut().insert("padding", value);
    let failure = rpc::failure(call_raw(&victim.channel(), "/kv.v1.KvService/Put", request).await);
    assert_ne!(failure.code, Code::Ok, "{failure:?}");
    victim.goes_on().await;
}

#[tokio::test]
async fn a_malformed_or_absurd_deadline_harms_nobody() {
    let victim = Victim::start().await;
    for deadline in ["", "5", "5Y", "-1S", "99999999H", "123456789S", "0n"] {
        let mut request = Request::new(Bytes::from_static(b"\n\x04kept"));
        request.metadata_mut().insert("grpc-timeout", MetadataValue::try_from(deadline).expect("it is ASCII"));
        // Whether it is refused or ignored is the server's choice; the library decides some of them before us.
        call_raw(&victim.channel(), "/kv.v1.KvService/Get", request).await.ok();
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn idle_connections_that_never_speak_harm_nobody() {
    let victim = Victim::start().await;
    let address = victim.cluster.nodes[victim.number].address();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.expect("the node listens"));
    }
    victim.goes_on().await;
}
