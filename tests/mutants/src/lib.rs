//! Seeded bugs, to show that the checks find what they are there for.
//!
//! A *mutant* is a small patch that brings back a bug which some real implementation had: a vote that is answered
//! before it is on disk, an entry of an earlier term that is committed by counting. One file each in `raft/` and
//! `engine/`, named after what it breaks. All of them are woven into one copy of the source tree, each behind a switch,
//! so that one build holds them all and a program turns them on one at a time. `cargo sim mutants` does that, and says
//! which check killed which mutant and how soon; a mutant that survives is a hole in the checks.
//!
//! The code itself has no trace of this: no feature, no switch, nothing that a release could contain by mistake.
//!
//! # The format of a patch
//!
//! ```text
//! row: B1
//! bug: Commits an entry of an earlier term by counting replicas (§5.4.2, Figure 8).
//! --- server/raft/src/replication.rs
//! @@
//!          // cannot, and it commits everything before it.
//! -        if !self.log.matches(index, self.current_term) {
//! +        if !MUTANT && !self.log.matches(index, self.current_term) {
//!              return;
//! ```
//!
//! The head says which row of the catalogue of known bugs it is from, what is broken, and if it is not the simulator
//! that has to notice it, who has, each in a line of its own:
//!
//! | line | who |
//! |---|---|
//! | `by: simulator` | the simulator, as if there were no such line |
//! | `by: explorer SEARCH` | a search of the explorer |
//! | `by: fuzz TARGET` | a fuzz target |
//! | `by: test PACKAGE TARGET PATH` | one test of the crate `PACKAGE`; `TARGET` is one below its `tests`, or `lib` |
//!
//! A bug in how the core treats an odd message, or in a step on the way to the disk, is shown at once by a test that is
//! about just that, and by the simulator only when luck brings it about. Such a test runs in a process of its own,
//! which finds the mutant's number in an environment variable.
//!
//! Then come files and hunks as in a unified diff, without line numbers: the lines that begin with a blank or `-` must
//! stand in the file exactly once. `MUTANT` is the switch, an expression of type `bool`; with it off, the line must
//! mean what it meant. Where one guard stands behind another, a mutant takes away all of them, and says so.

mod patch;
mod tree;
mod weave;

use std::path::{Path, PathBuf};

use thiserror::Error;

pub use patch::{Hunter, Mutant, TestName};
pub use tree::{Woven, files_below, weave_tree};
pub use weave::weave;

/// The environment variable with the number of the mutant that is on in a process which turns on none by itself.
pub const MUTANT_VARIABLE: &str = "QUORATE_MUTANT";

/// Why the mutants cannot be used.
#[derive(Debug, Error)]
pub enum MutantError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A patch is not in the format.
    #[error("{mutant}: {reason}")]
    Format {
        /// Its name.
        mutant: String,
        /// What is wrong.
        reason: String,
    },
    /// A patch does not fit the code: the code has changed, and the patch has to follow.
    #[error("{mutant} does not apply to {file}: {reason}")]
    DoesNotApply {
        /// Its name.
        mutant: String,
        /// The file it is for.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The woven tree does not build.
    #[error("the woven tree does not build: {0}")]
    Build(String),
}

impl MutantError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> MutantError {
        let path = path.to_owned();
        move |source| MutantError::Io { path, source }
    }
}

/// The root of this source tree.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two folders below the root").to_owned()
}

/// All mutants, by row and name. Their places in this list, counted from 1, are the numbers of their switches.
///
/// # Errors
/// If one cannot be read, or is not in the format.
pub fn all() -> Result<Vec<Mutant>, MutantError> {
    let mut mutants = Vec::new();
    for folder in ["raft", "engine"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for file in tree::files_below(&folder)? {
            if file.extension().is_none_or(|extension| extension != "diff") {
                continue;
            }
            let text = std::fs::read_to_string(&file).map_err(MutantError::io(&file))?;
            let name = file.file_stem().map(|name| name.to_string_lossy().replace('_', " ")).unwrap_or_default();
            mutants.push(Mutant::parse(&name, &text)?);
        }
    }
    mutants.sort_by_key(|mutant| {
        let (section, number) = mutant.row.split_at(1.min(mutant.row.len()));
        (section.to_owned(), number.parse::<u32>().unwrap_or(0), mutant.name.clone())
    });
    Ok(mutants)
}
