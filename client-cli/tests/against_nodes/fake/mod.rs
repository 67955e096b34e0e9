//! A node that does as it is told: the generated services over a small [`store`], with a script of what to answer
//! instead.

mod pipeline;
mod store;

use proto::{
    admin::v1::{self as admin, admin_service_server as admin_server},
    kv::v1::{self as kv, kv_service_server as kv_server},
};
use std::{
    collections::{HashMap, VecDeque},
    future,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use store::Store;
pub(crate) use store::{STALENESS_MS, too_stale};
use tokio::{net::TcpListener, runtime::Runtime, sync::Semaphore};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What a node answers to its next call, but for one for its status, instead of doing it.
pub(crate) enum Instead {
    /// An error.
    Fail(Status),
    /// Nothing, ever.
    Hang,
    /// An error, and yet it is done.
    DoAndFail(Status),
    /// Nothing, ever, and yet it is done.
    DoAndHang,
    /// An error, which also ends the stream that it came on.
    End(Status),
    /// The same, and yet it is done.
    DoAndEnd(Status),
}

/// What comes of a call.
enum Comes<A> {
    Answer(Result<A, Status>),
    Nothing,
    TheEnd(Status),
}

/// A call that arrived: its method's name and its metadata.
pub(crate) type Call = (&'static str, MetadataMap);

#[derive(Default)]
struct State {
    script: VecDeque<Instead>,
    calls: Vec<Call>,
    gets: Vec<kv::GetRequest>,
    names: Vec<kv::RequestId>,
    /// How many requests each frame had that arrived on a stream.
    frames: Vec<usize>,
    streams: usize,
    streamless: bool,
    leader: Option<(String, String)>,
    status: Option<admin::StatusResponse>,
    status_after: Duration,
    members: Vec<admin::Member>,
}

/// A running node. Its runtime is its own, so that stopping it breaks its connections as a crash does.
pub(crate) struct Node {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    store: Arc<Mutex<Store>>,
    hanging: Arc<Semaphore>,
    runtime: Option<Runtime>,
}

impl Node {
    /// Starts a node on a port of its own.
    pub(crate) fn start() -> Node {
        Node::over(Arc::default())
    }

    /// Starts another node of the same cluster: what is done by one is done by both.
    pub(crate) fn start_beside(&self) -> Node {
        Node::over(Arc::clone(&self.store))
    }

    fn over(store: Arc<Mutex<Store>>) -> Node {
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
        let service = Service { state: Arc::clone(&state), store: Arc::clone(&store), hanging: Arc::clone(&hanging) };
        let server = Server::builder()
            .add_service(kv_server::KvServiceServer::new(service.clone()))
            .add_service(admin_server::AdminServiceServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(server);
        Node { address, state, store, hanging, runtime: Some(runtime) }
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

    /// Knows no streams, as an older node.
    pub(crate) fn is_streamless(&self) -> &Node {
        self.state().streamless = true;
        self
    }

    /// Knows streams again.
    pub(crate) fn has_streams(&self) -> &Node {
        self.state().streamless = false;
        self
    }

    /// Names no leader any more.
    pub(crate) fn follows_nobody(&self) -> &Node {
        self.state().leader = None;
        self
    }

    /// Does what is asked from here on.
    pub(crate) fn forget_script(&self) {
        self.state().script.clear();
    }

    pub(crate) fn has_status(&self, status: admin::StatusResponse) -> &Node {
        self.state().status = Some(status);
        self
    }

    /// Tells its status only after a while.
    pub(crate) fn is_slow(&self, status_after: Duration) -> &Node {
        self.state().status_after = status_after;
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

    /// How many requests each frame had that arrived on a stream.
    pub(crate) fn frames(&self) -> Vec<usize> {
        self.state().frames.clone()
    }

    /// How many streams were opened or asked for.
    pub(crate) fn streams(&self) -> usize {
        self.state().streams
    }

    /// The gets that arrived, in that order.
    pub(crate) fn gets(&self) -> Vec<kv::GetRequest> {
        self.state().gets.clone()
    }

    /// The names of the writes that arrived, in that order.
    pub(crate) fn names(&self) -> Vec<kv::RequestId> {
        self.state().names.clone()
    }

    pub(crate) fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.store().value(key)
    }

    /// How many writes were run, rejected ones included.
    pub(crate) fn runs(&self) -> usize {
        self.store().runs
    }

    /// Drops all sessions.
    pub(crate) fn expire_sessions(&self) {
        self.store().expire_sessions();
    }

    /// Makes another cluster of it, which is younger.
    pub(crate) fn begin_anew(&self) {
        *self.store() = Store::at(5);
    }

    /// A copy of a write arrives late.
    pub(crate) fn deliver(&self, write: kv::PutRequest) -> Result<kv::PutResponse, Status> {
        self.store().put(write)
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

    /// The address, for a resolver.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no holder panics")
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
    store: Arc<Mutex<Store>>,
    hanging: Arc<Semaphore>,
}

impl Service {
    /// A call arrives, and is done by `run` unless the script says otherwise.
    async fn serve<T, A>(
        &self,
        method: &'static str,
        request: Request<T>,
        run: impl FnOnce(&mut Store, T) -> Result<A, Status>,
    ) -> Result<Response<A>, Status> {
        let (metadata, _, message) = request.into_parts();
        match self.meet(method, metadata, |store| run(store, message)) {
            Comes::Answer(result) => self.answer(result),
            Comes::TheEnd(status) => self.answer(Err(status)),
            Comes::Nothing => future::pending().await,
        }
    }

    /// What comes of a call by the script.
    fn meet<A>(
        &self,
        method: &'static str,
        metadata: MetadataMap,
        run: impl FnOnce(&mut Store) -> Result<A, Status>,
    ) -> Comes<A> {
        let instead = {
            let mut state = self.state.lock().expect("no holder panics");
            state.calls.push((method, metadata));
            if method == "Status" { None } else { state.script.pop_front() }
        };
        let run = || run(&mut self.store.lock().expect("no holder panics"));
        match instead {
            None => Comes::Answer(run()),
            Some(Instead::Fail(status)) => Comes::Answer(Err(status)),
            Some(Instead::DoAndFail(status)) => {
                let _ = run();
                Comes::Answer(Err(status))
            }
            Some(Instead::Hang) => self.hang(),
            Some(Instead::DoAndHang) => {
                let _ = run();
                self.hang()
            }
            Some(Instead::End(status)) => Comes::TheEnd(status),
            Some(Instead::DoAndEnd(status)) => {
                let _ = run();
                Comes::TheEnd(status)
            }
        }
    }

    fn hang<A>(&self) -> Comes<A> {
        self.hanging.add_permits(1);
        Comes::Nothing
    }

    fn note_get(&self, get: &kv::GetRequest) {
        self.state.lock().expect("no holder panics").gets.push(get.clone());
    }

    fn note(&self, name: Option<&kv::RequestId>) {
        self.state.lock().expect("no holder panics").names.extend(name.cloned());
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

#[tonic::async_trait]
impl kv_server::KvService for Service {
    async fn put(&self, request: Request<kv::PutRequest>) -> Result<Response<kv::PutResponse>, Status> {
        self.note(request.get_ref().request_id.as_ref());
        self.serve("Put", request, Store::put).await
    }

    async fn get(&self, request: Request<kv::GetRequest>) -> Result<Response<kv::GetResponse>, Status> {
        self.note_get(request.get_ref());
        self.serve("Get", request, |store, request| store.get(&request)).await
    }

    async fn delete(&self, request: Request<kv::DeleteRequest>) -> Result<Response<kv::DeleteResponse>, Status> {
        self.note(request.get_ref().request_id.as_ref());
        self.serve("Delete", request, Store::delete).await
    }

    async fn get_outcome(
        &self,
        request: Request<kv::GetOutcomeRequest>,
    ) -> Result<Response<kv::GetOutcomeResponse>, Status> {
        self.serve("GetOutcome", request, Store::get_outcome).await
    }

    type PipelineStream = pipeline::Answers;

    async fn pipeline(
        &self,
        request: Request<Streaming<kv::PipelineRequest>>,
    ) -> Result<Response<pipeline::Answers>, Status> {
        let streamless = {
            let mut state = self.state.lock().expect("no holder panics");
            state.streams += 1;
            state.streamless
        };
        if streamless {
            return Err(Status::unimplemented("as tonic says it"));
        }
        Ok(Response::new(pipeline::serve(self.clone(), request.into_inner())))
    }
}

#[tonic::async_trait]
impl admin_server::AdminService for Service {
    async fn status(&self, request: Request<admin::StatusRequest>) -> Result<Response<admin::StatusResponse>, Status> {
        let (status, after) = {
            let state = self.state.lock().expect("no holder panics");
            (state.status.clone(), state.status_after)
        };
        tokio::time::sleep(after).await;
        let run = |store: &mut Store, _| {
            let settings = Some(store.settings);
            let led = || admin::StatusResponse { leader_name: "n1".to_owned(), settings, ..Default::default() };
            Ok(admin::StatusResponse { time_ms: store.time_ms, ..status.unwrap_or_else(led) })
        };
        self.serve("Status", request, run).await
    }

    async fn list_members(
        &self,
        request: Request<admin::ListMembersRequest>,
    ) -> Result<Response<admin::ListMembersResponse>, Status> {
        let members = self.state.lock().expect("no holder panics").members.clone();
        self.serve("ListMembers", request, |_, _| Ok(admin::ListMembersResponse { members })).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<admin::TransferLeadershipRequest>,
    ) -> Result<Response<admin::TransferLeadershipResponse>, Status> {
        let run = |_: &mut Store, request: admin::TransferLeadershipRequest| {
            Ok(admin::TransferLeadershipResponse { leader_name: request.target, term: 2 })
        };
        self.serve("TransferLeadership", request, run).await
    }

    async fn update_settings(
        &self,
        request: Request<admin::UpdateSettingsRequest>,
    ) -> Result<Response<admin::UpdateSettingsResponse>, Status> {
        self.note(request.get_ref().request_id.as_ref());
        self.serve("UpdateSettings", request, Store::update_settings).await
    }

    async fn get_trace(
        &self,
        request: Request<admin::GetTraceRequest>,
    ) -> Result<Response<admin::GetTraceResponse>, Status> {
        self.serve("GetTrace", request, |_, _| Ok(admin::GetTraceResponse::default())).await
    }

    async fn list_slow_requests(
        &self,
        request: Request<admin::ListSlowRequestsRequest>,
    ) -> Result<Response<admin::ListSlowRequestsResponse>, Status> {
        self.serve("ListSlowRequests", request, |_, _| Ok(admin::ListSlowRequestsResponse::default())).await
    }

    async fn get_log_filter(
        &self,
        request: Request<admin::GetLogFilterRequest>,
    ) -> Result<Response<admin::GetLogFilterResponse>, Status> {
        self.serve("GetLogFilter", request, |_, _| Ok(admin::GetLogFilterResponse::default())).await
    }

    async fn update_log_filter(
        &self,
        request: Request<admin::UpdateLogFilterRequest>,
    ) -> Result<Response<admin::UpdateLogFilterResponse>, Status> {
        self.serve("UpdateLogFilter", request, |_, _| Ok(admin::UpdateLogFilterResponse::default())).await
    }

    async fn get_report(
        &self,
        request: Request<admin::GetReportRequest>,
    ) -> Result<Response<admin::GetReportResponse>, Status> {
        self.serve("GetReport", request, |_, _| Ok(admin::GetReportResponse::default())).await
    }
}
