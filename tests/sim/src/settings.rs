//! What kind of run a seed is: the size of the cluster, its options, how good network and disks are, which faults there
//! are and how often. Everything is drawn once per run, so that each run has some faults in force and not a thin soup
//! of all of them.

use engine::EngineOptions;
use engine::wal::WalOptions;
use raft::{Configuration, NodeId};

use crate::network::NetworkSettings;
use crate::node::node_id;
use crate::random::Random;
use crate::sessions::SessionSettings;

/// The largest cluster.
pub(crate) const SIZE_MAX: u64 = 7;

/// How many of a thousand clusters of a middling size have a learner too.
const LEARNER: u64 = 150;

/// What a run is like. Times in microseconds, chances in thousandths.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many nodes there are.
    pub(crate) size: usize,
    /// How many of them vote: the first ones. The others are learners.
    pub(crate) voters: usize,
    /// The time between two ticks of a node whose clock is right.
    pub(crate) tick_us: u64,
    /// The consensus core, but for its name and seed.
    pub(crate) raft: raft::Options,
    /// The size of the log's segments in bytes.
    pub(crate) segment_bytes: u64,
    /// What is out of the ordinary in it.
    pub(crate) kind: Kind,
    pub(crate) snapshots: SnapshotSettings,
    pub(crate) sessions: SessionSettings,
    /// How many bytes may wait for the log before writes are refused.
    pub(crate) wal_pending_bytes_max: usize,
    pub(crate) network: NetworkSettings,
    pub(crate) disk: DiskSettings,
    pub(crate) clients: ClientSettings,
    /// Whether there are leader leases; then clocks are as those assume.
    pub(crate) leases: bool,
    /// Whether clocks of nodes differ in their rates from the beginning.
    pub(crate) uneven_clocks: bool,
    /// Of a thousand ends of processes, so many are told to each node that can reach the host.
    pub(crate) ends_told: u64,
}

/// What is out of the ordinary in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Nothing.
    Usual,
    /// Few keys are overwritten very often.
    Overwrites,
    /// The disks of all nodes go bad, each in other places: nobody has to go on, but nobody may be wrong.
    AllRot,
    /// The state of one node is changed behind its back.
    Forgery,
}

/// How snapshots are taken and travel.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotSettings {
    /// So much log at least makes the next one due, in bytes.
    pub(crate) log_bytes_min: u64,
    /// The size of a piece on its way, in bytes.
    pub(crate) chunk_bytes: usize,
    /// The states of all nodes are compared after so many entries.
    pub(crate) hash_every_entries: u64,
    /// Writes are refused when the disk has less room than this, in bytes.
    pub(crate) reserve_bytes: u64,
    /// How long a piece of work takes.
    pub(crate) work_us: (u64, u64),
}

/// What disks are like.
#[derive(Clone, Debug)]
pub(crate) struct DiskSettings {
    /// How long a commit takes.
    pub(crate) commit_us: (u64, u64),
    /// How long it takes to prepare a segment.
    pub(crate) prepare_us: (u64, u64),
    /// How long it takes to read entries back.
    pub(crate) read_us: (u64, u64),
    /// How many reads fail.
    pub(crate) read_failures: u64,
    /// Of what was not synced, how much survives a crash; 1001 stands for: drawn anew for each crash.
    pub(crate) survival: u64,
}

/// What clients do.
#[derive(Clone, Debug)]
pub(crate) struct ClientSettings {
    pub(crate) count: usize,
    /// How many keys are in use at a time.
    pub(crate) keys: usize,
    /// The time between the end of an operation and the next one.
    pub(crate) think_us: (u64, u64),
    /// How long a client waits for an answer.
    pub(crate) timeout_us: u64,
    /// The delay between a client and a node, each way.
    pub(crate) delay_us: (u64, u64),
    /// How many values are large.
    pub(crate) large_values: u64,
    /// The length of a large value in bytes.
    pub(crate) large_bytes: (u64, u64),
    /// How many operations are reads.
    pub(crate) reads: u64,
    /// After so many operations another key takes the place of one.
    pub(crate) key_operations: u64,
}

impl Settings {
    /// The settings of a seed.
    pub(crate) fn draw(seed: u64) -> Settings {
        let mut random = Random::for_purpose(seed, "settings");
        let random = &mut random;
        // Three and five are what people run; the others find what depends on a number.
        let voters = random.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, SIZE_MAX]);
        let learners = u64::from((2..SIZE_MAX).contains(&voters) && random.chance(LEARNER));
        let count = |number: u64| usize::try_from(number).expect("at most SIZE_MAX");
        let slow_ticks = random.chance(700);
        let (tick_us, heartbeat_ticks, shortest) = if slow_ticks { (50_000, 2, 10) } else { (25_000, 4, 20) };
        let raft = raft::Options {
            id: node_id(0),
            election_timeout_ticks_min: shortest,
            election_timeout_ticks_max: 2 * shortest,
            heartbeat_ticks,
            append_bytes_max: random.pick(&[64, 256, 1 << 10, 8 << 10]),
            inflight_messages_max: random.pick(&[1, 2, 8, 64]),
            uncommitted_bytes_max: random.pick(&[512, 4 << 10, 64 << 10, 1 << 20]),
            tail_bytes_max: random.pick(&[0, 512, 4 << 10, 64 << 10]),
            apply_bytes_max: random.pick(&[1, 256, 4 << 10, 64 << 10]),
            seed: 0,
        };
        let mut snapshots = draw_snapshots(&mut Random::for_purpose(seed, "snapshots"));
        let kind = draw_kind(voters, &mut Random::for_purpose(seed, "kind"));
        if matches!(kind, Kind::Forgery | Kind::Overwrites) {
            snapshots.log_bytes_min = snapshots.log_bytes_min.min(4 << 10);
        }
        let mut network = draw_network(random);
        if matches!(kind, Kind::Forgery | Kind::Overwrites) {
            // Hashes that are lost or late are not compared, and who waits writes nothing.
            network = NetworkSettings { spikes: 0, loss: 0, ..network };
        }
        let mut settings = Settings {
            kind,
            snapshots,
            size: count(voters + learners),
            voters: count(voters),
            tick_us,
            raft,
            segment_bytes: random.pick(&[4 << 10, 16 << 10, 64 << 10]),
            wal_pending_bytes_max: Random::for_purpose(seed, "disk bound").pick(&[1 << 10, 8 << 10, 64 << 10, 1 << 20]),
            network,
            disk: draw_disk(random),
            clients: draw_clients(kind, random),
            sessions: SessionSettings::draw(kind, &mut Random::for_purpose(seed, "sessions")),
            leases: crate::leases::drawn(seed),
            uneven_clocks: random.chance(400),
            ends_told: crate::gone::told_of(seed),
        };
        if matches!(kind, Kind::Forgery | Kind::Overwrites) {
            settings.hurry();
        }
        settings
    }

    /// Nothing is so slow or so small that it would keep clients from writing, or followers so far behind that there is
    /// no majority whose states could be compared; nor are there so few writes that they are not compared again.
    fn hurry(&mut self) {
        self.network.delay_us = self.network.delay_us.min((200, 5_000));
        self.disk.commit_us = self.disk.commit_us.min((500, 5_000));
        self.disk.read_us = self.disk.read_us.min((50, 500));
        self.snapshots.work_us = self.snapshots.work_us.min((1_000, 20_000));
        self.snapshots.chunk_bytes = self.snapshots.chunk_bytes.max(1 << 10);
        self.snapshots.hash_every_entries = self.snapshots.hash_every_entries.min(8);
        self.clients.delay_us = (50, 300);
        self.raft.append_bytes_max = self.raft.append_bytes_max.max(1 << 10);
        self.raft.inflight_messages_max = self.raft.inflight_messages_max.max(8);
        self.raft.uncommitted_bytes_max = self.raft.uncommitted_bytes_max.max(64 << 10);
        self.wal_pending_bytes_max = self.wal_pending_bytes_max.max(64 << 10);
    }

    /// What a node is opened with.
    pub(crate) fn engine_options(&self, id: NodeId, seed: u64, salt: u32) -> EngineOptions {
        EngineOptions {
            raft: raft::Options { id, seed, ..self.raft.clone() },
            wal: WalOptions { segment_bytes: self.segment_bytes, index_every_bytes: 1 << 10, salt, must_exist: false },
            configuration: Configuration::new((0..self.voters).map(node_id))
                .with_learners((self.voters..self.size).map(node_id)),
            wal_pending_bytes_max: self.wal_pending_bytes_max,
            snapshot_log_bytes_min: self.snapshots.log_bytes_min,
            snapshot_chunk_bytes: self.snapshots.chunk_bytes,
            space_reserve_bytes: self.snapshots.reserve_bytes,
            session_limits: self.sessions.limits,
            lease_ms: self.lease_ms(),
            state_hash_every_entries: self.snapshots.hash_every_entries,
        }
    }

    /// The longest election timeout of a node whose clock is right.
    pub(crate) fn election_timeout_us(&self) -> u64 {
        self.tick_us * u64::from(self.raft.election_timeout_ticks_max)
    }
}

fn draw_network(random: &mut Random) -> NetworkSettings {
    let often = |random: &mut Random, choices: &[u64]| if random.chance(500) { random.pick(choices) } else { 0 };
    NetworkSettings {
        delay_us: random.pick(&[(100, 500), (200, 5_000), (1_000, 30_000)]),
        spikes: often(random, &[5, 50]),
        spike_us: random.pick(&[50_000, 1_000_000, 10_000_000]),
        loss: often(random, &[5, 30, 150]),
        duplicates: often(random, &[10, 100, 500]),
        reorders: random.chance(500),
        loss_told: often(random, &[300, 1000]),
    }
}

/// How many of a thousand runs are of each of the kinds out of the ordinary; those that overwrite take long.
const OVERWRITES_RUNS: u64 = 5;
const KIND_RUNS: u64 = 20;

fn draw_kind(voters: u64, random: &mut Random) -> Kind {
    let drawn = random.below(1000);
    match drawn / KIND_RUNS {
        0 if drawn < OVERWRITES_RUNS => Kind::Overwrites,
        1 => Kind::AllRot,
        // Of one node or two that differ, none is right.
        2 if voters > 2 => Kind::Forgery,
        _ => Kind::Usual,
    }
}

fn draw_snapshots(random: &mut Random) -> SnapshotSettings {
    SnapshotSettings {
        log_bytes_min: random.pick(&[300, 300, 1 << 10, 4 << 10, 16 << 10]),
        chunk_bytes: random.pick(&[100, 300, 1 << 10, engine::side::SNAPSHOT_CHUNK_BYTES]),
        hash_every_entries: random.pick(&[1, 8, 64]),
        reserve_bytes: random.pick(&[1 << 10, 16 << 10, 64 << 10]),
        work_us: random.pick(&[(50, 500), (1_000, 20_000), (20_000, 300_000)]),
    }
}

fn draw_disk(random: &mut Random) -> DiskSettings {
    DiskSettings {
        commit_us: random.pick(&[(50, 200), (500, 5_000), (5_000, 60_000)]),
        prepare_us: random.pick(&[(1_000, 5_000), (10_000, 300_000)]),
        read_us: random.pick(&[(50, 500), (1_000, 200_000)]),
        read_failures: random.pick(&[0, 0, 50]),
        survival: random.pick(&[0, 500, 1000, 1001]),
    }
}

/// After so many operations a slot gets a new key, so that histories stay short, and states small. Where keys are
/// overwritten all the time the state is not to grow.
const KEY_OPERATIONS: u64 = 120;
const KEY_OPERATIONS_OVERWRITES: u64 = 2_000;

fn draw_clients(kind: Kind, random: &mut Random) -> ClientSettings {
    let count = usize::try_from(random.between((2, 6))).expect("a small number");
    // A dozen operations a second, four or eight times as many, however many clients there are.
    let usual = random.pick(&[20_000, 80_000]);
    let think = if kind == Kind::Overwrites { 10_000 } else { usual } * count as u64;
    ClientSettings {
        count,
        keys: random.pick(&[1, 2, 4]),
        think_us: (think / 10, 2 * think),
        timeout_us: random.pick(&[800_000, 2_000_000, 5_000_000]),
        delay_us: random.pick(&[(50, 300), (500, 20_000)]),
        large_values: random.pick(&[0, 50, 200]),
        large_bytes: random.pick(&[(200, 600), (1_000, 5_000)]),
        reads: random.pick(&[150, 350, 600]),
        key_operations: if kind == Kind::Overwrites { KEY_OPERATIONS_OVERWRITES } else { KEY_OPERATIONS },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_drawn_and_every_draw_can_start() {
        let mut sizes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let settings = Settings::draw(seed);
            sizes.insert(settings.size);
            assert!(settings.raft.election_timeout_ticks_min > settings.raft.heartbeat_ticks);
            assert!(settings.election_timeout_us() >= 1_000_000);
        }
        assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    }
}
