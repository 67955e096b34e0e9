//! Followers that fetch a snapshot, and what keeps them from it: no room, damage, leaders that go on meanwhile.

use std::cell::Cell;
use std::rc::Rc;

use engine::EngineOptions;
use engine::disk::Disk;
use engine::side::SideBody;

use crate::cluster::{Cluster, node_id};
use crate::snapshots::{assert_same_state, damage, often, snapshots_of, write_many};

/// Snapshots in many pieces.
fn in_pieces(options: EngineOptions) -> EngineOptions {
    EngineOptions { snapshot_chunk_bytes: 1 << 10, ..often(options) }
}

/// The files that are being received.
fn parts(cluster: &Cluster, number: usize) -> Vec<String> {
    let names = cluster.nodes[number].disk.list().expect("the disk works");
    names.into_iter().filter(|name| name.ends_with(".part")).collect()
}

/// A cluster whose leader has cut what one follower, which is isolated, lacks. Returns the two.
fn with_one_behind() -> (Cluster, usize, usize) {
    let mut cluster = Cluster::with_engine_options(3, in_pieces);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    cluster.isolate(follower);
    write_many(&mut cluster, leader, 2_000);
    assert!(cluster.status(leader).first_index > cluster.status(follower).raft.last_index.next(), "nothing was cut");
    (cluster, leader, follower)
}

/// Counts how often the follower begins to fetch, from now on.
fn count_begins(cluster: &mut Cluster, follower: usize) -> Rc<Cell<u64>> {
    let begins = Rc::new(Cell::new(0));
    let counted = Rc::clone(&begins);
    cluster.lose_side(move |message| {
        let begins = matches!(message.body, SideBody::FetchSnapshot { offset: 0, .. });
        if begins && message.from == node_id(follower) {
            counted.set(counted.get() + 1);
        }
        false
    });
    begins
}

#[test]
fn what_came_of_a_snapshot_goes_when_another_is_fetched_instead() {
    let (mut cluster, leader, follower) = with_one_behind();
    // The first pieces come, and then none.
    cluster.lose_side(|message| matches!(message.body, SideBody::SnapshotChunk { offset, .. } if offset > 4 << 10));
    cluster.join(follower);
    cluster.tick_until("some of it came", |cluster| !parts(cluster, follower).is_empty());
    let first = parts(&cluster, follower);
    for _ in 0..20 {
        write_many(&mut cluster, leader, 200);
        (0..20).for_each(|_| cluster.tick());
        assert!(parts(&cluster, follower).len() <= 1, "{:?}", parts(&cluster, follower));
    }
    assert_ne!(parts(&cluster, follower), first, "no other was fetched");
    cluster.heal();
    assert_same_state(&mut cluster);
    assert!(cluster.installed.contains(&follower) && parts(&cluster, follower).is_empty());
}

#[test]
fn a_disk_without_room_for_a_snapshot_is_left_alone_for_a_while_and_then_tried_again() {
    let (mut cluster, _, follower) = with_one_behind();
    let begins = count_begins(&mut cluster, follower);
    cluster.nodes[follower].disk.fill_up(5 << 10);
    cluster.join(follower);
    for _ in 0..1_000 {
        cluster.tick();
        assert!(parts(&cluster, follower).is_empty(), "it takes the last room");
    }
    assert!((2..=6).contains(&begins.get()), "{} times in 1,000 ticks", begins.get());
    cluster.nodes[follower].disk.clear_out();
    assert_same_state(&mut cluster);
    assert!(cluster.installed.contains(&follower));
}

#[test]
fn a_damaged_snapshot_leaves_nothing_behind_and_is_not_fetched_all_the_time() {
    let (mut cluster, leader, follower) = with_one_behind();
    for stored in snapshots_of(&cluster, leader) {
        damage(&cluster, leader, &stored.name);
    }
    let begins = count_begins(&mut cluster, follower);
    cluster.join(follower);
    for _ in 0..1_000 {
        cluster.tick();
        assert!(parts(&cluster, follower).is_empty(), "it is of no use");
    }
    assert!((1..=6).contains(&begins.get()), "{} times in 1,000 ticks", begins.get());
}
