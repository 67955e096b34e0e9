//! What clients did, in the order of their calls and answers.

use std::{collections::BTreeMap, fmt};

use crate::{Budget, Check, Explanation, Model, Verdict, check};

/// What every key's search may cost before any may cost more: most need a few steps an operation.
const EASY_STEPS: u64 = 1_000_000;

/// What is known of an operation at its end.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Completion<O> {
    /// It happened between its call and its answer, and told this. An error that says something about the state (the
    /// key exists) is such an answer.
    Definite(O),
    /// It certainly did not happen and never will, and it told nothing.
    Failed,
    /// It may take effect at any time after its call, or never.
    Unknown,
}

/// One operation on one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation<C, O> {
    /// Who asked; for people only, two operations of one process may overlap.
    pub process: u64,
    /// What was asked.
    pub call: C,
    /// What is known of it.
    pub completion: Completion<O>,
    /// When it was asked, on a clock that all clients share, in any unit.
    pub begin: u64,
    /// When the answer was there. An operation that begins at this very time counts as concurrent. Without a meaning
    /// unless the completion is definite.
    pub end: u64,
}

/// Names an operation of one [`History`] until it is completed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OperationId(usize);

/// Operations on keys, recorded as they happen ([`History::invoke`], [`History::complete`]: the order of these calls is
/// the order of events) or afterwards ([`History::push`]). A history is recorded in one of the two ways, since each has
/// its own clock.
#[derive(Clone, Debug)]
pub struct History<K, C, O> {
    operations: Vec<(K, Operation<C, O>)>,
    events: u64,
}

/// What was found out about a history of keys.
#[derive(Debug)]
pub struct Report<K> {
    /// Illegal if a key's history is, else unknown if a key's search ran out of budget.
    pub verdict: Verdict,
    /// The keys that are not in order, with the reason for those that are illegal, in the order of the keys.
    pub findings: Vec<(K, Option<Explanation>)>,
    /// Steps of the model that were spent on all keys.
    pub steps: u64,
}

impl<K: Ord + Clone, C: Clone, O: Clone> History<K, C, O> {
    /// Without operations.
    pub fn new() -> Self {
        History { operations: Vec::new(), events: 0 }
    }

    /// A process asks for something. Until it is completed, its outcome is unknown.
    pub fn invoke(&mut self, process: u64, key: K, call: C) -> OperationId {
        let begin = self.next_event();
        self.operations.push((key, Operation { process, call, completion: Completion::Unknown, begin, end: u64::MAX }));
        OperationId(self.operations.len() - 1)
    }

    /// What became of an operation of this history is known. Only the first completion of an operation counts.
    pub fn complete(&mut self, id: OperationId, completion: Completion<O>) {
        let end = self.next_event();
        let Some((_, operation)) = self.operations.get_mut(id.0) else { return };
        if operation.end == u64::MAX {
            operation.completion = completion;
            operation.end = end;
        }
    }

    /// Adds an operation with its own times.
    pub fn push(&mut self, key: K, operation: Operation<C, O>) {
        self.operations.push((key, operation));
    }

    /// The operations with their keys, in the order in which they were recorded.
    pub fn operations(&self) -> impl ExactSizeIterator<Item = &(K, Operation<C, O>)> {
        self.operations.iter()
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// How many operations have a definite answer.
    pub fn definite(&self) -> usize {
        self.operations.iter().filter(|(_, operation)| is_definite(operation)).count()
    }

    /// How many operations with a definite answer began while another one on the same key was still open. A history
    /// without any says little about concurrency.
    pub fn overlapping(&self) -> usize {
        let overlaps = |mut operations: Vec<&Operation<C, O>>| {
            operations.sort_by_key(|operation| operation.begin);
            let mut latest_end = None;
            let overlapping = operations.into_iter().filter(|operation| {
                let overlaps = latest_end.is_some_and(|end| operation.begin <= end);
                latest_end = latest_end.max(Some(operation.end));
                overlaps
            });
            overlapping.count()
        };
        self.by_key(is_definite).into_values().map(overlaps).sum()
    }

    /// Checks each key's operations alone, each from the model's initial state. Once a key is known to be illegal, keys
    /// that need more than a few steps stay undecided.
    pub fn check<M: Model<Call = C, Output = O>>(&self, model: &M, budget: Budget) -> Report<K> {
        let mut report = Report { verdict: Verdict::Ok, findings: Vec::new(), steps: 0 };
        let easy = Budget { steps: budget.steps.min(EASY_STEPS), ..budget };
        let mut hard = Vec::new();
        for (key, operations) in self.by_key(|operation| !matches!(operation.completion, Completion::Failed)) {
            let operations: Vec<_> = operations.into_iter().cloned().collect();
            if report.add(key, check(model, &operations, easy)) == Verdict::Unknown {
                hard.push((key, operations));
            }
        }
        // Among many keys one that is easily shown to be illegal decides, however hard others are.
        hard.retain(|(key, operations)| {
            report.verdict == Verdict::Illegal || report.add(key, check(model, operations, budget)) == Verdict::Unknown
        });
        if !hard.is_empty() {
            report.verdict = report.verdict.max(Verdict::Unknown);
            report.findings.extend(hard.into_iter().map(|(key, _)| (key.clone(), None)));
        }
        report.findings.sort_by(|a, b| a.0.cmp(&b.0));
        report
    }

    fn by_key(&self, wanted: impl Fn(&Operation<C, O>) -> bool) -> BTreeMap<&K, Vec<&Operation<C, O>>> {
        let mut keys: BTreeMap<&K, Vec<&Operation<C, O>>> = BTreeMap::new();
        for (key, operation) in self.operations.iter().filter(|(_, operation)| wanted(operation)) {
            keys.entry(key).or_default().push(operation);
        }
        keys
    }

    fn next_event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}

impl<K: Clone> Report<K> {
    /// Adds what was found out about a key.
    fn add(&mut self, key: &K, check: Check) -> Verdict {
        self.steps += check.steps;
        if check.verdict == Verdict::Illegal {
            self.verdict = Verdict::Illegal;
            self.findings.push((key.clone(), check.explanation));
        }
        check.verdict
    }
}

impl<K: Ord + Clone, C: Clone, O: Clone> Default for History<K, C, O> {
    fn default() -> Self {
        Self::new()
    }
}

fn is_definite<C, O>(operation: &Operation<C, O>) -> bool {
    matches!(operation.completion, Completion::Definite(_))
}

/// The findings, each with its key.
impl<K: fmt::Display> fmt::Display for Report<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, explanation) in &self.findings {
            match explanation {
                Some(explanation) => writeln!(formatter, "key {key}: {explanation}")?,
                None => writeln!(formatter, "key {key}: not decided within the budget")?,
            }
        }
        Ok(())
    }
}
