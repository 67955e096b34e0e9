//! The log as a machine without I/O: batches go in, disk work comes out, completions come back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use raft::{Batch, BatchNumber, Index, Payload};

use super::executor::{CompletionKind, SegmentFile, WorkKind};
use super::format::{
    ENTRY_HEAD_BYTES, MARK_BYTES, PAYLOAD_BYTES_MAX, Position, Record, START_BYTES, Start, head_bytes, seal,
};
use super::index::{EntryIndex, Placed, Placer};
use super::log_state::LogState;
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
    /// Where the log ends when it is durable.
    end: Position,
    /// How many bytes of queue are durable then, since the log was opened.
    stream_end: u64,
    bytes: usize,
    placed: Vec<Placed>,
    last_index: Index,
}

/// The write-ahead log's machine. It owns no file and does no I/O.
///
/// Everything appended while a commit is in flight goes out together in the next one: one sync for all of them.
pub struct Wal {
    options: WalOptions,
    salt: u32,
    index: Arc<Mutex<EntryIndex>>,
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
    preparing: bool,
    /// The checksum of the last record handed out.
    previous: u32,
    /// Where the durable log ends.
    durable: Position,
    in_flight: Option<InFlight>,
    /// Whether the last record is a mark: then there is nothing that a further mark would prove.
    marked: bool,
    failed: Option<WalError>,
}

/// Where a recovered log ends.
pub(super) struct LogEnd {
    pub(super) state: LogState,
    pub(super) current: SegmentFile,
    pub(super) position: Position,
    pub(super) previous: u32,
    pub(super) prepared: VecDeque<SegmentFile>,
}

impl Wal {
    pub(super) fn new(options: WalOptions, salt: u32, end: LogEnd, index: Arc<Mutex<EntryIndex>>) -> Wal {
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
            used: u32::try_from(end.position.offset()).expect("an offset is made of 32 bits"),
            prepared: end.prepared,
            preparing: false,
            previous: end.previous,
            durable: end.position,
            in_flight: None,
            marked: false,
            failed: None,
        }
    }

    /// Queues a batch: truncation, entries, hard state, in this order. It is durable when [`Wal::completed`] returns
    /// its number or a later one.
    ///
    /// # Errors
    /// [`WalError::TooLarge`] if an entry is larger than a record may be (nothing is queued then), or the error that
    /// stopped the log.
    ///
    /// # Panics
    /// If the batch does not fit the log: entries that leave a gap, a truncation of committed entries, a term that
    /// goes back. To write that down would break the promises made in this node's name.
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

    /// Says that nothing was appended for a while: writes a mark, if one is needed, which proves to a later recovery
    /// that everything before it was durable. To be called again after each pause; it does nothing when called for
    /// nothing.
    pub fn idle(&mut self) {
        if !self.marked && self.failed.is_none() && self.pending_bytes() == 0 {
            self.push(&Record::Mark);
        }
    }

    /// How many bytes are appended but not durable. The caller bounds it by no longer appending.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.queue.len() + self.in_flight.as_ref().map_or(0, |commit| commit.bytes)
    }

    /// The next disk work, until there is `None` to be started now. At most one commit and one preparation are out at
    /// a time.
    pub fn next_work(&mut self) -> Option<Work> {
        if self.failed.is_some() {
            return None;
        }
        let commit = if self.in_flight.is_none() && !self.queue.is_empty() { self.commit() } else { None };
        commit.or_else(|| self.prepare()).map(Work)
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
        let (CompletionKind::Committed { result, .. } | CompletionKind::Prepared { result, .. }) = &completion.0;
        if let Err(error) = result {
            self.failed = Some(error.clone());
            return Err(error.clone());
        }
        match completion.0 {
            CompletionKind::Committed { buffer, .. } => Ok(self.committed(buffer)),
            CompletionKind::Prepared { file, .. } => {
                assert!(self.preparing, "a preparation completes once");
                self.preparing = false;
                self.prepared.push_back(file);
                Ok(None)
            }
        }
    }

    fn committed(&mut self, mut buffer: Vec<u8>) -> Option<BatchNumber> {
        let commit = self.in_flight.take().expect("a commit completes once");
        self.durable = commit.end;
        lock_index(&self.index).apply(&commit.placed, commit.last_index);
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
        self.marked = matches!(record, Record::Mark);
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
        if roll {
            let next_index = self.written.next_index().expect("indexes are not used up");
            let LogState { hard_state, .. } = self.written;
            Record::Start(Start { segment_bytes: self.current.bytes, next_index, hard_state }).encode(&mut bytes);
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
            end: Position::new(self.current.segment, self.used),
            stream_end: self.stream_written,
            bytes: bytes.len(),
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

    /// Asks for the next segment's file when half of the current one is used, or when what waits does not fit.
    fn prepare(&mut self) -> Option<WorkKind> {
        let head = if self.queue.is_empty() { 0 } else { head_bytes(&self.queue) };
        let waits = !self.fits(head);
        if self.preparing || !self.prepared.is_empty() || !(waits || self.used > self.current.bytes / 2) {
            return None;
        }
        // A record larger than a segment gets a segment of its size.
        let bytes = self.options.segment_bytes.max((START_BYTES + MARK_BYTES + head) as u64);
        let bytes = u32::try_from(bytes.next_multiple_of(SEGMENT_GRANULE_BYTES).min(SEGMENT_BYTES_MAX))
            .expect("SEGMENT_BYTES_MAX fits");
        let segment = self.current.segment.checked_add(1).expect("4 billion segments are not used up");
        self.preparing = true;
        Some(WorkKind::Prepare(SegmentFile { segment, bytes }))
    }
}
