//! Frames of peers: whole, damaged, and made up.

use fuzz::peer_message::{
    JOINT, PUMP, READ, READ_INDEX, READ_INDEX_RESPONSE, ROOT_CANDIDATE, ROOT_FOLLOWER, ROOT_FOLLOWING, ROOT_LEADER,
    ROOT_OLD_LEADER, SYNC,
};
use fuzz::peer_rpc::{
    APPEND_REQUEST, APPEND_RESPONSE, CONTROL_REQUEST, CONTROL_RESPONSE, DAMAGED, INTRODUCED, INTRODUCTION, RAW, STEP,
    WHOLE,
};

use super::Seed;
use super::bytes::{MAX, near};
use super::peer_message::{
    ACCEPTED, APPEND, HEARTBEAT, HEARTBEAT_RESPONSE, REJECTED, THREE, TIMEOUT_NOW, TWO, UP_TO_DATE_VOTE, VOTE_RESPONSE,
    story,
};

/// What the corpus has to reach.
pub(crate) const MARKS: &[&str] = &[
    "undecodable",
    "malformed",
    "traced",
    "RequestVote",
    "RequestVoteResponse",
    "AppendEntries",
    "AppendEntriesResponse",
    "Heartbeat",
    "HeartbeatResponse",
    "TimeoutNow",
    "ReadIndex",
    "ReadIndexResponse",
    "term_too_far_ahead",
    "malformed_entries",
    "introduced",
    "stranger",
    "introduction_refused",
];

/// The W3C's own example of the header, 55 bytes.
const TRACEPARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn raw(kind: u8, frame: &[u8]) -> Vec<u8> {
    [&[RAW, kind, u8::try_from(frame.len()).expect("short")], frame].concat()
}

pub(crate) fn seeds() -> Vec<Seed> {
    let (current, next, last) = (near(0, 0), near(0, 1), near(0, 0));
    let rest = [STEP, PUMP, STEP, SYNC, STEP, PUMP];
    let entry = [0x08, 2, 0x10, 6, 0x1a, 0];
    let frame = [&[0x08, 2, 0x10, 5, 0x18, 2, 0x22, 6], &entry[..]].concat();
    let traced = [&frame[..], &[0x32, 59, 0x08, 6, 0x12, 55], TRACEPARENT].concat();
    let traced_badly = [&frame[..], &[0x32, 6, 0x08, 6, 0x12, 2, b'0', b'0']].concat();
    let traced_control = [&[0x08, 2, 0x22, 0, 0x3a, 55], TRACEPARENT].concat();
    let append = [APPEND, TWO, current, 2, last, 3, 0, near(0, 1)];
    vec![
        ("empty", Vec::new()),
        ("whole_append", story(ROOT_FOLLOWING, &[&[WHOLE], &append, &rest])),
        ("damaged_append", story(ROOT_FOLLOWING, &[&[DAMAGED], &append, &[2, 1, 0xff, 9, 0], &rest])),
        ("cut_append", story(ROOT_FOLLOWING, &[&[DAMAGED], &append, &[1, 7, 0xee], &rest])),
        (
            "whole_control",
            story(ROOT_FOLLOWING, &[&[WHOLE, HEARTBEAT, TWO, current, last, 1, WHOLE, TIMEOUT_NOW, TWO]]),
        ),
        ("told_to_campaign", story(ROOT_FOLLOWING, &[&[WHOLE, TIMEOUT_NOW, TWO, current], &rest])),
        ("whole_vote", story(ROOT_FOLLOWER, &[&[WHOLE, UP_TO_DATE_VOTE, THREE, next, 0], &rest])),
        ("whole_vote_response", story(ROOT_CANDIDATE, &[&[WHOLE, VOTE_RESPONSE, TWO, current, 0, 0], &rest])),
        ("whole_answers", story(ROOT_LEADER, &[&[WHOLE, ACCEPTED, TWO, current, last], &rest])),
        ("whole_rejection", story(ROOT_LEADER | JOINT, &[&[WHOLE, REJECTED, TWO, current, near(0, -1), 1, 1], &rest])),
        ("whole_question", story(ROOT_OLD_LEADER, &[&[WHOLE, READ_INDEX, TWO, current, 7, 1], &rest])),
        (
            "whole_index",
            story(
                ROOT_FOLLOWING,
                &[&[STEP, READ, STEP, PUMP, WHOLE, READ_INDEX_RESPONSE, TWO, current, 7, 1, last], &rest],
            ),
        ),
        ("whole_heartbeat_response", story(ROOT_OLD_LEADER, &[&[WHOLE, HEARTBEAT_RESPONSE, TWO, current, 0]])),
        ("term_max", story(ROOT_FOLLOWER, &[&[WHOLE, HEARTBEAT, TWO, MAX, 0, 0, WHOLE, APPEND, TWO, MAX, 1, last]])),
        ("raw_append", story(ROOT_FOLLOWER, &[&raw(APPEND_REQUEST, &frame), &rest])),
        ("raw_append_with_a_trace", story(ROOT_FOLLOWER, &[&raw(APPEND_REQUEST, &traced), &rest])),
        ("raw_append_with_no_trace", story(ROOT_FOLLOWER, &[&raw(APPEND_REQUEST, &traced_badly), &rest])),
        ("raw_control_with_a_trace", story(ROOT_FOLLOWING, &[&raw(CONTROL_REQUEST, &traced_control), &rest])),
        ("entry_without_payload", story(ROOT_FOLLOWER, &[&raw(APPEND_REQUEST, &[0x08, 2, 0x22, 2, 0x08, 2])])),
        (
            "entries_out_of_order",
            story(ROOT_FOLLOWER, &[&raw(APPEND_REQUEST, &[&[0x08, 3, 0x22, 6], &entry[..]].concat())]),
        ),
        ("nothing_in_it", story(ROOT_FOLLOWER, &[&raw(APPEND_RESPONSE, &[]), &raw(CONTROL_REQUEST, &[8, 1])])),
        ("nothing_in_the_answer", story(ROOT_FOLLOWER, &[&raw(CONTROL_RESPONSE, &[8, 1]), &raw(APPEND_REQUEST, &[])])),
        ("length_field_damaged", story(ROOT_FOLLOWER, &[&raw(APPEND_REQUEST, &[0x22, 0xff, 0xff, 0xff, 0xff, 0x0f])])),
        ("varint_without_end", story(ROOT_FOLLOWER, &[&raw(CONTROL_REQUEST, &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff])])),
        ("introduced", vec![0, INTRODUCED, 0, 2, 0, 1, INTRODUCED, 3, 9, 0, 1, INTRODUCED, 0, 3, 0, 0]),
        ("introduced_as_us", vec![0, INTRODUCED, 1, 1, 0, 1]),
        ("introduced_with_nonsense", vec![0, INTRODUCED, 4, 2, 0, 0, INTRODUCED, 0, 2, 1, 0, INTRODUCED, 0, 2, 0, 3]),
        ("introduction_raw", [&[0, INTRODUCTION, 8][..], &[0x0a, 6, 0x0a, 2, b'n', b'2', 0x10, 2]].concat()),
        ("introduction_empty", vec![0, INTRODUCTION, 0, INTRODUCTION, 1, 0x0a]),
    ]
}
