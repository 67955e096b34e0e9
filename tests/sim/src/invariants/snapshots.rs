//! Snapshots stand for what they say (§7): the newest one covers nothing that is not applied, the log is cut behind one
//! only, neither goes back while a process runs, and what stands in the file is the state that everyone had at its
//! index, with the terms of the committed log. And it is not needed: the one before it and the log lead to the same.

use engine::Opened;
use engine::disk::{Disk, MemoryDisk};
use engine::kv::ImageLoader;
use engine::snapshot::{self, Meta, Reader};
use raft::{Index, Payload};

use super::committed_agreement::CommittedLog;
use super::state_hash::StateHash;
use super::view::{Change, View, index, name, position};
use crate::node::node_id;
use crate::violation::Violation;

/// How much of a log is read at a time, in bytes.
const READ_BYTES: usize = 64 << 10;

pub(crate) fn check(views: &[View], change: &Change) -> Result<(), Violation> {
    let view = &views[change.node];
    let (node, snapshot, first) = (name(change), index(view.snapshot), index(view.first));
    if view.snapshot > view.applied {
        return Err(Violation::SnapshotBeyondApplied { node, snapshot, applied: index(view.applied) });
    }
    if view.first > view.snapshot + 1 {
        return Err(Violation::LogCutTooFar { node, first, snapshot });
    }
    // One that cannot be read any more is done without; what else such a disk leads to shows at the next write.
    let unreadable = view.disk_fails && view.snapshot < change.snapshot;
    let fell = (view.snapshot < change.snapshot && !unreadable) || view.first < change.first;
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
    if meta.term_starts != log.term_starts(view.snapshot) {
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

/// What an engine that started from an older snapshot holds, applied up to the index of a newer one: the state that
/// everyone had there. If its log does not reach so far, or holds entries there that it was to drop: up to where it
/// holds what was committed.
pub(crate) fn check_replay(
    newest: usize,
    opened: &Opened,
    states: &StateHash,
    log: &CommittedLog,
) -> Result<(), String> {
    let holds = |at: &usize| opened.engine.raft().term_at(index(*at)) == log.term_at(*at);
    let until = index((1..=newest).rev().find(holds).unwrap_or(0));
    let (mut store, mut applied) = (opened.engine.store().clone(), opened.engine.status().applied);
    while applied < until {
        let entries = opened.reader.read(applied.next(), READ_BYTES).map_err(|error| error.to_string())?;
        if entries.is_empty() {
            return Err(format!("its log has no entry behind {applied}"));
        }
        for entry in entries.into_iter().take_while(|entry| entry.index <= until) {
            applied = entry.index;
            if let Payload::Command(command) = &entry.payload {
                store.apply(applied, command).map_err(|error| error.to_string())?;
            }
        }
    }
    let found = (store.recompute_hash(), store.revision().get());
    match states.at(position(applied)) {
        Some(known) if known != found => Err(format!("it would have another state after entry {applied}")),
        _ => Ok(()),
    }
}

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
        views[0].disk_fails = true;
        assert_eq!(check(&views, &Change { snapshot: 3, ..change }), Ok(()), "it cannot be read");
        assert!(check(&views, &Change { first: 4, snapshot: 3, ..change }).is_err(), "the log's beginning fell");
        views[0].disk_fails = false;
        views[0].first = 4;
        assert!(check(&views, &change).is_err(), "entry 3 is nowhere");
        (views[0].snapshot, views[0].first) = (4, 3);
        assert!(check(&views, &change).is_err(), "nobody has applied entry 4");
    }
}
