//! Power cuts between all steps of a node that does everything a node does to its disk: it appends, rolls, votes,
//! truncates, takes snapshots, cuts its log, and installs a peer's snapshot over a log that went astray. Whatever it
//! had said was durable is there, it starts, and it comes to the same state as the others.

use std::io::ErrorKind;

use engine::EngineOptions;
use engine::disk::{Fault, MemoryDisk, Operation, Unsynced};
use engine::wal::WalOptions;

use crate::cluster::{Cluster, node_id, upsert};

/// The node whose power fails.
const VICTIM: usize = 0;

/// Snapshots after a few dozen writes, in segments of a page.
fn small(options: EngineOptions) -> EngineOptions {
    let wal = WalOptions { segment_bytes: 4 << 10, ..options.wal };
    EngineOptions { wal, snapshot_log_bytes_min: 3 << 10, ..options }
}

fn write(cluster: &mut Cluster, count: usize) {
    for number in 0..count {
        let Some(leader) = cluster.leader() else { return };
        cluster.write(leader, &upsert(&format!("key{}", number % 7), &"v".repeat(60 + number % 9)));
        if number % 2 == 1 {
            cluster.tick();
        }
    }
    cluster.tick();
}

/// Lets the victim do everything, on this disk. If the disk stops on the way, it is gone from then on.
fn run(disk: &MemoryDisk) -> Cluster {
    let mut cluster = Cluster::with_engine_options(3, small);
    cluster.nodes[VICTIM].running = None;
    cluster.nodes[VICTIM].disk = disk.clone();
    cluster.nodes[VICTIM].doomed = true;
    cluster.start(VICTIM);
    if cluster.nodes[VICTIM].running.is_some() {
        cluster
            .lose(|message| matches!(message.body, raft::Body::RequestVote { .. }) && message.from != node_id(VICTIM));
        for _ in 0..100 {
            cluster.tick();
        }
        cluster.lose(|_| false);
    }
    cluster.elect(None);
    write(&mut cluster, 80);
    // It goes astray: a leader whose entries nobody else gets, while the others go far ahead and cut their logs.
    cluster.isolate(VICTIM);
    if cluster.nodes[VICTIM].running.is_some() {
        for _ in 0..5 {
            cluster.write(VICTIM, &upsert("astray", "lost"));
        }
    }
    cluster.settle();
    let leads = |cluster: &mut Cluster| cluster.leader().is_some_and(|leader| leader != VICTIM);
    cluster.tick_until("another one leads", leads);
    write(&mut cluster, 300);
    cluster.join(VICTIM);
    for _ in 0..60 {
        cluster.tick();
    }
    write(&mut cluster, 60);
    for _ in 0..40 {
        cluster.tick();
    }
    cluster
}

/// How many ways a power cut goes at each step.
const CHOICES: u64 = 5;

/// What survives of what was not synced: nothing, all, or what luck keeps, a different one for each choice.
fn keeps(choice: u64, luck: &mut u64, _: &Unsynced) -> bool {
    *luck = luck.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(2 * choice + 1);
    match choice {
        0 => false,
        1 => true,
        _ => *luck >> 63 == 0,
    }
}

pub(crate) fn crash_after(steps: u64, choices: u64) {
    let disk = MemoryDisk::new();
    disk.halt_after(steps);
    let cluster = run(&disk);
    let (durable, term) = cluster.nodes[VICTIM].durable;
    for choice in 0..choices {
        let mut again = Cluster::with_disks(small, cluster.nodes.iter().map(|node| node.disk.fork()).collect());
        let mut luck = steps;
        again.nodes[VICTIM].disk.crash(&mut |unsynced| keeps(choice, &mut luck, unsynced));
        (1..3).for_each(|number| again.nodes[number].disk.crash(&mut |_| false));
        (0..3).for_each(|number| again.start(number));
        let status = again.status(VICTIM);
        // What went astray is rightly gone once a snapshot of what was committed instead is in its place.
        let kept = again.engine(VICTIM).raft().term_at(durable) == Some(term) || status.snapshot_index >= durable;
        assert!(kept, "step {steps}, choice {choice}: entry {durable} of term {term} was durable: {status:?}");
        assert!(!status.recovering, "step {steps}, choice {choice}: a crash is no damage");
        again.elect(None);
        write(&mut again, 3);
        again.converge();
        let hashes: Vec<u128> = (0..3).map(|number| again.status(number).state_hash).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "step {steps}, choice {choice}: {hashes:?}");
    }
}

/// Lets a call to the victim's disk fail in the middle of everything, and then the power as well.
pub(crate) fn fail_at(operation: Operation, nth: u64, kind: ErrorKind) -> Failed {
    let disk = MemoryDisk::new();
    disk.fail(operation, nth, Fault::Error(kind));
    let cluster = run(&disk);
    let (durable, term) = cluster.nodes[VICTIM].durable;
    let failed = Failed { stopped: cluster.nodes[VICTIM].running.is_none() };
    let mut again = Cluster::with_disks(small, cluster.nodes.iter().map(|node| node.disk.fork()).collect());
    (0..3).for_each(|number| again.nodes[number].disk.crash(&mut |_| false));
    (0..3).for_each(|number| again.start(number));
    let status = again.status(VICTIM);
    let kept = again.engine(VICTIM).raft().term_at(durable) == Some(term) || status.snapshot_index >= durable;
    assert!(kept, "{operation:?} {nth}, {kind:?}: entry {durable} of term {term} was durable: {status:?}");
    assert!(!status.recovering, "{operation:?} {nth}, {kind:?}: nothing was damaged");
    again.elect(None);
    write(&mut again, 3);
    again.converge();
    failed
}

pub(crate) struct Failed {
    pub(crate) stopped: bool,
}

/// How often the whole run calls the victim's disk in this way.
pub(crate) fn calls_of_whole_run(operation: Operation) -> u64 {
    let disk = MemoryDisk::new();
    run(&disk);
    disk.calls(operation)
}

#[test]
fn a_sync_that_fails_anywhere_stops_the_node_at_once() {
    for operation in [Operation::SyncData, Operation::SyncDirectory] {
        let calls = calls_of_whole_run(operation);
        assert!(calls > 20, "{calls} calls of {operation:?}");
        for nth in 1..=calls {
            let failed = fail_at(operation, nth, ErrorKind::Other);
            assert!(failed.stopped, "{operation:?} {nth}: a sync that failed was taken for one that worked");
        }
    }
}

#[test]
fn a_disk_without_room_at_any_call_loses_nothing_and_a_snapshot_can_wait() {
    for operation in [Operation::Create, Operation::Write] {
        let calls = calls_of_whole_run(operation);
        let went_on = (1..=calls).filter(|nth| !fail_at(operation, *nth, ErrorKind::StorageFull).stopped).count();
        assert!(went_on > 10, "{operation:?}: without room for a snapshot or a next segment a node goes on: {went_on}");
    }
}

#[test]
fn a_call_that_fails_anywhere_loses_nothing() {
    for operation in [Operation::Create, Operation::Rename, Operation::Remove, Operation::Read, Operation::Open] {
        let calls = calls_of_whole_run(operation);
        assert!(calls > 0, "there is no {operation:?}");
        for nth in 1..=calls {
            fail_at(operation, nth, ErrorKind::Other);
        }
    }
}

/// How many changes the whole run makes to the victim's disk; and that it does everything.
pub(crate) fn steps_of_whole_run() -> u64 {
    let disk = MemoryDisk::new();
    let mut cluster = run(&disk);
    let status = cluster.status(VICTIM);
    assert!(status.first_index.get() > 1 && status.snapshot_index.get() > 100, "{status:?}");
    assert!(cluster.installed.contains(&VICTIM), "it installed no snapshot");
    disk.changes()
}

#[test]
fn a_crash_at_every_step_of_everything_loses_nothing() {
    let steps = steps_of_whole_run();
    assert!(steps > 200, "the run does more than {steps} things");
    (0..=steps).for_each(|step| crash_after(step, CHOICES));
}
