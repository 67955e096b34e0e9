//! A cluster of engines in one thread: messages are passed on in order, disk work is run where it comes out, and time
//! is a number. The same calls give the same run.
//!
//! Beside the engines runs an observer: of every entry that any node applies it remembers the term, and insists that no
//! other node ever applies another one at that index.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use engine::disk::{Disk, MemoryDisk};
use engine::kv::{Command, PutMode, Request, SessionLimits};
use engine::leaderless::ReplicaMessage;
use engine::side::SideMessage;
use engine::wal::{Executor, Reader, WalOptions, Work};
use engine::{
    Answer, Damage, Engine, EngineError, EngineOptions, EngineStatus, Event, Opened, SnapshotExecutor, SnapshotWork,
    Ticket, UnusableSnapshot,
};
use raft::{Body, Configuration, Index, Message, NodeId, Term};

/// What a tick is in milliseconds.
pub(crate) const TICK_MS: u64 = 10;

/// How much may wait for a log: so little that a stalled disk soon shows it.
pub(crate) const WAL_PENDING_BYTES_MAX: usize = 16 << 10;

/// After so many ticks without a result something is wrong.
const PATIENCE_TICKS: usize = 2_000;

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) disk: MemoryDisk,
    pub(crate) running: Option<Running>,
    /// While set, disk work piles up instead of being run.
    pub(crate) disk_stalled: bool,
    /// The same for the log's alone.
    pub(crate) log_stalled: bool,
    /// The same for that of snapshots alone.
    pub(crate) snapshots_stalled: bool,
    /// Its disk is to fail: then it stops, and that is no fault.
    pub(crate) doomed: bool,
    /// The last durable entry and its term, when it was last looked at.
    pub(crate) durable: (Index, Term),
}

pub(crate) struct Running {
    pub(crate) engine: Engine,
    /// What the start found damaged, and dealt with.
    pub(crate) damage: Vec<Damage>,
    executor: Executor,
    reader: Reader,
    work: VecDeque<Work>,
    snapshot_executor: SnapshotExecutor,
    snapshot_work: VecDeque<SnapshotWork>,
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now_ms: u64,
    pub(crate) raft_options: fn(NodeId) -> raft::Options,
    /// Changes what the next start of a node uses.
    pub(crate) engine_options: fn(EngineOptions) -> EngineOptions,
    in_flight: VecDeque<Message>,
    side_in_flight: VecDeque<SideMessage>,
    pub(crate) replica_in_flight: VecDeque<ReplicaMessage>,
    /// Those that were passed on.
    pub(crate) replica_messages: Vec<ReplicaMessage>,
    /// How many side messages were passed on.
    pub(crate) side_messages: u64,
    /// How many of a hundred side messages are lost.
    pub(crate) side_loss: u64,
    /// Nodes that installed a peer's snapshot.
    pub(crate) installed: BTreeSet<usize>,
    /// What nodes told of snapshots that are of no use.
    pub(crate) unusable: Vec<(usize, UnusableSnapshot)>,
    /// Nodes that stopped by themselves, and why.
    pub(crate) stopped: BTreeMap<usize, EngineError>,
    /// Messages to and from these are lost.
    pub(crate) isolated: BTreeSet<NodeId>,
    /// Messages for which this says so are lost.
    lose: Box<dyn Fn(&Message) -> bool>,
    lose_side: Box<dyn Fn(&SideMessage) -> bool>,
    ticket_next: u64,
    /// Every answer, in the order in which they came.
    pub(crate) answers: BTreeMap<Ticket, Vec<Answer>>,
    /// The term of every entry that was applied anywhere.
    pub(crate) applied: BTreeMap<Index, Term>,
}

/// Short timeouts, small windows, and a tail so small that followers which are behind need the log.
pub(crate) fn small_options(id: NodeId) -> raft::Options {
    raft::Options {
        id,
        election_timeout_ticks_min: 10,
        election_timeout_ticks_max: 20,
        heartbeat_ticks: 2,
        append_bytes_max: 8 << 10,
        inflight_messages_max: 8,
        uncommitted_bytes_max: 256 << 10,
        tail_bytes_max: 16 << 10,
        apply_bytes_max: 4 << 10,
        seed: id.get(),
    }
}

pub(crate) fn node_id(number: usize) -> NodeId {
    NodeId::new(number as u64 + 1).expect("not zero")
}

pub(crate) fn options(id: NodeId, size: usize, raft: fn(NodeId) -> raft::Options) -> EngineOptions {
    EngineOptions {
        raft: raft(id),
        wal: WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() },
        configuration: Configuration::new((0..size).map(node_id)),
        wal_pending_bytes_max: WAL_PENDING_BYTES_MAX,
        snapshot_log_bytes_min: engine::SNAPSHOT_LOG_BYTES_MIN,
        space_reserve_bytes: engine::SPACE_RESERVE_BYTES,
        snapshot_chunk_bytes: engine::side::SNAPSHOT_CHUNK_BYTES,
        session_limits: SessionLimits::default(),
        lease_ms: engine::lease_ms(10 * TICK_MS),
        state_hash_every_entries: 16,
    }
}

impl Node {
    fn new(number: usize, disk: MemoryDisk) -> Node {
        Node {
            id: node_id(number),
            disk,
            running: None,
            disk_stalled: false,
            log_stalled: false,
            snapshots_stalled: false,
            doomed: false,
            durable: (Index::ZERO, Term::ZERO),
        }
    }
}

impl Cluster {
    pub(crate) fn new(size: usize) -> Cluster {
        Cluster::with_options(size, small_options)
    }

    pub(crate) fn with_options(size: usize, raft_options: fn(NodeId) -> raft::Options) -> Cluster {
        Cluster::begin(size, raft_options, |options| options)
    }

    /// A cluster on these disks. None of its nodes runs yet.
    pub(crate) fn with_disks(engine_options: fn(EngineOptions) -> EngineOptions, disks: Vec<MemoryDisk>) -> Cluster {
        let mut cluster = Cluster::begin(0, small_options, engine_options);
        for (number, disk) in disks.into_iter().enumerate() {
            cluster.nodes.push(Node::new(number, disk));
        }
        cluster
    }

    fn begin(
        size: usize,
        raft_options: fn(NodeId) -> raft::Options,
        engine_options: fn(EngineOptions) -> EngineOptions,
    ) -> Cluster {
        let nodes = (0..size).map(|number| Node::new(number, MemoryDisk::new()));
        let mut cluster = Cluster {
            nodes: nodes.collect(),
            now_ms: 1_000_000,
            raft_options,
            engine_options,
            in_flight: VecDeque::new(),
            side_in_flight: VecDeque::new(),
            replica_in_flight: VecDeque::new(),
            replica_messages: Vec::new(),
            side_messages: 0,
            side_loss: 0,
            installed: BTreeSet::new(),
            unusable: Vec::new(),
            stopped: BTreeMap::new(),
            isolated: BTreeSet::new(),
            lose: Box::new(|_| false),
            lose_side: Box::new(|_| false),
            ticket_next: 0,
            answers: BTreeMap::new(),
            applied: BTreeMap::new(),
        };
        (0..size).for_each(|number| cluster.start(number));
        cluster
    }

    /// A cluster whose nodes use these engine options, now and whenever they start.
    pub(crate) fn with_engine_options(size: usize, engine_options: fn(EngineOptions) -> EngineOptions) -> Cluster {
        Cluster::begin(size, small_options, engine_options)
    }

    pub(crate) fn start(&mut self, number: usize) {
        let options = (self.engine_options)(options(node_id(number), self.nodes.len(), self.raft_options));
        let node = &mut self.nodes[number];
        assert!(node.running.is_none(), "it runs already");
        let disk: Arc<dyn Disk> = Arc::new(node.disk.clone());
        let opened = match Engine::open(&disk, options) {
            Err(_) if node.doomed => return,
            opened => opened.expect("the log is whole"),
        };
        let Opened { mut engine, executor, reader, snapshot_executor, damage, .. } = opened;
        engine.narrate(true);
        assert_eq!(engine.store().state_hash(), engine.store().recompute_hash(), "after replay");
        let (work, snapshot_work) = (VecDeque::new(), VecDeque::new());
        node.running = Some(Running { engine, damage, executor, reader, work, snapshot_executor, snapshot_work });
        (node.disk_stalled, node.log_stalled, node.snapshots_stalled) = (false, false, false);
    }

    /// Stops a node as a power cut would: of what it has not synced, any part may survive.
    pub(crate) fn crash(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.running = None;
        let mut choice = self.now_ms;
        node.disk.crash(&mut |_| {
            choice = choice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            choice >> 63 == 0
        });
        let id = node.id;
        self.in_flight.retain(|message| message.from != id && message.to != id);
        self.side_in_flight.retain(|message| message.from != id && message.to != id);
    }

    pub(crate) fn engine(&mut self, number: usize) -> &mut Engine {
        &mut self.nodes[number].running.as_mut().expect("the node runs").engine
    }

    pub(crate) fn status(&mut self, number: usize) -> EngineStatus {
        self.engine(number).status()
    }

    /// From now on, this node hears nobody and is not heard.
    pub(crate) fn isolate(&mut self, number: usize) {
        self.isolated.insert(node_id(number));
    }

    /// Takes back that this node is isolated.
    pub(crate) fn join(&mut self, number: usize) {
        let id = node_id(number);
        self.isolated.remove(&id);
    }

    /// From now on, messages for which `lose` says so are lost, instead of those it was said of before.
    pub(crate) fn lose(&mut self, lose: impl Fn(&Message) -> bool + 'static) {
        self.lose = Box::new(lose);
    }

    /// The same for side messages.
    pub(crate) fn lose_side(&mut self, lose: impl Fn(&SideMessage) -> bool + 'static) {
        self.lose_side = Box::new(lose);
    }

    pub(crate) fn heal(&mut self) {
        self.isolated.clear();
        self.lose = Box::new(|_| false);
        self.lose_side = Box::new(|_| false);
    }

    /// Does what the engines ask for and passes messages on, until there is nothing more to do.
    pub(crate) fn settle(&mut self) {
        loop {
            for number in 0..self.nodes.len() {
                self.drain(number);
            }
            let Some(message) = self.in_flight.pop_front() else {
                if !self.deliver_beside() {
                    return;
                }
                continue;
            };
            self.deliver(message);
            // A burst of messages is handed over before the engines are asked again, as the shell does.
            while let Some(message) = self.in_flight.pop_front() {
                self.deliver(message);
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        let isolated = [message.from, message.to].iter().any(|id| self.isolated.contains(id));
        if isolated || (self.lose)(&message) {
            return;
        }
        let target = self.nodes.iter_mut().find(|node| node.id == message.to).expect("messages go to members");
        if let Some(running) = &mut target.running {
            // Refusals are part of life: stale terms after a partition.
            let _ = running.engine.message(message);
        }
    }

    /// Passes on one message that is not the core's; whether there was one.
    fn deliver_beside(&mut self) -> bool {
        let replica = self.replica_in_flight.pop_front().map(|message| self.deliver_replica(message));
        let side = || self.side_in_flight.pop_front().map(|message| self.deliver_side(message));
        replica.or_else(side).is_some()
    }

    fn deliver_side(&mut self, message: SideMessage) {
        self.side_messages += 1;
        let luck = self.side_messages.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let lost = luck % 100 < self.side_loss || (self.lose_side)(&message);
        if lost || [message.from, message.to].iter().any(|id| self.isolated.contains(id)) {
            return;
        }
        let target = self.nodes.iter_mut().find(|node| node.id == message.to).expect("messages go to members");
        if let Some(running) = &mut target.running {
            running.engine.side_message(message);
        }
    }

    /// One node's output, until its disk has nothing more to do.
    fn drain(&mut self, number: usize) {
        loop {
            match self.drain_once(number) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.stop(number, error),
            }
        }
    }

    /// A node stops by itself.
    fn stop(&mut self, number: usize, error: EngineError) {
        let node = &mut self.nodes[number];
        let diverged = matches!(error, EngineError::Diverged { .. });
        assert!(node.doomed || diverged, "{} stops: {error:?}", node.id);
        node.running = None;
        self.stopped.insert(number, error);
    }

    /// Does what one node asks for, once. Whether there may be more.
    fn drain_once(&mut self, number: usize) -> Result<bool, EngineError> {
        let node = &mut self.nodes[number];
        let Some(running) = &mut node.running else { return Ok(false) };
        let output = running.engine.output()?;
        // Before anything is written: a truncation takes back what is durable as soon as it is decided.
        let raft = running.engine.raft();
        let durable = raft.status().durable_index;
        node.durable = (durable, raft.term_at(durable).expect("what is durable is in the log"));
        self.side_in_flight.extend(output.side_messages);
        self.replica_in_flight.extend(output.replica_messages);
        running.snapshot_work.extend(output.snapshot_work);
        self.in_flight.extend(output.messages);
        self.unusable.extend(output.unusable_snapshots.into_iter().map(|unusable| (number, unusable)));
        for (ticket, answer) in output.answers {
            self.answers.entry(ticket).or_default().push(answer);
        }
        for event in output.events {
            if let Event::Raft(raft::Event::Installed { .. }) = event {
                self.installed.insert(number);
            }
            if let Event::Applied { index, term, .. } = event {
                let known = *self.applied.entry(index).or_insert(term);
                assert_eq!(known, term, "{} applied another entry at {index}", node.id);
            }
        }
        let mut progressed = !output.fetches.is_empty();
        for fetch in output.fetches {
            let entries = running.reader.read(fetch.from, fetch.bytes_max).unwrap_or_default();
            running.engine.fetched(fetch, entries);
        }
        running.work.extend(output.work);
        while !node.disk_stalled
            && !node.log_stalled
            && let Some(work) = running.work.pop_front()
        {
            let completion = running.executor.run(work);
            running.engine.completed(completion)?;
            progressed = true;
        }
        // One piece a turn: snapshots go on beside everything else.
        if !node.disk_stalled
            && !node.snapshots_stalled
            && let Some(work) = running.snapshot_work.pop_front()
        {
            let completion = running.snapshot_executor.run(work);
            running.engine.snapshot_completed(completion)?;
            progressed = true;
        }
        Ok(progressed)
    }

    pub(crate) fn tick(&mut self) {
        self.now_ms += TICK_MS;
        let now_ms = self.now_ms;
        for node in &mut self.nodes {
            if let Some(running) = &mut node.running {
                running.engine.tick(now_ms);
            }
        }
        self.settle();
    }

    /// Ticks until `done` says so.
    pub(crate) fn tick_until(&mut self, what: &str, mut done: impl FnMut(&mut Cluster) -> bool) {
        for _ in 0..PATIENCE_TICKS {
            if done(self) {
                return;
            }
            self.tick();
        }
        panic!("waited in vain until {what}");
    }

    /// The node that leads in the highest term, if it has committed an entry of that term.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |number: &usize| {
            let raft = self.nodes[*number].running.as_ref()?.engine.raft();
            (raft.is_leader() && raft.term_at(raft.commit_index()) == Some(raft.current_term()))
                .then(|| raft.current_term())
        };
        (0..self.nodes.len()).filter(|number| leads(number).is_some()).max_by_key(leads)
    }

    /// Ticks until a leader other than `except` has committed its first entry.
    pub(crate) fn elect(&mut self, except: Option<usize>) -> usize {
        let elected = |cluster: &mut Cluster| cluster.leader().is_some_and(|leader| Some(leader) != except);
        self.tick_until("a leader is elected", elected);
        self.leader().expect("just seen")
    }

    /// Ticks until `candidate` leads and has committed its first entry, while nobody else can be elected.
    pub(crate) fn elect_only(&mut self, candidate: usize) {
        let id = node_id(candidate);
        self.lose(move |message| matches!(message.body, Body::RequestVote { .. }) && message.from != id);
        self.tick_until("the candidate is elected", |cluster| cluster.leader() == Some(candidate));
        self.lose(|_| false);
    }

    /// Ticks until every running node has applied the same.
    pub(crate) fn converge(&mut self) {
        self.tick_until("all nodes have applied the same", |cluster| {
            let mut seen = BTreeSet::new();
            for node in &cluster.nodes {
                if let Some(running) = &node.running {
                    let raft = running.engine.raft();
                    seen.insert((raft.commit_index(), running.engine.status().applied, raft.last_index()));
                }
            }
            seen.len() == 1 && seen.iter().all(|(commit, applied, last)| commit == applied && applied == last)
        });
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.ticket_next += 1;
        Ticket::new(self.ticket_next)
    }

    /// Hands a write to a node, without doing anything about it yet.
    pub(crate) fn write(&mut self, number: usize, command: &Command) -> Ticket {
        let ticket = self.ticket();
        let now_ms = self.now_ms;
        self.engine(number).write(ticket, &command.clone().into(), now_ms);
        ticket
    }

    /// The same, with a request id.
    pub(crate) fn write_once(&mut self, number: usize, request: &Request) -> Ticket {
        let ticket = self.ticket();
        let now_ms = self.now_ms;
        self.engine(number).write(ticket, request, now_ms);
        ticket
    }

    /// Hands a read to a node, without doing anything about it yet.
    pub(crate) fn read(&mut self, number: usize, key: &str) -> Ticket {
        let ticket = self.ticket();
        let now_ms = self.now_ms;
        self.engine(number).read(ticket, Bytes::copy_from_slice(key.as_bytes()), now_ms);
        ticket
    }

    /// All that a ticket was answered.
    pub(crate) fn answers_to(&self, ticket: Ticket) -> &[Answer] {
        self.answers.get(&ticket).map_or(&[], Vec::as_slice)
    }

    /// Where a write was proposed.
    pub(crate) fn place_of(&self, ticket: Ticket) -> (Index, Term) {
        match self.answers_to(ticket) {
            [Answer::Proposed { term, index }, ..] => (*index, *term),
            other => panic!("not proposed: {other:?}"),
        }
    }
}

/// Whether a message carries entries.
pub(crate) fn carries_entries(message: &Message) -> bool {
    matches!(&message.body, Body::AppendEntries { entries, .. } if !entries.is_empty())
}

pub(crate) fn upsert(key: &str, value: &str) -> Command {
    Command::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        mode: PutMode::Upsert,
    }
}
