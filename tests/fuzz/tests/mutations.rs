//! Mutations of the corpus, always the same: no finding, and deep enough for that to mean something.

use fuzz::mutation::Random;
use fuzz::{Outcome, TARGETS, Target, derive, hunt};

/// Runs so many inputs made of a target's corpus. Returns what they reached.
fn run(name: &str, runs: u64) -> Outcome {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let corpus = fuzz::corpus(name);
    assert!(corpus.len() >= 8, "the corpus of {name} is missing");
    let (mut random, mut reached) = (Random::new(1), Outcome::default());
    for number in 0..runs {
        match fuzz::attempt(target, &derive(&mut random, &corpus, number)) {
            Ok(outcome) => reached.merge(outcome),
            Err(finding) => panic!("run {number}: {finding}"),
        }
    }
    reached
}

/// Asserts how many parts had an effect, how many were refused, and how much of different kinds was seen.
fn assert_deep(reached: &Outcome, accepted: u64, refused: u64, marks: usize) {
    let deep = reached.accepted >= accepted && reached.refused >= refused && reached.marks.len() >= marks;
    assert!(deep, "{} accepted, {} refused, {} kinds", reached.accepted, reached.refused, reached.marks.len());
}

#[test]
fn messages() {
    assert_deep(&run("peer_message", 40_000), 15_000, 40_000, 33);
}

#[test]
fn segments() {
    assert_deep(&run("wal_decode", 1_200), 300, 300, 8);
}

#[test]
fn snapshots() {
    assert_deep(&run("snapshot_decode", 4_000), 500, 1_000, 10);
}

#[test]
fn commands() {
    assert_deep(&run("command", 20_000), 40_000, 20_000, 15);
}

#[cfg(feature = "rpc")]
#[test]
fn requests() {
    assert_deep(&run("client_rpc", 3_000), 2_000, 2_000, 12);
}

#[cfg(feature = "rpc")]
#[test]
fn frames() {
    assert_deep(&run("peer_rpc", 30_000), 7_000, 30_000, 30);
}

#[test]
fn a_hunt_reports_what_it_finds_and_is_always_the_same() {
    let target = Target {
        name: "four",
        run: |input| {
            assert!(input.len() != 4, "an input of four bytes");
            Outcome::default()
        },
    };
    let corpus = [vec![0; 3]];
    let finding = hunt(&target, &corpus, 1_000, 1).expect_err("a byte is soon inserted");
    assert!(finding.starts_with("four: an input of four bytes on input "), "{finding}");
    assert_eq!(hunt(&target, &corpus, 1_000, 1), Err(finding), "the same seed makes the same inputs");
    assert_eq!(hunt(&target, &corpus, 0, 1), Ok(1));
}
