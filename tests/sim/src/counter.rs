//! Counters: a client creates keys that nobody else touches, each once, and deletes them, and counts. However often its
//! writes were sent, in the end there are exactly the keys that it counted.
//!
//! Each write is repeated until it has a definite answer. If its session expires before, it will never run any more, so
//! that what it did can be read.

use std::collections::BTreeSet;

use crate::history::{Call, Key, Mode, Output};
use crate::random::Random;

/// The slots from here on are those of counters.
pub(crate) const COUNTER_SLOTS: usize = 1_000;

/// With so many keys a counter rather deletes.
const KEYS_ENOUGH: usize = 8;

/// What one client counts.
#[derive(Debug)]
pub(crate) struct Counter {
    slot: usize,
    next: u64,
    present: BTreeSet<u64>,
    /// A write whose outcome has to be read.
    open: Option<(Key, Call)>,
}

impl Counter {
    /// The counter of this number, at nothing.
    pub(crate) fn new(number: usize) -> Counter {
        Counter { slot: COUNTER_SLOTS + number, next: 0, present: BTreeSet::new(), open: None }
    }

    /// What to do next; values come from `value`.
    pub(crate) fn draw(&mut self, random: &mut Random, value: impl FnOnce() -> u64) -> (Key, Call) {
        if let Some((key, _)) = &self.open {
            return (*key, Call::Get);
        }
        let creates = if self.present.len() < KEYS_ENOUGH { 700 } else { 300 };
        let epoch = self.present.iter().nth(random.position(self.present.len())).copied();
        match epoch.filter(|_| !random.chance(creates)) {
            Some(epoch) => (self.key(epoch), Call::Delete { expected_revision: None }),
            None => {
                self.next += 1;
                (self.key(self.next), Call::Put { value: value(), mode: Mode::Create })
            }
        }
    }

    fn key(&self, epoch: u64) -> Key {
        Key { slot: self.slot, epoch }
    }

    /// Whether something has to be read before the count is right.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The outcome of a write is not known, but it will not run any more.
    pub(crate) fn in_doubt(&mut self, key: Key, call: Call) {
        self.open = Some((key, call));
    }

    /// A definite answer. Tells whether it can be.
    #[must_use]
    pub(crate) fn told(&mut self, key: Key, call: &Call, output: &Output) -> bool {
        match (call, output) {
            (Call::Put { .. }, Output::Written { version: 1, .. }) => self.present.insert(key.epoch),
            (Call::Delete { .. }, Output::Deleted { .. }) => self.present.remove(&key.epoch),
            (Call::Get, output) => {
                let Some((_, asked)) = self.open.take() else { return false };
                match (asked, output) {
                    (Call::Put { value, .. }, Output::Found { value: found, version: 1, .. }) => {
                        value == *found && self.present.insert(key.epoch)
                    }
                    (Call::Put { .. }, Output::Missing) => true,
                    (Call::Delete { .. }, Output::Found { version: 1, .. }) => true,
                    (Call::Delete { .. }, Output::Missing) => self.present.remove(&key.epoch),
                    _ => false,
                }
            }
            _ => false,
        }
    }

    /// The keys that there have to be, and how all of them begin.
    pub(crate) fn expected(&self) -> (String, BTreeSet<String>) {
        let prefix = self.key(0).to_string();
        let keys = self.present.iter().map(|epoch| self.key(*epoch).to_string());
        (prefix.trim_end_matches('0').to_owned(), keys.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_and_read_is_counted() {
        let (mut counter, mut random) = (Counter::new(1), Random::new(3));
        let (key, put) = counter.draw(&mut random, || 7);
        assert!(matches!(put, Call::Put { value: 7, mode: Mode::Create }));
        assert!(!counter.told(key, &put, &Output::Exists { revision: 3 }), "nobody else creates it");
        assert!(counter.told(key, &put, &Output::Written { revision: 3, version: 1 }));
        assert!(!counter.told(key, &put, &Output::Written { revision: 4, version: 1 }), "it was counted");
        let expected = [key.to_string()].into();
        assert_eq!(counter.expected(), ("n1/".to_owned(), expected));
        counter.in_doubt(key, Call::Delete { expected_revision: None });
        assert_eq!(counter.draw(&mut random, || 8), (key, Call::Get));
        assert!(counter.told(key, &Call::Get, &Output::Missing));
        assert_eq!(counter.expected().1, BTreeSet::new());
    }
}
