//! The store: the ordered map that committed commands are applied to.

use bytes::Bytes;
use raft::Index;

use super::command::{self, Command, PutMode, Request, UnknownCommand};
use super::hash::{header_hash, record_hash, settings_hash};
use super::image::Image;
use super::key_map::KeyMap;
use super::record::{Applied, KeyValue, Record, Rejection, Revision};
use super::sessions::{Known, RequestId, SessionLimits, Sessions};
use super::settings::Settings;

/// The state that commands make. Cloning costs nothing that depends on its size: a clone is a snapshot that shares all
/// of the state and stays as it is while the original goes on.
#[derive(Clone, Debug)]
pub struct Store {
    /// Key and value are slices of the command that wrote them last, and of no other.
    pub(super) records: KeyMap<Record>,
    /// The wrapping sum of [`record_hash`] over `records`.
    pub(super) records_hash: u128,
    pub(super) revision: Revision,
    pub(super) time_ms: u64,
    pub(super) last_index: Index,
    pub(super) sessions: Sessions,
    pub(super) settings: Settings,
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl Store {
    /// The empty store, at [`Revision::FIRST`] and time 0.
    pub fn new() -> Store {
        Store::with_limits(SessionLimits::default())
    }

    /// The same, with other limits for sessions than the usual ones.
    pub fn with_limits(limits: SessionLimits) -> Store {
        Store {
            records: KeyMap::new(),
            records_hash: 0,
            revision: Revision::FIRST,
            time_ms: 0,
            last_index: Index::ZERO,
            sessions: Sessions::new(limits),
            settings: Settings::default(),
        }
    }

    /// Applies the committed command at `index` of the log.
    ///
    /// # Errors
    ///
    /// The command is not of this version; nothing was changed, and the node must stop.
    ///
    /// # Panics
    ///
    /// If `index` is not above that of every command before it: a command would be applied twice.
    pub fn apply(&mut self, index: Index, encoded: &Bytes) -> Result<Applied, UnknownCommand> {
        assert!(
            index > self.last_index,
            "the command at index {index} came after the one at {}: each is applied once, in order",
            self.last_index
        );
        let (time_ms, Request { id, command }) = command::decode(encoded)?;
        self.last_index = index;
        // A new leader's clock may be behind what an old one stamped; time in the state never goes back.
        self.time_ms = self.time_ms.max(time_ms);
        self.sessions.expire(self.time_ms);
        Ok(match id {
            Some(id) => self.run_once(&id, command, encoded),
            None => self.run(command),
        })
    }

    /// Runs a command unless it was run before.
    fn run_once(&mut self, id: &RequestId, command: Command, encoded: &Bytes) -> Applied {
        if let Err(refusal) = self.sessions.admit(id, self.time_ms) {
            return Applied::Refused(refusal);
        }
        if matches!(command, Command::Settle) {
            return self.sessions.settle(id).map_or_else(Applied::Refused, Applied::Settled);
        }
        let body = command::body_hash(encoded);
        match self.sessions.known(id, body) {
            Known::Result(applied) => applied,
            Known::Refused(refusal) => Applied::Refused(refusal),
            Known::New => {
                let applied = self.run(command);
                self.sessions.keep(id, body, applied.clone());
                applied
            }
        }
    }

    fn run(&mut self, command: Command) -> Applied {
        let outcome = match command {
            Command::Put { key, value, mode } => self.put(key, value, mode),
            Command::Delete { key, expected_revision, return_previous } => {
                self.delete(&key, expected_revision, return_previous)
            }
            Command::Settle => unreachable!("a command without a request id asks for no outcome: decoding sees to it"),
            Command::Configure { lease_reads } => {
                self.settings.lease_reads = lease_reads;
                Ok(Applied::Configured { settings: self.settings })
            }
        };
        outcome.unwrap_or_else(Applied::Rejected)
    }

    fn put(&mut self, key: Bytes, value: Bytes, mode: PutMode) -> Result<Applied, Rejection> {
        let existing = self.records.get(&key);
        match (mode, existing) {
            (PutMode::Create, None) | (PutMode::Upsert, _) | (PutMode::Update, Some(_)) => {}
            (PutMode::Create, Some(record)) => {
                return Err(Rejection::KeyExists { mod_revision: record.mod_revision });
            }
            (PutMode::Update | PutMode::Compare { .. }, None) => return Err(Rejection::KeyNotFound),
            (PutMode::Compare { expected_revision }, Some(record)) => expect_revision(record, expected_revision)?,
        }
        let revision = self.revision.next();
        let record = Record {
            value,
            create_revision: existing.map_or(revision, |record| record.create_revision),
            mod_revision: revision,
            // Versions never outrun revisions, which are checked.
            version: existing.map_or(0, |record| record.version) + 1,
        };
        let version = record.version;
        let removed_hash = existing.map_or(0, |existing| record_hash(&key, existing));
        let added_hash = record_hash(&key, &record);
        self.records_hash = self.records_hash.wrapping_sub(removed_hash).wrapping_add(added_hash);
        self.records.insert(key, record);
        self.revision = revision;
        Ok(Applied::Put { revision, version })
    }

    fn delete(
        &mut self,
        key: &Bytes,
        expected_revision: Option<Revision>,
        return_previous: bool,
    ) -> Result<Applied, Rejection> {
        let record = self.records.get(key).ok_or(Rejection::KeyNotFound)?;
        if let Some(expected_revision) = expected_revision {
            expect_revision(record, expected_revision)?;
        }
        let previous = return_previous.then(|| record.to_key_value(key));
        self.records_hash = self.records_hash.wrapping_sub(record_hash(key, record));
        self.records.remove(key);
        self.revision = self.revision.next();
        Ok(Applied::Deleted { revision: self.revision, previous })
    }

    /// What the store holds for `key`.
    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.records.get_key_value(key).map(|(key, record)| record.to_key_value(key))
    }

    /// Every key with its value, in ascending order of the keys' bytes.
    pub fn iter(&self) -> impl Iterator<Item = KeyValue> + '_ {
        self.records.iter().map(|(key, record)| record.to_key_value(key))
    }

    /// The number of commands that changed a key, counted from [`Revision::FIRST`].
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    /// The replicated time, in milliseconds since the cluster's first leader was elected: the greatest stamp of the
    /// commands applied.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// The index of the last command applied, or zero.
    pub fn last_index(&self) -> Index {
        self.last_index
    }

    /// The settings of the cluster.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The number of sessions of clients.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Forgets all sessions, as for a new cluster: whatever was opened so far is told that it has expired, and what is
    /// opened from now on, at a later time, is new.
    pub(crate) fn forget_sessions(&mut self) {
        // What a file says of the time may be anything.
        self.time_ms = self.time_ms.saturating_add(1);
        self.sessions.forget(self.time_ms);
    }

    /// Begins to write the state out as it is now. Costs as little as a clone.
    pub fn image(&self) -> Image {
        Image::new(self.clone())
    }

    /// The hash over all of the state, equal on every replica that applied the same log. Costs nothing: it is kept as
    /// commands are applied.
    pub fn state_hash(&self) -> u128 {
        // Naming every field makes a new one break the build here until somebody decides whether it is part of the
        // state. The last index is not: it says how far the log was applied, which whoever compares must know anyway.
        let Store { records: _, records_hash, revision, time_ms, last_index: _, sessions, settings } = self;
        let beside = header_hash(*revision, *time_ms).wrapping_add(settings_hash(*settings));
        records_hash.wrapping_add(beside).wrapping_add(sessions.hash())
    }

    /// The same hash, computed afresh by a walk over the whole state. If it differs from [`Store::state_hash`], memory
    /// was damaged or the hash is not kept rightly.
    pub fn recompute_hash(&self) -> u128 {
        let beside = header_hash(self.revision, self.time_ms)
            .wrapping_add(settings_hash(self.settings))
            .wrapping_add(self.sessions.recompute_hash());
        self.records.iter().fold(beside, |sum, (key, record)| sum.wrapping_add(record_hash(key, record)))
    }
}

/// Whether the last write of a key has the revision that a command expects.
fn expect_revision(record: &Record, expected: Revision) -> Result<(), Rejection> {
    let actual = record.mod_revision;
    if actual == expected { Ok(()) } else { Err(Rejection::RevisionMismatch { expected, actual }) }
}
