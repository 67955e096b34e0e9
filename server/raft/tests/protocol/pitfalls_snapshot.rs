//! Ways in which snapshots and a log without its beginning have hurt other implementations: the leader's side, and
//! whole clusters.

use crate::cluster::Cluster;
use crate::disk::term_starts;
use crate::node::*;
use raft::{Body, Message, Options};

/// Entries leave the memory as soon as they may.
fn forgetful(number: u64) -> Options {
    Options { tail_bytes_max: 0, ..options(number) }
}

/// The leader of term `current_term` + 1 among three, with everything up to its first entry committed, applied, in a
/// snapshot and cut off; node 2 acknowledged it, node 3 was never heard of.
fn compacted_leader(current_term: u64, terms: &[u64]) -> Node {
    let mut leader = Node::new(forgetful(1), voters(3), Disk::with(current_term, terms));
    leader.campaign();
    leader.receive(2, current_term + 1, vote(true)).expect("a vote");
    leader.pump();
    leader.answer(2, current_term + 1, accepted(terms.len() as u64 + 1));
    assert_eq!(leader.raft.commit_index(), leader.raft.last_index());
    leader.compact();
    leader.pump();
    leader
}

#[test]
fn a_follower_behind_the_beginning_of_the_log_is_offered_the_snapshot() {
    // B16: there is nothing left to send it, and the log may even end where the snapshot does.
    let mut leader = compacted_leader(2, &[1, 1, 2]);
    let probe = leader.answer(3, 3, rejected(3, (0, 0)));
    assert_eq!(probe.last().map(|message| &message.body), Some(&append((0, 0), Vec::new(), 4)), "terms are known");
    let sent = leader.answer(3, 3, accepted(0));
    assert_eq!(sent.last().map(|message| &message.body), Some(&offer(4, 3)));
    assert!(leader.fetches.is_empty(), "what is cut off is not asked of the disk");
    let sent = leader.answer(3, 3, accepted(4));
    assert_eq!(sent, [Message { from: id(1), to: id(3), term: term(3), body: append((4, 3), Vec::new(), 4) }]);
    leader.propose("a");
    assert_eq!(kinds(&leader.pump(), 3), ["AppendEntries"]);
}

#[test]
fn an_offer_is_repeated_while_the_follower_is_alive() {
    let mut leader = compacted_leader(2, &[1, 1, 2]);
    leader.answer(3, 3, rejected(3, (0, 0)));
    assert_eq!(kinds(&leader.answer(3, 3, accepted(0)), 3), ["InstallSnapshot"]);
    assert_eq!(kinds(&leader.answer(3, 3, accepted(0)), 3), [""; 0], "an old answer");
    leader.raft.unreachable(id(3));
    assert_eq!(kinds(&leader.pump(), 3), [""; 0]);
    for _ in 0..5 {
        let mut sent = Vec::new();
        (0..HEARTBEAT_TICKS).for_each(|_| sent.extend(leader.tick()));
        assert_eq!(kinds(&sent, 3), ["Heartbeat"], "a silent follower costs no more than that");
        let sent = leader.answer(3, 3, Body::HeartbeatResponse { round: 0, promised: false });
        assert_eq!(kinds(&sent, 3), ["InstallSnapshot"]);
        let sent = leader.answer(3, 3, Body::HeartbeatResponse { round: 0, promised: false });
        assert_eq!(kinds(&sent, 3), [""; 0], "once in an interval");
        leader.answer(2, 3, Body::HeartbeatResponse { round: 0, promised: false });
    }
    assert_eq!(leader.raft.status().progress[1].1.state, "snapshot");
}

#[test]
fn what_is_cut_off_but_in_memory_is_sent_from_there() {
    let mut leader = Node::leader_with_log(3, 2, &[1, 1, 2]);
    leader.answer(2, 3, accepted(4));
    leader.compact();
    assert_eq!(leader.raft.status().first_index, index(5));
    leader.answer(3, 3, rejected(3, (1, 1)));
    let sent = leader.answer(3, 3, accepted(1));
    let Some(Message { body: Body::AppendEntries { prev_log_index, entries, .. }, .. }) = sent.last() else {
        panic!("no entries but {sent:?}");
    };
    assert_eq!((prev_log_index.get(), entries.len()), (1, 3));
}

#[test]
fn a_read_that_fails_because_the_log_was_cut_meanwhile_becomes_an_offer() {
    let mut leader = Node::new(forgetful(1), voters(3), Disk::with(2, &[1, 1, 2]));
    leader.campaign();
    leader.receive(2, 3, vote(true)).expect("a vote");
    leader.pump();
    leader.answer(2, 3, accepted(4));
    leader.raft.step(Message { from: id(3), to: id(1), term: term(3), body: rejected(3, (1, 1)) }).expect("valid");
    leader.pump();
    leader.raft.step(Message { from: id(3), to: id(1), term: term(3), body: accepted(1) }).expect("valid");
    let ready = leader.raft.ready();
    let [fetch] = ready.fetches[..] else { panic!("one read, not {:?}", ready.fetches) };
    leader.compact();
    assert!(!leader.raft.has_ready(), "it may have been read before");
    leader.raft.fetched(fetch, Vec::new());
    assert_eq!(kinds(&leader.pump(), 3), ["InstallSnapshot"]);
    // A failure that had nothing to do with it is retried at the next heartbeat, if there still is something to read.
    leader.answer(3, 3, accepted(4));
    assert_eq!(leader.raft.status().progress[1].1.state, "replicate");
}

#[test]
fn answers_to_what_was_sent_ahead_do_not_repeat_the_offer() {
    let mut leader = Node::new(Options { append_bytes_max: 1, ..forgetful(1) }, voters(3), Disk::with(1, &[1; 4]));
    leader.campaign();
    leader.receive(2, 2, vote(true)).expect("a vote");
    leader.pump();
    leader.answer(3, 2, rejected(4, (0, 0)));
    leader.answer(3, 2, accepted(0));
    assert_eq!(leader.fetches.len(), 0, "all is in memory, because nothing is applied");
    let sent_ahead = leader.raft.status().progress[1].1.next_index;
    assert_eq!(sent_ahead, index(6));
    leader.propose("a");
    leader.propose("b");
    leader.pump();
    leader.answer(2, 2, accepted(7));
    leader.compact();
    leader.raft.unreachable(id(3));
    leader.pump();
    assert_eq!(kinds(&leader.answer(3, 2, accepted(0)), 3), ["InstallSnapshot"]);
    let sent = leader.answer(3, 2, accepted(2));
    assert_eq!(
        kinds(&sent, 3),
        ["InstallSnapshot"],
        "what had left before arrived after all: something else comes next"
    );
    for match_index in [1, 2, 0] {
        assert_eq!(kinds(&leader.answer(3, 2, accepted(match_index)), 3), [""; 0]);
    }
    leader.answer(3, 2, rejected(4, (1, 1)));
    assert_eq!(leader.raft.status().progress[1].1.state, "snapshot", "nor does a late rejection end it");
    assert_eq!(leader.raft.status().progress[1].1.match_index, index(2));
}

#[test]
fn a_conflicting_tail_across_the_snapshot_is_replaced() {
    // E3: the entry at the snapshot's index is of another term, with more behind it.
    let mut cluster = Cluster::with(voters(3), forgetful, |number| match number {
        3 => Disk::with(3, &[1, 3, 3, 3, 3, 3, 3]),
        _ => Disk::with(4, &[1, 1, 4]),
    });
    cluster.isolate(3);
    cluster.elect(1);
    cluster.node(1).compact();
    assert_eq!(cluster.node(1).raft.status().snapshot_index, index(4));
    cluster.heal();
    cluster.ticks(3 * HEARTBEAT_TICKS);
    assert_eq!(installed(cluster.node(3)), [4]);
    cluster.assert_converged();
    let offers = cluster.delivered.iter().filter(|message| message.body.kind() == "InstallSnapshot").count();
    assert!(offers <= 2, "it was offered {offers} times");
    cluster.node(3).crash(0);
    assert_eq!(cluster.node(3).log_terms(), [1, 1, 4, 5]);
}

#[test]
fn snapshots_in_quick_succession_do_no_harm() {
    // E12, and E6 as far as the core goes: the state after a snapshot is the snapshot's.
    let mut cluster = Cluster::with(voters(3), forgetful, |_| Disk::default());
    cluster.elect(1);
    for round in 0..30 {
        let slow = 2 + round % 2;
        cluster.isolate(slow);
        for number in 0..3 {
            cluster.node(1).propose(&format!("{round} {number}"));
        }
        cluster.settle();
        cluster.node(1).compact();
        cluster.node(1).compact();
        cluster.heal();
        cluster.ticks(2 * HEARTBEAT_TICKS);
        cluster.assert_converged();
        assert_eq!(installed(cluster.node(slow)).len(), 1, "in round {round}");
        cluster.node(slow).events.clear();
        cluster.node(slow).compact();
        if round % 5 == 0 {
            cluster.node(slow).crash(0);
            cluster.node(slow).pump();
        }
    }
    assert_eq!(cluster.leader(), Some(1));
}

#[test]
fn a_snapshot_that_is_too_old_when_it_arrives_is_followed_by_the_next() {
    // E16: the log is cut on while the follower fetches; each time it gets what it was offered, one offer too late.
    let mut leader = compacted_leader(2, &[1, 1, 2]);
    leader.answer(3, 3, rejected(3, (0, 0)));
    leader.answer(3, 3, accepted(0));
    for last in 4..10 {
        leader.propose("a");
        leader.pump();
        leader.answer(2, 3, accepted(last + 1));
        leader.compact();
        let sent = leader.answer(3, 3, accepted(last));
        assert_eq!(sent.last().map(|message| &message.body), Some(&offer(last + 1, 3)));
    }
    leader.propose("b");
    leader.pump();
    let sent = leader.answer(3, 3, accepted(10));
    assert_eq!(kinds(&sent, 3), ["AppendEntries"]);
}

#[test]
fn a_new_leader_offers_its_own_snapshot() {
    // One with a longer beginning may still have the entries.
    let mut cluster = Cluster::with(voters(3), forgetful, |_| Disk::default());
    cluster.elect(1);
    cluster.isolate(3);
    for number in 0..5 {
        cluster.node(1).propose(&format!("{number}"));
    }
    cluster.settle();
    cluster.ticks(HEARTBEAT_TICKS);
    cluster.node(1).compact();
    cluster.node(2).take_snapshot();
    cluster.node(2).cut(3);
    cluster.node(1).raft.transfer_leadership(id(2)).expect("it leads");
    cluster.settle();
    assert_eq!(cluster.leader(), Some(2));
    cluster.heal();
    cluster.ticks(3 * HEARTBEAT_TICKS);
    cluster.assert_converged();
    assert_eq!(installed(cluster.node(3)), [6], "that of node 2, whose log begins at 4");
}

#[test]
fn restored_indexes_must_fit_each_other() {
    let sound = || {
        let mut disk = Disk::with(2, &[1, 1, 2, 2]);
        disk.snapshot = entries(&[1, 1, 2]);
        disk.cut(index(2));
        disk.restored(voters(3))
    };
    let attempt = |change: &dyn Fn(&mut raft::Restored)| {
        let mut restored = sound();
        change(&mut restored);
        raft::Raft::new(options(1), restored)
    };
    let raft = attempt(&|_| {}).expect("it is sound");
    let status = raft.status();
    assert_eq!((status.first_index, status.snapshot_index, status.commit_index), (index(3), index(3), index(3)));
    let wrong: [&dyn Fn(&mut raft::Restored); 6] = [
        &|restored| restored.first_index = index(0),
        &|restored| restored.first_index = index(5),
        &|restored| restored.snapshot_index = index(1),
        &|restored| restored.snapshot_index = index(4),
        &|restored| restored.applied = index(2),
        &|restored| restored.hard_state.commit_index = index(5),
    ];
    for (number, change) in wrong.into_iter().enumerate() {
        assert!(matches!(attempt(change), Err(raft::SetupError::Log(_))), "case {number}");
    }
}

#[test]
fn older_snapshots_and_cuts_mean_nothing() {
    let mut node = Node::with_log(3, 1, &[1, 1, 1, 1]);
    node.answer(2, 1, append((4, 1), Vec::new(), 4));
    node.take_snapshot();
    node.cut(3);
    node.raft.snapshot_taken(index(2));
    node.raft.compacted(index(2));
    let status = node.raft.status();
    assert_eq!((status.first_index, status.snapshot_index), (index(4), index(4)));
    assert_eq!(node.raft.term_starts(index(4)), term_starts(&node.applied));
}

#[test]
fn what_a_truncation_under_way_drops_is_not_cut_off() {
    // The disk still has entries of term 2 where those of term 3 are committed, by the disks of others.
    let mut node = Node::with_log(3, 2, &[1, 2, 2, 2]);
    node.disk_is_fast = false;
    node.answer(2, 3, append((1, 1), vec![entry(3, 2), entry(3, 3)], 3));
    node.take_snapshot();
    assert_eq!((node.raft.status().snapshot_index, node.raft.cuttable_index()), (index(3), index(1)));
    node.cut(3);
    node.crash(1);
    assert_eq!((node.log_terms(), node.disk.cut), (vec![1, 3, 3], 1));
    assert_eq!(node.raft.cuttable_index(), index(3));
}

#[test]
fn nothing_is_cut_off_a_log_that_is_about_to_be_forgotten() {
    let mut node = Node::with_log(3, 3, &[1, 2, 2, 2, 2, 2]);
    node.disk_is_fast = false;
    assert!(node.install(&entries(&[1, 1, 3])));
    assert_eq!(node.raft.cuttable_index(), index(0), "it has not left the core");
    node.pump();
    assert_eq!(node.raft.cuttable_index(), index(0), "it is on its way");
    node.cut(3);
    node.crash(0);
    assert_eq!(node.log_terms(), [1, 1, 3], "no entries of term 2 behind the snapshot");
}

#[test]
#[should_panic(expected = "but only 2 is applied")]
fn a_snapshot_of_what_is_not_applied_is_no_snapshot() {
    let mut node = Node::with_log(3, 1, &[1, 1, 1, 1]);
    node.answer(2, 1, append((4, 1), Vec::new(), 2));
    node.raft.snapshot_taken(index(3));
}

#[test]
#[should_panic(expected = "but only 2 may be")]
fn only_what_a_snapshot_covers_is_cut_off() {
    let mut node = Node::with_log(3, 1, &[1, 1, 1, 1]);
    node.answer(2, 1, append((4, 1), Vec::new(), 2));
    node.take_snapshot();
    node.raft.compacted(index(4));
}

#[test]
fn a_follower_that_has_all_before_the_log_by_now_gets_entries_and_no_later_snapshot() {
    // E16 once more, the follower's side: what it was offered first is here, and the leader has another by now.
    let mut node = Node::with_log(3, 2, &[1]);
    assert!(node.install(&entries(&[1, 1, 2])));
    node.pump();
    node.sync_all();
    let answers = node.answer(2, 2, offer(5, 2));
    assert!(answers.iter().any(|message| message.body == accepted(3)), "{answers:?}");
    // Of what it only has in memory, and of what is not committed, it says nothing.
    let mut node = Node::with_log(3, 2, &[1, 1]);
    assert!(node.answer(2, 2, offer(5, 2)).is_empty());
}
