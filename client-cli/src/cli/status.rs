//! The answers of `status` and `leader`: what each node says of itself.

use super::{
    args::Format,
    output::{hex, json, line, or_dash, printable, table, tabs},
    settings::Json as Settings,
};
use client_cli::{Endpoint, Error, Failure, Role, StatusResponse};
use serde::Serialize;
use std::collections::BTreeMap;

/// One endpoint, and what it said.
pub(crate) type Answer = (Endpoint, Result<StatusResponse, Error>);

/// The leader by name; the address is empty if the nodes do not know it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NamedLeader {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) term: u64,
}

/// Who leads by the newest term that any node knows. A node that claims to lead counts before one that heard of it.
///
/// # Errors
///
/// [`Error::NotApplied`] if no node answered or none knows a leader.
pub(crate) fn find_leader(answers: Vec<Answer>) -> Result<NamedLeader, Error> {
    let mut attempts = Vec::new();
    let mut found: Option<((u64, bool), NamedLeader)> = None;
    let mut answered = false;
    for (_, answer) in answers {
        match answer {
            Ok(status) => {
                answered = true;
                let rank = (status.term, status.role() == Role::Leader);
                if !status.leader_name.is_empty() && found.as_ref().is_none_or(|(best, _)| *best < rank) {
                    let StatusResponse { leader_name: name, leader_address: address, term, .. } = status;
                    found = Some((rank, NamedLeader { name, address, term }));
                }
            }
            Err(error) => attempts.extend(error.failure().attempts.iter().cloned()),
        }
    }
    found.map(|(_, leader)| leader).ok_or_else(|| {
        let message = if answered { "no node knows a leader" } else { "no endpoint answered" };
        Error::NotApplied(Box::new(Failure { message: message.to_owned(), attempts }))
    })
}

const HEADER: [&str; 13] = [
    "ENDPOINT", "NODE", "ROLE", "TERM", "LEADER", "LAST", "DURABLE", "COMMIT", "APPLIED", "REVISION", "KEYS",
    "VERSION", "READY",
];

/// Each node's status.
pub(crate) fn statuses(format: Format, answers: &[Answer]) -> Vec<u8> {
    match format {
        Format::Table => {
            let mut shown = table(&HEADER, answers.iter().map(row));
            let notes: Vec<String> = answers.iter().flat_map(notes).collect();
            if !notes.is_empty() {
                shown.extend(line(format!("\n{}", notes.join("\n"))));
            }
            shown
        }
        Format::Raw => tabs(answers.iter().map(row)),
        Format::Json => json(&answers.iter().map(Json::new).collect::<Vec<_>>()),
    }
}

fn row((endpoint, answer): &Answer) -> Vec<String> {
    let Ok(status) = answer else {
        let mut row = vec!["-".to_owned(); HEADER.len()];
        row[0] = endpoint.to_string();
        row[2] = "unreachable".to_owned();
        return row;
    };
    vec![
        endpoint.to_string(),
        printable(&status.name),
        role(status).to_owned(),
        status.term.to_string(),
        or_dash(&status.leader_name),
        status.last_index.to_string(),
        status.durable_index.to_string(),
        status.commit_index.to_string(),
        status.applied_index.to_string(),
        status.revision.to_string(),
        status.key_count.to_string(),
        printable(&status.version),
        if status.ready { "yes" } else { "no" }.to_owned(),
    ]
}

/// What is worth a line of its own.
fn notes((endpoint, answer): &Answer) -> Vec<String> {
    let status = match answer {
        Ok(status) => status,
        Err(error) => return vec![format!("{endpoint}: {}", printable(&error.to_string()))],
    };
    let name = printable(&status.name);
    let not_ready = (!status.ready).then(|| format!("{name} is not ready: {}", printable(&status.not_ready_reason)));
    let full =
        status.storage_full.then(|| format!("{name} has almost no room on its disk: it refuses what needs some"));
    not_ready.into_iter().chain(full).collect()
}

pub(crate) fn role(status: &StatusResponse) -> &'static str {
    match status.role() {
        Role::Unspecified => "unknown",
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Outside => "outside",
    }
}

/// An endpoint's answer in JSON.
#[derive(Serialize)]
struct Json<'a> {
    endpoint: String,
    reachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    node: Option<Node<'a>>,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    incarnation: String,
    cluster_id: String,
    role: &'static str,
    term: u64,
    leader_name: &'a str,
    leader_address: &'a str,
    last_index: u64,
    durable_index: u64,
    commit_index: u64,
    applied_index: u64,
    revision: u64,
    key_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    state_hash: String,
    version: &'a str,
    ready: bool,
    not_ready_reason: &'a str,
    peers: Vec<Peer<'a>>,
    dropped_messages: BTreeMap<&'a str, u64>,
    first_index: u64,
    snapshot_index: u64,
    snapshot_bytes: u64,
    log_bytes_since_snapshot: u64,
    storage_full: bool,
    recovering: bool,
}

#[derive(Serialize)]
struct Peer<'a> {
    name: &'a str,
    match_index: u64,
    next_index: u64,
    state: &'a str,
    active: bool,
}

impl<'a> Json<'a> {
    fn new((endpoint, answer): &'a Answer) -> Json<'a> {
        let error = answer.as_ref().err().map(ToString::to_string);
        Json {
            endpoint: endpoint.to_string(),
            reachable: answer.is_ok(),
            error,
            node: answer.as_ref().ok().map(Node::new),
        }
    }
}

impl<'a> Node<'a> {
    fn new(status: &'a StatusResponse) -> Node<'a> {
        Node {
            name: &status.name,
            incarnation: format!("{:016x}", status.incarnation),
            cluster_id: hex(&status.cluster_id),
            role: role(status),
            term: status.term,
            leader_name: &status.leader_name,
            leader_address: &status.leader_address,
            last_index: status.last_index,
            durable_index: status.durable_index,
            commit_index: status.commit_index,
            applied_index: status.applied_index,
            revision: status.revision,
            key_count: status.key_count,
            settings: status.settings.map(Settings::from),
            state_hash: hex(&status.state_hash),
            version: &status.version,
            ready: status.ready,
            not_ready_reason: &status.not_ready_reason,
            peers: status
                .peers
                .iter()
                .map(|peer| Peer {
                    name: &peer.name,
                    match_index: peer.match_index,
                    next_index: peer.next_index,
                    state: &peer.state,
                    active: peer.active,
                })
                .collect(),
            dropped_messages: status.dropped_messages.iter().map(|(reason, count)| (reason.as_str(), *count)).collect(),
            first_index: status.first_index,
            snapshot_index: status.snapshot_index,
            snapshot_bytes: status.snapshot_bytes,
            log_bytes_since_snapshot: status.log_bytes_since_snapshot,
            storage_full: status.storage_full,
            recovering: status.recovering,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(name: &str, role: Role, term: u64, leader: &str) -> Answer {
        let status = StatusResponse {
            name: name.to_owned(),
            role: role.into(),
            term,
            leader_name: leader.to_owned(),
            leader_address: if leader.is_empty() { String::new() } else { format!("{leader}:7001") },
            ..StatusResponse::default()
        };
        (format!("{name}:7001").parse().expect("it is well formed"), Ok(status))
    }

    fn away(name: &str) -> Answer {
        let failure = Failure { message: "gone".to_owned(), attempts: Vec::new() };
        (format!("{name}:7001").parse().expect("it is well formed"), Err(Error::NotApplied(Box::new(failure))))
    }

    fn found(answers: Vec<Answer>) -> Result<(String, u64), String> {
        find_leader(answers).map(|leader| (leader.name, leader.term)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_newest_term_decides_and_the_leader_itself_before_hearsay() {
        let old = answer("n1", Role::Leader, 3, "n1");
        let new = answer("n2", Role::Leader, 4, "n2");
        let behind = answer("n3", Role::Follower, 3, "n1");
        assert_eq!(found(vec![old, behind, new]), Ok(("n2".to_owned(), 4)));
        let hearsay = answer("n1", Role::Follower, 4, "n3");
        assert_eq!(found(vec![hearsay, answer("n2", Role::Leader, 4, "n2")]), Ok(("n2".to_owned(), 4)));
        assert_eq!(found(vec![away("n1"), answer("n2", Role::Follower, 4, "n1")]), Ok(("n1".to_owned(), 4)));
    }

    #[test]
    fn without_a_leader_it_says_which_kind_of_without() {
        assert_eq!(found(vec![answer("n1", Role::Candidate, 9, "")]), Err("no node knows a leader".to_owned()));
        assert_eq!(found(vec![away("n1"), away("n2")]), Err("no endpoint answered".to_owned()));
    }
}
