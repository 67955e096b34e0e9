//! Writes with request ids in a cluster: a repeat is answered with the first result by whoever leads then, from
//! whatever its state came.

use bytes::Bytes;
use engine::kv::{Applied, Command, PutMode, Request, RequestId, SessionId, Settled};
use engine::{Answer, EngineOptions};

use crate::cluster::Cluster;
use crate::snapshots::{assert_same_state, often, write_many};

fn id(sequence: u64) -> Option<RequestId> {
    Some(RequestId { session: SessionId::new(7), opened_at_ms: 0, sequence, acknowledged_below: 0 })
}

fn create(sequence: u64) -> Request {
    let (key, value) = (Bytes::from_static(b"once"), Bytes::from_static(b"value"));
    Request { id: id(sequence), command: Command::Put { key, value, mode: PutMode::Create } }
}

fn settle(sequence: u64) -> Request {
    Request { id: id(sequence), command: Command::Settle }
}

/// What a leader says in the end.
fn ask(cluster: &mut Cluster, leader: usize, request: &Request) -> Applied {
    let ticket = cluster.write_once(leader, request);
    cluster.settle();
    match cluster.answers_to(ticket) {
        [Answer::Proposed { .. }, Answer::Written(applied)] => applied.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repeat_is_answered_with_the_first_result_by_the_next_leader() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let first = ask(&mut cluster, leader, &create(1));
    assert!(matches!(first, Applied::Put { version: 1, .. }));
    assert_eq!(ask(&mut cluster, leader, &settle(2)), Applied::Settled(Settled::NeverApplied));
    cluster.converge();
    cluster.crash(leader);
    let next = cluster.elect(Some(leader));
    assert_eq!(ask(&mut cluster, next, &create(1)), first);
    assert_eq!(ask(&mut cluster, next, &settle(1)), Applied::Settled(Settled::Result(Box::new(first))));
    assert!(matches!(ask(&mut cluster, next, &create(2)), Applied::Refused(_)), "it was fenced by the last leader");
}

#[test]
fn a_write_that_was_committed_but_not_answered_is_not_run_again() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    // Everything that the followers answer is lost: the write is on them, and its leader does not learn of it.
    cluster.lose(move |message| message.to == crate::cluster::node_id(leader));
    let lost = cluster.write_once(leader, &create(1));
    cluster.settle();
    assert!(!cluster.answers_to(lost).iter().any(|answer| matches!(answer, Answer::Written(_))));
    cluster.crash(leader);
    cluster.heal();
    let next = cluster.elect(Some(leader));
    assert!(matches!(ask(&mut cluster, next, &create(1)), Applied::Put { version: 1, .. }), "no word of its own key");
    assert_eq!(cluster.status(next).revision.get(), 2, "one write changed a key");
}

#[test]
fn results_are_in_snapshots_behind_a_restart_and_on_a_node_that_installed_one() {
    let mut cluster = Cluster::with_engine_options(3, |options: EngineOptions| often(options));
    let leader = cluster.elect(None);
    let behind = (leader + 1) % 3;
    cluster.isolate(behind);
    let first = ask(&mut cluster, leader, &create(1));
    assert_eq!(ask(&mut cluster, leader, &settle(2)), Applied::Settled(Settled::NeverApplied));
    write_many(&mut cluster, leader, 2_000);
    assert!(cluster.status(leader).first_index.get() > 10, "the log of it is cut");
    cluster.join(behind);
    assert_same_state(&mut cluster);
    assert!(cluster.status(behind).snapshot_index.get() > 10, "it was installed");
    (0..3).for_each(|number| cluster.crash(number));
    (0..3).for_each(|number| cluster.start(number));
    cluster.elect_only(behind);
    assert_eq!(ask(&mut cluster, behind, &create(1)), first);
    assert!(matches!(ask(&mut cluster, behind, &create(2)), Applied::Refused(_)));
    assert_same_state(&mut cluster);
}
