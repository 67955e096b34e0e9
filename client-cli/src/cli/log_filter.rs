//! What each node logs, in each format.

use super::{
    args::Format,
    exit,
    output::{json, line, printable, table, tabs},
    run::Done,
    style::Colours,
};
use client_cli::{Endpoint, Error};
use serde::Serialize;

/// One endpoint, and its filter now with the one to compare it with.
type Answer = (Endpoint, Result<(String, String), Error>);

/// An endpoint's answer in JSON.
#[derive(Serialize)]
struct OfNode<'a> {
    endpoint: String,
    reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configured: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<&'a str>,
}

/// What each node logs, beside what was configured.
pub(crate) fn of_each(format: Format, answers: &[Answer], colours: Colours) -> Done {
    let json_of = |(filter, configured)| (filter, Some(configured), None);
    let shown = show(format, answers, "CONFIGURED", json_of, colours);
    let code = match answers.iter().find_map(|(_, answer)| answer.as_ref().err()) {
        // As with the status: whoever answers is shown.
        Some(_) if answers.iter().any(|(_, answer)| answer.is_ok()) => exit::OK,
        Some(error) => exit::code(error),
        None => exit::OK,
    };
    (shown, code)
}

/// What each node logs from now on, beside what it logged. It has failed if it did so with one of them.
pub(crate) fn changed(format: Format, answers: &[Answer], colours: Colours) -> Done {
    let json_of = |(filter, previous)| (filter, None, Some(previous));
    let shown = show(format, answers, "BEFORE", json_of, colours);
    let failed = answers.iter().find_map(|(_, answer)| answer.as_ref().err());
    (shown, failed.map_or(exit::OK, exit::code))
}

/// A filter, the one that was configured, the one before.
type Filters<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

fn show<'a>(
    format: Format,
    answers: &'a [Answer],
    other: &str,
    json_of: impl Fn((&'a str, &'a str)) -> Filters<'a>,
    colours: Colours,
) -> Vec<u8> {
    let failed = answers.iter().filter_map(|(endpoint, answer)| Some((endpoint, answer.as_ref().err()?)));
    let notes: Vec<String> =
        failed.map(|(endpoint, error)| format!("{endpoint}: {}", printable(&error.to_string()))).collect();
    match format {
        Format::Table => {
            let mut shown = colours.head(table(&["ENDPOINT", "FILTER", other], answers.iter().map(row)));
            if !notes.is_empty() {
                shown.extend(line(format!("\n{}", notes.join("\n"))));
            }
            shown
        }
        Format::Raw => {
            if !notes.is_empty() {
                super::complain(&notes.join("\n"));
            }
            tabs(answers.iter().map(row))
        }
        Format::Json => json(&answers.iter().map(|answer| of_node(answer, &json_of)).collect::<Vec<_>>()),
    }
}

fn row((endpoint, answer): &Answer) -> Vec<String> {
    let (filter, other) = match answer {
        Ok((filter, other)) => (printable(filter), printable(other)),
        Err(_) => ("-".to_owned(), "-".to_owned()),
    };
    vec![endpoint.to_string(), filter, other]
}

fn of_node<'a>((endpoint, answer): &'a Answer, json_of: &impl Fn((&'a str, &'a str)) -> Filters<'a>) -> OfNode<'a> {
    let filters = answer.as_ref().ok().map(|(filter, other)| json_of((filter, other)));
    OfNode {
        endpoint: endpoint.to_string(),
        reachable: answer.is_ok(),
        error: answer.as_ref().err().map(ToString::to_string),
        filter: filters.map(|(filter, ..)| filter),
        configured: filters.and_then(|(_, configured, _)| configured),
        previous: filters.and_then(|(.., previous)| previous),
    }
}
