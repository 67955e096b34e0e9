//! How a node comes up: its identity, its cluster, its log, and then the loop.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::disk::Disk;
use engine::identity::{Cluster, FILE_NAME as IDENTITY_FILE_NAME, Identity, IdentityError, Member};
use engine::wal::{WalError, WalOptions};
use engine::{Engine, EngineError, EngineOptions, Progress, Remedy, WAL_PENDING_BYTES_MAX};
use raft::{Configuration, Index, NodeId, Term};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::bootstrap::{Standing, find_cluster, mismatch};
use super::chronicle::Chronicle;
use super::disk_threads::{DiskParts, DiskThreads};
use super::event_loop::{EventLoop, LoopError, Parts, TICK};
use super::gauges::{InboxGauges, NodeGauges};
use super::handle::NodeHandle;
use super::measure::Measure;
use super::request::Request;
use super::roster::Roster;
use super::status::NodeStatus;
use crate::telemetry::{Metrics, Pulse, Stage, record_root};
use crate::transport::{Board, Inbox, Links, PeerAddress, PeerForwarder, PeerService, ServiceParts, spawn_peers};

/// How many requests may wait for the loop. It takes them within a turn, so this is what arrives during one turn under
/// the heaviest load; what does not find room is told to come again later.
const REQUESTS_WAITING_MAX: usize = 16_384;

/// How much an AppendEntries carries at most, unless a single entry is larger: large enough that its overhead vanishes,
/// small enough that it takes a disk about a millisecond.
const APPEND_BYTES_MAX: usize = 1 << 20;

/// How many AppendEntries may be under way to one follower: at the size above, more than the bandwidth-delay product of
/// any link within a region.
const INFLIGHT_MESSAGES_MAX: usize = 64;

/// How much of the log may be proposed and not yet committed; beyond, proposals are refused. It bounds what a leader
/// that lost its followers collects.
const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;

/// How much of the log stays in memory for followers that are a little behind.
const TAIL_BYTES_MAX: usize = 32 << 20;

/// How much is applied before messages are handled again.
const APPLY_BYTES_MAX: usize = 4 << 20;

/// How often a recovery that takes long says that it goes on.
const RECOVERY_PROGRESS_INTERVAL: Duration = Duration::from_secs(3);

/// A recovery that took longer than this is told with its time as something to know about the node.
const RECOVERY_LONG: Duration = Duration::from_secs(1);

/// What a node is started with.
pub struct Setup {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Who the node is.
    pub identity: Identity,
    /// Where peers reach every configured member, this one included, by name.
    pub addresses: BTreeMap<String, String>,
    /// How often a leader sends heartbeats.
    pub heartbeat: Duration,
    /// The shortest time without a leader after which the node stands for election; the longest is twice that.
    pub election_timeout: Duration,
    /// The size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// A snapshot is taken when there is more log than this since the last one, in bytes, and more than that one has.
    pub snapshot_log_bytes: u64,
    /// Writes that need room are refused while the disk has less left than this, in bytes.
    pub space_reserve_bytes: u64,
    /// Whether to print what happens as story lines on standard output.
    pub narrate: bool,
    /// What the node says of itself to others.
    pub board: Board,
    /// The service that takes part once the node is a member.
    pub service: PeerService,
    /// The forwarder that learns the peers once the node is a member.
    pub forwarder: PeerForwarder,
    /// The loop's sign of life.
    pub loop_pulse: Arc<Pulse>,
    /// The sign of life of the thread that commits to the log.
    pub disk_pulse: Arc<Pulse>,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
}

/// The loop's ends of the handle's channels, until the loop starts.
pub struct Seat {
    requests: mpsc::Receiver<Request>,
    status: watch::Sender<NodeStatus>,
    chronicle: Chronicle,
}

/// Why a node could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The identity could not be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log could not be opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The loop had to stop.
    #[error(transparent)]
    Loop(#[from] LoopError),
}

/// Reads who the node is from its disk; at its first start, draws an incarnation and writes it down.
///
/// # Errors
///
/// Fails if the disk does, or if the directory is another node's.
pub fn identify(disk: &dyn Disk, name: &str) -> Result<Identity, IdentityError> {
    if let Some(identity) = Identity::load(disk, name)? {
        return Ok(identity);
    }
    let incarnation = NodeId::new(rand::random_range(1..=u64::MAX)).expect("the range begins at 1");
    let identity = Identity { member: Member { name: name.to_owned(), incarnation }, cluster: None };
    identity.store(disk)?;
    info!(name, incarnation = format!("{:016x}", incarnation.get()), "first start in an empty data directory");
    Ok(identity)
}

/// A handle to a node that has not started yet: it answers that the node is not ready. From now on `metrics` tell of
/// its state.
#[must_use]
pub fn seat(identity: &Identity, metrics: &Metrics) -> (NodeHandle, Seat) {
    let (sender, requests) = mpsc::channel(REQUESTS_WAITING_MAX);
    let (status, receiver) = watch::channel(outside(identity, "the node is starting"));
    let chronicle = Chronicle::default();
    let handle = NodeHandle::new(sender, receiver, chronicle.clone());
    metrics.collect(NodeGauges::new(handle.clone()));
    (handle, Seat { requests, status, chronicle })
}

fn outside(identity: &Identity, reason: &str) -> NodeStatus {
    NodeStatus {
        name: identity.member.name.clone(),
        incarnation: identity.member.incarnation.get(),
        cluster_id: identity.cluster.as_ref().map(Cluster::id),
        not_ready: Some(reason.to_owned()),
        ..NodeStatus::default()
    }
}

/// Brings the node up and runs it until it is told to stop.
///
/// A node that may not take part (its disk was emptied, or its configuration is wrong) stays up, says why, and neither
/// votes nor acknowledges.
///
/// # Errors
///
/// Fails if the data directory is damaged or the disk fails; the process must end then.
pub async fn run(seat: Seat, setup: Setup, mut stop: watch::Receiver<bool>) -> Result<(), NodeError> {
    let mut others = setup.addresses.clone();
    others.remove(&setup.identity.member.name);
    let found = tokio::select! {
        standing = standing(&seat, &setup, &others) => standing,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let cluster = match found {
        Standing::Member(cluster) => cluster,
        Standing::Outside(reason) => return stay_outside(&seat, &setup, &reason, stop).await,
    };
    info!(cluster = format!("{:032x}", u128::from_be_bytes(cluster.id())), "member of the cluster");
    seat.status.send_replace(outside(&setup.identity, "the node is recovering its state from its disk"));
    let opened = tokio::select! {
        opened = open_engine(&setup, &cluster) => opened?,
        // A long log takes a while to replay.
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(reason) => return stay_outside(&seat, &setup, &reason, stop).await,
    };
    let own = setup.identity.member.incarnation;
    let peers: Vec<PeerAddress> = peer_addresses(&cluster, own, &setup.addresses);
    let links = Links::new(peers.iter().map(|peer| peer.member.incarnation));
    let (inbox, receivers) = Inbox::new();
    setup.metrics.collect(InboxGauges::new(inbox.clone()));
    let (disk, done) = DiskThreads::start(DiskParts {
        disk: Arc::clone(&setup.disk),
        executor: opened.executor,
        reader: opened.reader,
        snapshot_executor: opened.snapshot_executor,
        pulse: Arc::clone(&setup.disk_pulse),
    })
    .map_err(NodeError::Thread)?;
    setup.forwarder.join(&cluster, own, peers.clone());
    let parts = ServiceParts { cluster: cluster.clone(), own, links: links.clone(), inbox: inbox.clone() };
    setup.service.join(parts);
    let _peer_tasks = spawn_peers(&cluster, own, peers, &setup.board, &links, &inbox);
    let event_loop = EventLoop::new(Parts {
        engine: opened.engine,
        disk,
        done,
        requests: seat.requests,
        inbox: receivers,
        links,
        roster: Roster::new(own, cluster, setup.addresses),
        board: setup.board,
        status: seat.status,
        stop,
        pulse: setup.loop_pulse,
        measure: Measure::registered(&setup.metrics, seat.chronicle),
        narrate: setup.narrate,
    });
    // It is large, and moves to where it stays.
    Ok(Box::pin(event_loop.run()).await?)
}

async fn standing(seat: &Seat, setup: &Setup, others: &BTreeMap<String, String>) -> Standing {
    if let Some(cluster) = &setup.identity.cluster {
        return match mismatch(&setup.identity.member, others, cluster) {
            None => Standing::Member(cluster.clone()),
            Some(reason) => Standing::Outside(reason),
        };
    }
    let cluster = find_cluster(&setup.board, others, |reason| {
        warn!(reason, "this node does not take part yet");
        seat.status.send_replace(outside(&setup.identity, reason));
    });
    Standing::Member(cluster.await)
}

async fn stay_outside(
    seat: &Seat,
    setup: &Setup,
    reason: &str,
    mut stop: watch::Receiver<bool>,
) -> Result<(), NodeError> {
    warn!(reason, "this node does not take part");
    seat.status.send_replace(outside(&setup.identity, reason));
    // An error means that the sender is gone: stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
    Ok(())
}

/// Opens the log, then writes down the membership, in this order: a node that is known to be a member has a log, and
/// one that is not has none with anything in it. Where it is otherwise, promises were lost, and the node may not take
/// part: the inner error says so.
async fn open_engine(setup: &Setup, cluster: &Cluster) -> Result<Result<engine::Opened, String>, NodeError> {
    let known = setup.identity.cluster.is_some();
    let (disk, options) = (Arc::clone(&setup.disk), engine_options(setup, cluster));
    let begun = Instant::now();
    let progress = Arc::new(RecoveryProgress::default());
    let reached = Arc::clone(&progress);
    let opening = tokio::task::spawn_blocking(move || Engine::open_telling(&disk, options, &mut |at| reached.note(at)));
    let opened = telling_progress(opening, begun, &progress).await.expect("opening the log does not panic");
    let opened = match opened {
        Err(EngineError::Wal(WalError::Missing)) => return Ok(Err(log_is_gone(&setup.identity))),
        opened => opened?,
    };
    let raft = opened.engine.raft();
    if !known && (raft.last_index() > Index::ZERO || raft.current_term() > Term::ZERO) {
        return Ok(Err(format!(
            "there is a log in the data directory, but no identity of a member that it belongs to: it must not take \
             part under a new one. Stop this node, put the file {IDENTITY_FILE_NAME} back in its place or empty the \
             directory, and start it again"
        )));
    }
    if !known {
        let identity = Identity { member: setup.identity.member.clone(), cluster: Some(cluster.clone()) };
        identity.store(setup.disk.as_ref())?;
        setup.board.set_identity(identity);
    }
    let recovered =
        Stage::new("node.recover", begun, Instant::now()).with_text("raft.node.id", &setup.identity.member.name);
    record_root(
        recovered.with_number("wal.bytes", opened.report.bytes).with_number("wal.entries", opened.report.entries),
    );
    tell_recovery(&opened, begun.elapsed());
    Ok(Ok(opened))
}

/// How far a recovery has come: a snapshot is read first, then the log behind it.
#[derive(Default)]
struct RecoveryProgress {
    snapshot_bytes: AtomicU64,
    log_entries: AtomicU64,
}

impl RecoveryProgress {
    fn note(&self, progress: Progress) {
        let (counter, count) = match progress {
            Progress::Snapshot { bytes } => (&self.snapshot_bytes, bytes),
            Progress::Log { entries } => (&self.log_entries, entries),
        };
        counter.store(count, Ordering::Relaxed);
    }
}

/// Waits for the recovery, and says every few seconds that it goes on: nobody else speaks until it has ended.
async fn telling_progress<T>(recovery: impl Future<Output = T>, begun: Instant, progress: &RecoveryProgress) -> T {
    let mut recovery = pin!(recovery);
    loop {
        match timeout(RECOVERY_PROGRESS_INTERVAL, &mut recovery).await {
            Ok(recovered) => return recovered,
            Err(_) => info!(
                seconds = begun.elapsed().as_secs(),
                snapshot_bytes = progress.snapshot_bytes.load(Ordering::Relaxed),
                log_entries = progress.log_entries.load(Ordering::Relaxed),
                "the state is still being recovered from the disk"
            ),
        }
    }
}

fn tell_recovery(opened: &engine::Opened, took: Duration) {
    let (report, status) = (&opened.report, opened.engine.status());
    info!(
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        snapshot_index = status.snapshot_index.get(),
        snapshot_bytes = status.snapshot_bytes,
        segments = report.segments,
        entries = report.entries,
        bytes = report.bytes,
        cut_bytes = report.cut_bytes,
        "{}",
        if took > RECOVERY_LONG { "the log is recovered, which took a while" } else { "the log is recovered" }
    );
    for damage in &opened.damage {
        match damage.remedy {
            Remedy::OlderSnapshot => {
                warn!(
                    found = damage.found,
                    "a snapshot is damaged or cannot be read; the one before it and the log hold the same"
                );
            }
            Remedy::Fetched { last_index } => warn!(
                found = damage.found,
                last_index = last_index.get(),
                "damage was cut off; the log ends at the last index, and the rest is fetched from the other members"
            ),
        }
    }
    if status.recovering {
        warn!(
            "part of the log was lost to damage: this node fetches it from the other members, and takes no part in \
             elections until it has it"
        );
    }
}

fn log_is_gone(identity: &Identity) -> String {
    format!(
        "the log of this member is gone from its data directory, and with it the votes and acknowledgements of its \
         incarnation {:016x}. Stop this node, put the whole data directory back in its place, and start it again; the \
         other members go on without it as long as they are a majority",
        identity.member.incarnation.get()
    )
}

fn engine_options(setup: &Setup, cluster: &Cluster) -> EngineOptions {
    let ticks = |duration: Duration| {
        u32::try_from(duration.as_millis() / TICK.as_millis()).expect("the configuration bounds all durations").max(1)
    };
    let election_timeout_ticks_min = ticks(setup.election_timeout);
    let election_timeout_ms_min =
        u64::try_from((TICK * election_timeout_ticks_min).as_millis()).expect("the configuration bounds all durations");
    let raft = raft::Options {
        id: setup.identity.member.incarnation,
        election_timeout_ticks_min,
        election_timeout_ticks_max: 2 * election_timeout_ticks_min,
        heartbeat_ticks: ticks(setup.heartbeat),
        append_bytes_max: APPEND_BYTES_MAX,
        inflight_messages_max: INFLIGHT_MESSAGES_MAX,
        uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
        tail_bytes_max: TAIL_BYTES_MAX,
        apply_bytes_max: APPLY_BYTES_MAX,
        seed: rand::random(),
    };
    let voters = cluster.members().iter().map(|member| member.incarnation);
    EngineOptions {
        raft,
        wal: WalOptions {
            segment_bytes: setup.segment_bytes,
            salt: rand::random(),
            // A member's log holds its votes: where it is gone, another must not take its place.
            must_exist: setup.identity.cluster.is_some(),
            ..WalOptions::default()
        },
        configuration: Configuration::new(voters),
        wal_pending_bytes_max: WAL_PENDING_BYTES_MAX,
        snapshot_log_bytes_min: setup.snapshot_log_bytes,
        space_reserve_bytes: setup.space_reserve_bytes,
        snapshot_chunk_bytes: engine::side::SNAPSHOT_CHUNK_BYTES,
        session_limits: engine::kv::SessionLimits::default(),
        lease_ms: engine::lease_ms(election_timeout_ms_min),
        state_hash_every_entries: engine::STATE_HASH_EVERY_ENTRIES,
    }
}

fn peer_addresses(cluster: &Cluster, own: NodeId, addresses: &BTreeMap<String, String>) -> Vec<PeerAddress> {
    let others = cluster.members().iter().filter(|member| member.incarnation != own);
    others.map(|member| PeerAddress { member: member.clone(), address: addresses[&member.name].clone() }).collect()
}
