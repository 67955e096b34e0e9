//! A write with a request id runs once, whatever happens between its repeats: they are answered with the first result
//! after a failover, after a restart of all nodes, and from a state that came out of a snapshot.

use crate::snapshots::{options, overwrite, overwrite_until, snapshots};
use proto::{
    admin::v1::{TransferLeadershipRequest, admin_service_client::AdminServiceClient},
    kv::v1::{
        DeleteRequest, DeleteResponse, PutMode, PutRequest, PutResponse, RequestId, get_outcome_response::Outcome,
        kv_service_client::KvServiceClient,
    },
};
use tests::{
    cluster::Cluster,
    rpc::{self, Failure, failure},
};
use tonic::{Code, Status, transport::Channel};

/// The session of all writes here.
const SESSION: u8 = 7;

/// What was answered at first: to a put, to the removal of another key, and to a put of a key that was there.
struct First {
    put: PutResponse,
    deleted: DeleteResponse,
    exists: Failure,
}

async fn put(channel: &Channel, key: &str, mode: PutMode, sequence: u64) -> Result<PutResponse, Status> {
    let request_id = Some(rpc::request_id(SESSION, sequence));
    rpc::put_with(channel, PutRequest { mode: mode.into(), request_id, ..rpc::put_request(key, "once") }).await
}

async fn delete(channel: &Channel, key: &str, sequence: u64) -> Result<DeleteResponse, Status> {
    let request_id: Option<RequestId> = Some(rpc::request_id(SESSION, sequence));
    let request = DeleteRequest { return_previous: true, request_id, ..rpc::delete_request(key) };
    rpc::bounded(KvServiceClient::new(channel.clone()).delete(request)).await
}

impl First {
    /// Writes for the first time, and then so that each write would have another result if it were run again.
    async fn of(channel: &Channel) -> First {
        rpc::put(channel, "removed", "previous").await.expect("the key is new");
        rpc::put(channel, "in the way", "v").await.expect("the key is new");
        let put = put(channel, "once", PutMode::Upsert, 1).await.expect("it is valid");
        let deleted = delete(channel, "removed", 2).await.expect("the key is there");
        let exists = failure(self::put(channel, "in the way", PutMode::Create, 3).await);
        exists.expect(Code::AlreadyExists, "KEY_EXISTS");
        rpc::put(channel, "removed", "another").await.expect("it was removed");
        rpc::delete(channel, "in the way").await.expect("the key is there");
        First { put, deleted, exists }
    }

    /// Panics unless every repeat is answered as the first was, and changes nothing.
    async fn is_repeated(&self, cluster: &Cluster, node: usize) {
        let channel = &cluster.nodes[node].channel();
        let before = cluster.converged().await;
        let put = put(channel, "once", PutMode::Upsert, 1).await.expect("it was put");
        assert_eq!((put.revision, put.version), (self.put.revision, self.put.version));
        let deleted = delete(channel, "removed", 2).await.expect("it was removed");
        assert_eq!((deleted.revision, &deleted.previous), (self.deleted.revision, &self.deleted.previous));
        assert_eq!(deleted.previous.expect("it was asked for").value.as_ref(), b"previous");
        let exists = failure(self::put(channel, "in the way", PutMode::Create, 3).await);
        assert_eq!((exists.code, &exists.metadata), (self.exists.code, &self.exists.metadata));
        self.is_settled(channel).await;
        let after = cluster.converged().await;
        assert_eq!(
            (after.revision, after.key_count),
            (before.revision, before.key_count),
            "a repeat changed something"
        );
        let kv = rpc::get(channel, "once").await.expect("it was put").kv.expect("a get carries the key");
        assert_eq!((kv.mod_revision, kv.version), (self.put.revision, 1));
        assert_eq!(rpc::get_text(channel, "removed").await.expect("it was put again"), "another");
        failure(rpc::get(channel, "in the way").await).expect(Code::NotFound, "KEY_NOT_FOUND");
    }

    /// Panics unless the outcome of each is told as it was, and that of one that was never sent as never.
    async fn is_settled(&self, channel: &Channel) {
        for sequence in 1..=4 {
            let answer = rpc::get_outcome(channel, rpc::request_id(SESSION, sequence)).await.expect("it is known");
            match (sequence, answer.outcome.expect("there is one")) {
                (1, Outcome::Put(put)) => assert_eq!(put.revision, self.put.revision),
                (2, Outcome::Delete(deleted)) => assert_eq!(deleted.previous, self.deleted.previous),
                (3, Outcome::Rejected(rejected)) => {
                    assert_eq!(Some(&rejected.reason), self.exists.reason.as_ref());
                    assert_eq!(rejected.revision.to_string(), self.exists.metadata["revision"]);
                }
                (4, Outcome::NeverApplied(_)) => {}
                (_, outcome) => panic!("{sequence} became {outcome:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_repeat_to_another_leader_has_the_first_result() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let first = First::of(&cluster.nodes[leader].channel()).await;
    cluster.nodes[leader].kill();
    let successor = cluster.leader().await;
    first.is_repeated(&cluster, successor).await;
    cluster.nodes[leader].start();
    cluster.ready().await;
    // Now through one that has learnt of it from the others, or from its own log.
    first.is_repeated(&cluster, leader).await;
}

#[tokio::test]
async fn a_repeat_after_all_were_killed_has_the_first_result() {
    let mut cluster = Cluster::of_three().await;
    let first = First::of(&cluster.nodes[1].channel()).await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all();
    cluster.ready().await;
    for node in 0..3 {
        first.is_repeated(&cluster, node).await;
    }
}

#[tokio::test]
async fn a_repeat_to_nodes_that_have_it_from_their_snapshots_has_the_first_result() {
    let mut cluster = Cluster::start(options(3)).await;
    let leader = cluster.ready().await;
    let first = First::of(&cluster.nodes[leader].channel()).await;
    let written = cluster.converged().await.applied_index;
    overwrite_until(&cluster, leader, "every node has let go of the log of it", |statuses| {
        statuses.len() == 3 && statuses.iter().all(|status| status.first_index > written)
    })
    .await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    assert!(cluster.nodes.iter().all(|node| !snapshots(node.directory()).is_empty()));
    cluster.start_all();
    cluster.ready().await;
    first.is_repeated(&cluster, 0).await;
}

#[tokio::test]
async fn a_repeat_to_a_leader_that_was_sent_the_state_has_the_first_result() {
    let mut cluster = Cluster::start(options(3)).await;
    let leader = cluster.ready().await;
    let behind = cluster.others(leader)[0];
    cluster.nodes[behind].kill();
    let first = First::of(&cluster.nodes[leader].channel()).await;
    let written = rpc::status(&cluster.nodes[leader].channel()).await.expect("the leader is up").last_index;
    overwrite_until(&cluster, leader, "both have cut what the third one needs", |statuses| {
        statuses.iter().all(|status| status.first_index > written)
    })
    .await;
    // A leader that was there all the time would still have it in memory.
    for other in cluster.others(behind) {
        cluster.nodes[other].kill();
        cluster.nodes[other].start();
    }
    let leader = cluster.ready().await;
    cluster.nodes[behind].start();
    cluster.ready().await;
    cluster.put(leader, "last", "v").await.expect("a healthy cluster answers");
    cluster.converged().await;
    let channel = cluster.nodes[behind].channel();
    let status = rpc::status(&channel).await.expect("it is up");
    assert!(status.first_index > written, "what it missed came as a snapshot: {status:?}");
    let request = TransferLeadershipRequest { target: status.name };
    let mut admin = AdminServiceClient::new(cluster.nodes[leader].channel());
    rpc::bounded(admin.transfer_leadership(request)).await.expect("it can lead");
    assert_eq!(cluster.leader().await, behind);
    first.is_repeated(&cluster, behind).await;
    overwrite(channel, 1).await;
    first.is_repeated(&cluster, leader).await;
}
