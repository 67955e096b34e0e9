//! Acknowledged writes survive power cuts: of one node, of two, of all at one moment, and again while they start.

use crate::{
    ballast::Ballast,
    rig::{Rig, SMALL_DISK, can_run},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::time::{Duration, Instant};
use tests::{
    clients::{Clients, Workload},
    cluster::Options,
    recorder::{Least, Recorder},
};

/// How often the power is cut, unless the variable says otherwise.
const CUTS: usize = 5;
const CUTS_VARIABLE: &str = "POWER_CUTS";

/// How often it is cut while a cluster starts for the first time.
const FIRST_STARTS: usize = 4;

const DISK_BYTES: u64 = 64 << 20;

/// Small, so that several begin and end between two cuts.
const SEGMENT_BYTES: u64 = 256 << 10;

/// The least that can be asked, so that snapshots are taken, and the log cut, all the time.
const SNAPSHOT_LOG_BYTES: &str = "65536";

/// Writes of the recorded clients, and large ones, that are acknowledged between two cuts at least.
const WRITES_PER_ROUND: u64 = 20;
const LARGE_WRITES_PER_ROUND: u64 = 60;

/// What the verdict over so many cuts has to rest on at least, for each cut.
const LEAST_PER_CUT: Least = Least { definite: 40, overlapping: 10 };

const WORKLOAD: Workload = Workload { clients: 4, keys: 2, operations_per_generation: 50 };

/// Within this time of a start the power is cut for a second time, somewhere.
const START_MS: u64 = 400;

fn options() -> Options {
    Options { segment_bytes: Some(SEGMENT_BYTES), ..Options::default() }
        .with_flags(&SMALL_DISK)
        .with_flags(&["--snapshot-log-bytes", SNAPSHOT_LOG_BYTES])
}

/// Whose power is cut: mostly everybody's, which is the only thing that can lose what a majority has synced.
fn victims(cut: usize, leader: usize) -> Vec<usize> {
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    match cut % 5 {
        1 => vec![leader],
        3 => vec![leader, others[0]],
        4 => vec![others[0]],
        _ => vec![leader, others[0], others[1]],
    }
}

/// A moment that is another one each time: the power goes whenever it goes. Nothing waits for anything here.
async fn whenever(random: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..START_MS))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_power_cuts() {
    if !can_run("power cuts") {
        return;
    }
    let cuts = std::env::var(CUTS_VARIABLE).map_or(CUTS, |text| text.parse().expect("POWER_CUTS is a number"));
    let mut random = StdRng::seed_from_u64(1);
    let mut rig = Rig::start(&options(), DISK_BYTES).await;
    let recorder = Recorder::new("power-cuts");
    let clients = Clients::start(&rig.cluster, &recorder, WORKLOAD);
    let mut ballast = Ballast::start(&rig.cluster);
    let started = Instant::now();
    let (mut disks_cut, mut in_snapshots) = (0, 0);
    for cut in 0..cuts {
        let leader = rig.cluster.ready().await;
        clients.progress(WRITES_PER_ROUND).await;
        ballast.progress(LARGE_WRITES_PER_ROUND).await;
        let victims = victims(cut, leader);
        in_snapshots += rig.writing_snapshots(&victims);
        rig.cut_power(&victims);
        disks_cut += victims.len();
        if victims.len() == 1 {
            // The majority goes on meanwhile.
            clients.progress(WRITES_PER_ROUND / 2).await;
        }
        rig.restore_power(&victims);
        if cut % 3 == 2 {
            whenever(&mut random).await;
            rig.cut_power(&victims);
            disks_cut += victims.len();
            rig.restore_power(&victims);
        }
        rig.cluster.ready().await;
        ballast.verify(&rig.cluster).await;
    }
    clients.progress(WRITES_PER_ROUND).await;
    clients.finish().await;
    ballast.finish().await;
    ballast.verify(&rig.cluster).await;
    recorder.read_every_key(&rig.cluster).await;
    let Least { definite, overlapping } = LEAST_PER_CUT;
    recorder.judge(Least { definite: cuts * definite, overlapping: cuts * overlapping });
    rig.cluster.put(0, "last", "v").await.expect("the key is new");
    rig.cluster.converged().await;
    for (_, status) in rig.cluster.statuses().await.expect("every node answers") {
        let is_cut = status.snapshot_index > 0 && status.first_index > 1;
        assert!(is_cut, "{} took no snapshot and cut no log: {status:?}", status.name);
    }
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{cuts} power cuts, {disks_cut} disks hit, {in_snapshots} while a snapshot was written, in {seconds:.0} s"
    );
}

#[tokio::test]
async fn a_power_cut_during_the_first_start_leaves_nodes_that_start() {
    if !can_run("power cuts during the first start") {
        return;
    }
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..FIRST_STARTS {
        let mut rig = Rig::new(&options());
        let all: Vec<usize> = (0..rig.cluster.nodes.len()).collect();
        for &number in &all {
            rig.add_disk(number, DISK_BYTES);
        }
        rig.cluster.start_all();
        whenever(&mut random).await;
        rig.cut_power(&all);
        rig.restore_power(&all);
        rig.cluster.ready().await;
        rig.cluster.put(0, "k", "v").await.expect("the key is new");
        assert_eq!(rig.cluster.get(1, "k").await.expect("it was acknowledged"), "v");
    }
}
