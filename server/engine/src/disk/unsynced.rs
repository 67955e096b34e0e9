//! What was done to files in memory and would not survive a power cut: changes, their parts, and how they are applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SECTOR_BYTES;

/// One thing that was done and would be lost in a power cut, unless it is chosen to survive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unsynced {
    /// One version of one sector of a file.
    Sector {
        /// The name of the file when it was opened or created.
        file: String,
        /// The number of the sector: its offset divided by [`SECTOR_BYTES`].
        sector: u64,
    },
    /// A change of a file's length by [`File::set_len`](super::File::set_len).
    Length {
        /// The name of the file when it was opened or created.
        file: String,
        /// The length in bytes.
        bytes: u64,
    },
    /// A name that came to mean a (new) file.
    Named {
        /// The name.
        name: String,
    },
    /// A name that was removed.
    Removed {
        /// The name.
        name: String,
    },
    /// A name that came to mean the file of another.
    Renamed {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
}

/// What changed in the directory since it was synced.
#[derive(Clone)]
pub(super) enum NameChange {
    Create { name: String, inode: u64 },
    Remove { name: String },
    Rename { from: String, to: String, inode: u64 },
}

/// What changed in a file since it was synced.
#[derive(Clone)]
pub(super) enum Change {
    /// All of the sectors that a write touched, with their content after it, from `first` on.
    Sectors {
        first: u64,
        bytes: Vec<u8>,
    },
    Length(u64),
}

/// A file. The contents are shared between forks of the disk until one of them writes.
#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) name: String,
    /// What reads see.
    pub(super) visible: Arc<Vec<u8>>,
    /// What survives a power cut for certain.
    pub(super) durable: Arc<Vec<u8>>,
    /// What a sync would add to it, oldest first.
    pub(super) pending: Vec<Change>,
    /// What the durable bytes of each sector were before they were last changed.
    pub(super) replaced: Arc<BTreeMap<u64, Vec<u8>>>,
}

impl Inode {
    pub(super) fn with_contents(name: &str, bytes: Vec<u8>) -> Inode {
        let bytes = Arc::new(bytes);
        Inode { name: name.to_owned(), visible: Arc::clone(&bytes), durable: bytes, ..Inode::default() }
    }
}

pub(super) fn name_change_view(change: &NameChange) -> Unsynced {
    match change {
        NameChange::Create { name, .. } => Unsynced::Named { name: name.clone() },
        NameChange::Remove { name } => Unsynced::Removed { name: name.clone() },
        NameChange::Rename { from, to, .. } => Unsynced::Renamed { from: from.clone(), to: to.clone() },
    }
}

pub(super) fn apply_name_change(names: &mut BTreeMap<String, u64>, change: NameChange) {
    match change {
        NameChange::Create { name, inode } => {
            names.insert(name, inode);
        }
        NameChange::Remove { name } => {
            names.remove(&name);
        }
        NameChange::Rename { from, to, inode } => {
            // The old name may mean another file by now, if an earlier change did not survive.
            if names.get(&from) == Some(&inode) {
                names.remove(&from);
            }
            names.insert(to, inode);
        }
    }
}

/// One view for each part of a change that survives or not on its own.
pub(super) fn change_views(inode: &Inode, change: &Change) -> Vec<Unsynced> {
    let file = || inode.name.clone();
    match change {
        Change::Sectors { first, bytes } => {
            let count = bytes.len().div_ceil(SECTOR_BYTES) as u64;
            (*first..first + count).map(|sector| Unsynced::Sector { file: file(), sector }).collect()
        }
        Change::Length(bytes) => vec![Unsynced::Length { file: file(), bytes: *bytes }],
    }
}

/// Applies one part of a change (the n-th of its views), or all of it.
pub(super) fn apply_change(contents: &mut Vec<u8>, change: &Change, part: Option<usize>) {
    match change {
        Change::Sectors { first, bytes } => {
            let base = to_usize(*first) * SECTOR_BYTES;
            let range = match part {
                Some(part) => part * SECTOR_BYTES..((part + 1) * SECTOR_BYTES).min(bytes.len()),
                None => 0..bytes.len(),
            };
            overwrite(contents, base + range.start, &bytes[range]);
        }
        Change::Length(bytes) => contents.resize(to_usize(*bytes), 0),
    }
}

pub(super) fn overwrite(contents: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[offset..end].copy_from_slice(bytes);
}

pub(super) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a file in memory is smaller than the memory")
}
