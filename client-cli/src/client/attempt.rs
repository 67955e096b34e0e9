//! One attempt: a request goes to one endpoint, on the stream there or as a call of its own, and comes back with an
//! answer or a status. Here the two roads meet: nothing above tells one from the other.

use super::{
    Client, Leader, classify,
    pipe::{Asked, Done, Late, Pipe},
    rpc::{self, Progress, Rpc},
};
use crate::{Endpoint, routes::Connection, trace};
use prost::Message as _;
use proto::kv::v1::{self as kv, pipelined_response};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::{Code, Request, Response, Status, transport::Channel};
use tracing::{Instrument as _, Span};

/// gRPC's request metadata that tells a server of earlier attempts (gRFC A6).
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// A request as it is sent in one attempt.
pub(super) struct Message<'r, R> {
    pub(super) request: &'r R,
    /// The name of a write.
    pub(super) name: Option<kv::RequestId>,
    /// How many attempts there were before.
    pub(super) tries: u32,
}

/// An attempt that ended.
pub(super) struct Called<A> {
    pub(super) result: Result<A, Status>,
    /// The leader that the node named.
    pub(super) leader: Option<Arc<Leader>>,
    /// Whether the request may have left this process.
    pub(super) left: bool,
    pub(super) took: Duration,
    /// The number of the connection.
    pub(super) connection: u64,
    pub(super) span: Span,
}

/// How an attempt ended, by either road.
struct Ended<A> {
    result: Result<A, Status>,
    leader: Option<Arc<Leader>>,
    left: bool,
}

impl<R: Rpc> Message<'_, R> {
    fn to_wire(&self) -> R {
        let mut wire = self.request.clone();
        if let Some(name) = &self.name {
            wire.set_name(name.clone());
        }
        wire
    }
}

/// Makes one attempt that takes `budget` at most.
pub(super) async fn call<R: Rpc>(
    client: &Client,
    endpoint: &Endpoint,
    message: Message<'_, R>,
    budget: Duration,
) -> Called<R::Answer> {
    let span = trace::attempt_span(R::METHOD, endpoint);
    tracing::debug!("{} at {endpoint}", R::METHOD);
    let begun = Instant::now();
    let connection = client.routes.connection(endpoint, R::PIPELINED && client.pipelining);
    let Connection { channel, number, pipe } = connection;
    let mut ended = None;
    if let Some(pipe) = pipe {
        let asking = on_stream(&pipe, &message, begun + budget, budget, &span);
        ended = asking.instrument(span.clone()).await;
    }
    let Ended { result, leader, left } = match ended {
        Some(ended) => ended,
        // A call's future is large, and would be in that of each request on a stream.
        None => Box::pin(alone(channel, &message, budget.saturating_sub(begun.elapsed()), &span)).await,
    };
    Called { result, leader, left, took: begun.elapsed(), connection: number, span }
}

/// Asks on a stream with others. None if the node knows no streams; then the request did not leave.
async fn on_stream<R: Rpc>(
    pipe: &Pipe,
    message: &Message<'_, R>,
    deadline: Instant,
    budget: Duration,
    span: &Span,
) -> Option<Ended<R::Answer>> {
    let request = message.to_wire().to_pipelined()?;
    let asked = Asked { request, traceparent: trace::traceparent(span), deadline };
    Some(match pipe.call(asked).await {
        Ok(Done::Answered(response, leader)) => Ended { result: understood::<R>(response), leader, left: true },
        Ok(Done::Lost { status, left }) => Ended { result: Err(status), leader: None, left },
        Ok(Done::Unsupported) => return None,
        Err(Late { left }) => Ended { result: Err(late(budget)), leader: None, left },
    })
}

/// The answer to a request on a stream, as a call would have had it.
fn understood<R: Rpc>(response: Option<pipelined_response::Response>) -> Result<R::Answer, Status> {
    match response {
        Some(pipelined_response::Response::Error(error)) => Err(status(&error)),
        Some(response) => {
            R::from_pipelined(response).ok_or_else(|| Status::internal("the node answered another question"))
        }
        None => Err(Status::internal("the node's answer is none that this client knows")),
    }
}

/// The status that a call would have ended with.
fn status(error: &kv::PipelinedError) -> Status {
    let code = match Code::from(error.code) {
        // An error that claims to be none.
        Code::Ok => Code::Unknown,
        code => code,
    };
    // On the wire the error is the google.rpc.Status that a call's details are.
    Status::with_details(code, error.message.clone(), error.encode_to_vec().into())
}

/// Makes a call of its own.
async fn alone<R: Rpc>(channel: Channel, message: &Message<'_, R>, budget: Duration, span: &Span) -> Ended<R::Answer> {
    let mut request = Request::new(message.to_wire());
    if message.tries > 0 {
        request.metadata_mut().insert(PREVIOUS_ATTEMPTS, message.tries.into());
    }
    request.set_timeout(budget);
    trace::inject(span, request.metadata_mut());
    let progress = Progress::default();
    // If this future is dropped, what has not left by then must not leave later.
    let _withdrawal = progress.withdraw_on_drop();
    let call = rpc::call(channel, request, progress.clone()).instrument(span.clone());
    let result = tokio::time::timeout(budget, call).await.unwrap_or_else(|_| Err(late(budget)));
    let left = !progress.withdraw();
    let metadata = match &result {
        Ok(response) => response.metadata(),
        Err(status) => status.metadata(),
    };
    let leader = classify::leader(metadata).map(Arc::new);
    Ended { result: result.map(Response::into_inner), leader, left }
}

fn late(budget: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {} ms", budget.as_millis()))
}
