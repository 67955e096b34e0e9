//! The ways in which a network falls apart, each as the set of one-way links that it cuts.

use crate::random::Random;

/// A kind of partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum PartitionKind {
    /// The leader against all others.
    IsolateLeader,
    /// A node that does not lead against all others.
    IsolateFollower,
    /// Fewer than half against the others.
    IsolateMinority,
    /// Two groups of any size; one of them may be a majority.
    MajoritySplit,
    /// Everyone alone.
    AllApart,
    /// One node hears nobody but is heard.
    OneWayIn,
    /// One node hears everybody but is not heard.
    OneWayOut,
    /// Everyone sees a majority, but none sees the same one.
    RingOfMajorities,
    /// Two groups that share one node.
    Bridge,
    /// Two groups that share the leader alone.
    BridgeOldLeader,
    /// Everyone sees only the next in a row.
    Chain,
    /// One node sees all, the others see only it.
    HubOnly,
}

impl PartitionKind {
    /// All of them.
    pub(crate) const ALL: [PartitionKind; 12] = [
        PartitionKind::IsolateLeader,
        PartitionKind::IsolateFollower,
        PartitionKind::IsolateMinority,
        PartitionKind::MajoritySplit,
        PartitionKind::AllApart,
        PartitionKind::OneWayIn,
        PartitionKind::OneWayOut,
        PartitionKind::RingOfMajorities,
        PartitionKind::Bridge,
        PartitionKind::BridgeOldLeader,
        PartitionKind::Chain,
        PartitionKind::HubOnly,
    ];

    /// The name in coverage tables and stories.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            PartitionKind::IsolateLeader => "partition: isolate leader",
            PartitionKind::IsolateFollower => "partition: isolate follower",
            PartitionKind::IsolateMinority => "partition: isolate minority",
            PartitionKind::MajoritySplit => "partition: majority split",
            PartitionKind::AllApart => "partition: all apart",
            PartitionKind::OneWayIn => "partition: one-way in",
            PartitionKind::OneWayOut => "partition: one-way out",
            PartitionKind::RingOfMajorities => "partition: ring of majorities",
            PartitionKind::Bridge => "partition: bridge",
            PartitionKind::BridgeOldLeader => "partition: bridge with old leader",
            PartitionKind::Chain => "partition: chain",
            PartitionKind::HubOnly => "partition: hub only",
        }
    }

    /// The links (from, to) that are cut in a cluster of `size` nodes.
    pub(crate) fn cuts(self, size: usize, leader: Option<usize>, random: &mut Random) -> Vec<(usize, usize)> {
        let order = random.shuffled(size);
        let place = |node: usize| order.iter().position(|other| *other == node).unwrap_or(0);
        let leader = leader.unwrap_or(order[0]);
        let follower = order.iter().copied().find(|node| *node != leader).unwrap_or(leader);
        let minority = 1 + random.position(size.saturating_sub(1) / 2 + 1);
        let split = 1 + random.position(size.saturating_sub(1).max(1));
        let apart = |group: &dyn Fn(usize) -> bool, from: usize, to: usize| group(from) != group(to);
        let is_cut = |from: usize, to: usize| match self {
            PartitionKind::IsolateLeader => apart(&|node| node == leader, from, to),
            PartitionKind::IsolateFollower => apart(&|node| node == follower, from, to),
            PartitionKind::IsolateMinority => apart(&|node| place(node) < minority.min(size / 2), from, to),
            PartitionKind::MajoritySplit => apart(&|node| place(node) < split, from, to),
            PartitionKind::AllApart => true,
            PartitionKind::OneWayIn => to == order[0],
            PartitionKind::OneWayOut => from == order[0],
            PartitionKind::RingOfMajorities => {
                let distance = place(from).abs_diff(place(to));
                distance.min(size - distance) > (size / 2).div_ceil(2)
            }
            PartitionKind::Bridge | PartitionKind::BridgeOldLeader => {
                let bridge = if self == PartitionKind::Bridge { order[0] } else { leader };
                from != bridge && to != bridge && apart(&|node| place(node) % 2 == 0, from, to)
            }
            PartitionKind::Chain => place(from).abs_diff(place(to)) > 1,
            PartitionKind::HubOnly => from != order[0] && to != order[0],
        };
        let links = (0..size).flat_map(|from| (0..size).map(move |to| (from, to)));
        links.filter(|(from, to)| from != to && is_cut(*from, *to)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many others each of five nodes hears and is heard by.
    fn heard(kind: PartitionKind) -> Vec<usize> {
        let cuts = kind.cuts(5, Some(2), &mut Random::new(1));
        let both = |a: usize, b: usize| !cuts.contains(&(a, b)) && !cuts.contains(&(b, a));
        (0..5).map(|node| (0..5).filter(|other| *other != node && both(node, *other)).count()).collect()
    }

    #[test]
    fn shapes_are_what_they_are_called() {
        let sorted = |kind| {
            let mut counts = heard(kind);
            counts.sort_unstable();
            counts
        };
        assert_eq!(heard(PartitionKind::IsolateLeader), [3, 3, 0, 3, 3]);
        assert_eq!(sorted(PartitionKind::IsolateFollower), [0, 3, 3, 3, 3]);
        assert_eq!(sorted(PartitionKind::AllApart), [0; 5]);
        assert_eq!(sorted(PartitionKind::RingOfMajorities), [2; 5]);
        assert_eq!(sorted(PartitionKind::Chain), [1, 1, 2, 2, 2]);
        assert_eq!(sorted(PartitionKind::HubOnly), [1, 1, 1, 1, 4]);
        assert_eq!(heard(PartitionKind::BridgeOldLeader)[2], 4);
        for kind in [PartitionKind::OneWayIn, PartitionKind::OneWayOut] {
            assert_eq!(kind.cuts(5, None, &mut Random::new(3)).len(), 4);
        }
    }

    #[test]
    fn no_kind_minds_a_small_cluster() {
        for size in 1..=7 {
            for kind in PartitionKind::ALL {
                let cuts = kind.cuts(size, None, &mut Random::new(size as u64));
                assert!(cuts.iter().all(|(from, to)| from != to && *from < size && *to < size));
            }
        }
    }
}
