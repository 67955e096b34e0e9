//! The script format, and what compares a script with what really happens.
//!
//! A script is a text file: a head comment that says what it shows, then blocks. A block is command lines, a line
//! `---`, and the output of these commands up to the next blank line. A line that starts with `#` is a comment.
//! README.md beside this file shows each command by example.

use std::fmt::Write as _;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use crate::commands::Session;
use crate::diff;

/// The variable that makes a run write the output it saw into the scripts: `QUORATE_GOLDEN=rewrite`.
const REWRITE_VARIABLE: &str = "QUORATE_GOLDEN";

/// What stands for the output of a block that printed nothing, so that silence is visible too.
const NOTHING: &str = "(nothing)";

/// The end of a block's commands.
const SEPARATOR: &str = "---";

/// Commands; the output that they must have is compared with the whole file.
struct Block {
    /// Everything before the separator, word for word: blank lines, comments and commands.
    input: String,
    /// The commands with the number of their line, from 1.
    commands: Vec<(usize, String)>,
}

/// The folder that holds the scripts.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/scripts")
}

/// Runs the script `name` (`theme/scenario`) and panics with a readable report if it does not hold.
pub(crate) fn check(name: &str) {
    let path = folder().join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let rewrite = std::env::var(REWRITE_VARIABLE).is_ok_and(|value| value == "rewrite");
    match run(&text) {
        Err(report) => panic!("script {name}\n{report}"),
        Ok(actual) if actual == text => {}
        Ok(actual) if rewrite => {
            fs::write(&path, actual).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        }
        Ok(actual) => panic!(
            "script {name} printed something else ('-' the script, '+' this run). If the new output is right and \
             understood, {REWRITE_VARIABLE}=rewrite writes it.\n{}",
            diff::lines(&text, &actual)
        ),
    }
}

/// The script with the output of this run. An error is what no rewriting may hide: a malformed script, a broken
/// invariant, an expectation that does not hold, a panic.
fn run(text: &str) -> Result<String, String> {
    let blocks = parse(text)?;
    let mut session = Session::default();
    let mut actual = String::with_capacity(text.len());
    for block in &blocks {
        actual.push_str(&block.input);
        actual.push_str(SEPARATOR);
        actual.push('\n');
        actual.push_str(&run_block(&mut session, block)?);
    }
    Ok(actual)
}

fn run_block(session: &mut Session, block: &Block) -> Result<String, String> {
    let mut output = String::new();
    for (line, command) in &block.commands {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| session.execute(command)));
        for printed in session.take_output() {
            output.push_str(&printed);
            output.push('\n');
        }
        let problem = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(problem)) => problem,
            Err(_) => "the core panicked; its message stands above".to_owned(),
        };
        return Err(format!("line {line}: {command}\n{problem}\nits block printed before:\n{output}"));
    }
    if output.is_empty() {
        output.push_str(NOTHING);
        output.push('\n');
    }
    Ok(output)
}

fn parse(text: &str) -> Result<Vec<Block>, String> {
    if !text.starts_with("# ") {
        return Err("a script begins with a comment that says what it shows".to_owned());
    }
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while lines.peek().is_some() {
        let mut block = Block { input: String::new(), commands: Vec::new() };
        loop {
            let Some((number, line)) = lines.next() else {
                return Err(format!("the last commands have no `{SEPARATOR}` behind them"));
            };
            if line == SEPARATOR {
                break;
            }
            writeln!(block.input, "{line}").map_err(|error| error.to_string())?;
            let command = line.trim();
            if !command.is_empty() && !command.starts_with('#') {
                block.commands.push((number + 1, command.to_owned()));
            }
        }
        while lines.next_if(|(_, line)| !line.is_empty()).is_some() {}
        blocks.push(block);
    }
    Ok(blocks)
}

/// The names (`theme/scenario`) of all scripts in the folder, sorted.
pub(crate) fn names_on_disk() -> Vec<String> {
    let mut names = Vec::new();
    for theme in entries(&folder()) {
        for file in entries(&theme) {
            let theme_name = theme.file_name().and_then(|name| name.to_str()).expect("folder names are plain text");
            let script = file.file_stem().and_then(|name| name.to_str()).expect("file names are plain text");
            names.push(format!("{theme_name}/{script}"));
        }
    }
    names.sort();
    names
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    listing.map(|entry| entry.expect("a listed entry can be read").path()).collect()
}

#[cfg(test)]
mod tests {
    use super::{parse, run};

    #[test]
    fn a_block_ends_at_a_blank_line_and_keeps_its_comments() {
        let text = "# Head.\n\ncluster nodes=1\n# why\nstatus\n---\nx\ny\n\nstatus\n---\nz\n";
        let blocks = parse(text).expect("the text is a script");
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].input, "# Head.\n\ncluster nodes=1\n# why\nstatus\n");
        assert_eq!(blocks[0].commands, [(3, "cluster nodes=1".to_owned()), (5, "status".to_owned())]);
        assert_eq!(blocks[1].input, "\nstatus\n");
    }

    #[test]
    fn a_script_needs_a_head_comment_and_a_separator() {
        assert!(parse("cluster nodes=1\n---\n").is_err());
        assert!(parse("# Head.\ncluster nodes=1\n").is_err());
    }

    #[test]
    fn an_unknown_command_is_told_with_its_line() {
        let report = run("# Head.\n\ncluster nodes=1\ndance n1\n---\n").expect_err("there is no such command");
        assert!(report.starts_with("line 4: dance n1"), "{report}");
    }

    #[test]
    fn an_expectation_that_does_not_hold_fails_the_script() {
        let report = run("# Head.\n\ncluster nodes=1\nexpect n1 term=7\n---\n").expect_err("the term is 0");
        assert!(report.contains("expected term=7, is 0"), "{report}");
    }
}
