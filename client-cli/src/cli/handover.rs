//! `transfer-leadership --if-leader`: the last thing that is asked of a node before it is stopped.

use super::{args::Format, output, status::Answer};
use client_cli::{Client, Endpoint, Error, Role, StatusResponse};

/// Hands leadership over if the node at one of the endpoints leads. Where none does, there is nothing to do.
///
/// # Errors
///
/// If no endpoint answers, or the one that leads goes on leading.
pub(crate) async fn if_leader(client: &Client, format: Format, target: Option<&str>) -> Result<Vec<u8>, Error> {
    let (endpoint, status) = foremost(client.statuses().await)?;
    if status.role() != Role::Leader {
        return Ok(output::led_by(format, &status.leader_name, status.term));
    }
    // Not whoever leads by now: that may be a node which was not named.
    let error = match client.transfer_leadership_from(&endpoint, target).await {
        Ok((name, term)) => return Ok(output::transferred(format, &name, term)),
        Err(error) => error,
    };
    match client.status(&endpoint).await {
        Ok(status) if status.role() != Role::Leader => Ok(output::led_by(format, &status.leader_name, status.term)),
        _ => Err(error),
    }
}

/// The node that leads, else any that answered.
fn foremost(answers: Vec<Answer>) -> Result<(Endpoint, StatusResponse), Error> {
    let mut first_error = None;
    let mut heard: Option<(Endpoint, StatusResponse)> = None;
    for (endpoint, answer) in answers {
        match answer {
            // Of two that claim it, the one of the later term does.
            Ok(status) => {
                let rank = |status: &StatusResponse| (status.role() == Role::Leader, status.term);
                if heard.as_ref().is_none_or(|(_, best)| rank(best) < rank(&status)) {
                    heard = Some((endpoint, status));
                }
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    heard.ok_or_else(|| first_error.expect("there is an endpoint, and it answered or failed"))
}
