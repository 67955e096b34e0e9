//! Drives the engines as the server's shell does: starts them, carries out what they ask for, hands results back.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use engine::disk::Disk;
use engine::{Engine, EngineError, Event as EngineEvent, Opened};
use raft::{Event as RaftEvent, Role};

use crate::invariants::{Change, position};
use crate::jobs::is_full;
use crate::node::{Process, node_id, node_number};
use crate::queue::Event;
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

impl World {
    /// Starts a process on a node's disk.
    pub(crate) fn start(&mut self, number: usize) -> Result<(), Violation> {
        let (seed, salt) = (self.boot_random.bits(), 0xa110_c8ed + u32::try_from(number).unwrap_or(0));
        let options = self.settings.engine_options(node_id(number), seed, salt);
        let node = &mut self.nodes[number];
        let disk: Arc<dyn Disk> = Arc::new(node.disk.clone());
        let changes = node.disk.changes();
        let Opened { mut engine, executor, reader, report, .. } = match Engine::open(&disk, options) {
            Ok(opened) => opened,
            Err(error) if self.is_expected(number, &error) => {
                self.coverage.hit(if is_full(&error) { "disk full at start" } else { "crash during recovery" });
                return self.stopped_by_disk(number, &error);
            }
            Err(error) if self.nodes[number].is_rotten() => return self.refused_to_start(number, &error, changes),
            Err(error) => {
                return Err(Violation::CannotStart { node: node_id(number), reason: chain(&error) });
            }
        };
        engine.narrate(true);
        node.life += 1;
        let life = node.life;
        self.observer.started(number, &engine)?;
        self.started_on_disk(number)?;
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
            idle_ticks: 0,
        });
        let first_us = self.now_us + self.boot_random.below(self.settings.tick_us);
        self.queue.push(first_us, Event::Tick { node: number, life });
        self.drain(number)
    }

    /// Carries out what a node's engine asks for, then looks at it.
    pub(crate) fn drain(&mut self, number: usize) -> Result<(), Violation> {
        let Some(process) = &mut self.nodes[number].process else { return Ok(()) };
        let mut output = match process.engine.output() {
            Ok(output) => output,
            Err(error) => return self.stopped(number, &error),
        };
        let change = self.observer.acted(number, &process.engine)?;
        self.note(number, &change);
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
        self.ask_disk(number, &mut output)?;
        for (ticket, answer) in output.answers {
            self.answered(number, ticket, answer)?;
        }
        Ok(())
    }

    /// An engine returned an error: right if its disk was to fail, wrong otherwise.
    pub(crate) fn stopped(&mut self, number: usize, error: &EngineError) -> Result<(), Violation> {
        if !self.is_expected(number, error) {
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
            EngineEvent::Applied { index, term, what } => {
                self.trace.mix(&[number as u64, index.get(), term.get()]);
                self.trace.detail(self.now_us, Some(number), "applied", || format!("{index} of term {term}: {what:?}"));
                if self.observer.views[number].durable < position(index) {
                    self.coverage.hit("applied before its own disk had it");
                }
                self.observer.applied(number, (index, term), what)
            }
            EngineEvent::Raft(event) => {
                self.trace.tell(self.now_us, Some(number), "raft", format_args!("{}", words::event(&event)));
                match event {
                    RaftEvent::BecameLeader { .. } if self.core.contains(&number) => self.leader_changes += 1,
                    RaftEvent::QuorumLost { .. } => self.coverage.hit("quorum lost"),
                    RaftEvent::DiskStalled { .. } if self.nodes[number].stalled.is_some() => {
                        self.coverage.hit("leader with a stalled disk stepped down");
                    }
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
