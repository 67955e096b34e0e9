//! Snapshots stand for what they say (§7): the newest one covers nothing that is not applied, the log is cut behind one
//! only, neither goes back while a process runs, and what stands in the file is the state that everyone had at its
//! index, with the terms of the committed log.

use engine::disk::{Disk, MemoryDisk};
use engine::kv::ImageLoader;
use engine::snapshot::{self, Meta, Reader};
use raft::{Index, Term};

use super::committed_agreement::CommittedLog;
use super::state_hash::StateHash;
use super::view::{Change, View, index, name};
use crate::node::node_id;
use crate::violation::Violation;

pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    let (node, snapshot, first) = (name(change), index(view.snapshot), index(view.first));
    if view.snapshot > view.applied {
        return Err(Violation::SnapshotBeyondApplied { node, snapshot, applied: index(view.applied) });
    }
    if view.first > view.snapshot + 1 {
        return Err(Violation::LogCutTooFar { node, first, snapshot });
    }
    let fell = view.snapshot < change.snapshot || view.first < change.first;
    if fell && !change.started {
        let (snapshot_before, first_before) = (index(change.snapshot), index(change.first));
        return Err(Violation::SnapshotFell { node, snapshot_before, snapshot, first_before, first });
    }
    Ok(())
}

/// The file of the newest snapshot of a node, read to its end.
pub(crate) fn check_file(
    node: usize,
    view: &View,
    disk: &MemoryDisk,
    states: &StateHash,
    log: &CommittedLog,
) -> Result<(), Violation> {
    let at = index(view.snapshot);
    let wrong = |reason: String| Violation::SnapshotWrong { node: node_id(node), index: at, reason };
    let (meta, hash, revision) = read(disk, at).map_err(wrong)?;
    if states.at(view.snapshot).is_some_and(|known| known != (hash, revision)) {
        return Err(wrong("it holds another state than there was".to_owned()));
    }
    if meta.term_starts != term_starts(log, view.snapshot) {
        return Err(wrong(format!("it tells terms {:?}", meta.term_starts)));
    }
    Ok(())
}

/// What a snapshot covers, and the hash and the revision of its state.
fn read(disk: &dyn Disk, at: Index) -> Result<(Meta, u128, u64), String> {
    let stored = snapshot::list(disk).map_err(|error| error.to_string())?;
    let file = stored.into_iter().find(|stored| stored.index == at).ok_or("it is not there")?;
    let mut reader = Reader::open(disk, &file.name).map_err(|error| error.to_string())?;
    let mut loader = ImageLoader::new();
    while let Some(chunk) = reader.next_chunk().map_err(|error| error.to_string())? {
        loader.section(chunk.tag, chunk.bytes).map_err(|error| error.to_string())?;
    }
    let store = loader.finish().map_err(|error| error.to_string())?;
    Ok((reader.meta().clone(), store.recompute_hash(), store.revision().get()))
}

/// The first index of each run of entries of one term, up to a position.
fn term_starts(log: &CommittedLog, last: usize) -> Vec<(Index, Term)> {
    let mut starts: Vec<(Index, Term)> = Vec::new();
    for at in 1..=last {
        let Some(term) = log.term_at(at) else { break };
        if starts.last().is_none_or(|(_, before)| *before != term) {
            starts.push((index(at), term));
        }
    }
    starts
}

/// How many bytes a node may have on its disk: a few times what its state and the log between two snapshots take.
pub(crate) struct DiskUse {
    pub(crate) log_bytes_min: u64,
    pub(crate) segment_bytes: u64,
    /// The longest time that one piece of work on a snapshot takes, in microseconds.
    pub(crate) work_us: u64,
}

/// Two snapshots, one on its way, one that a slow peer holds on to, and the log behind the oldest, which is allowed to
/// grow to four times what makes a snapshot due while it is held; and records are larger than their entries.
const PARTS_MAX: u64 = 24;

/// Segments that are prepared or not yet full.
const SEGMENTS_MAX: u64 = 8;

impl DiskUse {
    pub(crate) fn check(&self, node: usize, view: &View, used_bytes: u64) -> Result<(), Violation> {
        let due = self.log_bytes_min.max(view.snapshot_bytes);
        let bound = PARTS_MAX * due
            + SEGMENTS_MAX * self.segment_bytes
            + UNDER_WAY_BYTES
            + self.work_us * UNDER_WAY_BYTES_PER_MS / 1000;
        if used_bytes > bound {
            let what = "bytes on the disk";
            return Err(Violation::Unbounded { node: node_id(node), what, count: used_bytes, bound });
        }
        Ok(())
    }
}

/// What is written while a snapshot is, and while segments are removed: a little, and more if that takes long.
const UNDER_WAY_BYTES: u64 = 64 << 10;
const UNDER_WAY_BYTES_PER_MS: u64 = 2 << 10;

#[cfg(test)]
mod tests {
    use super::super::view::made::{no_change, view};
    use super::*;
    use raft::Role;

    #[test]
    fn what_is_cut_or_goes_back_is_found() {
        let mut views = [view(Role::Follower, 1, &[1, 1, 1], 3)];
        (views[0].snapshot, views[0].first) = (2, 3);
        let change = no_change(0, &views[0]);
        assert_eq!(check(&views, &change), Ok(()));
        assert!(check(&views, &Change { first: 4, ..change }).is_err(), "the log's beginning fell");
        assert!(check(&views, &Change { snapshot: 3, ..change }).is_err(), "the newest snapshot fell");
        assert_eq!(check(&views, &Change { snapshot: 3, started: true, ..change }), Ok(()));
        views[0].first = 4;
        assert!(check(&views, &change).is_err(), "entry 3 is nowhere");
        (views[0].snapshot, views[0].first) = (4, 3);
        assert!(check(&views, &change).is_err(), "nobody has applied entry 4");
    }

    #[test]
    fn a_disk_that_fills_up_is_found() {
        let disk_use = DiskUse { log_bytes_min: 1 << 10, segment_bytes: 4 << 10, work_us: 500 };
        let view = view(Role::Follower, 1, &[1], 1);
        assert_eq!(disk_use.check(0, &view, 64 << 10), Ok(()));
        assert!(disk_use.check(0, &view, 256 << 10).is_err());
    }
}
