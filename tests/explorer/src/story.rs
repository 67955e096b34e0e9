//! A path as a story for people.

use crate::cluster::{Action, Cluster, World};
use crate::hash::Digest;
use crate::invariant::Broken;
use crate::node::{Input, Slot, letter};
use raft::{AppendResult, Body, Entry, Event, Index, Message, Question, Witness};

/// The actions that lead through these states, and the one behind the last that breaks the invariant.
pub(crate) fn tell(world: &World, states: &[Digest], broken: &Broken) -> Vec<String> {
    let mut lines = Vec::new();
    let mut cluster = world.start();
    let mut bytes = Vec::new();
    for &next in states.iter().skip(1) {
        let mut found = None;
        world.successors(&cluster, &mut |action, after| {
            if found.is_none()
                && let Ok(after) = after
                && world.digest(&after, &mut bytes) == next
            {
                found = Some((action, after));
            }
        });
        let (action, after) = found.expect("a state is reached from the one before it on its path");
        lines.push(line(world, &cluster, &action));
        cluster = after;
    }
    let mut last = None;
    world.successors(&cluster, &mut |action, after| {
        if last.is_none() && after.as_ref() == Err(broken) {
            last = Some(action);
        }
    });
    lines.push(line(world, &cluster, &last.expect("the violation follows the last state")));
    lines
}

/// What happens, and what comes of it.
fn line(world: &World, cluster: &Cluster, action: &Action) -> String {
    let name = action.node + 1;
    let what = match action.input {
        Input::Deliver { message, late } => {
            let late = if late { ", which has not heard of its leader for a while" } else { "" };
            let again = if action.consumed.is_none() { ", not for the last time" } else { "" };
            let message = world.message(message);
            format!("n{name}{late} receives from {}{again}: {}", message.from, describe(message))
        }
        Input::Persist => format!("n{name}'s oldest pending batch is durable"),
        Input::Timeout => format!("n{name} hears of nobody for an election timeout"),
        Input::Heartbeat => format!("n{name} sends heartbeats"),
        Input::Propose(command) => format!("n{name} is given command {}", letter(command)),
        Input::Read(committed) => format!("n{name} is asked for a read; {committed} entries are committed"),
        Input::Ask => {
            let word = world.nodes(cluster)[action.node].view.witness;
            let word = word.map_or_else(|| "nothing".to_owned(), |word| describe_witness(&word));
            format!("n{name} is asked by a read without a leader, and says {word}")
        }
        Input::Transfer(target) => format!("n{name} is to hand leadership to {target}"),
        Input::Crash { kept } => {
            let pending = world.nodes(cluster)[action.node].view.pending;
            format!("n{name} crashes with {kept} of {pending} pending batches on its disk, and restarts")
        }
        Input::Compact => format!("n{name} takes a snapshot and cuts off its log"),
        Input::Install(snapshot) => {
            let what = match &world.message(snapshot).body {
                Body::AppendEntries { entries: all, .. } => entries(all),
                other => format!("{other:?}"),
            };
            format!("n{name} is handed the snapshot of {what}")
        }
        Input::Unreachable(peer) => {
            let lost = action.consumed.map_or_else(String::new, |message| describe(world.message(message)));
            format!("a message from n{name} to {peer} is lost, and n{name} learns of it: {lost}")
        }
    };
    let mut consequences = Vec::new();
    match world.retake(cluster, action) {
        Err(panicked) => consequences.push(panicked),
        Ok((node, effects)) => {
            consequences.extend(effects.refused.map(|refused| format!("refused: {refused}")));
            consequences.extend(effects.events.iter().map(event));
            if !effects.committed.is_empty() {
                consequences.push(format!("commits {}", entries(&effects.committed)));
            }
            consequences.extend(effects.reads.iter().map(|(_, index)| format!("confirms the read at {index}")));
            if *node.view.log != *world.nodes(cluster)[action.node].view.log {
                consequences.push(format!("log {:?}", node.view.log));
            }
        }
    }
    if consequences.is_empty() { what } else { format!("{what} -> {}", consequences.join("; ")) }
}

fn entries(entries: &[Entry]) -> String {
    let words: Vec<_> = entries.iter().map(|entry| format!("{}:{:?}", entry.index, Slot::of(entry))).collect();
    format!("[{}]", words.join(" "))
}

/// A witness in a few words.
pub(crate) fn describe_witness(witness: &Witness) -> String {
    match witness.pending {
        Index::ZERO => format!("applied {}", witness.applied),
        pending => format!("applied {}, a command at {pending}", witness.applied),
    }
}

/// A message in one line.
fn describe(message: &Message) -> String {
    let (kind, term) = (message.body.kind(), message.term);
    let rest = match &message.body {
        Body::RequestVote { last_log_index, last_log_term, .. } => {
            format!(", last entry {last_log_index} of term {last_log_term}")
        }
        Body::RequestVoteResponse { granted, .. } => if *granted { ", yes" } else { ", no" }.to_owned(),
        Body::AppendEntries { prev_log_index, prev_log_term, entries: new, leader_commit } => {
            let new = entries(new);
            format!(", {new} behind {prev_log_index} of term {prev_log_term}, commit {leader_commit}")
        }
        Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) => format!(", match {match_index}"),
        Body::AppendEntriesResponse(AppendResult::Rejected { prev_log_index, hint_index, hint_term }) => {
            format!(", {prev_log_index} rejected, hint {hint_index} of term {hint_term}")
        }
        Body::Heartbeat { commit_index, round } => format!(", commit {commit_index}, round {round}"),
        Body::HeartbeatResponse { round, promised: _ } => format!(", round {round}"),
        Body::InstallSnapshot { last_included_index, last_included_term } => {
            format!(", up to {last_included_index} of term {last_included_term}")
        }
        Body::TimeoutNow => String::new(),
        Body::ReadIndex { question } => format!(", {}", describe_question(*question)),
        Body::ReadIndexResponse { question, index } => format!(", {}: {index}", describe_question(*question)),
    };
    format!("{kind} of term {term}{rest}")
}

fn describe_question(Question { process, number }: Question) -> String {
    format!("question {number} of process {process}")
}

fn event(event: &Event) -> String {
    match event {
        Event::PreCampaign { term } => format!("asks for pre-votes for term {term}"),
        Event::Campaign { term } => format!("campaigns for term {term}"),
        Event::VoteGranted { term, candidate } => format!("votes for {candidate} in term {term}"),
        Event::VoteReceived { term, from } => format!("has the vote of {from} in term {term}"),
        Event::BecameLeader { term } => format!("LEADS term {term}"),
        Event::BecameFollower { term, leader: Some(leader) } => format!("follows {leader} in term {term}"),
        Event::BecameFollower { term, leader: None } => format!("follows nobody in term {term}"),
        Event::Truncated { after, .. } => format!("cuts its log behind {after}"),
        Event::Installed { index } => format!("takes over the snapshot up to {index}"),
        Event::Recovered { term } => format!("has recovered in term {term}"),
        Event::TransferStarted { target } => format!("begins to hand over to {target}"),
        Event::TransferAborted { target } => format!("gives up handing over to {target}"),
        Event::QuorumLost { term } => format!("steps down in term {term}"),
        Event::DiskStalled { term } => format!("steps down in term {term}, for its disk"),
    }
}
