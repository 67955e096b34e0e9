//! Power cuts between all steps of a run, with every kind of leftovers: what was acknowledged is there, in order, and
//! nothing that was not written.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use engine::disk::{MemoryDisk, Unsynced};
use engine::wal::Replayed;

use super::fault_log::write_section;
use super::harness::{
    Model, Numbers, assert_prefix, batch, entry, hard_state, open, random_batch, raw_records, records_of, run, run_all,
};

const SEGMENT_BYTES: u64 = 4096;

/// What a run got done until the disk stopped.
struct Run {
    written: Vec<Replayed>,
    /// How many of the written records are in batches that were reported durable.
    acknowledged: usize,
}

/// Appends, groups, rolls, truncates and votes, until all is done or the disk stops.
fn scripted_run(disk: &MemoryDisk, seed: u64, batches: u64) -> Run {
    let mut run_so_far = Run { written: Vec::new(), acknowledged: 0 };
    let Ok((mut opened, _)) = open(disk, SEGMENT_BYTES) else { return run_so_far };
    let (mut numbers, mut model) = (Numbers(seed), Model::default());
    let mut ends = Vec::new();
    for number in 1..=batches {
        let batch = random_batch(&mut model, &mut numbers, number);
        run_so_far.written.extend(records_of(&batch));
        ends.push(run_so_far.written.len());
        opened.wal.append(&batch).expect("the caller stops at the first error");
        if numbers.below(8) == 0 {
            opened.wal.idle();
        }
        // Sometimes more is appended while work is out, so that commits hold several batches.
        let works = if numbers.below(2) == 0 { u64::MAX } else { numbers.below(3) };
        for _ in 0..works {
            let Some(work) = opened.wal.next_work() else { break };
            match run(&mut opened, work) {
                Ok(Some(durable)) => run_so_far.acknowledged = ends[durable.get() as usize - 1],
                Ok(None) => {}
                Err(_) => return run_so_far,
            }
        }
    }
    run_so_far
}

/// Says of each thing that was not synced whether it survives.
pub(crate) type Choice = Box<dyn FnMut(&Unsynced) -> bool>;

/// Different choices of what survives: nothing, all, each half, all but one, one alone, and random ones.
pub(crate) fn choices() -> Vec<Choice> {
    let counted = |rule: fn(u64) -> bool| -> Choice {
        let mut count = 0;
        Box::new(move |_| {
            count += 1;
            rule(count)
        })
    };
    let mut choices = vec![
        counted(|_| false),
        counted(|_| true),
        counted(|count| count % 2 == 0),
        counted(|count| count % 2 == 1),
        counted(|count| count != 1),
        counted(|count| count != 2),
        counted(|count| count == 2),
    ];
    for seed in 1..=4 {
        let mut numbers = Numbers(seed * 7919);
        choices.push(Box::new(move |_| numbers.below(3) != 0));
    }
    choices
}

/// Goes on with a recovered log, and checks that what was cut never comes back.
fn goes_on(disk: &MemoryDisk, found: &[Replayed], seed: u64) {
    let (mut opened, replayed) = open(disk, SEGMENT_BYTES).expect("a log that was opened before");
    assert_eq!(replayed, found, "opening changes nothing");
    assert_eq!(opened.report.cut_bytes, 0, "the tail was cut the first time");
    let mut model = Model::of(&replayed);
    let mut expected = replayed;
    let mut numbers = Numbers(seed);
    for number in 1..=3 {
        let batch = random_batch(&mut model, &mut numbers, number);
        if expected.last() == found.last() {
            drop_implied(&mut expected);
        }
        expected.extend(records_of(&batch));
        opened.wal.append(&batch).expect("it fits");
    }
    run_all(&mut opened).expect("no fault is planned");
    disk.crash(&mut |_| false);
    let (_, replayed) = open(disk, SEGMENT_BYTES).expect("a log without a tail");
    assert_eq!(Model::of(&replayed), Model::of(&expected));
}

/// A term that was taken over from an entry is not a record of the log.
fn drop_implied(records: &mut Vec<Replayed>) {
    if let Some((Replayed::HardState(last), before)) = records.split_last()
        && Model::of(before).hard_state == *last
    {
        records.pop();
    }
}

/// Cuts the power of a disk that stopped, and checks what the next start finds, and that it goes on. Returns whether a
/// tail was cut.
fn crash(stopped: &MemoryDisk, run: &Run, keep: &mut dyn FnMut(&Unsynced) -> bool, seed: u64) -> bool {
    let disk = stopped.fork();
    disk.crash(keep);
    let (opened, replayed) = open(&disk, SEGMENT_BYTES).expect("a crash is no corruption");
    assert_prefix(&replayed, &run.written, run.acknowledged);
    assert_eq!(opened.hard_state, Model::of(&replayed).hard_state);
    let is_cut = opened.report.cut_bytes > 0;
    drop(opened);
    disk.crash(&mut |_| false);
    goes_on(&disk, &replayed, seed);
    is_cut
}

#[test]
fn a_crash_at_any_step_loses_nothing_acknowledged() {
    let mut cut_somewhere = 0;
    for seed in [11, 12, 13] {
        let whole = MemoryDisk::new();
        let done = scripted_run(&whole, seed, 50);
        assert!(raw_records(&whole).last().is_some_and(|last| last.position >> 32 >= 3), "several segments are filled");
        assert!(done.written.iter().any(|record| matches!(record, Replayed::Truncate { .. })));
        for steps in 0..=whole.changes() {
            let disk = MemoryDisk::new();
            disk.halt_after(steps);
            let run = scripted_run(&disk, seed, 50);
            for mut keep in choices() {
                cut_somewhere += usize::from(crash(&disk, &run, &mut keep, steps + 1));
            }
        }
    }
    assert!(cut_somewhere > 200, "crashes leave tails: {cut_somewhere}");
}

/// Of how many things that are not synced every subset is tried; of more, as many random ones.
const SUBSETS_BITS: u32 = 8;

/// Every subset of what is not synced, at every step, of several runs.
#[test]
#[ignore = "all power cuts of several runs, for minutes: cargo faults"]
fn all_crashes_of_logs_at_length() {
    let began = Instant::now();
    let mut text = String::from(HEAD);
    let mut wrong_in_all = 0;
    for seed in 41..46 {
        let whole = MemoryDisk::new();
        scripted_run(&whole, seed, 60);
        let (mut subsets, mut states, mut cut, mut wrong) = (0, 0, 0, 0);
        for steps in 0..=whole.changes() {
            let disk = MemoryDisk::new();
            disk.halt_after(steps);
            let run = scripted_run(&disk, seed, 60);
            let things = u32::try_from(disk.unsynced().len()).unwrap();
            subsets += u64::from(things <= SUBSETS_BITS);
            let mut numbers = Numbers(steps + 1);
            for subset in 0..1 << things.min(SUBSETS_BITS) {
                let mut left = if things <= SUBSETS_BITS { subset } else { numbers.next() };
                let keep = &mut |_: &Unsynced| {
                    left = left.rotate_right(1);
                    left >> 63 == 1
                };
                states += 1;
                match catch_unwind(AssertUnwindSafe(|| crash(&disk, &run, keep, steps + 1))) {
                    Ok(is_cut) => cut += u64::from(is_cut),
                    Err(_) => wrong += 1,
                }
            }
        }
        let calls = whole.changes() + 1;
        let _ = writeln!(text, "| {seed} | {calls} | {subsets} | {states} | {cut} | {wrong} |");
        wrong_in_all += wrong;
    }
    let _ = writeln!(text, "\nIn {} s on one thread.", began.elapsed().as_secs());
    write_section("Crashes of a log", &text);
    assert_eq!(wrong_in_all, 0);
}

const HEAD: &str = "\
A log appends, groups, rolls, truncates and votes, in segments of 4 KiB, and the power is cut after each change of the
disk. *States*: every subset of what was not synced survives, sector by sector and name by name, or 256 random ones if
there is more than eight things; each is started, goes on, and is started again. *Wrong*: something acknowledged is
lost, something is made up, a crash is taken for damage, or what was cut comes back.

| seed | changes | of them with every subset | states | with a tail that was cut | wrong |
|---|---|---|---|---|---|
";

/// First the process is killed, and what it wrote is seen by the next one. Then the power fails: what that next one
/// believed and built on must have been made durable by it, names included.
#[test]
fn a_power_cut_after_a_killed_process_loses_nothing_that_was_believed() {
    let whole = MemoryDisk::new();
    scripted_run(&whole, 21, 40);
    for steps in 0..=whole.changes() {
        let disk = MemoryDisk::new();
        disk.halt_after(steps);
        let run = scripted_run(&disk, 21, 40);
        disk.restart();
        let (mut opened, believed) = open(&disk, SEGMENT_BYTES).expect("a killed process is no corruption");
        assert_prefix(&believed, &run.written, run.acknowledged);
        let mut model = Model::of(&believed);
        let more = random_batch(&mut model, &mut Numbers(steps + 1), 1);
        opened.wal.append(&more).expect("it fits");
        run_all(&mut opened).expect("no fault is planned");
        disk.crash(&mut |_| false);
        let (_, found) = open(&disk, SEGMENT_BYTES).expect("a crash is no corruption");
        assert_eq!(Model::of(&found), model, "step {steps}");
    }
}

/// A segment that takes several writes and syncs to fill with zeros.
#[test]
fn a_crash_while_a_large_segment_is_prepared_leaves_a_log_that_opens() {
    let large = 6 << 20;
    let whole = MemoryDisk::new();
    open(&whole, large).unwrap();
    for steps in 0..=whole.changes() {
        for every in [1, 2] {
            let disk = MemoryDisk::new();
            disk.halt_after(steps);
            let fresh = open(&disk, large).is_err();
            let mut count = 0;
            disk.crash(&mut |_| {
                count += 1;
                count % every == 0
            });
            let (mut opened, replayed) = open(&disk, large).expect("a crash is no corruption");
            assert!(replayed.is_empty() && (fresh || !opened.fresh));
            opened.wal.append(&batch(1, None, vec![entry(1, 1, b"x")], None)).unwrap();
            run_all(&mut opened).unwrap();
        }
    }
}

#[test]
fn a_crash_at_any_step_of_recovery_changes_nothing() {
    let whole = MemoryDisk::new();
    scripted_run(&whole, 5, 24);
    for steps in (0..whole.changes()).step_by(3) {
        let crashed = MemoryDisk::new();
        crashed.halt_after(steps);
        let run = scripted_run(&crashed, 5, 24);
        let mut numbers = Numbers(steps + 77);
        crashed.crash(&mut |_| numbers.below(2) == 0);
        let reference = crashed.fork();
        let (_, found) = open(&reference, SEGMENT_BYTES).expect("a crash is no corruption");
        assert_prefix(&found, &run.written, run.acknowledged);
        for recovery_steps in 0..12 {
            for mut keep in choices() {
                let disk = crashed.fork();
                disk.halt_after(recovery_steps);
                let _ = open(&disk, SEGMENT_BYTES);
                disk.crash(&mut keep);
                let (_, again) = open(&disk, SEGMENT_BYTES).expect("a crash in recovery is no corruption");
                assert_eq!(again, found, "what one start found, another finds");
            }
        }
    }
}

#[test]
fn every_subset_of_a_commit_recovers_to_a_prefix() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let first = batch(1, None, vec![entry(1, 1, &[1; 50]), entry(1, 2, &[2; 50])], Some(hard_state(1, 2, 0)));
    opened.wal.append(&first).unwrap();
    run_all(&mut opened).unwrap();
    // A commit of eight sectors whose sync never comes: it truncates, appends and votes.
    let entries = (2..=20).map(|index| entry(2, index, &[index as u8; 110])).collect();
    let second = batch(2, Some(1), entries, Some(hard_state(2, 3, 1)));
    opened.wal.append(&second).unwrap();
    let work = opened.wal.next_work().unwrap();
    disk.halt_after(1);
    run(&mut opened, work).unwrap_err();
    let mut written = records_of(&first);
    let acknowledged = written.len();
    written.extend(records_of(&second));
    let sectors = disk.unsynced().len();
    assert!((6..=8).contains(&sectors), "{sectors}");
    let mut lengths = Vec::new();
    for subset in 0u32..1 << sectors {
        let disk = disk.fork();
        let mut number = 0;
        disk.crash(&mut |_| {
            number += 1;
            subset >> (number - 1) & 1 == 1
        });
        let (opened, replayed) = open(&disk, SEGMENT_BYTES).expect("unsynced sectors are no corruption");
        lengths.push(assert_prefix(&replayed, &written, acknowledged));
        drop(opened);
        goes_on(&disk, &replayed, u64::from(subset) + 1);
    }
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 5 && lengths.last() == Some(&written.len()), "{lengths:?}");
}

/// The vote's file is the log: a crash while it is written leaves the old pair of term and vote or the new one.
#[test]
fn term_and_vote_change_together() {
    let (old, new) = (hard_state(4, 1, 0), hard_state(5, 2, 0));
    for steps in 0..=2 {
        for keep_all in [false, true] {
            let disk = MemoryDisk::new();
            let (mut opened, _) = open(&disk, SEGMENT_BYTES).unwrap();
            opened.wal.append(&batch(1, None, vec![], Some(old))).unwrap();
            run_all(&mut opened).unwrap();
            opened.wal.append(&batch(2, None, vec![], Some(new))).unwrap();
            disk.halt_after(steps);
            let acknowledged = run_all(&mut opened).is_ok();
            disk.crash(&mut |_| keep_all);
            let (opened, _) = open(&disk, SEGMENT_BYTES).unwrap();
            assert!(opened.hard_state == new || (!acknowledged && opened.hard_state == old));
        }
    }
}

/// A truncation that goes back over several segments is one record: no crash leaves a hole.
#[test]
fn a_truncation_over_segments_leaves_no_hole() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, SEGMENT_BYTES).unwrap();
    let first = batch(1, None, (1..=60).map(|index| entry(1, index, &[1; 200])).collect(), Some(hard_state(1, 0, 3)));
    opened.wal.append(&first).unwrap();
    run_all(&mut opened).unwrap();
    let second = batch(2, Some(5), vec![entry(2, 6, b"new")], Some(hard_state(2, 0, 3)));
    opened.wal.append(&second).unwrap();
    let work = opened.wal.next_work().unwrap();
    disk.halt_after(1);
    run(&mut opened, work).unwrap_err();
    let mut written = records_of(&first);
    written.extend(records_of(&second));
    for mut keep in choices() {
        let disk = disk.fork();
        disk.crash(&mut keep);
        let (opened, replayed) = open(&disk, SEGMENT_BYTES).unwrap();
        assert_prefix(&replayed, &written, 61);
        let model = Model::of(&replayed);
        assert_eq!(opened.last_index, model.last_index());
        assert!([60, 6, 5].contains(&model.entries.len()));
    }
}
