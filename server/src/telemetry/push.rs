//! Pushes metrics to a collector over OTLP, if the environment asks for it. Whoever collects them by themselves reads
//! the same from the HTTP port.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::environment::{self, ExportSettings, MetricsExport};
use super::init::{SERVICE_NAME, SHUTDOWN_TIMEOUT, resource};
use super::metrics::{Metrics, TextFormat, Times, to_otlp};
use super::tracer::unix_nanos_now;

/// The task that pushes; [`shutdown`](Self::shutdown) pushes once more.
#[derive(Debug)]
#[must_use = "what happened since the last push is lost without shutdown"]
pub struct MetricsPush {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// What pushes.
struct Pusher {
    metrics: Arc<Metrics>,
    client: MetricsServiceClient<Channel>,
    resource: Resource,
    headers: Vec<(MetadataKey<Ascii>, MetadataValue<Ascii>)>,
    timeout: Duration,
    start_unix_nano: u64,
    is_failing: bool,
}

/// Begins to push `metrics` of the node of this name, if the environment asks for it. It is called in the runtime. What
/// is wrong with the environment is logged, and costs only the metrics.
pub fn push_metrics(metrics: &Arc<Metrics>, node_name: &str) -> Option<MetricsPush> {
    let mut warnings = Vec::new();
    let settings = environment::read_metrics(&|name| std::env::var(name).ok(), &mut warnings);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let settings = settings?;
    let interval = settings.interval;
    match Pusher::new(Arc::clone(metrics), settings, node_name) {
        Ok(pusher) => {
            tracing::info!(interval_ms = interval.as_millis(), "metrics are pushed");
            let (stop, stopped) = watch::channel(false);
            Some(MetricsPush { task: tokio::spawn(pusher.run(interval, stopped)), stop })
        }
        Err(cause) => {
            tracing::warn!(cause, "metrics are not pushed");
            None
        }
    }
}

impl MetricsPush {
    /// Pushes once more, for no longer than two seconds.
    pub async fn shutdown(mut self) {
        // An error means that the task has ended.
        let _ = self.stop.send(true);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, &mut self.task).await.is_err() {
            tracing::warn!("the last metrics are lost: the collector does not answer");
            self.task.abort();
        }
    }
}

impl Pusher {
    fn new(metrics: Arc<Metrics>, settings: MetricsExport, node_name: &str) -> Result<Self, String> {
        let MetricsExport { endpoint, interval: _, timeout, headers, service_named } = settings;
        let channel = Endpoint::from_shared(endpoint.clone()).map_err(|error| format!("{endpoint}: {error}"))?;
        let header = |(name, value): (String, String)| {
            let key = MetadataKey::from_bytes(name.to_lowercase().as_bytes()).map_err(|error| error.to_string());
            let value = MetadataValue::try_from(value).map_err(|error| error.to_string());
            // The value may be a secret.
            key.and_then(|key| Ok((key, value?))).map_err(|error| format!("the header {name}: {error}"))
        };
        Ok(Self {
            metrics,
            client: MetricsServiceClient::new(channel.connect_lazy()),
            resource: wire_resource(&resource(&ExportSettings { service_named }, node_name)),
            headers: headers.into_iter().map(header).collect::<Result<_, _>>()?,
            timeout,
            start_unix_nano: unix_nanos_now(),
            is_failing: false,
        })
    }

    async fn run(mut self, interval: Duration, mut stopped: watch::Receiver<bool>) {
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                // An error means that nobody will ask for an orderly end: this is it.
                _ = stopped.wait_for(|stopped| *stopped) => is_last = true,
            }
            let result = self.push().await;
            let was_failing = std::mem::replace(&mut self.is_failing, result.is_err());
            match result {
                Err(error) if !was_failing => {
                    let (code, cause) = (error.code(), error.message());
                    tracing::warn!(?code, cause, "metrics are not delivered; it is tried again");
                }
                Ok(()) if was_failing => tracing::info!("metrics are delivered again"),
                Ok(()) | Err(_) => {}
            }
        }
    }

    async fn push(&mut self) -> Result<(), Status> {
        let metrics = Arc::clone(&self.metrics);
        // As for the page: reading takes a while.
        let text = tokio::task::spawn_blocking(move || metrics.text(TextFormat::OpenMetrics)).await;
        let text = text.expect("reading and writing figures does not panic");
        let times = Times { start_unix_nano: self.start_unix_nano, now_unix_nano: unix_nanos_now() };
        let scope = InstrumentationScope {
            name: SERVICE_NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_metrics =
            vec![ScopeMetrics { scope: Some(scope), metrics: to_otlp(&text, times), ..ScopeMetrics::default() }];
        let resource = Some(self.resource.clone());
        let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
        let mut request = Request::new(ExportMetricsServiceRequest { resource_metrics });
        request.set_timeout(self.timeout);
        for (name, value) in &self.headers {
            request.metadata_mut().insert(name.clone(), value.clone());
        }
        match tokio::time::timeout(self.timeout, self.client.export(request)).await {
            Ok(response) => response.map(drop),
            Err(_) => Err(Status::deadline_exceeded("the collector did not answer in time")),
        }
    }
}

fn wire_resource(resource: &opentelemetry_sdk::Resource) -> Resource {
    let attribute = |(key, value): (&opentelemetry::Key, &opentelemetry::Value)| KeyValue {
        key: key.to_string(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_string())) }),
        ..KeyValue::default()
    };
    Resource { attributes: resource.iter().map(attribute).collect(), ..Resource::default() }
}
