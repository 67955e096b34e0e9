//! `quorate-server verify` and `dump`: what they say of the directory of a node that ran, was killed, or was damaged.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    process::{Output, Stdio},
};
use tests::{
    binaries,
    cluster::{Cluster, Options},
    node::run_to_end,
    rpc,
};

/// Exit codes, those of `sysexits.h` but for the first.
pub(super) mod exit {
    pub(crate) const DAMAGED: i32 = 1;
    pub(crate) const USAGE: i32 = 64;
    pub(crate) const NO_INPUT: i32 = 66;
    pub(crate) const DIVERGED: i32 = 70;
    pub(crate) const IO: i32 = 74;
    pub(crate) const LOCKED: i32 = 75;
}

/// The smallest segments that a node takes, so that a few writes need several.
const SEGMENT_BYTES: u64 = 64 << 10;

/// Long enough that a hundred of them fill more than a segment.
const VALUE_BYTES: usize = 1000;

const PUTS: u64 = 100;

/// Entries before the first put: the no-op of the first leader.
const ENTRIES_BEFORE: u64 = 1;

/// A node alone with a few keys, and the hash of its state at each index at which a put left it.
async fn written() -> (Cluster, BTreeMap<u64, String>) {
    let cluster = Cluster::start(Options { size: 1, segment_bytes: Some(SEGMENT_BYTES), ..Options::default() }).await;
    let mut hashes = BTreeMap::new();
    for number in 1..=PUTS {
        cluster.put(0, &format!("key {number:03}"), &"v".repeat(VALUE_BYTES)).await.expect("the key is new");
        let status = rpc::status(&cluster.nodes[0].channel()).await.expect("the node is up");
        let hash = status.state_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        hashes.insert(status.applied_index, hash);
    }
    (cluster, hashes)
}

pub(super) async fn stop(cluster: &mut Cluster) {
    cluster.nodes[0].terminate();
    let status = cluster.nodes[0].exit_status().await;
    assert!(status.success(), "{status}");
}

pub(super) fn path(directory: &Path) -> &str {
    directory.to_str().expect("a temporary directory's path is UTF-8")
}

/// Runs a command on a directory; its exit code, standard output and standard error.
pub(super) async fn look(arguments: &[&str], directory: &Path) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = arguments.iter().copied().chain([path(directory)]).collect();
    let Output { status, stdout, stderr } = run_to_end(&arguments, &[]).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is UTF-8");
    (status.code(), text(stdout), text(stderr))
}

pub(super) fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a data directory can be listed");
    let file = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.expect("a data directory can be listed");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        (name, fs::read(entry.path()).expect("a file can be read"))
    };
    entries.map(file).collect()
}

pub(super) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

#[tokio::test]
async fn the_directory_of_a_stopped_node_is_verified() {
    let (mut cluster, hashes) = written().await;
    stop(&mut cluster).await;
    let directory = cluster.nodes[0].directory();
    let before = contents(directory);
    let (code, text, errors) = look(&["verify"], directory).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{text}");
    assert!(text.starts_with(&format!("{}: sound\n", path(directory))), "{text}");
    for part in ["  node         n1, incarnation ", "\n  wal-0000000002.log ", "tail         none", "time taken"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let (code, text, _) = look(&["verify", "--json"], directory).await;
    assert_eq!(code, Some(0));
    let report = json(&text);
    assert_eq!(report["verdict"], "sound");
    assert_eq!(report["node"]["name"], "n1");
    assert_eq!(report["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["last_index"], ENTRIES_BEFORE + PUTS);
    assert_eq!(report["unsynced_tail"].as_array().map(Vec::len), Some(0));
    assert!(report["segments"].as_array().is_some_and(|segments| segments.len() >= 2), "{text}");
    assert_eq!(report["segments"][0]["indexes"][0], 1);
    // The log's last commit index trails: what it proves is compared with what the node itself said at that index.
    let applied = report["applied_index"].as_u64().expect("a number");
    assert!(applied + 1 >= ENTRIES_BEFORE + PUTS, "only the last entry may be undecided: {text}");
    assert_eq!(report["keys"], applied - ENTRIES_BEFORE);
    assert_eq!(report["state_hash"], hashes[&applied], "the hash that the node itself had at {applied}");
    assert_eq!(contents(directory), before, "nothing was changed");
}

#[tokio::test]
async fn the_log_of_a_stopped_node_is_dumped() {
    let (mut cluster, _) = written().await;
    cluster.put(0, "\u{1b}[2J", "clears no screen").await.expect("the key is new");
    cluster.delete(0, "key 001").await.expect("the key is there");
    cluster.put(0, "last", "v").await.expect("the key is new");
    stop(&mut cluster).await;
    let directory = cluster.nodes[0].directory();
    let (code, text, errors) = look(&["dump"], directory).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(
        text.starts_with("wal-0000000001.log         0  start       of 65536 bytes, next entry 1, term 0"),
        "{text}"
    );
    assert!(text.contains("  entry       1, term 1: no-op of a new leader\n"), "{text}");
    let value = format!("{VALUE_BYTES} bytes \"{}\"...", "v".repeat(32));
    assert!(text.contains(&format!("  entry       2, term 1: put \"key 001\" = {value}, create, at ")), "{text}");
    assert!(text.contains(r#"put "\u{1b}[2J" = 16 bytes "clears no screen", create, at "#), "{text}");
    assert!(text.contains(r#": delete "key 001", at "#) && !text.contains('\u{1b}'), "{text}");

    let (code, text, _) = look(&["dump", "--json", "--from", "3", "--to", "5"], directory).await;
    let entries = json_lines(&text);
    let indexes: Vec<_> = entries.iter().map(|entry| entry["index"].as_u64()).collect();
    assert_eq!((code, indexes), (Some(0), vec![Some(3), Some(4), Some(5)]), "{text}");
    assert_eq!(entries[0]["command"]["key"], "key 002");
    assert_eq!(entries[0]["command"]["value_bytes"], VALUE_BYTES);

    let (code, text, _) = look(&["dump", "--state", "--json"], directory).await;
    let keys = json_lines(&text);
    let named = |name: &str| keys.iter().filter(|key| key["key"] == name).count();
    assert_eq!(code, Some(0));
    assert_eq!((named("key 001"), named("key 002"), named("\u{1b}[2J")), (0, 1, 1), "{text}");
    let second = keys.iter().find(|key| key["key"] == "key 002").expect("it is there");
    assert_eq!((&second["value"], &second["version"]), (&Value::from("v".repeat(VALUE_BYTES)), &Value::from(1)));
}

#[tokio::test]
async fn a_damaged_log_is_refused_by_the_node_and_named_by_verify_at_the_same_place() {
    let (mut cluster, _) = written().await;
    stop(&mut cluster).await;
    let directory = cluster.nodes[0].directory().to_owned();
    let file = directory.join("wal-0000000001.log");
    let mut bytes = fs::read(&file).expect("a segment can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("a segment can be written");
    let before = contents(&directory);

    let (code, text, _) = look(&["verify", "--json"], &directory).await;
    assert_eq!(code, Some(exit::DAMAGED), "{text}");
    let report = json(&text);
    let damage = &report["damage"][0];
    assert_eq!((&report["verdict"], &damage["file"]), (&Value::from("damaged"), &Value::from("wal-0000000001.log")));
    let offset = damage["offset"].as_u64().expect("a number");
    let distance = (middle as u64).checked_sub(offset).expect("the record begins before its damaged byte");
    assert!(distance < VALUE_BYTES as u64 + 100, "the damaged record lies around byte {middle}: {text}");

    let place = format!("wal-0000000001.log is damaged at byte {offset}: no valid record");
    let (code, text, _) = look(&["verify"], &directory).await;
    assert_eq!(code, Some(exit::DAMAGED), "{text}");
    assert!(text.contains(&place), "{text}");
    assert!(text.contains(&format!("\nnext: quorate-server dump {}\n", path(&directory))), "{text}");
    let (code, text, errors) = look(&["dump", "--json"], &directory).await;
    assert_eq!(code, Some(exit::DAMAGED));
    assert!(errors.starts_with(&format!("quorate-server: {place}")), "{errors}");
    let last = json_lines(&text).pop().expect("there is something before the damage");
    let end = last["offset"].as_u64().zip(last["bytes"].as_u64()).map(|(begin, length)| begin + length);
    assert_eq!(end, Some(offset), "everything before the damage is printed: {last}");
    assert_eq!(contents(&directory), before, "nothing was changed");

    cluster.nodes[0].start();
    let status = cluster.nodes[0].exit_status().await;
    let log = cluster.nodes[0].log_since_start();
    assert_eq!(status.code(), Some(exit::IO), "{log}");
    assert!(log.contains(&place), "the same place: {log}");
    assert!(log.contains(&format!("; next: quorate-server verify {}\n", path(&directory))), "{log}");
}

#[tokio::test]
async fn the_directory_of_a_running_node_is_not_looked_into_and_goes_unharmed_when_killed() {
    let (mut cluster, _) = written().await;
    let directory = cluster.nodes[0].directory().to_owned();
    for command in ["verify", "dump"] {
        let (code, text, errors) = look(&[command], &directory).await;
        assert_eq!((code, text.as_str()), (Some(exit::LOCKED), ""), "{errors}");
        assert!(errors.contains(&format!("in use by process {};", cluster.nodes[0].process_id())), "{errors}");
    }
    for round in 0..3 {
        cluster.put(0, &format!("before kill {round}"), "v").await.expect("the key is new");
        cluster.nodes[0].kill();
        let before = contents(&directory);
        let (code, text, errors) = look(&["verify", "--json"], &directory).await;
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{text}");
        assert_eq!(json(&text)["verdict"], "sound");
        let (code, text, _) = look(&["dump"], &directory).await;
        assert_eq!(code, Some(0));
        assert!(text.contains(&format!("put \"before kill {round}\"")), "it was acknowledged");
        assert_eq!(contents(&directory), before, "byte for byte as the killed node left it");
        cluster.start_all();
        cluster.ready().await;
    }
}

/// What a power cut may leave of a write: the header of a record behind the last one, and noise where the rest of it
/// was to be. And what it does not leave, but a file that was another segment before: noise further on.
#[tokio::test]
async fn an_unsynced_tail_is_sound_and_the_node_cuts_just_that() {
    const PAYLOAD_BYTES: u32 = 264;
    const TAIL_BYTES: usize = 32 + PAYLOAD_BYTES as usize;
    let (mut cluster, _) = written().await;
    stop(&mut cluster).await;
    let directory = cluster.nodes[0].directory().to_owned();
    let (_, text, _) = look(&["verify", "--json"], &directory).await;
    let report = json(&text);
    let mut segments = report["segments"].as_array().expect("a list").iter();
    let last = segments.rfind(|segment| segment["in_use"] == true).expect("a log");
    let file = last["file"].as_str().expect("a name");
    let end = usize::try_from(last["used_bytes"].as_u64().expect("a number")).expect("it fits a segment");
    let mut bytes = fs::read(directory.join(file)).expect("a segment can be read");
    assert!(bytes.len() > end + TAIL_BYTES, "there is room behind the end: {text}");
    bytes[end..].fill(0xab);
    let segment: u64 = file[4..14].parse().expect("a number");
    let header = [u64::from(PAYLOAD_BYTES) << 32, segment << 32 | end as u64, 0].map(u64::to_le_bytes).concat();
    bytes[end..end + header.len()].copy_from_slice(&header);
    fs::write(directory.join(file), bytes).expect("a segment can be written");

    let before = contents(&directory);
    let (code, text, _) = look(&["verify", "--json"], &directory).await;
    assert_eq!(code, Some(0), "{text}");
    let torn = json(&text);
    assert_eq!((&torn["verdict"], &torn["last_index"]), (&Value::from("sound"), &report["last_index"]));
    let tail = &torn["unsynced_tail"][0];
    assert_eq!((&tail["file"], &tail["offset"]), (&Value::from(file), &Value::from(end)), "{text}");
    assert_eq!(tail["bytes"], Value::from(TAIL_BYTES), "{text}");
    let (code, text, _) = look(&["verify"], &directory).await;
    assert_eq!(code, Some(0));
    assert!(text.contains(&format!(" bytes from byte {end} of {file} on were never synced:")), "{text}");
    assert_eq!(contents(&directory), before, "it is the node that cuts");

    cluster.start_all();
    cluster.ready().await;
    stop(&mut cluster).await;
    let (code, text, _) = look(&["verify", "--json"], &directory).await;
    assert_eq!((code, json(&text)["unsynced_tail"].as_array().map(Vec::len)), (Some(0), Some(0)), "{text}");
    assert_eq!(json(&text)["segments"][0], report["segments"][0]);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let (mut cluster, _) = written().await;
    stop(&mut cluster).await;
    for flags in [&["dump"][..], &["dump", "--json"], &["dump", "--state"], &["verify"]] {
        let (reader, writer) = io::pipe().expect("a pipe can be made");
        drop(reader);
        let mut command = binaries::command(&binaries::server());
        command.args(flags).arg(cluster.nodes[0].directory()).stdin(Stdio::null()).stdout(writer);
        let output = tokio::task::spawn_blocking(move || command.stderr(Stdio::piped()).spawn()?.wait_with_output());
        let output = output.await.expect("it does not panic").expect("quorate-server can be started");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !errors.contains("output"), "{flags:?}: {} {errors}", output.status);
    }
}

#[tokio::test]
async fn what_is_no_data_directory_is_told_from_wrong_usage() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("file");
    for command in ["verify", "dump"] {
        let (code, _, errors) = look(&[command], &directory.path().join("absent")).await;
        assert_eq!(code, Some(exit::NO_INPUT), "{errors}");
        assert!(errors.starts_with("quorate-server: there is no directory "), "{errors}");
        let (code, _, errors) = look(&[command], directory.path()).await;
        assert_eq!(code, Some(exit::NO_INPUT), "{errors}");
        assert!(errors.contains("is not a data directory"), "{errors}");
        let (code, _, errors) = look(&[command, "--no-such-flag"], directory.path()).await;
        assert_eq!(code, Some(exit::USAGE), "{errors}");
    }
    fs::write(&file, "x").expect("a file can be written");
    let (code, _, errors) = look(&["verify"], &file).await;
    assert_eq!(code, Some(exit::NO_INPUT), "{errors}");
    assert_eq!(contents(directory.path()).len(), 1, "nothing was made");
}

#[tokio::test]
async fn an_identity_that_is_damaged_or_gone_is_damage() {
    let (mut cluster, _) = written().await;
    stop(&mut cluster).await;
    let directory = cluster.nodes[0].directory();
    let identity = directory.join("identity");
    let intact = fs::read_to_string(&identity).expect("an identity can be read");
    fs::write(&identity, intact.replace("name n1", "name n7")).expect("a file can be written");
    let (code, text, _) = look(&["verify", "--json"], directory).await;
    assert_eq!(code, Some(exit::DAMAGED), "{text}");
    let report = json(&text);
    assert_eq!(report["damage"][0]["file"], "identity");
    let checksum = intact.find("crc32c").expect("the last line") as u64;
    assert_eq!(report["damage"][0]["offset"], checksum, "{text}");
    assert_eq!(report["last_index"], ENTRIES_BEFORE + PUTS, "the log is looked at all the same");

    fs::remove_file(&identity).expect("a file can be removed");
    let (code, text, _) = look(&["verify"], directory).await;
    assert_eq!(code, Some(exit::DAMAGED), "{text}");
    assert!(text.contains("no identity of a member"), "{text}");

    fs::write(&identity, &intact).expect("a file can be written");
    for name in contents(directory).keys().filter(|name| name.starts_with("wal-")) {
        fs::remove_file(directory.join(name)).expect("a file can be removed");
    }
    let (code, text, _) = look(&["verify"], directory).await;
    assert_eq!(code, Some(exit::DAMAGED), "{text}");
    assert!(text.contains("wal-0000000001.log is damaged at byte 0: the log of this member is gone"), "{text}");
}
