//! Whom to ask for a snapshot, after some were of no use.
//!
//! The leader offers its own, and is asked first. If that cannot be used, it most likely cannot the next time either,
//! but any other member's will do: a snapshot holds what is committed, whoever took it. So the others are asked for
//! theirs in turn before the leader is asked again, after a pause that grows. As soon as it offers another one, that
//! comes first, without a pause: it costs no more than every snapshot of the leader once.

use raft::{Index, NodeId, SnapshotOffer};

/// After so many rounds without success the pause grows no more.
const DOUBLINGS_MAX: u32 = 4;

/// Whom to ask for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Source {
    /// The member.
    pub(super) peer: NodeId,
    /// The last index that the snapshot covers; `None` for the newest that it has.
    pub(super) index: Option<Index>,
}

/// What is known of those who were asked.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// The last offer, from whom and of which index.
    offer: Option<(NodeId, Index)>,
    /// Who is the next to be asked because of it: the leader is the first.
    turn: usize,
    /// How many there are to be asked.
    count: usize,
    /// How often all were asked in vain.
    rounds: u32,
    /// Nobody is asked before this.
    ask_at_ticks: u64,
}

impl Sources {
    /// A leader offers its snapshot. `others` are all members but this one. `None` during a pause.
    pub(super) fn choose(
        &mut self,
        offer: SnapshotOffer,
        others: impl IntoIterator<Item = NodeId>,
        now_ticks: u64,
    ) -> Option<Source> {
        if self.offer != Some((offer.from, offer.index)) {
            (self.offer, self.turn, self.ask_at_ticks) = (Some((offer.from, offer.index)), 0, 0);
        }
        if now_ticks < self.ask_at_ticks {
            return None;
        }
        let rest: Vec<NodeId> = others.into_iter().filter(|other| *other != offer.from).collect();
        self.count = 1 + rest.len();
        Some(match self.turn.checked_sub(1).and_then(|turn| rest.get(turn)) {
            Some(other) => Source { peer: *other, index: None },
            None => Source { peer: offer.from, index: Some(offer.index) },
        })
    }

    /// Whether somebody else than the leader was asked last.
    pub(super) fn is_other(&self) -> bool {
        self.turn > 0
    }

    /// Asking was in vain: it is the next one's turn, after a pause if all had theirs. The first is `pause_ticks` long.
    pub(super) fn in_vain(&mut self, now_ticks: u64, pause_ticks: u64) {
        self.turn += 1;
        if self.turn >= self.count {
            self.turn = 0;
            self.ask_at_ticks = now_ticks + (pause_ticks << self.rounds.min(DOUBLINGS_MAX));
            self.rounds += 1;
        }
    }

    /// A snapshot was taken over.
    pub(super) fn succeeded(&mut self) {
        *self = Sources::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId::new(number).expect("not zero")
    }

    fn choose(sources: &mut Sources, from: u64, index: u64, now_ticks: u64) -> Option<(u64, Option<u64>)> {
        let offer = SnapshotOffer { from: node(from), index: Index::new(index) };
        let source = sources.choose(offer, [2, 3, 4].map(node), now_ticks)?;
        Some((source.peer.get(), source.index.map(Index::get)))
    }

    #[test]
    fn the_leader_is_asked_first_then_the_others_and_then_there_is_a_pause_that_grows_up_to_a_bound() {
        let mut sources = Sources::default();
        let mut now = 7;
        for pause in [10, 20, 40, 80, 160, 160] {
            assert_eq!(choose(&mut sources, 3, 9, now), Some((3, Some(9))));
            assert_eq!(choose(&mut sources, 3, 9, now), Some((3, Some(9))), "nothing has failed yet");
            sources.in_vain(now, 10);
            assert_eq!(choose(&mut sources, 3, 9, now), Some((2, None)));
            sources.in_vain(now, 10);
            assert_eq!(choose(&mut sources, 3, 9, now), Some((4, None)));
            sources.in_vain(now, 10);
            assert_eq!(choose(&mut sources, 3, 9, now + pause - 1), None);
            now += pause;
        }
        sources.succeeded();
        choose(&mut sources, 3, 9, now);
        (0..3).for_each(|_| sources.in_vain(now, 10));
        assert_eq!(choose(&mut sources, 3, 9, now + 9), None);
        assert_eq!(choose(&mut sources, 3, 9, now + 10), Some((3, Some(9))));
    }

    #[test]
    fn another_offer_comes_first() {
        let mut sources = Sources::default();
        choose(&mut sources, 3, 9, 0);
        sources.in_vain(0, 10);
        assert!(sources.is_other());
        assert_eq!(choose(&mut sources, 3, 11, 0), Some((3, Some(11))), "a newer one");
        sources.in_vain(0, 10);
        assert_eq!(choose(&mut sources, 2, 11, 0), Some((2, Some(11))), "another leader's");
        assert!(!sources.is_other());
        (0..3).for_each(|_| sources.in_vain(0, 10));
        assert_eq!(choose(&mut sources, 2, 11, 1), None);
        assert_eq!(choose(&mut sources, 2, 13, 1), Some((2, Some(13))), "without a pause");
    }

    #[test]
    fn of_two_members_the_other_is_asked_again_after_a_pause() {
        let mut sources = Sources::default();
        let offer = SnapshotOffer { from: node(2), index: Index::new(9) };
        let asked = Some(Source { peer: node(2), index: Some(Index::new(9)) });
        assert_eq!(sources.choose(offer, [node(2)], 5), asked);
        sources.in_vain(5, 10);
        assert_eq!(sources.choose(offer, [node(2)], 14), None);
        assert_eq!(sources.choose(offer, [node(2)], 15), asked);
    }
}
