//! Where entries lie: a sparse table from index to position, shared between the log's machine and its readers.

use raft::Index;

use super::format::{Position, Record};

/// A place from which an entry, and those after it up to the next anchor, are found by reading on: they lie in one
/// segment, in order, without a truncation between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Anchor {
    pub(super) index: Index,
    pub(super) position: Position,
}

/// One change of the table, made when the records that it comes from are durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Placed {
    Anchor(Anchor),
    Truncated { after: Index },
    Reset { last: Index },
}

/// Decides which entries become anchors: the first of each segment, the first after a truncation or a reset, and then
/// one for every so many bytes.
#[derive(Debug)]
pub(super) struct Placer {
    every_bytes: u64,
    last: Option<Position>,
}

impl Placer {
    pub(super) fn new(every_bytes: u64) -> Placer {
        Placer { every_bytes, last: None }
    }

    /// What the table has to learn from a record, if anything.
    pub(super) fn place(&mut self, record: &Record<'_>, position: Position) -> Option<Placed> {
        match *record {
            Record::Truncate { after } => {
                self.last = None;
                Some(Placed::Truncated { after })
            }
            Record::Reset { last, .. } => {
                self.last = None;
                Some(Placed::Reset { last })
            }
            Record::Entry { index, .. } => {
                let near = self.last.is_some_and(|last| {
                    last.segment() == position.segment() && position.offset() - last.offset() < self.every_bytes
                });
                if near {
                    return None;
                }
                self.last = Some(position);
                Some(Placed::Anchor(Anchor { index, position }))
            }
            Record::Start(_) | Record::HardState(_) | Record::Mark => None,
        }
    }
}

/// The table. Its anchors ascend in index and in position: a truncation takes those behind it away, so that an index
/// that was written twice is only ever found where it was written last.
#[derive(Debug)]
pub(super) struct EntryIndex {
    anchors: Vec<Anchor>,
    /// The first entry that is kept, one above the last if there is none.
    first: Index,
    last: Index,
    /// Rises with each truncation and reset: what was looked up before it may not be combined with what is looked up
    /// after.
    truncations: u64,
}

/// A run of entries that lie one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// The first entry and where it lies.
    pub(super) anchor: Anchor,
    /// The last entry of the run.
    pub(super) last: Index,
    /// How many truncations there had been.
    pub(super) truncations: u64,
}

impl EntryIndex {
    /// Of a log without entries whose next has the index `first`.
    pub(super) fn new(first: Index) -> EntryIndex {
        EntryIndex { anchors: Vec::new(), first, last: first.previous().unwrap_or(Index::ZERO), truncations: 0 }
    }

    /// The first entry that can be found, one above the last if there is none.
    pub(super) fn first(&self) -> Index {
        self.first
    }

    /// Forgets what lies before a segment. The first entry behind that is an anchor, as the first of its segment or as
    /// the first after a truncation.
    pub(super) fn forget_before(&mut self, segment: u32) {
        let gone = self.anchors.partition_point(|anchor| anchor.position.segment() < segment);
        self.anchors.drain(..gone);
        self.first = self.anchors.first().map_or(self.last.next(), |anchor| anchor.index);
    }

    pub(super) fn apply(&mut self, placed: &[Placed], last: Index) {
        for change in placed {
            match *change {
                Placed::Anchor(anchor) => {
                    debug_assert!(self.anchors.last().is_none_or(|before| before.index < anchor.index));
                    self.anchors.push(anchor);
                }
                Placed::Truncated { after } => {
                    let kept = self.anchors.partition_point(|anchor| anchor.index <= after);
                    self.anchors.truncate(kept);
                    // In a log whose beginning was removed, a truncation can reach back to before what is left of it.
                    self.first = self.first.min(after.next());
                    self.truncations += 1;
                }
                Placed::Reset { last } => {
                    self.anchors.clear();
                    self.first = last.next();
                    self.truncations += 1;
                }
            }
        }
        self.last = last;
    }

    /// The run that holds an entry, or `None` if there is no such entry.
    pub(super) fn find(&self, index: Index) -> Option<Run> {
        if index > self.last {
            return None;
        }
        let behind = self.anchors.partition_point(|anchor| anchor.index <= index);
        let anchor = *self.anchors.get(behind.checked_sub(1)?)?;
        let last = self.anchors.get(behind).and_then(|next| next.index.previous()).unwrap_or(self.last);
        Some(Run { anchor, last, truncations: self.truncations })
    }
}
