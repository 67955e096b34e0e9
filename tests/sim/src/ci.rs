//! What every change has to pass: seeds that nobody has run before, the seeds that once failed, some seeds twice, the
//! coverage gate, an hour of overwrites, every interleaving of a small cluster, and the mutants.

use std::fs;
use std::io::{self, Write};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use sim::RunOptions;
use xxhash_rust::xxh3::Xxh3;

use crate::overwrites::{self, Overwrites, overwrites};
use crate::{explore, hunt_mutants, judge, twice};

/// What decides how a run goes: if any of it changes, CI draws other seeds.
const DECISIVE: [&str; 5] =
    ["Cargo.lock", "server/raft/src", "server/engine/src", "tests/lincheck/src", "tests/sim/src"];

/// Seeds that failed once, or that reach what is rare; one a line, with the reason behind it.
const PAST_SEEDS: &str = "tests/sim/seeds.txt";

/// How many ranges there are for different trees, and how far apart they lie.
const RANGE: u64 = 1_000_000;

#[derive(Args)]
pub(crate) struct Ci {
    /// How many seeds that nobody has run before.
    #[arg(long, default_value_t = 3000)]
    seeds: u64,
    /// How many of them are run twice.
    #[arg(long, default_value_t = 50)]
    twice: u64,
    /// Only so many mutants have to be killed, other ones for each tree; all if not given.
    #[arg(long)]
    mutants: Option<usize>,
    /// How many threads to use; all cores if not given.
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs all of it, and stops at the first part that fails.
pub(crate) fn ci(options: &Ci) -> anyhow::Result<()> {
    let began = Instant::now();
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let hash = tree_hash()?;
    let first = hash % RANGE * RANGE;
    let say = |what: &str| writeln!(io::stdout(), "\n-- {what} ({:.0} s)", began.elapsed().as_secs_f64());

    say(&format!("seeds {first}..{}, of the tree {hash:016x}, and past ones", first + options.seeds))?;
    let seeds: Vec<u64> = past_seeds()?.into_iter().chain(first..first + options.seeds).collect();
    judge(&seeds, threads, usize::MAX, RunOptions::default(), true)?;

    say(&format!("{} seeds twice", options.twice))?;
    twice((first, first + options.twice), RunOptions::default())?;

    say("an hour of overwrites")?;
    overwrites(&Overwrites { from: first, seconds: overwrites::SECONDS })?;

    say("every interleaving of a small cluster")?;
    explore::ci(threads)?;

    say("mutants")?;
    let mut arguments = vec!["--threads".to_owned(), threads.to_string()];
    if let Some(some) = options.mutants {
        arguments.extend(["--some".to_owned(), some.to_string(), "--turn".to_owned(), (hash % RANGE).to_string()]);
    }
    hunt_mutants(&arguments.into_iter().map(Into::into).collect::<Vec<_>>())?;
    say("done")?;
    Ok(())
}

/// The seeds of the list of those that once failed.
pub(crate) fn past_seeds() -> anyhow::Result<Vec<u64>> {
    let path = mutants::root().join(PAST_SEEDS);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let seeds = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().next());
    seeds.map(|seed| seed.parse().with_context(|| format!("{PAST_SEEDS}: {seed}"))).collect()
}

/// A hash over everything that decides how a run goes.
fn tree_hash() -> anyhow::Result<u64> {
    let root = mutants::root();
    let mut hasher = Xxh3::new();
    for path in DECISIVE {
        for file in mutants::files_below(&root.join(path))? {
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            hasher.update(file.strip_prefix(&root)?.to_string_lossy().replace('\\', "/").as_bytes());
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(&bytes);
        }
    }
    Ok(hasher.digest())
}
