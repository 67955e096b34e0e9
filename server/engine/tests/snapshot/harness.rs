//! What the tests share: stores to keep, and the whole way of one into a file and out of it.

use bytes::Bytes;
use engine::disk::{Disk, MemoryDisk};
use engine::kv::command::{self, Command};
use engine::kv::image::RECORDS_TAG;
use engine::kv::{ImageError, ImageLoader, PutMode, Request, RequestId, Revision, SessionId, Store};
use engine::snapshot::{self, Meta, Reader, SnapshotError, Stored, Verification, Verified, Writer, Written};
use raft::{Index, Term};

/// Why a file is no snapshot of a store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Image(#[from] ImageError),
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

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

pub(crate) fn put(store: &mut Store, key: &[u8], value: &[u8]) {
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    let command = Command::Put { key, value, mode: PutMode::Upsert };
    apply(store, &command);
}

pub(crate) fn delete(store: &mut Store, key: &[u8]) {
    let key = Bytes::copy_from_slice(key);
    apply(store, &Command::Delete { key, expected_revision: None, return_previous: false });
}

pub(crate) fn configure(store: &mut Store, lease_reads: bool) {
    apply(store, &Command::Configure { lease_reads });
}

fn apply(store: &mut Store, command: &Command) {
    let time_ms = store.last_index().next().get() * 10;
    apply_at(store, &command.clone().into(), time_ms);
}

fn apply_at(store: &mut Store, request: &Request, time_ms: u64) {
    let encoded = command::encode(request, time_ms).unwrap();
    store.apply(store.last_index().next(), &encoded).unwrap();
}

/// A store with every kind of result in its sessions, one of which was dropped.
pub(crate) fn store_with_sessions() -> Store {
    let mut store = Store::new();
    let mut time_ms = 1_500;
    let mut pause_ms = 3_600_000;
    let mut ask = |session: u128, opened_at_ms, sequence, acknowledged_below, command| {
        let session = SessionId::new(session);
        let id = Some(RequestId { session, opened_at_ms, sequence, acknowledged_below });
        apply_at(&mut store, &Request { id, command }, time_ms);
        time_ms += std::mem::replace(&mut pause_ms, 1_000);
    };
    let put = |key: &str, mode| Command::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::from_static(b"value"),
        mode,
    };
    let delete = |key: &str, expected_revision, return_previous| Command::Delete {
        key: Bytes::copy_from_slice(key.as_bytes()),
        expected_revision,
        return_previous,
    };
    ask(7, 1_000, 1, 0, put("gone", PutMode::Create));
    let session = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
    ask(session, 3_601_000, 3, 2, put("alpha", PutMode::Create));
    ask(session, 3_601_000, 4, 3, put("alpha", PutMode::Create));
    ask(session, 3_601_000, 5, 3, delete("missing", None, false));
    ask(9, 3_602_000, 1, 0, delete("alpha", Some(Revision::new(77)), false));
    ask(9, 3_602_000, 2, 0, delete("alpha", None, true));
    ask(9, 3_602_000, 3, 0, delete("gone", None, false));
    ask(9, 3_602_000, u64::MAX, 0, Command::Settle);
    apply_at(&mut store, &put("beta", PutMode::Upsert).into(), 0);
    assert_eq!((store.session_count(), store.len()), (2, 1), "the first was idle for too long");
    store
}

/// A store with a setting that was changed, and the results of changes in its sessions.
pub(crate) fn store_with_settings() -> Store {
    let mut store = Store::new();
    put(&mut store, b"alpha", b"1");
    for (sequence, lease_reads) in [(1, true), (2, false), (3, true)] {
        let id = RequestId { session: SessionId::new(9), opened_at_ms: 10, sequence, acknowledged_below: sequence / 2 };
        let request = Request { id: Some(id), command: Command::Configure { lease_reads } };
        apply_at(&mut store, &request, sequence * 1_000);
    }
    store
}

/// A store that was written to at random: overwritten, deleted and created again.
pub(crate) fn random_store(seed: u64, writes: u64, keys: u64, value_bytes_max: u64) -> Store {
    let (mut store, mut numbers) = (Store::new(), Numbers(seed));
    for _ in 0..writes {
        let key = format!("key-{:06}", numbers.below(keys));
        if numbers.below(8) == 0 {
            delete(&mut store, key.as_bytes());
        } else {
            let length = numbers.below(value_bytes_max + 1) as usize;
            put(&mut store, key.as_bytes(), &numbers.bytes(length));
        }
    }
    store
}

/// A log of that many entries, of three terms if there are enough.
pub(crate) fn meta(index: u64) -> Meta {
    let starts = [(1, 1), (2, 3), (5, 4)].into_iter().filter(|&(start, _)| start <= index);
    Meta {
        index: Index::new(index),
        term_starts: starts.map(|(start, term)| (Index::new(start), Term::new(term))).collect(),
    }
}

/// Writes the store out under the temporary name.
pub(crate) fn write(disk: &dyn Disk, meta: &Meta, store: &Store) -> Result<Written, SnapshotError> {
    let mut writer = Writer::begin(disk, meta)?;
    let mut image = store.image();
    while let Some(section) = image.next_section().expect("nothing damaged the memory") {
        writer.section(section.tag, section.bytes)?;
    }
    writer.finish()
}

pub(crate) fn verify(disk: &dyn Disk, written: Written) -> Result<Verified, SnapshotError> {
    let mut verification = Verification::begin(disk, written)?;
    while !verification.step(1 << 20)? {}
    Ok(verification.finish()?.expect("the end was reached"))
}

/// All steps of taking a snapshot.
pub(crate) fn take(disk: &dyn Disk, meta: &Meta, store: &Store) -> Result<Stored, SnapshotError> {
    let written = write(disk, meta, store)?;
    let verified = verify(disk, written)?;
    snapshot::publish(disk, &verified)
}

/// Reads a file to its end and makes a store of it.
pub(crate) fn load(disk: &dyn Disk, name: &str) -> Result<(Meta, Store), LoadError> {
    let mut reader = Reader::open(disk, name)?;
    let mut loader = ImageLoader::new();
    while let Some(chunk) = reader.next_chunk()? {
        loader.section(chunk.tag, chunk.bytes)?;
    }
    Ok((reader.meta().clone(), loader.finish()?))
}

/// Whether two stores hold the same and would go on in the same way.
pub(crate) fn assert_same(found: &Store, expected: &Store) {
    assert_eq!(found.state_hash(), expected.state_hash());
    assert_eq!(found.recompute_hash(), expected.state_hash());
    assert_eq!(found.revision(), expected.revision());
    assert_eq!(found.time_ms(), expected.time_ms());
    assert_eq!(found.last_index(), expected.last_index());
    assert_eq!(found.settings(), expected.settings());
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().eq(expected.iter()));
}

/// The bytes of the file of a snapshot.
pub(crate) fn file_of(meta: &Meta, store: &Store) -> (String, Vec<u8>) {
    let disk = MemoryDisk::new();
    let stored = take(&disk, meta, store).unwrap();
    let bytes = disk.contents(&stored.name).unwrap();
    assert_eq!(bytes.len() as u64, stored.bytes);
    (stored.name, bytes)
}

/// The chunks of an undamaged file, by the document alone.
pub(crate) fn chunks(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut chunks = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let end = at + (32 + length).next_multiple_of(8);
        chunks.push(at..end);
        at = end;
    }
    chunks
}

/// The sections of a store, with so many records in each as a real one never has so few.
pub(crate) fn small_sections(store: &Store, records: usize) -> Vec<(u32, Vec<u8>)> {
    let (mut sections, mut image) = (Vec::new(), store.image());
    while let Some(section) = image.next_section().unwrap() {
        if section.tag != RECORDS_TAG {
            sections.push((section.tag, section.bytes.to_vec()));
            continue;
        }
        for group in records_in(section.bytes).chunks(records) {
            sections.push((RECORDS_TAG, group.concat()));
        }
    }
    sections
}

/// The bytes of each record of a section, by the document alone.
pub(crate) fn records_in(section: &[u8]) -> Vec<Vec<u8>> {
    let (mut records, mut rest) = (Vec::new(), section);
    while !rest.is_empty() {
        let key_bytes = u16::from_le_bytes(rest[..2].try_into().unwrap()) as usize;
        let value_bytes = u32::from_le_bytes(rest[2..6].try_into().unwrap()) as usize;
        let (record, behind) = rest.split_at(30 + key_bytes + value_bytes);
        records.push(record.to_vec());
        rest = behind;
    }
    records
}

/// CRC32C by its definition, bit by bit: independent of the crate that the snapshots use.
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
