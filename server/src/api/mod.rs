//! What clients and operators reach: the kv.v1 and admin.v1 services, health and reflection.
//!
//! The life of a request: its deadline is read and its fields are checked ([`limits`] has every bound), a place among
//! the requests under way is taken or refused, then it is run by this node or forwarded; the head of `router` says
//! which. What goes wrong is one case of one enum, which a single match turns into a status. A value is the slice of
//! the frame that it arrived in, passed on and never copied here.
//!
//! Nothing here knows Raft or the log, and nothing below here knows a gRPC status.

mod admin_service;
mod admission;
mod deadline;
mod drain;
mod error;
mod gather;
mod health;
pub mod http;
mod kv_service;
mod labels;
mod leader;
pub mod limits;
mod measure;
mod node;
mod operation;
mod page;
mod pipeline;
mod reflection;
mod report;
mod router;
mod spans;
mod validate;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use proto::admin::v1::admin_service_server::AdminServiceServer;
use proto::kv::v1::kv_service_server::KvServiceServer;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::forward::{ForwardTarget, Forwarder};
use crate::node::NodeHandle;
use crate::telemetry::Metrics;

pub use drain::Drain;
pub use health::{Probes, Vital};
pub use node::Node;

use admin_service::AdminApi;
use gather::Gatherer;
use http::HttpParts;
use kv_service::KvApi;
use labels::Labelled;
use leader::LeaderHint;
use limits::{InFlight, MESSAGE_BYTES_MAX};
use measure::InFlightGauges;
use report::Reporter;
use router::Router;

/// What the services are made of.
pub struct ApiParts<N = NodeHandle> {
    /// The node that they speak for.
    pub node: N,
    /// How requests reach the leader.
    pub forwarder: Arc<dyn Forwarder>,
    /// Tells when to refuse new requests.
    pub drain: Drain,
    /// The parts of the node that have to go on for it to count as live.
    pub vitals: Vec<Vital>,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// How they behave.
    pub options: ApiOptions,
}

/// How the services behave.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// The node's name.
    pub name: String,
    /// How long a request may take whose client sets no deadline.
    pub request_timeout: Duration,
    /// The shortest election timeout of the cluster's nodes.
    pub election_timeout: Duration,
    /// Whether the peers' service is on the same port, so that reflection lists it.
    pub serves_peers: bool,
}

/// The services, ready to be served.
pub struct Api {
    /// The services of the client port. [`limits::configure`] prepares the server for them.
    pub routes: Routes,
    /// Runs what other nodes forward.
    pub forward_target: Arc<dyn ForwardTarget>,
    /// What is told over HTTP, for [`http::serve`].
    pub http: HttpParts,
    /// The requests under way, to be waited for at the end.
    pub in_flight: Arc<InFlight>,
}

/// Makes the services. It is called in the runtime: a task that ends with the node keeps the health service up to date.
#[must_use]
pub fn services<N: Node + Clone>(parts: ApiParts<N>) -> Api {
    let ApiParts { node, forwarder, drain, vitals, metrics, options } = parts;
    let status = node.subscribe();
    let request_timeout = options.request_timeout;
    let probes = Probes::new(status.clone(), drain.clone(), vitals);
    let reporter = Arc::new(Reporter::new(options.name.clone(), node.clone(), Arc::clone(&metrics)));
    let gatherer = Gatherer::new(Arc::clone(&reporter), Arc::clone(&forwarder), status.clone());
    let router = Arc::new(Router::new(node.clone(), options.name.clone(), forwarder, options.election_timeout));
    let in_flight = Arc::new(InFlight::new());
    metrics.collect(InFlightGauges(Arc::clone(&in_flight)));
    let kv = Arc::new(KvApi {
        router,
        leader: Arc::new(LeaderHint::new(status.clone())),
        in_flight: Arc::clone(&in_flight),
        drain: drain.clone(),
        metrics: Arc::clone(&metrics),
        reporter: Arc::clone(&reporter),
        request_timeout,
    });
    let leader = LeaderHint::new(status.clone());
    let admin = AdminApi { name: options.name, node, reporter, status, leader, drain, request_timeout };

    let health_reporter = HealthReporter::new();
    let health = HealthServer::new(HealthService::from_health_reporter(health_reporter.clone()));
    tokio::spawn(probes.clone().report(health_reporter));

    let kv_server = KvServiceServer::from_arc(Arc::clone(&kv)).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let admin_server = AdminServiceServer::new(admin).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let routes =
        Routes::default().add_service(Labelled(kv_server)).add_service(Labelled(admin_server)).add_service(health);
    let routes = reflection::add_to(routes, options.serves_peers).prepare();
    let http = HttpParts { probes, metrics, page: page::routes(Arc::new(gatherer)) };
    Api { routes, forward_target: kv, http, in_flight }
}
