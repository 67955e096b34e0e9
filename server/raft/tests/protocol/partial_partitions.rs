//! Partitions in which some links work and some do not, so that nodes disagree about who is there: the three of the
//! OmniPaxos paper (Ng, Haridi and Carbone, "Omni-Paxos: Breaking the Barriers of Partial Connectivity", EuroSys 2023,
//! section 2), and the one in which a leader's last follower keeps the others from replacing it (openraft #2080).
//!
//! Each is begun at many moments and with many drawn timeouts. Messages take no time, so what is counted are timeouts.

use crate::cluster::Cluster;
use crate::node::*;
use raft::Options;

/// So many beginnings of each.
const BEGINNINGS: u64 = 60;

/// Within this time there is a leader that commits: three election timeouts of the longest kind.
const PATIENCE_TICKS: u32 = 3 * ELECTION_TICKS_MAX;

/// Node 1 leads, and everything is committed everywhere; it is some time since its last heartbeat.
fn led_by_first(count: u64, beginning: u64) -> Cluster {
    let seeded = |number| Options { seed: beginning * 100 + number, ..options(number) };
    let mut cluster = Cluster::with(voters(count), seeded, |_| Disk::default());
    cluster.elect(1);
    cluster.ticks(u32::try_from(beginning % 7).expect("small"));
    cluster
}

/// Only these links are left.
fn keep_links(cluster: &mut Cluster, count: u64, links: &[(u64, u64)]) {
    cluster.heal();
    for one in 1..=count {
        for other in one + 1..=count {
            if !links.contains(&(one, other)) {
                cluster.cut(one, other);
            }
        }
    }
}

/// Ticks until one of these leads and commits what it is given; who, and after how many ticks.
fn ticks_to_leader(cluster: &mut Cluster, among: &[u64]) -> (u64, u32) {
    for tick in 1..=PATIENCE_TICKS {
        cluster.tick();
        let Some(&leader) = among.iter().find(|&&number| cluster.node(number).raft.is_leader()) else { continue };
        let before = cluster.node(leader).raft.commit_index();
        cluster.node(leader).propose("after");
        cluster.settle();
        if cluster.node(leader).raft.commit_index() > before {
            return (leader, tick);
        }
    }
    panic!("none of {among:?} leads within {PATIENCE_TICKS} ticks");
}

#[test]
fn quorum_loss_the_hub_is_elected() {
    // Every link is gone but those of node 2. The leader is alive and heard of by the only node that could replace it.
    for beginning in 0..BEGINNINGS {
        let mut cluster = led_by_first(5, beginning);
        keep_links(&mut cluster, 5, &[(1, 2), (2, 3), (2, 4), (2, 5)]);
        assert_eq!(ticks_to_leader(&mut cluster, &[2]).0, 2);
        // The others, which do not hear each other, do not disturb it.
        let term = cluster.node(2).raft.current_term();
        cluster.ticks(10 * ELECTION_TICKS_MAX);
        assert!(cluster.node(2).raft.is_leader());
        assert_eq!(cluster.node(2).raft.current_term(), term);
    }
}

#[test]
fn constrained_election_nobody_can_lead_and_terms_do_not_run_away() {
    // Node 2, which is not up to date, is the only one that reaches a majority, and the leader is gone. Nobody can be
    // elected: who has the log reaches no majority, and who reaches one lacks the log (§5.4.1). This is a limit of
    // Raft. It costs nothing but time: terms stay, and three nodes that reach each other have a leader soon.
    for beginning in 0..BEGINNINGS {
        let mut cluster = led_by_first(5, beginning);
        cluster.isolate(2);
        cluster.node(1).propose("what node 2 has not");
        cluster.settle();
        keep_links(&mut cluster, 5, &[(2, 3), (2, 4), (2, 5)]);
        let term = cluster.node(3).raft.current_term();
        cluster.ticks(10 * ELECTION_TICKS_MAX);
        for number in 2..=5 {
            assert!(!cluster.node(number).raft.is_leader());
            assert_eq!(cluster.node(number).raft.current_term(), term, "pre-votes change no term");
        }
        keep_links(&mut cluster, 5, &[(2, 3), (2, 4), (2, 5), (3, 4)]);
        let (leader, _) = ticks_to_leader(&mut cluster, &[3, 4]);
        cluster.heal();
        cluster.ticks(3 * ELECTION_TICKS_MAX);
        assert_eq!(cluster.leader(), Some(leader));
        cluster.assert_converged();
    }
}

#[test]
fn chained_the_leader_stays_and_its_term_too() {
    // A line of three, of which an end leads or the middle. Who does not hear of the leader is refused by who does.
    for beginning in 0..BEGINNINGS {
        for links in [[(1, 2), (2, 3)], [(1, 2), (1, 3)]] {
            let mut cluster = led_by_first(3, beginning);
            let term = cluster.node(1).raft.current_term();
            keep_links(&mut cluster, 3, &links);
            for round in 0..10 {
                cluster.ticks(ELECTION_TICKS_MAX);
                assert!(cluster.node(1).raft.is_leader());
                let before = cluster.node(1).raft.commit_index();
                cluster.node(1).propose("goes on");
                cluster.settle();
                assert!(cluster.node(1).raft.commit_index() > before, "round {round}");
            }
            assert_eq!(cluster.node(1).raft.current_term(), term);
            cluster.heal();
            cluster.ticks(2 * ELECTION_TICKS_MAX);
            assert_eq!(cluster.node(1).raft.current_term(), term, "who comes back disturbs nobody");
            cluster.assert_converged();
        }
    }
}

#[test]
fn a_bridge_to_the_old_leader_keeps_no_majority_from_a_new_one() {
    // openraft #2080, A15: nodes 2, 3 and 4 reach each other, and node 2 still hears of the leader, which reaches
    // nobody else. As long as it does, it refuses the others; the leader has to step down by itself.
    for beginning in 0..BEGINNINGS {
        let mut cluster = led_by_first(5, beginning);
        keep_links(&mut cluster, 5, &[(1, 2), (2, 3), (2, 4), (3, 4)]);
        let (leader, _) = ticks_to_leader(&mut cluster, &[2, 3, 4]);
        let term = cluster.node(leader).raft.current_term();
        cluster.ticks(10 * ELECTION_TICKS_MAX);
        assert!(cluster.node(leader).raft.is_leader());
        assert_eq!(cluster.node(leader).raft.current_term(), term);
    }
}

#[test]
fn one_way_links_to_a_leader_do_not_keep_it_for_ever() {
    // The leader is heard by all and hears nobody: nothing is committed, and nobody misses it until it steps down.
    for beginning in 0..BEGINNINGS {
        let mut cluster = led_by_first(3, beginning);
        cluster.cut_one_way(2, 1);
        cluster.cut_one_way(3, 1);
        assert_ne!(ticks_to_leader(&mut cluster, &[2, 3]).0, 1);
    }
}
