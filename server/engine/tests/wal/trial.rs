//! The rule by which the outcome of any damage is judged, and trials of it: as many as there are places in a log.
//!
//! What was known to be durable and is damaged is refused, with the right place. What nothing proves to have been
//! durable is cut: the log is then exactly what is before it. Whatever hit no record changes nothing.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::disk::Disk;
use engine::wal::{self, Opened, Place, Replayed, SEGMENT_BYTES_MIN, WalError};
use raft::{HardState, Index};

use super::fault::{Fault, Group};
use super::harness::{Model, crc32c, options};
use super::specimen::Specimen;
use super::workbench::Workbench;

/// What was done about a fault, rightly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Refused,
    Cut,
    Unchanged,
}

/// What was wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wrong {
    Panic(String),
    /// Something durable is gone, and nobody was told.
    SilentLoss(String),
    /// Anything else: another place is named, or a tail is taken for damage, or something is made up.
    Other(String),
}

/// What came of many faults.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    pub(crate) faults: u64,
    pub(crate) refused: u64,
    pub(crate) cut: u64,
    pub(crate) unchanged: u64,
    /// Damaged logs that were salvaged and cut as well.
    pub(crate) salvaged: u64,
    /// Each with its fault.
    pub(crate) wrong: Vec<(String, Wrong)>,
    pub(crate) slowest: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.faults += other.faults;
        self.refused += other.refused;
        self.cut += other.cut;
        self.unchanged += other.unchanged;
        self.salvaged += other.salvaged;
        self.wrong.extend(other.wrong);
        self.slowest = self.slowest.max(other.slowest);
    }

    /// Fails if anything was wrong, with the first few.
    pub(crate) fn assert_right(&self) {
        let first: Vec<_> = self.wrong.iter().take(5).collect();
        assert!(first.is_empty(), "{} wrong of {}: {first:#?}", self.wrong.len(), self.faults);
    }
}

/// What is to come of a fault.
struct Expected {
    verdict: Verdict,
    /// The first record that is damaged; all of them if none is.
    records: usize,
    /// In which file it is refused, and where if that is known.
    place: Option<(String, Option<u64>)>,
    /// Whether other records, that are as valid, are found before that place.
    is_replaced: bool,
}

/// Tries all faults of a kind, on several threads. Of so many damaged logs one is salvaged as well.
pub(crate) fn try_all(specimen: &Specimen, group: Group, threads: usize, salvage_every: u64) -> Tally {
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let run = |thread: usize| {
            let mut trials = Trials::new(specimen, salvage_every);
            group.faults(specimen).skip(thread).step_by(threads).for_each(|fault| trials.try_one(fault));
            trials.tally
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        for thread in running {
            total.add(thread.join().expect("a trial panics only where that is counted"));
        }
    });
    total
}

/// One trial after another over one log.
struct Trials<'a> {
    specimen: &'a Specimen,
    bench: Workbench,
    disk: Arc<dyn Disk>,
    /// How many replayed records come of the first so many records of the log.
    told: Vec<usize>,
    /// The hard state and the last index behind so many replayed records.
    states: Vec<(HardState, Index)>,
    salvage_every: u64,
    detected: u64,
    tally: Tally,
}

impl<'a> Trials<'a> {
    fn new(specimen: &'a Specimen, salvage_every: u64) -> Trials<'a> {
        let bench = Workbench::new(&specimen.files);
        let (mut model, mut sum) = (Model::default(), 0);
        let mut states = vec![(model.hard_state, model.last_index())];
        states.extend(specimen.written.iter().map(|replayed| {
            model.apply(replayed);
            (model.hard_state, model.last_index())
        }));
        let ends = specimen.records.iter().map(|record| {
            sum += record.told.len();
            sum
        });
        let told = std::iter::once(0).chain(ends).collect();
        let disk = Arc::new(bench.clone());
        Trials { specimen, bench, disk, told, states, salvage_every, detected: 0, tally: Tally::default() }
    }

    fn try_one(&mut self, fault: Fault) {
        let touched = fault.apply(self.specimen, &self.bench);
        if let Some(damaged) = self.damaged_records(&touched) {
            let expected = self.expected(fault, &damaged);
            let judged = catch_unwind(AssertUnwindSafe(|| self.judge(&expected, &damaged)));
            self.tally.faults += 1;
            match judged {
                Ok(Ok(Verdict::Refused)) => self.tally.refused += 1,
                Ok(Ok(Verdict::Cut)) => self.tally.cut += 1,
                Ok(Ok(Verdict::Unchanged)) => self.tally.unchanged += 1,
                Ok(Err(wrong)) => self.tally.wrong.push((fault.describe(self.specimen), wrong)),
                Err(panic) => {
                    let text = panic.downcast::<String>().map_or_else(|_| String::new(), |text| *text);
                    self.tally.wrong.push((fault.describe(self.specimen), Wrong::Panic(text)));
                }
            }
        }
        self.bench.restore();
    }

    /// The numbers of the records of which a byte differs, or `None` if no byte of any file does.
    fn damaged_records(&self, touched: &[(usize, Range<usize>)]) -> Option<Vec<usize>> {
        let mut damaged = Vec::new();
        let mut any = false;
        for (file, range) in touched {
            let (name, intact) = &self.specimen.files[*file];
            any |= self.bench.with_bytes(*file, |bytes| bytes.get(range.clone()) != Some(&intact[range.clone()]));
            let records = &self.specimen.records;
            let before = records
                .partition_point(|record| (&record.file, record.offset + record.bytes.len()) <= (name, range.start));
            let near = records.iter().enumerate().skip(before);
            let near = near.take_while(|(_, record)| record.file == *name && record.offset < range.end);
            damaged.extend(near.filter_map(|(number, record)| {
                let place = record.offset..record.offset + record.bytes.len();
                self.bench.with_bytes(*file, |bytes| bytes.get(place) != Some(&record.bytes[..])).then_some(number)
            }));
        }
        damaged.sort_unstable();
        damaged.dedup();
        any.then_some(damaged)
    }

    fn expected(&self, fault: Fault, damaged: &[usize]) -> Expected {
        let (specimen, records) = (self.specimen, self.specimen.records.len());
        let last = specimen.records.last().expect("a log");
        if let Fault::Length { file, bytes } = fault {
            // No crash makes a file shorter. Only one that was never used lost nothing, if enough is left of it.
            let name = &specimen.files[file].0;
            if *name > last.file && bytes as u64 >= SEGMENT_BYTES_MIN {
                return Expected { verdict: Verdict::Unchanged, records, place: None, is_replaced: false };
            }
            // A file that is shorter than any segment is not looked into.
            let is_kept = |number: &usize| {
                let record = &specimen.records[*number];
                let is_whole = bytes as u64 >= SEGMENT_BYTES_MIN && record.offset + record.bytes.len() <= bytes;
                record.file < *name || (record.file == *name && is_whole)
            };
            let records = (0..records).take_while(is_kept).count();
            return Expected {
                verdict: Verdict::Refused,
                records,
                place: Some((name.clone(), None)),
                is_replaced: false,
            };
        }
        let Some(&first) = damaged.first() else {
            return Expected { verdict: Verdict::Unchanged, records, place: None, is_replaced: false };
        };
        let lost = &specimen.records[first];
        if let Some(end) = self.replaced_until(first) {
            // What is there instead is as valid as what was: the record behind it does not follow on it.
            let place = Some((lost.file.clone(), Some(end as u64)));
            return Expected { verdict: Verdict::Refused, records: first, place, is_replaced: true };
        }
        // What precedes the damage cannot prove it; except that a segment is only the first left if it has a start.
        let intact = (0..records).rev().find(|number| damaged.binary_search(number).is_err());
        let proof = intact.map_or(0, |number| specimen.records[number].durable);
        if proof > lost.position || (first == 0 && lost.position >> 32 > 1) {
            let place = Some((lost.file.clone(), Some(lost.offset as u64)));
            return Expected { verdict: Verdict::Refused, records: first, place, is_replaced: false };
        }
        Expected { verdict: Verdict::Cut, records: first, place: None, is_replaced: false }
    }

    /// Where records end that are not the ones that were written, but are valid in their places and follow on each
    /// other and on what is before them, if there is one from this record on. Only an earlier state of the disk has
    /// such: of a segment that was cut, or of the first one left, of which nobody knows what it followed on.
    fn replaced_until(&self, first: usize) -> Option<usize> {
        let (lost, first_bytes) = (&self.specimen.records[first], &self.specimen.records[0].bytes);
        let file = self.specimen.files.iter().position(|(name, _)| *name == lost.file)?;
        let mut previous = match first.checked_sub(1) {
            Some(before) => Some(self.specimen.records[before].bytes[..4].to_vec()),
            None => (lost.position >> 32 == 1).then(|| vec![0; 4]),
        };
        self.bench.with_bytes(file, |bytes| {
            let mut end = lost.offset;
            while let Some(header) = bytes.get(end..end + 32) {
                let length =
                    (32 + (u32::from_le_bytes([header[4], header[5], header[6], 0]) as usize)).next_multiple_of(8);
                let position = (lost.position >> 32 << 32) + end as u64;
                let follows = previous.as_ref().is_none_or(|previous| header[24..28] == previous[..]);
                if header[8..16] != position.to_le_bytes() || header[28..32] != first_bytes[28..32] || !follows {
                    break;
                }
                let Some(record) = bytes.get(end..end + length) else { break };
                if record[..4] != crc32c(&record[4..]).to_le_bytes() {
                    break;
                }
                previous = Some(record[..4].to_vec());
                end += length;
            }
            (end > lost.offset).then_some(end)
        })
    }

    fn open(&self) -> (Result<Opened, WalError>, Replay<'a>) {
        let mut replay = Replay { written: &self.specimen.written, same: 0, others: Vec::new() };
        let outcome = wal::open(&self.disk, options(self.specimen.segment_bytes), &mut |told| replay.take(told));
        (outcome, replay)
    }

    fn judge(&mut self, expected: &Expected, damaged: &[usize]) -> Result<Verdict, Wrong> {
        let changes = self.bench.changes();
        let began = Instant::now();
        let (outcome, replay) = self.open();
        self.tally.slowest = self.tally.slowest.max(began.elapsed());
        match (outcome, &expected.place) {
            (Ok(opened), None) => {
                self.check_prefix(&opened, &replay, expected.records)?;
                self.detected += 1;
                if self.detected.is_multiple_of(self.salvage_every) {
                    self.check_again(&opened, &replay)?;
                }
            }
            (Ok(_), Some(place)) => {
                return Err(Wrong::SilentLoss(format!("{place:?} is not missed, {} replayed", replay.same)));
            }
            (Err(WalError::Corrupt { file, offset, .. }), Some((lost, at))) => {
                let is_named = file == *lost && at.is_none_or(|at| at == offset);
                demand(is_named || (offset == 0 && self.is_next_start(&file, damaged)), || {
                    format!("{lost} at {at:?} is damaged, but {file} at {offset} is named")
                })?;
                demand(self.bench.changes() == changes, || "a log that was refused was changed".to_owned())?;
                let told = self.told[expected.records];
                demand(expected.is_replaced || (replay.others.is_empty() && replay.same == told), || {
                    format!("{} replayed of {told} before the damage, then {:?}", replay.same, replay.others)
                })?;
                self.detected += 1;
                if self.detected.is_multiple_of(self.salvage_every) && !expected.is_replaced {
                    self.tally.salvaged += 1;
                    self.check_salvage(expected, damaged)?;
                }
            }
            (Err(error), place) => return Err(Wrong::Other(format!("{place:?} was expected: {error}"))),
        }
        Ok(expected.verdict)
    }

    /// Whether a file's start is damaged and so is all from the first damaged record on up to it, the header of that
    /// included: then nothing shows that there was a record at the end of the segment before.
    fn is_next_start(&self, file: &str, damaged: &[usize]) -> bool {
        let records = &self.specimen.records;
        let Some(start) = records.iter().position(|record| record.file == file) else { return false };
        let first = &records[damaged[0]];
        let number = self.specimen.files.iter().position(|(name, _)| *name == first.file).expect("a file of the log");
        let header = first.offset + 8..first.offset + 16;
        let header_is_damaged =
            self.bench.with_bytes(number, |bytes| bytes.get(header) != Some(&first.position.to_le_bytes()));
        header_is_damaged && (damaged[0]..=start).all(|number| damaged.binary_search(&number).is_ok())
    }

    /// Checks that a log is what it was up to a record. A term taken over from an entry may stand at the end.
    fn check_prefix(&self, opened: &Opened, replay: &Replay<'_>, records: usize) -> Result<(), Wrong> {
        let kept = self.told[records];
        let found = || format!("{} of {kept} records, then {:?}", replay.same, replay.others);
        if replay.same < kept {
            return Err(Wrong::SilentLoss(found()));
        }
        // What is implied may be just what was written next.
        let behind: Vec<&Replayed> = self.specimen.written[kept..replay.same].iter().chain(&replay.others).collect();
        let implied = match behind[..] {
            [] => true,
            [Replayed::HardState(last)] => kept < self.specimen.written.len() && *last == opened.hard_state,
            _ => false,
        };
        demand(implied, found)?;
        let state = (opened.hard_state, opened.last_index);
        demand(state == self.states[kept], || format!("{state:?} is not {:?}", self.states[kept]))
    }

    /// Checks that what one start found, another finds, without a tail.
    fn check_again(&self, opened: &Opened, replay: &Replay<'_>) -> Result<(), Wrong> {
        let (again, found) = self.open();
        let again = again.map_err(|error| Wrong::Other(format!("the second start: {error}")))?;
        let state = |opened: &Opened| (opened.hard_state, opened.last_index, opened.first_index);
        demand(state(&again) == state(opened), || "a second start finds another state".to_owned())?;
        demand(again.report.cut_bytes == 0, || format!("{} bytes cut by a second start", again.report.cut_bytes))?;
        demand(found.same + found.others.len() == replay.same + replay.others.len(), || {
            format!("a second start finds {} and {:?}", found.same, found.others)
        })
    }

    /// Checks what a salvage says of a damaged log, and that the log can be made its sound part.
    fn check_salvage(&self, expected: &Expected, damaged: &[usize]) -> Result<(), Wrong> {
        let changes = self.bench.changes();
        let salvage = wal::salvage(&self.bench).map_err(|error| Wrong::Other(format!("salvage: {error}")))?;
        let salvage = salvage.ok_or_else(|| Wrong::Other("a salvage finds no damage".to_owned()))?;
        demand(self.bench.changes() == changes, || "a salvage changed the log".to_owned())?;
        let before = expected.records.checked_sub(1).map(|before| &self.specimen.records[before]);
        let end = before.map_or(0, |before| before.position + before.bytes.len() as u64);
        let end = Place { segment: (end >> 32) as u32, offset: end & 0xffff_ffff };
        if matches!(expected.place, Some((_, Some(_)))) {
            demand(salvage.end == end, || format!("the sound part ends at {end}, not at {}", salvage.end))?;
            self.check_proven(&salvage, damaged)?;
        } else {
            let term = self.states[self.states.len() - 1].0.current_term;
            demand(salvage.proven_term.is_none_or(|proven| proven == term), || format!("{term:?}: {salvage:?}"))?;
        }
        for round in 0..2 {
            let cut = wal::cut_damaged(&self.bench, salvage.end).and_then(|()| wal::salvage(&self.bench));
            demand(matches!(cut, Ok(None)), || format!("cut {round} times: {cut:?}"))?;
        }
        let (opened, replay) = self.open();
        let opened = opened.map_err(|error| Wrong::Other(format!("after a cut: {error}")))?;
        demand(opened.fresh == (expected.records == 0), || format!("fresh: {}", opened.fresh))?;
        demand(opened.report.cut_bytes == 0, || format!("{} bytes left by a cut", opened.report.cut_bytes))?;
        self.check_prefix(&opened, &replay, expected.records)
    }

    /// What is said to be proven is what the log was at the end of the last run of intact records that proves the
    /// damage before it, if a record of the run says it; behind it only what was not synced may be missing.
    fn check_proven(&self, salvage: &wal::Salvage, damaged: &[usize]) -> Result<(), Wrong> {
        let records = &self.specimen.records;
        let mut end = damaged[0];
        let mut begin = end;
        for number in (end..records.len()).filter(|number| damaged.binary_search(number).is_err()) {
            if number == end {
                end += 1;
            } else if records[number].durable > records[end].position {
                (begin, end) = (number, number + 1);
            }
        }
        let (hard_state, last_index) = self.states[self.told[end]];
        let says = |kinds: &[u8]| records[begin..end].iter().any(|record| kinds.contains(&record.kind));
        let term = says(&[1, 2]).then_some(hard_state.current_term);
        let last_index = says(&[1, 3, 5, 6, 7]).then_some(last_index);
        demand((salvage.proven_term, salvage.proven_last_index) == (term, last_index), || {
            format!("{term:?} and {last_index:?} are proven: {salvage:?}")
        })
    }
}

fn demand(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(Wrong::Other(otherwise())) }
}

/// What is replayed, beside what was written.
struct Replay<'a> {
    written: &'a [Replayed],
    /// How many are the same from the first on.
    same: usize,
    /// What came behind those.
    others: Vec<Replayed>,
}

impl Replay<'_> {
    fn take(&mut self, told: Replayed) {
        if self.others.is_empty() && self.written.get(self.same) == Some(&told) {
            self.same += 1;
        } else {
            self.others.push(told);
        }
    }
}
