//! The names that clients give to their writes.

use core::fmt;

use thiserror::Error;

/// A session of a client: 128 bits that the client drew at random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(u128);

impl SessionId {
    /// A session from its number.
    pub const fn new(session: u128) -> SessionId {
        SessionId(session)
    }

    /// The number.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// The name of a write: with it the write runs once, however often it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId {
    /// The client's session.
    pub session: SessionId,
    /// The replicated time, in milliseconds, that the client had heard of when it opened the session.
    pub opened_at_ms: u64,
    /// The number of the write in its session, from 1.
    pub sequence: u64,
    /// The client will ask for no write of its session any more whose sequence is below this. At most `sequence`.
    pub acknowledged_below: u64,
}

impl RequestId {
    /// Whether a client can have made it.
    ///
    /// # Errors
    ///
    /// Names what is wrong.
    pub fn validate(&self) -> Result<(), InvalidRequestId> {
        if self.sequence == 0 {
            return Err(InvalidRequestId::SequenceZero);
        }
        if self.acknowledged_below > self.sequence {
            let RequestId { sequence, acknowledged_below, .. } = *self;
            return Err(InvalidRequestId::AcknowledgedAhead { sequence, acknowledged_below });
        }
        Ok(())
    }
}

/// A request id that no client makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum InvalidRequestId {
    /// Sequences begin at 1.
    #[error("the sequence is 0, and the first is 1")]
    SequenceZero,
    /// The client has no answer to the request that it sends.
    #[error("acknowledged_below is {acknowledged_below}, above the request's own sequence {sequence}")]
    AcknowledgedAhead {
        /// The request's sequence.
        sequence: u64,
        /// What it says it needs no more.
        acknowledged_below: u64,
    },
}
