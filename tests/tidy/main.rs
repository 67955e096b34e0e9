//! Holds the source tree to the project's own rules: what may touch what, how large things may be, and what must not be
//! written at all. What the compiler and clippy already hold is not repeated here.
//!
//! Each rule is a function over one file's text, tested on a snippet of its own below the rule.

mod boundaries;
mod budgets;
mod source;
mod words;

use source::{Finding, Source};

/// Every rule, applied to every file.
const RULES: [fn(&Source) -> Vec<Finding>; 8] = [
    boundaries::modules_touch_only_what_they_may,
    boundaries::raft_is_no_std,
    budgets::files_are_short,
    budgets::functions_are_short,
    budgets::lines_are_short,
    words::files_say_their_purpose,
    words::tokens_are_not_banned,
    words::names_say_something,
];

#[test]
fn the_tree_is_tidy() {
    let sources = source::all().expect("the source tree can be read");
    assert!(sources.len() > 50, "found only {} files: is the root right?", sources.len());
    let findings: Vec<String> =
        sources.iter().flat_map(|source| RULES.iter().flat_map(|rule| rule(source))).map(|f| f.to_string()).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}
