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
    let (mut cluster, _, follower) = with_one_behind();
    // Nobody has a sound one at first.
    for node in (0..3).filter(|node| *node != follower) {
        for stored in snapshots_of(&cluster, node) {
            damage(&cluster, node, &stored.name);
        }
    }
    let made = cluster.nodes[follower].disk.calls(Operation::Create);
    cluster.join(follower);
    cluster.tick_until("it was given one", |cluster| cluster.nodes[follower].disk.calls(Operation::Create) > made);
    assert!(!cluster.installed.contains(&follower), "it took over what is damaged");
    cluster.tick_until("it has a sound one", |cluster| cluster.installed.contains(&follower));
    assert_same_state(&mut cluster);
}

#[test]
fn a_piece_that_cannot_be_read_stops_nobody() {
    let (mut cluster, leader, follower) = with_one_behind();
    let disk = &cluster.nodes[leader].disk;
    let read = disk.calls(Operation::Read);
    disk.fail(Operation::Read, 1, Fault::Error(ErrorKind::Other));
    cluster.join(follower);
    cluster.tick_until("it has a snapshot", |cluster| cluster.installed.contains(&follower));
    assert!(cluster.nodes[leader].disk.calls(Operation::Read) > read, "no read failed");
    assert_same_state(&mut cluster);
}
