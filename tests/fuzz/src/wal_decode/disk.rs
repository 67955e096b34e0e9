//! A disk that watches how much is read at once: as much memory as that was allocated for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::disk::{Disk, File, MemoryDisk};

/// A disk in memory that remembers the largest read.
#[derive(Clone)]
pub(crate) struct WatchedDisk {
    pub(crate) disk: MemoryDisk,
    largest_read: Arc<AtomicU64>,
}

impl WatchedDisk {
    pub(crate) fn new(disk: MemoryDisk) -> WatchedDisk {
        WatchedDisk { disk, largest_read: Arc::default() }
    }

    /// The largest buffer that was read into, in bytes.
    pub(crate) fn largest_read(&self) -> u64 {
        self.largest_read.load(Ordering::Relaxed)
    }

    fn watch(&self, file: io::Result<Box<dyn File>>) -> io::Result<Box<dyn File>> {
        let largest_read = Arc::clone(&self.largest_read);
        file.map(|file| Box::new(WatchedFile { file, largest_read }) as Box<dyn File>)
    }
}

impl Disk for WatchedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.watch(self.disk.open(name))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.watch(self.disk.create(name))
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
        self.disk.sync_directory()
    }
}

struct WatchedFile {
    file: Box<dyn File>,
    largest_read: Arc<AtomicU64>,
}

impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.largest_read.fetch_max(buffer.len() as u64, Ordering::Relaxed);
        self.file.read_at(offset, buffer)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(offset, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}
