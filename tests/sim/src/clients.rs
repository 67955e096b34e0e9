//! The clients: what each is doing, and what is recorded of it.
//!
//! An outcome is acknowledged, refused (certainly never applied) or in doubt, and never guessed: once a request has
//! left, only an answer that says so makes it refused.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use engine::Ticket;
use engine::kv::{self, Command, PutMode, RequestId, Revision};
use lincheck::OperationId;

use crate::counter::{COUNTER_SLOTS, Counter};
use crate::history::{Call, ClientHistory, Key, Mode};
use crate::random::Random;
use crate::sessions::{ClientSession, SessionSettings};
use crate::settings::{ClientSettings, Settings};

/// After so many writes in doubt a slot gets a new key: each may take effect at any later time, so each makes the
/// search longer.
const KEY_DOUBTS_MAX: u64 = 8;

/// One try of one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attempt {
    pub(crate) client: usize,
    pub(crate) operation: u64,
    pub(crate) number: u64,
}

/// A request on its way to a node.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) attempt: Attempt,
    pub(crate) node: usize,
    pub(crate) key: Bytes,
    /// None for a read.
    pub(crate) write: Option<kv::Request>,
    /// It was so long under way that whoever it reaches hands it on to the leader.
    pub(crate) is_late: bool,
}

/// What a client is doing.
pub(crate) struct InFlight {
    pub(crate) operation: u64,
    pub(crate) attempt: u64,
    pub(crate) key: Key,
    pub(crate) call: Call,
    pub(crate) id: OperationId,
    /// No answer may show an older revision.
    pub(crate) floor: u64,
    /// The last request has left and was not certainly refused.
    pub(crate) outstanding: bool,
    /// The same of an earlier one: whatever is said of later ones, that one may have been run, or may still be.
    pub(crate) unknown: bool,
    /// The name of the write, if it has one.
    pub(crate) request_id: Option<RequestId>,
    /// The client repeats the write no more, and asks what became of it.
    pub(crate) settling: bool,
    /// Where the request waits: node, process, ticket.
    pub(crate) ticket: Option<(usize, u64, Ticket)>,
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Acknowledged,
    Refused,
    InDoubt,
}

/// A client.
#[derive(Default)]
pub(crate) struct Client {
    /// Its name in the history; a new one after each doubt.
    pub(crate) process: u64,
    /// Where it takes the leader to be.
    pub(crate) leader: Option<usize>,
    pub(crate) current: Option<InFlight>,
    pub(crate) last: Option<Outcome>,
    /// It gives its writes names, and repeats them until it knows their outcomes.
    pub(crate) names_writes: bool,
    /// It does not say which results it needs no more until it must.
    pub(crate) is_lazy: bool,
    pub(crate) session: Option<ClientSession>,
    /// The latest replicated time that it was told of, in milliseconds.
    pub(crate) time_ms: u64,
    pub(crate) counter: Option<Counter>,
}

/// What clients know of a key in use.
#[derive(Clone, Copy, Default)]
pub(crate) struct Slot {
    epoch: u64,
    operations: u64,
    doubts: u64,
    /// The last revision of it that any client was told, for comparisons.
    revision: u64,
}

/// All clients.
pub(crate) struct Clients {
    pub(crate) settings: ClientSettings,
    pub(crate) sessions: SessionSettings,
    /// Whom clients ask that know of no leader.
    pub(crate) reach: Vec<usize>,
    /// The last one is the probe of the second phase; it does nothing of its own accord.
    pub(crate) clients: Vec<Client>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) history: ClientHistory,
    pub(crate) tickets: BTreeMap<Ticket, Attempt>,
    /// Whether new operations begin.
    pub(crate) active: bool,
    pub(crate) random: Random,
    /// The luck of sessions and counters, which is of no concern to the others.
    pub(crate) named: Random,
    tickets_given: u64,
    values_given: u64,
    operations_begun: u64,
    processes: u64,
}

impl Clients {
    pub(crate) fn new(settings: &Settings, random: Random, mut named: Random) -> Clients {
        let Settings { size, clients: settings, sessions, .. } = settings.clone();
        let count = settings.count + sessions.counters + 1;
        let client = |number: usize| {
            let counter = (settings.count..count - 1).contains(&number);
            Client {
                process: number as u64,
                names_writes: counter || (number < settings.count && named.chance(sessions.named)),
                is_lazy: named.chance(sessions.lazy),
                counter: counter.then(|| Counter::new(number)),
                ..Client::default()
            }
        };
        Clients {
            clients: (0..count).map(client).collect(),
            slots: vec![Slot::default(); settings.keys],
            reach: (0..size).collect(),
            settings,
            sessions,
            named,
            history: ClientHistory::new(),
            tickets: BTreeMap::new(),
            active: true,
            random,
            tickets_given: 0,
            values_given: 0,
            operations_begun: 0,
            processes: count as u64,
        }
    }

    /// The number of the probe.
    pub(crate) fn probe(&self) -> usize {
        self.clients.len() - 1
    }

    /// What a client does next, by chance.
    pub(crate) fn draw(&mut self, client: usize) -> (Key, Call) {
        if let Some(counter) = &mut self.clients[client].counter {
            let values_given = &mut self.values_given;
            return counter.draw(&mut self.named, || {
                *values_given += 1;
                *values_given
            });
        }
        let slot = self.random.position(self.slots.len());
        let key = self.key(slot);
        let revision = self.slots[slot].revision;
        let reads = self.settings.reads;
        let drawn = self.random.below(1000);
        let call = if drawn < reads {
            Call::Get
        } else if drawn < reads + 60 {
            let expected_revision = if self.random.chance(500) { Some(revision) } else { None };
            Call::Delete { expected_revision }
        } else {
            let stale = revision.saturating_sub(1);
            let mode = match self.random.below(8) {
                0 => Mode::Create,
                1 => Mode::Update,
                2 | 3 => Mode::Compare(if self.random.chance(800) { revision } else { stale }),
                _ => Mode::Upsert,
            };
            Call::Put { value: self.new_value(), mode }
        };
        (key, call)
    }

    /// A value that was never written.
    pub(crate) fn new_value(&mut self) -> u64 {
        self.values_given += 1;
        self.values_given
    }

    /// The key that a slot has had last.
    pub(crate) fn present_key(&self, slot: usize) -> Key {
        Key { slot, epoch: self.slots[slot].epoch }
    }

    /// The key of a slot for one more operation: a new one if the last one has seen enough.
    pub(crate) fn key(&mut self, slot: usize) -> Key {
        let slot_state = &mut self.slots[slot];
        if slot_state.operations >= self.settings.key_operations || slot_state.doubts >= KEY_DOUBTS_MAX {
            *slot_state = Slot { epoch: slot_state.epoch + 1, ..Slot::default() };
        }
        slot_state.operations += 1;
        Key { slot, epoch: slot_state.epoch }
    }

    /// A client begins an operation. Returns its number.
    pub(crate) fn begin(&mut self, client: usize, key: Key, call: Call, floor: u64) -> u64 {
        self.operations_begun += 1;
        let operation = self.operations_begun;
        let id = self.history.invoke(self.clients[client].process, key, call.clone());
        let names = self.clients[client].names_writes && call.is_write();
        let request_id = names.then(|| self.next_id(client));
        self.clients[client].current = Some(InFlight {
            operation,
            attempt: 0,
            key,
            call,
            id,
            floor,
            outstanding: false,
            unknown: false,
            request_id,
            settling: false,
            ticket: None,
        });
        operation
    }

    /// A name for a client's next write, perhaps in a new session.
    pub(crate) fn next_id(&mut self, client: usize) -> RequestId {
        let client = &mut self.clients[client];
        if self.named.chance(self.sessions.fresh) {
            client.session = None;
        }
        let time_ms = client.time_ms;
        let session = client.session.get_or_insert_with(|| ClientSession::open(time_ms, &mut self.named));
        session.next_id(client.is_lazy)
    }

    /// Whether a client asks again when an answer does not come.
    pub(crate) fn repeats(&self, client: usize) -> bool {
        let Client { current, counter, .. } = &self.clients[client];
        counter.is_some() || current.as_ref().is_some_and(|current| current.request_id.is_some())
    }

    /// A client's next request, to a node of its choice.
    pub(crate) fn request(&mut self, client: usize, size: usize) -> Option<Request> {
        // Some go astray: to old leaders that do not know that they are, among others.
        let hint = self.clients[client].leader.filter(|_| !self.random.chance(100));
        let reach = self.reach.len();
        let hint = hint.filter(|node| reach == size || self.reach.contains(node));
        let node = hint.unwrap_or_else(|| self.reach[self.random.position(reach)]);
        let current = self.clients[client].current.as_mut()?;
        current.attempt += 1;
        current.unknown |= current.outstanding;
        current.outstanding = true;
        current.ticket = None;
        let attempt = Attempt { client, operation: current.operation, number: current.attempt };
        let (key, call, id) = (current.key, current.call.clone(), current.request_id);
        let settles = current.settling.then_some(Command::Settle);
        let (key, command) = self.command(key, &call);
        let write = settles.or(command).map(|command| kv::Request { id, command });
        let is_late = id.is_some() && self.named.chance(self.sessions.late);
        Some(Request { attempt, node, key, write, is_late })
    }

    fn command(&self, key: Key, call: &Call) -> (Bytes, Option<Command>) {
        let key = Bytes::from(key.to_string());
        let command = match call {
            Call::Get => None,
            Call::Delete { expected_revision } => Some(Command::Delete {
                key: key.clone(),
                expected_revision: expected_revision.map(Revision::new),
                return_previous: expected_revision.is_none(),
            }),
            Call::Put { value, mode } => {
                let mode = match mode {
                    Mode::Create => PutMode::Create,
                    Mode::Upsert => PutMode::Upsert,
                    Mode::Update => PutMode::Update,
                    Mode::Compare(revision) => PutMode::Compare { expected_revision: Revision::new(*revision) },
                };
                Some(Command::Put { key: key.clone(), value: self.value_bytes(*value), mode })
            }
        };
        (key, command)
    }

    /// A value's bytes: its number, and a tail whose length depends on the number alone.
    fn value_bytes(&self, value: u64) -> Bytes {
        let mut lengths = Random::new(value);
        let large = lengths.chance(self.settings.large_values);
        let tail = if large { lengths.between(self.settings.large_bytes) } else { lengths.below(60) };
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(value);
        bytes.put_bytes(b'v', usize::try_from(tail).expect("a small number"));
        bytes.freeze()
    }

    /// A ticket for an attempt.
    pub(crate) fn ticket(&mut self, attempt: Attempt) -> Ticket {
        self.tickets_given += 1;
        let ticket = Ticket::new(self.tickets_given);
        self.tickets.insert(ticket, attempt);
        ticket
    }

    /// What a client is doing, if it is still this attempt.
    pub(crate) fn current(&mut self, attempt: Attempt) -> Option<&mut InFlight> {
        let current = self.clients[attempt.client].current.as_mut()?;
        (current.operation == attempt.operation && current.attempt == attempt.number).then_some(current)
    }

    /// The revision of a key was told.
    pub(crate) fn learn(&mut self, key: Key, revision: u64) {
        if let Some(slot) = self.slots.get_mut(key.slot)
            && slot.epoch == key.epoch
        {
            slot.revision = revision;
        }
    }

    /// A client's operation has ended.
    pub(crate) fn end(&mut self, client: usize, outcome: Outcome) -> Option<InFlight> {
        let ended = self.clients[client].current.take()?;
        self.clients[client].last = Some(outcome);
        if outcome == Outcome::InDoubt {
            self.clients[client].process = self.processes;
            self.processes += 1;
            let Key { slot, epoch } = ended.key;
            if slot < COUNTER_SLOTS && self.slots[slot].epoch == epoch {
                self.slots[slot].doubts += 1;
            }
        }
        Some(ended)
    }

    /// How many operations are under way.
    pub(crate) fn under_way(&self) -> usize {
        let is_open = |client: &Client| client.counter.as_ref().is_some_and(Counter::is_open);
        self.clients.iter().filter(|client| client.current.is_some() || is_open(client)).count()
    }
}
