//! What a full disk costs snapshots: time, and nothing else.

use engine::Answer;
use engine::disk::Disk;

use crate::cluster::{Cluster, upsert};
use crate::snapshots::{assert_same_state, often, snapshots_of, write_many};

#[test]
fn a_snapshot_that_finds_no_room_leaves_nothing_behind() {
    let mut cluster = Cluster::with_engine_options(1, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 500);
    let disk = cluster.nodes[leader].disk.clone();
    let stored = snapshots_of(&cluster, leader);
    assert_eq!(stored.len(), 2);
    disk.fill_up(1_000);
    let refused = |cluster: &mut Cluster| {
        let ticket = cluster.write(leader, &upsert("key0", &"v".repeat(100)));
        cluster.settle();
        cluster.answers_to(ticket) == [Answer::StorageFull]
    };
    assert!((0..500).any(|_| refused(&mut cluster)), "it has room for everything");
    // Because of the lack of room one is due soon, and finds none either. So the older one makes way for the next, as
    // the newer one is sound.
    for _ in 0..40 {
        cluster.tick();
    }
    assert_eq!(snapshots_of(&cluster, leader), stored[1..], "none was tried");
    let names = disk.list().expect("the disk works");
    assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
    disk.clear_out();
    cluster.tick_until("there is room again", |cluster| !refused(cluster));
    cluster.tick_until("the next one is taken", |cluster| snapshots_of(cluster, leader).len() == 2);
    assert_same_state(&mut cluster);
}

/// A leader without a majority gathers entries that the next leader's take the place of: they lie on its disk all the
/// same, and only a snapshot lets go of them.
#[test]
fn what_was_dropped_makes_a_snapshot_due() {
    for restarts in [false, true] {
        let mut cluster = Cluster::with_engine_options(3, often);
        let leader = cluster.elect(None);
        cluster.isolate(leader);
        for number in 0..200 {
            cluster.write(leader, &upsert("key", &format!("{number:0100}")));
            cluster.settle();
        }
        cluster.elect(Some(leader));
        cluster.nodes[leader].snapshots_stalled = restarts;
        cluster.join(leader);
        assert_same_state(&mut cluster);
        if restarts {
            cluster.crash(leader);
            cluster.nodes[leader].snapshots_stalled = false;
            cluster.start(leader);
        }
        cluster.tick_until("a snapshot is taken", |cluster| !snapshots_of(cluster, leader).is_empty());
        assert_eq!((0..3).filter(|number| !snapshots_of(&cluster, *number).is_empty()).count(), 1);
    }
}

#[test]
fn a_start_removes_what_was_never_finished() {
    let mut cluster = Cluster::with_engine_options(1, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 500);
    cluster.crash(leader);
    let disk = cluster.nodes[leader].disk.clone();
    let unfinished = ["tmp", "part"].map(|ending| format!("snapshot-{:020}.{ending}", 499));
    unfinished.iter().for_each(|name| disk.plant(name, vec![1; 1_000]));
    cluster.start(leader);
    let names = disk.list().expect("the disk works");
    assert!(!unfinished.iter().any(|name| names.contains(name)), "{names:?}");
}
