//! What the tests of faults at length keep of themselves: a section each of one file.
//!
//! `QUORATE_FAULTS_LOG` names the file, seen from the crate's folder. Without it a section is only printed.

use std::env;
use std::fs;

/// What stands above the sections.
const HEAD: &str = "\
# Every fault at every place

What `QUORATE_FAULTS_LOG=tests/FAULTS.md cargo faults` said: the tests of faults at length, which are the ordinary tests
over larger and more logs. Each section is written by one of them. A fault is only counted if it changes a byte.
";

/// Prints a section, and puts it into the log in place of what it said before.
pub(crate) fn write_section(title: &str, text: &str) {
    let section = format!("## {title}\n\n{}\n", text.trim_end());
    eprintln!("{section}");
    let Ok(file) = env::var("QUORATE_FAULTS_LOG") else { return };
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, with_section(&before, &section)).expect("the log can be written");
}

/// Puts a section into a log, in place of the one with the same title.
fn with_section(log: &str, section: &str) -> String {
    let (title, text) = section["## ".len()..].split_once('\n').unwrap_or_default();
    let known = log.split("\n## ").skip(1).filter_map(|known| known.split_once('\n'));
    let mut sections: Vec<(&str, &str)> = known.collect();
    match sections.iter_mut().find(|(known, _)| *known == title) {
        Some(known) => known.1 = text,
        None => sections.push((title, text)),
    }
    sections.sort_unstable();
    let sections = sections.into_iter().map(|(title, text)| format!("\n## {title}\n{}\n", text.trim_end()));
    format!("{HEAD}{}", sections.collect::<String>())
}
