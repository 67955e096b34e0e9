//! What a load came to, in each format.

use super::{
    super::{
        args::Format,
        output::{json, line, printable, tabs},
        report::quoted,
        style::{Colours, Meaning},
    },
    Plan,
    load::{Measured, Removed},
    tally::{Latencies, Tally},
};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// The longest bar of the histogram in columns.
const BAR_COLUMNS: u64 = 48;

/// A load and what it came to.
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    /// None if there was nothing to do but to remove keys.
    pub(super) measured: Option<&'a Measured>,
    pub(super) removed: Option<&'a Removed>,
}

#[derive(Serialize)]
struct Json<'a> {
    operation: &'static str,
    concurrency: u64,
    rate: Option<u64>,
    value_bytes: usize,
    key_prefix: &'a str,
    keys: u64,
    elapsed_s: f64,
    interrupted: bool,
    road: &'static str,
    succeeded: u64,
    per_second: u64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    behind: u64,
    latency_us: Option<JsonLatencies>,
    histogram: Vec<JsonBucket>,
    removed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleanup_error: Option<String>,
}

#[derive(Serialize)]
struct JsonLatencies {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// How many succeeded within a bound and beyond the one before it.
#[derive(Serialize)]
struct JsonBucket {
    up_to_us: u64,
    count: u64,
}

impl Report<'_> {
    pub(super) fn show(&self, format: Format, colours: Colours, prefix: &str) -> Vec<u8> {
        match format {
            Format::Table => line(colours.message(&self.text(colours, prefix))),
            Format::Json => json(&self.json()),
            Format::Raw => tabs([self.row()]),
        }
    }

    fn text(&self, colours: Colours, prefix: &str) -> String {
        let mut lines = Vec::new();
        if let Some(measured) = self.measured {
            lines.extend(self.summary(measured, colours));
            lines.push(String::new());
            lines.extend(histogram(&measured.tally.buckets()));
        }
        match (self.removed, self.measured) {
            (Some(removed), _) => {
                lines.push(format!("removed    {}", counted(removed.keys, "key")));
                if let Some(error) = &removed.error {
                    lines.push(format!("error: not all keys could be removed: {}", printable(&error.to_string())));
                    lines.push(format!("next: {prefix} {}    removes the rest", self.cleanup()));
                }
            }
            (None, Some(Measured { keys_written: written @ 1.., .. })) => {
                let (first, last) = (self.plan.key(0), self.plan.key(written - 1));
                lines.push(format!("keys       {} to {}", printable(&first), printable(&last)));
                lines.push(format!("next: {prefix} {}    removes them", self.cleanup()));
            }
            (None, _) => {}
        }
        lines.join("\n")
    }

    fn summary(&self, measured: &Measured, colours: Colours) -> Vec<String> {
        let Plan { operation, concurrency, rate, value_bytes, .. } = self.plan;
        let rate = rate.map_or_else(String::new, |rate| format!(" at {} a second", grouped(rate)));
        let early = if measured.interrupted { ", interrupted" } else { "" };
        let (tally, elapsed) = (&measured.tally, measured.elapsed);
        let done = format!(
            "{}, that is {} a second",
            grouped(tally.succeeded()),
            grouped(per_second(tally.succeeded(), elapsed))
        );
        let failed = match tally.failure_count() {
            0 => "none".to_owned(),
            count => colours.paint(Meaning::Bad, &format!("{}: {}", grouped(count), reasons(tally.failures()))),
        };
        let latency = tally.latencies().map_or_else(
            || "unknown".to_owned(),
            |Latencies { p50, p90, p99, p999, max }| {
                let shown = [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)];
                shown.map(|(name, latency_us)| format!("{name} {} ms", milliseconds(latency_us))).join(", ")
            },
        );
        let heading = format!(
            "{}{rate} for {:.1} s{early}, {concurrency} at once by {}, {value_bytes}-byte values",
            operation.name(),
            elapsed.as_secs_f64(),
            road(Some(measured))
        );
        let behind = (measured.behind > 0).then(|| {
            let text = format!("{} more were due by then", grouped(measured.behind));
            format!("behind     {}", colours.paint(Meaning::Doubtful, &text))
        });
        let lines =
            [colours.paint(Meaning::Strong, &heading), format!("done       {done}"), format!("failed     {failed}")];
        lines.into_iter().chain(behind).chain([format!("latency    {latency}")]).collect()
    }

    /// The command that removes the keys later.
    fn cleanup(&self) -> String {
        let Plan { key_prefix, key_count, .. } = self.plan;
        // Joined by an equals sign, a prefix that begins with a hyphen is no option.
        format!("bench --cleanup --count 0 --keys {key_count} --key-prefix={}", quoted(key_prefix))
    }

    fn json(&self) -> Json<'_> {
        let Plan { operation, concurrency, rate, value_bytes, key_prefix, key_count, .. } = self.plan;
        let tally = self.measured.map(|measured| &measured.tally);
        let elapsed = self.measured.map_or(Duration::ZERO, |measured| measured.elapsed);
        let succeeded = tally.map_or(0, Tally::succeeded);
        let buckets = tally.map(Tally::buckets).unwrap_or_default();
        Json {
            operation: operation.name(),
            concurrency: *concurrency,
            rate: *rate,
            value_bytes: *value_bytes,
            key_prefix,
            keys: self.measured.map_or(*key_count, |measured| measured.keys_written),
            elapsed_s: elapsed.as_secs_f64(),
            interrupted: self.measured.is_some_and(|measured| measured.interrupted),
            road: road(self.measured),
            succeeded,
            per_second: per_second(succeeded, elapsed),
            failed: tally.map_or(0, Tally::failure_count),
            failures: tally.map(|tally| tally.failures().clone()).unwrap_or_default(),
            behind: self.measured.map_or(0, |measured| measured.behind),
            latency_us: tally.and_then(Tally::latencies).map(|Latencies { p50, p90, p99, p999, max }| JsonLatencies {
                p50,
                p90,
                p99,
                p999,
                max,
            }),
            histogram: buckets.into_iter().map(|(up_to_us, count)| JsonBucket { up_to_us, count }).collect(),
            removed: self.removed.map(|removed| removed.keys),
            cleanup_error: self.removed.and_then(|removed| removed.error.as_ref()).map(ToString::to_string),
        }
    }

    /// What the operation was, how many succeeded and failed, how many a second, and p50, p90, p99, p99.9 and the
    /// maximum in microseconds.
    fn row(&self) -> Vec<String> {
        let Json { operation, succeeded, failed, per_second, latency_us, .. } = self.json();
        let latencies = latency_us.map_or([0; 5], |of| [of.p50, of.p90, of.p99, of.p999, of.max]);
        let figures = [succeeded, failed, per_second].into_iter().chain(latencies).map(|figure| figure.to_string());
        std::iter::once(operation.to_owned()).chain(figures).collect()
    }
}

/// How the operations travelled, as the client did it in the end.
fn road(measured: Option<&Measured>) -> &'static str {
    match measured {
        Some(Measured { streams: 1.., .. }) => "stream",
        Some(_) => "call",
        None => "none",
    }
}

fn reasons(failures: &BTreeMap<String, u64>) -> String {
    let shown = failures.iter().map(|(reason, count)| format!("{} {}", grouped(*count), printable(reason)));
    shown.collect::<Vec<_>>().join(", ")
}

/// A bar for each bucket. One that has any is visible.
fn histogram(buckets: &[(u64, u64)]) -> Vec<String> {
    let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let bar = |count: u64| {
        let columns = u128::from(count) * u128::from(BAR_COLUMNS) / u128::from(most.max(1));
        let columns = usize::try_from(columns).unwrap_or(0).max(usize::from(count > 0));
        "#".repeat(columns)
    };
    let rows = buckets.iter().map(|(up_to_us, count)| {
        format!("{:>10}  {:>12}  {}", bound(*up_to_us), grouped(*count), bar(*count)).trim_end().to_owned()
    });
    let head = (!buckets.is_empty()).then(|| format!("{:>10}  {:>12}", "up to ms", "operations"));
    let end = (!buckets.is_empty()).then(String::new);
    head.into_iter().chain(rows).chain(end).collect()
}

/// A bound of a bucket in milliseconds, without digits that say nothing.
fn bound(up_to_us: u64) -> String {
    let (whole, rest) = (grouped(up_to_us / 1000), up_to_us % 1000);
    if rest == 0 { whole } else { format!("{whole}.{rest:03}").trim_end_matches('0').to_owned() }
}

/// Microseconds as milliseconds, with three digits that count.
pub(super) fn milliseconds(latency_us: u64) -> String {
    let latency_ms = Duration::from_micros(latency_us).as_secs_f64() * 1000.0;
    match latency_us {
        0..1_000 => format!("{latency_ms:.3}"),
        1_000..10_000 => format!("{latency_ms:.2}"),
        10_000..100_000 => format!("{latency_ms:.1}"),
        _ => format!("{latency_ms:.0}"),
    }
}

/// How many a second, rounded down.
pub(super) fn per_second(count: u64, elapsed: Duration) -> u64 {
    u64::try_from(u128::from(count) * 1_000_000 / elapsed.as_micros().max(1)).unwrap_or(u64::MAX)
}

/// A number with its thousands told apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
