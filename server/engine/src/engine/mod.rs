//! The engine: a replica and its write-ahead log as one machine, which the shell and the simulator drive.
//!
//! Inputs go in one at a time (`tick`, `message`, `write`, `completed`, ...) and may be gathered before
//! [`Engine::output`] is asked what to do about them all: what was proposed meanwhile leaves as one message per
//! follower and is written as one batch. Disk work comes out as [`Work`], is run by an [`Executor`] wherever the driver
//! likes, and comes back as a [`Completion`].

mod offline;
mod replay;

use std::sync::Arc;

use bytes::Bytes;
use raft::{Configuration, Entry, Fetch, Index, Message, NodeId, Raft, Restored};
use thiserror::Error;

use crate::disk::Disk;
use crate::kv::{Command, Revision, Store};
use crate::replica::{Answer, Event, Outbox, Replica, Ticket, UnknownEntry};
use crate::wal::{self, Completion, Executor, Reader, RecoveryReport, Wal, WalError, WalOptions, Work};
use replay::Replay;

pub use offline::OfflineState;
pub use replay::ReplayError;

/// What [`EngineOptions::wal_pending_bytes_max`] is in service. A disk that works has synced so much within a second or
/// two, and it is a small part of the memory of a machine that holds a database.
pub const WAL_PENDING_BYTES_MAX: usize = 128 << 20;

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The consensus core.
    pub raft: raft::Options,
    /// The write-ahead log.
    pub wal: WalOptions,
    /// The members of the cluster.
    pub configuration: Configuration,
    /// How much may wait for the log before a leader refuses writes. Only a disk that stands still lets so much gather:
    /// the followers may commit without this node's disk, so the bound on what is uncommitted does not hold it. On top
    /// comes what was proposed since the last output, and that is held by the bound on what is uncommitted.
    pub wal_pending_bytes_max: usize,
}

/// One node without threads, clock and network.
pub struct Engine {
    replica: Replica,
    wal: Wal,
    wal_pending_bytes_max: usize,
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
    /// What was found in the log.
    pub report: RecoveryReport,
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
    /// Read these from the log, and hand the entries to [`Engine::fetched`].
    pub fetches: Vec<Fetch>,
    /// Tell these to the clients.
    pub answers: Vec<(Ticket, Answer)>,
    /// Tell these to people.
    pub events: Vec<Event>,
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
}

/// Why an engine cannot start or go on. Whatever it is, the node must stop: after an error, nothing that the engine has
/// for the outside may leave.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The write-ahead log is damaged, or its disk failed.
    #[error("the write-ahead log failed")]
    Wal(#[from] WalError),
    /// The consensus core cannot be set up like this.
    #[error("the consensus core cannot be set up")]
    Setup(#[from] raft::SetupError),
    /// The records of the log contradict each other.
    #[error("the write-ahead log cannot be replayed")]
    Replay(#[from] ReplayError),
    /// A committed entry is of a version that this program does not know.
    #[error("a committed entry cannot be applied")]
    UnknownEntry(#[from] UnknownEntry),
    /// The engine returned an error before.
    #[error("the engine has stopped after an earlier error")]
    Stopped,
}

impl Engine {
    /// Opens the log in `disk`, replays it into a state, and sets up the core from it. The new engine is a follower.
    ///
    /// What is known to be committed is applied as it streams by. Memory holds the state and the entries above the last
    /// commit index that the log records, which trails the truth by what was written in the last moments before the
    /// node stopped.
    ///
    /// # Errors
    ///
    /// The log is damaged, of an unknown version, or cannot be read; or the options are wrong.
    pub fn open(disk: &Arc<dyn Disk>, options: EngineOptions) -> Result<Opened, EngineError> {
        let EngineOptions { raft: raft_options, wal: wal_options, configuration, wal_pending_bytes_max } = options;
        let mut replay = Replay::new(raft_options.tail_bytes_max);
        let opened = wal::open(disk, wal_options, &mut |record| replay.record(record))?;
        let replayed = replay.finish()?;
        assert_eq!(replayed.last_index, opened.last_index, "the log's end is that of what it replayed");
        let raft = Raft::new(
            raft_options,
            Restored {
                configuration,
                hard_state: opened.hard_state,
                term_starts: replayed.term_starts,
                tail: replayed.tail,
                last_index: replayed.last_index,
                applied: replayed.applied,
            },
        )?;
        let replica = Replica::new(raft, replayed.store, replayed.applied, replayed.applied_term);
        Ok(Opened {
            engine: Engine { replica, wal: opened.wal, wal_pending_bytes_max, stopped: false },
            executor: opened.executor,
            reader: opened.reader,
            report: opened.report,
            fresh: opened.fresh,
        })
    }

    /// Whether to tell what happens in detail. Off at first: it costs time and memory.
    pub fn narrate(&mut self, narrating: bool) {
        self.replica.narrate(narrating);
    }

    /// One tick of the core's timers, at `now_ms` of this node's monotonic clock (milliseconds, any origin).
    pub fn tick(&mut self, now_ms: u64) {
        self.replica.tick(now_ms);
    }

    /// A message from a peer.
    ///
    /// # Errors
    ///
    /// The message was dropped, for a reason that is worth counting.
    pub fn message(&mut self, message: Message) -> Result<(), raft::Refused> {
        self.replica.message(message)
    }

    /// A client's write, at `now_ms` of this node's monotonic clock. See [`Answer`] for what may come of it.
    pub fn write(&mut self, ticket: Ticket, command: &Command, now_ms: u64) {
        // Who does not lead says so, however full its disk's queue is: the client has another node to go to.
        if self.replica.raft().is_leader() && self.wal.pending_bytes() > self.wal_pending_bytes_max {
            self.replica.refuse(ticket);
            return;
        }
        self.replica.write(ticket, command, now_ms);
    }

    /// A client's linearizable read. Answered exactly once.
    pub fn read(&mut self, ticket: Ticket, key: Bytes) {
        self.replica.read(ticket, key);
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
            while engine.replica.has_ready() {
                if let Some(batch) = engine.replica.advance()? {
                    engine.wal.append(&batch)?;
                }
            }
            let Outbox { messages, fetches, answers, events } = engine.replica.take_outbox();
            let work = std::iter::from_fn(|| engine.wal.next_work()).collect();
            Ok(Output { messages, work, fetches, answers, events })
        })
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

    /// How the engine is doing.
    pub fn status(&self) -> EngineStatus {
        let store = self.replica.store();
        EngineStatus {
            raft: self.replica.raft().status(),
            applied: self.replica.applied(),
            revision: store.revision(),
            key_count: store.len(),
            state_hash: store.state_hash(),
            time_ms: store.time_ms(),
            writes_waiting: self.replica.writes_waiting(),
            reads_waiting: self.replica.reads_waiting(),
            messages_dropped: self.replica.messages_dropped(),
            wal_pending_bytes: self.wal.pending_bytes(),
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
