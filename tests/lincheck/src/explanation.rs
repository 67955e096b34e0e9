//! Why a history is not linearizable, for people.

use std::fmt;

use crate::{Completion, Model, Operation, memory::StateId};

/// How far the longest order got that explains its answers, and what would have to be next.
///
/// No order gets further: in this one, and in every other that is as long, the operations that would have to be next
/// contradict the state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// How many operations were placed before those that are shown.
    pub placed_before: usize,
    /// The last operations of the longest order, at most [`Explanation::PLACED_MAX`], each with the state it left.
    pub placed: Vec<Placed>,
    /// The state behind them.
    pub state: String,
    /// The operations of which one would have to be next, none of which fits the state.
    pub stuck: Vec<String>,
    /// How many operations with a definite answer have no place, those included.
    pub unplaced: usize,
}

/// An operation in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Who asked what, when, and what was answered.
    pub operation: String,
    /// The state that it left.
    pub state: String,
}

impl Explanation {
    /// As many as fit on a screen.
    pub const PLACED_MAX: usize = 20;

    /// Of very concurrent histories, only so many are shown.
    const STUCK_SHOWN_MAX: usize = 20;
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let placed = self.placed_before + self.placed.len();
        writeln!(formatter, "no order explains all answers; the longest one gets to place {placed}:")?;
        if self.placed_before > 0 {
            writeln!(formatter, "  ... {} before these", self.placed_before)?;
        }
        for Placed { operation, state } in &self.placed {
            writeln!(formatter, "  {operation}    leaves {state}")?;
        }
        writeln!(formatter, "with {}, one of these would have to be next, and none fits:", self.state)?;
        for operation in self.stuck.iter().take(Explanation::STUCK_SHOWN_MAX) {
            writeln!(formatter, "  {operation}")?;
        }
        if let Some(more) = self.stuck.len().checked_sub(Explanation::STUCK_SHOWN_MAX).filter(|more| *more > 0) {
            writeln!(formatter, "  ... and {more} more")?;
        }
        write!(formatter, "operations without a place: {}", self.unplaced)
    }
}

/// The point at which the longest order ended, in the numbers of the search.
#[derive(Default)]
pub(crate) struct Deadlock {
    known: bool,
    progress: usize,
    placed: usize,
    tail: Vec<(usize, StateId)>,
    state: StateId,
    stuck: Vec<usize>,
}

impl Deadlock {
    /// `progress` counts the definite ones of the `placed` operations, of which `tail` are the last.
    pub(crate) fn new(
        progress: usize,
        placed: usize,
        tail: Vec<(usize, StateId)>,
        state: StateId,
        stuck: Vec<usize>,
    ) -> Deadlock {
        Deadlock { known: true, progress, placed, tail, state, stuck }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    pub(crate) fn progress(&self) -> usize {
        self.progress
    }

    pub(crate) fn explain<'a, M: Model>(
        &self,
        model: &M,
        operations: &[Operation<M::Call, M::Output>],
        unplaced: usize,
        state: impl Fn(StateId) -> &'a M::State,
    ) -> Explanation
    where
        M::State: 'a,
    {
        let placed = self.tail.iter().map(|&(number, left)| Placed {
            operation: describe(model, &operations[number]),
            state: model.describe_state(state(left)),
        });
        Explanation {
            placed_before: self.placed - self.tail.len(),
            placed: placed.collect(),
            state: model.describe_state(state(self.state)),
            stuck: self.stuck.iter().map(|&number| describe(model, &operations[number])).collect(),
            unplaced,
        }
    }
}

fn describe<M: Model>(model: &M, operation: &Operation<M::Call, M::Output>) -> String {
    let Operation { process, call, completion, begin, end } = operation;
    let observed = match completion {
        Completion::Definite(output) => Some(output),
        Completion::Unknown | Completion::Failed => None,
    };
    let end = observed.map_or_else(|| "?".to_owned(), |_| end.to_string());
    format!("[{begin}..{end}] process {process}: {}", model.describe(call, observed))
}
