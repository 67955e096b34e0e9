//! The bytes of a record: positions, headers, payloads, checksums. The format itself is described at the head of
//! [`super`].

use bytes::Bytes;
use raft::{Entry, HardState, Index, NodeId, Payload, Term};

use super::{Replayed, SEGMENT_BYTES_MAX};

/// The version of the format that this program writes. It reads all from 1 on.
pub(super) const FORMAT_VERSION: u32 = 2;

/// The first version of the format in which a log can be reset.
pub(super) const RESET_VERSION: u32 = 2;

/// What a segment's first record begins with, so that a segment can be told from any other file.
const MAGIC: [u8; 8] = *b"QUORWAL\n";

/// The size of a record's header in bytes.
pub(super) const HEADER_BYTES: usize = 32;

/// Records begin at multiples of this many bytes.
pub(super) const ALIGNMENT: usize = 8;

/// The longest payload of a record in bytes: eight times the largest value, far above any command, and small enough
/// that a damaged length cannot make recovery allocate much.
pub(super) const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// Term and index at the head of each entry's payload, in bytes.
pub(super) const ENTRY_HEAD_BYTES: usize = 16;

const START_PAYLOAD_BYTES: usize = 56;
const HARD_STATE_BYTES: usize = 24;
const RESET_BYTES: usize = 16;

/// The size of the record that begins each segment, in bytes.
pub(super) const START_BYTES: usize = HEADER_BYTES + START_PAYLOAD_BYTES;

/// The size of a mark record in bytes.
pub(super) const MARK_BYTES: usize = HEADER_BYTES;

const KIND_START: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_TRUNCATE: u8 = 3;
const KIND_MARK: u8 = 4;
const KIND_NOOP: u8 = 5;
const KIND_COMMAND: u8 = 6;
const KIND_RESET: u8 = 7;

/// A place in the log: a segment and a byte offset in it. Positions are ordered as the log was written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position(u64);

impl Position {
    /// Before the first segment, whose number is 1.
    pub(super) const ZERO: Position = Position(0);

    pub(super) fn new(segment: u32, offset: u32) -> Position {
        Position(u64::from(segment) << 32 | u64::from(offset))
    }

    pub(super) fn segment(self) -> u32 {
        u32::try_from(self.0 >> 32).expect("32 bits are left")
    }

    /// In bytes from the beginning of the segment.
    pub(super) fn offset(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }

    /// The position so many bytes further on in the same segment.
    pub(super) fn plus(self, bytes: usize) -> Position {
        Position(self.0 + bytes as u64)
    }
}

/// What stands before each payload, except the checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    kind: u8,
    payload_bytes: usize,
    /// Where the record lies.
    pub(super) position: Position,
    /// Everything before this was synced when the record was written.
    pub(super) durable: Position,
    /// The checksum of the record before this one in the log, 0 for the first.
    pub(super) previous: u32,
    /// The log that the record belongs to.
    pub(super) salt: u32,
}

impl Header {
    fn decode(bytes: &[u8]) -> Header {
        let length = le_u32(bytes, 4);
        Header {
            kind: bytes[7],
            payload_bytes: usize::try_from(length & 0x00ff_ffff).expect("24 bits fit"),
            position: Position(le_u64(bytes, 8)),
            durable: Position(le_u64(bytes, 16)),
            previous: le_u32(bytes, 24),
            salt: le_u32(bytes, 28),
        }
    }

    /// The size of the whole record with its padding, in bytes.
    pub(super) fn record_bytes(&self) -> usize {
        record_bytes(self.payload_bytes)
    }

    /// Decodes what may be a header; `None` if it cannot be that of a record at `position`. The checksum is not looked
    /// at yet: this is what has to hold before it is worth reading the payload.
    pub(super) fn plausible(bytes: &[u8], position: Position) -> Option<Header> {
        if stored_position(bytes) != position {
            return None;
        }
        let header = Header::decode(bytes);
        (header.payload_bytes <= PAYLOAD_BYTES_MAX && header.durable <= position).then_some(header)
    }
}

/// The size of a record with a payload of so many bytes, padding included.
pub(super) fn record_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

/// The size of the record at the head of `queue`, which was encoded by this module.
pub(super) fn head_bytes(queue: &[u8]) -> usize {
    Header::decode(queue).record_bytes()
}

/// The checksum that a record carries.
pub(super) fn stored_checksum(record: &[u8]) -> u32 {
    le_u32(record, 0)
}

/// The position that a header names.
pub(super) fn stored_position(header: &[u8]) -> Position {
    Position(le_u64(header, 8))
}

/// Whether a whole record carries the checksum of its bytes.
pub(super) fn checksum_holds(record: &[u8]) -> bool {
    crc32c::crc32c(&record[4..]) == stored_checksum(record)
}

/// The first record of a segment: all that is needed to begin with it when older segments are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Start {
    /// The version of the format that the segment is written in.
    pub(super) version: u32,
    /// The size of the segment's file.
    pub(super) segment_bytes: u32,
    /// The index of the next entry to be appended.
    pub(super) next_index: Index,
    /// The hard state before the segment's next record.
    pub(super) hard_state: HardState,
}

/// What a record says, borrowed from its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record<'a> {
    Start(Start),
    HardState(HardState),
    Truncate {
        after: Index,
    },
    Mark,
    /// All entries are obsolete: the log goes on behind `last`.
    Reset {
        last: Index,
        /// Whether it may go back to before what is committed: something was lost, and is made good from peers.
        repair: bool,
    },
    /// An entry, a no-op if it has no command.
    Entry {
        term: Term,
        index: Index,
        command: Option<&'a [u8]>,
    },
}

impl<'a> Record<'a> {
    pub(super) fn of_entry(entry: &'a Entry) -> Record<'a> {
        let command = match &entry.payload {
            Payload::Noop => None,
            Payload::Command(command) => Some(command.as_ref()),
        };
        Record::Entry { term: entry.term, index: entry.index, command }
    }

    /// The entry, if it is one. The command is copied: it must not keep the buffer that it was read into.
    pub(super) fn to_entry(self) -> Option<Entry> {
        let Record::Entry { term, index, command } = self else { return None };
        let payload = command.map_or(Payload::Noop, |command| Payload::Command(Bytes::copy_from_slice(command)));
        Some(Entry { term, index, payload })
    }

    /// What replaying the record means, if it means anything.
    pub(super) fn to_replayed(self) -> Option<Replayed> {
        match self {
            Record::Start(_) | Record::Mark => None,
            Record::Truncate { after } => Some(Replayed::Truncate { after }),
            Record::Reset { last, .. } => Some(Replayed::Reset { last }),
            Record::HardState(hard_state) => Some(Replayed::HardState(hard_state)),
            Record::Entry { .. } => self.to_entry().map(Replayed::Entry),
        }
    }

    /// Appends the record to `queue`, with its place, its predecessor and its checksum still to be filled in by
    /// [`seal`]: they are known only when it is written.
    pub(super) fn encode(&self, queue: &mut Vec<u8>) {
        let begin = queue.len();
        queue.extend_from_slice(&[0; HEADER_BYTES]);
        let kind = match self {
            Record::Start(start) => {
                queue.extend_from_slice(&MAGIC);
                queue.extend_from_slice(&start.version.to_le_bytes());
                queue.extend_from_slice(&start.segment_bytes.to_le_bytes());
                put_u64(queue, start.next_index.get());
                put_u64(queue, 0); // reserved
                encode_hard_state(&start.hard_state, queue);
                KIND_START
            }
            Record::HardState(hard_state) => {
                encode_hard_state(hard_state, queue);
                KIND_HARD_STATE
            }
            Record::Truncate { after } => {
                put_u64(queue, after.get());
                KIND_TRUNCATE
            }
            Record::Mark => KIND_MARK,
            Record::Reset { last, repair } => {
                put_u64(queue, last.get());
                put_u64(queue, u64::from(*repair));
                KIND_RESET
            }
            Record::Entry { term, index, command } => {
                put_u64(queue, term.get());
                put_u64(queue, index.get());
                queue.extend_from_slice(command.unwrap_or_default());
                if command.is_some() { KIND_COMMAND } else { KIND_NOOP }
            }
        };
        let payload_bytes = queue.len() - begin - HEADER_BYTES;
        debug_assert!(payload_bytes <= PAYLOAD_BYTES_MAX, "the caller checked the size");
        let length = u32::try_from(payload_bytes).expect("at most PAYLOAD_BYTES_MAX");
        queue[begin + 4..begin + 8].copy_from_slice(&(length | u32::from(kind) << 24).to_le_bytes());
        queue.resize(begin + record_bytes(payload_bytes), 0);
    }

    /// What a whole record says, whose checksum holds.
    ///
    /// # Errors
    /// What is wrong with it: this version did not write it, or wrote nonsense.
    pub(super) fn decode(record: &'a [u8]) -> Result<Record<'a>, &'static str> {
        let header = Header::decode(record);
        let payload = &record[HEADER_BYTES..HEADER_BYTES + header.payload_bytes];
        let length_fits = match header.kind {
            KIND_START => payload.len() == START_PAYLOAD_BYTES && payload.starts_with(&MAGIC),
            KIND_HARD_STATE => payload.len() == HARD_STATE_BYTES,
            KIND_TRUNCATE => payload.len() == 8,
            KIND_MARK => payload.is_empty(),
            KIND_RESET => payload.len() == RESET_BYTES && le_u64(payload, 8) <= 1,
            KIND_NOOP => payload.len() == ENTRY_HEAD_BYTES,
            KIND_COMMAND => payload.len() >= ENTRY_HEAD_BYTES,
            _ => return Err("a record of a kind that this version does not know"),
        };
        if !length_fits {
            return Err("a record whose payload does not fit its kind");
        }
        if header.kind == KIND_START && u64::from(le_u32(payload, 12)) > SEGMENT_BYTES_MAX {
            return Err("a segment that is longer than any");
        }
        Ok(match header.kind {
            KIND_START => Record::Start(Start {
                version: le_u32(payload, MAGIC.len()),
                segment_bytes: le_u32(payload, 12),
                next_index: Index::new(le_u64(payload, 16)),
                hard_state: decode_hard_state(&payload[32..]),
            }),
            KIND_HARD_STATE => Record::HardState(decode_hard_state(payload)),
            KIND_TRUNCATE => Record::Truncate { after: Index::new(le_u64(payload, 0)) },
            KIND_MARK => Record::Mark,
            KIND_RESET => Record::Reset { last: Index::new(le_u64(payload, 0)), repair: le_u64(payload, 8) == 1 },
            kind => Record::Entry {
                term: Term::new(le_u64(payload, 0)),
                index: Index::new(le_u64(payload, 8)),
                command: (kind == KIND_COMMAND).then(|| &payload[ENTRY_HEAD_BYTES..]),
            },
        })
    }
}

/// The format version that a segment's first record names, if that is what the record is: to be looked at before
/// anything else in it, which another version may have laid out in another way.
pub(super) fn format_version(record: &[u8]) -> Option<u32> {
    let header = Header::decode(record);
    let payload = &record[HEADER_BYTES..HEADER_BYTES + header.payload_bytes];
    let named = header.kind == KIND_START && payload.starts_with(&MAGIC) && payload.len() >= MAGIC.len() + 4;
    named.then(|| le_u32(payload, MAGIC.len()))
}

/// Fills in what was left open by [`Record::encode`]. Returns the checksum.
pub(super) fn seal(record: &mut [u8], position: Position, durable: Position, previous: u32, salt: u32) -> u32 {
    debug_assert!(durable <= position, "a record is not durable before it is written");
    record[8..16].copy_from_slice(&position.0.to_le_bytes());
    record[16..24].copy_from_slice(&durable.0.to_le_bytes());
    record[24..28].copy_from_slice(&previous.to_le_bytes());
    record[28..32].copy_from_slice(&salt.to_le_bytes());
    let checksum = crc32c::crc32c(&record[4..]);
    record[..4].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// The name of a segment's file.
pub(super) fn segment_name(segment: u32) -> String {
    format!("wal-{segment:010}.log")
}

/// The name of a segment's file while it is being filled with zeros.
pub(super) fn preparation_name(segment: u32) -> String {
    format!("wal-{segment:010}.new")
}

/// The name of a segment's file when the segment is no longer needed, and its file may become that of a later one.
pub(super) fn spare_name(segment: u32) -> String {
    format!("wal-{segment:010}.old")
}

/// Whether a file is a segment that was being filled with zeros.
pub(super) fn is_preparation_name(name: &str) -> bool {
    name.starts_with("wal-") && name.ends_with(".new")
}

/// The segment that a file holds, if it is one.
pub(super) fn parse_segment_name(name: &str) -> Option<u32> {
    let segment = name.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok()?;
    (segment > 0 && segment_name(segment) == name).then_some(segment)
}

/// The segment that a spare file was, if it is one.
pub(super) fn parse_spare_name(name: &str) -> Option<u32> {
    let segment = name.strip_prefix("wal-")?.strip_suffix(".old")?.parse().ok()?;
    (segment > 0 && spare_name(segment) == name).then_some(segment)
}

fn encode_hard_state(hard_state: &HardState, queue: &mut Vec<u8>) {
    put_u64(queue, hard_state.current_term.get());
    put_u64(queue, hard_state.voted_for.map_or(0, NodeId::get));
    put_u64(queue, hard_state.commit_index.get());
}

fn decode_hard_state(bytes: &[u8]) -> HardState {
    HardState {
        current_term: Term::new(le_u64(bytes, 0)),
        voted_for: NodeId::new(le_u64(bytes, 8)),
        commit_index: Index::new(le_u64(bytes, 16)),
    }
}

fn put_u64(queue: &mut Vec<u8>, value: u64) {
    queue.extend_from_slice(&value.to_le_bytes());
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn le_u64(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
