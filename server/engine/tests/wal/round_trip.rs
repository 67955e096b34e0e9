//! What was appended is what is recovered and what is read.

use std::io;
use std::sync::{Arc, Mutex};

use engine::disk::{Disk, File, MemoryDisk};
use engine::wal::{self, Opened, Replayed};
use proptest::prelude::*;
use raft::{Entry, Index};

use super::harness::{
    Model, Numbers, batch, entry, hard_state, open, options, random_batch, records_of, run_all, segment_files,
};

/// Reads everything that a reader gives from an index on, in answers of so many bytes.
fn read_from(opened: &Opened, from: u64, bytes_max: usize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = Index::new(from);
    loop {
        let more = opened.reader.read(next, bytes_max).expect("an undamaged log");
        let bytes: usize = more.iter().map(Entry::size_bytes).sum();
        assert!(bytes <= bytes_max || more.len() == 1, "{bytes} bytes where {bytes_max} were allowed");
        let Some(last) = more.last() else { return entries };
        next = last.index.next();
        entries.extend(more);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_batches_are_recovered_and_read(
        seed in 1u64..,
        rounds in proptest::collection::vec((1u64..12, any::<bool>()), 1..8),
        segment_bytes in prop_oneof![Just(4096u64), Just(8192), Just(65536)],
        bytes_max in 1usize..3000,
    ) {
        let disk = MemoryDisk::new();
        let mut numbers = Numbers(seed);
        let mut model = Model::default();
        let mut written: Vec<Replayed> = Vec::new();
        let mut number = 0;
        for (count, power_cut) in rounds {
            let (mut opened, replayed) = open(&disk, segment_bytes).unwrap();
            prop_assert_eq!(&replayed, &written);
            prop_assert_eq!(opened.hard_state, model.hard_state);
            prop_assert_eq!(opened.last_index, model.last_index());
            prop_assert_eq!(opened.report.cut_bytes, 0);
            prop_assert_eq!(read_from(&opened, 1, bytes_max), model.entries.clone());
            for _ in 0..count {
                number += 1;
                let batch = random_batch(&mut model, &mut numbers, number);
                written.extend(records_of(&batch));
                opened.wal.append(&batch).unwrap();
                if numbers.below(3) == 0 {
                    prop_assert_eq!(run_all(&mut opened).unwrap(), Some(batch.number));
                }
            }
            run_all(&mut opened).unwrap();
            prop_assert_eq!(opened.wal.pending_bytes(), 0);
            let from = 1 + numbers.below(model.entries.len() as u64 + 2);
            let expected: Vec<Entry> = model.entries.iter().skip(from as usize - 1).cloned().collect();
            prop_assert_eq!(read_from(&opened, from, bytes_max), expected);
            if power_cut { disk.crash(&mut |_| false) } else { disk.restart() }
        }
    }
}

#[test]
fn an_index_written_again_after_a_truncation_is_read_where_it_was_written_last() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    let long = [7; 300];
    let first: Vec<Entry> = (1..=40).map(|index| entry(1, index, &long)).collect();
    opened.wal.append(&batch(1, None, first.clone(), None)).unwrap();
    run_all(&mut opened).unwrap();
    assert!(segment_files(&disk).len() > 3);
    let second: Vec<Entry> = (11..=30).map(|index| entry(2, index, &[8; 200])).collect();
    opened.wal.append(&batch(2, Some(10), second.clone(), None)).unwrap();
    run_all(&mut opened).unwrap();
    opened.wal.append(&batch(3, Some(25), vec![entry(3, 26, b"last")], Some(hard_state(3, 2, 20)))).unwrap();
    run_all(&mut opened).unwrap();

    let mut expected: Vec<Entry> = first[..10].to_vec();
    expected.extend_from_slice(&second[..15]);
    expected.push(entry(3, 26, b"last"));
    for from in 1..=26 {
        for bytes_max in [1, 500, 5000, 1 << 20] {
            assert_eq!(read_from(&opened, from, bytes_max), expected[from as usize - 1..]);
        }
    }
    assert_eq!(opened.reader.read(Index::new(27), 1000).unwrap(), vec![]);
    assert_eq!(opened.reader.read(Index::ZERO, 1000).unwrap(), vec![]);

    let (opened, _) = open(&disk, 4096).unwrap();
    assert_eq!(read_from(&opened, 1, 700), expected, "also after recovery");
}

pub(crate) type Action = Box<dyn FnOnce() + Send>;

/// A disk that does something else once when a file is opened.
pub(crate) struct Interrupted {
    pub(crate) disk: MemoryDisk,
    pub(crate) interruption: Arc<Mutex<Option<Action>>>,
    /// Whether it comes when the file is open already.
    pub(crate) is_late: bool,
}

impl Disk for Interrupted {
    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let early = if self.is_late { Some(self.disk.open(name)?) } else { None };
        let interruption = self.interruption.lock().unwrap().take();
        interruption.into_iter().for_each(|action| action());
        early.map_or_else(|| self.disk.open(name), Ok)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        self.disk.create(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }
}

#[test]
fn entries_of_two_histories_are_never_mixed_in_one_answer() {
    let interruption: Arc<Mutex<Option<Action>>> = Arc::default();
    let interrupted = Interrupted { disk: MemoryDisk::new(), interruption: Arc::clone(&interruption), is_late: false };
    let disk: Arc<dyn Disk> = Arc::new(interrupted);
    let mut opened = wal::open(&disk, options(4096), &mut |_| ()).unwrap();
    let first = (1..=60).map(|index| entry(1, index, &[1; 200])).collect();
    opened.wal.append(&batch(1, None, first, Some(hard_state(1, 0, 0)))).unwrap();
    run_all(&mut opened).unwrap();
    let reader = opened.reader.clone();
    *interruption.lock().unwrap() = Some(Box::new(move || {
        let second = (2..=90).map(|index| entry(2, index, &[2; 200])).collect();
        opened.wal.append(&batch(2, Some(1), second, Some(hard_state(2, 0, 0)))).unwrap();
        run_all(&mut opened).unwrap();
    }));
    let old = reader.read(Index::new(1), 1 << 20).unwrap();
    assert!(old.len() > 1 && old.iter().all(|entry| entry.term.get() == 1), "{} entries", old.len());
    let new = reader.read(Index::new(1), 1 << 20).unwrap();
    assert_eq!(new.iter().map(|entry| entry.term.get()).collect::<Vec<_>>(), [[1].as_slice(), &[2; 89]].concat());
}

#[test]
fn a_reader_gives_only_what_is_durable() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    opened.wal.append(&batch(1, None, vec![entry(1, 1, b"one")], None)).unwrap();
    let work = opened.wal.next_work().unwrap();
    let completion = opened.executor.run(work);
    assert_eq!(opened.reader.read(Index::new(1), 100).unwrap(), vec![]);
    opened.wal.completed(completion).unwrap();
    assert_eq!(opened.reader.read(Index::new(1), 100).unwrap(), vec![entry(1, 1, b"one")]);
}

#[test]
fn a_command_may_be_empty_and_may_be_larger_than_a_segment() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    let large = vec![0xab; (1 << 20) + (64 << 10)];
    let entries = vec![entry(1, 1, b""), entry(1, 2, &large), entry(1, 3, b""), entry(1, 4, &large)];
    opened.wal.append(&batch(1, None, entries.clone(), None)).unwrap();
    run_all(&mut opened).unwrap();
    disk.crash(&mut |_| false);
    let (opened, replayed) = open(&disk, 4096).unwrap();
    assert_eq!(Model::of(&replayed).entries, entries);
    assert_eq!(read_from(&opened, 1, 10), entries);
}
