//! Writes a snapshot under its temporary name.

use xxhash_rust::xxh3::Xxh3;

use raft::Index;

use crate::disk::{self, Disk, File};

use super::directory::{TEMPORARY, file_name};
use super::format::{self, End, Header, TAG_END, TAG_START, TAG_TERM_STARTS, TERM_STARTS_MAX};
use super::{Meta, SECTION_BYTES_MAX, SECTION_TAG_MIN, SYNC_EVERY_BYTES, SnapshotError};

/// So many bytes are gathered before they are written: few calls, little memory.
const BUFFER_BYTES: usize = 256 << 10;

/// A snapshot that is being written. If it is dropped, its file stays behind until
/// [`super::abandon_writing`] or, at the next start, [`super::remove_leftovers`].
pub struct Writer {
    file: Box<dyn File>,
    name: String,
    index: Index,
    file_id: u64,
    /// Chunks that are not written yet.
    buffer: Vec<u8>,
    written_bytes: u64,
    unsynced_bytes: usize,
    chunks: u64,
    previous: u32,
    hasher: Xxh3,
    failed: Option<SnapshotError>,
}

/// A snapshot's file that is complete and synced, but not read back and not named yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The last index that it covers.
    pub index: Index,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The name of the file.
    pub name: String,
    /// The hash that must be found when it is read back, if this node made the file itself.
    pub(super) hash: Option<u128>,
}

impl Writer {
    /// Begins the file of a snapshot, in place of one that an earlier attempt left behind.
    ///
    /// # Errors
    /// [`SnapshotError::Meta`] if there can be no such log, and what the disk reports.
    pub fn begin(disk: &dyn Disk, meta: &Meta) -> Result<Writer, SnapshotError> {
        meta.validate().map_err(|reason| SnapshotError::Meta { index: meta.index, reason })?;
        let name = file_name(meta.index, TEMPORARY);
        disk::remove_if_exists(disk, &name).map_err(SnapshotError::io("remove", &name))?;
        let file = disk.create(&name).map_err(SnapshotError::io("create", &name))?;
        let mut writer = Writer {
            file,
            name,
            index: meta.index,
            file_id: format::file_id(meta),
            buffer: Vec::new(),
            written_bytes: 0,
            unsynced_bytes: 0,
            chunks: 0,
            previous: 0,
            hasher: Xxh3::new(),
            failed: None,
        };
        writer.chunk(TAG_START, &format::encode_start(meta))?;
        for starts in meta.term_starts.chunks(TERM_STARTS_MAX) {
            writer.chunk(TAG_TERM_STARTS, &format::encode_term_starts(starts))?;
        }
        Ok(writer)
    }

    /// Appends a section, as one chunk.
    ///
    /// # Errors
    /// [`SnapshotError::TooLarge`] if it is longer than [`SECTION_BYTES_MAX`], and what the disk reports. After an
    /// error nothing more is written, and every call gives that error again.
    ///
    /// # Panics
    /// If `tag` is below [`SECTION_TAG_MIN`]: those are the format's own.
    pub fn section(&mut self, tag: u32, bytes: &[u8]) -> Result<(), SnapshotError> {
        assert!(tag >= SECTION_TAG_MIN, "tag {tag} is not one of a section");
        self.attempt(|writer| {
            if bytes.len() > SECTION_BYTES_MAX {
                return Err(SnapshotError::TooLarge { bytes: bytes.len(), bytes_max: SECTION_BYTES_MAX });
            }
            writer.chunk(tag, bytes)
        })
    }

    /// How many bytes the file has so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    /// Ends the file and syncs it.
    ///
    /// # Errors
    /// What the disk reports, now or at an earlier call.
    pub fn finish(mut self) -> Result<Written, SnapshotError> {
        let end = End { chunks: self.chunks, bytes: self.bytes(), hash: self.hasher.digest128() };
        self.attempt(|writer| {
            writer.chunk(TAG_END, &end.encode())?;
            writer.flush()?;
            writer.sync()
        })?;
        Ok(Written { index: self.index, bytes: self.bytes(), name: self.name, hash: Some(end.hash) })
    }

    /// Does something unless something failed before: what a failed write or sync left behind is not known.
    fn attempt(&mut self, action: impl FnOnce(&mut Writer) -> Result<(), SnapshotError>) -> Result<(), SnapshotError> {
        let outcome = if let Some(error) = &self.failed { Err(error.clone()) } else { action(self) };
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome
    }

    fn chunk(&mut self, tag: u32, payload: &[u8]) -> Result<(), SnapshotError> {
        let header = Header {
            payload_bytes: payload.len(),
            tag,
            previous: self.previous,
            number: self.chunks,
            file_id: self.file_id,
        };
        let begin = self.buffer.len();
        self.previous = header.encode(payload, &mut self.buffer);
        self.hasher.update(&self.buffer[begin..]);
        self.chunks += 1;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SnapshotError> {
        let written = self.file.write_all_at(self.written_bytes, &self.buffer);
        written.map_err(SnapshotError::io("write", &self.name))?;
        self.written_bytes += self.buffer.len() as u64;
        self.unsynced_bytes += self.buffer.len();
        self.buffer.clear();
        if self.unsynced_bytes >= SYNC_EVERY_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), SnapshotError> {
        self.file.sync_data().map_err(SnapshotError::io("sync", &self.name))?;
        self.unsynced_bytes = 0;
        Ok(())
    }
}
