//! Segments: arbitrary ones, forged ones, and damaged real ones.

use fuzz::wal_decode::damage::{
    COPY, DROP, FLIP, IN_FILE, LENGTH as SET_LENGTH, LOSE, PLANT, REPLACE, RESEAL, ROLL_ALL_BACK, ROLL_BACK, SET, SWAP,
    TRUNCATE as CUT, ZERO,
};
use fuzz::wal_decode::forge::{
    COMMAND, DURABLE, GAP, GIANT, HARD_STATE, LAST, LENGTH, MARK, NOOP, POSITION, PREVIOUS, RESET, SALTED, START,
    TRUNCATE, UNSEALED, VERSION_2,
};
use fuzz::wal_decode::{DAMAGED, FORGED, RAW};

use super::Seed;
use super::bytes::{MAX, near, raw};

/// What the corpus has to reach.
pub(crate) const MARKS: &[&str] = &[
    "fresh",
    "recovered",
    "cut",
    "segments",
    "sound",
    "reset",
    "begins later",
    "whole",
    "prefix",
    "corrupt",
    "version",
];

// The specimens.
const MARKED: u8 = 0;
const UNPROVEN: u8 = 4;
const REOPENED: u8 = 8;

/// A segment of 4 KiB.
const SMALL: u8 = 0;

/// One byte less.
const TOO_SMALL: u8 = 5;

/// The first record of a segment, in which everything is right.
const BEGIN: [u8; 3] = [0, START, 0];

/// Segments of records.
fn forged(segments: &[&[&[u8]]]) -> Vec<u8> {
    let count = u8::try_from(segments.len() - 1).expect("few segments");
    let segments = segments.iter().map(|records| [&[SMALL], records.concat().as_slice()].concat());
    [vec![FORGED, count], segments.collect::<Vec<_>>().concat()].concat()
}

fn one(records: &[&[u8]]) -> Vec<u8> {
    forged(&[&[&[&BEGIN[..]], records].concat()])
}

fn damaged(specimen: u8, damages: &[&[u8]]) -> Vec<u8> {
    [vec![DAMAGED + specimen], damages.concat()].concat()
}

pub(crate) fn seeds() -> Vec<Seed> {
    [raws(), forgeries(), damages()].concat()
}

fn raws() -> Vec<Seed> {
    let noise: Vec<u8> = (0..300_u32).map(|number| ((number * number) >> 3).to_le_bytes()[0]).collect();
    vec![
        ("nothing", Vec::new()),
        ("zeros", vec![RAW, 2, 0, 0, 0]),
        ("noise", [&[RAW, 1], &noise[..]].concat()),
        ("short_files", vec![RAW, 0x82, 1, 2, 3, 4, 5, 6]),
        ("magic_without_checksum", [&[RAW, 0], &[0; 32][..], b"QUORWAL\n"].concat()),
    ]
}

fn forgeries() -> Vec<Seed> {
    let life: [&[u8]; 8] = [
        &[0, HARD_STATE, 1, 2, 0],
        &[0, NOOP, 0],
        &[0, COMMAND, 0, 20],
        &[0, COMMAND, 0, 0],
        &[0, HARD_STATE, 1, 2, 1],
        &[0, TRUNCATE, 2],
        &[0, NOOP, 1, 7],
        &[LAST, MARK],
    ];
    let mut giant = one(&[&[LENGTH | LAST, COMMAND, 0, 8], &raw((8 << 20) + 8)]);
    giant[2] = GIANT;
    let mut largest = one(&[&[LENGTH | LAST, COMMAND, 0, 8], &raw(8 << 20)]);
    largest[2] = GIANT;
    vec![
        ("sound", one(&life)),
        ("sound_in_two_segments", forged(&[&[&BEGIN, &[LAST, NOOP, 0]], &[&BEGIN, &[LAST, COMMAND, 0, 9]]])),
        ("payload_too_large", giant),
        ("payload_as_large_as_can_be", largest),
        ("length_field_damaged", one(&[&[LENGTH, NOOP, 0, 255], &[LENGTH, COMMAND, 0, 9, MAX], &[LAST, MARK]])),
        ("length_without_term", one(&[&[LENGTH, NOOP, 0, 8], &[LAST, MARK]])),
        ("version_unknown", forged(&[&[&[LAST, START, 0xff, 3, 0, 0, 0, 0, 0, 0, 0]]])),
        ("size_lies", forged(&[&[&[LAST, START, 1, MAX]]])),
        ("size_zero", forged(&[&[&[0, START, 1, 0], &[LAST, NOOP, 0]]])),
        ("begins_elsewhere", forged(&[&[&[LAST, START, 2, 9]]])),
        ("begins_in_the_middle", one(&[&[0, NOOP, 0], &[LAST, START, 0]])),
        ("begins_with_an_entry", forged(&[&[&[LAST, NOOP, 0]]])),
        ("term_goes_back", one(&[&[0, HARD_STATE, 3, 1, 0], &[LAST, HARD_STATE, 2, 1, 0]])),
        ("second_vote", one(&[&[0, HARD_STATE, 3, 1, 0], &[LAST, HARD_STATE, 3, 2, 0]])),
        ("commit_ahead", one(&[&[LAST, HARD_STATE, 3, 1, 1]])),
        ("committed_taken_back", one(&[&[0, NOOP, 0], &[0, HARD_STATE, 1, 0, 1], &[LAST, TRUNCATE, 0]])),
        ("taken_back_ahead", one(&[&[LAST, TRUNCATE, MAX]])),
        ("index_gap", one(&[&[0, NOOP, 0], &[LAST, NOOP, 2, 3]])),
        ("numbers_max", one(&[&[0, NOOP, 1, MAX], &[0, HARD_STATE, MAX, MAX, 1], &[LAST, NOOP, 0]])),
        ("kind_unknown", one(&[&[LAST, 0, 4, 1, 2, 3, 4]])),
        ("chain_broken", one(&[&[0, NOOP, 0], &[PREVIOUS | LAST, NOOP, 0, 9]])),
        ("position_of_another", one(&[&[POSITION | LAST, NOOP, 0, near(0, 1)]])),
        ("durable_ahead", one(&[&[DURABLE, NOOP, 0, MAX], &[LAST, MARK]])),
        ("hole_before_proof", one(&[&[UNSEALED, NOOP, 0], &[LAST, MARK]])),
        ("hole_before_no_proof", one(&[&[UNSEALED, NOOP, 0], &[DURABLE | LAST, MARK, near(1, 0)]])),
        // The second file is one byte too short for a segment, and recovery need not look at it yet.
        (
            "short_file_behind_an_unused_one",
            vec![FORGED, 1, SMALL, UNSEALED | LAST, MARK, TOO_SMALL, UNSEALED | LAST, MARK],
        ),
        ("reset", forged(&[&[&[0, START, VERSION_2], &[0, RESET, 9, 0], &[LAST, NOOP, 0]]])),
        ("reset_goes_back", forged(&[&[&[0, START, VERSION_2], &[0, RESET, 9, 0], &[LAST, RESET, 3, 0]]])),
        ("repair_goes_back", forged(&[&[&[0, START, VERSION_2], &[0, RESET, 9, 0], &[LAST, RESET, 3, 1]]])),
        ("reset_to_the_last_index", forged(&[&[&[0, START, VERSION_2], &[LAST, RESET, MAX, 1]]])),
        ("reset_in_version_1", one(&[&[LAST, RESET, 9, 0]])),
        ("begins_later", vec![FORGED, 0x40, SMALL, 0, START, VERSION_2 | 2 | 4, 9, 3, LAST, NOOP, 0]),
        ("begins_later_with_nothing", vec![FORGED, 0x40, SMALL, LAST, MARK]),
        ("gap_before_proof", one(&[&[GAP | LAST, NOOP, 0]])),
        ("salt_of_another", one(&[&[SALTED | LAST, NOOP, 0]])),
    ]
}

fn damages() -> Vec<Seed> {
    vec![
        ("unharmed", damaged(MARKED, &[])),
        ("unharmed_and_reopened", damaged(REOPENED, &[])),
        ("bit_of_a_durable_record", damaged(MARKED, &[&[FLIP, 5, 9, 3]])),
        ("bit_of_the_last_record", damaged(UNPROVEN, &[&[FLIP, 0xbf, 40, 1], &[ZERO, IN_FILE + 2, 0, 4, 255]])),
        ("bit_of_the_first_record", damaged(UNPROVEN, &[&[FLIP, 0, 0, 0]])),
        ("byte_behind_the_end", damaged(MARKED, &[&[SET, IN_FILE, 255, 15, 7]])),
        ("sectors_swapped", damaged(REOPENED, &[&[SWAP, 1, 9]])),
        ("sector_copied", damaged(REOPENED, &[&[COPY, 3, 4]])),
        ("sector_rolled_back", damaged(UNPROVEN, &[&[ROLL_BACK, 2, 1]])),
        ("disk_rolled_back", damaged(UNPROVEN, &[&[ROLL_ALL_BACK, 0, 1]])),
        ("sector_never_written", damaged(UNPROVEN, &[&[DROP, 18]])),
        ("record_over_another", damaged(MARKED, &[&[REPLACE, 4, 6]])),
        ("record_length_max", damaged(MARKED, &[&[SET_LENGTH, 4, MAX]])),
        ("record_length_resealed", damaged(MARKED, &[&[SET_LENGTH, 4, 0], &[RESEAL, 4]])),
        ("entry_resealed", damaged(UNPROVEN, &[&[SET, 3, 44, 9], &[RESEAL, 3]])),
        ("file_cut", damaged(UNPROVEN, &[&[CUT, 9, 7]])),
        ("first_file_lost", damaged(UNPROVEN, &[&[LOSE, 0]])),
        ("last_file_lost", damaged(UNPROVEN, &[&[LOSE, 2]])),
        ("recycled_file", damaged(UNPROVEN, &[&[PLANT, 0, 0]])),
        ("file_of_the_future", damaged(UNPROVEN, &[&[PLANT, 2, 1]])),
    ]
}
