//! Followers that fetch a snapshot, and what keeps them from it: no room, damage, leaders that go on meanwhile.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;

use engine::disk::{Disk, Fault, Operation};
use engine::side::SideBody;
use engine::{EngineOptions, snapshot};
use raft::{Index, Term};

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
fn whose_snapshot_is_of_no_use_is_told_and_another_member_is_asked() {
    let (mut cluster, leader, follower) = with_one_behind();
    let newest = snapshots_of(&cluster, leader).pop().expect("it has two");
    damage(&cluster, leader, &newest.name);
    cluster.join(follower);
    cluster.tick_until("it has another's", |cluster| cluster.installed.contains(&follower));
    let told = cluster.unusable.clone();
    let [(who, unusable)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((*who, unusable.from, unusable.index), (follower, Some(node_id(leader)), newest.index));
    assert!(unusable.why.contains("is damaged at byte"), "{}", unusable.why);
    assert!(parts(&cluster, follower).is_empty(), "what was of no use is still there");
    assert_same_state(&mut cluster);
}

#[test]
fn a_leader_whose_snapshot_went_bad_finds_out_and_takes_another_although_nothing_is_written() {
    let (mut cluster, leader, follower) = with_one_behind();
    let other = 3 - leader - follower;
    for number in [leader, other] {
        for stored in snapshots_of(&cluster, number) {
            damage(&cluster, number, &stored.name);
        }
    }
    let rotten = snapshots_of(&cluster, leader).pop().expect("it has two").index;
    cluster.join(follower);
    cluster.tick_until("it has one that is sound", |cluster| cluster.installed.contains(&follower));
    let own = cluster.unusable.iter().find(|(who, _)| *who == leader).expect("it did not find out");
    assert_eq!((own.1.from, own.1.index), (None, rotten));
    assert_same_state(&mut cluster);
    // What is left of the old ones is removed, and all that is there now is whole.
    for stored in snapshots_of(&cluster, leader) {
        let whole = snapshot::Reader::open(&cluster.nodes[leader].disk, &stored.name).and_then(|mut reader| {
            while reader.next_chunk()?.is_some() {}
            Ok(())
        });
        assert!(whole.is_ok() || stored.index < rotten, "{whole:?}");
    }
    cluster.crash(leader);
    cluster.start(leader);
    assert_same_state(&mut cluster);
}

/// Puts a snapshot that is whole, but has these terms and this besides, in the place of a node's newest.
fn forge(cluster: &Cluster, number: usize, term_starts: Option<Vec<(Index, Term)>>, section: Option<u32>) {
    let disk = &cluster.nodes[number].disk;
    let newest = snapshots_of(cluster, number).pop().expect("it has one");
    let mut reader = snapshot::Reader::open(disk, &newest.name).expect("it is sound");
    let meta = reader.meta().clone();
    let meta = snapshot::Meta { term_starts: term_starts.unwrap_or(meta.term_starts), ..meta };
    let mut writer = snapshot::Writer::begin(disk, &meta).expect("the disk works");
    while let Some(chunk) = reader.next_chunk().expect("it is sound") {
        writer.section(chunk.tag, chunk.bytes).expect("the disk works");
    }
    if let Some(tag) = section {
        writer.section(tag, b"what only a later version knows").expect("the disk works");
    }
    let mut verification =
        snapshot::Verification::begin(disk, writer.finish().expect("it works")).expect("it is whole");
    assert!(verification.step(u64::MAX).expect("it is whole"));
    snapshot::publish(disk, &verification.finish().expect("it is whole").expect("at its end")).expect("the disk works");
}

#[test]
fn what_nobody_can_use_is_asked_for_less_and_less_often() {
    let (mut cluster, leader, follower) = with_one_behind();
    let other = 3 - leader - follower;
    [leader, other].into_iter().for_each(|number| forge(&cluster, number, None, Some(9_999)));
    let begins = count_begins(&mut cluster, follower);
    cluster.join(follower);
    for _ in 0..4_000 {
        cluster.tick();
        assert!(parts(&cluster, follower).is_empty(), "it is of no use");
    }
    // Twice in each round, and the pauses are 200, 400, 800 and 1,600 ticks long.
    assert!((6..=12).contains(&begins.get()), "{} times in 4,000 ticks", begins.get());
    assert_eq!(cluster.unusable.len() as u64, begins.get(), "each is told");
    assert!(cluster.unusable.iter().all(|(who, unusable)| *who == follower && unusable.why.contains("9999")));
    assert!(!cluster.installed.contains(&follower));
    // The next snapshot is another one: the pause ends, and it is asked for.
    write_many(&mut cluster, leader, 1_000);
    assert_same_state(&mut cluster);
}

#[test]
fn what_the_core_refuses_is_told_and_does_not_stay() {
    let (mut cluster, leader, follower) = with_one_behind();
    let no_term_of_this_cluster = vec![(Index::new(1), Term::new(u64::MAX / 2))];
    forge(&cluster, leader, Some(no_term_of_this_cluster), None);
    cluster.join(follower);
    cluster.tick_until("it has another's", |cluster| cluster.installed.contains(&follower));
    let told = cluster.unusable.clone();
    assert!(
        matches!(told.as_slice(), [(who, one)] if *who == follower && one.from == Some(node_id(leader))),
        "{told:?}"
    );
    assert!(told[0].1.why.contains("contradicts"), "{told:?}");
    assert_same_state(&mut cluster);
    cluster.crash(follower);
    cluster.start(follower);
    assert_same_state(&mut cluster);
}

#[test]
fn a_snapshot_that_cannot_be_read_for_a_follower_is_replaced() {
    let (mut cluster, leader, follower) = with_one_behind();
    let newest = snapshots_of(&cluster, leader).pop().expect("it has two");
    cluster.nodes[leader].disk.fail(Operation::Read, 2, Fault::Error(ErrorKind::Other));
    cluster.join(follower);
    assert_same_state(&mut cluster);
    assert!(cluster.installed.contains(&follower));
    let told = cluster.unusable.clone();
    let [(who, unusable)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((*who, unusable.from, unusable.index), (leader, None, newest.index));
    assert!(unusable.why.starts_with(&format!("read {}", newest.name)), "{}", unusable.why);
    assert!(cluster.status(leader).snapshot_index > newest.index, "the old one is still in use");
    assert!(snapshots_of(&cluster, leader).iter().all(|stored| stored.index != newest.index));
}
