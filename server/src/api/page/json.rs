//! What the page is told, as JSON. A number that may be beyond what a browser counts exactly is text.

use proto::admin::v1::{
    AnsweredRequests, DurationBucket, GetReportResponse, NodeEvent, PeerProgress, SlowRequest, Span, SpanKind,
    StatusResponse,
};
use serde_json::{Value, json};

use crate::api::gather::Reports;

/// All reports, as the node `own_name` has gathered them.
pub(super) fn cluster(own_name: &str, reports: &Reports) -> Value {
    let nodes = reports.members.iter().map(|(name, told)| match told {
        Ok(report) => node(name, report),
        Err(error) => json!({ "name": name, "error": error, "status": null }),
    });
    json!({ "self": own_name, "time_ms": reports.time_unix_ms, "nodes": nodes.collect::<Vec<_>>() })
}

/// The spans of a trace.
pub(super) fn trace(spans: &[Span]) -> Value {
    json!({ "spans": spans.iter().map(span).collect::<Vec<_>>() })
}

fn node(name: &str, report: &GetReportResponse) -> Value {
    let GetReportResponse { status, process, events, answered_requests, slow_requests } = report;
    json!({
        "name": name,
        "error": null,
        "status": status.as_ref().map(self::status),
        "process": process.to_string(),
        "events": events.iter().map(event).collect::<Vec<_>>(),
        "requests": answered_requests.iter().map(requests).collect::<Vec<_>>(),
        "slow": slow_requests.iter().map(slow).collect::<Vec<_>>(),
    })
}

fn status(status: &StatusResponse) -> Value {
    let leader = (!status.leader_name.is_empty()).then_some(&status.leader_name);
    json!({
        "role": word(status.role().as_str_name(), "ROLE_"),
        "term": status.term,
        "leader": leader,
        "first_index": status.first_index,
        "last_index": status.last_index,
        "durable_index": status.durable_index,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "revision": status.revision,
        "key_count": status.key_count,
        "session_count": status.session_count,
        "time_ms": status.time_ms,
        "snapshot_index": status.snapshot_index,
        "snapshot_bytes": status.snapshot_bytes,
        "log_bytes_since_snapshot": status.log_bytes_since_snapshot,
        "storage_full": status.storage_full,
        "recovering": status.recovering,
        "ready": status.ready,
        "not_ready_reason": status.not_ready_reason,
        "lease_reads": status.settings.is_some_and(|settings| settings.lease_reads),
        "version": status.version,
        "dropped_messages": status.dropped_messages,
        "peers": status.peers.iter().map(peer).collect::<Vec<_>>(),
    })
}

fn peer(progress: &PeerProgress) -> Value {
    let PeerProgress { name, match_index, next_index, state, active } = progress;
    json!({ "name": name, "match_index": match_index, "next_index": next_index, "state": state, "active": active })
}

fn event(event: &NodeEvent) -> Value {
    let NodeEvent { number, time_unix_ms, kind: _, term, index, peer, count } = event;
    let kind = event.kind().as_str_name();
    json!({
        "number": number,
        "time_ms": time_unix_ms,
        "kind": kind.strip_prefix("NODE_EVENT_KIND_").unwrap_or(kind),
        "term": term,
        "index": index,
        "peer": peer,
        "count": count,
    })
}

fn requests(answered: &AnsweredRequests) -> Value {
    let AnsweredRequests { method, consistency, code, count, sum_seconds, buckets } = answered;
    // The last bound is infinite, which JSON does not know: null.
    let buckets = buckets.iter().map(|DurationBucket { bound_seconds, count }| json!([bound_seconds, count]));
    json!({
        "method": method,
        "consistency": consistency,
        "code": code,
        "count": count,
        "sum_seconds": sum_seconds,
        "buckets": buckets.collect::<Vec<_>>(),
    })
}

fn slow(request: &SlowRequest) -> Value {
    let SlowRequest { trace_id, duration_micros, spans } = request;
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({ "trace_id": hexadecimal(trace_id), "duration_us": duration_micros, "spans": spans })
}

fn span(span: &Span) -> Value {
    let duration_nanos = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    json!({
        "id": hexadecimal(&span.span_id),
        "parent": hexadecimal(&span.parent_span_id),
        "name": span.name,
        "kind": match span.kind() {
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Unspecified => "internal",
        },
        "node": span.node,
        "start_ms": in_thousandths(span.start_time_unix_nano / 1_000),
        "duration_us": in_thousandths(duration_nanos),
        "failed": span.failed,
        "attributes": span.attributes,
    })
}

/// A thousandth of a count, which is exact enough for a time since 1970 in microseconds.
#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn in_thousandths(count: u64) -> f64 {
    count as f64 / 1_000.0
}

/// The name of a value of an enumeration without what all of them begin with, in small letters.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proto::admin::v1::Role;

    use super::*;

    fn report() -> GetReportResponse {
        GetReportResponse {
            status: Some(StatusResponse {
                role: Role::PreCandidate.into(),
                term: 4,
                peers: vec![PeerProgress { name: "n2".to_owned(), match_index: 7, ..PeerProgress::default() }],
                dropped_messages: [("a".to_owned(), 2), ("b".to_owned(), 3)].into(),
                ..StatusResponse::default()
            }),
            process: u64::MAX,
            events: vec![NodeEvent { number: 1, kind: 3, peer: "n2".to_owned(), count: 9, ..NodeEvent::default() }],
            answered_requests: vec![AnsweredRequests {
                buckets: vec![
                    DurationBucket { bound_seconds: 0.5, count: 3 },
                    DurationBucket { bound_seconds: f64::INFINITY, count: 1 },
                ],
                ..AnsweredRequests::default()
            }],
            slow_requests: vec![SlowRequest {
                trace_id: vec![0x0a, 0xff].into(),
                duration_micros: 1500,
                spans: vec![Span {
                    kind: SpanKind::Server.into(),
                    start_time_unix_nano: 1_700_000_000_123_456_789,
                    end_time_unix_nano: 1_700_000_000_123_457_289,
                    ..Span::default()
                }],
            }],
        }
    }

    #[test]
    fn what_is_told_is_what_the_page_reads() {
        let members = vec![("n1".to_owned(), Ok(report())), ("n2".to_owned(), Err("why".to_owned()))];
        let told = cluster("n1", &Reports { time_unix_ms: 9, members });
        let (first, second) = (&told["nodes"][0], &told["nodes"][1]);
        assert_eq!((&told["self"], &told["time_ms"], &first["name"]), (&json!("n1"), &json!(9), &json!("n1")));
        let status = &first["status"];
        assert_eq!((&status["role"], &status["term"]), (&json!("pre_candidate"), &json!(4)));
        assert_eq!((&status["leader"], &status["dropped_messages"]["b"]), (&Value::Null, &json!(3)));
        assert_eq!(status["peers"][0]["match_index"], json!(7));
        assert_eq!(first["process"], json!("18446744073709551615"), "a browser would round the number");
        let event = &first["events"][0];
        assert_eq!((&event["kind"], &event["count"]), (&json!("PRE_VOTE_GRANTED"), &json!(9)));
        assert_eq!(first["requests"][0]["buckets"], json!([[0.5, 3], [null, 1]]));
        assert_eq!(first["slow"][0]["trace_id"], json!("0aff"));
        let span = &first["slow"][0]["spans"][0];
        assert_eq!((&span["start_ms"], &span["duration_us"]), (&json!(1_700_000_000_123.456), &json!(0.5)));
        assert_eq!((&second["error"], &second["status"]), (&json!("why"), &Value::Null));
    }
}
