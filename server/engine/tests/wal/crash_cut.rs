//! Power cuts between all steps of cutting, resetting, salvaging and running out of room, with every kind of leftovers.

use engine::disk::{MemoryDisk, Unsynced};
use engine::wal::{self, Place, Replayed};
use raft::Index;

use super::crash::choices;
use super::harness::{
    Model, Numbers, entry, open, random_batch, random_reset, raw_records, records_of, run, run_all, segment_files,
};

const SEGMENT_BYTES: u64 = 4096;

/// What a run got done until the disk stopped.
#[derive(Default)]
struct Run {
    written: Vec<Replayed>,
    /// How many of the written records are in batches that were reported durable.
    acknowledged: usize,
    /// The highest index up to which a cut was asked for.
    cut: u64,
    /// How many segments were made of older ones.
    recycled: usize,
}

/// Appends, rolls, resets and cuts, with work left undone between, until all is done or the disk stops. The disk has no
/// room for a while.
fn scripted_run(disk: &MemoryDisk, seed: u64, batches: u64) -> Run {
    let mut run_so_far = Run::default();
    let Ok((mut opened, _)) = open(disk, SEGMENT_BYTES) else { return run_so_far };
    let (mut numbers, mut model) = (Numbers(seed), Model::default());
    let mut ends = Vec::new();
    for number in 1..=batches {
        if number == batches / 3 {
            disk.fill_up(numbers.below(4000));
        }
        if number == batches / 2 {
            disk.clear_out();
        }
        let next = if numbers.below(17) == 0 { random_reset } else { random_batch };
        let batch = next(&mut model, &mut numbers, number);
        run_so_far.written.extend(records_of(&batch));
        ends.push(run_so_far.written.len());
        opened.wal.append(&batch).expect("the caller stops at the first error");
        if numbers.below(8) == 0 {
            opened.wal.idle();
        }
        if numbers.below(6) == 0 {
            let first_kept = numbers.below(model.hard_state.commit_index.get() + 1);
            run_so_far.cut = run_so_far.cut.max(first_kept);
            opened.wal.cut(Index::new(first_kept));
            opened.wal.keep_spares((1 + numbers.below(3)) * SEGMENT_BYTES);
        }
        opened.wal.retry();
        let works = if numbers.below(2) == 0 || number == batches { u64::MAX } else { numbers.below(3) };
        for _ in 0..works {
            let Some(work) = opened.wal.next_work() else { break };
            let made = format!("{work:?}");
            run_so_far.recycled += usize::from(made.contains("Recycle"));
            match run(&mut opened, work) {
                Ok(Some(durable)) => run_so_far.acknowledged = ends[durable.get() as usize - 1],
                Ok(None) => {}
                Err(_) => return run_so_far,
            }
        }
    }
    run_so_far
}

/// Where what was replayed ends in what was written, if it is a stretch of it that begins in the state that it says, or
/// at the beginning. A term taken over from an entry may stand at the end.
fn end_in(replayed: &[Replayed], written: &[Replayed], is_cut: bool) -> Option<usize> {
    let (mut before, tail) = (Model::default(), if is_cut { &replayed[2..] } else { replayed });
    let begin = Model::of(&replayed[..replayed.len() - tail.len()]);
    let found = Model::of(replayed).hard_state;
    for first in 0..=written.len() {
        if (before.hard_state, before.last_index()) == (begin.hard_state, begin.last_index()) && (is_cut || first == 0)
        {
            let mut end = first;
            let mut known = begin.hard_state;
            let fits = tail.iter().enumerate().all(|(number, told)| {
                while let Some(Replayed::HardState(same)) = written.get(end).filter(|_| is_cut)
                    && *same == known
                {
                    end += 1; // what is no news behind where the log was cut
                }
                let implied = number + 1 == tail.len() && *told == Replayed::HardState(found);
                match told {
                    Replayed::HardState(hard_state) => known = *hard_state,
                    Replayed::Reset { last } => known.commit_index = *last,
                    _ => {}
                }
                let is_next = written.get(end) == Some(told);
                end += usize::from(is_next);
                is_next || implied
            });
            while let Some(Replayed::HardState(same)) = written.get(end).filter(|_| is_cut && fits)
                && *same == known
            {
                end += 1;
            }
            if fits {
                return Some(end);
            }
        }
        written.get(first).into_iter().for_each(|record| before.apply(record));
    }
    None
}

#[test]
fn a_crash_at_any_step_of_cuts_resets_and_full_disks_loses_nothing() {
    let (mut cut, mut resets) = (0, 0);
    for seed in [31, 32] {
        let whole = MemoryDisk::new();
        let batches = 70;
        let done = scripted_run(&whole, seed, batches);
        assert_eq!(done.acknowledged, done.written.len());
        assert!(segment_files(&whole)[0].as_str() > "wal-0000000002.log");
        assert!(done.recycled >= 2, "only {} segments were recycled", done.recycled);
        for steps in 0..=whole.changes() {
            let disk = MemoryDisk::new();
            disk.halt_after(steps);
            let run = scripted_run(&disk, seed, batches);
            for mut keep in choices() {
                let disk = disk.fork();
                disk.crash(&mut keep);
                disk.clear_out();
                let (opened, replayed) = open(&disk, SEGMENT_BYTES).expect("a crash is no corruption");
                let is_cut = opened.report.first_segment > 1;
                let end = end_in(&replayed, &run.written, is_cut);
                let end = end.unwrap_or_else(|| panic!("{replayed:?}\nis no part of\n{:?}", run.written));
                assert!(end >= run.acknowledged, "seed {seed} step {steps}: {end} of {}", run.acknowledged);
                let begin = Model::of(&run.written[..end]).base;
                assert!(opened.first_index.get() <= run.cut.max(begin + 1), "seed {seed} step {steps}");
                cut += usize::from(is_cut);
                resets += usize::from(replayed.iter().skip(2).any(|told| matches!(told, Replayed::Reset { .. })));
                drop(opened);
                goes_on(&disk, &Model::of(&replayed), steps + 1);
            }
        }
    }
    assert!(cut > 500 && resets > 200, "{cut} logs were cut, {resets} hold resets");
}

/// Goes on with a recovered log, and checks that what was removed or made obsolete never comes back.
fn goes_on(disk: &MemoryDisk, found: &Model, seed: u64) {
    disk.crash(&mut |_| false);
    let (mut opened, replayed) = open(disk, SEGMENT_BYTES).expect("a log that was opened before");
    let (mut model, mut numbers) = (Model::of(&replayed), Numbers(seed));
    assert_eq!((model.hard_state, model.last_index()), (found.hard_state, found.last_index()));
    for number in 1..=3 {
        let next = if numbers.below(4) == 0 { random_reset } else { random_batch };
        opened.wal.append(&next(&mut model, &mut numbers, number)).expect("it fits");
    }
    run_all(&mut opened).expect("no fault is planned");
    disk.crash(&mut |_| false);
    let (opened, replayed) = open(disk, SEGMENT_BYTES).expect("a log without a tail");
    let again = Model::of(&replayed);
    assert_eq!((again.hard_state, again.last_index()), (model.hard_state, model.last_index()));
    let first = opened.first_index;
    let expected = model.entries.iter().filter(|entry| entry.index >= first);
    assert!(opened.reader.read(first, usize::MAX).unwrap().iter().eq(expected));
}

/// Every subset of the names that are not yet durable: the removal of an older segment always comes first.
#[test]
fn no_crash_of_a_cut_leaves_a_gap() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let entries = (1..=60).map(|index| entry(1, index, &[7; 350])).collect();
    opened.wal.append(&super::harness::batch(1, None, entries, None)).unwrap();
    run_all(&mut opened).unwrap();
    drop(opened);
    let mut segments_left = Vec::new();
    for steps in 0..20 {
        for kept in 0..4u32 {
            let disk = disk.fork();
            let (mut opened, _) = open(&disk, SEGMENT_BYTES).unwrap();
            opened.wal.cut(Index::new(50));
            disk.halt_after(steps);
            let _ = run_all(&mut opened);
            let names = disk.unsynced().iter().filter(|one| matches!(one, Unsynced::Removed { .. })).count();
            assert!(names <= 1, "one removal at a time");
            let mut number = 0;
            disk.crash(&mut |_| {
                number += 1;
                kept >> ((number - 1) % 2) & 1 == 1
            });
            let (opened, _) = open(&disk, SEGMENT_BYTES).expect("a crash is no corruption");
            assert_eq!(opened.last_index, Index::new(60));
            assert!(opened.first_index <= Index::new(50));
            segments_left.push(segment_files(&disk).len());
        }
    }
    segments_left.sort_unstable();
    segments_left.dedup();
    assert!(segments_left.len() >= 5, "{segments_left:?}");
}

/// A crash in a cut of a damaged log: it is refused as before or ends where it was to end, and cutting it again ends
/// it.
#[test]
fn a_crash_at_any_step_of_cutting_a_damaged_log_leaves_one_that_can_be_cut() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let (mut numbers, mut model) = (Numbers(77), Model::default());
    let mut written = Vec::new();
    for number in 1..=120 {
        let batch = random_batch(&mut model, &mut numbers, number);
        written.extend(records_of(&batch));
        opened.wal.append(&batch).unwrap();
        run_all(&mut opened).unwrap();
    }
    let records = raw_records(&disk);
    assert!(records.last().unwrap().position >> 32 >= 5);
    for (number, lost) in records.iter().enumerate().take(records.len() - 20).step_by(17) {
        let damaged = disk.fork();
        let mut bytes = damaged.contents(&lost.file).unwrap();
        bytes[lost.offset + 5] ^= 0x10;
        damaged.plant(&lost.file, bytes);
        let salvage = wal::salvage(&damaged).unwrap().expect("it is proven");
        let kept: usize = records[..number].iter().map(|record| record.told.len()).sum();
        let whole = damaged.fork();
        let before = whole.changes();
        wal::cut_damaged(&whole, salvage.end).unwrap();
        for steps in 0..=whole.changes() - before {
            for mut keep in choices() {
                let disk = damaged.fork();
                disk.halt_after(steps);
                let _ = wal::cut_damaged(&disk, salvage.end);
                disk.crash(&mut keep);
                if let Some(again) = wal::salvage(&disk).unwrap() {
                    assert_eq!(again.end, salvage.end, "record {number} step {steps}");
                } else {
                    check_end(&disk.fork(), &written[..kept], salvage.end);
                }
                wal::cut_damaged(&disk, salvage.end).unwrap();
                disk.crash(&mut |_| false);
                check_end(&disk, &written[..kept], salvage.end);
            }
        }
    }
}

fn check_end(disk: &MemoryDisk, written: &[Replayed], end: Place) {
    let inspected = wal::inspect(disk, &mut |_| Ok::<(), wal::WalError>(())).unwrap();
    assert_eq!(inspected.end, end);
    let (_, replayed) = open(disk, SEGMENT_BYTES).unwrap();
    assert_eq!(replayed[..written.len()], *written);
    assert!(replayed.len() <= written.len() + 1, "but for a term taken over");
}
