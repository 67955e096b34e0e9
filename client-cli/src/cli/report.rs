//! An error as people read it: what happened, what each endpoint said, and the next command to type.

use super::{
    command::{Action, Invocation},
    output::printable,
};
use client_cli::{Error, Failure};
use std::fmt::Write as _;

/// Several lines without a last line break. The first is `error:` and the server's own words.
pub(crate) fn explain(error: &Error, invocation: &Invocation) -> String {
    let mut text = format!("error: {}", printable(&error.failure().message));
    let writes = matches!(
        invocation.action,
        Action::Put { .. } | Action::Delete { .. } | Action::TransferLeadership { .. } | Action::UpdateSettings { .. }
    );
    match error {
        Error::NotApplied(failure) | Error::DeadlineExceeded(failure) => {
            if writes {
                text.push_str("\n  it was certainly not applied");
            }
            list(&mut text, failure);
        }
        Error::Refused(_) if writes => text.push_str("\n  it was certainly not applied"),
        Error::SessionExpired(failure) => {
            text.push_str("\n  it may have been applied, and nobody can tell any more");
            list(&mut text, failure);
        }
        Error::OutcomeUnknown { failure, .. } => {
            text.push_str("\n  it may have been applied, or may still be");
            list(&mut text, failure);
        }
        Error::RevisionMismatch { actual: Some(actual), .. } => {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n  the key was last written at revision {actual}");
        }
        _ => {}
    }
    let (command, why) = next(error, &invocation.action);
    let _ = write!(text, "\nnext: {} {command}    {why}", invocation.prefix);
    text
}

fn list(text: &mut String, failure: &Failure) {
    for attempt in &failure.attempts {
        let _ = write!(text, "\n  {}", printable(&attempt.to_string()));
    }
}

/// The next command, and what it is good for.
fn next(error: &Error, action: &Action) -> (String, &'static str) {
    let key = match action {
        Action::Put { key, .. } | Action::Get { key, .. } | Action::Delete { key, .. } => quoted(key),
        Action::Status
        | Action::Leader
        | Action::TransferLeadership { .. }
        | Action::Members
        | Action::ShowSettings
        | Action::UpdateSettings { .. }
        | Action::Outcome { .. }
        | Action::Doctor { .. }
        | Action::Slow { .. }
        | Action::Trace { .. }
        | Action::ShowLogFilter
        | Action::UpdateLogFilter { .. }
        | Action::Bench(_) => String::new(),
    };
    match (error, action) {
        (Error::KeyExists { .. }, _) => (format!("put --upsert {key} VALUE"), "overwrites it"),
        (Error::KeyNotFound { .. }, _) => (format!("put {key} VALUE"), "creates it"),
        (Error::RevisionMismatch { .. }, _) => (format!("get -o json {key}"), "shows its mod_revision"),
        (Error::OutcomeUnknown { .. }, Action::TransferLeadership { .. }) => {
            ("leader".to_owned(), "shows who leads now")
        }
        (Error::OutcomeUnknown { .. }, Action::Bench(_) | Action::Outcome { .. }) => {
            ("doctor".to_owned(), "says what is wrong")
        }
        (Error::OutcomeUnknown { request_id: Some(id), .. }, _) => {
            (format!("outcome {id}"), "settles what became of it")
        }
        (Error::OutcomeUnknown { .. } | Error::SessionExpired(_), Action::UpdateSettings { .. }) => {
            ("settings show".to_owned(), "shows what they are; look before you repeat it")
        }
        (Error::OutcomeUnknown { .. } | Error::SessionExpired(_), _) => {
            (format!("get {key}"), "shows what is there; look before you repeat it")
        }
        (Error::InvalidArgument(_), Action::TransferLeadership { .. }) => ("members".to_owned(), "lists the nodes"),
        (Error::InvalidArgument(_), Action::Put { .. }) => ("put --help".to_owned(), "shows what is allowed"),
        (Error::InvalidArgument(_), _) => ("--help".to_owned(), "shows what is allowed"),
        (_, Action::Status) => ("--endpoints HOST:PORT status".to_owned(), "asks another node"),
        _ => ("status".to_owned(), "shows how each node is"),
    }
}

/// A key as a shell takes it.
pub(crate) fn quoted(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !key.is_empty() && !key.starts_with('-') && key.chars().all(plain) {
        return key.to_owned();
    }
    let quoted = format!("'{}'", printable(key).replace('\'', r"'\''"));
    if key.starts_with('-') { format!("-- {quoted}") } else { quoted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted("a/b-c_1"), "a/b-c_1");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("-n"), "-- '-n'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("\u{1b}[2J"), r"'\u{1b}[2J'");
    }
}
