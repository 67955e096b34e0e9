//! Keeps the files of segments that are not needed any more, to make later segments of them.
//!
//! To fill a file with zeros writes every byte of the log twice, and to remove one costs the file system about a
//! millisecond per mebibyte, in which its journal holds up the syncs of commits. A rename costs neither.
//!
//! What such a file still holds cannot be taken for part of the log: each record names its segment, and a spare only
//! ever becomes a segment with a higher number than any that it was. Numbers begin anew only in a new log; so a new log
//! uses no spare, and removes those that it finds.

use std::collections::VecDeque;

use crate::disk::{Disk, remove_if_exists};

use super::WalError;
use super::executor::SegmentFile;
use super::format::{parse_spare_name, spare_name};

/// The spares of a log, the longest unused first.
#[derive(Debug)]
pub(super) struct Spares {
    files: VecDeque<SegmentFile>,
    /// How much they may hold together.
    bytes_max: u64,
}

impl Spares {
    /// Those that a log was opened with: nothing is kept beyond that until somebody says how much.
    pub(super) fn new(files: VecDeque<SegmentFile>) -> Spares {
        let bytes_max = bytes(&files);
        Spares { files, bytes_max }
    }

    pub(super) fn keep(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Whether there is room for one more.
    pub(super) fn takes(&self, file: SegmentFile) -> bool {
        bytes(&self.files) + u64::from(file.bytes) <= self.bytes_max
    }

    pub(super) fn add(&mut self, file: SegmentFile) {
        self.files.push_back(file);
    }

    /// Takes one out that has the size of `file`.
    pub(super) fn take(&mut self, file: SegmentFile) -> Option<SegmentFile> {
        let at = self.files.iter().position(|spare| spare.bytes == file.bytes && spare.segment < file.segment)?;
        self.files.remove(at)
    }

    /// Takes one out that is too many.
    pub(super) fn take_surplus(&mut self) -> Option<SegmentFile> {
        if bytes(&self.files) > self.bytes_max { self.files.pop_front() } else { None }
    }
}

fn bytes(files: &VecDeque<SegmentFile>) -> u64 {
    files.iter().map(|file| u64::from(file.bytes)).sum()
}

/// The spares in a directory, in the order of the segments that they were.
pub(super) fn list_spares(disk: &dyn Disk) -> Result<VecDeque<SegmentFile>, WalError> {
    let names = disk.list().map_err(WalError::io("list", "the data directory".to_owned()))?;
    let mut segments: Vec<u32> = names.iter().filter_map(|name| parse_spare_name(name)).collect();
    segments.sort_unstable();
    let file = |segment: u32| {
        let length = disk.open(&spare_name(segment)).and_then(|file| file.len());
        let length = length.map_err(WalError::io("look at", spare_name(segment)))?;
        // One that is longer than any segment may be is of no use, and goes as soon as it is one too many.
        Ok(SegmentFile { segment, bytes: u32::try_from(length).unwrap_or(u32::MAX) })
    };
    segments.into_iter().map(file).collect()
}

/// Removes the spares in a directory.
pub(super) fn remove_spares(disk: &dyn Disk) -> Result<(), WalError> {
    for SegmentFile { segment, .. } in list_spares(disk)? {
        remove_if_exists(disk, &spare_name(segment)).map_err(WalError::io("remove", spare_name(segment)))?;
    }
    Ok(())
}
