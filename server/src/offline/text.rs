//! Keys, values, settings and hard states as people read them. What clients wrote may hold any bytes: none of them
//! reaches a terminal as it is.

use std::fmt;

use engine::kv::Settings;
use raft::HardState;
use serde::Serialize;

/// How many bytes of a value are shown: enough to recognise it.
const START_BYTES: usize = 32;

/// Bytes in JSON: text if they are, otherwise hexadecimal, and the name of the field says which.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(untagged)]
pub(super) enum Shown {
    Text(String),
    Hexadecimal { hex: String },
}

impl Shown {
    pub(super) fn of(bytes: &[u8]) -> Shown {
        match std::str::from_utf8(bytes) {
            Ok(text) => Shown::Text(text.to_owned()),
            Err(_) => Shown::Hexadecimal { hex: hexadecimal(bytes) },
        }
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes in quotation marks, as a string if they are UTF-8, escaped if not.
pub(super) fn quoted(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("b\"{}\"", bytes.escape_ascii()),
    }
}

/// The first bytes of a value: whole characters, if it is text.
pub(super) fn start_of(value: &[u8]) -> &[u8] {
    let start = &value[..value.len().min(START_BYTES)];
    match std::str::from_utf8(start) {
        // Cut in the middle of a character.
        Err(error) if error.error_len().is_none() && start.len() < value.len() => &start[..error.valid_up_to()],
        _ => start,
    }
}

/// A value by its length and first bytes.
pub(super) fn value(value: &[u8]) -> String {
    let start = start_of(value);
    let more = if start.len() < value.len() { "..." } else { "" };
    format!("{} {}{more}", count(value.len() as u64, "byte", "bytes"), quoted(start))
}

pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The settings of the cluster in JSON, and for people.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SettingsJson {
    pub(super) lease_reads: bool,
}

impl SettingsJson {
    pub(super) fn of(settings: Settings) -> SettingsJson {
        let Settings { lease_reads } = settings;
        SettingsJson { lease_reads }
    }
}

impl fmt::Display for SettingsJson {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SettingsJson { lease_reads } = self;
        write!(out, "lease reads {}", if *lease_reads { "on" } else { "off" })
    }
}

pub(super) fn hard_state(hard_state: &HardState) -> String {
    let vote = hard_state.voted_for.map_or("none".to_owned(), |id| format!("{:016x}", id.get()));
    format!("term {}, vote {vote}, commit index {}", hard_state.current_term, hard_state.commit_index)
}

/// A hard state in JSON.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(super) struct HardStateJson {
    pub(super) current_term: u64,
    pub(super) voted_for: Option<String>,
    pub(super) commit_index: u64,
}

impl HardStateJson {
    pub(super) fn of(hard_state: &HardState) -> HardStateJson {
        HardStateJson {
            current_term: hard_state.current_term.get(),
            voted_for: hard_state.voted_for.map(|id| format!("{:016x}", id.get())),
            commit_index: hard_state.commit_index.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_without_reaching_the_terminal() {
        assert_eq!(quoted("grüße".as_bytes()), "\"grüße\"");
        assert_eq!(quoted(b"a\x1b[2J\n"), r#""a\u{1b}[2J\n""#);
        assert_eq!(quoted(b"\xff\x00\""), r#"b"\xff\x00\"""#);
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(value(b"short"), r#"5 bytes "short""#);
        assert_eq!(value(b"x"), r#"1 byte "x""#);
        let long = format!("{}ü and more", "a".repeat(START_BYTES - 1));
        assert_eq!(start_of(long.as_bytes()), &long.as_bytes()[..START_BYTES - 1]);
        assert!(value(long.as_bytes()).ends_with("a\"..."));
        assert_eq!(start_of(&[0xff; 40]).len(), START_BYTES);
    }

    #[test]
    fn json_says_whether_it_is_text() {
        let json = |bytes: &[u8]| serde_json::to_string(&Shown::of(bytes)).expect("it is plain data");
        assert_eq!((json(b"k").as_str(), json(&[0xff, 1]).as_str()), (r#""k""#, r#"{"hex":"ff01"}"#));
    }
}
