//! A checker that is too slow to be wrong: it tries every order that respects real time, remembers nothing and
//! leaves nothing out.

use lincheck::{Completion, Model, Operation};

pub(crate) fn is_linearizable<M: Model>(model: &M, operations: &[Operation<M::Call, M::Output>]) -> bool {
    let open: Vec<_> =
        operations.iter().filter(|operation| !matches!(operation.completion, Completion::Failed)).collect();
    has_order(model, &model.initial(), &open)
}

fn has_order<M: Model>(model: &M, state: &M::State, open: &[&Operation<M::Call, M::Output>]) -> bool {
    let is_definite = |operation: &Operation<M::Call, M::Output>| observed(operation).is_some();
    if !open.iter().any(|operation| is_definite(operation)) {
        return true;
    }
    open.iter().enumerate().any(|(number, operation)| {
        let is_late = open.iter().any(|other| is_definite(other) && other.end < operation.begin);
        let next = if is_late { None } else { model.step(state, &operation.call, observed(operation)) };
        next.is_some_and(|next| {
            let rest: Vec<_> = [&open[..number], &open[number + 1..]].concat();
            has_order(model, &next, &rest)
        })
    })
}

fn observed<C, O>(operation: &Operation<C, O>) -> Option<&O> {
    match &operation.completion {
        Completion::Definite(output) => Some(output),
        Completion::Unknown | Completion::Failed => None,
    }
}
