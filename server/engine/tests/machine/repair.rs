//! Nodes that lost part of what they had promised: what they need before they start, and what ends their silence.

use std::sync::Arc;

use engine::disk::{Damage, Disk, MemoryDisk};
use engine::side::SideBody;
use engine::wal::{self, Place, WalError, WalOptions};
use engine::{Engine, EngineError, EngineOptions, Opened, Remedy, Repair, ReplayError};
use raft::Index;

use crate::cluster::{Cluster, node_id, options, small_options};
use crate::snapshots::{damage, often, snapshots_of, write_many};

/// Snapshots never, and small segments.
fn log_only(options: EngineOptions) -> EngineOptions {
    EngineOptions { snapshot_log_bytes_min: u64::MAX, ..often(options) }
}

/// Opens a node that is known to be a member: its log has to be there.
fn open(disk: &MemoryDisk, number: usize, size: usize, how: fn(EngineOptions) -> EngineOptions) -> Opening {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut options = how(options(node_id(number), size, small_options));
    options.wal = WalOptions { must_exist: true, ..options.wal };
    Engine::open(&disk, options)
}

type Opening = Result<Opened, EngineError>;

/// The names and contents of all files.
fn files(disk: &MemoryDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.list().expect("the disk works");
    names.into_iter().map(|name| (name.clone(), disk.contents(&name))).collect()
}

fn segments(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.list().expect("the disk works");
    names.into_iter().filter(|name| name.ends_with(".log")).collect()
}

fn note(disk: &MemoryDisk) -> Option<Repair> {
    Repair::read(disk).expect("it is sound")
}

/// A node of a cluster of `size` that stopped with some log, whose end proves its term.
fn stopped(size: usize, how: fn(EngineOptions) -> EngineOptions) -> (Cluster, usize) {
    let mut cluster = Cluster::with_engine_options(size, how);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 700);
    cluster.converge();
    let victim = (leader + 1) % size;
    cluster.engine(victim).idle();
    cluster.settle();
    cluster.crash(victim);
    (cluster, victim)
}

#[test]
fn a_log_is_not_cut_where_nobody_can_lead_without_this_node() {
    for (size, repairs) in [(1, false), (2, false), (3, true)] {
        let (cluster, victim) = stopped(size, log_only);
        let disk = &cluster.nodes[victim].disk;
        let names = segments(disk);
        damage(&cluster, victim, &names[names.len() / 2 - 1]);
        let before = files(disk);
        match open(disk, victim, size, log_only) {
            Ok(Opened { damage, .. }) => {
                assert!(repairs, "of {size} nodes none has a leader any more");
                assert!(matches!(damage.as_slice(), [one] if matches!(one.remedy, Remedy::Fetched { .. })));
            }
            Err(error) => {
                assert!(!repairs && matches!(error, EngineError::Wal(WalError::Corrupt { .. })), "{size}: {error:?}");
                assert!(files(disk) == before, "of {size} nodes one refuses to start, and changes files");
            }
        }
    }
}

#[test]
fn a_log_that_is_gone_is_missed_although_a_repair_is_under_way() {
    let (cluster, victim) = stopped(3, log_only);
    let disk = &cluster.nodes[victim].disk;
    // Nothing sound is left: the log is begun anew.
    disk.plant(&segments(disk)[0], vec![0; 8 << 10]);
    assert!(open(disk, victim, 3, log_only).expect("the rest proves its term").engine.status().recovering);
    let repair = note(disk).expect("it recovers");
    assert_eq!(repair.cut, None, "the cut has ended");
    disk.restart();
    assert!(open(disk, victim, 3, log_only).expect("nothing happened meanwhile").engine.status().recovering);
    // By now it may have acknowledged anything.
    disk.restart();
    segments(disk).iter().for_each(|name| assert!(disk.lose(name)));
    let error = open(disk, victim, 3, log_only).err();
    assert!(matches!(error, Some(EngineError::Wal(WalError::Missing))), "{error:?}");
    assert_eq!(note(disk), Some(repair));
}

#[test]
fn a_crash_at_every_step_of_a_repair_ends_in_the_same_repair() {
    let (cluster, victim) = stopped(3, log_only);
    let names = segments(&cluster.nodes[victim].disk);
    for damaged in [0, names.len() / 2 - 1] {
        let disk = cluster.nodes[victim].disk.fork();
        disk.plant(&names[damaged], vec![0; 8 << 10]);
        let whole = disk.fork();
        let last_index =
            open(&whole, victim, 3, log_only).expect("the rest proves its term").engine.raft().last_index();
        let repair = note(&whole);
        let steps = whole.changes() - disk.changes();
        assert!(steps > 10 && repair.is_some(), "{steps} steps to {repair:?}");
        for step in 0..steps {
            for survives in [false, true] {
                let disk = disk.fork();
                disk.halt_after(step);
                assert!(open(&disk, victim, 3, log_only).is_err(), "step {step}");
                disk.crash(&mut |_| survives);
                let again = open(&disk, victim, 3, log_only).unwrap_or_else(|error| panic!("step {step}: {error:?}"));
                let status = again.engine.status();
                assert_eq!((status.recovering, status.raft.last_index), (true, last_index), "step {step}");
                assert_eq!(note(&disk), repair, "step {step}");
            }
        }
    }
}

/// The records of a damaged log before the damage, in the segment that has it.
fn records_before(disk: &MemoryDisk, damaged: Place) -> Vec<Place> {
    let mut places = Vec::new();
    let read = wal::inspect::<WalError>(disk, &mut |record| {
        places.push(record.place);
        Ok(())
    });
    assert!(read.is_ok() || matches!(read, Err(WalError::Corrupt { .. })), "{read:?}");
    places.retain(|place| place.segment == damaged.segment && *place < damaged);
    places
}

#[test]
fn what_goes_bad_before_a_cut_that_a_crash_interrupts_is_cut_off_too() {
    let (cluster, victim) = stopped(3, log_only);
    let names = segments(&cluster.nodes[victim].disk);
    damage(&cluster, victim, &names[names.len() / 2 - 1]);
    let disk = &cluster.nodes[victim].disk;
    let whole = disk.fork();
    open(&whole, victim, 3, log_only).expect("the rest proves its term");
    let repair = note(&whole);
    let mut interrupted = 0;
    for step in 0..whole.changes() - disk.changes() {
        let disk = disk.fork();
        disk.halt_after(step);
        assert!(open(&disk, victim, 3, log_only).is_err(), "step {step}");
        disk.crash(&mut |_| true);
        let Some(cut) = note(&disk).and_then(|repair| repair.cut) else { continue };
        interrupted += 1;
        let records = records_before(&disk, cut);
        assert!(records.len() > 10, "{records:?}");
        for place in records.iter().step_by(4) {
            let disk = disk.fork();
            disk.damage(&place.file(), &Damage::FlippedBit { offset: place.offset + 9, bit: 3 });
            let again = open(&disk, victim, 3, log_only);
            let opened = again.unwrap_or_else(|error| panic!("step {step}, then damage at {place}: {error:?}"));
            assert!(opened.engine.status().recovering, "step {step}, then damage at {place}");
            assert_eq!(note(&disk), repair, "step {step}, then damage at {place}");
        }
    }
    assert!(interrupted > 5, "{interrupted} steps of a cut");
}

#[test]
fn a_snapshot_ends_a_repair_only_when_the_log_durably_goes_on_behind_it() {
    let (mut cluster, victim) = stopped(3, often);
    // A later term, and nothing left of the log that the victim could go on with.
    let leader = cluster.elect(None);
    cluster.isolate(leader);
    cluster.tick_until("nobody leads", |cluster| !cluster.engine(leader).raft().is_leader());
    cluster.heal();
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 1_000);
    for stored in snapshots_of(&cluster, victim) {
        damage(&cluster, victim, &stored.name);
    }
    cluster.start(victim);
    let promised = note(&cluster.nodes[victim].disk).expect("it recovers").forgotten_term;
    // It has found its leader, and is about to fetch, when its log stands still.
    cluster.lose_side(|message| matches!(message.body, SideBody::SnapshotChunk { .. }));
    (0..50).for_each(|_| cluster.tick());
    cluster.nodes[victim].log_stalled = true;
    cluster.heal();
    cluster.tick_until("it has a snapshot", |cluster| cluster.installed.contains(&victim));
    (0..100).for_each(|_| cluster.tick());
    let status = cluster.status(victim);
    assert!(status.recovering && status.snapshot_index > Index::ZERO, "{status:?}");
    assert!(note(&cluster.nodes[victim].disk).is_some_and(|repair| repair.forgotten_term == promised));
    // The power fails, and the only snapshot goes bad.
    cluster.crash(victim);
    for stored in snapshots_of(&cluster, victim) {
        damage(&cluster, victim, &stored.name);
    }
    cluster.start(victim);
    assert!(cluster.status(victim).recovering, "it cannot know what it has promised");
    cluster.tick_until("it has everything again", |cluster| !cluster.status(victim).recovering);
    cluster.settle();
    assert_eq!(note(&cluster.nodes[victim].disk), None);
}

#[test]
fn a_start_that_is_refused_for_want_of_a_snapshot_writes_nothing() {
    for size in [1, 2] {
        for gone in [false, true] {
            let mut cluster = Cluster::with_engine_options(size, often);
            let leader = cluster.elect(None);
            write_many(&mut cluster, leader, 2_000);
            cluster.crash(0);
            for stored in snapshots_of(&cluster, 0) {
                if gone {
                    assert!(cluster.nodes[0].disk.lose(&stored.name));
                } else {
                    damage(&cluster, 0, &stored.name);
                }
            }
            let disk = &cluster.nodes[0].disk;
            let before = files(disk);
            let error = open(disk, 0, size, often).err().expect("it has nothing to start with");
            let is_missing = matches!(error, EngineError::Replay(ReplayError::SnapshotMissing { .. }));
            assert!(if gone { is_missing } else { matches!(error, EngineError::Load(_)) }, "{error:?}");
            assert!(files(disk) == before, "of {size} nodes one refuses to start, and changes files");
        }
    }
}
