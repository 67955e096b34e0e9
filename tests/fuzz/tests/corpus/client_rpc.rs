//! Requests of clients, other nodes and operators: valid ones, wrong ones, and bytes that are none.

use fuzz::client_rpc::{
    ADMIN_STATUS, BUILT, DAMAGED, DELETE, FORWARD, FRAMED, GET, GET_OUTCOME, LIST_MEMBERS, PUT, TIMED, TRANSFER,
    UNKNOWN, UPDATE_SETTINGS,
};

use super::Seed;
use super::bytes::{MAX, near};

/// What the corpus has to reach: all methods, and all reasons that a node that leads has.
pub(crate) const MARKS: &[&str] = &[
    "kv.v1.KvService/Put",
    "kv.v1.KvService/Get",
    "kv.v1.KvService/Delete",
    "kv.v1.KvService/GetOutcome",
    "REQUEST_ID_AHEAD",
    "REQUEST_ID_REUSED",
    "REQUEST_ID_SESSION_LENGTH",
    "REQUEST_ID_SEQUENCE_ZERO",
    "REQUEST_ID_ACKNOWLEDGED_AHEAD",
    "REQUEST_ID_MISSING",
    "REQUEST_FENCED",
    "RESULT_FORGOTTEN",
    "admin.v1.AdminService/Status",
    "admin.v1.AdminService/ListMembers",
    "admin.v1.AdminService/UpdateSettings",
    "SETTING_MISSING",
    "KEY_EXISTS",
    "KEY_NOT_FOUND",
    "REVISION_MISMATCH",
    "KEY_EMPTY",
    "KEY_TOO_LARGE",
    "VALUE_TOO_LARGE",
    "MODE_UNKNOWN",
    "CONSISTENCY_UNKNOWN",
    "MAX_STALENESS_NOT_ALLOWED",
    "MAX_STALENESS_ZERO",
    "STALENESS_BOUND_EXCEEDED",
    "REVISION_AHEAD",
    "NO_QUORUM",
    "EXPECTED_REVISION_MISSING",
    "EXPECTED_REVISION_NOT_ALLOWED",
    "EXPECTED_REVISION_ZERO",
    "REQUEST_MISSING",
    "MESSAGE_MALFORMED",
    "TIMEOUT_MALFORMED",
    "DEADLINE_EXCEEDED",
    "NO_OTHER_VOTER",
    "TARGET_LEADS_ALREADY",
    "TARGET_NOT_VOTER",
    "UNSUPPORTED",
    "broken_frame",
    "forwarded_and_answered",
    "forwarded_and_malformed",
];

const CREATE: u8 = 0;
const UPSERT: u8 = 2;
const UPDATE: u8 = 3;
const COMPARE: u8 = 4;
const UNKNOWN_MODE: u8 = 0xff;

/// Whether a revision follows.
const NONE: u8 = 0;
const SOME: u8 = 1;
/// Whether a request id follows.
const NAMED: u8 = 2;
/// Whether a get's bounds follow.
const STALENESS: u8 = 1;
const REVISION: u8 = 2;
/// A request id from the future.
const AHEAD: u8 = 0xff;

fn put(key: u8, value: u8, mode: u8) -> [u8; 6] {
    [PUT, BUILT, key, value, mode, NONE]
}

fn put_expecting(mode: u8, revision: u8) -> [u8; 7] {
    [PUT, BUILT, 0, 1, mode, SOME, revision]
}

/// What a request id is built of: its session, its sequence, what is acknowledged, and whether it is from the future.
type Name = [u8; 4];

fn named_put(mode: u8, name: Name) -> Vec<u8> {
    [&[PUT, BUILT, 0, 1, mode, NAMED], &name[..]].concat()
}

fn named_delete(name: Name) -> Vec<u8> {
    [&[DELETE, BUILT, 0, NAMED], &name[..], &[1]].concat()
}

fn outcome(name: Name) -> Vec<u8> {
    [&[GET_OUTCOME, BUILT, NAMED], &name[..]].concat()
}

fn get(key: u8) -> [u8; 5] {
    get_of(key, 0)
}

fn get_of(key: u8, consistency: u8) -> [u8; 5] {
    [GET, BUILT, key, consistency, NONE]
}

/// With a bound of staleness, a least revision, or both, as `asks` says.
fn bounded_get(consistency: u8, asks: u8, bounds: &[u8]) -> Vec<u8> {
    [&[GET, BUILT, 0, consistency, asks], bounds].concat()
}

/// A change of a setting; one that names none from here on.
const NAMELESS: u8 = 0xf0;

fn switch(value: u8) -> [u8; 4] {
    [UPDATE_SETTINGS, BUILT, value, 0]
}

fn named_switch(value: u8, name: Name) -> Vec<u8> {
    [&[UPDATE_SETTINGS, BUILT, value, 1], &name[..]].concat()
}

fn delete(key: u8) -> [u8; 5] {
    [DELETE, BUILT, key, NONE, 1]
}

/// A message as it stands.
fn raw(method: u8, message: &[u8]) -> Vec<u8> {
    [&[method, 0, u8::try_from(message.len()).expect("short")], message].concat()
}

/// The corpus.
pub(crate) fn seeds() -> Vec<Seed> {
    [usual(), bounded(), named()].concat()
}

/// Gets that say how old a state may be and how far it has to be.
fn bounded() -> Vec<Seed> {
    let of_each_level = |asks: u8, bounds: &[u8]| -> Vec<u8> {
        let gets = (0..4).flat_map(|consistency| bounded_get(consistency, asks, bounds));
        put(0, 9, UPSERT).into_iter().chain(gets).collect()
    };
    vec![
        ("of_this_node", [&put(0, 9, CREATE)[..], &get_of(0, 3), &get_of(1, 3)].concat()),
        ("staleness_zero", of_each_level(STALENESS, &[0])),
        ("staleness_of_a_millisecond", of_each_level(STALENESS, &[1])),
        ("staleness_max", of_each_level(STALENESS, &[MAX])),
        ("revision_of_the_store", of_each_level(REVISION, &[near(0, 0)])),
        ("revision_that_comes_next", of_each_level(REVISION, &[near(0, 1)])),
        ("revision_far_ahead", of_each_level(REVISION, &[MAX])),
        ("both_bounds", of_each_level(STALENESS | REVISION, &[MAX, near(0, 1)])),
    ]
}

/// Requests with names, and what there is to settle.
fn named() -> Vec<Seed> {
    vec![
        (
            "repeats",
            [
                named_put(CREATE, [1, 1, 0, 0]),
                named_put(CREATE, [1, 1, 0, 0]),
                named_put(UPSERT, [1, 1, 0, 0]),
                named_put(CREATE, [1, 2, 0, 0]),
                named_delete([1, 3, 0, 0]),
                named_delete([1, 3, 0, 0]),
                named_put(UPDATE, [1, 4, 0, 0]),
                (1..5).flat_map(|sequence| outcome([1, sequence, 0, 0])).collect(),
                named_put(CREATE, [1, 5, 5, 0]),
                named_put(CREATE, [1, 1, 0, 0]),
                outcome([1, 1, 0, 0]),
            ]
            .concat(),
        ),
        ("settled_first", [outcome([2, 1, 0, 0]), named_put(UPSERT, [2, 1, 0, 0]), outcome([2, 1, 0, 0])].concat()),
        ("opened_ahead", [named_put(UPSERT, [1, 1, 0, AHEAD]), outcome([1, 1, 0, AHEAD])].concat()),
        (
            "malformed_names",
            [
                named_put(UPSERT, [1, 0, 0, 0]),
                named_put(UPSERT, [1, 1, 2, 0]),
                named_delete([0xe5, 1, 0, 0]),
                named_delete([0xff, 1, 0, 0]),
                outcome([0xe0, 1, 0, 0]),
                vec![GET_OUTCOME, BUILT, NONE],
            ]
            .concat(),
        ),
        (
            "settings_repeated",
            [
                named_switch(1, [1, 1, 0, 0]),
                named_switch(0, [2, 1, 0, 0]),
                named_switch(1, [1, 1, 0, 0]),
                named_switch(0, [1, 1, 0, 0]),
                outcome([1, 1, 0, 0]),
                outcome([1, 2, 0, 0]),
                named_switch(1, [1, 2, 0, 0]),
                named_switch(1, [1, 0, 0, 0]),
                named_switch(NAMELESS, [1, 3, 0, 0]),
            ]
            .concat(),
        ),
        (
            "forwarded_names",
            [&[FORWARD, BUILT, 4, NAMED, 1, 1, 0, 0, 0][..], &[FORWARD, BUILT, 0, 0, 1, UPSERT, NAMED, 1, 1, 0, 0, 0]]
                .concat(),
        ),
    ]
}

fn usual() -> Vec<Seed> {
    let life: [&[u8]; 12] = [
        &put(0, 9, CREATE),
        &put(0, 9, CREATE),
        &get(0),
        &put(0, 8, UPSERT),
        &put(0, 7, UPDATE),
        &put_expecting(COMPARE, near(0, 0)),
        &put_expecting(COMPARE, near(0, 1)),
        &get(0),
        &delete(0),
        &delete(0),
        &get(0),
        &put(0, 1, UPDATE),
    ];
    let timed = |kind: u8| -> Vec<u8> {
        (0..8).flat_map(|timeout| [kind, BUILT | TIMED, timeout, 0, 1, UPSERT, NONE]).collect()
    };
    let frames: Vec<u8> = (0..8).flat_map(|damage| [PUT, BUILT | FRAMED, 0, 1, CREATE, NONE, damage, 0xff]).collect();
    vec![
        ("empty", Vec::new()),
        ("life_of_a_key", life.concat()),
        ("keys_at_the_limits", (0xe0..0xe7).flat_map(|key| [&put(key, 1, UPSERT)[..], &get(key)].concat()).collect()),
        ("values_at_the_limits", [put(0, 0xfa, UPSERT), put(0, 0xfb, UPSERT), put(0, 0, UPSERT)].concat()),
        ("modes_unknown", [put(0, 1, UNKNOWN_MODE), put(0, 1, 0xf0), put(0, 1, 0xf1), put(0, 1, 0xf2)].concat()),
        ("consistency_unknown", [get_of(0, UNKNOWN_MODE), get_of(0, 4), get_of(0, 0xf0)].concat()),
        ("of_a_majority", [&put(0, 9, CREATE)[..], &get_of(0, 2), &get_of(1, 2)].concat()),
        ("revision_missing", put(0, 1, COMPARE).to_vec()),
        ("revision_zero", [&put_expecting(COMPARE, 0)[..], &[DELETE, BUILT, 0, SOME, 0, 0]].concat()),
        ("revision_not_allowed", [put_expecting(CREATE, 1), put_expecting(UPDATE, MAX)].concat()),
        ("revision_max", [&put(0, 1, UPSERT)[..], &put_expecting(COMPARE, MAX)].concat()),
        ("forwarded", [&[FORWARD, BUILT, 0, 0, 1, CREATE, NONE, 0][..], &[FORWARD, BUILT, 1, 0, 0, NONE, 0]].concat()),
        ("forwarded_nothing", vec![FORWARD, BUILT, 3, 0]),
        ("forwarded_noise", raw(FORWARD, &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("handed_over_to_nobody", vec![TRANSFER, BUILT, 0, TRANSFER, BUILT, 1, TRANSFER, BUILT, 2]),
        ("settings", [switch(1), switch(1), switch(0), switch(NAMELESS)].concat()),
        (
            "deadlines_of_settings",
            (0..8).flat_map(|timeout| [UPDATE_SETTINGS, BUILT | TIMED, timeout, timeout & 1, 0]).collect(),
        ),
        ("status_and_members", vec![ADMIN_STATUS, 0, 0, LIST_MEMBERS, 0, 0]),
        ("status_with_unknown_fields", raw(ADMIN_STATUS, &[0xfa, 0x3f, 1, 0])),
        ("no_such_method", vec![UNKNOWN, 0, 0]),
        ("deadlines_of_puts", timed(PUT)),
        ("deadlines_of_handovers", (0..8).flat_map(|timeout| [TRANSFER, BUILT | TIMED, timeout, 0]).collect()),
        ("frames_broken", frames),
        ("field_twice", raw(PUT, &[0x0a, 1, b'a', 0x0a, 1, b'b', 0x18, 2])),
        ("key_not_text", raw(PUT, &[0x0a, 2, 0xff, 0xfe])),
        ("length_field_damaged", raw(PUT, &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])),
        ("varint_without_end", raw(GET, &[0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80])),
        ("group_without_end", raw(DELETE, &[0x0b, 0x0b, 0x0b, 0x0b, 0x0b])),
        ("bytes_of_a_put_replaced", vec![PUT, BUILT | DAMAGED, 0, 9, UPSERT, NONE, 2, 0, 0x12, 4, 0xff]),
    ]
}
