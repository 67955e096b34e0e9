//! Elections (§5.2, §5.4.1), with the pre-vote, check-quorum and stickiness that keep them rare.
//!
//! A node that hears of no leader first asks whether it would be elected (pre-vote, thesis §9.6), so that one that
//! was cut off does not come back with a higher term and depose a leader that everyone else is content with. Those
//! who heard of a leader within the shortest election timeout refuse (stickiness, §6). A leader that hears of no
//! quorum steps down (check-quorum, thesis §6.2), so that stickiness to it ends where it can do nothing anyway.
//!
//! Who is told that the leader's process has ended does not wait for a timeout: see [`Raft::peer_gone`]. Nor does who
//! refuses a pre-vote only because its own log is better: see `Raft::ask_again_after`. So campaigns follow each other
//! closely, and who has just voted refuses the next: see [`Raft::is_electing`]. With leases, a promise
//! comes before all of this: see `lease`.

use crate::configuration::Ballot;
use crate::error::Refused;
use crate::message::Body;
use crate::raft::{Raft, State};
use crate::read_index::Asking;
use crate::ready::Event;
use crate::replication::Leadership;
use crate::status::Role;
use crate::types::{NodeId, Payload, Term};
use alloc::collections::BTreeMap;

/// Who answered a campaign, and what.
pub(crate) type Votes = BTreeMap<NodeId, bool>;

/// Voters that learn of a leader's end at the same time campaign one after the other, so that they do not split the
/// votes: each waits for this part of the shortest election timeout longer than the one before it, in which an election
/// is over.
const TURNS_PER_TIMEOUT: u32 = 16;

/// An election is left alone for one of so many parts of the shortest election timeout: see [`Raft::is_electing`].
const ELECTIONS_PER_TIMEOUT: u32 = 2;

impl Raft {
    /// The process of `peer` has ended, for all that its host tells: its connections broke, and its address takes no
    /// new ones. If it led, this node forgets it and campaigns in its turn among the other voters, beginning with the
    /// next tick, in place of waiting for a heartbeat until the election timeout. Of anyone else it means nothing.
    ///
    /// It is a hint, and may be wrong or late. It changes neither term nor vote, and the campaign begins with a
    /// pre-vote as ever, which those who hear of the leader refuse: a leader that lives is replaced only if a majority
    /// was told of its end.
    pub fn peer_gone(&mut self, peer: NodeId) {
        let before = self.observe();
        if self.role() == Role::Follower && self.leader() == Some(peer) {
            self.become_follower(self.current_term, None);
            self.gone = Some(peer);
            let promised_ticks = u32::try_from(self.promised_until.saturating_sub(self.now)).unwrap_or(u32::MAX);
            let turn_ticks = self.ticks_before_own_turn(None);
            let ticks = turn_ticks.saturating_add(promised_ticks.max(1));
            self.election_elapsed_ticks = 0;
            self.election_timeout_ticks = ticks.min(self.options.election_timeout_ticks_max);
        }
        self.verify(&before);
    }

    /// How long a turn is: see [`TURNS_PER_TIMEOUT`].
    fn turn_ticks(&self) -> u32 {
        (self.options.election_timeout_ticks_min / TURNS_PER_TIMEOUT).max(1)
    }

    /// How long the voters before this one have to be elected. `asker` cannot be, nor can the leader that is gone.
    fn ticks_before_own_turn(&self, asker: Option<NodeId>) -> u32 {
        let own = self.options.id;
        let is_before = |id: &&NodeId| **id < own && Some(**id) != asker && Some(**id) != self.gone;
        let turn = u32::try_from(self.configuration.all_voters().iter().filter(is_before).count());
        turn.unwrap_or(u32::MAX).saturating_mul(self.turn_ticks())
    }

    /// Has refused `asker` a pre-vote for its log alone. So neither hears of a leader, and of the two only this node
    /// can be elected; but it may have asked too early, when `asker` still heard of the leader and refused. Both would
    /// wait for an election timeout. So it asks again, in its turn among the voters that may have refused as well.
    ///
    /// A timer that runs out early is as safe as any: the campaign is the one of an election timeout and begins with a
    /// pre-vote, so neither term nor vote changes before a majority hears of no leader. What still comes of the
    /// pre-vote before is about the same term, and is no vote. It comes to an end: only a better log is woken, and by
    /// what it asks nobody whose log is worse. A turn at least lies between two campaigns.
    fn ask_again_after(&mut self, asker: NodeId) {
        assert!(!self.hears_of_leader(), "who hears of a leader refuses for that");
        if self.is_electing() || self.role() == Role::Candidate {
            return; // That election may be won yet.
        }
        let earliest = self.election_elapsed_ticks.saturating_add(1).max(self.turn_ticks());
        let ticks = earliest.saturating_add(self.ticks_before_own_turn(Some(asker)));
        self.election_timeout_ticks = self.election_timeout_ticks.min(ticks);
    }

    /// A tick of a node that does not lead.
    pub(crate) fn tick_election(&mut self) {
        self.election_elapsed_ticks = self.election_elapsed_ticks.saturating_add(1);
        if self.election_elapsed_ticks < self.election_timeout_ticks {
            self.ask_again();
            return;
        }
        if self.has_promised() {
            return;
        }
        if self.is_recovering() {
            // It could lack what is committed, and what it says of its log is not what it acknowledged.
            self.become_follower(self.current_term, None);
            return;
        }
        if self.configuration.is_voter(self.options.id) && !self.is_disk_stalled() {
            self.become_pre_candidate();
        } else {
            // A learner never campaigns, nor does a node that would have to step down again at once. It only stops
            // believing in its leader, or in its campaign.
            self.become_follower(self.current_term, None);
        }
    }

    /// Asks whether it would be elected. Neither term nor vote changes.
    pub(crate) fn become_pre_candidate(&mut self) {
        assert!(!self.is_leader(), "a leader does not campaign");
        assert!(self.configuration.is_voter(self.options.id), "only voters campaign");
        let Some(term) = self.current_term.next() else {
            return; // The last term there is; peers are refused long before they could bring us here.
        };
        self.restart_election_timer();
        self.tell(Event::PreCampaign { term });
        self.pre_vote_term = term;
        self.change_state(State::PreCandidate { votes: Votes::from([(self.options.id, true)]) });
        self.request_votes(term, true, false);
        self.maybe_win_pre_vote();
    }

    /// Campaigns: a new term, and its own vote for itself (§5.2). `leadership_transfer` if the leader asked for it.
    pub(crate) fn become_candidate(&mut self, leadership_transfer: bool) {
        assert!(!self.is_leader(), "a leader does not campaign");
        assert!(self.configuration.is_voter(self.options.id), "only voters campaign");
        assert!(!self.is_recovering(), "who may have forgotten a vote does not campaign");
        assert!(leadership_transfer || !self.has_promised(), "who promised to elect nobody does not campaign");
        let Some(term) = self.current_term.next() else {
            return; // As above.
        };
        self.restart_election_timer();
        self.enter_term(term);
        self.voted_for = Some(self.options.id);
        self.tell(Event::Campaign { term });
        self.tell(Event::VoteGranted { term, candidate: self.options.id });
        // SAFETY(raft §5.2): its own vote is not counted yet. It is a vote like any other and has to be durable, or a
        // restart could give a second one in the same term; see `maybe_count_own_vote`.
        self.change_state(State::Candidate { votes: Votes::new() });
        self.request_votes(term, false, leadership_transfer);
        assert!(self.voted_for == Some(self.options.id) && self.current_term == term);
    }

    /// Was elected: leads, and writes an entry of its own term (§5.4.2, §8).
    fn become_leader(&mut self) {
        assert_eq!(self.role(), Role::Candidate, "only a candidate is elected");
        assert_eq!(self.voted_for, Some(self.options.id), "a leader voted for itself");
        let mut members = self.configuration.members();
        members.remove(&self.options.id);
        self.change_state(State::Leader(Leadership::new(members, self.log.last_index(), self.now)));
        self.tell(Event::BecameLeader { term: self.current_term });
        self.append_own(Payload::Noop);
    }

    /// Follows `leader`, or nobody yet, in `term`, which is not below the current one.
    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        let changes =
            term > self.current_term || self.role() != Role::Follower || (leader.is_some() && leader != self.leader());
        if term > self.current_term {
            self.enter_term(term);
        }
        assert_eq!(self.current_term, term, "terms never fall");
        let led = self.is_leader();
        self.change_state(State::Follower { leader, has_voted: false, asking: Asking::default() });
        if led {
            // Its timer stood still. What it has of its own term it has from itself.
            self.restart_election_timer();
        }
        if changes {
            self.tell(Event::BecameFollower { term, leader });
        }
    }

    /// Gives a role up for another, and with it the reads whose confirmation can no longer come.
    fn change_state(&mut self, state: State) {
        let mut aborted = match core::mem::replace(&mut self.state, state) {
            State::Leader(mut leadership) => leadership.reads.abort(),
            State::Follower { mut asking, .. } => asking.abort(),
            State::PreCandidate { .. } | State::Candidate { .. } => return,
        };
        self.outbox.aborted_reads.append(&mut aborted);
    }

    /// A later term (§5.1): nothing of the old one holds.
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term > self.current_term, "terms only rise");
        self.current_term = term;
        // SAFETY(raft §5.2): the only place where a vote is forgotten, so never within a term.
        self.voted_for = None;
        self.verified = self.log.commit_index();
        // Promises that have not left are worth nothing in the new term, and what they promised may be dropped from
        // the log before it was ever handed to the disk.
        self.outbox.messages_after_persist.clear();
    }

    fn restart_election_timer(&mut self) {
        let Self { options, .. } = self;
        self.election_elapsed_ticks = 0;
        self.election_timeout_ticks =
            self.random.between(options.election_timeout_ticks_min, options.election_timeout_ticks_max);
    }

    /// Waits for an election timeout from now on: there is a leader, or soon will be. A timeout that was cut short for
    /// the end of the last one is over.
    pub(crate) fn put_election_off(&mut self) {
        if self.election_timeout_ticks < self.options.election_timeout_ticks_min {
            self.restart_election_timer();
        }
        self.election_elapsed_ticks = 0;
    }

    fn request_votes(&mut self, term: Term, pre_vote: bool, leadership_transfer: bool) {
        let (last_log_index, last_log_term) = (self.log.last_index(), self.log.last_term());
        for to in self.configuration.all_voters() {
            if to == self.options.id {
                continue;
            }
            let body = Body::RequestVote { pre_vote, last_log_index, last_log_term, leadership_transfer };
            if pre_vote {
                self.send(to, term, body);
            } else {
                // SAFETY(raft §5.2): asking with a vote for oneself is a promise to vote for nobody else.
                self.send_after_persist(to, body);
            }
        }
    }

    /// Whether a leader is alive, as far as this node knows.
    fn hears_of_leader(&self) -> bool {
        match self.state {
            State::Leader(_) => true, // Check-quorum ends its leadership when this stops being true.
            State::Follower { leader, .. } => {
                leader.is_some() && self.election_elapsed_ticks < self.options.election_timeout_ticks_min
            }
            State::PreCandidate { .. } | State::Candidate { .. } => false,
        }
    }

    /// Whether an election is under way that this node voted in. Who won it has to be heard of first: the next
    /// candidate's later term would depose a leader that has only just been elected. So it grants no pre-vote
    /// meanwhile, as if it heard of a leader already, and does not ask for any either. Half of the shortest election
    /// timeout is many round trips, and over before any voter of this election campaigns again should it fail.
    pub fn is_electing(&self) -> bool {
        let has_voted = match self.state {
            State::Follower { has_voted, .. } => has_voted,
            State::Candidate { .. } => true,
            State::PreCandidate { .. } | State::Leader(_) => false,
        };
        has_voted && self.election_elapsed_ticks < self.options.election_timeout_ticks_min / ELECTIONS_PER_TIMEOUT
    }

    /// RequestVote, receiver (Figure 2), and its pre-vote (thesis §9.6).
    pub(crate) fn handle_vote_request(
        &mut self,
        from: NodeId,
        term: Term,
        pre_vote: bool,
        up_to_date: bool,
        leadership_transfer: bool,
    ) -> Result<(), Refused> {
        if !self.configuration.is_voter(from) || !self.configuration.is_voter(self.options.id) {
            return Err(Refused::NotAVoter);
        }
        // SAFETY(thesis §6.4.1): a leader's lease rests on this promise, whatever else is known of that leader.
        let has_promised = self.has_promised() && !leadership_transfer;
        let is_sticky = self.hears_of_leader() && !leadership_transfer;
        if term > self.current_term && (has_promised || is_sticky) {
            // Neither a vote nor the new term. A pre-vote changes nothing anyway; it is worth a word of refusal.
            if pre_vote {
                self.send(from, self.current_term, Body::RequestVoteResponse { pre_vote, granted: false });
                return Ok(());
            }
            return Err(Refused::LeaderAlive);
        }
        if self.is_recovering() {
            self.refuse_to_vote(from, term, pre_vote);
            return Ok(());
        }
        if pre_vote {
            let granted = term > self.current_term && up_to_date && !self.is_electing();
            // A refusal carries our term, so that an asker that is behind catches up and can win later.
            let answer_term = if granted { term } else { self.current_term };
            self.send(from, answer_term, Body::RequestVoteResponse { pre_vote, granted });
            if term > self.current_term && !up_to_date {
                self.ask_again_after(from);
            }
            return Ok(());
        }
        if term > self.current_term {
            self.become_follower(term, None);
        }
        // SAFETY(raft §5.2): at most one candidate gets the vote of a term. The same one gets the same answer again.
        let free = self.voted_for.is_none() && self.leader().is_none();
        let may_vote = term == self.current_term && (free || self.voted_for == Some(from));
        // SAFETY(raft §5.4.1): the log of a new leader holds every committed entry.
        if may_vote && up_to_date && !has_promised {
            if self.voted_for.is_none() {
                self.tell(Event::VoteGranted { term, candidate: from });
            }
            if self.role() == Role::PreCandidate {
                // It has found its candidate: going on would depose the leader that it helps to elect.
                self.become_follower(term, None);
            }
            if let State::Follower { has_voted, .. } = &mut self.state {
                *has_voted = true;
            }
            self.voted_for = Some(from);
            self.put_election_off();
            self.send_after_persist(from, Body::RequestVoteResponse { pre_vote, granted: true });
        } else {
            self.send(from, self.current_term, Body::RequestVoteResponse { pre_vote, granted: false });
        }
        Ok(())
    }

    /// An answer to a pre-vote.
    pub(crate) fn handle_pre_vote_response(&mut self, from: NodeId, term: Term, granted: bool) -> Result<(), Refused> {
        if !self.configuration.is_voter(from) {
            return Err(Refused::NotAVoter);
        }
        if !granted && term > self.current_term {
            // We were behind: with this term the next pre-vote can be granted.
            return self.learn_term(term);
        }
        let never_asked = if granted { term > self.pre_vote_term } else { self.pre_vote_term == Term::ZERO };
        if never_asked {
            return Err(Refused::UnexpectedKind);
        }
        let answers = if granted { Some(term) == self.current_term.next() } else { term == self.current_term };
        match &mut self.state {
            State::PreCandidate { votes } if answers => {
                votes.entry(from).or_insert(granted);
                self.maybe_win_pre_vote();
            }
            // Late: the ballot was decided without it, as every third answer of three nodes is.
            State::Follower { .. } | State::PreCandidate { .. } | State::Candidate { .. } | State::Leader(_) => {}
        }
        Ok(())
    }

    /// RequestVote, the candidate's side (Figure 2).
    pub(crate) fn handle_vote_response(&mut self, from: NodeId, term: Term, granted: bool) -> Result<(), Refused> {
        if !self.configuration.is_voter(from) {
            return Err(Refused::NotAVoter);
        }
        if term > self.current_term {
            return self.learn_term(term);
        }
        if term < self.current_term {
            return Err(Refused::StaleTerm);
        }
        let asked = self.has_campaigned();
        let State::Candidate { votes } = &mut self.state else {
            // Late, as above, unless it never asked.
            return if asked { Ok(()) } else { Err(Refused::UnexpectedKind) };
        };
        if granted && !votes.contains_key(&from) {
            self.outbox.events.push(Event::VoteReceived { term, from });
        }
        votes.entry(from).or_insert(granted);
        self.maybe_win_election();
        Ok(())
    }

    /// An answer to a vote request tells of a later term (§5.1). One that comes when its campaign is over, and a leader
    /// is alive, is as little a reason to leave that leader as a request of the term would be.
    fn learn_term(&mut self, term: Term) -> Result<(), Refused> {
        if self.hears_of_leader() || self.has_promised() {
            return Err(Refused::LeaderAlive);
        }
        self.become_follower(term, None);
        Ok(())
    }

    /// Whether this node campaigned in the current term: it votes for itself only then.
    pub(crate) fn has_campaigned(&self) -> bool {
        self.voted_for == Some(self.options.id)
    }

    /// Counts a candidate's own vote as soon as it is durable.
    pub(crate) fn maybe_count_own_vote(&mut self) {
        let id = self.options.id;
        if self.staging.durable_ballot() != (self.current_term, Some(id)) {
            return;
        }
        let State::Candidate { votes } = &mut self.state else {
            return;
        };
        if votes.insert(id, true).is_none() {
            self.outbox.events.push(Event::VoteReceived { term: self.current_term, from: id });
            self.maybe_win_election();
        }
    }

    fn maybe_win_pre_vote(&mut self) {
        let State::PreCandidate { votes } = &self.state else {
            return;
        };
        match self.configuration.ballot(|id| votes.get(&id).copied()) {
            Ballot::Won => self.become_candidate(false),
            // Waits for what is left of its timeout, and learns meanwhile who leads.
            Ballot::Lost => self.become_follower(self.current_term, None),
            Ballot::Open => {}
        }
    }

    fn maybe_win_election(&mut self) {
        let State::Candidate { votes } = &self.state else {
            return;
        };
        match self.configuration.ballot(|id| votes.get(&id).copied()) {
            Ballot::Won => self.become_leader(),
            Ballot::Lost => self.become_follower(self.current_term, None),
            Ballot::Open => {}
        }
    }
}
