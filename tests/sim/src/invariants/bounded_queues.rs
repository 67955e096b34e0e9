//! No queue and no message grows without bound, whatever the disk and the network do.

use engine::EngineStatus;
use raft::Entry;

use crate::node::node_id;
use crate::violation::Violation;

/// What may wait, at most. Clients of a run have one operation each, but tickets that were given up keep their places
/// until their fate is decided; the bounds of the engine itself are higher.
const WAITING_MAX: u64 = 2_000;

/// How many bytes may wait for a disk: a follower accepts no more than the windows of the leaders that it had, a leader
/// proposes no more than its bound of uncommitted bytes.
const WAL_PENDING_BYTES_MAX: u64 = 4 << 20;

/// How many events the world may have planned.
const EVENTS_MAX: u64 = 100_000;

pub(crate) fn check(node: usize, status: &EngineStatus) -> Result<(), Violation> {
    bounded(node, "writes waiting", status.writes_waiting as u64, WAITING_MAX)?;
    bounded(node, "reads waiting", status.reads_waiting as u64, WAITING_MAX)?;
    bounded(node, "bytes waiting for the log", status.wal_pending_bytes as u64, WAL_PENDING_BYTES_MAX)
}

/// Messages and timers under way.
pub(crate) fn check_events(node: usize, count: usize) -> Result<(), Violation> {
    bounded(node, "events under way", count as u64, EVENTS_MAX)
}

/// The entries of one message; a single one may be larger than the bound, or it could never leave.
pub(crate) fn check_append(node: usize, entries: &[Entry], bytes_max: usize) -> Result<(), Violation> {
    let bytes: usize = entries.iter().map(Entry::size_bytes).sum();
    if entries.len() <= 1 {
        return Ok(());
    }
    bounded(node, "bytes in an AppendEntries", bytes as u64, bytes_max as u64)
}

fn bounded(node: usize, what: &'static str, count: u64, bound: u64) -> Result<(), Violation> {
    if count > bound {
        return Err(Violation::Unbounded { node: node_id(node), what, count, bound });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_found() {
        assert_eq!(bounded(0, "reads waiting", 5, 5), Ok(()));
        let (node, what) = (node_id(0), "reads waiting");
        assert_eq!(bounded(0, what, 6, 5), Err(Violation::Unbounded { node, what, count: 6, bound: 5 }));
        let (what, bound) = ("events under way", EVENTS_MAX);
        assert_eq!(check_events(0, 100_001), Err(Violation::Unbounded { node, what, count: 100_001, bound }));
    }
}
