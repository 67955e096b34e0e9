//! Quantiles on a logarithmic axis: three marks for each, joined.

use super::{Anchor, Canvas, HALF_LINE, MARGIN, TITLE_HEIGHT, Tint, WIDTH, figure, scale::Scale};

/// Panels beside each other.
const COLUMNS: usize = 2;

/// The height of a range.
const STEP: f64 = 24.0;

/// Room for a panel's title, for the names of ranges, for figures behind the longest one, and for the axis.
const TOP: f64 = 40.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 46.0;
const BOTTOM: f64 = 30.0;

/// Three quantiles, from small to large.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) name: String,
    pub(crate) tint: Tint,
    pub(crate) marks: [f64; 3],
}

/// One plot of several.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) ranges: Vec<Range>,
}

/// The picture.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> String {
    let width = (WIDTH - 2.0 * MARGIN) / COLUMNS as f64;
    let heights: Vec<f64> = panels
        .chunks(COLUMNS)
        .map(|row| TOP + BOTTOM + row.iter().map(|panel| panel.ranges.len()).max().unwrap_or(0) as f64 * STEP)
        .collect();
    let mut canvas = Canvas::new(title, TITLE_HEIGHT + MARGIN + heights.iter().sum::<f64>());
    let mut y = TITLE_HEIGHT;
    for (row, height) in panels.chunks(COLUMNS).zip(heights) {
        for (number, panel) in row.iter().enumerate() {
            draw_panel(&mut canvas, panel, (MARGIN + number as f64 * width, y), width);
        }
        y += height;
    }
    canvas.finish()
}

fn draw_panel(canvas: &mut Canvas, panel: &Panel, (x, y): (f64, f64), width: f64) {
    let (left, right) = (x + LEFT, x + width - RIGHT);
    let (top, bottom) = (y + TOP, y + TOP + panel.ranges.len() as f64 * STEP);
    let values = panel.ranges.iter().flat_map(|range| range.marks);
    let across = Scale::new(true, values, (left, right));
    canvas.words("panel", x, y + TOP - 14.0, Anchor::Start, &panel.title);
    for tick in across.ticks() {
        canvas.line("grid", (across.at(tick), top), (across.at(tick), bottom));
        canvas.words("quiet", across.at(tick), bottom + 16.0, Anchor::Middle, &figure(tick));
    }
    for (number, range) in panel.ranges.iter().enumerate() {
        let middle = top + (number as f64 + 0.5) * STEP;
        let tint = range.tint.to_string();
        let [first, second, third] = range.marks.map(|mark| (across.at(mark), middle));
        canvas.words("", left - 8.0, middle + HALF_LINE, Anchor::End, &range.name);
        canvas.path(&format!("line {tint}"), &[first, third]);
        canvas.dot(&tint, first, 6.0);
        canvas.dot(&tint, second, 4.5);
        canvas.dot(&tint, third, 3.0);
    }
}
