//! The machine itself: its state, its inputs, and the dispatch of messages.
//!
//! What the messages do is in `election`, `replication`, `follower`, `reads`, `read_index`, `lease` and `transfer`;
//! what comes of them leaves through [`Raft::ready`].

use crate::configuration::Configuration;
use crate::election::Votes;
use crate::error::{ProposeError, Refused, SetupError};
use crate::follower::Append;
use crate::log::{Log, Marks};
use crate::message::{Body, Message};
use crate::options::{Options, Restored};
use crate::random::Random;
use crate::read_index::Asking;
use crate::ready::{Event, Fetch, Ready, SnapshotOffer};
use crate::replication::Leadership;
use crate::staging::Staging;
use crate::status::Role;
use crate::types::{BatchNumber, Entry, HardState, Index, NodeId, Payload, ReadId, Term};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

/// How far ahead of ours a peer's term may be. An honest cluster does not hold four billion elections while a member
/// is away; a damaged frame that claims to have would use up the terms of the whole cluster.
pub(crate) const TERMS_AHEAD_MAX: u64 = 1 << 32;

/// One node's part in the consensus: inputs in, [`Ready`] out. See the crate's documentation for the contract.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(crate) options: Options,
    pub(crate) configuration: Arc<Configuration>,
    pub(crate) current_term: Term,
    pub(crate) voted_for: Option<NodeId>,
    pub(crate) log: Log,
    pub(crate) staging: Staging,
    pub(crate) state: State,
    /// The last entry that the leader of this term showed to be in its log as well; at least the commit index.
    pub(crate) verified: Index,
    /// Ticks since the start: the only clock there is.
    pub(crate) now: u64,
    /// Ticks since the leader was heard of, a vote was given or a campaign began. Stands still on a leader.
    pub(crate) election_elapsed_ticks: u32,
    /// The latest term that it asked for pre-votes for; zero if it never did.
    pub(crate) pre_vote_term: Term,
    /// When to campaign; drawn anew for each round.
    pub(crate) election_timeout_ticks: u32,
    /// The leader of whose end it was told last: nobody waits for its turn in an election.
    pub(crate) gone: Option<NodeId>,
    /// How many questions it has asked its leaders since the start.
    pub(crate) questions: u64,
    /// Whether there are leases; see `lease`.
    pub(crate) leases: bool,
    /// The tick until which it has promised to vote for nobody.
    pub(crate) promised_until: u64,
    pub(crate) random: Random,
    /// What it promised in terms up to this one it may have forgotten; see `snapshot`.
    pub(crate) forgotten_term: Option<Term>,
    pub(crate) outbox: Outbox,
}

/// What belongs to a role and dies with it.
#[derive(Clone, Hash, Debug)]
pub(crate) enum State {
    Follower {
        leader: Option<NodeId>,
        /// It gave its vote as this follower, and has not heard of a leader since.
        has_voted: bool,
        asking: Asking,
    },
    /// Has no leader by definition: one that still believed in its old leader would refuse to let anyone replace it.
    PreCandidate {
        votes: Votes,
    },
    Candidate {
        votes: Votes,
    },
    Leader(Leadership),
}

/// What waits to leave with the next [`Ready`].
#[derive(Clone, Hash, Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) messages: Vec<Message>,
    pub(crate) messages_after_persist: Vec<Message>,
    pub(crate) reads: Vec<(ReadId, Index)>,
    pub(crate) aborted_reads: Vec<ReadId>,
    pub(crate) fetches: Vec<Fetch>,
    pub(crate) snapshot_offers: Vec<SnapshotOffer>,
    pub(crate) events: Vec<Event>,
}

impl Raft {
    /// A node as it comes back from its disk, or starts for the first time with an empty log: a follower that knows
    /// of no leader.
    ///
    /// # Errors
    /// If options, configuration and log do not make sense, or not together.
    pub fn new(options: Options, restored: Restored) -> Result<Raft, SetupError> {
        options.validate()?;
        let Restored { configuration, hard_state, term_starts, tail, last_index, .. } = restored;
        let Restored { first_index, snapshot_index, forgotten_term, applied, may_have_promised, .. } = restored;
        configuration.validate().map_err(SetupError::Configuration)?;
        if !configuration.contains(options.id) {
            return Err(SetupError::NotAMember(options.id));
        }
        // Whatever is applied was committed, even if the hint had not been written yet.
        let commit = hard_state.commit_index.max(applied);
        let marks = Marks { first: first_index, snapshot: snapshot_index, applied, commit, last: last_index };
        let log = Log::restore(&term_starts, tail, marks).map_err(SetupError::Log)?;
        let mut random = Random::new(options.seed);
        let election_timeout_ticks =
            random.between(options.election_timeout_ticks_min, options.election_timeout_ticks_max);
        let mut raft = Raft {
            current_term: hard_state.current_term,
            voted_for: hard_state.voted_for,
            staging: Staging::new(last_index, hard_state),
            state: State::Follower { leader: None, has_voted: false, asking: Asking::default() },
            // If a leader of the restored term is there, it has seen this node's acknowledgements, and what its
            // heartbeats commit is among the entries that they covered.
            verified: last_index,
            now: 0,
            election_elapsed_ticks: 0,
            pre_vote_term: Term::ZERO,
            election_timeout_ticks,
            gone: None,
            questions: 0,
            leases: false,
            promised_until: 0,
            random,
            forgotten_term,
            outbox: Outbox::default(),
            options,
            configuration: Arc::new(configuration),
            log,
        };
        if may_have_promised {
            raft.promised_until = raft.promise_ticks();
        }
        if raft.log.last_term() > raft.current_term {
            // The entries were written, and the term that came behind them in the same batch was not. Nothing in
            // that batch was promised to anyone, a vote least of all.
            raft.enter_term(raft.log.last_term());
        }
        if let Some(forgotten_term) = forgotten_term {
            let term = forgotten_term.next().ok_or(SetupError::ForgottenTerm)?;
            if term > raft.current_term {
                raft.enter_term(term);
            }
            raft.maybe_recover();
        }
        raft.check_invariants();
        Ok(raft)
    }

    /// A unit of time passed. All timeouts count ticks.
    pub fn tick(&mut self) {
        let before = self.observe();
        self.now += 1;
        match self.state {
            State::Leader(_) => self.tick_leader(),
            State::Follower { .. } | State::PreCandidate { .. } | State::Candidate { .. } => self.tick_election(),
        }
        // Last, because the tick that comes right behind a batch measures nothing.
        self.staging.tick();
        self.verify(&before);
    }

    /// A message came in. Whatever it says, it does not panic.
    ///
    /// # Errors
    /// If the message was dropped: then nothing has changed.
    pub fn step(&mut self, message: Message) -> Result<(), Refused> {
        let before = self.observe();
        let result = self.receive(message);
        self.maybe_recover();
        self.verify(&before);
        result
    }

    /// Appends a command to the log. It is committed when it comes back in [`Ready::committed`] with this term and
    /// index; another term at this index means that it never will be.
    ///
    /// # Errors
    /// If this node does not lead, is handing leadership over, or has too much uncommitted. Then the command is not
    /// in the log.
    pub fn propose(&mut self, command: Bytes) -> Result<(Term, Index), ProposeError> {
        let State::Leader(leadership) = &self.state else {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        };
        if leadership.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        let before = self.observe();
        let entry =
            Entry { term: self.current_term, index: self.log.last_index().next(), payload: Payload::Command(command) };
        // One command always fits, however large: otherwise it could never be written at all.
        let uncommitted_bytes = self.log.uncommitted_bytes();
        if uncommitted_bytes > 0
            && uncommitted_bytes.saturating_add(entry.size_bytes()) > self.options.uncommitted_bytes_max
        {
            return Err(ProposeError::TooManyUncommitted);
        }
        let position = (entry.term, entry.index);
        self.log.append(entry);
        self.verify(&before);
        Ok(position)
    }

    /// Batch `number` and all before it are durable. Repeats mean nothing.
    ///
    /// # Panics
    /// If that batch was never handed out.
    pub fn persisted(&mut self, number: BatchNumber) {
        let before = self.observe();
        self.staging.persisted(number, &self.log);
        self.maybe_count_own_vote();
        self.maybe_commit();
        self.maybe_recover();
        self.evict();
        self.verify(&before);
    }

    /// Everything up to `index` is applied. Repeats mean nothing.
    ///
    /// # Panics
    /// If that index was never handed out.
    pub fn applied(&mut self, index: Index) {
        let before = self.observe();
        self.log.applied_to(index);
        self.evict();
        self.verify(&before);
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        match self.state {
            State::Follower { .. } => Role::Follower,
            State::PreCandidate { .. } => Role::PreCandidate,
            State::Candidate { .. } => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// This node's name.
    pub fn id(&self) -> NodeId {
        self.options.id
    }

    /// The latest term this node has seen.
    pub fn current_term(&self) -> Term {
        self.current_term
    }

    /// Who leads the current term, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        match self.state {
            State::Follower { leader, .. } => leader,
            State::PreCandidate { .. } | State::Candidate { .. } => None,
            State::Leader(_) => Some(self.options.id),
        }
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        matches!(self.state, State::Leader(_))
    }

    /// The last entry known to be committed.
    pub fn commit_index(&self) -> Index {
        self.log.commit_index()
    }

    /// The last entry known to be applied.
    pub fn applied_index(&self) -> Index {
        self.log.applied()
    }

    /// The last entry of the log.
    pub fn last_index(&self) -> Index {
        self.log.last_index()
    }

    /// The term of the entry at `index`; zero before the first entry, `None` behind the last.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The first index of each run of entries of one term, with that term, from index 1 up to `last`: what a snapshot
    /// of everything up to there carries.
    pub fn term_starts(&self, last: Index) -> Vec<(Index, Term)> {
        self.log.term_starts(last)
    }

    /// The size of the entries behind the commit index, in bytes.
    pub fn uncommitted_bytes(&self) -> usize {
        self.log.uncommitted_bytes()
    }

    /// The members.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// What a mark on the disk may say now: term, vote, and a commit index that is not ahead of the batches handed
    /// out.
    pub fn hard_state(&self) -> HardState {
        HardState {
            current_term: self.current_term,
            voted_for: self.voted_for,
            commit_index: self.log.commit_index().min(self.staging.staged_index()),
        }
    }

    /// Judges a message by its envelope and form, then gives it to its handler. Up to the handlers nothing changes.
    fn receive(&mut self, message: Message) -> Result<(), Refused> {
        if message.to != self.options.id {
            return Err(Refused::NotForUs);
        }
        if message.from == self.options.id {
            return Err(Refused::FromSelf);
        }
        if !self.configuration.contains(message.from) {
            return Err(Refused::UnknownSender);
        }
        let terms_ahead = message.term.get().saturating_sub(self.current_term.get());
        if terms_ahead > TERMS_AHEAD_MAX || message.term.next().is_none() {
            return Err(Refused::TermTooFarAhead);
        }
        message.check_form()?;
        let Message { from, to: _, term, body } = message;
        match body {
            Body::RequestVote { pre_vote, last_log_index, last_log_term, leadership_transfer } => {
                let up_to_date = self.log.is_up_to_date(last_log_index, last_log_term);
                self.handle_vote_request(from, term, pre_vote, up_to_date, leadership_transfer)
            }
            Body::RequestVoteResponse { pre_vote: true, granted } => self.handle_pre_vote_response(from, term, granted),
            Body::RequestVoteResponse { pre_vote: false, granted } => self.handle_vote_response(from, term, granted),
            Body::AppendEntries { prev_log_index, prev_log_term, entries, leader_commit } => {
                let append = Append { prev_log_index, prev_log_term, entries, leader_commit };
                self.handle_append_entries(from, term, append)
            }
            Body::AppendEntriesResponse(result) => self.handle_append_response(from, term, result),
            Body::Heartbeat { commit_index, round } => self.handle_heartbeat(from, term, commit_index, round),
            Body::HeartbeatResponse { round, promised } => self.handle_heartbeat_response(from, term, round, promised),
            Body::InstallSnapshot { last_included_index, last_included_term } => {
                self.handle_install_snapshot(from, term, last_included_index, last_included_term)
            }
            Body::TimeoutNow => self.handle_timeout_now(from, term),
            Body::ReadIndex { question } => self.handle_read_index(from, term, question),
            Body::ReadIndexResponse { question, index } => self.handle_read_index_response(from, term, question, index),
        }
    }

    /// Whether there is anything to do, in a time that depends on the number of members only.
    pub fn has_ready(&self) -> bool {
        let Outbox { messages, messages_after_persist, reads, aborted_reads, fetches, snapshot_offers, events } =
            &self.outbox;
        !messages.is_empty()
            || !messages_after_persist.is_empty()
            || !reads.is_empty()
            || !aborted_reads.is_empty()
            || !fetches.is_empty()
            || !snapshot_offers.is_empty()
            || !events.is_empty()
            || self.staging.is_due(&self.log, self.hard_state())
            || self.log.handed() < self.log.commit_index()
            || self.is_read_round_due()
            || self.is_question_due()
            || self.is_append_due()
    }

    /// Takes everything there is to do. The driver calls this after each input, or after a bounded number of them.
    pub fn ready(&mut self) -> Ready {
        let before = self.observe();
        self.maybe_start_read_round();
        self.maybe_ask();
        self.send_appends();
        let commit_index = self.log.commit_index();
        // This batch carries the whole log, so its hint may name anything that is committed.
        let hard_state = HardState { commit_index, ..self.hard_state() };
        let persist = self.staging.take(&self.log, hard_state);
        let committed = self.log.take_committed(self.options.apply_bytes_max);
        let Outbox { messages, messages_after_persist, reads, aborted_reads, fetches, snapshot_offers, events } =
            core::mem::take(&mut self.outbox);
        self.verify(&before);
        let wait_for = self.staging.last_batch();
        Ready {
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
        }
    }

    /// Lets old entries go when the tail has grown too large.
    pub(crate) fn evict(&mut self) {
        self.log.evict(self.staging.durable_index(), self.options.tail_bytes_max);
    }

    /// A message that promises nothing that the disk has to keep.
    pub(crate) fn send(&mut self, to: NodeId, term: Term, body: Body) {
        self.outbox.messages.push(Message { from: self.options.id, to, term, body });
    }

    /// A message that promises what the next batch, or an earlier one, makes durable.
    pub(crate) fn send_after_persist(&mut self, to: NodeId, body: Body) {
        let message = Message { from: self.options.id, to, term: self.current_term, body };
        self.outbox.messages_after_persist.push(message);
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.outbox.events.push(event);
    }
}
