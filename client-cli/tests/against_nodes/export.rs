//! Spans for a collector: on when the standard variables ask for it, and never in the way.

use crate::fake::{Node, hung, refusing};
use assert_cmd::Command;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use std::sync::{Arc, Mutex};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

type Received = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

struct Collector(Received);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().expect("no holder panics").push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn collector(runtime: &Runtime) -> (String, Received) {
    let received = Received::default();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let service = TraceServiceServer::new(Collector(Arc::clone(&received)));
    runtime.spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    (format!("http://{address}"), received)
}

fn binary(node: &Node) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client-cli"));
    command.env_clear().env("QUORATE_ENDPOINTS", node.endpoint());
    command
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_put_is_one_trace_that_the_node_can_join() {
    let runtime = Runtime::new().expect("a runtime can be made");
    let (endpoint, received) = collector(&runtime);
    let node = Node::start();
    let mut put = binary(&node);
    put.args(["put", "secret-key", "secret-value"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    put.assert().success().stdout("ok: revision 1, version 1\n").stderr("");

    let received = received.lock().expect("no holder panics");
    let resource = received[0].resource_spans[0].resource.clone().expect("there is one");
    assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("client-cli"));
    let spans: Vec<Span> = received
        .iter()
        .flat_map(|export| &export.resource_spans)
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| scope.spans.clone())
        .collect();
    let span = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"));
    let (whole, attempt) = (span("put"), span("kv.v1.KvService/Put"));
    assert_eq!(attempt.kind, i32::from(SpanKind::Client));
    assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&whole.trace_id, &whole.span_id));
    for (key, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "kv.v1.KvService/Put"),
        ("rpc.response.status_code", "OK"),
        ("server.address", "127.0.0.1"),
    ] {
        assert_eq!(attribute(&attempt.attributes, key).as_deref(), Some(value), "{key}");
    }
    let sent = node.calls("Put")[0].get("traceparent").cloned().expect("it is sent");
    assert_eq!(sent, format!("00-{}-{}-01", hex(&attempt.trace_id), hex(&attempt.span_id)));
    assert!(!format!("{received:?}").contains("secret"), "neither keys nor values are recorded");
}

#[test]
fn the_service_can_be_named_and_an_error_is_marked() {
    let runtime = Runtime::new().expect("a runtime can be made");
    let (endpoint, received) = collector(&runtime);
    let node = Node::start();
    let mut get = binary(&node);
    get.args(["get", "a"]).env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint).env("OTEL_SERVICE_NAME", "mine");
    get.assert().code(3);
    let received = received.lock().expect("no holder panics");
    let resource = received[0].resource_spans[0].resource.clone().expect("there is one");
    assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("mine"));
    let spans = &received[0].resource_spans[0].scope_spans[0].spans;
    let attempt = spans.iter().find(|span| span.name == "kv.v1.KvService/Get").expect("it was exported");
    assert_eq!(attribute(&attempt.attributes, "error.type").as_deref(), Some("NOT_FOUND"));
}

#[test]
fn a_collector_that_is_away_or_hung_changes_nothing() {
    let node = Node::start();
    let ((_kept, away), (_listener, hung)) = (refusing(), hung());
    for (at, collector) in [away, hung].iter().enumerate() {
        let mut put = binary(&node);
        put.args(["put", &format!("k{at}"), "1"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
        put.assert().success().stderr("");
    }
    let mut put = binary(&node);
    put.args(["put", "k", "1"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "not an address");
    put.assert().success();
}

#[test]
fn nothing_is_traced_unless_asked_for() {
    let node = Node::start();
    binary(&node).args(["put", "a", "1"]).assert().success();
    let mut disabled = binary(&node);
    disabled.args(["put", "b", "1"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    disabled.env("OTEL_SDK_DISABLED", "true").assert().success();
    assert!(node.calls("Put").iter().all(|metadata| metadata.get("traceparent").is_none()));
}
