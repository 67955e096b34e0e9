//! Runs the log's disk work, on whatever thread the caller likes.

use std::sync::Arc;

use crate::disk::{Disk, File, remove_if_exists, write_zeros};

use super::WalError;
use super::format::{preparation_name, segment_name};

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
}

impl Work {
    /// Whether nobody waits for it: it may run beside commits, by an executor of its own, on another thread.
    #[must_use]
    pub fn is_background(&self) -> bool {
        matches!(self.0, WorkKind::Prepare(_))
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
            WorkKind::Prepare(file) => {
                let result = self.guarded(|executor| executor.prepare(file));
                CompletionKind::Prepared { result, file }
            }
        })
    }

    fn guarded(&mut self, action: impl FnOnce(&mut Executor) -> Result<(), WalError>) -> Result<(), WalError> {
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

    fn prepare(&self, file: SegmentFile) -> Result<(), WalError> {
        let name = preparation_name(file.segment);
        let io_error = |action| WalError::io(action, name.clone());
        remove_if_exists(self.disk.as_ref(), &name).map_err(io_error("remove"))?;
        let zeroed = self.disk.create(&name).map_err(io_error("create"))?;
        write_zeros(zeroed.as_ref(), 0, u64::from(file.bytes)).map_err(io_error("write and sync"))?;
        self.disk.rename(&name, &segment_name(file.segment)).map_err(io_error("rename"))?;
        self.disk.sync_directory().map_err(io_error("sync the directory of"))
    }
}
