//! The threads that do the disk's work, so that the loop never waits for it.
//!
//! One thread commits, alone and in order, because an acknowledgement waits for it; one prepares segments; one reads
//! old entries for followers that are behind. Order holds within a thread, not between them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use engine::wal::{Completion, Executor, Reader, Work};
use raft::{Entry, Fetch};
use tokio::sync::mpsc;
use tracing::warn;

use crate::telemetry::Pulse;

/// The log has at most one commit and one preparation under way, and the core one fetch a follower; ten times that.
const WAITING_MAX: usize = 64;

/// Something that a disk thread has finished.
pub(super) enum Done {
    /// Work of the log.
    Work(Completion),
    /// Old entries for a follower; none if they could not be read.
    Fetched(Fetch, Vec<Entry>),
}

/// The threads' ends that the loop holds. Dropping it lets them finish what they have and end.
pub(super) struct DiskThreads {
    commits: SyncSender<Work>,
    preparations: SyncSender<Work>,
    fetches: SyncSender<Fetch>,
    threads: Vec<JoinHandle<()>>,
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
    pub(super) fn start(
        executor: Executor,
        reader: Reader,
        pulse: Arc<Pulse>,
    ) -> std::io::Result<(Self, mpsc::Receiver<Done>)> {
        let (done, receiver) = mpsc::channel(WAITING_MAX);
        let background = executor.background();
        let (commits, commit_work) = sync_channel(WAITING_MAX);
        let (preparations, preparation_work) = sync_channel(WAITING_MAX);
        let (fetches, fetch_work) = sync_channel(WAITING_MAX);
        let threads = vec![
            spawn("wal-commit", work_loop(executor, commit_work, done.clone(), pulse))?,
            spawn("wal-prepare", work_loop(background, preparation_work, done.clone(), Arc::default()))?,
            spawn("wal-read", fetch_loop(reader, fetch_work, done))?,
        ];
        Ok((Self { commits, preparations, fetches, threads }, receiver))
    }

    /// Makes sure that the threads run.
    ///
    /// # Errors
    ///
    /// Fails if one has ended.
    pub(super) fn check(&self) -> Result<(), DiskThreadsStuck> {
        if self.threads.iter().any(JoinHandle::is_finished) { Err(DiskThreadsStuck) } else { Ok(()) }
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

    /// Lets the threads finish what they have, and waits for their end. Their results have to be taken meanwhile.
    pub(super) fn stop(self) {
        let Self { commits, preparations, fetches, threads } = self;
        drop((commits, preparations, fetches));
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
            let completion = executor.run(work);
            pulse.rest();
            if done.blocking_send(Done::Work(completion)).is_err() {
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
