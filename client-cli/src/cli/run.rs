//! Doing it: one action, one result as bytes for standard output, one exit code.

use super::{
    bench,
    command::{Action, Invocation},
    doctor, exit, output, status,
    style::Colours,
};
use client_cli::{Client, Error, Settled};

/// What is written to standard output, and the exit code.
pub(crate) type Done = (Vec<u8>, u8);

/// Performs an action.
pub(crate) async fn run(invocation: &Invocation) -> Result<Done, Error> {
    let client = Client::connect(invocation.options.clone());
    let format = invocation.format;
    let colours = Colours::of_output(format);
    let output = match &invocation.action {
        Action::Put { key, value, mode } => {
            let written = client.put(key, value.clone(), *mode).await?;
            output::written(format, key, written)
        }
        Action::Get { key, options } => output::found(format, &client.get_with(key, *options).await?),
        Action::Delete { key, expected_revision } => {
            let deleted = client.delete(key, *expected_revision).await?;
            output::deleted(format, key, deleted)
        }
        Action::Outcome { id } => {
            let settled = match client.get_outcome(id).await {
                // What becomes of a write of such a session is the same as if its result were forgotten.
                Err(Error::SessionExpired(_)) => Settled::Forgotten,
                answer => answer?,
            };
            return Ok((output::settled(format, id, &settled), exit::settled(&settled)));
        }
        Action::Status => {
            let statuses = client.statuses().await;
            let answered = statuses.iter().any(|(_, status)| status.is_ok());
            let code = if answered { exit::OK } else { exit::UNAVAILABLE };
            return Ok((colours.head(status::statuses(format, &statuses)), code));
        }
        Action::Leader => colours.head(output::leader(format, &status::find_leader(client.statuses().await)?)),
        Action::TransferLeadership { target } => {
            let (name, term) = client.transfer_leadership(target.as_deref()).await?;
            output::transferred(format, &name, term)
        }
        Action::Members => colours.head(output::members(format, &client.list_members().await?)),
        Action::Doctor { timeout } => {
            return Ok(doctor::run(&client, *timeout, format, &invocation.prefix).await);
        }
        Action::Bench(plan) => return bench::run(&client, plan, format, &invocation.prefix).await,
    };
    Ok((output, exit::OK))
}
