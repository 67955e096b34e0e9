//! What is counted of elections and leaders, by the core's events.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use raft::{Event, NodeId, Term};

use crate::telemetry::Split;

/// Why a node stood for election.
#[derive(Clone, Copy)]
enum Cause {
    /// It heard of no leader for an election timeout.
    Timeout,
    /// The leader's process had ended, for all that its host told.
    LeaderGone,
    /// The leader asked it to.
    Transfer,
}

const CAUSES: [&str; 3] = ["timeout", "leader_gone", "transfer"];

/// How that ended.
#[derive(Clone, Copy)]
enum Outcome {
    Won,
    /// Another leads, or asks for votes in a later term, or the node gave up.
    Lost,
    /// Nobody was elected in time.
    TimedOut,
}

const OUTCOMES: [&str; 3] = ["won", "lost", "timed_out"];

/// Why a leader stepped down.
#[derive(Clone, Copy)]
enum StepDown {
    QuorumLost,
    DiskStalled,
    /// It heard of a later term, as after a handover.
    LaterTerm,
}

const STEP_DOWNS: [&str; 3] = ["quorum_lost", "disk_stalled", "later_term"];

/// Counts elections, as this node sees them.
pub(super) struct Elections {
    begun: Split<Counter, 3>,
    ended: Split<Counter, 3>,
    votes_granted: Counter,
    leader_changes: Counter,
    step_downs: Split<Counter, 3>,
    leader_gone: bool,
    standing: bool,
    leads: bool,
    /// Why it will step down.
    stepping_down: StepDown,
    /// The last leader that it heard of; none is itself.
    last_leader: Option<(Term, Option<NodeId>)>,
}

impl Elections {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let elections = Self {
            begun: Split::new("cause", CAUSES, Counter::default),
            ended: Split::new("outcome", OUTCOMES, Counter::default),
            votes_granted: Counter::default(),
            leader_changes: Counter::default(),
            step_downs: Split::new("cause", STEP_DOWNS, Counter::default),
            leader_gone: false,
            standing: false,
            leads: false,
            stepping_down: StepDown::LaterTerm,
            last_leader: None,
        };
        let help = "Elections that this node stood for, by why";
        registry.register("quorate_elections_started", help, elections.begun.clone());
        let help = "Elections that this node stood for, by how they ended for it";
        registry.register("quorate_elections_finished", help, elections.ended.clone());
        let help = "Votes that this node gave, to itself too";
        registry.register("quorate_votes_granted", help, elections.votes_granted.clone());
        let help = "Leaders that this node heard of one after the other, itself included";
        registry.register("quorate_leader_changes", help, elections.leader_changes.clone());
        let help = "How often this node stepped down as the leader, by why";
        registry.register("quorate_step_downs", help, elections.step_downs.clone());
        elections
    }

    /// The leader's process has ended, for all that its host tells.
    pub(super) fn leader_gone(&mut self) {
        self.leader_gone = true;
    }

    /// Counts what has happened.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::PreCampaign { .. } => {
                if self.standing {
                    self.end(Outcome::TimedOut);
                }
                let cause = if self.leader_gone { Cause::LeaderGone } else { Cause::Timeout };
                self.stand(cause);
            }
            // Who is asked to take over asks for no pre-votes.
            Event::Campaign { .. } if !self.standing => self.stand(Cause::Transfer),
            Event::VoteGranted { .. } => drop(self.votes_granted.inc()),
            Event::BecameLeader { term } => {
                self.end(Outcome::Won);
                self.leads = true;
                self.stepping_down = StepDown::LaterTerm;
                self.heard_of(*term, None);
            }
            Event::QuorumLost { .. } => self.stepping_down = StepDown::QuorumLost,
            Event::DiskStalled { .. } => self.stepping_down = StepDown::DiskStalled,
            Event::BecameFollower { term, leader } => {
                if std::mem::take(&mut self.leads) {
                    self.step_downs.at(self.stepping_down as usize).inc();
                }
                if self.standing {
                    self.end(Outcome::Lost);
                }
                if leader.is_some() {
                    self.heard_of(*term, *leader);
                }
            }
            _ => {}
        }
    }

    fn stand(&mut self, cause: Cause) {
        self.standing = true;
        self.begun.at(cause as usize).inc();
    }

    fn end(&mut self, outcome: Outcome) {
        self.standing = false;
        self.ended.at(outcome as usize).inc();
    }

    fn heard_of(&mut self, term: Term, leader: Option<NodeId>) {
        self.leader_gone = false;
        if self.last_leader.replace((term, leader)) != Some((term, leader)) {
            self.leader_changes.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    /// The counters that are not zero, after these events.
    fn counted(events: &[Event], leader_gone: bool) -> Vec<String> {
        let mut registry = Registry::default();
        let mut elections = Elections::registered(&mut registry);
        if leader_gone {
            elections.leader_gone();
        }
        events.iter().for_each(|event| elections.note(event));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes it");
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
        lines.map(|line| line.replacen("quorate_", "", 1)).collect()
    }

    fn node(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn term(term: u64) -> Term {
        Term::new(term)
    }

    #[test]
    fn an_election_that_is_won_at_the_second_attempt() {
        let events = [
            Event::PreCampaign { term: term(1) },
            Event::Campaign { term: term(1) },
            Event::VoteGranted { term: term(1), candidate: node(1) },
            Event::PreCampaign { term: term(2) },
            Event::Campaign { term: term(2) },
            Event::BecameLeader { term: term(2) },
        ];
        let expected = [
            "elections_started_total{cause=\"timeout\"} 2",
            "elections_finished_total{outcome=\"won\"} 1",
            "elections_finished_total{outcome=\"timed_out\"} 1",
            "votes_granted_total 1",
            "leader_changes_total 1",
        ];
        assert_eq!(counted(&events, false), expected);
    }

    #[test]
    fn a_follower_whose_leader_is_gone_loses_to_another() {
        let events = [
            Event::PreCampaign { term: term(3) },
            Event::BecameFollower { term: term(3), leader: None },
            Event::BecameFollower { term: term(3), leader: Some(node(2)) },
            Event::BecameFollower { term: term(3), leader: Some(node(2)) },
            Event::PreCampaign { term: term(4) },
        ];
        let expected = [
            "elections_started_total{cause=\"timeout\"} 1",
            "elections_started_total{cause=\"leader_gone\"} 1",
            "elections_finished_total{outcome=\"lost\"} 1",
            "leader_changes_total 1",
        ];
        assert_eq!(counted(&events, true), expected);
    }

    #[test]
    fn a_leader_that_was_asked_to_take_over_loses_its_quorum() {
        let events = [
            Event::Campaign { term: term(5) },
            Event::BecameLeader { term: term(5) },
            Event::QuorumLost { term: term(5) },
            Event::BecameFollower { term: term(5), leader: None },
        ];
        let expected = [
            "elections_started_total{cause=\"transfer\"} 1",
            "elections_finished_total{outcome=\"won\"} 1",
            "leader_changes_total 1",
            "step_downs_total{cause=\"quorum_lost\"} 1",
        ];
        assert_eq!(counted(&events, false), expected);
    }
}
