//! A snapshot that ends within the log: what it covers is committed, and what lies behind it stays.

use crate::node::*;

#[test]
fn a_snapshot_that_ends_within_the_log_takes_nothing_from_it() {
    // E4: what lies behind it may have been acknowledged, and counted by a leader.
    let mut node = Node::with_log(3, 2, &[1, 1, 2, 2, 2]);
    assert!(!node.install(&entries(&[1, 1, 2])), "it has all that");
    node.pump();
    assert_eq!((node.raft.commit_index(), node.log_terms()), (index(3), vec![1, 1, 2, 2, 2]));
    assert_eq!(node.applied, entries(&[1, 1, 2]), "a snapshot is of committed entries");
    assert!(installed(&node).is_empty() && node.unsynced.is_empty());
    node.crash(0);
    assert_eq!(node.log_terms(), [1, 1, 2, 2, 2]);
}
