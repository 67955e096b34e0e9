//! What happens to clients: they begin, ask, are answered, try again and give up.

use engine::kv::{Command, Request as Write};
use engine::{Answer, Ticket};
use lincheck::Completion;

use crate::clients::{Attempt, Client, Outcome, Request};
use crate::counter::Counter;
use crate::history::{Call, Key};
use crate::leases::Operator;
use crate::queue::Event;
use crate::readers::Readers;
use crate::violation::Violation;
use crate::words;
use crate::world::World;

/// How long a client waits before it tries again, in microseconds.
const BACKOFF_US: (u64, u64) = (5_000, 150_000);

/// How long it waits if its session was refused.
const SESSION_BACKOFF_US: (u64, u64) = (100_000, 900_000);

/// So often a client doubles its patience with an attempt.
const ATTEMPT_DOUBLINGS: u64 = 3;

/// A counter settles a write instead of repeating it in one of so many cases in which others would at their end.
const COUNTERS_SETTLE: u64 = 6;

/// How long a client waits for the answer to an attempt when the network is well: connections that end are noticed.
const HEALTHY_ATTEMPT_US: (u64, u64) = (1_000_000, 2_000_000);

impl World {
    /// A client's turn.
    pub(crate) fn begin(&mut self, client: usize) {
        let Client { current, counter, .. } = &self.clients.clients[client];
        let has_to = counter.as_ref().is_some_and(Counter::is_open);
        if !(self.clients.active || has_to) || current.is_some() {
            return;
        }
        let (key, call) = self.clients.draw(client);
        self.begin_with(client, key, call);
    }

    /// A client begins this operation.
    pub(crate) fn begin_with(&mut self, client: usize, key: Key, call: Call) {
        self.trace.detail(self.now_us, None, "client", || format!("c{client} asks for {key}: {}", words::call(&call)));
        let floor = self.observer.real_time_order.floor();
        let operation = self.clients.begin(client, key, call, floor);
        let timeout_us = self.clients.settings.timeout_us;
        if self.clients.clients[client].counter.is_none() {
            let patience = if self.clients.repeats(client) { self.clients.named.between((1, 4)) } else { 1 };
            self.queue.push(self.now_us + patience * timeout_us, Event::GiveUp { client, operation });
        }
        self.ask(client);
    }

    fn ask(&mut self, client: usize) {
        let delay_us = self.clients.random.between(self.clients.settings.delay_us);
        let Some(request) = self.clients.request(client, self.nodes.len()) else { return };
        if self.clients.repeats(client) {
            // The longer it takes the more patient the client gets: each repeat is one more entry in the log.
            let patience = 1 << request.attempt.number.saturating_sub(1).min(ATTEMPT_DOUBLINGS);
            let attempt_us = if self.faults {
                patience * self.clients.named.between(self.clients.sessions.attempt_us)
            } else {
                self.clients.named.between(HEALTHY_ATTEMPT_US)
            };
            self.queue.push(self.now_us + attempt_us, Event::Resend { attempt: request.attempt });
        }
        let late_us = if request.is_late { self.clients.named.between(self.clients.sessions.late_us) } else { 0 };
        self.queue.push(self.now_us + delay_us + late_us, Event::Request(Box::new(request)));
    }

    /// A client has no answer to an attempt, and tries again: perhaps elsewhere, and with the same name.
    pub(crate) fn resend(&mut self, attempt: Attempt) {
        let settles = self.clients.named.chance(self.clients.sessions.settled / COUNTERS_SETTLE);
        let counts = self.clients.clients[attempt.client].counter.is_some();
        let Some(current) = self.clients.current(attempt) else { return };
        let ticket = current.ticket;
        if current.call.is_write() {
            self.coverage.hit("named write repeated");
            // The others settle when their patience is at its end, which that of counters never is.
            if counts && settles {
                (current.settling, current.unknown) = (true, true);
            }
        }
        self.cancel(ticket);
        self.clients.clients[attempt.client].leader = None;
        self.ask(attempt.client);
    }

    /// Connections are made anew: whoever waits for the answer to a named write on an old one asks again.
    pub(crate) fn reconnect(&mut self) {
        self.clients.sessions.late = 0;
        for client in 0..self.clients.clients.len() {
            let Some(current) = &self.clients.clients[client].current else { continue };
            let attempt = Attempt { client, operation: current.operation, number: current.attempt };
            if self.clients.repeats(client) {
                self.queue.push(self.now_us + BACKOFF_US.1, Event::Resend { attempt });
            }
        }
    }

    /// Nobody waits for the answer to a ticket any more.
    fn cancel(&mut self, ticket: Option<(usize, u64, Ticket)>) {
        let Some((node, life, ticket)) = ticket else { return };
        let node = &mut self.nodes[node];
        if node.life == life
            && node.paused.is_none()
            && let Some(process) = &mut node.process
        {
            process.engine.cancel(ticket);
        }
        self.clients.tickets.remove(&ticket);
    }

    /// A request reaches its node, whose process is not paused.
    pub(crate) fn request(&mut self, request: Request) -> Result<(), Violation> {
        let Request { attempt, mut node, key, write, is_late } = request;
        if is_late {
            // Whom it reaches hands it on to the leader, as servers do.
            let leader = self.leader().filter(|leader| self.nodes[*leader].is_running());
            node = leader.unwrap_or(node);
            self.coverage.hit("late copy of a named write");
            if self.clients.current(attempt).is_none() {
                self.coverage.hit("late copy after its client had moved on");
            }
            if !self.nodes[node].is_running() {
                self.refused(attempt, None);
                return Ok(());
            }
        }
        let now_ms = self.nodes[node].clock.now_ms(self.now_us);
        let life = self.nodes[node].life;
        if self.nodes[node].is_forged && write.is_none() {
            self.refused(attempt, None);
            return Ok(());
        }
        let Some(process) = &mut self.nodes[node].process else {
            // Nobody listens, so nobody can have taken it.
            self.refused(attempt, None);
            return Ok(());
        };
        let ticket = self.clients.ticket(attempt);
        if let Some(current) = self.clients.current(attempt) {
            current.ticket = Some((node, life, ticket));
        }
        let is_put = matches!(write, Some(Write { command: Command::Put { .. }, .. }));
        self.observer.asked(ticket, is_put, self.observer.views[node].wal_pending_bytes);
        match write {
            Some(write) => process.engine.write(ticket, &write, now_ms),
            None => self.read_linearizably(node, |engine, now_ms| engine.read(ticket, key, now_ms))?,
        }
        self.drain(node)
    }

    /// A node answers a ticket.
    pub(crate) fn answered(&mut self, node: usize, ticket: engine::Ticket, answer: Answer) -> Result<(), Violation> {
        if Operator::gave(ticket) {
            return Ok(());
        }
        if Readers::gave(ticket) {
            return self.reader_answered(node, ticket, answer);
        }
        self.observer.answered(node, ticket, &answer)?;
        if matches!(answer, Answer::Proposed { .. }) {
            return Ok(());
        }
        if self.nodes[node].is_forged && matches!(answer, Answer::Written(_)) {
            self.clients.tickets.remove(&ticket);
            return Ok(());
        }
        if matches!(answer, Answer::Dropped { .. }) {
            self.coverage.hit("write dropped");
        }
        if matches!(answer, Answer::Overloaded) && self.observer.disk_was_behind(ticket) {
            self.coverage.hit("overloaded by a disk that is behind");
        }
        if let Some(attempt) = self.clients.tickets.remove(&ticket) {
            let delay_us = self.clients.random.between(self.clients.settings.delay_us);
            let time_ms = self.nodes[node].process.as_ref().map_or(0, |process| process.engine.store().time_ms());
            self.queue.push(self.now_us + delay_us, Event::Answer { attempt, answer, time_ms });
        }
        Ok(())
    }

    /// An attempt was certainly not taken: the client may try again.
    pub(crate) fn refused(&mut self, attempt: Attempt, leader: Option<usize>) {
        let Some(current) = self.clients.current(attempt) else { return };
        current.outstanding = false;
        self.clients.clients[attempt.client].leader = leader;
        let backoff_us = self.clients.random.between(BACKOFF_US);
        self.queue.push(self.now_us + backoff_us, Event::Retry { attempt });
    }

    /// The same, of an attempt in a session that was refused: time has to pass before a new one is not.
    pub(crate) fn refused_session(&mut self, attempt: Attempt) {
        if let Some(current) = self.clients.current(attempt) {
            current.outstanding = false;
            let backoff_us = self.clients.named.between(SESSION_BACKOFF_US);
            self.queue.push(self.now_us + backoff_us, Event::Retry { attempt });
        }
    }

    /// A client tries again.
    pub(crate) fn retry(&mut self, attempt: Attempt) {
        if self.clients.current(attempt).is_some() {
            self.ask(attempt.client);
        }
    }

    /// A client's patience is at its end.
    pub(crate) fn give_up(&mut self, client: usize, operation: u64) {
        let Some(current) = &self.clients.clients[client].current else { return };
        if current.operation != operation {
            return;
        }
        let in_doubt = (current.outstanding || current.unknown) && current.call.is_write();
        let settles = in_doubt && !current.settling && current.request_id.is_some();
        let ticket = current.ticket;
        self.cancel(ticket);
        self.clients.clients[client].leader = None;
        if settles && self.clients.named.chance(self.clients.sessions.settled) {
            if let Some(current) = &mut self.clients.clients[client].current {
                (current.settling, current.unknown) = (true, true);
            }
            let timeout_us = 2 * self.clients.settings.timeout_us;
            self.queue.push(self.now_us + timeout_us, Event::GiveUp { client, operation });
            self.ask(client);
        } else if in_doubt {
            self.end_in_doubt(client);
        } else {
            self.end_refused(client);
        }
    }

    /// A client gives up without knowing what became of its write.
    pub(crate) fn end_in_doubt(&mut self, client: usize) {
        self.coverage.hit("write in doubt");
        self.trace.tell(self.now_us, None, "client", format_args!("c{client} gives up, in doubt"));
        let Client { current, counter, .. } = &mut self.clients.clients[client];
        if let (Some(current), Some(counter)) = (current, counter) {
            counter.in_doubt(current.key, current.call.clone());
        }
        self.end(client, Outcome::InDoubt);
    }

    pub(crate) fn end_refused(&mut self, client: usize) {
        let Some(current) = &self.clients.clients[client].current else { return };
        if current.call.is_write() {
            self.coverage.hit("write refused");
        }
        let id = current.id;
        self.trace.tell(self.now_us, None, "client", format_args!("c{client} is refused"));
        self.clients.history.complete(id, Completion::Failed);
        self.end(client, Outcome::Refused);
    }

    pub(crate) fn end(&mut self, client: usize, outcome: Outcome) {
        self.clients.end(client, outcome);
        if client != self.clients.probe() {
            let think_us = self.clients.random.between(self.clients.settings.think_us);
            self.queue.push(self.now_us + think_us, Event::Begin { client });
        }
    }
}
