//! The world of a run: virtual time, nodes, network, clients, faults; and its main loop, which takes one event at a
//! time and has every invariant checked after it.

use engine::disk::Disk;
use raft::{Body, Message};

use crate::clients::Clients;
use crate::clock::NodeClock;
use crate::coverage::Coverage;
use crate::drive::IDLE_TICKS;
use crate::forge::Forgery;
use crate::invariants::{Holdings, Observer};
use crate::leases::Operator;
use crate::network::{Lane, Link, Network};
use crate::node::{Node, node_id, node_number};
use crate::plan::Action;
use crate::queue::{Event, Queue};
use crate::random::Random;
use crate::readers::{ReaderEvent, Readers};
use crate::settings::Settings;
use crate::trace::Trace;
use crate::violation::Violation;
use crate::words;

/// What a paused process may find when it goes on: more would have been refused by its sockets.
const DEFERRED_MAX: usize = 2_000;

/// The clocks of nodes begin at different readings, at most this far from the beginning, in microseconds.
const CLOCK_BEGIN_MAX_US: u64 = 10_000_000_000;

/// After so many ticks a node is told how much room there is on its disk.
const FREE_BYTES_TICKS: u64 = 8;

/// Everything that there is.
pub(crate) struct World {
    pub(crate) now_us: u64,
    pub(crate) settings: Settings,
    pub(crate) queue: Queue,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) clients: Clients,
    pub(crate) readers: Readers,
    pub(crate) operator: Operator,
    pub(crate) observer: Observer,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    pub(crate) plan: Vec<Action>,
    /// At the next so many installations of a peer's snapshot the power of the node fails.
    pub(crate) doomed_installs: u32,
    /// Whether faults may still happen.
    pub(crate) faults: bool,
    /// The nodes that were healed in the end, and how often one of them became leader since.
    pub(crate) core: Vec<usize>,
    pub(crate) leader_changes: u64,
    /// The forgery of the run, if there was one.
    pub(crate) forgery: Option<Forgery>,
    /// The luck of disks, and of what survives crashes.
    pub(crate) disk_random: Random,
    /// Seeds of the processes.
    pub(crate) boot_random: Random,
    /// What is tried on copies, and changes nothing.
    pub(crate) trial_random: Random,
    /// Who is told of the end of a process.
    pub(crate) gone_random: Random,
    /// How many events there were.
    pub(crate) steps: u64,
}

impl World {
    /// The world of a seed, with all nodes running and this plan of faults.
    pub(crate) fn new(seed: u64, plan: Vec<Action>, keeps_lines: bool) -> Result<World, Violation> {
        let settings = Settings::draw(seed);
        let mut clocks = Random::for_purpose(seed, "clocks");
        let nodes = (0..settings.size).map(|_| {
            let mut clock = NodeClock::new(clocks.below(CLOCK_BEGIN_MAX_US));
            if settings.uneven_clocks {
                clock.set_rate(0, clocks.between(settings.first_rates()));
            }
            Node::new(clock)
        });
        let nodes: Vec<Node> = nodes.collect();
        let size = settings.size;
        let mut world = World {
            now_us: 0,
            queue: Queue::default(),
            network: Network::new(size, settings.network.clone(), seed),
            clients: Clients::new(
                &settings,
                Random::for_purpose(seed, "clients"),
                Random::for_purpose(seed, "named writes"),
            ),
            readers: Readers::draw(seed),
            operator: Operator::new(seed),
            observer: Observer::new(&settings),
            trace: Trace::new(keeps_lines),
            coverage: Coverage::default(),
            doomed_installs: 0,
            faults: true,
            core: Vec::new(),
            leader_changes: 0,
            forgery: None,
            disk_random: Random::for_purpose(seed, "disks"),
            boot_random: Random::for_purpose(seed, "boots"),
            trial_random: Random::for_purpose(seed, "trials"),
            gone_random: Random::for_purpose(seed, "ends"),
            steps: 0,
            plan,
            nodes,
            settings,
        };
        if world.settings.voters < size {
            world.coverage.hit("run with a learner");
        }
        for text in words::settings(&world.settings) {
            world.trace.tell(0, None, "settings", format_args!("{text}"));
        }
        for (number, action) in world.plan.iter().enumerate() {
            world.queue.push(action.at_us, Event::Act(number));
        }
        (0..size).try_for_each(|node| world.start(node))?;
        for client in 0..world.clients.probe() {
            world.queue.push(100_000 * client as u64, Event::Begin { client });
        }
        for reader in 0..world.readers.count() {
            world.queue.push(100_000 * reader as u64, Event::Reader(ReaderEvent::Begins { reader }));
        }
        if world.settings.leases {
            world.queue.push(0, Event::Operate);
        }
        Ok(world)
    }

    /// Lets everything happen until a moment, or until `done` says so. Returns whether it did.
    pub(crate) fn run_until(&mut self, until_us: u64, done: &mut dyn FnMut(&World) -> bool) -> Result<bool, Violation> {
        loop {
            if done(self) {
                return Ok(true);
            }
            let Some((at_us, event)) = self.queue.pop(until_us) else {
                self.now_us = until_us;
                return Ok(false);
            };
            self.now_us = at_us;
            self.steps += 1;
            self.trace.mix(&[at_us]);
            self.happen(event)?;
        }
    }

    /// One event.
    pub(crate) fn happen(&mut self, event: Event) -> Result<(), Violation> {
        if let Some(node) = self.process_of(&event)
            && self.nodes[node].paused.is_some()
        {
            let deferred = &mut self.nodes[node].deferred;
            // Timers and the disk wait; what comes from outside is bounded.
            if !event.is_from_outside() || deferred.len() < DEFERRED_MAX {
                deferred.push_back(event);
            }
            return Ok(());
        }
        match event {
            Event::Tick { node, life } => self.tick(node, life),
            Event::Deliver(message) => self.deliver(message),
            Event::DeliverSide(message) => self.deliver_side(message),
            Event::DeliverReplica(message) => self.deliver_replica(message),
            Event::SnapshotDone { node, life } => self.snapshot_done(node, life),
            Event::JobDone { node, life, job } => self.job_done(node, life, job),
            Event::Lost { node, life, peer } => self.lost(node, life, peer),
            Event::Gone { node, life, peer, peer_life } => self.gone(node, life, peer, peer_life),
            Event::Restart { node } => self.restart(node),
            Event::Resume { node, pause } => self.resume(node, pause),
            Event::Unstall { node, stall } => {
                self.unstall(node, stall);
                Ok(())
            }
            Event::ClearOut { node, full } => {
                self.clear_out(node, full);
                Ok(())
            }
            Event::Act(action) => self.act(action),
            Event::Cut { partition } => {
                self.network.set_partition(partition, true);
                Ok(())
            }
            Event::Mend { partition } => {
                self.network.set_partition(partition, false);
                Ok(())
            }
            Event::Calm { burst } => {
                self.network.calm(burst);
                Ok(())
            }
            Event::Begin { client } => {
                self.begin(client);
                Ok(())
            }
            Event::Reader(event) => self.reader(event),
            Event::Operate => self.operate(),
            Event::Request(request) => self.request(*request),
            Event::Answer { attempt, answer, time_ms } => self.told(attempt, &answer, time_ms),
            Event::Resend { attempt } => {
                self.resend(attempt);
                Ok(())
            }
            Event::Retry { attempt } => {
                self.retry(attempt);
                Ok(())
            }
            Event::GiveUp { client, operation } => {
                self.give_up(client, operation);
                Ok(())
            }
        }
    }

    /// The node whose process has to run for an event to happen.
    fn process_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Tick { node, .. }
            | Event::JobDone { node, .. }
            | Event::SnapshotDone { node, .. }
            | Event::Lost { node, .. }
            | Event::Gone { node, .. } => Some(*node),
            Event::Deliver(message) => Some(node_number(message.to)),
            Event::DeliverSide(message) => Some(node_number(message.to)),
            Event::DeliverReplica(message) => Some(node_number(message.to)),
            Event::Reader(event) => event.node(),
            Event::Request(request) => Some(request.node),
            _ => None,
        }
    }

    /// The node that leads in the highest term, if any believes that it leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        let term = |node: &usize| self.observer.views[*node].term;
        (0..self.nodes.len()).filter(|node| self.nodes[*node].leads()).max_by_key(term)
    }

    /// Sends a message on its way.
    pub(crate) fn send(&mut self, from: usize, message: Message) {
        let to = node_number(message.to);
        let link = Link { from, to, lane: Lane::Core };
        let fate = self.network.send(self.now_us, link, &mut self.coverage);
        if fate.loss_told {
            self.coverage.hit("loss told to the sender");
            let life = self.nodes[from].life;
            self.queue.push(self.now_us + 1_000, Event::Lost { node: from, life, peer: to });
        }
        let last = fate.arrivals_us.len().saturating_sub(1);
        let mut message = Some(message);
        for (copy, at_us) in fate.arrivals_us.into_iter().enumerate() {
            let sent = if copy == last { message.take() } else { message.clone() };
            if let Some(sent) = sent {
                self.queue.push(at_us, Event::Deliver(sent));
            }
        }
    }

    fn deliver(&mut self, message: Message) -> Result<(), Violation> {
        let (from, to) = (node_number(message.from), node_number(message.to));
        if !self.network.is_open(from, to) {
            self.coverage.hit("message cut off");
            return Ok(());
        }
        let Some(process) = &mut self.nodes[to].process else { return Ok(()) };
        self.trace.mix(&[self.now_us, from as u64, to as u64, message.term.get()]);
        let kind = message.body.kind();
        if matches!(message.body, Body::RequestVote { .. }) && self.observer.views[to].recovering {
            self.coverage.hit("recovering node asked for a vote");
        }
        self.trace.detail(self.now_us, Some(to), "message", || words::message(&message));
        if let Err(refused) = process.engine.message(message) {
            self.trace.detail(self.now_us, Some(to), "refused", || format!("{kind} from {}: {refused}", node_id(from)));
        }
        self.drain(to)
    }

    fn lost(&mut self, node: usize, life: u64, peer: usize) -> Result<(), Violation> {
        if self.nodes[node].life != life {
            return Ok(());
        }
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        process.engine.unreachable(node_id(peer));
        self.drain(node)
    }

    fn tick(&mut self, node: usize, life: u64) -> Result<(), Violation> {
        if self.nodes[node].life != life || self.nodes[node].process.is_none() {
            return Ok(());
        }
        let next_us = self.now_us + self.nodes[node].clock.span_us(self.settings.tick_us);
        self.queue.push(next_us, Event::Tick { node, life });
        self.observer.planned(node, self.queue.len())?;
        self.tick_now(node)
    }

    /// One tick of a node that runs.
    pub(crate) fn tick_now(&mut self, node: usize) -> Result<(), Violation> {
        let now_ms = self.nodes[node].clock.now_ms(self.now_us);
        self.forget_rot(node);
        self.nodes[node].ticked(self.now_us);
        let free_bytes = self.nodes[node].disk.free_bytes();
        let Some(process) = &mut self.nodes[node].process else { return Ok(()) };
        process.engine.tick(now_ms);
        process.ticks += 1;
        if process.ticks.is_multiple_of(FREE_BYTES_TICKS)
            && let Ok(free_bytes) = free_bytes
        {
            process.engine.observe_free_bytes(free_bytes);
            self.observer.storage_full.observed(node, free_bytes, self.observer.views[node].snapshot_bytes);
        }
        process.idle_ticks += 1;
        if process.idle_ticks >= IDLE_TICKS {
            process.engine.idle();
        }
        self.drain(node)?;
        let Some(process) = &self.nodes[node].process else { return Ok(()) };
        let uncovered_bytes = process.engine.raft().uncommitted_bytes() + self.nodes[node].dropped_bytes;
        let holdings = Holdings::of(&self.nodes[node].disk, uncovered_bytes);
        let is_bounded = self.nodes[node].is_disk_bounded(self.now_us);
        self.observer.disk_used(node, self.now_us, &holdings, is_bounded)?;
        self.forged_runs(node)?;
        self.observer.ticked(node)
    }
}
