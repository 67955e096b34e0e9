//! Reads records of one segment through a buffer of bounded size.

use std::ops::Range;

use crate::disk::{Disk, File, read_full};

use super::WalError;
use super::format::{ALIGNMENT, HEADER_BYTES, Header, Position, checksum_holds, segment_name, stored_position};

/// A segment is searched in blocks of this many bytes: most of them are zeros and done with at once.
const BLOCK_BYTES: usize = 4096;

static ZERO_BLOCK: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A segment's file and the part of it that is in memory.
pub(super) struct Window {
    pub(super) segment: u32,
    pub(super) file: Box<dyn File>,
    pub(super) length: u64,
    chunk_bytes: usize,
    buffer: Vec<u8>,
    buffer_start: u64,
}

/// A record whose checksum holds and that lies where it says that it lies.
pub(super) struct Valid<'a> {
    pub(super) header: Header,
    /// All of its bytes.
    pub(super) bytes: &'a [u8],
}

impl Window {
    /// Opens a segment for reading at least `chunk_bytes` at a time.
    pub(super) fn open(disk: &dyn Disk, segment: u32, chunk_bytes: usize) -> Result<Window, WalError> {
        let io_error = WalError::io("open", segment_name(segment));
        let file = disk.open(&segment_name(segment)).map_err(&io_error)?;
        let length = file.len().map_err(&io_error)?;
        Ok(Window { segment, file, length, chunk_bytes, buffer: Vec::new(), buffer_start: 0 })
    }

    /// `count` bytes from `offset` on, or `None` if the file ends before that. Never holds more than one chunk or the
    /// bytes asked for, whichever is more, and never more than the file.
    pub(super) fn bytes(&mut self, offset: u64, count: usize) -> Result<Option<&[u8]>, WalError> {
        if offset.checked_add(count as u64).is_none_or(|end| end > self.length) {
            return Ok(None);
        }
        let buffered =
            offset >= self.buffer_start && offset + count as u64 <= self.buffer_start + self.buffer.len() as u64;
        if !buffered {
            let rest = usize::try_from(self.length - offset).unwrap_or(usize::MAX);
            let wanted = count.max(self.chunk_bytes.min(rest));
            self.buffer.resize(wanted, 0);
            self.buffer_start = offset;
            let io_error = WalError::io("read", segment_name(self.segment));
            let read = read_full(self.file.as_ref(), offset, &mut self.buffer).map_err(&io_error)?;
            if read < wanted {
                self.buffer.clear();
                return Err(io_error(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let begin = usize::try_from(offset - self.buffer_start).expect("within the buffer");
        Ok(Some(&self.buffer[begin..begin + count]))
    }

    /// The valid record at `offset`, or `None` if there is none, of whatever reason. Lengths are checked before they
    /// are believed. With `salt` only a record of that log is valid.
    pub(super) fn record(&mut self, offset: u64, salt: Option<u32>) -> Result<Option<Valid<'_>>, WalError> {
        let Ok(in_segment) = u32::try_from(offset) else { return Ok(None) };
        let position = Position::new(self.segment, in_segment);
        let Some(bytes) = self.bytes(offset, HEADER_BYTES)? else { return Ok(None) };
        let Some(header) = Header::plausible(bytes, position) else { return Ok(None) };
        if salt.is_some_and(|salt| salt != header.salt) {
            return Ok(None);
        }
        let Some(bytes) = self.bytes(offset, header.record_bytes())? else { return Ok(None) };
        Ok(checksum_holds(bytes).then_some(Valid { header, bytes }))
    }

    /// How many bytes a record has that claims to lie at `offset`, as far as that can be told: at least a header.
    /// `None` if nothing claims to. Bytes that name no place, or another one, such as what a recycled file held before,
    /// can never pass for a record, whatever is written around them.
    pub(super) fn claimed(&mut self, offset: u64) -> Result<Option<usize>, WalError> {
        let Ok(in_segment) = u32::try_from(offset) else { return Ok(None) };
        let position = Position::new(self.segment, in_segment);
        let Some(header) = self.bytes(offset, HEADER_BYTES)? else { return Ok(None) };
        let bytes = || Header::plausible(header, position).map_or(HEADER_BYTES, |header| header.record_bytes());
        Ok((stored_position(header) == position).then(bytes))
    }

    /// Searches for the next valid record from `offset` on, and moves `offset` there, or to the end of the file.
    /// `dirty` grows by what is, or was to be, a record of this place, valid or not.
    pub(super) fn search(
        &mut self,
        offset: &mut u64,
        salt: Option<u32>,
        dirty: &mut Range<u64>,
    ) -> Result<Option<Header>, WalError> {
        while *offset < self.length {
            let block_end = (*offset - *offset % BLOCK_BYTES as u64 + BLOCK_BYTES as u64).min(self.length);
            let count = usize::try_from(block_end - *offset).expect("at most BLOCK_BYTES");
            if self.bytes(*offset, count)?.is_some_and(|block| *block == ZERO_BLOCK[..count]) {
                *offset = block_end;
                continue;
            }
            while *offset < block_end {
                if let Some(record_bytes) = self.claimed(*offset)? {
                    dirty.start = if dirty.is_empty() { *offset } else { dirty.start };
                    dirty.end = dirty.end.max(self.length.min(*offset + record_bytes as u64));
                    if let Some(valid) = self.record(*offset, salt)? {
                        return Ok(Some(valid.header));
                    }
                }
                *offset += ALIGNMENT as u64;
            }
            *offset = block_end;
        }
        Ok(None)
    }
}
