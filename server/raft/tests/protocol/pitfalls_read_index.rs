//! Linearizable reads at followers: the question to the leader, its answer, and what must not pass for one.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Body, Configuration, Message, Question, READS_MAX, ReadError, ReadId, Refused};

fn read(number: u64) -> ReadId {
    ReadId::new(number)
}

/// The question `number` of node `of` in its first process.
fn question(of: u64, number: u64) -> Question {
    Question { process: of, number }
}

fn ask(question: Question) -> Body {
    Body::ReadIndex { question }
}

fn told(question: Question, at: u64) -> Body {
    Body::ReadIndexResponse { question, index: index(at) }
}

/// Node 1 of three follows node 2 in term 2.
fn follower() -> Node {
    let mut node = Node::with_log(3, 2, &[1, 2]);
    node.answer(2, 2, heartbeat(0, 0));
    node
}

/// A leader of term 1 of so many voters that has committed an entry of its term.
fn leader_of(voters: u64) -> Node {
    let mut leader = Node::leader_of(voters);
    (2..=voters / 2 + 1).for_each(|voter| drop(leader.answer(voter, 1, accepted(1))));
    leader
}

fn questions(messages: &[Message]) -> Vec<Question> {
    let question = |message: &Message| match message.body {
        Body::ReadIndex { question } => Some(question),
        _ => None,
    };
    messages.iter().filter_map(question).collect()
}

#[test]
fn a_leader_of_three_answers_a_voter_at_once() {
    let mut leader = leader_of(3);
    leader.propose("uncommitted");
    leader.pump();
    let answers = leader.answer(3, 1, ask(question(3, 1)));
    assert_eq!(
        answers.iter().map(|answer| (answer.to, &answer.body)).collect::<Vec<_>>(),
        [(id(3), &told(question(3, 1), 1))]
    );
}

#[test]
fn a_leader_that_makes_no_majority_with_the_asker_asks_a_round() {
    // Four voters, five, a joint configuration in one half of which the two are not enough, and a learner that asks.
    let joint = Configuration::joint([id(1), id(2), id(3)], [id(1), id(4), id(5)]);
    let configurations = [
        (voters(4), vec![2, 3], 2),
        (voters(5), vec![2, 3], 2),
        (joint, vec![2, 4], 2),
        (voters(3).with_learners([id(6)]), vec![2], 6),
    ];
    for (configuration, majority, asker) in configurations {
        let mut leader = Node::new(options(1), configuration, Disk::default());
        leader.campaign();
        majority.iter().for_each(|&voter| leader.receive(voter, 1, vote(true)).expect("a vote"));
        leader.pump();
        majority.iter().for_each(|&voter| drop(leader.answer(voter, 1, accepted(1))));
        let messages = leader.answer(asker, 1, ask(question(asker, 1)));
        assert!(messages.iter().all(|message| message.body == heartbeat(1, 1) || message.body == heartbeat(0, 1)));
        let mut answers = Vec::new();
        for &voter in &majority {
            assert_eq!(answers, [], "before a majority has answered the round");
            answers = leader.answer(voter, 1, Body::HeartbeatResponse { round: 1, promised: false });
        }
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].to, &answers[0].body), (id(asker), &told(question(asker, 1), 1)));
    }
}

#[test]
fn a_leader_answers_nobody_before_an_entry_of_its_own_term_is_committed() {
    // Entry 1 of the term before may be committed, and this leader does not know.
    let mut leader = Node::leader_with_log(3, 1, &[1]);
    assert_eq!(leader.answer(2, 2, ask(question(2, 1))), []);
    let messages = leader.answer(2, 2, accepted(2));
    let answers = leader.answer(2, 2, Body::HeartbeatResponse { round: 1, promised: false });
    assert!(messages.iter().chain(&answers).any(|message| message.body == told(question(2, 1), 2)));
}

#[test]
fn reads_that_wait_share_the_next_question() {
    let mut node = follower();
    [1, 2].into_iter().for_each(|number| node.raft.read(read(number)).expect("taken"));
    assert_eq!(questions(&node.pump()), [question(1, 1)]);
    // The answer may have been given before this one arrived.
    node.raft.read(read(3)).expect("taken");
    assert_eq!(questions(&node.pump()), []);
    let messages = node.answer(2, 2, told(question(1, 1), 2));
    assert_eq!(node.reads, [(read(1), index(2)), (read(2), index(2))]);
    assert_eq!(questions(&messages), [question(1, 2)]);
    // The first answer once more.
    assert_eq!(node.receive(2, 2, told(question(1, 1), 2)), Err(Refused::UnknownRound));
    assert_eq!(node.reads.len(), 2);
    node.answer(2, 2, told(question(1, 2), 2));
    assert_eq!(node.reads.len(), 3);
}

#[test]
fn only_the_leader_of_the_term_may_answer() {
    let mut node = follower();
    node.raft.read(read(1)).expect("taken");
    node.pump();
    let answer = told(question(1, 1), 2);
    assert_eq!(node.receive(3, 2, answer.clone()), Err(Refused::NotOurLeader));
    assert_eq!(node.receive(2, 1, answer.clone()), Err(Refused::StaleTerm));
    assert_eq!(node.receive(2, 3, answer.clone()), Err(Refused::NotOurLeader));
    assert_eq!(node.reads, []);
    node.answer(2, 2, answer);
    assert_eq!(node.reads, [(read(1), index(2))]);
}

#[test]
fn an_answer_to_an_earlier_process_confirms_nothing() {
    // C3: the follower restarts in the term, and its new process asks its first question, as the old one did.
    let mut node = follower();
    node.raft.read(read(1)).expect("taken");
    node.pump();
    node.crash(0);
    node.answer(2, 2, heartbeat(0, 0));
    node.raft.read(read(2)).expect("taken");
    let again = Question { process: 1 + SEED_STEP, number: 1 };
    assert_eq!(questions(&node.pump()), [again]);
    assert_eq!(node.receive(2, 2, told(question(1, 1), 1)), Err(Refused::UnknownRound));
    assert_eq!(node.reads, []);
    node.answer(2, 2, told(again, 2));
    assert_eq!(node.reads, [(read(2), index(2))]);
}

#[test]
fn numbers_go_on_when_a_leader_is_followed_again() {
    // Within the term the follower forgets its leader and finds it again. Its next question is not the first once more.
    let mut node = follower();
    node.raft.read(read(1)).expect("taken");
    node.pump();
    node.raft.peer_gone(id(2));
    node.pump();
    assert_eq!(node.aborted_reads, [read(1)]);
    node.answer(2, 2, heartbeat(0, 0));
    node.raft.read(read(2)).expect("taken");
    assert_eq!(questions(&node.pump()), [question(1, 2)]);
    assert_eq!(node.receive(2, 2, told(question(1, 1), 1)), Err(Refused::UnknownRound));
    assert_eq!(node.reads, []);
}

#[test]
fn a_question_is_asked_again_with_its_number() {
    let mut node = follower();
    node.raft.read(read(1)).expect("taken");
    node.pump();
    node.raft.read(read(2)).expect("taken");
    let mut asked = Vec::new();
    (0..2 * HEARTBEAT_TICKS).for_each(|_| asked.extend(questions(&node.tick())));
    assert_eq!(asked, [question(1, 1), question(1, 1)], "once in the time of a heartbeat");
    // A leader that was asked twice answers once or twice; a read that came in between is not in it.
    node.answer(2, 2, told(question(1, 1), 2));
    assert_eq!(node.reads, [(read(1), index(2))]);
}

#[test]
fn reads_end_when_another_leader_is_followed_or_none() {
    type Happens = fn(&mut Node);
    let ends: [Happens; 4] = [
        |node| drop(node.answer(3, 3, heartbeat(0, 0))),
        |node| node.tick_until(|node| node.raft.leader().is_none()),
        |node| drop(node.answer(3, 3, vote_request((9, 2)))),
        |node| drop(node.answer(2, 2, Body::TimeoutNow)),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let mut node = follower();
        if number == 2 {
            // A vote is given only by who hears of no leader; until it campaigns itself, it still has one.
            (0..ELECTION_TICKS_MIN - 1).for_each(|_| drop(node.tick()));
            node.tick();
        }
        node.raft.read(read(1)).expect("taken");
        node.pump();
        node.raft.read(read(2)).expect("taken");
        end(&mut node);
        node.pump();
        assert_eq!(node.aborted_reads, [read(1), read(2)], "case {number}");
        assert_eq!(node.reads, []);
    }
}

#[test]
fn who_knows_no_leader_takes_no_reads() {
    let mut node = Node::with_log(3, 2, &[1, 2]);
    assert_eq!(node.raft.read(read(1)), Err(ReadError::NoLeader));
    node.campaign();
    assert_eq!(node.raft.read(read(1)), Err(ReadError::NoLeader));
}

#[test]
fn who_does_not_lead_the_term_answers_no_question() {
    let mut node = follower();
    assert_eq!(node.receive(3, 2, ask(question(3, 1))), Err(Refused::UnexpectedKind));
    let mut leader = leader_of(3);
    assert_eq!(leader.receive(2, 2, ask(question(2, 1))), Err(Refused::UnexpectedKind), "nobody can follow it there");
    let mut later = Node::leader_with_log(3, 3, &[1, 3]);
    assert_eq!(later.receive(2, 3, ask(question(2, 1))), Err(Refused::StaleTerm));
    assert!(!leader.raft.has_ready() && !later.raft.has_ready());
}

#[test]
fn a_follower_that_floods_its_leader_keeps_one_question_there() {
    let mut leader = leader_of(5);
    leader.answer(2, 1, ask(question(2, 1)));
    (2..10_000).for_each(|number| drop(leader.answer(2, 1, ask(question(2, number)))));
    let answers = |messages: Vec<Message>| messages.into_iter().filter(|m| m.to == id(2)).map(|m| m.body).collect();
    let mut all: Vec<Body> = Vec::new();
    for round in 1..=3 {
        for voter in [3, 4] {
            let sent: Vec<Body> = answers(leader.answer(voter, 1, Body::HeartbeatResponse { round, promised: false }));
            all.extend(sent.into_iter().filter(|body| matches!(body, Body::ReadIndexResponse { .. })));
        }
        if leader.raft.has_ready() {
            leader.pump();
        }
        if round == 2 {
            break;
        }
    }
    assert_eq!(all, [told(question(2, 1), 1), told(question(2, 9_999), 1)]);
}

#[test]
fn waiting_reads_of_a_follower_are_bounded() {
    let mut node = follower();
    (0..READS_MAX as u64).for_each(|number| node.raft.read(read(number)).expect("below the bound"));
    assert_eq!(node.raft.read(read(0)), Err(ReadError::TooManyReads));
    node.pump();
    assert_eq!(node.raft.read(read(0)), Err(ReadError::TooManyReads));
    node.answer(2, 2, told(question(1, 1), 2));
    assert_eq!(node.reads.len(), READS_MAX);
}

#[test]
fn a_deposed_leader_misleads_no_follower() {
    // Nodes 1 and 2 are cut off from the others, which elect node 3 and commit. The old leader and its follower are no
    // majority of five, so nothing that they say to each other confirms a read.
    let mut cluster = Cluster::led_by_first(5);
    for (one, other) in [(1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)] {
        cluster.cut(one, other);
    }
    cluster.node(2).raft.read(read(1)).expect("it still follows node 1");
    cluster.settle();
    cluster.elect(3);
    cluster.node(3).propose("news");
    cluster.settle();
    assert!(cluster.node(2).reads.is_empty());
    cluster.heal();
    cluster.ticks(2 * ELECTION_TICKS_MAX);
    assert_eq!(cluster.node(2).aborted_reads, [read(1)]);
    cluster.node(2).raft.read(read(2)).expect("it follows");
    cluster.settle();
    let (_, at) = cluster.node(2).reads[0];
    assert!(at >= index(3), "{at}");
}
