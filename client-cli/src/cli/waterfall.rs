//! A trace as people read it in a terminal: one line a span, what is within it below it, and a bar for when it was.

use super::{output::printable, style::Colours, style::Meaning};
use client_cli::{Span, SpanKind};
use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
};

/// How wide the bars are, in columns.
const BAR_COLUMNS: u64 = 32;

/// How deep spans are shown within each other; a cycle, which no sound trace has, ends here.
const DEPTH_MAX: usize = 32;

/// The spans of a trace, in the order in which they are shown.
#[derive(Debug)]
pub(crate) struct Waterfall {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    depth: usize,
    span: Span,
}

impl Waterfall {
    /// Of all spans that are known of a trace, whichever node they are from. With `within`, only those that are part of
    /// these spans, which are among them.
    pub(crate) fn new(spans: Vec<Span>, within: Option<&[Vec<u8>]>) -> Waterfall {
        let mut seen = HashSet::new();
        let spans: Vec<Span> = spans.into_iter().filter(|span| seen.insert(span.span_id.clone())).collect();
        let is_root = |span: &Span| match within {
            Some(roots) => roots.iter().any(|root| *root == span.span_id) && !seen.contains(&span.parent_span_id),
            None => !seen.contains(&span.parent_span_id),
        };
        let mut children: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
        let mut roots = Vec::new();
        for span in spans {
            if is_root(&span) {
                roots.push(span);
            } else {
                children.entry(span.parent_span_id.to_vec()).or_default().push(span);
            }
        }
        let mut waterfall = Waterfall { lines: Vec::new() };
        waterfall.add(roots, &mut children, 0, None);
        waterfall
    }

    fn add(
        &mut self,
        mut spans: Vec<Span>,
        children: &mut BTreeMap<Vec<u8>, Vec<Span>>,
        depth: usize,
        parent: Option<&Span>,
    ) {
        for span in &mut spans {
            if let Some(parent) = parent {
                fit(span, parent, children);
            }
        }
        spans.sort_by_key(|span| (span.start_time_unix_nano, u64::MAX - span.end_time_unix_nano));
        for span in spans {
            let within = children.remove(&span.span_id[..]).unwrap_or_default();
            self.lines.push(Line { depth, span: span.clone() });
            if depth < DEPTH_MAX {
                self.add(within, children, depth + 1, Some(&span));
            }
        }
    }

    /// Whether every call has the other side's part, and an entry its way to so many followers.
    pub(crate) fn is_complete(&self, followers: usize) -> bool {
        let served = |place: usize| {
            let line = &self.lines[place];
            line.span.kind() != SpanKind::Client
                || line.span.failed
                || self.lines.get(place + 1).is_some_and(|next| next.depth == line.depth + 1)
        };
        let is = |name: &'static str| move |line: &&Line| line.span.name.starts_with(name);
        let replicated = self.lines.iter().filter(is("raft.replicate ")).count();
        let is_proposed = self.lines.iter().any(|line| is("wal.fsync")(&line));
        (0..self.lines.len()).all(served) && (!is_proposed || replicated >= followers)
    }

    /// The picture, without a last line break.
    pub(crate) fn draw(&self, colours: Colours) -> String {
        let begun = self.lines.iter().map(|line| line.span.start_time_unix_nano).min().unwrap_or_default();
        let ended = self.lines.iter().map(|line| line.span.end_time_unix_nano).max().unwrap_or_default();
        let width = |of: fn(&Line) -> usize| self.lines.iter().map(of).max().unwrap_or_default();
        let node_width = width(|line| line.span.node.chars().count()).max("NODE".len());
        let name_width = width(|line| 2 * line.depth + line.span.name.chars().count()).max("SPAN".len());
        let head = format!("{:node_width$}  {:name_width$}  {:>9}", "NODE", "SPAN", "TIME");
        let mut text = colours.paint(Meaning::Strong, &head);
        for Line { depth, span } in &self.lines {
            let indent = 2 * depth;
            let name = format!("{:indent$}{}", "", printable(&span.name));
            let took = duration(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano));
            let bar = bar((begun, ended), (span.start_time_unix_nano, span.end_time_unix_nano));
            let meaning = if span.failed { Meaning::Bad } else { Meaning::Good };
            let node = printable(&span.node);
            let bar = colours.paint(meaning, &bar);
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{node:node_width$}  {name:name_width$}  {took:>9}  {bar}{}", failure(span));
        }
        text
    }
}

/// Moves what another node did to within the call that asked for it: clocks of machines differ, and by more than a call
/// takes.
fn fit(span: &mut Span, parent: &Span, children: &mut BTreeMap<Vec<u8>, Vec<Span>>) {
    let (begun, ended) = (span.start_time_unix_nano, span.end_time_unix_nano);
    let is_within = parent.start_time_unix_nano <= begun && ended <= parent.end_time_unix_nano;
    let (took, call) =
        (ended.saturating_sub(begun), parent.end_time_unix_nano.saturating_sub(parent.start_time_unix_nano));
    if span.node == parent.node || is_within || took > call {
        return;
    }
    let shift = i128::from(parent.start_time_unix_nano + (call - took) / 2) - i128::from(begun);
    move_by(span, shift, children, 0);
}

fn move_by(span: &mut Span, shift: i128, children: &mut BTreeMap<Vec<u8>, Vec<Span>>, depth: usize) {
    let moved = |time: u64| u64::try_from(i128::from(time) + shift).unwrap_or(time);
    (span.start_time_unix_nano, span.end_time_unix_nano) =
        (moved(span.start_time_unix_nano), moved(span.end_time_unix_nano));
    let Some(mut within) = children.remove(&span.span_id[..]) else { return };
    if depth < DEPTH_MAX {
        within.iter_mut().for_each(|span| move_by(span, shift, children, depth + 1));
    }
    children.insert(span.span_id.to_vec(), within);
}

/// When something was, as columns of the time of all.
fn bar((begun, ended): (u64, u64), (from, until): (u64, u64)) -> String {
    let whole = ended.saturating_sub(begun).max(1);
    let column = |time: u64| {
        let columns = u128::from(time.saturating_sub(begun)) * u128::from(BAR_COLUMNS) / u128::from(whole);
        u64::try_from(columns).unwrap_or(BAR_COLUMNS).min(BAR_COLUMNS)
    };
    let first = column(from).min(BAR_COLUMNS - 1);
    let columns = column(until).saturating_sub(first).max(1);
    let at = |count: u64| usize::try_from(count).unwrap_or_default();
    format!("{}{}", " ".repeat(at(first)), "━".repeat(at(columns)))
}

/// What became of a span that failed.
fn failure(span: &Span) -> String {
    let cause = span.attributes.get("error.type").or_else(|| span.attributes.get("outcome"));
    match (span.failed, cause) {
        (true, Some(cause)) => format!("  {}", printable(cause)),
        (true, None) => "  failed".to_owned(),
        (false, _) => String::new(),
    }
}

/// A time with three digits or so, in the unit that fits.
pub(crate) fn duration(nanos: u64) -> String {
    let micros = nanos as f64 / 1e3;
    match micros {
        ..10.0 => format!("{micros:.1} µs"),
        10.0..1_000.0 => format!("{micros:.0} µs"),
        1_000.0..10_000.0 => format!("{:.2} ms", micros / 1e3),
        10_000.0..1_000_000.0 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u8, parent: u8, node: &str, name: &str, (from, until): (u64, u64)) -> Span {
        let parent_span_id = if parent == 0 { Vec::new() } else { vec![parent; 8] };
        Span {
            span_id: vec![id; 8].into(),
            parent_span_id: parent_span_id.into(),
            name: name.to_owned(),
            start_time_unix_nano: from * 1_000,
            end_time_unix_nano: until * 1_000,
            node: node.to_owned(),
            ..Span::default()
        }
    }

    fn call(span: Span) -> Span {
        Span { kind: SpanKind::Client.into(), ..span }
    }

    #[test]
    fn what_is_within_a_span_is_below_it_in_the_order_in_which_it_began() {
        let spans = vec![
            span(4, 2, "n1", "wal.fsync", (70, 90)),
            span(3, 2, "n1", "raft.queue", (30, 40)),
            span(2, 1, "n1", "Put", (20, 95)),
            call(span(1, 0, "client", "put", (0, 100))),
            span(2, 1, "n1", "Put", (20, 95)),
        ];
        let drawn = Waterfall::new(spans, None).draw(Colours::OFF);
        let expected = [
            "NODE    SPAN                 TIME",
            "client  put                100 µs  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
            "n1        Put               75 µs        ━━━━━━━━━━━━━━━━━━━━━━━━",
            "n1          raft.queue      10 µs           ━━━",
            "n1          wal.fsync       20 µs                        ━━━━━━",
        ];
        assert_eq!(drawn, expected.join("\n"));
    }

    #[test]
    fn what_another_clock_has_placed_elsewhere_is_moved_into_its_call_with_all_that_is_within() {
        let spans = vec![
            call(span(1, 0, "n1", "call", (100, 200))),
            span(2, 1, "n2", "served", (9_000, 9_050)),
            span(3, 2, "n2", "within", (9_010, 9_020)),
        ];
        let waterfall = Waterfall::new(spans, None);
        let times: Vec<(u64, u64)> = waterfall
            .lines
            .iter()
            .map(|line| (line.span.start_time_unix_nano / 1_000, line.span.end_time_unix_nano / 1_000))
            .collect();
        assert_eq!(times, [(100, 200), (125, 175), (135, 145)]);
    }

    #[test]
    fn a_trace_is_complete_when_calls_were_served_and_all_followers_have_the_entry() {
        let put = call(span(1, 0, "client", "put", (0, 100)));
        let served = span(2, 1, "n1", "Put", (10, 90));
        let sync = span(3, 2, "n1", "wal.fsync", (20, 30));
        let sent = call(span(4, 2, "n1", "raft.replicate n2", (20, 60)));
        let append = span(5, 4, "n2", "raft.append", (30, 50));
        let mut spans = vec![put];
        for (more, is_complete) in
            [(served, [true, true]), (sync, [true, false]), (sent, [false, false]), (append, [true, true])]
        {
            spans.push(more);
            let waterfall = Waterfall::new(spans.clone(), None);
            assert_eq!([0, 1].map(|followers| waterfall.is_complete(followers)), is_complete, "{waterfall:?}");
        }
        assert!(!Waterfall::new(spans[..1].to_vec(), None).is_complete(0), "nobody served the call");
    }

    #[test]
    fn of_a_trace_that_others_joined_only_the_own_part_is_shown() {
        let spans = vec![
            span(1, 9, "client", "put", (0, 100)),
            span(2, 1, "n1", "Put", (10, 90)),
            span(3, 9, "n1", "somebody else's", (10, 90)),
        ];
        let own = Waterfall::new(spans.clone(), Some(&[vec![1; 8]]));
        assert_eq!(own.lines.len(), 2);
        assert_eq!(Waterfall::new(spans, None).lines.len(), 3);
        assert!(Waterfall::new(Vec::new(), None).lines.is_empty());
    }

    #[test]
    fn spans_that_are_part_of_each_other_end() {
        let spans = vec![span(1, 2, "n1", "a", (0, 1)), span(2, 1, "n1", "b", (0, 1)), span(3, 3, "n1", "c", (0, 1))];
        assert!(Waterfall::new(spans, None).lines.is_empty(), "none of them is the first");
    }

    #[test]
    fn a_failure_is_named_and_nothing_does_anything_to_the_terminal() {
        let mut failed = span(1, 0, "n\u{1b}1", "a\nb", (0, 1));
        failed.failed = true;
        failed.attributes.insert("error.type".to_owned(), "UNAVAILABLE".to_owned());
        let drawn = Waterfall::new(vec![failed], None).draw(Colours::OFF);
        assert!(drawn.ends_with("  UNAVAILABLE") && !drawn.contains('\u{1b}'), "{drawn:?}");
        assert_eq!(drawn.lines().count(), 2, "{drawn:?}");
    }

    #[test]
    fn times_are_short() {
        let cases =
            [(0, "0.0 µs"), (4_260, "4.3 µs"), (432_100, "432 µs"), (1_234_000, "1.23 ms"), (56_000_000, "56 ms")];
        for (nanos, expected) in cases {
            assert_eq!(duration(nanos), expected);
        }
        assert_eq!(duration(2_345_000_000), "2.35 s");
    }
}
