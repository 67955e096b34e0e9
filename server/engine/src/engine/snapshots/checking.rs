//! Reads a snapshot that has its name once more, in steps: whether it is still what was written.

use raft::Index;

use crate::disk::Disk;
use crate::snapshot::{Reader, SnapshotError, Stored};

/// How many bytes one step reads, about: what waits behind it is a piece for a peer, and that is no larger.
const STEP_BYTES: u64 = 1 << 20;

/// A snapshot that is being read.
pub(super) struct Checking {
    stored: Stored,
    /// Once it was opened.
    reader: Option<Reader>,
}

impl Checking {
    /// Nothing is read yet.
    pub(super) fn new(stored: Stored) -> Checking {
        Checking { stored, reader: None }
    }

    /// The last index that the snapshot covers.
    pub(super) fn index(&self) -> Index {
        self.stored.index
    }

    /// Takes the next step. `None` at the end, if all was right.
    pub(super) fn step(mut self, disk: &dyn Disk) -> Result<Option<Checking>, SnapshotError> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::open(disk, &self.stored.name)?,
        };
        let until = reader.read_bytes() + STEP_BYTES;
        while reader.next_chunk()?.is_some() {
            if reader.read_bytes() >= until {
                self.reader = Some(reader);
                return Ok(Some(self));
            }
        }
        Ok(None)
    }
}
