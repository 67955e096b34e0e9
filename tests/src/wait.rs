//! Waiting for conditions.

use std::time::{Duration, Instant};

/// How long a condition may take before a test fails. Far more than anything needs, so that a loaded machine fails no
/// test: a timing is measured in the benchmark and never asserted here.
pub const BOUND: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// Looks at `condition` until it yields a value; panics with `what` when it has not within [`BOUND`].
pub async fn wait_for<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < BOUND, "not within {BOUND:?}: {what}");
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Lets a moment pass before a client that was not served asks again, so that it does not take the processor from the
/// nodes that have to recover. Nothing may depend on how long it is.
pub async fn back_off() {
    tokio::time::sleep(INTERVAL).await;
}
