//! Ways in which a disk that stands still has hurt other implementations.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{Body, Configuration, Event, Refused, Role};

/// A leader of `count` whose disk stands still from now on, with one write on its way to it. All others have answered.
fn stalled_leader_of(count: u64) -> Node {
    let mut leader = Node::leader_of(count);
    (2..=count).for_each(|peer| drop(leader.answer(peer, 1, accepted(1))));
    leader.disk_is_fast = false;
    leader.propose("a");
    leader.pump();
    leader
}

/// Ticks a leader that everyone answers, for as long as it leads but at most `ticks`; how many ticks, and what it sent
/// in the last.
fn tick_while_leading(leader: &mut Node, count: u64, ticks: u32) -> (u32, Vec<raft::Message>) {
    for tick in 1..=ticks {
        let sent = leader.tick();
        if !leader.raft.is_leader() {
            return (tick, sent);
        }
        (2..=count)
            .for_each(|peer| drop(leader.answer(peer, 1, Body::HeartbeatResponse { round: 0, promised: false })));
    }
    (ticks, Vec::new())
}

#[test]
fn a_leader_with_a_stalled_disk_steps_down_within_two_election_timeouts() {
    let mut leader = stalled_leader_of(3);
    leader.raft.read(raft::ReadId::new(7)).expect("it leads");
    leader.pump();
    let (ticks, _) = tick_while_leading(&mut leader, 3, 100);
    assert!((ELECTION_TICKS_MAX..2 * ELECTION_TICKS_MAX).contains(&ticks), "after {ticks} ticks");
    assert!(leader.events.contains(&Event::DiskStalled { term: term(1) }));
    assert_eq!((leader.raft.role(), leader.raft.leader(), leader.raft.current_term()), (Role::Follower, None, term(1)));
    assert_eq!(leader.aborted_reads, [raft::ReadId::new(7)], "nobody can confirm them any more");
}

#[test]
fn heartbeats_do_not_wait_for_the_disk() {
    let mut leader = stalled_leader_of(3);
    for tick in 1..=ELECTION_TICKS_MAX {
        let heartbeats = leader.tick().iter().filter(|message| message.body.kind() == "Heartbeat").count();
        assert_eq!(heartbeats, if tick % HEARTBEAT_TICKS == 0 { 2 } else { 0 }, "in tick {tick}");
        [2, 3]
            .into_iter()
            .for_each(|peer| drop(leader.answer(peer, 1, Body::HeartbeatResponse { round: 0, promised: false })));
    }
    let mut follower = Node::first_of(3);
    follower.disk_is_fast = false;
    let answers = follower.answer(2, 1, heartbeat(0, 0));
    assert_eq!(answers.len(), 1, "nor do the answers");
}

#[test]
fn a_slow_disk_is_not_a_stalled_one() {
    let mut leader = stalled_leader_of(3);
    for number in 0..10 {
        let (ticks, _) = tick_while_leading(&mut leader, 3, ELECTION_TICKS_MAX);
        assert_eq!((ticks, leader.raft.is_leader()), (ELECTION_TICKS_MAX, true));
        // There is always more under way, but one batch gets through.
        leader.propose(&format!("command {number}"));
        leader.pump();
        leader.sync_one();
        assert_eq!(leader.unsynced.len(), 1);
    }
    leader.sync_all();
    let (_, _) = tick_while_leading(&mut leader, 3, 10 * ELECTION_TICKS_MAX);
    assert!(leader.raft.is_leader(), "a disk without work is not stalled either");
}

#[test]
fn the_follower_with_most_of_the_log_is_asked_to_take_over() {
    let mut leader = Node::new(options(1), Configuration::new((1..=5).map(id)).with_learners([id(6)]), Disk::default());
    leader.campaign();
    [2, 3].into_iter().for_each(|voter| leader.receive(voter, 1, vote(true)).expect("a vote"));
    leader.pump();
    leader.disk_is_fast = false;
    leader.propose("a");
    leader.propose("b");
    leader.pump();
    for (peer, match_index) in [(2, 1), (4, 2), (3, 1), (6, 3)] {
        leader.answer(peer, 1, accepted(match_index));
    }
    let (_, sent) = tick_while_leading(&mut leader, 5, 100);
    let asked: Vec<_> = sent.iter().filter(|message| message.body == Body::TimeoutNow).map(|sent| sent.to).collect();
    assert_eq!(asked, [id(4)], "the learner has more, and does not vote");

    let mut unheard = Node::leader_of(3);
    unheard.disk_is_fast = false;
    unheard.propose("a");
    unheard.pump();
    let (_, sent) = tick_while_leading(&mut unheard, 3, 100);
    assert!(!unheard.raft.is_leader() && sent.is_empty(), "whoever acknowledged nothing may not know its leader");
}

#[test]
fn the_others_go_on_at_once() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.node(1).disk_is_fast = false;
    cluster.node(1).propose("a");
    cluster.settle();
    cluster.ticks(ELECTION_TICKS_MAX);
    assert_eq!(cluster.leader(), Some(1));
    cluster.tick();
    let leader = cluster.leader().expect("nobody had to wait for an election timeout");
    assert_ne!(leader, 1);
    // The stalled one follows, and does not come back of its own accord, however long it takes.
    cluster.ticks(10 * ELECTION_TICKS_MAX);
    assert_eq!((cluster.leader(), cluster.node(1).raft.leader()), (Some(leader), Some(id(leader))));
    assert_eq!(cluster.node(leader).raft.current_term(), term(2));
    cluster.node(1).disk_is_fast = true;
    cluster.settle();
    cluster.node(1).sync_all();
    cluster.ticks(2 * ELECTION_TICKS_MAX);
    cluster.assert_converged();
}

#[test]
fn who_has_a_stalled_disk_does_not_campaign_until_it_goes_on() {
    let mut node = stalled_leader_of(3);
    tick_while_leading(&mut node, 3, 100);
    for _ in 0..10 * ELECTION_TICKS_MAX {
        assert_eq!(node.tick(), []);
        assert_eq!(node.raft.role(), Role::Follower);
    }
    // It follows, and loses its faith in a leader as everyone does, without asking for votes.
    node.answer(2, 2, heartbeat(0, 0));
    assert_eq!(node.raft.leader(), Some(id(2)));
    assert_eq!(node.receive(2, 2, Body::TimeoutNow), Err(Refused::DiskStalled), "it could not win, only be in the way");
    (0..2 * ELECTION_TICKS_MAX).for_each(|_| assert_eq!(node.tick(), []));
    assert_eq!((node.raft.role(), node.raft.leader()), (Role::Follower, None));
    // Its votes wait for the disk.
    assert_eq!(node.answer(3, 3, vote_request((9, 2))), []);
    node.sync_all();
    assert!(is_granted(&node.pump()));
    node.tick_until(|node| node.raft.role() == Role::PreCandidate);
}

#[test]
fn a_candidate_with_a_stalled_disk_gives_up() {
    let mut node = Node::first_of(3);
    node.disk_is_fast = false;
    node.campaign();
    assert_eq!(node.raft.role(), Role::Candidate);
    for _ in 0..10 * ELECTION_TICKS_MAX {
        node.tick();
        if node.raft.role() == Role::PreCandidate {
            let asked = node.raft.current_term().get() + 1;
            node.answer(2, asked, pre_vote(true));
        }
    }
    assert_eq!(node.raft.role(), Role::Follower);
    assert!(node.raft.current_term() <= term(3), "terms that nobody hears of do not rise for ever");
}

#[test]
fn a_leader_that_nobody_could_replace_stays() {
    for count in [1, 2] {
        let mut leader = stalled_leader_of(count);
        tick_while_leading(&mut leader, count, 10 * ELECTION_TICKS_MAX);
        assert!(leader.raft.is_leader(), "of {count}: only reads would be lost");
        leader.raft.read(raft::ReadId::new(7)).expect("it leads");
        leader.pump();
        if count == 2 {
            leader.answer(2, 1, Body::HeartbeatResponse { round: 1, promised: false });
        }
        assert_eq!(leader.reads.len(), 1, "and they are served");
        leader.sync_all();
        leader.pump();
    }
    // Joint: a majority of both is needed, and one of them is nothing without it.
    let configuration = Configuration::joint([1, 2, 3].map(id), [1, 4].map(id));
    let mut leader = Node::new(options(1), configuration, Disk::default());
    leader.campaign();
    [2, 3, 4].into_iter().for_each(|voter| leader.receive(voter, 1, vote(true)).expect("a vote"));
    leader.pump();
    leader.disk_is_fast = false;
    leader.propose("a");
    leader.pump();
    tick_while_leading(&mut leader, 4, 100);
    assert!(leader.raft.is_leader());
}
