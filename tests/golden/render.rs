//! How messages, entries and events read in a trace.

use std::fmt::Write as _;

use raft::{AppendResult, Batch, Body, Entry, Event, Fetch, Message, NodeId, Payload};

/// More entries than this are shown by their first two, their last and their number.
const ENTRIES_SHOWN_MAX: usize = 8;

/// A longer command is shown by its first byte and its length.
const COMMAND_BYTES_SHOWN_MAX: usize = 16;

/// `n1`, or `-` for nobody.
pub(crate) fn node_or_nobody(id: Option<NodeId>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

/// `n1@2 → n3 Heartbeat round=4 commit=3`. The number behind `@` is the message's term, which for a pre-vote is the
/// term that it asks about, not the sender's.
pub(crate) fn message(message: &Message) -> String {
    format!("{}@{} → {} {}", message.from, message.term, message.to, body(&message.body))
}

/// `n3 ← n1@2 Heartbeat round=4 commit=3`: the message where it arrives; a message for another node says so.
pub(crate) fn arrival(receiver: NodeId, message: &Message) -> String {
    let astray = if message.to == receiver { String::new() } else { format!(" (for {})", message.to) };
    format!("{receiver} ← {}@{} {}{astray}", message.from, message.term, body(&message.body))
}

/// The name of a message's kind, as the selectors of `deliver` and `drop` take it.
pub(crate) fn kind(body: &Body) -> &'static str {
    match body {
        Body::RequestVote { pre_vote: true, .. } => "PreVote",
        Body::RequestVote { .. } => "RequestVote",
        Body::RequestVoteResponse { pre_vote: true, .. } => "PreVoteResponse",
        Body::RequestVoteResponse { .. } => "RequestVoteResponse",
        Body::AppendEntries { .. } => "AppendEntries",
        Body::AppendEntriesResponse(_) => "AppendEntriesResponse",
        Body::Heartbeat { .. } => "Heartbeat",
        Body::HeartbeatResponse { .. } => "HeartbeatResponse",
        Body::InstallSnapshot { .. } => "InstallSnapshot",
        Body::TimeoutNow => "TimeoutNow",
        Body::ReadIndex { .. } => "ReadIndex",
        Body::ReadIndexResponse { .. } => "ReadIndexResponse",
    }
}

fn body(body: &Body) -> String {
    let kind = kind(body);
    match body {
        Body::RequestVote { last_log_index, last_log_term, leadership_transfer, .. } => {
            let transfer = if *leadership_transfer { " transfer" } else { "" };
            format!("{kind} last={last_log_index}@{last_log_term}{transfer}")
        }
        Body::RequestVoteResponse { granted, .. } => {
            format!("{kind} {}", if *granted { "granted" } else { "refused" })
        }
        Body::AppendEntries { prev_log_index, prev_log_term, entries, leader_commit } => format!(
            "{kind} prev={}@{} [{}] commit={}",
            prev_log_index,
            prev_log_term,
            self::entries(entries),
            leader_commit
        ),
        Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) => {
            format!("{kind} accepted match={match_index}")
        }
        Body::AppendEntriesResponse(AppendResult::Rejected { prev_log_index, hint_index, hint_term }) => {
            format!("{kind} rejected prev={prev_log_index} hint={hint_index}@{hint_term}")
        }
        Body::Heartbeat { commit_index, round } => format!("{kind} round={round} commit={commit_index}"),
        Body::HeartbeatResponse { round, promised } => {
            format!("{kind} round={round}{}", if *promised { " promised" } else { "" })
        }
        Body::InstallSnapshot { last_included_index, last_included_term } => {
            format!("{kind} last={last_included_index}@{last_included_term}")
        }
        Body::TimeoutNow => kind.to_owned(),
        Body::ReadIndex { question } => format!("{kind} question={}", question.number),
        Body::ReadIndexResponse { question, index } => format!("{kind} question={} index={index}", question.number),
    }
}

/// `4@2 "x"`: index, term, payload.
pub(crate) fn entry(entry: &Entry) -> String {
    format!("{}@{} {}", entry.index, entry.term, payload(&entry.payload))
}

fn payload(payload: &Payload) -> String {
    match payload {
        Payload::Noop => "noop".to_owned(),
        Payload::Command(bytes) => command(bytes),
    }
}

/// `"x"`, or `"x"*100` for a hundred bytes that begin with `x`.
pub(crate) fn command(bytes: &[u8]) -> String {
    if bytes.len() <= COMMAND_BYTES_SHOWN_MAX {
        format!("\"{}\"", String::from_utf8_lossy(bytes))
    } else {
        format!("\"{}\"*{}", String::from_utf8_lossy(&bytes[..1]), bytes.len())
    }
}

/// `4@2 "x" 5@2 "y"`; many are shortened.
pub(crate) fn entries(entries: &[Entry]) -> String {
    let mut text = String::new();
    for (number, shown) in entries.iter().enumerate() {
        if entries.len() > ENTRIES_SHOWN_MAX && number >= 2 && number + 1 < entries.len() {
            if number == 2 {
                text.push_str(" …");
            }
            continue;
        }
        let space = if number == 0 { "" } else { " " };
        write!(text, "{space}{}", entry(shown)).expect("writing to a string cannot fail");
    }
    if entries.len() > ENTRIES_SHOWN_MAX {
        write!(text, ", {} entries", entries.len()).expect("writing to a string cannot fail");
    }
    text
}

/// `1@1 noop 2@1 "a"`, however many there are.
pub(crate) fn all_entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<String>>().join(" ")
}

/// `batch 3: cut after 4, entries 5@2 "x", term 2, vote n1, commit 3`, without what the batch does not hold.
pub(crate) fn batch(batch: &Batch) -> String {
    let mut parts = Vec::new();
    if let Some(last) = batch.reset_to {
        parts.push(format!("reset to {last}"));
    }
    if let Some(after) = batch.truncate_after {
        parts.push(format!("cut after {after}"));
    }
    match (batch.entries.first(), batch.entries.last()) {
        (Some(first), Some(last)) if first.index != last.index => {
            parts.push(format!("entries {}..{}", first.index, last.index));
        }
        (Some(only), _) => parts.push(format!("entry {}", only.index)),
        (None, _) => {}
    }
    if let Some(hard_state) = &batch.hard_state {
        parts.push(format!(
            "term {}, vote {}, commit {}",
            hard_state.current_term,
            node_or_nobody(hard_state.voted_for),
            hard_state.commit_index
        ));
    }
    format!("batch {}: {}", batch.number, parts.join(", "))
}

/// `entries from 3 for n2, at most 100 bytes`.
pub(crate) fn fetch(fetch: &Fetch) -> String {
    format!("entries from {} for {}, at most {} bytes", fetch.from, fetch.peer, fetch.bytes_max)
}

/// What an event says about the node that it happened on.
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::PreCampaign { term } => format!("asks whether it would be elected in term {term}"),
        Event::Campaign { term } => format!("campaigns in term {term}"),
        Event::VoteGranted { term, candidate } => format!("votes for {candidate} in term {term}"),
        Event::VoteReceived { term, from } => format!("has the vote of {from} in term {term}"),
        Event::BecameLeader { term } => format!("becomes leader at term {term}"),
        Event::BecameFollower { term, leader: Some(leader) } => format!("follows {leader} at term {term}"),
        Event::BecameFollower { term, leader: None } => format!("becomes follower at term {term}, of no leader yet"),
        Event::Truncated { after, .. } => format!("drops its entries after {after}"),
        Event::Installed { index } => format!("takes over the snapshot up to {index}"),
        Event::Recovered { term } => format!("has recovered what it forgot, at term {term}"),
        Event::TransferStarted { target } => format!("begins to hand its leadership to {target}"),
        Event::TransferAborted { target } => format!("gives up handing its leadership to {target}"),
        Event::QuorumLost { term } => format!("hears from no majority any more at term {term}"),
        Event::DiskStalled { term } => format!("gives way at term {term}, its disk stands still"),
    }
}
