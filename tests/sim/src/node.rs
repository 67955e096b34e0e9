//! One node: its disk, its clock, and the process that runs on it, if one does.

use std::collections::VecDeque;

use engine::Engine;
use engine::disk::MemoryDisk;
use engine::wal::{Executor, Reader, Work};
use raft::NodeId;

use crate::clock::NodeClock;
use crate::queue::Event;

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
    /// A call to this disk will fail, so that an error is no surprise.
    pub(crate) expects_disk_error: bool,
    /// Its power fails in its so-manieth step from now on.
    pub(crate) doomed_in: Option<u64>,
    /// It is not to be started again.
    pub(crate) held_down: bool,
}

/// A running process.
pub(crate) struct Process {
    pub(crate) engine: Engine,
    pub(crate) executor: Executor,
    pub(crate) background: Executor,
    pub(crate) reader: Reader,
    /// Commits under way, in order. The first of them is with the disk.
    pub(crate) commits: VecDeque<Work>,
    /// Preparations under way.
    pub(crate) preparations: VecDeque<Work>,
    /// Events that the disk owes because it stalls: whether they are of the background.
    pub(crate) owed: Vec<bool>,
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
            expects_disk_error: false,
            doomed_in: None,
            held_down: false,
        }
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
