//! The end of a node: who asks for it, and what is done before the process goes.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::RunError;
use crate::api::Drain;
use crate::api::limits::InFlight;
use crate::lifeline;
use crate::node::{NodeHandle, Role};

/// How long handing over leadership may take at the end. It takes a round trip; a cluster that cannot do it in this
/// time elects a leader by itself just as soon.
const HANDOVER_MAX: Duration = Duration::from_millis(1_000);

/// How long requests that are under way may take at the end.
const DRAIN_MAX: Duration = Duration::from_millis(3_000);

/// What the last answers and the last spans may take together, rounded up.
const LAST_WORDS_MAX: Duration = Duration::from_millis(1_000);

/// How long a node takes to end at most, beside its delay: a handover before it and one behind it, the requests that
/// are under way, and what leaves last. Who kills a node that does not end has to wait for longer.
pub const SHUTDOWN_MAX: Duration =
    HANDOVER_MAX.saturating_mul(2).saturating_add(DRAIN_MAX).saturating_add(LAST_WORDS_MAX);

/// How often it is looked whether they are done.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// Waits for SIGTERM, Ctrl-C, or, if it was asked for, the end of standard input.
pub(super) async fn asked_to_stop(with_stdin: bool) -> Result<(), RunError> {
    let system = |what: &'static str| move |source| RunError::System { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("listen for SIGINT"))?;
    let stdin = if with_stdin { Some(lifeline::watch_stdin().map_err(system("watch standard input"))?) } else { None };
    let why = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = end_of(stdin) => "the end of standard input",
    };
    info!(why, "shutting down");
    Ok(())
}

async fn end_of(watched: Option<impl Future<Output = ()>>) {
    match watched {
        Some(ended) => ended.await,
        None => std::future::pending().await,
    }
}

/// Whoever asks twice does not want to wait.
pub(super) fn exit_at_a_second_signal() {
    tokio::spawn(async {
        if asked_to_stop(false).await.is_ok() {
            warn!("asked a second time: exiting at once");
            std::process::exit(1);
        }
    });
}

/// Ends the service: for `delay` the node is not ready and serves whoever has not noticed; then it refuses new requests
/// and waits for those that are under way, within bounds. It hands leadership over before both.
pub(super) async fn drain_requests(handle: &NodeHandle, drain: &Drain, in_flight: &InFlight, delay: Duration) {
    if !delay.is_zero() {
        drain.announce();
        hand_over(handle).await;
        tokio::time::sleep(delay).await;
    }
    drain.start();
    // It may have been elected meanwhile.
    hand_over(handle).await;
    let until = Instant::now() + DRAIN_MAX;
    while !in_flight.is_empty() && Instant::now() < until {
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// Hands leadership over, if the node leads and has somebody to hand it to.
async fn hand_over(handle: &NodeHandle) {
    let status = handle.status();
    if status.role != Role::Leader || status.members.len() < 2 {
        return;
    }
    match handle.transfer_leadership(None, Instant::now() + HANDOVER_MAX).await {
        Ok((leader, term)) => info!(leader = leader.name, term, "leadership is handed over"),
        Err(error) => warn!(%error, "leadership was not handed over"),
    }
}
