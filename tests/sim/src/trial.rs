//! Trials on copies of a node's disk: what it would be if this or that had happened to it. They change nothing in the
//! run.

use std::sync::Arc;

use engine::Engine;
use engine::disk::{Damage, Disk};
use engine::snapshot;

use crate::drive::chain;
use crate::node::node_id;
use crate::violation::Violation;
use crate::world::World;

/// Of a thousand times that a file was removed or renamed, how often it is tried what a power cut would leave.
const CRASHES: u64 = 200;

/// Of a thousand starts, how many are tried without the newest snapshot.
const WITHOUT_NEWEST: u64 = 300;

impl World {
    /// Starts an engine on what would be on a node's disk if its power failed now and nothing survived that need not.
    pub(crate) fn try_image(&mut self, number: usize) -> Result<(), Violation> {
        if !self.disk_random.chance(CRASHES) {
            return Ok(());
        }
        self.coverage.hit("started on what a crash would leave");
        let image = self.nodes[number].disk.fork();
        image.crash(&mut |_| false);
        image.clear_out();
        if image.contents("repair").is_some() {
            return Ok(()); // it would go on forgetting, which is never wrong
        }
        let disk: Arc<dyn Disk> = Arc::new(image);
        let options = self.settings.engine_options(node_id(number), 0, 0);
        match Engine::open(&disk, options) {
            Ok(opened) => self.observer.would_start(number, &opened.engine),
            Err(error) => Err(Violation::CrashWouldLose { node: node_id(number), reason: chain(&error) }),
        }
    }

    /// Starts an engine on what is on the disk of a node that is down, without the newest snapshot: the one before it
    /// and the log behind that have to lead to the same.
    ///
    /// That is not so while the newest is one that the log did not lead up to (it was fetched, or was ahead of the
    /// node's own log at a crash), nor after a full disk had no room for two.
    pub(crate) fn try_without_newest(&mut self, number: usize) -> Result<(), Violation> {
        let node = &self.nodes[number];
        if node.life == 0 || !node.rot.is_empty() || node.is_forged || !self.trial_random.chance(WITHOUT_NEWEST) {
            return Ok(());
        }
        let image = node.disk.fork();
        image.restart();
        image.clear_out();
        let stored = snapshot::list(&image).unwrap_or_default();
        let [.., older, newest] = stored.as_slice() else { return Ok(()) };
        if older.index < node.alone_up_to || image.contents("repair").is_some() {
            return Ok(());
        }
        self.coverage.hit("started without the newest snapshot");
        if self.trial_random.chance(500) {
            image.lose(&newest.name);
        } else {
            let offset = self.trial_random.below(newest.bytes.max(1));
            image.damage(&newest.name, &Damage::FlippedBit { offset, bit: 5 });
        }
        let disk: Arc<dyn Disk> = Arc::new(image);
        let wrong = |reason| Violation::NewestNotSpare { node: node_id(number), newest: newest.index, reason };
        let options = self.settings.engine_options(node_id(number), 0, 0);
        let opened = Engine::open(&disk, options).map_err(|error| wrong(chain(&error)))?;
        self.observer.without_newest(number, newest.index, &opened).map_err(wrong)
    }
}
