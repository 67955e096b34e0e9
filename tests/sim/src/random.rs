//! The only source of randomness: one seed, split by purpose.
//!
//! Each purpose (the network, the disks, the clients, …) draws from a stream of its own, so that one more draw in one
//! place does not shift the luck of all others. The generator is SplitMix64, from its published definition: G. Steele,
//! D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// Any seed is good.
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The stream of a run for one purpose.
    pub(crate) fn for_purpose(seed: u64, purpose: &str) -> Random {
        let name = xxhash_rust::xxh3::xxh3_64_with_seed(purpose.as_bytes(), seed);
        Random::new(Random::new(name).bits())
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 to `count - 1`, or 0 if `count` is 0.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        let scaled = (u128::from(self.bits()) * u128::from(count)) >> 64;
        u64::try_from(scaled).expect("it is below a u64")
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A position in something of this length.
    pub(crate) fn position(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("it is below a usize")
    }

    /// True in so many of a thousand cases.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.position(choices.len())]
    }

    /// The numbers below `count` in random order.
    pub(crate) fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            numbers.swap(last, self.position(last + 1));
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, purpose| Random::for_purpose(seed, purpose).bits();
        assert_eq!(draw(1, "network"), draw(1, "network"));
        assert_ne!(draw(1, "network"), draw(1, "disk"));
        assert_ne!(draw(1, "network"), draw(2, "network"));
    }

    #[test]
    fn ranges_are_kept_and_both_ends_reached() {
        let mut random = Random::new(5);
        let drawn: std::collections::BTreeSet<u64> = (0..200).map(|_| random.between((3, 6))).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [3, 4, 5, 6]);
        let mut all = random.shuffled(7);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!((random.chance(0), random.chance(1000)), (false, true));
    }
}
