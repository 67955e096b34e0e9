//! Every fault at every place, in logs of every kind: each bit, each byte, each length of each file, each sector in
//! every way that a disk has, and each subset of the sectors that were written last.

use std::fmt::Write as _;
use std::time::Instant;

use engine::wal::SEGMENT_BYTES_MIN;

use super::fault::Group;
use super::fault_log::write_section;
use super::specimen::{Kind, Specimen};
use super::trial::{Tally, Wrong, try_all};

/// Of how many faults one is looked into further (salvaged and cut if it is detected, otherwise started again), where
/// there is no time for all: that costs several times as much.
const SALVAGED_ONE_IN: u64 = 29;

/// The same in logs with fewer places.
fn salvaged_one_in(group: Group) -> u64 {
    if matches!(group, Group::Sectors | Group::LastSectors) { 3 } else { 13 }
}

/// Everything that makes a specimen worth its time.
fn assert_large(specimen: &Specimen, kind: &Kind) {
    let of_kind = |wanted: u8| specimen.records.iter().filter(|record| record.kind == wanted).count();
    let (records, starts) = (specimen.records.len(), of_kind(1));
    assert!(records >= 200 && starts >= 3, "{}: {records} records in {starts} segments", kind.name);
    let (truncations, votes) = (of_kind(3), of_kind(2));
    assert!(truncations >= 3 && votes >= 20, "{}: {truncations} truncations, {votes} votes", kind.name);
    assert!(specimen.files.len() > starts, "{}: there is a segment in reserve", kind.name);
}

/// Tries everything on one thread: the tests run beside each other.
fn try_everything(kind: &Kind) {
    let specimen = (kind.build)(7, SEGMENT_BYTES_MIN, 200);
    assert_large(&specimen, kind);
    let mut total = Tally::default();
    for group in Group::ALL {
        total.add(try_all(&specimen, group, 1, salvaged_one_in(group)));
    }
    total.assert_right();
    assert!(total.refused > 150_000 && total.cut > 3_000 && total.unchanged > 10_000, "{}: {total:?}", kind.name);
}

#[test]
fn everything_in_a_log_from_its_beginning() {
    try_everything(&Kind::ALL[0]);
}

#[test]
fn everything_in_a_log_with_resets() {
    try_everything(&Kind::ALL[1]);
}

#[test]
fn everything_in_a_log_whose_oldest_segments_were_removed() {
    try_everything(&Kind::ALL[2]);
}

#[test]
fn everything_in_a_log_that_was_repaired() {
    try_everything(&Kind::ALL[3]);
}

#[test]
fn everything_in_a_log_of_two_versions() {
    try_everything(&Kind::ALL[4]);
}

#[test]
fn everything_in_a_log_of_recycled_files() {
    try_everything(&Kind::ALL[5]);
}

/// Everything over logs of 64 KiB, `QUORATE_FAULTS_LOGS` of each kind.
#[test]
#[ignore = "all faults over larger logs, for minutes: cargo faults"]
fn all_faults_of_logs_at_length() {
    let logs: u64 = std::env::var("QUORATE_FAULTS_LOGS").map_or(1, |count| count.parse().unwrap());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    let mut text = String::from(HEAD);
    let mut total = Tally::default();
    for kind in &Kind::ALL {
        let mut of_kind = Tally::default();
        let mut by_group = [0; Group::ALL.len()];
        let (mut records, mut bytes) = (0, 0);
        for seed in 1..=logs {
            let specimen = (kind.build)(seed * 31, 4 * SEGMENT_BYTES_MIN, 200);
            assert_large(&specimen, kind);
            records += specimen.records.len();
            bytes += specimen.files.iter().map(|(_, contents)| contents.len()).sum::<usize>();
            for (group, faults) in Group::ALL.into_iter().zip(&mut by_group) {
                let tally = try_all(&specimen, group, threads, SALVAGED_ONE_IN);
                *faults += tally.faults;
                of_kind.add(tally);
            }
        }
        let _ = write!(text, "| {} | {logs} | {records} | {} ", kind.name, bytes >> 10);
        by_group.iter().for_each(|faults| write!(text, "| {faults} ").expect("a string takes everything"));
        text += &outcomes(&of_kind);
        total.add(of_kind);
        let (seconds, slowest) = (began.elapsed().as_secs(), total.slowest.as_micros());
        let all = format!("{} faults in {seconds} s on {threads} threads.", total.faults);
        write_section("Logs", &format!("{text}\n{all} The slowest start took {slowest} µs.\n"));
    }
    total.assert_right();
}

const HEAD: &str = "\
Each log has segments of 16 KiB and one in reserve, at least 200 records and 3 segments in use, truncations and votes,
and a last commit that nothing behind it proves durable. *Refused*: what was durable is damaged, the error names the
file and the byte, nothing was changed, and exactly what is before it was replayed; one in 29 was salvaged and cut there
as well. *Cut*: what nothing proves durable is damaged, and the log is exactly what is before it. *Unchanged*: no record
was hit, and the log is whole; of the last two one in 29 was started again. *Sectors* of 512 bytes and pages of 4 KiB,
each: zeroed, set, dropped, doubled, overwritten by and swapped with every other one of the log, rolled back to every
earlier state. *Last*: every subset of the last eight sectors lost, as zeros and as what was there before.

| log | logs | records | KiB | bits | bytes to 00 and FF | lengths | sectors | last | refused | cut | unchanged | \
panics | silent losses | otherwise wrong |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

fn outcomes(tally: &Tally) -> String {
    let wrong = |kind: fn(&Wrong) -> bool| tally.wrong.iter().filter(|(_, wrong)| kind(wrong)).count();
    let panics = wrong(|wrong| matches!(wrong, Wrong::Panic(_)));
    let losses = wrong(|wrong| matches!(wrong, Wrong::SilentLoss(_)));
    let others = wrong(|wrong| matches!(wrong, Wrong::Other(_)));
    format!("| {} | {} | {} | {panics} | {losses} | {others} |\n", tally.refused, tally.cut, tally.unchanged)
}
