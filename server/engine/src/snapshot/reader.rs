//! Reads a snapshot, chunk by chunk, and believes nothing before it is shown to be right.

use raft::{Index, Term};
use xxhash_rust::xxh3::Xxh3;

use crate::disk::{self, Disk, File};

use super::directory::index_in_name;
use super::format::{self, End, FORMAT_VERSION, HEADER_BYTES, Header, TAG_END, TAG_START, TAG_TERM_STARTS};
use super::writer::Written;
use super::{InvalidMeta, Meta, SECTION_TAG_MIN, SnapshotError};

/// A section of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk<'a> {
    /// What kind of section it is.
    pub tag: u32,
    /// What it says.
    pub bytes: &'a [u8],
}

/// Reads one snapshot from its beginning to its end. Keeps one chunk in memory, and the table of term starts.
pub struct Reader {
    chunks: Chunks,
    meta: Meta,
    /// The hash over the file, once its end was reached and all was right.
    hash: Option<u128>,
    failed: Option<SnapshotError>,
}

impl Reader {
    /// Opens a snapshot and reads what it says about the log.
    ///
    /// # Errors
    /// [`SnapshotError::Version`] if another version of the program wrote it, [`SnapshotError::Damaged`] if its
    /// beginning is not what was written, and what the disk reports.
    pub fn open(disk: &dyn Disk, name: &str) -> Result<Reader, SnapshotError> {
        let mut chunks = Chunks::open(disk, name)?;
        let meta = read_meta(&mut chunks)?;
        if index_in_name(name).is_some_and(|index| index != meta.index) {
            return Err(chunks.damaged(0, format!("it is a snapshot of index {}", meta.index)));
        }
        Ok(Reader { chunks, meta, hash: None, failed: None })
    }

    /// What the snapshot says about the log.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The size of the file in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.chunks.file_bytes
    }

    /// How many bytes of the file were read and found right.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.chunks.offset
    }

    /// The next section. `None` says that the end was reached, and that the whole file is what was written; before
    /// that, nothing that sections said may be believed for good.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if the file is not what was written, [`SnapshotError::UnknownSection`] if it has one
    /// that this program does not know, and what the disk reports. After an error every call gives that error again.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>, SnapshotError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.hash.is_some() {
            return Ok(None);
        }
        match self.advance() {
            Ok(TAG_END) => Ok(None),
            Ok(tag) => Ok(Some(Chunk { tag, bytes: self.chunks.payload() })),
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Reads the next chunk, which is a section or the end. Returns its tag.
    fn advance(&mut self) -> Result<u32, SnapshotError> {
        let begin = self.chunks.offset;
        let before = End { chunks: self.chunks.number, bytes: begin, hash: self.chunks.hasher.digest128() };
        let tag = self.chunks.advance()?;
        if tag == TAG_END {
            if End::decode(self.chunks.payload()) != Some(before) {
                return Err(self.chunks.damaged(begin, "the end does not fit what is before it"));
            }
            if self.chunks.offset != self.chunks.file_bytes {
                return Err(self.chunks.damaged(self.chunks.offset, "bytes behind the end"));
            }
            self.hash = Some(before.hash);
        } else if matches!(tag, TAG_START | TAG_TERM_STARTS) {
            return Err(self.chunks.damaged(begin, "a second beginning"));
        } else if tag < SECTION_TAG_MIN {
            return Err(SnapshotError::UnknownSection { file: self.chunks.name.clone(), tag });
        }
        Ok(tag)
    }
}

fn read_meta(chunks: &mut Chunks) -> Result<Meta, SnapshotError> {
    let is_start = chunks.advance()? == TAG_START;
    let version = if is_start { format::start_version(chunks.payload()) } else { None };
    match version {
        None => return Err(chunks.damaged(0, "it does not begin as a snapshot does")),
        Some(FORMAT_VERSION) => {}
        Some(found) => {
            return Err(SnapshotError::Version { file: chunks.name.clone(), found, known: FORMAT_VERSION });
        }
    }
    let start = format::decode_start(chunks.payload());
    let (index, count) = start.ok_or_else(|| chunks.damaged(0, "the start does not fit its version"))?;
    let mut term_starts: Vec<(Index, Term)> = Vec::new();
    while (term_starts.len() as u64) < count {
        let begin = chunks.offset;
        if chunks.advance()? != TAG_TERM_STARTS {
            return Err(chunks.damaged(begin, "there are fewer term starts than the start says"));
        }
        let Some(starts) = format::decode_term_starts(chunks.payload()) else {
            return Err(chunks.damaged(begin, "a table of term starts with such a length does not exist"));
        };
        for next in starts {
            InvalidMeta::check_next(term_starts.last().copied(), next, index)
                .map_err(|reason| chunks.damaged(begin, reason.to_string()))?;
            term_starts.push(next);
        }
        if term_starts.len() as u64 > count {
            return Err(chunks.damaged(begin, "there are more term starts than the start says"));
        }
    }
    let meta = Meta { index, term_starts };
    meta.validate().map_err(|reason| chunks.damaged(0, reason.to_string()))?;
    if chunks.file_id != Some(format::file_id(&meta)) {
        return Err(chunks.damaged(0, "the file id is not that of the index and the terms"));
    }
    Ok(meta)
}

/// The chunks of a file in their order, whatever they say.
struct Chunks {
    file: Box<dyn File>,
    name: String,
    file_bytes: u64,
    /// Where the next chunk begins.
    offset: u64,
    /// The number of the next chunk.
    number: u64,
    /// The checksum of the last chunk.
    previous: u32,
    /// What the first chunk gave as the file's id.
    file_id: Option<u64>,
    hasher: Xxh3,
    /// Begins with the last chunk, whose payload is so long.
    buffer: Vec<u8>,
    payload_bytes: usize,
}

impl Chunks {
    fn open(disk: &dyn Disk, name: &str) -> Result<Chunks, SnapshotError> {
        let file = disk.open(name).map_err(SnapshotError::io("open", name))?;
        let file_bytes = file.len().map_err(SnapshotError::io("measure", name))?;
        Ok(Chunks {
            file,
            name: name.to_owned(),
            file_bytes,
            offset: 0,
            number: 0,
            previous: 0,
            file_id: None,
            hasher: Xxh3::new(),
            buffer: Vec::new(),
            payload_bytes: 0,
        })
    }

    /// The payload of the last chunk.
    fn payload(&self) -> &[u8] {
        &self.buffer[HEADER_BYTES..HEADER_BYTES + self.payload_bytes]
    }

    fn damaged(&self, offset: u64, reason: impl Into<String>) -> SnapshotError {
        SnapshotError::damaged(&self.name, offset, reason)
    }

    /// Reads the next chunk and checks that it is the next. Returns its tag.
    fn advance(&mut self) -> Result<u32, SnapshotError> {
        let mut head = [0; HEADER_BYTES];
        self.read(self.offset, &mut head)?;
        let header = Header::decode(&head).map_err(|reason| self.damaged(self.offset, reason))?;
        self.check_place(&header).map_err(|reason| self.damaged(self.offset, reason))?;
        // The length is within the file and the limit, so this never takes more than there is to read.
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.len() < header.chunk_bytes() {
            buffer = vec![0; header.chunk_bytes()];
        }
        let chunk = &mut buffer[..header.chunk_bytes()];
        chunk[..HEADER_BYTES].copy_from_slice(&head);
        self.read(self.offset + HEADER_BYTES as u64, &mut chunk[HEADER_BYTES..])?;
        if !format::checksum_holds(chunk) {
            return Err(self.damaged(self.offset, "the checksum does not hold"));
        }
        if chunk[HEADER_BYTES + header.payload_bytes..].iter().any(|&byte| byte != 0) {
            return Err(self.damaged(self.offset, "the padding is not zero"));
        }
        self.hasher.update(chunk);
        self.previous = format::stored_checksum(chunk);
        self.file_id = Some(header.file_id);
        self.offset += chunk.len() as u64;
        self.number += 1;
        self.buffer = buffer;
        self.payload_bytes = header.payload_bytes;
        Ok(header.tag)
    }

    /// Whether a header is that of the next chunk.
    fn check_place(&self, header: &Header) -> Result<(), &'static str> {
        if header.number != self.number {
            return Err("a chunk with another number belongs here");
        }
        if self.file_id.is_some_and(|file_id| file_id != header.file_id) {
            return Err("a chunk of another snapshot");
        }
        if header.previous != self.previous {
            return Err("the chunk before it is not the one that it followed");
        }
        if header.chunk_bytes() as u64 > self.file_bytes - self.offset {
            return Err("the file ends within a chunk");
        }
        Ok(())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        let read =
            disk::read_full(self.file.as_ref(), offset, buffer).map_err(SnapshotError::io("read", &self.name))?;
        if read < buffer.len() {
            return Err(self.damaged(self.offset, "the file ends too early"));
        }
        Ok(())
    }
}

/// Reads back a file that was written or received, before it gets its name. A piece of work is one chunk or a few.
pub struct Verification {
    reader: Reader,
    written: Written,
}

/// That a file was read to its end without fault: what [`super::publish`] demands.
#[derive(Debug)]
pub struct Verified {
    written: Written,
}

impl Verification {
    /// Opens the file and reads what it says about the log.
    ///
    /// # Errors
    /// As those of [`Reader::open`].
    pub fn begin(disk: &dyn Disk, written: Written) -> Result<Verification, SnapshotError> {
        let reader = Reader::open(disk, &written.name)?;
        if reader.file_bytes() != written.bytes {
            return Err(reader.chunks.damaged(0, format!("it is {} bytes long", reader.file_bytes())));
        }
        Ok(Verification { reader, written })
    }

    /// What the snapshot says about the log.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        self.reader.meta()
    }

    /// The next section, for whoever loads the state in the same pass; `None` at the end, if all was right.
    ///
    /// # Errors
    /// As those of [`Reader::next_chunk`].
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>, SnapshotError> {
        self.reader.next_chunk()
    }

    /// Reads on until at least `bytes` more were read, or to the end. Returns whether it was reached and all was right.
    ///
    /// # Errors
    /// As those of [`Reader::next_chunk`].
    pub fn step(&mut self, bytes: u64) -> Result<bool, SnapshotError> {
        let until = self.reader.read_bytes().saturating_add(bytes);
        while self.reader.next_chunk()?.is_some() {
            if self.reader.read_bytes() >= until {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends it. `None` if the end was not reached yet, or an error before it.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] if this node wrote the file and it has another hash than it was written with.
    pub fn finish(self) -> Result<Option<Verified>, SnapshotError> {
        let Some(hash) = self.reader.hash else { return Ok(None) };
        if self.written.hash.is_some_and(|written| written != hash) {
            return Err(self.reader.chunks.damaged(0, "it is not the file that was written"));
        }
        Ok(Some(Verified { written: self.written }))
    }
}

impl Verified {
    /// The last index that the snapshot covers.
    #[must_use]
    pub fn index(&self) -> Index {
        self.written.index
    }

    /// The size of the file in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.written.bytes
    }

    /// The name that the file still has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.written.name
    }
}
