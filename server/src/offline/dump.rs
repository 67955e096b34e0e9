//! `quorate-server dump`: the records of a log, the keys that they make, or a snapshot, for people and for programs.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::process::ExitCode;

use bytes::Bytes;
use engine::disk::RealDisk;
use engine::kv::{Command, KeyValue, PutMode, Request, command};
use engine::snapshot::{self, Meta, Reader, Stored};
use engine::wal::{self, Inspected, Replayed};
use engine::{OfflineState, SnapshotFile};
use raft::{Entry, Payload};
use serde::Serialize;

use super::text::{self, HardStateJson, SettingsJson, Shown, quoted, start_of};
use super::verify::FIRST_SEGMENT;
use super::{Damage, EXIT_DAMAGED, OfflineError, damage_in, damage_in_snapshot, open};
use crate::cli::DumpArgs;

/// Runs `dump` and returns the process's exit code.
#[must_use]
pub fn main(arguments: &DumpArgs) -> ExitCode {
    match dump(arguments) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(Damage { file, offset, reason })) => {
            let next = super::command("verify", &arguments.directory);
            eprintln!("quorate-server: {file} is damaged at byte {offset}: {reason}\nnext: {next}");
            ExitCode::from(EXIT_DAMAGED)
        }
        Err(error) => error.tell(),
    }
}

/// Prints what can be read, and returns what cannot.
fn dump(arguments: &DumpArgs) -> Result<Option<Damage>, OfflineError> {
    let disk = open(&arguments.directory)?;
    let mut output = BufWriter::new(io::stdout().lock());
    let damage = if arguments.state {
        dump_state(&disk, arguments, &mut output)
    } else if let Some(index) = arguments.snapshot {
        dump_snapshot(&disk, index, arguments, &mut output)
    } else {
        dump_log(&disk, arguments, &mut output)
    };
    let damage = damage?;
    output.flush()?;
    Ok(damage)
}

/// What an inspection came to: its damage, if that is why it ended.
fn damage_of(inspected: Result<wal::Inspection, OfflineError>) -> Result<Option<Damage>, OfflineError> {
    match inspected {
        Ok(_) => Ok(None),
        Err(OfflineError::Log(error)) => damage_in(error).map(Some),
        Err(other) => Err(other),
    }
}

fn dump_log(
    disk: &RealDisk,
    arguments: &DumpArgs,
    output: &mut BufWriter<StdoutLock<'_>>,
) -> Result<Option<Damage>, OfflineError> {
    damage_of(wal::inspect(disk, &mut |record| {
        if is_asked(record, arguments) {
            let line = Line::of(record);
            if arguments.json { write_json(output, &line)? } else { writeln!(output, "{}", line.text(record))? }
        }
        Ok::<(), OfflineError>(())
    }))
}

/// With a range, only its entries are shown, and what may have taken one of them back: a reset takes back whatever was
/// before it.
fn is_asked(record: &Inspected, arguments: &DumpArgs) -> bool {
    let (from, to) = (arguments.from.unwrap_or(0), arguments.to.unwrap_or(u64::MAX));
    match &record.replayed {
        _ if arguments.from.is_none() && arguments.to.is_none() => true,
        Some(Replayed::Entry(entry)) => (from..=to).contains(&entry.index.get()),
        Some(Replayed::Truncate { after }) => after.get() < to,
        Some(Replayed::Reset { .. }) => record.start.is_none(),
        _ => false,
    }
}

fn dump_state(
    disk: &RealDisk,
    arguments: &DumpArgs,
    output: &mut BufWriter<StdoutLock<'_>>,
) -> Result<Option<Damage>, OfflineError> {
    let (mut state, snapshots) = OfflineState::of_newest_snapshot(disk)?;
    let damage = damage_of(wal::inspect(disk, &mut |record| {
        state.take(record);
        Ok::<(), OfflineError>(())
    }))?;
    write_keys(&state, arguments, output)?;
    let undecided = state.last_index().get().saturating_sub(state.applied().get());
    if undecided > 0 && state.gap().is_none() && !state.is_obsolete() {
        output.flush()?;
        let (applied, entries) = (state.applied(), text::count(undecided, "entry", "entries"));
        eprintln!("quorate-server: the state is as of entry {applied}; {entries} behind it may be committed or not");
    }
    let contradiction = state.contradiction().map(|(place, reason)| Damage {
        file: place.file(),
        offset: place.offset,
        reason: reason.to_string(),
    });
    let gap = state.gap().map(|gap| Damage { file: FIRST_SEGMENT.file(), offset: 0, reason: gap.to_string() });
    let mut unsound = None;
    for file in &snapshots {
        unsound = damage_in_snapshot(file)?.or(unsound);
    }
    Ok(contradiction.or(damage).or(unsound).or(gap))
}

/// Prints the snapshot of `index`, or the newest: what it covers, and its keys.
fn dump_snapshot(
    disk: &RealDisk,
    index: Option<u64>,
    arguments: &DumpArgs,
    output: &mut BufWriter<StdoutLock<'_>>,
) -> Result<Option<Damage>, OfflineError> {
    let stored = snapshot::list(disk)?;
    let asked = |stored: &&Stored| index.is_none_or(|index| stored.index.get() == index);
    let Some(stored) = stored.into_iter().rev().find(|stored| asked(&stored)) else {
        return Err(OfflineError::NoSnapshot(index.map_or(String::new(), |index| format!(" of index {index}"))));
    };
    let state = match OfflineState::of_snapshot(disk, &stored) {
        Ok(state) => state,
        Err(problem) => return damage_in_snapshot(&SnapshotFile { stored, last_term: None, problem: Some(problem) }),
    };
    let header = SnapshotJson::of(&stored, Reader::open(disk, &stored.name)?.meta(), &state);
    if arguments.json {
        write_json(output, &header)?
    } else {
        writeln!(output, "{}", header.text())?
    }
    write_keys(&state, arguments, output)?;
    Ok(None)
}

fn write_keys(
    state: &OfflineState,
    arguments: &DumpArgs,
    output: &mut BufWriter<StdoutLock<'_>>,
) -> Result<(), OfflineError> {
    for record in state.store().iter() {
        if arguments.json {
            write_json(output, &Key::of(&record))?;
        } else {
            let KeyValue { key, value, create_revision, mod_revision, version } = &record;
            let (key, value) = (quoted(key), text::value(value));
            writeln!(output, "{key}  {value}, version {version}, revisions {create_revision} to {mod_revision}")?;
        }
    }
    Ok(())
}

fn write_json(output: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")
}

/// A key of the state in JSON, with its whole value.
#[derive(Serialize)]
struct Key {
    key: Shown,
    value: Shown,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
}

impl Key {
    fn of(record: &KeyValue) -> Key {
        Key {
            key: Shown::of(&record.key),
            value: Shown::of(&record.value),
            create_revision: record.create_revision.get(),
            mod_revision: record.mod_revision.get(),
            version: record.version,
        }
    }
}

/// What a snapshot is of, in JSON: the line before its keys.
#[derive(Serialize)]
struct SnapshotJson {
    file: String,
    bytes: u64,
    index: u64,
    /// The first index of each run of entries of one term, and the term.
    term_starts: Vec<[u64; 2]>,
    keys: u64,
    revision: u64,
    time_ms: u64,
    settings: SettingsJson,
    state_hash: String,
}

impl SnapshotJson {
    fn of(stored: &Stored, meta: &Meta, state: &OfflineState) -> SnapshotJson {
        let store = state.store();
        SnapshotJson {
            file: stored.name.clone(),
            bytes: stored.bytes,
            index: stored.index.get(),
            term_starts: meta.term_starts.iter().map(|(first, term)| [first.get(), term.get()]).collect(),
            keys: store.len() as u64,
            revision: store.revision().get(),
            time_ms: store.time_ms(),
            settings: SettingsJson::of(store.settings()),
            state_hash: format!("{:032x}", store.state_hash()),
        }
    }

    fn text(&self) -> String {
        let starts = self.term_starts.iter().map(|[first, term]| format!("{term} from entry {first}"));
        let terms = starts.collect::<Vec<_>>().join(", ");
        let (keys, bytes) = (text::count(self.keys, "key", "keys"), self.bytes);
        let SnapshotJson { file, index, revision, time_ms, settings, state_hash, .. } = self;
        format!(
            "{file}  {bytes} bytes, after entry {index}: {keys}, revision {revision}, time {time_ms} ms, {settings}, \
             state hash {state_hash}; terms: {terms}"
        )
    }
}

/// A record of the log in JSON: what does not belong to its kind is left out.
#[derive(Serialize, Default)]
struct Line {
    file: String,
    offset: u64,
    bytes: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hard_state: Option<HardStateJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<CommandJson>,
}

/// The command of an entry in JSON.
#[derive(Serialize, Default)]
struct CommandJson {
    operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_start: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_reads: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<RequestIdJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
}

/// The name of a write in JSON.
#[derive(Serialize)]
struct RequestIdJson {
    /// 32 hexadecimal digits.
    session: String,
    opened_at_ms: u64,
    sequence: u64,
    acknowledged_below: u64,
}

impl Line {
    fn of(record: &Inspected) -> Line {
        let (file, offset, bytes) = (record.place.file(), record.place.offset, record.bytes);
        let line = Line { file, offset, bytes, ..Line::default() };
        match (&record.start, &record.replayed) {
            (Some(start), _) => Line {
                kind: "start",
                next_index: Some(start.next_index.get()),
                hard_state: Some(HardStateJson::of(&start.hard_state)),
                ..line
            },
            (None, None) => Line { kind: "mark", ..line },
            (None, Some(Replayed::HardState(hard_state))) => {
                Line { kind: "hard_state", hard_state: Some(HardStateJson::of(hard_state)), ..line }
            }
            (None, Some(Replayed::Reset { last })) => Line { kind: "reset", after: Some(last.get()), ..line },
            (None, Some(Replayed::Truncate { after })) => Line { kind: "truncate", after: Some(after.get()), ..line },
            (None, Some(Replayed::Entry(entry))) => Line {
                kind: "entry",
                index: Some(entry.index.get()),
                term: Some(entry.term.get()),
                command: Some(CommandJson::of(&entry.payload)),
                ..line
            },
        }
    }

    fn text(&self, record: &Inspected) -> String {
        let what = match (&record.start, &record.replayed) {
            (Some(start), _) => {
                let (next, hard_state) = (start.next_index, text::hard_state(&start.hard_state));
                format!("start       of {} bytes, next entry {next}, {hard_state}", start.file_bytes)
            }
            (None, None) => "mark        all before it was synced".to_owned(),
            (None, Some(Replayed::HardState(hard_state))) => format!("hard state  {}", text::hard_state(hard_state)),
            (None, Some(Replayed::Reset { last })) => format!("reset       the log goes on behind entry {last}"),
            (None, Some(Replayed::Truncate { after })) => format!("truncate    all entries after {after}"),
            (None, Some(Replayed::Entry(Entry { index, term, payload }))) => {
                format!("entry       {index}, term {term}: {}", payload_text(payload))
            }
        };
        format!("{} {:>9}  {what}", self.file, self.offset)
    }
}

/// A command with the replicated time of its stamp, or why it is none that this program knows.
fn decode(encoded: &Bytes) -> Result<(u64, Request), String> {
    command::decode(encoded).map_err(|reason| reason.to_string())
}

fn payload_text(payload: &Payload) -> String {
    let Payload::Command(encoded) = payload else { return "no-op of a new leader".to_owned() };
    let (time_ms, Request { id, command }) = match decode(encoded) {
        Ok(decoded) => decoded,
        Err(reason) => return format!("{} that are no known command: {reason}", text::value(encoded)),
    };
    let what = match command {
        Command::Put { key, value, mode } => {
            let (name, expected) = mode_of(mode);
            let expected = expected.map_or(String::new(), |revision| format!(" to revision {revision}"));
            format!("put {} = {}, {name}{expected}", quoted(&key), text::value(&value))
        }
        Command::Delete { key, expected_revision, .. } => {
            let expected =
                expected_revision.map_or(String::new(), |revision| format!(", compare to revision {revision}"));
            format!("delete {}{expected}", quoted(&key))
        }
        Command::Settle => "settle".to_owned(),
        Command::Configure { lease_reads } => format!("configure {}", SettingsJson { lease_reads }),
    };
    let id = id.map_or(String::new(), |id| format!(", request {} of session {}", id.sequence, id.session));
    format!("{what}{id}, at {time_ms} ms")
}

fn mode_of(mode: PutMode) -> (&'static str, Option<u64>) {
    match mode {
        PutMode::Create => ("create", None),
        PutMode::Upsert => ("upsert", None),
        PutMode::Update => ("update", None),
        PutMode::Compare { expected_revision } => ("compare", Some(expected_revision.get())),
    }
}

impl CommandJson {
    fn of(payload: &Payload) -> CommandJson {
        let Payload::Command(encoded) = payload else {
            return CommandJson { operation: "noop", ..CommandJson::default() };
        };
        let (time_ms, Request { id, command }) = match decode(encoded) {
            Ok(decoded) => decoded,
            Err(reason) => {
                return CommandJson { operation: "unknown", unknown: Some(reason), ..CommandJson::default() };
            }
        };
        let request_id = id.map(|id| RequestIdJson {
            session: id.session.to_string(),
            opened_at_ms: id.opened_at_ms,
            sequence: id.sequence,
            acknowledged_below: id.acknowledged_below,
        });
        let stamped = CommandJson { time_ms: Some(time_ms), request_id, ..CommandJson::default() };
        match command {
            Command::Put { key, value, mode } => {
                let (mode, expected_revision) = mode_of(mode);
                CommandJson {
                    operation: "put",
                    key: Some(Shown::of(&key)),
                    mode: Some(mode),
                    expected_revision,
                    value_bytes: Some(value.len() as u64),
                    value_start: Some(Shown::of(start_of(&value))),
                    ..stamped
                }
            }
            Command::Delete { key, expected_revision, .. } => CommandJson {
                operation: "delete",
                key: Some(Shown::of(&key)),
                expected_revision: expected_revision.map(|revision| revision.get()),
                ..stamped
            },
            Command::Settle => CommandJson { operation: "settle", ..stamped },
            Command::Configure { lease_reads } => {
                CommandJson { operation: "configure", lease_reads: Some(lease_reads), ..stamped }
            }
        }
    }
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
