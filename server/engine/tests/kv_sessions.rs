//! Writes with request ids: what is run, what is answered from memory, and what is refused; also behind a snapshot.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::kv::command::encode;
use engine::kv::{
    Applied, Command, ImageLoader, InvalidCommand, PutMode, Refusal, Rejection, Request, RequestId, Revision,
    SessionId, SessionLimits, Settings, Settled, Store,
};
use proptest::prelude::*;
use raft::Index;

const HOUR_MS: u64 = 3_600_000;

/// A store with the index of its log and the time of the next command.
#[derive(Clone)]
struct Log {
    store: Store,
    limits: SessionLimits,
    index: u64,
    time_ms: u64,
}

impl Log {
    fn new() -> Log {
        Log::with(SessionLimits::default())
    }

    fn with(limits: SessionLimits) -> Log {
        Log { store: Store::with_limits(limits), limits, index: 0, time_ms: 1_000 }
    }

    fn apply(&mut self, id: Option<RequestId>, command: Command) -> Applied {
        self.index += 1;
        let encoded = encode(&Request { id, command }, self.time_ms).expect("a valid request");
        let applied = self.store.apply(Index::new(self.index), &encoded).expect("a command of this version");
        assert_eq!(self.store.state_hash(), self.store.recompute_hash());
        applied
    }

    fn create(&mut self, id: RequestId, key: &str) -> Applied {
        self.apply(Some(id), put(key, "v", PutMode::Create))
    }

    fn delete(&mut self, id: RequestId, key: &str) -> Applied {
        self.apply(Some(id), delete(key, true))
    }

    fn configure(&mut self, id: RequestId, lease_reads: bool) -> Applied {
        self.apply(Some(id), Command::Configure { lease_reads })
    }

    fn settle(&mut self, id: RequestId) -> Applied {
        self.apply(Some(id), Command::Settle)
    }

    /// Goes on with the state that a snapshot holds.
    fn through_a_snapshot(&mut self) {
        let (mut image, mut loader) = (self.store.image(), ImageLoader::with_limits(self.limits));
        while let Some(section) = image.next_section().expect("the state is sound") {
            loader.section(section.tag, section.bytes).expect("what was written loads");
        }
        let loaded = loader.finish().expect("all of it is there");
        assert_eq!(loaded.state_hash(), self.store.state_hash());
        assert_eq!(loaded.session_count(), self.store.session_count());
        assert_eq!(loaded.settings(), self.store.settings());
        self.store = loaded;
    }
}

fn put(key: &str, value: &str, mode: PutMode) -> Command {
    Command::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::copy_from_slice(value.as_bytes()), mode }
}

fn delete(key: &str, return_previous: bool) -> Command {
    Command::Delete { key: Bytes::copy_from_slice(key.as_bytes()), expected_revision: None, return_previous }
}

fn id(session: u128, opened_at_ms: u64, sequence: u64, acknowledged_below: u64) -> RequestId {
    RequestId { session: SessionId::new(session), opened_at_ms, sequence, acknowledged_below }
}

fn written(revision: u64, version: u64) -> Applied {
    Applied::Put { revision: Revision::new(revision), version }
}

#[test]
fn a_repeat_is_answered_with_the_first_result_whatever_happened_since() {
    let mut log = Log::new();
    assert_eq!(log.create(id(1, 0, 1, 0), "a"), written(2, 1));
    let exists = Applied::Rejected(Rejection::KeyExists { mod_revision: Revision::new(2) });
    assert_eq!(log.create(id(1, 0, 2, 0), "a"), exists);
    let removed = log.delete(id(1, 0, 3, 0), "a");
    assert!(matches!(&removed, Applied::Deleted { previous: Some(kv), .. } if &kv.value[..] == b"v"));
    let missing = Applied::Rejected(Rejection::KeyNotFound);
    assert_eq!(log.delete(id(1, 0, 4, 0), "a"), missing);
    for _ in 0..2 {
        let (revision, hash) = (log.store.revision(), log.store.state_hash());
        assert_eq!(log.create(id(1, 0, 1, 0), "a"), written(2, 1));
        assert_eq!(log.create(id(1, 0, 2, 0), "a"), exists);
        assert_eq!(log.delete(id(1, 0, 3, 0), "a"), removed);
        assert_eq!(log.delete(id(1, 0, 4, 0), "a"), missing);
        assert_eq!((log.store.revision(), log.store.state_hash()), (revision, hash), "a repeat changes nothing");
        assert!(log.store.is_empty());
        log.through_a_snapshot();
    }
}

#[test]
fn a_late_copy_of_a_change_of_settings_does_not_undo_what_came_after_it() {
    let mut log = Log::new();
    let configured = |lease_reads| Applied::Configured { settings: Settings { lease_reads } };
    assert_eq!(log.configure(id(1, 0, 1, 0), true), configured(true));
    assert_eq!(log.configure(id(2, 0, 1, 0), false), configured(false));
    for _ in 0..2 {
        assert_eq!(log.configure(id(1, 0, 1, 0), true), configured(true), "what it did then");
        assert_eq!(log.store.settings(), Settings::default(), "and it is not done again");
        assert_eq!(log.settle(id(1, 0, 1, 0)), Applied::Settled(Settled::Result(Box::new(configured(true)))));
        let reused = Applied::Refused(Refusal::RequestIdReused);
        assert_eq!(log.configure(id(1, 0, 1, 0), false), reused, "another value is another body");
        assert_eq!(log.create(id(1, 0, 1, 0), "a"), reused);
        log.settle(id(3, 0, 1, 0));
        assert_eq!(log.configure(id(3, 0, 1, 0), true), Applied::Refused(Refusal::Fenced));
        assert_eq!(log.store.settings(), Settings::default());
        log.through_a_snapshot();
    }
}

#[test]
fn another_body_or_another_opening_under_the_same_id_is_refused() {
    let mut log = Log::new();
    log.create(id(1, 7, 1, 0), "a");
    let reused = Applied::Refused(Refusal::RequestIdReused);
    assert_eq!(log.create(id(1, 7, 1, 0), "b"), reused);
    assert_eq!(log.apply(Some(id(1, 7, 1, 0)), put("a", "w", PutMode::Create)), reused);
    assert_eq!(log.apply(Some(id(1, 7, 1, 0)), put("a", "v", PutMode::Upsert)), reused);
    assert_eq!(log.delete(id(1, 7, 1, 0), "a"), reused);
    assert_eq!(log.create(id(1, 8, 2, 0), "b"), reused, "the session is another's");
    log.through_a_snapshot();
    assert_eq!(log.delete(id(1, 7, 1, 0), "a"), reused);
    assert_eq!(log.create(id(1, 7, 1, 1), "a"), written(2, 1), "what is acknowledged is no part of the body");
    assert_eq!(log.create(id(2, 7, 1, 0), "b"), written(3, 1), "another session has its own sequences");
}

#[test]
fn what_is_acknowledged_is_let_go_of_and_not_run_again() {
    let mut log = Log::new();
    log.create(id(1, 0, 1, 0), "a");
    log.create(id(1, 0, 5, 0), "b");
    log.create(id(1, 0, 9, 9), "c");
    let forgotten = Applied::Refused(Refusal::ResultForgotten);
    for _ in 0..2 {
        for sequence in [1, 2, 5, 8] {
            assert_eq!(log.create(id(1, 0, sequence, 0), "new"), forgotten, "sequence {sequence}");
            assert_eq!(log.settle(id(1, 0, sequence, 0)), Applied::Settled(Settled::Forgotten));
        }
        assert_eq!(log.create(id(1, 0, 9, 0), "c"), written(4, 1), "an older acknowledgement takes nothing back");
        log.through_a_snapshot();
    }
}

#[test]
fn settling_tells_the_result_or_sees_to_it_that_there_is_none() {
    let mut log = Log::new();
    let first = log.create(id(1, 0, 1, 0), "a");
    let never = Applied::Settled(Settled::NeverApplied);
    assert_eq!(log.settle(id(1, 0, 2, 0)), never);
    assert_eq!(log.settle(id(2, 0, 1, 0)), never, "also in a session that nobody has heard of");
    for _ in 0..2 {
        assert_eq!(log.settle(id(1, 0, 1, 0)), Applied::Settled(Settled::Result(Box::new(first.clone()))));
        for fenced in [id(1, 0, 2, 0), id(2, 0, 1, 0)] {
            assert_eq!(log.create(fenced, "late"), Applied::Refused(Refusal::Fenced));
            assert_eq!(log.settle(fenced), never);
        }
        log.through_a_snapshot();
    }
    assert_eq!(log.store.len(), 1);
    assert_eq!(encode(&Command::Settle.into(), 0), Err(InvalidCommand::NothingToSettle));
}

#[test]
fn a_session_that_was_idle_for_an_hour_is_dropped_and_never_taken_for_a_new_one() {
    let mut log = Log::new();
    log.create(id(1, 500, 1, 0), "a");
    // The last use counts to the end of its second.
    log.time_ms = 2_000 + HOUR_MS - 1;
    log.apply(None, put("x", "", PutMode::Upsert));
    assert_eq!(log.store.session_count(), 1);
    log.time_ms += 1;
    log.apply(None, put("x", "", PutMode::Upsert));
    assert_eq!(log.store.session_count(), 0);
    for _ in 0..2 {
        let expired = Applied::Refused(Refusal::SessionExpired { time_ms: log.time_ms });
        assert_eq!(log.create(id(1, 500, 1, 0), "a"), expired);
        assert_eq!(log.create(id(1, 500, 2, 0), "b"), expired);
        assert_eq!(log.settle(id(1, 500, 1, 0)), expired);
        assert_eq!(log.create(id(9, 1_999, 1, 0), "b"), expired, "opened before the mark: it may have been dropped");
        log.through_a_snapshot();
    }
    assert_eq!(log.store.session_count(), 0);
    assert_eq!(log.create(id(9, 2_000, 1, 0), "b"), written(5, 1), "opened behind the mark: it is new");
}

#[test]
fn a_use_keeps_a_session_and_time_that_stands_still_drops_none() {
    let mut log = Log::new();
    for sequence in 1..=5 {
        log.create(id(1, 0, sequence, 0), "a");
        log.time_ms += HOUR_MS - 1_000;
    }
    assert_eq!(log.create(id(1, 0, 1, 0), "a"), written(2, 1));
    // An old leader's clock may be behind; the state's time is not.
    log.time_ms = 5;
    assert_eq!(log.create(id(1, 0, 1, 0), "a"), written(2, 1));
    let ahead = id(2, u64::MAX, 1, 0);
    let time_ms = log.store.time_ms();
    assert_eq!(log.create(ahead, "b"), Applied::Refused(Refusal::OpenedAhead { time_ms }));
}

#[test]
fn the_least_recently_used_session_goes_first_when_there_are_too_many() {
    let mut log = Log::with(SessionLimits { sessions_max: 3, ..SessionLimits::default() });
    for session in 1..=3 {
        log.create(id(session, 0, 1, 0), "a");
        log.time_ms += 1_000;
    }
    log.create(id(1, 0, 2, 0), "a");
    log.time_ms += 1_000;
    log.create(id(4, log.time_ms, 1, 0), "a");
    assert_eq!(log.store.session_count(), 3);
    let expired = Applied::Refused(Refusal::SessionExpired { time_ms: log.time_ms });
    assert_eq!(log.create(id(2, 0, 1, 0), "a"), expired);
    assert_eq!(log.create(id(1, 0, 1, 0), "a"), written(2, 1), "used since");
}

#[test]
fn a_session_is_full_until_its_client_acknowledges() {
    let mut log = Log::with(SessionLimits { results_max: 3, ..SessionLimits::default() });
    for sequence in 1..=3 {
        log.create(id(1, 0, sequence, 0), "a");
    }
    let full = Applied::Refused(Refusal::SessionFull);
    assert_eq!(log.create(id(1, 0, 4, 0), "b"), full);
    assert_eq!(log.settle(id(1, 0, 4, 0)), full);
    assert_eq!(log.create(id(1, 0, 1, 0), "a"), written(2, 1), "a repeat needs no room");
    assert_eq!(log.create(id(1, 0, 4, 2), "b"), written(3, 1), "one is let go of");
}

#[test]
fn what_sessions_keep_is_bounded_in_bytes() {
    let limits = SessionLimits { session_bytes_max: 2_000, bytes_max: 5_000, ..SessionLimits::default() };
    let mut log = Log::with(limits);
    let value = "v".repeat(1_500);
    let mut sequence = 0;
    let mut remove_large = |log: &mut Log, session, expected: bool| {
        log.apply(None, put("large", &value, PutMode::Upsert));
        sequence += 1;
        let applied = log.delete(id(session, log.time_ms, sequence, 0), "large");
        assert_eq!(matches!(applied, Applied::Deleted { .. }), expected, "{applied:?}");
    };
    remove_large(&mut log, 1, true);
    remove_large(&mut log, 1, true);
    remove_large(&mut log, 1, false);
    log.time_ms += 1_000;
    remove_large(&mut log, 2, true);
    assert_eq!(log.store.session_count(), 1, "the older one made room for the younger");
    log.through_a_snapshot();
    log.time_ms += 1_000;
    remove_large(&mut log, 3, true);
    assert_eq!(log.store.session_count(), 2);
}

/// The rules without any of the means: plain maps, walks over everything.
#[derive(Default)]
struct Model {
    sessions: BTreeMap<u128, Known>,
    mark_ms: u64,
    keys: BTreeMap<String, u64>,
    changes: u64,
    runs: BTreeMap<(u128, u64), u64>,
}

struct Known {
    opened_at_ms: u64,
    used_at_s: u64,
    acknowledged_below: u64,
    results: BTreeMap<u64, Option<(u8, Applied)>>,
}

/// A small request: a session of few, a sequence of few, a body of few.
#[derive(Clone, Copy, Debug)]
struct Asked {
    session: u128,
    opened_at_ms: u64,
    sequence: u64,
    below: u64,
    /// 0 and 1 create, 2 and 3 delete, 4 settles.
    body: u8,
    pause_ms: u64,
    snapshot: bool,
}

const LIMITS: SessionLimits =
    SessionLimits { idle_ms: 3_000, sessions_max: 3, results_max: 4, session_bytes_max: 1 << 20, bytes_max: 1 << 20 };

impl Model {
    fn drop_session(&mut self, session: u128) {
        let known = self.sessions.remove(&session).expect("it is there");
        self.mark_ms = self.mark_ms.max((known.used_at_s + 1) * 1_000);
    }

    fn apply(&mut self, asked: &Asked, time_ms: u64) -> Applied {
        let idle = |known: &Known| (known.used_at_s + 1) * 1_000 + LIMITS.idle_ms <= time_ms;
        let old: Vec<u128> = self.sessions.iter().filter(|(_, known)| idle(known)).map(|(id, _)| *id).collect();
        old.into_iter().for_each(|session| self.drop_session(session));
        let opened_at_ms = asked.opened_at_ms;
        match self.sessions.get(&asked.session) {
            Some(known) if known.opened_at_ms != opened_at_ms => return Applied::Refused(Refusal::RequestIdReused),
            None if opened_at_ms > time_ms => return Applied::Refused(Refusal::OpenedAhead { time_ms }),
            None if opened_at_ms < self.mark_ms => return Applied::Refused(Refusal::SessionExpired { time_ms }),
            _ => {}
        }
        let new = || Known { opened_at_ms, used_at_s: 0, acknowledged_below: 0, results: BTreeMap::new() };
        let known = self.sessions.entry(asked.session).or_insert_with(new);
        known.used_at_s = time_ms / 1_000;
        known.acknowledged_below = known.acknowledged_below.max(asked.below);
        known.results = known.results.split_off(&known.acknowledged_below);
        let (acknowledged_below, is_full) = (known.acknowledged_below, known.results.len() >= 4);
        let result = known.results.get(&asked.sequence).cloned();
        while self.sessions.len() > LIMITS.sessions_max {
            let others = self.sessions.iter().filter(|(id, _)| **id != asked.session);
            let oldest = others.map(|(id, known)| (known.used_at_s, *id)).min().expect("there are several");
            self.drop_session(oldest.1);
        }
        let (is_settling, is_forgotten) = (asked.body == 4, asked.sequence < acknowledged_below);
        match result {
            _ if is_forgotten && is_settling => return Applied::Settled(Settled::Forgotten),
            _ if is_forgotten => return Applied::Refused(Refusal::ResultForgotten),
            Some(None) if is_settling => return Applied::Settled(Settled::NeverApplied),
            Some(None) => return Applied::Refused(Refusal::Fenced),
            Some(Some((_, applied))) if is_settling => return Applied::Settled(Settled::Result(Box::new(applied))),
            Some(Some((body, _))) if body != asked.body => return Applied::Refused(Refusal::RequestIdReused),
            Some(Some((_, applied))) => return applied,
            None if is_full => return Applied::Refused(Refusal::SessionFull),
            None => {}
        }
        let kept = (!is_settling).then(|| (asked.body, self.run(asked)));
        let known = self.sessions.get_mut(&asked.session).expect("it was just used");
        known.results.insert(asked.sequence, kept.clone());
        kept.map_or(Applied::Settled(Settled::NeverApplied), |(_, applied)| applied)
    }

    fn run(&mut self, asked: &Asked) -> Applied {
        *self.runs.entry((asked.session, asked.sequence)).or_default() += 1;
        let (key, next) = (key_of(asked.body), self.changes + 2);
        match (asked.body < 2, self.keys.get(&key).copied()) {
            (true, Some(revision)) => {
                return Applied::Rejected(Rejection::KeyExists { mod_revision: Revision::new(revision) });
            }
            (false, None) => return Applied::Rejected(Rejection::KeyNotFound),
            (true, None) => drop(self.keys.insert(key, next)),
            (false, Some(_)) => drop(self.keys.remove(&key)),
        }
        self.changes += 1;
        let revision = Revision::new(next);
        if asked.body < 2 { written(next, 1) } else { Applied::Deleted { revision, previous: None } }
    }
}

fn key_of(body: u8) -> String {
    format!("key {}", body % 2)
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let time = prop_oneof![4 => Just(0_u64), 2 => 0..2_000_u64, 1 => 3_000..9_000_u64];
    (0..5_u128, 0..3_u64, 1..8_u64, 0..8_u64, 0..5_u8, time, prop::bool::weighted(0.1)).prop_map(
        |(session, opened, sequence, below, body, pause_ms, snapshot)| Asked {
            session,
            // Each of the few sessions is opened at one of few times, some of them ahead.
            opened_at_ms: opened * 4_000,
            sequence,
            below: below.min(sequence).saturating_sub(3),
            body,
            pause_ms,
            snapshot,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_plain_maps(script in proptest::collection::vec(any_asked(), 1..60)) {
        let (mut log, mut model) = (Log::with(LIMITS), Model::default());
        for (step, asked) in script.iter().enumerate() {
            log.time_ms += asked.pause_ms;
            let command = match asked.body {
                0 | 1 => put(&key_of(asked.body), "", PutMode::Create),
                2 | 3 => delete(&key_of(asked.body), false),
                _ => Command::Settle,
            };
            let id = id(asked.session, asked.opened_at_ms, asked.sequence, asked.below);
            let found = log.apply(Some(id), command);
            prop_assert_eq!(found, model.apply(asked, log.time_ms), "step {}: {:?}", step, asked);
            prop_assert_eq!(log.store.session_count(), model.sessions.len());
            prop_assert_eq!(log.store.len(), model.keys.len());
            if asked.snapshot {
                log.through_a_snapshot();
            }
        }
    }
}
