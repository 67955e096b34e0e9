//! `bench` against nodes that do as they are told.

use crate::{
    command_line::{BINARY, run},
    fake::{Instead, Node, error, refusing},
};
use serde_json::Value;
use std::process::{Command, Stdio};
use tonic::Code;

fn bench(endpoint: &str, arguments: &[&str]) -> (i32, Value) {
    let arguments = [&["-o", "json", "bench"], arguments].concat();
    let (code, stdout, stderr) = run(&[endpoint], &arguments);
    let json = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    (code, json)
}

/// The counts of the histogram.
fn in_histogram(json: &Value) -> u64 {
    let buckets = json["histogram"].as_array().expect("a list");
    buckets.iter().map(|bucket| bucket["count"].as_u64().expect("a number")).sum()
}

#[test]
fn so_many_puts_of_so_many_bytes() {
    let node = Node::start();
    let endpoint = node.endpoint();
    let arguments =
        ["--count", "25", "--concurrency", "3", "--keys", "10", "--key-prefix", "p/", "--value-bytes", "30"];
    let (code, json) = bench(&endpoint, &arguments);
    assert_eq!((code, &json["succeeded"], &json["failed"]), (0, &25.into(), &0.into()));
    assert_eq!((in_histogram(&json), &json["keys"], &json["removed"]), (25, &10.into(), &Value::Null));
    assert_eq!(node.calls("Put").len(), 25);
    assert_eq!(node.value("p/9").expect("it was written"), b"abcdefghijklmnopqrstuvwxyzabcd");
    assert_eq!(node.value("p/10"), None);
    let latencies = &json["latency_us"];
    let figures = ["p50", "p90", "p99", "p999", "max"].map(|name| latencies[name].as_u64().expect("a number"));
    assert!(figures.is_sorted() && figures[0] > 0, "{latencies}");

    // The command that is suggested removes them, and nothing else.
    assert_eq!(run(&[&endpoint], &["put", "p/other", "1"]).0, 0);
    let told = run(&[&endpoint], &["bench", "--count", "3", "--key-prefix", "p/"]).1;
    let next = told.lines().find_map(|line| line.strip_prefix("next: client-cli ")).expect("there is a next command");
    let next: Vec<&str> = next.split("    ").next().unwrap_or_default().split(' ').collect();
    assert_eq!(run(&[&endpoint], &next).1, "removed    10 keys\n");
    assert_eq!((node.value("p/0"), node.value("p/9")), (None, None));
    assert!(node.value("p/other").is_some());
}

#[test]
fn the_road_can_be_chosen_and_is_told() {
    let node = Node::start();
    let (code, json) = bench(&node.endpoint(), &["--count", "200", "--concurrency", "50"]);
    assert_eq!((code, &json["succeeded"], &json["road"]), (0, &200.into(), &"stream".into()));
    assert_eq!((node.streams(), node.frames().iter().sum::<usize>()), (1, 200));
    let (code, json) = bench(&node.endpoint(), &["--count", "200", "--concurrency", "50", "--unary"]);
    assert_eq!((code, &json["succeeded"], &json["road"]), (0, &200.into(), &"call".into()));
    assert_eq!((node.streams(), node.calls("Put").len()), (1, 400));
    // What was asked for is not always what there is.
    node.is_streamless();
    let text = run(&[&node.endpoint()], &["bench", "--count", "3"]).1;
    assert!(text.contains(" at once by call, "), "{text}");
}

#[test]
fn reads_find_what_was_written_for_them_and_it_is_removed() {
    let node = Node::start();
    for (operation, gets, puts) in [("get", 12, 5), ("mixed", 6, 6 + 5)] {
        let before = (node.calls("Get").len(), node.calls("Put").len());
        let arguments = ["--operation", operation, "--count", "12", "--keys", "5", "--cleanup"];
        let (code, json) = bench(&node.endpoint(), &arguments);
        assert_eq!((code, &json["succeeded"], &json["removed"]), (0, &12.into(), &5.into()), "{json}");
        let after = (node.calls("Get").len(), node.calls("Put").len());
        assert_eq!((after.0 - before.0, after.1 - before.1), (gets, puts), "{operation}");
    }
}

#[test]
fn failures_are_counted_by_their_reason() {
    let node = Node::start();
    let full = || error(Code::ResourceExhausted, "STORAGE_FULL", "full", &[("outcome", "NOT_APPLIED")]);
    node.instead(Instead::Fail(full())).instead(Instead::Fail(full()));
    let (code, json) = bench(&node.endpoint(), &["--count", "5", "--concurrency", "1"]);
    assert_eq!((code, &json["succeeded"], &json["failed"]), (0, &3.into(), &2.into()));
    assert_eq!((&json["failures"]["STORAGE_FULL"], in_histogram(&json)), (&2.into(), 3));

    let (_kept, away) = refusing();
    let (code, json) = bench(&away, &["--count", "2"]);
    assert_eq!((code, &json["succeeded"], &json["failures"]["no answer"]), (4, &0.into(), &2.into()));
    let reads = run(&[&away], &["bench", "--operation", "get", "--count", "2"]);
    assert_eq!((reads.0, reads.1.as_str()), (4, ""), "{}", reads.2);
}

#[test]
fn a_rate_counts_the_time_that_operations_had_to_wait() {
    let node = Node::start();
    // The only worker is held up by the first; the others are due all the while.
    node.instead(Instead::Hang);
    let arguments = ["--timeout", "1s", "bench", "-o", "json", "--count", "11", "--rate", "20", "--concurrency", "1"];
    let (code, stdout, stderr) = run(&[&node.endpoint()], &arguments);
    assert_eq!(code, 0, "{stderr}");
    let json: Value = serde_json::from_str(&stdout).expect("it is JSON");
    assert_eq!((&json["succeeded"], &json["failed"]), (&10.into(), &1.into()));
    // Due every 50 ms, and done at once after the first was given up: the median has waited for half of that.
    let median = json["latency_us"]["p50"].as_u64().expect("a number");
    assert!(median > 400_000, "{json}");
    assert!(json["elapsed_s"].as_f64().expect("a number") > 0.9, "{json}");
}

#[test]
fn a_rate_that_was_not_reached_is_told() {
    let node = Node::start();
    // The only worker waits for an answer that does not come, until the load has ended.
    node.instead(Instead::Hang);
    let arguments =
        ["--timeout", "400ms", "bench", "-o", "json", "--duration", "300ms", "--rate", "100", "--concurrency", "1"];
    let (code, stdout, stderr) = run(&[&node.endpoint()], &arguments);
    assert_eq!(code, 4, "{stderr}");
    let json: Value = serde_json::from_str(&stdout).expect("it is JSON");
    assert_eq!((&json["succeeded"], &json["failed"], &json["behind"]), (&0.into(), &1.into(), &29.into()));
}

#[test]
fn a_load_ends_early_from_the_keyboard() {
    let node = Node::start();
    let mut child = Command::new(BINARY)
        .args(["--endpoints", &node.endpoint(), "-o", "json", "bench", "--duration", "60m", "--rate", "100"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be run");
    while node.calls("Put").len() < 40 {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended");
        std::thread::yield_now();
    }
    let child_id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(child_id, rustix::process::Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((output.status.code(), &json["interrupted"]), (Some(0), &true.into()), "{json}");
    // The others are under way, of which there are no more.
    assert!(json["succeeded"].as_u64() >= Some(40 - 16), "{json}");
}
