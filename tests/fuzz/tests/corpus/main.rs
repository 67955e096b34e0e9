//! The corpus: every file passes, and every file is what this test says that it is.
//!
//! The files are made here, so that each says what it is for. `cargo test -p fuzz --test corpus -- --ignored` writes
//! them; inputs that were found elsewhere lie beside them, with names that begin with `found_`, and are left alone.

mod bytes;
#[cfg(feature = "rpc")]
mod client_rpc;
mod command;
mod peer_message;
#[cfg(feature = "rpc")]
mod peer_rpc;
mod snapshot_decode;
mod wal_decode;

use std::collections::BTreeSet;
use std::fs;

use fuzz::{Outcome, TARGETS, Target};

/// A file of the corpus: its name and what is in it.
type Seed = (&'static str, Vec<u8>);

/// What a corpus may take in the tree, in bytes.
const CORPUS_BYTES_MAX: usize = 40 << 10;

fn seeds(target: &Target) -> Vec<Seed> {
    match target.name {
        "peer_message" => peer_message::seeds(),
        "wal_decode" => wal_decode::seeds(),
        "snapshot_decode" => snapshot_decode::seeds(),
        "command" => command::seeds(),
        #[cfg(feature = "rpc")]
        "client_rpc" => client_rpc::seeds(),
        #[cfg(feature = "rpc")]
        "peer_rpc" => peer_rpc::seeds(),
        other => panic!("{other} has no seeds"),
    }
}

/// Runs a target's corpus. Returns what it reached as a whole.
fn pass(name: &str) -> Outcome {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let mut reached = Outcome::default();
    for (file, input) in fuzz::named_corpus(name) {
        match fuzz::attempt(target, &input) {
            Ok(outcome) => reached.merge(outcome),
            Err(finding) => panic!("{file}: {finding}"),
        }
    }
    reached
}

/// Asserts that a corpus reaches all of `marks`.
fn assert_reached(name: &str, marks: &[&'static str]) {
    let reached = pass(name).marks;
    let missing: BTreeSet<_> = marks.iter().filter(|mark| !reached.contains(*mark)).collect();
    assert!(missing.is_empty(), "the corpus of {name} does not reach {missing:?}, only {reached:?}");
}

#[test]
fn messages_reach_every_role_and_every_reason_to_refuse() {
    assert_reached("peer_message", peer_message::MARKS);
}

#[test]
fn segments_reach_every_outcome_of_recovery() {
    assert_reached("wal_decode", wal_decode::MARKS);
}

#[test]
fn snapshots_reach_every_reason_to_refuse() {
    assert_reached("snapshot_decode", snapshot_decode::MARKS);
}

#[test]
fn commands_reach_every_effect_and_every_reason_to_refuse() {
    assert_reached("command", command::MARKS);
}

#[cfg(feature = "rpc")]
#[test]
fn requests_reach_every_status() {
    assert_reached("client_rpc", client_rpc::MARKS);
}

#[cfg(feature = "rpc")]
#[test]
fn frames_reach_the_core_and_every_way_to_be_none() {
    assert_reached("peer_rpc", peer_rpc::MARKS);
}

#[test]
fn every_file_is_what_is_said_here() {
    for target in TARGETS {
        let files = fuzz::named_corpus(target.name);
        let made: Vec<_> = files.iter().filter(|(name, _)| !name.starts_with("found_")).collect();
        let mut seeds = seeds(target);
        seeds.sort();
        let names: Vec<_> = seeds.iter().map(|(name, _)| *name).collect();
        assert_eq!(made.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names, "{}", target.name);
        assert!(made.iter().zip(&seeds).all(|(file, seed)| file.1 == seed.1), "{} is out of date", target.name);
        let bytes: usize = files.iter().map(|(_, input)| input.len()).sum();
        assert!(bytes <= CORPUS_BYTES_MAX, "the corpus of {} has {bytes} bytes", target.name);
    }
}

#[test]
#[ignore = "writes the corpus: cargo test -p fuzz --test corpus -- --ignored"]
fn regenerate() {
    for target in TARGETS {
        let folder = fuzz::corpus_folder(target.name);
        fs::create_dir_all(&folder).expect("the source tree can be written");
        for (name, _) in fuzz::named_corpus(target.name).iter().filter(|(name, _)| !name.starts_with("found_")) {
            fs::remove_file(folder.join(name)).expect("the source tree can be written");
        }
        for (name, input) in seeds(target) {
            fs::write(folder.join(name), input).expect("the source tree can be written");
        }
    }
}
