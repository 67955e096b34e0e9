//! Results as bytes for standard output, in each format.

use super::{args::Format, status::NamedLeader};
use client_cli::{Deleted, Found, Member, RequestId, Settled, Written};
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use std::fmt::Write as _;

/// An acknowledged put.
pub(crate) fn written(format: Format, key: &str, written: Written) -> Vec<u8> {
    #[derive(Serialize)]
    struct Json<'a> {
        key: &'a str,
        revision: u64,
        version: u64,
    }
    let Written { revision, version } = written;
    match format {
        Format::Table => line(format!("ok: revision {revision}, version {version}")),
        Format::Json => json(&Json { key, revision, version }),
        Format::Raw => line(revision.to_string()),
    }
}

/// An acknowledged delete.
pub(crate) fn deleted(format: Format, key: &str, deleted: Deleted) -> Vec<u8> {
    #[derive(Serialize)]
    struct Json<'a> {
        key: &'a str,
        revision: u64,
    }
    let Deleted { revision } = deleted;
    match format {
        Format::Table => line(format!("ok: revision {revision}")),
        Format::Json => json(&Json { key, revision }),
        Format::Raw => line(revision.to_string()),
    }
}

/// What became of a write.
pub(crate) fn settled(format: Format, id: &RequestId, settled: &Settled) -> Vec<u8> {
    #[derive(Serialize)]
    struct Json<'a> {
        request_id: String,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        revision: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
    }
    let (outcome, reason, revision, version) = match settled {
        Settled::Put(Written { revision, version }) => ("applied", None, Some(*revision), Some(*version)),
        Settled::Deleted(Deleted { revision }) => ("applied", None, Some(*revision), None),
        Settled::Configured => ("applied", None, None, None),
        Settled::Rejected { reason, revision } => ("rejected", Some(reason.as_str()), *revision, None),
        Settled::NeverApplied => ("never_applied", None, None, None),
        Settled::Forgotten => ("forgotten", None, None, None),
    };
    match format {
        Format::Table => line(match settled {
            Settled::Put(Written { revision, version }) => format!("applied: revision {revision}, version {version}"),
            Settled::Deleted(Deleted { revision }) => format!("applied: revision {revision}"),
            Settled::Configured => "applied: the settings of the cluster were changed".to_owned(),
            Settled::Rejected { reason, revision } => format!("not applied: {}", rejection(reason, *revision)),
            Settled::NeverApplied => "never applied, and never will be".to_owned(),
            Settled::Forgotten => "nobody knows any more; it will not be applied from now on".to_owned(),
        }),
        Format::Json => json(&Json { request_id: id.to_string(), outcome, reason, revision, version }),
        Format::Raw => {
            let detail = reason.map(printable).or_else(|| revision.map(|revision| revision.to_string()));
            tabs([std::iter::once(outcome.to_owned()).chain(detail).collect()])
        }
    }
}

/// Why a write was not applied when it ran.
fn rejection(reason: &str, revision: Option<u64>) -> String {
    let written = revision.map_or_else(String::new, |revision| format!(", last written at revision {revision}"));
    match reason {
        "KEY_EXISTS" => format!("the key existed{written}"),
        "KEY_NOT_FOUND" => "the key was missing".to_owned(),
        "REVISION_MISMATCH" => format!("the key had another revision{written}"),
        other => format!("{}{written}", printable(other)),
    }
}

/// The answer to a get. For people the value alone, made safe for a terminal; raw is exactly the bytes.
pub(crate) fn found(format: Format, found: &Found) -> Vec<u8> {
    #[derive(Serialize)]
    struct Json<'a> {
        key: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        value_base64: Option<String>,
        create_revision: u64,
        mod_revision: u64,
        version: u64,
        revision: u64,
        served_by: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        staleness_ms: Option<u128>,
    }
    let Found { key_value, revision, served_by, staleness } = found;
    match format {
        Format::Table => line(printable_bytes(&key_value.value)),
        Format::Json => {
            let value = std::str::from_utf8(&key_value.value).ok();
            json(&Json {
                key: &key_value.key,
                value,
                value_base64: value.is_none().then(|| base64(&key_value.value)),
                create_revision: key_value.create_revision,
                mod_revision: key_value.mod_revision,
                version: key_value.version,
                revision: *revision,
                served_by,
                staleness_ms: staleness.map(|staleness| staleness.as_millis()),
            })
        }
        Format::Raw => key_value.value.to_vec(),
    }
}

/// Who leads.
pub(crate) fn leader(format: Format, leader: &NamedLeader) -> Vec<u8> {
    let NamedLeader { name, address, term } = leader;
    match format {
        Format::Table => {
            table(&["LEADER", "ADDRESS", "TERM"], [vec![printable(name), printable(address), term.to_string()]])
        }
        Format::Json => json(leader),
        Format::Raw => line(name.clone()),
    }
}

/// Who leads, where there was no leadership to hand over.
pub(crate) fn led_by(format: Format, name: &str, term: u64) -> Vec<u8> {
    match format {
        Format::Table if name.is_empty() => line("ok: nothing to hand over, and nobody is known to lead".to_owned()),
        Format::Table => line(format!("ok: nothing to hand over, {} leads in term {term}", printable(name))),
        Format::Json | Format::Raw => transferred(format, name, term),
    }
}

/// A handover of leadership.
pub(crate) fn transferred(format: Format, name: &str, term: u64) -> Vec<u8> {
    #[derive(Serialize)]
    struct Json<'a> {
        leader: &'a str,
        term: u64,
    }
    match format {
        Format::Table => line(format!("ok: {} leads in term {term}", printable(name))),
        Format::Json => json(&Json { leader: name, term }),
        Format::Raw => line(name.to_owned()),
    }
}

/// The members.
pub(crate) fn members(format: Format, members: &[Member]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Json<'a> {
        name: &'a str,
        voter: bool,
        peer_address: &'a str,
        client_address: &'a str,
        /// Hexadecimal: not every reader of JSON keeps 64 bits.
        incarnation: String,
    }
    let rows = members.iter().map(|member| {
        let incarnation = format!("{:016x}", member.incarnation);
        let role = if member.voter { "voter" } else { "learner" };
        vec![
            printable(&member.name),
            role.to_owned(),
            printable(&member.peer_address),
            or_dash(&member.client_address),
            incarnation,
        ]
    });
    match format {
        Format::Table => table(&["NAME", "ROLE", "PEER ADDRESS", "CLIENT ADDRESS", "INCARNATION"], rows),
        Format::Raw => tabs(rows),
        Format::Json => json(
            &members
                .iter()
                .map(|member| Json {
                    name: &member.name,
                    voter: member.voter,
                    peer_address: &member.peer_address,
                    client_address: &member.client_address,
                    incarnation: format!("{:016x}", member.incarnation),
                })
                .collect::<Vec<_>>(),
        ),
    }
}

/// A table without borders: columns of text that also `awk` reads.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<u8> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    line(table.trim_fmt())
}

/// Rows with their fields separated by tabs.
pub(crate) fn tabs(rows: impl IntoIterator<Item = Vec<String>>) -> Vec<u8> {
    rows.into_iter().flat_map(|row| line(row.join("\t"))).collect()
}

/// One line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    line(serde_json::to_string(value).expect("structs of strings, numbers and lists have a JSON form"))
}

/// A text and a line break.
pub(crate) fn line(mut text: String) -> Vec<u8> {
    text.push('\n');
    text.into_bytes()
}

/// A text, or a dash where there is none.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { printable(text) }
}

/// A text that does nothing to a terminal: control characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    escape(text, |_| false)
}

/// Bytes for people: text as it is, line breaks included; what is no UTF-8 as `\xff`.
fn printable_bytes(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        shown.push_str(&escape(chunk.valid(), |c| c == '\n' || c == '\t'));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !keep(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0_u32, |group, (at, byte)| group | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = ALPHABET[(group >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
