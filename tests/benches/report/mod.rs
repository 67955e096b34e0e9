//! What was measured, round by round, and what follows from it: medians over the rounds, and ratios.
//!
//! A ratio is the median of each round's ratio: two systems of one round were measured within minutes of each other,
//! while the machine's speed may drift from round to round.

mod goals;
mod plots;
mod tables;

use crate::{
    generator::{Measured, Mode},
    machine::Machine,
    system::System,
    workload::{KEY_BYTES, VALUE_BYTES, Workload},
};
use anyhow::Context as _;
use serde::Serialize;
use std::{fs, path::Path};

/// Names of the files that are written.
const JSON_FILE: &str = "peers.json";
const MARKDOWN_FILE: &str = "peers.md";

/// Which measurement a sample is.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Place {
    /// The system.
    pub(crate) system: System,
    /// The load's name.
    pub(crate) workload: &'static str,
    /// Requests at a time, in a closed loop.
    pub(crate) in_flight: Option<usize>,
    /// Requests a second, in an open loop.
    pub(crate) offered_per_second: Option<f64>,
}

impl Place {
    /// The measurement of a system under a load.
    pub(crate) fn new(system: System, workload: Workload, mode: Mode) -> Place {
        let (in_flight, offered_per_second) = match mode {
            Mode::Closed { in_flight } => (Some(in_flight), None),
            Mode::Open { per_second } => (None, Some(per_second)),
        };
        Place { system, workload: workload.name(), in_flight, offered_per_second }
    }
}

/// The figures of one measurement.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// The round, counted from 1.
    pub(crate) round: usize,
    #[serde(flatten)]
    pub(crate) place: Place,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// All figures are averages over a measurement, and are compared as such.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Figures {
    pub(crate) operations_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) system_cpu_us_per_operation: f64,
    pub(crate) generator_cpu_us_per_operation: f64,
    pub(crate) written_bytes_per_operation: f64,
    pub(crate) device_flushes_per_operation: f64,
    /// Calls of `fdatasync` and `fsync` by all processes; `None` where they cannot be counted.
    pub(crate) syncs_per_operation: Option<f64>,
    pub(crate) resident_mib_max: f64,
    pub(crate) errors: f64,
}

impl Figures {
    /// Computes the figures.
    pub(crate) fn new(measured: &Measured, syncs_per_operation: Option<f64>) -> Figures {
        // Figures for people: 53 bits are more than enough.
        let count = measured.latencies.len().max(1) as f64;
        let quantile = |quantile| measured.latencies.value_at_quantile(quantile) as f64 / 1e6;
        Figures {
            operations_per_second: measured.per_second(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            p999_ms: quantile(0.999),
            system_cpu_us_per_operation: measured.system.cpu.as_secs_f64() * 1e6 / count,
            generator_cpu_us_per_operation: measured.generator.cpu.as_secs_f64() * 1e6 / count,
            written_bytes_per_operation: measured.system.written_bytes as f64 / count,
            device_flushes_per_operation: measured.system.flushes as f64 / count,
            syncs_per_operation,
            resident_mib_max: mebibytes(measured.system.resident_bytes_max),
            errors: measured.errors as f64,
        }
    }

    /// The median of each figure by itself.
    pub(crate) fn median(samples: &[Figures]) -> Figures {
        let of = |figure: fn(&Figures) -> f64| median(samples.iter().map(figure).collect()).unwrap_or(f64::NAN);
        Figures {
            operations_per_second: of(|figures| figures.operations_per_second),
            p50_ms: of(|figures| figures.p50_ms),
            p99_ms: of(|figures| figures.p99_ms),
            p999_ms: of(|figures| figures.p999_ms),
            system_cpu_us_per_operation: of(|figures| figures.system_cpu_us_per_operation),
            generator_cpu_us_per_operation: of(|figures| figures.generator_cpu_us_per_operation),
            written_bytes_per_operation: of(|figures| figures.written_bytes_per_operation),
            device_flushes_per_operation: of(|figures| figures.device_flushes_per_operation),
            syncs_per_operation: median(samples.iter().filter_map(|figures| figures.syncs_per_operation).collect()),
            resident_mib_max: of(|figures| figures.resident_mib_max),
            errors: of(|figures| figures.errors),
        }
    }
}

/// The memory of a system's processes after the same puts of new keys.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Memory {
    /// The round, counted from 1.
    pub(crate) round: usize,
    /// The system.
    pub(crate) system: System,
    /// The largest process.
    pub(crate) resident_mib_max: f64,
    /// All processes.
    pub(crate) resident_mib_sum: f64,
    /// The most that one process has had so far.
    pub(crate) peak_mib_max: f64,
}

/// How a run was made.
#[derive(Clone, Serialize)]
pub(crate) struct Setting {
    pub(crate) machine: Machine,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) connections: usize,
    /// Keys that were put before anything was measured.
    pub(crate) keys: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    /// Median time of one `fdatasync` of 4 KiB, one at a time, before the first round.
    pub(crate) sync_ms: f64,
    /// Seconds for each GiB of memory that nobody used lately, before the first round.
    pub(crate) fresh_memory_seconds_per_gib: f64,
    /// The most that other processes used of the machine before a system was started.
    pub(crate) foreign_load_percent_max: f64,
    /// The version of etcd, if it was measured.
    pub(crate) etcd: Option<String>,
}

impl Setting {
    /// The sizes of all keys and values.
    pub(crate) const BYTES: (usize, usize) = (KEY_BYTES, VALUE_BYTES);
}

/// A run's result.
#[derive(Serialize)]
pub(crate) struct Report {
    setting: Setting,
    medians: Vec<Row>,
    memory_medians: Vec<MemoryRow>,
    samples: Vec<Sample>,
    memory: Vec<Memory>,
}

/// The medians over the rounds of one measurement.
#[derive(Clone, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) place: Place,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// By etcd's figures under the same load.
    pub(crate) to_etcd: Option<Ratios>,
    /// By the figures of the bare echo on the same road with as many in flight.
    pub(crate) to_echo: Option<Ratios>,
}

/// Figures relative to those of another system.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Ratios {
    pub(crate) operations_per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) system_cpu: f64,
}

/// The medians over the rounds of a system's memory.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct MemoryRow {
    pub(crate) system: System,
    pub(crate) resident_mib_max: f64,
    pub(crate) resident_mib_sum: f64,
    pub(crate) peak_mib_max: f64,
    /// The largest process by etcd's.
    pub(crate) to_etcd: Option<f64>,
}

impl Report {
    /// Summarises the samples of all rounds.
    pub(crate) fn new(setting: Setting, samples: Vec<Sample>, memory: Vec<Memory>) -> Report {
        let mut places: Vec<Place> = Vec::new();
        for sample in &samples {
            if !places.contains(&sample.place) {
                places.push(sample.place);
            }
        }
        places.sort_by_key(|place| System::ALL.iter().position(|&system| system == place.system));
        let medians = places.iter().map(|place| row(place, &samples)).collect();
        let memory_medians = System::ALL.iter().filter_map(|&system| memory_row(system, &memory)).collect();
        Report { setting, medians, memory_medians, samples, memory }
    }

    /// Writes all files into a directory, which is made if it is missing.
    ///
    /// # Errors
    /// The directory or a file cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self).context("encode the report")? + "\n";
        write_file(directory, JSON_FILE, &json)?;
        write_file(directory, MARKDOWN_FILE, &self.markdown())?;
        self.plots().into_iter().try_for_each(|(name, plot)| write_file(directory, name, &plot))
    }
}

/// Writes a file into a directory, which is made if it is missing.
pub(crate) fn write_file(directory: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

fn row(place: &Place, samples: &[Sample]) -> Row {
    let of_place = |place: &Place| samples.iter().filter(move |sample| sample.place == *place).collect::<Vec<_>>();
    let repeated = of_place(place);
    let ratios = |other: &Place| {
        let others = of_place(other);
        let in_round = |round| others.iter().find(|sample| sample.round == round).map(|sample| sample.figures);
        let pairs: Vec<(Figures, Figures)> =
            repeated.iter().filter_map(|sample| Some((sample.figures, in_round(sample.round)?))).collect();
        let of = |figure: fn(&Figures) -> f64| {
            // A system that answered nothing has no figure to be compared with.
            let ratios = pairs.iter().map(|(own, other)| figure(own) / figure(other));
            median(ratios.filter(|ratio| ratio.is_finite()).collect())
        };
        Some(Ratios {
            operations_per_second: of(|figures| figures.operations_per_second)?,
            p50: of(|figures| figures.p50_ms)?,
            p99: of(|figures| figures.p99_ms)?,
            system_cpu: of(|figures| figures.system_cpu_us_per_operation)?,
        })
    };
    // What is compared with etcd's create is compared with its put too, which is harder.
    let peer = if place.workload == Workload::Create.name() { Workload::Put.name() } else { place.workload };
    let echo = Place { system: place.system.echo(), workload: Workload::Echo.name(), ..*place };
    let figures: Vec<Figures> = repeated.iter().map(|sample| sample.figures).collect();
    Row {
        place: *place,
        figures: Figures::median(&figures),
        to_etcd: ratios(&Place { system: System::Etcd, workload: peer, ..*place }),
        to_echo: ratios(&echo),
    }
}

fn memory_row(system: System, memory: &[Memory]) -> Option<MemoryRow> {
    let of = |system| memory.iter().filter(move |memory| memory.system == system);
    let ratios = of(system).filter_map(|own| {
        let etcd = of(System::Etcd).find(|etcd| etcd.round == own.round)?;
        Some(own.resident_mib_max / etcd.resident_mib_max)
    });
    Some(MemoryRow {
        system,
        resident_mib_max: median(of(system).map(|memory| memory.resident_mib_max).collect())?,
        resident_mib_sum: median(of(system).map(|memory| memory.resident_mib_sum).collect())?,
        peak_mib_max: median(of(system).map(|memory| memory.peak_mib_max).collect())?,
        to_etcd: median(ratios.collect()),
    })
}

/// One line about a sample, while the benchmark runs.
pub(crate) fn line(sample: &Sample) -> String {
    let Sample { place, figures, .. } = sample;
    let Figures { operations_per_second, p50_ms, p99_ms, system_cpu_us_per_operation, errors, .. } = figures;
    format!(
        "{} {}: {operations_per_second:.0}/s, p50 {p50_ms:.3} ms, p99 {p99_ms:.3} ms, \
         {system_cpu_us_per_operation:.1} us, {errors} errors",
        place.workload,
        mode(place)
    )
}

/// How requests followed each other, in words.
fn mode(place: &Place) -> String {
    match (place.in_flight, place.offered_per_second) {
        (Some(in_flight), _) => format!("{in_flight} in flight"),
        (None, Some(per_second)) => format!("{per_second:.0}/s"),
        (None, None) => String::new(),
    }
}

/// Bytes as mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The middle value, or the mean of the two middle ones; `None` of none.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}
