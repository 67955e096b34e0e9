//! The growth of costs as tables, JSON and plots.

use super::Axis;
use crate::{
    machine::Machine,
    plot::{Tint, lines},
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
                "\n## {}\n\n| system | operation | {} | operations/s | p50 ms | p99 ms | CPU µs/op, servers | \
                 memory MiB, largest node | errors |\n|---|---|--:|--:|--:|--:|--:|--:|--:|",
                axis.words(),
                axis.words()
            )
            .expect(WRITES);
            for Point { at, system, workload, figures, .. } in self.points.iter().filter(|point| point.axis == axis) {
                let Figures { operations_per_second, p50_ms, p99_ms, system_cpu_us_per_operation, .. } = figures;
                let Figures { resident_mib_max, errors, .. } = figures;
                writeln!(
                    text,
                    "| {} | {workload} | {at} | {operations_per_second:.0} | {p50_ms:.3} | {p99_ms:.3} | \
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
        self.axes().into_iter().try_for_each(|axis| {
            let name = format!("growth-{}.svg", axis.words().replace(' ', "-"));
            write_file(directory, &name, &self.plot(axis))
        })
    }

    /// What was measured, in that order.
    fn axes(&self) -> Vec<Axis> {
        let measured = |axis: &Axis| self.points.iter().any(|point| point.axis == *axis);
        Axis::ALL.into_iter().filter(measured).collect()
    }

    fn plot(&self, axis: Axis) -> String {
        let mut panels = Vec::new();
        for workload in [Workload::Put, Workload::Get] {
            for (words, reading) in READINGS {
                let lines = System::ALL.into_iter().filter_map(|system| {
                    let is_on =
                        |point: &&Point| (point.axis, point.system, point.workload) == (axis, system, workload.name());
                    let points = self.points.iter().filter(is_on);
                    let points: Vec<_> = points.map(|point| (point.at as f64, reading(&point.figures))).collect();
                    let name = system.short_name().to_owned();
                    let line = lines::Line { name, tint: Tint::of(system), is_dashed: false, is_marked: true, points };
                    (!line.points.is_empty()).then_some(line)
                });
                panels.push(lines::Panel {
                    title: format!("{}: {words}", workload.name()),
                    horizontal: axis.words(),
                    is_log: (axis != Axis::Members, true),
                    ticks: axis.points().iter().map(|&at| at as f64).collect(),
                    lines: lines.collect(),
                });
            }
        }
        panels.retain(|panel| !panel.lines.is_empty());
        lines::draw(&format!("What an operation costs by {}", axis.words()), &panels)
    }
}
