//! Bytes that are no message of protobuf, or an unusual one, field by field.

use super::{Case, DELETE, Expected, GET, GET_OUTCOME, KEPT, PUT, encoded, invalid, put};
use bytes::{BufMut as _, BytesMut};
use proto::kv::v1::GetRequest;
use tests::rpc;

/// The types of fields on the wire.
const VARINT: u8 = 0;
const LENGTH: u8 = 2;

/// The fields of each message, with their types on the wire.
const FIELDS: [(&str, &[(u8, u8)]); 4] = [
    (PUT, &[(1, LENGTH), (3, LENGTH), (4, VARINT), (5, VARINT), (7, LENGTH)]),
    (GET, &[(1, LENGTH), (3, VARINT)]),
    (DELETE, &[(1, LENGTH), (3, VARINT), (4, VARINT), (5, LENGTH)]),
    (GET_OUTCOME, &[(1, LENGTH)]),
];

/// The same of a request id, and where it is in each message that has one.
const REQUEST_ID_FIELDS: [(u8, u8); 4] = [(1, LENGTH), (2, VARINT), (3, VARINT), (4, VARINT)];
const REQUEST_IDS: [(&str, u8); 3] = [(PUT, 7), (DELETE, 5), (GET_OUTCOME, 1)];

/// Bytes that are no UTF-8.
const NOT_UTF8: [(&str, &[u8]); 6] = [
    ("0xFF run", &[0xFF; 64]),
    ("lone continuation", b"a\x80"),
    ("surrogate", b"\xED\xA0\x80"),
    ("overlong NUL", b"\xC0\x80"),
    ("cut character", b"\xE2\x82"),
    ("above U+10FFFF", b"\xF4\x90\x80\x80"),
];

/// A field of type [`LENGTH`].
pub(super) fn of_length(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = BytesMut::new();
    field.put_u8(number << 3 | LENGTH);
    put_varint(&mut field, bytes.len() as u64);
    field.put_slice(bytes);
    field.to_vec()
}

/// A field of type [`VARINT`].
pub(super) fn of_varint(number: u8, value: u64) -> Vec<u8> {
    let mut field = BytesMut::new();
    field.put_u8(number << 3 | VARINT);
    put_varint(&mut field, value);
    field.to_vec()
}

fn put_varint(buffer: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        buffer.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value.to_le_bytes()[0]);
}

fn malformed(name: String, path: &str, message: &[u8]) -> Case {
    Case::new(name, path, message, invalid("MESSAGE_MALFORMED"))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = wrong_types();
    cases.extend(no_text());
    cases.extend(unfinished());
    cases.extend(repeated());
    cases
}

/// Each field with the type of another.
fn wrong_types() -> Vec<Case> {
    let wrong = |number, kind| if kind == LENGTH { of_varint(number, 1) } else { of_length(number, b"x") };
    let mut cases = Vec::new();
    for (path, fields) in FIELDS {
        for &(number, kind) in fields {
            cases.push(malformed(format!("field {number} of another type"), path, &wrong(number, kind)));
        }
    }
    for (path, outer) in REQUEST_IDS {
        for (number, kind) in REQUEST_ID_FIELDS {
            let message = of_length(outer, &wrong(number, kind));
            cases.push(malformed(format!("field {number} of the request id of another type"), path, &message));
        }
    }
    for kind in [1, 3, 4, 5, 6, 7] {
        cases.push(malformed(format!("key of type {kind}"), PUT, &[1 << 3 | kind, 1, 1, 1, 1, 1, 1, 1, 1]));
    }
    cases
}

/// Keys that are no text.
fn no_text() -> Vec<Case> {
    let of_path =
        |path| NOT_UTF8.into_iter().map(move |(name, key)| malformed(format!("key: {name}"), path, &of_length(1, key)));
    [PUT, GET, DELETE].into_iter().flat_map(of_path).collect()
}

/// Messages that end too early, or do not.
fn unfinished() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in [PUT, GET, DELETE, GET_OUTCOME] {
        cases.push(malformed("length beyond the end".to_owned(), path, b"\x0A\x7Fk"));
        cases.push(malformed("greatest length".to_owned(), path, b"\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"));
        cases.push(malformed("tag without a field".to_owned(), path, b"\x0A"));
        cases.push(malformed("field number 0".to_owned(), path, b"\x00\x01"));
        cases.push(malformed("endless varint".to_owned(), path, &[0xFF; 64]));
        cases.push(malformed("groups in groups".to_owned(), path, &[0x0B; 100_000]));
        cases.push(malformed("unknown groups in groups".to_owned(), path, &[0x7B; 100_000]));
    }
    let mut cut = encoded(&put());
    cut.pop();
    cut.extend([0x20, 0x80]);
    cases.push(malformed("cut varint".to_owned(), PUT, &cut));
    cases
}

/// Fields that come twice, of which the last counts, and fields that nobody knows.
fn repeated() -> Vec<Case> {
    let get = encoded(&rpc::get_request(KEPT));
    let unknown = encoded(&GetRequest { consistency: 99, ..rpc::get_request(KEPT) });
    let missing = encoded(&rpc::get_request("missing"));
    let id = |sequence| of_length(7, &[of_length(1, &[8; 16]), of_varint(3, sequence)].concat());
    let served = |name: &str, message: &[u8]| Case::new(name, GET, message, Expected::Served);
    vec![
        served("key twice, the last is there", &[&missing[..], &get].concat()),
        served("key a thousand times", &get.repeat(1000)),
        served("unknown number, then a known one", &[&unknown[..], &of_varint(3, 1)].concat()),
        served("a field that nobody knows", &[&get[..], &of_length(15, b"what")].concat()),
        served("a reserved field", &[&get[..], &of_length(2, b"\xFF\xFE")].concat()),
        served("fields in another order", &[&of_varint(3, 0)[..], &get].concat()),
        Case::new(
            "known number, then an unknown one",
            GET,
            &[&get[..], &unknown].concat(),
            invalid("CONSISTENCY_UNKNOWN"),
        ),
        Case::new("key, then an empty one", GET, &[&get[..], &of_length(1, b"")].concat(), invalid("KEY_EMPTY")),
        Case::new(
            "mode, then an unknown one",
            PUT,
            &[&encoded(&put())[..], &of_varint(4, 9)].concat(),
            invalid("MODE_UNKNOWN"),
        ),
        Case::new(
            "request id, then its sequence as 0",
            PUT,
            &[&encoded(&put())[..], &id(1), &id(0)].concat(),
            invalid("REQUEST_ID_SEQUENCE_ZERO"),
        ),
        Case::new(
            "request id in two halves, the second too long",
            PUT,
            &[&encoded(&put())[..], &id(1), &of_length(7, &of_length(1, &[8; 17]))].concat(),
            invalid("REQUEST_ID_SESSION_LENGTH"),
        ),
    ]
}
