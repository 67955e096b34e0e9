//! `client-cli` against a real cluster: what it prints and how it exits.

use std::process::Output;
use tests::{binaries, cluster::Cluster};

/// Exit codes as documented by `client-cli`.
mod exit {
    pub(super) const KEY_EXISTS: i32 = 2;
    pub(super) const KEY_MISSING: i32 = 3;
    pub(super) const UNAVAILABLE: i32 = 4;
}

/// Runs `client-cli` to its end; it blocks, so it runs beside the test's runtime.
pub(super) async fn client(endpoints: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = binaries::command(&binaries::client());
    command.args(arguments).env("QUORATE_ENDPOINTS", endpoints).envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || command.output().expect("client-cli can be started"))
        .await
        .expect("starting a process does not panic")
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn put_get_and_delete_exit_with_the_documented_codes() {
    let cluster = Cluster::of_three().await;
    // Each call reaches the cluster through another single node: it finds the leader by itself.
    let run = async |node: usize, arguments: &[&str]| {
        let output = client(&cluster.nodes[node].address().to_string(), &[], arguments).await;
        let (stdout, stderr) = texts(&output);
        (output.status.code(), stdout, stderr)
    };
    let (code, _, stderr) = run(0, &["put", "a", "first value"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    let (code, _, stderr) = run(1, &["put", "a", "second value"]).await;
    assert_eq!(code, Some(exit::KEY_EXISTS), "{stderr}");
    assert!(stderr.contains("key already exists: a"), "{stderr}");
    let (code, stdout, stderr) = run(2, &["-o", "raw", "get", "a"]).await;
    assert_eq!((code, stdout.trim_end()), (Some(0), "first value"), "{stderr}");
    let (code, _, stderr) = run(0, &["delete", "a"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    for arguments in [["get", "a"], ["delete", "a"]] {
        let (code, _, stderr) = run(1, &arguments).await;
        assert_eq!(code, Some(exit::KEY_MISSING), "{stderr}");
        assert!(stderr.contains("key not found: a"), "{stderr}");
    }
}

#[tokio::test]
async fn status_and_leader_describe_the_cluster_and_a_dead_node() {
    let mut cluster = Cluster::of_three().await;
    let output = client(&cluster.endpoints(), &[], &["status"]).await;
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    for node in &cluster.nodes {
        assert!(stdout.contains(node.name()), "{stdout}");
    }
    let leader = cluster.leader().await;
    let output = client(&cluster.endpoints(), &[], &["leader"]).await;
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains(cluster.nodes[leader].name()), "{stdout}");

    cluster.nodes[leader].kill();
    cluster.leader().await;
    let output = client(&cluster.endpoints(), &[], &["status"]).await;
    let (stdout, stderr) = texts(&output);
    for node in &cluster.nodes {
        let named = format!("{stdout}{stderr}");
        assert!(named.contains(&node.address().to_string()) || named.contains(node.name()), "{named}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_down_is_unavailable_and_certainly_changed_nothing() {
    let mut cluster = Cluster::of_three().await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    let output = client(&cluster.endpoints(), &[], &["put", "a", "v"]).await;
    let (_, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(exit::UNAVAILABLE), "{stderr}");
    assert!(!stderr.is_empty());
}
