//! The state as sections of bytes, and back: what a snapshot keeps of the store.
//!
//! # Format, version 1
//!
//! One section with [`HEADER_TAG`], then one with [`SETTINGS_TAG`], if any setting is not as it is in the beginning,
//! then any number with [`RECORDS_TAG`], then those of `sessions/image.rs`, if there are or were any sessions. All
//! integers are little-endian; fields follow each other without padding.
//!
//! | bytes | header |
//! |---|---|
//! | 8 | the store's revision, from 1 to one above the last index |
//! | 8 | its time in milliseconds |
//! | 8 | the index of the last command applied, 0 if there was none |
//! | 8 | number of keys |
//! | 16 | the state hash |
//!
//! | bytes | settings |
//! |---|---|
//! | 1 | lease reads: 0 off, 1 on |
//!
//! A section of records holds whole records, one behind the other, in ascending order of their keys through all
//! sections. Where one section ends and the next begins means nothing.
//!
//! | bytes | record |
//! |---|---|
//! | 2 | length of the key, 1 to 1,024 |
//! | 4 | length of the value, 0 to 1,048,576 |
//! | 8 | create revision, 2 or above |
//! | 8 | mod revision, from the create revision to that of the store |
//! | 8 | version, from 1 to one above the difference of the two; 1 if and only if they are the same |
//! | n | key |
//! | n | value |
//!
//! Both ways compute the state hash afresh: what is written out is what the hash stood for all the time, or it is not
//! called complete, and so with what is read.

use bytes::Bytes;
use raft::Index;
use thiserror::Error;

use super::hash::{header_hash, record_hash, settings_hash};
use super::key_map::KeyMap;
use super::record::{Record, Revision};
use super::sessions::SessionLimits;
use super::sessions::image::{
    Frame, Progress, RESULTS_TAG, SESSIONS_HEADER_TAG, SESSIONS_TAG, SessionsLoader, next_section,
};
use super::settings::{SETTINGS_BYTES, Settings};
use super::store::Store;
use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// The tag of the section that comes first.
pub const HEADER_TAG: u32 = 16;

/// The tag of a section of records.
pub const RECORDS_TAG: u32 = 17;

/// The tag of the section of the settings.
pub const SETTINGS_TAG: u32 = 21;

/// A section of records is closed once it is at least so long, in bytes: a piece of work of a fraction of a
/// millisecond. A large last record makes it longer, by [`KEY_BYTES_MAX`] and [`VALUE_BYTES_MAX`] at most.
const SECTION_BYTES: usize = 256 << 10;

const HEADER_BYTES: usize = 48;

/// The fields of a record before its key, in bytes.
const RECORD_HEAD_BYTES: usize = 30;

/// Why a state cannot be written out or taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ImageError {
    /// A section of a kind that this version does not have.
    #[error("section tag {0} is unknown")]
    UnknownSection(u32),
    /// The header is missing, comes twice, or not first.
    #[error("there is not one header in front of the records")]
    HeaderPlace,
    /// The header has another length than any.
    #[error("a header of {0} bytes does not exist")]
    HeaderLength(usize),
    /// The header names a revision that no store has after so many commands.
    #[error("the header's revision {0} is that of no such store")]
    HeaderRevision(Revision),
    /// The settings are none that commands made beside the writes, or those that need no section.
    #[error("the settings are those of no such state")]
    Settings,
    /// A section ends within a record.
    #[error("a record is cut off")]
    Truncated,
    /// A key is empty or longer than [`KEY_BYTES_MAX`].
    #[error("a key of {0} bytes is out of bounds")]
    KeyLength(usize),
    /// A value is longer than [`VALUE_BYTES_MAX`].
    #[error("a value of {0} bytes is out of bounds")]
    ValueLength(usize),
    /// A key is not above the one before it.
    #[error("key number {0} is not above the one before it")]
    KeyOrder(u64),
    /// Revisions and version of a key are such as no writes can have made.
    #[error("key number {0} has revisions that no writes made")]
    Revisions(u64),
    /// There are more or fewer keys than the header says.
    #[error("there are {found} keys, and the header says {expected}")]
    KeyCount {
        /// How many there are (so far).
        found: u64,
        /// How many the header says.
        expected: u64,
    },
    /// A section comes where it cannot be.
    #[error("a section with tag {0} is not in its place")]
    SectionPlace(u32),
    /// A session is none that commands made, or not above the one before it; number 0 is the mark in front of them.
    #[error("session number {0} is that of no such state")]
    Session(u64),
    /// A result that a session keeps is none that commands made, or not above the one before it.
    #[error("result number {0} of the sessions is that of no such state")]
    SessionResult(u64),
    /// There are more or fewer sessions or results than their header says.
    #[error("there are other numbers of sessions or of their results than their header says")]
    SessionCounts,
    /// The hash over the records is not the one that was kept: the memory of the node that wrote it out or of this one
    /// is damaged, or the hash was not kept rightly.
    #[error("the state has the hash {found:032x} and not {expected:032x}")]
    Hash {
        /// The hash that was kept.
        expected: u128,
        /// The hash of what was found.
        found: u128,
    },
}

/// A section of a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section<'a> {
    /// [`HEADER_TAG`], [`SETTINGS_TAG`], [`RECORDS_TAG`], or one of those of sessions.
    pub tag: u32,
    /// What it says.
    pub bytes: &'a [u8],
}

/// Writes a store out, section by section. It keeps the state as it was when it was made, and shares it with the store
/// that goes on: only what is changed meanwhile takes memory twice.
pub struct Image {
    store: Store,
    next: Next,
    /// The hash over what was written out so far.
    hash: u128,
    buffer: Vec<u8>,
}

enum Next {
    Header,
    Settings,
    /// The records above a key, or all of them.
    RecordsAfter(Option<Bytes>),
    Sessions(Progress),
}

impl Image {
    pub(super) fn new(store: Store) -> Image {
        let hash = header_hash(store.revision, store.time_ms)
            .wrapping_add(settings_hash(store.settings))
            .wrapping_add(store.sessions.mark_hash());
        Image { store, next: Next::Header, hash, buffer: Vec::new() }
    }

    /// The index of the last command in the state, 0 if there is none.
    pub fn last_index(&self) -> Index {
        self.store.last_index()
    }

    /// The next section; a fraction of a millisecond of work. `None` when there is no more, and what was written out
    /// has the hash that the store kept.
    ///
    /// # Errors
    /// [`ImageError::Hash`] instead of the end if it has another: what was written out must not be used, and the node
    /// must stop.
    pub fn next_section(&mut self) -> Result<Option<Section<'_>>, ImageError> {
        self.buffer.clear();
        match std::mem::replace(&mut self.next, Next::Sessions(Progress::End)) {
            Next::Header => {
                self.header();
                // Without any the image is that of a state from before there were settings.
                let has_settings = self.store.settings != Settings::default();
                self.next = if has_settings { Next::Settings } else { Next::RecordsAfter(None) };
                Ok(Some(Section { tag: HEADER_TAG, bytes: &self.buffer }))
            }
            Next::Settings => {
                self.buffer.extend_from_slice(&self.store.settings.to_bytes());
                self.next = Next::RecordsAfter(None);
                Ok(Some(Section { tag: SETTINGS_TAG, bytes: &self.buffer }))
            }
            Next::RecordsAfter(after) => match self.records(after.as_deref()) {
                Some(last) => {
                    self.next = Next::RecordsAfter(Some(last));
                    Ok(Some(Section { tag: RECORDS_TAG, bytes: &self.buffer }))
                }
                None => self.sessions(Progress::Header),
            },
            Next::Sessions(progress) => self.sessions(progress),
        }
    }

    fn sessions(&mut self, mut progress: Progress) -> Result<Option<Section<'_>>, ImageError> {
        let tag = next_section(&self.store.sessions, &mut progress, &mut self.hash, &mut self.buffer);
        self.next = Next::Sessions(progress);
        match tag {
            Some(tag) => Ok(Some(Section { tag, bytes: &self.buffer })),
            None => self.check(),
        }
    }

    fn check<T>(&self) -> Result<Option<T>, ImageError> {
        let (expected, found) = (self.store.state_hash(), self.hash);
        if expected == found { Ok(None) } else { Err(ImageError::Hash { expected, found }) }
    }

    fn header(&mut self) {
        // Naming every field makes a new one break the build here until somebody decides how it is kept.
        let Store { records, records_hash: _, revision, time_ms, last_index, sessions: _, settings: _ } = &self.store;
        for number in [revision.get(), *time_ms, last_index.get(), records.len() as u64] {
            self.buffer.extend_from_slice(&number.to_le_bytes());
        }
        self.buffer.extend_from_slice(&self.store.state_hash().to_le_bytes());
    }

    /// Writes out records above a key. Returns the key of the last of them, if there is any.
    fn records(&mut self, after: Option<&[u8]>) -> Option<Bytes> {
        let records = &self.store.records;
        let mut last = None;
        for (key, record) in after.map_or_else(|| records.iter(), |after| records.iter_after(after)) {
            encode_record(key, record, &mut self.buffer);
            self.hash = self.hash.wrapping_add(record_hash(key, record));
            last = Some(key);
            if self.buffer.len() >= SECTION_BYTES {
                break;
            }
        }
        last.cloned()
    }
}

fn encode_record(key: &Bytes, record: &Record, buffer: &mut Vec<u8>) {
    // Naming every field makes a new one break the build here until somebody decides how it is kept.
    let Record { value, create_revision, mod_revision, version } = record;
    let key_bytes = u16::try_from(key.len()).expect("a key in the store has at most 1,024 bytes");
    let value_bytes = u32::try_from(value.len()).expect("a value in the store has at most a mebibyte");
    buffer.extend_from_slice(&key_bytes.to_le_bytes());
    buffer.extend_from_slice(&value_bytes.to_le_bytes());
    buffer.extend_from_slice(&create_revision.get().to_le_bytes());
    buffer.extend_from_slice(&mod_revision.get().to_le_bytes());
    buffer.extend_from_slice(&version.to_le_bytes());
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(value);
}

/// Takes a store in, section by section. Any bytes may be given; it takes no more memory than they have, times a small
/// number.
pub struct ImageLoader {
    header: Option<Header>,
    settings: Option<Settings>,
    records: KeyMap<Record>,
    records_hash: u128,
    count: u64,
    last_key: Bytes,
    sessions: SessionsLoader,
    failed: Option<ImageError>,
}

impl Default for ImageLoader {
    fn default() -> ImageLoader {
        ImageLoader::new()
    }
}

struct Header {
    revision: Revision,
    time_ms: u64,
    last_index: Index,
    key_count: u64,
    state_hash: u128,
}

impl ImageLoader {
    /// A loader that has seen nothing.
    #[must_use]
    pub fn new() -> ImageLoader {
        ImageLoader::with_limits(SessionLimits::default())
    }

    /// The same, for a store with other limits for sessions than the usual ones.
    #[must_use]
    pub fn with_limits(limits: SessionLimits) -> ImageLoader {
        ImageLoader {
            header: None,
            settings: None,
            records: KeyMap::new(),
            records_hash: 0,
            count: 0,
            last_key: Bytes::new(),
            sessions: SessionsLoader::new(limits),
            failed: None,
        }
    }

    /// Takes the next section.
    ///
    /// # Errors
    /// The section is none that [`Image`] wrote, or not the next one. After an error every call gives that error again.
    pub fn section(&mut self, tag: u32, bytes: &[u8]) -> Result<(), ImageError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let outcome = match tag {
            HEADER_TAG => self.header(bytes),
            SETTINGS_TAG => self.settings(bytes),
            RECORDS_TAG => self.records(bytes),
            SESSIONS_HEADER_TAG => self.frame().and_then(|frame| self.sessions.header(bytes, frame)),
            SESSIONS_TAG => self.frame().and_then(|frame| self.sessions.sessions(bytes, frame)),
            RESULTS_TAG => self.frame().and_then(|frame| self.sessions.results(bytes, frame)),
            tag => Err(ImageError::UnknownSection(tag)),
        };
        self.failed = outcome.err();
        outcome
    }

    /// The store, if all of it was there.
    ///
    /// # Errors
    /// The header or keys are missing, the hash is another, or an earlier call gave an error.
    pub fn finish(self) -> Result<Store, ImageError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let header = self.header.ok_or(ImageError::HeaderPlace)?;
        if self.count != header.key_count {
            return Err(ImageError::KeyCount { found: self.count, expected: header.key_count });
        }
        let store = Store {
            records: self.records,
            records_hash: self.records_hash,
            revision: header.revision,
            time_ms: header.time_ms,
            last_index: header.last_index,
            sessions: self.sessions.finish()?,
            settings: self.settings.unwrap_or_default(),
        };
        let (expected, found) = (header.state_hash, store.state_hash());
        if expected == found { Ok(store) } else { Err(ImageError::Hash { expected, found }) }
    }

    /// What sessions have to fit; they come behind the header.
    fn frame(&self) -> Result<Frame, ImageError> {
        let header = self.header.as_ref().ok_or(ImageError::HeaderPlace)?;
        Ok(Frame { time_ms: header.time_ms, revision: header.revision })
    }

    fn header(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        if self.header.is_some() {
            return Err(ImageError::HeaderPlace);
        }
        let fields: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| ImageError::HeaderLength(bytes.len()))?;
        let mut fields = Fields { rest: fields };
        let header = Header {
            revision: Revision::new(fields.u64()?),
            time_ms: fields.u64()?,
            last_index: Index::new(fields.u64()?),
            key_count: fields.u64()?,
            state_hash: fields.array().map(u128::from_le_bytes)?,
        };
        // A command makes one revision at most, and each has an index of its own.
        let commands_min = header.revision.get().checked_sub(Revision::FIRST.get());
        if commands_min.is_none_or(|commands_min| commands_min > header.last_index.get()) {
            return Err(ImageError::HeaderRevision(header.revision));
        }
        self.header = Some(header);
        Ok(())
    }

    fn settings(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let header = self.header.as_ref().ok_or(ImageError::HeaderPlace)?;
        if self.settings.is_some() || self.count > 0 || self.sessions.has_begun() {
            return Err(ImageError::SectionPlace(SETTINGS_TAG));
        }
        let bytes: &[u8; SETTINGS_BYTES] = bytes.try_into().map_err(|_| ImageError::Settings)?;
        let settings = Settings::of_bytes(*bytes).filter(|settings| *settings != Settings::default());
        // Whoever changed a setting made an entry of the log and no revision.
        let has_command = header.revision.get() <= header.last_index.get();
        self.settings = Some(settings.filter(|_| has_command).ok_or(ImageError::Settings)?);
        Ok(())
    }

    fn records(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let header = self.header.as_ref().ok_or(ImageError::HeaderPlace)?;
        let (revision, key_count) = (header.revision, header.key_count);
        if self.sessions.has_begun() {
            return Err(ImageError::SectionPlace(RECORDS_TAG));
        }
        let mut fields = Fields { rest: bytes };
        while !fields.rest.is_empty() {
            let number = self.count + 1;
            let (key, record) = fields.record(number, revision)?;
            if self.count > 0 && key <= self.last_key {
                return Err(ImageError::KeyOrder(number));
            }
            if number > key_count {
                return Err(ImageError::KeyCount { found: number, expected: key_count });
            }
            self.records_hash = self.records_hash.wrapping_add(record_hash(&key, &record));
            self.last_key = key.clone();
            self.count = number;
            self.records.insert(key, record);
        }
        Ok(())
    }
}

/// Reads fields from the front of a section; the end may come anywhere.
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], ImageError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ImageError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ImageError> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(ImageError::Truncated)?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn u64(&mut self) -> Result<u64, ImageError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next record, which is key number `number`, of a store at `revision`. It is copied: it must not keep the
    /// section in memory.
    fn record(&mut self, number: u64, revision: Revision) -> Result<(Bytes, Record), ImageError> {
        if self.rest.len() < RECORD_HEAD_BYTES {
            return Err(ImageError::Truncated);
        }
        let key_bytes = usize::from(self.array().map(u16::from_le_bytes)?);
        let value_bytes = usize::try_from(self.array().map(u32::from_le_bytes)?).unwrap_or(usize::MAX);
        let (create_revision, mod_revision, version) = (self.u64()?, self.u64()?, self.u64()?);
        if !(1..=KEY_BYTES_MAX).contains(&key_bytes) {
            return Err(ImageError::KeyLength(key_bytes));
        }
        if value_bytes > VALUE_BYTES_MAX {
            return Err(ImageError::ValueLength(value_bytes));
        }
        let is_possible = Revision::FIRST.get() < create_revision
            && create_revision <= mod_revision
            && mod_revision <= revision.get()
            && version >= 1
            && version - 1 <= mod_revision - create_revision
            && (version == 1) == (create_revision == mod_revision);
        if !is_possible {
            return Err(ImageError::Revisions(number));
        }
        // They share one allocation, as they do in a command.
        let mut key = Bytes::copy_from_slice(self.bytes(key_bytes + value_bytes)?);
        let value = key.split_off(key_bytes);
        let (create_revision, mod_revision) = (Revision::new(create_revision), Revision::new(mod_revision));
        Ok((key, Record { value, create_revision, mod_revision, version }))
    }
}

#[cfg(test)]
mod tests;
