//! What can become of a request that did not succeed.

use crate::{Endpoint, RequestId};
use std::fmt;
use tonic::Code;

/// Whether a failed write may have been applied. A read changes nothing: its outcome is always `NotApplied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not applied and never will be.
    NotApplied,
    /// It may have been applied, or may still be.
    Unknown,
}

impl Outcome {
    /// The outcome of a request that made both attempts: one that is unknown makes the request unknown.
    #[must_use]
    pub fn merge(self, other: Outcome) -> Outcome {
        match (self, other) {
            (Outcome::NotApplied, Outcome::NotApplied) => Outcome::NotApplied,
            (Outcome::Unknown, _) | (_, Outcome::Unknown) => Outcome::Unknown,
        }
    }
}

/// What one endpoint said last within a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Who was asked: one address of a name that has several.
    pub endpoint: Endpoint,
    /// The gRPC status code, or the one that stands for what happened on the way.
    pub code: Code,
    /// The reason in Quorate's `ErrorInfo`, such as `NO_QUORUM`; none if the answer is not a Quorate node's.
    pub reason: Option<String>,
    /// The message, as the server or the system wrote it.
    pub message: String,
    /// What is known of this attempt.
    pub outcome: Outcome,
    /// How often this endpoint was tried within the request.
    pub tries: u32,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{}: {} ({reason})", self.endpoint, self.message)?,
            None => write!(f, "{}: {}", self.endpoint, self.message)?,
        }
        match self.tries {
            0 | 1 => Ok(()),
            tries => write!(f, " [{tries} tries]"),
        }
    }
}

/// The evidence of a failure, kept by every [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened: the server's own words if a server decided, ours otherwise.
    pub message: String,
    /// What each endpoint said last, in the order in which they were first asked.
    pub attempts: Vec<Attempt>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Why a request failed.
///
/// All but [`Error::OutcomeUnknown`] and [`Error::SessionExpired`] are certain: nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A create-only put found its key.
    #[error("{failure}")]
    KeyExists {
        /// The key.
        key: String,
        /// The evidence; its message is `key already exists: <key>`.
        failure: Box<Failure>,
    },
    /// A get, delete, update or compare did not find its key.
    #[error("{failure}")]
    KeyNotFound {
        /// The key.
        key: String,
        /// The evidence; its message is `key not found: <key>`.
        failure: Box<Failure>,
    },
    /// The key has another mod revision than the expected one.
    #[error("{failure}")]
    RevisionMismatch {
        /// The key.
        key: String,
        /// The key's mod revision, if the server told it.
        actual: Option<u64>,
        /// The evidence.
        failure: Box<Failure>,
    },
    /// The request is malformed; repeating it cannot help.
    #[error("{0}")]
    InvalidArgument(Box<Failure>),
    /// A node refused for another reason that time alone does not change, such as a full store.
    #[error("{0}")]
    Refused(Box<Failure>),
    /// No endpoint could take the request. It may be repeated.
    #[error("{0}")]
    NotApplied(Box<Failure>),
    /// The deadline passed before an answer, and nothing was written: a read, or a write of which no attempt can have
    /// been applied.
    #[error("{0}")]
    DeadlineExceeded(Box<Failure>),
    /// A write may have been applied, or may still be: no attempt told what came of it. [`Client::get_outcome`] settles
    /// it by its name; if that cannot find out in time it ends in the same way, and may be asked again.
    ///
    /// [`Client::get_outcome`]: crate::Client::get_outcome
    #[error("{failure}")]
    OutcomeUnknown {
        /// The name of the write. A handover of leadership has none.
        request_id: Option<RequestId>,
        /// The evidence.
        failure: Box<Failure>,
    },
    /// The cluster has forgotten the session of a write of which an attempt may have been applied, or the session that
    /// [`Client::get_outcome`] was asked about: nobody can tell any more. Read the key.
    ///
    /// A session is forgotten when nothing was asked in it for an hour, or earlier if there are too many.
    ///
    /// [`Client::get_outcome`]: crate::Client::get_outcome
    #[error("{0}")]
    SessionExpired(Box<Failure>),
}

impl Error {
    /// The error of a request that could be repeated, by the code of its last attempt.
    pub(crate) fn unavailable(last: Code, message: String, attempts: Vec<Attempt>) -> Error {
        let failure = Box::new(Failure { message, attempts });
        if last == Code::DeadlineExceeded { Error::DeadlineExceeded(failure) } else { Error::NotApplied(failure) }
    }

    /// Whether the request may have been applied.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::OutcomeUnknown { .. } | Error::SessionExpired(_) => Outcome::Unknown,
            Error::KeyExists { .. }
            | Error::KeyNotFound { .. }
            | Error::RevisionMismatch { .. }
            | Error::InvalidArgument(_)
            | Error::Refused(_)
            | Error::NotApplied(_)
            | Error::DeadlineExceeded(_) => Outcome::NotApplied,
        }
    }

    /// The evidence.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            Error::KeyExists { failure, .. }
            | Error::KeyNotFound { failure, .. }
            | Error::RevisionMismatch { failure, .. }
            | Error::InvalidArgument(failure)
            | Error::Refused(failure)
            | Error::NotApplied(failure)
            | Error::DeadlineExceeded(failure)
            | Error::SessionExpired(failure)
            | Error::OutcomeUnknown { failure, .. } => failure,
        }
    }

    /// The name of the write whose outcome is unknown, for [`Client::get_outcome`](crate::Client::get_outcome).
    #[must_use]
    pub fn request_id(&self) -> Option<&RequestId> {
        match self {
            Error::OutcomeUnknown { request_id, .. } => request_id.as_ref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unknown_attempt_makes_the_request_unknown() {
        use Outcome::{NotApplied, Unknown};
        assert_eq!(NotApplied.merge(NotApplied), NotApplied);
        assert_eq!(NotApplied.merge(Unknown), Unknown);
        assert_eq!(Unknown.merge(NotApplied), Unknown);
        assert_eq!(Unknown.merge(Unknown), Unknown);
    }

    #[test]
    fn an_attempt_reads_as_one_line() {
        let mut attempt = Attempt {
            endpoint: "127.0.0.1:7001".parse().expect("it is well formed"),
            code: Code::Unavailable,
            reason: Some("NO_QUORUM".to_owned()),
            message: "no quorum".to_owned(),
            outcome: Outcome::NotApplied,
            tries: 1,
        };
        assert_eq!(attempt.to_string(), "127.0.0.1:7001: no quorum (NO_QUORUM)");
        attempt.reason = None;
        attempt.tries = 3;
        assert_eq!(attempt.to_string(), "127.0.0.1:7001: no quorum [3 tries]");
    }
}
