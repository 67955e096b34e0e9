//! Runs the log's disk work, on whatever thread the caller likes.

use std::sync::Arc;

use crate::disk::{Disk, File, remove_if_exists, write_zeros};

use super::WalError;
use super::format::{preparation_name, segment_name, spare_name};

/// A segment's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentFile {
    pub(super) segment: u32,
    /// Its size in bytes.
    pub(super) bytes: u32,
}

/// One piece of disk work. It may be sent to another thread; commits must be run in the order in which they were
/// handed out, by one [`Executor`].
#[derive(Debug)]
pub struct Work(pub(super) WorkKind);

#[derive(Debug)]
pub(super) enum WorkKind {
    /// Write, then sync.
    Commit { segment: u32, offset: u64, bytes: Vec<u8> },
    /// Make the file of a segment that will be needed.
    Prepare(SegmentFile),
    /// Make it of a spare.
    Recycle { spare: u32, file: SegmentFile },
    /// Make a spare of a segment that is no longer needed.
    Retire(SegmentFile),
    /// Remove the file of a segment that is no longer needed.
    Remove { segment: u32 },
    /// Remove a spare.
    RemoveSpare { segment: u32 },
}

impl Work {
    /// Whether nobody waits for it: it may run beside commits, by an executor of its own, on another thread.
    #[must_use]
    pub fn is_background(&self) -> bool {
        !matches!(self.0, WorkKind::Commit { .. })
    }

    /// How many bytes it writes and syncs, if it is a commit.
    #[must_use]
    pub fn commit_bytes(&self) -> Option<u64> {
        match &self.0 {
            WorkKind::Commit { bytes, .. } => Some(bytes.len() as u64),
            _ => None,
        }
    }
}

/// That a piece of work is done, well or badly. Goes back to [`super::Wal::completed`].
#[derive(Debug)]
pub struct Completion(pub(super) CompletionKind);

#[derive(Debug)]
pub(super) enum CompletionKind {
    /// The buffer comes back to be used again.
    Committed {
        result: Result<(), WalError>,
        buffer: Vec<u8>,
    },
    Prepared {
        result: Result<(), WalError>,
        file: SegmentFile,
    },
    /// There was no room to make a segment's file, and what was made of it is removed again.
    NoRoom {
        error: WalError,
    },
    Retired {
        result: Result<(), WalError>,
        file: SegmentFile,
    },
    Removed {
        result: Result<(), WalError>,
    },
}

/// Does the I/O of the log.
pub struct Executor {
    disk: Arc<dyn Disk>,
    /// The segment that commits go to.
    current: Option<(u32, Box<dyn File>)>,
    /// The first failure. After it nothing is written any more: a second sync could report a success that is none.
    failed: Option<WalError>,
}

impl Executor {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Executor {
        Executor { disk, current: None, failed: None }
    }

    /// Another executor over the same disk, for the work that is in the background.
    #[must_use]
    pub fn background(&self) -> Executor {
        Executor::new(Arc::clone(&self.disk))
    }

    /// Runs one piece of work to its end. Blocks for as long as the disk takes.
    pub fn run(&mut self, work: Work) -> Completion {
        Completion(match work.0 {
            WorkKind::Commit { segment, offset, bytes } => {
                let result = self.guarded(|executor| executor.commit(segment, offset, &bytes));
                CompletionKind::Committed { result, buffer: bytes }
            }
            WorkKind::Prepare(file) => match self.guarded(|executor| executor.prepare(file)) {
                Ok(Some(error)) => CompletionKind::NoRoom { error },
                result => CompletionKind::Prepared { result: result.map(|_| ()), file },
            },
            WorkKind::Recycle { spare, file } => {
                let (from, to) = (spare_name(spare), segment_name(file.segment));
                CompletionKind::Prepared { result: self.guarded(|executor| executor.rename(&from, &to)), file }
            }
            WorkKind::Retire(file) => {
                let (from, to) = (segment_name(file.segment), spare_name(file.segment));
                CompletionKind::Retired { result: self.guarded(|executor| executor.rename(&from, &to)), file }
            }
            WorkKind::Remove { segment } => CompletionKind::Removed {
                result: self.guarded(|executor| remove_durably(executor.disk.as_ref(), segment_name(segment))),
            },
            WorkKind::RemoveSpare { segment } => CompletionKind::Removed {
                result: self.guarded(|executor| remove_durably(executor.disk.as_ref(), spare_name(segment))),
            },
        })
    }

    fn guarded<T>(&mut self, action: impl FnOnce(&mut Executor) -> Result<T, WalError>) -> Result<T, WalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = action(self);
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn commit(&mut self, segment: u32, offset: u64, bytes: &[u8]) -> Result<(), WalError> {
        let io_error = |action| move |source| WalError::io(action, segment_name(segment))(source);
        let file = match &mut self.current {
            Some((open, file)) if *open == segment => file,
            current => {
                let file = self.disk.open(&segment_name(segment)).map_err(io_error("open"))?;
                &mut current.insert((segment, file)).1
            }
        };
        file.write_all_at(offset, bytes).map_err(io_error("write"))?;
        file.sync_data().map_err(io_error("sync"))
    }

    /// Gives a file another name, durably, for the same reason as [`remove_durably`].
    fn rename(&self, from: &str, to: &str) -> Result<(), WalError> {
        self.disk.rename(from, to).map_err(WalError::io("rename", from.to_owned()))?;
        self.disk.sync_directory().map_err(WalError::io("sync the directory of", to.to_owned()))
    }

    /// Makes a segment's file. Returns the error if there was only no room for it: nothing was promised of a file that
    /// is not there, so that this is no failure of the log.
    fn prepare(&self, file: SegmentFile) -> Result<Option<WalError>, WalError> {
        let name = preparation_name(file.segment);
        let io_error = |action| WalError::io(action, name.clone());
        remove_if_exists(self.disk.as_ref(), &name).map_err(io_error("remove"))?;
        let made = self.disk.create(&name).map_err(io_error("create")).and_then(|zeroed| {
            write_zeros(zeroed.as_ref(), 0, u64::from(file.bytes)).map_err(io_error("write and sync"))?;
            self.disk.rename(&name, &segment_name(file.segment)).map_err(io_error("rename"))
        });
        match made {
            Err(error) if error.is_no_room() => {
                remove_if_exists(self.disk.as_ref(), &name).map_err(io_error("remove"))?;
                Ok(Some(error))
            }
            Err(error) => Err(error),
            Ok(()) => self.disk.sync_directory().map(|()| None).map_err(io_error("sync the directory of")),
        }
    }
}

/// Removes a file, durably: were the next removal to survive a crash and this one not, there would be a gap.
pub(super) fn remove_durably(disk: &dyn Disk, name: String) -> Result<(), WalError> {
    remove_if_exists(disk, &name).map_err(WalError::io("remove", name.clone()))?;
    disk.sync_directory().map_err(WalError::io("sync the directory of", name))
}
