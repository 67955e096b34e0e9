//! What came of too much, and what idle connections cost, as tables, JSON and plots.

use super::{Overload, idle::Idle};
use crate::{
    generator::flood::Flooded,
    machine::Machine,
    plot::{Tint, bars, lines},
    report::{mebibytes, write_file},
    system::{Ask, System},
};
use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{fmt::Write as _, path::Path};

/// Names of the files that are written.
const JSON_FILE: &str = "overload.json";
const MARKDOWN_FILE: &str = "overload.md";
const LOAD_PLOT_FILE: &str = "overload.svg";
const IDLE_PLOT_FILE: &str = "idle.svg";

/// Writing to a string cannot fail.
const WRITES: &str = "writing to a string cannot fail";

/// What came of asking a cluster for so many times what it can do.
#[derive(Clone, Serialize)]
pub(super) struct Load {
    pub(super) system: System,
    pub(super) times: u16,
    pub(super) ask: Ask,
    pub(super) connections: usize,
    /// Puts a second of the closed loop right before, on the same cluster.
    pub(super) peak_per_second: f64,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// The most memory that one node had until the end of that closed loop.
    pub(super) peak_mib_before: f64,
    /// The same until the end of the load.
    pub(super) peak_mib: f64,
    /// Whether the leader led still at the end. If not, what follows is forwarded to another.
    pub(super) kept_leader: bool,
    /// Puts a second of the closed loop right after.
    pub(super) after_per_second: f64,
}

/// What was seen while too much was asked. What is no figure, as the latency of nothing, is none.
#[derive(Clone, Serialize)]
pub(super) struct Figures {
    pub(super) acknowledged_per_second: f64,
    /// Of all that was asked.
    pub(super) refused_percent: f64,
    pub(super) held_back_percent: f64,
    pub(super) failed: u64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// From when a caller first asked, with the waits that it was told.
    pub(super) with_retries_p99_ms: Option<f64>,
    pub(super) refused_p50_ms: Option<f64>,
    pub(super) refused_p99_ms: Option<f64>,
    /// Processors that all nodes used, and the generator.
    pub(super) system_processors: f64,
    pub(super) generator_processors: f64,
    pub(super) generator_mib: f64,
}

impl Figures {
    pub(super) fn new(flooded: &Flooded) -> Figures {
        let (acknowledged, refused) = (flooded.acknowledged.len(), flooded.refused.len());
        let asked = (acknowledged + refused + flooded.failed + flooded.held_back).max(1);
        let seconds = flooded.elapsed.as_secs_f64();
        // Figures for people: 53 bits are more than enough.
        Figures {
            acknowledged_per_second: acknowledged as f64 / seconds,
            refused_percent: 100.0 * refused as f64 / asked as f64,
            held_back_percent: 100.0 * flooded.held_back as f64 / asked as f64,
            failed: flooded.failed,
            p50_ms: quantile(&flooded.acknowledged, 0.5),
            p99_ms: quantile(&flooded.acknowledged, 0.99),
            with_retries_p99_ms: quantile(&flooded.with_retries, 0.99),
            refused_p50_ms: quantile(&flooded.refused, 0.5),
            refused_p99_ms: quantile(&flooded.refused, 0.99),
            system_processors: flooded.system.cpu.as_secs_f64() / seconds,
            generator_processors: flooded.generator.cpu.as_secs_f64() / seconds,
            generator_mib: mebibytes(flooded.generator.resident_bytes_max),
        }
    }
}

fn quantile(latencies: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!latencies.is_empty()).then(|| latencies.value_at_quantile(quantile) as f64 / 1e6)
}

impl Load {
    /// What was acknowledged, in percent of the peak.
    fn of_peak(&self) -> f64 {
        100.0 * self.figures.acknowledged_per_second / self.peak_per_second
    }

    /// What was asked, in words.
    fn asked(&self) -> String {
        match self.ask {
            Ask::Callers(count) => format!("{count} callers"),
            Ask::PerSecond(per_second) => format!("{per_second:.0}/s"),
        }
    }

    /// One line, while the benchmark runs.
    pub(super) fn line(&self) -> String {
        let Figures { acknowledged_per_second, refused_percent, held_back_percent, .. } = self.figures;
        format!(
            "{}, {} times, {}: peak {:.0}/s, acknowledged {acknowledged_per_second:.0}/s ({:.0} %), refused \
             {refused_percent:.0} %, held back {held_back_percent:.0} %, {:.0} MiB, leader {}, after it {:.0}/s",
            self.system.name(),
            self.times,
            self.asked(),
            self.peak_per_second,
            self.of_peak(),
            self.peak_mib,
            if self.kept_leader { "kept" } else { "lost" },
            self.after_per_second
        )
    }

    fn row(&self) -> String {
        let ms = |figure: Option<f64>| figure.map_or_else(String::new, |ms| format!("{ms:.1}"));
        let figures = &self.figures;
        format!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.0} % | {:.1} % | {:.1} % | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | \
             {:.2} | {:.2} | {} | {:.0} % |",
            self.system.name(),
            self.times,
            self.asked(),
            self.peak_per_second,
            figures.acknowledged_per_second,
            self.of_peak(),
            figures.refused_percent,
            figures.held_back_percent,
            figures.failed,
            ms(figures.p50_ms),
            ms(figures.p99_ms),
            ms(figures.with_retries_p99_ms),
            ms(figures.refused_p50_ms),
            ms(figures.refused_p99_ms),
            self.peak_mib_before,
            self.peak_mib,
            figures.system_processors,
            figures.generator_processors,
            if self.kept_leader { "kept" } else { "lost" },
            100.0 * self.after_per_second / self.peak_per_second
        )
    }
}

/// A run's result.
#[derive(Serialize)]
pub(super) struct Report {
    machine: Machine,
    seconds: f64,
    in_flight: usize,
    connections: usize,
    keys: u64,
    idle_seconds: f64,
    loads: Vec<Load>,
    idle: Option<Idle>,
}

impl Report {
    pub(super) fn new(machine: Machine, options: &Overload, loads: Vec<Load>, idle: Option<Idle>) -> Report {
        let Overload { seconds, in_flight, connections, keys, idle_seconds, .. } = *options;
        Report { machine, seconds, in_flight, connections, keys, idle_seconds, loads, idle }
    }

    /// The tables.
    pub(super) fn markdown(&self) -> String {
        let Machine { processor, cores, kernel, commit, .. } = &self.machine;
        let mut text = format!(
            "{processor} with {cores} cores, Linux {kernel}, commit {commit}. Nodes and generator share the machine. \
             {} s each, 256-byte values, {} keys that puts overwrite; the peak is a closed loop with {} in flight over {} \
             connections to the leader.\n",
            self.seconds, self.keys, self.in_flight, self.connections
        );
        if !self.loads.is_empty() {
            text += "\n## More than the cluster can do\n\n\
                     So many times the clients of the peak: unary callers who come back when they are told to; streams at \
                     the rate that they had at the peak, whether or not they are answered. Refused: answered with \
                     `RESOURCE_EXHAUSTED`. Held back: due, and never sent, because the node did not read the stream. Both \
                     in percent of what was asked. Memory is the most that one node had so far. Leader: \
                     whether it led still at the end; if not, what follows is forwarded. The last column is the closed loop \
                     right after, to the peak.\n\n\
                     | system | times | asked | peak/s | acknowledged/s | of the peak | refused | held back | failed | \
                     p50 ms | p99 ms | p99 ms with retries | refused p50 ms | p99 ms | MiB before | MiB | \
                     processors, nodes | generator | leader | after it |\n\
                     |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|\n";
            for system in System::ALL {
                for load in self.loads.iter().filter(|load| load.system == system) {
                    writeln!(text, "{}", load.row()).expect(WRITES);
                }
            }
        }
        if let Some(idle) = &self.idle {
            text += &self.idle_markdown(idle);
        }
        text
    }

    fn idle_markdown(&self, idle: &Idle) -> String {
        let mut text = format!(
            "\n## Connections that ask for nothing\n\n\
             {} connections over the three nodes, each of which made one get; {} answered once more at the end. Over {} s \
             in which nothing was asked.\n\n\
             | what | without | with them | closed again |\n|---|--:|--:|--:|\n",
            idle.connections, idle.answered_at_the_end, self.idle_seconds
        );
        let ([without, with, after], [cpu_without, cpu_with]) = (idle.mib, idle.cpu_ms_per_second);
        let per_connection = idle.kib_per_connection;
        let mut row = |name: &str, cells: [String; 3]| {
            writeln!(text, "| {name} | {} |", cells.join(" | ")).expect(WRITES);
        };
        row("memory of all nodes, MiB", [without, with, after].map(|mib| format!("{mib:.0}")));
        row("memory a connection, KiB", [String::new(), format!("{per_connection:.1}"), String::new()]);
        row("CPU of all nodes, ms a second", [format!("{cpu_without:.1}"), format!("{cpu_with:.1}"), String::new()]);
        for beside in &idle.beside {
            let name = format!("puts a second, {}", beside.system.name());
            row(&name, beside.per_second.map(|per_second| format!("{per_second:.0}")));
        }
        text
    }

    /// Writes all files into a directory, which is made if it is missing.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self).context("encode the report")? + "\n";
        write_file(directory, JSON_FILE, &json)?;
        write_file(directory, MARKDOWN_FILE, &self.markdown())?;
        if !self.loads.is_empty() {
            write_file(directory, LOAD_PLOT_FILE, &self.load_plot())?;
        }
        if let Some(idle) = &self.idle {
            write_file(directory, IDLE_PLOT_FILE, &idle_plot(idle))?;
        }
        Ok(())
    }

    fn load_plot(&self) -> String {
        let panel = |title: &str, reading: fn(&Load) -> Option<f64>| self.panel(title, reading);
        let panels = [
            panel("acknowledged, % of the peak", |load| Some(load.of_peak())),
            panel("refused, % of what was asked", |load| Some(load.figures.refused_percent)),
            panel("p99 of what was acknowledged, ms", |load| load.figures.p99_ms),
            panel("p99 of a refusal, ms", |load| load.figures.refused_p99_ms),
            panel("memory of the largest node, MiB", |load| Some(load.peak_mib)),
            panel("held back, % of what was asked", |load| Some(load.figures.held_back_percent)),
        ];
        let panels: Vec<lines::Panel> = panels.into_iter().filter(|panel| !panel.lines.is_empty()).collect();
        lines::draw("More than the cluster can do", &panels)
    }

    fn panel(&self, title: &str, reading: fn(&Load) -> Option<f64>) -> lines::Panel {
        let line = |system: System| {
            let loads = self.loads.iter().filter(|load| load.system == system);
            let points: Vec<_> = loads.filter_map(|load| Some((f64::from(load.times), reading(load)?))).collect();
            let name = system.short_name().to_owned();
            let line = lines::Line { name, tint: Tint::of(system), is_dashed: false, is_marked: true, points };
            (!line.points.is_empty()).then_some(line)
        };
        let lines: Vec<lines::Line> = System::ALL.into_iter().filter_map(line).collect();
        lines::Panel {
            title: title.to_owned(),
            horizontal: "times the clients of the peak",
            is_log: (true, false),
            ticks: lines::ticks(&lines),
            lines,
        }
    }
}

fn idle_plot(idle: &Idle) -> String {
    let panels = idle.beside.iter().map(|beside| {
        let names = ["without", "with them", "closed again"];
        let bars = names.into_iter().zip(beside.per_second).map(|(name, value)| bars::Bar {
            name: name.to_owned(),
            tint: Tint::of(beside.system),
            value,
        });
        bars::Panel { title: format!("{}: puts a second", beside.system.name()), rows: bars.collect() }
    });
    let title = format!("Puts beside {} idle connections", idle.connections);
    bars::draw(&title, &panels.collect::<Vec<_>>())
}
