//! How much a search may cost.

/// What a search may spend on one key before it gives up with [`crate::Verdict::Unknown`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Steps of the model. A million take a second at the very most.
    pub steps: u64,
    /// Bytes of remembered points, as they are counted here: the allocator's overhead is not.
    pub memory_bytes: u64,
}

impl Budget {
    /// A minute or so of searching.
    pub const STEPS_DEFAULT: u64 = 500_000_000;

    /// A quarter of a small machine.
    pub const MEMORY_BYTES_DEFAULT: u64 = 2 << 30;

    /// So many steps, and the memory of the default.
    pub fn steps(steps: u64) -> Budget {
        Budget { steps, ..Budget::default() }
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { steps: Budget::STEPS_DEFAULT, memory_bytes: Budget::MEMORY_BYTES_DEFAULT }
    }
}
