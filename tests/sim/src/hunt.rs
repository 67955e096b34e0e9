//! Hunts mutants: turns them on one at a time, and sees who notices. Run by the program of the woven tree, which has
//! their switches.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Parser};
use explorer::Suite;
use mutants::{Hunter, Mutant, TestName};

use crate::campaign::run_all;
use crate::hunt_tests::Tests;
use crate::run::{FAULTS_SECONDS, RunOptions};

/// How many inputs of a fuzz target a mutant may survive.
const FUZZ_INPUTS_MAX: u64 = 200_000;

/// So many seeds have to pass before any mutant is on.
const SOUND_SEEDS: u64 = 100;

/// What stands above the table in a log.
const LOG_HEAD: &str = "\
# Mutants, and what kills them

What `cargo sim mutants --log FILE` said. The rows are those of the catalogue of bugs that other implementations had: A
terms, votes and elections; B replication and commit; C reads; D membership; E snapshots and compaction; F storage; G
state machine; H liveness and resources. Nobody had those of C10 and C11: they are about reads without a leader, and of a
node's own state. *After* counts seeds of the simulator from 0 on, distinct states of the explorer, or inputs of a fuzz
target; or it names the one test that was run.

";

/// How a hunt goes.
#[derive(Args, Clone, Debug)]
pub struct HuntOptions {
    /// The first seed that is tried on each mutant.
    #[arg(long, default_value_t = 0)]
    pub first_seed: u64,
    /// How many seeds a mutant may survive.
    #[arg(long, default_value_t = 2000)]
    pub seeds: u64,
    /// Only the mutants whose names contain this.
    #[arg(long)]
    pub only: Option<String>,
    /// So many mutants, taken in turn from the list.
    #[arg(long)]
    pub some: Option<usize>,
    /// Where in the list to begin to take them.
    #[arg(long, default_value_t = 0, requires = "some")]
    pub turn: u64,
    /// How many threads to use; all cores if not given.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Write the table to this file too.
    #[arg(long)]
    pub log: Option<PathBuf>,
}

impl HuntOptions {
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: HuntOptions,
}

/// How a mutant was killed.
struct Kill {
    /// By what: an invariant, an assertion, the checker.
    by: String,
    /// After how much, with its unit.
    after: String,
}

/// The program of the woven tree: hunts the mutants that its arguments ask for. `switch` turns on the mutant of a
/// number, and all others off.
pub fn hunt(switch: fn(usize)) -> ExitCode {
    // Panics are what many mutants die of; they are told in the table.
    std::panic::set_hook(Box::new(|_| {}));
    match hunt_all(&Cli::parse().options, switch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn hunt_all(options: &HuntOptions, switch: fn(usize)) -> anyhow::Result<()> {
    let began = Instant::now();
    let mutants = mutants::all()?;
    let chosen = choose(&mutants, options);
    switch(0);
    if let Some((seed, violation)) = first_failure(options, options.first_seed..options.first_seed + SOUND_SEEDS) {
        bail!("with no mutant on, seed {seed} fails: {violation}");
    }
    let tests = build_tests(&chosen)?;
    let mut table = String::from("| row | mutant | what is broken | killed by | after |\n|---|---|---|---|---|\n");
    print(&table);
    let (mut killed, mut survived) = (0, Vec::new());
    for (number, mutant) in chosen {
        for hunter in &mutant.hunters {
            switch(number);
            let kill = match hunter {
                Hunter::Simulator => simulate(options, switch),
                Hunter::Explorer(search) => explore(search, options),
                Hunter::Fuzz(target) => fuzz(target, switch),
                Hunter::Test(name) => run_test(&tests, name, number),
            };
            switch(0);
            let kill = kill?;
            let Mutant { row, name, bug, .. } = mutant;
            let line = match kill {
                Some(Kill { by, after }) => {
                    killed += 1;
                    format!("| {row} | {name} | {bug} | {by} | {after} |\n")
                }
                None => {
                    survived.push(name.clone());
                    format!("| {row} | {name} | {bug} | **nobody** | |\n")
                }
            };
            print(&line);
            table.push_str(&line);
        }
    }
    let summary = summary(killed, &survived, began.elapsed());
    print(&summary);
    if let Some(path) = &options.log {
        fs::write(path, format!("{LOG_HEAD}{table}{summary}")).with_context(|| path.display().to_string())?;
    }
    if survived.is_empty() { Ok(()) } else { bail!("survivors: {}", survived.join(", ")) }
}

/// The mutants that are asked for, with their numbers.
fn choose<'a>(mutants: &'a [Mutant], options: &HuntOptions) -> Vec<(usize, &'a Mutant)> {
    let named = |mutant: &Mutant| options.only.as_ref().is_none_or(|part| mutant.name.contains(part.as_str()));
    let chosen: Vec<(usize, &Mutant)> = (1..).zip(mutants).filter(|(_, mutant)| named(mutant)).collect();
    let Some(some) = options.some else { return chosen };
    let count = chosen.len().max(1) as u64;
    let begin = usize::try_from(options.turn % count).unwrap_or(0);
    chosen.iter().cycle().skip(begin).take(some.min(chosen.len())).copied().collect()
}

/// The tests that are to hunt one of these mutants; they pass while none is on.
fn build_tests(chosen: &[(usize, &Mutant)]) -> anyhow::Result<Tests> {
    let hunters = chosen.iter().flat_map(|(_, mutant)| &mutant.hunters);
    let wanted: BTreeSet<&TestName> =
        hunters.filter_map(|hunter| if let Hunter::Test(name) = hunter { Some(name) } else { None }).collect();
    Tests::build(&wanted)
}

/// One test, with the mutant of this number on.
fn run_test(tests: &Tests, name: &TestName, number: usize) -> anyhow::Result<Option<Kill>> {
    let failure = tests.run(name, number)?;
    Ok(failure.map(|failure| Kill { by: short(&failure), after: format!("test `{}`", name.path) }))
}

/// One search of the explorer.
fn explore(name: &str, options: &HuntOptions) -> anyhow::Result<Option<Kill>> {
    let search = Suite::Release.searches().into_iter().find(|search| search.name == name);
    let search = search.with_context(|| format!("there is no search named `{name}`"))?;
    let report = explorer::explore(&search.bounds, options.threads(), &|_| {})?;
    Ok(report.violation.map(|found| Kill {
        by: short(&format!("{}: {}", found.invariant, found.text)),
        after: format!("{} states, {} steps deep", report.states, found.path.len()),
    }))
}

/// The corpus of a target, then mutations of it. What fails has to pass when the mutant is off.
fn fuzz(name: &str, switch: fn(usize)) -> anyhow::Result<Option<Kill>> {
    let target = fuzz::TARGETS.iter().find(|target| target.name == name).context("there is no such target")?;
    let corpus = fuzz::corpus(name);
    let mut random = fuzz::mutation::Random::new(0);
    let derived = (0..FUZZ_INPUTS_MAX).map(|number| fuzz::derive(&mut random, &corpus, number));
    let first = corpus
        .iter()
        .cloned()
        .chain(derived)
        .zip(1_u64..)
        .find_map(|(input, number)| fuzz::attempt(target, &input).err().map(|found| (found, number, input)));
    let Some((found, number, input)) = first else { return Ok(None) };
    switch(0);
    if let Err(found) = fuzz::attempt(target, &input) {
        bail!("with no mutant on, input {number} of {name} fails: {found}");
    }
    Ok(Some(Kill { by: short(&found), after: format!("{number} inputs") }))
}

/// Seeds, until one fails. It has to pass when the mutant is off.
fn simulate(options: &HuntOptions, switch: fn(usize)) -> anyhow::Result<Option<Kill>> {
    let Some((seed, violation)) = first_failure(options, options.first_seed..options.first_seed + options.seeds) else {
        return Ok(None);
    };
    switch(0);
    if let Some((_, violation)) = first_failure(options, seed..seed + 1) {
        bail!("with no mutant on, seed {seed} fails: {violation}");
    }
    let needed = seed - options.first_seed + 1;
    let after = format!("{needed} {}", if needed == 1 { "seed" } else { "seeds" });
    Ok(Some(Kill { by: short(&violation), after }))
}

/// The first of the seeds that fails. All before it have been run, so it is the same on any number of threads.
fn first_failure(options: &HuntOptions, seeds: Range<u64>) -> Option<(u64, String)> {
    let run_options = RunOptions { faults_seconds: FAULTS_SECONDS, keeps_story: false };
    let seeds: Vec<u64> = seeds.collect();
    run_all(&seeds, options.threads(), 1, run_options, &|_| {}).failures.into_iter().next()
}

/// The first line of a violation, short enough for a table.
fn short(violation: &str) -> String {
    const CHARACTERS_MAX: usize = 110;
    let line = violation.lines().next().unwrap_or_default().replace('|', "/");
    let short: String = line.chars().take(CHARACTERS_MAX).collect();
    if short.len() < line.len() { short + "…" } else { short }
}

fn summary(killed: usize, survived: &[String], elapsed: Duration) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\n{killed} killed, {} survived, in {:.0} s", survived.len(), elapsed.as_secs_f64());
    text
}

#[expect(clippy::print_stdout, reason = "the table is what the program is asked for")]
fn print(text: &str) {
    print!("{text}");
}
