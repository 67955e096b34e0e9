//! What hosts tell of processes that have ended: their addresses refuse connections. Sometimes that is not true.

use crate::node::{node_id, node_number};
use crate::queue::Event;
use crate::random::Random;
use crate::violation::Violation;
use crate::world::World;

/// When a node hears of it, in microseconds: its connections break, and the next one is refused.
const HEARD_US: (u64, u64) = (100, 50_000);

/// How many of a thousand runs are told of no end, and how many of all that can be told of.
const SILENT_RUNS: u64 = 300;
const OUTSPOKEN_RUNS: u64 = 400;

/// Of a thousand others, so many are told a lie as well.
const TOLD_TOO: u64 = 800;

/// How many of a thousand ends are told of in a run of a seed.
pub(crate) fn told_of(seed: u64) -> u64 {
    let mut random = Random::for_purpose(seed, "told of ends");
    match random.below(1000) {
        drawn if drawn < SILENT_RUNS => 0,
        drawn if drawn < SILENT_RUNS + OUTSPOKEN_RUNS => 1000,
        _ => 500,
    }
}

impl World {
    /// A process has ended: those who can reach its host may hear of that.
    pub(crate) fn tell_of_end(&mut self, ended: usize) {
        for node in 0..self.nodes.len() {
            let is_reachable = self.network.is_open(node, ended) && self.network.is_open(ended, node);
            if node != ended && is_reachable && self.gone_random.chance(self.settings.ends_told) {
                let at_us = self.now_us + self.gone_random.between(HEARD_US);
                let (life, peer_life) = (self.nodes[node].life, self.nodes[ended].life);
                self.queue.push(at_us, Event::Gone { node, life, peer: ended, peer_life });
            }
        }
    }

    /// A node is told so, unless its peer runs again by now.
    pub(crate) fn gone(&mut self, node: usize, life: u64, peer: usize, peer_life: u64) -> Result<(), Violation> {
        if self.nodes[node].life != life || self.nodes[peer].life != peer_life {
            return Ok(());
        }
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        if process.engine.raft().leader() == Some(node_id(peer)) {
            self.coverage.hit("end of a leader told");
        }
        self.told_gone(node, peer)
    }

    /// A node is told that its leader's process has ended, which is not true. Where there are leases, which would not
    /// survive that if anybody believed it, others are told as well.
    pub(crate) fn tell_wrongly(&mut self, node: usize) -> Result<(), Violation> {
        let Some(leader) = self.leader_known_to(node) else { return Ok(()) };
        self.coverage.hit("end of a leader told wrongly");
        self.told_gone(node, leader)?;
        for other in 0..self.nodes.len() {
            let is_told = self.settings.leases && other != node && self.gone_random.chance(TOLD_TOO);
            if is_told && self.leader_known_to(other) == Some(leader) {
                self.told_gone(other, leader)?;
            }
        }
        Ok(())
    }

    /// Whom a node that runs follows.
    fn leader_known_to(&self, node: usize) -> Option<usize> {
        let process = self.nodes[node].process.as_ref().filter(|_| self.nodes[node].is_running())?;
        process.engine.raft().leader().filter(|leader| *leader != node_id(node)).map(node_number)
    }

    fn told_gone(&mut self, node: usize, peer: usize) -> Result<(), Violation> {
        self.trace.tell(self.now_us, Some(node), "gone", format_args!("is told that {} has ended", node_id(peer)));
        if let Some(process) = &mut self.nodes[node].process {
            process.engine.peer_gone(node_id(peer));
        }
        self.drain(node)
    }
}
