//! Exit codes: what a script may rely on.

use client_cli::{Error, Settled};

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
/// `outcome`: the write was never applied, and never will be.
pub(crate) const NEVER_APPLIED: u8 = 7;
/// `outcome`: nobody knows any more what became of the write.
pub(crate) const FORGOTTEN: u8 = 8;
/// `doctor` found a problem.
pub(crate) const PROBLEM: u8 = 9;

/// The exit code for what became of a write: that which the write would have had, if it was run.
pub(crate) fn settled(settled: &Settled) -> u8 {
    match settled {
        Settled::Put(_) | Settled::Deleted(_) | Settled::Configured => OK,
        Settled::Rejected { reason, .. } if reason == "KEY_EXISTS" => KEY_EXISTS,
        Settled::Rejected { reason, .. } if reason == "KEY_NOT_FOUND" => KEY_MISSING,
        Settled::Rejected { .. } => REFUSED,
        Settled::NeverApplied => NEVER_APPLIED,
        Settled::Forgotten => FORGOTTEN,
    }
}

/// The exit code for an error.
pub(crate) fn code(error: &Error) -> u8 {
    match error {
        Error::KeyExists { .. } => KEY_EXISTS,
        Error::KeyNotFound { .. } => KEY_MISSING,
        Error::NotApplied(_) | Error::DeadlineExceeded(_) => UNAVAILABLE,
        Error::OutcomeUnknown { .. } | Error::SessionExpired(_) => OUTCOME_UNKNOWN,
        Error::RevisionMismatch { .. } | Error::InvalidArgument(_) | Error::Refused(_) => REFUSED,
        // A kind that is added later is certain unless it says otherwise.
        other if other.outcome() == client_cli::Outcome::Unknown => OUTCOME_UNKNOWN,
        _ => REFUSED,
    }
}
