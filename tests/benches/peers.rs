//! The main measurement: every system under the same loads, one after the other, several rounds in turn.
//!
//! Each round starts and stops every system, and each round begins with another one, so that a machine whose speed
//! drifts treats all alike. The figures are medians over the rounds, and ratios are of figures of the same round. Only
//! such ratios can be compared between machines or days.

use crate::{
    Places,
    generator::{Mode, Schedule},
    machine::{Machine, foreign_load_percent, fresh_memory_seconds_per_gib},
    report::{Figures, Memory, Place, Report, Sample, Setting, line, mebibytes},
    syncs,
    system::{Kind, Launch, Running, System},
    workload::{Traffic, VALUE_BYTES, Workload, value},
};
use anyhow::Context as _;
use clap::Args;
use std::time::Duration;

/// Rates of open loops are multiples of this.
const RATE_STEP: f64 = 100.0;

/// How many requests are in flight while the rates of open loops are found.
const CALIBRATION_IN_FLIGHT: usize = 256;

/// How long syncs are counted, and how long the load runs before and after.
const SYNCS_COUNTED: Duration = Duration::from_millis(1000);
const SYNCS_MARGIN: Duration = Duration::from_millis(300);

/// How to measure.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Rounds over all systems; the figures are their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Numbers of requests in flight to measure with.
    #[arg(long, value_delimiter = ',', default_value = "1,64,256,1000")]
    in_flight: Vec<usize>,
    /// Connections that more than one request in flight is spread over.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Keys that are put before anything is measured, after which memory is looked at.
    #[arg(long, default_value_t = 250_000)]
    keys: u64,
    /// Rates of open loops, in percent of what etcd can do (Quorate by unary calls where there is no etcd); 0: none.
    #[arg(long, value_delimiter = ',', default_value = "30,70")]
    rates_percent: Vec<f64>,
    /// Do not count syncs, which takes two seconds for each load that writes.
    #[arg(long)]
    no_syncs: bool,
    /// Measure only these systems.
    #[arg(long, value_delimiter = ',')]
    only: Vec<System>,
    #[command(flatten)]
    places: Places,
}

impl Options {
    fn systems(&self) -> Vec<System> {
        let is_wanted = |system: &System| {
            let is_there = system.kind() != Kind::Etcd || self.places.etcd.is_some();
            is_there && (self.only.is_empty() || self.only.contains(system))
        };
        System::ALL.into_iter().filter(is_wanted).collect()
    }

    fn schedule(&self, mode: Mode) -> Schedule {
        Schedule {
            mode,
            warm_up: Duration::from_secs_f64(self.warm_up_seconds),
            duration: Duration::from_secs_f64(self.seconds),
        }
    }

    fn connections_for(&self, mode: Mode) -> usize {
        match mode {
            Mode::Closed { in_flight } => self.connections.clamp(1, in_flight),
            Mode::Open { .. } => self.connections,
        }
    }
}

/// An open loop.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Rate {
    workload: Workload,
    per_second: f64,
}

/// A run as it grows.
struct Run<'a> {
    options: &'a Options,
    launch: Launch,
    setting: Setting,
    rates: Vec<Rate>,
    samples: Vec<Sample>,
    memory: Vec<Memory>,
}

/// Measures all systems and writes the report.
///
/// # Errors
/// A system cannot be started or has ended, or the report cannot be written.
pub(crate) async fn measure(options: &Options) -> anyhow::Result<()> {
    anyhow::ensure!(options.rounds > 0 && options.seconds > 0.0, "there is nothing to measure");
    anyhow::ensure!(!options.in_flight.contains(&0), "at least one request must be in flight");
    anyhow::ensure!(options.connections > 0 && options.keys > 0, "there must be a connection and a key");
    let systems = options.systems();
    anyhow::ensure!(!systems.is_empty(), "no such system");
    let launch = options.places.launch();
    let sync = syncs::probe(&launch.data).context("sync a file")?;
    let setting = Setting {
        machine: Machine::here(),
        seconds: options.seconds,
        rounds: options.rounds,
        connections: options.connections,
        keys: options.keys,
        key_bytes: Setting::BYTES.0,
        value_bytes: Setting::BYTES.1,
        sync_ms: sync.as_secs_f64() * 1e3,
        fresh_memory_seconds_per_gib: fresh_memory_seconds_per_gib(),
        foreign_load_percent_max: 0.0,
        etcd: systems.contains(&System::Etcd).then(|| etcd_version(&launch)).flatten(),
    };
    let mut run = Run { options, launch, setting, rates: Vec::new(), samples: Vec::new(), memory: Vec::new() };
    run.calibrate(&systems).await.context("find the rates")?;
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for number in 0..systems.len() {
            let system = systems[(number + round - 1) % systems.len()];
            run.system(round, system).await.with_context(|| format!("measure {}", system.name()))?;
        }
        // Each round's, so that a later one that fails takes nothing with it.
        run.report(round).write(&options.places.out)?;
    }
    print!("{}", run.report(options.rounds).markdown());
    Ok(())
}

impl Run<'_> {
    /// What was measured in so many rounds.
    fn report(&self, rounds: usize) -> Report {
        let setting = Setting { rounds, ..self.setting.clone() };
        Report::new(setting, self.samples.clone(), self.memory.clone())
    }

    /// Finds the rates of open loops: the same for all systems and rounds, so that latencies can be compared.
    async fn calibrate(&mut self, systems: &[System]) -> anyhow::Result<()> {
        let percents: Vec<f64> = self.options.rates_percent.iter().copied().filter(|&percent| percent > 0.0).collect();
        let reference = [System::Etcd, System::Quorate].into_iter().find(|system| systems.contains(system));
        let Some(reference) = reference.filter(|_| !percents.is_empty()) else { return Ok(()) };
        eprintln!("rates of open loops, by what {} can do", reference.name());
        let running = Running::start(reference, &self.launch).await?;
        running.fill(self.options.keys, &value(VALUE_BYTES)).await?;
        for workload in [Workload::Put, Workload::Get] {
            let mode = Mode::Closed { in_flight: CALIBRATION_IN_FLIGHT };
            let traffic = Traffic::new(workload, self.options.keys);
            let measured = running.measure(&traffic, &self.options.schedule(mode), self.options.connections).await?;
            for percent in &percents {
                let per_second = (measured.per_second() * percent / 100.0 / RATE_STEP).round().max(1.0) * RATE_STEP;
                let rate = Rate { workload, per_second };
                // Two shares of little may be the same.
                if !self.rates.contains(&rate) {
                    eprintln!("  {}: {per_second:.0}/s", workload.name());
                    self.rates.push(rate);
                }
            }
        }
        Ok(())
    }

    /// Measures one system in one round.
    async fn system(&mut self, round: usize, system: System) -> anyhow::Result<()> {
        let most = &mut self.setting.foreign_load_percent_max;
        *most = most.max(foreign_load_percent().await);
        eprintln!("{}", system.name());
        let running = Running::start(system, &self.launch).await.context("start")?;
        if system.kind() != Kind::Echo {
            running.fill(self.options.keys, &value(VALUE_BYTES)).await.context("put the first keys")?;
            let usage = running.servers.usage()?;
            let (max, sum) = (mebibytes(usage.resident_bytes_max), mebibytes(usage.resident_bytes_sum));
            eprintln!("  {} keys: {max:.0} MiB, all nodes {sum:.0} MiB", self.options.keys);
            let peak_mib_max = mebibytes(usage.peak_bytes_max);
            self.memory.push(Memory { round, system, resident_mib_max: max, resident_mib_sum: sum, peak_mib_max });
        }
        for &in_flight in &self.options.in_flight {
            for &workload in system.workloads() {
                self.load(round, &running, workload, Mode::Closed { in_flight }).await?;
            }
        }
        if system.kind() != Kind::Echo {
            for Rate { workload, per_second } in self.rates.clone() {
                self.load(round, &running, workload, Mode::Open { per_second }).await?;
            }
        }
        Ok(())
    }

    /// Measures one load on a running system.
    async fn load(&mut self, round: usize, running: &Running, workload: Workload, mode: Mode) -> anyhow::Result<()> {
        let place = Place::new(running.system(), workload, mode);
        let (traffic, schedule) = (Traffic::new(workload, self.options.keys), self.options.schedule(mode));
        let connections = self.options.connections_for(mode);
        let measured = running.measure(&traffic, &schedule, connections).await;
        let measured = measured.with_context(|| format!("{} {mode:?}", workload.name()))?;
        let is_counted = workload.writes() && matches!(mode, Mode::Closed { .. }) && !self.options.no_syncs;
        let syncs = if is_counted && syncs::can_be_counted() {
            syncs_per_operation(running, &traffic, mode, connections).await?
        } else {
            None
        };
        let sample = Sample { round, place, figures: Figures::new(&measured, syncs) };
        eprintln!("  {}", line(&sample));
        self.samples.push(sample);
        Ok(())
    }
}

/// Counts syncs under a load: a short one of its own, as counting slows the nodes.
async fn syncs_per_operation(
    running: &Running,
    traffic: &Traffic,
    mode: Mode,
    connections: usize,
) -> anyhow::Result<Option<f64>> {
    let schedule = Schedule { mode, warm_up: SYNCS_MARGIN, duration: SYNCS_COUNTED + SYNCS_MARGIN };
    let process_ids = running.servers.process_ids();
    let count = async {
        tokio::time::sleep(SYNCS_MARGIN).await;
        syncs::per_second(&process_ids, SYNCS_COUNTED).await
    };
    let (measured, syncs) = tokio::join!(running.measure(traffic, &schedule, connections), count);
    let per_second = measured?.per_second();
    Ok(syncs.filter(|_| per_second > 0.0).map(|syncs| syncs / per_second))
}

/// What the program says of itself.
fn etcd_version(launch: &Launch) -> Option<String> {
    let output = std::process::Command::new(launch.etcd.as_ref()?).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("etcd Version: ")).map(str::to_owned)
}
