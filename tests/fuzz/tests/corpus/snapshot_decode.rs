//! Snapshots: arbitrary ones, forged ones, and damaged real ones.

use fuzz::snapshot_decode::forge::{
    ANY_STARTS, BACK, CREATED, END, HASH, INDEX, KEYS, LAST_INDEX, LENGTHS, MODIFIED, REVISION, SECTION, SETTINGS,
    STARTS, TAG, VERSION, WRITES,
};
use fuzz::snapshot_decode::{APPEND, COPY, CUT, DAMAGED, DROP, FLIP, FORGED, RAW, RESEAL, SET, ZERO};

use super::Seed;
use super::bytes::{MAX, near, raw};

/// What the corpus has to reach.
pub(crate) const MARKS: &[&str] = &[
    "loaded",
    "sound",
    "with settings",
    "settings",
    "whole",
    "resealed",
    "damaged",
    "version",
    "reserved tag",
    "unknown section",
    "place",
    "header",
    "order",
    "count",
    "revisions",
    "hash",
    "record",
];

/// A key and value in which everything is right.
const RIGHT: &[u8] = &[0, 2, b'v', b'v'];

/// A file with so many fields that are not the right ones, a table of two term starts, and records.
fn forged(flags: u8, fields: &[&[u8]], records: &[&[u8]]) -> Vec<u8> {
    forged_with(flags, &[], &[1], fields, records)
}

/// The same, with fields in front of the table, and the table.
fn forged_with(flags: u8, early: &[u8], starts: &[u8], late: &[&[u8]], records: &[&[u8]]) -> Vec<u8> {
    let time_ms = 500_u64.to_le_bytes();
    let count = u8::try_from(records.len()).expect("few records");
    let is_about_starts = flags & STARTS != 0;
    let (named, state) = if is_about_starts { late.split_at(1) } else { late.split_at(0) };
    [&[FORGED, flags], &time_ms[..], early, starts, &named.concat(), &[count], &records.concat(), &state.concat()]
        .concat()
}

/// A file with settings, and one record.
fn with_settings(flags: u8, settings: u8, late: &[u8]) -> Vec<u8> {
    let time_ms = 500_u64.to_le_bytes();
    [&[FORGED, flags], &time_ms[..], &[1, SETTINGS | 1, settings], RIGHT, late].concat()
}

fn damaged(damages: &[&[u8]]) -> Vec<u8> {
    [vec![DAMAGED], damages.concat()].concat()
}

pub(crate) fn seeds() -> Vec<Seed> {
    let exactly = &[near(0, 0)][..];
    let more = &[near(0, 1)][..];
    let records: &[&[u8]] = &[RIGHT, RIGHT, RIGHT];
    let with = |record: &'static [u8]| forged(0, &[], &[RIGHT, record, RIGHT]);
    vec![
        ("nothing", Vec::new()),
        ("noise", [&[RAW], &[0x5a; 300][..]].concat()),
        ("magic_without_checksum", [&[RAW], &[0; 32][..], b"QUORSNAP\x01\0\0\0"].concat()),
        ("longest_chunk_claimed", [&[RAW, 0, 0, 0, 0, 0, 0, 0x80, 0], &[0; 100][..]].concat()),
        ("sound", forged(0, &[], records)),
        ("sound_without_keys", forged(0, &[], &[])),
        ("sound_in_sections", forged(0, &[], &[RIGHT, &[SECTION, 1, b'x'], &[SECTION, 0]])),
        ("version_unknown", forged_with(VERSION, &[2], &[1], &[], records)),
        ("index_of_another", forged_with(INDEX, &[99], &[1], &[], records)),
        ("terms_missing", forged(STARTS, &[more], records)),
        ("terms_without_end", forged(STARTS, &[&[MAX]], records)),
        ("terms_as_they_come", forged_with(0, &[], &[ANY_STARTS + 3, 1, 1, 2, 2, 2, 3], &[], records)),
        ("terms_that_may_be", forged_with(0, &[], &[ANY_STARTS + 2, 1, 1, 2, 2], &[], records)),
        ("end_of_other_chunks", forged(END, &[&[1], &[0], &[0]], records)),
        ("end_of_other_bytes", forged(END, &[&[0], &[MAX], &[0]], records)),
        ("end_of_another_file", forged(END, &[&[0], &[0], &[1]], records)),
        ("keys_missing", forged(KEYS, &[more], records)),
        ("keys_without_end", forged(KEYS, &[&[MAX]], records)),
        ("revision_zero", forged(REVISION, &[&[0]], records)),
        ("revision_max", forged(REVISION | LAST_INDEX, &[&[MAX], &[MAX]], records)),
        ("revision_too_small", forged(REVISION, &[&[3]], records)),
        ("last_index_max", forged(LAST_INDEX, &[&[MAX]], records)),
        ("hash_of_another", forged(HASH, &[&[1]], records)),
        ("nothing_wrong_after_all", forged(KEYS | REVISION, &[exactly, exactly], records)),
        ("key_twice", with(&[BACK, 0])),
        ("created_after_modified", with(&[CREATED, 0, 100])),
        ("modified_in_the_future", with(&[MODIFIED, 0, MAX])),
        ("never_written", with(&[WRITES, 0, 0])),
        ("lengths_out_of_bounds", with(&[LENGTHS, 0, MAX, MAX])),
        ("lengths_cut_off", with(&[LENGTHS, 0, 100, 100])),
        ("tag_reserved", with(&[TAG, 0, 4])),
        ("tag_unknown", with(&[TAG, 0, 22])),
        ("tag_of_settings_too_late", with(&[TAG, 0, 21])),
        ("settings", with_settings(0, 1, &[])),
        ("settings_as_in_the_beginning", with_settings(0, 0, &[])),
        ("settings_unknown", with_settings(0, 2, &[])),
        ("settings_without_a_command", with_settings(LAST_INDEX, 1, &[near(0, -1)])),
        ("tag_of_sessions_too_soon", with(&[TAG, 0, 19])),
        ("tag_of_results_too_soon", with(&[TAG, 0, 20])),
        ("tag_of_sessions_header_too_short", with(&[TAG, 0, 18])),
        ("tag_of_a_second_header", with(&[TAG, 0, 16])),
        ("tag_of_an_end", with(&[TAG, 0, 3])),
        ("raw_time", [&[FORGED, 0], &raw(u64::MAX)[1..], &[0, 0]].concat()),
        ("whole", damaged(&[])),
        ("flipped", damaged(&[&[FLIP, 90, 1, 3]])),
        ("cut", damaged(&[&[CUT, 0, 1]])),
        ("longer", damaged(&[&[APPEND, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]])),
        ("zeroed", damaged(&[&[ZERO, 64, 0]])),
        ("copied", damaged(&[&[COPY, 64, 0, 128, 0]])),
        ("dropped", damaged(&[&[DROP, 64, 0]])),
        ("resealed", damaged(&[&[RESEAL, 0, 0]])),
        ("value_changed_and_resealed", damaged(&[&[SET, 100, 1, b'w'], &[RESEAL, 0, 0]])),
        ("last_index_changed_and_resealed", damaged(&[&[SET, 192, 0, 60], &[RESEAL, 0, 0]])),
    ]
}
