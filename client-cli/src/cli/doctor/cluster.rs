//! What the answers of all endpoints say together: whether they are one cluster, agree, and get things done.

use super::{
    super::output::{hex, printable},
    Caller, Finding,
    Level::{Ok as Fine, Problem, Warning},
    Read, Remedy, Urgency, milliseconds,
    probe::Probe,
};
use client_cli::{Endpoint, Role, StatusResponse};
use std::collections::{BTreeMap, BTreeSet};

/// The subject of these findings.
const CLUSTER: &str = "cluster";

/// How many entries a member may be behind before that is worth a word: more than are under way at any load.
const LAG_ENTRIES_MAX: u64 = 10_000;

/// A node that answered, and where.
type Node<'a> = (&'a Endpoint, &'a StatusResponse);

/// The findings about all endpoints together. `read` is none if no node answered.
pub(super) fn findings(probes: &[Probe], read: Option<&Read>, caller: Caller<'_>) -> Vec<Finding> {
    let nodes: Vec<Node<'_>> = probes.iter().filter_map(|probe| Some((&probe.endpoint, probe.status()?))).collect();
    let Some(read) = read else {
        return vec![Finding::new(CLUSTER, "quorum", Problem, "no endpoint answers")];
    };
    let mut findings = vec![quorum(read, caller)];
    findings.extend(identity(&nodes));
    findings.extend(same_node(&nodes, caller));
    findings.extend(leader(&nodes, caller));
    findings.extend(members(&nodes, nodes.len() == probes.len(), caller));
    findings.push(states(&nodes));
    findings.push(versions(&nodes));
    findings
}

fn quorum(read: &Read, caller: Caller<'_>) -> Finding {
    match read {
        Ok(took) => {
            let text = format!("a majority answers: a linearizable read took {}", milliseconds(*took));
            Finding::new(CLUSTER, "quorum", Fine, text)
        }
        Err(error) => {
            let text = format!("no majority answers: {}", printable(&error.to_string()));
            let remedy = caller.again(Urgency::Undecided, "looks again: an election takes about a second");
            Finding::new(CLUSTER, "quorum", Problem, text).remedied(remedy)
        }
    }
}

/// Whether all endpoints are of one cluster. One that is outside of any has no identity yet.
fn identity(nodes: &[Node<'_>]) -> Option<Finding> {
    let mut clusters: BTreeMap<&[u8], Vec<&Endpoint>> = BTreeMap::new();
    for (endpoint, status) in nodes.iter().filter(|(_, status)| !status.cluster_id.is_empty()) {
        clusters.entry(&status.cluster_id).or_default().push(endpoint);
    }
    let listed = |endpoints: &[&Endpoint]| joined(endpoints.iter().map(ToString::to_string), ",");
    match clusters.len() {
        0 => None,
        1 => {
            let id = clusters.keys().next().map(|id| hex(id)).unwrap_or_default();
            Some(Finding::new(CLUSTER, "identity", Fine, format!("all are of cluster {id}")))
        }
        count => {
            let shown = clusters.iter().map(|(id, endpoints)| format!("{} of {}", listed(endpoints), hex(id)));
            let text = format!("the endpoints are of {count} clusters: {}", joined(shown, "; "));
            let largest = clusters.values().max_by_key(|endpoints| endpoints.len());
            let remedy = Remedy {
                urgency: Urgency::Mixed,
                command: format!("client-cli --endpoints {} doctor", largest.map_or_else(String::new, |of| listed(of))),
                why: "asks the nodes of one of them".to_owned(),
            };
            Some(Finding::new(CLUSTER, "identity", Problem, text).remedied(remedy))
        }
    }
}

/// Endpoints that are the same node: they make a cluster look larger than it is.
fn same_node(nodes: &[Node<'_>], caller: Caller<'_>) -> Vec<Finding> {
    let mut known: BTreeMap<(&[u8], u64), Vec<Node<'_>>> = BTreeMap::new();
    for (endpoint, status) in nodes.iter().filter(|(_, status)| status.incarnation != 0) {
        known.entry((&status.cluster_id, status.incarnation)).or_default().push((endpoint, status));
    }
    let doubled = known.into_values().filter(|found| found.len() > 1);
    doubled
        .map(|found| {
            let endpoints = joined(found.iter().map(|(endpoint, _)| endpoint.to_string()), " and ");
            let text = format!("{endpoints} are the same node, {}", printable(&found[0].1.name));
            let remedy = caller.remedy(Urgency::Odd, "members", "lists the nodes, and where clients reach them");
            Finding::new(CLUSTER, "members", Warning, text).remedied(remedy)
        })
        .collect()
}

/// The node that leads by the newest term; one that says so itself before one that heard of it.
fn known_leader<'a>(nodes: &[Node<'a>]) -> Option<Node<'a>> {
    let told = nodes.iter().filter(|(_, status)| !status.leader_name.is_empty());
    told.max_by_key(|(_, status)| (status.term, status.role() == Role::Leader)).copied()
}

/// Who leads, and who thinks otherwise.
fn leader(nodes: &[Node<'_>], caller: Caller<'_>) -> Vec<Finding> {
    let again = || caller.again(Urgency::Undecided, "looks again: an election takes about a second");
    let Some((_, best)) = known_leader(nodes) else {
        return vec![Finding::new(CLUSTER, "leader", Problem, "no node knows a leader").remedied(again())];
    };
    let (name, term) = (printable(&best.leader_name), best.term);
    let rivals: BTreeSet<&str> = nodes
        .iter()
        .filter(|(_, status)| status.term == term && status.role() == Role::Leader)
        .map(|(_, status)| status.name.as_str())
        .collect();
    if rivals.len() > 1 {
        let text = format!("{} all lead in term {term}", joined(rivals.iter().map(|name| printable(name)), ", "));
        let remedy =
            caller.remedy(Urgency::Wrong, "status -o json", "shows whose cluster_id or incarnation is not right");
        return vec![Finding::new(CLUSTER, "leader", Problem, text).remedied(remedy)];
    }
    let agree = nodes.iter().filter(|(_, status)| status.term == term && status.leader_name == best.leader_name);
    let text = match agree.count() {
        all if all == nodes.len() => format!("{name} leads in term {term}; all that answered agree"),
        count => format!("{name} leads in term {term}; {count} of {} that answered agree", nodes.len()),
    };
    let others = nodes.iter().filter(|(_, status)| status.term != term || status.leader_name != best.leader_name);
    let others = others.map(|(_, status)| {
        let whom = if status.leader_name.is_empty() { "no leader" } else { &status.leader_name };
        let text = format!("{} knows {} in term {}", printable(&status.name), printable(whom), status.term);
        let remedy = caller.again(Urgency::Odd, "looks whether it has heard of the leader since");
        Finding::new(CLUSTER, "term", Warning, text).remedied(remedy)
    });
    std::iter::once(Finding::new(CLUSTER, "leader", Fine, text)).chain(others).collect()
}

/// What the leader says of the other members. `all_answered` says whether there is no endpoint that gave no answer.
fn members(nodes: &[Node<'_>], all_answered: bool, caller: Caller<'_>) -> Vec<Finding> {
    let leads = |(_, status): &&Node<'_>| status.role() == Role::Leader;
    let Some((_, leader)) = nodes.iter().filter(leads).max_by_key(|(_, status)| status.term) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for peer in &leader.peers {
        let name = printable(&peer.name);
        let behind = leader.last_index.saturating_sub(peer.match_index);
        let asked = nodes.iter().any(|(_, status)| status.name == peer.name);
        let remedy = |urgency| caller.remedy(urgency, "members", format!("shows where {name} should be"));
        if !peer.active {
            let text = format!("the leader hears nothing from {name}");
            findings.push(Finding::new(CLUSTER, "members", Problem, text).remedied(remedy(Urgency::Apart)));
        } else if behind > LAG_ENTRIES_MAX {
            let remedy = caller.again(Urgency::Odd, format!("looks whether {name} catches up"));
            let text = format!("{name} is {behind} entries behind the leader");
            findings.push(Finding::new(CLUSTER, "members", Warning, text).remedied(remedy));
        } else if !asked {
            let why = if all_answered { "none of the endpoints is" } else { "did not answer here" };
            let text = format!("the leader hears from {name}, which {why}");
            findings.push(Finding::new(CLUSTER, "members", Warning, text).remedied(remedy(Urgency::Odd)));
        }
    }
    if findings.is_empty() {
        let text = match leader.peers.len() {
            0 => "the leader is the only member".to_owned(),
            1 => "the leader hears from the other".to_owned(),
            count => format!("the leader hears from all {count} others"),
        };
        findings.push(Finding::new(CLUSTER, "members", Fine, text));
    }
    findings
}

/// Whether nodes of one cluster that applied the same entries hold the same state.
fn states(nodes: &[Node<'_>]) -> Finding {
    let mut at: BTreeMap<(&[u8], u64), Vec<&StatusResponse>> = BTreeMap::new();
    for (_, status) in nodes.iter().filter(|(_, status)| !status.state_hash.is_empty() && status.applied_index > 0) {
        at.entry((&status.cluster_id, status.applied_index)).or_default().push(status);
    }
    let mut compared: Vec<(u64, Vec<&StatusResponse>)> =
        at.into_iter().filter(|(_, of)| of.len() > 1).map(|((_, index), of)| (index, of)).collect();
    let names = |of: &[&StatusResponse]| joined(of.iter().map(|status| printable(&status.name)), ", ");
    if let Some((index, of)) =
        compared.iter().find(|(_, of)| of.iter().any(|status| status.state_hash != of[0].state_hash))
    {
        let text = format!("{} hold different states after entry {index}", names(of));
        return Finding::new(CLUSTER, "states", Problem, text).remedied(Remedy {
            urgency: Urgency::Wrong,
            command: "quorate-server verify DATA-DIRECTORY".to_owned(),
            why: format!("on the host of {}, which differs, once it is stopped", names(&odd_ones(of))),
        });
    }
    let text = match compared.pop() {
        Some((index, of)) => format!("{} hold the same after entry {index}", names(&of)),
        None => "not compared: no two nodes were at the same entry".to_owned(),
    };
    Finding::new(CLUSTER, "states", Fine, text)
}

/// Those that are not of the majority; all, if there is none.
fn odd_ones<'a>(of: &[&'a StatusResponse]) -> Vec<&'a StatusResponse> {
    let share = |status: &StatusResponse| of.iter().filter(|other| other.state_hash == status.state_hash).count();
    of.iter().filter(|status| share(status) * 2 <= of.len()).copied().collect()
}

fn versions(nodes: &[Node<'_>]) -> Finding {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (_, status) in nodes {
        versions.entry(&status.version).or_default().push(printable(&status.name));
    }
    if let [only] = versions.keys().collect::<Vec<_>>()[..] {
        return Finding::new(CLUSTER, "versions", Fine, format!("all are {}", printable(only)));
    }
    let shown = versions.iter().map(|(version, names)| format!("{} is {}", names.join(", "), printable(version)));
    let text = format!("they differ: {}", joined(shown, "; "));
    Finding::new(CLUSTER, "versions", Warning, text)
}

fn joined(texts: impl IntoIterator<Item = String>, separator: &str) -> String {
    texts.into_iter().collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
