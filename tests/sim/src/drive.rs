//! Drives the engines as the server's shell does: starts them, carries out what they ask for, hands results back.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::Arc;

use engine::disk::{Disk, Operation};
use engine::{Damage, Engine, EngineError, Event as EngineEvent, Opened, Remedy, snapshot};
use raft::{Event as RaftEvent, Role};

use crate::invariants::{Change, position};
use crate::jobs::{SegmentRoom, is_full};
use crate::node::{Process, node_id, node_number};
use crate::queue::Event;
use crate::rot::Untouched;
use crate::violation::Violation;
use crate::words;
use crate::world::World;

/// After so many ticks without a write the log is told that it is idle.
pub(crate) const IDLE_TICKS: u32 = 4;

/// How long a process needs to start again after it stopped by itself, in microseconds.
const RESTART_US: (u64, u64) = (50_000, 3_000_000);

/// An error with what caused it, as one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Whether the snapshot that a node began with is the only one that leads anywhere.
///
/// The log was reset to it if a part was lost; a note on that may be of a start that was cut short. And it is cut up to
/// the older of two snapshots: once the newest has gone bad, what is still there of one before them leads nowhere.
fn is_alone(damage: &[Damage], engine: &Engine) -> bool {
    let is_last = |found: &Damage| matches!(found.remedy, Remedy::Fetched { .. } | Remedy::OlderSnapshot);
    engine.status().recovering || damage.iter().any(is_last)
}

impl World {
    /// Starts a process on a node's disk.
    pub(crate) fn start(&mut self, number: usize) -> Result<(), Violation> {
        let (seed, salt) = (self.boot_random.bits(), 0xa110_c8ed + u32::try_from(number).unwrap_or(0));
        let options = self.settings.engine_options(node_id(number), seed, salt);
        self.try_without_newest(number)?;
        let node = &mut self.nodes[number];
        let disk: Arc<dyn Disk> = Arc::new(node.disk.clone());
        // Only what is damaged is refused.
        let before = if node.rot.is_empty() { Untouched::default() } else { Untouched::of(&node.disk) };
        let segment_room = SegmentRoom::of(&node.disk);
        let durable = self.observer.views[number].durable;
        let newest = snapshot::list(&node.disk).ok().and_then(|mut stored| stored.pop());
        let Opened { mut engine, executor, reader, snapshot_executor, snapshot_index, report, damage, .. } =
            match Engine::open(&disk, options) {
                Ok(opened) => opened,
                Err(error) => {
                    // It may have begun to reset the log to a snapshot that is ahead of it.
                    if let Some(ahead) = newest.filter(|newest| position(newest.index) > durable) {
                        node.alone_up_to = ahead.index;
                    }
                    return self.did_not_start(number, &error, &before);
                }
            };
        engine.narrate(true);
        node.life += 1;
        let life = node.life;
        let fetches = damage.iter().any(|damage| matches!(damage.remedy, Remedy::Fetched { .. }));
        if is_alone(&damage, &engine) || position(snapshot_index) > durable {
            node.alone_up_to = snapshot_index;
        }
        let lacks_segment = segment_room.lacks_segment(&node.disk).unwrap_or(false);
        self.observer.started(number, &engine, fetches)?;
        self.observer.storage_full.started(number, lacks_segment);
        if !self.nodes[number].is_forged {
            self.observer.exactly_once.catch_up(engine.status().applied, &reader)?;
        }
        self.started_on_disk(number, &damage, newest.as_ref().map(|newest| newest.name.as_str()))?;
        self.trace.tell(
            self.now_us,
            Some(number),
            "start",
            format_args!("{} starts with {} entries", node_id(number), report.entries),
        );
        let node = &mut self.nodes[number];
        node.process = Some(Process {
            engine,
            background: executor.background(),
            executor,
            reader,
            jobs: BTreeMap::new(),
            jobs_begun: 0,
            owed: Vec::new(),
            snapshot_jobs: VecDeque::new(),
            snapshot_executor,
            owes_snapshot: false,
            asked: None,
            disposals: 0,
            ticks: 0,
            is_resetting: false,
            idle_ticks: 0,
        });
        self.forged_started(number);
        if self.nodes[number].full.is_some() {
            self.coverage.hit("started on a full disk");
        }
        let first_us = self.now_us + self.boot_random.below(self.settings.tick_us);
        self.queue.push(first_us, Event::Tick { node: number, life });
        self.drain(number)
    }

    /// A start came to an end.
    fn did_not_start(&mut self, number: usize, error: &EngineError, before: &Untouched) -> Result<(), Violation> {
        if self.is_expected(number, error) {
            self.coverage.hit(if is_full(error) { "disk full at start" } else { "crash during recovery" });
            self.stopped_by_disk(number, error)
        } else if self.nodes[number].is_rotten() {
            self.refused_to_start(number, error, before)
        } else {
            Err(Violation::CannotStart { node: node_id(number), reason: chain(error) })
        }
    }

    /// Carries out what a node's engine asks for, then looks at it.
    pub(crate) fn drain(&mut self, number: usize) -> Result<(), Violation> {
        self.observer.views[number].disk_fails = self.nodes[number].expects_disk_error;
        let Some(process) = &mut self.nodes[number].process else { return Ok(()) };
        let mut output = match process.engine.output() {
            Ok(output) => output,
            Err(error) => return self.stopped(number, &error),
        };
        let change = self.observer.acted(number, &process.engine)?;
        process.is_resetting &= self.observer.views[number].wal_pending_bytes > 0;
        self.note(number, &change);
        self.look_at_disk(number, &change)?;
        if self.is_last_step(number) {
            return self.crash_in_step(number, output);
        }
        for event in std::mem::take(&mut output.events) {
            self.narrated(number, event)?;
        }
        for message in std::mem::take(&mut output.messages) {
            self.observer.sent(number, &message)?;
            self.send(number, message);
        }
        for message in std::mem::take(&mut output.replica_messages) {
            self.send_replica(number, message);
        }
        for message in std::mem::take(&mut output.side_messages) {
            self.send_side(number, message);
        }
        self.ask_disk(number, &mut output)?;
        self.ask_snapshots(number, output.snapshot_work);
        for (ticket, answer) in output.answers {
            self.answered(number, ticket, answer)?;
        }
        Ok(())
    }

    /// Looks into what is on a node's disk when that is something else than before.
    fn look_at_disk(&mut self, number: usize, change: &Change) -> Result<(), Violation> {
        let view = &self.observer.views[number];
        if view.first > change.first && !change.started {
            self.coverage.hit("log cut");
        }
        let node = &self.nodes[number];
        // What has gone bad is known to be wrong.
        if !node.rot.is_empty() || node.is_forged {
            return Ok(());
        }
        let unreadable = view.disk_fails && view.snapshot < change.snapshot;
        if view.snapshot != change.snapshot && !unreadable {
            self.coverage.hit("snapshot taken or installed");
            self.observer.snapshot_changed(number, &node.disk)?;
        }
        // What is let go of is removed, or is a spare from then on.
        let disposals = node.disk.calls(Operation::Remove) + node.disk.calls(Operation::Rename);
        let Some(process) = &mut self.nodes[number].process else { return Ok(()) };
        let disposed = std::mem::replace(&mut process.disposals, disposals) != disposals;
        if disposed { self.try_image(number) } else { Ok(()) }
    }

    /// An engine returned an error: right if its disk was to fail, wrong otherwise.
    pub(crate) fn stopped(&mut self, number: usize, error: &EngineError) -> Result<(), Violation> {
        if matches!(error, EngineError::Diverged { .. }) && self.nodes[number].is_forged {
            self.coverage.hit("divergence found");
            self.trace.tell(self.now_us, Some(number), "forgery", format_args!("stops: {}", chain(error)));
            self.end_process(number, true);
            self.nodes[number].held_down = true;
            return Ok(());
        }
        // A disk that stays full is no reason to stop; one call that fails with this is any failure.
        let only_full = is_full(error) && !self.nodes[number].expects_disk_error;
        if only_full || !self.is_expected(number, error) {
            return Err(Violation::Stopped { node: node_id(number), reason: chain(error) });
        }
        self.coverage.hit(if is_full(error) { "disk full stopped a node" } else { "disk error stopped a node" });
        self.stopped_by_disk(number, error)
    }

    fn stopped_by_disk(&mut self, number: usize, error: &EngineError) -> Result<(), Violation> {
        self.trace.tell(self.now_us, Some(number), "disk", format_args!("stops: {}", chain(error)));
        let power_lost = self.disk_random.chance(500);
        self.end_process(number, power_lost);
        let delay_us = self.disk_random.between(RESTART_US);
        self.queue.push(self.now_us + delay_us, Event::Restart { node: number });
        Ok(())
    }

    /// Something that people are told.
    fn narrated(&mut self, number: usize, event: EngineEvent) -> Result<(), Violation> {
        match event {
            EngineEvent::Applied { index, term, what, command } => {
                self.trace.mix(&[number as u64, index.get(), term.get()]);
                self.trace.detail(self.now_us, Some(number), "applied", || format!("{index} of term {term}: {what:?}"));
                if self.observer.views[number].durable < position(index) {
                    self.coverage.hit("applied before its own disk had it");
                }
                self.nodes[number].dropped_bytes = 0;
                self.observer.applied(number, (index, term), what, command.as_deref())
            }
            EngineEvent::Raft(event) => {
                self.trace.tell(self.now_us, Some(number), "raft", format_args!("{}", words::event(&event)));
                match event {
                    RaftEvent::Truncated { bytes, .. } => self.nodes[number].dropped_bytes += bytes,
                    RaftEvent::BecameLeader { .. } if self.core.contains(&number) => self.leader_changes += 1,
                    RaftEvent::QuorumLost { .. } => self.coverage.hit("quorum lost"),
                    RaftEvent::DiskStalled { .. } if self.nodes[number].stalled.is_some() => {
                        self.coverage.hit("leader with a stalled disk stepped down");
                    }
                    RaftEvent::Installed { index } => {
                        self.coverage.hit("snapshot installed");
                        self.forged_replaced(number);
                        if self.observer.views[number].replaced_tail {
                            self.coverage.hit("snapshot installed over a tail that differs");
                        }
                        if let Some(process) = &mut self.nodes[number].process {
                            process.is_resetting = true;
                        }
                        self.nodes[number].alone_up_to = index;
                        self.observer.installed(number, index);
                    }
                    RaftEvent::Recovered { .. } => self.coverage.hit("recovery ended"),
                    RaftEvent::TransferStarted { .. } => self.coverage.hit("leadership transfer started"),
                    RaftEvent::Campaign { term } => {
                        let same_term =
                            |view: &crate::invariants::View| view.role == Role::Candidate && view.term == term;
                        if self.observer.views.iter().filter(|view| view.up && same_term(view)).count() > 1 {
                            self.coverage.hit("vote split");
                        }
                    }
                    _ => {}
                }
                Ok(())
            }
            EngineEvent::Appended { .. } | EngineEvent::Durable { .. } | EngineEvent::Committed { .. } => Ok(()),
        }
    }

    /// Counts rare states that the step led to.
    fn note(&mut self, number: usize, change: &Change) {
        let views = &self.observer.views;
        let view = &views[number];
        let taken_back = change.length - change.kept.min(change.length);
        if taken_back > 0 && !change.started {
            self.coverage.hit("truncation");
            if taken_back > 1 {
                self.coverage.hit("truncation of two or more entries");
            }
        }
        if view.role != Role::Leader {
            return;
        }
        if change.role != Role::Leader {
            let others = views.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, view)| view);
            if others.clone().any(|other| other.up && other.role == Role::Leader) {
                self.coverage.hit("election beside a stale leader");
            }
            if others.clone().any(|other| other.log.len() > view.log.len()) {
                self.coverage.hit("follower ahead of its leader");
            }
        }
        let voters = view.progress.iter().filter(|(peer, _)| node_number(*peer) < self.settings.voters);
        let mut matches: Vec<usize> = voters.map(|(_, peer)| position(peer.match_index)).collect();
        matches.push(view.durable);
        matches.sort_unstable();
        let on_majority = matches[(matches.len() - 1) / 2];
        if on_majority > view.committed {
            self.coverage.hit("older entry on a majority but not committed (Figure 8)");
        }
    }

    /// A node hands leadership over.
    pub(crate) fn transfer(&mut self, from: usize, to: usize) -> Result<(), Violation> {
        let Some(process) = &mut self.nodes[from].process else { return Ok(()) };
        self.coverage.hit("leadership transfer asked for");
        let result = process.engine.transfer_leadership(node_id(to));
        if to >= self.settings.voters && result.is_err() {
            self.coverage.hit("transfer to a learner refused");
        }
        self.trace.tell(self.now_us, Some(from), "transfer", format_args!("to {}: {result:?}", node_id(to)));
        self.drain(from)
    }

    /// How many voters take this node for the leader, in its term.
    pub(crate) fn followers_of(&self, leader: usize) -> usize {
        let term = self.observer.views[leader].term;
        let follows = |node: &&crate::node::Node| {
            node.process.as_ref().is_some_and(|process| {
                let raft = process.engine.raft();
                raft.current_term() == term && raft.leader().map(node_number) == Some(leader)
            })
        };
        self.nodes[..self.settings.voters].iter().filter(follows).count()
    }
}
