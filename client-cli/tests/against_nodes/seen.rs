//! Which state a get reads: what a client has seen is asked for, and a node that is behind it is left for another.

use crate::{
    client::{CLIENTS, client, options},
    command_line::{done, failed, run},
    fake::{Instead, Node, STALENESS_MS, error, too_stale},
};
use client_cli::{Client, Consistency, Error, GetOptions, PutMode, Settled};
use proto::kv::v1::GetRequest;
use std::time::Duration;
use tonic::Code;

const STALE: Consistency = Consistency::Stale { max_staleness: None };

/// The revision that the last get asked for.
fn asked_for(node: &Node) -> u64 {
    node.gets().last().expect("there was one").min_revision
}

#[tokio::test]
async fn what_was_seen_is_asked_for_but_of_a_majority() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    assert!(matches!(client.get_with("a", STALE).await, Err(Error::KeyNotFound { .. })));
    assert_eq!(asked_for(&node), 0, "nothing was seen yet");
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    for (consistency, expected) in [(Consistency::Linearizable, 1), (STALE, 1), (Consistency::Quorum, 0)] {
        // Clones share what they have seen.
        let found = client.clone().get_with("a", consistency).await.expect("it is there");
        assert_eq!(asked_for(&node), expected, "{consistency:?}");
        let staleness = (consistency == STALE).then_some(Duration::from_millis(STALENESS_MS));
        assert_eq!(found.staleness, staleness, "{consistency:?}");
    }
    // What somebody else has seen is asked for of everybody, if it is further.
    client.put("a", "2", PutMode::Update).await.expect("it is there");
    for (min_revision, consistency, expected) in [(1, STALE, 2), (1, Consistency::Quorum, 1)] {
        client.get_with("a", GetOptions { consistency, min_revision }).await.expect("it is there");
        assert_eq!(asked_for(&node), expected, "{consistency:?}");
    }
}

#[tokio::test]
async fn the_bound_of_staleness_is_sent_in_milliseconds() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    for (max_staleness, expected) in [
        (None, None),
        (Some(Duration::from_millis(500)), Some(500)),
        (Some(Duration::from_micros(1_999)), Some(1)),
        (Some(Duration::MAX), Some(u64::MAX)),
    ] {
        client.get_with("a", Consistency::Stale { max_staleness }).await.expect("it is there");
        let GetRequest { consistency, max_staleness_ms, .. } = node.gets().pop().expect("there was one");
        assert_eq!((consistency, max_staleness_ms), (3, expected));
    }
}

#[tokio::test]
async fn every_answer_that_tells_a_revision_counts() {
    let node = Node::start();
    let writer = client(&[&node.endpoint()]);
    writer.put("a", "1", PutMode::Create).await.expect("it is created");
    writer.put("b", "1", PutMode::Create).await.expect("it is created");
    for what in ["put", "delete", "get", "exists", "missing", "mismatch", "missing delete"] {
        let reader = client(&[&node.endpoint()]);
        let expected = match what {
            "put" => reader.put("a", "2", PutMode::Upsert).await.expect("any will do").revision,
            "delete" => reader.delete("a", None).await.expect("it is there").revision,
            "get" => reader.get("b").await.expect("it is there").revision,
            "exists" => {
                reader.put("b", "2", PutMode::Create).await.expect_err("it exists");
                2
            }
            "missing" => {
                reader.get("c").await.expect_err("it is missing");
                4
            }
            "mismatch" => {
                reader.put("b", "2", PutMode::Compare(9)).await.expect_err("it is at revision 2");
                2
            }
            _ => {
                reader.delete("c", None).await.expect_err("it is missing");
                4
            }
        };
        reader.get_with("b", STALE).await.expect("it is there");
        assert_eq!(asked_for(&node), expected, "{what}");
    }
}

#[tokio::test]
async fn a_settled_write_was_seen() {
    let node = Node::start();
    let writer = Client::connect(options(&[&node.endpoint()]).timeout(Duration::from_millis(500)));
    writer.put("a", "1", PutMode::Create).await.expect("it is created");
    node.instead(Instead::DoAndHang);
    let lost = writer.put("b", "1", PutMode::Create).await.expect_err("no answer comes");
    let reader = client(&[&node.endpoint()]);
    let settled = reader.get_outcome(lost.request_id().expect("it has a name")).await.expect("it is settled");
    assert!(matches!(settled, Settled::Put(written) if written.revision == 2), "{settled:?}");
    reader.get_with("a", STALE).await.expect("it is there");
    assert_eq!(asked_for(&node), 2);
}

#[tokio::test]
async fn a_node_that_is_behind_is_left_for_another_and_asked_last_for_a_while() {
    let behind = Node::start();
    let other = behind.start_beside();
    let client = client(&[&behind.endpoint(), &other.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("either takes it");
    // As many as there will be gets.
    for _ in 0..CLIENTS {
        behind.instead(Instead::Fail(too_stale(0)));
    }
    for _ in 0..CLIENTS {
        client.get_with("a", STALE).await.expect("the other answers");
    }
    assert_eq!(other.gets().len(), CLIENTS);
    assert!(behind.gets().len() <= 1, "it was asked {} times", behind.gets().len());
}

#[tokio::test]
async fn stale_gets_are_spread_over_the_nodes_whoever_leads() {
    let leader = Node::start();
    let other = leader.start_beside();
    leader.follows("n1", &leader);
    other.follows("n1", &leader);
    let client = client(&[&leader.endpoint(), &other.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    assert!(client.known_leader().is_some());
    for _ in 0..CLIENTS {
        client.get_with("a", STALE).await.expect("either answers");
    }
    for node in [&leader, &other] {
        assert!((1..CLIENTS).contains(&node.gets().len()), "{} of {CLIENTS}", node.gets().len());
    }
}

#[tokio::test]
async fn nodes_that_are_all_behind_are_told_of_at_the_deadline() {
    let nodes = [Node::start(), Node::start()];
    let endpoints = nodes.each_ref().map(Node::endpoint);
    for node in &nodes {
        for _ in 0..100 {
            node.instead(Instead::Fail(too_stale(3)));
        }
    }
    let client = client(&endpoints.each_ref().map(String::as_str)).with_timeout(Duration::from_millis(500));
    let failed = client.get_with("a", STALE).await.expect_err("both are behind");
    let Error::NotApplied(failure) = failed else { panic!("{failed:?}") };
    assert_eq!(failure.message, "this node's own state is not good enough");
    let reasons: Vec<_> = failure.attempts.iter().filter_map(|attempt| attempt.reason.as_deref()).collect();
    assert_eq!(reasons, ["STALENESS_BOUND_EXCEEDED"; 2]);
}

#[tokio::test]
async fn a_cluster_that_was_set_back_is_told_of_once() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    for number in 0..3 {
        client.put("a", number.to_string(), PutMode::Upsert).await.expect("any will do");
    }
    node.begin_anew();
    let told = client.get("a").await.expect_err("it has not come so far");
    let Error::Refused(failure) = &told else { panic!("{told:?}") };
    assert_eq!(failure.attempts[0].reason.as_deref(), Some("REVISION_AHEAD"));
    assert!(matches!(client.get("a").await, Err(Error::KeyNotFound { .. })), "it goes on with what there is");
    assert_eq!(asked_for(&node), 0);
}

#[tokio::test]
async fn a_revision_that_somebody_else_made_up_is_not_taken_for_ones_own() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    let made_up = GetOptions { min_revision: 99, ..GetOptions::default() };
    assert!(matches!(client.get_with("a", made_up).await, Err(Error::Refused(_))));
    client.get_with("a", STALE).await.expect("it is there");
    assert_eq!(asked_for(&node), 1);
}

#[tokio::test]
async fn a_write_that_finds_another_cluster_forgets_what_was_seen() {
    let node = Node::start();
    let client = client(&[&node.endpoint()]);
    for number in 0..3 {
        client.put("a", number.to_string(), PutMode::Upsert).await.expect("any will do");
    }
    node.begin_anew();
    client.put("b", "1", PutMode::Create).await.expect("it is sent again in a session of the new cluster");
    client.get("b").await.expect("it is there");
    assert_eq!(asked_for(&node), 1);
}

#[test]
fn a_stale_answer_on_the_command_line() {
    let node = Node::start();
    let endpoint = node.endpoint();
    let type_in = |arguments: &[&str]| run(&[&endpoint], arguments);
    assert_eq!(type_in(&["put", "a", "1"]).0, 0);
    let stale = ["get", "--consistency", "stale", "--max-staleness", "500ms", "a"];
    assert_eq!(type_in(&stale), done("1\n"));
    let GetRequest { consistency, max_staleness_ms, min_revision, .. } = node.gets().remove(0);
    assert_eq!((consistency, max_staleness_ms, min_revision), (3, Some(500), 0));
    let (_, json, _) = type_in(&[&["-o", "json"], &stale[..]].concat());
    assert!(json.ends_with(&format!("\"served_by\":\"fake\",\"staleness_ms\":{STALENESS_MS}}}\n")), "{json}");
    assert_eq!(type_in(&["get", "--min-revision", "1", "a"]), done("1\n"));
    assert_eq!(asked_for(&node), 1);
    assert_eq!(type_in(&["get", "--min-revision", "2", "a"]).0, 6);

    let misplaced = failed(1, "error: --max-staleness goes with --consistency stale\n");
    assert_eq!(type_in(&["get", "--max-staleness", "1s", "a"]), misplaced);
    node.instead(Instead::Fail(error(Code::NotFound, "KEY_NOT_FOUND", "key not found: b", &[])));
    assert_eq!(type_in(&["get", "--consistency", "stale", "b"]).0, 3);
}
