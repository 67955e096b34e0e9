//! The objects that histories are made of: each is a plain implementation, apart from its model, that really runs the
//! operations and gives the answers.

use lincheck::{Completion, Model, Operation, kv, register, text};

use crate::random::Random;

pub(crate) type Performed<S> =
    Operation<<<S as Subject>::Model as Model>::Call, <<S as Subject>::Model as Model>::Output>;

pub(crate) trait Subject: Default {
    type Model: Model;

    fn model() -> Self::Model;

    /// A call; `unique` is a value that no other call of the history has.
    fn call(random: &mut Random, unique: Option<u64>) -> <Self::Model as Model>::Call;

    /// Runs a call.
    fn perform(&mut self, call: &<Self::Model as Model>::Call) -> <Self::Model as Model>::Output;

    /// Any answer that the call could have.
    fn answer(random: &mut Random, call: &<Self::Model as Model>::Call) -> <Self::Model as Model>::Output;

    /// Whether no earlier value can be read any more once this was done.
    fn overwrites(operation: &Performed<Self>) -> bool;

    /// What a read answers if it finds the value that this operation wrote; nothing if it wrote none.
    fn reading(operation: &Performed<Self>) -> Option<<Self::Model as Model>::Output>;

    /// Answers that this operation cannot have had in any history that has only small values.
    fn impossible(operation: &Performed<Self>) -> Option<<Self::Model as Model>::Output>;

    fn is_read(call: &<Self::Model as Model>::Call) -> bool {
        Self::model().is_observation(call, None)
    }
}

/// Greater than every value and number of operations of a generated history.
const NEVER_WRITTEN: u64 = 1 << 40;

/// Few values, so that histories are ambiguous.
const VALUES: u64 = 3;

#[derive(Default)]
pub(crate) struct Register(u64);

impl Subject for Register {
    type Model = register::Register<u64>;

    fn model() -> Self::Model {
        register::Register::new(0)
    }

    fn call(random: &mut Random, unique: Option<u64>) -> register::Call<u64> {
        let value = unique.unwrap_or_else(|| random.below(VALUES));
        match random.below(10) {
            0..4 => register::Call::Read,
            4..8 => register::Call::Write(value),
            // With unique values a comparison has to guess; it may.
            _ => register::Call::Cas { from: random.below(unique.map_or(VALUES, |unique| unique + 1)), to: value },
        }
    }

    fn perform(&mut self, call: &register::Call<u64>) -> register::Output<u64> {
        match *call {
            register::Call::Read => register::Output::Value(self.0),
            register::Call::Write(value) => {
                self.0 = value;
                register::Output::Written
            }
            register::Call::Cas { from, .. } if from != self.0 => register::Output::NotSwapped,
            register::Call::Cas { to, .. } => {
                self.0 = to;
                register::Output::Swapped
            }
        }
    }

    fn answer(random: &mut Random, call: &register::Call<u64>) -> register::Output<u64> {
        match call {
            register::Call::Read => register::Output::Value(random.below(VALUES)),
            register::Call::Write(_) => register::Output::Written,
            register::Call::Cas { .. } if random.percent(50) => register::Output::Swapped,
            register::Call::Cas { .. } => register::Output::NotSwapped,
        }
    }

    fn overwrites(operation: &Performed<Self>) -> bool {
        matches!(operation.completion, Completion::Definite(register::Output::Written | register::Output::Swapped))
    }

    fn reading(operation: &Performed<Self>) -> Option<register::Output<u64>> {
        match operation.call {
            register::Call::Write(value) if Self::overwrites(operation) => Some(register::Output::Value(value)),
            _ => None,
        }
    }

    fn impossible(operation: &Performed<Self>) -> Option<register::Output<u64>> {
        matches!(operation.call, register::Call::Read).then_some(register::Output::Value(NEVER_WRITTEN))
    }
}

#[derive(Default)]
pub(crate) struct Text(String);

impl Subject for Text {
    type Model = text::Text;

    fn model() -> text::Text {
        text::Text::new()
    }

    fn call(random: &mut Random, unique: Option<u64>) -> text::Call {
        // No unique text is a part of another one: what appends did would be too ambiguous for any search.
        let value = unique.map_or_else(|| random.below(VALUES).to_string(), |unique| format!("{unique:05}"));
        match random.below(10) {
            0..4 => text::Call::Get,
            4..6 => text::Call::Put(value),
            _ => text::Call::Append(format!("{value},")),
        }
    }

    fn perform(&mut self, call: &text::Call) -> text::Output {
        match call {
            text::Call::Get => return text::Output::Text(self.0.clone()),
            text::Call::Put(text) => self.0 = text.clone(),
            text::Call::Append(text) => self.0.push_str(text),
        }
        text::Output::Done
    }

    fn answer(random: &mut Random, call: &text::Call) -> text::Output {
        match call {
            text::Call::Get => text::Output::Text(random.below(VALUES).to_string()),
            text::Call::Put(_) | text::Call::Append(_) => text::Output::Done,
        }
    }

    fn overwrites(operation: &Performed<Self>) -> bool {
        matches!(operation.call, text::Call::Put(_) | text::Call::Append(_))
            && matches!(operation.completion, Completion::Definite(_))
    }

    fn reading(operation: &Performed<Self>) -> Option<text::Output> {
        match &operation.call {
            // What is appended to it has the text as its beginning, so that it is never the whole again.
            text::Call::Put(text) if Self::overwrites(operation) => Some(text::Output::Text(text.clone())),
            _ => None,
        }
    }

    fn impossible(operation: &Performed<Self>) -> Option<text::Output> {
        matches!(operation.call, text::Call::Get).then(|| text::Output::Text("never".to_owned()))
    }
}

#[derive(Default)]
pub(crate) struct Kv {
    revision: u64,
    /// Value, version and revision.
    record: Option<(u64, u64, u64)>,
}

impl Kv {
    fn put(&mut self, value: u64) -> kv::Output<u64> {
        // Other keys of the store are written as well.
        self.revision += 1 + value % 2;
        let version = self.record.map_or(1, |(_, version, _)| version + 1);
        self.record = Some((value, version, self.revision));
        kv::Output::Put { version: Some(version), revision: Some(self.revision) }
    }
}

impl Subject for Kv {
    type Model = kv::Kv<u64>;

    fn model() -> kv::Kv<u64> {
        kv::Kv::new()
    }

    fn call(random: &mut Random, unique: Option<u64>) -> kv::Call<u64> {
        let value = unique.unwrap_or_else(|| random.below(VALUES));
        let expected = 1 + random.below(4);
        let mode = match random.below(8) {
            0..3 => kv::Mode::Create,
            3..5 => kv::Mode::Upsert,
            5 => kv::Mode::Update,
            _ => kv::Mode::Compare { expected },
        };
        match random.below(12) {
            0..6 => kv::Call::Put { value, mode },
            6..9 => kv::Call::Get,
            9 => kv::Call::Delete { expected: Some(expected) },
            _ => kv::Call::Delete { expected: None },
        }
    }

    fn perform(&mut self, call: &kv::Call<u64>) -> kv::Output<u64> {
        let mismatch =
            |expected: u64, actual: u64| kv::Output::Mismatch { actual: (expected != actual).then_some(actual) };
        match (call, self.record) {
            (kv::Call::Get, Some((value, version, revision))) => {
                kv::Output::Found { value, version: Some(version), revision: Some(revision) }
            }
            (kv::Call::Put { mode: kv::Mode::Create, .. }, Some((_, _, revision))) => {
                kv::Output::Exists { revision: Some(revision) }
            }
            (kv::Call::Put { value, mode: kv::Mode::Create | kv::Mode::Upsert }, _) => self.put(*value),
            (kv::Call::Put { .. } | kv::Call::Delete { .. } | kv::Call::Get, None) => kv::Output::Missing,
            (kv::Call::Put { mode: kv::Mode::Compare { expected }, .. }, Some((_, _, actual)))
            | (kv::Call::Delete { expected: Some(expected) }, Some((_, _, actual)))
                if *expected != actual =>
            {
                mismatch(*expected, actual)
            }
            (kv::Call::Put { value, .. }, Some(_)) => self.put(*value),
            (kv::Call::Delete { .. }, Some((value, _, _))) => {
                self.revision += 1;
                self.record = None;
                kv::Output::Deleted { previous: Some(value) }
            }
        }
    }

    fn answer(random: &mut Random, call: &kv::Call<u64>) -> kv::Output<u64> {
        let number = |random: &mut Random| random.percent(50).then(|| 1 + random.below(4));
        match (call, random.below(3)) {
            (kv::Call::Get, 0) | (kv::Call::Delete { .. }, 0) => kv::Output::Missing,
            (kv::Call::Get, _) => {
                kv::Output::Found { value: random.below(VALUES), version: number(random), revision: number(random) }
            }
            (kv::Call::Delete { expected: Some(_) }, 1) => kv::Output::Mismatch { actual: number(random) },
            (kv::Call::Delete { .. }, _) => {
                kv::Output::Deleted { previous: random.percent(50).then(|| random.below(VALUES)) }
            }
            (kv::Call::Put { mode: kv::Mode::Create, .. }, 0) => kv::Output::Exists { revision: number(random) },
            (kv::Call::Put { mode: kv::Mode::Update | kv::Mode::Compare { .. }, .. }, 0) => kv::Output::Missing,
            (kv::Call::Put { mode: kv::Mode::Compare { .. }, .. }, 1) => {
                kv::Output::Mismatch { actual: number(random) }
            }
            (kv::Call::Put { .. }, _) => kv::Output::Put { version: number(random), revision: number(random) },
        }
    }

    fn overwrites(operation: &Performed<Self>) -> bool {
        matches!(operation.completion, Completion::Definite(kv::Output::Put { .. } | kv::Output::Deleted { .. }))
    }

    fn reading(operation: &Performed<Self>) -> Option<kv::Output<u64>> {
        match operation.call {
            kv::Call::Put { value, .. } if Self::overwrites(operation) => {
                Some(kv::Output::Found { value, version: None, revision: None })
            }
            _ => None,
        }
    }

    fn impossible(operation: &Performed<Self>) -> Option<kv::Output<u64>> {
        let number = Some(NEVER_WRITTEN);
        match &operation.completion {
            Completion::Definite(kv::Output::Put { revision, .. }) => {
                Some(kv::Output::Put { version: number, revision: *revision })
            }
            Completion::Definite(kv::Output::Found { version, revision, .. }) => {
                Some(kv::Output::Found { value: NEVER_WRITTEN, version: *version, revision: *revision })
            }
            Completion::Definite(kv::Output::Deleted { .. }) => Some(kv::Output::Deleted { previous: number }),
            _ => None,
        }
    }
}
