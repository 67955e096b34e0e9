//! What processes use, from `/proc` and `/sys`.

use anyhow::Context as _;
use std::{fs, os::linux::fs::MetadataExt as _, path::Path, time::Duration};

/// The unit of CPU times in `/proc/PID/stat`: `USER_HZ`, 100 a second on every architecture that Rust and Linux share.
const TICK: Duration = Duration::from_millis(10);

/// The unit of `/sys/dev/block/…/stat`, whatever the device's own is.
const SECTOR_BYTES: u64 = 512;

/// What some processes have used together, since their start or between two looks.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Usage {
    /// CPU time, in user and kernel mode, of all threads.
    pub(crate) cpu: Duration,
    /// Bytes written to the device on which they keep their data, by whomever: the kernel's count for a process takes
    /// every large page that it touches for written.
    pub(crate) written_bytes: u64,
    /// Flushes that the device was asked for meanwhile, by whomever. The kernel joins those that wait for each other.
    pub(crate) flushes: u64,
    /// The largest resident memory of one of them, now.
    pub(crate) resident_bytes_max: u64,
    /// The resident memory of all of them, now.
    pub(crate) resident_bytes_sum: u64,
    /// The most that one of them has had since its start.
    pub(crate) peak_bytes_max: u64,
}

impl Usage {
    /// Adds up what these processes have used since their start; `data` is where they keep their data, if they do.
    ///
    /// # Errors
    /// One of them has ended.
    pub(crate) fn of(process_ids: &[u32], data: Option<&Path>) -> anyhow::Result<Usage> {
        // Not readable everywhere; then it counts as nothing.
        let (written_bytes, flushes) = data.and_then(device_use).unwrap_or((0, 0));
        let mut sum = Usage { written_bytes, flushes, ..Usage::default() };
        for process_id in process_ids {
            let read = |file: &str| {
                let path = format!("/proc/{process_id}/{file}");
                fs::read_to_string(&path).with_context(|| format!("read {path}"))
            };
            sum.cpu += cpu_time(&read("stat")?).context("/proc/PID/stat has another form")?;
            let status = read("status")?;
            let resident = field(&status, "VmRSS:").unwrap_or(0) * 1024;
            let peak = field(&status, "VmHWM:").unwrap_or(0) * 1024;
            sum.resident_bytes_max = sum.resident_bytes_max.max(resident);
            sum.resident_bytes_sum += resident;
            sum.peak_bytes_max = sum.peak_bytes_max.max(peak);
        }
        Ok(sum)
    }

    /// What was used since an earlier look; memory is a state and stays what it is now.
    pub(crate) fn since(&self, earlier: &Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            flushes: self.flushes.saturating_sub(earlier.flushes),
            ..*self
        }
    }
}

/// How often threads of a process gave a processor back or had to, since they were started.
///
/// # Errors
/// The process has ended.
pub(crate) fn switches(process_id: u32) -> anyhow::Result<u64> {
    let threads = format!("/proc/{process_id}/task");
    let mut sum = 0;
    for thread in fs::read_dir(&threads).with_context(|| format!("read {threads}"))? {
        // A thread may end meanwhile; what it did is gone with it.
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        sum += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        sum += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(sum)
}

/// How often a process touched memory that had first to be given to it, since its start.
///
/// # Errors
/// The process has ended.
pub(crate) fn page_faults(process_id: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process_id}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // Field 10, counted as in `cpu_time`: the faults that needed no device.
    let field = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(7)?.parse().ok());
    field.context("/proc/PID/stat has another form")
}

/// Fields 14 and 15, counted behind the program's name, which is in parentheses and may hold anything.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

/// The bytes that were written to the device of a file's file system, and the flushes that it was asked for, since the
/// machine started.
fn device_use(path: &Path) -> Option<(u64, u64)> {
    let device = fs::metadata(path).ok()?.st_dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    let field = |number| stat.split_whitespace().nth(number)?.parse::<u64>().ok();
    // Kernels before 5.5 do not count flushes.
    Some((field(6)? * SECTOR_BYTES, field(15).unwrap_or(0)))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
