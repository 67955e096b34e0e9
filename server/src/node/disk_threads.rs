//! The threads that do the disk's work, so that the loop never waits for it.
//!
//! One thread commits, alone and in order, because an acknowledgement waits for it; one prepares segments; one reads
//! old entries for followers that are behind; one reads and writes snapshots, and one asks how much room is left. Order
//! holds within a thread, not between them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use engine::disk::Disk;
use engine::wal::{Completion, Executor, Reader, Work};
use engine::{SnapshotCompletion, SnapshotExecutor, SnapshotWork};
use raft::{Entry, Fetch};
use tokio::sync::mpsc;
use tracing::warn;

use super::disk_space::watch_space;
use super::snapshot_thread::run_paced;
use crate::telemetry::Pulse;
use crate::timed_disk::{SyncTime, take_last_sync};

/// The log has at most one commit and one preparation under way, and the core one fetch a follower; ten times that.
const WAITING_MAX: usize = 64;

/// Something that a disk thread has finished.
pub(super) enum Done {
    /// Work of the log; if it was a batch of entries, when.
    Work(Completion, Option<BatchTime>),
    /// Old entries for a follower; none if they could not be read.
    Fetched(Fetch, Vec<Entry>),
    /// Work of the snapshots.
    Snapshot(SnapshotCompletion),
    /// The disk has so many bytes left.
    FreeBytes(u64),
}

/// When a batch was written to the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchTime {
    /// When the thread began with it.
    pub(super) begun: Instant,
    /// When it was synced.
    pub(super) sync: SyncTime,
    /// Its size in bytes.
    pub(super) bytes: u64,
}

/// What the threads work with.
pub(super) struct DiskParts {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) executor: Executor,
    pub(super) reader: Reader,
    pub(super) snapshot_executor: SnapshotExecutor,
    /// The sign of life of the thread that commits.
    pub(super) pulse: Arc<Pulse>,
}

/// The threads' ends that the loop holds. Dropping it lets them finish what they have and end.
pub(super) struct DiskThreads {
    commits: SyncSender<Work>,
    preparations: SyncSender<Work>,
    fetches: SyncSender<Fetch>,
    /// Not bounded by itself: see [`DiskThreads::submit_snapshot`].
    snapshots: Sender<SnapshotWork>,
    threads: Vec<JoinHandle<()>>,
    /// Those that nothing waits for at the end.
    side_threads: Vec<JoinHandle<()>>,
    /// Dropped to end the side threads.
    stop: [Sender<Infallible>; 2],
}

/// A disk thread has ended, which it does only by a panic.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a disk thread has ended or no longer takes work")]
pub struct DiskThreadsStuck;

impl DiskThreads {
    /// Starts the threads; what they finish arrives on the receiver.
    ///
    /// # Errors
    ///
    /// Fails if the system gives no thread.
    pub(super) fn start(parts: DiskParts) -> std::io::Result<(Self, mpsc::Receiver<Done>)> {
        let DiskParts { disk, executor, reader, snapshot_executor, pulse } = parts;
        let (done, receiver) = mpsc::channel(WAITING_MAX);
        let background = executor.background();
        let (commits, commit_work) = sync_channel(WAITING_MAX);
        let (preparations, preparation_work) = sync_channel(WAITING_MAX);
        let (fetches, fetch_work) = sync_channel(WAITING_MAX);
        let (snapshots, snapshot_work) = channel();
        let ((stop_snapshots, snapshots_stopped), (stop_space, space_stopped)) = (channel(), channel());
        let threads = vec![
            spawn("wal-commit", work_loop(executor, commit_work, done.clone(), pulse))?,
            spawn("wal-prepare", work_loop(background, preparation_work, done.clone(), Arc::default()))?,
            spawn("wal-read", fetch_loop(reader, fetch_work, done.clone()))?,
        ];
        let side_threads = vec![
            spawn("snapshot", snapshot_loop(snapshot_executor, snapshot_work, snapshots_stopped, done.clone()))?,
            spawn("disk-space", space_loop(disk, space_stopped, done))?,
        ];
        let stop = [stop_snapshots, stop_space];
        Ok((Self { commits, preparations, fetches, snapshots, threads, side_threads, stop }, receiver))
    }

    /// Makes sure that the threads run.
    ///
    /// # Errors
    ///
    /// Fails if one has ended.
    pub(super) fn check(&self) -> Result<(), DiskThreadsStuck> {
        let ended = self.threads.iter().chain(&self.side_threads).any(JoinHandle::is_finished);
        if ended { Err(DiskThreadsStuck) } else { Ok(()) }
    }

    /// Hands over work of the log.
    ///
    /// # Errors
    ///
    /// Fails if the thread has ended.
    pub(super) fn submit(&self, work: Work) -> Result<(), DiskThreadsStuck> {
        let thread = if work.is_background() { &self.preparations } else { &self.commits };
        thread.try_send(work).map_err(|_| DiskThreadsStuck)
    }

    /// Asks for old entries. False: there is no room; the core asks again.
    pub(super) fn fetch(&self, fetch: Fetch) -> Result<bool, DiskThreadsStuck> {
        match self.fetches.try_send(fetch) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Disconnected(_)) => Err(DiskThreadsStuck),
        }
    }

    /// Hands over work of the snapshots. None of it may be lost, so it waits without a bound here: whoever hands it
    /// over takes nothing that makes more of it while much is under way.
    ///
    /// # Errors
    ///
    /// Fails if the thread has ended.
    pub(super) fn submit_snapshot(&self, work: SnapshotWork) -> Result<(), DiskThreadsStuck> {
        self.snapshots.send(work).map_err(|_| DiskThreadsStuck)
    }

    /// Lets the threads finish what they have of the log, and waits for that. Their results have to be taken meanwhile.
    /// A snapshot is left where it is: the next start finds it as after a crash, and nothing was promised of it.
    pub(super) fn stop(self) {
        let Self { commits, preparations, fetches, snapshots, threads, side_threads: _, stop } = self;
        drop((commits, preparations, fetches, stop, snapshots));
        for thread in threads {
            if thread.join().is_err() {
                warn!("a disk thread panicked");
            }
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(body)
}

fn work_loop(
    mut executor: Executor,
    work: Receiver<Work>,
    done: mpsc::Sender<Done>,
    pulse: Arc<Pulse>,
) -> impl FnOnce() + Send {
    move || {
        for work in work {
            pulse.beat();
            let (begun, bytes) = (Instant::now(), work.commit_bytes());
            let completion = executor.run(work);
            pulse.rest();
            let sync = take_last_sync();
            let batch = bytes.zip(sync).map(|(bytes, sync)| BatchTime { begun, sync, bytes });
            if done.blocking_send(Done::Work(completion, batch)).is_err() {
                return;
            }
        }
    }
}

fn fetch_loop(reader: Reader, fetches: Receiver<Fetch>, done: mpsc::Sender<Done>) -> impl FnOnce() + Send {
    move || {
        for fetch in fetches {
            let entries = reader.read(fetch.from, fetch.bytes_max).unwrap_or_else(|error| {
                warn!(%error, from = fetch.from.get(), "old entries could not be read for a follower");
                Vec::new()
            });
            if done.blocking_send(Done::Fetched(fetch, entries)).is_err() {
                return;
            }
        }
    }
}

fn snapshot_loop(
    mut executor: SnapshotExecutor,
    work: Receiver<SnapshotWork>,
    stopped: Receiver<Infallible>,
    done: mpsc::Sender<Done>,
) -> impl FnOnce() + Send {
    move || {
        run_paced(&work, &stopped, SnapshotWork::is_unhurried, |work| {
            done.blocking_send(Done::Snapshot(executor.run(work))).is_ok()
        });
    }
}

fn space_loop(disk: Arc<dyn Disk>, stopped: Receiver<Infallible>, done: mpsc::Sender<Done>) -> impl FnOnce() + Send {
    move || watch_space(|| disk.free_bytes(), &stopped, |bytes| done.blocking_send(Done::FreeBytes(bytes)).is_ok())
}
