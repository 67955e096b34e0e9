//! The benchmark: Quorate beside its peer and what bounds it, in one run on one machine.
//!
//! ```text
//! cargo run --release -p tests --bin bench -- --etcd PATH --seconds 5 --rounds 3
//! ```
//!
//! A new system is one more [`system::System`] with a road, something that implements [`generator::calls::Calls`] or
//! [`generator::frames::Frames`]; a new load is one more [`workload::Workload`].

// A binary: its table is its data.
#![allow(clippy::print_stdout)]

mod echo;
mod etcd;
mod failover;
mod generator;
mod growth;
mod instructions;
mod leaderless;
mod machine;
mod overload;
mod peers;
mod plot;
mod process;
mod profile;
mod quorate;
mod report;
mod servers;
mod snapshots;
mod syncs;
mod system;
mod workload;

use clap::{Args, Parser, Subcommand};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tests::binaries;
use tokio::signal::unix::{SignalKind, signal};

// The allocator of the server under test, so that the echo and the generator are measured with it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Quorate beside etcd and a bare tonic echo.
#[derive(Parser)]
#[command(name = "bench")]
struct Command {
    #[command(subcommand)]
    child: Option<Child>,
    #[command(flatten)]
    options: peers::Options,
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
    /// Measures how the cost of an operation grows with keys, values, clients, the log and members.
    Growth(growth::Growth),
    /// Measures how long no write is acknowledged when the leader is killed.
    Failover(failover::Failover),
    /// Measures gets of both consistency levels: while the leader is lost, and how many a second.
    Leaderless(leaderless::Leaderless),
    /// Measures what a cluster does with more than it can do, and with connections that ask for nothing.
    Overload(overload::Overload),
    /// Counts the instructions of an operation in the engine, with valgrind.
    Instructions(instructions::Instructions),
    /// Runs one load on the engines of three nodes in this process: what `instructions` counts.
    Load(instructions::Load),
    /// Measures what the snapshots of a big state cost, and a follower that needs one.
    Snapshots(snapshots::Snapshots),
    /// Measures how much of the disk overwriting takes.
    Overwrites(snapshots::Overwrites),
    /// Looks where leader, follower and generator spend their time under each load, with perf.
    Profile(profile::Profile),
}

/// Where programs and data are, and where results go.
#[derive(Args, Clone, Debug)]
pub(crate) struct Places {
    /// The program of etcd; without it Quorate is measured without its peer.
    #[arg(long, env = "QUORATE_BENCH_ETCD")]
    etcd: Option<PathBuf>,
    /// Where nodes keep their data [default: the target directory].
    #[arg(long)]
    data: Option<PathBuf>,
    /// The size of the segments of Quorate's log, instead of the server's default.
    #[arg(long)]
    segment_bytes: Option<u64>,
    /// The directory for tables, JSON and plots.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results"))]
    out: PathBuf,
}

impl Places {
    /// How three nodes are started with default settings.
    fn launch(&self) -> system::Launch {
        system::Launch {
            size: 3,
            // A temporary directory may be in memory, where a sync costs nothing.
            data: self.data.clone().unwrap_or_else(binaries::target_directory),
            segment_bytes: self.segment_bytes,
            etcd: self.etcd.clone(),
            timeouts: None,
            sync_delay: Duration::ZERO,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: its figures mean nothing");
    }
    let work = async {
        match command.child {
            Some(Child::EchoServer { listen }) => echo::serve(listen).await,
            Some(Child::Growth(options)) => growth::measure(&options).await,
            Some(Child::Failover(options)) => failover::measure(&options).await,
            Some(Child::Leaderless(options)) => leaderless::measure(&options).await,
            Some(Child::Overload(options)) => overload::measure(&options).await,
            Some(Child::Instructions(options)) => instructions::measure(&options),
            Some(Child::Load(load)) => instructions::run_load(&load),
            Some(Child::Snapshots(options)) => snapshots::measure_snapshots(&options).await,
            Some(Child::Overwrites(options)) => snapshots::measure_overwrites(&options).await,
            Some(Child::Profile(options)) => profile::measure(&options).await,
            None => peers::measure(&command.options).await,
        }
    };
    // The processes that were started do not outlive one that is asked to end.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}
