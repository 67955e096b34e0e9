//! Until when a request is worth working on.

use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;

use super::error::ApiError;
use super::limits::REQUEST_TIMEOUT_MAX;
use crate::grpc_timeout;

/// The longest time by which an answer comes before the client's deadline. When the deadline itself passes, the library
/// drops the call and answers without saying what became of the write, and the client may have stopped waiting: an
/// answer that says it has to be on its way before.
const ANSWER_MARGIN_MAX: Duration = Duration::from_millis(20);

/// The part of a short deadline that is kept for the answer.
const ANSWER_MARGIN_DIVISOR: u32 = 10;

/// When work on a request ends: what its metadata asks for, at most [`REQUEST_TIMEOUT_MAX`], or else `default`; a
/// little earlier than that, so that the answer arrives in time.
pub(super) fn of_request(metadata: &MetadataMap, default: Duration, now: Instant) -> Result<Instant, ApiError> {
    let asked =
        grpc_timeout::of_metadata(metadata).map_err(|error| ApiError::TimeoutMalformed { value: error.value })?;
    let timeout = asked.unwrap_or(default);
    Ok(answer_by(now, now + timeout.min(REQUEST_TIMEOUT_MAX)))
}

/// When the answer has to be on its way so that it arrives by `deadline`.
pub(super) fn answer_by(now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    deadline - (left / ANSWER_MARGIN_DIVISOR).min(ANSWER_MARGIN_MAX)
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
        assert_eq!(of_request(&metadata, default, now).expect("absent"), now + default - ANSWER_MARGIN_MAX);
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("99999999H"));
        let longest = now + REQUEST_TIMEOUT_MAX - ANSWER_MARGIN_MAX;
        assert_eq!(of_request(&metadata, default, now).expect("long"), longest);
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("50m"));
        assert_eq!(of_request(&metadata, default, now).expect("short"), now + Duration::from_millis(45));
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("0m"));
        assert_eq!(of_request(&metadata, default, now).expect("passed"), now);
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("soon"));
        assert!(matches!(of_request(&metadata, default, now), Err(ApiError::TimeoutMalformed { .. })));
    }
}
