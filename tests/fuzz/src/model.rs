//! The store as a plain map with its sessions, and its commands read by their document alone: what the real ones are
//! compared with, here and in the simulator.

mod sessions;

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::kv::{
    Applied, Command, InvalidRequestId, KEY_BYTES_MAX, KeyValue, PutMode, Rejection, Request, RequestId, Revision,
    SessionId, SessionLimits, Settings, UnknownCommand, VALUE_BYTES_MAX,
};

pub use sessions::{Dropped, Sessions};

/// A key's value and history.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Record {
    value: Bytes,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
}

/// The reference model: one map, and the sessions.
#[derive(Clone, Debug)]
pub struct Model {
    records: BTreeMap<Vec<u8>, Record>,
    /// The sessions of clients.
    pub sessions: Sessions,
    /// The settings of the cluster.
    pub settings: Settings,
    /// How many commands changed a key, counted from 1.
    pub revision: u64,
    /// Replicated time, in milliseconds.
    pub time_ms: u64,
    /// Whether the last command was run, be it that its condition did not hold; else it was answered without.
    pub has_run: bool,
}

impl Model {
    /// The empty store.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Model {
        let (records, sessions, settings) = (BTreeMap::new(), Sessions::new(limits), Settings { lease_reads: false });
        Model { records, sessions, settings, revision: 1, time_ms: 0, has_run: false }
    }

    /// What the store must answer.
    pub fn apply(&mut self, time_ms: u64, request: &Request) -> Applied {
        self.time_ms = self.time_ms.max(time_ms);
        self.sessions.expire(self.time_ms);
        self.has_run = false;
        let Some(id) = &request.id else { return self.run(&request.command) };
        if let Err(answer) = self.sessions.look_up(id, &request.command, self.time_ms) {
            return answer;
        }
        let applied = self.run(&request.command);
        self.sessions.keep(id, &request.command, &applied);
        applied
    }

    fn run(&mut self, command: &Command) -> Applied {
        self.has_run = true;
        if let Command::Configure { lease_reads } = command {
            self.settings = Settings { lease_reads: *lease_reads };
            return Applied::Configured { settings: self.settings };
        }
        let key = command.key().expect("a settlement is answered by the sessions").to_vec();
        let current = self.records.get(&key).cloned();
        match command {
            Command::Settle | Command::Configure { .. } => unreachable!("it has no key"),
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

    /// What there is under a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.records.get(key).map(|record| key_value(key, record))
    }

    /// Every key with its value, in order.
    pub fn iter(&self) -> impl Iterator<Item = KeyValue> + '_ {
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

/// Reads a command by the table in the document of its format: versions 1 and 2, strictly.
pub(crate) fn decode(encoded: &[u8]) -> Result<(u64, Request), UnknownCommand> {
    let mut fields = Fields { encoded, at: 0 };
    let version = fields.integer(1)?;
    if !(1..=2).contains(&version) {
        return Err(UnknownCommand::Version(u8::try_from(version).expect("it is one byte")));
    }
    let (operation, detail) = (fields.byte()?, fields.byte()?);
    match operation {
        1 if detail > 3 => return Err(UnknownCommand::Mode(detail)),
        2 if detail > 3 => return Err(UnknownCommand::Flags(detail)),
        3 if detail > 0 => return Err(UnknownCommand::Detail(detail)),
        4 if detail > 1 => return Err(UnknownCommand::Setting(detail)),
        1..=4 => {}
        other => return Err(UnknownCommand::Operation(other)),
    }
    let time_ms = fields.integer(8)?;
    let id = if version == 2 { Some(fields.request_id()?) } else { None };
    let command = match operation {
        3 if id.is_none() => return Err(UnknownCommand::NothingToSettle),
        3 => Command::Settle,
        4 => Command::Configure { lease_reads: detail == 1 },
        _ => fields.change(operation == 1, detail)?,
    };
    match fields.encoded.len() - fields.at {
        0 => Ok((time_ms, Request { id, command })),
        more => Err(UnknownCommand::TrailingBytes(more)),
    }
}

/// The bytes of a command, and how many of them were read.
struct Fields<'a> {
    encoded: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn bytes(&mut self, count: usize) -> Result<&[u8], UnknownCommand> {
        let bytes = self.encoded.get(self.at..self.at + count).ok_or(UnknownCommand::Truncated)?;
        self.at += count;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, UnknownCommand> {
        Ok(self.bytes(1)?[0])
    }

    /// A number of up to eight bytes.
    fn integer(&mut self, count: usize) -> Result<u64, UnknownCommand> {
        Ok(self.bytes(count)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn request_id(&mut self) -> Result<RequestId, UnknownCommand> {
        let (low, high) = (self.integer(8)?, self.integer(8)?);
        let (opened_at_ms, sequence, acknowledged_below) = (self.integer(8)?, self.integer(8)?, self.integer(8)?);
        if sequence == 0 {
            return Err(UnknownCommand::RequestId(InvalidRequestId::SequenceZero));
        }
        if acknowledged_below > sequence {
            let ahead = InvalidRequestId::AcknowledgedAhead { sequence, acknowledged_below };
            return Err(UnknownCommand::RequestId(ahead));
        }
        let session = SessionId::new(u128::from(high) << 64 | u128::from(low));
        Ok(RequestId { session, opened_at_ms, sequence, acknowledged_below })
    }

    /// A put or a delete, behind its request id.
    fn change(&mut self, is_put: bool, detail: u8) -> Result<Command, UnknownCommand> {
        let expects = if is_put { detail == 3 } else { detail & 1 == 1 };
        let expected_revision = if expects { Some(Revision::new(self.integer(8)?)) } else { None };
        let length = |number: u64| usize::try_from(number).expect("four bytes fit");
        let key_bytes = length(self.integer(2)?);
        if key_bytes == 0 || key_bytes > KEY_BYTES_MAX {
            return Err(UnknownCommand::KeyLength(key_bytes));
        }
        let value_bytes = if is_put { length(self.integer(4)?) } else { 0 };
        if value_bytes > VALUE_BYTES_MAX {
            return Err(UnknownCommand::ValueLength(value_bytes));
        }
        let key = Bytes::copy_from_slice(self.bytes(key_bytes)?);
        let value = Bytes::copy_from_slice(self.bytes(value_bytes)?);
        let mode = match (detail, expected_revision) {
            (0, _) => PutMode::Create,
            (1, _) => PutMode::Upsert,
            (_, Some(expected_revision)) => PutMode::Compare { expected_revision },
            (_, None) => PutMode::Update,
        };
        Ok(if is_put {
            Command::Put { key, value, mode }
        } else {
            Command::Delete { key, expected_revision, return_previous: detail & 2 != 0 }
        })
    }
}
