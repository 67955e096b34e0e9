//! What a client reaches of the calls between nodes, if they share a port: introductions, claims, and forwarding.

use super::{Case, Expected, PUT, encoded, invalid, put};
use crate::claim::Claim;
use proto::{
    kv::v1::{GetOutcomeRequest, GetRequest, PutRequest},
    raft::v1::{self as raft, ForwardRequest, IdentifyRequest, forward_request::Request},
};
use tests::rpc;
use tonic::Code;

const IDENTIFY: &str = "/raft.v1.RaftService/Identify";
const FORWARD: &str = "/raft.v1.RaftService/Forward";

/// The calls that need a claim.
const CLAIMED: [&str; 4] =
    ["/raft.v1.RaftService/AppendEntries", "/raft.v1.RaftService/Control", "/raft.v1.RaftService/Side", FORWARD];

pub(super) fn cases(truth: &Claim) -> Vec<Case> {
    let mut cases = introductions();
    cases.extend(claims(truth));
    cases.extend(forwarded(truth));
    cases
}

fn refused(code: Code) -> Expected {
    Expected::Refused(code, "")
}

fn member(name: &str, incarnation: u64) -> Option<raft::Member> {
    Some(raft::Member { name: name.to_owned(), incarnation })
}

fn introductions() -> Vec<Case> {
    let of = |name: &str, request: &IdentifyRequest| {
        Case::new(name, IDENTIFY, &encoded(request), refused(Code::InvalidArgument))
    };
    let who = |name: &str, incarnation| IdentifyRequest { member: member(name, incarnation), ..Default::default() };
    let cluster = |id_bytes: usize, members: &[(&str, u64)]| IdentifyRequest {
        cluster: Some(raft::Cluster {
            cluster_id: vec![7; id_bytes].into(),
            members: members.iter().filter_map(|(name, incarnation)| member(name, *incarnation)).collect(),
        }),
        ..who("n9", 7)
    };
    let thousand: Vec<String> = (0..1000).map(|number| format!("n{number}")).collect();
    let thousand: Vec<(&str, u64)> = thousand.iter().map(String::as_str).zip(1..).collect();
    let address = |client_address: String| IdentifyRequest { client_address, ..who("n9", 7) };
    vec![
        of("nobody", &IdentifyRequest::default()),
        of("empty name", &who("", 7)),
        of("name of a kibibyte", &who(&"n".repeat(1024), 7)),
        of("name with a slash", &who("../n1", 7)),
        of("name with control characters", &who("n1\n", 7)),
        of("incarnation 0", &who("n9", 0)),
        of("cluster id of 15 bytes", &cluster(15, &[("n9", 7)])),
        of("cluster without members", &cluster(16, &[])),
        of("cluster with a member twice", &cluster(16, &[("n9", 7), ("n9", 7)])),
        of("cluster of a thousand members", &cluster(16, &thousand)),
        of("cluster id that is not its members'", &cluster(16, &[("n9", 7)])),
        of("address that is no ASCII", &address("ä:7000".to_owned())),
        of("address of a mebibyte", &address("a".repeat(1 << 20))),
        Case::new("garbage", IDENTIFY, &[0xFF; 100], refused(Code::Internal)),
    ]
}

fn claims(truth: &Claim) -> Vec<Case> {
    let mut cases = Vec::new();
    for path in CLAIMED {
        let case = |name: &str| Case::new(name, path, b"", refused(Code::FailedPrecondition));
        cases.push(case("no claim"));
        for (name, nonsense) in [
            ("empty", ""),
            ("no number", "zz"),
            ("zero", "0"),
            ("unknown", "00000000deadbeef"),
            ("long", &"f".repeat(64)),
        ] {
            for (entry, claim) in [
                ("cluster", Claim { cluster_id: nonsense.to_owned(), ..truth.clone() }),
                ("sender", Claim { from: nonsense.to_owned(), ..truth.clone() }),
                ("receiver", Claim { to: nonsense.to_owned(), ..truth.clone() }),
            ] {
                cases.push(case(&format!("{entry}: {name}")).with_claim(&claim));
            }
        }
        let own = Claim { from: truth.to.clone(), ..truth.clone() };
        cases.push(case("sender: the receiver itself").with_claim(&own));
    }
    cases
}

/// A peer that passes on what it should have refused.
fn forwarded(truth: &Claim) -> Vec<Case> {
    let of = |name: &str, request: Option<Request>, expected| {
        let request = ForwardRequest { from: "n1".to_owned(), relay: false, question: false, request };
        Case::new(name, FORWARD, &encoded(&request), expected).with_claim(truth)
    };
    let id = rpc::request_id(8, 0);
    vec![
        of("nothing", None, invalid("REQUEST_MISSING")),
        of("put of an empty key", Some(Request::Put(PutRequest { key: String::new(), ..put() })), invalid("KEY_EMPTY")),
        of("put of an unknown mode", Some(Request::Put(PutRequest { mode: 9, ..put() })), invalid("MODE_UNKNOWN")),
        of("get of an empty key", Some(Request::Get(GetRequest::default())), invalid("KEY_EMPTY")),
        of("delete of an empty key", Some(Request::Delete(rpc::delete_request(""))), invalid("KEY_EMPTY")),
        of(
            "settlement of nothing",
            Some(Request::GetOutcome(GetOutcomeRequest { request_id: None })),
            invalid("REQUEST_ID_MISSING"),
        ),
        of(
            "settlement of sequence 0",
            Some(Request::GetOutcome(GetOutcomeRequest { request_id: Some(id) })),
            invalid("REQUEST_ID_SEQUENCE_ZERO"),
        ),
        of("malformed deadline", Some(Request::Put(put())), refused(Code::InvalidArgument))
            .with("grpc-timeout", "soon"),
        Case::new("garbage", FORWARD, &[0xFF; 100], refused(Code::Internal)).with_claim(truth),
        Case::new("a put that was not wrapped", FORWARD, PUT.as_bytes(), refused(Code::Internal)).with_claim(truth),
    ]
}
