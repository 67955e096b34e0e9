//! The loop: takes what arrived, hands it to the engine, and carries out what the engine wants.
//!
//! Each turn waits for the first thing to happen, then takes everything else that is there already, so that what queued
//! up while the last turn ran becomes one batch: one AppendEntries a follower, one write to the log. What is small and
//! urgent (finished disk work, votes, heartbeats, the clock) is taken before bulk. Nothing in here waits for the disk
//! or the network.

mod answers;
mod batches;
mod following;
mod reads;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::replica::Ticket;
use engine::{Engine, EngineError, Event};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::batch::Pending;
use super::deeds::Deeds;
use super::disk_threads::{DiskThreads, DiskThreadsStuck, Done};
use super::handle::{TransferError, Unavailable};
use super::inquiries::Inquiries;
use super::journey::{Journey, write_kind};
use super::measure::Measure;
use super::request::{Request, Write};
use super::roster::Roster;
use super::status::NodeStatus;
use super::timeline::Timeline;
use super::traces::Traces;
use super::waiters::{Waiter, WriteWaiter};
use crate::number_hash::NumberHash;
use crate::story;
use crate::telemetry::{self, Pulse};
use crate::transport::{Board, Inbound, InboxReceivers, Lane, Links};

/// The core's unit of time. Fine enough that randomised election timeouts differ, coarse enough to cost nothing.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// How many urgent messages one turn takes: as many as may wait. More would only come from a peer that floods us, and
/// must not keep the turn from ending.
const CONTROL_PER_TURN_MAX: usize = 1024;

/// How many arrivals of bulk one turn takes, so that the clock and the heartbeats of the next turn are not late.
const BULK_PER_TURN_MAX: usize = 256;

/// How many messages of reads one turn takes, of up to 512 keys each.
const REPLICA_PER_TURN_MAX: usize = 8;

/// How many side messages one turn takes: each may be half a mebibyte, and nobody is in a hurry for any.
const SIDE_PER_TURN_MAX: usize = 8;

/// While so much work of the snapshots is under way, no side messages are taken: each could make more of it.
const SNAPSHOT_WORK_MAX: usize = 16;

/// How many operations one turn takes, for the same reason; the batch in which this is reached is taken whole.
const OPERATIONS_PER_TURN_MAX: usize = 2048;

/// For how many operations a call of its own counts there. What a turn answers is sent by tasks that are all run before
/// the next turn where the loop shares its thread with clients, and a call costs ten times what an operation of a batch
/// does: two thousand calls in a turn keep heartbeats waiting, which on a busy machine may depose a leader.
const CALL_OPERATIONS: usize = 8;

/// How often the status is renewed and abandoned requests are forgotten, in ticks.
const HOUSEKEEPING_TICKS: u64 = 10;

/// After so many ticks without an append, the log is told that it is idle.
const IDLE_TICKS: u64 = 10;

/// What a peer's snapshot that cannot be used counts as among what was dropped.
const UNUSABLE_SNAPSHOT: &str = "unusable_snapshot";

/// How long the disk may take at the end to finish what it has. One that stands still must not keep the process.
const FINISH_MAX: Duration = Duration::from_millis(1_000);

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The engine cannot go on: the disk failed, or the log holds what this version does not know.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A disk thread panicked.
    #[error(transparent)]
    DiskThreads(#[from] DiskThreadsStuck),
}

/// What the loop is made of.
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) disk: DiskThreads,
    pub(super) done: mpsc::Receiver<Done>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) inbox: InboxReceivers,
    pub(super) links: Links,
    pub(super) roster: Roster,
    pub(super) board: Board,
    pub(super) status: watch::Sender<NodeStatus>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) measure: Measure,
    pub(super) narrate: bool,
}

/// What ends the wait of a turn.
enum Arrival {
    Done(Done),
    Inbound(Inbound),
    Tick,
    Request(Request),
}

/// The loop's state.
pub(super) struct EventLoop {
    parts: Parts,
    waiters: HashMap<Ticket, Waiter, NumberHash>,
    next_ticket: u64,
    traces: Traces,
    deeds: Deeds,
    inquiries: Inquiries,
    timeline: Timeline,
    started: Instant,
    /// When what the turn takes had begun to arrive.
    turn_began: Instant,
    ticks: u64,
    last_append_tick: u64,
    snapshot_work_under_way: usize,
    ready: bool,
    storage_full: bool,
    dropped: BTreeMap<String, u64>,
    changed: bool,
    /// Who asked in this turn; a turn takes a bounded number of requests.
    asked_for_status: Vec<oneshot::Sender<NodeStatus>>,
    /// The callers whose batches were answered in this turn.
    to_wake: Vec<Arc<Pending>>,
}

impl EventLoop {
    pub(super) fn new(mut parts: Parts) -> Self {
        parts.engine.narrate(parts.narrate);
        let name = parts.roster.own_name();
        let (traces, deeds, inquiries) = (Traces::new(name), Deeds::new(name), Inquiries::new(name));
        let now = Instant::now();
        Self {
            parts,
            waiters: HashMap::default(),
            next_ticket: 0,
            traces,
            deeds,
            inquiries,
            timeline: Timeline::default(),
            started: now,
            turn_began: now,
            ticks: 0,
            last_append_tick: 0,
            snapshot_work_under_way: 0,
            ready: false,
            storage_full: false,
            dropped: BTreeMap::new(),
            changed: true,
            asked_for_status: Vec::new(),
            to_wake: Vec::new(),
        }
    }

    /// Runs until it is stopped, or until the engine cannot go on.
    pub(super) async fn run(mut self) -> Result<(), LoopError> {
        let mut ticker = interval(TICK);
        // A process that was stopped for a while must not make up for the ticks that it missed: that would be a whole
        // election timeout at once.
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !self.turn(&mut ticker).await? {
                break;
            }
            self.carry_out()?;
        }
        self.finish().await
    }

    /// Waits for something to happen and takes all that is there. False: stop.
    async fn turn(&mut self, ticker: &mut Interval) -> Result<bool, LoopError> {
        let takes_side = self.takes_side_messages();
        let parts = &mut self.parts;
        let first = tokio::select! {
            biased;
            // These two first: they cannot hold up what follows, while something that follows may always be there.
            _ = parts.stop.wait_for(|stop| *stop) => return Ok(false),
            _ = ticker.tick() => Arrival::Tick,
            Some(done) = parts.done.recv() => Arrival::Done(done),
            Some(inbound) = parts.inbox.control.recv() => Arrival::Inbound(inbound),
            Some(inbound) = parts.inbox.append.recv() => Arrival::Inbound(inbound),
            Some(inbound) = parts.inbox.replica.recv() => Arrival::Inbound(inbound),
            Some(request) = parts.requests.recv() => Arrival::Request(request),
            Some(inbound) = parts.inbox.side.recv(), if takes_side => Arrival::Inbound(inbound),
        };
        self.turn_began = Instant::now();
        let ticked = matches!(first, Arrival::Tick);
        let mut operations = 0;
        match first {
            Arrival::Done(done) => self.take_done(done)?,
            Arrival::Inbound(inbound) => self.take_inbound(inbound),
            Arrival::Tick => {}
            Arrival::Request(request) => operations += self.take_request(request),
        }
        while let Ok(done) = self.parts.done.try_recv() {
            self.take_done(done)?;
        }
        for _ in 0..CONTROL_PER_TURN_MAX {
            let Ok(inbound) = self.parts.inbox.control.try_recv() else { break };
            self.take_inbound(inbound);
        }
        // After the messages: a heartbeat that came while the process stood still counts before the time that it took.
        if ticked {
            self.tick()?;
        }
        for _ in 0..BULK_PER_TURN_MAX {
            let Ok(inbound) = self.parts.inbox.append.try_recv() else { break };
            self.take_inbound(inbound);
        }
        for _ in 0..REPLICA_PER_TURN_MAX {
            let Ok(inbound) = self.parts.inbox.replica.try_recv() else { break };
            self.take_inbound(inbound);
        }
        while operations < OPERATIONS_PER_TURN_MAX {
            let Ok(request) = self.parts.requests.try_recv() else { break };
            operations += self.take_request(request);
        }
        for _ in 0..SIDE_PER_TURN_MAX {
            if !self.takes_side_messages() {
                break;
            }
            let Ok(inbound) = self.parts.inbox.side.try_recv() else { break };
            self.take_inbound(inbound);
        }
        Ok(true)
    }

    fn takes_side_messages(&self) -> bool {
        self.snapshot_work_under_way < SNAPSHOT_WORK_MAX
    }

    fn take_done(&mut self, done: Done) -> Result<(), LoopError> {
        self.parts.measure.done(&done);
        match done {
            Done::Work(completion, batch) => self.take_work(completion, batch)?,
            Done::Fetched(fetch, entries) => self.parts.engine.fetched(fetch, entries),
            Done::Snapshot(completion) => {
                self.snapshot_work_under_way -= 1;
                self.parts.engine.snapshot_completed(completion)?;
            }
            Done::FreeBytes(bytes) => self.parts.engine.observe_free_bytes(bytes),
        }
        Ok(())
    }

    fn take_inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Message { message, traces } => self.take_message(message, &traces),
            Inbound::Replica(message) => self.parts.engine.replica_message(message),
            Inbound::Side(message) => self.parts.engine.side_message(message),
            Inbound::Unreachable(peer) => self.parts.engine.unreachable(peer),
            Inbound::Gone(peer) => self.parts.measure.peer_gone(&mut self.parts.engine, peer),
            Inbound::Dropped(reason) => self.count_dropped(reason),
        }
    }

    fn count_dropped(&mut self, reason: &str) {
        debug!(reason, "a peer's message was dropped");
        *self.dropped.entry(reason.to_owned()).or_default() += 1;
    }

    fn tick(&mut self) -> Result<(), LoopError> {
        self.parts.pulse.beat();
        self.ticks += 1;
        self.parts.engine.tick(self.now_ms());
        if self.ticks - self.last_append_tick >= IDLE_TICKS {
            // Does nothing if the log has been told since its last append.
            self.parts.engine.idle();
        }
        if self.ticks.is_multiple_of(HOUSEKEEPING_TICKS) {
            // Without its thread a commit never ends, and nothing else would tell.
            self.parts.disk.check()?;
            self.forget_abandoned();
            self.changed = true;
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("a process does not run for 500 million years")
    }

    /// Takes a request up, and returns for how many operations it counts.
    fn take_request(&mut self, request: Request) -> usize {
        match request {
            Request::Batch(batch) => {
                let operations = batch.len();
                self.take_batch(batch);
                return operations;
            }
            Request::Write(write) => self.take_write(write),
            Request::Read(read) => self.take_read(read),
            Request::Status(answer) => self.asked_for_status.push(answer),
            Request::Transfer { target, answer } => {
                // A caller that has gone away wants no answer.
                let _ = answer.send(self.transfer(target.as_deref()));
            }
        }
        CALL_OPERATIONS
    }

    fn take_write(&mut self, write: Write) {
        // Whoever lost the claim has been told that the write will never be: it must not be run.
        if write.answer.is_closed() || !write.claim.take() {
            return;
        }
        let ticket = self.ticket();
        let now_ms = self.now_ms();
        let journey = Journey::new(write_kind(&write.request), (write.asked, self.turn_began), write.trace);
        let waiter = WriteWaiter { answer: write.answer, claim: write.claim, journey };
        self.waiters.insert(ticket, Waiter::Write(waiter));
        self.parts.engine.write(ticket, &write.request, now_ms);
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket::new(self.next_ticket)
    }

    fn transfer(&mut self, target: Option<&str>) -> Result<(), TransferError> {
        let raft = self.parts.engine.raft();
        if !raft.is_leader() {
            return Err(self.not_leader(raft.leader()).into());
        }
        let name = match target {
            Some(name) => name.to_owned(),
            None => self.parts.roster.furthest(&raft.status()).ok_or(TransferError::NobodyElse)?,
        };
        let node = self.parts.roster.node(&name).ok_or_else(|| TransferError::NotAVoter(name.clone()))?;
        info!(
            term = raft.current_term().get(),
            index = raft.last_index().get(),
            target = name,
            "leadership is handed over"
        );
        self.parts.engine.transfer_leadership(node).map_err(|error| match error {
            raft::TransferError::NotLeader { leader } => self.not_leader(leader).into(),
            raft::TransferError::ToSelf => TransferError::AlreadyLeader(name),
            raft::TransferError::NotAVoter => TransferError::NotAVoter(name),
            raft::TransferError::InProgress => Unavailable::Transferring.into(),
        })
    }

    /// Forgets requests whose callers have gone away, so that they do not count against the limits.
    fn forget_abandoned(&mut self) {
        let now = Instant::now();
        for (ticket, waiter) in self.waiters.extract_if(|_, waiter| waiter.is_abandoned(now)) {
            self.parts.engine.cancel(ticket);
            waiter.into_journey().end(now, &self.timeline, |node| self.parts.roster.name(node));
        }
        self.traces.forget_old(now);
        self.inquiries.forget_old(now);
        telemetry::forget_old(now);
    }

    /// Does what the engine wants done after a turn.
    fn carry_out(&mut self) -> Result<(), LoopError> {
        let mut output = self.output()?;
        // Before the messages: they carry the traces of what was proposed.
        for (ticket, answer) in output.answers.drain(..) {
            self.answer(ticket, answer);
        }
        self.parts.engine.reuse(output.answers);
        self.wake_callers();
        // Before them, too: who begins to campaign asks for votes at once.
        self.note_events(&output.events);
        for message in output.messages {
            let (to, traces) = (message.to, self.traces_of(&message));
            if let Err(undelivered) = self.parts.links.send(message, traces)
                && undelivered.lane == Lane::AppendRequests
            {
                self.parts.engine.unreachable(to);
            }
        }
        for message in output.replica_messages {
            // One that is lost is asked again.
            let _ = self.parts.links.send_replica(message);
        }
        for message in output.side_messages {
            // One that is lost is asked for or told again.
            let _ = self.parts.links.send_side(message);
        }
        for work in output.work {
            if !work.is_background() {
                self.last_append_tick = self.ticks;
            }
            self.parts.disk.submit(work)?;
        }
        for fetch in output.fetches {
            if !self.parts.disk.fetch(fetch)? {
                self.parts.engine.fetched(fetch, Vec::new());
            }
        }
        for work in output.snapshot_work {
            self.snapshot_work_under_way += 1;
            self.parts.disk.submit_snapshot(work)?;
        }
        for event in &output.events {
            self.tell(event);
        }
        for unusable in &output.unusable_snapshots {
            if unusable.from.is_some() {
                self.count_dropped(UNUSABLE_SNAPSHOT);
            }
            self.parts.roster.log_unusable(unusable);
        }
        self.publish();
        Ok(())
    }

    fn tell(&mut self, event: &Event) {
        if self.parts.narrate
            && let Some(line) = story::line(event, &self.parts.roster)
        {
            // A reader that has gone away must not stop the node.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
        match event {
            Event::Raft(event) => {
                self.changed = true;
                self.parts.roster.log(event, self.parts.engine.raft());
            }
            Event::Appended { .. } | Event::Durable { .. } | Event::Committed { .. } | Event::Applied { .. } => {}
        }
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) && self.asked_for_status.is_empty() {
            return;
        }
        let status = self.parts.engine.status();
        self.ready = self.ready || has_caught_up(self.parts.engine.raft());
        if status.storage_full != self.storage_full {
            self.storage_full = status.storage_full;
            self.parts.roster.log_storage(&status);
        }
        let Parts { roster, board, links, .. } = &self.parts;
        let new = roster.status(&status, board, links, self.ready, &self.dropped);
        for answer in self.asked_for_status.drain(..) {
            // A caller that has gone away wants no answer.
            let _ = answer.send(new.clone());
        }
        self.parts.status.send_if_modified(|old| {
            let modified = *old != new;
            *old = new;
            modified
        });
    }

    /// Lets the log finish what it has, so that a node that is started again finds a clean end.
    async fn finish(mut self) -> Result<(), LoopError> {
        self.carry_out()?;
        self.waiters.drain().for_each(|(_, waiter)| waiter.stop());
        let Parts { disk, mut done, .. } = self.parts;
        let stopped = tokio::task::spawn_blocking(move || disk.stop());
        // The threads wait for room to say what they have done. Nobody was told of it, so nobody needs to know.
        let drained = async {
            while done.recv().await.is_some() {}
            std::future::pending::<Infallible>().await
        };
        let ended = async {
            tokio::select! {
                ended = stopped => ended,
                never = drained => match never {},
            }
        };
        match timeout(FINISH_MAX, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => warn!("the disk threads did not end well"),
            Err(_) => warn!("the disk does not finish what it has; the next start will find out what it did of it"),
        }
        Ok(())
    }
}

/// Whether everything that the current leader is known to have committed is applied. An entry of the current term shows
/// that the leader's commit index is known here, and not only that of a former one.
fn has_caught_up(raft: &raft::Raft) -> bool {
    let commit_index = raft.commit_index();
    raft.leader().is_some()
        && raft.applied_index() == commit_index
        && raft.term_at(commit_index) == Some(raft.current_term())
}
