//! The id of a trace as it is typed: 32 hexadecimal digits, as the W3C's trace context and Jaeger write it.

use std::{fmt, str::FromStr};

/// The id of a trace; never zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TraceId([u8; 16]);

/// It is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TraceIdError;

impl TraceId {
    /// Its bytes, the first digits first.
    pub(crate) fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TraceIdError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the id of a trace is 32 hexadecimal digits, and not zero")
    }
}

impl std::error::Error for TraceIdError {}

impl FromStr for TraceId {
    type Err = TraceIdError;

    fn from_str(typed: &str) -> Result<TraceId, TraceIdError> {
        let is_digits = typed.len() == 32 && typed.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(typed, 16) {
            Ok(number) if is_digits && number != 0 => Ok(TraceId(number.to_be_bytes())),
            _ => Err(TraceIdError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_digits() {
        let id: TraceId = "0af7651916cd43dd8448eb211c80319C".parse().expect("it is one");
        assert_eq!((id.bytes()[0], id.bytes()[15]), (0x0a, 0x9c));
        let zero = "0".repeat(32);
        for typed in ["", "7", &zero, &"g".repeat(32), "+af7651916cd43dd8448eb211c80319c", &"7".repeat(33)] {
            assert_eq!(typed.parse::<TraceId>(), Err(TraceIdError), "{typed}");
        }
    }
}
