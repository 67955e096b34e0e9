//! A stream of many requests to one endpoint: the fast road.
//!
//! Requests are queued in a [`Ledger`], and the body of the HTTP/2 stream, [`Outgoing`], takes from there all that is
//! queued whenever the connection can carry more: so frames grow by themselves under load, and a lone request waits for
//! nothing. What is taken may have left; what is still queued can be taken back. A task reads the answers, and wakes
//! whoever waits for them.
//!
//! Nothing leaves before the node has accepted the stream. So a node that hangs, is away or knows no streams is found
//! while nothing is at stake yet.

mod ledger;

use crate::Leader;
use ledger::{Abandoned, End, Ledger, Tag};
use proto::kv::v1::{PipelineRequest, PipelineResponse};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};
use tokio::{sync::Semaphore, task::AbortHandle};
use tokio_stream::Stream;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

pub(crate) use ledger::{Asked, Done};

/// The path of the call.
const PATH: &str = "/kv.v1.KvService/Pipeline";

/// The reason of a node that ends a stream because it shuts down: it has answered all that it read.
const DRAINING: &str = "DRAINING";

/// A stream, open or about to be. It is given up when the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Pipe(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    driver: AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[derive(Debug)]
struct Shared {
    ledger: Mutex<Ledger>,
    /// As many permits as there are slots for requests left.
    room: Semaphore,
    /// A [`Standing`], as a number.
    standing: AtomicU8,
}

/// How a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Standing {
    /// The node has not accepted it yet.
    Opening,
    /// The node has accepted it.
    Open,
    /// It is of no use any more.
    Ended,
    /// It never will be of any use: the node knows no streams.
    Unsupported,
}

impl Pipe {
    /// Opens a stream. To be called within a tokio runtime.
    pub(crate) fn open(channel: Channel) -> Pipe {
        let shared = Arc::new(Shared::default());
        let driver = tokio::spawn(drive(channel, Driven(Arc::clone(&shared)))).abort_handle();
        Pipe(Arc::new(Handle { shared, driver }))
    }

    /// How it is.
    pub(crate) fn standing(&self) -> Standing {
        let standings = [Standing::Opening, Standing::Open, Standing::Ended];
        let number = self.0.shared.standing.load(Ordering::Acquire);
        standings.into_iter().find(|standing| *standing as u8 == number).unwrap_or(Standing::Unsupported)
    }

    /// Makes one request, and waits for what comes of it until its deadline.
    pub(crate) async fn call(&self, asked: Asked) -> Result<Done, Late> {
        let shared = &*self.0.shared;
        let deadline = asked.deadline;
        match shared.room.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => match tokio::time::timeout_at(deadline.into(), shared.room.acquire()).await {
                Ok(Ok(permit)) => permit.forget(),
                // It has ended, which the ledger knows as well.
                Ok(Err(_)) => {}
                Err(_) => return Err(Late { left: false }),
            },
        }
        let (tag, sender) = {
            let mut ledger = shared.ledger();
            match ledger.ask(asked) {
                Ok(queued) => queued,
                Err(end) => return Ok(end.of_unsent()),
            }
        };
        let mut waiter = Waiter { shared, tag, is_done: false };
        if let Some(sender) = sender {
            sender.wake();
        }
        match tokio::time::timeout_at(deadline.into(), &mut waiter).await {
            Ok(done) => Ok(done),
            Err(_) => waiter.give_up(),
        }
    }
}

/// The deadline passed.
#[derive(Debug)]
pub(crate) struct Late {
    /// Whether the request may have left this process.
    pub(crate) left: bool,
}

/// Waits for what comes of a request. Dropping it abandons the request.
struct Waiter<'a> {
    shared: &'a Shared,
    tag: Tag,
    is_done: bool,
}

impl Waiter<'_> {
    /// The deadline passed, though the answer may just have come.
    fn give_up(mut self) -> Result<Done, Late> {
        match self.abandon() {
            Abandoned::Done(done) => Ok(done),
            Abandoned::UnderWay => Err(Late { left: true }),
            Abandoned::TakenBack | Abandoned::Fetched => Err(Late { left: false }),
        }
    }

    fn abandon(&mut self) -> Abandoned {
        self.is_done = true;
        let abandoned = self.shared.ledger().abandon(self.tag);
        if matches!(abandoned, Abandoned::TakenBack | Abandoned::Done(_)) {
            self.shared.room.add_permits(1);
        }
        abandoned
    }
}

impl Future for Waiter<'_> {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Done> {
        let polled = self.shared.ledger().fetch(self.tag, context);
        if polled.is_ready() {
            self.is_done = true;
            self.shared.room.add_permits(1);
        }
        polled
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.abandon();
        }
    }
}

impl Default for Shared {
    fn default() -> Shared {
        Shared {
            ledger: Mutex::default(),
            room: Semaphore::new(ledger::SLOTS_MAX),
            standing: AtomicU8::new(Standing::Opening as u8),
        }
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every method of the ledger leaves it usable.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) {
        let sender = self.ledger().opened();
        self.standing.store(Standing::Open as u8, Ordering::Release);
        sender.into_iter().for_each(Waker::wake);
    }

    /// A frame of answers. The wakers are collected in `woken`, which is empty before and after.
    fn answered(&self, frame: PipelineResponse, leader: &mut Option<Arc<Leader>>, woken: &mut Vec<Waker>) {
        let PipelineResponse { responses, leader_name, leader_address } = frame;
        note_leader(leader, leader_name, &leader_address);
        let mut freed = 0;
        let sender = {
            let mut ledger = self.ledger();
            for response in responses {
                let (waiter, free) = ledger.answer(response, leader.clone());
                woken.extend(waiter);
                freed += usize::from(free);
            }
            ledger.answered()
        };
        if freed > 0 {
            self.room.add_permits(freed);
        }
        for waiter in woken.drain(..) {
            waiter.wake();
        }
        sender.into_iter().for_each(Waker::wake);
    }

    fn finish(&self, end: End) {
        let standing = if matches!(end, End::Unsupported) { Standing::Unsupported } else { Standing::Ended };
        let woken = self.ledger().finish(end);
        self.standing.store(standing as u8, Ordering::Release);
        self.room.close();
        for waiter in woken {
            waiter.wake();
        }
    }
}

/// Keeps the leader that the node names, if it is another than before.
fn note_leader(known: &mut Option<Arc<Leader>>, name: String, address: &str) {
    if address.is_empty() {
        *known = None;
        return;
    }
    let Ok(endpoint) = address.parse() else { return };
    if known.as_ref().is_none_or(|known| known.endpoint != endpoint || known.name != name) {
        *known = Some(Arc::new(Leader { name, endpoint }));
    }
}

/// What the driver does its work for. If the driver is aborted, or its runtime ends, so does the stream.
struct Driven(Arc<Shared>);

impl Drop for Driven {
    fn drop(&mut self) {
        if self.0.ledger().ended().is_none() {
            self.0.finish(End::Broken(Status::unavailable("the stream was given up")));
        }
    }
}

/// Opens the stream and reads the answers, to the end of it.
async fn drive(channel: Channel, driven: Driven) {
    let shared = &driven.0;
    let end = match answers(channel, Arc::clone(shared)).await {
        Ok(()) => End::Broken(Status::unavailable("the node ended the stream")),
        Err(status) if status.code() == Code::Unimplemented => End::Unsupported,
        Err(status) => End::Broken(bereft(status)),
    };
    tracing::debug!("the stream has ended: {end:?}");
    shared.finish(end);
}

async fn answers(channel: Channel, shared: Arc<Shared>) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let outgoing = Outgoing { shared: Arc::clone(&shared), rested: true };
    let codec = ProstCodec::<PipelineRequest, PipelineResponse>::new();
    let response = grpc.streaming(Request::new(outgoing), PathAndQuery::from_static(PATH), codec).await?;
    let mut answers = response.into_inner();
    shared.opened();
    let (mut leader, mut woken) = (None, Vec::new());
    while let Some(frame) = answers.message().await? {
        shared.answered(frame, &mut leader, &mut woken);
    }
    Ok(())
}

/// The status for the requests of a stream that ended with `status`. Only one that says that everything that was read
/// is answered says something of each of them; after any other, they are as if their answers were lost.
fn bereft(status: Status) -> Status {
    let reason = status.get_details_error_info().map(|info| info.reason);
    match reason.as_deref() {
        None | Some(DRAINING) => status,
        Some(reason) => Status::new(status.code(), format!("the stream has ended: {} ({reason})", status.message())),
    }
}

/// The body of the stream: frames of all that is queued.
struct Outgoing {
    shared: Arc<Shared>,
    /// Whether nothing was to be sent when it was asked last.
    rested: bool,
}

impl Stream for Outgoing {
    type Item = PipelineRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PipelineRequest>> {
        let Outgoing { shared, rested } = &mut *self;
        let mut ledger = shared.ledger();
        if ledger.ended().is_some() {
            return Poll::Ready(None);
        }
        if *rested && ledger.is_crowded() {
            // The answers of one frame have woken many, of whom the first has just asked again. The others run before
            // this does if it goes to the end of the scheduler's queue, and are in the same frame.
            *rested = false;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let requests = ledger.frame(Instant::now());
        if requests.is_empty() {
            ledger.rest(context.waker());
            *rested = true;
            return Poll::Pending;
        }
        *rested = false;
        Poll::Ready(Some(PipelineRequest { requests }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::kv::v1::{GetRequest, pipelined_request};
    use std::{sync::atomic::AtomicUsize, task::Wake, time::Duration};

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Wakes>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn ask(shared: &Shared) {
        let request = pipelined_request::Request::Get(GetRequest::default());
        let deadline = Instant::now() + Duration::from_secs(60);
        let asked = Asked { request, traceparent: String::new(), deadline };
        shared.ledger().ask(asked).expect("the stream has not ended");
    }

    #[test]
    fn a_lone_request_leaves_at_once_and_many_let_the_others_run_first() {
        let shared = Arc::new(Shared::default());
        shared.opened();
        let mut outgoing = Outgoing { shared: Arc::clone(&shared), rested: true };
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut poll = || match Pin::new(&mut outgoing).poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(frame) => Some(frame.expect("the stream has not ended").requests.len()),
            Poll::Pending => None,
        };
        assert_eq!(poll(), None);
        ask(&shared);
        assert_eq!((poll(), poll()), (Some(1), None));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
        // One is under way: its answer may have woken others.
        ask(&shared);
        assert_eq!((poll(), wakes.0.load(Ordering::SeqCst)), (None, 1), "it asks to be polled again");
        ask(&shared);
        assert_eq!((poll(), poll()), (Some(2), None));
    }
}
