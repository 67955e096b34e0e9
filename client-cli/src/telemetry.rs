//! What a user asked to see of the client's doings: `-v` on standard error, and spans for an OpenTelemetry collector
//! when the standard `OTEL_*` variables say so. Nothing is created otherwise.

use crate::cli::{complain, traces::Own};
use client_cli::{Span, SpanKind};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanId, Status, TraceId, TracerProvider as _},
};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{IdGenerator, RandomIdGenerator, Sampler, SdkTracerProvider, SpanData, SpanProcessor},
};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
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
    kept: Option<Kept>,
}

/// The spans of this process that have ended, of the trace that is to be shown.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<SpanData>> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

impl SpanProcessor for Kept {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.lock().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Gives all traces the same id: that of the trace which the request is to be part of.
#[derive(Debug)]
struct Joining(TraceId, RandomIdGenerator);

impl IdGenerator for Joining {
    fn new_trace_id(&self) -> TraceId {
        self.0
    }

    fn new_span_id(&self) -> SpanId {
        self.1.new_span_id()
    }
}

impl Telemetry {
    /// Sets up what was asked for.
    ///
    /// `shown`: whether the request's trace is to be shown, and its id, if it has to have one.
    pub(crate) fn start(runtime: &Runtime, verbosity: u8, shown: Option<Option<[u8; 16]>>) -> Telemetry {
        let is_exported = export_is_asked_for(|name| std::env::var(name).ok());
        let exporter = if is_exported { exporter(runtime) } else { None };
        let kept = shown.map(|_| Kept::default());
        let is_wanted = exporter.is_some() || kept.is_some();
        let provider = is_wanted.then(|| {
            let mut builder = SdkTracerProvider::builder().with_resource(resource());
            if let Some(exporter) = exporter {
                builder = builder.with_batch_exporter(exporter);
            }
            if let Some(kept) = &kept {
                // Whatever the environment says of others: this one is asked for.
                builder = builder.with_span_processor(kept.clone()).with_sampler(Sampler::AlwaysOn);
            }
            if let Some(Some(trace_id)) = shown {
                let joining = Joining(TraceId::from_bytes(trace_id), RandomIdGenerator::default());
                builder = builder.with_id_generator(joining);
            }
            builder.build()
        });
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
        Telemetry { provider, kept }
    }

    /// The trace that is to be shown, as far as this process has it by then; none if none is, or nothing was asked.
    pub(crate) fn trace(&self) -> Option<impl Fn() -> Own> {
        let kept = self.kept.clone()?;
        let first = kept.lock().first()?.span_context.trace_id();
        // What begins later is the looking for the rest of it, and may have been given the same id.
        let asked = SystemTime::now();
        Some(move || {
            let spans = kept.lock();
            let own = spans.iter().filter(|span| span.span_context.trace_id() == first && span.start_time <= asked);
            Own { trace_id: first.to_bytes(), spans: own.map(wire_span).collect() }
        })
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

/// A span as nodes tell theirs.
fn wire_span(span: &SpanData) -> Span {
    let nanos = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    };
    let has_parent = span.parent_span_id != SpanId::INVALID;
    let parent_span_id = if has_parent { span.parent_span_id.to_bytes().to_vec() } else { Vec::new() };
    Span {
        span_id: span.span_context.span_id().to_bytes().to_vec().into(),
        parent_span_id: parent_span_id.into(),
        name: span.name.to_string(),
        kind: SpanKind::Client.into(),
        start_time_unix_nano: nanos(span.start_time),
        end_time_unix_nano: nanos(span.end_time),
        attributes: span.attributes.iter().map(|pair| (pair.key.to_string(), pair.value.to_string())).collect(),
        failed: matches!(span.status, Status::Error { .. }),
        node: "client".to_owned(),
    }
}

/// The exporter; none, after a word on standard error, if the variables make no sense. A request is not refused over
/// it.
fn exporter(runtime: &Runtime) -> Option<SpanExporter> {
    let _context = runtime.enter();
    // One attempt: a collector that is away is not worth a delay.
    let exporter = SpanExporter::builder().with_tonic().with_retry_policy(RetryPolicy::disabled()).build();
    exporter.map_err(|error| complain(&format!("warning: traces are not exported: {error}"))).ok()
}

/// What every span says of this process.
fn resource() -> Resource {
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let variable = |name| std::env::var(name).unwrap_or_default();
    let named =
        !variable("OTEL_SERVICE_NAME").is_empty() || variable("OTEL_RESOURCE_ATTRIBUTES").contains("service.name=");
    if !named {
        resource = resource.with_service_name("client-cli");
    }
    resource.build()
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
