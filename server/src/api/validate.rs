//! The checks of what a client sent, before anything is done with it.

use bytes::Bytes;
use engine::kv::{self, InvalidRequestId, KEY_BYTES_MAX, Revision, SessionId, VALUE_BYTES_MAX};
use proto::admin::v1::UpdateSettingsRequest;
use proto::kv::v1::{
    Consistency, DeleteRequest, GetOutcomeRequest, GetRequest, PutMode, PutRequest, RequestId as RequestIdMessage,
};
use tonic::Code;

use super::error::Shape;
use super::limits::LOG_FILTER_BYTES_MAX;
use crate::node::Get;

/// The length of a session's id: 128 random bits.
const SESSION_BYTES: usize = 16;

/// The length of the id of a trace, by the W3C's trace context.
const TRACE_ID_BYTES: usize = 16;

/// Which rule of the interface a request breaks. The field of each is fixed, but for those that name it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Violation {
    #[error("the key is empty")]
    KeyEmpty,
    #[error("the key has {actual_bytes} bytes and may have {KEY_BYTES_MAX}")]
    KeyTooLarge { actual_bytes: usize },
    #[error("the value has {actual_bytes} bytes and may have {VALUE_BYTES_MAX}")]
    ValueTooLarge { actual_bytes: usize },
    #[error("mode {number} is unknown")]
    ModeUnknown { number: i32 },
    #[error("consistency {number} is unknown")]
    ConsistencyUnknown { number: i32 },
    #[error("max_staleness_ms is only allowed with CONSISTENCY_STALE")]
    MaxStalenessNotAllowed,
    #[error("max_staleness_ms must be at least 1")]
    MaxStalenessZero,
    #[error("expected_revision is required with PUT_MODE_COMPARE")]
    RevisionMissing,
    #[error("expected_revision is only allowed with PUT_MODE_COMPARE")]
    RevisionNotAllowed,
    #[error("expected_revision must be at least 1")]
    RevisionZero,
    #[error("the request id is missing")]
    RequestIdMissing,
    #[error("the request id's session has {actual_bytes} bytes and has to have {SESSION_BYTES}")]
    SessionLength { actual_bytes: usize },
    #[error("the request id is out of bounds: {0}")]
    RequestId(InvalidRequestId),
    #[error("no setting is named")]
    SettingMissing,
    #[error("the id of the trace has {actual_bytes} bytes and has to have {TRACE_ID_BYTES}")]
    TraceIdLength { actual_bytes: usize },
    #[error("the log filter has {actual_bytes} bytes, and at most {LOG_FILTER_BYTES_MAX} are allowed")]
    LogFilterTooLong { actual_bytes: usize },
    #[error("{cause}")]
    LogFilterInvalid { cause: String },
    #[error("the request is missing")]
    RequestMissing,
    #[error("another request with the tag {tag} is under way on the stream")]
    TagReused { tag: u64 },
}

impl From<kv::InvalidCommand> for Violation {
    fn from(invalid: kv::InvalidCommand) -> Self {
        match invalid {
            kv::InvalidCommand::KeyEmpty => Self::KeyEmpty,
            kv::InvalidCommand::KeyTooLong { bytes } => Self::KeyTooLarge { actual_bytes: bytes },
            kv::InvalidCommand::ValueTooLong { bytes } => Self::ValueTooLarge { actual_bytes: bytes },
            kv::InvalidCommand::RequestId(invalid) => Self::RequestId(invalid),
            kv::InvalidCommand::NothingToSettle => Self::RequestIdMissing,
        }
    }
}

impl Violation {
    /// How the status of this violation looks.
    pub(super) fn shape(&self) -> Shape {
        let (field, reason) = match self {
            Self::KeyEmpty => ("key", "KEY_EMPTY"),
            Self::KeyTooLarge { .. } => ("key", "KEY_TOO_LARGE"),
            Self::ValueTooLarge { .. } => ("value", "VALUE_TOO_LARGE"),
            Self::ModeUnknown { .. } => ("mode", "MODE_UNKNOWN"),
            Self::ConsistencyUnknown { .. } => ("consistency", "CONSISTENCY_UNKNOWN"),
            Self::MaxStalenessNotAllowed => ("max_staleness_ms", "MAX_STALENESS_NOT_ALLOWED"),
            Self::MaxStalenessZero => ("max_staleness_ms", "MAX_STALENESS_ZERO"),
            Self::RevisionMissing => ("expected_revision", "EXPECTED_REVISION_MISSING"),
            Self::RevisionNotAllowed => ("expected_revision", "EXPECTED_REVISION_NOT_ALLOWED"),
            Self::RevisionZero => ("expected_revision", "EXPECTED_REVISION_ZERO"),
            Self::RequestIdMissing => ("request_id", "REQUEST_ID_MISSING"),
            Self::SessionLength { .. } => ("request_id.session", "REQUEST_ID_SESSION_LENGTH"),
            Self::RequestId(InvalidRequestId::SequenceZero) => ("request_id.sequence", "REQUEST_ID_SEQUENCE_ZERO"),
            Self::RequestId(InvalidRequestId::AcknowledgedAhead { .. }) => {
                ("request_id.acknowledged_below", "REQUEST_ID_ACKNOWLEDGED_AHEAD")
            }
            Self::SettingMissing => ("lease_reads", "SETTING_MISSING"),
            Self::TraceIdLength { .. } => ("trace_id", "TRACE_ID_LENGTH"),
            Self::LogFilterTooLong { .. } => ("filter", "LOG_FILTER_TOO_LONG"),
            Self::LogFilterInvalid { .. } => ("filter", "LOG_FILTER_INVALID"),
            Self::RequestMissing => ("request", "REQUEST_MISSING"),
            Self::TagReused { .. } => ("requests.tag", "TAG_REUSED"),
        };
        let shape = Shape::new(Code::InvalidArgument, reason).field(field, self.to_string());
        match self {
            Self::KeyTooLarge { actual_bytes } => {
                shape.with("limitBytes", &KEY_BYTES_MAX).with("actualBytes", actual_bytes)
            }
            Self::ValueTooLarge { actual_bytes } => {
                shape.with("limitBytes", &VALUE_BYTES_MAX).with("actualBytes", actual_bytes)
            }
            Self::ModeUnknown { number } | Self::ConsistencyUnknown { number } => shape.with("number", number),
            Self::SessionLength { actual_bytes } => {
                shape.with("expectedBytes", &SESSION_BYTES).with("actualBytes", actual_bytes)
            }
            Self::TraceIdLength { actual_bytes } => {
                shape.with("expectedBytes", &TRACE_ID_BYTES).with("actualBytes", actual_bytes)
            }
            Self::RequestId(InvalidRequestId::AcknowledgedAhead { sequence, acknowledged_below }) => {
                shape.with("sequence", sequence).with("acknowledgedBelow", acknowledged_below)
            }
            Self::LogFilterTooLong { actual_bytes } => {
                shape.with("limitBytes", &LOG_FILTER_BYTES_MAX).with("actualBytes", actual_bytes)
            }
            Self::TagReused { tag } => shape.with("tag", tag),
            Self::KeyEmpty
            | Self::MaxStalenessNotAllowed
            | Self::MaxStalenessZero
            | Self::RevisionMissing
            | Self::RevisionNotAllowed
            | Self::RevisionZero
            | Self::RequestIdMissing
            | Self::RequestId(InvalidRequestId::SequenceZero)
            | Self::SettingMissing
            | Self::LogFilterInvalid { .. }
            | Self::RequestMissing => shape,
        }
    }
}

/// The request of a put. Key and value are passed on and not copied.
pub(super) fn put(request: PutRequest) -> Result<kv::Request, Violation> {
    let PutRequest { key, value, mode, expected_revision, request_id } = request;
    let key = valid_key(key)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Violation::ValueTooLarge { actual_bytes: value.len() });
    }
    let mode = PutMode::try_from(mode).map_err(|_| Violation::ModeUnknown { number: mode })?;
    let expected_revision = valid_revision(expected_revision)?;
    let mode = match (mode, expected_revision) {
        (PutMode::Compare, Some(expected_revision)) => kv::PutMode::Compare { expected_revision },
        (PutMode::Compare, None) => return Err(Violation::RevisionMissing),
        (_, Some(_)) => return Err(Violation::RevisionNotAllowed),
        (PutMode::Unspecified | PutMode::Create, None) => kv::PutMode::Create,
        (PutMode::Upsert, None) => kv::PutMode::Upsert,
        (PutMode::Update, None) => kv::PutMode::Update,
    };
    let id = request_id.map(valid_request_id).transpose()?;
    Ok(kv::Request { id, command: kv::Command::Put { key, value, mode } })
}

/// What a get is to read.
pub(super) fn get(request: GetRequest) -> Result<Get, Violation> {
    let GetRequest { key, consistency, max_staleness_ms, min_revision } = request;
    let key = valid_key(key)?;
    let unknown = |_| Violation::ConsistencyUnknown { number: consistency };
    let consistency = match (Consistency::try_from(consistency).map_err(unknown)?, max_staleness_ms) {
        // No state is proven to be younger than a millisecond.
        (Consistency::Stale, Some(0)) => return Err(Violation::MaxStalenessZero),
        (Consistency::Stale, max_age_ms) => engine::Consistency::Stale { max_age_ms },
        (_, Some(_)) => return Err(Violation::MaxStalenessNotAllowed),
        (Consistency::Unspecified | Consistency::Linearizable, None) => engine::Consistency::Linearizable,
        (Consistency::Quorum, None) => engine::Consistency::Quorum,
    };
    Ok(Get { key, consistency, min_revision: Revision::new(min_revision) })
}

/// The request of a delete.
pub(super) fn delete(request: DeleteRequest) -> Result<kv::Request, Violation> {
    let DeleteRequest { key, expected_revision, return_previous, request_id } = request;
    let key = valid_key(key)?;
    let expected_revision = valid_revision(expected_revision)?;
    let id = request_id.map(valid_request_id).transpose()?;
    Ok(kv::Request { id, command: kv::Command::Delete { key, expected_revision, return_previous } })
}

/// The request that settles what became of another.
pub(super) fn get_outcome(request: GetOutcomeRequest) -> Result<kv::Request, Violation> {
    let id = request.request_id.ok_or(Violation::RequestIdMissing).and_then(valid_request_id)?;
    Ok(kv::Request { id: Some(id), command: kv::Command::Settle })
}

/// The request that changes settings.
pub(super) fn update_settings(request: UpdateSettingsRequest) -> Result<kv::Request, Violation> {
    let UpdateSettingsRequest { lease_reads, request_id } = request;
    let lease_reads = lease_reads.ok_or(Violation::SettingMissing)?;
    let id = request_id.map(valid_request_id).transpose()?;
    Ok(kv::Request { id, command: kv::Command::Configure { lease_reads } })
}

fn valid_request_id(id: RequestIdMessage) -> Result<kv::RequestId, Violation> {
    let RequestIdMessage { session, opened_at_ms, sequence, acknowledged_below } = id;
    let session = <[u8; SESSION_BYTES]>::try_from(session.as_ref())
        .map_err(|_| Violation::SessionLength { actual_bytes: session.len() })?;
    let session = SessionId::new(u128::from_be_bytes(session));
    let id = kv::RequestId { session, opened_at_ms, sequence, acknowledged_below };
    id.validate().map_err(Violation::RequestId)?;
    Ok(id)
}

fn valid_key(key: String) -> Result<Bytes, Violation> {
    match key.len() {
        0 => Err(Violation::KeyEmpty),
        1..=KEY_BYTES_MAX => Ok(key.into()),
        actual_bytes => Err(Violation::KeyTooLarge { actual_bytes }),
    }
}

fn valid_revision(revision: Option<u64>) -> Result<Option<Revision>, Violation> {
    match revision {
        Some(0) => Err(Violation::RevisionZero),
        revision => Ok(revision.map(Revision::new)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_request(key: &str, value_bytes: usize, mode: i32, expected_revision: Option<u64>) -> PutRequest {
        let value = vec![0; value_bytes].into();
        PutRequest { key: key.to_owned(), value, mode, expected_revision, request_id: None }
    }

    #[test]
    fn the_bounds_of_a_key() {
        for (bytes, expected) in [
            (0, Err(Violation::KeyEmpty)),
            (1, Ok(Some(1))),
            (1023, Ok(Some(1023))),
            (1024, Ok(Some(1024))),
            (1025, Err(Violation::KeyTooLarge { actual_bytes: 1025 })),
        ] {
            let key = "k".repeat(bytes);
            let put = put(put_request(&key, 0, 0, None)).map(|request| request.command.key().map(Bytes::len));
            let get = get(GetRequest { key: key.clone(), ..GetRequest::default() }).map(|get| Some(get.key.len()));
            let delete = delete(DeleteRequest { key, ..Default::default() });
            assert_eq!((put, get), (expected.clone(), expected.clone()), "{bytes} bytes");
            assert_eq!(delete.map(|request| request.command.key().map(Bytes::len)), expected, "{bytes} bytes");
        }
    }

    #[test]
    fn a_key_is_measured_in_bytes_and_may_hold_any_character() {
        assert!(put(put_request(&"ä".repeat(512), 0, 0, None)).is_ok());
        let long = put(put_request(&"ä".repeat(513), 0, 0, None));
        assert_eq!(long, Err(Violation::KeyTooLarge { actual_bytes: 1026 }));
        for key in ["\0", "..", "\u{7f}", "\n", "\u{10ffff}"] {
            assert!(put(put_request(key, 0, 0, None)).is_ok(), "{key:?}");
        }
    }

    #[test]
    fn the_bounds_of_a_value() {
        for bytes in [0, 1, VALUE_BYTES_MAX - 1, VALUE_BYTES_MAX] {
            assert!(put(put_request("k", bytes, 0, None)).is_ok(), "{bytes}");
        }
        for actual_bytes in [VALUE_BYTES_MAX + 1, (4 << 20) + 1] {
            let refused = put(put_request("k", actual_bytes, 0, None));
            assert_eq!(refused, Err(Violation::ValueTooLarge { actual_bytes }));
        }
    }

    #[test]
    fn each_mode_with_and_without_a_revision() {
        let compare = kv::PutMode::Compare { expected_revision: Revision::new(7) };
        for (mode, revision, expected) in [
            (0, None, Ok(kv::PutMode::Create)),
            (1, None, Ok(kv::PutMode::Create)),
            (2, None, Ok(kv::PutMode::Upsert)),
            (3, None, Ok(kv::PutMode::Update)),
            (4, Some(7), Ok(compare)),
            (4, None, Err(Violation::RevisionMissing)),
            (4, Some(0), Err(Violation::RevisionZero)),
            (0, Some(7), Err(Violation::RevisionNotAllowed)),
            (1, Some(7), Err(Violation::RevisionNotAllowed)),
            (2, Some(7), Err(Violation::RevisionNotAllowed)),
            (3, Some(u64::MAX), Err(Violation::RevisionNotAllowed)),
            (5, None, Err(Violation::ModeUnknown { number: 5 })),
            (-1, None, Err(Violation::ModeUnknown { number: -1 })),
            (i32::MAX, None, Err(Violation::ModeUnknown { number: i32::MAX })),
        ] {
            let command = put(put_request("k", 1, mode, revision));
            let found = command.map(|request| match request.command {
                kv::Command::Put { mode, .. } => mode,
                other => unreachable!("{other:?} is no put"),
            });
            assert_eq!(found, expected, "mode {mode}, revision {revision:?}");
        }
    }

    #[test]
    fn the_bounds_of_a_deletes_revision() {
        let request =
            |revision| DeleteRequest { key: "k".to_owned(), expected_revision: revision, ..Default::default() };
        assert_eq!(delete(request(Some(0))), Err(Violation::RevisionZero));
        for revision in [None, Some(1), Some(u64::MAX)] {
            assert!(delete(request(revision)).is_ok());
        }
    }

    #[test]
    fn each_consistency_with_and_without_a_bound_of_staleness() {
        use engine::Consistency::{Linearizable, Quorum, Stale};
        for (number, max_staleness_ms, expected) in [
            (0, None, Ok(Linearizable)),
            (1, None, Ok(Linearizable)),
            (2, None, Ok(Quorum)),
            (3, None, Ok(Stale { max_age_ms: None })),
            (3, Some(1), Ok(Stale { max_age_ms: Some(1) })),
            (3, Some(u64::MAX), Ok(Stale { max_age_ms: Some(u64::MAX) })),
            (3, Some(0), Err(Violation::MaxStalenessZero)),
            (0, Some(1), Err(Violation::MaxStalenessNotAllowed)),
            (1, Some(0), Err(Violation::MaxStalenessNotAllowed)),
            (2, Some(u64::MAX), Err(Violation::MaxStalenessNotAllowed)),
            (4, None, Err(Violation::ConsistencyUnknown { number: 4 })),
            (-1, Some(1), Err(Violation::ConsistencyUnknown { number: -1 })),
            (i32::MAX, None, Err(Violation::ConsistencyUnknown { number: i32::MAX })),
            (i32::MIN, None, Err(Violation::ConsistencyUnknown { number: i32::MIN })),
        ] {
            for min_revision in [0, 1, u64::MAX] {
                let (key, consistency) = ("k".to_owned(), number);
                let found = get(GetRequest { key, consistency, max_staleness_ms, min_revision });
                let found = found.map(|get| (get.consistency, get.min_revision.get()));
                let expected = expected.clone().map(|consistency| (consistency, min_revision));
                assert_eq!(found, expected, "consistency {number}, at most {max_staleness_ms:?} ms");
            }
        }
    }

    #[test]
    fn a_setting_has_to_be_named_to_be_changed() {
        let request = |lease_reads| UpdateSettingsRequest { lease_reads, request_id: None };
        assert_eq!(update_settings(request(None)), Err(Violation::SettingMissing));
        for lease_reads in [false, true] {
            let command = kv::Command::Configure { lease_reads };
            assert_eq!(update_settings(request(Some(lease_reads))), Ok(command.into()));
        }
    }

    #[test]
    fn a_value_is_passed_on_and_not_copied() {
        let value = Bytes::from(vec![7; 100]);
        let request = PutRequest { value: value.clone(), ..put_request("k", 0, 0, None) };
        let put = put(request).map(|request| request.command);
        let Ok(kv::Command::Put { value: passed, .. }) = put else { panic!("a valid put") };
        assert_eq!(passed.as_ptr(), value.as_ptr());
    }

    #[test]
    fn the_bounds_of_a_request_id() {
        let id = |bytes: usize, sequence, acknowledged_below| RequestIdMessage {
            session: vec![1; bytes].into(),
            opened_at_ms: u64::MAX,
            sequence,
            acknowledged_below,
        };
        let ahead = |sequence, acknowledged_below| {
            Violation::RequestId(InvalidRequestId::AcknowledgedAhead { sequence, acknowledged_below })
        };
        for (id, expected) in [
            (id(16, 1, 0), None),
            (id(16, 1, 1), None),
            (id(16, u64::MAX, u64::MAX), None),
            (id(16, 0, 0), Some(Violation::RequestId(InvalidRequestId::SequenceZero))),
            (id(16, 1, 2), Some(ahead(1, 2))),
            (id(16, 1, u64::MAX), Some(ahead(1, u64::MAX))),
            (id(0, 1, 0), Some(Violation::SessionLength { actual_bytes: 0 })),
            (id(15, 1, 0), Some(Violation::SessionLength { actual_bytes: 15 })),
            (id(17, 1, 0), Some(Violation::SessionLength { actual_bytes: 17 })),
            (id(1 << 20, 1, 0), Some(Violation::SessionLength { actual_bytes: 1 << 20 })),
        ] {
            let request_id = Some(id.clone());
            let key = "k".to_owned();
            assert_eq!(
                put(PutRequest { request_id: Some(id.clone()), ..put_request("k", 1, 0, None) }).err(),
                expected
            );
            assert_eq!(delete(DeleteRequest { key, request_id: Some(id), ..Default::default() }).err(), expected);
            let settings = UpdateSettingsRequest { lease_reads: Some(true), request_id: request_id.clone() };
            assert_eq!(update_settings(settings).err(), expected);
            assert_eq!(get_outcome(GetOutcomeRequest { request_id }).err(), expected);
        }
        assert_eq!(get_outcome(GetOutcomeRequest { request_id: None }), Err(Violation::RequestIdMissing));
    }
}
