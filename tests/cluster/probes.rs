//! Health checks and server reflection, as load balancers, Kubernetes and tools use them.

use client_cli::{Client, Consistency as Level, GetOptions};
use proto::{
    kv::v1::{Consistency, GetRequest},
    raft::v1::{IdentifyRequest, raft_service_client::RaftServiceClient},
};
use std::{collections::BTreeSet, net::SocketAddr};
use tests::{
    cluster::{Cluster, HTTP_PORT_OFFSET, Options, PEER_PORT_OFFSET, beside},
    rpc,
    wait::wait_for,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

const SERVICES: [&str; 2] = ["kv.v1.KvService", "admin.v1.AdminService"];

async fn check(channel: &Channel, service: &str) -> Result<ServingStatus, tonic::Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    Ok(rpc::bounded(HealthClient::new(channel.clone()).check(request)).await?.status())
}

#[tokio::test]
async fn a_ready_node_is_alive_and_ready_and_stays_so_without_a_quorum() {
    let mut cluster = Cluster::of_three().await;
    let channel = cluster.nodes[0].channel();
    for service in ["", "liveness", "readiness"].into_iter().chain(SERVICES) {
        let status = check(&channel, service).await;
        assert_eq!(status.expect("the service is known"), ServingStatus::Serving, "{service:?}");
    }
    let unknown = check(&channel, "no.such.Service").await.expect_err("nobody registered it");
    assert_eq!(unknown.code(), Code::NotFound);

    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    wait_for("the node has noticed", async || {
        rpc::status(&channel).await.ok().filter(|status| status.leader_name.is_empty())
    })
    .await;
    for service in ["liveness", "readiness"] {
        let status = check(&channel, service).await;
        assert_eq!(status.expect("the service is known"), ServingStatus::Serving, "{service:?}");
    }
}

#[tokio::test]
async fn a_node_that_waits_for_its_first_cluster_is_alive_and_not_ready() {
    let mut cluster = Cluster::new(&Options::default());
    cluster.nodes[0].start();
    let channel = cluster.nodes[0].channel();
    let status = wait_for("the node answers", async || rpc::status(&channel).await.ok()).await;
    assert!(!status.ready && !status.not_ready_reason.is_empty(), "{status:?}");
    assert_eq!(check(&channel, "liveness").await.expect("the service is known"), ServingStatus::Serving);
    assert_eq!(check(&channel, "readiness").await.expect("the service is known"), ServingStatus::NotServing);

    cluster.start_all();
    wait_for("the node is ready once its peers are there", async || {
        let serving = check(&channel, "readiness").await.ok()? == ServingStatus::Serving;
        serving.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_watch_of_readiness_sees_the_change() {
    let mut cluster = Cluster::new(&Options::default());
    cluster.nodes[0].start();
    let channel = cluster.nodes[0].channel();
    wait_for("the node answers", async || rpc::status(&channel).await.ok()).await;
    let request = HealthCheckRequest { service: "readiness".to_owned() };
    let mut changes = rpc::bounded(HealthClient::new(channel).watch(request)).await.expect("the service is known");
    let first = changes.next().await.expect("a watch begins with the present").expect("it is a status");
    assert_eq!(first.status(), ServingStatus::NotServing);
    cluster.start_all();
    let serving = async {
        while let Some(change) = changes.next().await {
            if change.expect("it is a status").status() == ServingStatus::Serving {
                return;
            }
        }
        panic!("the watch ended");
    };
    tokio::time::timeout(tests::wait::BOUND, serving).await.expect("the watch tells that the node has become ready");
}

/// The answer to one reflection request; both versions have the same shapes under different types.
macro_rules! reflect {
    ($version:ident, $channel:expr, $kind:ident, $text:expr) => {{
        use $version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = MessageRequest::$kind($text.to_owned());
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut client = ServerReflectionClient::new($channel.clone());
        let stream = client.server_reflection_info(tokio_stream::once(request));
        let mut answers = rpc::bounded(stream).await.expect("reflection is served");
        let answer = answers.next().await.expect("a request is answered").expect("the answer is no error");
        match answer.message_response.expect("an answer has a kind") {
            MessageResponse::ListServicesResponse(list) => {
                list.service.into_iter().map(|service| service.name).collect::<BTreeSet<String>>()
            }
            MessageResponse::FileDescriptorResponse(files) => {
                assert!(!files.file_descriptor_proto.is_empty());
                BTreeSet::new()
            }
            other => panic!("{other:?}"),
        }
    }};
}

fn expect_services(names: &BTreeSet<String>) {
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
        assert!(names.contains(service), "{service} is not among {names:?}");
    }
}

#[tokio::test]
async fn reflection_v1_lists_and_describes_the_services() {
    let cluster = Cluster::start(Options { size: 1, ..Options::default() }).await;
    let channel = cluster.nodes[0].channel();
    expect_services(&reflect!(v1, channel, ListServices, ""));
    for service in SERVICES {
        reflect!(v1, channel, FileContainingSymbol, service);
    }
}

#[tokio::test]
async fn reflection_v1alpha_lists_and_describes_the_services() {
    let cluster = Cluster::start(Options { size: 1, ..Options::default() }).await;
    let channel = cluster.nodes[0].channel();
    expect_services(&reflect!(v1alpha, channel, ListServices, ""));
    for service in SERVICES {
        reflect!(v1alpha, channel, FileContainingSymbol, service);
    }
}

/// What a GET of a path over HTTP/1.1 is answered.
pub(super) async fn http_get(address: SocketAddr, path: &str) -> String {
    http_get_as(address, path, "*/*").await
}

/// The same for who accepts such media types.
pub(super) async fn http_get_as(address: SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: probe\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the node reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the node answers");
    answer
}

/// How many requests a node says that it has answered.
async fn answered(node: &tests::node::Node, method: &str, consistency: &str, code: &str) -> u64 {
    let text = http_get(beside(node.address(), HTTP_PORT_OFFSET), "/metrics").await;
    let labels = format!("method=\"{method}\",consistency=\"{consistency}\",code=\"{code}\"");
    let name = format!("quorate_request_duration_seconds_count{{{labels}}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test]
async fn requests_are_counted_by_method_consistency_and_code_also_those_of_streams() {
    let cluster = Cluster::start(Options { separate_ports: true, ..Options::default() }).await;
    let leader = cluster.leader().await;
    let node = &cluster.nodes[cluster.others(leader)[0]];
    rpc::put(&node.channel(), "k", "v").await.expect("it is forwarded");
    rpc::put(&node.channel(), "k", "v").await.expect_err("it is there");
    for consistency in [Consistency::Linearizable, Consistency::Quorum, Consistency::Stale] {
        let request = GetRequest { consistency: consistency.into(), ..rpc::get_request("k") };
        rpc::bounded(rpc::kv(&node.channel()).get(request)).await.expect("it is there");
    }
    // What is under way at the same time, the library sends on a stream.
    let client = Client::connect(client_cli::Options::new([node.address().to_string()]).expect("it is well formed"));
    let mut gets = JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        let options = GetOptions { consistency: Level::Quorum, ..GetOptions::default() };
        gets.spawn(async move { client.get_with("absent", options).await.expect_err("nobody wrote it") });
    }
    gets.join_all().await;
    for (method, consistency, code, count) in [
        ("Put", "", "OK", 1),
        ("Put", "", "ALREADY_EXISTS", 1),
        ("Get", "linearizable", "OK", 1),
        ("Get", "quorum", "OK", 1),
        ("Get", "stale", "OK", 1),
        ("Get", "quorum", "NOT_FOUND", 8),
        ("Delete", "", "OK", 0),
    ] {
        assert_eq!(answered(node, method, consistency, code).await, count, "{method} {consistency} {code}");
    }
    // Whom it forwarded to counts no request of a client.
    assert_eq!(answered(&cluster.nodes[leader], "Put", "", "OK").await, 0);
}

#[tokio::test]
async fn peers_and_probes_with_ports_of_their_own_leave_the_clients_port_to_clients() {
    let cluster = Cluster::start(Options { separate_ports: true, ..Options::default() }).await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    cluster.put(follower, "k", "v").await.expect("requests are forwarded on the peers' port");
    let status = rpc::status(&cluster.nodes[follower].channel()).await.expect("the node answers");
    assert_eq!(status.leader_address, cluster.nodes[leader].address().to_string(), "hints are for clients");

    for node in &cluster.nodes {
        let probes = beside(node.address(), HTTP_PORT_OFFSET);
        for path in ["/livez", "/readyz"] {
            let answer = http_get(probes, path).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
        let identify = |channel| async {
            let request = IdentifyRequest::default();
            rpc::failure(rpc::bounded(RaftServiceClient::new(channel).identify(request)).await).code
        };
        assert_eq!(identify(node.channel()).await, Code::Unimplemented, "clients cannot speak as peers");
        let peers = rpc::channel(beside(node.address(), PEER_PORT_OFFSET));
        assert_eq!(identify(peers.clone()).await, Code::InvalidArgument, "an introduction that names nobody");
        let misdirected = rpc::failure(rpc::put(&peers, "k2", "v").await);
        assert_eq!(misdirected.code, Code::Unimplemented, "{misdirected:?}");
    }
}
