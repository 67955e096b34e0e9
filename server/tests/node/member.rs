//! A node that runs in a runtime of its own, so that it can be killed with all of its connections.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::Consistency;
use engine::disk::{Disk, LockError, RealDisk};
use engine::kv::{Command, PutMode, Request, Revision};
use proto::raft::v1::{ForwardRequest, ForwardResponse, InspectRequest, InspectResponse};
use quorate_server::forward::ForwardTarget;
use quorate_server::node::{self, Get, NodeError, NodeHandle, NodeStatus, RequestContext, Setup};
use quorate_server::telemetry::{Metrics, Pulse, TraceContext};
use quorate_server::transport::{Board, Introduction, PeerForwarder, PeerService};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// How long a test waits for what has to happen. It takes a moment; so long only if it never does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked for what cannot be waited on.
const POLL: Duration = Duration::from_millis(5);

/// A node that runs.
pub(crate) struct Member {
    pub(crate) handle: NodeHandle,
    pub(crate) incarnation: u64,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<Result<(), NodeError>>>,
    runtime: Option<Runtime>,
}

impl Member {
    /// Starts the node `name` of those at `addresses`. Its peers reach it if it gets a listener.
    pub(crate) fn start(
        name: &str,
        disk: Arc<dyn Disk>,
        listener: Option<TcpListener>,
        addresses: &BTreeMap<String, String>,
    ) -> Self {
        let runtime = runtime();
        let identity = node::identify(disk.as_ref(), name).expect("the identity is whole");
        let incarnation = identity.member.incarnation.get();
        let board = Board::new(Introduction { identity: identity.clone(), client_address: format!("{name}:1") });
        let service = PeerService::new(board.clone(), Arc::new(RunsNothing));
        if let Some(listener) = listener {
            serve(&runtime, listener, service.clone());
        }
        let metrics = Arc::new(Metrics::default());
        let (handle, seat) = node::seat(&identity, &metrics);
        let (stop, stopped) = watch::channel(false);
        let setup = Setup {
            disk,
            identity,
            addresses: addresses.clone(),
            heartbeat: Duration::from_millis(50),
            election_timeout: Duration::from_millis(500),
            segment_bytes: 1 << 20,
            snapshot_log_bytes: 64 << 10,
            space_reserve_bytes: 0,
            narrate: false,
            board,
            service,
            forwarder: PeerForwarder::new(),
            loop_pulse: Arc::new(Pulse::new()),
            disk_pulse: Arc::new(Pulse::new()),
            metrics,
        };
        let task = Some(runtime.spawn(node::run(seat, setup, stopped)));
        Self { handle, incarnation, stop, task, runtime: Some(runtime) }
    }

    /// A node that is a cluster by itself.
    pub(crate) fn alone(disk: Arc<dyn Disk>) -> Self {
        Self::start("n1", disk, None, &addresses(&[("n1", "127.0.0.1:1")]))
    }

    /// Tells the node to stop, and returns what its end is.
    pub(crate) async fn stop(mut self) -> Result<(), NodeError> {
        self.stop.send_replace(true);
        self.end().await
    }

    /// Waits until the node ends, and returns how.
    pub(crate) async fn end(&mut self) -> Result<(), NodeError> {
        let task = self.task.take().expect("a node ends once");
        in_time("the node's end", task).await.expect("the node does not panic")
    }

    /// Waits until the node's status is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        let mut status = self.handle.subscribe();
        in_time(what, status.wait_for(wanted)).await.expect("the node runs").clone()
    }

    /// Waits until the node leads.
    pub(crate) async fn until_leading(&self) -> NodeStatus {
        self.until("leadership", |status| status.leader.as_ref().is_some_and(|leader| leader.is_self)).await
    }

    /// Waits until the node says that it may not take part, and returns why.
    pub(crate) async fn until_outside(&self, reason: &str) -> String {
        let says = |status: &NodeStatus| status.not_ready.as_ref().is_some_and(|text| text.contains(reason));
        let status = self.until(reason, says).await;
        assert_eq!(status.role, node::Role::Outside);
        status.not_ready.expect("it was just there")
    }

    /// The value of a key, read linearizably.
    pub(crate) async fn value(&self, key: &str) -> Option<Bytes> {
        let found = self.handle.read(get(key), soon()).await;
        found.expect("a leader reads").kv.map(|kv| kv.value)
    }
}

impl Drop for Member {
    /// Kills it.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A deadline that is not meant to pass.
pub(crate) fn soon() -> RequestContext {
    RequestContext { deadline: Instant::now() + PATIENCE, trace: None }
}

/// Asks for `key`, linearizably.
pub(crate) fn get(key: &str) -> Get {
    let (key, consistency) = (Bytes::copy_from_slice(key.as_bytes()), Consistency::Linearizable);
    Get { key, consistency, min_revision: Revision::new(0) }
}

/// Puts `key`, whether it is there or not, with itself as the value.
pub(crate) fn put(key: &str) -> Request {
    let text = Bytes::copy_from_slice(key.as_bytes());
    Command::Put { key: text.clone(), value: text, mode: PutMode::Upsert }.into()
}

/// Waits for something that has to happen.
pub(crate) async fn in_time<T>(what: &str, happening: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happening).await {
        Ok(happened) => happened,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Tries until it works, as long as it fails for the reason that is expected.
pub(crate) async fn retry<T, E: Debug>(
    what: &str,
    mut attempt: impl FnMut() -> Result<T, E>,
    expected: impl Fn(&E) -> bool,
) -> T {
    let tries = async {
        loop {
            match attempt() {
                Ok(done) => return done,
                Err(error) => assert!(expected(&error), "{what}: {error:?}"),
            }
            tokio::time::sleep(POLL).await;
        }
    };
    in_time(what, tries).await
}

/// A data directory. One that was just killed lets go of it when its threads have ended.
pub(crate) async fn real_disk(directory: &Path) -> Arc<dyn Disk> {
    let held = |error: &LockError| matches!(error, LockError::Held { .. });
    Arc::new(retry("the data directory", || RealDisk::open(directory), held).await)
}

/// A listener at an address that somebody who was just killed may still hold.
pub(crate) async fn listen_again(address: &str) -> TcpListener {
    let in_use = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
    retry("the address", || TcpListener::bind(address), in_use).await
}

/// A listener at a free address.
pub(crate) fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    (listener, address)
}

pub(crate) fn addresses(members: &[(&str, &str)]) -> BTreeMap<String, String> {
    members.iter().map(|(name, address)| ((*name).to_owned(), (*address).to_owned())).collect()
}

/// A runtime that may be dropped from within another.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("the system has threads")
}

/// Serves the peers' service in a runtime.
pub(crate) fn serve(runtime: &Runtime, listener: TcpListener, service: PeerService) {
    listener.set_nonblocking(true).expect("a socket can be");
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is not blocking");
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Server::builder().add_service(service.into_server()).serve_with_incoming(incoming).await
    });
}

/// The target of nodes that nothing is forwarded to.
struct RunsNothing;

#[tonic::async_trait]
impl ForwardTarget for RunsNothing {
    async fn run_forwarded(
        &self,
        _request: ForwardRequest,
        _deadline: Instant,
        _trace: Option<TraceContext>,
    ) -> Result<ForwardResponse, Status> {
        Err(Status::unimplemented("nothing is forwarded here"))
    }

    async fn inspect(&self, _request: InspectRequest) -> Result<InspectResponse, Status> {
        Err(Status::unimplemented("nobody looks here"))
    }
}
