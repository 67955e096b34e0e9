//! Many seeds, on several threads, added up.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::coverage::Coverage;
use crate::run::{Outcome, RunOptions, run};

/// What came of many runs.
#[derive(Clone, Default, Debug)]
pub struct Totals {
    /// How many seeds were run.
    pub seeds: u64,
    /// How long they lasted together, in simulated microseconds.
    pub simulated_us: u64,
    /// How many events they had.
    pub steps: u64,
    /// How many operations clients began.
    pub operations: u64,
    /// How many of them got a definite answer.
    pub acknowledged: u64,
    /// How many of those overlapped another one on the same key.
    pub overlapping: u64,
    /// Seeds in which hardly anything was acknowledged, or nothing overlapped.
    pub quiet: Vec<u64>,
    /// What went wrong: seeds, with why.
    pub failures: Vec<(u64, String)>,
    /// How long each healed majority took to have a leader, in thousandths of an election timeout, with its seed; in no
    /// order.
    pub leader_timeouts_per_mille: Vec<(u64, u64)>,
    /// How often a member of each healed majority became leader after it was healed, with its seed; in no order.
    pub leader_changes_after_heal: Vec<(u64, u64)>,
    coverage: Coverage,
}

/// A history with fewer acknowledged operations shows little.
const ACKNOWLEDGED_MIN: u64 = 20;

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated_us += outcome.ended_us;
        self.steps += outcome.steps;
        self.operations += outcome.operations;
        self.acknowledged += outcome.acknowledged;
        self.overlapping += outcome.overlapping;
        if outcome.acknowledged < ACKNOWLEDGED_MIN || outcome.overlapping == 0 {
            self.quiet.push(outcome.seed);
        }
        if let Some(violation) = &outcome.violation {
            self.failures.push((outcome.seed, violation.clone()));
        }
        let leader = outcome.leader_timeouts_per_mille.map(|timeouts| (timeouts, outcome.seed));
        self.leader_timeouts_per_mille.extend(leader);
        let changes = outcome.leader_changes_after_heal.map(|changes| (changes, outcome.seed));
        self.leader_changes_after_heal.extend(changes);
        self.coverage.merge(&outcome.coverage);
    }

    /// How often each fault fired and each rare state was reached, by name.
    pub fn coverage(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.coverage.counts()
    }

    /// What was reached too rarely for so many seeds: name, count, how many there should be.
    pub fn missing(&self) -> Vec<(&'static str, u64, u64)> {
        self.coverage.missing(self.seeds)
    }

    /// The time to a leader that so many of a thousand runs did not exceed, in thousandths of an election timeout, with
    /// the seed that took it.
    pub fn leader_timeouts(&self, of_a_thousand: usize) -> Option<(u64, u64)> {
        not_exceeded(&self.leader_timeouts_per_mille, of_a_thousand)
    }

    /// The leader changes after healing that so many of a thousand runs did not exceed, with the seed that had them.
    pub fn leader_changes(&self, of_a_thousand: usize) -> Option<(u64, u64)> {
        not_exceeded(&self.leader_changes_after_heal, of_a_thousand)
    }
}

/// What so many of a thousand measures do not exceed, with its seed.
fn not_exceeded(measures: &[(u64, u64)], of_a_thousand: usize) -> Option<(u64, u64)> {
    let mut sorted = measures.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * of_a_thousand).div_ceil(1000).saturating_sub(1);
    sorted.get(at).copied()
}

/// Runs seeds, in order, on so many threads, until all are done or `failures_max` have failed; when the last one is
/// told to stop, all seeds before the first failure have been run. `watch` is called after each run, on any of the
/// threads.
pub fn run_all(
    seeds: &[u64],
    threads: usize,
    failures_max: usize,
    options: RunOptions,
    watch: &(dyn Fn(&Totals) + Sync),
) -> Totals {
    let next = AtomicUsize::new(0);
    let enough = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let work = || {
        while !enough.load(Ordering::Relaxed) {
            let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            let outcome = run(seed, options);
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.add(&outcome);
            watch(&totals);
            if totals.failures.len() >= failures_max {
                enough.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.failures.sort();
    totals.quiet.sort_unstable();
    totals
}
