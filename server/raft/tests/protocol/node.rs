//! One core with a driver and a disk that tests can stop, stall and crash.

pub(crate) use crate::disk::Disk;
use bytes::Bytes;
use raft::{
    AppendResult, Batch, BatchNumber, Body, Configuration, Entry, Event, Fetch, HardState, Index, Message, NodeId,
    Options, Payload, Raft, ReadId, Refused, Role, SnapshotOffer, Term,
};
use std::collections::VecDeque;

pub(crate) const ELECTION_TICKS_MIN: u32 = 10;
pub(crate) const ELECTION_TICKS_MAX: u32 = 20;
pub(crate) const HEARTBEAT_TICKS: u32 = 2;

/// Each start of a node has a seed of its own.
pub(crate) const SEED_STEP: u64 = 1_000;

pub(crate) fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("tests number nodes from 1")
}

pub(crate) fn term(number: u64) -> Term {
    Term::new(number)
}

pub(crate) fn index(number: u64) -> Index {
    Index::new(number)
}

/// Voters 1 to `count`.
pub(crate) fn voters(count: u64) -> Configuration {
    Configuration::new((1..=count).map(id))
}

pub(crate) fn entry(entry_term: u64, entry_index: u64) -> Entry {
    let payload = Payload::Command(Bytes::from(format!("command {entry_index} of term {entry_term}")));
    Entry { term: term(entry_term), index: index(entry_index), payload }
}

/// Entries 1, 2, … of these terms.
pub(crate) fn entries(terms: &[u64]) -> Vec<Entry> {
    terms.iter().zip(1..).map(|(&term, index)| entry(term, index)).collect()
}

pub(crate) fn options(number: u64) -> Options {
    Options {
        id: id(number),
        election_timeout_ticks_min: ELECTION_TICKS_MIN,
        election_timeout_ticks_max: ELECTION_TICKS_MAX,
        heartbeat_ticks: HEARTBEAT_TICKS,
        append_bytes_max: 1 << 20,
        inflight_messages_max: 8,
        uncommitted_bytes_max: 1 << 20,
        tail_bytes_max: 1 << 20,
        apply_bytes_max: 1 << 20,
        seed: number,
    }
}

pub(crate) fn position(index: Index) -> usize {
    usize::try_from(index.get()).expect("test logs are short")
}

/// A node: the core, and the driver's side of the contract.
pub(crate) struct Node {
    pub(crate) raft: Raft,
    pub(crate) disk: Disk,
    /// Batches that are written and not yet durable.
    pub(crate) unsynced: VecDeque<Batch>,
    /// Promises that wait for a batch.
    held: VecDeque<(BatchNumber, Message)>,
    durable: BatchNumber,
    /// Makes every batch durable at once.
    pub(crate) disk_is_fast: bool,
    /// Answers fetches with nothing.
    pub(crate) reads_fail: bool,
    /// The state machine: every entry that it has seen, those of a snapshot included.
    pub(crate) applied: Vec<Entry>,
    /// Reports `applied` at once.
    pub(crate) applies_at_once: bool,
    pub(crate) reads: Vec<(ReadId, Index)>,
    pub(crate) aborted_reads: Vec<ReadId>,
    pub(crate) events: Vec<Event>,
    pub(crate) fetches: Vec<Fetch>,
    pub(crate) offers: Vec<SnapshotOffer>,
    options: Options,
    configuration: Configuration,
}

impl Node {
    pub(crate) fn new(options: Options, configuration: Configuration, mut disk: Disk) -> Node {
        let raft = Raft::new(options.clone(), disk.restored(configuration.clone())).expect("the set-up is valid");
        Node {
            raft,
            applied: disk.snapshot.clone(),
            disk,
            unsynced: VecDeque::new(),
            held: VecDeque::new(),
            durable: BatchNumber::ZERO,
            disk_is_fast: true,
            reads_fail: false,
            applies_at_once: true,
            reads: Vec::new(),
            aborted_reads: Vec::new(),
            events: Vec::new(),
            fetches: Vec::new(),
            offers: Vec::new(),
            options,
            configuration,
        }
    }

    /// Voter 1 of `count`, new.
    pub(crate) fn first_of(count: u64) -> Node {
        Node::new(options(1), voters(count), Disk::default())
    }

    /// Voter 1 of `count` with a log of entries of these terms.
    pub(crate) fn with_log(count: u64, current_term: u64, terms: &[u64]) -> Node {
        Node::new(options(1), voters(count), Disk::with(current_term, terms))
    }

    /// Voter 1 of `count`, elected for the term after `current_term`; what it sent until then is forgotten.
    pub(crate) fn leader_with_log(count: u64, current_term: u64, terms: &[u64]) -> Node {
        let mut node = Node::with_log(count, current_term, terms);
        node.campaign();
        for voter in 2..=count / 2 + 1 {
            let term = node.raft.current_term().get();
            node.receive(voter, term, Body::RequestVoteResponse { pre_vote: false, granted: true }).expect("a vote");
        }
        assert!(node.raft.is_leader());
        node.pump();
        node
    }

    pub(crate) fn leader_of(count: u64) -> Node {
        Node::leader_with_log(count, 0, &[])
    }

    pub(crate) fn id(&self) -> NodeId {
        self.options.id
    }

    /// Lets the election timeout pass, and answers the pre-vote with yes; returns the requests for real votes.
    pub(crate) fn campaign(&mut self) -> Vec<Message> {
        self.tick_until(|node| node.raft.role() != Role::Follower);
        let mut others = self.configuration.all_voters();
        others.remove(&self.options.id);
        for voter in others {
            if self.raft.role() == Role::PreCandidate {
                let asked = self.raft.current_term().get() + 1;
                let body = Body::RequestVoteResponse { pre_vote: true, granted: true };
                self.receive(voter.get(), asked, body).expect("a pre-vote");
            }
        }
        let messages = self.pump();
        messages.into_iter().filter(|message| message.body.kind() == "RequestVote").collect()
    }

    /// Ticks and drops what is sent, for at most three election timeouts.
    pub(crate) fn tick_until(&mut self, done: impl Fn(&Node) -> bool) {
        for _ in 0..3 * ELECTION_TICKS_MAX {
            if done(self) {
                return;
            }
            self.tick();
        }
        assert!(done(self), "it did not happen in three election timeouts");
    }

    /// One tick; returns what is sent.
    pub(crate) fn tick(&mut self) -> Vec<Message> {
        self.raft.tick();
        self.pump()
    }

    /// A message from another node.
    pub(crate) fn receive(&mut self, from: u64, message_term: u64, body: Body) -> Result<(), Refused> {
        let to = self.options.id;
        self.raft.step(Message { from: id(from), to, term: term(message_term), body })
    }

    /// A message from another node, and everything that is sent in answer.
    pub(crate) fn answer(&mut self, from: u64, message_term: u64, body: Body) -> Vec<Message> {
        self.receive(from, message_term, body).expect("the message is valid");
        self.pump()
    }

    pub(crate) fn propose(&mut self, command: &str) -> (Term, Index) {
        self.raft.propose(Bytes::copy_from_slice(command.as_bytes())).expect("the proposal is accepted")
    }

    /// Does what the core asks for until there is nothing left; returns what may leave.
    pub(crate) fn pump(&mut self) -> Vec<Message> {
        let mut leaving = Vec::new();
        loop {
            let expects_something = self.raft.has_ready();
            let ready = self.raft.ready();
            assert_eq!(expects_something, !ready.is_empty(), "has_ready is not exact: {ready:?}");
            if ready.is_empty() {
                self.release(&mut leaving);
                break;
            }
            leaving.extend(ready.messages);
            self.unsynced.extend(ready.persist);
            self.held.extend(ready.messages_after_persist.into_iter().map(|message| (ready.wait_for, message)));
            self.reads.extend(ready.reads);
            self.aborted_reads.extend(ready.aborted_reads);
            if ready.events.iter().any(|event| matches!(event, Event::Recovered { .. })) {
                self.disk.forgotten_term = None;
            }
            self.events.extend(ready.events);
            for fetch in ready.fetches {
                self.fetches.push(fetch);
                self.fetch(fetch);
            }
            self.offers.extend(ready.snapshot_offers);
            self.apply(ready.committed);
            if self.disk_is_fast {
                self.sync_all();
            }
        }
        self.raft.check_invariants();
        leaving
    }

    fn apply(&mut self, committed: Vec<Entry>) {
        for entry in committed {
            assert_eq!(position(entry.index), self.applied.len() + 1, "applied twice or out of order");
            self.applied.push(entry);
        }
        if self.applies_at_once {
            self.raft.applied(index(self.applied.len() as u64));
        }
    }

    fn fetch(&mut self, fetch: Fetch) {
        let mut log = self.disk.clone();
        self.unsynced.iter().for_each(|batch| log.write(batch));
        let mut size_bytes = 0;
        let entries = log.entries_from(fetch.from).iter().take_while(|entry| {
            let first = size_bytes == 0;
            size_bytes += entry.size_bytes();
            first || size_bytes <= fetch.bytes_max
        });
        let entries = if self.reads_fail { Vec::new() } else { entries.cloned().collect() };
        self.raft.fetched(fetch, entries);
    }

    /// Makes the oldest batch durable, if there is one.
    pub(crate) fn sync_one(&mut self) {
        if let Some(batch) = self.unsynced.pop_front() {
            self.disk.write(&batch);
            self.durable = batch.number;
            self.raft.persisted(batch.number);
        }
    }

    pub(crate) fn sync_all(&mut self) {
        while !self.unsynced.is_empty() {
            self.sync_one();
        }
    }

    /// Takes a snapshot of what is applied, unless the newest is one.
    pub(crate) fn take_snapshot(&mut self) {
        let applied = self.raft.applied_index();
        if applied > self.disk.snapshot_index() {
            self.disk.snapshot = self.applied[..position(applied)].to_vec();
            self.raft.snapshot_taken(applied);
        }
    }

    /// Takes a snapshot, and cuts off all of the log that it covers.
    pub(crate) fn compact(&mut self) {
        self.take_snapshot();
        let snapshot_index = self.disk.snapshot_index();
        self.cut(snapshot_index.get());
    }

    /// Cuts off the log up to here, as far as it may be.
    pub(crate) fn cut(&mut self, last: u64) {
        let first_index = self.disk.cut(index(last).min(self.raft.cuttable_index()));
        self.raft.compacted(first_index);
    }

    /// Got a snapshot that holds these entries: whether it was taken over.
    pub(crate) fn install(&mut self, snapshot: &[Entry]) -> bool {
        let last_index = snapshot.last().expect("a snapshot holds something").index;
        let is_installed = self.raft.install(last_index, &crate::disk::term_starts(snapshot));
        if is_installed {
            self.disk.snapshot = snapshot.to_vec();
            self.applied = snapshot.to_vec();
        }
        is_installed
    }

    fn release(&mut self, leaving: &mut Vec<Message>) {
        while self.held.front().is_some_and(|(wait_for, _)| *wait_for <= self.durable) {
            leaving.extend(self.held.pop_front().map(|(_, message)| message));
        }
    }

    /// Loses everything but what is durable and the `survivors` oldest of the batches that are not, and starts again.
    pub(crate) fn crash(&mut self, survivors: usize) {
        let mut disk = std::mem::take(&mut self.disk);
        self.unsynced.iter().take(survivors).for_each(|batch| disk.write(batch));
        let (disk_is_fast, reads_fail) = (self.disk_is_fast, self.reads_fail);
        let options = Options { seed: self.options.seed + SEED_STEP, ..self.options.clone() };
        *self = Node::new(options, self.configuration.clone(), disk);
        (self.disk_is_fast, self.reads_fail) = (disk_is_fast, reads_fail);
    }

    /// Loses what is behind the `kept` oldest entries of its log to damage, the vote and the term as well, and starts
    /// again. What the snapshot covers is still there.
    pub(crate) fn forget(&mut self, kept: usize) {
        let current_term = self.raft.current_term();
        self.unsynced.clear();
        self.disk.entries.truncate(kept.saturating_sub(self.disk.cut));
        let commit_index = self.disk.hard_state.commit_index.min(self.disk.last_index());
        self.disk.hard_state = HardState { commit_index, ..HardState::default() };
        self.disk.forgotten_term = Some(self.disk.forgotten_term.unwrap_or_default().max(current_term));
        self.crash(0);
    }

    /// The terms of the log, as far as the core tells.
    pub(crate) fn log_terms(&self) -> Vec<u64> {
        let indexes = 1..=self.raft.last_index().get();
        indexes.map(|number| self.raft.term_at(index(number)).expect("up to the last index").get()).collect()
    }
}

pub(crate) fn append(prev: (u64, u64), entries: Vec<Entry>, leader_commit: u64) -> Body {
    Body::AppendEntries {
        prev_log_index: index(prev.0),
        prev_log_term: term(prev.1),
        entries,
        leader_commit: index(leader_commit),
    }
}

pub(crate) fn offer(last_index: u64, last_term: u64) -> Body {
    Body::InstallSnapshot { last_included_index: index(last_index), last_included_term: term(last_term) }
}

pub(crate) fn accepted(match_index: u64) -> Body {
    Body::AppendEntriesResponse(AppendResult::Accepted { match_index: index(match_index) })
}

pub(crate) fn rejected(prev_log_index: u64, hint: (u64, u64)) -> Body {
    Body::AppendEntriesResponse(AppendResult::Rejected {
        prev_log_index: index(prev_log_index),
        hint_index: index(hint.0),
        hint_term: term(hint.1),
    })
}

/// A candidate's request whose log ends at `last` (index, term).
pub(crate) fn vote_request(last: (u64, u64)) -> Body {
    request(last, false, false)
}

pub(crate) fn pre_vote_request(last: (u64, u64)) -> Body {
    request(last, true, false)
}

pub(crate) fn request(last: (u64, u64), pre_vote: bool, leadership_transfer: bool) -> Body {
    Body::RequestVote { pre_vote, last_log_index: index(last.0), last_log_term: term(last.1), leadership_transfer }
}

pub(crate) fn vote(granted: bool) -> Body {
    Body::RequestVoteResponse { pre_vote: false, granted }
}

pub(crate) fn pre_vote(granted: bool) -> Body {
    Body::RequestVoteResponse { pre_vote: true, granted }
}

pub(crate) fn heartbeat(commit_index: u64, round: u64) -> Body {
    Body::Heartbeat { commit_index: index(commit_index), round }
}

/// Whether a vote request was granted, from the only message sent in answer.
pub(crate) fn is_granted(messages: &[Message]) -> bool {
    match messages {
        [Message { body: Body::RequestVoteResponse { granted, .. }, .. }] => *granted,
        other => panic!("expected one answer to a vote request: {other:?}"),
    }
}

/// The kinds of the messages to one node.
pub(crate) fn kinds(messages: &[Message], to: u64) -> Vec<&'static str> {
    messages.iter().filter(|message| message.to == id(to)).map(|message| message.body.kind()).collect()
}

/// The last index of each snapshot that a node took over since its last start.
pub(crate) fn installed(node: &Node) -> Vec<u64> {
    let index_of = |event: &Event| match event {
        Event::Installed { index } => Some(index.get()),
        _ => None,
    };
    node.events.iter().filter_map(index_of).collect()
}
