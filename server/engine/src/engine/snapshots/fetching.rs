//! A snapshot on its way from a peer to this node, in pieces that this node asks for.
//!
//! A few pieces are asked for ahead of what is written to the disk, so the slower of network and disk sets the pace and
//! nothing gathers in memory. Pieces are taken in order only. Whatever is lost is asked for again after a while, at the
//! place reached; a peer that stays silent is given up, and the next offer goes on there if it is of the same snapshot:
//! the files that two nodes write of one index are the same, byte for byte, and if not, the hash over the whole tells.

use bytes::Bytes;
use raft::{Index, NodeId};

use crate::side::SideBody;

use super::work::WorkKind;

/// How many pieces are asked for ahead of what is written: two on the way while two are being written.
pub(super) const WINDOW_PIECES: u64 = 4;

/// A peer that was asked so often in a row without an answer is given up.
const SILENCES_MAX: u32 = 3;

/// One snapshot, as far as it is here.
#[derive(Debug)]
pub(super) struct Fetching {
    /// Who is asked; `None` while nobody is known who has it.
    peer: Option<NodeId>,
    /// The last index that it covers; `None` until a peer has said which it gives.
    index: Option<Index>,
    /// The size of its file, as the peer says, in bytes.
    total_bytes: u64,
    /// Pieces before this offset were asked for.
    asked: u64,
    /// Pieces before this offset came and were handed to the disk.
    received: u64,
    /// Pieces before this offset are written.
    written: u64,
    /// Where the last peer that was asked began.
    resumed_at: u64,
    silent_ticks: u32,
    silences: u32,
    pace: Pace,
}

/// How a snapshot is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The size of a piece in bytes.
    pub(super) piece_bytes: u64,
    /// Silence is broken after so many ticks.
    pub(super) timeout_ticks: u32,
    /// What does not go beyond this index is of no use.
    pub(super) above: Index,
}

impl Fetching {
    /// Begins with the snapshot of `index`, or with whatever `peer` has if that is unknown.
    pub(super) fn new(peer: NodeId, index: Option<Index>, pace: Pace) -> Fetching {
        Fetching {
            peer: Some(peer),
            index,
            total_bytes: 0,
            asked: 0,
            received: 0,
            written: 0,
            resumed_at: 0,
            silent_ticks: 0,
            silences: 0,
            pace,
        }
    }

    /// Who is asked, if anybody is.
    pub(super) fn peer(&self) -> Option<NodeId> {
        self.peer
    }

    /// Whether somebody is asked who may still answer.
    pub(super) fn is_asking(&self) -> bool {
        self.peer.is_some()
    }

    /// A leader offers its snapshot. Changes nothing while the one that is under way comes along.
    pub(super) fn offered(&mut self, peer: NodeId, index: Index) {
        if self.peer.is_some() {
            return;
        }
        // A file that nobody went on with may be another than this one, whatever its index.
        if self.index == Some(index) && self.received > self.resumed_at {
            self.resumed_at = self.received;
            (self.peer, self.asked) = (Some(peer), self.received);
            (self.silent_ticks, self.silences) = (0, 0);
        } else {
            *self = Fetching::new(peer, Some(index), self.pace);
        }
    }

    /// What to ask the peer for now.
    pub(super) fn next_request(&mut self) -> Option<(NodeId, SideBody)> {
        let peer = self.peer?;
        let offset = self.asked;
        let may_ask = match self.total_bytes {
            // Until the first answer nothing is known of the file.
            0 => offset == 0,
            total_bytes => offset < total_bytes && offset < self.written + WINDOW_PIECES * self.pace.piece_bytes,
        };
        if !may_ask {
            return None;
        }
        self.asked = self.piece_end(offset).max(1);
        Some((peer, SideBody::FetchSnapshot { index: self.index, offset }))
    }

    /// Where the piece that begins at `offset` ends.
    fn piece_end(&self, offset: u64) -> u64 {
        (offset + self.pace.piece_bytes).min(self.total_bytes)
    }

    /// A piece came. Returns what to do with it, if it is the next one.
    pub(super) fn chunk(
        &mut self,
        from: NodeId,
        index: Index,
        total_bytes: u64,
        offset: u64,
        bytes: Bytes,
    ) -> Option<WorkKind> {
        let is_wanted = self.index.map_or(index > self.pace.above, |wanted| wanted == index);
        let expected = self.peer == Some(from) && is_wanted;
        let fits = if self.total_bytes == 0 { total_bytes > 0 } else { total_bytes == self.total_bytes };
        if !expected || !fits || offset != self.received {
            return None;
        }
        let end = (offset + self.pace.piece_bytes).min(total_bytes);
        if bytes.is_empty() || offset.checked_add(bytes.len() as u64) != Some(end) {
            return None;
        }
        (self.index, self.total_bytes, self.received) = (Some(index), total_bytes, end);
        self.asked = self.asked.max(end);
        (self.silent_ticks, self.silences) = (0, 0);
        Some(WorkKind::Receive { index, total_bytes, offset, bytes })
    }

    /// The peer does not have what it was asked for. Returns whether there is still something to wait for.
    pub(super) fn none_there(&mut self, from: NodeId) -> bool {
        if self.peer != Some(from) {
            return true;
        }
        if self.index.is_none() {
            return false;
        }
        *self = Fetching::new(from, None, self.pace);
        true
    }

    /// Everything before `offset` is written. Returns the snapshot's index if that was the last piece.
    pub(super) fn written(&mut self, index: Index, offset: u64) -> Option<Index> {
        if self.index != Some(index) {
            return None; // of a snapshot that was given up
        }
        // One of an earlier attempt may come late, and speaks of another file.
        self.written = self.written.max(offset.min(self.received));
        self.index.filter(|_| self.written == self.total_bytes)
    }

    /// A tick passed: asks again where an answer is overdue.
    pub(super) fn tick(&mut self) {
        if self.peer.is_none() || self.asked == self.received {
            return;
        }
        self.silent_ticks += 1;
        if self.silent_ticks < self.pace.timeout_ticks {
            return;
        }
        (self.silent_ticks, self.asked) = (0, self.received);
        self.silences += 1;
        if self.silences >= SILENCES_MAX {
            self.peer = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = 1 << 10;

    fn pace(timeout_ticks: u32) -> Pace {
        Pace { piece_bytes: PIECE, timeout_ticks, above: Index::ZERO }
    }

    fn node(number: u64) -> NodeId {
        NodeId::new(number).expect("not zero")
    }

    fn requests(fetching: &mut Fetching) -> Vec<u64> {
        std::iter::from_fn(|| fetching.next_request())
            .map(|(_, body)| match body {
                SideBody::FetchSnapshot { offset, .. } => offset,
                other => panic!("{other:?} asks for nothing"),
            })
            .collect()
    }

    fn piece(fetching: &mut Fetching, from: u64, offset: u64, total: u64) -> bool {
        let bytes = Bytes::from(vec![0; usize::try_from((total - offset).min(PIECE)).expect("a piece")]);
        fetching.chunk(node(from), Index::new(9), total, offset, bytes).is_some()
    }

    #[test]
    fn pieces_are_asked_for_ahead_of_the_disk_and_no_further() {
        let total = 10 * PIECE + 7;
        let mut fetching = Fetching::new(node(2), Some(Index::new(9)), pace(5));
        assert_eq!(requests(&mut fetching), [0]);
        assert!(piece(&mut fetching, 2, 0, total));
        assert_eq!(requests(&mut fetching), [PIECE, 2 * PIECE, 3 * PIECE]);
        assert!(piece(&mut fetching, 2, PIECE, total));
        assert!(requests(&mut fetching).is_empty(), "nothing is written yet");
        assert_eq!(fetching.written(Index::new(9), 2 * PIECE), None);
        assert_eq!(requests(&mut fetching), [4 * PIECE, 5 * PIECE]);
        for number in 2..=10 {
            assert!(piece(&mut fetching, 2, number * PIECE, total), "{number}");
        }
        assert_eq!(fetching.written(Index::new(9), total), Some(Index::new(9)));
    }

    #[test]
    fn only_the_next_piece_of_the_same_file_is_taken() {
        let total = 3 * PIECE;
        let mut fetching = Fetching::new(node(2), Some(Index::new(9)), pace(5));
        assert!(!piece(&mut fetching, 3, 0, total), "from somebody who was not asked");
        assert!(!piece(&mut fetching, 2, PIECE, total), "not the next");
        assert!(piece(&mut fetching, 2, 0, total));
        assert!(!piece(&mut fetching, 2, 0, total), "again");
        assert!(!piece(&mut fetching, 2, PIECE, total + 1), "of another file");
        let cut = fetching.chunk(node(2), Index::new(9), total, PIECE, Bytes::from_static(b"short"));
        assert!(cut.is_none(), "a piece that is cut");
        let empty = fetching.chunk(node(2), Index::new(9), total, PIECE, Bytes::new());
        assert!(empty.is_none(), "an empty piece");
    }

    #[test]
    fn silence_is_broken_and_a_silent_peer_given_up_for_the_next_that_offers() {
        let total = 3 * PIECE;
        let mut fetching = Fetching::new(node(2), Some(Index::new(9)), pace(2));
        requests(&mut fetching);
        assert!(piece(&mut fetching, 2, 0, total));
        for _ in 0..2 {
            assert_eq!(requests(&mut fetching), [PIECE, 2 * PIECE]);
            fetching.offered(node(3), Index::new(11));
            (0..2).for_each(|_| fetching.tick());
        }
        assert_eq!(requests(&mut fetching), [PIECE, 2 * PIECE]);
        (0..2).for_each(|_| fetching.tick());
        assert!(requests(&mut fetching).is_empty(), "given up");
        fetching.offered(node(3), Index::new(9));
        assert_eq!(requests(&mut fetching), [PIECE, 2 * PIECE], "goes on where it was");
        assert!(piece(&mut fetching, 3, PIECE, total));
    }

    #[test]
    fn a_snapshot_that_is_gone_is_replaced_by_the_newest() {
        let mut fetching = Fetching::new(node(2), Some(Index::new(7)), pace(2));
        requests(&mut fetching);
        assert!(fetching.none_there(node(2)));
        let request = fetching.next_request();
        assert_eq!(request, Some((node(2), SideBody::FetchSnapshot { index: None, offset: 0 })));
        assert!(piece(&mut fetching, 2, 0, PIECE));
        assert_eq!(fetching.written(Index::new(9), PIECE), Some(Index::new(9)));
        let mut fetching = Fetching::new(node(2), None, pace(2));
        assert!(!fetching.none_there(node(2)), "it has none at all");
    }

    #[test]
    fn what_was_written_of_an_earlier_attempt_is_not_taken_for_this_one() {
        let total = 2 * PIECE;
        let mut fetching = Fetching::new(node(2), Some(Index::new(9)), pace(2));
        requests(&mut fetching);
        assert!(piece(&mut fetching, 2, 0, total));
        // The disk speaks of the end of a file that was begun before this one.
        assert_eq!(fetching.written(Index::new(9), total), None);
        assert!(piece(&mut fetching, 2, PIECE, total));
        assert_eq!(fetching.written(Index::new(9), PIECE), None, "half of it is written");
        assert_eq!(fetching.written(Index::new(9), total), Some(Index::new(9)));
    }

    #[test]
    fn a_peer_whose_file_is_another_is_asked_from_the_beginning() {
        let total = 3 * PIECE;
        let mut fetching = Fetching::new(node(2), Some(Index::new(9)), pace(1));
        requests(&mut fetching);
        assert!(piece(&mut fetching, 2, 0, total));
        let give_up = |fetching: &mut Fetching| {
            for _ in 0..SILENCES_MAX {
                requests(fetching);
                fetching.tick();
            }
            assert!(requests(fetching).is_empty(), "it still hopes");
        };
        give_up(&mut fetching);
        fetching.offered(node(3), Index::new(9));
        assert_eq!(requests(&mut fetching), [PIECE, 2 * PIECE], "where the other left off");
        // Its file of the same index is longer: its pieces do not go behind those of the other.
        assert!(!piece(&mut fetching, 3, PIECE, total + 1));
        give_up(&mut fetching);
        fetching.offered(node(3), Index::new(9));
        assert_eq!(requests(&mut fetching), [0]);
        assert!(piece(&mut fetching, 3, 0, total + 1));
    }
}
