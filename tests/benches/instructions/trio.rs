//! Three engines in one thread, on real disks: what a put or a get costs without network and threads. Messages are
//! passed on in order and time is a number, so two runs execute the same instructions.

use bytes::Bytes;
use engine::disk::{Disk, RealDisk};
use engine::kv::{Command, PutMode, Request, RequestId, SessionId, SessionLimits};
use engine::wal::{Executor, WalOptions};
use engine::{Answer, Engine, EngineOptions, Opened, Ticket};
use raft::{Configuration, Message, NodeId};
use std::{collections::VecDeque, path::Path, sync::Arc};

/// A millisecond of the engines' clock passes with every so many operations.
const OPERATIONS_PER_MS: u64 = 20;

struct Node {
    engine: Engine,
    executor: Executor,
}

/// The cluster. The first node leads.
pub(super) struct Trio {
    nodes: Vec<Node>,
    messages: VecDeque<Message>,
    now_ms: u64,
    next_ticket: u64,
    answered: u64,
}

impl Trio {
    /// A new cluster with its data in `directory`.
    pub(super) fn start(directory: &Path) -> anyhow::Result<Trio> {
        let nodes = (0..3).map(|number| Node::open(directory, number)).collect::<Result<Vec<_>, _>>()?;
        let mut trio = Trio { nodes, messages: VecDeque::new(), now_ms: 0, next_ticket: 0, answered: 0 };
        while !trio.nodes[0].engine.raft().is_leader() {
            trio.now_ms += 10;
            trio.nodes[0].engine.tick(trio.now_ms);
            trio.settle()?;
        }
        Ok(trio)
    }

    /// Runs `count` operations, `batch` at a time, and waits for their answers.
    pub(super) fn run(
        &mut self,
        count: u64,
        batch: u64,
        mut operation: impl FnMut(u64) -> Operation,
    ) -> anyhow::Result<()> {
        let before = self.answered;
        for first in (0..count).step_by(usize::try_from(batch)?) {
            for number in first..count.min(first + batch) {
                self.next_ticket += 1;
                let ticket = Ticket::new(self.next_ticket);
                match operation(number) {
                    Operation::Write(request) => self.nodes[0].engine.write(ticket, &request, self.now_ms),
                    Operation::Read(key) => self.nodes[0].engine.read(ticket, key, self.now_ms),
                }
            }
            self.settle()?;
            if first % (10 * OPERATIONS_PER_MS) == 0 {
                self.now_ms += 10;
                let now_ms = self.now_ms;
                self.nodes.iter_mut().for_each(|node| node.engine.tick(now_ms));
                self.settle()?;
            }
        }
        anyhow::ensure!(self.answered == before + count, "{} of {count} were answered", self.answered - before);
        Ok(())
    }

    /// Passes everything on until nothing moves.
    fn settle(&mut self) -> anyhow::Result<()> {
        loop {
            let mut moved = false;
            for node in &mut self.nodes {
                let output = node.engine.output()?;
                moved |= !output.messages.is_empty() || !output.work.is_empty();
                self.messages.extend(output.messages);
                for work in output.work {
                    node.engine.completed(node.executor.run(work))?;
                }
                let done = |answer: &Answer| matches!(answer, Answer::Written(_) | Answer::Read(_));
                self.answered += output.answers.iter().filter(|(_, answer)| done(answer)).count() as u64;
            }
            while let Some(message) = self.messages.pop_front() {
                let to = usize::try_from(message.to.get())? - 1;
                self.nodes[to].engine.message(message).map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
            }
            if !moved {
                return Ok(());
            }
        }
    }
}

/// What is asked of the cluster.
pub(super) enum Operation {
    /// A write.
    Write(Request),
    /// A linearizable read of a key.
    Read(Bytes),
}

impl Node {
    fn open(directory: &Path, number: u64) -> anyhow::Result<Node> {
        let path = directory.join(number.to_string());
        std::fs::create_dir(&path)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&path)?);
        let id = |number| NodeId::new(number + 1).expect("one more than a number is not zero");
        let raft = raft::Options {
            id: id(number),
            election_timeout_ticks_min: 50,
            election_timeout_ticks_max: 100,
            heartbeat_ticks: 10,
            append_bytes_max: 1 << 20,
            inflight_messages_max: 64,
            uncommitted_bytes_max: 64 << 20,
            tail_bytes_max: 32 << 20,
            apply_bytes_max: 4 << 20,
            seed: number,
        };
        let options = EngineOptions {
            raft,
            wal: WalOptions::default(),
            configuration: Configuration::new((0..3).map(id)),
            wal_pending_bytes_max: engine::WAL_PENDING_BYTES_MAX,
            snapshot_log_bytes_min: u64::MAX,
            space_reserve_bytes: 0,
            snapshot_chunk_bytes: engine::side::SNAPSHOT_CHUNK_BYTES,
            session_limits: SessionLimits::default(),
            lease_ms: 0,
            state_hash_every_entries: engine::STATE_HASH_EVERY_ENTRIES,
        };
        let Opened { engine, executor, .. } = Engine::open(&disk, options)?;
        Ok(Node { engine, executor })
    }
}

/// The put number `number` of a client in session `session`, of 32 bytes of key and 256 of value; without a session, a
/// put without a name. The key is a number mixed so that neighbours in time are not neighbours in order.
pub(super) fn put(number: u64, session: Option<u128>) -> Operation {
    let value = Bytes::from(vec![number.to_le_bytes()[0]; 256]);
    let command = Command::Put { key: key(number), value, mode: PutMode::Create };
    let id = session.map(|session| RequestId {
        session: SessionId::new(session),
        opened_at_ms: 0,
        sequence: number + 1,
        // As a client has it that keeps a thousand writes under way.
        acknowledged_below: number.saturating_sub(1000) + 1,
    });
    Operation::Write(Request { id, command })
}

/// The key number `number`.
pub(super) fn key(number: u64) -> Bytes {
    // An odd factor and a shift by half: a permutation of the numbers.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    Bytes::from(format!("key-{mixed:016x}-{number:011}"))
}
