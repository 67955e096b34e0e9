//! Tells whether a recorded history is linearizable: `lincheck --format jepsen|edn|jsonl FILE`.
//!
//! Standard output has one word, `ok`, `illegal` or `unknown` (the budget ran out); the exit code is 0, 1 or 2. Why a
//! history is illegal goes to standard error. A wrong command line exits 64, a malformed history 65 with its line and
//! the reason, a file that cannot be read 66.
#![allow(clippy::print_stdout)] // The verdict is data.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context as _;
use clap::Parser;
use lincheck::{
    Budget, Verdict,
    formats::{Format, Histories, Malformed},
};

/// The command line is wrong.
const EXIT_USAGE: u8 = 64;
/// The history is malformed.
const EXIT_MALFORMED: u8 = 65;
/// The file cannot be read.
const EXIT_UNREADABLE: u8 = 66;

/// Tells whether a history of concurrent operations is linearizable.
///
/// Prints `ok`, `illegal` or `unknown` (the budget ran out) and exits with 0, 1 or 2.
#[derive(Debug, Parser)]
#[command(name = "lincheck", version)]
struct Arguments {
    /// How the history is written: jepsen, edn or jsonl.
    #[arg(long, value_name = "FORMAT")]
    format: Format,

    /// Give up on a key after this many steps.
    #[arg(long, value_name = "N", default_value_t = Budget::STEPS_DEFAULT, value_parser = clap::value_parser!(u64).range(1..))]
    budget: u64,

    /// Say what it took, on standard error.
    #[arg(short, long)]
    verbose: bool,

    /// The history; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => run(&arguments).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Malformed>() { EXIT_MALFORMED } else { EXIT_UNREADABLE })
        }),
        Err(error) => {
            // Whoever closed the stream does not want to read it.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let bytes = read(&arguments.file).with_context(|| format!("read {}", arguments.file.display()))?;
    let histories = Histories::read(arguments.format, text(&bytes)?)?;
    let read = started.elapsed();
    let report = histories.check(Budget::steps(arguments.budget));
    let checked = started.elapsed() - read;
    // The verdict is also in the exit code, if nobody reads it here.
    let _ = writeln!(io::stdout(), "{}", report.verdict);
    if report.verdict != Verdict::Ok {
        eprint!("{report}");
    }
    if arguments.verbose {
        let (operations, steps) = (histories.len(), report.steps);
        eprintln!("{operations} operations, {steps} steps, read in {read:.1?}, checked in {checked:.1?}");
    }
    Ok(ExitCode::from(match report.verdict {
        Verdict::Ok => 0,
        Verdict::Illegal => 1,
        Verdict::Unknown => 2,
    }))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    fs::read(file)
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Malformed { line, reason: "not UTF-8".to_owned() }
    })
}
