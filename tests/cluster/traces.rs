//! One put is one trace: from `client-cli` through a forwarding node and the leader to the followers' appends. A get
//! tells how fresh it has to be.
//!
//! Each process exports to a receiver of its own, so that a span's process is known without trusting what it says.

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tests::{
    cluster::{Cluster, Options},
    wait::wait_for,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// The process that a span came from: a node's number, or the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Process {
    Node(usize),
    Client,
}

type Spans = Arc<Mutex<Vec<(Process, Span)>>>;

/// An OTLP receiver for one process.
struct Sink {
    process: Process,
    spans: Spans,
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        let mut received = self.spans.lock().expect("no holder of the lock panics");
        received.extend(spans.map(|span| (self.process, span)));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn receive(process: Process, spans: &Spans) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address");
    let sink = TraceServiceServer::new(Sink { process, spans: spans.clone() });
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(sink).serve_with_incoming(incoming));
    address
}

fn export_to(address: SocketAddr) -> Vec<(String, String)> {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")),
        // Exported soon, so that the test waits less.
        ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// All spans of one trace, by their id.
struct Trace(HashMap<Vec<u8>, (Process, Span)>);

impl Trace {
    /// Whether each span's parent is there too, but for one root.
    fn is_linked(&self) -> bool {
        let orphans = self.0.values().filter(|(_, span)| !self.0.contains_key(&span.parent_span_id));
        let roots: Vec<bool> = orphans.map(|(_, span)| span.parent_span_id.is_empty()).collect();
        roots == [true]
    }

    /// The processes of a span's ancestors, from the span itself to the root, each run of equal ones once.
    fn way_to_root(&self, span: &Span) -> Vec<Process> {
        let mut way = Vec::new();
        let mut next = self.0.get(&span.span_id);
        while let Some((process, span)) = next {
            if way.last() != Some(process) {
                way.push(*process);
            }
            next = self.0.get(&span.parent_span_id);
        }
        way
    }

    fn of_process(&self, process: Process) -> impl Iterator<Item = &Span> {
        self.0.values().filter(move |(other, _)| *other == process).map(|(_, span)| span)
    }

    /// Whether `process` has a span whose ancestors lead through these processes to the root.
    fn has_way(&self, wanted: impl Fn(&Span) -> bool, way: &[Process]) -> bool {
        self.of_process(way[0]).any(|span| wanted(span) && self.way_to_root(span) == way)
    }

    fn describe(&self) -> String {
        let line = |(process, span): &(Process, Span)| {
            format!("  {process:?} {} ({:?}), through {:?}\n", span.name, span.kind(), self.way_to_root(span))
        };
        self.0.values().map(line).collect()
    }
}

/// The trace that the client began, if it has.
fn clients_trace(spans: &Spans) -> Option<Trace> {
    let spans = spans.lock().expect("no holder of the lock panics");
    let (_, root) = spans.iter().find(|(process, _)| *process == Process::Client)?;
    let of_trace = spans.iter().filter(|(_, span)| span.trace_id == root.trace_id);
    Some(Trace(of_trace.map(|entry| (entry.1.span_id.clone(), entry.clone())).collect()))
}

fn is_server(span: &Span) -> bool {
    span.kind() == SpanKind::Server
}

fn is_append(span: &Span) -> bool {
    span.name.to_lowercase().contains("append")
}

/// A cluster whose nodes tell their spans, and the variables with which a client does.
async fn traced(spans: &Spans) -> (Cluster, Vec<(String, String)>) {
    let mut environment = Vec::new();
    for node in 0..3 {
        environment.push(export_to(receive(Process::Node(node), spans).await));
    }
    let client = export_to(receive(Process::Client, spans).await);
    (Cluster::start(Options { environment, ..Options::default() }).await, client)
}

/// Runs the client against one node; it has to succeed.
async fn run_client(cluster: &Cluster, node: usize, variables: &[(String, String)], arguments: &[&str]) {
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let endpoint = cluster.nodes[node].address().to_string();
    let output = super::command_line::client(&endpoint, &variables, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a span says of the consistency level of a get.
fn consistency(span: &Span) -> Option<&str> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == "kv.consistency")?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(level) => Some(level),
        _ => None,
    }
}

#[tokio::test]
async fn a_get_tells_its_consistency_level_and_a_follower_forwards_none() {
    let spans = Spans::default();
    let (cluster, client) = traced(&spans).await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    cluster.put(leader, "traced", "v").await.expect("the key is new");
    cluster.converged().await;
    for level in ["linearizable", "quorum", "stale"] {
        run_client(&cluster, follower, &client, &["get", "--consistency", level, "traced"]).await;
        wait_for("the span of the get is told", async || {
            let spans = spans.lock().expect("no holder of the lock panics");
            let is_it = |(process, span): &(Process, Span)| {
                *process == Process::Node(follower) && is_server(span) && consistency(span) == Some(level)
            };
            spans.iter().any(is_it).then_some(())
        })
        .await;
    }
    let spans = spans.lock().expect("no holder of the lock panics");
    assert!(!spans.iter().any(|(_, span)| span.name == "kv.forward"), "the value came from elsewhere");
}

#[tokio::test]
async fn a_put_through_a_follower_is_one_trace_from_the_client_to_the_followers_appends() {
    let spans = Spans::default();
    let (cluster, client) = traced(&spans).await;
    let leader = cluster.leader().await;
    let [forwarding, other] = cluster.others(leader)[..] else { panic!("three nodes have one leader") };

    run_client(&cluster, forwarding, &client, &["put", "traced", "v"]).await;

    let through =
        |node: usize| [Process::Node(node), Process::Node(leader), Process::Node(forwarding), Process::Client];
    let is_whole = |trace: &Trace| {
        trace.is_linked()
            && trace.has_way(is_server, &[Process::Node(forwarding), Process::Client])
            && trace.has_way(is_server, &through(leader)[1..])
            && trace.has_way(is_append, &through(forwarding))
            && trace.has_way(is_append, &through(other))
    };
    let complete = wait_for("the trace is whole", async || clients_trace(&spans).filter(is_whole));
    // What is missing is of more use than that something is.
    match tokio::time::timeout(tests::wait::BOUND / 2, complete).await {
        Ok(trace) => assert!(trace.0.len() >= 5),
        Err(_) => panic!("{}", clients_trace(&spans).map_or("no trace".to_owned(), |trace| trace.describe())),
    }
}
