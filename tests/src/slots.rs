//! How many clusters run at once: three nodes each on few cores, so that a test's cluster is not starved by the others.

use std::sync::{Condvar, Mutex, PoisonError};

/// Clusters at a time, over all tests of a process. Three of them with three nodes each still elect in time on two
/// cores.
const CLUSTERS_MAX: usize = 3;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to run a cluster; given back when dropped.
#[derive(Debug)]
pub struct Slot(());

impl Slot {
    /// Blocks the calling thread until a slot is free.
    pub fn take() -> Slot {
        // A panic cannot happen while the count is held, so a poisoned lock still guards a true count.
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = FREED.wait_while(taken, |taken| *taken >= CLUSTERS_MAX).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Slot(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
