//! No queue and no message grows without bound, whatever the disk and the network do.

use engine::{Answer, EngineStatus, Ticket};
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

/// No write is taken while too much waits for the leader's own log.
pub(crate) struct DiskBound {
    bytes_max: u64,
    /// Who asked last, and how many bytes waited then. The first answer comes in the same step.
    asked: Option<(Ticket, u64)>,
}

impl DiskBound {
    pub(crate) fn new(bytes_max: usize) -> DiskBound {
        DiskBound { bytes_max: bytes_max as u64, asked: None }
    }

    /// A node was asked while so many bytes waited for its log.
    pub(crate) fn asked(&mut self, ticket: Ticket, pending_bytes: usize) {
        self.asked = Some((ticket, pending_bytes as u64));
    }

    /// Whether this ticket asked last, and too much waited then.
    pub(crate) fn was_behind(&self, ticket: Ticket) -> bool {
        self.asked.is_some_and(|(asked, bytes)| asked == ticket && bytes > self.bytes_max)
    }

    pub(crate) fn answered(&self, node: usize, ticket: Ticket, answer: &Answer) -> Result<(), Violation> {
        match (answer, self.asked) {
            (Answer::Proposed { .. }, Some((asked, bytes))) if asked == ticket => {
                bounded(node, "bytes waiting for the log of a leader that takes a write", bytes, self.bytes_max)
            }
            _ => Ok(()),
        }
    }
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
        let mut disk = DiskBound::new(10);
        let proposed = Answer::Proposed { term: raft::Term::new(1), index: raft::Index::new(1) };
        disk.asked(Ticket::new(1), 10);
        assert_eq!(disk.answered(0, Ticket::new(1), &proposed), Ok(()));
        disk.asked(Ticket::new(2), 11);
        assert_eq!(disk.answered(0, Ticket::new(2), &Answer::Overloaded), Ok(()));
        let what = "bytes waiting for the log of a leader that takes a write";
        let taken = Violation::Unbounded { node, what, count: 11, bound: 10 };
        assert_eq!(disk.answered(0, Ticket::new(2), &proposed), Err(taken));
        let (what, bound) = ("events under way", EVENTS_MAX);
        assert_eq!(check_events(0, 100_001), Err(Violation::Unbounded { node, what, count: 100_001, bound }));
    }
}
