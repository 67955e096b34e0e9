//! Quantiles on a logarithmic axis: three marks for each, joined.

use super::{
    Anchor, Canvas, Tint, figure,
    rows::{self, Place},
    scale::Scale,
};

/// The height of a range.
const STEP: f64 = 24.0;

/// Room for figures behind the longest range, and for the axis.
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
pub(crate) type Panel = rows::Panel<Range>;

/// The picture.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> String {
    rows::draw(title, panels, |count| count as f64 * STEP + BOTTOM, draw_ranges)
}

fn draw_ranges(canvas: &mut Canvas, ranges: &[Range], place: Place) {
    let (top, bottom) = (place.top, place.top + ranges.len() as f64 * STEP);
    let values = ranges.iter().flat_map(|range| range.marks);
    let across = Scale::new(true, values, (place.left, place.right - RIGHT));
    for tick in across.ticks() {
        canvas.line("grid", (across.at(tick), top), (across.at(tick), bottom));
        canvas.words("quiet", across.at(tick), bottom + 16.0, Anchor::Middle, &figure(tick));
    }
    for (number, range) in ranges.iter().enumerate() {
        let middle = top + (number as f64 + 0.5) * STEP;
        let tint = range.tint.to_string();
        let [first, second, third] = range.marks.map(|mark| (across.at(mark), middle));
        place.name(canvas, middle, &range.name);
        canvas.path(&format!("line {tint}"), &[first, third]);
        canvas.dot(&tint, first, 6.0);
        canvas.dot(&tint, second, 4.5);
        canvas.dot(&tint, third, 3.0);
    }
}
