//! `doctor`: asks each endpoint step by step ([`probe`]), judges what it heard ([`endpoint`] each alone, [`cluster`]
//! all together), and shows it with the command to type next ([`show`]).

mod cluster;
mod endpoint;
mod probe;
mod show;

use super::{args::Format, exit, run::Done, style::Colours};
use client_cli::{Client, Error, Options};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The key of the read that shows whether a majority answers. Nobody needs to have written it.
const READ_KEY: &str = "doctor";

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// It works, and should be looked at.
    Warning,
    /// Something does not work, or will not if one more thing fails.
    Problem,
}

/// What was found by one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// An endpoint, or `cluster`.
    subject: String,
    /// What was looked at, in a word.
    check: &'static str,
    level: Level,
    /// What was found.
    text: String,
    #[serde(skip)]
    remedy: Option<Remedy>,
}

/// What to type about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remedy {
    urgency: Urgency,
    command: String,
    why: String,
}

/// What comes first if there are several findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Answers may be wrong.
    Wrong,
    /// What was asked is not one cluster.
    Mixed,
    /// A node does not answer. Without enough of them, nothing works.
    Away,
    /// No majority answers, though the nodes do.
    Undecided,
    /// Writes are refused, or will be.
    Full,
    /// A node does not take part.
    Apart,
    /// The rest.
    Odd,
}

/// What `client-cli` is called with to reach the same cluster.
#[derive(Clone, Copy, Debug)]
struct Caller<'a>(&'a str);

impl Caller<'_> {
    fn remedy(self, urgency: Urgency, command: &str, why: impl Into<String>) -> Remedy {
        Remedy { urgency, command: format!("{} {command}", self.0), why: why.into() }
    }

    /// Looks once more.
    fn again(self, urgency: Urgency, why: impl Into<String>) -> Remedy {
        self.remedy(urgency, "doctor", why)
    }
}

impl Finding {
    fn new(subject: impl ToString, check: &'static str, level: Level, text: impl Into<String>) -> Finding {
        Finding { subject: subject.to_string(), check, level, text: text.into(), remedy: None }
    }

    fn remedied(self, remedy: Remedy) -> Finding {
        Finding { remedy: Some(remedy), ..self }
    }
}

/// The linearizable read: how long it took, or why there was no answer.
type Read = Result<Duration, Error>;

/// Examines the cluster, with this deadline for each request.
pub(crate) async fn run(client: &Client, timeout: Duration, format: Format, prefix: &str) -> Done {
    let caller = Caller(prefix);
    let mut probes = probe::all(client).await;
    // Of those that answer, so that it does not spend its time on others.
    let answering = probes.iter().filter(|probe| probe.status().is_some()).map(|probe| probe.endpoint.to_string());
    let read = match Options::new(answering) {
        Ok(options) => Some(read(&Client::connect(options.timeout(timeout))).await),
        Err(_) => None,
    };
    // It waited for an election that may have been under way: what the nodes say now is of after it.
    probe::again(client, &mut probes).await;
    let mut findings: Vec<Finding> = probes.iter().flat_map(|probe| endpoint::findings(probe, caller)).collect();
    findings.extend(cluster::findings(&probes, read.as_ref(), caller));
    let healthy = findings.iter().all(|finding| finding.level != Level::Problem);
    let shown = show::show(format, Colours::of_output(format), &findings);
    (shown, if healthy { exit::OK } else { exit::PROBLEM })
}

async fn read(client: &Client) -> Read {
    let began = Instant::now();
    match client.get(READ_KEY).await {
        Ok(_) | Err(Error::KeyNotFound { .. }) => Ok(began.elapsed()),
        Err(error) => Err(error),
    }
}

/// The most urgent remedy: of a problem if there is one, of a warning otherwise.
fn next(findings: &[Finding]) -> Option<&Remedy> {
    let remedies = |level| {
        findings.iter().filter(move |finding| finding.level == level).filter_map(|finding| finding.remedy.as_ref())
    };
    let first = |level| remedies(level).min_by_key(|remedy| remedy.urgency);
    first(Level::Problem).or_else(|| first(Level::Warning))
}

/// A duration for people.
fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
