//! The command: what it prints, how it exits, and what it refuses.

use assert_cmd::{Command, cargo::cargo_bin_cmd};
use std::process::Output;

fn lincheck(arguments: &[&str]) -> Command {
    let mut command = cargo_bin_cmd!("lincheck");
    command.args(arguments);
    command
}

fn sample(name: &str) -> String {
    format!("{}/tests/samples/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn expect(output: &Output, code: i32, stdout: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{stderr}");
    stderr
}

/// The samples' endings, by format.
const FORMATS: [(&str, &str); 3] = [("jepsen", "jepsen.log"), ("edn", "edn"), ("jsonl", "jsonl")];

#[test]
fn a_good_history_is_ok() {
    for (format, ending) in FORMATS {
        let output = lincheck(&["--format", format, &sample(&format!("good.{ending}"))]).output().expect("it runs");
        assert_eq!(expect(&output, 0, "ok\n"), "");
    }
}

#[test]
fn a_bad_history_is_illegal_and_explained() {
    for (format, ending) in FORMATS {
        let output = lincheck(&["--format", format, &sample(&format!("bad.{ending}"))]).output().expect("it runs");
        let explanation = expect(&output, 1, "illegal\n");
        assert!(explanation.contains("would have to be next, and none fits"), "{explanation}");
        assert!(explanation.lines().count() < 12, "{explanation}");
    }
}

#[test]
fn a_budget_that_runs_out_is_unknown() {
    for (format, ending) in FORMATS {
        let file = sample(&format!("concurrent.{ending}"));
        let output = lincheck(&["--format", format, "--budget", "3", &file]).output().expect("it runs");
        assert!(expect(&output, 2, "unknown\n").contains("not decided within the budget"));
        let output = lincheck(&["--format", format, &file]).output().expect("it runs");
        expect(&output, 0, "ok\n");
    }
}

#[test]
fn standard_input_is_read() {
    let history = std::fs::read(sample("bad.edn")).expect("the sample is there");
    let output = lincheck(&["--format", "edn", "-"]).write_stdin(history).output().expect("it runs");
    expect(&output, 1, "illegal\n");
    let output = lincheck(&["--format", "jsonl", "--verbose", "-"]).write_stdin("").output().expect("it runs");
    assert!(expect(&output, 0, "ok\n").contains("0 operations"));
}

#[test]
fn a_wrong_command_line_exits_64() {
    let wrong: [&[&str]; 6] = [
        &[],
        &["--format", "edn"],
        &["file"],
        &["--format", "csv", "-"],
        &["--format", "edn", "--budget", "0", "-"],
        &["--format", "edn", "-", "more"],
    ];
    for arguments in wrong {
        let output = lincheck(arguments).output().expect("it runs");
        assert!(!expect(&output, 64, "").is_empty());
    }
    assert!(lincheck(&["--help"]).output().expect("it runs").status.success());
}

#[test]
fn a_file_that_cannot_be_read_exits_66() {
    let output = lincheck(&["--format", "edn", &sample("nothing.edn")]).output().expect("it runs");
    assert!(expect(&output, 66, "").contains("nothing.edn"));
}

#[track_caller]
fn malformed(format: &str, history: impl Into<Vec<u8>>, line: usize, reason: &str) {
    let output = lincheck(&["--format", format, "-"]).write_stdin(history).output().expect("it runs");
    let error = expect(&output, 65, "");
    assert!(error.contains(&format!("line {line}: ")) && error.contains(reason), "{error}");
}

#[test]
fn malformed_jepsen_logs_are_refused() {
    let line = |rest: &str| format!("INFO  jepsen.util - {rest}\n");
    let open = line("0\t:invoke\t:read\tnil");
    malformed("jepsen", "WARN  jepsen.core - 0 :invoke :read nil\n", 1, "not an event");
    malformed("jepsen", format!("\n{}", line("0\t:invoke\t:read")), 2, "the value is missing");
    malformed("jepsen", line("x\t:invoke\t:read\tnil"), 1, "a process is a number");
    malformed("jepsen", line("-1\t:invoke\t:read\tnil"), 1, "is not between 0");
    malformed("jepsen", line("0\t:begin\t:read\tnil"), 1, "a type is");
    malformed("jepsen", line("0\t:invoke\t:get\tnil"), 1, "not an operation of a register");
    malformed("jepsen", line("0\t:invoke\t:cas\t[1 2 3]"), 1, "[from to]");
    malformed("jepsen", line("0\t:invoke\t:cas\t[1 2"), 1, "`]` is missing");
    malformed("jepsen", open.clone() + &open, 2, "has an operation open, from line 1");
    malformed("jepsen", line("0\t:ok\t:read\t1"), 1, "nothing open");
    malformed("jepsen", open + &line("0\t:ok\t:write\t1"), 2, "from line 1");
    malformed("jepsen", line("0\t:invoke\t:write\t1") + &line("0\t:ok\t:write\t2"), 2, "asked for 1");
}

#[test]
fn malformed_edn_is_refused() {
    let event = "{:process 0, :type :invoke, :f :get, :key \"a\"}\n";
    malformed("edn", "[1 2]", 1, "an event is a map");
    malformed("edn", format!("{event}{{:process 1 :type"), 2, "`}` is missing");
    malformed("edn", "\n\n{:process 0 :f :read}", 3, "without :type");
    malformed("edn", "{:process 0 :type :invoke :f}", 1, "a key without a value");
    malformed("edn", "{:process 0 :type :invoke :f :delete}", 1, "unknown operation :delete");
    malformed("edn", "{:process 0 :type :invoke :f :append :value nil}", 1, "is a string");
    malformed("edn", "{:process \"0}", 1, "a string has no end");
    malformed("edn", "{:process \"\\q\"}", 1, "an escape");
    malformed("edn", ")", 1, "closes nothing");
    malformed("edn", "[".repeat(100_000), 1, "deep");
    malformed("edn", "#_".repeat(100_000), 1, "deep");
    malformed("edn", "#a ".repeat(100_000), 1, "deep");
    malformed("edn", b"{:process 0}\n\xff".to_vec(), 2, "UTF-8");
    malformed("edn", format!("{event}{}", event.replace("get", "read").replace(" 0", " 1")), 2, "since line 1");
}

#[test]
fn malformed_json_lines_are_refused() {
    let line = |rest: &str| format!(r#"{{"process":1,"key":"k","begin":5,"end":6,{rest}}}"#);
    let definite = |rest: &str| line(&format!(r#""outcome":"definite",{rest}"#));
    let get = definite(r#""operation":"get","result":{"value":"x"}"#);
    malformed("jsonl", "{", 1, "EOF");
    malformed("jsonl", format!("{get}\n\n[]"), 3, "column");
    malformed("jsonl", line(r#""operation":"get""#), 1, "outcome");
    malformed("jsonl", line(r#""operation":"get","outcome":"maybe""#), 1, "maybe");
    malformed("jsonl", definite(r#""operation":"list""#), 1, "list");
    malformed("jsonl", definite(r#""operation":"get","extra":1"#), 1, "extra");
    malformed("jsonl", definite(r#""operation":"get""#), 1, "the result");
    malformed("jsonl", definite(r#""operation":"put""#), 1, "the argument");
    malformed(
        "jsonl",
        definite(r#""operation":"put","argument":{"value":"x","mode":"compare"}"#),
        1,
        "expected_revision",
    );
    malformed("jsonl", definite(r#""operation":"put","argument":{"value":"x","expected_revision":1}"#), 1, "compare");
    malformed(
        "jsonl",
        definite(r#""operation":"get","result":{"error":"key-exists"}"#),
        1,
        "not one of this operation",
    );
    malformed("jsonl", definite(r#""operation":"cas","argument":[1],"result":true"#), 1, "[from, to]");
    malformed("jsonl", definite(r#""operation":"cas","argument":[1,2],"result":1"#), 1, "true or false");
    malformed("jsonl", get.replace("\"begin\":5", "\"begin\":7"), 1, "ends at 6");
    malformed("jsonl", get.replace("\"end\":6,", ""), 1, "without an end");
    malformed("jsonl", format!("{get}\n{}", definite(r#""operation":"read","result":1"#)), 2, "since line 1");
}
