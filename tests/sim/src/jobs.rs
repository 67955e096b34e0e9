//! What a process has asked of its disk: commits, preparations, reads. They end in any order, whichever was asked for
//! first; only that one commit is under way at a time is the log's own doing.

use engine::disk::{MemoryDisk, Operation};
use engine::snapshot::SnapshotError;
use engine::wal::{WalError, Work};
use engine::{EngineError, LoadError, Output, RepairError, SnapshotWork, TakeError};
use raft::{Entry, Fetch};

use crate::node::{Process, node_id};
use crate::queue::Event;
use crate::violation::Violation;
use crate::world::World;

/// How many reads see the log as it was when they were asked for, in thousandths; the others as it is when they end.
const READ_AT_ONCE: u64 = 500;

/// One thing that the disk was asked for.
#[derive(Debug)]
pub(crate) enum Job {
    /// A commit or a preparation.
    Work(Work),
    /// A read of entries.
    Read {
        fetch: Fetch,
        /// What it found, if it looked at once.
        found: Option<Vec<Entry>>,
        /// It finds nothing: the disk could not read.
        fails: bool,
    },
}

/// What tells from outside whether a segment of the log was prepared, or found no room.
pub(crate) struct SegmentRoom {
    newest: Option<String>,
    calls_out_of_room: u64,
}

impl SegmentRoom {
    pub(crate) fn of(disk: &MemoryDisk) -> SegmentRoom {
        let mut newest = None;
        disk.for_each_file(&mut |name, _| {
            if name.starts_with("wal-") && name.ends_with(".log") {
                newest = Some(name.to_owned());
            }
        });
        SegmentRoom { newest, calls_out_of_room: disk.calls_out_of_room() }
    }

    /// Whether a segment has found no room since; nothing if none was prepared either.
    pub(crate) fn lacks_segment(&self, disk: &MemoryDisk) -> Option<bool> {
        let now = SegmentRoom::of(disk);
        if now.newest > self.newest {
            return Some(false);
        }
        (now.calls_out_of_room > self.calls_out_of_room).then_some(true)
    }
}

impl Process {
    /// Takes a job down. Returns its number: later ones have higher numbers.
    pub(crate) fn submit(&mut self, job: Job) -> u64 {
        self.jobs_begun += 1;
        self.jobs.insert(self.jobs_begun, job);
        self.jobs_begun
    }

    /// Runs what the snapshots' executor has before it, in order, whatever comes of it.
    fn run_snapshots(&mut self, works: &mut Vec<SnapshotWork>) {
        for work in works.drain(..) {
            self.snapshot_executor.run(work);
        }
    }

    /// Runs a commit or a preparation.
    pub(crate) fn run(&mut self, work: Work) -> engine::wal::Completion {
        if work.is_background() { self.background.run(work) } else { self.executor.run(work) }
    }
}

impl World {
    /// Hands the disk what an engine asks of it.
    pub(crate) fn ask_disk(&mut self, number: usize, output: &mut Output) -> Result<(), Violation> {
        for work in std::mem::take(&mut output.work) {
            let disk = &self.settings.disk;
            let delay_us =
                self.disk_random.between(if work.is_background() { disk.prepare_us } else { disk.commit_us });
            if work.is_background() {
                self.coverage.hit("segment rolled");
            }
            if let Some(process) = &mut self.nodes[number].process {
                process.idle_ticks = 0;
            }
            self.submit(number, Job::Work(work), delay_us);
        }
        for fetch in std::mem::take(&mut output.fetches) {
            self.coverage.hit("fetch from disk");
            let delay_us = self.disk_random.between(self.settings.disk.read_us);
            let fails = self.faults && self.disk_random.chance(self.settings.disk.read_failures);
            let at_once = !fails && self.disk_random.chance(READ_AT_ONCE);
            let found = if at_once { Some(self.read(number, fetch)?) } else { None };
            self.submit(number, Job::Read { fetch, found, fails }, delay_us);
        }
        Ok(())
    }

    fn submit(&mut self, number: usize, job: Job, delay_us: u64) {
        let node = &mut self.nodes[number];
        let life = node.life;
        let Some(process) = &mut node.process else { return };
        let job = process.submit(job);
        self.queue.push(self.now_us + delay_us, Event::JobDone { node: number, life, job });
    }

    /// Reads entries back from the log.
    fn read(&self, number: usize, fetch: Fetch) -> Result<Vec<Entry>, Violation> {
        let node = &self.nodes[number];
        let Some(process) = &node.process else { return Ok(Vec::new()) };
        match process.reader.read(fetch.from, fetch.bytes_max) {
            Ok(entries) => Ok(entries),
            Err(WalError::Io { .. }) if node.expects_disk_error => Ok(Vec::new()),
            Err(error) => {
                let reason = crate::drive::chain(&error);
                Err(Violation::Stopped { node: node_id(number), reason })
            }
        }
    }

    /// The disk has done a job, unless it stalls.
    pub(crate) fn job_done(&mut self, number: usize, life: u64, job: u64) -> Result<(), Violation> {
        let node = &mut self.nodes[number];
        if node.life != life {
            return Ok(());
        }
        let stalled = node.stalled.is_some();
        let Some(process) = &mut node.process else { return Ok(()) };
        if stalled {
            process.owed.push(job);
            return Ok(());
        }
        let Some(done) = process.jobs.remove(&job) else { return Ok(()) };
        if process.jobs.first_key_value().is_some_and(|(earliest, _)| *earliest < job) {
            self.coverage.hit(match &done {
                Job::Work(work) if work.is_background() => "completion overtook an earlier one: preparation",
                Job::Work(_) => "completion overtook an earlier one: commit",
                Job::Read { .. } => "completion overtook an earlier one: read",
            });
        }
        match done {
            Job::Work(work) => {
                let before = work.is_background().then(|| SegmentRoom::of(&node.disk));
                let completion = process.run(work);
                if let Some(lacks_segment) = before.and_then(|before| before.lacks_segment(&node.disk)) {
                    self.observer.storage_full.prepared(number, lacks_segment);
                }
                if let Err(error) = process.engine.completed(completion) {
                    return self.stopped(number, &error);
                }
            }
            Job::Read { fetch, found, fails } => {
                let entries = match found {
                    _ if fails => {
                        self.coverage.hit("fetch failed");
                        Vec::new()
                    }
                    Some(entries) => entries,
                    None => self.read(number, fetch)?,
                };
                if let Some(process) = &mut self.nodes[number].process {
                    process.engine.fetched(fetch, entries);
                }
            }
        }
        self.drain(number)
    }

    /// A process ends while its disk has work: of the calls that the disk still had to make, some are made. Reads leave
    /// no trace.
    pub(crate) fn abandon_jobs(&mut self, number: usize, mut process: Process) {
        let jobs = std::mem::take(&mut process.jobs).into_values();
        let mut works: Vec<Work> =
            jobs.filter_map(|job| if let Job::Work(work) = job { Some(work) } else { None }).collect();
        if !works.is_empty() {
            self.coverage.hit("crash while the disk works");
        }
        // Most often a write without its sync.
        self.nodes[number].disk.halt_after(self.disk_random.pick(&[0, 1, 1, 1, 2, 3, 4, 6]));
        let mut snapshot_works: Vec<_> = std::mem::take(&mut process.snapshot_jobs).into();
        self.note_abandoned(&snapshot_works);
        if process.is_resetting {
            self.coverage.hit("crash between a snapshot's installation and the log's reset");
        }
        let snapshots_first = self.disk_random.chance(500);
        if snapshots_first {
            process.run_snapshots(&mut snapshot_works);
        }
        if self.disk_random.chance(300) {
            works.reverse();
        }
        for work in works {
            process.run(work);
        }
        process.run_snapshots(&mut snapshot_works);
    }

    /// The jobs that a stalled disk had to leave lie before it again, in any order.
    pub(crate) fn pay_owed(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let life = node.life;
        let owed = node.process.as_mut().map(|process| std::mem::take(&mut process.owed)).unwrap_or_default();
        let owes_snapshot = node.process.as_mut().is_some_and(|process| std::mem::take(&mut process.owes_snapshot));
        if owes_snapshot {
            self.queue.push(self.now_us, Event::SnapshotDone { node: number, life });
        }
        for at in self.disk_random.shuffled(owed.len()) {
            self.queue.push(self.now_us, Event::JobDone { node: number, life, job: owed[at] });
        }
    }

    /// Whether an error is one of the disk that had to be expected.
    pub(crate) fn is_expected(&self, number: usize, error: &EngineError) -> bool {
        let node = &self.nodes[number];
        is_full(error) && node.full.is_some() || is_io(error) && node.expects_disk_error
    }
}

fn is_io(error: &EngineError) -> bool {
    io_error(error).is_some()
}

/// What the disk said, if it is the disk that failed.
fn io_error(error: &EngineError) -> Option<std::io::ErrorKind> {
    match error {
        EngineError::Wal(WalError::Io { source, .. })
        | EngineError::Snapshot(SnapshotError::Io { source, .. })
        | EngineError::Load(LoadError::File(SnapshotError::Io { source, .. }))
        | EngineError::Take(TakeError::Snapshot(SnapshotError::Io { source, .. })) => Some(source.kind()),
        EngineError::Repair(RepairError::Io { source, .. })
        | EngineError::Take(TakeError::Repair(RepairError::Io { source, .. })) => Some(source.kind()),
        _ => None,
    }
}

/// Whether an error says that the disk is full.
pub(crate) fn is_full(error: &EngineError) -> bool {
    io_error(error) == Some(std::io::ErrorKind::StorageFull)
}

/// Which calls of the log fail on a disk that is full, for a moment, with how many of them may come before. It never
/// changes the length of a file.
pub(crate) const CALLS_FULL: [(Operation, u64); 3] =
    [(Operation::Write, 20), (Operation::Write, 3), (Operation::Create, 2)];
