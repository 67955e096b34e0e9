//! Tests of the disk in memory and of what is built on the seam: what survives is what was promised to.

use std::io::ErrorKind;

use super::*;

fn file_with(disk: &MemoryDisk, name: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = disk.create(name).expect("a new name");
    file.write_all_at(0, bytes).expect("no fault is planned");
    file
}

#[test]
fn what_is_synced_survives_and_nothing_else() {
    let disk = MemoryDisk::new();
    let file = file_with(&disk, "a", b"synced");
    file.sync_data().expect("no fault is planned");
    disk.sync_directory().expect("no fault is planned");
    file.write_all_at(0, b"later!").expect("no fault is planned");
    file_with(&disk, "b", b"x").sync_data().expect("no fault is planned");
    assert_eq!(disk.contents("a"), Some(b"later!".to_vec()));
    disk.crash(&mut |_| false);
    assert_eq!(disk.contents("a"), Some(b"synced".to_vec()));
    assert_eq!(disk.contents("b"), None, "its name was not synced");
    assert!(file.len().is_err(), "a handle dies with its process");
}

#[test]
fn sectors_survive_one_by_one_in_any_version() {
    let disk = MemoryDisk::new();
    let file = file_with(&disk, "a", &[0; 3 * SECTOR_BYTES]);
    file.sync_data().expect("no fault is planned");
    disk.sync_directory().expect("no fault is planned");
    file.write_all_at(500, &[1; 600]).expect("no fault is planned");
    file.write_all_at(0, &[2; 10]).expect("no fault is planned");
    let sector = |sector| Unsynced::Sector { file: "a".to_owned(), sector };
    assert_eq!(disk.unsynced(), [sector(0), sector(1), sector(2), sector(0)]);
    let kept = |wanted: &[usize]| {
        let disk = disk.fork();
        let mut number = 0;
        disk.crash(&mut |_| {
            number += 1;
            wanted.contains(&(number - 1))
        });
        let bytes = disk.contents("a").expect("its name was synced");
        (bytes[0], bytes[505], bytes[600], bytes[1030])
    };
    assert_eq!(kept(&[]), (0, 0, 0, 0));
    assert_eq!(kept(&[0]), (0, 1, 0, 0));
    assert_eq!(kept(&[3]), (2, 1, 0, 0), "a later version of a sector holds the earlier write too");
    assert_eq!(kept(&[1]), (0, 0, 1, 0));
    assert_eq!(kept(&[2]), (0, 0, 0, 1));
    assert_eq!(kept(&[0, 1, 2, 3]), (2, 1, 1, 1));
}

#[test]
fn a_failed_sync_loses_what_it_should_have_written_for_ever() {
    let disk = MemoryDisk::new();
    let file = file_with(&disk, "a", b"old");
    file.sync_data().expect("no fault is planned");
    disk.sync_directory().expect("no fault is planned");
    file.write_all_at(0, b"new").expect("no fault is planned");
    disk.fail(Operation::SyncData, 1, Fault::Error(ErrorKind::Other));
    file.sync_data().expect_err("a planned fault");
    file.sync_data().expect("the second sync tells a lie, as kernels do");
    assert_eq!(disk.contents("a"), Some(b"new".to_vec()));
    disk.crash(&mut |_| true);
    assert_eq!(disk.contents("a"), Some(b"old".to_vec()));
}

#[test]
fn faults_hit_the_call_they_are_planned_for() {
    let disk = MemoryDisk::new();
    let file = file_with(&disk, "a", b"0123456789");
    disk.fail(Operation::Read, 2, Fault::Error(ErrorKind::TimedOut));
    disk.fail(Operation::Read, 3, Fault::Short(4));
    disk.fail(Operation::Write, 1, Fault::Short(3));
    let mut buffer = [0; 10];
    assert_eq!(file.read_at(0, &mut buffer).ok(), Some(10));
    assert_eq!(file.read_at(0, &mut buffer).map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
    assert_eq!(file.read_at(0, &mut buffer).ok(), Some(4));
    assert_eq!(read_full(file.as_ref(), 2, &mut buffer).ok(), Some(8));
    assert_eq!(file.write_all_at(0, b"abcdef").map_err(|error| error.kind()), Err(ErrorKind::StorageFull));
    assert_eq!(disk.contents("a"), Some(b"abc3456789".to_vec()));
}

#[test]
fn a_halt_stops_everything_after_so_many_changes() {
    let disk = MemoryDisk::new();
    disk.halt_after(2);
    let file = file_with(&disk, "a", b"1");
    assert!(file.sync_data().is_err() && file.len().is_err() && disk.list().is_err());
    disk.restart();
    assert_eq!(disk.list().ok(), Some(vec!["a".to_owned()]));
}

#[test]
fn names_survive_one_by_one() {
    let disk = MemoryDisk::new();
    file_with(&disk, "a", b"a").sync_data().expect("no fault is planned");
    disk.sync_directory().expect("no fault is planned");
    disk.rename("a", "b").expect("no fault is planned");
    file_with(&disk, "c", b"c").sync_data().expect("no fault is planned");
    disk.remove("b").expect("no fault is planned");
    let renamed = Unsynced::Renamed { from: "a".to_owned(), to: "b".to_owned() };
    let named = Unsynced::Named { name: "c".to_owned() };
    let removed = Unsynced::Removed { name: "b".to_owned() };
    assert_eq!(disk.unsynced(), [renamed.clone(), named.clone(), removed.clone()]);
    let kept = |wanted: &[&Unsynced]| {
        let disk = disk.fork();
        disk.crash(&mut |change| wanted.contains(&change));
        disk.list().expect("no fault is planned").join(" ")
    };
    assert_eq!(kept(&[]), "a");
    assert_eq!(kept(&[&renamed]), "b");
    assert_eq!(kept(&[&named]), "a c");
    assert_eq!(kept(&[&removed]), "a");
    assert_eq!(kept(&[&renamed, &named, &removed]), "c");
}

#[test]
fn an_atomic_write_leaves_the_old_file_or_the_new_one() {
    let before = MemoryDisk::new();
    write_file_atomically(&before, "f", b"old").expect("no fault is planned");
    let steps = {
        let disk = before.fork();
        let made = disk.changes();
        write_file_atomically(&disk, "f", &[7; 1500]).expect("no fault is planned");
        disk.changes() - made
    };
    for step in 0..=steps {
        for subset in 0u32..64 {
            let disk = before.fork();
            disk.halt_after(step);
            let written = write_file_atomically(&disk, "f", &[7; 1500]).is_ok();
            let mut number = 0;
            disk.crash(&mut |_| {
                number += 1;
                subset >> (number - 1) & 1 == 1
            });
            let found = read_file(&disk, "f", 4096).expect("no fault is planned").expect("one of the two is there");
            assert!(found == vec![7; 1500] || (!written && found == b"old"), "step {step}, subset {subset}");
            write_file_atomically(&disk, "f", b"next").expect("a temporary file that is left over is no obstacle");
        }
    }
}

#[test]
fn lengths_are_changes_too() {
    let disk = MemoryDisk::new();
    let file = file_with(&disk, "a", &[1; 1000]);
    file.sync_data().expect("no fault is planned");
    disk.sync_directory().expect("no fault is planned");
    file.set_len(10).expect("no fault is planned");
    assert_eq!(disk.unsynced(), [Unsynced::Length { file: "a".to_owned(), bytes: 10 }]);
    let lost = disk.fork();
    lost.crash(&mut |_| false);
    assert_eq!(lost.contents("a").map(|bytes| bytes.len()), Some(1000));
    disk.crash(&mut |_| true);
    assert_eq!(disk.contents("a").map(|bytes| bytes.len()), Some(10));
}

#[test]
fn a_full_disk_takes_what_fits_and_can_be_overwritten() {
    let disk = MemoryDisk::new();
    let file = file_with(&disk, "a", b"0123456789");
    file.sync_data().expect("no fault is planned");
    disk.sync_directory().expect("no fault is planned");
    disk.fill_up(4);
    let kind = |result: std::io::Result<()>| result.map_err(|error| error.kind());
    assert_eq!(kind(file.write_all_at(8, b"abcdefgh")), Err(ErrorKind::StorageFull));
    assert_eq!(disk.contents("a"), Some(b"01234567abcdef".to_vec()), "as much as fits was written");
    assert_eq!(kind(file.write_all_at(0, b"xyz")), Ok(()));
    disk.crash(&mut |_| false);
    let file = disk.open("a").expect("its name is durable");
    assert_eq!(kind(file.set_len(15)), Err(ErrorKind::StorageFull), "the crash freed four bytes");
    assert_eq!(kind(file.set_len(14)), Ok(()));
    assert_eq!(kind(disk.create("b").map(drop)), Err(ErrorKind::StorageFull));
    disk.clear_out();
    assert_eq!(kind(disk.create("b").map(drop)), Ok(()));
    assert_eq!(disk.calls_out_of_room(), 3);
    disk.fail(Operation::Create, 1, Fault::Error(ErrorKind::StorageFull));
    assert_eq!(kind(disk.create("c").map(drop)), Err(ErrorKind::StorageFull));
    assert_eq!(disk.calls_out_of_room(), 4, "a planned failure counts as well");
    let mut files = Vec::new();
    disk.for_each_file(&mut |name, bytes| files.push((name.to_owned(), bytes)));
    assert_eq!(files, [("a".to_owned(), 14), ("b".to_owned(), 0)]);
}

#[test]
fn what_is_durable_goes_bad_where_it_is_told_to_and_nowhere_else() {
    let disk = MemoryDisk::new();
    let file = file_with(&disk, "a", &[1; 3 * SECTOR_BYTES]);
    file.sync_data().expect("no fault is planned");
    disk.sync_directory().expect("no fault is planned");
    file.write_all_at(510, &[2; 4]).expect("no fault is planned");
    file.sync_data().expect("no fault is planned");
    let damaged = |damage: Damage| {
        let disk = disk.fork();
        let range = disk.damage("a", &damage);
        disk.crash(&mut |_| false);
        let bytes = disk.contents("a").expect("it is still there");
        let before = file_bytes(file.as_ref());
        let differs = (0..bytes.len()).filter(|at| bytes[*at] != before[*at]).collect::<Vec<_>>();
        let ends = differs.first().zip(differs.last()).map(|(first, last)| *first as u64..*last as u64 + 1);
        assert_eq!(range, ends, "{damage:?}");
        (ends, bytes[700])
    };
    assert_eq!(damaged(Damage::FlippedBit { offset: 700, bit: 3 }), (Some(700..701), 9));
    assert_eq!(damaged(Damage::ZeroedSector { sector: 1 }), (Some(512..1024), 0));
    assert_eq!(damaged(Damage::LostWrite { sector: 1 }), (Some(512..514), 1));
    assert_eq!(damaged(Damage::LostWrite { sector: 2 }), (None, 1), "it was written once");
    let from = |sector| Damage::Misdirected { sector, from_file: "a".to_owned(), from_sector: 2 };
    assert_eq!(damaged(from(1)), (Some(512..514), 1));
    assert_eq!(damaged(from(2)), (None, 1), "it holds what it held");
    assert_eq!(damaged(from(3)), (None, 1), "there is no such sector");
}

fn file_bytes(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; 3 * SECTOR_BYTES];
    read_full(file, 0, &mut bytes).expect("no fault is planned");
    bytes
}
