//! The state of one node is changed behind its back: its newest snapshot is replaced by one that is whole in itself and
//! says something else. The node has to find out by comparing its state with the others', and stop; nobody else may.
//!
//! What it tells clients before is wrong, and not held against anybody: clients do not ask it for reads, and do not
//! hear its answers to writes. Nor do others fetch snapshots from it.

use engine::disk::MemoryDisk;
use engine::kv::command::encode;
use engine::kv::{Command, ImageLoader, PutMode, SessionLimits, Store};
use engine::snapshot::{self, Meta, Reader, Verification, Writer};
use raft::Index;

use crate::invariants::position;
use crate::node::node_id;
use crate::violation::Violation;
use crate::world::World;

/// How long the forged node is down, in microseconds.
const DOWN_US: u64 = 200_000;

/// How long hashes may be on their way, in microseconds, disks that are slow to apply included.
const PATIENCE_US: u64 = 3_000_000;

/// A forgery, and until when it has to be found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgery {
    pub(crate) node: usize,
    /// It has to be found when a majority and the node itself have applied so much, and a little later.
    found_at: usize,
    due_us: Option<u64>,
}

impl World {
    /// Changes the state of a node, if it has a snapshot behind which its log goes on.
    pub(crate) fn forge(&mut self, number: usize) {
        if self.forgery.is_some() || number >= self.settings.voters || !self.nodes[number].is_running() {
            return;
        }
        // Who starts in these moments hears of no state but the forged one, and stops as it should.
        if !self.nodes.iter().all(|node| node.is_running()) {
            return;
        }
        let view = &self.observer.views[number];
        let behind = view.snapshot + 1;
        let goes_on = view.snapshot > 0 && view.committed.min(view.durable) > behind;
        if !goes_on || view.term_at(behind) != view.term_at(view.snapshot) {
            return;
        }
        self.power_off(number, DOWN_US);
        let limits = self.settings.sessions.limits;
        if forge_newest(&self.nodes[number].disk, Index::new(behind as u64 - 1), limits).is_none() {
            return;
        }
        self.coverage.hit("state of a node forged");
        self.trace.tell(self.now_us, Some(number), "forgery", format_args!("its snapshot is another one now"));
        self.nodes[number].is_forged = true;
        self.observer.forged(number);
        self.forgery = Some(Forgery { node: number, found_at: usize::MAX, due_us: None });
    }

    /// The forged node has started: from now on states are compared.
    pub(crate) fn forged_started(&mut self, number: usize) {
        let furthest = self.observer.views.iter().map(|view| view.applied).max().unwrap_or(0) as u64;
        let every = self.settings.snapshots.hash_every_entries;
        let Some(forgery) = self.forgery.as_mut().filter(|forgery| forgery.node == number) else { return };
        // What is on its way may be of the index that comes next.
        forgery.found_at = position(Index::new((furthest / every + 2) * every));
    }

    /// A node took over a peer's snapshot: if its own state was forged, that state is gone, and nothing is to be found.
    /// What is known of it stays known: it may have answered before.
    pub(crate) fn forged_replaced(&mut self, number: usize) {
        if let Some(forgery) = self.forgery.as_mut().filter(|forgery| forgery.node == number) {
            (forgery.found_at, forgery.due_us) = (usize::MAX, None);
        }
    }

    /// A tick of the forged node passed, and it still runs.
    pub(crate) fn forged_runs(&mut self, number: usize) -> Result<(), Violation> {
        let views = &self.observer.views[..self.settings.voters];
        let Some(forgery) = self.forgery.as_mut().filter(|forgery| forgery.node == number) else { return Ok(()) };
        let applied = views.iter().filter(|view| view.applied >= forgery.found_at).count();
        if views[number].applied < forgery.found_at || applied <= views.len() / 2 + 1 {
            return Ok(());
        }
        let due_us = *forgery.due_us.get_or_insert(self.now_us + PATIENCE_US);
        if self.now_us > due_us {
            return Err(Violation::DivergenceMissed {
                node: node_id(number),
                index: Index::new(forgery.found_at as u64),
            });
        }
        Ok(())
    }
}

/// Replaces the newest snapshot of a disk, if it is that of `index`, by one of the next index and another state. A
/// later one may be there that its node had not heard of: behind that nothing need be committed.
fn forge_newest(disk: &MemoryDisk, index: Index, limits: SessionLimits) -> Option<()> {
    let newest = snapshot::list(disk).ok()?.pop().filter(|newest| newest.index == index)?;
    let (meta, mut store) = load(disk, &newest.name, limits)?;
    let key = bytes::Bytes::from_static(b"forged");
    let command = Command::Put { key, value: bytes::Bytes::from_static(b"nobody wrote this"), mode: PutMode::Upsert };
    store.apply(meta.index.next(), &encode(&command.into(), store.time_ms()).ok()?).ok()?;
    snapshot::remove(disk, newest.index).ok()?;
    let mut writer = Writer::begin(disk, &Meta { index: meta.index.next(), ..meta }).ok()?;
    let mut image = store.image();
    while let Some(section) = image.next_section().ok()? {
        writer.section(section.tag, section.bytes).ok()?;
    }
    let mut verification = Verification::begin(disk, writer.finish().ok()?).ok()?;
    while !verification.step(u64::MAX).ok()? {}
    snapshot::publish(disk, &verification.finish().ok()??).ok()?;
    Some(())
}

fn load(disk: &MemoryDisk, name: &str, limits: SessionLimits) -> Option<(Meta, Store)> {
    let mut reader = Reader::open(disk, name).ok()?;
    let mut loader = ImageLoader::with_limits(limits);
    while let Some(chunk) = reader.next_chunk().ok()? {
        loader.section(chunk.tag, chunk.bytes).ok()?;
    }
    Some((reader.meta().clone(), loader.finish().ok()?))
}
