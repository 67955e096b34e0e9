//! From a snapshot's file to a state.

use raft::Index;
use thiserror::Error;

use crate::disk::Disk;
use crate::kv::{ImageError, ImageLoader, SessionLimits, Store};
use crate::snapshot::{Chunk, Meta, Reader, SnapshotError, Stored, Verification, Written, publish};

/// A snapshot in memory.
#[derive(Debug)]
pub(in crate::engine) struct Loaded {
    /// What it covers.
    pub(in crate::engine) meta: Meta,
    /// The state.
    pub(in crate::engine) store: Store,
    /// Its file.
    pub(in crate::engine) stored: Stored,
}

/// Why a snapshot cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Its file is damaged, of another version, or cannot be read.
    #[error(transparent)]
    File(#[from] SnapshotError),
    /// Its file is sound, but what stands in it makes no sense.
    #[error("{file} holds no state: {source}")]
    Image {
        /// The name of the file.
        file: String,
        /// What makes no sense.
        source: ImageError,
    },
    /// Its file is sound, but it is of another index than its name says, or holds later commands.
    #[error("{file} is the snapshot of index {found}")]
    Index {
        /// The name of the file.
        file: String,
        /// The index that it was found to cover.
        found: Index,
    },
}

impl LoadError {
    /// Whether the file is not what was written; otherwise it may be sound.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            LoadError::File(error) => matches!(error, SnapshotError::Damaged { .. }),
            // A later version's: to give it up would lose what only that version knows.
            LoadError::Image { source: ImageError::UnknownSection(_), .. } => false,
            LoadError::Image { .. } | LoadError::Index { .. } => true,
        }
    }

    /// Whether the disk did not give the file's bytes, as one does that cannot read a sector any more. They may be
    /// sound, and it may give them the next time.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, LoadError::File(SnapshotError::Io { .. }))
    }
}

/// Loads a snapshot that is in its place, verifying all of it. `progress` is told how many bytes have been read.
pub(in crate::engine) fn load(
    disk: &dyn Disk,
    stored: &Stored,
    limits: SessionLimits,
    progress: &mut dyn FnMut(u64),
) -> Result<Loaded, LoadError> {
    let mut reader = Reader::open(disk, &stored.name)?;
    let (meta, mut read_bytes) = (reader.meta().clone(), 0);
    let store = read_state(&stored.name, limits, &mut |take| {
        let chunk = reader.next_chunk()?;
        read_bytes += chunk.as_ref().map_or(0, |chunk| chunk.bytes.len() as u64);
        progress(read_bytes);
        take(chunk)
    })?;
    check_index(&stored.name, stored.index, &meta, &store)?;
    Ok(Loaded { meta, store, stored: stored.clone() })
}

/// Loads a snapshot that was received, verifying all of it, and puts it in its place.
pub(super) fn load_received(disk: &dyn Disk, written: Written, limits: SessionLimits) -> Result<Loaded, LoadError> {
    let (name, index) = (written.name.clone(), written.index);
    let mut verification = Verification::begin(disk, written)?;
    let meta = verification.meta().clone();
    let store = read_state(&name, limits, &mut |take| take(verification.next_chunk()?))?;
    check_index(&name, index, &meta, &store)?;
    let verified = verification.finish()?.expect("it was read to its end");
    Ok(Loaded { meta, store, stored: publish(disk, &verified)? })
}

/// Takes a section in; whether there was one.
type Take<'a> = &'a mut dyn FnMut(Option<Chunk<'_>>) -> Result<bool, LoadError>;

/// Builds the state from the sections that `next` hands on.
fn read_state(
    name: &str,
    limits: SessionLimits,
    next: &mut dyn FnMut(Take<'_>) -> Result<bool, LoadError>,
) -> Result<Store, LoadError> {
    let image_error = |source| LoadError::Image { file: name.to_owned(), source };
    let mut loader = ImageLoader::with_limits(limits);
    while next(&mut |chunk| {
        let Some(chunk) = chunk else { return Ok(false) };
        loader.section(chunk.tag, chunk.bytes).map_err(image_error)?;
        Ok(true)
    })? {}
    loader.finish().map_err(image_error)
}

fn check_index(name: &str, index: Index, meta: &Meta, store: &Store) -> Result<(), LoadError> {
    let found = meta.index.max(store.last_index());
    if found == index && meta.index == index { Ok(()) } else { Err(LoadError::Index { file: name.to_owned(), found }) }
}
