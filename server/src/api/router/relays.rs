//! Through whom a node asks the leader that it does not reach itself.
//!
//! Which member reaches a leader nobody knows but that member, and that it is reached itself is known only once it has
//! answered: a link that has just been cut looks like any other. So before the first request a member is asked whether
//! it would pass one on, with a question that does no harm if it gets lost. If no other is led either, as in every
//! election, that is in vain, and with many requests waiting it would be in vain many times: so at most one request in
//! a [`RETRY_PAUSE`] asks, each time the next member, and the others wait. Once a member has said that it would, all go
//! through it, until it fails or this node follows another leader or none.
//!
//! Members do not miss a leader at the same time. Whoever is asked while it still believes in one that has vanished
//! would pass requests on into nothing, and then their outcome is unknown, where a little patience would have found the
//! next leader. So when no leader is known, nobody is asked before the others must have missed it too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::api::limits::RETRY_PAUSE;
use crate::node::NodeStatus;

/// What a node knows of its relays.
#[derive(Debug)]
pub(super) struct Relays {
    /// How long no leader has to be known before a member is asked: by how much the times differ at most after which
    /// members miss a leader.
    grace: Duration,
    state: Mutex<State>,
    /// The member that said that it would pass requests on, and has not failed since.
    willing: watch::Sender<Option<String>>,
}

/// Whom to go to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    /// It passes requests on.
    Willing(String),
    /// It has to be asked first.
    Unasked(String),
}

#[derive(Debug)]
struct State {
    /// Who leads, and since when that is so.
    leader: Option<String>,
    since: Instant,
    /// Nobody is asked before, if anybody was.
    next_question: Option<Instant>,
    /// How many questions were asked.
    questions: usize,
}

impl Relays {
    /// Of a node that has just been started, in a cluster whose shortest election timeout is `election_timeout`. The
    /// longest is twice as long.
    pub(super) fn new(election_timeout: Duration) -> Self {
        let state = State { leader: None, since: Instant::now(), next_question: None, questions: 0 };
        Self { grace: election_timeout, state: Mutex::new(state), willing: watch::Sender::new(None) }
    }

    /// Follows who leads, as long as the node is there.
    pub(super) async fn follow(&self, mut status: watch::Receiver<NodeStatus>) {
        let name = |status: &NodeStatus| status.leader.as_ref().map(|leader| leader.name.clone());
        loop {
            let leader = name(&status.borrow_and_update());
            self.note_leader(leader.clone(), Instant::now());
            if status.wait_for(|status| name(status) != leader).await.is_err() {
                return;
            }
        }
    }

    fn note_leader(&self, leader: Option<String>, now: Instant) {
        let mut state = self.lock();
        if state.leader != leader {
            (state.leader, state.since) = (leader, now);
            // Whoever passed on to the one before may not know this one.
            self.willing.send_replace(None);
        }
    }

    /// Which of `members` to go to now, if any, for a node that does not reach `leader`, or knows none.
    pub(super) fn next(&self, leader: Option<&str>, members: Vec<String>, now: Instant) -> Option<Choice> {
        let willing = self.willing.borrow().clone();
        if let Some(willing) = willing {
            if members.contains(&willing) {
                return Some(Choice::Willing(willing));
            }
            self.note(&willing, false);
        }
        let mut state = self.lock();
        // Whoever asks may have learnt before this that there is no leader any more.
        let is_missed_by_all = state.leader.is_none() && now.saturating_duration_since(state.since) >= self.grace;
        let is_due = state.next_question.is_none_or(|at| now >= at);
        if members.is_empty() || !is_due || (leader.is_none() && !is_missed_by_all) {
            return None;
        }
        state.next_question = Some(now + RETRY_PAUSE);
        state.questions = state.questions.wrapping_add(1);
        let turn = state.questions % members.len();
        members.into_iter().nth(turn).map(Choice::Unasked)
    }

    /// `member` passes requests on, or does not, or not any more.
    pub(super) fn note(&self, member: &str, passes_on: bool) {
        self.willing.send_if_modified(|willing| {
            if passes_on {
                willing.replace(member.to_owned()).as_deref() != Some(member)
            } else {
                willing.take_if(|willing| willing == member).is_some()
            }
        });
    }

    /// Waits until a member is known to pass requests on.
    pub(super) async fn found(&self) {
        // The sender is here, so it cannot be gone.
        let _ = self.willing.subscribe().wait_for(Option::is_some).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, and every single change leaves a usable state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(500);

    /// The relays of a node and its clock.
    struct Model {
        relays: Relays,
        start: Instant,
    }

    impl Model {
        fn new() -> Self {
            let relays = Relays::new(GRACE);
            let start = relays.lock().since;
            Self { relays, start }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// Whom a request goes to that comes so late and knows no leader.
        fn next(&self, ms: u64) -> Option<Choice> {
            self.relays.next(None, members(&["n2", "n3"]), self.at(ms))
        }

        fn note_leader(&self, leader: Option<&str>, ms: u64) {
            self.relays.note_leader(leader.map(str::to_owned), self.at(ms));
        }
    }

    fn members(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn unasked(name: &str) -> Choice {
        Choice::Unasked(name.to_owned())
    }

    fn willing(name: &str) -> Choice {
        Choice::Willing(name.to_owned())
    }

    #[test]
    fn nobody_is_asked_before_all_must_have_missed_the_leader() {
        let model = Model::new();
        assert_eq!(model.next(499), None);
        assert!(model.next(500).is_some());
        model.note_leader(Some("n3"), 1_000);
        // A request may learn that there is none before it is noted here.
        assert_eq!(model.next(9_000), None);
        model.note_leader(None, 9_000);
        assert_eq!(model.next(9_499), None);
        assert!(model.next(9_500).is_some());
    }

    #[test]
    fn a_leader_that_is_known_and_not_reached_is_not_waited_for() {
        let model = Model::new();
        model.note_leader(Some("n3"), 1_000);
        assert_eq!(model.relays.next(Some("n3"), members(&["n2"]), model.at(1_001)), Some(unasked("n2")));
    }

    #[test]
    fn members_are_asked_in_turn_and_one_by_one() {
        let model = Model::new();
        let asked: Vec<_> = (500..1_000).filter_map(|ms| model.next(ms)).collect();
        assert_eq!(asked.len(), 5, "one in 100 ms");
        assert!(asked.windows(2).all(|pair| pair[0] != pair[1]), "{asked:?}");
        assert_eq!(model.relays.next(None, Vec::new(), model.at(9_000)), None);
    }

    #[test]
    fn all_go_through_a_member_that_would_until_it_fails() {
        let model = Model::new();
        let first = model.next(500);
        assert!(first == Some(unasked("n2")) || first == Some(unasked("n3")), "{first:?}");
        model.relays.note("n2", true);
        for _ in 0..1_000 {
            assert_eq!(model.next(501), Some(willing("n2")));
        }
        model.relays.note("n3", false);
        assert_eq!(model.next(501), Some(willing("n2")));
        model.relays.note("n2", false);
        assert_eq!(model.next(599), None);
        assert_ne!(model.next(600), first, "it is another's turn");
    }

    #[test]
    fn a_member_that_is_not_reached_any_more_is_forgotten() {
        let model = Model::new();
        model.relays.note("n2", true);
        assert_eq!(model.relays.next(None, members(&["n3"]), model.at(500)), Some(unasked("n3")));
        assert_eq!(*model.relays.willing.borrow(), None);
    }

    #[test]
    fn who_passed_on_to_one_leader_may_not_to_the_next() {
        let model = Model::new();
        model.note_leader(Some("n3"), 0);
        model.relays.note("n2", true);
        model.note_leader(Some("n3"), 1);
        assert_eq!(model.next(1), Some(willing("n2")), "it is the same");
        model.note_leader(None, 2);
        assert_eq!(model.next(3), None);
    }

    #[tokio::test]
    async fn whoever_waits_is_told_of_a_member_that_passes_on() {
        let relays = Relays::new(GRACE);
        let told = async {
            tokio::task::yield_now().await;
            relays.note("n2", true);
        };
        tokio::join!(relays.found(), told);
        relays.found().await;
    }

    #[tokio::test]
    async fn it_follows_the_node_until_that_is_gone() {
        let status = watch::Sender::new(NodeStatus::default());
        let (relays, followed) = (Relays::new(GRACE), status.subscribe());
        relays.note("n2", true);
        let leads = |status: &watch::Sender<NodeStatus>| {
            let leader = crate::node::Leader { name: "n3".to_owned(), client_address: None, is_self: false };
            status.send_replace(NodeStatus { leader: Some(leader), ..NodeStatus::default() });
        };
        let changes = async move {
            tokio::task::yield_now().await;
            leads(&status);
            tokio::task::yield_now().await;
            drop(status);
        };
        tokio::join!(relays.follow(followed), changes);
        assert_eq!(relays.lock().leader.as_deref(), Some("n3"));
        assert_eq!(*relays.willing.borrow(), None);
    }
}
