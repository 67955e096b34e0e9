//! How connections to peers are made and watched.

use std::io;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// A peer that does not accept a connection for so long is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);

/// A silent connection is asked whether it lives, so that one whose other end vanished without a word (a partition that
/// ate the last packets) is given up and made anew soon. Both ends are ours, so nobody takes offence.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_millis(2_000);

/// How long the answer to that may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(2_000);

/// How much a stream may have under way before its reader has taken any: two AppendEntries of the largest size.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// The first wait after a failed attempt.
const BACK_OFF_MIN: Duration = Duration::from_millis(20);

/// The longest wait between attempts: well below an election timeout, so that a node that comes back is not cut off
/// from the leader for long enough to start an election.
const BACK_OFF_MAX: Duration = Duration::from_millis(250);

/// Connects to `address` (host and port), resolving its name.
pub(super) async fn connect(address: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(2 * STREAM_WINDOW_BYTES)
        .connect()
        .await
}

/// Whether a connection was answered with a refusal: the host is there, and nobody listens at that port.
pub(super) fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// The wait between attempts: doubled after each failure, back to the shortest after a success.
#[derive(Debug)]
pub(super) struct BackOff {
    next: Duration,
}

impl BackOff {
    pub(super) fn new() -> Self {
        Self { next: BACK_OFF_MIN }
    }

    pub(super) fn reset(&mut self) {
        self.next = BACK_OFF_MIN;
    }

    /// Waits, with a random part so that peers do not try in step.
    pub(super) async fn wait(&mut self) {
        let wait = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(BACK_OFF_MAX);
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[tokio::test]
    async fn a_port_at_which_nobody_listens_is_a_refusal_and_other_failures_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let address = listener.local_addr().expect("it is bound").to_string();
        drop(listener);
        let refused = connect(&address).await.expect_err("nobody listens");
        assert!(is_refusal(&refused), "{refused:?}");
        let malformed = connect("no address").await.expect_err("an address has no blank");
        assert!(!is_refusal(&malformed), "{malformed:?}");
    }
}
