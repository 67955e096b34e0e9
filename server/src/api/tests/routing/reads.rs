//! Linearizable reads on a node that follows.

use super::*;
use crate::api::limits::READ_HERE_MAX;

async fn served_by(harness: &Harness) -> String {
    harness.call::<_, GetResponse>(GET, &get()).await.expect("the key is there").0.served_by
}

/// A node that follows n2, and the leader of a later term.
fn follower() -> Harness {
    Harness::new(led_by(Some("n2")))
}

fn later(leader: &str) -> NodeStatus {
    NodeStatus { term: 3, ..led_by(Some(leader)) }
}

#[tokio::test]
async fn a_follower_reads_from_its_own_state() {
    let harness = follower();
    harness.node.will_read(Read::Answer(found("n1")));
    let (response, headers) = harness.call::<_, GetResponse>(GET, &get()).await.expect("the key is there");
    assert_eq!((response.served_by.as_str(), response.revision), ("n1", 2));
    assert_eq!(headers["quorate-leader-name"], "n2", "whoever writes next had better ask there");
    let missing = ReadResult { kv: None, ..found("n1").expect("it is a result") };
    harness.node.will_read(Read::Answer(Ok(missing)));
    let status = harness.call::<_, GetResponse>(GET, &get()).await.expect_err("nobody wrote it");
    assert_eq!(reason(&status), ("KEY_NOT_FOUND".to_owned(), String::new()));
    assert!(harness.forwarded_to().is_empty());
}

#[tokio::test]
async fn a_follower_that_is_behind_leaves_its_reads_to_the_leader_until_there_is_another() {
    let harness = follower();
    harness.node.will_read(Read::Wait);
    for _ in 0..3 {
        harness.will_forward(|_| get_answer());
    }
    let begun = Instant::now();
    assert_eq!(served_by(&harness).await, "n2");
    assert!(begun.elapsed() >= READ_HERE_MAX, "it was given time");
    for _ in 0..2 {
        assert_eq!(served_by(&harness).await, "n2");
    }
    assert_eq!(harness.node.gets().len(), 1, "the others did not wait for it");
    harness.node.learns(later("n3"));
    harness.node.will_read(Read::Answer(found("n1")));
    assert_eq!(served_by(&harness).await, "n1");
    assert_eq!(harness.forwarded_to(), ["n2"; 3]);
}

#[tokio::test]
async fn of_a_short_deadline_half_is_left_for_the_leader() {
    let harness = follower();
    harness.node.will_read(Read::Wait);
    harness.will_forward(|_| get_answer());
    let headers = [("grpc-timeout", "200m")];
    harness.call_with::<_, GetResponse>(GET, &get(), &headers).await.expect("the leader answers");
    // Which says nothing of those with more patience.
    harness.node.will_read(Read::Answer(found("n1")));
    assert_eq!(served_by(&harness).await, "n1");
}

#[tokio::test]
async fn a_follower_whose_leader_changes_meanwhile_asks_the_next() {
    let harness = follower();
    harness.node.will_read(Read::AnswerAndLearn(Err(not_leader().into()), Box::new(later("n3"))));
    harness.node.will_read(Read::Answer(found("n1")));
    assert_eq!(served_by(&harness).await, "n1");
    assert!(harness.forwarded_to().is_empty());
}

#[tokio::test]
async fn a_read_that_was_forwarded_does_not_wait_for_who_leads_no_more() {
    let harness = follower();
    harness.node.will_read(Read::Wait);
    harness.will_hang();
    harness.node.will_read(Read::Answer(found("n1")));
    let node = harness.node.clone();
    let change = async {
        while harness.forwarded_to().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        node.learns(later("n3"));
    };
    let (served_by, ()) = tokio::join!(served_by(&harness), change);
    assert_eq!(served_by, "n1");
    assert_eq!(harness.forwarded_to(), ["n2"]);
}

#[tokio::test]
async fn a_read_whose_answer_was_lost_is_read_again() {
    let harness = follower();
    harness.node.will_read(Read::Answer(Err(ReadError::DeadlineExceeded)));
    harness.will_forward(|node| {
        node.learns(later("n3"));
        lost(false)
    });
    harness.node.will_read(Read::Answer(found("n1")));
    assert_eq!(served_by(&harness).await, "n1");
    assert_eq!(harness.forwarded_to(), ["n2"]);

    harness.node.will_read(Read::Answer(Err(ReadError::DeadlineExceeded)));
    harness.will_forward(|_| lost(true));
    let status = harness.call::<_, GetResponse>(GET, &get()).await.expect_err("too late");
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_follower_that_is_refused_by_its_own_node_says_so() {
    let harness = follower();
    let overloaded = crate::node::Unavailable::Overloaded;
    harness.node.will_read(Read::Answer(Err(overloaded.into())));
    let status = harness.call::<_, GetResponse>(GET, &get()).await.expect_err("too much is under way");
    assert_eq!(reason(&status), ("OVERLOADED".to_owned(), String::new()));
}

#[tokio::test]
async fn a_read_that_was_forwarded_to_a_follower_is_answered_by_it() {
    let harness = follower();
    harness.node.will_read(Read::Answer(found("n1")));
    let deadline = Instant::now() + Duration::from_secs(5);
    let request = forward_request(Some(Request::Get(get())));
    let response = harness.api.forward_target.run_forwarded(request, deadline, None).await.expect("it follows");
    assert!(matches!(response.response, Some(Answer::Get(found)) if found.served_by == "n1"));
}
