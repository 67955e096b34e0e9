//! Damage that leaves nothing of a log whose beginning was removed.

use engine::disk::MemoryDisk;
use engine::wal::WalError;
use raft::Index;

use super::harness::{batch, entry, hard_state, open, run_all, segment_files};

#[test]
fn a_cut_log_of_which_nothing_is_left_is_no_new_log() {
    let disk = MemoryDisk::new();
    let (mut opened, _) = open(&disk, 4096).unwrap();
    for index in 1..=40 {
        let one = batch(index, None, vec![entry(1, index, &[7; 350])], Some(hard_state(1, 1, index - 1)));
        opened.wal.append(&one).unwrap();
        run_all(&mut opened).unwrap();
    }
    opened.wal.cut(Index::new(40));
    run_all(&mut opened).unwrap();
    drop(opened);
    let segments = segment_files(&disk);
    assert!(segments[0].as_str() > "wal-0000000001.log", "{segments:?}");
    for segment in &segments {
        disk.plant(segment, vec![0; 4096]);
    }
    let changes = disk.changes();
    let error = open(&disk, 4096).map(|_| ()).expect_err("it had promised something");
    assert!(matches!(error, WalError::Corrupt { .. }), "{error}");
    assert_eq!(disk.changes(), changes, "nothing was written");
}
