//! The network between the nodes: messages in flight, and which links are cut.

use std::collections::BTreeSet;

use raft::{Message, NodeId};

use crate::render;

/// Messages in flight in the order in which they were sent, and the links that lose everything.
#[derive(Default)]
pub(crate) struct Network {
    in_flight: Vec<Message>,
    /// Groups that can talk among themselves; a node may be in several of them. Empty: everyone reaches everyone.
    groups: Vec<BTreeSet<NodeId>>,
    /// One-way cuts, sender first.
    cuts: BTreeSet<(NodeId, NodeId)>,
}

/// Which messages in flight a command means: all, or those that fit all that is given.
#[derive(Clone, Default)]
pub(crate) struct Selector {
    pub(crate) from: Option<NodeId>,
    pub(crate) to: Option<NodeId>,
    pub(crate) kind: Option<String>,
    /// At most this many, oldest first.
    pub(crate) count_max: Option<usize>,
}

impl Selector {
    fn fits(&self, message: &Message) -> bool {
        self.from.is_none_or(|from| message.from == from)
            && self.to.is_none_or(|to| message.to == to)
            && self.kind.as_deref().is_none_or(|kind| render::kind(&message.body) == kind)
    }
}

impl Network {
    /// True if nothing sent on this link arrives.
    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        let apart =
            !self.groups.is_empty() && !self.groups.iter().any(|group| group.contains(&from) && group.contains(&to));
        apart || self.cuts.contains(&(from, to))
    }

    /// Puts a message on its way, behind all others.
    pub(crate) fn send(&mut self, message: Message) {
        self.in_flight.push(message);
    }

    /// Takes the selected messages out, oldest first.
    pub(crate) fn take(&mut self, selector: &Selector) -> Vec<Message> {
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        for message in std::mem::take(&mut self.in_flight) {
            let full = selector.count_max.is_some_and(|count_max| taken.len() >= count_max);
            if !full && selector.fits(&message) { taken.push(message) } else { kept.push(message) }
        }
        self.in_flight = kept;
        taken
    }

    /// Puts a second copy of each selected message behind all messages in flight, and returns the copies.
    pub(crate) fn duplicate(&mut self, selector: &Selector) -> Vec<Message> {
        let count_max = selector.count_max.unwrap_or(usize::MAX);
        let copies: Vec<Message> =
            self.in_flight.iter().filter(|message| selector.fits(message)).take(count_max).cloned().collect();
        self.in_flight.extend(copies.iter().cloned());
        copies
    }

    /// Turns the order of the selected messages round, behind all others, and returns them in the new order.
    pub(crate) fn reverse(&mut self, selector: &Selector) -> Vec<Message> {
        let mut turned = self.take(selector);
        turned.reverse();
        self.in_flight.extend(turned.iter().cloned());
        turned
    }

    /// All messages in flight, oldest first.
    pub(crate) fn in_flight(&self) -> &[Message] {
        &self.in_flight
    }

    /// From now on only nodes that share a group reach each other. Messages in flight are late, not lost.
    pub(crate) fn partition(&mut self, groups: Vec<BTreeSet<NodeId>>) {
        self.groups = groups;
    }

    /// From now on nothing that `from` sends reaches `to`.
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Every link works again.
    pub(crate) fn heal(&mut self) {
        self.groups.clear();
        self.cuts.clear();
    }
}
