//! The benchmark: Quorate beside what bounds it, in one run on one machine.
//!
//! ```text
//! cargo run --release -p tests --bin bench -- --seconds 5 --rounds 3 --in-flight 1,64,256
//! ```
//!
//! Each round starts and stops every system, one after the other, so that a machine whose speed drifts treats all
//! alike; the figures are medians over the rounds, and ratios are of figures of the same run. Only such ratios can be
//! compared between machines or days.
//!
//! A new system implements [`system::System`] and is added to [`systems`]; a new workload is one more
//! [`workload::Workload`] with its [`generator::Calls`].

// A binary: its table is its data.
#![allow(clippy::print_stdout)]

mod echo;
mod generator;
mod machine;
mod process;
mod quorate;
mod report;
mod snapshots;
mod system;
mod workload;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

// The allocator of the server under test, so that the echo and the generator are measured with it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Quorate beside a bare tonic echo.
#[derive(Parser)]
#[command(name = "bench")]
struct Command {
    #[command(subcommand)]
    child: Option<Child>,
    #[command(flatten)]
    options: Options,
}

/// What else the program does: what the benchmark starts of itself, and the measurements of their own.
#[derive(Subcommand)]
enum Child {
    /// Runs the bare tonic echo server until it is killed.
    EchoServer {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Measures what the snapshots of a big state cost, and a follower that needs one.
    Snapshots(snapshots::Snapshots),
    /// Measures how much of the disk overwriting takes.
    Overwrites(snapshots::Overwrites),
}

/// How to measure.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value_t = 1)]
    warm_up_seconds: u64,
    /// Rounds over all systems; the figures are their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Numbers of calls in flight to measure with.
    #[arg(long, value_delimiter = ',', default_value = "1,64,256")]
    in_flight: Vec<usize>,
    /// Connections that more than one call in flight is spread over.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Keys that are there for gets.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Measure only the system of this name.
    #[arg(long)]
    only: Option<String>,
    /// The directory for `unary.json` and `unary.md`.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results"))]
    out: PathBuf,
}

impl Options {
    fn schedule(&self, in_flight: usize) -> generator::Schedule {
        generator::Schedule {
            in_flight,
            warm_up: Duration::from_secs(self.warm_up_seconds),
            duration: Duration::from_secs(self.seconds),
        }
    }

    fn connections_for(&self, in_flight: usize) -> usize {
        self.connections.clamp(1, in_flight)
    }
}

/// All systems, in the order of a round. The first is the reference of the ratios.
fn systems() -> Vec<Box<dyn system::System>> {
    vec![Box::new(echo::Echo::default()), Box::new(quorate::Quorate::default())]
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    match command.child {
        Some(Child::EchoServer { listen }) => echo::serve(listen).await,
        Some(Child::Snapshots(options)) => snapshots::measure_snapshots(&options).await,
        Some(Child::Overwrites(options)) => snapshots::measure_overwrites(&options).await,
        None => measure(&command.options).await,
    }
}

async fn measure(options: &Options) -> anyhow::Result<()> {
    anyhow::ensure!(options.rounds > 0 && options.seconds > 0, "there is nothing to measure");
    anyhow::ensure!(!options.in_flight.contains(&0), "at least one call must be in flight");
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures mean nothing");
    }
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        for mut system in systems() {
            if options.only.as_deref().is_some_and(|only| only != system.name()) {
                continue;
            }
            eprintln!("round {round} of {}: {}", options.rounds, system.name());
            let started = system.start(options).await.with_context(|| format!("start {}", system.name()))?;
            for &in_flight in &options.in_flight {
                for &workload in system.workloads() {
                    let sample = workload::measure(round, system.name(), &started, workload, in_flight, options)
                        .await
                        .with_context(|| format!("measure {} {} at {in_flight}", system.name(), workload.name()))?;
                    eprintln!("  {}", report::line(&sample));
                    samples.push(sample);
                }
            }
            system.stop();
        }
    }
    let report = report::Report::new(machine::Machine::here(), options, samples);
    print!("{}", report.markdown());
    report.write(&options.out)
}
