//! How far the states were that a client was told of.
//!
//! Nodes do not all have the latest state, so a client that reads from one and then from another could be shown a state
//! before the one that it has seen. It keeps the highest revision that any answer told, and asks for a state that has
//! come as far. That is all it takes: states follow each other in one order, and of each revision there is one.

use std::sync::atomic::{AtomicU64, Ordering};

/// The highest revision that a client has seen, shared by its clones.
#[derive(Debug, Default)]
pub(crate) struct Seen(AtomicU64);

impl Seen {
    /// An answer told of a state of this revision or a later one.
    pub(crate) fn note(&self, revision: u64) {
        // Whoever was told by somebody that a request has ended sees what that request noted: all is one variable.
        self.0.fetch_max(revision, Ordering::Relaxed);
    }

    /// How far the next state has to be; zero before the first answer.
    pub(crate) fn revision(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The cluster has come to `revision` and not to the one that it was asked for. If that is what was seen, it is not
    /// the cluster of before, or was set back; else it was somebody else's word.
    pub(crate) fn set_back(&self, asked_for: u64, revision: u64) {
        // Whoever comes later with the same news finds it done.
        let _ = self.0.compare_exchange(asked_for, revision, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Nothing that was seen is of this cluster.
    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_counts_until_the_cluster_is_set_back() {
        let seen = Seen::default();
        assert_eq!(seen.revision(), 0);
        for (noted, highest) in [(3, 3), (2, 3), (7, 7), (0, 7)] {
            seen.note(noted);
            assert_eq!(seen.revision(), highest);
        }
        seen.set_back(9, 5);
        assert_eq!(seen.revision(), 7, "nobody here has seen the ninth");
        for _ in 0..2 {
            seen.set_back(7, 5);
            assert_eq!(seen.revision(), 5);
        }
        seen.forget();
        assert_eq!(seen.revision(), 0);
    }
}
