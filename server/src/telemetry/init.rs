//! Switching logs and traces on at the start, and off at the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanProcessor};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::environment::{self, ExportSettings, Sampler};
use super::log_filter::LogFilter;
use super::reporting::Reporting;
use super::tracer::Tracer;
use crate::config::LogFormat;

/// The service's name in traces unless the environment gives another.
pub(super) const SERVICE_NAME: &str = "quorate-server";

/// How long the spans of the last moments may take to leave when the node stops. A collector that does not answer costs
/// about a second; a node that drains has better things to wait for.
pub(super) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What the command line says about logs and traces.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// The node's name, which tells the cluster's nodes apart in traces.
    pub node_name: String,
    /// Which events are logged, as a list of directives such as `info` or `warn,quorate_server=debug`.
    pub log_filter: String,
    /// How they are written.
    pub log_format: LogFormat,
}

/// Why telemetry could not be switched on.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("the log filter {filter:?} is not understood: {cause}")]
    LogFilter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The process logs already.
    #[error("logs are switched on already")]
    AlreadyInitialized,
}

/// Keeps telemetry going; [`shutdown`](Self::shutdown) sends off what is still queued.
#[derive(Debug)]
#[must_use = "spans that are still queued are lost without shutdown"]
pub struct TelemetryGuard {
    tracer: Option<Arc<Tracer>>,
}

/// Switches on logs, to standard error, and the export of traces if the environment asks for it. It is called once, in
/// the runtime. What is wrong with the environment or the exporter is logged and costs only the traces.
///
/// # Errors
///
/// The log filter is not understood, or logs are switched on already.
pub fn init(options: &TelemetryOptions) -> Result<TelemetryGuard, TelemetryError> {
    init_logs(&options.log_filter, options.log_format)?;
    let mut warnings = Vec::new();
    let settings = environment::read(&|name| std::env::var(name).ok(), &mut warnings);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let tracer = settings.map(|settings| {
        let wanted = settings.export.is_some();
        let exporter = settings.export.and_then(|export| exporter(&export, &options.node_name));
        let sampler = match exporter {
            Some(_) => {
                tracing::info!(sampler = %settings.sampler, "traces are exported");
                settings.sampler
            }
            // What was to be sampled was to be exported.
            None if wanted => Sampler::PARENT_BASED_ALWAYS_OFF,
            None => settings.sampler,
        };
        Arc::new(Tracer::new(SERVICE_NAME, sampler, exporter))
    });
    if let Some(tracer) = &tracer {
        Arc::clone(tracer).install();
    }
    Ok(TelemetryGuard { tracer })
}

/// What takes spans off to the collector: a bounded queue, and a thread of its own behind it.
fn exporter(settings: &ExportSettings, node_name: &str) -> Option<Box<dyn SpanProcessor>> {
    match SpanExporter::builder().with_tonic().build() {
        Ok(exporter) => {
            let mut processor = BatchSpanProcessor::builder(Reporting::new(exporter)).build();
            processor.set_resource(&resource(settings, node_name));
            Some(Box::new(processor))
        }
        Err(error) => {
            tracing::warn!(%error, "traces are not exported");
            None
        }
    }
}

/// What every span says of its process. The environment's own attributes are there beside ours.
pub(super) fn resource(settings: &ExportSettings, node_name: &str) -> Resource {
    let builder = Resource::builder().with_attributes([
        KeyValue::new("service.instance.id", node_name.to_owned()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    if settings.service_named { builder.build() } else { builder.with_service_name(SERVICE_NAME).build() }
}

fn init_logs(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let (subscriber, filter) = subscriber(filter, format, io::stderr)?;
    subscriber.try_init().map_err(|_| TelemetryError::AlreadyInitialized)?;
    filter.install()
}

/// What writes log lines to `writer`, and what changes which ones.
pub(super) fn subscriber<W>(
    filter: &str,
    format: LogFormat,
    writer: W,
) -> Result<(Box<dyn tracing::Subscriber + Send + Sync>, LogFilter), TelemetryError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let (filter, changeable) = LogFilter::new(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = match format {
        LogFormat::Human => {
            let colours = io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            Box::new(registry.with(layer.with_ansi(colours)))
        }
        LogFormat::Json => Box::new(registry.with(layer.json().flatten_event(true))),
    };
    Ok((subscriber, changeable))
}

impl TelemetryGuard {
    /// Sends off the spans that are still queued, for no longer than two seconds.
    pub async fn shutdown(self) {
        let Some(tracer) = self.tracer else { return };
        // The exporter needs the runtime to send: on one of its threads this call would wait for itself.
        let flushed = tokio::task::spawn_blocking(move || {
            tracer.exporter().map_or(Ok(()), |exporter| exporter.shutdown_with_timeout(SHUTDOWN_TIMEOUT))
        });
        match tokio::time::timeout(SHUTDOWN_TIMEOUT, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans may be lost"),
            Ok(Err(error)) => tracing::warn!(%error, "the last spans may be lost"),
            Err(_) => tracing::warn!("the last spans may be lost: the collector does not answer"),
        }
    }
}
