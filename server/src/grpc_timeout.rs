//! How long the caller of a gRPC waits, as its metadata says it.

use std::time::Duration;

use http::HeaderMap;
use tonic::metadata::MetadataMap;

/// The metadata entry that carries it.
pub(crate) const GRPC_TIMEOUT: &str = "grpc-timeout";

/// How many digits the gRPC specification allows.
const DIGITS_MAX: usize = 8;

/// The entry is there, but not as the specification writes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Malformed {
    /// What it says.
    pub(crate) value: String,
}

/// Reads the entry; none if there is none.
pub(crate) fn of_metadata(metadata: &MetadataMap) -> Result<Option<Duration>, Malformed> {
    of_headers(metadata.as_ref())
}

/// The same of a call that is still HTTP.
pub(crate) fn of_headers(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    match parse(value.as_bytes()) {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Malformed { value: String::from_utf8_lossy(value.as_bytes()).into_owned() }),
    }
}

/// Reads a timeout as the gRPC specification writes it: at most eight digits and a unit. Zero, which the specification
/// leaves out, is a deadline that has passed.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0, |count: u64, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(count * 3600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::MetadataValue;

    #[test]
    fn each_unit_is_read() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("2M", Duration::from_secs(120)),
            ("5S", Duration::from_secs(5)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("1n", Duration::from_nanos(1)),
            ("0S", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_the_specification_does_not_allow_is_refused() {
        for text in ["", "5", "S", "5s", "5 S", "+5S", "-5S", "5.0S", "123456789S", "0x5S", "٣S", "5SS"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn an_absent_timeout_is_none_and_a_malformed_one_is_told() {
        let mut metadata = MetadataMap::new();
        assert_eq!(of_metadata(&metadata), Ok(None));
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("250m"));
        assert_eq!(of_metadata(&metadata), Ok(Some(Duration::from_millis(250))));
        metadata.insert(GRPC_TIMEOUT, MetadataValue::from_static("soon"));
        assert_eq!(of_metadata(&metadata), Err(Malformed { value: "soon".to_owned() }));
    }
}
