//! A cluster whose nodes have disks of their own, and what can be done to those.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};
use tests::{
    cluster::{Cluster, Options},
    disk::{self, Disk, Memory},
};

/// If it is set to anything, a test that cannot run here fails instead of being skipped.
const REQUIRED_VARIABLE: &str = "DISK_TESTS_REQUIRED";

/// Flags for nodes on disks as small as those here: the default would have more kept free than there is.
pub(crate) const SMALL_DISK: [&str; 2] = ["--space-reserve-bytes", "4194304"];

/// A cluster, and the disks of some or all of its nodes. Dropped, it kills the nodes and leaves nothing mounted.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    disks: BTreeMap<usize, Disk>,
    // Behind the disks, because their files may lie in it.
    memories: Vec<Memory>,
}

impl Rig {
    /// Nodes without disks of their own; none is started.
    pub(crate) fn new(options: &Options) -> Rig {
        Rig { cluster: Cluster::new(options), disks: BTreeMap::new(), memories: Vec::new() }
    }

    /// Nodes that each have a disk of `bytes`, started and ready.
    pub(crate) async fn start(options: &Options, bytes: u64) -> Rig {
        let mut rig = Rig::new(options);
        for number in 0..rig.cluster.nodes.len() {
            rig.add_disk(number, bytes);
        }
        rig.cluster.start_all();
        rig.cluster.ready().await;
        rig
    }

    /// Gives a node that was never started a disk.
    pub(crate) fn add_disk(&mut self, number: usize, bytes: u64) {
        let directory = self.cluster.directory().to_owned();
        self.add_disk_in(&directory, number, bytes);
    }

    /// The same, with the disk's file in memory of which there is less than the disk promises. Where that memory is.
    pub(crate) fn add_disk_in_memory(&mut self, number: usize, bytes: u64, memory_bytes: u64) -> &Path {
        let name = format!("memory-{}", self.cluster.nodes[number].name());
        let memory = Memory::mount(&self.cluster.directory().join(name), memory_bytes);
        self.memories.push(memory);
        let directory = self.memories.last().expect("it was just pushed").mount_point().to_owned();
        self.add_disk_in(&directory, number, bytes);
        self.memories.last().expect("it was just pushed").mount_point()
    }

    fn add_disk_in(&mut self, directory: &Path, number: usize, bytes: u64) {
        let node = &self.cluster.nodes[number];
        let image = directory.join(format!("{}.ext4", node.name()));
        self.disks.insert(number, Disk::create(&image, node.directory(), bytes));
    }

    /// A node's disk.
    pub(crate) fn disk(&mut self, number: usize) -> &mut Disk {
        self.disks.get_mut(&number).expect("the node has a disk of its own")
    }

    /// The power of these nodes goes at one moment: their disks lose what was not synced, their processes are gone.
    pub(crate) fn cut_power(&mut self, nodes: &[usize]) {
        let disks: Vec<&Disk> = nodes.iter().map(|number| &self.disks[number]).collect();
        disk::cut_power(&disks);
        for &number in nodes {
            self.cluster.nodes[number].kill();
        }
    }

    /// How many of these nodes are writing a snapshot.
    pub(crate) fn writing_snapshots(&self, nodes: &[usize]) -> usize {
        let is_writing = |number: &&usize| {
            // A file may come or go while it is listed; it is only counted.
            let entries = fs::read_dir(self.disks[number].mount_point()).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().ends_with(".tmp"))
        };
        nodes.iter().filter(is_writing).count()
    }

    /// The power is back: the disks replay their journals, the nodes start.
    pub(crate) fn restore_power(&mut self, nodes: &[usize]) {
        for &number in nodes {
            self.remount(number);
            self.cluster.nodes[number].start();
        }
    }

    /// Unmounts and mounts the disk of a node that is down.
    pub(crate) fn remount(&mut self, number: usize) {
        let disk = self.disk(number);
        disk.unmount();
        disk.mount();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let is_failing = std::thread::panicking();
        for disk in self.disks.values_mut() {
            // A process that waits for a frozen disk cannot even be killed.
            disk.thaw();
        }
        let crashed: Vec<_> =
            self.cluster.nodes.iter_mut().filter_map(|node| Some((node.name().to_owned(), node.crashed()?))).collect();
        for node in &mut self.cluster.nodes {
            node.kill();
        }
        self.disks.clear();
        self.memories.clear();
        assert!(is_failing || crashed.is_empty(), "ended by themselves: {crashed:?}");
    }
}

/// Whether a test can run here. If not, says so past the test runner's capture of what passing tests print, with a
/// count; or fails, if that was asked for.
pub(crate) fn can_run(test: &str) -> bool {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let Some(obstacle) = disk::obstacle() else { return true };
    assert!(std::env::var_os(REQUIRED_VARIABLE).is_none(), "{test} cannot run here: {obstacle}");
    let skipped = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    writeln!(std::io::stderr(), "SKIPPED ({skipped} so far that need a disk of their own): {test}: {obstacle}").ok();
    false
}
