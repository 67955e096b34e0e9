//! A disk whose syncs take longer than they do, for measurements: the disk of a machine at hand may sync in a tenth of
//! a millisecond, where the volume of a cloud takes several.
//!
//! The extra time passes after the real sync and before its caller goes on, on the thread that asked for it, as a
//! slower device's would. What is durable when, and what fails, stays as it is. Of the disk only the latency changes,
//! not how much it takes in at once: syncs on several threads pass their extra time beside each other.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use engine::disk::{Disk, File};

/// The longest extra time of a sync that makes sense: slower disks are broken ones, and leaders give way on them.
pub(crate) const SYNC_DELAY_MS_MAX: u64 = 1_000;

/// What passes the extra time of one sync.
type Pause = Arc<dyn Fn() + Send + Sync>;

/// A disk with an extra time for each sync of a file or of the directory.
pub(crate) struct SlowDisk {
    disk: Arc<dyn Disk>,
    pause: Pause,
}

impl SlowDisk {
    /// Makes each sync of `disk` take longer by `delay`.
    pub(crate) fn new(disk: Arc<dyn Disk>, delay: Duration) -> Self {
        Self { disk, pause: Arc::new(move || thread::sleep(delay)) }
    }

    fn slow(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(SlowFile { file, pause: Arc::clone(&self.pause) })
    }
}

impl Disk for SlowDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.disk.open(name).map(|file| self.slow(file))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.disk.create(name).map(|file| self.slow(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn sync_directory(&self) -> io::Result<()> {
        let result = self.disk.sync_directory();
        (self.pause)();
        result
    }
}

struct SlowFile {
    file: Box<dyn File>,
    pause: Pause,
}

impl File for SlowFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.file.sync_data();
        (self.pause)();
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

    /// What was not durable yet at the beginning of each pause, as numbers of changes.
    #[derive(Default)]
    struct Pauses(Mutex<Vec<usize>>);

    impl Pauses {
        fn disk(self: &Arc<Self>, memory: &MemoryDisk) -> SlowDisk {
            let (pauses, seen) = (Arc::clone(self), memory.clone());
            let pause = move || pauses.0.lock().expect("no test panics with it").push(seen.unsynced().len());
            SlowDisk { disk: Arc::new(memory.clone()), pause: Arc::new(pause) }
        }

        fn take(&self) -> Vec<usize> {
            std::mem::take(&mut *self.0.lock().expect("no test panics with it"))
        }
    }

    #[test]
    fn every_sync_pauses_once_and_after_the_real_one() {
        let (memory, pauses) = (MemoryDisk::new(), Arc::new(Pauses::default()));
        let disk = pauses.disk(&memory);
        let file = disk.create("log").expect("it can be created");
        file.write_all_at(0, b"entry").expect("it can be written");
        assert!(pauses.take().is_empty(), "nothing was synced");
        disk.sync_directory().expect("it can be synced");
        assert_eq!(pauses.take(), [1], "the file's bytes were not synced with its name");
        file.sync_data().expect("it can be synced");
        assert_eq!(pauses.take(), [0], "the bytes were durable before the extra time began");
        disk.open("log").expect("it is there").sync_data().expect("it can be synced");
        assert_eq!(pauses.take(), [0], "a file that was opened is as slow");
    }

    #[test]
    fn nothing_else_pauses() {
        let (memory, pauses) = (MemoryDisk::new(), Arc::new(Pauses::default()));
        let disk = pauses.disk(&memory);
        let file = disk.create("log").expect("it can be created");
        file.write_all_at(0, b"entry").expect("it can be written");
        file.set_len(4).expect("it can be cut");
        let mut bytes = [0; 5];
        assert_eq!(file.read_at(0, &mut bytes).expect("it can be read"), 4);
        assert_eq!((file.len().expect("it has a length"), &bytes[..4]), (4, &b"entr"[..]));
        disk.rename("log", "old").expect("it can be renamed");
        assert_eq!(disk.list().expect("it can be listed"), ["old"]);
        disk.remove("old").expect("it can be removed");
        disk.free_bytes().expect("there is room");
        assert!(pauses.take().is_empty());
    }

    #[test]
    fn a_sync_that_fails_is_told_and_is_as_slow() {
        let (memory, pauses) = (MemoryDisk::new(), Arc::new(Pauses::default()));
        let disk = pauses.disk(&memory);
        let file = disk.create("log").expect("it can be created");
        memory.fail(Operation::SyncData, 1, Fault::Error(io::ErrorKind::Other));
        assert!(file.sync_data().is_err());
        assert_eq!(pauses.take().len(), 1);
    }

    #[test]
    fn the_extra_time_passes() {
        let memory: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let delay = Duration::from_millis(2);
        let before = std::time::Instant::now();
        SlowDisk::new(memory, delay).sync_directory().expect("it can be synced");
        // Not a bound on the machine's speed: nobody wakes early.
        assert!(before.elapsed() >= delay);
    }
}
