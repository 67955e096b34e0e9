//! Whether there is room on the disk for more.
//!
//! Writes that make the state larger are refused before the disk is full, while there is still room for the log of what
//! was accepted, for a snapshot, and for the deletions that make room.

/// Refused writes are taken again when there is so much more room than the reserve, in parts of it: otherwise each
/// piece of log that is cut would let in a few writes and close the door again.
const REOPEN_PARTS: u64 = 8;

/// What is known of the disk's room.
#[derive(Debug)]
pub(super) struct Space {
    reserve_bytes: u64,
    is_full: bool,
}

impl Space {
    /// There is room as long as nobody says otherwise.
    pub(super) fn new(reserve_bytes: u64) -> Space {
        Space { reserve_bytes, is_full: false }
    }

    /// The disk has `free_bytes` left; the next snapshot will need `snapshot_bytes`, about.
    pub(super) fn observe(&mut self, free_bytes: u64, snapshot_bytes: u64) {
        let reserve_bytes = self.reserve_bytes.saturating_add(snapshot_bytes);
        let enough =
            if self.is_full { reserve_bytes.saturating_add(reserve_bytes / REOPEN_PARTS) } else { reserve_bytes };
        self.is_full = free_bytes < enough;
    }

    /// Whether what needs room is refused.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_closes_at_the_reserve_and_opens_a_little_above_it() {
        let mut space = Space::new(800);
        assert!(!space.is_full());
        for (free_bytes, is_full) in [(800, false), (799, true), (800, true), (899, true), (900, false), (800, false)] {
            space.observe(free_bytes, 0);
            assert_eq!(space.is_full(), is_full, "{free_bytes} bytes free");
        }
        space.observe(900, 101);
        assert!(space.is_full(), "there is no room for a snapshot");
    }
}
