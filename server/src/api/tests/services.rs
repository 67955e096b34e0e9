//! The services beside kv.v1, over a real connection.

use std::net::SocketAddr;

use engine::kv;
use proto::admin::v1::admin_service_client::AdminServiceClient;
use proto::admin::v1::{
    ListMembersRequest, Role, Settings, StatusRequest, TransferLeadershipRequest, UpdateSettingsRequest,
};
use proto::kv::v1::kv_service_client::KvServiceClient;
use proto::kv::v1::{PutRequest, RequestId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};
use tonic_types::StatusExt as _;

use super::fake::{Harness, TIME_MS, Write, led_by, not_leader, reason, written};
use crate::api::limits;
use crate::node::{Leader, NodeStatus, PeerStatus, TransferError, Unavailable, WriteError};

/// Serves a node's services on a port of this machine.
pub(super) async fn serve(harness: &Harness) -> (SocketAddr, Channel) {
    serve_by(harness, limits::configure(Server::builder())).await
}

/// Serves them by a server that is configured in another way.
pub(super) async fn serve_by(harness: &Harness, mut server: Server) -> (SocketAddr, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let routes = harness.api.routes.clone();
    tokio::spawn(async move {
        server.add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener)).await.expect("it serves");
    });
    let channel = Channel::from_shared(format!("http://{address}")).expect("a URI").connect().await;
    (address, channel.expect("it listens"))
}

#[tokio::test]
async fn admin_tells_what_the_node_knows() {
    let peer = PeerStatus { name: "n2".to_owned(), match_index: 7, next_index: 8, state: "replicate", active: true };
    let status = NodeStatus {
        incarnation: 5,
        cluster_id: Some([7; 16]),
        last_index: 9,
        applied_index: 8,
        state_hash: 1,
        not_ready: Some("catching up".to_owned()),
        peers: vec![peer],
        dropped_messages: [("malformed".to_owned(), 3)].into(),
        first_index: 4,
        snapshot_index: 6,
        snapshot_bytes: 100,
        log_bytes_since_snapshot: 50,
        storage_full: true,
        recovering: true,
        settings: kv::Settings { lease_reads: true },
        session_count: 11,
        time_ms: 12,
        ..led_by(Some("n1"))
    };
    let harness = Harness::new(status);
    let (_, channel) = serve(&harness).await;
    let mut client = AdminServiceClient::new(channel);

    let status = client.status(StatusRequest {}).await.expect("a status").into_inner();
    assert_eq!((status.name.as_str(), status.incarnation, status.role()), ("n1", 5, Role::Leader));
    assert_eq!((&status.cluster_id[..], status.state_hash.len()), (&[7; 16][..], 16));
    assert_eq!((status.leader_name.as_str(), status.leader_address.as_str()), ("n1", "n1:7000"));
    assert_eq!((status.last_index, status.applied_index), (9, 8));
    assert_eq!((status.ready, status.not_ready_reason.as_str()), (false, "catching up"));
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!((status.peers[0].name.as_str(), status.peers[0].state.as_str()), ("n2", "replicate"));
    assert_eq!(status.dropped_messages["malformed"], 3);
    assert_eq!((status.first_index, status.snapshot_index, status.snapshot_bytes), (4, 6, 100));
    assert_eq!((status.log_bytes_since_snapshot, status.storage_full, status.recovering), (50, true, true));
    assert_eq!((status.session_count, status.time_ms), (11, 12));
    assert_eq!(status.settings, Some(Settings { lease_reads: true }));

    let members = client.list_members(ListMembersRequest {}).await.expect("members").into_inner().members;
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    assert_eq!((members[1].peer_address.as_str(), members[1].voter), ("n2:7001", true));
}

#[tokio::test]
async fn leadership_is_handed_over_or_the_reason_is_told() {
    let harness = Harness::new(led_by(Some("n1")));
    let (_, channel) = serve(&harness).await;
    let mut client = AdminServiceClient::new(channel);
    let mut transfer = async |result| {
        harness.node.0.transfers.lock().expect("no panic").push_back(result);
        client.transfer_leadership(TransferLeadershipRequest { target: "n2".to_owned() }).await
    };

    let leader = Leader { name: "n2".to_owned(), client_address: None, is_self: false };
    let response = transfer(Ok((leader, 3))).await.expect("handed over").into_inner();
    assert_eq!((response.leader_name.as_str(), response.term), ("n2", 3));
    for (error, code, expected) in [
        (TransferError::NotAVoter("n2".to_owned()), Code::InvalidArgument, "TARGET_NOT_VOTER"),
        (TransferError::AlreadyLeader("n2".to_owned()), Code::FailedPrecondition, "TARGET_LEADS_ALREADY"),
        (TransferError::NobodyElse, Code::FailedPrecondition, "NO_OTHER_VOTER"),
        (TransferError::DeadlineExceeded, Code::DeadlineExceeded, "TRANSFER_TIMED_OUT"),
        (not_leader().into(), Code::Unavailable, "NOT_LEADER"),
    ] {
        let status = transfer(Err(error)).await.expect_err("not handed over");
        assert_eq!(status.code(), code);
        assert_eq!(reason(&status), (expected.to_owned(), String::new()));
    }
}

/// A request that names the setting, and itself.
fn lease_reads(lease_reads: bool) -> UpdateSettingsRequest {
    let id = RequestId { session: vec![1; 16].into(), opened_at_ms: 5, sequence: 7, acknowledged_below: 6 };
    UpdateSettingsRequest { lease_reads: Some(lease_reads), request_id: Some(id) }
}

#[tokio::test]
async fn settings_are_changed_by_a_command_and_told_as_they_are_then() {
    let harness = Harness::new(led_by(Some("n1")));
    let (_, channel) = serve(&harness).await;
    let mut client = AdminServiceClient::new(channel);
    for value in [true, false] {
        let settings = kv::Settings { lease_reads: value };
        harness.node.will_write(Write::Answer(Ok(kv::Applied::Configured { settings })));
        let response = client.update_settings(lease_reads(value)).await.expect("changed").into_inner();
        assert_eq!((response.settings, response.time_ms), (Some(Settings { lease_reads: value }), TIME_MS));
    }
    let session = kv::SessionId::new(u128::from_be_bytes([1; 16]));
    let id = Some(kv::RequestId { session, opened_at_ms: 5, sequence: 7, acknowledged_below: 6 });
    let request = |lease_reads| kv::Request { id, command: kv::Command::Configure { lease_reads } };
    assert_eq!(harness.node.requests(), [request(true), request(false)]);
}

#[tokio::test]
async fn a_change_of_settings_that_fails_says_what_became_of_it_as_any_write() {
    let harness = Harness::new(led_by(Some("n2")));
    let (_, channel) = serve(&harness).await;
    let mut client = AdminServiceClient::new(channel);
    let refused = |refusal| Ok(kv::Applied::Refused(refusal));
    for (answer, code, expected, outcome) in [
        (Err(not_leader().into()), Code::Unavailable, "NOT_LEADER", "NOT_APPLIED"),
        (Err(Unavailable::Overloaded.into()), Code::ResourceExhausted, "OVERLOADED", "NOT_APPLIED"),
        (Err(WriteError::Dropped { term: 3 }), Code::Unavailable, "PROPOSAL_DROPPED", "NOT_APPLIED"),
        (Err(WriteError::Expired), Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "NOT_APPLIED"),
        (Err(WriteError::Stopped), Code::Unknown, "OUTCOME_UNKNOWN", "UNKNOWN"),
        (Err(WriteError::DeadlineExceeded { term: 3, index: 9 }), Code::DeadlineExceeded, "OUTCOME_UNKNOWN", "UNKNOWN"),
        (refused(kv::Refusal::Fenced), Code::Aborted, "REQUEST_FENCED", "NOT_APPLIED"),
        (refused(kv::Refusal::SessionExpired { time_ms: 8 }), Code::FailedPrecondition, "SESSION_EXPIRED", "UNKNOWN"),
    ] {
        harness.node.will_write(Write::Answer(answer));
        let status = client.update_settings(lease_reads(true)).await.expect_err(expected);
        assert_eq!(status.code(), code, "{expected}");
        assert_eq!(reason(&status), (expected.to_owned(), outcome.to_owned()));
        // Whom to ask instead.
        assert_eq!(status.metadata().get("quorate-leader-address").map(|name| name.as_bytes()), Some(&b"n2:7000"[..]));
        let info = status.get_details_error_info().expect("an ErrorInfo");
        let named = info.metadata.get("sequence").map(String::as_str);
        assert_eq!(named, (expected == "OUTCOME_UNKNOWN").then_some("7"), "what GetOutcome needs");
    }
}

#[tokio::test]
async fn a_change_of_settings_that_names_none_or_comes_too_late_is_not_run() {
    let harness = Harness::new(led_by(Some("n1")));
    let (_, channel) = serve(&harness).await;
    let mut client = AdminServiceClient::new(channel);
    let nothing = UpdateSettingsRequest { lease_reads: None, ..lease_reads(true) };
    let status = client.update_settings(nothing).await.expect_err("nothing is named");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status), ("SETTING_MISSING".to_owned(), "NOT_APPLIED".to_owned()));
    harness.drain.start();
    let status = client.update_settings(lease_reads(true)).await.expect_err("the node is about to stop");
    assert_eq!(reason(&status), ("DRAINING".to_owned(), "NOT_APPLIED".to_owned()));
    assert_eq!(harness.node.requests(), []);
}

#[tokio::test]
async fn health_is_told_by_name() {
    let harness = Harness::new(led_by(None));
    let (_, channel) = serve(&harness).await;
    let mut client = HealthClient::new(channel);
    for service in ["", "liveness", "readiness", "kv.v1.KvService", "admin.v1.AdminService", "raft.v1.RaftService"] {
        // The first report may be on its way.
        let request = HealthCheckRequest { service: service.to_owned() };
        while client.check(request.clone()).await.map(|response| response.into_inner().status).unwrap_or(0) != 1 {
            tokio::task::yield_now().await;
        }
    }
    let unknown = client.check(HealthCheckRequest { service: "kv.v2".to_owned() }).await;
    assert_eq!(unknown.expect_err("no such service").code(), Code::NotFound);

    let request = HealthCheckRequest { service: "readiness".to_owned() };
    let mut changes = client.watch(request).await.expect("a stream").into_inner();
    assert_eq!(changes.next().await.expect("the state").expect("no error").status, 1);
    harness.drain.start();
    assert_eq!(changes.next().await.expect("a change").expect("no error").status, 2);
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    use v1alpha::server_reflection_request::MessageRequest as MessageRequestAlpha;
    use v1alpha::server_reflection_response::MessageResponse as MessageResponseAlpha;

    let harness = Harness::new(led_by(None));
    let (_, channel) = serve(&harness).await;
    let ours = ["admin.v1.AdminService", "grpc.health.v1.Health", "kv.v1.KvService", "raft.v1.RaftService"];

    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut ask = async |request| {
        let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let stream = client.server_reflection_info(tokio_stream::once(request)).await;
        stream.expect("a stream").into_inner().next().await.expect("an answer")
    };
    let response = ask(MessageRequest::ListServices(String::new())).await.expect("services");
    let Some(MessageResponse::ListServicesResponse(list)) = response.message_response else { panic!("a list") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(ours.iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
    for symbol in ["kv.v1.KvService", "google.rpc.ErrorInfo", "grpc.health.v1.Health", "raft.v1.Entry"] {
        let response = ask(MessageRequest::FileContainingSymbol(symbol.to_owned())).await.expect(symbol);
        assert!(matches!(response.message_response, Some(MessageResponse::FileDescriptorResponse(_))), "{symbol}");
    }

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequestAlpha::ListServices(String::new())),
    };
    let stream = client.server_reflection_info(tokio_stream::once(request)).await.expect("a stream");
    let response = stream.into_inner().next().await.expect("an answer").expect("services");
    let Some(MessageResponseAlpha::ListServicesResponse(list)) = response.message_response else { panic!("a list") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(ours.iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
}

#[tokio::test]
async fn a_large_value_and_its_refusal_cross_the_wire() {
    let harness = Harness::new(led_by(Some("n1")));
    let (_, channel) = serve(&harness).await;
    let mut client = KvServiceClient::new(channel);
    let request = |bytes: usize| PutRequest { key: "a".to_owned(), value: vec![7; bytes].into(), ..Default::default() };

    harness.node.will_write(Write::Answer(written()));
    client.put(request(1 << 20)).await.expect("the largest value");
    let status = client.put(request((1 << 20) + 1)).await.expect_err("too large");
    assert_eq!(reason(&status), ("VALUE_TOO_LARGE".to_owned(), "NOT_APPLIED".to_owned()));
    let status = client.put(request(5 << 20)).await.expect_err("too large");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status), ("MESSAGE_TOO_LARGE".to_owned(), "NOT_APPLIED".to_owned()));
}

#[tokio::test]
async fn bytes_that_are_no_http_do_not_disturb_the_server() {
    let harness = Harness::new(led_by(Some("n1")));
    let (address, channel) = serve(&harness).await;
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff"]
    {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(garbage).await.expect("it reads");
        stream.shutdown().await.expect("a half-closed connection");
        let mut answer = Vec::new();
        // The server may answer or reset; it closes in either case.
        let _ = stream.read_to_end(&mut answer).await;
    }
    harness.node.will_write(Write::Answer(written()));
    let request = PutRequest { key: "a".to_owned(), ..Default::default() };
    KvServiceClient::new(channel).put(request).await.expect("it goes on");
}
