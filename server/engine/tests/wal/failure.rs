//! A disk that fails stops the log for good, at once and without a false promise.

use std::io::ErrorKind;

use engine::disk::{Fault, MemoryDisk, Operation};
use engine::wal::WalError;
use raft::{BatchNumber, Index};

use super::harness::{
    Model, Numbers, assert_prefix, batch, entry, open, random_batch, raw_records, records_of, run_all,
};

#[test]
fn the_first_failed_call_of_any_kind_poisons_the_log() {
    for operation in
        [Operation::Write, Operation::SyncData, Operation::Rename, Operation::SyncDirectory, Operation::Open]
    {
        for nth in 1..=50 {
            let disk = MemoryDisk::new();
            let (mut opened, _) = open(&disk, 4096).unwrap();
            disk.fail(operation, nth, Fault::Error(ErrorKind::Other));
            let (mut numbers, mut model) = (Numbers(99), Model::default());
            let mut written = Vec::new();
            let mut acknowledged = 0;
            let mut failed = false;
            for number in 1..=60 {
                let batch = random_batch(&mut model, &mut numbers, number);
                if opened.wal.append(&batch).is_err() {
                    failed = true;
                    break;
                }
                written.extend(records_of(&batch));
                match run_all(&mut opened) {
                    Ok(Some(_)) => acknowledged = written.len(),
                    Ok(None) => {}
                    Err(error) => assert!(matches!(error, WalError::Io { .. }), "{error}"),
                }
            }
            if !failed {
                continue; // fewer calls of this kind than `nth`
            }
            assert_eq!(opened.wal.next_work().map(|_| ()), None, "a poisoned log hands out no work");
            opened.wal.idle();
            assert!(opened.wal.next_work().is_none());
            disk.crash(&mut |_| false);
            let (_, replayed) = open(&disk, 4096).unwrap();
            assert_prefix(&replayed, &written, acknowledged);
        }
    }
}

#[test]
fn a_failed_sync_is_never_retried_even_if_the_next_would_work() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    opened.wal.append(&batch(1, None, vec![entry(1, 1, b"x")], None)).unwrap();
    let work = opened.wal.next_work().unwrap();
    disk.fail(Operation::SyncData, 1, Fault::Error(ErrorKind::Other));
    let syncs = disk.calls(Operation::SyncData);
    let completion = opened.executor.run(work);
    let error = opened.wal.completed(completion).unwrap_err();
    assert!(error.to_string().starts_with("sync wal-0000000001.log"), "{error}");
    for number in 2..5 {
        assert!(opened.wal.append(&batch(number, None, vec![], None)).is_err());
        assert!(opened.wal.next_work().is_none());
    }
    assert_eq!(disk.calls(Operation::SyncData), syncs + 1);
}

#[test]
fn an_executor_that_failed_touches_the_disk_no_more() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    opened.wal.append(&batch(1, None, vec![entry(1, 1, &[1; 3000])], None)).unwrap();
    let commit = opened.wal.next_work().unwrap();
    let prepare = opened.wal.next_work().unwrap();
    disk.fail(Operation::SyncData, 1, Fault::Error(ErrorKind::Other));
    opened.executor.run(commit);
    let changes = disk.changes();
    let completion = opened.executor.run(prepare);
    assert_eq!(disk.changes(), changes);
    assert!(opened.wal.completed(completion).is_err());
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_written_again_before_it_is_trusted() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    // Longer than a sector: what is written behind it later brings only its last sector to the disk.
    let cached = entry(1, 1, &[0xca; 2000]);
    opened.wal.append(&batch(1, None, vec![cached], None)).unwrap();
    disk.fail(Operation::SyncData, 1, Fault::Error(ErrorKind::Other));
    run_all(&mut opened).unwrap_err();
    disk.restart(); // the process ends, the machine goes on and still shows the bytes
    let (_, replayed) = open(&disk, 4096).unwrap();
    assert_eq!(Model::of(&replayed).entries.len(), 1);
    disk.crash(&mut |_| false);
    let (_, again) = open(&disk, 4096).unwrap();
    assert_eq!(again, replayed, "what one start believed, the next still finds");
}

#[test]
fn a_full_disk_stops_the_log_between_whole_records() {
    for written in [0, 1, 31, 40, 200] {
        let disk = MemoryDisk::new();
        let (mut opened, _) = open(&disk, 4096).unwrap();
        opened.wal.append(&batch(1, None, vec![entry(1, 1, b"first")], None)).unwrap();
        run_all(&mut opened).unwrap();
        disk.fail(Operation::Write, 1, Fault::Short(written));
        opened.wal.append(&batch(2, None, vec![entry(1, 2, &[2; 100]), entry(1, 3, &[3; 100])], None)).unwrap();
        let error = run_all(&mut opened).unwrap_err();
        assert!(matches!(&error, WalError::Io { source, .. } if source.kind() == ErrorKind::StorageFull), "{error}");
        disk.restart();
        let (mut opened, replayed) = open(&disk, 4096).unwrap();
        let kept = Model::of(&replayed).entries.len() as u64;
        assert_eq!(kept, if written >= 200 { 2 } else { 1 });
        opened.wal.append(&batch(1, None, vec![entry(1, kept + 1, b"goes on")], None)).unwrap();
        assert_eq!(run_all(&mut opened).unwrap(), Some(BatchNumber::new(1)));
    }
}

#[test]
fn a_short_read_is_read_on() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    opened.wal.append(&batch(1, None, (1..=60).map(|index| entry(1, index, &[3; 100])).collect(), None)).unwrap();
    run_all(&mut opened).unwrap();
    for nth in 1..20 {
        for bytes in [1, 7, 512] {
            let disk = disk.fork();
            disk.fail(Operation::Read, nth, Fault::Short(bytes));
            let (opened, replayed) = open(&disk, 4096).unwrap();
            assert_eq!(Model::of(&replayed).entries.len(), 60);
            disk.fail(Operation::Read, nth, Fault::Short(bytes));
            assert_eq!(opened.reader.read(Index::new(1), 1 << 20).unwrap().len(), 60);
        }
    }
}

#[test]
fn a_failed_read_is_an_error_and_not_an_end() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    opened.wal.append(&batch(1, None, (1..=60).map(|index| entry(1, index, &[3; 100])).collect(), None)).unwrap();
    run_all(&mut opened).unwrap();
    let before = raw_records(&disk).len();
    let mut failures = 0;
    for nth in 1..40 {
        let forked = disk.fork();
        forked.fail(Operation::Read, nth, Fault::Error(ErrorKind::Other));
        match open(&forked, 4096) {
            Err(WalError::Io { .. }) => failures += 1,
            Err(other) => panic!("{other}"),
            Ok((_, replayed)) => assert_eq!(Model::of(&replayed).entries.len(), 60),
        }
        assert!(raw_records(&forked).len() >= before, "nothing was cut");
    }
    assert!(failures > 3);
    disk.fail(Operation::Read, 1, Fault::Error(ErrorKind::Other));
    assert!(matches!(opened.reader.read(Index::new(1), 100), Err(WalError::Io { .. })));
    assert_eq!(opened.reader.read(Index::new(1), 100).unwrap().len(), 1, "a reader may try again");
}
