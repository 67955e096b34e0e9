//! Health checks and server reflection, as load balancers, Kubernetes and tools use them.

use proto::raft::v1::{IdentifyRequest, raft_service_client::RaftServiceClient};
use std::{collections::BTreeSet, net::SocketAddr};
use tests::{
    cluster::{Cluster, HTTP_PORT_OFFSET, Options, PEER_PORT_OFFSET, beside},
    rpc,
    wait::wait_for,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
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
async fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the node listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the node reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the node answers");
    answer
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
