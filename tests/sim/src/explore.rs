//! `cargo sim explore`: every interleaving of a small cluster.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use anyhow::bail;
use clap::Args;
use explorer::{Bounds, Search, Suite, explore};

/// Which searches, or one with what may happen in it and how often.
#[derive(Args)]
pub(crate) struct Explore {
    /// Searches that belong together, by the time they take: small, ci, release.
    #[arg(long, value_parser = suite, default_value = "ci")]
    suite: Suite,
    /// One search of your own instead, with the values below.
    #[arg(long)]
    own: bool,
    /// How many nodes.
    #[arg(long, requires = "own")]
    nodes: Option<u8>,
    /// The last term that anyone campaigns for.
    #[arg(long, requires = "own")]
    terms: Option<u8>,
    /// How often an election timeout passes.
    #[arg(long, requires = "own")]
    timeouts: Option<u8>,
    /// How often a leader's heartbeat timer fires.
    #[arg(long, requires = "own")]
    heartbeats: Option<u8>,
    /// How many commands are proposed.
    #[arg(long, requires = "own")]
    proposals: Option<u8>,
    /// How often a node crashes and starts again.
    #[arg(long, requires = "own")]
    crashes: Option<u8>,
    /// How many messages are lost.
    #[arg(long, requires = "own")]
    drops: Option<u8>,
    /// How many messages overtake another one on their link.
    #[arg(long, requires = "own")]
    overtakings: Option<u8>,
    /// How many messages come twice.
    #[arg(long, requires = "own")]
    duplicates: Option<u8>,
    /// How many linearizable reads there are.
    #[arg(long, requires = "own")]
    reads: Option<u8>,
    /// How often leadership is transferred.
    #[arg(long, requires = "own")]
    transfers: Option<u8>,
    /// Writes become durable in steps of their own.
    #[arg(long, requires = "own")]
    slow_disks: bool,
    /// Each message carries one entry only.
    #[arg(long, requires = "own")]
    single_entries: bool,
    /// An election timeout passes only when nothing is in flight any more.
    #[arg(long, requires = "own")]
    lossy_timeouts: bool,
    /// Give up after so many distinct states.
    #[arg(long, requires = "own")]
    states: Option<u64>,
    /// How many threads to use; all cores if not given.
    #[arg(long)]
    threads: Option<usize>,
}

fn suite(name: &str) -> Result<Suite, String> {
    Suite::from_name(name).ok_or_else(|| "it is small, ci or release".to_owned())
}

impl Explore {
    fn searches(&self) -> Vec<Search> {
        if !self.own {
            return self.suite.searches();
        }
        let usual = Bounds::default();
        let bounds = Bounds {
            nodes: self.nodes.unwrap_or(usual.nodes),
            terms: self.terms.unwrap_or(usual.terms),
            timeouts: self.timeouts.unwrap_or(usual.timeouts),
            heartbeats: self.heartbeats.unwrap_or(usual.heartbeats),
            proposals: self.proposals.unwrap_or(usual.proposals),
            crashes: self.crashes.unwrap_or(usual.crashes),
            drops: self.drops.unwrap_or(usual.drops),
            overtakings: self.overtakings.or(usual.overtakings),
            duplicates: self.duplicates.unwrap_or(usual.duplicates),
            reads: self.reads.unwrap_or(usual.reads),
            transfers: self.transfers.unwrap_or(usual.transfers),
            slow_disks: self.slow_disks,
            single_entries: self.single_entries,
            lossy_timeouts: self.lossy_timeouts,
            states_max: self.states.unwrap_or(usual.states_max),
            ..usual
        };
        vec![Search { name: "one of your own", bounds }]
    }
}

/// Explores as asked for.
pub(crate) fn run(options: &Explore) -> anyhow::Result<()> {
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    search_all(&options.searches(), threads)
}

/// Explores what CI does.
pub(crate) fn ci(threads: usize) -> anyhow::Result<()> {
    search_all(&Suite::Ci.searches(), threads)
}

/// For people only, on one line.
fn progress(states: u64) {
    if io::stderr().is_terminal() {
        eprint!("\r{states} states \r");
    }
}

/// Every search has to come to its end.
fn search_all(searches: &[Search], threads: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    let (mut states, mut transitions) = (0, 0);
    for Search { name, bounds } in searches {
        let began = Instant::now();
        let report = explore(bounds, threads, &progress)?;
        let mut out = io::stdout().lock();
        if let Some(found) = &report.violation {
            for step in &found.path {
                writeln!(out, "  {step}")?;
            }
            bail!("{name}: {}: {}, after {} states", found.invariant, found.text, report.states);
        }
        let seconds = began.elapsed().as_secs_f64();
        writeln!(out, "{:>10} states {:>3} steps deep in {seconds:>6.1} s: {name}", report.states, report.depth)?;
        if !report.exhausted {
            bail!("{name}: not exhausted");
        }
        states += report.states;
        transitions += report.transitions;
    }
    let seconds = began.elapsed().as_secs_f64();
    let summary = format!("{states} distinct states, {transitions} steps between them, in {seconds:.1} s");
    Ok(writeln!(io::stdout(), "{summary}: all there are, and no violation")?)
}
