//! What concurrent clients did to single keys, and whether one order of it explains every answer (linearizability).
//!
//! Keys are independent of each other, so each key's history is checked alone: a depth-first search for an order that
//! respects real time and in which a plain register with create-only puts gives the recorded answers. Search states
//! that were met before are not searched again (Wing and Gong's algorithm with Lowe's memory).
//!
//! The record is honest about what is not known: an operation without a definite answer may take effect at any time
//! after it began, or never. An operation that certainly was not applied is not recorded at all.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

/// What a client asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    /// A create-only put of this value. Values should be unique, so that a stale one is recognised.
    Put(String),
    /// A linearizable get.
    Get,
    /// An unconditional delete.
    Delete,
}

/// What it was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The write was acknowledged.
    Done,
    /// The put found the key.
    Exists,
    /// The get or the delete found no key.
    Missing,
    /// The get found this value.
    Value(String),
    /// Nothing definite: it may have happened, or may happen yet.
    Unknown,
}

/// One operation on one key.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The client, for the report only.
    pub client: usize,
    /// The key.
    pub key: String,
    /// What was asked.
    pub call: Call,
    /// What was answered.
    pub answer: Answer,
    /// When it was asked, on a clock that all clients share; any unit.
    pub begin: u64,
    /// When the answer was there. Without a meaning for [`Answer::Unknown`].
    pub end: u64,
}

impl Operation {
    /// Until when the operation took effect if it ever did.
    fn effective_end(&self) -> u64 {
        if self.answer == Answer::Unknown { u64::MAX } else { self.end }
    }
}

/// No order explains the answers about a key.
#[derive(Debug)]
pub struct Violation {
    /// The key.
    pub key: String,
    /// All operations on it, in the order in which they began.
    pub operations: Vec<Operation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "no order of these operations on {:?} explains their answers:", self.key)?;
        for operation in &self.operations {
            let Operation { client, call, answer, begin, end, key: _ } = operation;
            writeln!(formatter, "  {begin:>12} to {end:>12}  client {client}  {call:?} -> {answer:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violation {}

/// Checks every key's history, each from the missing key.
///
/// # Errors
/// The first key whose answers no order explains.
pub fn check(operations: &[Operation]) -> Result<(), Violation> {
    let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        keys.entry(&operation.key).or_default().push(operation);
    }
    for (key, mut operations) in keys {
        operations.sort_by_key(|operation| operation.begin);
        if !Search::new(&operations).succeeds() {
            let operations = operations.into_iter().cloned().collect();
            return Err(Violation { key: key.to_owned(), operations });
        }
    }
    Ok(())
}

/// A register's value; `None` while the key is missing.
type State<'a> = Option<&'a str>;

/// The state after `operation`, if its answer fits `state`. An operation of unknown outcome fits every state, but only
/// one in which it changes something is of interest: otherwise it is as if it never happened.
fn step<'a>(state: State<'a>, operation: &'a Operation) -> Option<State<'a>> {
    match (&operation.call, &operation.answer) {
        (Call::Put(value), Answer::Done | Answer::Unknown) => state.is_none().then_some(Some(value)),
        (Call::Put(_), Answer::Exists) => state.is_some().then_some(state),
        (Call::Delete, Answer::Done | Answer::Unknown) => state.is_some().then_some(None),
        (Call::Delete | Call::Get, Answer::Missing) => state.is_none().then_some(None),
        (Call::Get, Answer::Value(value)) => (state == Some(value)).then_some(state),
        // Answers that do not belong to their call explain nothing.
        (Call::Put(_), Answer::Missing | Answer::Value(_))
        | (Call::Delete, Answer::Exists | Answer::Value(_))
        | (Call::Get, Answer::Done | Answer::Exists | Answer::Unknown) => None,
    }
}

/// A node of the search: what has taken effect so far, and the value that it left.
struct Point<'a> {
    done: Vec<u64>,
    state: State<'a>,
    /// Which operations may come next, and have not been tried.
    untried: Vec<usize>,
}

struct Search<'a> {
    operations: &'a [&'a Operation],
    met: HashSet<(Vec<u64>, State<'a>)>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [&'a Operation]) -> Search<'a> {
        Search { operations, met: HashSet::new() }
    }

    fn succeeds(mut self) -> bool {
        let done = vec![0; self.operations.len().div_ceil(64)];
        let mut path = vec![self.point(done, None)];
        while let Some(point) = path.last_mut() {
            if self.is_complete(&point.done) {
                return true;
            }
            let Some(next) = point.untried.pop() else {
                path.pop();
                continue;
            };
            let Some(state) = step(point.state, self.operations[next]) else { continue };
            let mut done = point.done.clone();
            done[next / 64] |= 1 << (next % 64);
            if self.met.insert((done.clone(), state)) {
                let point = self.point(done, state);
                path.push(point);
            }
        }
        false
    }

    /// Every operation that did happen has its place; those of unknown outcome may never have happened.
    fn is_complete(&self, done: &[u64]) -> bool {
        let mut operations = self.operations.iter().enumerate();
        operations.all(|(number, operation)| is_done(done, number) || operation.answer == Answer::Unknown)
    }

    /// An operation may come next if it began before every other open one ended.
    fn point(&self, done: Vec<u64>, state: State<'a>) -> Point<'a> {
        let open = || self.operations.iter().enumerate().filter(|(number, _)| !is_done(&done, *number));
        let first_end = open().map(|(_, operation)| operation.effective_end()).min().unwrap_or(u64::MAX);
        let mut untried: Vec<usize> =
            open().filter(|(_, operation)| operation.begin <= first_end).map(|(number, _)| number).collect();
        // The last is tried first: in the order in which they ended, so that unknown ones are only the last resort.
        untried.sort_by_key(|&number| std::cmp::Reverse(self.operations[number].effective_end()));
        Point { done, state, untried }
    }
}

fn is_done(done: &[u64], number: usize) -> bool {
    done[number / 64] & (1 << (number % 64)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(call: Call, answer: Answer, begin: u64, end: u64) -> Operation {
        Operation { client: 0, key: "k".to_owned(), call, answer, begin, end }
    }

    fn put(value: &str, answer: Answer, begin: u64, end: u64) -> Operation {
        operation(Call::Put(value.to_owned()), answer, begin, end)
    }

    fn found(value: &str, begin: u64, end: u64) -> Operation {
        operation(Call::Get, Answer::Value(value.to_owned()), begin, end)
    }

    fn missing(begin: u64, end: u64) -> Operation {
        operation(Call::Get, Answer::Missing, begin, end)
    }

    fn deleted(answer: Answer, begin: u64, end: u64) -> Operation {
        operation(Call::Delete, answer, begin, end)
    }

    #[test]
    fn a_sequence_of_true_answers_passes() {
        let history = [
            missing(0, 1),
            put("x", Answer::Done, 2, 3),
            put("y", Answer::Exists, 4, 5),
            found("x", 6, 7),
            deleted(Answer::Done, 8, 9),
            deleted(Answer::Missing, 10, 11),
            put("z", Answer::Done, 12, 13),
            found("z", 14, 15),
        ];
        check(&history).expect("every answer is right");
    }

    #[test]
    fn a_lost_acknowledged_put_is_found() {
        assert!(check(&[put("x", Answer::Done, 0, 1), missing(2, 3)]).is_err());
    }

    #[test]
    fn a_resurrected_delete_is_found() {
        let history = [put("x", Answer::Done, 0, 1), deleted(Answer::Done, 2, 3), found("x", 4, 5)];
        assert!(check(&history).is_err());
    }

    #[test]
    fn concurrent_operations_may_take_either_order() {
        let write = put("x", Answer::Done, 0, 10);
        check(&[write.clone(), missing(1, 2), found("x", 3, 4)]).expect("the put took effect between the gets");
        assert!(check(&[write, found("x", 1, 2), missing(3, 4)]).is_err(), "a read must not go back");
    }

    #[test]
    fn an_unknown_put_may_take_effect_late_or_never_but_only_once() {
        let unknown = put("x", Answer::Unknown, 0, 1);
        check(&[unknown.clone(), missing(2, 3)]).expect("it never happened");
        check(&[unknown.clone(), missing(2, 3), found("x", 4, 5)]).expect("it happened late");
        let twice =
            [unknown, found("x", 2, 3), deleted(Answer::Done, 4, 5), put("y", Answer::Done, 6, 7), found("x", 8, 9)];
        assert!(check(&twice).is_err(), "it cannot happen twice");
    }

    #[test]
    fn an_unknown_delete_may_take_effect_late() {
        let history = [put("x", Answer::Done, 0, 1), deleted(Answer::Unknown, 2, 3), found("x", 4, 5), missing(6, 7)];
        check(&history).expect("the delete happened between the gets");
    }

    #[test]
    fn two_successful_puts_without_a_delete_between_are_found() {
        assert!(check(&[put("x", Answer::Done, 0, 5), put("y", Answer::Done, 1, 6)]).is_err());
    }
}
