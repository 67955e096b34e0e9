//! The operator's interface: status, members, leadership transfer, logs.

use proto::admin::v1::{
    ListMembersRequest, Role, TransferLeadershipRequest, TransferLeadershipResponse,
    admin_service_client::AdminServiceClient,
};
use std::collections::BTreeSet;
use tests::{binaries, cluster::Cluster, rpc, wait::wait_for};
use tonic::{Code, Status};

async fn transfer(cluster: &Cluster, asked: usize, target: &str) -> Result<TransferLeadershipResponse, Status> {
    let request = TransferLeadershipRequest { target: target.to_owned() };
    rpc::bounded(AdminServiceClient::new(cluster.nodes[asked].channel()).transfer_leadership(request)).await
}

#[tokio::test]
async fn status_describes_each_node_and_all_agree() {
    let cluster = Cluster::of_three().await;
    for number in 0..5 {
        cluster.put(number % 3, &format!("k{number}"), "v").await.expect("the key is new");
    }
    cluster.converged().await;
    let leader = cluster.leader().await;
    let statuses = cluster.statuses().await.expect("every node answers");
    for (number, status) in &statuses {
        assert_eq!(status.name, cluster.nodes[*number].name());
        assert_eq!(status.leader_name, cluster.nodes[leader].name());
        assert_eq!(status.leader_address, cluster.nodes[leader].address().to_string());
        assert_eq!(status.role(), if *number == leader { Role::Leader } else { Role::Follower });
        assert_eq!((status.cluster_id.len(), status.state_hash.len()), (16, 16), "{status:?}");
        assert_eq!(status.cluster_id, statuses[0].1.cluster_id);
        assert_ne!(status.incarnation, 0);
        assert_eq!(status.key_count, 5);
        assert!(status.commit_index <= status.last_index && status.applied_index <= status.commit_index, "{status:?}");
        assert!(!status.version.is_empty() && status.not_ready_reason.is_empty(), "{status:?}");
        assert_eq!(status.dropped_messages.values().sum::<u64>(), 0, "nobody sent nonsense: {status:?}");
    }
    wait_for("the leader knows how far both followers are", async || {
        let status = rpc::status(&cluster.nodes[leader].channel()).await.ok()?;
        let caught_up = |peer: &proto::admin::v1::PeerProgress| peer.active && peer.match_index == status.last_index;
        (status.peers.len() == 2 && status.peers.iter().all(caught_up)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_node_lists_the_same_members() {
    let cluster = Cluster::of_three().await;
    for node in &cluster.nodes {
        let mut admin = AdminServiceClient::new(node.channel());
        let answer = wait_for("the node knows where clients reach each member", async || {
            let answer = rpc::bounded(admin.list_members(ListMembersRequest {})).await.expect("any node answers");
            answer.members.iter().all(|member| !member.client_address.is_empty()).then_some(answer)
        })
        .await;
        let names: Vec<&str> = answer.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
        let incarnations: BTreeSet<u64> = answer.members.iter().map(|member| member.incarnation).collect();
        assert!(incarnations.len() == 3 && !incarnations.contains(&0), "{answer:?}");
        for (member, node) in answer.members.iter().zip(&cluster.nodes) {
            assert!(member.voter, "{member:?}");
            assert_eq!(member.client_address, node.address().to_string());
            assert_eq!(member.peer_address, node.address().to_string());
        }
    }
}

#[tokio::test]
async fn leadership_moves_to_the_named_member_and_writes_go_on() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let target = cluster.others(leader)[1];
    let before = rpc::status(&cluster.nodes[leader].channel()).await.expect("the leader answers").term;
    let answer = transfer(&cluster, leader, cluster.nodes[target].name()).await.expect("the target is a voter");
    assert_eq!(answer.leader_name, cluster.nodes[target].name());
    assert!(answer.term > before, "{answer:?}");
    assert_eq!(cluster.leader().await, target);
    for node in 0..3 {
        cluster.put(node, &format!("k{node}"), "v").await.expect("the new leader serves");
    }
}

#[tokio::test]
async fn leadership_moves_to_the_furthest_member_if_none_is_named() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let answer = transfer(&cluster, leader, "").await.expect("there are other voters");
    let successor = cluster.leader().await;
    assert_ne!(successor, leader);
    assert_eq!(answer.leader_name, cluster.nodes[successor].name());
}

#[tokio::test]
async fn a_transfer_to_nobody_or_asked_of_a_follower_is_refused() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let unknown = rpc::failure(transfer(&cluster, leader, "n9").await);
    assert_eq!(unknown.code, Code::InvalidArgument, "{unknown:?}");
    let misdirected = rpc::failure(transfer(&cluster, follower, "").await);
    misdirected.expect(Code::Unavailable, "NOT_LEADER");
    assert_eq!(cluster.leader().await, leader, "nothing has moved");
}

#[tokio::test]
async fn a_transfer_to_a_dead_member_fails_and_the_leader_goes_on() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let dead = cluster.others(leader)[0];
    cluster.nodes[dead].kill();
    let failure = rpc::failure(transfer(&cluster, leader, cluster.nodes[dead].name()).await);
    assert!(matches!(failure.code, Code::DeadlineExceeded | Code::Unavailable), "{failure:?}");
    wait_for("the cluster takes writes again", async || cluster.put(leader, "k", "v").await.ok()).await;
}

#[tokio::test]
async fn what_a_node_logs_is_changed_while_it_runs() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let endpoint = cluster.nodes[follower].address().to_string();
    let client = |arguments: &[&str]| {
        let output = binaries::command(&binaries::client())
            .args(["--endpoints", &endpoint, "-o", "raw", "log-filter"])
            .args(arguments)
            .output()
            .expect("the client starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let shown = |filter: &str, other: &str| (Some(0), format!("{endpoint}\t{filter}\t{other}\n"), String::new());
    let (_, first, _) = client(&[]);
    let configured = first.trim_end().rsplit('\t').next().expect("three columns").to_owned();
    assert_eq!(client(&[]), shown(&configured, &configured));
    assert_eq!(client(&["off"]), shown("off", &configured));
    assert_eq!(client(&[]), shown("off", &configured));
    let (code, shown_then, complaint) = client(&["info=chatty=x"]);
    assert!(code == Some(6) && (shown_then + &complaint).contains("is not understood"), "{code:?} {complaint}");
    assert_eq!(client(&[]), shown("off", &configured), "and the node logs as before");
    let silent = cluster.nodes[follower].log();
    assert!(silent.contains("an operator changes what is logged"), "{silent}");
    cluster.nodes[leader].kill();
    assert_ne!(cluster.leader().await, leader);
    assert_eq!(cluster.nodes[follower].log(), silent, "an election, and not a word");
    assert_eq!(client(&["--reset"]), shown(&configured, "off"));
}
