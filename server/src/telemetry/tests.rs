//! Spans as an exporter gets them.

use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SimpleSpanProcessor, SpanData, SpanExporter};
use tonic::Code;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::environment::{ExportSettings, Sampler};
use super::init::{resource, subscriber};
use super::reporting::Reporting;
use super::span::RequestSpan;
use super::tracer::Tracer;
use super::{TelemetryError, TraceContext, inject};
use crate::config::LogFormat;

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const METHOD: &str = "kv.v1.KvService/Put";

/// Keeps what is exported.
#[derive(Clone, Debug, Default)]
struct Exported(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Exported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no test panics with the lock").extend(batch);
        Ok(())
    }
}

impl Exported {
    fn tracer(&self) -> Arc<Tracer> {
        let exporter = Box::new(SimpleSpanProcessor::new(self.clone()));
        Arc::new(Tracer::new("test", Sampler::PARENT_BASED_ALWAYS_ON, Some(exporter)))
    }

    fn take(&self) -> Vec<SpanData> {
        std::mem::take(&mut self.0.lock().expect("no test panics with the lock"))
    }
}

fn metadata(traceparent: &'static str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("traceparent", MetadataValue::from_static(traceparent));
    metadata
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key.as_str() == key).map(|pair| pair.value.to_string())
}

#[test]
fn where_nothing_is_ever_traced_a_callers_wish_does_not_count() {
    let exported = Exported::default();
    let exporter = Box::new(SimpleSpanProcessor::new(exported.clone()));
    let tracer = Arc::new(Tracer::new("test", Sampler::ALWAYS_OFF, Some(exporter)));
    let sampled = TraceContext::parse(SAMPLED).expect("well-formed");
    assert!(sampled.is_sampled() && !tracer.records(&sampled));
    assert_eq!(tracer.server_span(&metadata(SAMPLED), METHOD).context(), None);
    assert_eq!(tracer.child_span(&sampled, METHOD.into(), SpanKind::Server).context(), None);
    assert_eq!(tracer.own_span("raft.election").context(), None);
    assert_eq!(exported.take(), []);
}

#[test]
fn a_request_of_an_unsampled_trace_builds_nothing() {
    let exported = Exported::default();
    let tracer = exported.tracer();
    let span = tracer.server_span(&metadata(UNSAMPLED), METHOD);
    assert_eq!(span.context(), None);
    let child = span.child("raft.propose", SpanKind::Internal);
    assert_eq!(child.context(), None);
    // An attribute's value is not even made.
    let child = child.with_number("raft.index", 1);
    drop(child);
    span.end(Code::Ok);
    assert!(exported.take().is_empty());
    assert!(size_of::<RequestSpan>() <= 16, "an empty span is two words on the stack");
}

#[test]
fn a_chain_of_spans_keeps_the_trace_and_its_order() {
    let exported = Exported::default();
    let tracer = exported.tracer();
    let server = tracer.server_span(&metadata(SAMPLED), METHOD);
    let trace = server.context().expect("sampled");

    // The context goes through another request's metadata, as between two nodes.
    let mut outgoing = MetadataMap::new();
    inject(&trace, &mut outgoing);
    let trace = super::extract(&outgoing).expect("sampled");
    let append = tracer.child_span(&trace, "raft.append".into(), SpanKind::Server).with_number("raft.index", 7);
    drop(append.with_text("raft.node.id", "n2"));
    server.end(Code::Ok);

    let spans = exported.take();
    let [append, server] = &spans[..] else { panic!("two spans, not {}", spans.len()) };
    assert_eq!(server.name, METHOD);
    assert_eq!(server.span_kind, SpanKind::Server);
    assert_eq!(server.parent_span_id, SpanId::from(0xb7ad_6b71_6920_3331));
    assert!(server.parent_span_is_remote);
    assert_eq!(attribute(server, "rpc.system.name").as_deref(), Some("grpc"));
    assert_eq!(attribute(server, "rpc.method").as_deref(), Some(METHOD));
    assert_eq!(attribute(server, "rpc.response.status_code").as_deref(), Some("OK"));
    assert_eq!(append.parent_span_id, server.span_context.span_id());
    assert_eq!(append.span_context.trace_id(), server.span_context.trace_id());
    assert_eq!(format!("{:032x}", append.span_context.trace_id()), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(attribute(append, "raft.index").as_deref(), Some("7"));
    assert_eq!(attribute(append, "raft.node.id").as_deref(), Some("n2"));
    assert_eq!(attribute(append, "rpc.method"), None);
}

#[test]
fn a_request_without_a_parent_starts_a_trace() {
    let exported = Exported::default();
    exported.tracer().server_span(&MetadataMap::new(), METHOD).end(Code::Ok);
    let spans = exported.take();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    assert!(spans[0].span_context.is_valid());
}

#[test]
fn only_what_may_be_the_servers_fault_is_an_error_on_the_server() {
    let exported = Exported::default();
    let tracer = exported.tracer();
    for (code, error) in [
        (Code::AlreadyExists, false),
        (Code::NotFound, false),
        (Code::ResourceExhausted, false),
        (Code::Unavailable, true),
        (Code::DeadlineExceeded, true),
        (Code::Unknown, true),
    ] {
        tracer.server_span(&metadata(SAMPLED), METHOD).end(code);
        let spans = exported.take();
        assert_eq!(spans[0].status != Status::Unset, error, "{code:?} on the server");
        assert_eq!(attribute(&spans[0], "error.type").is_some(), error, "{code:?} on the server");

        let parent = TraceContext::parse(SAMPLED).expect("well-formed");
        tracer.child_span(&parent, "kv.forward".into(), SpanKind::Client).with_method(METHOD).end(code);
        let spans = exported.take();
        assert_ne!(spans[0].status, Status::Unset, "{code:?} on the client");
    }
}

#[test]
fn a_call_that_nobody_waits_for_ends_as_cancelled() {
    let exported = Exported::default();
    drop(exported.tracer().server_span(&metadata(SAMPLED), METHOD));
    let spans = exported.take();
    assert_eq!(attribute(&spans[0], "rpc.response.status_code").as_deref(), Some("CANCELLED"));
    assert_eq!(spans[0].status, Status::Unset);
}

#[test]
fn a_parent_that_a_peer_made_up_or_did_not_sample_gives_no_span() {
    let exported = Exported::default();
    let tracer = exported.tracer();
    assert_eq!(["", "nonsense"].map(TraceContext::parse), [None, None]);
    let unsampled = TraceContext::parse(UNSAMPLED).expect("well-formed");
    drop(tracer.child_span(&unsampled, "raft.append".into(), SpanKind::Server));
    assert!(exported.take().is_empty());
}

#[test]
fn a_sampled_context_is_handed_on_by_a_process_that_exports_nothing() {
    let span = super::server_span(&metadata(SAMPLED), METHOD);
    assert_eq!(span.context(), TraceContext::parse(SAMPLED));
    let span = super::server_span(&metadata(UNSAMPLED), METHOD);
    assert_eq!(span.context(), None);
}

#[test]
fn the_resource_names_service_node_and_version() {
    let settings = ExportSettings { service_named: false };
    let resource = resource(&settings, "n1");
    let get = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
    assert_eq!(get("service.name").as_deref(), Some("quorate-server"));
    assert_eq!(get("service.instance.id").as_deref(), Some("n1"));
    assert_eq!(get("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
}

/// Delivers or not, as told for each batch.
#[derive(Debug)]
struct Unreliable(Mutex<Vec<OTelSdkResult>>);

impl SpanExporter for Unreliable {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no test panics with the lock").remove(0)
    }
}

#[test]
fn a_collector_that_is_away_makes_one_line_and_its_return_another() {
    let away = || Err(OTelSdkError::InternalFailure("connection refused".to_owned()));
    let exporter = Reporting::new(Unreliable(Mutex::new(vec![Ok(()), away(), away(), away(), Ok(()), Ok(())])));
    let lines = Lines::default();
    let writer = lines.clone();
    let (subscriber, _) = subscriber("info", LogFormat::Human, move || writer.clone()).expect("a good filter");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..6 {
            // What is logged is checked; the result is for the library.
            let _ = runtime.block_on(exporter.export(Vec::new()));
        }
    });
    let text = lines.text();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("WARN") && text.contains("connection refused"), "{text}");
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("no test panics with the lock").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics with the lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(filter: &str, format: LogFormat) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let (subscriber, _) = subscriber(filter, format, move || writer.clone()).expect("a good filter");
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(term = 7, "became leader");
        tracing::debug!("a detail");
    });
    lines.text()
}

#[test]
fn logs_are_filtered_and_json_is_one_object_a_line() {
    let text = logged("info", LogFormat::Human);
    assert!(text.contains("became leader") && text.contains("term") && !text.contains("a detail"), "{text}");
    assert!(logged("info,quorate_server=debug", LogFormat::Human).contains("a detail"));

    let text = logged("info", LogFormat::Json);
    let object: serde_json::Value = serde_json::from_str(text.trim_end()).expect("one JSON object");
    assert_eq!((&object["message"], &object["term"]), (&"became leader".into(), &7.into()));
}

#[test]
fn a_bad_filter_is_refused() {
    assert!(subscriber("info=chatty=x", LogFormat::Human, std::io::sink).is_err());
}

#[test]
fn the_filter_is_changed_while_events_come() {
    let lines = Lines::default();
    let writer = lines.clone();
    let (subscriber, filter) = subscriber("info", LogFormat::Human, move || writer.clone()).expect("a good filter");
    let texts = |from: &str, until: &str| (from.to_owned(), until.to_owned());
    tracing::subscriber::with_default(subscriber, || {
        // The same callsite each time: what is remembered of it has to be asked for anew.
        let detail = |number: u32| tracing::debug!("detail {number}");
        detail(1);
        assert_eq!(filter.update("debug").expect("good"), texts("info", "debug"));
        detail(2);
        assert!(matches!(filter.update("info=chatty=x"), Err(TelemetryError::LogFilter { .. })));
        detail(3);
        assert_eq!(filter.update("").expect("good"), texts("debug", "info"));
        detail(4);
        assert_eq!(filter.update("off").expect("good"), texts("info", "off"));
        tracing::error!("detail 5");
        assert_eq!(filter.update("off,quorate_server=debug").expect("good"), texts("off", "off,quorate_server=debug"));
        detail(6);
    });
    let text = lines.text();
    let told: Vec<u32> = (1..=6).filter(|number| text.contains(&format!("detail {number}"))).collect();
    assert_eq!(told, [2, 3, 6], "{text}");
    assert_eq!(text.matches("an operator changes what is logged").count(), 3, "but for the one in silence: {text}");
}

#[test]
fn a_filter_of_regular_expressions_costs_nothing() {
    let (_subscriber, filter) = subscriber("info", LogFormat::Human, std::io::sink).expect("a good filter");
    // As an automaton it would have two to the 24 states.
    let costly = format!("info,[span{{field=(a|b)*a{}}}]=debug", "(a|b)".repeat(24));
    filter.update(&costly).expect("good");
}
