//! Removes segments that are no longer needed: whole ones, the oldest first.
//!
//! A segment may go when the next one is in use and begins with an entry that is not above the first one to be kept:
//! every entry in it that still counts is below. Or when a durable reset lies behind it: then no entry in it counts.
//! Each removal is durable before the next is handed out, so that a crash leaves no gap.

use std::collections::VecDeque;

use raft::Index;

use super::executor::{SegmentFile, WorkKind};
use super::{Wal, lock_index};

/// What has to be known of the segments in use to tell which are not needed.
#[derive(Debug)]
pub(super) struct Segments {
    /// Those whose start is durable, with the index of the next entry when they were begun.
    begun: VecDeque<(SegmentFile, Index)>,
    /// Entries before this one are not needed.
    keep_from: Index,
    /// The segment with the last reset that is durable, 0 if there is none.
    reset: u32,
}

impl Segments {
    pub(super) fn new() -> Segments {
        Segments { begun: VecDeque::new(), keep_from: Index::ZERO, reset: 0 }
    }

    /// A segment is in use: its start is durable.
    pub(super) fn begin(&mut self, file: SegmentFile, next_index: Index) {
        self.begun.push_back((file, next_index));
    }

    /// A reset in a segment in use is durable. What was to be kept of the log before it counts no more.
    pub(super) fn reset(&mut self, segment: u32, last: Index) {
        self.reset = segment;
        self.keep_from = last.next();
    }

    /// Takes the oldest segment out if it is not needed, and returns it.
    fn take_obsolete(&mut self) -> Option<SegmentFile> {
        let &(next, next_index) = self.begun.get(1)?;
        if next.segment > self.reset && next_index > self.keep_from {
            return None;
        }
        self.begun.pop_front().map(|(file, _)| file)
    }
}

impl Wal {
    /// Says that entries before `first_kept` are not needed any more: a durable snapshot holds what came of them.
    /// Segments that hold nothing else are removed or become spares, as work in the background; the segment written to
    /// never is. What lies before a durable reset goes without being asked for.
    pub fn cut(&mut self, first_kept: Index) {
        self.segments.keep_from = self.segments.keep_from.max(first_kept);
    }

    /// The first entry that a [`super::Reader`] can still find, one above the last durable one if there is none. It
    /// rises when a removal is handed out, and goes where a reset says when that is durable.
    #[must_use]
    pub fn first_index(&self) -> Index {
        lock_index(&self.index).first()
    }

    /// Says how many bytes of segments that are not needed are kept, to make later ones of them. Nobody says so at
    /// first, and then those that were there stay, and there will be no more.
    pub fn keep_spares(&mut self, bytes_max: u64) {
        self.spares.keep(bytes_max);
    }

    pub(super) fn remove(&mut self) -> Option<WorkKind> {
        if let Some(spare) = self.spares.take_surplus() {
            return Some(WorkKind::RemoveSpare { segment: spare.segment });
        }
        let file = self.segments.take_obsolete()?;
        lock_index(&self.index).forget_before(file.segment + 1);
        let is_usable = u64::from(file.bytes) == self.options.segment_bytes && self.spares.takes(file);
        Some(if is_usable { WorkKind::Retire(file) } else { WorkKind::Remove { segment: file.segment } })
    }
}
