//! Connections that ask for nothing: each makes one call, and then is only there.

use super::Overload;
use crate::{report::mebibytes, system::System, workload};
use anyhow::Context as _;
use bytes::Bytes;
use prost::Message as _;
use proto::kv::v1::GetRequest;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tests::raw::{self, Connection};
use tokio::task::JoinSet;
use tonic::Code;

/// Connections that are being opened at a time: fewer than a listener lets wait.
const OPENED_AT_ONCE: usize = 64;

/// Connections to one node at most. Each takes a port of this machine, of which Linux has 28,000 for an address.
const CONNECTIONS_PER_NODE_MAX: usize = 20_000;

/// Files beside the connections: those of the runtime, of the load and of the nodes' logs.
const OTHER_FILES: u64 = 256;

/// How long nodes have to come to rest before their memory is looked at.
const REST: Duration = Duration::from_secs(1);

/// The call that each connection makes.
const PATH: &str = "/kv.v1.KvService/Get";

/// What idle connections cost.
#[derive(Clone, Serialize)]
pub(super) struct Idle {
    pub(super) connections: usize,
    /// How many of them still answered at the end.
    pub(super) answered_at_the_end: usize,
    /// The resident memory of all nodes by then, per connection.
    pub(super) kib_per_connection: f64,
    /// The resident memory of all nodes without, with, and when the connections were closed again.
    pub(super) mib: [f64; 3],
    /// CPU time of all nodes in a second in which nothing is asked, without and with them.
    pub(super) cpu_ms_per_second: [f64; 2],
    pub(super) beside: Vec<Beside>,
}

/// Puts a second beside idle connections.
#[derive(Clone, Serialize)]
pub(super) struct Beside {
    pub(super) system: System,
    /// Without the connections, with them, and when they were closed again.
    pub(super) per_second: [f64; 3],
}

/// Opens the connections to a new cluster and looks what they cost.
pub(super) async fn measure(options: &Overload) -> anyhow::Result<Idle> {
    let count = options.idle_connections;
    allow_files(count)?;
    let running = options.start(System::Quorate).await?;
    let addresses = running.servers.addresses();
    anyhow::ensure!(count > 0, "there are no connections to open");
    anyhow::ensure!(count.div_ceil(addresses.len()) <= CONNECTIONS_PER_NODE_MAX, "so many ports are not there");
    let puts = async || {
        let mut per_second = Vec::new();
        for &system in &options.only {
            per_second.push(options.peak(&running, system).await?.per_second());
        }
        anyhow::Ok(per_second)
    };
    let resident = async || {
        tokio::time::sleep(REST).await;
        anyhow::Ok(running.servers.usage()?.resident_bytes_sum)
    };
    let seconds = options.idle_seconds;
    let cpu_ms = async || {
        let before = running.servers.usage()?;
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        anyhow::Ok(running.servers.usage()?.since(&before).cpu.as_secs_f64() * 1e3 / seconds)
    };
    // The load comes first, so that the memory that it leaves behind is there before and after.
    let puts_without = puts().await?;
    let (cpu_without, without) = (cpu_ms().await?, resident().await?);
    let mut connections = open(count, &addresses, options.keys).await.context("open idle connections")?;
    let with = resident().await?;
    eprintln!("{count} connections: {:.0} MiB more", mebibytes(with.saturating_sub(without)));
    let cpu_with = cpu_ms().await?;
    let puts_with = puts().await?;
    let answered_at_the_end = ask_all(&mut connections).await;
    drop(connections);
    let after = resident().await?;
    let puts_after = puts().await?;
    let rows = options.only.iter().zip(puts_without).zip(puts_with).zip(puts_after);
    Ok(Idle {
        connections: count,
        answered_at_the_end,
        // Both are far below 2^53.
        kib_per_connection: with.saturating_sub(without) as f64 / 1024.0 / count as f64,
        mib: [without, with, after].map(mebibytes),
        cpu_ms_per_second: [cpu_without, cpu_with],
        beside: rows.map(|(((&system, a), b), c)| Beside { system, per_second: [a, b, c] }).collect(),
    })
}

/// Lets this process have so many connections; the nodes raise their limit by themselves.
fn allow_files(connections: usize) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("raise the limit of open files")?;
    let needed = connections as u64 + OTHER_FILES;
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    anyhow::ensure!(allowed >= needed, "{needed} open files are needed and {allowed} allowed: see `ulimit -Hn`");
    Ok(())
}

/// Opens so many connections, each to the next node, and has each make its call.
async fn open(count: usize, addresses: &[SocketAddr], keys: u64) -> anyhow::Result<Vec<Connection>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..OPENED_AT_ONCE {
        let (next, addresses) = (Arc::clone(&next), addresses.to_vec());
        tasks.spawn(async move {
            let mut opened = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(opened);
                }
                let mut connection = Connection::open(addresses[number % addresses.len()]).await;
                anyhow::ensure!(ask(&mut connection, number as u64 % keys).await, "a first call was not answered");
                opened.push(connection);
            }
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(opened) = tasks.join_next().await {
        all.extend(opened??);
    }
    Ok(all)
}

/// How many of the connections answer once more.
async fn ask_all(connections: &mut [Connection]) -> usize {
    let mut answered = 0;
    for connection in connections {
        answered += usize::from(ask(connection, 0).await);
    }
    answered
}

/// Gets a key; whether that was answered.
async fn ask(connection: &mut Connection, number: u64) -> bool {
    let message = GetRequest { key: workload::key(number), ..GetRequest::default() };
    let body: Bytes = raw::frame(&message.encode_to_vec());
    let answer = connection.call(PATH, &raw::HEADERS, body).await;
    matches!(answer, raw::Answer::Status(status, _) if status.code() == Code::Ok)
}
