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
    Snapshots::new(options, indexes.iter().map(|index| stored(*index)).collect(), Vec::new(), 0)
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
    complete(
        &mut snapshots,
        CompletionKind::Served { to: id(2), index: Index::new(9), result: Ok(SideBody::NoSnapshot) },
    );
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

/// What is answered to a peer that asks for the beginning of a snapshot; `None` if a piece is read for it.
fn answer(snapshots: &mut Snapshots, index: Option<u64>) -> Option<SideBody> {
    snapshots.message(id(2), SideBody::FetchSnapshot { index: index.map(Index::new), offset: 0 });
    snapshots.take_messages().pop().map(|message| message.body)
}

#[test]
fn one_that_went_bad_is_told_once_and_not_handed_out_any_more() {
    let mut snapshots = with(&[5, 9]);
    assert_eq!(answer(&mut snapshots, Some(9)), None);
    let error = SnapshotError::TooLarge { bytes: 2, bytes_max: 1 };
    for _ in 0..2 {
        let result = Err(error.clone());
        complete(&mut snapshots, CompletionKind::Served { to: id(2), index: Index::new(9), result });
        assert_eq!(snapshots.take_messages().pop().map(|message| message.body), Some(SideBody::NoSnapshot));
        snapshots.serving.insert(id(2), 1);
    }
    let told = UnusableSnapshot { from: None, index: Index::new(9), why: error.to_string() };
    assert_eq!((snapshots.take_unusable(), snapshots.newest().0), (vec![told], Index::new(5)));
    assert_eq!(answer(&mut snapshots, Some(9)), Some(SideBody::NoSnapshot));
    snapshots.take_work();
    assert_eq!(answer(&mut snapshots, None), None);
    let work = snapshots.take_work();
    assert!(matches!(work[0].0, WorkKind::Serve { index, .. } if index == Index::new(5)), "the one before it");
}

#[test]
fn one_that_is_asked_for_from_the_beginning_again_is_looked_at_once_in_a_while() {
    let mut snapshots = with(&[9]);
    let checks = |snapshots: &mut Snapshots| {
        let work = snapshots.take_work();
        work.iter().filter(|work| matches!(work.0, WorkKind::Check(_))).count()
    };
    let ask = |snapshots: &mut Snapshots, offsets: &[u64]| {
        for &offset in offsets {
            snapshots.message(id(2), SideBody::FetchSnapshot { index: Some(Index::new(9)), offset });
        }
    };
    ask(&mut snapshots, &[0, 0, 80, 0]);
    assert_eq!(checks(&mut snapshots), 0, "it had not asked for the last piece");
    ask(&mut snapshots, &[90, 0, 90, 0]);
    assert_eq!(checks(&mut snapshots), 1, "one is enough");
    complete(&mut snapshots, CompletionKind::Checked { index: Index::new(9), result: Ok(None) });
    ask(&mut snapshots, &[90, 0]);
    assert_eq!(checks(&mut snapshots), 0, "it is sound");
    (0..snapshots.retry_ticks()).for_each(|_| snapshots.tick());
    ask(&mut snapshots, &[90, 0]);
    assert_eq!(checks(&mut snapshots), 1, "it may have gone bad since");
}
