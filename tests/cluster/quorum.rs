//! What a majority can do without the others, and what the others say.

use proto::{
    admin::v1::{TransferLeadershipRequest, admin_service_client::AdminServiceClient},
    kv::v1::GetResponse,
};
use std::{fs, sync::Arc};
use tests::{
    clients::{Clients, Unserved, Workload},
    cluster::{Cluster, Options},
    recorder::{Least, Recorder},
    rpc::{self, Failure, Outcome},
    wait::wait_for,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// Long enough for an election, short enough to wait for in a test that must see it pass.
const REQUEST_TIMEOUT: [&str; 2] = ["--request-timeout-ms", "2000"];

const WORKLOAD: Workload = Workload { clients: 4, keys: 2, operations_per_generation: 100 };

/// Writes that are acknowledged before two of three are killed, and again when they are back, at least.
const WRITES_BEFORE_AND_AFTER: u64 = 100;

/// The number in the record of the client that only asks the survivor.
const ALONE: u64 = 100;

/// Panics unless a put that could not reach a majority says so in one of the two honest ways.
fn expect_honest(failure: &Failure) {
    let reason = failure.reason.as_deref().unwrap_or_else(|| panic!("not a typed error: {failure:?}"));
    match (failure.code, reason) {
        // The second: the deadline passed before anything was proposed.
        (Code::Unavailable, "NO_QUORUM" | "NOT_LEADER" | "PROPOSAL_DROPPED")
        | (Code::DeadlineExceeded, "DEADLINE_EXCEEDED") => {
            failure.expect_outcome(Outcome::NotApplied);
        }
        (Code::DeadlineExceeded | Code::Unknown, "OUTCOME_UNKNOWN") => {
            failure.expect_outcome(Outcome::Unknown);
        }
        _ => panic!("neither certainly not applied nor unknown: {failure:?}"),
    }
}

/// Puts several keys through a node without a majority, all at once; each is refused honestly.
async fn expect_refused_puts(cluster: &Cluster, recorder: &Arc<Recorder>, node: usize) {
    let puts: Vec<_> = (0..4)
        .map(|number| {
            let (recorder, channel) = (recorder.clone(), cluster.nodes[node].channel());
            let request = rpc::put_request(&format!("refused-{number}"), "v");
            tokio::spawn(async move { recorder.put(ALONE, &channel, request).await })
        })
        .collect();
    for put in puts {
        expect_honest(&rpc::failure(put.await.expect("a put does not panic")));
    }
}

/// Kills two of three under load, leaving the leader or a follower; tries puts; starts them again. That a put which was
/// said to be not applied never shows, and that none is lost that was acknowledged, is for the judge.
async fn two_of_three_down(name: &str, survivor_leads: bool) {
    let mut cluster = Cluster::start(Options::default().with_flags(&REQUEST_TIMEOUT)).await;
    let recorder = Recorder::new(name);
    let clients = Clients::start(&cluster, &recorder, WORKLOAD);
    clients.progress(WRITES_BEFORE_AND_AFTER).await;
    let leader = cluster.leader().await;
    let survivor = if survivor_leads { leader } else { cluster.others(leader)[0] };
    for node in cluster.others(survivor) {
        cluster.nodes[node].kill();
    }
    expect_refused_puts(&cluster, &recorder, survivor).await;
    // A leader that has lost its followers finds out, and from then on knows before it proposes.
    let channel = cluster.nodes[survivor].channel();
    let mut probes = 0;
    wait_for("the survivor says that there is no quorum", async || {
        probes += 1;
        let probe = rpc::put_request("probe", &format!("v{probes}"));
        let failure = rpc::failure(recorder.put(ALONE, &channel, probe).await);
        expect_honest(&failure);
        (failure.reason.as_deref() == Some("NO_QUORUM")).then_some(())
    })
    .await;

    cluster.start_all();
    cluster.ready().await;
    clients.progress(WRITES_BEFORE_AND_AFTER).await;
    for Unserved { node, failure } in clients.finish().await {
        if node == survivor {
            expect_honest(&failure);
        }
    }
    recorder.read_every_key(&cluster).await;
    recorder.judge(Least { definite: 300, overlapping: 100 });
    cluster.put(survivor, "after", "v").await.expect("the cluster has healed");
    cluster.converged().await;
}

#[tokio::test]
async fn a_leader_without_its_followers_labels_puts_honestly_and_heals() {
    two_of_three_down("leader-alone", true).await;
}

#[tokio::test]
async fn a_follower_alone_labels_puts_honestly_and_heals() {
    two_of_three_down("follower-alone", false).await;
}

#[tokio::test]
async fn a_get_without_a_majority_is_refused_and_never_stale() {
    let mut cluster = Cluster::start(Options::default().with_flags(&REQUEST_TIMEOUT)).await;
    cluster.put(0, "k", "v").await.expect("the key is new");
    let leader = cluster.leader().await;
    for node in cluster.others(leader) {
        cluster.nodes[node].kill();
    }
    for _ in 0..2 {
        let failure = rpc::failure(cluster.get(leader, "k").await);
        assert!(matches!(failure.code, Code::Unavailable | Code::DeadlineExceeded), "{failure:?}");
        assert!(failure.reason.is_some(), "{failure:?}");
    }
}

/// Asks a node for a key several times at once, and does not wait for the answers.
fn ask(cluster: &Cluster, recorder: &Arc<Recorder>, node: usize, key: &str) -> JoinSet<Result<GetResponse, Status>> {
    let get = |client| {
        let (recorder, channel, request) = (recorder.clone(), cluster.nodes[node].channel(), rpc::get_request(key));
        async move { recorder.get(client, &channel, request).await }
    };
    (0..4).map(get).collect()
}

#[tokio::test]
async fn a_paused_leader_is_replaced_and_serves_nothing_stale_when_it_wakes() {
    let mut cluster = Cluster::of_three().await;
    let recorder = Recorder::new("leader-paused");
    let paused = cluster.leader().await;
    let other = cluster.others(paused)[0];
    let channel = cluster.nodes[other].channel();
    recorder.put(ALONE, &channel, rpc::put_request("k", "old")).await.expect("the key is new");
    cluster.nodes[paused].pause();
    // What these are told may be old: they are open while the value changes.
    let early = ask(&cluster, &recorder, paused, "k");
    let successor = cluster.leader().await;
    assert_ne!(successor, paused);
    recorder.delete(ALONE, &channel, rpc::delete_request("k")).await.expect("the majority goes on");
    recorder.put(ALONE, &channel, rpc::put_request("k", "new")).await.expect("the majority goes on");
    // What these are told must not, although the node that they ask has not heard of the change.
    let late = ask(&cluster, &recorder, paused, "k");
    cluster.nodes[paused].resume();
    assert_eq!(cluster.get(paused, "k").await.expect("it asks the others first"), "new");
    for answer in late.join_all().await {
        answer.expect("the node answers when it wakes, and the key is there");
    }
    // These may also have waited for too long.
    early.join_all().await;
    cluster.put(paused, "k2", "v").await.expect("it forwards to the new leader");
    cluster.ready().await;
    recorder.read_every_key(&cluster).await;
    recorder.judge(Least { definite: 10, overlapping: 3 });
    cluster.converged().await;
}

#[tokio::test]
async fn a_paused_follower_catches_up_when_it_wakes() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let paused = cluster.others(leader)[0];
    cluster.nodes[paused].pause();
    for number in 0..50 {
        cluster.put(leader, &format!("k{number}"), "v").await.expect("the majority goes on");
    }
    cluster.nodes[paused].resume();
    assert_eq!(cluster.converged().await.key_count, 50);
}

/// Puts a key until it is acknowledged. While leadership moves, one attempt's answer may be lost; then the next one
/// finds the key.
pub(crate) async fn put_until_acknowledged(cluster: &Cluster, node: usize, key: &str, value: &str) {
    let mut attempted = false;
    wait_for(&format!("{key} is acknowledged"), async || match cluster.put(node, key, value).await {
        Ok(_) => Some(()),
        Err(status) => {
            let own = attempted && status.code() == Code::AlreadyExists;
            let failure = Failure::of(&status);
            attempted |= failure.outcome() == Outcome::Unknown;
            assert!(own || failure.code != Code::AlreadyExists, "{failure:?}");
            own.then_some(())
        }
    })
    .await;
}

/// Moves leadership to a node unless it leads already.
pub(crate) async fn lead(cluster: &Cluster, wanted: usize) {
    let leader = cluster.leader().await;
    if leader != wanted {
        let request = TransferLeadershipRequest { target: cluster.nodes[wanted].name().to_owned() };
        let mut admin = AdminServiceClient::new(cluster.nodes[leader].channel());
        rpc::bounded(admin.transfer_leadership(request)).await.expect("leadership can be handed over");
        assert_eq!(cluster.leader().await, wanted);
    }
}

/// The quorum scenario: what was acknowledged while `peer2` was paused is read from `peer2` as soon as it is continued.
async fn quorum_scenario(leader: usize) {
    let mut cluster = Cluster::discovered();
    cluster.start_all();
    cluster.ready().await;
    lead(&cluster, leader).await;

    cluster.nodes[2].pause();
    put_until_acknowledged(&cluster, 0, "k1", "alpha").await;
    put_until_acknowledged(&cluster, 1, "k2", "beta").await;
    cluster.nodes[2].resume();

    let mut result = String::new();
    for key in ["k1", "k2"] {
        let value = cluster.get(2, key).await.expect("an acknowledged write is read from any node");
        result.push_str(&format!("{key}={value}\n"));
    }
    let path = cluster.directory().join("result.txt");
    fs::write(&path, result).expect("the result can be written");
    assert_eq!(fs::read(&path).expect("the result can be read"), b"k1=alpha\nk2=beta\n");
}

#[tokio::test]
async fn what_two_acknowledged_while_peer2_was_paused_is_read_from_peer2() {
    quorum_scenario(0).await;
}

#[tokio::test]
async fn what_two_acknowledged_while_peer2_the_leader_was_paused_is_read_from_peer2() {
    quorum_scenario(2).await;
}
