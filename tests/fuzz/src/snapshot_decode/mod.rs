//! Arbitrary files, forged snapshots, and damaged real ones, read and loaded as a node does at its start and with what
//! a peer sent.
//!
//! The first byte chooses: bytes as they stand; a file made up with right checksums ([`forge`]); or a file that the
//! engine wrote, with a list of damages, after which its checksums may be made right again.

pub mod forge;

use engine::disk::{Disk, MemoryDisk};
use engine::kv::{Command, ImageError, ImageLoader, PutMode, Settings, Store, command};
use engine::snapshot::{self, Meta, Reader, SnapshotError, Verification, Writer};
use raft::{Index, Term};

use crate::hunting::Outcome;
use crate::input::Input;
use crate::wal_decode::disk::WatchedDisk;

/// What the first byte chooses, modulo 4.
pub const RAW: u8 = 0;
/// A file made up.
pub const FORGED: u8 = 1;
/// A real file, damaged.
pub const DAMAGED: u8 = 2;

/// What a damage is, modulo 8. All take a place, two bytes, first.
pub const FLIP: u8 = 0;
/// A byte becomes the next of the input.
pub const SET: u8 = 1;
/// The file ends here.
pub const CUT: u8 = 2;
/// What is left of the input follows the end.
pub const APPEND: u8 = 3;
/// A sector of 64 bytes becomes zeros.
pub const ZERO: u8 = 4;
/// A sector of 64 bytes becomes that of another place.
pub const COPY: u8 = 5;
/// A sector of 64 bytes is gone.
pub const DROP: u8 = 6;
/// All checksums are made right again.
pub const RESEAL: u8 = 7;

/// The largest chunk in bytes: nothing more is ever read at once.
const CHUNK_BYTES_MAX: u64 = (8 << 20) + 32 + 8;

const NAME: &str = "snapshot-00000000000000000100.snap";

/// Damages tear out and copy so many bytes.
const SECTOR_BYTES: usize = 64;

/// Runs one input: a file that is read and loaded.
///
/// # Panics
/// On a finding.
pub fn run(input: &[u8]) -> Outcome {
    let mut input = Input::new(input);
    let mut outcome = Outcome::default();
    match input.u8() % 4 {
        RAW => {
            judge(input.rest(), &mut outcome);
        }
        FORGED => {
            let forged = forge::forge(&mut input);
            let loaded = judge(&forged.bytes, &mut outcome);
            if forged.is_sound {
                let (_, store) = loaded.expect("a file as the document has it is accepted");
                let found: Vec<_> = store.iter().map(|found| (found.key.to_vec(), found.value.to_vec())).collect();
                assert_eq!(found, forged.records, "the records of a sound file are not what was loaded");
                outcome.mark("sound");
            }
        }
        _ => damaged(&mut input, &mut outcome),
    }
    outcome
}

/// Why a file is refused.
enum Refusal {
    Snapshot(SnapshotError),
    Image(ImageError),
}

impl Refusal {
    fn text(&self) -> String {
        match self {
            Refusal::Snapshot(error) => error.to_string(),
            Refusal::Image(error) => error.to_string(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Refusal::Snapshot(SnapshotError::Damaged { .. }) => "damaged",
            Refusal::Snapshot(SnapshotError::Version { .. }) => "version",
            Refusal::Snapshot(SnapshotError::UnknownSection { .. }) => "reserved tag",
            Refusal::Snapshot(error) => panic!("a disk in memory does not fail: {error}"),
            Refusal::Image(ImageError::UnknownSection(_)) => "unknown section",
            Refusal::Image(ImageError::HeaderPlace | ImageError::HeaderLength(_) | ImageError::HeaderRevision(_)) => {
                "header"
            }
            Refusal::Image(ImageError::KeyOrder(_)) => "order",
            Refusal::Image(ImageError::KeyCount { .. }) => "count",
            Refusal::Image(ImageError::Revisions(_)) => "revisions",
            Refusal::Image(ImageError::Hash { .. }) => "hash",
            Refusal::Image(ImageError::SectionPlace(_)) => "place",
            Refusal::Image(ImageError::Settings) => "settings",
            Refusal::Image(ImageError::Session(_)) => "session",
            Refusal::Image(ImageError::SessionResult(_)) => "session result",
            Refusal::Image(ImageError::SessionCounts) => "session counts",
            Refusal::Image(ImageError::Truncated | ImageError::KeyLength(_) | ImageError::ValueLength(_)) => "record",
        }
    }
}

/// Reads a file to its end and makes a store of it. The file's own errors come first: what sections say counts only if
/// the whole file is right.
fn load(disk: &dyn Disk) -> Result<(Meta, Store), Refusal> {
    let mut reader = Reader::open(disk, NAME).map_err(Refusal::Snapshot)?;
    let (mut loader, mut image_error) = (ImageLoader::new(), None);
    while let Some(chunk) = reader.next_chunk().map_err(Refusal::Snapshot)? {
        if let Err(error) = loader.section(chunk.tag, chunk.bytes) {
            image_error.get_or_insert(error);
        }
    }
    assert_eq!(reader.read_bytes(), reader.file_bytes(), "the end of the file was reached");
    let store = loader.finish();
    if let Some(error) = image_error {
        assert_eq!(store.map(|store| store.state_hash()), Err(error), "an error of the loader stays");
        return Err(Refusal::Image(error));
    }
    Ok((reader.meta().clone(), store.map_err(Refusal::Image)?))
}

/// Loads a file twice, and judges what comes out: a refusal is the same again and changes nothing, and a store is one
/// that commands could have made, which goes on and can be written out again.
fn judge(bytes: &[u8], outcome: &mut Outcome) -> Option<(Meta, Store)> {
    let disk = MemoryDisk::new();
    disk.plant(NAME, bytes.to_vec());
    let watched = WatchedDisk::new(disk.clone());
    let first = load(&watched);
    let largest = watched.largest_read();
    let largest_allowed = (bytes.len() as u64).clamp(32, CHUNK_BYTES_MAX);
    assert!(largest <= largest_allowed, "{largest} bytes were allocated to read {}", bytes.len());
    assert_eq!(disk.changes(), 0, "reading changes something");
    match (first, load(&disk)) {
        (Ok((meta, store)), Ok((meta_again, store_again))) => {
            assert_eq!(meta, meta_again);
            assert_eq!(store.state_hash(), store_again.state_hash());
            outcome.accept("loaded");
            if store.settings() != Settings::default() {
                outcome.mark("with settings");
            }
            check(&meta, &store);
            go_on(&meta, store_again);
            Some((meta, store))
        }
        (Err(refusal), Err(again)) => {
            assert_eq!(refusal.text(), again.text(), "a file is refused in another way the second time");
            outcome.refuse(refusal.kind());
            None
        }
        _ => panic!("a file is refused once, and accepted once"),
    }
}

/// Whether a log and commands could have made this.
fn check(meta: &Meta, store: &Store) {
    assert_eq!(meta.index, Index::new(100), "the index is that of the name");
    let starts = &meta.term_starts;
    assert!(starts.first().is_some_and(|&(index, term)| index == Index::new(1) && term > Term::ZERO));
    assert!(starts.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
    assert!(starts.last().is_some_and(|&(index, term)| index <= meta.index && term == meta.last_term()));
    assert_eq!(store.recompute_hash(), store.state_hash());
    let records: Vec<_> = store.iter().collect();
    assert_eq!(records.len(), store.len());
    assert!(records.windows(2).all(|pair| pair[0].key < pair[1].key));
    // A command makes a revision or changes a setting, and does not do both.
    let configured = u64::from(store.settings() != Settings::default());
    assert!(store.revision().get() >= 1 && store.revision().get() - 1 + configured <= store.last_index().get());
    for record in &records {
        let (created, modified) = (record.create_revision.get(), record.mod_revision.get());
        assert!((1..=1024).contains(&record.key.len()) && record.value.len() <= 1 << 20);
        assert!(2 <= created && created <= modified && modified <= store.revision().get());
        assert!((1..=1 + modified - created).contains(&record.version));
    }
}

/// A store that was loaded is written out and loaded again, and takes commands.
fn go_on(meta: &Meta, mut store: Store) {
    let disk = MemoryDisk::new();
    write(&disk, meta, &store);
    let (meta_again, store_again) = load(&disk).map_err(|refusal| refusal.text()).expect("what is written is read");
    assert_eq!((&meta_again, store_again.state_hash()), (meta, store.state_hash()));
    if store.last_index().get() < u64::MAX - 1 {
        let (before, key) = (store.revision().get(), b"and on".as_slice().into());
        let put = Command::Put { key, value: b"more".as_slice().into(), mode: PutMode::Upsert };
        let encoded = command::encode(&put.into(), 0).expect("it is within the limits");
        store.apply(store.last_index().next(), &encoded).expect("it is of this version");
        assert_eq!(store.revision().get(), before + 1);
        assert_eq!(store.recompute_hash(), store.state_hash());
    }
}

/// Takes a snapshot, in all steps.
fn write(disk: &MemoryDisk, meta: &Meta, store: &Store) {
    let mut writer = Writer::begin(disk, meta).expect("the table was checked");
    let mut image = store.image();
    while let Some(section) = image.next_section().expect("nothing damaged the memory") {
        writer.section(section.tag, section.bytes).expect("a disk in memory does not fail");
    }
    let written = writer.finish().expect("a disk in memory does not fail");
    let mut verification = Verification::begin(disk, written).expect("it was written");
    while !verification.step(1 << 16).expect("it is what was written") {}
    let verified = verification.finish().expect("it is what was written").expect("the end was reached");
    snapshot::publish(disk, &verified).expect("a disk in memory does not fail");
}

/// A file that the engine wrote.
fn specimen() -> Vec<u8> {
    let mut store = Store::new();
    for number in 1..=20_u64 {
        let key = format!("key {}", number % 13).into_bytes().into();
        let value = vec![b'v'; usize::try_from(number * 7 % 40).expect("it is small")].into();
        let encoded = command::encode(&Command::Put { key, value, mode: PutMode::Upsert }.into(), number * 100);
        store.apply(Index::new(number), &encoded.expect("it is within the limits")).expect("it is of this version");
    }
    let term_starts = [(1, 1), (2, 3), (50, 4)].map(|(index, term)| (Index::new(index), Term::new(term))).to_vec();
    let disk = MemoryDisk::new();
    write(&disk, &Meta { index: Index::new(100), term_starts }, &store);
    disk.contents(NAME).expect("it was published")
}

/// Damages the specimen: it is refused, unless it is what it was, or was made right again.
fn damaged(input: &mut Input<'_>, outcome: &mut Outcome) {
    let whole = specimen();
    let (mut bytes, mut is_resealed) = (whole.clone(), false);
    while !input.is_empty() && bytes.len() < 1 << 16 {
        let kind = input.u8() % 8;
        let at = usize::from(input.u16()) % bytes.len().max(1);
        let sector = at..(at + SECTOR_BYTES).min(bytes.len());
        match kind {
            FLIP => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (input.u8() % 8)),
            SET => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = input.u8()),
            CUT => bytes.truncate(at),
            APPEND => bytes.extend_from_slice(input.rest()),
            ZERO => bytes[sector].fill(0),
            COPY => {
                let from = usize::from(input.u16()) % bytes.len().max(1);
                let source = bytes[from..(from + SECTOR_BYTES).min(bytes.len())].to_vec();
                bytes.iter_mut().skip(at).zip(source).for_each(|(byte, copied)| *byte = copied);
            }
            DROP => drop(bytes.drain(sector)),
            _ => {
                forge::reseal(&mut bytes);
                is_resealed = true;
            }
        }
    }
    let loaded = judge(&bytes, outcome).is_some();
    if bytes == whole {
        assert!(loaded, "a whole file is refused");
        outcome.mark("whole");
    } else if !is_resealed {
        assert!(!loaded, "a damaged file is believed");
    } else if loaded {
        outcome.mark("resealed");
    }
}
