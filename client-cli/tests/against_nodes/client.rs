//! The library against nodes that misbehave. No test asserts a time; timeouts are either short because the case needs
//! them to pass, or long enough that they never do.

use crate::fake::{Instead, Node, error, hung, no_quorum, not_leader, refusing};
use client_cli::{Client, Error, Options, Outcome, PutMode, PutOptions, VALUE_BYTES_MAX};
use opentelemetry::{
    Context,
    trace::{FutureExt as _, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Never reached by a test that passes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Reached on purpose, after which another endpoint is asked.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// Reached on purpose, and long enough for a request to leave on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// Enough clients that some begin at each of two endpoints: all beginning at one has a chance of 2^-15.
pub(crate) const CLIENTS: usize = 16;

pub(crate) fn options(endpoints: &[&str]) -> Options {
    let options = Options::new(endpoints).expect("they are well formed").timeout(LONG).attempt_timeout(LONG);
    // Which calls are made does not depend on how busy the machine is.
    options.hedged_reads(false)
}

pub(crate) fn client(endpoints: &[&str]) -> Client {
    Client::connect(options(endpoints))
}

#[tokio::test]
async fn the_four_modes_and_their_errors() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    let written = client.put("a", "1", PutOptions::default()).await.expect("it is created");
    assert_eq!((written.revision, written.version), (1, 1));

    let exists = client.put("a", "2", PutMode::Create).await.expect_err("it exists");
    assert!(matches!(&exists, Error::KeyExists { key, .. } if key == "a"), "{exists:?}");
    assert_eq!(exists.to_string(), "key already exists: a");
    assert_eq!(exists.outcome(), Outcome::NotApplied);
    let missing = client.put("b", "2", PutMode::Update).await.expect_err("it is missing");
    assert!(matches!(&missing, Error::KeyNotFound { key, .. } if key == "b"), "{missing:?}");
    assert_eq!(missing.to_string(), "key not found: b");
    let mismatch = client.put("a", "2", PutMode::Compare(9)).await.expect_err("it is at revision 1");
    assert!(matches!(mismatch, Error::RevisionMismatch { actual: Some(1), .. }), "{mismatch:?}");

    assert_eq!(client.put("a", "2", PutMode::Compare(1)).await.expect("it matches").version, 2);
    assert_eq!(client.put("a", "3", PutMode::Update).await.expect("it exists").version, 3);
    assert_eq!(client.put("c", "1", PutMode::Upsert).await.expect("any will do").version, 1);
    let found = client.get("a").await.expect("it is there");
    assert_eq!((found.key_value.value.as_ref(), found.key_value.mod_revision, found.revision), (&b"3"[..], 3, 4));
    assert!(matches!(client.delete("a", Some(9)).await, Err(Error::RevisionMismatch { actual: Some(3), .. })));
    assert_eq!(client.delete("a", Some(3)).await.expect("it matches").revision, 5);
    assert!(matches!(client.delete("a", None).await, Err(Error::KeyNotFound { .. })));
    assert!(matches!(client.get("a").await, Err(Error::KeyNotFound { .. })));
}

#[tokio::test]
async fn a_named_leader_is_asked_and_remembered() {
    let (follower, leader) = (Node::start(), Node::start());
    // The leader is not among the endpoints: it is known by its hint alone.
    let client = client(&[&follower.endpoint()]);
    follower.instead(Instead::Fail(not_leader(&leader))).follows("n2", &leader);
    client.put("a", "1", PutMode::Create).await.expect("the leader takes it");
    assert_eq!(leader.value("a").as_deref(), Some(&b"1"[..]));
    assert_eq!(client.known_leader().map(|leader| leader.name).as_deref(), Some("n2"));
    client.get("a").await.expect("the leader is asked first");
    assert_eq!((follower.calls("Put").len(), follower.calls("Get").len()), (1, 0));
}

#[tokio::test]
async fn a_call_tells_how_many_there_were_before() {
    let node = Node::start();
    node.instead(Instead::Fail(no_quorum()));
    let client = Client::connect(options(&[&node.endpoint()]).pipelining(false));
    client.put("a", "1", PutMode::Create).await.expect("the second attempt succeeds");
    let attempts = node.calls("Put")[1].get("grpc-previous-rpc-attempts").cloned();
    assert_eq!(attempts.expect("it is the second attempt"), "1");
}

#[tokio::test]
async fn a_leader_learnt_from_an_answer_is_asked_next_time() {
    let (follower, leader) = (Node::start(), Node::start());
    follower.follows("n2", &leader);
    let client = client(&[&follower.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("the node forwards it");
    client.put("b", "1", PutMode::Create).await.expect("the leader takes it");
    assert_eq!((follower.calls("Put").len(), leader.calls("Put").len()), (1, 1));
}

#[tokio::test]
async fn a_dead_leader_is_forgotten() {
    let (follower, mut leader) = (Node::start(), Node::start());
    follower.follows("n2", &leader);
    let client = client(&[&follower.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("the node forwards it");
    client.put("b", "1", PutMode::Create).await.expect("the leader takes it");
    leader.kill();
    // The connection may still look alive, so a write could end unknown; a read finds out.
    client.get("a").await.expect("the follower answers");
    client.put("c", "1", PutMode::Create).await.expect("the follower takes it");
    assert_eq!(follower.value("c").as_deref(), Some(&b"1"[..]));
}

#[tokio::test]
async fn a_refused_connection_leads_to_the_next_endpoint() {
    let node = Node::start();
    let (_kept, refusing) = refusing();
    for at in 0..CLIENTS {
        let client = client(&[&refusing, &node.endpoint()]);
        client.put(format!("k{at}"), "1", PutMode::Create).await.expect("the other endpoint takes it");
        client.get(format!("k{at}")).await.expect("the other endpoint answers");
    }
}

#[tokio::test]
async fn a_cluster_that_is_away_is_reported_endpoint_by_endpoint() {
    let (_kept, endpoints): (Vec<_>, Vec<String>) = [refusing(), refusing()].into_iter().unzip();
    let client = client(&[&endpoints[0], &endpoints[1]]);
    let error = client.put("a", "1", PutMode::Create).await.expect_err("nobody is there");
    assert!(matches!(error, Error::NotApplied(_)), "{error:?}");
    let mut asked: Vec<String> = error.failure().attempts.iter().map(|attempt| attempt.endpoint.to_string()).collect();
    asked.sort();
    let mut expected = endpoints.clone();
    expected.sort();
    assert_eq!(asked, expected);
    for attempt in &error.failure().attempts {
        assert!(attempt.message.starts_with("cannot connect: Connection refused"), "{attempt}");
        assert_eq!(attempt.outcome, Outcome::NotApplied);
    }
}

#[tokio::test]
async fn a_write_waits_for_a_quorum_as_long_as_it_is_certain() {
    let node = Node::start();
    let mut busy = no_quorum();
    busy.metadata_mut().insert("grpc-retry-pushback-ms", "1".parse().expect("ASCII"));
    let overloaded = error(Code::ResourceExhausted, "OVERLOADED", "queue full", &[("outcome", "NOT_APPLIED")]);
    node.instead(Instead::Fail(no_quorum())).instead(Instead::Fail(busy)).instead(Instead::Fail(overloaded));
    client(&[&node.endpoint()]).put("a", "1", PutMode::Create).await.expect("the fourth attempt succeeds");
    assert_eq!(node.calls("Put").len(), 4);
}

#[tokio::test]
async fn a_server_may_forbid_another_attempt() {
    let node = Node::start();
    let mut status = no_quorum();
    status.metadata_mut().insert("grpc-retry-pushback-ms", "-1".parse().expect("ASCII"));
    node.instead(Instead::Fail(status));
    // An error on a stream has no metadata.
    let client = Client::connect(options(&[&node.endpoint()]).pipelining(false));
    let error = client.put("a", "1", PutMode::Create).await.expect_err("it may not be repeated");
    assert!(matches!(error, Error::NotApplied(_)), "{error:?}");
    assert_eq!(error.to_string(), "no quorum: 1 of 2 needed");
    assert_eq!(node.calls("Put").len(), 1);
}

#[tokio::test]
async fn a_pause_beyond_the_deadline_is_not_waited_for() {
    let node = Node::start();
    let mut details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3600)));
    details.set_error_info("NO_QUORUM", "quorate", [("outcome".to_owned(), "NOT_APPLIED".to_owned())]);
    node.instead(Instead::Fail(Status::with_error_details(Code::Unavailable, "no quorum", details)));
    let error = client(&[&node.endpoint()]).get("a").await.expect_err("there is no quorum");
    assert!(matches!(error, Error::NotApplied(_)), "{error:?}");
}

#[tokio::test]
async fn a_read_leaves_a_hung_endpoint_for_another() {
    let node = Node::start();
    let (_kept, hung) = hung();
    client(&[&node.endpoint()]).put("a", "1", PutMode::Create).await.expect("it is created");
    for _ in 0..CLIENTS {
        let client = Client::connect(options(&[&hung, &node.endpoint()]).attempt_timeout(SHORT));
        client.get("a").await.expect("the other endpoint answers");
    }
}

#[tokio::test]
async fn a_write_is_not_entrusted_to_a_hung_endpoint() {
    let node = Node::start();
    let (_kept, hung) = hung();
    for at in 0..CLIENTS {
        let client = Client::connect(options(&[&hung, &node.endpoint()]).attempt_timeout(SHORT));
        client.put(format!("k{at}"), "1", PutMode::Create).await.expect("the other endpoint takes it");
    }
}

#[tokio::test]
async fn a_write_has_more_patience_in_each_round() {
    let nodes = [Node::start(), Node::start()];
    let endpoints = nodes.each_ref().map(Node::endpoint);
    for node in &nodes {
        node.is_slow(SHORT * 2);
    }
    let client = Client::connect(options(&[&endpoints[0], &endpoints[1]]).attempt_timeout(SHORT));
    client.put("a", "1", PutMode::Create).await.expect("slow is not away");
}

#[tokio::test]
async fn a_write_that_found_only_hung_endpoints_is_certainly_not_applied() {
    let (_kept, hung) = hung();
    let client = Client::connect(options(&[&hung]).timeout(SHORT));
    let error = client.put("a", "1", PutMode::Create).await.expect_err("nobody answers");
    assert!(matches!(error, Error::DeadlineExceeded(_)), "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn a_write_goes_to_a_node_that_knows_a_leader() {
    let (cut_off, node) = (Node::start(), Node::start());
    cut_off.has_status(client_cli::StatusResponse::default());
    for at in 0..CLIENTS {
        let client = client(&[&cut_off.endpoint(), &node.endpoint()]);
        client.put(format!("k{at}"), "1", PutMode::Create).await.expect("the other endpoint takes it");
    }
    assert_eq!((cut_off.calls("Put").len(), node.calls("Put").len()), (0, CLIENTS));
    // Where there is no other, the node itself waits for a leader.
    client(&[&cut_off.endpoint()]).put("k", "1", PutMode::Create).await.expect("the only endpoint takes it");
}

#[tokio::test]
async fn a_node_without_a_quorum_is_tried_last_for_a_while() {
    let (cut_off, node) = (Node::start(), Node::start());
    let client = client(&[&cut_off.endpoint(), &node.endpoint()]);
    // Both answer something, so that either may be asked; then one has lost its quorum.
    while cut_off.calls("Put").is_empty() || node.calls("Put").is_empty() {
        client.put("k", "1", PutMode::Upsert).await.expect("either takes it");
    }
    cut_off.instead(Instead::Fail(no_quorum()));
    let before = cut_off.calls("Put").len();
    while cut_off.calls("Put").len() == before {
        client.put("k", "1", PutMode::Upsert).await.expect("one of them takes it");
    }
    assert!(client.put("k", "1", PutMode::Upsert).await.is_ok());
    assert_eq!(cut_off.calls("Put").len(), before + 1);
}

#[tokio::test]
async fn a_write_that_a_node_gave_up_in_time_is_repeated() {
    let node = Node::start();
    let late = error(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "too late", &[("outcome", "NOT_APPLIED")]);
    node.instead(Instead::Fail(late));
    client(&[&node.endpoint()]).put("a", "1", PutMode::Create).await.expect("the second attempt succeeds");
}

#[tokio::test]
async fn the_deadline_leaves_a_write_unknown_and_a_read_harmless() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    let hurried = client.with_timeout(DEADLINE);

    node.instead(Instead::Hang);
    let write = hurried.put("b", "1", PutMode::Create).await.expect_err("it hangs");
    assert!(matches!(write, Error::OutcomeUnknown { request_id: Some(_), .. }), "{write:?}");
    assert_eq!(write.failure().attempts[0].code, Code::DeadlineExceeded);

    for _ in 0..8 {
        node.instead(Instead::Hang);
    }
    let read = hurried.get("a").await.expect_err("it hangs");
    assert!(matches!(read, Error::DeadlineExceeded(_)), "{read:?}");

    let sent = node.calls("Get")[0].get("grpc-timeout").cloned().expect("the deadline is sent");
    let sent = sent.to_str().expect("ASCII").strip_suffix('u').expect("microseconds").to_owned();
    assert!(sent.parse::<u128>().expect("a number") <= DEADLINE.as_micros());
}

#[tokio::test]
async fn a_server_of_another_kind_gets_no_write() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let server = tonic::transport::Server::builder()
        .add_routes(tonic::service::Routes::default())
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let error = client(&[&address]).put("a", "1", PutMode::Create).await.expect_err("it is no node");
    assert!(matches!(error, Error::NotApplied(_)), "{error:?}");
    assert_eq!(error.failure().attempts[0].code, Code::Unimplemented);
    server.abort();
}

#[tokio::test]
async fn a_value_beyond_the_limit_is_not_sent() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    client.put("a", vec![0; VALUE_BYTES_MAX], PutMode::Create).await.expect("the limit itself is allowed");
    assert_eq!(client.get("a").await.expect("it is there").key_value.value.len(), VALUE_BYTES_MAX);
    let error = client.put("b", vec![0; VALUE_BYTES_MAX + 1], PutMode::Create).await.expect_err("it is too large");
    assert!(matches!(error, Error::InvalidArgument(_)), "{error:?}");
    assert_eq!(node.calls("Put").len(), 1);
}

#[tokio::test]
async fn the_servers_words_are_kept_for_what_it_refuses() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    let invalid = error(Code::InvalidArgument, "KEY_EMPTY", "the key is empty", &[("outcome", "NOT_APPLIED")]);
    let full = error(Code::ResourceExhausted, "STORAGE_FULL", "the disk is full", &[("outcome", "NOT_APPLIED")]);
    node.instead(Instead::Fail(invalid)).instead(Instead::Fail(full));
    let invalid = client.put("", "1", PutMode::Create).await.expect_err("the key is empty");
    assert!(matches!(invalid, Error::InvalidArgument(_)) && invalid.to_string() == "the key is empty", "{invalid:?}");
    let full = client.put("a", "1", PutMode::Create).await.expect_err("the disk is full");
    assert!(matches!(full, Error::Refused(_)) && full.to_string() == "the disk is full", "{full:?}");
    assert_eq!(node.calls("Put").len(), 2);
}

#[tokio::test]
async fn the_trace_context_is_sent_with_each_call() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    assert!(node.calls("Put")[0].get("traceparent").is_none());
    let parent =
        SpanContext::new(TraceId::from(7_u128), SpanId::from(9_u64), TraceFlags::SAMPLED, true, TraceState::default());
    let context = Context::new().with_remote_span_context(parent);
    client.get("a").with_context(context).await.expect("it is there");
    let sent = node.calls("Get")[0].get("traceparent").cloned().expect("it is sent");
    assert_eq!(sent, "00-00000000000000000000000000000007-0000000000000009-01");
}

#[tokio::test]
async fn each_endpoint_is_asked_for_its_status() {
    let (first, second) = (Node::start(), Node::start());
    let status = |name: &str| client_cli::StatusResponse { name: name.to_owned(), ..Default::default() };
    first.has_status(status("n1"));
    second.has_status(status("n2"));
    let (_kept, away) = refusing();
    let statuses = client(&[&first.endpoint(), &away, &second.endpoint()]).statuses().await;
    let names: Vec<Option<&str>> =
        statuses.iter().map(|(_, status)| status.as_ref().ok().map(|status| status.name.as_str())).collect();
    assert_eq!(names, [Some("n1"), None, Some("n2")]);
    assert!(matches!(statuses[1].1, Err(Error::NotApplied(_))));
}

#[tokio::test]
async fn leadership_is_handed_over_by_the_leader() {
    let (follower, leader) = (Node::start(), Node::start());
    follower.instead(Instead::Fail(not_leader(&leader)));
    let client = client(&[&follower.endpoint()]);
    assert_eq!(client.transfer_leadership(Some("n3")).await.expect("the leader does it"), ("n3".to_owned(), 2));
    assert!(client.list_members().await.expect("any node knows").is_empty());
}
