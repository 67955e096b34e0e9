//! What a target is, and how it is run over its corpus and mutations of it without any fuzzer.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use crate::mutation::{Random, mutate, splice};

/// How far an input got, so that tests can tell a corpus that reaches deep from one that is refused at the door.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// How many of its parts (messages, records, commands, requests) had an effect.
    pub accepted: u64,
    /// How many were refused with a typed error.
    pub refused: u64,
    /// What was reached: reasons of refusals, roles, kinds, codes.
    pub marks: BTreeSet<&'static str>,
}

impl Outcome {
    /// Adds what another input reached.
    pub fn merge(&mut self, other: Outcome) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.marks.extend(other.marks);
    }

    pub(crate) fn mark(&mut self, mark: &'static str) {
        self.marks.insert(mark);
    }

    pub(crate) fn accept(&mut self, mark: &'static str) {
        self.accepted += 1;
        self.mark(mark);
    }

    pub(crate) fn refuse(&mut self, mark: &'static str) {
        self.refused += 1;
        self.mark(mark);
    }
}

/// Something that takes arbitrary bytes and panics on a finding, and on nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its corpus as well.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]) -> Outcome,
}

/// The corpus of a target: the inputs in its folder, by the order of their names. A target without a folder has none.
///
/// # Panics
/// If the folder is there and cannot be read.
#[must_use]
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    named_corpus(target).into_iter().map(|(_, input)| input).collect()
}

/// The same, with the names of the files.
///
/// # Panics
/// If the folder is there and cannot be read.
#[must_use]
pub fn named_corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus_folder(target);
    let files = match fs::read_dir(&folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("{} cannot be read: {error}", folder.display()),
    };
    let mut corpus: Vec<(String, Vec<u8>)> = files
        .map(|file| {
            let file = file.expect("a folder of the source tree can be listed");
            let input = fs::read(file.path()).expect("a file of the source tree can be read");
            (file.file_name().to_string_lossy().into_owned(), input)
        })
        .collect();
    corpus.sort();
    corpus
}

/// Where the corpus of a target lies.
#[must_use]
pub fn corpus_folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Runs the corpus, then `runs` inputs that are made of it from `seed`. Returns how many inputs were run.
///
/// # Errors
/// What the first input that panicked said, and its bytes.
pub fn hunt(target: &Target, corpus: &[Vec<u8>], runs: u64, seed: u64) -> Result<u64, String> {
    let mut random = Random::new(seed);
    for input in corpus {
        attempt(target, input)?;
    }
    for number in 0..runs {
        attempt(target, &derive(&mut random, corpus, number))?;
    }
    Ok(corpus.len() as u64 + runs)
}

/// The next input made of a corpus: the inputs in turn, each changed a little, and some crossed with another.
#[must_use]
pub fn derive(random: &mut Random, corpus: &[Vec<u8>], number: u64) -> Vec<u8> {
    let Some(turn) = number.checked_rem(corpus.len() as u64) else {
        return mutate(random, &[]);
    };
    let input = &corpus[usize::try_from(turn).expect("below the length")];
    match random.below(8) {
        0 => {
            let other = random.below(corpus.len());
            let crossed = splice(random, input, &corpus[other]);
            mutate(random, &crossed)
        }
        _ => mutate(random, input),
    }
}

/// Runs one input.
///
/// # Errors
/// What it said when it panicked, and its bytes.
pub fn attempt(target: &Target, input: &[u8]) -> Result<Outcome, String> {
    // An input leaves nothing behind that a panic could have left half changed.
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}: {} on input {hex}", target.name, message(panic.as_ref()))
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}
