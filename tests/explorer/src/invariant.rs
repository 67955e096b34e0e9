//! What must hold in every state of a cluster, by the paper's names.

use crate::cluster::Ghost;
use crate::node::{Node, Slot, View};
use std::fmt;

/// Something that is always true, or the core is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Invariant {
    /// At most one leader is ever elected in a term (§5.2).
    ElectionSafety,
    /// A node votes once in a term, restarts included (§5.2).
    OneVote,
    /// Two logs with an entry of the same index and term are the same up to there (§5.3).
    LogMatching,
    /// A committed entry is in the log of every leader of a later term (§5.4).
    LeaderCompleteness,
    /// A leader moves its commit index only to an entry of its own term (§5.4.2).
    OwnTermCommit,
    /// No two nodes commit different entries at an index, and none commits what no leader has (§5.4.3).
    StateMachineSafety,
    /// A committed entry is on the disks of a majority, for ever (§5.3).
    MajorityDurable,
    /// What a leader takes a follower of its term to hold, it holds, on its disk (`matchIndex` of Figure 2).
    MatchIndex,
    /// A read sees whatever was committed before it began (§8, thesis §6.4).
    ReadIndex,
    /// A read without a leader waits for whatever was committed before it began (`raft::Poll`).
    QuorumRead,
    /// A message that is refused changes nothing.
    RefusalIsVoid,
    /// What was handed to the disk is the log, without holes (the contract with the driver).
    DiskIsLog,
    /// The core's own assertions: it does not panic.
    CoreAssertion,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 13] = [
        Invariant::ElectionSafety,
        Invariant::OneVote,
        Invariant::LogMatching,
        Invariant::LeaderCompleteness,
        Invariant::OwnTermCommit,
        Invariant::StateMachineSafety,
        Invariant::MajorityDurable,
        Invariant::MatchIndex,
        Invariant::ReadIndex,
        Invariant::QuorumRead,
        Invariant::RefusalIsVoid,
        Invariant::DiskIsLog,
        Invariant::CoreAssertion,
    ];

    /// The invariant's name in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Invariant::ElectionSafety => "election safety",
            Invariant::OneVote => "one vote a term",
            Invariant::LogMatching => "log matching",
            Invariant::LeaderCompleteness => "leader completeness",
            Invariant::OwnTermCommit => "own-term commit",
            Invariant::StateMachineSafety => "state machine safety",
            Invariant::MajorityDurable => "durable on a majority",
            Invariant::MatchIndex => "match index",
            Invariant::ReadIndex => "linearizable reads",
            Invariant::QuorumRead => "reads without a leader",
            Invariant::RefusalIsVoid => "a refusal is void",
            Invariant::DiskIsLog => "the disk is the log",
            Invariant::CoreAssertion => "the core's assertions",
        }
    }

    /// The invariant of this name.
    pub fn from_name(name: &str) -> Option<Invariant> {
        Invariant::ALL.into_iter().find(|invariant| invariant.as_str() == name)
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An invariant that does not hold, and what shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Broken {
    pub(crate) invariant: Invariant,
    pub(crate) text: String,
}

impl Broken {
    pub(crate) fn new(invariant: Invariant, text: impl Into<String>) -> Broken {
        Broken { invariant, text: text.into() }
    }
}

/// Checks what can be seen only from outside, in a state in which node number `changed` has just taken a step.
pub(crate) fn check(nodes: &[&Node], ghost: &Ghost, changed: usize) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (other, node) in nodes.iter().enumerate() {
        if other != changed
            && let Some(text) = log_mismatch(&nodes[changed].view.log, &node.view.log)
        {
            broken.push(Broken::new(
                Invariant::LogMatching,
                format!("the logs of n{} and n{}: {text}", changed + 1, other + 1),
            ));
        }
        let view = &node.view;
        if view.leads && !leader_is_complete(view.term, &view.log, ghost) {
            let text = format!(
                "n{} leads term {} with the log {:?}, committed is {:?}",
                other + 1,
                view.term,
                view.log,
                ghost.ledger
            );
            broken.push(Broken::new(Invariant::LeaderCompleteness, text));
        }
    }
    broken.extend(match_mistakes(nodes));
    let holds_all = |node: &&&Node| {
        let ledger = ghost.ledger.iter().map(|committed| committed.slot);
        node.view.disk.len() >= ghost.ledger.len() && ledger.zip(node.view.disk.iter()).all(|(slot, &on)| slot == on)
    };
    if nodes.iter().filter(holds_all).count() * 2 <= nodes.len() {
        let disks: Vec<_> = nodes.iter().map(|node| &node.view.disk).collect();
        let text = format!("committed is {:?}, on the disks are {disks:?}", ghost.ledger);
        broken.push(Broken::new(Invariant::MajorityDurable, text));
    }
    broken
}

/// Followers that do not hold what the leader of their term takes them to hold. One that has gone on to a later term
/// may have cut it since.
fn match_mistakes(nodes: &[&Node]) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (leader, View { term, log, matches, .. }) in nodes.iter().map(|node| &node.view).enumerate() {
        for &(peer, index) in matches {
            let follower = &nodes[peer].view;
            if follower.term == *term && follower.disk.get(..index) != log.get(..index) {
                let text = format!(
                    "n{} leads term {term} with the log {log:?} and takes n{} to hold {index} of it, which has {:?}",
                    leader + 1,
                    peer + 1,
                    follower.disk
                );
                broken.push(Broken::new(Invariant::MatchIndex, text));
            }
        }
    }
    broken
}

/// What a leader of `term` must have is there: everything committed in its term or before.
fn leader_is_complete(term: u8, log: &[Slot], ghost: &Ghost) -> bool {
    let mut committed = ghost.ledger.iter().enumerate();
    committed.all(|(at, entry)| entry.in_term > term || log.get(at) == Some(&entry.slot))
}

/// Log Matching: up to the last index at which the terms agree, everything does.
fn log_mismatch(one: &[Slot], other: &[Slot]) -> Option<String> {
    let last = one.iter().zip(other).rposition(|(a, b)| a.term() == b.term())?;
    let differs = (0..=last).find(|&at| one[at] != other[at])?;
    Some(format!("entry {} differs although entry {} has the same term: {one:?}, {other:?}", differs + 1, last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Committed;

    fn log(terms: &[u8]) -> Vec<Slot> {
        terms.iter().map(|&term| Slot::new(term, 0)).collect()
    }

    #[test]
    fn logs_match_or_not() {
        assert_eq!(log_mismatch(&log(&[1, 1, 2]), &log(&[1, 1, 3])), None);
        assert_eq!(log_mismatch(&log(&[1]), &log(&[])), None);
        assert!(log_mismatch(&log(&[1, 2, 3]), &log(&[1, 1, 3])).is_some());
        assert!(log_mismatch(&[Slot::new(1, 1)], &[Slot::new(1, 2)]).is_some(), "another payload");
    }

    #[test]
    fn a_leader_has_what_was_committed_before_it() {
        let ledger = vec![Committed { slot: Slot::new(1, 0), in_term: 2 }];
        let ghost = Ghost { ledger, ..Ghost::default() };
        assert!(leader_is_complete(3, &log(&[1, 3]), &ghost));
        assert!(!leader_is_complete(3, &log(&[2, 3]), &ghost));
        assert!(!leader_is_complete(3, &[], &ghost));
        assert!(leader_is_complete(1, &[], &ghost), "a deposed leader need not know");
    }

    #[test]
    fn names_are_found_again() {
        assert!(Invariant::ALL.iter().all(|&invariant| Invariant::from_name(invariant.as_str()) == Some(invariant)));
        assert_eq!(Invariant::from_name("nonsense"), None);
    }
}
