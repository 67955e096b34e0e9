//! What nodes remember of traces, as `client-cli` shows it: the way of a request as a waterfall, and slow requests.

use crate::command_line::client;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::Output};
use tests::{
    cluster::{Cluster, Options},
    wait::wait_for,
};

/// How long each sync takes at least, where it is made slow.
const SLOW_SYNC: [&str; 2] = ["--sync-delay-ms", "100"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("client-cli writes UTF-8")
}

fn expect_success(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// How often each span is shown, by its depth and name, whichever nodes they are of.
fn shape(shown: &str) -> BTreeMap<(usize, String), usize> {
    let mut lines = shown.lines().skip_while(|line| !line.starts_with("NODE "));
    let names = lines.next().and_then(|head| head.find("SPAN")).expect("there is a waterfall");
    let mut shape = BTreeMap::new();
    for line in lines.take_while(|line| !line.is_empty() && !line.starts_with("```")) {
        let name = line.get(names..).expect("a line has a name");
        let depth = name.len() - name.trim_start().len();
        let name = name.split_whitespace().next().expect("a line has a name").to_owned();
        *shape.entry((depth, name)).or_default() += 1;
    }
    shape
}

#[tokio::test]
async fn the_waterfall_in_the_readme_is_as_that_of_a_real_put() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    cluster.converged().await;
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).expect("there is a README");
    let (_, told) = readme.split_once("client-cli put --trace").expect("the README shows it");
    let endpoint = cluster.nodes[cluster.others(leader)[0]].address().to_string();
    let output = client(&endpoint, &[], &["put", "--trace", "traced", "v"]).await;
    expect_success(&output);
    assert_eq!(text(&output.stdout), "ok: revision 2, version 1\n", "the picture is on standard error");
    let shown = text(&output.stderr);
    assert_eq!(shape(told), shape(&shown), "{shown}");
    assert!(!shown.contains("traced"), "the key is shown: {shown}");
}

#[tokio::test]
async fn a_request_joins_the_trace_that_is_named_and_is_found_by_it() {
    let cluster = Cluster::of_three().await;
    cluster.leader().await;
    let id = "0af7651916cd43dd8448eb211c80319c";
    for key in ["a", "b"] {
        expect_success(&client(&cluster.endpoints(), &[], &["put", key, "v", "--trace-id", id]).await);
    }
    let output = client(&cluster.endpoints(), &[], &["-o", "json", "trace", id]).await;
    expect_success(&output);
    let spans: Vec<Value> = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let puts = spans.iter().filter(|span| span["name"] == "raft.propose");
    assert_eq!(puts.count(), 2, "{spans:?}");
    let output = client(&cluster.endpoints(), &[], &["trace", &id.replace('0', "1")]).await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("no node remembers"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_request_that_fails_shows_how_it_was_tried() {
    let mut cluster = Cluster::of_three().await;
    cluster.leader().await;
    let endpoint = cluster.nodes[0].address().to_string();
    for node in &mut cluster.nodes {
        node.kill();
    }
    let output = client(&endpoint, &[], &["--timeout", "300ms", "get", "k", "--trace"]).await;
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let shown = text(&output.stderr);
    assert!(shape(&shown).contains_key(&(0, "get".to_owned())), "{shown}");
    assert!(shape(&shown).contains_key(&(2, "kv.v1.KvService/Get".to_owned())), "{shown}");
    assert!(shown.contains("UNAVAILABLE") && shown.contains("error: "), "{shown}");
}

#[tokio::test]
async fn slow_requests_are_listed_with_where_their_time_went_though_nobody_traced_them() {
    let cluster = Cluster::start(Options::default().with_flags(&SLOW_SYNC)).await;
    let leader = cluster.leader().await;
    expect_success(&client(&cluster.endpoints(), &[], &["put", "a", "v"]).await);
    let output = client(&cluster.endpoints(), &[], &["-o", "json", "slow"]).await;
    expect_success(&output);
    let slow: Vec<Value> = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let node = cluster.nodes[leader].name();
    let is_it =
        |request: &&Value| request["spans"][0]["name"] == "kv.v1.KvService/Put" && request["spans"][0]["node"] == node;
    let put = slow.iter().find(is_it).unwrap_or_else(|| panic!("the put is missing: {slow:?}"));
    let micros = |name: &str| {
        let span = put["spans"].as_array()?.iter().find(|span| span["name"] == name)?;
        Some((span["end_time_unix_nano"].as_u64()? - span["start_time_unix_nano"].as_u64()?) / 1_000)
    };
    // Not a bound on the machine's speed: a majority has to sync, which takes so long at least. The leader's own sync
    // may come after theirs.
    assert!(micros("raft.quorum_wait").is_some_and(|took| took >= 100_000), "{put}");
    for part in ["raft.queue", "raft.propose", "sm.apply"] {
        assert!(micros(part).is_some(), "{part} is missing: {put}");
    }
    let id = put["trace_id"].as_str().expect("a request has a trace");
    let shown = wait_for("it is found by its id", async || {
        let output = client(&cluster.endpoints(), &[], &["trace", id]).await;
        output.status.success().then(|| text(&output.stdout))
    });
    let shown = shown.await;
    assert!(shape(&shown).contains_key(&(4, "raft.quorum_wait".to_owned())), "{shown}");
    let output = client(&cluster.endpoints(), &[], &["slow", "--limit", "1"]).await;
    assert_eq!(text(&output.stdout).lines().count(), 2, "{}", text(&output.stdout));
    // A node that has forwarded the put was busy with it for longer than its leader.
    let output = client(&cluster.endpoints(), &[], &["slow"]).await;
    assert!(text(&output.stdout).contains("raft.quorum_wait 1"), "{}", text(&output.stdout));
}
