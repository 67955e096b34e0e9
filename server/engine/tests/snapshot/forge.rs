//! Files made by the document alone, with right checksums: what a bug or another program could have written. Each is
//! refused for what is wrong with it, and nothing panics.

use engine::disk::MemoryDisk;
use engine::kv::image::{HEADER_TAG, RECORDS_TAG, SETTINGS_TAG};
use engine::kv::{ImageError, ImageLoader, Store};
use engine::snapshot::{Meta, Reader, SnapshotError};
use proptest::prelude::*;
use raft::{Index, Term};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::harness::{
    LoadError, Numbers, assert_same, configure, crc32c, file_of, load, meta, random_store, records_in, small_sections,
    store_with_sessions, store_with_settings,
};

const NAME: &str = "snapshot-00000000000000000100.snap";

/// A file as it is put together, with everything that can be wrong in it.
struct Forged {
    index: u64,
    starts: Vec<(u64, u64)>,
    /// What the start says about their number.
    starts_named: u64,
    version: u32,
    reserved: u32,
    sections: Vec<(u32, Vec<u8>)>,
    /// What is added to each number of the end.
    end_off: (u64, u64, u128),
    file_id_off: u64,
    padding: u8,
}

impl Forged {
    /// A right file of a store.
    fn right(store: &Store) -> Forged {
        Forged {
            index: 100,
            starts: vec![(1, 1), (2, 3), (5, 4)],
            starts_named: 3,
            version: 1,
            reserved: 0,
            sections: small_sections(store, 7),
            end_off: (0, 0, 0),
            file_id_off: 0,
            padding: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let table: Vec<u8> =
            self.starts.iter().flat_map(|&(index, term)| [index, term]).flat_map(u64::to_le_bytes).collect();
        let file_id = xxh3_64(&[&self.index.to_le_bytes()[..], &table].concat()).wrapping_add(self.file_id_off);
        let start = [
            &b"QUORSNAP"[..],
            &self.version.to_le_bytes(),
            &self.reserved.to_le_bytes(),
            &self.index.to_le_bytes(),
            &self.starts_named.to_le_bytes(),
        ];
        let mut file = Chain { bytes: Vec::new(), number: 0, previous: 0, file_id, padding: self.padding };
        file.add(1, &start.concat());
        if !table.is_empty() {
            file.add(2, &table);
        }
        self.sections.iter().for_each(|(tag, section)| file.add(*tag, section));
        let (chunks, bytes, hash) = self.end_off;
        let end = [
            &file.number.wrapping_add(chunks).to_le_bytes()[..],
            &(file.bytes.len() as u64).wrapping_add(bytes).to_le_bytes(),
            &xxh3_128(&file.bytes).wrapping_add(hash).to_le_bytes(),
        ];
        file.add(3, &end.concat());
        file.bytes
    }

    fn load(&self) -> Result<(Meta, Store), LoadError> {
        load_bytes(self.bytes())
    }
}

struct Chain {
    bytes: Vec<u8>,
    number: u64,
    previous: u32,
    file_id: u64,
    padding: u8,
}

impl Chain {
    fn add(&mut self, tag: u32, payload: &[u8]) {
        let mut chunk = (payload.len() as u32).to_le_bytes().to_vec();
        chunk.extend(tag.to_le_bytes());
        chunk.extend(self.previous.to_le_bytes());
        chunk.extend(self.number.to_le_bytes());
        chunk.extend(self.file_id.to_le_bytes());
        chunk.extend(payload);
        chunk.resize((chunk.len() + 4).next_multiple_of(8) - 4, self.padding);
        self.previous = crc32c(&chunk);
        self.number += 1;
        self.bytes.extend(self.previous.to_le_bytes());
        self.bytes.extend(chunk);
    }
}

fn load_bytes(bytes: Vec<u8>) -> Result<(Meta, Store), LoadError> {
    let disk = MemoryDisk::new();
    disk.plant(NAME, bytes);
    load(&disk, NAME)
}

fn store() -> Store {
    random_store(41, 100, 30, 40)
}

#[test]
fn the_document_says_how_a_file_is_made() {
    let store = store();
    let (found_meta, found) = Forged::right(&store).load().unwrap();
    assert_eq!(found_meta, meta(100));
    assert_same(&found, &store);
    let mut one_section = Forged::right(&store);
    let records = one_section.sections.split_off(1).into_iter().flat_map(|(_, records)| records).collect();
    one_section.sections.push((RECORDS_TAG, records));
    assert_eq!((NAME.to_owned(), one_section.bytes()), file_of(&meta(100), &store), "byte for byte");
}

#[test]
fn a_beginning_that_cannot_be() {
    type Change = fn(&mut Forged);
    let changes: [(&str, Change); 16] = [
        ("fewer term starts", |file| file.starts_named = 4),
        ("many fewer term starts", |file| file.starts_named = u64::MAX),
        ("more term starts", |file| file.starts_named = 2),
        ("a table where there is none", |file| file.starts_named = 0),
        ("no term starts", |file| (file.starts, file.starts_named) = (Vec::new(), 0)),
        ("the first is not at 1", |file| file.starts[0].0 = 2),
        ("the first is at 0", |file| file.starts[0].0 = 0),
        ("term 0", |file| file.starts[0].1 = 0),
        ("an index twice", |file| file.starts[2].0 = 2),
        ("a term twice", |file| file.starts[2].1 = 3),
        ("terms go back", |file| file.starts[2].1 = 2),
        ("a start behind the snapshot", |file| file.starts[2].0 = 101),
        ("a reserved field", |file| file.reserved = 1),
        ("another file id", |file| file.file_id_off = 1),
        ("another index than the name", |file| file.index = 99),
        ("no index", |file| file.index = 0),
    ];
    for (what, change) in changes {
        let mut file = Forged::right(&store());
        change(&mut file);
        let error = file.load().expect_err(what);
        assert!(matches!(error, LoadError::Snapshot(SnapshotError::Damaged { .. })), "{what}: {error:?}");
    }
    for version in [0, 2, u32::MAX] {
        let file = Forged { version, reserved: 5, starts_named: 77, ..Forged::right(&store()) };
        let error = file.load().expect_err("another version");
        let LoadError::Snapshot(SnapshotError::Version { found, known: 1, .. }) = error else { panic!("{error:?}") };
        assert_eq!(found, version);
    }
}

#[test]
fn an_end_that_cannot_be() {
    for end_off in [(1, 0, 0), (u64::MAX, 0, 0), (0, 1, 0), (0, u64::MAX, 0), (0, 0, 1), (0, 0, 1 << 127)] {
        let error = Forged { end_off, ..Forged::right(&store()) }.load().expect_err("the end is wrong");
        assert!(matches!(error, LoadError::Snapshot(SnapshotError::Damaged { .. })), "{error:?}");
    }
    for (tag, payload) in [(3, vec![0; 32]), (3, Vec::new()), (1, vec![0; 32]), (2, vec![0; 16])] {
        for at in 0..3 {
            let mut file = Forged::right(&store());
            file.sections.insert(at, (tag, payload.clone()));
            let error = file.load().expect_err("an end or a beginning among the sections");
            assert!(matches!(error, LoadError::Snapshot(SnapshotError::Damaged { .. })), "{error:?}");
        }
    }
}

#[test]
fn tags_that_are_not_known() {
    for (tag, by_reader) in [(0, true), (4, true), (15, true), (22, false), (u32::MAX, false)] {
        for at in 0..3 {
            let mut file = Forged::right(&store());
            file.sections.insert(at, (tag, vec![1, 2, 3]));
            match file.load().expect_err("the section may matter") {
                LoadError::Snapshot(SnapshotError::UnknownSection { tag: found, .. }) => {
                    assert_eq!((found, true), (tag, by_reader));
                }
                LoadError::Image(error) => assert_eq!((error, false), (ImageError::UnknownSection(tag), by_reader)),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn payloads_that_are_longer_or_shorter_than_what_they_are() {
    let right = Forged::right(&store()).bytes();
    let payload = |at: usize, length: usize| right[at + 32..at + 32 + length].to_vec();
    for (length, tag) in [(31, 1), (33, 1), (12, 1), (11, 1), (0, 1)] {
        let mut file = Chain { bytes: Vec::new(), number: 0, previous: 0, file_id: 9, padding: 0 };
        let mut start = payload(0, 32);
        start.resize(length, 0);
        file.add(tag, &start);
        assert!(load_bytes(file.bytes).is_err());
    }
    for length in [0, 8, 15, 17, 40, 16 * 16_385] {
        let mut file = Chain { bytes: Vec::new(), number: 0, previous: 0, file_id: 9, padding: 0 };
        file.add(1, &payload(0, 32));
        file.add(2, &vec![1; length]);
        assert!(load_bytes(file.bytes).is_err(), "a table of {length} bytes");
    }
    let padded = Forged { padding: 1, ..Forged::right(&store()) };
    let error = padded.load().expect_err("padding is zeros");
    assert!(matches!(&error, LoadError::Snapshot(SnapshotError::Damaged { reason, .. }) if reason.contains("padding")));
    // A length that the file does not have, and one that nothing has: neither is allocated.
    for length in [1 << 20, (8 << 20) + 1, u32::MAX] {
        let mut long = right.clone();
        long[4..8].copy_from_slice(&length.to_le_bytes());
        assert!(matches!(load_bytes(long), Err(LoadError::Snapshot(SnapshotError::Damaged { offset: 0, .. }))));
    }
}

/// Sections with one thing wrong in the state.
fn with_records(change: impl FnOnce(&mut Vec<u8>, &mut Vec<Vec<u8>>)) -> Result<Store, ImageError> {
    let mut sections = small_sections(&store(), usize::MAX);
    assert_eq!(sections.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [HEADER_TAG, RECORDS_TAG]);
    let mut records = records_in(&sections[1].1);
    assert!(records.len() > 10);
    change(&mut sections[0].1, &mut records);
    let mut loader = ImageLoader::new();
    loader.section(HEADER_TAG, &sections[0].1)?;
    for group in records.chunks(5) {
        loader.section(RECORDS_TAG, &group.concat())?;
    }
    loader.finish()
}

fn set_u64(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn records_that_no_writes_made() {
    assert_same(&with_records(|_, _| {}).unwrap(), &store());
    let found = |change: fn(&mut Vec<u8>, &mut Vec<Vec<u8>>)| with_records(change).map(|_| ()).unwrap_err();
    assert_eq!(found(|_, records| records.swap(3, 4)), ImageError::KeyOrder(5));
    assert_eq!(found(|_, records| records.insert(4, records[4].clone())), ImageError::KeyOrder(6));
    assert!(matches!(found(|_, records| drop(records.pop())), ImageError::KeyCount { .. }));
    assert!(matches!(found(|_, records| drop(records.remove(0))), ImageError::KeyCount { .. }));
    assert!(matches!(found(|_, records| records.clear()), ImageError::KeyCount { found: 0, .. }));
    assert!(matches!(found(|header, _| set_u64(header, 24, 5)), ImageError::KeyCount { found: 6, expected: 5 }));
    assert!(matches!(found(|header, _| set_u64(header, 24, u64::MAX)), ImageError::KeyCount { .. }));
    assert!(matches!(found(|header, _| header[32] ^= 1), ImageError::Hash { .. }));
    assert!(matches!(found(|header, _| set_u64(header, 8, 1)), ImageError::Hash { .. }));
    assert!(matches!(found(|header, _| set_u64(header, 0, 0)), ImageError::HeaderRevision(_)));
    assert!(matches!(found(|header, _| set_u64(header, 0, 102)), ImageError::HeaderRevision(_)));
    assert!(matches!(found(|header, _| set_u64(header, 0, u64::MAX)), ImageError::HeaderRevision(_)));
    assert!(matches!(found(|header, _| set_u64(header, 0, 5)), ImageError::Revisions(_)));
    assert_eq!(found(|header, _| header.push(0)), ImageError::HeaderLength(49));
    assert_eq!(found(|header, _| header.truncate(47)), ImageError::HeaderLength(47));
    // A value, a key, a revision or a version that is another, though possible.
    assert!(matches!(found(|_, records| *records[7].last_mut().unwrap() ^= 1), ImageError::Hash { .. }));
    assert!(matches!(found(|_, records| records[0][30] = b'a'), ImageError::Hash { .. }));
    for (field, number) in [(6, 1), (6, 0), (6, 102), (14, 1), (14, 102), (14, u64::MAX), (22, 0), (22, 200)] {
        let outcome = with_records(|_, records| set_u64(&mut records[2], field, number));
        assert_eq!(outcome.map(|_| ()).unwrap_err(), ImageError::Revisions(3), "{field} {number}");
    }
    let outcome = with_records(|_, records| {
        let once = records.iter_mut().find(|record| get_u64(record, 22) == 1).unwrap();
        set_u64(once, 22, 2);
    });
    assert!(matches!(outcome, Err(ImageError::Revisions(_))), "two writes at one revision");
    let outcome = with_records(|_, records| {
        let often = records.iter_mut().find(|record| get_u64(record, 22) > 1).unwrap();
        set_u64(often, 22, 1);
    });
    assert!(matches!(outcome, Err(ImageError::Revisions(_))), "one write at two revisions");
}

#[test]
fn lengths_out_of_bounds() {
    let with_lengths = |key: u16, value: u32| {
        with_records(|_, records| {
            records[2][..2].copy_from_slice(&key.to_le_bytes());
            records[2][2..6].copy_from_slice(&value.to_le_bytes());
        })
        .map(|_| ())
        .unwrap_err()
    };
    assert_eq!(with_lengths(0, 5), ImageError::KeyLength(0));
    assert_eq!(with_lengths(1_025, 5), ImageError::KeyLength(1_025));
    assert_eq!(with_lengths(u16::MAX, u32::MAX), ImageError::KeyLength(65_535));
    assert_eq!(with_lengths(5, (1 << 20) + 1), ImageError::ValueLength((1 << 20) + 1));
    assert_eq!(with_lengths(5, u32::MAX), ImageError::ValueLength(u32::MAX as usize));
    assert_eq!(with_lengths(1_024, 1 << 20), ImageError::Truncated);
    for length in [1, 5, 29, 30, 35] {
        let outcome = with_records(|_, records| records.last_mut().unwrap().truncate(length));
        assert!(matches!(outcome, Err(ImageError::Truncated)), "{length}");
    }
}

#[test]
fn sections_out_of_place() {
    let sections = small_sections(&store(), usize::MAX);
    let (header, records) = (&sections[0].1, &sections[1].1);
    assert_eq!(ImageLoader::new().finish().map(|_| ()).unwrap_err(), ImageError::HeaderPlace);
    let mut loader = ImageLoader::new();
    assert_eq!(loader.section(RECORDS_TAG, records), Err(ImageError::HeaderPlace));
    assert_eq!(loader.section(HEADER_TAG, header), Err(ImageError::HeaderPlace), "an error stays");
    assert_eq!(loader.finish().map(|_| ()).unwrap_err(), ImageError::HeaderPlace);
    let mut loader = ImageLoader::new();
    loader.section(HEADER_TAG, header).unwrap();
    loader.section(RECORDS_TAG, &[]).unwrap();
    assert_eq!(loader.section(HEADER_TAG, header), Err(ImageError::HeaderPlace), "twice");
}

proptest! {
    #[test]
    fn a_loader_takes_any_bytes(sections in prop::collection::vec(any::<(u8, Vec<u8>)>(), 0..6)) {
        let mut loader = ImageLoader::new();
        for (tag, bytes) in &sections {
            let _ = loader.section(15 + u32::from(tag % 4), bytes);
        }
        prop_assert!(loader.finish().is_err());
    }

    #[test]
    fn a_loader_takes_sections_with_damages(
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let store = store();
        let right = small_sections(&store, 9);
        let mut sections = right.clone();
        for (at, byte) in &damages {
            let section = at.index(sections.len());
            let at = at.index(sections[section].1.len());
            sections[section].1[at] = *byte;
        }
        for cut in &cuts {
            let section = cut.index(sections.len());
            let length = cut.index(sections[section].1.len() + 1);
            sections[section].1.truncate(length);
        }
        let mut loader = ImageLoader::new();
        for (tag, bytes) in &sections {
            let _ = loader.section(*tag, bytes);
        }
        match loader.finish() {
            // The index of the last command is not part of the hash; the file's checksums keep it.
            Ok(found) => prop_assert!(found.state_hash() == store.state_hash() && sections[1..] == right[1..]),
            Err(_) => prop_assert!(sections != right),
        }
    }

    #[test]
    fn a_reader_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let disk = MemoryDisk::new();
        disk.plant(NAME, bytes);
        prop_assert!(Reader::open(&disk, NAME).is_err());
    }
}

#[test]
fn forged_fields_at_random() {
    let mut numbers = Numbers(43);
    let right = Forged::right(&store());
    let interesting = [0, 1, 2, 3, 4, 15, 16, 31, 32, 99, 100, 101, 1 << 20, 1 << 23, u64::MAX - 1, u64::MAX];
    let any = |numbers: &mut Numbers| interesting[numbers.below(interesting.len() as u64) as usize];
    let mut accepted = 0;
    for _ in 0..3_000 {
        let mut file = Forged { sections: right.sections.clone(), starts: right.starts.clone(), ..right };
        for _ in 0..=numbers.below(2) {
            let value = any(&mut numbers);
            match numbers.below(8) {
                0 => file.index = value,
                1 => file.starts_named = value,
                2 => file.starts[numbers.below(3) as usize].0 = value,
                3 => file.starts[numbers.below(3) as usize].1 = value,
                4 => file.version = value as u32,
                5 => file.sections[numbers.below(3) as usize].0 = value as u32,
                _ => {
                    let section = numbers.below(right.sections.len() as u64) as usize;
                    let bytes = &mut file.sections[section].1;
                    let at = numbers.below(bytes.len() as u64 - 8) as usize;
                    set_u64(bytes, at, value);
                }
            }
        }
        if let Ok((found_meta, found)) = file.load() {
            accepted += 1;
            assert_eq!(found_meta.index, Index::new(100));
            assert!(found_meta.last_term() > Term::ZERO);
            assert_eq!(found.state_hash(), store().state_hash());
        }
    }
    assert!((1..1_000).contains(&accepted), "{accepted} files have nothing wrong with them");
}

/// The sections of a store's image.
fn sections(store: &Store) -> Vec<(u32, Vec<u8>)> {
    let mut image = store.image();
    let mut sections = Vec::new();
    while let Some(section) = image.next_section().expect("the state is sound") {
        sections.push((section.tag, section.bytes.to_vec()));
    }
    sections
}

fn load_sections(sections: &[(u32, Vec<u8>)]) -> Result<Store, ImageError> {
    let mut loader = ImageLoader::new();
    for (tag, bytes) in sections {
        loader.section(*tag, bytes)?;
    }
    loader.finish()
}

#[test]
fn a_change_of_any_byte_of_sessions_is_found_without_checksums() {
    let right = sections(&store_with_sessions());
    assert_eq!(right.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [16, 17, 18, 19, 20]);
    any_change_is_found(&right, 2);
}

#[test]
fn a_change_of_any_byte_of_settings_is_found_without_checksums() {
    let right = sections(&store_with_settings());
    assert_eq!(right.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [16, 21, 17, 18, 19, 20]);
    any_change_is_found(&right, 1);
}

/// Changes, takes away, and puts elsewhere or twice each section from number `first` on.
fn any_change_is_found(right: &[(u32, Vec<u8>)], first: usize) {
    load_sections(right).expect("it is what was written");
    for number in first..right.len() {
        let bytes = right[number].1.len();
        for at in 0..bytes {
            for bit in 0..8 {
                let mut forged = right.to_vec();
                forged[number].1[at] ^= 1 << bit;
                assert!(load_sections(&forged).is_err(), "bit {bit} of byte {at} of section {number}");
            }
            let mut forged = right.to_vec();
            forged[number].1.truncate(at);
            assert!(load_sections(&forged).is_err(), "section {number} of {at} bytes");
        }
        let mut forged = right.to_vec();
        forged.remove(number);
        assert!(load_sections(&forged).is_err(), "without section {number}");
        for other in 0..right.len() {
            let mut forged = right.to_vec();
            forged.swap(number, other);
            assert_eq!(load_sections(&forged).is_ok(), number == other, "sections {number} and {other} swapped");
            let mut forged = right.to_vec();
            forged.insert(other, right[number].clone());
            assert!(load_sections(&forged).is_err(), "section {number} once more in front of {other}");
        }
    }
}

#[test]
fn settings_that_no_commands_made() {
    let mut store = Store::new();
    configure(&mut store, true);
    let right = sections(&store);
    load_sections(&right).expect("it is what was written");
    let found = |change: fn(&mut Vec<(u32, Vec<u8>)>)| {
        let mut forged = right.clone();
        change(&mut forged);
        load_sections(&forged).map(|_| ()).unwrap_err()
    };
    for bytes in [&[][..], &[0], &[2], &[255], &[1, 0], &[1, 1]] {
        let mut forged = right.clone();
        forged[1].1 = bytes.to_vec();
        assert_eq!(load_sections(&forged).map(|_| ()).unwrap_err(), ImageError::Settings, "{bytes:?}");
    }
    assert_eq!(found(|sections| set_u64(&mut sections[0].1, 16, 0)), ImageError::Settings, "there was no command");
    assert_eq!(found(|sections| sections.swap(0, 1)), ImageError::HeaderPlace);
    assert_eq!(found(|sections| sections.push(sections[1].clone())), ImageError::SectionPlace(SETTINGS_TAG));
    assert!(matches!(found(|sections| drop(sections.remove(1))), ImageError::Hash { .. }));
}
