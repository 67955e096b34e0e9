//! One core with a driver that keeps its side of the contract, and rules that hold whatever its peers send.
//!
//! The peers may lie as they please, so nothing is said here about agreement between nodes. What is judged is this
//! node: that it keeps its own promises, never goes back, and stays within its bounds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};

use bytes::Bytes;
use raft::{
    AppendResult, Batch, BatchNumber, Body, Configuration, Entry, Event, Fetch, HardState, Index, Message, NodeId,
    Options, Payload, Raft, ReadId, Ready, Refused, Role, Term,
};

pub(crate) use crate::disk::Disk;
use crate::rules;

/// How many messages one turn may leave beside the answers to its inputs: heartbeats, and a window for each peer.
const MESSAGES_PER_TURN_MAX: usize = 64;

/// How many messages one input may cause: an answer, or something for each peer.
const MESSAGES_PER_INPUT_MAX: usize = 8;

/// How many turns may follow each other without an input: what is committed leaves in portions.
const TURNS_MAX: usize = 4096;

/// A node under test.
pub(crate) struct Node {
    pub(crate) raft: Raft,
    options: Options,
    configuration: Configuration,
    disk: Disk,
    /// Handed out and not yet durable.
    batches: VecDeque<Batch>,
    last_batch: BatchNumber,
    durable_batch: BatchNumber,
    /// Promises that wait for a batch, each with whether its turn also took entries back.
    held: VecDeque<(BatchNumber, Message, bool)>,
    fetches: VecDeque<Fetch>,
    /// The last entry handed out to be applied.
    handed: Index,
    reads_open: BTreeSet<ReadId>,
    read_next: u64,
    /// Whom it promised its vote, by term: kept beyond restarts.
    votes: BTreeMap<Term, NodeId>,
    /// Promises that have left since they were last taken.
    pub(crate) kept: Vec<Message>,
    inputs: usize,
}

/// What must not go back.
#[derive(Clone, Copy, Debug)]
struct Glance {
    role: Role,
    term: Term,
    voted_for: Option<NodeId>,
    commit: Index,
    applied: Index,
    last: Index,
    recovering: bool,
}

pub(crate) fn node_id(number: u64) -> NodeId {
    NodeId::new(number).expect("nodes are numbered from 1")
}

/// What tells the process under test from others.
pub(crate) const SEED: u64 = 7;

/// Small windows and bounds, so that few inputs reach them.
pub(crate) fn options() -> Options {
    Options {
        id: node_id(1),
        election_timeout_ticks_min: 10,
        election_timeout_ticks_max: 20,
        heartbeat_ticks: 2,
        append_bytes_max: 256,
        inflight_messages_max: 4,
        uncommitted_bytes_max: 512,
        tail_bytes_max: 160,
        apply_bytes_max: 128,
        seed: SEED,
    }
}

/// Entries 1, 2, … of these terms.
pub(crate) fn entries(terms: &[u64]) -> Vec<Entry> {
    let entry = |(&term, index)| {
        let payload = Payload::Command(Bytes::from(vec![b'x'; 8]));
        Entry { term: Term::new(term), index: Index::new(index), payload }
    };
    terms.iter().zip(1..).map(entry).collect()
}

impl Node {
    pub(crate) fn new(configuration: Configuration, mut disk: Disk) -> Node {
        disk.adopt_snapshot();
        let raft = Raft::new(options(), disk.restored(&configuration)).expect("the set-up is valid");
        Node {
            handed: raft.applied_index(),
            raft,
            options: options(),
            configuration,
            disk,
            batches: VecDeque::new(),
            last_batch: BatchNumber::ZERO,
            durable_batch: BatchNumber::ZERO,
            held: VecDeque::new(),
            fetches: VecDeque::new(),
            reads_open: BTreeSet::new(),
            read_next: 0,
            votes: BTreeMap::new(),
            kept: Vec::new(),
            inputs: 0,
        }
    }

    /// Hands in a message. What is refused must change nothing; what is accepted must be something that a correct peer
    /// can say.
    pub(crate) fn step(&mut self, message: Message) -> Result<(), Refused> {
        let before = self.raft.status();
        let had_ready = self.raft.has_ready();
        let (glance, digest) = (self.glance(), self.digest());
        let impossible = rules::impossible(&message, &self.raft, &before);
        let (term, kind) = (message.term, message.body.kind());
        let result = self.raft.step(message);
        self.inputs += 1;
        match result {
            Ok(()) => assert_eq!(impossible, None, "{kind} of term {term} was accepted"),
            Err(refused) => {
                assert_eq!(self.raft.status(), before, "{kind}, refused as {refused}, changed something");
                assert_eq!(self.raft.has_ready(), had_ready, "{kind}, refused as {refused}, is answered");
                assert_eq!(self.digest(), digest, "{kind}, refused as {refused}, left a trace");
            }
        }
        self.compare(glance);
        result
    }

    /// A hash of all of the core's state.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.raft.digest(&mut hasher);
        hasher.finish()
    }

    fn glance(&self) -> Glance {
        Glance {
            role: self.raft.role(),
            term: self.raft.current_term(),
            voted_for: self.raft.hard_state().voted_for,
            commit: self.raft.commit_index(),
            applied: self.raft.applied_index(),
            last: self.raft.last_index(),
            recovering: self.raft.status().recovering,
        }
    }

    /// Any other input, which may change what its rules allow.
    pub(crate) fn input<T>(&mut self, input: impl FnOnce(&mut Raft) -> T) -> T {
        let before = self.glance();
        self.inputs += 1;
        let output = input(&mut self.raft);
        self.compare(before);
        output
    }

    pub(crate) fn tick(&mut self, count: u32) {
        (0..count).for_each(|_| self.input(Raft::tick));
    }

    pub(crate) fn read(&mut self) -> bool {
        self.read_next += 1;
        let id = ReadId::new(self.read_next);
        let taken = self.input(|raft| raft.read(id)).is_ok();
        if taken {
            self.reads_open.insert(id);
        }
        taken
    }

    /// What holds between any two states of one process.
    fn compare(&self, before: Glance) {
        let after = self.glance();
        assert!(after.term >= before.term, "the term fell: {before:?} {after:?}");
        assert!(after.commit >= before.commit, "the commit index fell: {before:?} {after:?}");
        assert!(after.applied >= before.applied, "the applied index fell: {before:?} {after:?}");
        if after.term == before.term && before.voted_for.is_some() {
            assert_eq!(after.voted_for, before.voted_for, "a vote was changed in its term");
        }
        assert!(before.recovering || !after.recovering, "promises are forgotten at a restart only");
        if before.recovering {
            let voted = after.voted_for.is_some() && (after.voted_for, after.term) != (before.voted_for, before.term);
            assert!(!voted, "a vote by a node that may have forgotten one: {before:?} {after:?}");
            assert_eq!(after.role, Role::Follower, "a node that may have forgotten its vote campaigns");
        }
        if before.role == Role::Leader && after.role == Role::Leader && after.term == before.term {
            assert!(after.last >= before.last, "a leader took entries back");
        }
        self.raft.check_invariants();
    }

    /// Does all that there is to do, except for what the disk takes its time for.
    pub(crate) fn pump(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.raft.has_ready() {
                return;
            }
            let before = self.glance();
            let ready = self.raft.ready();
            self.compare(before);
            self.take(ready);
            self.inputs = 0;
        }
        panic!("the core never comes to rest");
    }

    fn take(&mut self, ready: Ready) {
        let count = ready.messages.len() + ready.messages_after_persist.len();
        let allowed = MESSAGES_PER_TURN_MAX + MESSAGES_PER_INPUT_MAX * self.inputs;
        assert!(count <= allowed, "{count} messages after {} inputs", self.inputs);
        let cut = ready.events.iter().any(|event| matches!(event, Event::Truncated { .. }));
        if let Some(batch) = ready.persist {
            assert_eq!(batch.number.get(), self.last_batch.get() + 1, "batches are numbered without a gap");
            self.last_batch = batch.number;
            self.batches.push_back(batch);
        }
        assert_eq!(ready.wait_for, self.last_batch, "promises wait for the last batch");
        for message in &ready.messages {
            rules::check_sent(message, &self.configuration, &self.options);
            assert!(!rules::is_promise(&message.body), "a promise leaves before it is durable: {message:?}");
        }
        for message in ready.messages_after_persist {
            rules::check_sent(&message, &self.configuration, &self.options);
            self.held.push_back((ready.wait_for, message, cut));
        }
        self.take_committed(&ready.committed);
        for (read, index) in &ready.reads {
            assert!(self.reads_open.remove(read), "{read:?} is answered and was not open");
            // A follower takes its leader's word for what is committed.
            let is_known = *index <= self.raft.commit_index() || !self.raft.is_leader();
            assert!(is_known, "a read waits for what is not committed");
        }
        for read in &ready.aborted_reads {
            assert!(self.reads_open.remove(read), "{read:?} is aborted and was not open");
        }
        if ready.events.iter().any(|event| matches!(event, Event::Recovered { .. })) {
            self.disk.forgotten_term = None;
        }
        self.fetches.extend(ready.fetches);
        self.release();
    }

    fn take_committed(&mut self, committed: &[Entry]) {
        let bytes: usize = committed.iter().map(Entry::size_bytes).sum();
        assert!(bytes <= self.options.apply_bytes_max || committed.len() == 1, "{bytes} bytes to apply at once");
        for entry in committed {
            assert_eq!(entry.index, self.handed.next(), "entries are handed out in order, each once");
            assert_eq!(self.raft.term_at(entry.index), Some(entry.term), "what is handed out is in the log");
            assert!(entry.index <= self.raft.commit_index(), "what is handed out is committed");
            self.handed = entry.index;
        }
    }

    /// Tells the core that what was handed out is applied.
    pub(crate) fn apply(&mut self) {
        let handed = self.handed;
        self.input(|raft| raft.applied(handed));
    }

    /// Makes the oldest batch durable, and lets the promises leave that waited for it.
    pub(crate) fn sync_one(&mut self) {
        let Some(batch) = self.batches.pop_front() else { return };
        let number = batch.number;
        self.disk.write(batch);
        self.durable_batch = number;
        self.input(|raft| raft.persisted(number));
        self.release();
    }

    /// Lets promises leave, and checks them against the disk: it is at the batch that they waited for.
    fn release(&mut self) {
        while let Some((wait_for, message, cut)) = self.held.pop_front_if(|held| held.0 <= self.durable_batch) {
            let HardState { current_term, voted_for, .. } = self.disk.hard_state;
            assert!(current_term >= message.term, "{message:?} promises in a term that is not durable, {wait_for}");
            let candidate = match message.body {
                Body::RequestVote { pre_vote: false, .. } => Some(message.from),
                Body::RequestVoteResponse { pre_vote: false, granted: true } => Some(message.to),
                _ => None,
            };
            if let Some(candidate) = candidate {
                let durable = current_term > message.term || voted_for == Some(candidate);
                assert!(durable, "a vote leaves that is not durable: {message:?}");
                let promised = *self.votes.entry(message.term).or_insert(candidate);
                assert_eq!(promised, candidate, "two votes in term {}", message.term);
            }
            if let Body::AppendEntriesResponse(AppendResult::Accepted { match_index }) = message.body {
                // Lying peers can have one turn accept entries and take them back again.
                assert!(cut || match_index <= self.disk.last_index(), "accepted and not durable: {message:?}");
            }
            self.kept.push(message);
        }
    }

    /// Answers the oldest question for entries of the log, with what the disk has if `found`.
    pub(crate) fn answer_fetch(&mut self, found: bool) {
        let Some(fetch) = self.fetches.pop_front() else { return };
        assert!(self.configuration.contains(fetch.peer), "a stranger is fed from the log");
        let mut bytes = 0_usize;
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += entry.size_bytes();
            first || bytes <= fetch.bytes_max
        };
        let behind = self.disk.entries_from(fetch.from);
        let entries = if found { behind.iter().take_while(fits).cloned().collect() } else { Vec::new() };
        self.input(|raft| raft.fetched(fetch, entries));
    }

    /// The process ends with `written` of its batches on the disk, and another one takes over from there.
    pub(crate) fn restart(&mut self, written: usize) {
        for _ in 0..written {
            let Some(batch) = self.batches.pop_front() else { break };
            self.disk.write(batch);
        }
        let (term, disk, votes) = (self.disk.hard_state.current_term, self.disk.clone(), self.votes.clone());
        *self = Node { votes, ..Node::new(self.configuration.clone(), disk) };
        assert!(self.raft.current_term() >= term, "a restart forgot the term");
        self.raft.check_invariants();
    }

    /// Takes a snapshot of what is applied, and cuts off what that covers, but for the `left` newest entries of it.
    pub(crate) fn compact(&mut self, left: u64) {
        let applied = self.raft.applied_index();
        if applied > self.disk.snapshot_index() {
            self.disk.snapshot = Some((applied, self.raft.term_starts(applied)));
            self.input(|raft| raft.snapshot_taken(applied));
        }
        let last = self.raft.cuttable_index().get().saturating_sub(left);
        let first_index = self.disk.cut(Index::new(last));
        self.input(|raft| raft.compacted(first_index));
    }

    /// The driver got a snapshot, right or wrong: whether it was taken over.
    pub(crate) fn install(&mut self, last_index: Index, term_starts: Vec<(Index, Term)>) -> bool {
        let before = self.glance();
        let is_installed = self.input(|raft| raft.install(last_index, &term_starts));
        if is_installed {
            assert!(last_index > before.commit, "a snapshot took back what was committed");
            let status = self.raft.status();
            let all = [status.applied, status.commit_index, status.last_index, status.snapshot_index];
            assert_eq!(all, [last_index; 4], "a snapshot is taken over in part");
            assert_eq!(self.raft.term_starts(last_index), term_starts, "its terms are not those of the log");
            assert_ne!(status.role, Role::Leader, "a leader took entries back");
            self.disk.snapshot = Some((last_index, term_starts));
            self.handed = last_index;
        }
        is_installed
    }

    /// The process ends, and what it wrote to its log behind `left` entries is lost to damage, its term and vote as
    /// well.
    pub(crate) fn forget(&mut self, left: usize) {
        let term = self.raft.current_term();
        if term.next().is_none_or(|next| next.next().is_none()) {
            return; // No term is left to go on in.
        }
        self.batches.clear();
        self.disk.forget(left, term);
        self.restart(0);
        assert!(self.raft.current_term() > term, "it goes on in a term that it may have forgotten");
    }

    /// Lets the disk catch up with everything.
    pub(crate) fn settle(&mut self) {
        loop {
            self.pump();
            if self.batches.is_empty() {
                return;
            }
            self.sync_one();
            self.apply();
        }
    }

    /// Whatever was sent, an honest leader of the next term must be able to go on with this node, as long as there are
    /// terms.
    pub(crate) fn check_useful(&mut self) {
        self.settle();
        let Some(term) = self.raft.current_term().next().filter(|term| term.next().is_some()) else { return };
        self.kept.clear();
        let prev_log_index = self.raft.commit_index();
        let prev_log_term = self.raft.term_at(prev_log_index).expect("the commit index is in the log");
        let index = prev_log_index.next();
        let entries = vec![Entry { term, index, payload: Payload::Noop }];
        let body = Body::AppendEntries { prev_log_index, prev_log_term, entries, leader_commit: index };
        let message = Message { from: node_id(2), to: self.options.id, term, body };
        assert_eq!(self.step(message), Ok(()), "an honest leader is refused");
        self.settle();
        assert_eq!(self.raft.leader(), Some(node_id(2)), "an honest leader is not followed");
        assert!(self.raft.commit_index() >= index, "an honest leader cannot commit");
        let accepted = Body::AppendEntriesResponse(AppendResult::Accepted { match_index: index });
        let answered = self.kept.iter().any(|kept| kept.to == node_id(2) && kept.body == accepted);
        assert!(answered, "an honest leader gets no answer: {:?}", self.kept);
    }
}

pub(crate) fn position(index: Index) -> usize {
    usize::try_from(index.get()).expect("logs of a test are short")
}
