//! What correct nodes can say to each other, written down a second time: the judge of what the core accepts and sends.

use raft::{AppendResult, Body, Configuration, Entry, Index, Message, Options, Raft, Role, Status, Term};

/// How far ahead of a node's own term a message may be.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

/// Why no correct peer can say this to a node of that status; `None` if one can.
pub(crate) fn impossible(message: &Message, raft: &Raft, status: &Status) -> Option<&'static str> {
    let Message { from, to, term, body } = message;
    if *to != status.id {
        return Some("it is for another node");
    }
    if *from == status.id {
        return Some("it is from the node itself");
    }
    if !status.configuration.contains(*from) {
        return Some("it is from a stranger");
    }
    if *term == Term::ZERO {
        return Some("nothing is said in term zero");
    }
    if term.get() == u64::MAX {
        return Some("no term could follow");
    }
    if term.get() > status.current_term.get().saturating_add(TERMS_AHEAD_MAX) {
        return Some("its term is too far ahead");
    }
    match body {
        Body::RequestVote { pre_vote, last_log_index, last_log_term, leadership_transfer } => {
            let possible = is_position(*last_log_index, *last_log_term) && last_log_term < term;
            (!possible || (*pre_vote && *leadership_transfer)).then_some("its fields contradict each other")
        }
        Body::AppendEntries { prev_log_index, prev_log_term, entries, .. } => {
            impossible_entries(*term, *prev_log_index, *prev_log_term, entries)
                .or_else(|| contradiction(*term, *prev_log_index, *prev_log_term, entries, raft, status))
        }
        Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) => {
            let claims = status.role == Role::Leader && *term == status.current_term;
            (claims && *match_index > status.last_index).then_some("it has what its leader has not")
        }
        Body::AppendEntriesResponse(AppendResult::Rejected { prev_log_index, hint_index, hint_term }) => {
            let possible = is_position(*hint_index, *hint_term) && hint_term <= term && hint_index <= prev_log_index;
            (!possible).then_some("its hint contradicts the rest")
        }
        Body::Heartbeat { commit_index, .. } => {
            let follows = *term >= status.current_term;
            (follows && *commit_index > status.last_index).then_some("it commits what the node does not have")
        }
        Body::InstallSnapshot { last_included_index, last_included_term } => {
            let (index, last_term) = (*last_included_index, *last_included_term);
            if index.get() == 0 || index.get() == u64::MAX || last_term.get() == 0 || last_term > *term {
                return Some("it is a snapshot of nothing that can be");
            }
            contradiction(*term, index, last_term, &[], raft, status)
        }
        Body::TimeoutNow => (status.leader != Some(*from)).then_some("only the leader hands over"),
        Body::ReadIndex { .. } => (*term > status.current_term).then_some("nobody follows the node in that term"),
        Body::ReadIndexResponse { .. } => (status.leader != Some(*from)).then_some("only the leader answers"),
        Body::RequestVoteResponse { .. } | Body::HeartbeatResponse { .. } => None,
    }
}

/// Both or neither are zero.
fn is_position(index: Index, term: Term) -> bool {
    (index.get() == 0) == (term.get() == 0)
}

fn impossible_entries(term: Term, index: Index, prev_term: Term, entries: &[Entry]) -> Option<&'static str> {
    let behind = index.get().checked_add(entries.len() as u64 + 1);
    if behind.is_none() {
        return Some("its indexes do not fit");
    }
    if !is_position(index, prev_term) {
        return Some("its previous position is none");
    }
    let mut last = (index.get(), prev_term.get());
    for entry in entries {
        let follows = entry.index.get() == last.0 + 1 && entry.term.get() >= last.1.max(1);
        if !follows {
            return Some("its entries do not follow each other");
        }
        last = (entry.index.get(), entry.term.get());
    }
    (last.1 > term.get()).then_some("its entries are from the future")
}

/// What is committed here is in the log of every later leader.
fn contradiction(
    term: Term,
    index: Index,
    prev_term: Term,
    entries: &[Entry],
    raft: &Raft,
    status: &Status,
) -> Option<&'static str> {
    let positions = std::iter::once((index, prev_term)).chain(entries.iter().map(|entry| (entry.index, entry.term)));
    let committed = positions.take_while(|(index, _)| *index <= status.commit_index);
    let contradicts = committed.into_iter().any(|(index, term)| raft.term_at(index) != Some(term));
    (term >= status.current_term && contradicts).then_some("it overwrites what is committed")
}

/// What a crash must not be able to break: it waits for the disk.
pub(crate) fn is_promise(body: &Body) -> bool {
    match body {
        Body::RequestVote { pre_vote, .. } => !pre_vote,
        Body::RequestVoteResponse { pre_vote, granted } => *granted && !pre_vote,
        Body::AppendEntriesResponse(AppendResult::Accepted { .. }) => true,
        Body::AppendEntriesResponse(AppendResult::Rejected { .. })
        | Body::AppendEntries { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatResponse { .. }
        | Body::InstallSnapshot { .. }
        | Body::TimeoutNow
        | Body::ReadIndex { .. }
        | Body::ReadIndexResponse { .. } => false,
    }
}

/// A message that the core wants to send: to another member, well formed, and not too large.
pub(crate) fn check_sent(message: &Message, configuration: &Configuration, options: &Options) {
    let Message { from, to, term, body } = message;
    assert_eq!(*from, options.id, "it is sent in another's name: {message:?}");
    assert_ne!(to, from, "it is sent to the node itself: {message:?}");
    assert!(configuration.contains(*to), "it is sent to a stranger: {message:?}");
    assert_ne!(*term, Term::ZERO, "it is sent in term zero: {message:?}");
    if let Body::InstallSnapshot { last_included_index, last_included_term } = body {
        let possible = last_included_index.get() > 0 && last_included_term.get() > 0 && last_included_term <= term;
        assert!(possible, "a snapshot of nothing is offered: {message:?}");
    }
    if let Body::AppendEntries { prev_log_index, prev_log_term, entries, .. } = body {
        assert_eq!(impossible_entries(*term, *prev_log_index, *prev_log_term, entries), None, "{message:?}");
        let bytes: usize = entries.iter().map(Entry::size_bytes).sum();
        assert!(bytes <= options.append_bytes_max || entries.len() == 1, "{bytes} bytes in one message");
    }
}
