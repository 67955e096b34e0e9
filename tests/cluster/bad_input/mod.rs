//! The table of bad inputs: for every field of every call what no well-behaved client sends, as raw bytes, each with
//! the exact status that it is answered with; and the proof that nothing of it changes the state, harms a node, or
//! stays in its memory.

mod fields;
mod frames;
mod peers;
mod pipelined;
mod wire;

use crate::claim::Claim;
use bytes::Bytes;
use prost::Message;
use proto::{admin::v1::StatusResponse, kv::v1::PutRequest};
use std::{collections::BTreeSet, fs};
use tests::{
    cluster::{Cluster, Options},
    raw::{self, Answer, Connection, frame},
    rpc::{self, Failure},
};
use tonic::Code;

const PUT: &str = "/kv.v1.KvService/Put";
const GET: &str = "/kv.v1.KvService/Get";
const DELETE: &str = "/kv.v1.KvService/Delete";
const GET_OUTCOME: &str = "/kv.v1.KvService/GetOutcome";
const UPDATE_SETTINGS: &str = "/admin.v1.AdminService/UpdateSettings";

/// So many cases there are at least.
const CASES_MIN: usize = 120;

/// How often all cases are sent before memory is measured, and how often then.
const ROUNDS_BEFORE: usize = 3;
const ROUNDS_MEASURED: usize = 3;

/// How much more memory a node may hold after the measured rounds than before.
const GROWTH_BYTES_MAX: u64 = 10 << 20;

/// A busy machine is no reason for an election, which would have an entry in the log.
const PATIENT: [&str; 4] = ["--election-timeout-ms", "4000", "--request-timeout-ms", "8000"];

/// The key that is there, and the session in which it was put.
const KEPT: &str = "kept";
const SESSION: u8 = 9;

/// What a case is answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Expected {
    /// This status with this reason; the reason is empty where the peers' calls have none.
    Refused(Code, &'static str),
    /// It is unusual, and allowed.
    Served,
    /// Not even gRPC: this status of HTTP.
    Http(u16),
    /// Not even HTTP: the stream or the connection ends.
    Reset,
}

/// A bad input.
struct Case {
    name: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    expected: Expected,
}

impl Case {
    /// A call of `path` with a message of these bytes.
    fn new(name: impl Into<String>, path: &str, message: &[u8], expected: Expected) -> Case {
        Case::framed(name, path, frame(message), expected)
    }

    /// The same with bytes that are the whole body.
    fn framed(name: impl Into<String>, path: &str, body: Bytes, expected: Expected) -> Case {
        let headers = raw::HEADERS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Case { name: name.into(), path: path.to_owned(), headers, body, expected }
    }

    /// The same with a header more, or another value of one.
    fn with(mut self, name: &str, value: &str) -> Case {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn with_claim(self, claim: &Claim) -> Case {
        self.with("quorate-cluster-id", &claim.cluster_id)
            .with("quorate-from", &claim.from)
            .with("quorate-to", &claim.to)
    }

    /// Sends it; what it was answered with if that is not what was expected.
    async fn send(&self, connection: &mut Connection) -> Result<(), String> {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = connection.call(&self.path, &headers, self.body.clone()).await;
        let answer = if self.path == pipelined::PIPELINE { pipelined::answer_of(answer) } else { answer };
        let is_write = [PUT, DELETE, UPDATE_SETTINGS].contains(&self.path.as_str());
        // What a peer passes on may be a write or not.
        let is_clients = !self.path.starts_with("/raft.v1.");
        let found = match &answer {
            Answer::Status(status, _) if status.code() == Code::Ok => Expected::Served,
            Answer::Status(status, _) => {
                let failure = Failure::of(status);
                if is_clients && failure.reason.is_some() && failure.trailer.is_some() != is_write {
                    return Err(format!("{}: only of a write is the outcome told: {answer:?}", self.name));
                }
                let Expected::Refused(code, reason) = self.expected else {
                    return Err(format!("{}: {answer:?}", self.name));
                };
                if (failure.code, failure.reason.as_deref().unwrap_or_default()) != (code, reason) {
                    return Err(format!("{}: {:?} {:?} and not {:?}", self.name, failure.code, failure, self.expected));
                }
                self.expected.clone()
            }
            Answer::Http(status) => Expected::Http(status.as_u16()),
            Answer::Reset => Expected::Reset,
        };
        if found == self.expected { Ok(()) } else { Err(format!("{}: {found:?}, {answer:?}", self.name)) }
    }
}

fn invalid(reason: &'static str) -> Expected {
    Expected::Refused(Code::InvalidArgument, reason)
}

/// A valid put, were it not for what a case makes of it. It would change the state if it were run.
fn put() -> PutRequest {
    PutRequest { mode: 2, ..rpc::put_request(KEPT, "changed") }
}

fn encoded(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// What must be the same before and after.
fn state(status: &StatusResponse) -> (u64, u64, u64, u64, u64, u64, Bytes) {
    let StatusResponse { applied_index, last_index, term, revision, key_count, session_count, .. } = *status;
    (applied_index, last_index, term, revision, key_count, session_count, status.state_hash.clone())
}

/// The memory that a node holds.
fn resident_bytes(process_id: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process_id}/status")).expect("the process is there");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells it");
    let kibibytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    1024 * kibibytes.expect("it is a number of kibibytes")
}

/// The nodes that are sent bad input: the leader, and one that forwards to it.
struct Victims {
    cluster: Cluster,
    leader: usize,
    follower: usize,
}

impl Victims {
    async fn start() -> Victims {
        let cluster = Cluster::start(Options::default().with_flags(&PATIENT)).await;
        let leader = cluster.ready().await;
        let follower = cluster.others(leader)[0];
        let request_id = Some(rpc::request_id(SESSION, 1));
        let request = PutRequest { request_id, ..rpc::put_request(KEPT, "value") };
        let put = rpc::put_with(&cluster.nodes[leader].channel(), request).await.expect("the key is new");
        // The cluster is as far as this, on every node.
        tests::wait::wait_for("every node has it", async || {
            let statuses = cluster.statuses().await?;
            let last = statuses.iter().map(|(_, status)| status.last_index).max()?;
            let is_there = |status: &StatusResponse| status.revision == put.revision && status.applied_index == last;
            statuses.iter().all(|(_, status)| is_there(status)).then_some(())
        })
        .await;
        Victims { cluster, leader, follower }
    }

    async fn states(&self) -> Vec<StatusResponse> {
        let statuses = self.cluster.statuses().await.expect("every node answers");
        statuses.into_iter().map(|(_, status)| status).collect()
    }

    fn memory(&self) -> Vec<u64> {
        self.cluster.nodes.iter().map(|node| resident_bytes(node.process_id())).collect()
    }

    /// Sends every case to a node. All that are not answered as expected are told together.
    async fn send(&self, node: usize, cases: &[Case]) {
        let mut connection = Connection::open(self.cluster.nodes[node].address()).await;
        let mut wrong = Vec::new();
        for case in cases {
            wrong.extend(case.send(&mut connection).await.err());
        }
        assert!(wrong.is_empty(), "{} of {} are answered otherwise:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
}

/// Panics if a node holds more and more. What it holds after a round goes up and down with what its allocator keeps for
/// the next one, but what stays is there after every round.
fn expect_no_growth(memory: &[Vec<u64>]) {
    let (before, after) = memory.split_at(ROUNDS_BEFORE);
    for node in 0..before[0].len() {
        let before = before.iter().map(|round| round[node]).max().expect("there are rounds");
        let after = after.iter().map(|round| round[node]).min().expect("there are rounds");
        eprintln!("at most {} KiB before, at least {} KiB after", before >> 10, after >> 10);
        assert!(after <= before + GROWTH_BYTES_MAX, "memory grew from {before} to {after} bytes: {memory:?}");
    }
}

#[tokio::test]
async fn every_bad_input_has_its_status_and_changes_nothing() {
    let victims = Victims::start().await;
    let (leader, follower) = (victims.leader, victims.follower);
    let claim = Claim::of(&victims.cluster, follower, leader).await;
    // What is refused before anything is written.
    let mut cases: Vec<Case> = [wire::cases(), fields::cases(), frames::cases()].into_iter().flatten().collect();
    cases.extend(pipelined::of(&cases));
    let mut only_leader = fields::of_a_leader(victims.cluster.nodes[leader].name());
    only_leader.extend(peers::cases(&claim));
    let names: BTreeSet<_> = cases.iter().chain(&only_leader).map(|case| (&case.path, &case.name)).collect();
    assert_eq!(names.len(), cases.len() + only_leader.len(), "two cases have one name");
    let (mut logged, count) = (fields::that_are_logged(), names.len());
    logged.extend(pipelined::of(&logged));
    eprintln!("{} bad inputs, {} of them with an entry in the log", count + logged.len(), logged.len());
    assert!(count >= CASES_MIN, "only {count}");

    let before = victims.states().await;
    let mut memory = Vec::new();
    for _ in 0..ROUNDS_BEFORE + ROUNDS_MEASURED {
        victims.send(leader, &cases).await;
        victims.send(leader, &only_leader).await;
        victims.send(follower, &cases).await;
        memory.push(victims.memory());
    }
    expect_no_growth(&memory);
    let after = victims.states().await;
    assert_eq!(before.iter().map(state).collect::<Vec<_>>(), after.iter().map(state).collect::<Vec<_>>());

    // What is refused by the state itself: an entry of the log, and nothing else.
    for node in [leader, follower] {
        victims.send(node, &logged).await;
    }
    let after = victims.cluster.converged().await;
    let counts = |status: &StatusResponse| (status.revision, status.key_count, status.session_count);
    assert_eq!(counts(&after), counts(&before[0]));
    assert_eq!(victims.cluster.get(follower, KEPT).await.expect("it is there"), "value");
    victims.cluster.put(follower, "new", "v").await.expect("the nodes go on");
    victims.cluster.converged().await;
}
