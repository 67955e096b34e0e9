//! Leader leases: who switches them on and off in a run, and the clocks that they assume.
//!
//! Leases rest on clocks that differ little in their rates and never go back. In runs with leases all clocks are like
//! that, though just so, and timers do not fire many times at once; what stands still, crashes, is late or is cut off
//! is the same as in all runs. A read that was answered under a lease is in the history like every other. And when it
//! is answered, there must have been no leader of a later term yet, whether that one has done anything or not.

use engine::kv::Command;
use engine::{Engine, Ticket};

use crate::clock::TRUE_RATE;
use crate::node::{Process, node_id};
use crate::queue::Event;
use crate::random::Random;
use crate::settings::Settings;
use crate::violation::Violation;
use crate::world::World;

/// Of a thousand runs, so many have leases.
const RUNS: u64 = 400;

/// The rates of clocks in such a run, in thousandths: a lease leaves out a tenth, which the fastest and the slowest
/// clock just do not differ by.
const LEASE_RATES: (u64, u64) = (955, 1_045);

/// The rates of clocks in other runs, at the beginning and as they change.
const FIRST_RATES: (u64, u64) = (900, 1_100);
const LATER_RATES: (u64, u64) = (TRUE_RATE / 2, 2 * TRUE_RATE);

/// The time between two looks of the operator, in microseconds.
const LOOK_US: (u64, u64) = (100_000, 2_000_000);

/// Of a thousand looks, so many change what the operator wants; and of a thousand wishes, so many are for leases.
const CHANGES: u64 = 30;
const WANTED: u64 = 800;

/// The tickets of the operator are told from all others by being greater.
const FIRST_TICKET: u64 = 3 << 61;

/// Whether a run has leases.
pub(crate) fn drawn(seed: u64) -> bool {
    Random::for_purpose(seed, "leases").chance(RUNS)
}

/// Whoever has the setting changed.
pub(crate) struct Operator {
    random: Random,
    wants_leases: bool,
    tickets_given: u64,
}

impl Operator {
    pub(crate) fn new(seed: u64) -> Operator {
        Operator { random: Random::for_purpose(seed, "operator"), wants_leases: true, tickets_given: FIRST_TICKET }
    }

    /// Whether a ticket is the operator's.
    pub(crate) fn gave(ticket: Ticket) -> bool {
        ticket.get() > FIRST_TICKET
    }
}

impl Settings {
    /// How long leases last, by the clock of the leader.
    pub(crate) fn lease_ms(&self) -> u64 {
        engine::lease_ms(self.tick_us * u64::from(self.raft.election_timeout_ticks_min) / 1000)
    }

    /// Which rates clocks have at the beginning.
    pub(crate) fn first_rates(&self) -> (u64, u64) {
        if self.leases { LEASE_RATES } else { FIRST_RATES }
    }

    /// Which rates they may get later.
    pub(crate) fn later_rates(&self) -> (u64, u64) {
        if self.leases { LEASE_RATES } else { LATER_RATES }
    }
}

impl World {
    /// The operator looks at the leader, and has the setting changed if it is not what it should be.
    pub(crate) fn operate(&mut self) -> Result<(), Violation> {
        let operator = &mut self.operator;
        let next_us = self.now_us + operator.random.between(LOOK_US);
        self.queue.push(next_us, Event::Operate);
        if operator.random.chance(CHANGES) {
            operator.wants_leases = operator.random.chance(WANTED);
        }
        let lease_reads = operator.wants_leases;
        let Some(leader) = self.leader().filter(|leader| self.nodes[*leader].is_running()) else { return Ok(()) };
        let now_ms = self.nodes[leader].clock.now_ms(self.now_us);
        let Some(process) = &mut self.nodes[leader].process else { return Ok(()) };
        if process.engine.store().settings().lease_reads == lease_reads {
            return Ok(());
        }
        self.coverage.hit("leases switched on or off");
        self.operator.tickets_given += 1;
        let ticket = Ticket::new(self.operator.tickets_given);
        process.engine.write(ticket, &Command::Configure { lease_reads }.into(), now_ms);
        self.drain(leader)
    }

    /// Hands a linearizable read to a node that runs, and looks whether it is answered under a lease, and may be.
    pub(crate) fn read_linearizably(
        &mut self,
        number: usize,
        read: impl FnOnce(&mut Engine, u64),
    ) -> Result<(), Violation> {
        let now_ms = self.nodes[number].clock.now_ms(self.now_us);
        let Some(Process { engine, .. }) = &mut self.nodes[number].process else { return Ok(()) };
        let before = engine.leased_reads();
        read(engine, now_ms);
        if engine.leased_reads() == before {
            return Ok(());
        }
        self.coverage.hit("read under a lease");
        let term = engine.raft().current_term();
        match self.observer.leader_after(term) {
            Some((later, leader)) => {
                Err(Violation::LeaseBroken { node: node_id(number), term, later, leader: node_id(leader) })
            }
            None => Ok(()),
        }
    }
}
