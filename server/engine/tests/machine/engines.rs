//! The engine and its disk: restarts, replays, and the ways in which it stops.

use std::io;
use std::sync::Arc;

use crate::cluster::{Cluster, node_id, options, small_options, upsert};
use bytes::Bytes;
use engine::disk::{Disk, Fault, MemoryDisk, Operation};
use engine::kv::{Revision, Store};
use engine::wal::{self, WalOptions};
use engine::{Answer, Engine, EngineError, Event, ReplayError};
use raft::{Batch, BatchNumber, Entry, HardState, Index, Payload, Term};

fn shared(disk: &MemoryDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Opens an engine that must not open.
fn open_error(disk: &MemoryDisk) -> EngineError {
    match Engine::open(&shared(disk), options(node_id(0), 1, small_options)) {
        Err(error) => error,
        Ok(_) => panic!("this log must not open"),
    }
}

/// A disk with a log of these entries of term 1, committed up to `commit_index`.
fn disk_with(payloads: Vec<Payload>, commit_index: u64) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let wal_options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
    let wal::Opened { mut wal, mut executor, .. } =
        wal::open(&shared(&disk), wal_options, &mut |_| {}).expect("an empty disk");
    let entry = |(position, payload)| Entry { term: Term::new(1), index: Index::new(position as u64 + 1), payload };
    let hard_state = HardState { current_term: Term::new(1), voted_for: None, commit_index: Index::new(commit_index) };
    let batch = Batch {
        reset_to: None,
        number: BatchNumber::new(1),
        truncate_after: None,
        entries: payloads.into_iter().enumerate().map(entry).collect(),
        hard_state: Some(hard_state),
    };
    wal.append(&batch).expect("it fits");
    while let Some(work) = wal.next_work() {
        wal.completed(executor.run(work)).expect("the disk works");
    }
    disk
}

#[test]
fn a_restarted_node_has_its_state_and_its_promises_again() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    for number in 0..500 {
        cluster.write(leader, &upsert(&format!("key{}", number % 50), &"v".repeat(number)));
        cluster.settle();
    }
    cluster.converge();
    let before = cluster.status(leader);
    (0..3).for_each(|number| cluster.crash(number));
    cluster.start(leader);
    let after = cluster.status(leader);
    assert_eq!(after.raft.last_index, before.raft.last_index);
    assert_eq!(after.raft.current_term, before.raft.current_term);
    assert_eq!(after.raft.voted_for, before.raft.voted_for);
    assert!(after.applied <= before.applied && after.applied > Index::ZERO, "the recorded commit index trails");

    (0..3).filter(|number| *number != leader).for_each(|number| cluster.start(number));
    let leader = cluster.elect(None);
    cluster.converge();
    let again = cluster.status(leader);
    assert_eq!((again.revision, again.state_hash), (before.revision, before.state_hash));
}

#[test]
fn a_follower_that_was_away_for_long_is_fed_from_the_log() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    cluster.crash(follower);
    // Far more than the tail that the leader keeps in memory.
    for number in 0..500 {
        cluster.write(leader, &upsert(&format!("key{number}"), &"v".repeat(400)));
        cluster.settle();
    }
    cluster.start(follower);
    cluster.converge();
    assert_eq!(cluster.status(follower).state_hash, cluster.status(leader).state_hash);
}

#[test]
fn what_is_not_durable_is_not_acknowledged_and_may_be_lost() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.converge();
    (0..3).for_each(|number| cluster.nodes[number].disk_stalled = true);
    let ticket = cluster.write(leader, &upsert("a", "x"));
    cluster.settle();
    assert!(matches!(cluster.answers_to(ticket), [Answer::Proposed { .. }]));
    (0..3).for_each(|number| cluster.crash(number));
    (0..3).for_each(|number| cluster.start(number));
    cluster.elect(None);
    cluster.converge();
    assert_eq!(cluster.status(leader).revision, Revision::FIRST);
}

#[test]
fn the_first_disk_error_stops_the_engine_for_good() {
    let disk = MemoryDisk::new();
    let opened = Engine::open(&shared(&disk), options(node_id(0), 1, small_options)).expect("an empty disk");
    let (mut engine, mut executor) = (opened.engine, opened.executor);
    let failed = (1..1_000).find_map(|tick| {
        engine.tick(tick);
        loop {
            let work = engine.output().expect("nothing has failed yet").work;
            if work.is_empty() {
                return None;
            }
            for work in work {
                // The candidate's vote for itself never becomes durable.
                disk.fail(Operation::SyncData, 1, Fault::Error(io::ErrorKind::Other));
                if let Err(error) = engine.completed(executor.run(work)) {
                    return Some(error);
                }
            }
        }
    });
    assert!(matches!(failed, Some(EngineError::Wal(_))), "{failed:?}");
    assert!(!engine.raft().is_leader());
    assert!(matches!(engine.output(), Err(EngineError::Stopped)));
}

#[test]
fn a_committed_command_of_another_version_stops_the_node() {
    let unknown = Payload::Command(Bytes::from_static(b"\x02a newer command"));
    // Known to be committed: it does not even start.
    let error = open_error(&disk_with(vec![Payload::Noop, unknown.clone()], 2));
    assert!(matches!(&error, EngineError::Replay(ReplayError::UnknownEntry(entry)) if entry.index == Index::new(2)));
    assert!(error.to_string().contains("replayed"), "{error}");

    // Found to be committed only while running: it stops there.
    let disk = disk_with(vec![Payload::Noop, unknown], 1);
    let opened =
        Engine::open(&shared(&disk), options(node_id(0), 1, small_options)).expect("not known to be committed");
    let (mut engine, mut executor) = (opened.engine, opened.executor);
    let error = (1..1_000).find_map(|tick| {
        engine.tick(tick);
        loop {
            match engine.output() {
                Err(error) => return Some(error),
                Ok(output) if output.work.is_empty() => return None,
                Ok(output) => {
                    for work in output.work {
                        engine.completed(executor.run(work)).expect("the disk works");
                    }
                }
            }
        }
    });
    assert!(matches!(error, Some(EngineError::UnknownEntry(entry)) if entry.index == Index::new(2)));
    assert!(matches!(engine.output(), Err(EngineError::Stopped)));
    assert_eq!(engine.status().applied, Index::new(1));
}

#[test]
fn the_parts_may_live_on_threads_of_their_own() {
    fn may_move<T: Send>() {}
    fn may_be_shared<T: Send + Sync>() {}
    may_move::<Engine>();
    may_move::<wal::Executor>();
    may_move::<wal::Work>();
    may_move::<wal::Completion>();
    may_be_shared::<wal::Reader>();
    may_be_shared::<Store>();
}

#[test]
fn a_fresh_disk_is_told_from_one_with_a_log() {
    let disk = MemoryDisk::new();
    let open = || Engine::open(&shared(&disk), options(node_id(0), 1, small_options)).expect("a sound log");
    assert!(open().fresh);
    assert!(!open().fresh);
}

#[test]
fn details_are_told_only_while_narrating() {
    let told = |narrate: bool| {
        let disk = MemoryDisk::new();
        let opened = Engine::open(&shared(&disk), options(node_id(0), 1, small_options)).expect("an empty disk");
        let (mut engine, mut executor) = (opened.engine, opened.executor);
        engine.narrate(narrate);
        let mut events = Vec::new();
        for tick in 1..100 {
            engine.tick(tick);
            loop {
                let output = engine.output().expect("the disk works");
                events.extend(output.events);
                if output.work.is_empty() {
                    break;
                }
                for work in output.work {
                    engine.completed(executor.run(work)).expect("the disk works");
                }
            }
        }
        assert!(engine.raft().is_leader());
        events
    };
    assert!(told(false).iter().all(|event| matches!(event, Event::Raft(_))));
    let events = told(true);
    let first = Index::new(1);
    let appended = events.iter().position(|event| *event == Event::Appended { first, last: first });
    let durable = events.iter().position(|event| *event == Event::Durable { index: first });
    let committed = events.iter().position(|event| *event == Event::Committed { index: first });
    let applied = events.iter().position(|event| matches!(event, Event::Applied { index, .. } if *index == first));
    assert!(appended.is_some() && appended < durable && durable < committed && committed < applied, "{events:?}");
}
