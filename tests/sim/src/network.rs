//! The network: links that delay, lose, double and reorder messages, and that can be cut one by one.

use crate::coverage::Coverage;
use crate::random::Random;

/// How good the network of a run is. Times in microseconds, chances in thousandths.
#[derive(Clone, Debug)]
pub(crate) struct NetworkSettings {
    /// The shortest and the longest usual delay.
    pub(crate) delay_us: (u64, u64),
    /// How many messages take up to `spike_us` longer.
    pub(crate) spikes: u64,
    /// The longest additional delay.
    pub(crate) spike_us: u64,
    /// How many messages are lost.
    pub(crate) loss: u64,
    /// How many messages come twice.
    pub(crate) duplicates: u64,
    /// Whether a message may overtake an earlier one on its link.
    pub(crate) reorders: bool,
    /// In how many cases the sender is told of a loss.
    pub(crate) loss_told: u64,
}

/// What becomes of one message.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// When each copy arrives.
    pub(crate) arrivals_us: Vec<u64>,
    /// The sender will be told that it was lost.
    pub(crate) loss_told: bool,
}

/// Which of the connections between two nodes: neither delays what is on the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    /// The messages of the consensus core.
    Core,
    /// Snapshots in pieces, and what else is in no hurry.
    Side,
    /// The messages of reads that ask no leader.
    Replica,
}

/// The way that a message takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) lane: Lane,
}

/// All links of a cluster.
pub(crate) struct Network {
    size: usize,
    settings: NetworkSettings,
    /// How many partitions cut each link, by `from * size + to`.
    cut_counts: Vec<u32>,
    /// When the last message on each link arrives, for each lane.
    last_arrival_us: [Vec<u64>; 3],
    /// Every partition of the run: its links, and whether it is in force.
    partitions: Vec<(Vec<(usize, usize)>, bool)>,
    /// Losses in addition to the usual ones, in thousandths.
    burst_loss: u64,
    /// Delays in addition to the usual ones.
    burst_delay_us: u64,
    /// Numbers the bursts, so that the end of an old one does not end a later one.
    burst: u64,
    /// All faults have ended. Pieces of snapshots that overtake each other are asked for again, which takes long.
    is_healed: bool,
    random: Random,
    /// The luck of the messages of reads, which is of no concern to the others.
    replica_random: Random,
}

impl Network {
    /// A whole network.
    pub(crate) fn new(size: usize, settings: NetworkSettings, seed: u64) -> Network {
        Network {
            size,
            settings,
            cut_counts: vec![0; size * size],
            last_arrival_us: [vec![0; size * size], vec![0; size * size], vec![0; size * size]],
            partitions: Vec::new(),
            burst_loss: 0,
            burst_delay_us: 0,
            burst: 0,
            is_healed: false,
            random: Random::for_purpose(seed, "network"),
            replica_random: Random::for_purpose(seed, "network of reads"),
        }
    }

    /// Whether messages from one node to the other pass.
    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        self.cut_counts[from * self.size + to] == 0
    }

    /// A message leaves at `now_us`.
    pub(crate) fn send(&mut self, now_us: u64, link: Link, coverage: &mut Coverage) -> Fate {
        let Link { from, to, lane } = link;
        let lost = if !self.is_open(from, to) {
            coverage.hit("message cut off");
            true
        } else {
            let loss = self.settings.loss + self.burst_loss;
            let lost = self.luck(lane).chance(loss);
            if lost {
                coverage.hit("message lost");
            }
            lost
        };
        if lost {
            let told = self.settings.loss_told;
            let loss_told = told > 0 && self.luck(lane).chance(told);
            return Fate { arrivals_us: Vec::new(), loss_told };
        }
        let mut arrivals_us = vec![self.arrival_us(now_us, link, coverage)];
        let duplicates = self.settings.duplicates;
        if duplicates > 0 && self.luck(lane).chance(duplicates) {
            coverage.hit("message doubled");
            arrivals_us.push(self.arrival_us(now_us, link, coverage));
        }
        Fate { arrivals_us, loss_told: false }
    }

    fn luck(&mut self, lane: Lane) -> &mut Random {
        match lane {
            Lane::Core | Lane::Side => &mut self.random,
            Lane::Replica => &mut self.replica_random,
        }
    }

    fn arrival_us(&mut self, now_us: u64, link: Link, coverage: &mut Coverage) -> u64 {
        let NetworkSettings { delay_us, spikes, spike_us, reorders, .. } = self.settings;
        let burst_delay_us = self.burst_delay_us;
        let luck = self.luck(link.lane);
        let mut delay = luck.between(delay_us);
        if spikes > 0 && luck.chance(spikes) {
            delay += luck.below(spike_us);
        }
        if burst_delay_us > 0 {
            delay += luck.below(burst_delay_us);
        }
        let last = &mut self.last_arrival_us[link.lane as usize][link.from * self.size + link.to];
        let mut arrival = now_us + delay;
        if arrival < *last {
            if reorders && !(link.lane == Lane::Side && self.is_healed) {
                coverage.hit("message overtook another");
            } else {
                arrival = *last;
            }
        }
        *last = arrival.max(*last);
        arrival
    }

    /// Adds a partition that is not in force yet. Returns its number.
    pub(crate) fn add_partition(&mut self, cuts: Vec<(usize, usize)>) -> usize {
        self.partitions.push((cuts, false));
        self.partitions.len() - 1
    }

    /// Puts a partition in force, or ends it.
    pub(crate) fn set_partition(&mut self, number: usize, in_force: bool) {
        let Some((cuts, was)) = self.partitions.get_mut(number) else { return };
        if *was == in_force {
            return;
        }
        *was = in_force;
        for (from, to) in cuts {
            let count = &mut self.cut_counts[*from * self.size + *to];
            *count = if in_force { *count + 1 } else { *count - 1 };
        }
    }

    /// Losses and delays beyond the usual ones, until the burst of the returned number is calmed.
    pub(crate) fn begin_burst(&mut self, loss: u64, delay_us: u64) -> u64 {
        (self.burst_loss, self.burst_delay_us) = (loss, delay_us);
        self.burst += 1;
        self.burst
    }

    /// Ends a burst, unless a later one has begun.
    pub(crate) fn calm(&mut self, burst: u64) {
        if self.burst == burst {
            (self.burst_loss, self.burst_delay_us) = (0, 0);
        }
    }

    /// Ends all faults for good, but for the links cut by `partition`.
    pub(crate) fn heal(&mut self, cuts: Vec<(usize, usize)>) {
        for number in 0..self.partitions.len() {
            self.set_partition(number, false);
        }
        // What was planned for the old partitions finds none of them.
        self.partitions.clear();
        (self.burst_loss, self.burst_delay_us) = (0, 0);
        self.settings = NetworkSettings { spikes: 0, loss: 0, duplicates: 0, loss_told: 0, ..self.settings };
        self.is_healed = true;
        // What was late on an old connection does not hold up the new one.
        self.last_arrival_us.iter_mut().for_each(|arrivals| arrivals.fill(0));
        cuts.into_iter().for_each(|(from, to)| self.cut(from, to));
    }

    /// Cuts a link for good, one way.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cut_counts[from * self.size + to] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link { from: 0, to: 1, lane: Lane::Core };

    fn network(loss: u64, reorders: bool) -> Network {
        let settings = NetworkSettings {
            delay_us: (100, 10_000),
            spikes: 0,
            spike_us: 0,
            loss,
            duplicates: 0,
            reorders,
            loss_told: 0,
        };
        Network::new(3, settings, 1)
    }

    #[test]
    fn cuts_are_counted_and_one_way() {
        let mut network = network(0, false);
        let first = network.add_partition(vec![(0, 1)]);
        let second = network.add_partition(vec![(0, 1), (1, 2)]);
        network.set_partition(first, true);
        network.set_partition(second, true);
        network.set_partition(first, false);
        assert!(!network.is_open(0, 1) && network.is_open(1, 0) && !network.is_open(1, 2));
        assert!(network.send(0, LINK, &mut Coverage::default()).arrivals_us.is_empty());
        network.heal(vec![(2, 0)]);
        network.set_partition(second, true);
        assert!(network.is_open(0, 1) && !network.is_open(2, 0));
    }

    #[test]
    fn order_is_kept_only_where_it_is_promised() {
        let arrivals = |reorders| {
            let mut network = network(0, reorders);
            let mut coverage = Coverage::default();
            (0..50).map(|at| network.send(at, LINK, &mut coverage).arrivals_us[0]).collect::<Vec<_>>()
        };
        assert!(arrivals(false).is_sorted());
        assert!(!arrivals(true).is_sorted());
    }

    #[test]
    fn a_burst_loses_everything_until_it_is_calmed() {
        let mut network = network(0, false);
        let burst = network.begin_burst(1000, 0);
        assert!(network.send(0, LINK, &mut Coverage::default()).arrivals_us.is_empty());
        network.calm(burst);
        assert_eq!(network.send(0, LINK, &mut Coverage::default()).arrivals_us.len(), 1);
    }
}
