//! Bars from zero, with their figures: what something costs.

use super::{Anchor, Canvas, HALF_LINE, MARGIN, TITLE_HEIGHT, Tint, WIDTH, figure};

/// Panels beside each other.
const COLUMNS: usize = 2;

/// The height of a bar and of what is between two of them.
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;

/// Room for a panel's title, for the names of bars, and for the figures behind the longest one.
const TOP: f64 = 40.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 60.0;

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) tint: Tint,
    pub(crate) value: f64,
}

/// One plot of several.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// The picture.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> String {
    let width = (WIDTH - 2.0 * MARGIN) / COLUMNS as f64;
    let heights: Vec<f64> = panels
        .chunks(COLUMNS)
        .map(|row| TOP + row.iter().map(|panel| panel.bars.len()).max().unwrap_or(0) as f64 * STEP)
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
    canvas.words("panel", x, y + TOP - 14.0, Anchor::Start, &panel.title);
    let longest = panel.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    for (number, bar) in panel.bars.iter().enumerate() {
        let top = y + TOP + number as f64 * STEP;
        let length = (bar.value / longest).clamp(0.0, 1.0) * (width - LEFT - RIGHT);
        canvas.words("", x + LEFT - 8.0, top + BAR / 2.0 + HALF_LINE, Anchor::End, &bar.name);
        canvas.bar(&bar.tint.to_string(), (x + LEFT, top), length, BAR);
        canvas.words("quiet", x + LEFT + length + 6.0, top + BAR / 2.0 + HALF_LINE, Anchor::Start, &figure(bar.value));
    }
}
