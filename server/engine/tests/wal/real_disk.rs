//! The same log in a directory of the real file system, and the lock that keeps a second process out of it.

use std::sync::Arc;
use std::sync::mpsc;

use engine::disk::{Disk, LockError, RealDisk, read_file, write_file_atomically};
use engine::wal::{self, Replayed, WalError, WalOptions};
use raft::{Entry, Index};

use super::harness::{Model, batch, entry, hard_state, options};

#[test]
fn a_log_on_the_real_disk_is_written_by_threads_and_recovered() {
    let directory = tempfile::tempdir().unwrap();
    let count = 300;
    {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&directory.path().join("deep/er")).unwrap());
        let opened = wal::open(&disk, options(64 << 10), &mut |_| panic!("an empty log")).unwrap();
        assert!(opened.fresh);
        let (mut wal, mut executor, reader) = (opened.wal, opened.executor, opened.reader);
        let mut background = executor.background();
        let (commits, commit_work) = mpsc::sync_channel(1);
        let (preparations, preparation_work) = mpsc::sync_channel(1);
        let (done, completions) = mpsc::channel();
        let done_too = done.clone();
        let threads = [
            std::thread::spawn(move || commit_work.into_iter().for_each(|work| done.send(executor.run(work)).unwrap())),
            std::thread::spawn(move || {
                preparation_work.into_iter().for_each(|work| done_too.send(background.run(work)).unwrap());
            }),
        ];
        let mut durable = 0;
        let mut appended = 0;
        while durable < count {
            while appended < count && wal.pending_bytes() < 20_000 {
                appended += 1;
                let one = vec![entry(1, appended, &appended.to_le_bytes().repeat(100))];
                wal.append(&batch(appended, None, one, Some(hard_state(1, 1, appended - 1)))).unwrap();
            }
            while let Some(work) = wal.next_work() {
                if work.is_background() { preparations.send(work).unwrap() } else { commits.send(work).unwrap() }
            }
            if let Some(number) = wal.completed(completions.recv().unwrap()).unwrap() {
                durable = number.get();
            }
        }
        assert_eq!(reader.read(Index::new(count), 1).unwrap().len(), 1);
        drop((commits, preparations));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&directory.path().join("deep/er")).unwrap());
    let mut replayed: Vec<Replayed> = Vec::new();
    let opened = wal::open(&disk, options(64 << 10), &mut |record| replayed.push(record)).unwrap();
    assert!(!opened.fresh && opened.report.segments >= 4);
    let model = Model::of(&replayed);
    assert_eq!(opened.last_index, Index::new(count));
    assert_eq!(opened.hard_state, hard_state(1, 1, count - 1));
    let read: Vec<Entry> = opened.reader.read(Index::new(1), usize::MAX).unwrap();
    assert_eq!(read, model.entries);
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let held = RealDisk::open(directory.path()).unwrap();
    let Err(LockError::Held { directory: named, holder }) = RealDisk::open(directory.path()) else {
        panic!("a directory has one holder")
    };
    assert_eq!((named.as_path(), holder), (directory.path(), Some(std::process::id())));
    let message = RealDisk::open(directory.path()).unwrap_err().to_string();
    assert!(message.contains(&directory.path().display().to_string()), "{message}");
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    drop(held);
    RealDisk::open(directory.path()).expect("free again");
}

/// Another process, truly: this test runs itself.
#[test]
fn a_lock_holds_against_another_process_and_dies_with_its_holder() {
    const ROLE: &str = "QUORATE_TEST_TRY_TO_LOCK";
    if let Some(directory) = std::env::var_os(ROLE) {
        let refused = matches!(RealDisk::open(directory.as_ref()), Err(LockError::Held { .. }));
        assert!(refused, "the other process holds it");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let _held = RealDisk::open(directory.path()).unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "real_disk::a_lock_holds_against_another_process_and_dies_with_its_holder"])
        .env(ROLE, directory.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn names_cannot_leave_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    for name in ["", ".", "..", "a/b", "../a", "/etc/passwd", "LOCK", "a\0b", &"x".repeat(256)] {
        assert_eq!(disk.create(name).map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::InvalidInput, "{name:?}");
        assert!(disk.open(name).is_err() && disk.remove(name).is_err() && disk.rename("a", name).is_err());
    }
    assert_eq!(disk.list().unwrap(), Vec::<String>::new(), "the lock is nobody's file");
}

#[test]
fn small_files_are_replaced_whole() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    assert_eq!(read_file(&disk, "identity", 100).unwrap(), None);
    for contents in ["first", "", "second and longer"] {
        write_file_atomically(&disk, "identity", contents.as_bytes()).unwrap();
        assert_eq!(read_file(&disk, "identity", 100).unwrap(), Some(contents.into()));
    }
    assert_eq!(read_file(&disk, "identity", 5).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(disk.list().unwrap(), ["identity"]);
    assert_eq!(disk.create("identity").map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    let file = disk.open("identity").unwrap();
    file.set_len(3).unwrap();
    file.sync_data().unwrap();
    assert_eq!((file.len().unwrap(), file.is_empty().unwrap()), (3, false));
    disk.remove("identity").unwrap();
    assert_eq!(disk.open("identity").map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn options_that_cannot_work_are_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory.path()).unwrap());
    for segment_bytes in [0, 4095, (1 << 30) + 1, u64::MAX] {
        let options = WalOptions { segment_bytes, ..WalOptions::default() };
        assert!(matches!(wal::open(&disk, options, &mut |_| ()), Err(WalError::Options(_))));
    }
    assert!(disk.list().unwrap().is_empty());
}
