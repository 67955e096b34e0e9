//! The traces that nodes remember: that of a request which was just made, any by its id, and the slowest requests.

use super::{
    args::Format,
    exit,
    output::{hex, json, line, printable, table, tabs},
    run::Done,
    style::Colours,
    waterfall::{Waterfall, duration},
};
use client_cli::{Client, Endpoint, Error, Options, SlowRequest, Span};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long the parts of a trace are waited for that may come after the answer: the last follower's, and those of nodes
/// whose spans have not ended.
const COMPLETE_MAX: Duration = Duration::from_secs(1);

/// How often the nodes are asked for them.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How long a node is asked: what it remembers is at hand.
const ASK_MAX: Duration = Duration::from_secs(1);

/// What takes less than this part of a request is not named as where its time went.
const WORTH_NAMING: u64 = 10;

/// How many parts of a request are named at most.
const NAMED_MAX: usize = 3;

/// The parts of a request that say where its time went: those in which a node waits or works, and not those around
/// them.
const PARTS: [&str; 9] = [
    "raft.queue",
    "wal.queue",
    "wal.append",
    "wal.fsync",
    "raft.quorum_wait",
    "sm.apply",
    "kv.forward",
    "raft.replicate ",
    "read.",
];

/// A trace that this process began, and its own spans of it.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) trace_id: [u8; 16],
    pub(crate) spans: Vec<Span>,
}

/// Draws the trace of a request that was just made, of which this process has `own`: more and more of it, as what was
/// begun for the request ends.
pub(crate) async fn of_own(options: &Options, own: impl Fn() -> Own, colours: Colours) -> String {
    let (client, followers) = everyone(options).await;
    let begun = Instant::now();
    let (trace_id, waterfall, notes) = loop {
        let Own { trace_id, spans } = own();
        let has_root = spans.iter().any(|span| span.parent_span_id.is_empty());
        let roots: Vec<Vec<u8>> = spans.iter().map(|span| span.span_id.to_vec()).collect();
        let (of_nodes, notes) = spans_of(&client, trace_id).await;
        let waterfall = Waterfall::new(spans.into_iter().chain(of_nodes).collect(), Some(&roots));
        // A node that is away will not tell its part.
        let is_complete = has_root && (waterfall.is_complete(followers) || !notes.is_empty());
        if is_complete || begun.elapsed() >= COMPLETE_MAX {
            break (trace_id, waterfall, notes);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    };
    let mut text = format!("trace {}\n{}", hex(&trace_id), waterfall.draw(colours));
    for note in notes {
        text.push('\n');
        text.push_str(&note);
    }
    text
}

/// A trace by its id, as all nodes together know it.
pub(crate) async fn by_id(options: &Options, format: Format, trace_id: [u8; 16], colours: Colours) -> Done {
    let (client, _) = everyone(options).await;
    let (spans, notes) = spans_of(&client, trace_id).await;
    let nobody_answered = notes.len() == client.endpoints().len();
    if !notes.is_empty() {
        // Their part is missing.
        super::complain(&notes.join("\n"));
    }
    if spans.is_empty() {
        if nobody_answered {
            return (Vec::new(), exit::UNAVAILABLE);
        }
        super::complain(&format!("no node remembers a trace {}", hex(&trace_id)));
        return (Vec::new(), exit::KEY_MISSING);
    }
    let shown = match format {
        Format::Json => json(&spans.iter().map(JsonSpan::new).collect::<Vec<_>>()),
        Format::Table => line(Waterfall::new(spans, None).draw(colours)),
        Format::Raw => tabs(spans.iter().map(|span| {
            let took = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
            vec![printable(&span.node), printable(&span.name), span.start_time_unix_nano.to_string(), took.to_string()]
        })),
    };
    (shown, exit::OK)
}

/// The slowest requests of all nodes.
pub(crate) async fn slowest(options: &Options, format: Format, limit: u32, colours: Colours) -> Done {
    let (client, _) = everyone(options).await;
    let mut requests = Vec::new();
    let mut notes = Vec::new();
    for (endpoint, answer) in client.slow_requests(limit).await {
        match answer {
            Ok(answer) => requests.extend(answer),
            Err(error) => notes.push(away(&endpoint, &error)),
        }
    }
    requests.sort_by_key(|request| u64::MAX - request.duration_micros);
    requests.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let rows = requests.iter().map(|request| row(request, now_nanos));
    let mut shown = match format {
        Format::Table => colours.head(table(&HEADER, rows)),
        Format::Raw => tabs(rows),
        Format::Json => json(&requests.iter().map(JsonRequest::new).collect::<Vec<_>>()),
    };
    if format == Format::Table && !notes.is_empty() {
        shown.extend(line(format!("\n{}", notes.join("\n"))));
    }
    let code = if notes.len() == client.endpoints().len() { exit::UNAVAILABLE } else { exit::OK };
    (shown, code)
}

const HEADER: [&str; 6] = ["TOOK", "NODE", "REQUEST", "AGO", "WHERE", "TRACE"];

fn row(request: &SlowRequest, now_nanos: u64) -> Vec<String> {
    let root = request.spans.first();
    let ended = root.map_or(now_nanos, |root| root.end_time_unix_nano);
    let ago = Duration::from_nanos(now_nanos.saturating_sub(ended)).as_secs();
    vec![
        duration(request.duration_micros.saturating_mul(1_000)),
        root.map_or("-".to_owned(), |root| printable(&root.node)),
        root.map_or("-".to_owned(), |root| printable(root.name.rsplit('/').next().unwrap_or(&root.name))),
        format!("{ago} s"),
        parts(request).iter().map(|(name, took)| format!("{name} {}", duration(*took))).collect::<Vec<_>>().join(", "),
        hex(&request.trace_id),
    ]
}

/// Where a request's time went: the parts of it that took longest, with how long each took, in nanoseconds.
fn parts(request: &SlowRequest) -> Vec<(String, u64)> {
    let node = request.spans.first().map(|root| root.node.as_str()).unwrap_or_default();
    let own = request.spans.iter().filter(|span| span.node == node);
    let named = own.filter(|span| PARTS.iter().any(|part| span.name.starts_with(part)));
    let took = |span: &Span| span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    let mut parts: Vec<(String, u64)> = named.map(|span| (printable(&span.name), took(span))).collect();
    parts.retain(|(_, took)| took / 1_000 * WORTH_NAMING >= request.duration_micros);
    parts.sort_by_key(|(_, took)| u64::MAX - took);
    parts.truncate(NAMED_MAX);
    parts
}

/// A client of all members, and how many of them follow a leader; of the configured endpoints if nobody knows them.
async fn everyone(options: &Options) -> (Client, usize) {
    let configured = Client::connect(options.clone());
    let Ok(members) = configured.list_members().await else { return (configured, 0) };
    let addresses: Vec<&str> = members.iter().map(|member| member.client_address.as_str()).collect();
    let followers = members.len().saturating_sub(1);
    match Options::new(&addresses) {
        Ok(all) if !addresses.contains(&"") => (Client::connect(all.timeout(ASK_MAX).pipelining(false)), followers),
        _ => (configured, 0),
    }
}

/// What the nodes have of a trace, and which of them did not answer.
async fn spans_of(client: &Client, trace_id: [u8; 16]) -> (Vec<Span>, Vec<String>) {
    let (mut spans, mut notes) = (Vec::new(), Vec::new());
    for (endpoint, answer) in client.trace(trace_id).await {
        match answer {
            Ok(of_node) => spans.extend(of_node),
            Err(error) => notes.push(away(&endpoint, &error)),
        }
    }
    (spans, notes)
}

fn away(endpoint: &Endpoint, error: &Error) -> String {
    format!("{endpoint}: {}", printable(&error.to_string()))
}

/// A span in JSON.
#[derive(Serialize)]
struct JsonSpan<'a> {
    span_id: String,
    parent_span_id: String,
    name: &'a str,
    kind: &'static str,
    node: &'a str,
    start_time_unix_nano: u64,
    end_time_unix_nano: u64,
    failed: bool,
    attributes: BTreeMap<&'a str, &'a str>,
}

/// A slow request in JSON.
#[derive(Serialize)]
struct JsonRequest<'a> {
    trace_id: String,
    duration_micros: u64,
    spans: Vec<JsonSpan<'a>>,
}

impl<'a> JsonSpan<'a> {
    fn new(span: &'a Span) -> JsonSpan<'a> {
        use client_cli::SpanKind;
        JsonSpan {
            span_id: hex(&span.span_id),
            parent_span_id: hex(&span.parent_span_id),
            name: &span.name,
            kind: match span.kind() {
                SpanKind::Client => "client",
                SpanKind::Server => "server",
                SpanKind::Unspecified => "internal",
            },
            node: &span.node,
            start_time_unix_nano: span.start_time_unix_nano,
            end_time_unix_nano: span.end_time_unix_nano,
            failed: span.failed,
            attributes: span.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }
}

impl<'a> JsonRequest<'a> {
    fn new(request: &'a SlowRequest) -> JsonRequest<'a> {
        let SlowRequest { trace_id, duration_micros, spans } = request;
        let spans = spans.iter().map(JsonSpan::new).collect();
        JsonRequest { trace_id: hex(trace_id), duration_micros: *duration_micros, spans }
    }
}
