//! Streams of many requests: the fast road.
//!
//! A call of its own costs its two ends some 45 microseconds, most of them for what surrounds it: a stream of HTTP/2,
//! headers, a task, a timer, a channel for one answer. Here one task serves a stream. What is in a frame goes to the
//! node's loop as one [batch](crate::node::Batch), the answers of a turn of the loop come back together, and as many
//! as are there make one frame.
//!
//! Only what the node runs itself goes this road: everything if it leads, linearizable reads if it follows. What it
//! cannot run, what comes back because leadership has moved, and what has no answer in time because the node is behind
//! its leader gets a task that runs it as a call of its own is run.
//!
//! Nothing in here grows with what a client does. While a stream has as many requests under way, or answered and not
//! taken, as the [limits](super::limits) allow, nothing is read from it, and then HTTP/2 stops the client. One of which
//! something was refused is read [more slowly](restraint) for a while. A request's room of the node's is given back as
//! soon as there is an answer, however slowly it is read.

mod answer;
mod late;
mod restraint;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::kv::v1::pipelined_request::Request as PipelinedAction;
use proto::kv::v1::{PipelineRequest, PipelineResponse, PipelinedRequest};
use tokio::sync::mpsc::{self, Permit};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::deadline::answer_by;
use super::drain::{Drain, Stage};
use super::error::{ApiError, CallKind};
use super::kv_service::{DELETE, GET, GET_OUTCOME, PUT, kind, metric_kind};
use super::labels::library_error;
use super::leader::LeaderHint;
use super::limits::{
    Arriving, FRAME_ANSWERS_MAX, FRAME_BYTES_MAX, FRAMES_WAITING_MAX, GivenBack, InFlight, REQUEST_TIMEOUT_MAX,
    STREAM_SWEEP_INTERVAL, in_flight_units,
};
use super::measure;
use super::node::Node;
use super::operation::{self, Answer, Operation, Request};
use super::router::{Failure, Router, Runs, read_here_until};
use super::validate::Violation;
use crate::node::{
    Action, ActionResult, Answered, Answers, BATCH_OPERATIONS_MAX, Batch, BatchedOperation, Mark, Pending, Unavailable,
};
use crate::telemetry::{self, Measured, Metrics, RequestSpan};
use answer::{Ready, SameRefusal};
use restraint::Restraint;
use window::{Detour, Identity, Road, UnderWay, Window};

/// What the streams of a node share.
pub(super) struct Pipelines<N> {
    pub(super) router: Arc<Router<N>>,
    pub(super) leader: Arc<LeaderHint>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) drain: Drain,
    pub(super) metrics: Arc<Metrics>,
    /// How long a request may take for which the client sets no time.
    pub(super) request_timeout: Duration,
}

type Responses = mpsc::Sender<Result<PipelineResponse, Status>>;

/// Serves a stream, in a task that ends with it.
pub(super) fn open<N: Node>(
    shared: Pipelines<N>,
    requests: Streaming<PipelineRequest>,
) -> ReceiverStream<Result<PipelineResponse, Status>> {
    let (responses, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
    let pipeline = Pipeline {
        window: Window::new(Arc::clone(&shared.in_flight)),
        shared,
        queue: Queue::default(),
        ready: VecDeque::new(),
        answers: Answers::new(),
        answered: Vec::new(),
        tasks: JoinSet::new(),
        reading: Reading::Open,
        restraint: Restraint::default(),
        idle_sweeps: 0,
    };
    tokio::spawn(async move {
        // Everything that the stream has is gone before its last word is waited for: a client may never read it.
        let end = pipeline.serve(requests, &responses).await;
        if let Err(status) = end {
            // A client that has gone away needs no last word.
            let _ = responses.send(Err(status)).await;
        }
    });
    ReceiverStream::new(receiver)
}

/// A stream and what it has under way.
struct Pipeline<N> {
    shared: Pipelines<N>,
    window: Window,
    queue: Queue,
    /// What is to be sent, as soon as the client takes it.
    ready: VecDeque<Ready>,
    answers: Answers,
    /// Room for the answers that are being taken; empty in between.
    answered: Vec<Answered>,
    tasks: JoinSet<Ended>,
    reading: Reading,
    restraint: Restraint,
    /// How often in a row nothing was under way when deadlines were looked at.
    idle_sweeps: u32,
}

/// Whether there is more to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// The client has sent everything.
    Ended,
    /// The node is shutting down and reads no more.
    Draining,
}

/// The rest of the frame that was read last.
#[derive(Default)]
struct Queue {
    requests: std::vec::IntoIter<PipelinedRequest>,
    /// When the frame arrived.
    arrived: Option<Instant>,
    /// How many requests it has, and for how many of them there was no room.
    count: usize,
    refused: usize,
}

/// What is the same for all requests that are begun together.
struct Circumstances {
    now: Instant,
    draining: bool,
    /// What this node runs itself.
    runs: Runs,
    /// How many they are at most.
    count: usize,
    /// Of their batch, once there is something in it.
    pending: Option<Arc<Pending>>,
    /// What those are told for whom there is no room.
    refusal: Option<SameRefusal>,
}

/// What came of a request that had a task of its own.
struct Ended {
    mark: Mark,
    span: RequestSpan,
    result: Result<Answer, Failure>,
}

impl<N: Node> Pipeline<N> {
    /// Serves the stream until it ends: well, or with a status, or because nobody is there any more.
    async fn serve(mut self, mut requests: Streaming<PipelineRequest>, responses: &Responses) -> Result<(), Status> {
        let mut draining = self.shared.drain.subscribe();
        let mut sweep = interval(STREAM_SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.run_queued()?;
            while !self.ready.is_empty()
                && let Ok(place) = responses.try_reserve()
            {
                self.send(place);
            }
            let has_ended = self.window.is_empty() && self.ready.is_empty() && self.queue.requests.len() == 0;
            match self.reading {
                Reading::Ended if has_ended => return Ok(()),
                Reading::Draining if has_ended => return Err(ApiError::Draining.to_status(CallKind::Other)),
                Reading::Open | Reading::Ended | Reading::Draining => {}
            }
            let is_reading = self.reading == Reading::Open;
            let rests_until = self.restraint.until();
            tokio::select! {
                biased;
                () = responses.closed() => return Ok(()),
                () = self.answers.arrived() => self.take_answers(),
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.take_ended(ended),
                Ok(place) = responses.reserve(), if !self.ready.is_empty() => self.send(place),
                _ = sweep.tick(), if self.window.needs_sweeping() => self.sweep(),
                Ok(_) = draining.wait_for(|stage| *stage == Stage::Draining), if is_reading => {
                    self.reading = Reading::Draining;
                }
                () = rest(rests_until), if is_reading && rests_until.is_some() => {}
                frame = requests.message(), if is_reading && rests_until.is_none() && self.has_room() => match frame {
                    Ok(Some(frame)) => self.queue = Queue::of(frame),
                    Ok(None) => self.reading = Reading::Ended,
                    Err(status) => return Err(labelled(status)),
                },
            }
        }
    }

    /// Whether the next frame may be read.
    fn has_room(&self) -> bool {
        self.queue.requests.len() == 0 && self.window.room(self.ready.len()) > 0
    }

    /// Begins what was read, as far as there is room.
    fn run_queued(&mut self) -> Result<(), Status> {
        loop {
            let count = self.queue.requests.len().min(self.window.room(self.ready.len())).min(BATCH_OPERATIONS_MAX);
            if count == 0 {
                return Ok(());
            }
            let mut circumstances = Circumstances {
                now: Instant::now(),
                draining: self.shared.drain.is_draining(),
                runs: self.shared.router.runs(),
                count,
                pending: None,
                refusal: None,
            };
            let mut operations = Vec::with_capacity(if circumstances.runs == Runs::Nothing { 0 } else { count });
            for _ in 0..count {
                // The one before may have been so large that no other has room beside it.
                if self.window.room(self.ready.len()) == 0 {
                    break;
                }
                let Some(request) = self.queue.requests.next() else { break };
                operations.extend(self.begin(request, &mut circumstances, operations.len())?);
            }
            if let Some(pending) = circumstances.pending {
                self.submit(Batch::new(operations, pending));
            }
            if self.queue.requests.len() == 0 {
                let Queue { arrived, count, refused, .. } = self.queue;
                self.restraint.note(arrived.unwrap_or(circumstances.now), count, refused);
            }
        }
    }

    /// Begins a request: what goes to `place` of the batch, unless it takes another road or is answered already.
    fn begin(
        &mut self,
        request: PipelinedRequest,
        circumstances: &mut Circumstances,
        place: usize,
    ) -> Result<Option<BatchedOperation>, Status> {
        let PipelinedRequest { tag, timeout_ms, traceparent, request } = request;
        self.window.check(tag).map_err(|violation| ApiError::from(violation).to_status(CallKind::Other))?;
        let Some((method, request)) = request.map(action) else {
            // Whatever was meant, it was not run.
            self.refuse(tag, CallKind::Write, &Violation::RequestMissing.into(), (RequestSpan::NONE, None));
            return Ok(None);
        };
        let measured = Measured { kind: metric_kind(&request), arrived: self.arrived(circumstances.now) };
        if let Some(refusal) = &circumstances.refusal
            && traceparent.is_empty()
            && let Some(refused) = refusal.repeat(tag, method, timeout_ms)
        {
            self.queue.refused += 1;
            measure::refused_for_room(&self.shared.metrics, measured);
            self.ready.push_back(refused);
            return Ok(None);
        }
        let span = telemetry::pipelined_span(&traceparent, method).with_consistency_of(measured.kind);
        let request_kind = kind(&request);
        let operation = match Operation::new(request) {
            Ok(operation) => operation,
            Err(violation) => {
                self.refuse(tag, request_kind, &violation.into(), (span, Some(measured)));
                return Ok(None);
            }
        };
        let deadline = self.deadline(timeout_ms, circumstances.now);
        let units = in_flight_units(operation.value_bytes());
        let runs_here = circumstances.runs.includes(&operation);
        // What another node runs is judged there.
        let queue = runs_here.then(|| operation.queue()).flatten();
        let arriving = Arriving { units, held: self.window.units(), queue, now: circumstances.now, deadline };
        if let Err(error) = self.admit(circumstances, &arriving) {
            self.queue.refused += usize::from(matches!(error, ApiError::Overloaded { .. }));
            let refused = self.refuse(tag, request_kind, &error, (span, Some(measured)));
            if units == 1 && matches!(error, ApiError::Overloaded { .. }) {
                circumstances.refusal = Some(SameRefusal::of(method, timeout_ms, refused));
            }
            return Ok(None);
        }
        let identity = Identity::of(&operation);
        if !runs_here {
            let request = UnderWay { units, queue, identity, measured, deadline, road: Road::Task, span };
            let mark = self.window.begin(tag, request);
            self.run_in_task(mark, operation, &mut GivenBack::default());
            return Ok(None);
        }
        let new_batch = || Arc::new(Pending::new(circumstances.count, &self.answers));
        let pending = Arc::clone(circumstances.pending.get_or_insert_with(new_batch));
        let action = Action::from(operation);
        // Who leads waits for nobody else's log.
        let detour = match &action {
            Action::Read(get) if circumstances.runs == Runs::Reads => {
                let begun = circumstances.now;
                Some(Box::new(Detour { begun, after: read_here_until(begun, deadline), get: get.clone() }))
            }
            Action::Read(_) | Action::Write(_) => None,
        };
        let (trace, road) = (span.context(), Road::Batch { pending, place, detour });
        let request = UnderWay { units, queue, identity, measured, deadline, road, span };
        let due = request.due();
        let mark = self.window.begin(tag, request);
        Ok(Some(BatchedOperation { mark, action, deadline: due, trace }))
    }

    /// When the frame that was read last arrived.
    fn arrived(&self, now: Instant) -> Instant {
        self.queue.arrived.unwrap_or(now)
    }

    /// When work on a request of the frame that was read last ends.
    fn deadline(&self, timeout_ms: u32, now: Instant) -> Instant {
        let arrived = self.arrived(now);
        let timeout = match timeout_ms {
            0 => self.shared.request_timeout,
            timeout_ms => Duration::from_millis(timeout_ms.into()),
        };
        answer_by(arrived, arrived + timeout.min(REQUEST_TIMEOUT_MAX))
    }

    /// Takes a request in, or says why not.
    fn admit(&mut self, circumstances: &Circumstances, arriving: &Arriving) -> Result<(), ApiError> {
        if circumstances.draining {
            return Err(ApiError::Draining);
        }
        // It may have waited for room for too long.
        if arriving.deadline <= arriving.now {
            return Err(ApiError::DeadlineExceeded);
        }
        self.window.take(arriving)
    }

    /// Answers a request that is not begun.
    fn refuse(
        &mut self,
        tag: u64,
        kind: CallKind,
        error: &ApiError,
        (span, measured): (RequestSpan, Option<Measured>),
    ) -> &Ready {
        let status = error.to_status(kind);
        if let Some(measured) = measured {
            measure::answered(&self.shared.metrics, measured, Err(&status));
        }
        span.end(status.code());
        self.ready.push_back(Ready::new(tag, Err(status)));
        &self.ready[self.ready.len() - 1]
    }

    /// Hands a batch to the node.
    fn submit(&mut self, batch: Batch) {
        let Err((unavailable, batch)) = self.shared.router.node.submit_batch(batch) else { return };
        for BatchedOperation { mark, action, .. } in batch.into_operations() {
            self.answered.push(Answered { mark, result: not_run(action, unavailable.clone()) });
        }
        self.end_answered();
    }

    /// Gives a request a task of its own, which runs it where it belongs.
    fn run_in_task(&mut self, mark: Mark, operation: Operation, given_back: &mut GivenBack) {
        // It may have ended: its deadline passed before it came back.
        let Some((mark, request)) = self.window.turn_off(mark, given_back) else { return };
        let (deadline, span) = (request.deadline, std::mem::replace(&mut request.span, RequestSpan::NONE));
        let router = Arc::clone(&self.shared.router);
        self.tasks.spawn(async move {
            let result = router.run(operation, deadline, &span).await;
            Ended { mark, span, result }
        });
    }

    fn take_ended(&mut self, ended: Result<Ended, JoinError>) {
        let Ended { mark, span, result } = match ended {
            Ok(ended) => ended,
            // No task is cancelled before the stream ends; what is wrong with one is wrong with the stream.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let mut given_back = GivenBack::default();
        if let Some(request) = self.window.end(mark, None, &mut given_back) {
            let own = |error: ApiError| request.identity.status(&error);
            let result = result.map_err(|failure| failure.into_status(own));
            measure::answered(&self.shared.metrics, request.measured, result.as_ref().map(|_| ()));
            span.end(answer::code(&result));
            self.ready.push_back(Ready::new(mark.tag, result));
        }
        self.window.settle(given_back);
    }

    /// Takes the answers that have come from the node.
    fn take_answers(&mut self) {
        self.answers.take(&mut self.answered);
        self.end_answered();
    }

    fn end_answered(&mut self) {
        let mut answered = std::mem::take(&mut self.answered);
        let (now, mut given_back) = (Instant::now(), GivenBack::default());
        for Answered { mark, result } in answered.drain(..) {
            let was_run = matches!(
                &result,
                ActionResult::Written { result: Ok(_), .. } | ActionResult::Read { result: Ok(_), .. }
            );
            let result = match result {
                ActionResult::Written { key, result } => {
                    result.map_err(ApiError::from).and_then(|result| operation::written(&key, result))
                }
                ActionResult::Read { key, result } => {
                    result.map_err(ApiError::from).and_then(|result| operation::read(&key, result))
                }
                ActionResult::NotRun(action) => {
                    self.run_in_task(mark, action.into(), &mut given_back);
                    continue;
                }
            };
            self.end(mark, result, was_run.then_some(now), &mut given_back);
        }
        self.window.settle(given_back);
        self.answered = answered;
    }

    /// Answers a request, unless it was answered before.
    fn end(
        &mut self,
        mark: Mark,
        result: Result<Answer, ApiError>,
        answered: Option<Instant>,
        given_back: &mut GivenBack,
    ) {
        let Some(request) = self.window.end(mark, answered, given_back) else { return };
        let result = result.map_err(|error| request.identity.status(&error));
        measure::answered(&self.shared.metrics, request.measured, result.as_ref().map(|_| ()));
        request.span.end(answer::code(&result));
        self.ready.push_back(Ready::new(mark.tag, result));
    }

    /// Sends what is ready, as much of it as one frame holds.
    fn send(&mut self, place: Permit<'_, Result<PipelineResponse, Status>>) {
        let mut bytes = 0;
        let mut responses = Vec::with_capacity(self.ready.len().min(FRAME_ANSWERS_MAX));
        while responses.len() < FRAME_ANSWERS_MAX
            && bytes < FRAME_BYTES_MAX
            && let Some(ready) = self.ready.pop_front()
        {
            bytes += ready.bytes;
            responses.push(ready.response);
        }
        let mut frame = PipelineResponse { responses, ..PipelineResponse::default() };
        if let Some(leader) = self.shared.leader.elsewhere() {
            frame.leader_name = leader.name;
            frame.leader_address = leader.client_address.unwrap_or_default();
        }
        place.send(Ok(frame));
    }
}

impl Queue {
    fn of(frame: PipelineRequest) -> Self {
        let count = frame.requests.len();
        Self { requests: frame.requests.into_iter(), arrived: Some(Instant::now()), count, refused: 0 }
    }
}

/// Waits until a stream may be read again.
async fn rest(until: Option<Instant>) {
    if let Some(until) = until {
        sleep_until(until.into()).await;
    }
}

/// The call that a request would be, and the request as that has it.
fn action(request: PipelinedAction) -> (&'static str, Request) {
    match request {
        PipelinedAction::Put(request) => (PUT, Request::Put(request)),
        PipelinedAction::Get(request) => (GET, Request::Get(request)),
        PipelinedAction::Delete(request) => (DELETE, Request::Delete(request)),
        PipelinedAction::GetOutcome(request) => (GET_OUTCOME, Request::GetOutcome(request)),
    }
}

/// What came of an operation of a batch that the node did not take.
fn not_run(action: Action, unavailable: Unavailable) -> ActionResult {
    match unavailable {
        // As a call of its own would.
        Unavailable::NotLeader { .. } | Unavailable::Transferring => ActionResult::NotRun(action),
        unavailable => action.unavailable(unavailable),
    }
}

/// The library's word on a frame that it could not read, in the form of our own.
fn labelled(status: Status) -> Status {
    library_error(&status).map_or(status, |error| error.to_status(CallKind::Other))
}
