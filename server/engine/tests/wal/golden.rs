//! The bytes of a small log, as they were when the format was fixed. A difference here is a change of the format:
//! `QUORATE_GOLDEN=rewrite` rewrites the file, and whoever does it must be able to say why old logs still open.

use std::fmt::Write as _;
use std::path::Path;

use engine::disk::MemoryDisk;

use super::harness::{batch, entry, hard_state, open, raw_records, run_all};
use raft::{Entry, Payload};

/// One record a paragraph: where it lies, its fields, and its bytes in hexadecimal and as text.
fn dump(disk: &MemoryDisk) -> String {
    let mut text = String::new();
    for record in raw_records(disk) {
        let kind = match record.kind {
            1 => "start",
            2 => "hard state",
            3 => "truncate",
            4 => "mark",
            5 => "no-op entry",
            6 => "command entry",
            _ => "unknown",
        };
        let durable = (record.durable >> 32, record.durable & 0xffff_ffff);
        let length = record.bytes.len();
        writeln!(text, "{} @{} {kind}, {length} bytes, durable {durable:?}", record.file, record.offset).unwrap();
        for (line, bytes) in record.bytes.chunks(16).enumerate() {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
            let shown = |&byte: &u8| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' };
            let ascii: String = bytes.iter().map(shown).collect();
            writeln!(text, "  {:04x}  {hex:48} {ascii}", line * 16).unwrap();
        }
    }
    text
}

#[test]
fn the_format_has_not_changed() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    let noop = Entry { payload: Payload::Noop, ..entry(1, 1, b"") };
    let batches = [
        batch(1, None, vec![], Some(hard_state(1, 2, 0))),
        batch(2, None, vec![noop, entry(1, 2, b"put a=alpha"), entry(1, 3, b"")], Some(hard_state(1, 2, 1))),
        batch(3, Some(1), vec![entry(2, 2, b"put b=beta")], Some(hard_state(2, 0, 1))),
    ];
    for batch in &batches {
        opened.wal.append(batch).unwrap();
        run_all(&mut opened).unwrap();
    }
    opened.wal.idle();
    run_all(&mut opened).unwrap();
    opened
        .wal
        .append(&batch(4, None, vec![entry(2, 3, &[b'-'; 3500]), entry(2, 4, b"in the next segment")], None))
        .unwrap();
    run_all(&mut opened).unwrap();
    // The filler shows nothing new.
    let shown: String = dump(&disk)
        .lines()
        .filter(|line| !line.ends_with("----------------"))
        .map(|line| format!("{line}\n"))
        .collect();

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wal_format.txt");
    if std::env::var("QUORATE_GOLDEN").is_ok_and(|value| value == "rewrite") {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).expect("tests/golden/wal_format.txt is kept with the tests");
    assert!(shown == expected, "the format changed:\n{shown}");
}
