//! Metrics as OTLP has them, out of OpenMetrics text: there is one registry, and one way to tell what is in it.
//!
//! The two agree on what gauges, counters and histograms are. A family keeps its name, with its unit at the end and a
//! counter's without `_total`, as OpenTelemetry's rules for Prometheus have it; so it has the same name again in a
//! Prometheus that gets it by way of a collector.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
};

/// The label of a histogram's buckets.
const BOUND: &str = "le";

/// When what is told began to be counted, and when it is told, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(in crate::telemetry) struct Times {
    /// When the process started.
    pub start_unix_nano: u64,
    /// Now.
    pub now_unix_nano: u64,
}

type Labels = BTreeMap<String, String>;

/// A family of metrics: its head, and its samples by their suffix, labels and value.
#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    samples: Vec<(&'a str, Labels, f64)>,
}

/// The metrics of a page in OpenMetrics text, but for those of which there is nothing yet.
pub(in crate::telemetry) fn to_otlp(open_metrics: &str, times: Times) -> Vec<Metric> {
    families(open_metrics).into_iter().filter_map(|family| metric(family, times)).collect()
}

fn families(open_metrics: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in open_metrics.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|told| told.split_once(' ')) {
            families.push(Family { name, help, ..Family::default() });
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|told| told.split_once(' ')) {
            if let Some(family) = families.last_mut().filter(|family| family.name == name) {
                family.kind = kind;
            }
        } else if let Some(family) = families.last_mut()
            && let Some((name, labels, value)) = sample(line)
            && let Some(suffix) = name.strip_prefix(family.name)
        {
            family.samples.push((suffix, labels, value));
        }
    }
    families
}

/// A line's name, labels and value; none if it has none.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let (head, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
    let value = value.parse().ok()?;
    match head.split_once('{') {
        Some((name, labels)) => Some((name, parse_labels(labels), value)),
        None => Some((head, Labels::new(), value)),
    }
}

/// The labels in `a="b",c="d"}`. In a value, a backslash stands before a quote, before another one, or before an `n`.
fn parse_labels(text: &str) -> Labels {
    let mut labels = Labels::new();
    let mut rest = text;
    while let Some((name, quoted)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let mut end = quoted.len();
        while let Some((place, character)) = characters.next() {
            match character {
                '"' => {
                    end = place + 1;
                    break;
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| if escaped == 'n' { '\n' } else { escaped })),
                other => value.push(other),
            }
        }
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        rest = &quoted[end..];
    }
    labels
}

fn metric(family: Family<'_>, times: Times) -> Option<Metric> {
    let Family { name, help, kind, samples } = family;
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match kind {
        _ if samples.is_empty() => return None,
        "gauge" => Data::Gauge(Gauge { data_points: numbers(samples, times) }),
        "counter" => Data::Sum(Sum {
            data_points: numbers(samples, times),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        "histogram" => {
            Data::Histogram(Histogram { data_points: histograms(samples, times), aggregation_temporality: cumulative })
        }
        _ => return None,
    };
    let unit = match name.rsplit_once('_') {
        Some((_, "seconds")) => "s",
        Some((_, "bytes")) => "By",
        _ => "",
    };
    let (name, description, unit) = (name.to_owned(), help.to_owned(), unit.to_owned());
    Some(Metric { name, description, unit, data: Some(data), ..Metric::default() })
}

fn numbers(samples: Vec<(&str, Labels, f64)>, times: Times) -> Vec<NumberDataPoint> {
    let point = |(_, labels, value)| NumberDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: times.start_unix_nano,
        time_unix_nano: times.now_unix_nano,
        value: Some(Number::AsDouble(value)),
        ..NumberDataPoint::default()
    };
    samples.into_iter().map(point).collect()
}

fn histograms(samples: Vec<(&str, Labels, f64)>, times: Times) -> Vec<HistogramDataPoint> {
    let mut points: BTreeMap<Labels, HistogramDataPoint> = BTreeMap::new();
    for (suffix, mut labels, value) in samples {
        let bound = labels.remove(BOUND);
        let point = points.entry(labels).or_default();
        match suffix {
            "_sum" => point.sum = Some(value),
            "_count" => point.count = whole(value),
            _ => {
                // Each bucket of the text has those of all before it, each of OTLP's only its own.
                let before: u64 = point.bucket_counts.iter().sum();
                point.bucket_counts.push(whole(value).saturating_sub(before));
                // The last bound is infinite, and not told.
                point
                    .explicit_bounds
                    .extend(bound.and_then(|bound| bound.parse().ok()).filter(|bound: &f64| bound.is_finite()));
            }
        }
    }
    let finish = |(labels, point)| HistogramDataPoint {
        attributes: attributes(labels),
        start_time_unix_nano: times.start_unix_nano,
        time_unix_nano: times.now_unix_nano,
        ..point
    };
    points.into_iter().map(finish).collect()
}

/// A count that was written as a number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count is whole and not negative")]
fn whole(value: f64) -> u64 {
    value as u64
}

fn attributes(labels: Labels) -> Vec<KeyValue> {
    let attribute = |(key, value)| KeyValue {
        key,
        value: Some(AnyValue { value: Some(Value::StringValue(value)) }),
        ..KeyValue::default()
    };
    // An empty label is as good as none.
    labels.into_iter().filter(|(_, value)| !value.is_empty()).map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { start_unix_nano: 5, now_unix_nano: 9 };

    fn labels(attributes: &[KeyValue]) -> Vec<(&str, String)> {
        let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.clone()) {
            Some(Value::StringValue(text)) => text,
            other => panic!("a label is text: {other:?}"),
        };
        attributes.iter().map(|pair| (pair.key.as_str(), text(pair))).collect()
    }

    #[test]
    fn gauges_and_counters_keep_their_names_labels_and_values() {
        let text = "# HELP a_bytes Size, \"so far\".\n# TYPE a_bytes gauge\na_bytes{x=\"1 {,=} \\\"2\\\"\\n\",y=\"\"} 1.5\n\
                    # HELP b Things.\n# TYPE b counter\nb_total 7\nb_total{z=\"\\\\\"} 8\n# EOF\n";
        let metrics = to_otlp(text, TIMES);
        let heads: Vec<_> = metrics.iter().map(|metric| (metric.name.as_str(), metric.unit.as_str())).collect();
        assert_eq!(heads, [("a_bytes", "By"), ("b", "")]);
        assert_eq!(metrics[0].description, "Size, \"so far\".");
        let Some(Data::Gauge(gauge)) = &metrics[0].data else { panic!("a gauge") };
        assert_eq!(labels(&gauge.data_points[0].attributes), [("x", "1 {,=} \"2\"\n".to_owned())]);
        assert_eq!(gauge.data_points[0].value, Some(Number::AsDouble(1.5)));
        let Some(Data::Sum(sum)) = &metrics[1].data else { panic!("a sum") };
        assert!(sum.is_monotonic && sum.aggregation_temporality() == AggregationTemporality::Cumulative);
        let values: Vec<_> = sum.data_points.iter().map(|point| point.value).collect();
        assert_eq!(values, [Some(Number::AsDouble(7.0)), Some(Number::AsDouble(8.0))]);
        assert_eq!(labels(&sum.data_points[1].attributes), [("z", "\\".to_owned())]);
        assert_eq!((sum.data_points[0].start_time_unix_nano, sum.data_points[0].time_unix_nano), (5, 9));
    }

    #[test]
    fn buckets_are_told_each_for_itself_and_without_the_infinite_bound() {
        let text = "# HELP h_seconds Times.\n# TYPE h_seconds histogram\nh_seconds_sum{m=\"a\"} 2.5\n\
                    h_seconds_count{m=\"a\"} 6\nh_seconds_bucket{le=\"0.5\",m=\"a\"} 1\n\
                    h_seconds_bucket{le=\"1.0\",m=\"a\"} 4\nh_seconds_bucket{le=\"+Inf\",m=\"a\"} 6\n\
                    h_seconds_sum{m=\"b\"} 0.0\nh_seconds_count{m=\"b\"} 0\n# EOF\n";
        let metrics = to_otlp(text, TIMES);
        let Some(Data::Histogram(histogram)) = &metrics[0].data else { panic!("a histogram") };
        let point = &histogram.data_points[0];
        assert_eq!(labels(&point.attributes), [("m", "a".to_owned())]);
        assert_eq!((point.count, point.sum), (6, Some(2.5)));
        assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[1, 3, 2][..], &[0.5, 1.0][..]));
        assert_eq!(histogram.data_points.len(), 2);
    }
}
