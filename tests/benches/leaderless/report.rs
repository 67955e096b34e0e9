//! The latencies of gets through the loss of a leader, and their rates, as tables, JSON and a plot.

use super::{Asked, End, Level};
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
const JSON_FILE: &str = "leaderless.json";
const MARKDOWN_FILE: &str = "leaderless.md";
const PLOT_FILE: &str = "leaderless.svg";

/// Writing to a string cannot fail.
const WRITES: &str = "writing to a string cannot fail";

/// A point of a line in the plot stands for so long: the slowest get that was due in it.
const POINT_MS: f64 = 25.0;

/// One get.
#[derive(Clone, Serialize)]
pub(super) struct Seen {
    pub(super) level: Level,
    /// When it was due, from the beginning of the load.
    pub(super) due_ms: f64,
    /// From then until its answer.
    pub(super) took_ms: f64,
    pub(super) is_answered: bool,
}

/// The gets through the end of one leader.
#[derive(Serialize)]
pub(super) struct Through {
    pub(super) end: End,
    /// When it ended, from the beginning of the load.
    pub(super) ended_ms: f64,
    pub(super) seen: Vec<Seen>,
}

impl Through {
    fn words(&self) -> &'static str {
        match self.end {
            End::Killed => "killed",
            End::Silent => "stands still",
        }
    }

    /// How long the gets of a level took that were due before or after the end, shortest first; and how many failed.
    fn took_ms(&self, level: Level, is_after: bool) -> (Vec<f64>, usize) {
        let of_it = |seen: &&Seen| seen.level == level && (seen.due_ms >= self.ended_ms) == is_after;
        let mut took: Vec<f64> = self.seen.iter().filter(of_it).map(|seen| seen.took_ms).collect();
        took.sort_by(f64::total_cmp);
        let failed = self.seen.iter().filter(of_it).filter(|seen| !seen.is_answered).count();
        (took, failed)
    }
}

/// A closed loop.
#[derive(Serialize)]
pub(super) struct Rate {
    pub(super) asked: Asked,
    pub(super) level: Level,
    pub(super) in_flight: usize,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Of all members' processors, for each get.
    pub(super) cpu_us: f64,
    pub(super) errors: u64,
}

/// All of it.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    /// Gets a second of each level while a leader is lost.
    pub(super) per_second: f64,
    pub(super) through: Vec<Through>,
    pub(super) rates: Vec<Rate>,
}

/// The value that so many percent of the sorted ones do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

impl Report {
    /// The tables.
    pub(super) fn markdown(&self) -> String {
        let Machine { processor, cores, kernel, commit, .. } = &self.machine;
        let mut text = format!(
            "Gets of both consistency levels at the two members that stay up, {} a second of each, while the leader \
             is lost; no key is being written. {processor} with {cores} cores, Linux {kernel}, commit {commit}. Nodes \
             and generator share the machine; default timeouts. From when a get was due until its answer, in \
             milliseconds.\n\n\
             | leader | level | before: p50 | p99 | most | after: p50 | p99 | most | failed |\n\
             |---|---|--:|--:|--:|--:|--:|--:|--:|\n",
            self.per_second
        );
        for (through, level) in self.through.iter().flat_map(|through| Level::ALL.map(|level| (through, level))) {
            let ((before, failed_before), (after, failed_after)) =
                (through.took_ms(level, false), through.took_ms(level, true));
            let three = |took: &[f64]| [50, 99, 100].map(|percent| format!("{:.1}", percentile(took, percent)));
            let (before, after) = (three(&before).join(" | "), three(&after).join(" | "));
            let (leader, level, failed) = (through.words(), level.name(), failed_before + failed_after);
            writeln!(text, "| {leader} | {level} | {before} | {after} | {failed} |").expect(WRITES);
        }
        text += "\nHow many there are, with all members up, by unary calls at one member or two.\n\n\
                 | asked | level | in flight | gets/s | p50 ms | p99 ms | us of CPU a get | errors |\n\
                 |---|---|--:|--:|--:|--:|--:|--:|\n";
        for Rate { asked, level, in_flight, per_second, p50_ms, p99_ms, cpu_us, errors } in &self.rates {
            let asked = match asked {
                Asked::Leader => "the leader",
                Asked::Followers => "the others",
                Asked::LeaderWithLease => "the leader, with a lease",
            };
            let level = level.name();
            writeln!(
                text,
                "| {asked} | {level} | {in_flight} | {per_second:.0} | {p50_ms:.2} | {p99_ms:.2} | {cpu_us:.0} | {errors} |"
            )
            .expect(WRITES);
        }
        text
    }

    /// Writes all files into a directory, which is made if it is missing.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string(self).context("encode the report")? + "\n";
        write_file(directory, JSON_FILE, &json)?;
        write_file(directory, MARKDOWN_FILE, &self.markdown())?;
        write_file(directory, PLOT_FILE, &self.plot())
    }

    fn plot(&self) -> String {
        let panels = self.through.iter().map(|through| lines::Panel {
            title: format!("Leader {} at {:.1} s: ms of a get", through.words(), through.ended_ms / 1e3),
            horizontal: "seconds: when the get was due",
            is_log: (false, true),
            ticks: Vec::new(),
            lines: Level::ALL.map(|level| line(through, level)).into(),
        });
        lines::draw("Gets while the leader is lost", &panels.collect::<Vec<_>>())
    }
}

/// The slowest get of each moment.
fn line(through: &Through, level: Level) -> lines::Line {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for seen in through.seen.iter().filter(|seen| seen.level == level) {
        let at = (seen.due_ms / POINT_MS).floor() * POINT_MS / 1e3;
        match points.last_mut() {
            Some(last) if (last.0 - at).abs() < f64::EPSILON => last.1 = last.1.max(seen.took_ms),
            _ => points.push((at, seen.took_ms)),
        }
    }
    let tint = Tint::of(if level == Level::Quorum { System::Pipeline } else { System::Quorate });
    lines::Line { name: level.name().to_owned(), tint, is_dashed: false, is_marked: false, points }
}
