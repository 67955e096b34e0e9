//! Gets of both consistency levels: how long they take while the leader is lost, and how many a second there are.
//!
//! The first part is an open loop of gets, half of each level, at the members that stay up, through the end of the
//! leader: killed, or standing still. The second is a closed loop of one level at the leader alone or at the others,
//! and of linearizable gets at a leader that holds a lease.

mod report;

use crate::{
    Places,
    generator::{
        Mode, Schedule,
        calls::{self, Calls},
        pace::pace,
    },
    machine::{Machine, foreign_load_percent},
    quorate::QuorateCalls,
    servers::Servers,
    system::Kind,
    workload::{Operation, Traffic, Workload, key, value},
};
use anyhow::Context as _;
use clap::Args;
use proto::{
    admin::v1::{UpdateSettingsRequest, admin_service_client::AdminServiceClient},
    kv::v1::{Consistency, GetRequest, kv_service_client::KvServiceClient},
};
use report::{Rate, Report, Seen, Through};
use serde::Serialize;
use std::{
    net::SocketAddr,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tests::rpc;
use tokio::sync::Semaphore;
use tonic::{Status, transport::Channel};

/// How long a get may take: longer than any election.
const GET_TIMEOUT: Duration = Duration::from_secs(10);

/// Gets under way at most.
const UNDER_WAY_MAX: u32 = 10_000;

/// Connections to each member.
const CONNECTIONS: usize = 8;

/// Several heartbeats: leases are there by then.
const HEARTBEATS: Duration = Duration::from_millis(500);

/// The requests that put the keys in place.
const LOADERS: usize = 64;

/// The levels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Level {
    Linearizable,
    Quorum,
}

impl Level {
    const ALL: [Level; 2] = [Level::Linearizable, Level::Quorum];

    fn name(self) -> &'static str {
        match self {
            Level::Linearizable => "linearizable",
            Level::Quorum => "quorum",
        }
    }
}

/// How a leader is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum End {
    Killed,
    Silent,
}

/// Who is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Asked {
    Leader,
    Followers,
    /// The setting is on.
    LeaderWithLease,
}

/// How to measure gets of both levels.
#[derive(Args, Clone, Debug)]
pub(crate) struct Leaderless {
    /// Gets a second of each level while the leader is lost.
    #[arg(long, default_value_t = 200.0)]
    per_second: f64,
    /// Seconds before the leader is lost.
    #[arg(long, default_value_t = 2.0)]
    before_seconds: f64,
    /// Seconds after that.
    #[arg(long, default_value_t = 4.0)]
    after_seconds: f64,
    /// Seconds of each closed loop.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Requests in flight of the closed loops.
    #[arg(long, value_delimiter = ',', default_value = "1,64,1000")]
    in_flight: Vec<usize>,
    /// Keys that are read.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    #[command(flatten)]
    places: Places,
}

/// Measures both parts and writes the report.
///
/// # Errors
/// A cluster cannot be started, or does not answer.
pub(crate) async fn measure(options: &Leaderless) -> anyhow::Result<()> {
    let mut through = Vec::new();
    for end in [End::Killed, End::Silent] {
        foreign_load_percent().await;
        through.push(through_end(options, end).await?);
    }
    foreign_load_percent().await;
    let rates = rates(options).await?;
    let report = Report { machine: Machine::here(), per_second: options.per_second, through, rates };
    print!("{}", report.markdown());
    report.write(&options.places.out)
}

/// Gets at a level.
#[derive(Clone)]
struct Gets {
    client: KvServiceClient<Channel>,
    level: Level,
}

impl Gets {
    fn new(channel: Channel, level: Level) -> Gets {
        Gets { client: KvServiceClient::new(channel), level }
    }
}

impl Calls for Gets {
    async fn call(&mut self, operation: Operation) -> Result<(), Status> {
        let Operation::Get { key } = operation else {
            return Err(Status::invalid_argument("only gets have a level"));
        };
        let consistency = match self.level {
            Level::Linearizable => Consistency::Linearizable,
            Level::Quorum => Consistency::Quorum,
        };
        self.client.get(GetRequest { key, consistency: consistency.into(), ..GetRequest::default() }).await.map(drop)
    }
}

/// A cluster with the keys in place.
async fn loaded(options: &Leaderless) -> anyhow::Result<Servers> {
    let servers = Servers::start(Kind::Quorate, &options.places.launch()).await.context("start")?;
    let members: Vec<_> = servers.addresses().into_iter().map(|at| QuorateCalls::new(rpc::channel(at))).collect();
    let put = |number| Operation::Put { key: key(number), value: value(crate::workload::VALUE_BYTES) };
    calls::each_once(&members, options.keys, LOADERS, put).await.context("put the keys in place")?;
    Ok(servers)
}

/// Gets of both levels while a leader is lost.
async fn through_end(options: &Leaderless, end: End) -> anyhow::Result<Through> {
    let mut servers = loaded(options).await?;
    let leader = servers.leader().await;
    let mut survivors = servers.addresses();
    survivors.remove(leader);
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(options.before_seconds + options.after_seconds);
    let loads = Level::ALL.map(|level| tokio::spawn(gets(options.clone(), level, survivors.clone(), (began, until))));
    tokio::time::sleep(Duration::from_secs_f64(options.before_seconds)).await;
    let ended = began.elapsed();
    match end {
        End::Killed => servers.kill(leader)?,
        End::Silent => servers.pause(leader)?,
    }
    let mut seen = Vec::new();
    for load in loads {
        seen.extend(load.await.context("a load does not panic")??);
    }
    let ended_ms = ended.as_secs_f64() * 1e3;
    eprintln!("leader {end:?}: {} gets", seen.len());
    Ok(Through { end, ended_ms, seen })
}

/// Milliseconds to a tenth: there are thousands of them, and nobody looks closer.
fn rounded_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

/// Gets of one level at an even pace; when each was due and how long it took.
async fn gets(
    options: Leaderless,
    level: Level,
    members: Vec<SocketAddr>,
    (began, until): (Instant, Instant),
) -> anyhow::Result<Vec<Seen>> {
    let members: Vec<Gets> = members.into_iter().map(|member| Gets::new(rpc::channel(member), level)).collect();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX as usize));
    let (noted, left) = (Arc::clone(&seen), Arc::clone(&room));
    let runtime = tokio::runtime::Handle::current();
    let traffic = Traffic::new(Workload::Get, options.keys);
    let mut turn = 0;
    pace(options.per_second, until, move |due| {
        turn += 1;
        let Ok(permit) = Arc::clone(&left).try_acquire_owned() else { return ControlFlow::Continue(()) };
        let (mut calls, operation, noted) = (members[turn % members.len()].clone(), traffic.next(), Arc::clone(&noted));
        runtime.spawn(async move {
            let answer = tokio::time::timeout(GET_TIMEOUT, calls.call(operation)).await;
            let (due_ms, took_ms) = (rounded_ms(due - began), rounded_ms(due.elapsed()));
            let is_answered = matches!(answer, Ok(Ok(())));
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { level, due_ms, took_ms, is_answered });
            drop(permit);
        });
        ControlFlow::Continue(())
    })
    .await?;
    // All permits are back when the last get is answered or given up.
    drop(room.acquire_many(UNDER_WAY_MAX).await?);
    let mut seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    seen.sort_by(|one: &Seen, other| one.due_ms.total_cmp(&other.due_ms));
    Ok(seen)
}

/// Gets a second of each level, at the leader and at the others, and at a leader that holds a lease.
async fn rates(options: &Leaderless) -> anyhow::Result<Vec<Rate>> {
    let servers = loaded(options).await?;
    let leader = servers.leader().await;
    let mut rates = Vec::new();
    for &in_flight in &options.in_flight {
        for asked in [Asked::Leader, Asked::Followers] {
            for level in Level::ALL {
                rates.push(rate(options, &servers, (leader, asked), level, in_flight).await?);
            }
        }
    }
    let request = UpdateSettingsRequest { lease_reads: Some(true), request_id: None };
    AdminServiceClient::new(rpc::channel(servers.addresses()[leader])).update_settings(request).await?;
    for &in_flight in &options.in_flight {
        tokio::time::sleep(HEARTBEATS).await;
        rates.push(rate(options, &servers, (leader, Asked::LeaderWithLease), Level::Linearizable, in_flight).await?);
    }
    Ok(rates)
}

/// A closed loop of gets of one level at the leader or at the others.
async fn rate(
    options: &Leaderless,
    servers: &Servers,
    (leader, asked): (usize, Asked),
    level: Level,
    in_flight: usize,
) -> anyhow::Result<Rate> {
    let addresses = servers.addresses();
    let is_asked = |number: usize| (number == leader) != (asked == Asked::Followers);
    let asked_at: Vec<_> = (0..addresses.len()).filter(|&number| is_asked(number)).collect();
    let channel = |at: usize| rpc::channel(addresses[asked_at[at % asked_at.len()]]);
    let connections = (0..CONNECTIONS).map(|at| Gets::new(channel(at), level)).collect();
    let schedule = Schedule {
        mode: Mode::Closed { in_flight },
        warm_up: Duration::from_millis(500),
        duration: Duration::from_secs_f64(options.seconds),
    };
    let traffic = Traffic::new(Workload::Get, options.keys);
    let measured = calls::run(connections, &traffic, &schedule, || servers.usage()).await?;
    let operations = measured.per_second() * measured.elapsed.as_secs_f64();
    eprintln!("{asked:?}, {level:?}, {in_flight} in flight: {:.0} a second", measured.per_second());
    Ok(Rate {
        asked,
        level,
        in_flight,
        per_second: measured.per_second(),
        p50_ms: measured.latencies.value_at_quantile(0.5) as f64 / 1e6,
        p99_ms: measured.latencies.value_at_quantile(0.99) as f64 / 1e6,
        cpu_us: measured.system.cpu.as_secs_f64() * 1e6 / operations,
        errors: measured.errors,
    })
}
