//! How often each fault fired and each rare state was reached, so that a simulation that no longer reaches them is red.

use std::collections::BTreeMap;

/// Counts, by name.
#[derive(Clone, Default, Debug)]
pub(crate) struct Coverage {
    counts: BTreeMap<&'static str, u64>,
}

/// What every sample of seeds that is large enough has to reach, with how often at least in a thousand seeds.
pub(crate) const DEMANDED: [(&str, u64); 135] = [
    ("partition: isolate leader", 100),
    ("partition: isolate follower", 100),
    ("partition: isolate minority", 100),
    ("partition: majority split", 100),
    ("partition: all apart", 100),
    ("partition: one-way in", 100),
    ("partition: one-way out", 100),
    ("partition: ring of majorities", 100),
    ("partition: bridge", 100),
    ("partition: bridge with old leader", 100),
    ("partition: chain", 100),
    ("partition: hub only", 100),
    ("partition: flapping", 100),
    ("message lost", 1000),
    ("message cut off", 1000),
    ("message doubled", 1000),
    ("message overtook another", 1000),
    ("loss told to the sender", 100),
    ("burst of losses", 100),
    ("burst of delays", 100),
    ("crash of a leader", 100),
    ("crash of a follower", 100),
    ("crash of a minority", 100),
    ("crash of all nodes", 100),
    ("crash while the disk works", 100),
    ("crash that lost unsynced data", 100),
    ("crash during recovery", 20),
    ("end of a leader told", 100),
    ("end of a leader told wrongly", 100),
    ("kill of a process", 100),
    ("crash in a step", 100),
    ("pause", 100),
    ("pause of a leader", 100),
    ("disk stall", 100),
    ("leader with a stalled disk stepped down", 20),
    ("bit rot: a bit flipped", 100),
    ("bit rot: a sector zeroed", 60),
    ("bit rot: a sector rolled back", 60),
    ("bit rot: a sector misdirected", 100),
    ("bit rot found at start", 100),
    ("bit rot in an older segment", 50),
    ("bit rot harmless", 100),
    ("disk error planned", 100),
    ("disk full", 100),
    ("disk full for a moment", 100),
    ("started on a full disk", 100),
    ("disk full refused a put", 1000),
    ("snapshot taken or installed", 10_000),
    ("snapshot installed", 200),
    ("log cut", 5_000),
    ("piece of a snapshot lost", 100),
    ("snapshot fetched in more than one piece", 1000),
    ("snapshot's fetch went on after a loss", 20),
    ("snapshot's fetch went on with another leader", 1),
    ("snapshot installed over a tail that differs", 5),
    ("crash while a snapshot is taken", 300),
    ("crash while a snapshot is received", 5),
    ("crash while a snapshot is installed", 7),
    ("crash while a snapshot is removed", 30),
    ("crash between a snapshot's installation and the log's reset", 7),
    ("crash behind a piece of work on a snapshot", 20),
    ("started on what a crash would leave", 1000),
    ("started without the newest snapshot", 1000),
    ("bit rot in a snapshot", 30),
    ("older snapshot used because the newest was damaged", 20),
    ("log cut at damage and fetched", 100),
    ("damaged node refused to start", 10),
    ("recovery ended", 100),
    ("recovering node asked for a vote", 50),
    ("state hash told", 100_000),
    ("state of a node forged", 5),
    ("divergence found", 5),
    ("completion overtook an earlier one: commit", 100),
    ("completion overtook an earlier one: preparation", 100),
    ("completion overtook an earlier one: read", 100),
    ("run with a learner", 50),
    ("transfer to a learner refused", 10),
    ("disk error stopped a node", 100),
    ("clock rate changed", 100),
    ("clock jumped", 100),
    ("many ticks at once", 50),
    ("leadership transfer asked for", 100),
    ("leadership transfer started", 50),
    ("fetch from disk", 100),
    ("fetch failed", 20),
    ("truncation", 100),
    ("truncation of two or more entries", 50),
    ("election beside a stale leader", 100),
    ("follower ahead of its leader", 50),
    ("older entry on a majority but not committed (Figure 8)", 20),
    ("write dropped", 20),
    ("write in doubt", 100),
    ("write refused", 100),
    ("read aborted", 20),
    ("overloaded", 10),
    ("overloaded by a disk that is behind", 10),
    ("compare failed", 100),
    ("vote split", 20),
    ("quorum lost", 100),
    ("segment rolled", 100),
    ("applied before its own disk had it", 20),
    ("deaf to a leader that is well", 100),
    ("named write repeated", 1000),
    ("late copy after its client had moved on", 1000),
    ("repeat answered from the kept result", 1000),
    ("repeat answered after a leader change", 200),
    ("repeat answered after a restart from a snapshot", 50),
    ("repeat answered by a node with a peer's snapshot", 10),
    ("repeat refused: its session had expired", 100),
    ("expired session refused", 1000),
    ("mark refused a new session", 1000),
    ("another session opened after one was refused", 1000),
    ("session expired with a write in doubt", 300),
    ("late copy refused: it was acknowledged", 300),
    ("late copy refused: it was fenced", 10),
    ("settled with a result", 50),
    ("settled as never applied", 50),
    ("session full", 500),
    ("session dropped: idle", 300),
    ("session dropped: too many", 300),
    ("session dropped: too many bytes", 300),
    ("counter was exact", 500),
    ("read without a leader", 50_000),
    ("read without a leader from another node's state", 5_000),
    ("read without a leader given up", 1_000),
    ("read without a leader while none ran", 5_000),
    ("witness of a write that is pending", 50_000),
    ("linearizable read from a follower", 8_000),
    ("linearizable read of a reader aborted", 500),
    ("read of a state as it is", 15_000),
    ("read of a state that may be old", 1_500),
    ("state too old for a read", 2_000),
    ("age of a state checked", 12_000),
    ("read under a lease", 1_000),
    ("leases switched on or off", 100),
];

impl Coverage {
    /// It happened once more.
    pub(crate) fn hit(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// How often it happened.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Adds the counts of another run.
    pub(crate) fn merge(&mut self, other: &Coverage) {
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// Everything that was counted, by name.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    /// What `seeds` runs should have reached and did not: name, count, how many there should be at least. One hit is
    /// always demanded.
    pub(crate) fn missing(&self, seeds: u64) -> Vec<(&'static str, u64, u64)> {
        let demanded = DEMANDED.iter().map(|(name, per_thousand)| (*name, (seeds * per_thousand / 1000).max(1)));
        demanded
            .map(|(name, least)| (name, self.count(name), least))
            .filter(|(_, count, least)| count < least)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reached_is_told() {
        let mut coverage = Coverage::default();
        for (name, least) in DEMANDED {
            (0..least).for_each(|_| coverage.hit(name));
        }
        assert_eq!(coverage.missing(1000), []);
        assert_eq!(Coverage::default().missing(10).len(), DEMANDED.len());
        let mut twice = coverage.clone();
        twice.merge(&coverage);
        assert_eq!(twice.count("pause"), 200);
    }
}
