//! The command line: what is typed ([`args`]) becomes what is meant ([`command`]), is done ([`run`]), and is shown
//! ([`output`], [`report`]).

pub(crate) mod args;
mod bench;
mod command;
mod doctor;
mod duration;
pub(crate) mod exit;
mod generated;
mod handover;
mod log_filter;
mod output;
mod report;
mod run;
mod settings;
mod status;
mod style;
mod trace_id;
pub(crate) mod traces;
mod waterfall;

use crate::telemetry::Telemetry;
use anyhow::Context as _;
use command::Invocation;
use std::{
    io::{self, Write as _},
    process::ExitCode,
};

/// Does what was typed.
///
/// # Errors
///
/// If the arguments do not fit together, or something on this machine fails (a file, standard output). What the cluster
/// answers is an exit code, reported already.
pub(crate) fn main(arguments: args::Arguments) -> anyhow::Result<ExitCode> {
    let args::Arguments { common, command } = arguments;
    match command {
        args::Command::Cluster(request) => ask(common, request),
        args::Command::Completions { shell } => print(&generated::completions(shell)),
        args::Command::Man { dir: None } => print(&generated::manual()?),
        args::Command::Man { dir: Some(directory) } => {
            generated::write_manual(&directory)?;
            Ok(ExitCode::from(exit::OK))
        }
    }
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    write_out(text).context("write to standard output")?;
    Ok(ExitCode::from(exit::OK))
}

fn ask(common: args::Common, request: args::Request) -> anyhow::Result<ExitCode> {
    let verbosity = common.verbose;
    let invocation = Invocation::new(common, request)?;
    // Exported spans travel on a worker while this thread waits for the last of them.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let tracing = invocation.tracing;
    let trace_id = tracing.and_then(|tracing| tracing.trace_id).map(trace_id::TraceId::bytes);
    let telemetry = Telemetry::start(&runtime, verbosity, tracing.map(|_| trace_id));
    let done = runtime.block_on(run::run(&invocation));
    let waterfall = telemetry.trace().map(|own| {
        let colours = style::Colours::of_errors();
        runtime.block_on(traces::of_own(&invocation.options, own, colours))
    });
    telemetry.finish();
    // A connection that is still being opened must not delay the exit.
    runtime.shutdown_background();
    let (output, code) = match done {
        Ok(done) => done,
        Err(error) => {
            waterfall.iter().for_each(|waterfall| complain(waterfall));
            complain(&report::explain(&error, &invocation));
            return Ok(ExitCode::from(exit::code(&error)));
        }
    };
    write_out(&output).context("the request succeeded, but its result could not be written to standard output")?;
    waterfall.iter().for_each(|waterfall| complain(waterfall));
    Ok(ExitCode::from(code))
}

/// Writes `data` to standard output. A reader that has gone away has seen what it wanted.
fn write_out(data: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(data).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes to standard error. If even that is closed there is nobody to tell.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", style::Colours::of_errors().message(text));
}
