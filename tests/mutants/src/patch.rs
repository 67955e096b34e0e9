//! The patches as they are written.

use crate::MutantError;

/// Who has to notice a mutant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hunter {
    /// The simulator, by some invariant or by its clients' histories.
    Simulator,
    /// The exhaustive explorer of the consensus core, in one of its searches.
    Explorer(String),
    /// A fuzz target, by its name, on its corpus and mutations of that.
    Fuzz(String),
    /// A deterministic test of a crate, in a process of its own.
    Test(TestName),
}

/// Which test it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TestName {
    /// The package.
    pub package: String,
    /// What of it is built: the name of an integration test, or `lib` for the unit tests.
    pub target: String,
    /// Its path in there, as the test harness has it.
    pub path: String,
}

impl TestName {
    fn parse(text: &str) -> Option<TestName> {
        let (package, rest) = text.split_once(' ')?;
        let (target, path) = rest.split_once(' ')?;
        let [package, target, path] = [package, target, path].map(str::to_owned);
        (!path.is_empty() && !path.contains(' ')).then_some(TestName { package, target, path })
    }
}

impl Hunter {
    fn parse(text: &str) -> Option<Hunter> {
        match text.split_once(' ') {
            None if text == "simulator" => Some(Hunter::Simulator),
            Some(("explorer", search)) => Some(Hunter::Explorer(search.to_owned())),
            Some(("fuzz", target)) => Some(Hunter::Fuzz(target.to_owned())),
            Some(("test", name)) => TestName::parse(name).map(Hunter::Test),
            _ => None,
        }
    }
}

/// A seeded bug.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutant {
    /// What is broken, in a few words: the name of its file.
    pub name: String,
    /// The row of the catalogue of known bugs that it comes from.
    pub row: String,
    /// What is broken, in a sentence.
    pub bug: String,
    /// Who has to notice, each on their own.
    pub hunters: Vec<Hunter>,
    pub(crate) hunks: Vec<Hunk>,
}

/// One place in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hunk {
    /// From the root of the tree.
    pub(crate) file: String,
    pub(crate) lines: Vec<(Kind, String)>,
}

/// What a line of a hunk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Context,
    Removed,
    Added,
}

impl Mutant {
    /// Reads a patch.
    ///
    /// # Errors
    /// If it is not in the format.
    pub fn parse(name: &str, text: &str) -> Result<Mutant, MutantError> {
        let wrong = |reason: String| MutantError::Format { mutant: name.to_owned(), reason };
        let unknown = |number: usize| wrong(format!("line {number} is not known in a head"));
        let (mut row, mut bug, mut hunters) = (None, None, Vec::new());
        let mut file = None;
        let mut hunks: Vec<Hunk> = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            if let Some(path) = line.strip_prefix("--- ") {
                file = Some(path.to_owned());
            } else if line == "@@" {
                let file = file.clone().ok_or_else(|| wrong(format!("line {number}: a hunk before any file")))?;
                hunks.push(Hunk { file, lines: Vec::new() });
            } else if let Some(hunk) = hunks.last_mut() {
                let (kind, rest) = match line.split_at_checked(1) {
                    None => (Kind::Context, ""),
                    Some((" ", rest)) => (Kind::Context, rest),
                    Some(("-", rest)) => (Kind::Removed, rest),
                    Some(("+", rest)) => (Kind::Added, rest),
                    Some(_) => return Err(wrong(format!("line {number} begins with neither ` `, `-` nor `+`"))),
                };
                hunk.lines.push((kind, rest.to_owned()));
            } else {
                match line.split_once(": ") {
                    Some(("row", value)) => row = Some(value.to_owned()),
                    Some(("bug", value)) => bug = Some(value.to_owned()),
                    Some(("by", value)) => hunters.push(Hunter::parse(value).ok_or_else(|| unknown(number))?),
                    _ => return Err(unknown(number)),
                }
            }
        }
        let row = row.ok_or_else(|| wrong("no `row`".to_owned()))?;
        let bug = bug.ok_or_else(|| wrong("no `bug`".to_owned()))?;
        if hunks.iter().flat_map(|hunk| &hunk.lines).all(|(kind, _)| *kind == Kind::Context) {
            return Err(wrong("it changes nothing".to_owned()));
        }
        if hunters.is_empty() {
            hunters.push(Hunter::Simulator);
        }
        Ok(Mutant { name: name.to_owned(), row, bug, hunters, hunks })
    }

    /// The files that it changes, from the root of the tree.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.hunks.iter().map(|hunk| hunk.file.as_str())
    }
}
