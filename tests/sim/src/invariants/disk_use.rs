//! A disk holds as much as the state and the log between snapshots need, and no more, however long a node runs.
//!
//! What may be there follows from the rules in `engine/snapshots` and `engine/wal`. A *part* is what makes a snapshot
//! due: the log between two of them, or the size of one, whichever is more.
//!
//! - **Snapshots.** Two are kept ([`KEPT`]), and at most three more that slow followers hold on to ([`HELD_MAX`]). One
//!   that is complete may come on top before the oldest goes, and in the same moment a peer's ([`COMING`]). Their own
//!   removals are work of the same executor, in turns with the writing of the next, and need fewer steps than that: so
//!   no further one is complete before they are gone.
//! - **Drafts.** One is being written, one received: the engine begins none while it has one.
//! - **The log** behind the oldest snapshot: one part from each snapshot to the next, one from the newest to that which
//!   is being taken, and one more after the newest was found damaged at a start and removed ([`INTERVALS_MORE`]).
//!   Segments are removed one at a time and in turns with preparing them, so for a while the log of snapshots that are
//!   gone may still be there: the most snapshots of the last [`WINDOW_US`] to twice that count.
//!   What is not committed is in no part: no snapshot can cover it, and a leader without a majority, or one whose
//!   followers take one small message at a time, gathers it up to a bound of its own. Nor is what was dropped for a new
//!   leader's entries, until something behind it is applied and a snapshot can follow.
//! - **Spares.** Of the log that was let go of, as many bytes of files as one part are kept, to be used again.
//! - A byte of an entry is more in the log: [`RECORD_BYTES_PER_ENTRY_BYTE`].
//! - One segment is in use, one prepared, the oldest is needed for its last entry only, one is being removed, and an
//!   entry that is larger than a segment may find a small one prepared ([`SEGMENTS_MAX`]).
//! - What arrives while a snapshot is written, which takes the longer the slower the disk is, is in no part.

use engine::disk::MemoryDisk;

use crate::node::node_id;
use crate::settings::Settings;
use crate::violation::Violation;

const KEPT: u64 = 2;
const HELD_MAX: u64 = 3;
const COMING: u64 = 2;
const INTERVALS_MORE: u64 = 2;

/// An entry counts 32 bytes more than its command. Its record has 48 and is padded to a multiple of 8; often a hard
/// state of 56 goes with it. The smallest command has some 30 bytes.
const RECORD_BYTES_PER_ENTRY_BYTE: u64 = 2;

const SEGMENTS_MAX: u64 = 6;

/// What is written while a snapshot is, and while segments are removed: a little, and more if that takes long.
const UNDER_WAY_BYTES: u64 = 64 << 10;
const UNDER_WAY_BYTES_PER_MS: u64 = 2 << 10;

/// So long it may take to remove the log of snapshots that are gone, in microseconds.
const WINDOW_US: u64 = 20_000_000;

/// A window lasts at least so many ticks of its node: one that stands still or is down removes nothing.
const WINDOW_TICKS: u64 = 64;

/// What every disk may hold.
pub(crate) struct DiskUse {
    log_bytes_min: u64,
    segment_bytes: u64,
    /// The longest time that one piece of work on a snapshot takes, in microseconds.
    work_us: u64,
    /// What was lately on each disk.
    lately: Vec<Lately>,
}

/// What was on one disk: in the present window, and in the one before.
#[derive(Clone, Copy, Default, Debug)]
struct Lately {
    present: Most,
    before: Most,
    began_us: u64,
    ticks: u64,
}

/// The most that there was at a time.
#[derive(Clone, Copy, Default, Debug)]
struct Most {
    snapshots: u64,
    /// The size of the largest snapshot, in bytes.
    largest_bytes: u64,
}

/// What is on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Holdings {
    snapshots: u64,
    largest_bytes: u64,
    written: u64,
    received: u64,
    spare_bytes: u64,
    log_bytes: u64,
    largest_segment_bytes: u64,
    uncovered_bytes: u64,
}

impl Holdings {
    /// What is on the disk of a node whose log has so many bytes of entries that no snapshot can cover.
    pub(crate) fn of(disk: &MemoryDisk, uncovered_bytes: usize) -> Holdings {
        let mut holdings = Holdings { uncovered_bytes: uncovered_bytes as u64, ..Holdings::default() };
        disk.for_each_file(&mut |name, bytes| {
            let is_snapshot = name.starts_with("snapshot-");
            if is_snapshot && (name.ends_with(".snap") || name.ends_with(".old")) {
                holdings.snapshots += 1;
                holdings.largest_bytes = holdings.largest_bytes.max(bytes);
            } else if is_snapshot && name.ends_with(".tmp") {
                holdings.written += 1;
                holdings.largest_bytes = holdings.largest_bytes.max(bytes);
            } else if name.ends_with(".part") {
                holdings.received += 1;
            } else if name.ends_with(".old") {
                holdings.spare_bytes += bytes;
            } else {
                holdings.log_bytes += bytes;
                holdings.largest_segment_bytes = holdings.largest_segment_bytes.max(bytes);
            }
        });
        holdings
    }
}

impl DiskUse {
    pub(crate) fn new(settings: &Settings) -> DiskUse {
        DiskUse {
            log_bytes_min: settings.snapshots.log_bytes_min,
            segment_bytes: settings.segment_bytes,
            work_us: settings.snapshots.work_us.1,
            lately: vec![Lately::default(); settings.size],
        }
    }

    /// What is on the disk of a node that has just ticked. With `is_bounded` it is compared with what may be.
    pub(crate) fn check(
        &mut self,
        node: usize,
        now_us: u64,
        holdings: &Holdings,
        is_bounded: bool,
    ) -> Result<(), Violation> {
        let Lately { present, before, began_us, ticks } = &mut self.lately[node];
        *ticks += 1;
        if now_us - *began_us >= WINDOW_US && *ticks >= WINDOW_TICKS {
            (*before, *began_us, *ticks) = (std::mem::take(present), now_us, 0);
        }
        present.snapshots = present.snapshots.max(holdings.snapshots);
        present.largest_bytes = present.largest_bytes.max(holdings.largest_bytes);
        if !is_bounded {
            return Ok(());
        }
        let part = self.log_bytes_min.max(present.largest_bytes).max(before.largest_bytes);
        let intervals = present.snapshots.max(before.snapshots) + INTERVALS_MORE;
        let log_bytes_max = RECORD_BYTES_PER_ENTRY_BYTE * (intervals * part + holdings.uncovered_bytes)
            + SEGMENTS_MAX * self.segment_bytes.max(holdings.largest_segment_bytes)
            + UNDER_WAY_BYTES
            + self.work_us * UNDER_WAY_BYTES_PER_MS / 1000;
        let bounds = [
            ("snapshots on the disk", holdings.snapshots, KEPT + HELD_MAX + COMING),
            ("snapshots being written", holdings.written, 1),
            ("snapshots being received", holdings.received, 1),
            ("bytes of spare segments on the disk", holdings.spare_bytes, part),
            ("bytes of log on the disk", holdings.log_bytes, log_bytes_max),
        ];
        match bounds.into_iter().find(|(_, count, bound)| count > bound) {
            Some((what, count, bound)) => Err(Violation::Unbounded { node: node_id(node), what, count, bound }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_up_is_found() {
        let settings = Settings::draw(0);
        let mut disk_use = DiskUse { log_bytes_min: 1 << 10, segment_bytes: 4 << 10, ..DiskUse::new(&settings) };
        disk_use.work_us = 500;
        let usual = Holdings { snapshots: 2, largest_bytes: 1 << 10, log_bytes: 64 << 10, ..Holdings::default() };
        let mut check = |holdings| disk_use.check(0, 5, &holdings, true).is_ok();
        assert!(check(usual));
        assert!(check(Holdings { snapshots: 7, written: 1, received: 1, ..usual }));
        assert!(!check(Holdings { snapshots: 8, ..usual }));
        assert!(!check(Holdings { written: 2, ..usual }));
        assert!(!check(Holdings { received: 2, ..usual }));
        assert!(check(Holdings { spare_bytes: 1 << 10, ..usual }));
        assert!(!check(Holdings { spare_bytes: 4 << 10, ..usual }));
        assert!(!check(Holdings { log_bytes: 256 << 10, ..usual }));
    }

    #[test]
    fn the_log_of_snapshots_that_are_gone_may_stay_for_a_while() {
        let settings = Settings::draw(0);
        let mut disk_use = DiskUse { log_bytes_min: 64 << 10, segment_bytes: 4 << 10, ..DiskUse::new(&settings) };
        disk_use.work_us = 0;
        let log_bytes = 2 * 7 * (64 << 10);
        let held = Holdings { snapshots: 5, log_bytes, ..Holdings::default() };
        let mut check = |now_us, holdings| disk_use.check(0, now_us, &holdings, true).is_ok();
        assert!(check(1, held));
        let let_go = Holdings { snapshots: 2, ..held };
        let hours_us = |hours: u64| hours * 3_600_000_000;
        // It was down for an hour, and has hardly begun to remove anything.
        assert!((1..WINDOW_TICKS).all(|tick| check(hours_us(1) + tick, let_go)));
        assert!((1..WINDOW_TICKS).all(|tick| check(hours_us(2) + tick, let_go)));
        assert!(!check(hours_us(2) + WINDOW_TICKS, let_go));
    }
}
