//! The sessions as sections of a state, and back; the frame is that of `kv/image.rs`.
//!
//! # Format, version 1
//!
//! Behind the records, and only if there is or was any session: one section with [`SESSIONS_HEADER_TAG`], then any
//! number with [`SESSIONS_TAG`], then any number with [`RESULTS_TAG`]. All integers are little-endian; fields follow
//! each other without padding. A section holds whole sessions or results.
//!
//! | bytes | header |
//! |---|---|
//! | 8 | the mark, in milliseconds of replicated time |
//! | 8 | number of sessions |
//! | 8 | number of results |
//!
//! | bytes | session, in ascending order of their ids |
//! |---|---|
//! | 16 | id |
//! | 8 | when it was opened, in milliseconds of replicated time |
//! | 8 | the second of its last use |
//! | 8 | what its client acknowledged: all sequences below this |
//!
//! | bytes | result, in ascending order of session and sequence |
//! |---|---|
//! | 16 | session |
//! | 8 | sequence, not below what is acknowledged |
//! | 1 | kind |
//! | \[16\] | hash of what was asked for; not for kind 7 |
//! | n | by kind |
//!
//! Kinds: 1 put (revision, version), 2 deleted (revision), 3 deleted (revision, then what was removed: length of the
//! key in 2 bytes, of the value in 4, create revision, mod revision, version, key, value), 4 the key existed (its mod
//! revision), 5 the key was missing, 6 another revision (the expected, the actual), 7 fenced, 8 configured (all
//! settings, as in their section). Revisions and versions take 8 bytes.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::kv::image::{Fields, ImageError};
use crate::kv::record::{Applied, KeyValue, Rejection, Revision};
use crate::kv::settings::Settings;
use crate::kv::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::hash::{kept_hash, session_hash};
use super::{Kept, SECOND_MS, Session, SessionId, SessionLimits, Sessions, end_of_second_ms};

/// The tag of the section that comes first.
pub(in crate::kv) const SESSIONS_HEADER_TAG: u32 = 18;

/// The tag of a section of sessions.
pub(in crate::kv) const SESSIONS_TAG: u32 = 19;

/// The tag of a section of results.
pub(in crate::kv) const RESULTS_TAG: u32 = 20;

/// A section is closed once it is at least so long, in bytes.
const SECTION_BYTES: usize = 256 << 10;

const HEADER_BYTES: usize = 24;

const PUT: u8 = 1;
const DELETED: u8 = 2;
const DELETED_PREVIOUS: u8 = 3;
const KEY_EXISTS: u8 = 4;
const KEY_NOT_FOUND: u8 = 5;
const REVISION_MISMATCH: u8 = 6;
const FENCED: u8 = 7;
const CONFIGURED: u8 = 8;

/// How far the sessions are written out.
#[derive(Clone, Copy)]
pub(in crate::kv) enum Progress {
    Header,
    SessionsAfter(Option<SessionId>),
    ResultsAfter(Option<(SessionId, u64)>),
    End,
}

/// Writes the next section into an empty buffer, and adds what it holds to `hash`. Returns its tag; nothing at the end.
pub(in crate::kv) fn next_section(
    sessions: &Sessions,
    progress: &mut Progress,
    hash: &mut u128,
    buffer: &mut Vec<u8>,
) -> Option<u32> {
    loop {
        match *progress {
            // Without any the image is that of a state from before there were sessions.
            Progress::Header if sessions.mark_ms == 0 && sessions.by_id.is_empty() => *progress = Progress::End,
            Progress::Header => {
                for number in [sessions.mark_ms, sessions.by_id.len() as u64, sessions.kept_count] {
                    buffer.extend_from_slice(&number.to_le_bytes());
                }
                *progress = Progress::SessionsAfter(None);
                return Some(SESSIONS_HEADER_TAG);
            }
            Progress::SessionsAfter(after) => match encode_sessions(sessions, after, hash, buffer) {
                None => *progress = Progress::ResultsAfter(None),
                last => {
                    *progress = Progress::SessionsAfter(last);
                    return Some(SESSIONS_TAG);
                }
            },
            Progress::ResultsAfter(after) => match encode_results(sessions, after, hash, buffer) {
                None => *progress = Progress::End,
                last => {
                    *progress = Progress::ResultsAfter(last);
                    return Some(RESULTS_TAG);
                }
            },
            Progress::End => return None,
        }
    }
}

/// Writes out sessions above an id. Returns the last of them, if there is any.
fn encode_sessions(
    sessions: &Sessions,
    after: Option<SessionId>,
    hash: &mut u128,
    buffer: &mut Vec<u8>,
) -> Option<SessionId> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut last = None;
    for (id, session) in sessions.by_id.range((from, Bound::Unbounded)) {
        // Naming every field makes a new one break the build here. What is kept has sections of its own.
        let Session { opened_at_ms, used_at_s, acknowledged_below, kept: _, bytes: _ } = session.as_ref();
        buffer.extend_from_slice(&id.get().to_le_bytes());
        for number in [opened_at_ms, used_at_s, acknowledged_below] {
            buffer.extend_from_slice(&number.to_le_bytes());
        }
        *hash = hash.wrapping_add(session_hash(*id, session));
        last = Some(*id);
        if buffer.len() >= SECTION_BYTES {
            break;
        }
    }
    last
}

/// Writes out results above a sequence. Returns the last of them, if there is any.
fn encode_results(
    sessions: &Sessions,
    after: Option<(SessionId, u64)>,
    hash: &mut u128,
    buffer: &mut Vec<u8>,
) -> Option<(SessionId, u64)> {
    let from = after.map_or(Bound::Unbounded, |(id, _)| Bound::Included(id));
    let mut last = after;
    for (&id, session) in sessions.by_id.range((from, Bound::Unbounded)) {
        let from = match after {
            Some((begun, sequence)) if begun == id => Bound::Excluded(sequence),
            _ => Bound::Unbounded,
        };
        for (&sequence, kept) in session.kept.range((from, Bound::Unbounded)) {
            encode_kept(id, sequence, kept, buffer);
            *hash = hash.wrapping_add(kept_hash(id, sequence, kept));
            last = Some((id, sequence));
            if buffer.len() >= SECTION_BYTES {
                return last;
            }
        }
    }
    last.filter(|_| !buffer.is_empty())
}

/// The bytes of what is kept of a sequence: in a snapshot, and for the hash.
pub(super) fn encode_kept(id: SessionId, sequence: u64, kept: &Kept, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&id.get().to_le_bytes());
    buffer.extend_from_slice(&sequence.to_le_bytes());
    match kept {
        Kept::Fenced => buffer.push(FENCED),
        Kept::Result { body, applied } => {
            let (kind, numbers, previous) = parts(applied);
            buffer.push(kind);
            buffer.extend_from_slice(&body.to_le_bytes());
            for number in numbers.into_iter().flatten() {
                buffer.extend_from_slice(&number.to_le_bytes());
            }
            if let Some(previous) = previous {
                encode_previous(previous, buffer);
            }
            if let Applied::Configured { settings } = applied {
                buffer.extend_from_slice(&settings.to_bytes());
            }
        }
    }
}

/// The kind of a result, its numbers, and what was removed. Settings have neither.
fn parts(applied: &Applied) -> (u8, [Option<u64>; 2], Option<&KeyValue>) {
    match applied {
        Applied::Put { revision, version } => (PUT, [Some(revision.get()), Some(*version)], None),
        Applied::Deleted { revision, previous: None } => (DELETED, [Some(revision.get()), None], None),
        Applied::Deleted { revision, previous } => (DELETED_PREVIOUS, [Some(revision.get()), None], previous.as_ref()),
        Applied::Rejected(Rejection::KeyExists { mod_revision }) => {
            (KEY_EXISTS, [Some(mod_revision.get()), None], None)
        }
        Applied::Rejected(Rejection::KeyNotFound) => (KEY_NOT_FOUND, [None; 2], None),
        Applied::Rejected(Rejection::RevisionMismatch { expected, actual }) => {
            (REVISION_MISMATCH, [Some(expected.get()), Some(actual.get())], None)
        }
        Applied::Configured { .. } => (CONFIGURED, [None; 2], None),
        Applied::Refused(_) | Applied::Settled(_) => unreachable!("only what a write did is kept"),
    }
}

fn encode_previous(previous: &KeyValue, buffer: &mut Vec<u8>) {
    // Naming every field makes a new one break the build here until somebody decides how it is kept.
    let KeyValue { key, value, create_revision, mod_revision, version } = previous;
    let key_bytes = u16::try_from(key.len()).expect("a key in the store has at most 1,024 bytes");
    let value_bytes = u32::try_from(value.len()).expect("a value in the store has at most a mebibyte");
    buffer.extend_from_slice(&key_bytes.to_le_bytes());
    buffer.extend_from_slice(&value_bytes.to_le_bytes());
    for number in [create_revision.get(), mod_revision.get(), *version] {
        buffer.extend_from_slice(&number.to_le_bytes());
    }
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(value);
}

/// Takes sessions in, section by section.
pub(in crate::kv) struct SessionsLoader {
    sessions: Sessions,
    /// What the header says, once it was there: sessions, and results.
    counts: Option<(u64, u64)>,
    last_session: Option<SessionId>,
    last_result: Option<(SessionId, u64)>,
}

/// What the rest of the state says that sessions have to fit.
#[derive(Clone, Copy)]
pub(in crate::kv) struct Frame {
    pub(in crate::kv) time_ms: u64,
    pub(in crate::kv) revision: Revision,
}

impl SessionsLoader {
    pub(in crate::kv) fn new(limits: SessionLimits) -> SessionsLoader {
        SessionsLoader { sessions: Sessions::new(limits), counts: None, last_session: None, last_result: None }
    }

    /// Whether any section of sessions was there.
    pub(in crate::kv) fn has_begun(&self) -> bool {
        self.counts.is_some()
    }

    /// The sessions, if all were there.
    pub(in crate::kv) fn finish(self) -> Result<Sessions, ImageError> {
        let found = (self.sessions.by_id.len() as u64, self.sessions.kept_count);
        if self.counts.unwrap_or_default() != found {
            return Err(ImageError::SessionCounts);
        }
        Ok(self.sessions)
    }

    /// The first section.
    pub(in crate::kv) fn header(&mut self, bytes: &[u8], frame: Frame) -> Result<(), ImageError> {
        if self.has_begun() {
            return Err(ImageError::SectionPlace(SESSIONS_HEADER_TAG));
        }
        let fields: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| ImageError::HeaderLength(bytes.len()))?;
        let mut fields = Fields { rest: fields };
        self.sessions.mark_ms = fields.u64()?;
        self.counts = Some((fields.u64()?, fields.u64()?));
        // No session was used after the last command.
        if self.sessions.mark_ms > end_of_second_ms(frame.time_ms / SECOND_MS) {
            return Err(ImageError::Session(0));
        }
        Ok(())
    }

    /// A section of sessions.
    pub(in crate::kv) fn sessions(&mut self, bytes: &[u8], frame: Frame) -> Result<(), ImageError> {
        if !self.has_begun() || self.last_result.is_some() {
            return Err(ImageError::SectionPlace(SESSIONS_TAG));
        }
        let mut fields = Fields { rest: bytes };
        while !fields.rest.is_empty() {
            let id = SessionId::new(fields.array().map(u128::from_le_bytes)?);
            let (opened_at_ms, used_at_s, acknowledged_below) = (fields.u64()?, fields.u64()?, fields.u64()?);
            let is_possible = self.last_session.is_none_or(|last| last < id)
                && opened_at_ms <= frame.time_ms
                && opened_at_ms < end_of_second_ms(used_at_s)
                && used_at_s <= frame.time_ms / SECOND_MS;
            if !is_possible {
                return Err(ImageError::Session(self.sessions.by_id.len() as u64 + 1));
            }
            self.last_session = Some(id);
            let session = Session { opened_at_ms, used_at_s, acknowledged_below, kept: BTreeMap::new(), bytes: 0 };
            self.sessions.add(id, session);
        }
        Ok(())
    }

    /// A section of results.
    pub(in crate::kv) fn results(&mut self, bytes: &[u8], frame: Frame) -> Result<(), ImageError> {
        if !self.has_begun() {
            return Err(ImageError::SectionPlace(RESULTS_TAG));
        }
        let mut fields = Fields { rest: bytes };
        while !fields.rest.is_empty() {
            let number = self.sessions.kept_count + 1;
            let id = SessionId::new(fields.array().map(u128::from_le_bytes)?);
            let sequence = fields.u64()?;
            let session = self.sessions.by_id.get(&id).ok_or(ImageError::SessionResult(number))?;
            let is_next = self.last_result.is_none_or(|last| last < (id, sequence));
            if !is_next || sequence < session.acknowledged_below.max(1) {
                return Err(ImageError::SessionResult(number));
            }
            self.last_result = Some((id, sequence));
            let kept = decode_kept(&mut fields, number, frame.revision)?;
            self.sessions.insert(id, sequence, kept);
        }
        Ok(())
    }
}

/// What is kept of a sequence, behind its id: result number `number` of a store at `revision`.
fn decode_kept(fields: &mut Fields<'_>, number: u64, revision: Revision) -> Result<Kept, ImageError> {
    let impossible = ImageError::SessionResult(number);
    let [kind] = fields.array()?;
    if kind == FENCED {
        return Ok(Kept::Fenced);
    }
    let body = fields.array().map(u128::from_le_bytes)?;
    // A revision of the store's own history.
    let known = |fields: &mut Fields<'_>| -> Result<Revision, ImageError> {
        let known = Revision::new(fields.u64()?);
        if Revision::FIRST < known && known <= revision { Ok(known) } else { Err(impossible) }
    };
    let applied = match kind {
        PUT => {
            let (revision, version) = (known(fields)?, fields.u64()?);
            if !(1..revision.get()).contains(&version) {
                return Err(impossible);
            }
            Applied::Put { revision, version }
        }
        DELETED => Applied::Deleted { revision: known(fields)?, previous: None },
        DELETED_PREVIOUS => {
            Applied::Deleted { revision: known(fields)?, previous: Some(decode_previous(fields, impossible)?) }
        }
        KEY_EXISTS => Applied::Rejected(Rejection::KeyExists { mod_revision: known(fields)? }),
        KEY_NOT_FOUND => Applied::Rejected(Rejection::KeyNotFound),
        REVISION_MISMATCH => {
            // The expected one is what a client sent: anything.
            let (expected, actual) = (Revision::new(fields.u64()?), known(fields)?);
            Applied::Rejected(Rejection::RevisionMismatch { expected, actual })
        }
        CONFIGURED => {
            let settings = Settings::of_bytes(fields.array()?).ok_or(impossible)?;
            Applied::Configured { settings }
        }
        _ => return Err(impossible),
    };
    Ok(Kept::Result { body, applied })
}

fn decode_previous(fields: &mut Fields<'_>, impossible: ImageError) -> Result<KeyValue, ImageError> {
    let key_bytes = usize::from(fields.array().map(u16::from_le_bytes)?);
    let value_bytes = usize::try_from(fields.array().map(u32::from_le_bytes)?).unwrap_or(usize::MAX);
    let (create_revision, mod_revision) = (Revision::new(fields.u64()?), Revision::new(fields.u64()?));
    let version = fields.u64()?;
    if !(1..=KEY_BYTES_MAX).contains(&key_bytes) || value_bytes > VALUE_BYTES_MAX || create_revision > mod_revision {
        return Err(impossible);
    }
    let key = Bytes::copy_from_slice(fields.bytes(key_bytes)?);
    let value = Bytes::copy_from_slice(fields.bytes(value_bytes)?);
    Ok(KeyValue { key, value, create_revision, mod_revision, version })
}
