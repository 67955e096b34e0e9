//! Doing it: one action, one result as bytes for standard output, one exit code.

use super::{
    args::LEASE_READS_ASSUMPTION,
    bench,
    command::{Action, Invocation},
    complain, doctor, exit, handover, log_filter, output, settings,
    status::{self, Answer},
    style::Colours,
    traces,
};
use client_cli::{Client, Error, Setting, Settled};

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
            return Ok((colours.head(status::statuses(format, &statuses)), heard(&statuses)));
        }
        Action::Leader => colours.head(output::leader(format, &status::find_leader(client.statuses().await)?)),
        Action::TransferLeadership { target, if_leader: true } => {
            handover::if_leader(&client, format, target.as_deref()).await?
        }
        Action::TransferLeadership { target, if_leader: false } => {
            let (name, term) = client.transfer_leadership(target.as_deref()).await?;
            output::transferred(format, &name, term)
        }
        Action::Members => colours.head(output::members(format, &client.list_members().await?)),
        Action::ShowSettings => {
            let statuses = client.statuses().await;
            return Ok((colours.head(settings::of_each(format, &statuses)), heard(&statuses)));
        }
        Action::UpdateSettings { setting } => {
            let settings = client.update_settings(*setting).await?;
            if *setting == Setting::LeaseReads(true) {
                complain(LEASE_READS_ASSUMPTION);
            }
            settings::changed(format, settings)
        }
        Action::Doctor { timeout } => {
            return Ok(doctor::run(&client, *timeout, format, &invocation.prefix).await);
        }
        Action::Slow { limit } => return Ok(traces::slowest(&invocation.options, format, *limit, colours).await),
        Action::Trace { id } => return Ok(traces::by_id(&invocation.options, format, id.bytes(), colours).await),
        Action::ShowLogFilter => return Ok(log_filter::of_each(format, &client.log_filters().await, colours)),
        Action::UpdateLogFilter { filter } => {
            return Ok(log_filter::changed(format, &client.update_log_filters(filter).await, colours));
        }
        Action::Bench(plan) => return bench::run(&client, plan, format, &invocation.prefix).await,
    };
    Ok((output, exit::OK))
}

/// The exit code for the answers of all endpoints.
fn heard(answers: &[Answer]) -> u8 {
    if answers.iter().any(|(_, answer)| answer.is_ok()) { exit::OK } else { exit::UNAVAILABLE }
}
