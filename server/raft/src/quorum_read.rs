//! Linearizable reads without a leader: what a majority of logs proves about one key.
//!
//! Not in the paper. A read that asks a leader (§8, see `reads`) has to wait while there is none. This one asks voters
//! for two indexes each, and needs nobody to lead, no clock and no term.
//!
//! # The protocol
//!
//! After the read has begun, voters are asked for a [`Witness`] each: how far the state is (`applied`), and which is
//! the last entry of the log behind that which may touch the key (`pending`), durable or not, committed or not. The
//! greater of the two is the witness's *floor*. [`Poll::needed`] is the least index that covers the floors of a
//! majority (of both majorities while the configuration is joint). The read may return the key as it is in **any**
//! state that has applied that index, whenever it has, whoever's state it is; and no other.
//!
//! # Why it is safe
//!
//! *What was acknowledged before the read began is seen.* Let the last such write of the key be entry i. When it was
//! acknowledged it was committed: durable in the logs of a majority, which every other majority meets. Take the voter
//! in both: its witness was given later, so its log has entry i (a committed entry never leaves a log, §5.4, and a
//! node that may have lost a part of its log gives no witness). Either its state has applied i, and then `applied` is
//! at least i, or it has not, and then i is behind `applied` and touches the key, so `pending` is at least i. So its
//! floor is at least i, and so is what covers the floors of the whole majority.
//!
//! *What another read has returned is seen.* It came from an applied state, so the write that it showed was committed
//! then, and the argument above holds for it as for an acknowledged one.
//!
//! *Nothing is seen that was not written, or in another order*: applied states are prefixes of one sequence (§5.4.3).
//!
//! # What looks dangerous and is not
//!
//! - **Indexes are compared, never (term, index).** A stale tail of a higher term must not hide a committed write at
//!   a higher index; and a floor that is too high only makes the read wait.
//! - **Witnesses of different moments are mixed**, and each voter's lowest floor is kept. Every witness that is given
//!   after the read began is true of everything before the read, so each is as good as any other. That is how a read
//!   goes on when the entry that it waited for has vanished with the next leader: witnesses are asked for again, and
//!   the new ones do not know it any more. Nothing but a witness ever lowers a floor.
//! - **The coordinator's own state is used later than its own witness was given.** A state only grows.
//! - **A pending entry may never be committed**, and then the read waits for what never comes, unless a majority knows
//!   nothing of it or it vanishes. So a read of a key that is being written while there is no leader waits for one.
//! - **A leader that is cut off knows the key in a state that is long out of date.** Nobody asks who leads.
//!
//! # What would break it
//!
//! A minority of witnesses; a tail that is left out; a learner's witness, whose log nobody counted when the write was
//! committed; the witness of a node that has forgotten what it acknowledged; the witness of a voter of one
//! configuration counted in another; an answer to a question that was asked before the read began. The first five are
//! refused here and by [`Raft::witness`], the last by whoever numbers the questions.

use crate::configuration::Configuration;
use crate::raft::Raft;
use crate::types::{Entry, Index, NodeId, Term};
use alloc::vec::Vec;

/// Which configuration a node goes by: the term and index of its entry in the log; zeros for the first one, which is
/// given and not logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ConfigurationId {
    /// The term of the entry.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

/// What one voter says of its state and its log, about one key, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Witness {
    /// The configuration that the voter goes by.
    pub configuration: ConfigurationId,
    /// The last entry applied to its state.
    pub applied: Index,
    /// The last entry of its log behind `applied` that may touch the key; zero if none does.
    pub pending: Index,
}

impl Witness {
    /// No write that this log knows of the key is behind this index.
    fn floor(&self) -> Index {
        self.applied.max(self.pending)
    }
}

/// The witnesses of one read.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Poll {
    configuration: ConfigurationId,
    /// The lowest floor of each voter that has answered.
    floors: Vec<(NodeId, Index)>,
}

impl Poll {
    /// Of a read that begins now, in this configuration.
    pub fn new(configuration: ConfigurationId) -> Poll {
        Poll { configuration, floors: Vec::new() }
    }

    /// Takes a witness that `from` gave after the read began; whether it counts.
    pub fn note(&mut self, from: NodeId, witness: &Witness) -> bool {
        // SAFETY: majorities of different configurations need not meet.
        if witness.configuration != self.configuration {
            return false;
        }
        let floor = witness.floor();
        match self.floors.iter_mut().find(|(node, _)| *node == from) {
            Some((_, lowest)) => *lowest = floor.min(*lowest),
            None => self.floors.push((from, floor)),
        }
        true
    }

    /// What a state must have applied before it may be read from; `None` as long as no majority has answered.
    ///
    /// Quadratic in a handful of voters.
    pub fn needed(&self, configuration: &Configuration) -> Option<Index> {
        let floor_of = |id: NodeId| self.floors.iter().find(|(node, _)| *node == id).map(|(_, floor)| *floor);
        let covers = |index: Index| configuration.has_quorum(|id| floor_of(id).is_some_and(|floor| floor <= index));
        self.floors.iter().map(|(_, floor)| *floor).filter(|&index| covers(index)).min()
    }
}

impl Raft {
    /// Which configuration this node goes by.
    pub fn configuration_id(&self) -> ConfigurationId {
        ConfigurationId::default()
    }

    /// What this node says about a key whose last entry behind the applied ones is `pending` (zero if there is none);
    /// `None` if its word does not count.
    pub fn witness(&self, pending: Index) -> Option<Witness> {
        // SAFETY: a learner's log was not counted when a write was committed, and a node that is recovering may have
        // forgotten what was counted of it.
        if self.is_recovering() || !self.configuration.is_voter(self.options.id) {
            return None;
        }
        Some(Witness { configuration: self.configuration_id(), applied: self.log.applied(), pending })
    }

    /// The entries of the log behind `index`, which is applied or behind what is: oldest first.
    pub fn entries_behind(&self, index: Index) -> impl Iterator<Item = &Entry> {
        self.log.tail_behind(index.max(self.log.applied()))
    }
}
