//! What the tests share: a node's worth of log, a model of what it should hold, and a reader of the format that knows
//! it only from its document.

use std::sync::Arc;

use bytes::Bytes;
use engine::disk::{Disk, MemoryDisk};
use engine::wal::{self, Opened, Replayed, WalError, WalOptions, Work};
use raft::{Batch, BatchNumber, Entry, HardState, Index, NodeId, Payload, Term};

pub(crate) const SALT: u32 = 0x5a17_0001;

pub(crate) fn options(segment_bytes: u64) -> WalOptions {
    WalOptions { segment_bytes, index_every_bytes: 512, salt: SALT, must_exist: false }
}

/// Opens the log and collects what is replayed.
pub(crate) fn open(disk: &MemoryDisk, segment_bytes: u64) -> Result<(Opened, Vec<Replayed>), WalError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut replayed = Vec::new();
    let opened = wal::open(&disk, options(segment_bytes), &mut |record| replayed.push(record))?;
    Ok((opened, replayed))
}

/// Runs all work that there is to its end. Returns the last batch that became durable.
pub(crate) fn run_all(opened: &mut Opened) -> Result<Option<BatchNumber>, WalError> {
    let mut durable = None;
    while let Some(work) = opened.wal.next_work() {
        durable = run(opened, work)?.or(durable);
    }
    Ok(durable)
}

pub(crate) fn run(opened: &mut Opened, work: Work) -> Result<Option<BatchNumber>, WalError> {
    opened.wal.completed(opened.executor.run(work))
}

pub(crate) fn entry(term: u64, index: u64, command: &[u8]) -> Entry {
    let payload = Payload::Command(Bytes::copy_from_slice(command));
    Entry { term: Term::new(term), index: Index::new(index), payload }
}

pub(crate) fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { current_term: Term::new(term), voted_for: NodeId::new(vote), commit_index: Index::new(commit) }
}

pub(crate) fn batch(
    number: u64,
    truncate_after: Option<u64>,
    entries: Vec<Entry>,
    hard_state: Option<HardState>,
) -> Batch {
    let truncate_after = truncate_after.map(Index::new);
    Batch { number: BatchNumber::new(number), reset_to: None, truncate_after, entries, hard_state }
}

/// The records that a batch becomes.
pub(crate) fn records_of(batch: &Batch) -> Vec<Replayed> {
    let reset = batch.reset_to.map(|last| Replayed::Reset { last });
    let truncate = batch.truncate_after.map(|after| Replayed::Truncate { after });
    let entries = batch.entries.iter().cloned().map(Replayed::Entry);
    reset.into_iter().chain(truncate).chain(entries).chain(batch.hard_state.map(Replayed::HardState)).collect()
}

/// What a log amounts to.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Model {
    /// The index that the entries lie behind.
    pub(crate) base: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) hard_state: HardState,
}

impl Model {
    pub(crate) fn of(records: &[Replayed]) -> Model {
        let mut model = Model::default();
        records.iter().for_each(|record| model.apply(record));
        model
    }

    pub(crate) fn apply(&mut self, record: &Replayed) {
        match record {
            Replayed::Entry(entry) => {
                assert_eq!(entry.index, self.last_index().next(), "entries are contiguous");
                self.entries.push(entry.clone());
                if entry.term > self.hard_state.current_term {
                    self.hard_state.current_term = entry.term;
                    self.hard_state.voted_for = None;
                }
            }
            Replayed::Truncate { after } => {
                self.base = self.base.min(after.get()); // a log that was cut may go back to before what is left of it
                self.entries.truncate((after.get() - self.base) as usize);
            }
            Replayed::Reset { last } => {
                (self.base, self.entries) = (last.get(), Vec::new());
                self.hard_state.commit_index = *last;
            }
            Replayed::HardState(hard_state) => self.hard_state = *hard_state,
        }
    }

    pub(crate) fn last_index(&self) -> Index {
        Index::new(self.base + self.entries.len() as u64)
    }
}

/// Checks that `found` are the first of `written`, at least `acknowledged` of them: nothing lost that was promised,
/// nothing made up. A term taken over from an entry may stand at the end. Returns how many there are.
pub(crate) fn assert_prefix(found: &[Replayed], written: &[Replayed], acknowledged: usize) -> usize {
    let mut found = found;
    let is_prefix = |found: &[Replayed]| written.starts_with(found);
    if !is_prefix(found)
        && let Some((Replayed::HardState(taken_over), before)) = found.split_last()
    {
        assert_eq!(*taken_over, Model::of(before).hard_state, "the hard state at the end is implied by the entries");
        found = before;
    }
    assert!(is_prefix(found), "what was recovered is not what was written:\n{found:?}\n{written:?}");
    assert!(found.len() >= acknowledged, "{} of {acknowledged} acknowledged records recovered", found.len());
    found.len()
}

/// A small generator of numbers that are always the same.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

/// A batch as raft could make it on top of `model`, which it is applied to.
pub(crate) fn random_batch(model: &mut Model, numbers: &mut Numbers, number: u64) -> Batch {
    let HardState { mut current_term, mut voted_for, commit_index } = model.hard_state;
    if current_term == Term::ZERO || numbers.below(6) == 0 {
        current_term = current_term.next().unwrap();
        voted_for = NodeId::new(numbers.below(3));
    }
    let last = model.last_index().get();
    let truncate_after = (numbers.below(5) == 0 && last > commit_index.get())
        .then(|| commit_index.get() + numbers.below(last - commit_index.get()));
    let kept = truncate_after.unwrap_or(last);
    let count = numbers.below(5);
    let entries: Vec<Entry> = (kept + 1..=kept + count)
        .map(|index| {
            let length = if numbers.below(20) == 0 { 900 } else { numbers.below(120) };
            let noop = length == 0 && numbers.below(2) == 0;
            let command: Vec<u8> = (0..length).map(|_| numbers.next() as u8).collect();
            let entry = entry(current_term.get(), index, &command);
            if noop { Entry { payload: Payload::Noop, ..entry } } else { entry }
        })
        .collect();
    let commit_index = Index::new(commit_index.get() + numbers.below(kept + count + 1 - commit_index.get()));
    let changed = HardState { current_term, voted_for, commit_index };
    let hard_state = (changed != model.hard_state).then_some(changed);
    let batch = batch(number, truncate_after, entries, hard_state);
    records_of(&batch).iter().for_each(|record| model.apply(record));
    batch
}

/// A batch with which a snapshot takes the place of the log: behind its end, or of a part of it.
pub(crate) fn random_reset(model: &mut Model, numbers: &mut Numbers, number: u64) -> Batch {
    let (last, committed) = (model.last_index().get(), model.hard_state.commit_index.get());
    let reset_to = committed + numbers.below(last - committed + 30);
    let term = model.hard_state.current_term.get().max(1);
    let entries = (reset_to + 1..=reset_to + numbers.below(3)).map(|index| entry(term, index, b"behind")).collect();
    let reset = Batch { reset_to: Some(Index::new(reset_to)), ..batch(number, None, entries, None) };
    records_of(&reset).iter().for_each(|record| model.apply(record));
    reset
}

/// A record as it lies in a file, read by the document alone.
#[derive(Clone, Debug)]
pub(crate) struct RawRecord {
    pub(crate) file: String,
    pub(crate) offset: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) position: u64,
    pub(crate) durable: u64,
    /// What replay tells of it: nothing of what begins a segment, unless the log begins with it, nor of what only
    /// proves what is before it.
    pub(crate) told: Vec<Replayed>,
}

pub(crate) fn segment_files(disk: &MemoryDisk) -> Vec<String> {
    disk.list().unwrap().into_iter().filter(|name| name.ends_with(".log")).collect()
}

/// All records of an undamaged log.
pub(crate) fn raw_records(disk: &MemoryDisk) -> Vec<RawRecord> {
    let mut records = Vec::new();
    let mut known = HardState::default();
    for file in segment_files(disk) {
        let contents = disk.contents(&file).unwrap();
        for (offset, length) in file_records(&file, &contents) {
            let field = |at: usize| u64::from_le_bytes(contents[offset + at..offset + at + 8].try_into().unwrap());
            let bytes = contents[offset..offset + length].to_vec();
            assert_eq!(crc32c(&bytes[4..]), u32::from_le_bytes(bytes[..4].try_into().unwrap()), "{file} {offset}");
            let (kind, position, durable) = (bytes[7], field(8), field(16));
            let told = told(&bytes, position, records.is_empty(), &mut known);
            records.push(RawRecord { file: file.clone(), offset, bytes, kind, position, durable, told });
        }
    }
    records
}

/// Where the records of an undamaged segment lie, and how long they are: up to the first that is not of this place.
pub(crate) fn file_records(file: &str, contents: &[u8]) -> Vec<(usize, usize)> {
    let segment: u64 = file["wal-".len()..file.len() - ".log".len()].parse().unwrap();
    let mut records = Vec::new();
    let mut offset = 0;
    while offset + 32 <= contents.len() {
        let field = |at: usize| u64::from_le_bytes(contents[offset + at..offset + at + 8].try_into().unwrap());
        if field(8) != segment << 32 | offset as u64 {
            break;
        }
        let length = (32 + (field(0) >> 32 & 0x00ff_ffff) as usize).next_multiple_of(8);
        records.push((offset, length));
        offset += length;
    }
    records
}

/// What replay tells of a record. `known` is the hard state that it told last.
fn told(record: &[u8], position: u64, is_first: bool, known: &mut HardState) -> Vec<Replayed> {
    let field = |at: usize| u64::from_le_bytes(record[32 + at..32 + at + 8].try_into().unwrap());
    let hard_state = |at: usize| hard_state(field(at), field(at + 8), field(at + 16));
    match record[7] {
        1 if is_first && position >> 32 > 1 => {
            *known = hard_state(32);
            vec![Replayed::Reset { last: Index::new(field(16) - 1) }, Replayed::HardState(*known)]
        }
        1 | 4 => vec![],
        2 if *known == hard_state(0) => vec![],
        2 => {
            *known = hard_state(0);
            vec![Replayed::HardState(*known)]
        }
        3 => vec![Replayed::Truncate { after: Index::new(field(0)) }],
        5 => vec![Replayed::Entry(Entry { payload: Payload::Noop, ..entry(field(0), field(8), b"") })],
        6 => {
            let length = u32::from_le_bytes([record[4], record[5], record[6], 0]) as usize;
            vec![Replayed::Entry(entry(field(0), field(8), &record[48..32 + length]))]
        }
        7 => {
            known.commit_index = Index::new(field(0));
            vec![Replayed::Reset { last: known.commit_index }]
        }
        kind => panic!("a record of kind {kind}"),
    }
}

/// CRC32C by its definition, bit by bit: independent of the crate that the log uses.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            remainder = (remainder >> 1) ^ (0x82f6_3b78 & (remainder & 1).wrapping_neg());
        }
    }
    !remainder
}
