//! The binary as a user and a script see it: exit codes, standard output to the byte, and what an error says.

use crate::fake::{Instead, Node, error, no_quorum, not_leader, outcome_unknown, refusing};
use assert_cmd::Command;
use proto::admin::v1 as admin;
use std::{
    io::Write as _,
    process::{Output, Stdio},
};
use tonic::Code;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_client-cli");

/// The binary, without what the developer's environment would add.
pub(crate) fn binary(endpoints: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear().env("QUORATE_ENDPOINTS", endpoints.join(","));
    command
}

pub(crate) fn run(endpoints: &[&str], arguments: &[&str]) -> (i32, String, String) {
    result(&binary(endpoints).args(arguments).output().expect("it can be run"))
}

pub(crate) fn result(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it is text");
    (output.status.code().expect("it exits"), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn done(stdout: &str) -> (i32, String, String) {
    (0, stdout.to_owned(), String::new())
}

pub(crate) fn failed(code: i32, stderr: &str) -> (i32, String, String) {
    (code, String::new(), stderr.to_owned())
}

#[test]
fn a_session_of_a_person() {
    let node = Node::start();
    let endpoint = node.endpoint();
    let type_in = |arguments: &[&str]| run(&[&endpoint], arguments);
    assert_eq!(type_in(&["put", "a", "1"]), done("ok: revision 1, version 1\n"));
    assert_eq!(type_in(&["get", "a"]), done("1\n"));
    assert_eq!(
        type_in(&["put", "a", "2"]),
        failed(2, "error: key already exists: a\nnext: client-cli put --upsert a VALUE    overwrites it\n")
    );
    assert_eq!(type_in(&["put", "--upsert", "a", "2"]), done("ok: revision 2, version 2\n"));
    assert_eq!(type_in(&["put", "a", "3", "--update"]), done("ok: revision 3, version 3\n"));
    assert_eq!(
        type_in(&["put", "--if-revision", "2", "a", "4"]),
        failed(
            6,
            "error: revision mismatch\n  the key was last written at revision 3\n\
             next: client-cli get -o json a    shows its mod_revision\n"
        )
    );
    assert_eq!(type_in(&["put", "--if-revision", "3", "a", "4"]), done("ok: revision 4, version 4\n"));
    assert_eq!(type_in(&["delete", "a", "--if-revision", "3"]).0, 6);
    assert_eq!(type_in(&["delete", "a"]), done("ok: revision 5\n"));
    for arguments in [&["get", "a"][..], &["delete", "a"], &["put", "--update", "a", "1"]] {
        assert_eq!(
            type_in(arguments),
            failed(3, "error: key not found: a\nnext: client-cli put a VALUE    creates it\n"),
            "{arguments:?}"
        );
        // No stream has to be opened for a single request.
        assert_eq!(node.streams(), 0);
    }
}

#[test]
fn a_session_of_a_script() {
    let node = Node::start();
    let endpoint = node.endpoint();
    let type_in = |arguments: &[&str]| run(&[&endpoint], arguments);
    assert_eq!(type_in(&["-o", "json", "put", "a", "1"]), done("{\"key\":\"a\",\"revision\":1,\"version\":1}\n"));
    assert_eq!(
        type_in(&["get", "a", "-o", "json"]),
        done(
            "{\"key\":\"a\",\"value\":\"1\",\"create_revision\":1,\"mod_revision\":1,\"version\":1,\"revision\":1,\
             \"served_by\":\"fake\"}\n"
        )
    );
    assert_eq!(type_in(&["get", "a", "-o", "raw"]), done("1"));
    assert_eq!(type_in(&["put", "b", "", "-o", "raw"]), done("2\n"));
    assert_eq!(type_in(&["get", "b", "-o", "raw"]), done(""));
    assert_eq!(type_in(&["delete", "b", "-o", "json"]), done("{\"key\":\"b\",\"revision\":3}\n"));
}

#[test]
fn values_come_from_where_they_are() {
    let node = Node::start();
    let bytes: Vec<u8> = (0..=255).collect();
    let mut file = tempfile::NamedTempFile::new().expect("a file can be made");
    file.write_all(&bytes).expect("it can be written");
    let at_file = format!("@{}", file.path().display());
    let endpoint = node.endpoint();
    assert_eq!(run(&[&endpoint], &["put", "file", &at_file]).0, 0);
    let piped = binary(&[&endpoint]).args(["put", "stdin", "-"]).write_stdin(bytes.clone()).output();
    assert_eq!(result(&piped.expect("it can be run")).0, 0);
    assert_eq!(run(&[&endpoint], &["put", "at", "@@home"]).0, 0);
    assert_eq!(run(&[&endpoint], &["put", "--", "hyphen", "-1"]).0, 0);
    assert_eq!(node.value("file").as_deref(), Some(&bytes[..]));
    assert_eq!(node.value("stdin").as_deref(), Some(&bytes[..]));
    assert_eq!(node.value("at").as_deref(), Some(&b"@home"[..]));
    assert_eq!(node.value("hyphen").as_deref(), Some(&b"-1"[..]));

    let raw = binary(&[&endpoint]).args(["get", "file", "-o", "raw"]).output().expect("it can be run");
    assert_eq!(raw.stdout, bytes);
    let json = run(&[&endpoint], &["get", "file", "-o", "json"]).1;
    assert!(json.contains("\"value_base64\":\"AAECAwQF"), "{json}");

    let missing = run(&[&endpoint], &["put", "x", "@/does/not/exist"]);
    assert_eq!(missing, failed(1, "error: open /does/not/exist: No such file or directory (os error 2)\n"));
    let large = binary(&[&endpoint]).args(["put", "x", "-"]).write_stdin(vec![0; 3 << 20]).output();
    let large = result(&large.expect("it can be run"));
    assert_eq!(large.0, 6);
    assert!(large.2.starts_with("error: the value has more than 1048576 bytes\n"), "{}", large.2);
    assert_eq!(node.value("x"), None);
}

#[test]
fn nobody_there() {
    let (_kept, away) = refusing();
    let written = run(&[&away], &["put", "a", "1"]);
    assert_eq!((written.0, written.1.as_str()), (4, ""));
    assert!(written.2.starts_with("error: no endpoint answered\n  it was certainly not applied\n"), "{}", written.2);
    let cause = format!("  {away}: cannot connect: Connection refused (os error 111)");
    assert!(written.2.contains(&cause), "{}", written.2);
    assert!(written.2.ends_with("\nnext: client-cli status    shows how each node is\n"), "{}", written.2);
    for arguments in [&["get", "a"][..], &["delete", "a"], &["status"], &["leader"], &["members"]] {
        assert_eq!(run(&[&away], arguments).0, 4, "{arguments:?}");
    }
    // The command that is suggested reaches the same cluster.
    let told = run(&[], &["--endpoints", &away, "get", "a"]);
    assert!(told.2.contains(&format!("\nnext: client-cli --endpoints {away} status ")), "{}", told.2);
}

#[test]
fn outcomes_are_told_apart() {
    let node = Node::start();
    let endpoint = node.endpoint();
    // An answer that is lost is asked for again.
    node.instead(Instead::DoAndFail(outcome_unknown()));
    assert_eq!(run(&[&endpoint], &["put", "a", "1"]), done("ok: revision 1, version 1\n"));
    node.instead(Instead::Hang);
    let late = run(&[&endpoint], &["--timeout", "500ms", "delete", "a"]);
    assert_eq!((late.0, late.1.as_str()), (5, ""), "{}", late.2);
    assert!(late.2.contains("\n  it may have been applied, or may still be\n"), "{}", late.2);
    assert!(late.2.contains("\nnext: client-cli outcome "), "{}", late.2);

    let mut certain = no_quorum();
    certain.metadata_mut().insert("grpc-retry-pushback-ms", "-1".parse().expect("ASCII"));
    node.instead(Instead::Fail(certain));
    let refused = run(&[&endpoint], &["put", "a", "1"]);
    assert_eq!(refused.0, 4);
    assert!(
        refused.2.starts_with("error: no quorum: 1 of 2 needed\n  it was certainly not applied\n"),
        "{}",
        refused.2
    );

    let empty = error(Code::InvalidArgument, "KEY_EMPTY", "the key is empty", &[("outcome", "NOT_APPLIED")]);
    node.instead(Instead::Fail(empty));
    assert_eq!(
        run(&[&endpoint], &["put", "", "1"]),
        failed(6, "error: the key is empty\nnext: client-cli put --help    shows what is allowed\n")
    );

    let full = error(Code::ResourceExhausted, "STORAGE_FULL", "the disk is almost full", &[("outcome", "NOT_APPLIED")]);
    node.instead(Instead::Fail(full));
    assert_eq!(
        run(&[&endpoint], &["put", "a", "1"]),
        failed(
            6,
            "error: the disk is almost full\n  it was certainly not applied\n\
             next: client-cli status    shows how each node is\n"
        )
    );
}

#[test]
fn the_nodes_describe_themselves() {
    let (leader, joining) = (Node::start(), Node::start());
    leader.has_status(admin::StatusResponse {
        name: "n1".to_owned(),
        role: admin::Role::Leader.into(),
        term: 3,
        leader_name: "n1".to_owned(),
        leader_address: "127.0.0.1:7001".to_owned(),
        last_index: 12,
        durable_index: 11,
        commit_index: 10,
        applied_index: 9,
        revision: 8,
        key_count: 7,
        state_hash: vec![0xab; 16].into(),
        version: "0.1.0".to_owned(),
        ready: true,
        ..Default::default()
    });
    joining.has_status(admin::StatusResponse {
        name: "n2".to_owned(),
        role: admin::Role::Outside.into(),
        version: "0.1.0".to_owned(),
        not_ready_reason: "its disk is empty".to_owned(),
        snapshot_index: 5,
        storage_full: true,
        ..Default::default()
    });
    let (_kept, away) = refusing();
    let endpoints = [leader.endpoint(), joining.endpoint(), away];
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();

    let (code, table, stderr) = run(&endpoints, &["status"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0][..5], ["ENDPOINT", "NODE", "ROLE", "TERM", "LEADER"]);
    assert_eq!(
        words[1],
        [endpoints[0], "n1", "leader", "3", "n1", "12", "11", "10", "9", "8", "7", "0.1.0", "yes"],
        "{table}"
    );
    assert_eq!(words[2][..5], [endpoints[1], "n2", "outside", "0", "-"]);
    assert_eq!(words[3][..3], [endpoints[2], "-", "unreachable"]);
    let notes =
        "\n\nn2 is not ready: its disk is empty\nn2 has almost no room on its disk: it refuses what needs some\n";
    assert!(table.contains(notes), "{table}");
    assert!(table.ends_with(&format!("\n{}: cannot connect: Connection refused (os error 111)\n", endpoints[2])));

    let json: serde_json::Value =
        serde_json::from_str(&run(&endpoints, &["status", "-o", "json"]).1).expect("it is JSON");
    assert_eq!(json[0]["commit_index"], 10);
    assert_eq!(json[0]["state_hash"], "ab".repeat(16));
    assert_eq!((&json[1]["snapshot_index"], &json[1]["storage_full"]), (&5.into(), &true.into()));
    assert_eq!((&json[1]["ready"], &json[2]["reachable"]), (&false.into(), &false.into()));

    assert_eq!(run(&endpoints, &["leader", "-o", "raw"]), done("n1\n"));
    assert_eq!(run(&endpoints, &["leader"]), done("LEADER  ADDRESS         TERM\nn1      127.0.0.1:7001  3\n"));
    let nobody = run(&[endpoints[1]], &["leader"]);
    assert_eq!(nobody.0, 4);
    assert!(nobody.2.starts_with("error: no node knows a leader\n"), "{}", nobody.2);
}

#[test]
fn members_and_a_handover() {
    let node = Node::start();
    let endpoint = node.endpoint();
    node.has_members(vec![admin::Member {
        name: "n1".to_owned(),
        incarnation: 1,
        peer_address: "n1:8001".to_owned(),
        client_address: "n1:7001".to_owned(),
        voter: true,
    }]);
    assert_eq!(run(&[&endpoint], &["members", "-o", "raw"]), done("n1\tvoter\tn1:8001\tn1:7001\t0000000000000001\n"));
    assert_eq!(run(&[&endpoint], &["transfer-leadership", "n2"]), done("ok: n2 leads in term 2\n"));
}

#[test]
fn leadership_is_handed_over_only_by_an_endpoint_that_leads() {
    let (node, other) = (Node::start(), Node::start());
    let status = |role: admin::Role, leader: &str| admin::StatusResponse {
        role: role.into(),
        leader_name: leader.to_owned(),
        term: 7,
        ..Default::default()
    };
    let step_down = ["transfer-leadership", "n2", "--if-leader"];
    let both = [&*node.endpoint(), &*other.endpoint()].map(str::to_owned);
    let both = both.each_ref().map(String::as_str);
    node.has_status(status(admin::Role::Follower, "n3"));
    other.has_status(status(admin::Role::Follower, "n3"));
    assert_eq!(run(&both, &step_down), done("ok: nothing to hand over, n3 leads in term 7\n"));
    node.has_status(status(admin::Role::PreCandidate, ""));
    assert_eq!(run(&both[..1], &step_down), done("ok: nothing to hand over, and nobody is known to lead\n"));
    other.has_status(status(admin::Role::Leader, "n1"));
    assert_eq!(run(&both, &step_down), done("ok: n2 leads in term 2\n"));
    let (_kept, away) = refusing();
    let (code, output, error) = run(&[&away], &step_down);
    assert_eq!((code, &*output), (4, ""), "{error}");
}

/// What is written to standard error when lease reads are switched on.
const ASSUMPTION: &str = "Assumes that the monotonic clocks of all nodes run at rates that differ by less than 10 \
                          percent, and that none stands still while its machine is suspended. If that is ever wrong, a \
                          read may be answered with an old value.\n";

#[test]
fn a_setting_is_changed_and_what_it_assumes_is_said_when_it_is_switched_on() {
    let node = Node::start();
    let endpoint = node.endpoint();
    let set = |value: &str, format: &str| run(&[&endpoint], &["settings", "set", value, "-o", format]);
    let said = |stdout: &str| (0, stdout.to_owned(), ASSUMPTION.to_owned());
    assert_eq!(set("lease-reads=on", "table"), said("ok: lease-reads=on\n"));
    assert_eq!(set("lease-reads=on", "json"), said("{\"lease_reads\":true}\n"));
    assert_eq!(set("lease-reads=on", "raw"), said("lease-reads=on\n"));
    assert_eq!(set("lease-reads=off", "table"), done("ok: lease-reads=off\n"));
    assert_eq!(set("lease-reads=off", "json"), done("{\"lease_reads\":false}\n"));
    assert_eq!(node.runs(), 5);
    for command in [&["settings", "--help"][..], &["settings", "set", "--help"], &["settings", "show", "--help"]] {
        let help = run(&[], command).1.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(ASSUMPTION.trim_end()), "{help}");
    }
}

#[test]
fn a_change_of_settings_finds_the_leader_and_is_sent_again_under_its_name() {
    let leader = Node::start();
    let follower = leader.start_beside();
    follower.instead(Instead::Fail(not_leader(&leader)));
    leader.instead(Instead::DoAndFail(outcome_unknown()));
    let told = run(&[&follower.endpoint()], &["settings", "set", "lease-reads=on"]);
    assert_eq!(told, (0, "ok: lease-reads=on\n".to_owned(), ASSUMPTION.to_owned()));
    assert_eq!(leader.runs(), 1, "the second copy is answered with the first result");

    let mut certain = no_quorum();
    certain.metadata_mut().insert("grpc-retry-pushback-ms", "-1".parse().expect("ASCII"));
    leader.instead(Instead::Fail(certain));
    let refused = run(&[&leader.endpoint()], &["settings", "set", "lease-reads=on"]);
    assert_eq!((refused.0, refused.1.as_str()), (4, ""), "and nothing is assumed of what was not switched on");
    let words = "error: no quorum: 1 of 2 needed\n  it was certainly not applied\n";
    assert!(refused.2.starts_with(words) && !refused.2.contains("Assumes"), "{}", refused.2);
}

#[test]
fn the_settings_of_each_node_are_shown() {
    let (set, old) = (Node::start(), Node::start());
    let status = admin::StatusResponse { name: "n1".to_owned(), applied_index: 9, ..Default::default() };
    let settings = Some(admin::Settings { lease_reads: true });
    set.has_status(admin::StatusResponse { settings, ..status.clone() });
    old.has_status(admin::StatusResponse { name: "n2".to_owned(), ..status });
    let (_kept, away) = refusing();
    let endpoints = [set.endpoint(), old.endpoint(), away];
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let (code, table, stderr) = run(&endpoints, &["settings", "show"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["ENDPOINT", "NODE", "APPLIED", "LEASE-READS"]);
    assert_eq!(words[1], [endpoints[0], "n1", "9", "on"]);
    assert_eq!(words[2], [endpoints[1], "n2", "9", "-"]);
    assert_eq!(words[3], [endpoints[2], "-", "-", "-"]);
    assert!(table.ends_with(&format!("\n\n{}: cannot connect: Connection refused (os error 111)\n", endpoints[2])));
    let raw = run(&endpoints[..1], &["settings", "show", "-o", "raw"]);
    assert_eq!(raw, done(&format!("{}\tn1\t9\ton\n", endpoints[0])));
    let json: serde_json::Value =
        serde_json::from_str(&run(&endpoints, &["settings", "show", "-o", "json"]).1).expect("it is JSON");
    assert_eq!((&json[0]["name"], &json[0]["settings"]["lease_reads"]), (&"n1".into(), &true.into()));
    assert_eq!((&json[1]["reachable"], json[1].get("settings")), (&true.into(), None));
    assert_eq!((&json[2]["reachable"], json[2].get("settings")), (&false.into(), None));
    let status = run(&endpoints[..1], &["status", "-o", "json"]).1;
    assert!(status.contains("\"settings\":{\"lease_reads\":true}"), "{status}");
    assert_eq!(run(&endpoints[2..], &["settings", "show"]).0, 4);
}

#[test]
fn wrong_usage_is_one_and_help_is_zero() {
    let (_kept, away) = refusing();
    for arguments in [
        &[][..],
        &["put", "a"],
        &["put", "a", "1", "--upsert", "--update"],
        &["put", "a", "1", "--if-revision", "0"],
        &["frobnicate"],
        &["get", "a", "--timeout", "5"],
        &["get", "a", "--endpoints", "localhost"],
        &["get", "a", "--endpoints", ""],
        &["get", "a", "-o", "xml"],
        &["settings"],
        &["settings", "set"],
        &["settings", "set", "lease-reads"],
        &["settings", "set", "lease-reads=maybe"],
        &["settings", "set", "other=on"],
    ] {
        let (code, stdout, stderr) = run(&[&away], arguments);
        assert_eq!((code, stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["-h"], &["put", "--help"], &["help", "get"], &["--version"]] {
        let (code, stdout, stderr) = run(&[&away], arguments);
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(!stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let node = Node::start();
    // More than a pipe holds, so that the write cannot end before the reader has gone.
    let endpoint = node.endpoint();
    let put = binary(&[&endpoint]).args(["put", "big", "-"]).write_stdin(vec![b'x'; 1 << 20]).output();
    assert_eq!(result(&put.expect("it can be run")).0, 0);
    for format in ["raw", "table", "json"] {
        let mut child = std::process::Command::new(BINARY)
            .args(["--endpoints", &endpoint, "get", "big", "-o", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be run");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(result(&output), done(""), "{format}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let node = Node::start();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = std::process::Command::new(BINARY)
        .args(["--endpoints", &node.endpoint(), "put", "a", "1"])
        .stdout(full)
        .output()
        .expect("it can be run");
    let (code, _, stderr) = result(&output);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: the request succeeded, but its result could not be written"), "{stderr}");
    assert_eq!(node.value("a").as_deref(), Some(&b"1"[..]));
}

#[test]
fn verbose_tells_which_endpoints_were_asked() {
    let node = Node::start();
    let endpoint = node.endpoint();
    node.instead(Instead::Fail(no_quorum()));
    let (code, stdout, stderr) = run(&[&endpoint], &["-v", "put", "a", "1"]);
    assert_eq!((code, stdout.as_str()), (0, "ok: revision 1, version 1\n"));
    assert!(stderr.contains(&format!("kv.v1.KvService/Put at {endpoint}: no quorum: 1 of 2 needed\n")), "{stderr}");
}
