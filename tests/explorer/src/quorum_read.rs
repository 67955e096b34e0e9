//! Reads without a leader, beside the cluster: they look at nodes and change nothing.
//!
//! Every command writes the key that is read, and what a leader writes by itself does not. A read takes witnesses as
//! the real core gives them, one node's at a time while everything else goes on, and gives them to the real
//! [`raft::Poll`]. Once that names what a state must have applied, it must be no less than the last command that was
//! committed when the read began.
//!
//! # What is left out because it adds nothing
//!
//! - That a read begins, and asks later: one that begins with its first witness has as much to see, or more.
//! - That a node is asked twice: a poll keeps its lowest word, and it may have given just that one.
//! - That a read asks on when a majority has answered: what more words can lower it to, fewer could have.
//! - What comes after a read: it is what can happen without it.

use crate::bounds::NODES_MAX;
use crate::cluster::{Committed, Ghost};
use crate::invariant::{Broken, Invariant};
use crate::node::{Node, name, small};
use crate::story;
use raft::{Configuration, ConfigurationId, Index, Poll, Witness};

/// A read that has begun, and no majority has answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct QuorumRead {
    /// The index of the last command that was committed when it began.
    written: u8,
    /// What each node has said, by number.
    witnesses: [Option<Witness>; NODES_MAX],
}

impl QuorumRead {
    /// Of a key that was written; before that there is nothing to miss.
    fn begin(ledger: &[Committed]) -> Option<QuorumRead> {
        let last = ledger.iter().rposition(|committed| committed.slot.is_command())?;
        Some(QuorumRead { written: small(last as u64 + 1), witnesses: [None; NODES_MAX] })
    }

    fn words(&self) -> impl Iterator<Item = (usize, &Witness)> {
        self.witnesses.iter().enumerate().filter_map(|(at, witness)| Some((at, witness.as_ref()?)))
    }

    fn needed(&self, configuration: &Configuration) -> Option<Index> {
        let mut poll = Poll::new(ConfigurationId::default());
        for (at, witness) in self.words() {
            poll.note(name(at), witness);
        }
        poll.needed(configuration)
    }
}

/// The read after it has asked node number `at` too; `None` if it is at its end, or there is nothing to ask.
pub(crate) fn ask(ghost: &Ghost, at: usize, node: &Node) -> Result<Option<QuorumRead>, Broken> {
    let Some(mut read) = ghost.read.clone().or_else(|| QuorumRead::begin(&ghost.ledger)) else { return Ok(None) };
    let Some(witness) = node.view.witness.filter(|_| read.witnesses[at].is_none()) else { return Ok(None) };
    read.witnesses[at] = Some(witness);
    match read.needed(node.configuration()) {
        None => Ok(Some(read)),
        Some(needed) if needed.get() >= u64::from(read.written) => Ok(None),
        Some(needed) => {
            let words = read.words().map(|(at, word)| format!("n{}: {}", at + 1, story::describe_witness(word)));
            let words = words.collect::<Vec<_>>().join("; ");
            let written = read.written;
            let text =
                format!("a read may be served at {needed}, but {written} was committed before it began ({words})");
            Err(Broken::new(Invariant::QuorumRead, text))
        }
    }
}
