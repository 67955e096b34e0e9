//! Tests of what cannot be reached from outside: the bytes of a record, the table of entries, and which work comes
//! next.

use std::sync::Arc;

use bytes::Bytes;
use raft::{Batch, BatchNumber, Entry, HardState, Index, NodeId, Payload, Term};

use super::format::*;
use super::index::{Anchor, EntryIndex, Placed, Placer};
use super::{Opened, SEGMENT_BYTES_MIN, WalOptions};
use crate::disk::{Disk, MemoryDisk};

fn samples() -> Vec<Record<'static>> {
    let hard_state =
        HardState { current_term: Term::new(7), voted_for: NodeId::new(9), commit_index: Index::new(u64::MAX) };
    let no_vote = HardState { voted_for: None, ..hard_state };
    let (term, index) = (Term::new(3), Index::new(u64::MAX));
    let start = Start { version: FORMAT_VERSION, segment_bytes: 4096, next_index: Index::new(4), hard_state };
    vec![
        Record::Start(start),
        Record::HardState(hard_state),
        Record::HardState(no_vote),
        Record::Truncate { after: Index::ZERO },
        Record::Mark,
        Record::Reset { last: index, repair: false },
        Record::Reset { last: index, repair: true },
        Record::Entry { term, index, command: None },
        Record::Entry { term, index, command: Some(b"") },
        Record::Entry { term, index, command: Some(b"seven..") },
        Record::Entry { term, index, command: Some(&[0xff; 4000]) },
    ]
}

#[test]
fn a_record_comes_back_as_it_was() {
    for record in samples() {
        let mut bytes = vec![0xee; 8];
        record.encode(&mut bytes);
        let mut bytes = bytes.split_off(8);
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        assert_eq!(head_bytes(&bytes), bytes.len());
        let (position, durable) = (Position::new(3, 4096), Position::new(3, 8));
        let checksum = seal(&mut bytes, position, durable, 77, 88);
        assert_eq!(stored_checksum(&bytes), checksum);
        assert!(checksum_holds(&bytes));
        let header = Header::plausible(&bytes, position).expect("it lies where it says");
        assert_eq!((header.position, header.durable, header.previous, header.salt), (position, durable, 77, 88));
        assert_eq!(header.record_bytes(), bytes.len());
        assert_eq!(Header::plausible(&bytes, Position::new(2, 4096)), None);
        assert_eq!(Record::decode(&bytes), Ok(record));
    }
}

#[test]
fn an_entry_comes_back_as_it_was_and_keeps_no_buffer() {
    let noop = Entry { term: Term::new(1), index: Index::new(2), payload: Payload::Noop };
    let command = Entry { payload: Payload::Command(Bytes::from_static(b"put")), ..noop.clone() };
    for entry in [noop, command] {
        let mut bytes = Vec::new();
        Record::of_entry(&entry).encode(&mut bytes);
        assert_eq!(Record::decode(&bytes).map(|record| record.to_entry()), Ok(Some(entry)));
    }
}

#[test]
fn a_record_whose_length_does_not_fit_its_kind_is_refused() {
    for record in samples() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        for kind in 0..=255 {
            let mut bytes = bytes.clone();
            bytes[7] = kind;
            // Whatever the kind, decoding stays within the payload.
            let decoded = Record::decode(&bytes);
            assert!(decoded.is_ok() || decoded.is_err());
            assert!((1..=7).contains(&kind) || decoded.is_err());
        }
    }
}

#[test]
fn an_implausible_header_is_refused_before_its_payload_is_looked_at() {
    let position = Position::new(1, 64);
    let mut bytes = Vec::new();
    Record::Mark.encode(&mut bytes);
    seal(&mut bytes, position, position, 0, 0);
    assert!(Header::plausible(&bytes, position).is_some());
    let mut long = bytes.clone();
    long[4..7].copy_from_slice(&[0xff; 3]);
    assert_eq!(Header::plausible(&long, position), None, "16 MiB is more than any payload has");
    let mut knows_the_future = bytes.clone();
    knows_the_future[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(Header::plausible(&knows_the_future, position), None);
    assert_eq!(Header::plausible(&[0; HEADER_BYTES], position), None, "zeros are no record");
}

#[test]
fn positions_are_ordered_as_the_log_is_written() {
    let positions = [Position::ZERO, Position::new(1, 0), Position::new(1, u32::MAX), Position::new(2, 0)];
    assert!(positions.is_sorted());
    let position = Position::new(7, 8).plus(16);
    assert_eq!((position.segment(), position.offset()), (7, 24));
}

#[test]
fn a_segment_is_known_by_its_name() {
    for segment in [1, 42, u32::MAX] {
        assert_eq!(parse_segment_name(&segment_name(segment)), Some(segment));
        assert_eq!(parse_segment_name(&preparation_name(segment)), None);
    }
    for name in
        ["wal-0000000000.log", "wal-1.log", "wal-00000000001.log", "wal-4294967296.log", "wal-+000000001.log", "x"]
    {
        assert_eq!(parse_segment_name(name), None, "{name}");
    }
}

#[test]
fn an_entry_is_found_where_it_was_written_last() {
    let entry = |index| Record::Entry { term: Term::new(1), index: Index::new(index), command: None };
    let mut placer = Placer::new(100);
    let mut table = EntryIndex::new(Index::new(1));
    let mut add = |table: &mut EntryIndex, index: u64, segment, offset| {
        let placed = placer.place(&entry(index), Position::new(segment, offset));
        table.apply(placed.as_slice(), Index::new(index));
        placed.is_some()
    };
    assert!(add(&mut table, 1, 1, 96));
    assert!(!add(&mut table, 2, 1, 150));
    assert!(add(&mut table, 3, 1, 200), "a hundred bytes further on");
    assert!(add(&mut table, 4, 2, 96), "the first of a segment");
    let anchor = |index, segment, offset| Anchor { index: Index::new(index), position: Position::new(segment, offset) };
    let find = |table: &EntryIndex, index| {
        table.find(Index::new(index)).map(|run| (run.anchor, run.last.get(), run.truncations))
    };
    assert_eq!(find(&table, 0), None);
    assert_eq!(find(&table, 2), Some((anchor(1, 1, 96), 2, 0)));
    assert_eq!(find(&table, 3), Some((anchor(3, 1, 200), 3, 0)));
    assert_eq!(find(&table, 4), Some((anchor(4, 2, 96), 4, 0)));
    assert_eq!(find(&table, 5), None);

    let truncated = placer.place(&Record::Truncate { after: Index::new(1) }, Position::new(2, 120));
    table.apply(truncated.as_slice(), Index::new(1));
    assert_eq!(find(&table, 2), None);
    let placed = placer.place(&entry(2), Position::new(2, 150));
    assert!(matches!(placed, Some(Placed::Anchor(_))), "the first after a truncation");
    table.apply(placed.as_slice(), Index::new(2));
    assert_eq!(find(&table, 1), Some((anchor(1, 1, 96), 1, 1)));
    assert_eq!(find(&table, 2), Some((anchor(2, 2, 150), 2, 1)));
}

#[test]
fn what_is_not_needed_goes_although_there_is_always_a_segment_to_prepare() {
    const ENTRIES: u64 = 100;
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let options = WalOptions { segment_bytes: SEGMENT_BYTES_MIN, ..WalOptions::default() };
    let Opened { mut wal, mut executor, .. } = super::open(&disk, options, &mut |_| {}).expect("an empty disk");
    // Each fills a segment of its own, and they all wait: as soon as one segment is ready, the next is wanted.
    let command = Bytes::from(vec![7; usize::try_from(SEGMENT_BYTES_MIN).expect("small") / 2]);
    for index in (1..=ENTRIES).map(Index::new) {
        let entry = Entry { index, term: Term::new(1), payload: Payload::Command(command.clone()) };
        let number = BatchNumber::new(index.get());
        let batch = Batch { number, reset_to: None, truncate_after: None, entries: vec![entry], hard_state: None };
        wal.append(&batch).expect("it fits");
    }
    let (mut durable, mut files_max) = (0, 0);
    while durable < ENTRIES {
        // A disk on which all that is handed out together takes equally long.
        let work: Vec<_> = std::iter::from_fn(|| wal.next_work()).collect();
        assert!(!work.is_empty(), "it waits for nothing");
        for work in work {
            let done = wal.completed(executor.run(work)).expect("the disk works");
            durable = done.map_or(durable, BatchNumber::get);
        }
        wal.cut(Index::new(durable));
        files_max = files_max.max(disk.list().expect("the disk works").len());
    }
    assert!(files_max < 10, "{files_max} segments, of which two are needed");
}
