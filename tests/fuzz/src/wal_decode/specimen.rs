//! Real logs, written by the engine, with what is in them: the material of damage.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use engine::disk::{Disk, MemoryDisk};
use engine::kv::command::encode;
use engine::kv::{Command, PutMode};
use engine::wal::{self, Opened, Replayed, WalOptions};
use raft::{Batch, BatchNumber, Entry, HardState, Index, NodeId, Payload, Term};

use crate::mutation::Random;
use crate::node::position;

/// Segments of the smallest size, so that a small log has several.
pub(crate) const SEGMENT_BYTES: usize = 4096;

/// What sets the records of the specimens apart from those of other logs.
pub(crate) const SALT: u32 = 0x5a17_0001;

/// A log that was written without a crash.
pub(crate) struct Specimen {
    pub(crate) disk: MemoryDisk,
    /// What it holds, in order.
    pub(crate) written: Vec<Replayed>,
    pub(crate) records: Vec<RawRecord>,
    /// States of the disk on the way, oldest first.
    pub(crate) earlier: Vec<MemoryDisk>,
}

/// A record as it lies in a file, read by the document alone.
pub(crate) struct RawRecord {
    pub(crate) file: String,
    pub(crate) offset: usize,
    pub(crate) bytes: Vec<u8>,
    pub(crate) position: u64,
    pub(crate) durable: u64,
    /// Whether replay tells of it: not of what begins a segment, nor of a hard state that is what it was before.
    pub(crate) is_told: bool,
}

pub(crate) fn options() -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES as u64, index_every_bytes: 512, salt: SALT, must_exist: false }
}

/// The specimens: a log that ends with a mark, one whose last commit nothing proves durable, and one that was opened
/// again on the way.
pub(crate) fn specimens() -> &'static [Specimen] {
    static SPECIMENS: OnceLock<Vec<Specimen>> = OnceLock::new();
    SPECIMENS.get_or_init(|| {
        vec![
            write(1, &[Stretch { segments: 1, marked: true }]),
            write(2, &[Stretch { segments: 3, marked: false }]),
            write(3, &[Stretch { segments: 1, marked: false }, Stretch { segments: 3, marked: true }]),
        ]
    })
}

/// What is written between two starts.
struct Stretch {
    /// Until this segment is in use.
    segments: u64,
    /// Whether the log falls idle at the end.
    marked: bool,
}

fn write(seed: u64, stretches: &[Stretch]) -> Specimen {
    let (disk, mut random) = (MemoryDisk::new(), Random::new(seed));
    let (mut written, mut earlier) = (Vec::new(), Vec::new());
    for stretch in stretches {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut opened = wal::open(&shared, options(), &mut |_| {}).expect("the log is sound");
        for number in 1.. {
            let batch = batch(&written, &mut random, number);
            opened.wal.append(&batch).expect("it fits");
            run_all(&mut opened);
            written.extend(records_of(batch));
            if number % 4 == 0 {
                earlier.push(disk.fork());
            }
            let last = raw_records(&disk).pop().expect("something was written");
            // In the first segment there is to be something to damage as well.
            if last.position >> 32 >= stretch.segments && last.offset > 1024 {
                break;
            }
        }
        if stretch.marked {
            opened.wal.idle();
            run_all(&mut opened);
        }
    }
    let records = raw_records(&disk);
    Specimen { disk, written, records, earlier }
}

/// Runs all disk work that there is.
pub(crate) fn run_all(opened: &mut Opened) {
    while let Some(work) = opened.wal.next_work() {
        let completion = opened.executor.run(work);
        opened.wal.completed(completion).expect("a disk in memory does not fail");
    }
}

/// What a log amounts to: its entries and its last hard state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    /// The index that the entries lie behind.
    pub(crate) base: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) hard_state: HardState,
}

impl Amount {
    pub(crate) fn of(records: &[Replayed]) -> Amount {
        let mut amount = Amount::default();
        for record in records {
            match record {
                Replayed::Entry(entry) => {
                    assert_eq!(entry.index, amount.last_index().next(), "entries are contiguous");
                    if entry.term > amount.hard_state.current_term {
                        amount.hard_state.current_term = entry.term;
                        amount.hard_state.voted_for = None;
                    }
                    amount.entries.push(entry.clone());
                }
                Replayed::Truncate { after } => {
                    // A log whose beginning is gone may go back to before what is left.
                    amount.base = amount.base.min(after.get());
                    amount.entries.truncate(position(Index::new(after.get() - amount.base)));
                }
                Replayed::Reset { last } => {
                    (amount.base, amount.entries) = (last.get(), Vec::new());
                    amount.hard_state.commit_index = *last;
                }
                Replayed::HardState(hard_state) => amount.hard_state = *hard_state,
            }
        }
        amount
    }

    pub(crate) fn last_index(&self) -> Index {
        Index::new(self.base + self.entries.len() as u64)
    }
}

/// A batch as the core could make it on top of what is written.
fn batch(written: &[Replayed], random: &mut Random, number: u64) -> Batch {
    let amount = Amount::of(written);
    let HardState { mut current_term, mut voted_for, commit_index } = amount.hard_state;
    if current_term == Term::ZERO || random.below(6) == 0 {
        current_term = current_term.next().expect("few terms");
        voted_for = NodeId::new(random.below(3) as u64);
    }
    let (last, commit) = (amount.entries.len(), position(commit_index));
    let truncate = random.below(5) == 0 && last > commit;
    let kept = if truncate { commit + random.below(last - commit) } else { last };
    let entries: Vec<Entry> = (kept + 1..=kept + random.below(4))
        .map(|index| {
            let payload = if random.below(6) == 0 { Payload::Noop } else { put(random, index) };
            Entry { term: current_term, index: Index::new(index as u64), payload }
        })
        .collect();
    let commit_index = Index::new((commit + random.below(kept + entries.len() + 1 - commit)) as u64);
    let changed = HardState { current_term, voted_for, commit_index };
    Batch {
        reset_to: None,
        number: BatchNumber::new(number),
        truncate_after: truncate.then(|| Index::new(kept as u64)),
        entries,
        hard_state: (changed != amount.hard_state).then_some(changed),
    }
}

/// A real command, so that a whole engine can replay it.
fn put(random: &mut Random, index: usize) -> Payload {
    let value = vec![u8::try_from(index % 251).expect("small"); random.below(160)];
    let key = Bytes::from(format!("key{}", index % 7));
    let command = Command::Put { key, value: value.into(), mode: PutMode::Upsert };
    Payload::Command(encode(&command.into(), index as u64).expect("it is within the limits"))
}

fn records_of(batch: Batch) -> impl Iterator<Item = Replayed> {
    let truncate = batch.truncate_after.map(|after| Replayed::Truncate { after });
    let entries = batch.entries.into_iter().map(Replayed::Entry);
    truncate.into_iter().chain(entries).chain(batch.hard_state.map(Replayed::HardState))
}

/// The files of a log's segments, in order.
pub(crate) fn segment_files(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.list().expect("a disk in memory does not fail");
    names.into_iter().filter(|name| name.ends_with(".log")).collect()
}

/// All records of an undamaged log.
fn raw_records(disk: &MemoryDisk) -> Vec<RawRecord> {
    let mut records = Vec::new();
    let mut hard_state = vec![0; 24];
    for file in segment_files(disk) {
        let contents = disk.contents(&file).expect("it was listed");
        let mut offset = 0;
        while let Some(header) = contents.get(offset..offset + 32) {
            let field = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
            let (position, durable) = (field(8), field(16));
            if position == 0 {
                break;
            }
            let payload_bytes = usize::try_from(field(0) >> 32 & 0x00ff_ffff).expect("24 bits fit");
            let end = offset + (32 + payload_bytes).next_multiple_of(8);
            let (bytes, kind) = (contents[offset..end].to_vec(), header[7]);
            let says = (kind == 2).then(|| bytes[32..56].to_vec());
            let is_told = says.as_ref().map_or(![1, 4].contains(&kind), |says| *says != hard_state);
            hard_state = says.unwrap_or(hard_state);
            records.push(RawRecord { file: file.clone(), offset, bytes, position, durable, is_told });
            offset = end;
        }
    }
    records
}
