//! Looking into a log: the same verdict at the same place as opening it, and nothing changed.

use std::collections::BTreeMap;

use engine::disk::{Disk, MemoryDisk, RealDisk};
use engine::wal::{self, Inspected, Inspection, Replayed, WalError};
use raft::HardState;

use super::harness::{
    Model, Numbers, batch, entry, hard_state, open, random_batch, raw_records, run, run_all, segment_files,
};

const SEGMENT_BYTES: u64 = 4096;

fn inspect(disk: &dyn Disk) -> (Result<Inspection, WalError>, Vec<Inspected>) {
    let mut seen = Vec::new();
    let outcome = wal::inspect(disk, &mut |record| {
        seen.push(record.clone());
        Ok::<(), WalError>(())
    });
    (outcome, seen)
}

fn contents(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list().unwrap();
    names.into_iter().map(|name| (name.clone(), disk.contents(&name).unwrap())).collect()
}

/// What opening a log replays, from what looking into it shows.
fn replayed_of(seen: &[Inspected], hard_state: HardState) -> Vec<Replayed> {
    let (mut replayed, mut last) = (Vec::new(), HardState::default());
    for record in seen.iter().filter_map(|record| record.replayed.clone()) {
        match record {
            Replayed::HardState(same) if same == last => continue, // only proves what is before it
            Replayed::HardState(next) => last = next,
            Replayed::Reset { last: index } => last.commit_index = index,
            _ => {}
        }
        replayed.push(record);
    }
    if last != hard_state {
        replayed.push(Replayed::HardState(hard_state)); // taken over from an entry
    }
    replayed
}

/// Looks into a copy and opens it: both must come to the same end. Returns whether the log is sound.
pub(crate) fn same_verdict(disk: &MemoryDisk, segment_bytes: u64, what: &dyn Fn() -> String) -> bool {
    let disk = disk.fork();
    let (before, changes) = (contents(&disk), disk.changes());
    let (inspected, seen) = inspect(&disk);
    assert_eq!((disk.changes(), contents(&disk)), (changes, before), "{}: looking changes nothing", what());
    let opened = open(&disk, segment_bytes);
    match (inspected, opened) {
        (Ok(found), Ok((opened, replayed))) => {
            assert_eq!(replayed_of(&seen, found.hard_state), replayed, "{}", what());
            assert_eq!(found.report, opened.report, "{}", what());
            assert_eq!((found.hard_state, found.last_index), (opened.hard_state, opened.last_index), "{}", what());
            assert_eq!((found.fresh, seen.is_empty()), (opened.fresh, opened.fresh), "{}", what());
            let tails: u64 = found.behind.iter().map(|behind| behind.tail.end - behind.tail.start).sum();
            assert_eq!(tails, opened.report.cut_bytes, "{}", what());
            let end = seen.last().map(|last| (last.place.segment, last.place.offset + last.bytes));
            assert_eq!((found.end.segment, found.end.offset), end.unwrap_or_default(), "{}", what());
            true
        }
        (Err(looked), Err(opened)) => {
            assert_eq!(looked.to_string(), opened.to_string(), "{}", what());
            false
        }
        (looked, opened) => {
            panic!("{}: looking says {looked:?}, opening says {:?}", what(), opened.map(|(opened, _)| opened.report))
        }
    }
}

/// A log of three segments or more, with truncations, and marks between its batches.
fn sample(seed: u64) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let (mut numbers, mut model, mut number) = (Numbers(seed), Model::default(), 0);
    while segment_files(&disk).len() < 4 || raw_records(&disk).last().unwrap().position >> 32 < 3 {
        number += 1;
        opened.wal.append(&random_batch(&mut model, &mut numbers, number)).unwrap();
        run_all(&mut opened).unwrap();
        if number % 7 == 0 {
            opened.wal.idle();
            run_all(&mut opened).unwrap();
        }
    }
    disk
}

#[test]
fn a_clean_log_is_shown_record_by_record() {
    let disk = sample(21);
    let (outcome, seen) = inspect(&disk);
    let found = outcome.unwrap();
    let raw = raw_records(&disk);
    let places = |record: &Inspected| (record.place.file(), record.place.offset, record.bytes);
    let raw_places = raw.iter().map(|raw| (raw.file.clone(), raw.offset as u64, raw.bytes.len() as u64));
    assert_eq!(seen.iter().map(places).collect::<Vec<_>>(), raw_places.collect::<Vec<_>>());
    for (record, raw) in seen.iter().zip(&raw) {
        let kind = match (&record.start, &record.replayed) {
            (Some(start), None) => {
                assert_eq!((start.file_bytes, start.hard_state), (SEGMENT_BYTES, record.hard_state));
                assert_eq!(start.next_index, record.last_index.next());
                1
            }
            (None, Some(Replayed::HardState(hard_state))) => {
                assert_eq!(*hard_state, record.hard_state);
                2
            }
            (None, Some(Replayed::Truncate { after })) => {
                assert_eq!(*after, record.last_index);
                3
            }
            (None, None) => 4,
            (None, Some(Replayed::Entry(entry))) => {
                assert_eq!(entry.index, record.last_index);
                if entry.payload == raft::Payload::Noop { 5 } else { 6 }
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(kind, raw.kind);
    }
    assert_eq!(found.report.records, raw.len() as u64);
    assert!(found.behind.iter().all(|behind| behind.tail.is_empty()), "{found:?}");
    assert_eq!(found.behind.iter().filter(|behind| behind.in_use).count(), 1);
    assert!(same_verdict(&disk, SEGMENT_BYTES, &|| "clean".to_owned()));
}

#[test]
fn no_log_is_no_damage() {
    assert!(same_verdict(&MemoryDisk::new(), SEGMENT_BYTES, &|| "an empty directory".to_owned()));
    let (found, seen) = inspect(&MemoryDisk::new());
    assert!(found.unwrap().fresh && seen.is_empty());
}

/// Each file cut at each offset, and each file filled with zeros from there on, as a write that never happened.
#[test]
fn every_truncation_is_judged_as_opening_judges_it() {
    let disk = sample(22);
    let (mut sound, mut damaged) = (0, 0);
    for file in segment_files(&disk) {
        let intact = disk.contents(&file).unwrap();
        for at in 0..=intact.len() {
            let cut = disk.fork();
            cut.plant(&file, intact[..at].to_vec());
            let zeroed = disk.fork();
            let mut bytes = intact.clone();
            bytes[at..].fill(0);
            zeroed.plant(&file, bytes);
            for (disk, how) in [(cut, "cut"), (zeroed, "zeroed")] {
                let verdict = same_verdict(&disk, SEGMENT_BYTES, &|| format!("{file} {how} at {at}"));
                *if verdict { &mut sound } else { &mut damaged } += 1;
            }
        }
    }
    assert!(sound > 1000 && damaged > 1000, "both were met: {sound} sound, {damaged} damaged");
}

#[test]
fn flipped_bits_are_judged_as_opening_judges_them() {
    let disk = sample(23);
    let mut damaged = 0;
    for file in segment_files(&disk) {
        let intact = disk.contents(&file).unwrap();
        for at in (0..intact.len()).step_by(3) {
            let flipped = disk.fork();
            let mut bytes = intact.clone();
            bytes[at] ^= 1 << (at / 3 % 8);
            flipped.plant(&file, bytes);
            damaged += usize::from(!same_verdict(&flipped, SEGMENT_BYTES, &|| format!("{file} byte {at}")));
        }
    }
    assert!(damaged > 1000, "{damaged}");
}

/// Whatever sectors of the last commit survive a power cut.
#[test]
fn every_torn_commit_is_a_tail_for_both() {
    let disk = sample(24);
    let (mut opened, replayed) = open(&disk, SEGMENT_BYTES).unwrap();
    let model = Model::of(&replayed);
    let (next, term) = (model.last_index().get() + 1, model.hard_state.current_term.get());
    let entries = (next..next + 8).map(|index| entry(term, index, &[7; 150])).collect();
    opened.wal.append(&batch(1, None, entries, Some(hard_state(term + 1, 2, next)))).unwrap();
    while let Some(work) = opened.wal.next_work() {
        disk.halt_after(1);
        if run(&mut opened, work).is_err() {
            break;
        }
    }
    let mut tails = 0;
    for subset in 0..256_u32 {
        let torn = disk.fork();
        let mut number = 0;
        torn.crash(&mut |_| {
            number += 1;
            subset >> (number % 8) & 1 == 1
        });
        assert!(same_verdict(&torn, SEGMENT_BYTES, &|| format!("sectors {subset:#b}")));
        let (found, _) = inspect(&torn);
        tails += usize::from(found.unwrap().report.cut_bytes > 0);
    }
    assert!(tails > 50, "{tails} of 256 had a tail");
}

#[test]
fn whoever_looks_may_stop() {
    #[derive(Debug)]
    enum Stop {
        Enough,
        Log(WalError),
    }
    impl From<WalError> for Stop {
        fn from(error: WalError) -> Stop {
            Stop::Log(error)
        }
    }
    let disk = sample(25);
    let mut seen = 0;
    let outcome = wal::inspect(&disk, &mut |_| {
        seen += 1;
        if seen == 3 { Err(Stop::Enough) } else { Ok(()) }
    });
    assert!(matches!(outcome, Err(Stop::Enough)), "{outcome:?}");
    assert_eq!(seen, 3);
    assert!(disk.lose("wal-0000000002.log"));
    let outcome = wal::inspect(&disk, &mut |_| Ok(()));
    assert!(matches!(outcome, Err(Stop::Log(WalError::Corrupt { .. }))), "{outcome:?}");
}

#[test]
fn a_directory_opened_to_be_read_cannot_be_changed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    assert!(RealDisk::open_read_only(&path).is_err(), "it is not created");
    std::fs::create_dir(&path).unwrap();
    for (name, bytes) in contents(&sample(26)) {
        std::fs::write(path.join(name), bytes).unwrap();
    }
    let disk = RealDisk::open_read_only(&path).unwrap();
    let (found, seen) = inspect(&disk);
    assert_eq!(found.unwrap().report.records, seen.len() as u64);
    let first = "wal-0000000001.log";
    assert!(disk.create("new").is_err() && disk.rename(first, "new").is_err() && disk.remove(first).is_err());
    let file = disk.open(first).unwrap();
    assert!(file.write_all_at(0, b"x").is_err() && file.set_len(0).is_err());
    assert!(!path.join("LOCK").exists(), "not even a lock file is made");
}

#[test]
fn those_who_look_share_the_lock_that_a_writer_needs_alone() {
    let directory = tempfile::tempdir().unwrap();
    let writer = RealDisk::open(directory.path()).unwrap();
    let refused = RealDisk::open_read_only(directory.path()).unwrap_err().to_string();
    assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
    drop(writer);
    let lock = directory.path().join("LOCK");
    std::fs::write(&lock, format!("{}\n", u32::MAX)).unwrap();
    let first = RealDisk::open_read_only(directory.path()).unwrap();
    let second = RealDisk::open_read_only(directory.path()).unwrap();
    let refused = RealDisk::open(directory.path()).unwrap_err().to_string();
    assert!(refused.contains("in use by another process"), "the last writer is gone: {refused}");
    drop((first, second));
    assert_eq!(std::fs::read_to_string(&lock).unwrap(), format!("{}\n", u32::MAX), "looking leaves it as it is");
    RealDisk::open(directory.path()).expect("free again");
}
