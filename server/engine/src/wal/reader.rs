//! Reads entries back from the files, beside the log's machine and off its thread.

use std::sync::{Arc, Mutex};

use raft::{Entry, Index};

use crate::disk::Disk;

use super::format::Record;
use super::index::{EntryIndex, Run};
use super::window::Window;
use super::{WalError, lock_index};

/// How many bytes are read from a file at a time.
const READ_BYTES: usize = 256 << 10;

/// Reads entries that are durable. Clones share one table of where entries lie.
#[derive(Clone)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    index: Arc<Mutex<EntryIndex>>,
    salt: u32,
}

impl Reader {
    pub(super) fn new(disk: Arc<dyn Disk>, index: Arc<Mutex<EntryIndex>>, salt: u32) -> Reader {
        Reader { disk, index, salt }
    }

    /// Entries from `from` on, in order and without gaps, as many as fit into `bytes_max` (counted by
    /// [`Entry::size_bytes`]) but at least one. None if there is no durable entry at `from`, or no longer.
    ///
    /// An entry that is being taken back at the same time may still be read; the entries of one answer are always
    /// those of one log.
    ///
    /// # Errors
    /// [`WalError::Corrupt`] if what lies on the disk is not what was written, [`WalError::Io`] if it cannot be read.
    pub fn read(&self, from: Index, bytes_max: usize) -> Result<Vec<Entry>, WalError> {
        let mut entries = Vec::new();
        let mut bytes_left = bytes_max;
        let mut window: Option<Window> = None;
        let mut next = from;
        let mut truncations = None;
        loop {
            let Some(run) = lock_index(&self.index).find(next) else { break };
            if *truncations.get_or_insert(run.truncations) != run.truncations {
                break; // the log has changed its mind in between: what comes now belongs to another history
            }
            let segment = run.anchor.position.segment();
            let window = match &mut window {
                Some(open) if open.segment == segment => open,
                other => match Window::open(self.disk.as_ref(), segment, READ_BYTES) {
                    Ok(opened) => other.insert(opened),
                    // Removed in between, if it is no longer where the entry is to be found.
                    Err(error) if error.is_not_found() && lock_index(&self.index).find(next) != Some(run) => continue,
                    Err(error) => return Err(error),
                },
            };
            match self.read_run(window, run, next, &mut bytes_left, &mut entries) {
                Ok(true) => break,
                Ok(false) => next = run.last.next(),
                // The file may have become that of another segment while it was read. What was read of it before that
                // has the checksum of what was written, and is the log's.
                Err(_) if lock_index(&self.index).find(next).map(|now| now.anchor) != Some(run.anchor) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    /// Reads what a run holds from index `from` on. Returns whether the answer is full.
    fn read_run(
        &self,
        window: &mut Window,
        run: Run,
        from: Index,
        bytes_left: &mut usize,
        entries: &mut Vec<Entry>,
    ) -> Result<bool, WalError> {
        let mut expected = run.anchor.index;
        let mut position = run.anchor.position;
        loop {
            let corrupt = |reason| WalError::corrupt(position, reason);
            let Some(valid) = window.record(position.offset(), Some(self.salt))? else {
                return Err(corrupt("no valid record where one was written".to_owned()));
            };
            let record = Record::decode(valid.bytes).map_err(|reason| corrupt(reason.to_owned()))?;
            let record_bytes = valid.header.record_bytes();
            if let Record::Entry { index, .. } = record {
                if index != expected {
                    return Err(corrupt(format!("entry {index} where entry {expected} was written")));
                }
                if let Some(entry) = record.to_entry().filter(|_| index >= from) {
                    if entry.size_bytes() > *bytes_left && !entries.is_empty() {
                        return Ok(true);
                    }
                    *bytes_left = bytes_left.saturating_sub(entry.size_bytes());
                    entries.push(entry);
                }
                if expected >= run.last {
                    return Ok(*bytes_left == 0);
                }
                expected = expected.next();
            }
            position = position.plus(record_bytes);
        }
    }
}
