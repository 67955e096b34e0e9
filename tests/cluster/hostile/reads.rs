//! Peers that ask about reads what nobody asks, or far too much.

use proto::raft::v1::{
    ControlRequest, ReadIndex, ReadReplicaRequest, ReplicaQuestion, control_request,
    raft_service_client::RaftServiceClient,
};
use tests::rpc;

use super::Victim;
use super::peers::stream_of;

fn question(key: &[u8]) -> ReplicaQuestion {
    ReplicaQuestion { number: 1, key: key.to_vec().into() }
}

fn ask(revision: u64, questions: Vec<ReplicaQuestion>) -> ReadReplicaRequest {
    ReadReplicaRequest { process: 7, revision, questions }
}

#[tokio::test]
async fn questions_that_cannot_be_are_dropped_and_counted() {
    let victim = Victim::start().await;
    let claim = victim.claim_of(victim.third()).await;
    let messages = vec![
        ask(1, Vec::new()),
        ask(0, vec![question(b"kept")]),
        ask(1, vec![question(b"")]),
        ask(1, vec![question(&[b'k'; 1_025])]),
        ask(1, vec![question(b"kept"); 513]),
        ask(1, vec![question(b"kept"), question(b"")]),
    ];
    let before = victim.dropped().await;
    let count = u64::try_from(messages.len()).expect("a few");
    let (sender, requests) = stream_of(&claim, messages).await;
    let answers = rpc::bounded(RaftServiceClient::new(victim.channel()).read_replica(requests)).await;
    victim.refused_or_counted(before + count, answers.expect("the claim is true")).await;
    drop(sender);
    victim.goes_on().await;
}

#[tokio::test]
async fn as_many_questions_as_can_be_are_answered_each() {
    let victim = Victim::start().await;
    let claim = victim.claim_of(victim.third()).await;
    let questions = (0..512).map(|number| ReplicaQuestion { number, ..question(&[b'k'; 1_024]) }).collect();
    let (sender, requests) = stream_of(&claim, vec![ask(u64::MAX, questions), ask(1, vec![question(b"kept")])]).await;
    let answers = rpc::bounded(RaftServiceClient::new(victim.channel()).read_replica(requests)).await;
    let mut answers = answers.expect("the claim is true");
    let mut numbers = Vec::new();
    while numbers.len() < 513 {
        let answer = tokio::time::timeout(tests::wait::BOUND, answers.message()).await.expect("it is answered");
        let answer = answer.expect("the question is sound").expect("the stream is open");
        assert_eq!(answer.process, 7);
        numbers.extend(answer.answers.iter().map(|answer| answer.number));
    }
    numbers.sort_unstable();
    let expected: Vec<u64> = (0..512).chain([1]).collect();
    assert_eq!(numbers.len(), expected.len());
    assert!(expected.iter().all(|number| numbers.contains(number)));
    drop(sender);
    victim.goes_on().await;
}

#[tokio::test]
async fn questions_for_an_index_to_who_does_not_lead_are_dropped_and_counted() {
    let victim = Victim::start().await;
    let claim = victim.claim_of(victim.third()).await;
    let body = control_request::Body::ReadIndex(ReadIndex { process: u64::MAX, number: u64::MAX });
    let terms = [0, 1, victim.before.term, victim.before.term + 1, u64::MAX];
    let messages = terms.map(|term| ControlRequest { term, body: Some(body), ..Default::default() }).to_vec();
    victim.control(&claim, messages).await;
    victim.goes_on().await;
}
