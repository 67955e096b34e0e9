//! The terms of a whole log, as they are kept on disk and in snapshots.

use crate::types::{Index, Term};
use alloc::vec::Vec;

/// The entries from `first` to just before the next run have this term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Run {
    pub(crate) first: Index,
    pub(crate) term: Term,
}

/// The terms of a whole log that ends at a given index: checked, whoever it came from.
pub(crate) struct TermTable {
    pub(crate) runs: Vec<Run>,
    pub(crate) last: Index,
}

impl TermTable {
    /// # Errors
    /// Says why these cannot be the terms of a log that ends at `last`.
    pub(crate) fn new(term_starts: &[(Index, Term)], last: Index) -> Result<TermTable, &'static str> {
        let runs: Vec<Run> = term_starts.iter().map(|&(first, term)| Run { first, term }).collect();
        if runs.windows(2).any(|pair| pair[0].first >= pair[1].first || pair[0].term >= pair[1].term) {
            return Err("term starts do not ascend");
        }
        let starts_at_one = runs.first().is_none_or(|run| run.first == Index::new(1) && run.term > Term::ZERO);
        if !starts_at_one || runs.is_empty() != (last == Index::ZERO) {
            return Err("term starts do not cover the log");
        }
        if runs.last().is_some_and(|run| run.first > last) {
            return Err("a term starts behind the last entry");
        }
        if last.plus(1).is_none() {
            return Err("the last index has no successor");
        }
        Ok(TermTable { runs, last })
    }

    pub(crate) fn last_index(&self) -> Index {
        self.last
    }

    pub(crate) fn last_term(&self) -> Term {
        self.runs.last().map_or(Term::ZERO, |run| run.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_terms_of_a_whole_log_are_a_table() {
        let check = |last, starts: &[(u64, u64)]| {
            let starts: Vec<(Index, Term)> =
                starts.iter().map(|&(first, term)| (Index::new(first), Term::new(term))).collect();
            TermTable::new(&starts, Index::new(last)).map(|table| table.last_term().get())
        };
        assert_eq!(check(0, &[]), Ok(0));
        assert_eq!(check(1, &[(1, 1)]), Ok(1));
        assert_eq!(check(9, &[(1, 2), (3, 5), (9, 7)]), Ok(7));
        for starts in
            [&[][..], &[(0, 1)], &[(2, 1)], &[(1, 0)], &[(1, 1), (1, 2)], &[(1, 1), (3, 1)], &[(1, 3), (3, 1)]]
        {
            assert!(check(9, starts).is_err(), "{starts:?}");
        }
        assert!(check(0, &[(1, 1)]).is_err(), "entries in an empty log");
        assert!(check(8, &[(1, 1), (9, 2)]).is_err(), "entries behind the last");
        assert!(check(u64::MAX, &[(1, 1)]).is_err(), "nothing could follow");
    }
}
