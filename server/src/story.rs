//! What a node tells about itself while a [`demo`](crate::demo) listens: one JSON object a line, on standard output.
//!
//! A line names the node and the time, so that the lines of several nodes can be put in order, and spells members by
//! their names. The words for people are the demo's.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::AppliedKind;
use engine::kv::Settings;
use serde::{Deserialize, Serialize};

use crate::node::Roster;

/// The longest key that is told in full, in characters; a longer one would fill a reader's screen.
const KEY_CHARACTERS_MAX: usize = 40;

/// One line of a node's story.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct StoryLine {
    /// The node's name.
    pub node: String,
    /// When it happened: microseconds since 1970 by the wall clock, good for nothing but to order lines for people.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub happening: Happening,
}

/// What happened on a node.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "happening", rename_all = "snake_case")]
pub enum Happening {
    /// It asks whether it would be elected (pre-vote).
    PreCampaign {
        /// The term it would campaign in.
        term: u64,
    },
    /// It stands for election.
    Campaign {
        /// The term.
        term: u64,
    },
    /// It gave its vote.
    VoteGranted {
        /// The term.
        term: u64,
        /// Who got it.
        candidate: String,
    },
    /// It got a vote.
    VoteReceived {
        /// The term.
        term: u64,
        /// Who gave it.
        from: String,
    },
    /// It was elected.
    BecameLeader {
        /// The term.
        term: u64,
    },
    /// It follows.
    BecameFollower {
        /// The term.
        term: u64,
        /// Who leads, if known.
        leader: Option<String>,
    },
    /// It led, and stepped down because it heard of no majority.
    QuorumLost {
        /// The term that it led.
        term: u64,
    },
    /// It led, and stepped down because its disk stands still.
    DiskStalled {
        /// The term that it led.
        term: u64,
    },
    /// It dropped entries that conflict with the leader's.
    Truncated {
        /// The last entry that stayed.
        after: u64,
    },
    /// It took a peer's snapshot over in place of its log and state.
    Installed {
        /// The last entry that the snapshot covers.
        index: u64,
    },
    /// It has again what its disk had lost, and takes part in elections from now on.
    Recovered {
        /// The current term.
        term: u64,
    },
    /// It began to hand leadership over.
    TransferStarted {
        /// To whom.
        target: String,
    },
    /// It goes on to lead, because the target did not take over in time.
    TransferAborted {
        /// To whom it was to go.
        target: String,
    },
    /// It appended entries to its log, in memory.
    Appended {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Its log is on its disk up to here.
    Durable {
        /// The last entry on disk.
        index: u64,
    },
    /// It learnt that the log is committed up to here.
    Committed {
        /// The last committed entry.
        index: u64,
    },
    /// It applied an entry to its state.
    Applied {
        /// The entry's index.
        index: u64,
        /// The entry's term.
        term: u64,
        /// What the entry did.
        effect: Effect,
    },
}

/// What an applied entry did to the state.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: a new leader's first entry.
    Noop,
    /// It wrote a key.
    Put {
        /// The key.
        key: String,
        /// The state's revision after it.
        revision: u64,
    },
    /// It removed a key.
    Deleted {
        /// The key.
        key: String,
        /// The state's revision after it.
        revision: u64,
    },
    /// Its condition did not hold, or its request id did not let it run, so it changed nothing.
    Rejected {
        /// The key.
        key: String,
    },
    /// It settled what became of a write.
    Settled,
    /// It changed a setting of the cluster.
    Configured {
        /// Whether leaders may answer reads under a lease from then on.
        lease_reads: bool,
    },
    /// It was to change a setting, and its request id did not let it run.
    NotConfigured,
}

/// The line that tells `event` of the node that `roster` belongs to, without a line break; none if there is nothing to
/// tell.
#[must_use]
pub fn line(event: &engine::Event, roster: &Roster) -> Option<String> {
    let story = StoryLine {
        node: roster.own_name().to_owned(),
        at_us: now_us(),
        happening: happening(event, &|node| roster.name(node)),
    };
    serde_json::to_string(&story).ok()
}

/// The time for [`StoryLine::at_us`].
#[must_use]
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn happening(event: &engine::Event, name: &dyn Fn(raft::NodeId) -> String) -> Happening {
    match event {
        engine::Event::Raft(event) => of_raft(*event, name),
        engine::Event::Appended { first, last } => Happening::Appended { first: first.get(), last: last.get() },
        engine::Event::Durable { index } => Happening::Durable { index: index.get() },
        engine::Event::Committed { index } => Happening::Committed { index: index.get() },
        engine::Event::Applied { index, term, what, .. } => {
            Happening::Applied { index: index.get(), term: term.get(), effect: effect(what) }
        }
    }
}

fn of_raft(event: raft::Event, name: &dyn Fn(raft::NodeId) -> String) -> Happening {
    match event {
        raft::Event::PreCampaign { term } => Happening::PreCampaign { term: term.get() },
        raft::Event::Campaign { term } => Happening::Campaign { term: term.get() },
        raft::Event::VoteGranted { term, candidate } => {
            Happening::VoteGranted { term: term.get(), candidate: name(candidate) }
        }
        raft::Event::VoteReceived { term, from } => Happening::VoteReceived { term: term.get(), from: name(from) },
        raft::Event::BecameLeader { term } => Happening::BecameLeader { term: term.get() },
        raft::Event::BecameFollower { term, leader } => {
            Happening::BecameFollower { term: term.get(), leader: leader.map(name) }
        }
        raft::Event::Truncated { after, .. } => Happening::Truncated { after: after.get() },
        raft::Event::Installed { index } => Happening::Installed { index: index.get() },
        raft::Event::Recovered { term } => Happening::Recovered { term: term.get() },
        raft::Event::TransferStarted { target } => Happening::TransferStarted { target: name(target) },
        raft::Event::TransferAborted { target } => Happening::TransferAborted { target: name(target) },
        raft::Event::QuorumLost { term } => Happening::QuorumLost { term: term.get() },
        raft::Event::DiskStalled { term } => Happening::DiskStalled { term: term.get() },
    }
}

fn effect(what: &AppliedKind) -> Effect {
    match what {
        AppliedKind::Noop => Effect::Noop,
        AppliedKind::Put { key, revision } => Effect::Put { key: shown(key), revision: revision.get() },
        AppliedKind::Deleted { key, revision } => Effect::Deleted { key: shown(key), revision: revision.get() },
        AppliedKind::Rejected { key } => Effect::Rejected { key: shown(key) },
        AppliedKind::Settled => Effect::Settled,
        AppliedKind::Configured { settings: Some(settings) } => {
            let Settings { lease_reads } = *settings;
            Effect::Configured { lease_reads }
        }
        AppliedKind::Configured { settings: None } => Effect::NotConfigured,
    }
}

/// A key for people: its beginning, with what is no printable character replaced.
fn shown(key: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(key);
    let mut characters = text.chars().map(|it| if it.is_control() { char::REPLACEMENT_CHARACTER } else { it });
    let mut shown: String = characters.by_ref().take(KEY_CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use engine::Event;
    use engine::kv::Revision;
    use raft::{Index, NodeId, Term};

    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId::new(number).expect("not zero")
    }

    fn told(event: &Event) -> String {
        let line = StoryLine {
            node: "n1".to_owned(),
            at_us: 7,
            happening: happening(event, &|node| format!("n{}", node.get())),
        };
        let text = serde_json::to_string(&line).expect("it is made of texts and numbers");
        assert_eq!(serde_json::from_str::<StoryLine>(&text).expect("what is written can be read"), line);
        text
    }

    #[test]
    fn events_are_lines_of_json_that_can_be_read_back() {
        let term = Term::new(2);
        let vote = Event::Raft(raft::Event::VoteGranted { term, candidate: node(3) });
        assert_eq!(told(&vote), r#"{"node":"n1","at_us":7,"happening":"vote_granted","term":2,"candidate":"n3"}"#);
        let follows = Event::Raft(raft::Event::BecameFollower { term, leader: None });
        assert_eq!(told(&follows), r#"{"node":"n1","at_us":7,"happening":"became_follower","term":2,"leader":null}"#);
        let appended = Event::Appended { first: Index::new(4), last: Index::new(6) };
        assert_eq!(told(&appended), r#"{"node":"n1","at_us":7,"happening":"appended","first":4,"last":6}"#);
        let put = AppliedKind::Put { key: Bytes::from_static(b"a"), revision: Revision::new(9) };
        let applied = Event::Applied { index: Index::new(5), term, what: put, command: None };
        assert_eq!(
            told(&applied),
            r#"{"node":"n1","at_us":7,"happening":"applied","index":5,"term":2,"effect":{"kind":"put","key":"a","revision":9}}"#
        );
    }

    #[test]
    fn every_event_can_be_told() {
        let (term, index) = (Term::new(1), Index::new(1));
        let key = Bytes::from_static(b"k");
        let events = [
            Event::Raft(raft::Event::PreCampaign { term }),
            Event::Raft(raft::Event::Campaign { term }),
            Event::Raft(raft::Event::VoteReceived { term, from: node(1) }),
            Event::Raft(raft::Event::BecameLeader { term }),
            Event::Raft(raft::Event::BecameFollower { term, leader: Some(node(2)) }),
            Event::Raft(raft::Event::Truncated { after: index, bytes: 1 }),
            Event::Raft(raft::Event::Installed { index }),
            Event::Raft(raft::Event::Recovered { term }),
            Event::Raft(raft::Event::TransferStarted { target: node(2) }),
            Event::Raft(raft::Event::TransferAborted { target: node(2) }),
            Event::Raft(raft::Event::QuorumLost { term }),
            Event::Raft(raft::Event::DiskStalled { term }),
            Event::Durable { index },
            Event::Committed { index },
            Event::Applied { index, term, what: AppliedKind::Noop, command: None },
            Event::Applied { index, term, what: AppliedKind::Rejected { key: key.clone() }, command: None },
            Event::Applied { index, term, what: AppliedKind::Configured { settings: None }, command: None },
            Event::Applied {
                index,
                term,
                what: AppliedKind::Configured { settings: Some(Settings { lease_reads: true }) },
                command: None,
            },
            Event::Applied {
                index,
                term,
                what: AppliedKind::Deleted { key, revision: Revision::new(1) },
                command: None,
            },
        ];
        for event in &events {
            assert!(told(event).starts_with(r#"{"node":"n1","at_us":7,"happening":""#));
        }
    }

    #[test]
    fn a_key_is_shown_without_harm_to_the_terminal() {
        assert_eq!(shown(b"a"), "a");
        assert_eq!(shown(b"\x1b[2J"), "\u{fffd}[2J");
        assert_eq!(shown(b"\xff"), "\u{fffd}");
        assert_eq!(shown(&[b'x'; 41]), format!("{}...", "x".repeat(40)));
    }
}
