//! Whole clusters under faults, for a few hundred seeds: messages are lost, doubled, delayed and overtaken, disks are
//! slow, nodes are cut off, crash and lose what was not durable, entries leave the memory and reads of the disk fail.
//! Logs are cut off behind snapshots, nodes install each other's at any time, and now and then one loses a part of its
//! log.
//!
//! After every step the five properties of Figure 3 are checked from outside, with the whole history in view, and
//! with them that reads are linearizable. In the end the faults stop, and the cluster has to come to rest with equal
//! logs and to take commands again.

use crate::node::*;
use bytes::Bytes;
use raft::{BatchNumber, Configuration, Entry, Event, Message, NodeId, Options, Raft, ReadId, Role, Term};
use std::collections::{BTreeMap, BTreeSet};

/// SplitMix64 once more, so that the tests need no other crate; see the core's `random` for its source.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// What is known of a whole run, to check each step against.
#[derive(Default)]
struct History {
    leaders: BTreeMap<Term, NodeId>,
    /// The longest sequence of entries that any node applied.
    applied: Vec<Entry>,
    /// How much was applied anywhere when a read was asked for.
    reads: BTreeMap<ReadId, u64>,
    reads_served: usize,
    installed: usize,
    recovered: usize,
}

struct Simulation {
    dice: Dice,
    nodes: Vec<Node>,
    network: Vec<Message>,
    /// How much of what each node applied was compared with the history.
    compared: Vec<usize>,
    /// Nodes that neither hear nor are heard.
    isolated: BTreeSet<NodeId>,
    history: History,
    /// Faults happen once in so many chances; zero is never.
    fault_sides: u64,
    /// The more, the faster election timeouts pass compared with messages.
    ticks_at_once: u32,
    next_read: u64,
}

/// Small limits, so that every window, page and tail is full now and then.
fn small(number: u64, seed: u64) -> Options {
    Options {
        append_bytes_max: 200,
        inflight_messages_max: 2,
        uncommitted_bytes_max: 2_000,
        tail_bytes_max: 300,
        apply_bytes_max: 150,
        seed: seed.wrapping_mul(31).wrapping_add(number),
        ..options(number)
    }
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let configuration = match seed % 6 {
            0 => voters(1),
            1 => voters(2),
            2 | 3 => voters(3),
            4 => voters(5),
            _ => Configuration::joint([id(1), id(2), id(3)], [id(2), id(3), id(4)]).with_learners([id(5)]),
        };
        let members = configuration.members().into_iter();
        let nodes: Vec<Node> =
            members.map(|id| Node::new(small(id.get(), seed), configuration.clone(), Disk::default())).collect();
        Simulation {
            dice: Dice(seed),
            compared: vec![0; nodes.len()],
            nodes,
            network: Vec::new(),
            isolated: BTreeSet::new(),
            history: History::default(),
            fault_sides: [0, 4, 10, 40][usize::try_from(seed / 6 % 4).expect("below four")],
            ticks_at_once: [1, 2, 6][usize::try_from(seed / 24 % 3).expect("below three")],
            next_read: 0,
        }
    }

    fn fault(&mut self) -> bool {
        self.fault_sides > 0 && self.dice.one_in(self.fault_sides)
    }

    fn step(&mut self) {
        let chosen = usize::try_from(self.dice.roll(self.nodes.len() as u64)).expect("few nodes");
        match self.dice.roll(110) {
            0..20 => (0..self.ticks_at_once).for_each(|_| self.nodes[chosen].raft.tick()),
            20..65 => return self.deliver(),
            65..80 => self.nodes[chosen].sync_one(),
            80..88 => self.propose(chosen),
            88..92 => self.read(chosen),
            92 => {
                let target = id(self.dice.roll(5) + 1);
                let _ = self.nodes[chosen].raft.transfer_leadership(target);
            }
            93 => {
                let peer = id(self.dice.roll(5) + 1);
                self.nodes[chosen].raft.unreachable(peer);
                if self.dice.roll(2) == 0 {
                    self.nodes[chosen].raft.peer_gone(peer);
                }
            }
            94 => self.nodes[chosen].reads_fail = self.fault(),
            95 => self.isolate(chosen),
            96..100 => self.crash(chosen),
            100..105 => self.compact(chosen),
            105..109 => self.install(chosen),
            _ => self.forget(chosen),
        }
        self.settle(chosen);
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        // Any message in transit may be the next: everything overtakes everything.
        let oldest_first = !self.fault();
        let chosen = if oldest_first { 0 } else { self.dice.roll(self.network.len() as u64) };
        let chosen = usize::try_from(chosen).expect("few messages");
        let message = if self.fault() { self.network[chosen].clone() } else { self.network.remove(chosen) };
        let cut_off = self.isolated.contains(&message.from) || self.isolated.contains(&message.to);
        let lost = cut_off || self.fault();
        let receiver = self.nodes.iter().position(|node| node.id() == message.to);
        if let Some(receiver) = receiver.filter(|_| !lost) {
            let _ = self.nodes[receiver].raft.step(message);
            self.settle(receiver);
        }
    }

    fn propose(&mut self, chosen: usize) {
        let bytes = usize::try_from(self.dice.roll(120)).expect("small");
        let _ = self.nodes[chosen].raft.propose(Bytes::from(vec![7; bytes]));
    }

    fn read(&mut self, chosen: usize) {
        self.next_read += 1;
        let read = ReadId::new(self.next_read);
        if self.nodes[chosen].raft.read(read).is_ok() {
            self.history.reads.insert(read, self.history.applied.len() as u64);
        }
    }

    /// Now and then one node is cut off, until it is another's turn.
    fn isolate(&mut self, chosen: usize) {
        self.isolated.clear();
        if self.fault() {
            self.isolated.insert(self.nodes[chosen].id());
        }
    }

    fn crash(&mut self, chosen: usize) {
        if self.fault() {
            let node = &mut self.nodes[chosen];
            self.compared[chosen] = 0;
            let survivors = self.dice.roll(node.unsynced.len() as u64 + 1);
            node.crash(usize::try_from(survivors).expect("few batches"));
        }
    }

    fn compact(&mut self, chosen: usize) {
        let node = &mut self.nodes[chosen];
        node.take_snapshot();
        node.cut(self.dice.roll(node.disk.snapshot.len() as u64 + 1));
    }

    /// Any snapshot may come from anyone, whether it was offered or not.
    fn install(&mut self, chosen: usize) {
        let from = usize::try_from(self.dice.roll(self.nodes.len() as u64)).expect("few nodes");
        let snapshot = self.nodes[from].disk.snapshot.clone();
        if !snapshot.is_empty() {
            self.nodes[chosen].install(&snapshot);
        }
    }

    /// One node at a time, for two that have forgotten what they acknowledged are too many, and a majority is left.
    fn forget(&mut self, chosen: usize) {
        let is_recovering = |node: &Node| node.raft.status().recovering;
        if self.nodes.len() < 3 || self.nodes.iter().any(is_recovering) || !self.fault() {
            return;
        }
        let node = &mut self.nodes[chosen];
        self.compared[chosen] = 0;
        let kept = self.dice.roll(node.disk.last_index().get() + 1);
        node.forget(usize::try_from(kept).expect("a short log"));
    }

    /// Without faults every offer leads to a snapshot.
    fn deliver_snapshot(&mut self, position: usize) {
        for offer in std::mem::take(&mut self.nodes[position].offers) {
            let from = self.nodes.iter().position(|node| node.id() == offer.from).filter(|_| self.fault_sides == 0);
            if let Some(from) = from {
                let snapshot = self.nodes[from].disk.snapshot.clone();
                self.nodes[position].install(&snapshot);
                self.settle(position);
            }
        }
    }

    /// Takes what a node has to say, and checks it.
    fn settle(&mut self, position: usize) {
        let messages = self.nodes[position].pump();
        self.network.extend(messages);
        self.check_node(position);
        self.deliver_snapshot(position);
        // A network does not hold arbitrarily much.
        let excess = self.network.len().saturating_sub(300);
        self.network.drain(..excess);
    }

    fn check_node(&mut self, position: usize) {
        let node = &mut self.nodes[position];
        for event in std::mem::take(&mut node.events) {
            self.history.installed += usize::from(matches!(event, Event::Installed { .. }));
            self.history.recovered += usize::from(matches!(event, Event::Recovered { .. }));
            if let Event::BecameLeader { term } = event {
                let leader = *self.history.leaders.entry(term).or_insert(node.id());
                assert_eq!(leader, node.id(), "Election Safety: two leaders in term {term}");
                let complete =
                    self.history.applied.iter().all(|entry| node.raft.term_at(entry.index) == Some(entry.term));
                assert!(complete, "Leader Completeness: the leader of term {term} lacks a committed entry");
            }
        }
        for (read, index) in node.reads.drain(..) {
            let floor = self.history.reads[&read];
            assert!(index.get() >= floor, "a read at {index} misses what was applied before it was asked, {floor}");
            self.history.reads_served += 1;
        }
        let known = self.history.applied.len().min(node.applied.len());
        let fresh = self.compared[position]..known;
        assert_eq!(node.applied[fresh.clone()], self.history.applied[fresh], "State Machine Safety");
        self.history.applied.extend_from_slice(&node.applied[known..]);
        self.compared[position] = node.applied.len();
    }

    /// Log Matching over all pairs of logs: equal terms at an index mean equal logs up to there.
    fn check_log_matching(&self) {
        let logs: Vec<Vec<u64>> = self.nodes.iter().map(Node::log_terms).collect();
        for (position, one) in logs.iter().enumerate() {
            for other in &logs[position + 1..] {
                let last_equal = one.iter().zip(other).rposition(|(one, other)| one == other);
                let shared = last_equal.map_or(0, |position| position + 1);
                assert_eq!(one[..shared], other[..shared], "Log Matching");
            }
        }
    }

    /// No more faults: the cluster has to recover by itself.
    fn heal(&mut self) {
        self.fault_sides = 0;
        self.isolated.clear();
        self.nodes.iter_mut().for_each(|node| {
            node.reads_fail = false;
            node.disk_is_fast = true;
            node.sync_all();
        });
        for round in 0..400 {
            for position in 0..self.nodes.len() {
                self.nodes[position].raft.tick();
                self.settle(position);
            }
            while !self.network.is_empty() {
                self.deliver();
            }
            // Long enough for leases to end and elections to be held, then as soon as all is equal.
            if round >= 3 * ELECTION_TICKS_MAX && self.has_converged() {
                return self.check_log_matching();
            }
        }
        let states: Vec<_> = self.nodes.iter().map(|node| node.raft.status()).collect();
        panic!("the cluster does not recover: {states:#?}");
    }

    fn has_converged(&self) -> bool {
        let leaders = self.nodes.iter().filter(|node| node.raft.role() == Role::Leader).count();
        let (first, rest) = self.nodes.split_first().expect("there are nodes");
        let equal = |node: &Node| node.applied == first.applied && node.log_terms() == first.log_terms();
        leaders == 1 && first.raft.last_index().get() == first.applied.len() as u64 && rest.iter().all(equal)
    }

    fn run(seed: u64, steps: usize) -> History {
        let mut simulation = Simulation::new(seed);
        simulation.nodes.iter_mut().for_each(|node| node.disk_is_fast = false);
        for step in 0..steps {
            simulation.step();
            if step % 16 == 0 {
                simulation.check_log_matching();
            }
        }
        simulation.heal();
        let applied_before = simulation.history.applied.len();
        let leader = simulation.nodes.iter_mut().find(|node| node.raft.is_leader()).expect("it has converged");
        leader.propose("after all faults");
        simulation.heal();
        assert_eq!(simulation.history.applied.len(), applied_before + 1, "seed {seed}: no progress after all faults");
        simulation.history
    }
}

#[test]
fn random_networks_keep_the_five_properties() {
    let (mut applied, mut elections, mut reads, mut installed, mut recovered) = (0, 0, 0, 0, 0);
    for seed in 0..300 {
        let history = Simulation::run(seed, 3_000);
        applied += history.applied.len();
        elections += history.leaders.len();
        reads += history.reads_served;
        installed += history.installed;
        recovered += history.recovered;
    }
    // A simulation in which nothing happens proves nothing.
    assert!(applied > 15_000 && elections > 1_000 && reads > 5_000, "{applied} {elections} {reads}");
    assert!(installed > 200 && recovered > 100, "{installed} {recovered}");
}

#[test]
fn equal_seeds_give_equal_runs() {
    for seed in [4, 10, 16, 23] {
        let (one, other) = (Simulation::run(seed, 800), Simulation::run(seed, 800));
        assert_eq!((one.applied, one.leaders), (other.applied, other.leaders));
    }
}

#[test]
fn equal_starts_do_not_split_votes_for_ever() {
    // A23: seven nodes that start in the same instant; only their seeds differ.
    let mut rounds = Vec::new();
    for seed in 0..200 {
        let mut nodes: Vec<Raft> = (1..=7)
            .map(|number| {
                let options = Options { seed: seed * 7 + number, ..options(number) };
                let restored = raft::Restored {
                    configuration: voters(7),
                    hard_state: raft::HardState::default(),
                    term_starts: Vec::new(),
                    tail: Vec::new(),
                    last_index: index(0),
                    first_index: index(1),
                    snapshot_index: index(0),
                    may_have_promised: false,
                    forgotten_term: None,
                    applied: index(0),
                };
                Raft::new(options, restored).expect("valid")
            })
            .collect();
        let mut ticks = 0;
        while !nodes.iter().any(Raft::is_leader) {
            ticks += 1;
            nodes.iter_mut().for_each(Raft::tick);
            // Two ticks for a message there and back, as in a network much faster than the timeouts.
            for _ in 0..2 {
                let mut messages = Vec::new();
                for node in &mut nodes {
                    let ready = node.ready();
                    node.persisted(ready.persist.map_or(BatchNumber::ZERO, |batch| batch.number));
                    messages.extend(ready.messages.into_iter().chain(ready.messages_after_persist));
                }
                for message in messages {
                    let to = usize::try_from(message.to.get() - 1).expect("small");
                    let _ = nodes[to].step(message);
                }
            }
        }
        rounds.push(ticks / ELECTION_TICKS_MAX);
    }
    rounds.sort_unstable();
    assert!(rounds[198] <= 6, "rounds until a leader: {rounds:?}");
}
