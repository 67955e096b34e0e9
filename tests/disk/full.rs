//! A full disk: writes that need room are refused before it is full, everything else goes on, and so do the writes when
//! there is room again.

use crate::rig::{Rig, can_run};
use tests::{
    cluster::Options,
    disk::Filler,
    rpc::{self, Outcome},
    wait::wait_for,
};
use tonic::Code;

const DISK_BYTES: u64 = 48 << 20;
const SEGMENT_BYTES: u64 = 1 << 20;

/// What the node keeps free, and what the rest of the machine's files leave for it at first.
const RESERVE_BYTES: u64 = 8 << 20;
const LEFT_BYTES: u64 = 16 << 20;

/// Together more than the disk.
const KEYS_MAX: usize = 1_000;

const VALUE_BYTES: usize = 64 << 10;

/// Deletes that are acknowledged while the disk is full.
const DELETES: usize = 10;

fn key(number: usize) -> String {
    format!("key-{number}")
}

#[tokio::test]
async fn a_full_disk_refuses_puts_in_time_and_takes_them_again_when_there_is_room() {
    if !can_run("a full disk") {
        return;
    }
    let reserve = RESERVE_BYTES.to_string();
    let options = Options { size: 1, segment_bytes: Some(SEGMENT_BYTES), ..Options::default() }
        .with_flags(&["--space-reserve-bytes", &reserve]);
    let mut rig = Rig::start(&options, DISK_BYTES).await;
    let filler = Filler::leave(&rig.disk(0).mount_point().join("filler"), LEFT_BYTES);
    let value = "v".repeat(VALUE_BYTES);

    let mut acknowledged = 0;
    let refused = loop {
        assert!(acknowledged < KEYS_MAX, "more was taken than the disk holds");
        match rig.cluster.put(0, &key(acknowledged), &value).await {
            Ok(_) => acknowledged += 1,
            answer => break rpc::failure(answer),
        }
    };
    refused.expect(Code::ResourceExhausted, "STORAGE_FULL");
    refused.expect_outcome(Outcome::NotApplied);
    assert!(rig.disk(0).free_bytes() > 0, "it is refused before the disk is full");
    assert!(acknowledged > DELETES, "{acknowledged} puts were taken before");

    expect_value(&rig, &key(0), &value).await;
    for number in 0..DELETES {
        rig.cluster.delete(0, &key(number)).await.expect("a delete makes room");
    }
    // A node that is started on a full disk serves what it has.
    rig.cluster.nodes[0].terminate();
    assert!(rig.cluster.nodes[0].exit_status().await.success());
    rig.cluster.start_all();
    rig.cluster.ready().await;
    rpc::failure(rig.cluster.get(0, &key(0)).await).expect(Code::NotFound, "KEY_NOT_FOUND");
    for number in DELETES..acknowledged {
        expect_value(&rig, &key(number), &value).await;
    }
    rig.cluster.delete(0, &key(DELETES)).await.expect("a delete makes room");

    drop(filler);
    wait_for("puts are taken again", async || rig.cluster.put(0, "later", &value).await.ok()).await;
    expect_value(&rig, "later", &value).await;
    assert_eq!(rig.cluster.converged().await.key_count, (acknowledged - DELETES) as u64);
}

async fn expect_value(rig: &Rig, key: &str, value: &str) {
    let found = rig.cluster.get(0, key).await.unwrap_or_else(|status| panic!("{key} was acknowledged: {status}"));
    assert!(found == value, "{key} has another value");
}
