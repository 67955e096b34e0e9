//! One request: its attempts, from the first to the answer or the deadline.

use super::{
    Client,
    classify::{self, Judged, Verdict},
    rpc::{self, Progress, Rpc},
    tour::Tour,
};
use crate::{Attempt, Endpoint, Error, Failure, Outcome, trace};
use proto::admin::v1::StatusRequest;
use std::time::{Duration, Instant};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use tracing::Instrument as _;

/// A write is not begun with less time than this left: it would turn a certain failure into an unknown one.
const WRITE_TIME_MIN: Duration = Duration::from_millis(50);

/// After this many rounds in which no Quorate node answered at all, there is no cluster to wait for. Their pauses add
/// up to about an election timeout; a user who mistyped an address is not kept waiting for the deadline.
const SILENT_ROUNDS_MAX: u32 = 5;

/// gRPC's request metadata that tells a server of earlier attempts (gRFC A6).
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// Runs a request to its end.
pub(super) async fn run<R: Rpc>(client: &Client, operation: &'static str, request: R) -> Result<R::Answer, Error> {
    let span = trace::request_span(operation);
    let journey = Journey::new(client);
    Box::pin(journey.run(request).instrument(span)).await
}

/// Asks one endpoint once.
pub(super) async fn ask<R: Rpc>(client: &Client, endpoint: &Endpoint, request: R) -> Result<R::Answer, Error> {
    let mut journey = Journey::new(client);
    match Box::pin(journey.attempt(endpoint, &request, client.timeout)).await {
        Ok(response) => Ok(response.into_inner()),
        Err(judged) => {
            journey.record(endpoint, &judged);
            Err(match judged.verdict {
                Verdict::Repeat { .. } | Verdict::GiveUp => {
                    Error::unavailable(judged.code, judged.message, journey.attempts)
                }
                Verdict::Refused | Verdict::Unknown => journey.refused(request.key(), judged),
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
}

impl<'a> Journey<'a> {
    fn new(client: &'a Client) -> Journey<'a> {
        let routes = &client.routes;
        let mut endpoints = routes.configured().to_vec();
        // Clients begin at different nodes, and at those last that gave no answer a moment ago.
        let first = rand::random_range(0..endpoints.len());
        endpoints.rotate_left(first);
        endpoints.sort_by_key(|endpoint| routes.is_shunned(endpoint));
        Journey {
            client,
            deadline: Instant::now() + client.timeout,
            tour: Tour::new(endpoints, routes.leader().map(|leader| leader.endpoint)),
            attempts: Vec::new(),
            heard: false,
        }
    }

    async fn run<R: Rpc>(mut self, request: R) -> Result<R::Answer, Error> {
        loop {
            let endpoint = self.tour.next();
            let judged = match self.attempt(&endpoint, &request, self.budget::<R>()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(judged) => judged,
            };
            tracing::debug!("{} at {endpoint}: {}", R::METHOD, judged.message);
            self.record(&endpoint, &judged);
            let pause = match judged.verdict {
                Verdict::Repeat { after } => self.tour.pause(after),
                Verdict::GiveUp => return Err(self.exhausted(&judged)),
                Verdict::Unknown | Verdict::Refused => return Err(self.refused(request.key(), judged)),
            };
            let rest = if R::REPEATABLE { Duration::ZERO } else { WRITE_TIME_MIN };
            let hopeless = !self.heard && self.tour.rounds() >= SILENT_ROUNDS_MAX;
            if hopeless || self.remaining() <= pause + rest {
                return Err(self.exhausted(&judged));
            }
            if !pause.is_zero() {
                tracing::debug!("waiting {} ms", pause.as_millis());
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// One attempt. A write first makes sure that the node answers.
    async fn attempt<R: Rpc>(
        &mut self,
        endpoint: &Endpoint,
        request: &R,
        budget: Duration,
    ) -> Result<Response<R::Answer>, Judged> {
        let routes = &self.client.routes;
        if R::REPEATABLE || routes.is_proven(endpoint) {
            return self.send(endpoint, request, budget).await;
        }
        let until = Instant::now() + budget;
        let probe = self.send(endpoint, &StatusRequest {}, budget.min(self.client.attempt_timeout)).await;
        match probe {
            // A node that answers an error is a node that answers.
            Err(judged) if judged.reason.is_none() => return Err(judged),
            // It would hold the write until it hears of a leader. Another endpoint may know one; in the next round,
            // when all were asked, waiting is the best that can be done.
            Ok(status) if status.get_ref().leader_name.is_empty() && self.tour.rounds() == 0 => {
                routes.cut_off(endpoint);
                let leaderless = Status::unavailable("the node knows no leader");
                return Err(classify::judge(&leaderless, false, R::REPEATABLE));
            }
            Ok(_) | Err(_) => {}
        }
        // What the probe took, or a scheduler, may have left too little.
        let budget = until.saturating_duration_since(Instant::now());
        if budget < WRITE_TIME_MIN.min(self.client.timeout / 2) {
            let late = Status::deadline_exceeded("no time left for the write");
            return Err(classify::judge(&late, false, R::REPEATABLE));
        }
        self.send(endpoint, request, budget).await
    }

    /// One call, with what it teaches about the endpoint and the leader.
    async fn send<R: Rpc>(
        &mut self,
        endpoint: &Endpoint,
        request: &R,
        budget: Duration,
    ) -> Result<Response<R::Answer>, Judged> {
        let routes = &self.client.routes;
        let span = trace::attempt_span(R::METHOD, endpoint);
        tracing::debug!("{} at {endpoint}", R::METHOD);
        let mut message = Request::new(request.clone());
        message.set_timeout(budget);
        trace::inject(&span, message.metadata_mut());
        let tries: u32 = self.attempts.iter().map(|attempt| attempt.tries).sum();
        if tries > 0 {
            message.metadata_mut().insert(PREVIOUS_ATTEMPTS, tries.into());
        }
        let progress = Progress::default();
        let call = rpc::call(routes.channel(endpoint), message, progress.clone()).instrument(span.clone());
        let answer = tokio::time::timeout(budget, call).await;
        let status = match answer {
            Ok(Ok(response)) => {
                trace::finish(&span, Code::Ok);
                self.learn(endpoint, response.metadata(), None);
                return Ok(response);
            }
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded(format!("no answer within {} ms", budget.as_millis())),
        };
        let left = !progress.withdraw();
        let judged = classify::judge(&status, left, R::REPEATABLE);
        trace::finish(&span, judged.code);
        if judged.reason.is_some() {
            self.learn(endpoint, status.metadata(), Some(&judged));
            if judged.reason.as_deref() == Some("NO_QUORUM") {
                routes.cut_off(endpoint);
            }
        } else {
            routes.failed(endpoint);
            self.tour.fell_silent(endpoint);
        }
        Err(judged)
    }

    /// A node answered, and perhaps named the leader.
    fn learn(&mut self, endpoint: &Endpoint, metadata: &MetadataMap, judged: Option<&Judged>) {
        self.heard = true;
        self.client.routes.answered(endpoint);
        let named = classify::leader(metadata);
        let leader = named.or_else(|| judged.and_then(|judged| classify::leader_in_details(&judged.details)));
        if let Some(leader) = leader {
            if judged.is_some() && leader.endpoint != *endpoint {
                self.tour.heard_of(leader.endpoint.clone());
            }
            self.client.routes.learn(leader);
        }
    }

    /// How long an attempt may take. A read leaves a slow endpoint for another, and has more patience in each round; a
    /// write that left has no other.
    fn budget<R: Rpc>(&self) -> Duration {
        let remaining = self.remaining();
        if R::REPEATABLE && !self.tour.is_single() {
            let patience = self.client.attempt_timeout.saturating_mul(1 << self.tour.rounds().min(16));
            return patience.min(remaining);
        }
        remaining
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
    fn exhausted(self, last: &Judged) -> Error {
        // What a node said tells more than that another could not be reached.
        let told = self.attempts.iter().rev().find(|attempt| attempt.reason.is_some());
        let message = match told {
            Some(attempt) => attempt.message.clone(),
            None if last.code == Code::DeadlineExceeded => last.message.clone(),
            None => "no endpoint answered".to_owned(),
        };
        Error::unavailable(last.code, message, self.attempts)
    }

    /// The end of a request that must not go on: a node decided, or the outcome is unknown.
    fn refused(self, key: Option<&str>, judged: Judged) -> Error {
        let outcome = self.attempts.iter().fold(Outcome::NotApplied, |all, attempt| all.merge(attempt.outcome));
        let Judged { code, reason, message, details, .. } = judged;
        let failure = Box::new(Failure { message, attempts: self.attempts });
        if outcome == Outcome::Unknown {
            return Error::OutcomeUnknown(failure);
        }
        let revision = |name: &str| details.get(name).and_then(|text| text.parse().ok());
        match (code, key.map(str::to_owned)) {
            (Code::AlreadyExists, Some(key)) => Error::KeyExists { key, failure },
            (Code::NotFound, Some(key)) => Error::KeyNotFound { key, failure },
            (Code::FailedPrecondition, Some(key)) if reason.as_deref() == Some("REVISION_MISMATCH") => {
                Error::RevisionMismatch { key, actual: revision("currentRevision"), failure }
            }
            (Code::InvalidArgument, _) => Error::InvalidArgument(failure),
            _ => Error::Refused(failure),
        }
    }
}
