//! How often a slow read may be sent to a second endpoint as well.
//!
//! A hedge helps when one endpoint is slow, and does harm when all are because they have too much to do. So hedges are
//! paid for out of a small store that reads which needed none fill up again, as gRPC throttles its retries (gRFC A6):
//! when every read is slow the store is soon empty, and the cluster gets at most a tenth more than without hedges.

use std::sync::atomic::{AtomicU32, Ordering};

/// What the store holds at most, and at first, in tenths of a hedge: ten hedges.
const FULL: u32 = 100;

/// What a hedge takes.
const PRICE: u32 = 10;

/// What a read that needed none brings.
const REWARD: u32 = 1;

/// The store of one client, shared by its clones.
#[derive(Debug)]
pub(crate) struct HedgeBudget(AtomicU32);

impl Default for HedgeBudget {
    fn default() -> HedgeBudget {
        HedgeBudget(AtomicU32::new(FULL))
    }
}

impl HedgeBudget {
    /// Pays for a hedge. False if there is not enough.
    pub(crate) fn spend(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(PRICE)).is_ok()
    }

    /// A read was answered in time.
    pub(crate) fn earn(&self) {
        // A full store stays as it is.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left < FULL).then(|| left + REWARD));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hedges(budget: &HedgeBudget) -> usize {
        (0..1000).filter(|_| budget.spend()).count()
    }

    #[test]
    fn hedges_are_at_most_a_tenth_of_the_reads_that_need_none() {
        let budget = HedgeBudget::default();
        assert_eq!(hedges(&budget), 10);
        for _ in 0..9 {
            budget.earn();
        }
        assert_eq!(hedges(&budget), 0);
        budget.earn();
        assert_eq!(hedges(&budget), 1);
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let budget = HedgeBudget::default();
        for _ in 0..10_000 {
            budget.earn();
        }
        assert_eq!(hedges(&budget), 10);
    }
}
