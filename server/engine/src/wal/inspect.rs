//! Looks into a log without changing it: what recovery would find, and what it would do.

use std::fmt;
use std::ops::Range;

use raft::{HardState, Index};

use crate::disk::Disk;

use super::format::{Position, Record, segment_name};
use super::recovery::{Found, Surveyed, survey};
use super::{RecoveryReport, Replayed, WalError};

/// A place in the log. Places are ordered as the log is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The number of the segment, from 1; 0 if there is no segment with a record.
    pub segment: u32,
    /// The offset in its file, in bytes.
    pub offset: u64,
}

impl Place {
    pub(super) fn of(position: Position) -> Place {
        Place { segment: position.segment(), offset: position.offset() }
    }

    /// The name of the segment's file.
    #[must_use]
    pub fn file(&self) -> String {
        segment_name(self.segment)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "byte {} of {}", self.offset, self.file())
    }
}

/// What a segment's first record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentStart {
    /// The size that the file is to have.
    pub file_bytes: u64,
    /// The index of the next entry to be appended.
    pub next_index: Index,
    /// The hard state before the segment's next record.
    pub hard_state: HardState,
}

/// One record of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspected {
    /// Where it lies.
    pub place: Place,
    /// Its size in the file, padding included.
    pub bytes: u64,
    /// Set for the first record of a segment.
    pub start: Option<SegmentStart>,
    /// What replaying it means; nothing for a segment's first record and for a mark, except that a reset stands for the
    /// first record of a log whose oldest segments were removed. A hard state may be what it was before.
    pub replayed: Option<Replayed>,
    /// The hard state behind it, with a term taken over from an entry.
    pub hard_state: HardState,
    /// The index of the last entry behind it.
    pub last_index: Index,
}

impl Inspected {
    fn of(found: &Found<'_>) -> Inspected {
        let start = if let Record::Start(start) = found.record { Some(start) } else { None };
        Inspected {
            place: Place::of(found.position),
            bytes: found.bytes as u64,
            start: start.map(|start| SegmentStart {
                file_bytes: u64::from(start.segment_bytes),
                next_index: start.next_index,
                hard_state: start.hard_state,
            }),
            replayed: found.record.to_replayed().or_else(|| found.begins_cut_log()),
            hard_state: found.state.hard_state,
            last_index: found.state.last_index,
        }
    }
}

/// What lies behind the end of the log in one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Behind {
    /// The number of the segment.
    pub segment: u32,
    /// The name of its file.
    pub file: String,
    /// The size of the file.
    pub bytes: u64,
    /// Whether the segment holds records; the others are prepared, for when the one in use is full.
    pub in_use: bool,
    /// The bytes that were never synced and that recovery overwrites with zeros; empty if there are none.
    pub tail: Range<u64>,
}

/// A log that is sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inspection {
    /// The hard state that recovery would find.
    pub hard_state: HardState,
    /// The index of the last entry, or zero.
    pub last_index: Index,
    /// Where the last record ends.
    pub end: Place,
    /// What lies behind that: the rest of the segment in use, if there is one, and the segments that are prepared.
    pub behind: Vec<Behind>,
    /// What recovery would find and do.
    pub report: RecoveryReport,
    /// Whether there is no record: no log yet, or one whose first commit was never synced.
    pub fresh: bool,
}

/// Reads a whole log exactly as [`super::open`] does, but changes nothing, and shows `visit` each record in the order
/// in which it was written. Holds no more of the log at once than recovery does.
///
/// If the log is damaged, `visit` has seen all records before the damage.
///
/// # Errors
/// What `visit` returns, at once; or a [`WalError`], the same one that [`super::open`] would return.
pub fn inspect<E: From<WalError>>(
    disk: &dyn Disk,
    visit: &mut dyn FnMut(&Inspected) -> Result<(), E>,
) -> Result<Inspection, E> {
    let Surveyed { recovery, rests } = survey(disk, &mut |found: &Found<'_>| visit(&Inspected::of(found)))?;
    let behind = rests.into_iter().map(|rest| Behind {
        segment: rest.file.segment,
        file: segment_name(rest.file.segment),
        bytes: u64::from(rest.file.bytes),
        in_use: rest.file.segment == recovery.current.segment,
        tail: rest.dirty,
    });
    Ok(Inspection {
        hard_state: recovery.state.hard_state,
        last_index: recovery.state.last_index,
        end: Place::of(recovery.end),
        behind: behind.collect(),
        report: recovery.report,
        fresh: recovery.current.segment == 0,
    })
}
