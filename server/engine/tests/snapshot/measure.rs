//! How long a large state takes to be written out and taken in, and how much memory: printed, never judged.
//!
//! `cargo test --release -p engine --test snapshot -- --ignored --nocapture measure`

use std::time::Instant;

use engine::disk::RealDisk;
use engine::kv::{ImageLoader, Store};
use engine::snapshot::{Reader, Writer};

use super::harness::{Numbers, assert_same, meta, put, verify};

const KEYS: u64 = 1_000_000;
const KEY_BYTES: usize = 32;
const VALUE_BYTES: usize = 256;

/// The memory of this process in mebibytes; 0 where there is no `/proc`.
fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u32>().ok()).unwrap_or(0);
    f64::from(pages) * 4096.0 / f64::from(1 << 20)
}

#[test]
#[ignore = "takes a gigabyte of memory, and shows rather than asserts"]
fn measure_a_million_keys() {
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let (mut store, mut numbers) = (Store::new(), Numbers(1));
    let before_mib = resident_mib();
    for _ in 0..KEYS {
        let (key, value) = (numbers.bytes(KEY_BYTES), numbers.bytes(VALUE_BYTES));
        put(&mut store, &key, &value);
    }
    eprintln!("applied from commands: {:.0} MiB", resident_mib() - before_mib);

    let started = Instant::now();
    let mut image = store.image();
    let (mut sections, mut bytes) = (0_u32, 0);
    while let Some(section) = image.next_section().unwrap() {
        sections += 1;
        bytes += section.bytes.len();
    }
    eprintln!("encoded: {bytes} bytes in {sections} sections, {:?}", started.elapsed());

    let started = Instant::now();
    let mut writer = Writer::begin(&disk, &meta(KEYS)).unwrap();
    let mut image = store.image();
    while let Some(section) = image.next_section().unwrap() {
        writer.section(section.tag, section.bytes).unwrap();
    }
    let written = writer.finish().unwrap();
    eprintln!("encoded, written and synced: {:?}", started.elapsed());
    let name = written.name.clone();
    let started = Instant::now();
    verify(&disk, written).unwrap();
    eprintln!("read back: {:?}", started.elapsed());

    let before_mib = resident_mib();
    let started = Instant::now();
    let mut reader = Reader::open(&disk, &name).unwrap();
    let mut loader = ImageLoader::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        loader.section(chunk.tag, chunk.bytes).unwrap();
    }
    let loaded = loader.finish().unwrap();
    let elapsed = started.elapsed();
    eprintln!("read and loaded: {elapsed:?}, {:.0} MiB", resident_mib() - before_mib);
    let walked = store.iter().count();
    eprintln!("original after {walked} keys were read: {:.0} MiB in all", resident_mib());
    let walked = loaded.iter().count();
    eprintln!("loaded after {walked} keys were read: {:.0} MiB in all", resident_mib());
    assert_same(&loaded, &store);
}
