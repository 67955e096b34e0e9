//! Removing what is not needed, resets, and a disk without room.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use engine::disk::{Disk, Fault, MemoryDisk, Operation};
use engine::wal::{self, Opened, Replayed, WalError};
use raft::{Batch, BatchNumber, Entry, Index};

use super::harness::{
    Model, Numbers, batch, entry, hard_state, open, options, random_batch, random_reset, raw_records, records_of, run,
    run_all, segment_files,
};
use super::round_trip::{Action, Interrupted};

/// Appends entries up to an index, ten to a segment of 4 KiB.
pub(crate) fn append_to(opened: &mut Opened, last: u64) {
    let next = opened.wal.first_index().get().max(1);
    let next =
        opened.reader.read(Index::new(next), usize::MAX).unwrap().last().map_or(next, |last| last.index.get() + 1);
    for index in next..=last {
        let one = batch(index, None, vec![entry(1, index, &[7; 350])], Some(hard_state(1, 1, index - 1)));
        opened.wal.append(&one).unwrap();
        run_all(opened).unwrap();
    }
}

pub(crate) fn log_of(last: u64) -> (MemoryDisk, Opened) {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    append_to(&mut opened, last);
    (disk, opened)
}

fn reset_to(number: u64, last: u64, entries: Vec<Entry>) -> Batch {
    Batch { reset_to: Some(Index::new(last)), ..batch(number, None, entries, None) }
}

pub(crate) fn indexes(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index.get()).collect()
}

#[test]
fn whole_segments_below_the_first_entry_to_be_kept_are_removed_in_the_background() {
    let (disk, mut opened) = log_of(60);
    assert_eq!(opened.wal.first_index(), Index::new(1));
    let starts: Vec<_> = raw_records(&disk).into_iter().filter(|record| record.kind == 1).collect();
    let next_index = |number: usize| u64::from_le_bytes(starts[number].bytes[48..56].try_into().unwrap());
    let in_third = next_index(3) - 1;
    opened.wal.cut(Index::new(in_third));
    for removed in [1, 2] {
        let files = segment_files(&disk).len();
        let work = opened.wal.next_work().expect("a segment to remove");
        assert!(work.is_background());
        assert_eq!(opened.wal.first_index(), Index::new(next_index(removed)), "it rises at once");
        assert!(opened.wal.next_work().is_none(), "one piece of work in the background at a time");
        let commit = batch(60 + removed as u64, None, vec![entry(1, 60 + removed as u64, b"beside it")], None);
        opened.wal.append(&commit).unwrap();
        let commit = opened.wal.next_work().expect("commits go on");
        run(&mut opened, commit).unwrap();
        run(&mut opened, work).unwrap();
        assert_eq!(segment_files(&disk).len(), files - 1);
    }
    assert!(opened.wal.next_work().is_none(), "the third holds an entry that is to be kept");
    for gone in [1, next_index(1), next_index(2) - 1] {
        assert_eq!(opened.reader.read(Index::new(gone), usize::MAX).unwrap(), vec![]);
    }
    assert_eq!(opened.reader.read(opened.wal.first_index(), usize::MAX).unwrap().len() as u64, 62 - next_index(2) + 1);
    opened.wal.cut(Index::new(3));
    opened.wal.cut(Index::new(1000));
    run_all(&mut opened).unwrap();
    assert!(
        raw_records(&disk).iter().any(|record| record.kind == 6),
        "the segment written to is kept, whatever is asked"
    );
    let first = opened.wal.first_index();
    let (opened, replayed) = open(&disk, 4096).unwrap();
    assert_eq!((opened.first_index, opened.wal.first_index()), (first, first));
    let [Replayed::Reset { last }, Replayed::HardState(begins), ..] = replayed[..] else { panic!("{replayed:?}") };
    assert_eq!((last.next(), begins.commit_index.next()), (first, last), "as it was when the segment was begun");
    assert_eq!(opened.report.first_segment, segment_number(&segment_files(&disk)[0]));
    assert_eq!(indexes(&opened.reader.read(first, usize::MAX).unwrap()), (first.get()..=62).collect::<Vec<_>>());
}

fn segment_number(file: &str) -> u32 {
    file[4..14].parse().unwrap()
}

/// The truncation is in the first segment that is left, and what it left is not.
#[test]
fn a_truncation_may_reach_back_to_before_what_is_left() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    let first = (1..=22).map(|index| entry(1, index, &[7; 350])).collect();
    opened.wal.append(&batch(1, None, first, Some(hard_state(1, 0, 2)))).unwrap();
    run_all(&mut opened).unwrap();
    let second = (17..=60).map(|index| entry(2, index, &[8; 350])).collect();
    opened.wal.append(&batch(2, Some(16), second, Some(hard_state(2, 0, 60)))).unwrap();
    run_all(&mut opened).unwrap();
    let starts = raw_records(&disk).into_iter().filter(|record| record.kind == 1);
    let third = starts.skip(2).map(|start| u64::from_le_bytes(start.bytes[48..56].try_into().unwrap())).next();
    let begins = third.filter(|begins| (18..=22).contains(begins)).expect("it begins behind what is taken back");
    opened.wal.cut(Index::new(begins));
    run_all(&mut opened).unwrap();
    assert_eq!(segment_files(&disk)[0], "wal-0000000003.log");
    let kept: Vec<u64> = (17..=60).collect();
    assert_eq!(opened.wal.first_index(), Index::new(17));
    assert_eq!(indexes(&opened.reader.read(Index::new(17), usize::MAX).unwrap()), kept);
    let (opened, replayed) = open(&disk, 4096).unwrap();
    assert_eq!((opened.first_index, opened.last_index), (Index::new(17), Index::new(60)));
    assert_eq!(replayed[0], Replayed::Reset { last: Index::new(begins - 1) });
    assert!(replayed.contains(&Replayed::Truncate { after: Index::new(16) }));
    assert_eq!(indexes(&opened.reader.read(Index::new(17), usize::MAX).unwrap()), kept);
    assert_eq!(opened.reader.read(Index::new(16), usize::MAX).unwrap(), vec![]);
}

#[test]
fn a_reset_makes_all_before_it_obsolete_when_it_is_durable() {
    let (disk, mut opened) = log_of(35);
    let files = segment_files(&disk).len();
    opened.wal.append(&reset_to(100, 1000, vec![entry(3, 1001, b"behind")])).unwrap();
    let commit = opened.wal.next_work().unwrap();
    assert!(!commit.is_background() && opened.wal.next_work().is_none(), "nothing goes before it is durable");
    assert_eq!(opened.reader.read(Index::new(35), 1).unwrap().len(), 1);
    assert_eq!(run(&mut opened, commit).unwrap(), Some(BatchNumber::new(100)));
    assert_eq!(opened.wal.first_index(), Index::new(1001));
    assert_eq!(opened.reader.read(Index::new(35), 1).unwrap(), vec![]);
    run_all(&mut opened).unwrap();
    assert!(segment_files(&disk).len() < files);
    assert_eq!(segment_files(&disk).len(), 2, "the one with the reset and the one in reserve");
    let (opened, replayed) = open(&disk, 4096).unwrap();
    assert_eq!((opened.first_index, opened.last_index), (Index::new(1001), Index::new(1001)));
    assert_eq!(opened.hard_state, hard_state(3, 0, 1000), "all up to a reset is committed");
    assert_eq!(Model::of(&replayed).entries, vec![entry(3, 1001, b"behind")]);
}

#[test]
fn a_repair_may_go_back_and_the_log_goes_on_from_there() {
    let (disk, opened) = log_of(35);
    drop(opened);
    for (last, expected) in [(7, 7), (0, 0), (90, 90)] {
        let (mut opened, _) = open(&disk, 4096).unwrap();
        opened.reset(Index::new(last)).unwrap();
        assert_eq!((opened.first_index.get(), opened.last_index.get()), (expected + 1, expected));
        assert_eq!(opened.hard_state.commit_index, opened.last_index);
        append_to(&mut opened, last + 12);
        opened.wal.cut(Index::new(1000));
        run_all(&mut opened).unwrap();
        let (opened, replayed) = open(&disk, 4096).unwrap();
        assert_eq!(opened.last_index.get(), last + 12);
        assert_eq!(Model::of(&replayed).last_index(), opened.last_index);
    }
}

#[test]
#[should_panic(expected = "a reset to before what is committed")]
fn the_core_cannot_take_back_what_is_committed() {
    let (_, mut opened) = log_of(12);
    opened.wal.append(&reset_to(100, 10, vec![])).unwrap();
}

#[test]
#[should_panic(expected = "a reset behind which no index is left")]
fn a_reset_leaves_an_index() {
    let (_, mut opened) = log_of(1);
    opened.wal.append(&reset_to(100, u64::MAX, vec![])).unwrap();
}

/// Random runs with resets and cuts: after each restart the log is that of the model, and what the reader gives is it.
#[test]
fn random_resets_and_cuts_are_recovered_and_read() {
    for seed in 1..=30 {
        let (disk, mut numbers, mut model, mut number) = (MemoryDisk::new(), Numbers(seed), Model::default(), 0);
        for _ in 0..6 {
            let (mut opened, replayed) = open(&disk, 4096).unwrap();
            let found = Model::of(&replayed);
            assert_eq!((found.hard_state, found.last_index()), (model.hard_state, model.last_index()));
            for _ in 0..numbers.below(40) {
                number += 1;
                let next = if numbers.below(30) == 0 { random_reset } else { random_batch };
                opened.wal.append(&next(&mut model, &mut numbers, number)).unwrap();
                if numbers.below(10) == 0 {
                    opened.wal.cut(Index::new(numbers.below(model.hard_state.commit_index.get() + 1)));
                }
                run_all(&mut opened).unwrap();
                let (first, last) = (opened.wal.first_index().get(), model.last_index().get());
                assert!(first > model.base && first <= last + 1, "{first} of {}..={last}", model.base + 1);
                let entries = opened.reader.read(Index::new(first), usize::MAX).unwrap();
                let expected = model.entries.iter().skip((first - model.base - 1) as usize);
                assert!(entries.iter().eq(expected), "seed {seed} batch {number}");
                assert_eq!(opened.reader.read(Index::new(first - 1), usize::MAX).unwrap(), vec![]);
            }
            if numbers.below(2) == 0 { disk.crash(&mut |_| false) } else { disk.restart() }
        }
    }
}

/// The file goes between the look into the table and the open.
#[test]
fn an_entry_that_is_removed_while_it_is_looked_for_is_no_error() {
    let interruption: Arc<Mutex<Option<Action>>> = Arc::default();
    let disk = MemoryDisk::new();
    let interrupted = Interrupted { disk: disk.clone(), interruption: Arc::clone(&interruption), is_late: false };
    let shared: Arc<dyn Disk> = Arc::new(interrupted);
    let mut opened = wal::open(&shared, options(4096), &mut |_| ()).unwrap();
    append_to(&mut opened, 40);
    let reader = opened.reader.clone();
    // Lost, but not removed by the log: that is an error.
    let first = "wal-0000000001.log";
    let lost = disk.contents(first).unwrap();
    assert!(disk.lose(first));
    assert!(matches!(reader.read(Index::new(1), 1), Err(WalError::Io { .. })));
    disk.plant(first, lost);
    *interruption.lock().unwrap() = Some(Box::new(move || {
        opened.wal.cut(Index::new(40));
        run_all(&mut opened).unwrap();
    }));
    assert_eq!(reader.read(Index::new(1), 1).unwrap(), vec![]);
    assert_eq!(disk.contents(first), None, "it was removed in between");
}

#[test]
fn without_room_for_the_next_segment_commits_wait_and_nothing_is_lost() {
    for room in [0, 1, 512, 4095] {
        let (disk, mut opened) = log_of(5);
        disk.fill_up(room);
        let mut durable = 5;
        for index in 6..=40 {
            opened.wal.append(&batch(index, None, vec![entry(1, index, &[9; 350])], None)).unwrap();
            durable = run_all(&mut opened).unwrap().map_or(durable, BatchNumber::get);
        }
        assert!(opened.wal.out_of_space() && opened.wal.pending_bytes() > 0);
        assert!((12..35).contains(&durable), "the segment in reserve was used: {durable}");
        let creations = disk.calls(Operation::Create);
        assert!(
            opened.wal.next_work().is_none() && disk.calls(Operation::Create) == creations,
            "it is not tried again"
        );
        assert!(!disk.list().unwrap().iter().any(|name| name.ends_with(".new")), "nothing of the file is left");
        for _ in 0..3 {
            opened.wal.retry();
            assert_eq!(run_all(&mut opened).unwrap(), None);
            assert!(opened.wal.out_of_space());
        }
        assert_eq!(disk.calls(Operation::Create), creations + 3);
        let forked = disk.fork();
        forked.crash(&mut |_| false);
        let (reopened, replayed) = open(&forked, 4096).expect("a full disk is no reason not to start");
        assert_eq!(Model::of(&replayed).entries.len() as u64, durable);
        assert_eq!(reopened.reader.read(Index::new(1), usize::MAX).unwrap().len() as u64, durable);
        disk.clear_out();
        assert!(opened.wal.next_work().is_none(), "only when it is told to");
        opened.wal.retry();
        assert_eq!(run_all(&mut opened).unwrap(), Some(BatchNumber::new(40)));
        assert!(!opened.wal.out_of_space());
        let (_, replayed) = open(&disk, 4096).unwrap();
        assert_eq!(Model::of(&replayed).entries.len(), 40);
    }
}

#[test]
fn removing_segments_makes_room() {
    let (disk, mut opened) = log_of(30);
    disk.fill_up(0);
    for index in 31..=60 {
        opened.wal.append(&batch(index, None, vec![entry(1, index, &[9; 350])], None)).unwrap();
        run_all(&mut opened).unwrap();
    }
    assert!(opened.wal.out_of_space());
    opened.wal.cut(Index::new(30));
    assert_eq!(run_all(&mut opened).unwrap(), Some(BatchNumber::new(60)));
    assert!(!opened.wal.out_of_space());
}

#[test]
fn only_a_lack_of_room_is_survived() {
    for (operation, kind, survives) in [
        (Operation::Create, ErrorKind::StorageFull, true),
        (Operation::Create, ErrorKind::QuotaExceeded, true),
        (Operation::Rename, ErrorKind::StorageFull, true),
        (Operation::Create, ErrorKind::Other, false),
        (Operation::SyncData, ErrorKind::StorageFull, false),
        (Operation::SyncDirectory, ErrorKind::StorageFull, false),
        (Operation::Remove, ErrorKind::Other, false),
    ] {
        let disk = MemoryDisk::new();
        let (mut opened, _) = open(&disk, 4096).unwrap();
        let work = opened.wal.next_work().expect("a segment in reserve");
        disk.fail(operation, 1, Fault::Error(kind));
        let outcome = run(&mut opened, work);
        assert_eq!(outcome.is_ok(), survives, "{operation:?} {kind:?}: {outcome:?}");
        assert_eq!(opened.wal.out_of_space(), survives);
    }
    // A commit never survives.
    let (disk, mut opened) = log_of(3);
    opened.wal.append(&batch(4, None, vec![entry(1, 4, b"x")], None)).unwrap();
    let work = opened.wal.next_work().unwrap();
    disk.fail(Operation::Write, 1, Fault::Error(ErrorKind::StorageFull));
    assert!(run(&mut opened, work).is_err() && !opened.wal.out_of_space());
}

#[test]
fn a_log_is_not_begun_without_room() {
    let disk = MemoryDisk::new();
    disk.fill_up(100);
    let error = open(&disk, 4096).map(|_| ()).unwrap_err();
    assert!(matches!(&error, WalError::Io { source, .. } if source.kind() == ErrorKind::StorageFull), "{error}");
    disk.clear_out();
    assert!(open(&disk, 4096).unwrap().0.fresh);
}

/// Of a log that was idle nothing can be lost without the term being known.
#[test]
fn an_idle_log_proves_its_term() {
    let (disk, mut opened) = log_of(25);
    opened.wal.append(&batch(100, None, vec![], Some(hard_state(8, 2, 25)))).unwrap();
    run_all(&mut opened).unwrap();
    opened.wal.idle();
    run_all(&mut opened).unwrap();
    let records = raw_records(&disk);
    for lost in &records[..records.len() - 1] {
        let disk = disk.fork();
        let mut bytes = disk.contents(&lost.file).unwrap();
        bytes[lost.offset + 20] ^= 1;
        disk.plant(&lost.file, bytes);
        let salvage = wal::salvage(&disk).unwrap().expect("everything is proven");
        assert_eq!(salvage.proven_term.map(raft::Term::get), Some(8));
        let expected = (lost.position >> 32 > 1 || lost.offset > 0).then_some(lost.offset as u64);
        assert_eq!(expected.is_some(), salvage.end.segment > 0);
    }
    // Where the whole log is gone but for its end, a new one begins with another salt, and nothing of the old comes
    // back.
    for file in segment_files(&disk).iter().rev().skip(2) {
        assert!(disk.lose(file));
    }
    let left = segment_files(&disk);
    let mut bytes = disk.contents(&left[0]).unwrap();
    bytes[..512].fill(0);
    disk.plant(&left[0], bytes);
    let salvage = wal::salvage(&disk).unwrap().expect("a segment above number 1 has a start");
    assert_eq!((salvage.end.segment, salvage.proven_term.map(raft::Term::get)), (0, None), "nor is its salt known");
    wal::cut_damaged(&disk, salvage.end).unwrap();
    assert!(disk.list().unwrap().is_empty());
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = wal::WalOptions { salt: 77, ..options(4096) };
    let mut opened = wal::open(&shared, options, &mut |_| panic!("nothing is left")).unwrap();
    assert!(opened.fresh);
    opened.reset(Index::new(20)).unwrap();
    let (_, replayed) = open(&disk, 4096).unwrap();
    assert_eq!(replayed, [records_of(&reset_to(1, 20, vec![])), vec![]].concat());
}
