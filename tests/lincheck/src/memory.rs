//! What the search has met before, so that it never searches the same twice (Lowe's improvement).
//!
//! A point of the search is what has been placed, and the state that this left. Of the operations of unknown outcome it
//! is enough to know how many of each class were used. A point that used at least as many as another one, and is equal
//! to it otherwise, can do nothing that the other cannot: it is not searched either.

use std::{collections::HashMap, hash::Hash};

/// Names a state that was met.
pub(crate) type StateId = u32;

/// Names a [`Memory`]'s set of used operations of unknown outcome.
pub(crate) type UsedId = u32;

/// The empty one.
pub(crate) const NONE_USED: UsedId = 0;

/// How many were used of each class of which any were, ascending by class.
type Used = Box<[(u32, u32)]>;

#[derive(PartialEq, Eq, Hash)]
struct Point {
    front: usize,
    state: StateId,
    /// The slots that are placed behind the front: the first 64, and the others of very concurrent histories.
    ahead: u64,
    ahead_more: Box<[u64]>,
}

/// Where the list of what was used at a point ends.
const LAST: u32 = u32::MAX;

pub(crate) struct Memory<S> {
    states: Vec<S>,
    state_ids: HashMap<S, StateId>,
    used: Vec<Used>,
    used_ids: HashMap<Used, UsedId>,
    /// From a point to the first of `visits`.
    points: HashMap<Point, u32>,
    /// What was used when the point was met, and the next visit of the same point.
    visits: Vec<(UsedId, u32)>,
    bytes: u64,
}

impl<S: Clone + Eq + Hash> Memory<S> {
    pub(crate) fn new() -> Memory<S> {
        let none: Used = Box::new([]);
        Memory {
            states: Vec::new(),
            state_ids: HashMap::new(),
            used: vec![none.clone()],
            used_ids: HashMap::from([(none, NONE_USED)]),
            points: HashMap::new(),
            visits: Vec::new(),
            bytes: 0,
        }
    }

    /// About how many bytes are remembered.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The name of a state; `None` if there are no more names.
    pub(crate) fn state_id(&mut self, state: &S) -> Option<StateId> {
        if let Some(&id) = self.state_ids.get(state) {
            return Some(id);
        }
        let id = StateId::try_from(self.states.len()).ok()?;
        self.states.push(state.clone());
        self.state_ids.insert(state.clone(), id);
        self.count_bytes(2 * size_of::<S>() + size_of::<StateId>());
        Some(id)
    }

    /// The state of a name.
    pub(crate) fn state(&self, id: StateId) -> &S {
        &self.states[id as usize]
    }

    /// What is used if one more of a class is; `None` if there are no more names.
    pub(crate) fn one_more(&mut self, used: UsedId, class: usize) -> Option<UsedId> {
        let class = u32::try_from(class).ok()?;
        let mut more = self.used[used as usize].to_vec();
        match more.binary_search_by_key(&class, |&(class, _)| class) {
            Ok(at) => more[at].1 = more[at].1.checked_add(1)?,
            Err(at) => more.insert(at, (class, 1)),
        }
        let more: Used = more.into();
        if let Some(&id) = self.used_ids.get(&more) {
            return Some(id);
        }
        let id = UsedId::try_from(self.used.len()).ok()?;
        self.count_bytes(2 * size_of_val(&*more) + 2 * size_of::<Used>());
        self.used.push(more.clone());
        self.used_ids.insert(more, id);
        Some(id)
    }

    /// Remembers a point. The first says whether it is worth a search, that is, whether no point was met before that
    /// can do all that it can; the second how many had to be compared. `None` if there is no more room.
    pub(crate) fn visit(&mut self, front: usize, ahead: &[u64], state: StateId, used: UsedId) -> Option<(bool, u64)> {
        let (first, more) = ahead.split_first().map_or((0, &[][..]), |(first, more)| (*first, more));
        let point = Point { front, state, ahead: first, ahead_more: more.into() };
        let new = u32::try_from(self.visits.len()).ok().filter(|&new| new != LAST)?;
        let head = *self.points.get(&point).unwrap_or(&LAST);
        let mut compared = 0;
        let mut visit = head;
        while visit != LAST {
            let (earlier, next) = self.visits[visit as usize];
            compared += 1;
            if is_within(&self.used[earlier as usize], &self.used[used as usize]) {
                return Some((false, compared));
            }
            visit = next;
        }
        if head == LAST {
            self.count_bytes(size_of::<Point>() + size_of::<u32>() + size_of_val(more));
        }
        self.count_bytes(size_of::<(UsedId, u32)>());
        self.points.insert(point, new);
        self.visits.push((used, head));
        Some((true, compared))
    }

    fn count_bytes(&mut self, bytes: usize) {
        self.bytes += u64::try_from(bytes).expect("an allocation's size fits 64 bits");
    }
}

/// Whether `less` uses of no class more than `more` does.
fn is_within(less: &[(u32, u32)], more: &[(u32, u32)]) -> bool {
    let mut more = more.iter();
    less.len() <= more.len()
        && less.iter().all(|&(class, count)| {
            more.find(|(other, _)| *other >= class).is_some_and(|&(other, most)| other == class && count <= most)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_that_used_more_is_not_worth_a_search() {
        let mut memory = Memory::<u8>::new();
        let one = memory.one_more(NONE_USED, 3).expect("room");
        let two = memory.one_more(one, 3).expect("room");
        let other = memory.one_more(NONE_USED, 1).expect("room");
        let both = memory.one_more(other, 3).expect("room");
        assert_eq!(memory.one_more(one, 1), Some(both));
        let mut visit = |used, ahead| memory.visit(7, &[ahead, 9], 0, used).expect("room").0;
        assert!(visit(two, 1));
        assert!(!visit(two, 1));
        assert!(visit(one, 1));
        assert!(visit(other, 1));
        assert!(!visit(both, 1));
        assert!(visit(both, 2), "something else is placed");
        assert!(visit(NONE_USED, 1));
        assert!(!visit(other, 1));
    }

    #[test]
    fn equal_states_have_one_name() {
        let mut memory = Memory::new();
        let [a, b] = ["a", "b"].map(|state| memory.state_id(&state).expect("room"));
        assert_ne!(a, b);
        assert_eq!(memory.state_id(&"a"), Some(a));
        assert_eq!(memory.state(b), &"b");
    }
}
