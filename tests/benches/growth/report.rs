//! The growth of costs as tables, JSON and plots.

use super::{Axis, SYNC_IN_FLIGHT};
use crate::{
    machine::Machine,
    plot::{Tint, figure, lines},
    report::{Figures, write_file},
    system::System,
    workload::Workload,
};
use anyhow::Context as _;
use serde::Serialize;
use std::{fmt::Write as _, path::Path};

/// Names of the files that are written; each axis has a plot of its own beside them.
const JSON_FILE: &str = "growth.json";
const MARKDOWN_FILE: &str = "growth.md";

/// Writing to a string cannot fail.
const WRITES: &str = "writing to a string cannot fail";

/// One measurement.
#[derive(Clone, Serialize)]
pub(super) struct Point {
    pub(super) axis: Axis,
    /// The value of what grows.
    pub(super) at: u64,
    pub(super) system: System,
    pub(super) workload: &'static str,
    /// Requests at a time.
    pub(super) in_flight: usize,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

/// All of them.
#[derive(Serialize)]
pub(super) struct Report {
    machine: Machine,
    seconds: f64,
    keys: u64,
    points: Vec<Point>,
}

/// A figure and what is said of it.
type Reading = (&'static str, fn(&Figures) -> f64);

const READINGS: [Reading; 2] = [
    ("operations a second", |figures| figures.operations_per_second),
    ("CPU of all servers, µs", |figures| figures.system_cpu_us_per_operation),
];

impl Report {
    pub(super) fn new(machine: Machine, seconds: f64, keys: u64, points: Vec<Point>) -> Report {
        Report { machine, seconds, keys, points }
    }

    /// The tables: one for each axis.
    pub(super) fn markdown(&self) -> String {
        let Machine { processor, cores, kernel, commit, .. } = &self.machine;
        let mut text = format!(
            "How costs grow: {} s each, {} requests in flight, {}-byte values, {} keys, {} members, but for what \
             grows; puts overwrite. {processor} with {cores} cores, Linux {kernel}, commit {commit}. Systems and generator \
             share the machine.\n",
            self.seconds,
            super::IN_FLIGHT,
            super::VALUE_BYTES,
            self.keys,
            super::MEMBERS,
        );
        for axis in self.axes() {
            writeln!(
                text,
                "\n## {}\n\n{}| system | operation | {} | in flight | operations/s | p50 ms | p99 ms | CPU µs/op, servers | \
                 memory MiB, largest node | errors |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
                axis.words(),
                remark(axis),
                axis.words()
            )
            .expect(WRITES);
            for Point { at, system, workload, in_flight, figures, .. } in
                self.points.iter().filter(|point| point.axis == axis)
            {
                let Figures { operations_per_second, p50_ms, p99_ms, system_cpu_us_per_operation, .. } = figures;
                let Figures { resident_mib_max, errors, .. } = figures;
                writeln!(
                    text,
                    "| {} | {workload} | {at} | {in_flight} | {operations_per_second:.0} | {p50_ms:.3} | {p99_ms:.3} | \
                     {system_cpu_us_per_operation:.1} | {resident_mib_max:.0} | {errors} |",
                    system.name()
                )
                .expect(WRITES);
            }
        }
        text
    }

    /// Writes all files into a directory, which is made if it is missing.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self).context("encode the report")? + "\n";
        write_file(directory, JSON_FILE, &json)?;
        write_file(directory, MARKDOWN_FILE, &self.markdown())?;
        self.axes()
            .into_iter()
            .try_for_each(|axis| write_file(directory, &format!("growth-{}.svg", axis.name()), &self.plot(axis)))
    }

    /// What was measured, in that order.
    fn axes(&self) -> Vec<Axis> {
        let measured = |axis: &Axis| self.points.iter().any(|point| point.axis == *axis);
        Axis::ALL.into_iter().filter(measured).collect()
    }

    fn plot(&self, axis: Axis) -> String {
        let mut panels = if axis == Axis::Sync { self.panels_of_syncs() } else { self.panels(axis) };
        panels.retain(|panel| !panel.lines.is_empty());
        lines::draw(&format!("What an operation costs by {}", axis.words()), &panels)
    }

    fn panels(&self, axis: Axis) -> Vec<lines::Panel> {
        let mut panels = Vec::new();
        for workload in [Workload::Put, Workload::Get] {
            for (words, reading) in READINGS {
                let title = format!("{}: {words}", workload.name());
                let is_on = |point: &Point| point.workload == workload.name();
                panels.push(self.panel(title, axis, is_on, reading));
            }
        }
        panels
    }

    /// A lone put has a latency that holds a sync; what many share one for is how many are done.
    fn panels_of_syncs(&self) -> Vec<lines::Panel> {
        let [lone, some, many] = SYNC_IN_FLIGHT;
        let alone: Reading = ("p50 ms of a put alone", |figures| figures.p50_ms);
        let [puts, cpu] = READINGS;
        let panel = |in_flight: usize, (words, reading): Reading| {
            let number = figure(in_flight as f64);
            let title = if in_flight == lone { words.to_owned() } else { format!("{number} in flight: {words}") };
            self.panel(title, Axis::Sync, |point: &Point| point.in_flight == in_flight, reading)
        };
        vec![panel(lone, alone), panel(some, puts), panel(many, puts), panel(many, cpu)]
    }

    /// A line for each system, through what was measured of it that is on the panel.
    fn panel(
        &self,
        title: String,
        axis: Axis,
        is_on: impl Fn(&Point) -> bool,
        reading: fn(&Figures) -> f64,
    ) -> lines::Panel {
        let lines = System::ALL.into_iter().filter_map(|system| {
            let is_of = |point: &&Point| (point.axis, point.system) == (axis, system) && is_on(point);
            let points = self.points.iter().filter(is_of);
            let points: Vec<_> = points.map(|point| (point.at as f64, reading(&point.figures))).collect();
            let name = system.short_name().to_owned();
            let line = lines::Line { name, tint: Tint::of(system), is_dashed: false, is_marked: true, points };
            (!line.points.is_empty()).then_some(line)
        });
        let lines: Vec<lines::Line> = lines.collect();
        lines::Panel {
            title,
            horizontal: axis.words(),
            is_log: (!matches!(axis, Axis::Members | Axis::Sync), true),
            // Those that were measured: another would stand at the edge.
            ticks: lines::ticks(&lines),
            lines,
        }
    }
}

/// What a table has to be read with.
fn remark(axis: Axis) -> &'static str {
    match axis {
        Axis::Sync => {
            "Each node sleeps so long after each sync of a file or its directory, by the server's hidden flag \
             `--sync-delay-ms`. etcd has nothing like it, and is not here.\n\n"
        }
        _ => "",
    }
}
