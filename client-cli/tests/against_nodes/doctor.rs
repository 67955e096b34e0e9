//! `doctor` against nodes that are well, away, or something else.

use crate::{
    command_line::run,
    fake::{Node, hung, refusing},
};
use proto::admin::v1 as admin;
use serde_json::Value;
use std::{io::Write as _, net::TcpListener};

fn status(name: &str) -> admin::StatusResponse {
    let leads = name == "n1";
    let peer = |name: &str| admin::PeerProgress { name: name.to_owned(), active: true, ..Default::default() };
    admin::StatusResponse {
        name: name.to_owned(),
        incarnation: u64::from(name.as_bytes()[1]),
        cluster_id: vec![7; 16].into(),
        role: if leads { admin::Role::Leader } else { admin::Role::Follower }.into(),
        term: 3,
        leader_name: "n1".to_owned(),
        applied_index: 4,
        state_hash: vec![1; 16].into(),
        version: "0.1.0".to_owned(),
        ready: true,
        peers: if leads { vec![peer("n2")] } else { Vec::new() },
        ..Default::default()
    }
}

fn two() -> (Node, Node) {
    let (leader, follower) = (Node::start(), Node::start());
    leader.has_status(status("n1"));
    follower.has_status(status("n2"));
    (leader, follower)
}

/// The findings that are not fine, as `subject check: text`, and the next command.
fn odd(endpoints: &[&str]) -> (i32, Vec<String>, String) {
    let (code, stdout, stderr) = run(endpoints, &["--timeout", "1s", "-o", "json", "doctor"]);
    assert_eq!(stderr, "");
    let json: Value = serde_json::from_str(&stdout).expect("it is JSON");
    let findings = json["findings"].as_array().expect("a list");
    let text = |found: &Value, name: &str| found[name].as_str().expect("a text").to_owned();
    let odd = findings.iter().filter(|found| found["level"] != "ok");
    let odd: Vec<String> = odd
        .map(|found| format!("{} {}: {}", text(found, "subject"), text(found, "check"), text(found, "text")))
        .collect();
    assert_eq!(json["healthy"].as_bool(), Some(code == 0), "{json}");
    let next = json["next"]["command"].as_str().unwrap_or_default().to_owned();
    (code, odd, next)
}

#[test]
fn a_cluster_that_is_well() {
    let (leader, follower) = two();
    let (endpoint, other) = (leader.endpoint(), follower.endpoint());
    assert_eq!(odd(&[&endpoint, &other]), (0, Vec::new(), String::new()));
    let (code, text, stderr) = run(&[&endpoint, &other], &["doctor"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for line in [
        format!("{endpoint}\n  ok       connect   in "),
        "  ok       role      leads in term 3\n".to_owned(),
        "  ok       role      follows n1 in term 3\n".to_owned(),
        "  ok       quorum    a majority answers: a linearizable read took ".to_owned(),
        "  ok       states    n1, n2 hold the same after entry 4\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line:?} in {text}");
    }
    assert!(text.ends_with("\n\nhealthy\n"), "{text}");
}

#[test]
fn each_endpoint_has_its_own_cause() {
    let (leader, follower) = two();
    let (_refusing, refused) = refusing();
    let (_hung, silent) = hung();
    let endpoints = [leader.endpoint(), follower.endpoint(), refused, silent, "no-such-host.invalid:7001".to_owned()];
    let (code, odd, next) = odd(&endpoints.each_ref().map(String::as_str));
    let [_, _, refused, silent, unknown] = &endpoints;
    assert_eq!(code, 9);
    assert_eq!(odd.len(), 3, "{odd:?}");
    assert_eq!(odd[0], format!("{refused} connect: refused: nothing listens there"));
    assert!(odd[1].starts_with(&format!("{silent} node: takes connections and does not answer")), "{odd:?}");
    assert!(odd[2].starts_with(&format!("{unknown} name: ")), "{odd:?}");
    assert_eq!(next, "quorate-server run --config FILE");
}

#[test]
fn what_is_not_a_quorate_node_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let endpoint = listener.local_addr().expect("it is bound").to_string();
    // Its connections are kept open: closing one with something unread would reset it, and the answer with it.
    std::thread::spawn(move || {
        let answer = |stream: std::io::Result<std::net::TcpStream>| {
            let mut stream = stream.expect("somebody connects");
            // Whoever only looked whether there is somebody has gone.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            stream
        };
        listener.incoming().map(answer).collect::<Vec<_>>()
    });
    let (code, odd, next) = odd(&[&endpoint]);
    assert_eq!(code, 9);
    assert!(odd[0].starts_with(&format!("{endpoint} node: is not a Quorate node: ")), "{odd:?}");
    assert_eq!(odd[1], "cluster quorum: no endpoint answers");
    assert_eq!(next, format!("curl -v http://{endpoint}"));
}

#[test]
fn the_most_urgent_comes_first() {
    let (leader, follower) = two();
    let (endpoint, other) = (leader.endpoint(), follower.endpoint());
    let full = admin::StatusResponse { storage_full: true, ..status("n2") };
    follower.has_status(full.clone());
    let (code, found, next) = odd(&[&endpoint, &other]);
    assert_eq!((code, found), (9, vec![format!("{other} disk: is almost full: what needs room is refused")]));
    assert_eq!(next, "df -h");

    follower.has_status(admin::StatusResponse { state_hash: vec![2; 16].into(), ..full });
    let (_, found, next) = odd(&[&endpoint, &other]);
    assert_eq!(found[1], "cluster states: n1, n2 hold different states after entry 4");
    assert_eq!(next, "quorate-server verify DATA-DIRECTORY");

    // A warning alone is no failure.
    follower.has_status(admin::StatusResponse { version: "0.2.0".to_owned(), ..status("n2") });
    let expected = vec!["cluster versions: they differ: n1 is 0.1.0; n2 is 0.2.0".to_owned()];
    assert_eq!(odd(&[&endpoint, &other]), (0, expected, String::new()));
}
