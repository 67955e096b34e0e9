//! Counts the calls by which processes have the device make their data durable, with `perf` where it is there and may:
//! no system tells of all of its own. It slows every system call a little, so it is never done while speed is measured.

use std::{path::Path, process::Stdio, sync::OnceLock, time::Duration};
use tokio::process::Command;

/// The kernel's events.
const EVENTS: [&str; 2] = ["syscalls:sys_enter_fdatasync", "syscalls:sys_enter_fsync"];

/// Whether such calls can be counted here.
pub(crate) fn can_be_counted() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let mut perf = std::process::Command::new("perf");
        perf.args(["stat", "-x", ",", "-e", &EVENTS.join(","), "--", "true"]).stdin(Stdio::null());
        let output = perf.output().ok();
        let can = output.is_some_and(|output| total(&String::from_utf8_lossy(&output.stderr)).is_some());
        if !can {
            eprintln!("syncs are not counted: `perf stat` is not there or may not");
        }
        can
    })
}

/// How many such calls these processes make in a second, counted for a while; `None` where that cannot be counted.
pub(crate) async fn per_second(process_ids: &[u32], duration: Duration) -> Option<f64> {
    let ids: Vec<String> = process_ids.iter().map(u32::to_string).collect();
    let seconds = duration.as_secs_f64();
    let output = Command::new("perf")
        .args(["stat", "-x", ",", "-e", &EVENTS.join(","), "-p", &ids.join(","), "--", "sleep", &seconds.to_string()])
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    let counts = String::from_utf8_lossy(&output.stderr).into_owned();
    let count = output.status.success().then(|| total(&counts))??;
    Some(count as f64 / seconds)
}

/// The sum of the counts; `None` if one of them was not made.
fn total(counts: &str) -> Option<u64> {
    let count = |event: &&str| {
        let line = counts.lines().find(|line| line.contains(*event))?;
        line.split(',').next()?.parse::<u64>().ok()
    };
    EVENTS.iter().map(count).sum()
}

/// Median time of one `fdatasync` of 4 KiB that overwrite a file in this directory: what any durable write waits for.
pub(crate) fn probe(directory: &Path) -> anyhow::Result<Duration> {
    use std::os::unix::fs::FileExt as _;
    const BLOCK: [u8; 4096] = [7; 4096];
    const SYNCS: usize = 200;
    let file = tempfile::tempfile_in(directory)?;
    for number in 0..SYNCS {
        file.write_all_at(&BLOCK, (number * BLOCK.len()) as u64)?;
    }
    file.sync_all()?;
    let mut times = Vec::with_capacity(SYNCS);
    for number in 0..SYNCS {
        let begin = std::time::Instant::now();
        file.write_all_at(&BLOCK, (number * BLOCK.len()) as u64)?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}
