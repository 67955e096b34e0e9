//! What put, get and delete answer, through every node.

use proto::kv::v1::{DeleteRequest, PutMode, PutRequest, kv_service_client::KvServiceClient};
use tests::{
    cluster::Cluster,
    rpc::{self, Failure, Outcome, failure},
    wait::wait_for,
};
use tonic::{Code, Status, transport::Channel};

fn expect_key_exists(failure: &Failure, key: &str) {
    assert_eq!(failure.message, format!("key already exists: {key}"));
    failure.expect(Code::AlreadyExists, "KEY_EXISTS");
    failure.expect_outcome(Outcome::NotApplied);
}

fn expect_not_found(failure: &Failure, key: &str) {
    assert_eq!(failure.message, format!("key not found: {key}"));
    failure.expect(Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn every_node_answers_put_get_and_delete_and_their_errors() {
    let cluster = Cluster::of_three().await;
    for writer in 0..3 {
        for reader in 0..3 {
            expect_not_found(&failure(cluster.get(reader, "a").await), "a");
            let missing = failure(cluster.delete(reader, "a").await);
            expect_not_found(&missing, "a");
            missing.expect_outcome(Outcome::NotApplied);
        }
        let value = format!("through {writer}");
        let put = cluster.put(writer, "a", &value).await.expect("the key is new");
        assert_eq!(put.version, 1);
        for reader in 0..3 {
            assert_eq!(cluster.get(reader, "a").await.expect("the key is there"), value);
            expect_key_exists(&failure(cluster.put(reader, "a", "other").await), "a");
        }
        let deleter = (writer + 1) % 3;
        let deleted = cluster.delete(deleter, "a").await.expect("the key is there");
        assert_eq!(deleted.revision, put.revision + 1, "rejected commands leave the revision alone");
    }
    cluster.converged().await;
}

#[tokio::test]
async fn empty_and_binary_values_and_keys_beyond_ascii_are_kept_as_they_are() {
    let cluster = Cluster::of_three().await;
    let channel = cluster.nodes[1].channel();
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    for (key, value) in [("empty", Vec::new()), ("binary", every_byte), ("schlüssel 鍵 \0", b"x".to_vec())] {
        let request = PutRequest { key: key.to_owned(), value: value.clone().into(), ..PutRequest::default() };
        rpc::bounded(KvServiceClient::new(channel.clone()).put(request)).await.expect("it is a valid put");
        let kv = rpc::get(&channel, key).await.expect("the key is there").kv.expect("a get carries the key");
        assert_eq!((kv.key.as_str(), kv.value.as_ref()), (key, value.as_slice()));
    }
}

async fn put_with(
    channel: &Channel,
    mode: PutMode,
    value: &str,
    expected_revision: Option<u64>,
) -> Result<(u64, u64), Status> {
    let request = PutRequest { mode: mode.into(), expected_revision, ..rpc::put_request("k", value) };
    let answer = rpc::bounded(KvServiceClient::new(channel.clone()).put(request)).await?;
    Ok((answer.revision, answer.version))
}

#[tokio::test]
async fn the_put_modes_accept_and_refuse_as_documented() {
    let cluster = Cluster::of_three().await;
    let channel = cluster.nodes[2].channel();
    expect_not_found(&failure(put_with(&channel, PutMode::Update, "v", None).await), "k");
    expect_not_found(&failure(put_with(&channel, PutMode::Compare, "v", Some(1)).await), "k");

    let (created, version) = put_with(&channel, PutMode::Upsert, "v1", None).await.expect("upsert creates");
    assert_eq!(version, 1);
    expect_key_exists(&failure(put_with(&channel, PutMode::Create, "v", None).await), "k");
    let (updated, version) = put_with(&channel, PutMode::Update, "v2", None).await.expect("the key exists");
    assert_eq!((updated, version), (created + 1, 2));

    let mismatch = failure(put_with(&channel, PutMode::Compare, "v", Some(created)).await);
    mismatch.expect(Code::FailedPrecondition, "REVISION_MISMATCH");
    mismatch.expect_outcome(Outcome::NotApplied);
    let (compared, version) =
        put_with(&channel, PutMode::Compare, "v3", Some(updated)).await.expect("the revision is the current one");
    assert_eq!((compared, version), (updated + 1, 3));

    let kv = rpc::get(&channel, "k").await.expect("the key is there").kv.expect("a get carries the key");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (created, compared, 3));
    assert_eq!(kv.value.as_ref(), b"v3");
}

#[tokio::test]
async fn a_delete_compares_the_revision_and_returns_what_it_removed() {
    let cluster = Cluster::of_three().await;
    let mut client = KvServiceClient::new(cluster.nodes[0].channel());
    let put = cluster.put(1, "k", "v").await.expect("the key is new");
    let request = |expected| DeleteRequest {
        expected_revision: Some(expected),
        return_previous: true,
        ..rpc::delete_request("k")
    };
    let mismatch = failure(rpc::bounded(client.delete(request(put.revision + 5))).await);
    mismatch.expect(Code::FailedPrecondition, "REVISION_MISMATCH");
    mismatch.expect_outcome(Outcome::NotApplied);
    let deleted = rpc::bounded(client.delete(request(put.revision))).await.expect("the revision is the current one");
    let previous = deleted.previous.expect("it was asked for");
    assert_eq!((previous.value.as_ref(), previous.mod_revision), (b"v".as_slice(), put.revision));
}

#[tokio::test]
async fn every_node_answers_gets_from_its_own_state() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    for node in &cluster.nodes {
        let key = node.name();
        cluster.put(leader, key, "v").await.expect("the key is new");
        wait_for("it serves the get itself", async || {
            // Whoever serves it: what was acknowledged is there at once.
            let found = rpc::get(&node.channel(), key).await.expect("the key is there");
            (found.served_by == node.name()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_that_forwards_names_the_leader_in_the_response_metadata() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let mut client = KvServiceClient::new(cluster.nodes[follower].channel());
    let answer = client.put(rpc::put_request("k", "v")).await.expect("the key is new");
    let text = |name: &str| answer.metadata().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(text("quorate-leader-name").as_deref(), Some(cluster.nodes[leader].name()));
    assert_eq!(text("quorate-leader-address"), Some(cluster.nodes[leader].address().to_string()));
}
