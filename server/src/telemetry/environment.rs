//! What the standard `OTEL_*` environment variables ask for.
//!
//! Read here: `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER` (`otlp`, `none`), `OTEL_EXPORTER_OTLP_ENDPOINT` and
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (either switches the export on), `OTEL_EXPORTER_OTLP_PROTOCOL` and
//! `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL` (only `grpc`), `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`,
//! `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`. Of metrics: `OTEL_METRICS_EXPORTER` (`otlp`, `none`),
//! `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` (either switches the push on), `OTEL_METRIC_EXPORT_INTERVAL`, and, each also
//! without `METRICS_`, `OTEL_EXPORTER_OTLP_METRICS_PROTOCOL`, `_HEADERS` and `_TIMEOUT`. The exporter of traces reads
//! by itself what concerns only it: headers, time limits, and the sizes and delays of batches (`OTEL_BSP_*`).
//!
//! As the specification asks, a value that is not understood is warned of and otherwise treated as absent: tracing
//! never keeps a node from starting.

use std::fmt;
use std::time::Duration;

use super::context::Parent;

/// Which requests are traced. The decision is made before any span is built.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampler {
    /// Whether a request whose caller decided follows the caller.
    parent_based: bool,
    /// What is decided otherwise.
    root: Root,
}

/// What is decided where no caller did.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Root {
    Always,
    Never,
    /// Sampled if 63 bits of the trace's id, or of a random number, are below this bound.
    Below(u64),
}

/// The values that [`Root::Below`] compares have this many bits less than a `u64`, as in OpenTelemetry's own sampler.
const RATIO_SHIFT: u32 = 1;

impl Sampler {
    /// Follows the caller; samples everything that has none. This is the standard's default.
    pub const PARENT_BASED_ALWAYS_ON: Self = Self { parent_based: true, root: Root::Always };

    /// Follows the caller; samples nothing that has none. This is ours where nothing is exported.
    pub const PARENT_BASED_ALWAYS_OFF: Self = Self { parent_based: true, root: Root::Never };

    /// Samples nothing, whatever a caller says.
    #[cfg(test)]
    pub(super) const ALWAYS_OFF: Self = Self { parent_based: false, root: Root::Never };

    /// Whether nothing is ever sampled, whatever a caller says.
    pub(super) fn is_always_off(self) -> bool {
        self == Self { parent_based: false, root: Root::Never }
    }

    /// Reads `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    fn parse(name: &str, argument: Option<&str>) -> Result<Self, String> {
        let (parent_based, rule) = match name.strip_prefix("parentbased_") {
            Some(rule) => (true, rule),
            None => (false, name),
        };
        let root = match rule {
            "always_on" => Root::Always,
            "always_off" => Root::Never,
            "traceidratio" => Root::ratio(argument)?,
            _ => return Err(format!("OTEL_TRACES_SAMPLER={name} is unknown")),
        };
        Ok(Self { parent_based, root })
    }

    /// Whether a request is traced. `random` is drawn only if the decision needs it.
    pub(super) fn samples(self, parent: Option<&Parent>, random: impl FnOnce() -> u64) -> bool {
        match parent {
            Some(parent) if self.parent_based => parent.sampled,
            Some(parent) => {
                // The low half of the id, so that every service with the same ratio decides the same.
                let [.., a, b, c, d, e, f, g, h] = parent.trace_id.to_bytes();
                self.root.samples(|| u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            None => self.root.samples(random),
        }
    }
}

impl fmt::Display for Sampler {
    /// Writes the sampler as `OTEL_TRACES_SAMPLER` names it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.parent_based { "parentbased_" } else { "" };
        match self.root {
            Root::Always => write!(formatter, "{prefix}always_on"),
            Root::Never => write!(formatter, "{prefix}always_off"),
            Root::Below(_) => write!(formatter, "{prefix}traceidratio"),
        }
    }
}

impl Root {
    /// Reads a probability between 0 and 1; an absent one is 1.
    fn ratio(argument: Option<&str>) -> Result<Self, String> {
        let Some(argument) = argument else { return Ok(Self::Always) };
        match argument.parse::<f64>() {
            Ok(1.0) => Ok(Self::Always),
            Ok(ratio) if (0.0..1.0).contains(&ratio) => Ok(Self::Below(bound(ratio))),
            Ok(_) | Err(_) => Err(format!("OTEL_TRACES_SAMPLER_ARG={argument} is no probability")),
        }
    }

    fn samples(self, number: impl FnOnce() -> u64) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Below(bound) => number() >> RATIO_SHIFT < bound,
        }
    }
}

/// The part `ratio` of 2^63.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // ratio < 1 and not negative: the product fits
fn bound(ratio: f64) -> u64 {
    (ratio * (1_u64 << (u64::BITS - RATIO_SHIFT)) as f64) as u64
}

/// How requests are traced.
#[derive(Clone, PartialEq, Debug)]
pub struct TraceSettings {
    /// Which requests are traced.
    pub sampler: Sampler,
    /// How traces are exported; if they are not, the node remembers those of lately all the same.
    pub export: Option<ExportSettings>,
}

/// How traces are exported.
#[derive(Clone, PartialEq, Debug)]
pub struct ExportSettings {
    /// Whether the environment names the service, so that our own name does not.
    pub service_named: bool,
}

/// How metrics are pushed.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct MetricsExport {
    /// Where to.
    pub(super) endpoint: String,
    /// How often.
    pub(super) interval: Duration,
    /// How long one push may take.
    pub(super) timeout: Duration,
    /// What goes along with each.
    pub(super) headers: Vec<(String, String)>,
    /// As in [`ExportSettings`].
    pub(super) service_named: bool,
}

/// The specification's defaults.
const METRICS_INTERVAL_MS: u64 = 60_000;
const METRICS_TIMEOUT_MS: u64 = 10_000;
const METRICS_ENDPOINT: &str = "http://localhost:4317";

/// How the environment asks metrics to be pushed, if it does. An endpoint that is not for metrics alone does not ask
/// for it: many who take traces there take no metrics.
pub(super) fn read_metrics(
    variable: &dyn Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Option<MetricsExport> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let own_endpoint = variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
    match variable("OTEL_METRICS_EXPORTER").as_deref() {
        Some("otlp") => {}
        None if own_endpoint.is_some() => {}
        None | Some("none") => return None,
        Some(other) => {
            warnings.push(format!("OTEL_METRICS_EXPORTER={other} is not supported, only otlp: metrics are not pushed"));
            return None;
        }
    }
    let of = |what: &str| {
        variable(&format!("OTEL_EXPORTER_OTLP_METRICS_{what}"))
            .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{what}")))
    };
    if let Some(other) = of("PROTOCOL").filter(|protocol| protocol != "grpc") {
        warnings.push(format!("the OTLP protocol {other} is not supported, only grpc: metrics are not pushed"));
        return None;
    }
    let mut duration = |what: &str, value: Option<String>, default_ms| {
        let read = value.as_ref().map(|value| value.parse().ok().filter(|ms| *ms > 0));
        if read == Some(None) {
            warnings.push(format!("{what}={} is no time in milliseconds", value.unwrap_or_default()));
        }
        Duration::from_millis(read.flatten().unwrap_or(default_ms))
    };
    let interval = "OTEL_METRIC_EXPORT_INTERVAL";
    let endpoint = of("ENDPOINT").unwrap_or_else(|| METRICS_ENDPOINT.to_owned());
    Some(MetricsExport {
        endpoint: if endpoint.contains("://") { endpoint } else { format!("http://{endpoint}") },
        interval: duration(interval, variable(interval), METRICS_INTERVAL_MS),
        timeout: duration("OTEL_EXPORTER_OTLP_TIMEOUT", of("TIMEOUT"), METRICS_TIMEOUT_MS),
        headers: of("HEADERS").map(|headers| read_headers(&headers)).unwrap_or_default(),
        service_named: is_service_named(&variable),
    })
}

/// The headers in `a=b,c=d`, where a value may have its characters written as `%20`.
fn read_headers(headers: &str) -> Vec<(String, String)> {
    let pairs = headers.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), unescaped(value.trim()))).collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the environment names the service.
fn is_service_named(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    variable("OTEL_SERVICE_NAME").is_some()
        || attributes.split(',').any(|pair| pair.trim_start().starts_with("service.name="))
}

/// What the environment asks for: none if nothing is to be traced. What was not understood is added to `warnings`.
pub(super) fn read(variable: &dyn Fn(&str) -> Option<String>, warnings: &mut Vec<String>) -> Option<TraceSettings> {
    // An empty value counts as absent, says the specification.
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());

    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let export = read_export(&variable, warnings);
    let default = match export {
        Some(_) => Sampler::PARENT_BASED_ALWAYS_ON,
        None => Sampler::PARENT_BASED_ALWAYS_OFF,
    };
    let sampler = match variable("OTEL_TRACES_SAMPLER") {
        None => default,
        Some(name) => Sampler::parse(&name, variable("OTEL_TRACES_SAMPLER_ARG").as_deref()).unwrap_or_else(|reason| {
            warnings.push(format!("{reason}: the default sampler is used"));
            default
        }),
    };
    Some(TraceSettings { sampler, export })
}

/// How the environment asks traces to be exported, if it does.
fn read_export(variable: &dyn Fn(&str) -> Option<String>, warnings: &mut Vec<String>) -> Option<ExportSettings> {
    let endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    match variable("OTEL_TRACES_EXPORTER").as_deref() {
        Some("otlp") => {}
        None if endpoint.is_some() => {}
        None | Some("none") => return None,
        Some(other) => {
            warnings.push(format!("OTEL_TRACES_EXPORTER={other} is not supported, only otlp: traces are not exported"));
            return None;
        }
    }
    let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(other) = protocol.filter(|protocol| protocol != "grpc") {
        warnings.push(format!("the OTLP protocol {other} is not supported, only grpc: traces are not exported"));
        return None;
    }
    Some(ExportSettings { service_named: is_service_named(variable) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    fn read_pairs(pairs: &[(&str, &str)]) -> (Option<TraceSettings>, Vec<String>) {
        let mut warnings = Vec::new();
        let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let settings = read(&lookup, &mut warnings);
        (settings, warnings)
    }

    #[test]
    fn nothing_is_exported_unless_asked_for() {
        for pairs in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "x"), ("OTEL_TRACES_SAMPLER", "always_on")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317"), ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            let (settings, warnings) = read_pairs(pairs);
            assert_eq!((settings.expect("callers are followed").export, warnings), (None, Vec::new()), "{pairs:?}");
        }
    }

    #[test]
    fn without_an_export_callers_are_followed_and_with_tracing_switched_off_nobody() {
        let sampler = |pairs: &[(&str, &str)]| read_pairs(pairs).0.map(|settings| settings.sampler);
        assert_eq!(sampler(&[]), Some(Sampler::PARENT_BASED_ALWAYS_OFF));
        let always_on = Sampler { parent_based: false, root: Root::Always };
        assert_eq!(sampler(&[("OTEL_TRACES_SAMPLER", "always_on")]), Some(always_on));
        let disabled = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317"), ("OTEL_SDK_DISABLED", "TRUE")];
        assert_eq!(sampler(&disabled), None);
    }

    #[test]
    fn each_way_to_ask_for_export_works() {
        for pairs in [
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317")][..],
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:4317")],
            &[("OTEL_TRACES_EXPORTER", "otlp")],
            &[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        ] {
            let export = Some(ExportSettings { service_named: false });
            let expected = TraceSettings { sampler: Sampler::PARENT_BASED_ALWAYS_ON, export };
            assert_eq!(read_pairs(pairs), (Some(expected), Vec::new()), "{pairs:?}");
        }
    }

    #[test]
    fn what_is_not_supported_is_warned_of() {
        for pairs in [
            &[("OTEL_TRACES_EXPORTER", "zipkin")][..],
            &[("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
        ] {
            let (settings, warnings) = read_pairs(pairs);
            assert_eq!((settings.and_then(|settings| settings.export), warnings.len()), (None, 1), "{pairs:?}");
        }
        for sampler in [("OTEL_TRACES_SAMPLER", "xray"), ("OTEL_TRACES_SAMPLER_ARG", "1.5")] {
            let base = [("OTEL_TRACES_EXPORTER", "otlp"), sampler, ("OTEL_TRACES_SAMPLER", "traceidratio")];
            let (settings, warnings) = read_pairs(&base);
            let settings = settings.expect("traces are exported all the same");
            assert_eq!((settings.sampler, warnings.len()), (Sampler::PARENT_BASED_ALWAYS_ON, 1));
        }
    }

    fn read_metrics_of(pairs: &[(&str, &str)]) -> (Option<MetricsExport>, usize) {
        let mut warnings = Vec::new();
        let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        (read_metrics(&lookup, &mut warnings), warnings.len())
    }

    #[test]
    fn metrics_are_pushed_only_where_it_is_asked_for() {
        let on = ("OTEL_METRICS_EXPORTER", "otlp");
        for (pairs, expected) in [
            (&[][..], 0),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317")], 0),
            (&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://h:1"), ("OTEL_METRICS_EXPORTER", "none")], 0),
            (&[on, ("OTEL_SDK_DISABLED", "true")], 0),
            (&[("OTEL_METRICS_EXPORTER", "prometheus")], 1),
            (&[on, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")], 1),
        ] {
            assert_eq!(read_metrics_of(pairs), (None, expected), "{pairs:?}");
        }
        let (settings, warnings) = read_metrics_of(&[on]);
        let settings = settings.expect("it is asked for");
        assert_eq!((settings.endpoint.as_str(), settings.interval.as_millis()), (METRICS_ENDPOINT, 60_000));
        assert_eq!((settings.timeout.as_millis(), warnings), (10_000, 0));
    }

    #[test]
    fn what_is_for_metrics_alone_wins_over_what_is_for_all() {
        let (settings, warnings) = read_metrics_of(&[
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "h:1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20YQ==, b = 100%,c"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "5"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "6"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ]);
        let settings = settings.expect("an endpoint asks for it");
        assert_eq!((settings.endpoint.as_str(), settings.timeout.as_millis()), ("http://h:1", 5));
        assert_eq!((settings.interval.as_millis(), warnings), (60_000, 1));
        let expected = [("Authorization", "Basic YQ=="), ("b", "100%")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(settings.headers, expected);
    }

    #[test]
    fn the_service_is_named_by_either_variable() {
        let on = ("OTEL_TRACES_EXPORTER", "otlp");
        let export = |pairs: &[(&str, &str)]| read_pairs(pairs).0.and_then(|settings| settings.export);
        let is_named = |pairs: &[(&str, &str)]| export(pairs).expect("it is exported").service_named;
        for named in [("OTEL_SERVICE_NAME", "x"), ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=x")] {
            assert!(is_named(&[on, named]));
        }
        let other = ("OTEL_RESOURCE_ATTRIBUTES", "my.service.name=x");
        assert!(!is_named(&[on, other]));
    }

    #[test]
    fn each_sampler_decides_as_specified() {
        let sampled = Parent::parse(SAMPLED);
        let unsampled = Parent::parse(UNSAMPLED);
        // Sampler, argument; decisions for: no parent, sampled parent, unsampled parent.
        for (name, argument, expected) in [
            ("always_on", None, [true, true, true]),
            ("always_off", None, [false, false, false]),
            ("traceidratio", None, [true, true, true]),
            ("traceidratio", Some("0"), [false, false, false]),
            ("parentbased_always_on", None, [true, true, false]),
            ("parentbased_always_off", None, [false, true, false]),
            ("parentbased_traceidratio", Some("0"), [false, true, false]),
            ("parentbased_traceidratio", Some("1"), [true, true, false]),
        ] {
            let sampler = Sampler::parse(name, argument).expect("known");
            let decisions = [None, sampled.as_ref(), unsampled.as_ref()].map(|parent| sampler.samples(parent, || 0));
            assert_eq!(decisions, expected, "{name} {argument:?}");
        }
    }

    #[test]
    fn a_sampler_is_shown_as_the_environment_names_it() {
        for name in ["always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_traceidratio"] {
            assert_eq!(Sampler::parse(name, Some("0.5")).expect("known").to_string(), name);
        }
    }

    #[test]
    fn a_ratio_takes_its_part_of_the_numbers() {
        let sampler = Sampler::parse("traceidratio", Some("0.25")).expect("known");
        let step = u64::MAX / 1000;
        let taken = (0..1000).filter(|n| sampler.samples(None, || n * step)).count();
        assert!((249..=251).contains(&taken), "{taken}");
    }

    #[test]
    fn a_ratio_with_a_parent_looks_at_the_traces_id_and_draws_nothing() {
        let parent = Parent::parse("00-0af7651916cd43dd0000000000000001-b7ad6b7169203331-00").expect("well-formed");
        let sampler = Sampler::parse("traceidratio", Some("0.01")).expect("known");
        assert!(sampler.samples(Some(&parent), || unreachable!("nothing is drawn")));
    }

    #[test]
    fn arguments_that_are_no_probability_are_refused() {
        for argument in ["-0.1", "1.1", "NaN", "inf", "x"] {
            assert!(Sampler::parse("traceidratio", Some(argument)).is_err(), "{argument}");
        }
    }
}
