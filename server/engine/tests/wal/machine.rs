//! How batches become disk work.

use engine::disk::{MemoryDisk, Operation};
use engine::wal::{WalError, Work};
use raft::BatchNumber;

use super::harness::{batch, entry, hard_state, open, raw_records, run, run_all, segment_files};

#[test]
fn what_queues_while_a_commit_runs_goes_out_in_one_commit() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 1 << 20).unwrap();
    run_all(&mut opened).unwrap();
    opened.wal.append(&batch(1, None, vec![entry(1, 1, b"a")], None)).unwrap();
    let first = opened.wal.next_work().expect("a commit");
    assert!(!first.is_background());
    for index in 2..=50 {
        opened.wal.append(&batch(index, None, vec![entry(1, index, b"b")], None)).unwrap();
    }
    assert!(opened.wal.next_work().is_none(), "one commit at a time");
    let syncs = disk.calls(Operation::SyncData);
    assert_eq!(run(&mut opened, first).unwrap(), Some(BatchNumber::new(1)));
    let second = opened.wal.next_work().expect("another commit");
    assert_eq!(run(&mut opened, second).unwrap(), Some(BatchNumber::new(50)));
    assert_eq!(disk.calls(Operation::SyncData), syncs + 2);
    assert!(opened.wal.next_work().is_none());
}

#[test]
fn a_commit_is_bounded_and_a_batch_is_durable_with_its_last_record() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 32 << 20).unwrap();
    run_all(&mut opened).unwrap();
    let entries = (1..=10).map(|index| entry(1, index, &[1; 1 << 20])).collect();
    opened.wal.append(&batch(1, None, entries, None)).unwrap();
    let pending = opened.wal.pending_bytes();
    assert!(pending > 10 << 20);
    let mut completions = Vec::new();
    while let Some(work) = opened.wal.next_work() {
        assert!(!work.is_background());
        completions.push(run(&mut opened, work).unwrap());
        assert!(pending - opened.wal.pending_bytes() <= completions.len() * (4 << 20));
    }
    assert_eq!(completions, [None, None, None, Some(BatchNumber::new(1))]);
}

#[test]
fn the_next_segment_is_prepared_ahead_and_beside_commits() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    opened.wal.append(&batch(1, None, vec![entry(1, 1, &[1; 2500])], None)).unwrap();
    let commit = opened.wal.next_work().unwrap();
    let prepare = opened.wal.next_work().expect("there always is a segment in reserve");
    assert!(!commit.is_background() && prepare.is_background());
    assert!(opened.wal.next_work().is_none(), "one preparation at a time");
    run(&mut opened, commit).unwrap();

    opened.wal.append(&batch(2, None, vec![entry(1, 2, &[2; 2500])], None)).unwrap();
    assert!(opened.wal.next_work().is_none(), "the commit waits for its segment");
    assert!(opened.wal.pending_bytes() > 2500);
    let completion = opened.executor.background().run(prepare);
    assert_eq!(opened.wal.completed(completion).unwrap(), None);
    assert_eq!(segment_files(&disk).len(), 2);
    let commit = opened.wal.next_work().unwrap();
    assert_eq!(run(&mut opened, commit).unwrap(), Some(BatchNumber::new(2)));
}

#[test]
fn a_batch_without_content_is_answered() {
    let (mut opened, _) = open(&MemoryDisk::new(), 4096).unwrap();
    opened.wal.append(&batch(1, None, vec![], None)).unwrap();
    assert_eq!(run_all(&mut opened).unwrap(), Some(BatchNumber::new(1)));
}

#[test]
fn an_idle_log_writes_its_hard_state_once_which_proves_all_before_it() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    run_all(&mut opened).unwrap();
    opened.wal.idle();
    assert!(opened.wal.next_work().is_none(), "a fresh log ends with a hard state already");
    opened.wal.append(&batch(1, None, vec![entry(1, 1, b"x")], Some(hard_state(1, 1, 0)))).unwrap();
    opened.wal.idle();
    run_all(&mut opened).unwrap();
    let before = raw_records(&disk);
    for _ in 0..3 {
        opened.wal.idle();
        assert_eq!(run_all(&mut opened).unwrap(), None, "it belongs to no batch");
    }
    let after = raw_records(&disk);
    assert_eq!(after.len(), before.len() + 1);
    let proof = after.last().unwrap();
    assert_eq!((proof.kind, proof.durable, proof.told.len()), (2, proof.position, 0));
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_nothing_is_queued() {
    let (mut opened, _) = open(&MemoryDisk::new(), 4096).unwrap();
    let entries = vec![entry(1, 1, b"fits"), entry(1, 2, &vec![0; 8 << 20])];
    let refused = opened.wal.append(&batch(1, None, entries, None));
    assert!(matches!(refused, Err(WalError::TooLarge { .. })), "{refused:?}");
    assert_eq!(opened.wal.pending_bytes(), 0);
    opened.wal.append(&batch(1, None, vec![entry(1, 1, b"fits")], None)).unwrap();
    assert_eq!(run_all(&mut opened).unwrap(), Some(BatchNumber::new(1)));
}

fn append_badly(bad: &raft::Batch) {
    let (mut opened, _) = open(&MemoryDisk::new(), 4096).unwrap();
    let good = vec![entry(3, 1, b""), entry(3, 2, b"")];
    opened.wal.append(&batch(1, None, good, Some(hard_state(3, 1, 1)))).unwrap();
    let _ = opened.wal.append(bad);
}

#[test]
#[should_panic(expected = "an entry whose index does not follow the last one")]
fn a_gap_is_never_written() {
    append_badly(&batch(2, None, vec![entry(3, 4, b"")], None));
}

#[test]
#[should_panic(expected = "a truncation of committed entries")]
fn a_committed_entry_is_never_taken_back() {
    append_badly(&batch(2, Some(0), vec![], None));
}

#[test]
#[should_panic(expected = "a second vote in one term")]
fn a_vote_never_changes_within_its_term() {
    append_badly(&batch(2, None, vec![], Some(hard_state(3, 2, 1))));
}

#[test]
#[should_panic(expected = "a term that goes back")]
fn a_term_never_goes_back() {
    append_badly(&batch(2, None, vec![], Some(hard_state(2, 0, 1))));
}

#[test]
fn work_and_its_parts_may_change_threads() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    is_send::<Work>();
    is_send::<engine::wal::Completion>();
    is_send::<engine::wal::Executor>();
    is_send::<engine::wal::Wal>();
    is_shared::<engine::wal::Reader>();
}
