//! Counts the instructions of an operation: `bench instructions`.
//!
//! Valgrind's callgrind counts what the engines of three nodes execute for a fixed load, twice, with more operations
//! the second time; the difference by the number of operations is what one costs. Unlike times, the figures are the
//! same on a busy machine, and the same again tomorrow: a change that costs more shows in the third digit. What the
//! network, the threads and the kernel add is not in them.

mod trio;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use std::{fmt::Write as _, path::PathBuf, process::Command, time::Instant};
use trio::{Operation, Trio, key, put};

/// Before what is counted.
const WARM_UP: u64 = 5_000;

/// What is counted.
const COUNTED: u64 = 5_000;

/// How the instructions are counted.
#[derive(Args, Clone, Debug)]
pub(crate) struct Instructions {
    /// The directory for `instructions.md`.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results"))]
    out: PathBuf,
}

/// One load, run to its end.
#[derive(Args, Clone, Debug)]
pub(crate) struct Load {
    /// What is done.
    #[arg(long)]
    operation: Kind,
    /// How often.
    #[arg(long)]
    count: u64,
    /// How many operations come at once.
    #[arg(long)]
    batch: u64,
}

/// A kind of operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// A put that creates its key, named by its client.
    Put,
    /// The same without a name.
    PutUnnamed,
    /// A linearizable get.
    Get,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Put => "put",
            Kind::PutUnnamed => "put-unnamed",
            Kind::Get => "get",
        }
    }
}

/// Runs one load.
pub(crate) fn run_load(load: &Load) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut trio = Trio::start(directory.path())?;
    let begun = Instant::now();
    match load.operation {
        Kind::Put => trio.run(load.count, load.batch, |number| put(number, Some(7)))?,
        Kind::PutUnnamed => trio.run(load.count, load.batch, |number| put(number, None))?,
        Kind::Get => {
            trio.run(WARM_UP, 1000, |number| put(number, None))?;
            trio.run(load.count, load.batch, |number| Operation::Read(key(number % WARM_UP)))?;
        }
    }
    eprintln!("{} in {:?}", load.count, begun.elapsed());
    Ok(())
}

/// Counts, prints a table, and writes it to `instructions.md`.
pub(crate) fn measure(options: &Instructions) -> anyhow::Result<()> {
    let mut table = format!(
        "Instructions that an operation executes, over the engines of three nodes (core, log, state; no network, no \
         threads, no kernel), counted by callgrind: 32-byte keys, 256-byte values, {WARM_UP} operations before and \
         {COUNTED} counted.\n\n| operation | at once | instructions |\n|---|--:|--:|\n"
    );
    for kind in [Kind::Put, Kind::PutUnnamed, Kind::Get] {
        for batch in [1, 64, 1000] {
            let (less, more) = (count(kind, WARM_UP, batch)?, count(kind, WARM_UP + COUNTED, batch)?);
            writeln!(table, "| {} | {batch} | {} |", kind.name(), (more - less) / COUNTED)?;
        }
    }
    print!("{table}");
    let path = options.out.join("instructions.md");
    std::fs::write(&path, table).with_context(|| format!("write {}", path.display()))
}

/// The instructions of a whole process with this load.
fn count(kind: Kind, count: u64, batch: u64) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["load", "--operation", kind.name()])
        .args(["--count", &count.to_string(), "--batch", &batch.to_string()])
        .output()
        .context("start valgrind, which has to be installed")?;
    let log = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "valgrind failed: {log}");
    let collected = log.lines().find_map(|line| line.split_once("Collected : ")).context("valgrind told no count")?;
    collected.1.trim().parse().context("valgrind told a count that is no number")
}
