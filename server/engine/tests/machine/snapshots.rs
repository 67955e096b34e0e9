//! Snapshots in a cluster: the log is cut, followers that are behind are caught up, restarts begin with them; and what
//! happens when files are damaged, states differ and disks fill up.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use engine::disk::{Damage as Rot, Disk, Fault, Operation};
use engine::kv::{Applied, Command};
use engine::side::{SideBody, SideMessage};
use engine::snapshot;
use engine::{Answer, EngineError, EngineOptions, Remedy};
use raft::Index;

use crate::cluster::{self, Cluster, upsert};

/// Snapshots every few kilobytes of log, and segments so small that the log is soon cut.
pub(crate) fn often(options: EngineOptions) -> EngineOptions {
    let wal = engine::wal::WalOptions { segment_bytes: 8 << 10, ..options.wal };
    EngineOptions { wal, snapshot_log_bytes_min: 16 << 10, space_reserve_bytes: 64 << 10, ..options }
}

pub(crate) fn write_many(cluster: &mut Cluster, leader: usize, count: usize) {
    for number in 0..count {
        cluster.write(leader, &upsert(&format!("key{}", number % 97), &format!("{number:0100}")));
        if number % 10 == 0 {
            cluster.settle();
        }
        if number % 50 == 0 {
            cluster.tick();
        }
    }
    cluster.settle();
}

pub(crate) fn assert_same_state(cluster: &mut Cluster) {
    cluster.converge();
    let hashes: Vec<u128> = (0..cluster.nodes.len()).map(|number| cluster.status(number).state_hash).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "the states differ: {hashes:?}");
}

/// The files of a node's snapshots, oldest first.
pub(crate) fn snapshots_of(cluster: &Cluster, number: usize) -> Vec<snapshot::Stored> {
    snapshot::list(&cluster.nodes[number].disk).expect("the disk works")
}

/// Flips a bit in the middle of a file.
pub(crate) fn damage(cluster: &Cluster, number: usize, name: &str) {
    let disk = &cluster.nodes[number].disk;
    let middle = disk.open(name).and_then(|file| file.len()).expect("the file is there") / 2;
    disk.damage(name, &Rot::FlippedBit { offset: middle, bit: 3 });
}

#[test]
fn the_log_is_cut_behind_two_snapshots_and_a_restart_begins_with_the_newest() {
    let mut cluster = Cluster::with_engine_options(3, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 2_000);
    assert_same_state(&mut cluster);
    for number in 0..3 {
        let (status, stored) = (cluster.status(number), snapshots_of(&cluster, number));
        assert_eq!(stored.len(), 2, "{stored:?}");
        assert_eq!(status.snapshot_index, stored[1].index);
        assert!(status.first_index > Index::new(1) && status.first_index <= stored[0].index.next(), "{status:?}");
        let files = cluster.nodes[number].disk.list().expect("the disk works").len();
        assert!(files < 20, "{files} files are left of a log of a hundred segments");
    }
    let before = cluster.status(leader);
    (0..3).for_each(|number| cluster.crash(number));
    (0..3).for_each(|number| cluster.start(number));
    assert_same_state(&mut cluster);
    assert_eq!(cluster.status(leader).state_hash, before.state_hash);
    let again = cluster.elect(None);
    write_many(&mut cluster, again, 500);
    assert_same_state(&mut cluster);
}

#[test]
fn a_follower_behind_the_cut_catches_up_while_writes_go_on_and_pieces_get_lost() {
    for side_loss in [0, 30, 60] {
        let mut cluster = Cluster::with_engine_options(3, often);
        cluster.side_loss = side_loss;
        let leader = cluster.elect(None);
        write_many(&mut cluster, leader, 100);
        let follower = (leader + 1) % 3;
        cluster.isolate(follower);
        write_many(&mut cluster, leader, 2_000);
        assert!(cluster.status(leader).first_index > cluster.status(follower).raft.last_index, "nothing was cut");
        cluster.join(follower);
        write_many(&mut cluster, leader, 1_000);
        assert_same_state(&mut cluster);
        assert_eq!(cluster.leader(), Some(leader), "the leader changed");
        let stored = snapshots_of(&cluster, follower);
        assert!(!stored.is_empty() && stored[0].index > Index::new(100));
        cluster.crash(follower);
        cluster.start(follower);
        assert_same_state(&mut cluster);
    }
}

#[test]
fn a_damaged_newest_snapshot_costs_nothing_even_a_node_that_is_alone() {
    let mut cluster = Cluster::with_engine_options(1, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 2_000);
    let before = cluster.status(0).state_hash;
    cluster.crash(0);
    let stored = snapshots_of(&cluster, 0);
    damage(&cluster, 0, &stored[1].name);
    cluster.start(0);
    let found = &cluster.nodes[0].running.as_ref().expect("it runs").damage;
    assert!(matches!(found.as_slice(), [one] if one.remedy == Remedy::OlderSnapshot), "{found:?}");
    cluster.elect(None);
    cluster.converge();
    assert_eq!(cluster.status(0).state_hash, before);
}

/// The contents of all files of a node.
fn contents(cluster: &Cluster, number: usize) -> Vec<Option<Vec<u8>>> {
    let disk = &cluster.nodes[number].disk;
    disk.list().expect("the disk works").iter().map(|name| disk.contents(name)).collect()
}

/// Lets the disk refuse the second read from now on: at a start, one of the newest snapshot.
fn refuse_a_read(cluster: &Cluster, number: usize) {
    cluster.nodes[number].disk.fail(Operation::Read, 2, Fault::Error(ErrorKind::Other));
}

#[test]
fn a_newest_snapshot_that_cannot_be_read_is_done_without_and_replaced() {
    let mut cluster = Cluster::with_engine_options(1, often);
    cluster.elect(None);
    write_many(&mut cluster, 0, 2_000);
    let before = cluster.status(0).state_hash;
    cluster.crash(0);
    let stored = snapshots_of(&cluster, 0);
    refuse_a_read(&cluster, 0);
    cluster.start(0);
    let found = cluster.nodes[0].running.as_ref().expect("it runs").damage.clone();
    assert!(matches!(found.as_slice(), [one] if one.remedy == Remedy::OlderSnapshot), "{found:?}");
    assert!(found[0].found.starts_with(&format!("read {}", stored[1].name)), "{found:?}");
    assert_eq!(snapshots_of(&cluster, 0), stored, "what may be sound is not removed");
    cluster.elect(None);
    cluster.converge();
    assert_eq!(cluster.status(0).state_hash, before);
    // Although little was written since, it is not left at one.
    cluster.tick_until("there is another", |cluster| cluster.status(0).snapshot_index > stored[0].index);
    cluster.tick();
    let after = snapshots_of(&cluster, 0);
    assert!(after.len() == 2 && after[0] == stored[0] && after[1] != stored[1], "{after:?}");
    write_many(&mut cluster, 0, 1_000);
    assert_eq!(snapshots_of(&cluster, 0).len(), 2);
}

#[test]
fn nothing_is_given_up_for_a_snapshot_that_cannot_be_read_now() {
    let mut cluster = Cluster::with_engine_options(3, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 2_000);
    cluster.converge();
    let victim = (leader + 1) % 3;
    cluster.crash(victim);
    // The log does not lead on from the only other one.
    let stored = snapshots_of(&cluster, victim);
    damage(&cluster, victim, &stored[0].name);
    refuse_a_read(&cluster, victim);
    let disk: Arc<dyn Disk> = Arc::new(cluster.nodes[victim].disk.clone());
    let before = contents(&cluster, victim);
    let options = || often(cluster::options(cluster::node_id(victim), 3, cluster::small_options));
    let Err(error) = engine::Engine::open(&disk, options()) else { panic!("it gave up its promises") };
    assert!(matches!(&error, EngineError::Load(error) if error.is_unreadable()), "{error:?}");
    assert!(contents(&cluster, victim) == before, "files are changed by a start that is refused");
    let opened = engine::Engine::open(&disk, options()).expect("it can be read again");
    assert!(!opened.engine.status().recovering && opened.damage.is_empty(), "{:?}", opened.damage);
}

#[test]
fn a_node_whose_snapshots_are_all_damaged_fetches_one_and_keeps_out_of_elections_until_then() {
    let mut cluster = Cluster::with_engine_options(3, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 2_000);
    cluster.converge();
    let victim = (leader + 1) % 3;
    cluster.crash(victim);
    for stored in snapshots_of(&cluster, victim) {
        damage(&cluster, victim, &stored.name);
    }
    cluster.start(victim);
    assert!(cluster.status(victim).recovering, "it cannot know what it has promised");
    cluster.isolate(leader);
    for _ in 0..200 {
        cluster.tick();
    }
    let alone = cluster.status(victim);
    assert!(alone.recovering && cluster.leader().is_none_or(|other| other == leader), "it helped to elect somebody");
    cluster.heal();
    cluster.tick_until("it has everything again", |cluster| !cluster.status(victim).recovering);
    assert_same_state(&mut cluster);
    // Whatever it had forgotten stays forgotten if it starts again, and it takes part from then on.
    cluster.crash(victim);
    cluster.start(victim);
    assert!(!cluster.status(victim).recovering);
    let leader = cluster.elect(None);
    cluster.isolate(leader);
    cluster.elect(Some(leader));
}

#[test]
fn a_log_damaged_in_its_middle_is_cut_there_and_fetched_again() {
    let never = |options| EngineOptions { snapshot_log_bytes_min: u64::MAX, ..often(options) };
    let mut cluster = Cluster::with_engine_options(3, never);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 700);
    cluster.converge();
    let victim = (leader + 1) % 3;
    cluster.engine(victim).idle();
    cluster.settle();
    let before = cluster.status(victim);
    cluster.crash(victim);
    let segments: Vec<String> = cluster.nodes[victim]
        .disk
        .list()
        .expect("it works")
        .into_iter()
        .filter(|name| name.ends_with(".log"))
        .collect();
    damage(&cluster, victim, &segments[segments.len() / 2 - 1]);
    cluster.start(victim);
    let found = cluster.nodes[victim].running.as_ref().expect("it runs").damage.clone();
    assert!(matches!(found.as_slice(), [one] if matches!(one.remedy, Remedy::Fetched { .. })), "{found:?}");
    let status = cluster.status(victim);
    assert!(status.recovering && status.raft.last_index < before.raft.last_index, "{status:?}");
    assert!(status.raft.current_term > before.raft.current_term, "a leader may count what it has forgotten");
    cluster.tick_until("it has everything again", |cluster| !cluster.status(victim).recovering);
    assert_same_state(&mut cluster);
}

#[test]
fn a_node_alone_does_not_start_with_what_it_cannot_fetch() {
    let mut cluster = Cluster::with_engine_options(1, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 2_000);
    cluster.crash(0);
    for stored in snapshots_of(&cluster, 0) {
        damage(&cluster, 0, &stored.name);
    }
    let disk: Arc<dyn Disk> = Arc::new(cluster.nodes[0].disk.clone());
    let options = often(cluster::options(cluster::node_id(0), 1, cluster::small_options));
    let Err(error) = engine::Engine::open(&disk, options) else { panic!("it has nothing to start with") };
    assert!(matches!(error, EngineError::Load(_)), "{error:?}");
}

#[test]
fn whoever_differs_from_the_majority_stops_the_leader_included() {
    for leads in [false, true] {
        let mut cluster = Cluster::with_engine_options(3, often);
        let leader = cluster.elect(None);
        write_many(&mut cluster, leader, 1_000);
        cluster.converge();
        let victim = if leads { leader } else { (leader + 1) % 3 };
        cluster.crash(victim);
        forge_newest_snapshot(&cluster, victim);
        cluster.start(victim);
        if leads {
            cluster.elect_only(victim);
        }
        let leader = cluster.elect(None);
        for number in 0..20 {
            // The next one is written when this one was applied: the leader may stop at any.
            if cluster.nodes[leader].running.is_some() {
                cluster.write(leader, &upsert(&format!("key{number}"), "more"));
            }
            cluster.tick();
        }
        let error = cluster.stopped.get(&victim);
        assert!(matches!(error, Some(EngineError::Diverged { by_majority: true, .. })), "{error:?}");
        assert_eq!(cluster.stopped.len(), 1, "the others go on");
        let next = cluster.elect(None);
        assert_ne!(next, victim);
    }
}

/// Replaces a node's newest snapshot by one of a state that differs in one value, but is whole in itself.
fn forge_newest_snapshot(cluster: &Cluster, number: usize) {
    let disk = &cluster.nodes[number].disk;
    let newest = snapshots_of(cluster, number).pop().expect("it has one");
    let mut reader = snapshot::Reader::open(disk, &newest.name).expect("it is sound");
    let meta = reader.meta().clone();
    let mut loader = engine::kv::ImageLoader::new();
    while let Some(chunk) = reader.next_chunk().expect("it is sound") {
        loader.section(chunk.tag, chunk.bytes).expect("it is sound");
    }
    let mut store = loader.finish().expect("it is sound");
    let command =
        engine::kv::command::encode(&upsert("key0", "nobody wrote this").into(), store.time_ms()).expect("valid");
    // The index of an entry that changed nothing, if the last one was not a command; a forger takes what there is.
    store.apply(meta.index.next(), &command).expect("known");
    snapshot::remove(disk, newest.index).expect("the disk works");
    let meta = snapshot::Meta { index: meta.index.next(), ..meta };
    let mut writer = snapshot::Writer::begin(disk, &meta).expect("the disk works");
    let mut image = store.image();
    while let Some(section) = image.next_section().expect("the hash is kept") {
        writer.section(section.tag, section.bytes).expect("the disk works");
    }
    let written = writer.finish().expect("the disk works");
    let mut verification = snapshot::Verification::begin(disk, written).expect("it is whole");
    assert!(verification.step(u64::MAX).expect("it is whole"));
    snapshot::publish(disk, &verification.finish().expect("it is whole").expect("at its end")).expect("the disk works");
}

#[test]
fn a_disk_that_fills_up_refuses_puts_lets_deletes_pass_and_clears_by_itself() {
    let mut cluster = Cluster::with_engine_options(3, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 100);
    cluster.engine(leader).observe_free_bytes(1_000);
    let refused = cluster.write(leader, &upsert("key1", "more"));
    let key = Bytes::from_static(b"key1");
    let deleted = cluster.write(leader, &Command::Delete { key, expected_revision: None, return_previous: false });
    let read = cluster.read(leader, "key2");
    cluster.tick_until("they are answered", |cluster| cluster.answers_to(read).len() == 1);
    assert_eq!(cluster.answers_to(refused), [Answer::StorageFull]);
    assert!(matches!(cluster.answers_to(deleted), [_, Answer::Written(Applied::Deleted { .. })]));
    assert!(cluster.status(leader).storage_full);
    cluster.engine(leader).observe_free_bytes(1 << 30);
    let taken = cluster.write(leader, &upsert("key1", "again"));
    cluster.settle();
    assert!(matches!(cluster.answers_to(taken), [_, Answer::Written(_)]));
}

#[test]
fn a_side_message_for_another_node_is_not_listened_to() {
    let mut cluster = Cluster::with_engine_options(3, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 1_000);
    let [from, to, other] = [(leader + 1) % 3, leader, (leader + 2) % 3].map(cluster::node_id);
    let answers = |cluster: &mut Cluster, to| {
        let body = SideBody::FetchSnapshot { index: None, offset: 0 };
        cluster.engine(leader).side_message(SideMessage { from, to, body });
        !cluster.engine(leader).output().expect("it goes on").snapshot_work.is_empty()
    };
    assert!(!answers(&mut cluster, other));
    assert!(answers(&mut cluster, to));
}
