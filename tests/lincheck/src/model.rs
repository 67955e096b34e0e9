//! What a history is checked against.

use std::{fmt::Debug, hash::Hash};

use crate::Operation;

/// A sequential specification: what one client that is alone is told.
///
/// It is deterministic: an operation that is applied to a state has at most one next state that fits what was observed.
pub trait Model {
    /// What is remembered between operations. Two states are equal if no later operation can tell them apart; the
    /// search is as fast as this is small.
    type State: Clone + Eq + Hash + Debug;
    /// What a client asks for.
    type Call: Clone + Eq + Hash + Debug;
    /// What it is told, when it is told something definite.
    type Output: Clone + Eq + Hash + Debug;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `call` took effect in `state` and told `observed`; nothing if it could not have told that.
    ///
    /// `None` observed is an operation whose answer is not known: what it would do here. If it would do nothing, that
    /// is the same state again, or nothing.
    fn step(&self, state: &Self::State, call: &Self::Call, observed: Option<&Self::Output>) -> Option<Self::State>;

    /// Whether an operation that tells this changes nothing, whatever state it is in that it fits. That a write happens
    /// to write what is there does not count.
    ///
    /// The search places such operations as early as it can, and those of unknown outcome never.
    fn is_observation(&self, call: &Self::Call, observed: Option<&Self::Output>) -> bool {
        let _ = (call, observed);
        false
    }

    /// Rewrites one key's history into one that is exactly as linearizable, and easier to search: completions may
    /// become more definite or failed, calls of unknown outcome may be replaced by others, ends may move. What it does
    /// is not shown to people. If it gives a model, that one is right for this history, and the search goes on
    /// with it.
    fn simplify(&self, operations: &mut [Operation<Self::Call, Self::Output>]) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = operations;
        None
    }

    /// Whether no operation can change this state any more.
    fn is_final(&self, state: &Self::State) -> bool {
        let _ = state;
        false
    }

    /// An operation as people read it.
    fn describe(&self, call: &Self::Call, observed: Option<&Self::Output>) -> String {
        match observed {
            Some(output) => format!("{call:?} -> {output:?}"),
            None => format!("{call:?} -> unknown"),
        }
    }

    /// A state as people read it.
    fn describe_state(&self, state: &Self::State) -> String {
        format!("{state:?}")
    }
}
