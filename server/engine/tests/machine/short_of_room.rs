//! Disks without room: what is refused, what makes room again, and what is not tried all the time meanwhile.

use bytes::Bytes;
use engine::disk::{Disk, Operation};
use engine::kv::Command;
use engine::wal::WalOptions;
use engine::{Answer, EngineOptions};
use raft::Index;

use crate::cluster::{Cluster, upsert};
use crate::snapshots::{often, snapshots_of, write_many};

/// What is in service, a thousand times smaller.
fn in_service(options: EngineOptions) -> EngineOptions {
    let wal = WalOptions { segment_bytes: 8 << 10, ..options.wal };
    EngineOptions { wal, snapshot_log_bytes_min: 64 << 10, space_reserve_bytes: 128 << 10, ..options }
}

/// Tells the node, as the shell does, how much room its disk has.
fn look(cluster: &mut Cluster) {
    let free_bytes = cluster.nodes[0].disk.free_bytes().expect("the disk works");
    cluster.engine(0).observe_free_bytes(free_bytes);
}

fn delete(key: String) -> Command {
    Command::Delete { key: Bytes::from(key), expected_revision: None, return_previous: false }
}

#[test]
fn deleting_makes_room() {
    let mut cluster = Cluster::with_engine_options(1, in_service);
    cluster.elect(None);
    cluster.nodes[0].disk.fill_up(1 << 20);
    let mut keys = 0;
    while !cluster.status(0).storage_full {
        cluster.write(0, &upsert(&format!("key{keys}"), &"v".repeat(1_000)));
        keys += 1;
        cluster.tick();
        look(&mut cluster);
    }
    let refused = cluster.write(0, &upsert("key", "more"));
    cluster.tick();
    assert_eq!(cluster.answers_to(refused), [Answer::StorageFull]);
    for key in 0..keys {
        let deleted = cluster.write(0, &delete(format!("key{key}")));
        cluster.tick_until("a deletion is answered", |cluster| {
            look(cluster);
            cluster.answers_to(deleted).last().is_some_and(|answer| !matches!(answer, Answer::Proposed { .. }))
        });
        let answers = cluster.answers_to(deleted);
        assert!(matches!(answers, [_, Answer::Written(_)]), "deletions need little room: {answers:?}");
    }
    cluster.tick_until("there is room for puts again", |cluster| {
        look(cluster);
        !cluster.status(0).storage_full
    });
    let taken = cluster.write(0, &upsert("key", "more"));
    cluster.tick();
    assert!(matches!(cluster.answers_to(taken), [_, Answer::Written(_)]));
}

#[test]
fn an_older_snapshot_gives_way_to_one_that_found_no_room() {
    let mut cluster = Cluster::with_engine_options(1, often);
    cluster.elect(None);
    write_many(&mut cluster, 0, 2_000);
    let before = snapshots_of(&cluster, 0);
    assert_eq!(before.len(), 2, "{before:?}");
    while cluster.status(0).log_bytes_since_snapshot < 8 << 10 {
        write_many(&mut cluster, 0, 10);
    }
    let before = snapshots_of(&cluster, 0);
    cluster.nodes[0].disk.fill_up(before[1].bytes - 1);
    look(&mut cluster);
    assert!(cluster.status(0).storage_full);
    cluster.tick_until("there is a newer one", |cluster| cluster.status(0).snapshot_index > before[1].index);
    cluster.nodes[0].disk.clear_out();
    look(&mut cluster);
    write_many(&mut cluster, 0, 1_000);
    assert_eq!(snapshots_of(&cluster, 0).len(), 2, "as many as usual are kept again");
}

/// A node alone whose log has found no room for its next segment.
fn without_room(engine_options: fn(EngineOptions) -> EngineOptions) -> Cluster {
    let mut cluster = Cluster::with_engine_options(1, engine_options);
    cluster.elect(None);
    cluster.nodes[0].disk.fill_up(0);
    while !cluster.status(0).storage_full {
        cluster.write(0, &upsert("key", &"v".repeat(100)));
        cluster.settle();
    }
    cluster
}

#[test]
fn a_segment_that_found_no_room_is_not_tried_again_all_the_time() {
    let mut cluster = without_room(|options| EngineOptions { snapshot_log_bytes_min: u64::MAX, ..in_service(options) });
    let before = cluster.nodes[0].disk.calls(Operation::Create);
    for _ in 0..1_280 {
        cluster.tick();
    }
    let tries = cluster.nodes[0].disk.calls(Operation::Create) - before;
    assert!((1..=10).contains(&tries), "{tries} times in 1,280 ticks");
    cluster.nodes[0].disk.clear_out();
    cluster.tick_until("the log has room", |cluster| !cluster.status(0).storage_full);
}

#[test]
fn a_snapshot_has_the_last_room_for_itself_while_it_is_taken() {
    let mut cluster = Cluster::with_engine_options(1, often);
    cluster.elect(None);
    cluster.nodes[0].snapshots_stalled = true;
    write_many(&mut cluster, 0, 200); // enough that one is due
    cluster.nodes[0].disk.fill_up(0);
    while !cluster.status(0).storage_full {
        cluster.write(0, &upsert("key", &"v".repeat(100)));
        cluster.settle();
    }
    let before = cluster.nodes[0].disk.calls(Operation::Create);
    for _ in 0..1_280 {
        cluster.tick();
    }
    let tries = cluster.nodes[0].disk.calls(Operation::Create) - before;
    assert_eq!(tries, 0, "the log took the room");
    cluster.nodes[0].disk.clear_out();
    cluster.nodes[0].snapshots_stalled = false;
    cluster.tick_until("both have room", |cluster| {
        let status = cluster.status(0);
        !status.storage_full && status.snapshot_index > Index::ZERO
    });
}
