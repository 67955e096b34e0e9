//! A disk in memory whose syncs of data can be held up.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use engine::disk::{Disk, File, MemoryDisk};

/// The disk. While its gate is closed, no sync of data ends.
#[derive(Clone, Default)]
pub(crate) struct GatedDisk {
    pub(crate) memory: MemoryDisk,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl GatedDisk {
    pub(crate) fn close(&self) {
        self.set(true);
    }

    pub(crate) fn open(&self) {
        self.set(false);
    }

    fn set(&self, closed: bool) {
        *self.gate.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.gate.opened.notify_all();
    }

    fn gated(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(GatedFile { file, gate: Arc::clone(&self.gate) })
    }
}

impl Disk for GatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.memory.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(self.gated(self.memory.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        Ok(self.gated(self.memory.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.memory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.memory.remove(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.memory.free_bytes()
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.memory.sync_directory()
    }
}

struct GatedFile {
    file: Box<dyn File>,
    gate: Arc<Gate>,
}

impl File for GatedFile {
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
        let closed = self.gate.closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.gate.opened.wait_while(closed, |closed| *closed).unwrap_or_else(PoisonError::into_inner));
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}
