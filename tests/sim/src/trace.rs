//! What happened, as a hash over everything and, when asked for, as a story.

use std::fmt::Write as _;

use xxhash_rust::xxh3::Xxh3;

/// One line of a story.
#[derive(Clone, Debug)]
pub struct Line {
    /// When, in microseconds since the run began.
    pub at_us: u64,
    /// The node that it happened to, if it is one.
    pub node: Option<u64>,
    /// What kind of thing it is.
    pub kind: &'static str,
    /// What happened.
    pub text: String,
}

/// Takes in everything that happens. Two runs with equal hashes did the same.
pub(crate) struct Trace {
    hash: Xxh3,
    lines: Option<Vec<Line>>,
    scratch: String,
}

impl Trace {
    /// An empty trace, which keeps its lines if asked to.
    pub(crate) fn new(keeps_lines: bool) -> Trace {
        Trace { hash: Xxh3::new(), lines: keeps_lines.then(Vec::new), scratch: String::new() }
    }

    /// Numbers that tell this run from another one.
    pub(crate) fn mix(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash.update(&number.to_le_bytes());
        }
    }

    /// Something happened that people want to read about.
    pub(crate) fn tell(&mut self, at_us: u64, node: Option<usize>, kind: &'static str, text: std::fmt::Arguments<'_>) {
        self.scratch.clear();
        self.scratch.write_fmt(text).expect("a string takes everything");
        self.hash.update(&at_us.to_le_bytes());
        self.hash.update(self.scratch.as_bytes());
        if let Some(lines) = &mut self.lines {
            let node = node.map(|node| node as u64 + 1);
            lines.push(Line { at_us, node, kind, text: self.scratch.clone() });
        }
    }

    /// Something that only a story needs, and that is not worth its time otherwise.
    pub(crate) fn detail(&mut self, at_us: u64, node: Option<usize>, kind: &'static str, text: impl Fn() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at_us, node: node.map(|node| node as u64 + 1), kind, text: text() });
        }
    }

    /// The hash of all so far.
    pub(crate) fn digest(&self) -> u64 {
        self.hash.digest()
    }

    /// The story, if it was kept.
    pub(crate) fn into_lines(self) -> Vec<Line> {
        self.lines.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_do_not_change_the_hash() {
        let run = |keeps_lines| {
            let mut trace = Trace::new(keeps_lines);
            trace.mix(&[1, 2]);
            trace.tell(5, Some(0), "crash", format_args!("n{} stops", 1));
            trace.detail(6, None, "message", || "a heartbeat".to_owned());
            (trace.digest(), trace.into_lines().len())
        };
        assert_eq!(run(true).0, run(false).0);
        assert_eq!((run(true).1, run(false).1), (2, 0));
    }
}
