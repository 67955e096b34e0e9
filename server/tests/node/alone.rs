//! One node by itself: what it says of writes that it did not finish, how it ends, and when it may not begin.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::disk::{Disk as _, Fault, MemoryDisk, Operation};
use engine::identity::FILE_NAME as IDENTITY;
use engine::kv::Applied;
use quorate_server::node::{NodeError, RequestContext, Role, Unavailable, WriteError};

use crate::disk::GatedDisk;
use crate::member::{Member, addresses, get, in_time, put, soon};

fn due(deadline: Instant) -> RequestContext {
    RequestContext { deadline, trace: None }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let disk = MemoryDisk::new();
    let node = Member::alone(Arc::new(disk.clone()));
    let status = node.until_leading().await;
    assert_eq!((status.name.as_str(), status.role, status.members.len()), ("n1", Role::Leader, 1));
    let written = node.handle.write(put("a"), soon()).await.expect("a leader writes");
    assert!(matches!(written.applied, Applied::Put { version: 1, .. }), "{written:?}");
    let status = node.until("the new key", |status| status.key_count == 1).await;
    assert_eq!((status.revision, status.not_ready), (2, None));
    node.stop().await.expect("a node that is told to stops well");

    // Of what was not synced, nothing survives.
    disk.crash(&mut |_| false);
    let node = Member::alone(Arc::new(disk));
    assert_eq!(node.until_leading().await.cluster_id, status.cluster_id);
    assert_eq!(node.value("a").await, Some(Bytes::from_static(b"a")));
}

#[tokio::test]
async fn a_write_whose_deadline_passes_before_it_is_taken_up_is_never_applied() {
    let node = Member::alone(Arc::new(MemoryDisk::new()));
    node.until_leading().await;
    let mut expired = 0;
    for key in (0..100).map(|number| format!("late {number}")) {
        let past = Instant::now() - Duration::from_millis(10);
        match node.handle.write(put(&key), due(past)).await {
            Err(WriteError::Expired) => {
                expired += 1;
                // What is applied is applied before this.
                node.handle.write(put("mark"), soon()).await.expect("a leader writes");
                assert_eq!(node.value(&key).await, None);
            }
            // The loop was faster, and nothing is claimed.
            Err(WriteError::DeadlineExceeded { .. }) | Ok(_) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(expired > 0, "the loop was faster a hundred times");
}

#[tokio::test]
async fn a_write_whose_deadline_passes_later_has_an_unknown_outcome() {
    let disk = GatedDisk::default();
    let node = Member::alone(Arc::new(disk.clone()));
    let term = node.until_leading().await.term;
    node.handle.write(put("first"), soon()).await.expect("a leader writes");

    disk.close();
    let (at, index) = loop {
        match node.handle.write(put("slow"), due(Instant::now() + Duration::from_millis(100))).await {
            Err(WriteError::DeadlineExceeded { term, index }) => break (term, index),
            // The machine was busy elsewhere, and the loop did not come to it.
            Err(WriteError::Expired) => {}
            other => panic!("it is not durable: {other:?}"),
        }
    };
    assert_eq!(at, term);
    assert!(index > 1, "it has a place in the log");
    disk.open();
    node.until("both keys", |status| status.key_count == 2).await;
    assert_eq!(node.value("slow").await, Some(Bytes::from_static(b"slow")), "unknown was the truth");
}

#[tokio::test]
async fn the_first_failed_sync_ends_the_node() {
    let disk = MemoryDisk::new();
    let mut node = Member::alone(Arc::new(disk.clone()));
    node.until_leading().await;
    node.handle.write(put("a"), soon()).await.expect("a leader writes");

    disk.fail(Operation::SyncData, 1, Fault::Error(ErrorKind::Other));
    let (first, second) = tokio::join!(node.handle.write(put("b"), soon()), node.handle.write(put("c"), soon()));
    for write in [first, second] {
        let unacknowledged = matches!(write, Err(WriteError::Stopped | WriteError::Unavailable(Unavailable::Draining)));
        assert!(unacknowledged, "the disk failed: {write:?}");
    }
    let end = node.end().await;
    assert!(matches!(end, Err(NodeError::Loop(_))), "{end:?}");
    assert_eq!(node.handle.write(put("d"), soon()).await, Err(Unavailable::Draining.into()));

    disk.crash(&mut |_| false);
    let node = Member::alone(Arc::new(disk));
    node.until_leading().await;
    assert_eq!(node.value("a").await, Some(Bytes::from_static(b"a")));
    assert_eq!(node.value("d").await, None);
}

#[tokio::test]
async fn a_node_under_load_stops_when_it_is_told_to() {
    let node = Member::alone(Arc::new(MemoryDisk::new()));
    node.until_leading().await;
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let handle = node.handle.clone();
        load.spawn(async move {
            while handle.read(get("a"), soon()).await.is_ok() {
                // Whoever shares the thread comes to run.
                tokio::task::yield_now().await;
            }
        });
    }
    node.handle.write(put("a"), soon()).await.expect("a leader writes");
    node.stop().await.expect("a node that is told to stops well");
    in_time("the readers' end", load.join_all()).await;
}

#[tokio::test]
async fn a_disk_that_stands_still_does_not_keep_the_node() {
    let disk = GatedDisk::default();
    let node = Member::alone(Arc::new(disk.clone()));
    node.until_leading().await;
    disk.close();
    let handle = node.handle.clone();
    let write = tokio::spawn(async move { handle.write(put("a"), soon()).await });
    node.until("a write that waits for the disk", |status| status.last_index == 2).await;
    node.stop().await.expect("it stops as told");
    let unknown = in_time("the write's end", write).await.expect("it does not panic");
    assert_eq!(unknown, Err(WriteError::Stopped));
    disk.open();
}

#[tokio::test]
async fn a_member_of_others_than_configured_is_refused() {
    let disk = MemoryDisk::new();
    let node = Member::alone(Arc::new(disk.clone()));
    node.until_leading().await;
    node.stop().await.expect("a node that is told to stops well");

    let other = addresses(&[("n1", "127.0.0.1:1"), ("n2", "127.0.0.1:1")]);
    let node = Member::start("n1", Arc::new(disk), None, &other);
    node.until_outside("correct the peers").await;
    let refused = node.handle.write(put("a"), soon()).await;
    assert!(matches!(refused, Err(WriteError::Unavailable(Unavailable::NotReady(_)))), "{refused:?}");
    node.stop().await.expect("it waits for nothing else");
}

#[tokio::test]
async fn a_log_whose_identity_is_gone_is_no_new_members() {
    let disk = MemoryDisk::new();
    let node = Member::alone(Arc::new(disk.clone()));
    node.until_leading().await;
    node.handle.write(put("a"), soon()).await.expect("a leader writes");
    node.stop().await.expect("a node that is told to stops well");

    let identity = disk.contents(IDENTITY).expect("a member has one");
    disk.lose(IDENTITY);
    for _ in 0..2 {
        let node = Member::alone(Arc::new(disk.clone()));
        node.until_outside("no identity of a member that it belongs to").await;
        node.stop().await.expect("it waits for nothing else");
    }
    disk.plant(IDENTITY, identity);
    let node = Member::alone(Arc::new(disk));
    node.until_leading().await;
    assert_eq!(node.value("a").await, Some(Bytes::from_static(b"a")));
}

#[tokio::test]
async fn a_member_whose_log_is_gone_stays_outside_at_every_start() {
    let disk = MemoryDisk::new();
    let node = Member::alone(Arc::new(disk.clone()));
    node.until_leading().await;
    node.stop().await.expect("a node that is told to stops well");

    let whole = disk.fork();
    for name in disk.list().expect("the disk works") {
        assert!(name == IDENTITY || disk.lose(&name));
    }
    for _ in 0..2 {
        let node = Member::alone(Arc::new(disk.clone()));
        node.until_outside("the log of this member is gone").await;
        node.stop().await.expect("it waits for nothing else");
        assert_eq!(disk.list().expect("the disk works"), [IDENTITY], "no other log was begun in its place");
    }
    Member::alone(Arc::new(whole)).until_leading().await;
}
