//! The cluster under test: machines, disks and network, moved one step at a time, with every step told and checked.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use raft::{Batch, BatchNumber, Entry, Event, Fetch, Index, Message, NodeId, Raft, ReadId, Ready};

use crate::invariants::Invariants;
use crate::network::{Network, Selector};
use crate::node::{Node, term_starts};
use crate::render;

/// A machine that is never done has a bug; a script never needs so many rounds.
const READY_ROUNDS_MAX: usize = 1_000;
/// The same for messages that answer each other for ever.
const STABILIZE_ROUNDS_MAX: usize = 1_000;

/// What a command ends with: an error fails the script, whatever its text.
pub(crate) type Outcome = Result<(), String>;

/// The lines that the running block has printed.
#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) lines: Vec<String>,
    /// Print nothing: the command was marked `quiet`.
    pub(crate) quiet: bool,
    /// Lines are effects of a delivery told just before.
    indented: bool,
}

impl Trace {
    /// Prints a line.
    pub(crate) fn tell(&mut self, line: impl Into<String>) {
        if !self.quiet {
            let indent = if self.indented { "  " } else { "" };
            self.lines.push(format!("{indent}{}", line.into()));
        }
    }
}

/// The cluster under test.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) network: Network,
    pub(crate) invariants: Invariants,
    pub(crate) trace: Trace,
}

impl Cluster {
    /// A cluster of nodes that are still down.
    pub(crate) fn new(nodes: Vec<Node>, voters: BTreeSet<NodeId>, outgoing: BTreeSet<NodeId>) -> Cluster {
        Cluster {
            nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
            network: Network::default(),
            invariants: Invariants::new(voters, outgoing),
            trace: Trace::default(),
        }
    }

    /// The node, up or down.
    pub(crate) fn node(&mut self, id: NodeId) -> Result<&mut Node, String> {
        self.nodes.get_mut(&id).ok_or_else(|| format!("there is no {id}"))
    }

    /// The machine of a node that is up.
    pub(crate) fn raft(&mut self, id: NodeId) -> Result<&mut Raft, String> {
        self.node(id)?.raft.as_mut().ok_or_else(|| format!("{id} is down"))
    }

    /// Starts a node from its disk.
    pub(crate) fn start(&mut self, id: NodeId, applied: Index) -> Outcome {
        let node = self.node(id)?;
        node.start(applied)?;
        let node = &self.nodes[&id];
        self.invariants.started(node);
        self.pump(id)
    }

    /// Stops a node at once.
    pub(crate) fn stop(&mut self, id: NodeId, lose_unpersisted: bool) -> Outcome {
        self.node(id)?.stop(lose_unpersisted)?;
        self.check(id)
    }

    /// Lets one tick pass on a node.
    pub(crate) fn tick(&mut self, id: NodeId) -> Outcome {
        self.raft(id)?.tick();
        self.pump(id)
    }

    /// Hands a message to its receiver. What the receiver refuses is told, with its reason.
    pub(crate) fn step(&mut self, receiver: NodeId, message: Message) -> Outcome {
        // Behind a line that tells the arrival, nobody has to be told again which message it is.
        let told = if self.trace.indented { "it".to_owned() } else { render::message(&message) };
        let Some(raft) = self.node(receiver)?.raft.as_mut() else {
            self.trace.tell(format!("{receiver} is down and loses {told}"));
            return Ok(());
        };
        if let Err(refused) = raft.step(message) {
            self.trace.tell(format!("{receiver} refuses {told}: {refused}"));
        }
        self.pump(receiver)
    }

    /// Tells that a message arrives, and hands it to its receiver.
    pub(crate) fn arrive(&mut self, receiver: NodeId, message: Message) -> Outcome {
        self.trace.tell(render::arrival(receiver, &message));
        self.trace.indented = true;
        let outcome = self.step(receiver, message);
        self.trace.indented = false;
        outcome
    }

    /// Delivers the selected messages that are in flight now; what they cause stays in flight.
    pub(crate) fn deliver(&mut self, selector: &Selector) -> Result<usize, String> {
        let messages = self.network.take(selector);
        let count = messages.len();
        for message in messages {
            self.arrive(message.to, message)?;
        }
        Ok(count)
    }

    /// Delivers messages until none are in flight.
    pub(crate) fn stabilize(&mut self) -> Outcome {
        for _ in 0..STABILIZE_ROUNDS_MAX {
            let messages = self.network.take(&Selector::default());
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages {
                self.step(message.to, message)?;
            }
        }
        Err(format!("messages are still in flight after {STABILIZE_ROUNDS_MAX} rounds"))
    }

    /// Does what the machine asks for until it asks for nothing more, then checks the cluster. A node that is held
    /// waits with all of it.
    pub(crate) fn pump(&mut self, id: NodeId) -> Outcome {
        if self.node(id)?.held {
            return Ok(());
        }
        for _ in 0..READY_ROUNDS_MAX {
            let raft = self.raft(id)?;
            if !raft.has_ready() {
                return self.check(id);
            }
            let ready = raft.ready();
            self.carry_out(id, ready)?;
        }
        Err(format!("{id} is not done after {READY_ROUNDS_MAX} readies"))
    }

    fn carry_out(&mut self, id: NodeId, ready: Ready) -> Outcome {
        let Ready {
            persist,
            messages,
            messages_after_persist,
            wait_for,
            committed,
            reads,
            aborted_reads,
            fetches,
            snapshot_offers,
            events,
        } = ready;
        for event in &events {
            self.tell_event(id, event)?;
        }
        for message in messages {
            self.send(id, message)?;
        }
        if let Some(batch) = persist {
            self.queue_batch(id, batch)?;
        }
        self.hold_back(id, messages_after_persist, wait_for)?;
        if !self.node(id)?.manual_persistence {
            self.persist(id, usize::MAX)?;
        }
        self.release(id)?;
        self.apply(id, committed)?;
        self.answer_reads(id, reads, aborted_reads)?;
        for offer in snapshot_offers {
            self.trace.tell(format!("{id} wants the snapshot up to {} of {}", offer.index, offer.from));
        }
        self.note_fetches(id, fetches)
    }

    fn check(&mut self, acted: NodeId) -> Outcome {
        Ok(self.invariants.check(&self.nodes, acted)?)
    }

    fn tell_event(&mut self, id: NodeId, event: &Event) -> Outcome {
        if matches!(event, Event::PreCampaign { .. } | Event::Campaign { .. } | Event::BecameLeader { .. }) {
            self.node(id)?.campaigned = true;
        }
        self.trace.tell(format!("{} {}", id, render::event(event)));
        Ok(())
    }

    fn send(&mut self, id: NodeId, message: Message) -> Outcome {
        self.invariants.sent(&self.nodes[&id], &message)?;
        if message.from != id || message.to == id || !self.nodes.contains_key(&message.to) {
            return Err(format!("{id} sends a message that nobody can get: {message:?}"));
        }
        let lost = self.network.is_cut(message.from, message.to);
        let mark = if lost { " ✗ lost" } else { "" };
        self.trace.tell(format!("{}{mark}", render::message(&message)));
        if !lost {
            self.network.send(message);
        }
        Ok(())
    }

    fn queue_batch(&mut self, id: NodeId, batch: Batch) -> Outcome {
        let node = self.node(id)?;
        node.written.write(&batch)?;
        if node.manual_persistence {
            let told = format!("{} hands out {}", id, render::batch(&batch));
            node.pending.push_back(batch);
            self.trace.tell(told);
        } else {
            node.pending.push_back(batch);
        }
        Ok(())
    }

    fn hold_back(&mut self, id: NodeId, messages: Vec<Message>, wait_for: BatchNumber) -> Outcome {
        let node = self.node(id)?;
        let wait = node.manual_persistence && wait_for > node.persisted;
        for message in messages {
            if wait {
                let told = format!("{} waits for batch {}", render::message(&message), wait_for);
                self.trace.tell(told);
            }
            self.node(id)?.waiting.push((wait_for, message));
        }
        Ok(())
    }

    /// Makes up to `batches_max` batches durable and tells the machine of each. Returns how many there were.
    pub(crate) fn persist(&mut self, id: NodeId, batches_max: usize) -> Result<usize, String> {
        let mut count = 0;
        while count < batches_max {
            let Some(batch) = self.node(id)?.persist_next()? else { break };
            self.trace.tell(format!("{} persists {}", id, render::batch(&batch)));
            self.release(id)?;
            self.raft(id)?.persisted(batch.number);
            count += 1;
        }
        Ok(count)
    }

    fn release(&mut self, id: NodeId) -> Outcome {
        for message in self.node(id)?.released() {
            self.send(id, message)?;
        }
        Ok(())
    }

    fn apply(&mut self, id: NodeId, committed: Vec<Entry>) -> Outcome {
        let Some(last) = committed.last().map(|entry| entry.index) else { return Ok(()) };
        self.trace.tell(format!("{} applies {}", id, render::entries(&committed)));
        let node = self.node(id)?;
        node.applied.extend(committed);
        self.raft(id)?.applied(last);
        Ok(())
    }

    fn answer_reads(&mut self, id: NodeId, reads: Vec<(ReadId, Index)>, aborted: Vec<ReadId>) -> Outcome {
        for (read, at) in reads {
            self.trace.tell(format!("{id} read r{read} confirmed at {at}"));
            self.invariants.read_confirmed(id, read, at)?;
        }
        for read in aborted {
            self.trace.tell(format!("{id} read r{read} aborted"));
            self.invariants.read_aborted(id, read)?;
        }
        Ok(())
    }

    fn note_fetches(&mut self, id: NodeId, fetches: Vec<Fetch>) -> Outcome {
        for fetch in &fetches {
            self.trace.tell(format!("{} asks its disk for {}", id, render::fetch(fetch)));
        }
        self.node(id)?.fetches.extend(fetches);
        Ok(())
    }

    /// Takes a snapshot of what is applied, and cuts off the log as far as it may.
    pub(crate) fn snapshot(&mut self, id: NodeId) -> Outcome {
        let applied = self.raft(id)?.applied_index();
        self.node(id)?.take_snapshot(applied)?;
        let raft = self.raft(id)?;
        raft.snapshot_taken(applied);
        let cuttable = raft.cuttable_index();
        let first_index = self.node(id)?.cut(cuttable);
        self.raft(id)?.compacted(first_index);
        self.trace.tell(format!("{id} has a snapshot up to {applied}; its log begins at {first_index}"));
        self.pump(id)
    }

    /// A node has fetched another one's snapshot.
    pub(crate) fn install(&mut self, id: NodeId, from: NodeId) -> Outcome {
        let snapshot = self.node(from)?.durable.snapshot.clone();
        let last = snapshot.last().ok_or_else(|| format!("{from} has no snapshot"))?.index;
        if self.raft(id)?.install(last, &term_starts(&snapshot)) {
            self.node(id)?.keep_snapshot(snapshot);
        } else {
            self.trace.tell(format!("{id} needs no snapshot up to {last}"));
        }
        self.pump(id)
    }

    /// Proposes commands, then lets the machine act once: they leave together.
    pub(crate) fn propose(&mut self, id: NodeId, commands: Vec<Bytes>) -> Outcome {
        for command in commands {
            let shown = render::command(&command);
            let told = match self.raft(id)?.propose(command) {
                Ok((term, index)) => format!("{id} takes {shown} as {index}@{term}"),
                Err(error) => format!("{id} refuses {shown}: {error}"),
            };
            self.trace.tell(told);
        }
        self.pump(id)
    }

    /// Asks for linearizable reads, then lets the machine act once: they share a round.
    pub(crate) fn read(&mut self, id: NodeId, reads: &[ReadId]) -> Outcome {
        for read in reads {
            match self.raft(id)?.read(*read) {
                Ok(()) => self.invariants.read_started(id, *read),
                Err(error) => self.trace.tell(format!("{} refuses read r{}: {}", id, read, error)),
            }
        }
        self.pump(id)
    }
}
