//! The one door to the file system: a directory of plainly named files.
//!
//! Everything that a node keeps on disk goes through [`Disk`] and [`File`], so that the write-ahead log that runs in
//! production is the very code that runs over [`MemoryDisk`] in tests and in the simulator. The seam is narrow on
//! purpose: what is not in it (memory maps, links, permissions, sub-directories) cannot be relied on by accident.
//!
//! What the two traits promise, and no more:
//!
//! - bytes written are seen by later reads of any handle at once, but survive a power cut only after
//!   [`File::sync_data`] returned `Ok`; until then any subset of their 512-byte sectors may survive, in any order;
//! - a created, renamed or removed name survives a power cut only after [`Disk::sync_directory`] returned `Ok`;
//! - a sector is written whole or not at all;
//! - after a failed [`File::sync_data`] nothing is known about the bytes written since the last one that worked, and a
//!   later `Ok` says nothing about them: the caller must stop.

mod damage;
mod memory;
mod real;
mod unsynced;

use std::io;

pub use damage::Damage;
pub use memory::{Fault, MemoryDisk, Operation};
pub use real::{LockError, RealDisk};
pub use unsynced::Unsynced;

/// The unit, in bytes, that a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// The longest file name in bytes: what common file systems allow.
const NAME_BYTES_MAX: usize = 255;

/// How many bytes of zeros are written at a time: few calls, little memory.
const ZERO_BYTES: usize = 1 << 20;

/// After so many bytes of zeros the file is synced: a few milliseconds of the disk's time, which is what a commit
/// beside it may have to wait.
const ZERO_SYNC_BYTES: usize = 4 << 20;

/// The file that marks a directory as taken; it belongs to [`RealDisk`] and is not reachable through [`Disk`].
const LOCK_NAME: &str = "LOCK";

/// One directory of files. Names are plain file names, without any separator.
///
/// All methods may be called from several threads.
pub trait Disk: Send + Sync {
    /// The names of all files, sorted.
    ///
    /// # Errors
    /// What the file system reports.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if there is none of this name, `InvalidInput` for a name that is not a plain file name.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Creates an empty file. It survives a power cut only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken, `InvalidInput` for a name that is not a plain file name.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Renames a file, replacing the target if it exists: a reader finds the old file or the new one, never neither.
    ///
    /// # Errors
    /// `NotFound` if there is no `from`, `InvalidInput` for a name that is not a plain file name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Handles that are open on it go on working.
    ///
    /// # Errors
    /// `NotFound` if there is none of this name, `InvalidInput` for a name that is not a plain file name.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// How many bytes can still be written before the disk is full, as far as the file system knows.
    ///
    /// # Errors
    /// What the file system reports.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Makes all names created, renamed and removed so far survive a power cut.
    ///
    /// # Errors
    /// What the file system reports; the caller must not go on as if the names were safe.
    fn sync_directory(&self) -> io::Result<()>;
}

/// One open file. Several handles on one file see the same bytes.
pub trait File: Send {
    /// The length of the file in bytes.
    ///
    /// # Errors
    /// What the file system reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte.
    ///
    /// # Errors
    /// What the file system reports.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads from `offset` (in bytes) into `buffer`. Returns how many bytes were read: fewer than asked for is no
    /// error, none at all means the end of the file.
    ///
    /// # Errors
    /// What the file system reports. `Interrupted` never gets out.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset` (in bytes), making the file longer where needed.
    ///
    /// # Errors
    /// What the file system reports; an unknown part of `bytes` may then be written.
    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written to this file through any handle, and its length, survive a power cut.
    ///
    /// # Errors
    /// What the file system reports. It must never be retried: the kernel may have dropped the bytes it could not
    /// write, and would report success the second time.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file to, or extends it with zeros to, `bytes`.
    ///
    /// # Errors
    /// What the file system reports.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
}

/// Replaces the file `name` by one that holds `bytes`, so that after a crash at any moment it holds either what it
/// held before (or does not exist, if it did not) or `bytes`, and after `Ok` survives a power cut.
///
/// It is written under a temporary name, synced, renamed, and the directory is synced. A temporary file left by an
/// earlier crash is replaced.
///
/// # Errors
/// What the file system reports; which of the two contents a restart will find is then unknown.
pub fn write_file_atomically(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    remove_if_exists(disk, &temporary)?;
    let file = disk.create(&temporary)?;
    file.write_all_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, name)?;
    disk.sync_directory()
}

/// Reads the whole of the file `name`, or `None` if there is none.
///
/// # Errors
/// `InvalidData` if the file is longer than `bytes_max` (nothing is allocated then), and what the file system reports.
pub fn read_file(disk: &dyn Disk, name: &str, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.len()?;
    let too_long =
        || io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {length} bytes, more than {bytes_max}"));
    let length = usize::try_from(length).ok().filter(|&length| length <= bytes_max).ok_or_else(too_long)?;
    let mut bytes = vec![0; length];
    let read = read_full(file.as_ref(), 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Removes a file if there is one.
///
/// # Errors
/// What the file system reports, except that a missing file is none.
pub fn remove_if_exists(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reads from `offset` until `buffer` is full or the file ends; a short read in between is no end (a file system may
/// give fewer bytes than asked for at any time). Returns how many bytes were read.
///
/// # Errors
/// What the file system reports.
pub fn read_full(file: &dyn File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(offset + filled as u64, &mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Overwrites the range of a file from `from` up to `to` (in bytes) with zeros, making it longer where needed, and
/// syncs it: in pieces, so that whoever syncs another file beside it never waits for the whole.
///
/// # Errors
/// What the file system reports; some of the range may then be zeros. `StorageFull` (or `QuotaExceeded`) is only
/// reported by a write that found no room: a sync that fails is `Other`, for whatever reason it does.
pub fn write_zeros(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(to.saturating_sub(from)).map_or(ZERO_BYTES, |bytes| bytes.min(ZERO_BYTES))];
    let (mut offset, mut unsynced) = (from, 0);
    while offset < to {
        let count = usize::try_from(to - offset).map_or(ZERO_BYTES, |rest| rest.min(ZERO_BYTES));
        file.write_all_at(offset, &zeros[..count])?;
        offset += count as u64;
        unsynced += count;
        if unsynced >= ZERO_SYNC_BYTES {
            file.sync_data().map_err(io::Error::other)?;
            unsynced = 0;
        }
    }
    file.sync_data().map_err(io::Error::other)
}

/// Refuses what is not a plain file name of this directory, so that no name can reach outside of it.
fn check_name(name: &str) -> io::Result<()> {
    let plain = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && name != LOCK_NAME
        && !name.contains(['/', '\\', '\0']);
    if plain {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a plain file name")))
    }
}

#[cfg(test)]
mod tests;
