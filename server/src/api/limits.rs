//! How much a client may ask of a node at once. Every limit is here, with the reason for its size.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::transport::Server;

use super::error::ApiError;

/// The largest request that is read, in bytes. It is well above the largest valid one (a key of a kibibyte and a value
/// of a mebibyte), so that an oversized value is answered by our own check, which names the field and the limit, and
/// not by the library's.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// How many calls may be open at once on a connection. More wait in the client. A client that needs more in flight has
/// more connections or a stream.
pub const CONCURRENT_STREAMS_MAX: u32 = 4096;

/// The largest set of headers that is read, in bytes: what other gRPC servers accept, and far above what any of our
/// clients sends.
pub const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// How long a connection may be silent before the server asks whether the client is still there.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// How long the client may take to say so. gRPC's own default.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest deadline of a request; a longer one is cut to this. A write that has no outcome after a minute will not
/// get one by waiting, and what waits takes a place.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// How long a call may take from its first byte to its answer's. It is above [`REQUEST_TIMEOUT_MAX`], so that it only
/// ends calls whose request does not arrive: an answer of ours always comes first, and says what became of the call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(65);

/// How long a request waits for a leader to be known and reached. It covers an election at the default timings, after
/// the time that it takes to miss the old leader; a cluster without a majority is reported after it.
pub const LEADER_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a request that found no leader where one was expected waits for better knowledge, unless it comes sooner.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How often a request is tried: as often as the pauses fit into [`LEADER_WAIT_MAX`].
pub const ATTEMPTS_MAX: usize = 20;

/// How much memory the requests under way may hold, counted in [`IN_FLIGHT_UNIT_BYTES`].
pub const IN_FLIGHT_UNITS_MAX: usize = 16_384;

/// What a request holds at least, in bytes; with a value, as much more as the value has. So there are at most 16,384
/// requests under way, or 252 with values of a mebibyte, and never more than 256 MiB of them.
pub const IN_FLIGHT_UNIT_BYTES: usize = 16 << 10;

/// How many connections the HTTP listener of the probes serves at once.
pub const PROBE_CONNECTIONS_MAX: usize = 64;

/// How long one of them may last: a probe is one short request.
pub const PROBE_CONNECTION_AGE_MAX: Duration = Duration::from_secs(10);

/// How long the node's loop or its disk may stand still before the node counts as dead. Being restarted does not make a
/// slow disk faster, so this is far above the pauses that a node survives.
pub const LIVENESS_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Sets the limits of a server's connections and calls.
#[must_use]
pub fn configure(server: Server) -> Server {
    server
        .tcp_nodelay(true)
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .timeout(CALL_TIMEOUT)
}

/// The requests under way, all connections together.
#[derive(Debug)]
pub struct InFlight {
    units: Semaphore,
    units_max: usize,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self::with_units(IN_FLIGHT_UNITS_MAX)
    }

    pub(super) fn with_units(units: usize) -> Self {
        Self { units: Semaphore::new(units), units_max: units }
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.available_permits() == self.units_max
    }

    /// Takes a request in until the permit is dropped, or refuses it at once: a queue would only hide the overload.
    pub(super) fn admit(&self, value_bytes: usize) -> Result<SemaphorePermit<'_>, ApiError> {
        let units = u32::try_from(1 + value_bytes / IN_FLIGHT_UNIT_BYTES).unwrap_or(u32::MAX);
        self.units.try_acquire_many(units).map_err(|_| ApiError::Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::kv::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

    #[test]
    fn the_largest_valid_request_is_far_below_the_transports_limit() {
        const { assert!(2 * (KEY_BYTES_MAX + VALUE_BYTES_MAX) < MESSAGE_BYTES_MAX) };
    }

    #[test]
    fn requests_are_admitted_by_what_they_hold() {
        let in_flight = InFlight::with_units(66);
        let large = in_flight.admit(VALUE_BYTES_MAX).expect("65 units");
        let small = in_flight.admit(0).expect("1 unit");
        assert!(in_flight.admit(0).is_err());
        drop(large);
        assert!(in_flight.admit(VALUE_BYTES_MAX).is_ok());
        assert!(!in_flight.is_empty());
        drop(small);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn a_request_of_any_size_is_judged() {
        assert!(InFlight::new().admit(usize::MAX - 1).is_err());
    }

    #[test]
    fn our_answer_comes_before_the_librarys() {
        assert!(REQUEST_TIMEOUT_MAX < CALL_TIMEOUT);
        assert!(RETRY_PAUSE * u32::try_from(ATTEMPTS_MAX).expect("small") >= LEADER_WAIT_MAX);
    }
}
