//! One request: its attempts, from the first to the answer or the deadline.

use super::{
    Client, Leader,
    attempt::{Called, Message, call},
    classify::{self, Judged, Verdict},
    rpc::{Repeats, Rpc},
    session::Ticket,
    tour::Tour,
};
use crate::{Attempt, Endpoint, Error, Failure, Outcome, trace};
use proto::admin::v1::StatusRequest;
use std::{
    pin::pin,
    time::{Duration, Instant},
};
use tonic::{Code, Status};
use tracing::Instrument as _;

/// A write is not begun with less time than this left: it would turn a certain failure into an unknown one.
const WRITE_TIME_MIN: Duration = Duration::from_millis(50);

/// After this many rounds in which no Quorate node answered at all, there is no cluster to wait for. Their pauses add
/// up to about an election timeout; a user who mistyped an address is not kept waiting for the deadline.
const SILENT_ROUNDS_MAX: u32 = 5;

/// Runs a request to its end.
pub(super) async fn run<R: Rpc>(client: &Client, operation: &'static str, request: R) -> Result<R::Answer, Error> {
    let span = trace::request_span(operation);
    let journey = async move {
        let deadline = Instant::now() + client.timeout;
        let places = client.routes.places();
        let places = tokio::time::timeout_at(deadline.into(), places).await;
        let places = places.unwrap_or_else(|_| client.endpoints().to_vec());
        Journey::new(client, places, deadline, request.is_for_leader()).run(request).await
    };
    Box::pin(journey.instrument(span)).await
}

/// Asks one endpoint once.
pub(super) async fn ask<R: Rpc>(client: &Client, endpoint: &Endpoint, request: R) -> Result<R::Answer, Error> {
    let mut journey = Journey::new(client, vec![endpoint.clone()], Instant::now() + client.timeout, true);
    match Box::pin(journey.send(endpoint, &request, client.timeout)).await {
        Ok(answer) => Ok(answer),
        Err(judged) => {
            journey.record(endpoint, &judged);
            Err(match judged.verdict {
                Verdict::Repeat { .. } | Verdict::GiveUp => {
                    Error::unavailable(judged.code, judged.message, journey.attempts)
                }
                Verdict::Refused | Verdict::NoSession | Verdict::Unknown => journey.refused(request.key(), judged),
            })
        }
    }
}

/// The state of one request between its attempts.
struct Journey<'a> {
    client: &'a Client,
    deadline: Instant,
    tour: Tour,
    attempts: Vec<Attempt>,
    /// Whether a Quorate node answered.
    heard: bool,
    /// The name of a write, once it was sent. If the request is dropped, the name is acknowledged with it.
    ticket: Option<Ticket>,
}

/// A failed attempt, and who failed.
struct Failed {
    endpoint: Endpoint,
    judged: Judged,
}

impl Failed {
    fn new(endpoint: &Endpoint, judged: Judged) -> Failed {
        Failed { endpoint: endpoint.clone(), judged }
    }
}

impl<'a> Journey<'a> {
    fn new(client: &'a Client, mut endpoints: Vec<Endpoint>, deadline: Instant, for_leader: bool) -> Journey<'a> {
        let routes = &client.routes;
        // Clients begin at different nodes, and at those last that gave no answer a moment ago.
        let first = rand::random_range(0..endpoints.len());
        endpoints.rotate_left(first);
        endpoints.sort_by_key(|endpoint| routes.is_shunned(endpoint));
        let leader = routes.leader().filter(|_| for_leader).map(|leader| leader.endpoint);
        Journey {
            client,
            deadline,
            tour: Tour::new(endpoints, leader),
            attempts: Vec::new(),
            heard: false,
            ticket: None,
        }
    }

    async fn run<R: Rpc>(mut self, request: R) -> Result<R::Answer, Error> {
        loop {
            let endpoint = self.tour.next();
            let budget = self.budget::<R>(&endpoint);
            let Failed { endpoint, judged } = match self.attempt(&endpoint, &request, budget).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            tracing::debug!("{} at {endpoint}: {}", R::METHOD, judged.message);
            self.record(&endpoint, &judged);
            let pause = match judged.verdict {
                Verdict::Repeat { after } => self.tour.pause(after),
                Verdict::NoSession if self.begin_anew(&judged) => {
                    // The node is as good as before.
                    self.tour.heard_of(endpoint);
                    self.tour.pause(None)
                }
                Verdict::GiveUp => return Err(self.exhausted(&judged)),
                Verdict::NoSession | Verdict::Unknown | Verdict::Refused => {
                    return Err(self.refused(request.key(), judged));
                }
            };
            // Once the outcome is unknown, another attempt can only make it known.
            let certain_write = R::REPEATS != Repeats::Freely && !self.is_uncertain();
            let rest = if certain_write { WRITE_TIME_MIN } else { Duration::ZERO };
            let hopeless = !self.heard && self.tour.rounds() >= SILENT_ROUNDS_MAX;
            if hopeless || self.remaining() <= pause + rest {
                return Err(self.exhausted(&judged));
            }
            if !pause.is_zero() {
                tracing::debug!("waiting {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
                // The addresses of a name may be others by now.
                self.tour.renew(Box::pin(self.client.routes.places()).await);
            }
        }
    }

    /// One attempt. A write first makes sure that the node answers, and that the replicated time is known.
    async fn attempt<R: Rpc>(
        &mut self,
        endpoint: &Endpoint,
        request: &R,
        budget: Duration,
    ) -> Result<R::Answer, Failed> {
        if R::HEDGED && self.client.hedging {
            return self.send_hedged(endpoint, request, budget).await;
        }
        let is_certain = R::REPEATS == Repeats::Freely || self.is_proven::<R>(endpoint);
        // Seldom, so it takes no room in the future of each request.
        let budget = if is_certain { Ok(budget) } else { Box::pin(self.prove::<R>(endpoint, budget)).await };
        let sent = match budget {
            Ok(budget) => self.send(endpoint, request, budget).await,
            Err(judged) => Err(judged),
        };
        sent.map_err(|judged| Failed::new(endpoint, judged))
    }

    /// Whether `endpoint` answered lately, and all that a write needs is known.
    fn is_proven<R: Rpc>(&self, endpoint: &Endpoint) -> bool {
        let Client { routes, sessions, .. } = self.client;
        let needs_time = R::REPEATS == Repeats::ByName && self.ticket.is_none() && !sessions.has_heard();
        !needs_time && routes.is_proven(endpoint)
    }

    /// Makes sure that `endpoint` answers, before a write is entrusted to it. Returns what is left of `budget`.
    async fn prove<R: Rpc>(&mut self, endpoint: &Endpoint, budget: Duration) -> Result<Duration, Judged> {
        let routes = &self.client.routes;
        let until = Instant::now() + budget;
        let probe = self.send(endpoint, &StatusRequest {}, budget.min(self.patience())).await;
        match probe {
            // A node that answers an error is a node that answers.
            Err(judged) if judged.reason.is_none() => return Err(judged),
            // It would hold the write until it hears of a leader. Another endpoint may know one; in the next round,
            // when all were asked, waiting is the best that can be done.
            Ok(status) if status.leader_name.is_empty() && self.tour.rounds() == 0 => {
                routes.cut_off(endpoint);
                let leaderless = Status::unavailable("the node knows no leader");
                return Err(classify::judge(&leaderless, false, R::REPEATS));
            }
            Ok(_) | Err(_) => {}
        }
        // What the probe took, or a scheduler, may have left too little.
        let budget = until.saturating_duration_since(Instant::now());
        if budget < WRITE_TIME_MIN.min(self.client.timeout / 2) {
            let late = Status::deadline_exceeded("no time left for the write");
            return Err(classify::judge(&late, false, R::REPEATS));
        }
        Ok(budget)
    }

    /// One call, with what it teaches about the endpoint and the leader.
    async fn send<R: Rpc>(&mut self, endpoint: &Endpoint, request: &R, budget: Duration) -> Result<R::Answer, Judged> {
        let message = self.message(request);
        let called = call(self.client, endpoint, message, budget).await;
        self.settle::<R>(endpoint, called)
    }

    /// The same for a read that goes to a second endpoint if the first is slow. The first answer counts, and the other
    /// call is dropped.
    async fn send_hedged<R: Rpc>(
        &mut self,
        endpoint: &Endpoint,
        request: &R,
        budget: Duration,
    ) -> Result<R::Answer, Failed> {
        let (client, begun) = (self.client, Instant::now());
        let mut first = pin!(call(client, endpoint, self.message(request), budget));
        let delay = client.routes.hedge_delay(endpoint).min(budget / 2);
        if let Ok(called) = tokio::time::timeout(delay, &mut first).await {
            let settled = self.settle::<R>(endpoint, called);
            if is_answer(&settled) {
                client.hedges.earn();
            }
            return settled.map_err(|judged| Failed::new(endpoint, judged));
        }
        let other = self.tour.other(endpoint, |other| !client.routes.is_shunned(other));
        let Some(other) = other.filter(|_| client.hedges.spend()) else {
            let called = first.await;
            return self.settle::<R>(endpoint, called).map_err(|judged| Failed::new(endpoint, judged));
        };
        self.tour.ask(&other);
        tracing::debug!("{endpoint} has not answered for {} ms: asking {other} as well", delay.as_millis());
        let left = budget.saturating_sub(begun.elapsed());
        let mut second = Box::pin(call(client, &other, self.message(request), left));
        let (by_first, called) = tokio::select! {
            called = &mut first => (true, called),
            called = &mut second => (false, called),
        };
        let (at, beside) = if by_first { (endpoint, &other) } else { (&other, endpoint) };
        let settled = self.settle::<R>(at, called);
        if is_answer(&settled) && !by_first {
            client.routes.outrun(endpoint, begun.elapsed());
        }
        match settled {
            Err(judged) if judged.verdict != Verdict::Refused => self.record(at, &judged),
            answer => return answer.map_err(|judged| Failed::new(at, judged)),
        }
        let called = if by_first { second.await } else { first.await };
        self.settle::<R>(beside, called).map_err(|judged| Failed::new(beside, judged))
    }

    /// The request as it is sent now.
    fn message<'r, R: Rpc>(&mut self, request: &'r R) -> Message<'r, R> {
        let name = (R::REPEATS == Repeats::ByName)
            .then(|| self.ticket.get_or_insert_with(|| self.client.sessions.take()).to_wire());
        Message { request, name, tries: self.attempts.iter().map(|attempt| attempt.tries).sum() }
    }

    /// What a call teaches about the endpoint and the leader.
    fn settle<R: Rpc>(&mut self, endpoint: &Endpoint, called: Called<R::Answer>) -> Result<R::Answer, Judged> {
        let Client { routes, sessions, seen, .. } = self.client;
        let Called { result, leader, left, took, connection, span } = called;
        let status = match result {
            Ok(answer) => {
                trace::finish(&span, Code::Ok);
                if let Some(time_ms) = R::time_ms(&answer) {
                    sessions.hear(time_ms);
                }
                if let Some(revision) = R::revision(&answer) {
                    seen.note(revision);
                }
                self.learn(endpoint, connection, leader.as_deref(), None);
                if R::HEDGED {
                    routes.answered_read(endpoint, took);
                }
                return Ok(answer);
            }
            Err(status) => status,
        };
        let judged = classify::judge(&status, left, R::REPEATS);
        trace::finish(&span, judged.code);
        if judged.reason.is_some() {
            self.learn(endpoint, connection, leader.as_deref(), Some(&judged));
            if judged.is_cut_off() {
                routes.cut_off(endpoint);
            }
            if let Some(revision) = judged.revision() {
                seen.note(revision);
            }
            if let Some((asked_for, revision)) = judged.ahead() {
                seen.set_back(asked_for, revision);
            }
        } else {
            routes.failed(endpoint, connection);
            self.tour.fell_silent(endpoint);
        }
        Err(judged)
    }

    /// A node answered, and perhaps named the leader.
    fn learn(&mut self, endpoint: &Endpoint, connection: u64, named: Option<&Leader>, judged: Option<&Judged>) {
        self.heard = true;
        self.client.routes.answered(endpoint, connection);
        let in_details = judged.filter(|_| named.is_none());
        let in_details = in_details.and_then(|judged| classify::leader_in_details(&judged.details));
        if let Some(leader) = named.or(in_details.as_ref()) {
            if judged.is_some() && leader.endpoint != *endpoint {
                self.tour.heard_of(leader.endpoint.clone());
            }
            self.client.routes.learn(leader);
        }
    }

    /// The cluster does not know the session of the write. True if the write may be sent under another name: if none of
    /// its attempts can have been applied.
    fn begin_anew(&mut self, judged: &Judged) -> bool {
        let Some(ticket) = self.ticket.take() else { return false };
        let Client { sessions, seen, .. } = self.client;
        sessions.leave(&ticket);
        match judged.time_ms() {
            Some(now_ms) if judged.is_ahead() => {
                sessions.begin_time_anew(now_ms);
                seen.forget();
            }
            Some(now_ms) => sessions.hear(now_ms),
            None => {}
        }
        !self.is_uncertain()
    }

    /// Whether an attempt may have been applied.
    fn is_uncertain(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.outcome == Outcome::Unknown)
    }

    /// How long an attempt may take. A slow endpoint is left for another, with more patience in each round. Where there
    /// is no other, it is the connection that may be dead, and it gets half the time; a handover has only one attempt.
    fn budget<R: Rpc>(&self, endpoint: &Endpoint) -> Duration {
        let remaining = self.remaining();
        if R::REPEATS == Repeats::Never {
            return remaining;
        }
        if self.tour.is_only(endpoint) {
            return if remaining / 2 > self.client.attempt_timeout { remaining / 2 } else { remaining };
        }
        self.patience().min(remaining)
    }

    /// How long an endpoint may be silent while there are others: longer in each round, because all may just be slow.
    fn patience(&self) -> Duration {
        self.client.attempt_timeout.saturating_mul(1 << self.tour.rounds().min(16))
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Keeps what an endpoint said last.
    fn record(&mut self, endpoint: &Endpoint, judged: &Judged) {
        let before = self.attempts.iter().position(|attempt| attempt.endpoint == *endpoint);
        let attempt = Attempt {
            endpoint: endpoint.clone(),
            code: judged.code,
            reason: judged.reason.clone(),
            message: judged.message.clone(),
            outcome: judged.outcome,
            tries: 1,
        };
        match before.map(|at| &mut self.attempts[at]) {
            Some(slot) => {
                let outcome = slot.outcome.merge(attempt.outcome);
                *slot = Attempt { tries: slot.tries + 1, outcome, ..attempt };
            }
            None => self.attempts.push(attempt),
        }
    }

    /// The attempts are used up, or the time is; `last` could have been followed by another.
    fn exhausted(mut self, last: &Judged) -> Error {
        // What a node said tells more than that another could not be reached.
        let told = self.attempts.iter().rev().find(|attempt| attempt.reason.is_some());
        let uncertain = self.is_uncertain();
        let message = match told {
            Some(attempt) => attempt.message.clone(),
            None if uncertain || last.code == Code::DeadlineExceeded => last.message.clone(),
            None => "no endpoint answered".to_owned(),
        };
        if uncertain {
            return self.unknown(message);
        }
        Error::unavailable(last.code, message, std::mem::take(&mut self.attempts))
    }

    /// The end of a request that must not go on: a node decided, or the outcome is unknown.
    fn refused(self, key: Option<&str>, judged: Judged) -> Error {
        let expired = judged.reason.as_deref() == Some(classify::SESSION_EXPIRED);
        let Judged { code, reason, message, details, .. } = match judged {
            judged if self.is_uncertain() && judged.verdict == Verdict::NoSession => {
                return Error::SessionExpired(Box::new(Failure { message: judged.message, attempts: self.attempts }));
            }
            judged if self.is_uncertain() && !judged.settles() => return self.unknown(judged.message),
            judged => judged,
        };
        let failure = Box::new(Failure { message, attempts: self.attempts });
        let revision = |name: &str| details.get(name).and_then(|text| text.parse().ok());
        match (code, key.map(str::to_owned)) {
            (Code::AlreadyExists, Some(key)) => Error::KeyExists { key, failure },
            (Code::NotFound, Some(key)) => Error::KeyNotFound { key, failure },
            (Code::FailedPrecondition, Some(key)) if reason.as_deref() == Some("REVISION_MISMATCH") => {
                Error::RevisionMismatch { key, actual: revision("currentRevision"), failure }
            }
            // A question about a write. A write itself that could not be begun anew was certainly not applied.
            (Code::FailedPrecondition, None) if expired => Error::SessionExpired(failure),
            (Code::InvalidArgument, _) => Error::InvalidArgument(failure),
            _ => Error::Refused(failure),
        }
    }

    /// An attempt may have been applied, and none told what came of it. From here on the name is the caller's.
    fn unknown(self, message: String) -> Error {
        let request_id = self.ticket.map(|ticket| self.client.sessions.hand_out(ticket));
        Error::OutcomeUnknown { request_id, failure: Box::new(Failure { message, attempts: self.attempts }) }
    }
}

/// Whether a call ended with an answer. That there is no such key is one, too.
fn is_answer<A>(settled: &Result<A, Judged>) -> bool {
    settled.as_ref().map_or_else(|judged| judged.verdict == Verdict::Refused, |_| true)
}
