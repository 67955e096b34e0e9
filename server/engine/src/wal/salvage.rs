//! What can be said of a damaged log, and the way back to one that opens.
//!
//! Nothing of this is done by itself: a damaged log is refused. The engine, which can get from its peers what is lost,
//! decides to go on without it.

use raft::{Index, Term};

use crate::disk::{Disk, remove_if_exists, write_zeros};

use super::WalError;
use super::executor::remove_durably;
use super::format::{Header, Position, Record, is_preparation_name, segment_name, stored_checksum};
use super::inspect::Place;
use super::recovery::{Found, Recovery, check_version, list_segments, proves};
use super::spares::remove_spares;
use super::window::Window;

/// How many bytes are read from a file at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What is known of a damaged log.
#[derive(Clone, Debug)]
pub struct Salvage {
    /// The error with which it is refused: which file, where, and why.
    pub damage: WalError,
    /// Where the sound part before the damage ends; segment 0 if there is none.
    pub end: Place,
    /// The last term in which this node can have promised anything, if sound records behind all damage, up to the end
    /// of the log, prove it. It may be higher than the true one by what was written and never synced.
    pub proven_term: Option<Term>,
    /// The index of the last entry, or of the one that the log went on behind, if those records prove it.
    pub proven_last_index: Option<Index>,
}

/// Looks into a log for what is sound of it although [`super::open`] refuses it. Changes nothing. `None` if it does not
/// refuse it.
///
/// # Errors
/// [`WalError::Io`] or [`WalError::Version`].
pub fn salvage(disk: &dyn Disk) -> Result<Option<Salvage>, WalError> {
    let mut recovery = Recovery::new(disk);
    let damage = match recovery.survey(&mut |_: &Found<'_>| Ok::<(), WalError>(())) {
        Ok(_) => return Ok(None),
        Err(damage @ WalError::Corrupt { .. }) => damage,
        Err(error) => return Err(error),
    };
    let mut suffix = Suffix { end: recovery.end, run: None };
    if let Some(salt) = recovery.salt.map_or_else(|| find_salt(disk), |salt| Ok(Some(salt)))? {
        suffix.read(disk, salt)?;
    }
    let (proven_term, proven_last_index) = suffix.run.map_or((None, None), |run| (run.term, run.last_index));
    // A run that does not say the term does not prove that its entries are of the last one.
    let proven_term = proven_term.map(|term| term.max(recovery.state.hard_state.current_term));
    Ok(Some(Salvage { damage, end: Place::of(recovery.end), proven_term, proven_last_index }))
}

/// The salt that the last start of a segment carries: what a client made up is never the first thing in a file.
fn find_salt(disk: &dyn Disk) -> Result<Option<u32>, WalError> {
    for segment in list_segments(disk)?.into_iter().rev() {
        let mut window = Window::open(disk, segment, CHUNK_BYTES)?;
        if let Some(valid) = window.record(0, None)?
            && let Ok(Record::Start(_)) = Record::decode(valid.bytes)
        {
            return Ok(Some(valid.header.salt));
        }
    }
    Ok(None)
}

/// What lies behind damage: runs of chained records, of which only the last counts.
struct Suffix {
    /// Where the last run ends, at first where the sound part of the log does.
    end: Position,
    /// The run, as long as nothing is known to be damaged behind it.
    run: Option<Run>,
}

/// What a run of chained records says.
#[derive(Default)]
struct Run {
    /// The checksum of its last record.
    checksum: u32,
    /// Known from the first hard state or start on.
    term: Option<Term>,
    /// Known from the first entry, truncation, reset or start on.
    last_index: Option<Index>,
}

impl Suffix {
    fn read(&mut self, disk: &dyn Disk, salt: u32) -> Result<(), WalError> {
        let first = self.end.segment();
        let mut before = None;
        for segment in list_segments(disk)?.into_iter().filter(|&segment| segment >= first) {
            if before.is_some_and(|before| before + 1 != segment) {
                self.run = None;
            }
            before = Some(segment);
            let mut window = Window::open(disk, segment, CHUNK_BYTES)?;
            let is_short = self.read_segment(&mut window, salt)?;
            if is_short || window.length < super::SEGMENT_BYTES_MIN {
                self.run = None;
            }
        }
        Ok(())
    }

    /// Returns whether the file is shorter than its start says.
    fn read_segment(&mut self, window: &mut Window, salt: u32) -> Result<bool, WalError> {
        let mut is_short = false;
        let mut offset = if window.segment == self.end.segment() { self.end.offset() } else { 0 };
        while let Some(header) = window.search(&mut offset, Some(salt), &mut (0..0))? {
            offset += header.record_bytes() as u64;
            let Some(valid) = window.record(header.position.offset(), Some(salt))? else { break };
            check_version(valid.bytes, header.position.segment())?;
            if !self.follows(&header) {
                if !proves(&header, self.end) {
                    continue; // of a commit that was never synced
                }
                self.run = Some(Run::default());
            }
            self.end = header.position.plus(header.record_bytes());
            let checksum = stored_checksum(valid.bytes);
            match Record::decode(valid.bytes) {
                Ok(record) => self.run.get_or_insert_default().take(&record, checksum),
                Err(_) => self.run = None,
            }
            if let Ok(Record::Start(start)) = Record::decode(valid.bytes) {
                is_short = u64::from(start.segment_bytes) > window.length;
            }
        }
        Ok(is_short)
    }

    /// Whether a record is the next of the run.
    fn follows(&self, header: &Header) -> bool {
        let goes_on = header.position == self.end || header.position == Position::new(self.end.segment() + 1, 0);
        goes_on && self.run.as_ref().is_some_and(|run| run.checksum == header.previous)
    }
}

impl Run {
    fn take(&mut self, record: &Record<'_>, checksum: u32) {
        self.checksum = checksum;
        match *record {
            Record::Start(start) => {
                self.term = Some(start.hard_state.current_term);
                self.last_index = start.next_index.previous();
            }
            Record::HardState(hard_state) => self.term = Some(hard_state.current_term),
            Record::Truncate { after: last } | Record::Reset { last, .. } => self.last_index = Some(last),
            Record::Mark => {}
            Record::Entry { term, index, .. } => {
                self.term = self.term.map(|known| known.max(term));
                self.last_index = Some(index);
            }
        }
    }
}

/// Makes a damaged log end at `end`, as [`salvage`] gives it: what lies behind is lost then. To be called only when it
/// is durably known outside of the log that this is about to be done, because the log does not know of it; and again
/// after a crash, as long as nothing was appended.
///
/// Later segments are removed, the last first, and each removal is durable before the next; then the rest of the
/// segment is overwritten with zeros. So a crash on the way leaves a log that is refused or that ends at `end`. If
/// there is no sound part, no file is left: a new log may be begun, with a new salt.
///
/// # Errors
/// [`WalError::Io`].
pub fn cut_damaged(disk: &dyn Disk, end: Place) -> Result<(), WalError> {
    for segment in list_segments(disk)?.into_iter().rev().filter(|&segment| segment > end.segment) {
        remove_durably(disk, segment_name(segment))?;
    }
    // Segments get the numbers of lost ones again: no file may be left that ever had one of those.
    remove_idle_files(disk)?;
    if end.segment > 0 {
        let mut window = Window::open(disk, end.segment, CHUNK_BYTES)?;
        let mut file_bytes = window.length;
        if let Some(valid) = window.record(0, None)?
            && let Ok(Record::Start(start)) = Record::decode(valid.bytes)
        {
            file_bytes = file_bytes.max(u64::from(start.segment_bytes).min(super::SEGMENT_BYTES_MAX));
        }
        let io_error = WalError::io("cut", segment_name(end.segment));
        write_zeros(window.file.as_ref(), end.offset, file_bytes).map_err(io_error)?;
    }
    Ok(())
}

/// Removes what was being made of the next segments when the process ended, which would be made again from nothing, and
/// the spares.
///
/// # Errors
/// [`WalError::Io`].
pub(crate) fn remove_idle_files(disk: &dyn Disk) -> Result<(), WalError> {
    let names = disk.list().map_err(WalError::io("list", "the data directory".to_owned()))?;
    for name in names.into_iter().filter(|name| is_preparation_name(name)) {
        remove_if_exists(disk, &name).map_err(WalError::io("remove", name))?;
    }
    remove_spares(disk)
}
