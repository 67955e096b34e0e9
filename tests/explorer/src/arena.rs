//! Tables that only grow, in which equal values have one number.
//!
//! A cluster is a handful of such numbers: one a node, one a message in flight. Reading never locks.

use crate::hash::Folded;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The first segment has two to this power places, each later one twice as many as the one before.
const FIRST_SEGMENT_BITS: u32 = 10;
const SEGMENTS: usize = (u32::BITS - FIRST_SEGMENT_BITS) as usize;

/// A vector that grows at its end while others read it.
pub(crate) struct Arena<T> {
    segments: [OnceLock<Box<[OnceLock<T>]>>; SEGMENTS],
    len: AtomicU32,
}

impl<T> Arena<T> {
    pub(crate) fn new() -> Arena<T> {
        Arena { segments: [const { OnceLock::new() }; SEGMENTS], len: AtomicU32::new(0) }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Puts a value at the end; its number.
    pub(crate) fn push(&self, value: T) -> u32 {
        let number = self.len.fetch_add(1, Ordering::Relaxed);
        let (segment, place) = locate(number);
        let places = self.segments[segment].get_or_init(|| {
            let count = 1_usize << (segment + FIRST_SEGMENT_BITS as usize);
            (0..count).map(|_| OnceLock::new()).collect()
        });
        assert!(places[place].set(value).is_ok(), "each number is given out once");
        number
    }

    /// The value of a number that [`Arena::push`] has returned.
    pub(crate) fn get(&self, number: u32) -> &T {
        let (segment, place) = locate(number);
        let places = self.segments[segment].get().expect("the segment of a number that was given out exists");
        places[place].get().expect("a number is known only once its value is in place")
    }
}

/// Segment and place of a number.
fn locate(number: u32) -> (usize, usize) {
    let shifted = u64::from(number) + (1 << FIRST_SEGMENT_BITS);
    let segment = shifted.ilog2() - FIRST_SEGMENT_BITS;
    let place = shifted - (1_u64 << (segment + FIRST_SEGMENT_BITS));
    (segment as usize, usize::try_from(place).expect("a place is below the number, which fits 32 bits"))
}

/// An arena that holds each value once.
pub(crate) struct Interner<K, T> {
    values: Arena<T>,
    numbers: Mutex<HashMap<K, u32, Folded>>,
}

impl<K: Hash + Eq, T> Interner<K, T> {
    pub(crate) fn new() -> Interner<K, T> {
        Interner { values: Arena::new(), numbers: Mutex::new(HashMap::default()) }
    }

    /// The number of the value of this key, which is put in if there is none yet.
    pub(crate) fn intern(&self, key: K, value: impl FnOnce() -> T) -> u32 {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        *numbers.entry(key).or_insert_with(|| self.values.push(value()))
    }

    pub(crate) fn get(&self, number: u32) -> &T {
        self.values.get(number)
    }

    pub(crate) fn len(&self) -> u32 {
        self.values.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_find_their_values_across_segments() {
        let interner = Interner::new();
        for key in 0..5_000_u32 {
            assert_eq!(interner.intern(key, || key * 2), key);
        }
        assert_eq!(interner.intern(17, || 0), 17, "an equal key has its number already");
        assert!((0..5_000).all(|number| *interner.get(number) == number * 2));
        assert_eq!(interner.len(), 5_000);
    }
}
