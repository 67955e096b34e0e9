//! Runs `perf`: records where a process spends its time, and counts its system calls.

use super::samples::{self, FIELDS, SEPARATOR, Samples, Unreadable};
use std::{
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::Command;

/// Samples a second and processor: a prime, so that they do not fall into step with what happens each millisecond.
pub(super) const FREQUENCY_HZ: u32 = 1_999;

/// The kernel's event at the entry of each system call.
const SYSTEM_CALL: &str = "raw_syscalls:sys_enter";

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub(super) enum PerfError {
    /// There is no such program.
    #[error("perf is not there: install it (Debian: linux-perf, Ubuntu: linux-tools, Fedora: perf)")]
    Missing,
    /// It could not be started or read.
    #[error("perf cannot be started")]
    Start(#[source] io::Error),
    /// It may not, or failed.
    #[error("perf {command} ended with {status}; without root it needs kernel.perf_event_paranoid <= -1: {said}")]
    Failed {
        /// What it was asked to do.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said of that.
        said: String,
    },
    /// Its report has another form.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It saw nothing: the process did nothing meanwhile, or has ended.
    #[error("perf saw process {0} do nothing")]
    Idle(u32),
}

/// Where a process spent its time, as a file of perf's.
pub(super) struct Recording {
    process_id: u32,
    file: PathBuf,
}

/// Fails if there is no perf, before anything is started for it.
pub(super) async fn expect_installed() -> Result<(), PerfError> {
    run(Command::new("perf").arg("--version")).await.map(drop)
}

/// Records a process for a while into a file of this directory.
pub(super) async fn record(process_id: u32, duration: Duration, directory: &Path) -> Result<Recording, PerfError> {
    let file = directory.join(format!("{process_id}.data"));
    let mut perf = Command::new("perf");
    // Not what is started meanwhile: the generator starts perf itself.
    perf.args(["record", "--quiet", "--no-inherit", "--freq", &FREQUENCY_HZ.to_string(), "--output"]).arg(&file);
    perf.args(["--pid", &process_id.to_string(), "--", "sleep", &duration.as_secs_f64().to_string()]);
    run(&mut perf).await?;
    Ok(Recording { process_id, file })
}

impl Recording {
    /// What it says. Takes a moment of a processor, so it comes after what is measured.
    pub(super) async fn samples(&self) -> Result<Vec<Samples>, PerfError> {
        let mut perf = Command::new("perf");
        perf.args(["report", "--quiet", "--stdio", "--no-children", "--no-inline", "--percent-limit", "0"]);
        perf.args(["--fields", FIELDS, "--field-separator", SEPARATOR, "--input"]).arg(&self.file);
        let samples = samples::parse(&String::from_utf8_lossy(&run(&mut perf).await?.stdout))?;
        if samples.is_empty() { Err(PerfError::Idle(self.process_id)) } else { Ok(samples) }
    }
}

/// How many system calls a process makes in a second, counted for a while; `None` where the kernel does not tell.
pub(super) async fn system_calls_per_second(process_id: u32, duration: Duration) -> Result<Option<f64>, PerfError> {
    let seconds = duration.as_secs_f64();
    let mut perf = Command::new("perf");
    perf.args(["stat", "--no-inherit", "-x", ",", "-e", SYSTEM_CALL, "--pid", &process_id.to_string()]);
    perf.args(["--", "sleep", &seconds.to_string()]);
    match run(&mut perf).await {
        Ok(output) => {
            let count = samples::counted(&String::from_utf8_lossy(&output.stderr), SYSTEM_CALL);
            Ok(count.map(|count| count as f64 / seconds))
        }
        // Kernels without tracepoints can be recorded all the same.
        Err(PerfError::Failed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn run(command: &mut Command) -> Result<Output, PerfError> {
    let output = command.stdin(Stdio::null()).output().await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PerfError::Missing,
        _ => PerfError::Start(error),
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let arguments = command.as_std().get_args();
    Err(PerfError::Failed {
        command: arguments.map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" "),
        status: output.status,
        said: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    })
}
