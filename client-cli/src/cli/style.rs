//! Colours, and whether they are shown: on a terminal, unless `NO_COLOR`, `CLICOLOR` or `TERM` say no, or where
//! `CLICOLOR_FORCE` insists. Nothing is said by colour alone.

use super::args::Format;
use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use std::io;

/// Whether one stream shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Colours(bool);

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Good,
    Doubtful,
    Bad,
    /// What to look at first.
    Strong,
}

impl Colours {
    /// No colours.
    #[cfg(test)]
    pub(crate) const OFF: Colours = Colours(false);
    /// Colours.
    #[cfg(test)]
    pub(crate) const ON: Colours = Colours(true);

    /// Those of standard output. Only the table is for people.
    pub(crate) fn of_output(format: Format) -> Colours {
        Colours(format == Format::Table && AutoStream::choice(&io::stdout()) != ColorChoice::Never)
    }

    /// Those of standard error.
    pub(crate) fn of_errors() -> Colours {
        Colours(AutoStream::choice(&io::stderr()) != ColorChoice::Never)
    }

    /// `text` in the colour of its meaning.
    pub(crate) fn paint(self, meaning: Meaning, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let style = match meaning {
            Meaning::Good => AnsiColor::Green.on_default(),
            Meaning::Doubtful => AnsiColor::Yellow.on_default(),
            Meaning::Bad => AnsiColor::Red.on_default().bold(),
            Meaning::Strong => Style::new().bold(),
        };
        format!("{style}{text}{style:#}")
    }

    /// A table with its head in bold.
    pub(crate) fn head(self, table: Vec<u8>) -> Vec<u8> {
        if !self.0 {
            return table;
        }
        let end = table.iter().position(|byte| *byte == b'\n').unwrap_or(table.len());
        let head = self.paint(Meaning::Strong, &String::from_utf8_lossy(&table[..end]));
        [head.as_bytes(), &table[end..]].concat()
    }

    /// A message whose lines begin with a word that says what they are: `error:`, `warning:`, `next:`.
    pub(crate) fn message(self, text: &str) -> String {
        let paint = |line: &str| {
            let words = [("error:", Meaning::Bad), ("warning:", Meaning::Doubtful), ("next:", Meaning::Good)];
            let begun = words.into_iter().find_map(|(word, meaning)| Some((word, meaning, line.strip_prefix(word)?)));
            match begun {
                Some((word, meaning, rest)) => format!("{}{rest}", self.paint(meaning, word)),
                None => line.to_owned(),
            }
        };
        text.split('\n').map(paint).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_nothing_changes() {
        let text = "error: x\n  y\nnext: z";
        assert_eq!(Colours::OFF.message(text), text);
        assert_eq!(Colours::OFF.head(b"A  B\n1  2\n".to_vec()), b"A  B\n1  2\n");
        assert_eq!(Colours::OFF.paint(Meaning::Good, "ok"), "ok");
    }

    #[test]
    fn colours_are_on_words_and_end_with_them() {
        assert_eq!(
            Colours::ON.message("error: x\n  error: y\nnext: z"),
            "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m x\n  error: y\n\u{1b}[32mnext:\u{1b}[0m z"
        );
        assert_eq!(Colours::ON.head(b"A  B\n1  2\n".to_vec()), b"\x1b[1mA  B\x1b[0m\n1  2\n");
    }
}
