//! Until when a request is worth working on.

use std::time::{Duration, Instant};

use http::{Extensions, HeaderMap};
use tonic::metadata::MetadataMap;

use super::error::ApiError;
use super::limits::REQUEST_TIMEOUT_MAX;
use crate::grpc_timeout;

/// The longest time by which an answer comes before the client's deadline. When the deadline itself passes, the library
/// drops the call and answers without saying what became of the write, and the client may have stopped waiting: an
/// answer that says it has to be on its way before.
const ANSWER_MARGIN_MAX: Duration = Duration::from_millis(20);

/// The shortest such time. Timers have this resolution: of two that are closer, either may come first.
const ANSWER_MARGIN_MIN: Duration = Duration::from_millis(1);

/// The part of a short deadline that is kept for the answer.
const ANSWER_MARGIN_DIVISOR: u32 = 10;

/// When a call reached this node: before its message, which may come much later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrival(Instant);

impl Arrival {
    /// Notes among a call's extensions that it has come.
    pub(super) fn note(extensions: &mut Extensions) {
        extensions.insert(Self(Instant::now()));
    }

    /// What was noted.
    pub(super) fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_else(|| Self(Instant::now()))
    }

    /// When that was.
    pub(super) fn moment(self) -> Instant {
        self.0
    }
}

/// When work on a request ends: what its metadata asks for, at most [`REQUEST_TIMEOUT_MAX`], or else `default`; a
/// little earlier than that, so that the answer arrives in time. What the client asks for counts from the call's
/// arrival, as the library counts it; the default from `now`.
pub(super) fn of_request(
    metadata: &MetadataMap,
    default: Duration,
    Arrival(arrival): Arrival,
    now: Instant,
) -> Result<Instant, ApiError> {
    let asked =
        grpc_timeout::of_metadata(metadata).map_err(|error| ApiError::TimeoutMalformed { value: error.value })?;
    let (begin, timeout) = asked.map_or((now, default), |asked| (arrival, asked));
    Ok(answer_by(begin, begin + timeout.min(REQUEST_TIMEOUT_MAX)))
}

/// When the answer has to be on its way so that it arrives by `deadline`.
pub(super) fn answer_by(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    let margin = (left / ANSWER_MARGIN_DIVISOR).clamp(ANSWER_MARGIN_MIN, ANSWER_MARGIN_MAX);
    deadline - margin.min(left)
}

/// Whether a call leaves no time for anything but its answer. That is found before its message is waited for: whatever
/// has to be waited for, the library's own answer would come first.
pub(super) fn is_too_short(headers: &HeaderMap) -> bool {
    matches!(grpc_timeout::of_headers(headers), Ok(Some(timeout)) if timeout <= ANSWER_MARGIN_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc_timeout::GRPC_TIMEOUT;
    use tonic::metadata::MetadataValue;

    #[test]
    fn a_deadline_is_cut_to_the_maximum_and_has_a_default() {
        let now = Instant::now();
        let default = Duration::from_secs(5);
        let mut metadata = MetadataMap::new();
        assert_eq!(
            of_request(&metadata, default, Arrival(now), now).expect("absent"),
            now + default - ANSWER_MARGIN_MAX
        );
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("99999999H"));
        let longest = now + REQUEST_TIMEOUT_MAX - ANSWER_MARGIN_MAX;
        assert_eq!(of_request(&metadata, default, Arrival(now), now).expect("long"), longest);
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("50m"));
        assert_eq!(of_request(&metadata, default, Arrival(now), now).expect("short"), now + Duration::from_millis(45));
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("5m"));
        assert_eq!(of_request(&metadata, default, Arrival(now), now).expect("shorter"), now + Duration::from_millis(4));
        for passed in ["0m", "1n", "1m"] {
            metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static(passed));
            assert_eq!(of_request(&metadata, default, Arrival(now), now).expect("passed"), now, "{passed}");
        }
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("soon"));
        assert!(matches!(of_request(&metadata, default, Arrival(now), now), Err(ApiError::TimeoutMalformed { .. })));
    }

    #[test]
    fn a_deadline_of_the_client_s_counts_from_the_arrival_of_the_call() {
        let (arrival, default) = (Instant::now(), Duration::from_secs(5));
        let now = arrival + Duration::from_secs(1);
        let mut metadata = MetadataMap::new();
        let of_request = |metadata: &MetadataMap| of_request(metadata, default, Arrival(arrival), now);
        assert_eq!(of_request(&metadata).expect("absent"), now + default - ANSWER_MARGIN_MAX);
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("3S"));
        assert_eq!(of_request(&metadata).expect("asked"), arrival + Duration::from_secs(3) - ANSWER_MARGIN_MAX);
    }

    #[test]
    fn a_deadline_that_leaves_time_for_the_answer_alone_is_too_short() {
        let says = |timeout| {
            is_too_short(&HeaderMap::from_iter([(
                http::HeaderName::from_static(GRPC_TIMEOUT),
                http::HeaderValue::from_static(timeout),
            )]))
        };
        for timeout in ["0S", "0n", "1n", "999u", "1000u", "1m"] {
            assert!(says(timeout), "{timeout}");
        }
        for timeout in ["1001u", "2m", "1S", "99999999H", "soon"] {
            assert!(!says(timeout), "{timeout}");
        }
        assert!(!is_too_short(&HeaderMap::new()), "there is a default");
    }
}
