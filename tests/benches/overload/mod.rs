//! What a cluster does with more than it can do, and with connections that ask for nothing.
//!
//! **Load.** In each new cluster first the peak is found: a closed loop, as many in flight as the main measurement has
//! at most. Then come so many *times* as many clients: by unary calls so many times the callers, who come back when
//! they were told to; on streams so many times the streams, each at the rate that it had at the peak, whether or not it
//! is answered. Right after it, the closed loop again: a cluster that does not recover by itself would show here. Puts
//! overwrite, so that memory is that of the load and not of a growing state.
//!
//! **Idle.** Thousands of connections that made one call each and then nothing: the memory and the CPU that they take
//! from the nodes, and the puts beside them.

mod idle;
mod report;

use crate::{
    Places,
    generator::{Measured, Mode, Schedule},
    machine::{Machine, foreign_load_percent},
    report::mebibytes,
    system::{Ask, Running, System},
    workload::{Traffic, VALUE_BYTES, Workload, value},
};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use report::{Figures, Load, Report};
use std::time::Duration;

/// The systems that are asked for too much: the two roads to Quorate on which nothing paces the client.
const SYSTEMS: [System; 2] = [System::Quorate, System::Pipeline];

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    /// More requests than the cluster can do.
    Load,
    /// Connections that ask for nothing.
    Idle,
}

/// How to measure overload.
#[derive(Args, Clone, Debug)]
pub(crate) struct Overload {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of load before each measurement: longer than anything waits at ten times the peak.
    #[arg(long, default_value_t = 4.0)]
    warm_up_seconds: f64,
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_value = "load,idle")]
    parts: Vec<Part>,
    /// How many times the load of the peak is asked for.
    #[arg(long, value_delimiter = ',', default_value = "1,2,5,10", value_parser = clap::value_parser!(u16).range(1..))]
    times: Vec<u16>,
    /// Requests in flight at the peak.
    #[arg(long, default_value_t = 1_000)]
    in_flight: usize,
    /// Connections at the peak.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Keys that puts overwrite.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Connections that ask for nothing, spread over the nodes.
    #[arg(long, default_value_t = 10_000)]
    idle_connections: usize,
    /// Seconds for which nothing is asked. A node asks a silent connection once a minute whether it is still there.
    #[arg(long, default_value_t = 75.0)]
    idle_seconds: f64,
    /// The systems.
    #[arg(long, value_delimiter = ',', default_value = "quorate,pipeline")]
    only: Vec<System>,
    #[command(flatten)]
    places: Places,
}

impl Overload {
    fn traffic(&self) -> Traffic {
        Traffic { workload: Workload::Put, keys: self.keys, value: value(VALUE_BYTES), overwrites: true }
    }

    fn times(&self) -> (Duration, Duration) {
        (Duration::from_secs_f64(self.warm_up_seconds), Duration::from_secs_f64(self.seconds))
    }

    /// As many puts as a closed loop gets done.
    async fn peak(&self, running: &Running, system: System) -> anyhow::Result<Measured> {
        let (warm_up, duration) = self.times();
        let schedule = Schedule { mode: Mode::Closed { in_flight: self.in_flight }, warm_up, duration };
        running.measure_by(system, &self.traffic(), &schedule, self.connections).await
    }

    async fn start(&self, system: System) -> anyhow::Result<Running> {
        foreign_load_percent().await;
        let running = Running::start(system, &self.places.launch()).await.context("start")?;
        running.fill(self.keys, &value(VALUE_BYTES)).await.context("put the first keys")?;
        Ok(running)
    }
}

/// Measures overload and writes the report.
///
/// # Errors
/// A cluster cannot be started or has ended, or the report cannot be written.
pub(crate) async fn measure(options: &Overload) -> anyhow::Result<()> {
    anyhow::ensure!(options.connections > 0 && options.connections <= options.in_flight, "no such connections");
    anyhow::ensure!(options.only.iter().all(|system| SYSTEMS.contains(system)), "only Quorate is asked for too much");
    let mut loads = Vec::new();
    if options.parts.contains(&Part::Load) {
        for &times in &options.times {
            for &system in &options.only {
                loads.push(load(options, system, times).await.with_context(|| system.name())?);
            }
        }
    }
    let idle = if options.parts.contains(&Part::Idle) { Some(idle::measure(options).await?) } else { None };
    let report = Report::new(Machine::here(), options, loads, idle);
    print!("{}", report.markdown());
    report.write(&options.places.out)
}

/// Asks a new cluster for so many times what it can do.
async fn load(options: &Overload, system: System, times: u16) -> anyhow::Result<Load> {
    let running = options.start(system).await?;
    let peak = options.peak(&running, system).await.context("find the peak")?.per_second();
    let memory_before = running.servers.usage()?.peak_bytes_max;
    let connections = options.connections * usize::from(times);
    let ask = match system {
        System::Pipeline => Ask::PerSecond(peak * f64::from(times)),
        _ => Ask::Callers(options.in_flight * usize::from(times)),
    };
    let flooded = running.flood(&options.traffic(), ask, connections, options.times()).await.context("ask too much")?;
    let memory = running.servers.usage()?.peak_bytes_max;
    let kept_leader = running.is_still_led().await;
    let after = options.peak(&running, system).await.context("ask for less again")?.per_second();
    let load = Load {
        system,
        times,
        ask,
        connections,
        peak_per_second: peak,
        figures: Figures::new(&flooded),
        peak_mib_before: mebibytes(memory_before),
        peak_mib: mebibytes(memory),
        kept_leader,
        after_per_second: after,
    };
    eprintln!("{}", load.line());
    Ok(load)
}
