//! What nodes export of themselves, against the table that documents it.

use super::{
    probes::http_get_as,
    snapshots::{options, overwrite_until},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    metrics::v1::metric::Data,
};
use proto::admin::v1::{TransferLeadershipRequest, admin_service_client::AdminServiceClient};
use std::collections::BTreeSet;
use tests::{
    cluster::{Cluster, HTTP_PORT_OFFSET, Options, beside},
    metrics::{Metrics, documented, exported, promtool, value},
    rpc,
    wait::wait_for,
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{Request, Response, Status};

/// What Prometheus sends.
const PROMETHEUS_ACCEPTS: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                                  version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

async fn page_as(cluster: &Cluster, node: usize, accept: &str) -> String {
    let answer = http_get_as(beside(cluster.nodes[node].address(), HTTP_PORT_OFFSET), "/metrics", accept).await;
    let (head, page) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    page.to_owned()
}

async fn page(cluster: &Cluster, node: usize) -> String {
    page_as(cluster, node, "text/plain").await
}

/// A cluster in which something of everything has happened: puts, gets, an error, elections and snapshots.
async fn eventful() -> Cluster {
    let cluster = Cluster::start(Options { separate_ports: true, ..options(3) }).await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    cluster.put(follower, "k", "v").await.expect("the key is new");
    cluster.put(follower, "k", "v").await.expect_err("it is there");
    cluster.get(follower, "k").await.expect("it is there");
    overwrite_until(&cluster, leader, "all have taken a snapshot", |statuses| {
        statuses.iter().all(|status| status.snapshot_index > 0)
    })
    .await;
    let target = cluster.nodes[follower].name().to_owned();
    let request = TransferLeadershipRequest { target };
    let mut admin = AdminServiceClient::new(cluster.nodes[leader].channel());
    rpc::bounded(admin.transfer_leadership(request)).await.expect("it can lead");
    cluster.put(follower, "k2", "v").await.expect("the key is new");
    cluster
}

#[tokio::test]
async fn what_nodes_export_is_what_is_documented() {
    let cluster = eventful().await;
    let leader = cluster.leader().await;
    let mut found = Metrics::new();
    for node in 0..cluster.nodes.len() {
        for (name, metric) in exported(&page(&cluster, node).await) {
            let known = found.entry(name).or_insert_with(|| metric.clone());
            assert_eq!(known.kind, metric.kind);
            known.labels.extend(metric.labels);
        }
    }
    let documented = documented();
    let undocumented: Vec<_> = found.iter().filter(|(name, metric)| documented.get(*name) != Some(*metric)).collect();
    assert!(undocumented.is_empty(), "exported otherwise than documented: {undocumented:#?}");
    let missing: Vec<_> = documented.keys().filter(|name| !found.contains_key(*name)).collect();
    assert!(missing.is_empty(), "documented and not exported: {missing:?}");

    for node in 0..cluster.nodes.len() {
        let classic = page(&cluster, node).await;
        promtool(&["check", "metrics"], &classic).unwrap_or_else(|fault| panic!("{fault}\n{classic}"));
        // The same families and samples in the format that Prometheus prefers; only counters are called otherwise.
        let open_metrics = page_as(&cluster, node, PROMETHEUS_ACCEPTS).await;
        assert!(open_metrics.ends_with("# EOF\n"));
        let samples = |page: &str| {
            let samples = page.lines().filter(|line| !line.starts_with('#'));
            samples.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(samples(&open_metrics), samples(&classic));
    }
    assert_eq!(value(&page(&cluster, leader).await, "quorate_role", "leader"), 1.0);
}

#[tokio::test]
async fn what_has_happened_is_counted_where_it_happened() {
    let cluster = eventful().await;
    let leader = cluster.leader().await;
    let former = page(&cluster, cluster.others(leader)[0]).await + &page(&cluster, cluster.others(leader)[1]).await;
    let now = page(&cluster, leader).await;
    let counted = |page: &str, name: &str, labels: &str| value(page, name, labels);
    assert_eq!(counted(&now, "quorate_elections_started_total", "transfer"), 1.0, "it was asked to take over");
    assert!(counted(&now, "quorate_elections_finished_total", "won") >= 1.0);
    assert_eq!(counted(&former, "quorate_step_downs_total", "later_term"), 1.0, "the other one gave way");
    assert_eq!(counted(&now, "quorate_request_errors_total", "KEY_EXISTS"), 1.0, "as the other node told it");
    let commits = counted(&former, "quorate_commit_duration_seconds_count", "");
    assert!(commits >= 20.0, "the former leader has committed {commits} entries");
    for (what, page) in [("leader", &now), ("others", &former)] {
        let some = |name: &str, labels: &str| {
            assert!(counted(page, name, labels) > 0.0, "{what}: {name} {labels}");
        };
        some("quorate_apply_duration_seconds_count", "");
        some("quorate_log_batch_entries_count", "");
        some("quorate_disk_sync_duration_seconds_count", "file=\"log\"");
        some("quorate_disk_sync_duration_seconds_count", "file=\"snapshot\"");
        some("quorate_disk_written_bytes_total", "file=\"log\"");
        some("quorate_snapshot_duration_seconds_count", "");
        some("quorate_votes_granted_total", "");
        some("quorate_leader_changes_total", "");
        some("quorate_data_bytes", "");
        some("quorate_disk_free_bytes", "");
        some("process_resident_memory_bytes", "");
    }
    // Every entry that is durable was in some write.
    let entries = counted(&now, "quorate_log_batch_entries_sum", "");
    let durable = counted(&now, "quorate_durable_index", "");
    assert!((durable - entries).abs() <= 2.0 && entries > 0.0, "{entries} of {durable}");
    wait_for("the followers have caught up and nothing is under way", async || {
        let page = page(&cluster, leader).await;
        let names = ["quorate_replication_lag_entries", "quorate_requests_in_flight", "quorate_disk_work_pending"];
        names.iter().all(|name| value(&page, name, "") == 0.0).then_some(())
    })
    .await;
}

/// An OTLP receiver, which keeps what came last.
struct Sink(watch::Sender<ExportMetricsServiceRequest>);

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let secret = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        assert_eq!(secret, Some("Basic YQ=="), "what the environment says goes along");
        self.0.send_replace(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// The names and values of what was pushed, named as on a page.
fn pushed(request: &ExportMetricsServiceRequest) -> BTreeSet<String> {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let name = |metric: &opentelemetry_proto::tonic::metrics::v1::Metric| match &metric.data {
        Some(Data::Sum(sum)) if sum.is_monotonic => format!("{}_total", metric.name),
        Some(Data::Gauge(_) | Data::Histogram(_)) => metric.name.clone(),
        other => panic!("{} is pushed as {other:?}", metric.name),
    };
    scopes.flat_map(|scope| &scope.metrics).map(name).collect()
}

#[tokio::test]
async fn what_is_pushed_to_a_collector_is_what_the_page_has() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let collector = listener.local_addr().expect("a listener has an address");
    let (sender, mut received) = watch::channel(ExportMetricsServiceRequest::default());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let service = MetricsServiceServer::new(Sink(sender));
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let variables = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", format!("http://{collector}")),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20YQ==".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
    ];
    let environment = vec![variables.map(|(name, value)| (name.to_owned(), value)).to_vec()];
    let options = Options { size: 1, environment, separate_ports: true, ..Options::default() };
    let cluster = Cluster::start(options).await;
    cluster.put(0, "k", "v").await.expect("the key is new");
    let page = page(&cluster, 0).await;
    let has_sample = |name: &String| ["{", " ", "_bucket{"].iter().any(|end| page.contains(&format!("\n{name}{end}")));
    let on_page: BTreeSet<String> = exported(&page).into_keys().filter(has_sample).collect();
    let is_all = |request: &ExportMetricsServiceRequest| pushed(request) == on_page;
    let all = received.wait_for(is_all).await.expect("the receiver runs").clone();
    let attributes = all.resource_metrics[0].resource.clone().expect("it is told whose they are").attributes;
    let keys: BTreeSet<&str> = attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert!(keys.is_superset(&["service.name", "service.instance.id", "service.version"].into()), "{keys:?}");
    // What happened since the last push is told at the end.
    cluster.nodes[0].terminate();
    received.borrow_and_update();
    received.changed().await.expect("the receiver runs");
}
