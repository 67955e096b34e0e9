//! Questions to each endpoint: what a node says of itself.

use super::{Client, request, rpc::Rpc};
use crate::{Endpoint, Error, SlowRequest, Span, StatusResponse, trace};
use proto::admin::v1::{
    GetLogFilterRequest, GetLogFilterResponse, GetTraceRequest, ListSlowRequestsRequest, StatusRequest,
    UpdateLogFilterRequest, UpdateLogFilterResponse,
};
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// What each endpoint answered, in the order in which they are configured.
type OfEach<A> = Vec<(Endpoint, Result<A, Error>)>;

impl Client {
    /// The status of the node at `endpoint`, asked once and nowhere else. It needs no leader and no quorum.
    ///
    /// # Errors
    ///
    /// Those of any request.
    pub async fn status(&self, endpoint: &Endpoint) -> Result<StatusResponse, Error> {
        request::ask(self, endpoint, StatusRequest {}).await
    }

    /// The status of each configured endpoint, all asked at once, in the order in which they are configured.
    pub async fn statuses(&self) -> OfEach<StatusResponse> {
        self.ask_each("status", StatusRequest {}).await
    }

    /// The spans that the node at each configured endpoint has of a trace, by the trace's id. A node remembers traces
    /// of lately, and of a trace that it does not know it has none.
    pub async fn trace(&self, trace_id: [u8; 16]) -> OfEach<Vec<Span>> {
        let request = GetTraceRequest { trace_id: trace_id.to_vec().into() };
        let answers = self.ask_each("get_trace", request).await;
        answers.into_iter().map(|(endpoint, answer)| (endpoint, answer.map(|trace| trace.spans))).collect()
    }

    /// The requests that took the node at each configured endpoint longest in the last minutes, at most `limit` of
    /// each; zero for all that it remembers.
    pub async fn slow_requests(&self, limit: u32) -> OfEach<Vec<SlowRequest>> {
        let answers = self.ask_each("list_slow_requests", ListSlowRequestsRequest { limit }).await;
        answers.into_iter().map(|(endpoint, answer)| (endpoint, answer.map(|slow| slow.requests))).collect()
    }

    /// Which events the node at each configured endpoint logs, as a list of directives, and which ones it was started
    /// with.
    pub async fn log_filters(&self) -> OfEach<(String, String)> {
        let answers = self.ask_each("get_log_filter", GetLogFilterRequest {}).await;
        let filters = |GetLogFilterResponse { filter, configured_filter }| (filter, configured_filter);
        answers.into_iter().map(|(endpoint, answer)| (endpoint, answer.map(filters))).collect()
    }

    /// Changes which events the node at each configured endpoint logs, until it is changed again or the node stops; an
    /// empty filter stands for the one that it was started with. Each answers with the filter now, and the one before.
    pub async fn update_log_filters(&self, filter: &str) -> OfEach<(String, String)> {
        let request = UpdateLogFilterRequest { filter: filter.to_owned() };
        let answers = self.ask_each("update_log_filter", request).await;
        let filters = |UpdateLogFilterResponse { filter, previous_filter }| (filter, previous_filter);
        answers.into_iter().map(|(endpoint, answer)| (endpoint, answer.map(filters))).collect()
    }

    async fn ask_each<R: Rpc>(&self, operation: &'static str, question: R) -> OfEach<R::Answer> {
        let span = trace::request_span(operation);
        let mut questions = JoinSet::new();
        for (at, endpoint) in self.endpoints().iter().cloned().enumerate() {
            let (client, question) = (self.clone(), question.clone());
            let asked = async move {
                let answer = request::ask(&client, &endpoint, question).await;
                (at, endpoint, answer)
            };
            questions.spawn(asked.instrument(span.clone()));
        }
        let mut answers = questions.join_all().await;
        answers.sort_by_key(|(at, ..)| *at);
        answers.into_iter().map(|(_, endpoint, answer)| (endpoint, answer)).collect()
    }
}
