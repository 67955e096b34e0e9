//! Every fault at every place of whole snapshots: each bit, each byte, each length, each sector in every way that a
//! disk has, and each subset of the last sectors. Nothing of it may be believed.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use engine::disk::{MemoryDisk, SECTOR_BYTES};
use engine::snapshot::{Reader, SnapshotError};

use super::fault_log::write_section;
use super::harness::{file_of, meta, put, random_store};

/// The kinds of faults, as they are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Group {
    Bits,
    Bytes,
    Lengths,
    Sectors,
    LastSectors,
}

impl Group {
    const ALL: [Group; 5] = [Group::Bits, Group::Bytes, Group::Lengths, Group::Sectors, Group::LastSectors];
}

/// Is given what a fault makes of the file, as a piece of work that is only done when it is called; and whether it puts
/// older bytes there, which may be as valid as what was: then it is the chunk behind them that does not follow on them.
type Visit<'a> = dyn FnMut(bool, &dyn Fn() -> Vec<u8>) + 'a;

/// A snapshot, and one of the same index and length in which one value is another: what lay there before.
struct Specimen {
    name: String,
    bytes: Vec<u8>,
    older: Vec<u8>,
}

impl Specimen {
    fn new(seed: u64) -> Specimen {
        let mut store = random_store(seed, 170, 120, 420);
        let mut other = store.clone();
        put(&mut store, b"key", b"newer");
        put(&mut other, b"key", b"older");
        let ((name, bytes), (_, older)) = (file_of(&meta(171), &store), file_of(&meta(171), &other));
        assert!(bytes.len() == older.len() && bytes.len() > 16 << 10 && bytes != older);
        Specimen { name, bytes, older }
    }

    /// Hands out what each fault of a kind makes of the file.
    fn each(&self, group: Group, visit: &mut Visit<'_>) {
        let bytes = &self.bytes;
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut changed = bytes.clone();
            change(&mut changed);
            changed
        };
        match group {
            Group::Bits => (0..bytes.len() * 8)
                .for_each(|bit| visit(false, &|| changed(&|bytes| bytes[bit / 8] ^= 1 << (bit % 8)))),
            Group::Bytes => (0..bytes.len() * 2)
                .for_each(|n| visit(false, &|| changed(&|bytes| bytes[n / 2] = if n % 2 == 0 { 0 } else { 0xff }))),
            Group::Lengths => (0..bytes.len()).for_each(|length| visit(false, &|| bytes[..length].to_vec())),
            Group::Sectors => [SECTOR_BYTES, 4096].into_iter().for_each(|unit| self.each_sector(unit, visit)),
            Group::LastSectors => {
                let end = bytes.len().div_ceil(SECTOR_BYTES);
                for (lost, zeros) in (1_u32..256).flat_map(|lost| [(lost, true), (lost, false)]) {
                    let lose = |file: &mut Vec<u8>| {
                        for sector in (end - 8..end).filter(|sector| lost >> (end - 1 - sector) & 1 == 1) {
                            let at = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(bytes.len());
                            let before = if zeros { vec![0; at.len()] } else { self.older[at.clone()].to_vec() };
                            file[at].copy_from_slice(&before);
                        }
                    };
                    visit(!zeros, &|| changed(&lose));
                }
            }
        }
    }

    fn each_sector(&self, unit: usize, visit: &mut Visit<'_>) {
        let bytes = &self.bytes;
        let at = |sector: usize| sector * unit..((sector + 1) * unit).min(bytes.len());
        let with = |sector: usize, content: &[u8]| {
            let mut changed = bytes.clone();
            changed[at(sector)].copy_from_slice(content);
            changed
        };
        for sector in 0..bytes.len().div_ceil(unit) {
            let place = at(sector);
            visit(false, &|| with(sector, &vec![0; place.len()]));
            visit(false, &|| with(sector, &vec![0xff; place.len()]));
            visit(true, &|| with(sector, &self.older[place.clone()]));
            visit(false, &|| [&bytes[..place.start], &bytes[place.end..]].concat());
            visit(false, &|| [&bytes[..place.end], &bytes[place.start..]].concat());
            for other in (0..bytes.len() / unit).filter(|_| place.len() == unit) {
                visit(false, &|| with(sector, &bytes[at(other)]));
                if other > sector {
                    visit(false, &|| {
                        let mut swapped = with(sector, &bytes[at(other)]);
                        swapped[at(other)].copy_from_slice(&bytes[place.clone()]);
                        swapped
                    });
                }
            }
        }
    }
}

/// What came of many faults.
#[derive(Default, Debug)]
struct Tally {
    faults: u64,
    refused: u64,
    panics: u64,
    /// What was read to its end as if nothing had been done to it.
    believed: u64,
    /// Other errors than damage, or a place behind the first byte that is another.
    otherwise: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.faults += other.faults;
        self.refused += other.refused;
        self.panics += other.panics;
        self.believed += other.believed;
        self.otherwise.extend(other.otherwise);
    }

    fn is_right(&self) -> bool {
        self.refused == self.faults && self.faults > 0
    }

    /// Reads a file to its end. Whatever the sections say is not looked at: nobody may use a state before that.
    fn try_one(&mut self, specimen: &Specimen, disk: &MemoryDisk, is_older: bool, damaged: Vec<u8>) {
        let same = specimen.bytes.iter().zip(&damaged).take_while(|(intact, damaged)| intact == damaged).count();
        if same == specimen.bytes.len() && damaged.len() == same {
            return;
        }
        self.faults += 1;
        disk.plant(&specimen.name, damaged);
        let read = || -> Result<(), SnapshotError> {
            let mut reader = Reader::open(disk, &specimen.name)?;
            while reader.next_chunk()?.is_some() {}
            Ok(())
        };
        match catch_unwind(AssertUnwindSafe(read)) {
            Err(_) => self.panics += 1,
            Ok(Ok(())) => self.believed += 1,
            Ok(Err(SnapshotError::Damaged { offset, file, .. }))
                if (is_older || offset <= same as u64) && file == specimen.name =>
            {
                self.refused += 1;
            }
            Ok(Err(error)) => self.otherwise.push(format!("byte {same} is another: {error}")),
        }
    }
}

/// Tries all faults of a kind, on several threads.
fn try_all(specimen: &Specimen, group: Group, threads: usize) -> Tally {
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let run = |thread: usize| {
            let (mut tally, mut number, disk) = (Tally::default(), 0, MemoryDisk::new());
            specimen.each(group, &mut |is_older, damaged| {
                number += 1;
                if number % threads == thread {
                    tally.try_one(specimen, &disk, is_older, damaged());
                }
            });
            tally
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        running.into_iter().for_each(|thread| total.add(thread.join().expect("panics are caught and counted")));
    });
    total
}

#[test]
fn every_fault_of_a_sector_is_found() {
    let specimen = Specimen::new(28);
    for group in [Group::Bytes, Group::Sectors, Group::LastSectors] {
        let tally = try_all(&specimen, group, 1);
        assert!(tally.is_right(), "{group:?}: {tally:?}");
    }
}

/// Everything, over several snapshots.
#[test]
#[ignore = "all faults over several snapshots, for minutes: cargo faults"]
fn all_faults_of_snapshots_at_length() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let mut text = String::from(HEAD);
    let (mut total, mut right) = (0, true);
    for seed in 41..46 {
        let specimen = Specimen::new(seed);
        let mut of_file = Tally::default();
        let _ = write!(text, "| {seed} | {} ", specimen.bytes.len());
        for group in Group::ALL {
            let tally = try_all(&specimen, group, threads);
            let _ = write!(text, "| {} ", tally.faults);
            right &= tally.is_right();
            of_file.add(tally);
        }
        let Tally { refused, panics, believed, otherwise, faults } = of_file;
        let _ = writeln!(text, "| {refused} | {panics} | {believed} | {} |", otherwise.len());
        total += faults;
    }
    let _ = writeln!(text, "\n{total} faults in {} s on {threads} threads.", began.elapsed().as_secs());
    write_section("Snapshots", &text);
    assert!(right);
}

const HEAD: &str = "\
*Refused*: the error says that the file is damaged, names it, and a byte that is not behind the first that is another;
or where older bytes were put that are valid themselves, a byte behind those. *Sectors* of 512 bytes and pages of 4 KiB,
each: zeroed, set, dropped, doubled, overwritten by and swapped with every other one, rolled back to an older snapshot
of the same index. *Last*: every subset of the last eight sectors lost, as zeros and as what was there before.

| seed | bytes | bits | bytes to 00 and FF | lengths | sectors | last | refused | panics | believed | otherwise wrong |
|---|---|---|---|---|---|---|---|---|---|---|
";
