//! Carries out the plan: crashes, pauses, stalls, failures, partitions.

use std::io::ErrorKind;

use engine::Output;
use engine::disk::{Fault as DiskFault, Operation};

use crate::jobs::{CALLS_FULL, Job};
use crate::partition::PartitionKind;
use crate::plan::Fault;
use crate::queue::Event;
use crate::random::Random;
use crate::violation::Violation;
use crate::world::World;

/// How long a fault lasts that ends by itself, in microseconds.
const SHORT_US: (u64, u64) = (100_000, 2_000_000);
const LONG_US: (u64, u64) = (500_000, 12_000_000);
const PAUSE_US: (u64, u64) = (100_000, 30_000_000);

/// How long a flapping link is up or down, in microseconds.
const FLAP_US: (u64, u64) = (100_000, 1_000_000);

/// How far a clock may jump, in microseconds.
const JUMP_US: u64 = 3_600_000_000;

/// How many ticks may come at once when a clock jumps ahead.
const TICKS_AT_ONCE_MAX: u64 = 100;

/// At so many installations of snapshots the power fails, on whichever nodes they are.
const DOOMED_INSTALLS: u32 = 3;

/// Stands for: how much survives is drawn for each crash.
const SURVIVAL_DRAWN: u64 = 1001;

impl World {
    /// An action of the plan.
    pub(crate) fn act(&mut self, number: usize) -> Result<(), Violation> {
        let action = self.plan[number];
        if !self.faults {
            return Ok(());
        }
        self.trace.tell(self.now_us, None, "fault", format_args!("{:?}", action.fault));
        let mut random = Random::new(action.seed);
        let random = &mut random;
        let size = self.nodes.len();
        let any = random.position(size);
        let leader = self.leader();
        let follower = (0..size).map(|step| (any + step) % size).find(|node| Some(*node) != leader).unwrap_or(any);
        match action.fault {
            Fault::Partition(kind) => self.partition(kind, random),
            Fault::Flapping(kind) => self.flap(kind, random),
            Fault::LossBurst => self.burst("burst of losses", random.between((200, 700)), 0, random),
            Fault::DelayBurst => self.burst("burst of delays", 0, random.between((50_000, 2_000_000)), random),
            Fault::CrashLeader => self.crash("crash of a leader", &[leader.unwrap_or(any)], random),
            Fault::CrashFollower => self.crash("crash of a follower", &[follower], random),
            Fault::CrashMinority => {
                let count = (size - 1) / 2;
                self.crash("crash of a minority", &random.shuffled(size)[..count], random);
            }
            Fault::CrashAll => self.crash("crash of all nodes", &random.shuffled(size), random),
            Fault::Kill => self.kill(any, random),
            Fault::CrashInStep => self.nodes[any].doomed_in = Some(random.below(40)),
            Fault::CrashInSnapshot => match random.below(3) {
                0 => self.nodes[any].doom_in_snapshot(false, random.below(12)),
                1 => self.nodes[any].doom_in_snapshot(true, random.below(2)),
                // Installations are rare, so whoever has the next ones will do.
                _ => self.doomed_installs = DOOMED_INSTALLS,
            },
            Fault::Pause => self.pause("pause", any, random),
            Fault::PauseLeader => self.pause("pause of a leader", leader.unwrap_or(any), random),
            Fault::StallDisk => self.stall(any, random),
            Fault::Rot(kind) => self.rot(kind, any, random.between(SHORT_US), random),
            Fault::Forge => self.forge(any),
            Fault::DiskError => self.plan_disk_error(any, random),
            Fault::DiskFull => self.fill_up(any, random),
            Fault::ClockRate => {
                self.coverage.hit("clock rate changed");
                self.nodes[any].clock.set_rate(self.now_us, random.between(self.settings.later_rates()));
            }
            Fault::ClockJump => return self.jump(any, random),
            Fault::FalseEnd => {
                // As when something on the way refuses what was for the leader.
                if self.settings.leases && random.chance(500) {
                    self.partition(PartitionKind::IsolateLeader, random);
                }
                return self.tell_wrongly(follower);
            }
            Fault::Transfer => {
                let Some(leader) = leader.filter(|leader| self.nodes[*leader].is_running()) else { return Ok(()) };
                return self.transfer(leader, follower);
            }
        }
        Ok(())
    }

    /// A clock jumps; if it jumps ahead, timers that have become due may all fire at once. Leases assume that it does
    /// not go back, and that timers do not hurry.
    fn jump(&mut self, number: usize, random: &mut Random) -> Result<(), Violation> {
        self.coverage.hit("clock jumped");
        let by_us = i64::try_from(random.below(JUMP_US)).expect("an hour");
        let assumed = self.settings.leases;
        let ahead = random.chance(500) || assumed;
        let node = &mut self.nodes[number];
        node.clock.jump(self.now_us, if ahead { by_us } else { -by_us });
        if ahead && !assumed && random.chance(500) && node.is_running() {
            self.coverage.hit("many ticks at once");
            for _ in 0..random.between((2, TICKS_AT_ONCE_MAX)) {
                self.tick_now(number)?;
            }
        }
        Ok(())
    }

    /// Counts down to the crash of a node that is doomed. Returns whether this is its last step.
    pub(crate) fn is_last_step(&mut self, number: usize) -> bool {
        let doomed_in = &mut self.nodes[number].doomed_in;
        match doomed_in {
            Some(0) => true,
            Some(steps) => {
                *steps -= 1;
                false
            }
            None => false,
        }
    }

    /// The power of a doomed node fails while it carries out what its engine asked for: some messages have left, the
    /// disk has got its work, nobody was answered.
    pub(crate) fn crash_in_step(&mut self, number: usize, output: Output) -> Result<(), Violation> {
        self.coverage.hit("crash in a step");
        let Output { messages, work, snapshot_work, events, .. } = output;
        for event in events {
            // What it applied is committed, although nobody hears of it.
            if let engine::Event::Applied { index, term, command, .. } = event
                && !self.nodes[number].is_forged
            {
                self.observer.exactly_once.applied(number, (index, term), command.as_deref())?;
            }
        }
        let left = self.disk_random.position(messages.len() + 1);
        for message in messages.into_iter().take(left) {
            self.observer.sent(number, &message)?;
            self.send(number, message);
        }
        if let Some(process) = &mut self.nodes[number].process {
            for work in work {
                process.submit(Job::Work(work));
            }
            process.snapshot_jobs.extend(snapshot_work);
        }
        let restart_us = self.disk_random.between(SHORT_US);
        self.power_off(number, restart_us);
        Ok(())
    }

    fn partition(&mut self, kind: PartitionKind, random: &mut Random) {
        let cuts = kind.cuts(self.nodes.len(), self.leader(), random);
        self.trace.detail(self.now_us, None, "partition", || format!("{kind:?} cuts {cuts:?}"));
        self.coverage.hit(kind.as_str());
        let partition = self.network.add_partition(cuts);
        self.network.set_partition(partition, true);
        self.queue.push(self.now_us + random.between(LONG_US), Event::Mend { partition });
    }

    fn flap(&mut self, kind: PartitionKind, random: &mut Random) {
        let cuts = kind.cuts(self.nodes.len(), self.leader(), random);
        self.coverage.hit("partition: flapping");
        let partition = self.network.add_partition(cuts);
        let mut at_us = self.now_us;
        for _ in 0..random.between((3, 12)) {
            self.queue.push(at_us, Event::Cut { partition });
            at_us += random.between(FLAP_US);
            self.queue.push(at_us, Event::Mend { partition });
            at_us += random.between(FLAP_US);
        }
    }

    fn burst(&mut self, name: &'static str, loss: u64, delay_us: u64, random: &mut Random) {
        self.coverage.hit(name);
        let burst = self.network.begin_burst(loss, delay_us);
        self.queue.push(self.now_us + random.between(LONG_US), Event::Calm { burst });
    }

    /// The power of some nodes fails, at the same moment.
    fn crash(&mut self, name: &'static str, numbers: &[usize], random: &mut Random) {
        if numbers.is_empty() {
            return;
        }
        self.coverage.hit(name);
        for number in numbers {
            self.power_off(*number, random.between(SHORT_US));
        }
    }

    /// The power of a node fails, for a while.
    pub(crate) fn power_off(&mut self, number: usize, restart_us: u64) {
        self.end_process(number, true);
        self.queue.push(self.now_us + restart_us, Event::Restart { node: number });
    }

    fn kill(&mut self, number: usize, random: &mut Random) {
        self.coverage.hit("kill of a process");
        self.end_process(number, false);
        self.queue.push(self.now_us + random.between(SHORT_US), Event::Restart { node: number });
    }

    /// A process ends. What the disk was doing is somewhere between not begun and done; if the power is lost with it,
    /// any part of what was not synced survives.
    pub(crate) fn end_process(&mut self, number: usize, power_lost: bool) {
        if let Some(process) = self.nodes[number].process.take() {
            self.abandon_jobs(number, process);
        }
        let node = &mut self.nodes[number];
        if power_lost {
            let drawn = self.settings.disk.survival == SURVIVAL_DRAWN;
            let survival = if drawn { self.disk_random.below(1001) } else { self.settings.disk.survival };
            let mut lost = 0_u64;
            let random = &mut self.disk_random;
            node.disk.crash(&mut |_| {
                let survives = random.chance(survival);
                lost += u64::from(!survives);
                survives
            });
            if lost > 0 {
                self.coverage.hit("crash that lost unsynced data");
            }
        } else {
            node.disk.restart();
        }
        node.life += 1;
        node.paused = None;
        node.stalled = None;
        node.deferred.clear();
        node.expects_disk_error = false;
        node.snapshot_waits_ticks = 0;
        node.doomed_in = None;
        node.doomed_snapshot_in = None;
        self.observer.stopped(number);
        self.trace.tell(self.now_us, Some(number), "stop", format_args!("power lost: {power_lost}"));
        self.tell_of_end(number);
    }

    /// A process starts again, unless it runs or is held down.
    pub(crate) fn restart(&mut self, number: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[number];
        if node.process.is_some() || node.held_down {
            return Ok(());
        }
        // Sometimes the power fails again while the log is being recovered.
        if self.faults && self.disk_random.chance(60) {
            node.expects_disk_error = true;
            node.disk.halt_after(self.disk_random.below(8));
        }
        self.start(number)
    }

    fn pause(&mut self, name: &'static str, number: usize, random: &mut Random) {
        let node = &mut self.nodes[number];
        if !node.is_running() {
            return;
        }
        self.coverage.hit(name);
        node.pauses += 1;
        node.paused = Some(node.pauses);
        let pause = node.pauses;
        self.trace.tell(self.now_us, Some(number), "pause", format_args!("stands still"));
        self.queue.push(self.now_us + random.between(PAUSE_US), Event::Resume { node: number, pause });
    }

    /// A paused process goes on, with everything that came meanwhile.
    pub(crate) fn resume(&mut self, number: usize, pause: u64) -> Result<(), Violation> {
        if self.nodes[number].paused != Some(pause) {
            return Ok(());
        }
        self.nodes[number].paused = None;
        self.trace.tell(self.now_us, Some(number), "resume", format_args!("goes on"));
        while let Some(event) = self.nodes[number].deferred.pop_front() {
            self.happen(event)?;
        }
        Ok(())
    }

    fn stall(&mut self, number: usize, random: &mut Random) {
        self.coverage.hit("disk stall");
        let node = &mut self.nodes[number];
        node.stalls += 1;
        node.stalled = Some(node.stalls);
        let stall = node.stalls;
        self.queue.push(self.now_us + random.between(LONG_US), Event::Unstall { node: number, stall });
    }

    /// A stalled disk goes on.
    pub(crate) fn unstall(&mut self, number: usize, stall: u64) {
        let node = &mut self.nodes[number];
        if node.stalled != Some(stall) {
            return;
        }
        node.stalled = None;
        self.pay_owed(number);
    }

    fn plan_disk_error(&mut self, number: usize, random: &mut Random) {
        let node = &mut self.nodes[number];
        if node.process.is_none() {
            return;
        }
        self.coverage.hit("disk error planned");
        node.expects_disk_error = true;
        let (operation, nth_max) = random.pick(&[
            (Operation::SyncData, 20),
            (Operation::SyncData, 20),
            (Operation::Write, 20),
            (Operation::Create, 2),
            (Operation::Rename, 2),
            (Operation::SyncDirectory, 2),
        ]);
        node.disk.fail(operation, random.between((1, nth_max)), DiskFault::Error(ErrorKind::Other));
    }

    /// A disk is full: for a single call, or for a while, and then files cannot grow beyond what is left.
    fn fill_up(&mut self, number: usize, random: &mut Random) {
        let node = &mut self.nodes[number];
        if random.chance(300) && node.process.is_some() {
            self.coverage.hit("disk full for a moment");
            node.expects_disk_error = true;
            let (operation, nth_max) = random.pick(&CALLS_FULL);
            let short = operation == Operation::Write && random.chance(500);
            let full = DiskFault::Error(ErrorKind::StorageFull);
            let fault = if short { DiskFault::Short(random.position(2_000)) } else { full };
            node.disk.fail(operation, random.between((1, nth_max)), fault);
            return;
        }
        self.coverage.hit("disk full");
        node.fulls += 1;
        node.full = Some(node.fulls);
        let full = node.fulls;
        node.disk.fill_up(random.below(2 * self.settings.segment_bytes));
        self.queue.push(self.now_us + random.between(LONG_US), Event::ClearOut { node: number, full });
    }

    /// There is room on a full disk again.
    pub(crate) fn clear_out(&mut self, number: usize, full: u64) {
        let node = &mut self.nodes[number];
        if node.full == Some(full) {
            node.full = None;
            node.full_us = Some(self.now_us);
            node.disk.clear_out();
        }
    }
}
