//! The engine: a replica, its write-ahead log and its snapshots as one machine, which the shell and the simulator
//! drive.
//!
//! Inputs go in one at a time (`tick`, `message`, `write`, `completed`, ...) and may be gathered before
//! [`Engine::output`] is asked what to do about them all: what was proposed meanwhile leaves as one message per
//! follower and is written as one batch. Disk work comes out as [`Work`] and [`SnapshotWork`], is run by an
//! [`Executor`] and a [`SnapshotExecutor`] wherever the driver likes, and comes back as a [`Completion`] or
//! [`SnapshotCompletion`]. Promises wait for the log's work and for nothing else: a snapshot only ever replaces what is
//! durable already.

mod agreement;
mod error;
mod offline;
mod open;
mod options;
mod reads;
mod repair;
mod replay;
mod restore;
mod snapshots;
mod space;

use std::sync::Arc;

use raft::{Body, Entry, Fetch, Index, Message, NodeId, Raft};

use crate::disk::Disk;
use crate::kv::{Command, Request, Revision, Settings, Store};
use crate::leaderless::ReplicaMessage;
use crate::replica::{Answer, Event, Outbox, Replica, Ticket};
use crate::side::{SideBody, SideMessage};
use crate::wal::{Completion, Executor, Reader, RecoveryReport, Wal, Work};
use agreement::{Agreement, Diverged};
use snapshots::{Loaded, Outcome, Snapshots};
use space::Space;

pub use error::EngineError;
pub use offline::{OfflineState, SnapshotFile};
pub use open::{Damage, Progress, Remedy};
pub use options::{
    EngineOptions, SNAPSHOT_LOG_BYTES_MIN, SPACE_RESERVE_BYTES, STATE_HASH_EVERY_ENTRIES, WAL_PENDING_BYTES_MAX,
    lease_ms,
};
pub use repair::{Repair, RepairError};
pub use replay::ReplayError;
pub use restore::{RestoreError, RestoredState};
pub use snapshots::{LoadError, SnapshotCompletion, SnapshotExecutor, SnapshotWork, TakeError, UnusableSnapshot};

/// Every so many ticks the log is asked to let go of what is in a snapshot.
const HOUSEKEEPING_TICKS: u64 = 16;

/// Every so many ticks the log may try again to prepare a segment that found no room.
const PREPARE_AGAIN_TICKS: u64 = 128;

/// One node without threads, clock and network.
pub struct Engine {
    replica: Replica,
    wal: Wal,
    snapshots: Snapshots,
    agreement: Agreement,
    space: Space,
    wal_pending_bytes_max: usize,
    messages_dropped: u64,
    ticks: u64,
    /// An error was returned: memory and disk may differ, so nothing may leave this node any more.
    stopped: bool,
}

/// What [`Engine::open`] gives.
pub struct Opened {
    /// The machine.
    pub engine: Engine,
    /// Runs its disk work.
    pub executor: Executor,
    /// Reads entries for its fetches; may be used on any thread.
    pub reader: Reader,
    /// Runs its snapshots' disk work, beside the log's.
    pub snapshot_executor: SnapshotExecutor,
    /// What was found in the log.
    pub report: RecoveryReport,
    /// The last index of the snapshot that was loaded; zero if there was none.
    pub snapshot_index: Index,
    /// Damage that was found and dealt with.
    pub damage: Vec<Damage>,
    /// Whether there was no log yet.
    pub fresh: bool,
}

/// What the driver has to do.
#[derive(Default)]
pub struct Output {
    /// Send these, in this order to each peer. Any may be lost.
    pub messages: Vec<Message>,
    /// Run these, and hand each [`Completion`] to [`Engine::completed`].
    pub work: Vec<Work>,
    /// Send these too, where they do not delay a heartbeat. Any may be lost.
    pub replica_messages: Vec<ReplicaMessage>,
    /// Send these on a connection that delays no message of the above. Any may be lost.
    pub side_messages: Vec<SideMessage>,
    /// Run these beside the log's work, in order, and hand each [`SnapshotCompletion`] to
    /// [`Engine::snapshot_completed`].
    pub snapshot_work: Vec<SnapshotWork>,
    /// Read these from the log, and hand the entries to [`Engine::fetched`].
    pub fetches: Vec<Fetch>,
    /// Tell these to the clients.
    pub answers: Vec<(Ticket, Answer)>,
    /// Tell these to people.
    pub events: Vec<Event>,
    /// Tell people that these snapshots are of no use: those that peers gave, and this node's own that went bad.
    pub unusable_snapshots: Vec<UnusableSnapshot>,
}

/// How an engine is doing.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// The consensus core.
    pub raft: raft::Status,
    /// The last entry applied to the state.
    pub applied: Index,
    /// The revision of the state.
    pub revision: Revision,
    /// The settings of the cluster, as the state has them.
    pub settings: Settings,
    /// The number of sessions of clients.
    pub session_count: usize,
    /// The number of keys.
    pub key_count: usize,
    /// The hash over the state; equal on every node that has applied the same log up to the same index.
    pub state_hash: u128,
    /// The replicated time of the state, in milliseconds.
    pub time_ms: u64,
    /// How many writes wait for an answer.
    pub writes_waiting: usize,
    /// How many reads wait for an answer.
    pub reads_waiting: usize,
    /// How many messages were dropped, since the start, because too many waited for the disk.
    pub messages_dropped: u64,
    /// How many bytes wait to be written to the log.
    pub wal_pending_bytes: usize,
    /// The first entry in the log; those before it are in a snapshot only.
    pub first_index: Index,
    /// The last index that the newest snapshot covers; zero without one.
    pub snapshot_index: Index,
    /// The size of that snapshot, in bytes.
    pub snapshot_bytes: u64,
    /// How much log there is since that snapshot, in bytes of entries.
    pub log_bytes_since_snapshot: u64,
    /// Whether the disk is so full that writes are refused.
    pub storage_full: bool,
    /// Whether part of the log was lost to damage, and is still being fetched from the others.
    pub recovering: bool,
    /// Whether this node leads and holds a lease.
    pub holds_lease: bool,
    /// How many linearizable reads were answered under a lease, since the start.
    pub leased_reads: u64,
}

impl Engine {
    /// Opens what is in `disk`: the newest sound snapshot and the log behind it, and sets up the core from them. The
    /// new engine is a follower. Damage is dealt with where that loses nothing, see [`Opened::damage`].
    ///
    /// What is known to be committed is applied as it streams by. Memory holds the state and the entries above the last
    /// commit index that the log records, which trails the truth by what was written in the last moments before the
    /// node stopped.
    ///
    /// # Errors
    ///
    /// The log or the snapshots are damaged beyond what can be fetched from others, of an unknown version, or cannot be
    /// read; or the options are wrong.
    pub fn open(disk: &Arc<dyn Disk>, options: EngineOptions) -> Result<Opened, EngineError> {
        Engine::open_telling(disk, options, &mut |_| {})
    }

    /// The same; `progress` is told now and then how far it is.
    ///
    /// # Errors
    ///
    /// As those of [`Engine::open`].
    pub fn open_telling(
        disk: &Arc<dyn Disk>,
        options: EngineOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Opened, EngineError> {
        open::open(disk, options, progress)
    }

    /// Whether to tell what happens in detail. Off at first: it costs time and memory.
    pub fn narrate(&mut self, narrating: bool) {
        self.replica.narrate(narrating);
    }

    /// One tick of the core's timers, at `now_ms` of this node's monotonic clock (milliseconds, any origin).
    pub fn tick(&mut self, now_ms: u64) {
        self.replica.tick(now_ms);
        self.snapshots.tick();
        self.agreement.tick();
        self.ticks += 1;
        if self.ticks.is_multiple_of(HOUSEKEEPING_TICKS) {
            self.snapshots.observe_room(self.is_storage_full());
            self.wal.keep_spares(self.snapshots.cycle_bytes());
            self.let_go();
        }
        // A preparation that fails takes all the room there is for a moment, and a snapshot may need it.
        if self.ticks.is_multiple_of(PREPARE_AGAIN_TICKS) && !self.snapshots.is_taking() {
            self.wal.retry();
        }
    }

    /// Lets the log go of what the snapshots hold.
    fn let_go(&mut self) {
        let cuttable = self.raft().cuttable_index();
        if let Some(first_kept) = self.snapshots.release(&self.replica) {
            self.wal.cut(first_kept.min(cuttable.next()));
        }
    }

    /// A message from a peer.
    ///
    /// # Errors
    ///
    /// The message was dropped, for a reason that is worth counting.
    pub fn message(&mut self, message: Message) -> Result<(), raft::Refused> {
        let is_bulk = matches!(&message.body, Body::AppendEntries { entries, .. } if !entries.is_empty());
        if is_bulk && self.wal.pending_bytes() > self.wal_pending_bytes_max {
            // The disk does not keep up, or is full: as if the network had lost it. The leader sends it again.
            self.messages_dropped += 1;
            return Ok(());
        }
        self.replica.message(message)
    }

    /// A client's write, at `now_ms` of this node's monotonic clock. See [`Answer`] for what may come of it.
    pub fn write(&mut self, ticket: Ticket, request: &Request, now_ms: u64) {
        // Who does not lead says so, however full its disk or its queue is: the client has another node to go to.
        let refusal = if !self.replica.raft().is_leader() {
            None
        } else if self.is_storage_full() && matches!(request.command, Command::Put { .. }) {
            Some(Answer::StorageFull)
        } else {
            (self.wal.pending_bytes() > self.wal_pending_bytes_max).then_some(Answer::Overloaded)
        };
        if let Some(refusal) = refusal {
            self.replica.refuse(ticket, refusal);
            return;
        }
        self.replica.write(ticket, request, now_ms);
    }

    /// A message from a peer's replica.
    pub fn replica_message(&mut self, message: ReplicaMessage) {
        self.replica.replica_message(message);
    }

    /// The client with `ticket` is gone: its answer is not wanted. Its write may still happen, and an answer that is
    /// under way may still come.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.replica.cancel(ticket);
    }

    /// Starts to hand leadership over to `target`.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    pub fn transfer_leadership(&mut self, target: NodeId) -> Result<(), raft::TransferError> {
        self.replica.transfer_leadership(target)
    }

    /// The transport lost a message to `peer`, or its connection.
    pub fn unreachable(&mut self, peer: NodeId) {
        self.replica.unreachable(peer);
    }

    /// The process of `peer` has ended, for all that its host tells: its connections broke, and its address takes no
    /// new ones. See [`raft::Raft::peer_gone`].
    pub fn peer_gone(&mut self, peer: NodeId) {
        self.replica.peer_gone(peer);
    }

    /// A piece of disk work has ended.
    ///
    /// # Errors
    ///
    /// The disk failed. The node must stop: what it has promised may not be on its disk.
    pub fn completed(&mut self, completion: Completion) -> Result<(), EngineError> {
        self.guard(|engine| {
            if let Some(batch) = engine.wal.completed(completion)? {
                engine.replica.persisted(batch);
            }
            Ok(())
        })
    }

    /// A piece of the snapshots' disk work has ended.
    ///
    /// # Errors
    ///
    /// The disk failed, or the state in memory is damaged. The node must stop.
    pub fn snapshot_completed(&mut self, completion: SnapshotCompletion) -> Result<(), EngineError> {
        self.guard(|engine| {
            match engine.snapshots.completed(completion)? {
                Some(Outcome::Taken { index }) => engine.replica.snapshot_taken(index),
                Some(Outcome::Loaded(loaded)) => engine.install(*loaded),
                None => {}
            }
            engine.let_go();
            Ok(())
        })
    }

    fn install(&mut self, loaded: Loaded) {
        let Loaded { meta, store, stored } = loaded;
        let unused = match self.replica.install(store, meta.index, &meta.term_starts) {
            Ok(replaced) => {
                self.snapshots.installed(stored, &self.replica);
                replaced
            }
            Err(unused) => {
                self.snapshots.not_needed(meta.index);
                // The core takes over whatever goes further than what it knows to be committed, unless it leads.
                let raft = self.replica.raft();
                if raft.commit_index() < meta.index && !raft.is_leader() {
                    let why = "it contradicts what is committed here, or cannot be of this cluster";
                    self.snapshots.reject(meta.index, why.to_owned());
                }
                *unused
            }
        };
        self.snapshots.discard(unused);
    }

    /// A message from a peer's engine.
    pub fn side_message(&mut self, message: SideMessage) {
        let SideMessage { from, to, body } = message;
        let configuration = self.replica.raft().configuration();
        if to != self.replica.raft().id() || !configuration.contains(from) {
            return;
        }
        match body {
            SideBody::StateHash { index, hash } => self.agreement.told(configuration, from, index, hash),
            body => self.snapshots.message(from, body),
        }
    }

    /// The disk has so many bytes left. To be told about once a second.
    pub fn observe_free_bytes(&mut self, free_bytes: u64) {
        self.space.observe(free_bytes, self.snapshots.newest().1);
    }

    fn is_storage_full(&self) -> bool {
        self.space.is_full() || self.wal.out_of_space()
    }

    /// The entries that [`Output::fetches`] asked for; none if they could not be read, and the core will ask again.
    pub fn fetched(&mut self, fetch: Fetch, entries: Vec<Entry>) {
        self.replica.fetched(fetch, entries);
    }

    /// Nothing was written for a while: lets the log mark that its end is durable, so that a crash during the idle time
    /// leaves no doubt about its last batch.
    pub fn idle(&mut self) {
        self.wal.idle();
    }

    /// What is to be done about all inputs since the last call.
    ///
    /// # Errors
    ///
    /// The node must stop; nothing of what was gathered may leave it.
    pub fn output(&mut self) -> Result<Output, EngineError> {
        self.guard(|engine| {
            let first_index = engine.wal.first_index();
            let may_be_told = first_index <= engine.raft().cuttable_index().next();
            if may_be_told && first_index > engine.raft().first_index() {
                engine.replica.compacted(first_index);
            }
            while engine.replica.has_ready() {
                if let Some(batch) = engine.replica.advance()? {
                    engine.wal.append(&batch)?;
                }
            }
            let Outbox { messages, fetches, snapshot_offers, state_hashes, replica_messages, answers, events } =
                engine.replica.take_outbox();
            engine.compare(&state_hashes)?;
            for offer in snapshot_offers {
                engine.snapshots.offered(offer, &engine.replica);
            }
            if events.iter().any(|event| matches!(event, Event::Raft(raft::Event::Recovered { .. }))) {
                engine.snapshots.recovered();
            }
            engine.snapshots.maybe_take(&engine.replica);
            let mut side_messages = engine.snapshots.take_messages();
            side_messages.extend(engine.reports(&state_hashes));
            let snapshot_work = engine.snapshots.take_work();
            let work = std::iter::from_fn(|| engine.wal.next_work()).collect();
            let unusable_snapshots = engine.snapshots.take_unusable();
            Ok(Output {
                messages,
                work,
                replica_messages,
                side_messages,
                snapshot_work,
                fetches,
                answers,
                events,
                unusable_snapshots,
            })
        })
    }

    /// Takes back the list of answers of an [`Output`], whose room is used for the next.
    pub fn reuse(&mut self, answers: Vec<(Ticket, Answer)>) {
        self.replica.reuse(answers);
    }

    /// Compares this node's state with what the others have said of theirs.
    fn compare(&mut self, state_hashes: &[(Index, u128)]) -> Result<(), EngineError> {
        let (id, configuration) = (self.replica.raft().id(), self.replica.raft().configuration());
        for (index, hash) in state_hashes {
            self.agreement.told(configuration, id, *index, *hash);
        }
        let judged = self.agreement.judge(configuration);
        judged.map_err(|Diverged { index, by_majority }| EngineError::Diverged { index, by_majority })
    }

    /// Tells every other member this node's state.
    fn reports(&self, state_hashes: &[(Index, u128)]) -> Vec<SideMessage> {
        if state_hashes.is_empty() {
            return Vec::new();
        }
        let from = self.replica.raft().id();
        let members = self.replica.raft().configuration().members();
        let others = members.into_iter().filter(|member| *member != from);
        let to_each = |to| {
            state_hashes.iter().map(move |&(index, hash)| {
                let body = SideBody::StateHash { index, hash };
                SideMessage { from, to, body }
            })
        };
        others.flat_map(to_each).collect()
    }

    /// Runs what may fail, unless something has failed before.
    fn guard<T>(&mut self, run: impl FnOnce(&mut Engine) -> Result<T, EngineError>) -> Result<T, EngineError> {
        if self.stopped {
            return Err(EngineError::Stopped);
        }
        let outcome = run(self);
        self.stopped = outcome.is_err();
        outcome
    }

    /// Whether a snapshot of this node's own is being written.
    pub fn is_taking_snapshot(&self) -> bool {
        self.snapshots.is_taking()
    }

    /// The last index that the newest snapshot covers; zero without one.
    pub fn newest_snapshot(&self) -> Index {
        self.snapshots.newest().0
    }

    /// How the engine is doing.
    pub fn status(&self) -> EngineStatus {
        let store = self.replica.store();
        let raft = self.replica.raft().status();
        EngineStatus {
            applied: self.replica.applied(),
            revision: store.revision(),
            settings: store.settings(),
            session_count: store.session_count(),
            key_count: store.len(),
            state_hash: store.state_hash(),
            time_ms: store.time_ms(),
            writes_waiting: self.replica.writes_waiting(),
            reads_waiting: self.replica.reads_waiting(),
            messages_dropped: self.messages_dropped + self.replica.messages_dropped(),
            wal_pending_bytes: self.wal.pending_bytes(),
            first_index: self.wal.first_index(),
            snapshot_index: self.newest_snapshot(),
            snapshot_bytes: self.snapshots.newest().1,
            log_bytes_since_snapshot: self.snapshots.log_bytes(&self.replica),
            storage_full: self.is_storage_full(),
            recovering: raft.recovering,
            holds_lease: self.replica.holds_lease(),
            leased_reads: self.replica.leased_reads(),
            raft,
        }
    }

    /// The consensus core, to look at.
    pub fn raft(&self) -> &Raft {
        self.replica.raft()
    }

    /// The state, to look at or to clone as a snapshot.
    pub fn store(&self) -> &Store {
        self.replica.store()
    }
}
