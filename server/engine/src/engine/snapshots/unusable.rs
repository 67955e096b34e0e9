//! Snapshots that turn out to be of no use: those that a peer gave, and those of this node's own that went bad.
//!
//! People are told of each. Who gave one that cannot be used is not asked at once again: see `sources`. One of this
//! node's own may go bad long after it was verified, and nothing reads it while the node runs but the pieces for its
//! peers. So it is read once more when a peer that had asked for all of it begins anew; and when reading it fails. It
//! is not handed out from then on, and a new one takes its place as soon as it is written, but not before: whatever is
//! sound of the old one may still help somebody.

use raft::{Index, NodeId};

use crate::snapshot::{SnapshotError, Stored};

use super::checking::Checking;
use super::work::WorkKind;
use super::{RETRY_TIMEOUTS, Snapshots};

/// A snapshot that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnusableSnapshot {
    /// Who gave it; `None` if it is one of this node's own.
    pub from: Option<NodeId>,
    /// The last index that it covers.
    pub index: Index,
    /// What is wrong with it.
    pub why: String,
}

impl Snapshots {
    /// What came from a peer is of no use.
    pub(in crate::engine) fn reject(&mut self, index: Index, why: String) {
        let from = self.source.take();
        self.unusable.push(UnusableSnapshot { from, index, why });
        self.asked_in_vain();
    }

    /// The one who was asked has nothing that can be used.
    pub(super) fn asked_in_vain(&mut self) {
        self.fetching = None;
        self.sources.in_vain(self.now_ticks, self.retry_ticks());
    }

    /// After what failed, the next attempt is made so many ticks later.
    pub(super) fn retry_ticks(&self) -> u64 {
        RETRY_TIMEOUTS * u64::from(self.options.timeout_ticks)
    }

    /// Whether nothing is known against it.
    pub(super) fn is_sound(&self, stored: &Stored) -> bool {
        !self.unsound.contains(&stored.index)
    }

    /// A peer that had asked for all of a snapshot begins anew.
    pub(super) fn doubt(&mut self, index: Index) {
        if self.checking || self.now_ticks < self.check_at_ticks {
            return;
        }
        let stored = self.stored.iter().find(|stored| stored.index == index && self.is_sound(stored));
        if let Some(stored) = stored.cloned() {
            (self.checking, self.check_at_ticks) = (true, self.now_ticks + self.retry_ticks());
            self.work.push(WorkKind::Check(Box::new(Checking::new(stored))));
        }
    }

    /// A step of that has ended.
    pub(super) fn checked(&mut self, index: Index, result: Result<Option<Box<Checking>>, SnapshotError>) {
        self.checking = false;
        match result {
            Ok(Some(checking)) => {
                self.checking = true;
                self.work.push(WorkKind::Check(checking));
            }
            Ok(None) => {}
            Err(error) => self.found_unsound(index, &error),
        }
    }

    /// One of this node's own is not what was written, or cannot be read.
    pub(super) fn found_unsound(&mut self, index: Index, error: &SnapshotError) {
        // It may have been removed meanwhile, or be known already.
        let is_news = self.stored.iter().any(|stored| stored.index == index) && self.unsound.insert(index);
        if is_news {
            self.held.retain(|_, held| held.index != index);
            self.unusable.push(UnusableSnapshot { from: None, index, why: error.to_string() });
        }
    }

    /// A new one is in its place: those that are unsound go, and the file of one that had the same index is gone.
    pub(super) fn replace_unsound(&mut self, by: Index) {
        let unsound = std::mem::take(&mut self.unsound);
        self.stored.retain(|stored| stored.index != by && !unsound.contains(&stored.index));
        let gone = unsound.into_iter().filter(|index| *index != by);
        self.work.extend(gone.map(|index| WorkKind::Remove { index }));
    }
}
