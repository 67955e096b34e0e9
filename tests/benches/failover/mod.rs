//! How long no write is acknowledged when the leader dies under load, beside etcd: at each one's default timeouts, and
//! at the same. It is killed, and its host refuses connections; or it stands still, as if its machine were gone.
//!
//! The load is an open loop of puts of new keys at the members that stay up, which forward them. What counts is the
//! time from the signal until a put is acknowledged that was due after it: one from before may have been on its way to
//! its answer.

mod report;

use crate::{
    Places,
    etcd::EtcdCalls,
    generator::{calls::Calls, pace::pace},
    machine::{Machine, foreign_load_percent},
    quorate::QuorateCalls,
    servers::Servers,
    system::{Kind, Launch, System},
    workload::{Traffic, Workload},
};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use report::{Report, Series};
use serde::Serialize;
use std::{
    net::SocketAddr,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tests::rpc;
use tokio::sync::{Notify, Semaphore};

/// How long a put may take. What was forwarded to the dead leader is given up, and is not what is measured.
const PUT_TIMEOUT: Duration = Duration::from_secs(2);

/// Puts under way at most.
const UNDER_WAY_MAX: usize = 4_096;

/// How long anything may take before the measurement gives up.
const BOUND: Duration = Duration::from_secs(60);

/// The timeouts of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Timeouts {
    /// Each system's defaults.
    Default,
    /// Quorate's defaults for both: heartbeats of 100 ms, elections of 500 ms to twice that.
    Quorate,
    /// etcd's defaults for both: heartbeats of 100 ms, elections of 1,000 ms to twice that.
    Etcd,
}

impl Timeouts {
    /// What both systems are told; `None`: nothing.
    fn told(self) -> Option<(Duration, Duration)> {
        match self {
            Timeouts::Default => None,
            Timeouts::Quorate => Some((Duration::from_millis(100), Duration::from_millis(500))),
            Timeouts::Etcd => Some((Duration::from_millis(100), Duration::from_millis(1_000))),
        }
    }

    /// The shortest election timeout of a system.
    fn election(self, system: System) -> Duration {
        let default = if system == System::Etcd { Timeouts::Etcd } else { Timeouts::Quorate };
        self.told().or(default.told()).map_or(Duration::ZERO, |(_, election)| election)
    }

    /// What is said of them.
    fn words(self) -> &'static str {
        match self {
            Timeouts::Default => "default timeouts",
            Timeouts::Quorate => "elections after 500 ms",
            Timeouts::Etcd => "elections after 1,000 ms",
        }
    }
}

/// How a leader ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// Its process is killed.
    Killed,
    /// Its process stands still: nothing comes from it any more, and nothing says so.
    Silent,
}

impl End {
    /// What is said of it.
    fn words(self) -> &'static str {
        match self {
            End::Killed => "killed",
            End::Silent => "stands still",
        }
    }
}

/// How to measure failovers.
#[derive(Args, Clone, Debug)]
pub(crate) struct Failover {
    /// Leaders to end in each way, of each system with each timeouts.
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// The ways in which they end.
    #[arg(long, value_delimiter = ',', default_value = "killed,silent")]
    ends: Vec<End>,
    /// Puts a second.
    #[arg(long, default_value_t = 500.0)]
    per_second: f64,
    /// Seconds of load before each kill.
    #[arg(long, default_value_t = 1.0)]
    load_seconds: f64,
    /// The timeouts.
    #[arg(long, value_delimiter = ',', default_value = "default,quorate,etcd")]
    timeouts: Vec<Timeouts>,
    /// The systems.
    #[arg(long, value_delimiter = ',', default_value = "etcd,quorate")]
    only: Vec<System>,
    #[command(flatten)]
    places: Places,
}

/// Kills leaders and writes the report.
///
/// # Errors
/// A system cannot be started, or does not come back.
pub(crate) async fn measure(options: &Failover) -> anyhow::Result<()> {
    anyhow::ensure!(options.kills > 0 && options.per_second > 0.0, "there is nothing to measure");
    let mut all = Vec::new();
    for (&end, &timeouts) in options.ends.iter().flat_map(|end| options.timeouts.iter().map(move |t| (end, t))) {
        for &system in &options.only {
            let is_known =
                timeouts != Timeouts::Default && all.iter().any(|series: &Series| series.same(end, timeouts, system));
            let is_there = match system.kind() {
                Kind::Echo => false,
                Kind::Quorate => true,
                Kind::Etcd => options.places.etcd.is_some(),
            };
            if is_there && !is_known {
                all.push(kills(options, end, timeouts, system).await.with_context(|| system.name())?);
            }
        }
    }
    let report = Report::new(Machine::here(), options.per_second, all);
    print!("{}", report.markdown());
    report.write(&options.places.out)
}

/// Ends the leaders of one cluster, one after the other.
async fn kills(options: &Failover, end: End, timeouts: Timeouts, system: System) -> anyhow::Result<Series> {
    foreign_load_percent().await;
    let launch = Launch { timeouts: timeouts.told(), ..options.places.launch() };
    let mut servers = Servers::start(system.kind(), &launch).await.context("start")?;
    let mut series =
        Series { end, timeouts, system, election_ms: timeouts.election(system).as_secs_f64() * 1e3, ms: Vec::new() };
    for number in 1..=options.kills {
        let leader = servers.leader().await;
        let mut survivors = servers.addresses();
        survivors.remove(leader);
        let load = Load::start(system, &survivors, options.per_second);
        load.acknowledged_since(Instant::now()).await.context("no put was acknowledged before the kill")?;
        tokio::time::sleep(Duration::from_secs_f64(options.load_seconds)).await;
        let ended = Instant::now();
        match end {
            End::Killed => servers.kill(leader)?,
            End::Silent => servers.pause(leader)?,
        }
        let acknowledged = load.acknowledged_since(ended).await.context("no put was acknowledged after the end")?;
        drop(load);
        let took = acknowledged - ended;
        series.ms.push(took.as_secs_f64() * 1e3);
        let (name, timeouts, end) = (system.name(), timeouts.words(), end.words());
        eprintln!("{name}, {timeouts}, leader {number} {end}: {} ms", took.as_millis());
        servers.kill(leader)?;
        servers.restart(leader)?;
        servers.leader().await;
    }
    Ok(series)
}

/// Puts at an even pace, until it is dropped.
struct Load {
    state: Arc<State>,
}

/// What is known of the puts.
struct State {
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Default)]
struct Seen {
    is_over: bool,
    /// Counted are puts that were due after this.
    since: Option<Instant>,
    /// When the first of them was acknowledged.
    first: Option<Instant>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Every change is whole before the lock is given back.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledged(&self, due: Instant) {
        let mut seen = self.lock();
        if seen.first.is_none() && seen.since.is_some_and(|since| since <= due) {
            seen.first = Some(Instant::now());
            self.changed.notify_one();
        }
    }
}

impl Load {
    fn start(system: System, members: &[SocketAddr], per_second: f64) -> Load {
        let state = Arc::new(State { seen: Mutex::default(), changed: Notify::new() });
        let channels = members.iter().map(|&member| rpc::channel(member));
        if system.kind() == Kind::Etcd {
            tokio::spawn(put(channels.map(EtcdCalls::new).collect(), per_second, Arc::clone(&state)));
        } else {
            tokio::spawn(put(channels.map(QuorateCalls::new).collect(), per_second, Arc::clone(&state)));
        }
        Load { state }
    }

    /// Waits until a put is acknowledged that was due since a moment; when it was.
    async fn acknowledged_since(&self, moment: Instant) -> anyhow::Result<Instant> {
        *self.state.lock() = Seen { since: Some(moment), ..Seen::default() };
        tokio::time::timeout(BOUND, async {
            loop {
                if let Some(first) = self.state.lock().first {
                    return first;
                }
                self.state.changed.notified().await;
            }
        })
        .await
        .context("waited in vain")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.state.lock().is_over = true;
    }
}

async fn put<C: Calls>(members: Vec<C>, per_second: f64, state: Arc<State>) -> anyhow::Result<()> {
    let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let runtime = tokio::runtime::Handle::current();
    let traffic = Traffic::new(Workload::Put, 1);
    let mut turn = 0;
    pace(per_second, Instant::now() + 2 * BOUND, move |due| {
        if state.lock().is_over {
            return ControlFlow::Break(());
        }
        turn += 1;
        // With no room the system is far behind; a later put will do.
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { return ControlFlow::Continue(()) };
        let (mut calls, operation, state) = (members[turn % members.len()].clone(), traffic.next(), Arc::clone(&state));
        runtime.spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(PUT_TIMEOUT, calls.call(operation)).await {
                state.acknowledged(due);
            }
            drop(permit);
        });
        ControlFlow::Continue(())
    })
    .await
}
