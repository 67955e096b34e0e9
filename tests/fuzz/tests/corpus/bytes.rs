//! The bytes that stand for numbers, as the seeds write them.

use fuzz::input::{EDGE, EXACTLY, FAR, NEAR, NEXT_ANCHOR, RAW};

/// The greatest number.
pub(crate) const MAX: u8 = EDGE;

/// A number `delta` away from the anchor of this place among the four that the target offers.
pub(crate) fn near(anchor: u8, delta: i8) -> u8 {
    (NEAR + anchor * NEXT_ANCHOR + EXACTLY).wrapping_add_signed(delta)
}

/// The same, 2^32 further on.
pub(crate) fn far(anchor: u8, delta: i8) -> u8 {
    near(anchor, delta) + (FAR - NEAR)
}

/// Any number at all.
pub(crate) fn raw(number: u64) -> Vec<u8> {
    [vec![RAW], number.to_le_bytes().to_vec()].concat()
}
