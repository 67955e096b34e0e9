//! Exit codes: what a script may rely on.

use client_cli::Error;

/// It was done.
pub(crate) const OK: u8 = 0;
/// The command line is wrong, or something on this machine failed.
pub(crate) const USAGE: u8 = 1;
/// A put found its key.
pub(crate) const KEY_EXISTS: u8 = 2;
/// The key is missing.
pub(crate) const KEY_MISSING: u8 = 3;
/// The cluster could not be reached or could not decide, and nothing was written.
pub(crate) const UNAVAILABLE: u8 = 4;
/// A write may have been applied.
pub(crate) const OUTCOME_UNKNOWN: u8 = 5;
/// A node refused for any other reason, and nothing was written: another revision, a malformed or too large key or
/// value, a full store.
pub(crate) const REFUSED: u8 = 6;

/// The exit code for an error.
pub(crate) fn code(error: &Error) -> u8 {
    match error {
        Error::KeyExists { .. } => KEY_EXISTS,
        Error::KeyNotFound { .. } => KEY_MISSING,
        Error::NotApplied(_) | Error::DeadlineExceeded(_) => UNAVAILABLE,
        Error::OutcomeUnknown { .. } => OUTCOME_UNKNOWN,
        Error::RevisionMismatch { .. } | Error::InvalidArgument(_) | Error::Refused(_) => REFUSED,
        // A kind that is added later is certain unless it says otherwise.
        other if other.outcome() == client_cli::Outcome::Unknown => OUTCOME_UNKNOWN,
        _ => REFUSED,
    }
}
