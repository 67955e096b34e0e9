//! What is said while leadership moves, or does not.

use super::{Call, expect};
use crate::claim::Claim;
use proto::{
    admin::v1::{TransferLeadershipRequest, TransferLeadershipResponse, admin_service_client::AdminServiceClient},
    kv::v1::kv_service_client::KvServiceClient,
    raft::v1::{ForwardRequest, ForwardResponse, forward_request, raft_service_client::RaftServiceClient},
};
use std::time::Duration;
use tests::{
    cluster::{Cluster, Options},
    rpc::{self, Failure},
    wait::wait_for,
};
use tonic::{Code, Request, Response, Status};

/// Handovers that take some time to fail, after which their deadline has not passed yet.
const SLOW: [&str; 4] = ["--election-timeout-ms", "3000", "--request-timeout-ms", "6000"];

async fn transfer(cluster: &Cluster, asked: usize, target: &str) -> Result<TransferLeadershipResponse, Status> {
    let request = TransferLeadershipRequest { target: target.to_owned() };
    rpc::bounded(AdminServiceClient::new(cluster.nodes[asked].channel()).transfer_leadership(request)).await
}

/// Asks a node for what only a leader does, as its peer: it does it itself or says why not.
async fn forward(
    cluster: &Cluster,
    claim: &Claim,
    to: usize,
    request: Option<forward_request::Request>,
) -> Result<ForwardResponse, Status> {
    let mut request = Request::new(ForwardRequest { from: "peer".to_owned(), relay: false, question: false, request });
    claim.insert(request.metadata_mut());
    rpc::bounded(RaftServiceClient::new(cluster.nodes[to].channel()).forward(request)).await
}

fn put(key: &str) -> Option<forward_request::Request> {
    Some(forward_request::Request::Put(rpc::put_request(key, "v")))
}

fn get(key: &str) -> Option<forward_request::Request> {
    Some(forward_request::Request::Get(rpc::get_request(key)))
}

#[tokio::test]
async fn a_follower_that_is_asked_as_a_leader_names_the_leader() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.ready().await;
    let [asked, from] = cluster.others(leader)[..] else { panic!("three nodes have one leader") };
    let claim = Claim::of(&cluster, from, asked).await;
    let (code, reason) = (Code::Unavailable, "NOT_LEADER");
    for metadata in [
        expect(forward(&cluster, &claim, asked, put("k")).await, Call::Write, code, reason),
        expect(transfer(&cluster, asked, "").await, Call::Other, code, reason),
    ] {
        assert_eq!(metadata["leaderId"], cluster.nodes[leader].name());
        assert_eq!(metadata["leaderAddress"], cluster.nodes[leader].address().to_string());
        assert_ne!(metadata["term"], "0");
    }
    // A read it answers itself.
    expect(forward(&cluster, &claim, asked, get("k")).await, Call::Other, Code::NotFound, "KEY_NOT_FOUND");
    let answer = forward(&cluster, &claim, asked, None).await;
    expect(answer, Call::Write, Code::InvalidArgument, "REQUEST_MISSING");
}

#[tokio::test]
async fn a_leader_that_hands_over_to_a_member_that_does_not_answer_says_so_and_goes_on() {
    let mut cluster = Cluster::start(Options::default().with_flags(&SLOW)).await;
    let leader = cluster.ready().await;
    let [target, from] = cluster.others(leader)[..] else { panic!("three nodes have one leader") };
    cluster.put(leader, "kept", "v").await.expect("the key is new");
    cluster.converged().await;
    let claim = Claim::of(&cluster, from, leader).await;
    cluster.nodes[target].pause();
    let name = cluster.nodes[target].name().to_owned();
    let handover = async { transfer(&cluster, leader, &name).await };
    let refused = async {
        let mut puts = 0;
        wait_for("a put is refused", async || {
            puts += 1;
            // Until the handover has begun, the leader takes it.
            let answer = forward(&cluster, &claim, leader, put(&format!("k{puts}"))).await;
            let reason = answer.as_ref().err().and_then(|status| Failure::of(status).reason);
            (reason.as_deref() == Some("LEADERSHIP_TRANSFERRING")).then_some(answer)
        })
        .await
    };
    let (handover, refused) = tokio::join!(handover, refused);
    expect(refused, Call::Write, Code::Unavailable, "LEADERSHIP_TRANSFERRING");
    expect(handover, Call::Other, Code::DeadlineExceeded, "TRANSFER_TIMED_OUT");
    cluster.put(leader, "after", "v").await.expect("the leader goes on");
}

#[tokio::test]
async fn a_handover_to_nobody_is_refused() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.ready().await;
    let name = cluster.nodes[leader].name();
    let (invalid, failed) = (Code::InvalidArgument, Code::FailedPrecondition);
    let metadata = expect(transfer(&cluster, leader, "n9").await, Call::Other, invalid, "TARGET_NOT_VOTER");
    assert_eq!(metadata["target"], "n9");
    let metadata = expect(transfer(&cluster, leader, name).await, Call::Other, failed, "TARGET_LEADS_ALREADY");
    assert_eq!(metadata["target"], name);
    assert_eq!(cluster.leader().await, leader, "nothing has moved");
    drop(cluster);

    let cluster = Cluster::start(Options { size: 1, ..Options::default() }).await;
    expect(transfer(&cluster, 0, "").await, Call::Other, failed, "NO_OTHER_VOTER");
}

#[tokio::test]
async fn a_write_whose_entry_another_leader_has_overwritten_is_certainly_not_applied() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.ready().await;
    let channel = cluster.nodes[leader].channel();
    let before = cluster.converged().await;
    // Killed and not paused: nothing of the entry may be on its way to them.
    for other in cluster.others(leader) {
        cluster.nodes[other].kill();
    }
    let mut request = Request::new(rpc::put_request("k", "v"));
    request.set_timeout(Duration::from_secs(60));
    let mut client = KvServiceClient::new(channel.clone());
    let put = tokio::spawn(async move { client.put(request).await.map(Response::into_inner) });
    wait_for("the leader has the entry", async || {
        rpc::status(&channel).await.ok().filter(|status| status.last_index > before.last_index)
    })
    .await;
    cluster.nodes[leader].pause();
    for other in cluster.others(leader) {
        cluster.nodes[other].start();
    }
    let successor = cluster.leader().await;
    cluster.put(successor, "other", "v").await.expect("two of three are a majority");
    cluster.nodes[leader].resume();
    let answer = put.await.expect("it does not panic");
    let metadata = expect(answer, Call::Write, Code::Unavailable, "PROPOSAL_DROPPED");
    let term: u64 = metadata["term"].parse().expect("it is a number");
    assert!(term > before.term, "it is the term of whoever overwrote it: {metadata:?}");
    cluster.converged().await;
    expect(cluster.get(leader, "k").await, Call::Other, Code::NotFound, "KEY_NOT_FOUND");
}
