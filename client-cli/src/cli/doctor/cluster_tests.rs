//! Clusters that are not well, each in one way.

use super::{
    super::{
        Level,
        probe::{Answer, Reached},
    },
    *,
};
use client_cli::{Error, Failure};
use proto::admin::v1::PeerProgress;
use std::time::Duration;

const CALLER: Caller<'static> = Caller("client-cli");

/// Three nodes that are well; n3 leads in term 2.
fn three() -> Vec<StatusResponse> {
    (1..=3)
        .map(|number| StatusResponse {
            name: format!("n{number}"),
            incarnation: number,
            cluster_id: vec![7; 16].into(),
            role: if number == 3 { Role::Leader } else { Role::Follower }.into(),
            term: 2,
            leader_name: "n3".to_owned(),
            last_index: 9,
            applied_index: 9,
            state_hash: vec![1; 16].into(),
            version: "0.1.0".to_owned(),
            ready: true,
            peers: if number == 3 { vec![peer("n1"), peer("n2")] } else { Vec::new() },
            ..StatusResponse::default()
        })
        .collect()
}

fn peer(name: &str) -> PeerProgress {
    PeerProgress { name: name.to_owned(), match_index: 9, active: true, ..PeerProgress::default() }
}

fn probe(number: usize, status: StatusResponse) -> Probe {
    let answer = Box::new(Ok(Answer { status, after: Duration::ZERO }));
    let reached = Reached::Port { addresses: Vec::new(), connected: Duration::ZERO, answer };
    Probe { endpoint: format!("n{}:7001", number + 1).parse().expect("it is well formed"), reached }
}

/// What is found in a cluster of these nodes that is not fine.
fn odd(statuses: Vec<StatusResponse>) -> Vec<(Level, String)> {
    let probes: Vec<Probe> = statuses.into_iter().enumerate().map(|(number, status)| probe(number, status)).collect();
    let found = findings(&probes, Some(&Ok(Duration::ZERO)), CALLER);
    found.into_iter().filter(|found| found.level != Fine).map(|found| (found.level, found.text)).collect()
}

/// The same after one node was changed.
fn odd_with(number: usize, change: impl FnOnce(&mut StatusResponse)) -> Vec<(Level, String)> {
    let mut statuses = three();
    change(&mut statuses[number]);
    odd(statuses)
}

#[test]
fn a_cluster_that_is_well() {
    assert_eq!(odd(three()), []);
    let probes: Vec<Probe> = three().into_iter().enumerate().map(|(number, status)| probe(number, status)).collect();
    let texts: Vec<String> =
        findings(&probes, Some(&Ok(Duration::from_millis(1))), CALLER).into_iter().map(|found| found.text).collect();
    let expected = [
        "a majority answers: a linearizable read took 1.0 ms",
        "all are of cluster 07070707070707070707070707070707",
        "n3 leads in term 2; all that answered agree",
        "the leader hears from all 2 others",
        "n1, n2, n3 hold the same after entry 9",
        "all are 0.1.0",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn nobody_and_no_majority() {
    let nobody = findings(&[], None, CALLER);
    assert_eq!((nobody[0].level, nobody[0].text.as_str()), (Problem, "no endpoint answers"));
    let failure = Failure { message: "no quorum: 1 of 2 needed".to_owned(), attempts: Vec::new() };
    let read = Err(Error::NotApplied(Box::new(failure)));
    let found = findings(&[probe(0, three().remove(0))], Some(&read), CALLER);
    assert_eq!(found[0].text, "no majority answers: no quorum: 1 of 2 needed");
}

#[test]
fn terms_and_leaders_that_differ() {
    let stale = odd_with(0, |status| (status.term, status.leader_name) = (1, "n2".to_owned()));
    assert_eq!(stale, [(Warning, "n1 knows n2 in term 1".to_owned())]);
    let lonely = odd_with(1, |status| status.leader_name.clear());
    assert_eq!(lonely, [(Warning, "n2 knows no leader in term 2".to_owned())]);
    let rivals = odd_with(0, |status| {
        status.role = Role::Leader.into();
        status.leader_name = "n1".to_owned();
    });
    assert_eq!(rivals[0], (Problem, "n1, n3 all lead in term 2".to_owned()));
    let mut none = three();
    for status in &mut none {
        status.role = Role::Candidate.into();
        status.leader_name.clear();
    }
    assert_eq!(odd(none), [(Problem, "no node knows a leader".to_owned())]);
}

#[test]
fn members_that_are_away_or_behind() {
    let deaf = odd_with(2, |status| status.peers[0].active = false);
    assert_eq!(deaf, [(Problem, "the leader hears nothing from n1".to_owned())]);
    let behind = odd_with(2, |status| {
        status.last_index = 10_000 + 9;
        status.peers[0].match_index = 8;
    });
    assert_eq!(behind, [(Warning, "n1 is 10001 entries behind the leader".to_owned())]);
    let unasked = odd(three().split_off(1));
    assert_eq!(unasked, [(Warning, "the leader hears from n1, which none of the endpoints is".to_owned())]);
    let twice = odd([three(), three().split_off(2)].concat());
    assert_eq!(twice, [(Warning, "n3:7001 and n4:7001 are the same node, n3".to_owned())]);
}

#[test]
fn states_are_compared_at_the_same_entry_only() {
    let elsewhere = |status: &mut StatusResponse| {
        status.state_hash = vec![2; 16].into();
        status.applied_index = 8;
    };
    assert_eq!(odd_with(0, elsewhere), []);
    let different = odd_with(0, |status| status.state_hash = vec![2; 16].into());
    assert_eq!(different, [(Problem, "n1, n2, n3 hold different states after entry 9".to_owned())]);
    let mut statuses = three();
    statuses[0].state_hash = vec![2; 16].into();
    let probes: Vec<Probe> = statuses.into_iter().enumerate().map(|(number, status)| probe(number, status)).collect();
    let found = findings(&probes, Some(&Ok(Duration::ZERO)), CALLER);
    let remedy = super::super::next(&found).expect("there is a problem");
    assert!(remedy.why.starts_with("on the host of n1, which differs"), "{remedy:?}");
}

#[test]
fn two_clusters_and_two_versions() {
    let versions = odd_with(0, |status| status.version = "0.2.0".to_owned());
    assert_eq!(versions, [(Warning, "they differ: n2, n3 is 0.1.0; n1 is 0.2.0".to_owned())]);
    let clusters = odd_with(0, |status| status.cluster_id = vec![8; 16].into());
    let expected = format!(
        "the endpoints are of 2 clusters: n2:7001,n3:7001 of {}; n1:7001 of {}",
        "07".repeat(16),
        "08".repeat(16)
    );
    assert_eq!(clusters, [(Problem, expected)]);
}
