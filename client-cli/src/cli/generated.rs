//! What is made out of the definition of the command line: completion scripts and manual pages.

use super::args::{Arguments, Shell};
use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::aot;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};
use std::{fs, io, path::Path};

/// The program.
const NAME: &str = "client-cli";

/// Headings in the ends of helps.
const SECTIONS: [&str; 2] = ["Examples", "Exit codes"];

/// The completion script of a shell.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    let shell = match shell {
        Shell::Bash => aot::Shell::Bash,
        Shell::Zsh => aot::Shell::Zsh,
        Shell::Fish => aot::Shell::Fish,
    };
    aot::generate(shell, &mut command, NAME, &mut script);
    if shell != aot::Shell::Bash {
        return script;
    }
    // The generator spells the hyphen of the program's name in two ways, so that no command's options would be found.
    let script = String::from_utf8(script).expect("a script is text");
    script.replace(&NAME.replace('-', "__subcmd__"), &NAME.replace('-', "__")).into_bytes()
}

/// The manual page of the whole command line.
///
/// # Errors
///
/// None that can happen: writing to memory does not fail.
pub(crate) fn manual() -> io::Result<Vec<u8>> {
    page(&definition())
}

/// Writes a manual page for the command line and one for each command into `directory`, which is made if it is missing.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn write_manual(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    write_pages(&definition(), directory)
}

/// Writes the page of a command, and those of the commands under it.
fn write_pages(command: &Command, directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(Man::new(command.clone()).get_filename());
    fs::write(&path, page(command)?).with_context(|| format!("write {}", path.display()))?;
    command.get_subcommands().try_for_each(|command| write_pages(command, directory))
}

/// The command line with all that is inherited filled in. A manual needs no command that prints help.
fn definition() -> Command {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    command
}

/// A page. The sections of the help's end are set as they are: their columns are laid out.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).source(concat!("client-cli ", env!("CARGO_PKG_VERSION"))).manual("Quorate");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(end) = command.get_after_help() {
        sections(&end.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// Turns the end of a help into sections: `Examples:` begins one whose lines are set as they are, for their columns are
/// laid out, and so does `Exit codes:`. Other lines that are not indented are paragraphs, and notes.
fn sections(end: &str) -> Roff {
    let mut roff = Roff::default();
    let (mut columns, mut notes) = (false, false);
    for line in end.lines() {
        if let Some(title) = SECTIONS.into_iter().find(|title| line.strip_suffix(':') == Some(title)) {
            roff.control("SH", [title.to_uppercase().as_str()]).control("nf", []);
            (columns, notes) = (true, false);
        } else if line.is_empty() {
            roff.control("PP", []);
        } else {
            if columns && !line.starts_with(' ') {
                roff.control("fi", []);
                columns = false;
            }
            if !columns && !notes {
                roff.control("SH", ["NOTES"]);
                notes = true;
            }
            roff.text([roman(line)]);
        }
    }
    if columns {
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_begins_a_section_and_columns_are_kept() {
        let text = sections("Examples:\n  a    b\n\nExit codes:\n  0  done\n\nFormats: one\ntwo").to_roff();
        let expected = [
            ".SH EXAMPLES\n.nf\n  a    b\n",
            ".SH \"EXIT CODES\"\n.nf\n  0  done\n.PP\n.fi\n.SH NOTES\nFormats: one\ntwo",
        ];
        for expected in expected {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
    }
}
