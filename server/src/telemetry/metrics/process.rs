//! What the system says of the process, under the names that Prometheus's own libraries use. Where there is no `/proc`
//! nothing is told.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, getrlimit};

use super::Page;

/// Reads the process's own figures.
#[derive(Debug)]
pub(super) struct Process;

/// Memory and processor time.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Figures {
    cpu_seconds: f64,
    start_time_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        if let Some(figures) = figures() {
            let Figures { cpu_seconds, start_time_seconds, resident_bytes, virtual_bytes } = figures;
            page.counter("process_cpu_seconds", "Processor time of the process, in all", cpu_seconds)?;
            let help = "When the process was started, in seconds after 1970";
            page.gauge("process_start_time_seconds", help, start_time_seconds)?;
            page.gauge("process_resident_memory_bytes", "Memory of the process that is in RAM", resident_bytes)?;
            page.gauge("process_virtual_memory_bytes", "Address space of the process", virtual_bytes)?;
        }
        if let Some(open) = open_files() {
            page.gauge("process_open_fds", "Open files and connections", open)?;
            if let Some(limit) = getrlimit(Resource::Nofile).current {
                page.gauge("process_max_fds", "How many files and connections may be open", limit)?;
            }
        }
        Ok(())
    }
}

fn figures() -> Option<Figures> {
    let read = |path| fs::read_to_string(path).ok();
    parse(&read("/proc/self/stat")?, &read("/proc/self/status")?, &read("/proc/stat")?, clock_ticks_per_second())
}

/// Reads proc(5)'s `stat` and `status` of a process, and the `stat` of the system.
fn parse(stat: &str, status: &str, system: &str, ticks_per_second: u64) -> Option<Figures> {
    // The second field is a name that may hold anything; the third follows its last parenthesis.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    #[expect(clippy::cast_precision_loss, reason = "no machine runs for 2^53 ticks")]
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
    let memory = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(1024 * line.split_whitespace().next()?.parse::<u64>().ok()?)
    };
    let boot_time = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(Figures {
        cpu_seconds: seconds(field(14)? + field(15)?),
        start_time_seconds: boot_time.trim().parse::<f64>().ok()? + seconds(field(22)?),
        resident_bytes: memory("VmRSS:")?,
        virtual_bytes: memory("VmSize:")?,
    })
}

fn open_files() -> Option<u64> {
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    // The list itself was open.
    u64::try_from(listed).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_places() {
        let numbers: Vec<String> = (4..=24).map(|number: u32| number.to_string()).collect();
        let stat = format!("17 (a) b) S {}", numbers.join(" "));
        let status = "Name:\tx\nVmSize:\t     20 kB\nVmRSS:\t      8 kB\n";
        let found = parse(&stat, status, "cpu 1 2\nbtime 1000\n", 10).expect("all is there");
        let expected =
            Figures { cpu_seconds: 2.9, start_time_seconds: 1002.2, resident_bytes: 8192, virtual_bytes: 20480 };
        assert_eq!(found, expected);
        assert_eq!(parse("17 (x)", status, "btime 1000\n", 10), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_figures() {
        let figures = figures().expect("there is a /proc");
        assert!(figures.resident_bytes > 0 && figures.virtual_bytes >= figures.resident_bytes, "{figures:?}");
        assert!(open_files().is_some_and(|open| open >= 3));
    }
}
