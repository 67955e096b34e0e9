//! Commands that show the cluster, and the one that says what must be true.

use raft::{NodeId, ProgressView, Role, Status};

use crate::args::{Args, node_id};
use crate::cluster::{Cluster, Outcome};
use crate::node::Node;
use crate::render;

/// `status [n1 …]`: a line for each node.
pub(super) fn status(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let ids: Vec<NodeId> = match args.rest() {
        words if words.is_empty() => cluster.nodes.keys().copied().collect(),
        words => words.into_iter().map(node_id).collect::<Result<_, _>>()?,
    };
    for id in ids {
        let node = cluster.node(id)?;
        let line = match &node.raft {
            None => format!("{id} is down"),
            Some(raft) => status_line(&raft.status()),
        };
        cluster.trace.tell(line);
    }
    Ok(())
}

fn status_line(status: &Status) -> String {
    let mut line = format!("{}@{} {}", status.id, status.current_term, status.role.as_str());
    if status.role == Role::Follower {
        line.push_str(&format!("({})", render::node_or_nobody(status.leader)));
    }
    line.push_str(&format!(
        " vote={} last={}@{} durable={} commit={} applied={}",
        render::node_or_nobody(status.voted_for),
        status.last_index,
        status.last_term,
        status.durable_index,
        status.commit_index,
        status.applied
    ));
    for (peer, progress) in &status.progress {
        if *peer != status.id {
            line.push_str(&progress_text(*peer, progress));
        }
    }
    line
}

/// ` n2:4→5 replicate`: match index, next index, state; `?` behind a peer that was not heard of lately.
fn progress_text(peer: NodeId, progress: &ProgressView) -> String {
    let silent = if progress.active { "" } else { "?" };
    format!(" {}{silent}:{}→{} {}", peer, progress.match_index, progress.next_index, progress.state)
}

/// `log [n1 …]`: the log of each node; entries behind `|` are not durable yet.
pub(super) fn log(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let ids: Vec<NodeId> = match args.rest() {
        words if words.is_empty() => cluster.nodes.keys().copied().collect(),
        words => words.into_iter().map(node_id).collect::<Result<_, _>>()?,
    };
    for id in ids {
        let line = log_line(cluster.node(id)?);
        cluster.trace.tell(line);
    }
    Ok(())
}

fn log_line(node: &Node) -> String {
    let same = |at: &usize| node.durable.entries.get(*at) == node.written.entries.get(*at);
    let durable = (0..node.written.entries.len()).take_while(same).count();
    let (safe, unsafe_tail) = node.written.entries.split_at(durable);
    let mut line = format!("{} log: {}", node.id, render::all_entries(safe));
    if !unsafe_tail.is_empty() {
        line.push_str(&format!(" | {}", render::all_entries(unsafe_tail)));
    }
    line
}

/// `expect n1 role=leader term=2 commit=3`: fails the script, also when it is being rewritten, if it is not so.
/// `log=1@1,2@1` compares the whole log.
pub(super) fn expect(cluster: &mut Cluster, args: &mut Args<'_>) -> Outcome {
    let ids: Result<Vec<NodeId>, String> = args.rest().into_iter().map(node_id).collect();
    let wanted = args.rest_named();
    for id in ids? {
        for (name, value) in &wanted {
            let actual = property(cluster.node(id)?, name)?;
            if actual != *value {
                return Err(format!("{id}: expected {name}={value}, is {actual}"));
            }
        }
    }
    Ok(())
}

fn property(node: &Node, name: &str) -> Result<String, String> {
    if name == "log" {
        let places = node.written.entries.iter().map(|entry| format!("{}@{}", entry.index, entry.term));
        return Ok(places.collect::<Vec<String>>().join(","));
    }
    let Some(raft) = &node.raft else { return Ok("down".to_owned()) };
    let status = raft.status();
    Ok(match name {
        "role" => status.role.as_str().to_owned(),
        "term" => status.current_term.to_string(),
        "vote" => render::node_or_nobody(status.voted_for),
        "leader" => render::node_or_nobody(status.leader),
        "last" => status.last_index.to_string(),
        "durable" => status.durable_index.to_string(),
        "commit" => status.commit_index.to_string(),
        "applied" => status.applied.to_string(),
        _ => return Err(format!("a node has no `{name}`")),
    })
}
