//! A new cluster out of a snapshot of an old one.

use super::{
    data_directory::json,
    snapshots::{options, overwrite_until},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};
use tests::{binaries, cluster::Cluster, rpc};

fn restore(file: &Path, into: &Path, members: &str) -> Output {
    let mut command = binaries::command(&binaries::server());
    command.arg("restore").arg(file).arg("--into").arg(into).args(["--members", members, "--json"]);
    command.output().expect("the server can be started")
}

/// The newest snapshot of a node that is down.
fn newest_snapshot(directory: &Path) -> PathBuf {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let files = entries.map(|entry| entry.expect("it can be listed").path());
    // The index in a name has leading zeros.
    files.filter(|file| file.extension().is_some_and(|ending| ending == "snap")).max().expect("there is a snapshot")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A cluster that has taken snapshots, all of it down, and the newest of one node's.
async fn old_cluster() -> (Cluster, PathBuf) {
    let mut old = Cluster::start(options(3)).await;
    old.put(0, "kept", "v").await.expect("the key is new");
    overwrite_until(&old, 0, "each node has a snapshot", |statuses| {
        statuses.iter().all(|status| status.snapshot_index > 0)
    })
    .await;
    old.nodes.iter_mut().for_each(tests::node::Node::kill);
    let file = newest_snapshot(old.nodes[1].directory());
    (old, file)
}

#[tokio::test]
async fn a_restored_cluster_has_the_state_of_the_snapshot_and_goes_on() {
    let (mut old, file) = old_cluster().await;
    let mut new = Cluster::new(&options(3));
    let into = new.directory().join("restored");
    let output = restore(&file, &into, "n1,n2,n3");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&String::from_utf8_lossy(&output.stdout));
    for node in &new.nodes {
        // It is there, and empty, because the node's log lies beside it.
        fs::remove_dir_all(node.directory()).ok();
        fs::rename(into.join(node.name()), node.directory()).expect("they are in one file system");
    }
    new.start_all();
    new.ready().await;
    for node in &new.nodes {
        let status = rpc::status(&node.channel()).await.expect("it is ready");
        assert_eq!(hexadecimal(&status.state_hash), report["state_hash"], "{}", node.name());
        assert_eq!(hexadecimal(&status.cluster_id), report["cluster_id"], "{}", node.name());
        assert_eq!((status.revision, status.key_count), (number(&report["revision"]), number(&report["key_count"])));
        assert!(status.applied_index >= number(&report["snapshot_index"]));
        assert_eq!(status.session_count, 0);
    }
    assert_eq!(new.get(2, "kept").await.expect("it was in the snapshot"), "v");
    let exists = new.put(0, "kept", "again").await.expect_err("it was in the snapshot");
    assert_eq!(exists.code(), tonic::Code::AlreadyExists);
    let put = new.put(1, "new", "v").await.expect("the key is new");
    assert_eq!(put.revision, number(&report["revision"]) + 1, "revisions go on where they were");
    new.nodes.iter_mut().for_each(tests::node::Node::kill);
    new.start_all();
    new.ready().await;
    assert_eq!(new.get(0, "new").await.expect("it was acknowledged"), "v");
    new.converged().await;

    // The old one is as it was.
    old.start_all();
    old.ready().await;
    let status = rpc::status(&old.nodes[0].channel()).await.expect("it is ready");
    assert_ne!(hexadecimal(&status.cluster_id), report["cluster_id"]);
    old.converged().await;
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().expect("a number")
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_with_a_code_and_leaves_nothing_behind() {
    let (old, file) = old_cluster().await;
    let into = old.directory().join("restored");
    let code = |file: &Path, members: &str| restore(file, &into, members).status.code();
    assert_eq!(code(&old.directory().join("nothing.snap"), "n1"), Some(66));
    assert_eq!(code(&file, "n1,n1"), Some(64));
    assert_eq!(code(&file, "N1"), Some(64));
    assert_eq!(code(&file, "n1,n2,n3,n4,n5,n6,n7,n8,n9,n10"), Some(64));
    let damaged = old.directory().join("damaged.snap");
    let mut bytes = fs::read(&file).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).expect("a file can be written");
    let output = restore(&damaged, &into, "n1");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("damaged.snap is damaged at byte "), "{text}");
    assert!(!into.exists());
    assert_eq!(code(&file, "n1"), Some(0));
    assert_eq!(code(&file, "n1,n2"), Some(73), "there is a node's data already");
    assert!(!into.join("n2").exists());
}
