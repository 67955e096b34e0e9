//! The bytes of a chunk and of those that are not sections. The format itself is described at the head of [`super`].

use raft::{Index, Term};
use xxhash_rust::xxh3::Xxh3;

use super::{Meta, SECTION_BYTES_MAX};

/// The version of the format that this program writes and reads.
pub(super) const FORMAT_VERSION: u32 = 1;

/// What the first chunk's payload begins with, so that a snapshot can be told from any other file.
const MAGIC: [u8; 8] = *b"QUORSNAP";

/// The size of a chunk's header in bytes.
pub(super) const HEADER_BYTES: usize = 32;

/// Chunks begin at multiples of this many bytes.
const ALIGNMENT: usize = 8;

/// How many term starts a chunk holds at most: a quarter of a mebibyte.
pub(super) const TERM_STARTS_MAX: usize = 16 << 10;

pub(super) const TAG_START: u32 = 1;
pub(super) const TAG_TERM_STARTS: u32 = 2;
pub(super) const TAG_END: u32 = 3;

const START_BYTES: usize = 32;
const TERM_START_BYTES: usize = 16;
const END_BYTES: usize = 32;

/// What stands before each payload, except the checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) payload_bytes: usize,
    pub(super) tag: u32,
    pub(super) previous: u32,
    pub(super) number: u64,
    pub(super) file_id: u64,
}

impl Header {
    /// Decodes what may be a header, or says why it cannot be one. The checksum is not looked at yet: this is what has
    /// to hold before it is worth reading the payload.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, &'static str> {
        let payload_bytes = usize::try_from(le_u32(bytes, 4)).unwrap_or(usize::MAX);
        if payload_bytes > SECTION_BYTES_MAX {
            return Err("a chunk longer than any");
        }
        Ok(Header {
            payload_bytes,
            tag: le_u32(bytes, 8),
            previous: le_u32(bytes, 12),
            number: le_u64(bytes, 16),
            file_id: le_u64(bytes, 24),
        })
    }

    /// The size of the whole chunk with its padding, in bytes.
    pub(super) fn chunk_bytes(&self) -> usize {
        chunk_bytes(self.payload_bytes)
    }

    /// Appends the whole chunk to `queue`. Returns its checksum.
    pub(super) fn encode(&self, payload: &[u8], queue: &mut Vec<u8>) -> u32 {
        debug_assert_eq!(self.payload_bytes, payload.len(), "the header is that of this payload");
        let begin = queue.len();
        let length = u32::try_from(payload.len()).expect("the caller checked it against SECTION_BYTES_MAX");
        queue.extend_from_slice(&[0; 4]);
        queue.extend_from_slice(&length.to_le_bytes());
        queue.extend_from_slice(&self.tag.to_le_bytes());
        queue.extend_from_slice(&self.previous.to_le_bytes());
        queue.extend_from_slice(&self.number.to_le_bytes());
        queue.extend_from_slice(&self.file_id.to_le_bytes());
        queue.extend_from_slice(payload);
        queue.resize(begin + self.chunk_bytes(), 0);
        let checksum = crc32c::crc32c(&queue[begin + 4..]);
        queue[begin..begin + 4].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }
}

fn chunk_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

/// The checksum that a chunk carries.
pub(super) fn stored_checksum(chunk: &[u8]) -> u32 {
    le_u32(chunk, 0)
}

/// Whether a whole chunk carries the checksum of its bytes.
pub(super) fn checksum_holds(chunk: &[u8]) -> bool {
    crc32c::crc32c(&chunk[4..]) == stored_checksum(chunk)
}

/// What sets the chunks of this snapshot's file apart from those of others.
pub(super) fn file_id(meta: &Meta) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&meta.index.get().to_le_bytes());
    for (index, term) in &meta.term_starts {
        hasher.update(&index.get().to_le_bytes());
        hasher.update(&term.get().to_le_bytes());
    }
    hasher.digest()
}

/// The payload of the first chunk.
pub(super) fn encode_start(meta: &Meta) -> Vec<u8> {
    let mut payload = Vec::with_capacity(START_BYTES);
    payload.extend_from_slice(&MAGIC);
    payload.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    payload.extend_from_slice(&[0; 4]); // reserved
    payload.extend_from_slice(&meta.index.get().to_le_bytes());
    payload.extend_from_slice(&(meta.term_starts.len() as u64).to_le_bytes());
    payload
}

/// The version that a start names, to be looked at before anything else in it, which another version may have laid out
/// in another way; `None` if it is no start.
pub(super) fn start_version(payload: &[u8]) -> Option<u32> {
    (payload.starts_with(&MAGIC) && payload.len() >= MAGIC.len() + 4).then(|| le_u32(payload, MAGIC.len()))
}

/// The index and the number of term starts that a start of this version names.
pub(super) fn decode_start(payload: &[u8]) -> Option<(Index, u64)> {
    let is_start = payload.len() == START_BYTES && le_u32(payload, 12) == 0;
    is_start.then(|| (Index::new(le_u64(payload, 16)), le_u64(payload, 24)))
}

/// The payload of a chunk of term starts.
pub(super) fn encode_term_starts(starts: &[(Index, Term)]) -> Vec<u8> {
    let numbers = starts.iter().flat_map(|(index, term)| [index.get(), term.get()]);
    numbers.flat_map(u64::to_le_bytes).collect()
}

/// The term starts of a chunk; `None` if its length is none that a chunk of them can have.
pub(super) fn decode_term_starts(payload: &[u8]) -> Option<impl Iterator<Item = (Index, Term)> + '_> {
    let fits = payload.len().is_multiple_of(TERM_START_BYTES)
        && (1..=TERM_STARTS_MAX).contains(&(payload.len() / TERM_START_BYTES));
    let start = |pair: &[u8]| (Index::new(le_u64(pair, 0)), Term::new(le_u64(pair, 8)));
    fits.then(|| payload.chunks_exact(TERM_START_BYTES).map(start))
}

/// What the last chunk says about all before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) hash: u128,
}

impl End {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(END_BYTES);
        payload.extend_from_slice(&self.chunks.to_le_bytes());
        payload.extend_from_slice(&self.bytes.to_le_bytes());
        payload.extend_from_slice(&self.hash.to_le_bytes());
        payload
    }

    /// `None` if the payload has another length than an end.
    pub(super) fn decode(payload: &[u8]) -> Option<End> {
        let hash = u128::from_le_bytes(*payload.last_chunk::<16>()?);
        let is_end = payload.len() == END_BYTES;
        is_end.then(|| End { chunks: le_u64(payload, 0), bytes: le_u64(payload, 8), hash })
    }
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
