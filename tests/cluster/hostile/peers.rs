//! Peers that are none, or that lie.

use super::{RawCodec, Victim};
use crate::claim::Claim;
use bytes::Bytes;
use proto::raft::v1::{
    AppendEntriesRequest, ControlRequest, Entry, Heartbeat, Noop, RequestVote, TimeoutNow, control_request, entry,
    raft_service_client::RaftServiceClient,
};
use tests::rpc::{self, failure};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, client::Grpc};

/// Messages that a test sends on one stream, at most.
const MESSAGES_MAX: usize = 16;

impl Victim {
    /// What the stream of one member to the attacked node says truthfully.
    pub(super) async fn claim_of(&self, member: usize) -> Claim {
        Claim::of(&self.cluster, member, self.number).await
    }

    /// The member that neither leads nor is attacked.
    pub(super) fn third(&self) -> usize {
        3 - self.leader - self.number
    }

    /// Opens an AppendEntries stream, sends the messages, and waits until each was counted as dropped or the stream was
    /// refused.
    async fn append(&self, claim: &Claim, messages: Vec<AppendEntriesRequest>) {
        let count = u64::try_from(messages.len()).expect("a test sends few messages");
        let before = self.dropped().await;
        let (sender, requests) = stream_of(claim, messages).await;
        let answer = rpc::bounded(RaftServiceClient::new(self.channel()).append_entries(requests)).await;
        let answers = answer.expect("the claim is true");
        self.refused_or_counted(before + count, answers).await;
        drop(sender);
    }

    /// The same for a Control stream.
    pub(super) async fn control(&self, claim: &Claim, messages: Vec<ControlRequest>) {
        let count = u64::try_from(messages.len()).expect("a test sends few messages");
        let before = self.dropped().await;
        let (sender, requests) = stream_of(claim, messages).await;
        let answers = rpc::bounded(RaftServiceClient::new(self.channel()).control(requests)).await;
        self.refused_or_counted(before + count, answers.expect("the claim is true")).await;
        drop(sender);
    }

    pub(super) async fn refused_or_counted<T>(&self, goal: u64, mut answers: Streaming<T>) {
        let counted = tests::wait::wait_for("each message is dropped and counted", async || {
            (self.dropped().await >= goal).then_some(())
        });
        let refused = async {
            loop {
                match answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => std::future::pending().await,
                    Err(status) => return status,
                }
            }
        };
        tokio::select! {
            () = counted => {}
            status = refused => assert_ne!(status.code(), Code::Unknown, "{status:?}"),
        }
    }
}

/// A request stream that stays open until the sender is dropped.
pub(super) async fn stream_of<T>(claim: &Claim, messages: Vec<T>) -> (mpsc::Sender<T>, Request<ReceiverStream<T>>) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    for message in messages {
        sender.send(message).await.expect("the receiver is here");
    }
    let mut request = Request::new(ReceiverStream::new(receiver));
    claim.insert(request.metadata_mut());
    (sender, request)
}

/// Panics unless both streams are refused for a claim like this.
async fn expect_refused(victim: &Victim, claim: &Claim) {
    for attempt in 0..2 {
        let status = if attempt == 0 {
            let (_sender, requests) = stream_of(claim, Vec::new()).await;
            first_error(rpc::bounded(RaftServiceClient::new(victim.channel()).append_entries(requests)).await).await
        } else {
            let (_sender, requests) = stream_of(claim, Vec::new()).await;
            first_error(rpc::bounded(RaftServiceClient::new(victim.channel()).control(requests)).await).await
        };
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    }
}

/// The error that a stream ends with at once.
async fn first_error<T: std::fmt::Debug>(answer: Result<Streaming<T>, Status>) -> Status {
    match answer {
        Err(status) => status,
        Ok(mut answers) => match tokio::time::timeout(tests::wait::BOUND, answers.message()).await {
            Ok(Err(status)) => status,
            other => panic!("the stream was not refused: {other:?}"),
        },
    }
}

#[tokio::test]
async fn a_stream_of_another_cluster_is_refused() {
    let victim = Victim::start().await;
    let claim =
        Claim { cluster_id: "0123456789abcdef0123456789abcdef".to_owned(), ..victim.claim_of(victim.third()).await };
    expect_refused(&victim, &claim).await;
    victim.goes_on().await;
}

#[tokio::test]
async fn a_stream_to_another_incarnation_is_refused() {
    let victim = Victim::start().await;
    let claim = Claim { to: "00000000deadbeef".to_owned(), ..victim.claim_of(victim.third()).await };
    expect_refused(&victim, &claim).await;
    victim.goes_on().await;
}

#[tokio::test]
async fn a_stream_from_an_unknown_incarnation_is_refused() {
    let victim = Victim::start().await;
    let claim = Claim { from: "00000000deadbeef".to_owned(), ..victim.claim_of(victim.third()).await };
    expect_refused(&victim, &claim).await;
    victim.goes_on().await;
}

#[tokio::test]
async fn a_stream_with_a_malformed_claim_is_refused() {
    let victim = Victim::start().await;
    let truth = victim.claim_of(victim.third()).await;
    for nonsense in ["", "zz", "0", "00000000000000000000000000000000000000000000"] {
        for claim in [
            Claim { cluster_id: nonsense.to_owned(), ..truth.clone() },
            Claim { from: nonsense.to_owned(), ..truth.clone() },
            Claim { to: nonsense.to_owned(), ..truth.clone() },
        ] {
            expect_refused(&victim, &claim).await;
        }
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn a_stream_without_a_claim_is_refused() {
    let victim = Victim::start().await;
    let (_sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let request = Request::new(ReceiverStream::<ControlRequest>::new(receiver));
    let status = first_error(rpc::bounded(RaftServiceClient::new(victim.channel()).control(request)).await).await;
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    victim.goes_on().await;
}

#[tokio::test]
async fn control_messages_of_the_highest_term_are_dropped_and_counted() {
    let victim = Victim::start().await;
    let claim = victim.claim_of(victim.third()).await;
    let vote = |pre_vote| {
        control_request::Body::RequestVote(RequestVote {
            pre_vote,
            last_log_index: u64::MAX,
            last_log_term: u64::MAX,
            leadership_transfer: true,
        })
    };
    let heartbeat = control_request::Body::Heartbeat(Heartbeat { commit_index: u64::MAX, round: u64::MAX });
    let timeout_now = control_request::Body::TimeoutNow(TimeoutNow {});
    let bodies = [vote(false), vote(true), heartbeat, timeout_now];
    let messages =
        bodies.map(|body| ControlRequest { term: u64::MAX, body: Some(body), ..Default::default() }).to_vec();
    victim.control(&claim, messages).await;
    victim.goes_on().await;
}

#[tokio::test]
async fn entries_of_the_highest_term_are_dropped_and_counted() {
    let victim = Victim::start().await;
    let claim = victim.claim_of(victim.leader).await;
    let message = AppendEntriesRequest { term: u64::MAX, ..AppendEntriesRequest::default() };
    victim.append(&claim, vec![message]).await;
    victim.goes_on().await;
}

#[tokio::test]
async fn a_control_message_without_a_body_is_dropped_and_counted() {
    let victim = Victim::start().await;
    let claim = victim.claim_of(victim.third()).await;
    victim.control(&claim, vec![ControlRequest { term: victim.before.term, body: None, ..Default::default() }]).await;
    victim.goes_on().await;
}

fn noop(term: u64, index: u64) -> Entry {
    Entry { term, index, payload: Some(entry::Payload::Noop(Noop {})) }
}

#[tokio::test]
async fn malformed_entries_are_dropped_and_counted() {
    let victim = Victim::start().await;
    let claim = victim.claim_of(victim.leader).await;
    let (term, last) = (victim.before.term, victim.before.last_index);
    let malformed = [
        // A gap behind the previous entry, and one between two entries.
        vec![noop(term, last + 2)],
        vec![noop(term, last + 1), noop(term, last + 3)],
        // Positions that cannot be.
        vec![noop(term, 0)],
        vec![noop(term, u64::MAX)],
        // Terms that fall, that do not exist, and that their own leader has not reached.
        vec![noop(term, last + 1), noop(term - 1, last + 2)],
        vec![noop(0, last + 1)],
        vec![noop(term + 1, last + 1)],
        // Nothing to store.
        vec![Entry { term, index: last + 1, payload: None }],
    ];
    let messages = malformed.map(|entries| AppendEntriesRequest {
        term,
        prev_log_index: last,
        prev_log_term: term,
        entries,
        leader_commit: 0,
        traces: Vec::new(),
    });
    for message in messages {
        victim.append(&claim, vec![message]).await;
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn entries_from_a_member_that_does_not_lead_the_term_are_dropped_and_counted() {
    let victim = Victim::start().await;
    let claim = victim.claim_of(victim.third()).await;
    let (term, last) = (victim.before.term, victim.before.last_index);
    let message = AppendEntriesRequest {
        term,
        prev_log_index: last,
        prev_log_term: term,
        entries: vec![noop(term, last + 1)],
        leader_commit: last + 1,
        traces: Vec::new(),
    };
    victim.append(&claim, vec![message]).await;
    victim.goes_on().await;
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_stream_and_nothing_else() {
    let victim = Victim::start().await;
    let claim = victim.claim_of(victim.third()).await;
    for path in
        ["/raft.v1.RaftService/AppendEntries", "/raft.v1.RaftService/Control", "/raft.v1.RaftService/ReadReplica"]
    {
        let before = victim.dropped().await;
        let garbage = Bytes::from(vec![0xFF; 1000]);
        let (_sender, requests) = stream_of(&claim, vec![garbage]).await;
        let mut client = Grpc::new(victim.channel());
        client.ready().await.expect("the node listens");
        let path = http::uri::PathAndQuery::from_static(path);
        let answers = rpc::bounded(async { client.streaming(requests, path, RawCodec).await }).await;
        victim.refused_or_counted(before + 1, answers.expect("the claim is true")).await;
    }
    victim.goes_on().await;
}

#[tokio::test]
async fn a_forwarded_request_without_a_request_is_refused() {
    let victim = Victim::start().await;
    let request =
        proto::raft::v1::ForwardRequest { from: "n1".to_owned(), relay: false, question: false, request: None };
    let failure = failure(rpc::bounded(RaftServiceClient::new(victim.channel()).forward(request)).await);
    assert_ne!(failure.code, Code::Ok, "{failure:?}");
    victim.goes_on().await;
}
