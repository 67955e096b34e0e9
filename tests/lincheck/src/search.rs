//! The search for an order: depth first, without recursion, and with four reasons not to look.
//!
//! A point of the search is what has been placed and the state that it left. From it, any operation may come next that
//! was called before the first answer among those that are not placed, and whose answer fits the state. The order is
//! found when everything with a definite answer is placed.
//!
//! 1. **A point that was met before** is not searched again, nor one that merely used up more operations of unknown
//!    outcome ([`crate::memory`]).
//! 2. **An observation that fits comes at once**, without alternatives: since it changes nothing wherever it is, any
//!    order from here can be changed to one in which it is first. So reads never make the search branch.
//!    Nor does anything that fits a state that nothing can change any more ([`crate::Model::is_final`]).
//! 3. **Of equal operations of unknown outcome the earliest comes first**: they never expire, so that any order can be
//!    changed to one in which they are in the order of their calls.
//! 4. **An operation of unknown outcome is placed for a reason**: what follows it must not have the same result without
//!    it, or the shorter order would do. They are tried last.
//!
//! Each of the four leaves out an order only if one that is no longer is still looked at, so that among the orders of
//! least length one is found.

use std::fmt;

use crate::{
    Budget, Completion, Explanation, Model, Operation,
    explanation::Deadlock,
    memory::{Memory, NONE_USED, StateId, UsedId},
    timeline::Timeline,
};

/// Whether a history is linearizable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Ok,
    /// The budget ran out before an order was found or ruled out.
    Unknown,
    /// There is none.
    Illegal,
}

impl Verdict {
    /// One lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Illegal => "illegal",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What was found out about one key's operations.
#[derive(Debug)]
pub struct Check {
    /// Whether they are linearizable.
    pub verdict: Verdict,
    /// How far the best order got, if they are not.
    pub explanation: Option<Explanation>,
    /// Steps of the model, and comparisons of points, that it took.
    pub steps: u64,
}

/// Searches an order of the operations on one key that explains all definite answers.
///
/// The verdict depends on the arguments alone. An operation whose end is before its begin counts as one that took no
/// time.
pub fn check<M: Model>(model: &M, operations: &[Operation<M::Call, M::Output>], budget: Budget) -> Check {
    let mut simplified = operations.to_vec();
    let special = model.simplify(&mut simplified);
    let model = special.as_ref().unwrap_or(model);
    let mut search = Search {
        model,
        operations: &simplified,
        timeline: Timeline::new(model, &simplified),
        memory: Memory::new(),
        budget,
        steps: 0,
        path: Vec::new(),
        enabled: Vec::new(),
        used: Vec::new(),
        deadlock: Deadlock::default(),
    };
    search.used = vec![0; search.timeline.classes().len()];
    let verdict = search.run().unwrap_or(Verdict::Unknown);
    let explanation = (verdict == Verdict::Illegal).then(|| search.explain(operations));
    Check { verdict, explanation, steps: search.steps }
}

/// What leads from one point to the next.
#[derive(Clone, Copy)]
enum Move {
    /// Nothing: the first point.
    Start,
    /// The definite operation of this rank was placed, when the front was at `front`.
    Definite { rank: usize, front: usize },
    /// The next operation of this class of unknown outcomes was placed.
    Optional { class: usize },
}

/// A point that is being searched.
struct Frame {
    entered: Move,
    state: StateId,
    used: UsedId,
    /// Where this point's part of `enabled` begins. What has been tried is taken from its end.
    enabled_from: usize,
    /// The class of unknown outcomes that is tried when there is nothing definite any more.
    next_class: usize,
}

/// The budget ran out.
struct Exhausted;

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [Operation<M::Call, M::Output>],
    timeline: Timeline,
    memory: Memory<M::State>,
    budget: Budget,
    steps: u64,
    path: Vec<Frame>,
    /// For all points of the path together: the definite operations that may come next and fit, with the state that
    /// they leave.
    enabled: Vec<(usize, M::State)>,
    /// How many of each class are placed.
    used: Vec<usize>,
    deadlock: Deadlock,
}

impl<M: Model> Search<'_, M> {
    fn run(&mut self) -> Result<Verdict, Exhausted> {
        let state = self.memory.state_id(&self.model.initial()).ok_or(Exhausted)?;
        self.enter(Move::Start, state, NONE_USED)?;
        while let Some(frame) = self.path.last() {
            if self.timeline.is_complete() {
                return Ok(Verdict::Ok);
            }
            if self.enabled.len() > frame.enabled_from {
                let (rank, state) = self.enabled.pop().expect("it is longer than something");
                let used = frame.used;
                let state = self.memory.state_id(&state).ok_or(Exhausted)?;
                let entered = Move::Definite { rank, front: self.timeline.front() };
                self.timeline.place(rank);
                self.enter(entered, state, used)?;
            } else if let Some((class, state)) = self.next_optional()? {
                let used = self.path.last().map_or(NONE_USED, |frame| frame.used);
                let used = self.memory.one_more(used, class).ok_or(Exhausted)?;
                let state = self.memory.state_id(&state).ok_or(Exhausted)?;
                self.used[class] += 1;
                self.enter(Move::Optional { class }, state, used)?;
            } else {
                self.remember_deadlock();
                let frame = self.path.pop().expect("the loop's condition");
                self.undo(frame.entered);
            }
        }
        Ok(Verdict::Illegal)
    }

    /// Looks around at a new point, and goes on from there if that is worth while.
    fn enter(&mut self, entered: Move, state: StateId, used: UsedId) -> Result<(), Exhausted> {
        let enabled_from = self.enabled.len();
        let is_forced = self.find_enabled(entered, state)?;
        let mut next_class = 0;
        if is_forced {
            // No alternatives, of unknown outcome neither; and a point with one way out needs no memory.
            next_class = self.used.len();
        } else {
            let (front, ahead) = (self.timeline.front(), self.timeline.ahead());
            let (is_new, compared) = self.memory.visit(front, ahead, state, used).ok_or(Exhausted)?;
            self.steps += compared;
            if self.memory.bytes() > self.budget.memory_bytes {
                return Err(Exhausted);
            }
            if !is_new {
                self.enabled.truncate(enabled_from);
                self.undo(entered);
                return Ok(());
            }
        }
        self.path.push(Frame { entered, state, used, enabled_from, next_class });
        Ok(())
    }

    /// Adds to `enabled` what may come next. If one of them changes nothing, it is the only one, and forced.
    fn find_enabled(&mut self, entered: Move, state_id: StateId) -> Result<bool, Exhausted> {
        let enabled_from = self.enabled.len();
        // The state before the last operation, if that was one of unknown outcome: the last point's, still.
        let before = match entered {
            Move::Optional { .. } => self.path.last().map(|frame| self.memory.state(frame.state)),
            Move::Start | Move::Definite { .. } => None,
        };
        let state = self.memory.state(state_id);
        for rank in self.timeline.candidates() {
            let operation = &self.operations[self.timeline.operation(rank)];
            let Completion::Definite(output) = &operation.completion else { continue };
            self.steps += 1;
            let Some(next) = self.model.step(state, &operation.call, Some(output)) else { continue };
            let is_idle = self.model.is_observation(&operation.call, Some(output)) || self.model.is_final(state);
            if is_idle && next == *state {
                self.enabled.truncate(enabled_from);
                self.enabled.push((rank, next));
                return Ok(true);
            }
            if let Some(before) = before {
                self.steps += 1;
                if self.model.step(before, &operation.call, Some(output)).as_ref() == Some(&next) {
                    continue;
                }
            }
            self.enabled.push((rank, next));
        }
        if self.steps > self.budget.steps {
            return Err(Exhausted);
        }
        // They are taken from the end: the one that was answered first comes first.
        self.enabled[enabled_from..].sort_unstable_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        Ok(false)
    }

    /// The next operation of unknown outcome that is worth a try at the last point, and the state that it leaves.
    fn next_optional(&mut self) -> Result<Option<(usize, M::State)>, Exhausted> {
        let Some((frame, earlier)) = self.path.split_last_mut() else { return Ok(None) };
        let state = self.memory.state(frame.state);
        let before = match frame.entered {
            Move::Optional { .. } => earlier.last().map(|frame| self.memory.state(frame.state)),
            Move::Start | Move::Definite { .. } => None,
        };
        let limit = self.timeline.limit();
        while let Some(class) = self.timeline.classes().get(frame.next_class) {
            let number = frame.next_class;
            frame.next_class += 1;
            // The classes are in the order of their first calls: the others were not called yet.
            if class.calls[0] > limit {
                frame.next_class = self.used.len();
                break;
            }
            if class.calls.get(self.used[number]).is_none_or(|&call| call > limit) {
                continue;
            }
            let call = &self.operations[class.operations[self.used[number]]].call;
            self.steps += 1;
            if self.steps > self.budget.steps {
                return Err(Exhausted);
            }
            let Some(next) = self.model.step(state, call, None).filter(|next| next != state) else { continue };
            if before.is_none_or(|before| self.model.step(before, call, None).as_ref() != Some(&next)) {
                return Ok(Some((number, next)));
            }
        }
        Ok(None)
    }

    fn undo(&mut self, entered: Move) {
        match entered {
            Move::Start => {}
            Move::Definite { rank, front } => self.timeline.take_back(rank, front),
            Move::Optional { class } => self.used[class] -= 1,
        }
    }

    /// Notes the last point if no other one came as far.
    fn remember_deadlock(&mut self) {
        let progress = self.timeline.placed_count();
        if self.deadlock.is_known() && self.deadlock.progress() >= progress {
            return;
        }
        let shown_from = self.path.len().saturating_sub(Explanation::PLACED_MAX);
        let mut used = self.used.clone();
        let mut tail = Vec::new();
        for frame in self.path[shown_from..].iter().rev() {
            match frame.entered {
                Move::Start => {}
                Move::Definite { rank, .. } => tail.push((self.timeline.operation(rank), frame.state)),
                Move::Optional { class } => {
                    used[class] -= 1;
                    tail.push((self.timeline.classes()[class].operations[used[class]], frame.state));
                }
            }
        }
        tail.reverse();
        let stuck = self.timeline.candidates().map(|rank| self.timeline.operation(rank)).collect();
        let state = self.path.last().map_or(0, |frame| frame.state);
        // The first point placed nothing.
        let placed = self.path.len() - 1;
        self.deadlock = Deadlock::new(progress, placed, tail, state, stuck);
    }

    fn explain(&self, recorded: &[Operation<M::Call, M::Output>]) -> Explanation {
        let remaining = self.timeline.definite_count() - self.deadlock.progress();
        let shown = self.operations.iter().zip(recorded).map(|(simplified, recorded)| {
            // The call that leaves the state that is shown, and what was known of it.
            Operation { call: simplified.call.clone(), ..recorded.clone() }
        });
        let shown: Vec<_> = shown.collect();
        self.deadlock.explain(self.model, &shown, remaining, |id| self.memory.state(id))
    }
}
