//! The clock of an open loop: a thread of its own, because the runtime's timers know milliseconds only, which is longer
//! than what is to be measured.

use std::{
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};

/// Calls `hand_out` with each moment at which a request is due, at an even pace until `end`, or until it says that it
/// is enough. A thread that was held up makes up for it: what was due meanwhile is handed out at once, with the moments
/// at which it was due.
///
/// # Errors
/// `hand_out` panicked.
pub(crate) async fn pace(
    per_second: f64,
    end: Instant,
    mut hand_out: impl FnMut(Instant) -> ControlFlow<()> + Send + 'static,
) -> anyhow::Result<()> {
    let gap = Duration::from_secs_f64(1.0 / per_second);
    let clock = tokio::task::spawn_blocking(move || {
        let mut due = Instant::now();
        while due < end {
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                thread::sleep(early);
            }
            if hand_out(due).is_break() {
                return;
            }
            due += gap;
        }
    });
    Ok(clock.await?)
}
