//! Arbitrary segments, forged logs, and damaged real ones, opened as a node does at its start.
//!
//! The first byte chooses: bytes as they stand in one to three files; records made up with right checksums ([`forge`]);
//! or a log that the engine wrote, with a list of damages ([`mod@damage`]).

pub mod damage;
pub(crate) mod disk;
pub mod forge;
mod specimen;

use std::sync::Arc;

use bytes::Bytes;
use engine::disk::{Disk, MemoryDisk};
use engine::wal::{self, Opened, Replayed, WalError};
use engine::{Engine, EngineError, EngineOptions};
use raft::{Batch, BatchNumber, Configuration, Entry, HardState, Index, Payload, Term};

use crate::hunting::Outcome;
use crate::input::Input;
use crate::node::{node_id, options as raft_options};
use damage::{Damaged, damage};
use disk::WatchedDisk;
use forge::forge;
use specimen::{Amount, Specimen, options, run_all, specimens};

/// What the first byte chooses, modulo 4.
pub const RAW: u8 = 0;
/// Records made up.
pub const FORGED: u8 = 1;
/// A real log, damaged. From here on: the rest of the first byte, divided by 4, is which one.
pub const DAMAGED: u8 = 2;

/// The largest record, in bytes: nothing more is ever read at once.
const RECORD_BYTES_MAX: u64 = (8 << 20) + 32 + 8;

/// Runs one input: some files that are opened as a log.
///
/// # Panics
/// On a finding.
pub fn run(input: &[u8]) -> Outcome {
    let mut input = Input::new(input);
    let mut outcome = Outcome::default();
    let choice = input.u8();
    match choice % 4 {
        RAW => {
            let disk = plant(raw(&mut input), 1);
            open_twice(&disk, &mut outcome);
        }
        FORGED => {
            let forged = forge(&mut input);
            let disk = plant(forged.files, forged.first);
            let replayed = open_twice(&disk, &mut outcome);
            if forged.sound {
                let records = replayed.expect("a log as the document has it is accepted");
                let entries = records.iter().filter(|record| matches!(record, Replayed::Entry(_))).count() as u64;
                assert_eq!(entries, forged.entries, "entries of a sound log are missing");
                outcome.mark("sound");
                if records.iter().any(|record| matches!(record, Replayed::Reset { .. })) {
                    outcome.mark(if forged.first > 1 { "begins later" } else { "reset" });
                }
            }
        }
        _ => {
            let all = specimens();
            let specimen = &all[usize::from(choice / 4) % all.len()];
            let damaged = damage(specimen, &mut input);
            check_damaged(specimen, &damaged, &mut outcome);
        }
    }
    outcome
}

/// One to three files that are the rest of the input in equal parts. Each is long enough for a segment, if the byte
/// before them does not say otherwise.
fn raw(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let choice = input.u8();
    let rest = input.rest();
    let count = usize::from(choice % 3) + 1;
    let part = rest.len().div_ceil(count).max(1);
    let mut files: Vec<Vec<u8>> = rest.chunks(part).map(<[u8]>::to_vec).collect();
    if choice & 0x80 == 0 {
        files.iter_mut().for_each(|file| file.resize(file.len().max(4096), 0));
    }
    files
}

fn plant(files: Vec<Vec<u8>>, first: u64) -> MemoryDisk {
    let disk = MemoryDisk::new();
    for (file, number) in files.into_iter().zip(first..) {
        disk.plant(&format!("wal-{number:010}.log"), file);
    }
    disk
}

/// Opens a log and collects what is replayed.
fn open(disk: &MemoryDisk) -> Result<(Opened, Vec<Replayed>), WalError> {
    let file_bytes: u64 = contents(disk).iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let watched = WatchedDisk::new(disk.clone());
    let shared: Arc<dyn Disk> = Arc::new(watched.clone());
    let mut replayed = Vec::new();
    let result = wal::open(&shared, options(), &mut |record| replayed.push(record));
    let largest = watched.largest_read();
    assert!(largest <= file_bytes.min(RECORD_BYTES_MAX), "{largest} bytes were allocated to read {file_bytes}");
    let opened = result?;
    let told: usize = replayed.iter().map(Replayed::size).sum();
    assert!(told as u64 <= file_bytes, "{told} bytes of entries out of {file_bytes}");
    let report = &opened.report;
    let entries = replayed.iter().filter(|record| matches!(record, Replayed::Entry(_))).count() as u64;
    assert_eq!(report.entries, entries, "the report of what was replayed");
    assert!(report.bytes >= 32 * report.records, "a record is no smaller than its header");
    assert!(report.bytes + report.cut_bytes <= file_bytes, "more is reported than there is: {report:?}");
    Ok((opened, replayed))
}

trait Size {
    fn size(&self) -> usize;
}

impl Size for Replayed {
    /// What it takes in a file at least.
    fn size(&self) -> usize {
        match self {
            Replayed::Entry(Entry { payload: Payload::Command(command), .. }) => command.len(),
            Replayed::Entry(_) | Replayed::Truncate { .. } | Replayed::Reset { .. } | Replayed::HardState(_) => 0,
        }
    }
}

fn contents(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list().expect("a disk in memory does not fail");
    names.into_iter().filter_map(|name| disk.contents(&name).map(|bytes| (name, bytes))).collect()
}

/// Opens a log, and again. What is refused is refused again, and nothing on the disk is changed; what is accepted is
/// accepted again with the same in it, can be read back, and goes on. Gives what was replayed.
fn open_twice(disk: &MemoryDisk, outcome: &mut Outcome) -> Option<Vec<Replayed>> {
    let changes = disk.changes();
    let (opened, replayed) = match open(disk) {
        Ok(result) => result,
        Err(error) => {
            outcome.refuse(kind(&error));
            assert_eq!(disk.changes(), changes, "a log that is refused is changed: {error}");
            let again = open(disk).map(|_| ()).expect_err("a log that was refused is accepted the second time");
            assert_eq!(again.to_string(), error.to_string(), "a log is refused in another way the second time");
            if matches!(error, WalError::Corrupt { .. }) {
                salvage(disk, &error);
            }
            return None;
        }
    };
    outcome.accept(if opened.fresh { "fresh" } else { "recovered" });
    if opened.report.cut_bytes > 0 {
        outcome.mark("cut");
    }
    if opened.report.segments > 1 {
        outcome.mark("segments");
    }
    let amount = Amount::of(&replayed);
    assert_eq!(amount.hard_state, opened.hard_state, "the hard state is the last one replayed");
    assert_eq!(amount.last_index(), opened.last_index, "the end is that of what was replayed");
    read_back(&opened, &amount);
    drop(opened);
    disk.restart();
    let (again, replayed_again) = open(disk).expect("a log that was opened is opened again");
    assert_eq!(replayed_again, replayed, "the second start finds something else");
    assert_eq!(again.report.cut_bytes, 0, "the first start has not cleaned up");
    go_on(disk, again, amount);
    Some(replayed)
}

/// A log that is refused as damaged can be cut to one that is accepted, or where a version is unknown behind the
/// damage, is left alone.
fn salvage(disk: &MemoryDisk, error: &WalError) {
    if error.to_string().contains("the file was cut") {
        return; // it would be made as long as it says that it was, up to 1 GiB
    }
    let disk = disk.fork();
    let Ok(salvage) = wal::salvage(&disk) else { return };
    let salvage = salvage.expect("what is refused is damaged");
    assert_eq!(salvage.damage.to_string(), error.to_string(), "a salvage finds another damage");
    wal::cut_damaged(&disk, salvage.end).expect("a disk in memory does not fail");
    let (opened, _) = open(&disk).expect("what was cut is sound");
    assert_eq!(opened.report.cut_bytes, 0, "something was left behind the end");
}

fn read_back(opened: &Opened, amount: &Amount) {
    assert_eq!(opened.first_index, Index::new(amount.base + 1), "where the log begins");
    let Some(first) = amount.entries.first() else { return };
    let entries = opened.reader.read(first.index, usize::MAX).expect("what was replayed can be read");
    assert_eq!(entries, amount.entries, "what is read back is not what was replayed");
}

/// A log that was opened takes more, and keeps it.
fn go_on(disk: &MemoryDisk, mut opened: Opened, mut amount: Amount) {
    let HardState { current_term, .. } = amount.hard_state;
    let (term, index) = (current_term.max(Term::new(1)), Index::new(opened.last_index.get() + 1));
    if index.get() == u64::MAX {
        return; // forged: it is the last of all
    }
    let entry = Entry { term, index, payload: Payload::Command(Bytes::from_static(b"and on")) };
    let number = BatchNumber::new(1);
    let batch = Batch { number, reset_to: None, truncate_after: None, entries: vec![entry.clone()], hard_state: None };
    opened.wal.append(&batch).expect("it fits");
    run_all(&mut opened);
    drop(opened);
    disk.restart();
    if amount.hard_state.current_term < term {
        amount.hard_state = HardState { current_term: term, voted_for: None, ..amount.hard_state };
    }
    amount.entries.push(entry);
    let (_, replayed) = open(disk).expect("a log that went on is opened");
    assert_eq!(Amount::of(&replayed), amount, "what was appended is not what is found");
}

/// Judges what is made of a damaged log: either exactly what precedes the damage, if nothing proves that more was
/// durable, or a refusal that names the place.
fn check_damaged(specimen: &Specimen, damaged: &Damaged, outcome: &mut Outcome) {
    let files = contents(&damaged.disk);
    let file = |name: &str| files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice());
    let first_lost = specimen.records.iter().position(|record| {
        let range = record.offset..record.offset + record.bytes.len();
        file(&record.file).and_then(|bytes| bytes.get(range)) != Some(&record.bytes[..])
    });
    let intact = specimen.records.iter().filter(|record| {
        let range = record.offset..record.offset + record.bytes.len();
        file(&record.file).and_then(|bytes| bytes.get(range)) == Some(&record.bytes[..])
    });
    let proven = intact.map(|record| record.durable).max().unwrap_or(0);
    let lost = first_lost.map(|number| &specimen.records[number]);
    let is_proven = lost.is_some_and(|lost| proven > lost.position);
    let engine_disk = damaged.disk.fork();
    let first_error = open(&damaged.disk.fork()).map(|_| ()).err();
    let Some(replayed) = open_twice(&damaged.disk, outcome) else {
        assert!(
            is_proven || damaged.reshaped || damaged.resealed,
            "an unsynced tail is no corruption: {first_error:?}"
        );
        if let (Some(WalError::Corrupt { file, offset, .. }), Some(first_lost)) = (first_error, first_lost)
            && !damaged.reshaped
            && !damaged.resealed
        {
            let named = (file.as_str(), usize::try_from(offset).expect("files are short"));
            assert!(may_be_named(specimen, first_lost, &files, named), "the damage is not at {named:?}");
        }
        open_engine(&engine_disk, None);
        return;
    };
    if damaged.resealed {
        return; // what is made up with a right checksum can be anything
    }
    if damaged.first_lost {
        return; // a log may begin later, and nothing in it says that it should not
    }
    assert!(!is_proven, "something durable is missing, and nobody notices");
    let kept = first_lost.map_or(specimen.written.len(), |number| {
        specimen.records[..number].iter().filter(|record| record.is_told).count()
    });
    assert_eq!(replayed.get(..kept), specimen.written.get(..kept), "what was recovered is not what was written");
    assert!(replayed.len() - kept <= 1, "something was made up: {:?}", &replayed[kept..]);
    let amount = Amount::of(&specimen.written[..kept]);
    assert_eq!(Amount::of(&replayed), amount, "what was recovered is not what was written");
    outcome.mark(if first_lost.is_none() { "whole" } else { "prefix" });
    open_engine(&engine_disk, Some(amount.last_index()));
}

/// Whether a place may be named as that of the first record lost: where the record was, mostly. Whatever separates two
/// segments can be damaged so that the one ends and the other begins elsewhere.
fn may_be_named(specimen: &Specimen, lost: usize, files: &[(String, Vec<u8>)], named: (&str, usize)) -> bool {
    let record = &specimen.records[lost];
    let here = named == (record.file.as_str(), record.offset);
    // Where nothing claims to be a record in its place, the segment may as well have been left.
    let contents = files.iter().find(|(file, _)| *file == record.file).map(|(_, bytes)| bytes.as_slice());
    let claimed = contents.and_then(|bytes| bytes.get(record.offset + 8..record.offset + 16));
    let is_claimed = claimed == Some(&record.position.to_le_bytes()[..]);
    let next = named.0 > record.file.as_str() && named.1 == 0 && !is_claimed;
    // Where there are not, it may as well not have been left yet.
    let before = lost.checked_sub(1).map(|before| &specimen.records[before]);
    let previous = before.is_some_and(|before| named == (before.file.as_str(), before.offset + before.bytes.len()));
    here || next || (record.offset == 0 && previous)
}

/// Opens a whole engine over a log that begins at the beginning: it must accept exactly what the log does.
fn open_engine(disk: &MemoryDisk, last_index: Option<Index>) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    // A node that is alone: one of several would cut the log at the damage and fetch the rest.
    let configuration = Configuration::new([node_id(1)]);
    let wal_pending_bytes_max = engine::WAL_PENDING_BYTES_MAX;
    let (raft, wal) = (raft_options(), options());
    let opened = Engine::open(
        &shared,
        EngineOptions {
            raft,
            wal,
            configuration,
            wal_pending_bytes_max,
            snapshot_log_bytes_min: engine::SNAPSHOT_LOG_BYTES_MIN,
            space_reserve_bytes: engine::SPACE_RESERVE_BYTES,
            snapshot_chunk_bytes: engine::side::SNAPSHOT_CHUNK_BYTES,
            session_limits: engine::kv::SessionLimits::default(),
            lease_ms: 0,
            state_hash_every_entries: engine::STATE_HASH_EVERY_ENTRIES,
        },
    );
    match (opened, last_index) {
        (Ok(opened), Some(last_index)) => {
            assert_eq!(opened.engine.raft().last_index(), last_index, "the engine's log ends elsewhere");
            let store = opened.engine.store();
            assert_eq!(store.recompute_hash(), store.state_hash(), "the replayed state has another hash");
        }
        (Err(EngineError::Wal(_)), None) => {}
        (Ok(_), None) => panic!("the engine accepts a log that is refused"),
        (Err(error), _) => panic!("the engine refuses a log that is accepted: {error:?}"),
    }
}

fn kind(error: &WalError) -> &'static str {
    match error {
        WalError::Io { .. } => panic!("a disk in memory does not fail: {error}"),
        WalError::Options(_) | WalError::TooLarge { .. } => panic!("nothing of this was asked for: {error}"),
        WalError::Corrupt { .. } => "corrupt",
        WalError::Missing => "missing",
        WalError::Version { .. } => "version",
    }
}
