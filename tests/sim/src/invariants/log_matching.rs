//! Log Matching (§5.3; `LogMatching`): logs that hold an entry of the same index and term are equal up to it.
//!
//! Seen as one tree for all logs that ever were: an entry of an index and a term follows the same term in each, and
//! says the same in each.

use raft::{Entry, Payload, Term};
use xxhash_rust::xxh3::xxh3_64;

use super::view::{Change, View, index, position};
use crate::violation::Violation;

/// What is known of an entry.
struct Place {
    term: Term,
    /// The term of the entry before it.
    before: Term,
    /// A hash of what it says, once a message showed it.
    payload: Option<u64>,
}

/// The tree: by position, an entry for each term that it ever had.
#[derive(Default)]
pub(crate) struct LogMatching {
    places: Vec<Vec<Place>>,
}

impl LogMatching {
    /// What is new in the log of the node that acted.
    pub(crate) fn check(&mut self, views: &[View], change: &Change) -> Result<(), Violation> {
        let view = &views[change.node];
        for at in change.kept + 1..=view.log.len() {
            let before = view.term_at(at - 1).unwrap_or(Term::ZERO);
            self.meet(at, view.log[at - 1], before, None)?;
        }
        Ok(())
    }

    /// Entries in a message.
    pub(crate) fn sent(&mut self, before: Term, entries: &[Entry]) -> Result<(), Violation> {
        let mut before = before;
        for entry in entries {
            let payload = match &entry.payload {
                Payload::Noop => 0,
                Payload::Command(command) => xxh3_64(command).max(1),
            };
            self.meet(position(entry.index), entry.term, before, Some(payload))?;
            before = entry.term;
        }
        Ok(())
    }

    fn meet(&mut self, at: usize, term: Term, before: Term, payload: Option<u64>) -> Result<(), Violation> {
        if self.places.len() <= at {
            self.places.resize_with(at + 1, Vec::new);
        }
        let places = &mut self.places[at];
        let Some(place) = places.iter_mut().find(|place| place.term == term) else {
            places.push(Place { term, before, payload });
            return Ok(());
        };
        if place.before != before {
            return Err(Violation::LogMatching { index: index(at), term, first: place.before, second: before });
        }
        if let (Some(known), Some(found)) = (place.payload, payload)
            && known != found
        {
            return Err(Violation::LogMatchingCommand { index: index(at), term });
        }
        place.payload = place.payload.or(payload);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::made::{first_step, view};
    use super::*;
    use bytes::Bytes;
    use raft::{Index, Role};

    #[test]
    fn logs_that_differ_below_an_entry_that_they_have_in_common_are_found() {
        let mut invariant = LogMatching::default();
        let views = [view(Role::Follower, 3, &[1, 1, 3], 0), view(Role::Follower, 3, &[1, 2, 3], 0)];
        assert_eq!(invariant.check(&views, &first_step(0)), Ok(()));
        let (first, second) = (Term::new(1), Term::new(2));
        let violation = Violation::LogMatching { index: index(3), term: Term::new(3), first, second };
        assert_eq!(invariant.check(&views, &first_step(1)), Err(violation));
    }

    #[test]
    fn entries_that_say_different_things_are_found() {
        let mut invariant = LogMatching::default();
        let entry = |text: &'static [u8]| {
            [Entry { term: Term::new(1), index: Index::new(1), payload: Payload::Command(Bytes::from_static(text)) }]
        };
        assert_eq!(invariant.sent(Term::ZERO, &entry(b"a")), Ok(()));
        assert_eq!(invariant.sent(Term::ZERO, &entry(b"a")), Ok(()));
        let violation = Violation::LogMatchingCommand { index: index(1), term: Term::new(1) };
        assert_eq!(invariant.sent(Term::ZERO, &entry(b"b")), Err(violation));
    }
}
