//! Clients that only read, each time from any node, also from one that is cut off: without a leader, by way of one, or
//! whatever state the node has. What they are told has to fit into the history of all; the state of a node as it is,
//! into what was acknowledged before the moment that its age names.
//!
//! Their luck is their own. What nodes say to each other for linearizable reads, and for the ages of states, travels
//! with everything else that they say.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use bytes::Bytes;
use engine::kv::Revision;
use engine::leaderless::{ReplicaBody, ReplicaMessage};
use engine::{Answer, ReadResult, StaleBounds, Ticket};
use lincheck::{Completion, OperationId};

use crate::clock::NodeClock;
use crate::history::{Call, Key, Output};
use crate::network::{Lane, Link};
use crate::node::{Node, node_number};
use crate::queue::Event;
use crate::random::Random;
use crate::violation::Violation;
use crate::words;
use crate::world::World;

/// Their tickets are told from those of other clients by being greater.
const FIRST_TICKET: u64 = 1 << 62;

/// Their names in the history begin here.
const FIRST_PROCESS: u64 = 1 << 32;

/// How long a reader waits before its next read, in microseconds.
const THINK_US: (u64, u64) = (10_000, 400_000);

/// How long it waits for an answer.
const PATIENCE_US: (u64, u64) = (200_000, 5_000_000);

/// Of a thousand runs, so many have readers.
const RUNS: u64 = 800;

/// The most that there are.
const READERS_MAX: u64 = 3;

/// What bounds are drawn for the age of a state, in milliseconds.
const MAX_AGE_MS: (u64, u64) = (1, 3_000);

/// How a reader reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    /// Without a leader.
    Quorum,
    /// By way of the leader.
    Linearizable,
    /// The state as it is, perhaps if it is no older than so many milliseconds.
    Stale(Option<u64>),
}

impl Level {
    fn draw(random: &mut Random) -> Level {
        match random.below(4) {
            0 | 1 => Level::Quorum,
            2 => Level::Linearizable,
            _ => Level::Stale(random.chance(800).then(|| random.between(MAX_AGE_MS))),
        }
    }
}

/// All readers.
pub(crate) struct Readers {
    readers: Vec<Option<Reading>>,
    /// Which read of which reader a node was asked for.
    tickets: BTreeMap<Ticket, (usize, u64)>,
    tickets_given: u64,
    reads_begun: u64,
    /// Whether the last read that ended was answered.
    was_served: bool,
    random: Random,
}

/// What a reader waits for.
#[derive(Debug)]
struct Reading {
    number: u64,
    key: Key,
    level: Level,
    /// Its name in the history, where what it is told has to be what is there between its beginning and its end.
    id: Option<OperationId>,
    /// No answer may show an older revision, if it is to be the latest of all keys.
    floor: Option<u64>,
    /// When it arrived, by the clock of its node, and that clock.
    arrived: Option<(u64, NodeClock)>,
    /// Where it waits: node, process, ticket.
    ticket: Option<(usize, u64, Ticket)>,
}

/// Something that happens to a reader.
#[derive(Debug)]
pub(crate) enum ReaderEvent {
    /// It begins a read.
    Begins { reader: usize },
    /// Its request reaches a node.
    Request(ReaderRequest),
    /// A node's answer reaches it.
    Told { reader: usize, number: u64, answer: Answer },
    /// It waits no more.
    GivesUp { reader: usize, number: u64 },
}

impl ReaderEvent {
    /// The node whose process has to run for it to happen.
    pub(crate) fn node(&self) -> Option<usize> {
        if let ReaderEvent::Request(request) = self { Some(request.node) } else { None }
    }
}

/// A read on its way to a node.
#[derive(Debug)]
pub(crate) struct ReaderRequest {
    node: usize,
    reader: usize,
    number: u64,
    key: Key,
}

impl Readers {
    /// Those of a run.
    pub(crate) fn draw(seed: u64) -> Readers {
        let mut random = Random::for_purpose(seed, "readers");
        let count = if random.chance(RUNS) { random.between((1, READERS_MAX)) } else { 0 };
        let readers = (0..count).map(|_| None).collect();
        Readers {
            readers,
            tickets: BTreeMap::new(),
            tickets_given: FIRST_TICKET,
            reads_begun: 0,
            was_served: false,
            random,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.readers.len()
    }

    /// How many wait for an answer.
    pub(crate) fn under_way(&self) -> usize {
        self.readers.iter().flatten().count()
    }

    /// Whether a ticket is a reader's.
    pub(crate) fn gave(ticket: Ticket) -> bool {
        ticket.get() > FIRST_TICKET
    }

    fn reading(&mut self, reader: usize, number: u64) -> Option<&mut Reading> {
        self.readers[reader].as_mut().filter(|reading| reading.number == number)
    }
}

impl World {
    pub(crate) fn reader(&mut self, event: ReaderEvent) -> Result<(), Violation> {
        match event {
            ReaderEvent::Begins { reader } => self.reader_begins(reader),
            ReaderEvent::Request(request) => self.reader_request(request)?,
            ReaderEvent::Told { reader, number, answer } => self.reader_told(reader, number, &answer)?,
            ReaderEvent::GivesUp { reader, number } => self.reader_gives_up(reader, number),
        }
        Ok(())
    }

    /// A reader's turn.
    fn reader_begins(&mut self, reader: usize) {
        if !self.clients.active || self.readers.readers[reader].is_some() {
            return;
        }
        let random = &mut self.readers.random;
        let key = self.clients.present_key(random.position(self.clients.slots.len()));
        let reach = &self.clients.reach;
        let node = reach[random.position(reach.len())];
        let patience_us = random.between(PATIENCE_US);
        let level = Level::draw(random);
        self.begin_reading(reader, (key, level), node, patience_us);
    }

    fn begin_reading(&mut self, reader: usize, (key, level): (Key, Level), node: usize, patience_us: u64) {
        let Readers { reads_begun, random, .. } = &mut self.readers;
        *reads_begun += 1;
        let number = *reads_begun;
        let delay_us = random.between(self.clients.settings.delay_us);
        let is_in_order = !matches!(level, Level::Stale(_));
        let history = &mut self.clients.history;
        let id = is_in_order.then(|| history.invoke(FIRST_PROCESS + reader as u64, key, Call::Get));
        let floor = (level == Level::Linearizable).then(|| self.observer.real_time_order.floor());
        self.readers.readers[reader] = Some(Reading { number, key, level, id, floor, arrived: None, ticket: None });
        let request = ReaderRequest { node, reader, number, key };
        self.queue.push(self.now_us + delay_us, Event::Reader(ReaderEvent::Request(request)));
        self.queue.push(self.now_us + patience_us, Event::Reader(ReaderEvent::GivesUp { reader, number }));
    }

    /// When all is well, every member of a majority answers.
    pub(crate) fn demand_reads(&mut self, core: &[usize], patience_us: u64) -> Result<(), Violation> {
        if self.readers.count() == 0 {
            return Ok(());
        }
        let levels = [
            (Level::Quorum, "read without a leader"),
            (Level::Linearizable, "linearizable read"),
            (Level::Stale(Some(patience_us / 1000)), "read of a node's own state"),
        ];
        for (node, (level, what)) in core.iter().flat_map(|node| levels.map(|level| (*node, level))) {
            self.begin_reading(0, (self.clients.present_key(0), level), node, patience_us);
            let limit_us = self.now_us + 2 * patience_us;
            self.run_until(limit_us, &mut |world| world.readers.readers[0].is_none())?;
            if !self.readers.was_served {
                return Err(Violation::NotServing { what, waited_ms: patience_us / 1000 });
            }
        }
        Ok(())
    }

    /// A read reaches its node, whose process is not paused.
    fn reader_request(&mut self, request: ReaderRequest) -> Result<(), Violation> {
        let ReaderRequest { node, reader, number, key } = request;
        let now_us = self.now_us;
        let Node { life, is_forged, process, clock, .. } = &mut self.nodes[node];
        let Some(level) = self.readers.reading(reader, number).map(|reading| reading.level) else { return Ok(()) };
        let Some(process) = process.as_mut().filter(|_| !*is_forged) else {
            self.end_reading(reader, Completion::Failed);
            return Ok(());
        };
        self.readers.tickets_given += 1;
        let ticket = Ticket::new(self.readers.tickets_given);
        let now_ms = clock.now_ms(now_us);
        if let Some(reading) = self.readers.reading(reader, number) {
            reading.ticket = Some((node, *life, ticket));
            reading.arrived = Some((now_ms, clock.clone()));
        }
        self.readers.tickets.insert(ticket, (reader, number));
        self.observer.reader_asked(ticket);
        let key = Bytes::from(key.to_string());
        let min_revision = Revision::new(0);
        match level {
            Level::Quorum => process.engine.quorum_read(ticket, key, min_revision),
            Level::Linearizable => self.read_linearizably(node, |engine, now_ms| engine.read(ticket, key, now_ms))?,
            Level::Stale(max_age_ms) => {
                process.engine.stale_read(ticket, key, StaleBounds { max_age_ms, min_revision }, now_ms);
            }
        }
        self.drain(node)
    }

    /// A node answers a reader's ticket.
    pub(crate) fn reader_answered(&mut self, node: usize, ticket: Ticket, answer: Answer) -> Result<(), Violation> {
        self.observer.answered(node, ticket, &answer)?;
        let Some((reader, number)) = self.readers.tickets.remove(&ticket) else { return Ok(()) };
        if let Some(level) = self.readers.reading(reader, number).map(|reading| reading.level) {
            self.note_answer(node, level, &answer);
        }
        let delay_us = self.readers.random.between(self.clients.settings.delay_us);
        self.queue.push(self.now_us + delay_us, Event::Reader(ReaderEvent::Told { reader, number, answer }));
        Ok(())
    }

    /// What an answer says of the run.
    fn note_answer(&mut self, node: usize, level: Level, answer: &Answer) {
        let leader = self.leader().filter(|leader| self.nodes[*leader].is_running());
        match (level, answer) {
            (Level::Quorum, Answer::Read(result)) => {
                self.coverage.hit("read without a leader");
                if node_number(result.replica) != node {
                    self.coverage.hit("read without a leader from another node's state");
                }
                if leader.is_none() {
                    self.coverage.hit("read without a leader while none ran");
                }
            }
            (Level::Linearizable, Answer::Read(_)) if leader != Some(node) => {
                self.coverage.hit("linearizable read from a follower");
            }
            (Level::Linearizable, Answer::ReadAborted) => self.coverage.hit("linearizable read of a reader aborted"),
            (Level::Stale(_), Answer::Read(result)) => {
                self.coverage.hit("read of a state as it is");
                if result.age_ms.is_some_and(|age_ms| age_ms.get() > 200) {
                    self.coverage.hit("read of a state that may be old");
                }
            }
            (Level::Stale(_), Answer::TooStale { .. }) => self.coverage.hit("state too old for a read"),
            _ => {}
        }
    }

    /// An answer reaches its reader.
    fn reader_told(&mut self, reader: usize, number: u64, answer: &Answer) -> Result<(), Violation> {
        let Some(reading) = self.readers.reading(reader, number) else { return Ok(()) };
        let Reading { key, level, floor, ref arrived, .. } = *reading;
        let arrived = arrived.clone();
        if let Answer::Read(result) = answer {
            if let (Level::Stale(max_age_ms), Some(arrived)) = (level, arrived) {
                self.check_age(max_age_ms, &arrived, result)?;
            }
            let found = result.revision.get();
            if let Some(floor) = floor.filter(|floor| found < *floor) {
                return Err(Violation::RevisionFell { floor, found });
            }
        }
        let completion = match Output::of(answer) {
            Some((output, revision)) => {
                let told = words::output(&output);
                self.trace.tell(self.now_us, None, "reader", format_args!("r{reader} asked for {key}: {told}"));
                // What was read is committed, so whatever asks a leader from now on sees as much.
                let now_us = self.now_us;
                revision.into_iter().for_each(|revision| self.observer.real_time_order.seen(now_us, revision));
                Completion::Definite(output)
            }
            None => Completion::Failed,
        };
        self.end_reading(reader, completion);
        Ok(())
    }

    /// A state that is said to be so old has everything that was told to anybody before.
    fn check_age(
        &mut self,
        max_age_ms: Option<u64>,
        (arrived_ms, clock): &(u64, NodeClock),
        result: &ReadResult,
    ) -> Result<(), Violation> {
        let found = result.revision.get();
        let Some(age_ms) = result.age_ms.map(NonZeroU64::get) else {
            return max_age_ms.map_or(Ok(()), |max_age_ms| Err(Violation::TooOld { max_age_ms, age_ms: u64::MAX }));
        };
        if let Some(max_age_ms) = max_age_ms.filter(|max_age_ms| age_ms > *max_age_ms) {
            return Err(Violation::TooOld { max_age_ms, age_ms });
        }
        // What the clock of the node showed so long before is known as long as nothing has changed it since.
        let Some(at_us) = clock.when_ms((arrived_ms + 1).saturating_sub(age_ms)) else { return Ok(()) };
        self.coverage.hit("age of a state checked");
        let floor = self.observer.real_time_order.floor_before(at_us);
        if found < floor {
            return Err(Violation::StateOlderThanSaid { age_ms, floor, found });
        }
        Ok(())
    }

    /// A reader's patience is at its end.
    fn reader_gives_up(&mut self, reader: usize, number: u64) {
        let Some(Reading { ticket, level, .. }) = self.readers.reading(reader, number) else { return };
        let level = *level;
        if let Some((node, life, ticket)) = *ticket {
            self.readers.tickets.remove(&ticket);
            let node = &mut self.nodes[node];
            if node.life == life
                && node.paused.is_none()
                && let Some(process) = &mut node.process
            {
                process.engine.cancel(ticket);
            }
        }
        if level == Level::Quorum {
            self.coverage.hit("read without a leader given up");
        }
        self.end_reading(reader, Completion::Failed);
    }

    fn end_reading(&mut self, reader: usize, completion: Completion<Output>) {
        let Some(reading) = self.readers.readers[reader].take() else { return };
        self.readers.was_served = matches!(completion, Completion::Definite(_));
        if let Some(id) = reading.id {
            self.clients.history.complete(id, completion);
        }
        let think_us = self.readers.random.between(THINK_US);
        self.queue.push(self.now_us + think_us, Event::Reader(ReaderEvent::Begins { reader }));
    }

    /// Sends a replica's message on its way.
    pub(crate) fn send_replica(&mut self, from: usize, message: ReplicaMessage) {
        if self.nodes[from].is_forged {
            return; // what it has is wrong, which the hashes of states find, and no protocol of reads
        }
        let link = Link { from, to: node_number(message.to), lane: Lane::Replica };
        for at_us in self.network.send(self.now_us, link, &mut self.coverage).arrivals_us {
            self.queue.push(at_us, Event::DeliverReplica(message.clone()));
        }
    }

    pub(crate) fn deliver_replica(&mut self, message: ReplicaMessage) -> Result<(), Violation> {
        let (from, to) = (node_number(message.from), node_number(message.to));
        if !self.network.is_open(from, to) {
            return Ok(());
        }
        let Some(process) = &mut self.nodes[to].process else { return Ok(()) };
        self.trace.detail(self.now_us, Some(to), "replica", || words::replica_message(&message));
        if let ReplicaBody::Tell(tell) = &message.body
            && tell.answers.iter().any(|(_, known)| known.pending > tell.applied)
        {
            self.coverage.hit("witness of a write that is pending");
        }
        process.engine.replica_message(message);
        self.drain(to)
    }
}
