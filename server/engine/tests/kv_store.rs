//! The state machine alone: every mode in every state, revisions, versions, time, hashes and snapshots.

use bytes::Bytes;
use engine::kv::command::encode;
use engine::kv::{Applied, Command, KeyValue, PutMode, Rejection, Revision, Settings, Store, UnknownCommand};
use raft::Index;

/// A store with the index of its log.
struct Log {
    store: Store,
    index: u64,
}

impl Log {
    fn new() -> Log {
        Log { store: Store::new(), index: 0 }
    }

    fn apply_at(&mut self, command: &Command, time_ms: u64) -> Applied {
        self.index += 1;
        let encoded = encode(&command.clone().into(), time_ms).expect("a valid command");
        let applied = self.store.apply(Index::new(self.index), &encoded).expect("a command of this version");
        assert_eq!(self.store.state_hash(), self.store.recompute_hash(), "after {command:?}");
        applied
    }

    fn put(&mut self, key: &str, value: &str, mode: PutMode) -> Applied {
        self.apply_at(&put(key, value, mode), 0)
    }

    fn delete(&mut self, key: &str, expected_revision: Option<u64>, return_previous: bool) -> Applied {
        self.apply_at(&delete(key, expected_revision, return_previous), 0)
    }

    fn configure(&mut self, lease_reads: bool) -> Applied {
        self.apply_at(&Command::Configure { lease_reads }, 0)
    }

    /// The store's revision and, of the key, (value, create revision, mod revision, version).
    fn state(&self, key: &str) -> (u64, Option<(String, u64, u64, u64)>) {
        let kv = self.store.get(key.as_bytes()).map(|kv| {
            let value = String::from_utf8(kv.value.to_vec()).expect("tests write text");
            (value, kv.create_revision.get(), kv.mod_revision.get(), kv.version)
        });
        (self.store.revision().get(), kv)
    }
}

fn put(key: &str, value: &str, mode: PutMode) -> Command {
    Command::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::copy_from_slice(value.as_bytes()), mode }
}

fn delete(key: &str, expected_revision: Option<u64>, return_previous: bool) -> Command {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Command::Delete { key, expected_revision: expected_revision.map(Revision::new), return_previous }
}

fn compare(revision: u64) -> PutMode {
    PutMode::Compare { expected_revision: Revision::new(revision) }
}

fn written(revision: u64, version: u64) -> Applied {
    Applied::Put { revision: Revision::new(revision), version }
}

fn deleted(revision: u64) -> Applied {
    Applied::Deleted { revision: Revision::new(revision), previous: None }
}

fn mismatch(expected: u64, actual: u64) -> Applied {
    let (expected, actual) = (Revision::new(expected), Revision::new(actual));
    Applied::Rejected(Rejection::RevisionMismatch { expected, actual })
}

const NOT_FOUND: Applied = Applied::Rejected(Rejection::KeyNotFound);

#[test]
fn an_empty_store_is_at_revision_one_and_the_first_write_makes_two() {
    let mut log = Log::new();
    assert_eq!(log.state("a"), (1, None));
    assert!(log.store.is_empty());
    assert_eq!(log.put("a", "x", PutMode::Create), written(2, 1));
    assert_eq!(log.state("a"), (2, Some(("x".into(), 2, 2, 1))));
    assert_eq!(log.store.len(), 1);
}

#[test]
fn puts_of_a_missing_key() {
    let cases = [
        (PutMode::Create, written(2, 1)),
        (PutMode::Upsert, written(2, 1)),
        (PutMode::Update, NOT_FOUND),
        (compare(1), NOT_FOUND),
        (compare(0), NOT_FOUND),
    ];
    for (mode, expected) in cases {
        let mut log = Log::new();
        assert_eq!(log.put("a", "x", mode), expected, "{mode:?}");
        let after = if matches!(expected, Applied::Put { .. }) { (2, Some(("x".into(), 2, 2, 1))) } else { (1, None) };
        assert_eq!(log.state("a"), after, "{mode:?}");
    }
}

#[test]
fn puts_of_a_key_that_exists() {
    let exists = Applied::Rejected(Rejection::KeyExists { mod_revision: Revision::new(3) });
    let cases = [
        (PutMode::Create, exists),
        (PutMode::Upsert, written(4, 3)),
        (PutMode::Update, written(4, 3)),
        (compare(3), written(4, 3)),
        (compare(2), mismatch(2, 3)),
        (compare(4), mismatch(4, 3)),
        (compare(0), mismatch(0, 3)),
    ];
    for (mode, expected) in cases {
        let mut log = Log::new();
        log.put("a", "x", PutMode::Create);
        log.put("a", "y", PutMode::Upsert);
        let before = log.state("a");
        assert_eq!(before, (3, Some(("y".into(), 2, 3, 2))));
        assert_eq!(log.put("a", "z", mode), expected, "{mode:?}");
        let after =
            if matches!(expected, Applied::Put { .. }) { (4, Some(("z".into(), 2, 4, 3))) } else { before.clone() };
        assert_eq!(log.state("a"), after, "{mode:?}");
    }
}

#[test]
fn deletes_of_a_missing_key() {
    for expected_revision in [None, Some(0), Some(1)] {
        let mut log = Log::new();
        assert_eq!(log.delete("a", expected_revision, true), NOT_FOUND);
        assert_eq!(log.state("a"), (1, None));
    }
}

#[test]
fn deletes_of_a_key_that_exists() {
    let cases = [
        (None, deleted(4)),
        (Some(3), deleted(4)),
        (Some(2), mismatch(2, 3)),
        (Some(4), mismatch(4, 3)),
        (Some(0), mismatch(0, 3)),
    ];
    for (expected_revision, expected) in cases {
        let mut log = Log::new();
        log.put("a", "x", PutMode::Create);
        log.put("a", "y", PutMode::Update);
        let before = log.state("a");
        assert_eq!(log.delete("a", expected_revision, false), expected, "{expected_revision:?}");
        let after = if matches!(expected, Applied::Deleted { .. }) { (4, None) } else { before };
        assert_eq!(log.state("a"), after, "{expected_revision:?}");
    }
}

#[test]
fn a_delete_returns_the_previous_value_when_asked() {
    let mut log = Log::new();
    log.put("a", "x", PutMode::Create);
    log.put("a", "y", PutMode::Upsert);
    let previous = KeyValue {
        key: Bytes::from_static(b"a"),
        value: Bytes::from_static(b"y"),
        create_revision: Revision::new(2),
        mod_revision: Revision::new(3),
        version: 2,
    };
    let revision = Revision::new(4);
    assert_eq!(log.delete("a", None, true), Applied::Deleted { revision, previous: Some(previous) });
}

#[test]
fn a_key_that_is_created_again_starts_at_version_one() {
    let mut log = Log::new();
    log.put("a", "x", PutMode::Create);
    log.put("a", "x", PutMode::Upsert);
    log.delete("a", None, false);
    assert_eq!(log.put("a", "z", PutMode::Create), written(5, 1));
    assert_eq!(log.state("a"), (5, Some(("z".into(), 5, 5, 1))));
}

#[test]
fn keys_come_in_the_order_of_their_bytes() {
    let mut log = Log::new();
    for key in ["b", "a\u{ff}", "a", "ab"] {
        log.put(key, "x", PutMode::Create);
    }
    let keys: Vec<Bytes> = log.store.iter().map(|kv| kv.key).collect();
    assert_eq!(keys, ["a", "ab", "a\u{ff}", "b"].map(|key| Bytes::copy_from_slice(key.as_bytes())));
}

#[test]
fn time_never_goes_back_and_moves_with_rejected_commands_too() {
    let mut log = Log::new();
    log.apply_at(&put("a", "x", PutMode::Create), 100);
    log.apply_at(&put("b", "x", PutMode::Create), 40);
    assert_eq!(log.store.time_ms(), 100);
    assert_eq!(log.apply_at(&put("c", "x", PutMode::Update), 150), NOT_FOUND);
    assert_eq!(log.store.time_ms(), 150);
}

#[test]
fn a_setting_is_off_until_it_is_switched_on_and_makes_no_revision() {
    let mut log = Log::new();
    assert_eq!(log.store.settings(), Settings { lease_reads: false });
    log.put("a", "x", PutMode::Create);
    let before = log.state("a");
    for lease_reads in [true, true, false, false, true] {
        let settings = Settings { lease_reads };
        assert_eq!(log.configure(lease_reads), Applied::Configured { settings });
        assert_eq!((log.store.settings(), log.state("a"), log.store.len()), (settings, before.clone(), 1));
    }
    assert_eq!(log.put("b", "x", PutMode::Create), written(3, 1), "the next revision is that of the next write");
    assert_eq!(log.apply_at(&Command::Configure { lease_reads: false }, 70), {
        Applied::Configured { settings: Settings::default() }
    });
    assert_eq!(log.store.time_ms(), 70, "time moves with it as with every command");
}

#[test]
fn the_hash_covers_the_settings_unless_they_are_as_in_the_beginning() {
    let (mut never, mut once) = (Log::new(), Log::new());
    for log in [&mut never, &mut once] {
        log.put("a", "x", PutMode::Create);
    }
    let hash = never.store.state_hash();
    once.configure(true);
    assert_ne!(once.store.state_hash(), hash);
    let snapshot = once.store.clone();
    once.configure(false);
    assert_eq!(once.store.state_hash(), hash, "a state in which nothing is set has the hash of one without settings");
    assert_eq!(snapshot.settings(), Settings { lease_reads: true }, "a clone stays as it was");
    once.configure(true);
    assert_eq!(once.store.state_hash(), snapshot.state_hash());
}

#[test]
fn the_hash_depends_on_the_state_and_not_on_the_way_there() {
    let (mut one, mut other) = (Log::new(), Log::new());
    assert_eq!(one.store.state_hash(), other.store.state_hash());
    one.put("a", "x", PutMode::Create);
    one.put("b", "y", PutMode::Create);
    other.put("a", "x", PutMode::Create);
    assert_ne!(one.store.state_hash(), other.store.state_hash());
    // A rejected command in between is part of the history, not of the state.
    other.put("a", "z", PutMode::Create);
    other.put("b", "y", PutMode::Create);
    assert_eq!(one.store.state_hash(), other.store.state_hash());
}

#[test]
fn the_hash_covers_every_part_of_the_state() {
    /// A store made by these puts, the last one stamped with a time.
    fn hash_of(puts: &[(&str, &str)], time_ms: u64) -> u128 {
        let mut log = Log::new();
        for (key, value) in puts {
            log.apply_at(&put(key, value, PutMode::Upsert), time_ms);
        }
        log.store.state_hash()
    }
    let hashes = [
        hash_of(&[], 0),
        hash_of(&[("a", "b")], 0),
        hash_of(&[("a", "c")], 0),
        hash_of(&[("b", "a")], 0),
        hash_of(&[("ab", "")], 0),
        hash_of(&[("a", "b")], 1),
        hash_of(&[("a", "b"), ("a", "b")], 0),
        hash_of(&[("a", "b"), ("b", "a")], 0),
        hash_of(&[("b", "a"), ("a", "b")], 0),
    ];
    for (position, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..position].contains(hash), "state {position} has the hash of another one");
    }
}

#[test]
fn a_clone_is_a_snapshot() {
    let mut log = Log::new();
    for number in 0..100 {
        log.put(&format!("key{number}"), "before", PutMode::Create);
    }
    let snapshot = log.store.clone();
    let hash = snapshot.state_hash();
    for number in 0..100 {
        log.put(&format!("key{number}"), "after", PutMode::Upsert);
    }
    log.delete("key1", None, false);
    assert_eq!(snapshot.len(), 100);
    assert_eq!((snapshot.state_hash(), snapshot.recompute_hash()), (hash, hash));
    assert!(snapshot.iter().all(|kv| &kv.value[..] == b"before"));
}

#[test]
fn an_unknown_command_changes_nothing() {
    let mut log = Log::new();
    log.put("a", "x", PutMode::Create);
    let hash = log.store.state_hash();
    let index = Index::new(2);
    assert_eq!(log.store.apply(index, &Bytes::from_static(b"\x03rest")), Err(UnknownCommand::Version(3)));
    assert_eq!(log.store.apply(index, &Bytes::new()), Err(UnknownCommand::Truncated));
    assert_eq!(log.store.state_hash(), hash);
}

#[test]
#[should_panic(expected = "each is applied once, in order")]
fn an_index_is_applied_once() {
    let mut log = Log::new();
    log.put("a", "x", PutMode::Create);
    log.index = 0;
    log.put("b", "x", PutMode::Create);
}

#[test]
fn equal_logs_make_equal_replicas() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let (mut one, mut other) = (Log::new(), Log::new());
    for number in 0..5_000 {
        let key = format!("key{}", below(40));
        let revision = 2 + below(number + 1);
        let command = match below(7) {
            0 => put(&key, &format!("{number}"), PutMode::Create),
            1 => put(&key, &format!("{number}"), PutMode::Upsert),
            2 => put(&key, &format!("{number}"), PutMode::Update),
            3 => put(&key, &format!("{number}"), compare(revision)),
            4 => delete(&key, None, true),
            5 => Command::Configure { lease_reads: below(2) == 0 },
            _ => delete(&key, Some(revision), false),
        };
        let time_ms = below(10_000);
        assert_eq!(one.apply_at(&command, time_ms), other.apply_at(&command, time_ms));
        assert_eq!(one.store.state_hash(), other.store.state_hash());
    }
    assert!(one.store.iter().eq(other.store.iter()));
    assert_eq!(one.store.settings(), other.store.settings());
}
