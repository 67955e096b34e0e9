//! Snapshots, cut logs and damage to them, over real processes: a follower that gets a snapshot, nodes whose files are
//! damaged, kills while snapshots are taken, and how much disk it all takes.

use super::data_directory::{exit, json, look, path, stop};
use proto::{
    admin::v1::StatusResponse,
    kv::v1::{PutMode, PutRequest, kv_service_client::KvServiceClient},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tests::{
    clients::{Clients, Workload},
    cluster::{Cluster, Options},
    recorder::{Least, Recorder},
    rpc,
    wait::wait_for,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// The least that a node takes as the size of a segment, and as how much log makes a snapshot due.
const BYTES_MIN: u64 = 64 << 10;

/// Keys that are overwritten again and again.
const KEYS: u64 = 20;

/// Some of these make a snapshot due.
const VALUE_BYTES: usize = 1000;

pub(super) fn options(size: usize) -> Options {
    let options = Options { size, segment_bytes: Some(BYTES_MIN), ..Options::default() };
    options.with_flags(&["--snapshot-log-bytes", &BYTES_MIN.to_string()])
}

/// Writes every key once more, all at once, with a number that the value begins with. Returns what was acknowledged.
pub(super) async fn overwrite(channel: Channel, number: u64) -> BTreeMap<String, u64> {
    let mut puts = JoinSet::new();
    for key in 0..KEYS {
        let (channel, key) = (channel.clone(), format!("overwritten {key}"));
        let value = format!("{number:08} {}", "v".repeat(VALUE_BYTES)).into();
        let mode = PutMode::Upsert.into();
        let request = PutRequest { key: key.clone(), value, mode, ..PutRequest::default() };
        puts.spawn(async move { (key, rpc::bounded(KvServiceClient::new(channel).put(request)).await) });
    }
    let answers = puts.join_all().await.into_iter();
    answers.filter_map(|(key, answer)| answer.is_ok().then_some((key, number))).collect()
}

/// Overwrites through a node until its cluster is as asked.
pub(super) async fn overwrite_until(
    cluster: &Cluster,
    node: usize,
    what: &str,
    is_so: impl Fn(&[StatusResponse]) -> bool,
) {
    let channel = cluster.nodes[node].channel();
    wait_for(what, async || {
        overwrite(channel.clone(), 0).await;
        let statuses: Vec<_> = cluster.statuses().await?.into_iter().map(|(_, status)| status).collect();
        is_so(&statuses).then_some(())
    })
    .await;
}

pub(super) fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a data directory can be listed");
    let paths = entries.map(|entry| entry.expect("a data directory can be listed").path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}

pub(super) fn snapshots(directory: &Path) -> Vec<PathBuf> {
    files(directory, ".snap")
}

/// Overwrites until a node has two snapshots, and a log that begins behind the first entry and has several segments.
pub(super) async fn until_cut(cluster: &Cluster, through: usize, node: usize) {
    let name = cluster.nodes[node].name();
    let directory = cluster.nodes[node].directory();
    let is_cut = |status: &StatusResponse| status.name == name && status.ready && status.first_index > 1;
    overwrite_until(cluster, through, "two snapshots and a cut log", |statuses| {
        statuses.iter().any(is_cut) && snapshots(directory).len() == 2 && files(directory, ".log").len() >= 3
    })
    .await;
}

fn flip(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).expect("a file can be read");
    bytes[offset] ^= 0x10;
    fs::write(file, bytes).expect("a file can be written");
}

pub(super) fn flip_middle(file: &Path) {
    let length = fs::metadata(file).expect("a file can be measured").len();
    flip(file, usize::try_from(length / 2).expect("it is small"));
}

/// Ways in which a directory is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    NewestSnapshot,
    OldestSnapshot,
    AllSnapshots,
    SnapshotsGone,
    Log,
    LogAndSnapshots,
}

fn harm(directory: &Path, harm: Harm) {
    let snapshots = snapshots(directory);
    match harm {
        Harm::NewestSnapshot => flip_middle(snapshots.last().expect("there is one")),
        Harm::OldestSnapshot => flip_middle(&snapshots[0]),
        Harm::AllSnapshots => snapshots.iter().for_each(|file| flip_middle(file)),
        Harm::SnapshotsGone => snapshots.iter().for_each(|file| fs::remove_file(file).expect("it can be removed")),
        // Its oldest segment is full, and those behind it prove the term.
        Harm::Log => flip_middle(&files(directory, ".log")[0]),
        Harm::LogAndSnapshots => {
            self::harm(directory, Harm::Log);
            self::harm(directory, Harm::AllSnapshots);
        }
    }
}

/// What `verify` says of a directory in which something is damaged: the places, and what a start would do.
async fn verdict(directory: &Path) -> (Vec<String>, Value) {
    let (code, text, errors) = look(&["verify", "--json"], directory).await;
    assert_eq!(code, Some(exit::DAMAGED), "{text}{errors}");
    let report = json(&text);
    let damage = report["damage"].as_array().expect("a list").iter();
    let text_of = |value: &Value| value.as_str().expect("a text").to_owned();
    let places = damage.map(|damage| format!("{} is damaged at byte {}", text_of(&damage["file"]), damage["offset"]));
    (places.collect(), report["start"].clone())
}

/// A whole cluster stays in service while one node after the other is damaged, and each does what `verify` foretold.
#[tokio::test]
async fn a_damaged_node_says_where_fetches_what_it_lost_and_is_as_the_others() {
    let mut cluster = Cluster::start(options(3)).await;
    for kind in [Harm::NewestSnapshot, Harm::AllSnapshots, Harm::OldestSnapshot, Harm::SnapshotsGone, Harm::Log] {
        let leader = cluster.ready().await;
        let victim = cluster.others(leader)[0];
        until_cut(&cluster, leader, victim).await;
        cluster.nodes[victim].kill();
        let directory = cluster.nodes[victim].directory().to_owned();
        harm(&directory, kind);
        let (places, start) = verdict(&directory).await;
        let expected = match kind {
            Harm::NewestSnapshot => "older_snapshot",
            Harm::OldestSnapshot => "takes_part",
            _ => "fetches",
        };
        assert_eq!(start["outcome"], expected, "{kind:?}: {places:?} {start}");
        is_as_foretold(&mut cluster, victim, &places, &start).await;
        cluster.ready().await;
        cluster.put(victim, &format!("after {kind:?}"), "v").await.expect("all take part again");
        cluster.converged().await;
    }
}

/// Starts a node with the others paused, so that it cannot have fetched anything yet when it is asked.
async fn is_as_foretold(cluster: &mut Cluster, victim: usize, places: &[String], start: &Value) {
    for other in cluster.others(victim) {
        cluster.nodes[other].pause();
    }
    cluster.nodes[victim].start();
    let channel = cluster.nodes[victim].channel();
    let status = wait_for("the node has recovered what is on its disk", async || {
        let status = rpc::status(&channel).await.ok()?;
        (status.last_index > 0 || status.recovering).then_some(status)
    })
    .await;
    let log = cluster.nodes[victim].log_since_start();
    let outcome = start["outcome"].as_str().expect("a text");
    assert_eq!(status.recovering, outcome == "fetches", "{log}");
    match outcome {
        "fetches" => {
            assert!(!status.ready && status.not_ready_reason.contains("lost to damage"), "{status:?}");
            assert_eq!(status.last_index, start["last_index"].as_u64().expect("a number"), "{log}");
            assert!(log.contains("is fetched from the other members"), "{log}");
        }
        "older_snapshot" => assert!(log.contains("the one before it and the log hold the same"), "{log}"),
        _ => assert!(!log.contains("damage"), "{log}"),
    }
    // What a start has no use for it does not read; and what was lost as a whole has no place.
    for place in places.iter().filter(|place| outcome != "takes_part" && place.contains(".snap is")) {
        assert!(log.contains(place), "{place}: {log}");
    }
    if !start["cut"].is_null() {
        assert!(places.iter().any(|place| place.contains(".log") && log.contains(place)), "{places:?}: {log}");
    }
    for other in cluster.others(victim) {
        cluster.nodes[other].resume();
    }
}

/// The files of a directory that matter, with what is in them.
pub(super) fn kept(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = [".snap", ".log", "identity", "repair"].into_iter().flat_map(|ending| files(directory, ending));
    files.map(|file| (file.clone(), fs::read(file).expect("a file can be read"))).collect()
}

#[tokio::test]
async fn a_node_alone_whose_only_copy_is_damaged_refuses_and_says_where() {
    let mut cluster = Cluster::start(options(1)).await;
    until_cut(&cluster, 0, 0).await;
    stop(&mut cluster).await;
    let directory = cluster.nodes[0].directory().to_owned();
    let intact = kept(&directory);
    for kind in [Harm::AllSnapshots, Harm::Log, Harm::SnapshotsGone, Harm::LogAndSnapshots] {
        harm(&directory, kind);
        let harmed = kept(&directory);
        let (places, start) = verdict(&directory).await;
        assert_eq!(start["outcome"], "refuses", "{kind:?}: {places:?}");
        let (_, text, _) = look(&["verify"], &directory).await;
        assert!(text.contains(&format!("\nnext: quorate-server dump {}\n", path(&directory))), "{text}");

        cluster.nodes[0].start();
        let status = cluster.nodes[0].exit_status().await;
        let log = cluster.nodes[0].log_since_start();
        assert_eq!(status.code(), Some(exit::IO), "{log}");
        if kind != Harm::SnapshotsGone {
            assert!(places.iter().any(|place| log.contains(place)), "{kind:?}: {places:?}: {log}");
        }
        assert!(log.contains(&format!("; next: quorate-server verify {}\n", path(&directory))), "{log}");
        assert!(harmed == kept(&directory), "{kind:?}: a node that refuses changes nothing");
        assert_eq!(verdict(&directory).await, (places, start), "{kind:?}");
        for (file, bytes) in &intact {
            fs::write(file, bytes).expect("a file can be written");
        }
    }
    harm(&directory, Harm::NewestSnapshot);
    assert_eq!(verdict(&directory).await.1["outcome"], "older_snapshot");
    cluster.start_all();
    cluster.ready().await;
    let log = cluster.nodes[0].log_since_start();
    assert!(log.contains("the one before it and the log hold the same"), "{log}");
}

/// Answers to clients are judged all the while; the leader has no reason to give way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_part_of_the_log_is_gone_catches_up_under_load() {
    const WORKLOAD: Workload = Workload { clients: 4, keys: 2, operations_per_generation: 100 };
    const WRITES: u64 = 100;
    // Patient followers: the machine may be busy with other things.
    let mut cluster = Cluster::start(options(3).with_flags(&["--election-timeout-ms", "2500"])).await;
    let leader = cluster.leader().await;
    let behind = cluster.others(leader)[0];
    let missing = rpc::status(&cluster.nodes[leader].channel()).await.expect("the leader is up").last_index + 1;
    cluster.nodes[behind].kill();
    overwrite_until(&cluster, leader, "both have cut what the third one needs", |statuses| {
        statuses.iter().all(|status| status.first_index > missing)
    })
    .await;
    // A leader that was there all the time would still have it in memory.
    for other in cluster.others(behind) {
        cluster.nodes[other].kill();
        cluster.nodes[other].start();
    }
    let leader = cluster.ready().await;
    let before = rpc::status(&cluster.nodes[leader].channel()).await.expect("the leader is up");
    let recorder = Recorder::new("snapshot-under-load");
    let clients = Clients::start(&cluster, &recorder, WORKLOAD);
    clients.progress(WRITES).await;
    cluster.nodes[behind].start();
    let name = cluster.nodes[behind].name().to_owned();
    overwrite_until(&cluster, leader, "the follower takes part again", |statuses| {
        statuses.iter().any(|status| status.name == name && status.ready && status.applied_index > missing)
    })
    .await;
    clients.progress(WRITES).await;
    clients.finish().await;
    recorder.read_every_key(&cluster).await;
    recorder.judge(Least { definite: 200, overlapping: 50 });
    cluster.put(leader, "last", "v").await.expect("a healthy cluster answers");
    cluster.converged().await;
    let after = rpc::status(&cluster.nodes[leader].channel()).await.expect("the leader is up");
    assert_eq!((after.leader_name, after.term), (before.name, before.term), "the same leader in the same term");
    let caught_up = rpc::status(&cluster.nodes[behind].channel()).await.expect("it is up");
    assert!(caught_up.first_index > missing, "what it missed came as a snapshot: {caught_up:?}");
}

/// Writes go on while the processes die.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_all_are_killed_while_snapshots_are_taken() {
    const ROUNDS: usize = 8;
    let mut cluster = Cluster::start(options(3)).await;
    let (mut acknowledged, mut number) = (BTreeMap::new(), 0);
    for round in 0..ROUNDS {
        let leader = cluster.ready().await;
        let channel = cluster.nodes[leader].channel();
        let taken = rpc::status(&channel).await.expect("the leader is up").snapshot_index;
        wait_for("another snapshot", async || {
            number += 1;
            acknowledged.extend(overwrite(channel.clone(), number).await);
            let statuses = cluster.statuses().await?;
            statuses.iter().any(|(_, status)| status.snapshot_index > taken).then_some(())
        })
        .await;
        number += 1;
        let under_way = tokio::spawn(overwrite(channel, number));
        // In turn another one is the first to die, and so another one has the most.
        for node in 0..3 {
            cluster.nodes[(node + round) % 3].kill();
        }
        acknowledged.extend(under_way.await.expect("it does not panic"));
        for node in &cluster.nodes {
            let (code, text, _) = look(&["verify"], node.directory()).await;
            assert_eq!(code, Some(0), "{text}");
        }
        cluster.start_all();
        cluster.ready().await;
        for (key, number) in &acknowledged {
            let value = cluster.get(round % 3, key).await.expect("it was acknowledged");
            let found: u64 = value[..8].parse().expect("a value begins with its number");
            assert!(found >= *number, "{key} was {number}, and is {found}");
        }
    }
    assert_eq!(acknowledged.len() as u64, KEYS, "every key was written");
    cluster.put(0, "last", "v").await.expect("a healthy cluster answers");
    assert!(cluster.converged().await.first_index > 1, "logs were cut meanwhile");
}

#[tokio::test]
async fn overwriting_takes_a_bounded_part_of_the_disk() {
    const WRITTEN_BYTES: u64 = 4 << 20;
    /// A quarter of what is written. Two snapshots' worth of log, what is filled ahead and what is about to be cut are
    /// less.
    const SEGMENTS_MAX: usize = 16;
    const SNAPSHOTS_MAX: usize = 3;
    let cluster = Cluster::start(options(3)).await;
    let leader = cluster.leader().await;
    let rounds = WRITTEN_BYTES / (KEYS * VALUE_BYTES as u64);
    for number in 0..rounds {
        overwrite(cluster.nodes[leader].channel(), number).await;
        for node in &cluster.nodes {
            let (segments, snapshots) = (files(node.directory(), ".log").len(), snapshots(node.directory()).len());
            assert!(segments <= SEGMENTS_MAX, "{} has {segments} segments in round {number}", node.name());
            assert!(snapshots <= SNAPSHOTS_MAX, "{} has {snapshots} snapshots in round {number}", node.name());
        }
    }
    cluster.put(leader, "last", "v").await.expect("a healthy cluster answers");
    let status = cluster.converged().await;
    assert!(status.applied_index >= rounds * KEYS, "everything was written: {status:?}");
}
