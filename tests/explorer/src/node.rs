//! One node: the real core, driven as the engine drives it.
//!
//! A step is one input, and then everything that comes of it until the core has nothing more to do: what is to be
//! written joins the pending batches, what may leave is sent, what is committed is applied. A step depends on the node
//! and on the input alone, so each is taken once, however many clusters it occurs in.

use crate::bounds::Bounds;
use crate::disk::{Disk, position, term_starts};
use crate::hash::{Digest, Gather};
use crate::invariant::{Broken, Invariant};
use bytes::Bytes;
use raft::{
    Body, Configuration, Entry, Event, Index, Message, NodeId, Options, Payload, Raft, ReadId, Ready, Refused, Role,
    Term, Witness,
};
use std::fmt;
use std::hash::Hash;

/// The shortest timeouts that the core accepts: a step that lets one pass takes few ticks.
const HEARTBEAT_TICKS: u32 = 1;
const ELECTION_TICKS_MIN: u32 = 2;
const ELECTION_TICKS_MAX: u32 = 3;
/// Room enough for everything that the bounds allow, so that no limit in bytes is ever met.
const BYTES_MAX: usize = 1 << 20;
/// Small, so that a full window is met.
const IN_FLIGHT_MAX: usize = 2;

/// The names of the commands, by number from 1.
const COMMANDS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";

/// An entry of the log in short: its term, and which command it is, zero for none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot(u16);

impl Slot {
    pub(crate) fn new(term: u8, command: u8) -> Slot {
        Slot(u16::from_be_bytes([term, command]))
    }

    pub(crate) fn term(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    pub(crate) fn is_command(self) -> bool {
        self.0.to_be_bytes()[1] != 0
    }

    pub(crate) fn of(entry: &Entry) -> Slot {
        let command = match &entry.payload {
            Payload::Noop => 0,
            Payload::Command(name) => name.first().map_or(u8::MAX, |letter| letter - b'a' + 1),
        };
        Slot::new(small(entry.term.get()), command)
    }
}

/// A term, and the letter of the command if there is one: `2` or `2a`.
impl fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [term, command] = self.0.to_be_bytes();
        write!(formatter, "{term}")?;
        match command {
            0 => Ok(()),
            number => write!(formatter, "{}", letter(number)),
        }
    }
}

/// The letter of a command.
pub(crate) fn letter(command: u8) -> char {
    char::from(b'a' + command - 1)
}

/// A number that the bounds keep small.
pub(crate) fn small(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Node `number`, counted from 0, is named `n1` and so on.
pub(crate) fn name(number: usize) -> NodeId {
    NodeId::new(number as u64 + 1).expect("one more than a count is not zero")
}

/// The number of a node.
pub(crate) fn number(id: NodeId) -> usize {
    usize::try_from(id.get() - 1).expect("a handful of nodes")
}

/// Something that happens at one node; `M` is a message or its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Input<M> {
    /// A message arrives; `late` if its receiver had not heard of its leader for the shortest election timeout.
    Deliver { message: M, late: bool },
    /// The oldest pending batch is durable.
    Persist,
    /// Nothing is heard of for so long that the node campaigns, or ceases to lead.
    Timeout,
    /// The heartbeat timer of a leader fires.
    Heartbeat,
    /// A client's command, by number.
    Propose(u8),
    /// A client's read; so many entries are committed.
    Read(u8),
    /// A read without a leader asks for a witness, which changes nothing.
    Ask,
    /// Leadership is to go to this node.
    Transfer(NodeId),
    /// Power is lost when so many pending batches have reached the disk, and the node starts again.
    Crash { kept: u8 },
    /// The transport lost a message to this node.
    Unreachable(NodeId),
    /// The node takes a snapshot, and cuts its log off behind it.
    Compact,
    /// The node is handed a snapshot: the message that would append all of it.
    Install(M),
}

/// What a step had for an effect on the rest of the world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    pub(crate) sent: Vec<Message>,
    pub(crate) committed: Vec<Entry>,
    pub(crate) events: Vec<Event>,
    pub(crate) reads: Vec<(ReadId, Index)>,
    pub(crate) refused: Option<Refused>,
    pub(crate) broken: Vec<Broken>,
}

/// What the rest of the explorer looks at in a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) term: u8,
    pub(crate) leads: bool,
    /// Follows a leader that it knows.
    pub(crate) follows: bool,
    /// Voted in an election that is under way.
    pub(crate) elects: bool,
    pub(crate) pending: u8,
    /// The log as it is in memory.
    pub(crate) log: Box<[Slot]>,
    /// The log as it is on the disk.
    pub(crate) disk: Box<[Slot]>,
    /// What is committed, what is applied, and what is in the newest snapshot.
    pub(crate) commit: u8,
    pub(crate) applied: u8,
    pub(crate) snapshot: u8,
    /// Of a leader: each other node, by number, and up to where it holds the same as far as the leader knows.
    pub(crate) matches: Box<[(usize, usize)]>,
    /// What it says to a read without a leader, of a key that every command writes.
    pub(crate) witness: Option<Witness>,
}

/// A node between two steps.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    raft: Raft,
    disk: Disk,
    /// The last vote that anyone else may have learnt of, or that the node counted itself. Survives crashes: it is
    /// what the world remembers.
    promised: Option<(Term, NodeId)>,
    /// How often it has crashed, if that can matter: it tells the questions of its processes apart.
    process: u64,
    reads: bool,
    slow_disk: bool,
    single_entries: bool,
    forgetful: bool,
    pub(crate) view: View,
    pub(crate) digest: Digest,
}

/// What is applied and durable leaves the memory if a node is `forgetful`.
fn options(id: NodeId, process: u64, single_entries: bool, forgetful: bool) -> Options {
    Options {
        id,
        election_timeout_ticks_min: ELECTION_TICKS_MIN,
        election_timeout_ticks_max: ELECTION_TICKS_MAX,
        heartbeat_ticks: HEARTBEAT_TICKS,
        append_bytes_max: if single_entries { 1 } else { BYTES_MAX },
        inflight_messages_max: IN_FLIGHT_MAX,
        uncommitted_bytes_max: BYTES_MAX,
        tail_bytes_max: if forgetful { 0 } else { BYTES_MAX },
        apply_bytes_max: BYTES_MAX,
        seed: process,
    }
}

impl Node {
    /// A node before its first step, with an empty disk.
    pub(crate) fn new(number: usize, bounds: &Bounds) -> Node {
        let configuration = Configuration::new((0..usize::from(bounds.nodes)).map(name));
        let disk = Disk::default();
        let forgetful = bounds.compactions > 0;
        let raft = Raft::new(options(name(number), 0, bounds.single_entries, forgetful), disk.restored(configuration))
            .expect("an empty disk and a valid configuration make a node");
        let view = View::default();
        let mut node = Node {
            raft,
            disk,
            promised: None,
            process: 0,
            reads: bounds.reads > 0,
            slow_disk: bounds.slow_disks,
            single_entries: bounds.single_entries,
            forgetful,
            view,
            digest: Digest::default(),
        };
        node.settle();
        node
    }

    /// The node after an input, and what came of it. Panics if the core does.
    pub(crate) fn step(&self, input: Input<Message>) -> (Node, Effects) {
        let mut node = self.clone();
        let mut effects = Effects::default();
        let commit_before = node.raft.commit_index();
        let (led_before, deposed) = (self.view.leads, matches!(input, Input::Timeout));
        if let Err(broken) =
            node.take(input, &mut effects).and_then(|()| node.drain(led_before && deposed, &mut effects))
        {
            effects.broken.push(broken);
        }
        let commit = node.raft.commit_index();
        if led_before && node.raft.is_leader() && commit > commit_before {
            let (term, commit_term) = (node.raft.current_term(), node.raft.term_at(commit));
            if commit_term != Some(term) {
                let text = format!("{} leads {term} and commits {commit} of {commit_term:?}", node.raft.id());
                effects.broken.push(Broken::new(Invariant::OwnTermCommit, text));
            }
        }
        node.raft.check_invariants();
        node.settle();
        node.check(&mut effects);
        if let Some(refused) = effects.refused
            && (node.digest != self.digest || !effects.sent.is_empty())
        {
            let text = format!("{} refused a message ({refused}), but it had an effect", node.raft.id());
            effects.broken.push(Broken::new(Invariant::RefusalIsVoid, text));
        }
        (node, effects)
    }

    fn take(&mut self, input: Input<Message>, effects: &mut Effects) -> Result<(), Broken> {
        match input {
            Input::Deliver { message, late } => {
                if late {
                    (0..ELECTION_TICKS_MIN).for_each(|_| self.raft.tick());
                    // What was asked again meanwhile is lost, as what was asked first may be.
                    let asked_again = self.raft.ready().messages;
                    assert!(asked_again.iter().all(|message| matches!(message.body, Body::ReadIndex { .. })));
                }
                effects.refused = self.raft.step(message).err();
            }
            Input::Persist => self.persist()?,
            Input::Timeout => (0..ELECTION_TICKS_MAX).for_each(|_| self.raft.tick()),
            Input::Heartbeat => (0..HEARTBEAT_TICKS).for_each(|_| self.raft.tick()),
            Input::Propose(command) => {
                let at = usize::from(command - 1);
                // Refused while leadership is handed over, which changes nothing.
                let _refused = self.raft.propose(Bytes::from_static(&COMMANDS[at..=at])).is_err();
            }
            Input::Read(committed) => {
                let _refused = self.raft.read(ReadId::new(u64::from(committed))).is_err();
            }
            Input::Ask => {}
            Input::Transfer(target) => {
                let _refused = self.raft.transfer_leadership(target).is_err();
            }
            Input::Crash { kept } => {
                self.disk.crash(usize::from(kept))?;
                let restored = self.disk.restored(self.raft.configuration().clone());
                self.process += u64::from(self.reads);
                let options = options(self.raft.id(), self.process, self.single_entries, self.forgetful);
                self.raft = match Raft::new(options, restored) {
                    Ok(raft) => raft,
                    Err(error) => return Err(Broken::new(Invariant::DiskIsLog, format!("cannot restart: {error}"))),
                };
            }
            Input::Unreachable(peer) => self.raft.unreachable(peer),
            Input::Compact => self.compact(),
            Input::Install(snapshot) => self.install(&snapshot),
        }
        Ok(())
    }

    fn compact(&mut self) {
        let applied = self.raft.applied_index();
        if position(applied) > self.disk.snapshot().len() {
            self.disk.take_snapshot(applied);
            self.raft.snapshot_taken(applied);
        }
        let first_index = self.disk.cut(self.raft.cuttable_index());
        self.raft.compacted(first_index);
    }

    fn install(&mut self, message: &Message) {
        let Body::AppendEntries { entries, .. } = &message.body else {
            unreachable!("a snapshot is the message that would append all of it");
        };
        let last_index = entries.last().expect("a snapshot holds something").index;
        if self.raft.install(last_index, &term_starts(entries)) {
            self.disk.keep_snapshot(entries);
        }
    }

    /// This node's newest snapshot, as the message that would append all of it; `None` without one.
    pub(crate) fn snapshot(&self) -> Option<Message> {
        let last = self.disk.snapshot().last()?;
        let entries = self.disk.snapshot().to_vec();
        let body = Body::AppendEntries {
            prev_log_index: Index::ZERO,
            prev_log_term: Term::ZERO,
            entries,
            leader_commit: last.index,
        };
        // From and to do not matter: equal snapshots are equal.
        Some(Message { from: name(0), to: name(0), term: last.term, body })
    }

    fn persist(&mut self) -> Result<(), Broken> {
        if let Some(number) = self.disk.persist()? {
            self.raft.persisted(number);
        }
        Ok(())
    }

    /// Does what the core wants done until it wants nothing more. A leader is `deposed` by silence: what it said
    /// meanwhile, as often as its heartbeat timer fired, was not heard; otherwise it would not have been.
    fn drain(&mut self, deposed: bool, effects: &mut Effects) -> Result<(), Broken> {
        loop {
            while self.raft.has_ready() {
                let ready = self.raft.ready();
                self.carry_out(ready, deposed, effects)?;
            }
            for message in self.disk.release() {
                self.emit(message, effects);
            }
            if self.slow_disk || self.disk.pending_count() == 0 {
                return Ok(());
            }
            self.persist()?;
        }
    }

    fn carry_out(&mut self, ready: Ready, deposed: bool, effects: &mut Effects) -> Result<(), Broken> {
        if let Some(batch) = ready.persist {
            self.disk.submit(batch)?;
        }
        if !deposed {
            for message in ready.messages {
                self.emit(message, effects);
            }
        }
        self.disk.hold(ready.wait_for, ready.messages_after_persist);
        if let Some(last) = ready.committed.last() {
            self.raft.applied(last.index);
        }
        effects.committed.extend(ready.committed);
        for &(id, index) in &ready.reads {
            if index.get() < id.get() {
                let text = format!(
                    "{} confirms a read at {index}, but {} entries were committed before it began",
                    self.raft.id(),
                    id.get()
                );
                effects.broken.push(Broken::new(Invariant::ReadIndex, text));
            }
        }
        effects.reads.extend(ready.reads);
        for event in &ready.events {
            if let Event::VoteReceived { term, from } = *event
                && from == self.raft.id()
            {
                self.promise(term, from, effects);
            }
        }
        effects.events.extend(ready.events);
        for fetch in ready.fetches {
            if !self.forgetful {
                let text = "entries are fetched although all are in memory";
                return Err(Broken::new(Invariant::DiskIsLog, text));
            }
            let entries = self.disk.read(fetch.from).to_vec();
            if entries.is_empty() {
                let text = format!("entry {} is fetched although it is cut off", fetch.from);
                return Err(Broken::new(Invariant::DiskIsLog, text));
            }
            self.raft.fetched(fetch, entries);
        }
        Ok(())
    }

    fn emit(&mut self, message: Message, effects: &mut Effects) {
        match message.body {
            Body::RequestVote { pre_vote: false, .. } => self.promise(message.term, message.from, effects),
            Body::RequestVoteResponse { pre_vote: false, granted: true } => {
                self.promise(message.term, message.to, effects);
            }
            _ => {}
        }
        effects.sent.push(message);
    }

    /// A vote is known to others now.
    fn promise(&mut self, term: Term, candidate: NodeId, effects: &mut Effects) {
        if let Some((known_term, known)) = self.promised
            && (term < known_term || (term == known_term && candidate != known))
        {
            let text = format!(
                "{} voted for {known} in term {known_term}, and now for {candidate} in term {term}",
                self.raft.id()
            );
            effects.broken.push(Broken::new(Invariant::OneVote, text));
        }
        self.promised = Some((term, candidate));
    }

    /// What is true of a node between two steps.
    fn check(&self, effects: &mut Effects) {
        if let Some((term, candidate)) = self.promised {
            let (now, voted_for) = (self.raft.current_term(), self.raft.hard_state().voted_for);
            if now < term || (now == term && voted_for != Some(candidate)) {
                let text = format!(
                    "{} has forgotten its vote for {candidate} in term {term}: it is in {now}, its vote {voted_for:?}",
                    self.raft.id()
                );
                effects.broken.push(Broken::new(Invariant::OneVote, text));
            }
        }
        let written = self.disk.written_entries();
        let same_terms = written.iter().all(|entry| self.raft.term_at(entry.index) == Some(entry.term));
        if position(self.raft.last_index()) != written.len() || !same_terms {
            let text = format!("{} wrote {written:?}, which is not its log", self.raft.id());
            effects.broken.push(Broken::new(Invariant::DiskIsLog, text));
        }
    }

    fn matches(&self) -> Box<[(usize, usize)]> {
        if !self.raft.is_leader() {
            return Box::default();
        }
        let progress = self.raft.status().progress;
        progress.iter().map(|(peer, view)| (number(*peer), position(view.match_index))).collect()
    }

    fn witness(&self) -> Option<Witness> {
        let commands = self.raft.entries_behind(Index::ZERO).filter(|entry| Slot::of(entry).is_command());
        self.raft.witness(commands.last().map_or(Index::ZERO, |entry| entry.index))
    }

    /// Who votes, as this node knows.
    pub(crate) fn configuration(&self) -> &Configuration {
        self.raft.configuration()
    }

    /// Brings the node into the form in which equal nodes are equal.
    fn settle(&mut self) {
        let count = self.raft.forget_time();
        self.disk.renumber(count);
        let slots = |entries: &[Entry]| entries.iter().map(Slot::of).collect();
        self.view = View {
            term: small(self.raft.current_term().get()),
            leads: self.raft.is_leader(),
            follows: self.raft.role() == Role::Follower && self.raft.leader().is_some(),
            elects: self.raft.is_electing(),
            pending: small(self.disk.pending_count() as u64),
            log: slots(self.disk.written_entries()),
            disk: slots(self.disk.durable_entries()),
            commit: small(self.raft.commit_index().get()),
            applied: small(self.raft.applied_index().get()),
            snapshot: small(self.disk.snapshot().len() as u64),
            matches: self.matches(),
            witness: self.witness(),
        };
        let mut hasher = Gather::default();
        (self.raft.id(), &self.disk, self.promised, self.process).hash(&mut hasher);
        self.raft.digest(&mut hasher);
        self.digest = hasher.digest();
    }
}
