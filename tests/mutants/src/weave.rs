//! Puts hunks into the text of a file, each behind its switch.

use std::ops::Range;

use crate::MutantError;
use crate::patch::{Hunk, Kind, Mutant};

/// The switch, as patches write it.
const SWITCH: &str = "MUTANT";

/// A stretch of lines of the original and what stands there instead.
struct Change<'a> {
    mutant: &'a str,
    lines: Range<usize>,
    instead: Vec<String>,
}

/// The text of `file` with the hunks that are for it, of all mutants. `switch` gives the expression that says whether
/// the mutant of that number is on.
///
/// # Errors
/// If a hunk does not fit, or two want to replace the same line.
pub fn weave(
    file: &str,
    text: &str,
    mutants: &[Mutant],
    switch: &dyn Fn(usize) -> String,
) -> Result<String, MutantError> {
    let lines: Vec<&str> = text.lines().collect();
    let mut changes: Vec<Change<'_>> = Vec::new();
    for (mutant, number) in mutants.iter().zip(1..) {
        for hunk in mutant.hunks.iter().filter(|hunk| hunk.file == file) {
            let at = find(&lines, hunk).map_err(|reason| MutantError::DoesNotApply {
                mutant: mutant.name.clone(),
                file: file.to_owned(),
                reason,
            })?;
            changes.extend(changes_of(hunk, &mutant.name, at, &switch(number)));
        }
    }
    changes.sort_by_key(|change| (change.lines.start, change.lines.end));
    let mut woven = String::with_capacity(text.len() * 2);
    let mut next = 0;
    for Change { mutant, lines: replaced, instead } in &changes {
        if replaced.start < next {
            let reason = format!("line {} is changed by another mutant too", replaced.start + 1);
            return Err(MutantError::DoesNotApply { mutant: (*mutant).to_owned(), file: file.to_owned(), reason });
        }
        lines[next..replaced.start].iter().for_each(|line| push(&mut woven, line));
        instead.iter().for_each(|line| push(&mut woven, line));
        next = replaced.end;
    }
    lines[next..].iter().for_each(|line| push(&mut woven, line));
    Ok(woven)
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Where the lines that a hunk expects begin.
fn find(lines: &[&str], hunk: &Hunk) -> Result<usize, String> {
    let expected: Vec<&str> =
        hunk.lines.iter().filter(|(kind, _)| *kind != Kind::Added).map(|(_, line)| line.as_str()).collect();
    let mut places = lines.windows(expected.len().max(1)).enumerate().filter(|(_, window)| *window == expected);
    match (places.next(), places.next()) {
        (Some((at, _)), None) => Ok(at),
        (None, _) => Err(format!("there are no lines like this: {expected:#?}")),
        (Some((first, _)), Some((second, _))) => {
            Err(format!("its lines stand there more than once, at {} and {}: {expected:#?}", first + 1, second + 1))
        }
    }
}

/// Splits a hunk at its context: only what lies between is changed, so that hunks may share their surroundings.
fn changes_of<'a>(hunk: &Hunk, mutant: &'a str, at: usize, switch: &str) -> Vec<Change<'a>> {
    let mut changes: Vec<Change<'a>> = Vec::new();
    let mut line = at;
    let mut open = false;
    for (kind, text) in &hunk.lines {
        if *kind == Kind::Context {
            open = false;
            line += 1;
            continue;
        }
        if !open {
            changes.push(Change { mutant, lines: line..line, instead: Vec::new() });
            open = true;
        }
        let change = changes.last_mut().expect("one was opened");
        if *kind == Kind::Removed {
            line += 1;
            change.lines.end = line;
        } else {
            change.instead.push(text.replace(SWITCH, switch));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fn f() {\n    one();\n    two();\n}\n";

    fn mutant(name: &str, hunk: &str) -> Mutant {
        Mutant::parse(name, &format!("row: A1\nbug: A bug.\n--- f.rs\n@@\n{hunk}")).expect("a patch")
    }

    fn woven(mutants: &[Mutant]) -> Result<String, MutantError> {
        weave("f.rs", TEXT, mutants, &|number| format!("on({number})"))
    }

    #[test]
    fn each_mutant_gets_its_switch() {
        let first = mutant("first", " fn f() {\n-    one();\n+    if !MUTANT { one(); }\n");
        let second = mutant("second", "     one();\n+    if MUTANT { return; }\n     two();\n");
        let expected = "fn f() {\n    if !on(1) { one(); }\n    if on(2) { return; }\n    two();\n}\n";
        assert_eq!(woven(&[first, second]).expect("both fit"), expected);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let gone = mutant("gone", "-    three();\n+    if MUTANT { three(); }\n");
        assert!(woven(&[gone]).expect_err("no such line").to_string().contains("there are no lines like this"));
        let change = || mutant("change", "-    one();\n+    if MUTANT { one(); }\n");
        let twice = woven(&[change(), change()]).expect_err("one line, two mutants");
        assert!(twice.to_string().contains("changed by another mutant"), "{twice}");
        let text = "a\na\n";
        let vague = mutant("vague", "-a\n+b\n");
        let vague = weave("f.rs", text, &[vague], &|_| String::new()).expect_err("two places");
        assert!(vague.to_string().contains("more than once"), "{vague}");
    }

    #[test]
    fn patches_out_of_format_are_told() {
        for text in ["", "row: A1\nbug: A bug.\n", "row: A1\nbug: x\n@@\n+a\n", "what: 1\n", "row: A1\n--- f\n@@\n+a\n"]
        {
            assert!(matches!(Mutant::parse("wrong", text), Err(MutantError::Format { .. })), "{text:?}");
        }
    }
}
