//! A register that is read, written, and compared and set.

use std::{fmt::Debug, hash::Hash};

use super::unknown_writes::Values;
use crate::{Model, Operation};

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Call<V> {
    /// The value.
    Read,
    /// Another value.
    Write(V),
    /// Another value, if it is this one.
    Cas {
        /// What it has to be.
        from: V,
        /// What it becomes.
        to: V,
    },
}

/// What it is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output<V> {
    /// A read found this.
    Value(V),
    /// It was written.
    Written,
    /// The comparison held, and the value was set.
    Swapped,
    /// The comparison failed, and nothing was changed.
    NotSwapped,
}

/// A register of values `V`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Register<V> {
    initial: V,
}

impl<V> Register<V> {
    /// A register that starts with this value.
    pub fn new(initial: V) -> Register<V> {
        Register { initial }
    }
}

impl<V: Clone + Eq + Hash + Debug> Model for Register<V> {
    type State = V;
    type Call = Call<V>;
    type Output = Output<V>;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn step(&self, state: &V, call: &Call<V>, observed: Option<&Output<V>>) -> Option<V> {
        match (call, observed) {
            (Call::Read, None) => Some(state.clone()),
            (Call::Read, Some(Output::Value(value))) => (value == state).then(|| state.clone()),
            (Call::Write(value), None | Some(Output::Written)) => Some(value.clone()),
            (Call::Cas { from, to }, None | Some(Output::Swapped)) => (from == state).then(|| to.clone()),
            (Call::Cas { from, .. }, Some(Output::NotSwapped)) => (from != state).then(|| state.clone()),
            // Answers that do not belong to their call.
            (Call::Read, Some(Output::Written | Output::Swapped | Output::NotSwapped))
            | (Call::Write(_), Some(Output::Value(_) | Output::Swapped | Output::NotSwapped))
            | (Call::Cas { .. }, Some(Output::Value(_) | Output::Written)) => None,
        }
    }

    fn is_observation(&self, call: &Call<V>, observed: Option<&Output<V>>) -> bool {
        matches!(call, Call::Read) || matches!(observed, Some(Output::NotSwapped))
    }

    fn simplify(&self, operations: &mut [Operation<Call<V>, Output<V>>]) -> Option<Self> {
        let values = Values {
            initial: Some(self.initial.clone()),
            written: |call| match call {
                Call::Read => None,
                Call::Write(value) | Call::Cas { to: value, .. } => Some(value),
            },
            told: |call, output| match (call, output) {
                (_, Output::Value(value)) => Some(value),
                (Call::Cas { from, .. }, Output::Swapped) => Some(from),
                _ => None,
            },
            compared: |call| match call {
                Call::Read | Call::Write(_) => None,
                Call::Cas { from, .. } => Some(from),
            },
            with_value: |call, value| match call {
                Call::Read => Call::Read,
                Call::Write(_) => Call::Write(value),
                Call::Cas { from, .. } => Call::Cas { from: from.clone(), to: value },
            },
            applied: |call| match call {
                Call::Read | Call::Write(_) => Output::Written,
                Call::Cas { .. } => Output::Swapped,
            },
        };
        values.simplify(operations);
        None
    }
}
