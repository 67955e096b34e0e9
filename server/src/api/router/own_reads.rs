//! Whether a node that follows answers linearizable reads from its own state.
//!
//! It does, unless it is behind: it hears of its leader, but what the leader asks it to have applied has not come yet.
//! Nothing tells beforehand; a read that has no answer in time does, and then the leader is asked for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::api::limits::{READ_HERE_MAX, READS_ELSEWHERE_FOR};

/// What a node knows of the reads that it answers itself while it follows.
#[derive(Default, Debug)]
pub(super) struct OwnReads {
    silence: Mutex<Option<Silence>>,
}

/// A read had no answer in time.
#[derive(Debug)]
struct Silence {
    /// In this term. Under another leader, or after an election that this one won again, there was another reason.
    term: u64,
    /// Until when the others go to the leader.
    until: Instant,
}

/// When a read that began at `begun` and is to be answered by `deadline` is the leader's to answer, if it has no answer
/// by then.
pub(in crate::api) fn read_here_until(begun: Instant, deadline: Instant) -> Instant {
    begun + READ_HERE_MAX.min(deadline.saturating_duration_since(begun) / 2)
}

impl OwnReads {
    /// Whether reads are worth trying in `term`.
    pub(super) fn are_answered(&self, term: u64, now: Instant) -> bool {
        self.lock().as_ref().is_none_or(|silence| silence.term != term || now >= silence.until)
    }

    /// A read that began at `begun` has no answer yet.
    pub(super) fn note_silence(&self, term: u64, begun: Instant, now: Instant) {
        // One whose caller has less patience says nothing of the others.
        if now.saturating_duration_since(begun) >= READ_HERE_MAX {
            *self.lock() = Some(Silence { term, until: now + READS_ELSEWHERE_FOR });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Silence>> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_read_leaves_time_for_the_leader() {
        let begun = Instant::now();
        let given = |deadline_ms| read_here_until(begun, begun + Duration::from_millis(deadline_ms)) - begun;
        assert_eq!(given(5_000), READ_HERE_MAX);
        assert_eq!(given(100), Duration::from_millis(50));
        assert_eq!(given(0), Duration::ZERO);
    }

    #[test]
    fn who_was_silent_is_asked_again_after_a_while_or_in_another_term() {
        let (reads, begun) = (OwnReads::default(), Instant::now());
        assert!(reads.are_answered(2, begun));
        reads.note_silence(2, begun, begun + READ_HERE_MAX / 2);
        assert!(reads.are_answered(2, begun), "it was given little time");
        let noted = begun + READ_HERE_MAX;
        reads.note_silence(2, begun, noted);
        assert!(!reads.are_answered(2, noted));
        assert!(reads.are_answered(3, noted));
        let over = noted + READS_ELSEWHERE_FOR;
        assert!(!reads.are_answered(2, over - Duration::from_millis(1)));
        assert!(reads.are_answered(2, over));
    }
}
