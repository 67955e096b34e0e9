//! The second phase of a run: a random majority is healed, the others stay down or cut off, and the majority has to
//! elect a leader, to serve, to become equal, and to keep its leader, within bounds.

use crate::clients::Outcome;
use crate::clock::TRUE_RATE;
use crate::history::{Call, Key, Mode};
use crate::node::node_id;
use crate::random::Random;
use crate::violation::Violation;
use crate::world::World;

/// No majority may need more election timeouts to have a leader.
const LEADER_TIMEOUTS_MAX: u64 = 10;

/// How long a healed cluster that has a leader may take for one operation, in microseconds, its first tries included.
const SERVE_US: u64 = 10_000_000;

/// How much longer it may take for each entry that some member lacks: with the smallest windows they are sent one by
/// one, and an entry is committed only when a majority has all before it.
const CATCH_UP_US: u64 = 40_000;

/// How long commits and reads take on a healthy disk, at most, in microseconds.
const HEALTHY_DISK_US: u64 = 5_000;

/// For how many election timeouts a leader has to stay when all is well.
const STEADY_TIMEOUTS: u64 = 5;

/// What the second phase found.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Recovery {
    /// How long it took until there was a leader, in thousandths of an election timeout.
    pub(crate) leader_timeouts_per_mille: u64,
    /// How often a member of the majority became leader, until the end.
    pub(crate) leader_changes: u64,
}

impl World {
    /// Heals, and demands.
    pub(crate) fn recover(&mut self, seed: u64) -> Result<Recovery, Violation> {
        let mut random = Random::for_purpose(seed, "healing");
        let core = self.heal(&mut random)?;
        let patience_us = self.patience_us(&core);
        let began_us = self.now_us;
        let timeout_us = self.settings.election_timeout_us();
        let leader = |world: &World| world.leader_of(&core);
        let limit_us = began_us + LEADER_TIMEOUTS_MAX * timeout_us;
        if !self.run_until(limit_us, &mut |world| leader(world).is_some())? {
            let waited_ms = (self.now_us - began_us) / 1000;
            return Err(Violation::NoLeader { waited_ms, timeout_ms: timeout_us / 1000 });
        }
        let leader_us = self.now_us - began_us;
        self.demand_write(&core, patience_us)?;
        self.demand_read(0, &core, patience_us)?;
        self.converge(&core, patience_us)?;
        for slot in 0..self.clients.slots.len() {
            // The checker sees by these whether what was acknowledged is still there.
            self.demand_read(slot, &core, patience_us)?;
        }
        self.demand_reads(&core, patience_us)?;
        self.keep_leader(&core, &mut random)?;
        self.check_counters(&core)?;
        let open = self.clients.under_way();
        if open > 0 {
            return Err(Violation::Unanswered { count: open });
        }
        let leader_changes = self.leader_changes;
        Ok(Recovery { leader_timeouts_per_mille: leader_us * 1000 / timeout_us, leader_changes })
    }

    /// Ends all faults for a random majority. Returns its members.
    fn heal(&mut self, random: &mut Random) -> Result<Vec<usize>, Violation> {
        let voters = self.settings.voters;
        let majority = voters / 2 + 1;
        // What has gone bad on the disk of one that runs, its next start would find.
        let is_lost = |node: &usize| {
            let node = &self.nodes[*node];
            node.is_forged || node.held_down || (node.is_rotten() && node.process.is_none())
        };
        // A node whose disk has gone bad may never start again, and one that has forgotten what it promised does not
        // vote. There is always a majority without such nodes.
        let is_impaired = |node: &usize| is_lost(node) || self.may_be_recovering(*node);
        let (impaired, mut core): (Vec<usize>, Vec<usize>) = random.shuffled(voters).into_iter().partition(is_impaired);
        let (rotten, recovering): (Vec<usize>, Vec<usize>) = impaired.into_iter().partition(is_lost);
        let mut others = core.split_off(majority + random.position(core.len() - majority + 1));
        let (lost_learners, learners): (Vec<usize>, Vec<usize>) = (voters..self.nodes.len()).partition(is_lost);
        let rotten = [rotten, lost_learners].concat();
        for extra in recovering.into_iter().chain(learners) {
            if random.chance(500) { core.push(extra) } else { others.push(extra) }
        }
        self.trace.tell(
            self.now_us,
            None,
            "heal",
            format_args!("nodes {core:?} are healed, {others:?} are not, {rotten:?} cannot be"),
        );
        self.faults = false;
        // One that comes back without its memory takes the others to a new term.
        rotten.iter().for_each(|node| self.nodes[*node].held_down |= self.nodes[*node].process.is_none());
        let mut cuts = Vec::new();
        for other in &others {
            let members = core.iter().copied();
            match random.below(4) {
                0 => {
                    self.end_process(*other, true);
                    self.nodes[*other].held_down = true;
                }
                1 => cuts.extend(members.flat_map(|node| [(*other, node), (node, *other)])),
                2 => cuts.extend(members.map(|node| (*other, node))),
                _ => cuts.extend(members.map(|node| (node, *other))),
            }
        }
        self.network.heal(cuts);
        // Connections are made anew: what is late on an old one ends with it. A leader that is gone could otherwise be
        // heard of for as long as messages may be late.
        self.queue.lose_messages();
        let disk = &mut self.settings.disk;
        for span in [&mut disk.commit_us, &mut disk.read_us, &mut self.settings.snapshots.work_us] {
            *span = (span.0.min(HEALTHY_DISK_US), span.1.min(HEALTHY_DISK_US));
        }
        for node in &core {
            self.heal_node(*node)?;
        }
        self.core.clone_from(&core);
        self.clients.reach.clone_from(&core);
        self.reconnect();
        Ok(core)
    }

    fn heal_node(&mut self, number: usize) -> Result<(), Violation> {
        if let Some(pause) = self.nodes[number].paused {
            self.resume(number, pause)?;
        }
        if let Some(stall) = self.nodes[number].stalled {
            self.unstall(number, stall);
        }
        if let Some(full) = self.nodes[number].full {
            self.clear_out(number, full);
        }
        self.nodes[number].clock.set_rate(self.now_us, TRUE_RATE);
        // Replicated time stands still while the leader's clock is behind what it showed once, and until time goes on
        // no session is opened in the second in which one was dropped.
        self.nodes[number].clock.catch_up(self.now_us);
        self.nodes[number].doomed_in = None;
        self.nodes[number].doomed_snapshot_in = None;
        if self.nodes[number].expects_disk_error {
            // Its disk would still fail some time: another disk error is not a healthy node's.
            self.end_process(number, false);
        }
        self.restart(number)
    }

    /// The member of the core that leads: a majority follows it.
    fn leader_of(&self, core: &[usize]) -> Option<usize> {
        let followed = |node: &usize| 2 * self.followers_of(*node) > self.settings.voters;
        core.iter().copied().find(|node| self.nodes[*node].leads() && followed(node))
    }

    /// How long the core may take to serve and to become equal.
    fn patience_us(&self, core: &[usize]) -> u64 {
        let longest = self.observer.views.iter().map(|view| view.log.len()).max().unwrap_or(0);
        let shortest = core.iter().map(|node| self.observer.views[*node].log.len()).min().unwrap_or(0);
        let snapshot_bytes = self.observer.views.iter().map(|view| view.snapshot_bytes).max().unwrap_or(0);
        let pieces = snapshot_bytes / self.settings.snapshots.chunk_bytes as u64;
        SERVE_US + CATCH_UP_US * ((longest - shortest) as u64 + 2 * pieces)
    }

    /// A fresh write has to be acknowledged. Each try writes another value: an earlier one may still take effect.
    fn demand_write(&mut self, core: &[usize], patience_us: u64) -> Result<(), Violation> {
        let limit_us = self.now_us + patience_us;
        while self.now_us < limit_us {
            let key = self.clients.key(0);
            let call = Call::Put { value: self.clients.new_value(), mode: Mode::Upsert };
            if self.probe(key, call, core, limit_us)? {
                return Ok(());
            }
        }
        Err(Violation::NotServing { what: "write", waited_ms: patience_us / 1000 })
    }

    /// A fresh read of the present key of a slot has to be acknowledged.
    fn demand_read(&mut self, slot: usize, core: &[usize], patience_us: u64) -> Result<(), Violation> {
        let key = self.clients.present_key(slot);
        let limit_us = self.now_us + patience_us;
        while self.now_us < limit_us {
            if self.probe(key, Call::Get, core, limit_us)? {
                return Ok(());
            }
        }
        Err(Violation::NotServing { what: "read", waited_ms: patience_us / 1000 })
    }

    /// One operation of the probe, on the leader. Returns whether it was acknowledged.
    fn probe(&mut self, key: Key, call: Call, core: &[usize], until_us: u64) -> Result<bool, Violation> {
        let probe = self.clients.probe();
        self.clients.clients[probe].leader = self.leader_of(core).or_else(|| core.first().copied());
        self.begin_with(probe, key, call);
        let ended = self.run_until(until_us, &mut |world| world.clients.clients[probe].current.is_none())?;
        Ok(ended && self.clients.clients[probe].last == Some(Outcome::Acknowledged))
    }

    /// Clients stop, and the members of the core have to become equal.
    fn converge(&mut self, core: &[usize], patience_us: u64) -> Result<(), Violation> {
        self.clients.active = false;
        let began_us = self.now_us;
        let equal = |world: &World| {
            let at = |node: &usize| {
                let view = &world.observer.views[*node];
                (view.log.len(), view.committed, view.applied, view.state_hash, view.recovering)
            };
            let first = at(&core[0]);
            world.clients.under_way() + world.readers.under_way() == 0
                && !first.4
                && first.0 == first.1
                && first.1 == first.2
                && core.iter().all(|node| at(node) == first)
                && world.leader_of(core).is_some_and(|leader| world.waiting_on(leader) == 0)
        };
        if self.run_until(began_us + patience_us, &mut |world| equal(world))? {
            return Ok(());
        }
        let state = core.iter().map(|node| {
            let view = &self.observer.views[*node];
            let (last, committed, applied) = (view.log.len(), view.committed, view.applied);
            format!("{}: {} in term {}, {last}/{committed}/{applied}", node_id(*node), view.role.as_str(), view.term)
        });
        let state = state.collect::<Vec<_>>().join("; ");
        Err(Violation::NotConverged { waited_ms: patience_us / 1000, state })
    }

    /// Nothing happens for some election timeouts, and whoever leads then goes on. If the core is more than a majority,
    /// one of its voters can no longer hear the leader (but be heard, and hear all others): it may ask to be elected as
    /// often as it likes, but those who hear the leader refuse.
    fn keep_leader(&mut self, core: &[usize], random: &mut Random) -> Result<(), Violation> {
        let voters: Vec<usize> = core.iter().copied().filter(|node| *node < self.settings.voters).collect();
        let leader = self.leader_of(core);
        let deaf = random.pick(&voters);
        if let Some(leader) = leader.filter(|leader| *leader != deaf)
            && voters.len() > self.settings.voters / 2 + 1
        {
            self.coverage.hit("deaf to a leader that is well");
            self.network.cut(leader, deaf);
        }
        let changes = self.leader_changes;
        let calm_us = STEADY_TIMEOUTS * self.settings.election_timeout_us();
        self.run_until(self.now_us + calm_us, &mut |_| false)?;
        let changes = self.leader_changes - changes;
        if changes > 0 || leader.is_none_or(|leader| !self.nodes[leader].leads()) {
            return Err(Violation::LeaderNotKept { changes, calm_ms: calm_us / 1000 });
        }
        Ok(())
    }

    /// How many clients wait on a node.
    fn waiting_on(&self, number: usize) -> usize {
        let process = self.nodes[number].process.as_ref();
        process.map_or(0, |process| {
            let status = process.engine.status();
            status.writes_waiting + status.reads_waiting
        })
    }
}
