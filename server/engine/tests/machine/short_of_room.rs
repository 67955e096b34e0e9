//! Disks without room: what is refused, what makes room again, and what is not tried all the time meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use engine::disk::{Disk, Operation};
use engine::kv::Command;
use engine::wal::WalOptions;
use engine::{Answer, Engine, EngineError, EngineOptions};
use raft::Index;

use crate::cluster::{Cluster, node_id, options, small_options, upsert};
use crate::snapshots::{assert_same_state, damage, often, snapshots_of, write_many};

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

/// Fills a follower's disk, and lets it write until its log has not even room for what is small.
fn fill_to_the_brim(cluster: &mut Cluster, leader: usize, follower: usize) {
    cluster.nodes[follower].disk.fill_up(0);
    while !cluster.status(follower).storage_full || cluster.status(follower).wal_pending_bytes == 0 {
        cluster.write(leader, &upsert("key", ""));
        cluster.settle();
    }
}

/// Takes away what a crash left half made, and all room.
fn leave_no_room(cluster: &Cluster, number: usize) {
    let disk = &cluster.nodes[number].disk;
    for name in disk.list().expect("the disk works") {
        let is_half_made = [".new", ".tmp", ".part"].iter().any(|ending| name.ends_with(ending));
        assert!(!is_half_made || disk.lose(&name));
    }
    disk.fill_up(0);
}

#[test]
fn a_node_with_a_full_disk_starts_with_a_peers_snapshot_in_place_of_its_log() {
    let mut cluster = Cluster::with_engine_options(3, in_service);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    write_many(&mut cluster, leader, 90);
    fill_to_the_brim(&mut cluster, leader, follower);
    cluster.crash(follower);
    assert!(snapshots_of(&cluster, follower).is_empty(), "one that it gives up would be room");
    write_many(&mut cluster, leader, 2_000);
    // A peer's snapshot got its place, and the power failed before the log followed.
    let newest = snapshots_of(&cluster, leader).pop().expect("it has two");
    let bytes = cluster.nodes[leader].disk.contents(&newest.name).expect("it is there");
    cluster.nodes[follower].disk.plant(&newest.name, bytes);
    leave_no_room(&cluster, follower);
    let segments = |cluster: &Cluster| {
        let names = cluster.nodes[follower].disk.list().expect("the disk works");
        names.into_iter().filter(|name| name.ends_with(".log")).count()
    };
    assert!(segments(&cluster) >= 3, "there is nothing to make room of");
    cluster.start(follower);
    let status = cluster.status(follower);
    assert!(!status.recovering && status.raft.last_index == newest.index, "{status:?}");
    cluster.nodes[follower].disk.clear_out();
    assert_same_state(&mut cluster);
}

#[test]
fn a_node_with_a_full_disk_makes_room_for_its_repair() {
    let mut cluster = Cluster::with_engine_options(3, often);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    write_many(&mut cluster, leader, 2_000);
    fill_to_the_brim(&mut cluster, leader, follower);
    cluster.crash(follower);
    for stored in snapshots_of(&cluster, follower) {
        damage(&cluster, follower, &stored.name);
    }
    leave_no_room(&cluster, follower);
    cluster.start(follower);
    assert!(cluster.status(follower).recovering && snapshots_of(&cluster, follower).is_empty());
    cluster.nodes[follower].disk.clear_out();
    cluster.tick_until("it has everything again", |cluster| !cluster.status(follower).recovering);
    assert_same_state(&mut cluster);
}

#[test]
fn a_node_with_a_full_disk_and_nothing_to_spare_says_so_and_starts_when_there_is_room() {
    let never = |options| EngineOptions { snapshot_log_bytes_min: u64::MAX, ..often(options) };
    let mut cluster = Cluster::with_engine_options(3, never);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    write_many(&mut cluster, leader, 700);
    cluster.engine(follower).idle();
    cluster.settle();
    cluster.crash(follower);
    let disk = &cluster.nodes[follower].disk;
    let logs: Vec<_> = disk.list().expect("it works").into_iter().filter(|name| name.ends_with(".log")).collect();
    damage(&cluster, follower, &logs[logs.len() / 2 - 1]);
    disk.fill_up(0);
    let before: Vec<_> = logs.iter().map(|name| disk.contents(name)).collect();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let open = || Engine::open(&shared, never(options(node_id(follower), 3, small_options)));
    let error = open().err().expect("there is no room for the note");
    assert!(error.is_storage_full() && matches!(error, EngineError::Repair(_)), "{error:?}");
    assert!(logs.iter().map(|name| disk.contents(name)).eq(before), "it is cut before that is noted");
    // A segment that was not finished is room.
    disk.clear_out();
    disk.plant("wal-0000009999.new", vec![0; 4_096]);
    disk.fill_up(0);
    assert!(open().expect("there is room").engine.status().recovering);
    assert!(disk.list().expect("it works").iter().all(|name| !name.ends_with(".new")));
}
