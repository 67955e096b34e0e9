//! The times without an acknowledged write as a table, JSON and a plot.

use super::{End, Timeouts};
use crate::{
    machine::Machine,
    plot::{Tint, lines},
    report::write_file,
    system::System,
};
use anyhow::Context as _;
use serde::Serialize;
use std::{fmt::Write as _, path::Path};

/// Names of the files that are written.
const JSON_FILE: &str = "failover.json";
const MARKDOWN_FILE: &str = "failover.md";
const PLOT_FILE: &str = "failover.svg";

/// Writing to a string cannot fail.
const WRITES: &str = "writing to a string cannot fail";

/// Some ends of one system's leaders.
#[derive(Clone, Serialize)]
pub(super) struct Series {
    pub(super) end: End,
    pub(super) timeouts: Timeouts,
    pub(super) system: System,
    /// The shortest election timeout.
    pub(super) election_ms: f64,
    /// From each end until a write was acknowledged.
    pub(super) ms: Vec<f64>,
}

impl Series {
    /// Whether these are the ends of a system with what other timeouts come to.
    pub(super) fn same(&self, end: End, timeouts: Timeouts, system: System) -> bool {
        let election_ms = timeouts.election(system).as_secs_f64() * 1e3;
        // Both are whole milliseconds of the same constants.
        self.end == end && self.system == system && (self.election_ms - election_ms).abs() < 0.5
    }

    /// The system's name; the road to it does not matter here.
    fn name(&self) -> &'static str {
        if self.system == System::Etcd { "etcd" } else { "Quorate" }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The time that so many percent of the ends did not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let sorted = self.sorted();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

/// All of them.
#[derive(Serialize)]
pub(super) struct Report {
    machine: Machine,
    puts_per_second: f64,
    series: Vec<Series>,
}

impl Report {
    pub(super) fn new(machine: Machine, puts_per_second: f64, series: Vec<Series>) -> Report {
        Report { machine, puts_per_second, series }
    }

    /// The table.
    pub(super) fn markdown(&self) -> String {
        let Machine { processor, cores, kernel, commit, .. } = &self.machine;
        let mut text = format!(
            "The leader of three is killed under {} puts a second, which the others forward, or stands still as if \
             its machine were gone; from then until a put is acknowledged that was due after it. {processor} with \
             {cores} cores, Linux {kernel}, commit {commit}. Nodes and generator share the machine. An election \
             begins after once to twice the timeout. Quorate's followers take a refused connection to the leader's \
             address for its end; a leader that stands still refuses nothing.\n\n\
             | leader | timeouts | system | election timeout ms | times | least ms | p50 ms | p90 ms | most ms | \
             p50 to election timeout | p50 to etcd |\n|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            self.puts_per_second
        );
        for (timeouts, series, group) in
            self.groups().iter().flat_map(|(_, timeouts, group)| group.iter().map(move |s| (*timeouts, *s, group)))
        {
            let p50 = series.percentile(50);
            let etcd = group.iter().find(|other| other.system == System::Etcd);
            let to_etcd = etcd.map_or_else(String::new, |etcd| format!("{:.2}", p50 / etcd.percentile(50)));
            writeln!(
                text,
                "| {} | {} | {} | {:.0} | {} | {:.0} | {p50:.0} | {:.0} | {:.0} | {:.2} | {to_etcd} |",
                series.end.words(),
                timeouts.words(),
                series.name(),
                series.election_ms,
                series.ms.len(),
                series.percentile(0),
                series.percentile(90),
                series.percentile(100),
                p50 / series.election_ms,
            )
            .expect(WRITES);
        }
        text
    }

    /// Writes all files into a directory, which is made if it is missing.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self).context("encode the report")? + "\n";
        write_file(directory, JSON_FILE, &json)?;
        write_file(directory, MARKDOWN_FILE, &self.markdown())?;
        write_file(directory, PLOT_FILE, &self.plot())
    }

    fn plot(&self) -> String {
        let panels = self.groups().into_iter().map(|(end, timeouts, group)| lines::Panel {
            title: format!("{}, {}: %", end.words(), timeouts.words()),
            horizontal: "ms until a put is acknowledged",
            is_log: (false, false),
            ticks: Vec::new(),
            lines: group.into_iter().map(distribution).collect(),
        });
        let panels: Vec<lines::Panel> = panels.collect();
        lines::draw("Leader killed, or standing still, under load: how soon writes go on", &panels)
    }

    /// What was measured in the same way with the same timeouts.
    fn groups(&self) -> Vec<(End, Timeouts, Vec<&Series>)> {
        let mut groups: Vec<(End, Timeouts, Vec<&Series>)> = Vec::new();
        for Series { end, timeouts, .. } in &self.series {
            if !groups.iter().any(|(other_end, other, _)| (other_end, other) == (end, timeouts)) {
                groups.push((*end, *timeouts, self.group(*end, *timeouts)));
            }
        }
        groups
    }

    /// The ends of this kind with these timeouts; a system whose defaults they are was measured with those.
    fn group(&self, end: End, timeouts: Timeouts) -> Vec<&Series> {
        let mut group: Vec<&Series> = Vec::new();
        let own = self.series.iter().filter(|series| (series.end, series.timeouts) == (end, timeouts));
        let others = self.series.iter().filter(|series| {
            timeouts != Timeouts::Default
                && series.timeouts == Timeouts::Default
                && series.same(end, timeouts, series.system)
        });
        group.extend(own.chain(others));
        group.sort_by_key(|series| System::ALL.iter().position(|&system| system == series.system));
        group
    }
}

/// Which part of the kills was over by when.
fn distribution(series: &Series) -> lines::Line {
    let sorted = series.sorted();
    let count = sorted.len() as f64;
    let mut points = Vec::new();
    for (number, &ms) in sorted.iter().enumerate() {
        // A step: nothing is over between two kills' times.
        points.push((ms, 100.0 * number as f64 / count));
        points.push((ms, 100.0 * (number + 1) as f64 / count));
    }
    lines::Line {
        name: series.name().to_owned(),
        tint: Tint::of(series.system),
        is_dashed: false,
        is_marked: false,
        points,
    }
}
