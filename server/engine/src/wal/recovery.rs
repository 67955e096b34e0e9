//! Opens a log: reads what is valid, tells an unsynced tail from damage, cuts the one and refuses the other.
//!
//! Two steps. [`survey`] reads, and decides; it changes nothing, and [`super::inspect`] is made of it alone. [`open`]
//! repairs what the survey found and goes on from there. So there is one place that knows what damage is.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use raft::{Batch, BatchNumber, HardState, Index};

use crate::disk::{Disk, write_zeros};

use super::cut::Segments;
use super::executor::SegmentFile;
use super::format::{
    ALIGNMENT, FORMAT_VERSION, Header, Position, RESET_VERSION, Record, Start, format_version, parse_segment_name,
    segment_name, stored_checksum,
};
use super::index::{EntryIndex, Placer};
use super::log_state::LogState;
use super::machine::LogEnd;
use super::spares::{list_spares, remove_spares};
use super::window::Window;
use super::{
    Executor, Opened, Reader, RecoveryReport, Replayed, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, Wal, WalError, WalOptions,
};

/// How many bytes are read from a file at a time: all that recovery holds of the log at once.
const CHUNK_BYTES: usize = 1 << 20;

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
        index: EntryIndex::new(LogState::EMPTY.next_index()),
        placer: Placer::new(options.index_every_bytes),
    };
    let Surveyed { recovery, rests } = survey(disk.as_ref(), &mut |found: &Found<'_>| {
        replayer.take(found);
        Ok::<(), WalError>(())
    })?;
    if options.must_exist && recovery.current.segment == 0 {
        return Err(WalError::Missing);
    }
    if recovery.current.segment == 0 {
        remove_spares(disk.as_ref())?;
    }
    recovery.repair(&rests)?;
    let Recovery { state, salt, previous, current, version, segments, end, report, .. } = recovery;
    let Replayer { replay, hard_state, index, .. } = replayer;
    if state.hard_state != hard_state {
        replay(Replayed::HardState(state.hard_state)); // its own record was cut off with the tail
    }

    let spares = list_spares(disk.as_ref())?;
    let salt = salt.unwrap_or(options.salt);
    let prepared = rests.iter().filter(|rest| rest.file.segment != current.segment).map(|rest| rest.file).collect();
    let index = Arc::new(Mutex::new(index));
    let log_end = LogEnd { state, version, current, position: end, previous, prepared, segments, spares };
    let wal = Wal::new(options, salt, log_end, Arc::clone(&index));
    let mut opened = Opened {
        first_index: wal.first_index(),
        wal,
        executor: Executor::new(Arc::clone(disk)),
        reader: Reader::new(Arc::clone(disk), index, salt),
        hard_state: state.hard_state,
        last_index: state.last_index,
        report,
        fresh: current.segment == 0,
    };
    // The hard state first of all: it proves what was recovered, and whatever stale bytes a disk may bring back behind
    // the end cannot follow on it. If the disk is full it can wait: it only adds to what is already durable.
    opened.wal.idle();
    match opened.settle() {
        Err(_) if opened.wal.out_of_space() && !opened.fresh => Ok(opened),
        outcome => outcome.map(|()| opened),
    }
}

impl Opened {
    /// Lets the log go on behind `last`, wherever that is, and returns when that is durable: for an engine that starts
    /// from a snapshot that the log does not reach or contradicts, or without anything.
    ///
    /// # Errors
    /// What failed; `StorageFull` if there is no room for it.
    ///
    /// # Panics
    /// At the last index of all.
    pub fn reset(&mut self, last: Index) -> Result<(), WalError> {
        self.wal.reset(last)?;
        self.settle()?;
        self.hard_state = self.wal.state().hard_state;
        (self.last_index, self.first_index) = (last, self.wal.first_index());
        Ok(())
    }

    /// Lets a log that was just begun go on behind `last` with this hard state, and returns when that is durable.
    ///
    /// # Errors
    /// What failed; `StorageFull` if there is no room for it.
    pub fn begin_behind(&mut self, last: Index, hard_state: HardState) -> Result<(), WalError> {
        self.wal.append(&Batch {
            number: BatchNumber::new(1),
            reset_to: Some(last),
            truncate_after: None,
            entries: Vec::new(),
            hard_state: Some(hard_state),
        })?;
        self.settle()?;
        (self.hard_state, self.last_index, self.first_index) = (hard_state, last, self.wal.first_index());
        Ok(())
    }

    /// Writes what waits.
    fn settle(&mut self) -> Result<(), WalError> {
        while self.wal.pending_bytes() > 0 {
            let Some(work) = self.wal.next_work() else {
                let error = self.wal.no_room().expect("what waits can be written, prepared for, or finds no room");
                return Err(error.clone());
            };
            self.wal.completed(self.executor.run(work))?;
        }
        Ok(())
    }
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
        if let Some(replayed) = found.begins_cut_log() {
            self.index = EntryIndex::new(found.state.next_index());
            (self.replay)(replayed);
            self.hard_state = found.state.hard_state;
            (self.replay)(Replayed::HardState(self.hard_state));
        }
        let placed = self.placer.place(&found.record, found.position);
        self.index.apply(placed.as_slice(), found.state.last_index);
        match found.record.to_replayed() {
            Some(Replayed::HardState(hard_state)) => self.take_hard_state(hard_state),
            Some(replayed) => {
                if let Replayed::Reset { last } = replayed {
                    self.hard_state.commit_index = last;
                }
                (self.replay)(replayed);
            }
            None => {}
        }
    }

    fn take_hard_state(&mut self, hard_state: HardState) {
        if hard_state != self.hard_state {
            self.hard_state = hard_state;
            (self.replay)(Replayed::HardState(hard_state));
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
    /// Whether it is the first of all.
    pub(super) is_first: bool,
}

impl Found<'_> {
    /// What the record means if it is the first that is left of a log whose oldest segments were removed.
    pub(super) fn begins_cut_log(&self) -> Option<Replayed> {
        let is_cut = self.is_first && self.position.segment() > 1;
        is_cut.then_some(Replayed::Reset { last: self.state.last_index })
    }
}

/// Reads a whole log without changing anything, and shows `visit` each record in the order in which it was written.
///
/// # Errors
/// What `visit` returns, at once; or that the log is damaged, of another version, or cannot be read.
pub(super) fn survey<'a, E: From<WalError>>(
    disk: &'a dyn Disk,
    visit: &mut dyn FnMut(&Found<'_>) -> Result<(), E>,
) -> Result<Surveyed<'a>, E> {
    let mut recovery = Recovery::new(disk);
    let rests = recovery.survey(visit)?;
    Ok(Surveyed { recovery, rests })
}

/// A log that was read to its end.
pub(super) struct Surveyed<'a> {
    pub(super) recovery: Recovery<'a>,
    /// What lies behind its end, in each segment from the one in use on.
    pub(super) rests: Vec<Rest>,
}

/// The numbers of the segments, ascending.
pub(super) fn list_segments(disk: &dyn Disk) -> Result<Vec<u32>, WalError> {
    let names = disk.list().map_err(WalError::io("list", "the data directory".to_owned()))?;
    let mut segments: Vec<u32> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// The segments up to the first gap, and what the gap means. There must be none: a segment's name is durable before the
/// first record in it and before the next segment is prepared, and the removal of one before that of the next.
fn without_gap(segments: &[u32]) -> (&[u32], Option<WalError>) {
    let first = segments.first().copied().unwrap_or(1);
    let Some(gap) = segments.iter().zip(first..).position(|(&segment, expected)| segment != expected) else {
        return (segments, None);
    };
    let reason = format!("the file is missing, but {} is there", segment_name(segments[gap]));
    (&segments[..gap], Some(WalError::corrupt(Position::new(segments[gap - 1] + 1, 0), reason)))
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
    pub(super) salt: Option<u32>,
    /// The checksum of the last record.
    previous: u32,
    /// The last segment that holds records.
    pub(super) current: SegmentFile,
    /// The version of the format of that segment.
    version: u32,
    segments: Segments,
    /// What is wrong with a segment's file that is shorter than its start says: told when it is read to its end.
    shortened: Option<WalError>,
    /// Where the chain of valid records ends.
    pub(super) end: Position,
    /// How far the log was durable, as far as its records prove it.
    durable: Position,
    pub(super) report: RecoveryReport,
}

/// Whether a valid record behind where a log ends proves that something durable is missing there: it knew of more that
/// was durable. Or it lies where the log should go on, knew all before it to be durable, and does not follow on it.
pub(super) fn proves(header: &Header, end: Position) -> bool {
    let goes_on = header.position == end || header.position == Position::new(end.segment() + 1, 0);
    header.durable > end || (goes_on && header.durable == end)
}

/// Refuses a segment of a version that this program does not know: nothing else in it may be looked at.
pub(super) fn check_version(record: &[u8], segment: u32) -> Result<(), WalError> {
    match format_version(record).filter(|found| !(1..=FORMAT_VERSION).contains(found)) {
        Some(found) => Err(WalError::Version { file: segment_name(segment), found, known: FORMAT_VERSION }),
        None => Ok(()),
    }
}

/// What lies behind the end of the log in one segment.
pub(super) struct Rest {
    pub(super) file: SegmentFile,
    /// What was to be records there, in bytes, a little generously: from the first that claims to lie where it does to
    /// the end of the last.
    pub(super) dirty: Range<u64>,
}

impl<'a> Recovery<'a> {
    pub(super) fn new(disk: &'a dyn Disk) -> Recovery<'a> {
        Recovery {
            disk,
            state: LogState::EMPTY,
            salt: None,
            previous: 0,
            current: SegmentFile { segment: 0, bytes: 0 },
            version: FORMAT_VERSION,
            segments: Segments::new(),
            shortened: None,
            end: Position::ZERO,
            durable: Position::ZERO,
            report: RecoveryReport::default(),
        }
    }

    /// Reads the whole log. After an error it stands where the log was sound up to.
    pub(super) fn survey<E: From<WalError>>(
        &mut self,
        visit: &mut dyn FnMut(&Found<'_>) -> Result<(), E>,
    ) -> Result<Vec<Rest>, E> {
        let listed = list_segments(self.disk)?;
        let (segments, gap) = without_gap(&listed);
        let mut unused = segments;
        while let Some((&segment, behind)) = unused.split_first() {
            if !self.read_segment(segment, visit)? {
                break;
            }
            unused = behind;
        }
        if let Some(&first) = segments.first().filter(|&&first| first > 1 && self.current.segment == 0) {
            let reason = "no valid record, but the segments before it were removed, and they only are if it has one";
            return Err(WalError::corrupt(Position::new(first, 0), reason.to_owned()).into());
        }
        let rests = self.inspect_rests(unused)?;
        gap.map_or(Ok(rests), |gap| Err(gap.into()))
    }

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
            let is_first = self.current.segment == 0;
            // What the first record of a cut log followed on is gone.
            if header.previous != self.previous && !(is_first && segment > 1) {
                break;
            }
            let corrupt = |reason: &str| WalError::corrupt(position, reason.to_owned());
            check_version(valid.bytes, segment)?;
            let record = Record::decode(valid.bytes).map_err(corrupt)?;
            let start = if let Record::Start(start) = record { Some(start) } else { None };
            if start.is_some() != (position.offset() == 0) {
                return Err(corrupt("a segment does not begin where its first record is").into());
            }
            match start {
                Some(start) if is_first && segment > 1 => self.state = LogState::before(&start).map_err(corrupt)?,
                _ => self.state.apply(&record).map_err(corrupt)?,
            }
            if let Record::Reset { last, .. } = record {
                if self.version < RESET_VERSION {
                    return Err(corrupt("a reset in a segment of a version that has none").into());
                }
                self.segments.reset(segment, last);
            }
            self.previous = stored_checksum(valid.bytes);
            visit(&Found { record, position, bytes: header.record_bytes(), state: self.state, is_first })?;
            self.report.records += 1;
            self.report.entries += u64::from(matches!(record, Record::Entry { .. }));
            self.report.bytes += header.record_bytes() as u64;
            self.durable = self.durable.max(header.durable);
            if let Some(start) = start {
                self.begin_segment(start, header, &mut window);
            }
            position = position.plus(header.record_bytes());
            self.end = position;
        }
        match self.shortened.take() {
            Some(error) => Err(error.into()),
            None => Ok(self.current.segment == segment),
        }
    }

    fn begin_segment(&mut self, start: Start, header: Header, window: &mut Window) {
        let bytes = start.segment_bytes;
        if u64::from(bytes) > window.length {
            let reason = format!("the file was cut: it is to have {bytes} bytes");
            let end = u32::try_from(window.length).expect("less than the 32 bits of the size");
            self.shortened = Some(WalError::corrupt(Position::new(window.segment, end), reason));
        }
        window.length = window.length.min(u64::from(bytes));
        self.salt = Some(header.salt);
        if self.report.segments == 0 {
            self.report.first_segment = window.segment;
        }
        self.current = SegmentFile { segment: window.segment, bytes };
        self.version = start.version;
        self.segments.begin(self.current, start.next_index);
        self.report.segments += 1;
    }

    /// Looks through everything behind the end of the log, the segments that are not in use included.
    ///
    /// # Errors
    /// [`WalError::Corrupt`] if a record in there proves that what should be at the end was durable.
    fn inspect_rests(&mut self, unused: &[u32]) -> Result<Vec<Rest>, WalError> {
        let mut rests: Vec<Rest> = Vec::new();
        let in_use = Some(self.current.segment).filter(|&segment| segment > 0);
        let mut was_begun = false;
        for segment in in_use.into_iter().chain(unused.iter().copied()) {
            let mut window = open_segment(self.disk, segment)?;
            let mut from = 0;
            if segment == self.current.segment {
                window.length = window.length.min(u64::from(self.current.bytes));
                from = self.end.offset();
                was_begun = window.claimed(from)?.is_some();
            }
            let (dirty, proof) = self.inspect(&mut window, from)?;
            if let Some(proof) = proof {
                return Err(self.missing(&proof, was_begun));
            }
            let bytes = u32::try_from(window.length.min(SEGMENT_BYTES_MAX)).expect("SEGMENT_BYTES_MAX fits");
            let bytes = bytes - bytes % u32::try_from(ALIGNMENT).expect("8 fits");
            self.report.cut_bytes += dirty.end - dirty.start;
            rests.push(Rest { file: SegmentFile { segment, bytes }, dirty });
        }
        Ok(rests)
    }

    /// Says what the first record that proves damage proves. The start of the next segment names as durable where the
    /// one in use ends; so if a later record is the first proof, and names no more of the one in use, that start is
    /// missing. Unless `was_begun`: where the log ends there is the position of a record, so that it is this one.
    fn missing(&self, proof: &Header, was_begun: bool) -> WalError {
        let next = proof.durable.segment() != self.current.segment && !was_begun;
        let damage =
            if next || self.current.segment == 0 { Position::new(self.current.segment + 1, 0) } else { self.end };
        let (file, byte) = (segment_name(proof.position.segment()), proof.position.offset());
        WalError::corrupt(
            damage,
            format!("no valid record, but the one at byte {byte} of {file} proves it was durable"),
        )
    }

    /// Looks through a segment from an offset on: what was to be records, and one that proves damage at the end.
    fn inspect(&self, window: &mut Window, from: u64) -> Result<(Range<u64>, Option<Header>), WalError> {
        let mut dirty = from..from;
        let mut offset = from;
        while let Some(header) = window.search(&mut offset, self.salt, &mut dirty)? {
            if proves(&header, self.end) {
                return Ok((dirty, Some(header)));
            }
            offset += header.record_bytes() as u64;
            dirty.end = dirty.end.max(offset.min(window.length));
        }
        Ok((dirty, None))
    }

    /// Makes what was recovered durable, and zeros of what was written behind it.
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
