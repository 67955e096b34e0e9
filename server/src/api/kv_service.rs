//! The kv.v1 service, and the same service for requests that other nodes forward.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::kv::v1::kv_service_server::KvService;
use proto::kv::v1::{
    Consistency, DeleteRequest, DeleteResponse, GetOutcomeRequest, GetOutcomeResponse, GetRequest, GetResponse,
    PipelineRequest, PipelineResponse, PutRequest, PutResponse, RequestId,
};
use proto::raft::v1::inspect_request::Question;
use proto::raft::v1::inspect_response::Answer as Told;
use proto::raft::v1::{ForwardRequest, ForwardResponse, InspectRequest, InspectResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request as Call, Response, Status, Streaming};

use super::deadline::{self, Arrival};
use super::drain::Drain;
use super::error::{ApiError, CallKind};
use super::leader::LeaderHint;
use super::limits::{Arriving, InFlight, Permit, in_flight_units};
use super::measure;
use super::node::Node;
use super::operation::{Answer, Operation, Request};
use super::pipeline::{self, Pipelines};
use super::report::Reporter;
use super::router::{FORWARD_METHOD, Failure, Router};
use super::validate::Violation;
use crate::forward::ForwardTarget;
use crate::telemetry::{self, Measured, Metrics, RequestKind, RequestSpan, SpanKind, TraceContext};

/// The methods' full names.
pub(super) const PUT: &str = "kv.v1.KvService/Put";
pub(super) const GET: &str = "kv.v1.KvService/Get";
pub(super) const DELETE: &str = "kv.v1.KvService/Delete";
pub(super) const GET_OUTCOME: &str = "kv.v1.KvService/GetOutcome";

/// The kv.v1 service of a node.
pub(super) struct KvApi<N> {
    pub(super) router: Arc<Router<N>>,
    pub(super) leader: Arc<LeaderHint>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) drain: Drain,
    pub(super) metrics: Arc<Metrics>,
    pub(super) reporter: Arc<Reporter<N>>,
    /// How long a request may take whose client sets no deadline.
    pub(super) request_timeout: Duration,
}

impl<N: Node> KvApi<N> {
    /// Answers a client's call of `method`, which holds `request`.
    async fn serve(
        &self,
        method: &'static str,
        (arrival, metadata): (Arrival, &MetadataMap),
        request: Request,
    ) -> Result<Response<Answer>, Status> {
        let measured = Measured { kind: metric_kind(&request), arrived: arrival.moment() };
        let span = telemetry::server_span(metadata, method).with_consistency_of(measured.kind);
        let (kind, id) = (kind(&request), request_id(&request));
        match self.admit_and_run((arrival, metadata), request, &span).await {
            Ok(answer) => {
                measure::answered(&self.metrics, measured, Ok(()));
                span.end(Code::Ok);
                let mut response = Response::new(answer);
                self.leader.add_to(response.metadata_mut());
                Ok(response)
            }
            Err(failure) => {
                let mut status = failure.into_status(|error| error.to_status_of(kind, id.as_ref()));
                measure::answered(&self.metrics, measured, Err(&status));
                span.end(status.code());
                self.leader.add_to(status.metadata_mut());
                Err(status)
            }
        }
    }

    async fn admit_and_run(
        &self,
        (arrival, metadata): (Arrival, &MetadataMap),
        request: Request,
        span: &RequestSpan,
    ) -> Result<Answer, Failure> {
        let deadline = deadline::of_request(metadata, self.request_timeout, arrival, Instant::now())?;
        let operation = Operation::new(request).map_err(ApiError::Invalid)?;
        if self.drain.is_draining() {
            return Err(ApiError::Draining.into());
        }
        let mut permit = self.in_flight.admit(self.arriving(&operation, Instant::now(), deadline))?;
        let result = self.router.run(operation, deadline, span).await;
        note_answer(&mut permit, &result);
        result
    }

    async fn admit_and_run_forwarded(
        &self,
        request: Request,
        relay: bool,
        deadline: Instant,
        span: &RequestSpan,
    ) -> Result<Answer, Failure> {
        let operation = Operation::new(request).map_err(ApiError::Invalid)?;
        if self.drain.is_draining() {
            return Err(ApiError::Draining.into());
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(ApiError::DeadlineExceeded.into());
        }
        let mut permit = self.in_flight.admit(self.arriving(&operation, now, deadline))?;
        let result = self.router.run_forwarded(operation, relay, deadline::answer_by(now, deadline), span).await;
        note_answer(&mut permit, &result);
        result
    }

    fn arriving(&self, operation: &Operation, now: Instant, deadline: Instant) -> Arriving {
        // What another node runs is judged there.
        let queue = self.router.runs().includes(operation).then(|| operation.queue()).flatten();
        Arriving { units: in_flight_units(operation.value_bytes()), held: 0, queue, now, deadline }
    }
}

/// Tells the queue of a request whether it was run and answered by this node.
fn note_answer(permit: &mut Permit<'_>, result: &Result<Answer, Failure>) {
    match result {
        Ok(_) => permit.note_answer(),
        Err(Failure::Own(error)) if error.is_of_the_store() => permit.note_answer(),
        Err(_) => {}
    }
}

/// The call in parts, and its message as a request of `kind`.
fn parts<T>(call: Call<T>, kind: impl FnOnce(T) -> Request) -> (Arrival, MetadataMap, Request) {
    let (metadata, extensions, message) = call.into_parts();
    (Arrival::of(&extensions), metadata, kind(message))
}

/// The name of a request, if it has one.
fn request_id(request: &Request) -> Option<RequestId> {
    match request {
        Request::Put(request) => request.request_id.clone(),
        Request::Delete(request) => request.request_id.clone(),
        Request::GetOutcome(request) => request.request_id.clone(),
        Request::Get(_) => None,
    }
}

/// What a request is in the metrics.
pub(super) fn metric_kind(request: &Request) -> RequestKind {
    match request {
        Request::Put(_) => RequestKind::Put,
        Request::Delete(_) => RequestKind::Delete,
        Request::GetOutcome(_) => RequestKind::GetOutcome,
        Request::Get(get) => match get.consistency() {
            Consistency::Unspecified | Consistency::Linearizable => RequestKind::GetLinearizable,
            Consistency::Quorum => RequestKind::GetQuorum,
            Consistency::Stale => RequestKind::GetStale,
        },
    }
}

/// What a request is to the store.
pub(super) fn kind(request: &Request) -> CallKind {
    match request {
        Request::Put(_) | Request::Delete(_) => CallKind::Write,
        Request::Get(_) | Request::GetOutcome(_) => CallKind::Other,
    }
}

#[tonic::async_trait]
impl<N: Node> KvService for KvApi<N> {
    type PipelineStream = ReceiverStream<Result<PipelineResponse, Status>>;

    async fn put(&self, call: Call<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (arrival, metadata, request) = parts(call, Request::Put);
        let answer = self.serve(PUT, (arrival, &metadata), request).await?;
        Ok(answer.map(|answer| match answer {
            Answer::Put(response) => response,
            _ => unreachable!("an answer is of its request's kind"),
        }))
    }

    async fn get(&self, call: Call<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let (arrival, metadata, request) = parts(call, Request::Get);
        let answer = self.serve(GET, (arrival, &metadata), request).await?;
        Ok(answer.map(|answer| match answer {
            Answer::Get(response) => response,
            _ => unreachable!("an answer is of its request's kind"),
        }))
    }

    async fn delete(&self, call: Call<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let (arrival, metadata, request) = parts(call, Request::Delete);
        let answer = self.serve(DELETE, (arrival, &metadata), request).await?;
        Ok(answer.map(|answer| match answer {
            Answer::Delete(response) => response,
            _ => unreachable!("an answer is of its request's kind"),
        }))
    }

    async fn get_outcome(&self, call: Call<GetOutcomeRequest>) -> Result<Response<GetOutcomeResponse>, Status> {
        let (arrival, metadata, request) = parts(call, Request::GetOutcome);
        let answer = self.serve(GET_OUTCOME, (arrival, &metadata), request).await?;
        Ok(answer.map(|answer| match answer {
            Answer::GetOutcome(response) => response,
            _ => unreachable!("an answer is of its request's kind"),
        }))
    }

    async fn pipeline(&self, call: Call<Streaming<PipelineRequest>>) -> Result<Response<Self::PipelineStream>, Status> {
        let shared = Pipelines {
            router: Arc::clone(&self.router),
            leader: Arc::clone(&self.leader),
            in_flight: Arc::clone(&self.in_flight),
            drain: self.drain.clone(),
            metrics: Arc::clone(&self.metrics),
            request_timeout: self.request_timeout,
        };
        let mut response = Response::new(pipeline::open(shared, call.into_inner()));
        self.leader.add_to(response.metadata_mut());
        Ok(response)
    }
}

#[tonic::async_trait]
impl<N: Node> ForwardTarget for KvApi<N> {
    async fn run_forwarded(
        &self,
        request: ForwardRequest,
        deadline: Instant,
        trace: Option<TraceContext>,
    ) -> Result<ForwardResponse, Status> {
        let span = match &trace {
            Some(trace) => telemetry::child_span(trace, FORWARD_METHOD, SpanKind::Server).with_method(FORWARD_METHOD),
            None => RequestSpan::NONE,
        };
        let ForwardRequest { relay, question, request, .. } = request;
        if question {
            let answer = if self.drain.is_draining() { Err(ApiError::Draining) } else { self.router.would_relay() };
            let answer = answer.map(|()| ForwardResponse { response: None });
            return answer.map_err(|error| error.to_status(CallKind::Other));
        }
        let id = request.as_ref().and_then(request_id);
        let (kind, result) = match request {
            Some(request) => (kind(&request), self.admit_and_run_forwarded(request, relay, deadline, &span).await),
            // Whatever was meant, it was not run.
            None => (CallKind::Write, Err(ApiError::from(Violation::RequestMissing).into())),
        };
        match result {
            Ok(answer) => {
                span.end(Code::Ok);
                Ok(ForwardResponse { response: Some(answer) })
            }
            Err(failure) => {
                let mut status = failure.into_status(|error| error.to_status_of(kind, id.as_ref()));
                span.end(status.code());
                self.leader.add_to(status.metadata_mut());
                Err(status)
            }
        }
    }
    async fn inspect(&self, request: InspectRequest) -> Result<InspectResponse, Status> {
        let told = match request.question {
            Some(Question::Report(request)) => Ok(Told::Report(Box::new(self.reporter.report(&request).await))),
            Some(Question::Trace(request)) => self.reporter.trace(&request).map(Told::Trace),
            None => Err(Violation::RequestMissing.into()),
        };
        let answer = told.map_err(|error| error.to_status(CallKind::Other))?;
        Ok(InspectResponse { answer: Some(answer) })
    }
}
