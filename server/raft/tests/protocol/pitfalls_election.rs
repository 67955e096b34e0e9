//! Elections: ways in which other implementations split votes, deposed healthy leaders, or never elected one again.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Body, Configuration, Event, Message, Refused, Role, TransferError};

fn kinds(messages: &[Message]) -> Vec<&'static str> {
    messages.iter().map(|message| message.body.kind()).collect()
}

/// A follower of node 2 in term 1.
fn follower(count: u64) -> Node {
    let mut node = Node::first_of(count);
    node.answer(2, 1, heartbeat(0, 0));
    node
}

#[test]
fn a_step_down_in_the_same_term_keeps_the_vote() {
    let mut voter = Node::first_of(3);
    assert!(is_granted(&voter.answer(2, 1, vote_request((0, 0)))));
    voter.answer(2, 1, append((0, 0), vec![], 0));
    assert!(!is_granted(&voter.answer(3, 1, vote_request((0, 0)))));

    let mut candidate = Node::first_of(3);
    candidate.campaign();
    candidate.answer(2, 1, append((0, 0), vec![], 0));
    assert_eq!(candidate.raft.role(), Role::Follower);
    assert!(!is_granted(&candidate.answer(3, 1, vote_request((0, 0)))), "it voted for itself");
    assert_eq!(candidate.raft.status().voted_for, Some(id(1)));
}

#[test]
fn a_vote_compares_with_entries_that_are_not_durable_yet() {
    let mut node = Node::first_of(3);
    node.disk_is_fast = false;
    node.answer(2, 1, append((0, 0), entries(&[1]), 0));
    for _ in 0..ELECTION_TICKS_MIN {
        node.raft.tick();
    }
    assert!(!is_granted(&node.answer(3, 2, vote_request((0, 0)))));
}

#[test]
fn a_repeated_vote_request_gets_the_same_yes() {
    let mut node = Node::first_of(3);
    for _ in 0..3 {
        assert!(is_granted(&node.answer(2, 1, vote_request((0, 0)))));
    }
    node.crash(0);
    assert!(is_granted(&node.answer(2, 1, vote_request((0, 0)))), "also after a restart");
    assert_eq!(node.unsynced.len(), 0);
}

#[test]
fn a_leader_votes_for_nobody_else_in_its_term() {
    let mut leader = Node::leader_of(3);
    assert!(!is_granted(&leader.answer(2, 1, vote_request((0, 0)))));
    assert!(leader.raft.is_leader());
    // Nor does a follower that never voted but knows who leads.
    let mut node = follower(3);
    assert!(!is_granted(&node.answer(3, 1, vote_request((0, 0)))));
}

#[test]
fn answers_to_another_question_are_not_votes() {
    let mut candidate = Node::with_log(5, 3, &[]);
    candidate.campaign();
    assert_eq!(candidate.raft.current_term(), term(4));
    for _ in 0..3 {
        candidate.receive(2, 4, vote(true)).expect("one vote, three times");
    }
    assert_eq!(candidate.receive(3, 3, vote(true)), Err(Refused::StaleTerm));
    candidate.receive(3, 4, pre_vote(true)).expect("late, and no vote");
    assert_eq!(candidate.receive(4, 5, pre_vote(true)), Err(Refused::UnexpectedKind));
    assert_eq!(candidate.raft.role(), Role::Candidate);
    candidate.receive(3, 4, vote(true)).expect("the third vote");
    assert!(candidate.raft.is_leader());

    let mut pre_candidate = Node::with_log(5, 3, &[]);
    pre_candidate.tick_until(|node| node.raft.role() == Role::PreCandidate);
    assert_eq!(pre_candidate.receive(2, 3, vote(true)), Err(Refused::UnexpectedKind));
    for asker in [2, 4] {
        pre_candidate.receive(asker, 3, pre_vote(true)).expect("an answer to an earlier question");
    }
    assert_eq!(pre_candidate.receive(2, 5, pre_vote(true)), Err(Refused::UnexpectedKind));
    assert_eq!((pre_candidate.raft.role(), pre_candidate.raft.current_term()), (Role::PreCandidate, term(3)));
}

#[test]
fn answers_that_come_after_the_decision_are_nothing_unusual() {
    let mut leader = Node::leader_of(3);
    leader.receive(3, 1, pre_vote(true)).expect("the third pre-vote");
    leader.receive(3, 1, vote(true)).expect("the third vote");
    assert!(leader.raft.is_leader());
    // Cut off, it steps down within its term, and an answer is still on its way.
    leader.tick_until(|node| node.raft.role() != Role::Leader);
    leader.receive(2, 1, Body::HeartbeatResponse { round: 0, promised: false }).expect("a late answer");
    assert_eq!(follower(3).receive(2, 1, vote(true)), Err(Refused::UnexpectedKind), "it never asked");
}

#[test]
fn a_pre_candidate_that_gives_its_vote_asks_no_more() {
    let mut node = Node::with_log(3, 1, &[]);
    node.tick_until(|node| node.raft.role() == Role::PreCandidate);
    assert!(is_granted(&node.answer(2, 1, vote_request((0, 0)))));
    assert_eq!(node.raft.role(), Role::Follower);
    node.receive(3, 2, pre_vote(true)).expect("late");
    assert_eq!((node.raft.role(), node.raft.current_term()), (Role::Follower, term(1)), "it deposes nobody");
}

#[test]
fn a_pre_candidate_forgets_its_leader() {
    let mut node = follower(3);
    node.tick_until(|node| node.raft.role() == Role::PreCandidate);
    assert_eq!(node.raft.leader(), None);
    assert!(is_granted(&node.answer(3, 2, pre_vote_request((0, 0)))), "it wants a new leader itself");
    node.answer(2, 1, heartbeat(0, 0));
    assert_eq!((node.raft.role(), node.raft.leader()), (Role::Follower, Some(id(2))), "and takes the old one back");
}

#[test]
fn a_refused_pre_vote_brings_the_asker_to_the_term() {
    let mut asker = Node::with_log(3, 2, &[1, 2]);
    asker.tick_until(|node| node.raft.role() == Role::PreCandidate);
    asker.receive(2, 8, pre_vote(false)).expect("a refusal from a later term");
    assert_eq!((asker.raft.role(), asker.raft.current_term()), (Role::Follower, term(8)));
    asker.tick_until(|node| node.raft.role() == Role::PreCandidate);
    asker.receive(2, 9, pre_vote(true)).expect("granted at last");
    assert_eq!((asker.raft.role(), asker.raft.current_term()), (Role::Candidate, term(9)));
}

#[test]
fn a_pre_vote_is_granted_without_a_promise() {
    let mut node = Node::with_log(3, 4, &[4]);
    for (asked_term, last, expected) in [(5, (1, 4), true), (4, (1, 3), false), (5, (0, 0), false), (3, (1, 2), false)]
    {
        let answers = node.answer(2, asked_term, pre_vote_request(last));
        assert_eq!(is_granted(&answers), expected);
        assert_eq!(answers[0].term, term(if expected { asked_term } else { 4 }));
    }
    assert!(is_granted(&node.answer(3, 5, pre_vote_request((1, 4)))), "as many as ask");
    assert_eq!((node.raft.current_term(), node.raft.status().voted_for), (term(4), None));
}

#[test]
fn two_cohorts_of_terms_and_logs_elect_a_leader() {
    // Half the voters have a longer log and an old term, half a later term and a short log.
    for seed in 0..20 {
        let options = |number| raft::Options { seed: seed * 100 + number, ..options(number) };
        let disk = |number| if number <= 3 { Disk::with(3, &[1, 3, 3, 3]) } else { Disk::with(5, &[1]) };
        let mut cluster = Cluster::with(voters(6), options, disk);
        cluster.ticks(5 * ELECTION_TICKS_MAX);
        let leader = cluster.leader().expect("a leader within five election timeouts");
        assert!(leader <= 3, "only the longer logs can win");
    }
}

#[test]
fn a_leader_that_only_a_bridge_can_hear_gives_up() {
    // Nodes 1 to 4 hear each other; only 3, the bridge, hears the leader 5 as well.
    let mut cluster = Cluster::new(5);
    cluster.elect(5);
    for lost in [1, 2, 4] {
        cluster.cut(5, lost);
    }
    cluster.ticks(4 * ELECTION_TICKS_MAX);
    let leader = cluster.leader().expect("the connected quorum elects a leader");
    assert_ne!(leader, 5);
    assert!(!cluster.node(5).raft.is_leader(), "the old leadership has ended");
}

#[test]
fn a_chain_of_links_settles_on_one_leader() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.cut(1, 3);
    cluster.ticks(10 * ELECTION_TICKS_MAX);
    let (leader, leader_term) = (cluster.leader(), cluster.node(2).raft.current_term());
    cluster.ticks(20 * ELECTION_TICKS_MAX);
    assert_eq!((cluster.leader(), cluster.node(2).raft.current_term()), (leader, leader_term));
}

#[test]
fn a_node_that_comes_back_disturbs_nobody() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.isolate(3);
    cluster.ticks(60 * ELECTION_TICKS_MAX);
    assert_eq!(cluster.node(3).raft.current_term(), term(1), "alone, it only asks");
    cluster.heal();
    cluster.ticks(2 * ELECTION_TICKS_MAX);
    assert_eq!(cluster.leader(), Some(1));
    for number in 1..=3 {
        assert_eq!(cluster.node(number).raft.current_term(), term(1));
    }
}

#[test]
fn vote_requests_are_ignored_while_a_leader_is_alive() {
    let mut node = follower(3);
    for _ in 0..ELECTION_TICKS_MIN - 1 {
        node.tick();
    }
    assert_eq!(node.receive(3, 7, vote_request((9, 6))), Err(Refused::LeaderAlive));
    assert_eq!(node.raft.current_term(), term(1), "not even the term is adopted");
    assert!(!is_granted(&node.answer(3, 2, pre_vote_request((9, 1)))));
    let transfer = request((9, 6), false, true);
    assert!(is_granted(&node.answer(3, 7, transfer)), "the leader itself asked for this one");

    let mut later = follower(3);
    (0..ELECTION_TICKS_MIN).for_each(|_| later.raft.tick());
    assert!(is_granted(&later.answer(3, 7, vote_request((9, 6)))));

    let mut leader = Node::leader_of(3);
    assert_eq!(leader.receive(3, 7, vote_request((9, 6))), Err(Refused::LeaderAlive));
    assert!(is_granted(&leader.answer(3, 7, request((9, 6), false, true))));
}

/// Answers to a campaign that is over can come a second late, from someone who has a later term since. They are no more
/// a reason to leave a leader that is well than a request of that term would be.
#[test]
fn late_answers_do_not_depose_a_leader_that_is_well() {
    for answer in [pre_vote(false), vote(false)] {
        let mut node = follower(3);
        assert_eq!(node.receive(3, 7, answer.clone()), Err(Refused::LeaderAlive));
        assert_eq!((node.raft.current_term(), node.raft.leader()), (term(1), Some(id(2))));
        (0..ELECTION_TICKS_MIN).for_each(|_| node.raft.tick());
        node.receive(3, 7, answer.clone()).expect("nobody is heard of any more: the term is news");
        assert_eq!(node.raft.current_term(), term(7));

        let mut leader = Node::leader_of(3);
        assert_eq!(leader.receive(3, 7, answer), Err(Refused::LeaderAlive));
        assert_eq!(leader.raft.role(), Role::Leader);
    }
}

#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut leader = Node::leader_of(5);
    for tick in 0..100 {
        assert!(leader.raft.is_leader(), "two of four answered, in tick {tick}");
        leader.tick();
        for peer in [2, 3] {
            leader.answer(peer, 1, Body::HeartbeatResponse { round: 0, promised: false });
        }
    }
    for tick in 1..ELECTION_TICKS_MAX {
        leader.tick();
        assert!(leader.raft.is_leader(), "an election timeout is not over after {tick} ticks");
        leader.answer(4, 1, Body::HeartbeatResponse { round: 0, promised: false });
    }
    leader.tick();
    assert!(leader.events.contains(&Event::QuorumLost { term: term(1) }));
    assert_eq!((leader.raft.role(), leader.raft.current_term()), (Role::Follower, term(1)));
}

#[test]
fn learners_never_campaign_nor_vote() {
    let configuration = Configuration::new([id(2), id(3)]).with_learners([id(1)]);
    let mut learner = Node::new(options(1), configuration.clone(), Disk::default());
    for _ in 0..2 {
        for _ in 0..10 * ELECTION_TICKS_MAX {
            assert_eq!(learner.tick(), []);
        }
        learner.answer(2, 1, heartbeat(0, 0));
        assert_eq!(learner.receive(2, 1, Body::TimeoutNow), Err(Refused::NotAVoter));
        assert_eq!(learner.receive(3, 2, vote_request((0, 0))), Err(Refused::NotAVoter));
        (0..10 * ELECTION_TICKS_MAX).for_each(|_| learner.raft.tick());
        assert_eq!((learner.raft.role(), learner.raft.leader()), (Role::Follower, None), "it only forgets its leader");
        learner.crash(0);
    }
    let mut voter = Node::new(options(2), configuration, Disk::default());
    let requests = voter.campaign();
    assert_eq!(requests.iter().map(|message| message.to).collect::<Vec<_>>(), [id(3)], "learners are not asked");
    assert_eq!(voter.receive(1, 1, vote(true)), Err(Refused::NotAVoter));
    assert_eq!(voter.receive(1, 5, vote_request((0, 0))), Err(Refused::NotAVoter));
    assert_eq!(voter.receive(1, 5, heartbeat(0, 0)), Err(Refused::NotAVoter), "nor do they lead");
}

#[test]
fn a_transfer_hands_over_at_once() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.node(1).raft.transfer_leadership(id(3)).expect("it begins");
    assert_eq!(cluster.node(1).raft.propose("a".into()), Err(raft::ProposeError::Transferring));
    cluster.settle();
    assert_eq!((cluster.leader(), cluster.node(3).raft.current_term()), (Some(3), term(2)));
    cluster.node(3).propose("b");
    cluster.settle();
    cluster.assert_converged();
}

#[test]
fn a_transfer_first_brings_the_target_up_to_date() {
    let mut leader = Node::leader_of(3);
    leader.propose("a");
    leader.pump();
    leader.answer(2, 1, accepted(1));
    leader.raft.transfer_leadership(id(2)).expect("it begins");
    assert!(!kinds(&leader.pump()).contains(&"TimeoutNow"));
    assert!(kinds(&leader.answer(2, 1, accepted(2))).contains(&"TimeoutNow"));
    leader.tick();
    assert!(kinds(&leader.tick()).contains(&"TimeoutNow"), "said again with the heartbeats, in case it was lost");
}

#[test]
fn a_transfer_that_takes_too_long_is_given_up() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.isolate(3);
    cluster.node(1).raft.transfer_leadership(id(3)).expect("it begins");
    assert_eq!(cluster.node(1).raft.transfer_leadership(id(2)), Err(TransferError::InProgress));
    cluster.ticks(ELECTION_TICKS_MIN);
    assert!(cluster.node(1).events.contains(&Event::TransferAborted { target: id(3) }));
    assert_eq!(cluster.leader(), Some(1));
    cluster.node(1).propose("a");
    cluster.settle();
    assert_eq!(cluster.node(2).raft.commit_index(), index(2));
}

#[test]
fn transfers_go_to_other_voters_only() {
    let configuration = Configuration::new([id(1), id(2)]).with_learners([id(3)]);
    let mut cluster = Cluster::with(configuration, options, |_| Disk::default());
    cluster.elect(1);
    for (target, error) in [(1, TransferError::ToSelf), (3, TransferError::NotAVoter), (9, TransferError::NotAVoter)] {
        assert_eq!(cluster.node(1).raft.transfer_leadership(id(target)), Err(error));
    }
    let error = TransferError::NotLeader { leader: Some(id(1)) };
    assert_eq!(cluster.node(2).raft.transfer_leadership(id(1)), Err(error));
}

#[test]
fn only_the_leader_can_ask_for_an_election() {
    let mut node = follower(3);
    assert_eq!(node.receive(3, 1, Body::TimeoutNow), Err(Refused::NotOurLeader));
    assert_eq!(node.receive(3, 2, Body::TimeoutNow), Err(Refused::NotOurLeader));
    assert_eq!(node.raft.role(), Role::Follower);
    let messages = node.answer(2, 1, Body::TimeoutNow);
    assert_eq!(node.raft.role(), Role::Candidate);
    assert!(messages.iter().all(|message| message.body == request((0, 0), false, true)));
    assert_eq!(node.receive(2, 1, Body::TimeoutNow), Err(Refused::StaleTerm), "a repeat does no harm");
}

#[test]
fn terms_cannot_be_used_up_by_one_message() {
    let current = 7;
    let ahead_max = 1 << 32;
    for (peer_term, refused) in
        [(u64::MAX, true), (u64::MAX - 1, true), (current + ahead_max + 1, true), (current + ahead_max, false)]
    {
        for body in [heartbeat(0, 0), vote_request((0, 0)), vote(false), rejected(1, (0, 0))] {
            let mut node = Node::with_log(3, current, &[]);
            let result = node.receive(2, peer_term, body);
            assert_eq!(result == Err(Refused::TermTooFarAhead), refused, "term {peer_term}: {result:?}");
            assert_eq!(node.raft.current_term(), term(if refused { current } else { peer_term }));
        }
    }
    // Even at the end of all terms nothing wraps.
    let mut last = Node::with_log(3, u64::MAX, &[]);
    (0..5 * ELECTION_TICKS_MAX).for_each(|_| last.raft.tick());
    assert_eq!((last.raft.role(), last.raft.current_term()), (Role::Follower, term(u64::MAX)));
    assert_eq!(last.receive(2, u64::MAX, heartbeat(0, 0)), Err(Refused::TermTooFarAhead));
}

#[test]
fn a_term_of_the_log_is_never_forgotten() {
    // A batch that was torn in the crash: the entries of term 5 are there, the hard state behind them is not.
    let node = Node::with_log(3, 3, &[1, 5]);
    assert_eq!((node.raft.current_term(), node.raft.status().voted_for), (term(5), None));
    assert!(node.raft.has_ready(), "and the term is written again");
}

#[test]
fn joint_configurations_need_both_majorities() {
    let configuration = Configuration::joint([id(1), id(2), id(3)], [id(4), id(5), id(6)]);
    let mut node = Node::new(options(1), configuration, Disk::default());
    node.campaign();
    for voter in [2, 3, 4] {
        node.receive(voter, 1, vote(true)).expect("a vote");
        assert_eq!(node.raft.role(), Role::Candidate);
    }
    node.receive(5, 1, vote(true)).expect("a vote");
    assert!(node.raft.is_leader());
    node.pump();
    for voter in [2, 3, 4] {
        node.answer(voter, 1, accepted(1));
        assert_eq!(node.raft.commit_index(), index(0));
    }
    node.answer(5, 1, accepted(1));
    assert_eq!(node.raft.commit_index(), index(1));
}

/// Who voted and has not heard of the victory yet would help the next candidate to depose the leader that it elected.
#[test]
fn an_election_that_is_under_way_is_left_alone() {
    let mut voter = Node::first_of(3);
    assert!(is_granted(&voter.answer(2, 1, vote_request((0, 0)))));
    let mut candidate = Node::first_of(3);
    candidate.campaign();
    for node in [&mut voter, &mut candidate] {
        for _ in 0..ELECTION_TICKS_MIN / 2 {
            assert!(!is_granted(&node.answer(3, 2, pre_vote_request((0, 0)))));
            node.tick();
        }
        assert!(is_granted(&node.answer(3, 2, pre_vote_request((0, 0)))), "it failed");
    }
}

#[test]
fn an_election_is_over_when_its_leader_is_heard_of_and_when_the_voter_restarts() {
    let mut follower = Node::first_of(3);
    let mut restarted = Node::first_of(3);
    for node in [&mut follower, &mut restarted] {
        assert!(is_granted(&node.answer(2, 1, vote_request((0, 0)))));
    }
    follower.answer(2, 1, heartbeat(0, 0));
    follower.raft.peer_gone(id(2));
    restarted.crash(0);
    for mut node in [follower, restarted] {
        assert!(is_granted(&node.answer(3, 2, pre_vote_request((0, 0)))));
    }
}
