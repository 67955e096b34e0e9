//! What must hold after every step, whatever happens: computed from outside, from what leaves the nodes and from what
//! their disks give back.
//!
//! | property | where it is from | TLA+ | file |
//! |---|---|---|---|
//! | Election Safety | §5.2 | `ElectionSafety` | `election_safety` |
//! | Leader Append-Only | §5.3 | `LeaderAppendOnly` | `leader_append_only` |
//! | Log Matching | §5.3 | `LogMatching` | `log_matching` |
//! | Leader Completeness | §5.4 | `LeaderCompleteness` | `leader_completeness` |
//! | State Machine Safety, committed | §5.4.3 | `StateMachineSafety` | `committed_agreement` |
//! | State Machine Safety, applied | §5.4.3 | `StateMachineSafety` | `state_machine_safety` |
//! | Monotonic Term | §5.1 | `MonotonicCurrentTerm` | `monotonic_term` |
//! | Monotonic Commit, nothing committed taken back | Figure 2 | `MonotonicCommitIndex` | `monotonic_commit` |
//! | One vote per term, across restarts | §5.2 | `votedFor` | `one_vote_per_term` |
//! | A leader's vote is its own | §5.2 | | `leader_votes_for_itself` |
//! | A learner never campaigns | §4.2.1 of the dissertation | | `learners_follow` |
//! | Committed entries are on a majority of disks | §5.3 | `CommittedEntriesDurable` | `committed_is_durable` |
//! | Promises are durable first, and survive | Figure 2 | | `promises_survive` |
//! | `match` and `next` are true | Figure 2 | `matchIndex`, `nextIndex` | `match_is_true` |
//! | Commit only through the own term | §5.4.2 | `AdvanceCommitIndex` | `leader_commits_own_term` |
//! | Terms along a log never fall | §5.3 | `LogTermsMonotonic` | `terms_in_order` |
//! | Equal logs, equal states | §2 | | `state_hash` |
//! | Answers are true: once, committed if acknowledged, never if dropped | §8 | | `answers_are_true` |
//! | Real-time order of revisions over all keys | §8 | | `real_time_order` |
//! | A request id runs once, and all is applied by the rules | §6.3 of the dissertation | | `exactly_once` |
//! | Bounded queues | | | `bounded_queues` |
//! | A leader with a stalled disk gives way | | | `stalled_leader` |
//! | A put is refused for want of room if and only if there is too little | | | `storage_full` |
//! | Snapshots stand for what they say, and the newest is not needed | §7 | | `snapshots` |
//! | The disk holds what is needed and no more | | | `disk_use` |
//! | Who forgot promises stays out of elections until it holds them | | | `recovery` |
//!
//! That histories are linearizable is checked at the end of a run, in `history`.

mod answers_are_true;
mod bounded_queues;
mod committed_agreement;
mod committed_is_durable;
mod disk_use;
mod election_safety;
mod exactly_once;
mod leader_append_only;
mod leader_commits_own_term;
mod leader_completeness;
mod leader_votes_for_itself;
mod learners_follow;
mod log_matching;
mod match_is_true;
mod monotonic_commit;
mod monotonic_term;
mod one_vote_per_term;
mod promises_survive;
mod real_time_order;
mod recovery;
mod snapshots;
mod stalled_leader;
mod state_hash;
mod state_machine_safety;
mod storage_full;
mod terms_in_order;
mod view;

pub(crate) use disk_use::Holdings;
use engine::disk::MemoryDisk;
use engine::{Answer, AppliedCommand, AppliedKind, Engine, Opened, Ticket};
use raft::{Body, Index, Message, Term};

use crate::settings::Settings;
use crate::violation::Violation;

pub(crate) use real_time_order::RealTimeOrder;
pub(crate) use view::{Change, View, index, position};

/// All invariants, and what they need to remember.
pub(crate) struct Observer {
    pub(crate) views: Vec<View>,
    voters: usize,
    append_bytes_max: usize,
    election_safety: election_safety::ElectionSafety,
    log_matching: log_matching::LogMatching,
    committed: committed_agreement::CommittedLog,
    leader_completeness: leader_completeness::LeaderCompleteness,
    committed_is_durable: committed_is_durable::CommittedIsDurable,
    state_machine_safety: state_machine_safety::StateMachineSafety,
    one_vote_per_term: one_vote_per_term::OneVotePerTerm,
    promises_survive: promises_survive::PromisesSurvive,
    state_hash: state_hash::StateHash,
    answers_are_true: answers_are_true::AnswersAreTrue,
    stalled_leader: stalled_leader::StalledLeader,
    recovery: recovery::Recovery,
    disk_use: disk_use::DiskUse,
    /// Whose state was changed behind its back: it is not compared with the others'.
    forged: Option<usize>,
    disk_bound: bounded_queues::DiskBound,
    pub(crate) storage_full: storage_full::StorageFull,
    pub(crate) real_time_order: RealTimeOrder,
    pub(crate) exactly_once: exactly_once::ExactlyOnce,
}

impl Observer {
    /// Nothing was seen yet of the nodes of a run like this.
    pub(crate) fn new(settings: &Settings) -> Observer {
        let Settings { size, voters, .. } = *settings;
        let election_timeout_ticks_max = settings.raft.election_timeout_ticks_max;
        Observer {
            voters,
            append_bytes_max: settings.raft.append_bytes_max,
            stalled_leader: stalled_leader::StalledLeader::new(size, voters, election_timeout_ticks_max),
            recovery: recovery::Recovery::new(size),
            disk_use: disk_use::DiskUse::new(settings),
            forged: None,
            disk_bound: bounded_queues::DiskBound::new(settings.wal_pending_bytes_max),
            storage_full: storage_full::StorageFull::new(size, settings.snapshots.reserve_bytes),
            views: (0..size).map(|_| View::new()).collect(),
            election_safety: election_safety::ElectionSafety::default(),
            log_matching: log_matching::LogMatching::default(),
            committed: committed_agreement::CommittedLog::default(),
            leader_completeness: leader_completeness::LeaderCompleteness::default(),
            committed_is_durable: committed_is_durable::CommittedIsDurable::new(voters),
            state_machine_safety: state_machine_safety::StateMachineSafety::new(size),
            one_vote_per_term: one_vote_per_term::OneVotePerTerm::default(),
            promises_survive: promises_survive::PromisesSurvive::new(size),
            state_hash: state_hash::StateHash::default(),
            answers_are_true: answers_are_true::AnswersAreTrue::default(),
            real_time_order: RealTimeOrder::default(),
            exactly_once: exactly_once::ExactlyOnce::new(size, settings.sessions.limits),
        }
    }

    /// A process started from its disk; `fetches` says that it gave up a part of its log.
    pub(crate) fn started(&mut self, node: usize, engine: &Engine, fetches: bool) -> Result<(), Violation> {
        let before = self.views[node].clone();
        let change = self.views[node].update(node, true, engine.raft(), engine.status());
        self.state_machine_safety.started(node, &self.views[node]);
        self.exactly_once.started(node, &engine.status());
        self.promises_survive.restarted(node, &before, &self.views[node])?;
        self.recovery.started(node, &before, &self.views[node], self.promises_survive.term(node), fetches);
        if engine.store().recompute_hash() != engine.store().state_hash() {
            return Err(Violation::HashWrong { node: crate::node::node_id(node) });
        }
        self.check(&change)
    }

    /// The state of a node was changed behind its back.
    pub(crate) fn forged(&mut self, node: usize) {
        self.forged = Some(node);
    }

    /// The newest snapshot of a node is another one: looks into its file.
    pub(crate) fn snapshot_changed(&self, node: usize, disk: &MemoryDisk) -> Result<(), Violation> {
        let view = &self.views[node];
        if view.snapshot == 0 || self.forged == Some(node) {
            return Ok(());
        }
        snapshots::check_file(node, view, disk, &self.state_hash, &self.committed)
    }

    /// What is on the disk of a node now; if `is_bounded`, it may not be more than is needed.
    pub(crate) fn disk_used(
        &mut self,
        node: usize,
        now_us: u64,
        holdings: &Holdings,
        is_bounded: bool,
    ) -> Result<(), Violation> {
        self.disk_use.check(node, now_us, holdings, is_bounded)
    }

    /// What a node would be if its power failed now: it has to be as good as what it has promised.
    pub(crate) fn would_start(&self, node: usize, engine: &Engine) -> Result<(), Violation> {
        let mut now = View::new();
        now.update(node, true, engine.raft(), engine.status());
        if now.recovering && !self.views[node].recovering {
            let reason = "it would have forgotten what it promised".to_owned();
            return Err(Violation::CrashWouldLose { node: crate::node::node_id(node), reason });
        }
        self.promises_survive.restarted(node, &self.views[node], &now)
    }

    /// What a node would be without its newest snapshot: no less than it was when it stopped.
    pub(crate) fn without_newest(&self, node: usize, newest: Index, opened: &Opened) -> Result<(), String> {
        let mut now = View::new();
        now.update(node, true, opened.engine.raft(), opened.engine.status());
        if now.recovering && !self.views[node].recovering {
            return Err("it would have forgotten what it promised".to_owned());
        }
        let kept = self.promises_survive.restarted(node, &self.views[node], &now);
        kept.map_err(|violation| violation.to_string())?;
        snapshots::check_replay(position(newest), opened, &self.state_hash, &self.committed)
    }

    /// A process is gone.
    pub(crate) fn stopped(&mut self, node: usize) {
        self.views[node].up = false;
    }

    /// A node did something. Returns what changed.
    pub(crate) fn acted(&mut self, node: usize, engine: &Engine) -> Result<Change, Violation> {
        let status = engine.status();
        bounded_queues::check(node, &status)?;
        let change = self.views[node].update(node, false, engine.raft(), status);
        self.check(&change)?;
        Ok(change)
    }

    fn check(&mut self, change: &Change) -> Result<(), Violation> {
        let views = &self.views;
        learners_follow::check(views, self.voters, change)?;
        self.election_safety.check(views, change)?;
        leader_append_only::check(views, change)?;
        self.log_matching.check(views, change)?;
        terms_in_order::check(views, change)?;
        monotonic_term::check(views, change)?;
        monotonic_commit::check(views, change)?;
        leader_votes_for_itself::check(views, change)?;
        leader_commits_own_term::check(views, change)?;
        self.committed.check(views, change)?;
        self.leader_completeness.check(views, change, &self.committed)?;
        self.committed_is_durable.check(views, change, &self.committed)?;
        match_is_true::check(views, change)?;
        state_machine_safety::StateMachineSafety::check(views, change)?;
        if self.forged != Some(change.node) {
            self.state_hash.check(views, change)?;
        }
        snapshots::check(views, change)?;
        self.recovery.check(views, change, &self.committed)?;
        self.answers_are_true.check(&self.committed)
    }

    /// A tick of a node passed, and it was looked at since.
    pub(crate) fn ticked(&mut self, node: usize) -> Result<(), Violation> {
        self.stalled_leader.ticked(node, &self.views[node])
    }

    /// A message leaves a node that was just looked at.
    pub(crate) fn sent(&mut self, node: usize, message: &Message) -> Result<(), Violation> {
        self.one_vote_per_term.sent(message)?;
        recovery::Recovery::sent(&self.views[node], message)?;
        self.promises_survive.sent(node, &self.views[node], message)?;
        if let Body::AppendEntries { prev_log_term, entries, .. } = &message.body {
            bounded_queues::check_append(node, entries, self.append_bytes_max)?;
            self.log_matching.sent(*prev_log_term, entries)?;
        }
        Ok(())
    }

    /// A node took a peer's snapshot of everything up to an index for its state.
    pub(crate) fn installed(&mut self, node: usize, at: Index) {
        self.state_machine_safety.installed(node, at);
        self.exactly_once.installed(node, at);
    }

    /// A node applied an entry.
    pub(crate) fn applied(
        &mut self,
        node: usize,
        at: (Index, Term),
        what: AppliedKind,
        command: Option<&AppliedCommand>,
    ) -> Result<(), Violation> {
        if self.forged == Some(node) {
            return Ok(());
        }
        self.state_machine_safety.applied(node, at, what)?;
        self.exactly_once.applied(node, at, command)
    }

    /// A node was asked for something, perhaps for a put, while so many bytes waited for its log.
    pub(crate) fn asked(&mut self, ticket: Ticket, is_put: bool, wal_pending_bytes: usize) {
        self.disk_bound.asked(ticket, wal_pending_bytes);
        self.storage_full.asked(ticket, is_put);
        self.answers_are_true.asked(ticket);
    }

    /// The last leader of a term after this one, with its term.
    pub(crate) fn leader_after(&self, term: Term) -> Option<(Term, usize)> {
        self.election_safety.leader_after(term)
    }

    /// A node was asked by a reader.
    pub(crate) fn reader_asked(&mut self, ticket: Ticket) {
        self.answers_are_true.asked(ticket);
    }

    /// Whether a node that was asked last had too much waiting for its log.
    pub(crate) fn disk_was_behind(&self, ticket: Ticket) -> bool {
        self.disk_bound.was_behind(ticket)
    }

    /// A node answered.
    pub(crate) fn answered(&mut self, node: usize, ticket: Ticket, answer: &Answer) -> Result<(), Violation> {
        self.disk_bound.answered(node, ticket, answer)?;
        self.storage_full.answered(node, ticket, answer)?;
        self.answers_are_true.answered(node, ticket, answer, &self.committed)
    }

    /// How many events are planned.
    pub(crate) fn planned(&self, node: usize, count: usize) -> Result<(), Violation> {
        bounded_queues::check_events(node, count)
    }
}
