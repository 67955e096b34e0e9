//! Calls that are wrong around the message: their frames, headers, deadlines and methods.

use super::{Case, DELETE, Expected, GET, GET_OUTCOME, KEPT, PUT, UPDATE_SETTINGS, encoded, invalid, put};
use bytes::Bytes;
use tests::{
    raw::{flagged_frame, frame},
    rpc,
};
use tonic::Code;

/// All calls of one message that clients have.
const CALLS: [&str; 13] = [
    PUT,
    GET,
    DELETE,
    GET_OUTCOME,
    UPDATE_SETTINGS,
    "/admin.v1.AdminService/Status",
    "/admin.v1.AdminService/ListMembers",
    "/admin.v1.AdminService/TransferLeadership",
    "/admin.v1.AdminService/GetTrace",
    "/admin.v1.AdminService/ListSlowRequests",
    "/admin.v1.AdminService/GetLogFilter",
    "/admin.v1.AdminService/UpdateLogFilter",
    "/admin.v1.AdminService/GetReport",
];

pub(super) fn cases() -> Vec<Case> {
    [bodies(), encodings(), deadlines(), headers(), methods()].into_iter().flatten().collect()
}

fn unsupported() -> Expected {
    Expected::Refused(Code::Unimplemented, "UNSUPPORTED")
}

fn bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in CALLS {
        for (name, body) in [
            ("no message", Bytes::new()),
            ("half the head of a frame", Bytes::from_static(&[0, 0])),
            ("frame that ends early", Bytes::from_static(b"\0\0\0\0\x64abc")),
            ("bytes behind the frame", Bytes::from_static(b"\0\0\0\0\0\0")),
            ("garbage", frame(&[0xDE, 0xAD, 0xBE, 0xEF])),
        ] {
            cases.push(Case::framed(name, path, body, invalid("MESSAGE_MALFORMED")));
        }
        let announced = Bytes::from_static(&[0, 0xFF, 0xFF, 0xFF, 0xFF]);
        cases.push(Case::framed("4 GiB announced", path, announced, invalid("MESSAGE_TOO_LARGE")));
    }
    // It takes a while to send.
    for path in [GET_OUTCOME, "/admin.v1.AdminService/Status"] {
        let long = frame(&vec![0; (4 << 20) + 1]);
        cases.push(Case::framed("4 MiB and a byte", path, long, invalid("MESSAGE_TOO_LARGE")));
    }
    let two = [frame(&encoded(&rpc::get_request(KEPT))), frame(&encoded(&rpc::get_request("missing")))].concat();
    cases.push(Case::framed("two messages, of which the first is the request", GET, two.into(), Expected::Served));
    cases
}

fn encodings() -> Vec<Case> {
    let mut cases = Vec::new();
    for flag in [1, 2, 7, 0x80, 0xFF] {
        let body = flagged_frame(flag, &encoded(&put()));
        cases.push(Case::framed(format!("compression flag {flag}"), PUT, body, invalid("MESSAGE_MALFORMED")));
    }
    for encoding in ["gzip", "deflate", "zstd", "br", "nonsense"] {
        let body = flagged_frame(1, &encoded(&put()));
        cases.push(Case::framed(encoding, PUT, body, unsupported()).with("grpc-encoding", encoding));
    }
    cases
}

fn deadlines() -> Vec<Case> {
    let get = encoded(&rpc::get_request(KEPT));
    let mut cases = Vec::new();
    for timeout in ["", "5", "S", "+5S", "-1S", "5s", "5Y", "5 S", "0x5S", "1.5S", "123456789S", "soon"] {
        let expected = invalid("TIMEOUT_MALFORMED");
        for (path, message) in [(PUT, &encoded(&put())), (GET, &get)] {
            cases.push(Case::new(timeout, path, message, expected.clone()).with("grpc-timeout", timeout));
        }
    }
    for timeout in ["8760H", "99999999H", "99999999n", "00000005S"] {
        cases.push(Case::new(timeout, GET, &get, Expected::Served).with("grpc-timeout", timeout));
    }
    cases
}

fn headers() -> Vec<Case> {
    let (get, put) = (encoded(&rpc::get_request(KEPT)), encoded(&put()));
    let padding = |bytes| "x".repeat(bytes);
    let of_type = |content_type: &str, expected| {
        Case::new(format!("content type {content_type}"), PUT, &put, expected).with("content-type", content_type)
    };
    vec![
        Case::new("headers of 8 KiB", GET, &get, Expected::Served).with("padding", &padding(8 << 10)),
        Case::new("headers of 64 KiB", GET, &get, Expected::Reset).with("padding", &padding(64 << 10)),
        Case::new("binary header that is none", GET, &get, Expected::Served).with("padding-bin", "!!!"),
        Case::new("claim of a peer", GET, &get, Expected::Served).with("quorate-from", "nonsense"),
        Case::new("trace context that is none", GET, &get, Expected::Served).with("traceparent", "00-zz-zz-zz"),
        of_type("application/json", Expected::Http(415)),
        of_type("text/plain", Expected::Http(415)),
        of_type("", Expected::Http(415)),
        of_type("application/grpc-web", Expected::Http(415)),
    ]
}

fn methods() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in ["/kv.v1.KvService/Explode", "/kv.v1.KvService/put", "/admin.v1.AdminService/Explode"] {
        cases.push(Case::new("no such method", path, b"", unsupported()));
    }
    for path in [
        "/kv.v2.KvService/Put",
        "/kv.v1.KvService/",
        "/KvService/Put",
        "/kv.v1.KvService",
        "/",
        "/../kv.v1.KvService/Put",
    ] {
        cases.push(Case::new("no such service", path, b"", Expected::Refused(Code::Unimplemented, "")));
    }
    cases
}
