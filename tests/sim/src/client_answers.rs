//! What clients make of answers. Which ones are certain is what the interface says of them: a client that was told of a
//! refusal knows that this attempt was not run, and of earlier ones only what it knew before.

use engine::Answer;
use engine::kv::{Applied, Refusal, Settled};
use lincheck::Completion;

use crate::clients::{Attempt, Outcome};
use crate::history::Output;
use crate::invariants::position;
use crate::node::{node_id, node_number};
use crate::violation::Violation;
use crate::words;
use crate::world::World;

/// How many clients whose first attempt met an expired session do not try again.
const DISCOURAGED: u64 = 300;

impl World {
    /// An answer reaches its client.
    pub(crate) fn told(&mut self, attempt: Attempt, answer: &Answer, time_ms: u64) -> Result<(), Violation> {
        if self.clients.current(attempt).is_none() {
            return Ok(());
        }
        self.learn_time(attempt.client, answer, time_ms);
        match answer {
            Answer::Written(Applied::Refused(refusal)) => self.name_refused(attempt, *refusal),
            Answer::Written(Applied::Settled(settled)) => match settled {
                Settled::Result(applied) => self.done(attempt, &Answer::Written((**applied).clone())),
                Settled::NeverApplied => {
                    self.end_refused(attempt.client);
                    Ok(())
                }
                // It says that it needs a result no more only after it has no more use for it.
                Settled::Forgotten => Err(self.wronged(attempt, "its write is forgotten".to_owned())),
            },
            Answer::Written(_) | Answer::Read(_) => self.done(attempt, answer),
            _ => {
                self.not_done(attempt, answer);
                Ok(())
            }
        }
    }

    /// Replicated time is told with every success, and when it is what is wrong.
    fn learn_time(&mut self, client: usize, answer: &Answer, time_ms: u64) {
        let told_ms = match answer {
            Answer::Written(Applied::Refused(
                Refusal::SessionExpired { time_ms } | Refusal::OpenedAhead { time_ms },
            )) => Some(*time_ms),
            Answer::Written(Applied::Put { .. } | Applied::Deleted { .. } | Applied::Settled(_)) => Some(time_ms),
            Answer::Read(result) if result.kv.is_some() => Some(time_ms),
            _ => None,
        };
        let known_ms = &mut self.clients.clients[client].time_ms;
        *known_ms = (*known_ms).max(told_ms.unwrap_or(0));
    }

    fn wronged(&self, attempt: Attempt, how: String) -> Violation {
        Violation::ClientWronged { client: attempt.client, how }
    }

    /// The name of a write did not let it run.
    fn name_refused(&mut self, attempt: Attempt, refusal: Refusal) -> Result<(), Violation> {
        let client = attempt.client;
        let Some(current) = self.clients.current(attempt) else { return Ok(()) };
        current.outstanding = false;
        let unknown = current.unknown;
        self.trace.detail(self.now_us, None, "client", || format!("c{client} is told {refusal:?}"));
        match refusal {
            Refusal::SessionExpired { .. } => {
                self.clients.clients[client].session = None;
                if unknown {
                    self.coverage.hit("session expired with a write in doubt");
                    self.end_in_doubt(client);
                } else if self.clients.clients[client].counter.is_none() && self.clients.named.chance(DISCOURAGED) {
                    self.end_refused(client);
                } else {
                    self.coverage.hit("another session opened after one was refused");
                    let request_id = self.clients.next_id(client);
                    if let Some(current) = self.clients.current(attempt) {
                        current.request_id = Some(request_id);
                    }
                    self.refused_session(attempt);
                }
            }
            Refusal::SessionFull => {
                let session = self.clients.clients[client].session;
                if let Some(current) = self.clients.current(attempt)
                    && let (Some(mut session), Some(id)) = (session, current.request_id.as_mut())
                {
                    session.acknowledge(id);
                    self.clients.clients[client].session = Some(session);
                }
                self.refused(attempt, self.clients.clients[client].leader);
            }
            Refusal::Fenced => self.end_refused(client),
            Refusal::OpenedAhead { .. } | Refusal::RequestIdReused | Refusal::ResultForgotten => {
                return Err(self.wronged(attempt, format!("its write is refused: {refusal:?}")));
            }
        }
        Ok(())
    }

    /// A definite answer.
    fn done(&mut self, attempt: Attempt, answer: &Answer) -> Result<(), Violation> {
        let Some(current) = self.clients.current(attempt) else { return Ok(()) };
        let (key, call, floor, id) = (current.key, current.call.clone(), current.floor, current.id);
        let Some((output, revision)) = Output::of(answer) else { return Ok(()) };
        if let Some(revision) = revision {
            self.observer.real_time_order.told(self.now_us, floor, revision, call.is_write())?;
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
        if let Some(counter) = &mut self.clients.clients[client].counter
            && !counter.told(key, &call, &output)
        {
            return Err(self.wronged(attempt, format!("{key}: {}: {}", words::call(&call), words::output(&output))));
        }
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
            // It may have been another attempt's turn, or will be.
            Answer::Dropped { .. } if self.clients.repeats(attempt.client) => self.refused(attempt, None),
            // Certain, but a client that was told so does not try again by itself.
            Answer::Dropped { .. } | Answer::Invalid(_) => self.end_refused(attempt.client),
            Answer::Proposed { .. } | Answer::Written(_) | Answer::Read(_) | Answer::TooStale { .. } => {}
        }
    }

    /// In the end, what counters counted is there, and nothing else; and the state is what the log makes of it.
    pub(crate) fn check_counters(&mut self, core: &[usize]) -> Result<(), Violation> {
        for node in core {
            let Some(process) = &self.nodes[*node].process else { continue };
            let applied = position(process.engine.status().applied);
            self.observer.exactly_once.check_state(*node, applied, process.engine.store())?;
            for counter in self.clients.clients.iter().filter_map(|client| client.counter.as_ref()) {
                let (prefix, expected) = counter.expected();
                let keys = process.engine.store().iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
                let found: std::collections::BTreeSet<String> = keys.filter(|key| key.starts_with(&prefix)).collect();
                if found != expected {
                    let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
                    return Err(Violation::CounterWrong { node: node_id(*node), expected, found });
                }
                self.coverage.hit("counter was exact");
            }
        }
        Ok(())
    }
}
