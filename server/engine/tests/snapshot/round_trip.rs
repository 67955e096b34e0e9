//! What goes in comes out: of small and large states, through the disk and over to a peer.

use engine::disk::{Disk, File, MemoryDisk, Operation, RealDisk};
use engine::kv::{COMMAND_BYTES_MAX, ImageLoader, KEY_BYTES_MAX, Store, VALUE_BYTES_MAX};
use engine::snapshot::{
    self, InvalidMeta, Meta, Piece, Reader, Receiver, Removal, SECTION_BYTES_MAX, SECTION_TAG_MIN, SnapshotError,
    Stored, Verification, Writer,
};
use raft::{Index, Term};

use super::harness::{
    Numbers, assert_same, configure, delete, file_of, load, meta, put, random_store, take, verify, write,
};

fn goes_round(meta: &Meta, store: &Store) -> u64 {
    let disk = MemoryDisk::new();
    let stored = take(&disk, meta, store).unwrap();
    assert_eq!(snapshot::list(&disk).unwrap(), vec![stored.clone()]);
    let (found_meta, found) = load(&disk, &stored.name).unwrap();
    assert_eq!(found_meta, *meta);
    assert_same(&found, store);
    stored.bytes
}

/// Each piece of work may be done on another thread than the one before.
#[test]
fn all_parts_can_be_sent() {
    let disk = MemoryDisk::new();
    let store = random_store(4, 1_000, 900, 600);
    let (mut writer, mut image) = (Writer::begin(&disk, &meta(1_000)).unwrap(), store.image());
    let elsewhere = std::thread::spawn(move || {
        while let Some(section) = image.next_section().unwrap() {
            writer.section(section.tag, section.bytes).unwrap();
        }
        writer.finish().unwrap()
    });
    let mut verification = Verification::begin(&disk, elsewhere.join().unwrap()).unwrap();
    let mut loader = ImageLoader::new();
    let elsewhere = std::thread::spawn(move || {
        while let Some(chunk) = verification.next_chunk().unwrap() {
            loader.section(chunk.tag, chunk.bytes).unwrap();
        }
        (verification.finish().unwrap().unwrap(), loader.finish().unwrap())
    });
    let (verified, loaded) = elsewhere.join().unwrap();
    snapshot::publish(&disk, &verified).unwrap();
    assert_same(&loaded, &store);
}

#[test]
fn an_empty_store_and_one_key() {
    let mut store = Store::new();
    goes_round(&meta(1), &store);
    put(&mut store, b"k", b"");
    goes_round(&meta(1), &store);
    put(&mut store, b"k", b"again");
    goes_round(&meta(7), &store);
    delete(&mut store, b"k");
    goes_round(&meta(7), &store);
}

#[test]
fn settings_with_and_without_keys() {
    let mut store = Store::new();
    configure(&mut store, true);
    goes_round(&meta(1), &store);
    put(&mut store, b"k", b"");
    goes_round(&meta(2), &store);
    let with_settings = goes_round(&meta(3), &store);
    configure(&mut store, false);
    let without = goes_round(&meta(3), &store);
    assert!(without < with_settings, "settings that are as in the beginning take no room");
}

#[test]
fn many_keys_with_their_histories() {
    let store = random_store(5, 14_000, 11_000, 300);
    assert!(store.len() > 6_000);
    let bytes = goes_round(&meta(14_000), &store);
    assert!(bytes > 4 * (256 << 10), "several sections: {bytes}");
}

#[test]
fn keys_that_are_prefixes_of_each_other_and_all_byte_values() {
    let mut store = Store::new();
    for length in 1..=40 {
        put(&mut store, &vec![0; length], b"zeros");
        put(&mut store, &vec![255; length], b"ones");
    }
    for byte in 0..=255 {
        put(&mut store, &[byte], &[byte]);
    }
    goes_round(&meta(400), &store);
}

#[test]
fn the_largest_key_and_value() {
    let mut store = Store::new();
    let key = |byte: u8| vec![byte; KEY_BYTES_MAX];
    for byte in 1..=5 {
        put(&mut store, &key(byte), &vec![byte; VALUE_BYTES_MAX]);
        put(&mut store, &[byte], b"between");
    }
    let bytes = goes_round(&meta(10), &store);
    assert!(bytes > 5 << 20);
    let mut image = store.image();
    while let Some(section) = image.next_section().unwrap() {
        assert!(section.bytes.len() < (256 << 10) + COMMAND_BYTES_MAX + 64, "{}", section.bytes.len());
    }
}

#[test]
fn a_store_goes_on_alike_after_it_was_loaded() {
    let mut store = random_store(6, 500, 60, 50);
    let disk = MemoryDisk::new();
    let stored = take(&disk, &meta(500), &store).unwrap();
    let (_, mut loaded) = load(&disk, &stored.name).unwrap();
    let mut numbers = Numbers(77);
    for _ in 0..500 {
        let key = format!("key-{:06}", numbers.below(60));
        for store in [&mut store, &mut loaded] {
            put(store, key.as_bytes(), b"later");
        }
    }
    assert_same(&loaded, &store);
}

#[test]
fn an_image_stays_as_it_was_while_the_store_goes_on() {
    let mut store = random_store(7, 3_000, 2_000, 600);
    let before = store.clone();
    let disk = MemoryDisk::new();
    let mut writer = Writer::begin(&disk, &meta(3_000)).unwrap();
    let mut image = store.image();
    let (mut numbers, mut sections) = (Numbers(3), 0);
    while let Some(section) = image.next_section().unwrap() {
        writer.section(section.tag, section.bytes).unwrap();
        for _ in 0..50 {
            put(&mut store, format!("key-{:06}", numbers.below(2_000)).as_bytes(), b"changed");
            delete(&mut store, format!("key-{:06}", numbers.below(2_000)).as_bytes());
        }
        sections += 1;
    }
    assert!(sections > 2);
    assert!(image.next_section().unwrap().is_none(), "the end stays the end");
    let verified = verify(&disk, writer.finish().unwrap()).unwrap();
    let stored = snapshot::publish(&disk, &verified).unwrap();
    assert_same(&load(&disk, &stored.name).unwrap().1, &before);
}

#[test]
fn long_tables_of_terms() {
    for count in [1, 16_383, 16_384, 16_385, 50_000] {
        let term_starts = (1..=count).map(|number| (Index::new(number * 2 - 1), Term::new(number * 3))).collect();
        let meta = Meta { index: Index::new(count * 2 - 1), term_starts };
        assert_eq!(meta.last_term(), Term::new(count * 3));
        goes_round(&meta, &Store::new());
    }
}

#[test]
fn a_table_that_no_log_has_is_not_written() {
    let starts = |starts: &[(u64, u64)]| -> Vec<(Index, Term)> {
        starts.iter().map(|&(index, term)| (Index::new(index), Term::new(term))).collect()
    };
    let order = |index, term| InvalidMeta::Order { index: Index::new(index), term: Term::new(term) };
    for (index, table, expected) in [
        (0, starts(&[]), InvalidMeta::Empty),
        (5, starts(&[]), InvalidMeta::Empty),
        (5, starts(&[(2, 1)]), InvalidMeta::First(Index::new(2))),
        (5, starts(&[(0, 1)]), InvalidMeta::First(Index::ZERO)),
        (5, starts(&[(1, 0)]), order(1, 0)),
        (5, starts(&[(1, 2), (1, 3)]), order(1, 3)),
        (5, starts(&[(1, 2), (3, 2)]), order(3, 2)),
        (5, starts(&[(1, 2), (3, 1)]), order(3, 1)),
        (5, starts(&[(1, 2), (6, 3)]), InvalidMeta::Beyond(Index::new(6))),
        (0, starts(&[(1, 1)]), InvalidMeta::Beyond(Index::new(1))),
        (u64::MAX, starts(&[(1, 1)]), InvalidMeta::TooFar(Index::new(u64::MAX))),
    ] {
        let meta = Meta { index: Index::new(index), term_starts: table };
        let disk = MemoryDisk::new();
        let error = Writer::begin(&disk, &meta).err().expect("it is refused");
        assert!(matches!(error, SnapshotError::Meta { reason, .. } if reason == expected), "{error}");
        assert_eq!(disk.changes(), 0);
    }
}

#[test]
fn a_section_that_is_too_large_ends_the_writing() {
    let disk = MemoryDisk::new();
    let mut writer = Writer::begin(&disk, &meta(1)).unwrap();
    writer.section(SECTION_TAG_MIN, &vec![7; SECTION_BYTES_MAX]).unwrap();
    let too_large = vec![7; SECTION_BYTES_MAX + 1];
    assert!(matches!(writer.section(SECTION_TAG_MIN, &too_large), Err(SnapshotError::TooLarge { .. })));
    assert!(writer.section(SECTION_TAG_MIN, b"small").is_err(), "what was left out cannot be made good");
    assert!(matches!(writer.finish(), Err(SnapshotError::TooLarge { .. })));
}

#[test]
fn the_file_is_synced_as_it_grows() {
    let disk = MemoryDisk::new();
    let mut writer = Writer::begin(&disk, &meta(1)).unwrap();
    for _ in 0..40 {
        writer.section(SECTION_TAG_MIN, &vec![7; 512 << 10]).unwrap();
        let unsynced = disk.unsynced().len() * 512;
        assert!(unsynced <= 5 << 20, "{unsynced} bytes wait for one sync");
    }
    assert!(writer.bytes() > 20 << 20);
    writer.finish().unwrap();
}

#[test]
fn a_piece_of_verification_is_bounded() {
    let disk = MemoryDisk::new();
    let written = write(&disk, &meta(14_000), &random_store(5, 14_000, 11_000, 300)).unwrap();
    let bytes = written.bytes;
    let mut verification = Verification::begin(&disk, written.clone()).unwrap();
    let mut steps = 0;
    while !verification.step(256 << 10).unwrap() {
        steps += 1;
    }
    assert!(steps >= bytes / (512 << 10), "{steps} steps for {bytes} bytes");
    assert!(verification.step(1).unwrap(), "the end stays the end");
    assert_eq!(verification.finish().unwrap().unwrap().bytes(), bytes);
    let halfway = Verification::begin(&disk, written).unwrap();
    assert!(halfway.finish().unwrap().is_none(), "what was not read is not verified");
}

#[test]
fn it_travels_in_pieces() {
    let (from, to) = (MemoryDisk::new(), MemoryDisk::new());
    let store = random_store(8, 400, 100, 400);
    let stored = take(&from, &meta(400), &store).unwrap();
    let piece = |offset, bytes_max| snapshot::read_piece(&from, stored.index, offset, bytes_max).unwrap();
    let mut receiver = Receiver::begin(&to, stored.index, stored.bytes).unwrap();
    while !receiver.is_complete() {
        let Piece { total_bytes, bytes } = piece(receiver.received_bytes(), 1_000).unwrap();
        assert_eq!(total_bytes, stored.bytes);
        let at = receiver.received_bytes();
        assert!(!receiver.write(at + 1, &bytes).unwrap(), "a gap");
        assert!(!receiver.write(at, b"").unwrap(), "nothing");
        assert!(!receiver.write(at, &vec![0; (stored.bytes - at) as usize + 1]).unwrap(), "too much");
        assert!(receiver.write(at, &bytes).unwrap());
        assert!(!receiver.write(at, &bytes).unwrap(), "the same again");
        assert!(snapshot::list(&to).unwrap().is_empty());
    }
    let verified = verify(&to, receiver.finish().unwrap()).unwrap();
    let published = snapshot::publish(&to, &verified).unwrap();
    assert_eq!(published, stored);
    assert_eq!(to.contents(&stored.name), from.contents(&stored.name));
    assert_same(&load(&to, &stored.name).unwrap().1, &store);
}

#[test]
fn pieces_at_the_edges() {
    let disk = MemoryDisk::new();
    let stored = take(&disk, &meta(3), &Store::new()).unwrap();
    let whole = disk.contents(&stored.name).unwrap();
    for (offset, bytes_max, expected) in [
        (0, usize::MAX, &whole[..]),
        (0, 0, &[]),
        (stored.bytes - 3, 100, &whole[whole.len() - 3..]),
        (stored.bytes, 100, &[]),
        (stored.bytes + 1, 100, &[]),
        (u64::MAX, usize::MAX, &[]),
    ] {
        let piece = snapshot::read_piece(&disk, stored.index, offset, bytes_max).unwrap().unwrap();
        assert_eq!(piece, Piece { total_bytes: stored.bytes, bytes: expected.to_vec() });
    }
    assert_eq!(snapshot::read_piece(&disk, Index::new(4), 0, 100).unwrap(), None);
    assert_eq!(snapshot::read_piece(&disk, Index::new(u64::MAX), 0, 100).unwrap(), None);
}

#[test]
fn a_claimed_size_allocates_nothing() {
    let disk = MemoryDisk::new();
    let mut receiver = Receiver::begin(&disk, Index::new(9), u64::MAX).unwrap();
    assert!(receiver.write(0, b"little").unwrap());
    let name = "snapshot-00000000000000000009.part";
    assert_eq!(disk.contents(name).unwrap().len(), 6);
    let error = receiver.finish().unwrap_err();
    assert!(matches!(error, SnapshotError::Incomplete { received: 6, total: u64::MAX, .. }), "{error}");
    let mut receiver = Receiver::begin(&disk, Index::new(9), 3).unwrap();
    assert!(disk.contents(name).unwrap().is_empty(), "an attempt begins from nothing");
    assert!(receiver.write(0, b"abc").unwrap());
    assert!(Verification::begin(&disk, receiver.finish().unwrap()).is_err());
}

#[test]
fn only_snapshots_are_listed_and_only_leftovers_removed() {
    let disk = MemoryDisk::new();
    let foreign = [
        "snapshot-.snap",
        "snapshot-1.snap",
        "snapshot-000000000000000000001.snap",
        "snapshot-00000000000000000001.snapx",
        "snapshot-99999999999999999999.snap",
        "snapshot-+0000000000000000001.snap",
        "snapshot-1.tmp",
        "identity.tmp",
        "wal-0000000001.log",
    ];
    for name in foreign {
        disk.plant(name, vec![1]);
    }
    let second = take(&disk, &meta(20), &Store::new()).unwrap();
    let first = take(&disk, &meta(3), &Store::new()).unwrap();
    write(&disk, &meta(20), &Store::new()).unwrap();
    Receiver::begin(&disk, Index::new(21), 10).unwrap();
    assert_eq!(snapshot::list(&disk).unwrap(), vec![first.clone(), second.clone()]);
    assert_eq!(snapshot::remove_leftovers(&disk).unwrap(), 2);
    assert_eq!(snapshot::remove_leftovers(&disk).unwrap(), 0);
    assert_eq!(disk.unsynced(), vec![], "what was removed is gone for good");
    snapshot::remove(&disk, first.index).unwrap();
    snapshot::remove(&disk, first.index).unwrap();
    assert_eq!(disk.unsynced(), vec![]);
    assert_eq!(snapshot::list(&disk).unwrap(), vec![second]);
    let left = disk.list().unwrap();
    assert!(foreign.iter().all(|name| left.iter().any(|left| left == name)), "{left:?}");
}

#[test]
fn a_snapshot_is_removed_in_steps_and_never_found_half() {
    const BYTES: usize = (9 << 20) + 1;
    let (name, rest_name) = ("snapshot-00000000000000000007.snap", "snapshot-00000000000000000007.old");
    let disk = MemoryDisk::new();
    disk.plant(name, vec![1; BYTES]);
    let mut rest = Some(Removal::begin(&disk, Index::new(7)).unwrap());
    let mut sizes = Vec::new();
    while let Some(removal) = rest {
        assert_eq!(snapshot::list(&disk).unwrap(), vec![], "its name is gone before anything of it");
        sizes.push(disk.open(rest_name).unwrap().len().unwrap());
        for survives in [false, true] {
            let crashed = disk.fork();
            crashed.crash(&mut |_| survives);
            assert_eq!(snapshot::list(&crashed).unwrap(), vec![], "for good");
            assert_eq!(snapshot::remove_leftovers(&crashed).unwrap(), 1);
        }
        rest = removal.step(&disk).unwrap();
    }
    assert_eq!(sizes, [(9 << 20) + 1, (5 << 20) + 1, (1 << 20) + 1]);
    disk.crash(&mut |_| false);
    assert_eq!(disk.list().unwrap(), Vec::<String>::new(), "it is gone for good");
}

#[test]
fn what_is_removed_twice_or_removed_meanwhile_is_gone() {
    let disk = MemoryDisk::new();
    take(&disk, &meta(3), &Store::new()).unwrap();
    let first = Removal::begin(&disk, Index::new(3)).unwrap();
    take(&disk, &meta(3), &Store::new()).unwrap();
    let second = Removal::begin(&disk, Index::new(3)).unwrap();
    assert!(first.step(&disk).unwrap().is_none());
    assert!(second.step(&disk).unwrap().is_none());
    assert!(Removal::begin(&disk, Index::new(3)).unwrap().step(&disk).unwrap().is_none(), "there was none");
    assert_eq!((disk.list().unwrap(), disk.unsynced()), (vec![], vec![]));
}

#[test]
fn the_name_must_fit() {
    let (_, bytes) = file_of(&meta(3), &Store::new());
    let disk = MemoryDisk::new();
    disk.plant("snapshot-00000000000000000004.snap", bytes);
    let error = Reader::open(&disk, "snapshot-00000000000000000004.snap").err().unwrap();
    assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
    assert!(matches!(Reader::open(&disk, "no such file"), Err(SnapshotError::Io { .. })));
}

#[test]
fn on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let store = random_store(9, 3_000, 2_000, 900);
    let old = take(&disk, &meta(2_999), &store).unwrap();
    let new = take(&disk, &meta(3_000), &store).unwrap();
    assert_same(&load(&disk, &new.name).unwrap().1, &store);
    snapshot::remove(&disk, old.index).unwrap();
    let listed: Vec<Stored> = snapshot::list(&disk).unwrap();
    assert_eq!(listed, vec![new]);
}

#[test]
fn a_short_read_is_read_on() {
    let store = random_store(10, 200, 50, 200);
    let disk = MemoryDisk::new();
    let stored = take(&disk, &meta(200), &store).unwrap();
    for nth in 1..12 {
        for bytes in [1, 31, 33, 512] {
            disk.fail(Operation::Read, nth, engine::disk::Fault::Short(bytes));
            assert_same(&load(&disk, &stored.name).unwrap().1, &store);
            disk.restart();
        }
    }
    // A file that always gives little.
    let trickle = Trickle(disk);
    assert_same(&load(&trickle, &stored.name).unwrap().1, &store);
    let piece = snapshot::read_piece(&trickle, stored.index, 10, 100).unwrap().unwrap();
    assert_eq!(piece.bytes.len(), 100);
}

/// A disk whose every read gives seven bytes at most.
struct Trickle(MemoryDisk);

struct TrickleFile(Box<dyn File>);

impl Disk for Trickle {
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> std::io::Result<Box<dyn File>> {
        Ok(Box::new(TrickleFile(self.0.open(name)?)))
    }

    fn create(&self, name: &str) -> std::io::Result<Box<dyn File>> {
        self.0.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        self.0.free_bytes()
    }

    fn sync_directory(&self) -> std::io::Result<()> {
        self.0.sync_directory()
    }
}

impl File for TrickleFile {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(7);
        self.0.read_at(offset, &mut buffer[..length])
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all_at(offset, bytes)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> std::io::Result<()> {
        self.0.set_len(bytes)
    }
}
