//! A table of what was measured, and how figures are written.

use std::{fmt::Write as _, time::Duration};

/// Figures in the order in which they were measured. Each is told when it is there: a run takes minutes.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<(String, String)>,
}

impl Table {
    /// Adds a figure.
    pub(super) fn row(&mut self, name: impl Into<String>, figure: impl Into<String>) {
        let (name, figure) = (name.into(), figure.into());
        eprintln!("{name}: {figure}");
        self.rows.push((name, figure));
    }

    /// The whole table.
    pub(super) fn markdown(&self) -> String {
        let mut text = "| what | figure |\n|---|---|\n".to_owned();
        for (name, figure) in &self.rows {
            writeln!(text, "| {name} | {figure} |").expect("writing to a string cannot fail");
        }
        text
    }
}

/// Bytes as mebibytes.
pub(super) fn mebibytes(bytes: u64) -> String {
    // A figure for people: 53 bits are more than enough.
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Seconds with two digits.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// One figure for each of some nodes.
pub(super) fn each<T>(values: &[T], figure: impl Fn(&T) -> String) -> String {
    values.iter().map(figure).collect::<Vec<_>>().join(", ")
}
