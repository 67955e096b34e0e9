//! Logs to be damaged, with what is in them, and the rule by which the outcome of any damage is judged.

use std::collections::BTreeMap;

use engine::disk::MemoryDisk;
use engine::wal::{self, Opened, Place, Replayed, WalError};
use raft::Index;

use super::harness::{
    Model, Numbers, RawRecord, batch, crc32c, entry, hard_state, open, random_batch, random_reset, raw_records,
    run_all, segment_files,
};

/// A log that was written without a crash, with what is in it and images of its files from time to time.
pub(crate) struct Specimen {
    pub(crate) disk: MemoryDisk,
    pub(crate) segment_bytes: u64,
    pub(crate) written: Vec<Replayed>,
    pub(crate) records: Vec<RawRecord>,
    /// Earlier states of the disk, oldest first.
    pub(crate) earlier: Vec<MemoryDisk>,
    /// Of how many detected damages one is salvaged as well.
    salvage_every: u64,
    detected: std::cell::Cell<u64>,
}

impl Specimen {
    /// Fills more than two segments; ends with one commit of several records that nothing behind it proves durable.
    pub(crate) fn new(seed: u64, segment_bytes: u64, records_min: usize) -> Specimen {
        let disk = MemoryDisk::new();
        let mut earlier = Vec::new();
        let mut numbers = Numbers(seed);
        let mut model = Model::default();
        let (mut opened, _) = open(&disk, segment_bytes).unwrap();
        fill(&mut opened, &disk, &mut model, &mut numbers, (segment_bytes, records_min), &mut earlier);
        Specimen::of(disk, segment_bytes, earlier)
    }

    /// The first half in segments of version 1.
    pub(crate) fn of_two_versions(seed: u64, segment_bytes: u64, records_min: usize) -> Specimen {
        let Specimen { disk, mut earlier, .. } = Specimen::new(seed, segment_bytes, records_min / 2);
        downgrade(&disk);
        earlier.iter().for_each(downgrade);
        let (mut opened, replayed) = open(&disk, segment_bytes).unwrap();
        let (mut model, mut numbers) = (Model::of(&replayed), Numbers(seed + 1));
        fill(&mut opened, &disk, &mut model, &mut numbers, (segment_bytes, records_min), &mut earlier);
        Specimen::of(disk, segment_bytes, earlier)
    }

    /// With resets, and without the oldest segments. It is as if a crash had come before the last of those that can go
    /// were removed: so there are resets in its middle.
    pub(crate) fn cut(seed: u64, segment_bytes: u64, records_min: usize) -> Specimen {
        let disk = MemoryDisk::new();
        let mut removed: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let (mut numbers, mut model, mut earlier) = (Numbers(seed), Model::default(), Vec::new());
        let (mut opened, _) = open(&disk, segment_bytes).unwrap();
        let mut number = 0;
        loop {
            number += 1;
            let before = disk.fork();
            if numbers.below(60) == 0 {
                let last = Index::new(numbers.below(model.last_index().get() + 1));
                opened.wal.reset(last).unwrap();
                model.apply(&Replayed::Reset { last });
            }
            let next = if numbers.below(25) == 0 { random_reset } else { random_batch };
            opened.wal.append(&next(&mut model, &mut numbers, number)).unwrap();
            run_all(&mut opened).unwrap();
            if numbers.below(10) == 0 {
                opened.wal.idle();
                run_all(&mut opened).unwrap();
            }
            if number % 16 == 0 {
                earlier.push(disk.fork());
            }
            let gone = segment_files(&before).into_iter().filter(|file| disk.contents(file).is_none());
            removed.extend(gone.map(|file| (file.clone(), before.contents(&file).unwrap())));
            if removed.len() < 5 || number % 16 != 0 {
                continue;
            }
            let whole = disk.fork();
            for (file, contents) in removed.iter().skip(2) {
                whole.plant(file, contents.clone());
            }
            let resets = raw_records(&whole).iter().filter(|record| record.kind == 7).count();
            if raw_records(&whole).len() >= records_min && resets >= 3 {
                drop(opened);
                let (mut opened, replayed) = open(&whole, segment_bytes).unwrap();
                assert_eq!(Model::of(&replayed), model, "the segments that were brought back change nothing");
                // What can be removed stays: nothing but commits is run.
                append_last(&mut opened, &mut model, number);
                return Specimen::of(whole, segment_bytes, earlier);
            }
        }
    }

    fn of(disk: MemoryDisk, segment_bytes: u64, earlier: Vec<MemoryDisk>) -> Specimen {
        let records = raw_records(&disk);
        let written = told(&records);
        let detected = std::cell::Cell::new(0);
        Specimen { disk, segment_bytes, written, records, earlier, salvage_every: 1, detected }
    }

    /// Salvages only one of so many damaged logs: it costs more than the rest.
    pub(crate) fn salvaging_one_in(mut self, count: u64) -> Specimen {
        self.salvage_every = count;
        self
    }

    /// Checks the outcome of opening a damaged copy. Damage is what differs from the specimen.
    pub(crate) fn check(&self, damaged: &MemoryDisk, what: &dyn Fn() -> String) -> bool {
        let files: BTreeMap<String, Vec<u8>> = segment_files(damaged)
            .into_iter()
            .filter_map(|file| Some((file.clone(), damaged.contents(&file)?)))
            .collect();
        let intact = |record: &RawRecord| {
            let range = record.offset..record.offset + record.bytes.len();
            files.get(&record.file).and_then(|contents| contents.get(range)) == Some(&record.bytes[..])
        };
        let first_damaged = self.records.iter().position(|record| !intact(record));
        let outcome = open(damaged, self.segment_bytes);
        let Some(first_damaged) = first_damaged else {
            let (_, replayed) = outcome.unwrap_or_else(|error| panic!("{}: {error}", what()));
            assert_eq!(replayed, self.written, "{}", what());
            return true;
        };
        let lost = &self.records[first_damaged];
        // What precedes the damage cannot prove it; except that a segment is only the first left if it has a start.
        let proof = self.records.iter().filter(|record| intact(record)).map(|record| record.durable).max().unwrap_or(0);
        if proof > lost.position || (first_damaged == 0 && lost.position >> 32 > 1) {
            let Err(WalError::Corrupt { file, offset, .. }) = outcome else {
                panic!("{}: durable record at {} {} not missed", what(), lost.file, lost.offset);
            };
            assert_eq!((file.as_str(), offset), (lost.file.as_str(), lost.offset as u64), "{}", what());
            self.detected.set(self.detected.get() + 1);
            if self.detected.get().is_multiple_of(self.salvage_every) {
                self.check_salvage(damaged, first_damaged, &intact, what);
            }
            return false;
        }
        match outcome {
            Ok((opened, replayed)) => self.check_prefix(&opened, &replayed, first_damaged, what),
            Err(error) => panic!("{}: an unsynced tail is no corruption: {error}", what()),
        }
        true
    }

    /// Checks that a log is what the specimen was up to a record.
    fn check_prefix(&self, opened: &Opened, replayed: &[Replayed], end: usize, what: &dyn Fn() -> String) {
        let kept = told(&self.records[..end]).len();
        let implied = replayed.len() - kept;
        assert!(implied <= 1, "{}", what());
        assert_eq!(replayed[..kept], self.written[..kept], "{}", what());
        assert_eq!(opened.hard_state, Model::of(&self.written[..kept]).hard_state, "{}", what());
        assert_eq!(opened.last_index, Model::of(&self.written[..kept]).last_index(), "{}", what());
    }

    /// Checks what a salvage says of a damaged copy, and that the copy can be made the sound part of the log.
    fn check_salvage(
        &self,
        damaged: &MemoryDisk,
        first_damaged: usize,
        intact: &dyn Fn(&RawRecord) -> bool,
        what: &dyn Fn() -> String,
    ) {
        let disk = damaged.fork();
        let changes = disk.changes();
        let salvage = wal::salvage(&disk).unwrap().unwrap_or_else(|| panic!("{}: it is damaged", what()));
        assert_eq!(disk.changes(), changes, "{}: a salvage changes nothing", what());
        assert_eq!(salvage.damage.to_string(), open(damaged, self.segment_bytes).map(|_| ()).unwrap_err().to_string());
        let before = first_damaged.checked_sub(1).map(|before| &self.records[before]);
        let end = before.map_or(0, |before| before.position + before.bytes.len() as u64);
        assert_eq!(salvage.end, Place { segment: (end >> 32) as u32, offset: end & 0xffff_ffff }, "{}", what());
        self.check_proven(&salvage, intact, what);
        for round in 0..2 {
            wal::cut_damaged(&disk, salvage.end).unwrap();
            assert!(wal::salvage(&disk).unwrap().is_none(), "{}: cut {round}", what());
        }
        let (opened, replayed) = open(&disk, self.segment_bytes).unwrap_or_else(|error| panic!("{}: {error}", what()));
        assert_eq!(opened.report.cut_bytes, 0, "{}", what());
        assert_eq!(opened.fresh, first_damaged == 0, "{}", what());
        self.check_prefix(&opened, &replayed, first_damaged, what);
    }

    /// What is said to be proven is what the specimen was at the end of the last run of intact records that proves the
    /// damage before it, if a record of the run says it; behind it only what was not synced may be missing.
    fn check_proven(&self, salvage: &wal::Salvage, intact: &dyn Fn(&RawRecord) -> bool, what: &dyn Fn() -> String) {
        let mut end = self.records.iter().position(|record| !intact(record)).unwrap();
        let mut begin = end;
        for (number, record) in self.records.iter().enumerate().skip(end).filter(|(_, record)| intact(record)) {
            if number == end {
                end += 1;
            } else if record.durable > self.records[end].position {
                (begin, end) = (number, number + 1);
            }
        }
        let (run, model) = (&self.records[begin..end], Model::of(&told(&self.records[..end])));
        let says = |kinds: &[u8]| run.iter().any(|record| kinds.contains(&record.kind));
        let term = says(&[1, 2]).then_some(model.hard_state.current_term);
        let last_index = says(&[1, 3, 5, 6, 7]).then(|| model.last_index());
        assert_eq!((salvage.proven_term, salvage.proven_last_index), (term, last_index), "{}: {salvage:?}", what());
    }

    /// Checks a copy in which a file is shorter than it was. No crash does that: whatever is behind what is left of it
    /// was durable, except in a segment that was never used.
    pub(crate) fn check_cut_file(&self, file: &str, bytes: Vec<u8>) {
        let (disk, length) = (self.disk.fork(), bytes.len());
        disk.plant(file, bytes);
        match open(&disk, self.segment_bytes) {
            Err(WalError::Corrupt { file: named, .. }) => assert_eq!(named, file, "cut to {length}"),
            Ok((_, replayed)) => {
                assert!(file > self.records.last().unwrap().file.as_str() && length >= 4096);
                return assert_eq!(replayed, self.written);
            }
            Err(other) => panic!("{file} cut to {length}: {other}"),
        }
        self.detected.set(self.detected.get() + 1);
        if !self.detected.get().is_multiple_of(self.salvage_every) {
            return;
        }
        // A file shorter than any segment may be is not looked into.
        let is_kept = |record: &&RawRecord| {
            record.file.as_str() < file
                || (record.file == file && length >= 4096 && record.offset + record.bytes.len() <= length)
        };
        let kept = self.records.iter().take_while(is_kept).count();
        let salvage = wal::salvage(&disk).unwrap().unwrap();
        let term = Model::of(&self.written).hard_state.current_term;
        assert!(salvage.proven_term.is_none_or(|proven| proven == term), "{file} cut to {length}: {salvage:?}");
        let what = || format!("{file} cut to {length}");
        wal::cut_damaged(&disk, salvage.end).unwrap();
        let (opened, replayed) = open(&disk, self.segment_bytes).unwrap();
        self.check_prefix(&opened, &replayed, kept, &what);
    }

    /// Checks a copy in which one file has other bytes.
    pub(crate) fn check_file(&self, file: &str, bytes: Vec<u8>, what: &dyn Fn() -> String) -> bool {
        let damaged = self.disk.fork();
        damaged.plant(file, bytes);
        self.check(&damaged, what)
    }
}

/// What replay tells of records.
pub(crate) fn told(records: &[RawRecord]) -> Vec<Replayed> {
    records.iter().flat_map(|record| record.told.iter().cloned()).collect()
}

/// Writes until the third segment from here on is in use and there are enough records, and then a last commit.
fn fill(
    opened: &mut Opened,
    disk: &MemoryDisk,
    model: &mut Model,
    numbers: &mut Numbers,
    (segment_bytes, records_min): (u64, usize),
    earlier: &mut Vec<MemoryDisk>,
) {
    let begin = raw_records(disk).last().map_or(1, |last| last.position >> 32);
    for number in 1.. {
        opened.wal.append(&random_batch(model, numbers, number)).unwrap();
        run_all(opened).unwrap();
        if number % 16 == 0 {
            earlier.push(disk.fork());
        }
        let records = raw_records(disk);
        let last = records.last().unwrap();
        // Not too near to a segment's end: the last commit is to stay in one.
        let room = last.offset + 1200 < segment_bytes as usize;
        if last.position >> 32 >= begin + 2 && records.len() >= records_min && room {
            return append_last(opened, model, number);
        }
    }
}

/// One commit of several records that nothing behind it proves durable.
fn append_last(opened: &mut Opened, model: &mut Model, number: u64) {
    let next = model.last_index().get() + 1;
    let term = model.hard_state.current_term.get();
    let entries = (next..next + 6).map(|index| entry(term, index, &[index as u8; 80])).collect();
    let last = batch(number + 1, None, entries, Some(hard_state(term + 1, 1, next)));
    opened.wal.append(&last).unwrap();
    while opened.wal.pending_bytes() > 0 {
        let work = opened.wal.next_work().unwrap();
        opened.wal.completed(opened.executor.run(work)).unwrap();
    }
}

/// Turns a log of version 2, without resets, into what version 1 would have written.
fn downgrade(disk: &MemoryDisk) {
    let mut previous = [0; 4];
    for mut record in raw_records(disk) {
        if record.kind == 1 {
            record.bytes[40..44].copy_from_slice(&1u32.to_le_bytes());
        }
        record.bytes[24..28].copy_from_slice(&previous);
        previous = crc32c(&record.bytes[4..]).to_le_bytes();
        record.bytes[..4].copy_from_slice(&previous);
        let mut contents = disk.contents(&record.file).unwrap();
        contents[record.offset..record.offset + record.bytes.len()].copy_from_slice(&record.bytes);
        disk.plant(&record.file, contents);
    }
}
