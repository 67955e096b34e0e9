//! One key's operations in the order of real time, and which of them may come next.
//!
//! Operations with a definite answer are known by their **rank**, their place in the order of answers. Those that may
//! come next are the ones that were called before the first answer among those that are not placed yet (the **front**):
//! a linked list of calls and answers, from which placed operations are unlinked, gives them without a search.
//!
//! What has been placed is known from the front and a few bits: everything that was answered earlier is placed, and of
//! the rest only what was open when the front was answered can be. Each operation has a **slot**, a number that no
//! other operation has that is open at the same time, so the bits are as many as operations were ever open at once,
//! however long the history is.
//!
//! Operations of unknown outcome are no part of this: they never have to be placed. Equal ones are kept as a [`Class`],
//! and only the first of a class that is not placed is of interest, since they can be exchanged.

use std::{collections::BTreeSet, collections::HashMap, hash::Hash};

use crate::{Completion, Model, Operation};

/// Where something is in the order of events.
pub(crate) type Position = usize;

/// The end of the list of calls and answers, on both sides.
const ENDS: usize = 0;

/// Operations of unknown outcome that ask for the same.
pub(crate) struct Class {
    /// Where each was called, ascending.
    pub(crate) calls: Vec<Position>,
    /// Which operations they are, in the same order.
    pub(crate) operations: Vec<usize>,
}

/// The list, and what has been placed.
pub(crate) struct Timeline {
    /// The operation of each rank.
    operations: Vec<usize>,
    call_positions: Vec<Position>,
    answer_positions: Vec<Position>,
    slots: Vec<usize>,
    /// The rank whose call or answer is at each position of the list; the second says that it is the answer.
    events: Vec<(usize, bool)>,
    next: Vec<Position>,
    previous: Vec<Position>,
    placed: Vec<bool>,
    placed_count: usize,
    front: usize,
    /// The slots of what is placed behind the front.
    ahead: Vec<u64>,
    classes: Vec<Class>,
}

impl Timeline {
    pub(crate) fn new<M: Model>(model: &M, operations: &[Operation<M::Call, M::Output>]) -> Timeline {
        let mut events: Vec<(u64, Kind, usize)> = Vec::with_capacity(2 * operations.len());
        for (number, operation) in operations.iter().enumerate() {
            match operation.completion {
                Completion::Definite(_) => {
                    events.push((operation.begin, Kind::Call, number));
                    events.push((operation.end.max(operation.begin), Kind::Answer, number));
                }
                Completion::Unknown if !model.is_observation(&operation.call, None) => {
                    events.push((operation.begin, Kind::UnknownCall, number));
                }
                Completion::Unknown | Completion::Failed => {}
            }
        }
        events.sort_unstable();
        let mut timeline = Timeline::with_ranks(&events, operations.len());
        timeline.assign_slots();
        timeline.classes = classes(&events, |number| &operations[number].call);
        timeline
    }

    /// The list in full, nothing placed.
    fn with_ranks(events: &[(u64, Kind, usize)], operation_count: usize) -> Timeline {
        let answers = events.iter().filter(|event| event.1 == Kind::Answer);
        let operations: Vec<usize> = answers.map(|event| event.2).collect();
        let mut ranks = vec![0; operation_count];
        for (rank, &number) in operations.iter().enumerate() {
            ranks[number] = rank;
        }
        let count = operations.len();
        let mut timeline = Timeline {
            operations,
            call_positions: vec![0; count],
            answer_positions: vec![0; count],
            slots: vec![0; count],
            events: vec![(0, false)],
            next: (1..=events.len() + 1).collect(),
            previous: (0..=events.len()).map(|position| position.saturating_sub(1)).collect(),
            placed: vec![false; count],
            placed_count: 0,
            front: 0,
            ahead: Vec::new(),
            classes: Vec::new(),
        };
        for (position, &(_, kind, number)) in (1..).zip(events) {
            let rank = ranks[number];
            timeline.events.push((rank, kind == Kind::Answer));
            match kind {
                Kind::Call => timeline.call_positions[rank] = position,
                Kind::Answer => timeline.answer_positions[rank] = position,
                Kind::UnknownCall => {}
            }
        }
        timeline.next[events.len()] = ENDS;
        timeline.previous[ENDS] = events.len();
        for (position, &(_, kind, _)) in (1..).zip(events) {
            if kind == Kind::UnknownCall {
                timeline.unlink(position);
            }
        }
        timeline
    }

    fn assign_slots(&mut self) {
        let mut free = BTreeSet::new();
        let mut slot_count = 0;
        let mut position = self.next[ENDS];
        while position != ENDS {
            let (rank, is_answer) = self.events[position];
            if is_answer {
                free.insert(self.slots[rank]);
            } else {
                self.slots[rank] = free.pop_first().unwrap_or(slot_count);
                slot_count = slot_count.max(self.slots[rank] + 1);
            }
            position = self.next[position];
        }
        self.ahead = vec![0; slot_count.div_ceil(64)];
    }

    fn unlink(&mut self, position: Position) {
        let (previous, next) = (self.previous[position], self.next[position]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    /// Undoes the last `unlink` that was not undone yet.
    fn link(&mut self, position: Position) {
        let (previous, next) = (self.previous[position], self.next[position]);
        self.next[previous] = position;
        self.previous[next] = position;
    }

    /// The next operation in the order is that of this rank.
    pub(crate) fn place(&mut self, rank: usize) {
        self.unlink(self.call_positions[rank]);
        self.unlink(self.answer_positions[rank]);
        self.placed[rank] = true;
        self.placed_count += 1;
        self.flip(rank);
        while self.placed.get(self.front) == Some(&true) {
            self.flip(self.front);
            self.front += 1;
        }
    }

    /// Undoes the last `place`, before which the front was at `front`.
    pub(crate) fn take_back(&mut self, rank: usize, front: usize) {
        for passed in front..self.front {
            self.flip(passed);
        }
        self.front = front;
        self.flip(rank);
        self.placed_count -= 1;
        self.placed[rank] = false;
        self.link(self.answer_positions[rank]);
        self.link(self.call_positions[rank]);
    }

    fn flip(&mut self, rank: usize) {
        let slot = self.slots[rank];
        self.ahead[slot / 64] ^= 1 << (slot % 64);
    }

    /// The ranks that may come next, in the order of their calls.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = usize> {
        let mut position = self.next[ENDS];
        std::iter::from_fn(move || {
            let (rank, is_answer) = self.events[position];
            position = self.next[position];
            // Without operations left the position is that of the ends, whose event is not an answer.
            (!is_answer && self.front < self.operations.len()).then_some(rank)
        })
    }

    /// Where the answer is before which the next operation must have been called.
    pub(crate) fn limit(&self) -> Position {
        self.answer_positions.get(self.front).copied().unwrap_or(Position::MAX)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.front == self.operations.len()
    }

    pub(crate) fn front(&self) -> usize {
        self.front
    }

    pub(crate) fn ahead(&self) -> &[u64] {
        &self.ahead
    }

    pub(crate) fn placed_count(&self) -> usize {
        self.placed_count
    }

    pub(crate) fn definite_count(&self) -> usize {
        self.operations.len()
    }

    pub(crate) fn operation(&self, rank: usize) -> usize {
        self.operations[rank]
    }

    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes
    }
}

/// At equal times, calls come before answers: what touches is concurrent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Call,
    UnknownCall,
    Answer,
}

/// The calls of unknown outcome by what they ask for, in the order in which that was first asked.
fn classes<'a, C: Eq + Hash + 'a>(events: &[(u64, Kind, usize)], call: impl Fn(usize) -> &'a C) -> Vec<Class> {
    let mut known: HashMap<&C, usize> = HashMap::new();
    let mut classes: Vec<Class> = Vec::new();
    for (position, &(_, kind, number)) in (1..).zip(events) {
        if kind != Kind::UnknownCall {
            continue;
        }
        let class = *known.entry(call(number)).or_insert(classes.len());
        if class == classes.len() {
            classes.push(Class { calls: Vec::new(), operations: Vec::new() });
        }
        classes[class].calls.push(position);
        classes[class].operations.push(number);
    }
    classes
}
