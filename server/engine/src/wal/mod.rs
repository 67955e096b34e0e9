//! The write-ahead log: entries, truncations and hard states of one node in one order, durable before they count.
//!
//! Three parts. [`Wal`] is a machine without I/O that turns batches into disk work; [`Executor`] runs that work on
//! whatever thread the caller likes; [`Reader`] reads entries back beside the two. [`open`] recovers a log or begins
//! one, and [`inspect`] reads one as recovery does, without changing it. [`salvage`] says what is sound of a log that
//! [`open`] refuses. There is no mode in which a batch counts as durable before a sync returned.
//!
//! # Format, versions 1 and 2
//!
//! The log is a chain of records in *segments*: files `wal-0000000001.log`, `wal-0000000002.log`, … without a gap, the
//! oldest of which may have been removed (see [below](#cutting)). A segment's file has its full size before it is used
//! (an overwrite is cheaper to sync than an extension): it is filled with zeros, or was an older segment. All numbers
//! are little-endian.
//!
//! A *position* is a `u64`: the segment's number in the upper 32 bits, the byte offset in its file in the lower.
//! Positions are ordered as the log is written. A record begins at a multiple of 8 and lies in one segment:
//!
//! | bytes | field | |
//! |---|---|---|
//! | 0..4 | checksum | CRC32C of everything behind it, padding included |
//! | 4..7 | length | of the payload, at most 8 MiB |
//! | 7 | kind | see below |
//! | 8..16 | position | of this record |
//! | 16..24 | durable offset | everything before this position was synced when this record was written |
//! | 24..28 | previous | the checksum of the record before this one, 0 for the first of all: the hash chain |
//! | 28..32 | salt | one random number for the whole log |
//! | 32.. | payload | then zeros up to a multiple of 8 |
//!
//! Thus each record can be validated alone. One that was put elsewhere, or was left in a recycled file by a segment
//! with another number, fails by its position; one of another node's log, or made up by a client inside of a value,
//! fails by its salt; one that was rolled back to an earlier, valid version no longer fits the record behind it.
//!
//! | kind | payload |
//! |---|---|
//! | 1 start | `QUORWAL\n`, version `u32`, file size `u32`, index of the next entry, `u64` reserved, hard state |
//! | 2 hard state | current term, vote (0 for none), commit index |
//! | 3 truncate | index after which all entries are taken back |
//! | 4 mark | nothing |
//! | 5 no-op entry | term, index |
//! | 6 command entry | term, index, command |
//! | 7 reset (version 2) | index behind which the log goes on, then `u64` 1 for a repair, else 0 |
//!
//! A start is the first record of each segment and only there: with it the log can be read from that segment on when
//! older ones are gone. The log is its records, taken in order: nothing is ever rewritten in place, a truncation is a
//! record, and an entry's index is always one above the last, so that an index means what was written last.
//!
//! A reset makes everything before it obsolete: a durable snapshot holds the state up to its index, which is thereby
//! committed. Only that of a repair may go back behind what the log knew to be committed; from the core that is
//! refused, like a truncation of what is committed.
//!
//! A segment's version is in its start. Version 1 had no resets. It is read for ever, and a log goes on in a new
//! segment behind one of an older version; so a log holds segments of both.
//!
//! A *commit* is one write and one `fdatasync`, in one segment, and only one is in flight. So what a commit's records
//! name as durable is everything before that commit, and a record in a segment proves all earlier segments durable.
//! When the log falls idle, and first of all when it is opened, the hard state is written once more, so that the last
//! commit is proven as well, and term and vote at the end of the log. (It was a mark at first, and a mark still stands
//! for a batch without content.)
//!
//! # Recovery
//!
//! Replay goes from the first record on, while records are valid and chained, to the *end* `d`. Then everything behind
//! `d` is searched for valid records, in all segments. If any names a durable offset > `d`, something durable is
//! missing at `d`: that is corruption, [`WalError::Corrupt`], and nothing is changed. The same holds if one lies where
//! the log should go on and names `d` itself: the record before `d` is not the one that it followed. Otherwise what
//! lies behind `d` was never synced (sectors of an unsynced write survive in any order), so no one was ever told of
//! it: it is an unsynced tail and is cut. Before anything is appended, what was replayed but not proven durable is
//! written once more (a kernel that failed to write it still shows it but would never write it), the tail is
//! overwritten with zeros, both are synced, and the hard state is committed. (Only a disk without room for the next
//! segment can keep that one waiting; it is then the first record of the segment.)
//!
//! The tail goes from the first to the last thing behind `d` that claims to be a record of the place where it lies,
//! valid or not. What claims nothing, or another place, can never pass for a record and stays: else each start would
//! have to overwrite what a recycled file held before.
//!
//! Stale records never follow again on a cut log: they are zeroed and synced before the next append. Should a disk
//! bring them back, the record that they would have to follow has been replaced by that one, so the chain differs; and
//! they name no durable offset beyond the cut, so they are no proof of damage either.
//!
//! A tail may be cut in the middle of a batch. That is harmless: nobody was told of it. Its truncation may survive
//! without its entries (they were taken back because they were never committed), and entries without the hard state
//! behind them: then their term is taken over, without a vote.
//!
//! # Cutting
//!
//! Segments that are not needed are removed whole, the oldest first, each durably before the next: what is left is
//! always without a gap. Or their files become *spares*, `wal-0000000001.old`, and later other segments
//! (see `spares.rs`): for the log, they are removed. A segment goes only when a later one is known to have a durable
//! start; so a first segment above number 1 that has no valid start is damaged, always. Its start says with which
//! index, hard state and salt the log begins, and is held for true by its own checksum, its position and, from the next
//! record on, the chain. What it followed on is not known any more: that all before it was removed on purpose is not
//! checked here. Should the oldest segments be lost by accident, the log begins behind the newest snapshot, which the
//! engine finds.
//!
//! A truncation can reach back to before the first segment that is left: entries there were kept nowhere but are below
//! what a snapshot holds.
//!
//! # Salvage
//!
//! A damaged log is refused. The engine may make a new beginning: it notes that durably, lets [`cut_damaged`] end the
//! log where its sound part ends, and gets the rest from its peers. What it has promised in the part that is lost it
//! does not know; but the last term in which it can have promised anything is known if records behind all damage,
//! chained up to the end of the log, include a hard state or a start. [`Salvage::proven_term`] is that of the log's
//! state at their end. A log that was opened or fell idle ends with such a record.
//!
//! # What may be on the disk after a crash
//!
//! | crash while | what is there | recovery |
//! |---|---|---|
//! | a segment is created or zeroed | a file `*.new`, or none | ignored; made again from nothing |
//! | it is renamed, directory not synced | `*.new` or `*.log` | as above, or an unused segment: all zeros, already synced; the directory is synced before it is used |
//! | it is unused | a file of zeros, or of records of other segments | kept for use |
//! | a spare becomes a segment, directory not synced | `*.old` or `*.log` | a spare, or an unused segment |
//! | its first commit runs | the start and the records behind it, any sectors of them | end is in this segment, or at the end of the segment before; the rest is a tail |
//! | any commit runs | any sectors of it, behind all earlier commits, whole | a prefix of the commit stays, the rest is a tail |
//! | a tail is being zeroed | some of it | the same end is found again; zeroing only ever makes records invalid |
//! | what is not proven is written again | the same bytes | the same |
//! | the first hard state is written | it or not | the same |
//! | a segment is removed, or becomes a spare | the file or not; none of the later ones is touched before | it begins there, or with the next |
//! | a damaged log is cut | the first of the later segments, then some of the rest of the last | refused as before, or the end is where it was to be |
//!
//! # Limits
//!
//! - A sector of 512 bytes is taken to be written whole or not at all: a commit may share its first with the one
//!   before.
//! - The last commit before a crash is ambiguous until something follows it: if it was durable and is damaged before
//!   the next start, that looks like an unsynced tail, to a salvage too. The hard state follows when the log falls idle
//!   and at each start.
//! - A disk that loses everything from some sync on, consistently and without a trace, cannot be told from a log that
//!   ended there.
//! - A record larger than a segment gets a segment of its size, the 8 MiB of the largest payload at most.
//! - One segment is always prepared in reserve. If the disk is too full for it, that is tried again later, and commits
//!   wait when the current one is used up. A commit that fails, for whatever reason, stops the log.

mod cut;
mod executor;
mod format;
mod index;
mod inspect;
mod log_state;
mod machine;
mod reader;
mod recovery;
mod salvage;
mod spares;
mod window;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use raft::{Entry, HardState, Index};

use format::{Position, segment_name};
use index::EntryIndex;

pub use executor::{Completion, Executor, Work};
pub use inspect::{Behind, Inspected, Inspection, Place, SegmentStart, inspect};
pub use machine::Wal;
pub use reader::Reader;
pub use recovery::open;
pub(crate) use salvage::remove_idle_files;
pub use salvage::{Salvage, cut_damaged, salvage};

/// The smallest segment in bytes: a page. Anything so small is for tests.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 10;

/// The largest segment in bytes: preparing one must end in reasonable time, and offsets in it have 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// The size of a segment's file in bytes, for segments made from now on; those that exist keep theirs. Between
    /// [`SEGMENT_BYTES_MIN`] and [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// Of how many bytes of log one entry's place is kept in memory (16 bytes for each). Reading an entry begins at
    /// most this far before it.
    pub index_every_bytes: u64,
    /// A number that sets this log's records apart from those of all others and cannot be guessed by clients: drawn at
    /// random by the caller. Only used when a log is begun.
    pub salt: u32,
    /// Whether there must be a log: then none is begun where none is found.
    pub must_exist: bool,
}

impl Default for WalOptions {
    /// Segments of 64 MiB, a place for each 64 KiB, no salt, and a new log where there is none.
    fn default() -> WalOptions {
        WalOptions { segment_bytes: 64 << 20, index_every_bytes: 64 << 10, salt: 0, must_exist: false }
    }
}

impl WalOptions {
    /// Whether the values can be used.
    ///
    /// # Errors
    /// [`WalError::Options`] says which cannot.
    pub fn validate(&self) -> Result<(), WalError> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Err(WalError::Options("segment_bytes must be between 4 KiB and 1 GiB"));
        }
        Ok(())
    }
}

/// One record that recovery found. They come in the order in which they were written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Replayed {
    /// An entry was appended: its index is one above the last.
    Entry(Entry),
    /// All entries above an index were taken back.
    Truncate {
        /// The last index that stays. Never below the commit index, but it can be below the reset that a cut log
        /// begins with.
        after: Index,
    },
    /// The log goes on behind an index, and no entry before counts any more.
    ///
    /// A log whose oldest segments were removed begins with this, and with the hard state that it then had, whose
    /// commit index may be lower than `last`. Anywhere else it is a reset, and says that all up to `last` is committed.
    Reset {
        /// The next entry has the index behind this one.
        last: Index,
    },
    /// The hard state became this: it is another than before. The last of all may come without a record: if an entry
    /// is of a later term than the hard state before it, the one behind it was cut off, and the term is taken over,
    /// without a vote.
    HardState(HardState),
}

/// A log that was opened, in its parts.
pub struct Opened {
    /// The machine that takes batches.
    pub wal: Wal,
    /// Runs its disk work.
    pub executor: Executor,
    /// Reads entries back.
    pub reader: Reader,
    /// The hard state that was recovered: the last one replayed.
    pub hard_state: HardState,
    /// The index of the last entry, or of the one that the log goes on behind.
    pub last_index: Index,
    /// The first entry that is kept, one above the last if there is none.
    pub first_index: Index,
    /// What recovery found and did.
    pub report: RecoveryReport,
    /// Whether there was no record before: a new log, or one whose first commit was never synced.
    pub fresh: bool,
}

/// What recovery found and did, for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// The number of the first segment that is left, 0 if there is no record.
    pub first_segment: u32,
    /// Segments that hold records.
    pub segments: u64,
    /// Valid records of any kind.
    pub records: u64,
    /// Entries, including those that were taken back later.
    pub entries: u64,
    /// Bytes of valid records.
    pub bytes: u64,
    /// Bytes overwritten with zeros because an unsynced tail lay there, a little generously: 0 after a clean stop.
    pub cut_bytes: u64,
}

/// Why the log cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// The disk failed. The process must end: what was written last may be there or not.
    #[error("{action} {file}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The name of the file.
        file: String,
        /// What the file system reported.
        source: Arc<io::Error>,
    },
    /// Something that was durable is damaged. Nothing was cut or changed.
    #[error("{file} is damaged at byte {offset}: {reason}")]
    Corrupt {
        /// The number of the segment.
        segment: u32,
        /// The name of its file.
        file: String,
        /// Where in it the damage begins, in bytes.
        offset: u64,
        /// What is wrong there, and what proves it.
        reason: String,
    },
    /// There is no log, and there must be one. Nothing was written.
    #[error("the log is gone")]
    Missing,
    /// The log was written by another version of the program.
    #[error("{file} has format version {found}, and this program knows none above {known}")]
    Version {
        /// The name of the file.
        file: String,
        /// Its format version.
        found: u32,
        /// The last format version that this program knows.
        known: u32,
    },
    /// An entry is larger than a record may be.
    #[error("an entry of {bytes} bytes does not fit a record of at most {bytes_max}")]
    TooLarge {
        /// The size of the command in bytes.
        bytes: usize,
        /// The largest in bytes.
        bytes_max: usize,
    },
    /// An option has a value that cannot be used.
    #[error("write-ahead log: {0}")]
    Options(&'static str),
}

impl WalError {
    /// Gives an I/O error its context.
    fn io(action: &'static str, file: String) -> impl Fn(io::Error) -> WalError {
        move |source| WalError::Io { action, file: file.clone(), source: Arc::new(source) }
    }

    fn corrupt(at: Position, reason: String) -> WalError {
        let segment = at.segment();
        WalError::Corrupt { segment, file: segment_name(segment), offset: at.offset(), reason }
    }

    /// Whether a write found no room on the disk.
    pub(crate) fn is_no_room(&self) -> bool {
        let no_room = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, WalError::Io { source, .. } if no_room.contains(&source.kind()))
    }

    /// Whether a file is not there.
    fn is_not_found(&self) -> bool {
        matches!(self, WalError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The table of entries. A reader that panicked cannot have left it half changed: readers only look.
fn lock_index(index: &Mutex<EntryIndex>) -> MutexGuard<'_, EntryIndex> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}
