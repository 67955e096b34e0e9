//! What peers can say, right and wrong, to nodes in every role.

use fuzz::peer_message::{
    APPLY, COMPACT, FETCH, FORGET, INSTALL, JOINT, LATE, OFFER, PROPOSE, PUMP, READ, READ_INDEX, READ_INDEX_RESPONSE,
    RESTART, ROOT_CANDIDATE, ROOT_EMPTY, ROOT_FOLLOWER, ROOT_FOLLOWING, ROOT_LEADER, ROOT_OLD_LEADER,
    ROOT_PRE_CANDIDATE, ROOT_TRANSFERRING, SYNC, TICKS, TRANSFER, UNREACHABLE,
};

use super::Seed;
use super::bytes::{MAX, far, near, raw};

/// What the corpus has to reach: all roles, all kinds, and all reasons to refuse.
pub(crate) const MARKS: &[&str] = &[
    "follower",
    "pre-candidate",
    "candidate",
    "leader",
    "RequestPreVote",
    "RequestVote",
    "RequestPreVoteResponse",
    "RequestVoteResponse",
    "AppendEntries",
    "AppendEntriesResponse",
    "Heartbeat",
    "HeartbeatResponse",
    "InstallSnapshot",
    "TimeoutNow",
    "ReadIndex",
    "ReadIndexResponse",
    "not_for_us",
    "from_self",
    "unknown_sender",
    "not_a_voter",
    "term_zero",
    "term_too_far_ahead",
    "stale_term",
    "malformed_vote",
    "malformed_entries",
    "malformed_response",
    "malformed_snapshot",
    "commit_beyond_log",
    "match_beyond_log",
    "unknown_round",
    "two_leaders",
    "contradicts_committed",
    "leader_alive",
    "not_our_leader",
    "disk_stalled",
    "recovering",
    "unexpected_kind",
    "proposed",
    "restarted",
    "transferring",
    "compacted",
    "installed",
    "forgotten",
    "recovers",
];

// The kinds of messages, and what stands for whom.
pub(crate) const APPEND: u8 = 0;
pub(crate) const VOTE: u8 = 6;
pub(crate) const UP_TO_DATE_VOTE: u8 = 7;
pub(crate) const VOTE_RESPONSE: u8 = 8;
pub(crate) const ACCEPTED: u8 = 9;
pub(crate) const REJECTED: u8 = 11;
pub(crate) const HEARTBEAT: u8 = 12;
pub(crate) const HEARTBEAT_RESPONSE: u8 = 15;
pub(crate) const TIMEOUT_NOW: u8 = 17;
pub(crate) const TWO: u8 = 0;
pub(crate) const THREE: u8 = 1;
pub(crate) const LEARNER: u8 = 4;
pub(crate) const FIVE: u8 = 5;
pub(crate) const SELF: u8 = 6;
pub(crate) const STRANGER: u8 = 7;
pub(crate) const FOR_ANOTHER: u8 = 31 << 3;

/// Each entry is described by itself.
const DESCRIBED: u8 = 8;
/// The term of the previous position follows.
const PREVIOUS_TERM: u8 = 16;

// What numbers are near to: terms first, then indexes.
const TERM: u8 = 0;
const LAST_TERM: u8 = 1;
const LAST: u8 = 0;
const COMMIT: u8 = 1;

fn current() -> u8 {
    near(TERM, 0)
}

fn next_term() -> u8 {
    near(TERM, 1)
}

fn last() -> u8 {
    near(LAST, 0)
}

/// A beginning and what follows it.
pub(crate) fn story(root: u8, inputs: &[&[u8]]) -> Vec<u8> {
    [vec![root], inputs.concat()].concat()
}

fn heartbeat(from: u8, term: u8, commit: u8) -> [u8; 5] {
    [HEARTBEAT, from, term, commit, 0]
}

/// Everything that is out becomes durable and is applied.
const REST: [u8; 6] = [PUMP, SYNC, SYNC, PUMP, APPLY, PUMP];

pub(crate) fn seeds() -> Vec<Seed> {
    [envelopes(), follower(), votes(), leader(), snapshots(), compaction(), damage()].concat()
}

/// Messages that are refused for what is written on the envelope.
fn envelopes() -> Vec<Seed> {
    let to_all = |term: &[u8]| {
        let heartbeat = [&[HEARTBEAT, TWO], term, &[0, 0]].concat();
        let append = [&[APPEND, TWO], term, &[1, last(), 0, 0]].concat();
        let vote = [&[UP_TO_DATE_VOTE, THREE], term, &[0]].concat();
        let answer = [&[ACCEPTED, THREE], term, &[last()]].concat();
        [heartbeat, append, vote, answer].concat()
    };
    vec![
        ("empty", Vec::new()),
        ("term_zero", story(ROOT_FOLLOWING, &[&to_all(&[0])])),
        ("term_max", story(ROOT_FOLLOWING, &[&to_all(&[MAX]), &REST])),
        ("term_max_to_leader", story(ROOT_LEADER, &[&to_all(&[MAX]), &to_all(&[MAX + 1]), &REST])),
        ("term_at_the_bound", story(ROOT_FOLLOWER, &[&to_all(&[far(TERM, 0)]), &REST])),
        ("term_beyond_the_bound", story(ROOT_FOLLOWER, &[&to_all(&[far(TERM, 1)]), &to_all(&raw(1 << 40)), &REST])),
        ("last_term", story(ROOT_FOLLOWING | LATE, &[&to_all(&[MAX]), &to_all(&[MAX + 1]), &to_all(&[MAX]), &REST])),
        (
            "campaigns_in_the_last_terms",
            story(ROOT_FOLLOWER | LATE, &[&to_all(&[MAX + 1]), &[TICKS, 31, PUMP, SYNC, PUMP]]),
        ),
        ("leads_in_the_last_terms", story(ROOT_OLD_LEADER | LATE, &[&to_all(&[MAX]), &to_all(&[current()]), &REST])),
        ("self_addressed", story(ROOT_FOLLOWER, &[&heartbeat(SELF, current(), 0), &[TIMEOUT_NOW, SELF, current()]])),
        ("self_voted", story(ROOT_CANDIDATE, &[&[VOTE_RESPONSE, SELF, current(), 0, 0], &REST])),
        ("self_accepted", story(ROOT_LEADER, &[&[ACCEPTED, SELF, current(), last()], &REST])),
        ("stranger", story(ROOT_FOLLOWER, &[&heartbeat(STRANGER, next_term(), 0), &heartbeat(FIVE, next_term(), 0)])),
        ("stranger_votes", story(ROOT_CANDIDATE, &[&[VOTE_RESPONSE, STRANGER, current(), 0, 0]])),
        (
            "stranger_answers",
            story(
                ROOT_OLD_LEADER,
                &[
                    &[READ, PUMP, HEARTBEAT_RESPONSE, STRANGER, current(), 1, ACCEPTED, STRANGER, current(), last()],
                    &REST,
                ],
            ),
        ),
        ("for_another", story(ROOT_FOLLOWER, &[&heartbeat(TWO | FOR_ANOTHER, next_term(), 0)])),
    ]
}

/// What leaders say to followers.
fn follower() -> Vec<Seed> {
    let append = |header: u8, body: &[u8]| [&[APPEND, TWO, current(), header], body].concat();
    vec![
        ("appends", story(ROOT_FOLLOWING, &[&append(2, &[last(), 4, 0, near(LAST, 1)]), &REST])),
        ("appends_to_nothing", story(ROOT_EMPTY, &[&[APPEND, TWO, 1, 3, 0, 1, 2, 3, 3], &REST])),
        ("appends_too_far_behind", story(ROOT_FOLLOWING, &[&append(1, &[near(LAST, 3), 0, 0]), &REST])),
        (
            "tail_overwritten",
            story(ROOT_FOLLOWER, &[&[APPEND, TWO, next_term(), 2, near(COMMIT, 1), 0, 0, near(COMMIT, 2)], &REST]),
        ),
        ("committed_overwritten", story(ROOT_FOLLOWING, &[&append(DESCRIBED | 1, &[0, current(), 1, 9, last()])])),
        ("entries_with_a_gap", story(ROOT_FOLLOWING, &[&append(DESCRIBED | 1, &[last(), 2, near(LAST, 2), 0, 0])])),
        ("entry_twice", story(ROOT_FOLLOWING, &[&append(DESCRIBED | 2, &[last(), 2, 6, 0, 2, 6, 0, 0])])),
        ("terms_fall", story(ROOT_FOLLOWING, &[&append(DESCRIBED | 2, &[last(), 2, 6, 0, 1, 7, 0, 0])])),
        ("entries_from_the_future", story(ROOT_FOLLOWING, &[&append(DESCRIBED | 1, &[last(), 3, 6, 0, 0])])),
        ("entry_of_term_zero", story(ROOT_EMPTY, &[&[APPEND, TWO, 1, DESCRIBED | 1, 0, 0, 1, 0, 0]])),
        ("index_max", story(ROOT_FOLLOWING, &[&append(PREVIOUS_TERM, &[MAX, 2, MAX]), &append(1, &[MAX + 1, 0, MAX])])),
        ("position_without_term", story(ROOT_FOLLOWING, &[&append(PREVIOUS_TERM, &[last(), 0, 0])])),
        ("commit_max", story(ROOT_FOLLOWING, &[&append(1, &[last(), 0, MAX]), &REST])),
        ("commit_beyond_log", story(ROOT_FOLLOWING, &[&heartbeat(TWO, current(), near(LAST, 1))])),
        ("two_leaders", story(ROOT_FOLLOWING, &[&heartbeat(THREE, current(), 0)])),
        ("leader_of_the_past", story(ROOT_FOLLOWING, &[&[APPEND, THREE, 1, 1, last(), 0, 0], &heartbeat(THREE, 1, 0)])),
        ("learner_leads", story(ROOT_FOLLOWER, &[&heartbeat(LEARNER, next_term(), 0)])),
        (
            "crash_before_sync",
            story(ROOT_FOLLOWING, &[&append(2, &[last(), 0, 0, 0]), &[PUMP, RESTART, 0], &REST, &[RESTART, 1], &REST]),
        ),
        ("overtaken", story(ROOT_FOLLOWING, &[&append(3, &[last(), 0, 0, 0, 8]), &append(1, &[5, 0, 6]), &REST])),
    ]
}

/// Elections, asked for by others and by the node itself.
fn votes() -> Vec<Seed> {
    let vote = |from: u8, term: u8| [UP_TO_DATE_VOTE, from, term, 0];
    vec![
        ("votes_once", story(ROOT_FOLLOWER, &[&vote(TWO, next_term()), &vote(THREE, current()), &REST])),
        (
            "votes_once_across_a_crash",
            story(
                ROOT_FOLLOWER,
                &[&vote(TWO, next_term()), &[PUMP, RESTART, 1], &vote(THREE, current()), &vote(THREE, 3), &REST],
            ),
        ),
        ("stale_candidate", story(ROOT_FOLLOWER, &[&[VOTE, TWO, next_term(), 0, 3, near(LAST_TERM, -1), 0], &REST])),
        ("vote_with_contradictions", story(ROOT_FOLLOWER, &[&[VOTE, TWO, next_term(), 0, 0, 1, 0]])),
        ("transferred_pre_vote", story(ROOT_FOLLOWER, &[&[VOTE, TWO, next_term(), 1, last(), 2, 1]])),
        ("pre_vote", story(ROOT_FOLLOWER, &[&[VOTE, TWO, next_term(), 1, last(), 2, 0], &REST])),
        ("leader_is_alive", story(ROOT_FOLLOWING, &[&vote(THREE, next_term())])),
        ("learner_asks", story(ROOT_FOLLOWER, &[&vote(LEARNER, next_term())])),
        ("vote_in_the_last_terms", story(ROOT_FOLLOWER, &[&vote(TWO, MAX), &vote(TWO, MAX + 1), &REST])),
        (
            "elected",
            story(
                ROOT_EMPTY,
                &[
                    &[TICKS, 31, PUMP, SYNC],
                    &[VOTE_RESPONSE, TWO, 1, 1, 0, PUMP, SYNC, PUMP],
                    &[VOTE_RESPONSE, THREE, 1, 0, 0, PUMP, SYNC, PROPOSE, 9, READ, PUMP, SYNC],
                    &[ACCEPTED, TWO, 1, last(), PUMP, APPLY],
                ],
            ),
        ),
        ("pre_votes", story(ROOT_PRE_CANDIDATE, &[&[VOTE_RESPONSE, TWO, next_term(), 1, 0], &REST])),
        ("refused_votes", story(ROOT_CANDIDATE, &[&[VOTE_RESPONSE, TWO, current(), 0, 1], &REST, &[TICKS, 31, PUMP]])),
        ("votes_of_a_joint_configuration", story(ROOT_CANDIDATE | JOINT, &[&[VOTE_RESPONSE, FIVE, 3, 0, 0], &REST])),
        ("told_to_campaign", story(ROOT_FOLLOWING, &[&[TIMEOUT_NOW, TWO, current(), PUMP, SYNC, PUMP]])),
        ("told_by_another", story(ROOT_FOLLOWING, &[&[TIMEOUT_NOW, THREE, current()]])),
    ]
}

/// Answers to leaders.
fn leader() -> Vec<Seed> {
    let rejected = |hint: &[u8]| [&[REJECTED, TWO, current()], hint].concat();
    vec![
        ("accepted", story(ROOT_LEADER, &[&[ACCEPTED, TWO, current(), last()], &REST, &[PROPOSE, 40, PUMP], &REST])),
        ("accepted_beyond_log", story(ROOT_LEADER, &[&[ACCEPTED, TWO, current(), near(LAST, 1)]])),
        ("accepted_max", story(ROOT_LEADER, &[&[ACCEPTED, TWO, current(), MAX]])),
        ("accepted_by_learner", story(ROOT_LEADER, &[&[ACCEPTED, LEARNER, current(), last()], &REST])),
        ("accepted_in_the_past", story(ROOT_LEADER, &[&[ACCEPTED, TWO, near(TERM, -1), last()]])),
        ("accepted_by_nobody", story(ROOT_FOLLOWER, &[&[ACCEPTED, TWO, current(), last()]])),
        ("rejected", story(ROOT_LEADER, &[&rejected(&[near(LAST, -1), 2, 1]), &REST])),
        ("rejected_in_full", story(ROOT_LEADER, &[&rejected(&[near(LAST, -1), 0, 0]), &REST])),
        ("rejected_with_a_false_hint", story(ROOT_LEADER, &[&rejected(&[2, 3, 1]), &rejected(&[3, 2, 0])])),
        ("rejected_max", story(ROOT_LEADER, &[&rejected(&[MAX, MAX, MAX]), &rejected(&[MAX, MAX, 1]), &REST])),
        (
            "fed_from_the_disk",
            story(
                ROOT_OLD_LEADER,
                &[&[UNREACHABLE, TWO], &rejected(&[near(LAST, 0), 1, 1]), &[PUMP, FETCH, 0, PUMP, FETCH, 1], &REST],
            ),
        ),
        (
            "read_confirmed",
            story(
                ROOT_OLD_LEADER,
                &[&[READ, PUMP, HEARTBEAT_RESPONSE, TWO, current(), 1], &REST, &[READ, PUMP, HEARTBEAT_RESPONSE, TWO]],
            ),
        ),
        (
            "asked_for_a_read",
            story(ROOT_OLD_LEADER, &[&[READ_INDEX, TWO, current(), 7, 1, READ_INDEX, FIVE, current()]]),
        ),
        ("asked_before_it_knows", story(ROOT_LEADER, &[&[READ_INDEX, TWO, current(), 7, 1], &REST, &[PUMP]])),
        (
            "asks_for_a_read",
            story(ROOT_FOLLOWING, &[&[READ, PUMP, READ_INDEX_RESPONSE, TWO, current(), 7, 1, last()], &REST]),
        ),
        ("asks_again", story(ROOT_FOLLOWING, &[&[READ, PUMP, TICKS, 3, PUMP, READ, TICKS, 31, PUMP], &REST])),
        (
            "answered_for_another_process",
            story(ROOT_FOLLOWING, &[&[READ, PUMP, READ_INDEX_RESPONSE, TWO, current(), 8, 1, last()]]),
        ),
        (
            "answered_by_another",
            story(ROOT_FOLLOWING, &[&[READ, PUMP, READ_INDEX_RESPONSE, THREE, current(), 7, 1, 0]]),
        ),
        ("round_from_nowhere", story(ROOT_OLD_LEADER, &[&[HEARTBEAT_RESPONSE, TWO, current(), MAX]])),
        ("deposed", story(ROOT_OLD_LEADER, &[&[READ, PROPOSE, 9], &heartbeat(THREE, next_term(), 0), &REST])),
        ("challenged", story(ROOT_OLD_LEADER, &[&heartbeat(THREE, current(), 0)])),
        ("lonely", story(ROOT_OLD_LEADER, &[&[PROPOSE, 200, READ, TICKS, 31, PUMP, TICKS, 31, PUMP]])),
        ("full", story(ROOT_LEADER, &[&[PROPOSE, 255, PROPOSE, 255, PROPOSE, 255, PUMP, PROPOSE, 1], &REST])),
        ("hands_over", story(ROOT_TRANSFERRING, &[&[PUMP, SYNC, ACCEPTED, TWO, current(), last()], &REST])),
        ("hands_over_to_all", story(ROOT_OLD_LEADER, &[&[TRANSFER, 0, TRANSFER, 4, TRANSFER, 6, TICKS, 31], &REST])),
        ("leads_a_joint_configuration", story(ROOT_OLD_LEADER | JOINT, &[&[PROPOSE, 9, PUMP], &REST])),
    ]
}

/// Offers and snapshots, right and wrong.
fn snapshots() -> Vec<Seed> {
    let offer = |last: u8, term: u8| [OFFER, TWO, current(), last, term];
    let append = |header: u8, body: &[u8]| [&[APPEND, TWO, current(), header], body].concat();
    // Three entries of term 1, and the rest of term 2: as the log of most beginnings, but longer.
    let install = |last: u8| [INSTALL, last, 2, 3, 1, 0, 2];
    vec![
        ("offered", story(ROOT_FOLLOWING, &[&offer(9, 2), &install(9), &REST, &offer(9, 2), &REST])),
        ("offered_what_it_has", story(ROOT_FOLLOWING, &[&offer(last(), 2), &REST, &offer(near(COMMIT, 0), 2)])),
        (
            "offered_nothing",
            story(ROOT_FOLLOWING, &[&offer(0, 0), &offer(9, 0), &offer(9, next_term()), &offer(MAX, 2)]),
        ),
        ("offered_other_entries", story(ROOT_FOLLOWING, &[&offer(2, 2), &REST])),
        (
            "offered_to_a_leader",
            story(ROOT_LEADER, &[&offer(9, 2), &[OFFER, TWO, next_term(), 9, 2], &install(9), &REST]),
        ),
        ("offered_by_a_learner", story(ROOT_FOLLOWER, &[&[OFFER, LEARNER, next_term(), 9, 2]])),
        (
            "goes_on_behind_a_snapshot",
            story(ROOT_FOLLOWING, &[&install(9), &append(2, &[last(), 0, 4, near(LAST, 2)]), &REST]),
        ),
        (
            "snapshot_of_other_entries",
            story(ROOT_FOLLOWER, &[&[INSTALL, 9, 1, 0, 2], &[INSTALL, 9, 2, 2, 1, 0, 2], &REST]),
        ),
        (
            "snapshots_that_are_none",
            story(
                ROOT_EMPTY,
                &[&[
                    INSTALL, 0, 0, INSTALL, 9, 0, INSTALL, 9, 1, 0, 0, INSTALL, 9, 2, 3, 2, 0, 1, INSTALL, MAX, 1, 0, 1,
                ]],
            ),
        ),
        ("snapshot_of_its_own_log", story(ROOT_FOLLOWER, &[&[INSTALL, last(), 128, INSTALL, 9, 128], &REST])),
    ]
}

/// Snapshots that come at a bad time, and those that a leader offers.
fn compaction() -> Vec<Seed> {
    let append = |header: u8, body: &[u8]| [&[APPEND, TWO, current(), header], body].concat();
    let install = |last: u8| [INSTALL, last, 2, 3, 1, 0, 2];
    vec![
        (
            "snapshot_over_batches_under_way",
            story(
                ROOT_FOLLOWING,
                &[
                    &append(3, &[last(), 0, 0, 0, 0]),
                    &[PUMP, INSTALL, 7, 3, 3, 1, 2, 2, 0, 3, PUMP, SYNC],
                    &[APPEND, TWO, next_term(), 1, last(), 0, 0, PUMP, RESTART, 1],
                    &REST,
                ],
            ),
        ),
        ("restart_before_the_reset", story(ROOT_FOLLOWING, &[&install(9), &[PUMP, RESTART, 0], &REST, &[RESTART, 0]])),
        ("snapshot_deposes", story(ROOT_OLD_LEADER, &[&[INSTALL, 9, 3, 3, 1, 2, 2, 0, 5], &REST])),
        (
            "snapshot_ends_a_campaign",
            story(ROOT_CANDIDATE, &[&install(9), &[VOTE_RESPONSE, TWO, current(), 0, 0], &REST]),
        ),
        (
            "offers",
            story(
                ROOT_OLD_LEADER,
                &[
                    &[COMPACT, 0, UNREACHABLE, TWO],
                    &[REJECTED, TWO, current(), last(), 1, 1, PUMP, ACCEPTED, TWO, current(), 1, PUMP],
                    &[TICKS, 4, PUMP, HEARTBEAT_RESPONSE, TWO, current(), 0, PUMP, ACCEPTED, TWO, current(), last()],
                    &REST,
                ],
            ),
        ),
        (
            "compacts_all_the_time",
            story(ROOT_OLD_LEADER, &[&[PROPOSE, 99, COMPACT, 1], &REST, &[COMPACT, 2, COMPACT, 0]]),
        ),
        ("appends_before_the_beginning", story(ROOT_FOLLOWING, &[&[COMPACT, 0], &append(2, &[0, 1, 1, 0]), &REST])),
    ]
}

/// Disks that stand still, and logs of which a part is lost.
fn damage() -> Vec<Seed> {
    let wait = [&[TICKS, 7, PUMP][..], &heartbeat(TWO, current(), 0)].concat();
    let append = |header: u8, body: &[u8]| [&[APPEND, TWO, current(), header], body].concat();
    vec![
        (
            "told_to_campaign_with_a_stalled_disk",
            story(
                ROOT_FOLLOWING,
                &[&append(1, &[last(), 0, 0]), &[PUMP], &wait, &wait, &wait, &[TIMEOUT_NOW, TWO, current()], &REST],
            ),
        ),
        (
            "forgets",
            story(
                ROOT_FOLLOWING,
                &[
                    &[FORGET, 3, UP_TO_DATE_VOTE, TWO, next_term(), 0, TICKS, 31, PUMP, TICKS, 31],
                    &heartbeat(TWO, next_term(), 0),
                    &[TIMEOUT_NOW, TWO, current()],
                    &append(2, &[last(), 0, 0, near(LAST, 2)]),
                    &REST,
                    &[UP_TO_DATE_VOTE, THREE, next_term(), 0],
                    &REST,
                ],
            ),
        ),
        ("forgets_what_it_led", story(ROOT_OLD_LEADER, &[&[FORGET, 0, RESTART, 0], &REST, &[FORGET, 0], &REST])),
        (
            "forgets_in_the_last_terms",
            story(ROOT_FOLLOWER | LATE, &[&[FORGET, 2], &heartbeat(TWO, MAX + 1, 0), &[FORGET, 2]]),
        ),
        (
            "forgets_behind_a_snapshot",
            story(ROOT_OLD_LEADER, &[&[COMPACT, 0, FORGET, 0, INSTALL, 9, 2, 3, 1, 0, 9], &REST]),
        ),
    ]
}
