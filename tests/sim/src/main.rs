//! `cargo sim`: runs seeds, tells their stories, and says what they covered.

mod ci;
mod explore;
mod overwrites;
mod report;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use sim::{FAULTS_SECONDS, HuntOptions, Outcome, RunOptions, plan_of, replay, run, run_all, shrink};

/// A run is many small allocations: a sixth less time than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The deterministic simulator of Quorate.
#[derive(Parser)]
#[command(name = "sim")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs seeds; fails if anything is wrong in one.
    Run(Run),
    /// Runs seeds, and fails if a fault or a rare state came too rarely.
    Coverage(Many),
    /// Runs each seed twice, and fails if the two runs differ.
    Twice(Many),
    /// Leaves out what can be left out of the faults of a failing seed.
    Shrink(One),
    /// Runs a seed with some of its faults only, and tells the story.
    Replay(Replay),
    /// Overwrites a few keys for an hour of simulated time.
    Overwrites(overwrites::Overwrites),
    /// Explores every interleaving of a small cluster.
    Explore(explore::Explore),
    /// Weaves seeded bugs into a copy of the code, and shows that each is found.
    Mutants(HuntOptions),
    /// What every change has to pass.
    Ci(ci::Ci),
}

#[derive(Args)]
struct Run {
    /// One seed.
    #[arg(long, conflicts_with = "seeds", required_unless_present = "seeds")]
    seed: Option<u64>,
    /// Tell the story of the seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Tell the story as JSON, one object a line.
    #[arg(long, requires = "seed")]
    json: bool,
    /// The first seed and the one after the last, as `0..1000`.
    #[arg(long, value_parser = seeds)]
    seeds: Option<(u64, u64)>,
    /// Stop after so many failures.
    #[arg(long, default_value_t = 5)]
    failures: usize,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Many {
    /// The first seed and the one after the last, as `0..1000`.
    #[arg(long, value_parser = seeds)]
    seeds: (u64, u64),
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct One {
    /// The seed.
    #[arg(long)]
    seed: u64,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Replay {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// The numbers of the faults to keep, as `shrink` tells them.
    #[arg(long, value_delimiter = ',')]
    only: Vec<usize>,
    /// Tell the story as JSON, one object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct How {
    /// How many threads to use; all cores if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// How long faults happen, in simulated seconds.
    #[arg(long, default_value_t = FAULTS_SECONDS)]
    seconds: u64,
}

impl How {
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn options(&self, keeps_story: bool) -> RunOptions {
        RunOptions { faults_seconds: self.seconds, keeps_story }
    }
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let (first, end) = text.split_once("..").ok_or("two numbers with `..` between them are needed")?;
    let number = |text: &str| text.parse().map_err(|error| format!("`{text}`: {error}"));
    let (first, end): (u64, u64) = (number(first)?, number(end)?);
    if first < end { Ok((first, end)) } else { Err("there are no seeds in this range".to_owned()) }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(Run { seed: Some(seed), trace, json, how, .. }) => {
            tell(&run(seed, how.options(trace || json)), json)
        }
        Command::Run(Run { seeds: Some(seeds), failures, how, .. }) => many(seeds, failures, &how, false),
        Command::Run(_) => Ok(()),
        Command::Coverage(Many { seeds, how }) => many(seeds, usize::MAX, &how, true),
        Command::Twice(Many { seeds, how }) => twice(seeds, how.options(false)),
        Command::Shrink(One { seed, how }) => make_smaller(seed, &how),
        Command::Overwrites(options) => overwrites::overwrites(&options),
        Command::Explore(options) => explore::run(&options),
        Command::Mutants(_) => hunt_mutants(&std::env::args_os().skip(2).collect::<Vec<_>>()),
        Command::Ci(options) => ci::ci(&options),
        Command::Replay(Replay { seed, only, json, how }) => tell(&replay(seed, how.options(true), &only), json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Tells how a run went.
fn tell(outcome: &Outcome, json: bool) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if json {
        report::json(&mut out, outcome)?;
    } else {
        report::story(&mut out, outcome)?;
    }
    out.flush()?;
    match &outcome.violation {
        Some(violation) => bail!("seed {}: {violation}", outcome.seed),
        None => Ok(()),
    }
}

fn many((first, end): (u64, u64), failures: usize, how: &How, gate: bool) -> anyhow::Result<()> {
    let seeds: Vec<u64> = (first..end).collect();
    judge(&seeds, how.threads(), failures, how.options(false), gate)
}

/// Runs seeds, and fails if anything is wrong in one; with `gate` also if they cover too little or show too little.
fn judge(seeds: &[u64], threads: usize, failures: usize, options: RunOptions, gate: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    let progress = |totals: &sim::Totals| report::progress(totals, seeds.len() as u64, began.elapsed());
    let totals = run_all(seeds, threads, failures, options, &progress);
    let mut out = io::stdout().lock();
    report::totals(&mut out, &totals, began.elapsed())?;
    if gate {
        report::coverage(&mut out, &totals)?;
    }
    report::failures(&mut out, &totals)?;
    if !totals.failures.is_empty() {
        bail!("{} of {} seeds failed", totals.failures.len(), totals.seeds);
    }
    if gate && !totals.missing().is_empty() {
        bail!("{} faults or states came too rarely", totals.missing().len());
    }
    if gate && totals.seeds >= 1000 && report::too_slow(&totals) {
        bail!("more than one healed majority in a thousand took over three election timeouts to have a leader");
    }
    if gate && totals.seeds >= 1000 && report::too_fickle(&totals) {
        bail!("too many healed majorities changed their leader more than once");
    }
    if gate && report::too_quiet(&totals) {
        bail!("{} of {} runs say too little: {:?}", totals.quiet.len(), totals.seeds, totals.quiet);
    }
    Ok(())
}

fn make_smaller(seed: u64, how: &How) -> anyhow::Result<()> {
    let options = how.options(false);
    let Some(kept) = shrink(seed, options) else { bail!("seed {seed} does not fail") };
    let plan = plan_of(seed, options);
    let mut out = io::stdout().lock();
    for number in &kept {
        writeln!(out, "{number:>5} {}", plan[*number])?;
    }
    let numbers = kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let violation = replay(seed, options, &kept).violation.unwrap_or_default();
    writeln!(out, "{} of {} faults are needed: {violation}", kept.len(), plan.len())?;
    Ok(writeln!(out, "  cargo sim replay --seed {seed} --seconds {} --only {numbers}", options.faults_seconds)?)
}

/// Runs each seed twice, once with its story, and compares.
fn twice((first, end): (u64, u64), options: RunOptions) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for seed in first..end {
        let again = RunOptions { keeps_story: true, ..options };
        let hashes = [run(seed, options), run(seed, again)].map(|outcome| outcome.trace_hash);
        if hashes[0] != hashes[1] {
            bail!("seed {seed} differs from itself: {:016x} and {:016x}", hashes[0], hashes[1]);
        }
    }
    writeln!(out, "{} seeds were equal to themselves", end - first).context("standard output")
}

/// Builds the tree with all mutants in it, and has its program hunt them, with these arguments.
fn hunt_mutants(arguments: &[OsString]) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("the path of this program")?;
    let target = program.ancestors().nth(2).context("this program is not in a target directory")?;
    let woven = mutants::weave_tree(&mutants::all()?, target)?;
    let hunt = woven.build(target)?;
    let status = std::process::Command::new(&hunt).args(arguments).status();
    let status = status.with_context(|| hunt.display().to_string())?;
    if status.success() { Ok(()) } else { bail!("not every mutant was killed") }
}
