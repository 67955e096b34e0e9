//! The status page: what it is told of the members, and by whom.

use std::time::Instant;

use axum::body::{Body, to_bytes};
use http::{HeaderMap, StatusCode};
use proto::admin::v1::{GetReportRequest, GetReportResponse, GetTraceRequest, GetTraceResponse, Span, StatusResponse};
use proto::raft::v1::inspect_request::Question;
use proto::raft::v1::inspect_response::Answer as Told;
use proto::raft::v1::{InspectRequest, InspectResponse};
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt as _;

use super::fake::{Harness, led_by, reason};
use crate::api::limits::REPORTS_AGE_MAX;
use crate::node::{NodeEvent, NodeEventKind};
use crate::telemetry::{Measured, RequestKind};

async fn get(harness: &Harness, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = http::Request::get(path).body(Body::empty()).expect("a request");
    let Ok(response) = harness.api.http.page.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a body");
    (parts.status, parts.headers, String::from_utf8(body.into()).expect("text"))
}

async fn told(harness: &Harness, path: &str) -> Value {
    let (status, headers, body) = get(harness, path).await;
    assert_eq!((status, &headers["content-type"]), (StatusCode::OK, &"application/json".parse().expect("a value")));
    serde_json::from_str(&body).expect("JSON")
}

fn will_tell(harness: &Harness, member: &str, told: Told) {
    harness.forwarder.told.lock().expect("no panic").insert(member.to_owned(), told);
}

/// Who was asked about itself since the last time.
fn inspected(harness: &Harness) -> Vec<String> {
    let mut inspected: Vec<_> = harness.forwarder.inspected.lock().expect("no panic").drain(..).collect();
    inspected.sort_by(|(one, _), (other, _)| one.cmp(other));
    inspected.into_iter().map(|(member, _)| member).collect()
}

fn event(peer: u64) -> NodeEvent {
    let kind = NodeEventKind::VoteGranted;
    NodeEvent { number: 1, time_unix_ms: 5, kind, term: 2, index: 0, peer: Some(peer), count: 1 }
}

#[tokio::test]
async fn the_page_is_told_of_every_member_and_why_one_does_not_answer() {
    let harness = Harness::new(led_by(Some("n2")));
    let status = StatusResponse { term: 2, leader_name: "n2".to_owned(), ..StatusResponse::default() };
    will_tell(&harness, "n2", Told::Report(Box::new(GetReportResponse { status: Some(status), ..Default::default() })));
    let cluster = told(&harness, "/cluster.json").await;
    assert_eq!(cluster["self"], json!("n1"));
    let nodes = cluster["nodes"].as_array().expect("a list");
    let names: Vec<_> = nodes.iter().map(|node| &node["name"]).collect();
    assert_eq!(names, [&json!("n1"), &json!("n2"), &json!("n3")]);
    assert_eq!((&nodes[0]["status"]["term"], &nodes[1]["status"]["leader"]), (&json!(2), &json!("n2")));
    assert_eq!((&nodes[2]["error"], &nodes[2]["status"]), (&json!("n3 could not be reached: gone"), &Value::Null));
    assert_eq!(inspected(&harness), ["n2", "n3"]);
}

#[tokio::test]
async fn many_who_look_ask_the_members_once() {
    let harness = Harness::new(led_by(Some("n2")));
    let before = Instant::now();
    for _ in 0..20 {
        told(&harness, "/cluster.json").await;
    }
    // On a machine that stands still in between they are asked again, rightly.
    let asked = inspected(&harness).len();
    assert!(asked == 2 || before.elapsed() >= REPORTS_AGE_MAX, "{asked}");
    tokio::time::sleep(REPORTS_AGE_MAX).await;
    told(&harness, "/cluster.json").await;
    assert_eq!(inspected(&harness), ["n2", "n3"]);
}

#[tokio::test]
async fn what_the_page_is_made_of_may_load_nothing_from_elsewhere() {
    let harness = Harness::new(led_by(None));
    for path in ["/", "/page.css", "/cluster.json", "/trace.json"] {
        let (_, headers, _) = get(&harness, path).await;
        let policy = headers["content-security-policy"].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert_eq!(
            (&headers["x-content-type-options"], &headers["connection"]),
            (&"nosniff".parse().expect("a value"), &"close".parse().expect("a value"))
        );
    }
    assert_eq!(get(&harness, "/page").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&harness, "/page/json.rs").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_trace_is_put_together_of_what_the_members_have() {
    let harness = Harness::new(led_by(Some("n2")));
    let span = |name: &str, start| Span { name: name.to_owned(), start_time_unix_nano: start, ..Span::default() };
    will_tell(&harness, "n2", Told::Trace(GetTraceResponse { spans: vec![span("late", 9), span("early", 1)] }));
    will_tell(&harness, "n3", Told::Trace(GetTraceResponse { spans: vec![span("between", 5)] }));
    let trace = told(&harness, "/trace.json?id=0af7651916cd43dd8448eb211c80319c").await;
    let names: Vec<_> = trace["spans"].as_array().expect("a list").iter().map(|span| &span["name"]).collect();
    assert_eq!(names, [&json!("early"), &json!("between"), &json!("late")]);
    // An answer to another question is no answer.
    will_tell(&harness, "n3", Told::Report(Box::default()));
    let trace = told(&harness, "/trace.json?id=0af7651916cd43dd8448eb211c80319c").await;
    assert_eq!(trace["spans"].as_array().map(Vec::len), Some(2));
    inspected(&harness);
    for query in ["", "?id=", "?id=12", "?id=%30af7651916cd43dd8448eb211c80319c"] {
        assert_eq!(get(&harness, &format!("/trace.json{query}")).await.0, StatusCode::BAD_REQUEST, "{query}");
    }
    assert!(inspected(&harness).is_empty());
}

#[tokio::test]
async fn a_node_tells_its_peers_and_operators_the_same() {
    let harness = Harness::new(led_by(Some("n2")));
    *harness.node.0.events.lock().expect("no panic") = vec![event(1), event(77)];
    let measured = Measured { kind: RequestKind::GetStale, arrived: Instant::now() };
    harness.api.http.metrics.requests.answered(measured, Code::NotFound);
    let (report, _) = harness
        .call::<_, GetReportResponse>("admin.v1.AdminService/GetReport", &GetReportRequest::default())
        .await
        .expect("it is told");
    assert_eq!(report.status.as_ref().map(|status| status.term), Some(2));
    let peers: Vec<_> = report.events.iter().map(|event| event.peer.as_str()).collect();
    // All members have the same number here.
    assert_eq!(peers, ["n1", "000000000000004d"]);
    let answered: Vec<_> = report
        .answered_requests
        .iter()
        .map(|told| (told.consistency.as_str(), told.code.as_str(), told.count))
        .collect();
    assert_eq!(answered, [("stale", "NOT_FOUND", 1)]);
    let inspect = |question| harness.api.forward_target.inspect(InspectRequest { question });
    let told = inspect(Some(Question::Report(GetReportRequest::default()))).await.expect("it is told");
    assert_eq!(told, InspectResponse { answer: Some(Told::Report(Box::new(report))) });
    let trace_id = vec![7; 16].into();
    let told = inspect(Some(Question::Trace(GetTraceRequest { trace_id }))).await.expect("it is told");
    assert_eq!(told, InspectResponse { answer: Some(Told::Trace(GetTraceResponse::default())) });
    let short = inspect(Some(Question::Trace(GetTraceRequest::default()))).await.expect_err("it is too short");
    assert_eq!(reason(&short).0, "TRACE_ID_LENGTH");
    assert_eq!(inspect(None).await.expect_err("nothing is asked").code(), Code::InvalidArgument);
}
