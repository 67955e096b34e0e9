//! A client's request on its way through this node, in the one form from which it is run here or forwarded.

use bytes::Bytes;
use engine::kv;
use proto::kv::v1::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, KeyValue, PutMode, PutRequest, PutResponse,
};
pub(super) use proto::raft::v1::forward_request::Request;
pub(super) use proto::raft::v1::forward_response::Response as Answer;

use super::error::{ApiError, CallKind};
use super::node::Node;
use super::validate::{self, Violation};
use crate::node::RequestContext;

/// A valid request. A clone shares key and value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Write(kv::Command),
    Read { key: Bytes },
}

impl Operation {
    /// Checks a request.
    pub(super) fn new(request: Request) -> Result<Self, Violation> {
        Ok(match request {
            Request::Put(request) => Self::Write(validate::put(request)?),
            Request::Get(request) => Self::Read { key: validate::get(request)? },
            Request::Delete(request) => Self::Write(validate::delete(request)?),
        })
    }

    /// The request that another node makes the same operation of.
    pub(super) fn to_request(&self) -> Request {
        match self {
            Self::Write(kv::Command::Put { key, value, mode }) => {
                let (mode, expected_revision) = match mode {
                    kv::PutMode::Create => (PutMode::Create, None),
                    kv::PutMode::Upsert => (PutMode::Upsert, None),
                    kv::PutMode::Update => (PutMode::Update, None),
                    kv::PutMode::Compare { expected_revision } => (PutMode::Compare, Some(expected_revision.get())),
                };
                let (key, value) = (text(key), value.clone());
                Request::Put(PutRequest { key, value, mode: mode.into(), expected_revision })
            }
            Self::Write(kv::Command::Delete { key, expected_revision, return_previous }) => {
                let expected_revision = expected_revision.map(kv::Revision::get);
                Request::Delete(DeleteRequest { key: text(key), expected_revision, return_previous: *return_previous })
            }
            Self::Read { key } => Request::Get(GetRequest { key: text(key), consistency: 0 }),
        }
    }

    /// What the operation is to the store.
    pub(super) fn kind(&self) -> CallKind {
        match self {
            Self::Write(_) => CallKind::Write,
            Self::Read { .. } => CallKind::Other,
        }
    }

    /// How many bytes of a value the request holds.
    pub(super) fn value_bytes(&self) -> usize {
        match self {
            Self::Write(kv::Command::Put { value, .. }) => value.len(),
            Self::Write(kv::Command::Delete { .. }) | Self::Read { .. } => 0,
        }
    }

    /// Whether `answer` is of this operation's kind.
    pub(super) fn is_answered_by(&self, answer: &Answer) -> bool {
        matches!(
            (self, answer),
            (Self::Write(kv::Command::Put { .. }), Answer::Put(_))
                | (Self::Write(kv::Command::Delete { .. }), Answer::Delete(_))
                | (Self::Read { .. }, Answer::Get(_))
        )
    }

    /// Runs the operation on this node.
    pub(super) async fn run(self, node: &impl Node, context: RequestContext) -> Result<Answer, ApiError> {
        match self {
            Self::Write(command) => {
                let key = command.key().clone();
                let applied = node.write(command, context).await?;
                written(&key, applied)
            }
            Self::Read { key } => {
                let result = node.read(key.clone(), context).await?;
                let Some(kv) = result.kv else { return Err(ApiError::KeyNotFound { key: text(&key) }) };
                let (revision, served_by) = (result.revision, result.served_by);
                Ok(Answer::Get(GetResponse { kv: Some(key_value(kv)), revision, served_by }))
            }
        }
    }
}

/// The answer to a write that was applied, which may have been to reject it.
fn written(key: &Bytes, applied: kv::Applied) -> Result<Answer, ApiError> {
    match applied {
        kv::Applied::Put { revision, version } => Ok(Answer::Put(PutResponse { revision: revision.get(), version })),
        kv::Applied::Deleted { revision, previous } => {
            Ok(Answer::Delete(DeleteResponse { revision: revision.get(), previous: previous.map(key_value) }))
        }
        kv::Applied::Rejected(rejection) => {
            let key = text(key);
            Err(match rejection {
                kv::Rejection::KeyExists { mod_revision } => {
                    ApiError::KeyExists { key, mod_revision: mod_revision.get() }
                }
                kv::Rejection::KeyNotFound => ApiError::KeyNotFound { key },
                kv::Rejection::RevisionMismatch { expected, actual } => {
                    ApiError::RevisionMismatch { key, expected: expected.get(), actual: actual.get() }
                }
            })
        }
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
    String::from_utf8_lossy(key).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::kv::Revision;

    #[test]
    fn an_operation_survives_being_forwarded() {
        let key = Bytes::from_static("ä key".as_bytes());
        let put = |mode| Operation::Write(kv::Command::Put { key: key.clone(), value: Bytes::from_static(b"v"), mode });
        let delete = |expected_revision, return_previous| {
            Operation::Write(kv::Command::Delete { key: key.clone(), expected_revision, return_previous })
        };
        for operation in [
            put(kv::PutMode::Create),
            put(kv::PutMode::Upsert),
            put(kv::PutMode::Update),
            put(kv::PutMode::Compare { expected_revision: Revision::new(7) }),
            delete(None, false),
            delete(Some(Revision::new(u64::MAX)), true),
            Operation::Read { key: key.clone() },
        ] {
            assert_eq!(Operation::new(operation.to_request()), Ok(operation.clone()));
        }
    }

    #[test]
    fn an_answer_of_another_kind_is_noticed() {
        let get = Operation::Read { key: Bytes::from_static(b"k") };
        assert!(get.is_answered_by(&Answer::Get(GetResponse::default())));
        assert!(!get.is_answered_by(&Answer::Put(PutResponse::default())));
    }
}
