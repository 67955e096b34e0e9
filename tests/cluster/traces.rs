//! One put is one trace: from `client-cli` through a forwarding node and the leader to the syncs of all logs and its
//! application. A get tells how fresh it has to be; an election tells of its votes.
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

/// The consistency levels of gets.
const LEVELS: [&str; 3] = ["linearizable", "quorum", "stale"];

/// How far the clocks of two processes of a machine may be apart: each reads when it starts how its own lie to each
/// other, and the system may set the time meanwhile.
const CLOCKS_APART_NANOS: u64 = 100_000_000;

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

/// A span as a test expects it: its name, its kind, and what is within it.
struct Expected {
    process: Process,
    name: String,
    kind: SpanKind,
    children: Vec<Expected>,
}

fn span(process: Process, name: &str, kind: SpanKind, children: Vec<Expected>) -> Expected {
    Expected { process, name: name.to_owned(), kind, children }
}

fn internal(process: Process, name: &str) -> Expected {
    span(process, name, SpanKind::Internal, Vec::new())
}

impl Trace {
    fn children(&self, parent: &[u8]) -> impl Iterator<Item = &(Process, Span)> {
        self.0.values().filter(move |(_, span)| span.parent_span_id == parent)
    }

    /// What is missing of the expected span and of all that is within it, below the span `parent`; and what is there
    /// although nothing of it is expected.
    fn differences(&self, parent: &[u8], expected: &[Expected]) -> Vec<String> {
        let mut differences = Vec::new();
        let mut unexpected: Vec<&(Process, Span)> = self.children(parent).collect();
        for wanted in expected {
            let is_it = |(process, span): &&(Process, Span)| {
                (*process, &span.name, span.kind()) == (wanted.process, &wanted.name, wanted.kind)
            };
            match unexpected.iter().position(is_it) {
                None => differences.push(format!("{:?} has no {} ({:?})", wanted.process, wanted.name, wanted.kind)),
                Some(place) => {
                    let (_, found) = unexpected.remove(place);
                    differences.extend(self.differences(&found.span_id, &wanted.children));
                }
            }
        }
        let surplus = unexpected.iter().map(|(process, span)| format!("{process:?} has {} too much", span.name));
        differences.extend(surplus);
        differences
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a (Process, Span)> {
        self.0.values().filter(move |(_, span)| span.name == name)
    }

    /// Panics unless every span lies within the one that it is part of.
    fn expect_nested(&self) {
        for (process, span) in self.0.values() {
            let Some((owner, parent)) = self.0.get(&span.parent_span_id) else { continue };
            let slack = if owner == process { 0 } else { CLOCKS_APART_NANOS };
            let what = format!("{process:?} {} within {owner:?} {}", span.name, parent.name);
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{what}");
            assert!(parent.start_time_unix_nano <= span.start_time_unix_nano + slack, "{what}");
            // A put is answered when a majority has it: the last follower may come later.
            if !span.name.starts_with("raft.replicate ") {
                assert!(span.end_time_unix_nano <= parent.end_time_unix_nano + slack, "{what}");
            }
        }
    }
}

/// The trace that the client began, if it has.
fn clients_trace(spans: &Spans) -> Option<Trace> {
    let spans = spans.lock().expect("no holder of the lock panics");
    let (_, root) = spans.iter().find(|(process, _)| *process == Process::Client)?;
    let of_trace = spans.iter().filter(|(_, span)| span.trace_id == root.trace_id);
    Some(Trace(of_trace.map(|entry| (entry.1.span_id.clone(), entry.clone())).collect()))
}

/// Waits until the client's trace is as expected.
async fn whole_trace(spans: &Spans, expected: &[Expected]) -> Trace {
    let is_whole = |trace: &Trace| trace.differences(&[], expected).is_empty();
    let complete = wait_for("the trace is whole", async || clients_trace(spans).filter(is_whole));
    // What is missing is of more use than that something is.
    match tokio::time::timeout(tests::wait::BOUND / 2, complete).await {
        Ok(trace) => trace,
        Err(_) => panic!("{:#?}", clients_trace(spans).map(|trace| trace.differences(&[], expected))),
    }
}

/// What the log of a process does with an entry.
fn log_of(process: Process) -> Vec<Expected> {
    ["wal.queue", "wal.append", "wal.fsync"].map(|name| internal(process, name)).into()
}

/// What a leader and its followers do with an entry.
fn proposal(leader: usize, followers: &[usize]) -> Vec<Expected> {
    let own = Process::Node(leader);
    let mut within = log_of(own);
    within.extend(["raft.quorum_wait", "sm.apply"].map(|name| internal(own, name)));
    within.extend(followers.iter().map(|follower| {
        let process = Process::Node(*follower);
        let append = span(process, "raft.append", SpanKind::Server, log_of(process));
        span(own, &format!("raft.replicate n{}", follower + 1), SpanKind::Client, vec![append])
    }));
    vec![internal(own, "raft.queue"), span(own, "raft.propose", SpanKind::Internal, within)]
}

/// A call of the client to a node.
fn call(method: &str, node: usize, within: Vec<Expected>) -> Expected {
    let server = span(Process::Node(node), method, SpanKind::Server, within);
    span(Process::Client, method, SpanKind::Client, vec![server])
}

/// A call of the client to a node, within the client's operation.
fn called(operation: &str, method: &str, node: usize, within: Vec<Expected>) -> Vec<Expected> {
    vec![span(Process::Client, operation, SpanKind::Client, vec![call(method, node, within)])]
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
async fn a_get_is_read_where_it_was_asked_for_at_each_consistency_level() {
    let spans = Spans::default();
    let (cluster, client) = traced(&spans).await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    cluster.put(leader, "traced", "v").await.expect("the key is new");
    cluster.converged().await;
    for (node, level) in [leader, follower].iter().flat_map(|node| LEVELS.map(|level| (*node, level))) {
        spans.lock().expect("no holder of the lock panics").clear();
        run_client(&cluster, node, &client, &["get", "--consistency", level, "traced"]).await;
        let own = Process::Node(node);
        // A follower asks its leader how far its state must be.
        let asked = if node == follower && level == "linearizable" {
            let confirmed = span(Process::Node(leader), "raft.confirm_leadership", SpanKind::Server, Vec::new());
            vec![span(own, "raft.read_index", SpanKind::Client, vec![confirmed])]
        } else {
            Vec::new()
        };
        let read = span(own, &format!("read.{level}"), SpanKind::Internal, asked);
        let within = vec![internal(own, "raft.queue"), read];
        let trace = whole_trace(&spans, &called("get", "kv.v1.KvService/Get", node, within)).await;
        trace.expect_nested();
        let is_told = |(process, span): &(Process, Span)| *process == own && consistency(span) == Some(level);
        assert!(trace.named("kv.v1.KvService/Get").any(is_told), "{level}");
    }
}

#[tokio::test]
async fn a_put_through_a_follower_is_one_trace_from_the_client_through_all_logs_to_its_application() {
    let spans = Spans::default();
    let (cluster, client) = traced(&spans).await;
    let leader = cluster.leader().await;
    let [forwarding, other] = cluster.others(leader)[..] else { panic!("three nodes have one leader") };
    cluster.converged().await;

    run_client(&cluster, forwarding, &client, &["put", "traced", "v"]).await;

    let forward = "raft.v1.RaftService/Forward";
    let served = span(Process::Node(leader), forward, SpanKind::Server, proposal(leader, &[forwarding, other]));
    let forwarded = span(Process::Node(forwarding), "kv.forward", SpanKind::Client, vec![served]);
    let mut expected = called("put", "kv.v1.KvService/Put", forwarding, vec![forwarded]);
    // Before its first write the client asks for the cluster's time, to name the write by it.
    expected[0].children.push(call("admin.v1.AdminService/Status", forwarding, Vec::new()));
    let trace = whole_trace(&spans, &expected).await;
    trace.expect_nested();
    // When the leader knew of a majority, two logs had been synced.
    let (_, quorum) = trace.named("raft.quorum_wait").next().expect("the tree is whole");
    let until = quorum.end_time_unix_nano + CLOCKS_APART_NANOS;
    let synced = trace.named("wal.fsync").filter(|(_, span)| span.end_time_unix_nano <= until);
    assert!(synced.count() >= 2, "a majority of logs is synced before the entry is committed");
    // What is shared is linked, both ways.
    let links: Vec<usize> = trace.named("wal.fsync").map(|(_, span)| span.links.len()).collect();
    assert_eq!(links, [1, 1, 1]);
    let linked = wait_for("the batches are told", async || {
        let spans = spans.lock().expect("no holder of the lock panics");
        let is_linked = |batch: &Span| batch.links.iter().any(|link| trace.0.contains_key(&link.span_id));
        let batches = spans.iter().filter(|(_, span)| span.name == "wal.commit" && is_linked(span));
        (batches.count() >= 3).then_some(())
    });
    linked.await;
    // Neither the key nor the value is told to anybody.
    let told = spans.lock().expect("no holder of the lock panics");
    assert!(!format!("{told:?}").contains("\"traced\""), "the key is in an attribute");
}

#[tokio::test]
async fn an_election_is_a_trace_with_the_votes_of_the_others() {
    let spans = Spans::default();
    let (mut cluster, _) = traced(&spans).await;
    let leader = cluster.leader().await;
    cluster.nodes[leader].kill();
    let elected = cluster.leader().await;
    let own = Process::Node(elected);
    let won = wait_for("the election is told with a vote", async || {
        let spans = spans.lock().expect("no holder of the lock panics");
        let mut elections = spans.iter().filter(|(process, span)| *process == own && span.name == "raft.election");
        let is_whole = |election: &&(Process, Span)| {
            let trace = spans.iter().filter(|(_, span)| span.trace_id == election.1.trace_id);
            let trace = Trace(trace.map(|entry| (entry.1.span_id.clone(), entry.clone())).collect());
            let mut questions =
                trace.children(&election.1.span_id).filter(|(_, span)| span.name == "raft.request_vote");
            questions.any(|(_, question)| {
                let mut votes = trace.children(&question.span_id);
                votes.any(|(voter, vote)| *voter != own && vote.name == "raft.vote" && vote.kind() == SpanKind::Server)
            })
        };
        elections.find(is_whole).map(|(_, span)| span.clone())
    });
    let outcome = won.await.attributes.iter().find(|attribute| attribute.key == "outcome").cloned();
    assert_eq!(outcome.and_then(|outcome| outcome.value?.value), Some(Value::StringValue("won".to_owned())));
}
