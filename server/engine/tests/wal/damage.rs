//! Damage of every kind at every place: found and refused if it hit anything that was known to be durable, otherwise
//! the exact valid prefix. Never a panic, never silently less.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::disk::{Disk, MemoryDisk, SECTOR_BYTES};
use engine::wal::{self, Replayed, WalError, WalOptions};

use super::harness::{
    Model, Numbers, RawRecord, batch, entry, hard_state, open, options, random_batch, raw_records, records_of, run,
    run_all, segment_files,
};

/// A log that was written without a crash, with what is in it and images of its files from time to time.
struct Specimen {
    disk: MemoryDisk,
    segment_bytes: u64,
    written: Vec<Replayed>,
    records: Vec<RawRecord>,
    /// Earlier states of the disk, oldest first.
    earlier: Vec<MemoryDisk>,
}

impl Specimen {
    /// Fills more than two segments; ends with one commit of several records that nothing behind it proves durable.
    fn new(seed: u64, segment_bytes: u64, records_min: usize) -> Specimen {
        let disk = MemoryDisk::new();
        let (mut opened, _) = open(&disk, segment_bytes).unwrap();
        let (mut numbers, mut model) = (Numbers(seed), Model::default());
        let (mut written, mut earlier, mut number) = (Vec::new(), Vec::new(), 0);
        loop {
            number += 1;
            let batch = random_batch(&mut model, &mut numbers, number);
            written.extend(records_of(&batch));
            opened.wal.append(&batch).unwrap();
            run_all(&mut opened).unwrap();
            if number % 16 == 0 {
                earlier.push(disk.fork());
            }
            let records = raw_records(&disk);
            let last = records.last().unwrap();
            // Not too near to a segment's end: the last commit is to stay in one.
            let room = last.offset + 1200 < segment_bytes as usize;
            if last.position >> 32 >= 3 && records.len() >= records_min && room {
                break;
            }
        }
        let next = model.last_index().get() + 1;
        let term = model.hard_state.current_term.get();
        let entries = (next..next + 6).map(|index| entry(term, index, &[index as u8; 80])).collect();
        let last = batch(number + 1, None, entries, Some(hard_state(term + 1, 1, next)));
        written.extend(records_of(&last));
        opened.wal.append(&last).unwrap();
        run_all(&mut opened).unwrap();
        let records = raw_records(&disk);
        Specimen { disk, segment_bytes, written, records, earlier }
    }

    /// Checks the outcome of opening a damaged copy. Damage is what differs from the specimen.
    fn check(&self, damaged: &MemoryDisk, what: &dyn Fn() -> String) -> bool {
        let files: BTreeMap<String, Vec<u8>> = segment_files(damaged)
            .into_iter()
            .filter_map(|file| Some((file.clone(), damaged.contents(&file)?)))
            .collect();
        let intact = |record: &RawRecord| {
            let range = record.offset..record.offset + record.bytes.len();
            files.get(&record.file).and_then(|contents| contents.get(range)) == Some(&record.bytes[..])
        };
        let first_damaged = self.records.iter().position(|record| !intact(record));
        let proof = self.records.iter().filter(|record| intact(record)).map(|record| record.durable).max().unwrap_or(0);
        let outcome = open(damaged, self.segment_bytes);
        let Some(first_damaged) = first_damaged else {
            let (_, replayed) = outcome.unwrap_or_else(|error| panic!("{}: {error}", what()));
            assert_eq!(replayed, self.written, "{}", what());
            return true;
        };
        let lost = &self.records[first_damaged];
        // What precedes the damage cannot prove it.
        if proof > lost.position {
            let Err(WalError::Corrupt { file, offset, .. }) = outcome else {
                panic!("{}: durable record at {} {} not missed", what(), lost.file, lost.offset);
            };
            assert_eq!((file.as_str(), offset), (lost.file.as_str(), lost.offset as u64), "{}", what());
            return false;
        }
        match outcome {
            Ok((opened, replayed)) => {
                let kept = self.records[..first_damaged].iter().filter(|record| ![1, 4].contains(&record.kind)).count();
                let implied = replayed.len() - kept;
                assert!(implied <= 1, "{}", what());
                assert_eq!(replayed[..kept], self.written[..kept], "{}", what());
                assert_eq!(opened.hard_state, Model::of(&self.written[..kept]).hard_state, "{}", what());
            }
            Err(error) => panic!("{}: an unsynced tail is no corruption: {error}", what()),
        }
        true
    }

    /// Checks a copy in which one file has other bytes.
    fn check_file(&self, file: &str, bytes: Vec<u8>, what: &dyn Fn() -> String) -> bool {
        let damaged = self.disk.fork();
        damaged.plant(file, bytes);
        self.check(&damaged, what)
    }

    /// Flips every bit of every record whose number in its byte `chosen` takes, and one bit of each byte behind them.
    fn every_bit(&self, chosen: &dyn Fn(usize) -> bool) -> usize {
        let mut refused = 0;
        for file in segment_files(&self.disk) {
            let intact = self.disk.contents(&file).unwrap();
            let ends = self.records.iter().filter(|record| record.file == file);
            let used = ends.map(|record| record.offset + record.bytes.len()).max().unwrap_or(0);
            for bit in (0..intact.len() * 8).filter(|bit| chosen(bit % 8)) {
                if bit / 8 >= used && bit % 8 != bit / 8 % 8 {
                    continue;
                }
                let mut bytes = intact.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                refused += usize::from(!self.check_file(&file, bytes, &|| format!("{file} bit {bit}")));
            }
        }
        refused
    }

    fn every_byte(&self, step: usize) {
        for file in segment_files(&self.disk) {
            let intact = self.disk.contents(&file).unwrap();
            for at in (0..intact.len()).step_by(step) {
                for value in [0x00, 0xff] {
                    let mut bytes = intact.clone();
                    bytes[at] = value;
                    self.check_file(&file, bytes, &|| format!("{file} byte {at} = {value}"));
                }
            }
        }
    }

    fn every_sector(&self, sector_bytes: usize) {
        let sector = |bytes: &[u8], number: usize| bytes[number * sector_bytes..][..sector_bytes].to_vec();
        for file in segment_files(&self.disk) {
            let intact = self.disk.contents(&file).unwrap();
            let count = intact.len() / sector_bytes;
            let put = |number: usize, content: &[u8], what: &str| {
                let mut bytes = intact.clone();
                bytes[number * sector_bytes..][..sector_bytes].copy_from_slice(content);
                self.check_file(&file, bytes, &|| format!("{file} sector {number} {what}"));
            };
            for number in 0..count {
                put(number, &vec![0; sector_bytes], "zeroed");
                put(number, &vec![0xff; sector_bytes], "set");
                for other in 0..count {
                    put(number, &sector(&intact, other), "overwritten by another");
                    let mut bytes = intact.clone();
                    bytes[number * sector_bytes..][..sector_bytes].copy_from_slice(&sector(&intact, other));
                    bytes[other * sector_bytes..][..sector_bytes].copy_from_slice(&sector(&intact, number));
                    self.check_file(&file, bytes, &|| format!("{file} sectors {number} and {other} swapped"));
                }
                for (when, earlier) in self.earlier.iter().enumerate() {
                    if let Some(contents) = earlier.contents(&file) {
                        put(number, &sector(&contents, number), &format!("rolled back to {when}"));
                    }
                }
                // Dropped: all behind it moved forward.
                let mut bytes = intact.clone();
                bytes.drain(number * sector_bytes..(number + 1) * sector_bytes);
                bytes.resize(intact.len(), 0);
                self.check_file(&file, bytes, &|| format!("{file} sector {number} dropped"));
            }
        }
    }
}

// In two tests, which run beside each other.
#[test]
fn every_flipped_even_bit_is_found_or_harmless() {
    let refused = Specimen::new(3, 4096, 0).every_bit(&|bit| bit % 2 == 0);
    assert!(refused > 2 * 4000 * 4, "most bits are of durable records: {refused}");
}

#[test]
fn every_flipped_odd_bit_is_found_or_harmless() {
    let refused = Specimen::new(3, 4096, 0).every_bit(&|bit| bit % 2 == 1);
    assert!(refused > 2 * 4000 * 4, "most bits are of durable records: {refused}");
}

#[test]
fn every_overwritten_byte_is_found_or_harmless() {
    Specimen::new(4, 4096, 0).every_byte(1);
}

#[test]
fn every_sector_fault_is_found_or_harmless() {
    let specimen = Specimen::new(5, 8192, 200);
    specimen.every_sector(SECTOR_BYTES);
    specimen.every_sector(4096);
}

/// Everything over logs of 64 KiB. `QUORATE_FAULT_LOGS` is how many different ones, 1 if it is not set.
#[test]
#[ignore = "all faults over larger logs: minutes"]
fn all_faults_at_length() {
    let logs = std::env::var("QUORATE_FAULT_LOGS").map_or(1, |count| count.parse().unwrap());
    for seed in 1..=logs {
        let specimen = Specimen::new(seed * 31, 16384, 200);
        specimen.every_bit(&|_| true);
        specimen.every_byte(1);
        specimen.every_sector(SECTOR_BYTES);
        specimen.every_sector(4096);
    }
}

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
        let kept = specimen.records.iter().take_while(whole).filter(|record| ![1, 4].contains(&record.kind)).count();
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
        assert_eq!(mark.kind, 4);
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
    for missing in &files[..files.len() - 1] {
        let disk = specimen.disk.fork();
        assert!(disk.lose(missing));
        let outcome = open(&disk, 4096);
        let Err(WalError::Corrupt { file, reason, .. }) = outcome else { panic!("{missing} was not missed") };
        assert_eq!(&file, missing);
        assert!(reason.contains("missing"), "{reason}");
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
        assert!(opened.report.cut_bytes > 2000, "stale records are zeroed before the segment is used");
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
    bytes[40..44].copy_from_slice(&2u32.to_le_bytes());
    let length = raw_length(&bytes);
    let checksum = super::harness::crc32c(&bytes[4..length]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    disk.plant(file, bytes);
    let error = open(&disk, 4096).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "wal-0000000001.log has format version 2, and this program knows only 1");
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
