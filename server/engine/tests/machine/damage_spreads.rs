//! A peer that serves what is damaged, or cannot read what it is asked for: nobody else is harmed, and in the end
//! everybody has everything.

use std::io::ErrorKind;

use engine::disk::{Fault, Operation};

use crate::cluster::Cluster;
use crate::snapshots::{assert_same_state, damage, often, snapshots_of, write_many};

/// A cluster, its leader, and a follower that needs a snapshot from it. It hears nobody yet.
fn with_one_behind() -> (Cluster, usize, usize) {
    let mut cluster = Cluster::with_engine_options(3, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 100);
    let follower = (leader + 1) % 3;
    cluster.isolate(follower);
    write_many(&mut cluster, leader, 2_000);
    assert!(cluster.status(leader).first_index > cluster.status(follower).raft.last_index, "nothing was cut");
    (cluster, leader, follower)
}

#[test]
fn a_damaged_snapshot_that_is_served_is_not_taken_over() {
    let (mut cluster, leader, follower) = with_one_behind();
    for stored in snapshots_of(&cluster, leader) {
        damage(&cluster, leader, &stored.name);
    }
    let made = cluster.nodes[follower].disk.calls(Operation::Create);
    cluster.join(follower);
    for _ in 0..100 {
        cluster.tick();
    }
    assert!(cluster.nodes[follower].disk.calls(Operation::Create) > made, "it fetched none");
    assert!(!cluster.installed.contains(&follower), "it took over what is damaged");
    assert!(snapshots_of(&cluster, follower).iter().all(|stored| stored.index <= cluster.status(follower).applied));
    // The next ones that the leader takes are sound.
    write_many(&mut cluster, leader, 1_000);
    assert_same_state(&mut cluster);
    assert!(cluster.installed.contains(&follower));
}

#[test]
fn a_piece_that_cannot_be_read_stops_nobody() {
    let (mut cluster, leader, follower) = with_one_behind();
    let disk = &cluster.nodes[leader].disk;
    let read = disk.calls(Operation::Read);
    (1..=3).for_each(|nth| disk.fail(Operation::Read, nth, Fault::Error(ErrorKind::Other)));
    cluster.join(follower);
    cluster.tick_until("it has a snapshot", |cluster| cluster.installed.contains(&follower));
    assert!(cluster.nodes[leader].disk.calls(Operation::Read) > read + 3, "no read failed");
    assert_same_state(&mut cluster);
}
