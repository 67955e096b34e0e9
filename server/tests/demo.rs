//! The demo from end to end: the real binary, real processes, real sockets.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use client_cli::{Client, Options, PutOptions};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// How long a condition may take to become true: far longer than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The demo, told to put its temporary folder into `scratch` and to find nothing of ours in its environment.
fn demo(scratch: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-server"));
    command.arg("demo").args(arguments).env("TMPDIR", scratch).env_remove("NO_COLOR").stdin(Stdio::null());
    // What would configure a node outside of a demo must not reach the demo's nodes.
    command.env("QUORATE_PEER_LISTEN", "127.0.0.1:1").env("PORT", "1").env("PEER_X_HOST", "x");
    command
}

fn run(arguments: &[&str]) -> (Output, TempDir) {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let output = demo(scratch.path(), arguments).output().expect("the demo can be started");
    (output, scratch)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the demo prints UTF-8")
}

/// The lines in which `kind` is told, each as speaker and text.
fn told<'a>(text: &'a str, kind: &str) -> Vec<(&'a str, &'a str)> {
    let told = |line: &'a str| {
        let (speaker, rest) = line.get(11..)?.split_once(' ')?;
        let (of_kind, text) = rest.trim_start().split_once(' ')?;
        (line.as_bytes().get(9) == Some(&b's') && of_kind == kind).then(|| (speaker, text.trim_start()))
    };
    text.lines().filter_map(told).collect()
}

/// The process ids of the nodes.
fn pids(text: &str) -> Vec<Pid> {
    let pid = |text: &str| {
        let (_, rest) = text.split_once("process ")?;
        Pid::from_raw(rest.split(' ').next()?.parse().ok()?)
    };
    told(text, "start").iter().filter_map(|(_, text)| pid(text)).collect()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process has ended, even if nobody has asked yet how: in a container, orphans may never be asked.
fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    test_kill_process(pid).is_err() || stat.contains(") Z ")
}

fn assert_gone(pids: &[Pid]) {
    assert!(!pids.is_empty(), "the demo tells its processes");
    for pid in pids {
        wait_until(&format!("the end of process {pid:?}"), || is_gone(*pid));
    }
}

/// The table of the nodes' states in the summary: a line for each node without its name.
fn states(text: &str) -> Vec<String> {
    let table = text.split_once("state hash\n").expect("the summary has the nodes' states").1;
    table.lines().take_while(|line| !line.is_empty()).map(|line| line[8..].to_owned()).collect()
}

fn assert_held(output: &Output, nodes: usize) -> String {
    let (text, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}\n{errors}");
    assert!(text.contains("\n  All nodes hold the same state: yes\n"), "{text}");
    assert!(text.contains("\n  No acknowledged change is lost or doubled: yes ("), "{text}");
    let states = states(&text);
    assert_eq!(states.len(), nodes, "{text}");
    assert_eq!(states.iter().collect::<BTreeSet<_>>().len(), 1, "{text}");
    text
}

#[test]
fn three_nodes_and_three_clients_tell_their_story_and_end_with_one_state() {
    let (output, scratch) = run(&["--seed", "7"]);
    let text = assert_held(&output, 3);
    assert!(text.starts_with("Quorate demo: 3 nodes, 3 clients with 5 operations each, seed 7\n"), "{text}");
    assert!(!text.contains('\x1b'), "no colour outside of a terminal");

    let speakers = |kind: &str| told(&text, kind).into_iter().map(|(speaker, _)| speaker).collect::<BTreeSet<_>>();
    let nodes = BTreeSet::from(["n1", "n2", "n3"]);
    assert!(!told(&text, "election").is_empty(), "{text}");
    assert!(told(&text, "vote").iter().any(|(_, text)| text.starts_with("votes for itself")), "{text}");
    assert!(told(&text, "leader").iter().any(|(_, text)| text.starts_with("is the leader of term")), "{text}");
    assert_eq!(speakers("append"), nodes);
    assert_eq!(speakers("commit"), nodes);
    assert_eq!(speakers("apply"), nodes);
    assert_eq!(speakers("asks"), BTreeSet::from(["client-1", "client-2", "client-3"]));
    assert_eq!(told(&text, "answer").len(), 15, "{text}");
    let applied = |node| told(&text, "apply").into_iter().filter(|told| told.0 == node).map(|told| told.1).collect();
    let of_first: Vec<&str> = applied("n1");
    assert_eq!(applied("n2"), of_first, "every node applies the same in the same order");
    assert_eq!(applied("n3"), of_first);

    assert!(text.contains("It needs 2 of 3 votes"), "the election is explained: {text}");
    assert!(text.contains("demo --seed 7 "), "it says how to see the same again: {text}");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("it is there").count(), 0, "the temporary folder is removed");
    assert_gone(&pids(&text));
}

#[test]
fn the_same_seed_asks_the_same() {
    let asked = |output: &Output| {
        let text = text(&output.stdout);
        let mut asked: Vec<String> = told(&text, "asks").iter().map(|(who, what)| format!("{who} {what}")).collect();
        asked.retain(|line| !line.contains(" instead: "));
        asked.sort();
        asked
    };
    let arguments = ["--seed", "11", "--nodes", "1", "--clients", "2", "--operations", "4"];
    let (first, second) = (run(&arguments), run(&arguments));
    assert_eq!(asked(&first.0).len(), 8);
    assert_eq!(asked(&first.0), asked(&second.0));
    assert_held(&first.0, 1);
}

#[test]
fn a_killed_leader_is_replaced_and_catches_up() {
    let (output, _scratch) = run(&["--kill-leader", "--color", "never"]);
    let text = assert_held(&output, 3);
    let killed = told(&text, "kill");
    let (_, kill) = killed.first().expect("the leader is killed");
    let victim = kill.split_once(": ").and_then(|(_, rest)| rest.split(',').next()).expect("its name is told");
    let after = text.split_once(kill).expect("it is in the text").1;
    let new_leaders = told(after, "leader");
    assert!(new_leaders.iter().any(|(node, text)| *node != victim && text.starts_with("is the leader of")), "{text}");
    assert!(!told(after, "answer").is_empty(), "the others go on: {text}");
    let back = after.split_once(&format!("{victim} is back")).expect("the victim comes back").1;
    assert!(told(back, "apply").iter().any(|(node, _)| *node == victim), "it catches up: {text}");
    assert!(text.contains(&format!("  failover    {victim} led term")), "{text}");
    assert_gone(&pids(&text));
}

#[test]
fn a_file_configures_the_demo_and_a_given_directory_is_kept_and_found_again() {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let file = scratch.path().join("demo.toml");
    std::fs::write(&file, "num_nodes = 5\nnum_clients = 1\nnum_operations = 2\nseed = 3\n").expect("it can be written");
    let data = scratch.path().join("data");
    let arguments = ["--config", file.to_str().expect("UTF-8"), "--data-dir", data.to_str().expect("UTF-8")];
    let first = demo(scratch.path(), &arguments).output().expect("the demo can be started");
    assert_held(&first, 5);
    assert!(
        (1..=5).all(|number| data.join(format!("n{number}")).is_dir() && data.join(format!("n{number}.log")).is_file())
    );
    // Other ports, the same data: identities are names and what is on the disk.
    let second = demo(scratch.path(), &arguments).output().expect("the demo can be started");
    let text = assert_held(&second, 5);
    assert_eq!(told(&text, "answer").len(), 2, "{text}");
}

/// Starts a demo that keeps running, and reads on until it says so.
fn start_and_keep(scratch: &Path) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut command = demo(scratch, &["--keep-running", "--clients", "1", "--operations", "1"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the demo can be started");
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut text = String::new();
    while !text.contains("kv.v1.KvService/Get") {
        assert_ne!(reader.read_line(&mut text).expect("the demo prints UTF-8"), 0, "it ended early: {text}");
    }
    (child, reader, text)
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id fits")).expect("it is not zero")
}

#[tokio::test]
async fn a_demo_that_keeps_running_serves_whoever_it_told_how_and_ends_with_ctrl_c() {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let (mut child, mut reader, mut text) = start_and_keep(scratch.path());
    let (_, endpoints) = text.split_once("QUORATE_ENDPOINTS=").expect("the endpoints are told");
    let endpoints: Vec<&str> = endpoints.lines().next().expect("a line").split(',').collect();
    assert_eq!(endpoints.len(), 3);
    let client = Client::connect(Options::new(&endpoints).expect("the endpoints are well formed"));
    client.put("greeting", "hello", PutOptions::default()).await.expect("the cluster serves");
    let found = client.get("greeting").await.expect("the cluster serves");
    assert_eq!(found.key_value.value.as_ref(), b"hello");
    text.clear();
    while !text.contains("put greeting, which makes revision") {
        assert_ne!(reader.read_line(&mut text).expect("UTF-8"), 0, "it goes on to tell: {text}");
    }

    kill_process(pid_of(&child), Signal::INT).expect("it is running");
    std::io::Read::read_to_string(&mut reader, &mut text).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{text}");
    assert!(text.contains("All nodes are stopped."), "{text}");
    assert!(!text.contains("had to be killed"), "{text}");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("it is there").count(), 0, "the temporary folder is removed");
}

#[test]
fn no_node_outlives_a_demo_that_is_killed() {
    let scratch = tempfile::tempdir().expect("a temporary folder can be made");
    let (mut child, _reader, text) = start_and_keep(scratch.path());
    let pids = pids(&text);
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| !is_gone(*pid)));
    child.kill().expect("it is running");
    child.wait().expect("it ends");
    assert_gone(&pids);
}

#[test]
fn wrong_settings_exit_64_before_anything_is_started() {
    let (output, scratch) = run(&["--nodes", "2", "--kill-leader"]);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "quorate-server demo: kill_leader needs at least 3 nodes, and there are 2: those that are left must be a \
         majority\n"
    );
    assert_eq!(std::fs::read_dir(scratch.path()).expect("it is there").count(), 0);
    let (output, _scratch) = run(&["--config", "/nowhere/demo.toml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("the demo's file /nowhere/demo.toml cannot be read"));
}
