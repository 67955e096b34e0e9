//! A node that does as it is told: the generated services over a small map, with a script of what to answer instead.

use proto::{
    admin::v1::{self as admin, admin_service_server as admin_server},
    kv::v1::{self as kv, kv_service_server as kv_server},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::Semaphore};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What a node answers to its next put, get, delete, list or transfer instead of doing it.
pub(crate) enum Instead {
    /// An error.
    Fail(Status),
    /// Nothing, ever.
    Hang,
}

/// A call that arrived: its method's name and its metadata.
pub(crate) type Call = (&'static str, MetadataMap);

#[derive(Default)]
struct State {
    map: BTreeMap<String, kv::KeyValue>,
    revision: u64,
    script: VecDeque<Instead>,
    calls: Vec<Call>,
    leader: Option<(String, String)>,
    status: Option<admin::StatusResponse>,
    members: Vec<admin::Member>,
}

/// A running node. Its runtime is its own, so that stopping it breaks its connections as a crash does.
pub(crate) struct Node {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    hanging: Arc<Semaphore>,
    runtime: Option<Runtime>,
}

impl Node {
    /// Starts a node on a port of its own.
    pub(crate) fn start() -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        // A thread of its own, because a test may run in a runtime, which must not be blocked on another.
        let (runtime, listener) = std::thread::spawn(move || {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port is free");
            (runtime, listener)
        })
        .join()
        .expect("binding does not panic");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State::default()));
        let hanging = Arc::new(Semaphore::new(0));
        let service = Service { state: Arc::clone(&state), hanging: Arc::clone(&hanging) };
        let server = Server::builder()
            .add_service(kv_server::KvServiceServer::new(service.clone()))
            .add_service(admin_server::AdminServiceServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(server);
        Node { address, state, hanging, runtime: Some(runtime) }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Adds a line to the script.
    pub(crate) fn instead(&self, instead: Instead) -> &Node {
        self.state().script.push_back(instead);
        self
    }

    /// Names `leader` in the metadata of each answer.
    pub(crate) fn follows(&self, name: &str, leader: &Node) -> &Node {
        self.state().leader = Some((name.to_owned(), leader.endpoint()));
        self
    }

    pub(crate) fn has_status(&self, status: admin::StatusResponse) -> &Node {
        self.state().status = Some(status);
        self
    }

    pub(crate) fn has_members(&self, members: Vec<admin::Member>) -> &Node {
        self.state().members = members;
        self
    }

    /// The metadata of the calls of one method.
    pub(crate) fn calls(&self, method: &str) -> Vec<MetadataMap> {
        self.state().calls.iter().filter(|(name, _)| *name == method).map(|(_, metadata)| metadata.clone()).collect()
    }

    pub(crate) fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.state().map.get(key).map(|found| found.value.to_vec())
    }

    /// Waits until a call hangs.
    pub(crate) async fn hangs(&self) {
        self.hanging.acquire().await.expect("it is never closed").forget();
    }

    /// Ends the node as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that refuses connections. To be kept alive: it stays bound, so that nobody else gets it.
pub(crate) fn refusing() -> (tokio::net::TcpSocket, String) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket can be made");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
    let address = socket.local_addr().expect("it is bound").to_string();
    (socket, address)
}

/// A port that takes connections and never says a word, as a stopped process does. To be kept alive.
pub(crate) fn hung() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    (listener, address)
}

/// An error as a node makes it.
pub(crate) fn error(code: Code, reason: &str, message: &str, metadata: &[(&str, &str)]) -> Status {
    let mut details = ErrorDetails::new();
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    details.set_error_info(reason, "quorate", metadata);
    Status::with_error_details(code, message, details)
}

pub(crate) fn not_leader(leader: &Node) -> Status {
    let mut status = error(
        Code::Unavailable,
        "NOT_LEADER",
        "not the leader",
        &[("outcome", "NOT_APPLIED"), ("leaderAddress", &leader.endpoint())],
    );
    status.metadata_mut().insert("grpc-retry-pushback-ms", "0".parse().expect("ASCII"));
    status
}

pub(crate) fn no_quorum() -> Status {
    error(Code::Unavailable, "NO_QUORUM", "no quorum: 1 of 2 needed", &[("outcome", "NOT_APPLIED")])
}

pub(crate) fn outcome_unknown() -> Status {
    error(Code::Unknown, "OUTCOME_UNKNOWN", "leadership was lost", &[("outcome", "UNKNOWN")])
}

#[derive(Clone)]
struct Service {
    state: Arc<Mutex<State>>,
    hanging: Arc<Semaphore>,
}

impl Service {
    async fn enter<T>(&self, method: &'static str, request: Request<T>) -> Result<T, Status> {
        let (metadata, _, message) = request.into_parts();
        let instead = {
            let mut state = self.state.lock().expect("no holder panics");
            state.calls.push((method, metadata));
            if method == "Status" { None } else { state.script.pop_front() }
        };
        match instead {
            None => Ok(message),
            Some(Instead::Fail(status)) => Err(status),
            Some(Instead::Hang) => {
                self.hanging.add_permits(1);
                future::pending().await
            }
        }
    }

    fn answer<T>(&self, result: Result<T, Status>) -> Result<Response<T>, Status> {
        let leader = self.state.lock().expect("no holder panics").leader.clone();
        let name = |metadata: &mut MetadataMap| {
            if let Some((name, address)) = leader {
                metadata.insert("quorate-leader-name", name.parse().expect("ASCII"));
                metadata.insert("quorate-leader-address", address.parse().expect("ASCII"));
            }
        };
        match result {
            Ok(message) => {
                let mut response = Response::new(message);
                name(response.metadata_mut());
                Ok(response)
            }
            Err(mut status) => {
                name(status.metadata_mut());
                Err(status)
            }
        }
    }
}

impl State {
    fn put(&mut self, request: kv::PutRequest) -> Result<kv::PutResponse, Status> {
        let mode = request.mode();
        let kv::PutRequest { key, value, expected_revision, .. } = request;
        let old = self.map.get(&key).cloned();
        match (&old, mode) {
            (Some(_), kv::PutMode::Create | kv::PutMode::Unspecified) => {
                let message = format!("key already exists: {key}");
                return Err(error(Code::AlreadyExists, "KEY_EXISTS", &message, &[("outcome", "NOT_APPLIED")]));
            }
            (None, kv::PutMode::Update | kv::PutMode::Compare) => return Err(not_found(&key)),
            (Some(old), kv::PutMode::Compare) => check_revision(old, expected_revision)?,
            _ => {}
        }
        self.revision += 1;
        let version = old.as_ref().map_or(1, |old| old.version + 1);
        let create_revision = old.map_or(self.revision, |old| old.create_revision);
        let record = kv::KeyValue { key: key.clone(), value, create_revision, mod_revision: self.revision, version };
        self.map.insert(key, record);
        Ok(kv::PutResponse { revision: self.revision, version, time_ms: 0 })
    }

    fn delete(&mut self, request: kv::DeleteRequest) -> Result<kv::DeleteResponse, Status> {
        let Some(old) = self.map.get(&request.key) else { return Err(not_found(&request.key)) };
        if request.expected_revision.is_some() {
            check_revision(old, request.expected_revision)?;
        }
        self.map.remove(&request.key);
        self.revision += 1;
        Ok(kv::DeleteResponse { revision: self.revision, previous: None, time_ms: 0 })
    }
}

fn not_found(key: &str) -> Status {
    let message = format!("key not found: {key}");
    error(Code::NotFound, "KEY_NOT_FOUND", &message, &[("outcome", "NOT_APPLIED")])
}

fn check_revision(old: &kv::KeyValue, expected: Option<u64>) -> Result<(), Status> {
    if expected == Some(old.mod_revision) {
        return Ok(());
    }
    let actual = old.mod_revision.to_string();
    let metadata = [("outcome", "NOT_APPLIED"), ("currentRevision", actual.as_str())];
    Err(error(Code::FailedPrecondition, "REVISION_MISMATCH", "revision mismatch", &metadata))
}

#[tonic::async_trait]
impl kv_server::KvService for Service {
    async fn put(&self, request: Request<kv::PutRequest>) -> Result<Response<kv::PutResponse>, Status> {
        let result = self.enter("Put", request).await;
        self.answer(result.and_then(|request| self.state.lock().expect("no holder panics").put(request)))
    }

    async fn get(&self, request: Request<kv::GetRequest>) -> Result<Response<kv::GetResponse>, Status> {
        let result = self.enter("Get", request).await;
        self.answer(result.and_then(|request| {
            let state = self.state.lock().expect("no holder panics");
            let found = state.map.get(&request.key).cloned().ok_or_else(|| not_found(&request.key))?;
            Ok(kv::GetResponse { kv: Some(found), revision: state.revision, served_by: "fake".to_owned(), time_ms: 0 })
        }))
    }

    async fn delete(&self, request: Request<kv::DeleteRequest>) -> Result<Response<kv::DeleteResponse>, Status> {
        let result = self.enter("Delete", request).await;
        self.answer(result.and_then(|request| self.state.lock().expect("no holder panics").delete(request)))
    }
}

#[tonic::async_trait]
impl admin_server::AdminService for Service {
    async fn status(&self, request: Request<admin::StatusRequest>) -> Result<Response<admin::StatusResponse>, Status> {
        self.enter("Status", request).await?;
        let status = self.state.lock().expect("no holder panics").status.clone();
        let led = || admin::StatusResponse { leader_name: "n1".to_owned(), ..Default::default() };
        self.answer(Ok(status.unwrap_or_else(led)))
    }

    async fn list_members(
        &self,
        request: Request<admin::ListMembersRequest>,
    ) -> Result<Response<admin::ListMembersResponse>, Status> {
        let result = self.enter("ListMembers", request).await;
        let members = self.state.lock().expect("no holder panics").members.clone();
        self.answer(result.map(|_| admin::ListMembersResponse { members }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<admin::TransferLeadershipRequest>,
    ) -> Result<Response<admin::TransferLeadershipResponse>, Status> {
        let result = self.enter("TransferLeadership", request).await;
        self.answer(result.map(|request| admin::TransferLeadershipResponse { leader_name: request.target, term: 2 }))
    }
}
