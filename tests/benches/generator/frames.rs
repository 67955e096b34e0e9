//! Drives whatever carries many requests on one stream: the bare stream, and Quorate's pipeline.

use super::{Measured, Mode, Recorded, Schedule, Window, in_time, observe, pace::pace, share};
use crate::{
    process::Usage,
    workload::{Operation, Traffic},
};
use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    ops::ControlFlow,
    pin::pin,
    task::Poll,
    time::Instant,
};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::{Code, Status};

/// Requests that an open loop has under way on a stream at most; see `calls`.
const UNDER_WAY_MAX: usize = 4_000;

/// What came of a request.
pub(crate) struct Answer {
    /// The request's mark.
    pub(crate) tag: u64,
    /// The code of its error, if it was not done.
    pub(crate) result: Result<(), Code>,
}

/// One stream.
pub(crate) trait Frames: Send + 'static {
    /// Sends requests. It never waits, and never refuses as many as the stream was opened for.
    ///
    /// # Errors
    /// The stream has ended.
    fn send(&mut self, requests: Vec<(u64, Operation)>) -> Result<(), Status>;

    /// Waits for answers; it may be dropped while it waits.
    fn receive(&mut self) -> impl Future<Output = Result<Vec<Answer>, Status>> + Send;
}

/// How many requests may be under way on the `number`th of so many streams.
pub(crate) fn room(mode: Mode, streams: usize, number: usize) -> usize {
    match mode {
        Mode::Closed { in_flight } => share(in_flight, streams, number),
        Mode::Open { .. } => UNDER_WAY_MAX,
    }
}

/// Runs a schedule over these streams. `usage` tells what the system's processes have used so far.
///
/// # Errors
/// A process whose use cannot be read, or a stream that ended.
pub(crate) async fn run<F: Frames>(
    streams: Vec<F>,
    traffic: &Traffic,
    schedule: &Schedule,
    usage: impl Fn() -> anyhow::Result<Usage>,
) -> anyhow::Result<Measured> {
    let window = Window::of(schedule);
    let mut tasks = JoinSet::new();
    let count = streams.len();
    match schedule.mode {
        Mode::Closed { .. } => {
            for (number, stream) in streams.into_iter().enumerate() {
                tasks.spawn(in_turn(stream, traffic.clone(), room(schedule.mode, count, number), window));
            }
        }
        Mode::Open { per_second } => {
            let mut inlets = Vec::new();
            for stream in streams {
                let (inlet, due) = mpsc::channel(UNDER_WAY_MAX);
                inlets.push(inlet);
                tasks.spawn(in_time_due(stream, due, window));
            }
            tasks.spawn(hand_out(inlets, traffic.clone(), per_second, window));
        }
    }
    observe(window, usage, tasks).await
}

/// A closed loop on one stream: as many requests go into the next frame as answers came in the last one.
async fn in_turn(
    mut stream: impl Frames,
    traffic: Traffic,
    in_flight: usize,
    window: Window,
) -> anyhow::Result<Recorded> {
    let mut recorded = Recorded::new();
    let mut sent = vec![Instant::now(); in_flight];
    let first = (0..in_flight).map(|tag| (tag as u64, traffic.next())).collect();
    stream.send(first)?;
    let mut under_way = in_flight;
    while under_way > 0 {
        let mut answers = stream.receive().await?;
        // Whatever else is there goes into the same frame, or small frames would stay small for ever.
        while let Some(more) = at_once(stream.receive()).await {
            answers.extend(more?);
        }
        let now = Instant::now();
        let mut next = Vec::with_capacity(answers.len());
        for Answer { tag, result } in answers {
            let sent = usize::try_from(tag).ok().and_then(|tag| sent.get_mut(tag));
            let sent = sent.ok_or_else(|| Status::internal("an answer to nothing"))?;
            if window.holds(now) {
                recorded.note(result.is_ok(), now - *sent);
            }
            if now < window.end {
                *sent = now;
                next.push((tag, traffic.next()));
            } else {
                under_way -= 1;
            }
        }
        if !next.is_empty() {
            stream.send(next)?;
        }
    }
    Ok(recorded)
}

/// A future's value, if it is there already.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// A request of an open loop and when it was due.
type Due = (Instant, Operation);

/// The clock of an open loop: gives each stream what is due, in turn.
async fn hand_out(
    inlets: Vec<mpsc::Sender<Due>>,
    traffic: Traffic,
    per_second: f64,
    window: Window,
) -> anyhow::Result<Recorded> {
    let (refused, mut refusals) = mpsc::channel(1);
    let mut turn = 0;
    let clock = pace(per_second, window.end, move |due| {
        turn += 1;
        let is_full = inlets[turn % inlets.len()].try_send((due, traffic.next())).is_err();
        if is_full && window.holds(due) {
            // Whoever counts waits for each: none is lost.
            refused.blocking_send(()).ok();
        }
        ControlFlow::Continue(())
    });
    let mut recorded = Recorded::new();
    let count = async {
        while refusals.recv().await.is_some() {
            recorded.errors += 1;
        }
    };
    let (clock, ()) = tokio::join!(clock, count);
    clock?;
    Ok(recorded)
}

/// An open loop on one stream: whatever is due goes into one frame.
async fn in_time_due(
    mut stream: impl Frames,
    mut due: mpsc::Receiver<Due>,
    window: Window,
) -> anyhow::Result<Recorded> {
    let mut recorded = Recorded::new();
    let mut under_way = BTreeMap::new();
    let mut next_tag = 0_u64;
    let mut ready = Vec::new();
    let mut is_open = true;
    while is_open || !under_way.is_empty() {
        let room = UNDER_WAY_MAX - under_way.len();
        let step = async {
            tokio::select! {
                count = due.recv_many(&mut ready, room), if is_open && room > 0 => {
                    is_open = count > 0;
                    Ok(Vec::new())
                }
                answers = stream.receive() => answers,
            }
        };
        let Some(answers) = in_time(window.end, step).await else { break };
        let now = Instant::now();
        for Answer { tag, result } in answers? {
            let due: Instant = under_way.remove(&tag).ok_or_else(|| Status::internal("an answer to nothing"))?;
            if window.holds(due) {
                recorded.note(result.is_ok(), now - due);
            }
        }
        if !ready.is_empty() {
            let tagged = ready.drain(..).map(|(due, operation)| {
                next_tag += 1;
                under_way.insert(next_tag, due);
                (next_tag, operation)
            });
            stream.send(tagged.collect())?;
        }
    }
    // What is left was given up on.
    recorded.errors += under_way.values().filter(|&&due| window.holds(due)).count() as u64;
    Ok(recorded)
}
