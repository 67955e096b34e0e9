//! The state that a log amounts to, without a node: for tools that look into a data directory.

use raft::{Index, Term};

use super::replay::{Base, Replay, ReplayError};
use super::snapshots::{LoadError, load};
use crate::disk::Disk;
use crate::kv::{SessionLimits, Store};
use crate::snapshot::{self, SnapshotError, Stored};
use crate::wal::{Inspected, Place};

/// What was found of a snapshot.
#[derive(Debug)]
pub struct SnapshotFile {
    /// Its file.
    pub stored: Stored,
    /// The term of the last entry that it covers; none if it cannot be loaded.
    pub last_term: Option<Term>,
    /// Why it cannot be loaded, if it cannot.
    pub problem: Option<LoadError>,
}

/// Replays the records that [`wal::inspect`](crate::wal::inspect) shows into a state, as a start of the node would.
///
/// What the log records as committed is applied; what lies behind that may be committed or not, which a log alone
/// cannot tell. Memory holds the state and those entries.
pub struct OfflineState {
    replay: Replay,
    last_index: Index,
    contradiction: Option<(Place, ReplayError)>,
}

impl OfflineState {
    /// The state before the first entry: that of a log without a snapshot.
    #[must_use]
    pub fn new() -> OfflineState {
        OfflineState::on(Base::empty(SessionLimits::default()))
    }

    fn on(base: Base) -> OfflineState {
        let last_index = base.index;
        OfflineState { replay: Replay::new(base, 0), last_index, contradiction: None }
    }

    /// The state of the newest sound snapshot on a disk, as a start would load it, and what was found of each snapshot,
    /// oldest first. All of them are read.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn of_newest_snapshot(disk: &dyn Disk) -> Result<(OfflineState, Vec<SnapshotFile>), SnapshotError> {
        let limits = SessionLimits::default();
        let mut base = Base::empty(limits);
        let mut files = Vec::new();
        for stored in snapshot::list(disk)? {
            let (last_term, problem) = match load(disk, &stored, limits, &mut |_| {}) {
                Ok(loaded) => {
                    base = Base::of(loaded);
                    (Some(base.last_term()), None)
                }
                Err(error) => (None, Some(error)),
            };
            files.push(SnapshotFile { stored, last_term, problem });
        }
        Ok((OfflineState::on(base), files))
    }

    /// The state of one snapshot.
    ///
    /// # Errors
    /// Why it cannot be loaded.
    pub fn of_snapshot(disk: &dyn Disk, stored: &Stored) -> Result<OfflineState, LoadError> {
        Ok(OfflineState::on(Base::of(load(disk, stored, SessionLimits::default(), &mut |_| {})?)))
    }

    /// Takes the next record.
    pub fn take(&mut self, record: &Inspected) {
        if self.contradiction.is_some() {
            return;
        }
        if let Some(replayed) = &record.replayed {
            self.replay.record(replayed.clone()); // an entry's command is shared
        }
        match self.replay.error() {
            Some(error) => self.contradiction = Some((record.place, error)),
            None => self.last_index = record.last_index,
        }
    }

    /// The state at [`OfflineState::applied`].
    #[must_use]
    pub fn store(&self) -> &Store {
        self.replay.store()
    }

    /// The last entry applied to the state.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.replay.applied()
    }

    /// The last entry of the log.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.last_index
    }

    /// The first entry of the log, one above the last if there is none.
    #[must_use]
    pub fn first_index(&self) -> Index {
        self.replay.first_index()
    }

    /// Whether the newest sound snapshot takes the place of the log: that ends before it, or holds another entry in its
    /// place. A start makes the log go on behind the snapshot.
    #[must_use]
    pub fn is_obsolete(&self) -> bool {
        self.replay.is_obsolete()
    }

    /// The term of the last entry.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.replay.last_term()
    }

    /// What is missing between the newest sound snapshot and the log, or how the two contradict each other.
    #[must_use]
    pub fn gap(&self) -> Option<ReplayError> {
        self.replay.gap()
    }

    /// The first record that contradicts those before it, although it is intact; nothing is replayed behind it.
    #[must_use]
    pub fn contradiction(&self) -> Option<(Place, ReplayError)> {
        self.contradiction
    }
}

impl Default for OfflineState {
    fn default() -> OfflineState {
        OfflineState::new()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raft::{Entry, HardState, Payload};

    use super::*;
    use crate::kv::command::encode;
    use crate::kv::{Command, PutMode};
    use crate::wal::Replayed;

    fn record(offset: u64, last_index: u64, replayed: Option<Replayed>) -> Inspected {
        let place = Place { segment: 1, offset };
        let (hard_state, last_index) = (HardState::default(), Index::new(last_index));
        Inspected { place, bytes: 8, start: None, replayed, hard_state, last_index }
    }

    fn put(offset: u64, index: u64, term: u64) -> Inspected {
        let key = Bytes::from(format!("k{index}"));
        let command = Command::Put { key, value: Bytes::new(), mode: PutMode::Create };
        let payload = Payload::Command(encode(&command.into(), index).expect("a valid command"));
        let entry = Entry { index: Index::new(index), term: Term::new(term), payload };
        record(offset, index, Some(Replayed::Entry(entry)))
    }

    fn committed(offset: u64, last: u64, commit: u64) -> Inspected {
        let hard_state = HardState { commit_index: Index::new(commit), ..HardState::default() };
        record(offset, last, Some(Replayed::HardState(hard_state)))
    }

    #[test]
    fn what_is_recorded_as_committed_is_applied() {
        let mut state = OfflineState::new();
        [record(0, 0, None), put(8, 1, 1), put(16, 2, 3), committed(24, 2, 1)].iter().for_each(|r| state.take(r));
        let indexes = (state.applied(), state.last_index(), state.last_term());
        assert_eq!(indexes, (Index::new(1), Index::new(2), Term::new(3)));
        assert_eq!((state.store().len(), state.contradiction()), (1, None));
    }

    #[test]
    fn a_contradiction_is_told_with_its_place_and_ends_the_replay() {
        let mut state = OfflineState::new();
        [put(0, 1, 2), committed(8, 1, 1), put(16, 2, 1), put(24, 3, 2), committed(32, 3, 3)]
            .iter()
            .for_each(|r| state.take(r));
        let fell = ReplayError::TermFell { index: Index::new(2), before: Term::new(2), found: Term::new(1) };
        assert_eq!(state.contradiction(), Some((Place { segment: 1, offset: 16 }, fell)));
        assert_eq!((state.store().len(), state.applied(), state.last_index()), (1, Index::new(1), Index::new(1)));
    }
}
