//! Looks at the nodes' data directories while a load runs: when each writes a snapshot, and how much room each takes.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// How often a directory is listed: the precision of a snapshot's time.
const INTERVAL: Duration = Duration::from_millis(5);

/// Every so many looks the sizes of the files are added up.
const LOOKS_PER_SIZE: u32 = 100;

/// The unit of a file's blocks, whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// What was seen of one node.
#[derive(Clone, Default, Debug)]
pub(super) struct Seen {
    /// When it wrote snapshots: from the temporary name's appearance until it was gone.
    pub(super) snapshots: Vec<(Instant, Instant)>,
    /// Since when it writes the one that is not finished.
    pub(super) since: Option<Instant>,
    /// The most room that its directory took.
    pub(super) disk_bytes_max: u64,
}

impl Seen {
    fn note(&mut self, now: Instant, is_writing: bool, bytes: u64) {
        self.disk_bytes_max = self.disk_bytes_max.max(bytes);
        match (is_writing, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(since)) => {
                self.snapshots.push((since, now));
                self.since = None;
            }
            _ => {}
        }
    }

    /// Whether it wrote a snapshot at some moment from `begin` to `end`.
    pub(super) fn wrote_between(&self, begin: Instant, end: Instant) -> bool {
        let is_under_way = self.since.is_some_and(|since| since <= end);
        is_under_way || self.snapshots.iter().any(|&(from, to)| from <= end && begin <= to)
    }
}

/// A running watch. Ends when dropped.
pub(super) struct Watch {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    /// Watches these data directories.
    pub(super) fn start(directories: Vec<PathBuf>) -> Watch {
        let seen = Arc::new(Mutex::new(vec![Seen::default(); directories.len()]));
        let stop = Arc::new(AtomicBool::new(false));
        let (into, until) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut looks = 0_u32;
            while !until.load(Ordering::Relaxed) {
                for (number, directory) in directories.iter().enumerate() {
                    let is_size_due = looks.is_multiple_of(LOOKS_PER_SIZE);
                    let now = Instant::now();
                    let (is_writing, bytes) = look(directory, is_size_due);
                    lock(&into)[number].note(now, is_writing, bytes);
                }
                looks = looks.wrapping_add(1);
                thread::sleep(INTERVAL);
            }
        });
        Watch { seen, stop, thread: Some(thread) }
    }

    /// What was seen since the start or the last call, for each directory in the order given.
    pub(super) fn take(&self) -> Vec<Seen> {
        let mut seen = lock(&self.seen);
        let fresh = seen.iter().map(|node| Seen { since: node.since, ..Seen::default() }).collect();
        std::mem::replace(&mut *seen, fresh)
    }

    /// How many snapshots each has finished since the last [`Watch::take`].
    pub(super) fn finished(&self) -> Vec<usize> {
        lock(&self.seen).iter().map(|node| node.snapshots.len()).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only looks; a panic of its own has been printed.
            thread.join().ok();
        }
    }
}

/// Whether a snapshot is being written in a directory, and, if that is asked, how much room all files take.
fn look(directory: &Path, is_size_due: bool) -> (bool, u64) {
    let (mut is_writing, mut bytes) = (false, 0);
    // A node that is being started has none yet, and files come and go: what is not there takes no room.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        is_writing |= name.starts_with("snapshot-") && (name.ends_with(".tmp") || name.ends_with(".old"));
        if is_size_due {
            bytes += entry.metadata().map_or(0, |metadata| metadata.blocks() * BLOCK_BYTES);
        }
    }
    (is_writing, bytes)
}

fn lock(seen: &Mutex<Vec<Seen>>) -> MutexGuard<'_, Vec<Seen>> {
    // Every change is whole before the lock is given back.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
