//! Reads of one node's own state: what a node that is cut off still answers, what it refuses, and that no client is
//! shown a state behind the one that it has seen.

use client_cli::{Client, Consistency as Level, Error, GetOptions, PutMode};
use proto::kv::v1::{Consistency, GetRequest, GetResponse, PutMode as WireMode, PutRequest};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tests::{
    cluster::{Cluster, Options},
    rpc::{self, Failure},
    wait::{back_off, wait_for},
};
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// Long enough for an election, short enough to wait for in a test that must see it pass.
const REQUEST_TIMEOUT: [&str; 2] = ["--request-timeout-ms", "2000"];

/// A bound that a node keeps that hears of a leader, however busy the machine is.
const GENEROUS_MS: u64 = 60_000;

/// Enough clients that some ask the node that is cut off first, of two: that none does has a chance of 2^-16.
const CLIENTS: usize = 16;

/// Clients that write and read at once while links break, and the keys that they have, one each.
const WRITERS: usize = 4;

const STALE: Level = Level::Stale { max_staleness: None };

async fn relayed() -> Cluster {
    Cluster::start(Options { relayed: true, ..Options::default().with_flags(&REQUEST_TIMEOUT) }).await
}

/// A get of a node's own state, not older than so many milliseconds if there is a bound, and of this revision at least.
async fn stale_get(
    cluster: &Cluster,
    node: usize,
    max_staleness_ms: Option<u64>,
    min_revision: u64,
) -> Result<GetResponse, Status> {
    let consistency = Consistency::Stale.into();
    let request = GetRequest { consistency, max_staleness_ms, min_revision, ..rpc::get_request("k") };
    rpc::bounded(rpc::kv(&cluster.nodes[node].channel()).get(request)).await
}

/// Panics unless the get was refused for the state's age or revision; what the error says.
#[track_caller]
fn too_stale(answer: Result<GetResponse, Status>) -> Failure {
    let failure = rpc::failure(answer);
    failure.expect(Code::Unavailable, "STALENESS_BOUND_EXCEEDED");
    failure
}

fn value(response: &GetResponse) -> &[u8] {
    &response.kv.as_ref().expect("an answer to a get carries the key").value
}

/// Writes until it is acknowledged, which takes an election if the leader is cut off. The revision.
async fn write(cluster: &Cluster, node: usize, value: &str) -> u64 {
    let request = PutRequest { mode: WireMode::Upsert.into(), ..rpc::put_request("k", value) };
    let channel = cluster.nodes[node].channel();
    let put = async || rpc::put_with(&channel, request.clone()).await.ok();
    wait_for("the write is acknowledged", put).await.revision
}

fn isolate(cluster: &Cluster, lonely: usize) {
    cluster.others(lonely).into_iter().for_each(|other| cluster.links().cut(lonely, other));
}

fn join(cluster: &Cluster, lonely: usize) {
    cluster.others(lonely).into_iter().for_each(|other| cluster.links().mend(lonely, other));
}

/// A node that nobody reaches answers from what it has, and says how old that is.
async fn cut_off(of_leader: bool) {
    let cluster = relayed().await;
    let leader = cluster.ready().await;
    let lonely = if of_leader { leader } else { cluster.others(leader)[0] };
    let other = cluster.others(lonely)[0];
    let before = write(&cluster, leader, "old").await;
    let found = stale_get(&cluster, lonely, Some(GENEROUS_MS), before).await.expect("it hears of the leader");
    assert_eq!(value(&found), b"old");
    isolate(&cluster, lonely);
    let after = write(&cluster, other, "new").await;

    let first = stale_get(&cluster, lonely, None, 0).await.expect("it has a state");
    assert_eq!(
        (value(&first), first.revision, &first.served_by[..]),
        (&b"old"[..], before, cluster.nodes[lonely].name())
    );
    let first_ms = first.staleness_ms.expect("it was asked before it was cut off");
    let aged = wait_for("its age grows", async || {
        let again = stale_get(&cluster, lonely, None, before).await.expect("it has a state");
        assert_eq!((value(&again), again.revision), (&b"old"[..], before));
        again.staleness_ms.filter(|aged_ms| *aged_ms > first_ms)
    });
    // It can only be older by now.
    let bound_ms = aged.await;
    let failure = too_stale(stale_get(&cluster, lonely, Some(bound_ms), 0).await);
    let lag_ms: u64 = failure.metadata["lagMs"].parse().expect("it is a number");
    assert!(lag_ms > bound_ms, "{failure:?}");
    assert_eq!(failure.metadata["revision"], before.to_string());
    // Of what was written behind its back it has nothing, and does not say that it had.
    let failure = too_stale(stale_get(&cluster, lonely, None, after).await);
    assert_eq!(failure.metadata["revision"], before.to_string());
    let elsewhere = stale_get(&cluster, other, Some(GENEROUS_MS), after).await.expect("this one took part");
    assert_eq!(value(&elsewhere), b"new");

    join(&cluster, lonely);
    let mended = async || stale_get(&cluster, lonely, Some(GENEROUS_MS), after).await.ok();
    let found = wait_for("it has caught up", mended).await;
    assert_eq!(value(&found), b"new");
    assert!(found.staleness_ms.is_some_and(|aged_ms| aged_ms <= GENEROUS_MS), "{found:?}");
    cluster.converged().await;
}

#[tokio::test]
async fn a_follower_that_is_cut_off_answers_with_what_it_has_and_says_how_old_that_is() {
    cut_off(false).await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_answers_with_what_it_has_and_says_how_old_that_is() {
    cut_off(true).await;
}

#[tokio::test]
async fn the_age_is_proven_anew_while_there_are_readers() {
    let cluster = relayed().await;
    let leader = cluster.ready().await;
    write(&cluster, leader, "v").await;
    for node in 0..cluster.nodes.len() {
        // Whoever was not asked for a while has to find out, and does.
        let found = stale_get(&cluster, node, Some(1), 0).await.expect("a new proof is as young as can be");
        assert_eq!((value(&found), found.staleness_ms), (&b"v"[..], Some(1)));
    }
}

fn client(cluster: &Cluster, nodes: &[usize]) -> Client {
    let endpoints = nodes.iter().map(|node| cluster.nodes[*node].address().to_string());
    Client::connect(client_cli::Options::new(endpoints).expect("addresses are endpoints"))
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("it is text").parse().expect("only numbers are written")
}

#[tokio::test]
async fn a_client_that_has_written_is_not_answered_by_a_node_that_has_not_heard_of_it() {
    let cluster = relayed().await;
    let leader = cluster.ready().await;
    let [lonely, other] = cluster.others(leader)[..] else { panic!("there are three") };
    let clients: Vec<_> = (0..CLIENTS).map(|_| client(&cluster, &[lonely, other])).collect();
    for (at, client) in clients.iter().enumerate() {
        // It learns who leads.
        client.put(format!("k{at}"), "1", PutMode::Create).await.expect("all nodes are there");
    }
    isolate(&cluster, lonely);
    let mut highest = 0;
    for (at, client) in clients.iter().enumerate() {
        let key = format!("k{at}");
        highest = client.put(&key, "2", PutMode::Update).await.expect("the leader has a majority").revision;
        let found = client.get_with(&key, STALE).await.expect("another node has it");
        assert_eq!(found.key_value.value.as_ref(), b"2", "{key}: its own past");
        assert_ne!(found.served_by, cluster.nodes[lonely].name());
    }
    // Who has not seen it may be shown the past, unless told what to ask for.
    let stranger = client(&cluster, &[lonely]).with_timeout(Duration::from_secs(1));
    let past = stranger.get_with("k0", STALE).await.expect("it has a state");
    assert_eq!((past.key_value.value.as_ref(), &past.served_by[..]), (&b"1"[..], cluster.nodes[lonely].name()));
    let told = GetOptions { consistency: STALE, min_revision: highest };
    let refused = stranger.get_with("k0", told).await.expect_err("there is nobody else to ask");
    let reason = refused.failure().attempts[0].reason.clone();
    assert_eq!(reason.as_deref(), Some("STALENESS_BOUND_EXCEEDED"), "{refused:?}");
    join(&cluster, lonely);
    let caught_up = async || stranger.get_with("k0", told).await.ok();
    let found = wait_for("it has caught up", caught_up).await;
    assert_eq!(found.key_value.value.as_ref(), b"2");
}

/// What all writers did.
#[derive(Default)]
struct Progress {
    rounds: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    async fn wait_for(&self, rounds: u64) {
        let goal = self.rounds.load(Ordering::Relaxed) + rounds;
        let reached = async || (self.rounds.load(Ordering::Relaxed) >= goal).then_some(());
        wait_for("the clients go on", reached).await;
    }
}

/// Writes numbers that grow to a key of its own, and reads all keys at all levels: no key ever holds less than it was
/// known to hold.
async fn write_and_read(client: Client, own: usize, progress: Arc<Progress>) {
    const LEVELS: [Level; 4] =
        [STALE, Level::Stale { max_staleness: Some(Duration::from_secs(60)) }, Level::Linearizable, Level::Quorum];
    let mut known: BTreeMap<usize, u64> = BTreeMap::new();
    let mut next = 0;
    while !progress.stop.load(Ordering::Relaxed) {
        next += 1;
        match client.put(format!("w{own}"), next.to_string(), PutMode::Upsert).await {
            Ok(_) => drop(known.insert(own, next)),
            Err(Error::NotApplied(_) | Error::DeadlineExceeded(_) | Error::OutcomeUnknown { .. }) => back_off().await,
            Err(error) => panic!("{error:?}"),
        }
        for (level, key) in LEVELS.into_iter().zip((own..own + WRITERS).map(|key| key % WRITERS)) {
            let at_least = known.get(&key).copied();
            let found = match client.get_with(format!("w{key}"), level).await {
                Ok(found) => Some(number(&found.key_value.value)),
                Err(Error::KeyNotFound { .. }) => None,
                Err(Error::NotApplied(_) | Error::DeadlineExceeded(_)) => continue,
                Err(error) => panic!("{error:?}"),
            };
            assert!(found >= at_least, "w{key}, {level:?}: {found:?} after {at_least:?}");
            known.extend(found.map(|found| (key, found)));
        }
        progress.rounds.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn no_client_reads_its_past_while_links_break() {
    let cluster = relayed().await;
    let (all, progress) = ([0, 1, 2], Arc::new(Progress::default()));
    let mut writers: JoinSet<()> =
        (0..WRITERS).map(|own| write_and_read(client(&cluster, &all), own, Arc::clone(&progress))).collect();
    for round in 0..2 {
        progress.wait_for(40).await;
        let leader = cluster.leader().await;
        let follower = cluster.others(leader)[round];
        isolate(&cluster, follower);
        progress.wait_for(40).await;
        join(&cluster, follower);
        progress.wait_for(20).await;
        let leader = cluster.leader().await;
        isolate(&cluster, leader);
        progress.wait_for(20).await;
        join(&cluster, leader);
    }
    progress.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.expect("no client was shown its past");
    }
    cluster.converged().await;
}
