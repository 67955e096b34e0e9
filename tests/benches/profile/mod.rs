//! What each figure is limited by: where the leader, a follower and the generator spend their time under each load.
//!
//! Each load has a cluster of its own and runs three times: undisturbed, for rates, CPU times and switches of threads;
//! beside `perf record`, for the shares of symbols; and beside `perf stat`, which slows each system call, for their
//! number. Only self time is recorded, so programs need no frame pointers; what belongs together is put together by
//! [`components`].

mod components;
mod perf;
mod report;
mod samples;

use crate::{
    Places,
    generator::{Measured, Mode, Schedule},
    machine::{Machine, foreign_load_percent},
    process::{Usage, page_faults, switches},
    system::{Kind, Running, System},
    workload::{Traffic, VALUE_BYTES, Workload, value},
};
use anyhow::Context as _;
use clap::Args;
use perf::Recording;
use report::{Load, Process, Report};
use std::{path::Path, time::Duration};

/// What is looked at: each figure that the main measurement compares with others.
const LOADS: [(System, Workload, usize); 8] = [
    (System::Quorate, Workload::Put, 1),
    (System::Quorate, Workload::Put, 64),
    (System::Quorate, Workload::Put, 1_000),
    (System::Quorate, Workload::Get, 1_000),
    (System::Pipeline, Workload::Put, 1_000),
    (System::Pipeline, Workload::Get, 1_000),
    (System::Library, Workload::Put, 1_000),
    (System::Library, Workload::Get, 1_000),
];

/// The processes that are looked at, in the order of [`Watched`].
pub(super) const ROLES: [&str; 3] = ["leader", "follower", "generator"];

/// The ids of the processes that are looked at.
type Watched = [u32; ROLES.len()];

/// How long a load runs before perf sees it.
const LEAD: Duration = Duration::from_millis(500);

/// How much later than asked perf may begin, on a machine that has a lot to do.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// The same where the load has to end by itself, because its rate is needed.
const DELAY: Duration = Duration::from_millis(1_000);

/// How long system calls are counted.
const COUNTED: Duration = Duration::from_secs(1);

/// How to look.
#[derive(Args, Clone, Debug)]
pub(crate) struct Profile {
    /// Seconds of each measurement and of each recording.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Connections that more than one request in flight is spread over.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Keys that are put before anything is measured.
    #[arg(long, default_value_t = 250_000)]
    keys: u64,
    /// The roads to Quorate.
    #[arg(long, value_delimiter = ',', default_value = "quorate,pipeline,library")]
    only: Vec<System>,
    #[command(flatten)]
    places: Places,
}

/// Profiles all loads and writes the report.
///
/// # Errors
/// There is no perf or it may not, a cluster cannot be started or has ended, or the report cannot be written.
pub(crate) async fn measure(options: &Profile) -> anyhow::Result<()> {
    anyhow::ensure!(
        options.seconds > 0.0 && options.connections > 0 && options.keys > 0,
        "there is nothing to measure"
    );
    anyhow::ensure!(options.only.iter().all(|system| system.kind() == Kind::Quorate), "only Quorate is profiled");
    perf::expect_installed().await?;
    let directory = tempfile::tempdir()?;
    let mut loads = Vec::new();
    let mut foreign_load_percent_max: f64 = 0.0;
    for (system, workload, in_flight) in LOADS {
        if options.only.contains(&system) {
            foreign_load_percent_max = foreign_load_percent_max.max(foreign_load_percent().await);
            let load = profile(options, system, workload, in_flight, directory.path()).await;
            let load = load.with_context(|| format!("{}, {}, {in_flight}", system.name(), workload.name()))?;
            eprintln!("{}", load.line());
            loads.push(load);
        }
    }
    let report = Report::new(Machine::here(), options, foreign_load_percent_max, loads);
    print!("{}", report.markdown());
    report.write(&options.places.out)
}

/// One load on a cluster of its own.
async fn profile(
    options: &Profile,
    system: System,
    workload: Workload,
    in_flight: usize,
    directory: &Path,
) -> anyhow::Result<Load> {
    let running = Running::start(system, &options.places.launch()).await.context("start")?;
    running.fill(options.keys, &value(VALUE_BYTES)).await.context("put the first keys")?;
    let leader = running.servers.leader().await;
    let process_ids = running.servers.process_ids();
    let follower = (leader + 1) % process_ids.len();
    let watched = [process_ids[leader], process_ids[follower], std::process::id()];
    let traffic = Traffic::new(workload, options.keys);
    let load = async |warm_up, duration| {
        let schedule = Schedule { mode: Mode::Closed { in_flight }, warm_up, duration };
        running.measure(&traffic, &schedule, options.connections.clamp(1, in_flight)).await
    };
    let warm_up = Duration::from_secs_f64(options.warm_up_seconds);
    let seconds = Duration::from_secs_f64(options.seconds);

    let (measured, used) = tokio::join!(load(warm_up, seconds), used_in(watched, warm_up, seconds));
    let (measured, used) = (measured.context("measure")?, used?);
    let recordings = tokio::select! {
        recordings = recorded(watched, seconds, directory) => recordings?,
        ended = load(LEAD, seconds + DELAY_MAX) => {
            ended.context("load beside perf record")?;
            anyhow::bail!("perf record did not end");
        }
    };
    let (beside, calls) = tokio::join!(load(LEAD, COUNTED + DELAY), counted(watched));
    let calls_per_operation = per_operation(&beside.context("measure beside perf stat")?, calls?);
    anyhow::ensure!(running.is_still_led().await, "another node leads now: the load was not that of one leader");
    drop(running);

    let mut processes = Vec::new();
    for (number, recording) in recordings.iter().enumerate() {
        let samples = recording.samples().await?;
        processes.push(Process::new(&measured, used[number], calls_per_operation[number], &samples));
    }
    Ok(Load::new(system, workload, in_flight, &measured, processes))
}

/// What a process used while it was measured.
#[derive(Clone, Copy)]
pub(super) struct Used {
    cpu: Duration,
    /// How often a thread of it gave a processor back or had to.
    switches: u64,
    page_faults: u64,
}

/// What they use in a time that begins so much later.
async fn used_in(watched: Watched, later: Duration, duration: Duration) -> anyhow::Result<Vec<Used>> {
    let look = || {
        let used = |&id: &u32| {
            let cpu = Usage::of(&[id], None)?.cpu;
            anyhow::Ok(Used { cpu, switches: switches(id)?, page_faults: page_faults(id)? })
        };
        watched.iter().map(used).collect::<anyhow::Result<Vec<Used>>>()
    };
    tokio::time::sleep(later).await;
    let before = look()?;
    tokio::time::sleep(duration).await;
    let after = look()?;
    let pairs = after.iter().zip(before);
    Ok(pairs
        .map(|(after, before)| Used {
            cpu: after.cpu.saturating_sub(before.cpu),
            switches: after.switches.saturating_sub(before.switches),
            page_faults: after.page_faults.saturating_sub(before.page_faults),
        })
        .collect())
}

/// Where they spend this time.
async fn recorded(watched: Watched, duration: Duration, directory: &Path) -> anyhow::Result<[Recording; 3]> {
    tokio::time::sleep(LEAD).await;
    let record = |process_id| perf::record(process_id, duration, directory);
    let [leader, follower, generator] = watched.map(record);
    let (leader, follower, generator) = tokio::try_join!(leader, follower, generator)?;
    Ok([leader, follower, generator])
}

/// How many system calls they make in a second.
async fn counted(watched: Watched) -> anyhow::Result<[Option<f64>; 3]> {
    tokio::time::sleep(LEAD).await;
    let [leader, follower, generator] = watched.map(|process_id| perf::system_calls_per_second(process_id, COUNTED));
    let (leader, follower, generator) = tokio::try_join!(leader, follower, generator)?;
    Ok([leader, follower, generator])
}

fn per_operation(measured: &Measured, per_second: [Option<f64>; 3]) -> [Option<f64>; 3] {
    let operations_per_second = measured.per_second();
    per_second
        .map(|per_second| per_second.filter(|_| operations_per_second > 0.0).map(|calls| calls / operations_per_second))
}
