//! `quorate-server run`: puts the parts of a node together, and takes them apart in order.
//!
//! Start: the data directory and its lock, the identity, the listeners (so that peers can ask who we are and health
//! checks get an answer from the first moment), then the node. Stop: `ending`, then the loop and
//! the servers, then the last spans.

mod ending;

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use engine::disk::LockError;
use engine::identity::IdentityError;
use engine::wal::WalError;
use engine::{EngineError, RepairError, TakeError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::{error, info, warn};

use self::ending::{asked_to_stop, drain_requests, exit_at_a_second_signal};
use crate::api::{self, Api, ApiOptions, ApiParts, Drain, Vital};
use crate::causes::chain;
use crate::cli::{EXIT_USAGE, RunArgs};
use crate::config::Config;
use crate::data_directory;
use crate::node::{self, LoopError, NodeError, Setup};
use crate::offline;
use crate::telemetry::{self, Metrics, Pulse, TelemetryError, TelemetryOptions};
use crate::threads::{self, ClientThreads, connections};
use crate::transport::{Board, Introduction, PeerForwarder, PeerService};

pub use self::ending::SHUTDOWN_MAX;

/// An address that cannot be bound: `EX_UNAVAILABLE` of sysexits.h.
const EXIT_UNAVAILABLE: u8 = 69;

/// The state is not what the other nodes have: `EX_SOFTWARE` of sysexits.h.
const EXIT_DIVERGED: u8 = 70;

/// The data directory cannot be used: `EX_IOERR` of sysexits.h.
const EXIT_DISK: u8 = 74;

/// How much a stream of a peer's may have under way before its reader has taken any, where peers have a port of their
/// own: two AppendEntries of the largest size.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// The same of a connection: streams that are read slowly leave the others on it room.
const CONNECTION_WINDOW_BYTES: u32 = 2 * STREAM_WINDOW_BYTES;

/// How long the last answers may take to leave.
const LAST_ANSWERS_MAX: Duration = Duration::from_millis(100);

/// Why a node could not run.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot {what}: {source}")]
    System { what: &'static str, source: std::io::Error },
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("the node's loop panicked")]
    Panicked,
}

impl RunError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Telemetry(_) => ExitCode::from(EXIT_USAGE),
            Self::Listen { .. } => ExitCode::from(EXIT_UNAVAILABLE),
            _ if matches!(self.engine_error(), Some(EngineError::Diverged { .. })) => ExitCode::from(EXIT_DIVERGED),
            Self::Lock(_) | Self::Identity(_) | Self::Node(_) => ExitCode::from(EXIT_DISK),
            Self::System { .. } | Self::Panicked => ExitCode::FAILURE,
        }
    }

    /// What the engine could not start or go on with, if it was that.
    fn engine_error(&self) -> Option<&EngineError> {
        match self {
            Self::Node(NodeError::Engine(error) | NodeError::Loop(LoopError::Engine(error))) => Some(error),
            _ => None,
        }
    }

    /// What to do next, where that is known.
    fn next(&self, directory: &Path, segment_bytes: u64) -> Option<String> {
        let verify = offline::command("verify", directory);
        if let Self::Identity(error) | Self::Node(NodeError::Identity(error)) = self {
            return matches!(error, IdentityError::Damaged { .. }).then_some(verify);
        }
        match self.engine_error()? {
            error if error.is_storage_full() => Some(format!(
                "make room for at least {} MiB in the file system of {}, and start the node again: nothing is damaged",
                1 + segment_bytes.div_ceil(1 << 20),
                directory.display()
            )),
            EngineError::Wal(WalError::Corrupt { .. })
            | EngineError::Replay(_)
            | EngineError::Load(_)
            | EngineError::Take(TakeError::StateDamaged(_))
            | EngineError::Repair(RepairError::Damaged) => Some(verify),
            EngineError::Diverged { .. } => Some(format!(
                "{verify} here and, one after the other, the same on each other node while it is stopped; then start \
                 this node again: it makes its state anew from its snapshot and its log, and stops again if those \
                 differ too"
            )),
            EngineError::Wal(
                WalError::Io { .. }
                | WalError::Missing
                | WalError::Version { .. }
                | WalError::TooLarge { .. }
                | WalError::Options(_),
            )
            | EngineError::Snapshot(_)
            | EngineError::Take(_)
            | EngineError::Repair(_)
            | EngineError::Setup(_)
            | EngineError::UnknownEntry(_)
            | EngineError::Stopped => None,
        }
    }

    /// What is wrong, and what to do next where that is known.
    fn tell(&self, directory: &Path, segment_bytes: u64) -> String {
        let text = chain(self);
        self.next(directory, segment_bytes).map_or_else(|| text.clone(), |next| format!("{text}; next: {next}"))
    }
}

/// Runs a node until it is told to stop, and returns the process's exit code.
#[must_use]
pub fn main(arguments: &RunArgs) -> ExitCode {
    let config = match Config::from_process(arguments) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("quorate-server: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let runtime = match threads::single() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quorate-server: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (directory, segment_bytes) = (config.data_dir.clone(), config.segment_bytes);
    let result = runtime.block_on(run(config));
    // Whatever still runs (a peer's stream, a name that is being resolved) has nothing left to do.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate-server: {}", error.tell(&directory, segment_bytes));
            error.exit_code()
        }
    }
}

async fn run(config: Config) -> Result<(), RunError> {
    let telemetry = telemetry::init(&TelemetryOptions {
        node_name: config.name.clone(),
        log_filter: config.log.clone(),
        log_format: config.log_format,
    })?;
    let result = serve(&config).await;
    if let Err(error) = &result {
        error!(error = error.tell(&config.data_dir, config.segment_bytes), "the node cannot go on");
    }
    telemetry.shutdown().await;
    result
}

async fn serve(config: &Config) -> Result<(), RunError> {
    raise_file_limit();
    let metrics = Arc::new(Metrics::default());
    let disk = data_directory::open(config, &metrics)?;
    let identity = node::identify(disk.as_ref(), &config.name)?;
    let listeners = Listeners::bind(config).await?;
    let client_address = config.client_address(listeners.client_address);
    let board = Board::new(Introduction { identity: identity.clone(), client_address: client_address.clone() });
    let (handle, seat) = node::seat(&identity, &metrics);
    let forwarder = PeerForwarder::new();
    let drain = Drain::new();
    let (loop_pulse, disk_pulse) = (Arc::new(Pulse::new()), Arc::new(Pulse::new()));
    let vital = |name, pulse: &Arc<Pulse>| Vital { name, pulse: Arc::clone(pulse) };
    let api = api::services(ApiParts {
        node: handle.clone(),
        forwarder: Arc::new(forwarder.clone()),
        drain: drain.clone(),
        vitals: vec![vital("the node's loop", &loop_pulse), vital("the log's disk", &disk_pulse)],
        metrics: Arc::clone(&metrics),
        options: ApiOptions {
            name: config.name.clone(),
            request_timeout: Duration::from_millis(config.request_timeout_ms),
            election_timeout: Duration::from_millis(config.election_timeout_ms),
            serves_peers: config.peer_listen.is_none(),
        },
    });
    let service = PeerService::new(board.clone(), Arc::clone(&api.forward_target));
    let (stop, stopped) = watch::channel(false);
    let in_flight = Arc::clone(&api.in_flight);
    let servers = listeners.serve(api, service.clone(), &stopped)?;
    let setup = Setup {
        disk,
        identity,
        addresses: config.peers.clone(),
        heartbeat: Duration::from_millis(config.heartbeat_ms),
        election_timeout: Duration::from_millis(config.election_timeout_ms),
        segment_bytes: config.segment_bytes,
        snapshot_log_bytes: config.snapshot_log_bytes,
        space_reserve_bytes: config.space_reserve_bytes,
        narrate: config.narrate,
        board,
        service,
        forwarder,
        loop_pulse,
        disk_pulse,
        metrics: Arc::clone(&metrics),
    };
    let push = telemetry::push_metrics(&metrics, &config.name);
    let mut node = tokio::spawn(node::run(seat, setup, stopped));
    info!(name = config.name, clients = client_address, peers = config.peer_address(), "serving");
    tokio::select! {
        // Without the node there is nothing to serve: its error ends the process at once.
        ended = &mut node => return Ok(ended.map_err(|_| RunError::Panicked)??),
        asked = asked_to_stop(config.exit_with_stdin) => asked?,
    }
    exit_at_a_second_signal();
    drain_requests(&handle, &drain, &in_flight, Duration::from_millis(config.shutdown_delay_ms)).await;
    // The node and the servers hold receivers, or have ended.
    let _ = stop.send(true);
    let ended = node.await.map_err(|_| RunError::Panicked)?;
    end(servers).await;
    if let Some(push) = push {
        push.shutdown().await;
    }
    info!("stopped");
    Ok(ended?)
}

/// Lets the servers send their last answers.
async fn end(servers: Vec<JoinHandle<()>>) {
    let abort_handles: Vec<_> = servers.iter().map(JoinHandle::abort_handle).collect();
    // The last answers are on their way. Streams that nobody ends would be waited for without end.
    let ends = async {
        for server in servers {
            // It has ended, however it did.
            let _ = server.await;
        }
    };
    if tokio::time::timeout(LAST_ANSWERS_MAX, ends).await.is_err() {
        abort_handles.iter().for_each(AbortHandle::abort);
    }
}

/// The sockets of a node, bound before anything else is started.
struct Listeners {
    client: TcpListener,
    client_address: SocketAddr,
    peer: Option<TcpListener>,
    http: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, RunError> {
        let client = bind(config.listen).await?;
        let client_address =
            client.local_addr().map_err(|source| RunError::Listen { address: config.listen, source })?;
        let peer = match config.peer_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let http = match config.http_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        Ok(Self { client, client_address, peer, http })
    }

    /// Starts the servers. They refuse new connections once `stopped` says so, and end with their tasks.
    fn serve(
        self,
        api: Api,
        peers: PeerService,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Vec<JoinHandle<()>>, RunError> {
        let mut servers = Vec::new();
        let client_routes = match self.peer {
            None => api.routes.add_service(peers.into_server()),
            Some(listener) => {
                let routes = Routes::new(peers.into_server());
                servers.push(tokio::spawn(serve_grpc(
                    "peers",
                    connections(listener),
                    routes,
                    STREAM_WINDOW_BYTES,
                    stopped.clone(),
                )));
                api.routes
            }
        };
        match threads::client_threads(std::thread::available_parallelism().map_or(1, NonZero::get)) {
            0 => servers.push(tokio::spawn(serve_grpc(
                "clients",
                connections(self.client),
                client_routes,
                api::limits::STREAM_WINDOW_BYTES,
                stopped.clone(),
            ))),
            count => {
                let until = stopped.clone();
                let window = api::limits::STREAM_WINDOW_BYTES;
                let serve =
                    move |connections| serve_grpc("clients", connections, client_routes.clone(), window, until.clone());
                let threads = ClientThreads::start(count, serve)
                    .map_err(|source| RunError::System { what: "start a thread for clients", source })?;
                servers.push(tokio::spawn(threads.feed(connections(self.client), until_stopped(stopped.clone()))));
            }
        }
        if let Some(listener) = self.http {
            let (parts, stopped) = (api.http, stopped.clone());
            servers.push(tokio::spawn(async move {
                if let Err(error) = api::http::serve(listener, parts, until_stopped(stopped)).await {
                    error!(%error, "the HTTP listener failed");
                }
            }));
        }
        Ok(servers)
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })
}

async fn serve_grpc(
    whom: &'static str,
    connections: impl Stream<Item = std::io::Result<TcpStream>>,
    routes: Routes,
    window_bytes: u32,
    stopped: watch::Receiver<bool>,
) {
    let server = api::limits::configure(Server::builder())
        .initial_stream_window_size(window_bytes)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_routes(routes);
    if let Err(error) = server.serve_with_incoming_shutdown(connections, until_stopped(stopped)).await {
        error!(error = chain(&error), whom, "a gRPC listener failed");
    }
}

/// Lets the process have as many connections as the system allows it: the usual limit is a soft one of 1,024 files.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit of open files stays as it is");
    }
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone: stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::Index;

    fn of_loop(error: EngineError) -> RunError {
        RunError::Node(NodeError::Loop(LoopError::Engine(error)))
    }

    #[test]
    fn a_damaged_log_is_told_with_its_place_and_the_next_command() {
        let file = "wal-0000000002.log".to_owned();
        let corrupt = WalError::Corrupt { segment: 2, file, offset: 4096, reason: "a hole".to_owned() };
        let error = RunError::Node(NodeError::Engine(corrupt.into()));
        let told = error.tell(Path::new("/data/n1"), 64 << 20);
        assert!(told.contains("wal-0000000002.log is damaged at byte 4096: a hole; next: "), "{told}");
        assert!(told.ends_with("quorate-server verify /data/n1"), "{told}");
        assert_eq!(error.exit_code(), ExitCode::from(EXIT_DISK));
    }

    #[test]
    fn a_state_that_differs_is_told_with_its_index_and_the_next_command() {
        let error = of_loop(EngineError::Diverged { index: Index::new(2048), by_majority: true });
        let told = error.tell(Path::new("/data/n1"), 64 << 20);
        assert!(
            told.starts_with("the state after entry 2048 differs from that of a majority of the replicas; next: "),
            "{told}"
        );
        assert!(told.contains("quorate-server verify /data/n1 here and"), "{told}");
        assert_eq!(error.exit_code(), ExitCode::from(EXIT_DIVERGED));
    }

    #[test]
    fn a_full_disk_is_told_with_what_it_needs() {
        let source = Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let full = WalError::Io { action: "write and sync", file: "wal-0000000002.new".to_owned(), source };
        let error = RunError::Node(NodeError::Engine(full.into()));
        let told = error.tell(Path::new("/data/n1"), 64 << 20);
        assert!(told.contains("next: make room for at least 65 MiB in the file system of /data/n1, and"), "{told}");
        assert_eq!(error.exit_code(), ExitCode::from(EXIT_DISK));
    }

    #[test]
    fn nothing_is_advised_where_nothing_is_known() {
        let error = of_loop(EngineError::Stopped);
        assert_eq!(error.tell(Path::new("/data/n1"), 64 << 20), "the engine has stopped after an earlier error");
        assert_eq!(error.exit_code(), ExitCode::from(EXIT_DISK));
    }
}
