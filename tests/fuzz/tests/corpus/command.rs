//! Commands of every kind, effect and damage.

use fuzz::command::{CONFIGURES, DAMAGED, LARGE, RESIZED, SETTLES, VERBATIM, WITH_ID};

use super::Seed;
use super::bytes::{MAX, near};

/// What the corpus has to reach: all effects, and all reasons to refuse.
pub(crate) const MARKS: &[&str] = &[
    "created",
    "updated",
    "deleted",
    "deleted_and_returned",
    "key_exists",
    "key_not_found",
    "revision_mismatch",
    "session_expired",
    "opened_ahead",
    "request_id_reused",
    "fenced",
    "result_forgotten",
    "session_full",
    "settled",
    "never_applied",
    "forgotten",
    "version",
    "operation",
    "mode",
    "flags",
    "truncated",
    "key_length",
    "value_length",
    "trailing_bytes",
    "detail",
    "sequence_zero",
    "acknowledged_ahead",
    "nothing_to_settle",
    "switched_on",
    "switched_off",
    "setting",
];

const BUILT: u8 = 0;

// The operations, with their details.
const CREATE: u8 = 0;
const UPSERT: u8 = 1;
const UPDATE: u8 = 2;
const COMPARE: u8 = 3;
const DELETE: u8 = 4;
const DELETE_EXPECTED: u8 = 5;
const DELETE_RETURNING: u8 = 6;
const SWITCH_OFF: u8 = CONFIGURES;
const SWITCH_ON: u8 = CONFIGURES | 1;

// Where the fields of a put lie.
const VERSION_AT: u8 = 0;
const OPERATION_AT: u8 = 1;
const DETAIL_AT: u8 = 2;
const KEY_LENGTH_AT: u8 = 11;
const VALUE_LENGTH_AT: u8 = 13;

/// A put of one byte under key `a`, with a revision that only a compare has.
fn put(kind: u8, expected: u8) -> [u8; 5] {
    [kind, 1, 0, expected, 1]
}

fn delete(kind: u8, expected: u8) -> [u8; 4] {
    [kind, 1, 0, expected]
}

/// A put of one byte under key `a` at a time below 128 ms, in a session that was opened at the beginning.
fn named_put(kind: u8, time_ms: u8, session: u8, [sequence, acknowledged]: [u8; 2]) -> Vec<u8> {
    // The key and the revision are read before the name, the value behind it.
    [BUILT, WITH_ID | kind, time_ms, 0, 0, session, sequence, 0, acknowledged, 1].to_vec()
}

fn settled(time_ms: u8, session: u8, [sequence, acknowledged]: [u8; 2]) -> Vec<u8> {
    [BUILT, WITH_ID | SETTLES, time_ms, 0, 0, session, sequence, 0, acknowledged].to_vec()
}

/// A change of a setting at a time below 128 ms, in a session that was opened at the beginning.
fn named_switch(kind: u8, time_ms: u8, session: u8, [sequence, acknowledged]: [u8; 2]) -> Vec<u8> {
    [BUILT, WITH_ID | kind, time_ms, 0, 0, session, sequence, 0, acknowledged].to_vec()
}

fn built(command: &[u8]) -> Vec<u8> {
    [&[BUILT], command].concat()
}

/// A put with a byte of it replaced.
fn damaged(at: u8, byte: u8) -> Vec<u8> {
    [&[DAMAGED], &put(CREATE, 0)[..], &[1, at, byte]].concat()
}

fn resized(change: i16) -> Vec<u8> {
    [&[RESIZED], &put(CREATE, 0)[..], &change.to_le_bytes()].concat()
}

/// The corpus.
pub(crate) fn seeds() -> Vec<Seed> {
    [usual(), named()].concat()
}

/// Requests with names, and what there is to settle.
fn named() -> Vec<Seed> {
    vec![
        (
            "repeats",
            [
                named_put(CREATE, 1, 1, [1, 0]),
                named_put(CREATE, 2, 1, [1, 0]),
                named_put(UPSERT, 2, 1, [1, 0]),
                named_put(CREATE, 2, 1, [2, 0]),
                named_put(CREATE, 2, 1, [2, 2]),
                named_put(CREATE, 2, 1, [1, 0]),
                settled(2, 1, [1, 0]),
                settled(2, 1, [2, 0]),
                settled(2, 1, [3, 0]),
                named_put(UPSERT, 2, 1, [3, 0]),
                settled(3, 1, [3, 3]),
            ]
            .concat(),
        ),
        (
            "sessions_come_and_go",
            [
                (0..6).flat_map(|session| named_put(UPSERT, 3, session, [1, 0])).collect::<Vec<u8>>(),
                named_put(UPSERT, 3, 0, [1, 0]),
                // Two and some seconds later, near an anchor: all are idle.
                named_put(UPSERT, near(2, 4), 4, [2, 0]),
                named_put(UPSERT, near(3, 0), 4, [3, 0]),
            ]
            .concat(),
        ),
        (
            "settings_repeated",
            [
                named_switch(SWITCH_ON, 1, 1, [1, 0]),
                named_switch(SWITCH_OFF, 2, 2, [1, 0]),
                named_switch(SWITCH_ON, 2, 1, [1, 0]),
                named_switch(SWITCH_OFF, 2, 1, [1, 0]),
                named_put(CREATE, 2, 1, [1, 0]),
                settled(2, 1, [1, 0]),
                settled(2, 3, [1, 0]),
                named_switch(SWITCH_ON, 2, 3, [1, 0]),
                named_switch(SWITCH_ON, 2, 1, [2, 2]),
                named_switch(SWITCH_ON, 2, 1, [1, 0]),
            ]
            .concat(),
        ),
        ("session_full", (1..8).flat_map(|sequence| named_put(UPSERT, 1, 1, [sequence, 0])).collect()),
        ("opened_ahead", [BUILT, WITH_ID | UPSERT, 1, 0, 0, 1, 1, 2, 0, 1].to_vec()),
        (
            "malformed_names",
            [
                named_put(CREATE, 1, 1, [0, 0]),
                named_put(CREATE, 1, 1, [1, 2]),
                named_put(CREATE, 1, 1, [1, MAX]),
                [BUILT, SETTLES, 1, 0, 0].to_vec(),
                [BUILT, WITH_ID | SETTLES | 1, 1, 0, 0, 1, 1, 0, 0].to_vec(),
            ]
            .concat(),
        ),
    ]
}

fn usual() -> Vec<Seed> {
    let life = [
        built(&put(CREATE, 0)),
        built(&put(CREATE, 0)),
        built(&put(UPSERT, 0)),
        built(&put(UPDATE, 0)),
        built(&put(COMPARE, near(0, 0))),
        built(&put(COMPARE, near(0, 1))),
        built(&delete(DELETE_EXPECTED, MAX)),
        built(&delete(DELETE_RETURNING, 0)),
        built(&delete(DELETE, 0)),
        built(&put(UPDATE, 0)),
        built(&put(UPSERT, 0)),
        built(&delete(DELETE, 0)),
    ];
    let times = [MAX, 0, near(0, 0)].map(|time| [BUILT, UPSERT, time, 0, 0, 3]);
    let keys = [0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6].map(|key| [BUILT, CREATE, 1, key, 0, 1]);
    let values = [0, 2, 1].map(|value| [BUILT, UPSERT, 1, 0, 0, LARGE + value]);
    let shared = [3, 4].map(|value| [BUILT, UPSERT, 1, 0xe2, 0, LARGE + value]);
    vec![
        ("empty", Vec::new()),
        ("life_of_a_key", life.concat()),
        ("time_max", times.concat()),
        ("keys_at_the_limits", keys.concat()),
        ("values_at_the_limits", values.concat()),
        ("key_shared_and_copied", shared.concat()),
        (
            "revision_zero",
            [built(&put(UPSERT, 0)), built(&put(COMPARE, 0)), built(&delete(DELETE_EXPECTED, 0))].concat(),
        ),
        ("unknown_version", [damaged(VERSION_AT, 0), damaged(VERSION_AT, 2), damaged(VERSION_AT, 255)].concat()),
        ("unknown_operation", [damaged(OPERATION_AT, 0), damaged(OPERATION_AT, 3)].concat()),
        ("unknown_mode", [damaged(DETAIL_AT, 4), damaged(DETAIL_AT, 255)].concat()),
        ("unknown_flags", [&[DAMAGED], &delete(DELETE, 0)[..], &[1, DETAIL_AT, 4]].concat()),
        ("settings", [SWITCH_ON, SWITCH_ON, SWITCH_OFF, SWITCH_ON].map(|kind| [BUILT, kind, 1, 0, 0]).concat()),
        ("unknown_setting", [2, 3].map(|setting| [BUILT, CONFIGURES | setting, 1, 0, 0]).concat()),
        (
            "length_field_damaged",
            [damaged(KEY_LENGTH_AT, 0), damaged(KEY_LENGTH_AT, 2), damaged(KEY_LENGTH_AT + 1, 255)].concat(),
        ),
        (
            "value_length_damaged",
            [damaged(VALUE_LENGTH_AT, 2), damaged(VALUE_LENGTH_AT + 3, 255), damaged(VALUE_LENGTH_AT + 2, 16)].concat(),
        ),
        ("cut_off", [-1, -2, -6, -8, -17, -18, -19].map(resized).concat()),
        ("goes_on", [1, 2, 300].map(resized).concat()),
        ("as_it_stands", [&[VERBATIM, 19, 0, 1, 1, 0], &[0; 8][..], &[1, 0, 1, 0, 0, 0, b'k', b'v']].concat()),
    ]
}
