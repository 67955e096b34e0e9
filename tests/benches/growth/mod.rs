//! How the cost of an operation grows: with the number of keys, the size of values, the number of clients, the length
//! of the log, the number of members and the time that a sync of the disk takes. One of them grows, the others stay as
//! they are.

mod report;

use crate::{
    Places,
    generator::{Mode, Schedule},
    machine::{Machine, foreign_load_percent},
    report::Figures,
    system::{Kind, Launch, Running, System},
    workload::{Traffic, VALUE_BYTES, Workload, value},
};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use report::{Point, Report};
use serde::Serialize;
use std::time::Duration;

/// What does not grow: requests in flight and members.
const IN_FLIGHT: usize = 256;
const MEMBERS: usize = 3;

/// Requests in flight where syncs become slower: one alone, whose latency holds a sync, and two numbers among which a
/// sync is shared.
const SYNC_IN_FLIGHT: [usize; 3] = [1, 64, 1_000];

/// Connections that requests are spread over. More clients than this share them: each takes a file of every process.
const CONNECTIONS_MAX: usize = 200;
const CONNECTIONS: usize = 4;

/// The most that the values of all keys take, so that large ones fit into memory and onto the disk.
const STATE_BYTES_MAX: u64 = 64 << 20;

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Axis {
    /// Keys in the state.
    Keys,
    /// Bytes of a value.
    Value,
    /// Clients, each with one request in flight.
    Clients,
    /// Puts since the cluster began.
    Log,
    /// Members of the cluster.
    Members,
    /// Milliseconds that each sync of a disk takes longer.
    Sync,
}

impl Axis {
    const ALL: [Axis; 6] = [Axis::Keys, Axis::Value, Axis::Clients, Axis::Log, Axis::Members, Axis::Sync];

    /// Its values.
    fn points(self) -> &'static [u64] {
        match self {
            Axis::Keys => &[1_000, 10_000, 100_000, 1_000_000],
            Axis::Value => &[16, 256, 4 << 10, 16 << 10, 64 << 10],
            Axis::Clients => &[1, 10, 100, 1_000, 10_000],
            Axis::Log => &[10_000, 100_000, 300_000, 1_000_000, 2_000_000],
            Axis::Members => &[1, 3, 5],
            Axis::Sync => &[0, 1, 2, 5, 10],
        }
    }

    /// What is said of it.
    fn words(self) -> &'static str {
        match self {
            Axis::Keys => "keys",
            Axis::Value => "bytes of a value",
            Axis::Clients => "clients",
            Axis::Log => "puts so far",
            Axis::Members => "members",
            Axis::Sync => "ms that a sync takes longer",
        }
    }

    /// Its name in names of files.
    fn name(self) -> &'static str {
        match self {
            Axis::Keys => "keys",
            Axis::Value => "value",
            Axis::Clients => "clients",
            Axis::Log => "log",
            Axis::Members => "members",
            Axis::Sync => "sync",
        }
    }

    /// Whether it can grow for a system.
    fn is_for(self, system: System) -> bool {
        // etcd has no way to make its disk slower.
        self != Axis::Sync || system.kind() == Kind::Quorate
    }
}

/// How to measure growth.
#[derive(Args, Clone, Debug)]
pub(crate) struct Growth {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Keys that puts overwrite and gets read, but where they grow.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// What is to grow [default: each in turn].
    #[arg(long, value_delimiter = ',')]
    axes: Vec<Axis>,
    /// No value above this.
    #[arg(long, default_value_t = u64::MAX)]
    up_to: u64,
    /// The systems.
    #[arg(long, value_delimiter = ',', default_value = "etcd,quorate,pipeline")]
    only: Vec<System>,
    #[command(flatten)]
    places: Places,
}

/// Everything but the axis at one of its values.
struct Case {
    members: usize,
    keys: u64,
    value_bytes: usize,
    clients: usize,
    sync_delay: Duration,
}

impl Case {
    fn of(axis: Axis, at: u64, keys: u64) -> anyhow::Result<Case> {
        let (value_bytes, clients, sync_delay) = (VALUE_BYTES, IN_FLIGHT, Duration::ZERO);
        let mut case = Case { members: MEMBERS, keys, value_bytes, clients, sync_delay };
        match axis {
            Axis::Keys => case.keys = at,
            Axis::Value => {
                case.value_bytes = usize::try_from(at)?;
                case.keys = keys.min(STATE_BYTES_MAX / at);
            }
            Axis::Clients => case.clients = usize::try_from(at)?,
            Axis::Members => case.members = usize::try_from(at)?,
            Axis::Sync => case.sync_delay = Duration::from_millis(at),
            Axis::Log => {}
        }
        Ok(case)
    }

    fn traffic(&self, workload: Workload) -> Traffic {
        Traffic { workload, keys: self.keys, value: value(self.value_bytes), overwrites: true }
    }

    /// What is measured of a system: kinds of load, with requests in flight.
    fn loads(&self, axis: Axis, system: System) -> Vec<(Workload, usize)> {
        match (axis, system) {
            (Axis::Sync, System::Quorate) => SYNC_IN_FLIGHT.map(|in_flight| (Workload::Put, in_flight)).to_vec(),
            // Streams are for whoever has many under way.
            (Axis::Sync, _) => vec![(Workload::Put, SYNC_IN_FLIGHT[2])],
            (Axis::Log, _) => vec![(Workload::Put, self.clients)],
            _ => [Workload::Put, Workload::Get].map(|workload| (workload, self.clients)).to_vec(),
        }
    }
}

/// Measures growth and writes the report.
///
/// # Errors
/// A system cannot be started or has ended, or the report cannot be written.
pub(crate) async fn measure(options: &Growth) -> anyhow::Result<()> {
    let is_there = |system: &&System| match system.kind() {
        Kind::Echo => false,
        Kind::Quorate => true,
        Kind::Etcd => options.places.etcd.is_some(),
    };
    let systems: Vec<System> = options.only.iter().filter(is_there).copied().collect();
    anyhow::ensure!(!systems.is_empty(), "no such system");
    let axes = if options.axes.is_empty() { Axis::ALL.to_vec() } else { options.axes.clone() };
    let mut points = Vec::new();
    for axis in axes {
        // Its values in turn, and each system at each, so that a machine whose speed drifts treats all alike.
        if axis == Axis::Log {
            for &system in &systems {
                growing_log(options, system, &mut points).await.with_context(|| system.name())?;
            }
            continue;
        }
        for &at in axis.points().iter().filter(|&&at| at <= options.up_to) {
            for &system in systems.iter().filter(|&&system| axis.is_for(system)) {
                at_one_value(options, axis, at, system, &mut points).await.with_context(|| system.name())?;
            }
        }
    }
    let report = Report::new(Machine::here(), options.seconds, options.keys, points);
    print!("{}", report.markdown());
    report.write(&options.places.out)
}

async fn start(options: &Growth, system: System, case: &Case) -> anyhow::Result<Running> {
    foreign_load_percent().await;
    let launch = Launch { size: case.members, sync_delay: case.sync_delay, ..options.places.launch() };
    let running = Running::start(system, &launch).await.context("start")?;
    running.fill(case.keys, &value(case.value_bytes)).await.context("put the first keys")?;
    Ok(running)
}

async fn at_one_value(
    options: &Growth,
    axis: Axis,
    at: u64,
    system: System,
    points: &mut Vec<Point>,
) -> anyhow::Result<()> {
    let case = Case::of(axis, at, options.keys)?;
    let running = start(options, system, &case).await?;
    for load in case.loads(axis, system) {
        points.push(point(options, &running, &case, (axis, at), load).await?);
    }
    Ok(())
}

/// The log grows by overwriting, so that the state stays the same.
async fn growing_log(options: &Growth, system: System, points: &mut Vec<Point>) -> anyhow::Result<()> {
    let case = Case::of(Axis::Log, 0, options.keys)?;
    let running = start(options, system, &case).await?;
    let mut puts = case.keys;
    for &at in Axis::Log.points().iter().filter(|&&at| at <= options.up_to) {
        let missing = at.saturating_sub(puts);
        running.overwrite(missing, case.keys, &value(case.value_bytes)).await.context("let the log grow")?;
        puts += missing;
        for load in case.loads(Axis::Log, system) {
            let measured = point(options, &running, &case, (Axis::Log, at), load).await?;
            let during = measured.figures.operations_per_second * (options.seconds + options.warm_up_seconds);
            // About: what a warm-up writes is not counted. Whole puts, far below 2^53.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let during = during as u64;
            puts += during;
            points.push(measured);
        }
    }
    Ok(())
}

async fn point(
    options: &Growth,
    running: &Running,
    case: &Case,
    (axis, at): (Axis, u64),
    (workload, in_flight): (Workload, usize),
) -> anyhow::Result<Point> {
    let schedule = Schedule {
        mode: Mode::Closed { in_flight },
        warm_up: Duration::from_secs_f64(options.warm_up_seconds),
        duration: Duration::from_secs_f64(options.seconds),
    };
    let connections_max = if axis == Axis::Clients { CONNECTIONS_MAX } else { CONNECTIONS };
    let connections = in_flight.clamp(1, connections_max);
    let measured = running.measure(&case.traffic(workload), &schedule, connections).await?;
    let figures = Figures::new(&measured, None);
    let system = running.system();
    eprintln!(
        "{}, {at} {}, {} with {in_flight} in flight: {:.0}/s, {:.1} us, {} errors",
        system.name(),
        axis.words(),
        workload.name(),
        figures.operations_per_second,
        figures.system_cpu_us_per_operation,
        figures.errors
    );
    Ok(Point { axis, at, system, workload: workload.name(), in_flight, figures })
}
