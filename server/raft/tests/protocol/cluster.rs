//! A few nodes and a network between them that is perfect, but for the links that a test cuts.

use crate::node::{Disk, ELECTION_TICKS_MIN, Node, id, options, voters};
use raft::{Configuration, Message, NodeId, Options, Role};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) in_transit: VecDeque<Message>,
    /// Directed links that lose everything.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Every message delivered, in order.
    pub(crate) delivered: Vec<Message>,
}

impl Cluster {
    pub(crate) fn new(count: u64) -> Cluster {
        Cluster::with(voters(count), options, |_| Disk::default())
    }

    pub(crate) fn with(
        configuration: Configuration,
        options: impl Fn(u64) -> Options,
        disk: impl Fn(u64) -> Disk,
    ) -> Cluster {
        let node = |id: NodeId| (id, Node::new(options(id.get()), configuration.clone(), disk(id.get())));
        let nodes = configuration.members().into_iter().map(node).collect();
        Cluster { nodes, in_transit: VecDeque::new(), cut: BTreeSet::new(), delivered: Vec::new() }
    }

    /// A cluster led by node 1.
    pub(crate) fn led_by_first(count: u64) -> Cluster {
        let mut cluster = Cluster::new(count);
        cluster.elect(1);
        cluster
    }

    pub(crate) fn node(&mut self, number: u64) -> &mut Node {
        self.nodes.get_mut(&id(number)).expect("the test knows its nodes")
    }

    /// Lets this node alone run into its election timeout, and win; for the others just enough time passes that they
    /// no longer count on the leader they had.
    pub(crate) fn elect(&mut self, number: u64) {
        for node in self.nodes.values_mut().filter(|node| node.id().get() != number && !node.raft.is_leader()) {
            for _ in 0..ELECTION_TICKS_MIN {
                node.tick();
            }
        }
        for _ in 0..200 {
            if self.node(number).raft.is_leader() {
                return self.settle();
            }
            let messages = self.node(number).tick();
            self.in_transit.extend(messages);
            self.settle();
        }
        panic!("node {number} was not elected");
    }

    /// Delivers messages until there are none.
    pub(crate) fn settle(&mut self) {
        for node in self.nodes.values_mut() {
            self.in_transit.extend(node.pump());
        }
        self.deliver_snapshots();
        for _ in 0..200_000 {
            let Some(message) = self.in_transit.pop_front() else {
                return;
            };
            if self.cut.contains(&(message.from, message.to)) {
                continue;
            }
            self.delivered.push(message.clone());
            if let Some(node) = self.nodes.get_mut(&message.to) {
                let _ = node.raft.step(message);
                self.in_transit.extend(node.pump());
                self.deliver_snapshots();
            }
        }
        panic!("the cluster never falls silent");
    }

    /// Hands every node the snapshots that it was offered, as they are now.
    fn deliver_snapshots(&mut self) {
        let offers: Vec<_> =
            self.nodes.values_mut().map(|node| (node.id(), std::mem::take(&mut node.offers))).collect();
        for (to, offer) in offers.into_iter().flat_map(|(to, offers)| offers.into_iter().map(move |offer| (to, offer)))
        {
            if self.cut.contains(&(offer.from, to)) {
                continue;
            }
            let snapshot = self.nodes[&offer.from].disk.snapshot.clone();
            let node = self.nodes.get_mut(&to).expect("it took an offer");
            node.install(&snapshot);
            self.in_transit.extend(node.pump());
        }
    }

    /// One tick on every node, and all that comes of it.
    pub(crate) fn tick(&mut self) {
        for node in self.nodes.values_mut() {
            self.in_transit.extend(node.tick());
        }
        self.settle();
    }

    pub(crate) fn ticks(&mut self, count: u32) {
        for _ in 0..count {
            self.tick();
        }
    }

    /// Cuts both directions.
    pub(crate) fn cut(&mut self, one: u64, other: u64) {
        self.cut.extend([(id(one), id(other)), (id(other), id(one))]);
    }

    /// Loses what `from` says to `to`.
    pub(crate) fn cut_one_way(&mut self, from: u64, to: u64) {
        self.cut.insert((id(from), id(to)));
    }

    pub(crate) fn isolate(&mut self, number: u64) {
        let others: Vec<u64> = self.nodes.keys().map(|other| other.get()).filter(|&other| other != number).collect();
        others.into_iter().for_each(|other| self.cut(number, other));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// The leader of the highest term.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leaders = self.nodes.values().filter(|node| node.raft.role() == Role::Leader);
        leaders.max_by_key(|node| node.raft.current_term()).map(|node| node.id().get())
    }

    /// Asserts that all logs and commit indexes are equal.
    pub(crate) fn assert_converged(&mut self) {
        let first = self.nodes.values().next().expect("a cluster has nodes");
        let (terms, commit) = (first.log_terms(), first.raft.commit_index());
        assert_eq!(commit, first.raft.last_index(), "not everything is committed");
        for node in self.nodes.values() {
            assert_eq!(node.log_terms(), terms, "the log of {} differs", node.id());
            assert_eq!(node.raft.commit_index(), commit, "the commit index of {} differs", node.id());
            assert_eq!(node.applied.len() as u64, commit.get(), "{} has not applied everything", node.id());
        }
    }
}
