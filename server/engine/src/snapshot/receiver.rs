//! Takes a snapshot's file from a peer, piece by piece.

use raft::Index;

use crate::disk::{self, Disk, File};

use super::directory::{RECEIVED, file_name};
use super::writer::Written;
use super::{SYNC_EVERY_BYTES, SnapshotError};

/// A snapshot's file that is being received. Nothing in it is believed: [`super::Verification`] judges it when it is
/// complete. If this is dropped, the file stays behind until [`super::abandon_receiving`] or, at the next start,
/// [`super::remove_leftovers`].
pub struct Receiver {
    file: Box<dyn File>,
    name: String,
    index: Index,
    total_bytes: u64,
    received_bytes: u64,
    unsynced_bytes: usize,
    failed: Option<SnapshotError>,
}

impl Receiver {
    /// Begins to receive the file of the snapshot of `index`, in place of what an earlier attempt left behind. That it
    /// is `total_bytes` long is what the peer says: nothing is allocated by it, neither in memory nor on the disk.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn begin(disk: &dyn Disk, index: Index, total_bytes: u64) -> Result<Receiver, SnapshotError> {
        let name = file_name(index, RECEIVED);
        disk::remove_if_exists(disk, &name).map_err(SnapshotError::io("remove", &name))?;
        let file = disk.create(&name).map_err(SnapshotError::io("create", &name))?;
        Ok(Receiver { file, name, index, total_bytes, received_bytes: 0, unsynced_bytes: 0, failed: None })
    }

    /// The last index that the snapshot covers, as the peer says.
    #[must_use]
    pub fn index(&self) -> Index {
        self.index
    }

    /// The size of the whole file in bytes, as the peer says.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// How many bytes there are: the offset of the next piece.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Whether all bytes are there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.received_bytes >= self.total_bytes
    }

    /// Takes the next piece. Returns whether it was: one that does not begin where the last ended, goes beyond the end,
    /// or is empty, is left alone.
    ///
    /// # Errors
    /// What the disk reports. After an error nothing more is written, and every call gives that error again.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<bool, SnapshotError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let room_bytes = self.total_bytes.saturating_sub(self.received_bytes);
        if offset != self.received_bytes || bytes.is_empty() || bytes.len() as u64 > room_bytes {
            return Ok(false);
        }
        let outcome = self.append(bytes);
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome.map(|()| true)
    }

    /// Syncs the complete file.
    ///
    /// # Errors
    /// [`SnapshotError::Incomplete`] if bytes are missing, and what the disk reports, now or at an earlier call.
    pub fn finish(mut self) -> Result<Written, SnapshotError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !self.is_complete() {
            let (received, total) = (self.received_bytes, self.total_bytes);
            return Err(SnapshotError::Incomplete { file: self.name, received, total });
        }
        self.sync()?;
        Ok(Written { index: self.index, bytes: self.received_bytes, name: self.name, hash: None })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let written = self.file.write_all_at(self.received_bytes, bytes);
        written.map_err(SnapshotError::io("write", &self.name))?;
        self.received_bytes += bytes.len() as u64;
        self.unsynced_bytes += bytes.len();
        if self.unsynced_bytes >= SYNC_EVERY_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), SnapshotError> {
        self.file.sync_data().map_err(SnapshotError::io("sync", &self.name))?;
        self.unsynced_bytes = 0;
        Ok(())
    }
}
