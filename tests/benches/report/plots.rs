//! The plots of a run.

use super::{Figures, Report, Row};
use crate::{
    plot::{Tint, bars, lines, ranges},
    system::{Kind, System},
    workload::Workload,
};

/// Numbers in flight at which costs are compared.
const COST_IN_FLIGHT: [usize; 2] = [64, 1000];

impl Report {
    /// Each plot with the name of its file.
    pub(crate) fn plots(&self) -> Vec<(&'static str, String)> {
        let mut plots = vec![("throughput.svg", self.throughput()), ("cost.svg", self.cost())];
        plots.extend(self.latency().map(|plot| ("latency.svg", plot)));
        plots
    }

    fn throughput(&self) -> String {
        let mixed = [50, 90].map(|gets_percent| Workload::Mixed { gets_percent });
        let workloads = [Workload::Put, Workload::Get, mixed[0], mixed[1]];
        let panels = workloads.map(|workload| {
            let lines = System::ALL.into_iter().filter_map(|system| self.throughput_line(system, workload));
            lines::Panel {
                title: format!("{}: operations a second", workload.name()),
                horizontal: "requests in flight",
                is_log: (true, true),
                ticks: self.in_flight(),
                lines: lines.collect(),
            }
        });
        lines::draw("Throughput over requests in flight, both logarithmic", &panels)
    }

    /// One system's line; the echoes, which know neither puts nor gets, are in every panel.
    fn throughput_line(&self, system: System, workload: Workload) -> Option<lines::Line> {
        let is_echo = system.kind() == Kind::Echo;
        let workload = if is_echo { Workload::Echo } else { workload };
        let rows = self.closed(system, workload);
        let points: Vec<(f64, f64)> =
            rows.map(|(in_flight, figures)| (in_flight as f64, figures.operations_per_second)).collect();
        let name = system.short_name().to_owned();
        let line = lines::Line { name, tint: Tint::of(system), is_dashed: is_echo, is_marked: true, points };
        (!line.points.is_empty()).then_some(line)
    }

    fn cost(&self) -> String {
        let mut panels = Vec::new();
        for workload in [Workload::Put, Workload::Get] {
            for in_flight in COST_IN_FLIGHT {
                let cost = |system: System| {
                    let workload = if system.kind() == Kind::Echo { Workload::Echo } else { workload };
                    let (_, figures) = self.closed(system, workload).find(|(number, _)| *number == in_flight)?;
                    Some(figures.system_cpu_us_per_operation)
                };
                panels.push(bars::Panel {
                    title: format!("CPU of all servers, µs a {}, {in_flight} in flight", workload.name()),
                    rows: System::ALL.into_iter().filter_map(|system| bar(system, cost(system)?)).collect(),
                });
            }
        }
        let memory = self.memory_medians.iter().filter_map(|row| bar(row.system, row.resident_mib_max));
        let title = format!("Memory of the largest node after {} puts, MiB", self.setting.keys);
        panels.push(bars::Panel { title, rows: memory.collect() });
        let largest = self.in_flight().last().copied();
        let written = System::ALL.into_iter().filter_map(|system| {
            let (_, figures) =
                self.closed(system, Workload::Put).find(|(number, _)| Some(*number as f64) == largest)?;
            bar(system, figures.written_bytes_per_operation)
        });
        let title = format!("Bytes to the device a put, {} in flight", largest.unwrap_or_default());
        panels.push(bars::Panel { title, rows: written.collect() });
        panels.retain(|panel| !panel.rows.is_empty());
        bars::draw("What an operation costs", &panels)
    }

    fn latency(&self) -> Option<String> {
        let open: Vec<&Row> = self.medians.iter().filter(|row| row.place.offered_per_second.is_some()).collect();
        let mut loads: Vec<(&str, f64)> = Vec::new();
        for row in &open {
            let load = (row.place.workload, row.place.offered_per_second?);
            if !loads.contains(&load) {
                loads.push(load);
            }
        }
        let panels = loads.into_iter().map(|(workload, per_second)| {
            let is_in =
                |row: &&&Row| (row.place.workload, row.place.offered_per_second) == (workload, Some(per_second));
            let ranges = open.iter().filter(is_in).map(|row| ranges::Range {
                name: row.place.system.short_name().to_owned(),
                tint: Tint::of(row.place.system),
                marks: [row.figures.p50_ms, row.figures.p99_ms, row.figures.p999_ms],
            });
            ranges::Panel { title: format!("{workload}, {per_second:.0} a second: ms"), rows: ranges.collect() }
        });
        let panels: Vec<ranges::Panel> = panels.collect();
        let title = "Latency at a fixed rate, from when each request was due: p50, p99, p99.9";
        (!panels.is_empty()).then(|| ranges::draw(title, &panels))
    }

    /// A system's closed loops, by requests in flight.
    fn closed(&self, system: System, workload: Workload) -> impl Iterator<Item = (usize, Figures)> + '_ {
        let rows =
            self.medians.iter().filter(move |row| row.place.system == system && row.place.workload == workload.name());
        rows.filter_map(|row| Some((row.place.in_flight?, row.figures)))
    }

    /// The numbers in flight that were measured, from small to large.
    fn in_flight(&self) -> Vec<f64> {
        let mut numbers: Vec<f64> =
            self.medians.iter().filter_map(|row| row.place.in_flight).map(|number| number as f64).collect();
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        numbers
    }
}

fn bar(system: System, value: f64) -> Option<bars::Bar> {
    let bar = bars::Bar { name: system.short_name().to_owned(), tint: Tint::of(system), value };
    value.is_finite().then_some(bar)
}
