//! The bytes of a small log, as they were when the format was fixed. A difference here is a change of the format:
//! `QUORATE_GOLDEN=rewrite` rewrites the file, and whoever does it must be able to say why old logs still open.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use engine::disk::MemoryDisk;
use engine::wal::Replayed;
use raft::{Batch, Entry, Index, Payload};

use super::harness::{batch, entry, hard_state, open, raw_records, records_of, run_all};

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
            7 => "reset",
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

/// The files that a dump shows. What it leaves out are lines of filler.
fn undump(text: &str) -> MemoryDisk {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut record: Option<(String, usize)> = None;
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("  ") {
            let (file, begin) = record.clone().unwrap();
            let at = begin + usize::from_str_radix(&line[..4], 16).unwrap();
            let bytes = line[6..54].split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
            let bytes: Vec<u8> = bytes.collect();
            files.get_mut(&file).unwrap()[at..at + bytes.len()].copy_from_slice(&bytes);
        } else {
            let mut words = line.split(' ');
            let (file, offset) = (words.next().unwrap().to_owned(), words.next().unwrap()[1..].parse().unwrap());
            let length: usize = line.split(", ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
            let contents = files.entry(file.clone()).or_insert_with(|| vec![0; 4096]);
            contents[offset..offset + length].fill(b'-');
            record = Some((file, offset));
        }
    }
    let disk = MemoryDisk::new();
    files.into_iter().for_each(|(file, contents)| disk.plant(&file, contents));
    disk
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The batches that the golden logs begin with.
fn batches() -> [Batch; 4] {
    let noop = Entry { payload: Payload::Noop, ..entry(1, 1, b"") };
    [
        batch(1, None, vec![], Some(hard_state(1, 2, 0))),
        batch(2, None, vec![noop, entry(1, 2, b"put a=alpha"), entry(1, 3, b"")], Some(hard_state(1, 2, 1))),
        batch(3, Some(1), vec![entry(2, 2, b"put b=beta")], Some(hard_state(2, 0, 1))),
        batch(4, None, vec![entry(2, 3, &[b'-'; 3500]), entry(2, 4, b"in the next segment")], None),
    ]
}

/// Logs of version 1 are read for ever, and go on in a segment of the present version.
#[test]
fn a_log_of_version_1_opens_and_goes_on() {
    let disk = undump(&std::fs::read_to_string(golden("wal_format_1.txt")).unwrap());
    let written: Vec<Replayed> = batches().iter().flat_map(records_of).collect();
    let (mut opened, replayed) = open(&disk, 4096).unwrap();
    assert_eq!(replayed, written);
    let next = batch(5, None, vec![entry(2, 5, b"of another time")], Some(hard_state(2, 0, 4)));
    opened.wal.append(&next).unwrap();
    run_all(&mut opened).unwrap();
    assert_eq!(disk.contents("wal-0000000002.log").unwrap()[40], 1);
    assert_eq!(disk.contents("wal-0000000003.log").unwrap()[40], 2, "nothing is added to a segment of version 1");
    opened.wal.cut(Index::new(5));
    run_all(&mut opened).unwrap();
    let (opened, replayed) = open(&disk, 4096).unwrap();
    let begin = [Replayed::Reset { last: Index::new(4) }, Replayed::HardState(hard_state(2, 0, 1))];
    assert_eq!(replayed, [begin.to_vec(), records_of(&next)].concat());
    assert_eq!(opened.first_index, Index::new(5));
}

#[test]
fn the_format_has_not_changed() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    for batch in &batches() {
        opened.wal.append(batch).unwrap();
        run_all(&mut opened).unwrap();
        opened.wal.idle();
        run_all(&mut opened).unwrap();
    }
    let before = dump(&disk);
    let reset = Batch { reset_to: Some(Index::new(40)), ..batch(5, None, vec![entry(3, 41, b"put c=gamma")], None) };
    for batch in [reset, batch(6, None, vec![], None)] {
        opened.wal.append(&batch).unwrap();
        run_all(&mut opened).unwrap();
    }
    opened.wal.reset(Index::new(7)).unwrap();
    run_all(&mut opened).unwrap();
    let after = dump(&disk);
    // The filler shows nothing new.
    let without_filler = |text: String| -> String {
        text.lines().filter(|line| !line.ends_with("----------------")).map(|line| format!("{line}\n")).collect()
    };
    for (name, shown) in [("wal_format_2.txt", before), ("wal_format_2_reset.txt", after)] {
        let shown = without_filler(shown);
        if std::env::var("QUORATE_GOLDEN").is_ok_and(|value| value == "rewrite") {
            std::fs::write(golden(name), &shown).unwrap();
        }
        let expected = std::fs::read_to_string(golden(name)).expect("the golden files are kept with the tests");
        assert!(shown == expected, "the format changed:\n{shown}");
        open(&undump(&shown), 4096).expect("what is shown is a log");
    }
}
