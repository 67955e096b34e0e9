//! A text that is read, replaced, and appended to.

use crate::{Completion, Model, Operation};

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// The text.
    Get,
    /// Another text.
    Put(String),
    /// This text behind what is there.
    Append(String),
}

/// What it is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// A get found this.
    Text(String),
    /// It was written.
    Done,
}

/// A text, empty in the beginning.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Text {
    facts: Option<Facts>,
}

impl Text {
    /// The model.
    pub fn new() -> Text {
        Text { facts: None }
    }
}

/// What the search may know of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Facts {
    /// The texts that gets show, in order.
    shown: Vec<String>,
    /// If there are no puts, so that the text only grows, the longest of them.
    grows_to: Option<String>,
}

/// What a text is, as far as a get can tell.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// The whole text.
    Text(String),
    /// Something that no get shows, nor anything that begins so: until the next put, nobody can tell what it is.
    Unseen,
}

impl Facts {
    /// The state when this is the text.
    fn state(&self, text: String) -> State {
        // Texts that begin so are the first ones that are not less.
        let next = self.shown.partition_point(|shown| *shown < text);
        let is_seen = self.shown.get(next).is_some_and(|shown| shown.starts_with(&text));
        if is_seen { State::Text(text) } else { State::Unseen }
    }

    /// The state when a text has grown.
    fn grown(&self, before: &str, text: String) -> Option<State> {
        match &self.grows_to {
            // Behind the last get, anything may come; before it, what it does not show cannot be taken away again.
            Some(last) if before == last => Some(State::Unseen),
            Some(last) => last.starts_with(&text).then_some(State::Text(text)),
            None => Some(self.state(text)),
        }
    }
}

impl Model for Text {
    type State = State;
    type Call = Call;
    type Output = Output;

    fn initial(&self) -> State {
        State::Text(String::new())
    }

    fn step(&self, state: &State, call: &Call, observed: Option<&Output>) -> Option<State> {
        match (call, observed, state) {
            (Call::Get, None, _) => Some(state.clone()),
            (Call::Get, Some(Output::Text(shown)), State::Text(text)) => (shown == text).then(|| state.clone()),
            (Call::Put(text), None | Some(Output::Done), _) => Some(match &self.facts {
                Some(facts) => facts.state(text.clone()),
                None => State::Text(text.clone()),
            }),
            (Call::Append(text), None | Some(Output::Done), State::Text(before)) => match &self.facts {
                _ if text.is_empty() => Some(state.clone()),
                Some(facts) => facts.grown(before, format!("{before}{text}")),
                None => Some(State::Text(format!("{before}{text}"))),
            },
            (Call::Append(_), None | Some(Output::Done), State::Unseen) => Some(State::Unseen),
            (Call::Get, Some(Output::Text(_)), State::Unseen) => None,
            // Answers that do not belong to their call.
            (Call::Get, Some(Output::Done), _) | (Call::Put(_) | Call::Append(_), Some(Output::Text(_)), _) => None,
        }
    }

    fn is_final(&self, state: &State) -> bool {
        *state == State::Unseen && self.facts.as_ref().is_some_and(|facts| facts.grows_to.is_some())
    }

    fn describe_state(&self, state: &State) -> String {
        match state {
            State::Text(text) => format!("{text:?}"),
            State::Unseen => "a text that no get shows".to_owned(),
        }
    }

    fn is_observation(&self, call: &Call, _: Option<&Output>) -> bool {
        matches!(call, Call::Get)
    }

    /// What can be known of unknown writes, before any search. One whose text no get shows can be left out: nobody
    /// looked before it was replaced. One without which the first get that shows its text could not have been, happened
    /// before that get's end.
    fn simplify(&self, operations: &mut [Operation<Call, Output>]) -> Option<Text> {
        let mut shown: Vec<(u64, String)> = Vec::new();
        for operation in operations.iter() {
            if let Completion::Definite(Output::Text(text)) = &operation.completion {
                shown.push((operation.end, text.clone()));
            }
        }
        shown.sort_unstable();
        for number in 0..operations.len() {
            let (Completion::Unknown, Some(text)) = (&operations[number].completion, written(&operations[number]))
            else {
                continue;
            };
            let first = shown.iter().find(|(_, shown)| shown.contains(text));
            let completion = match first {
                // A put of nothing shows as what is missing.
                _ if text.is_empty() => Completion::Unknown,
                None => Completion::Failed,
                Some((_, shown)) => {
                    let others = operations.iter().enumerate().filter(|(other, _)| *other != number);
                    let others: Vec<&str> = others.filter_map(|(_, operation)| written(operation)).collect();
                    if is_made_of(shown, &others) { Completion::Unknown } else { Completion::Definite(Output::Done) }
                }
            };
            operations[number].end = first.map_or(u64::MAX, |(end, _)| *end);
            operations[number].completion = completion;
        }
        let has_puts = operations
            .iter()
            .any(|operation| matches!(operation.call, Call::Put(_)) && operation.completion != Completion::Failed);
        let mut shown: Vec<String> = shown.into_iter().map(|(_, text)| text).collect();
        shown.sort_unstable();
        shown.dedup();
        let longest = shown.iter().max_by_key(|text| text.len()).cloned().unwrap_or_default();
        let grows_to = (!has_puts).then_some(longest);
        Some(Text { facts: Some(Facts { shown, grows_to }) })
    }
}

/// What an operation may have written.
fn written(operation: &Operation<Call, Output>) -> Option<&str> {
    match &operation.call {
        Call::Put(text) | Call::Append(text) if operation.completion != Completion::Failed => Some(text),
        Call::Put(_) | Call::Append(_) | Call::Get => None,
    }
}

/// Whether a text can be put together of pieces, each as often as one likes.
fn is_made_of(text: &str, pieces: &[&str]) -> bool {
    let mut ends_piece = vec![false; text.len() + 1];
    ends_piece[0] = true;
    for start in 0..text.len() {
        if ends_piece[start] {
            for piece in pieces.iter().filter(|piece| text.as_bytes()[start..].starts_with(piece.as_bytes())) {
                ends_piece[start + piece.len()] = true;
            }
        }
    }
    ends_piece[text.len()]
}
