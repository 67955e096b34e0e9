//! Medians over the rounds and ratios to the first system, as a table for people and as JSON for programs.

use crate::{Options, generator::Measured, machine::Machine};
use anyhow::Context as _;
use serde::Serialize;
use std::{fmt::Write as _, fs, path::Path};

/// Names of the files that are written.
const JSON_FILE: &str = "unary.json";
const MARKDOWN_FILE: &str = "unary.md";

/// Which measurement a sample is.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Place {
    /// The round, counted from 1.
    pub(crate) round: usize,
    /// The system's name.
    pub(crate) system: &'static str,
    /// The workload's name.
    pub(crate) workload: &'static str,
    /// Calls at a time.
    pub(crate) in_flight: usize,
}

impl Place {
    /// Whether it is the same measurement in another round.
    fn repeats(&self, other: &Place) -> bool {
        (self.system, self.workload, self.in_flight) == (other.system, other.workload, other.in_flight)
    }
}

/// The figures of one measurement.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Sample {
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    figures: Figures,
}

/// All figures are averages over a measurement, and are compared as such.
#[derive(Clone, Copy, Serialize)]
struct Figures {
    operations_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    system_cpu_us_per_operation: f64,
    generator_cpu_us_per_operation: f64,
    written_bytes_per_operation: f64,
    resident_mib_max: f64,
    errors: f64,
}

impl Sample {
    /// Computes the figures.
    pub(crate) fn new(place: Place, measured: &Measured) -> Sample {
        // Figures for people: 53 bits are more than enough.
        let count = measured.latencies.len().max(1) as f64;
        let quantile = |quantile| measured.latencies.value_at_quantile(quantile) as f64 / 1e6;
        let figures = Figures {
            operations_per_second: measured.latencies.len() as f64 / measured.elapsed.as_secs_f64(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            system_cpu_us_per_operation: measured.system.cpu.as_secs_f64() * 1e6 / count,
            generator_cpu_us_per_operation: measured.generator.cpu.as_secs_f64() * 1e6 / count,
            written_bytes_per_operation: measured.system.written_bytes as f64 / count,
            resident_mib_max: measured.system.resident_bytes_max as f64 / f64::from(1 << 20),
            errors: measured.errors as f64,
        };
        Sample { place, figures }
    }
}

/// One line about a sample, while the benchmark runs.
pub(crate) fn line(sample: &Sample) -> String {
    let Sample { place: Place { workload, in_flight, .. }, figures } = sample;
    let Figures { operations_per_second, p50_ms, p99_ms, errors, .. } = figures;
    format!(
        "{workload} at {in_flight}: {operations_per_second:.0}/s, p50 {p50_ms:.3} ms, p99 {p99_ms:.3} ms, \
         {errors} errors"
    )
}

/// A run's result.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: Machine,
    seconds: u64,
    rounds: usize,
    connections: usize,
    key_bytes: usize,
    value_bytes: usize,
    medians: Vec<Row>,
    samples: Vec<Sample>,
}

/// The medians over the rounds of one system, workload and number in flight.
#[derive(Serialize)]
struct Row {
    system: &'static str,
    workload: &'static str,
    in_flight: usize,
    #[serde(flatten)]
    figures: Figures,
    /// Operations a second relative to the echo's with as many in flight, the median of each round's ratio: the two
    /// were measured within a minute of each other, while the machine's speed may drift from round to round.
    ratio_to_echo: Option<f64>,
}

impl Row {
    fn new(place: &Place, samples: &[Sample]) -> Row {
        let repeated: Vec<&Sample> = samples.iter().filter(|other| other.place.repeats(place)).collect();
        let ratios = repeated.iter().filter_map(|sample| {
            let echo = samples.iter().find(|other| {
                let Place { round, system: _, workload, in_flight } = other.place;
                workload == "echo" && (round, in_flight) == (sample.place.round, place.in_flight)
            })?;
            Some(sample.figures.operations_per_second / echo.figures.operations_per_second)
        });
        let ratios: Vec<f64> = ratios.collect();
        let &Place { system, workload, in_flight, round: _ } = place;
        let figures = Figures::median(&repeated);
        Row { system, workload, in_flight, figures, ratio_to_echo: (!ratios.is_empty()).then(|| median(ratios)) }
    }
}

impl Report {
    /// Summarises the samples of all rounds.
    pub(crate) fn new(machine: Machine, options: &Options, samples: Vec<Sample>) -> Report {
        let first_round = samples.iter().filter(|sample| sample.place.round == 1);
        let medians = first_round.map(|sample| Row::new(&sample.place, &samples)).collect();
        Report {
            machine,
            seconds: options.seconds,
            rounds: options.rounds,
            connections: options.connections,
            key_bytes: crate::workload::KEY_BYTES,
            value_bytes: crate::workload::VALUE_BYTES,
            medians,
            samples,
        }
    }

    /// The table.
    pub(crate) fn markdown(&self) -> String {
        let Report { machine, seconds, rounds, connections, key_bytes, value_bytes, medians, samples: _ } = self;
        let mut text = format!(
            "Medians of {rounds} rounds of {seconds} s, {connections} connections to the leader, {key_bytes}-byte \
             keys, {value_bytes}-byte values; {} with {} cores, Linux {}, commit {}. Systems and generator share the \
             machine. Device B/op: all that was written to the data's device meanwhile.\n\n\
             | system | operation | in flight | operations/s | to echo | p50 ms | p99 ms | p99.9 ms | \
             CPU µs/op, servers | CPU µs/op, generator | device B/op | memory MiB, largest process | errors |\n\
             |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            machine.processor, machine.cores, machine.kernel, machine.commit,
        );
        for Row { system, workload, in_flight, figures, ratio_to_echo } in medians {
            let ratio = ratio_to_echo.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let Figures { operations_per_second, p50_ms, p99_ms, p999_ms, .. } = figures;
            let Figures { system_cpu_us_per_operation, generator_cpu_us_per_operation, .. } = figures;
            let Figures { written_bytes_per_operation, resident_mib_max, errors, .. } = figures;
            writeln!(
                text,
                "| {system} | {workload} | {in_flight} | {operations_per_second:.0} | {ratio} | {p50_ms:.3} | \
                 {p99_ms:.3} | {p999_ms:.3} | {system_cpu_us_per_operation:.1} | \
                 {generator_cpu_us_per_operation:.1} | {written_bytes_per_operation:.0} | {resident_mib_max:.1} | \
                 {errors} |"
            )
            .expect("writing to a string cannot fail");
        }
        text
    }

    /// Writes both files into a directory, which is made if it is missing.
    ///
    /// # Errors
    /// The directory or a file cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let json = serde_json::to_string_pretty(self).context("encode the report")? + "\n";
        for (name, text) in [(JSON_FILE, json), (MARKDOWN_FILE, self.markdown())] {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

impl Figures {
    /// The median of each figure by itself.
    fn median(samples: &[&Sample]) -> Figures {
        let of = |figure: fn(&Figures) -> f64| median(samples.iter().map(|sample| figure(&sample.figures)).collect());
        Figures {
            operations_per_second: of(|figures| figures.operations_per_second),
            p50_ms: of(|figures| figures.p50_ms),
            p99_ms: of(|figures| figures.p99_ms),
            p999_ms: of(|figures| figures.p999_ms),
            system_cpu_us_per_operation: of(|figures| figures.system_cpu_us_per_operation),
            generator_cpu_us_per_operation: of(|figures| figures.generator_cpu_us_per_operation),
            written_bytes_per_operation: of(|figures| figures.written_bytes_per_operation),
            resident_mib_max: of(|figures| figures.resident_mib_max),
            errors: of(|figures| figures.errors),
        }
    }
}

/// The middle value, or the mean of the two middle ones; there is at least one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}
