//! From what happened to lines for people: aligned columns, who speaks, and an explanation the first time.

use std::collections::{BTreeMap, BTreeSet};

use super::explain::{self, Topic};
use super::happening::{Answer, ClientScene, DemoScene, Scene, Told};
use super::operations::Action;
use crate::story::{Effect, Happening, StoryLine};

/// How wide an explanation may be with all columns before it; most terminals are wider.
const WIDTH: usize = 116;

/// The widths of the columns, with the space between them.
const TIME_WIDTH: usize = 11;
const SPEAKER_WIDTH: usize = 10;
const KIND_WIDTH: usize = 10;

/// The colours of the nodes, in their order, as SGR codes: readable on light and dark ground.
const NODE_COLORS: [u8; 6] = [36, 33, 35, 32, 34, 31];

/// Tells what happens.
pub(super) struct Narrator {
    started_us: u64,
    nodes: Vec<String>,
    color: bool,
    explained: BTreeSet<Topic>,
    /// The votes that each candidate has in its latest term.
    votes: BTreeMap<String, BTreeSet<String>>,
    /// The first entry that each node appended and has not on its disk yet.
    appended: BTreeMap<String, u64>,
}

/// A line before it is laid out.
struct Line {
    kind: &'static str,
    text: String,
    topic: Option<Topic>,
}

fn line(kind: &'static str, text: impl Into<String>, topic: impl Into<Option<Topic>>) -> Line {
    Line { kind, text: text.into(), topic: topic.into() }
}

impl Narrator {
    /// One that counts time from `started_us` and knows the names of all nodes.
    pub(super) fn new(started_us: u64, nodes: Vec<String>, color: bool) -> Self {
        Self { started_us, nodes, color, explained: BTreeSet::new(), votes: BTreeMap::new(), appended: BTreeMap::new() }
    }

    /// The lines that tell `told`; none if it is not worth one.
    pub(super) fn tell(&mut self, told: &Told) -> Vec<String> {
        let (speaker, line) = match &told.scene {
            Scene::Node(story) => (story.node.clone(), self.of_node(story)),
            Scene::Client { client, what } => (format!("client-{client}"), Some(of_client(what))),
            Scene::Demo(scene) => ("demo".to_owned(), Some(of_demo(scene, self.nodes.len()))),
        };
        let Some(line) = line else { return Vec::new() };
        let seconds = told.at_us.saturating_sub(self.started_us);
        let time = format!("{:>4}.{:03} s", seconds / 1_000_000, seconds / 1_000 % 1_000);
        let columns = format!("{speaker:<SPEAKER_WIDTH$}{:<KIND_WIDTH$}", line.kind);
        let columns = self.paint(&columns, self.color_of(&speaker));
        let mut lines = vec![format!("{time:<TIME_WIDTH$}{columns}{}", line.text)];
        if let Some(topic) = line.topic.filter(|topic| self.explained.insert(*topic)) {
            let text = topic.explain(self.nodes.len());
            let indent = " ".repeat(TIME_WIDTH + SPEAKER_WIDTH + KIND_WIDTH);
            let wrapped = wrap(&text, WIDTH - indent.len() - 2);
            lines.extend(wrapped.iter().map(|part| format!("{indent}{}", self.paint(&format!("| {part}"), Some(2)))));
        }
        lines
    }

    fn color_of(&self, speaker: &str) -> Option<u8> {
        match self.nodes.iter().position(|node| node == speaker) {
            Some(at) => Some(NODE_COLORS[at % NODE_COLORS.len()]),
            None => Some(1),
        }
    }

    fn paint(&self, text: &str, code: Option<u8>) -> String {
        match code.filter(|_| self.color) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }

    fn of_node(&mut self, story: &StoryLine) -> Option<Line> {
        let node = &story.node;
        Some(match &story.happening {
            Happening::PreCampaign { term } => {
                let text = format!("hears from no leader and asks: would you elect me in term {term}?");
                line("election", text, explain::PRE_VOTE)
            }
            Happening::Campaign { term } => {
                self.votes.insert(node.clone(), BTreeSet::new());
                line("election", format!("stands for election in term {term}"), explain::ELECTION)
            }
            Happening::VoteGranted { term, candidate } => {
                let whom = if candidate == node { "itself" } else { candidate };
                line("vote", format!("votes for {whom} in term {term}"), explain::VOTE)
            }
            Happening::VoteReceived { term, from } => {
                let votes = self.votes.entry(node.clone()).or_default();
                votes.insert(from.clone());
                let whose = if from == node { "its own vote" } else { &format!("the vote of {from}") };
                let count = format!("{} of {}", votes.len(), self.nodes.len());
                line("vote", format!("has {whose} for term {term}: {count}"), None)
            }
            Happening::BecameLeader { term } => {
                line("leader", format!("is the leader of term {term}"), explain::LEADER)
            }
            Happening::BecameFollower { term, leader: Some(leader) } => {
                line("follower", format!("follows {leader}, the leader of term {term}"), explain::FOLLOWER)
            }
            Happening::BecameFollower { term, leader: None } => {
                line("follower", format!("is in term {term} and knows no leader yet"), None)
            }
            Happening::QuorumLost { term } => {
                let text = format!("steps down: it led term {term} and hears of no majority");
                line("leader", text, explain::QUORUM_LOST)
            }
            Happening::DiskStalled { term } => {
                let text = format!("steps down: it led term {term} and its disk stands still");
                line("leader", text, explain::DISK_STALLED)
            }
            Happening::Truncated { after } => {
                self.appended.remove(node);
                line("append", format!("drops its entries after {after}"), explain::TRUNCATED)
            }
            Happening::TransferStarted { target } => line("leader", format!("hands leadership over to {target}"), None),
            Happening::TransferAborted { target } => {
                line("leader", format!("goes on to lead: {target} did not take over in time"), None)
            }
            Happening::Installed { index } => {
                self.appended.remove(node);
                line("snapshot", format!("takes over a snapshot of everything up to {index}"), explain::INSTALLED)
            }
            Happening::Recovered { term } => {
                line("snapshot", format!("has again what its disk lost, and votes from term {term} on"), None)
            }
            Happening::Appended { first, .. } => {
                self.note_appended(node, *first);
                return None;
            }
            Happening::Durable { index } => return self.of_durable(node, *index),
            Happening::Committed { index } => {
                line("commit", format!("knows that entry {index} is committed"), explain::COMMIT)
            }
            Happening::Applied { index, effect, .. } => of_effect(*index, effect),
        })
    }

    /// Entries are told when they are on the disk, which is what counts.
    fn note_appended(&mut self, node: &str, first: u64) {
        let from = self.appended.entry(node.to_owned()).or_insert(first);
        *from = first.min(*from);
    }

    fn of_durable(&mut self, node: &str, index: u64) -> Option<Line> {
        let first = self.appended.get(node).copied().filter(|first| *first <= index)?;
        self.appended.insert(node.to_owned(), index + 1);
        let text = format!("appends {} to its log, on disk now", entries(first, index));
        Some(line("append", text, explain::APPEND))
    }
}

fn entries(first: u64, last: u64) -> String {
    if first == last { format!("entry {first}") } else { format!("entries {first} to {last}") }
}

fn of_effect(index: u64, effect: &Effect) -> Line {
    let (what, topic) = match effect {
        Effect::Noop => ("the empty entry of a new leader".to_owned(), explain::NOOP),
        Effect::Put { key, revision } => (format!("put {key}, which makes revision {revision}"), explain::APPLY),
        Effect::Deleted { key, revision } => (format!("delete {key}, which makes revision {revision}"), explain::APPLY),
        Effect::Settled => ("a question for a write's outcome, which is settled now".to_owned(), explain::SETTLED),
        Effect::Rejected { key } => (format!("refused for {key}, nothing changes"), explain::REJECTED),
        Effect::Configured { lease_reads } => {
            let what = format!("a setting, lease reads are {} from here on", if *lease_reads { "on" } else { "off" });
            (what, explain::CONFIGURED)
        }
        Effect::NotConfigured => ("refused for a setting, nothing changes".to_owned(), explain::CONFIGURED),
    };
    line("apply", format!("applies entry {index}: {what}"), topic)
}

fn of_client(what: &ClientScene) -> Line {
    match what {
        ClientScene::Asks { action, node } => {
            let topic = match action {
                Action::Put { .. } => explain::PUT,
                Action::Get { .. } => explain::GET,
                Action::Delete { .. } => explain::DELETE,
            };
            line("asks", format!("{action}    at {node}"), topic)
        }
        ClientScene::AsksElsewhere { from, to, cause } => {
            line("asks", format!("{to} instead: {from} gave no result ({cause})"), explain::ELSEWHERE)
        }
        ClientScene::Answered { action, answer } => of_answer(action, answer),
    }
}

fn of_answer(action: &Action, answer: &Answer) -> Line {
    let (text, topic) = match answer {
        Answer::Written { revision } => (format!("written, revision {revision}"), None),
        Answer::Removed { revision } => (format!("removed, revision {revision}"), None),
        Answer::Value { value, served_by } => (format!("{value}, read from {served_by}"), None),
        Answer::KeyExists { message } => (message.clone(), Some(explain::EXISTS)),
        Answer::KeyNotFound { message } => (message.clone(), Some(explain::NOT_FOUND)),
        Answer::Unknown { message } => (format!("outcome unknown: {message}"), Some(explain::UNKNOWN)),
        Answer::Failed { message } => (format!("not applied: {message}"), None),
    };
    line("answer", format!("{action} -> {text}"), topic)
}

fn of_demo(scene: &DemoScene, nodes: usize) -> Line {
    match scene {
        DemoScene::Started { node, pid, address } => {
            line("start", format!("{node} is process {pid} and listens on {address}"), None)
        }
        DemoScene::Restarted { node, pid } => {
            line("start", format!("{node} is back, as process {pid} with its old data"), explain::RESTARTED)
        }
        DemoScene::Ready { leader, term } => {
            line("ready", format!("{nodes} of {nodes} nodes agree: {leader} leads in term {term}"), None)
        }
        DemoScene::Killed { node, pid } => {
            line("kill", format!("kill -9 {pid}: {node}, the leader, is gone"), explain::KILLED)
        }
        DemoScene::ClientsDone => line("done", "all clients have all their answers", None),
        DemoScene::CaughtUp { index } => {
            line("check", format!("all {nodes} nodes have applied everything up to entry {index}"), None)
        }
    }
}

/// Breaks `text` between words into lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
