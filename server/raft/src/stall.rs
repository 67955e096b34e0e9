//! A disk that stands still (not in the paper, which has no time for a write).
//!
//! A leader's heartbeats need no disk, and a majority of others commits without its own. So a leader whose disk has
//! stopped would lead on for ever: with one copy less than everybody believes there to be, with a log in memory that
//! only grows, and useless as soon as one more disk is needed. It steps down instead when something was on its way to
//! the disk for the longest election timeout, and in all that time nothing arrived.
//!
//! - **It asks its best follower to take over** as it goes, with the `TimeoutNow` of a leadership transfer, so that
//!   nobody has to miss it first. Best is who acknowledged most of its log. If that follower cannot win, or never hears
//!   of it, the election timeouts of all are what is left, as for any leader that is gone.
//! - **It does not campaign** while the disk stands still, and refuses `TimeoutNow`. Its vote for itself waits for the
//!   disk, so it could not win; and if the disk just managed that one write, it would lead only to step down again. It
//!   goes on to follow and to vote. Its votes and acknowledgements wait for the disk as ever.
//! - **It stays if the others are no majority without it**, alone or as one of two. Nobody could take over without its
//!   vote, which waits for the same disk; all that would be lost is the reads, which it can still confirm.
//!
//! A leader with nothing to write learns nothing of its disk, and has nothing to fear from it.

use crate::message::Body;
use crate::raft::{Raft, State};
use crate::ready::Event;
use crate::types::{Index, NodeId};

impl Raft {
    /// Whether nothing became durable for the longest election timeout although something should have. Less would be
    /// hasty: that is how long the others may take to miss a leader, too.
    pub(crate) fn is_disk_stalled(&self) -> bool {
        self.staging.silent_ticks() >= self.options.election_timeout_ticks_max
    }

    /// Whether someone else could be elected without this node's vote.
    pub(crate) fn can_be_replaced(&self) -> bool {
        self.configuration.has_quorum(|id| id != self.options.id)
    }

    /// A leader with a stalled disk steps down, and says who should campaign.
    pub(crate) fn give_way(&mut self) {
        let term = self.current_term;
        self.tell(Event::DiskStalled { term });
        if let Some(successor) = self.best_follower() {
            self.send(successor, term, Body::TimeoutNow);
        }
        self.become_follower(term, None);
    }

    /// The voter that acknowledged most of this leader's log; of several the one heard of last. None that acknowledged
    /// nothing: it may not even know who leads.
    fn best_follower(&self) -> Option<NodeId> {
        let State::Leader(leadership) = &self.state else {
            return None;
        };
        let voters = leadership.progress.iter().filter(|(id, _)| self.configuration.is_voter(**id));
        let candidates = voters.filter(|(_, peer)| peer.match_index > Index::ZERO);
        candidates.max_by_key(|(_, peer)| (peer.match_index, peer.heard_at)).map(|(&id, _)| id)
    }
}
