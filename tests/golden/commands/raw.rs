//! The command `step`: a message that no honest node would have sent, or not now.

use bytes::Bytes;
use raft::{AppendResult, Body, Entry, Index, Message, Payload, Question, Term};

use crate::args::{Args, number, position};
use crate::cluster::{Cluster, Outcome};

/// `step n1 Heartbeat from=n2 [to=n1] term=3 …`: hands n1 this message.
pub(super) fn step(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let receiver = args.node()?;
    let kind = args.next().ok_or("a message of which kind?")?;
    let message = Message {
        from: args.named_node("from")?.ok_or("a message from whom?")?,
        to: args.named_node("to")?.unwrap_or(receiver),
        term: Term::new(args.number("term")?.ok_or("a message of which term?")?),
        body: body(kind, args)?,
    };
    args.end()?;
    cluster.arrive(receiver, message)
}

fn body(kind: &str, args: &mut Args<'_>) -> Result<Body, String> {
    match kind {
        "RequestVote" | "PreVote" => {
            let (last_log_index, last_log_term) = position(args.named("last").unwrap_or("0@0"))?;
            let leadership_transfer = args.flag("transfer");
            Ok(Body::RequestVote { pre_vote: kind == "PreVote", last_log_index, last_log_term, leadership_transfer })
        }
        "RequestVoteResponse" | "PreVoteResponse" => {
            let granted = args.flag("granted");
            if !granted && !args.flag("refused") {
                return Err("granted or refused?".to_owned());
            }
            Ok(Body::RequestVoteResponse { pre_vote: kind == "PreVoteResponse", granted })
        }
        "AppendEntries" => {
            let (prev_log_index, prev_log_term) = position(args.named("prev").unwrap_or("0@0"))?;
            let entries = args.named("entries").map_or(Ok(Vec::new()), entries)?;
            Ok(Body::AppendEntries { prev_log_index, prev_log_term, entries, leader_commit: index(args, "commit")? })
        }
        "AppendEntriesResponse" => append_response(args),
        "Heartbeat" => {
            Ok(Body::Heartbeat { commit_index: index(args, "commit")?, round: args.number("round")?.unwrap_or(0) })
        }
        "HeartbeatResponse" => {
            Ok(Body::HeartbeatResponse { round: args.number("round")?.unwrap_or(0), promised: false })
        }
        "InstallSnapshot" => {
            let (last_included_index, last_included_term) = position(args.named("last").unwrap_or("0@0"))?;
            Ok(Body::InstallSnapshot { last_included_index, last_included_term })
        }
        "TimeoutNow" => Ok(Body::TimeoutNow),
        "ReadIndex" => Ok(Body::ReadIndex { question: question(args)? }),
        "ReadIndexResponse" => Ok(Body::ReadIndexResponse { question: question(args)?, index: index(args, "index")? }),
        _ => Err(format!("there is no message `{kind}`")),
    }
}

fn append_response(args: &mut Args<'_>) -> Result<Body, String> {
    let result = if args.flag("accepted") {
        AppendResult::Accepted { match_index: index(args, "match")? }
    } else if args.flag("rejected") {
        let (hint_index, hint_term) = position(args.named("hint").unwrap_or("0@0"))?;
        AppendResult::Rejected { prev_log_index: index(args, "prev")?, hint_index, hint_term }
    } else {
        return Err("accepted or rejected?".to_owned());
    };
    Ok(Body::AppendEntriesResponse(result))
}

/// `process=2 question=1`: each node's process has its number.
fn question(args: &mut Args<'_>) -> Result<Question, String> {
    let (process, number) = (args.number("process")?.unwrap_or(0), args.number("question")?.unwrap_or(0));
    Ok(Question { process, number })
}

fn index(args: &mut Args<'_>, name: &str) -> Result<Index, String> {
    Ok(Index::new(args.number(name)?.unwrap_or(0)))
}

/// `entries=4@2:x,5@2:y`; an entry without a command is a no-op.
fn entries(words: &str) -> Result<Vec<Entry>, String> {
    words.split(',').map(entry).collect()
}

fn entry(word: &str) -> Result<Entry, String> {
    let (place, payload) = match word.split_once(':') {
        None => (word, Payload::Noop),
        Some((place, command)) => (place, Payload::Command(Bytes::copy_from_slice(command.as_bytes()))),
    };
    let (index, term) = place.split_once('@').ok_or_else(|| format!("`{word}` is no entry"))?;
    Ok(Entry { index: Index::new(number(index)?), term: Term::new(number(term)?), payload })
}
