//! Snapshots: files that hold the state after an index of the log, and all that the log below it was needed for.
//!
//! [`Writer`] makes one, [`Verification`] reads it back, [`publish`] gives it its name; [`Reader`] reads one that has a
//! name, and believes nothing in it before its checksums held. [`read_piece`] and [`Receiver`] carry one to another
//! node as the bytes that it is. What the sections say is not known here.
//!
//! # Format, version 1
//!
//! A file `snapshot-<index, 20 digits>.snap`. While it is written it is called `snapshot-<index>.tmp`, while it is
//! received from a peer `snapshot-<index>.part`, while it is removed `snapshot-<index>.old`. All numbers are
//! little-endian.
//!
//! The file is a chain of *chunks* from its first byte to its last. A chunk begins at a multiple of 8:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..4 | checksum | CRC32C of everything behind it, padding included |
//! | 4..8 | length | of the payload, at most 8 MiB |
//! | 8..12 | tag | see below |
//! | 12..16 | previous | the checksum of the chunk before this one, 0 for the first: the hash chain |
//! | 16..24 | number | of this chunk: 0, 1, 2… |
//! | 24..32 | file id | the same in each chunk: XXH3 (64 bits) over the index and the table of term starts |
//! | 32.. | payload | then zeros up to a multiple of 8 |
//!
//! Thus each chunk can be validated as it comes. One that was dropped, doubled, swapped or put elsewhere fails by its
//! number; one that another snapshot left on the same sectors fails by its file id; one that was rolled back to what an
//! earlier file of the same index had there no longer fits the chunk behind it.
//!
//! | tag | payload |
//! |---|---|
//! | 1 start | `QUORSNAP`, version `u32`, `u32` reserved, index, number of term starts |
//! | 2 term starts | pairs of index and term, at most 16,384 |
//! | 3 end | number of chunks before it, bytes before it, XXH3 (128 bits) over all bytes before it |
//! | 4 to 15 | reserved: none may occur in version 1 |
//! | 16 and above | a section of the state |
//!
//! The order is: one start; term starts until there are as many as the start named; sections, in the order in which
//! they were written; one end, and nothing behind it.
//!
//! The *term starts* are the first index of each run of entries of one term, from index 1 on up to the snapshot's
//! index. With them a node knows the term of every index that it has, in the log or below it. Indexes and terms rise
//! strictly, and no term is 0.
//!
//! A tag that is not known stops the reader ([`SnapshotError::UnknownSection`]): what a newer program found worth
//! writing is part of the state, and a node that left it out would differ from the others for ever after.
//!
//! # What may be on the disk after a crash
//!
//! | crash while | what is there | next start |
//! |---|---|---|
//! | it is written, synced or verified | `*.tmp`, any sectors of it, or none | [`remove_leftovers`] |
//! | it is received | `*.part`, any sectors of it, or none | [`remove_leftovers`] |
//! | it is renamed, directory not synced | the old name or the new one; the bytes are synced | as above, or a whole snapshot |
//! | an old one is removed, directory not synced | the name `*.snap`, whole, or `*.old` | kept, or as below |
//! | the rest of an old one is removed | `*.old`, shorter, or none | [`remove_leftovers`] |
//!
//! A file gets the name `*.snap` only after it was synced and then read to its end without fault, so that name stands
//! for a snapshot that was whole once. Whether it still is, the next [`Reader`] finds.
//!
//! # Limits
//!
//! - What is read back before publishing may come from the cache of the operating system: it shows that what was handed
//!   to the disk is right, not that the disk kept it. Therefore two snapshots are kept.
//! - The hashes find damage and bugs; they are no defence against somebody who makes collisions on purpose.

mod directory;
mod format;
mod reader;
mod receiver;
mod removal;
mod writer;

use std::io;
use std::sync::Arc;

use raft::{Index, Term};

pub use directory::{
    Piece, Stored, abandon_receiving, abandon_writing, list, publish, read_piece, remove, remove_leftovers,
};
pub use reader::{Chunk, Reader, Verification, Verified};
pub use receiver::Receiver;
pub use removal::Removal;
pub use writer::{Writer, Written};

/// The least tag that a section may have.
pub const SECTION_TAG_MIN: u32 = 16;

/// The longest section of a snapshot in bytes: eight times the largest value, and small enough that a damaged length
/// cannot make a reader allocate much. Sections of a quarter of a mebibyte are better.
pub const SECTION_BYTES_MAX: usize = 8 << 20;

/// After so many bytes written the file is synced: a millisecond or two of the disk's time, which is what a commit of
/// the log beside it may have to wait.
const SYNC_EVERY_BYTES: usize = 1 << 20;

/// A snapshot of a later index is a lie or damage: a log that went on behind it would soon run out of indexes. The
/// consensus core draws the same line.
const INDEX_MAX: Index = Index::new(1 << 62);

/// What a snapshot says about the log that it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meta {
    /// The last index whose effect is in the state.
    pub index: Index,
    /// The first index of each run of entries of one term, with that term, from index 1 on up to `index`.
    pub term_starts: Vec<(Index, Term)>,
}

impl Meta {
    /// The term of the entry at the snapshot's index.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.term_starts.last().map_or(Term::ZERO, |&(_, term)| term)
    }

    /// Whether the table can be that of a log up to `index`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), InvalidMeta> {
        let mut last = None;
        for &start in &self.term_starts {
            InvalidMeta::check_next(last, start, self.index)?;
            last = Some(start);
        }
        if self.index > INDEX_MAX {
            return Err(InvalidMeta::TooFar(self.index));
        }
        if last.is_none() { Err(InvalidMeta::Empty) } else { Ok(()) }
    }
}

/// Why a table of term starts cannot be that of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidMeta {
    /// There is no term, or no entry: nothing to take a snapshot of.
    #[error("there are no term starts")]
    Empty,
    /// The first term does not begin at the first entry.
    #[error("the first term begins at index {0}")]
    First(Index),
    /// An index or a term does not rise.
    #[error("a term start at index {index}, term {term}, does not rise above the one before it")]
    Order {
        /// The index of the later one.
        index: Index,
        /// Its term.
        term: Term,
    },
    /// No log ends there: at a million entries a second it takes a hundred thousand years.
    #[error("no log reaches index {0}")]
    TooFar(Index),
    /// A term begins behind the snapshot.
    #[error("a term begins at index {0}, behind the snapshot")]
    Beyond(Index),
}

impl InvalidMeta {
    /// Whether `next` may follow `last` in the table of a snapshot of `index`.
    fn check_next(last: Option<(Index, Term)>, next: (Index, Term), index: Index) -> Result<(), InvalidMeta> {
        let (first_index, term) = next;
        let rises = match last {
            None if first_index != Index::new(1) => return Err(InvalidMeta::First(first_index)),
            None => term > Term::ZERO,
            Some((last_index, last_term)) => first_index > last_index && term > last_term,
        };
        if !rises {
            return Err(InvalidMeta::Order { index: first_index, term });
        }
        if first_index > index { Err(InvalidMeta::Beyond(first_index)) } else { Ok(()) }
    }
}

/// Why a snapshot cannot be written, read, sent or received.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error("{action} {file}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The name of the file.
        file: String,
        /// What the file system reported.
        source: Arc<io::Error>,
    },
    /// The file is not what was written.
    #[error("{file} is damaged at byte {offset}: {reason}")]
    Damaged {
        /// The name of the file.
        file: String,
        /// Where the first chunk begins that cannot be believed, in bytes.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was written by another version of the program.
    #[error("{file} has format version {found}, and this program knows only {known}")]
    Version {
        /// The name of the file.
        file: String,
        /// Its format version.
        found: u32,
        /// The format version that this program knows.
        known: u32,
    },
    /// The file has a section that this program does not know.
    #[error("{file} has a section with tag {tag}, which this program does not know")]
    UnknownSection {
        /// The name of the file.
        file: String,
        /// The section's tag.
        tag: u32,
    },
    /// A section is longer than a chunk may be.
    #[error("a section of {bytes} bytes does not fit a chunk of at most {bytes_max}")]
    TooLarge {
        /// The size of the section in bytes.
        bytes: usize,
        /// The largest in bytes.
        bytes_max: usize,
    },
    /// The table of term starts cannot be that of a log.
    #[error("the snapshot of index {index} has no valid table of terms: {reason}")]
    Meta {
        /// The snapshot's index.
        index: Index,
        /// What is wrong with the table.
        reason: InvalidMeta,
    },
    /// Less was received than the file is long.
    #[error("{file} has {received} bytes of {total}")]
    Incomplete {
        /// The name of the file.
        file: String,
        /// How many bytes were received.
        received: u64,
        /// How many bytes the peer said that there are.
        total: u64,
    },
}

impl SnapshotError {
    /// Whether it is only that the disk has no room: nothing is damaged, and it may be tried again later from the
    /// beginning.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        match self {
            SnapshotError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Gives an I/O error its context.
    fn io(action: &'static str, file: &str) -> impl Fn(io::Error) -> SnapshotError {
        move |source| SnapshotError::Io { action, file: file.to_owned(), source: Arc::new(source) }
    }

    fn damaged(file: &str, offset: u64, reason: impl Into<String>) -> SnapshotError {
        SnapshotError::Damaged { file: file.to_owned(), offset, reason: reason.into() }
    }
}
