//! Segments that are not needed, and become later ones.

use std::sync::{Arc, Mutex};

use engine::disk::{Disk, MemoryDisk, Operation};
use engine::wal::{self, Opened, WalError};
use raft::Index;

use super::cut::{append_to, indexes, log_of};
use super::harness::{open, options, run_all, segment_files};
use super::round_trip::{Action, Interrupted};

fn spare_files(disk: &MemoryDisk) -> Vec<String> {
    disk.list().unwrap().into_iter().filter(|name| name.ends_with(".old")).collect()
}

/// Lets go of all entries before `first_kept`, and keeps so many segments of it as spares.
fn let_go(opened: &mut Opened, first_kept: u64, spares: u64) {
    opened.wal.keep_spares(spares * 4096);
    opened.wal.cut(Index::new(first_kept));
    run_all(opened).unwrap();
}

#[test]
fn what_is_not_needed_becomes_the_next_segments_and_nothing_is_made_anew() {
    let (disk, mut opened) = log_of(60);
    let_go(&mut opened, 60, 3);
    assert_eq!(spare_files(&disk), ["wal-0000000001.old", "wal-0000000002.old", "wal-0000000003.old"]);
    let (created, removed) = (disk.calls(Operation::Create), disk.calls(Operation::Remove));
    for last in (70..=200).step_by(10) {
        append_to(&mut opened, last);
        let_go(&mut opened, last, 3);
        let files = segment_files(&disk).len() + spare_files(&disk).len();
        assert!(files <= 5, "{files} files at {last}");
    }
    assert_eq!((disk.calls(Operation::Create), disk.calls(Operation::Remove)), (created, removed));
    let first = opened.wal.first_index();
    let (opened, _) = open(&disk, 4096).unwrap();
    assert_eq!((opened.first_index, opened.last_index, opened.report.cut_bytes), (first, Index::new(200), 0));
    let read = opened.reader.read(first, usize::MAX).unwrap();
    assert_eq!(indexes(&read), (first.get()..=200).collect::<Vec<_>>());
}

#[test]
fn no_more_are_kept_than_is_said_and_none_of_another_size_is_used() {
    let (disk, mut opened) = log_of(60);
    let_go(&mut opened, 30, 0);
    assert_eq!(spare_files(&disk), [""; 0], "nobody wants any");
    let_go(&mut opened, 60, 2);
    assert_eq!(spare_files(&disk).len(), 2);
    drop(opened);
    disk.plant("wal-0000000001.old", vec![0xee; 8192]);
    let (mut opened, _) = open(&disk, 4096).unwrap();
    append_to(&mut opened, 120);
    assert_eq!(
        spare_files(&disk),
        ["wal-0000000001.old"],
        "those of the right size are used, although nobody says more"
    );
    let_go(&mut opened, 61, 0);
    assert_eq!(spare_files(&disk), [""; 0]);
}

/// A spare could hold a segment of the number that a new log gives, valid in its place.
#[test]
fn a_new_log_uses_no_spare() {
    let (old, mut opened) = log_of(60);
    let_go(&mut opened, 60, 9);
    let spare = &spare_files(&old)[0];
    for was_damaged in [false, true] {
        let disk = MemoryDisk::new();
        disk.plant(spare, old.contents(spare).unwrap());
        if was_damaged {
            disk.plant("wal-0000000001.log", vec![0xee; 100]);
            let salvage = wal::salvage(&disk).unwrap().expect("a file cut short is damage");
            wal::cut_damaged(&disk, salvage.end).unwrap();
            assert_eq!(spare_files(&disk), [""; 0]);
        }
        let (mut opened, replayed) = open(&disk, 4096).unwrap();
        assert!(opened.fresh && replayed.is_empty());
        assert_eq!(spare_files(&disk), [""; 0]);
        append_to(&mut opened, 3);
        assert_eq!(open(&disk, 4096).unwrap().0.last_index, Index::new(3));
    }
}

#[test]
fn a_full_disk_needs_no_room_for_what_is_there() {
    let (disk, mut opened) = log_of(60);
    let_go(&mut opened, 60, 2);
    disk.fill_up(0);
    append_to(&mut opened, 75);
    assert!(!opened.wal.out_of_space(), "two segments could be made of spares");
    append_to(&mut opened, 76);
    assert_eq!(spare_files(&disk), [""; 0]);
}

#[test]
fn a_segment_that_is_recycled_while_it_is_read_is_no_damage() {
    let interruption: Arc<Mutex<Option<Action>>> = Arc::default();
    let disk = MemoryDisk::new();
    let interrupted = Interrupted { disk: disk.clone(), interruption: Arc::clone(&interruption), is_late: true };
    let shared: Arc<dyn Disk> = Arc::new(interrupted);
    let mut opened = wal::open(&shared, options(4096), &mut |_| ()).unwrap();
    append_to(&mut opened, 40);
    let reader = opened.reader.clone();
    let intact = disk.contents("wal-0000000001.log").unwrap();
    disk.plant("wal-0000000001.log", vec![0xee; 4096]);
    assert!(matches!(reader.read(Index::new(1), 1), Err(WalError::Corrupt { .. })), "this one is damage");
    disk.plant("wal-0000000001.log", intact);
    *interruption.lock().unwrap() = Some(Box::new(move || {
        let_go(&mut opened, 40, 1);
        append_to(&mut opened, 70);
    }));
    assert_eq!(reader.read(Index::new(1), 1).unwrap(), vec![]);
    assert_eq!(spare_files(&disk), [""; 0], "it was used in between");
}
