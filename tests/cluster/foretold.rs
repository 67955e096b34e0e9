//! What `verify` foretells of a damaged directory is what a start does: for damage in every record of a log and in many
//! places of every snapshot.

use super::{
    data_directory::{contents, exit, json, look},
    golden_directories::{golden, restore},
};
use engine::{
    Engine, EngineError, EngineOptions, Opened, Remedy, Repair, SNAPSHOT_LOG_BYTES_MIN, STATE_HASH_EVERY_ENTRIES,
    WAL_PENDING_BYTES_MAX,
    disk::{Damage, Disk, MemoryDisk, RealDisk},
    identity::Identity,
    wal::WalOptions,
};
use raft::Configuration;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

/// So many places of each snapshot are damaged.
const PLACES_PER_SNAPSHOT: usize = 12;

/// A byte that is damaged: its file, and where in it.
type Place = (String, usize);

/// Opens an engine as a node does.
fn open(disk: &Arc<dyn Disk>) -> Result<Opened, EngineError> {
    let identity = Identity::read(disk.as_ref()).expect("the disk works").expect("it is a member's");
    let members = identity.cluster.expect("it is a member's");
    let raft = raft::Options {
        id: identity.member.incarnation,
        election_timeout_ticks_min: 50,
        election_timeout_ticks_max: 100,
        heartbeat_ticks: 10,
        append_bytes_max: 1 << 20,
        inflight_messages_max: 64,
        uncommitted_bytes_max: 64 << 20,
        tail_bytes_max: 32 << 20,
        apply_bytes_max: 4 << 20,
        seed: 1,
    };
    let options = EngineOptions {
        raft,
        wal: WalOptions { segment_bytes: 64 << 10, salt: 1, must_exist: true, ..WalOptions::default() },
        configuration: Configuration::new(members.members().iter().map(|member| member.incarnation)),
        wal_pending_bytes_max: WAL_PENDING_BYTES_MAX,
        snapshot_log_bytes_min: SNAPSHOT_LOG_BYTES_MIN,
        space_reserve_bytes: 0,
        session_limits: engine::kv::SessionLimits::default(),
        lease_ms: 0,
        state_hash_every_entries: STATE_HASH_EVERY_ENTRIES,
        snapshot_chunk_bytes: engine::side::SNAPSHOT_CHUNK_BYTES,
    };
    Engine::open(disk, options)
}

/// Whether a cut was begun, and may not have ended.
fn is_being_cut(disk: &dyn Disk) -> bool {
    Repair::read(disk).expect("the note is sound").is_some_and(|repair| repair.cut.is_some())
}

/// Starts an engine as a node does, and says in the words of `verify` what it did.
fn start(directory: &Path) -> Value {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory).expect("nobody else has it"));
    let was_being_cut = is_being_cut(disk.as_ref());
    let Ok(Opened { engine, damage, .. }) = open(&disk) else { return json!({"outcome": "refuses"}) };
    let last_index = engine.raft().last_index().get();
    let fetches = was_being_cut || damage.iter().any(|damage| matches!(damage.remedy, Remedy::Fetched { .. }));
    assert_eq!(engine.status().recovering, fetches, "what is fetched is waited for: {damage:?}");
    match damage.as_slice() {
        _ if fetches => json!({"outcome": "fetches", "last_index": last_index}),
        [] => json!({"outcome": "takes_part"}),
        _ => json!({"outcome": "older_snapshot"}),
    }
}

/// What a start leaves of a directory with this damage if a crash interrupts it as late as can be while it cuts the
/// log; nothing if it cuts none.
fn interrupted_cut(files: &BTreeMap<String, Vec<u8>>, damaged: &Place) -> Option<BTreeMap<String, Vec<u8>>> {
    let disk = MemoryDisk::new();
    files.iter().for_each(|(name, bytes)| disk.plant(name, bytes.clone()));
    disk.damage(&damaged.0, &Damage::FlippedBit { offset: damaged.1 as u64, bit: 5 });
    let whole = disk.fork();
    let shared = |disk: &MemoryDisk| -> Arc<dyn Disk> { Arc::new(disk.clone()) };
    if !open(&shared(&whole)).ok()?.engine.status().recovering {
        return None;
    }
    let left = (0..whole.changes() - disk.changes()).rev().find_map(|step| {
        let disk = disk.fork();
        disk.halt_after(step);
        assert!(open(&shared(&disk)).is_err(), "step {step}");
        disk.crash(&mut |_| true);
        is_being_cut(&disk).then_some(disk)
    })?;
    let names = left.list().expect("the disk works").into_iter();
    Some(names.filter_map(|name| Some((name.clone(), left.contents(&name)?))).collect())
}

/// The middle of every record of the log, and many places of every snapshot.
async fn places(directory: &Path) -> Vec<Place> {
    let (code, text, _) = look(&["dump", "--json"], directory).await;
    assert_eq!(code, Some(0));
    let number = |record: &Value, name: &str| record[name].as_u64().and_then(|number| usize::try_from(number).ok());
    let records = text.lines().map(json).map(|record| {
        let middle = number(&record, "offset").zip(number(&record, "bytes")).map(|(offset, bytes)| offset + bytes / 2);
        (record["file"].as_str().expect("a name").to_owned(), middle.expect("two numbers"))
    });
    let mut places: Vec<Place> = records.collect();
    for (name, bytes) in contents(directory).into_iter().filter(|(name, _)| name.ends_with(".snap")) {
        let step = bytes.len() / PLACES_PER_SNAPSHOT;
        places.extend((0..PLACES_PER_SNAPSHOT).map(|number| (name.clone(), number * step + number)));
    }
    places
}

/// Damages a directory that is restored from `files`, and compares. Returns what was foretold, with the place of a cut,
/// which an engine does not tell.
async fn is_as_foretold(files: &BTreeMap<String, Vec<u8>>, directory: &Path, damaged: &[Place]) -> Value {
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes).expect("a file can be written");
    }
    for (name, offset) in damaged {
        let mut bytes = fs::read(directory.join(name)).expect("a file can be read");
        bytes[*offset] ^= 0x20;
        fs::write(directory.join(name), bytes).expect("a file can be written");
    }
    let (code, text, errors) = look(&["verify", "--json"], directory).await;
    let report = json(&text);
    let mut foretold = report["start"].clone();
    foretold.as_object_mut().expect("an object").remove("cut");
    // What follows on the last commit cannot be told from what was never synced.
    let expected = if report["damage"].as_array().is_some_and(Vec::is_empty) { 0 } else { exit::DAMAGED };
    assert_eq!(code, Some(expected), "{text}{errors}");
    assert_eq!(start(directory), foretold, "{damaged:?}: {text}");
    for name in contents(directory).keys() {
        fs::remove_file(directory.join(name)).expect("a file can be removed");
    }
    report["start"].clone()
}

async fn all_are_as_foretold(folder: &str) -> BTreeMap<String, usize> {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    restore(&golden(folder, "n2"), directory.path());
    let places = places(directory.path()).await;
    let files: BTreeMap<String, Vec<u8>> =
        contents(directory.path()).into_iter().filter(|(name, _)| name != "LOCK").collect();
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let snapshots: Vec<&Place> = places.iter().filter(|(name, _)| name.ends_with(".snap")).collect();
    let singles = places.iter().map(|place| vec![place.clone()]);
    // Two places, of which the later one may be what proves the term behind the other; and both snapshots and one more.
    let pairs = places
        .iter()
        .step_by(3)
        .zip(places.iter().skip(3).step_by(4))
        .map(|(one, other)| vec![one.clone(), other.clone()]);
    let with_snapshots = places.iter().step_by(5).filter_map(|place| {
        let all = snapshots.iter().step_by(PLACES_PER_SNAPSHOT).map(|place| (*place).clone());
        (!snapshots.is_empty()).then(|| all.chain([place.clone()]).collect())
    });
    for damaged in singles.chain(pairs).chain(with_snapshots) {
        let foretold = is_as_foretold(&files, directory.path(), &damaged).await;
        *outcomes.entry(foretold["outcome"].as_str().expect("a text").to_owned()).or_default() += 1;
    }
    outcomes
}

fn names(outcomes: &BTreeMap<String, usize>) -> Vec<&str> {
    outcomes.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn damage_to_a_log_is_dealt_with_as_foretold() {
    let outcomes = all_are_as_foretold("format_1").await;
    assert_eq!(names(&outcomes), ["fetches", "refuses", "takes_part"], "all of them occur: {outcomes:?}");
}

#[tokio::test]
async fn damage_to_snapshots_and_a_cut_log_is_dealt_with_as_foretold() {
    let outcomes = all_are_as_foretold("format_2").await;
    assert_eq!(names(&outcomes), ["fetches", "older_snapshot", "takes_part"], "all of them occur: {outcomes:?}");
}

#[tokio::test]
async fn damage_before_a_cut_that_was_interrupted_is_dealt_with_as_foretold() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    restore(&golden("format_1", "n2"), directory.path());
    let mut places = places(directory.path()).await;
    places.retain(|(name, _)| name.ends_with(".log"));
    let files: BTreeMap<String, Vec<u8>> =
        contents(directory.path()).into_iter().filter(|(name, _)| name != "LOCK").collect();
    let mut compared = 0;
    for (number, place) in places.iter().enumerate().rev().step_by(places.len() / 24) {
        let Some(left) = interrupted_cut(&files, place) else { continue };
        // Those just before the cut, too: what lies between seldom says the term.
        let before = places[..number].iter().rev();
        for earlier in before.clone().take(4).chain(before.step_by(places.len() / 4)) {
            let foretold = is_as_foretold(&left, directory.path(), std::slice::from_ref(earlier)).await;
            assert_eq!(foretold["outcome"], "fetches", "{earlier:?} is before {place:?}");
            let (file, offset) = (foretold["cut"]["file"].as_str(), foretold["cut"]["offset"].as_u64());
            let cut = (file.expect("a name"), offset.expect("a number"));
            assert!(cut <= (&earlier.0, earlier.1 as u64), "{cut:?} is behind {earlier:?}");
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared} cuts were interrupted");
}
