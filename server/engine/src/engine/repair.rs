//! A note on the disk that part of the log was lost to damage, and with it what this node had promised.
//!
//! It is written before anything damaged is cut off, and removed when the node holds again all that was committed when
//! it made those promises. Until then the node takes no part in elections, however often it starts: see
//! [`raft::Restored::forgotten_term`]. Tools that look into a data directory read it too.
//!
//! # Format
//!
//! Text, replaced atomically as a whole. `cut` says that a cut at this place was begun and may not have ended; nothing
//! is appended to the log while it stands there.
//!
//! ```text
//! quorate repair 1
//! forgotten-term 7
//! cut 3 81920
//! crc32c 8f2e11c4
//! ```

use std::io;

use raft::Term;
use thiserror::Error;

use crate::disk::{self, Disk};
use crate::wal::Place;

/// The file's name in the data directory.
const FILE_NAME: &str = "repair";

/// Far more than it ever has.
const FILE_BYTES_MAX: usize = 4096;

const HEADING: &str = "quorate repair 1";

/// What was lost, as the note says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repair {
    /// What this node promised in terms up to this one may be forgotten.
    pub forgotten_term: Term,
    /// Where the log is being cut.
    pub cut: Option<Place>,
}

/// Why the note could not be read or written.
#[derive(Debug, Error)]
pub enum RepairError {
    /// The disk failed.
    #[error("{FILE_NAME}: cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What failed.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{FILE_NAME} is damaged: without it nobody knows what this node has forgotten")]
    Damaged,
}

impl RepairError {
    /// Whether it is only that the disk has no room for the note.
    pub(super) fn is_storage_full(&self) -> bool {
        let no_room = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, RepairError::Io { source, .. } if no_room.contains(&source.kind()))
    }
}

impl Repair {
    /// The note's file in the data directory.
    pub const FILE_NAME: &str = FILE_NAME;

    /// Reads the note; none if nothing is being repaired.
    ///
    /// # Errors
    /// Fails if the disk does, or if the note is damaged.
    pub fn read(disk: &dyn Disk) -> Result<Option<Repair>, RepairError> {
        let bytes = disk::read_file(disk, FILE_NAME, FILE_BYTES_MAX)
            .map_err(|source| RepairError::Io { action: "read", source })?;
        bytes.map(|bytes| Repair::parse(&bytes).ok_or(RepairError::Damaged)).transpose()
    }

    /// Writes the note; it is durable on return.
    pub(super) fn store(&self, disk: &dyn Disk) -> Result<(), RepairError> {
        disk::write_file_atomically(disk, FILE_NAME, self.to_text().as_bytes())
            .map_err(|source| RepairError::Io { action: "write", source })
    }

    /// Removes the note, durably.
    pub(super) fn remove(disk: &dyn Disk) -> Result<(), RepairError> {
        let removed = disk::remove_if_exists(disk, FILE_NAME).and_then(|()| disk.sync_directory());
        removed.map_err(|source| RepairError::Io { action: "remove", source })
    }

    fn to_text(self) -> String {
        let mut text = format!("{HEADING}\nforgotten-term {}\n", self.forgotten_term);
        if let Some(Place { segment, offset }) = self.cut {
            text.push_str(&format!("cut {segment} {offset}\n"));
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("crc32c {checksum:08x}\n"));
        text
    }

    fn parse(bytes: &[u8]) -> Option<Repair> {
        let text = str::from_utf8(bytes).ok()?;
        let mut lines = text.lines().skip(1);
        let forgotten_term = Term::new(lines.next()?.strip_prefix("forgotten-term ")?.parse().ok()?);
        let cut = lines.next()?.strip_prefix("cut ").map(|place| {
            let (segment, offset) = place.split_once(' ')?;
            Some(Place { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
        });
        let cut = match cut {
            Some(place) => Some(place?),
            None => None,
        };
        let repair = Repair { forgotten_term, cut };
        // There is one way to write each note, so its checksum and its form are judged at once.
        (repair.to_text() == text).then_some(repair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn what_was_stored_is_read_until_it_is_removed() {
        let disk = MemoryDisk::new();
        assert_eq!(Repair::read(&disk).expect("an empty disk"), None);
        for cut in [None, Some(Place { segment: 3, offset: 81_920 })] {
            let repair = Repair { forgotten_term: Term::new(7), cut };
            repair.store(&disk).expect("the disk works");
            assert_eq!(Repair::read(&disk).expect("a sound note"), Some(repair));
        }
        Repair::remove(&disk).expect("the disk works");
        assert_eq!(Repair::read(&disk).expect("an empty disk"), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let text = Repair { forgotten_term: Term::new(7), cut: Some(Place { segment: 3, offset: 8 }) }.to_text();
        for end in 0..text.len() {
            assert_eq!(Repair::parse(&text.as_bytes()[..end]), None, "cut at {end}");
        }
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Repair::parse(&bytes), None, "bit {bit}");
        }
    }
}
