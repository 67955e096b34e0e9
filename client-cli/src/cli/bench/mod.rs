//! `bench`: load through the library's own client, and what came of it. [`load`] makes it, [`tally`] counts,
//! [`progress`] shows how it goes, [`show`] what it was.

mod load;
mod progress;
mod show;
mod tally;

use super::{args::Format, duration, exit, run::Done, style::Colours};
use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum, value_parser};
use client_cli::{Client, Error, VALUE_BYTES_MAX};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  client-cli bench                          put for ten seconds
  client-cli bench --operation mixed --concurrency 64 --duration 1m
  client-cli bench --rate 500 --cleanup     500 a second, however slow the
                                            answers; then remove the keys
  client-cli bench --unary                  each operation a call of its own

The keys are the prefix and a number, and are overwritten. For get and mixed
they are written first, which is not measured. With --rate a latency counts from
when the operation was due, not from when a slow cluster let it begin; what was
due and not begun at the end is told as behind. Ctrl-C ends the load early, and
shows what there is.";

/// The longest prefix in bytes: a key has at most 1,024, and its number some digits.
const PREFIX_BYTES_MAX: usize = 1000;

/// The largest number of operations under way: as many as a node allows on a stream. More wait in this process.
const CONCURRENCY_MAX: u64 = 4096;

/// The largest number of keys: they are written before, and removed after.
const KEYS_MAX: u64 = 1_000_000;

/// The arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// put, get, or mixed: half of each.
    #[arg(long, value_name = "WHAT", default_value = "put", hide_possible_values = true)]
    operation: Operation,
    /// Operations under way at once.
    #[arg(long, value_name = "N", default_value = "16", value_parser = value_parser!(u64).range(1..=CONCURRENCY_MAX))]
    concurrency: u64,
    /// How long.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// How many operations, instead of how long.
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    count: Option<u64>,
    /// Operations a second, however slow the answers.
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// What the keys begin with; else bench-<random>/.
    #[arg(long, value_name = "TEXT")]
    key_prefix: Option<String>,
    /// How many different keys.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = value_parser!(u64).range(1..=KEYS_MAX))]
    keys: u64,
    /// The size of a value.
    #[arg(
        long,
        value_name = "N",
        default_value = "256",
        value_parser = value_parser!(u64).range(..=VALUE_BYTES_MAX as u64)
    )]
    value_bytes: u64,
    /// Remove the keys at the end.
    #[arg(long)]
    cleanup: bool,
    /// Make a call of each operation; else share a stream.
    #[arg(long)]
    unary: bool,
}

impl Bench {
    /// Whether the operations share a stream.
    pub(crate) fn is_pipelined(&self) -> bool {
        !self.unary
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    Put,
    Get,
    Mixed,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::Mixed => "mixed",
        }
    }

    /// Whether keys have to be there before.
    fn reads(self) -> bool {
        match self {
            Operation::Put => false,
            Operation::Get | Operation::Mixed => true,
        }
    }
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    After(Duration),
    Count(u64),
}

/// A load, as it will be made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    operation: Operation,
    concurrency: u64,
    end: End,
    /// Operations a second, if they do not wait for each other.
    rate: Option<u64>,
    key_prefix: String,
    key_count: u64,
    value_bytes: usize,
    cleanup: bool,
}

impl Plan {
    /// Resolves the arguments.
    ///
    /// # Errors
    ///
    /// If they ask for nothing, or the prefix is too long.
    pub(crate) fn new(bench: Bench) -> anyhow::Result<Plan> {
        let Bench { operation, concurrency, duration, count, rate, key_prefix, keys, value_bytes, cleanup, unary: _ } =
            bench;
        let key_prefix = key_prefix.unwrap_or_else(|| format!("bench-{:08x}/", rand::random::<u32>()));
        ensure!(key_prefix.len() <= PREFIX_BYTES_MAX, "the key prefix has more than {PREFIX_BYTES_MAX} bytes");
        ensure!(count != Some(0) || cleanup, "--count 0 does nothing; with --cleanup it removes the keys");
        Ok(Plan {
            operation,
            concurrency,
            end: count.map_or(End::After(duration), End::Count),
            rate,
            key_prefix,
            key_count: keys,
            value_bytes: usize::try_from(value_bytes).context("the values are too large for this machine")?,
            cleanup,
        })
    }

    fn key(&self, number: u64) -> String {
        format!("{}{number}", self.key_prefix)
    }
}

/// Makes the load.
///
/// # Errors
///
/// That of the first key that could not be written before the load. What fails later is counted.
pub(crate) async fn run(client: &Client, plan: &Plan, format: Format, prefix: &str) -> Result<Done, Error> {
    if plan.operation.reads() && plan.end != End::Count(0) {
        load::fill(client, plan).await?;
    }
    let measured = if plan.end == End::Count(0) { None } else { Some(load::run(client, plan).await) };
    let removed = if plan.cleanup { Some(load::clean_up(client, plan).await) } else { None };
    let nothing = measured.as_ref().is_some_and(|measured| measured.tally.succeeded() == 0);
    let unremoved = removed.as_ref().is_some_and(|removed| removed.error.is_some());
    let code = if nothing || unremoved { exit::UNAVAILABLE } else { exit::OK };
    let report = show::Report { plan, measured: measured.as_ref(), removed: removed.as_ref() };
    Ok((report.show(format, Colours::of_output(format), prefix), code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{FromArgMatches as _, error::ErrorKind};

    fn parse(arguments: &[&str]) -> Result<Bench, clap::Error> {
        let command = Bench::augment_args(clap::Command::new("bench").no_binary_name(true));
        Bench::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        Plan::new(parse(arguments).expect("it is well formed")).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_of_two_runs_do_not_meet_unless_asked_to() {
        let (one, other) = (plan(&[]).expect("defaults hold"), plan(&[]).expect("defaults hold"));
        assert_ne!(one.key(7), other.key(7));
        assert!(one.key(7).starts_with("bench-") && one.key(7).ends_with("/7"), "{}", one.key(7));
        assert_eq!(plan(&["--key-prefix", "x"]).expect("it is short").key(7), "x7");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let long = "x".repeat(PREFIX_BYTES_MAX + 1);
        assert!(plan(&["--key-prefix", &long]).is_err());
        assert!(plan(&["--count", "0"]).is_err());
        assert!(plan(&["--count", "0", "--cleanup"]).is_ok());
        let both = parse(&["--count", "1", "--duration", "1s"]).expect_err("one says the end");
        assert_eq!(both.kind(), ErrorKind::ArgumentConflict);
        for arguments in [
            ["--concurrency", "0"],
            ["--concurrency", "4097"],
            ["--rate", "0"],
            ["--keys", "0"],
            ["--value-bytes", "1048577"],
        ] {
            assert!(parse(&arguments).is_err(), "{arguments:?}");
        }
    }
}
