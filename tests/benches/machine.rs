//! Where the figures were made.

use serde::Serialize;
use std::{fs, process::Command, thread, time::SystemTime};

/// The machine and the moment of a run.
#[derive(Serialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) processor: String,
    /// How many of its threads can be used.
    pub(crate) cores: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The commit of the source tree, if it is known.
    pub(crate) commit: String,
    /// Seconds since 1970.
    pub(crate) unix_seconds: u64,
}

impl Machine {
    /// This machine, now.
    pub(crate) fn here() -> Machine {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Machine {
            processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim_end().to_owned(),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            unix_seconds: now.as_secs(),
        }
    }
}

fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}
