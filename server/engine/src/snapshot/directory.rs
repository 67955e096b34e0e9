//! The names of snapshots: what there is, what becomes a snapshot, what goes away, and what is handed to peers.

use std::io;

use raft::Index;

use crate::disk::{self, Disk};

use super::SnapshotError;
use super::reader::Verified;

const PREFIX: &str = "snapshot-";

/// How the name of a snapshot ends.
pub(super) const PUBLISHED: &str = ".snap";

/// How the name ends while it is written.
pub(super) const TEMPORARY: &str = ".tmp";

/// How the name ends while it is received.
pub(super) const RECEIVED: &str = ".part";

/// How the name ends while it is removed.
pub(super) const REMOVED: &str = ".old";

/// What has such a name is of no use to the next start.
const LEFTOVERS: [&str; 3] = [TEMPORARY, RECEIVED, REMOVED];

/// A snapshot that has its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The last index that it covers.
    pub index: Index,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// The name of its file.
    pub name: String,
}

/// A piece of a snapshot's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The size of the whole file in bytes.
    pub total_bytes: u64,
    /// The piece; nothing if the file ends before it begins.
    pub bytes: Vec<u8>,
}

/// The name of a snapshot's file, with the ending that says what it is.
pub(super) fn file_name(index: Index, ending: &str) -> String {
    format!("{PREFIX}{:020}{ending}", index.get())
}

/// The index that the name of a snapshot's file gives, whichever its ending.
pub(super) fn index_in_name(name: &str) -> Option<Index> {
    [PUBLISHED, TEMPORARY, RECEIVED].into_iter().find_map(|ending| parse_name(name, ending))
}

fn parse_name(name: &str, ending: &str) -> Option<Index> {
    let index = Index::new(name.strip_prefix(PREFIX)?.strip_suffix(ending)?.parse().ok()?);
    (file_name(index, ending) == name).then_some(index)
}

/// All snapshots that have their name, oldest first. Whether they are whole, only a [`super::Reader`] can say.
///
/// # Errors
/// What the disk reports.
pub fn list(disk: &dyn Disk) -> Result<Vec<Stored>, SnapshotError> {
    let mut stored = Vec::new();
    for name in disk.list().map_err(SnapshotError::io("list", "the data directory"))? {
        let Some(index) = parse_name(&name, PUBLISHED) else { continue };
        match disk.open(&name).and_then(|file| file.len()) {
            Ok(bytes) => stored.push(Stored { index, bytes, name }),
            // Removed since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(SnapshotError::io("open", &name)(error)),
        }
    }
    stored.sort_unstable_by_key(|stored| stored.index);
    Ok(stored)
}

/// Gives a snapshot that was read back without fault its name, in place of one of the same index, and makes that
/// durable.
///
/// # Errors
/// What the disk reports; a restart then finds it or not, but nothing half.
pub fn publish(disk: &dyn Disk, verified: &Verified) -> Result<Stored, SnapshotError> {
    let name = file_name(verified.index(), PUBLISHED);
    disk.rename(verified.name(), &name).map_err(SnapshotError::io("rename", verified.name()))?;
    disk.sync_directory().map_err(SnapshotError::io("sync the directory of", &name))?;
    Ok(Stored { index: verified.index(), bytes: verified.bytes(), name })
}

/// Removes the snapshot of an index at once, if there is one, and makes that durable. For where nothing waits for the
/// disk; otherwise see [`super::Removal`].
///
/// # Errors
/// What the disk reports; a restart then finds it or not.
pub fn remove(disk: &dyn Disk, index: Index) -> Result<(), SnapshotError> {
    let name = file_name(index, PUBLISHED);
    disk::remove_if_exists(disk, &name).map_err(SnapshotError::io("remove", &name))?;
    disk.sync_directory().map_err(SnapshotError::io("sync the directory of", &name))
}

/// Removes what a [`super::Writer`] of this index left behind when it failed or was given up, so that it takes no room
/// until the next start. Whether that is durable does not matter: [`remove_leftovers`] would find it.
///
/// # Errors
/// What the disk reports.
pub fn abandon_writing(disk: &dyn Disk, index: Index) -> Result<(), SnapshotError> {
    let name = file_name(index, TEMPORARY);
    disk::remove_if_exists(disk, &name).map_err(SnapshotError::io("remove", &name))
}

/// The same for a [`super::Receiver`].
///
/// # Errors
/// What the disk reports.
pub fn abandon_receiving(disk: &dyn Disk, index: Index) -> Result<(), SnapshotError> {
    let name = file_name(index, RECEIVED);
    disk::remove_if_exists(disk, &name).map_err(SnapshotError::io("remove", &name))
}

/// Removes what was being written, received or removed when the process ended. Returns how many files there were. Must
/// not run beside a [`super::Writer`] or a [`super::Receiver`].
///
/// # Errors
/// What the disk reports.
pub fn remove_leftovers(disk: &dyn Disk) -> Result<usize, SnapshotError> {
    let mut removed = 0;
    for name in disk.list().map_err(SnapshotError::io("list", "the data directory"))? {
        if LEFTOVERS.iter().any(|ending| parse_name(&name, ending).is_some()) {
            disk::remove_if_exists(disk, &name).map_err(SnapshotError::io("remove", &name))?;
            removed += 1;
        }
    }
    if removed > 0 {
        disk.sync_directory().map_err(SnapshotError::io("sync", "the data directory"))?;
    }
    Ok(removed)
}

/// Reads a piece of a snapshot's file for a peer: `bytes_max` bytes from `offset` on, or less at its end. `None` if
/// there is no such snapshot. The bytes are not looked at: whoever receives them verifies the whole.
///
/// # Errors
/// What the disk reports.
pub fn read_piece(
    disk: &dyn Disk,
    index: Index,
    offset: u64,
    bytes_max: usize,
) -> Result<Option<Piece>, SnapshotError> {
    let name = file_name(index, PUBLISHED);
    let file = match disk.open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SnapshotError::io("open", &name)(error)),
    };
    let total_bytes = file.len().map_err(SnapshotError::io("measure", &name))?;
    let rest = usize::try_from(total_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; rest.min(bytes_max)];
    let read = disk::read_full(file.as_ref(), offset, &mut bytes).map_err(SnapshotError::io("read", &name))?;
    bytes.truncate(read);
    Ok(Some(Piece { total_bytes, bytes }))
}
