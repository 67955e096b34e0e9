//! Commands and their bytes: what a leader writes into the log and every replica reads out of it.
//!
//! # Format, version 1
//!
//! All integers are little-endian. Fields follow each other without padding; a field in brackets is there only when the
//! condition beside it holds. Nothing may follow the last field.
//!
//! | bytes | field | put | delete |
//! |---|---|---|---|
//! | 1 | version | 1 | 1 |
//! | 1 | operation | 1 | 2 |
//! | 1 | detail | its mode | its flags |
//! | 8 | time, in milliseconds of replicated time | | |
//! | \[8\] | expected revision | if mode is 3 | if flag bit 0 |
//! | 2 | length of the key, 1 to 1,024 | | |
//! | \[4\] | length of the value, 0 to 1,048,576 | always | never |
//! | n | key | | |
//! | \[n\] | value | always | never |
//!
//! Modes: 0 create, 1 upsert, 2 update, 3 compare. Flags: bit 0 expects a revision, bit 1 returns the previous value,
//! the others are 0.
//!
//! Reading is strict: another version, operation or mode, an unknown flag, a length out of bounds, an end that comes
//! too early and bytes that are left over each give an [`UnknownCommand`], whatever the bytes are. There is exactly one
//! encoding of each command and time.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::Revision;

/// The greatest length of a key in bytes. Keys are compared on every descent of the ordered map and stand in every
/// index over it; a kilobyte is more than any path or identifier needs.
pub const KEY_BYTES_MAX: usize = 1024;

/// The greatest length of a value in bytes. One command must fit a message to a follower, with room, at gRPC's default
/// limit of 4 MiB, and must not delay the heartbeats behind it noticeably.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// No encoded command is longer than this, in bytes: the longest header, key and value.
pub const COMMAND_BYTES_MAX: usize = HEADER_BYTES_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX;

/// The fields before the key with every optional one present.
const HEADER_BYTES_MAX: usize = 1 + 1 + 1 + 8 + 8 + 2 + 4;

const VERSION: u8 = 1;

const OPERATION_PUT: u8 = 1;
const OPERATION_DELETE: u8 = 2;

const MODE_CREATE: u8 = 0;
const MODE_UPSERT: u8 = 1;
const MODE_UPDATE: u8 = 2;
const MODE_COMPARE: u8 = 3;

const FLAG_EXPECTED_REVISION: u8 = 1 << 0;
const FLAG_RETURN_PREVIOUS: u8 = 1 << 1;

/// A change that a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Write a value.
    Put {
        /// The key, 1 to [`KEY_BYTES_MAX`] bytes.
        key: Bytes,
        /// The value, at most [`VALUE_BYTES_MAX`] bytes.
        value: Bytes,
        /// On what condition.
        mode: PutMode,
    },
    /// Remove a key.
    Delete {
        /// The key, 1 to [`KEY_BYTES_MAX`] bytes.
        key: Bytes,
        /// Remove it only if its last write has this revision.
        expected_revision: Option<Revision>,
        /// Answer with what was removed.
        return_previous: bool,
    },
}

/// On what condition a put writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutMode {
    /// Only if the key does not exist.
    Create,
    /// Always.
    Upsert,
    /// Only if the key exists.
    Update,
    /// Only if the key exists and its last write has this revision.
    Compare {
        /// The revision that the key's last write must have.
        expected_revision: Revision,
    },
}

impl Command {
    /// The key that the command is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Command::Put { key, .. } | Command::Delete { key, .. } => key,
        }
    }

    /// Whether the command is within the limits, which [`encode`] demands.
    ///
    /// # Errors
    ///
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidCommand> {
        let key_bytes = self.key().len();
        if key_bytes == 0 {
            return Err(InvalidCommand::KeyEmpty);
        }
        if key_bytes > KEY_BYTES_MAX {
            return Err(InvalidCommand::KeyTooLong { bytes: key_bytes });
        }
        match self {
            Command::Put { value, .. } if value.len() > VALUE_BYTES_MAX => {
                Err(InvalidCommand::ValueTooLong { bytes: value.len() })
            }
            Command::Put { .. } | Command::Delete { .. } => Ok(()),
        }
    }
}

/// A command that must not get into the log, because no replica could read it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum InvalidCommand {
    /// The key has no bytes.
    #[error("the key is empty")]
    KeyEmpty,
    /// The key is longer than [`KEY_BYTES_MAX`].
    #[error("the key has {bytes} bytes, more than {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The value is longer than [`VALUE_BYTES_MAX`].
    #[error("the value has {bytes} bytes, more than {VALUE_BYTES_MAX}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
}

/// Bytes that are no command of this version. In a committed entry they stop the node: a newer version may know them,
/// and skipping what the others apply would make this replica differ from them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum UnknownCommand {
    /// A version that this program does not know.
    #[error("command version {0} is unknown")]
    Version(u8),
    /// An operation that this version does not have.
    #[error("operation {0} is unknown")]
    Operation(u8),
    /// A put with a mode that this version does not have.
    #[error("put mode {0} is unknown")]
    Mode(u8),
    /// A delete with flags that this version does not have.
    #[error("delete flags {0:#010b} are unknown")]
    Flags(u8),
    /// The bytes end before the command does.
    #[error("the command is cut off")]
    Truncated,
    /// The key is empty or longer than [`KEY_BYTES_MAX`].
    #[error("a key of {0} bytes is out of bounds")]
    KeyLength(usize),
    /// The value is longer than [`VALUE_BYTES_MAX`].
    #[error("a value of {0} bytes is out of bounds")]
    ValueLength(usize),
    /// The bytes go on after the command.
    #[error("{0} bytes follow the command")]
    TrailingBytes(usize),
}

/// The bytes of a command stamped with `time_ms` of replicated time, in one allocation of exactly their length. The log
/// and the state share that allocation.
///
/// # Errors
///
/// The command is out of the limits; nothing that [`decode`] would refuse is ever encoded.
pub fn encode(command: &Command, time_ms: u64) -> Result<Bytes, InvalidCommand> {
    command.validate()?;
    Ok(match command {
        Command::Put { key, value, mode } => {
            let (detail, expected_revision) = match mode {
                PutMode::Create => (MODE_CREATE, None),
                PutMode::Upsert => (MODE_UPSERT, None),
                PutMode::Update => (MODE_UPDATE, None),
                PutMode::Compare { expected_revision } => (MODE_COMPARE, Some(*expected_revision)),
            };
            Header { operation: OPERATION_PUT, detail, time_ms, expected_revision }.encode(key, Some(value))
        }
        Command::Delete { key, expected_revision, return_previous } => {
            let mut detail = 0;
            if expected_revision.is_some() {
                detail |= FLAG_EXPECTED_REVISION;
            }
            if *return_previous {
                detail |= FLAG_RETURN_PREVIOUS;
            }
            let expected_revision = *expected_revision;
            Header { operation: OPERATION_DELETE, detail, time_ms, expected_revision }.encode(key, None)
        }
    })
}

/// The fields before the lengths, for [`encode`].
struct Header {
    operation: u8,
    detail: u8,
    time_ms: u64,
    expected_revision: Option<Revision>,
}

impl Header {
    fn encode(&self, key: &Bytes, value: Option<&Bytes>) -> Bytes {
        let length = HEADER_BYTES_MAX + key.len() + value.map_or(0, Bytes::len)
            - if self.expected_revision.is_some() { 0 } else { 8 }
            - if value.is_some() { 0 } else { 4 };
        let mut buffer = BytesMut::with_capacity(length);
        buffer.put_u8(VERSION);
        buffer.put_u8(self.operation);
        buffer.put_u8(self.detail);
        buffer.put_u64_le(self.time_ms);
        if let Some(revision) = self.expected_revision {
            buffer.put_u64_le(revision.get());
        }
        buffer.put_u16_le(u16::try_from(key.len()).expect("a valid key has at most 1,024 bytes"));
        if let Some(value) = value {
            buffer.put_u32_le(u32::try_from(value.len()).expect("a valid value has at most a mebibyte"));
        }
        buffer.put_slice(key);
        if let Some(value) = value {
            buffer.put_slice(value);
        }
        debug_assert_eq!(buffer.len(), length, "the capacity is the length, so that nothing is allocated twice");
        buffer.freeze()
    }
}

/// The command in `encoded`, and its stamp in milliseconds of replicated time. Key and value are slices of `encoded`:
/// nothing is copied.
///
/// # Errors
///
/// The bytes are no command that this version knows. Any bytes may be given.
pub fn decode(encoded: &Bytes) -> Result<(u64, Command), UnknownCommand> {
    let mut fields = Fields { encoded, offset: 0 };
    match fields.u8()? {
        VERSION => {}
        other => return Err(UnknownCommand::Version(other)),
    }
    let operation = fields.u8()?;
    let detail = fields.u8()?;
    let (time_ms, command) = match operation {
        OPERATION_PUT => decode_put(detail, &mut fields)?,
        OPERATION_DELETE => decode_delete(detail, &mut fields)?,
        other => return Err(UnknownCommand::Operation(other)),
    };
    match fields.remaining() {
        0 => Ok((time_ms, command)),
        more => Err(UnknownCommand::TrailingBytes(more)),
    }
}

fn decode_put(detail: u8, fields: &mut Fields<'_>) -> Result<(u64, Command), UnknownCommand> {
    if detail > MODE_COMPARE {
        return Err(UnknownCommand::Mode(detail));
    }
    let time_ms = fields.u64()?;
    let mode = match detail {
        MODE_CREATE => PutMode::Create,
        MODE_UPSERT => PutMode::Upsert,
        MODE_UPDATE => PutMode::Update,
        _ => PutMode::Compare { expected_revision: Revision::new(fields.u64()?) },
    };
    let key_bytes = fields.key_length()?;
    let value_bytes = fields.value_length()?;
    let key = fields.bytes(key_bytes)?;
    let value = fields.bytes(value_bytes)?;
    Ok((time_ms, Command::Put { key, value, mode }))
}

fn decode_delete(detail: u8, fields: &mut Fields<'_>) -> Result<(u64, Command), UnknownCommand> {
    if detail & !(FLAG_EXPECTED_REVISION | FLAG_RETURN_PREVIOUS) != 0 {
        return Err(UnknownCommand::Flags(detail));
    }
    let time_ms = fields.u64()?;
    let expected_revision = match detail & FLAG_EXPECTED_REVISION {
        0 => None,
        _ => Some(Revision::new(fields.u64()?)),
    };
    let return_previous = detail & FLAG_RETURN_PREVIOUS != 0;
    let key_bytes = fields.key_length()?;
    let key = fields.bytes(key_bytes)?;
    Ok((time_ms, Command::Delete { key, expected_revision, return_previous }))
}

/// Reads fields from the front of a command; the end may come anywhere.
struct Fields<'a> {
    encoded: &'a Bytes,
    /// Always within `encoded`.
    offset: usize,
}

impl Fields<'_> {
    fn remaining(&self) -> usize {
        self.encoded.len() - self.offset
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], UnknownCommand> {
        let field = self.encoded[self.offset..].first_chunk::<N>().ok_or(UnknownCommand::Truncated)?;
        self.offset += N;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, UnknownCommand> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Result<u64, UnknownCommand> {
        self.array().map(u64::from_le_bytes)
    }

    fn key_length(&mut self) -> Result<usize, UnknownCommand> {
        match usize::from(self.array().map(u16::from_le_bytes)?) {
            length @ 1..=KEY_BYTES_MAX => Ok(length),
            length => Err(UnknownCommand::KeyLength(length)),
        }
    }

    fn value_length(&mut self) -> Result<usize, UnknownCommand> {
        let length = self.array().map(u32::from_le_bytes)?;
        match usize::try_from(length).unwrap_or(usize::MAX) {
            length @ 0..=VALUE_BYTES_MAX => Ok(length),
            length => Err(UnknownCommand::ValueLength(length)),
        }
    }

    /// The next `length` bytes, shared with the command. The caller has bounded `length`, so the sum cannot overflow.
    fn bytes(&mut self, length: usize) -> Result<Bytes, UnknownCommand> {
        if length > self.remaining() {
            return Err(UnknownCommand::Truncated);
        }
        let slice = self.encoded.slice(self.offset..self.offset + length);
        self.offset += length;
        Ok(slice)
    }
}
