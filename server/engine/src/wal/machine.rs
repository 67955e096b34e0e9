//! The log as a machine without I/O: batches go in, disk work comes out, completions come back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use raft::{Batch, BatchNumber, Index, Payload};

use super::cut::Segments;
use super::executor::{CompletionKind, SegmentFile, WorkKind};
use super::format::{
    ENTRY_HEAD_BYTES, FORMAT_VERSION, MARK_BYTES, PAYLOAD_BYTES_MAX, Position, Record, START_BYTES, Start, head_bytes,
    seal,
};
use super::index::{EntryIndex, Placed, Placer};
use super::log_state::LogState;
use super::spares::Spares;
use super::{Completion, SEGMENT_BYTES_MAX, WalError, WalOptions, Work, lock_index};

/// The most bytes that one commit writes (one record may be more): a sync takes about a millisecond per mebibyte, and
/// what waits behind a commit should not wait longer than a few of them.
const COMMIT_BYTES_MAX: usize = 4 << 20;

/// A buffer that grew beyond this many bytes for an unusual burst is given back to the allocator.
const BUFFER_BYTES_KEPT: usize = 8 << 20;

/// Prepared files are made in multiples of this many bytes: a page, and a whole number of sectors.
const SEGMENT_GRANULE_BYTES: u64 = 4096;

/// A commit that an executor has.
struct InFlight {
    /// The segment that it goes to.
    file: SegmentFile,
    /// Where the log ends when it is durable.
    end: Position,
    /// How many bytes of queue are durable then, since the log was opened.
    stream_end: u64,
    bytes: usize,
    /// The index of the next entry before it, if it begins a segment.
    begins: Option<Index>,
    placed: Vec<Placed>,
    last_index: Index,
}

/// The write-ahead log's machine. It owns no file and does no I/O.
///
/// Everything appended while a commit is in flight goes out together in the next one: one sync for all of them.
pub struct Wal {
    pub(super) options: WalOptions,
    salt: u32,
    pub(super) index: Arc<Mutex<EntryIndex>>,
    placer: Placer,
    /// The log with everything that was appended.
    appended: LogState,
    /// The log with everything that was handed out to be written.
    written: LogState,
    /// Records that wait to be written, encoded but not yet sealed.
    queue: Vec<u8>,
    /// An empty buffer, kept for its memory.
    spare: Vec<u8>,
    /// The batches that are not durable yet, with where in the stream of queued bytes each ends.
    batches: VecDeque<(BatchNumber, u64)>,
    stream_appended: u64,
    stream_written: u64,
    /// The segment written to and how much of it is used.
    current: SegmentFile,
    used: u32,
    prepared: VecDeque<SegmentFile>,
    pub(super) segments: Segments,
    pub(super) spares: Spares,
    /// Whether a preparation or a removal is out.
    in_background: bool,
    /// The last of it was a preparation.
    prepared_last: bool,
    /// Why the last preparation found no room.
    no_room: Option<WalError>,
    /// Whether it may be tried again.
    retry: bool,
    /// The checksum of the last record handed out.
    previous: u32,
    /// Where the durable log ends.
    durable: Position,
    in_flight: Option<InFlight>,
    /// Whether the last record was written by [`Wal::idle`]: then there is nothing that a further one would prove.
    marked: bool,
    failed: Option<WalError>,
}

/// What a completion brings, if all went well.
enum Completed {
    Commit { buffer: Vec<u8> },
    Preparation(Result<SegmentFile, WalError>),
    Retirement(SegmentFile),
    Removal,
}

/// Where a recovered log ends.
pub(super) struct LogEnd {
    pub(super) state: LogState,
    /// The version of the format of the segment in use.
    pub(super) version: u32,
    pub(super) current: SegmentFile,
    pub(super) position: Position,
    pub(super) previous: u32,
    pub(super) prepared: VecDeque<SegmentFile>,
    pub(super) segments: Segments,
    pub(super) spares: VecDeque<SegmentFile>,
}

impl Wal {
    pub(super) fn new(options: WalOptions, salt: u32, end: LogEnd, index: Arc<Mutex<EntryIndex>>) -> Wal {
        let offset = u32::try_from(end.position.offset()).expect("an offset is made of 32 bits");
        Wal {
            placer: Placer::new(options.index_every_bytes),
            options,
            salt,
            index,
            appended: end.state,
            written: end.state,
            queue: Vec::new(),
            spare: Vec::new(),
            batches: VecDeque::new(),
            stream_appended: 0,
            stream_written: 0,
            current: end.current,
            // Nothing is added to a segment of an older version: the log goes on in the next.
            used: if end.version == FORMAT_VERSION { offset } else { end.current.bytes },
            prepared: end.prepared,
            segments: end.segments,
            spares: Spares::new(end.spares),
            in_background: false,
            prepared_last: false,
            no_room: None,
            retry: false,
            previous: end.previous,
            durable: end.position,
            in_flight: None,
            marked: false,
            failed: None,
        }
    }

    /// Queues a batch: reset, truncation, entries, hard state, in this order. It is durable when [`Wal::completed`]
    /// returns its number or a later one.
    ///
    /// # Errors
    /// [`WalError::TooLarge`] if an entry is larger than a record may be (nothing is queued then), or the error that
    /// stopped the log.
    ///
    /// # Panics
    /// If the batch does not fit the log: entries that leave a gap, a truncation or a reset that takes back committed
    /// entries, a term that goes back. To write that down would break the promises made in this node's name.
    pub fn append(&mut self, batch: &Batch) -> Result<(), WalError> {
        self.check_failed()?;
        let bytes_max = PAYLOAD_BYTES_MAX - ENTRY_HEAD_BYTES;
        for entry in &batch.entries {
            if let Payload::Command(command) = &entry.payload
                && command.len() > bytes_max
            {
                return Err(WalError::TooLarge { bytes: command.len(), bytes_max });
            }
        }
        let queued = self.queue.len();
        if let Some(last) = batch.reset_to {
            self.push(&Record::Reset { last, repair: false });
        }
        if let Some(after) = batch.truncate_after {
            self.push(&Record::Truncate { after });
        }
        for entry in &batch.entries {
            self.push(&Record::of_entry(entry));
        }
        if let Some(hard_state) = batch.hard_state {
            self.push(&Record::HardState(hard_state));
        }
        if self.queue.len() == queued {
            self.push(&Record::Mark); // a batch without content is also answered in its turn
        }
        self.batches.push_back((batch.number, self.stream_appended));
        Ok(())
    }

    /// Queues a reset to wherever it is, back behind what is committed too: for an engine that lost what lies before,
    /// will not use what lies behind, and makes up for it from its peers. No batch is durable by it.
    ///
    /// # Errors
    /// The error that stopped the log.
    ///
    /// # Panics
    /// At the last index of all.
    pub fn reset(&mut self, last: Index) -> Result<(), WalError> {
        self.check_failed()?;
        self.push(&Record::Reset { last, repair: true });
        Ok(())
    }

    /// Says that nothing was appended for a while: writes the hard state once more, if that is needed. That proves to a
    /// later recovery that everything before it was durable, and to a salvage, whatever is lost of the log before, in
    /// which term this node has made its last promises. To be called again after each pause; it does nothing when
    /// called for nothing.
    pub fn idle(&mut self) {
        if !self.marked && self.failed.is_none() && self.pending_bytes() == 0 {
            self.push(&Record::HardState(self.appended.hard_state));
            self.marked = true;
        }
    }

    /// Whether there is no room on the disk for the next segment. Commits go on while the current one has room, and
    /// wait then; nothing is lost. It is tried again after [`Wal::retry`], or when older segments were removed.
    #[must_use]
    pub fn out_of_space(&self) -> bool {
        self.no_room.is_some()
    }

    /// Lets the preparation of a segment that found no room be tried again, once.
    pub fn retry(&mut self) {
        self.retry = true;
    }

    /// Why the last preparation found no room.
    pub(super) fn no_room(&self) -> Option<&WalError> {
        self.no_room.as_ref()
    }

    /// The log with everything that was appended.
    pub(super) fn state(&self) -> LogState {
        self.appended
    }

    /// How many bytes are appended but not durable. The caller bounds it by no longer appending.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.queue.len() + self.in_flight.as_ref().map_or(0, |commit| commit.bytes)
    }

    /// The next disk work, until there is `None` to be started now. At most one commit and one piece of background
    /// work (a preparation or a removal) are out at a time.
    pub fn next_work(&mut self) -> Option<Work> {
        if self.failed.is_some() {
            return None;
        }
        let commit = if self.in_flight.is_none() && !self.queue.is_empty() { self.commit() } else { None };
        commit.or_else(|| self.background()).map(Work)
    }

    fn background(&mut self) -> Option<WorkKind> {
        if self.in_background {
            return None;
        }
        // In turns: while large entries fill a segment each, there is always one to prepare, and what is not needed any
        // more would never go.
        let work = if self.prepared_last {
            self.remove().or_else(|| self.prepare())
        } else {
            self.prepare().or_else(|| self.remove())
        };
        self.prepared_last = matches!(work, Some(WorkKind::Prepare(_) | WorkKind::Recycle { .. }));
        self.in_background = work.is_some();
        work
    }

    /// Takes back what an executor did. Returns the last batch that became durable by it, if any did.
    ///
    /// # Errors
    /// The disk failed, now or earlier: nothing that was not reported durable before may be relied on, ever, and the
    /// process must end.
    ///
    /// # Panics
    /// If the completion is not of work that is out.
    pub fn completed(&mut self, completion: Completion) -> Result<Option<BatchNumber>, WalError> {
        self.check_failed()?;
        let (kind, result) = match completion.0 {
            CompletionKind::Committed { result, buffer } => (Completed::Commit { buffer }, result),
            CompletionKind::Prepared { result, file } => (Completed::Preparation(Ok(file)), result),
            CompletionKind::NoRoom { error } => (Completed::Preparation(Err(error)), Ok(())),
            CompletionKind::Retired { result, file } => (Completed::Retirement(file), result),
            CompletionKind::Removed { result } => (Completed::Removal, result),
        };
        if let Err(error) = result {
            self.failed = Some(error.clone());
            return Err(error);
        }
        match kind {
            Completed::Commit { buffer } => return Ok(self.committed(buffer)),
            Completed::Preparation(Ok(file)) => {
                self.prepared.push_back(file);
                self.no_room = None;
            }
            Completed::Preparation(Err(error)) => self.no_room = Some(error),
            Completed::Retirement(file) => self.spares.add(file),
            Completed::Removal => self.retry = true, // there is more room now
        }
        assert!(self.in_background, "background work completes once");
        self.in_background = false;
        Ok(None)
    }

    fn committed(&mut self, mut buffer: Vec<u8>) -> Option<BatchNumber> {
        let commit = self.in_flight.take().expect("a commit completes once");
        self.durable = commit.end;
        lock_index(&self.index).apply(&commit.placed, commit.last_index);
        if let Some(next_index) = commit.begins {
            self.segments.begin(commit.file, next_index);
        }
        for placed in &commit.placed {
            if let Placed::Reset { last } = placed {
                self.segments.reset(commit.end.segment(), *last);
            }
        }
        buffer.clear();
        if buffer.capacity() <= BUFFER_BYTES_KEPT && buffer.capacity() > self.spare.capacity() {
            self.spare = buffer;
        }
        let mut durable = None;
        while let Some((number, _)) = self.batches.pop_front_if(|(_, end)| *end <= commit.stream_end) {
            durable = Some(number);
        }
        durable
    }

    fn check_failed(&self) -> Result<(), WalError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn push(&mut self, record: &Record<'_>) {
        if let Err(reason) = self.appended.apply(record) {
            panic!("the log cannot take {reason}: {:?}", self.appended);
        }
        let queued = self.queue.len();
        record.encode(&mut self.queue);
        self.stream_appended += (self.queue.len() - queued) as u64;
        self.marked = false;
    }

    fn fits(&self, bytes: usize) -> bool {
        self.used as usize + bytes <= self.current.bytes as usize
    }

    /// Makes the next commit of what waits, all of it in one segment: so a record of a later segment is never written
    /// before the segments in front of it are durable.
    fn commit(&mut self) -> Option<WorkKind> {
        let roll = !self.fits(head_bytes(&self.queue));
        if roll {
            self.current = self.prepared.pop_front()?; // or wait until it is prepared
            self.used = 0;
        }
        let mut bytes = std::mem::take(&mut self.spare);
        let begins = roll.then(|| self.written.next_index());
        if let Some(next_index) = begins {
            let (version, segment_bytes, hard_state) = (FORMAT_VERSION, self.current.bytes, self.written.hard_state);
            Record::Start(Start { version, segment_bytes, next_index, hard_state }).encode(&mut bytes);
        }
        let taken = self.take_count(bytes.len());
        if bytes.is_empty() && taken == self.queue.len() {
            std::mem::swap(&mut bytes, &mut self.queue);
        } else {
            bytes.extend_from_slice(&self.queue[..taken]);
            self.queue.drain(..taken);
        }
        self.stream_written += taken as u64;
        let offset = u64::from(self.used);
        let placed = self.seal(&mut bytes);
        self.in_flight = Some(InFlight {
            file: self.current,
            end: Position::new(self.current.segment, self.used),
            stream_end: self.stream_written,
            bytes: bytes.len(),
            begins,
            placed,
            last_index: self.written.last_index,
        });
        Some(WorkKind::Commit { segment: self.current.segment, offset, bytes })
    }

    /// How many bytes of the queue the next commit takes, behind `before` bytes of its own: whole records.
    fn take_count(&self, before: usize) -> usize {
        let mut taken = 0;
        while taken < self.queue.len() {
            let record = head_bytes(&self.queue[taken..]);
            if !self.fits(before + taken + record) || (taken > 0 && taken + record > COMMIT_BYTES_MAX) {
                break;
            }
            taken += record;
        }
        taken
    }

    /// Gives each record its place, predecessor and checksum. What is known to be durable is where the last commit
    /// ended, for no other is in flight: so each commit proves all before it.
    fn seal(&mut self, bytes: &mut [u8]) -> Vec<Placed> {
        let mut placed = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (record, behind) = rest.split_at_mut(head_bytes(rest));
            rest = behind;
            let position = Position::new(self.current.segment, self.used);
            self.previous = seal(record, position, self.durable, self.previous, self.salt);
            self.used += u32::try_from(record.len()).expect("a record fits its segment");
            let record = Record::decode(record).expect("a record that was just encoded");
            self.written.apply(&record).expect("the same records were taken in when they were appended");
            placed.extend(self.placer.place(&record, position));
        }
        placed
    }

    /// Asks for the next segment's file as soon as the current one is begun: so the log has room in reserve when the
    /// disk is full.
    fn prepare(&mut self) -> Option<WorkKind> {
        if !self.prepared.is_empty() {
            return None;
        }
        let head = if self.queue.is_empty() { 0 } else { head_bytes(&self.queue) };
        // A record larger than a segment gets a segment of its size.
        let bytes = self.options.segment_bytes.max((START_BYTES + MARK_BYTES + head) as u64);
        let bytes = u32::try_from(bytes.next_multiple_of(SEGMENT_GRANULE_BYTES).min(SEGMENT_BYTES_MAX))
            .expect("SEGMENT_BYTES_MAX fits");
        let segment = self.current.segment.checked_add(1).expect("4 billion segments are not used up");
        let file = SegmentFile { segment, bytes };
        if let Some(spare) = self.spares.take(file) {
            return Some(WorkKind::Recycle { spare: spare.segment, file });
        }
        if self.no_room.is_some() && !self.retry {
            return None;
        }
        self.retry = false;
        Some(WorkKind::Prepare(file))
    }
}
