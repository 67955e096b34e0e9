//! Doing it: one action, one result as bytes for standard output, one exit code.

use super::{
    command::{Action, Invocation},
    exit, output, status,
};
use client_cli::{Client, Error};

/// What is written to standard output, and the exit code.
pub(crate) type Done = (Vec<u8>, u8);

/// Performs an action.
pub(crate) async fn run(invocation: &Invocation) -> Result<Done, Error> {
    let client = Client::connect(invocation.options.clone());
    let format = invocation.format;
    let output = match &invocation.action {
        Action::Put { key, value, mode } => {
            let written = client.put(key, value.clone(), *mode).await?;
            output::written(format, key, written)
        }
        Action::Get { key } => output::found(format, &client.get(key).await?),
        Action::Delete { key, expected_revision } => {
            let deleted = client.delete(key, *expected_revision).await?;
            output::deleted(format, key, deleted)
        }
        Action::Status => {
            let statuses = client.statuses().await;
            let answered = statuses.iter().any(|(_, status)| status.is_ok());
            let code = if answered { exit::OK } else { exit::UNAVAILABLE };
            return Ok((status::statuses(format, &statuses), code));
        }
        Action::Leader => output::leader(format, &status::find_leader(client.statuses().await)?),
        Action::TransferLeadership { target } => {
            let (name, term) = client.transfer_leadership(target.as_deref()).await?;
            output::transferred(format, &name, term)
        }
        Action::Members => output::members(format, &client.list_members().await?),
    };
    Ok((output, exit::OK))
}
