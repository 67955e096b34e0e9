//! Data directories that earlier versions wrote, as they were: every later version opens them, finds the same state,
//! and goes on. `tests/data_directories/README.md` says what they are and how to add one.

use super::data_directory::{exit, json, look};
use proto::{
    admin::v1::Settings,
    kv::v1::{PutRequest, RequestId},
};
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};
use tests::{
    cluster::{Cluster, Options},
    rpc,
};

/// The directories of a whole cluster, and what the program that wrote them said of them.
struct Golden {
    folder: &'static str,
    cluster: &'static str,
    /// For each node: its incarnation; first, last and applied index, revision, newest snapshot; and the state's hash.
    nodes: [(&'static str, [u64; 5], &'static str); 3],
}

/// Those with sessions in their state, of which one has settings too.
const WITH_SESSIONS: [&str; 2] = ["format_2_sessions", WITH_SETTINGS];
const WITH_SETTINGS: &str = "format_2_settings";

const GOLDEN: [Golden; 4] = [
    Golden {
        folder: "format_1",
        cluster: "5b5ab6f2eab1e441fd67329545530f11",
        nodes: [
            ("fd9f314be4f1be7b", [1, 44, 43, 42, 0], "55908bf34c24864d7688c8a4c99b0f0c"),
            ("86df66cbb42a0579", [1, 44, 43, 42, 0], "55908bf34c24864d7688c8a4c99b0f0c"),
            ("c95969a8e22b1464", [1, 44, 43, 42, 0], "55908bf34c24864d7688c8a4c99b0f0c"),
        ],
    },
    Golden {
        folder: "format_2",
        cluster: "23381c615142f1ccd9158b6d6dc2a322",
        nodes: [
            ("0e2787a048d80897", [64, 105, 104, 102, 91], "ff7f1b27435e919ee43451b071cdd883"),
            ("1979546a24f9c0c5", [92, 105, 104, 102, 103], "ff7f1b27435e919ee43451b071cdd883"),
            ("523f54e227c7e1b8", [79, 105, 104, 102, 102], "ff7f1b27435e919ee43451b071cdd883"),
        ],
    },
    Golden {
        folder: "format_2_sessions",
        cluster: "a25fa0c884d1cbc9ebbee92d2e9e4856",
        nodes: [
            ("a79a437d97162a0a", [89, 106, 105, 102, 100], "e03d682df622dc908a0d8d77d79fb14a"),
            ("af5e5bd2e893dcf5", [78, 106, 105, 102, 97], "e03d682df622dc908a0d8d77d79fb14a"),
            ("139c4b78791eb88e", [63, 106, 105, 102, 88], "e03d682df622dc908a0d8d77d79fb14a"),
        ],
    },
    Golden {
        folder: WITH_SETTINGS,
        cluster: "faf4416eabe3de9cb16d632b0e3cc2d9",
        nodes: [
            ("2458c07278d0b4a5", [90, 109, 108, 102, 101], "697f2ec8bb90be3de9acd31fc4ef8a3a"),
            ("f9afe32be70b286a", [79, 109, 108, 102, 103], "697f2ec8bb90be3de9acd31fc4ef8a3a"),
            ("0223f1ececb22925", [64, 109, 108, 102, 89], "697f2ec8bb90be3de9acd31fc4ef8a3a"),
        ],
    },
];

/// A shorter run of one byte is not worth a line of its own.
const RUN_BYTES_MIN: usize = 24;

const LINE_BYTES: usize = 56;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data_directories").join(name)
}

/// How many bytes equal to the first one a slice begins with.
fn run_bytes(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == bytes[0]).count()
}

/// A directory as text: for each file a line with its name and size, then its bytes at their offsets, `76*4000` for a
/// byte that comes 4,000 times. What is left out is zero.
fn describe(directory: &Path) -> String {
    let mut text = String::new();
    for (name, bytes) in super::data_directory::contents(directory) {
        if name == "LOCK" {
            continue;
        }
        writeln!(text, "file {name} {}", bytes.len()).expect("a string takes everything");
        let mut at = 0;
        while at < bytes.len() {
            let (run, byte) = (run_bytes(&bytes[at..]), bytes[at]);
            if run >= RUN_BYTES_MIN || at + run == bytes.len() && byte == 0 {
                if byte != 0 {
                    writeln!(text, "{at} {byte:02x}*{run}").expect("a string takes everything");
                }
                at += run;
                continue;
            }
            let is_end = |end: &usize| run_bytes(&bytes[*end..]) >= RUN_BYTES_MIN;
            let end = (at + 1..bytes.len().min(at + LINE_BYTES)).find(is_end);
            let end = end.unwrap_or(bytes.len().min(at + LINE_BYTES));
            let hex: String = bytes[at..end].iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{at} {hex}").expect("a string takes everything");
            at = end;
        }
    }
    text
}

/// Makes the directory that a text describes.
pub(super) fn restore(text: &str, directory: &Path) {
    fs::create_dir_all(directory).expect("a directory can be made");
    let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
    for line in text.lines() {
        if let Some((name, length)) = line.strip_prefix("file ").and_then(|line| line.split_once(' ')) {
            files.push((name, vec![0; length.parse().expect("a size")]));
            continue;
        }
        let (at, what) = line.split_once(' ').expect("an offset and bytes");
        let at: usize = at.parse().expect("an offset");
        let byte = |digits: &str| u8::from_str_radix(digits, 16).expect("hexadecimal digits");
        let bytes = match what.split_once('*') {
            Some((digits, count)) => vec![byte(digits); count.parse().expect("a count")],
            None => (0..what.len() / 2).map(|place| byte(&what[2 * place..2 * place + 2])).collect(),
        };
        files.last_mut().expect("bytes are of a file").1[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes).expect("a file can be written");
    }
}

pub(super) fn golden(folder_name: &str, node: &str) -> String {
    let file = folder(folder_name).join(format!("{node}.txt"));
    fs::read_to_string(file).expect("the golden directories are kept with the tests")
}

/// `QUORATE_GOLDEN_ADD=FOLDER=DIR` first describes the directories n1, n2 and n3 in DIR as FOLDER, which must be new.
#[test]
fn a_directory_and_its_text_are_the_same() {
    if let Ok(added) = std::env::var("QUORATE_GOLDEN_ADD") {
        let (name, from) = added.split_once('=').expect("FOLDER=DIR");
        fs::create_dir(folder(name)).expect("golden directories are never changed, only added to");
        for node in ["n1", "n2", "n3"] {
            let text = describe(&Path::new(from).join(node));
            fs::write(folder(name).join(format!("{node}.txt")), text).expect("a file can be written");
        }
    }
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for Golden { folder, .. } in GOLDEN {
        for node in ["n1", "n2", "n3"] {
            let restored = directory.path().join(folder).join(node);
            let text = golden(folder, node);
            restore(&text, &restored);
            assert!(describe(&restored) == text, "{folder}/{node}: another text describes the same directory");
        }
    }
}

#[tokio::test]
async fn directories_of_earlier_versions_hold_the_same_state_and_their_clusters_go_on() {
    for Golden { folder, cluster: cluster_id, nodes } in GOLDEN {
        let mut cluster = Cluster::new(&Options { segment_bytes: Some(64 << 10), ..Options::default() });
        for (node, (incarnation, numbers, state_hash)) in cluster.nodes.iter().zip(nodes) {
            restore(&golden(folder, node.name()), node.directory());
            let (code, text, errors) = look(&["verify", "--json"], node.directory()).await;
            assert_eq!((code, errors.as_str()), (Some(0), ""), "{folder}: {text}");
            let report = json(&text);
            assert_eq!(report["node"]["name"], node.name());
            assert_eq!(report["node"]["incarnation"], incarnation);
            assert_eq!(report["cluster_id"], cluster_id);
            let snapshots = report["snapshots"].as_array().expect("a list");
            let newest = snapshots.last().map_or(&Value::Null, |snapshot| &snapshot["index"]).as_u64().unwrap_or(0);
            let number = |name: &str| report[name].as_u64().expect("a number");
            let found =
                [number("first_index"), number("last_index"), number("applied_index"), number("revision"), newest];
            assert_eq!(found, numbers, "{folder}: {text}");
            assert_eq!(report["state_hash"], state_hash, "{folder}: {text}");
            assert_eq!(report["settings"]["lease_reads"], folder == WITH_SETTINGS, "{folder}: {text}");
        }
        cluster.start_all();
        cluster.ready().await;
        for (number, (incarnation, ..)) in nodes.iter().enumerate() {
            let status = rpc::status(&cluster.nodes[number].channel()).await.expect("the node is up");
            assert_eq!(format!("{:016x}", status.incarnation), *incarnation, "{folder}: the same member as ever");
            assert_eq!(status.settings, Some(Settings { lease_reads: folder == WITH_SETTINGS }), "{folder}");
            assert_eq!(cluster.get(number, "kept 13").await.expect("it was acknowledged"), "value 13");
            assert_eq!(cluster.get(number, "grüße").await.expect("it was acknowledged"), "näher");
            for gone in ["kept 3", "kept 5", "never 0"] {
                rpc::failure(cluster.get(number, gone).await).expect(tonic::Code::NotFound, "KEY_NOT_FOUND");
            }
            cluster.put(number, &format!("new {number}"), "v").await.expect("the key is new");
            // It was settled when there were sessions already; before, nobody had heard of it.
            let request_id = Some(RequestId { session: (0..16).collect(), sequence: 7, ..RequestId::default() });
            let channel = cluster.nodes[number].channel();
            let put = rpc::put_with(&channel, PutRequest { request_id, ..rpc::put_request("fenced", "v") }).await;
            if WITH_SESSIONS.contains(&folder) {
                rpc::failure(put).expect(tonic::Code::Aborted, "REQUEST_FENCED");
            } else {
                assert_eq!(put.expect("it is run, and then repeated").version, 1, "{folder}");
            }
        }
        cluster.converged().await;
    }
}

#[tokio::test]
async fn a_snapshot_and_a_reset_are_dumped() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    restore(&golden("format_2", "n2"), directory.path());
    let before = super::data_directory::contents(directory.path());
    let (code, text, errors) = look(&["dump"], directory.path()).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(text.contains("  reset       the log goes on behind entry 91\n"), "{text}");

    let (code, text, errors) = look(&["dump", "--snapshot", "--json"], directory.path()).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let lines: Vec<Value> = text.lines().map(json).collect();
    let header = &lines[0];
    assert_eq!((&header["index"], &header["file"]), (&Value::from(103), &"snapshot-00000000000000000103.snap".into()));
    assert_eq!(header["term_starts"][0], Value::from(vec![1, 1]));
    assert_eq!(header["keys"], lines.len() - 1);
    assert!(lines.iter().any(|line| line["key"] == "grüße" && line["value"] == "näher"), "{text}");

    let (code, text, _) = look(&["dump", "--snapshot=91"], directory.path()).await;
    assert_eq!(code, Some(0));
    assert!(text.starts_with("snapshot-00000000000000000091.snap  "), "{text}");
    let (code, text, errors) = look(&["dump", "--snapshot=7"], directory.path()).await;
    assert_eq!((code, text.as_str()), (Some(exit::NO_INPUT), ""));
    assert_eq!(errors, "quorate-server: there is no snapshot of index 7\n");

    let damaged = directory.path().join("snapshot-00000000000000000103.snap");
    let mut bytes = fs::read(&damaged).expect("a file can be read");
    bytes[9000] ^= 1;
    fs::write(&damaged, bytes).expect("a file can be written");
    let (code, text, errors) = look(&["dump", "--snapshot"], directory.path()).await;
    assert_eq!((code, text.as_str()), (Some(exit::DAMAGED), ""));
    assert!(errors.contains("snapshot-00000000000000000103.snap is damaged at byte "), "{errors}");
    let (code, text, errors) = look(&["dump", "--state"], directory.path()).await;
    assert_eq!(code, Some(exit::DAMAGED));
    assert!(text.contains("\"kept 13\"") && errors.contains("103.snap is damaged"), "the other one will do: {errors}");
    fs::write(&damaged, &before["snapshot-00000000000000000103.snap"]).expect("a file can be written");

    // What a crash may leave is told, and harmless.
    let leftover = directory.path().join("snapshot-00000000000000000110.tmp");
    fs::write(&leftover, "half").expect("a file can be written");
    let (code, text, _) = look(&["verify"], directory.path()).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("leftovers    snapshot-00000000000000000110.tmp: never finished, and harmless"), "{text}");
}
