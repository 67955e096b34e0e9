//! The README's tour: its commands, typed at a real cluster, print what it says that they print.
//!
//! Compared is what a reader would find different: not times, indexes and terms, nor who was elected. The README's
//! addresses stand for those of the cluster's nodes.

use proto::admin::v1::Role;
use std::{
    ffi::OsString,
    path::Path,
    process::{Command, Output},
};
use tests::{binaries, cluster::Cluster, wait::wait_for};

/// The section that is the tour.
const SECTION: &str = "## Five minutes with a cluster of your own";

/// What a reader types to crash a node; its name follows.
const KILL: &str = "pkill -9 -f 'run --name ";

/// A command and the lines that follow it in the README.
#[derive(Debug, Default)]
struct Step {
    command: String,
    output: Vec<String>,
}

/// The steps of the section, of those blocks in which `client-cli` is typed.
fn steps(readme: &str) -> Vec<Step> {
    let section = readme.split_once(&format!("{SECTION}\n")).expect("the README has the section").1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.filter(|block| block.contains("$ client-cli")).flat_map(steps_of).collect()
}

fn steps_of(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
            None => steps.last_mut().expect("a block begins with a command").output.push(line.to_owned()),
        }
    }
    steps
}

/// A line with what varies made the same; none if whether there is such a line varies.
fn normal(command: &str, line: &str) -> Option<String> {
    // Whoever was asked serves a get itself, and a client that waits for an answer asks another.
    let serves = |node: &str| format!("\"served_by\":\"{node}\"");
    let line =
        ["n1", "n2", "n3"].iter().fold(line.to_owned(), |line, node| line.replace(&serves(node), &serves("NODE")));
    let words: Vec<&str> = line.split_whitespace().collect();
    if command.starts_with("client-cli bench") {
        let digits = |word: &str| word.contains(|c: char| c.is_ascii_digit());
        if !words.is_empty() && words.iter().all(|word| digits(word) || word.starts_with('#')) {
            return None;
        }
        let words: Vec<&str> = words.into_iter().map(|word| if digits(word) { "#" } else { word }).collect();
        return Some(words.join(" "));
    }
    if let [level, check @ ("role" | "states"), ..] = words[..] {
        return Some(format!("{level} {check}"));
    }
    let status = words.len() > 10 && words[0].starts_with("127.");
    let normal = words.iter().enumerate().map(|(at, word)| {
        let before = at.checked_sub(1).map_or("", |before| words[before]);
        let after = words.get(at + 1).copied().unwrap_or_default();
        let node = matches!(*word, "n1" | "n2" | "n3");
        if word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            "HEX"
        } else if status && matches!(*word, "leader" | "follower") {
            "ROLE"
        } else if node && (before == "leader" || (status && at == 4)) {
            "NODE"
        } else if status && word.bytes().all(|byte| byte.is_ascii_digit()) || before == "term" || after == "ms" {
            "#"
        } else {
            word
        }
    });
    Some(normal.collect::<Vec<_>>().join(" "))
}

/// Types a command of the tour. A shell reads it, as it would the reader's.
async fn type_in(cluster: &Cluster, command: &str) -> Vec<String> {
    let client = binaries::client();
    let folder = client.parent().expect("a program lies in a directory");
    let mut shell = binaries::command(Path::new("sh"));
    let command = addresses(cluster).fold(command.to_owned(), |text, (here, there)| text.replace(&there, &here));
    shell.args(["-c", &command]).env("PATH", path_with(folder)).env("QUORATE_ENDPOINTS", cluster.endpoints());
    let output = tokio::task::spawn_blocking(move || run(shell)).await.expect("starting a process does not panic");
    let mut text = [output.stdout, output.stderr].concat();
    match output.status.code() {
        Some(0) => {}
        code => text.extend(format!("(exit code {})\n", code.expect("nobody kills it")).bytes()),
    }
    let text = String::from_utf8(text).expect("it is text");
    let text = addresses(cluster).fold(text, |text, (here, there)| text.replace(&here, &there));
    let hosts = cluster.nodes.iter().map(|node| node.address().ip().to_string());
    hosts.fold(text, |text, host| text.replace(&host, "127.0.0.1")).lines().map(str::to_owned).collect()
}

fn run(mut command: Command) -> Output {
    command.output().expect("a shell can be started")
}

fn path_with(folder: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).expect("no folder has a colon in its name")
}

/// The address of each node, here and in the README.
fn addresses(cluster: &Cluster) -> impl Iterator<Item = (String, String)> {
    let numbered = cluster.nodes.iter().enumerate();
    numbered.map(|(number, node)| (node.address().to_string(), format!("127.0.0.1:700{}", number + 1)))
}

/// Waits until the leader has noticed who is there and who is not.
async fn noticed(cluster: &Cluster) {
    cluster.leader().await;
    wait_for("the leader knows who is away", async || {
        let statuses = cluster.statuses().await?;
        let leader = statuses.iter().find(|(_, status)| status.role() == Role::Leader)?;
        let heard = leader.1.peers.iter().filter(|peer| peer.active).count();
        (heard + 1 == statuses.len()).then_some(())
    })
    .await;
}

/// Hands leadership to the node that leads in the README.
async fn led_by_the_last(cluster: &Cluster) {
    let last = cluster.nodes.len() - 1;
    if cluster.leader().await != last {
        let command = format!("client-cli transfer-leadership {}", cluster.nodes[last].name());
        let printed = type_in(cluster, &command).await.concat();
        assert!(printed.starts_with(&format!("ok: {} leads in term ", cluster.nodes[last].name())), "{printed}");
    }
    assert_eq!(cluster.leader().await, last);
}

#[tokio::test]
async fn the_tour_in_the_readme_is_true() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).expect("there is a README");
    let steps = steps(&readme);
    assert!(steps.len() > 10, "{steps:?}");
    let mut cluster = Cluster::of_three().await;
    led_by_the_last(&cluster).await;
    for Step { command, output } in steps {
        if let Some(name) = command.strip_prefix(KILL).and_then(|rest| rest.strip_suffix('\'')) {
            cluster.nodes.iter_mut().find(|node| node.name() == name).expect("it is one of three").kill();
            continue;
        }
        if command.starts_with("client-cli doctor") {
            noticed(&cluster).await;
        }
        let printed = type_in(&cluster, &command).await;
        let normal = |lines: &[String]| lines.iter().filter_map(|line| normal(&command, line)).collect::<Vec<_>>();
        assert_eq!(normal(&printed), normal(&output), "$ {command}\n{}", printed.join("\n"));
    }
}

#[test]
fn what_varies_is_not_compared() {
    let same = |command, line: &str| normal(command, line).expect("it is compared");
    assert_eq!(same("", "  ok       connect   in 0.3 ms"), "ok connect in # ms");
    assert_eq!(same("", "  ok  leader   n2 leads in term 7; all agree"), "ok leader NODE leads in term # all agree");
    assert_eq!(same("", "ok: revision 2, version 1"), "ok: revision 2, version 1");
    let row =
        "127.0.0.1:7001  n1    follower  1     n3      5     5        5       5        4         0     0.1.0    yes";
    assert_eq!(same("", row), "127.0.0.1:7001 n1 ROLE # NODE # # # # # # 0.1.0 yes");
    assert_eq!(same("", r#"{"key":"n1","served_by":"n2"}"#), r#"{"key":"n1","served_by":"NODE"}"#);
    assert_eq!(normal("client-cli bench", "    0.5    1,234  ####"), None);
    assert_eq!(same("client-cli bench", "done       13, that is 7 a second"), "done # that is # a second");
}
