//! Clients that wait for an answer: to a write, until its place in the log is decided; to a read, until a majority has
//! confirmed the leader and the state is far enough.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use raft::{Index, NodeId, ReadId, Term};

use super::answer::{Answer, ReadResult, Ticket};
use crate::kv::{Applied, Store};

/// How many writes may wait: six times the ten thousand clients that one node is built for, in two megabytes. A leader
/// that is cut off from its followers refuses writes from there on.
pub(super) const WRITES_WAITING_MAX: usize = 1 << 16;

/// How many reads may wait, for the same reason. Each holds its key, of at most a kibibyte.
pub(super) const READS_WAITING_MAX: usize = 1 << 16;

/// So many cancelled tickets are remembered without looking whether anybody still waits with them.
const CANCELLED_UNCHECKED: usize = 1024;

/// A write that has a place in the log.
#[derive(Debug)]
struct Write {
    index: Index,
    term: Term,
    ticket: Ticket,
}

/// A read that is not served yet.
#[derive(Debug)]
struct Read {
    ticket: Ticket,
    key: Bytes,
}

/// Everyone who waits. Answers are pushed into the vector that the caller gives.
#[derive(Debug)]
pub(super) struct Waiters {
    /// Ascending by (index, term). Two may stand at one index: a leader that lost an entry and was elected again puts
    /// another one there, while the fate of the first is still open.
    writes: VecDeque<Write>,
    /// The term of the last entry applied.
    applied_term: Term,
    /// The number of the first of `unconfirmed`; the others follow without a gap, so that a read is found by its
    /// number.
    first_read: u64,
    /// Reads that the consensus core has not confirmed; `None` for those that it did or aborted out of order.
    unconfirmed: VecDeque<Option<Read>>,
    /// Reads to be served once their index is applied, ascending by it.
    confirmed: VecDeque<(Index, Read)>,
    /// Tickets that nobody waits with any more. Their waiters stay where they are and end without an answer.
    cancelled: BTreeSet<Ticket>,
}

impl Waiters {
    /// Nobody waits; the last entry applied is of `applied_term`.
    pub(super) fn new(applied_term: Term) -> Waiters {
        Waiters {
            writes: VecDeque::new(),
            applied_term,
            first_read: 0,
            unconfirmed: VecDeque::new(),
            confirmed: VecDeque::new(),
            cancelled: BTreeSet::new(),
        }
    }

    /// Whether no more writes may wait.
    pub(super) fn writes_are_full(&self) -> bool {
        self.writes.len() >= WRITES_WAITING_MAX
    }

    /// Whether no more reads may wait.
    pub(super) fn reads_are_full(&self) -> bool {
        self.unconfirmed.len() + self.confirmed.len() >= READS_WAITING_MAX
    }

    /// How many writes wait.
    pub(super) fn write_count(&self) -> usize {
        self.writes.len()
    }

    /// How many places waiting reads take: those that wait, and those confirmed out of order behind one that is not.
    pub(super) fn read_count(&self) -> usize {
        self.unconfirmed.len() + self.confirmed.len()
    }

    /// A client waits for the fate of the entry of `term` at `index`.
    pub(super) fn wait_for_write(&mut self, index: Index, term: Term, ticket: Ticket) {
        let write = Write { index, term, ticket };
        let place = (index, term);
        if self.writes.back().is_none_or(|last| (last.index, last.term) < place) {
            self.writes.push_back(write);
        } else {
            let position = self.writes.partition_point(|other| (other.index, other.term) < place);
            self.writes.insert(position, write);
        }
    }

    /// The entry of `term` at `index` was applied, with a result if it is a command: answers the writes whose fate that
    /// decides.
    ///
    /// SAFETY(raft §5.3, §5.4): what proves that a write will never be applied is a *committed* entry, and nothing
    /// less. That this node lost its leadership proves nothing: the entry may be on a majority. That a new leader made
    /// this node truncate the entry proves nothing either: another node may still hold it, be elected once that leader
    /// has failed, and commit it (the entries of Figure 8 come and go like that). Two things do prove it:
    /// - an entry of another term is committed at the write's index: one index, one committed entry (State Machine
    ///   Safety). Its term may be the lower one, if a leader that never saw ours completed the older entry.
    /// - an entry of a higher term is committed at or before the write's index. Terms never fall along a log, so no log
    ///   that holds that entry holds a lower term behind it, and every future leader holds it (Leader Completeness).
    pub(super) fn decide(
        &mut self,
        index: Index,
        term: Term,
        applied: Option<Applied>,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        let Waiters { writes, cancelled, .. } = self;
        if term > self.applied_term {
            self.applied_term = term;
            writes.retain(|write| {
                let lost = write.term < term;
                if lost {
                    answer(cancelled, answers, write.ticket, Answer::Dropped { term });
                }
                !lost
            });
        }
        let mut applied = applied;
        while let Some(write) = writes.pop_front_if(|write| write.index <= index) {
            assert_eq!(write.index, index, "a write was left behind the last applied entry");
            let result = match (write.term == term).then(|| applied.take()) {
                Some(result) => Answer::Written(result.expect("a proposed entry is a command with one waiter")),
                None => Answer::Dropped { term },
            };
            answer(cancelled, answers, write.ticket, result);
        }
    }

    /// A snapshot took the place of everything up to `index`; `term_at` knows the term of each entry that it covers. A
    /// write whose place another entry took is answered. One that is in the snapshot is forgotten without an answer:
    /// it happened, but what came of it (a put may have met an existing key) cannot be told from a state.
    pub(super) fn installed(
        &mut self,
        index: Index,
        term_at: impl Fn(Index) -> Term,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        let Waiters { writes, cancelled, applied_term, .. } = self;
        *applied_term = (*applied_term).max(term_at(index));
        writes.retain(|write| {
            let term = term_at(write.index.min(index));
            let lost = if write.index <= index { write.term != term } else { write.term < term };
            if lost {
                answer(cancelled, answers, write.ticket, Answer::Dropped { term });
            } else if write.index <= index {
                cancelled.remove(&write.ticket);
            }
            write.index > index && !lost
        });
    }

    /// The number that the next read is to be known by.
    pub(super) fn next_read(&self) -> ReadId {
        ReadId::new(self.first_read + self.unconfirmed.len() as u64)
    }

    /// A client waits for the read known by [`Waiters::next_read`].
    pub(super) fn wait_for_read(&mut self, ticket: Ticket, key: Bytes) {
        self.unconfirmed.push_back(Some(Read { ticket, key }));
    }

    /// A client waits for a state that has applied `index`.
    pub(super) fn wait_for_index(&mut self, index: Index, ticket: Ticket, key: Bytes) {
        self.push_confirmed(index, Read { ticket, key });
    }

    /// A majority confirmed the read: it may be served from a state that has applied `index`.
    pub(super) fn confirm_read(&mut self, id: ReadId, index: Index) {
        if let Some(read) = self.take_unconfirmed(id) {
            self.push_confirmed(index, read);
        }
    }

    fn push_confirmed(&mut self, index: Index, read: Read) {
        // The commit index never falls, so a later read never has a lower one; the search is for safety's sake.
        let position = self.confirmed.partition_point(|(other, _)| *other <= index);
        self.confirmed.insert(position, (index, read));
    }

    /// The read was not confirmed and never will be.
    pub(super) fn abort_read(&mut self, id: ReadId, answers: &mut Vec<(Ticket, Answer)>) {
        if let Some(read) = self.take_unconfirmed(id) {
            answer(&mut self.cancelled, answers, read.ticket, Answer::ReadAborted);
        }
    }

    fn take_unconfirmed(&mut self, id: ReadId) -> Option<Read> {
        let position = usize::try_from(id.get().checked_sub(self.first_read)?).ok()?;
        let read = self.unconfirmed.get_mut(position)?.take();
        while self.unconfirmed.pop_front_if(|read| read.is_none()).is_some() {
            self.first_read += 1;
        }
        read
    }

    /// Serves the confirmed reads that `store` is far enough for, which has applied the log up to `applied`.
    ///
    /// SAFETY(raft §8): a read is served from a state that includes everything committed when it was asked, which is
    /// all up to the index that came with its confirmation; anything later that is in the state too was written
    /// meanwhile.
    pub(super) fn serve_reads(
        &mut self,
        (replica, store): (NodeId, &Store),
        applied: Index,
        answers: &mut Vec<(Ticket, Answer)>,
    ) {
        while let Some((_, read)) = self.confirmed.pop_front_if(|(index, _)| *index <= applied) {
            let result = ReadResult::of(replica, store, &read.key);
            answer(&mut self.cancelled, answers, read.ticket, Answer::Read(result));
        }
    }

    /// Nobody waits with this ticket any more. Its waiter is not looked for: it keeps its place, which is bounded, and
    /// ends without an answer.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.cancelled.insert(ticket);
        // Tickets that were answered before they were cancelled would stay for ever. They are looked for whenever they
        // may be more than half of the set, so each cancellation pays for a few steps of the walk.
        if self.cancelled.len() > CANCELLED_UNCHECKED + 2 * (self.write_count() + self.read_count()) {
            let writes = self.writes.iter().map(|write| write.ticket);
            let unconfirmed = self.unconfirmed.iter().flatten().map(|read| read.ticket);
            let confirmed = self.confirmed.iter().map(|(_, read)| read.ticket);
            let cancelled = &self.cancelled;
            let kept = writes.chain(unconfirmed).chain(confirmed).filter(|ticket| cancelled.contains(ticket)).collect();
            self.cancelled = kept;
        }
    }
}

/// Answers a ticket, unless it was cancelled.
fn answer(cancelled: &mut BTreeSet<Ticket>, answers: &mut Vec<(Ticket, Answer)>, ticket: Ticket, answer: Answer) {
    if cancelled.is_empty() || !cancelled.remove(&ticket) {
        answers.push((ticket, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Revision;

    fn index(number: u64) -> Index {
        Index::new(number)
    }

    fn term(number: u64) -> Term {
        Term::new(number)
    }

    fn ticket(number: u64) -> Ticket {
        Ticket::new(number)
    }

    fn written(revision: u64) -> Applied {
        Applied::Put { revision: Revision::new(revision), version: 1 }
    }

    /// Waiters with a write at each (index, term); its ticket is 100 times the term plus the index.
    fn waiting(places: &[(u64, u64)]) -> Waiters {
        let mut waiters = Waiters::new(Term::ZERO);
        for &(at, of) in places {
            waiters.wait_for_write(index(at), term(of), ticket(100 * of + at));
        }
        waiters
    }

    /// Applies the entry at (index, term) and gives what was answered.
    fn decide(waiters: &mut Waiters, at: u64, of: u64) -> Vec<(u64, Answer)> {
        let mut answers = Vec::new();
        waiters.decide(index(at), term(of), Some(written(at)), &mut answers);
        answers.into_iter().map(|(ticket, answer)| (ticket.get(), answer)).collect()
    }

    fn dropped(by: u64) -> Answer {
        Answer::Dropped { term: term(by) }
    }

    #[test]
    fn a_write_is_answered_when_its_entry_is_applied() {
        let mut waiters = waiting(&[(4, 1), (5, 1)]);
        assert_eq!(decide(&mut waiters, 3, 1), []);
        assert_eq!(decide(&mut waiters, 4, 1), [(104, Answer::Written(written(4)))]);
        assert_eq!(decide(&mut waiters, 5, 1), [(105, Answer::Written(written(5)))]);
        assert_eq!(waiters.write_count(), 0);
    }

    #[test]
    fn an_entry_of_a_higher_term_drops_everything_of_lower_terms_behind_it() {
        let mut waiters = waiting(&[(4, 1), (5, 1), (90, 1), (6, 3)]);
        assert_eq!(decide(&mut waiters, 4, 2), [(104, dropped(2)), (105, dropped(2)), (190, dropped(2))]);
        assert_eq!(decide(&mut waiters, 5, 3), []);
        assert_eq!(decide(&mut waiters, 6, 3), [(306, Answer::Written(written(6)))]);
    }

    #[test]
    fn an_entry_of_a_lower_term_at_the_same_index_drops_a_write_and_no_more() {
        // A leader of term 4 that never saw the entries of term 3 completes the entry of term 2.
        let mut waiters = waiting(&[(7, 3), (8, 3)]);
        assert_eq!(decide(&mut waiters, 7, 2), [(307, dropped(2))]);
        assert_eq!(decide(&mut waiters, 8, 4), [(308, dropped(4))]);
    }

    #[test]
    fn two_writes_at_one_index_share_its_fate() {
        for (applied_term, lost, won) in [(1, 307, 107), (3, 107, 307)] {
            let mut waiters = waiting(&[(7, 1), (8, 1), (7, 3)]);
            let mut answers = decide(&mut waiters, 7, applied_term);
            answers.sort_by_key(|(ticket, _)| *ticket);
            assert!(answers.contains(&(lost, dropped(applied_term))), "{answers:?}");
            assert!(answers.contains(&(won, Answer::Written(written(7)))), "{answers:?}");
            // The entry of term 1 at index 8 is decided by term 3 before it, and open behind term 1.
            assert_eq!(waiters.write_count(), usize::from(applied_term == 1));
        }
    }

    #[test]
    fn writes_are_bounded() {
        let mut waiters = Waiters::new(Term::ZERO);
        for number in 1..=WRITES_WAITING_MAX as u64 {
            assert!(!waiters.writes_are_full());
            waiters.wait_for_write(index(number), term(1), ticket(number));
        }
        assert!(waiters.writes_are_full());
        decide(&mut waiters, 1, 1);
        assert!(!waiters.writes_are_full());
    }

    fn begin_read(waiters: &mut Waiters, number: u64) -> ReadId {
        let id = waiters.next_read();
        waiters.wait_for_read(ticket(number), Bytes::from_static(b"key"));
        id
    }

    /// Tickets whose reads are served when the log is applied up to `applied`.
    fn serve(waiters: &mut Waiters, applied: u64) -> Vec<u64> {
        let mut answers = Vec::new();
        waiters.serve_reads((NodeId::new(1).expect("not zero"), &Store::new()), index(applied), &mut answers);
        let served = answers.into_iter().map(|(ticket, answer)| {
            assert!(matches!(answer, Answer::Read(_)));
            ticket.get()
        });
        served.collect()
    }

    #[test]
    fn a_read_is_served_once_confirmed_and_applied_and_not_before() {
        let mut waiters = Waiters::new(Term::ZERO);
        let id = begin_read(&mut waiters, 1);
        assert_eq!(serve(&mut waiters, 9), []);
        waiters.confirm_read(id, index(10));
        assert_eq!(serve(&mut waiters, 9), []);
        assert_eq!(serve(&mut waiters, 10), [1]);
        assert_eq!(serve(&mut waiters, 11), []);
        // A second confirmation of the same read means nothing.
        waiters.confirm_read(id, index(10));
        assert_eq!(serve(&mut waiters, 11), []);
    }

    #[test]
    fn reads_may_be_confirmed_in_any_order() {
        let mut waiters = Waiters::new(Term::ZERO);
        let ids: Vec<ReadId> = (0..4).map(|number| begin_read(&mut waiters, number)).collect();
        waiters.confirm_read(ids[2], index(8));
        waiters.confirm_read(ids[0], index(5));
        waiters.confirm_read(ids[3], index(7));
        assert_eq!(serve(&mut waiters, 6), [0]);
        assert_eq!(serve(&mut waiters, 8), [3, 2]);
        let mut answers = Vec::new();
        waiters.abort_read(ids[1], &mut answers);
        waiters.abort_read(ids[1], &mut answers);
        assert_eq!(answers, [(ticket(1), Answer::ReadAborted)]);
        assert_eq!(waiters.read_count(), 0);
    }

    #[test]
    fn cancelled_tickets_get_no_answer() {
        let mut waiters = waiting(&[(4, 1), (5, 1)]);
        let (confirmed, aborted) = (begin_read(&mut waiters, 1), begin_read(&mut waiters, 2));
        [104, 1, 2].into_iter().for_each(|number| waiters.cancel(ticket(number)));
        assert_eq!(decide(&mut waiters, 4, 1), []);
        assert_eq!(decide(&mut waiters, 5, 1), [(105, Answer::Written(written(5)))]);
        waiters.confirm_read(confirmed, index(1));
        assert_eq!(serve(&mut waiters, 5), []);
        let mut answers = Vec::new();
        waiters.abort_read(aborted, &mut answers);
        assert_eq!(answers, []);
    }

    #[test]
    fn cancelling_what_does_not_wait_leaves_nothing_behind() {
        let mut waiters = waiting(&[(4, 1)]);
        waiters.cancel(ticket(104));
        for number in 1_000..100_000 {
            waiters.cancel(ticket(number));
            assert!(waiters.cancelled.len() <= CANCELLED_UNCHECKED + 3);
        }
        assert_eq!(decide(&mut waiters, 4, 1), []);
    }
}
