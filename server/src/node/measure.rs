//! What the loop measures of its own turns.
//!
//! The engine has no clock and counts nothing for people, so all of it is told from outside: by how far the log is
//! before and after a turn, by the events, and by the work that goes out and comes back. A turn costs a reading of the
//! clock, and another one if it committed or applied something; what a turn did to many entries is counted at once.

use std::collections::VecDeque;
use std::time::Instant;

use engine::{Engine, EngineError, Event, Output};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use raft::{Event as RaftEvent, Message, NodeId, Raft, Role};

use super::chronicle::Chronicle;
use super::disk_threads::Done;
use super::elections::Elections;
use crate::telemetry::{Distribution, Metrics, Split, Stage, record_root};

/// Bounds of buckets, in seconds: from a sync of the fastest disk to the longest that a request waits.
const COMMIT_SECONDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0];

/// The same: from one small entry to all that one turn applies.
const APPLY_SECONDS: [f64; 12] =
    [0.000_01, 0.000_025, 0.000_05, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0];

/// The same: a snapshot of a small state takes milliseconds, one of gigabytes minutes.
const SNAPSHOT_SECONDS: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Bounds of buckets, in entries.
const BATCH_ENTRIES: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// How many turns with proposals may wait for a majority before later ones are taken together. At a thousand a second
/// that is four seconds without a commit.
const TURNS_FOLLOWED_MAX: usize = 4096;

/// Work of the disk that is under way, by what it is about.
#[derive(Clone, Copy)]
enum DiskWork {
    Log,
    Read,
    Snapshot,
}

const DISK_WORK: [&str; 3] = ["log", "read", "snapshot"];

/// Whose snapshot was of no use.
const ORIGINS: [&str; 2] = ["own", "peer"];

/// Measures the turns of a loop.
pub(super) struct Measure {
    commit_seconds: Distribution,
    apply_seconds: Distribution,
    batch_entries: Distribution,
    disk_work: Split<Gauge, 3>,
    snapshot_seconds: Distribution,
    snapshots_installed: Counter,
    snapshots_unusable: Split<Counter, 2>,
    elections: Elections,
    chronicle: Chronicle,
    proposals: Proposals,
    /// What was durable and what was applied after the last turn; none before the first, of which it is not known when
    /// that was done.
    done: Option<(u64, u64)>,
    /// When the snapshot was begun that is being taken, and which one was the newest then.
    taking: Option<(Instant, u64)>,
}

impl Measure {
    /// Measures for `metrics`, and tells `chronicle` what happens.
    pub(super) fn registered(metrics: &Metrics, chronicle: Chronicle) -> Self {
        metrics.register(|registry| Self::new(registry, chronicle))
    }

    fn new(registry: &mut Registry, chronicle: Chronicle) -> Self {
        let measure = Self {
            commit_seconds: Distribution::new(&COMMIT_SECONDS),
            apply_seconds: Distribution::new(&APPLY_SECONDS),
            batch_entries: Distribution::new(&BATCH_ENTRIES),
            disk_work: Split::new("work", DISK_WORK, Gauge::default),
            snapshot_seconds: Distribution::new(&SNAPSHOT_SECONDS),
            snapshots_installed: Counter::default(),
            snapshots_unusable: Split::new("origin", ORIGINS, Counter::default),
            elections: Elections::registered(registry),
            chronicle,
            proposals: Proposals::default(),
            done: None,
            taking: None,
        };
        let help = "How long entries took from being proposed on this node to being committed";
        registry.register("quorate_commit_duration_seconds", help, measure.commit_seconds.clone());
        let help = "How long the turns of the loop took to apply what was committed and to make the answers";
        registry.register("quorate_apply_duration_seconds", help, measure.apply_seconds.clone());
        let help = "How many entries the writes to the log had, each of which is synced once";
        registry.register("quorate_log_batch_entries", help, measure.batch_entries.clone());
        let help = "Pieces of work that the disk's threads have or that wait for them, by what they are about";
        registry.register("quorate_disk_work_pending", help, measure.disk_work.clone());
        let help = "How long it took to take a snapshot of this node's own state, its pauses included";
        registry.register("quorate_snapshot_duration_seconds", help, measure.snapshot_seconds.clone());
        let help = "Snapshots of peers that were taken over in place of the log and the state";
        registry.register("quorate_snapshots_installed", help, measure.snapshots_installed.clone());
        let help = "Snapshots that could not be used, this node's own and those of peers";
        registry.register("quorate_snapshots_unusable", help, measure.snapshots_unusable.clone());
        measure
    }

    /// A piece of the disk's work has come back.
    pub(super) fn done(&self, done: &Done) {
        match done {
            Done::Work(..) => self.work(DiskWork::Log).dec(),
            Done::Fetched(..) => self.work(DiskWork::Read).dec(),
            Done::Snapshot(_) => self.work(DiskWork::Snapshot).dec(),
            Done::FreeBytes(_) => return,
        };
    }

    /// Tells `engine` that the process of `peer` has ended, and remembers it for the election that may follow.
    pub(super) fn peer_gone(&mut self, engine: &mut Engine, peer: NodeId) {
        if engine.raft().role() == Role::Follower && engine.raft().leader() == Some(peer) {
            self.elections.leader_gone();
            self.chronicle.leader_gone(peer, engine.raft());
        }
        engine.peer_gone(peer);
    }

    /// A message leaves.
    pub(super) fn sending(&self, message: &Message) {
        self.chronicle.sending(message);
    }

    /// What `engine` wants done after a turn.
    pub(super) fn output(&mut self, engine: &mut Engine) -> Result<Output, EngineError> {
        let begun = Instant::now();
        let output = engine.output()?;
        self.note_log(engine.raft(), begun);
        for event in &output.events {
            if let Event::Raft(event) = event {
                self.elections.note(event);
                self.chronicle.tell(event, engine.raft());
                if matches!(event, RaftEvent::Installed { .. }) {
                    self.snapshots_installed.inc();
                }
            }
        }
        for unusable in &output.unusable_snapshots {
            self.snapshots_unusable.at(usize::from(unusable.from.is_some())).inc();
        }
        self.note_work(DiskWork::Log, output.work.len());
        self.note_work(DiskWork::Read, output.fetches.len());
        self.note_work(DiskWork::Snapshot, output.snapshot_work.len());
        self.note_taking(engine, begun);
        Ok(output)
    }

    fn note_log(&mut self, raft: &Raft, begun: Instant) {
        // There is one write at a time, and its end is told once, so what became durable since the last turn is what
        // it had. After a truncation there may be less than before.
        let now_done = (raft.durable_index().get(), raft.applied_index().get());
        let (durable_before, applied_before) = self.done.replace(now_done).unwrap_or(now_done);
        if now_done.0 > durable_before {
            self.batch_entries.observe(as_f64(now_done.0 - durable_before));
        }
        let has_applied = now_done.1 > applied_before;
        let committed = self.proposals.turn(Progress::of(raft), begun);
        if has_applied || committed > 0 {
            let now = Instant::now();
            if has_applied {
                self.apply_seconds.observe((now - begun).as_secs_f64());
            }
            self.proposals.take(committed, |proposed, count| {
                self.commit_seconds.observe_many((now - proposed).as_secs_f64(), count);
            });
        }
    }

    fn note_work(&self, what: DiskWork, count: usize) {
        if count > 0 {
            self.work(what).inc_by(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn note_taking(&mut self, engine: &Engine, now: Instant) {
        match self.taking {
            None if engine.is_taking_snapshot() => self.taking = Some((now, newest_snapshot(engine))),
            Some((begun, newest)) if !engine.is_taking_snapshot() => {
                // Where there was no room it ended without one.
                if newest_snapshot(engine) > newest {
                    self.snapshot_seconds.observe((now - begun).as_secs_f64());
                    let taken = Stage::new("snapshot.take", begun, now);
                    record_root(taken.with_number("raft.index", newest_snapshot(engine)));
                    self.chronicle.snapshot_taken(engine.newest_snapshot(), engine.raft());
                }
                self.taking = None;
            }
            None | Some(_) => {}
        }
    }

    fn work(&self, what: DiskWork) -> &Gauge {
        self.disk_work.at(what as usize)
    }
}

fn newest_snapshot(engine: &Engine) -> u64 {
    engine.newest_snapshot().get()
}

#[expect(clippy::cast_precision_loss, reason = "nothing here counts to 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// How far a log is, and whose it is to extend.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The term that this node leads.
    leads: Option<u64>,
    last_index: u64,
    commit_index: u64,
}

impl Progress {
    fn of(raft: &Raft) -> Self {
        Self {
            leads: raft.is_leader().then(|| raft.current_term().get()),
            last_index: raft.last_index().get(),
            commit_index: raft.commit_index().get(),
        }
    }
}

/// What a leader has proposed and not committed yet, by turn.
#[derive(Default, Debug)]
struct Proposals {
    leads: Option<u64>,
    /// The last entry of each turn that proposed some, and when that was.
    turns: VecDeque<(u64, Instant)>,
    /// The last entry that was proposed.
    proposed: u64,
    /// The last one of which it was told that it is committed, or that was there before.
    told: u64,
}

impl Proposals {
    /// A turn has proposed and committed what there is now more of. How many of the entries that are followed are
    /// committed: to be [taken](Self::take).
    fn turn(&mut self, progress: Progress, now: Instant) -> u64 {
        let Progress { leads, last_index, commit_index } = progress;
        if leads != self.leads {
            // What a new leader finds was proposed by others, or at a time that is not known.
            *self = Self { leads, turns: VecDeque::new(), proposed: last_index, told: last_index };
        }
        if leads.is_none() {
            return 0;
        }
        if last_index > self.proposed {
            self.proposed = last_index;
            let is_full = self.turns.len() >= TURNS_FOLLOWED_MAX;
            match self.turns.back_mut() {
                Some((index, _)) if is_full => *index = last_index,
                Some(_) | None => self.turns.push_back((last_index, now)),
            }
        }
        commit_index.saturating_sub(self.told)
    }

    /// Tells when those were proposed, and how many at a time.
    fn take(&mut self, count: u64, mut tell: impl FnMut(Instant, u64)) {
        let commit_index = self.told + count;
        while let Some(&(last_index, proposed)) = self.turns.front().filter(|_| self.told < commit_index) {
            let upto = last_index.min(commit_index);
            tell(proposed, upto - self.told);
            self.told = upto;
            if upto == last_index {
                self.turns.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEADS: Option<u64> = Some(7);

    fn turn(proposals: &mut Proposals, leads: Option<u64>, last_index: u64, commit_index: u64, at: Instant) -> Told {
        let mut told = Vec::new();
        let committed = proposals.turn(Progress { leads, last_index, commit_index }, at);
        proposals.take(committed, |proposed, count| told.push((proposed, count)));
        told
    }

    type Told = Vec<(Instant, u64)>;

    #[test]
    fn entries_are_told_with_the_turn_that_proposed_them() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut proposals = Proposals::default();
        assert_eq!(turn(&mut proposals, None, 9, 5, at(0)), [], "a follower proposes nothing");
        assert_eq!(turn(&mut proposals, LEADS, 10, 5, at(1)), [], "nor does a new leader know when");
        assert_eq!(turn(&mut proposals, LEADS, 13, 5, at(2)), []);
        assert_eq!(turn(&mut proposals, LEADS, 13, 10, at(3)), []);
        assert_eq!(turn(&mut proposals, LEADS, 15, 11, at(4)), [(at(2), 1)]);
        assert_eq!(turn(&mut proposals, LEADS, 15, 15, at(5)), [(at(2), 2), (at(4), 2)]);
        assert_eq!(turn(&mut proposals, LEADS, 16, 16, at(6)), [(at(6), 1)], "alone, and in one turn");
        assert_eq!(turn(&mut proposals, LEADS, 20, 16, at(7)), []);
        assert_eq!(turn(&mut proposals, Some(8), 20, 20, at(8)), [], "another term's are not this one's");
        assert!(proposals.turns.is_empty());
    }

    #[test]
    fn what_is_followed_is_bounded() {
        let now = Instant::now();
        let mut proposals = Proposals::default();
        turn(&mut proposals, LEADS, 0, 0, now);
        let last_index = 3 * TURNS_FOLLOWED_MAX as u64;
        for index in 1..=last_index {
            turn(&mut proposals, LEADS, index, 0, now);
        }
        assert_eq!(proposals.turns.len(), TURNS_FOLLOWED_MAX);
        let told = turn(&mut proposals, LEADS, last_index, last_index, now);
        assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), last_index);
    }
}
