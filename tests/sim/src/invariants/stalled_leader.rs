//! A leader whose disk stands still gives way, unless nobody could take over without it.

use raft::{Role, Term};

use super::View;
use crate::node::node_id;
use crate::violation::Violation;

/// After so many of the longest election timeouts, on its own clock, at the latest.
const TIMEOUTS_MAX: u32 = 2;

/// What is remembered of the disk of each node that leads.
pub(crate) struct StalledLeader {
    /// Since when a leader's disk has not got on: its term, how much was durable, and how many ticks ago.
    silent: Vec<(Term, usize, u32)>,
    ticks_max: u32,
    voters: usize,
}

impl StalledLeader {
    pub(crate) fn new(size: usize, voters: usize, election_timeout_ticks_max: u32) -> StalledLeader {
        let ticks_max = TIMEOUTS_MAX * election_timeout_ticks_max;
        StalledLeader { silent: vec![(Term::ZERO, 0, 0); size], ticks_max, voters }
    }

    /// A tick of a node passed, and it did what came of it. What a leader has in its log and not on its disk, its disk
    /// was given.
    pub(crate) fn ticked(&mut self, node: usize, view: &View) -> Result<(), Violation> {
        let (term, durable, ticks) = &mut self.silent[node];
        let waits = view.role == Role::Leader && view.durable < view.log.len();
        if !waits || (*term, *durable) != (view.term, view.durable) {
            (*term, *durable, *ticks) = (view.term, view.durable, 0);
            return Ok(());
        }
        *ticks += 1;
        // One of two is needed by whoever would take over.
        if *ticks > self.ticks_max && self.voters > 2 {
            return Err(Violation::StalledLeaderStays { node: node_id(node), term: view.term, ticks: *ticks });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::view::made::view;

    #[test]
    fn a_leader_may_wait_for_its_disk_but_not_for_ever() {
        let mut checks = StalledLeader::new(1, 3, 10);
        let mut leader = view(Role::Leader, 4, &[1, 4, 4], 1);
        assert!((0..99).all(|_| checks.ticked(0, &leader).is_ok()), "nothing waits");
        leader.durable = 1;
        assert!((0..21).all(|_| checks.ticked(0, &leader).is_ok()), "two timeouts are not over");
        leader.durable = 2;
        assert!((0..21).all(|_| checks.ticked(0, &leader).is_ok()), "it gets on");
        let stays = Violation::StalledLeaderStays { node: node_id(0), term: Term::new(4), ticks: 21 };
        assert_eq!(checks.ticked(0, &leader), Err(stays));
        leader.role = Role::Follower;
        assert_eq!(checks.ticked(0, &leader), Ok(()), "it gave way");
        leader.role = Role::Leader;
        let mut pair = StalledLeader::new(1, 2, 10);
        assert!((0..99).all(|_| pair.ticked(0, &leader).is_ok()), "nobody could take over");
    }
}
