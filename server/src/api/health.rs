//! Whether the node lives, and whether it should be sent requests: for probes and load balancers.
//!
//! - **live**: its loop turns and its disk does not hang. Quorum, leadership and alarms are no part of it: a restart
//!   would cure none of them.
//! - **ready**: it is a member, has recovered, has caught up once since its start, and is not shutting down. Quorum is
//!   no part of it either: without one every node would leave the load balancer, and clients would be told "connection
//!   refused" instead of what is wrong.
//!
//! Over gRPC (`grpc.health.v1`) the names `liveness` and `readiness` say just that. The empty name and
//! `kv.v1.KvService` stand for readiness; the other services serve as long as the node lives, since they are what tells
//! why it is not ready.

use std::sync::Arc;
use std::time::Duration;

use proto::admin::v1::admin_service_server::SERVICE_NAME as ADMIN_SERVICE;
use proto::kv::v1::kv_service_server::SERVICE_NAME as KV_SERVICE;
use proto::raft::v1::raft_service_server::SERVICE_NAME as RAFT_SERVICE;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::drain::Drain;
use super::limits::LIVENESS_SILENCE_MAX;
use crate::node::NodeStatus;
use crate::telemetry::Pulse;

/// How often liveness is looked at. Readiness is reported as soon as it changes.
const LIVENESS_INTERVAL: Duration = Duration::from_secs(1);

/// A part of the node that has to go on, by the name that a probe's answer gives it.
#[derive(Clone, Debug)]
pub struct Vital {
    /// Such as `the node's loop`.
    pub name: &'static str,
    /// Its sign of life.
    pub pulse: Arc<Pulse>,
}

/// Answers whether the node lives and whether it is ready.
#[derive(Clone, Debug)]
pub struct Probes {
    status: watch::Receiver<NodeStatus>,
    drain: Drain,
    vitals: Arc<[Vital]>,
}

impl Probes {
    pub(super) fn new(status: watch::Receiver<NodeStatus>, drain: Drain, vitals: Vec<Vital>) -> Self {
        Self { status, drain, vitals: vitals.into() }
    }

    /// Whether the node lives.
    ///
    /// # Errors
    ///
    /// Says what stands still, in one line.
    pub fn liveness(&self) -> Result<(), String> {
        for Vital { name, pulse } in &*self.vitals {
            if let Some(silence) = pulse.silence().filter(|silence| *silence > LIVENESS_SILENCE_MAX) {
                return Err(format!("{name} has stood still for {} s", silence.as_secs()));
            }
        }
        Ok(())
    }

    /// Whether the node should be sent requests.
    ///
    /// # Errors
    ///
    /// Says why not, in one line.
    pub fn readiness(&self) -> Result<(), String> {
        if self.drain.is_announced() {
            return Err("the node is shutting down".to_owned());
        }
        match &self.status.borrow().not_ready {
            None => Ok(()),
            // The reason may advise at length; a probe's log has one line.
            Some(reason) => Err(reason.lines().collect::<Vec<_>>().join(" ")),
        }
    }

    /// Keeps what `grpc.health.v1` says up to date, for as long as the node exists.
    pub(super) async fn report(self, reporter: HealthReporter) {
        let mut status = self.status.clone();
        let mut ending = self.drain.subscribe();
        let mut reported = None;
        loop {
            let current = (self.liveness().is_ok(), self.readiness().is_ok());
            // Every report wakes all watchers, so only changes are reported.
            if reported != Some(current) {
                report(&reporter, current).await;
                reported = Some(current);
            }
            let changed = async {
                tokio::select! {
                    changed = status.changed() => changed,
                    changed = ending.changed() => changed,
                }
            };
            if let Ok(Err(_)) = timeout(LIVENESS_INTERVAL, changed).await {
                report(&reporter, (false, false)).await;
                return;
            }
        }
    }
}

async fn report(reporter: &HealthReporter, (live, ready): (bool, bool)) {
    let serving = |is| if is { ServingStatus::Serving } else { ServingStatus::NotServing };
    for (service, is) in [
        ("", ready),
        ("readiness", ready),
        (KV_SERVICE, ready),
        ("liveness", live),
        (ADMIN_SERVICE, live),
        (RAFT_SERVICE, live),
    ] {
        reporter.set_service_status(service, serving(is)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(not_ready: Option<&str>) -> (watch::Sender<NodeStatus>, Probes, Arc<Pulse>) {
        let status = NodeStatus { not_ready: not_ready.map(str::to_owned), ..NodeStatus::default() };
        let (sender, status) = watch::channel(status);
        let pulse = Arc::new(Pulse::new());
        let vital = Vital { name: "the disk", pulse: Arc::clone(&pulse) };
        (sender, Probes::new(status, Drain::new(), vec![vital]), pulse)
    }

    #[test]
    fn a_node_without_a_leader_is_live_and_ready() {
        let (_sender, probes, pulse) = probes(None);
        assert_eq!((probes.liveness(), probes.readiness()), (Ok(()), Ok(())));
        pulse.beat();
        assert_eq!(probes.liveness(), Ok(()));
    }

    #[test]
    fn a_node_that_is_not_ready_says_why_in_one_line_and_lives() {
        let (_sender, probes, _) = probes(Some("the data directory was emptied\nremove the member"));
        let reason = "the data directory was emptied remove the member".to_owned();
        assert_eq!((probes.liveness(), probes.readiness()), (Ok(()), Err(reason)));
    }

    #[test]
    fn a_draining_node_is_not_ready_and_lives() {
        let (_sender, probes, _) = probes(None);
        probes.drain.announce();
        assert_eq!(probes.liveness(), Ok(()));
        assert!(probes.readiness().is_err());
        assert!(!probes.drain.is_draining(), "it serves whoever asks it yet");
        probes.drain.start();
        probes.drain.announce();
        assert!(probes.drain.is_draining(), "there is no way back");
        assert!(probes.readiness().is_err());
    }

    #[tokio::test]
    async fn the_report_follows_the_node() {
        let (sender, probes, _) = probes(Some("starting"));
        let reporter = HealthReporter::new();
        let service = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
        let drain = probes.drain.clone();
        let task = tokio::spawn(probes.report(reporter));

        let until = async |name: &str, expected: i32| {
            use tonic_health::pb::health_server::Health as _;
            loop {
                let request = tonic_health::pb::HealthCheckRequest { service: name.to_owned() };
                match service.check(tonic::Request::new(request)).await {
                    Ok(response) if response.get_ref().status == expected => return,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let (serving, not_serving) = (1, 2);
        until("readiness", not_serving).await;
        until("liveness", serving).await;
        until(ADMIN_SERVICE, serving).await;
        sender.send_replace(NodeStatus::default());
        for name in ["", "readiness", KV_SERVICE] {
            until(name, serving).await;
        }
        drain.announce();
        until(KV_SERVICE, not_serving).await;
        until("liveness", serving).await;
        drop(sender);
        until("liveness", not_serving).await;
        task.await.expect("the task ends with the node");
    }
}
