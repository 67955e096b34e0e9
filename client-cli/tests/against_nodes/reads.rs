//! Slow reads are sent to a second endpoint as well, and names with several addresses are several endpoints.

use crate::{
    client::{CLIENTS, LONG, SHORT, options},
    fake::{Instead, Node, hung, refusing},
};
use client_cli::{Client, Error, Options, PutMode};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::task::JoinSet;

/// A node that leads and another of the same cluster, and a client that knows the leader and hedges as it is told.
async fn led(hedged: bool) -> (Node, Node, Client) {
    let leader = Node::start();
    let other = leader.start_beside();
    leader.follows("n1", &leader);
    other.follows("n1", &leader);
    let options = options(&[&leader.endpoint(), &other.endpoint()]).hedged_reads(hedged);
    let client = Client::connect(options);
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    assert!(client.known_leader().is_some());
    (leader, other, client)
}

#[tokio::test]
async fn the_first_answer_to_a_slow_read_counts() {
    let (leader, other, client) = led(true).await;
    leader.instead(Instead::Hang);
    assert_eq!(client.get("a").await.expect("the other answers").key_value.value.as_ref(), b"1");
    assert_eq!((leader.calls("Get").len(), other.calls("Get").len()), (1, 1));
    leader.instead(Instead::Hang);
    let missing = client.get("b").await.expect_err("it is missing");
    assert!(matches!(missing, Error::KeyNotFound { .. }), "{missing:?}");
    assert_eq!(other.calls("Get").len(), 2);
}

#[tokio::test]
async fn an_endpoint_that_is_outrun_again_and_again_is_left() {
    let (leader, other, client) = led(true).await;
    for _ in 0..8 {
        leader.instead(Instead::Hang);
    }
    for _ in 0..6 {
        client.get("a").await.expect("the other answers");
    }
    // Three times, unless the machine stood still for so long that it was forgiven.
    assert!(leader.calls("Get").len() < 6, "{}", leader.calls("Get").len());
    assert_eq!(other.calls("Get").len(), 6);
}

#[tokio::test]
async fn hedges_are_few_when_everything_is_slow() {
    const READS: usize = 30;
    const HEDGES: usize = 10;
    let (leader, other, client) = led(true).await;
    let mut reads = JoinSet::new();
    for _ in 0..READS {
        leader.instead(Instead::Hang);
        let client = client.clone();
        reads.spawn(async move { client.get("a").await });
    }
    for _ in 0..READS {
        leader.hangs().await;
    }
    for _ in 0..HEDGES {
        let read = reads.join_next().await.expect("there are more").expect("it does not panic");
        read.expect("the other answered");
    }
    // Long after the delays of all of them, the rest still waits for the leader: it had nothing to pay with.
    assert!(tokio::time::timeout(SHORT * 3, reads.join_next()).await.is_err());
    assert_eq!(other.calls("Get").len(), HEDGES);
}

#[tokio::test]
async fn a_read_is_not_hedged_if_that_is_not_wanted() {
    let (leader, other, client) = led(false).await;
    leader.instead(Instead::Hang);
    let read = client.with_timeout(SHORT).get("a").await.expect_err("it hangs");
    assert!(matches!(read, Error::DeadlineExceeded(_)), "{read:?}");
    assert_eq!(other.calls("Get").len(), 0);
}

/// Options for a name with these addresses.
fn named(addresses: Vec<SocketAddr>) -> Options {
    options(&["cluster.test:7001"]).attempt_timeout(SHORT).resolver(move |host, port| {
        assert_eq!((host, port), ("cluster.test", 7001));
        Ok(addresses.clone())
    })
}

#[tokio::test]
async fn an_address_that_is_dead_or_hung_does_not_make_the_name_dead() {
    let node = Node::start();
    let (_kept, refusing) = refusing();
    let (_listening, hung) = hung();
    for bad in [refusing, hung] {
        let bad: SocketAddr = bad.parse().expect("it is an address");
        for at in 0..CLIENTS {
            let client = Client::connect(named(vec![bad, node.address()]));
            client.put(format!("{bad} {at}"), "1", PutMode::Create).await.expect("the other address takes it");
            client.get(format!("{bad} {at}")).await.expect("the other address answers");
        }
    }
    assert_eq!(node.runs(), 2 * CLIENTS);
}

#[tokio::test]
async fn requests_are_spread_over_the_addresses_of_a_name() {
    let nodes = [Node::start(), Node::start()];
    for _ in 0..CLIENTS {
        let client = Client::connect(named(nodes.iter().map(Node::address).collect()));
        client.put("k", "1", PutMode::Upsert).await.expect("either takes it");
    }
    assert!(nodes.iter().all(|node| node.runs() > 0), "{:?}", nodes.each_ref().map(Node::runs));
}

#[tokio::test]
async fn a_name_that_moved_is_looked_up_again() {
    let mut old = Node::start();
    let new = old.start_beside();
    let moved = Arc::new(AtomicBool::new(false));
    let client = Client::connect(options(&["cluster.test:7001"]).resolver({
        let (moved, addresses) = (Arc::clone(&moved), [old.address(), new.address()]);
        move |_, _| Ok(vec![addresses[usize::from(moved.load(Ordering::SeqCst))]])
    }));
    client.put("a", "1", PutMode::Create).await.expect("it is created");
    old.kill();
    moved.store(true, Ordering::SeqCst);
    let found = async {
        while client.get("a").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, found).await.expect("it is found");
}
