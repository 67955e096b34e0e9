//! What can be known of writes whose answers were lost, before any search.
//!
//! Of the unknown writes, each with its value, a search would have to try every subset. But most values are written
//! once, and then there is nothing to try:
//!
//! - A value that a definite answer shows was written. If only one write could have, that one happened, before the end
//!   of the first operation that tells of it: it is as good as acknowledged then.
//! - Values that no answer shows and nothing compares with cannot be told apart. Unknown writes of such values are
//!   given the same one, so that they are alike, and the search never tries one in place of another.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use crate::{Completion, Operation};

/// How a model's operations use values.
pub(crate) struct Values<C, O, V> {
    /// The value before the first operation.
    pub(crate) initial: Option<V>,
    /// What a call writes if it is applied.
    pub(crate) written: fn(&C) -> Option<&V>,
    /// The value that an answer shows to have been there.
    pub(crate) told: for<'a> fn(&'a C, &'a O) -> Option<&'a V>,
    /// The value that a call compares with, whatever comes of it.
    pub(crate) compared: fn(&C) -> Option<&V>,
    /// The same call with another value to write.
    pub(crate) with_value: fn(&C, V) -> C,
    /// The answer of a call that was applied, as far as it is certain.
    pub(crate) applied: fn(&C) -> O,
}

impl<C: Clone, O: Clone, V: Clone + Eq + Hash> Values<C, O, V> {
    /// Rewrites the unknown writes. The history is as linearizable as it was.
    pub(crate) fn simplify(&self, operations: &mut [Operation<C, O>]) {
        let Known { told_by, compared, writers } = self.known(operations);
        let mut alike: Option<V> = None;
        for operation in operations.iter_mut().filter(|operation| is_unknown(operation)) {
            let Some(value) = (self.written)(&operation.call) else { continue };
            match told_by.get(value) {
                Some(&end) if writers.get(value) == Some(&1) => {
                    operation.completion = Completion::Definite((self.applied)(&operation.call));
                    operation.end = end;
                }
                None if !compared.contains(value) => {
                    let value = alike.get_or_insert_with(|| value.clone()).clone();
                    operation.call = (self.with_value)(&operation.call, value);
                }
                Some(_) | None => {}
            }
        }
    }

    fn known(&self, operations: &[Operation<C, O>]) -> Known<V> {
        let mut known = Known { told_by: HashMap::new(), compared: HashSet::new(), writers: HashMap::new() };
        // The initial value was there without a write.
        known.writers.extend(self.initial.clone().map(|value| (value, 1)));
        for operation in operations {
            match &operation.completion {
                Completion::Failed => continue,
                Completion::Unknown => {}
                Completion::Definite(output) => {
                    if let Some(value) = (self.told)(&operation.call, output) {
                        let end = known.told_by.entry(value.clone()).or_insert(operation.end);
                        *end = operation.end.min(*end);
                    }
                }
            }
            known.compared.extend((self.compared)(&operation.call).cloned());
            if let Some(value) = (self.written)(&operation.call) {
                *known.writers.entry(value.clone()).or_insert(0) += 1;
            }
        }
        known
    }
}

/// What the operations of a history say about values.
struct Known<V> {
    /// The end of the first operation whose answer shows the value.
    told_by: HashMap<V, u64>,
    compared: HashSet<V>,
    /// How many operations may have written it.
    writers: HashMap<V, usize>,
}

fn is_unknown<C, O>(operation: &Operation<C, O>) -> bool {
    matches!(operation.completion, Completion::Unknown)
}
