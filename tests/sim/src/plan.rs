//! Which faults a run has, and when: drawn before it begins, so that a plan can be looked at and made smaller.
//!
//! An action carries a seed of its own for what it still has to draw (whom it hits, for how long), so that leaving one
//! out does not change the others.

use std::fmt;

use crate::partition::PartitionKind;
use crate::random::Random;
use crate::rot::RotKind;
use crate::settings::{Kind, Settings};

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    /// Links are cut for a while.
    Partition(PartitionKind),
    /// Links are cut and mended again and again.
    Flapping(PartitionKind),
    /// More messages are lost for a while.
    LossBurst,
    /// Messages take much longer for a while.
    DelayBurst,
    /// The leader's machine loses its power.
    CrashLeader,
    /// The machine of another node loses its power.
    CrashFollower,
    /// Fewer than half lose their power together.
    CrashMinority,
    /// All lose their power together.
    CrashAll,
    /// A process dies; what it wrote is still there.
    Kill,
    /// A node's power fails soon, between what a step decided and what of it would have left.
    CrashInStep,
    /// A node's power fails soon, while it works on a snapshot.
    CrashInSnapshot,
    /// A process stands still.
    Pause,
    /// The leader's process stands still.
    PauseLeader,
    /// A disk stands still.
    StallDisk,
    /// A node's power fails, and what its disk had synced goes bad.
    Rot(RotKind),
    /// A node's state is changed behind its back.
    Forge,
    /// A call to the disk will fail.
    DiskError,
    /// A disk is full.
    DiskFull,
    /// A clock gets faster or slower.
    ClockRate,
    /// A clock jumps.
    ClockJump,
    /// The leader is asked to hand over.
    Transfer,
    /// A node is told that its leader's process has ended, and it has not.
    FalseEnd,
}

/// A fault at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Action {
    /// Since the run began.
    pub(crate) at_us: u64,
    pub(crate) fault: Fault,
    /// For what is still to be drawn.
    pub(crate) seed: u64,
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:>10.3} ms {:?}", self.at_us as f64 / 1000.0, self.fault)
    }
}

/// How often a forgery is tried, in microseconds.
const FORGERY_EVERY_US: u64 = 3_000_000;

/// The faults other than partitions.
const OTHERS: [Fault; 17] = [
    Fault::LossBurst,
    Fault::DelayBurst,
    Fault::CrashLeader,
    Fault::CrashFollower,
    Fault::CrashMinority,
    Fault::CrashAll,
    Fault::Kill,
    Fault::CrashInStep,
    Fault::CrashInSnapshot,
    Fault::Pause,
    Fault::PauseLeader,
    Fault::StallDisk,
    Fault::DiskError,
    Fault::DiskFull,
    Fault::ClockRate,
    Fault::ClockJump,
    Fault::Transfer,
];

/// The faults of a seed, in order, until `end_us`.
pub(crate) fn draw(seed: u64, end_us: u64) -> Vec<Action> {
    let mut random = Random::for_purpose(seed, "plan");
    let kind = Settings::draw(seed).kind;
    if kind == Kind::Forgery {
        return draw_forgeries(end_us, &mut random);
    }
    let mut kinds: Vec<Fault> = OTHERS.into_iter().filter(|_| random.chance(400)).collect();
    if random.chance(700) {
        let shapes: Vec<PartitionKind> = PartitionKind::ALL.into_iter().filter(|_| random.chance(350)).collect();
        kinds.extend(shapes.iter().map(|kind| Fault::Partition(*kind)));
        kinds.extend(shapes.iter().filter(|_| random.chance(300)).map(|kind| Fault::Flapping(*kind)));
    }
    let all_rot = kind == Kind::AllRot;
    kinds.extend(RotKind::ALL.into_iter().filter(|kind| random.chance(kind.runs()) || all_rot).map(Fault::Rot));
    if kinds.is_empty() {
        return Vec::new();
    }
    let gap_us = random.pick(&[500_000, 2_000_000, 5_000_000]);
    // Who is down writes nothing.
    let gap_us = if kind == Kind::Overwrites { 5_000_000 } else { gap_us };
    let mut actions = Vec::new();
    // The first leader gets some time.
    let mut at_us = 2_000_000 + random.below(gap_us);
    while at_us < end_us {
        actions.push(Action { at_us, fault: random.pick(&kinds), seed: random.bits() });
        at_us += random.between((gap_us / 10, 2 * gap_us));
    }
    actions.extend(draw_false_ends(seed, end_us));
    actions.sort_by_key(|action| action.at_us);
    actions
}

/// How many of a thousand runs hear of ends that are none, and how often, in microseconds.
const FALSE_END_RUNS: u64 = 300;
const FALSE_END_EVERY_US: (u64, u64) = (100_000, 8_000_000);

fn draw_false_ends(seed: u64, end_us: u64) -> Vec<Action> {
    let mut random = Random::for_purpose(seed, "false ends");
    let mut actions = Vec::new();
    let mut at_us = if random.chance(FALSE_END_RUNS) { 2_000_000 } else { end_us };
    while at_us < end_us {
        actions.push(Action { at_us, fault: Fault::FalseEnd, seed: random.bits() });
        at_us += random.between(FALSE_END_EVERY_US);
    }
    actions
}

/// One forgery, tried until there is something to forge, and nothing else: that it is found is all that is asked.
fn draw_forgeries(end_us: u64, random: &mut Random) -> Vec<Action> {
    let times = (1..).map(|number| number * FORGERY_EVERY_US).take_while(|at_us| *at_us < end_us);
    times.map(|at_us| Action { at_us, fault: Fault::Forge, seed: random.bits() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_differ_and_stay_in_time() {
        let plans: Vec<Vec<Action>> = (0..200).map(|seed| draw(seed, 60_000_000)).collect();
        assert_eq!(plans[7], draw(7, 60_000_000));
        let all: std::collections::BTreeSet<Fault> = plans.iter().flatten().map(|action| action.fault).collect();
        assert_eq!(
            all.len(),
            OTHERS.len() + RotKind::ALL.len() + 2 * PartitionKind::ALL.len() + ["Forge", "FalseEnd"].len(),
            "every fault is in some plan"
        );
        assert!(plans.iter().any(Vec::is_empty) || plans.iter().any(|plan| plan.len() < 15));
        assert!(plans.iter().flatten().all(|action| action.at_us < 60_000_000));
    }
}
