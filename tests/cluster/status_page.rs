//! The status page: what a node gathers for it, and what a browser makes of that.

use super::probes::http_get;
use serde_json::Value;
use std::{collections::BTreeSet, path::Path, time::Duration};
use tests::{
    browser::{Look, Window, look, values},
    cluster::{Cluster, HTTP_PORT_OFFSET, Options, beside},
    wait::wait_for,
};

const DESKTOP: Window = Window { width: 1280, height: 900, dark: false, seconds: 6 };
const PHONE: Window = Window { width: 500, height: 900, dark: true, seconds: 6 };

/// A directory for pictures of the page, for people to look at.
const PICTURES: &str = "QUORATE_PICTURES";

async fn three() -> Cluster {
    let cluster = Cluster::start(Options { separate_ports: true, ..Options::default() }).await;
    for number in 0..20 {
        cluster.put(number % 3, &format!("k{number}"), "v").await.expect("the key is new");
    }
    cluster
}

async fn json(cluster: &Cluster, node: usize, path: &str) -> Value {
    let answer = http_get(beside(cluster.nodes[node].address(), HTTP_PORT_OFFSET), path).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// What `told` says of the node of this name.
fn node<'a>(told: &'a Value, name: &str) -> &'a Value {
    let nodes = told["nodes"].as_array().expect("a list");
    nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("{name} is missing: {told}"))
}

/// The kinds of a node's events, with their terms and whom they are about.
fn events(node: &Value) -> BTreeSet<(String, u64, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let of = |event: &Value| (text(&event["kind"]), event["term"].as_u64().expect("a term"), text(&event["peer"]));
    node["events"].as_array().expect("a list").iter().map(of).collect()
}

async fn page(cluster: &Cluster, node: usize, window: Window) -> Option<String> {
    look(beside(cluster.nodes[node].address(), HTTP_PORT_OFFSET), "/", window, Look::Elements).await
}

/// Takes pictures of the page, if somebody wants them.
async fn pictures(cluster: &Cluster, node: usize, name: &str) {
    let Some(directory) = std::env::var_os(PICTURES) else { return };
    let address = beside(cluster.nodes[node].address(), HTTP_PORT_OFFSET);
    for (window, of) in [
        (DESKTOP, "desktop-light"),
        (Window { dark: true, ..DESKTOP }, "desktop-dark"),
        (Window { dark: false, ..PHONE }, "phone-light"),
        (PHONE, "phone-dark"),
        (Window { height: 4200, ..DESKTOP }, "whole"),
    ] {
        let file = Path::new(&directory).join(format!("{name}-{of}.png"));
        look(address, "/", window, Look::Picture(&file)).await;
    }
}

/// The page tells of these nodes with these roles.
fn assert_roles(elements: &str, expected: &[(&str, &str)]) {
    assert_eq!(values(elements, "data-error"), [""; 0], "{elements}");
    assert_eq!(values(elements, "data-ready"), ["1"], "{elements}");
    let roles: BTreeSet<_> = values(elements, "data-node").into_iter().zip(values(elements, "data-role")).collect();
    assert_eq!(roles, expected.iter().copied().collect());
}

#[tokio::test]
async fn a_node_tells_of_all_members_also_of_one_that_is_gone_and_of_how_another_was_elected() {
    let mut cluster = three().await;
    let leader = cluster.leader().await;
    let name = |node: usize| format!("n{}", node + 1);
    let others = cluster.others(leader);
    let told = json(&cluster, others[0], "/cluster.json").await;
    assert_eq!(told["self"], name(others[0]));
    let term = node(&told, &name(leader))["status"]["term"].as_u64().expect("a term");
    for member in 0..3 {
        let node = node(&told, &name(member));
        let role = if member == leader { "leader" } else { "follower" };
        assert_eq!((&node["status"]["role"], &node["status"]["leader"]), (&role.into(), &name(leader).into()));
        let puts = node["requests"].as_array().expect("a list").iter().filter(|told| told["method"] == "Put");
        assert!(puts.map(|told| told["count"].as_u64().expect("a count")).sum::<u64>() >= 6, "{node}");
    }
    let slow = &node(&told, &name(leader))["slow"][0];
    let trace =
        json(&cluster, others[1], &format!("/trace.json?id={}", slow["trace_id"].as_str().expect("an id"))).await;
    assert!(trace["spans"].as_array().expect("a list").len() >= slow["spans"].as_array().expect("a list").len());
    let browsed = page(&cluster, others[0], DESKTOP).await;
    if let Some(elements) = &browsed {
        let names = [name(0), name(1), name(2)];
        let role = |node: usize| if node == leader { "leader" } else { "follower" };
        assert_roles(elements, &[(&names[0], role(0)), (&names[1], role(1)), (&names[2], role(2))]);
        assert!(!values(elements, "data-slow").is_empty(), "{elements}");
    }
    pictures(&cluster, others[0], "before").await;

    // A page that is open meanwhile shows it as it happens, and does not stumble over it.
    let address = beside(cluster.nodes[others[1]].address(), HTTP_PORT_OFFSET);
    let open = tokio::spawn(look(address, "/", Window { seconds: 30, ..DESKTOP }, Look::Elements));
    // However long the browser takes to start: without a leader to lose it would see less, and nothing wrong.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    cluster.nodes[leader].kill();
    pictures(&cluster, others[0], "killed").await;
    let new = wait_for("another leads, and says so", async || {
        let told = json(&cluster, others[0], "/cluster.json").await;
        let leads = |other: &&usize| node(&told, &name(**other))["status"]["role"] == "leader";
        others.iter().find(leads).copied()
    })
    .await;
    let voter = others.iter().copied().find(|other| *other != new).expect("there are two");
    let told = json(&cluster, voter, "/cluster.json").await;
    let gone = node(&told, &name(leader));
    assert!(gone["status"].is_null() && gone["error"].as_str().is_some_and(|error| !error.is_empty()), "{gone}");
    let new_term = node(&told, &name(new))["status"]["term"].as_u64().expect("a term");
    assert!(new_term > term);
    let (elected, voted) = (events(node(&told, &name(new))), events(node(&told, &name(voter))));
    let nobody = String::new();
    assert!(elected.contains(&("BECAME_LEADER".to_owned(), new_term, nobody)), "{elected:?}");
    assert!(voted.contains(&("VOTE_GRANTED".to_owned(), new_term, name(new))), "{voted:?}");
    assert!(voted.contains(&("BECAME_FOLLOWER".to_owned(), new_term, name(new))), "{voted:?}");
    for window in [DESKTOP, PHONE] {
        let Some(elements) = page(&cluster, voter, window).await else { continue };
        let (gone, new, voter) = (name(leader), name(new), name(voter));
        assert_roles(&elements, &[(&gone, "unreachable"), (&new, "leader"), (&voter, "follower")]);
        assert!(values(&elements, "data-event").contains(&"BECAME_LEADER"), "{elements}");
    }
    pictures(&cluster, voter, "after").await;
    if let Some(elements) = open.await.expect("no panic") {
        assert_eq!(
            (values(&elements, "data-error"), values(&elements, "data-ready")),
            (vec![], vec!["1"]),
            "{elements}"
        );
    }
}
