//! The disk work of snapshots: pieces run one after the other, beside the log's, each for as long as it takes. And the
//! messages that carry snapshots and hashes of states from node to node, on connections of their own.

use engine::SnapshotWork;
use engine::side::{SideBody, SideMessage};
use raft::{Index, NodeId};

use crate::invariants::index;
use crate::network::{Lane, Link};
use crate::node::{SNAPSHOT_WAITS_TIMEOUTS, node_number};
use crate::queue::Event;
use crate::settings::Kind;
use crate::violation::Violation;
use crate::words;
use crate::world::World;

/// How long a node is down whose power failed at a piece of work on a snapshot, in microseconds.
const DOWN_US: (u64, u64) = (100_000, 2_000_000);

/// In which moment of a piece of work the power fails.
#[derive(Clone, Copy)]
enum Moment {
    /// Some of its calls were made.
    While,
    /// It is done, and nobody knows.
    Before,
    /// Its node has been told, and has handed on what came of it.
    Behind,
}

/// What is drawn from.
const MOMENTS: [Moment; 5] = [Moment::While, Moment::While, Moment::Before, Moment::Behind, Moment::Behind];

impl World {
    /// Hands the snapshots' executor what an engine asks of it.
    pub(crate) fn ask_snapshots(&mut self, number: usize, work: Vec<SnapshotWork>) {
        let Some(process) = &mut self.nodes[number].process else { return };
        let is_idle = process.snapshot_jobs.is_empty();
        process.snapshot_jobs.extend(work);
        if is_idle {
            self.begin_snapshot_job(number);
        }
    }

    /// The next piece of work begins, if there is one.
    fn begin_snapshot_job(&mut self, number: usize) {
        let node = &self.nodes[number];
        let Some(work) = node.process.as_ref().and_then(|process| process.snapshot_jobs.front()) else { return };
        // Nobody waits for a node's own snapshot: the disk rests for as long as it worked.
        let rests = if work.is_unhurried() { 2 } else { 1 };
        let delay_us = rests * self.disk_random.between(self.settings.snapshots.work_us);
        self.queue.push(self.now_us + delay_us, Event::SnapshotDone { node: number, life: node.life });
    }

    /// The piece of work that is under way is done, unless the disk stalls.
    pub(crate) fn snapshot_done(&mut self, number: usize, life: u64) -> Result<(), Violation> {
        let node = &mut self.nodes[number];
        let stalls = node.stalled.is_some();
        let Some(process) = node.process.as_mut().filter(|_| node.life == life) else { return Ok(()) };
        if stalls {
            process.owes_snapshot = true;
            return Ok(());
        }
        let moment = self.last_moment(number);
        if let Some(Moment::While) = moment {
            self.power_off_soon(number);
            return Ok(());
        }
        let node = &mut self.nodes[number];
        let Some(process) = &mut node.process else { return Ok(()) };
        let Some(work) = process.snapshot_jobs.pop_front() else { return Ok(()) };
        let (name, out_of_room) = (work.name(), node.disk.calls_out_of_room());
        let completion = process.snapshot_executor.run(work);
        if name == "take" && node.disk.calls_out_of_room() > out_of_room {
            // The newest snapshot is all that it keeps, to make room for the next.
            node.alone_up_to = index(self.observer.views[number].snapshot);
            let timeout_ticks = u64::from(self.settings.raft.election_timeout_ticks_max);
            node.snapshot_waits_ticks = SNAPSHOT_WAITS_TIMEOUTS * timeout_ticks;
        }
        self.trace.detail(self.now_us, Some(number), "snapshot", || name.to_owned());
        if let Some(Moment::Before) = moment {
            self.coverage.hit("crash behind a piece of work on a snapshot");
            self.power_off_soon(number);
            return Ok(());
        }
        if let Err(error) = process.engine.snapshot_completed(completion) {
            return self.stopped(number, &error);
        }
        self.begin_snapshot_job(number);
        self.drain(number)?;
        if moment.is_some() {
            self.power_off_soon(number);
        }
        Ok(())
    }

    /// Counts down to the crash of a node that is doomed. Returns its moment if it comes with the present piece of
    /// work.
    fn last_moment(&mut self, number: usize) -> Option<Moment> {
        let node = &mut self.nodes[number];
        let work = node.process.as_ref()?.snapshot_jobs.front()?;
        let counts = match work.name() {
            "serve" | "discard" => false,
            "take" => !node.doomed_at_peers,
            // There are many pieces, and one installation.
            "receive" => self.disk_random.chance(200),
            _ => true,
        };
        let is_aimed_at = work.name() == "install" && self.faults && self.doomed_installs > 0;
        self.doomed_installs -= u32::from(is_aimed_at);
        let is_last = match &mut node.doomed_snapshot_in {
            _ if is_aimed_at => true,
            _ if !counts => false,
            Some(0) => true,
            Some(works) => {
                *works -= 1;
                false
            }
            None => false,
        };
        is_last.then(|| self.disk_random.pick(&MOMENTS))
    }

    fn power_off_soon(&mut self, number: usize) {
        let restart_us = self.disk_random.between(DOWN_US);
        self.power_off(number, restart_us);
    }

    /// What a crash cut off of the snapshots' work.
    pub(crate) fn note_abandoned(&mut self, works: &[SnapshotWork]) {
        let Some(work) = works.first() else { return };
        self.coverage.hit(match work.name() {
            "take" => "crash while a snapshot is taken",
            "receive" => "crash while a snapshot is received",
            "install" => "crash while a snapshot is installed",
            "remove" => "crash while a snapshot is removed",
            "forget repair" => "crash while the note on a repair is removed",
            _ => "crash while a snapshot is served",
        });
    }

    /// Sends a message on its way, beside those of the consensus core.
    pub(crate) fn send_side(&mut self, from: usize, message: SideMessage) {
        let to = node_number(message.to);
        let is_chunk = matches!(message.body, SideBody::SnapshotChunk { .. });
        if is_chunk && self.settings.kind == Kind::Forgery && self.nodes[from].is_forged {
            return; // what it has is wrong, and would be on whoever gets it: beyond what hashes of states can find
        }
        if let SideBody::FetchSnapshot { index, offset } = message.body {
            self.note_request(from, (index, offset, message.to));
        }
        let link = Link { from, to, lane: Lane::Side };
        let fate = self.network.send(self.now_us, link, &mut self.coverage);
        if is_chunk && fate.arrivals_us.is_empty() {
            self.coverage.hit("piece of a snapshot lost");
        }
        for at_us in fate.arrivals_us {
            self.queue.push(at_us, Event::DeliverSide(message.clone()));
        }
    }

    /// A node asks for a piece: perhaps not for the first time.
    fn note_request(&mut self, number: usize, request: (Option<Index>, u64, NodeId)) {
        let Some(process) = &mut self.nodes[number].process else { return };
        let (index, offset, peer) = request;
        if let Some((asked_index, asked_offset, asked_peer)) = process.asked.replace(request)
            && asked_index == index
            && offset > 0
        {
            if asked_peer != peer {
                self.coverage.hit("snapshot's fetch went on with another leader");
            } else if offset <= asked_offset {
                self.coverage.hit("snapshot's fetch went on after a loss");
            }
        }
    }

    pub(crate) fn deliver_side(&mut self, message: SideMessage) -> Result<(), Violation> {
        let (from, to) = (node_number(message.from), node_number(message.to));
        if !self.network.is_open(from, to) {
            return Ok(());
        }
        let Some(process) = &mut self.nodes[to].process else { return Ok(()) };
        self.trace.detail(self.now_us, Some(to), "side", || words::side_message(&message));
        match &message.body {
            SideBody::StateHash { .. } => self.coverage.hit("state hash told"),
            SideBody::FetchSnapshot { offset, .. } if *offset > 0 => {
                self.coverage.hit("snapshot fetched in more than one piece");
            }
            _ => {}
        }
        process.engine.side_message(message);
        self.drain(to)
    }
}
