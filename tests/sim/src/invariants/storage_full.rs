//! A put is refused for want of room while there is less than the reserve, and then always; and never otherwise: no
//! node turns clients away that has room, and none takes what it may not be able to store.
//!
//! Whether there is room is kept here once more, from what each node was told of its disk and from what became of the
//! segments that it prepared. A node that found too little takes puts again when there is an eighth more than the
//! reserve, so between the two it depends on what was before.

use engine::{Answer, Ticket};

use crate::node::node_id;
use crate::violation::Violation;

/// Refused writes are taken again when there is so much more room than the reserve, in parts of it.
const REOPEN_PARTS: u64 = 8;

/// How much room each node has, as far as it knows.
pub(crate) struct StorageFull {
    /// Beside the room for a snapshot, in bytes.
    reserve_bytes: u64,
    rooms: Vec<Room>,
    /// Who asked last, and whether that was a put. The first answer comes in the same step.
    asked: Option<(Ticket, bool)>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Room {
    /// When it was last told, it had less than the reserve.
    is_low: bool,
    /// The last segment that was prepared for its log found no room.
    lacks_segment: bool,
}

impl StorageFull {
    pub(crate) fn new(size: usize, reserve_bytes: u64) -> StorageFull {
        StorageFull { reserve_bytes, rooms: vec![Room::default(); size], asked: None }
    }

    /// A process started; perhaps without finding room for the next segment of its log.
    pub(crate) fn started(&mut self, node: usize, lacks_segment: bool) {
        self.rooms[node] = Room { is_low: false, lacks_segment };
    }

    /// A node is told that so much room is left, while its newest snapshot has so many bytes.
    pub(crate) fn observed(&mut self, node: usize, free_bytes: u64, snapshot_bytes: u64) {
        let reserve_bytes = self.reserve_bytes + snapshot_bytes;
        let room = &mut self.rooms[node];
        let needed = if room.is_low { reserve_bytes + reserve_bytes / REOPEN_PARTS } else { reserve_bytes };
        room.is_low = free_bytes < needed;
    }

    /// A segment was prepared for the log of a node, or found no room.
    pub(crate) fn prepared(&mut self, node: usize, lacks_segment: bool) {
        self.rooms[node].lacks_segment = lacks_segment;
    }

    /// A node is asked for something.
    pub(crate) fn asked(&mut self, ticket: Ticket, is_put: bool) {
        self.asked = Some((ticket, is_put));
    }

    pub(crate) fn answered(&self, node: usize, ticket: Ticket, answer: &Answer) -> Result<(), Violation> {
        let Room { is_low, lacks_segment } = self.rooms[node];
        let is_put = self.asked == Some((ticket, true));
        match answer {
            Answer::StorageFull if !is_put || !(is_low || lacks_segment) => {
                Err(Violation::RefusedWithRoom { node: node_id(node), ticket: ticket.get() })
            }
            Answer::Proposed { index, .. } if is_put && (is_low || lacks_segment) => {
                Err(Violation::TakenWithoutRoom { node: node_id(node), index: *index })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{Index, Term};

    #[test]
    fn puts_refused_with_room_and_taken_without_are_found() {
        let mut full = StorageFull::new(1, 800);
        let (ticket, proposed) = (Ticket::new(1), Answer::Proposed { term: Term::new(1), index: Index::new(7) });
        let refused = |full: &StorageFull| full.answered(0, ticket, &Answer::StorageFull).is_ok();
        let taken = |full: &StorageFull| full.answered(0, ticket, &proposed).is_ok();
        full.asked(ticket, true);
        for (free_bytes, has_room) in [(900, true), (899, false), (1011, false), (1012, true), (900, true)] {
            full.observed(0, free_bytes, 100);
            assert_eq!((taken(&full), refused(&full)), (has_room, !has_room), "{free_bytes} bytes free");
        }
        full.prepared(0, true);
        assert_eq!((taken(&full), refused(&full)), (false, true), "no room for a segment");
        full.asked(ticket, false);
        assert_eq!((taken(&full), refused(&full)), (true, false), "a deletion makes room");
        full.asked(ticket, true);
        full.started(0, false);
        assert_eq!((taken(&full), refused(&full)), (true, false), "a new process has not been told anything");
    }
}
