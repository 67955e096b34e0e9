//! Opens a log: reads what is valid, tells an unsynced tail from damage, cuts the one and refuses the other.
//!
//! Two steps. [`survey`] reads, and decides; it changes nothing, and [`super::inspect`] is made of it alone. [`open`]
//! repairs what the survey found and goes on from there. So there is one place that knows what damage is.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use raft::HardState;

use crate::disk::{Disk, write_zeros};

use super::executor::SegmentFile;
use super::format::{
    ALIGNMENT, FORMAT_VERSION, Header, Position, Record, Start, format_version, parse_segment_name, segment_name,
    stored_checksum,
};
use super::index::{EntryIndex, Placer};
use super::log_state::LogState;
use super::machine::LogEnd;
use super::window::Window;
use super::{
    Executor, Opened, Reader, RecoveryReport, Replayed, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Wal, WalError, WalOptions,
};

/// How many bytes are read from a file at a time: all that recovery holds of the log at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The rest of a segment is looked through in blocks of this many bytes: most of them are zeros and done with at once.
const BLOCK_BYTES: usize = 4096;

static ZERO_BLOCK: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// Opens the log in a directory, or begins a new one. `replay` is given each record in the order in which it was
/// written. Runs the disk work that this needs before it returns; afterwards all that was replayed is durable.
///
/// # Errors
/// [`WalError::Corrupt`] if something that was durable is damaged (nothing on the disk was changed then),
/// [`WalError::Version`], [`WalError::Missing`], [`WalError::Options`], or [`WalError::Io`].
pub fn open(disk: &Arc<dyn Disk>, options: WalOptions, replay: &mut dyn FnMut(Replayed)) -> Result<Opened, WalError> {
    options.validate()?;
    let mut replayer = Replayer {
        replay,
        hard_state: LogState::EMPTY.hard_state,
        index: EntryIndex::default(),
        placer: Placer::new(options.index_every_bytes),
    };
    let Surveyed { recovery, rests } = survey(disk.as_ref(), &mut |found: &Found<'_>| {
        replayer.take(found);
        Ok::<(), WalError>(())
    })?;
    if options.must_exist && recovery.current.segment == 0 {
        return Err(WalError::Missing);
    }
    recovery.repair(&rests)?;
    let Recovery { state, salt, previous, current, end, report, .. } = recovery;
    let Replayer { replay, hard_state, index, .. } = replayer;
    if state.hard_state != hard_state {
        replay(Replayed::HardState(state.hard_state)); // its own record was cut off with the tail
    }

    let salt = salt.unwrap_or(options.salt);
    let prepared = rests.iter().filter(|rest| rest.file.segment != current.segment).map(|rest| rest.file).collect();
    let index = Arc::new(Mutex::new(index));
    let log_end = LogEnd { state, current, position: end, previous, prepared };
    let mut wal = Wal::new(options, salt, log_end, Arc::clone(&index));
    let mut executor = Executor::new(Arc::clone(disk));
    // A mark first of all: it proves what was recovered, and whatever stale bytes a disk may bring back behind the end
    // cannot follow on it.
    wal.idle();
    while wal.pending_bytes() > 0 {
        let work = wal.next_work().expect("what waits can be written or prepared for, one at a time");
        wal.completed(executor.run(work))?;
    }
    Ok(Opened {
        wal,
        executor,
        reader: Reader::new(Arc::clone(disk), index, salt),
        hard_state: state.hard_state,
        last_index: state.last_index,
        report,
        fresh: current.segment == 0,
    })
}

/// What opening a log does with each record, beside what every survey does.
struct Replayer<'a> {
    replay: &'a mut dyn FnMut(Replayed),
    /// The last hard state given to `replay`.
    hard_state: HardState,
    index: EntryIndex,
    placer: Placer,
}

impl Replayer<'_> {
    fn take(&mut self, found: &Found<'_>) {
        let placed = self.placer.place(&found.record, found.position);
        self.index.apply(placed.as_slice(), found.state.last_index);
        if let Some(replayed) = found.record.to_replayed() {
            if let Replayed::HardState(hard_state) = replayed {
                self.hard_state = hard_state;
            }
            (self.replay)(replayed);
        }
    }
}

/// A record that a survey came to.
pub(super) struct Found<'a> {
    pub(super) record: Record<'a>,
    pub(super) position: Position,
    /// The size of the record, padding included.
    pub(super) bytes: usize,
    /// What the log amounts to with it.
    pub(super) state: LogState,
}

/// Reads a whole log without changing anything, and shows `visit` each record in the order in which it was written.
///
/// # Errors
/// What `visit` returns, at once; or that the log is damaged, of another version, or cannot be read.
pub(super) fn survey<'a, E: From<WalError>>(
    disk: &'a dyn Disk,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<(), E>,
) -> Result<Surveyed<'a>, E> {
    let segments = list_segments(disk)?;
    let mut recovery = Recovery {
        disk,
        state: LogState::EMPTY,
        salt: None,
        previous: 0,
        current: SegmentFile { segment: 0, bytes: 0 },
        end: Position::ZERO,
        durable: Position::ZERO,
        report: RecoveryReport::default(),
    };
    let mut unused = segments.as_slice();
    while let Some((&segment, behind)) = unused.split_first() {
        if !recovery.read_segment(segment, visit)? {
            break;
        }
        unused = behind;
    }
    let rests = recovery.inspect_rests(unused)?;
    Ok(Surveyed { recovery, rests })
}

/// A log that was read to its end.
pub(super) struct Surveyed<'a> {
    pub(super) recovery: Recovery<'a>,
    /// What lies behind its end, in each segment from the one in use on.
    pub(super) rests: Vec<Rest>,
}

/// The numbers of the segments, ascending. They must be 1, 2, 3… without a gap: a segment's name is durable before the
/// first record in it, and before the next segment is prepared.
fn list_segments(disk: &dyn Disk) -> Result<Vec<u32>, WalError> {
    let names = disk.list().map_err(WalError::io("list", "the data directory".to_owned()))?;
    let mut segments: Vec<u32> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
    segments.sort_unstable();
    for (&segment, expected) in segments.iter().zip(1..) {
        if segment != expected {
            let reason = format!("the file is missing, but {} is there", segment_name(segment));
            return Err(WalError::corrupt(Position::new(expected, 0), reason));
        }
    }
    Ok(segments)
}

/// Opens a segment, whether it is in use or not: one that is too short would be used some day, and the next start would
/// refuse what was made durable in it.
fn open_segment(disk: &dyn Disk, segment: u32) -> Result<Window, WalError> {
    let window = Window::open(disk, segment, CHUNK_BYTES)?;
    if window.length < SEGMENT_BYTES_MIN {
        // Its size is durable before its name: no crash does this.
        let reason = format!("{} bytes are too few for a segment: the file was cut", window.length);
        return Err(WalError::corrupt(Position::new(segment, 0), reason));
    }
    Ok(window)
}

/// A log as far as it was read.
pub(super) struct Recovery<'a> {
    disk: &'a dyn Disk,
    pub(super) state: LogState,
    /// The salt of the log, once its first record is known.
    salt: Option<u32>,
    /// The checksum of the last record.
    previous: u32,
    /// The last segment that holds records.
    pub(super) current: SegmentFile,
    /// Where the chain of valid records ends.
    pub(super) end: Position,
    /// How far the log was durable, as far as its records prove it.
    durable: Position,
    pub(super) report: RecoveryReport,
}

/// What lies behind the end of the log in one segment.
pub(super) struct Rest {
    pub(super) file: SegmentFile,
    /// What is not zero there, in bytes, a little generously.
    pub(super) dirty: Range<u64>,
}

impl Recovery<'_> {
    /// Reads the records of the next segment up to the first that is not valid or does not follow. Returns whether
    /// there was any.
    fn read_segment<E: From<WalError>>(
        &mut self,
        segment: u32,
        visit: &mut dyn FnMut(&Found<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut window = open_segment(self.disk, segment)?;
        let mut position = Position::new(segment, 0);
        while let Some(valid) = window.record(position.offset(), self.salt)? {
            let header = valid.header;
            if header.previous != self.previous {
                break;
            }
            let corrupt = |reason: &str| WalError::corrupt(position, reason.to_owned());
            if let Some(found) = format_version(valid.bytes).filter(|&found| found != FORMAT_VERSION) {
                return Err(WalError::Version { file: segment_name(segment), found, known: FORMAT_VERSION }.into());
            }
            let record = Record::decode(valid.bytes).map_err(corrupt)?;
            self.state.apply(&record).map_err(corrupt)?;
            self.previous = stored_checksum(valid.bytes);
            let start = if let Record::Start(start) = record { Some(start) } else { None };
            if start.is_some() != (position.offset() == 0) {
                return Err(corrupt("a segment does not begin where its first record is").into());
            }
            visit(&Found { record, position, bytes: header.record_bytes(), state: self.state })?;
            self.report.records += 1;
            self.report.entries += u64::from(matches!(record, Record::Entry { .. }));
            self.report.bytes += header.record_bytes() as u64;
            self.durable = self.durable.max(header.durable);
            if let Some(start) = start {
                self.begin_segment(start, header, &mut window)?;
            }
            position = position.plus(header.record_bytes());
            self.end = position;
        }
        Ok(self.current.segment == segment)
    }

    fn begin_segment(&mut self, start: Start, header: Header, window: &mut Window) -> Result<(), WalError> {
        let bytes = start.segment_bytes;
        if u64::from(bytes) > window.length {
            let reason = format!("the file was cut: it is to have {bytes} bytes");
            let end = u32::try_from(window.length).expect("less than the 32 bits of the size");
            return Err(WalError::corrupt(Position::new(window.segment, end), reason));
        }
        window.length = u64::from(bytes);
        self.salt = Some(header.salt);
        self.current = SegmentFile { segment: window.segment, bytes };
        self.report.segments += 1;
        Ok(())
    }

    /// Looks through everything behind the end of the log, the segments that are not in use included.
    ///
    /// # Errors
    /// [`WalError::Corrupt`] if a record in there proves that what should be at the end was durable.
    fn inspect_rests(&mut self, unused: &[u32]) -> Result<Vec<Rest>, WalError> {
        let mut rests: Vec<Rest> = Vec::new();
        let in_use = Some(self.current.segment).filter(|&segment| segment > 0);
        for segment in in_use.into_iter().chain(unused.iter().copied()) {
            let mut window = open_segment(self.disk, segment)?;
            let mut from = 0;
            if segment == self.current.segment {
                window.length = window.length.min(u64::from(self.current.bytes));
                from = self.end.offset();
            }
            let (dirty, proof) = self.inspect(&mut window, from)?;
            if let Some(proof) = proof {
                let clean_end = in_use.is_none() || rests.first().is_some_and(|rest| rest.dirty.is_empty());
                return Err(self.missing(&proof, clean_end));
            }
            let bytes = u32::try_from(window.length.min(SEGMENT_BYTES_MAX)).expect("SEGMENT_BYTES_MAX fits");
            let bytes = bytes - bytes % u32::try_from(ALIGNMENT).expect("8 fits");
            self.report.cut_bytes += dirty.end - dirty.start;
            rests.push(Rest { file: SegmentFile { segment, bytes }, dirty });
        }
        Ok(rests)
    }

    /// Says what a record that proves damage proves. If the segment in use ends cleanly, and no more of it is known to
    /// have been durable, then what is missing is the beginning of the next.
    fn missing(&self, proof: &Header, clean_end: bool) -> WalError {
        let next = clean_end && proof.durable.segment() != self.current.segment;
        let damage =
            if next || self.current.segment == 0 { Position::new(self.current.segment + 1, 0) } else { self.end };
        let (file, byte) = (segment_name(proof.position.segment()), proof.position.offset());
        WalError::corrupt(
            damage,
            format!("no valid record, but the one at byte {byte} of {file} proves it was durable"),
        )
    }

    /// Looks through a segment from an offset on: what is not zero, and a record that proves damage at the end.
    fn inspect(&self, window: &mut Window, from: u64) -> Result<(Range<u64>, Option<Header>), WalError> {
        let mut dirty = from..from;
        let mut offset = from;
        while offset < window.length {
            let block_end = (offset - offset % BLOCK_BYTES as u64 + BLOCK_BYTES as u64).min(window.length);
            let count = usize::try_from(block_end - offset).expect("at most BLOCK_BYTES");
            if window.bytes(offset, count)?.is_some_and(|block| *block == ZERO_BLOCK[..count]) {
                offset = block_end;
                continue;
            }
            if dirty.is_empty() {
                dirty.start = offset;
            }
            while offset < block_end {
                match window.record(offset, self.salt)? {
                    Some(valid) if self.proves(&valid.header) => return Ok((dirty, Some(valid.header))),
                    Some(valid) => offset += valid.header.record_bytes() as u64,
                    None => offset += ALIGNMENT as u64,
                }
            }
            offset = offset.min(window.length);
            dirty.end = offset;
        }
        Ok((dirty, None))
    }

    /// Whether a valid record behind the end proves that something durable is missing there: it knew of more that was
    /// durable. Or it lies where the log should go on, knew all before it to be durable, and does not follow on it.
    fn proves(&self, header: &Header) -> bool {
        let goes_on = header.position == self.end || header.position == Position::new(self.current.segment + 1, 0);
        header.durable > self.end || (goes_on && header.durable == self.end)
    }

    /// Makes what was recovered durable and what lies behind it zeros.
    fn repair(&self, rests: &[Rest]) -> Result<(), WalError> {
        for rest in rests {
            let mut window = Window::open(self.disk, rest.file.segment, CHUNK_BYTES)?;
            let io_error = WalError::io("repair", segment_name(rest.file.segment));
            if rest.file.segment == self.current.segment {
                self.rewrite_unproven(&mut window)?;
            }
            write_zeros(window.file.as_ref(), rest.dirty.start, rest.dirty.end).map_err(io_error)?;
        }
        // A process that died between a rename and the sync behind it left a name that is seen but not durable.
        self.disk.sync_directory().map_err(WalError::io("sync", "the data directory".to_owned()))
    }

    /// Writes what is valid but not proven durable once more, byte for byte: if the last sync before a restart failed,
    /// the kernel shows these bytes but no longer means to write them.
    fn rewrite_unproven(&self, window: &mut Window) -> Result<(), WalError> {
        let io_error = WalError::io("rewrite", segment_name(window.segment));
        let mut offset = if self.durable.segment() == window.segment { self.durable.offset() } else { 0 };
        while offset < self.end.offset() {
            let count = usize::try_from(self.end.offset() - offset).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
            let Some(bytes) = window.bytes(offset, count)?.map(<[u8]>::to_vec) else { break };
            window.file.write_all_at(offset, &bytes).map_err(&io_error)?;
            offset += count as u64;
        }
        Ok(())
    }
}
