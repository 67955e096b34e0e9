//! What clients asked and were told, and what a store that is alone would have told them.

use std::fmt;

use engine::kv::{Applied, Rejection};
use engine::{Answer, ReadResult};
use lincheck::{Budget, History, Model, Verdict};

use crate::counter::COUNTER_SLOTS;
use crate::violation::Violation;
use crate::words;

/// A key: its slot, and how many keys this slot has had before. Histories of keys stay short that way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) slot: usize,
    pub(crate) epoch: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot.checked_sub(COUNTER_SLOTS) {
            Some(counter) => write!(formatter, "n{counter}/{}", self.epoch),
            None => write!(formatter, "k{}.{}", self.slot, self.epoch),
        }
    }
}

/// All that clients did.
pub(crate) type ClientHistory = History<Key, Call, Output>;

/// What a search of one key may cost. Real histories of a run take a few thousand steps.
const STEPS_MAX: u64 = 20_000_000;

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Call {
    /// Each value is written once.
    Put {
        value: u64,
        mode: Mode,
    },
    Delete {
        expected_revision: Option<u64>,
    },
    Get,
}

/// On what condition a put writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Mode {
    Create,
    Upsert,
    Update,
    Compare(u64),
}

/// What a client is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Output {
    Written { revision: u64, version: u64 },
    Deleted { previous: Option<(u64, u64)> },
    Found { value: u64, revision: u64, version: u64 },
    Missing,
    Exists { revision: u64 },
    Mismatch { actual: u64 },
}

impl Call {
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self, Call::Get)
    }
}

/// The number in front of a value.
fn value_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

impl Output {
    /// What an answer tells about its key, with the store's revision that it shows, if it shows one.
    pub(crate) fn of(answer: &Answer) -> Option<(Output, Option<u64>)> {
        match answer {
            Answer::Read(ReadResult { kv, revision, .. }) => {
                let output = kv.as_ref().map_or(Output::Missing, |kv| Output::Found {
                    value: value_of(&kv.value),
                    revision: kv.mod_revision.get(),
                    version: kv.version,
                });
                Some((output, Some(revision.get())))
            }
            Answer::Written(applied) => Some(match applied {
                Applied::Refused(_) | Applied::Settled(_) | Applied::Configured { .. } => return None,
                Applied::Put { revision, version } => {
                    let revision = revision.get();
                    (Output::Written { revision, version: *version }, Some(revision))
                }
                Applied::Deleted { revision, previous } => {
                    let previous = previous.as_ref().map(|kv| (value_of(&kv.value), kv.mod_revision.get()));
                    (Output::Deleted { previous }, Some(revision.get()))
                }
                Applied::Rejected(rejection) => (
                    match rejection {
                        Rejection::KeyExists { mod_revision } => Output::Exists { revision: mod_revision.get() },
                        Rejection::KeyNotFound => Output::Missing,
                        Rejection::RevisionMismatch { actual, .. } => Output::Mismatch { actual: actual.get() },
                    },
                    None,
                ),
            }),
            _ => None,
        }
    }
}

/// One key as a store that is alone would keep it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Record {
    value: u64,
    version: u64,
    /// Not known while nobody was told: the write's answer was lost.
    revision: Option<u64>,
}

/// The specification of one key.
pub(crate) struct KeySpecification;

impl Record {
    /// Whether the last write can have this revision.
    fn can_be_of(&self, revision: u64) -> bool {
        self.revision.is_none_or(|known| known == revision)
    }

    fn of_revision(&self, revision: u64) -> Record {
        Record { revision: Some(revision), ..self.clone() }
    }
}

impl Model for KeySpecification {
    type State = Option<Record>;
    type Call = Call;
    type Output = Output;

    fn initial(&self) -> Option<Record> {
        None
    }

    fn step(&self, state: &Option<Record>, call: &Call, observed: Option<&Output>) -> Option<Option<Record>> {
        match observed {
            Some(output) => observe(state, call, output),
            None => apply(state, call),
        }
    }

    fn describe(&self, call: &Call, observed: Option<&Output>) -> String {
        let told = observed.map_or_else(|| "unknown".to_owned(), words::output);
        format!("{}: {told}", words::call(call))
    }

    /// A read fits one record only, since each value is written once; that it tells the revision changes nothing then.
    fn is_observation(&self, call: &Call, _observed: Option<&Output>) -> bool {
        !call.is_write()
    }
}

/// What a write does if it takes effect, its answer not known.
fn apply(state: &Option<Record>, call: &Call) -> Option<Option<Record>> {
    match call {
        Call::Put { value, mode } => {
            let allowed = match (mode, state) {
                (Mode::Upsert, _) | (Mode::Create, None) | (Mode::Update, Some(_)) => true,
                (Mode::Compare(expected), Some(record)) => record.can_be_of(*expected),
                (Mode::Create, Some(_)) | (Mode::Update | Mode::Compare(_), None) => false,
            };
            let version = state.as_ref().map_or(1, |record| record.version + 1);
            allowed.then_some(Some(Record { value: *value, version, revision: None }))
        }
        Call::Delete { expected_revision } => {
            let record = state.as_ref()?;
            expected_revision.is_none_or(|expected| record.can_be_of(expected)).then_some(None)
        }
        Call::Get => Some(state.clone()),
    }
}

/// The state after a call that was answered like this; nothing if it cannot have been.
fn observe(state: &Option<Record>, call: &Call, output: &Output) -> Option<Option<Record>> {
    match (call, output) {
        (Call::Put { .. }, Output::Written { revision, version }) => {
            let record = apply(state, call)??;
            (record.version == *version).then_some(Some(record.of_revision(*revision)))
        }
        (Call::Put { mode: Mode::Create, .. }, Output::Exists { revision }) => {
            let record = state.as_ref().filter(|record| record.can_be_of(*revision))?;
            Some(Some(record.of_revision(*revision)))
        }
        (
            Call::Put { mode: Mode::Update | Mode::Compare(_), .. } | Call::Delete { .. } | Call::Get,
            Output::Missing,
        ) => state.is_none().then_some(None),
        (Call::Put { mode: Mode::Compare(expected), .. }, Output::Mismatch { actual })
        | (Call::Delete { expected_revision: Some(expected) }, Output::Mismatch { actual }) => {
            let record = state.as_ref().filter(|record| record.can_be_of(*actual) && actual != expected)?;
            Some(Some(record.of_revision(*actual)))
        }
        (Call::Delete { .. }, Output::Deleted { previous }) => {
            let record = state.as_ref()?;
            let same = previous.is_none_or(|(value, revision)| record.value == value && record.can_be_of(revision));
            if same { apply(state, call) } else { None }
        }
        (Call::Get, Output::Found { value, revision, version }) => {
            let record = state.as_ref()?;
            let same = record.value == *value && record.version == *version && record.can_be_of(*revision);
            same.then(|| Some(record.of_revision(*revision)))
        }
        _ => None,
    }
}

/// Whether one order of all operations explains all answers.
pub(crate) fn check(history: &ClientHistory) -> Result<(), Violation> {
    let report = history.check(&KeySpecification, Budget::steps(STEPS_MAX));
    match report.verdict {
        Verdict::Ok => Ok(()),
        Verdict::Illegal => Err(Violation::NotLinearizable { explanation: report.to_string() }),
        Verdict::Unknown => Err(Violation::Undecided { explanation: report.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lincheck::Completion::{Definite, Unknown};
    use lincheck::{Completion, Operation};

    /// Operations of (call, completion, begin, end) on one key.
    fn verdict(operations: &[(Call, Completion<Output>, u64, u64)]) -> bool {
        let mut history = ClientHistory::new();
        for (process, (call, completion, begin, end)) in operations.iter().enumerate() {
            let (call, completion) = (call.clone(), completion.clone());
            let operation = Operation { process: process as u64, call, completion, begin: *begin, end: *end };
            history.push(Key { slot: 0, epoch: 0 }, operation);
        }
        check(&history).is_ok()
    }

    fn put(value: u64, mode: Mode) -> Call {
        Call::Put { value, mode }
    }

    fn written(revision: u64, version: u64) -> Completion<Output> {
        Definite(Output::Written { revision, version })
    }

    fn found(value: u64, revision: u64, version: u64) -> Completion<Output> {
        Definite(Output::Found { value, revision, version })
    }

    #[test]
    fn a_lost_write_and_a_stale_read_are_found() {
        let first = (put(1, Mode::Create), written(2, 1), 1, 2);
        let second = (put(2, Mode::Compare(2)), written(5, 2), 3, 4);
        assert!(verdict(&[first.clone(), second.clone(), (Call::Get, found(2, 5, 2), 5, 6)]));
        assert!(!verdict(&[first.clone(), second.clone(), (Call::Get, found(1, 2, 1), 5, 6)]));
        assert!(!verdict(&[first, second, (Call::Get, Definite(Output::Missing), 5, 6)]));
    }

    #[test]
    fn a_write_in_doubt_may_have_happened_or_not_and_its_revision_is_learnt() {
        let doubt = (put(1, Mode::Upsert), Unknown, 1, 0);
        let get = |output, begin| (Call::Get, output, begin, begin + 1);
        let missing = || Definite(Output::Missing);
        assert!(verdict(&[doubt.clone(), get(missing(), 3), get(found(1, 9, 1), 5)]));
        assert!(!verdict(&[doubt.clone(), get(found(1, 9, 1), 3), get(missing(), 5)]));
        assert!(!verdict(&[doubt.clone(), get(found(1, 9, 1), 3), get(found(1, 8, 1), 5)]));
        let mismatch = Definite(Output::Mismatch { actual: 9 });
        assert!(verdict(&[doubt, (put(2, Mode::Compare(7)), mismatch, 3, 4), get(found(1, 9, 1), 5)]));
    }

    #[test]
    fn deletes_are_checked() {
        let first = (put(1, Mode::Create), written(2, 1), 1, 2);
        let delete =
            |expected_revision, output, begin| (Call::Delete { expected_revision }, Definite(output), begin, begin + 1);
        let previous = Some((1, 2));
        assert!(verdict(&[first.clone(), delete(Some(2), Output::Deleted { previous }, 3)]));
        assert!(!verdict(&[first.clone(), delete(Some(3), Output::Deleted { previous }, 3)]));
        assert!(verdict(&[first.clone(), delete(Some(3), Output::Mismatch { actual: 2 }, 3)]));
        assert!(!verdict(&[first, delete(None, Output::Missing, 3)]));
    }
}
