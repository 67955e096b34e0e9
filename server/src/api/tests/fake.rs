//! A node and a forwarder that do as they are told, and a client that needs no network.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use engine::kv::{self, Revision};
use http::HeaderMap;
use proto::raft::v1::inspect_request::Question;
use proto::raft::v1::inspect_response::Answer as Told;
use proto::raft::v1::{ForwardRequest, ForwardResponse, InspectRequest, InspectResponse};
use tokio::sync::{Notify, watch};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use crate::api::node::Node;
use crate::api::{Api, ApiOptions, ApiParts, Drain, services};
use crate::forward::{ForwardError, Forwarder};
use crate::node::{
    Batch, Get, Leader, MemberStatus, NodeEvent, NodeStatus, ReadError, ReadResult, RequestContext, Role,
    TransferError, Unavailable, WriteError, WriteResult,
};
use crate::telemetry::TraceContext;

/// What a node does with a write.
pub(super) enum Write {
    /// It answers.
    Answer(Result<kv::Applied, WriteError>),
    /// It answers, having learnt of another leader.
    AnswerAndLearn(Result<kv::Applied, WriteError>, Box<NodeStatus>),
    /// It proposes and waits for a majority that does not answer.
    Wait,
}

/// What a node does with a read.
pub(super) enum Read {
    /// It answers.
    Answer(Result<ReadResult, ReadError>),
    /// It answers, having learnt of another leader.
    AnswerAndLearn(Result<ReadResult, ReadError>, Box<NodeStatus>),
    /// It waits for what its leader has and does not get it.
    Wait,
}

pub(super) struct State {
    pub(super) status: watch::Sender<NodeStatus>,
    pub(super) writes: Mutex<VecDeque<Write>>,
    pub(super) reads: Mutex<VecDeque<Read>>,
    pub(super) transfers: Mutex<VecDeque<Result<(Leader, u64), TransferError>>>,
    /// The batches that the node was handed and that a test has not taken up.
    pub(super) batches: Mutex<VecDeque<Batch>>,
    /// Tells of each of them.
    pub(super) handed: Notify,
    /// Why the node takes no batches, if it takes none.
    pub(super) refusal: Mutex<Option<Unavailable>>,
    /// What the node was asked to write.
    pub(super) requests: Mutex<Vec<kv::Request>>,
    pub(super) gets: Mutex<Vec<Get>>,
    /// What happened to it.
    pub(super) events: Mutex<Vec<NodeEvent>>,
}

/// A node that answers from lists.
#[derive(Clone)]
pub(super) struct FakeNode(pub(super) Arc<State>);

impl FakeNode {
    pub(super) fn new(status: NodeStatus) -> Self {
        Self(Arc::new(State {
            status: watch::Sender::new(status),
            writes: Mutex::default(),
            reads: Mutex::default(),
            transfers: Mutex::default(),
            batches: Mutex::default(),
            handed: Notify::new(),
            refusal: Mutex::default(),
            requests: Mutex::default(),
            gets: Mutex::default(),
            events: Mutex::default(),
        }))
    }

    pub(super) fn will_write(&self, write: Write) {
        self.0.writes.lock().expect("no panic").push_back(write);
    }

    pub(super) fn will_read(&self, read: Read) {
        self.0.reads.lock().expect("no panic").push_back(read);
    }

    pub(super) fn learns(&self, status: NodeStatus) {
        self.0.status.send_replace(status);
    }

    pub(super) fn gets(&self) -> Vec<Get> {
        self.0.gets.lock().expect("no panic").clone()
    }

    pub(super) fn requests(&self) -> Vec<kv::Request> {
        self.0.requests.lock().expect("no panic").clone()
    }
}

impl Node for FakeNode {
    async fn write(&self, request: kv::Request, context: RequestContext) -> Result<WriteResult, WriteError> {
        self.0.requests.lock().expect("no panic").push(request);
        let write = self.0.writes.lock().expect("no panic").pop_front();
        match write.expect("no write was expected") {
            Write::Answer(answer) => answer.map(at_time),
            Write::AnswerAndLearn(answer, status) => {
                self.learns(*status);
                answer.map(at_time)
            }
            Write::Wait => {
                tokio::time::sleep_until(context.deadline.into()).await;
                Err(WriteError::DeadlineExceeded { term: 2, index: 9 })
            }
        }
    }

    async fn read(&self, get: Get, context: RequestContext) -> Result<ReadResult, ReadError> {
        self.0.gets.lock().expect("no panic").push(get);
        let read = self.0.reads.lock().expect("no panic").pop_front();
        match read.expect("no read was expected") {
            Read::Answer(answer) => answer,
            Read::AnswerAndLearn(answer, status) => {
                self.learns(*status);
                answer
            }
            Read::Wait => {
                tokio::time::sleep_until(context.deadline.into()).await;
                Err(ReadError::DeadlineExceeded)
            }
        }
    }

    fn submit_batch(&self, batch: Batch) -> Result<(), (Unavailable, Batch)> {
        if let Some(unavailable) = self.0.refusal.lock().expect("no panic").clone() {
            return Err((unavailable, batch));
        }
        self.0.batches.lock().expect("no panic").push_back(batch);
        self.0.handed.notify_one();
        Ok(())
    }

    async fn transfer_leadership(&self, _: Option<String>, _: Instant) -> Result<(Leader, u64), TransferError> {
        self.0.transfers.lock().expect("no panic").pop_front().expect("no transfer was expected")
    }

    async fn fresh_status(&self) -> NodeStatus {
        self.subscribe().borrow().clone()
    }

    fn subscribe(&self) -> watch::Receiver<NodeStatus> {
        self.0.status.subscribe()
    }

    fn events(&self) -> Vec<NodeEvent> {
        self.0.events.lock().expect("no panic").clone()
    }
}

/// What becomes of a forwarded request; it may change what the node knows.
pub(super) type Forwarding = Box<dyn FnOnce(&FakeNode) -> Result<ForwardResponse, ForwardError> + Send>;

/// A forwarder that answers from a list.
pub(super) struct FakeForwarder {
    node: FakeNode,
    /// None: there is no answer before the deadline.
    pub(super) answers: Mutex<VecDeque<Option<Forwarding>>>,
    /// To the question whether a member would pass requests on; when there are no more, every member would.
    pub(super) refusals: Mutex<VecDeque<Option<Forwarding>>>,
    /// Whom it was to ask that.
    pub(super) asked: Mutex<Vec<String>>,
    /// To whom it was to forward what.
    pub(super) forwarded: Mutex<Vec<(String, ForwardRequest, Option<TraceContext>)>>,
    /// Who was asked about itself, and what.
    pub(super) inspected: Mutex<Vec<(String, Question)>>,
    /// What members answer to that.
    pub(super) told: Mutex<BTreeMap<String, Told>>,
}

#[tonic::async_trait]
impl Forwarder for FakeForwarder {
    async fn forward(
        &self,
        member: &str,
        request: ForwardRequest,
        deadline: Instant,
        trace: Option<&TraceContext>,
    ) -> Result<ForwardResponse, ForwardError> {
        let answer = if request.question {
            self.asked.lock().expect("no panic").push(member.to_owned());
            let Some(refusal) = self.refusals.lock().expect("no panic").pop_front() else {
                return Ok(ForwardResponse::default());
            };
            refusal
        } else {
            self.forwarded.lock().expect("no panic").push((member.to_owned(), request, trace.cloned()));
            self.answers.lock().expect("no panic").pop_front().expect("nothing was to be forwarded")
        };
        if let Some(answer) = answer.filter(|_| Instant::now() < deadline) {
            return answer(&self.node);
        }
        tokio::time::sleep_until(deadline.into()).await;
        let (member, cause) = (member.to_owned(), "no answer before the deadline".to_owned());
        Err(ForwardError::Lost { member, cause, deadline_exceeded: true })
    }

    async fn inspect(
        &self,
        member: &str,
        request: InspectRequest,
        _deadline: Instant,
    ) -> Result<InspectResponse, ForwardError> {
        let question = request.question.expect("something is asked");
        self.inspected.lock().expect("no panic").push((member.to_owned(), question.clone()));
        // Nobody answers who is not told to.
        let told = self.told.lock().expect("no panic").get(member).cloned();
        let answer = told.ok_or_else(|| ForwardError::NotSent { member: member.to_owned(), cause: "gone".to_owned() });
        answer.map(|answer| InspectResponse { answer: Some(answer) })
    }
}

/// A node's services with what they stand on.
pub(super) struct Harness {
    pub(super) node: FakeNode,
    pub(super) forwarder: Arc<FakeForwarder>,
    pub(super) drain: Drain,
    pub(super) api: Api,
}

impl Harness {
    /// Of a node that asks nobody else however long it knows no leader: an election takes for ever.
    pub(super) fn new(status: NodeStatus) -> Self {
        Self::with_election_timeout(status, Duration::MAX)
    }

    pub(super) fn with_election_timeout(status: NodeStatus, election_timeout: Duration) -> Self {
        let node = FakeNode::new(status);
        let forwarder = Arc::new(FakeForwarder {
            node: node.clone(),
            answers: Mutex::default(),
            refusals: Mutex::default(),
            asked: Mutex::default(),
            forwarded: Mutex::default(),
            inspected: Mutex::default(),
            told: Mutex::default(),
        });
        let drain = Drain::new();
        let options = ApiOptions {
            name: "n1".to_owned(),
            request_timeout: Duration::from_secs(5),
            election_timeout,
            serves_peers: true,
        };
        let api = services(ApiParts {
            node: node.clone(),
            forwarder: forwarder.clone(),
            drain: drain.clone(),
            vitals: Vec::new(),
            metrics: Arc::default(),
            options,
        });
        Self { node, forwarder, drain, api }
    }

    pub(super) fn will_forward<F>(&self, answer: F)
    where
        F: FnOnce(&FakeNode) -> Result<ForwardResponse, ForwardError> + Send + 'static,
    {
        self.forwarder.answers.lock().expect("no panic").push_back(Some(Box::new(answer)));
    }

    /// Something is forwarded and has no answer.
    pub(super) fn will_hang(&self) {
        self.forwarder.answers.lock().expect("no panic").push_back(None);
    }

    /// A member does not say that it would pass requests on; without an answer it says nothing.
    pub(super) fn will_refuse(&self, answer: Option<Forwarding>) {
        self.forwarder.refusals.lock().expect("no panic").push_back(answer);
    }

    /// Who was asked whether it would pass requests on.
    pub(super) fn asked(&self) -> Vec<String> {
        self.forwarder.asked.lock().expect("no panic").clone()
    }

    /// To whom was forwarded.
    pub(super) fn forwarded_to(&self) -> Vec<String> {
        self.forwarder.forwarded.lock().expect("no panic").iter().map(|(member, ..)| member.clone()).collect()
    }

    /// To whom was forwarded, and whether it was to be passed on.
    pub(super) fn sent(&self) -> Vec<(String, bool)> {
        let forwarded = self.forwarder.forwarded.lock().expect("no panic");
        forwarded.iter().map(|(member, request, _)| (member.clone(), request.relay)).collect()
    }

    /// Calls `method` with a message.
    pub(super) async fn call<M, R>(&self, method: &str, message: &M) -> Result<(R, HeaderMap), Status>
    where
        M: prost::Message,
        R: prost::Message + Default,
    {
        self.call_with(method, message, &[]).await
    }

    /// Calls `method` with a message and more headers.
    pub(super) async fn call_with<M, R>(
        &self,
        method: &str,
        message: &M,
        headers: &[(&str, &str)],
    ) -> Result<(R, HeaderMap), Status>
    where
        M: prost::Message,
        R: prost::Message + Default,
    {
        let (headers, body) = self.send(method, frame(&message.encode_to_vec()), headers).await?;
        let response = R::decode(&body[5..]).expect("a response");
        Ok((response, headers))
    }

    /// Posts bytes of a content type.
    pub(super) async fn post(
        &self,
        method: &str,
        content_type: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> http::Response<tonic::body::Body> {
        let mut request = http::Request::post(format!("/{method}")).header("content-type", content_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::from(body)).expect("a request");
        let Ok(response) = self.api.routes.clone().oneshot(request).await;
        response
    }

    /// Calls `method` with bytes for a body, and returns headers and body of the response.
    pub(super) async fn send(
        &self,
        method: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Result<(HeaderMap, Bytes), Status> {
        let response = self.post(method, "application/grpc", body, headers).await;
        let (parts, body) = response.into_parts();
        if let Some(status) = Status::from_header_map(&parts.headers).filter(|status| status.code() != Code::Ok) {
            return Err(status);
        }
        let body = axum::body::to_bytes(axum::body::Body::new(body), usize::MAX).await.expect("a body");
        Ok((parts.headers, body))
    }
}

/// A message as it goes over the wire: no compression, length, bytes.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a test's message"));
    frame.put_slice(message);
    frame.freeze()
}

/// The status of node n1 in a cluster of three that is led by `leader`. Without one it reaches only itself.
pub(super) fn led_by(leader: Option<&str>) -> NodeStatus {
    let member = |name: &str| MemberStatus {
        name: name.to_owned(),
        incarnation: 1,
        peer_address: format!("{name}:7001"),
        client_address: Some(format!("{name}:7000")),
        voter: true,
        reachable: name == "n1" || leader.is_some(),
    };
    NodeStatus {
        name: "n1".to_owned(),
        role: if leader == Some("n1") { Role::Leader } else { Role::Follower },
        term: 2,
        leader: leader.map(|name| Leader {
            name: name.to_owned(),
            client_address: Some(format!("{name}:7000")),
            is_self: name == "n1",
        }),
        members: ["n1", "n2", "n3"].map(member).into(),
        ..NodeStatus::default()
    }
}

/// The same, which reaches these members and itself.
pub(super) fn reaching(members: &[&str], mut status: NodeStatus) -> NodeStatus {
    for member in &mut status.members {
        member.reachable = member.name == "n1" || members.contains(&&*member.name);
    }
    status
}

/// The store's revision when a write is answered.
pub(super) const REVISION: u64 = 40;

/// The replicated time of every answer.
pub(super) const TIME_MS: u64 = 1234;

fn at_time(applied: kv::Applied) -> WriteResult {
    WriteResult { applied, revision: REVISION, time_ms: TIME_MS }
}

pub(super) fn not_leader() -> Unavailable {
    Unavailable::NotLeader { leader: None, term: 2 }
}

pub(super) fn written() -> Result<kv::Applied, WriteError> {
    Ok(kv::Applied::Put { revision: Revision::new(4), version: 1 })
}

/// Reason and outcome of an error; the outcome is empty for what is no write.
pub(super) fn reason(status: &Status) -> (String, String) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?} has an ErrorInfo"));
    assert_eq!(info.domain, "quorate");
    let outcome = info.metadata.get("outcome").cloned().unwrap_or_default();
    let trailer = status.metadata().get("kv-outcome").map(|value| value.to_str().expect("ASCII"));
    assert_eq!(trailer.unwrap_or_default(), outcome.to_lowercase().replace('_', "-"));
    (info.reason, outcome)
}
