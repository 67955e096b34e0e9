//! The client's side of a node without a network: the real services, over an engine that is its own cluster.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use engine::disk::{Disk, MemoryDisk};
use engine::kv;
use engine::wal::{Executor, WalOptions};
use engine::{Answer, Consistency, Engine, EngineOptions, StaleBounds, Ticket};
use http::HeaderMap;
use proto::raft::v1::{ForwardRequest, ForwardResponse, InspectRequest, InspectResponse};
use quorate_server::api::{Api, ApiOptions, ApiParts, Drain, Node, services};
use quorate_server::forward::{ForwardError, Forwarder};
use quorate_server::node::{
    Batch, Get, Leader, MemberStatus, NodeEvent, NodeStatus, ReadError, ReadResult, RequestContext, Role,
    TransferError, Unavailable, WriteError, WriteResult,
};
use quorate_server::telemetry::TraceContext;
use raft::{Configuration, NodeId};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::node::{node_id, options as raft_options};

/// What the node is called.
pub(super) const NAME: &str = "n1";

/// After so many ticks a cluster of one has a leader.
const ELECTION_TICKS_MAX: u64 = 100;

/// What the node's clock says.
const NOW_MS: u64 = 1;

/// How long a forwarded request may take. Nothing here ever waits.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(5);

/// An engine that leads, with its disk work done as soon as it comes up.
pub(super) struct Led {
    pub(super) engine: Engine,
    executor: Executor,
    ticket_next: u64,
}

impl Led {
    /// A new cluster of one.
    fn new() -> Led {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let options = EngineOptions {
            raft: raft::Options { uncommitted_bytes_max: 1 << 20, ..raft_options() },
            wal: WalOptions { segment_bytes: 16 << 10, ..WalOptions::default() },
            configuration: Configuration::new([node_id(1)]),
            wal_pending_bytes_max: engine::WAL_PENDING_BYTES_MAX,
            snapshot_log_bytes_min: engine::SNAPSHOT_LOG_BYTES_MIN,
            space_reserve_bytes: engine::SPACE_RESERVE_BYTES,
            snapshot_chunk_bytes: engine::side::SNAPSHOT_CHUNK_BYTES,
            session_limits: engine::kv::SessionLimits::default(),
            lease_ms: 0,
            state_hash_every_entries: engine::STATE_HASH_EVERY_ENTRIES,
        };
        let opened = Engine::open(&disk, options).expect("an empty disk is sound");
        let mut led = Led { engine: opened.engine, executor: opened.executor, ticket_next: 1 };
        for tick in 1..ELECTION_TICKS_MAX {
            led.engine.tick(tick.min(NOW_MS));
            led.settle();
        }
        assert!(led.engine.raft().is_leader(), "a cluster of one elects its only member");
        led
    }

    /// Does all that there is to do. Gives the answers that came of it.
    fn settle(&mut self) -> Vec<(Ticket, Answer)> {
        let mut answers = Vec::new();
        loop {
            let output = self.engine.output().expect("a disk in memory does not fail");
            answers.extend(output.answers);
            if output.work.is_empty() {
                return answers;
            }
            for work in output.work {
                let completion = self.executor.run(work);
                self.engine.completed(completion).expect("a disk in memory does not fail");
            }
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.ticket_next += 1;
        Ticket::new(self.ticket_next)
    }

    /// The last answer to what `ask` asks; a write's is preceded by the news that it was proposed. None if it waits for
    /// something that does not happen; it waits no more then.
    fn answer(&mut self, ask: impl FnOnce(&mut Engine, Ticket)) -> Option<Answer> {
        let ticket = self.ticket();
        ask(&mut self.engine, ticket);
        let answers = self.settle();
        let ours = answers.into_iter().filter(|(to, _)| *to == ticket);
        let last = ours.last().map(|(_, answer)| answer);
        if last.is_none() {
            self.engine.cancel(ticket);
        }
        last
    }
}

/// The node as the services see it. There is one for all inputs; what it leads is new for each.
#[derive(Clone)]
struct Alone {
    led: Arc<Mutex<Led>>,
    status: watch::Sender<NodeStatus>,
}

impl Alone {
    fn lock(&self) -> MutexGuard<'_, Led> {
        // An input that panicked in here is a finding already; the next one begins with a new cluster.
        self.led.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node for Alone {
    async fn write(&self, request: kv::Request, _context: RequestContext) -> Result<WriteResult, WriteError> {
        let mut led = self.lock();
        // As far as the node knows no time passes after its last tick.
        match led.answer(|engine, ticket| engine.write(ticket, &request, NOW_MS)) {
            Some(Answer::Written(applied)) => {
                let store = led.engine.store();
                Ok(WriteResult { applied, revision: store.revision().get(), time_ms: store.time_ms() })
            }
            Some(Answer::Invalid(invalid)) => Err(invalid.into()),
            other => panic!("a write is answered with {other:?}"),
        }
    }

    async fn read(&self, get: Get, _context: RequestContext) -> Result<ReadResult, ReadError> {
        let mut led = self.lock();
        let Get { key, consistency, min_revision } = get;
        match led.answer(|engine, ticket| match consistency {
            Consistency::Linearizable => engine.read(ticket, key, NOW_MS),
            Consistency::Quorum => engine.quorum_read(ticket, key, min_revision),
            Consistency::Stale { max_age_ms } => {
                engine.stale_read(ticket, key, StaleBounds { max_age_ms, min_revision }, NOW_MS);
            }
        }) {
            Some(Answer::Read(result)) => {
                let (revision, served_by) = (result.revision.get(), NAME.to_owned());
                let (time_ms, age_ms) = (led.engine.store().time_ms(), result.age_ms);
                ReadResult { kv: result.kv, revision, served_by, time_ms, age_ms }.at_least(min_revision)
            }
            // What waits for a revision is told after a while, and no time passes here.
            None => Err(match consistency {
                Consistency::Stale { .. } => {
                    ReadError::TooStale { age_ms: None, revision: led.engine.store().revision().get() }
                }
                Consistency::Linearizable | Consistency::Quorum => ReadError::DeadlineExceeded,
            }),
            other => panic!("a read is answered with {other:?}"),
        }
    }

    fn submit_batch(&self, batch: Batch) -> Result<(), (Unavailable, Batch)> {
        // No input is a stream of requests; one that was would be told so.
        Err((Unavailable::Overloaded, batch))
    }

    async fn transfer_leadership(
        &self,
        target: Option<String>,
        _until: Instant,
    ) -> Result<(Leader, u64), TransferError> {
        let target = target.ok_or(TransferError::NobodyElse)?;
        let peer = if target == NAME { node_id(1) } else { NodeId::new(u64::MAX).expect("not zero") };
        Err(match self.lock().engine.transfer_leadership(peer) {
            Err(raft::TransferError::ToSelf) => TransferError::AlreadyLeader(target),
            Err(raft::TransferError::NotAVoter) => TransferError::NotAVoter(target),
            other => panic!("there is nobody to hand over to: {other:?}"),
        })
    }

    async fn fresh_status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    fn subscribe(&self) -> watch::Receiver<NodeStatus> {
        self.status.subscribe()
    }

    fn events(&self) -> Vec<NodeEvent> {
        Vec::new()
    }
}

/// Nothing is forwarded by a node that leads.
struct Nowhere;

#[tonic::async_trait]
impl Forwarder for Nowhere {
    async fn forward(
        &self,
        leader: &str,
        _request: ForwardRequest,
        _deadline: Instant,
        _trace: Option<&TraceContext>,
    ) -> Result<ForwardResponse, ForwardError> {
        panic!("a node that leads forwards to {leader}");
    }

    async fn inspect(
        &self,
        member: &str,
        _request: InspectRequest,
        _deadline: Instant,
    ) -> Result<InspectResponse, ForwardError> {
        panic!("nobody looks at {member}");
    }
}

/// The services with what they stand on.
pub(super) struct Shell {
    runtime: Runtime,
    api: Api,
    node: Alone,
}

/// A gRPC answer: the message's bytes, or a status.
pub(super) type Reply = Result<Bytes, Status>;

impl Shell {
    fn new() -> Shell {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime needs no resources");
        let node = Alone { led: Arc::new(Mutex::new(Led::new())), status: watch::Sender::new(status()) };
        let parts = ApiParts {
            node: node.clone(),
            forwarder: Arc::new(Nowhere),
            drain: Drain::new(),
            vitals: Vec::new(),
            metrics: Arc::default(),
            options: ApiOptions {
                name: NAME.to_owned(),
                request_timeout: FORWARD_TIMEOUT,
                election_timeout: FORWARD_TIMEOUT,
                serves_peers: false,
            },
        };
        let api = runtime.block_on(async { services(parts) });
        Shell { runtime, api, node }
    }

    /// What is led, to look at.
    pub(super) fn led(&self) -> MutexGuard<'_, Led> {
        self.node.lock()
    }

    /// Calls a method with these bytes for a body.
    pub(super) fn call(&self, method: &str, body: Bytes, timeout: Option<&str>) -> Reply {
        let mut request = http::Request::post(format!("/{method}")).header("content-type", "application/grpc");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", timeout);
        }
        let request = request.body(axum::body::Body::from(body)).expect("the parts of a request are valid");
        let routes = self.api.routes.clone();
        self.runtime.block_on(async move {
            let Ok(response) = routes.oneshot(request).await;
            let (parts, body) = response.into_parts();
            assert_eq!(parts.status, http::StatusCode::OK, "gRPC says in its own status what is wrong");
            if let Some(status) = status_of(&parts.headers) {
                return Err(status);
            }
            let body = axum::body::Body::new(body);
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body in memory does not fail");
            let message = body.get(5..).expect("an answer has a frame");
            Ok(body.slice_ref(message))
        })
    }

    /// Runs a request that another node forwarded.
    pub(super) fn forwarded(&self, request: ForwardRequest) -> Result<ForwardResponse, Status> {
        let target = Arc::clone(&self.api.forward_target);
        let deadline = Instant::now() + FORWARD_TIMEOUT;
        self.runtime.block_on(async move { target.run_forwarded(request, deadline, None).await })
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.api.in_flight.is_empty()
    }
}

fn status_of(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

/// Runs with the services of this thread, over a new cluster.
pub(super) fn with_shell<T>(run: impl FnOnce(&Shell) -> T) -> T {
    thread_local! {
        static SHELL: RefCell<Option<Shell>> = const { RefCell::new(None) };
    }
    SHELL.with_borrow_mut(|shell| {
        let shell = shell.get_or_insert_with(Shell::new);
        *shell.node.lock() = Led::new();
        run(shell)
    })
}

/// A message as it goes over the wire.
pub(super) fn frame(message: &[u8]) -> BytesMut {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("inputs are short"));
    frame.put_slice(message);
    frame
}

/// The status of a node that leads alone.
fn status() -> NodeStatus {
    let client_address = Some("n1:7000".to_owned());
    let (name, peer_address) = (NAME.to_owned(), "n1:7001".to_owned());
    let leader = Leader { name: name.clone(), client_address: client_address.clone(), is_self: true };
    let member =
        MemberStatus { name: name.clone(), incarnation: 1, peer_address, client_address, voter: true, reachable: true };
    NodeStatus { name, role: Role::Leader, term: 1, leader: Some(leader), members: vec![member], ..Default::default() }
}
