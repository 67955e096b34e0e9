//! Replication and commitment: ways in which other implementations lost entries, committed obsolete ones or got stuck.

use crate::cluster::Cluster;
use crate::node::*;
use raft::{AppendResult, Body, Configuration, Index, Message, Options, ProgressView, Refused};

fn progress_of(node: &Node, peer: u64) -> ProgressView {
    let progress = node.raft.status().progress;
    progress.into_iter().find(|(other, _)| *other == id(peer)).expect("a member").1
}

fn appends_to(messages: &[Message], peer: u64) -> Vec<(Index, usize)> {
    let to_peer = messages.iter().filter(|message| message.to == id(peer));
    to_peer
        .filter_map(|message| match &message.body {
            Body::AppendEntries { prev_log_index, entries, .. } => Some((*prev_log_index, entries.len())),
            _ => None,
        })
        .collect()
}

/// A leader of three with entries 1 to 1 + `count` of term 1, none of them acknowledged.
fn leader_with(count: u64) -> Node {
    let mut leader = Node::leader_of(3);
    for number in 0..count {
        leader.propose(&format!("{number}"));
    }
    leader.pump();
    leader
}

#[test]
fn learners_receive_everything_and_count_for_nothing() {
    let configuration = Configuration::new([id(1), id(2), id(3)]).with_learners([id(4), id(5)]);
    let mut cluster = Cluster::with(configuration, options, |_| Disk::default());
    cluster.elect(1);
    cluster.assert_converged();
    cluster.isolate(2);
    cluster.isolate(3);
    cluster.node(1).propose("seen by the learners only");
    cluster.settle();
    assert_eq!(cluster.node(4).raft.last_index(), index(2));
    assert_eq!(cluster.node(1).raft.commit_index(), index(1));
    cluster.heal();
    cluster.ticks(2 * HEARTBEAT_TICKS);
    cluster.assert_converged();
}

#[test]
fn the_order_of_acknowledgements_does_not_matter() {
    let match_indexes = [2, 3, 4, 5];
    // All 24 orders in which four followers can speak: the two greatest make, with the leader, a majority of five.
    for order in 0..24_usize {
        let mut leader = Node::leader_of(5);
        for number in 0..5 {
            leader.propose(&format!("{number}"));
        }
        leader.pump();
        let mut left: Vec<usize> = (0..4).collect();
        let mut code = order;
        for sides in (1..=4).rev() {
            let chosen = left.remove(code % sides);
            code /= sides;
            leader.answer(chosen as u64 + 2, 1, accepted(match_indexes[chosen]));
        }
        assert_eq!(leader.raft.commit_index(), index(4), "order {order}");
    }
}

#[test]
fn an_acknowledgement_of_an_earlier_term_counts_nothing() {
    let mut leader = Node::leader_with_log(3, 3, &[1, 3, 3]);
    assert_eq!(leader.receive(2, 3, accepted(3)), Err(Refused::StaleTerm));
    assert_eq!(progress_of(&leader, 2).match_index, index(0));
    assert_eq!(leader.raft.commit_index(), index(0));
}

#[test]
fn a_stale_rejection_rewinds_nothing() {
    let mut leader = leader_with(4);
    leader.answer(2, 1, accepted(4));
    let before = progress_of(&leader, 2);
    leader.answer(2, 1, rejected(3, (2, 1)));
    leader.answer(2, 1, rejected(4, (0, 0)));
    assert_eq!(progress_of(&leader, 2), before, "it has what it rejected earlier");
    leader.answer(2, 1, accepted(2));
    assert_eq!(progress_of(&leader, 2), before, "nor does an older acceptance");
    // In Probe only the answer to the probe itself counts.
    let mut probing = Node::leader_with_log(3, 3, &[1, 1, 1, 3]);
    probing.answer(2, 4, rejected(4, (2, 1)));
    let before = progress_of(&probing, 2);
    assert_eq!((before.next_index, before.state), (index(3), "probe"));
    probing.answer(2, 4, rejected(4, (2, 1)));
    probing.answer(2, 4, rejected(1, (0, 0)));
    assert_eq!(progress_of(&probing, 2), before);
}

#[test]
fn acknowledgements_of_entries_that_do_not_exist_are_refused() {
    let mut leader = leader_with(2);
    assert_eq!(leader.receive(2, 1, accepted(4)), Err(Refused::MatchBeyondLog));
    assert_eq!(leader.receive(2, 1, accepted(u64::MAX)), Err(Refused::MatchBeyondLog));
    assert_eq!(leader.receive(2, 1, rejected(4, (0, 0))), Err(Refused::MatchBeyondLog));
    assert_eq!(leader.receive(2, 1, rejected(0, (0, 0))), Err(Refused::MalformedResponse));
    assert_eq!(leader.receive(2, 1, rejected(2, (2, 1))), Err(Refused::MalformedResponse));
    assert_eq!(leader.raft.commit_index(), index(0));
}

#[test]
fn a_write_that_was_undone_and_redone_is_not_durable_too_early() {
    let mut node = Node::with_log(5, 1, &[1, 1, 1, 1]);
    node.disk_is_fast = false;
    // Entries 5 and 6 of term 2 are written, replaced by term 3, and come back from the leader of term 4.
    node.answer(2, 2, append((4, 1), vec![entry(2, 5), entry(2, 6)], 0));
    node.answer(3, 3, append((4, 1), vec![entry(3, 5)], 0));
    node.answer(2, 4, append((4, 1), vec![entry(2, 5), entry(2, 6)], 0));
    assert_eq!(node.unsynced.len(), 3);
    node.sync_one();
    assert_eq!(node.log_terms(), [1, 1, 1, 1, 2, 2]);
    assert_eq!(node.raft.status().durable_index, index(4), "the second batch is about to remove them");
    let answers = node.pump();
    assert!(answers.iter().all(|message| message.term == term(2)), "the leader of term 4 is told nothing: {answers:?}");
    node.sync_one();
    assert_eq!(node.raft.status().durable_index, index(4));
    node.sync_one();
    assert_eq!(node.raft.status().durable_index, index(6));
    let answers = node.pump();
    assert!(answers.iter().any(|message| message.term == term(4) && message.body == accepted(6)), "{answers:?}");
}

#[test]
fn promises_of_an_old_term_that_have_not_left_are_dropped() {
    let mut node = Node::first_of(3);
    node.receive(2, 2, append((0, 0), entries(&[2, 2]), 0)).expect("valid");
    // Before the driver has even seen the entries, the leader of term 3 replaces them: they never reach the disk.
    node.receive(3, 3, append((0, 0), entries(&[3]), 0)).expect("valid");
    let answers = node.pump();
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].to, answers[0].term, &answers[0].body), (id(3), term(3), &accepted(1)));

    let mut voter = Node::first_of(3);
    voter.receive(2, 2, vote_request((0, 0))).expect("valid");
    assert!(is_granted(&voter.answer(3, 3, vote_request((0, 0)))), "the vote of term 3 alone leaves");
}

#[test]
fn batches_become_durable_together_or_one_by_one() {
    let mut node = Node::first_of(3);
    node.disk_is_fast = false;
    for number in 1..=4 {
        let prev = (number - 1, u64::from(number > 1));
        node.answer(2, 1, append(prev, vec![entry(1, number)], 0));
    }
    let numbers: Vec<u64> = node.unsynced.iter().map(|batch| batch.number.get()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    node.raft.persisted(raft::BatchNumber::new(3));
    assert_eq!(node.raft.status().durable_index, index(3));
    node.raft.persisted(raft::BatchNumber::new(1));
    assert_eq!(node.raft.status().durable_index, index(3), "a late report of an earlier batch is no news");
}

#[test]
fn an_old_append_truncates_nothing() {
    let mut node = Node::first_of(3);
    node.answer(2, 1, append((0, 0), entries(&[1, 1, 1, 1]), 0));
    for (prev, count) in [((0, 0), 2), ((1, 1), 1), ((0, 0), 0), ((2, 1), 2)] {
        let again = entries(&[1, 1, 1, 1]).into_iter().skip(position(index(prev.0))).take(count).collect();
        node.answer(2, 1, append(prev, again, 0));
        assert_eq!(node.log_terms(), [1, 1, 1, 1]);
    }
    assert!(!node.events.iter().any(|event| matches!(event, raft::Event::Truncated { .. })));
}

#[test]
fn an_obsolete_tail_is_not_committed() {
    // 25 old entries that the leader of term 2 never sent, and a leader that has committed 26.
    let mut node = Node::with_log(3, 1, &[1; 25]);
    node.answer(2, 2, append((0, 0), vec![], 26));
    assert_eq!(node.raft.commit_index(), index(0), "nothing but position zero was compared");
    assert_eq!(node.receive(2, 2, heartbeat(26, 0)), Err(Refused::CommitBeyondLog));
    node.answer(2, 2, heartbeat(25, 0));
    assert_eq!(node.raft.commit_index(), index(0), "this leader never showed that it has these entries");
    node.answer(2, 2, append((3, 1), vec![], 26));
    assert_eq!(node.raft.commit_index(), index(3));
}

#[test]
fn an_old_leader_gives_way_in_the_middle_of_its_proposals() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.isolate(1);
    for number in 0..5 {
        cluster.node(1).propose(&format!("lost {number}"));
    }
    cluster.settle();
    cluster.elect(2);
    cluster.node(2).propose("kept");
    cluster.settle();
    cluster.heal();
    cluster.node(1).propose("lost too");
    let bytes = cluster.node(1).raft.uncommitted_bytes();
    assert_eq!(bytes, 5 * "lost 0".len() + "lost too".len() + 6 * raft::ENTRY_OVERHEAD_BYTES);
    cluster.ticks(2 * HEARTBEAT_TICKS);
    cluster.assert_converged();
    assert_eq!(cluster.node(1).log_terms(), [1, 2, 2]);
    assert!(cluster.node(1).events.contains(&raft::Event::Truncated { after: index(1), bytes }));
}

#[test]
fn committed_entries_are_never_replaced() {
    let mut node = Node::first_of(3);
    node.answer(2, 1, append((0, 0), entries(&[1, 1, 1]), 2));
    for body in [
        append((0, 0), vec![entry(2, 1)], 0),
        append((1, 1), vec![entry(2, 2)], 0),
        append((2, 2), vec![entry(2, 3)], 0),
        append((2, 2), vec![], 0),
    ] {
        assert_eq!(node.receive(3, 2, body), Err(Refused::ContradictsCommitted));
    }
    assert_eq!((node.raft.current_term(), node.log_terms()), (term(1), vec![1, 1, 1]), "nothing has changed");
    node.answer(3, 2, append((2, 1), vec![entry(2, 3)], 0));
    assert_eq!(node.log_terms(), [1, 1, 2], "what is not committed may be");
}

#[test]
fn conflicts_are_found_in_few_steps() {
    // The follower's log has 10,000 entries that the leader never had, of one term or of many.
    for terms_apart in [10_000, 400] {
        let common = 5;
        let leader_log: Vec<u64> = (0..common).map(|_| 1).chain((0..200).map(|number| 3 + number / 50 * 2)).collect();
        let follower_log: Vec<u64> =
            (0..common).map(|_| 1).chain((0..10_000).map(|number| 2 + number / terms_apart * 2)).collect();
        let disk = |number: u64| match number {
            2 => Disk::with(200, &follower_log),
            _ => Disk::with(200, &leader_log),
        };
        let mut cluster = Cluster::with(voters(3), options, disk);
        cluster.isolate(2);
        // Node 2 has a later last term when its terms are many, so it must hear of the election only as follower.
        cluster.elect(1);
        cluster.delivered.clear();
        cluster.heal();
        cluster.ticks(2 * HEARTBEAT_TICKS);
        cluster.assert_converged();
        let rejection =
            |message: &&Message| matches!(message.body, Body::AppendEntriesResponse(AppendResult::Rejected { .. }));
        let rejections = cluster.delivered.iter().filter(rejection).count();
        assert!(rejections <= 10, "{rejections} rejections with a new term every {terms_apart} entries");
    }
}

#[test]
fn terms_that_the_leader_never_saw_are_skipped_in_one_step() {
    let mut follower = Node::with_log(3, 9, &[1, 1, 1, 3, 4, 5, 6, 7]);
    let answers = follower.answer(2, 9, append((7, 2), vec![], 0));
    assert_eq!(answers[0].body, rejected(7, (3, 1)), "nothing above term 2 can match");
    let mut leader = Node::leader_with_log(3, 8, &[1, 1, 1, 1, 2, 2, 2]);
    let messages = leader.answer(2, 9, rejected(7, (3, 1)));
    assert_eq!(appends_to(&messages, 2), [(index(3), 5)]);
}

#[test]
fn interleaved_terms_cost_one_step_a_term_at_most() {
    // The worst case: both logs have many short terms, all different.
    let leader_log: Vec<u64> = [1].into_iter().chain((0..40).map(|number| 101 + 2 * number)).collect();
    let follower_log: Vec<u64> = [1].into_iter().chain((0..40).map(|number| 100 + 2 * number)).collect();
    let disk = |number: u64| Disk::with(200, if number == 2 { &follower_log } else { &leader_log });
    let mut cluster = Cluster::with(voters(3), options, disk);
    cluster.isolate(2);
    cluster.elect(1);
    cluster.delivered.clear();
    cluster.heal();
    cluster.ticks(2 * HEARTBEAT_TICKS);
    cluster.assert_converged();
    let answers = cluster.delivered.iter().filter(|message| message.body.kind() == "AppendEntriesResponse").count();
    assert!(answers <= 50, "{answers} answers");
}

#[test]
fn pages_of_committed_entries_forget_none() {
    let tiny = Options { apply_bytes_max: 1, ..options(1) };
    let mut node = Node::new(tiny, voters(3), Disk::default());
    let all = entries(&[1; 20]);
    node.receive(2, 1, append((0, 0), all.clone(), 12)).expect("valid");
    let first = node.raft.ready().committed;
    assert_eq!(first, all[..1], "a page has at least one entry");
    let mut rest = Vec::new();
    while node.raft.has_ready() {
        let page = node.raft.ready().committed;
        assert_eq!(page.len(), 1);
        rest.extend(page);
    }
    assert_eq!(rest, all[1..12]);
}

#[test]
fn an_empty_append_that_does_not_match_is_rejected() {
    let mut node = Node::with_log(3, 3, &[1, 1, 3]);
    let answers = node.answer(2, 4, append((3, 2), vec![], 0));
    assert_eq!(answers[0].body, rejected(3, (2, 1)));
    let answers = node.answer(2, 4, append((9, 4), vec![], 0));
    assert_eq!(answers[0].body, rejected(9, (3, 3)));
}

#[test]
fn a_probe_is_one_message_and_is_repeated_when_the_follower_is_alive() {
    let mut leader = leader_with(3);
    assert_eq!(progress_of(&leader, 2).state, "probe");
    leader.propose("more");
    assert_eq!(leader.pump(), [], "the probe is not answered yet");
    for _ in 0..3 * HEARTBEAT_TICKS {
        assert_eq!(appends_to(&leader.tick(), 2), [], "a silent follower gets heartbeats only");
    }
    let messages = leader.answer(2, 1, Body::HeartbeatResponse { round: 0, promised: false });
    assert_eq!(appends_to(&messages, 2), [(index(0), 0)], "alive, so what was sent may be lost");
    let messages = leader.answer(2, 1, accepted(0));
    assert_eq!(appends_to(&messages, 2), [(index(0), 5)]);
    assert_eq!(progress_of(&leader, 2).state, "replicate");
}

#[test]
fn lost_appends_are_found_by_the_next_heartbeat() {
    let mut cluster = Cluster::led_by_first(3);
    cluster.cut(1, 3);
    cluster.node(1).propose("lost on the way to 3");
    cluster.settle();
    cluster.heal();
    assert_eq!(cluster.node(3).raft.last_index(), index(1));
    cluster.ticks(HEARTBEAT_TICKS);
    cluster.assert_converged();
    // The same for a lost acknowledgement, and for a lost word of the commit index.
    cluster.node(1).propose("answers get lost");
    cluster.in_transit = cluster.node(1).pump().into();
    cluster.cut(1, 3);
    cluster.settle();
    cluster.heal();
    cluster.ticks(2 * HEARTBEAT_TICKS);
    cluster.assert_converged();
}

#[test]
fn a_lost_message_sends_the_leader_back_to_probing() {
    let mut leader = leader_with(0);
    leader.answer(2, 1, accepted(1));
    for number in 0..3 {
        leader.propose(&format!("{number}"));
        leader.pump();
    }
    assert_eq!(progress_of(&leader, 2).next_index, index(5));
    leader.raft.unreachable(id(2));
    let view = progress_of(&leader, 2);
    assert_eq!((view.state, view.match_index, view.next_index), ("probe", index(1), index(2)));
    assert_eq!(appends_to(&leader.pump(), 2), [(index(1), 3)]);
    leader.raft.unreachable(id(2));
    assert_eq!(leader.pump(), [], "a peer that stays away does not make it send more");
    leader.raft.unreachable(id(77));
}

#[test]
fn the_hint_on_disk_is_never_ahead_of_the_log() {
    let mut node = Node::first_of(3);
    node.disk_is_fast = false;
    node.answer(2, 1, append((0, 0), entries(&[1, 1]), 2));
    let batch = node.unsynced.back().expect("a batch").clone();
    assert_eq!(batch.hard_state.map(|state| state.commit_index), Some(index(2)), "with its entries in one batch");
    node.receive(2, 1, append((2, 1), vec![entry(1, 3)], 3)).expect("valid");
    assert_eq!(node.raft.hard_state().commit_index, index(2), "entry 3 was not handed out yet");
    node.pump();
    assert_eq!(node.raft.hard_state().commit_index, index(3));
    node.crash(usize::MAX);
    node.pump();
    assert_eq!(node.applied.len(), 3, "what the hint commits is applied without a leader");
}

#[test]
fn a_commit_alone_writes_nothing() {
    let mut node = Node::first_of(3);
    node.answer(2, 1, append((0, 0), entries(&[1]), 0));
    node.disk_is_fast = false;
    node.answer(2, 1, append((1, 1), vec![], 1));
    assert_eq!(node.raft.commit_index(), index(1));
    assert!(node.unsynced.is_empty());
}
