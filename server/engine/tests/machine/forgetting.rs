//! What damage made a node forget: it knows that it has, however often the power fails while it starts, and until it
//! has everything again. And what a start refuses, it leaves as it is.

use std::sync::Arc;

use engine::disk::{Disk, MemoryDisk};
use engine::snapshot::{self, Meta};
use engine::{Engine, EngineError, EngineOptions, Opened, ReplayError};
use raft::{Index, Term};

use crate::cluster::{Cluster, node_id, options, small_options};
use crate::snapshots::{damage, often, snapshots_of, write_many};

fn open(disk: &MemoryDisk, number: usize, size: usize) -> Result<Opened, EngineError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Engine::open(&disk, often(options(node_id(number), size, small_options)))
}

/// A node of three that is down, and the term up to which it had promised something.
struct Down {
    number: usize,
    disk: MemoryDisk,
    term: Term,
}

impl Down {
    fn of(mut cluster: Cluster, leader: usize) -> (Cluster, Down) {
        cluster.converge();
        let number = (leader + 1) % 3;
        cluster.engine(number).idle();
        cluster.settle();
        let term = cluster.status(number).raft.current_term;
        cluster.crash(number);
        let disk = cluster.nodes[number].disk.clone();
        (cluster, Down { number, disk, term })
    }

    /// All of its snapshots are damaged, and its log begins behind them.
    fn without_snapshots() -> Down {
        let mut cluster = Cluster::with_engine_options(3, often);
        let leader = cluster.elect(None);
        write_many(&mut cluster, leader, 2_000);
        let (cluster, down) = Down::of(cluster, leader);
        for stored in snapshots_of(&cluster, down.number) {
            damage(&cluster, down.number, &stored.name);
        }
        down
    }

    /// Its log is damaged in the middle.
    fn with_a_damaged_log() -> Down {
        let never = |options| EngineOptions { snapshot_log_bytes_min: u64::MAX, ..often(options) };
        let mut cluster = Cluster::with_engine_options(3, never);
        let leader = cluster.elect(None);
        write_many(&mut cluster, leader, 400);
        let (cluster, down) = Down::of(cluster, leader);
        let names = down.disk.list().expect("the disk works");
        let segments: Vec<&String> = names.iter().filter(|name| name.ends_with(".log")).collect();
        assert!(segments.len() > 4, "{names:?}");
        damage(&cluster, down.number, segments[segments.len() / 2 - 1]);
        down
    }

    /// It starts on this disk, and knows that it has forgotten something.
    fn assert_recovering(&self, disk: &MemoryDisk, what: &str) {
        let opened = open(disk, self.number, 3);
        let status = opened.unwrap_or_else(|error| panic!("{what}: {error}")).engine.status();
        assert!(status.recovering, "{what}: it does not know that it has forgotten: {status:?}");
        assert!(status.raft.current_term > self.term, "{what}: a leader may count what it has forgotten: {status:?}");
    }

    /// Cuts the power at each step of its start, in several ways, and starts it again.
    fn assert_recovering_after_power_cuts(&self) {
        let whole = self.disk.fork();
        self.assert_recovering(&whole, "a start");
        let steps = whole.changes() - self.disk.changes();
        assert!(steps > 8, "{steps} steps");
        for step in 0..=steps {
            for choice in 0..4 {
                let disk = self.disk.fork();
                disk.halt_after(step);
                let _ = open(&disk, self.number, 3);
                let mut luck = step + choice;
                disk.crash(&mut |_| {
                    luck = luck.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    choice == 1 || (choice > 1 && luck >> 63 == 0)
                });
                let what = format!("step {step}, choice {choice}");
                self.assert_recovering(&disk, &what);
                disk.crash(&mut |_| false);
                self.assert_recovering(&disk, &format!("{what}, once more"));
            }
        }
    }
}

#[test]
fn a_node_without_its_snapshots_knows_at_every_later_start_that_it_has_forgotten() {
    Down::without_snapshots().assert_recovering_after_power_cuts();
}

#[test]
fn a_power_cut_while_a_damaged_log_is_cut_forgets_nothing_more() {
    Down::with_a_damaged_log().assert_recovering_after_power_cuts();
}

/// A node that is alone, and down.
fn alone() -> Cluster {
    let mut cluster = Cluster::with_engine_options(1, often);
    let leader = cluster.elect(None);
    write_many(&mut cluster, leader, 2_000);
    cluster.crash(0);
    cluster
}

#[test]
fn a_start_that_is_refused_keeps_the_damaged_snapshots() {
    // Whoever knows better than this program may still make something of them.
    let cluster = alone();
    let stored = snapshots_of(&cluster, 0);
    stored.iter().for_each(|stored| damage(&cluster, 0, &stored.name));
    let disk = &cluster.nodes[0].disk;
    let contents: Vec<_> = stored.iter().map(|stored| disk.contents(&stored.name)).collect();
    assert!(matches!(open(disk, 0, 1).map(|_| ()), Err(EngineError::Load(_))));
    assert_eq!(stored.iter().map(|stored| disk.contents(&stored.name)).collect::<Vec<_>>(), contents);
}

#[test]
fn a_snapshot_that_contradicts_what_the_log_committed_is_no_beginning() {
    // E5, at a start: it is whole, but its last entry is of another term than the one that was committed.
    let cluster = alone();
    let disk = &cluster.nodes[0].disk;
    let newest = snapshots_of(&cluster, 0).pop().expect("it has one");
    let mut reader = snapshot::Reader::open(disk, &newest.name).expect("it is sound");
    let Meta { index, mut term_starts } = reader.meta().clone();
    let last_term = term_starts.last().map_or(Term::ZERO, |(_, term)| *term);
    term_starts.push((index, last_term.next().expect("there is a later term")));
    let mut writer = snapshot::Writer::begin(disk, &Meta { index, term_starts }).expect("the terms rise");
    while let Some(chunk) = reader.next_chunk().expect("it is sound") {
        writer.section(chunk.tag, chunk.bytes).expect("the disk works");
    }
    let mut verification =
        snapshot::Verification::begin(disk, writer.finish().expect("the disk works")).expect("it is whole");
    assert!(verification.step(u64::MAX).expect("it is whole"));
    let verified = verification.finish().expect("it is whole").expect("it was read to its end");
    snapshot::publish(disk, &verified).expect("the disk works");
    let error = open(disk, 0, 1).map(|_| ()).expect_err("one of the two is wrong");
    let contradicted = |at: Index| ReplayError::SnapshotContradicted { index: at };
    assert!(matches!(error, EngineError::Replay(found) if found == contradicted(index)), "{error:?}");
}
