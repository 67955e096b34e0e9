//! Panels of named rows, as high as they have rows: what bars and ranges have in common.

use super::{Anchor, Canvas, HALF_LINE, MARGIN, TITLE_HEIGHT, WIDTH};

/// Panels beside each other.
const COLUMNS: usize = 2;

/// Room for a panel's title, and for the names of its rows.
const TOP: f64 = 40.0;
const LEFT: f64 = 150.0;

/// How far above its rows a panel's title stands, and how far before a row its name ends.
const TITLE_GAP: f64 = 14.0;
const NAME_GAP: f64 = 8.0;

/// One plot of several.
#[derive(Clone, Debug)]
pub(crate) struct Panel<R> {
    pub(crate) title: String,
    pub(crate) rows: Vec<R>,
}

/// Where the rows of a panel are: their upper edge, and from where to where they reach.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) top: f64,
    pub(super) left: f64,
    pub(super) right: f64,
}

/// The picture. A panel takes the `height` of so many rows, in pixels, and `draw_rows` draws them.
pub(super) fn draw<R>(
    title: &str,
    panels: &[Panel<R>],
    height: impl Fn(usize) -> f64,
    draw_rows: impl Fn(&mut Canvas, &[R], Place),
) -> String {
    let width = (WIDTH - 2.0 * MARGIN) / COLUMNS as f64;
    let most = |line: &[Panel<R>]| line.iter().map(|panel| panel.rows.len()).max().unwrap_or(0);
    let heights: Vec<f64> = panels.chunks(COLUMNS).map(|line| TOP + height(most(line))).collect();
    let mut canvas = Canvas::new(title, TITLE_HEIGHT + MARGIN + heights.iter().sum::<f64>());
    let mut y = TITLE_HEIGHT;
    for (line, height) in panels.chunks(COLUMNS).zip(heights) {
        for (number, panel) in line.iter().enumerate() {
            let x = MARGIN + number as f64 * width;
            canvas.words("panel", x, y + TOP - TITLE_GAP, Anchor::Start, &panel.title);
            draw_rows(&mut canvas, &panel.rows, Place { top: y + TOP, left: x + LEFT, right: x + width });
        }
        y += height;
    }
    canvas.finish()
}

impl Place {
    /// Writes the name of a row with this middle.
    pub(super) fn name(&self, canvas: &mut Canvas, middle: f64, name: &str) {
        canvas.words("", self.left - NAME_GAP, middle + HALF_LINE, Anchor::End, name);
    }
}
