//! Asks all members for what the status page shows of them.
//!
//! However many people look, the members are asked by one of them at a time and a few times a second: the others are
//! told the same.

use std::sync::Arc;
use std::time::Instant;

use proto::admin::v1::{GetReportRequest, GetReportResponse, GetTraceRequest, Span};
use proto::raft::v1::inspect_request::Question;
use proto::raft::v1::inspect_response::Answer;
use proto::raft::v1::{InspectRequest, InspectResponse};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use super::error::ApiError;
use super::limits::{INSPECTION_MAX, REPORT_SLOW_REQUESTS, REPORTS_AGE_MAX};
use super::node::Node;
use super::report::Reporter;
use crate::forward::Forwarder;
use crate::node::NodeStatus;
use crate::telemetry;

/// What a member answered, or why there is no answer.
pub(super) type Told<T> = Vec<(String, Result<T, String>)>;

/// The reports of all members.
#[derive(Debug)]
pub(super) struct Reports {
    /// When they were told, in milliseconds since 1970.
    pub(super) time_unix_ms: u64,
    /// By name.
    pub(super) members: Told<GetReportResponse>,
}

/// Asks the members.
pub(super) struct Gatherer<N> {
    reporter: Arc<Reporter<N>>,
    forwarder: Arc<dyn Forwarder>,
    status: watch::Receiver<NodeStatus>,
    /// What was told last, and when.
    last: Mutex<Option<(Instant, Arc<Reports>)>>,
    /// Held by whoever asks for a trace.
    tracing: Mutex<()>,
}

impl<N: Node> Gatherer<N> {
    pub(super) fn new(
        reporter: Arc<Reporter<N>>,
        forwarder: Arc<dyn Forwarder>,
        status: watch::Receiver<NodeStatus>,
    ) -> Self {
        Self { reporter, forwarder, status, last: Mutex::default(), tracing: Mutex::default() }
    }

    /// The name of the node that asks.
    pub(super) fn own_name(&self) -> &str {
        &self.reporter.name
    }

    /// The reports of all members, not older than a fraction of a second.
    pub(super) async fn reports(&self) -> Arc<Reports> {
        // Whoever comes meanwhile waits for the same answers.
        let mut last = self.last.lock().await;
        if let Some((_, reports)) = last.as_ref().filter(|(asked, _)| asked.elapsed() < REPORTS_AGE_MAX) {
            return Arc::clone(reports);
        }
        let request = GetReportRequest { slow_requests: REPORT_SLOW_REQUESTS };
        let (mut members, own) = tokio::join!(
            self.ask_peers(Question::Report(request), |answer| match answer {
                Answer::Report(report) => Some(*report),
                Answer::Trace(_) => None,
            }),
            self.reporter.report(&request)
        );
        members.push((self.own_name().to_owned(), Ok(own)));
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        let reports = Arc::new(Reports { time_unix_ms: telemetry::unix_millis(), members });
        *last = Some((Instant::now(), Arc::clone(&reports)));
        reports
    }

    /// What all members that answer remember of a trace, in the order in which it began.
    pub(super) async fn trace(&self, trace_id: [u8; 16]) -> Result<Vec<Span>, ApiError> {
        let request = GetTraceRequest { trace_id: trace_id.to_vec().into() };
        let own = self.reporter.trace(&request)?;
        let _turn = self.tracing.lock().await;
        let others = self.ask_peers(Question::Trace(request), |answer| match answer {
            Answer::Trace(trace) => Some(trace.spans),
            Answer::Report(_) => None,
        });
        let others = others.await.into_iter().filter_map(|(_, told)| told.ok()).flatten();
        let mut spans: Vec<Span> = own.spans.into_iter().chain(others).collect();
        spans.sort_by_key(|span| (span.start_time_unix_nano, u64::MAX - span.end_time_unix_nano));
        Ok(spans)
    }

    /// Asks all other members at once. `of` finds in an answer what was asked for.
    async fn ask_peers<T: Send + 'static>(&self, question: Question, of: fn(Answer) -> Option<T>) -> Told<T> {
        let peers: Vec<String> = {
            let status = self.status.borrow();
            let others = status.members.iter().filter(|member| member.name != self.own_name());
            others.map(|member| member.name.clone()).collect()
        };
        let deadline = Instant::now() + INSPECTION_MAX;
        let mut asked = JoinSet::new();
        for peer in peers {
            let (forwarder, question) = (Arc::clone(&self.forwarder), Some(question.clone()));
            asked.spawn(async move {
                let told = match forwarder.inspect(&peer, InspectRequest { question }, deadline).await {
                    Ok(InspectResponse { answer }) => {
                        answer.and_then(of).ok_or_else(|| format!("{peer} answered something else"))
                    }
                    Err(error) => Err(error.to_string()),
                };
                (peer, told)
            });
        }
        asked.join_all().await
    }
}
