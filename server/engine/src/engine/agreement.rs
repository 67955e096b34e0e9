//! Whether the replicas hold the same state: each tells the others its state's hash at certain indexes.
//!
//! Applying the same log gives the same state, so two hashes that differ at one index mean that one of the replicas is
//! wrong: its memory was damaged, or its program computes something else. Which one, a majority of the voters says.
//! Whoever differs from a majority stops, the leader included; and if no majority comes together in time, everyone who
//! knows of the difference stops, because nobody can tell whose answers are right.

use std::collections::{BTreeMap, VecDeque};

use raft::{Configuration, Index, NodeId};

/// How many of the latest hashes of each replica are kept. A replica that is further behind compares itself with
/// nobody until it has caught up.
const HASHES_KEPT: usize = 64;

/// The state of this node differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Diverged {
    /// Where.
    pub(super) index: Index,
    /// Whether a majority agrees on another state; otherwise there is no majority at all.
    pub(super) by_majority: bool,
}

/// What this node knows of all states.
pub(super) struct Agreement {
    id: NodeId,
    /// Ascending by index, this node's own among them.
    hashes: BTreeMap<NodeId, VecDeque<(Index, u128)>>,
    /// Since when a difference is known that is not settled.
    open_since_ticks: Option<u64>,
    now_ticks: u64,
    /// For how many ticks a difference may stay open.
    patience_ticks: u64,
}

impl Agreement {
    /// Nothing is known yet.
    pub(super) fn new(id: NodeId, patience_ticks: u64) -> Agreement {
        Agreement { id, hashes: BTreeMap::new(), open_since_ticks: None, now_ticks: 0, patience_ticks }
    }

    /// This node, or a member of `configuration`, has this state after `index`.
    pub(super) fn told(&mut self, configuration: &Configuration, node: NodeId, index: Index, hash: u128) {
        if !configuration.contains(node) {
            return;
        }
        let hashes = self.hashes.entry(node).or_default();
        // A node that restarted tells again what it told before; the latest word counts.
        let at = hashes.partition_point(|(other, _)| *other < index);
        match hashes.get_mut(at) {
            Some(known) if known.0 == index => known.1 = hash,
            _ => hashes.insert(at, (index, hash)),
        }
        if hashes.len() > HASHES_KEPT {
            hashes.pop_front();
        }
        if self.differs_at(index) {
            self.open_since_ticks.get_or_insert(self.now_ticks);
        }
    }

    fn hash_at(&self, node: NodeId, index: Index) -> Option<u128> {
        let hashes = self.hashes.get(&node)?;
        let at = hashes.partition_point(|(other, _)| *other < index);
        hashes.get(at).filter(|(found, _)| *found == index).map(|(_, hash)| *hash)
    }

    /// What others say about an index that is settled is not asked again.
    fn forget(&mut self, index: Index, own: u128) {
        for hashes in self.hashes.values_mut() {
            hashes.retain(|(other, hash)| *other != index || *hash == own);
        }
    }

    fn differs_at(&self, index: Index) -> bool {
        let own = self.hash_at(self.id, index);
        own.is_some() && self.hashes.keys().any(|node| self.hash_at(*node, index).is_some_and(|hash| Some(hash) != own))
    }

    /// A tick passed.
    pub(super) fn tick(&mut self) {
        self.now_ticks += 1;
    }

    /// Settles a difference that is open, if it can be.
    ///
    /// # Errors
    ///
    /// It is this node that differs, or nobody can tell.
    pub(super) fn judge(&mut self, configuration: &Configuration) -> Result<(), Diverged> {
        let Some(since_ticks) = self.open_since_ticks else { return Ok(()) };
        let mut own_hashes = self.hashes.get(&self.id).into_iter().flatten().copied();
        let Some((index, own)) = own_hashes.find(|(index, _)| self.differs_at(*index)) else {
            self.open_since_ticks = None;
            return Ok(());
        };
        let has_majority = |hash: u128| configuration.has_quorum(|node| self.hash_at(node, index) == Some(hash));
        if has_majority(own) {
            self.forget(index, own); // whoever differs is wrong, and finds out by itself
            self.open_since_ticks = Some(self.now_ticks); // any other difference gets as long as this one had
            return Ok(());
        }
        let others: Vec<u128> = self.hashes.keys().filter_map(|node| self.hash_at(*node, index)).collect();
        if others.into_iter().any(has_majority) {
            return Err(Diverged { index, by_majority: true });
        }
        if self.now_ticks - since_ticks >= self.patience_ticks {
            return Err(Diverged { index, by_majority: false });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId::new(number).expect("not zero")
    }

    fn voters(count: u64) -> Configuration {
        Configuration::new((1..=count).map(node))
    }

    fn told(agreement: &mut Agreement, voters: &Configuration, index: u64, hashes: &[(u64, u128)]) {
        for (number, hash) in hashes {
            agreement.told(voters, node(*number), Index::new(index), *hash);
        }
    }

    #[test]
    fn the_one_that_differs_from_a_majority_stops_and_only_that_one() {
        for own in 1..=3 {
            let voters = voters(3);
            let mut agreement = Agreement::new(node(own), 5);
            told(&mut agreement, &voters, 8, &[(1, 70), (2, 70), (3, 70)]);
            assert_eq!(agreement.judge(&voters), Ok(()));
            told(&mut agreement, &voters, 16, &[(1, 71), (2, 99), (3, 71)]);
            let diverged = Err(Diverged { index: Index::new(16), by_majority: true });
            assert_eq!(agreement.judge(&voters), if own == 2 { diverged } else { Ok(()) }, "node {own}");
        }
    }

    #[test]
    fn without_a_majority_everyone_stops_after_a_while() {
        let voters = voters(3);
        let mut agreement = Agreement::new(node(1), 5);
        told(&mut agreement, &voters, 8, &[(1, 70), (2, 71)]);
        for _ in 0..5 {
            assert_eq!(agreement.judge(&voters), Ok(()), "the third may still settle it");
            agreement.tick();
        }
        assert_eq!(agreement.judge(&voters), Err(Diverged { index: Index::new(8), by_majority: false }));
    }

    #[test]
    fn a_learner_has_no_say_and_a_stranger_is_not_heard() {
        let configuration = voters(1).with_learners([node(2)]);
        let mut leader = Agreement::new(node(1), 5);
        told(&mut leader, &configuration, 8, &[(1, 70), (2, 71), (3, 72)]);
        assert_eq!(leader.judge(&configuration), Ok(()));
        let mut learner = Agreement::new(node(2), 5);
        told(&mut learner, &configuration, 8, &[(1, 70), (2, 71)]);
        assert!(learner.judge(&configuration).is_err());
    }

    #[test]
    fn what_is_kept_is_bounded_and_a_late_word_replaces_the_earlier() {
        let voters = voters(3);
        let mut agreement = Agreement::new(node(1), 5);
        for index in 1..=1_000 {
            told(&mut agreement, &voters, index, &[(1, 70), (2, 70)]);
        }
        assert!(agreement.hashes.values().all(|hashes| hashes.len() == HASHES_KEPT));
        told(&mut agreement, &voters, 999, &[(2, 71)]);
        assert_eq!(agreement.judge(&voters), Ok(()), "still open");
        told(&mut agreement, &voters, 999, &[(2, 70)]);
        assert_eq!(agreement.judge(&voters), Ok(()));
        assert!(agreement.open_since_ticks.is_none());
    }
}
