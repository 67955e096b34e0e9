//! Starting and ending processes: what a node accepts, what it refuses, and what it says then.

use std::{fs, path::Path};
use tests::{
    cluster::{Cluster, Options},
    node::{Launch, Node, run_to_end},
    rpc,
    wait::wait_for,
};
use tokio::task::JoinSet;

/// Puts that are under way when a node is asked to end.
const PUTS_IN_FLIGHT: usize = 32;

/// `EX_USAGE` of `sysexits.h`.
const BAD_CONFIGURATION: i32 = 64;

// On one thread: the tasks run, and so the requests leave, in the order in which they were spawned.
#[tokio::test]
async fn a_terminated_leader_answers_what_it_has_begun_and_exits_0() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let channel = cluster.nodes[leader].channel();
    cluster.put(leader, "first", "v").await.expect("the key is new");
    let mut puts = JoinSet::new();
    for number in 0..PUTS_IN_FLIGHT {
        let channel = channel.clone();
        puts.spawn(async move {
            let key = format!("k{number}");
            let answer = rpc::put(&channel, &key, "v").await;
            (key, answer)
        });
    }
    tokio::task::yield_now().await;
    // Asked last on the same connection: its answer shows that all puts have arrived.
    rpc::status(&channel).await.expect("the leader answers");
    cluster.nodes[leader].terminate();
    let answers = puts.join_all().await;
    let status = cluster.nodes[leader].exit_status().await;
    assert_eq!(status.code(), Some(0), "{status}");

    let survivor = cluster.others(leader)[0];
    cluster.leader().await;
    for (key, answer) in answers {
        match answer {
            Ok(_) => assert_eq!(cluster.get(survivor, &key).await.expect("it was acknowledged"), "v"),
            Err(status) => {
                let failure = rpc::Failure::of(&status);
                assert!(failure.reason.is_some(), "a drained put ends with a typed error: {failure:?}");
            }
        }
    }
    cluster.nodes[leader].start();
    cluster.ready().await;
    cluster.converged().await;
}

#[tokio::test]
async fn a_terminated_cluster_exits_0_and_comes_back_with_its_data() {
    let mut cluster = Cluster::of_three().await;
    cluster.put(1, "k", "v").await.expect("the key is new");
    for node in &cluster.nodes {
        node.terminate();
    }
    for node in &mut cluster.nodes {
        let status = node.exit_status().await;
        assert_eq!(status.code(), Some(0), "{}: {status}", node.name());
    }
    cluster.start_all();
    cluster.ready().await;
    assert_eq!(cluster.get(2, "k").await.expect("it was acknowledged"), "v");
}

#[tokio::test]
async fn a_single_node_serves_alone_and_keeps_its_data() {
    let mut cluster = Cluster::start(Options { size: 1, ..Options::default() }).await;
    cluster.put(0, "k", "v").await.expect("the key is new");
    cluster.nodes[0].kill();
    cluster.start_all();
    cluster.ready().await;
    assert_eq!(cluster.get(0, "k").await.expect("it was acknowledged"), "v");
}

#[tokio::test]
async fn five_nodes_serve_with_two_of_them_down() {
    let mut cluster = Cluster::start(Options { size: 5, ..Options::default() }).await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    cluster.nodes[leader].kill();
    cluster.nodes[follower].kill();
    cluster.leader().await;
    let survivor = (0..5).find(|node| ![leader, follower].contains(node)).expect("three are left");
    cluster.put(survivor, "k", "v").await.expect("three of five are a majority");
    cluster.start_all();
    cluster.ready().await;
    assert_eq!(cluster.get(leader, "k").await.expect("it was acknowledged"), "v");
}

/// Waits until a running node says that it does not take part because its data directory was empty.
async fn says_that_it_was_wiped(cluster: &Cluster, node: usize) {
    let channel = cluster.nodes[node].channel();
    wait_for("the node says why it is not ready", async || {
        let status = rpc::status(&channel).await.ok()?;
        (!status.ready && status.not_ready_reason.contains("data directory was empty")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_whose_data_was_deleted_stays_up_not_ready_and_says_what_to_do() {
    let mut cluster = Cluster::start(Options::default().with_flags(&["--request-timeout-ms", "2000"])).await;
    cluster.put(0, "k", "v").await.expect("the key is new");
    let leader = cluster.leader().await;
    let [wiped, other] = cluster.others(leader)[..] else { panic!("three nodes have one leader") };
    cluster.nodes[wiped].kill();
    cluster.nodes[wiped].wipe();
    cluster.nodes[wiped].start();

    says_that_it_was_wiped(&cluster, wiped).await;
    for node in [leader, other] {
        cluster.put(node, &format!("through {node}"), "v").await.expect("the other two go on");
    }
    // With one of the two down, the wiped node's vote or acknowledgement would make a majority: there must be none.
    cluster.nodes[leader].kill();
    for _ in 0..2 {
        let failure = rpc::failure(cluster.put(other, "unsupported", "v").await);
        assert!(failure.reason.is_some(), "{failure:?}");
    }
    let status = rpc::status(&cluster.nodes[wiped].channel()).await.expect("the wiped node is up");
    assert!(!status.ready, "{status:?}");
    assert_eq!(status.key_count, 0, "it has no state: {status:?}");
    cluster.nodes[leader].start();
    wait_for("the other two serve again", async || cluster.get(other, "k").await.ok()).await;
    says_that_it_was_wiped(&cluster, wiped).await;
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("a data directory can be listed") {
        let entry = entry.expect("a data directory can be listed");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file has a type").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

#[tokio::test]
async fn a_node_with_another_clusters_data_is_kept_out() {
    let mut donor = Cluster::of_three().await;
    donor.put(0, "foreign", "v").await.expect("the key is new");
    donor.converged().await;
    donor.nodes[2].kill();
    let kept = tempfile::tempdir().expect("a temporary directory can be made");
    copy_directory(donor.nodes[2].directory(), kept.path());
    drop(donor);

    let mut cluster = Cluster::of_three().await;
    cluster.put(0, "own", "v").await.expect("the key is new");
    cluster.nodes[2].kill();
    cluster.nodes[2].wipe();
    copy_directory(kept.path(), cluster.nodes[2].directory());
    cluster.nodes[2].start();

    // It may refuse to run or stay outside; it must not take part.
    wait_for("the foreign node says that it is not ready, or ends", async || {
        match rpc::status(&cluster.nodes[2].channel()).await {
            Ok(status) => (!status.ready && !status.not_ready_reason.is_empty()).then_some(()),
            Err(_) => cluster.nodes[2].crashed().map(|status| assert!(!status.success(), "{status}")),
        }
    })
    .await;
    for node in [0, 1] {
        let key = format!("through {node}");
        cluster.put(node, &key, "v").await.expect("the other two go on");
        let missing = rpc::failure(cluster.get(node, "foreign").await);
        assert_eq!(missing.code, tonic::Code::NotFound, "{missing:?}");
    }
    cluster.nodes[2].kill();
}

#[tokio::test]
async fn a_second_process_on_one_data_directory_is_refused() {
    let cluster = Cluster::start(Options { size: 1, ..Options::default() }).await;
    let first = &cluster.nodes[0];
    let directory = first.directory().to_str().expect("a temporary directory's path is UTF-8").to_owned();
    let address = std::net::SocketAddr::new(first.address().ip(), first.address().port() + 1);
    let peers = format!("n1={address}");
    let arguments =
        ["run", "--name", "n1", "--data-dir", &directory, "--listen", &address.to_string(), "--peers", &peers];
    let launch = Launch {
        name: "second".to_owned(),
        address,
        arguments: arguments.map(str::to_owned).to_vec(),
        environment: Vec::new(),
    };
    let mut second = Node::new(launch, first.directory().to_path_buf(), cluster.directory().join("second.log"));
    second.start();
    let status = second.exit_status().await;
    assert!(!status.success(), "{status}");
    assert!(second.log().contains(&directory), "the message names the directory:\n{}", second.log());
    assert!(!second.log().contains("panicked"), "{}", second.log());
    cluster.put(0, "k", "v").await.expect("the first process goes on");
}

/// A command line that must be refused, its environment, and the text that the message must hold to be of use.
type Refused = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);

const PEERS: &str = "n1=127.0.0.1:17001,n2=127.0.0.1:17002,n3=127.0.0.1:17003";

const REFUSED: [Refused; 12] = [
    (&["run", "--no-such-flag"], &[], "no-such-flag"),
    (&["run", "--name", "n4", "--listen", "127.0.0.1:17001", "--peers", PEERS], &[], "n4"),
    (&["run", "--name", "n1", "--listen", "nonsense", "--peers", PEERS], &[], "nonsense"),
    (&["run", "--name", "n1", "--listen", "127.0.0.1:17001", "--peers", "n1"], &[], "peers"),
    (&["run", "--name", "n1", "--listen", "127.0.0.1:17001", "--peers", "n1=a:1,n1=b:1"], &[], "n1"),
    (&["run", "--name", "n1", "--listen", "127.0.0.1:0", "--peers", PEERS], &[], "listen"),
    (
        &["run", "--name", "n1", "--listen", "127.0.0.1:17001", "--peers", PEERS, "--election-timeout-ms", "0"],
        &[],
        "election",
    ),
    (
        &["run", "--name", "n1", "--listen", "127.0.0.1:17001", "--peers", PEERS, "--heartbeat-ms", "1000"],
        &[],
        "heartbeat",
    ),
    (
        &["run", "--name", "n1", "--listen", "127.0.0.1:17001", "--peers", PEERS, "--config", "absent.toml"],
        &[],
        "absent.toml",
    ),
    (
        &["run", "--name", "n1", "--listen", "127.0.0.1:17001", "--peers", PEERS, "--segment-bytes", "many"],
        &[],
        "segment-bytes",
    ),
    (&["run", "--name", "n1", "--peers", PEERS], &[("QUORATE_LISTEN", "nonsense")], "nonsense"),
    (&["run", "--name", "n1", "--peers", PEERS], &[("PORT", "ninety")], "PORT"),
];

#[tokio::test]
async fn a_bad_configuration_exits_64_and_names_what_is_wrong() {
    for (arguments, environment, expected) in REFUSED {
        let output = run_to_end(arguments, environment).await;
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(BAD_CONFIGURATION), "{arguments:?} {environment:?}: {message}");
        assert!(message.contains(expected), "{arguments:?} {environment:?}: {message}");
        assert!(!message.contains("panicked"), "{arguments:?} {environment:?}: {message}");
    }
}

#[tokio::test]
async fn a_configuration_file_with_an_unknown_key_exits_64_and_names_it() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("node.toml");
    fs::write(&path, "name = \"n1\"\nelection_timeuot_ms = 500\n").expect("a file can be written");
    let path = path.to_str().expect("a temporary directory's path is UTF-8");
    let output = run_to_end(&["run", "--listen", "127.0.0.1:17001", "--peers", PEERS, "--config", path], &[]).await;
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(BAD_CONFIGURATION), "{message}");
    assert!(message.contains("election_timeuot_ms"), "{message}");
}

#[tokio::test]
async fn the_version_is_printed() {
    let output = run_to_end(&["--version"], &[]).await;
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
}
