//! Tests of what cannot be brought about from outside: what is served at once, and completions that come late.

use super::*;

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

fn stored(index: u64) -> Stored {
    Stored { index: Index::new(index), bytes: 100, name: String::new() }
}

fn with(indexes: &[u64]) -> Snapshots {
    let options = SnapshotsOptions { id: id(1), log_bytes_min: 1, place: (0, 3), piece_bytes: 10, timeout_ticks: 5 };
    Snapshots::new(options, indexes.iter().map(|index| stored(*index)).collect(), 0)
}

fn complete(snapshots: &mut Snapshots, completion: CompletionKind) -> Option<Outcome> {
    snapshots.completed(SnapshotCompletion(completion)).expect("nothing failed")
}

/// The snapshots that are to be removed.
fn removals(snapshots: &mut Snapshots) -> Vec<u64> {
    let removal = |work: SnapshotWork| if let WorkKind::Remove { index } = work.0 { Some(index.get()) } else { None };
    snapshots.take_work().into_iter().filter_map(removal).collect()
}

#[test]
fn a_peer_is_served_all_that_it_may_ask_for_ahead_and_no_more() {
    let mut snapshots = with(&[9]);
    for offset in 0..2 * WINDOW_PIECES {
        for peer in [2, 3] {
            let body = SideBody::FetchSnapshot { index: Some(Index::new(9)), offset: 10 * offset };
            snapshots.message(id(peer), body);
        }
    }
    assert_eq!(snapshots.take_work().len() as u64, 2 * WINDOW_PIECES, "as many as each may ask for");
    complete(&mut snapshots, CompletionKind::Served { to: id(2), result: Ok(SideBody::NoSnapshot) });
    snapshots.message(id(2), SideBody::FetchSnapshot { index: Some(Index::new(9)), offset: 0 });
    assert_eq!(snapshots.take_work().len(), 1, "one was read, so one more may be");
}

#[test]
fn an_own_snapshot_that_was_overtaken_by_a_peers_is_dropped() {
    let mut snapshots = with(&[9]);
    (snapshots.taking, snapshots.covered_bytes) = (Some((Index::new(7), 70)), 90);
    let outcome = complete(&mut snapshots, CompletionKind::Took(Ok(Step::Done(stored(7)))));
    assert!(outcome.is_none() && !snapshots.is_taking(), "the log does not lead on from there");
    assert_eq!(removals(&mut snapshots), [7]);
    assert_eq!((snapshots.stored.len(), snapshots.covered_bytes), (1, 90), "there is less log than that to go");
    // One that is ahead counts.
    snapshots.taking = Some((Index::new(11), 110));
    let outcome = complete(&mut snapshots, CompletionKind::Took(Ok(Step::Done(stored(11)))));
    assert!(matches!(outcome, Some(Outcome::Taken { index }) if index == Index::new(11)));
    assert_eq!((snapshots.newest().0, snapshots.covered_bytes), (Index::new(11), 110));
}

#[test]
fn a_peers_snapshot_that_is_not_needed_is_removed_unless_it_is_this_nodes_own_too() {
    let mut snapshots = with(&[5]);
    snapshots.taking = Some((Index::new(7), 70));
    snapshots.not_needed(Index::new(7));
    snapshots.not_needed(Index::new(5));
    assert!(removals(&mut snapshots).is_empty(), "this node's own has the same name");
    snapshots.not_needed(Index::new(6));
    assert_eq!(removals(&mut snapshots), [6]);
}
