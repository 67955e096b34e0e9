//! The name of a write: by it a write is sent again without being run again, and is asked about later.

use proto::kv::v1 as kv;
use std::{fmt, str::FromStr};

/// The name of a write. Written `<32 hex digits>-<opened_at_ms>-<sequence>`: the session, when it was opened, and the
/// number of the write in it.
///
/// It comes with an [`Error::OutcomeUnknown`](crate::Error::OutcomeUnknown), and [`Client::get_outcome`] takes it, also
/// in another process with a client of the same cluster.
///
/// ```
/// use client_cli::RequestId;
///
/// let id: RequestId = "000102030405060708090a0b0c0d0e0f-1500-7".parse()?;
/// assert_eq!((id.opened_at_ms, id.sequence), (1500, 7));
/// assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0e0f-1500-7");
/// # Ok::<(), client_cli::RequestIdError>(())
/// ```
///
/// [`Client::get_outcome`]: crate::Client::get_outcome
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// The session: a number that a client drew at random.
    pub session: u128,
    /// The replicated time at which the session was opened, in milliseconds since the cluster began.
    pub opened_at_ms: u64,
    /// The number of the write in its session, from 1.
    pub sequence: u64,
}

/// Why a text is not a [`RequestId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestIdError {
    /// There are not three parts.
    #[error("request id {0:?}: write <32 hex digits>-<milliseconds>-<sequence>")]
    Parts(String),
    /// The session does not have 32 hexadecimal digits.
    #[error("request id {0:?}: the session has 32 hexadecimal digits")]
    Session(String),
    /// The time is no number.
    #[error("request id {0:?}: after the session comes a time in milliseconds")]
    OpenedAt(String),
    /// The sequence is no number from 1.
    #[error("request id {0:?}: at the end is the number of the write, from 1")]
    Sequence(String),
}

/// The digits of a session.
const SESSION_DIGITS: usize = 32;

impl RequestId {
    /// The id as it is sent.
    pub(crate) fn to_wire(self, acknowledged_below: u64) -> kv::RequestId {
        kv::RequestId {
            session: self.session.to_be_bytes().to_vec().into(),
            opened_at_ms: self.opened_at_ms,
            sequence: self.sequence,
            acknowledged_below,
        }
    }
}

impl FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<RequestId, RequestIdError> {
        let trimmed = text.trim();
        let parts: Vec<&str> = trimmed.split('-').collect();
        let [session, opened_at_ms, sequence] = parts[..] else { return Err(RequestIdError::Parts(text.to_owned())) };
        // The parsers of numbers would take a sign.
        let is_hex = session.len() == SESSION_DIGITS && session.bytes().all(|byte| byte.is_ascii_hexdigit());
        let session = Some(session).filter(|_| is_hex).and_then(|session| u128::from_str_radix(session, 16).ok());
        let session = session.ok_or_else(|| RequestIdError::Session(text.to_owned()))?;
        let opened_at_ms = decimal(opened_at_ms).ok_or_else(|| RequestIdError::OpenedAt(text.to_owned()))?;
        let sequence = decimal(sequence).filter(|sequence| *sequence > 0);
        let sequence = sequence.ok_or_else(|| RequestIdError::Sequence(text.to_owned()))?;
        Ok(RequestId { session, opened_at_ms, sequence })
    }
}

fn decimal(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}-{}", self.session, self.opened_at_ms, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for session in [0, 1, u128::MAX, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c] {
            for (opened_at_ms, sequence) in [(0, 1), (u64::MAX, u64::MAX), (1500, 7)] {
                let id = RequestId { session, opened_at_ms, sequence };
                assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused_with_the_reason() {
        let session = "000102030405060708090a0b0c0d0e0f";
        let refused = |text: String| text.parse::<RequestId>().expect_err("it is malformed");
        for text in [String::new(), session.to_owned(), format!("{session}-1"), format!("{session}-1-2-3")] {
            assert_eq!(refused(text.clone()), RequestIdError::Parts(text));
        }
        for text in [format!("{}-1-1", &session[1..]), format!("+{}-1-1", &session[1..]), format!("{session}0-1-1")] {
            assert_eq!(refused(text.clone()), RequestIdError::Session(text));
        }
        for time in ["", "x", "+1", "18446744073709551616"] {
            let text = format!("{session}-{time}-1");
            assert_eq!(refused(text.clone()), RequestIdError::OpenedAt(text));
        }
        for sequence in ["", "0", "x", "+1", "18446744073709551616"] {
            let text = format!("{session}-1-{sequence}");
            assert_eq!(refused(text.clone()), RequestIdError::Sequence(text));
        }
    }
}
