//! A disk that stands still for a while, without an error: its node leads no longer, and nothing is lost.

use crate::rig::{Rig, SMALL_DISK, can_run};
use proto::admin::v1::Role;
use tests::{
    clients::{Clients, Workload},
    cluster::Options,
    recorder::{Least, Recorder},
    rpc,
    wait::wait_for,
};

const DISK_BYTES: u64 = 64 << 20;

/// Leaders whose disks stand still, one after the other.
const STALLS: usize = 2;

/// Writes that are acknowledged before, during and after each at least.
const WRITES_PER_ROUND: u64 = 60;

const WORKLOAD: Workload = Workload { clients: 4, keys: 2, operations_per_generation: 50 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_stands_still_is_replaced_and_no_write_is_lost() {
    if !can_run("a disk that stands still") {
        return;
    }
    let mut rig = Rig::start(&Options::default().with_flags(&SMALL_DISK), DISK_BYTES).await;
    let recorder = Recorder::new("stalled-disks");
    let clients = Clients::start(&rig.cluster, &recorder, WORKLOAD);
    for _ in 0..STALLS {
        clients.progress(WRITES_PER_ROUND).await;
        let stalled = rig.cluster.ready().await;
        rig.disk(stalled).freeze();
        wait_for("another node leads", async || {
            for other in rig.cluster.others(stalled) {
                let status = rpc::status(&rig.cluster.nodes[other].channel()).await.ok()?;
                if status.role() == Role::Leader {
                    return Some(());
                }
            }
            None
        })
        .await;
        clients.progress(WRITES_PER_ROUND).await;
        rig.disk(stalled).thaw();
        rig.cluster.ready().await;
    }
    clients.progress(WRITES_PER_ROUND).await;
    clients.finish().await;
    recorder.read_every_key(&rig.cluster).await;
    recorder.judge(Least { definite: 200, overlapping: 60 });
    rig.cluster.put(0, "last", "v").await.expect("a healthy cluster answers");
    rig.cluster.converged().await;
}
