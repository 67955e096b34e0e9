//! What people read of runs.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::json;
use sim::{Outcome, Totals};

/// Of all runs, so many in a thousand may have a history that says little: a cluster without a majority for most of the
/// time is worth a run, but not every run.
const QUIET_PER_MILLE: u64 = 50;

/// How long a healed majority may take to have a leader, in thousandths of an election timeout, but for one in a
/// thousand.
const LEADER_TIMEOUTS_PER_MILLE: u64 = 3_000;

/// A healed majority without a leader gets one, and one that has a leader keeps it. A message of before that arrives
/// late may still depose the first one; more than two leaders were never seen.
const LEADER_CHANGES_MOST: u64 = 2;

/// Of all runs, so many in a thousand may have more than one leader change after healing, and so many more may have
/// them by chance: a thousand runs are few to judge such a share by.
const LEADER_CHANGES_PER_MILLE: u64 = 1;
const LEADER_CHANGES_CHANCE: u64 = 2;

const MICROSECONDS_PER_HOUR: f64 = 3.6e9;

/// A line on standard error that is overwritten by the next one.
pub(crate) fn progress(totals: &Totals, count: u64, elapsed: Duration) {
    // For people only: in a file, all of its lines would stay.
    if !io::stderr().is_terminal() {
        return;
    }
    let step = (count / 200).max(1);
    if !totals.seeds.is_multiple_of(step) && totals.seeds != count {
        return;
    }
    let per_second = totals.seeds as f64 / elapsed.as_secs_f64().max(0.001);
    let hours = totals.simulated_us as f64 / MICROSECONDS_PER_HOUR;
    let failed = totals.failures.len();
    eprint!("\r{}/{count} seeds, {per_second:.1} a second, {hours:.1} simulated hours, {failed} failed ", totals.seeds);
    if totals.seeds == count {
        eprintln!();
    }
}

/// What runs add up to.
pub(crate) fn totals(out: &mut dyn Write, totals: &Totals, elapsed: Duration) -> io::Result<()> {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let hours = totals.simulated_us as f64 / MICROSECONDS_PER_HOUR;
    writeln!(
        out,
        "{} seeds in {seconds:.1} s ({:.1} a second), {hours:.2} simulated hours ({:.2} a minute), {} events",
        totals.seeds,
        totals.seeds as f64 / seconds,
        hours * 60.0 / seconds,
        totals.steps
    )?;
    writeln!(
        out,
        "{} operations, {} with a definite answer, {} of them overlapping; {} quiet runs",
        totals.operations,
        totals.acknowledged,
        totals.overlapping,
        totals.quiet.len()
    )?;
    let at = |share| totals.leader_timeouts(share).map_or(0.0, |(timeouts, _)| timeouts as f64 / 1000.0);
    let slowest = totals.leader_timeouts(1000).map_or(0, |(_, seed)| seed);
    writeln!(
        out,
        "a leader after healing, in election timeouts: median {:.2}, p99 {:.2}, p99.9 {:.2}, most {:.2} (seed {slowest})",
        at(500),
        at(990),
        at(999),
        at(1000)
    )?;
    let changes = |share| totals.leader_changes(share).map_or(0, |(changes, _)| changes);
    let (most, fickle) = totals.leader_changes(1000).unwrap_or_default();
    writeln!(
        out,
        "leader changes after healing: median {}, p99 {}, p99.9 {}, most {most} (seed {fickle})",
        changes(500),
        changes(990),
        changes(999)
    )
}

/// How often what happened, and what came too rarely.
pub(crate) fn coverage(out: &mut dyn Write, totals: &Totals) -> io::Result<()> {
    for (name, count) in totals.coverage() {
        writeln!(out, "{count:>12}  {name}")?;
    }
    for (name, count, least) in totals.missing() {
        writeln!(out, "too rare: {name}: {count}, at least {least} are needed")?;
    }
    Ok(())
}

/// Whether majorities took too long to have a leader.
pub(crate) fn too_slow(totals: &Totals) -> bool {
    totals.leader_timeouts(999).is_some_and(|(timeouts, _)| timeouts > LEADER_TIMEOUTS_PER_MILLE)
}

/// Whether too many healed majorities had more than one leader.
pub(crate) fn too_fickle(totals: &Totals) -> bool {
    let changes = totals.leader_changes_after_heal.iter().map(|(changes, _)| *changes);
    let fickle = changes.clone().filter(|changes| *changes > 1).count() as u64;
    let fickle_max = totals.seeds * LEADER_CHANGES_PER_MILLE / 1000 + LEADER_CHANGES_CHANCE;
    changes.max().is_some_and(|most| most > LEADER_CHANGES_MOST) || fickle > fickle_max
}

/// Whether too many runs say too little.
pub(crate) fn too_quiet(totals: &Totals) -> bool {
    totals.quiet.len() as u64 * 1000 > totals.seeds * QUIET_PER_MILLE
}

/// What went wrong, and how to look at it.
pub(crate) fn failures(out: &mut dyn Write, totals: &Totals) -> io::Result<()> {
    for (seed, violation) in &totals.failures {
        writeln!(out, "seed {seed}: {violation}\n  cargo sim run --seed {seed} --trace")?;
    }
    Ok(())
}

/// The story of a run.
pub(crate) fn story(out: &mut dyn Write, outcome: &Outcome) -> io::Result<()> {
    for line in &outcome.story {
        let milliseconds = line.at_us as f64 / 1000.0;
        let who = line.node.map_or_else(|| "   ".to_owned(), |node| format!("n{node} "));
        writeln!(out, "{milliseconds:>12.3} {who}{:<9} {}", line.kind, line.text)?;
    }
    writeln!(
        out,
        "seed {} with {} nodes: {} events in {:.1} simulated seconds, {} operations, {} with a definite answer, \
         trace {:016x}",
        outcome.seed,
        outcome.size,
        outcome.steps,
        outcome.ended_us as f64 / 1e6,
        outcome.operations,
        outcome.acknowledged,
        outcome.trace_hash
    )
}

/// The story of a run as JSON, one object a line; the last one says how it ended.
pub(crate) fn json(out: &mut dyn Write, outcome: &Outcome) -> io::Result<()> {
    for line in &outcome.story {
        let node = line.node.map(|node| format!("n{node}"));
        writeln!(out, "{}", json!({"at_us": line.at_us, "node": node, "kind": line.kind, "text": line.text}))?;
    }
    let hash = format!("{:016x}", outcome.trace_hash);
    let end = json!({"kind": "end", "seed": outcome.seed, "violation": outcome.violation, "trace_hash": hash});
    writeln!(out, "{end}")
}
