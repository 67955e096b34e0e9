//! A cluster of real processes on loopback addresses of its own.

use crate::{
    loopback::{Subnet, WildcardPort},
    node::{Launch, Node},
    relay::Links,
    rpc,
    slots::Slot,
    wait::wait_for,
};
use proto::{
    admin::v1::{Role, StatusResponse},
    kv::v1::{DeleteResponse, PutResponse},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;
use tonic::Status;

/// Segments of this size are zeroed ahead in no time, also with a debug build.
const SEGMENT_BYTES: u64 = 1 << 20;

/// Where a node with [`Options::separate_ports`] serves its peers, counted from its clients' port.
pub const PEER_PORT_OFFSET: u16 = 1;
/// The same for its HTTP probes.
pub const HTTP_PORT_OFFSET: u16 = 2;

/// The address of the same host at a port further on.
pub fn beside(address: SocketAddr, offset: u16) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + offset)
}

/// How much of each node's log a failing test prints.
const LOG_LINES_SHOWN: usize = 60;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes.
    pub size: usize,
    /// Flags for each node beside those that every node has.
    pub flags: Vec<String>,
    /// For each node, by number: environment variables of its own.
    pub environment: Vec<Vec<(String, String)>>,
    /// The size of the log's segments; `None` for the server's default.
    pub segment_bytes: Option<u64>,
    /// Whether peers and HTTP probes have ports of their own, [`PEER_PORT_OFFSET`] and [`HTTP_PORT_OFFSET`].
    pub separate_ports: bool,
    /// Whether the links between nodes can be cut: [`Cluster::links`].
    pub relayed: bool,
    /// Where the cluster's directory is made; `None` for the system's place for temporary files.
    pub parent: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            size: 3,
            flags: Vec::new(),
            environment: Vec::new(),
            segment_bytes: Some(SEGMENT_BYTES),
            separate_ports: false,
            relayed: false,
            parent: None,
        }
    }
}

impl Options {
    /// Adds flags for each node.
    #[must_use]
    pub fn with_flags(mut self, flags: &[&str]) -> Options {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }
}

/// What keeps a cluster's addresses its own.
#[derive(Debug)]
enum Reservation {
    Subnet { _held: Subnet },
    Ports { _held: Vec<WildcardPort> },
}

/// A cluster of real processes. Dropped, it kills them; while a test fails, it prints their logs; and a node that
/// crashed or panicked fails the test that did not notice.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, numbered from 0.
    pub nodes: Vec<Node>,
    /// The highest revision that this cluster's own puts and deletes were acknowledged with.
    revision: AtomicU64,
    directory: TempDir,
    links: Option<Links>,
    _reservation: Reservation,
    _slot: Slot,
}

impl Cluster {
    /// Starts nodes `n1`, `n2`, … configured by flags, and waits until all are ready under one leader.
    pub async fn start(options: Options) -> Cluster {
        let mut cluster = Cluster::new(&options);
        cluster.start_all();
        cluster.ready().await;
        cluster
    }

    /// Starts three nodes with the default options.
    pub async fn of_three() -> Cluster {
        Cluster::start(Options::default()).await
    }

    /// A cluster whose nodes are configured by flags; none is started.
    pub fn new(options: &Options) -> Cluster {
        let slot = Slot::take();
        let subnet = Subnet::reserve();
        let parent = options.parent.clone().unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::tempdir_in(parent).expect("a temporary directory can be made");
        let names: Vec<String> = (1..=options.size).map(|number| format!("n{number}")).collect();
        let listed = |number| {
            let address = subnet.address(number);
            if options.separate_ports { beside(address, PEER_PORT_OFFSET) } else { address }
        };
        let listed: Vec<SocketAddr> = (0..options.size).map(listed).collect();
        let links = options.relayed.then(|| Links::new(&listed));
        let found_by = |own: usize, other: usize| match &links {
            Some(links) if own != other => links.address(own, other),
            _ => listed[other],
        };
        let nodes = names
            .iter()
            .enumerate()
            .map(|(number, name)| {
                let data = directory.path().join(name);
                let address = subnet.address(number);
                let peers = names.iter().enumerate().map(|(other, name)| format!("{name}={}", found_by(number, other)));
                let peers = peers.collect::<Vec<_>>().join(",");
                let arguments = arguments(name, address, &data, &peers, options);
                let environment = options.environment.get(number).cloned().unwrap_or_default();
                let launch = Launch { name: name.clone(), address, arguments, environment };
                Node::new(launch, data, directory.path().join(format!("{name}.log")))
            })
            .collect();
        Cluster::of(nodes, (directory, links), Reservation::Subnet { _held: subnet }, slot)
    }

    /// A cluster of three, `peer0` to `peer2`, configured by `PORT` and `PEER_<NAME>_HOST`, `PEER_<NAME>_PORT` alone,
    /// each in the default data directory, with links that can be cut; none is started.
    pub fn discovered() -> Cluster {
        let slot = Slot::take();
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let ports: Vec<WildcardPort> = (0..3).map(|_| WildcardPort::reserve()).collect();
        let addresses: Vec<SocketAddr> = ports.iter().map(|port| ([127, 0, 0, 1], port.port()).into()).collect();
        let links = Links::new(&addresses);
        let nodes = ports
            .iter()
            .enumerate()
            .map(|(number, port)| {
                let name = format!("peer{number}");
                let mut environment = Vec::new();
                for peer in (0..ports.len()).filter(|peer| *peer != number) {
                    let address = links.address(number, peer);
                    environment.push((format!("PEER_PEER{peer}_HOST"), address.ip().to_string()));
                    environment.push((format!("PEER_PEER{peer}_PORT"), address.port().to_string()));
                }
                environment.push(("PORT".to_owned(), port.port().to_string()));
                let launch = Launch {
                    name: name.clone(),
                    address: ([127, 0, 0, 1], port.port()).into(),
                    arguments: ["run", "--name", &name].map(str::to_owned).to_vec(),
                    environment,
                };
                let data = directory.path().join("quorate-data").join(&name);
                Node::new(launch, data, directory.path().join(format!("{name}.log")))
            })
            .collect();
        Cluster::of(nodes, (directory, Some(links)), Reservation::Ports { _held: ports }, slot)
    }

    fn of(
        nodes: Vec<Node>,
        (directory, links): (TempDir, Option<Links>),
        reservation: Reservation,
        slot: Slot,
    ) -> Cluster {
        Cluster { nodes, revision: AtomicU64::new(0), directory, links, _reservation: reservation, _slot: slot }
    }

    /// A directory of the test's own, removed with the cluster.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The links between the nodes, where they can be cut.
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("the cluster was made with links that can be cut")
    }

    /// The addresses of all nodes, separated by commas, as `client-cli --endpoints` takes them.
    pub fn endpoints(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        addresses.join(",")
    }

    /// Starts every node that is down.
    pub fn start_all(&mut self) {
        for node in &mut self.nodes {
            if !node.is_reachable() {
                node.start();
            }
        }
    }

    /// The status of every node that was neither killed nor paused; `None` if one does not answer.
    pub async fn statuses(&self) -> Option<Vec<(usize, StatusResponse)>> {
        let mut statuses = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if node.is_reachable() {
                node.expect_running();
                statuses.push((number, rpc::status(&node.channel()).await.ok()?));
            }
        }
        Some(statuses)
    }

    /// Waits until every reachable node follows one leader in one term; its number.
    pub async fn leader(&self) -> usize {
        wait_for("one leader that every reachable node knows", async || agreed_leader(&self.statuses().await?)).await
    }

    /// Waits until every reachable node is ready and follows one leader; the leader's number.
    pub async fn ready(&self) -> usize {
        wait_for("every reachable node is ready under one leader", async || {
            let statuses = self.statuses().await?;
            statuses.iter().all(|(_, status)| status.ready).then(|| agreed_leader(&statuses)).flatten()
        })
        .await
    }

    /// The numbers of the nodes other than `leader`.
    pub fn others(&self, leader: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&number| number != leader).collect()
    }

    /// Waits until all reachable nodes have applied the same log, up to the last write that was acknowledged through
    /// [`Cluster::put`] or [`Cluster::delete`] at least; returns one of their statuses. Panics if their states differ
    /// at an equal applied index.
    ///
    /// A status may be some moments old, and all alike may be: only a write that must be in it shows that it is not.
    pub async fn converged(&self) -> StatusResponse {
        let revision = self.revision.load(Ordering::Relaxed);
        let statuses = wait_for("every reachable node has applied the whole log", async || {
            let statuses = self.statuses().await?;
            let first = &statuses.first()?.1;
            let same = |status: &StatusResponse| {
                status.applied_index == first.applied_index
                    && status.last_index == first.applied_index
                    && status.revision >= revision
            };
            statuses.iter().all(|(_, status)| same(status)).then_some(statuses)
        })
        .await;
        let first = statuses[0].1.clone();
        for (_, status) in &statuses {
            assert_eq!(status.state_hash, first.state_hash, "the states of {} and {} differ", status.name, first.name);
        }
        first
    }

    /// A create-only put through a node.
    pub async fn put(&self, node: usize, key: &str, value: &str) -> Result<PutResponse, Status> {
        let answer = rpc::put(&self.nodes[node].channel(), key, value).await?;
        self.revision.fetch_max(answer.revision, Ordering::Relaxed);
        Ok(answer)
    }

    /// A linearizable get through a node, of a value that is text.
    pub async fn get(&self, node: usize, key: &str) -> Result<String, Status> {
        rpc::get_text(&self.nodes[node].channel(), key).await
    }

    /// A delete through a node.
    pub async fn delete(&self, node: usize, key: &str) -> Result<DeleteResponse, Status> {
        let answer = rpc::delete(&self.nodes[node].channel(), key).await?;
        self.revision.fetch_max(answer.revision, Ordering::Relaxed);
        Ok(answer)
    }

    fn print_logs(&self) {
        for node in &self.nodes {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("=== {} at {}, {} of {} lines", node.name(), node.address(), shown.len(), lines.len());
            eprintln!("{}", shown.join("\n"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
            return;
        }
        for number in 0..self.nodes.len() {
            let crashed = self.nodes[number].crashed();
            let panicked = self.nodes[number].log().contains("panicked at");
            if crashed.is_some() || panicked {
                self.print_logs();
                panic!("{} crashed ({crashed:?}) or panicked ({panicked})", self.nodes[number].name());
            }
        }
    }
}

/// The node that all these statuses name as the leader of their one term, if it says so itself.
fn agreed_leader(statuses: &[(usize, StatusResponse)]) -> Option<usize> {
    let (leader, status) = statuses.iter().find(|(_, status)| status.role() == Role::Leader)?;
    let follows = |other: &StatusResponse| other.term == status.term && other.leader_name == status.name;
    statuses.iter().all(|(_, other)| follows(other)).then_some(*leader)
}

/// The command line of a node that is configured by flags.
fn arguments(name: &str, address: SocketAddr, data: &Path, peers: &str, options: &Options) -> Vec<String> {
    let mut arguments = ["run", "--name", name, "--peers", peers].map(str::to_owned).to_vec();
    let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    flag("--listen", address.to_string());
    flag("--data-dir", path_text(data));
    if let Some(bytes) = options.segment_bytes {
        flag("--segment-bytes", bytes.to_string());
    }
    if options.separate_ports {
        flag("--peer-listen", beside(address, PEER_PORT_OFFSET).to_string());
        flag("--http-listen", beside(address, HTTP_PORT_OFFSET).to_string());
        flag("--advertise-client", address.to_string());
    }
    arguments.extend(options.flags.iter().cloned());
    arguments
}

fn path_text(path: &Path) -> String {
    path.to_str().expect("a temporary directory's path is UTF-8").to_owned()
}
