//! Three nodes over real disks and real connections: how they find each other, and who may take part.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use engine::identity::FILE_NAME as IDENTITY;
use proto::raft::v1::raft_service_client::RaftServiceClient;
use proto::raft::v1::{AppendEntriesRequest, ControlRequest, Heartbeat, control_request};
use quorate_server::node::{NodeStatus, Role, TransferError, Unavailable, WriteError};
use tempfile::TempDir;
use tokio_stream::wrappers::ReceiverStream;

use crate::member::{Member, PATIENCE, addresses, in_time, listen, listen_again, put, real_disk, soon};
use crate::streams::introduced;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

struct Three {
    root: TempDir,
    addresses: BTreeMap<String, String>,
    running: BTreeMap<&'static str, Member>,
}

impl Three {
    /// Starts three empty nodes, and waits until each is ready.
    async fn start() -> Self {
        let root = TempDir::new().expect("there is room for temporary files");
        let bound = NAMES.map(|name| (name, listen()));
        let members: Vec<(&str, &str)> = bound.iter().map(|(name, (_, address))| (*name, address.as_str())).collect();
        let addresses = addresses(&members);
        let mut three = Self { root, addresses, running: BTreeMap::new() };
        for (name, (listener, _)) in bound {
            let disk = real_disk(&three.directory(name)).await;
            three.running.insert(name, Member::start(name, disk, Some(listener), &three.addresses));
        }
        for member in three.running.values() {
            member.until("readiness", |status| status.not_ready.is_none()).await;
        }
        three
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Starts a node that was killed.
    async fn restart(&mut self, name: &'static str) -> &Member {
        let disk = real_disk(&self.directory(name)).await;
        let listener = listen_again(&self.addresses[name]).await;
        self.running.insert(name, Member::start(name, disk, Some(listener), &self.addresses));
        &self.running[name]
    }

    /// Kills a node, and returns the incarnation that it was.
    async fn kill(&mut self, name: &str) -> u64 {
        let incarnation = self.running.remove(name).expect("it runs").incarnation;
        // Its directory is free when it has ended.
        drop(real_disk(&self.directory(name)).await);
        incarnation
    }

    /// Who leads, as a running node that leads says.
    async fn leader(&self) -> &'static str {
        let found = async {
            loop {
                let leads = |member: &Member| member.handle.status().role == Role::Leader;
                if let Some((name, _)) = self.running.iter().find(|(_, member)| leads(member)) {
                    return *name;
                }
                tokio::task::yield_now().await;
            }
        };
        in_time("a leader", found).await
    }

    async fn follower(&self) -> &'static str {
        let leader = self.leader().await;
        self.running.keys().find(|name| **name != leader).expect("several run")
    }

    /// Writes through whoever leads, until it is acknowledged.
    async fn write(&self, key: &str) {
        let write = async {
            loop {
                match self.running[self.leader().await].handle.write(put(key), soon()).await {
                    Ok(_) => return,
                    Err(WriteError::Unavailable(_) | WriteError::Dropped { .. }) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            }
        };
        in_time("an acknowledged write", write).await;
    }

    /// Waits until all running nodes have the same `keys` keys.
    async fn until_equal(&self, keys: u64) {
        let mut hashes = Vec::new();
        for member in self.running.values() {
            hashes.push(member.until("all keys", |status| status.key_count == keys).await.state_hash);
        }
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:x?}");
    }
}

#[tokio::test]
async fn empty_nodes_found_one_cluster_that_goes_on_after_a_kill() {
    let mut three = Three::start().await;
    let statuses: Vec<_> = three.running.values().map(|member| member.handle.status()).collect();
    for status in &statuses {
        assert!(status.cluster_id.is_some() && status.cluster_id == statuses[0].cluster_id);
        let names: Vec<&str> = status.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, NAMES);
        assert!(status.members.iter().all(|member| member.voter));
    }
    for member in three.running.values() {
        member.until("reach", |status| status.members.iter().all(|member| member.reachable)).await;
    }
    three.write("a").await;
    three.until_equal(1).await;

    let follower = &three.running[three.follower().await];
    let knows = follower.until("the leader's address", |status| {
        status.leader.as_ref().is_some_and(|leader| leader.client_address.is_some())
    });
    let leader = knows.await.leader.expect("it was just there");
    assert_eq!(leader.client_address, Some(format!("{}:1", leader.name)));
    let refused = follower.handle.write(put("b"), soon()).await;
    let Err(WriteError::Unavailable(Unavailable::NotLeader { leader: Some(named), .. })) = refused else {
        panic!("a follower does not write: {refused:?}");
    };
    assert_eq!(named.name, leader.name);

    let killed = three.leader().await;
    three.kill(killed).await;
    for member in three.running.values() {
        let reaches_the_others =
            |status: &NodeStatus| status.members.iter().all(|member| member.reachable == (member.name != killed));
        member.until("the loss of the killed", reaches_the_others).await;
    }
    three.write("b").await;
    let restarted = three.restart(killed).await;
    restarted.until("readiness", |status| status.not_ready.is_none()).await;
    three.until_equal(2).await;
}

#[tokio::test]
async fn leadership_is_handed_to_whom_it_is_asked_for() {
    let three = Three::start().await;
    let (leader, target) = (three.leader().await, three.follower().await);
    let until = std::time::Instant::now() + PATIENCE;
    let handle = &three.running[leader].handle;
    let to = |name: &str| handle.transfer_leadership(Some(name.to_owned()), until);
    assert_eq!(to("n9").await, Err(TransferError::NotAVoter("n9".to_owned())));
    assert_eq!(to(leader).await, Err(TransferError::AlreadyLeader(leader.to_owned())));
    let (new, term) = to(target).await.expect("the target has everything");
    assert_eq!((new.name.as_str(), new.is_self), (target, false));
    let status = three.running[target].until_leading().await;
    assert!(status.term >= term);
    let refused = three.running[leader].handle.transfer_leadership(None, until).await;
    assert!(matches!(refused, Err(TransferError::Unavailable(Unavailable::NotLeader { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_member_that_forgot_its_promises_stays_outside() {
    let mut three = Three::start().await;
    three.write("a").await;
    three.until_equal(1).await;

    // Its log is gone, its identity is not.
    three.kill("n3").await;
    let (directory, aside) = (three.directory("n3"), three.root.path().join("aside"));
    fs::rename(&directory, &aside).expect("it is a directory");
    fs::create_dir(&directory).expect("the name is free");
    fs::copy(aside.join(IDENTITY), directory.join(IDENTITY)).expect("it has an identity");
    for _ in 0..2 {
        three.restart("n3").await.until_outside("the log of this member is gone").await;
        three.kill("n3").await;
    }
    // Everything is gone.
    fs::remove_file(directory.join(IDENTITY)).expect("it was just there");
    let wiped = three.restart("n3").await;
    wiped.until_outside("this data directory was empty").await;
    let refused = wiped.handle.write(put("b"), soon()).await;
    assert!(matches!(refused, Err(WriteError::Unavailable(Unavailable::NotReady(_)))), "{refused:?}");
    three.write("b").await;
    assert_eq!(three.running["n3"].handle.status().term, 0, "it takes no part");

    // What it had is back.
    three.kill("n3").await;
    fs::remove_dir_all(&directory).expect("nobody holds it");
    fs::rename(&aside, &directory).expect("the name is free");
    three.restart("n3").await;
    three.until_equal(2).await;
}

#[tokio::test]
async fn nonsense_of_a_peer_is_counted_and_the_node_goes_on() {
    let mut three = Three::start().await;
    let target = three.leader().await;
    let posed = three.follower().await;
    let from = three.kill(posed).await;
    let status = three.running[target].handle.status();
    let cluster = u128::from_be_bytes(status.cluster_id.expect("it is a member"));
    let who = (cluster, from, status.incarnation);

    let client = RaftServiceClient::connect(format!("http://{}", three.addresses[target]));
    let mut client = client.await.expect("it listens");
    let (control, requests) = tokio::sync::mpsc::channel(8);
    let _answers = client.control(introduced(ReceiverStream::new(requests), who)).await.expect("it is a peer");
    let (append, requests) = tokio::sync::mpsc::channel(8);
    let _answers = client.append_entries(introduced(ReceiverStream::new(requests), who)).await.expect("it is a peer");
    let heartbeat = control_request::Body::Heartbeat(Heartbeat { commit_index: u64::MAX, round: u64::MAX });
    for (term, body) in [(1, None), (u64::MAX, Some(heartbeat)), (0, Some(heartbeat))] {
        control.send(ControlRequest { term, body, ..Default::default() }).await.expect("the stream is open");
    }
    let bad_entries = AppendEntriesRequest {
        term: status.term,
        entries: vec![proto::raft::v1::Entry { term: u64::MAX, index: u64::MAX, payload: None }],
        ..AppendEntriesRequest::default()
    };
    append.send(bad_entries).await.expect("the stream is open");
    append.send(AppendEntriesRequest { term: u64::MAX, ..AppendEntriesRequest::default() }).await.expect("it still is");

    let counts = [("malformed", 2), ("term_too_far_ahead", 2), ("term_zero", 1)];
    let counted =
        |reason: &str, status: &quorate_server::node::NodeStatus| status.dropped_messages.get(reason).copied();
    let all = |status: &_| counts.iter().all(|(reason, count)| counted(reason, status) == Some(*count));
    let after = three.running[target].until("all five to be counted", all).await;
    assert_eq!((after.term, after.role), (status.term, Role::Leader), "it is not impressed");
    three.write("a").await;
    assert_eq!(three.running[target].value("a").await, Some(Bytes::from_static(b"a")));
}
