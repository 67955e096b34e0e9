//! Logs to be damaged, of every kind, with what is in them.

use std::collections::BTreeMap;

use engine::disk::MemoryDisk;
use engine::wal::{self, Opened, Replayed};
use raft::Index;

use super::harness::{
    Model, Numbers, RawRecord, batch, crc32c, entry, file_records, hard_state, open, random_batch, random_reset,
    raw_records, run, run_all, segment_files,
};

/// How many segments are in use at least.
const SEGMENTS_MIN: usize = 3;

/// Files by their names.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// A log that was written without a crash, with what is in it and images of its files from time to time.
pub(crate) struct Specimen {
    pub(crate) disk: MemoryDisk,
    /// The files of the disk, the oldest segment first.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) segment_bytes: u64,
    pub(crate) written: Vec<Replayed>,
    pub(crate) records: Vec<RawRecord>,
    /// Earlier states of the files, oldest first; the last is that before the last commit.
    pub(crate) earlier: Vec<Image>,
}

/// What a log can be like.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// From a seed, the size of a segment in bytes, and the fewest records.
    pub(crate) build: fn(u64, u64, usize) -> Specimen,
}

impl Kind {
    pub(crate) const ALL: [Kind; 6] = [
        Kind { name: "from its beginning, with truncations", build: Specimen::new },
        Kind { name: "with resets", build: Specimen::with_resets },
        Kind { name: "with resets, its oldest segments removed", build: Specimen::cut },
        Kind { name: "cut in a repair, and gone on behind a reset", build: Specimen::repaired },
        Kind { name: "of two versions of the format", build: Specimen::of_two_versions },
        Kind { name: "of recycled files, full of stale records", build: Specimen::recycled },
    ];
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
        Specimen::of(disk, segment_bytes, earlier.iter().map(image_of).collect())
    }

    /// The first half in segments of version 1.
    fn of_two_versions(seed: u64, segment_bytes: u64, records_min: usize) -> Specimen {
        let (disk, mut earlier) = (MemoryDisk::new(), Vec::new());
        let (mut model, mut numbers) = (Model::default(), Numbers(seed));
        let (mut opened, _) = open(&disk, segment_bytes).unwrap();
        fill(&mut opened, &disk, &mut model, &mut numbers, (segment_bytes, records_min / 2), &mut earlier);
        drop(opened);
        downgrade(&disk);
        earlier.iter().for_each(downgrade);
        let (mut opened, replayed) = open(&disk, segment_bytes).unwrap();
        let mut model = Model::of(&replayed);
        fill(&mut opened, &disk, &mut model, &mut numbers, (segment_bytes, records_min), &mut earlier);
        Specimen::of(disk, segment_bytes, earlier.iter().map(image_of).collect())
    }

    fn with_resets(seed: u64, segment_bytes: u64, records_min: usize) -> Specimen {
        Specimen::reset(seed, segment_bytes, records_min, 0)
    }

    fn cut(seed: u64, segment_bytes: u64, records_min: usize) -> Specimen {
        Specimen::reset(seed, segment_bytes, records_min, 2)
    }

    /// With resets, and without the oldest segments. It is as if a crash had come before the last of those that can go
    /// were removed: so there are resets in its middle.
    fn reset(seed: u64, segment_bytes: u64, records_min: usize, removed_min: usize) -> Specimen {
        let disk = MemoryDisk::new();
        let mut removed = Image::new();
        let (mut numbers, mut model, mut earlier) = (Numbers(seed), Model::default(), Vec::new());
        let (mut opened, _) = open(&disk, segment_bytes).unwrap();
        let mut number = 0;
        loop {
            number += 1;
            if numbers.below(60) == 0 {
                let last = Index::new(numbers.below(model.last_index().get() + 1));
                opened.wal.reset(last).unwrap();
                model.apply(&Replayed::Reset { last });
            }
            let next = if numbers.below(25) == 0 { random_reset } else { random_batch };
            opened.wal.append(&next(&mut model, &mut numbers, number)).unwrap();
            run_keeping(&mut opened, &disk, &mut removed);
            if numbers.below(10) == 0 {
                opened.wal.idle();
                run_keeping(&mut opened, &disk, &mut removed);
            }
            if number % 16 == 0 {
                earlier.push(image_of(&disk));
            }
            if removed.len() < 5 || number % 16 != 0 || !has_room(&disk, segment_bytes) {
                continue;
            }
            let whole = disk.fork();
            for (file, contents) in removed.iter().skip(removed_min) {
                whole.plant(file, contents.clone());
            }
            let resets = raw_records(&whole).iter().filter(|record| record.kind == 7).count();
            if raw_records(&whole).len() >= records_min && resets >= 3 {
                drop(opened);
                let (mut opened, replayed) = open(&whole, segment_bytes).unwrap();
                assert_eq!(Model::of(&replayed), model, "the segments that were brought back change nothing");
                // What can be removed stays: nothing but commits is run.
                earlier.push(image_of(&whole));
                append_last(&mut opened, &mut model, number);
                return Specimen::of(whole, segment_bytes, earlier);
            }
        }
    }

    /// Damaged in its middle, cut there, and gone on behind a reset, as an engine does that makes a new beginning. Its
    /// earlier images hold what was cut off: other records, valid in the same places.
    fn repaired(seed: u64, segment_bytes: u64, records_min: usize) -> Specimen {
        let (disk, mut earlier) = (MemoryDisk::new(), Vec::new());
        let (mut numbers, mut model) = (Numbers(seed), Model::default());
        let (mut opened, _) = open(&disk, segment_bytes).unwrap();
        fill(&mut opened, &disk, &mut model, &mut numbers, (segment_bytes, 0), &mut earlier);
        drop(opened);
        let records = raw_records(&disk);
        let hit = records.iter().rfind(|record| record.position >> 32 == 2).unwrap();
        let mut bytes = disk.contents(&hit.file).unwrap();
        bytes[hit.offset + 9] ^= 4;
        disk.plant(&hit.file, bytes);
        let salvage = wal::salvage(&disk).unwrap().expect("it is damaged");
        wal::cut_damaged(&disk, salvage.end).unwrap();
        let (mut opened, replayed) = open(&disk, segment_bytes).unwrap();
        let mut model = Model::of(&replayed);
        let last = Index::new(model.hard_state.commit_index.get() / 2);
        opened.reset(last).unwrap();
        model.apply(&Replayed::Reset { last });
        fill(&mut opened, &disk, &mut model, &mut numbers, (segment_bytes, records_min), &mut earlier);
        Specimen::of(disk, segment_bytes, earlier.iter().map(image_of).collect())
    }

    /// As if the file of each removed segment had become that of a later one: what a segment does not use is what an
    /// older one left there. Behind the end of the log lie records of such a one that would even fit the chain.
    fn recycled(seed: u64, segment_bytes: u64, records_min: usize) -> Specimen {
        let disk = MemoryDisk::new();
        let mut removed = Image::new();
        let (mut numbers, mut model, mut earlier) = (Numbers(seed), Model::default(), Vec::new());
        let (mut opened, _) = open(&disk, segment_bytes).unwrap();
        for number in 1.. {
            opened.wal.append(&random_batch(&mut model, &mut numbers, number)).unwrap();
            if segment_files(&disk).len() > SEGMENTS_MIN + 1 {
                let kept = model.last_index().get().saturating_sub(records_min as u64 * 3 / 5);
                opened.wal.cut(Index::new(kept.min(model.hard_state.commit_index.get())));
            }
            run_keeping(&mut opened, &disk, &mut removed);
            if number % 16 == 0 {
                earlier.push(image_of(&disk));
            }
            let records = raw_records(&disk);
            let starts = records.iter().filter(|record| record.kind == 1).count();
            let many = records.len() >= records_min && starts >= SEGMENTS_MIN;
            if many && removed.len() > segment_files(&disk).len() && has_room(&disk, segment_bytes) {
                earlier.push(image_of(&disk));
                append_last(&mut opened, &mut model, number);
                break;
            }
        }
        let stale: Image = segment_files(&disk).into_iter().zip(removed.into_values().map(without_zeros)).collect();
        earlier.iter_mut().for_each(|image| fill_with_stale(image, &stale));
        let mut files = image_of(&disk);
        fill_with_stale(&mut files, &stale);
        forge_behind_the_end(&mut files, &raw_records(&disk));
        files.into_iter().for_each(|(file, contents)| disk.plant(&file, contents));
        Specimen::of(disk, segment_bytes, earlier)
    }

    fn of(disk: MemoryDisk, segment_bytes: u64, earlier: Vec<Image>) -> Specimen {
        let records = raw_records(&disk);
        let written = told(&records);
        let files = image_of(&disk).into_iter().collect();
        Specimen { disk, files, segment_bytes, written, records, earlier }
    }
}

fn image_of(disk: &MemoryDisk) -> Image {
    segment_files(disk).into_iter().map(|file| (file.clone(), disk.contents(&file).unwrap())).collect()
}

/// Runs all work that there is, and keeps the segments that it removes.
fn run_keeping(opened: &mut Opened, disk: &MemoryDisk, removed: &mut Image) {
    while let Some(work) = opened.wal.next_work() {
        let before = image_of(disk);
        run(opened, work).unwrap();
        removed.extend(before.into_iter().filter(|(file, _)| disk.contents(file).is_none()));
    }
}

/// What replay tells of records.
fn told(records: &[RawRecord]) -> Vec<Replayed> {
    records.iter().flat_map(|record| record.told.iter().cloned()).collect()
}

/// Writes until the third segment from here on is in use and there are enough records and segments, and then a last
/// commit.
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
        let segments = records.iter().filter(|record| record.kind == 1).count();
        let enough = records.last().unwrap().position >> 32 >= begin + 2 && records.len() >= records_min;
        if enough && segments >= SEGMENTS_MIN && has_room(disk, segment_bytes) {
            earlier.push(disk.fork());
            return append_last(opened, model, number);
        }
    }
}

/// Whether the last commit would stay in one segment.
fn has_room(disk: &MemoryDisk, segment_bytes: u64) -> bool {
    raw_records(disk).last().is_some_and(|last| last.offset + 1200 < segment_bytes as usize)
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
        previous = seal(&mut record.bytes);
        let mut contents = disk.contents(&record.file).unwrap();
        contents[record.offset..record.offset + record.bytes.len()].copy_from_slice(&record.bytes);
        disk.plant(&record.file, contents);
    }
}

/// Gives a record the checksum of its bytes, and returns it.
fn seal(record: &mut [u8]) -> [u8; 4] {
    let checksum = crc32c(&record[4..]).to_le_bytes();
    record[..4].copy_from_slice(&checksum);
    checksum
}

/// A removed segment whose file had been recycled before as well: its own unused space is no zeros either.
fn without_zeros(mut segment: Vec<u8>) -> Vec<u8> {
    let used = segment.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let head: Vec<u8> = segment.iter().copied().take(segment.len() - used).collect();
    segment[used..].copy_from_slice(&head);
    segment
}

/// Puts what older segments left behind wherever a segment has no record.
fn fill_with_stale(files: &mut Image, stale: &Image) {
    for (file, contents) in files {
        let Some(stale) = stale.get(file) else { continue };
        let used = file_records(file, contents).last().map_or(0, |&(offset, length)| offset + length);
        contents[used..].copy_from_slice(&stale[used..]);
    }
}

/// Puts records behind the end of the log that are valid in all but their position, which names an older segment at the
/// same offset, and that are chained to the last one.
fn forge_behind_the_end(files: &mut Image, records: &[RawRecord]) {
    let last = records.last().unwrap();
    let contents = files.get_mut(&last.file).unwrap();
    let mut offset = last.offset + last.bytes.len();
    let mut previous = last.bytes[..4].to_vec();
    for record in records.iter().filter(|record| record.kind != 1) {
        let Some(place) = contents.get_mut(offset..offset + record.bytes.len()) else { break };
        let position = ((records[0].position >> 32) - 1) << 32 | offset as u64;
        let mut bytes = record.bytes.clone();
        bytes[8..16].copy_from_slice(&position.to_le_bytes());
        bytes[16..24].copy_from_slice(&position.to_le_bytes());
        bytes[24..28].copy_from_slice(&previous);
        previous = seal(&mut bytes).to_vec();
        place.copy_from_slice(&bytes);
        offset += record.bytes.len();
    }
}
