//! The files that the rules look at, and what they find.

use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A source file's text and place.
pub(crate) struct Source {
    /// Relative to the root, with `/` between folders.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl Source {
    /// A file that exists only in a test of a rule.
    #[cfg(test)]
    pub(crate) fn snippet(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// A finding on a line, counted from 1.
    pub(crate) fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }

    /// The lines with their numbers, counted from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// The lines of code: comments are cut away, and so are test modules at the end of a file.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let uncommented = |(number, line): (usize, _)| (number, without_comment(line));
        self.lines().take(self.lines_before_tests()).map(uncommented)
    }

    fn lines_before_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let begins = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        lines.windows(2).position(begins).unwrap_or(lines.len())
    }

    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Whether the whole file is a test: nothing of it is in a release.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }
}

fn without_comment(line: &str) -> &str {
    line.find("//").map_or(line, |comment| &line[..comment])
}

/// Every file that people write: sources, manifests, documents, scripts.
pub(crate) fn all() -> io::Result<Vec<Source>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    collect(&root, "", &mut sources)?;
    Ok(sources)
}

fn collect(folder: &Path, prefix: &str, sources: &mut Vec<Source>) -> io::Result<()> {
    const WRITTEN_BY_PEOPLE: [&str; 9] = ["css", "html", "js", "md", "proto", "rs", "toml", "txt", "yaml"];
    // Built, or written by programs.
    const SKIPPED: [&str; 6] = [".git", "target", "results", "quorate-data", "quorate-demo", "node_modules"];
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(&entry.path(), &format!("{path}/"), sources)?;
            }
        } else if Path::new(&name).extension().is_some_and(|e| WRITTEN_BY_PEOPLE.iter().any(|w| e == *w)) {
            sources.push(Source { text: fs::read_to_string(entry.path())?, path });
        }
    }
    Ok(())
}

#[test]
fn comments_and_test_modules_are_not_code() {
    let source = Source::snippet("a.rs", "one // two\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod more {\n}\n");
    assert_eq!(source.code().collect::<Vec<_>>(), [(1, "one "), (2, "#[cfg(test)]"), (3, "mod tests;")]);
}
