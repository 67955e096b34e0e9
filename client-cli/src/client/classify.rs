//! What a status means for a request: the one place that reads statuses.

use super::rpc::Repeats;
use crate::{Leader, Outcome};
use std::{collections::HashMap, error::Error as _, time::Duration};
use tonic::{Code, Status, TimeoutExpired, metadata::MetadataMap};
use tonic_types::StatusExt as _;

/// The domain of Quorate's `ErrorInfo`.
const DOMAIN: &str = "quorate";

/// Response metadata: the leader's name and the address at which clients reach it.
const LEADER_NAME: &str = "quorate-leader-name";
const LEADER_ADDRESS: &str = "quorate-leader-address";

/// Reasons about the name of a write. The first two are about its session: this attempt was not run.
pub(crate) const SESSION_EXPIRED: &str = "SESSION_EXPIRED";
const REQUEST_ID_AHEAD: &str = "REQUEST_ID_AHEAD";
const RESULT_FORGOTTEN: &str = "RESULT_FORGOTTEN";
const REQUEST_FENCED: &str = "REQUEST_FENCED";

/// Reasons of gets: the state of the node that was asked is too old; the store has not come to a revision.
const STALENESS_BOUND_EXCEEDED: &str = "STALENESS_BOUND_EXCEEDED";
const REVISION_AHEAD: &str = "REVISION_AHEAD";

/// gRPC's server pushback: milliseconds before the next attempt; a negative number forbids it.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What to do about a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another attempt does no harm and may succeed: elsewhere, or later. The pause is the one the server asked for.
    Repeat { after: Option<Duration> },
    /// It may be repeated by the caller, but the server asked not to repeat it now.
    GiveUp,
    /// A node decided, and will again.
    Refused,
    /// The cluster does not know the session of the write, and did not run this attempt.
    NoSession,
    /// The outcome is unknown, and the request has no name by which it could be repeated.
    Unknown,
}

/// A failed attempt, understood.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) code: Code,
    /// The reason of a Quorate node; none if something else answered, or nothing.
    pub(crate) reason: Option<String>,
    pub(crate) message: String,
    pub(crate) outcome: Outcome,
    pub(crate) verdict: Verdict,
    /// The metadata of Quorate's `ErrorInfo`.
    pub(crate) details: HashMap<String, String>,
}

impl Judged {
    /// Whether this is what became of a write, whatever its earlier attempts met: a write with a name is run once, and
    /// each attempt that gets as far is told what came of it then.
    pub(crate) fn settles(&self) -> bool {
        let run = ["KEY_EXISTS", "KEY_NOT_FOUND", "REVISION_MISMATCH", REQUEST_FENCED];
        self.outcome == Outcome::NotApplied && self.reason.as_deref().is_some_and(|reason| run.contains(&reason))
    }

    /// Whether the time at which the session was opened is still to come: it was heard of in another cluster.
    pub(crate) fn is_ahead(&self) -> bool {
        self.reason.as_deref() == Some(REQUEST_ID_AHEAD)
    }

    /// Whether the node reaches no leader, or hears too little of it: another may do better for a while.
    pub(crate) fn is_cut_off(&self) -> bool {
        matches!(self.reason.as_deref(), Some("NO_QUORUM" | STALENESS_BOUND_EXCEEDED))
    }

    /// A revision that the store had when the error came of it, or an earlier one.
    pub(crate) fn revision(&self) -> Option<u64> {
        let name = match self.reason.as_deref()? {
            // These two are the key's own, and it has been as it is since.
            "KEY_EXISTS" => "revision",
            "REVISION_MISMATCH" => "currentRevision",
            "KEY_NOT_FOUND" => "storeRevision",
            _ => return None,
        };
        self.details.get(name)?.parse().ok()
    }

    /// The revision that was asked for and the store's own, if that has not come so far: it was given out by another
    /// cluster, or before this one was set back.
    pub(crate) fn ahead(&self) -> Option<(u64, u64)> {
        let number = |name: &str| self.details.get(name)?.parse().ok();
        let is_ahead = self.reason.as_deref() == Some(REVISION_AHEAD);
        is_ahead.then(|| Some((number("minRevision")?, number("revision")?))).flatten()
    }

    /// The replicated time that the error tells.
    pub(crate) fn time_ms(&self) -> Option<u64> {
        self.details.get("timeMs")?.parse().ok()
    }
}

/// Judges a status. `left` says whether the request may have left this process, `repeats` what a second execution would
/// do.
pub(crate) fn judge(status: &Status, left: bool, repeats: Repeats) -> Judged {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    let (reason, details) = info.map(|info| (info.reason, info.metadata)).unzip();
    let details: HashMap<String, String> = details.unwrap_or_default();
    let timed_out = is_local_timeout(status);
    let code = if timed_out { Code::DeadlineExceeded } else { status.code() };
    let reasoned = reason.as_deref();
    let no_session = repeats == Repeats::ByName && matches!(reasoned, Some(SESSION_EXPIRED | REQUEST_ID_AHEAD));
    let outcome = match repeats {
        Repeats::Freely => Outcome::NotApplied,
        _ if !left || no_session => Outcome::NotApplied,
        Repeats::ByName | Repeats::Never => outcome(code, reasoned, &details),
    };
    let verdict = match (outcome, repeats) {
        _ if no_session => Verdict::NoSession,
        (Outcome::Unknown, Repeats::Never) => Verdict::Unknown,
        (_, Repeats::ByName) if matches!(reasoned, Some(RESULT_FORGOTTEN | REQUEST_FENCED)) => Verdict::Refused,
        // Another attempt is told what became of this one.
        (Outcome::Unknown, _) => repeat(status),
        (Outcome::NotApplied, _) if may_succeed_later(code, reasoned) => repeat(status),
        (Outcome::NotApplied, _) => Verdict::Refused,
    };
    let message = message(status, left, timed_out);
    Judged { code, reason, message, outcome, verdict, details }
}

/// The outcome of a write that may have reached a node.
fn outcome(code: Code, reason: Option<&str>, details: &HashMap<String, String>) -> Outcome {
    if reason.is_none() {
        // A library on the way made this status, and knows nothing of the write.
        return Outcome::Unknown;
    }
    match details.get("outcome").map(String::as_str) {
        Some("NOT_APPLIED") => Outcome::NotApplied,
        Some(_) => Outcome::Unknown,
        // A handover is no write and has no outcome of its own; when its time is over, the old leader goes on.
        None if reason == Some("TRANSFER_TIMED_OUT") => Outcome::NotApplied,
        None => match code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unavailable
            | Code::Unauthenticated => Outcome::NotApplied,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::DataLoss => Outcome::Unknown,
        },
    }
}

/// Whether another attempt, of which it is known that it does no harm, can have another result.
fn may_succeed_later(code: Code, reason: Option<&str>) -> bool {
    match (code, reason) {
        // No node of ours decided. Another endpoint may be one.
        (_, None) => true,
        (Code::ResourceExhausted, Some(reason)) => reason != "STORAGE_FULL",
        // The node's own patience may be shorter than ours.
        (Code::Unavailable | Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Aborted, Some(_)) => true,
        (_, Some(_)) => false,
    }
}

fn repeat(status: &Status) -> Verdict {
    if let Some(pushback) = status.metadata().get(PUSHBACK) {
        // An unreadable value means the same as a negative one (gRFC A6).
        return match pushback.to_str().ok().and_then(|text| text.parse().ok()) {
            Some(pause_ms) => Verdict::Repeat { after: Some(Duration::from_millis(pause_ms)) },
            None => Verdict::GiveUp,
        };
    }
    Verdict::Repeat { after: status.get_details_retry_info().and_then(|info| info.retry_delay) }
}

/// Whether the channel's own timer, which enforces `grpc-timeout` on this side, made the status.
fn is_local_timeout(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The text for people. The library's outermost words ("transport error") say least, the innermost most.
fn message(status: &Status, left: bool, timed_out: bool) -> String {
    if timed_out {
        return "no answer in time".to_owned();
    }
    let mut innermost = None;
    let mut source = status.source();
    while let Some(error) = source {
        innermost = Some(error.to_string());
        source = error.source();
    }
    match innermost {
        Some(cause) if left => format!("connection lost: {cause}"),
        Some(cause) => format!("cannot connect: {cause}"),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}

/// The leader that a response or an error names.
pub(crate) fn leader(metadata: &MetadataMap) -> Option<Leader> {
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let endpoint = text(LEADER_ADDRESS)?.parse().ok()?;
    Some(Leader { name: text(LEADER_NAME).unwrap_or_default().to_owned(), endpoint })
}

/// The leader that an error names in its details.
pub(crate) fn leader_in_details(details: &HashMap<String, String>) -> Option<Leader> {
    let endpoint = details.get("leaderAddress")?.parse().ok()?;
    Some(Leader { name: details.get("leaderId").cloned().unwrap_or_default(), endpoint })
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
