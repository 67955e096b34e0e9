//! What happened, in words: for the stories of runs.

use engine::leaderless::{ReplicaBody, ReplicaMessage};
use engine::side::{SideBody, SideMessage};
use raft::{AppendResult, Body, Event, Message};

use crate::history::{Call, Mode, Output};
use crate::settings::Settings;

/// An event of the consensus core.
pub(crate) fn event(event: &Event) -> String {
    match event {
        Event::PreCampaign { term } => format!("hears of no leader, asks whether it would win term {term}"),
        Event::Campaign { term } => format!("campaigns in term {term}"),
        Event::VoteGranted { term, candidate } => format!("votes for {candidate} in term {term}"),
        Event::VoteReceived { term, from } => format!("has the vote of {from} in term {term}"),
        Event::BecameLeader { term } => format!("leads term {term}"),
        Event::BecameFollower { term, leader: Some(leader) } => format!("follows {leader} in term {term}"),
        Event::BecameFollower { term, leader: None } => format!("is in term {term} without a leader"),
        Event::Truncated { after, .. } => format!("drops its entries behind {after}"),
        Event::TransferStarted { target } => format!("hands leadership to {target}"),
        Event::TransferAborted { target } => format!("keeps leadership, {target} did not take over"),
        Event::QuorumLost { term } => format!("hears of no majority, gives up term {term}"),
        Event::Installed { index } => format!("goes on behind a snapshot of {index}"),
        Event::Recovered { term } => format!("has in term {term} all that it had forgotten"),
        Event::DiskStalled { term } => format!("has a disk that stands still, gives up term {term}"),
    }
}

/// A message, by its receiver.
pub(crate) fn message(message: &Message) -> String {
    let Message { from, term, body, .. } = message;
    let said = match body {
        Body::RequestVote { last_log_index, last_log_term, .. } => {
            format!("with a log up to {last_log_index} of term {last_log_term}")
        }
        Body::RequestVoteResponse { granted, .. } => if *granted { "granted" } else { "refused" }.to_owned(),
        Body::AppendEntries { prev_log_index, prev_log_term, entries, leader_commit } => format!(
            "{} entries behind {prev_log_index} of term {prev_log_term}, committed {leader_commit}",
            entries.len()
        ),
        Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) => format!("accepted up to {match_index}"),
        Body::AppendEntriesResponse(AppendResult::Rejected { prev_log_index, hint_index, hint_term }) => {
            format!("rejected {prev_log_index}, try {hint_index} of term {hint_term}")
        }
        Body::Heartbeat { commit_index, round } => format!("committed {commit_index}, round {round}"),
        Body::HeartbeatResponse { round, promised } => {
            format!("round {round}{}", if *promised { ", promised" } else { "" })
        }
        Body::InstallSnapshot { last_included_index, last_included_term } => {
            format!("has a snapshot of {last_included_index} of term {last_included_term}")
        }
        Body::TimeoutNow => "campaign at once".to_owned(),
        Body::ReadIndex { question } => format!("question {}", question.number),
        Body::ReadIndexResponse { question, index } => format!("question {}: {index}", question.number),
    };
    format!("{} from {from} in term {term}: {said}", body.kind())
}

/// A message beside the consensus core's, by its receiver.
pub(crate) fn side_message(message: &SideMessage) -> String {
    let SideMessage { from, body, .. } = message;
    match body {
        SideBody::FetchSnapshot { index, offset } => {
            let index = index.map_or_else(|| "the newest".to_owned(), |index| index.to_string());
            format!("{from} asks for snapshot {index} from byte {offset}")
        }
        SideBody::SnapshotChunk { index, total_bytes, offset, bytes } => {
            let end = offset + bytes.len() as u64;
            format!("bytes {offset} to {end} of the {total_bytes} of snapshot {index} from {from}")
        }
        SideBody::NoSnapshot => format!("{from} has no such snapshot"),
        SideBody::StateHash { index, hash } => format!("{from} has state {hash:032x} after {index}"),
    }
}

/// A message of a read that asks no leader, by its receiver.
pub(crate) fn replica_message(message: &ReplicaMessage) -> String {
    let ReplicaMessage { from, body, .. } = message;
    match body {
        ReplicaBody::Ask(ask) => {
            let keys = ask.questions.iter().map(|(number, key)| format!("{number} {}", String::from_utf8_lossy(key)));
            format!("{from} at revision {} asks for {}", ask.revision, keys.collect::<Vec<_>>().join(", "))
        }
        ReplicaBody::Tell(tell) => {
            let known = tell.answers.iter().map(|(number, known)| format!("{number}: pending {}", known.pending));
            format!("{from} with {} applied says {}", tell.applied, known.collect::<Vec<_>>().join(", "))
        }
    }
}

/// What a client asks for.
pub(crate) fn call(call: &Call) -> String {
    match call {
        Call::Get => "get".to_owned(),
        Call::Delete { expected_revision: None } => "delete".to_owned(),
        Call::Delete { expected_revision: Some(revision) } => format!("delete if of revision {revision}"),
        Call::Put { value, mode } => {
            let condition = match mode {
                Mode::Create => " if missing".to_owned(),
                Mode::Upsert => String::new(),
                Mode::Update => " if there".to_owned(),
                Mode::Compare(revision) => format!(" if of revision {revision}"),
            };
            format!("put v{value}{condition}")
        }
    }
}

/// What a client is told.
pub(crate) fn output(output: &Output) -> String {
    match output {
        Output::Written { revision, version } => format!("written, revision {revision}, version {version}"),
        Output::Deleted { .. } => "deleted".to_owned(),
        Output::Found { value, revision, version } => format!("v{value} of revision {revision}, version {version}"),
        Output::Missing => "missing".to_owned(),
        Output::Exists { revision } => format!("exists, revision {revision}"),
        Output::Mismatch { actual } => format!("not so, it is of revision {actual}"),
    }
}

/// What kind of run it is.
pub(crate) fn settings(settings: &Settings) -> [String; 5] {
    let Settings { voters, size, tick_us, raft, segment_bytes, network, disk, clients, snapshots, sessions, .. } =
        settings;
    let leases = if settings.leases { ", with leases" } else { "" };
    let timeouts = [raft.election_timeout_ticks_min, raft.election_timeout_ticks_max];
    let [shortest, longest] = timeouts.map(|ticks| u64::from(ticks) * tick_us / 1000);
    [
        format!(
            "{voters} nodes that vote and {} that learn, election timeouts {shortest} to {longest} ms{leases}; {} bytes an append, {} in flight, {} \
             uncommitted, {} in the tail, segments of {segment_bytes}",
            size - voters,
            raft.append_bytes_max,
            raft.inflight_messages_max,
            raft.uncommitted_bytes_max,
            raft.tail_bytes_max
        ),
        format!(
            "delays of {:?} us, of a thousand messages {} are lost, {} doubled, {} late, overtaking: {}; commits take \
             {:?} us",
            network.delay_us, network.loss, network.duplicates, network.spikes, network.reorders, disk.commit_us
        ),
        format!(
            "{} clients on {} keys, which wait {} ms for an answer",
            clients.count,
            clients.keys,
            clients.timeout_us / 1000
        ),
        format!(
            "a snapshot every {} bytes of log, in pieces of {}; states compared every {} entries; {:?}",
            snapshots.log_bytes_min, snapshots.chunk_bytes, snapshots.hash_every_entries, settings.kind
        ),
        format!(
            "of a thousand clients {} name their writes, {} keep counters; attempts wait {:?} us, {} are late; \
             {:?}",
            sessions.named, sessions.counters, sessions.attempt_us, sessions.late, sessions.limits
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::node_id;
    use raft::Term;

    #[test]
    fn words_name_what_matters() {
        let granted = Body::RequestVoteResponse { pre_vote: true, granted: true };
        let told = Message { from: node_id(1), to: node_id(0), term: Term::new(4), body: granted };
        assert_eq!(message(&told), "RequestPreVoteResponse from n2 in term 4: granted");
        assert_eq!(event(&Event::BecameLeader { term: Term::new(4) }), "leads term 4");
        let put = Call::Put { value: 7, mode: Mode::Compare(3) };
        assert_eq!(call(&put), "put v7 if of revision 3");
        assert_eq!(output(&Output::Missing), "missing");
    }
}
