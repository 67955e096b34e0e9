//! The core's only randomness: SplitMix64, seeded from outside.
//!
//! Election timeouts need to differ between nodes, nothing more, so a generator of one word and five operations is
//! enough. It is written from the published definition: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom
//! number generators", OOPSLA 2014 (the output function is Stafford's variant 13, as given there).

/// The generator.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// Any seed is good; equal seeds give equal numbers.
    pub(crate) fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 random bits.
    fn next(&mut self) -> u64 {
        // The odd number nearest to 2^64 divided by the golden ratio, so that every state is visited once.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from `low` to `high`, both included. Scaled by a multiplication; the bias of at most one in 2^32 means
    /// nothing to an election.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        debug_assert!(low <= high, "an empty range: {low} to {high}");
        let count = u64::from(high - low) + 1;
        let offset = ((self.next() >> 32) * count) >> 32;
        low + u32::try_from(offset).expect("the offset is at most high - low")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_numbers() {
        // The first outputs for seed 0, as printed in the test vectors that accompany the algorithm.
        let mut random = Random::new(0);
        let numbers = [random.next(), random.next(), random.next()];
        assert_eq!(numbers, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn stays_in_range_and_reaches_both_ends() {
        let mut random = Random::new(7);
        let mut seen = [0_u32; 6];
        for _ in 0..6000 {
            seen[random.between(10, 15) as usize - 10] += 1;
        }
        assert!(seen.iter().all(|&count| count > 800), "far from uniform: {seen:?}");
        assert_eq!(random.between(3, 3), 3);
        let _ = random.between(0, u32::MAX);
    }
}
