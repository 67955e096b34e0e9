//! A sync that failed is never tried again: the kernel reports lost pages once, and the second sync would succeed
//! without them ("fsyncgate", <https://wiki.postgresql.org/wiki/Fsync_Errors>).

use crate::rig::{Rig, SMALL_DISK, can_run};
use tests::{cluster::Options, disk::Filler, rpc, wait::wait_for};

/// What the disk promises, and what there is behind it: room for its journal, its tables and some segments.
const DISK_BYTES: u64 = 64 << 20;
const MEMORY_BYTES: u64 = 32 << 20;

/// The node whose disk's device fails.
const VICTIM: usize = 1;

/// Keys that are written before the device fails.
const KEYS_BEFORE: usize = 20;

/// Together more than the segments that a node has ready, so that it has to make new ones.
const KEYS_MAX: usize = 2_000;

const VALUE_BYTES: usize = 16 << 10;

fn key(number: usize) -> String {
    format!("key-{number}")
}

fn value(number: usize) -> String {
    format!("{number:x>VALUE_BYTES$}")
}

#[tokio::test]
async fn the_first_failed_sync_ends_the_process_and_nothing_acknowledged_is_lost() {
    if !can_run("a device that fails") {
        return;
    }
    let mut rig = Rig::new(&Options::default().with_flags(&SMALL_DISK));
    let memory = rig.add_disk_in_memory(VICTIM, DISK_BYTES, MEMORY_BYTES).to_owned();
    rig.cluster.start_all();
    rig.cluster.ready().await;
    let survivors = rig.cluster.others(VICTIM);
    let mut acknowledged = 0;
    for number in 0..KEYS_BEFORE {
        rig.cluster.put(VICTIM, &key(number), &value(number)).await.expect("the key is new");
        acknowledged += 1;
    }

    // From here on the disk believes that it has room, and its device has none.
    let filler = Filler::leave(&memory.join("filler"), 0);
    while rig.cluster.nodes[VICTIM].crashed().is_none() {
        assert!(acknowledged < KEYS_MAX, "the process goes on on a device that takes nothing");
        // A leader that goes is replaced; until then nobody takes a write for certain.
        let key = key(acknowledged);
        let node = survivors[acknowledged % survivors.len()];
        wait_for("the majority takes a write", async || {
            match rig.cluster.put(node, &key, &value(acknowledged)).await {
                Ok(_) => Some(()),
                Err(status) => (status.code() == tonic::Code::AlreadyExists).then_some(()),
            }
        })
        .await;
        acknowledged += 1;
    }
    let status = rig.cluster.nodes[VICTIM].exit_status().await;
    let log = rig.cluster.nodes[VICTIM].log_since_start();
    assert!(status.code().is_some_and(|code| code != 0), "it ends by itself, and not as if all were well: {status}");
    // Which error it is depends on the layer of the kernel that first finds no room: mostly the sync fails, with one of
    // two errors; where the file system's own journal was first, the disk has become read-only.
    let says = ["the write-ahead log failed: ", " wal-000000", "(os error "].iter().all(|part| log.contains(part));
    assert!(says, "the log says what happened: {log}");
    assert!(!log.contains("panicked"), "{log}");

    // The others go on, and the node joins them again once its device works.
    rig.cluster.leader().await;
    rig.cluster.put(survivors[0], "meanwhile", "v").await.expect("a majority is up");
    drop(filler);
    rig.remount(VICTIM);
    rig.cluster.nodes[VICTIM].start();
    rig.cluster.ready().await;
    for number in 0..acknowledged {
        let found = rpc::get_text(&rig.cluster.nodes[VICTIM].channel(), &key(number)).await;
        assert!(found.is_ok_and(|found| found == value(number)), "{} was acknowledged", key(number));
    }
    assert_eq!(rig.cluster.converged().await.key_count, acknowledged as u64 + 1);
}
