//! `outcome`: a write whose answer was lost for good, and the command that its error names.

use crate::{
    command_line::{done, failed, run},
    fake::{Instead, Node, refusing},
};

/// Types a write whose answer does not come in time, and returns the command that is suggested.
fn lost(node: &Node, instead: Instead, write: &[&str]) -> Vec<String> {
    node.instead(instead);
    let (code, stdout, stderr) = run(&[&node.endpoint()], &[&["--timeout", "500ms"], write].concat());
    assert_eq!((code, stdout.as_str()), (5, ""), "{stderr}");
    let (_, last) = stderr.trim_end().rsplit_once('\n').expect("there are several lines");
    let next = last.strip_prefix("next: client-cli ").expect("it names the next command");
    let (command, why) = next.split_once("    ").expect("it says why");
    assert_eq!(why, "settles what became of it");
    command.split(' ').map(str::to_owned).collect()
}

fn outcome(node: &Node, command: &[String]) -> (i32, String, String) {
    run(&[&node.endpoint()], &command.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn what_was_applied_is_told_with_its_result() {
    let node = Node::start();
    let put = lost(&node, Instead::DoAndHang, &["put", "a", "1"]);
    assert_eq!(outcome(&node, &put), done("applied: revision 1, version 1\n"));
    // It is settled for good.
    assert_eq!(outcome(&node, &put), done("applied: revision 1, version 1\n"));
    let delete = lost(&node, Instead::DoAndHang, &["delete", "a"]);
    assert_eq!(outcome(&node, &delete), done("applied: revision 2\n"));
    assert_eq!(node.runs(), 2);
    let settings = lost(&node, Instead::DoAndHang, &["settings", "set", "lease-reads=on"]);
    assert_eq!(outcome(&node, &settings), done("applied: the settings of the cluster were changed\n"));
}

#[test]
fn what_was_refused_has_the_exit_code_of_the_refusal() {
    let node = Node::start();
    assert_eq!(run(&[&node.endpoint()], &["put", "a", "1"]).0, 0);
    let put = lost(&node, Instead::DoAndHang, &["put", "a", "2"]);
    let told = outcome(&node, &put);
    assert_eq!(told, (2, "not applied: the key existed, last written at revision 1\n".to_owned(), String::new()));
    let delete = lost(&node, Instead::DoAndHang, &["delete", "b"]);
    assert_eq!(outcome(&node, &delete), (3, "not applied: the key was missing\n".to_owned(), String::new()));
}

#[test]
fn what_was_not_applied_never_will_be() {
    let node = Node::start();
    let mut put = lost(&node, Instead::Hang, &["put", "a", "1"]);
    assert_eq!(outcome(&node, &put), (7, "never applied, and never will be\n".to_owned(), String::new()));
    assert_eq!(node.value("a"), None);
    let id = put[1].clone();
    put.extend(["-o".to_owned(), "json".to_owned()]);
    let json = format!("{{\"request_id\":\"{id}\",\"outcome\":\"never_applied\"}}\n");
    assert_eq!(outcome(&node, &put), (7, json, String::new()));
}

#[test]
fn what_nobody_knows_is_said_to_be_so() {
    let node = Node::start();
    let put = lost(&node, Instead::DoAndHang, &["put", "a", "1"]);
    node.expire_sessions();
    let forgotten = "nobody knows any more; it will not be applied from now on\n";
    assert_eq!(outcome(&node, &put), (8, forgotten.to_owned(), String::new()));

    let (_kept, away) = refusing();
    let unreachable = run(&[&away], &[&put[0], &put[1]]);
    assert_eq!((unreachable.0, unreachable.1.as_str()), (5, ""), "{}", unreachable.2);
    assert!(unreachable.2.ends_with("\nnext: client-cli doctor    says what is wrong\n"), "{}", unreachable.2);
}

#[test]
fn what_is_no_name_is_refused() {
    let (code, stdout, stderr) = run(&[], &["outcome", "12-1-1"]);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("the session has 32 hexadecimal digits"), "{stderr}");
    // A name of another cluster, which never reached so late a time.
    let node = Node::start();
    let other = format!("{}-{}-1", "0".repeat(32), u64::MAX);
    let (code, _, stderr) = run(&[&node.endpoint()], &["outcome", &other]);
    assert_eq!(code, failed(6, "").0, "{stderr}");
}
