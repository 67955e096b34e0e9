//! Durations as people write them.

use std::time::Duration;

/// The longest timeout that can be asked for.
const LONGEST: Duration = Duration::from_secs(3600);

/// Parses `500ms`, `5s`, `1.5s`, `2m`. A bare number is refused: its unit would be a guess.
///
/// # Errors
///
/// A text that says how to write one.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const FORM: &str = "write it like 500ms, 5s or 2m";
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(|| format!("a unit is missing; {FORM}"))?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("unknown unit {unit:?}; {FORM}")),
    };
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = match number.parse() {
        Ok(number) if plain => number,
        _ => return Err(format!("{number:?} is not a number; {FORM}")),
    };
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(duration) if duration < Duration::from_millis(1) => Err("it must be at least 1ms".to_owned()),
        Ok(duration) if duration <= LONGEST => Ok(duration),
        _ => Err("it must be at most 60m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, expected_ms) in [
            ("1ms", 1),
            ("500ms", 500),
            ("5s", 5_000),
            ("1.5s", 1_500),
            ("0.25s", 250),
            ("2m", 120_000),
            ("60m", 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(expected_ms)), "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for text in
            ["", "5", "s", "5h", "5 s", "-5s", "+5s", "0s", "0.1ms", "61m", "1e3s", "1.2.3s", "5sec", "infs", "nans"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
