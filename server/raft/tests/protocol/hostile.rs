//! Nonsense from peers: damaged, forged, misdirected. It is refused without effect, and never brings a node down.

use crate::node::*;
use proptest::prelude::*;
use raft::{AppendResult, Body, Configuration, Entry, Message, NodeId, Payload, Question, Refused, Role};

#[test]
fn each_kind_of_nonsense_is_refused_without_effect() {
    let huge = u64::MAX;
    let question = Question { process: 1, number: 1 };
    let gap = vec![entry(2, 3), entry(2, 5)];
    let cases = [
        (2, 0, heartbeat(0, 0), Refused::TermZero),
        (2, huge, heartbeat(0, 0), Refused::TermTooFarAhead),
        (1, 2, heartbeat(0, 0), Refused::FromSelf),
        (9, 2, heartbeat(0, 0), Refused::UnknownSender),
        (9, 9, vote_request((9, 8)), Refused::UnknownSender),
        (2, 2, append((2, 2), gap, 0), Refused::MalformedEntries),
        (2, 2, append((2, 2), vec![entry(2, 2)], 0), Refused::MalformedEntries),
        (2, 2, append((2, 2), vec![entry(2, 3), entry(1, 4)], 0), Refused::MalformedEntries),
        (2, 2, append((2, 2), vec![entry(1, 3)], 0), Refused::MalformedEntries),
        (2, 2, append((2, 2), vec![entry(3, 3)], 0), Refused::MalformedEntries),
        (2, 2, append((2, 3), vec![], 0), Refused::MalformedEntries),
        (2, 2, append((0, 0), vec![entry(0, 1)], 0), Refused::MalformedEntries),
        (2, 2, append((0, 1), vec![], 0), Refused::MalformedEntries),
        (2, 2, append((2, 0), vec![], 0), Refused::MalformedEntries),
        (2, 2, append((huge, 2), vec![], 0), Refused::MalformedEntries),
        (2, 2, append((huge, 2), vec![entry(2, huge)], 0), Refused::MalformedEntries),
        (2, 2, append((huge - 1, 2), vec![entry(2, huge)], 0), Refused::MalformedEntries),
        (2, 2, heartbeat(3, 0), Refused::CommitBeyondLog),
        (2, 2, heartbeat(huge, huge), Refused::CommitBeyondLog),
        (2, 3, vote_request((2, 3)), Refused::MalformedVote),
        (2, 3, vote_request((0, 1)), Refused::MalformedVote),
        (2, 3, vote_request((1, 0)), Refused::MalformedVote),
        (2, 3, request((2, 2), true, true), Refused::MalformedVote),
        (2, 2, rejected(1, (2, 2)), Refused::MalformedResponse),
        (2, 2, rejected(3, (0, 2)), Refused::MalformedResponse),
        (2, 2, rejected(3, (2, 3)), Refused::MalformedResponse),
        (2, 2, offer(0, 0), Refused::MalformedSnapshot),
        (2, 2, offer(3, 0), Refused::MalformedSnapshot),
        (2, 2, offer(3, 3), Refused::MalformedSnapshot),
        (2, 2, offer(huge, 2), Refused::MalformedSnapshot),
        (2, 2, accepted(1), Refused::UnexpectedKind),
        (2, 2, Body::HeartbeatResponse { round: 0, promised: false }, Refused::UnexpectedKind),
        (2, 2, vote(true), Refused::UnexpectedKind),
        (2, 3, pre_vote(true), Refused::UnexpectedKind),
        (2, 2, Body::ReadIndex { question }, Refused::UnexpectedKind),
        (2, 1, Body::ReadIndex { question }, Refused::StaleTerm),
        (2, 3, Body::ReadIndex { question }, Refused::UnexpectedKind),
        (2, 2, Body::ReadIndexResponse { question, index: index(huge) }, Refused::NotOurLeader),
        (2, 1, Body::ReadIndexResponse { question, index: index(1) }, Refused::StaleTerm),
        (2, 2, Body::TimeoutNow, Refused::NotOurLeader),
        (2, 3, Body::TimeoutNow, Refused::NotOurLeader),
    ];
    for (from, message_term, body, expected) in cases {
        let mut node = Node::with_log(3, 2, &[1, 2]);
        node.pump();
        let before = node.raft.status();
        assert_eq!(node.receive(from, message_term, body.clone()), Err(expected), "{body:?}");
        assert_eq!(node.raft.status(), before, "{body:?}");
        assert!(!node.raft.has_ready(), "{body:?}");
    }
    let mut node = Node::first_of(3);
    let misdirected = Message { from: id(2), to: id(3), term: term(1), body: heartbeat(0, 0) };
    assert_eq!(node.raft.step(misdirected), Err(Refused::NotForUs));
}

#[test]
fn an_index_far_beyond_the_log_is_only_rejected() {
    let mut node = Node::with_log(3, 2, &[1, 2]);
    let answers = node.answer(2, 2, append((u64::MAX - 1, 2), vec![], u64::MAX));
    assert_eq!(answers[0].body, rejected(u64::MAX - 1, (2, 2)));
}

/// A number that is small, or at an edge.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..8_u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => Just(1 << 32), 1 => any::<u64>()]
}

fn any_entries() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop_oneof![
        // Anything, and what could be right: contiguous, of one term.
        prop::collection::vec((number(), number()), 0..4),
        (0..6_u64, 1..6_u64, 0..4_u64)
            .prop_map(|(term, first, count)| (first..first + count).map(|index| (term, index)).collect()),
    ]
}

fn any_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (any::<bool>(), number(), number(), any::<bool>()).prop_map(|(pre_vote, index, term, transfer)| request(
            (index, term),
            pre_vote,
            transfer
        )),
        (any::<bool>(), any::<bool>()).prop_map(|(pre_vote, granted)| Body::RequestVoteResponse { pre_vote, granted }),
        (number(), number(), any_entries(), number()).prop_map(|(prev_index, prev_term, entries, commit)| {
            let entries = entries.into_iter().map(|(entry_term, entry_index)| Entry {
                term: term(entry_term),
                index: index(entry_index),
                payload: Payload::Noop,
            });
            append((prev_index, prev_term), entries.collect(), commit)
        }),
        number().prop_map(accepted),
        (number(), number()).prop_map(|(last_index, last_term)| offer(last_index, last_term)),
        (number(), number(), number()).prop_map(|(prev, hint, term)| rejected(prev, (hint, term))),
        (number(), number()).prop_map(|(commit, round)| heartbeat(commit, round)),
        (number(), any::<bool>()).prop_map(|(round, promised)| Body::HeartbeatResponse { round, promised }),
        Just(Body::TimeoutNow),
        any_question().prop_map(|question| Body::ReadIndex { question }),
        (any_question(), number()).prop_map(|(question, at)| Body::ReadIndexResponse { question, index: index(at) }),
    ]
}

/// Of the node's first process, or of another.
fn any_question() -> impl Strategy<Value = Question> {
    let process = prop_oneof![3 => Just(1), 1 => number()];
    (process, number()).prop_map(|(process, number)| Question { process, number })
}

/// What happens to the node: mostly messages, with a little life in between.
#[derive(Clone, Debug)]
enum Input {
    Message(Message),
    Ticks(u32),
    Propose,
    Read,
    Sync,
    Ready,
    Crash,
    Compact(u64),
    /// A snapshot with entries of these terms.
    Install(Vec<u64>),
    Transfer(u64),
    Unreachable(u64),
    Gone(u64),
}

fn any_input() -> impl Strategy<Value = Input> {
    let node = || (1..=6_u64).prop_map(|number| NodeId::new(number).expect("not zero"));
    let to = prop_oneof![19 => Just(id(1)), 1 => node()];
    let message = (node(), to, number(), any_body()).prop_map(|(from, to, message_term, body)| Message {
        from,
        to,
        term: term(message_term),
        body,
    });
    prop_oneof![
        20 => message.prop_map(Input::Message),
        2 => (1..30_u32).prop_map(Input::Ticks),
        1 => Just(Input::Propose),
        1 => Just(Input::Read),
        2 => Just(Input::Sync),
        4 => Just(Input::Ready),
        1 => Just(Input::Crash),
        1 => (0..8_u64).prop_map(Input::Compact),
        1 => prop::collection::vec(0..5_u64, 1..8).prop_map(Input::Install),
        1 => (1..=6_u64).prop_map(Input::Transfer),
        1 => (1..=6_u64).prop_map(Input::Unreachable),
        1 => (1..=6_u64).prop_map(Input::Gone),
    ]
}

fn feed(node: &mut Node, input: Input) {
    match input {
        Input::Message(message) => {
            let before = node.raft.status();
            let had_ready = node.raft.has_ready();
            if node.raft.step(message).is_err() {
                assert_eq!(node.raft.status(), before, "a refused message changed something");
                assert_eq!(node.raft.has_ready(), had_ready, "a refused message is answered");
            }
        }
        Input::Ticks(count) => (0..count).for_each(|_| node.raft.tick()),
        Input::Propose => drop(node.raft.propose("a".into())),
        Input::Read => drop(node.raft.read(raft::ReadId::new(1))),
        Input::Sync => node.sync_one(),
        Input::Ready => drop(node.pump()),
        Input::Crash => node.crash(1),
        Input::Compact(last) => {
            node.take_snapshot();
            node.cut(last);
        }
        Input::Install(terms) => drop(node.install(&entries(&terms))),
        Input::Transfer(target) => drop(node.raft.transfer_leadership(id(target))),
        Input::Unreachable(peer) => node.raft.unreachable(id(peer)),
        Input::Gone(peer) => node.raft.peer_gone(id(peer)),
    }
    node.raft.check_invariants();
}

fn start(role: u32) -> Node {
    let configuration = match role % 2 {
        0 => voters(3).with_learners([id(4)]),
        _ => Configuration::joint([id(1), id(2)], [id(2), id(3), id(5)]).with_learners([id(4)]),
    };
    let mut node = Node::new(options(1), configuration, Disk::with(2, &[1, 1, 2]));
    if role / 2 > 0 {
        node.campaign();
    }
    if role / 2 > 1 {
        for voter in [2, 3, 5] {
            let _ = node.receive(voter, 3, vote(true));
        }
        node.pump();
        assert_eq!(node.raft.role(), Role::Leader);
        let _ = node.receive(2, 3, Body::AppendEntriesResponse(AppendResult::Accepted { match_index: index(2) }));
    }
    node.disk_is_fast = false;
    node
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_messages_never_panic(role in 0..6_u32, inputs in prop::collection::vec(any_input(), 1..60)) {
        let mut node = start(role);
        for input in inputs {
            feed(&mut node, input);
        }
    }
}
