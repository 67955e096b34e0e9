//! Many requests on one stream: what the fast road adds to what every other test asks of it as well.

use crate::{
    client::{DEADLINE, LONG, SHORT, options},
    fake::{Instead, Node, error, no_quorum, not_leader, outcome_unknown},
};
use client_cli::{Client, Error, Outcome, PutMode, VALUE_BYTES_MAX, Written};
use proto::kv::v1 as kv;
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// As many as a node allows on a stream.
const WINDOW: usize = 4096;

fn client(node: &Node) -> Client {
    Client::connect(options(&[&node.endpoint()]))
}

/// A client that has an open stream to the node, and has learnt all it needs to write.
async fn ready(node: &Node) -> Client {
    let client = client(node);
    client.get("none").await.expect_err("it is missing");
    assert_eq!(client.open_streams(), 1);
    client
}

/// So many puts of different keys, all at once.
fn puts(client: &Client, count: usize) -> JoinSet<Result<Written, Error>> {
    let mut puts = JoinSet::new();
    for at in 0..count {
        let client = client.clone();
        puts.spawn(async move { client.put(format!("k{at}"), "1", PutMode::Create).await });
    }
    puts
}

/// The names of the writes that arrived, each once.
fn distinct(names: &[kv::RequestId]) -> BTreeSet<(Vec<u8>, u64)> {
    names.iter().map(|name| (name.session.to_vec(), name.sequence)).collect()
}

#[tokio::test]
async fn many_at_once_travel_in_few_frames() {
    const PUTS: usize = 1000;
    let node = Node::start();
    let client = ready(&node).await;
    let written = puts(&client, PUTS).join_all().await;
    assert!(written.iter().all(Result::is_ok));
    let frames = node.frames();
    assert_eq!((frames.iter().sum::<usize>(), node.runs(), node.streams()), (PUTS + 1, PUTS, 1));
    assert!(frames.iter().all(|count| *count <= 256), "{frames:?}");
    assert!(frames.len() <= PUTS / 10, "{frames:?}");
}

#[tokio::test]
async fn one_after_the_other_share_the_stream() {
    let node = Node::start();
    let client = ready(&node).await;
    for _ in 0..10 {
        client.put("k", "1", PutMode::Upsert).await.expect("it is written");
        client.get("k").await.expect("it is there");
    }
    client.delete("k", None).await.expect("it is removed");
    assert_eq!((node.streams(), node.frames()), (1, vec![1; 22]));
}

#[tokio::test]
async fn a_stream_that_breaks_loses_no_write_and_doubles_none() {
    const PUTS: usize = 300;
    for instead in [Instead::End, Instead::DoAndEnd] {
        let node = Node::start();
        let client = ready(&node).await;
        for _ in 0..PUTS / 2 {
            node.instead(Instead::DoAndHang);
        }
        node.instead(instead(Status::internal("a proxy's words")));
        let revisions: BTreeSet<u64> =
            puts(&client, PUTS).join_all().await.into_iter().map(|put| put.expect("it is created").revision).collect();
        assert_eq!(revisions, (1..=PUTS as u64).collect());
        let names = node.names();
        assert_eq!((node.runs(), distinct(&names).len()), (PUTS, PUTS));
        assert!(names.len() > PUTS, "some were sent again: {}", names.len());
        // Who comes before it is known that the connection is at fault may open one more on it.
        assert!((2..=3).contains(&node.streams()), "{}", node.streams());
    }
}

#[tokio::test]
async fn a_node_that_dies_under_many_is_left_for_another() {
    const PUTS: usize = 300;
    let mut leader = Node::start();
    let other = leader.start_beside();
    for _ in 0..PUTS {
        leader.instead(Instead::DoAndHang);
    }
    leader.follows("n1", &leader);
    let client = Client::connect(options(&[&leader.endpoint(), &other.endpoint()]));
    client.status(&leader.endpoint().parse().expect("it is well formed")).await.expect("it tells the leader");
    let puts = puts(&client, PUTS);
    leader.hangs().await;
    leader.kill();
    let written = puts.join_all().await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    assert_eq!(other.runs(), PUTS);
}

#[tokio::test]
async fn a_node_that_drains_has_not_run_what_it_did_not_answer() {
    let node = Node::start();
    let client = ready(&node).await.with_timeout(DEADLINE);
    let draining = || error(Code::Unavailable, "DRAINING", "the node is shutting down", &[]);
    node.instead(Instead::End(draining()));
    client.put("a", "1", PutMode::Create).await.expect("it is sent again");
    assert_eq!((node.names().len(), node.streams()), (2, 2));
    // Every other end of a stream, whatever it says, says nothing of a single write.
    let nonsense = error(Code::InvalidArgument, "TAG_REUSED", "a tag is in use", &[("outcome", "NOT_APPLIED")]);
    for status in [nonsense, Status::unavailable("a proxy's words")] {
        for _ in 0..20 {
            node.instead(Instead::End(status.clone()));
        }
        let unknown = client.put("b", "1", PutMode::Create).await.expect_err("it is never answered");
        assert_eq!(unknown.outcome(), Outcome::Unknown, "{unknown:?}");
        node.forget_script();
        client.get_outcome(unknown.request_id().expect("it has a name")).await.expect("it is settled");
    }
}

#[tokio::test]
async fn an_older_node_gets_calls() {
    let node = Node::start();
    node.is_streamless();
    let client = client(&node);
    let written = puts(&client, 20).join_all().await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    client.get("k1").await.expect("it is there");
    assert_eq!((node.streams(), node.frames().len(), node.runs(), client.open_streams()), (1, 0, 20, 0));
    let timeouts = node.calls("Put");
    assert!(timeouts.iter().all(|metadata| metadata.contains_key("grpc-timeout")));
    // After a connection was lost, it may be another node that is there.
    node.has_streams().instead(Instead::DoAndFail(Status::unavailable("a proxy's words")));
    client.put("a", "1", PutMode::Create).await.expect("it is sent again");
    assert_eq!((node.streams(), client.open_streams()), (2, 1));
}

#[tokio::test]
async fn calls_are_made_if_that_is_wanted() {
    let node = Node::start();
    let client = Client::connect(options(&[&node.endpoint()]).pipelining(false));
    assert!(puts(&client, 10).join_all().await.iter().all(Result::is_ok));
    client.get("k1").await.expect("it is there");
    assert_eq!((node.streams(), node.calls("Put").len(), client.open_streams()), (0, 10, 0));
}

/// What an error becomes: the kind of it, its outcome, and how often the write was sent.
type Verdict = (&'static str, Outcome, usize);

fn kind(error: &Error) -> &'static str {
    match error {
        Error::KeyExists { .. } => "KeyExists",
        Error::KeyNotFound { .. } => "KeyNotFound",
        Error::RevisionMismatch { .. } => "RevisionMismatch",
        Error::InvalidArgument(_) => "InvalidArgument",
        Error::NotApplied(_) => "NotApplied",
        Error::DeadlineExceeded(_) => "DeadlineExceeded",
        Error::OutcomeUnknown { .. } => "OutcomeUnknown",
        Error::SessionExpired(_) => "SessionExpired",
        Error::Refused(_) => "Refused",
        _ => "another",
    }
}

#[tokio::test]
async fn each_error_means_the_same_on_both_roads() {
    use Outcome::{NotApplied, Unknown};
    const DONE: Verdict = ("done", NotApplied, 2);
    let table: [(Code, &str, &str, Verdict); 19] = [
        (Code::AlreadyExists, "KEY_EXISTS", "NOT_APPLIED", ("KeyExists", NotApplied, 1)),
        (Code::NotFound, "KEY_NOT_FOUND", "NOT_APPLIED", ("KeyNotFound", NotApplied, 1)),
        (Code::FailedPrecondition, "REVISION_MISMATCH", "NOT_APPLIED", ("RevisionMismatch", NotApplied, 1)),
        (Code::InvalidArgument, "VALUE_TOO_LARGE", "NOT_APPLIED", ("InvalidArgument", NotApplied, 1)),
        (Code::InvalidArgument, "REQUEST_ID_REUSED", "NOT_APPLIED", ("InvalidArgument", NotApplied, 1)),
        (Code::ResourceExhausted, "STORAGE_FULL", "NOT_APPLIED", ("Refused", NotApplied, 1)),
        (Code::FailedPrecondition, "READ_ONLY", "NOT_APPLIED", ("Refused", NotApplied, 1)),
        (Code::Unimplemented, "UNSUPPORTED", "NOT_APPLIED", ("Refused", NotApplied, 1)),
        (Code::Aborted, "REQUEST_FENCED", "NOT_APPLIED", ("Refused", NotApplied, 1)),
        (Code::FailedPrecondition, "RESULT_FORGOTTEN", "UNKNOWN", ("OutcomeUnknown", Unknown, 1)),
        (Code::FailedPrecondition, "SESSION_EXPIRED", "UNKNOWN", DONE),
        (Code::Unavailable, "NOT_LEADER", "NOT_APPLIED", DONE),
        (Code::Unavailable, "NO_QUORUM", "NOT_APPLIED", DONE),
        (Code::Unavailable, "PROPOSAL_DROPPED", "NOT_APPLIED", DONE),
        (Code::Unavailable, "DRAINING", "NOT_APPLIED", DONE),
        (Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED", DONE),
        (Code::ResourceExhausted, "SESSION_FULL", "NOT_APPLIED", DONE),
        (Code::Unknown, "OUTCOME_UNKNOWN", "UNKNOWN", DONE),
        (Code::DeadlineExceeded, "OUTCOME_UNKNOWN", "UNKNOWN", DONE),
    ];
    for (code, reason, outcome, expected) in table {
        for pipelining in [true, false] {
            let node = Node::start();
            let client = Client::connect(options(&[&node.endpoint()]).pipelining(pipelining));
            client.get("none").await.expect_err("it is missing");
            let details = [("outcome", outcome), ("currentRevision", "7"), ("timeMs", "1")];
            node.instead(Instead::Fail(error(code, reason, "words", &details)));
            let result = client.put("a", "1", PutMode::Create).await;
            let sent = node.names().len();
            let verdict = match &result {
                Ok(_) => ("done", NotApplied, sent),
                Err(error) => (kind(error), error.outcome(), sent),
            };
            assert_eq!(verdict, expected, "{code:?} {reason}, pipelining: {pipelining}");
            if let Err(error) = &result {
                assert_eq!(error.to_string(), "words", "{reason}, pipelining: {pipelining}");
                let attempt = &error.failure().attempts[0];
                assert_eq!((attempt.code, attempt.reason.as_deref()), (code, Some(reason)));
                if let Error::RevisionMismatch { actual, .. } = error {
                    assert_eq!(*actual, Some(7), "pipelining: {pipelining}");
                }
            }
            assert_eq!(node.streams() > 0, pipelining);
        }
    }
}

#[tokio::test]
async fn no_more_are_sent_than_a_node_allows() {
    const BEYOND: usize = 100;
    let node = Node::start();
    let client = ready(&node).await;
    for _ in 0..WINDOW {
        node.instead(Instead::Hang);
    }
    let mut gets = JoinSet::new();
    for _ in 0..WINDOW + BEYOND {
        let client = client.clone();
        gets.spawn(async move { client.with_timeout(LONG / 2).get("none").await });
    }
    for _ in 0..WINDOW {
        node.hangs().await;
    }
    let more = client.with_timeout(SHORT).put("more", "1", PutMode::Create).await.expect_err("there is no room");
    assert!(matches!(more, Error::DeadlineExceeded(_)), "{more:?}");
    assert_eq!(more.outcome(), Outcome::NotApplied, "it was not sent");
    assert_eq!(node.calls("Get").len(), 1 + WINDOW);
    // Whoever waits for nothing any more makes no room: the node has them still. Another stream does.
    drop(gets);
    client.get("none").await.expect_err("it is missing");
}

#[tokio::test]
async fn dropping_a_request_leaves_the_stream_as_good_as_before() {
    let node = Node::start();
    let client = ready(&node).await;
    node.instead(Instead::DoAndHang);
    {
        let mut put = Box::pin(client.put("dropped", "1", PutMode::Create));
        tokio::select! {
            done = &mut put => panic!("it hangs: {done:?}"),
            () = node.hangs() => {}
        }
    }
    // Dropped before they were sent, and never sent then.
    for _ in 0..10 {
        let mut put = Box::pin(client.put("never", "1", PutMode::Create));
        assert!(futures_poll_once(put.as_mut()).await.is_none());
    }
    for at in 0..10 {
        client.put(format!("k{at}"), "1", PutMode::Create).await.expect("it is created");
    }
    assert_eq!((node.streams(), node.value("never")), (1, None));
    let last = node.names().last().cloned().expect("there are some");
    assert_eq!(last.acknowledged_below, last.sequence, "what was dropped is over");
}

/// Polls once.
async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn large_values_go_both_ways() {
    const LARGE: usize = 20;
    let node = Node::start();
    let client = ready(&node).await;
    let mut puts = JoinSet::new();
    for at in 0..LARGE {
        let client = client.clone();
        puts.spawn(async move { client.put(format!("k{at}"), vec![7; VALUE_BYTES_MAX], PutMode::Create).await });
    }
    assert!(puts.join_all().await.iter().all(Result::is_ok));
    for at in 0..LARGE {
        let found = client.get(format!("k{at}")).await.expect("it is there");
        assert_eq!(found.key_value.value.len(), VALUE_BYTES_MAX);
    }
    // None shares a frame: two of them have more than a frame may.
    assert_eq!((node.streams(), node.frames()), (1, vec![1; 2 * LARGE + 1]));
}

#[tokio::test]
async fn a_leader_that_is_named_gets_the_traffic() {
    let (follower, leader) = (Node::start(), Node::start());
    let client = client(&follower);
    follower.follows("n2", &leader);
    client.put("a", "1", PutMode::Create).await.expect("the node forwards it");
    assert_eq!(client.known_leader().map(|leader| leader.name).as_deref(), Some("n2"));
    assert!(puts(&client, 50).join_all().await.iter().all(Result::is_ok));
    assert_eq!((follower.calls("Put").len(), leader.calls("Put").len()), (1, 50));
    assert_eq!((follower.streams(), leader.streams()), (1, 1));
    // Named in an error's details, which is all that a node says that forwards nothing.
    let (third, client) = (Node::start(), self::client(&follower));
    follower.follows_nobody().instead(Instead::Fail(not_leader(&third)));
    client.put("b", "1", PutMode::Create).await.expect("the leader takes it");
    assert_eq!(third.calls("Put").len(), 1);
}

#[tokio::test]
async fn what_is_refused_on_a_stream_waits_as_long_as_a_call() {
    let node = Node::start();
    let client = ready(&node).await;
    for _ in 0..3 {
        node.instead(Instead::Fail(no_quorum())).instead(Instead::Fail(outcome_unknown()));
    }
    client.put("a", "1", PutMode::Create).await.expect("the seventh attempt succeeds");
    assert_eq!((node.names().len(), distinct(&node.names()).len(), node.runs()), (7, 1, 1));
}
