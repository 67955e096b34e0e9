//! Removes a snapshot that is not needed any more, in steps that each take little of the disk's time.
//!
//! To give back the room of a large file at once holds up the syncs of every other file: of 300 MiB by 20 to 40 ms,
//! where the file system tells the device about each block that is free (`discard`); cut off in pieces, by 3 to 4 ms.

use std::io;

use raft::Index;

use crate::disk::{self, Disk};

use super::SnapshotError;
use super::directory::{PUBLISHED, REMOVED, file_name};

/// How many bytes one step cuts off.
const STEP_BYTES: u64 = 4 << 20;

/// A snapshot that is being removed. If it is dropped, the rest of its file stays until
/// [`super::remove_leftovers`] at the next start.
pub struct Removal {
    /// The name of what is left of it.
    name: String,
}

impl Removal {
    /// Takes the snapshot's name away, if there is one of this index, and makes that durable.
    ///
    /// # Errors
    /// What the disk reports; a restart then finds it or not, but nothing half.
    pub fn begin(disk: &dyn Disk, index: Index) -> Result<Removal, SnapshotError> {
        let (published, name) = (file_name(index, PUBLISHED), file_name(index, REMOVED));
        match disk.rename(&published, &name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(SnapshotError::io("rename", &published)(error)),
        }
        // Before the first byte is cut off: the name must not come back with less behind it.
        disk.sync_directory().map_err(SnapshotError::io("sync the directory of", &published))?;
        Ok(Removal { name })
    }

    /// Cuts off the next piece. `None` once the file is gone for good.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn step(self, disk: &dyn Disk) -> Result<Option<Removal>, SnapshotError> {
        let file = match disk.open(&self.name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SnapshotError::io("open", &self.name)(error)),
        };
        let bytes = file.len().map_err(SnapshotError::io("measure", &self.name))?;
        if bytes > STEP_BYTES {
            file.set_len(bytes - STEP_BYTES).map_err(SnapshotError::io("cut off", &self.name))?;
            return Ok(Some(self));
        }
        disk::remove_if_exists(disk, &self.name).map_err(SnapshotError::io("remove", &self.name))?;
        disk.sync_directory().map_err(SnapshotError::io("sync the directory of", &self.name))?;
        Ok(None)
    }
}
