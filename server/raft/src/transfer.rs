//! Leadership transfer (thesis §3.10): bring the target up to date, take no proposals meanwhile, then let it campaign
//! at once with `TimeoutNow`. If that takes longer than an election timeout, go on as if nothing had been asked.

use crate::error::{Refused, TransferError};
use crate::message::Body;
use crate::raft::{Raft, State};
use crate::ready::Event;
use crate::types::{NodeId, Term};

/// A transfer under way.
#[derive(Clone, Copy, Hash, Debug)]
pub(crate) struct Transfer {
    target: NodeId,
    /// The tick in which it is given up.
    pub(crate) ends_at: u64,
}

impl Raft {
    /// Begins to hand leadership to `target`. It has happened when [`Status`](crate::Status) names another leader;
    /// [`Event::TransferAborted`] says that it will not.
    ///
    /// # Errors
    /// If this node does not lead, the target cannot, or another transfer is under way. Then nothing has changed.
    pub fn transfer_leadership(&mut self, target: NodeId) -> Result<(), TransferError> {
        let leader = self.leader();
        let State::Leader(leadership) = &mut self.state else {
            return Err(TransferError::NotLeader { leader });
        };
        if target == self.options.id {
            return Err(TransferError::ToSelf);
        }
        if !self.configuration.voters().contains(&target) {
            return Err(TransferError::NotAVoter);
        }
        if leadership.transfer.is_some() {
            return Err(TransferError::InProgress);
        }
        let ends_at = self.now + u64::from(self.options.election_timeout_ticks_min);
        leadership.transfer = Some(Transfer { target, ends_at });
        self.tell(Event::TransferStarted { target });
        self.maybe_send_timeout_now();
        Ok(())
    }

    /// Tells the target to campaign if it has the whole log. Called when it may have caught up, and with each
    /// heartbeat, because the message may be lost.
    pub(crate) fn maybe_send_timeout_now(&mut self) {
        let State::Leader(leadership) = &mut self.state else {
            return;
        };
        let Some(Transfer { target, .. }) = leadership.transfer else {
            return;
        };
        let last_index = self.log.last_index();
        if leadership.progress.get(&target).is_some_and(|peer| peer.match_index == last_index) {
            leadership.timeout_now_left = true;
            self.send(target, self.current_term, Body::TimeoutNow);
        }
    }

    /// Gives a transfer up when its time is over.
    pub(crate) fn maybe_abort_transfer(&mut self) {
        let State::Leader(leadership) = &mut self.state else {
            return;
        };
        if let Some(Transfer { target, ends_at }) = leadership.transfer
            && self.now >= ends_at
        {
            leadership.transfer = None;
            self.tell(Event::TransferAborted { target });
        }
    }

    /// TimeoutNow: our leader wants us to take over. No pre-vote, because it would be refused: a leader is alive.
    pub(crate) fn handle_timeout_now(&mut self, from: NodeId, term: Term) -> Result<(), Refused> {
        if !self.configuration.is_voter(self.options.id) {
            return Err(Refused::NotAVoter);
        }
        if term < self.current_term {
            return Err(Refused::StaleTerm);
        }
        // A leader asks only those who acknowledged something of its log in its term, so they know it.
        if term > self.current_term || self.leader() != Some(from) {
            return Err(Refused::NotOurLeader);
        }
        if self.is_recovering() {
            return Err(Refused::Recovering);
        }
        if self.is_disk_stalled() {
            // It could not win, for its vote for itself waits for the disk, and its new term would depose the leader.
            return Err(Refused::DiskStalled);
        }
        self.become_candidate(true);
        Ok(())
    }
}
