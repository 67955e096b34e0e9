//! One run: a seed, its two phases, and the checker over what its clients were told.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::coverage::Coverage;
use crate::history;
use crate::liveness::Recovery;
use crate::plan::{self, Action};
use crate::settings::{Kind, Settings};
use crate::trace::Line;
use crate::violation::Violation;
use crate::world::World;

/// How long the first phase lasts if nothing else is asked for, in simulated seconds.
pub const FAULTS_SECONDS: u64 = 60;

/// How a seed is run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// How long the first phase lasts, in simulated seconds.
    pub faults_seconds: u64,
    /// Whether the story is kept.
    pub keeps_story: bool,
}

impl Default for RunOptions {
    /// A first phase of [`FAULTS_SECONDS`], without a story.
    fn default() -> RunOptions {
        RunOptions { faults_seconds: FAULTS_SECONDS, keeps_story: false }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first thing that was wrong, as people read it.
    pub violation: Option<String>,
    /// Its kind, for comparisons.
    pub violation_kind: Option<String>,
    /// When the run ended, in simulated microseconds.
    pub ended_us: u64,
    /// A hash over all that happened.
    pub trace_hash: u64,
    /// How many events there were.
    pub steps: u64,
    /// How many operations clients began.
    pub operations: u64,
    /// How many of them got a definite answer.
    pub acknowledged: u64,
    /// How many of those overlapped another one on the same key.
    pub overlapping: u64,
    /// How long the healed majority took to have a leader, in thousandths of an election timeout.
    pub leader_timeouts_per_mille: Option<u64>,
    /// How often a member of the healed majority became leader after it was healed; 0 if a leader was there and stayed.
    pub leader_changes_after_heal: Option<u64>,
    /// How many nodes the cluster had.
    pub size: usize,
    /// How many snapshots they took or installed.
    pub snapshots: u64,
    /// The story, if it was kept.
    pub story: Vec<Line>,
    pub(crate) coverage: Coverage,
}

/// Runs a seed to its end, or to the first thing that is wrong.
pub fn run(seed: u64, options: RunOptions) -> Outcome {
    run_with(seed, options, plan::draw(seed, options.faults_seconds * 1_000_000))
}

/// Runs a seed with only some of the actions of its plan, given by their numbers.
pub fn replay(seed: u64, options: RunOptions, only: &[usize]) -> Outcome {
    let plan = plan::draw(seed, options.faults_seconds * 1_000_000);
    let kept = plan.into_iter().enumerate().filter(|(number, _)| only.contains(number)).map(|(_, action)| action);
    run_with(seed, options, kept.collect())
}

/// The actions of a seed's plan, as people read them.
pub fn plan_of(seed: u64, options: RunOptions) -> Vec<String> {
    plan::draw(seed, options.faults_seconds * 1_000_000).iter().map(ToString::to_string).collect()
}

/// The first seed from `from` on that means a run in which keys are overwritten as fast as can be.
pub fn overwrites_seed(from: u64) -> u64 {
    (from..).find(|seed| Settings::draw(*seed).kind == Kind::Overwrites).expect("one of fifty is")
}

fn run_with(seed: u64, options: RunOptions, plan: Vec<Action>) -> Outcome {
    let faults_end_us = options.faults_seconds * 1_000_000;
    let mut world = match World::new(seed, plan, options.keeps_story) {
        Ok(world) => world,
        Err(violation) => return outcome_without_world(seed, &violation),
    };
    let result = catch_unwind(AssertUnwindSafe(|| phases(&mut world, seed, faults_end_us)))
        .unwrap_or_else(|panic| Err(Violation::Panic { message: message_of(panic.as_ref()) }));
    world.coverage.merge(&world.observer.exactly_once.coverage);
    let history = &world.clients.history;
    let result = result.and_then(|recovery| history::check(history).map(|()| recovery));
    Outcome {
        seed,
        violation: result.as_ref().err().map(ToString::to_string),
        violation_kind: result.as_ref().err().map(Violation::kind),
        ended_us: world.now_us,
        trace_hash: world.trace.digest(),
        steps: world.steps,
        operations: history.len() as u64,
        acknowledged: history.definite() as u64,
        overlapping: history.overlapping() as u64,
        leader_timeouts_per_mille: result
            .as_ref()
            .ok()
            .and_then(|recovery| Some(recovery.as_ref()?.leader_timeouts_per_mille)),
        leader_changes_after_heal: result.ok().and_then(|recovery| Some(recovery?.leader_changes)),
        size: world.nodes.len(),
        snapshots: world.coverage.count("snapshot taken or installed"),
        coverage: world.coverage,
        story: world.trace.into_lines(),
    }
}

fn phases(world: &mut World, seed: u64, faults_end_us: u64) -> Result<Option<Recovery>, Violation> {
    world.run_until(faults_end_us, &mut |_| false)?;
    if world.settings.kind == Kind::AllRot {
        return Ok(None);
    }
    world.recover(seed).map(Some)
}

fn outcome_without_world(seed: u64, violation: &Violation) -> Outcome {
    Outcome {
        seed,
        violation: Some(violation.to_string()),
        violation_kind: Some(violation.kind()),
        ended_us: 0,
        trace_hash: 0,
        steps: 0,
        operations: 0,
        acknowledged: 0,
        overlapping: 0,
        leader_timeouts_per_mille: None,
        leader_changes_after_heal: None,
        size: 0,
        snapshots: 0,
        story: Vec::new(),
        coverage: Coverage::default(),
    }
}

/// What a panic said.
fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "of an unknown kind".to_owned())
}
