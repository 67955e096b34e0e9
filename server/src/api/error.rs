//! Everything that can go wrong with a client's request, and the one place where it becomes a gRPC status.
//!
//! Every status has exactly one `google.rpc.ErrorInfo` of the domain `quorate`, whose reason names the case. What is
//! variable in the message is also in its metadata, in lowerCamel keys. The error of a write says there, and in the
//! trailer `kv-outcome`, whether the write was certainly not applied, now or later, or may be. A status without an
//! ErrorInfo was made by a library on the way.

// A new case has to be given its status: nothing is covered by a pattern that was written before it.
#![deny(clippy::wildcard_enum_match_arm, clippy::match_wildcard_for_single_variants)]

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use engine::kv::Refusal;
use proto::kv::v1::RequestId;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::limits::RETRY_SOON;
use super::validate::Violation;
use crate::node::{Leader, ReadError, TransferError, Unavailable, WriteError};

/// The domain of every reason.
pub(super) const DOMAIN: &str = "quorate";

/// The trailer with a write's outcome.
pub(super) const OUTCOME_TRAILER: &str = "kv-outcome";

/// The trailer by which a server tells clients that retry by themselves when to (gRPC's retry design).
pub(super) const PUSHBACK_TRAILER: &str = "grpc-retry-pushback-ms";

/// The reasons why a write that was run changed nothing.
pub(super) const KEY_EXISTS: &str = "KEY_EXISTS";
pub(super) const KEY_NOT_FOUND: &str = "KEY_NOT_FOUND";
pub(super) const REVISION_MISMATCH: &str = "REVISION_MISMATCH";

const NOT_LEADER: &str = "NOT_LEADER";
const NOT_READY: &str = "NOT_READY";
const TRANSFERRING: &str = "LEADERSHIP_TRANSFERRING";
const DRAINING: &str = "DRAINING";
const NO_QUORUM: &str = "NO_QUORUM";

/// The reason of a refusal because too much is under way.
pub(super) const OVERLOADED: &str = "OVERLOADED";

/// The reasons with which a node says that it did not run a request and never will, while another may. The last is what
/// a node says that was to pass it on and reached no leader.
pub(super) const RUN_ELSEWHERE: [&str; 5] = [NOT_LEADER, NOT_READY, TRANSFERRING, DRAINING, NO_QUORUM];

/// How long to wait before trying again when there is no leader: about the time of an election.
const RETRY_WITHOUT_LEADER: Duration = Duration::from_millis(500);

/// What a client's request can end with instead of a response.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("key already exists: {key}")]
    KeyExists { key: String, mod_revision: u64 },
    #[error("key not found: {key}")]
    KeyNotFound { key: String, store_revision: u64, staleness_ms: Option<u64> },
    #[error("the key has revision {actual} and not the expected {expected}: {key}")]
    RevisionMismatch { key: String, expected: u64, actual: u64 },
    #[error("{0}")]
    Invalid(#[from] Violation),
    #[error("the metadata entry grpc-timeout is malformed: {value}")]
    TimeoutMalformed { value: String },
    #[error("the request is larger than {limit_bytes} bytes: {cause}")]
    MessageTooLarge { limit_bytes: usize, cause: String },
    #[error("the request cannot be decoded: {cause}")]
    Malformed { cause: String },
    #[error("the server does not support this: {cause}")]
    Unsupported { cause: String },
    #[error("this node does not lead")]
    NotLeader { leader: Option<Leader>, term: u64 },
    #[error("no leader could be reached in time: {cause}")]
    NoQuorum { cause: String, voters: usize, reachable: usize, term: u64 },
    #[error("this node is not ready: {cause}")]
    NotReady { cause: String },
    #[error("this node's own state is not good enough: {}", state(*.revision, *.age_ms))]
    TooStale { age_ms: Option<u64>, revision: Option<u64> },
    #[error(
        "the store has revision {revision} and never gave out {min_revision}: it is another cluster's, or was set back"
    )]
    RevisionAhead { revision: u64, min_revision: u64 },
    #[error("leadership is being handed over")]
    Transferring,
    #[error("the node is shutting down")]
    Draining,
    #[error("too many requests are under way")]
    Overloaded { retry_after: Duration },
    // No time is told after which it would be worth trying: that is for whoever makes room.
    #[error("the leader's disk is almost full: nothing is written that needs room; make some there, or delete keys")]
    StorageFull,
    #[error("the proposal was overwritten by the leader of term {term}")]
    ProposalDropped { term: u64 },
    #[error("the deadline passed and nothing was changed")]
    DeadlineExceeded,
    #[error("the session has expired: whether an earlier copy of this write was applied is not known")]
    SessionExpired { time_ms: u64 },
    #[error("the request id's session was opened at a time that is still to come")]
    RequestIdAhead { time_ms: u64 },
    #[error("the request id was given to another request before")]
    RequestIdReused,
    #[error("the write was settled as one that is never applied")]
    RequestFenced,
    #[error("the client had acknowledged this write: whether it was applied is not kept any more")]
    ResultForgotten,
    #[error("the session keeps too many results that the client did not acknowledge")]
    SessionFull,
    #[error("the write may or may not have been applied: {cause}")]
    OutcomeUnknown { cause: String, position: Option<(u64, u64)>, deadline_exceeded: bool },
    #[error("the target is not a voting member: {target}")]
    NotAVoter { target: String },
    #[error("the target leads already: {target}")]
    AlreadyLeader { target: String },
    #[error("there is no other voting member")]
    NobodyElse,
    #[error("the handover did not end in time; the old leader goes on")]
    TransferTimedOut,
}

/// What a request is to the store, which decides what its error has to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CallKind {
    /// It changes the store: its error says what became of the change.
    Write,
    /// It is no write of a client's: its error has no outcome of its own to tell.
    Other,
}

/// The reason of a status of this node's own, at hand for who counts it. It stays on this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Reason(pub(super) &'static str);

/// What became of a failed write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    NotApplied,
    Unknown,
}

impl ApiError {
    /// The status of this error.
    pub(super) fn to_status(&self, kind: CallKind) -> Status {
        self.shape().into_status(self.to_string(), kind)
    }

    /// The status of this error as the end of a request with this id: where the outcome is not known, with what
    /// GetOutcome needs to settle it.
    pub(super) fn to_status_of(&self, kind: CallKind, id: Option<&RequestId>) -> Status {
        let shape = match (self, id) {
            (Self::OutcomeUnknown { .. }, Some(RequestId { session, sequence, .. })) => {
                let digits: String = session.iter().map(|byte| format!("{byte:02x}")).collect();
                self.shape().with("sessionId", &digits).with("sequence", sequence)
            }
            _ => self.shape(),
        };
        shape.into_status(self.to_string(), kind)
    }

    /// Whether it is the store's answer to a request that was run.
    pub(super) fn is_of_the_store(&self) -> bool {
        matches!(
            self,
            Self::KeyExists { .. }
                | Self::KeyNotFound { .. }
                | Self::RevisionMismatch { .. }
                | Self::RevisionAhead { .. }
        )
    }

    /// The table of errors.
    fn shape(&self) -> Shape {
        let shape = Shape::new;
        match self {
            Self::KeyExists { key, mod_revision } => {
                shape(Code::AlreadyExists, KEY_EXISTS).with("revision", mod_revision).resource(key)
            }
            Self::KeyNotFound { key, store_revision, staleness_ms } => missing(key, *store_revision, *staleness_ms),
            Self::RevisionMismatch { key, expected, actual } => shape(Code::FailedPrecondition, REVISION_MISMATCH)
                .with("key", key)
                .with("expectedRevision", expected)
                .with("currentRevision", actual)
                .precondition("REVISION", key, format!("the revision has to be {expected} and is {actual}")),
            Self::Invalid(violation) => violation.shape(),
            Self::TimeoutMalformed { value } => shape(Code::InvalidArgument, "TIMEOUT_MALFORMED").with("value", value),
            Self::MessageTooLarge { limit_bytes, cause } => {
                shape(Code::InvalidArgument, "MESSAGE_TOO_LARGE").with("limitBytes", limit_bytes).with("cause", cause)
            }
            Self::Malformed { cause } => shape(Code::InvalidArgument, "MESSAGE_MALFORMED").with("cause", cause),
            Self::Unsupported { cause } => shape(Code::Unimplemented, "UNSUPPORTED").with("cause", cause),
            Self::NotLeader { leader, term } => {
                shape(Code::Unavailable, NOT_LEADER).leader(leader.as_ref()).with("term", term).pushback(0)
            }
            Self::NoQuorum { cause, voters, reachable, term } => {
                no_quorum(cause, *voters, *reachable).with("term", term)
            }
            Self::NotReady { cause } => shape(Code::Unavailable, NOT_READY).with("cause", cause),
            Self::TooStale { age_ms, revision } => too_stale(*age_ms, *revision),
            Self::RevisionAhead { revision, min_revision } => revision_ahead(*revision, *min_revision),
            Self::Transferring => shape(Code::Unavailable, TRANSFERRING).retry(RETRY_SOON),
            Self::Draining => shape(Code::Unavailable, DRAINING),
            Self::Overloaded { retry_after } => shape(Code::ResourceExhausted, OVERLOADED).pushed_back(*retry_after),
            Self::StorageFull => shape(Code::ResourceExhausted, "STORAGE_FULL")
                .quota("disk", "the file system of the leader's data directory is almost full".to_owned()),
            Self::ProposalDropped { term } => {
                shape(Code::Unavailable, "PROPOSAL_DROPPED").with("term", term).retry(Duration::ZERO)
            }
            Self::DeadlineExceeded => shape(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
            Self::SessionExpired { time_ms } => shape(Code::FailedPrecondition, "SESSION_EXPIRED")
                .unknown()
                .with("timeMs", time_ms)
                .session("request_id.session", "a new session is needed"),
            Self::RequestIdAhead { time_ms } => shape(Code::InvalidArgument, "REQUEST_ID_AHEAD")
                .with("timeMs", time_ms)
                .field("request_id.opened_at_ms", format!("the replicated time is {time_ms}")),
            Self::RequestIdReused => shape(Code::InvalidArgument, "REQUEST_ID_REUSED")
                .field("request_id", "each request has to have its own".to_owned()),
            Self::RequestFenced => shape(Code::Aborted, "REQUEST_FENCED"),
            Self::ResultForgotten => shape(Code::FailedPrecondition, "RESULT_FORGOTTEN")
                .unknown()
                .session("request_id.sequence", "it must not be below what was acknowledged"),
            Self::SessionFull => shape(Code::ResourceExhausted, "SESSION_FULL").pushed_back(RETRY_SOON),
            Self::OutcomeUnknown { cause, position, deadline_exceeded } => {
                let code = if *deadline_exceeded { Code::DeadlineExceeded } else { Code::Unknown };
                shape(code, "OUTCOME_UNKNOWN").unknown().with("cause", cause).position(*position)
            }
            Self::NotAVoter { target } => shape(Code::InvalidArgument, "TARGET_NOT_VOTER")
                .with("target", target)
                .field("target", "it has to be the name of a voting member".to_owned()),
            Self::AlreadyLeader { target } => shape(Code::FailedPrecondition, "TARGET_LEADS_ALREADY")
                .with("target", target)
                .precondition("LEADER", target, "it must not lead yet".to_owned()),
            Self::NobodyElse => shape(Code::FailedPrecondition, "NO_OTHER_VOTER").precondition(
                "MEMBERS",
                "",
                "another voting member is needed".to_owned(),
            ),
            Self::TransferTimedOut => shape(Code::DeadlineExceeded, "TRANSFER_TIMED_OUT"),
        }
    }
}

/// A status in the making.
pub(super) struct Shape {
    code: Code,
    reason: &'static str,
    outcome: Outcome,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
    pushback_ms: Option<u128>,
}

impl Shape {
    pub(super) fn new(code: Code, reason: &'static str) -> Self {
        let (metadata, details) = (HashMap::new(), ErrorDetails::new());
        Self { code, reason, outcome: Outcome::NotApplied, metadata, details, pushback_ms: None }
    }

    pub(super) fn with(mut self, key: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    fn with_known(self, key: &str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.with(key, &value),
            None => self,
        }
    }

    pub(super) fn field(mut self, field: &str, description: String) -> Self {
        self.details.add_bad_request_violation(field, description);
        self
    }

    fn resource(mut self, key: &str) -> Self {
        self.details.set_resource_info("key", key, "", "");
        self.with("key", key)
    }

    fn precondition(mut self, kind: &str, subject: &str, description: String) -> Self {
        self.details.add_precondition_failure_violation(kind, subject, description);
        self
    }

    fn session(self, field: &str, description: &str) -> Self {
        self.precondition("SESSION", field, description.to_owned())
    }

    fn quota(mut self, subject: &str, description: String) -> Self {
        self.details.add_quota_failure_violation(subject, description);
        self
    }

    fn leader(self, leader: Option<&Leader>) -> Self {
        let Some(leader) = leader else { return self };
        let shape = self.with("leaderId", &leader.name);
        match &leader.client_address {
            Some(address) => shape.with("leaderAddress", address),
            None => shape,
        }
    }

    fn position(self, position: Option<(u64, u64)>) -> Self {
        match position {
            Some((term, index)) => self.with("term", &term).with("index", &index),
            None => self,
        }
    }

    fn retry(mut self, after: Duration) -> Self {
        self.details.set_retry_info(Some(after));
        self
    }

    fn pushback(mut self, after_ms: u128) -> Self {
        self.pushback_ms = Some(after_ms);
        self
    }

    /// Too much is under way or kept; some of it ends soon.
    fn pushed_back(self, retry_after: Duration) -> Self {
        self.retry(retry_after).pushback(retry_after.as_millis())
    }

    fn unknown(mut self) -> Self {
        self.outcome = Outcome::Unknown;
        self
    }

    fn into_status(mut self, message: String, kind: CallKind) -> Status {
        let mut trailers = MetadataMap::new();
        if kind == CallKind::Write {
            let (outcome, trailer) = match self.outcome {
                Outcome::NotApplied => ("NOT_APPLIED", "not-applied"),
                Outcome::Unknown => ("UNKNOWN", "unknown"),
            };
            self.metadata.insert("outcome".to_owned(), outcome.to_owned());
            trailers.insert(OUTCOME_TRAILER, MetadataValue::from_static(trailer));
        }
        if let Some(pushback_ms) = self.pushback_ms {
            // A number is always a valid value.
            if let Ok(value) = MetadataValue::try_from(pushback_ms.to_string()) {
                trailers.insert(PUSHBACK_TRAILER, value);
            }
        }
        self.details.set_error_info(self.reason, DOMAIN, self.metadata);
        let mut status = Status::with_error_details_and_metadata(self.code, message, self.details, trailers);
        status.set_source(Arc::new(Reason(self.reason)));
        status
    }
}

fn missing(key: &str, store_revision: u64, staleness_ms: Option<u64>) -> Shape {
    let shape = Shape::new(Code::NotFound, KEY_NOT_FOUND).resource(key).with("storeRevision", &store_revision);
    shape.with_known("stalenessMs", staleness_ms)
}

fn no_quorum(cause: &str, voters: usize, reachable: usize) -> Shape {
    let shape = Shape::new(Code::Unavailable, NO_QUORUM).with("cause", cause).retry(RETRY_WITHOUT_LEADER);
    shape.with("reachable", &reachable).with("needed", &(voters / 2 + 1))
}

fn too_stale(age_ms: Option<u64>, revision: Option<u64>) -> Shape {
    // No time is told after which it would be worth trying: another node may have what is asked for now.
    let shape = Shape::new(Code::Unavailable, "STALENESS_BOUND_EXCEEDED");
    shape.with_known("revision", revision).with_known("lagMs", age_ms)
}

fn revision_ahead(revision: u64, min_revision: u64) -> Shape {
    let shape = Shape::new(Code::OutOfRange, "REVISION_AHEAD").with("revision", &revision);
    let shape = shape.with("minRevision", &min_revision);
    shape.field("min_revision", format!("the store's revision is {revision}"))
}

/// What is known of a state that a read did not get, for people.
fn state(revision: Option<u64>, age_ms: Option<u64>) -> String {
    match (revision, age_ms) {
        (Some(revision), Some(age_ms)) => format!("its revision is {revision}, and it may be {age_ms} ms old"),
        (Some(revision), None) => format!("its revision is {revision}, and how old it is cannot be proven"),
        (None, _) => "the deadline passed before there was a better one".to_owned(),
    }
}

impl From<Unavailable> for ApiError {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::NotLeader { leader, term } => Self::NotLeader { leader, term },
            Unavailable::NotReady(cause) => Self::NotReady { cause },
            Unavailable::Overloaded => Self::Overloaded { retry_after: RETRY_SOON },
            Unavailable::StorageFull => Self::StorageFull,
            Unavailable::Transferring => Self::Transferring,
            Unavailable::Draining => Self::Draining,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SessionExpired { time_ms } => Self::SessionExpired { time_ms },
            Refusal::OpenedAhead { time_ms } => Self::RequestIdAhead { time_ms },
            Refusal::RequestIdReused => Self::RequestIdReused,
            Refusal::Fenced => Self::RequestFenced,
            Refusal::ResultForgotten => Self::ResultForgotten,
            Refusal::SessionFull => Self::SessionFull,
        }
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let cause = error.to_string();
        match error {
            WriteError::Unavailable(unavailable) => unavailable.into(),
            WriteError::Invalid(invalid) => Self::Invalid(invalid.into()),
            WriteError::Dropped { term } => Self::ProposalDropped { term },
            WriteError::DeadlineExceeded { term, index } => {
                Self::OutcomeUnknown { cause, position: Some((term, index)), deadline_exceeded: true }
            }
            WriteError::Expired => Self::DeadlineExceeded,
            WriteError::Stopped => Self::OutcomeUnknown { cause, position: None, deadline_exceeded: false },
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(unavailable) => unavailable.into(),
            ReadError::DeadlineExceeded => Self::DeadlineExceeded,
            ReadError::TooStale { age_ms, revision } => {
                Self::TooStale { age_ms: age_ms.map(NonZeroU64::get), revision: Some(revision) }
            }
            ReadError::RevisionAhead { revision, min_revision } => Self::RevisionAhead { revision, min_revision },
        }
    }
}

impl From<TransferError> for ApiError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Unavailable(unavailable) => unavailable.into(),
            TransferError::NobodyElse => Self::NobodyElse,
            TransferError::NotAVoter(target) => Self::NotAVoter { target },
            TransferError::AlreadyLeader(target) => Self::AlreadyLeader { target },
            TransferError::DeadlineExceeded => Self::TransferTimedOut,
        }
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
