//! How large things may be, so that each can be read in one go.

use crate::source::{Finding, Source};

/// A file that is longer has more than one subject.
const FILE_LINES_MAX: usize = 500;

/// A function that is longer does not fit on a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// What rustfmt is set to; it leaves comments alone, so those are held here.
const LINE_CHARACTERS_MAX: usize = 120;

pub(crate) fn files_are_short(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    if source.is_rust() && lines > FILE_LINES_MAX {
        return vec![source.finding(lines, format!("the file has {lines} lines, {FILE_LINES_MAX} are the limit"))];
    }
    Vec::new()
}

pub(crate) fn functions_are_short(source: &Source) -> Vec<Finding> {
    if !source.is_rust() {
        return Vec::new();
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| begins_function(line));
    let long = starts.filter_map(|(start, line)| {
        // rustfmt puts the closing brace of a function that spans lines under its first word.
        let indent = &line[..line.len() - line.trim_start().len()];
        let length = lines[start..].iter().position(|line| line.strip_prefix(indent) == Some("}"))? + 1;
        let one_line = line.trim_end().ends_with(['}', ';']);
        (length > FUNCTION_LINES_MAX && !one_line).then(|| {
            source.finding(start + 1, format!("the function has {length} lines, {FUNCTION_LINES_MAX} are the limit"))
        })
    });
    long.collect()
}

fn begins_function(line: &str) -> bool {
    let mut words = line
        .trim_start()
        .split(' ')
        .skip_while(|word| word.starts_with("pub") || matches!(*word, "const" | "async" | "unsafe" | "extern" | "in"));
    words.next() == Some("fn")
}

pub(crate) fn lines_are_short(source: &Source) -> Vec<Finding> {
    if !source.is_rust() {
        return Vec::new();
    }
    let found = source.lines().filter(|(_, line)| line.chars().count() > LINE_CHARACTERS_MAX && is_prose(line));
    found.map(|(number, _)| source.finding(number, format!("longer than {LINE_CHARACTERS_MAX} characters"))).collect()
}

/// Whether a line is a comment; the row of a table cannot be broken.
fn is_prose(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") && !line.trim_start_matches(['/', '!', ' ']).starts_with('|')
}

#[test]
fn a_long_file_is_found() {
    let text = "\n".repeat(FILE_LINES_MAX);
    assert_eq!(files_are_short(&Source::snippet("a.rs", &text)).len(), 0);
    assert_eq!(files_are_short(&Source::snippet("a.rs", &format!("{text}\n"))).len(), 1);
    assert_eq!(files_are_short(&Source::snippet("a.md", &format!("{text}\n"))).len(), 0);
}

#[test]
fn a_long_function_is_found() {
    let function = |lines: usize| format!("    pub(crate) async fn f() {{\n{}    }}\n", "        g();\n".repeat(lines));
    let found = |lines| functions_are_short(&Source::snippet("a.rs", &function(lines))).len();
    assert_eq!(found(FUNCTION_LINES_MAX - 2), 0);
    assert_eq!(found(FUNCTION_LINES_MAX - 1), 1);
    let short_ones = format!("fn f() {{}}\n{}", "fn g();\n".repeat(2 * FUNCTION_LINES_MAX));
    assert_eq!(functions_are_short(&Source::snippet("a.rs", &short_ones)).len(), 0);
}

#[test]
fn a_long_line_is_found() {
    let found = |path, start: &str| {
        let line = start.to_owned() + &"x".repeat(LINE_CHARACTERS_MAX + 1 - start.len());
        let short = &line[1..];
        assert_eq!(lines_are_short(&Source::snippet(path, short)).len(), 0, "{short}");
        lines_are_short(&Source::snippet(path, &line)).len()
    };
    assert_eq!(found("a.rs", "// "), 1);
    assert_eq!(found("a.rs", "    //! "), 1);
    assert_eq!(found("a.rs", "//! | a table | "), 0);
    assert_eq!(found("a.rs", "let text = "), 0);
    assert_eq!(found("a.md", "// "), 0);
}
