//! The bytes of commands: what is written reads back, and nothing else reads at all.

use bytes::Bytes;
use engine::kv::command::{decode, encode};
use engine::kv::{
    COMMAND_BYTES_MAX, Command, InvalidCommand, InvalidRequestId, KEY_BYTES_MAX, PutMode, Request, RequestId, Revision,
    SessionId, Store, UnknownCommand, VALUE_BYTES_MAX,
};
use proptest::prelude::*;
use raft::Index;

fn put(key: &'static [u8], value: &'static [u8], mode: PutMode) -> Command {
    Command::Put { key: Bytes::from_static(key), value: Bytes::from_static(value), mode }
}

fn delete(key: &'static [u8], expected_revision: Option<u64>, return_previous: bool) -> Command {
    let expected_revision = expected_revision.map(Revision::new);
    Command::Delete { key: Bytes::from_static(key), expected_revision, return_previous }
}

fn request_id(sequence: u64, acknowledged_below: u64) -> RequestId {
    let session = SessionId::new(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100);
    RequestId { session, opened_at_ms: 0x1010, sequence, acknowledged_below }
}

/// One request of each shape.
fn every_shape() -> Vec<Request> {
    let named = Some(request_id(9, 9));
    let commands = every_command();
    let with_id = commands.iter().map(|command| Request { id: named, command: command.clone() });
    let without = commands.iter().map(|command| Request::from(command.clone()));
    without.chain(with_id).chain([Request { id: named, command: Command::Settle }]).collect()
}

fn every_command() -> Vec<Command> {
    let compare = PutMode::Compare { expected_revision: Revision::new(0x0807_0605_0403_0201) };
    vec![
        put(b"a", b"", PutMode::Create),
        put(b"key", b"value", PutMode::Create),
        put(b"key", b"value", PutMode::Upsert),
        put(b"key", b"value", PutMode::Update),
        put(b"key", b"value", compare),
        delete(b"key", None, false),
        delete(b"key", None, true),
        delete(b"key", Some(7), false),
        delete(b"key", Some(u64::MAX), true),
        Command::Configure { lease_reads: false },
        Command::Configure { lease_reads: true },
    ]
}

#[test]
fn the_bytes_are_those_of_the_documented_table() {
    let compare = PutMode::Compare { expected_revision: Revision::new(5) };
    let encoded = encode(&put(b"ab", b"xyz", compare).into(), 0x0102).expect("a valid command");
    let expected = [
        &[1, 1, 3][..],                  // version, put, compare
        &[0x02, 0x01, 0, 0, 0, 0, 0, 0], // time
        &[5, 0, 0, 0, 0, 0, 0, 0],       // expected revision
        &[2, 0],                         // length of the key
        &[3, 0, 0, 0],                   // length of the value
        b"abxyz",
    ]
    .concat();
    assert_eq!(&encoded[..], &expected[..]);

    let encoded = encode(&delete(b"ab", None, true).into(), 1).expect("a valid command");
    assert_eq!(&encoded[..], &[1, 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, b'a', b'b']);

    let settle = Request { id: Some(request_id(7, 5)), command: Command::Settle };
    let encoded = encode(&settle, 1).expect("a valid command");
    let expected = [
        &[2, 3, 0][..],                                          // version, settle, no detail
        &[1, 0, 0, 0, 0, 0, 0, 0],                               // time
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], // session
        &[0x10, 0x10, 0, 0, 0, 0, 0, 0],                         // when it was opened
        &[7, 0, 0, 0, 0, 0, 0, 0],                               // sequence
        &[5, 0, 0, 0, 0, 0, 0, 0],                               // what is acknowledged
    ]
    .concat();
    assert_eq!(&encoded[..], &expected[..]);

    for (lease_reads, setting) in [(false, 0), (true, 1)] {
        let encoded = encode(&Command::Configure { lease_reads }.into(), 1).expect("a valid command");
        assert_eq!(&encoded[..], &[1, 4, setting, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn every_shape_reads_back() {
    for request in every_shape() {
        for time_ms in [0, 1, u64::MAX] {
            let encoded = encode(&request, time_ms).expect("a valid command");
            assert_eq!(decode(&encoded), Ok((time_ms, request.clone())));
        }
    }
}

#[test]
fn key_and_value_share_the_allocation_of_the_command() {
    let encoded = encode(&put(b"key", b"value", PutMode::Create).into(), 1).expect("a valid command");
    let (_, Request { command: Command::Put { key, value, .. }, .. }) = decode(&encoded).expect("just encoded") else {
        panic!("a put was encoded");
    };
    let range = encoded.as_ptr_range();
    assert!(range.contains(&key.as_ptr()) && range.contains(&value.as_ptr()));
}

#[test]
fn every_truncation_is_refused() {
    for command in every_shape() {
        let encoded = encode(&command, 9).expect("a valid command");
        for length in 0..encoded.len() {
            assert_eq!(decode(&encoded.slice(..length)), Err(UnknownCommand::Truncated), "{command:?} cut to {length}");
        }
    }
}

#[test]
fn every_trailing_byte_is_refused() {
    for command in every_shape() {
        let mut longer = encode(&command, 9).expect("a valid command").to_vec();
        longer.extend_from_slice(&[0, 0]);
        assert_eq!(decode(&Bytes::from(longer)), Err(UnknownCommand::TrailingBytes(2)), "{command:?}");
    }
}

#[test]
fn what_this_version_does_not_know_is_refused_by_name() {
    let with_byte = |request: &Request, offset: usize, byte: u8| {
        let mut bytes = encode(request, 9).expect("a valid command").to_vec();
        bytes[offset] = byte;
        decode(&Bytes::from(bytes))
    };
    let put = Request::from(put(b"key", b"value", PutMode::Create));
    let delete = Request::from(delete(b"key", None, false));
    let settle = Request { id: Some(request_id(7, 5)), command: Command::Settle };
    let configure = Request::from(Command::Configure { lease_reads: true });
    for version in [0, 3, 255] {
        assert_eq!(with_byte(&put, 0, version), Err(UnknownCommand::Version(version)));
    }
    for operation in [0, 5, 255] {
        assert_eq!(with_byte(&put, 1, operation), Err(UnknownCommand::Operation(operation)));
    }
    for mode in [4, 255] {
        assert_eq!(with_byte(&put, 2, mode), Err(UnknownCommand::Mode(mode)));
    }
    for flags in [4, 128, 255] {
        assert_eq!(with_byte(&delete, 2, flags), Err(UnknownCommand::Flags(flags)));
    }
    for detail in [1, 255] {
        assert_eq!(with_byte(&settle, 2, detail), Err(UnknownCommand::Detail(detail)));
    }
    for setting in [2, 255] {
        assert_eq!(with_byte(&configure, 2, setting), Err(UnknownCommand::Setting(setting)));
    }
    assert_eq!(with_byte(&settle, 0, 1), Err(UnknownCommand::NothingToSettle));
    let [zero, ahead] =
        [InvalidRequestId::SequenceZero, InvalidRequestId::AcknowledgedAhead { sequence: 7, acknowledged_below: 8 }];
    assert_eq!(with_byte(&settle, 35, 0), Err(UnknownCommand::RequestId(zero)));
    assert_eq!(with_byte(&settle, 43, 8), Err(UnknownCommand::RequestId(ahead)));
    assert_eq!(with_byte(&put, 11, 0), Err(UnknownCommand::KeyLength(0)));
    assert_eq!(with_byte(&put, 12, 0xff), Err(UnknownCommand::KeyLength(0xff03)));
    assert_eq!(with_byte(&put, 16, 0xff), Err(UnknownCommand::ValueLength(0xff00_0005)));
}

#[test]
fn limits_are_inclusive() {
    let with_lengths = |key_bytes: usize, value_bytes: usize| {
        let command = Command::Put {
            key: vec![b'k'; key_bytes].into(),
            value: vec![b'v'; value_bytes].into(),
            mode: PutMode::Compare { expected_revision: Revision::new(2) },
        };
        encode(&Request { id: Some(request_id(1, 0)), command }, 1)
    };
    let greatest = with_lengths(KEY_BYTES_MAX, VALUE_BYTES_MAX).expect("at the limits");
    assert_eq!(greatest.len(), COMMAND_BYTES_MAX);
    assert!(decode(&greatest).is_ok());
    assert_eq!(with_lengths(0, 1), Err(InvalidCommand::KeyEmpty));
    assert_eq!(with_lengths(KEY_BYTES_MAX + 1, 1), Err(InvalidCommand::KeyTooLong { bytes: KEY_BYTES_MAX + 1 }));
    assert_eq!(with_lengths(1, VALUE_BYTES_MAX + 1), Err(InvalidCommand::ValueTooLong { bytes: VALUE_BYTES_MAX + 1 }));
}

#[test]
fn a_request_id_that_no_client_makes_is_not_encoded() {
    let with_id = |id| encode(&Request { id, command: put(b"key", b"", PutMode::Create) }, 1).err();
    let ahead = InvalidRequestId::AcknowledgedAhead { sequence: 7, acknowledged_below: 8 };
    assert_eq!(with_id(Some(request_id(7, 8))), Some(InvalidCommand::RequestId(ahead)));
    assert_eq!(with_id(Some(request_id(0, 0))), Some(InvalidCommand::RequestId(InvalidRequestId::SequenceZero)));
    assert_eq!(with_id(Some(request_id(7, 7))), None);
    assert_eq!(with_id(Some(request_id(u64::MAX, u64::MAX))), None);
    assert_eq!(encode(&Command::Settle.into(), 1), Err(InvalidCommand::NothingToSettle));
}

fn any_id() -> impl Strategy<Value = RequestId> {
    (any::<u128>(), any::<u64>(), 1_u64.., any::<u64>()).prop_map(|(session, opened_at_ms, sequence, below)| {
        let acknowledged_below = below.min(sequence);
        RequestId { session: SessionId::new(session), opened_at_ms, sequence, acknowledged_below }
    })
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        9 => (proptest::option::of(any_id()), any_command()).prop_map(|(id, command)| Request { id, command }),
        1 => any_id().prop_map(|id| Request { id: Some(id), command: Command::Settle }),
    ]
}

fn any_command() -> impl Strategy<Value = Command> {
    let key = proptest::collection::vec(any::<u8>(), 1..40).prop_map(Bytes::from);
    let value = proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    let mode = prop_oneof![
        Just(PutMode::Create),
        Just(PutMode::Upsert),
        Just(PutMode::Update),
        any::<u64>().prop_map(|revision| PutMode::Compare { expected_revision: Revision::new(revision) }),
    ];
    prop_oneof![
        any::<bool>().prop_map(|lease_reads| Command::Configure { lease_reads }),
        (key.clone(), value, mode).prop_map(|(key, value, mode)| Command::Put { key, value, mode }),
        (key, proptest::option::of(any::<u64>()), any::<bool>()).prop_map(
            |(key, expected_revision, return_previous)| {
                Command::Delete { key, expected_revision: expected_revision.map(Revision::new), return_previous }
            }
        ),
    ]
}

proptest! {
    #[test]
    fn random_commands_read_back(command in any_request(), time_ms: u64) {
        let encoded = encode(&command, time_ms).expect("within the limits");
        prop_assert_eq!(decode(&encoded), Ok((time_ms, command)));
    }

    /// Whatever the bytes are, they are refused, or they are exactly what the command they mean is written as; and no
    /// bytes make the state machine panic.
    #[test]
    fn random_bytes_are_refused_or_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        refused_or_canonical(bytes)?;
    }

    /// The same for bytes that are nearly right, which get past the first checks.
    #[test]
    fn damaged_commands_are_refused_or_canonical(
        command in any_request(),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&command, 1).expect("within the limits").to_vec();
        for (place, byte) in damage {
            let offset = place.index(bytes.len());
            bytes[offset] = byte;
        }
        refused_or_canonical(bytes)?;
    }
}

fn refused_or_canonical(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let bytes = Bytes::from(bytes);
    prop_assert_eq!(Store::new().apply(Index::new(1), &bytes).is_ok(), decode(&bytes).is_ok());
    if let Ok((time_ms, command)) = decode(&bytes) {
        prop_assert_eq!(encode(&command, time_ms), Ok(bytes));
    }
    Ok(())
}
