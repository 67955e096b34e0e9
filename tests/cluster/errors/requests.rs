//! What is wrong with a request as it is, or with the key that it is about.

use super::{Call, expect};
use crate::hostile::call_raw;
use bytes::Bytes;
use prost::Message as _;
use proto::{
    admin::v1::{
        GetTraceRequest, UpdateLogFilterRequest, UpdateSettingsRequest, admin_service_client::AdminServiceClient,
    },
    kv::v1::{
        DeleteRequest, GetOutcomeRequest, GetRequest, PipelineRequest, PipelinedRequest, PutMode, PutRequest,
        RequestId, kv_service_client::KvServiceClient, pipelined_request,
    },
};
use tests::{
    cluster::Cluster,
    raw::{self, Answer, Connection, frame},
    rpc,
    wait::BOUND,
};
use tonic::{Code, Request, transport::Channel};

const PUT: &str = "/kv.v1.KvService/Put";
const GET: &str = "/kv.v1.KvService/Get";

/// How often a race with the library's timer is run: it is lost most times by code that can lose it.
const SHORT_CALLS: usize = 25;

/// A cluster with the key `kept`, connections to its leader and to a node that forwards, and the key's revision.
async fn cluster_with_a_key() -> (Cluster, [Channel; 2], u64) {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let put = cluster.put(leader, "kept", "v").await.expect("the key is new");
    let channels = [leader, cluster.others(leader)[0]].map(|node| cluster.nodes[node].channel());
    (cluster, channels, put.revision)
}

fn put(key: &str) -> PutRequest {
    rpc::put_request(key, "v")
}

async fn delete(channel: &Channel, request: DeleteRequest) -> Result<proto::kv::v1::DeleteResponse, tonic::Status> {
    rpc::bounded(KvServiceClient::new(channel.clone()).delete(request)).await
}

async fn get(channel: &Channel, request: GetRequest) -> Result<proto::kv::v1::GetResponse, tonic::Status> {
    rpc::bounded(KvServiceClient::new(channel.clone()).get(request)).await
}

#[tokio::test]
async fn what_the_store_rejects_says_what_is_there() {
    let (_cluster, channels, revision) = cluster_with_a_key().await;
    for channel in &channels {
        let answer = rpc::put_with(channel, put("kept")).await;
        let exists = expect(answer, Call::Write, Code::AlreadyExists, "KEY_EXISTS");
        assert_eq!((&exists["key"][..], &exists["revision"]), ("kept", &revision.to_string()));

        let (code, reason) = (Code::NotFound, "KEY_NOT_FOUND");
        let update = PutRequest { mode: PutMode::Update.into(), ..put("missing") };
        assert_eq!(expect(rpc::put_with(channel, update).await, Call::Write, code, reason)["key"], "missing");
        expect(rpc::delete(channel, "missing").await, Call::Write, code, reason);
        let missing = expect(rpc::get(channel, "missing").await, Call::Other, code, reason);
        assert_eq!((&missing["key"][..], &missing["storeRevision"]), ("missing", &revision.to_string()));

        let (code, reason) = (Code::FailedPrecondition, "REVISION_MISMATCH");
        let expected_revision = Some(revision + 7);
        let compare = PutRequest { mode: PutMode::Compare.into(), expected_revision, ..put("kept") };
        let mismatch = expect(rpc::put_with(channel, compare).await, Call::Write, code, reason);
        assert_eq!(mismatch["expectedRevision"], (revision + 7).to_string());
        assert_eq!(mismatch["currentRevision"], revision.to_string());
        let compare = DeleteRequest { expected_revision, ..rpc::delete_request("kept") };
        let mismatch = expect(delete(channel, compare).await, Call::Write, code, reason);
        assert_eq!((&mismatch["key"][..], &mismatch["currentRevision"]), ("kept", &revision.to_string()));
    }
}

#[tokio::test]
async fn a_field_out_of_bounds_is_named() {
    let (_cluster, channels, _) = cluster_with_a_key().await;
    let long = "k".repeat(1025);
    let update = |mode: i32, expected_revision| PutRequest { mode, expected_revision, ..put("kept") };
    for channel in &channels {
        for (request, reason) in [
            (put(""), "KEY_EMPTY"),
            (put(&long), "KEY_TOO_LARGE"),
            (PutRequest { value: vec![0; (1 << 20) + 1].into(), ..put("kept") }, "VALUE_TOO_LARGE"),
            (update(5, None), "MODE_UNKNOWN"),
            (update(PutMode::Compare.into(), None), "EXPECTED_REVISION_MISSING"),
            (update(PutMode::Upsert.into(), Some(1)), "EXPECTED_REVISION_NOT_ALLOWED"),
            (update(PutMode::Compare.into(), Some(0)), "EXPECTED_REVISION_ZERO"),
        ] {
            let metadata = expect(rpc::put_with(channel, request).await, Call::Write, Code::InvalidArgument, reason);
            let sizes = (metadata.get("limitBytes"), metadata.get("actualBytes"));
            match (reason, sizes) {
                ("KEY_TOO_LARGE", (Some(limit), Some(actual))) => {
                    assert_eq!((&limit[..], &actual[..]), ("1024", "1025"))
                }
                ("VALUE_TOO_LARGE", (Some(limit), Some(actual))) => {
                    assert_eq!((&limit[..], &actual[..]), ("1048576", "1048577"));
                }
                ("MODE_UNKNOWN", _) => assert_eq!(metadata["number"], "5"),
                (_, sizes) => assert_eq!(sizes, (None, None)),
            }
        }
        for (key, reason) in [("", "KEY_EMPTY"), (&long, "KEY_TOO_LARGE")] {
            expect(rpc::delete(channel, key).await, Call::Write, Code::InvalidArgument, reason);
            expect(rpc::get(channel, key).await, Call::Other, Code::InvalidArgument, reason);
        }
        let request = DeleteRequest { expected_revision: Some(0), ..rpc::delete_request("kept") };
        expect(delete(channel, request).await, Call::Write, Code::InvalidArgument, "EXPECTED_REVISION_ZERO");
        let request = GetRequest { consistency: -1, ..rpc::get_request("kept") };
        let metadata = expect(get(channel, request).await, Call::Other, Code::InvalidArgument, "CONSISTENCY_UNKNOWN");
        assert_eq!(metadata["number"], "-1");
        for (consistency, max_staleness_ms, reason) in [
            (0, Some(500), "MAX_STALENESS_NOT_ALLOWED"),
            (2, Some(0), "MAX_STALENESS_NOT_ALLOWED"),
            (3, Some(0), "MAX_STALENESS_ZERO"),
        ] {
            let request = GetRequest { consistency, max_staleness_ms, ..rpc::get_request("kept") };
            expect(get(channel, request).await, Call::Other, Code::InvalidArgument, reason);
        }
        let mut admin = AdminServiceClient::new(channel.clone());
        let answer = rpc::bounded(admin.update_settings(UpdateSettingsRequest::default())).await;
        expect(answer, Call::Write, Code::InvalidArgument, "SETTING_MISSING");
        let trace = GetTraceRequest { trace_id: vec![1; 15].into() };
        let answer = rpc::bounded(admin.get_trace(trace)).await;
        expect(answer, Call::Other, Code::InvalidArgument, "TRACE_ID_LENGTH");
        for (filter, reason) in
            [("info,".repeat(300), "LOG_FILTER_TOO_LONG"), ("info=chatty=x".to_owned(), "LOG_FILTER_INVALID")]
        {
            let answer = rpc::bounded(admin.update_log_filter(UpdateLogFilterRequest { filter })).await;
            expect(answer, Call::Other, Code::InvalidArgument, reason);
        }
    }
}

#[tokio::test]
async fn a_revision_that_was_never_given_out_is_told_at_once() {
    let (_cluster, channels, revision) = cluster_with_a_key().await;
    for channel in &channels {
        for (key, min_revision) in [("kept", revision + 1), ("missing", u64::MAX)] {
            let request = GetRequest { min_revision, ..rpc::get_request(key) };
            let ahead = expect(get(channel, request).await, Call::Other, Code::OutOfRange, "REVISION_AHEAD");
            assert_eq!(ahead["revision"], revision.to_string());
            assert_eq!(ahead["minRevision"], min_revision.to_string());
        }
        let there = GetRequest { min_revision: revision, ..rpc::get_request("kept") };
        get(channel, there).await.expect("the store has come to it");
    }
}

#[tokio::test]
async fn a_request_id_out_of_bounds_is_named() {
    let (_cluster, channels, _) = cluster_with_a_key().await;
    let sound = rpc::request_id(1, 1);
    let code = Code::InvalidArgument;
    for channel in &channels {
        for (id, reason, expected) in [
            (
                RequestId { session: vec![1; 15].into(), ..sound.clone() },
                "REQUEST_ID_SESSION_LENGTH",
                &[("expectedBytes", "16"), ("actualBytes", "15")][..],
            ),
            (RequestId { sequence: 0, ..sound.clone() }, "REQUEST_ID_SEQUENCE_ZERO", &[]),
            (
                RequestId { acknowledged_below: 2, ..sound.clone() },
                "REQUEST_ID_ACKNOWLEDGED_AHEAD",
                &[("sequence", "1"), ("acknowledgedBelow", "2")],
            ),
        ] {
            let request = PutRequest { request_id: Some(id.clone()), ..put("new") };
            let metadata = expect(rpc::put_with(channel, request).await, Call::Write, code, reason);
            for (key, value) in expected {
                assert_eq!(metadata[*key], *value);
            }
            let request = DeleteRequest { request_id: Some(id.clone()), ..rpc::delete_request("kept") };
            expect(delete(channel, request).await, Call::Write, code, reason);
            expect(rpc::get_outcome(channel, id).await, Call::Other, code, reason);
        }
        let nothing = GetOutcomeRequest { request_id: None };
        let answer = rpc::bounded(KvServiceClient::new(channel.clone()).get_outcome(nothing)).await;
        expect(answer, Call::Other, code, "REQUEST_ID_MISSING");
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_of_ours_are_labelled_too() {
    let (_cluster, channels, _) = cluster_with_a_key().await;
    for channel in &channels {
        for (path, call) in [(PUT, Call::Write), (GET, Call::Other)] {
            let not_utf8 = Request::new(Bytes::from_static(&[0x0A, 2, 0xFF, 0xFE]));
            let answer = call_raw(channel, path, not_utf8).await;
            expect(answer, call, Code::InvalidArgument, "MESSAGE_MALFORMED");
            let long = Request::new(vec![0; (4 << 20) + 1].into());
            let answer = call_raw(channel, path, long).await;
            let metadata = expect(answer, call, Code::InvalidArgument, "MESSAGE_TOO_LARGE");
            assert_eq!(metadata["limitBytes"], (4 << 20).to_string());
            let mut request = Request::new(Bytes::from_static(b"\n\x04kept"));
            request.metadata_mut().insert("grpc-timeout", "soon".parse().expect("it is ASCII"));
            let answer = call_raw(channel, path, request).await;
            assert_eq!(expect(answer, call, Code::InvalidArgument, "TIMEOUT_MALFORMED")["value"], "soon");
        }
        let answer = call_raw(channel, "/kv.v1.KvService/Explode", Request::new(Bytes::new())).await;
        expect(answer, Call::Other, Code::Unimplemented, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_not_worth_an_attempt() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let put = frame(&put("late").encode_to_vec());
    let get = frame(&rpc::get_request("late").encode_to_vec());
    for node in [leader, cluster.others(leader)[0]] {
        let mut connection = Connection::open(cluster.nodes[node].address()).await;
        for (path, body, call) in [(PUT, &put, Call::Write), (GET, &get, Call::Other)] {
            // A client's library would give up by itself. So would the server's, if it were asked before our own code.
            let [content_type, trailers] = raw::HEADERS;
            for timeout in ["0m", "1n", "1000u", "1m"].repeat(SHORT_CALLS) {
                let headers = [content_type, trailers, ("grpc-timeout", timeout)];
                let answer = connection.call(path, &headers, body.clone()).await;
                let Answer::Status(status, _) = answer else { panic!("not a status: {answer:?}") };
                expect::<()>(Err(status), call, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
            }
        }
    }
    expect(cluster.get(leader, "late").await, Call::Other, Code::NotFound, "KEY_NOT_FOUND");
}

#[tokio::test]
async fn two_requests_under_way_with_one_tag_end_their_stream() {
    let (_cluster, channels, _) = cluster_with_a_key().await;
    for channel in &channels {
        let request = || PipelinedRequest {
            tag: 7,
            request: Some(pipelined_request::Request::Get(rpc::get_request("kept"))),
            ..PipelinedRequest::default()
        };
        let frames = tokio_stream::iter([PipelineRequest { requests: vec![request(), request()] }]);
        let mut client = KvServiceClient::new(channel.clone());
        let mut answers = rpc::bounded(client.pipeline(frames)).await.expect("it opens");
        let ended = tokio::time::timeout(BOUND, answers.message()).await.expect("it ends in time");
        let told = expect(ended, Call::Other, Code::InvalidArgument, "TAG_REUSED");
        assert_eq!(told["tag"], "7");
    }
}
