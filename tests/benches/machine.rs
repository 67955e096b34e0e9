//! Where the figures were made.

use serde::Serialize;
use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

/// How long a look at the machine's load takes.
const LOOK: Duration = Duration::from_millis(300);

/// More load by others than this is told of: figures made beside it are worth little.
const BUSY_PERCENT: f64 = 10.0;

/// The machine and the moment of a run.
#[derive(Clone, Serialize)]
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

/// How long it takes to get memory that nobody here used lately, in seconds for each GiB: a tenth on a machine of one's
/// own, and a hundred times as much on one that took it back and has to ask its host for it again.
pub(crate) fn fresh_memory_seconds_per_gib() -> f64 {
    const BYTES: usize = 256 << 20;
    const PAGE_BYTES: usize = 4 << 10;
    let begin = Instant::now();
    let mut memory = vec![0_u8; BYTES];
    memory.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
    begin.elapsed().as_secs_f64() * (1 << 30) as f64 / BYTES as f64
}

/// How much of the machine others use, in percent of all cores, while nothing of the benchmark runs. Warns if it is
/// much.
pub(crate) async fn foreign_load_percent() -> f64 {
    let before = busy_and_all();
    tokio::time::sleep(LOOK).await;
    let after = busy_and_all();
    let (busy, all) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    // Two counts of ticks: 53 bits are more than enough.
    let percent = 100.0 * busy as f64 / all.max(1) as f64;
    if percent > BUSY_PERCENT {
        eprintln!("machine is busy: other processes use {percent:.0} % of it, which these figures include");
    }
    percent
}

/// Ticks of all cores since the start of the machine: those that were not idle, and all.
fn busy_and_all() -> (u64, u64) {
    // Fields of the first line: user, nice, system, idle, iowait, irq, softirq, steal; guests count as users.
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let ticks: Vec<u64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
    let all: u64 = ticks.iter().sum();
    (all - ticks.iter().skip(3).take(2).sum::<u64>(), all)
}

fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}
