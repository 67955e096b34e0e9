//! Plots as SVG, written by hand: a few shapes that read well on a light and on a dark page.

pub(crate) mod bars;
pub(crate) mod lines;
pub(crate) mod ranges;
mod rows;
mod scale;

use crate::system::System;
use std::fmt::{self, Write as _};

/// Writing to a string cannot fail.
const WRITES: &str = "writing to a string cannot fail";

/// The width of every plot, in pixels.
const WIDTH: f64 = 960.0;

/// What surrounds a plot, and the height of its title.
const MARGIN: f64 = 24.0;
const TITLE_HEIGHT: f64 = 34.0;

/// Half a line of text, below its middle.
const HALF_LINE: f64 = 4.0;

/// The width of a letter, on average: text cannot be measured here.
const LETTER_WIDTH: f64 = 6.4;

/// Colours: those of a light page, and those of a dark one. The hues differ in lightness too, for those who see no hue.
const STYLE: &str = "<style>\
    text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:12px;fill:#24292f}\
    .title{font-weight:600;font-size:15px}.panel{font-weight:600}.quiet{fill:#57606a}\
    .page{fill:#ffffff}.grid{stroke:#d8dee4;stroke-width:1}.axis{stroke:#8c959f;stroke-width:1}\
    .line{fill:none;stroke-width:2}.dashed{stroke-dasharray:5 4}\
    .echo{stroke:#8c959f;fill:#8c959f}.stream{stroke:#57606a;fill:#57606a}.etcd{stroke:#d4631a;fill:#d4631a}\
    .unary{stroke:#0f62c9;fill:#0f62c9}.pipeline{stroke:#12805c;fill:#12805c}.library{stroke:#8a4fd3;fill:#8a4fd3}\
    .line.line{fill:none}\
    @media (prefers-color-scheme:dark){\
    text{fill:#e6edf3}.quiet{fill:#9aa4af}.page{fill:#0d1117}.grid{stroke:#262c34}.axis{stroke:#6e7681}\
    .echo{stroke:#7d8590;fill:#7d8590}.stream{stroke:#b1bac4;fill:#b1bac4}.etcd{stroke:#f0883e;fill:#f0883e}\
    .unary{stroke:#58a6ff;fill:#58a6ff}.pipeline{stroke:#3fb98a;fill:#3fb98a}.library{stroke:#bc8cff;fill:#bc8cff}}\
    </style>";

/// A colour of [`STYLE`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Tint(&'static str);

impl Tint {
    /// The same for a system in every plot.
    pub(crate) fn of(system: System) -> Tint {
        Tint(match system {
            System::Echo => "echo",
            System::EchoStream => "stream",
            System::Etcd => "etcd",
            System::Quorate => "unary",
            System::Pipeline => "pipeline",
            System::Library => "library",
        })
    }
}

impl fmt::Display for Tint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Where a text stands at its point.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture as it grows.
struct Canvas {
    text: String,
}

impl Canvas {
    /// An empty page with a title.
    fn new(title: &str, height: f64) -> Canvas {
        let mut canvas = Canvas { text: String::new() };
        let size = format!("width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\"");
        let title = escape(title);
        write!(
            canvas.text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} role=\"img\" aria-label=\"{title}\">{STYLE}\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{height:.0}\" rx=\"6\"/>\n"
        )
        .expect(WRITES);
        canvas.words("title", MARGIN, MARGIN + HALF_LINE, Anchor::Start, &title);
        canvas
    }

    fn words(&mut self, class: &str, x: f64, y: f64, anchor: Anchor, words: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let words = escape(words);
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"");
        writeln!(self.text, "<text class=\"{class}\" {place}>{words}</text>").expect(WRITES);
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let ends = format!("x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"");
        writeln!(self.text, "<line class=\"{class}\" {ends}/>").expect(WRITES);
    }

    fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        writeln!(self.text, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" ")).expect(WRITES);
    }

    fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        writeln!(self.text, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>").expect(WRITES);
    }

    fn bar(&mut self, class: &str, (x, y): (f64, f64), width: f64, height: f64) {
        let place = format!("x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"");
        writeln!(self.text, "<rect class=\"{class}\" {place} rx=\"2\"/>").expect(WRITES);
    }

    fn finish(mut self) -> String {
        self.text += "</svg>\n";
        self.text
    }
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A figure as people say it: 1.2 M, 45 k, 7,600, 0.71.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{} M", short(value / 1e6)),
        size if size >= 1e4 => format!("{} k", short(value / 1e3)),
        size if size >= 1e3 => format!("{},{:03.0}", (value / 1e3).trunc(), value % 1e3),
        _ => short(value),
    }
}

/// Three significant digits at most, without zeros at the end.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
