//! Ways in which a snapshot that takes the place of a log has hurt other implementations: the follower's side.

use crate::node::*;
use raft::{Index, Refused, Role, SnapshotOffer, Term};

#[test]
fn an_old_offer_and_an_old_snapshot_change_nothing() {
    // E4: a snapshot that was on its way for long truncates a newer log.
    let mut node = Node::with_log(3, 2, &[1, 1, 2, 2, 2]);
    node.answer(2, 2, append((5, 2), Vec::new(), 4));
    for (last_index, last_term) in [(2, 1), (4, 2), (5, 2)] {
        let sent = node.answer(2, 2, offer(last_index, last_term));
        assert_eq!(sent.last().map(|message| &message.body), Some(&accepted(last_index)));
        assert!(node.offers.is_empty(), "it has all that");
        assert!(!node.install(&entries(&[1, 1, 2, 2, 2][..position(index(last_index))])));
        assert_eq!((node.log_terms(), node.applied.len() > 3), (vec![1, 1, 2, 2, 2], true));
    }
    assert_eq!(node.raft.commit_index(), index(5), "a snapshot holds committed entries only");
    assert!(installed(&node).is_empty() && node.unsynced.is_empty());
}

#[test]
fn a_snapshot_of_other_committed_entries_is_refused() {
    // E5.
    let mut node = Node::with_log(3, 2, &[1, 1, 2, 2]);
    node.answer(2, 2, append((4, 2), Vec::new(), 3));
    let before = node.raft.status();
    assert_eq!(node.receive(2, 3, offer(2, 2)), Err(Refused::ContradictsCommitted));
    assert_eq!(node.receive(2, 3, offer(3, 1)), Err(Refused::ContradictsCommitted));
    assert_eq!(node.raft.status(), before, "not even the term is taken over");
    for terms in [&[1, 2, 2, 2, 2][..], &[2; 5], &[1, 1, 1, 1, 1], &[1, 1, 1, 2, 2, 3]] {
        assert!(!node.install(&entries(terms)), "{terms:?}");
    }
    assert_eq!(node.raft.status(), before);
    assert!(node.install(&entries(&[1, 1, 2, 3, 3])), "what is not committed may differ");
}

#[test]
fn nonsense_is_no_snapshot() {
    let mut node = Node::with_log(3, 2, &[1, 2]);
    let before = node.raft.status();
    for (body, refused) in [
        (offer(0, 0), Refused::MalformedSnapshot),
        (offer(0, 1), Refused::MalformedSnapshot),
        (offer(5, 0), Refused::MalformedSnapshot),
        (offer(5, 4), Refused::MalformedSnapshot),
        (offer(u64::MAX, 2), Refused::MalformedSnapshot),
    ] {
        assert_eq!(node.receive(2, 3, body), Err(refused));
    }
    let tables: [(u64, &[(u64, u64)]); 11] = [
        (0, &[]),
        (5, &[]),
        (5, &[(2, 1)]),
        (5, &[(1, 0)]),
        (5, &[(1, 1), (1, 2)]),
        (5, &[(1, 1), (3, 1)]),
        (5, &[(1, 2), (3, 1)]),
        (5, &[(1, 1), (6, 2)]),
        (5, &[(1, 1), (3, 1 << 33)]),
        (u64::MAX, &[(1, 1)]),
        (1 << 63, &[(1, 1)]),
    ];
    for (last_index, starts) in tables {
        let starts: Vec<(Index, Term)> = starts.iter().map(|&(first, of)| (index(first), term(of))).collect();
        assert!(!node.raft.install(index(last_index), &starts), "{last_index} {starts:?}");
        assert!(!node.raft.install(index(0), &starts));
    }
    assert_eq!((node.raft.status(), node.pump()), (before, Vec::new()));
}

#[test]
fn offers_come_from_leaders_only() {
    let mut node = Node::with_log(3, 2, &[1, 2]);
    node.answer(2, 2, heartbeat(0, 0));
    assert_eq!(node.receive(3, 2, offer(5, 2)), Err(Refused::TwoLeaders));
    assert_eq!(node.receive(4, 2, offer(5, 2)), Err(Refused::UnknownSender));
    let stale = node.answer(3, 1, offer(5, 1));
    assert_eq!((stale.len(), stale[0].term), (1, term(2)), "an old leader learns of the term");
    assert!(node.offers.is_empty());
    // As any word of a leader, an offer keeps elections away and ends campaigns.
    node.tick_until(|node| node.raft.role() == Role::PreCandidate);
    assert_eq!(node.answer(3, 4, offer(5, 4)), []);
    assert_eq!(node.offers, [SnapshotOffer { from: id(3), index: index(5) }]);
    assert_eq!(
        (node.raft.role(), node.raft.leader(), node.raft.current_term()),
        (Role::Follower, Some(id(3)), term(4))
    );
    for _ in 0..5 * ELECTION_TICKS_MAX {
        node.tick();
        node.answer(3, 4, offer(5, 4));
    }
    assert_eq!(node.raft.leader(), Some(id(3)));
    let learner = raft::Configuration::new([1, 2].map(id)).with_learners([id(3)]);
    let mut node = Node::new(options(1), learner, Disk::default());
    assert_eq!(node.receive(3, 4, offer(5, 4)), Err(Refused::NotAVoter));
}

#[test]
fn a_snapshot_replaces_the_log_and_the_log_goes_on_behind_it() {
    let mut node = Node::with_log(3, 2, &[1, 2, 2]);
    node.answer(2, 2, append((3, 2), Vec::new(), 1));
    node.answer(2, 2, offer(6, 2));
    assert!(node.install(&entries(&[1, 1, 1, 2, 2, 2, 2])), "a newer one than was offered is as good");
    let ready = node.raft.ready();
    let batch = ready.persist.clone().expect("the log is to be forgotten");
    assert_eq!((batch.reset_to, batch.truncate_after, batch.entries.len()), (Some(index(7)), None, 0));
    assert_eq!(batch.hard_state.map(|state| state.commit_index), Some(index(7)));
    assert!(ready.committed.is_empty() && ready.messages_after_persist.is_empty(), "{ready:?}");
    node.unsynced.push_back(batch);
    node.sync_all();
    let status = node.raft.status();
    let indexes = [status.commit_index, status.applied, status.last_index, status.durable_index, status.snapshot_index];
    assert_eq!((indexes, status.first_index, status.current_term), ([index(7); 5], index(8), term(2)));
    let sent = node.answer(2, 2, offer(6, 2));
    assert_eq!(sent.last().map(|message| &message.body), Some(&accepted(6)), "the next offer is answered exactly");
    node.answer(2, 2, append((7, 2), vec![entry(2, 8)], 8));
    assert_eq!((node.applied.len(), node.disk.entries.len()), (8, 1));
    // B12: an append from the very beginning is not taken for new.
    let sent = node.answer(2, 2, append((0, 0), entries(&[1, 1, 1, 2]), 8));
    assert_eq!(sent.last().map(|message| &message.body), Some(&accepted(4)));
    assert_eq!(node.receive(2, 2, append((0, 0), entries(&[2]), 8)), Err(Refused::ContradictsCommitted));
    assert_eq!(node.raft.last_index(), index(8));
}

#[test]
fn a_crash_around_an_install_finds_the_old_state_or_the_new() {
    // E1, as far as the core goes: the snapshot is there, and any prefix of the batches is.
    let snapshot = entries(&[1, 1, 2, 2, 3]);
    for survivors in 0..=4 {
        let mut node = Node::with_log(3, 2, &[1]);
        node.disk_is_fast = false;
        node.answer(2, 2, append((1, 1), vec![entry(2, 2), entry(2, 3), entry(2, 4)], 1));
        node.answer(2, 3, append((2, 2), vec![entry(3, 3)], 1));
        assert!(node.install(&snapshot));
        node.answer(2, 3, append((5, 3), vec![entry(3, 6)], 5));
        assert_eq!(node.unsynced.len(), 3);
        node.crash(survivors);
        let expected = if survivors < 3 { vec![1, 1, 2, 2, 3] } else { vec![1, 1, 2, 2, 3, 3] };
        assert_eq!(node.log_terms(), expected, "{survivors} batches survived");
        assert_eq!(node.applied, snapshot);
        assert_eq!(node.raft.status().first_index, index(6));
    }
}

#[test]
fn batches_under_way_say_nothing_about_a_log_that_is_gone() {
    // E2: late news of old batches, appends and another snapshot, in every order of the disk.
    for synced_before in 0..=2 {
        for synced_between in 0..=2 {
            let mut node = Node::with_log(3, 2, &[1]);
            node.disk_is_fast = false;
            node.answer(2, 2, append((1, 1), (2..=9).map(|at| entry(2, at)).collect(), 1));
            node.answer(2, 3, append((1, 1), (2..=9).map(|at| entry(3, at)).collect(), 1));
            (0..synced_before).for_each(|_| node.sync_one());
            assert!(node.install(&entries(&[1, 1, 1, 1, 2])));
            assert_eq!(node.raft.status().durable_index, index(5));
            node.answer(2, 3, append((5, 2), (6..=9).map(|at| entry(3, at)).collect(), 5));
            (0..synced_between).for_each(|_| node.sync_one());
            assert!(node.raft.status().durable_index >= index(5));
            node.answer(3, 4, append((6, 3), vec![entry(4, 7)], 5));
            assert!(node.install(&entries(&[1, 1, 1, 1, 2, 3, 4, 4])));
            assert_eq!(node.raft.status().durable_index, index(8));
            node.answer(3, 4, append((8, 4), vec![entry(4, 9)], 8));
            while !node.unsynced.is_empty() {
                node.sync_one();
                node.pump();
                let mut restarted = Node::new(options(1), voters(3), node.disk.clone());
                assert!(restarted.log_terms().starts_with(&[1, 1, 1, 1, 2, 3, 4, 4]));
                restarted.pump();
            }
            assert_eq!(node.raft.status().durable_index, index(9));
        }
    }
}

#[test]
fn of_several_snapshots_before_a_write_the_last_one_counts() {
    let mut node = Node::with_log(3, 3, &[1]);
    assert!(node.install(&entries(&[1, 1, 2])));
    node.receive(2, 3, append((3, 2), vec![entry(2, 4), entry(2, 5), entry(2, 6)], 3)).expect("valid");
    node.receive(2, 3, append((4, 2), vec![entry(3, 5)], 3)).expect("valid");
    assert!(node.install(&entries(&[1, 1, 2, 2, 2])), "the entry at its end differs");
    node.receive(3, 4, append((5, 2), vec![entry(4, 6)], 5)).expect("valid");
    let ready = node.raft.ready();
    let batch = ready.persist.expect("there is much to write");
    assert_eq!((batch.reset_to, batch.truncate_after), (Some(index(5)), None));
    assert_eq!(batch.entries, [entry(4, 6)]);
}

#[test]
fn acknowledgements_of_the_old_log_do_not_leave_behind_a_snapshot() {
    let mut node = Node::with_log(3, 2, &[1]);
    node.receive(2, 2, append((1, 1), vec![entry(2, 2), entry(2, 3)], 1)).expect("valid");
    assert!(node.install(&entries(&[1, 1])));
    assert_eq!(kinds(&node.pump(), 2), [""; 0], "it would acknowledge entry 3, which was never written");
}

#[test]
fn a_leader_keeps_its_log() {
    let mut leader = Node::leader_with_log(3, 3, &[1, 1, 2]);
    assert_eq!((leader.log_terms(), leader.raft.commit_index()), (vec![1, 1, 2, 4], index(0)));
    let before = leader.raft.status();
    assert!(!leader.install(&entries(&[1, 1, 2])), "it has it, and will commit it");
    assert!(!leader.install(&entries(&[1, 1, 3, 3])), "it was deposed, and will hear of it");
    assert_eq!(leader.raft.status(), before);
    assert!(leader.install(&entries(&[1, 1, 3, 5])), "of a later leader");
    assert_eq!((leader.raft.role(), leader.raft.current_term()), (Role::Follower, term(5)));
    assert_eq!(leader.raft.propose(bytes::Bytes::new()).err(), Some(raft::ProposeError::NotLeader { leader: None }));
}

#[test]
fn a_campaign_ends_with_the_log_that_it_was_for() {
    for wins_pre_vote in [false, true] {
        let mut node = Node::with_log(3, 2, &[1, 2]);
        match wins_pre_vote {
            true => drop(node.campaign()),
            false => node.tick_until(|node| node.raft.role() == Role::PreCandidate),
        }
        let campaign_term = node.raft.current_term().get();
        assert!(!node.install(&entries(&[1])), "it has that one, and goes on");
        assert_ne!(node.raft.role(), Role::Follower);
        assert!(node.install(&entries(&[1, 1, 1])));
        assert_eq!(node.raft.role(), Role::Follower);
        node.receive(2, campaign_term, vote(true)).ok();
        assert!(!node.raft.is_leader());
        node.pump();
    }
}
