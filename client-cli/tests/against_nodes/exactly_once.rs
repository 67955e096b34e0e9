//! Writes run once, whatever becomes of their answers, and what is unknown at the deadline can be asked for.

use crate::{
    client::{DEADLINE, LONG, SHORT, client, options},
    fake::{Instead, Node, error, no_quorum, not_leader, outcome_unknown},
};
use client_cli::{Client, Error, Outcome, PutMode, RequestId, Settled};
use proto::kv::v1 as kv;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// A name without what was acknowledged with it.
fn name(sent: &kv::RequestId) -> (Vec<u8>, u64, u64) {
    (sent.session.to_vec(), sent.opened_at_ms, sent.sequence)
}

/// A node that leads and another of the same cluster, and a client that knows both and the leader, and leaves a node
/// that hangs.
async fn led() -> (Node, Node, Client) {
    led_with(SHORT).await
}

async fn led_with(attempt_timeout: Duration) -> (Node, Node, Client) {
    let leader = Node::start();
    let other = leader.start_beside();
    leader.follows("n1", &leader);
    other.follows("n1", &leader);
    let client = Client::connect(options(&[&leader.endpoint(), &other.endpoint()]).attempt_timeout(attempt_timeout));
    client.get("a").await.expect_err("it is missing");
    assert_eq!(client.known_leader().map(|leader| leader.name).as_deref(), Some("n1"));
    (leader, other, client)
}

/// A write that is unknown at its deadline.
async fn unknown(client: &Client, key: &str) -> RequestId {
    let unknown = client.with_timeout(DEADLINE).put(key, "1", PutMode::Create).await.expect_err("nobody answers");
    assert!(matches!(unknown, Error::OutcomeUnknown { .. }), "{unknown:?}");
    assert_eq!(unknown.outcome(), Outcome::Unknown);
    *unknown.request_id().expect("a write has a name")
}

fn session_expired() -> Status {
    error(Code::FailedPrecondition, "SESSION_EXPIRED", "it has expired", &[("outcome", "UNKNOWN"), ("timeMs", "1")])
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_same_name() {
    for status in [
        outcome_unknown(),
        Status::unavailable("a proxy's words"),
        Status::internal("h2 protocol error"),
        error(Code::DeadlineExceeded, "OUTCOME_UNKNOWN", "too late", &[("outcome", "UNKNOWN")]),
    ] {
        let node = Node::start();
        let client = client(&[&node.endpoint()]);
        node.instead(Instead::DoAndFail(status.clone()));
        let written = client.put("a", "1", PutMode::Create).await.expect("the answer is told again");
        assert_eq!((written.revision, written.version), (1, 1));
        node.instead(Instead::DoAndFail(status));
        assert_eq!(client.delete("a", None).await.expect("the answer is told again").revision, 2);
        assert_eq!(node.runs(), 2);
        let names: Vec<_> = node.names().iter().map(name).collect();
        assert_eq!(names.len(), 4);
        assert!(names[0] == names[1] && names[2] == names[3] && names[1] != names[2], "{names:?}");
    }
}

#[tokio::test]
async fn a_lost_rejection_is_told_again_and_is_certain() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    node.instead(Instead::DoAndFail(outcome_unknown()));
    let exists = client.put("a", "2", PutMode::Create).await.expect_err("it exists");
    assert!(matches!(exists, Error::KeyExists { .. }), "{exists:?}");
    assert_eq!((exists.outcome(), node.runs()), (Outcome::NotApplied, 2));
}

#[tokio::test]
async fn a_write_leaves_a_node_that_hangs_for_another() {
    let (leader, other, client) = led().await;
    leader.instead(Instead::DoAndHang);
    assert_eq!(client.put("a", "1", PutMode::Create).await.expect("the other tells the answer").revision, 1);
    assert_eq!(leader.runs(), 1);
    // On a busy machine the other may be too slow, too, and be asked again.
    let names: Vec<_> = [leader.names(), other.names()].concat().iter().map(name).collect();
    assert!(!other.names().is_empty() && names.iter().all(|name| *name == names[0]), "{names:?}");
}

#[tokio::test]
async fn an_only_node_that_hangs_is_tried_on_another_connection() {
    let node = Node::start();
    node.instead(Instead::DoAndHang);
    let client = Client::connect(options(&[&node.endpoint()]).timeout(DEADLINE * 4).attempt_timeout(SHORT));
    assert_eq!(client.put("a", "1", PutMode::Create).await.expect("the answer is told again").revision, 1);
    assert_eq!((node.names().len(), node.runs()), (2, 1));
}

#[tokio::test]
async fn a_connection_lost_in_mid_call_is_no_error() {
    for instead in [Instead::DoAndHang, Instead::Hang] {
        let (mut leader, other, client) = led().await;
        leader.instead(instead);
        let client = client.with_timeout(LONG);
        let write = tokio::spawn(async move { client.put("a", "1", PutMode::Create).await });
        leader.hangs().await;
        leader.kill();
        let written = write.await.expect("it does not panic").expect("the other takes it");
        assert_eq!((written.revision, other.runs()), (1, 1));
    }
}

#[tokio::test]
async fn a_write_follows_the_leader_in_mid_call() {
    let old = Node::start();
    let new = old.start_beside();
    old.instead(Instead::Fail(outcome_unknown())).instead(Instead::Fail(not_leader(&new)));
    client(&[&old.endpoint()]).put("a", "1", PutMode::Create).await.expect("the new leader takes it");
    assert_eq!((old.names().len(), new.names().len(), new.runs()), (2, 1, 1));
    assert_eq!(name(&old.names()[0]), name(&new.names()[0]));
}

#[tokio::test]
async fn a_connection_lost_for_good_is_unknown_under_a_name() {
    let mut node = Node::start();
    node.instead(Instead::Hang);
    let client = client(&[&node.endpoint()]).with_timeout(DEADLINE);
    let write = tokio::spawn(async move { client.put("a", "1", PutMode::Create).await });
    node.hangs().await;
    let sent = name(&node.names()[0]);
    node.kill();
    let unknown = write.await.expect("it does not panic").expect_err("the node is gone");
    let RequestId { session, opened_at_ms, sequence } = *unknown.request_id().expect("it has a name");
    assert_eq!((session.to_be_bytes().to_vec(), opened_at_ms, sequence), sent);
    assert_eq!(unknown.failure().attempts.len(), 1);
    assert_eq!(unknown.failure().attempts[0].outcome, Outcome::Unknown);
}

#[tokio::test]
async fn writes_are_numbered_and_acknowledged() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    // An answer that tells no time: the node is known to answer, and yet it has to be asked.
    client.list_members().await.expect("any node knows");
    for at in 1..=3 {
        client.clone().put(format!("k{at}"), "1", PutMode::Create).await.expect("it is created");
    }
    let names = node.names();
    let numbers: Vec<_> = names.iter().map(|name| (name.sequence, name.acknowledged_below)).collect();
    assert_eq!(numbers, [(1, 1), (2, 2), (3, 3)]);
    assert!(names.iter().all(|name| name.session == names[0].session && name.opened_at_ms == 1000), "{names:?}");
    assert_eq!(node.calls("Status").len(), 1, "the time is asked for once");
}

#[tokio::test]
async fn a_write_that_is_under_way_is_not_acknowledged() {
    let node = Node::start();
    node.instead(Instead::Hang);
    let slow = client(&[&node.endpoint()]);
    let client = slow.clone();
    let slow = tokio::spawn(async move { slow.put("slow", "1", PutMode::Create).await });
    node.hangs().await;
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    slow.abort();
    slow.await.expect_err("it was aborted");
    client.put("b", "1", PutMode::Create).await.expect("it is created");
    let numbers: Vec<_> = node.names().iter().map(|name| (name.sequence, name.acknowledged_below)).collect();
    assert_eq!(numbers, [(1, 1), (2, 1), (3, 3)]);
}

#[tokio::test]
async fn many_writes_at_once_are_run_once_each_whatever_is_lost() {
    const WRITES: usize = 200;
    let (leader, other, client) = led().await;
    let client = client.with_timeout(LONG);
    for at in 0..WRITES {
        let node = if at % 3 == 0 { &other } else { &leader };
        node.instead(match at % 4 {
            0 => Instead::DoAndFail(Status::unavailable("a proxy's words")),
            1 => Instead::DoAndFail(outcome_unknown()),
            2 => Instead::Fail(outcome_unknown()),
            _ => Instead::Fail(no_quorum()),
        });
    }
    let mut writes = JoinSet::new();
    for at in 0..WRITES {
        let client = client.clone();
        writes.spawn(async move { client.put(format!("k{at}"), "1", PutMode::Create).await });
    }
    let mut revisions: Vec<u64> =
        writes.join_all().await.into_iter().map(|written| written.expect("it is created").revision).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=WRITES as u64).collect::<Vec<_>>());
    assert_eq!(leader.runs(), WRITES);
    // Nothing is left open.
    let before = [leader.names(), other.names()].concat();
    client.put("last", "1", PutMode::Create).await.expect("it is created");
    let after = [leader.names(), other.names()].concat();
    let last = after.iter().find(|sent| !before.contains(sent)).expect("it was sent");
    assert_eq!(last.acknowledged_below, last.sequence);
}

#[tokio::test]
async fn a_late_copy_of_a_write_that_was_dropped_is_not_run() {
    let node = Node::start();
    node.instead(Instead::Hang);
    let client = client(&[&node.endpoint()]);
    {
        let mut write = Box::pin(client.put("dropped", "1", PutMode::Create));
        tokio::select! {
            done = &mut write => panic!("it hangs: {done:?}"),
            () = node.hangs() => {}
        }
    }
    client.put("next", "1", PutMode::Create).await.expect("it is created");
    let request_id = Some(node.names()[0].clone());
    let late = kv::PutRequest { key: "dropped".to_owned(), request_id, ..Default::default() };
    let refused = node.deliver(late).expect_err("it was acknowledged");
    assert_eq!((refused.message(), node.value("dropped")), ("the result is forgotten", None));
}

#[tokio::test]
async fn what_is_unknown_is_settled_by_its_name() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    node.instead(Instead::DoAndHang);
    let applied = unknown(&client, "a").await;
    node.instead(Instead::DoAndHang);
    let rejected = unknown(&client, "a").await;
    node.instead(Instead::Hang);
    let never = unknown(&client, "b").await;
    // Writes that come later do not acknowledge it.
    let later = client.put("c", "1", PutMode::Create).await.expect("it is created");
    assert_eq!(later.revision, 2);

    let settled = client.get_outcome(&applied).await.expect("it is known");
    assert!(matches!(settled, Settled::Put(written) if written.revision == 1), "{settled:?}");
    let settled = client.get_outcome(&rejected).await.expect("it is known");
    assert_eq!(settled, Settled::Rejected { reason: "KEY_EXISTS".to_owned(), revision: Some(1) });
    // Another process has only what was printed.
    let other = crate::client::client(&[&node.endpoint()]);
    let printed: RequestId = never.to_string().parse().expect("it was printed");
    for _ in 0..2 {
        assert_eq!(other.get_outcome(&printed).await.expect("it is settled"), Settled::NeverApplied);
    }
    let sent = node.names().into_iter().find(|name| name.session == never.session.to_be_bytes()[..]);
    let late = kv::PutRequest { key: "b".to_owned(), request_id: sent, ..Default::default() };
    assert_eq!(node.deliver(late).expect_err("it is fenced").message(), "it was settled");
}

#[tokio::test]
async fn a_delete_and_what_its_client_needs_no_more_are_settled_too() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    client.put("b", "1", PutMode::Create).await.expect("it is created");
    node.instead(Instead::DoAndHang);
    let deleted = client.with_timeout(DEADLINE).delete("a", None).await.expect_err("nobody answers");
    let deleted = *deleted.request_id().expect("a delete has a name");
    let settled = client.get_outcome(&deleted).await.expect("it is known");
    assert!(matches!(settled, Settled::Deleted(deleted) if deleted.revision == 3), "{settled:?}");
    let forgotten = RequestId { sequence: 1, ..deleted };
    assert_eq!(client.get_outcome(&forgotten).await.expect("it was acknowledged"), Settled::Forgotten);
}

#[tokio::test]
async fn an_expired_session_is_followed_by_another() {
    let (node, other, client) = led_with(LONG).await;
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    node.expire_sessions();
    client.put("b", "1", PutMode::Create).await.expect("nobody notices");
    client.put("c", "1", PutMode::Create).await.expect("it is created");
    let names = node.names();
    let numbers: Vec<_> = names.iter().map(|name| name.sequence).collect();
    assert_eq!(numbers, [1, 2, 1, 2]);
    assert!(names[1].session != names[2].session && names[2].session == names[3].session, "{names:?}");
    assert!(names[2].opened_at_ms > names[1].opened_at_ms, "{names:?}");
    assert_eq!((node.runs(), other.names().len()), (3, 0), "the leader is asked again");
}

#[tokio::test]
async fn a_younger_cluster_is_believed_about_its_time() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    node.begin_anew();
    client.put("b", "1", PutMode::Create).await.expect("nobody notices");
    let names = node.names();
    assert!(names[0].opened_at_ms >= 1000 && names[2].opened_at_ms < 1000, "{names:?}");
}

#[tokio::test]
async fn a_session_that_expires_between_two_attempts_leaves_the_write_unknown() {
    let node = Node::start();
    node.instead(Instead::DoAndFail(outcome_unknown())).instead(Instead::Fail(session_expired()));
    let client = client(&[&node.endpoint()]);
    let expired = client.put("a", "1", PutMode::Upsert).await.expect_err("nobody knows");
    assert!(matches!(expired, Error::SessionExpired(_)), "{expired:?}");
    assert_eq!((expired.outcome(), expired.request_id()), (Outcome::Unknown, None));
    assert_eq!((node.calls("Put").len(), node.runs()), (2, 1), "it is not run again");
    client.put("b", "1", PutMode::Create).await.expect("it has another session");
    assert_ne!(node.names()[0].session, node.names()[2].session);
}

#[tokio::test]
async fn what_is_said_at_the_door_does_not_settle_an_earlier_attempt() {
    let full = error(Code::ResourceExhausted, "STORAGE_FULL", "the disk is full", &[("outcome", "NOT_APPLIED")]);
    let forgotten = error(Code::FailedPrecondition, "RESULT_FORGOTTEN", "forgotten", &[("outcome", "UNKNOWN")]);
    for door in [full, forgotten] {
        let node = Node::start();
        node.instead(Instead::DoAndFail(outcome_unknown())).instead(Instead::Fail(door));
        let client = client(&[&node.endpoint()]);
        let unknown = client.put("a", "1", PutMode::Create).await.expect_err("its outcome is unknown");
        let name = *unknown.request_id().expect("it has a name");
        assert_eq!(node.calls("Put").len(), 2);
        assert!(matches!(client.get_outcome(&name).await, Ok(Settled::Put(_))));
    }
}

#[tokio::test]
async fn a_write_that_somebody_settled_meanwhile_was_certainly_not_applied() {
    let node = Node::start();
    let fenced = error(Code::Aborted, "REQUEST_FENCED", "it was settled", &[("outcome", "NOT_APPLIED")]);
    node.instead(Instead::Fail(outcome_unknown())).instead(Instead::Fail(fenced));
    let error = client(&[&node.endpoint()]).put("a", "1", PutMode::Create).await.expect_err("it is fenced");
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert_eq!((error.outcome(), node.calls("Put").len()), (Outcome::NotApplied, 2));
}

#[tokio::test]
async fn a_full_session_is_waited_for() {
    let node = Node::start();
    let full = error(Code::ResourceExhausted, "SESSION_FULL", "too many results", &[("outcome", "NOT_APPLIED")]);
    node.instead(Instead::Fail(full.clone())).instead(Instead::Fail(full));
    client(&[&node.endpoint()]).put("a", "1", PutMode::Create).await.expect("there is room at last");
    let names: Vec<_> = node.names().iter().map(name).collect();
    assert!(names.len() == 3 && names.iter().all(|name| *name == names[0]), "{names:?}");
}

#[tokio::test]
async fn a_question_about_a_write_is_repeated_and_never_answered_by_a_guess() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    node.instead(Instead::DoAndHang);
    let name = unknown(&client, "a").await;
    node.instead(Instead::Fail(no_quorum())).instead(Instead::Fail(outcome_unknown()));
    assert!(matches!(client.get_outcome(&name).await, Ok(Settled::Put(_))));
    assert_eq!(node.calls("GetOutcome").len(), 3);

    node.instead(Instead::Hang);
    let late = client.with_timeout(SHORT).get_outcome(&name).await.expect_err("it hangs");
    assert_eq!((late.outcome(), late.request_id()), (Outcome::Unknown, Some(&name)), "{late:?}");
    node.expire_sessions();
    let expired = client.get_outcome(&name).await.expect_err("nobody knows");
    assert!(matches!(expired, Error::SessionExpired(_)), "{expired:?}");
    assert_eq!(expired.outcome(), Outcome::Unknown);
}
