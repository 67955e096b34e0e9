//! A file that is not what was written is never taken for a state, whatever was done to it.

use engine::disk::MemoryDisk;
use engine::kv::Store;
use engine::snapshot::{self, Meta, Reader, SnapshotError, Writer};

use super::harness::{
    LoadError, assert_same, chunks, delete, file_of, load, meta, put, random_store, small_sections, verify, write,
};

/// A file that is small enough to try every bit of it, with one chunk of each kind.
fn small_file() -> (String, Vec<u8>, Store) {
    let store = random_store(21, 170, 120, 420);
    let (name, bytes) = file_of(&meta(170), &store);
    assert!((16 << 10..24 << 10).contains(&bytes.len()), "{} bytes", bytes.len());
    (name, bytes, store)
}

/// A file of 26 chunks and 60 KiB.
fn file_of_many_chunks(seed: u64) -> (String, Vec<u8>, Store) {
    let store = random_store(seed, 400, 600, 400);
    let disk = MemoryDisk::new();
    let mut writer = Writer::begin(&disk, &meta(400)).unwrap();
    for (tag, section) in small_sections(&store, 12) {
        writer.section(tag, &section).unwrap();
    }
    let verified = verify(&disk, writer.finish().unwrap()).unwrap();
    let stored = snapshot::publish(&disk, &verified).unwrap();
    let bytes = disk.contents(&stored.name).unwrap();
    assert!((50 << 10..70 << 10).contains(&bytes.len()), "{} bytes", bytes.len());
    assert!(chunks(&bytes).len() > 20);
    assert_same(&load(&disk, &stored.name).unwrap().1, &store);
    (stored.name, bytes, store)
}

/// Loads a file, through a disk that holds nothing else.
fn load_bytes(name: &str, bytes: Vec<u8>) -> Result<(Meta, Store), LoadError> {
    let disk = MemoryDisk::new();
    disk.plant(name, bytes);
    load(&disk, name)
}

fn assert_detected(name: &str, bytes: Vec<u8>, what: &str) -> SnapshotError {
    let length = bytes.len() as u64;
    match load_bytes(name, bytes) {
        Err(LoadError::Snapshot(error)) => {
            if let SnapshotError::Damaged { offset, file, .. } = &error {
                assert!(*offset <= length && file == name, "{what}: {error}");
            }
            error
        }
        Err(LoadError::Image(error)) => panic!("{what}: the file was believed: {error}"),
        Ok(_) => panic!("{what} was not detected"),
    }
}

/// Reads a file to its end, whatever the sections say.
fn read_through(disk: &MemoryDisk, name: &str) -> Result<(), SnapshotError> {
    let mut reader = Reader::open(disk, name)?;
    while reader.next_chunk()?.is_some() {}
    Ok(())
}

#[test]
fn any_flipped_bit() {
    let (name, bytes, _) = small_file();
    let disk = MemoryDisk::new();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            disk.plant(&name, damaged);
            // Without a loader, which would only take its time: nobody may use a state before the end was reached.
            let error = read_through(&disk, &name).expect_err("a flipped bit is found");
            let SnapshotError::Damaged { offset, .. } = error else { panic!("bit {bit} of byte {at}: {error}") };
            assert!(offset <= at as u64, "bit {bit} of byte {at}: found at {offset}");
        }
    }
}

#[test]
fn any_truncation() {
    let (name, bytes, _) = small_file();
    for length in 0..bytes.len() {
        let error = assert_detected(&name, bytes[..length].to_vec(), &format!("cut to {length}"));
        assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
    }
}

#[test]
fn anything_behind_the_end() {
    let (name, bytes, _) = small_file();
    let chunk = bytes[bytes.len() - 64..].to_vec();
    for behind in [vec![0], vec![0; 8], vec![0; 4096], vec![0xff; 64], chunk, bytes.clone()] {
        assert_detected(&name, [bytes.clone(), behind].concat(), "bytes behind the end");
        assert_detected(&name, [vec![0; 8], bytes.clone()].concat(), "bytes before the beginning");
    }
}

#[test]
fn any_sector_zeroed_doubled_swapped_or_dropped() {
    let (name, bytes, _) = file_of_many_chunks(22);
    for unit in [512, 4096] {
        let sectors = bytes.len().div_ceil(unit);
        let range = |sector: usize| sector * unit..((sector + 1) * unit).min(bytes.len());
        for sector in 0..sectors {
            let at = range(sector);
            let mut zeroed = bytes.clone();
            zeroed[at.clone()].fill(0);
            let dropped = [&bytes[..at.start], &bytes[at.end..]].concat();
            let doubled = [&bytes[..at.end], &bytes[at.start..]].concat();
            for (changed, what) in [(zeroed, "zeroed"), (dropped, "dropped"), (doubled, "doubled")] {
                assert_detected(&name, changed, &format!("sector {sector} of {unit} bytes {what}"));
            }
            // The next one, and one far away.
            for other in [sector + 1, (sector + sectors / 2) % sectors] {
                let other_at = range(other);
                if other >= sectors || other_at.len() < unit || at.len() < unit || other == sector {
                    continue;
                }
                let mut misdirected = bytes.clone();
                misdirected[at.clone()].copy_from_slice(&bytes[other_at.clone()]);
                let mut swapped = misdirected.clone();
                swapped[other_at].copy_from_slice(&bytes[at.clone()]);
                for (changed, what) in [(misdirected, "replaced"), (swapped, "swapped")] {
                    assert_detected(&name, changed, &format!("sector {sector} of {unit} bytes {what} with {other}"));
                }
            }
        }
    }
}

#[test]
fn any_chunk_dropped_doubled_or_swapped() {
    let (name, bytes, _) = file_of_many_chunks(23);
    let places = chunks(&bytes);
    let assemble = |order: &[usize]| order.iter().flat_map(|&at| bytes[places[at].clone()].to_vec()).collect();
    for one in 0..places.len() {
        let mut dropped: Vec<usize> = (0..places.len()).collect();
        dropped.remove(one);
        assert_detected(&name, assemble(&dropped), &format!("chunk {one} dropped"));
        let mut doubled: Vec<usize> = (0..places.len()).collect();
        doubled.insert(one, one);
        assert_detected(&name, assemble(&doubled), &format!("chunk {one} doubled"));
        for other in one + 1..places.len() {
            let mut swapped: Vec<usize> = (0..places.len()).collect();
            swapped.swap(one, other);
            assert_detected(&name, assemble(&swapped), &format!("chunks {one} and {other} swapped"));
        }
    }
}

/// Two files of the same index and terms, whose states differ in one value of the same length.
#[test]
fn any_chunk_of_an_older_snapshot_of_the_same_index() {
    let build = |value: &[u8]| {
        let mut store = Store::new();
        for number in 0_u32..2_000 {
            let text = if number == 1_000 { value } else { b"value" };
            put(&mut store, &number.to_be_bytes(), &[text, &[0; 300]].concat());
        }
        file_of(&meta(2_000), &store)
    };
    let ((name, old), (_, new)) = (build(b"older"), build(b"newer"));
    let places = chunks(&new);
    assert_eq!(places, chunks(&old));
    assert!(places.len() >= 6);
    let mut differing = 0;
    for at in &places {
        let mut rolled_back = new.clone();
        rolled_back[at.clone()].copy_from_slice(&old[at.clone()]);
        if rolled_back != new {
            differing += 1;
            assert_detected(&name, rolled_back, &format!("the chunk at {at:?} rolled back"));
        }
    }
    assert!(differing >= 4, "the header, the section, those chained behind it, and the end");
    // Everything from a chunk on, and everything up to it.
    for at in &places[1..] {
        let head_new = [&new[..at.start], &old[at.start..]].concat();
        let head_old = [&old[..at.start], &new[at.start..]].concat();
        for mixed in [head_new, head_old] {
            if mixed != new && mixed != old {
                assert_detected(&name, mixed, "two files in one");
            }
        }
    }
}

#[test]
fn a_chunk_of_another_index() {
    let mut store = random_store(24, 100, 60, 60);
    let (_, other) = file_of(&meta(100), &store);
    delete(&mut store, b"no such key");
    let (name, bytes) = file_of(&meta(101), &store);
    assert_eq!(bytes.len(), other.len());
    for at in chunks(&bytes) {
        let mut mixed = bytes.clone();
        mixed[at.clone()].copy_from_slice(&other[at]);
        assert_detected(&name, mixed, "a chunk of another snapshot");
    }
}

#[test]
fn what_is_damaged_before_it_is_read_back_is_not_published() {
    let store = random_store(25, 60, 40, 60);
    let whole = MemoryDisk::new();
    let written = write(&whole, &meta(60), &store).unwrap();
    let bytes = whole.contents(&written.name).unwrap();
    for at in (0..bytes.len()).step_by(3) {
        let disk = whole.fork();
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        disk.plant(&written.name, damaged);
        assert!(verify(&disk, written.clone()).is_err(), "byte {at}");
    }
    // A whole file, but not the one that was written.
    let other = random_store(26, 60, 40, 60);
    let (_, other_bytes) = file_of(&meta(60), &other);
    for bytes in [other_bytes, [bytes.clone(), vec![0; 8]].concat(), bytes[..bytes.len() - 8].to_vec()] {
        let disk = whole.fork();
        disk.plant(&written.name, bytes);
        assert!(verify(&disk, written.clone()).is_err());
    }
    let disk = whole.fork();
    let stored = snapshot::publish(&disk, &verify(&disk, written).unwrap()).unwrap();
    assert_same(&load(&disk, &stored.name).unwrap().1, &store);
}

#[test]
fn an_error_stays_an_error() {
    let (name, mut bytes, _) = file_of_many_chunks(27);
    let second_section = chunks(&bytes)[3].clone();
    bytes[second_section.start + 40] ^= 1;
    let disk = MemoryDisk::new();
    disk.plant(&name, bytes);
    let mut reader = Reader::open(&disk, &name).unwrap();
    assert!(reader.next_chunk().unwrap().is_some());
    for _ in 0..5 {
        assert!(matches!(reader.next_chunk(), Err(SnapshotError::Damaged { .. })));
    }
}
