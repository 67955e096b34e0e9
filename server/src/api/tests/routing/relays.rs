//! Requests on a node that does not reach the leader, and on the one that passes them on.

use std::sync::Arc;

use proto::kv::v1::{DeleteRequest, DeleteResponse};
use tokio::task::JoinSet;

use super::*;
use crate::node::Unavailable;

const DELETE: &str = "kv.v1.KvService/Delete";

/// How long requests wait that are not answered.
const SHORT: [(&str, &str); 1] = [("grpc-timeout", "250m")];

/// A node that reaches all others and knows no leader, long after each of them must have missed it.
fn cut_off() -> Harness {
    Harness::with_election_timeout(reaching(&["n2", "n3"], led_by(None)), Duration::ZERO)
}

fn delete_answer() -> Result<ForwardResponse, ForwardError> {
    Ok(ForwardResponse { response: Some(Answer::Delete(DeleteResponse { revision: 9, ..Default::default() })) })
}

fn outcome_request() -> GetOutcomeRequest {
    let id = RequestId { session: vec![1; 16].into(), opened_at_ms: 5, sequence: 7, acknowledged_below: 7 };
    GetOutcomeRequest { request_id: Some(id) }
}

fn outcome_answer() -> Result<ForwardResponse, ForwardError> {
    Ok(ForwardResponse { response: Some(Answer::GetOutcome(GetOutcomeResponse::default())) })
}

#[tokio::test]
async fn without_a_leader_another_member_is_asked_to_pass_every_kind_of_request_on() {
    let harness = cut_off();
    harness.will_forward(|_| put_answer());
    harness.call::<_, PutResponse>(PUT, &put()).await.expect("passed on");
    harness.will_forward(|_| get_answer());
    harness.call::<_, GetResponse>(GET, &get()).await.expect("passed on");
    harness.will_forward(|_| delete_answer());
    let delete = DeleteRequest { key: "a".to_owned(), ..Default::default() };
    harness.call::<_, DeleteResponse>(DELETE, &delete).await.expect("passed on");
    harness.will_forward(|_| outcome_answer());
    harness.call::<_, GetOutcomeResponse>(GET_OUTCOME, &outcome_request()).await.expect("passed on");

    let asked = harness.asked();
    assert_eq!(asked.len(), 1, "whoever would pass one on has the others too: {asked:?}");
    assert_ne!(asked[0], "n1");
    assert_eq!(harness.sent(), vec![(asked[0].clone(), true); 4]);
    let forwarded = harness.forwarder.forwarded.lock().expect("no panic");
    assert_eq!((&forwarded[0].1.from[..], &forwarded[0].1.request), ("n1", &Some(Request::Put(put()))));
}

#[tokio::test]
async fn a_leader_that_is_not_reached_is_asked_by_way_of_another() {
    let harness = Harness::new(led_by(Some("n2")));
    harness.will_forward(|_| not_sent());
    harness.will_forward(|_| put_answer());
    harness.call::<_, PutResponse>(PUT, &put()).await.expect("passed on");
    assert_eq!(harness.sent(), [("n2".to_owned(), false), ("n3".to_owned(), true)]);
    assert_eq!(harness.asked(), ["n3"]);
}

#[tokio::test]
async fn a_leader_that_is_known_not_to_be_reached_is_not_tried_first() {
    let harness = Harness::new(reaching(&["n3"], led_by(Some("n2"))));
    harness.will_forward(|_| put_answer());
    harness.call::<_, PutResponse>(PUT, &put()).await.expect("passed on");
    harness.will_forward(|_| get_answer());
    harness.call::<_, GetResponse>(GET, &get()).await.expect("passed on");
    assert!(harness.node.gets().is_empty(), "the leader cannot be asked for an index either");
    // It may be reached all the same.
    harness.will_forward(|_| answered(&ApiError::NotLeader { leader: None, term: 2 }));
    harness.will_forward(|_| put_answer());
    harness.call::<_, PutResponse>(PUT, &put()).await.expect("forwarded");
    let sent: Vec<_> = harness.sent().into_iter().map(|(member, relay)| format!("{member} {relay}")).collect();
    assert_eq!(sent, ["n3 true", "n3 true", "n3 true", "n2 false"]);
}

#[tokio::test]
async fn a_leader_that_changed_while_the_old_one_was_not_reached_is_asked_itself() {
    let harness = Harness::new(led_by(Some("n2")));
    harness.will_forward(|node| {
        node.learns(led_by(Some("n3")));
        not_sent()
    });
    harness.will_forward(|_| put_answer());
    harness.call::<_, PutResponse>(PUT, &put()).await.expect("forwarded");
    assert_eq!(harness.sent(), [("n2".to_owned(), false), ("n3".to_owned(), false)]);
}

/// The answers with which a node says that it did not run a request and will not.
fn refusals() -> [ApiError; 5] {
    [
        ApiError::NotLeader { leader: None, term: 2 },
        ApiError::Draining,
        ApiError::Transferring,
        ApiError::NoQuorum { cause: "no leader".to_owned(), voters: 3, reachable: 2, term: 2 },
        ApiError::NotReady { cause: "its directory was emptied".to_owned() },
    ]
}

#[tokio::test]
async fn who_would_not_pass_requests_on_is_not_sent_any() {
    for refusal in refusals() {
        let harness = cut_off();
        // One that is cut off too, one that says no, and one that cannot be reached.
        harness.will_refuse(None);
        harness.will_refuse(Some(Box::new(move |_| answered(&refusal))));
        harness.will_refuse(Some(Box::new(|_| not_sent())));
        harness.will_forward(|_| put_answer());
        harness.call::<_, PutResponse>(PUT, &put()).await.expect("the fourth would");
        let asked = harness.asked();
        assert!(asked.len() == 4 && asked.windows(2).all(|pair| pair[0] != pair[1]), "in turn: {asked:?}");
        assert_eq!(harness.sent(), [(asked[3].clone(), true)]);
    }
}

#[tokio::test]
async fn who_fails_to_pass_a_request_on_leaves_it_to_the_next_and_to_the_next_leader() {
    for refusal in refusals() {
        let harness = cut_off();
        let first = refusal.clone();
        harness.will_forward(move |_| answered(&first));
        harness.will_forward(|_| not_sent());
        harness.will_forward(move |node| {
            node.learns(led_by(Some("n3")));
            answered(&refusal)
        });
        harness.will_forward(|_| put_answer());
        harness.call::<_, PutResponse>(PUT, &put()).await.expect("it is elected");
        let sent = harness.sent();
        assert_ne!(sent[0], sent[1], "they are asked in turn");
        assert_eq!(harness.asked().len(), 3, "each was asked anew");
        assert_eq!(sent[3], ("n3".to_owned(), false));
    }
}

#[tokio::test]
async fn nobody_is_asked_while_there_may_be_an_election() {
    let status = reaching(&["n2", "n3"], led_by(None));
    let harness = Harness::with_election_timeout(status.clone(), Duration::from_secs(3_600));
    let refused = harness.call_with::<_, PutResponse>(PUT, &put(), &SHORT).await.expect_err("no leader");
    assert_eq!(reason(&refused), ("NO_QUORUM".to_owned(), "NOT_APPLIED".to_owned()));
    assert!(refused.message().contains("no leader is known"), "{}", refused.message());

    let harness = Harness::with_election_timeout(led_by(Some("n2")), Duration::from_millis(50));
    let lost = Instant::now();
    harness.node.learns(status);
    harness.will_forward(|_| put_answer());
    harness.call::<_, PutResponse>(PUT, &put()).await.expect("passed on");
    assert!(lost.elapsed() >= Duration::from_millis(50));
}

async fn put_at_once(
    harness: &Arc<Harness>,
    count: usize,
    headers: &'static [(&str, &str)],
) -> Vec<Result<PutResponse, Status>> {
    let call = |harness: Arc<Harness>| async move {
        harness.call_with::<_, PutResponse>(PUT, &put(), headers).await.map(|(response, _)| response)
    };
    (0..count).map(|_| call(Arc::clone(harness))).collect::<JoinSet<_>>().join_all().await
}

#[tokio::test]
async fn many_requests_do_not_ask_all_at_once_for_what_nobody_knows() {
    const REQUESTS: usize = 64;
    let harness = Arc::new(cut_off());
    for _ in 0..REQUESTS {
        harness.will_refuse(Some(Box::new(|_| answered(&ApiError::NotLeader { leader: None, term: 2 }))));
    }
    for answer in put_at_once(&harness, REQUESTS, &SHORT).await {
        assert_eq!(reason(&answer.expect_err("no leader")), ("NO_QUORUM".to_owned(), "NOT_APPLIED".to_owned()));
    }
    let asked = harness.asked().len();
    assert!((1..REQUESTS / 2).contains(&asked), "{asked} asked");
}

#[tokio::test]
async fn whoever_waits_goes_on_as_soon_as_another_was_passed_on() {
    const REQUESTS: usize = 64;
    let harness = Arc::new(cut_off());
    for _ in 0..REQUESTS {
        harness.will_forward(|_| put_answer());
    }
    for answer in put_at_once(&harness, REQUESTS, &[]).await {
        answer.expect("passed on");
    }
    let asked = harness.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(harness.sent(), vec![(asked[0].clone(), true); REQUESTS]);
}

#[tokio::test]
async fn requests_that_nobody_passes_on_are_no_quorum_with_the_cause() {
    let harness = cut_off();
    for _ in 0..20 {
        harness.will_refuse(Some(Box::new(|_| answered(&ApiError::NotLeader { leader: None, term: 2 }))));
    }
    let status = harness.call_with::<_, PutResponse>(PUT, &put(), &SHORT).await.expect_err("no leader");
    assert_eq!(reason(&status), ("NO_QUORUM".to_owned(), "NOT_APPLIED".to_owned()));
    assert_eq!(reachable_and_needed(&status), ("3".to_owned(), "2".to_owned()));
    assert!(status.message().contains("answered: this node does not lead"), "{}", status.message());
    assert!(harness.asked().len() <= 4, "attempts are spaced");
    let status = harness.call_with::<_, GetResponse>(GET, &get(), &SHORT).await.expect_err("no leader");
    assert_eq!(reason(&status), ("NO_QUORUM".to_owned(), String::new()));
    assert!(harness.sent().is_empty());
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_on_the_way_is_never_sent_again() {
    let unknown = || {
        let (cause, position) = ("the answer of n3 was lost".to_owned(), None);
        answered(&ApiError::OutcomeUnknown { cause, position, deadline_exceeded: false })
    };
    for relays_answer in [lost(false), unknown()] {
        let harness = cut_off();
        harness.will_forward(move |node| {
            node.learns(led_by(Some("n3")));
            relays_answer
        });
        let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("lost");
        assert_eq!(status.code(), Code::Unknown);
        assert_eq!(reason(&status), ("OUTCOME_UNKNOWN".to_owned(), "UNKNOWN".to_owned()));
        assert_eq!(harness.sent().len(), 1);
    }
    // A read is.
    let harness = cut_off();
    harness.will_forward(|_| lost(false));
    harness.will_forward(|_| get_answer());
    harness.call::<_, GetResponse>(GET, &get()).await.expect("read");
}

#[tokio::test]
async fn what_the_leader_says_comes_through_the_relay_unchanged() {
    // Of the three, the one in the middle.
    let relay = Harness::new(led_by(Some("n3")));
    relay.will_forward(|_| {
        let mut status = ApiError::KeyExists { key: "a".to_owned(), mod_revision: 3 }.to_status(CallKind::Write);
        status.metadata_mut().insert("quorate-leader-name", "n3".parse().expect("ASCII"));
        status.metadata_mut().insert("quorate-leader-address", "n3:7000".parse().expect("ASCII"));
        Err(ForwardError::Answered(Box::new(status)))
    });
    let passed = relay.api.forward_target.run_forwarded(relayed(Request::Put(put())), soon(), None).await;
    let passed = passed.expect_err("it exists");
    let origin = cut_off();
    origin.will_forward(move |_| Err(ForwardError::Answered(Box::new(passed))));
    let status = origin.call::<_, PutResponse>(PUT, &put()).await.expect_err("it exists");
    assert_eq!((status.code(), status.message()), (Code::AlreadyExists, "key already exists: a"));
    assert_eq!(reason(&status), ("KEY_EXISTS".to_owned(), "NOT_APPLIED".to_owned()));
    let entry = |key| status.metadata().get(key).map(|value| value.as_bytes());
    assert_eq!(entry("quorate-leader-name"), Some(&b"n3"[..]));
    assert_eq!(entry("quorate-leader-address"), Some(&b"n3:7000"[..]));
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn relayed(request: Request) -> ForwardRequest {
    ForwardRequest { relay: true, ..forward_request(Some(request)) }
}

#[tokio::test]
async fn a_relayed_request_is_passed_on_to_the_leader_without_the_mark() {
    let harness = Harness::new(led_by(Some("n3")));
    let target = &harness.api.forward_target;
    harness.will_forward(|_| put_answer());
    let response = target.run_forwarded(relayed(Request::Put(put())), soon(), None).await.expect("passed on");
    assert_eq!(response, put_answer().expect("it is one"));
    assert_eq!(harness.sent(), [("n3".to_owned(), false)]);
    // A read is as one of its own clients'.
    harness.node.will_read(Read::Answer(found("n1")));
    let response = target.run_forwarded(relayed(Request::Get(get())), soon(), None).await.expect("read");
    assert!(matches!(response.response, Some(Answer::Get(found)) if found.served_by == "n1"));
    harness.node.will_read(Read::Answer(Err(ReadError::DeadlineExceeded)));
    harness.will_forward(|_| get_answer());
    let response = target.run_forwarded(relayed(Request::Get(get())), soon(), None).await.expect("read");
    assert_eq!(response, get_answer().expect("it is one"));
    assert_eq!(harness.sent(), vec![("n3".to_owned(), false); 2]);
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn a_relayed_request_is_not_relayed_again() {
    // This one reaches another member that may reach the leader; and then one that may know who leads.
    for (status, sent) in [(led_by(Some("n3")), 1), (reaching(&["n2", "n3"], led_by(None)), 0)] {
        let harness = Harness::with_election_timeout(status, Duration::ZERO);
        for _ in 0..sent {
            harness.will_forward(|_| not_sent());
        }
        if sent == 0 {
            harness.node.will_write(Write::Answer(Err(not_leader().into())));
        }
        let request = relayed(Request::Put(put()));
        let status = harness.api.forward_target.run_forwarded(request, soon(), None).await.expect_err("not reached");
        assert_eq!(status.code(), Code::Unavailable);
        let expected = if sent == 0 { "NOT_LEADER" } else { "NO_QUORUM" };
        assert_eq!(reason(&status), (expected.to_owned(), "NOT_APPLIED".to_owned()));
        assert_eq!(harness.sent(), vec![("n3".to_owned(), false); sent]);
    }
}

#[tokio::test]
async fn who_reaches_a_leader_says_that_it_would_pass_requests_on() {
    for (status, expected) in [
        (led_by(Some("n1")), None),
        (led_by(Some("n3")), None),
        (reaching(&["n2"], led_by(Some("n3"))), Some("NOT_LEADER")),
        (reaching(&["n2", "n3"], led_by(None)), Some("NOT_LEADER")),
    ] {
        let harness = Harness::new(status);
        let target = &harness.api.forward_target;
        let question = || ForwardRequest { relay: true, question: true, ..forward_request(None) };
        let found = target.run_forwarded(question(), soon(), None).await;
        assert_eq!(found.as_ref().err().map(|status| reason(status).0).as_deref(), expected);
        assert!(found.is_err() || found.is_ok_and(|response| response.response.is_none()));
        harness.drain.start();
        let status = target.run_forwarded(question(), soon(), None).await.expect_err("it is shutting down");
        assert_eq!(reason(&status).0, "DRAINING");
        assert!(harness.sent().is_empty() && harness.asked().is_empty() && harness.node.requests().is_empty());
    }
}

#[tokio::test]
async fn a_relayed_request_has_one_attempt() {
    let harness = Harness::new(led_by(Some("n3")));
    harness.will_forward(|node| {
        node.learns(led_by(Some("n2")));
        answered(&ApiError::Transferring)
    });
    let request = relayed(Request::Put(put()));
    let status = harness.api.forward_target.run_forwarded(request, soon(), None).await.expect_err("it has moved");
    assert_eq!(reason(&status), ("NO_QUORUM".to_owned(), "NOT_APPLIED".to_owned()));
    assert!(status.message().contains("leadership is being handed over"), "{}", status.message());
}

#[tokio::test]
async fn a_relayed_request_is_run_by_who_leads() {
    let harness = Harness::new(led_by(Some("n1")));
    harness.node.will_write(Write::Answer(written()));
    let request = relayed(Request::Put(put()));
    harness.api.forward_target.run_forwarded(request, soon(), None).await.expect("written");
    assert!(harness.sent().is_empty());
}

#[tokio::test]
async fn a_relay_is_bound_by_its_own_limits() {
    let harness = Harness::new(led_by(Some("n3")));
    let target = &harness.api.forward_target;
    let request = relayed(Request::Put(put()));
    let status = target.run_forwarded(request.clone(), Instant::now(), None).await.expect_err("too late");
    assert_eq!(reason(&status), ("DEADLINE_EXCEEDED".to_owned(), "NOT_APPLIED".to_owned()));
    harness.will_forward(|_| lost(true));
    let status = target.run_forwarded(request.clone(), soon(), None).await.expect_err("lost");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&status), ("OUTCOME_UNKNOWN".to_owned(), "UNKNOWN".to_owned()));
    harness.drain.start();
    let status = target.run_forwarded(request, soon(), None).await.expect_err("draining");
    assert_eq!(reason(&status), ("DRAINING".to_owned(), "NOT_APPLIED".to_owned()));
    assert_eq!(harness.sent().len(), 1);
}

#[tokio::test]
async fn what_a_relay_has_under_way_counts_there_and_is_waited_for() {
    let harness = Harness::new(led_by(Some("n3")));
    harness.will_hang();
    let passing = harness.api.forward_target.run_forwarded(relayed(Request::Put(put())), soon(), None);
    let looked = async {
        while harness.sent().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!harness.api.in_flight.is_empty());
    };
    tokio::select! {
        _ = passing => unreachable!("the leader does not answer"),
        () = looked => {}
    }
    assert!(harness.api.in_flight.is_empty());
}

#[tokio::test]
async fn a_node_that_this_one_is_refused_by_for_want_of_room_is_believed() {
    let harness = cut_off();
    harness.will_forward(|_| answered(&ApiError::from(Unavailable::Overloaded)));
    let status = harness.call::<_, PutResponse>(PUT, &put()).await.expect_err("too much is under way");
    assert_eq!(reason(&status), ("OVERLOADED".to_owned(), "NOT_APPLIED".to_owned()));
    assert_eq!(harness.sent().len(), 1);
}
