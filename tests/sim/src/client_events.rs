//! What happens to clients: they begin, ask, are answered, try again and give up.

use engine::Answer;
use engine::kv::Command;
use lincheck::Completion;

use crate::clients::{Attempt, Outcome, Request};
use crate::history::{Call, Key, Output};
use crate::node::node_number;
use crate::queue::Event;
use crate::violation::Violation;
use crate::words;
use crate::world::World;

/// How long a client waits before it tries again, in microseconds.
const BACKOFF_US: (u64, u64) = (5_000, 150_000);

impl World {
    /// A client's turn.
    pub(crate) fn begin(&mut self, client: usize) {
        if !self.clients.active || self.clients.clients[client].current.is_some() {
            return;
        }
        let (key, call) = self.clients.draw();
        self.begin_with(client, key, call);
    }

    /// A client begins this operation.
    pub(crate) fn begin_with(&mut self, client: usize, key: Key, call: Call) {
        self.trace.detail(self.now_us, None, "client", || format!("c{client} asks for {key}: {}", words::call(&call)));
        let floor = self.observer.real_time_order.floor();
        let operation = self.clients.begin(client, key, call, floor);
        let timeout_us = self.clients.settings.timeout_us;
        self.queue.push(self.now_us + timeout_us, Event::GiveUp { client, operation });
        self.ask(client);
    }

    fn ask(&mut self, client: usize) {
        let delay_us = self.clients.random.between(self.clients.settings.delay_us);
        if let Some(request) = self.clients.request(client, self.nodes.len()) {
            self.queue.push(self.now_us + delay_us, Event::Request(Box::new(request)));
        }
    }

    /// A request reaches its node, whose process is not paused.
    pub(crate) fn request(&mut self, request: Request) -> Result<(), Violation> {
        let Request { attempt, node, key, command } = request;
        let now_ms = self.nodes[node].clock.now_ms(self.now_us);
        let life = self.nodes[node].life;
        if self.nodes[node].is_forged && command.is_none() {
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
        let is_put = matches!(command, Some(Command::Put { .. }));
        self.observer.asked(ticket, is_put, self.observer.views[node].wal_pending_bytes);
        match command {
            Some(command) => process.engine.write(ticket, &command.into(), now_ms),
            None => process.engine.read(ticket, key),
        }
        self.drain(node)
    }

    /// A node answers a ticket.
    pub(crate) fn answered(&mut self, node: usize, ticket: engine::Ticket, answer: Answer) -> Result<(), Violation> {
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
            self.queue.push(self.now_us + delay_us, Event::Answer { attempt, answer });
        }
        Ok(())
    }

    /// An answer reaches its client.
    pub(crate) fn told(&mut self, attempt: Attempt, answer: &Answer) -> Result<(), Violation> {
        let Some(current) = self.clients.current(attempt) else { return Ok(()) };
        let (key, call, floor, id) = (current.key, current.call.clone(), current.floor, current.id);
        let Some((output, revision)) = Output::of(answer) else {
            self.not_done(attempt, answer);
            return Ok(());
        };
        if let Some(revision) = revision {
            self.observer.real_time_order.told(floor, revision, call.is_write())?;
        }
        match output {
            Output::Written { revision, .. } | Output::Found { revision, .. } | Output::Exists { revision } => {
                self.clients.learn(key, revision);
            }
            Output::Mismatch { actual } => {
                self.coverage.hit("compare failed");
                self.clients.learn(key, actual);
            }
            Output::Deleted { .. } | Output::Missing => {}
        }
        let client = attempt.client;
        self.trace.tell(
            self.now_us,
            None,
            "client",
            format_args!("c{client} asked for {key}: {}: {}", words::call(&call), words::output(&output)),
        );
        self.clients.history.complete(id, Completion::Definite(output));
        self.end(client, Outcome::Acknowledged);
        Ok(())
    }

    /// An answer that says that nothing was done.
    fn not_done(&mut self, attempt: Attempt, answer: &Answer) {
        match answer {
            Answer::NotLeader { leader, .. } => self.refused(attempt, leader.map(node_number)),
            Answer::Overloaded | Answer::Transferring => {
                self.coverage.hit("overloaded");
                self.refused(attempt, self.clients.clients[attempt.client].leader);
            }
            Answer::StorageFull => {
                self.coverage.hit("disk full refused a put");
                self.refused(attempt, self.clients.clients[attempt.client].leader);
            }
            Answer::ReadAborted => {
                self.coverage.hit("read aborted");
                self.refused(attempt, None);
            }
            // Certain, but a client that was told so does not try again by itself.
            Answer::Dropped { .. } | Answer::Invalid(_) => self.end_refused(attempt.client),
            Answer::Proposed { .. } | Answer::Written(_) | Answer::Read(_) => {}
        }
    }

    /// An attempt was certainly not taken: the client may try again.
    fn refused(&mut self, attempt: Attempt, leader: Option<usize>) {
        let Some(current) = self.clients.current(attempt) else { return };
        current.outstanding = false;
        self.clients.clients[attempt.client].leader = leader;
        let backoff_us = self.clients.random.between(BACKOFF_US);
        self.queue.push(self.now_us + backoff_us, Event::Retry { attempt });
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
        let in_doubt = current.outstanding && current.call.is_write();
        if let Some((node, life, ticket)) = current.ticket {
            let node = &mut self.nodes[node];
            if node.life == life
                && node.paused.is_none()
                && let Some(process) = &mut node.process
            {
                process.engine.cancel(ticket);
            }
            self.clients.tickets.remove(&ticket);
        }
        self.clients.clients[client].leader = None;
        if in_doubt {
            self.coverage.hit("write in doubt");
            self.trace.tell(self.now_us, None, "client", format_args!("c{client} gives up, in doubt"));
            self.end(client, Outcome::InDoubt);
        } else {
            self.end_refused(client);
        }
    }

    fn end_refused(&mut self, client: usize) {
        let Some(current) = &self.clients.clients[client].current else { return };
        if current.call.is_write() {
            self.coverage.hit("write refused");
        }
        let id = current.id;
        self.trace.tell(self.now_us, None, "client", format_args!("c{client} is refused"));
        self.clients.history.complete(id, Completion::Failed);
        self.end(client, Outcome::Refused);
    }

    fn end(&mut self, client: usize, outcome: Outcome) {
        self.clients.end(client, outcome);
        if client != self.clients.probe() {
            let think_us = self.clients.random.between(self.clients.settings.think_us);
            self.queue.push(self.now_us + think_us, Event::Begin { client });
        }
    }
}
