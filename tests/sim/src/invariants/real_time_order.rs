//! Real-time order over all keys: an operation that began after another one had been answered with some revision is
//! answered with no older one, and a write with a later one. The checker of histories looks at each key alone; this
//! looks across them.

use crate::violation::Violation;

/// The highest revision that any client was ever told.
#[derive(Default)]
pub(crate) struct RealTimeOrder {
    told: u64,
}

impl RealTimeOrder {
    /// What an operation that begins now must not fall below.
    pub(crate) fn floor(&self) -> u64 {
        self.told
    }

    /// A revision was shown that is committed.
    pub(crate) fn seen(&mut self, revision: u64) {
        self.told = self.told.max(revision);
    }

    /// An operation that began at `floor` was told of a revision: of the store by a read, of its own by a write.
    pub(crate) fn told(&mut self, floor: u64, revision: u64, is_write: bool) -> Result<(), Violation> {
        self.told = self.told.max(revision);
        if revision < floor || (is_write && revision == floor) {
            return Err(Violation::RevisionFell { floor, found: revision });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_read_and_a_write_into_the_past_are_found() {
        let mut invariant = RealTimeOrder::default();
        let early = invariant.floor();
        assert_eq!(invariant.told(early, 7, true), Ok(()));
        assert_eq!(invariant.told(early, 6, false), Ok(()));
        let late = invariant.floor();
        assert_eq!(invariant.told(late, 7, false), Ok(()));
        let violation = |found| Err(Violation::RevisionFell { floor: 7, found });
        assert_eq!(invariant.told(late, 6, false), violation(6));
        assert_eq!(invariant.told(late, 7, true), violation(7));
    }
}
