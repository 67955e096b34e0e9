//! Commands and their bytes: what a leader writes into the log and every replica reads out of it.
//!
//! # Format
//!
//! All integers are little-endian. Fields follow each other without padding; a field in brackets is there only when the
//! condition beside it holds. Nothing may follow the last field.
//!
//! | bytes | field | put | delete | settle | configure |
//! |---|---|---|---|---|---|
//! | 1 | version | 1 or 2 | 1 or 2 | 2 | 1 or 2 |
//! | 1 | operation | 1 | 2 | 3 | 4 |
//! | 1 | detail | its mode | its flags | 0 | its setting |
//! | 8 | time, in milliseconds of replicated time | | | | |
//! | \[40\] | request id | if version is 2 | if version is 2 | always | if version is 2 |
//! | \[8\] | expected revision | if mode is 3 | if flag bit 0 | never | never |
//! | \[2\] | length of the key, 1 to 1,024 | always | always | never | never |
//! | \[4\] | length of the value, 0 to 1,048,576 | always | never | never | never |
//! | \[n\] | key | always | always | never | never |
//! | \[n\] | value | always | never | never | never |
//!
//! A request id is the session in 16 bytes, then in 8 bytes each when it was opened, the sequence (1 or above), and
//! what is acknowledged (at most the sequence).
//!
//! Modes: 0 create, 1 upsert, 2 update, 3 compare. Flags: bit 0 expects a revision, bit 1 returns the previous value,
//! the others are 0. Settings: 0 lease reads off, 1 lease reads on. Version 2 is version 1 with a request id.
//!
//! Reading is strict: another version, operation, mode or setting, an unknown flag, a length out of bounds, an end that
//! comes too early and bytes that are left over each give an [`UnknownCommand`], whatever the bytes are. There is
//! exactly one encoding of each command and time. Versions from before there were settings know no operation 4, and
//! stop at it.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::Revision;
use super::sessions::{InvalidRequestId, RequestId, SessionId};

/// The greatest length of a key in bytes. Keys are compared on every descent of the ordered map and stand in every
/// index over it; a kilobyte is more than any path or identifier needs.
pub const KEY_BYTES_MAX: usize = 1024;

/// The greatest length of a value in bytes. One command must fit a message to a follower, with room, at gRPC's default
/// limit of 4 MiB, and must not delay the heartbeats behind it noticeably.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// No encoded command is longer than this, in bytes: the longest header, key and value.
pub const COMMAND_BYTES_MAX: usize = HEADER_BYTES_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX;

/// The fields before the key with every optional one present.
const HEADER_BYTES_MAX: usize = 1 + 1 + 1 + 8 + REQUEST_ID_BYTES + 8 + 2 + 4;

/// The fields before the request id.
const FRONT_BYTES: usize = 1 + 1 + 1 + 8;

const REQUEST_ID_BYTES: usize = 16 + 8 + 8 + 8;

const VERSION: u8 = 1;
const VERSION_WITH_ID: u8 = 2;

const OPERATION_PUT: u8 = 1;
const OPERATION_DELETE: u8 = 2;
const OPERATION_SETTLE: u8 = 3;
const OPERATION_CONFIGURE: u8 = 4;

const MODE_CREATE: u8 = 0;
const MODE_UPSERT: u8 = 1;
const MODE_UPDATE: u8 = 2;
const MODE_COMPARE: u8 = 3;

const FLAG_EXPECTED_REVISION: u8 = 1 << 0;
const FLAG_RETURN_PREVIOUS: u8 = 1 << 1;

const SETTING_LEASE_READS_OFF: u8 = 0;
const SETTING_LEASE_READS_ON: u8 = 1;

/// Whether these are the bytes of a command that changes a setting.
pub(crate) fn is_configure(encoded: &[u8]) -> bool {
    encoded.get(1) == Some(&OPERATION_CONFIGURE)
}

/// What a client asks for, and perhaps under which name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// With it the command is run once, however often it comes.
    pub id: Option<RequestId>,
    /// What is to be done.
    pub command: Command,
}

impl From<Command> for Request {
    fn from(command: Command) -> Request {
        Request { id: None, command }
    }
}

impl Request {
    /// Whether the request is within the limits, which [`encode`] demands.
    ///
    /// # Errors
    ///
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidCommand> {
        match &self.id {
            Some(id) => id.validate()?,
            None if matches!(self.command, Command::Settle) => return Err(InvalidCommand::NothingToSettle),
            None => {}
        }
        self.command.validate()
    }
}

/// A change that a client asks for, or a question that only a change can answer for good.
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
    /// Say what became of the write whose id the request has; if nothing did, see to it that nothing ever will.
    Settle,
    /// Change a setting of the cluster. It is about no key, and makes no revision.
    Configure {
        /// See [`Settings::lease_reads`](super::Settings::lease_reads).
        lease_reads: bool,
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
    /// The key that the command is about, if it is about one.
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Command::Put { key, .. } | Command::Delete { key, .. } => Some(key),
            Command::Settle | Command::Configure { .. } => None,
        }
    }

    /// Whether the command is within the limits, which [`encode`] demands.
    ///
    /// # Errors
    ///
    /// Names the first field that is out of bounds.
    pub fn validate(&self) -> Result<(), InvalidCommand> {
        let Some(key) = self.key() else { return Ok(()) };
        let key_bytes = key.len();
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
            Command::Put { .. } | Command::Delete { .. } | Command::Settle | Command::Configure { .. } => Ok(()),
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
    /// The request id is none that a client makes.
    #[error(transparent)]
    RequestId(#[from] InvalidRequestId),
    /// It asks for the outcome of a write without a request id.
    #[error("only a write with a request id can be settled")]
    NothingToSettle,
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
    /// A settlement with a detail that this version does not have.
    #[error("detail {0} of a settlement is unknown")]
    Detail(u8),
    /// A setting that this version does not have.
    #[error("setting {0} is unknown")]
    Setting(u8),
    /// The request id is none that a client makes.
    #[error("the request id is out of bounds: {0}")]
    RequestId(InvalidRequestId),
    /// A settlement without a request id.
    #[error("a settlement has no request id")]
    NothingToSettle,
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
pub fn encode(request: &Request, time_ms: u64) -> Result<Bytes, InvalidCommand> {
    request.validate()?;
    let id = request.id.as_ref();
    Ok(match &request.command {
        Command::Put { key, value, mode } => {
            let (detail, expected_revision) = match mode {
                PutMode::Create => (MODE_CREATE, None),
                PutMode::Upsert => (MODE_UPSERT, None),
                PutMode::Update => (MODE_UPDATE, None),
                PutMode::Compare { expected_revision } => (MODE_COMPARE, Some(*expected_revision)),
            };
            Header { operation: OPERATION_PUT, detail, time_ms, id, expected_revision }.encode(Some(key), Some(value))
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
            Header { operation: OPERATION_DELETE, detail, time_ms, id, expected_revision }.encode(Some(key), None)
        }
        Command::Settle => {
            Header { operation: OPERATION_SETTLE, detail: 0, time_ms, id, expected_revision: None }.encode(None, None)
        }
        Command::Configure { lease_reads } => {
            let detail = if *lease_reads { SETTING_LEASE_READS_ON } else { SETTING_LEASE_READS_OFF };
            Header { operation: OPERATION_CONFIGURE, detail, time_ms, id, expected_revision: None }.encode(None, None)
        }
    })
}

/// The fields before the lengths, for [`encode`].
struct Header<'a> {
    operation: u8,
    detail: u8,
    time_ms: u64,
    id: Option<&'a RequestId>,
    expected_revision: Option<Revision>,
}

impl Header<'_> {
    fn encode(&self, key: Option<&Bytes>, value: Option<&Bytes>) -> Bytes {
        let length = FRONT_BYTES
            + self.id.map_or(0, |_| REQUEST_ID_BYTES)
            + self.expected_revision.map_or(0, |_| 8)
            + key.map_or(0, |key| 2 + key.len())
            + value.map_or(0, |value| 4 + value.len());
        let mut buffer = BytesMut::with_capacity(length);
        buffer.put_u8(if self.id.is_some() { VERSION_WITH_ID } else { VERSION });
        buffer.put_u8(self.operation);
        buffer.put_u8(self.detail);
        buffer.put_u64_le(self.time_ms);
        if let Some(RequestId { session, opened_at_ms, sequence, acknowledged_below }) = self.id {
            buffer.put_u128_le(session.get());
            buffer.put_u64_le(*opened_at_ms);
            buffer.put_u64_le(*sequence);
            buffer.put_u64_le(*acknowledged_below);
        }
        if let Some(revision) = self.expected_revision {
            buffer.put_u64_le(revision.get());
        }
        if let Some(key) = key {
            buffer.put_u16_le(u16::try_from(key.len()).expect("a valid key has at most 1,024 bytes"));
        }
        if let Some(value) = value {
            buffer.put_u32_le(u32::try_from(value.len()).expect("a valid value has at most a mebibyte"));
        }
        buffer.put_slice(key.map_or(&[], |key| key));
        if let Some(value) = value {
            buffer.put_slice(value);
        }
        debug_assert_eq!(buffer.len(), length, "the capacity is the length, so that nothing is allocated twice");
        buffer.freeze()
    }
}

/// The request in `encoded`, and its stamp in milliseconds of replicated time. Key and value are slices of `encoded`:
/// nothing is copied.
///
/// # Errors
///
/// The bytes are no command that this version knows. Any bytes may be given.
pub fn decode(encoded: &Bytes) -> Result<(u64, Request), UnknownCommand> {
    let mut fields = Fields { encoded, offset: 0 };
    let has_id = match fields.u8()? {
        VERSION => false,
        VERSION_WITH_ID => true,
        other => return Err(UnknownCommand::Version(other)),
    };
    let operation = fields.u8()?;
    let detail = fields.u8()?;
    match (operation, detail) {
        (OPERATION_PUT, 0..=MODE_COMPARE) | (OPERATION_SETTLE, 0) => {}
        (OPERATION_CONFIGURE, SETTING_LEASE_READS_OFF | SETTING_LEASE_READS_ON) => {}
        (OPERATION_PUT, mode) => return Err(UnknownCommand::Mode(mode)),
        (OPERATION_DELETE, flags) if flags & !(FLAG_EXPECTED_REVISION | FLAG_RETURN_PREVIOUS) == 0 => {}
        (OPERATION_DELETE, flags) => return Err(UnknownCommand::Flags(flags)),
        (OPERATION_SETTLE, detail) => return Err(UnknownCommand::Detail(detail)),
        (OPERATION_CONFIGURE, setting) => return Err(UnknownCommand::Setting(setting)),
        (operation, _) => return Err(UnknownCommand::Operation(operation)),
    }
    let time_ms = fields.u64()?;
    let id = if has_id { Some(fields.request_id()?) } else { None };
    let command = match operation {
        OPERATION_PUT => decode_put(detail, &mut fields)?,
        OPERATION_DELETE => decode_delete(detail, &mut fields)?,
        OPERATION_CONFIGURE => Command::Configure { lease_reads: detail == SETTING_LEASE_READS_ON },
        _ if has_id => Command::Settle,
        _ => return Err(UnknownCommand::NothingToSettle),
    };
    match fields.remaining() {
        0 => Ok((time_ms, Request { id, command })),
        more => Err(UnknownCommand::TrailingBytes(more)),
    }
}

/// The hash of what the command in `encoded` asks for, which [`decode`] has read: of all but its stamp and its request
/// id.
pub(super) fn body_hash(encoded: &Bytes) -> u128 {
    let [version, operation, detail] = *encoded.first_chunk().expect("it was decoded");
    let begin = FRONT_BYTES + if version == VERSION_WITH_ID { REQUEST_ID_BYTES } else { 0 };
    xxh3_128_with_seed(&encoded[begin..], u64::from_le_bytes([operation, detail, 0, 0, 0, 0, 0, 0]))
}

fn decode_put(detail: u8, fields: &mut Fields<'_>) -> Result<Command, UnknownCommand> {
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
    Ok(Command::Put { key, value, mode })
}

fn decode_delete(detail: u8, fields: &mut Fields<'_>) -> Result<Command, UnknownCommand> {
    let expected_revision = match detail & FLAG_EXPECTED_REVISION {
        0 => None,
        _ => Some(Revision::new(fields.u64()?)),
    };
    let return_previous = detail & FLAG_RETURN_PREVIOUS != 0;
    let key_bytes = fields.key_length()?;
    let key = fields.bytes(key_bytes)?;
    Ok(Command::Delete { key, expected_revision, return_previous })
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

    fn request_id(&mut self) -> Result<RequestId, UnknownCommand> {
        let session = SessionId::new(self.array().map(u128::from_le_bytes)?);
        let (opened_at_ms, sequence, acknowledged_below) = (self.u64()?, self.u64()?, self.u64()?);
        let id = RequestId { session, opened_at_ms, sequence, acknowledged_below };
        id.validate().map_err(UnknownCommand::RequestId)?;
        Ok(id)
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
