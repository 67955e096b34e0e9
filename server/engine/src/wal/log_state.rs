//! What the log amounts to so far, and which record may come next.

use raft::{HardState, Index, Term};

use super::format::{Record, Start};

/// The outcome of all records up to some point. The same rules are asserted when records are appended and checked when
/// they are recovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LogState {
    pub(super) hard_state: HardState,
    pub(super) last_index: Index,
}

impl LogState {
    /// Before the first record.
    pub(super) const EMPTY: LogState = LogState {
        hard_state: HardState { current_term: Term::ZERO, voted_for: None, commit_index: Index::ZERO },
        last_index: Index::ZERO,
    };

    /// Before the first segment that is left of a log, as its start says.
    ///
    /// # Errors
    /// Why no log can begin like this.
    pub(super) fn before(start: &Start) -> Result<LogState, &'static str> {
        let last_index = start.next_index.previous().ok_or("a segment that begins before the first index")?;
        if start.hard_state.commit_index > last_index {
            return Err("a commit index ahead of the log");
        }
        Ok(LogState { hard_state: start.hard_state, last_index })
    }

    /// The index that the next entry must have: there always is one.
    pub(super) fn next_index(&self) -> Index {
        self.last_index.next()
    }

    /// Takes the next record in.
    ///
    /// # Errors
    /// Why the record cannot follow what came before; the state is unchanged.
    pub(super) fn apply(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        match *record {
            Record::Start(start) => {
                if start.next_index != self.next_index() || start.hard_state != self.hard_state {
                    return Err("a segment that begins in another state than the one before ended in");
                }
            }
            Record::HardState(hard_state) => self.apply_hard_state(hard_state)?,
            Record::Truncate { after } => {
                // SAFETY(raft 5.4.2): a committed entry is never taken back; the stored commit index never runs ahead.
                if after < self.hard_state.commit_index {
                    return Err("a truncation of committed entries");
                }
                if after > self.last_index {
                    return Err("a truncation behind the last entry");
                }
                self.last_index = after;
            }
            Record::Mark => {}
            Record::Reset { last, repair } => {
                // SAFETY(raft 7): a snapshot takes the place of a log that ends before it or contradicts it, and it
                // holds only what is committed: never less than the log knew. Only a repair knows that more is lost.
                if last < self.hard_state.commit_index && !repair {
                    return Err("a reset to before what is committed");
                }
                if last.plus(1).is_none() {
                    return Err("a reset behind which no index is left");
                }
                self.last_index = last;
                self.hard_state.commit_index = last;
            }
            Record::Entry { term, index, .. } => {
                if index != self.next_index() {
                    return Err("an entry whose index does not follow the last one");
                }
                if index.plus(1).is_none() {
                    return Err("an entry behind which no index is left");
                }
                self.last_index = index;
                // The hard state of a batch comes behind its entries and may have been cut off with an unsynced tail.
                // An entry proves that its term had begun; a vote in that term would have been a record before it.
                if term > self.hard_state.current_term {
                    self.hard_state.current_term = term;
                    self.hard_state.voted_for = None;
                }
            }
        }
        Ok(())
    }

    fn apply_hard_state(&mut self, next: HardState) -> Result<(), &'static str> {
        let now = &self.hard_state;
        if next.current_term < now.current_term {
            return Err("a term that goes back");
        }
        if next.current_term == now.current_term && now.voted_for.is_some() && next.voted_for != now.voted_for {
            return Err("a second vote in one term");
        }
        if next.commit_index > self.last_index {
            return Err("a commit index ahead of the log");
        }
        self.hard_state = next;
        Ok(())
    }
}
