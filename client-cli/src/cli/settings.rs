//! The settings of the cluster, in each format.

use super::{
    args::Format,
    output::{json, line, printable, table, tabs},
    status::Answer,
};
use client_cli::Settings;
use serde::Serialize;

const HEADER: [&str; 4] = ["ENDPOINT", "NODE", "APPLIED", "LEASE-READS"];

/// All settings in JSON.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Json {
    lease_reads: bool,
}

impl From<Settings> for Json {
    fn from(settings: Settings) -> Json {
        let Settings { lease_reads } = settings;
        Json { lease_reads }
    }
}

/// An endpoint's answer in JSON.
#[derive(Serialize)]
struct OfNode<'a> {
    endpoint: String,
    reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Json>,
}

/// The settings after one was changed.
pub(crate) fn changed(format: Format, settings: Settings) -> Vec<u8> {
    let Settings { lease_reads } = settings;
    let setting = format!("lease-reads={}", word(lease_reads));
    match format {
        Format::Table => line(format!("ok: {setting}")),
        Format::Json => json(&Json::from(settings)),
        Format::Raw => line(setting),
    }
}

/// The settings as each node has them, with how far it has applied the log.
pub(crate) fn of_each(format: Format, answers: &[Answer]) -> Vec<u8> {
    match format {
        Format::Table => {
            let mut shown = table(&HEADER, answers.iter().map(row));
            let away = answers.iter().filter_map(|(endpoint, answer)| Some((endpoint, answer.as_ref().err()?)));
            let notes: Vec<String> =
                away.map(|(endpoint, error)| format!("{endpoint}: {}", printable(&error.to_string()))).collect();
            if !notes.is_empty() {
                shown.extend(line(format!("\n{}", notes.join("\n"))));
            }
            shown
        }
        Format::Raw => tabs(answers.iter().map(row)),
        Format::Json => json(&answers.iter().map(OfNode::new).collect::<Vec<_>>()),
    }
}

fn row((endpoint, answer): &Answer) -> Vec<String> {
    let (name, applied, lease_reads) = match answer {
        Ok(status) => {
            let lease_reads = status.settings.map(|Settings { lease_reads }| word(lease_reads));
            (printable(&status.name), status.applied_index.to_string(), lease_reads)
        }
        Err(_) => ("-".to_owned(), "-".to_owned(), None),
    };
    // A node of an earlier version has no settings.
    vec![endpoint.to_string(), name, applied, lease_reads.unwrap_or("-").to_owned()]
}

fn word(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

impl<'a> OfNode<'a> {
    fn new((endpoint, answer): &'a Answer) -> OfNode<'a> {
        let status = answer.as_ref().ok();
        OfNode {
            endpoint: endpoint.to_string(),
            reachable: answer.is_ok(),
            error: answer.as_ref().err().map(ToString::to_string),
            name: status.map(|status| status.name.as_str()),
            applied_index: status.map(|status| status.applied_index),
            settings: status.and_then(|status| status.settings).map(Json::from),
        }
    }
}
