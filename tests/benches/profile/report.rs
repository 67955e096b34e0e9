//! Profiles as tables and JSON.

use super::{Profile, ROLES, Used, components::Component, perf::FREQUENCY_HZ, samples::Samples};
use crate::{generator::Measured, machine::Machine, report::write_file, system::System, workload::Workload};
use anyhow::Context as _;
use serde::{Serialize, Serializer};
use std::{collections::BTreeMap, fmt::Write as _, path::Path};

/// Names of the files that are written.
const JSON_FILE: &str = "profile.json";
const MARKDOWN_FILE: &str = "profile.md";

/// Symbols with a smaller share than this are left out of the JSON.
const SHARE_MIN: f64 = 0.003;

/// How many of a process's symbols are in the tables.
const HEAVIEST: usize = 10;

/// Symbols are cut to so many characters: a generic one can fill pages.
const SYMBOL_CHARS_MAX: usize = 160;
const SHORT_SYMBOL_CHARS_MAX: usize = 64;

/// Writing to a string cannot fail.
const WRITES: &str = "writing to a string cannot fail";

/// Shares of a whole, the largest first.
#[derive(Clone, Default)]
pub(super) struct Shares(Vec<(String, f64)>);

impl Shares {
    /// What so many samples are of all.
    fn new(counts: BTreeMap<String, u64>) -> Shares {
        let all = counts.values().sum::<u64>().max(1) as f64;
        let mut shares: Vec<_> = counts.into_iter().map(|(name, count)| (name, count as f64 / all)).collect();
        shares.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        Shares(shares)
    }

    fn above(mut self, share_min: f64) -> Shares {
        self.0.retain(|(_, share)| *share >= share_min);
        self
    }

    fn of(&self, name: &str) -> f64 {
        self.0.iter().find(|(other, _)| other == name).map_or(0.0, |(_, share)| *share)
    }
}

impl Serialize for Shares {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Four digits: no profile has more samples than that says.
        serializer.collect_map(self.0.iter().map(|(name, share)| (name, (share * 1e4).round() / 1e4)))
    }
}

/// What one process did under a load.
#[derive(Serialize)]
pub(super) struct Process {
    /// How many processors it took.
    processors: f64,
    cpu_us_per_operation: f64,
    switches_per_operation: f64,
    page_faults_per_operation: f64,
    /// `None` where the kernel does not tell.
    system_calls_per_operation: Option<f64>,
    samples: u64,
    components: Shares,
    threads: Shares,
    symbols: Shares,
}

impl Process {
    /// Puts what was seen together.
    pub(super) fn new(measured: &Measured, used: Used, calls: Option<f64>, samples: &[Samples]) -> Process {
        let [mut components, mut threads, mut symbols] = [const { BTreeMap::new() }; 3];
        for Samples { count, thread, object, symbol } in samples {
            let component = Component::of(thread, object, symbol).name();
            *components.entry(component.to_owned()).or_default() += count;
            *threads.entry(thread.clone()).or_default() += count;
            *symbols.entry(shortened(symbol, SYMBOL_CHARS_MAX)).or_default() += count;
        }
        let operations = measured.latencies.len().max(1) as f64;
        Process {
            processors: used.cpu.as_secs_f64() / measured.elapsed.as_secs_f64(),
            cpu_us_per_operation: used.cpu.as_secs_f64() * 1e6 / operations,
            switches_per_operation: used.switches as f64 / operations,
            page_faults_per_operation: used.page_faults as f64 / operations,
            system_calls_per_operation: calls,
            samples: samples.iter().map(|samples| samples.count).sum(),
            components: Shares::new(components),
            threads: Shares::new(threads),
            symbols: Shares::new(symbols).above(SHARE_MIN),
        }
    }
}

/// A load and what each of [`ROLES`] did.
#[derive(Serialize)]
pub(super) struct Load {
    system: System,
    workload: &'static str,
    in_flight: usize,
    operations_per_second: f64,
    p50_ms: f64,
    errors: u64,
    processes: Processes,
}

/// One for each of [`ROLES`].
struct Processes(Vec<Process>);

impl Serialize for Processes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(ROLES.iter().zip(&self.0))
    }
}

impl Load {
    pub(super) fn new(
        system: System,
        workload: Workload,
        in_flight: usize,
        measured: &Measured,
        processes: Vec<Process>,
    ) -> Load {
        Load {
            system,
            workload: workload.name(),
            in_flight,
            operations_per_second: measured.per_second(),
            p50_ms: measured.latencies.value_at_quantile(0.5) as f64 / 1e6,
            errors: measured.errors,
            processes: Processes(processes),
        }
    }

    /// One line, while the benchmark runs.
    pub(super) fn line(&self) -> String {
        let Load { operations_per_second, p50_ms, errors, .. } = self;
        let samples: Vec<String> = self.processes.0.iter().map(|process| process.samples.to_string()).collect();
        let (name, samples) = (self.name(), samples.join(" + "));
        format!("{name}: {operations_per_second:.0}/s, p50 {p50_ms:.3} ms, {errors} errors, {samples} samples")
    }

    fn name(&self) -> String {
        format!("{} {}, {}", self.system.short_name(), self.workload, self.in_flight)
    }

    fn row(&self) -> String {
        let of_each = |figure: fn(&Process) -> f64, digits| {
            let figures = self.processes.0.iter().map(|process| format!("{:.digits$}", figure(process)));
            figures.collect::<Vec<_>>().join(" / ")
        };
        let cells = [
            self.name(),
            format!("{:.0}", self.operations_per_second),
            format!("{:.3}", self.p50_ms),
            of_each(|process| process.processors, 2),
            of_each(|process| process.cpu_us_per_operation, 1),
            of_each(|process| process.switches_per_operation, 3),
            of_each(|process| process.page_faults_per_operation, 3),
            if self.processes.0.iter().any(|process| process.system_calls_per_operation.is_none()) {
                String::new()
            } else {
                of_each(|process| process.system_calls_per_operation.unwrap_or(f64::NAN), 3)
            },
        ];
        format!("| {} |", cells.join(" | "))
    }
}

/// A run's result.
#[derive(Serialize)]
pub(super) struct Report {
    machine: Machine,
    seconds: f64,
    connections: usize,
    keys: u64,
    frequency_hz: u32,
    foreign_load_percent_max: f64,
    loads: Vec<Load>,
}

impl Report {
    pub(super) fn new(machine: Machine, options: &Profile, foreign_load_percent_max: f64, loads: Vec<Load>) -> Report {
        let Profile { seconds, connections, keys, .. } = *options;
        Report { machine, seconds, connections, keys, frequency_hz: FREQUENCY_HZ, foreign_load_percent_max, loads }
    }

    /// The tables.
    pub(super) fn markdown(&self) -> String {
        let Machine { processor, cores, kernel, commit, .. } = &self.machine;
        let mut text = format!(
            "{processor} with {cores} cores, Linux {kernel}, commit {commit}. Three nodes and the generator share the \
             machine; other processes used {:.0} % of it at most. Closed loops over {} connections to the leader, \
             32-byte keys, 256-byte values, {} keys to begin with; {} s each. Self time by `perf record`, {} Hz, in a \
             run beside the one that rates and times are of.\n\n\
             Three figures: {}. System calls: counted by `perf stat` in a run of their own.\n\n\
             | load, in flight | operations/s | p50 ms | processors | CPU µs/op | switches of threads/op | page \
             faults/op | system calls/op |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
            self.foreign_load_percent_max,
            self.connections,
            self.keys,
            self.seconds,
            self.frequency_hz,
            ROLES.join(" / "),
        );
        for load in &self.loads {
            writeln!(text, "{}", load.row()).expect(WRITES);
        }
        for (number, role) in ROLES.iter().enumerate() {
            let processes: Vec<&Process> = self.loads.iter().map(|load| &load.processes.0[number]).collect();
            let names = Component::ALL.map(|component| component.name().to_owned());
            text += &self
                .shares(&format!("Where the {role}'s time goes, %"), &names, |column| &processes[column].components);
            let mut threads: Vec<String> = Vec::new();
            for (name, share) in processes.iter().flat_map(|process| &process.threads.0) {
                if *share >= SHARE_MIN && !threads.contains(name) {
                    threads.push(name.clone());
                }
            }
            text += &self.shares(&format!("The {role}'s threads, %"), &threads, |column| &processes[column].threads);
        }
        text + &self.heaviest()
    }

    /// A table of shares: a row for each name that has one, a column for each load.
    fn shares<'a>(&self, title: &str, names: &[String], of: impl Fn(usize) -> &'a Shares) -> String {
        let heads: Vec<String> = self.loads.iter().map(Load::name).collect();
        let mut text = format!("\n## {title}\n\n| | {} |\n|---|{}\n", heads.join(" | "), "--:|".repeat(heads.len()));
        for name in names {
            let shares: Vec<f64> = (0..heads.len()).map(|column| 100.0 * of(column).of(name)).collect();
            if shares.iter().any(|share| *share > 0.0) {
                let cells: Vec<String> = shares.iter().map(|share| format!("{share:.1}")).collect();
                writeln!(text, "| {name} | {} |", cells.join(" | ")).expect(WRITES);
            }
        }
        text
    }

    /// The heaviest symbols of each process.
    fn heaviest(&self) -> String {
        let mut text =
            format!("\n## The {HEAVIEST} heaviest symbols of each, %\n\n| load | process | symbols |\n|---|---|---|\n");
        for load in &self.loads {
            for (role, process) in ROLES.iter().zip(&load.processes.0) {
                let symbols = process.symbols.0.iter().take(HEAVIEST);
                let cells = symbols.map(|(symbol, share)| {
                    // What stands between two of them ends a cell.
                    let symbol = shortened(symbol, SHORT_SYMBOL_CHARS_MAX).replace('|', "/");
                    format!("`{symbol}` {:.1}", 100.0 * share)
                });
                let cells = cells.collect::<Vec<_>>().join(", ");
                writeln!(text, "| {} | {role} | {cells} |", load.name()).expect(WRITES);
            }
        }
        text
    }

    /// Writes all files into a directory, which is made if it is missing.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self).context("encode the report")? + "\n";
        write_file(directory, JSON_FILE, &json)?;
        write_file(directory, MARKDOWN_FILE, &self.markdown())
    }
}

/// A symbol with at most so many characters: its beginning says whose it is, its end which function.
fn shortened(symbol: &str, chars_max: usize) -> String {
    let count = symbol.chars().count();
    if count <= chars_max {
        return symbol.to_owned();
    }
    let end_chars = chars_max / 3;
    let begin: String = symbol.chars().take(chars_max - end_chars - 1).collect();
    let end: String = symbol.chars().skip(count - end_chars).collect();
    format!("{begin}…{end}")
}
