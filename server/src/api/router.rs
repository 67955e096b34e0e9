//! Where a request is run: here if this node leads, at the leader otherwise; most reads here in any case.
//!
//! **Again.** A request is tried again only when it is certain that it was not run: the leader could not be reached, or
//! whoever was asked said so. Then better knowledge is waited for, within bounds. Once a command may have been proposed
//! there is no second attempt: whatever follows, its outcome is what the one attempt says. To settle what became of a
//! write is such a command; whoever asked may ask again. A read changes nothing, so it may be run twice.
//!
//! **Reads.** A node that follows runs a linearizable read itself: it asks its leader how far a state must be, and
//! reads from its own when that is. It may hear of the leader and be behind all the same: its log does not arrive, or
//! it needs a snapshot first. So a read that has no answer here [in time](super::limits::READ_HERE_MAX) goes to the
//! leader, and for a while the others [go there at once](own_reads).
//!
//! **Relays.** A node may be cut off from the leader and not from those who follow it. Two ways: it knows the leader
//! and cannot send it anything, or it hears of no leader, and the others, who do, do not let it campaign. It then has
//! another member pass its requests on: a [relay](relays). There is one hop and not two: what is passed on bears no
//! mark, and who receives a request without the mark runs it or refuses it. So nothing goes in circles, whatever the
//! members believe of each other, and a request costs three nodes at most. For the relay a relayed request is like one
//! of its own clients', but that it has one attempt and waits for no leader: it is the origin who tries again, maybe at
//! another member. An answer that is lost between any two of the three leaves a write unknown.

mod own_reads;
mod relays;

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::raft::v1::ForwardRequest;
use tokio::sync::watch;
use tokio::time::timeout_at;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::error::{ApiError, DOMAIN, OUTCOME_TRAILER, PUSHBACK_TRAILER, RUN_ELSEWHERE};
use super::kv_service::metric_kind;
use super::leader::{LEADER_ADDRESS, LEADER_NAME};
use super::limits::{ATTEMPTS_MAX, LEADER_WAIT_MAX, RELAY_ANSWER_MAX, RETRY_PAUSE};
use super::node::Node;
use super::operation::{Answer, Operation};
use crate::forward::{ForwardError, Forwarder};
use crate::node::{NodeStatus, RequestContext, Role};
use crate::telemetry::{RequestSpan, SpanKind};
use own_reads::OwnReads;
use relays::{Choice, Relays};

pub(super) use own_reads::read_here_until;

/// The call that carries a forwarded request.
pub(super) const FORWARD_METHOD: &str = "raft.v1.RaftService/Forward";

/// Runs requests where they belong.
pub(super) struct Router<N> {
    pub(super) node: N,
    /// The node's own name.
    name: String,
    status: watch::Receiver<NodeStatus>,
    forwarder: Arc<dyn Forwarder>,
    own_reads: OwnReads,
    relays: Arc<Relays>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// This node says so.
    Own(ApiError),
    /// Another node says so, and this one passes it on.
    Passed(Box<Status>),
}

/// What an attempt led to.
enum Attempt {
    /// To an end.
    Done(Result<Answer, Failure>),
    /// To the knowledge that the request was not run, and why.
    NotRun(String),
    /// The same, because whoever was to be asked cannot be reached from here.
    NotReached(String),
}

/// Whom a request is sent to.
#[derive(Clone, Copy)]
enum Receiver<'a> {
    /// The leader, to run it.
    Leader(&'a str),
    /// A member, to pass it on.
    Relay(&'a str),
}

/// Who leads, as far as this node knows.
#[derive(Clone, PartialEq, Eq)]
enum Target {
    Here,
    Peer(String),
    Nobody,
    /// Nobody that is known, and this node is in no position to learn of anybody.
    Outside(String),
}

/// What this node runs itself, as far as it knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Runs {
    /// It leads.
    Everything,
    /// It follows.
    Reads,
    /// Nothing but what needs no leader.
    Nothing,
}

impl Runs {
    pub(super) fn includes(self, operation: &Operation) -> bool {
        match self {
            Self::Everything => true,
            Self::Reads => operation.is_run_by_followers(),
            Self::Nothing => false,
        }
    }
}

impl Target {
    fn of(status: &NodeStatus) -> Self {
        match &status.leader {
            Some(leader) if leader.is_self => Self::Here,
            Some(leader) => Self::Peer(leader.name.clone()),
            None if status.role == Role::Outside => Self::Outside(status.not_ready.clone().unwrap_or_default()),
            None => Self::Nobody,
        }
    }
}

impl<N: Node> Router<N> {
    /// Of the node of this name, in a cluster whose shortest election timeout is `election_timeout`. It is called in
    /// the runtime: a task that ends with the node follows who leads.
    pub(super) fn new(node: N, name: String, forwarder: Arc<dyn Forwarder>, election_timeout: Duration) -> Self {
        let (status, relays) = (node.subscribe(), Arc::new(Relays::new(election_timeout)));
        let (following, followed) = (Arc::clone(&relays), status.clone());
        tokio::spawn(async move { following.follow(followed).await });
        Self { node, name, status, forwarder, own_reads: OwnReads::default(), relays }
    }

    /// What this node runs itself now.
    pub(super) fn runs(&self) -> Runs {
        let status = self.status.borrow();
        match &status.leader {
            Some(leader) if leader.is_self => Runs::Everything,
            Some(leader)
                if reaches(&status, &leader.name) && self.own_reads.are_answered(status.term, Instant::now()) =>
            {
                Runs::Reads
            }
            Some(_) | None => Runs::Nothing,
        }
    }

    /// A read that this node, which follows, began to run at `begun` is given to the leader.
    pub(super) fn note_silence(&self, begun: Instant) {
        let term = self.status.borrow().term;
        self.own_reads.note_silence(term, begun, Instant::now());
    }

    /// Runs `operation`, and answers by `deadline`.
    pub(super) async fn run(
        &self,
        operation: Operation,
        deadline: Instant,
        span: &RequestSpan,
    ) -> Result<Answer, Failure> {
        let begun = Instant::now();
        if begun >= deadline {
            return Err(ApiError::DeadlineExceeded.into());
        }
        let patience = deadline.min(begun + LEADER_WAIT_MAX);
        if operation.needs_no_leader() {
            return self.run_leaderless(operation, patience, span).await;
        }
        let mut cause = "no leader is known".to_owned();
        for _ in 0..ATTEMPTS_MAX {
            let target = self.target();
            let attempt = match &target {
                Target::Here => Some(self.run_here(operation.clone(), deadline, span).await),
                Target::Peer(leader) => Some(self.run_under(leader, &operation, deadline, span).await),
                Target::Outside(reason) => return Err(ApiError::NotReady { cause: reason.clone() }.into()),
                Target::Nobody => self.run_through_a_relay(None, &operation, deadline, span).await,
            };
            let wants_relay = matches!(attempt, None | Some(Attempt::NotReached(_)));
            match attempt {
                Some(Attempt::Done(result)) => return result,
                Some(Attempt::NotRun(reason) | Attempt::NotReached(reason)) => cause = reason,
                None => {}
            }
            self.better_knowledge(&target, wants_relay, patience.min(Instant::now() + RETRY_PAUSE)).await;
            if Instant::now() >= patience {
                break;
            }
        }
        Err(self.no_quorum(cause).into())
    }

    /// Whether this node would pass on what another asks it to relay.
    pub(super) fn would_relay(&self) -> Result<(), ApiError> {
        let status = self.status.borrow();
        match &status.leader {
            Some(leader) if leader.is_self || reaches(&status, &leader.name) => Ok(()),
            Some(_) | None => Err(ApiError::NotLeader { leader: status.leader.clone(), term: status.term }),
        }
    }

    /// Runs what another node forwarded: here, or where it belongs if this node is asked to `relay` it.
    pub(super) async fn run_forwarded(
        &self,
        operation: Operation,
        relay: bool,
        deadline: Instant,
        span: &RequestSpan,
    ) -> Result<Answer, Failure> {
        match self.target() {
            Target::Peer(leader) if relay => match self.run_by_leader(&leader, &operation, deadline, span).await {
                Attempt::Done(result) => result,
                Attempt::NotRun(cause) | Attempt::NotReached(cause) => Err(self.no_quorum(cause).into()),
            },
            // Who knows no leader says so, in its own words.
            Target::Peer(_) | Target::Here | Target::Nobody | Target::Outside(_) => {
                self.run_only_here(operation, deadline, span).await.map_err(Failure::Own)
            }
        }
    }

    /// Runs a read that asks a majority of the members, from here.
    async fn run_leaderless(
        &self,
        operation: Operation,
        patience: Instant,
        span: &RequestSpan,
    ) -> Result<Answer, Failure> {
        match self.run_only_here(operation, patience, span).await {
            Err(ApiError::DeadlineExceeded) => Err(self.no_majority().into()),
            result => result.map_err(Failure::Own),
        }
    }

    /// Runs `operation` on this node and nowhere else.
    async fn run_only_here(
        &self,
        operation: Operation,
        deadline: Instant,
        span: &RequestSpan,
    ) -> Result<Answer, ApiError> {
        operation.run(&self.node, RequestContext { deadline, trace: span.context() }).await
    }

    async fn run_here(&self, operation: Operation, deadline: Instant, span: &RequestSpan) -> Attempt {
        match self.run_only_here(operation, deadline, span).await {
            Err(error @ (ApiError::NotLeader { .. } | ApiError::Transferring)) => Attempt::NotRun(error.to_string()),
            result => Attempt::Done(result.map_err(Failure::Own)),
        }
    }

    /// Runs `operation` for a client of this node, which follows `leader`.
    async fn run_under(&self, leader: &str, operation: &Operation, deadline: Instant, span: &RequestSpan) -> Attempt {
        let relayed = || Box::pin(self.run_through_a_relay(Some(leader), operation, deadline, span));
        let is_reached = reaches(&self.status.borrow(), leader);
        if !is_reached && let Some(attempt @ Attempt::Done(_)) = relayed().await {
            return attempt;
        }
        let attempt = self.run_by_leader(leader, operation, deadline, span).await;
        // To find that out may have taken so long that there is another leader, who is not to be missed.
        let is_in_need = matches!(attempt, Attempt::NotReached(_)) && self.target() == Target::Peer(leader.to_owned());
        if is_in_need { relayed().await.unwrap_or(attempt) } else { attempt }
    }

    /// Runs `operation` at `leader`, or here if that is as good.
    async fn run_by_leader(
        &self,
        leader: &str,
        operation: &Operation,
        deadline: Instant,
        span: &RequestSpan,
    ) -> Attempt {
        if self.runs() == Runs::Reads && Runs::Reads.includes(operation) {
            let begun = Instant::now();
            match self.run_here(operation.clone(), read_here_until(begun, deadline), span).await {
                Attempt::Done(Err(Failure::Own(ApiError::DeadlineExceeded))) => self.note_silence(begun),
                attempt => return attempt,
            }
        }
        self.forward(Receiver::Leader(leader), operation, deadline, span).await
    }

    /// Asks a member to pass `operation` on to the leader, which is not known, or is this one and is not reached. None:
    /// there is nobody to be asked now.
    async fn run_through_a_relay(
        &self,
        leader: Option<&str>,
        operation: &Operation,
        deadline: Instant,
        span: &RequestSpan,
    ) -> Option<Attempt> {
        let members = {
            let status = self.status.borrow();
            let others = status.members.iter().filter(|member| member.reachable && member.name != self.name);
            others.map(|member| member.name.clone()).filter(|name| Some(name.as_str()) != leader).collect()
        };
        let relay = match self.relays.next(leader, members, Instant::now())? {
            Choice::Willing(relay) => relay,
            Choice::Unasked(member) => {
                if let Err(cause) = self.ask(&member, deadline).await {
                    return Some(Attempt::NotReached(cause));
                }
                self.relays.note(&member, true);
                member
            }
        };
        let attempt = self.forward(Receiver::Relay(&relay), operation, deadline, span).await;
        if !attempt.has_reached_a_leader() {
            self.relays.note(&relay, false);
        }
        Some(attempt)
    }

    /// Asks `member` whether it would pass requests on; if it would not, why.
    async fn ask(&self, member: &str, deadline: Instant) -> Result<(), String> {
        let question = ForwardRequest { from: self.name.clone(), relay: true, question: true, request: None };
        let until = deadline.min(Instant::now() + RELAY_ANSWER_MAX);
        match self.forwarder.forward(member, question, until, None).await {
            Ok(_) => Ok(()),
            Err(ForwardError::Answered(status)) => Err(format!("{member} answered: {}", status.message())),
            Err(error @ (ForwardError::NotSent { .. } | ForwardError::Lost { .. })) => Err(error.to_string()),
        }
    }

    /// Sends `operation` to another node. A read is not waited for any more once who leads is another.
    async fn forward(
        &self,
        receiver: Receiver<'_>,
        operation: &Operation,
        deadline: Instant,
        span: &RequestSpan,
    ) -> Attempt {
        let mut status = self.status.clone();
        let target = Target::of(&status.borrow());
        let sent = self.send(receiver, operation, deadline, span);
        if operation.is_command() {
            return sent.await;
        }
        tokio::select! {
            biased;
            attempt = sent => attempt,
            Ok(_) = status.wait_for(|status| Target::of(status) != target) => {
                Attempt::NotRun(format!("{} was asked, and then there was another leader or none", receiver.name()))
            }
        }
    }

    async fn send(
        &self,
        receiver: Receiver<'_>,
        operation: &Operation,
        deadline: Instant,
        span: &RequestSpan,
    ) -> Attempt {
        let name = receiver.name();
        let span =
            span.child("kv.forward", SpanKind::Client).with_method(FORWARD_METHOD).with_text("server.address", name);
        let relay = matches!(receiver, Receiver::Relay(_));
        let request = operation.to_request();
        let (kind, begun) = (metric_kind(&request), Instant::now());
        let request = ForwardRequest { from: self.name.clone(), relay, question: false, request: Some(request) };
        let result = self.forwarder.forward(name, request, deadline, span.context().as_ref()).await;
        let (code, attempt) = match result {
            Ok(response) => match response.response.filter(|answer| operation.is_answered_by(answer)) {
                Some(answer) => (Code::Ok, Attempt::Done(Ok(answer))),
                None => (Code::Internal, lost(operation, format!("{name} answered something else"), false)),
            },
            Err(ForwardError::NotSent { member, cause }) => {
                (Code::Unavailable, Attempt::NotReached(format!("{member} could not be reached: {cause}")))
            }
            Err(ForwardError::Answered(status)) => (status.code(), answered(operation, name, status)),
            Err(ForwardError::Lost { member, cause, deadline_exceeded }) => {
                // The library reports a deadline in more than one way.
                let deadline_exceeded = deadline_exceeded || Instant::now() >= deadline;
                let code = if deadline_exceeded { Code::DeadlineExceeded } else { Code::Unknown };
                (code, lost(operation, format!("the answer of {member} was lost: {cause}"), deadline_exceeded))
            }
        };
        span.end_forward(code, (kind, begun), name);
        attempt
    }

    fn target(&self) -> Target {
        Target::of(&self.status.borrow())
    }

    /// Waits until the leader is another than `target`, or, if one is wanted, a relay is known, no longer than `until`.
    async fn better_knowledge(&self, target: &Target, wants_relay: bool, until: Instant) {
        let mut status = self.status.clone();
        let learnt = async {
            tokio::select! {
                // An error means that the node has stopped; the next attempt will say so.
                _ = status.wait_for(|status| Target::of(status) != *target) => {}
                () = self.relays.found(), if wants_relay => {}
            }
        };
        // An error means that the time is over.
        let _ = timeout_at(until.into(), learnt).await;
    }

    /// A read that asks a majority has no answer in time.
    pub(super) fn no_majority(&self) -> ApiError {
        self.no_quorum("no majority of the members answered, or a write to the key is undecided".to_owned())
    }

    fn no_quorum(&self, cause: String) -> ApiError {
        let status = self.status.borrow();
        let voters = status.members.iter().filter(|member| member.voter);
        let reachable = voters.clone().filter(|member| member.reachable).count();
        ApiError::NoQuorum { cause, voters: voters.count(), reachable, term: status.term }
    }
}

impl Attempt {
    /// Whether the member that was asked has passed the request on to a leader.
    fn has_reached_a_leader(&self) -> bool {
        match self {
            Self::Done(Ok(_)) => true,
            // Somewhere on the way the answer was not there in time, or got lost.
            Self::Done(Err(Failure::Passed(status))) => {
                !matches!(status.code(), Code::DeadlineExceeded | Code::Unknown)
            }
            Self::Done(Err(Failure::Own(_))) | Self::NotRun(_) | Self::NotReached(_) => false,
        }
    }
}

impl<'a> Receiver<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Leader(name) | Self::Relay(name) => name,
        }
    }
}

fn reaches(status: &NodeStatus, member: &str) -> bool {
    status.members.iter().any(|other| other.reachable && other.name == member)
}

/// What another node's own error means here.
fn answered(operation: &Operation, member: &str, status: Box<Status>) -> Attempt {
    match status.get_details_error_info() {
        Some(info) if info.domain == DOMAIN => {
            if RUN_ELSEWHERE.contains(&info.reason.as_str()) {
                Attempt::NotRun(format!("{member} answered: {}", status.message()))
            } else {
                Attempt::Done(Err(Failure::Passed(Box::new(passed_on(&status)))))
            }
        }
        // A library's word, not a node's: nothing is known of the request.
        Some(_) | None => {
            lost(operation, format!("{member} answered {:?}: {}", status.code(), status.message()), false)
        }
    }
}

/// What it means that no answer came back: a command may have been run, and if it was to settle a write, what became of
/// that one is as unknown as before; a read may have been run too, but is just run again.
fn lost(operation: &Operation, cause: String, deadline_exceeded: bool) -> Attempt {
    match (operation.is_command(), deadline_exceeded) {
        (true, _) => Attempt::Done(Err(ApiError::OutcomeUnknown { cause, position: None, deadline_exceeded }.into())),
        (false, true) => Attempt::Done(Err(ApiError::DeadlineExceeded.into())),
        (false, false) => Attempt::NotRun(cause),
    }
}

/// Another node's status without what belongs to the call between the nodes.
fn passed_on(status: &Status) -> Status {
    let mut trailers = MetadataMap::new();
    for key in [OUTCOME_TRAILER, PUSHBACK_TRAILER, LEADER_NAME, LEADER_ADDRESS] {
        if let Some(value) = status.metadata().get(key) {
            trailers.insert(key, value.clone());
        }
    }
    let details = status.details().to_vec().into();
    Status::with_details_and_metadata(status.code(), status.message(), details, trailers)
}

impl Failure {
    /// The status that the client is told; this node's own error is made into one by `own`.
    pub(super) fn into_status(self, own: impl FnOnce(ApiError) -> Status) -> Status {
        match self {
            Self::Own(error) => own(error),
            Self::Passed(status) => *status,
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Own(error)
    }
}
