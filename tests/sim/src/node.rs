//! One node: its disk, its clock, and the process that runs on it, if one does.

use std::collections::{BTreeMap, VecDeque};

use engine::disk::MemoryDisk;
use engine::wal::{Executor, Reader};
use engine::{Engine, SnapshotExecutor, SnapshotWork};
use raft::{Index, NodeId};

use crate::clock::NodeClock;
use crate::jobs::Job;
use crate::queue::Event;
use crate::rot::Rot;

/// For so long the bound on what a node has on its disk does not count after the disk was full, in microseconds.
const FULL_FOR_US: u64 = 40_000_000;

/// After a snapshot that found no room an engine takes no other one for so many of its longest election timeouts.
pub(crate) const SNAPSHOT_WAITS_TIMEOUTS: u64 = 10;

/// The name of the node of this number.
pub(crate) fn node_id(number: usize) -> NodeId {
    NodeId::new(number as u64 + 1).expect("it is at least 1")
}

/// The number of a node's name.
pub(crate) fn node_number(id: NodeId) -> usize {
    usize::try_from(id.get() - 1).expect("names are small numbers here")
}

/// A machine.
pub(crate) struct Node {
    pub(crate) disk: MemoryDisk,
    pub(crate) clock: NodeClock,
    /// The process, while one runs.
    pub(crate) process: Option<Process>,
    /// Numbers the processes, so that what belonged to an earlier one is told apart.
    pub(crate) life: u64,
    /// Numbers the pauses; `Some` while one lasts.
    pub(crate) paused: Option<u64>,
    pub(crate) pauses: u64,
    /// What came while the process was paused.
    pub(crate) deferred: VecDeque<Event>,
    /// Numbers the stalls; `Some` while one lasts.
    pub(crate) stalled: Option<u64>,
    pub(crate) stalls: u64,
    /// Numbers the times when its disk is full; `Some` while one lasts.
    pub(crate) full: Option<u64>,
    pub(crate) fulls: u64,
    /// A call to this disk will fail, so that an error is no surprise.
    pub(crate) expects_disk_error: bool,
    /// Its power fails in its so-manieth step from now on.
    pub(crate) doomed_in: Option<u64>,
    /// Its power fails in its so-manieth piece of work on a snapshot from now on.
    pub(crate) doomed_snapshot_in: Option<u64>,
    /// Only if that is not one of its own.
    pub(crate) doomed_at_peers: bool,
    /// When its disk was full last, or a snapshot waited because it had been, in microseconds of the run.
    pub(crate) full_us: Option<u64>,
    /// For so many ticks more of its process a snapshot waits that found no room, be it for a single call.
    pub(crate) snapshot_waits_ticks: u64,
    /// What has gone bad on its disk.
    pub(crate) rot: Vec<Rot>,
    /// Its state was changed behind its back.
    pub(crate) is_forged: bool,
    /// Snapshots before that of this index hold nothing that the log would lead on from.
    pub(crate) alone_up_to: Index,
    /// A damaged part of its log was cut off.
    pub(crate) was_cut: bool,
    /// What was dropped from its log since it applied anything, in bytes of entries: no snapshot covers it yet.
    pub(crate) dropped_bytes: usize,
    /// It is not to be started again.
    pub(crate) held_down: bool,
}

/// A running process.
pub(crate) struct Process {
    pub(crate) engine: Engine,
    pub(crate) executor: Executor,
    pub(crate) background: Executor,
    pub(crate) reader: Reader,
    /// What the disk has to do, in the order in which it was asked for.
    pub(crate) jobs: BTreeMap<u64, Job>,
    /// What the snapshots' executor has to do, in order; the first is under way.
    pub(crate) snapshot_jobs: VecDeque<SnapshotWork>,
    pub(crate) snapshot_executor: SnapshotExecutor,
    /// The first of them is done, but for the disk that stalls.
    pub(crate) owes_snapshot: bool,
    /// How many jobs there were.
    pub(crate) jobs_begun: u64,
    /// Jobs whose time has come while the disk stalls.
    pub(crate) owed: Vec<u64>,
    /// Where in which snapshot it last asked whom for a piece.
    pub(crate) asked: Option<(Option<Index>, u64, NodeId)>,
    /// How many files had been removed or renamed when the disk was last looked at.
    pub(crate) disposals: u64,
    /// Ticks since the process began.
    pub(crate) ticks: u64,
    /// The log was reset to a snapshot, and that may not be on the disk yet.
    pub(crate) is_resetting: bool,
    /// Ticks since the log was last written.
    pub(crate) idle_ticks: u32,
}

impl Node {
    /// A new machine with an empty disk.
    pub(crate) fn new(clock: NodeClock) -> Node {
        Node {
            disk: MemoryDisk::new(),
            clock,
            process: None,
            life: 0,
            paused: None,
            pauses: 0,
            deferred: VecDeque::new(),
            stalled: None,
            stalls: 0,
            full: None,
            fulls: 0,
            expects_disk_error: false,
            doomed_in: None,
            doomed_snapshot_in: None,
            doomed_at_peers: false,
            full_us: None,
            snapshot_waits_ticks: 0,
            rot: Vec::new(),
            is_forged: false,
            alone_up_to: Index::ZERO,
            was_cut: false,
            dropped_bytes: 0,
            held_down: false,
        }
    }

    /// A tick of its process passed.
    pub(crate) fn ticked(&mut self, now_us: u64) {
        if self.snapshot_waits_ticks > 0 {
            self.snapshot_waits_ticks -= 1;
            self.full_us = Some(now_us);
        }
    }

    /// Whether there may be no more on its disk than it needs. While a snapshot waits for room the log grows, and what
    /// grew is removed a segment at a time, in turns with what is prepared meanwhile.
    pub(crate) fn is_disk_bounded(&self, now_us: u64) -> bool {
        let was_full = self.full_us.is_some_and(|full_us| now_us < full_us + FULL_FOR_US);
        self.full.is_none() && !self.expects_disk_error && !was_full
    }

    /// Its power will fail after so many pieces of work on snapshots, or on those of its peers only.
    pub(crate) fn doom_in_snapshot(&mut self, at_peers: bool, works: u64) {
        self.doomed_at_peers = at_peers;
        self.doomed_snapshot_in = Some(works);
    }

    /// Whether something on its disk that counts has gone bad.
    pub(crate) fn is_rotten(&self) -> bool {
        self.rot.iter().any(Rot::counts)
    }

    /// Whether a process runs and is not paused.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some() && self.paused.is_none()
    }

    /// Whether the process that runs believes that it leads.
    pub(crate) fn leads(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.engine.raft().is_leader())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_found_no_room_waits_for_ticks_of_its_process() {
        let mut node = Node::new(NodeClock::new(0));
        node.ticked(1_000);
        assert!(node.is_disk_bounded(1_000), "nothing has happened");
        node.snapshot_waits_ticks = 2;
        node.ticked(2_000);
        // It stands still for longer than anything is forgiven.
        let later_us = 2 * FULL_FOR_US;
        node.ticked(later_us);
        assert!(!node.is_disk_bounded(later_us), "the snapshot has waited until now");
        node.ticked(later_us + 1_000);
        assert!(!node.is_disk_bounded(later_us + FULL_FOR_US - 1), "its log may not be gone yet");
        assert!(node.is_disk_bounded(later_us + FULL_FOR_US));
    }
}
