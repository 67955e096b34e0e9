//! A disk that tells what it does and how long each of its syncs took, for metrics and traces.
//!
//! Each sync is told to an observer, and the last one of a thread can be asked for on that thread: whoever has done a
//! piece of the disk's work knows so when its sync was, without the work itself knowing of clocks.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::disk::{Disk, File};

thread_local! {
    static LAST_SYNC: Cell<Option<SyncTime>> = const { Cell::new(None) };
}

/// When a sync was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SyncTime {
    /// When it was asked for.
    pub(crate) begun: Instant,
    /// When it was done, or had failed.
    pub(crate) ended: Instant,
}

/// What hears of what a disk does.
pub(crate) trait DiskObserver: Send + Sync {
    /// A sync of the file of this name took so long, also if it failed.
    fn synced(&self, file: &str, took: Duration);

    /// So much was written to the file of this name.
    fn wrote(&self, file: &str, bytes: usize);

    /// The disk was asked how much room it has left. Whoever asks waits for it anyway.
    fn has_room(&self, free_bytes: u64);
}

/// The last sync of a file on this thread since this was last asked.
pub(crate) fn take_last_sync() -> Option<SyncTime> {
    LAST_SYNC.take()
}

/// A disk that tells what is done with its files.
pub(crate) struct TimedDisk {
    disk: Arc<dyn Disk>,
    observer: Arc<dyn DiskObserver>,
}

impl TimedDisk {
    /// Tells `observer` of what is done with the files on `disk`.
    pub(crate) fn new(disk: Arc<dyn Disk>, observer: Arc<dyn DiskObserver>) -> Self {
        Self { disk, observer }
    }

    fn timed(&self, name: &str, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(TimedFile { file, name: name.to_owned(), observer: Arc::clone(&self.observer) })
    }
}

impl Disk for TimedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.disk.open(name).map(|file| self.timed(name, file))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.disk.create(name).map(|file| self.timed(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes().inspect(|bytes| self.observer.has_room(*bytes))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }
}

struct TimedFile {
    file: Box<dyn File>,
    name: String,
    observer: Arc<dyn DiskObserver>,
}

impl File for TimedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(offset, bytes).inspect(|()| self.observer.wrote(&self.name, bytes.len()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let begun = Instant::now();
        let result = self.file.sync_data();
        let ended = Instant::now();
        LAST_SYNC.set(Some(SyncTime { begun, ended }));
        self.observer.synced(&self.name, ended - begun);
        result
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use engine::disk::{Fault, MemoryDisk, Operation};

    use super::*;

    #[derive(Default)]
    struct Heard {
        syncs: Mutex<Vec<String>>,
        written: Mutex<Vec<(String, usize)>>,
    }

    impl DiskObserver for Heard {
        fn synced(&self, file: &str, _: Duration) {
            self.syncs.lock().expect("no test panics with it").push(file.to_owned());
        }

        fn wrote(&self, file: &str, bytes: usize) {
            self.written.lock().expect("no test panics with it").push((file.to_owned(), bytes));
        }

        fn has_room(&self, _: u64) {}
    }

    #[test]
    fn a_sync_is_told_also_when_it_fails_and_once_to_its_own_thread() {
        let heard = Arc::new(Heard::default());
        let memory = MemoryDisk::new();
        let disk = TimedDisk::new(Arc::new(memory.clone()), heard.clone());
        let file = disk.create("a").expect("the disk is sound");
        file.write_all_at(0, b"x").expect("the disk is sound");
        assert_eq!(take_last_sync(), None);
        let before = Instant::now();
        file.sync_data().expect("the disk is sound");
        std::thread::scope(|scope| {
            let elsewhere = scope.spawn(take_last_sync).join().expect("it does not panic");
            assert_eq!(elsewhere, None);
        });
        let sync = take_last_sync().expect("there was one");
        assert!(before <= sync.begun && sync.begun <= sync.ended);
        assert_eq!(take_last_sync(), None);
        memory.fail(Operation::SyncData, 1, Fault::Error(io::ErrorKind::Other));
        file.sync_data().expect_err("it was to fail");
        assert!(take_last_sync().is_some());
        assert_eq!(*heard.syncs.lock().expect("no test panics with it"), ["a", "a"]);
        assert_eq!(*heard.written.lock().expect("no test panics with it"), [("a".to_owned(), 1)]);
    }
}
