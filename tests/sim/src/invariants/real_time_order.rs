//! Real-time order over all keys: an operation that began after another one had been answered with some revision is
//! answered with no older one, and a write with a later one. The checker of histories looks at each key alone; this
//! looks across them.

use crate::violation::Violation;

/// The highest revision that any client was ever told.
#[derive(Default)]
pub(crate) struct RealTimeOrder {
    told: u64,
    /// When it rose, and what to.
    rises: Vec<(u64, u64)>,
}

impl RealTimeOrder {
    /// What an operation that begins now must not fall below.
    pub(crate) fn floor(&self) -> u64 {
        self.told
    }

    /// What a state that has everything told before this moment does not fall below.
    pub(crate) fn floor_before(&self, at_us: u64) -> u64 {
        let rises = self.rises.partition_point(|(told_us, _)| *told_us < at_us);
        self.rises[..rises].last().map_or(0, |(_, revision)| *revision)
    }

    /// A revision was shown that is committed.
    pub(crate) fn seen(&mut self, now_us: u64, revision: u64) {
        if revision > self.told {
            self.told = revision;
            self.rises.push((now_us, revision));
        }
    }

    /// An operation that began at `floor` was told of a revision: of the store by a read, of its own by a write.
    pub(crate) fn told(&mut self, now_us: u64, floor: u64, revision: u64, is_write: bool) -> Result<(), Violation> {
        self.seen(now_us, revision);
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
        assert_eq!(invariant.told(10, early, 7, true), Ok(()));
        assert_eq!(invariant.told(20, early, 6, false), Ok(()));
        let late = invariant.floor();
        assert_eq!(invariant.told(30, late, 7, false), Ok(()));
        let violation = |found| Err(Violation::RevisionFell { floor: 7, found });
        assert_eq!(invariant.told(40, late, 6, false), violation(6));
        assert_eq!(invariant.told(50, late, 7, true), violation(7));
    }

    #[test]
    fn what_was_told_when_is_known() {
        let mut invariant = RealTimeOrder::default();
        [(10, 3), (20, 2), (30, 5)].into_iter().for_each(|(now_us, revision)| invariant.seen(now_us, revision));
        let floors = [10, 11, 30, 31].map(|at_us| invariant.floor_before(at_us));
        assert_eq!(floors, [0, 3, 3, 5]);
    }
}
