//! Streams of many requests to real nodes: at the leader, through another node, and while the leader is killed.

use prost::Message as _;
use proto::kv::v1::{
    GetOutcomeRequest, PipelineRequest, PipelinedError, PipelinedRequest, PipelinedResponse, PutRequest,
    get_outcome_response::Outcome as Settled, kv_service_client::KvServiceClient, pipelined_request::Request,
    pipelined_response::Response,
};
use std::collections::BTreeMap;
use tests::{
    cluster::Cluster,
    rpc::{self, Failure, Outcome},
    wait::BOUND,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

/// How many requests a stream is given in all, and how many at once. A node that forwards is some twenty times slower.
const REQUESTS: u64 = 20_000;
const FORWARDED: u64 = 4_000;
const IN_FLIGHT: u64 = 500;

/// The session of the writes whose answers are lost.
const SESSION: u8 = 7;

/// A client's end of a stream.
pub(crate) struct Stream {
    pub(crate) requests: mpsc::Sender<PipelineRequest>,
    responses: Streaming<proto::kv::v1::PipelineResponse>,
}

impl Stream {
    pub(crate) async fn open(channel: &Channel) -> Result<Stream, Status> {
        let (requests, receiver) = mpsc::channel(64);
        let responses = KvServiceClient::new(channel.clone()).pipeline(ReceiverStream::new(receiver)).await?;
        Ok(Stream { requests, responses: responses.into_inner() })
    }

    /// The next answers; none if the stream has ended.
    pub(crate) async fn answers(&mut self) -> Result<Vec<PipelinedResponse>, Status> {
        let frame = tokio::time::timeout(BOUND, self.responses.message()).await.expect("it answers in time")?;
        Ok(frame.unwrap_or_default().responses)
    }

    /// Sends what `request` makes for each of `count` tags, so many at once, and returns what each was answered with.
    async fn run(&mut self, count: u64, request: impl Fn(u64) -> Request) -> BTreeMap<u64, Response> {
        let mut answers = BTreeMap::new();
        let mut next = 0;
        while (answers.len() as u64) < count {
            let end = count.min(answers.len() as u64 + IN_FLIGHT);
            let frame = (next..end).map(|tag| pipelined(tag, request(tag))).collect::<Vec<_>>();
            next = end;
            if !frame.is_empty() {
                self.requests.send(PipelineRequest { requests: frame }).await.expect("the stream is open");
            }
            let frame = self.answers().await.expect("the stream goes on");
            assert!(!frame.is_empty(), "the stream ended after {} answers", answers.len());
            for PipelinedResponse { tag, response } in frame {
                let earlier = answers.insert(tag, response.expect("every answer says something"));
                assert_eq!(earlier, None, "{tag} is answered twice");
            }
        }
        answers
    }
}

fn pipelined(tag: u64, request: Request) -> PipelinedRequest {
    PipelinedRequest { tag, request: Some(request), ..PipelinedRequest::default() }
}

fn key(tag: u64) -> String {
    format!("key {tag}")
}

fn value(tag: u64) -> String {
    format!("value {tag}")
}

fn put(tag: u64) -> Request {
    Request::Put(rpc::put_request(&key(tag), &value(tag)))
}

fn get(tag: u64) -> Request {
    Request::Get(rpc::get_request(&key(tag)))
}

/// An error as that of a call.
pub(crate) fn failure(error: &PipelinedError) -> Failure {
    let PipelinedError { code, message, details } = error.clone();
    let details = tonic_types::Status { code, message, details }.encode_to_vec();
    Failure::of(&Status::with_details(error.code.into(), &error.message, details.into()))
}

/// Puts `count` keys through a node, reads all of them, and puts them once more.
async fn put_read_and_put_again(cluster: &Cluster, node: usize, count: u64) {
    let mut stream = Stream::open(&cluster.nodes[node].channel()).await.expect("it opens");
    let mut revisions: Vec<u64> = Vec::new();
    for (tag, answer) in stream.run(count, put).await {
        match answer {
            Response::Put(response) => revisions.push(response.revision),
            other => panic!("the put of {tag}: {other:?}"),
        }
    }
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len() as u64, count, "each put has a revision of its own");
    for (tag, answer) in stream.run(count, get).await {
        match answer {
            Response::Get(response) => {
                let kv = response.kv.expect("a get carries the key");
                assert_eq!((kv.key, &kv.value[..]), (key(tag), value(tag).as_bytes()));
            }
            other => panic!("the get of {tag}: {other:?}"),
        }
    }
    for (tag, answer) in stream.run(count / 20, put).await {
        match answer {
            Response::Error(error) => {
                assert_eq!(error.message, format!("key already exists: {}", key(tag)));
                let failure = failure(&error);
                failure.expect(Code::AlreadyExists, "KEY_EXISTS");
                assert_eq!(failure.outcome(), Outcome::NotApplied);
            }
            other => panic!("the second put of {tag}: {other:?}"),
        }
    }
    drop(stream.requests);
    assert_eq!(stream.responses.message().await.expect("the stream ends well"), None);
    assert_eq!(cluster.converged().await.key_count, count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_to_the_leader_runs_each_request_once() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    put_read_and_put_again(&cluster, leader, REQUESTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_to_another_node_runs_each_request_once() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    put_read_and_put_again(&cluster, cluster.others(leader)[0], FORWARDED).await;
}

/// What is known of each write of a stream whose leader was killed, by its sequence.
#[derive(Default)]
struct Written {
    /// Acknowledged with this revision.
    revisions: BTreeMap<u64, u64>,
    /// Refused for good.
    never: Vec<u64>,
    /// Sent, and not known.
    unknown: Vec<u64>,
}

/// Puts by name over a stream to `leader`, kills it after so many answers, and notes what is known then.
async fn put_until_killed(cluster: &mut Cluster, leader: usize, kill_after: u64) -> Written {
    let mut stream = Stream::open(&cluster.nodes[leader].channel()).await.expect("it opens");
    let mut written = Written::default();
    let (mut sent, mut killed) = (0, false);
    loop {
        let answered = (written.revisions.len() + written.never.len()) as u64;
        if !killed {
            let frame = (sent + 1..=answered + IN_FLIGHT).map(|sequence| {
                let request_id = Some(rpc::request_id(SESSION, sequence));
                let request = PutRequest { request_id, ..rpc::put_request(&key(sequence), &value(sequence)) };
                pipelined(sequence, Request::Put(request))
            });
            let frame = PipelineRequest { requests: frame.collect() };
            sent = sent.max(answered + IN_FLIGHT);
            stream.requests.send(frame).await.expect("the stream is open");
            if answered >= kill_after {
                cluster.nodes[leader].kill();
                killed = true;
            }
        }
        // What was on its way before the kill still arrives.
        let frame = match stream.answers().await {
            Ok(frame) if !frame.is_empty() => frame,
            Ok(_) | Err(_) => break,
        };
        for PipelinedResponse { tag, response } in frame {
            match response.expect("every answer says something") {
                Response::Put(response) => {
                    written.revisions.insert(tag, response.revision);
                }
                Response::Error(error) if failure(&error).outcome() == Outcome::NotApplied => written.never.push(tag),
                Response::Error(_) => {}
                other => panic!("{tag} is no {other:?}"),
            }
        }
    }
    assert!(killed, "the stream ended by itself");
    let is_known = |sequence: &u64| written.revisions.contains_key(sequence) || written.never.contains(sequence);
    written.unknown = (1..=sent).filter(|sequence| !is_known(sequence)).collect();
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_leader_left_without_an_answer_is_settled() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let written = put_until_killed(&mut cluster, leader, 2_000).await;
    assert!(!written.unknown.is_empty(), "the leader was killed with writes under way");
    let successor = cluster.leader().await;

    let mut stream = Stream::open(&cluster.nodes[successor].channel()).await.expect("it opens");
    let ask = |index: u64| {
        let sequence = written.unknown[usize::try_from(index).expect("an index")];
        Request::GetOutcome(GetOutcomeRequest { request_id: Some(rpc::request_id(SESSION, sequence)) })
    };
    let mut applied: BTreeMap<u64, u64> = written.revisions.clone();
    for (index, answer) in stream.run(written.unknown.len() as u64, ask).await {
        let sequence = written.unknown[usize::try_from(index).expect("an index")];
        match answer {
            Response::GetOutcome(response) => match response.outcome.expect("there is one") {
                Settled::Put(response) => {
                    applied.insert(sequence, response.revision);
                }
                Settled::NeverApplied(_) => {}
                other => panic!("{sequence} became {other:?}"),
            },
            other => panic!("the outcome of {sequence}: {other:?}"),
        }
    }
    eprintln!("{} acknowledged, {} without an answer", written.revisions.len(), written.unknown.len());

    // What is said to be written is there, and nothing else is.
    let last = written.unknown.iter().chain(applied.keys()).max().copied().expect("there are writes");
    for (index, answer) in stream.run(last, |index| get(index + 1)).await {
        match (applied.get(&(index + 1)), answer) {
            (Some(revision), Response::Get(response)) => {
                assert_eq!(response.kv.expect("a get carries the key").mod_revision, *revision);
            }
            (None, Response::Error(error)) => failure(&error).expect(Code::NotFound, "KEY_NOT_FOUND"),
            (applied, answer) => panic!("{} is said to be {applied:?} and is {answer:?}", index + 1),
        }
    }
    cluster.nodes[leader].start();
    cluster.ready().await;
    assert_eq!(cluster.converged().await.key_count, applied.len() as u64);
}
