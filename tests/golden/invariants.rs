//! What must hold over the whole cluster after every step, whatever the script does: the five properties of the
//! paper's Figure 3, and what they rest on (a promise leaves only when it is durable, a vote is given once a term, a
//! confirmed read sees every earlier commit). All of it is computed here from the outside, from disks and messages.

use std::collections::{BTreeMap, BTreeSet};

use raft::{AppendResult, Body, Entry, Index, Message, NodeId, Raft, ReadId, Role, Term};

use crate::node::{Node, index, position};
use crate::render;
use crate::violation::Violation;

/// A committed entry and the term of the leader that committed it.
struct Committed {
    entry: Entry,
    in_term: Term,
}

/// What was last seen of one node.
#[derive(Default)]
struct History {
    current_term: Term,
    voted_for: Option<NodeId>,
    commit_index: Index,
    /// The term and the log of the node while it leads.
    leader_log: Option<(Term, Vec<Entry>)>,
}

/// The checker. It remembers what a single state cannot show.
#[derive(Default)]
pub(crate) struct Invariants {
    voters: BTreeSet<NodeId>,
    /// Not empty in a joint configuration: this majority is needed too.
    outgoing: BTreeSet<NodeId>,
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    committed: Vec<Committed>,
    histories: BTreeMap<NodeId, History>,
    /// Reads under way, with the highest commit index of the cluster when they were asked.
    reads: BTreeMap<(NodeId, ReadId), Index>,
}

impl Invariants {
    /// A checker for a cluster with these voters (`outgoing` not empty: a joint configuration).
    pub(crate) fn new(voters: BTreeSet<NodeId>, outgoing: BTreeSet<NodeId>) -> Invariants {
        Invariants { voters, outgoing, ..Invariants::default() }
    }

    /// A node starts: what it had not made durable is forgotten, and no promise may have rested on it.
    pub(crate) fn started(&mut self, node: &Node) {
        let hard_state = &node.durable.hard_state;
        let history =
            History { current_term: hard_state.current_term, voted_for: hard_state.voted_for, ..History::default() };
        self.histories.insert(node.id, history);
        self.reads.retain(|(reader, _), _| *reader != node.id);
    }

    /// A client asks `node` to read.
    pub(crate) fn read_started(&mut self, node: NodeId, read: ReadId) {
        self.reads.insert((node, read), index(self.committed.len()));
    }

    /// A read is confirmed at `at`: no write that was committed before the read began may be missing (section 8).
    pub(crate) fn read_confirmed(&mut self, node: NodeId, read: ReadId, at: Index) -> Result<(), Violation> {
        match self.reads.remove(&(node, read)) {
            None => Err(Violation::ReadAnsweredTwice { node, read }),
            Some(committed) if at < committed => Err(Violation::StaleRead { node, read, at, committed }),
            Some(_) => Ok(()),
        }
    }

    /// A read was given up.
    pub(crate) fn read_aborted(&mut self, node: NodeId, read: ReadId) -> Result<(), Violation> {
        self.reads.remove(&(node, read)).map(|_| ()).ok_or(Violation::ReadAnsweredTwice { node, read })
    }

    /// A message leaves its sender: what it promises must be durable, and a vote must be the only one of its term.
    pub(crate) fn sent(&mut self, sender: &Node, message: &Message) -> Result<(), Violation> {
        let hard_state = &sender.durable.hard_state;
        match &message.body {
            Body::RequestVote { pre_vote: false, .. } => self.voted(sender, message, sender.id),
            Body::RequestVoteResponse { pre_vote: false, granted: true } => self.voted(sender, message, message.to),
            Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) => {
                let same_term = hard_state.current_term == message.term;
                let forgotten_term = hard_state.current_term < message.term;
                if forgotten_term || (same_term && sender.durable.last_index() < *match_index) {
                    return Err(Violation::PromiseBeforeDurable { message: render::message(message) });
                }
                Ok(())
            }
            Body::RequestVote { .. }
            | Body::RequestVoteResponse { .. }
            | Body::AppendEntries { .. }
            | Body::AppendEntriesResponse(AppendResult::Rejected { .. })
            | Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::InstallSnapshot { .. }
            | Body::TimeoutNow
            | Body::ReadIndex { .. }
            | Body::ReadIndexResponse { .. } => Ok(()),
        }
    }

    fn voted(&mut self, sender: &Node, message: &Message, candidate: NodeId) -> Result<(), Violation> {
        let hard_state = &sender.durable.hard_state;
        let durable = hard_state.current_term > message.term
            || (hard_state.current_term == message.term && hard_state.voted_for == Some(candidate));
        if !durable {
            return Err(Violation::PromiseBeforeDurable { message: render::message(message) });
        }
        let first = *self.votes.entry((sender.id, message.term)).or_insert(candidate);
        if first != candidate {
            return Err(Violation::DoubleVote { node: sender.id, term: message.term, first, second: candidate });
        }
        Ok(())
    }

    /// Checks the node that just acted, and it against all others. Nobody else changed.
    pub(crate) fn check(&mut self, nodes: &BTreeMap<NodeId, Node>, acted: NodeId) -> Result<(), Violation> {
        let node = &nodes[&acted];
        if let Some(raft) = &node.raft {
            check_view(node, raft)?;
            self.check_delta(node, raft)?;
            self.check_leader(node, raft)?;
            self.check_commit(node, raft)?;
            self.check_completeness(node, raft)?;
        }
        self.check_applied(node)?;
        nodes.values().try_for_each(|other| check_log_matching(node, other))?;
        self.check_nothing_lost(nodes)
    }

    /// Terms and commit indexes never fall, and a vote never changes within a term.
    fn check_delta(&mut self, node: &Node, raft: &Raft) -> Result<(), Violation> {
        let status = raft.status();
        let history = self.histories.entry(node.id).or_default();
        if status.current_term < history.current_term {
            return Err(Violation::TermFell { node: node.id, from: history.current_term, to: status.current_term });
        }
        if status.commit_index < history.commit_index {
            return Err(Violation::CommitFell { node: node.id, from: history.commit_index, to: status.commit_index });
        }
        if let (true, Some(first)) = (status.current_term == history.current_term, history.voted_for)
            && status.voted_for != Some(first)
        {
            return Err(Violation::VoteChanged { node: node.id, term: status.current_term, first });
        }
        history.current_term = status.current_term;
        history.voted_for = status.voted_for;
        history.commit_index = status.commit_index;
        Ok(())
    }

    /// Election Safety and Leader Append-Only.
    fn check_leader(&mut self, node: &Node, raft: &Raft) -> Result<(), Violation> {
        let history = self.histories.entry(node.id).or_default();
        if raft.role() != Role::Leader {
            history.leader_log = None;
            return Ok(());
        }
        let term = raft.current_term();
        let first = *self.leaders.entry(term).or_insert(node.id);
        if first != node.id {
            return Err(Violation::ElectionSafety { term, first, second: node.id });
        }
        if raft.status().voted_for != Some(node.id) {
            return Err(Violation::LeaderWithoutOwnVote { node: node.id, term });
        }
        if let Some((before_term, before)) = &history.leader_log
            && *before_term == term
            && !node.written.entries.starts_with(before)
        {
            return Err(Violation::LeaderAppendOnly { node: node.id, term });
        }
        history.leader_log = Some((term, node.written.entries.clone()));
        Ok(())
    }

    /// Two nodes never commit different entries at one index; the first to commit is remembered.
    fn check_commit(&mut self, node: &Node, raft: &Raft) -> Result<(), Violation> {
        let commit_index = raft.commit_index();
        if commit_index > node.written.last_index() {
            return Err(Violation::CommitBeyondLog { node: node.id, commit_index });
        }
        let known = self.committed.len().min(position(commit_index));
        for (committed, entry) in self.committed.iter().zip(&node.written.entries).take(known) {
            if committed.entry != *entry {
                return Err(Violation::StateMachineSafety { node: node.id, index: entry.index });
            }
        }
        for entry in &node.written.entries[known..position(commit_index)] {
            self.committed.push(Committed { entry: entry.clone(), in_term: raft.current_term() });
        }
        Ok(())
    }

    /// State Machine Safety: what is applied is what is committed, each entry once and in order.
    fn check_applied(&self, node: &Node) -> Result<(), Violation> {
        for (offset, entry) in node.applied.iter().enumerate() {
            if position(entry.index) != offset + 1 {
                return Err(Violation::ApplyOrder { node: node.id, index: entry.index, expected: index(offset + 1) });
            }
            if self.committed.get(offset).is_none_or(|committed| committed.entry != *entry) {
                return Err(Violation::StateMachineSafety { node: node.id, index: entry.index });
            }
        }
        Ok(())
    }

    /// Leader Completeness: what was committed in a term is in the log of every leader of a later term.
    fn check_completeness(&self, node: &Node, raft: &Raft) -> Result<(), Violation> {
        if raft.role() != Role::Leader {
            return Ok(());
        }
        let term = raft.current_term();
        for committed in self.committed.iter().filter(|committed| committed.in_term < term) {
            let index = committed.entry.index;
            if node.written.entry(index) != Some(&committed.entry) {
                return Err(Violation::LeaderCompleteness { node: node.id, term, index });
            }
        }
        Ok(())
    }

    /// Every committed entry is on the disks of a majority (of both, in a joint configuration), crashed nodes included.
    fn check_nothing_lost(&self, nodes: &BTreeMap<NodeId, Node>) -> Result<(), Violation> {
        // How many committed entries each disk holds from the beginning, without a gap or a stranger among them.
        let held_counts: BTreeMap<NodeId, usize> =
            nodes.values().map(|node| (node.id, self.held_count(node))).collect();
        let holders = |index: usize| {
            let holding = held_counts.iter().filter(|(_, held_count)| **held_count >= index);
            holding.map(|(id, _)| *id).collect::<BTreeSet<NodeId>>()
        };
        let is_safe = |index: usize| {
            let holders = holders(index);
            is_majority(&holders, &self.voters) && is_majority(&holders, &self.outgoing)
        };
        // Who holds the last one holds all before it, so that one look is enough while all is well.
        if is_safe(self.committed.len()) {
            return Ok(());
        }
        let lost = (1..=self.committed.len()).find(|index| !is_safe(*index)).expect("the last one is not safe");
        Err(Violation::CommittedEntryLost { index: index(lost), holders: holders(lost) })
    }

    fn held_count(&self, node: &Node) -> usize {
        let pairs = self.committed.iter().zip(&node.durable.entries);
        pairs.take_while(|(committed, entry)| committed.entry == **entry).count()
    }
}

/// True if `set` holds more than half of `voters`; of nobody, everybody is a majority.
fn is_majority(set: &BTreeSet<NodeId>, voters: &BTreeSet<NodeId>) -> bool {
    voters.is_empty() || voters.intersection(set).count() > voters.len() / 2
}

/// The machine's log is exactly what it handed out to be persisted.
fn check_view(node: &Node, raft: &Raft) -> Result<(), Violation> {
    let same_end = raft.last_index() == node.written.last_index();
    let stray = node.written.entries.iter().find(|entry| raft.term_at(entry.index) != Some(entry.term));
    if !same_end || stray.is_some() {
        return Err(Violation::LogNotHandedOut { node: node.id, last_index: raft.last_index() });
    }
    Ok(())
}

/// Log Matching: logs that agree on one entry's index and term are identical up to it.
fn check_log_matching(one: &Node, other: &Node) -> Result<(), Violation> {
    let (a, b) = (&one.written.entries, &other.written.entries);
    let Some(last) = (0..a.len().min(b.len())).rev().find(|at| a[*at].term == b[*at].term) else { return Ok(()) };
    match (0..=last).find(|at| a[*at] != b[*at]) {
        Some(at) => Err(Violation::LogMatching { one: one.id, other: other.id, index: a[at].index }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    //! Each test breaks one invariant from the outside, on disks and in messages, and the checker has to see it.

    use super::*;
    use crate::cluster::Cluster;
    use crate::commands::Session;

    /// A leader n1 of term 1 with a committed log of two entries, known to the checker.
    fn session() -> Session {
        let mut session = Session::default();
        for command in ["cluster nodes=3", "elect n1", "propose n1 a", "stabilize"] {
            session.execute(command).expect("a healthy cluster");
        }
        session
    }

    /// Breaks something; the checker then looks at node `acted`.
    fn check(acted: u64, breaking: impl FnOnce(&mut Cluster)) -> Violation {
        let mut session = session();
        let cluster = session.cluster().expect("it was made");
        breaking(cluster);
        cluster.invariants.check(&cluster.nodes, id(acted)).expect_err("an invariant is broken")
    }

    fn id(number: u64) -> NodeId {
        NodeId::new(number).expect("above zero")
    }

    fn node(cluster: &mut Cluster, number: u64) -> &mut Node {
        cluster.node(id(number)).expect("it is a member")
    }

    fn other(entry: &Entry) -> Entry {
        Entry { payload: raft::Payload::Command(bytes::Bytes::from_static(b"other")), ..entry.clone() }
    }

    #[test]
    fn two_leaders_in_a_term() {
        let violation = check(1, |cluster| {
            cluster.invariants.leaders.insert(Term::new(1), id(2));
        });
        assert_eq!(violation, Violation::ElectionSafety { term: Term::new(1), first: id(2), second: id(1) });
    }

    #[test]
    fn a_leader_that_changes_its_log() {
        let violation = check(1, |cluster| {
            let entry = other(&node(cluster, 1).written.entries[1]);
            node(cluster, 1).written.entries[1] = entry;
        });
        assert_eq!(violation, Violation::LeaderAppendOnly { node: id(1), term: Term::new(1) });
    }

    #[test]
    fn logs_that_differ_below_an_entry_they_share() {
        let violation = check(3, |cluster| {
            let node = node(cluster, 3);
            node.raft = None;
            node.written.entries[0] = other(&node.written.entries[0]);
        });
        assert_eq!(violation, Violation::LogMatching { one: id(3), other: id(1), index: Index::new(1) });
    }

    #[test]
    fn a_leader_without_a_committed_entry() {
        let violation = check(1, |cluster| {
            let mut missing = cluster.invariants.committed[1].entry.clone();
            missing.index = Index::new(3);
            cluster.invariants.committed.push(Committed { entry: missing, in_term: Term::ZERO });
        });
        assert_eq!(violation, Violation::LeaderCompleteness { node: id(1), term: Term::new(1), index: Index::new(3) });
    }

    #[test]
    fn another_entry_applied_where_one_was_committed() {
        let violation = check(2, |cluster| {
            let node = node(cluster, 2);
            node.applied[1] = other(&node.applied[1]);
        });
        assert_eq!(violation, Violation::StateMachineSafety { node: id(2), index: Index::new(2) });
    }

    #[test]
    fn an_entry_applied_twice() {
        let violation = check(2, |cluster| {
            let node = node(cluster, 2);
            node.applied.push(node.applied[1].clone());
        });
        let (index, expected) = (Index::new(2), Index::new(3));
        assert_eq!(violation, Violation::ApplyOrder { node: id(2), index, expected });
    }

    #[test]
    fn a_committed_entry_that_two_of_three_disks_lost() {
        let violation = check(2, |cluster| {
            for number in [2, 3] {
                node(cluster, number).durable.entries.pop();
            }
        });
        assert_eq!(violation, Violation::CommittedEntryLost { index: Index::new(2), holders: [id(1)].into() });
    }

    #[test]
    fn a_vote_that_is_not_durable_and_a_second_vote() {
        let mut session = session();
        let cluster = session.cluster().expect("it was made");
        let body = Body::RequestVoteResponse { pre_vote: false, granted: true };
        let grant = Message { from: id(2), to: id(3), term: Term::new(2), body };
        let early = cluster.invariants.sent(&cluster.nodes[&id(2)], &grant);
        assert_eq!(early, Err(Violation::PromiseBeforeDurable { message: render::message(&grant) }));

        let second = Message { term: Term::new(1), ..grant };
        node(cluster, 2).durable.hard_state.voted_for = Some(id(3));
        let second = cluster.invariants.sent(&cluster.nodes[&id(2)], &second);
        assert_eq!(second, Err(Violation::DoubleVote { node: id(2), term: Term::new(1), first: id(1), second: id(3) }));
    }

    #[test]
    fn a_read_below_what_was_committed_when_it_was_asked() {
        let mut session = session();
        let invariants = &mut session.cluster().expect("it was made").invariants;
        let (read, at, committed) = (ReadId::new(1), Index::new(1), Index::new(2));
        invariants.read_started(id(1), read);
        let stale = invariants.read_confirmed(id(1), read, at);
        assert_eq!(stale, Err(Violation::StaleRead { node: id(1), read, at, committed }));
        assert_eq!(invariants.read_aborted(id(1), read), Err(Violation::ReadAnsweredTwice { node: id(1), read }));
    }
}
