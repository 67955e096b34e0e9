//! What will happen, ordered by time and, at one time, by when it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use raft::Message;

use crate::clients::{Attempt, Request};
use crate::readers::ReaderEvent;
use engine::Answer;
use engine::leaderless::ReplicaMessage;
use engine::side::SideMessage;

/// Something that happens at a moment. `life` names the process that it belongs to: if that has ended, nothing happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node's timer.
    Tick { node: usize, life: u64 },
    /// A message reaches its node.
    Deliver(Message),
    /// A message beside the consensus core's reaches its node.
    DeliverSide(SideMessage),
    /// A message of a read that asks no leader reaches its node.
    DeliverReplica(ReplicaMessage),
    /// The first of the snapshots' jobs is due.
    SnapshotDone { node: usize, life: u64 },
    /// A job of the disk is due.
    JobDone { node: usize, life: u64, job: u64 },
    /// The sender learns that a message to `peer` was lost.
    Lost { node: usize, life: u64, peer: usize },
    /// A node is told that the process of `peer` has ended.
    Gone { node: usize, life: u64, peer: usize, peer_life: u64 },
    /// A process starts again.
    Restart { node: usize },
    /// A paused process goes on.
    Resume { node: usize, pause: u64 },
    /// A stalled disk goes on.
    Unstall { node: usize, stall: u64 },
    /// There is room on a full disk again.
    ClearOut { node: usize, full: u64 },
    /// An action of the plan.
    Act(usize),
    /// The links of a partition are cut.
    Cut { partition: usize },
    /// They work again.
    Mend { partition: usize },
    /// The network is as it was before a burst of losses or delays.
    Calm { burst: u64 },
    /// A client begins an operation.
    Begin { client: usize },
    /// Something happens to a reader.
    Reader(ReaderEvent),
    /// Whoever switches leases on and off takes a look.
    Operate,
    /// A client's request reaches a node.
    Request(Box<Request>),
    /// A node's answer reaches a client, with the replicated time there.
    Answer { attempt: Attempt, answer: Answer, time_ms: u64 },
    /// A client has waited long enough for the answer to one attempt.
    Resend { attempt: Attempt },
    /// A client tries again after a refusal.
    Retry { attempt: Attempt },
    /// A client waits no more.
    GiveUp { client: usize, operation: u64 },
}

impl Event {
    /// Whether it comes to a process by its network.
    pub(crate) fn is_from_outside(&self) -> bool {
        let is_message = matches!(self, Event::Deliver(_) | Event::DeliverSide(_) | Event::DeliverReplica(_));
        is_message || matches!(self, Event::Request(_) | Event::Reader(ReaderEvent::Request(_)))
    }
}

/// When an event happens, and its place among all that are planned: events are large, and a heap moves what is in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Planned {
    at_us: u64,
    sequence: u64,
    place: usize,
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    /// The heap gives the greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Planned) -> Ordering {
        (other.at_us, other.sequence).cmp(&(self.at_us, self.sequence))
    }
}

/// The events to come.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Planned>,
    events: Vec<Option<Event>>,
    /// Places in `events` where nothing is.
    free: Vec<usize>,
    sequence: u64,
}

impl Queue {
    /// Plans an event.
    pub(crate) fn push(&mut self, at_us: u64, event: Event) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.heap.push(Planned { at_us, sequence: self.sequence, place });
    }

    /// The next event, if it is not after `until_us`.
    pub(crate) fn pop(&mut self, until_us: u64) -> Option<(u64, Event)> {
        if self.heap.peek()?.at_us > until_us {
            return None;
        }
        let Planned { at_us, place, .. } = self.heap.pop()?;
        self.free.push(place);
        self.events[place].take().map(|event| (at_us, event))
    }

    /// All messages that are under way between nodes get lost, and the requests of clients that are late.
    pub(crate) fn lose_messages(&mut self) {
        let Queue { heap, events, free, .. } = self;
        heap.retain(|planned| {
            let lost = match &events[planned.place] {
                Some(Event::Deliver(_) | Event::DeliverSide(_) | Event::DeliverReplica(_)) => true,
                Some(Event::Request(request)) => request.is_late,
                _ => false,
            };
            if lost {
                events[planned.place] = None;
                free.push(planned.place);
            }
            !lost
        });
    }

    /// How many are planned.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_planned() {
        let mut queue = Queue::default();
        for (at_us, node) in [(5, 1), (3, 2), (5, 3), (3, 4), (9, 5)] {
            queue.push(at_us, Event::Restart { node });
        }
        let order: Vec<usize> = std::iter::from_fn(|| queue.pop(8))
            .map(|(_, event)| match event {
                Event::Restart { node } => node,
                other => panic!("{other:?} was never planned"),
            })
            .collect();
        assert_eq!(order, [2, 4, 1, 3]);
        assert_eq!(queue.len(), 1);
    }
}
