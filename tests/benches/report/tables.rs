//! The tables for people, in Markdown.

use super::{Figures, MemoryRow, Place, Ratios, Report, Row, Setting};
use crate::machine::Machine;
use std::fmt::Write as _;

/// Writing to a string cannot fail.
pub(super) const WRITES: &str = "writing to a string cannot fail";

impl Report {
    /// Everything, as tables.
    pub(crate) fn markdown(&self) -> String {
        let mut text = self.setting.markdown();
        let goals = self.goals();
        if !goals.is_empty() {
            text += "\n## Goals\n\n";
            text += &goals;
        }
        let (closed, open): (Vec<&Row>, Vec<&Row>) = self.medians.iter().partition(|row| row.place.in_flight.is_some());
        text += "\n## Throughput: so many requests in flight\n\n";
        text += &closed_loops(&closed);
        if !open.is_empty() {
            text += "\n## Latency at a fixed rate, counted from when each request was due\n\n";
            text += &open_loops(&open);
        }
        if !self.memory_medians.is_empty() {
            writeln!(text, "\n## Memory after the same {} puts\n", self.setting.keys).expect(WRITES);
            text += &memory(&self.memory_medians);
        }
        text
    }
}

impl Setting {
    fn markdown(&self) -> String {
        let Setting { machine, seconds, rounds, connections, keys, sync_ms, foreign_load_percent_max, etcd, .. } = self;
        let Setting { key_bytes, value_bytes, fresh_memory_seconds_per_gib: memory, .. } = self;
        let Machine { processor, cores, kernel, commit, .. } = machine;
        let etcd = etcd.as_ref().map_or_else(String::new, |version| format!(", etcd {version}"));
        format!(
            "Medians of {rounds} rounds of {seconds} s, {connections} connections to the leader of three nodes, \
             {key_bytes}-byte keys, {value_bytes}-byte values, {keys} keys to begin with; {processor} with {cores} \
             cores, Linux {kernel}, commit {commit}{etcd}. Systems and generator share the machine. One fdatasync of \
             4 KiB, one at a time, took {sync_ms:.3} ms, a GiB of fresh memory {memory:.2} s; other processes used \
             {foreign_load_percent_max:.0} % of the machine at most. Ratios are medians of each round's.\n\n\
             put: a new key; Quorate's creates only, etcd's is a plain put. create: etcd's transaction that creates \
             only. to echo: by the bare echo on the same road, unary or stream. Device: what was written to the data's \
             device and flushed there meanwhile. Syncs: calls of fdatasync and fsync by all nodes, counted beside \
             the measurement.\n"
        )
    }
}

fn ratio(ratios: Option<&Ratios>, figure: fn(&Ratios) -> f64) -> String {
    ratios.map_or_else(String::new, |ratios| format!("{:.2}", figure(ratios)))
}

fn closed_loops(rows: &[&Row]) -> String {
    let mut text =
        "| system | operation | in flight | operations/s | to etcd | to echo | p50 ms | p99 ms | p99.9 ms | \
                    CPU µs/op, servers | to etcd | CPU µs/op, generator | device B/op | device flushes/op | syncs/op | \
                    errors |\n\
                    |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
    for Row { place, figures, to_etcd, to_echo } in rows {
        let Place { system, workload, in_flight, .. } = place;
        let Figures { operations_per_second, p50_ms, p99_ms, p999_ms, .. } = figures;
        let Figures { system_cpu_us_per_operation, generator_cpu_us_per_operation, errors, .. } = figures;
        let Figures { written_bytes_per_operation, device_flushes_per_operation, syncs_per_operation, .. } = figures;
        writeln!(
            text,
            "| {} | {workload} | {} | {operations_per_second:.0} | {} | {} | {p50_ms:.3} | {p99_ms:.3} | \
             {p999_ms:.3} | {system_cpu_us_per_operation:.1} | {} | {generator_cpu_us_per_operation:.1} | \
             {written_bytes_per_operation:.0} | {device_flushes_per_operation:.3} | {} | {errors} |",
            system.name(),
            in_flight.unwrap_or_default(),
            ratio(to_etcd.as_ref(), |ratios| ratios.operations_per_second),
            ratio(to_echo.as_ref(), |ratios| ratios.operations_per_second),
            ratio(to_etcd.as_ref(), |ratios| ratios.system_cpu),
            syncs_per_operation.map_or_else(String::new, |syncs| format!("{syncs:.3}")),
        )
        .expect(WRITES);
    }
    text
}

fn open_loops(rows: &[&Row]) -> String {
    let mut text = "| system | operation | offered/s | answered/s | p50 ms | to etcd | p99 ms | to etcd | p99.9 ms | \
                    CPU µs/op, servers | to etcd | errors |\n\
                    |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for Row { place, figures, to_etcd, .. } in rows {
        let Place { system, workload, offered_per_second, .. } = place;
        let Figures { operations_per_second, p50_ms, p99_ms, p999_ms, system_cpu_us_per_operation, .. } = figures;
        writeln!(
            text,
            "| {} | {workload} | {:.0} | {operations_per_second:.0} | {p50_ms:.3} | {} | {p99_ms:.3} | {} | \
             {p999_ms:.3} | {system_cpu_us_per_operation:.1} | {} | {} |",
            system.name(),
            offered_per_second.unwrap_or_default(),
            ratio(to_etcd.as_ref(), |ratios| ratios.p50),
            ratio(to_etcd.as_ref(), |ratios| ratios.p99),
            ratio(to_etcd.as_ref(), |ratios| ratios.system_cpu),
            figures.errors,
        )
        .expect(WRITES);
    }
    text
}

fn memory(rows: &[MemoryRow]) -> String {
    let mut text = "| system | MiB, largest node | to etcd | MiB, all nodes | MiB, largest node's peak |\n\
                    |---|--:|--:|--:|--:|\n"
        .to_owned();
    for MemoryRow { system, resident_mib_max, resident_mib_sum, peak_mib_max, to_etcd } in rows {
        let to_etcd = to_etcd.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let name = system.name();
        writeln!(text, "| {name} | {resident_mib_max:.0} | {to_etcd} | {resident_mib_sum:.0} | {peak_mib_max:.0} |")
            .expect(WRITES);
    }
    text
}
