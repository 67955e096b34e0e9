//! The bytes of a small snapshot, as they were when the format was fixed: they are what is written today, and they are
//! read for ever. A difference here is a change of the format: `QUORATE_GOLDEN=rewrite` rewrites the file, and whoever
//! does it must be able to say how old snapshots are still read.

use std::fmt::Write as _;
use std::path::Path;

use engine::disk::MemoryDisk;
use engine::kv::Store;

use super::harness::{assert_same, chunks, delete, file_of, load, meta, put, store_with_sessions, store_with_settings};

/// One chunk a paragraph: where it lies, what it is, and its bytes in hexadecimal and as text.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for at in chunks(bytes) {
        let tag = u32::from_le_bytes(bytes[at.start + 8..at.start + 12].try_into().unwrap());
        let kind = match tag {
            1 => "start",
            2 => "term starts",
            3 => "end",
            16 => "header of the store",
            17 => "records of the store",
            18 => "header of the sessions",
            19 => "sessions",
            20 => "results of the sessions",
            21 => "settings",
            _ => "unknown",
        };
        writeln!(text, "@{} {kind}, {} bytes", at.start, at.len()).unwrap();
        for (line, bytes) in bytes[at].chunks(16).enumerate() {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
            let shown = |&byte: &u8| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' };
            let ascii: String = bytes.iter().map(shown).collect();
            writeln!(text, "  {:04x}  {hex:48} {ascii}", line * 16).unwrap();
        }
    }
    text
}

/// The bytes that a dump shows.
fn parse(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| line.starts_with("  "));
    let numbers = lines.flat_map(|line| line[8..56].split_whitespace());
    numbers.map(|number| u8::from_str_radix(number, 16).unwrap()).collect()
}

/// Compares what is written for a store today with a file, and reads that file.
fn compare(file: &str, store: &Store) {
    let last = store.last_index().get() + 1;
    let (name, bytes) = file_of(&meta(last), store);
    let shown = dump(&bytes);

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshot/golden").join(file);
    if std::env::var("QUORATE_GOLDEN").is_ok_and(|value| value == "rewrite") {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).expect("it is kept with the tests");
    let disk = MemoryDisk::new();
    disk.plant(&name, parse(&expected));
    let (found_meta, found) = load(&disk, &name).expect("what was once written is read");
    assert_eq!(found_meta, meta(last));
    assert_same(&found, store);
    assert!(shown == expected, "the format changed:\n{shown}");
}

#[test]
fn the_format_has_not_changed() {
    let mut store = Store::new();
    put(&mut store, b"alpha", b"1");
    put(&mut store, b"beta", b"");
    put(&mut store, b"gamma", b"gone soon");
    put(&mut store, b"alpha", b"written twice");
    delete(&mut store, b"gamma");
    compare("snapshot_format.txt", &store);
}

#[test]
fn the_format_of_sessions_has_not_changed() {
    compare("snapshot_sessions.txt", &store_with_sessions());
}

#[test]
fn the_format_of_settings_has_not_changed() {
    compare("snapshot_settings.txt", &store_with_settings());
}
