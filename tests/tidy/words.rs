//! What must be written, and what must not.

use std::path::Path;

use crate::source::{Finding, Source};

pub(crate) fn files_say_their_purpose(source: &Source) -> Vec<Finding> {
    let says = source.text.lines().find(|line| !line.starts_with("#!")).is_some_and(|line| line.starts_with("//!"));
    if source.is_rust() && !says {
        return vec![source.finding(1, "the first line says what the file is for: `//! …`")];
    }
    Vec::new()
}

/// A token that must not be written.
struct Banned {
    token: &'static str,
    /// Whether tests may.
    outside_tests_only: bool,
    instead: &'static str,
}

const BANNED: [Banned; 11] = [
    Banned { token: "dbg!(", outside_tests_only: false, instead: "remove it" },
    Banned { token: "todo!(", outside_tests_only: false, instead: "build it, or refuse it with a typed error" },
    Banned {
        token: "unimplemented!(",
        outside_tests_only: false,
        instead: "build it, or refuse it with a typed error",
    },
    Banned { token: "FIXME", outside_tests_only: false, instead: "fix it" },
    Banned { token: "TODO", outside_tests_only: false, instead: "do it, or say what is missing in the documents" },
    Banned { token: "XXX", outside_tests_only: false, instead: "say what is meant" },
    Banned { token: "allow(dead_code)", outside_tests_only: false, instead: "remove what is not used" },
    Banned { token: "allow(unused", outside_tests_only: false, instead: "remove what is not used" },
    Banned { token: ".unwrap()", outside_tests_only: true, instead: "`expect` says why it cannot fail" },
    Banned { token: "#[ignore]", outside_tests_only: false, instead: "say why, and which command runs it" },
    Banned { token: "<<<<<<<", outside_tests_only: false, instead: "resolve the conflict" },
];

pub(crate) fn tokens_are_not_banned(source: &Source) -> Vec<Finding> {
    // These lines would find themselves.
    if source.path.starts_with("tests/tidy/") || !source.is_rust() {
        return Vec::new();
    }
    let all = source.lines().flat_map(|(number, line)| find(source, number, line, |banned| !banned.outside_tests_only));
    let outside = source.code().flat_map(|(number, line)| find(source, number, line, |b| b.outside_tests_only));
    if source.is_test() { all.collect() } else { all.chain(outside).collect() }
}

fn find<'a>(
    source: &'a Source,
    number: usize,
    line: &'a str,
    applies: impl Fn(&Banned) -> bool + 'a,
) -> impl Iterator<Item = Finding> + 'a {
    let hits = BANNED.iter().filter(move |banned| applies(banned) && line.contains(banned.token));
    hits.map(move |banned| source.finding(number, format!("`{}`: {}", banned.token, banned.instead)))
}

pub(crate) fn names_say_something(source: &Source) -> Vec<Finding> {
    const EMPTY_NAMES: [&str; 7] = ["utils", "util", "common", "helpers", "helper", "misc", "shared"];
    let empty = |part: &str| EMPTY_NAMES.contains(&part);
    let stem = Path::new(&source.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if source.is_rust() && (empty(stem) || source.path.split('/').any(empty)) {
        return vec![source.finding(1, "the name says nothing of what is inside")];
    }
    Vec::new()
}

#[test]
fn a_file_without_a_purpose_is_found() {
    assert_eq!(files_say_their_purpose(&Source::snippet("a.rs", "use std::io;\n")).len(), 1);
    assert_eq!(files_say_their_purpose(&Source::snippet("a.rs", "//! Reads.\n\nuse std::io;\n")).len(), 0);
    assert_eq!(files_say_their_purpose(&Source::snippet("a.toml", "[package]\n")).len(), 0);
}

#[test]
fn a_banned_token_is_found() {
    let found = |path, text| tokens_are_not_banned(&Source::snippet(path, text)).len();
    for banned in &BANNED {
        assert_eq!(found("server/src/a.rs", banned.token), 1, "{}", banned.token);
        let expected = usize::from(!banned.outside_tests_only);
        assert_eq!(found("tests/cluster/a.rs", banned.token), expected, "{}", banned.token);
    }
    assert_eq!(found("server/src/a.rs", "#[cfg(test)]\nmod tests {\nlet a = b.unwrap();"), 0);
}

#[test]
fn an_empty_name_is_found() {
    for path in ["server/src/utils.rs", "server/src/common/disk.rs"] {
        assert_eq!(names_say_something(&Source::snippet(path, "")).len(), 1, "{path}");
    }
    assert_eq!(names_say_something(&Source::snippet("server/src/disk.rs", "")).len(), 0);
}
