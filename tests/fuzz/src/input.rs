//! Reads structure out of arbitrary bytes: a cursor that never fails.

/// What a fuzzer made up, read from front to back. Behind the end there are zeros, so that every input means something
/// and a short one is not worth less than a long one.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

/// Numbers at which something overflows, ends or begins.
const EDGES: [u64; 16] = [
    u64::MAX,
    u64::MAX - 1,
    u64::MAX - 2,
    u64::MAX - (1 << 32),
    u64::MAX - (1 << 32) - 1,
    1 << 63,
    (1 << 63) - 1,
    (1 << 32) - 1,
    1 << 32,
    (1 << 32) + 1,
    u32::MAX as u64 - 1,
    1 << 24,
    (1 << 24) - 1,
    1 << 16,
    1 << 20,
    0,
];

/// From here on a byte stands for a number near one that the target offers.
pub const NEAR: u8 = 0x80;

/// The same, 2^32 further on.
pub const FAR: u8 = 0xa0;

/// From here on a byte stands for an edge, from the greatest number down.
pub const EDGE: u8 = 0xc0;

/// From here on a byte stands for the eight bytes behind it.
pub const RAW: u8 = 0xe0;

/// Added to [`NEAR`] or [`FAR`]: the number itself. One less is one below it, one more is one above.
pub const EXACTLY: u8 = 3;

/// Added to [`NEAR`] or [`FAR`]: the next of the numbers that the target offers.
pub const NEXT_ANCHOR: u8 = 8;

impl<'a> Input<'a> {
    /// Begins at the front.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    /// Whether nothing but the zeros behind the end is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((&byte, rest)) => {
                self.rest = rest;
                byte
            }
            None => 0,
        }
    }

    /// The next bit, for which a whole byte is taken.
    pub fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// The next two bytes, least first.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// The next eight bytes, least first.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.u8()))
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        match limit {
            0..=256 => usize::from(self.u8()) % limit,
            _ => usize::from(self.u16()) % limit,
        }
    }

    /// The next bytes, fewer at the end.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// A number in few bytes that is small, near one of `anchors`, 2^32 further on, or at an edge; or any at all. Half
    /// of all bytes stand for themselves, an eighth each for the other kinds.
    pub fn number(&mut self, anchors: [u64; 4]) -> u64 {
        let byte = self.u8();
        let near = || {
            let anchor = anchors[usize::from(byte >> 3 & 3)];
            anchor.wrapping_add(u64::from(byte & 7)).wrapping_sub(u64::from(EXACTLY))
        };
        match byte {
            0..NEAR => u64::from(byte),
            NEAR..FAR => near(),
            FAR..EDGE => near().wrapping_add(1 << 32),
            EDGE..RAW => EDGES[usize::from(byte - EDGE) % EDGES.len()],
            RAW.. => self.u64(),
        }
    }
}
