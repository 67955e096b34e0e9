//! When the log had come how far, lately.
//!
//! A sync, a quorum, an application are for many entries at once, and nobody measures them for each. Here they are
//! noted once, with the last index that they covered; where the time of one write went is looked up afterwards, for the
//! few that are traced or slow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use raft::{Index, NodeId};

use crate::telemetry::TraceContext;
use crate::timed_disk::SyncTime;

/// How many moments of a kind are remembered. A loop makes some thousand turns a second when it has much to do, and a
/// request that takes longer than a second then is answered without this.
const MOMENTS_MAX: usize = 8192;

/// Moments at which something came to an index, of rising indexes.
#[derive(Debug)]
struct Moments<T>(VecDeque<(Index, T)>);

impl<T> Default for Moments<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Moments<T> {
    fn note(&mut self, index: Index, moment: T) {
        // After a change of leaders indexes are used again.
        while self.0.back().is_some_and(|(last, _)| *last >= index) {
            self.0.pop_back();
        }
        if self.0.len() == MOMENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((index, moment));
    }

    /// The first that covered an index, if it is remembered what was before it.
    fn of(&self, index: Index) -> Option<&T> {
        let place = self.0.partition_point(|(last, _)| *last < index);
        // Of what the first one covers, earlier ones that are forgotten may have covered a part.
        if place == 0 && self.0.len() == MOMENTS_MAX {
            return None;
        }
        self.0.get(place).map(|(_, moment)| moment)
    }
}

/// A batch of entries that was written to the log.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// When the log's thread began with it.
    pub(super) begun: Instant,
    /// When it was synced.
    pub(super) sync: SyncTime,
    /// Its size in the log, in bytes.
    pub(super) bytes: u64,
    /// How many entries it has.
    pub(super) entries: u64,
    /// The trace of the batch itself, if an entry of it is sampled.
    pub(super) batch: Option<TraceContext>,
}

/// Entries that were committed and applied together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    /// When this node knew that a majority had them, and began to apply them.
    pub(super) at: Instant,
    /// When it had applied them.
    pub(super) applied: Instant,
}

/// The moments of a node's log.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    written: Moments<Written>,
    committed: Moments<Committed>,
    matched: BTreeMap<NodeId, Moments<Instant>>,
}

impl Timeline {
    /// Everything up to `index` is durable here.
    pub(super) fn note_written(&mut self, index: Index, written: Written) {
        self.written.note(index, written);
    }

    /// Everything up to `index` is committed and applied.
    pub(super) fn note_committed(&mut self, index: Index, committed: Committed) {
        self.committed.note(index, committed);
    }

    /// Everything up to `index` is known to be durable at a follower.
    pub(super) fn note_matched(&mut self, follower: NodeId, index: Index, at: Instant) {
        let moments = self.matched.entry(follower).or_default();
        // A follower says so again when it is asked again; only the first time tells when.
        if moments.0.back().is_none_or(|(last, _)| *last < index) {
            moments.note(index, at);
        }
    }

    /// Another term of leading begins: what followers had is to be learnt anew.
    pub(super) fn forget_followers(&mut self) {
        self.matched.clear();
    }

    /// With which batch the entry of an index became durable here.
    pub(super) fn written(&self, index: Index) -> Option<&Written> {
        self.written.of(index)
    }

    /// When the entry of an index was committed.
    pub(super) fn committed(&self, index: Index) -> Option<Committed> {
        self.committed.of(index).copied()
    }

    /// When each follower was known to have the entry of an index.
    pub(super) fn matched(&self, index: Index) -> impl Iterator<Item = (NodeId, Instant)> {
        self.matched.iter().filter_map(move |(follower, moments)| Some((*follower, *moments.of(index)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_covered_by_the_first_moment_that_reached_it() {
        let mut moments = Moments::default();
        assert_eq!(moments.of(Index::new(1)), None);
        moments.note(Index::new(3), 'a');
        moments.note(Index::new(7), 'b');
        let of = |moments: &Moments<char>, index| moments.of(Index::new(index)).copied();
        assert_eq!(
            [1, 3, 4, 7, 8].map(|index| of(&moments, index)),
            [Some('a'), Some('a'), Some('b'), Some('b'), None]
        );
        // Another leader's entries take the place of those that were not committed.
        moments.note(Index::new(5), 'c');
        assert_eq!([3, 4, 5, 6].map(|index| of(&moments, index)), [Some('a'), Some('c'), Some('c'), None]);
    }

    #[test]
    fn a_follower_that_says_again_what_it_has_does_not_seem_to_have_come_later() {
        let (mut timeline, first) = (Timeline::default(), Instant::now());
        let follower = NodeId::new(2).expect("not zero");
        let later = first + std::time::Duration::from_secs(1);
        timeline.note_matched(follower, Index::new(5), first);
        timeline.note_matched(follower, Index::new(5), later);
        timeline.note_matched(follower, Index::new(3), later);
        timeline.note_matched(follower, Index::new(7), later);
        let matched = |index| timeline.matched(Index::new(index)).map(|(_, at)| at).collect::<Vec<_>>();
        assert_eq!((matched(4), matched(6)), (vec![first], vec![later]));
        timeline.forget_followers();
        assert_eq!(timeline.matched(Index::new(4)).count(), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_forgotten_is_not_guessed() {
        let mut moments = Moments::default();
        let last = 3 * MOMENTS_MAX as u64;
        for index in 1..=last {
            moments.note(Index::new(index), index);
        }
        assert_eq!(moments.0.len(), MOMENTS_MAX);
        assert_eq!(moments.of(Index::new(1)), None);
        let first = last - MOMENTS_MAX as u64 + 1;
        assert_eq!(moments.of(Index::new(first)), None, "an earlier one may have covered it");
        assert_eq!(moments.of(Index::new(first + 1)), Some(&(first + 1)));
    }
}
