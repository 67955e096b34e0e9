//! Arbitrary messages to a real node, between ticks, proposals, reads, syncs and restarts.
//!
//! The first byte chooses where the node begins: its role and its configuration. Then inputs follow. Numbers in
//! messages are small, near the node's own terms and indexes, or at an edge: see [`Input::number`].

use bytes::Bytes;
use raft::{
    AppendResult, Body, Configuration, Entry, HardState, Index, Message, NodeId, Payload, Question, Role, Term,
};

use crate::hunting::Outcome;
use crate::input::Input;
use crate::node::{Disk, Node, SEED, entries, node_id};

/// No input has more steps than this: what breaks after more of them breaks after few from another beginning.
const STEPS_MAX: usize = 256;

/// A follower's question for its reads: one of the kinds of messages, of which peers' frames are made as well.
pub const READ_INDEX: u8 = 13;
/// An offer of a snapshot: another.
pub const OFFER: u8 = 14;
/// The answer to a follower's question.
pub const READ_INDEX_RESPONSE: u8 = 16;

/// An input's kind is its byte modulo this. Below [`TICKS`] it is a message.
pub const KINDS: u8 = 35;
/// Some ticks: their number follows.
pub const TICKS: u8 = 18;
/// A command is proposed: its length follows.
pub const PROPOSE: u8 = 20;
/// A read is asked for.
pub const READ: u8 = 21;
/// The oldest batch becomes durable.
pub const SYNC: u8 = 22;
/// The driver does what there is to do.
pub const PUMP: u8 = 24;
/// The oldest fetch is answered: a byte says whether with entries.
pub const FETCH: u8 = 27;
/// The process restarts: a byte says how many batches more are on the disk.
pub const RESTART: u8 = 28;
/// Leadership is to be handed over: to whom follows.
pub const TRANSFER: u8 = 29;
/// A peer cannot be reached: which follows.
pub const UNREACHABLE: u8 = 30;
/// What was handed out is applied.
pub const APPLY: u8 = 31;
/// A snapshot is taken, and the log cut off behind it: how many entries of it stay follows.
pub const COMPACT: u8 = 32;
/// A snapshot of a peer's arrives: its last index and how many runs of terms it has follow, and of each run the number
/// of entries and the term. From 128 runs on it is a snapshot of this log instead, up to that index.
pub const INSTALL: u8 = 33;
/// The process restarts with a part of its log, term and vote lost: how many entries are left follows.
pub const FORGET: u8 = 34;

/// The roots, chosen by the first byte modulo 8. This one has an empty log.
pub const ROOT_EMPTY: u8 = 0;
/// A follower with a log that knows of no leader.
pub const ROOT_FOLLOWER: u8 = 1;
/// A follower of node 2.
pub const ROOT_FOLLOWING: u8 = 2;
/// Asks for pre-votes.
pub const ROOT_PRE_CANDIDATE: u8 = 3;
/// Asks for votes.
pub const ROOT_CANDIDATE: u8 = 4;
/// A leader that nobody has answered yet.
pub const ROOT_LEADER: u8 = 5;
/// A leader with an up-to-date follower, whose earlier entries are committed and no longer in memory.
pub const ROOT_OLD_LEADER: u8 = 6;
/// A leader with something uncommitted that hands over.
pub const ROOT_TRANSFERRING: u8 = 7;
/// Added to a root: its configuration is joint.
pub const JOINT: u8 = 8;

/// Added to a root: its terms are nearly used up.
pub const LATE: u8 = 16;

/// The term in the log of all roots but [`ROOT_EMPTY`]; who leads does so in the next.
const TERM: u64 = 2;

/// The same of roots whose terms are nearly used up.
const LATE_TERM: u64 = u64::MAX - 8;

/// Runs one input: messages to a core, with a driver that does its part.
///
/// # Panics
/// On a finding.
pub fn run(input: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut input = Input::new(input);
    let mut node = root(input.u8());
    let mut term_max = node.raft.current_term().get();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        step(&mut node, &mut input, &mut outcome);
        // A message raises the term by 2^32 at most, an election by one.
        term_max = term_max.saturating_add((1 << 32) + 64);
        assert!(node.raft.current_term().get() <= term_max, "the term ran away to {}", node.raft.current_term());
        outcome.mark(node.raft.role().as_str());
    }
    node.check_useful();
    outcome
}

/// One step of an input.
pub(crate) fn step(node: &mut Node, input: &mut Input<'_>, outcome: &mut Outcome) {
    match input.u8() % KINDS {
        kind @ 0..TICKS => {
            let message = message(node, kind, input);
            let kind = message.body.kind();
            match node.step(message) {
                Ok(()) => outcome.accept(kind),
                Err(refused) => outcome.refuse(refused.as_str()),
            }
        }
        TICKS..PROPOSE => node.tick(u32::from(input.u8()) % 32 + 1),
        PROPOSE => {
            let command = Bytes::from(vec![b'p'; input.below(256)]);
            if node.input(|raft| raft.propose(command)).is_ok() {
                outcome.mark("proposed");
            }
        }
        READ => drop(node.read()),
        SYNC..PUMP => node.sync_one(),
        PUMP..FETCH => node.pump(),
        FETCH => {
            let found = !input.bool();
            node.answer_fetch(found);
        }
        RESTART => {
            let written = input.below(4);
            node.restart(written);
            outcome.mark("restarted");
        }
        TRANSFER => {
            let target = sender(input.u8());
            if node.input(|raft| raft.transfer_leadership(target)).is_ok() {
                outcome.mark("transferring");
            }
        }
        UNREACHABLE => {
            let peer = sender(input.u8());
            node.input(|raft| raft.unreachable(peer));
        }
        APPLY => node.apply(),
        COMPACT => {
            node.compact(u64::from(input.u8()));
            outcome.mark("compacted");
        }
        INSTALL => {
            let (last_index, term_starts) = snapshot(node, input);
            if node.install(last_index, term_starts) {
                outcome.mark("installed");
            }
        }
        _ => {
            node.forget(input.below(16));
            outcome.mark("forgotten");
        }
    }
    if node.raft.status().recovering {
        outcome.mark("recovers");
    }
}

/// A snapshot's last index and terms.
fn snapshot(node: &Node, input: &mut Input<'_>) -> (Index, Vec<(Index, Term)>) {
    let status = node.raft.status();
    let last_index =
        input.number([status.last_index, status.commit_index, status.durable_index, status.applied].map(Index::get));
    let runs = input.u8();
    if runs >= 128 {
        return (Index::new(last_index), node.raft.term_starts(Index::new(last_index)));
    }
    let (mut starts, mut first) = (Vec::new(), 1_u64);
    for _ in 0..runs % 8 {
        let count = u64::from(input.u8());
        let term =
            input.number([status.current_term, status.last_term, status.current_term, Term::new(1)].map(Term::get));
        starts.push((Index::new(first), Term::new(term)));
        first = first.saturating_add(count);
    }
    (Index::new(last_index), starts)
}

/// Whom a byte names: mostly the other voters, sometimes a learner, a stranger or the node itself.
fn sender(byte: u8) -> NodeId {
    const NODES: [u64; 8] = [2, 3, 2, 3, 4, 5, 1, u64::MAX];
    node_id(NODES[usize::from(byte % 8)])
}

/// A message of any content. Its kind is chosen by `kind`, which is below [`TICKS`].
pub(crate) fn message(node: &Node, kind: u8, input: &mut Input<'_>) -> Message {
    let envelope = input.u8();
    let from = sender(envelope);
    let to = if envelope >> 3 == 31 { node_id(3) } else { node.raft.id() };
    let status = node.raft.status();
    let terms = [status.current_term.get(), status.last_term.get(), status.current_term.get().wrapping_add(1), 1];
    let progress = status.progress.first().map_or(0, |(_, progress)| progress.match_index.get());
    let indexes = [status.last_index, status.commit_index, status.durable_index, Index::new(progress)].map(Index::get);
    let term = Term::new(input.number(terms));
    let body = match kind {
        0..6 => append(node, input, terms, indexes, term),
        6 => Body::RequestVote {
            pre_vote: input.bool(),
            last_log_index: Index::new(input.number(indexes)),
            last_log_term: Term::new(input.number(terms)),
            leadership_transfer: input.bool(),
        },
        7 => Body::RequestVote {
            pre_vote: false,
            last_log_index: status.last_index,
            last_log_term: status.last_term,
            leadership_transfer: input.bool(),
        },
        8 => Body::RequestVoteResponse { pre_vote: input.bool(), granted: !input.bool() },
        9 | 10 => {
            let match_index = Index::new(input.number(indexes));
            Body::AppendEntriesResponse(AppendResult::Accepted { match_index })
        }
        11 => Body::AppendEntriesResponse(AppendResult::Rejected {
            prev_log_index: Index::new(input.number(indexes)),
            hint_index: Index::new(input.number(indexes)),
            hint_term: Term::new(input.number(terms)),
        }),
        OFFER => Body::InstallSnapshot {
            last_included_index: Index::new(input.number(indexes)),
            last_included_term: Term::new(input.number(terms)),
        },
        READ_INDEX => Body::ReadIndex { question: question(input) },
        12 => {
            let commit_index = Index::new(input.number(indexes));
            Body::Heartbeat { commit_index, round: input.number([0, 1, 2, 3]) }
        }
        15 => {
            let round = input.number([0, 1, 2, 3]);
            Body::HeartbeatResponse { round, promised: input.number([0, 1, 0, 1]) == 1 }
        }
        READ_INDEX_RESPONSE => {
            let question = question(input);
            Body::ReadIndexResponse { question, index: Index::new(input.number(indexes)) }
        }
        _ => Body::TimeoutNow,
    };
    Message { from, to, term, body }
}

/// A question of this node's process or of another, with a small number or any.
fn question(input: &mut Input<'_>) -> Question {
    let process = input.number([SEED, 0, 1, 2]);
    Question { process, number: input.number([0, 1, 2, 3]) }
}

/// AppendEntries: a header byte says how many entries there are (its low three bits), whether each is described by
/// itself or they follow each other (bit 3), and whether the previous position is one of this log (bit 4).
fn append(node: &Node, input: &mut Input<'_>, terms: [u64; 4], indexes: [u64; 4], message_term: Term) -> Body {
    let header = input.u8();
    let prev_log_index = input.number(indexes);
    let prev_log_term = if header & 0x10 == 0 {
        // What most messages say: a position of this log, or one behind it.
        node.raft.term_at(Index::new(prev_log_index)).map_or(terms[1], Term::get)
    } else {
        input.number(terms)
    };
    let mut entries = Vec::new();
    for offset in 1..=u64::from(header & 7) {
        let (term, index) = if header & 8 == 0 {
            (message_term.get(), prev_log_index.wrapping_add(offset))
        } else {
            (input.number(terms), input.number(indexes))
        };
        let length = input.u8();
        let payload = match length {
            0 => Payload::Noop,
            _ => Payload::Command(Bytes::from(vec![b'a'; usize::from(length)])),
        };
        entries.push(Entry { term: Term::new(term), index: Index::new(index), payload });
    }
    Body::AppendEntries {
        prev_log_index: Index::new(prev_log_index),
        prev_log_term: Term::new(prev_log_term),
        entries,
        leader_commit: Index::new(input.number(indexes)),
    }
}

/// A node with some history.
pub(crate) fn root(choice: u8) -> Node {
    let configuration = if choice & JOINT == 0 {
        Configuration::new((1..=3).map(node_id)).with_learners([node_id(4)])
    } else {
        Configuration::joint([1, 2].map(node_id), [2, 3, 5].map(node_id)).with_learners([node_id(4)])
    };
    let (root, term) = (choice % 8, if choice & LATE == 0 { TERM } else { LATE_TERM });
    if root == ROOT_EMPTY {
        return Node::new(configuration, Disk::default());
    }
    let hard_state = HardState { current_term: Term::new(term), voted_for: None, commit_index: Index::new(2) };
    let log = entries(&[1, 1, 1, term, term]);
    let mut node = Node::new(configuration, Disk { hard_state, entries: log, ..Disk::default() });
    match root {
        ROOT_FOLLOWING => {
            let heartbeat = Body::Heartbeat { commit_index: Index::new(3), round: 0 };
            say(&mut node, 2, term, heartbeat);
        }
        ROOT_PRE_CANDIDATE => campaign(&mut node, Role::PreCandidate),
        ROOT_CANDIDATE => campaign(&mut node, Role::Candidate),
        ROOT_LEADER => campaign(&mut node, Role::Leader),
        ROOT_OLD_LEADER | ROOT_TRANSFERRING => {
            campaign(&mut node, Role::Leader);
            for follower in [2, 3] {
                accept(&mut node, follower, 6);
            }
            assert_eq!(node.raft.commit_index(), Index::new(6), "a leader commits what all have");
            if root == ROOT_TRANSFERRING {
                node.input(|raft| raft.propose(Bytes::from_static(b"uncommitted"))).expect("it leads");
                node.input(|raft| raft.transfer_leadership(node_id(2))).expect("it leads");
            }
        }
        _ => {}
    }
    node.settle();
    node
}

/// Lets a node become `role`, with the votes of all others.
fn campaign(node: &mut Node, role: Role) {
    let term = node.raft.current_term().get() + 1;
    while node.raft.role() == Role::Follower {
        node.tick(1);
    }
    node.settle();
    for pre_vote in [true, false] {
        for voter in node.raft.configuration().all_voters() {
            let asks = match node.raft.role() {
                Role::PreCandidate => pre_vote && role != Role::PreCandidate,
                Role::Candidate => !pre_vote && role == Role::Leader,
                Role::Follower | Role::Leader => false,
            };
            if asks && voter != node.raft.id() {
                say(node, voter.get(), term, Body::RequestVoteResponse { pre_vote, granted: true });
            }
        }
        node.settle();
    }
    assert_eq!(node.raft.role(), role, "all votes make a {}", role.as_str());
}

fn accept(node: &mut Node, follower: u64, match_index: u64) {
    let (match_index, term) = (Index::new(match_index), node.raft.current_term().get());
    say(node, follower, term, Body::AppendEntriesResponse(AppendResult::Accepted { match_index }));
    node.settle();
}

/// An honest message.
fn say(node: &mut Node, from: u64, term: u64, body: Body) {
    let message = Message { from: node_id(from), to: node.raft.id(), term: Term::new(term), body };
    if node.raft.configuration().contains(message.from) {
        node.step(message).expect("an honest message is accepted");
    }
}
