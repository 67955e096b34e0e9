//! What a user asked to see of the client's doings: `-v` on standard error, and spans for an OpenTelemetry collector
//! when the standard `OTEL_*` variables say so. Nothing is created otherwise.

use crate::cli::complain;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use std::{io, sync::mpsc, thread, time::Duration};
use tokio::runtime::Runtime;
use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _, filter::FilterFn, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// The target of the library's spans and events. Filtering by it keeps the exporter's own calls out of what it exports.
const LIBRARY: &str = "client_cli";

/// How long the exit waits for the last spans. A collector nearby takes milliseconds; one that is away is not waited
/// for by a person at a prompt.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);

/// The telemetry of one run.
#[derive(Debug)]
pub(crate) struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up what was asked for.
    pub(crate) fn start(runtime: &Runtime, verbosity: u8) -> Telemetry {
        let provider = if export_is_asked_for(|name| std::env::var(name).ok()) { provider(runtime) } else { None };
        let spans = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("client-cli"))
                .with_threads(false)
                .with_location(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_filter(Targets::new().with_target(LIBRARY, Level::INFO))
        });
        let doings = (verbosity > 0).then(|| {
            // Without the spans, which would precede every line.
            let wanted = FilterFn::new(|metadata| {
                metadata.is_event() && metadata.target().starts_with(LIBRARY) && *metadata.level() <= Level::DEBUG
            })
            .with_max_level_hint(LevelFilter::DEBUG);
            tracing_subscriber::fmt::layer()
                .with_writer(io::stderr)
                .with_ansi(false)
                .without_time()
                .with_level(false)
                .with_target(false)
                .with_filter(wanted)
        });
        if spans.is_some() || doings.is_some() {
            tracing_subscriber::registry().with(spans).with(doings).init();
        }
        Telemetry { provider }
    }

    /// Sends what is left, within [`FLUSH_TIME_MAX`].
    pub(crate) fn finish(self) {
        let Some(provider) = self.provider else { return };
        let (done, wait) = mpsc::channel();
        // A thread of its own, which the end of the process cuts short: shutting down does not keep to its own limit
        // while a connection is being opened.
        thread::spawn(move || {
            let flushed = provider.shutdown_with_timeout(FLUSH_TIME_MAX);
            // Nobody waits any more if it took too long.
            let _ = done.send(flushed);
        });
        match wait.recv_timeout(FLUSH_TIME_MAX) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("spans were lost: {error}"),
            Err(_) => tracing::debug!("spans were lost: the collector did not take them in time"),
        }
    }
}

/// Whether the environment asks for an export: the exporter by name, or an endpoint without another exporter.
fn export_is_asked_for(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return false;
    }
    match set("OTEL_TRACES_EXPORTER") {
        Some(exporters) => exporters.split(',').any(|exporter| exporter.trim() == "otlp"),
        None => {
            ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"].into_iter().any(|n| set(n).is_some())
        }
    }
}

/// The provider; none, after a word on standard error, if the variables make no sense. A request is not refused over
/// it.
fn provider(runtime: &Runtime) -> Option<SdkTracerProvider> {
    let _context = runtime.enter();
    // One attempt: a collector that is away is not worth a delay.
    let exporter = SpanExporter::builder().with_tonic().with_retry_policy(RetryPolicy::disabled()).build();
    let exporter = match exporter {
        Ok(exporter) => exporter,
        Err(error) => {
            complain(&format!("warning: traces are not exported: {error}"));
            return None;
        }
    };
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let variable = |name| std::env::var(name).unwrap_or_default();
    let named =
        !variable("OTEL_SERVICE_NAME").is_empty() || variable("OTEL_RESOURCE_ATTRIBUTES").contains("service.name=");
    if !named {
        resource = resource.with_service_name("client-cli");
    }
    Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(variables: &[(&str, &str)]) -> bool {
        export_is_asked_for(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn export_is_on_only_if_it_was_asked_for() {
        assert!(!asked(&[]));
        assert!(!asked(&[("OTEL_SERVICE_NAME", "x")]));
        assert!(!asked(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]));
        assert!(asked(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")]));
        assert!(asked(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4317")]));
        assert!(asked(&[("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(asked(&[("OTEL_TRACES_EXPORTER", "console, otlp")]));
    }

    #[test]
    fn it_can_be_switched_off() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        assert!(!asked(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]));
        assert!(!asked(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
        assert!(asked(&[endpoint, ("OTEL_SDK_DISABLED", "no")]));
    }
}
