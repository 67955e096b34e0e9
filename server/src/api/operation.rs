//! A client's request on its way through this node, in the one form from which it is run here or forwarded.

use std::num::NonZeroU64;

use bytes::Bytes;
use engine::kv;
use proto::kv::v1::get_outcome_response::Outcome;
use proto::kv::v1::{
    Configured, Consistency, DeleteRequest, DeleteResponse, Forgotten, GetOutcomeRequest, GetOutcomeResponse,
    GetRequest, GetResponse, KeyValue, NeverApplied, PutMode, PutRequest, PutResponse, Rejected, RequestId,
};
pub(super) use proto::raft::v1::forward_request::Request;
pub(super) use proto::raft::v1::forward_response::Response as Answer;

use super::admission::Queue;
use super::error::{ApiError, KEY_EXISTS, KEY_NOT_FOUND, REVISION_MISMATCH};
use super::node::Node;
use super::validate::{self, Violation};
use crate::node::{Action, Get, ReadError, ReadResult, RequestContext, WriteResult};

/// Why no operation is a change of settings.
const NO_CONFIGURING: &str = "a change of settings is asked for by admin.v1, and no request of kv.v1 is one";

/// A valid request. A clone shares key and value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Write(kv::Request),
    Read(Get),
}

impl Operation {
    /// Checks a request.
    pub(super) fn new(request: Request) -> Result<Self, Violation> {
        Ok(match request {
            Request::Put(request) => Self::Write(validate::put(request)?),
            Request::Get(request) => Self::Read(validate::get(request)?),
            Request::Delete(request) => Self::Write(validate::delete(request)?),
            Request::GetOutcome(request) => Self::Write(validate::get_outcome(request)?),
        })
    }

    /// The request that another node makes the same operation of.
    pub(super) fn to_request(&self) -> Request {
        match self {
            Self::Write(kv::Request { id, command }) => write_request(id.as_ref().map(request_id), command),
            Self::Read(get) => Request::Get(get_request(get)),
        }
    }

    /// Whether the operation is a command through the log: it may have changed the store though no answer came back. To
    /// settle what became of a write is one too: it may have seen to it that the write never runs.
    pub(super) fn is_command(&self) -> bool {
        match self {
            Self::Write(_) => true,
            Self::Read(_) => false,
        }
    }

    /// Whether any node runs it for itself, whoever leads.
    pub(super) fn needs_no_leader(&self) -> bool {
        match self {
            Self::Write(_) => false,
            Self::Read(Get { consistency, .. }) => match consistency {
                engine::Consistency::Linearizable => false,
                engine::Consistency::Quorum | engine::Consistency::Stale { .. } => true,
            },
        }
    }

    /// Whether a node that follows runs it for itself, once its leader has told it how far a state must be.
    pub(super) fn is_run_by_followers(&self) -> bool {
        matches!(self, Self::Read(Get { consistency: engine::Consistency::Linearizable, .. }))
    }

    /// What it waits for on the node that runs it; nothing in common with others if that is a majority's word, or the
    /// node's own.
    pub(super) fn queue(&self) -> Option<Queue> {
        match self {
            Self::Write(_) => Some(Queue::Commands),
            Self::Read(_) => (!self.needs_no_leader()).then_some(Queue::Reads),
        }
    }

    /// How many bytes of a value the request holds.
    pub(super) fn value_bytes(&self) -> usize {
        match self {
            Self::Write(kv::Request { command: kv::Command::Put { value, .. }, .. }) => value.len(),
            Self::Write(_) | Self::Read(_) => 0,
        }
    }

    /// Whether `answer` is of this operation's kind.
    pub(super) fn is_answered_by(&self, answer: &Answer) -> bool {
        match self {
            Self::Read(_) => matches!(answer, Answer::Get(_)),
            Self::Write(request) => match request.command {
                kv::Command::Put { .. } => matches!(answer, Answer::Put(_)),
                kv::Command::Delete { .. } => matches!(answer, Answer::Delete(_)),
                kv::Command::Settle => matches!(answer, Answer::GetOutcome(_)),
                kv::Command::Configure { .. } => unreachable!("{NO_CONFIGURING}"),
            },
        }
    }

    /// Runs the operation on this node.
    pub(super) async fn run(self, node: &impl Node, context: RequestContext) -> Result<Answer, ApiError> {
        match self {
            Self::Write(request) => {
                let key = request.command.key().cloned().unwrap_or_default();
                written(&key, node.write(request, context).await?)
            }
            Self::Read(get) => {
                let (key, is_stale) = (get.key.clone(), matches!(get.consistency, engine::Consistency::Stale { .. }));
                match node.read(get, context).await {
                    // It waited for a better state, and nobody but this node could have given it one.
                    Err(ReadError::DeadlineExceeded) if is_stale => {
                        Err(ApiError::TooStale { age_ms: None, revision: None })
                    }
                    result => read(&key, result?),
                }
            }
        }
    }
}

impl From<Operation> for Action {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Write(request) => Self::Write(request),
            Operation::Read(get) => Self::Read(get),
        }
    }
}

impl From<Action> for Operation {
    fn from(action: Action) -> Self {
        match action {
            Action::Write(request) => Self::Write(request),
            Action::Read(get) => Self::Read(get),
        }
    }
}

/// A read as kv.v1 has it.
fn get_request(Get { key, consistency, min_revision }: &Get) -> GetRequest {
    let (consistency, max_staleness_ms) = match *consistency {
        engine::Consistency::Linearizable => (Consistency::Linearizable, None),
        engine::Consistency::Quorum => (Consistency::Quorum, None),
        engine::Consistency::Stale { max_age_ms } => (Consistency::Stale, max_age_ms),
    };
    let (consistency, min_revision) = (consistency.into(), min_revision.get());
    GetRequest { key: text(key), consistency, max_staleness_ms, min_revision }
}

/// A write as kv.v1 has it.
fn write_request(request_id: Option<RequestId>, command: &kv::Command) -> Request {
    match command {
        kv::Command::Put { key, value, mode } => {
            let (mode, expected_revision) = match mode {
                kv::PutMode::Create => (PutMode::Create, None),
                kv::PutMode::Upsert => (PutMode::Upsert, None),
                kv::PutMode::Update => (PutMode::Update, None),
                kv::PutMode::Compare { expected_revision } => (PutMode::Compare, Some(expected_revision.get())),
            };
            let (key, value) = (text(key), value.clone());
            Request::Put(PutRequest { key, value, mode: mode.into(), expected_revision, request_id })
        }
        kv::Command::Delete { key, expected_revision, return_previous } => {
            let (key, expected_revision) = (text(key), expected_revision.map(kv::Revision::get));
            let return_previous = *return_previous;
            Request::Delete(DeleteRequest { key, expected_revision, return_previous, request_id })
        }
        kv::Command::Settle => Request::GetOutcome(GetOutcomeRequest { request_id }),
        kv::Command::Configure { .. } => unreachable!("{NO_CONFIGURING}"),
    }
}

/// The name of a request as kv.v1 has it.
pub(super) fn request_id(id: &kv::RequestId) -> RequestId {
    let kv::RequestId { session, opened_at_ms, sequence, acknowledged_below } = *id;
    let session = Bytes::copy_from_slice(&session.get().to_be_bytes());
    RequestId { session, opened_at_ms, sequence, acknowledged_below }
}

/// The answer to a write that was applied, which may have been to reject it.
pub(super) fn written(key: &Bytes, result: WriteResult) -> Result<Answer, ApiError> {
    let WriteResult { applied, revision: store_revision, time_ms } = result;
    match applied {
        kv::Applied::Put { revision, version } => {
            Ok(Answer::Put(PutResponse { revision: revision.get(), version, time_ms }))
        }
        kv::Applied::Deleted { revision, previous } => {
            let previous = previous.map(key_value);
            Ok(Answer::Delete(DeleteResponse { revision: revision.get(), previous, time_ms }))
        }
        kv::Applied::Rejected(rejection) => {
            let key = text(key);
            Err(match rejection {
                kv::Rejection::KeyExists { mod_revision } => {
                    ApiError::KeyExists { key, mod_revision: mod_revision.get() }
                }
                kv::Rejection::KeyNotFound => ApiError::KeyNotFound { key, store_revision, staleness_ms: None },
                kv::Rejection::RevisionMismatch { expected, actual } => {
                    ApiError::RevisionMismatch { key, expected: expected.get(), actual: actual.get() }
                }
            })
        }
        kv::Applied::Refused(refusal) => Err(refusal.into()),
        kv::Applied::Settled(settled) => {
            let outcome = Some(outcome(settled, time_ms));
            Ok(Answer::GetOutcome(GetOutcomeResponse { outcome, time_ms }))
        }
        kv::Applied::Configured { .. } => unreachable!("{NO_CONFIGURING}"),
    }
}

/// The answer to a read.
pub(super) fn read(key: &Bytes, result: ReadResult) -> Result<Answer, ApiError> {
    let ReadResult { kv, revision, served_by, time_ms, age_ms } = result;
    let staleness_ms = age_ms.map(NonZeroU64::get);
    match kv {
        Some(kv) => {
            Ok(Answer::Get(GetResponse { kv: Some(key_value(kv)), revision, served_by, time_ms, staleness_ms }))
        }
        None => Err(ApiError::KeyNotFound { key: text(key), store_revision: revision, staleness_ms }),
    }
}

/// What became of a write, as kv.v1 has it.
fn outcome(settled: kv::Settled, time_ms: u64) -> Outcome {
    let applied = match settled {
        kv::Settled::NeverApplied => return Outcome::NeverApplied(NeverApplied {}),
        kv::Settled::Forgotten => return Outcome::Forgotten(Forgotten {}),
        kv::Settled::Result(applied) => *applied,
    };
    match applied {
        kv::Applied::Put { revision, version } => {
            Outcome::Put(PutResponse { revision: revision.get(), version, time_ms })
        }
        kv::Applied::Deleted { revision, previous } => {
            let previous = previous.map(key_value);
            Outcome::Delete(DeleteResponse { revision: revision.get(), previous, time_ms })
        }
        kv::Applied::Rejected(rejection) => {
            let (reason, revision) = match rejection {
                kv::Rejection::KeyExists { mod_revision } => (KEY_EXISTS, mod_revision.get()),
                kv::Rejection::KeyNotFound => (KEY_NOT_FOUND, 0),
                kv::Rejection::RevisionMismatch { actual, .. } => (REVISION_MISMATCH, actual.get()),
            };
            Outcome::Rejected(Rejected { reason: reason.to_owned(), revision })
        }
        kv::Applied::Configured { .. } => Outcome::Configured(Configured {}),
        kv::Applied::Refused(_) | kv::Applied::Settled(_) => unreachable!("only what a write did is kept"),
    }
}

fn key_value(kv: kv::KeyValue) -> KeyValue {
    KeyValue {
        key: text(&kv.key),
        value: kv.value,
        create_revision: kv.create_revision.get(),
        mod_revision: kv.mod_revision.get(),
        version: kv.version,
    }
}

/// A key as kv.v1 has it. Every key came in through kv.v1, so it is text; one that is not would be shown with
/// replacement characters.
fn text(key: &Bytes) -> String {
    // The one is many times faster than the other at finding nothing to replace.
    str::from_utf8(key).map_or_else(|_| String::from_utf8_lossy(key).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::kv::Revision;

    #[test]
    fn an_operation_survives_being_forwarded() {
        let key = Bytes::from_static("ä key".as_bytes());
        let put = |mode| kv::Command::Put { key: key.clone(), value: Bytes::from_static(b"v"), mode };
        let delete = |expected_revision, return_previous| kv::Command::Delete {
            key: key.clone(),
            expected_revision,
            return_previous,
        };
        let session = kv::SessionId::new(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let id = kv::RequestId { session, opened_at_ms: 5, sequence: 7, acknowledged_below: 6 };
        for command in [
            put(kv::PutMode::Create),
            put(kv::PutMode::Upsert),
            put(kv::PutMode::Update),
            put(kv::PutMode::Compare { expected_revision: Revision::new(7) }),
            delete(None, false),
            delete(Some(Revision::new(u64::MAX)), true),
            kv::Command::Settle,
        ] {
            for id in [None, Some(id)] {
                if id.is_none() && matches!(command, kv::Command::Settle) {
                    continue;
                }
                let operation = Operation::Write(kv::Request { id, command: command.clone() });
                assert_eq!(Operation::new(operation.to_request()), Ok(operation.clone()));
            }
        }
        for consistency in [
            engine::Consistency::Linearizable,
            engine::Consistency::Quorum,
            engine::Consistency::Stale { max_age_ms: None },
            engine::Consistency::Stale { max_age_ms: Some(u64::MAX) },
        ] {
            for min_revision in [0, u64::MAX] {
                let (key, min_revision) = (key.clone(), Revision::new(min_revision));
                let read = Operation::Read(Get { key, consistency, min_revision });
                assert_eq!(Operation::new(read.to_request()), Ok(read.clone()));
            }
        }
    }

    #[test]
    fn an_answer_of_another_kind_is_noticed() {
        let key = Bytes::from_static(b"k");
        let (consistency, min_revision) = (engine::Consistency::default(), Revision::new(0));
        let get = Operation::Read(Get { key, consistency, min_revision });
        assert!(get.is_answered_by(&Answer::Get(GetResponse::default())));
        assert!(!get.is_answered_by(&Answer::Put(PutResponse::default())));
    }
}
