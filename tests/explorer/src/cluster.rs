//! A cluster in one moment, and everything that can happen next.
//!
//! Nodes and messages are numbers into tables that all clusters share, so a cluster is a few dozen bytes, and a step
//! of a node that was taken before is looked up.

use crate::arena::{Arena, Interner};
use crate::bounds::{Bounds, NODES_MAX, TERMS_MAX};
use crate::hash::{self, Digest, Folded};
use crate::invariant::{self, Broken, Invariant};
use crate::node::{Effects, Input, Node, Slot, View, name, number, small};
use crate::panics;
use crate::quorum_read::{self, QuorumRead};
use raft::{Body, Message, NodeId};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// How many parts the table of steps has, so that threads rarely wait for each other.
const STEP_SHARDS: usize = 64;

/// What the world remembers of a run, whatever the nodes have forgotten.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Ghost {
    /// Everything that was ever committed, from index 1 on.
    pub(crate) ledger: Vec<Committed>,
    /// Who was elected in each term, counted from 1; zero if nobody was.
    pub(crate) leaders: [u8; TERMS_MAX + 1],
    /// A read without a leader that has begun.
    pub(crate) read: Option<QuorumRead>,
}

/// A committed entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Committed {
    pub(crate) slot: Slot,
    /// The term of the leader that committed it first.
    pub(crate) in_term: u8,
}

/// How often each bounded thing has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Used {
    timeouts: u8,
    heartbeats: u8,
    proposals: u8,
    crashes: u8,
    drops: u8,
    overtakings: u8,
    duplicates: u8,
    reads: u8,
    transfers: u8,
    compactions: u8,
    installs: u8,
}

/// A cluster between two steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cluster {
    nodes: [u32; NODES_MAX],
    ghost: u32,
    used: Used,
    /// One bit for each node that anything has happened to; all of them once somebody was elected.
    touched: u8,
    /// The messages in flight, link by link, each link in the order in which they were sent. Where overtaking is not
    /// bounded that order means nothing, and they are in the order of their numbers.
    flight: Box<[u32]>,
}

/// One thing that happens, at one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    pub(crate) node: usize,
    pub(crate) input: Input<u32>,
    /// The message that is no longer in flight afterwards.
    pub(crate) consumed: Option<u32>,
    used: Used,
}

/// What a step of a node does, in numbers.
struct Outcome {
    node: u32,
    sent: Box<[u32]>,
    /// Index and entry of what was handed out to be applied.
    committed: Box<[(u8, Slot)]>,
    broken: Vec<Broken>,
    /// Nothing has changed and nothing was sent.
    void: bool,
    /// The core panicked, so there is no node afterwards; the number is that of the node before.
    panicked: bool,
}

/// The outcome of each input that a node was given.
type Steps = HashMap<(u32, Input<u32>), u32, Folded>;

/// The tables, and the rules.
pub(crate) struct World {
    pub(crate) bounds: Bounds,
    nodes: Interner<Digest, Node>,
    messages: Interner<Message, Message>,
    ghosts: Interner<Ghost, Ghost>,
    outcomes: Arena<Outcome>,
    steps: Vec<RwLock<Steps>>,
    start: Cluster,
}

impl World {
    pub(crate) fn new(bounds: Bounds) -> World {
        let nodes = Interner::new();
        let mut numbers = [0; NODES_MAX];
        for (at, place) in numbers.iter_mut().enumerate().take(usize::from(bounds.nodes)) {
            let node = Node::new(at, &bounds);
            *place = nodes.intern(node.digest, || node);
        }
        let ghosts = Interner::new();
        let ghost = ghosts.intern(Ghost::default(), Ghost::default);
        let start = Cluster { nodes: numbers, ghost, used: Used::default(), touched: 0, flight: Box::default() };
        let steps = (0..STEP_SHARDS).map(|_| RwLock::default()).collect();
        World { bounds, nodes, messages: Interner::new(), ghosts, outcomes: Arena::new(), steps, start }
    }

    /// The cluster before anything has happened.
    pub(crate) fn start(&self) -> Cluster {
        self.start.clone()
    }

    /// How many different states single nodes were seen in.
    pub(crate) fn node_count(&self) -> u32 {
        self.nodes.len()
    }

    /// How many different steps single nodes took.
    pub(crate) fn step_count(&self) -> u32 {
        self.outcomes.len()
    }

    pub(crate) fn message(&self, number: u32) -> &Message {
        self.messages.get(number)
    }

    pub(crate) fn nodes(&self, cluster: &Cluster) -> Vec<&Node> {
        cluster.nodes[..usize::from(self.bounds.nodes)].iter().map(|&number| self.nodes.get(number)).collect()
    }

    /// What names this state; `bytes` is room to work in.
    pub(crate) fn digest(&self, cluster: &Cluster, bytes: &mut Vec<u8>) -> Digest {
        let Cluster { nodes, ghost, used, touched, flight } = cluster;
        let Used { timeouts, heartbeats, proposals, crashes, drops, overtakings, .. } = *used;
        let Used { duplicates, reads, transfers, compactions, installs, .. } = *used;
        bytes.clear();
        bytes.push(*touched);
        bytes.extend([timeouts, heartbeats, proposals, crashes, drops, overtakings]);
        bytes.extend([duplicates, reads, transfers, compactions, installs]);
        for number in nodes.iter().chain([ghost]).chain(flight.iter()) {
            bytes.extend(number.to_le_bytes());
        }
        hash::digest(bytes)
    }

    /// Shows `visit` everything that can happen next, and the cluster that comes of it or what it breaks.
    pub(crate) fn successors(&self, cluster: &Cluster, visit: &mut impl FnMut(Action, Result<Cluster, Broken>)) {
        let nodes = self.nodes(cluster);
        let acting = self.acting(cluster);
        let mut act = |action: Action| {
            let outcome = self.outcome(cluster, &action);
            if outcome.panicked && !self.bounds.invariants.contains(&Invariant::CoreAssertion) {
                return; // There is no node left that could go on.
            }
            // Whatever can follow can follow without it, with more left to happen, unless it let a message pass that
            // stood in the way of others. In a bag none does.
            let makes_way = action.consumed.is_some() && self.bounds.overtakings.is_some();
            if !outcome.void || makes_way || !outcome.broken.is_empty() {
                visit(action, self.follow(cluster, &nodes, action, outcome));
            }
        };
        for (at, node) in nodes.iter().enumerate().filter(|&(at, _)| acting[at]) {
            self.own_actions(cluster, at, node, &mut act);
        }
        for (at, &message) in cluster.flight.iter().enumerate() {
            let before = &cluster.flight[..at];
            // Of equal messages only the first need be looked at.
            if !before.contains(&message) {
                let overtakes = before.last().is_some_and(|&last| self.link(last) == self.link(message));
                self.message_actions(cluster, &nodes, &acting, (message, overtakes), &mut act);
            }
        }
        if self.bounds.quorum_reads {
            self.ask(cluster, &nodes, visit);
        }
    }

    /// Shows `visit` each node's word to a read without a leader.
    fn ask(&self, cluster: &Cluster, nodes: &[&Node], visit: &mut impl FnMut(Action, Result<Cluster, Broken>)) {
        let known = self.ghosts.get(cluster.ghost);
        for (at, node) in nodes.iter().enumerate() {
            let action = Action { node: at, input: Input::Ask, consumed: None, used: cluster.used };
            match quorum_read::ask(known, at, node) {
                Ok(None) => {}
                Ok(Some(read)) => {
                    let news = Ghost { read: Some(read), ..known.clone() };
                    let ghost = self.ghosts.intern(news.clone(), || news);
                    visit(action, Ok(Cluster { ghost, ..cluster.clone() }));
                }
                Err(broken) if self.bounds.invariants.contains(&broken.invariant) => visit(action, Err(broken)),
                Err(_) => {}
            }
        }
    }

    /// Which nodes need to be looked at. Until there is a leader, nodes that nothing has happened to yet, and that
    /// are sent the same, can be exchanged for one another: nobody knows of them but as an address. Only the first
    /// of them acts; what the others would do is the same with the names exchanged.
    fn acting(&self, cluster: &Cluster) -> [bool; NODES_MAX] {
        let mut acting = [true; NODES_MAX];
        let is_new = |at: usize| cluster.touched & (1 << at) == 0;
        let mail = |at: usize| {
            let messages = cluster.flight.iter().map(|&message| self.message(message));
            let mut mail: Vec<_> = messages.filter(|message| message.to == name(at)).map(shape).collect();
            if self.bounds.overtakings.is_none() {
                mail.sort_unstable();
            }
            mail
        };
        for (at, acts) in acting.iter_mut().enumerate().take(usize::from(self.bounds.nodes)) {
            *acts = !is_new(at) || !(0..at).any(|other| is_new(other) && mail(other) == mail(at));
        }
        acting
    }

    /// What can happen at a node of its own accord, or by its clients and its disk.
    fn own_actions(&self, cluster: &Cluster, at: usize, node: &Node, act: &mut impl FnMut(Action)) {
        let Bounds { terms, timeouts, heartbeats, proposals, crashes, reads, transfers, .. } = self.bounds;
        let (used, view) = (cluster.used, &node.view);
        let mut own = |input, used| act(Action { node: at, input, consumed: None, used });
        if view.pending > 0 {
            own(Input::Persist, used);
        }
        if used.timeouts < timeouts && (view.leads || view.term < terms) {
            own(Input::Timeout, Used { timeouts: used.timeouts + 1, ..used });
        }
        if used.crashes < crashes {
            for kept in 0..=view.pending {
                own(Input::Crash { kept }, Used { crashes: used.crashes + 1, ..used });
            }
        }
        self.snapshot_actions(cluster, at, view, &mut own);
        if used.reads < reads && (view.leads || view.follows) {
            let committed = small(self.ghosts.get(cluster.ghost).ledger.len() as u64);
            own(Input::Read(committed), Used { reads: used.reads + 1, ..used });
        }
        if !view.leads {
            return;
        }
        if used.heartbeats < heartbeats {
            own(Input::Heartbeat, Used { heartbeats: used.heartbeats + 1, ..used });
        }
        if used.proposals < proposals {
            own(Input::Propose(used.proposals + 1), Used { proposals: used.proposals + 1, ..used });
        }
        if used.transfers < transfers {
            for target in (0..usize::from(self.bounds.nodes)).filter(|&target| target != at) {
                own(Input::Transfer(name(target)), Used { transfers: used.transfers + 1, ..used });
            }
        }
    }

    /// What can happen to snapshots at a node.
    fn snapshot_actions(&self, cluster: &Cluster, at: usize, view: &View, own: &mut impl FnMut(Input<u32>, Used)) {
        let used = cluster.used;
        if used.compactions < self.bounds.compactions && view.applied > view.snapshot {
            own(Input::Compact, Used { compactions: used.compactions + 1, ..used });
        }
        if used.installs == self.bounds.installs {
            return;
        }
        let nodes = self.nodes(cluster);
        let others = nodes.iter().enumerate().filter(|&(other, _)| other != at);
        let mut tried = Vec::new();
        for snapshot in others.filter(|(_, other)| other.view.snapshot > view.commit).filter_map(|(_, o)| o.snapshot())
        {
            let snapshot = self.messages.intern(snapshot.clone(), || snapshot);
            if !tried.contains(&snapshot) {
                tried.push(snapshot);
                own(Input::Install(snapshot), Used { installs: used.installs + 1, ..used });
            }
        }
    }

    /// What can become of a message in flight.
    fn message_actions(
        &self,
        cluster: &Cluster,
        nodes: &[&Node],
        acting: &[bool; NODES_MAX],
        (message, overtakes): (u32, bool),
        act: &mut impl FnMut(Action),
    ) {
        let used = cluster.used;
        let bounds = &self.bounds;
        let overtakings = used.overtakings + u8::from(overtakes && bounds.overtakings.is_some());
        let may_arrive = bounds.overtakings.is_none_or(|most| overtakings <= most);
        let Message { from, to, body, .. } = self.message(message);
        let (from, to) = (number(*from), number(*to));
        let receiver = &nodes[to].view;
        let campaigns_too_late = matches!(body, Body::TimeoutNow) && receiver.term >= bounds.terms;
        if acting[to] && may_arrive && !campaigns_too_late {
            let used = Used { overtakings, ..used };
            let sticks = matches!(body, Body::RequestVote { .. } | Body::RequestVoteResponse { granted: false, .. });
            let asks = matches!(body, Body::RequestVote { pre_vote: true, .. });
            let may_be_late = (receiver.follows && sticks) || (receiver.elects && asks);
            for late in [false, true].into_iter().take(1 + usize::from(may_be_late)) {
                let input = Input::Deliver { message, late };
                act(Action { node: to, input, consumed: Some(message), used });
                if used.duplicates < bounds.duplicates {
                    let used = Used { duplicates: used.duplicates + 1, ..used };
                    act(Action { node: to, input, consumed: None, used });
                }
            }
        }
        if used.drops < bounds.drops {
            let input = Input::Unreachable(name(to));
            let used = Used { drops: used.drops + 1, ..used };
            act(Action { node: from, input, consumed: Some(message), used });
        }
    }

    /// What an input does to a node: looked up, or found out.
    fn outcome(&self, cluster: &Cluster, action: &Action) -> &Outcome {
        let key = (cluster.nodes[action.node], action.input);
        let shard = &self.steps[key.0 as usize % STEP_SHARDS];
        if let Some(&known) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return self.outcomes.get(known);
        }
        let outcome = self.outcomes.push(self.find_out(key.0, action.input));
        // If another thread was faster, its outcome is the same.
        let kept = *shard.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(outcome);
        self.outcomes.get(kept)
    }

    fn find_out(&self, node: u32, input: Input<u32>) -> Outcome {
        let (after, effects) = match self.take_step(node, input) {
            Ok(taken) => taken,
            Err(panicked) => {
                let broken = vec![Broken::new(Invariant::CoreAssertion, panicked)];
                return Outcome {
                    node,
                    sent: Box::default(),
                    committed: Box::default(),
                    broken,
                    void: true,
                    panicked: true,
                };
            }
        };
        let Effects { sent, committed, broken, .. } = effects;
        let after = self.nodes.intern(after.digest, || after);
        let void = after == node && sent.is_empty();
        let sent = sent.into_iter().map(|message| self.messages.intern(message.clone(), || message)).collect();
        let committed = committed.iter().map(|entry| (small(entry.index.get()), Slot::of(entry))).collect();
        Outcome { node: after, sent, committed, broken, void, panicked: false }
    }

    /// Takes a step with the real core; what it said if it panicked.
    pub(crate) fn take_step(&self, node: u32, input: Input<u32>) -> Result<(Node, Effects), String> {
        let input = match input {
            Input::Deliver { message, late } => Input::Deliver { message: self.message(message).clone(), late },
            Input::Persist => Input::Persist,
            Input::Timeout => Input::Timeout,
            Input::Heartbeat => Input::Heartbeat,
            Input::Propose(command) => Input::Propose(command),
            Input::Read(committed) => Input::Read(committed),
            Input::Ask => Input::Ask,
            Input::Transfer(target) => Input::Transfer(target),
            Input::Crash { kept } => Input::Crash { kept },
            Input::Unreachable(peer) => Input::Unreachable(peer),
            Input::Compact => Input::Compact,
            Input::Install(snapshot) => Input::Install(self.message(snapshot).clone()),
        };
        panics::caught(|| self.nodes.get(node).step(input))
    }

    /// The step of an action, taken again so that it can be told.
    pub(crate) fn retake(&self, cluster: &Cluster, action: &Action) -> Result<(Node, Effects), String> {
        self.take_step(cluster.nodes[action.node], action.input)
    }

    /// The cluster after an action whose outcome is known.
    fn follow(&self, cluster: &Cluster, nodes: &[&Node], action: Action, outcome: &Outcome) -> Result<Cluster, Broken> {
        let checked = |broken: &&Broken| self.bounds.invariants.contains(&broken.invariant);
        let mut after = Cluster { used: action.used, flight: self.flight(cluster, action, outcome), ..*cluster };
        after.nodes[action.node] = outcome.node;
        let mut nodes_after = [nodes[0]; NODES_MAX];
        nodes_after[..nodes.len()].copy_from_slice(nodes);
        nodes_after[action.node] = self.nodes.get(outcome.node);
        let nodes_after = &nodes_after[..nodes.len()];
        let (ghost, mut broken) = self.remember(cluster.ghost, action.node, nodes_after[action.node], outcome);
        after.ghost = ghost;
        let is_led = self.ghosts.get(ghost).leaders != [0; TERMS_MAX + 1];
        after.touched = if is_led { u8::MAX } else { after.touched | (1 << action.node) };
        broken.extend(outcome.broken.iter().cloned());
        broken.extend(invariant::check(nodes_after, self.ghosts.get(ghost), action.node));
        match broken.iter().find(checked) {
            Some(first) => Err(first.clone()),
            None => Ok(after),
        }
    }

    /// The messages in flight after a step.
    fn flight(&self, cluster: &Cluster, action: Action, outcome: &Outcome) -> Box<[u32]> {
        let mut flight = Vec::with_capacity(cluster.flight.len() + outcome.sent.len());
        if !(self.bounds.lossy_timeouts && action.input == Input::Timeout) {
            flight.extend_from_slice(&cluster.flight);
        }
        if let Some(at) = action.consumed.and_then(|message| flight.iter().position(|&other| other == message)) {
            flight.remove(at);
        }
        if !outcome.sent.is_empty() {
            flight.extend_from_slice(&outcome.sent);
            match self.bounds.overtakings {
                None => flight.sort_unstable(),
                Some(_) => flight.sort_by_key(|&message| self.link(message)),
            }
        }
        flight.into_boxed_slice()
    }

    /// The link of a message, as a number.
    fn link(&self, message: u32) -> usize {
        let Message { from, to, .. } = self.message(message);
        number(*from) * NODES_MAX + number(*to)
    }

    /// What the world remembers after a step of a node, and how it contradicts what it remembered.
    fn remember(&self, ghost: u32, at: usize, node: &Node, outcome: &Outcome) -> (u32, Vec<Broken>) {
        let known = self.ghosts.get(ghost);
        let (view, mut broken) = (&node.view, Vec::new());
        let leader = known.leaders[usize::from(view.term).min(TERMS_MAX)];
        let is_elected = view.leads && leader == 0;
        if view.leads && leader != 0 && usize::from(leader) != at + 1 {
            let text = format!("n{} leads term {}, which n{leader} has led", at + 1, view.term);
            broken.push(Broken::new(Invariant::ElectionSafety, text));
        }
        let commits = outcome.committed.iter().any(|&(index, _)| usize::from(index) > known.ledger.len());
        for &(index, slot) in &outcome.committed {
            if let Some(entry) = known.ledger.get(usize::from(index) - 1)
                && entry.slot != slot
            {
                let text = format!("n{} commits {slot:?} at {index}, where {:?} is committed", at + 1, entry.slot);
                broken.push(Broken::new(Invariant::StateMachineSafety, text));
            }
        }
        if !is_elected && !commits {
            return (ghost, broken);
        }
        let mut news = known.clone();
        if is_elected {
            news.leaders[usize::from(view.term).min(TERMS_MAX)] = small(at as u64 + 1);
        }
        let new_entries = outcome.committed.iter().skip_while(|&&(index, _)| usize::from(index) <= known.ledger.len());
        news.ledger.extend(new_entries.map(|&(_, slot)| Committed { slot, in_term: view.term }));
        if commits && !view.leads {
            let text = format!("n{} commits {:?} and does not lead", at + 1, outcome.committed);
            broken.push(Broken::new(Invariant::StateMachineSafety, text));
        }
        (self.ghosts.intern(news.clone(), || news), broken)
    }
}

/// A message but for its address, in a form that can be sorted.
fn shape(message: &Message) -> (NodeId, u64, String) {
    (message.from, message.term.get(), format!("{:?}", message.body))
}
