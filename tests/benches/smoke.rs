//! A small run of the benchmark: that what it writes is whole. Figures are not looked at.

// Without a cluster: what the profile makes of perf's report.
#[path = "profile/components.rs"]
mod components;
#[path = "profile/samples.rs"]
mod samples;

use serde_json::Value;
use std::{fs, path::Path, process::Command};
use tests::binaries;

/// Every kind of road; etcd is not part of the tree.
const SYSTEMS: [&str; 4] = ["echo", "echo-stream", "quorate", "pipeline"];

#[test]
fn a_small_run_ends_in_tables_json_and_plots() {
    let out = tempfile::tempdir().expect("a temporary directory can be made");
    run(out.path(), &["--only", &SYSTEMS.join(","), "--rounds", "1", "--in-flight", "8", "--keys", "100"]);

    let json = read(out.path(), "peers.json");
    let report: Value = serde_json::from_str(&json).expect("the report is JSON");
    let medians = report["medians"].as_array().expect("a report has medians");
    let samples = report["samples"].as_array().expect("a report has samples");
    assert_eq!(samples.len(), medians.len(), "each load was measured once in the one round");
    for system in SYSTEMS {
        let rows: Vec<&Value> = medians.iter().filter(|row| row["system"] == system).collect();
        assert!(!rows.is_empty(), "nothing of {system}");
        for row in rows {
            let figure = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} is no figure: {row}"));
            assert!(figure("operations_per_second") > 0.0, "{row}");
            assert!(figure("p50_ms") <= figure("p999_ms"), "{row}");
            assert!(figure("errors").abs() < f64::EPSILON, "{row}");
        }
    }
    expect_whole_tables(&read(out.path(), "peers.md"), &["Quorate, unary", "Quorate, pipeline", "tonic echo, stream"]);
    for plot in ["throughput.svg", "latency.svg", "cost.svg"] {
        expect_whole_plot(plot, &read(out.path(), plot));
    }
}

#[test]
fn growth_and_failover_end_in_tables_and_plots() {
    let out = tempfile::tempdir().expect("a temporary directory can be made");
    run(out.path(), &["growth", "--axes", "members,sync", "--up-to", "1", "--only", "quorate,pipeline"]);
    run(out.path(), &["failover", "--kills", "1", "--only", "quorate", "--timeouts", "default"]);
    expect_whole_tables(&read(out.path(), "growth.md"), &["Quorate, pipeline"]);
    expect_whole_tables(&read(out.path(), "failover.md"), &["killed", "stands still", "default timeouts"]);
    let report: Value = serde_json::from_str(&read(out.path(), "growth.json")).expect("the report is JSON");
    let points = report["points"].as_array().expect("a report has points");
    let slowed = |ms: u64, system: &str| -> Vec<&Value> {
        let is_it = |point: &&Value| point["axis"] == "sync" && point["at"] == ms && point["system"] == system;
        points.iter().filter(is_it).map(|point| &point["in_flight"]).collect()
    };
    for ms in [0, 1] {
        assert_eq!(slowed(ms, "quorate"), [1, 64, 1_000]);
        assert_eq!(slowed(ms, "pipeline"), [1_000]);
    }
    for plot in ["growth-members.svg", "growth-sync.svg", "failover.svg"] {
        expect_whole_plot(plot, &read(out.path(), plot));
    }
}

#[test]
fn overload_ends_in_tables_json_and_plots() {
    let out = tempfile::tempdir().expect("a temporary directory can be made");
    run(out.path(), &["overload", "--times", "1,3", "--in-flight", "8", "--idle-connections", "30"]);
    let report: Value = serde_json::from_str(&read(out.path(), "overload.json")).expect("the report is JSON");
    let loads = report["loads"].as_array().expect("a report has loads");
    let asked: Vec<_> = loads.iter().map(|load| (load["system"].as_str(), load["times"].as_u64())).collect();
    let (unary, pipeline) = (Some("quorate"), Some("pipeline"));
    assert_eq!(asked, [(unary, Some(1)), (pipeline, Some(1)), (unary, Some(3)), (pipeline, Some(3))]);
    assert_eq!(loads[2]["ask"]["callers"], 24, "three times as many callers");
    assert_eq!(loads[2]["connections"], 12, "on three times as many connections");
    for load in loads {
        assert!(load["acknowledged_per_second"].as_f64().is_some_and(|figure| figure > 0.0), "{load}");
        assert_eq!(load["failed"], 0, "{load}");
    }
    assert_eq!(report["idle"]["answered_at_the_end"], 30);
    expect_whole_tables(&read(out.path(), "overload.md"), &["Quorate, pipeline", "memory of all nodes, MiB"]);
    for plot in ["overload.svg", "idle.svg"] {
        expect_whole_plot(plot, &read(out.path(), plot));
    }
}

#[test]
fn a_profile_ends_in_tables_and_json() {
    let may = Command::new("perf").args(["record", "--quiet", "--output", "/dev/null", "--", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("no profile is made: `perf record` is not there or may not");
        return;
    }
    let out = tempfile::tempdir().expect("a temporary directory can be made");
    run(out.path(), &["profile", "--only", "pipeline"]);
    let report: Value = serde_json::from_str(&read(out.path(), "profile.json")).expect("the report is JSON");
    let loads = report["loads"].as_array().expect("a report has loads");
    assert_eq!(loads.len(), 2, "puts and gets");
    for load in loads {
        for role in ["leader", "follower", "generator"] {
            let process = &load["processes"][role];
            assert!(process["samples"].as_u64().is_some_and(|count| count > 0), "{role}: {process}");
            for whole in ["components", "threads"] {
                let shares = process[whole].as_object().expect("shares have names");
                let sum: f64 = shares.values().filter_map(Value::as_f64).sum();
                assert!((sum - 1.0).abs() < 0.01, "{role}: {whole} are {sum} of all: {process}");
            }
        }
    }
    // Of less than that, a busy machine may take no sample in so short a time.
    expect_whole_tables(&read(out.path(), "profile.md"), &["std, other", "quorate-server"]);
}

#[test]
fn a_profile_without_perf_says_what_is_missing() {
    let out = tempfile::tempdir().expect("a temporary directory can be made");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    let output = bench.args(["profile", "--out"]).arg(out.path()).env("PATH", out.path()).output();
    let output = output.expect("the benchmark can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("perf is not there"), "{errors}");
}

#[test]
fn gets_through_the_loss_of_a_leader_end_in_tables_and_a_plot() {
    let out = tempfile::tempdir().expect("a temporary directory can be made");
    run(out.path(), &["leaderless", "--in-flight", "4"]);
    let report: Value = serde_json::from_str(&read(out.path(), "leaderless.json")).expect("the report is JSON");
    for through in report["through"].as_array().expect("leaders were lost") {
        let seen = through["seen"].as_array().expect("gets were seen");
        for level in ["linearizable", "quorum"] {
            assert!(seen.iter().any(|get| get["level"] == level && get["is_answered"] == true), "{level}");
        }
    }
    let rates = report["rates"].as_array().expect("rates were measured");
    // The leader and the others, at both levels, and the leader with a lease.
    assert_eq!(rates.len(), 5);
    assert!(rates.iter().all(|rate| rate["per_second"].as_f64().is_some_and(|rate| rate > 0.0)), "{rates:?}");
    let words = ["killed", "stands still", "the leader", "the others", "the leader, with a lease"];
    expect_whole_tables(&read(out.path(), "leaderless.md"), &words);
    expect_whole_plot("leaderless.svg", &read(out.path(), "leaderless.svg"));
}

/// Runs the benchmark for moments, with small segments, into `out`.
fn run(out: &Path, arguments: &[&str]) {
    let server = binaries::server();
    let directory = server.parent().expect("a program lies in a directory");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(arguments).args(["--segment-bytes", "1048576", "--out"]).arg(out);
    let shortest: &[&str] = match arguments[0] {
        "failover" => &["--load-seconds", "0.1"],
        "leaderless" => &["--seconds", "0.2", "--before-seconds", "0.3", "--after-seconds", "0.3", "--keys", "100"],
        "profile" => &["--seconds", "0.3", "--warm-up-seconds", "0.1", "--keys", "100"],
        "growth" => &["--seconds", "0.2", "--warm-up-seconds", "0.1", "--keys", "100"],
        "overload" => &["--seconds", "0.2", "--warm-up-seconds", "0.1", "--keys", "100", "--idle-seconds", "0.2"],
        _ => &["--seconds", "0.1", "--warm-up-seconds", "0.1", "--no-syncs", "--rates-percent", "50"],
    };
    bench.args(shortest).env("BINARIES_UNDER_TEST", directory).env_remove("QUORATE_BENCH_ETCD");
    let output = bench.output().expect("the benchmark can be started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} ended with {}:\n{errors}", output.status);
    assert!(!output.stdout.is_empty(), "the tables are told too");
}

fn read(out: &Path, name: &str) -> String {
    fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every row of a table has as many cells as its head, and the named ones are there.
fn expect_whole_tables(text: &str, names: &[&str]) {
    let mut cells = None;
    for line in text.lines() {
        if !line.starts_with('|') {
            cells = None;
            continue;
        }
        let count = line.matches('|').count();
        assert_eq!(count, *cells.get_or_insert(count), "another number of cells: {line}");
        assert!(!line.contains("NaN") && !line.contains("inf"), "not a figure: {line}");
    }
    for name in names {
        assert!(text.contains(&format!("| {name} |")), "no row of {name}:\n{text}");
    }
}

/// Every element that is opened is closed, and nothing lies nowhere.
fn expect_whole_plot(name: &str, text: &str) {
    let mut open = Vec::new();
    for piece in text.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap_or_else(|| panic!("{name}: no end of <{piece}"));
        let element = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(element), "{name}: closed in another order");
        } else if !tag.ends_with('/') {
            open.push(element);
        }
    }
    assert!(open.is_empty(), "{name}: not closed: {open:?}");
    assert!(text.starts_with("<svg ") && text.contains("<polyline ") | text.contains("<rect class=\"unary"), "{name}");
    assert!(!text.contains("NaN") && !text.contains("inf"), "{name}: something lies nowhere");
}
