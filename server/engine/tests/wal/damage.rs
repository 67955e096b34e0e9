//! Damage of every kind at every place: found and refused if it hit anything that was known to be durable, otherwise
//! the exact valid prefix. Never a panic, never silently less.

use std::sync::Arc;

use engine::disk::{Disk, MemoryDisk};
use engine::wal::{self, Replayed, WalError, WalOptions};
use raft::Index;

use super::harness::{
    Model, Numbers, RawRecord, batch, entry, hard_state, open, options, raw_records, run, run_all, segment_files,
};
use super::specimen::Specimen;

/// A segment is never shorter than its size, whatever crashes: a shorter file lost something. Only one that was never
/// used lost nothing, if enough is left of it.
#[test]
fn every_truncated_file_is_refused() {
    let specimen = Specimen::new(6, 8192, 0);
    let last_used = &specimen.records.last().unwrap().file;
    for file in segment_files(&specimen.disk) {
        let intact = specimen.disk.contents(&file).unwrap();
        for length in 0..intact.len() {
            let disk = specimen.disk.fork();
            disk.plant(&file, intact[..length].to_vec());
            match open(&disk, specimen.segment_bytes) {
                Err(WalError::Corrupt { file: named, .. }) => assert_eq!(named, file, "cut to {length}"),
                Ok((_, replayed)) => assert!(file > *last_used && length >= 4096 && replayed == specimen.written),
                Err(other) => panic!("{file} cut to {length}: {other}"),
            }
        }
    }
}

/// The tail of a preallocated file that never reached the disk is zeros: every length of it starts cleanly.
#[test]
fn every_zeroed_tail_starts_with_what_is_before_it() {
    let specimen = Specimen::new(7, 4096, 0);
    let last = specimen.records.last().unwrap().clone();
    let intact = specimen.disk.contents(&last.file).unwrap();
    for from in 0..intact.len() {
        let mut bytes = intact.clone();
        bytes[from..].fill(0);
        let disk = specimen.disk.fork();
        disk.plant(&last.file, bytes.clone());
        let whole = |record: &&RawRecord| {
            record.file != last.file || bytes[record.offset..][..record.bytes.len()] == record.bytes
        };
        let kept = specimen.records.iter().take_while(whole).map(|record| record.told.len()).sum::<usize>();
        let (mut opened, replayed) =
            open(&disk, specimen.segment_bytes).unwrap_or_else(|error| panic!("{from}: {error}"));
        assert!(replayed.len() - kept <= 1);
        assert_eq!(replayed[..kept], specimen.written[..kept], "from {from}");
        let next = opened.last_index.get() + 1;
        opened.wal.append(&batch(1, None, vec![entry(1, next, b"on")], None)).unwrap();
        run_all(&mut opened).unwrap();
        let (_, again) = open(&disk, specimen.segment_bytes).unwrap();
        assert_eq!(Model::of(&again).entries.len() as u64, next);
    }
}

/// The last batch is not provable by itself; after a start or a pause it is.
#[test]
fn a_mark_makes_damage_of_the_last_batch_provable() {
    let assert_last_before_mark_is_missed = |disk: &MemoryDisk| {
        let records = raw_records(disk);
        let [.., lost, mark] = &records[..] else { panic!("a log of several records") };
        assert!(mark.kind == 2 && mark.told.is_empty());
        let disk = disk.fork();
        let mut bytes = disk.contents(&lost.file).unwrap();
        bytes[lost.offset + 40] ^= 1;
        disk.plant(&lost.file, bytes);
        let outcome = open(&disk, 4096).map(|_| ());
        assert!(
            matches!(outcome, Err(WalError::Corrupt { offset, .. }) if offset == lost.offset as u64),
            "{outcome:?}"
        );
    };
    let specimen = Specimen::new(8, 4096, 0);
    let (mut opened, replayed) = open(&specimen.disk, 4096).unwrap();
    assert_eq!(replayed, specimen.written);
    assert_last_before_mark_is_missed(&specimen.disk);
    opened.wal.append(&batch(1, None, vec![], Some(hard_state(99, 7, 0)))).unwrap();
    run_all(&mut opened).unwrap();
    opened.wal.idle();
    run_all(&mut opened).unwrap();
    assert_last_before_mark_is_missed(&specimen.disk);
}

#[test]
fn a_missing_segment_is_corruption() {
    let specimen = Specimen::new(9, 4096, 0);
    let files = segment_files(&specimen.disk);
    assert!(files.len() >= 3);
    for missing in &files[1..files.len() - 1] {
        let disk = specimen.disk.fork();
        assert!(disk.lose(missing));
        let outcome = open(&disk, 4096);
        let Err(WalError::Corrupt { file, reason, .. }) = outcome else { panic!("{missing} was not missed") };
        assert_eq!(&file, missing);
        assert!(reason.contains("missing"), "{reason}");
    }
    // The oldest ones may be missing: whoever removed them says where the log begins now.
    let disk = specimen.disk.fork();
    assert!(disk.lose(&files[0]));
    let (opened, replayed) = open(&disk, 4096).unwrap();
    assert!(opened.first_index > Index::new(1) && opened.report.first_segment == 2);
    assert!(matches!(replayed[..], [Replayed::Reset { .. }, Replayed::HardState(_), ..]), "{replayed:?}");
    assert_eq!(Model::of(&replayed).hard_state, Model::of(&specimen.written).hard_state);
}

/// Whatever lies in the part of a segment that it does not use: it is the next one that is named.
#[test]
fn a_segment_whose_start_is_damaged_is_named() {
    let specimen = Specimen::new(9, 4096, 0);
    let files = segment_files(&specimen.disk);
    for used in &files[..files.len() - 2] {
        let disk = specimen.disk.fork();
        let next = &files[files.iter().position(|file| file == used).unwrap() + 1];
        for (file, from, value) in [(used, None, 0xab), (next, Some(0), 0)] {
            let mut bytes = disk.contents(file).unwrap();
            let last = specimen.records.iter().rfind(|record| record.file == *file).unwrap();
            let (from, to) = from.map_or((last.offset + last.bytes.len(), bytes.len()), |from| (from, 88));
            bytes[from..to].fill(value);
            disk.plant(file, bytes);
        }
        let Err(WalError::Corrupt { file, offset, .. }) = open(&disk, 4096) else { panic!("{next} was not missed") };
        assert_eq!((&file, offset), (next, 0));
    }
}

#[test]
fn corruption_changes_nothing_on_the_disk() {
    let specimen = Specimen::new(10, 4096, 0);
    let hit = &specimen.records[20];
    let mut bytes = specimen.disk.contents(&hit.file).unwrap();
    bytes[hit.offset + 9] ^= 4;
    specimen.disk.plant(&hit.file, bytes);
    let before = specimen.disk.changes();
    assert!(open(&specimen.disk, 4096).is_err());
    assert_eq!(specimen.disk.changes(), before);
}

/// A recycled file is full of records that were valid once, under another number.
#[test]
fn a_recycled_segment_brings_nothing_back() {
    let specimen = Specimen::new(12, 4096, 0);
    let files = segment_files(&specimen.disk);
    for old in &files[..files.len() - 2] {
        let disk = specimen.disk.fork();
        let stale = disk.contents(old).unwrap();
        let next = format!("wal-{:010}.log", files.len() + 1);
        disk.plant(&next, stale);
        let (mut opened, replayed) = open(&disk, 4096).unwrap();
        assert_eq!(replayed, specimen.written);
        assert_eq!(opened.report.cut_bytes, 0, "stale records are no tail: nobody has to make zeros of them");
        let first = opened.last_index.get() + 1;
        let entries: Vec<_> = (first..first + 40).map(|index| entry(90, index, &[9; 150])).collect();
        opened.wal.append(&batch(1, None, entries.clone(), None)).unwrap();
        run_all(&mut opened).unwrap();
        let (_, again) = open(&disk, 4096).unwrap();
        assert!(Model::of(&again).entries.ends_with(&entries));
    }
}

/// Another node's file of the same number, whose records are valid where they lie.
#[test]
fn a_foreign_segment_is_not_taken_for_ones_own() {
    let specimen = Specimen::new(13, 4096, 0);
    let foreign = Specimen::new(14, 4096, 0);
    let files = segment_files(&specimen.disk);
    for file in &files[..2] {
        let disk = specimen.disk.fork();
        disk.plant(file, foreign.disk.contents(file).unwrap());
        assert!(matches!(open(&disk, 4096), Err(WalError::Corrupt { .. })), "{file}");
    }
}

/// A record replaced by another that is valid in the same place and follows on the same one: the record behind it did
/// not follow on it, and says so even if it is the last of all. Nor does the last itself, if it is the one replaced.
#[test]
fn a_record_replaced_by_a_valid_one_is_found() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    opened.wal.append(&batch(1, None, vec![entry(1, 1, &[1; 300])], Some(hard_state(1, 0, 1)))).unwrap();
    run_all(&mut opened).unwrap();
    let file = "wal-0000000001.log";
    for last in [3, 9] {
        // Two histories from here on, the same in length.
        let histories = [7, 8].map(|value| {
            let disk = disk.fork();
            let (mut opened, _) = open(&disk, 4096).unwrap();
            for index in 2..=last {
                opened.wal.append(&batch(index, None, vec![entry(1, index, &[value; 216])], None)).unwrap();
                run_all(&mut opened).unwrap();
            }
            disk
        });
        let [ours, other] = histories.each_ref().map(|disk| disk.contents(file).unwrap());
        let entries = raw_records(&histories[0]).into_iter().filter(|record| record.kind == 6).skip(1);
        for (index, record) in (2..).zip(entries) {
            let range = record.offset..record.offset + record.bytes.len();
            let mut bytes = ours.clone();
            bytes[range.clone()].copy_from_slice(&other[range]);
            let disk = histories[0].fork();
            disk.plant(file, bytes);
            let outcome = open(&disk, 4096).map(|(opened, _)| opened.last_index.get());
            let found = matches!(outcome, Err(WalError::Corrupt { offset, .. }) if offset >= record.offset as u64);
            assert!(found, "entry {index} of {last}: {outcome:?}");
        }
    }
}

/// What a client puts into a value is no record, even if it looks like one, lies where it says, and claims to know of
/// durable records far ahead.
#[test]
fn a_value_cannot_pass_for_a_record() {
    let specimen = Specimen::new(15, 4096, 0);
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 1 << 16).unwrap();
    opened.wal.append(&batch(1, None, vec![entry(1, 1, b"before")], None)).unwrap();
    run_all(&mut opened).unwrap();
    let end = raw_records(&disk).last().map(|last| last.offset + last.bytes.len()).unwrap();
    // The client knows everything but the salt: a mark made by the same program at the same place.
    let guess = specimen.records.iter().find(|record| record.kind == 4).unwrap();
    let mut value = Vec::new();
    let head = end + 48;
    while value.len() < 8000 {
        let position = (1u64 << 32) + (head + value.len()) as u64;
        let mut fake = guess.bytes.clone();
        fake[8..16].copy_from_slice(&position.to_le_bytes());
        fake[16..24].copy_from_slice(&position.to_le_bytes());
        fake[28..32].copy_from_slice(&[0; 4]);
        let checksum = super::harness::crc32c(&fake[4..]);
        fake[..4].copy_from_slice(&checksum.to_le_bytes());
        value.extend_from_slice(&fake);
    }
    opened.wal.append(&batch(2, None, vec![entry(1, 2, &value)], None)).unwrap();
    let work = opened.wal.next_work().unwrap();
    disk.halt_after(1);
    run(&mut opened, work).unwrap_err();
    for lost in 0..10 {
        let disk = disk.fork();
        let mut count = 0;
        disk.crash(&mut |_| {
            count += 1;
            count - 1 != lost
        });
        let (_, replayed) = open(&disk, 1 << 16).expect("a torn value is an unsynced tail, whatever is in it");
        assert_eq!(Model::of(&replayed).entries.len(), 1);
    }
}

#[test]
fn another_version_of_the_format_is_named() {
    let disk = MemoryDisk::new();
    open(&disk, 4096).unwrap();
    let file = "wal-0000000001.log";
    let mut bytes = disk.contents(file).unwrap();
    for version in [0u32, 3, 77] {
        bytes[40..44].copy_from_slice(&version.to_le_bytes());
        let length = raw_length(&bytes);
        let checksum = super::harness::crc32c(&bytes[4..length]);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        disk.plant(file, bytes.clone());
        let error = open(&disk, 4096).map(|_| ()).unwrap_err().to_string();
        let expected = format!("{file} has format version {version}, and this program knows none above 2");
        assert_eq!(error, expected);
        assert!(matches!(wal::salvage(&disk), Err(WalError::Version { .. })), "a log of the future is not damaged");
    }
}

fn raw_length(record: &[u8]) -> usize {
    let length = u32::from_le_bytes([record[4], record[5], record[6], 0]) as usize;
    (32 + length).next_multiple_of(8)
}

/// Bytes that were never a log.
#[test]
fn noise_is_refused_or_an_empty_log() {
    let mut numbers = Numbers(4242);
    for round in 0..2000 {
        let disk = MemoryDisk::new();
        let specimen_bytes: Vec<u8> = (0..4096 + numbers.below(4096)).map(|_| numbers.next() as u8).collect();
        disk.plant("wal-0000000001.log", specimen_bytes);
        let (opened, replayed) = open(&disk, 4096).unwrap_or_else(|error| panic!("{round}: {error}"));
        assert!(opened.fresh && replayed.is_empty());
    }
}

/// A log that must be there is not begun anew where it is gone, or where no record of it is left.
#[test]
fn a_log_that_is_gone_is_not_begun_anew() {
    for scraps in [None, Some(vec![0; 4096]), Some(vec![0xab; 4096])] {
        let disk = MemoryDisk::new();
        if let Some(bytes) = scraps {
            disk.plant("wal-0000000001.log", bytes);
        }
        let changes = disk.changes();
        let options = WalOptions { must_exist: true, ..options(4096) };
        let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let error = wal::open(&dyn_disk, options, &mut |_| panic!("nothing is there")).map(|_| ()).unwrap_err();
        assert!(matches!(error, WalError::Missing), "{error}");
        assert_eq!(disk.changes(), changes, "nothing was written");
        assert!(open(&disk, 4096).unwrap().0.fresh, "where it may be begun, it is");
    }
}
