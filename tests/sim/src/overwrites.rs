//! An hour of overwrites: a few keys are written over and over, under faults, and what a node has on its disk stays
//! bounded all the time.
//!
//! It is an hour of simulated time, with some fifty operations a second. What fills a disk is log that is not cut, so
//! what counts beside the time is how often the log is turned over: written, put into a snapshot, and cut. Five
//! thousand puts a second of a kibibyte each are 19 GiB of log in an hour, and with the bounds of the service a
//! snapshot is due after 64 MiB of it: that hour has 300 turns. The run here has to have as many, with snapshots that
//! are due after a few hundred bytes to 4 KiB.

use std::io::{self, Write};

use anyhow::bail;
use clap::Args;
use sim::{RunOptions, overwrites_seed, run};

/// How often a node's log has to be turned over.
const TURNS: u64 = 300;

/// For so long faults happen and keys are overwritten, in simulated seconds.
pub(crate) const SECONDS: u64 = 3_600;

#[derive(Args)]
pub(crate) struct Overwrites {
    /// The first seed that is looked at: the first from here on that means a run of this kind is taken.
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// How long faults happen, in simulated seconds.
    #[arg(long, default_value_t = SECONDS)]
    pub(crate) seconds: u64,
}

/// Runs it.
pub(crate) fn overwrites(options: &Overwrites) -> anyhow::Result<()> {
    let seed = overwrites_seed(options.from);
    let outcome = run(seed, RunOptions { faults_seconds: options.seconds, keeps_story: false });
    if let Some(violation) = &outcome.violation {
        bail!("seed {seed} over {} seconds: {violation}", options.seconds);
    }
    let turns = outcome.snapshots / outcome.size.max(1) as u64;
    writeln!(
        io::stdout(),
        "seed {seed}: {} of {} operations were answered, and each log turned over {turns} times",
        outcome.acknowledged,
        outcome.operations
    )?;
    if turns < TURNS {
        bail!("seed {seed} turns each log over {turns} times only, {TURNS} are an hour");
    }
    Ok(())
}
