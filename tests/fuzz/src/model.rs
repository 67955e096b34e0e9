//! The store as a plain map, and its commands read by their document alone: what the real ones are compared with.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::kv::{
    Applied, Command, KEY_BYTES_MAX, KeyValue, PutMode, Rejection, Revision, UnknownCommand, VALUE_BYTES_MAX,
};

/// A key's value and history.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Record {
    value: Bytes,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
}

/// The reference model: one map.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    records: BTreeMap<Vec<u8>, Record>,
    pub(crate) revision: u64,
    pub(crate) time_ms: u64,
}

impl Model {
    pub(crate) fn new() -> Model {
        Model { records: BTreeMap::new(), revision: 1, time_ms: 0 }
    }

    /// What the store must answer.
    pub(crate) fn apply(&mut self, time_ms: u64, command: &Command) -> Applied {
        self.time_ms = self.time_ms.max(time_ms);
        let key = command.key().to_vec();
        let current = self.records.get(&key).cloned();
        match command {
            Command::Put { value, mode, .. } => {
                let rejection = match (mode, &current) {
                    (PutMode::Create, Some(record)) => {
                        Some(Rejection::KeyExists { mod_revision: Revision::new(record.mod_revision) })
                    }
                    (PutMode::Update | PutMode::Compare { .. }, None) => Some(Rejection::KeyNotFound),
                    (PutMode::Compare { expected_revision }, Some(record)) => mismatch(record, *expected_revision),
                    (PutMode::Create | PutMode::Upsert, None) | (PutMode::Upsert | PutMode::Update, Some(_)) => None,
                };
                if let Some(rejection) = rejection {
                    return Applied::Rejected(rejection);
                }
                self.revision += 1;
                let (create_revision, version) =
                    current.map_or((self.revision, 1), |record| (record.create_revision, record.version + 1));
                let record = Record { value: value.clone(), create_revision, mod_revision: self.revision, version };
                self.records.insert(key, record);
                Applied::Put { revision: Revision::new(self.revision), version }
            }
            Command::Delete { expected_revision, return_previous, .. } => {
                let Some(record) = current else { return Applied::Rejected(Rejection::KeyNotFound) };
                if let Some(rejection) = expected_revision.and_then(|expected| mismatch(&record, expected)) {
                    return Applied::Rejected(rejection);
                }
                self.revision += 1;
                self.records.remove(&key);
                let previous = return_previous.then(|| key_value(&key, &record));
                Applied::Deleted { revision: Revision::new(self.revision), previous }
            }
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.records.get(key).map(|record| key_value(key, record))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = KeyValue> + '_ {
        self.records.iter().map(|(key, record)| key_value(key, record))
    }
}

fn mismatch(record: &Record, expected: Revision) -> Option<Rejection> {
    let actual = Revision::new(record.mod_revision);
    (actual != expected).then_some(Rejection::RevisionMismatch { expected, actual })
}

fn key_value(key: &[u8], record: &Record) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        value: record.value.clone(),
        create_revision: Revision::new(record.create_revision),
        mod_revision: Revision::new(record.mod_revision),
        version: record.version,
    }
}

/// Reads a command by the table in the document of its format: version 1, strictly.
pub(crate) fn decode(encoded: &[u8]) -> Result<(u64, Command), UnknownCommand> {
    let cut = UnknownCommand::Truncated;
    let byte = |at: usize| encoded.get(at).copied().ok_or(cut);
    let version = byte(0)?;
    if version != 1 {
        return Err(UnknownCommand::Version(version));
    }
    let (operation, detail) = (byte(1)?, byte(2)?);
    let is_put = match operation {
        1 if detail <= 3 => true,
        1 => return Err(UnknownCommand::Mode(detail)),
        2 if detail <= 3 => false,
        2 => return Err(UnknownCommand::Flags(detail)),
        other => return Err(UnknownCommand::Operation(other)),
    };
    let mut at = 3;
    let mut integer = |count: usize| {
        let field = encoded.get(at..at + count).ok_or(cut)?;
        at += count;
        Ok(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let time_ms = integer(8)?;
    let expects = if is_put { detail == 3 } else { detail & 1 == 1 };
    let expected_revision = if expects { Some(Revision::new(integer(8)?)) } else { None };
    let length = |number: u64| usize::try_from(number).expect("four bytes fit");
    let key_bytes = length(integer(2)?);
    if key_bytes == 0 || key_bytes > KEY_BYTES_MAX {
        return Err(UnknownCommand::KeyLength(key_bytes));
    }
    let value_bytes = if is_put { length(integer(4)?) } else { 0 };
    if value_bytes > VALUE_BYTES_MAX {
        return Err(UnknownCommand::ValueLength(value_bytes));
    }
    let behind = encoded.get(at..).unwrap_or_default();
    let (Some(key), Some(value)) = (behind.get(..key_bytes), behind.get(key_bytes..key_bytes + value_bytes)) else {
        return Err(cut);
    };
    let more = behind.len() - key_bytes - value_bytes;
    if more > 0 {
        return Err(UnknownCommand::TrailingBytes(more));
    }
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    let mode = match (detail, expected_revision) {
        (0, _) => PutMode::Create,
        (1, _) => PutMode::Upsert,
        (_, Some(expected_revision)) => PutMode::Compare { expected_revision },
        (_, None) => PutMode::Update,
    };
    let command = if is_put {
        Command::Put { key, value, mode }
    } else {
        Command::Delete { key, expected_revision, return_previous: detail & 2 != 0 }
    };
    Ok((time_ms, command))
}
