//! One of Quorate's keys: it is missing, or has a value and counts its writes since it was created.
//!
//! Revisions count the writes of a whole store, so that one key's history does not tell them. They are compared where
//! an answer shows them: each key remembers its last one once it is known, and it must rise.

use std::{fmt::Debug, hash::Hash, marker::PhantomData};

use super::unknown_writes::Values;
use crate::{Model, Operation};

/// When a put is applied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// If the key is missing.
    Create,
    /// Always.
    Upsert,
    /// If the key exists.
    Update,
    /// If the key exists and was last changed at this revision.
    Compare {
        /// The revision.
        expected: u64,
    },
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Call<V> {
    /// To set the value.
    Put {
        /// The value.
        value: V,
        /// When.
        mode: Mode,
    },
    /// The value.
    Get,
    /// To remove the key, if it exists.
    Delete {
        /// And was last changed at this revision.
        expected: Option<u64>,
    },
}

/// What it is told. What is `None` was not told, or not recorded, and fits everything.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output<V> {
    /// The value was set.
    Put {
        /// How many writes the key has had since it was created, this one included.
        version: Option<u64>,
        /// The store's revision of this write.
        revision: Option<u64>,
    },
    /// A get found the key.
    Found {
        /// Its value.
        value: V,
        /// How many writes it has had since it was created.
        version: Option<u64>,
        /// The revision of the last one.
        revision: Option<u64>,
    },
    /// The key was removed.
    Deleted {
        /// The value that it had.
        previous: Option<V>,
    },
    /// A put found that the key exists.
    Exists {
        /// The revision of its last write.
        revision: Option<u64>,
    },
    /// The key is missing.
    Missing,
    /// The key exists, and was last changed at another revision than was expected.
    Mismatch {
        /// That revision.
        actual: Option<u64>,
    },
}

/// A key that exists.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Record<V> {
    /// Its value.
    pub value: V,
    /// How many writes it has had since it was created.
    pub version: u64,
    /// The revision of the last one, once an answer showed it.
    pub revision: Option<u64>,
}

/// What a key is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State<V> {
    /// Its record, unless it is missing.
    pub record: Option<Record<V>>,
    /// The latest revision that is known of any of its writes: the record's, or one before it. What is not known was
    /// later.
    pub known_revision: u64,
}

/// A key of values `V`, missing in the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kv<V> {
    values: PhantomData<V>,
}

impl<V> Kv<V> {
    /// The model.
    pub fn new() -> Kv<V> {
        Kv { values: PhantomData }
    }
}

impl<V> Default for Kv<V> {
    fn default() -> Kv<V> {
        Kv::new()
    }
}

impl<V: Clone + Eq + Hash + Debug> Model for Kv<V> {
    type State = State<V>;
    type Call = Call<V>;
    type Output = Output<V>;

    fn initial(&self) -> State<V> {
        State { record: None, known_revision: 0 }
    }

    fn step(&self, state: &State<V>, call: &Call<V>, observed: Option<&Output<V>>) -> Option<State<V>> {
        match (call, observed) {
            (Call::Put { value, mode }, None) => state.put(value, *mode, None, None),
            (Call::Put { value, mode }, Some(&Output::Put { version, revision })) => {
                state.put(value, *mode, version, revision)
            }
            (Call::Put { mode: Mode::Create, .. }, Some(&Output::Exists { revision })) => state.at(revision),
            (Call::Put { mode: Mode::Update | Mode::Compare { .. }, .. }, Some(Output::Missing))
            | (Call::Get | Call::Delete { .. }, Some(Output::Missing)) => state.record.is_none().then(|| state.clone()),
            (Call::Put { mode: Mode::Compare { expected }, .. }, Some(&Output::Mismatch { actual }))
            | (Call::Delete { expected: Some(expected) }, Some(&Output::Mismatch { actual })) => {
                let state = state.at(actual)?;
                let revision = state.record.as_ref()?.revision;
                (revision != Some(*expected)).then_some(state)
            }
            (Call::Get, None) => Some(state.clone()),
            (Call::Get, Some(Output::Found { value, version, revision })) => {
                let state = state.at(*revision)?;
                let record = state.record.as_ref()?;
                (record.value == *value && fits(record.version, *version)).then_some(state)
            }
            (Call::Delete { expected }, None) => state.delete(*expected, None),
            (Call::Delete { expected }, Some(Output::Deleted { previous })) => {
                state.delete(*expected, previous.as_ref())
            }
            // Answers that do not belong to their call.
            (Call::Put { .. } | Call::Get | Call::Delete { .. }, Some(_)) => None,
        }
    }

    fn describe_state(&self, state: &State<V>) -> String {
        let Some(Record { value, version, revision }) = &state.record else { return "no key".to_owned() };
        let revision = revision.map_or_else(|| "unknown".to_owned(), |revision| revision.to_string());
        format!("{value:?} (version {version}, revision {revision})")
    }

    fn is_observation(&self, call: &Call<V>, observed: Option<&Output<V>>) -> bool {
        let is_refused = matches!(observed, Some(Output::Exists { .. } | Output::Missing | Output::Mismatch { .. }));
        is_refused || matches!(call, Call::Get)
    }

    fn simplify(&self, operations: &mut [Operation<Call<V>, Output<V>>]) -> Option<Self> {
        let values = Values {
            initial: None,
            written: |call| match call {
                Call::Put { value, .. } => Some(value),
                Call::Get | Call::Delete { .. } => None,
            },
            told: |_, output| match output {
                Output::Found { value, .. } | Output::Deleted { previous: Some(value) } => Some(value),
                _ => None,
            },
            compared: |_| None,
            with_value: |call, value| match call {
                Call::Put { mode, .. } => Call::Put { value, mode: *mode },
                Call::Get | Call::Delete { .. } => call.clone(),
            },
            applied: |_| Output::Put { version: None, revision: None },
        };
        values.simplify(operations);
        None
    }
}

impl<V: Clone + Eq> State<V> {
    /// The existing key, its revision being known now if it is told; nothing if it must be another one.
    fn at(&self, told: Option<u64>) -> Option<State<V>> {
        let record = self.record.as_ref()?;
        let Some(told) = told else { return Some(self.clone()) };
        let can_be = record.revision.map_or(told > self.known_revision, |revision| revision == told);
        let record = Record { revision: Some(told), ..record.clone() };
        can_be.then_some(State { record: Some(record), known_revision: told })
    }

    /// The key after a put that is applied.
    fn put(&self, value: &V, mode: Mode, told_version: Option<u64>, revision: Option<u64>) -> Option<State<V>> {
        let before = match (mode, &self.record) {
            (Mode::Create, None) | (Mode::Upsert, _) | (Mode::Update, Some(_)) => self.clone(),
            (Mode::Compare { expected }, Some(_)) => self.at(Some(expected))?,
            (Mode::Create, Some(_)) | (Mode::Update | Mode::Compare { .. }, None) => return None,
        };
        let version = self.record.as_ref().map_or(0, |record| record.version) + 1;
        let rises = revision.is_none_or(|revision| revision > before.known_revision);
        (rises && fits(version, told_version)).then(|| State {
            record: Some(Record { value: value.clone(), version, revision }),
            known_revision: revision.unwrap_or(before.known_revision),
        })
    }

    /// The key after a delete that is applied.
    fn delete(&self, expected: Option<u64>, previous: Option<&V>) -> Option<State<V>> {
        let before = self.at(expected)?;
        let is_told = previous.is_none_or(|previous| before.record.is_some_and(|record| record.value == *previous));
        is_told.then_some(State { record: None, known_revision: before.known_revision })
    }
}

/// Whether a number is what was told, if it was.
fn fits(number: u64, told: Option<u64>) -> bool {
    told.is_none_or(|told| told == number)
}
