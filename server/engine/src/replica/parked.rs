//! Messages that promise something which is not on this node's disk yet.

use std::collections::VecDeque;

use raft::{BatchNumber, Message};

/// How many messages may wait for the disk. A peer that keeps to its window of appends has far fewer answers under way;
/// beyond, the oldest are dropped, which Raft takes like any message the network lost, so that a stalled disk and a
/// peer that floods this node cannot fill its memory.
const PARKED_MESSAGES_MAX: usize = 4096;

/// Votes and acknowledgements, in order, each with the batch that must be durable before it may leave.
#[derive(Debug)]
pub(super) struct Parked {
    /// Every batch up to this one is durable.
    persisted: BatchNumber,
    /// Ascending by batch; all above `persisted`.
    queue: VecDeque<(BatchNumber, Message)>,
    dropped_count: u64,
}

impl Parked {
    pub(super) fn new() -> Parked {
        Parked { persisted: BatchNumber::ZERO, queue: VecDeque::new(), dropped_count: 0 }
    }

    /// Takes messages that may leave once `wait_for` is durable; those that may leave at once go to `released`.
    pub(super) fn park(&mut self, wait_for: BatchNumber, messages: Vec<Message>, released: &mut Vec<Message>) {
        if wait_for <= self.persisted {
            released.extend(messages);
            return;
        }
        debug_assert!(self.queue.back().is_none_or(|(batch, _)| *batch <= wait_for), "batches are handed out in order");
        self.queue.extend(messages.into_iter().map(|message| (wait_for, message)));
        while self.queue.len() > PARKED_MESSAGES_MAX {
            self.queue.pop_front();
            self.dropped_count += 1;
        }
    }

    /// Every batch up to `batch` is durable: moves what waited for it to `released`, in order.
    pub(super) fn persisted(&mut self, batch: BatchNumber, released: &mut Vec<Message>) {
        self.persisted = self.persisted.max(batch);
        while let Some((_, message)) = self.queue.pop_front_if(|(wait_for, _)| *wait_for <= self.persisted) {
            released.push(message);
        }
    }

    /// How many messages were dropped because too many waited.
    pub(super) fn dropped_count(&self) -> u64 {
        self.dropped_count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Body, NodeId, Term};

    /// A message that is told from others by its round.
    fn message(round: u64) -> Message {
        let (from, to) = (NodeId::new(1).expect("not zero"), NodeId::new(2).expect("not zero"));
        Message { from, to, term: Term::new(1), body: Body::HeartbeatResponse { round, promised: false } }
    }

    fn rounds(messages: Vec<Message>) -> Vec<u64> {
        let round = |message: Message| match message.body {
            Body::HeartbeatResponse { round, .. } => round,
            other => panic!("{other:?} was never parked"),
        };
        messages.into_iter().map(round).collect()
    }

    #[test]
    fn messages_leave_in_order_when_their_batch_is_durable() {
        let mut parked = Parked::new();
        let mut released = Vec::new();
        parked.park(BatchNumber::new(1), vec![message(1), message(2)], &mut released);
        parked.park(BatchNumber::new(3), vec![message(3)], &mut released);
        parked.park(BatchNumber::new(4), vec![message(4)], &mut released);
        assert_eq!(rounds(std::mem::take(&mut released)), []);
        parked.persisted(BatchNumber::new(3), &mut released);
        assert_eq!(rounds(std::mem::take(&mut released)), [1, 2, 3]);
        // A late word of an earlier batch takes nothing back.
        parked.persisted(BatchNumber::new(1), &mut released);
        parked.park(BatchNumber::new(3), vec![message(5)], &mut released);
        assert_eq!(rounds(std::mem::take(&mut released)), [5]);
        parked.persisted(BatchNumber::new(4), &mut released);
        assert_eq!(rounds(released), [4]);
    }

    #[test]
    fn what_waits_for_nothing_leaves_at_once() {
        let mut released = Vec::new();
        Parked::new().park(BatchNumber::ZERO, vec![message(1)], &mut released);
        assert_eq!(rounds(released), [1]);
    }

    #[test]
    fn a_flood_behind_a_stalled_disk_drops_the_oldest() {
        let mut parked = Parked::new();
        let mut released = Vec::new();
        let flood = PARKED_MESSAGES_MAX as u64 + 10;
        for round in 0..flood {
            parked.park(BatchNumber::new(1), vec![message(round)], &mut released);
        }
        assert_eq!(parked.dropped_count(), 10);
        parked.persisted(BatchNumber::new(1), &mut released);
        assert_eq!(rounds(released), (10..flood).collect::<Vec<u64>>());
    }
}
